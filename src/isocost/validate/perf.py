"""Our performance model against any file of measured serving speed.

The file has the columns ``model, gpu, n_gpu, tp, pp, ep, dp, precision, engine, engine_version, isl, osl,
concurrency_or_batch, load_kind, metric, value, unit, config_id``, one measurement a row. A row is left out
only by a named rule; a row that the model should answer and cannot is unanswered, which counts as failed.
"""

from __future__ import annotations

import math
import re
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
from isocost.perf.constants import Constants, constants_for, engine_of, stack_of
from isocost.perf.constants import take as take_constants
from isocost.perf.hardware import Gpu, gpu_id_of, gpu_of, joined
from isocost.perf.hardware import take as take_gpu
from isocost.perf.memory import cache_bytes_per_tok, weight_bytes
from isocost.perf.named import Like, like_name, model_within, scaled, size_of_name
from isocost.perf.pools import Side, two_pools
from isocost.perf.predict import (
    SPREADS,
    Load,
    Prediction,
    Spread,
    groups_of,
    quantities,
    quantities_of,
    spread_of,
    within,
)
from isocost.perf.roofline import decode_step_s, prefill_s
from isocost.perf.setup import Precision, Setup, native_precision, precision_of, setup_of
from isocost.perf.setup import take as take_setup
from isocost.perf.steady import Options, kept_tok
from isocost.validate.kinds import Share, share_of, shares_by
from isocost.validate.repeats import Repeat, repeat_notes, repeats_of, setups_of, stated_of
from isocost.validate.runs import (
    Key,
    Layout,
    Wanted,
    drafts_of,
    floods_of,
    held_steps,
    holds_of,
    listed_pools,
    offline_requests,
    poll_steps_of,
    polls_of,
    pools_of,
    runs_of,
    scripted,
    seats_of,
    seats_unstated,
    usual_pools,
)
from isocost.validate.stated import (
    LARGEST_REPLICA,
    METRICS,
    RATES,
    SECONDS,
    UNSTATED,
    assumed_notes,
    assumed_of,
    in_full,
    is_apart,
    is_drawn,
    kind_of_load,
    layout_of,
    precision_kind,
    read_rows,
    rule_of,
)  # fmt: skip

T = TypeVar("T")
PASS_FRAC = 0.25
MOST_GPUS = 1024
"""No layout grows beyond it: weights that this many accelerators cannot hold are unanswered."""
ASSUMED: Mapping[str, str] = {"layout": "unstated_layout_ratio", "format": "unstated_format_ratio"}
"""The fact that widens an interval where one of :data:`isocost.validate.stated.UNSTATED` is assumed."""
APART = ", prefill apart"
"""What is added to a metric of pools that prefill apart, so that they are counted for themselves."""


class Told(NamedTuple):
    """What engines were told beside their layout, ``(n,)`` each: see :class:`isocost.perf.steady.Options`.

    ``most_sequences`` run at once, inf where only the cache limits them. ``prefill_replicas`` is 0 where a
    replica does both; elsewhere ``prefill`` and its constants are those of the replicas that prefill, and
    ``decode_replicas`` of the set-up share the load.
    """

    drafts_tok: Floats
    poll_steps: Floats
    requests: Floats
    prefill_replicas: Floats
    decode_replicas: Floats
    most_sequences: Floats
    prefill: Setup
    prefill_constants: Constants
    prefill_gpu: Gpu

    def options(self, k: Constants) -> Options:
        """As an engine's options; drafts are kept as often as the constants say."""
        return Options(
            drafts_tok=self.drafts_tok,
            accepted_tok=kept_tok(self.drafts_tok, k.draft_kept_frac),
            poll_steps=self.poll_steps,
            requests=self.requests,
            most_sequences=self.most_sequences,
        )


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
    told: Told


