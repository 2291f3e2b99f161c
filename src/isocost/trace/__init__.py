"""Requests: a schema, readers that find it in anyone's log, and what a trace can answer."""

from isocost.trace.open import open_trace
from isocost.trace.schema import ANCHOR_NS, Chunk, Finding, Need, Outcome, Trace
from isocost.trace.shape import hour_of_week
from isocost.trace.workload import Spread, example, from_numbers

__all__ = [
    "ANCHOR_NS", "Chunk", "Finding", "Need", "Outcome", "Spread", "Trace",
    "example", "from_numbers", "hour_of_week", "open_trace",
]  # fmt: skip
