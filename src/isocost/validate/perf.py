"""Our performance model against any file of measured serving speed.

The file has the columns ``model, gpu, n_gpu, tp, pp, ep, dp, precision, engine, engine_version, isl, osl,
concurrency_or_batch, load_kind, metric, value, unit, config_id``, one measurement a row. A row is left out
only by a named rule; a row that the model should answer and cannot is unanswered, which counts as failed.
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
from isocost.perf.arch import take as take_arch
from isocost.perf.constants import Constants, constants_for, stack_of
from isocost.perf.constants import take as take_constants
from isocost.perf.hardware import Gpu, gpu_id_of, gpu_of
from isocost.perf.hardware import take as take_gpu
from isocost.perf.memory import weight_bytes
from isocost.perf.named import Like, like_name, scaled
from isocost.perf.predict import Load, Prediction, groups_of, quantities, spread_of, within
from isocost.perf.setup import Precision, Setup, native_precision, precision_of, setup_of
from isocost.perf.setup import take as take_setup
from isocost.validate.kinds import Share, share_of, shares_by

T = TypeVar("T")
COLUMNS = (
    *("model", "gpu", "n_gpu", "tp", "pp", "ep", "dp", "precision", "engine", "engine_version", "isl", "osl"),
    *("concurrency_or_batch", "load_kind", "metric", "value", "unit", "config_id"),
)
OPTIONAL = frozenset({"ep", "engine_version"})
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
ENGINES_LEFT_OUT = frozenset({"llama.cpp"})
SECONDS: Mapping[str, float] = {"ms": 1e-3, "s": 1.0, "tok/s": 1.0}
PRECISIONS: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "fp16/bf16"), "bf16"),
    **dict.fromkeys(("fp4", "mxfp4", "nvfp4"), "fp4"),
    **dict.fromkeys(("fp8", "fp8_block", "fp8-block", "int8", "w8a8"), "fp8"),
    **dict.fromkeys(("int4", "w4a16", "awq", "gptq", "int4_wo"), "int4"),
}
UNIT_TOK = 1024


class Points(NamedTuple):
    """Measurements that the model answers: ``n`` rows with their set-up and load, ``(n,)`` each."""

    arch: Arch
    gpu: Gpu
    setup: Setup
    constants: Constants
    load: Load
    quantity: NDArray[np.str_]
    measured: Floats
    labels: Mapping[str, Sequence[str]]
    precisions: Sequence[Precision]


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
    said = answer(at, points)
    error = np.abs(said.median / points.measured - 1.0)
    covered = (points.measured >= said.low) & (points.measured <= said.high)
    passed = error <= PASS_FRAC
    failed = dict.fromkeys(
        [points.labels["config_id"][i] for i in np.flatnonzero(~passed).tolist()] + unanswered
    )
    every = share_of(error, covered, passed)
    labels = {name: points.labels[name] for name in ("metric", "gpu", "engine", "family")}
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
        shares_by(labels, error, covered, passed),
    )


def answer(catalog_at: CatalogAt, points: Points) -> Prediction:
    """What the model says of each point with its interval, in the unit of ``measured``."""
    groups = groups_of(catalog_at, points.labels["gpu"], points.load.kind.tolist())
    return within(predict(points), spread_of(catalog_at, points.quantity.tolist(), groups))


def predict(points: Points) -> Floats:
    """What the physics says of each point, in the unit of ``measured`` (seconds or tokens a second)."""
    every = quantities(points.arch, points.gpu, points.setup, points.constants, points.load)
    out = np.empty(len(points.measured))
    for name, values in every.items():
        here = points.quantity == name
        out[here] = values[here]
    return out


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
        held = {column[0] for column in found}
        missing = sorted(set(COLUMNS) - OPTIONAL - held)
        if missing:
            raise BadInput(f"no column {', '.join(missing)}", where=str(path))
        numbers = {"n_gpu", "tp", "pp", "ep", "dp", "isl", "osl", "concurrency_or_batch", "value"}
        parts = [
            f"null as {name}"
            if name not in held
            else f"try_cast({name} as double) as {name}"
            if name in numbers
            else f"cast({name} as varchar) as {name}"
            for name in COLUMNS
        ]
        rows = connection.execute(f"select {', '.join(parts)} from {reader}(?)", [str(path)]).fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def layout_of(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """``tp, pp, dp, ep`` of a row as the engine ran it.

    Collections of results write a set-up that spreads experts over its ``n`` accelerators in three more
    ways: tensor parallelism multiplied by the experts' (``tp = ep * ep``), copies of attention
    multiplied by them (``dp = ep * ep``), and both (``tp = dp``, ``ep = tp * dp``). Each is read back.
    """
    tp, pp, dp, ep = (float(row[name] or 1.0) for name in ("tp", "pp", "dp", "ep"))
    if ep > 1:
        tp = ep if tp == ep * ep else tp
        dp = ep if dp == ep * ep else dp
        if tp == dp and ep == tp * dp:
            ep, dp = tp, 1.0
    return tp, pp, dp, ep


def kind_of_load(row: Mapping[str, Any]) -> str:
    """The kind of a row's load: one of :data:`isocost.perf.predict.KINDS`."""
    kind = str(row["load_kind"]).lower()
    if "static" in kind:
        return "static"
    if "max throughput" in kind or "inf rate" in kind or "offline" in kind:
        return "offline"
    return "saturated" if "saturated" in kind else "closed"


