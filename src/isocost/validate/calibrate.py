"""A set-up fitted to one's own measurements: from one run's means to the terms of a step.

Each run says by how much its TPOT and TTFT differ from the physics. That is a draw from how set-ups differ
with the spread of runs of one set-up around it (variances of ``perf.anchor``, measured on others' set-ups);
the posterior is what the calibration states, and its interval is for a run that was not seen. Where
requests were measured one by one, the terms of a step are fitted through a replay of them, held loosely by
the physics.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog import CatalogAt
from isocost.catalog.fact import Z_CENTRAL
from isocost.errors import BadInput
from isocost.perf.anchor import Anchors, Kinship, anchored, kinship_of
from isocost.perf.predict import Load, Spread, groups_of, load_of, quantities, spread_of
from isocost.replay.queue import BatchLimits, Terms, serve
from isocost.size.calibrated import RATIOS, TERMS, Anchor, condition, run_condition
from isocost.size.setups import Setups
from isocost.size.speed import ratio_at
from isocost.units import PS_PER_S
from isocost.validate.benchmarks import Requests, Run

F64 = NDArray[np.float64]
FEWEST = 20
"""Requests from which the terms of a step are fitted; below, only ratios."""
LEARN_FRAC = 2 / 3
"""Part of the requests that the stated error was fitted on; the others were only compared."""
PRIOR_WEIGHT = 0.004
"""Of a squared standard deviation from the physics, beside the mean absolute logarithm of the misfit."""
TERM_SD = (0.5, 0.5, 1.0, 1.0, 1.0)
"""How far, in logarithms, the terms of a step are let go from the physics."""
TTFT_WEIGHT = 0.3
"""Of a request's TTFT beside its TPOT and e2e: at low load it jumps by whole steps."""
FIRST_STEP, SHRINK, LAST_STEP = 0.4, 0.5, 3e-3
SHARES = ((0.8, 0.1, 0.1), (0.4, 0.3, 0.3), (0.3, 0.1, 0.6), (0.3, 0.6, 0.1))
"""Starts of the fit beside the physics: parts of a decode step due to base, sequences, cache."""
HOPS, HOP_LOG = 8, 0.2
PERCENTILES = (50, 95, 99)


class Place(NamedTuple):
    """The set-up that was measured: one of ``setups``, its model, accelerator, engine's limits and rooms."""

    model: str
    gpu: str
    engine: str
    found: Setups
    limits: BatchLimits


class Ratio(msgspec.Struct, frozen=True):
    """Measured over predicted, with the central 80 % of what another run of the set-up would show."""

    value: float
    low: float
    high: float


class Error(msgspec.Struct, frozen=True):
    """Mean absolute relative error of a metric before and after; ``after`` is on what was not fitted, and
    nan where nothing was left to compare. ``compared`` says how many runs or requests."""

    before: float
    after: float
    compared: int


class Percentile(msgspec.Struct, frozen=True):
    """A percentile of requests that were not fitted: predicted before and after, and measured, seconds."""

    metric: str
    percentile: int
    before_s: float
    after_s: float
    measured_s: float


class Calibrated(msgspec.Struct, frozen=True):
    """What was fitted, how well it does on what it has not seen, and where it holds.

    ``tpot`` and ``ttft`` are for any load of the set-up, ``near`` for the loads of the runs; ``anchors`` are
    the runs: requests in flight, tokens of prompt and answer, measured over predicted TPOT and TTFT.
    """

    subject: str
    when: str
    runs: int
    requests: int
    tpot: Ratio
    ttft: Ratio
    tpot_before: Ratio
    ttft_before: Ratio
    terms_s: dict[str, float]
    errors: dict[str, Error]
    percentiles: tuple[Percentile, ...]
    concurrency: tuple[float, float]
    isl: tuple[float, float]
    osl: tuple[float, float]
    near: dict[str, Ratio] = {}
    anchors: tuple[tuple[float, float, float, float, float], ...] = ()


