"""How much load a replica group takes within its latency limits: the replay, bisected over load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits, BadTrace
from isocost.replay.queue import BatchLimits, Served, Terms, serve

I64 = NDArray[np.int64]

TURNOVERS = 4
"""How often a replica must refill its whole batch in the sample, else a passing burst looks like capacity."""
LIGHTEST_FRAC = 1.0 / 4096.0
"""The lightest load tried, as a part of what the work alone would allow."""
LONGEST_PS = 2**61
"""The longest replay tried: 26 days."""
NEVER_PS = 2**62
CROWD, MIDDLE = 4.0, 0.9
"""How much more than replicas can do is offered to see what they sustain, and up to which of its ends."""


class Capacity(NamedTuple):
    """The highest load that holds the limits, and what is seen there.

    ``requests_per_s`` over all replicas, 0 if none; ``scale`` by which the sample's time was
    compressed; the percentile of TTFT and of TPOT in ps, -1 if no load holds; ``utilisation`` busy
    time of the replicas over the length of the replay.
    """

    requests_per_s: float
    scale: float
    ttft_ps: int
    tpot_ps: int
    utilisation: float


class Sample(NamedTuple):
    """Requests from time zero, sorted, and the time after which the pattern would repeat."""

    arrival_ps: I64
    input_tok: I64
    output_tok: I64
    cached_tok: I64
    span_ps: float


class Limits(NamedTuple):
    """What must hold: a percentile (0 to 100) of TTFT and of TPOT, in ps."""

    ttft_ps: float
    tpot_ps: float
    percentile: float


def capacity(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    terms: Terms,
    limits: BatchLimits,
    n_replicas: int,
    *,
    ttft_limit_ps: float,
    tpot_limit_ps: float,
    percentile: float,
    cached_tok: ArrayLike | None = None,
    tol_frac: float = 0.02,
) -> Capacity:
    """The highest load at which ``percentile`` (0 to 100) of TTFT and of TPOT hold, by replay with JSQ.

    The load is the sample with its time divided by ``scale``: the same order, sizes and burstiness.
    TPOT is (e2e - ttft) / (output - 1), over requests with more than one output token. A request that
    does not fit the cache counts as one that never ends. A sample with fewer requests than refill
    every batch ``TURNOVERS`` times is tiled: it is repeated, each copy offset by the sample's span
    (its last arrival plus one mean gap), because a group that never fills up shows no capacity. No
    warm-up is left out; a sample that is short against the time a request stays overstates capacity.

    Bisection on the logarithm of load, to within ``tol_frac``, between a load that holds and a higher
    one that does not: where the measured percentile is not monotone in load it is its crossing from
    below that is found, and every run finds the same. No load counts that only piles up: where the limits
    hold at what the work alone would allow, it is what replicas finish when they are never idle that is
    found. Returns load 0 where even the lightest fails
    (1/4096 of what the work alone would allow, or what 26 days can hold). Raises ``BadTrace`` where
    there is no pattern (fewer than two arrival times), ``BadLimits`` for limits that cannot be.
    """
    if not (0.0 <= percentile <= 100.0 and ttft_limit_ps > 0 and tpot_limit_ps > 0 and tol_frac > 0):
        raise BadLimits("latency limits and tolerance must be positive, the percentile 0 to 100")
    if n_replicas < 1:
        raise BadLimits("at least one replica is needed", where="n_replicas")
    sample = _tiled(_sample(arrival_ps, input_tok, output_tok, cached_tok), limits, n_replicas)
    must = Limits(ttft_limit_ps, tpot_limit_ps, percentile)

    def at(scale: float) -> tuple[bool, Capacity]:
        return _try(sample, scale, terms, limits, n_replicas, must)

    fluid = sample.span_ps * n_replicas / _work_ps(sample, terms, limits)
    shortest = sample.span_ps / LONGEST_PS
    low = max(fluid * LIGHTEST_FRAC, shortest)
    holds, best = at(low)
    if not holds:
        return Capacity(0.0, 0.0, -1, -1, 0.0)
    high = max(fluid, 2.0 * low)
    holds, found = at(high)
    if holds:
        high = max(2.0 * low, _sustained(sample, high, terms, limits, n_replicas))
        holds, found = at(high)
        if holds:
            return found
    while high > low * (1.0 + tol_frac):
        middle = math.sqrt(low * high)
        holds, found = at(middle)
        if holds:
            low, best = middle, found
        else:
            high = middle
    return best


def tabulate(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    terms: Terms,
    limits: BatchLimits,
    n_replicas: Sequence[int],
    *,
    ttft_limit_ps: float,
    tpot_limit_ps: float,
    percentile: float,
    cached_tok: ArrayLike | None = None,
    tol_frac: float = 0.02,
) -> list[Capacity]:
    """:func:`capacity` for each number of replicas, in the order given.

    Its monotone envelope: a group is never rated below a smaller one of the table, since replicas may
    be left idle; such a row repeats the smaller group's figures with its utilisation scaled.
    """
    rows: dict[int, Capacity] = {}
    best, size = Capacity(0.0, 0.0, -1, -1, 0.0), 1
    for n in sorted(set(n_replicas)):
        row = capacity(
            arrival_ps,
            input_tok,
            output_tok,
            terms,
            limits,
            n,
            ttft_limit_ps=ttft_limit_ps,
            tpot_limit_ps=tpot_limit_ps,
            percentile=percentile,
            cached_tok=cached_tok,
            tol_frac=tol_frac,
        )
        if row.requests_per_s >= best.requests_per_s:
            best, size = row, n
        rows[n] = best._replace(utilisation=best.utilisation * size / n)
    return [rows[n] for n in n_replicas]


def tpot_ps(served: Served, output_tok: ArrayLike) -> NDArray[np.float64]:
    """(e2e - ttft) / (output - 1) of the served requests with more than one output token, in their order."""
    output = np.asarray(output_tok, np.int64)
    many = (served.status == 0) & (output > 1)
    ratio: NDArray[np.float64] = (served.e2e_ps[many] - served.ttft_ps[many]) / (output[many] - 1)
    return ratio


def _sample(
    arrival_ps: ArrayLike, input_tok: ArrayLike, output_tok: ArrayLike, cached_tok: ArrayLike | None
) -> Sample:
    """The columns from time zero; refuses a sample without a pattern."""
    arrival = np.asarray(arrival_ps, np.int64)
    prompt = np.asarray(input_tok, np.int64)
    output = np.asarray(output_tok, np.int64)
    cached = np.zeros_like(prompt) if cached_tok is None else np.asarray(cached_tok, np.int64)
    if arrival.size < 2 or arrival[-1] <= arrival[0]:
        raise BadTrace(
            "a load has no pattern with fewer than two arrival times",
            where="arrival_ps",
            fix="pass more requests",
        )
    if not arrival.shape == prompt.shape == output.shape == cached.shape:
        raise BadTrace("arrivals, inputs and outputs differ in length", where="capacity")
    length = int(arrival[-1] - arrival[0])
    return Sample(arrival - arrival[0], prompt, output, cached, length * arrival.size / (arrival.size - 1))


def _tiled(sample: Sample, limits: BatchLimits, n_replicas: int) -> Sample:
    """The sample repeated until it refills every batch ``TURNOVERS`` times."""
    mean_tok = max(1.0, float(np.mean(sample.input_tok + sample.output_tok)))
    batch = max(1.0, min(limits.max_seqs, limits.prefill_budget_tok, limits.kv_capacity_tok / mean_tok))
    n = sample.arrival_ps.size
    copies = math.ceil(TURNOVERS * batch * n_replicas / n)
    # Copies may not stretch the pattern past what picoseconds can count.
    copies = max(1, min(copies, int(LONGEST_PS / sample.span_ps)))
    starts = np.repeat((np.arange(copies) * sample.span_ps).astype(np.int64), n)
    columns = (np.tile(column, copies) for column in sample[:4])
    arrival, prompt, output, cached = columns
    return Sample(arrival + starts, prompt, output, cached, sample.span_ps * copies)


def _work_ps(sample: Sample, terms: Terms, limits: BatchLimits) -> float:
    """Least time that one replica can take for the sample: every step as full as it can be."""
    mean_tok = max(1.0, float(np.mean(sample.input_tok + sample.output_tok)))
    batch = max(1.0, min(limits.max_seqs, limits.prefill_budget_tok, limits.kv_capacity_tok / mean_tok))
    prefill = np.maximum(1, sample.input_tok - sample.cached_tok).astype(np.float64)
    decodes = (sample.output_tok - 1).astype(np.float64)
    held = decodes * (sample.input_tok + 0.5 * sample.output_tok)
    work = terms.prefill_ps_per_tok * prefill.sum() + terms.seq_ps * decodes.sum()
    # In floats: a sample of long answers has more picoseconds of steps than 64 bits count.
    work += terms.kv_ps_per_tok * held.sum() + terms.base_ps * float(sample.output_tok.sum()) / batch
    return float(max(1.0, work))


def _sustained(sample: Sample, scale: float, terms: Terms, limits: BatchLimits, n_replicas: int) -> float:
    """The compression of time at which requests come as fast as replicas that are never idle finish them.

    ``scale`` is one that keeps them busy: all are offered several times as fast, and what is finished is
    counted away from the ends, where batches fill and drain.
    """
    arrival = (sample.arrival_ps / (CROWD * scale)).astype(np.int64)
    columns = (arrival, sample.input_tok, sample.output_tok, terms, limits)
    served = serve(*columns, n_replicas=n_replicas, cached_tok=sample.cached_tok)
    first, last = np.quantile((arrival + served.e2e_ps)[served.status == 0], [1.0 - MIDDLE, MIDDLE])
    done = (2.0 * MIDDLE - 1.0) * float((served.status == 0).sum()) / max(1.0, float(last - first))
    return done * sample.span_ps / sample.arrival_ps.size


def _try(
    sample: Sample, scale: float, terms: Terms, limits: BatchLimits, n_replicas: int, must: Limits
) -> tuple[bool, Capacity]:
    """Whether the limits hold at this compression of time, and what is seen."""
    arrival = (sample.arrival_ps / scale).astype(np.int64)
    columns = (arrival, sample.input_tok, sample.output_tok, terms, limits)
    served = serve(*columns, n_replicas=n_replicas, cached_tok=sample.cached_tok)
    lost = served.status != 0
    ttft = np.where(lost, NEVER_PS, served.ttft_ps)
    tpot = np.concatenate([tpot_ps(served, sample.output_tok), np.full(int(lost.sum()), float(NEVER_PS))])
    ttft_at = int(np.percentile(ttft, must.percentile, method="higher"))
    tpot_at = int(np.percentile(tpot, must.percentile, method="higher")) if tpot.size else 0
    end = int((arrival + np.maximum(0, served.e2e_ps)).max())
    seen = Capacity(
        arrival.size * scale / sample.span_ps * 1e12,
        scale,
        ttft_at,
        tpot_at,
        float(served.busy_ps.sum()) / (n_replicas * max(1, end)),
    )
    return ttft_at <= must.ttft_ps and tpot_at <= must.tpot_ps, seen
