"""Our energy against measured power: tokens a second, watts and joules a token.

A file has the columns of :data:`COLUMNS`, one run a row: a model by name and counts of parameters, the
accelerators, the batch that ran, and what came out. Models whose shapes the catalog holds are computed
with them, others with a plausible decoder of as many parameters. Each row is compared in three metrics.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput, UnknownFact
from isocost.perf.arch import Floats, arch_of, model_id_of
from isocost.perf.coarse import (
    BY,
    SUBJECT,
    Machine,
    Shape,
    Step,
    alone_of,
    coarse_step,
    keys_of,
    pick,
    shape_of_arch,
    shape_of_counts,
)
from isocost.perf.energy import Power, power_frac, power_of
from isocost.perf.hardware import counted, gpu_id_of, gpu_of
from isocost.validate.kinds import Share, shares_by
from isocost.validate.peers import Peer, peers_of
from isocost.validate.stated import MOST, precision_kind
from isocost.validate.table import rows_of

COLUMNS = (
    "dataset", "task", "model_id", "total_params_b", "active_params_b", "precision", "gpu", "num_gpus",
    "tp", "ep", "dp", "avg_batch", "avg_output_tokens", "output_tok_per_s", "avg_power_w",
    "j_per_output_token",
)  # fmt: skip
TEXTS = frozenset({"dataset", "task", "model_id", "precision", "gpu"})
METRICS = ("tok_per_s", "j_per_tok", "power_w")
METRIC_WORDS: Mapping[str, str] = {"tok_per_s": "tok/s", "j_per_tok": "J/tok", "power_w": "W"}
RATIOS: Mapping[str, str] = {
    "tok_per_s": "tok_per_s_ratio", "j_per_tok": "j_per_tok_ratio", "power_w": "power_w_ratio",
}  # fmt: skip
"""The facts that hold measured over predicted, by metric."""
WITHOUT = "ours, model left out"
PASS_FRAC = 0.25
"""A row of a metric passes within a quarter, as for speed."""


class Runs(NamedTuple):
    """``n`` measured runs and what they ran on; ``measured`` holds (n,) by metric, nan where not stated."""

    shape: Shape
    machine: Machine
    batch: Floats
    osl: Floats
    tdp_w: Floats
    gpu: tuple[str, ...]
    stack: tuple[str, ...]
    task: tuple[str, ...]
    model: tuple[str, ...]
    family: tuple[str, ...]
    by_counts: NDArray[np.bool_]
    measured: Mapping[str, Floats]
    ids: tuple[str, ...]


class EnergyReport(msgspec.Struct, frozen=True):
    """How the energy did on a file: each row counts once a metric that it states."""

    rows: int
    runs: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]
    mape: float
    median: float
    covered: float
    by: dict[str, dict[str, Share]]
    peers: dict[str, list[Peer]]
    notes: tuple[str, ...]


def validate_energy(file: Path, catalog: Catalog | None = None) -> EnergyReport:
    """Predict every run of a file and compare.

    Raises:
        BadInput: the file is absent, lacks a column, or holds no row that the rules keep.
    """
    at = (catalog or Catalog.load()).at(date.today())
    rows = read_runs(file)
    runs, left_out = runs_of(at, rows)
    said = predict(at, runs)
    rules = {rule: len(METRICS) * count for rule, count in left_out.items()}
    unlimited = {m: np.isnan(runs.tdp_w) & np.isfinite(runs.measured[m]) for m in METRICS if m != "tok_per_s"}
    if count := int(sum(each.sum() for each in unlimited.values())):
        rules["accelerator's power limit not known"] = count
    never = np.zeros(len(runs.tdp_w), dtype=bool)
    errors, covers, metrics, index = [], [], [], []
    for metric in METRICS:
        here = np.flatnonzero(np.isfinite(runs.measured[metric]) & ~unlimited.get(metric, never))
        # What is said of a run and is no number is as wrong as can be: it fails.
        ratio = np.where(np.isfinite(said[metric]), runs.measured[metric] / said[metric], 0.0)
        low, high = interval_of_metric(at, metric, runs.stack)
        with np.errstate(divide="ignore"):
            errors.append(np.abs(1.0 / ratio[here] - 1.0))
        covers.append((ratio[here] >= low[here]) & (ratio[here] <= high[here]))
        metrics += [metric] * len(here)
        index.append(here)
    error, covered, at_row = np.concatenate(errors), np.concatenate(covers), np.concatenate(index)
    passed = error <= PASS_FRAC
    spoken = [METRIC_WORDS[metric] for metric in metrics]
    labels = {"metric": spoken} | {
        name: [f"{word}, {column[i]}" for word, i in zip(spoken, at_row.tolist(), strict=True)]
        for name, column in (("stack", runs.stack), ("gpu", runs.gpu))
    }
    by = shares_by(labels, error, covered, passed)
    joule = np.array([metric == "j_per_tok" for metric in metrics])
    families = {"family": [runs.family[i] for i in at_row[joule].tolist()]}
    by["J/tok by family"] = shares_by(families, error[joule], covered[joule], passed[joule])["family"]
    failed = [
        f"{runs.ids[i]}/{metric}"
        for metric, i, ok in zip(metrics, at_row.tolist(), passed, strict=True)
        if not ok
    ]
    return EnergyReport(
        len(error) + sum(rules.values()),
        len(rows),
        int(passed.sum()),
        tuple(failed),
        rules,
        float(error.mean()),
        float(np.median(error)),
        float(covered.mean()),
        by,
        {METRIC_WORDS[metric]: _beside(at, metric) for metric in METRICS},
        _notes(at, runs),
    )


def _beside(at: CatalogAt, metric: str) -> list[Peer]:
    """Others, and these constants where each model was answered by a fit without it, as the others were."""
    error, middle = (
        at.find(SUBJECT, name, f"metric={metric}") for name in ("left_out_mape", "left_out_median")
    )
    found = peers_of(at, "energy", metric)
    if error is not None and middle is not None:
        found.append(Peer(WITHOUT, float(error.value), float(middle.value)))
    return found


def _notes(at: CatalogAt, runs: Runs) -> tuple[str, ...]:
    def said(mape: float, median: float, metric: str) -> str:
        return f"{METRIC_WORDS[metric]} {mape:.1%} (median {median:.1%})"

    held = [
        said(
            at.number(SUBJECT, "left_out_mape", f"metric={metric}"),
            at.number(SUBJECT, "left_out_median", f"metric={metric}"),
            metric,
        )
        for metric in METRICS[:2]
    ]
    peers = [
        said(one.mape, one.median, metric) for metric in METRICS[:2] for one in peers_of(at, "energy", metric)
    ]
    without = " and ".join(
        f"{at.number(SUBJECT, 'left_out_mape', f'metric={metric};without=worst'):.1%}"
        for metric in METRICS[:2]
    )
    covered = [at.number(SUBJECT, "left_out_covered", f"metric={metric}") for metric in METRICS[:2]]
    inside = " and ".join(f"{one:.0%}" for one in covered)
    known = int((~runs.by_counts).sum())
    beside = f" A log-regression on the same rows: {', '.join(peers)}." if peers else ""
    return (
        f"{known:,} runs by the shapes of their model, {len(runs.batch) - known:,} by its counts.",
        "The constants were fitted to leaderboards v1 to v3; with each of their models left out in turn "
        f"the error was {', '.join(held)}; in the mean {without} without the twentieth of the runs that is "
        "furthest off. Intervals made without a run's family held "
        f"{inside}.{beside}",
    )


def read_runs(file: Path) -> list[dict[str, Any]]:
    """The rows of a file as dicts of :data:`COLUMNS`; numbers as floats or ``None``.

    Raises:
        BadInput: the file is absent, no table, or lacks a column.
    """

    def cell(name: str, text: str) -> str | float | None:
        if name in TEXTS:
            return text or None
        try:
            return float(text)
        except ValueError:
            return None

    return [{name: cell(name, row[name]) for name in COLUMNS} for row, _ in rows_of(file, COLUMNS)]


def runs_of(at: CatalogAt, rows: Sequence[Mapping[str, Any]]) -> tuple[Runs, Counter[str]]:
    """Rows as arrays, and a count of what each rule left out.

    Left out are rows without a batch, an answer's length, a number of accelerators or any positive
    measurement, formats that are none, and rows of accelerators that the catalog does not hold. What a row
    does not measure is compared in the metrics that it does.

    Raises:
        BadInput: no row is left.
    """
    left_out: Counter[str] = Counter()
    kept: list[tuple[Mapping[str, Any], str, tuple[float, ...], bool]] = []
    shapes: dict[tuple[object, ...], tuple[tuple[float, ...], bool]] = {}
    gpus: dict[str, str | None] = {}
    for row in rows:
        name = str(row["gpu"])
        if name not in gpus:
            gpus[name] = _gpu(at, name)
        gpu_id = gpus[name]
        rule = _rule(row, gpu_id)
        if rule is not None:
            left_out[rule] += 1
            continue
        key = (row["model_id"], row["total_params_b"], row["active_params_b"])
        if key not in shapes:
            shapes[key] = _shape(at, *key)
        assert gpu_id is not None
        kept.append((row, gpu_id, *shapes[key]))
    if not kept:
        why = "; ".join(f"{rule}: {count}" for rule, count in left_out.items()) or "the table has no row"
        raise BadInput(f"no row to compare ({why})", fix=f"It needs {', '.join(COLUMNS)}")
    return _arrays(at, kept), left_out


def _rule(row: Mapping[str, Any], gpu_id: str | None) -> str | None:
    if gpu_id is None:
        return "unknown accelerator"
    if not all(0 < (row[name] or 0) <= MOST for name in ("avg_batch", "avg_output_tokens")):
        return "batch or answer's length not stated"
    if not 1 <= (gpus_of(row) or 0) <= MOST:
        return "number of accelerators not stated"
    if precision_kind(row["precision"]) is None:
        return "format not known"
    if not any((row[name] or 0) > 0 for name in ("output_tok_per_s", "j_per_output_token", "avg_power_w")):
        return "no measured value"
    return None


def gpus_of(row: Mapping[str, Any]) -> float | None:
    """Accelerators of a row: as stated, as its accelerator's name counts them, or as its layout takes."""
    if row["num_gpus"] is not None:
        return float(row["num_gpus"])
    many, _ = counted(str(row["gpu"] or ""))
    if many is not None:
        return float(many)
    return None if row["tp"] is None else float(row["tp"]) * max(float(row["dp"] or 1.0), 1.0)