def calibrate(at: CatalogAt, place: Place, runs: Sequence[Run]) -> Calibrated:
    """Fit a set-up to its runs.

    Raises:
        BadInput: no run states lengths and times.
    """
    known = [
        run
        for run in runs
        if all(
            math.isfinite(x) and x > 0 for x in (run.isl, run.osl, run.ttft_s, run.tpot_s, run.concurrency)
        )
    ]
    if not known:
        raise BadInput(
            "no run states prompt, answer, TTFT, TPOT and rate", fix="Save whole results: --save-result"
        )
    isl, osl = np.array([run.isl for run in known]), np.array([run.osl for run in known])
    load = load_of(np.array([run.concurrency for run in known]), isl, osl)
    many = place.found.select(np.zeros(len(known), dtype=np.intp))
    said = quantities(many.arch, many.gpu, many.setup, many.constants, load)
    group = groups_of(at, [place.gpu], ["closed"])
    ratios, before, errors, near, runs_of = {}, {}, {}, {}, {}
    middle_of = (float(np.exp(np.log(load.concurrency).mean())), float(isl.mean()), float(osl.mean()))
    for name, measured in (("tpot", [run.tpot_s for run in known]), ("ttft", [run.ttft_s for run in known])):
        logs = np.log(np.array(measured) / said[name])
        prior = spread_of(at, [name], group)
        middle = float(prior.middle[0])
        kin = kinship_of(at, name)
        within = math.sqrt(kin.local + kin.noise)
        sd = float((prior.high - prior.low)[0]) / (2.0 * Z_CENTRAL)
        between = math.sqrt(max(kin.common, sd**2 - within**2))
        ratios[name] = _posterior(logs, middle, between, within)
        runs_of[name] = np.exp(logs)
        own = [Anchor(*one) for one in zip(load.concurrency, isl, osl, runs_of[name], strict=True)]
        near[name] = Ratio(*ratio_at(own, middle_of, prior, 0, kin))
        before[name] = Ratio(*(math.exp(float(one[0])) for one in prior))
        errors[name] = _errors(Anchors(load, said[name], np.array(measured)), prior, kin)
    terms: dict[str, float] = {}
    seen: tuple[Percentile, ...] = ()
    held = [run.requests for run in known if run.requests is not None]
    detailed = max(held, key=lambda one: len(one.ttft_s), default=None)
    count = 0 if detailed is None else len(detailed.ttft_s)
    if detailed is not None and count >= FEWEST:
        terms, seen, ours, moved = _fitted(place, detailed, ratios)
        if len(known) == 1:
            # A mean over requests that queued says less of the set-up than the replay of the queue.
            errors = ours
            for name, by in moved.items():
                kin = kinship_of(at, name)
                loose = math.hypot(math.sqrt(kin.local + kin.noise) / 2, ours[f"{name} by request"].after)
                ratios[name] = near[name] = _ratio(by, loose)
        else:
            errors |= ours
    prompts = detailed.input_tok if detailed is not None else isl
    answers = detailed.output_tok if detailed is not None else osl
    many_at_once = [run.concurrency for run in known]
    return Calibrated(
        f"calibration/{place.model}/{place.gpu}",
        condition(place.engine, int(place.found.setup.gpus[0]), place.found.precisions[0].experts),
        len(known), count, ratios["tpot"], ratios["ttft"], before["tpot"], before["ttft"], terms, errors,
        seen,
        (min(many_at_once), max(many_at_once)), (float(prompts.min()), float(prompts.max())),
        (float(answers.min()), float(answers.max())), near,
        tuple(
            (float(c), float(i), float(o), float(a), float(b))
            for c, i, o, a, b in zip(
                load.concurrency, isl, osl, runs_of["tpot"], runs_of["ttft"], strict=True
            )
        ) if not terms or len(known) > 1 else (),
    )  # fmt: skip


def _posterior(logs: F64, middle: float, between: float, near: float) -> Ratio:
    """The ratio of a set-up after ``n`` runs: a normal prior between set-ups, a normal spread within one.

    With one run it lies between the run and the prior, nearer to the run where set-ups differ more than
    runs do. Many runs say themselves how much they spread. The interval is for a run that was not seen.
    """
    n = len(logs)
    spread = near
    if n > 1:
        spread = math.sqrt((near**2 * 4 + float(((logs - logs.mean()) ** 2).sum())) / (4 + n - 1))
    weight = 1.0 / between**2 + n / spread**2
    mean = (middle / between**2 + float(logs.sum()) / spread**2) / weight
    return _ratio(mean, math.sqrt(1.0 / weight + spread**2))


def _ratio(log: float, sd: float) -> Ratio:
    return Ratio(math.exp(log), math.exp(log - Z_CENTRAL * sd), math.exp(log + Z_CENTRAL * sd))


