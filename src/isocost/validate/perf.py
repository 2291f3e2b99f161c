"""Our performance model against any file of measured serving speed.

The file has the columns ``model, gpu, n_gpu, tp, pp, dp, precision, engine, isl, osl,
concurrency_or_batch, load_kind, metric, value, unit, config_id``, one measurement a row. A row is
left out only by a named rule; a row that the model should answer and cannot is unanswered, which
counts as failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput, UnknownFact
from isocost.perf.arch import Arch, Floats, arch_of, model_id_of
from isocost.perf.constants import Constants, constants_of, interval_of
from isocost.perf.hardware import Gpu, gpu_id_of, gpu_of
from isocost.perf.memory import cache_capacity_tok
from isocost.perf.setup import Precision, Setup, precision_of, setup_of
from isocost.perf.steady import ClosedLoop, closed_loop

T = TypeVar("T")
COLUMNS = (
    *("model", "gpu", "n_gpu", "tp", "pp", "dp", "precision", "engine", "isl", "osl"),
    *("concurrency_or_batch", "load_kind", "metric", "value", "unit", "config_id"),
)
PASS_FRAC = 0.25
LARGEST_REPLICA = 8
METRICS: Mapping[str, str] = {
    "tpot_mean": "tpot",
    "tpot_p50": "tpot",
    "itl_p50": "step",
    "ttft_mean": "ttft",
    "ttft_p50": "ttft",
    "TTFT Latency": "ttft",
    "e2e_mean": "e2e",
    "e2e_latency": "e2e",
    "output_throughput": "throughput",
    "total_throughput": "total_throughput",
}
INTERVALS: Mapping[str, str] = {"tpot": "tpot", "step": "tpot", "ttft": "ttft", "e2e": "tpot"}
ENGINES: Mapping[str, str] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "trtllm",
    "tensorrt-llm": "trtllm",
}
ENGINES_LEFT_OUT = frozenset({"llama.cpp"})
SECONDS: Mapping[str, float] = {"ms": 1e-3, "s": 1.0, "tok/s": 1.0}
PRECISIONS: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "fp16/bf16"), "bf16"),
    **dict.fromkeys(("fp4", "mxfp4", "nvfp4"), "fp4"),
    "fp8": "fp8",
}


class Points(NamedTuple):
    """Measurements that the model answers: ``n`` rows with their candidate, ``(n,)`` each."""

    arch: Arch
    gpu: Gpu
    setup: Setup
    concurrency: Floats
    isl: Floats
    osl: Floats
    is_static: NDArray[np.bool_]
    quantity: NDArray[np.str_]
    measured: Floats
    labels: Mapping[str, Sequence[str]]


class Share(msgspec.Struct, frozen=True):
    """Errors of one group: rows, mean and median absolute relative error, 80 % interval coverage."""

    rows: int
    mape: float
    median: float
    covered: float


class PerfReport(msgspec.Struct, frozen=True):
    """How the model did on a file.

    ``passed`` rows are within 25 %; ``failed`` names the configurations of the others, unanswered
    ones included; ``left_out`` counts rows by rule. ``by`` holds a :class:`Share` for each value of
    metric, gpu, engine and family.
    """

    path: str
    rows: int
    answered: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]
    mape: float
    median: float
    covered: float
    by: dict[str, dict[str, Share]]


def validate_perf(path: Path | str, catalog_at: CatalogAt | None = None) -> PerfReport:
    """Run the performance model over a measured file (CSV or Parquet) and report its errors.

    Raises:
        BadInput: the file is absent or lacks a column.
    """
    at = catalog_at or _today()
    rows = read_rows(Path(path))
    points, left_out, unanswered = points_of(at, rows)
    predicted = predict(points, engine_constants(at, points.labels["engine"]))
    ratio = points.measured / predicted
    error = np.abs(1.0 / ratio - 1.0)
    covered = np.zeros(len(ratio), dtype=bool)
    vendor = np.array([at.text(f"gpu/{gpu_id}", "vendor") for gpu_id in points.labels["gpu"]])
    for quantity, maker in sorted(set(zip(points.quantity.tolist(), vendor.tolist(), strict=True))):
        low, high = interval_of(at, INTERVALS.get(quantity, "throughput"), maker)
        here = (points.quantity == quantity) & (vendor == maker)
        covered |= here & (ratio >= low) & (ratio <= high)
    passed = error <= PASS_FRAC
    failed = dict.fromkeys(
        [points.labels["config_id"][i] for i in np.flatnonzero(~passed).tolist()] + unanswered
    )
    every = _share(error, covered, np.ones(len(error), dtype=bool))
    return PerfReport(
        str(path),
        len(rows),
        len(error),
        int(passed.sum()),
        tuple(failed),
        dict(left_out),
        every.mape,
        every.median,
        every.covered,
        {
            name: {
                value: _share(error, covered, np.array([label == value for label in points.labels[name]]))
                for value in sorted(set(points.labels[name]))
            }
            for name in ("metric", "gpu", "engine", "family")
        },
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a measured file as dicts of :data:`COLUMNS`, numbers as floats or ``None``.

    Raises:
        BadInput: the file is absent or lacks a column.
    """
    import duckdb

    if not path.is_file():
        raise BadInput("no such file", where=str(path))
    reader = "read_parquet" if path.suffix == ".parquet" else "read_csv_auto"
    with duckdb.connect() as connection:
        found = connection.execute(f"select * from {reader}(?) limit 0", [str(path)]).description or []
        missing = sorted(set(COLUMNS) - {column[0] for column in found})
        if missing:
            raise BadInput(f"no column {', '.join(missing)}", where=str(path))
        numbers = {"n_gpu", "tp", "pp", "dp", "isl", "osl", "concurrency_or_batch", "value"}
        parts = [
            f"try_cast({name} as double) as {name}"
            if name in numbers
            else f"cast({name} as varchar) as {name}"
            for name in COLUMNS
        ]
        rows = connection.execute(f"select {', '.join(parts)} from {reader}(?)", [str(path)]).fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def points_of(
    catalog_at: CatalogAt, rows: Iterable[Mapping[str, Any]]
) -> tuple[Points, Counter[str], list[str]]:
    """Rows as candidates, a count of what each rule left out, and the unanswered configurations.

    Unanswered are rows that the rules keep but whose weights, by our account, do not fit.
    """
    find_model = _cached(lambda name: model_id_of(catalog_at, name))
    find_gpu = _cached(lambda name: gpu_id_of(catalog_at, name))
    left_out: Counter[str] = Counter()
    kept: list[tuple[Mapping[str, Any], str, str]] = []
    for row in rows:
        rule = _rule(row)
        model_id, gpu_id = find_model(str(row["model"])), find_gpu(str(row["gpu"]))
        if rule is None:
            rule = "unknown model" if model_id is None else "unknown accelerator" if gpu_id is None else None
        if rule is not None:
            left_out[rule] += 1
            continue
        assert model_id is not None
        assert gpu_id is not None
        kept.append((row, model_id, gpu_id))
    if not kept:
        raise BadInput(f"no row that the model answers ({dict(left_out)})")
    points = _points(catalog_at, kept)
    k = constants_of(catalog_at)
    fit = cache_capacity_tok(points.arch, points.gpu, points.setup, k, points.isl) > 0
    unanswered = [points.labels["config_id"][i] for i in np.flatnonzero(~fit).tolist()]
    return _select(points, np.flatnonzero(fit)), left_out, unanswered


