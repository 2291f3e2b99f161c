"""What a trace looks like, and which questions its columns can answer."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.errors import BadTrace
from isocost.trace.kernels import Seen
from isocost.trace.schema import Chunk, Finding, Outcome, Trace, utc
from isocost.trace.shape import hour_of_week
from isocost.units import NS_PER_DAY, NS_PER_H, NS_PER_S, WEEK_H, span

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_EXACT = 4096
"""Values below are counted exactly; above, in bins 1/2048 of a power of two wide (0.05 %)."""
_BINS_A_DOUBLING = 2048
_MOST_GROUPS = 60
_LONGEST_S = 400 * 86_400
"""Counts by second are kept for spans up to this."""

WEEK_DAYS = 6.9
"""A span that counts as a week: a week's log, first to last request, falls a little short of 7 days."""
_F_CYCLE = 3.0
"""F ratio above which hours of the day differ: by chance in under 1 of 1,000 weeks (23 and 144 degrees)."""
_F_WEEK = 4.0
"""The same for days of the week, over two weeks of daily totals: under 1 in 20 (6 and 7 degrees)."""


class Quantiles(msgspec.Struct, frozen=True):
    """Mean and quantiles (a value of the data, within 0.05 %), in the unit of what was measured."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


class Group(msgspec.Struct, frozen=True):
    """Served requests of one workload or model. Fractions are of input tokens; ``None``: not in the log."""

    name: str
    requests: int
    input_tok: int
    output_tok: int
    input: Quantiles
    output: Quantiles
    cached_frac: float | None = None
    prefix_frac: float | None = None


class Rate(msgspec.Struct, frozen=True):
    """Served requests an hour. ``by_hour_of_week`` (168, Monday 00:00 UTC first) means; ``None``: never seen.

    ``samples`` (168): how often each hour was seen, its ends as fractions.
    """

    mean_per_h: float
    peak_per_h: float
    peak_over_mean: float
    by_hour_of_week: tuple[float | None, ...]
    samples: tuple[float, ...]


class Burst(msgspec.Struct, frozen=True):
    """How uneven arrivals are. Variance over mean of counts a second and a minute: 1 is Poisson.

    The daily cycle alone raises both over long spans; ``dispersion_s_within_h`` compares seconds with their
    own hour. ``interarrival_cv``: standard deviation over mean of the time between requests (Poisson: 1).
    """

    dispersion_s: float | None
    dispersion_min: float | None
    dispersion_s_within_h: float | None
    interarrival_cv: float | None


class Cycle(msgspec.Struct, frozen=True):
    """Whether hours of the day, and days of the week, differ beyond chance; ``None``: too short to say."""

    daily: bool | None
    weekly: bool | None
    because: str


class Reuse(msgspec.Struct, frozen=True):
    """What an endless cache would save; ``None`` where the log does not say.

    ``prefix_frac`` is the share of input tokens in prefix blocks seen before, ``repeat_frac`` the share of
    requests whose whole prompt was, ``cached_frac`` the share of input tokens billed as cached.
    """

    prefix_frac: float | None
    repeat_frac: float | None
    cached_frac: float | None


class Question(msgspec.Struct, frozen=True):
    """A question, whether this trace can answer it, and why (not)."""

    id: str
    question: str
    answered: bool
    because: str


class Profile(msgspec.Struct, frozen=True):
    """A trace in numbers: of served requests (outcome ok), except ``outcomes``, which counts all rows."""

    title: str
    digest: str
    reader: str
    clock: str
    begins: str
    ends: str
    days: float
    outcomes: dict[str, int]
    requests: int
    input_tok: int
    output_tok: int
    input: Quantiles
    output: Quantiles
    workloads: tuple[Group, ...]
    models: tuple[Group, ...]
    rate: Rate
    burst: Burst
    cycle: Cycle
    reuse: Reuse
    ttft_s: Quantiles | None
    e2e_s: Quantiles | None
    questions: tuple[Question, ...]
    findings: tuple[Finding, ...]

    def json(self) -> bytes:
        """The profile as JSON."""
        return msgspec.json.encode(self)


def profile(trace: Trace) -> Profile:
    """Fold a trace's chunks into its profile, once, in memory that does not grow with the trace.

    Raises:
        BadTrace: no request ended well.
    """
    fold = _Fold(trace)
    for chunk in trace.chunks():
        fold.feed(chunk)
    return fold.result()


class _Histogram:
    """Counts of whole numbers by group, for quantiles without keeping the numbers."""

    def __init__(self, groups: int) -> None:
        self.counts = np.zeros((groups, 0), np.int64)
        self.sums = np.zeros(groups)

    def feed(self, group: Int64, number: npt.NDArray[np.integer], requests: Int64 | None = None) -> None:
        """Add numbers; with ``requests`` each is a sum over so many, counted at its mean."""
        if not len(number):
            return
        each = number.astype(np.int64)
        cell = _bin(each if requests is None else each // np.maximum(requests, 1))
        width = max(self.counts.shape[1], int(cell.max()) + 1)
        groups = len(self.counts)
        counted = np.bincount(group * width + cell, requests, groups * width).reshape(groups, width)
        counted = counted.astype(np.int64)
        counted[:, : self.counts.shape[1]] += self.counts
        self.counts = counted
        self.sums += np.bincount(group, weights=number, minlength=groups)

    def quantiles(self, group: int | None = None, scale: float = 1.0) -> Quantiles | None:
        counts = self.counts.sum(axis=0) if group is None else self.counts[group]
        total = int(counts.sum())
        if not total:
            return None
        reached = np.cumsum(counts)
        p50, p90, p95, p99 = (
            _unbin(int(np.searchsorted(reached, max(1.0, np.ceil(q * total))))) * scale
            for q in (0.5, 0.9, 0.95, 0.99)
        )
        whole = float(self.sums.sum() if group is None else self.sums[group])
        return Quantiles(whole / total * scale, p50, p90, p95, p99)


def _bin(number: Int64) -> Int64:
    mantissa, exponent = np.frexp(number.astype(np.float64))
    high = _EXACT + (exponent - 13) * _BINS_A_DOUBLING + ((mantissa - 0.5) * 2 * _BINS_A_DOUBLING)
    return np.where(number < _EXACT, number, high).astype(np.int64)


def _unbin(cell: int) -> float:
    """The whole number in the middle of a bin."""
    if cell < _EXACT:
        return float(cell)
    exponent, step = divmod(cell - _EXACT, _BINS_A_DOUBLING)
    # The bin's middle; bins of one whole number (the first doubling has two a bin) lie within half a step
    # of it.
    return float(np.floor(np.ldexp(0.5 + (step + 0.5) / (2 * _BINS_A_DOUBLING), exponent + 13)))


def _requests(chunk: Chunk) -> Int64 | None:
    """How many requests each row of a usage report stands for; a row that does not say counts as one."""
    return None if chunk.count is None else np.where(chunk.count < 0, 1, chunk.count)


class _Groups:
    """Totals and token histograms of one naming column."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names[:_MOST_GROUPS] + (("(others)",) if len(names) > _MOST_GROUPS else ())
        n = len(self.names) + 1
        self.input, self.output = _Histogram(n), _Histogram(n)
        self.cached, self.prefix = np.zeros(n), np.zeros(n)

    def feed(self, code: Int64, chunk: Chunk, served: npt.NDArray[np.bool_], hit_tok: Int64 | None) -> None:
        group = np.where(code < 0, len(self.names), np.minimum(code, len(self.names) - 1))[served]
        requests = _requests(chunk)
        of_each = None if requests is None else requests[served]
        self.input.feed(group, chunk.input_tok[served], of_each)
        self.output.feed(group, chunk.output_tok[served], of_each)
        n = len(self.cached)
        if chunk.cached_tok is not None:
            self.cached += np.bincount(group, weights=chunk.cached_tok[served], minlength=n)
        if hit_tok is not None:
            self.prefix += np.bincount(group, weights=hit_tok[served], minlength=n)

    def result(self, has_cached: bool, has_prefix: bool) -> tuple[Group, ...]:
        found = []
        for i, name in enumerate((*self.names, "(none)")):
            inputs, outputs = self.input.quantiles(i), self.output.quantiles(i)
            if inputs is None or outputs is None:
                continue
            whole = float(self.input.sums[i])
            per = max(whole, 1.0)
            requests, output_tok = int(self.input.counts[i].sum()), round(float(self.output.sums[i]))
            cached = float(self.cached[i]) / per if has_cached else None
            prefix = float(self.prefix[i]) / per if has_prefix else None
            found.append(Group(name, requests, round(whole), output_tok, inputs, outputs, cached, prefix))
        return tuple(sorted(found, key=lambda one: -one.requests))


