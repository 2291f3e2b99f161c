"""Fit what an engine adds to kernels, families of models held out: ``python calibration/fit_perf.py DATA``.

Reads ``DATA/perf/{silicon,mlenergy,trtllm,inferencex_community}.parquet`` (measured serving speed), of the
same folder ``argonne`` and ``splitwise`` for intervals alone, and the catalog. Prints errors of families
that the constants had not seen and, with ``--write FACTS``, replaces the fitted rows of
``FACTS/perf.csv``: those of all families, and as ``fitted_without`` those with one family left out, by
which ``isocost validate perf`` answers that family.

The loss is robust in the logarithm; every constant is pulled to a guess, and a stack's own value to what
all share; a family has a level of its own, which is forgotten. First the constants of a step are fitted to
times of a token and to throughput, then those of the first token with the step held. Intervals are the
tenth and ninetieth percentile of what was held out, by kind of load.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from copy import copy
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from robust import least
from spreads import LEAST_OF_GROUP, Ratios, coverage, tenths, widening

from isocost.catalog import Catalog, CatalogAt
from isocost.perf.constants import GENERIC, MADE, PLAIN, Constants, Reader, Term, cases_of
from isocost.perf.predict import UNTIMED, quantities
from isocost.validate.perf import Points, Told, points_of, predict, select
from isocost.validate.stated import UNSTATED, in_full, is_apart, read_rows

FITTED_FILES = ("silicon", "mlenergy", "trtllm", "inferencex_community")
OTHER_FILES = ("argonne", "splitwise")
PULL = 2.0
"""Weight of one standard deviation of a constant from its guess, in units of one row's log error."""
OWN_SIGMA = {"step": 0.5, "first": 0.9}
"""How far (in logarithms) a stack's own value is thought to lie from what all stacks share."""
LOSS_SCALE = 0.1
NUDGE = 1e-4
"""By how much a logarithm is moved to see what it moves."""
ENOUGH = 1e-8
"""The share of the loss that a step has to gain: some constants hardly change it."""
STILL = 0.002
"""A fit ends when a pass moves no logarithm by more."""
MOST_PASSES = 30
MEASURED = ("pace", "ttft", "e2e", "rate")
"""A time of a token (or one over throughput), first token, whole answer, throughput."""
TOLD = ("memory_usable_frac", "reserved_answer_frac")
"""Constants that a benchmark or an engine states."""


class Share(NamedTuple):
    """A constant: its guess, the uncertainty of that in logarithms, whether stacks have their own."""

    guess: float
    sigma: float
    stage: str
    is_own: bool = False


SHARES = {
    "memory_share": Share(0.95, 0.05, "step", True),
    "dense_flop_share": Share(0.95, 0.05, "step"),
    "expert_memory_share": Share(0.9, 0.4, "step", True),
    "expert_flop_share": Share(1.0, 0.5, "step", True),
    "expert_row_share": Share(0.8, 0.3, "step"),
    "expert_each_share": Share(0.7, 0.4, "step"),
    "touch_share": Share(0.85, 0.12, "step"),
    "cache_share": Share(0.85, 0.05, "step"),
    "prompt_flop_share": Share(0.9, 0.1, "step"),
    "reduce_share": Share(1.3, 0.6, "step", True),
    "link_share": Share(0.9, 0.2, "step"),
    "start_share": Share(0.7, 0.4, "step", True),
    "activation_moves": Share(10.0, 0.5, "step"),
    "spread_s": Share(2e-5, 0.5, "step"),
    "layer_s": Share(8e-6, 0.7, "step", True),
    "moe_layer_s": Share(2.5e-5, 1.0, "step", True),
    "step_s": Share(5e-4, 0.7, "step", True),
    "sequence_s": Share(8e-6, 0.7, "step", True),
    "sparse_layer_s": Share(3e-5, 0.7, "step"),
    "state_layer_s": Share(2e-5, 0.7, "step"),
    "quantise_s": Share(2e-6, 0.7, "step"),
    "slow_expert_layer_s": Share(1e-4, 0.7, "step"),
    "prompt_share": Share(0.8, 0.15, "step", True),
    "draft_kept_frac": Share(0.7, 0.2, "step"),
    "preempted_frac": Share(0.3, 0.5, "step"),
    "first_token_s": Share(0.02, 0.7, "first", True),
    "eager_product_s": Share(1.25e-4, 0.7, "first", True),
    "eager_moe_layer_s": Share(5e-4, 0.7, "first", True),
    "queue_share": Share(0.12, 0.5, "first", True),
    "prompt_alone_share": Share(1.0, 0.5, "first", True),
}
ONLY = {"slow_expert_layer_s": ("vllm-2025",), "preempted_frac": ("vllm", "vllm-2025")}
"""Constants that are zero but for these stacks."""


