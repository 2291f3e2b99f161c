"""Requests: a schema, readers that find it in anyone's log, and what a trace can answer."""

from isocost.trace.open import open_trace
from isocost.trace.schema import Chunk, Finding, Need, Outcome, Trace

__all__ = ["Chunk", "Finding", "Need", "Outcome", "Trace", "open_trace"]