class PerfReport(msgspec.Struct, frozen=True):
    """How the model did on a file.

    ``passed`` rows are within 25 %; ``failed`` names the configurations of the others, unanswered
    ones included; ``left_out`` counts rows by rule, ``notes`` say of how many a layout or format is assumed,
    and how far measurements of one set-up lie apart (``repeats``, by metric). ``by`` holds a :class:`Share`
    for each value of metric, gpu, engine and family.
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
    notes: tuple[str, ...] = ()
    repeats: dict[str, Repeat] = {}


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
    again = repeats_of(setups_of(points.labels), points.labels["metric"], points.measured, said.median)
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
        (*assumed_notes(points.labels["assumed"]), *repeat_notes(again)),
        again,
    )


def answer(catalog_at: CatalogAt, points: Points) -> Prediction:
    """What the model says of each point with its interval, in the unit of ``measured``.

    Where a family's measurements are among those that intervals were drawn from, its interval is that of the
    other families; what a row left to be assumed widens it.
    """
    groups = groups_of(catalog_at, points.labels["gpu"], points.load.kind.tolist())
    named = ["throughput" if one in RATES else str(one) for one in points.quantity]
    spread = spread_of(catalog_at, named, groups, points.labels["family"])
    return within(predict(points), assumed_spread(catalog_at, spread, named, points.labels["assumed"]))


def assumed_spread(
    catalog_at: CatalogAt, spread: Spread, quantity: Sequence[str], assumed: Sequence[str]
) -> Spread:
    """A spread made wider for rows with something ``assumed`` (``layout``, ``format``, both or nothing).

    Both parts of an error are independent, so that distances from the median add as squares.
    """
    low, high = spread.middle - spread.low, spread.high - spread.middle
    for what in UNSTATED:
        ends = {name: _unstated(catalog_at, what, name) for name in dict.fromkeys(quantity)}
        each = np.array(
            [ends[name] if what in one else (0.0, 0.0) for name, one in zip(quantity, assumed, strict=True)]
        )
        low, high = np.hypot(low, each[:, 0]), np.hypot(high, each[:, 1])
    return Spread(spread.middle, spread.middle - low, spread.middle + high)


def _unstated(catalog_at: CatalogAt, what: str, quantity: str) -> tuple[float, float]:
    """How far, in logarithms, a row may lie below and above what is said with something assumed."""
    fact = catalog_at.fact("perf/interval", ASSUMED[what], f"quantity={quantity_name(quantity)}")
    low, high = (float(fact.value) if end is None else end for end in (fact.low, fact.high))
    return max(-math.log(low), 0.0), max(math.log(high), 0.0)


def quantity_name(quantity: str) -> str:
    """The name that facts give a quantity: of a step and a time of a token the same."""
    return SPREADS[quantity].removesuffix("_ratio")


def predict(points: Points) -> Floats:
    """What the physics says of each point, in the unit of ``measured`` (seconds or tokens a second)."""
    told = points.told
    whole = (
        points.arch,
        points.gpu,
        points.setup,
        points.constants,
        points.load,
        told.options(points.constants),
    )
    every = quantities(*whole)
    apart = np.flatnonzero(told.prefill_replicas > 0)
    if len(apart):
        some = select(points, apart)
        pools = (
            Side(
                some.told.prefill_gpu,
                some.told.prefill,
                some.told.prefill_constants,
                some.told.prefill_replicas,
            ),
            Side(some.gpu, some.setup, some.constants, some.told.decode_replicas),
        )
        loop = two_pools(some.arch, *pools, *some.load[:3], some.told.options(some.constants))
        for name, values in quantities_of(loop, some.load).items():
            every[name][apart] = values
    every.update(_paces(points))
    out = np.empty(len(points.measured))
    for name, values in every.items():
        here = points.quantity == name
        out[here] = values[here]
    return out


def _paces(points: Points) -> dict[str, Floats]:
    """Tokens a second an accelerator of one pool alone: prompts one by one on every rank, or a batch."""
    whole = (points.arch, points.gpu, points.setup, points.constants)
    isl, gpus = points.load.isl, points.setup.gpus
    mean = isl + 0.5 * points.load.osl
    batch = points.load.concurrency
    return {
        "prefill_rate": points.setup.dp * isl / prefill_s(*whole, isl) / gpus,
        "decode_rate": batch / decode_step_s(*whole, batch, mean) / gpus,
    }


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
        row = {**in_full(catalog_at, row), "stated": stated_of(row)}
        rule = rule_of(row)
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
    """The catalog's model of that name, one that it was made from, or the nearest in the size it states."""
    try:
        return Like(model_id_of(catalog_at, name), 1.0, True)
    except UnknownFact:
        if (made_from := model_within(catalog_at, name)) is not None:
            return Like(made_from, 1.0, True)
        # Two names of one shape, as in DeepSeek-V3/R1.
        first, _, other = name.partition("/")
        known = like_name(catalog_at, name)
        return _model(catalog_at, first) if known is None and other and size_of_name(first) is None else known


