"""Our queue against an engine's own per-request times: fit on the first requests, predict the others.

A folder holds ``requests.jsonl`` (input_toks, output_toks, queued_ts, first_token_ts, last_token_ts in
seconds of one clock) and ``meta.json`` (``engine_kwargs`` with max_num_seqs and
max_num_batched_tokens), as one run of one engine replica leaves them. The four terms of a step are
fitted on the times of the first ``n_fit`` requests through the kernel, with every request's arrival and
sizes given; the times of the others are only compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.replay.queue import BatchLimits, Terms, serve

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
PS_PER_S = 1e12
PERCENTILES = (50, 75, 90, 95, 99)
PASS_FRAC = 0.03
"""A row passes within three in a hundred."""
TTFT_WEIGHT = 0.1
"""Of a request's TTFT beside its TPOT and e2e in the fit: TTFT at low load jumps by whole steps."""
SHARES = tuple((a / 8, b / 8, (8 - a - b) / 8) for a in range(1, 7) for b in range(1, 8 - a))
"""Starts of the fit: parts of a typical decode step due to base, sequences, cache, in eighths."""
STEP_LOG, SHRINK, LEAST_LOG = 0.5, 0.6, 1e-3
HOPS, HOP_LOG = 40, 0.2


class Run(NamedTuple):
    """n requests as they were queued, arrivals from the first one on; and the limits of the engine."""

    arrival_ps: I64
    input_tok: I64
    output_tok: I64
    ttft_s: F64
    e2e_s: F64
    limits: BatchLimits


class ReplayRow(msgspec.Struct, frozen=True):
    """One percentile of one metric (ttft, tpot, e2e): predicted and measured seconds, relative error."""

    metric: str
    percentile: int
    predicted_s: float
    measured_s: float
    error_frac: float


class ReplayReport(msgspec.Struct, frozen=True):
    """What was fitted and how it predicts the requests that it has not seen.

    ``terms_ps`` base, per prefilled token, per sequence, per token held; ``mape`` the mean absolute
    relative error per request, by metric; ``failed`` the rows beyond 3 %.
    """

    path: str
    fitted: int
    predicted: int
    terms_ps: tuple[int, ...]
    rows: tuple[ReplayRow, ...]
    mape: dict[str, float]
    passed: int
    failed: tuple[str, ...]


def validate_replay(folder: Path | str, n_fit: int = 120) -> ReplayReport:
    """Fit step terms on the first ``n_fit`` requests of a run and predict the others.

    Raises:
        BadInput: a file is absent or malformed, or there are not more than ``n_fit`` requests.
    """
    run = read_run(Path(folder))
    n = run.arrival_ps.size
    if not 0 < n_fit < n:
        raise BadInput(f"{n} requests, {n_fit} to fit: none left to predict", where=str(folder))
    terms = fit_terms(run, n_fit)
    late = slice(n_fit, n)
    rows: list[ReplayRow] = []
    mape: dict[str, float] = {}
    ours, theirs = _predicted(run, terms), _metrics(run, run.ttft_s, run.e2e_s)
    for name in ours:
        predicted, measured = ours[name][late], theirs[name][late]
        mape[name] = float(np.nanmean(np.abs(predicted / measured - 1.0)))
        for q in PERCENTILES:
            a, b = float(np.nanpercentile(predicted, q)), float(np.nanpercentile(measured, q))
            rows.append(ReplayRow(name, q, a, b, a / b - 1.0))
    failed = tuple(f"{row.metric}/p{row.percentile}" for row in rows if not abs(row.error_frac) <= PASS_FRAC)
    passed = len(rows) - len(failed)
    return ReplayReport(str(folder), n_fit, n - n_fit, tuple(terms), tuple(rows), mape, passed, failed)