class _Fold:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.outcomes = np.zeros(len(Outcome), np.int64)
        self.workloads = _Groups(trace.names.get("workload", (trace.title,)))
        self.models = _Groups(trace.names.get("model", ()) or ("(none)",))
        self.seen, self.keys = Seen(), np.zeros(0, np.int64)
        self.keyed = 0
        self.ttft, self.e2e = _Histogram(1), _Histogram(1)
        self.by_second: list[tuple[int, Int64]] = []
        self.by_hour: list[tuple[int, Int64]] = []
        self.first, self.last = 0, 0
        self.steps, self.steps_sum, self.steps_square = 0, 0.0, 0.0
        self.served = 0
        self.bucket_ns = NS_PER_DAY
        self.prefix_tok = 0

    def feed(self, chunk: Chunk) -> None:
        requests = _requests(chunk)
        outcomes = np.bincount(chunk.outcome, requests, len(Outcome))[: len(Outcome)]
        self.outcomes += outcomes.astype(np.int64)
        served = chunk.outcome == Outcome.OK
        arrival_ns = chunk.arrival_ns[served]
        hit_tok = None
        if chunk.block_offsets is not None and chunk.block_ids is not None:
            hit_tok = self.seen.feed(
                chunk.block_offsets, chunk.block_ids, chunk.input_tok, self.trace.block_tok
            )
            self.prefix_tok += int(hit_tok[served].sum())
        n = len(chunk)
        none = np.zeros(n, np.int64)
        code = none if chunk.workload is None else chunk.workload.astype(np.int64)
        self.workloads.feed(code, chunk, served, hit_tok)
        code = none - 1 if chunk.model is None else chunk.model.astype(np.int64)
        self.models.feed(code, chunk, served, hit_tok)
        if chunk.prompt_key is not None:
            keys = chunk.prompt_key[served & (chunk.prompt_key >= 0)]
            self.keyed += len(keys)
            self.keys = np.union1d(self.keys, keys)
        for histogram, times in ((self.ttft, chunk.ttft_s), (self.e2e, chunk.e2e_s)):
            if times is not None:
                micro = np.rint(times[served & np.isfinite(times)] * 1e6).astype(np.int64)
                histogram.feed(np.zeros(len(micro), np.int64), micro)
        if len(arrival_ns):
            self._arrivals(arrival_ns, None if requests is None else requests[served])

    def _arrivals(self, arrival_ns: Int64, requests: Int64 | None) -> None:
        if not self.by_hour:
            self.first = self.last = int(arrival_ns[0])
            steps = np.diff(arrival_ns)
        else:
            steps = np.diff(arrival_ns, prepend=self.last)
        steps_s = steps / NS_PER_S
        self.steps += len(steps)
        self.steps_sum += float(steps_s.sum())
        self.steps_square += float(steps_s @ steps_s)
        self.last = int(arrival_ns[-1])
        self.by_hour.append(_counts(arrival_ns, NS_PER_H, requests))
        if requests is not None:
            self.served += int(requests.sum())
            apart = steps[steps > 0]
            self.bucket_ns = min(self.bucket_ns, int(apart.min())) if len(apart) else self.bucket_ns
            return
        self.served += len(arrival_ns)
        self.by_second.append(_counts(arrival_ns, NS_PER_S))

    def result(self) -> Profile:
        trace = self.trace
        inputs, outputs = self.workloads.input.quantiles(), self.workloads.output.quantiles()
        if inputs is None or outputs is None:
            raise BadTrace("no request ended well", where=trace.title, fix="A plan needs requests to serve")
        if trace.aggregated:
            # The last bucket lasts as long as the others do.
            self.last += self.bucket_ns
        days = (self.last - self.first) / NS_PER_DAY
        hourly = _join(self.by_hour, self.first // NS_PER_H, self.last // NS_PER_H + 1)
        hours = self.bucket_ns // NS_PER_H if trace.aggregated else 1
        if hours > 1:
            # Of a bucket of several hours only the sum is known: its requests are taken as spread evenly.
            hourly = np.rint(np.convolve(hourly, np.full(hours, 1 / hours))[: len(hourly)]).astype(np.int64)
        rate = self._rate(hourly)
        cycle = _cycle(hourly, days)
        if hours > 1:
            cycle = Cycle(None, None, f"a usage report of {hours}-hour buckets has no shape within the day")
        has_cached, has_prefix = "cached_tok" in trace.columns, "block_ids" in trace.columns
        input_tok = round(float(self.workloads.input.sums.sum()))
        reuse = Reuse(
            self.prefix_tok / max(input_tok, 1) if has_prefix else None,
            1 - len(self.keys) / self.keyed if self.keyed else None,
            float(self.workloads.cached.sum()) / max(input_tok, 1) if has_cached else None,
        )
        models = self.models.result(has_cached, has_prefix) if "model" in trace.columns else ()
        return Profile(
            title=trace.title, digest=trace.digest, reader=trace.reader, clock=trace.clock,
            begins=_when(self.first, trace), ends=_when(self.last, trace), days=days,
            outcomes={one.name.lower(): int(self.outcomes[one]) for one in Outcome if self.outcomes[one]},
            requests=self.served, input_tok=input_tok,
            output_tok=round(float(self.workloads.output.sums.sum())), input=inputs, output=outputs,
            workloads=self.workloads.result(has_cached, has_prefix), models=models,
            rate=rate, burst=self._burst(), cycle=cycle, reuse=reuse,
            ttft_s=self.ttft.quantiles(scale=1e-6), e2e_s=self.e2e.quantiles(scale=1e-6),
            questions=questions(trace, days), findings=trace.findings,
        )  # fmt: skip

    def _rate(self, hourly: Int64) -> Rate:
        begin = self.first // NS_PER_H
        slot = hour_of_week((begin + np.arange(len(hourly))) * NS_PER_H)
        seen = np.ones(len(hourly))
        seen[0] -= (self.first - begin * NS_PER_H) / NS_PER_H
        seen[-1] -= ((begin + len(hourly)) * NS_PER_H - self.last) / NS_PER_H
        seen = np.maximum(seen, 1 / 3600)
        samples = np.bincount(slot, weights=seen, minlength=WEEK_H)
        totals = np.bincount(slot, weights=hourly, minlength=WEEK_H)
        by_hour = tuple(
            float(total / sample) if sample > 0 else None
            for total, sample in zip(totals, samples, strict=True)
        )
        mean = self.served / max((self.last - self.first) / NS_PER_H, 1 / 3600)
        # Of a trace under an hour the busiest hour is the trace itself.
        peak = float(hourly.max()) if len(hourly) > 2 else max(mean, float(hourly.max()))
        return Rate(mean, peak, peak / mean, by_hour, tuple(float(one) for one in samples))

    def _burst(self) -> Burst:
        if self.trace.aggregated:
            return Burst(None, None, None, None)
        cv = None
        if self.steps > 1 and self.steps_sum > 0:
            mean = self.steps_sum / self.steps
            cv = float(np.sqrt(max(0.0, self.steps_square / self.steps - mean * mean)) / mean)
        span_s = self.last // NS_PER_S - self.first // NS_PER_S + 1
        if span_s > _LONGEST_S or span_s < 10:
            return Burst(None, None, None, cv)
        counts = _join(self.by_second, self.first // NS_PER_S, self.last // NS_PER_S + 1).astype(np.float64)
        minutes = counts[: len(counts) // 60 * 60].reshape(-1, 60).sum(axis=1)
        length = min(3600, len(counts))
        hours = counts[: len(counts) // length * length].reshape(-1, length)
        mean_h = hours.mean(axis=1)
        within = float(hours.var(axis=1).sum() / mean_h.sum()) if mean_h.sum() > 0 else None
        return Burst(_dispersion(counts), _dispersion(minutes), within, cv)


def _counts(arrival_ns: Int64, unit_ns: int, requests: Int64 | None = None) -> tuple[int, Int64]:
    """Requests by unit of time: (first unit since 1970, counts); a row may stand for several requests."""
    unit = arrival_ns // unit_ns
    start = int(unit[0])
    return start, np.bincount(unit - start, requests).astype(np.int64)


def _join(parts: list[tuple[int, Int64]], begin: int, end: int) -> Int64:
    joined = np.zeros(end - begin, np.int64)
    for start, counts in parts:
        joined[start - begin : start - begin + len(counts)] += counts
    return joined


def _dispersion(counts: Float64) -> float | None:
    return float(counts.var() / counts.mean()) if len(counts) > 1 and counts.mean() > 0 else None


def _f_ratio(values: Float64, group: Int64, groups: int) -> float:
    """Mean square between groups over mean square within them (one-way analysis of variance)."""
    n = np.bincount(group, minlength=groups)
    mean = np.bincount(group, weights=values, minlength=groups) / np.maximum(n, 1)
    between = float((n * (mean - values.mean()) ** 2).sum()) / (groups - 1)
    within = float(((values - mean[group]) ** 2).sum()) / max(1, len(values) - groups)
    return between / within if within > 0 else (np.inf if between > 0 else 0.0)


def _cycle(hourly: Int64, days: float) -> Cycle:
    """Look for daily and weekly cycles in hourly counts, without the first and last hour (partly seen)."""
    if days < WEEK_DAYS:
        return Cycle(
            None, None, f"{days:.1f} days are under a week: neither a daily nor a weekly shape can be told"
        )
    whole = hourly[1:-1].astype(np.float64)
    at = np.arange(len(whole))
    daily_f = _f_ratio(whole, at % 24, 24)
    daily = daily_f > _F_CYCLE
    said = (
        f"hours of the day differ (F {daily_f:.1f})"
        if daily
        else f"hours of the day do not differ (F {daily_f:.1f})"
    )
    n_days = len(whole) // 24
    if n_days < 2 * 7 - 1:
        return Cycle(daily, None, f"{said}; under two weeks, so days of the week are seen once")
    totals = whole[: n_days * 24].reshape(n_days, 24).sum(axis=1)
    weekly_f = _f_ratio(totals, np.arange(n_days) % 7, 7)
    weekly = weekly_f > _F_WEEK
    return Cycle(
        daily,
        weekly,
        f"{said}; days of the week {'differ' if weekly else 'do not differ'} (F {weekly_f:.1f})",
    )


def _when(arrival_ns: int, trace: Trace) -> str:
    if trace.clock == "relative":
        return ""
    return utc(arrival_ns).isoformat(timespec="seconds")


class _Asked(NamedTuple):
    ident: str
    question: str
    columns: tuple[str, ...]
    lacking: str


_ASKED = (
    _Asked("baseline", "What does it cost today, by model?", ("model",), "name today's model with --now"),
    _Asked("bill", "Does the provider's bill agree?", ("billed_usd",), "the log has no cost of its own"),
    _Asked("latency", "How fast is it today?", ("ttft_s", "e2e_s"), "no time to first token or to the end"),
    _Asked("exact_cache", "What would an exact cache save?", ("prompt_key",), "no hash of the prompt"),
    _Asked("prefix_cache", "What would a prefix cache save?", ("block_ids",), "no hashes of prefix blocks"),
    _Asked("billed_cache", "How much input was billed as cached?", ("cached_tok",), "no cached token counts"),
    _Asked("batch", "What may wait for a batch?", ("deadline_s",), "no deadlines; slo.toml can state them"),
    _Asked("tenant", "What does each customer cost?", ("tenant",), "no customer, team or user"),
    _Asked("session", "Would sticky routing help?", ("session",), "no session or conversation"),
    _Asked("reasoning", "How much output is reasoning?", ("reasoning_tok",), "no reasoning token counts"),
    _Asked("needs", "Which requests need tools or schemas?", ("needs",), "not logged; slo.toml can state it"),
)


def questions(trace: Trace, days: float) -> tuple[Question, ...]:
    """Which questions a trace of these columns and ``days`` can answer, and what is missing for the rest."""
    found = []
    for asked in _ASKED:
        held = [name for name in asked.columns if name in trace.columns]
        because = f"column {', '.join(held)}" if held else asked.lacking
        found.append(Question(asked.ident, asked.question, bool(held), because))
    dated = trace.clock == "utc"
    found.append(Question(
        "dates", "Which prices held when each call was made?", dated,
        "times are UTC" if dated else "the clock is relative: today's prices stand for all",
    ))  # fmt: skip
    weeks = days >= WEEK_DAYS
    found.append(Question(
        "commitments", "Which hours of the week justify a commitment?", weeks,
        span(days) + ("" if weeks else ": under a week, so the shape is assumed, not seen"),
    ))  # fmt: skip
    return tuple(found)