def _points(catalog_at: CatalogAt, kept: Sequence[tuple[Mapping[str, Any], Like, str]]) -> Points:
    unstated_tok = catalog_at.number("perf/benchmark", "unstated_input_tok")
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

    families = [
        catalog_at.text(f"model/{model.model_id}", "family") if model.is_known else "by size"
        for _, model, _ in kept
    ]
    caches = scripted(catalog_at, "cache_dtype")
    is_mixture = _cached(lambda model_id: catalog_at.find(f"model/{model_id}", "experts") is not None)
    formats: list[Precision] = []
    stacks: list[str] = []
    for (row, _, gpu_id), model_id, family in zip(kept, model_ids, families, strict=True):
        kind = precision_kind(row["precision"]) or ""
        if kind == "native" and native(model_id) == "bf16":
            kind = "bf16"
        found = precision(f"{model_id} {kind}")
        assert found is not None
        # Where pools are joined, the version is that of what joins them: the engine is of that day.
        version = "" if is_apart(row) else row["engine_version"] or ""
        name = stack(f"{engine_of(str(row['engine'] or ''))} {version}")
        assert name is not None
        stacks.append(name)
        # TensorRT-LLM's benchmarks keep the cache in fp8 beside fp8 or fp4 weights; others default to bf16.
        narrow = name.startswith("trtllm") and kind != "bf16"
        script = (family, gpu_id, name.partition("-")[0], kind)
        if is_drawn(row) and any(key[:3] == script[:3] for key in caches):
            found = found._replace(cache=caches.get(script, "bf16"))
        elif narrow:
            found = found._replace(cache="fp8")
        # Its own conversion of weights that are not published in fp8 has one scale a matrix.
        if kind == "fp8" and native(model_id) != "fp8" and (narrow or not is_mixture(model_id)):
            found = Precision(per_matrix(found.dense), per_matrix(found.experts), found.cache)
        formats.append(found)
    kinds = np.array(["apart" if is_apart(row) else kind_of_load(row) for row, _, _ in kept])
    ran = _runs(catalog_at, kept, families, stacks)
    setup = _held(
        catalog_at, arch, gpu, formats, [one.decode for one in ran], np.array([one.pp for one in ran])
    )
    prefill = _held(catalog_at, arch, gpu, formats, [one.prefill or one.decode for one in ran])
    isl, osl = column("isl", unstated_tok), column("osl", 1.0)
    scale = np.where([is_drawn(row) for row, _, _ in kept], drawn, 1.0)
    drafts = np.array([one.drafts_tok for one in ran])
    offline = kinds == "offline"
    requests = np.where(offline, [offline_requests(catalog_at, row) for row, _, _ in kept], np.inf)
    # What a file states counts; an offline run seats as many as its engine does, on each copy of attention.
    seats = np.array([seats_unstated(catalog_at, *one) for one in zip(stacks, offline.tolist(), strict=True)])
    stated = column("concurrency_or_batch", np.nan)
    many = np.where(np.isnan(stated), np.where(offline, seats * setup.dp, seats), stated)
    many = np.minimum(many, requests)
    many = np.array([one.in_flight or load for one, load in zip(ran, many.tolist(), strict=True)])
    freed = catalog_at.number("perf/benchmark", "tuned_memory_frac")

    def roomy(k: Constants, layouts: Setup) -> Constants:
        """Memory as benchmarks give it: most of what is free, offline or where a default holds no request."""
        weights = weight_bytes(arch, layouts)
        tight = gpu.memory_bytes * k.memory_usable_frac - k.reserve_bytes - weights
        short = tight < cache_bytes_per_tok(arch, layouts, isl) * (isl + osl)
        share = 1.0 - (1.0 - freed) * (1.0 - weights / gpu.memory_bytes)
        return k._replace(memory_usable_frac=np.where(offline | short, share, k.memory_usable_frac))

    def constants(layouts: Setup) -> Constants:
        return constants_for(catalog_at, gpu_ids, formats, arch, layouts, stacks, families)

    seconds = np.array([SECONDS[str(row["unit"])] for row, _, _ in kept])
    network = catalog_at.number("perf/stack", "network_bytes_per_s")
    return Points(
        arch,
        joined(gpu, setup.gpus, network),
        setup,
        roomy(constants(setup), setup),
        Load(many, isl * scale, osl * scale, kinds),
        np.array([METRICS[str(row["metric"])] for row, _, _ in kept]),
        column("value", np.nan) * seconds,
        {
            "metric": [
                f"{row['metric']}{APART if kind == 'apart' else ''}"
                for (row, _, _), kind in zip(kept, kinds, strict=True)
            ],
            "gpu": gpu_ids,
            "engine": [engine_of(str(row["engine"] or "not stated")) for row, _, _ in kept],
            "stack": stacks,
            "family": families,
            "model": model_ids,
            "assumed": [assumed_of(row) for row, _, _ in kept],
            "config_id": [str(row["config_id"]) for row, _, _ in kept],
            "version": [str(row["engine_version"] or "") for row, _, _ in kept],
            "stated": [str(row["stated"]) for row, _, _ in kept],
        },
        formats,
        Told(
            drafts,
            np.array([one.poll_steps for one in ran]),
            requests,
            np.array([0.0 if one.prefill is None else float(one.prefill.replicas) for one in ran]),
            np.array([float(one.decode.replicas) for one in ran]),
            np.array([one.seats for one in ran]),
            prefill,
            roomy(constants(prefill), prefill),
            joined(gpu, prefill.gpus, network),
        ),
    )