def engine_constants(catalog_at: CatalogAt, engines: Sequence[str]) -> Constants:
    """The constants, with those of each point's engine as arrays ``(n,)``."""
    each = {name: constants_of(catalog_at, name) for name in set(engines)}
    return constants_of(catalog_at, "")._replace(
        first_token_s=np.array([each[name].first_token_s for name in engines]),
        burst_frac=np.array([each[name].burst_frac for name in engines]),
    )


def predict(points: Points, k: Constants) -> Floats:
    """What the model says of each point, in the unit of ``measured`` (seconds or tokens a second)."""
    loop = closed_loop(points.arch, points.gpu, points.setup, k, points.concurrency, points.isl, points.osl)
    return predict_from(points, loop, k)


def predict_from(points: Points, loop: ClosedLoop, k: Constants) -> Floats:
    """The quantity of each point from the closed loop at its concurrency.

    A static batch prefills all its prompts at once and then decodes with none arriving.
    """
    from isocost.perf.roofline import prefill_s

    together = prefill_s(
        points.arch, points.gpu, points.setup, k, points.isl * points.concurrency / points.setup.dp
    )
    # The attention of prompts side by side does not grow with their number squared.
    single = prefill_s(points.arch, points.gpu, points.setup, k, points.isl)
    together = np.minimum(together, single * points.concurrency)
    static = points.is_static
    ttft = np.where(static, together, loop.ttft_s)
    tpot = np.where(static, loop.decode_step_s, loop.tpot_s)
    e2e = ttft + np.maximum(points.osl - 1.0, 0.0) * tpot
    rate = np.where(static, points.concurrency * points.osl / e2e, loop.output_tok_per_s)
    choices = {
        "tpot": tpot,
        "step": _median_step_s(points, loop),
        "ttft": ttft,
        "e2e": e2e,
        "throughput": rate,
        "total_throughput": rate * (points.isl + points.osl) / points.osl,
    }
    out = np.empty(len(points.measured))
    for name, values in choices.items():
        here = points.quantity == name
        out[here] = values[here]
    return out


