"""The terms of an engine's step, fitted through its replay on the first requests of a run.

Few terms, each physical: a base (weights read, overhead), a prompt token, a sequence that decodes, a
token of cache, the routed experts; the rest follows from them and the model's shapes. The terms trade
against each other along a flat valley, so each is held by what physics says of it, loosely, and the
data decides where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.replay.engine import (
    Choice,
    EngineLimits,
    EngineServed,
    Options,
    StepTerms,
    experts_touched,
    serve_engines,
)
from isocost.units import PS_PER_S
from isocost.validate.engine_run import EngineRun

F64 = NDArray[np.float64]
IDS = NDArray[np.int64]
Way = tuple[int, Choice, int]
SHARES = ((0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.4, 0.3, 0.3), (0.3, 0.1, 0.6), (0.3, 0.6, 0.1))
"""Starts: parts of a typical decode step due to base, sequences, cache."""
WEIGHTS = (("e2e", 1.0), ("tpot", 1.0), ("ttft", 0.5))
"""Of a request's times: TTFT half, because at low load it jumps by whole steps."""
PRIOR_WEIGHT = 0.002
"""Of a squared standard deviation from physics, beside the mean absolute logarithm of the misfit."""
KV_SD, EXPERT_SD, BASE_SD, SEQ_SD = 0.25, 0.35, 0.7, 1.0
READ_FRAC = 0.85
"""Of the peak bandwidth that steps reach; what physics says is held no closer than the deviations above."""
UNSAID_BYTES, UNSAID_SD_BYTES = 2.5e9, 2.5e9
"""Memory that an engine takes beside weights and cache (activations, graphs, context)."""
STEP_LOG, SHRINK = 0.4, 0.5
COARSE_LOG, MIDDLE_LOG, LEAST_LOG = 0.06, 0.02, 1e-3
HOPS, HOP_LOG = 16, 0.2
ROUTING_DOUBT, CHUNK_DOUBT = 1.1, 1.5
"""How much better another routing, another admission, than vLLM's own must fit to be believed."""
VARIANTS, HAIR_LOG = 31, 0.004


class Fitted(NamedTuple):
    """Terms, blocks of cache a rank and where that is from, and what :func:`_ways` leaves to the data."""

    terms: StepTerms
    n_blocks: int
    cache_from: str
    lag: int
    routing: Choice
    by_chunk: int


def fit(run: EngineRun, n_fit: int) -> Fitted:
    """The terms whose replay is nearest to the times of the first ``n_fit`` requests.

    Least mean absolute logarithm of predicted over measured e2e, TPOT and (at half weight, half a step
    added to both) TTFT, and a penalty for leaving physics; by pattern search on the logarithms, because a
    replay moves in steps and has no derivative: from ``SHARES`` and from ``HOPS`` places around the best
    end so far. Deterministic.
    """
    theirs = metrics(run, run.ttft_s, run.e2e_s)
    gaps = theirs["tpot"][:n_fit]
    # Where no request makes a second token, a first one is what a step gives.
    step_s = float(np.nanmedian(gaps if np.isfinite(gaps).any() else theirs["ttft"][:n_fit]))
    timed = [(name, weight) for name, weight in WEIGHTS if np.isfinite(theirs[name][:n_fit]).any()]
    blocks, cache_from, free = _blocks(run, n_fit)
    starts, center, spread = _starts(run, n_fit, step_s)
    pad = 0.5 * step_s
    dims = starts[0].size + (1 if free else 0)
    axes = list(np.eye(dims))
    ways = [*axes, *(a - b for a, b in combinations(axes[: starts[0].size], 2))]
    deviation = np.append(spread, free) if free else spread

    def at(place: F64, way: Way) -> Fitted:
        many = int(np.exp(place[-1])) if free else blocks
        return Fitted(_terms(run, place[: starts[0].size]), max(1, many), cache_from, *way)

    def search(start: F64, way: Way, ways_: Sequence[F64], step: float, least: float) -> tuple[float, F64]:
        def cost(place: F64) -> float:
            _, ours = predicted(run, at(place, way))
            prior = np.append(center, np.log(blocks)) if free else center
            away = (place - prior) / deviation
            total = PRIOR_WEIGHT * float(np.nansum(np.where(np.isfinite(deviation), away * away, 0.0)))
            for name, weight in timed:
                more = pad if name == "ttft" else 0.0
                miss = np.abs(np.log((ours[name][:n_fit] + more) / (theirs[name][:n_fit] + more)))
                total += weight * float(np.nanmean(miss))
            return total

        return _search(cost, start, ways_, step, least)

    def begin(start: F64) -> F64:
        return np.append(start, np.log(blocks)) if free else start

    ends = []
    for way in _ways(run, blocks < _enough(run)):
        found = [search(begin(start), way, axes, STEP_LOG, COARSE_LOG) for start in starts]
        coarse = min(found, key=lambda end: end[0])[1]
        # Which way it was shows only where each is given its best terms.
        ends.append((*search(coarse, way, ways, COARSE_LOG, MIDDLE_LOG), way))
    # The best of each kind is tried further: where they did alike, the first is as good a name.
    kinds = list(dict.fromkeys(way[1:] for _, _, way in ends))
    leaders = [min((e for e in ends if e[2][1:] == kind), key=lambda end: end[0]) for kind in kinds]
    hopped = []
    for first, place, way in leaders:
        value, best, draw = first, place, np.random.default_rng(0)
        for _ in range(HOPS):
            start = best + HOP_LOG * draw.standard_normal(dims)
            tried, end = search(start, way, ways, COARSE_LOG, MIDDLE_LOG)
            if tried < value:
                value, best = tried, end
        doubt = (1.0 if way[1] == kinds[0][0] else ROUTING_DOUBT) * (CHUNK_DOUBT if way[2] else 1.0)
        hopped.append((value * doubt, best, way))
    value, best, way = min(hopped, key=lambda end: end[0])
    return at(search(best, way, ways, MIDDLE_LOG, LEAST_LOG)[1], way)