def fit_terms(run: Run, n_fit: int) -> Terms:
    """The terms whose replay is nearest to the times of the first ``n_fit`` requests.

    Least mean absolute logarithm of predicted over measured, for e2e and TPOT, and TTFT with a
    tenth of the weight; by pattern search on the logarithms of the terms, because a replay moves in
    steps and has no derivative. It starts from each way to share a typical decode step among base,
    sequences and cache as in ``SHARES``, then from ``HOPS`` random places around the best end so far,
    because the terms trade against each other along a flat and uneven valley. Deterministic.
    """
    theirs = _metrics(run, run.ttft_s, run.e2e_s)
    step_s = float(np.nanmedian(theirs["tpot"][:n_fit]))
    prefill_s = step_s / max(1.0, float(np.median(run.input_tok[:n_fit])))
    seats = min(run.limits.max_seqs, n_fit)
    held = seats * float(np.mean(run.input_tok[:n_fit] + 0.5 * run.output_tok[:n_fit]))

    def cost(log_ps: F64) -> float:
        ours = _predicted(run, _terms(log_ps))
        miss = {name: np.abs(np.log(ours[name][:n_fit] / theirs[name][:n_fit])) for name in ours}
        return float(
            np.nanmean(miss["e2e"]) + np.nanmean(miss["tpot"]) + TTFT_WEIGHT * np.nanmean(miss["ttft"])
        )

    axes = np.eye(4)
    ways = [*axes, *(a - b for a, b in combinations(axes, 2))]
    found: list[tuple[float, F64]] = []
    for base, seq, kv in SHARES:
        start = np.array([base * step_s, prefill_s, seq * step_s / seats, kv * step_s / held])
        found.append(_search(cost, np.log(start * PS_PER_S), ways))
    value, best = min(found, key=lambda end: end[0])
    draw = np.random.default_rng(0)
    for _ in range(HOPS):
        tried, end = _search(cost, best + HOP_LOG * draw.standard_normal(4), ways)
        if tried < value:
            value, best = tried, end
    return _terms(best)


def read_run(folder: Path) -> Run:
    """A run's requests, sorted by when they were queued, and the limits of its engine.

    The cache is taken as large enough for all requests at once: the run says nothing of its size.
    """
    try:
        lines = (folder / "requests.jsonl").read_bytes().splitlines()
        rows = [msgspec.json.decode(line, type=_Request) for line in lines if line.strip()]
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=_Meta)
    except OSError as wrong:
        raise BadInput(wrong.strerror or str(wrong), where=wrong.filename or str(folder)) from None
    except msgspec.MsgspecError as wrong:
        raise BadInput(str(wrong), where=str(folder)) from None
    rows.sort(key=lambda row: row.queued_ts)
    queued = np.array([row.queued_ts for row in rows])
    prompt = np.array([row.input_toks for row in rows], np.int64)
    output = np.array([row.output_toks for row in rows], np.int64)
    engine = meta.engine_kwargs
    return Run(
        ((queued - queued.min(initial=np.inf)) * PS_PER_S).astype(np.int64),
        prompt,
        output,
        np.array([row.first_token_ts for row in rows]) - queued,
        np.array([row.last_token_ts for row in rows]) - queued,
        BatchLimits(
            engine.max_num_batched_tokens, engine.max_num_seqs, max(1, int(prompt.sum() + output.sum()))
        ),
    )


class _Request(msgspec.Struct):
    input_toks: int
    output_toks: int
    queued_ts: float
    first_token_ts: float
    last_token_ts: float


class _Engine(msgspec.Struct):
    max_num_seqs: int
    max_num_batched_tokens: int


class _Meta(msgspec.Struct):
    engine_kwargs: _Engine


def _metrics(run: Run, ttft_s: F64, e2e_s: F64) -> dict[str, F64]:
    """TTFT, TPOT (nan for a single token) and e2e in seconds, (n,) each."""
    gaps = np.where(run.output_tok > 1, run.output_tok - 1, np.nan)
    return {"ttft": ttft_s, "tpot": (e2e_s - ttft_s) / gaps, "e2e": e2e_s}


def _predicted(run: Run, terms: Terms) -> dict[str, F64]:
    served = serve(run.arrival_ps, run.input_tok, run.output_tok, terms, run.limits)
    return _metrics(run, served.ttft_ps / PS_PER_S, served.e2e_ps / PS_PER_S)


def _terms(log_ps: F64) -> Terms:
    return Terms(*(int(value) for value in np.maximum(1.0, np.exp(log_ps))))


def _search(cost: Callable[[F64], float], start: F64, ways: Sequence[F64]) -> tuple[float, F64]:
    """Pattern search: forth and back along each way, with a step that shrinks; the least cost and where."""
    at, value, step = start, cost(start), STEP_LOG
    while step > LEAST_LOG:
        moved = False
        for way in (sign * direction for direction in ways for sign in (1.0, -1.0)):
            while (tried := cost(at + step * way)) < value:
                at, value, moved = at + step * way, tried, True
        if not moved:
            step *= SHRINK
    return value, at
