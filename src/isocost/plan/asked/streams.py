"""From requests to streams: traffic of one workload on one of today's models, by hour of the week.

The week is the planning period: 168 hours, Monday 00:00 UTC first, each standing for
``HOURS_PER_MONTH / 168`` hours of an average month. A schedule by hour of the week is readable and
runs on any later trace. Where a trace is shorter than a week, a stated shape fills the week.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.errors import BadTrace
from isocost.trace.schema import Chunk, Need, Outcome, Trace
from isocost.trace.shape import hour_of_week
from isocost.units import NS_PER_H, NS_PER_S, WEEK_H

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

DEMAND = (Outcome.OK, Outcome.CANCELLED, Outcome.CACHED)
"""Calls that would be made again. Failed calls and repeats that failed again are no demand, though they
may be billed today; duplicates are neither."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Mean quantities per hour, by hour of the week; every array is (168,).

    ``input_tok`` are uncached tokens; the three input meters sum to all input.
    """

    requests: Floats
    input_tok: Floats
    cached_tok: Floats
    cache_write_tok: Floats
    output_tok: Floats

    @property
    def all_input_tok(self) -> Floats:
        """All input: uncached, read and written."""
        return self.input_tok + self.cached_tok + self.cache_write_tok

    def moved(self, served: Floats) -> Usage:
        """The same total, spread over the hours as ``served`` (168,), work over the mean hour's, says."""
        return Usage(
            float(self.requests.mean()) * served,
            float(self.input_tok.mean()) * served,
            float(self.cached_tok.mean()) * served,
            float(self.cache_write_tok.mean()) * served,
            float(self.output_tok.mean()) * served,
        )

    def scaled(self, keep: Floats | float) -> Usage:
        """Each hour times ``keep``."""
        return Usage(
            self.requests * keep,
            self.input_tok * keep,
            self.cached_tok * keep,
            self.cache_write_tok * keep,
            self.output_tok * keep,
        )


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one workload that go to one model today.

    ``rows`` index the trace's table (demand only); ``usage`` is what they used by hour of the
    week; ``peak`` is the busiest sample of each hour over its mean (>= 1). ``max_input_tok`` is the
    longest prompt, ``max_output_tok`` what the longest request, prompt and answer, has beyond that.
    """

    workload: str
    model: str
    provider: str
    rows: Rows
    usage: Usage
    peak: Floats
    input_p95_tok: float
    max_input_tok: int
    max_output_tok: int
    needs: Need
    deadline_s: float | None
    ttft_p95_s: float | None
    e2e_p95_s: float | None

    @property
    def id(self) -> str:
        """``workload:model``, or ``workload:provider/model`` where the log says who answered: unique."""
        model = f"{self.provider}/{self.model}" if self.provider else self.model
        return f"{self.workload}:{model}"


@dataclass(frozen=True, slots=True)
class Week:
    """How a trace covers the week: hours sampled (168,), span, and the shape that filled it."""

    sampled_h: Floats
    span_s: float
    shape: Floats | None
    shape_name: str

    @property
    def short(self) -> bool:
        """Whether the trace is shorter than a week, so that the week was filled by a shape."""
        return self.shape is not None


def sampled_hours(first_ns: int, last_ns: int) -> Floats:
    """How many hours of each hour of the week lie between two instants: (168,)."""
    first_h, last_h = first_ns // NS_PER_H, last_ns // NS_PER_H
    hours = np.arange(first_h, last_h + 1)
    length = np.ones(len(hours))
    length[0] -= (first_ns - first_h * NS_PER_H) / NS_PER_H
    length[-1] -= ((last_h + 1) * NS_PER_H - last_ns) / NS_PER_H
    of_week = hour_of_week(hours * NS_PER_H)
    return np.asarray(np.bincount(of_week, weights=length, minlength=WEEK_H), dtype=np.float64)


def week_of(table: Chunk, shape: Floats | None, shape_name: str) -> Week:
    """The week that a trace covers; ``shape`` (168, mean 1) is used where it is shorter than one.

    Raises:
        BadTrace: all requests arrive at one instant.
    """
    first, last = int(table.arrival_ns[0]), int(table.arrival_ns[-1])
    if last <= first:
        raise BadTrace(
            "all requests arrive at one instant, so no rate is known"
            if len(table) > 1
            else "one request has no rate",
            fix="Give times, or plan from numbers: isocost plan --requests 200k/mo --in 1500 --out 500",
        )
    sampled = sampled_hours(first, last)
    span_s = (last - first) / NS_PER_S
    whole = bool(sampled.min() > 0.5)
    return Week(sampled, span_s, None if whole else shape, "" if whole else shape_name)


def per_hour(how: npt.NDArray[np.int64], weights: npt.NDArray[np.generic] | None, week: Week) -> Floats:
    """Mean quantity per hour of the week: (168,).

    With a whole week, total of each hour over the hours sampled. With a shape s, the level L that
    makes the sampled hours' total right, ``L = total / sum(s * sampled)``, times s.
    """
    total = np.bincount(
        how, weights=None if weights is None else weights.astype(np.float64), minlength=WEEK_H
    )
    if week.shape is None:
        return np.asarray(total / week.sampled_h, dtype=np.float64)
    level = total.sum() / float(week.shape @ week.sampled_h)
    return np.asarray(level * week.shape, dtype=np.float64)


def peak_over_mean(arrival_ns: npt.NDArray[np.int64], how: npt.NDArray[np.int64], week: Week) -> Floats:
    """The busiest sample of each hour of the week over its mean: (168,), at least 1."""
    if week.short:
        return np.ones(WEEK_H)
    hour = arrival_ns // NS_PER_H
    counts = np.bincount(hour - hour.min())
    of_week = hour_of_week((np.arange(len(counts)) + hour.min()) * NS_PER_H)
    busiest = np.zeros(WEEK_H)
    np.maximum.at(busiest, of_week, counts)
    mean = np.bincount(how, minlength=WEEK_H) / week.sampled_h
    return np.asarray(np.maximum(1.0, busiest / np.where(mean > 0, mean, 1.0)))


def usage_of(
    table: Chunk,
    rows: Rows,
    week: Week,
    read_tok: npt.NDArray[np.int64] | None = None,
    write_tok: npt.NDArray[np.int64] | None = None,
) -> Usage:
    """What rows of a table used, by hour of the week, with these cache reads and writes (``None``: none)."""
    how = hour_of_week(table.arrival_ns[rows])
    zero = np.zeros(len(rows), np.int64)
    read = zero if read_tok is None else read_tok
    write = zero if write_tok is None else write_tok
    return Usage(
        per_hour(how, None, week),
        per_hour(how, table.input_tok[rows] - read - write, week),
        per_hour(how, read, week),
        per_hour(how, write, week),
        per_hour(how, table.output_tok[rows], week),
    )


def billed(column: npt.NDArray[np.int32] | None, rows: Rows) -> npt.NDArray[np.int64] | None:
    """Rows of an optional token column as int64; ``None`` where the log has none."""
    return None if column is None else column[rows].astype(np.int64)


def streams_of(trace: Trace, table: Chunk, week: Week, now: str = "") -> tuple[Stream, ...]:
    """Split a trace into streams, largest first.

    ``now`` names today's model where the log has none (or overrides it).

    Raises:
        BadTrace: the log names no model and ``now`` is empty.
    """
    if not now and table.model is None:
        raise BadTrace(
            "the log does not say which model answered",
            where=trace.title,
            fix="Say it: isocost plan LOG --now openai/gpt-4.1",
        )
    demand = np.isin(table.outcome, [int(outcome) for outcome in DEMAND])
    count = len(table)
    none = np.full(count, -1, np.int32)
    workload = none if table.workload is None else table.workload
    model = none if now or table.model is None else table.model
    provider = none if now or table.provider is None else table.provider
    key = ((workload + 1).astype(np.int64) << 40) | ((model + 1).astype(np.int64) << 20) | (provider + 1)
    key[~demand] = -1
    order = np.argsort(key, kind="stable")
    groups = np.flatnonzero(np.diff(key[order], prepend=-2))
    found: list[Stream] = []
    for start, stop in zip(groups, [*groups[1:], count], strict=True):
        rows = np.sort(order[start:stop])
        if key[rows[0]] < 0:
            continue
        first = rows[0]
        found.append(
            _stream(
                table,
                rows,
                week,
                _name(trace, "workload", int(workload[first]), "all"),
                now or _name(trace, "model", int(model[first]), ""),
                _name(trace, "provider", int(provider[first]), ""),
            )
        )
    return tuple(sorted(found, key=lambda stream: -len(stream.rows)))


def _name(trace: Trace, column: str, code: int, missing: str) -> str:
    return trace.names[column][code] if code >= 0 else missing


def _stream(table: Chunk, rows: Rows, week: Week, workload: str, model: str, provider: str) -> Stream:
    arrival = table.arrival_ns[rows]
    how = hour_of_week(arrival)
    longest = int((table.input_tok[rows].astype(np.int64) + table.output_tok[rows]).max())
    needs = Need.NONE if table.needs is None else Need(int(np.bitwise_or.reduce(table.needs[rows])))
    deadline: float | None = None
    if table.deadline_s is not None and not np.isnan(table.deadline_s[rows]).any():
        deadline = float(table.deadline_s[rows].min())
    return Stream(
        workload,
        model,
        provider,
        rows,
        usage_of(table, rows, week, billed(table.cached_tok, rows), billed(table.cache_write_tok, rows)),
        peak_over_mean(arrival, how, week),
        float(np.percentile(table.input_tok[rows], 95)),
        int(table.input_tok[rows].max()),
        longest - int(table.input_tok[rows].max()),
        needs,
        deadline,
        _p95(table.ttft_s, rows),
        _p95(table.e2e_s, rows),
    )


def _p95(column: npt.NDArray[np.float32] | None, rows: Rows) -> float | None:
    if column is None:
        return None
    known = column[rows]
    known = known[~np.isnan(known)]
    return float(np.percentile(known, 95)) if len(known) else None