def _ways(run: EngineRun, tight: bool) -> list[Way]:
    """What the run does not say and the data decides.

    Steps composed ahead or not; how ranks are dealt to; and, where the cache may be ``tight``, whether a
    prompt is let in with room for its first chunk (older vLLM) or only with room for all of it.
    """
    lags = (1, 0) if run.lag is None else (run.lag,)
    routings: tuple[Choice, ...] = ("rank_score", "round_robin") if run.ranks > 1 else ("rank_score",)
    admissions = ((0, 1) if tight else (0,)) if run.by_chunk is None else (run.by_chunk,)
    return list(product(lags, routings, admissions))


def predicted(run: EngineRun, fitted: Fitted) -> tuple[EngineServed, dict[str, F64]]:
    """The replay of a run's requests, and what :func:`metrics` says of it."""
    # Ranks of a model with routed experts meet in every layer; those of any other run on their own.
    together = run.ranks if run.physics.experts else 1
    limits = EngineLimits(
        run.budget_tok,
        run.max_seqs,
        fitted.n_blocks,
        run.block_tok,
        together,
        fitted.lag,
        fitted.by_chunk,
    )
    physics = run.physics
    touched = (
        experts_touched(physics.experts, physics.experts_per_token, run.budget_tok)
        if physics.experts
        else None
    )
    options = Options(run.ranks // together, fitted.routing, touched_frac=touched)
    served = serve_engines(run.arrival_ps, run.input_tok, run.output_tok, fitted.terms, limits, options)
    seen = served.queued_ps if run.sees_late else 0
    ttft, e2e = ((times - seen) / PS_PER_S for times in (served.ttft_ps, served.e2e_ps))
    bad = served.status != 0
    ttft[bad], e2e[bad] = np.inf, np.inf
    return served, metrics(run, np.maximum(ttft, 1e-9), np.maximum(e2e, 1e-9))


def variants(run: EngineRun, fitted: Fitted) -> list[dict[str, F64]]:
    """What :func:`metrics` says of ``VARIANTS`` replays whose terms differ by a hair (``HAIR_LOG``).

    Where requests push each other out, one replay is one draw: who loses its place turns on moments. The
    middle of several is what can be said.
    """
    draw = np.random.default_rng(0)
    found = [predicted(run, fitted)[1]]
    for _ in range(VARIANTS - 1):
        moved = np.exp(HAIR_LOG * draw.standard_normal(len(fitted.terms)))
        terms = StepTerms(*(int(term * by) for term, by in zip(fitted.terms, moved, strict=True)))
        found.append(predicted(run, fitted._replace(terms=terms))[1])
    return found


def metrics(run: EngineRun, ttft_s: F64, e2e_s: F64) -> dict[str, F64]:
    """TTFT, TPOT (nan for a single token, or where all came at once) and e2e in seconds, (n,) each."""
    gaps = np.where(run.output_tok > 1, run.output_tok - 1, np.nan)
    with np.errstate(invalid="ignore"):
        tpot = (e2e_s - ttft_s) / gaps
    tpot[np.isnan(tpot) & np.isfinite(gaps)] = np.inf
    tpot[tpot <= 0] = np.nan
    return {"ttft": ttft_s, "tpot": tpot, "e2e": e2e_s}


def _most(run: EngineRun) -> IDS:
    """Blocks that each request holds at its end."""
    return -(-(run.input_tok + run.output_tok) // run.block_tok)


def _enough(run: EngineRun) -> int:
    """Blocks with which no request ever waits for the cache."""
    return int(np.sort(_most(run))[::-1][: run.max_seqs].sum())


def _blocks(run: EngineRun, n_fit: int) -> tuple[int, str, float]:
    """Blocks of cache a rank, where that is from, and the deviation of its logarithm, 0 where it is known."""
    most, enough = _most(run), _enough(run)
    least = int(most.max())
    if run.n_blocks is not None:
        return max(run.n_blocks, least), "the run's own settings", 0.0
    physics = run.physics
    room = physics.cache_bytes - UNSAID_BYTES
    if np.isfinite(room) and room > 0:
        found = room / physics.kv_bytes_per_tok / run.block_tok
        if found * (1.0 - UNSAID_SD_BYTES / room) > enough:
            return enough, "memory: enough for all that may run at once", 0.0
        return max(least, int(found)), "memory, fitted", max(0.02, UNSAID_SD_BYTES / room)
    # What those that are fitted held at once, at the least.
    start, end = run.arrival_ps / PS_PER_S + run.ttft_s, run.arrival_ps / PS_PER_S + run.e2e_s
    held = [
        float(most[:n_fit][(start[:n_fit] <= at) & (end[:n_fit] > at)].sum()) / run.ranks
        for at in start[:n_fit]
    ]
    if max(held) >= 0.95 * enough:
        return enough, "enough for all that may run at once", 0.0
    return max(least, int(max(held))), "fitted", np.inf


def _starts(run: EngineRun, n_fit: int, step_s: float) -> tuple[list[F64], F64, F64]:
    """Where the search starts, what physics says and how loosely: logarithms of picoseconds, (4,) or (5,)."""
    physics = run.physics
    prefill_s = step_s / max(1.0, float(np.median(run.input_tok[:n_fit])))
    seats = min(run.max_seqs, n_fit)
    held = seats * float(np.mean(run.input_tok[:n_fit] + 0.5 * run.output_tok[:n_fit]))
    rate = physics.bytes_per_s * READ_FRAC
    if not np.isfinite(rate):  # most of a step is reading weights
        rate = (physics.weights_bytes + physics.expert_bytes) / (0.6 * step_s)
    base, expert = physics.weights_bytes / rate, physics.expert_bytes / rate
    kv = physics.kv_bytes_per_tok / rate
    starts = []
    for base_part, seq_part, kv_part in SHARES:
        values = [base_part * step_s, prefill_s, seq_part * step_s / seats, kv_part * step_s / held]
        if np.isfinite(kv):
            values[3] = kv
        if physics.experts:
            values = [max(base, 0.3 * base_part * step_s), *values[1:], expert]
        starts.append(np.log(np.maximum(np.array(values), 1e-12) * PS_PER_S))
    seq = 0.1 * step_s / seats
    says = [base, np.nan, seq, kv, *([expert] if physics.experts else [])]
    loose = [BASE_SD, np.inf, SEQ_SD, KV_SD, *([EXPERT_SD] if physics.experts else [])]
    center = np.log(np.array(says) * PS_PER_S)
    spread = np.where(np.isfinite(center), loose, np.inf)
    return starts, np.where(np.isfinite(center), center, 0.0), spread


def _terms(run: EngineRun, log_ps: F64) -> StepTerms:
    base, prefill, seq, kv = (int(value) for value in np.maximum(1.0, np.exp(log_ps[:4])))
    expert = int(np.exp(log_ps[4])) if log_ps.size > 4 else 0
    return StepTerms(base, prefill, seq, kv, int(1000 * prefill * run.physics.pair_frac), expert)


def _search(
    cost: Callable[[F64], float], start: F64, ways: Sequence[F64], step: float, least: float
) -> tuple[float, F64]:
    """Pattern search: forth and back along each way, with a step that shrinks; the least cost and where."""
    at, value = start, cost(start)
    while step > least:
        moved = False
        for way in (sign * direction for direction in ways for sign in (1.0, -1.0)):
            while (tried := cost(at + step * way)) < value:
                at, value, moved = at + step * way, tried, True
        if not moved:
            step *= SHRINK
    return value, at
