"""Demand by hour of the week: how many requests and tokens an hour, seen how often, and the worst week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from isocost.errors import BadTrace
from isocost.trace.schema import Chunk, Outcome, Trace
from isocost.units import NS_PER_H, WEEK_H

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_MONDAY_HOURS = 3 * 24
"""1970-01-01 was a Thursday: three days into its week."""


@overload
def hour_of_week(arrival_ns: int) -> int: ...
@overload
def hour_of_week(arrival_ns: Int64) -> Int64: ...
def hour_of_week(arrival_ns: Any) -> Any:
    """Hour of the week, 0 to 167; Monday 00:00 UTC is 0.

    >>> hour_of_week(0)  # Thursday, 1970-01-01
    72
    """
    return (arrival_ns // NS_PER_H + _MONDAY_HOURS) % WEEK_H


@dataclass(frozen=True)
class Demand:
    """What was asked for, by workload and hour of the week (0: Monday 00:00 UTC).

    ``workloads`` (W,) names. Per-hour means over the weeks seen, NaN where an hour of the week was never
    seen: ``rate_per_h``, ``input_tok_per_h``, ``output_tok_per_h`` (W, 168). ``peak_rate_per_h`` (W, 168)
    is the largest hour over weeks. ``samples`` (168,) is how many times each hour was seen, a part of an
    hour (the trace's ends) as a fraction. ``hours`` is the trace's span.
    """

    workloads: tuple[str, ...]
    rate_per_h: Float64
    input_tok_per_h: Float64
    output_tok_per_h: Float64
    peak_rate_per_h: Float64
    samples: Float64
    hours: float


def demand(trace: Trace) -> Demand:
    """Fold a trace's served requests (outcome ok) into hours of the week.

    Raises:
        BadTrace: no request ended well.
    """
    names = trace.names.get("workload", (trace.title,))
    return fold(trace.chunks(), names)


def fold(chunks: Any, workloads: tuple[str, ...]) -> Demand:
    """:func:`demand` over chunks already at hand (an iterable of :class:`Chunk`, by arrival)."""
    hourly: list[tuple[int, Float64]] = []
    first: int | None = None
    last = 0
    for chunk in chunks:
        first = int(chunk.arrival_ns[0]) if first is None and len(chunk) else first
        last = int(chunk.arrival_ns[-1]) if len(chunk) else last
        found = _hours(chunk, len(workloads))
        if found is not None:
            hourly.append(found)
    if first is None or not hourly:
        raise BadTrace("no request ended well", fix="A plan needs requests to serve")
    begin, end = first // NS_PER_H, last // NS_PER_H + 1
    counts = np.zeros((3, len(workloads), end - begin))
    for start, part in hourly:
        at = start - begin
        counts[:, :, at : at + part.shape[2]] += part
    slot = (np.arange(begin, end) + _MONDAY_HOURS) % WEEK_H
    seen = np.ones(end - begin)
    seen[0] -= (first - begin * NS_PER_H) / NS_PER_H
    seen[-1] -= (end * NS_PER_H - last) / NS_PER_H
    # A span of one instant would make every rate infinite: it counts as a second.
    seen = np.maximum(seen, 1 / 3600)
    samples: Float64 = np.bincount(slot, weights=seen, minlength=WEEK_H).astype(np.float64)
    totals = np.zeros((3, len(workloads), WEEK_H))
    peak = np.zeros((len(workloads), WEEK_H))
    for w in range(len(workloads)):
        for kind in range(3):
            totals[kind, w] = np.bincount(slot, weights=counts[kind, w], minlength=WEEK_H)
        np.maximum.at(peak[w], slot, counts[0, w])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(samples > 0, totals / samples, np.nan)
    peak = np.where(samples > 0, peak, np.nan)
    return Demand(
        workloads, mean[0], mean[1], mean[2], peak, samples, max((last - first) / NS_PER_H, 1 / 3600)
    )


def _hours(chunk: Chunk, workloads: int) -> tuple[int, Float64] | None:
    """Requests, input and output of a chunk by workload and hour since 1970: (first hour, (3, W, hours))."""
    served = chunk.outcome == Outcome.OK
    if not served.any():
        return None
    hour = chunk.arrival_ns[served] // NS_PER_H
    start = int(hour[0])
    n = int(hour[-1]) - start + 1
    # A row without a workload belongs to the first: readers give every row one.
    code = np.zeros(len(hour), np.int64) if chunk.workload is None else np.maximum(chunk.workload[served], 0)
    cell = code * n + (hour - start)
    sums = [
        np.bincount(cell, weights=weights, minlength=workloads * n)
        for weights in (None, chunk.input_tok[served], chunk.output_tok[served])
    ]
    return start, np.stack(sums).reshape(3, workloads, n).astype(np.float64)
