"""Our queue against an engine's own per-request times: fit on the first requests, predict the others.

The folder is read by :mod:`isocost.validate.engine_run`. The terms of a step are fitted on the times of
the first requests through the replay of an engine (:mod:`isocost.replay.engine`), with every request's
arrival and sizes given; the times of the others are only compared. Where the run does not say how large
its cache is, or whether it composes steps ahead, that is fitted with the terms.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput
from isocost.validate.engine_fit import Fitted, fit, metrics, predicted, variants
from isocost.validate.engine_run import read_run
from isocost.validate.kinds import Share

PERCENTILES = (50, 75, 90, 95, 99)
PASS_FRAC = 0.03
"""A row passes within three in a hundred."""
FIT, FIT_FRAC = 120, 0.4
"""Requests to fit: so many, or this part of a run that is shorter than three times that."""


class ReplayRow(msgspec.Struct, frozen=True):
    """One percentile of one metric (ttft, tpot, e2e): predicted and measured seconds, relative error.

    Predicted is the median of replays whose terms differ by a hair (:func:`variants`).
    """

    metric: str
    percentile: int
    predicted_s: float
    measured_s: float
    error_frac: float


class ReplayReport(msgspec.Struct, frozen=True):
    """What was fitted and how it predicts the requests that it has not seen.

    ``terms_ps`` base, per prefilled token, per sequence, per token held, all experts; ``cache_tok`` the
    cache of a rank and ``cache_from`` where that is from; ``lag`` steps composed ahead; ``by_chunk`` 1 where
    a prompt is let in by its first chunk; ``ranks`` of data parallelism and how they are dealt to;
    ``preempted`` how often one lost its place in the replay;
    ``mape`` the mean absolute relative error per request, by metric; ``requests_left_out`` by rule;
    ``failed`` the rows beyond 3 %; ``by`` metric their errors; ``notes`` all of it in sentences. Where no
    request has two tokens there are no times per output token, and no rows of them.
    """

    path: str
    fitted: int
    predicted: int
    terms_ps: tuple[int, ...]
    cache_tok: int
    cache_from: str
    lag: int
    by_chunk: int
    ranks: int
    routing: str
    preempted: int
    rows: tuple[ReplayRow, ...]
    mape: dict[str, float]
    passed: int
    failed: tuple[str, ...]
    requests_left_out: dict[str, int]
    by: dict[str, dict[str, Share]]
    notes: tuple[str, ...]


def validate_replay(
    folder: Path | str, catalog_at: CatalogAt | None = None, n_fit: int | None = None
) -> ReplayReport:
    """Fit on the first ``n_fit`` requests of a run and predict the others.

    Raises:
        BadInput: a file is absent or malformed, or there are not more than ``n_fit`` requests.
    """
    run = read_run(Path(folder), catalog_at or Catalog.load().at(date.today()))
    n = run.arrival_ps.size
    n_fit = min(FIT, int(FIT_FRAC * n)) if n_fit is None else n_fit
    if not 0 < n_fit < n:
        raise BadInput(f"{n} requests, {n_fit} to fit: none left to predict", where=str(folder))
    found: Fitted = fit(run, n_fit)
    late = slice(n_fit, n)
    rows: list[ReplayRow] = []
    mape: dict[str, float] = {}
    served, ours = predicted(run, found)
    several = variants(run, found)
    theirs = metrics(run, run.ttft_s, run.e2e_s)
    for name in ours:
        guess, measured = ours[name][late], theirs[name][late]
        if not np.isfinite(measured).any():
            continue
        mape[name] = float(np.nanmean(np.abs(guess / measured - 1.0)))
        for q in PERCENTILES:
            a = float(np.median([np.nanpercentile(each[name][late], q) for each in several]))
            b = float(np.nanpercentile(measured, q))
            rows.append(ReplayRow(name, q, a, b, a / b - 1.0))
    failed = tuple(f"{row.metric}/p{row.percentile}" for row in rows if not abs(row.error_frac) <= PASS_FRAC)
    terms = found.terms
    return ReplayReport(
        str(folder),
        n_fit,
        n - n_fit,
        (terms.base_ps, terms.prefill_ps_per_tok, terms.seq_ps, terms.kv_ps_per_tok, terms.expert_ps),
        found.n_blocks * run.block_tok,
        found.cache_from,
        found.lag,
        found.by_chunk,
        run.ranks,
        found.routing,
        int(served.preempted.sum()),
        tuple(rows),
        mape,
        len(rows) - len(failed),
        failed,
        dict(run.left_out),
        {"metric": {name: _share(name, rows) for name in mape}},
        (_step(found), *(_told(name, rows) for name in mape)),
    )


def _share(metric: str, rows: list[ReplayRow]) -> Share:
    """Errors of one metric's percentiles."""
    errors = [abs(row.error_frac) for row in rows if row.metric == metric]
    passed = sum(error <= PASS_FRAC for error in errors)
    return Share(len(errors), float(np.mean(errors)), float(np.median(errors)), passed=passed)


def _told(metric: str, rows: list[ReplayRow]) -> str:
    """One metric's percentiles, predicted for measured."""
    said = [
        f"p{row.percentile} {row.predicted_s:.4g} for {row.measured_s:.4g} ({row.error_frac:+.1%})"
        for row in rows
        if row.metric == metric
    ]
    return f"{metric}, predicted for measured seconds: {', '.join(said)}."


def _step(found: Fitted) -> str:
    """The fitted step in a person's units."""
    terms = found.terms
    experts = f" + {terms.expert_ps / 1e9:.3g} ms where all experts are touched" if terms.expert_ps else ""
    return (
        f"A step takes {terms.base_ps / 1e9:.3g} ms + {terms.prefill_ps_per_tok / 1e6:.3g} us a prompt "
        f"token + {terms.seq_ps / 1e6:.3g} us a sequence + {terms.kv_ps_per_tok / 1e3:.3g} ns a token of "
        f"cache{experts}."
    )