def points_of(
    catalog_at: CatalogAt, rows: Iterable[Mapping[str, Any]]
) -> tuple[Points, Counter[str], list[str]]:
    """Rows as set-ups and loads, a count of what each rule left out, and the unanswered configurations.

    Unanswered are rows that the rules keep but whose weights alone exceed the memory.
    """
    find_model = _cached(lambda name: _model(catalog_at, name))
    find_gpu = _cached(lambda name: gpu_id_of(catalog_at, name))
    left_out: Counter[str] = Counter()
    kept: list[tuple[Mapping[str, Any], Like, str]] = []
    for row in rows:
        rule = _rule(row)
        model, gpu_id = find_model(str(row["model"])), find_gpu(str(row["gpu"]))
        if rule is None:
            rule = "unknown model" if model is None else "unknown accelerator" if gpu_id is None else None
        if rule is not None:
            left_out[rule] += 1
            continue
        assert model is not None
        assert gpu_id is not None
        kept.append((row, model, gpu_id))
    if not kept:
        raise BadInput(f"no row that the model answers ({dict(left_out)})")
    points = _points(catalog_at, kept)
    fit = weight_bytes(points.arch, points.setup) < points.gpu.memory_bytes
    unanswered = [points.labels["config_id"][i] for i in np.flatnonzero(~fit).tolist()]
    return select(points, np.flatnonzero(fit)), left_out, unanswered


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
    if PRECISIONS.get(str(row["precision"]).lower()) is None:
        return "precision not modelled"
    tp, pp, dp, _ = layout_of(row)
    if tp * pp * dp > LARGEST_REPLICA:
        return "more than 8 accelerators a replica"
    # A saturated engine's pace hardly depends on its prompts.
    if row["isl"] is None and METRICS[row["metric"]] != "step" and kind_of_load(row) != "saturated":
        return "input length not stated"
    if row["osl"] is None or row["osl"] < 1:
        return "output length not stated"
    if row["concurrency_or_batch"] is None and kind_of_load(row) != "offline":
        return "load not stated"
    return None


def _formats(catalog_at: CatalogAt, model_id: str, kind: str) -> Precision:
    """The formats that a file's precision means for a model; four-bit integers narrow experts where there
    are some, else all weights."""
    published = native_precision(catalog_at, model_id)
    if kind == "fp4" and published.experts == "int4":
        # As narrow as published, but floats: the vendor's own conversion.
        return published._replace(experts=kind)
    if kind != "int4":
        return precision_of(catalog_at, model_id, kind)
    is_mixture = catalog_at.find(f"model/{model_id}", "experts") is not None
    return published._replace(dense=published.dense if is_mixture else kind, experts=kind)


def _model(catalog_at: CatalogAt, name: str) -> Like | None:
    """The catalog's model of that name, else the nearest in the size that the name states."""
    try:
        return Like(model_id_of(catalog_at, name), 1.0, True)
    except UnknownFact:
        return like_name(catalog_at, name)