def per_matrix(dtype: str) -> str:
    """The format that an engine's own conversion makes of weights: one scale a matrix."""
    return "fp8-tensor" if dtype == "fp8" else dtype


class Ran(NamedTuple):
    """How one row's set-up was run: layouts of its pools (``prefill`` is ``None`` where one does both).

    ``in_flight`` requests stand for the row's load where that is not what the engine was given; 0 elsewhere.
    """

    decode: Layout
    prefill: Layout | None
    pp: float
    drafts_tok: float
    poll_steps: float = 1.0
    seats: float = np.inf
    in_flight: float = 0.0


def _runs(
    catalog_at: CatalogAt, kept: Sequence[tuple[Mapping[str, Any], Like, str]], families: Sequence[str],
    stacks: Sequence[str],
) -> list[Ran]:  # fmt: skip
    """How each row was run: as it says, and where it does not say, as its benchmark lists its runs.

    Pools that no list holds are as large as listed ones are at such lengths and load, in replicas of eight.
    """
    listed, polls, floods = runs_of(catalog_at), polls_of(catalog_at), floods_of(catalog_at)
    holds, every_pool = holds_of(catalog_at), listed_pools(listed)
    whole = scripted(catalog_at, "whole_experts")
    since = catalog_at.number("perf/benchmark", "copies_since_version")

    def copies(stack: str, version: str, model_id: str) -> bool:
        """Whether offline runs copy attention, which the tables do not state."""
        number = re.match(r"~?(\d+(?:\.\d+)?)", version)
        is_new = stack.startswith("trtllm") and (number is None or float(number[1]) >= since)
        return is_new and catalog_at.find(f"model/{model_id}", "experts") is not None

    found = []
    for (row, model, gpu_id), family, stack in zip(kept, families, stacks, strict=True):
        tp, pp, dp, ep = layout_of(row)
        lengths = (int(row["isl"] or 0), int(row["osl"] or 0))
        key = Key(family, gpu_id, stack.partition("-")[0], precision_kind(row["precision"]) or "", *lengths)
        load, version = float(row["concurrency_or_batch"] or 1.0), str(row["engine_version"] or "")
        if not is_apart(row):
            layout = Layout(1, int(tp), int(dp), int(ep))
            if kind_of_load(row) == "offline" and tp > 1 and copies(stack, version, model.model_id):
                layout = Layout(1, 1, int(tp * dp), int(tp * dp))
            wanted = Wanted(version, load, layout, None)
            if is_drawn(row) and key[:4] in whole:
                layout = layout._replace(ep=int(tp * dp))
            drafts = float(drafts_of(listed.get(key, ()), wanted))
            seats, in_flight = seats_of(listed.get(key, ()), floods.get(key[:4]), load)
            # A look every n steps is as long a wait as half of n steps in the mean.
            polled = poll_steps_of(polls.get(key[:4], ()), load)
            polled += 2.0 * held_steps(holds.get(key[:4], ()), layout, load, *lengths)
            found.append(Ran(layout, None, pp, drafts, polled, seats, in_flight))
            continue
        gpus = None if row["tp"] is None else int(tp * dp * pp)
        pools = pools_of(listed.get(key, ()), Wanted(version, load, None, gpus))
        if pools:
            one = pools[0]
            found.append(Ran(one.decode, one.prefill, 1.0, float(one.drafts_tok)))
        else:
            fills, decodes = usual_pools(every_pool, *lengths, load)
            scale = gpus / (fills + decodes) if gpus else 1.0
            many = (max(round(scale * side / LARGEST_REPLICA), 1) for side in (decodes, fills))
            decode, prefill = (Layout(one, LARGEST_REPLICA, 1, 1) for one in many)
            found.append(Ran(decode, prefill, 1.0, 0.0))
    return found