def _measured(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Tokens a second, joules a token and watts of a row; nan where neither stated nor made of the others."""
    rate, joule, watts = (
        float(row[name]) if (row[name] or 0) > 0 else np.nan
        for name in ("output_tok_per_s", "j_per_output_token", "avg_power_w")
    )
    joule = watts / rate if np.isnan(joule) else joule
    return rate, joule, rate * joule if not np.isnan(rate * joule) else watts


def _shape(at: CatalogAt, name: object, total_b: object, active_b: object) -> tuple[tuple[float, ...], bool]:
    """A model by its own shapes or those it was tuned from, else by counts, stated, in its name, or usual."""
    try:
        model = _tuned_from(at, str(name)) or model_id_of(at, str(name))
        found = shape_of_arch(arch_of(at, [model]))
        return tuple(float(field[0]) for field in found), False
    except UnknownFact:
        pass
    if not isinstance(total_b, float):
        stated = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", str(name).lower())
        total_b = float(stated.group(1)) if stated else at.number(SUBJECT, "params_unstated") / 1e9
    active = active_b if isinstance(active_b, float) else total_b
    return shape_of_counts(at, total_b * 1e9, min(active, total_b) * 1e9), True


def _tuned_from(at: CatalogAt, name: str) -> str | None:
    """The model whose shapes one of that name has, as it was tuned from it; ``None`` where none is known."""
    wanted = name.lower().rpartition("/")[2]
    for fact in at.each("model/", "tunes"):
        if wanted in str(fact.value).split("|"):
            return fact.subject.removeprefix("model/")
    return None


def _gpu(at: CatalogAt, name: str) -> str | None:
    """The accelerator of a name as drivers report it; one without its variant is the first of that name."""
    for tried in (name, name.partition(" ")[0], name.split()[-1] if name.split() else name):
        try:
            return gpu_id_of(at, tried)
        except UnknownFact:
            continue
    ids = sorted(fact.subject.removeprefix("gpu/") for fact in at.each("gpu/", "memory_bytes"))
    return next((one for one in ids if one.startswith(f"{name.lower()}-")), None)


def _arrays(at: CatalogAt, kept: Sequence[tuple[Mapping[str, Any], str, tuple[float, ...], bool]]) -> Runs:
    def column(name: str, default: float) -> Floats:
        return np.array([default if row[name] is None else float(row[name]) for row, *_ in kept])

    ids = [gpu_id for _, gpu_id, *_ in kept]
    gpu = gpu_of(at, ids)
    dtype = [_dtype(str(row["precision"] or "")) for row, *_ in kept]
    computes = [at.text(f"dtype/{name}", "computes_as") for name in dtype]
    rates = {"bf16": gpu.bf16_flop_per_s, "fp8": gpu.fp8_flop_per_s, "fp4": gpu.fp8_flop_per_s}
    flop = np.array([rates[kind][i] for i, kind in enumerate(computes)])
    measured = np.array([_measured(row) for row, *_ in kept]).reshape(-1, 3).T
    limits = [at.find(f"gpu/{one}", "tdp_w") for one in ids]
    dp = np.maximum(column("dp", 1.0), 1.0)
    models = tuple(str(row["model_id"]) for row, *_ in kept)
    families = {name: _family(at, name) for name in set(models)}
    return Runs(
        Shape(*np.array([shape for *_, shape, _ in kept]).T),
        Machine(
            np.array([gpus_of(row) for row, *_ in kept], dtype=np.float64), dp, column("ep", 1.0) > 1,
            gpu.memory_bytes_per_s, flop, gpu.bf16_flop_per_s,
            np.array([at.number(f"dtype/{name}", "bytes_per_element") for name in dtype]),
            np.array([name == "fp8" for name in dtype]), np.array([name != "bf16" for name in dtype]),
        ),
        column("avg_batch", np.nan), column("avg_output_tokens", np.nan),
        np.array([np.nan if one is None else float(one.value) for one in limits]),
        tuple(ids), tuple(_stack(str(row["dataset"])) for row, *_ in kept),
        tuple(re.sub(r"[^a-z0-9]+", "-", str(row["task"]).lower()) for row, *_ in kept),
        models, tuple(families[name] for name in models), np.array([flag for *_, flag in kept]),
        dict(zip(METRICS, measured, strict=True)),
        tuple(_id(row) for row, *_ in kept),
    )  # fmt: skip


def _dtype(precision: str) -> str:
    """The stored format of a row (``dtype/...``): as it is called, 16 bits where nothing is said."""
    kind = precision_kind(precision)
    if kind == "fp4" and "mx" in precision.lower():
        return "mxfp4"
    return "bf16" if kind in (None, "native") else str(kind)


def _stack(dataset: str) -> str:
    """``ML.ENERGY v2.0`` is stack ``v2``: leaderboards differ by the engine that they ran."""
    found = re.search(r"v(\d+)", dataset.lower())
    return f"v{found.group(1)}" if found else dataset.lower()


def _family(at: CatalogAt, name: str) -> str:
    """The catalog's family, else the publisher and the first word of the model's name."""
    try:
        return at.text(f"model/{_tuned_from(at, name) or model_id_of(at, name)}", "family")
    except UnknownFact:
        org, _, rest = name.lower().rpartition("/")
        return f"{org}/{re.split(r'[-_.0-9]', rest)[0]}"


def _id(row: Mapping[str, Any]) -> str:
    gpus = f"{row['num_gpus'] or 1:g}x{row['gpu']}"
    return f"{_stack(str(row['dataset']))}/{row['task']}/{row['model_id']}/{gpus}/{row['avg_batch']:g}"


def conditions_of(runs: Runs) -> dict[str, list[tuple[str, ...]]]:
    """What constants may be stated for, by the name of the condition: for each of ``n`` runs the values that
    will do, the best first."""
    gpus, narrow = runs.machine.gpus.tolist(), runs.machine.is_narrow.tolist()
    return {
        "gpu": [(one,) for one in runs.gpu],
        "stack": [(one,) for one in runs.stack],
        "task": [(one,) for one in runs.task],
        "alone": [
            alone_of(*each) for each in zip(runs.gpu, runs.task, runs.stack, gpus, narrow, strict=True)
        ],
        "": [()] * len(runs.gpu),
    }


def constants_of_runs(
    at: CatalogAt, runs: Runs, keys: Sequence[tuple[str, str]], values: Floats
) -> dict[str, Floats]:
    """The constants of every run, ``(n,)`` each, from ``values`` in the order of ``keys``."""
    wide = at.number("dtype/bf16", "bytes_per_element")
    wanted = conditions_of(runs)
    found = {name: values[pick(keys, name, wanted[by])] for name, by in BY.items()}
    found["wide_bytes"] = np.full(len(runs.gpu), wide)
    found["link_bytes_per_s"] = 0.5 * gpu_of(at, runs.gpu).link_bytes_per_s
    return found


def steps(at: CatalogAt, runs: Runs) -> Step:
    """The mean step of every run by the catalog's constants."""
    keys = keys_of(at)
    values = np.array([at.number(SUBJECT, name, when) for name, when in keys])
    return coarse_step(
        runs.shape, runs.machine, runs.batch, runs.osl, constants_of_runs(at, runs, keys, values)
    )


def predict(at: CatalogAt, runs: Runs) -> dict[str, Floats]:
    """Tokens a second, watts and joules a token of every run, ``(n,)`` by metric."""
    step = steps(at, runs)
    rate = runs.batch / step.step_s
    keys = list(zip(runs.gpu, runs.stack, runs.machine.is_narrow.tolist(), strict=True))
    known = {key: power_of(at, key[0], key[1], is_narrow=key[2]) for key in set(keys)}
    each = [known[key] for key in keys]
    power = Power(*(np.array([getattr(one, name) for one in each]) for name in Power._fields))
    share = power_frac(power, *step[1:])
    watts = share * runs.tdp_w * runs.machine.gpus
    return {"tok_per_s": rate, "j_per_tok": watts / rate, "power_w": watts}


def interval_of_metric(at: CatalogAt, metric: str, stack: Sequence[str]) -> tuple[Floats, Floats]:
    """The central 80 % of measured over predicted for each run, by its stack where that was measured."""
    bounds = {}
    for name in set(stack):
        fact = at.find(SUBJECT, RATIOS[metric], f"stack={name}") or at.fact(SUBJECT, RATIOS[metric])
        assert fact.low is not None
        assert fact.high is not None
        bounds[name] = (fact.low, fact.high)
    low, high = np.array([bounds[name] for name in stack]).T
    return low, high