def _median_step_s(points: Points, loop: ClosedLoop) -> Floats:
    """The median gap between tokens: a bare step, until most steps carry a prompt."""
    prompts = np.maximum(loop.running / points.setup.dp - 1.0, 0.0) / points.osl
    every = (loop.tpot_s - loop.decode_step_s) * np.maximum(1.0, 1.0 / np.maximum(prompts, 1e-9))
    return np.asarray(loop.decode_step_s + np.where(prompts > 0.5, every, 0.0))


def _rule(row: Mapping[str, Any]) -> str | None:
    kind = str(row["load_kind"])
    if row["metric"] not in METRICS or row["unit"] not in SECONDS:
        return "metric not modelled"
    if "disagg" in kind:
        return "prefill and decode on separate replicas"
    if row["value"] is None or not row["value"] > 0:
        return "no measured value"
    if row["tp"] is None:
        return "layout not stated"
    if row["engine"] in ENGINES_LEFT_OUT:
        return "engine that does not batch continuously"
    if PRECISIONS.get(str(row["precision"])) is None:
        return "precision not modelled"
    if (row["tp"] or 1) * (row["dp"] or 1) * (row["pp"] or 1) > LARGEST_REPLICA:
        return "more than 8 accelerators a replica"
    if row["isl"] is None and METRICS[row["metric"]] != "step":
        return "input length not stated"
    if row["osl"] is None or row["osl"] < 1:
        return "output length not stated"
    if row["concurrency_or_batch"] is None and "max throughput" not in kind:
        return "load not stated"
    return None


def _points(catalog_at: CatalogAt, kept: Sequence[tuple[Mapping[str, Any], str, str]]) -> Points:
    unstated_tok = catalog_at.number("perf/benchmark", "unstated_input_tok")
    most = catalog_at.number("perf/benchmark", "most_sequences")
    precision = _cached(
        lambda key: precision_of(catalog_at, key.partition(" ")[0], PRECISIONS[key.partition(" ")[2]])
    )
    arch = arch_of(catalog_at, [model_id for _, model_id, _ in kept])
    gpu = gpu_of(catalog_at, [gpu_id for _, _, gpu_id in kept])

    def column(name: str, default: float) -> Floats:
        return np.array([default if row[name] is None else float(row[name]) for row, _, _ in kept])

    formats: list[Precision] = []
    for row, model_id, _ in kept:
        found = precision(f"{model_id} {row['precision']}")
        assert found is not None
        # TensorRT-LLM's benchmarks keep the cache in fp8 beside fp8 or fp4 weights; others default to bf16.
        narrow = row["engine"] == "trtllm" and PRECISIONS[str(row["precision"])] != "bf16"
        formats.append(found._replace(cache="fp8") if narrow else found)
    setup = setup_of(
        catalog_at, gpu, formats, tp=column("tp", 1.0), pp=column("pp", 1.0), dp=column("dp", 1.0)
    )
    scale = np.array([SECONDS[str(row["unit"])] for row, _, _ in kept])
    return Points(
        arch,
        gpu,
        setup,
        column("concurrency_or_batch", most),
        column("isl", unstated_tok),
        column("osl", 1.0),
        np.array(["static" in str(row["load_kind"]) for row, _, _ in kept]),
        np.array([METRICS[str(row["metric"])] for row, _, _ in kept]),
        column("value", np.nan) * scale,
        {
            "metric": [str(row["metric"]) for row, _, _ in kept],
            "gpu": [gpu_id for _, _, gpu_id in kept],
            "engine": [ENGINES.get(str(row["engine"]).lower(), str(row["engine"])) for row, _, _ in kept],
            "family": [catalog_at.text(f"model/{model_id}", "family") for _, model_id, _ in kept],
            "config_id": [str(row["config_id"]) for row, _, _ in kept],
        },
    )


def _select(points: Points, index: NDArray[np.intp]) -> Points:
    return Points(
        Arch(*(field[index] for field in points.arch)),
        Gpu(*(field[index] for field in points.gpu)),
        Setup(*(field[index] for field in points.setup)),
        points.concurrency[index],
        points.isl[index],
        points.osl[index],
        points.is_static[index],
        points.quantity[index],
        points.measured[index],
        {name: [labels[i] for i in index] for name, labels in points.labels.items()},
    )


def _share(error: Floats, covered: NDArray[np.bool_], here: NDArray[np.bool_]) -> Share:
    if not here.any():
        return Share(0, float("nan"), float("nan"), float("nan"))
    return Share(
        int(here.sum()),
        float(error[here].mean()),
        float(np.median(error[here])),
        float(covered[here].mean()),
    )


def _cached(find: Callable[[str], T]) -> Callable[[str], T | None]:
    """``find`` remembered, with an unknown name as ``None``."""
    known: dict[str, T | None] = {}

    def look(name: str) -> T | None:
        if name not in known:
            try:
                known[name] = find(name)
            except UnknownFact:
                known[name] = None
        return known[name]

    return look


def _today() -> CatalogAt:
    from datetime import date

    return Catalog.load().at(date.today())