def _points(catalog_at: CatalogAt, kept: Sequence[tuple[Mapping[str, Any], Like, str]]) -> Points:
    unstated_tok = catalog_at.number("perf/benchmark", "unstated_input_tok")
    most = catalog_at.number("perf/benchmark", "most_sequences")
    drawn = catalog_at.number("perf/benchmark", "drawn_length_frac")
    precision = _cached(lambda key: _formats(catalog_at, key.partition(" ")[0], key.partition(" ")[2]))
    native = _cached(lambda model_id: native_precision(catalog_at, model_id).experts)
    stack = _cached(lambda key: stack_of(catalog_at, key.partition(" ")[0], key.partition(" ")[2]))
    model_ids = [model.model_id for _, model, _ in kept]
    ratio = np.array([model.ratio for _, model, _ in kept])
    arch = arch_of(catalog_at, model_ids)
    arch = arch if (ratio == 1.0).all() else scaled(arch, ratio)
    gpu_ids = [gpu_id for _, _, gpu_id in kept]
    gpu = gpu_of(catalog_at, gpu_ids)

    def column(name: str, default: float) -> Floats:
        return np.array([default if row[name] is None else float(row[name]) for row, _, _ in kept])

    formats: list[Precision] = []
    stacks: list[str] = []
    for (row, _, _), model_id in zip(kept, model_ids, strict=True):
        kind = PRECISIONS[str(row["precision"]).lower()]
        found = precision(f"{model_id} {kind}")
        assert found is not None
        name = stack(f"{row['engine']} {row['engine_version'] or ''}")
        assert name is not None
        stacks.append(name)
        # TensorRT-LLM's benchmarks keep the cache in fp8 beside fp8 or fp4 weights; others default to bf16.
        narrow = name.startswith("trtllm") and kind != "bf16"
        found = found._replace(cache="fp8") if narrow else found
        # Its own conversion of weights that are not published in fp8 has one scale a matrix.
        if narrow and found.experts == "fp8" and native(model_id) != "fp8":
            found = found._replace(experts="fp8-tensor")
        formats.append(found)
    families = [
        catalog_at.text(f"model/{model.model_id}", "family") if model.is_known else "by size"
        for _, model, _ in kept
    ]
    layouts = np.array([layout_of(row) for row, _, _ in kept]).T
    tp, pp, dp, ep = layouts
    setup = setup_of(catalog_at, gpu, formats, tp=tp, pp=pp, dp=dp, ep=ep)
    # Weights that no such layout holds ran on more accelerators than the row says: on the fewest that do.
    while (short := (weight_bytes(arch, setup) >= gpu.memory_bytes) & (tp * pp * dp < LARGEST_REPLICA)).any():
        tp = np.where(short, 2.0 * tp, tp)
        setup = setup_of(catalog_at, gpu, formats, tp=tp, pp=pp, dp=dp, ep=ep)
    kinds = np.array([kind_of_load(row) for row, _, _ in kept])
    isl, osl = column("isl", unstated_tok), column("osl", 1.0)
    # Lengths in whole units of 1,024 tokens name the longest that a benchmark draws.
    longest = (kinds == "closed") & (isl % UNIT_TOK == 0) & (osl % UNIT_TOK == 0)
    scale = np.where(longest, drawn, 1.0)
    seconds = np.array([SECONDS[str(row["unit"])] for row, _, _ in kept])
    return Points(
        arch,
        gpu,
        setup,
        constants_for(catalog_at, gpu_ids, formats, arch, setup, stacks, families),
        Load(column("concurrency_or_batch", most), isl * scale, osl * scale, kinds),
        np.array([METRICS[str(row["metric"])] for row, _, _ in kept]),
        column("value", np.nan) * seconds,
        {
            "metric": [str(row["metric"]) for row, _, _ in kept],
            "gpu": gpu_ids,
            "engine": [name.partition("-")[0] for name in stacks],
            "stack": stacks,
            "family": families,
            "model": model_ids,
            "config_id": [str(row["config_id"]) for row, _, _ in kept],
        },
        formats,
    )


def select(points: Points, index: NDArray[np.intp]) -> Points:
    """The points at ``index``, which may repeat."""
    load = points.load
    return Points(
        take_arch(points.arch, index),
        take_gpu(points.gpu, index),
        take_setup(points.setup, index),
        take_constants(points.constants, index),
        Load(load.concurrency[index], load.isl[index], load.osl[index], load.kind[index]),
        points.quantity[index],
        points.measured[index],
        {name: [labels[i] for i in index] for name, labels in points.labels.items()},
        [points.precisions[i] for i in index],
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