def _errors(runs: Anchors, prior: Spread, kin: Kinship) -> Error:
    """The error of the physics on the runs, and of what the other runs say of each."""
    m = len(runs.measured)
    before = float(np.abs(runs.predicted * np.exp(prior.middle) / runs.measured - 1.0).mean())
    if m < 2:
        return Error(before, math.nan, m)
    off = []
    for i in range(m):
        here, others = np.array([i]), np.delete(np.arange(m), i)
        known = Anchors(_loads(runs.load, others), runs.predicted[others], runs.measured[others])
        said = anchored(runs.predicted[here], prior, _loads(runs.load, here), known, kin)
        off.append(abs(float(said.median[0]) / float(runs.measured[i]) - 1.0))
    return Error(before, float(np.mean(off)), m)


def _loads(load: Load, index: NDArray[np.intp]) -> Load:
    return Load(load.concurrency[index], load.isl[index], load.osl[index], load.kind[index])


def _fitted(
    place: Place, requests: Requests, ratios: dict[str, Ratio]
) -> tuple[dict[str, float], tuple[Percentile, ...], dict[str, Error], dict[str, float]]:
    """The terms of a step from requests, how those of the first part predict the others, and by how much (in
    logarithms) they differ from the physics."""
    isl, osl = float(requests.input_tok.mean()), float(requests.output_tok.mean())
    span = float((requests.arrival_s + requests.e2e_s).max())
    running = min(max(2.0, float(requests.e2e_s.sum()) / span), float(place.limits.max_seqs))
    raw = place.found.terms(isl, osl, np.array([running]))
    names = (raw.base_s, raw.prefill_s_per_tok, raw.seq_s, raw.kv_s_per_tok, raw.first_token_s)
    plain = np.log(np.maximum([float(one[0]) for one in names], 1e-9))
    tpot = math.log(ratios["tpot"].value)
    start = plain + np.array([tpot, 0.0, tpot, tpot, 0.0])
    cut = max(int(len(requests.ttft_s) * LEARN_FRAC), FEWEST // 2)
    part = _search(place, requests, start, cut)
    theirs = _metrics(requests, requests.ttft_s, requests.e2e_s)
    physics, fitted = _predicted(place, requests, np.exp(plain)), _predicted(place, requests, np.exp(part))
    errors, seen = {}, []
    for name, measured in theirs.items():
        said = [physics[name][cut:], fitted[name][cut:], measured[cut:]]
        off = [float(np.nanmean(np.abs(one / said[2] - 1.0))) for one in said[:2]]
        errors[f"{name} by request"] = Error(off[0], off[1], int(np.isfinite(said[2]).sum()))
        for q in PERCENTILES:
            before, after, truth = (float(np.nanpercentile(one, q)) for one in said)
            seen.append(Percentile(name, q, before, after, truth))
    every = _search(place, requests, part, len(requests.ttft_s))
    # A step where the run was, not a time per token: queues and prompts amplify what a step takes.
    of_step = np.array([1.0, 0.0, running, running * (isl + 0.5 * osl), 0.0])
    step = [float(of_step @ np.exp(one)) for one in (every, plain)]
    moved = {"tpot": math.log(step[0] / step[1]), "ttft": float(every[1] - plain[1])}
    return dict(zip(TERMS, np.exp(every).tolist(), strict=True)), tuple(seen), errors, moved


def _predicted(place: Place, requests: Requests, terms: F64) -> dict[str, F64]:
    served = serve(
        (requests.arrival_s * PS_PER_S).astype(np.int64),
        requests.input_tok.astype(np.int64),
        requests.output_tok.astype(np.int64),
        Terms(*(max(int(value * PS_PER_S), 1) for value in terms[:4])),
        place.limits,
    )
    if (served.status != 0).any():
        raise BadInput(
            "a request is larger than the cache that these accelerators hold", fix="Check --gpu and --tp"
        )
    return _metrics(requests, served.ttft_ps / PS_PER_S + terms[4], served.e2e_ps / PS_PER_S + terms[4])


def _metrics(requests: Requests, ttft_s: F64, e2e_s: F64) -> dict[str, F64]:
    gaps = np.where(requests.output_tok > 1, requests.output_tok - 1.0, np.nan)
    return {"ttft": ttft_s, "tpot": (e2e_s - ttft_s) / gaps, "e2e": e2e_s}


def _search(place: Place, requests: Requests, start: F64, n: int) -> F64:
    """Terms whose replay is nearest to the first ``n`` requests: pattern search on logarithms, held loosely
    by the start. A replay moves in steps and has no derivative. Deterministic."""
    theirs = _metrics(requests, requests.ttft_s, requests.e2e_s)
    held = np.array(TERM_SD)

    def cost(log: F64) -> float:
        ours = _predicted(place, requests, np.exp(log))
        miss = {name: float(np.nanmean(np.abs(np.log(ours[name][:n] / theirs[name][:n])))) for name in ours}
        far = float((((log - start) / held) ** 2).sum())
        return miss["e2e"] + miss["tpot"] + TTFT_WEIGHT * miss["ttft"] + PRIOR_WEIGHT * far

    axes = np.eye(len(start))
    ways = [*axes, *(one - other for one, other in combinations(axes[:4], 2)), axes[0] + axes[2] + axes[3]]
    decode = float(np.nanmedian(theirs["tpot"][:n]))
    seats = min(place.limits.max_seqs, n)
    tokens = seats * float(np.mean(requests.input_tok[:n] + 0.5 * requests.output_tok[:n]))
    begins = [start]
    for base, seq, kv in SHARES:
        shared = np.log([base * decode, 1.0, seq * decode / seats, kv * decode / tokens, 1.0])
        begins.append(np.array([shared[0], start[1], shared[2], shared[3], start[4]]))
    ends = [_descend(cost, begin, ways) for begin in begins]
    value, best = min(ends, key=lambda end: end[0])
    draw = np.random.default_rng(0)
    for _ in range(HOPS):
        tried, end = _descend(cost, best + HOP_LOG * draw.standard_normal(len(start)), ways)
        if tried < value:
            value, best = tried, end
    return best


def _descend(cost: Callable[[F64], float], start: F64, ways: Sequence[F64]) -> tuple[float, F64]:
    """Pattern search: forth and back along each way, with a step that shrinks; the least cost and where."""
    at, value, step = start, cost(start), FIRST_STEP
    while step > LAST_STEP:
        moved = False
        for way in (sign * one for one in ways for sign in (1.0, -1.0)):
            while (tried := cost(at + step * way)) < value:
                at, value, moved = at + step * way, tried, True
        if not moved:
            step *= SHRINK
    return value, at


def rows_of(found: Calibrated, source: str, day: str) -> list[dict[str, str]]:
    """The facts of a calibration, as rows of a facts file."""

    def row(
        attribute: str,
        value: float,
        unit: str,
        low: float | None = None,
        high: float | None = None,
        note: str = "",
    ) -> dict[str, str]:
        numbers = ["" if one is None else f"{one:.6g}" for one in (value, low, high)]
        return {
            "subject": found.subject, "attribute": attribute, "when": found.when, "value": numbers[0],
            "unit": unit, "low": numbers[1], "high": numbers[2], "valid_from": "", "valid_to": "",
            "source": "own-measurement", "quote": "", "checked": day, "kind": "measured", "boundary": "",
            "note": note or source,
        }  # fmt: skip

    low, high = found.concurrency
    out = [
        row("tpot_ratio", found.tpot.value, "1", found.tpot.low, found.tpot.high),
        row("ttft_ratio", found.ttft.value, "1", found.ttft.low, found.ttft.high),
        row(
            "concurrency", math.sqrt(low * high), "count", low, high, "requests in flight that were measured"
        ),
        row("isl", sum(found.isl) / 2, "tok", *found.isl),
        row("osl", sum(found.osl) / 2, "tok", *found.osl),
    ]
    for run in found.anchors:
        when = run_condition(found.when, *run[:3])
        for attribute, value in zip(RATIOS, run[3:], strict=True):
            out.append(row(attribute, value, "1", note="of one run") | {"when": when})
    return out + [row(name, value, "s") for name, value in found.terms_s.items()]


def write(found: Calibrated, folder: Path, source: str, day: str) -> None:
    """Write a calibration as a folder of facts: ``calibration.csv`` beside the ``sources.csv`` that it cites.

    Raises:
        BadInput: the folder cannot be written.
    """
    cited = {
        "id": "own-measurement", "title": f"Own measurements: {source}", "address": source,
        "publisher": "own", "licence": "", "read": day, "note": "",
    }  # fmt: skip
    tables = {"sources.csv": [cited], "calibration.csv": rows_of(found, source, day)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            text = io.StringIO()
            out = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            out.writeheader()
            out.writerows(rows)
            part = folder / f".{name}.part"
            part.write_text(text.getvalue(), encoding="utf-8")
            part.replace(folder / name)
    except OSError as wrong:
        raise BadInput(
            wrong.strerror or str(wrong), where=str(folder), fix="Name another with --out DIR"
        ) from None