class Name(NamedTuple):
    """One number that is fitted: a constant, of all stacks (``""``) or the factor of one."""

    constant: str
    stack: str


class Problem:
    """Measured configurations with their kernels' part of every constant, and what was measured of them."""

    def __init__(self, at: CatalogAt, files: Iterable[tuple[str, Path]]) -> None:
        parts = [_configs(at, name, path) for name, path in files]
        self.parts = [points for points, _, _ in parts]
        self.measured = {key: np.concatenate([table[key] for _, table, _ in parts]) for key in MEASURED}
        self.source = np.concatenate([np.full(len(p.measured), name) for p, _, name in parts])
        self.family = np.concatenate([np.array(p.labels["family"]) for p, _, _ in parts])
        self.stack = np.concatenate([np.array(p.labels["stack"]) for p, _, _ in parts])
        self.gpu = np.concatenate([np.array(p.labels["gpu"]) for p, _, _ in parts])
        self.kind = np.concatenate([p.load.kind for p, _, _ in parts])
        self.designs = {
            gpu: "" if at.text(f"gpu/{gpu}", "vendor") == "NVIDIA" else at.text(f"gpu/{gpu}", "generation")
            for gpu in set(self.gpu)
        }
        self.points = _joined(self.parts)
        self.stacks = sorted(set(self.stack))
        self.names = [
            Name(constant, stack)
            for constant, share in SHARES.items()
            for stack in ("", *(self.stacks if share.is_own else ()))
        ]
        self.stage = np.array([SHARES[name.constant].stage for name in self.names])
        self.start = np.array([0.0 if n.stack else np.log(SHARES[n.constant].guess) for n in self.names])
        self.sigma = np.array(
            [OWN_SIGMA[SHARES[n.constant].stage] if n.stack else SHARES[n.constant].sigma for n in self.names]
        )
        self.mask = {stack: self.stack == stack for stack in self.stacks}
        self.kernels = _kernels(at, self.points, self.stack)
        self.fixed = _fixed(at)

    def constants(self, x: np.ndarray) -> Constants:
        """The constants of every configuration at parameters ``x``."""
        share: dict[str, np.ndarray] = {}
        for name, value in zip(self.names, x, strict=True):
            if not name.stack:
                share[name.constant] = np.full(len(self.stack), np.exp(value))
            else:
                share[name.constant][self.mask[name.stack]] *= np.exp(value)
        for constant, stacks in ONLY.items():
            share[constant] = share[constant] * np.isin(self.stack, stacks)
        fields = []
        for field in Constants._fields:
            if field in TOLD:
                fields.append(getattr(self.points.constants, field))
                continue
            if field in PLAIN or field == "spread_eff":
                fields.append(self.fixed[field])
                continue
            total = sum(
                self.kernels[term.kernel] * (share[term.share] if term.share else 1.0)
                for term in MADE.get(field, (Term(share=field),))
            )
            fields.append(np.minimum(total, 1.0) if field.endswith(("_eff", "_frac")) else total)
        return Constants(*fields)

    def at(self, index: np.ndarray) -> Problem:
        """The configurations at ``index``, with the same parameters."""
        part = copy(self)
        part.points = _part(self.points, index)
        part.measured = {key: values[index] for key, values in self.measured.items()}
        part.kernels = {key: values[index] for key, values in self.kernels.items()}
        for name in ("source", "family", "stack", "gpu", "kind"):
            setattr(part, name, getattr(self, name)[index])
        part.mask = {stack: part.stack == stack for stack in self.stacks}
        return part

    def predicted(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The pace (a time of a token, or one over throughput), first token and whole answer of each."""
        p, k = self.points, self.constants(x)
        every = quantities(p.arch, p.gpu, p.setup, k, p.load, p.told.options(k))
        pace = np.where(self.kind == "saturated", every["step"], every["tpot"])
        pace = np.where(self.kind == "offline", 1.0 / every["throughput"], pace)
        return {"pace": pace, "ttft": every["ttft"], "e2e": every["e2e"], "rate": every["throughput"]}


def _configs(at: CatalogAt, source: str, path: Path) -> tuple[Points, dict[str, np.ndarray], str]:
    """Distinct configurations of a file and what was measured of each, missing as NaN."""
    rows = [
        row for row in read_rows(path) if row["metric"] not in ("tpot_p50", "ttft_p50", "total_throughput")
    ]
    if source not in ("trtllm", "mlenergy"):
        rows = [row for row in rows if row["metric"] != "output_throughput"]
    points, _, _ = points_of(at, rows)
    points = select(points, np.flatnonzero(points.told.prefill_replicas == 0))
    measured: dict[str, dict[str, float]] = {}
    first: dict[str, int] = {}
    for i, (config, quantity) in enumerate(zip(points.labels["config_id"], points.quantity, strict=True)):
        first.setdefault(config, i)
        measured.setdefault(config, {})[str(quantity)] = float(points.measured[i])
    seen: dict[tuple[object, ...], str] = {}
    for config, i in first.items():
        values = tuple(sorted((name, round(value, 7)) for name, value in measured[config].items()))
        layout = tuple(float(field[i]) for field in (*points.setup[:3], *points.load[:3]))
        seen.setdefault((points.labels["model"][i], points.labels["gpu"][i], layout, values), config)
    kept = list(seen.values())
    index = np.array([first[config] for config in kept], dtype=np.intp)
    table = {key: np.full(len(kept), np.nan) for key in MEASURED}
    for j, config in enumerate(kept):
        found = measured[config]
        table["pace"][j] = found.get("tpot", found.get("step", 1.0 / found.get("throughput", np.nan)))
        table["ttft"][j] = found.get("ttft", np.nan)
        table["e2e"][j] = found.get("e2e", np.nan)
        table["rate"][j] = found.get("throughput", np.nan)
        if "ttft" in found and "tpot" in found and "e2e" not in found:
            table["e2e"][j] = found["ttft"] + (points.load.osl[first[config]] - 1) * found["tpot"]
    return select(points, index), table, source


def _joined(parts: list[Points]) -> Points:
    def fields_of(rows: list[tuple[object, ...]]) -> list[np.ndarray]:
        return [np.concatenate(values) for values in zip(*rows, strict=True)]  # type: ignore[arg-type]

    def fields(one: tuple[object, ...]) -> list[np.ndarray]:
        return [np.concatenate(values) for values in zip(*one, strict=True)]  # type: ignore[arg-type]

    first = parts[0]
    return Points(
        type(first.arch)(*fields(tuple(p.arch for p in parts))),
        type(first.gpu)(*fields(tuple(p.gpu for p in parts))),
        type(first.setup)(*fields(tuple(p.setup for p in parts))),
        first.constants._replace(
            **{name: np.concatenate([getattr(p.constants, name) for p in parts]) for name in TOLD}
        ),
        type(first.load)(*fields(tuple(p.load for p in parts))),
        np.concatenate([p.quantity for p in parts]),
        np.concatenate([p.measured for p in parts]),
        {key: [one for p in parts for one in p.labels[key]] for key in first.labels},
        [one for p in parts for one in p.precisions],
        Told(*fields_of([p.told[:6] for p in parts]), first.told.prefill, first.constants, first.gpu),
    )


def _part(points: Points, index: np.ndarray) -> Points:
    """Some of joined points: what is not of every row (constants, pools apart) stays as it is."""
    size = len(points.measured)

    def some(fields: tuple[object, ...]) -> list[object]:
        return [one[index] if isinstance(one, np.ndarray) and len(one) == size else one for one in fields]

    return points._replace(
        arch=type(points.arch)(*some(points.arch)),
        gpu=type(points.gpu)(*some(points.gpu)),
        setup=type(points.setup)(*some(points.setup)),
        constants=points.constants._replace(
            **{name: some((getattr(points.constants, name),))[0] for name in TOLD}
        ),
        load=type(points.load)(*some(points.load)),
        quantity=points.quantity[index],
        measured=points.measured[index],
        labels={key: [values[i] for i in index] for key, values in points.labels.items()},
        precisions=[points.precisions[i] for i in index],
        told=Told(*some(points.told[:6]), points.told.prefill, points.told.prefill_constants,
                  points.told.prefill_gpu),
    )  # fmt: skip


def _kernels(
    at: CatalogAt, points: Points, stack: np.ndarray, *, of_others: bool = False
) -> dict[str, np.ndarray]:
    """The kernels' part of every constant, by the name of the kernel; ``of_others`` as if no own
    kernels of an accelerator had been timed."""
    cases = cases_of(at, points.labels["gpu"], points.precisions, points.arch, points.setup, list(stack))
    reader = Reader(at)
    if of_others:
        reader.families = dict.fromkeys(set(points.labels["gpu"]), ("kernel/any",))
    wanted = {term.kernel for terms in MADE.values() for term in terms if term.kernel}
    known: dict[object, dict[str, float]] = {}
    for case in cases:
        if case not in known:
            known[case] = {name: reader.kernel(case, name) for name in wanted}
    return {"": np.ones(len(cases)), **{n: np.array([known[c][n] for c in cases]) for n in wanted}}


def _fixed(at: CatalogAt) -> dict[str, float]:
    reader = Reader(at)
    return {name: reader.value(GENERIC, name) for name in (*PLAIN, "spread_eff")}


def weights(problem: Problem, inside: np.ndarray) -> np.ndarray:
    """Between every row and every family of every source counting the same."""
    key = np.char.add(problem.family.astype(str), problem.source.astype(str))
    names, which, counts = np.unique(key[inside], return_inverse=True, return_counts=True)
    assert len(names)
    found = counts[which] ** -0.25
    return np.asarray(found / found.mean())


def fit(problem: Problem, inside: np.ndarray) -> np.ndarray:
    """The parameters that fit the rows ``inside``, from the guesses and on until no parameter moves.

    It never starts at what other rows were fitted to: what those said would stay in where the loss is flat.
    """
    x = problem.start
    for _ in range(MOST_PASSES):
        before, x = x, improved(problem, inside, x)
        if np.abs(x - before).max() < STILL:
            return x
    print(f"  still moving by {np.abs(x - before).max():.3f} after {MOST_PASSES} passes", flush=True)
    return x


def improved(problem: Problem, inside: np.ndarray, start: np.ndarray, rounds: int = 25) -> np.ndarray:
    """Better parameters for the rows ``inside`` than ``start``, one stage after the other.

    Beside them every family has a level of its own, which is forgotten: a family that is faster or slower
    than the others at every load says nothing of the constants that all share.
    """
    x = start.copy()
    for stage, target, clip in (("step", "pace", 3.0), ("first", "ttft", 1.5)):
        rows = np.flatnonzero(inside & np.isfinite(problem.measured[target]))
        part = problem.at(rows)
        free = np.flatnonzero(problem.stage == stage)
        weight = weights(part, np.ones(len(rows), bool))
        offline = part.kind == "offline"
        families = part.family[:, None] == np.unique(part.family)[None, :]
        pull = PULL / problem.sigma[free]

        def trial(z: np.ndarray, x=x, free=free) -> np.ndarray:  # type: ignore[no-untyped-def]
            whole = x.copy()
            whole[free] = z[: len(free)]
            return whole

        def ratio(whole: np.ndarray, part=part, target=target) -> np.ndarray:  # type: ignore[no-untyped-def]
            return np.log(part.predicted(whole)[target] / part.measured[target])

        def errors(  # type: ignore[no-untyped-def]
            z: np.ndarray,
            ratio=ratio,
            trial=trial,
            free=free,
            families=families,
            target=target,
            offline=offline,
        ) -> np.ndarray:
            found = ratio(trial(z)) + families @ z[len(free) :]
            # An offline run says how loads compare, not how fast the engine is: its own level is free.
            if target == "pace" and offline.any():
                found[offline] -= np.median(found[offline])
            return found

        def residuals(  # type: ignore[no-untyped-def]
            z: np.ndarray, errors=errors, clip=clip, weight=weight, pull=pull, free=free
        ) -> np.ndarray:
            levels = z[len(free) :]
            pulled = pull * (z[: len(free)] - problem.start[free])
            # A level is as likely as one row's error of its size.
            return np.concatenate([np.clip(errors(z), -clip, clip) * weight, pulled, levels])

        def slopes(  # type: ignore[no-untyped-def]
            z: np.ndarray, ratio=ratio, trial=trial, errors=errors, part=part, free=free, families=families,
            weight=weight, pull=pull, clip=clip, offline=offline, target=target,
        ) -> np.ndarray:  # fmt: skip
            whole = trial(z)
            now = ratio(whole)
            lean = np.zeros((len(now), len(free) + families.shape[1]))
            lean[:, len(free) :] = families
            moved: dict[str, np.ndarray] = {}
            for column, j in enumerate(free.tolist()):
                name = problem.names[j]
                if not name.stack:
                    nudged = whole.copy()
                    nudged[j] += NUDGE
                    moved[name.constant] = (ratio(nudged) - now) / NUDGE
                # What a stack has of its own moves the rows of that stack alone, as much.
                own = part.mask[name.stack] if name.stack else 1.0
                lean[:, column] = moved[name.constant] * own
            if target == "pace" and offline.any():
                lean[offline] -= lean[offline].mean(axis=0)
            lean *= (weight * (np.abs(errors(z)) < clip))[:, None]
            return np.vstack([lean, np.diag(np.concatenate([pull, np.ones(families.shape[1])]))])

        scale = LOSS_SCALE if stage == "step" else 2 * LOSS_SCALE
        begin = np.concatenate([x[free], np.zeros(families.shape[1])])
        x[free] = least(residuals, slopes, begin, scale, rounds, ENOUGH)[: len(free)]
    return x


def shown(ratio: np.ndarray) -> str:
    """Errors of a group in words."""
    error = np.abs(ratio - 1.0)
    return (
        f"n {len(ratio):5} median {np.median(error):.3f} MAPE {error.mean():.3f} bias {np.median(ratio):.3f}"
    )


def report(problem: Problem, said: dict[str, np.ndarray], title: str) -> None:
    """Errors by source and quantity, and of silicon by family."""
    print(title)
    for target in ("pace", "ttft", "e2e"):
        ratio = said[target] / problem.measured[target]
        for source in dict.fromkeys(problem.source):
            here = (problem.source == source) & np.isfinite(ratio)
            if here.any():
                print(f"  {target:5} {source:20} {shown(ratio[here])}")
    ratio = said["pace"] / problem.measured["pace"]
    for source in ("silicon", "mlenergy", "trtllm"):
        for family in np.unique(problem.family):
            here = (problem.source == source) & (problem.family == family) & np.isfinite(ratio)
            if here.any():
                print(f"    {source:9} {family:16} {shown(ratio[here])}")
    here = (problem.source == "silicon") & (problem.gpu == "h100-sxm")
    print(f"    silicon   on H100          {shown(ratio[here])}", flush=True)


def held_out(problem: Problem, trained: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Predictions of each family by constants that had not seen it, and those constants by family."""
    said = {key: np.full(len(problem.stack), np.nan) for key in MEASURED}
    folds: dict[str, np.ndarray] = {}
    everyone = fit(problem, trained)
    for family in np.unique(problem.family):
        test = problem.family == family
        x = fit(problem, trained & ~test) if (test & trained).any() else everyone
        if (test & trained).any():
            folds[str(family)] = x
        found = problem.predicted(x)
        for key, values in said.items():
            values[test] = found[key][test]
    folds[""] = everyone
    return said, folds


def ratios_of(problem: Problem, said: dict[str, np.ndarray]) -> dict[str, Ratios]:
    """Ratios by spread. A time of a token is a pace; throughput is one over it where a load is offline."""
    said_of = problem.designs
    group = np.array(
        [
            f"load={kind}" if not said_of[gpu] else f"design={said_of[gpu]};load={kind}"
            for gpu, kind in zip(problem.gpu, problem.kind, strict=True)
        ]
    )
    out = {}
    for name, target in (("tpot", "pace"), ("ttft", "ttft"), ("e2e", "e2e"), ("throughput", "pace")):
        ratio = problem.measured[target] / said[target]
        some = np.isfinite(ratio) & ((problem.kind != "offline") | (name == "throughput"))
        if name == "throughput":
            life = problem.measured["e2e"] / said["e2e"]
            ratio = 1.0 / np.where(np.isfinite(life), life, ratio)
            rate = problem.measured["rate"] / said["rate"]
            ratio = np.where((problem.kind == "saturated") & np.isfinite(rate), rate, ratio)
            some = np.isfinite(ratio)
        if name == "tpot":
            # Of most static batches only the whole answer is known.
            life = problem.measured["e2e"] / said["e2e"]
            ratio = np.where((problem.kind == "static") & ~np.isfinite(ratio), life, ratio)
            some = np.isfinite(ratio) & (problem.kind != "offline")
        out[name] = Ratios(ratio[some], problem.family[some], group[some], problem.source[some])
    return out


def rows_of(problem: Problem, x: np.ndarray, subject: str, folds: Iterable[np.ndarray]) -> list[list[str]]:
    """Facts of one set of constants; low and high are the least and greatest over ``folds``."""
    out = []
    value = dict(zip(problem.names, x, strict=True))
    others = [dict(zip(problem.names, y, strict=True)) for y in folds]

    def of(table: dict[Name, float], name: Name) -> float:
        own = table[name] if name.stack else 0.0
        return float(np.exp(table[Name(name.constant, "")] + own))

    for name in problem.names:
        numbers = of(value, name)
        spread = [numbers, *(of(table, name) for table in others)]
        when = f"stack={name.stack}" if name.stack else ""
        if name.constant in ONLY and not name.stack:
            out.append([subject, name.constant, "", "0", *_rest(name.constant, "", "")])
            for stack in ONLY[name.constant]:
                out.append(
                    [
                        subject,
                        name.constant,
                        f"stack={stack}",
                        f"{numbers:.4g}",
                        *_rest(name.constant, f"{min(spread):.4g}", f"{max(spread):.4g}"),
                    ]
                )
            continue
        low, high = (f"{min(spread):.4g}", f"{max(spread):.4g}") if others else ("", "")
        out.append([subject, name.constant, when, f"{numbers:.4g}", *_rest(name.constant, low, high)])
    return out


def _rest(constant: str, low: str, high: str, note: str = "") -> list[str]:
    unit = "s" if constant.endswith("_s") else "1"
    read = ["", "", "perf-fit", "", date.today().isoformat(), "derived", "", note]
    return [unit, low if low != high else "", high if low != high else "", *read]


def spread_rows(ratios: dict[str, Ratios]) -> list[list[str]]:
    """Facts of the intervals: of all loads together, then of each group that has rows enough.

    Each of a group is there once more without every family in it: what that family is held against. By how
    much a group is widened is one number, of all of its families: what is held of a family is a little better
    than if it had no part in that (:func:`spreads.coverage` prints both).
    """
    out = []
    for name, found in ratios.items():
        closed = found.group == "load=closed"
        groups = [("", closed), *((str(one), found.group == one) for one in np.unique(found.group))]
        for group, inside in groups:
            families = np.unique(found.family[inside]) if group else ()
            wider = widening(found, inside) if inside.any() else 1.0
            for family in ("", *families):
                here = inside & (found.family != family)
                if here.sum() >= LEAST_OF_GROUP:
                    out.append(_spread(found, here, wider, f"{name}_ratio", group, str(family)))
    return out


def _spread(found: Ratios, here: np.ndarray, wider: float, name: str, group: str, family: str) -> list[str]:
    low, middle, high = tenths(found, here)
    low, high = middle * (low / middle) ** wider, middle * (high / middle) ** wider
    # What was fitted needs no further correction; a queue before a full pool is no better for one.
    moved = "static" in group or ("apart" in group and name != "ttft_ratio")
    note = "median and central 80 % of measured over predicted on families that the constants had not seen"
    when = ";".join(sorted([*filter(None, group.split(";")), *([f"without={family}"] if family else [])]))
    rest = _rest("ratio", f"{low:.4g}", f"{high:.4g}", note)
    return ["perf/interval", name, when, f"{middle if moved else 1.0:.4g}", *rest]


def untimed(
    at: CatalogAt, problem: Problem, said: dict[str, np.ndarray], x: np.ndarray
) -> dict[str, np.ndarray]:
    """What is said of held-out families as if their accelerators' kernels had not been timed."""
    other = copy(problem)
    other.kernels = _kernels(at, problem.points, problem.stack, of_others=True)
    own, others = problem.predicted(x), other.predicted(x)
    return {key: values * others[key] / own[key] for key, values in said.items()}


def untimed_rows(ratios: dict[str, Ratios]) -> list[list[str]]:
    """Facts of the intervals on accelerators that take the kernels of others: of a closed loop."""
    out = []
    for name, found in ratios.items():
        here = found.group == "load=closed"
        if here.any():
            wider = widening(found, here)
            out.append(_spread(found, here, wider, f"{name}_ratio", f"design={UNTIMED};load=closed", ""))
    return out


def unstated_rows(at: CatalogAt, path: Path) -> list[list[str]]:
    """Facts of what a row may be off that leaves its layout or its format to be assumed.

    They are the tenth and ninetieth percentile of what is said with everything stated over what is said with
    it left out, of rows that state it.
    """
    rows = [row for row in read_rows(path) if not is_apart(in_full(at, row))]
    stated = said_of(at, rows)
    out = []
    for what, blank in zip(
        UNSTATED, ({"tp": None, "n_gpu": None, "pp": None, "dp": None, "ep": None}, {"precision": ""}),
        strict=True,
    ):  # fmt: skip
        without = said_of(at, [{**row, **blank} for row in rows])
        without = {key: value for key, value in without.items() if key in stated}
        for name in ("tpot", "ttft", "e2e", "throughput"):
            # An answer and a throughput are off as far as the time of a token is.
            of = "ttft" if name == "ttft" else "tpot"
            found = [(stated[key] / value, key[2]) for key, value in without.items() if key[1] == of]
            many = np.array([ratio if name != "throughput" else 1.0 / ratio for ratio, _ in found])
            family = np.array([one for _, one in found])
            ratios = Ratios(many, family, np.full(len(many), ""), np.full(len(many), "silicon"))
            low, _, high = tenths(ratios, np.ones(len(many), bool))
            note = f"tenth and ninetieth percentile of what is said with the {what} over what is said without"
            rest = _rest("ratio", f"{min(low, 1.0):.4g}", f"{max(high, 1.0):.4g}", note)
            out.append(["perf/interval", f"unstated_{what}_ratio", f"quantity={name}", "1", *rest])
    return out


def said_of(at: CatalogAt, rows: list[dict[str, object]]) -> dict[tuple[str, str, str], float]:
    """What is said of every row that the model answers, by configuration, quantity and family."""
    points, _, _ = points_of(at, rows)
    keys = zip(points.labels["config_id"], points.quantity.tolist(), points.labels["family"], strict=True)
    return dict(zip(keys, predict(points).tolist(), strict=True))


def write(
    folder: Path,
    problem: Problem,
    folds: dict[str, np.ndarray],
    ratios: dict[str, Ratios],
    others: dict[str, Ratios],
) -> None:
    """Replace the fitted rows of ``perf.csv``; ``others`` are ratios as if no kernels had been timed."""
    path = folder / "perf.csv"
    with path.open(newline="") as file:
        head, *rows = list(csv.reader(file))
    spreads = [*spread_rows(ratios), *untimed_rows(others)]
    made = {(row[0], row[1], row[2]) for row in spreads}
    rows = [
        row
        for row in rows
        if not (row[0] == "perf/stack" and (row[1] in SHARES or row[1] == "fitted_without"))
        and (row[0], row[1], row[2]) not in made
        and not (row[0] == "perf/interval" and row[9] == "perf-fit")
    ]
    others = [x for family, x in folds.items() if family]
    rows += rows_of(problem, folds[""], "perf/stack", others) + spreads
    rows += [
        ["perf/stack", "fitted_without", f"family={family}", in_words(problem, x), "", *_rest("", "", "")[1:]]
        for family, x in folds.items()
        if family
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def write_apart(folder: Path, path: Path) -> None:
    """Add the intervals of pools that prefill apart and of what is not stated to ``perf.csv``."""
    at = Catalog.load(folder).at(date.today())
    points, _, _ = points_of(at, read_rows(path))
    points = select(points, np.flatnonzero(points.told.prefill_replicas > 0))
    value, family = points.measured / predict(points), np.array(points.labels["family"])
    ratios = {
        name: Ratios(
            value[here], family[here], *(np.full(here.sum(), one) for one in ("load=apart", "silicon"))
        )
        for name, here in ((name, points.quantity == name) for name in ("tpot", "ttft"))
    }
    for name, found in ratios.items():
        coverage(name, found)
    rows = [row for row in spread_rows(ratios) if row[2]]
    rows += [[row[0], "e2e_ratio", *row[2:]] for row in rows if row[1] == "tpot_ratio"]
    rows += unstated_rows(at, path)
    with (folder / "perf.csv").open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def in_words(problem: Problem, x: np.ndarray) -> str:
    """One set of constants as ``name=value`` and ``name@stack=value``."""
    found = []
    for _, name, when, value, *_ in rows_of(problem, x, "", ()):
        stack = when.removeprefix("stack=")
        found.append(f"{name}@{stack}={value}" if stack else f"{name}={value}")
    return " ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", type=Path, help="the folder of facts")
    args = parser.parse_args()
    at = Catalog.load().at(date.today())
    files = [(name, args.data / "perf" / f"{name}.parquet") for name in (*FITTED_FILES, *OTHER_FILES)]
    problem = Problem(at, files)
    trained = np.isin(problem.source, FITTED_FILES)
    said, folds = held_out(problem, trained)
    report(problem, problem.predicted(folds[""]), "fitted")
    report(problem, said, "held out")
    ratios = ratios_of(problem, said)
    for name, found in ratios.items():
        coverage(name, found)
    if args.write:
        others = ratios_of(problem, untimed(at, problem, said, folds[""]))
        write(args.write, problem, folds, ratios, others)
        write_apart(args.write, args.data / "perf" / "silicon.parquet")


if __name__ == "__main__":
    main()