def _held(
    catalog_at: CatalogAt, arch: Arch, gpu: Gpu, formats: Sequence[Precision], layouts: Sequence[Layout],
    pp: Floats | float = 1.0,
) -> Setup:  # fmt: skip
    """Layouts as set-ups. Weights that one cannot hold ran on more accelerators: on the fewest that do,
    beyond a replica's usual size if they have to."""
    _, tp, dp, ep = np.array(layouts, dtype=np.float64).T
    setup = setup_of(catalog_at, gpu, formats, tp=tp, pp=pp, dp=dp, ep=ep)
    while (short := (weight_bytes(arch, setup) >= gpu.memory_bytes) & (setup.gpus < MOST_GPUS)).any():
        tp = np.where(short, 2.0 * tp, tp)
        setup = setup_of(catalog_at, gpu, formats, tp=tp, pp=pp, dp=dp, ep=ep)
    return setup


def select(points: Points, index: NDArray[np.intp]) -> Points:
    """The points at ``index``, which may repeat."""
    load, told = points.load, points.told
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
        Told(
            told.drafts_tok[index],
            told.poll_steps[index],
            told.requests[index],
            told.prefill_replicas[index],
            told.decode_replicas[index],
            told.most_sequences[index],
            take_setup(told.prefill, index),
            take_constants(told.prefill_constants, index),
            take_gpu(told.prefill_gpu, index),
        ),
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
