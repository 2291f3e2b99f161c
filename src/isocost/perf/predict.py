"""What a set-up does under a load: every quantity that benchmarks report, with an interval; anchors.

A load has a kind: ``closed`` keeps a number of requests in flight, ``saturated`` is the same with the
engine's own limit on sequences as that number, ``offline`` offers everything at once and lets the
cache limit it, ``static`` runs one batch from start to end. A kind has its own correction and its own
spread, found on families of models that the constants had not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.catalog import CatalogAt
from isocost.catalog.fact import parse_when, write_when
from isocost.errors import BadInput
from isocost.perf.arch import Arch, Floats
from isocost.perf.constants import Constants
from isocost.perf.hardware import Gpu
from isocost.perf.roofline import eager_s, step_s
from isocost.perf.setup import Setup
from isocost.perf.steady import PLAIN, ClosedLoop, Options, closed_loop, room_for

KINDS = ("closed", "saturated", "offline", "static")
QUANTITIES = ("tpot", "step", "ttft", "e2e", "throughput", "total_throughput")
TIMES = frozenset({"tpot", "step", "ttft", "e2e"})
SUBJECT = "perf/interval"
UNTIMED = "untimed"
"""The design, in groups of spreads, of an accelerator that takes the kernels of others."""
MEDIAN_OF_COUNT = 0.35
"""By how much the median of a Poisson count lies below its mean, for counts that are not small."""


class Load(NamedTuple):
    """``n`` loads of one replica: requests in flight (or in a batch), prompt and answer tokens, kinds."""

    concurrency: Floats
    isl: Floats
    osl: Floats
    kind: NDArray[np.str_]


class Prediction(NamedTuple):
    """Of one quantity, ``(n,)`` each: the median, and the central 80 % of what would be measured."""

    median: Floats
    low: Floats
    high: Floats


class Spread(NamedTuple):
    """Measured over predicted, as logarithms, ``(n,)`` each: median, tenth and ninetieth percentile."""

    middle: Floats
    low: Floats
    high: Floats


def load_of(concurrency: ArrayLike, isl: ArrayLike, osl: ArrayLike, kind: str = "closed") -> Load:
    """Loads of one kind; the arguments broadcast.

    Raises:
        BadInput: the kind is none of :data:`KINDS`.
    """
    if kind not in KINDS:
        raise BadInput(f"load {kind!r}", fix=f"Use {', '.join(KINDS)}")
    given = (np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (concurrency, isl, osl))
    many, isl, osl = np.broadcast_arrays(*given)
    return Load(many.copy(), isl.copy(), osl.copy(), np.full(many.shape, kind))


def quantities(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, load: Load, options: Options = PLAIN
) -> dict[str, Floats]:
    """Every quantity of :data:`QUANTITIES`, seconds or tokens a second of the replica, ``(n,)`` each.

    ``tpot`` is the mean time of a token after the first, ``step`` the median gap between tokens, ``ttft``
    the mean time to the first, ``e2e`` that of the whole answer, ``throughput`` counts answer tokens,
    ``total_throughput`` prompts too. ``options`` are what the engine is told: see
    :class:`isocost.perf.steady.Options`.
    """
    isl, osl = load.isl, np.maximum(load.osl, 1.0)
    loop = closed_loop(arch, gpu, setup, k, load.concurrency, isl, osl, options)
    is_static, is_offline = load.kind == "static", load.kind == "offline"
    per_rank = np.maximum(load.concurrency / setup.dp, 1.0)
    # A static batch prefills its prompts together, decodes with none arriving, and runs in turns if
    # the cache cannot hold it.
    mean = isl + 0.5 * osl
    room = np.maximum(room_for(arch, gpu, setup, k, isl, osl), 1.0)
    turns = np.maximum(load.concurrency / room, 1.0)
    before = k.first_token_s + eager_s(arch, k) + loop.decode_step_s
    static_first = before + per_rank * loop.prompt_s
    ttft = np.where(is_static, static_first, loop.ttft_s)
    tpot = np.where(is_static, loop.decode_step_s * turns, loop.tpot_s)
    e2e = ttft + np.maximum(osl - 1.0, 0.0) * tpot
    # Offline, prompts and answers of a full cache overlap: nothing waits but for the work itself.
    # Each stage of a pipeline fills other prompts meanwhile.
    prompts = np.maximum(loop.running / (setup.dp * setup.pp), 1.0) * k.prompt_share * loop.prompt_s
    work = osl * loop.decode_step_s + prompts
    tail = (
        0.0
        if np.isinf(options.requests).all()
        else _tail_s(arch, gpu, setup, k, loop.running, mean, osl)
        * loop.running
        / np.asarray(options.requests)
    )
    rate = np.where(is_static, load.concurrency * osl / e2e, loop.output_tok_per_s)
    rate = np.where(is_offline, loop.running * osl / (work + tail), rate)
    return {
        "tpot": tpot,
        "step": _median_step_s(setup, loop, osl),
        "ttft": ttft,
        "e2e": e2e,
        "throughput": rate,
        "total_throughput": rate * (isl + osl) / osl,
    }


def _tail_s(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, running: Floats, mean: Floats, osl: Floats
) -> Floats:
    """Time that a run of many requests loses at its end, when the last of them decode in a thinning batch.

    A batch that thins evenly takes as many steps as a full one, for half of its tokens: it loses half of what
    a step takes whatever its batch.
    """
    full = step_s(arch, gpu, setup, k, batch=running, context_tok=mean)
    half = step_s(arch, gpu, setup, k, batch=0.5 * running, context_tok=mean)
    return np.asarray(0.5 * osl * np.maximum(2.0 * half - full, 0.0))


def quantities_of(loop: ClosedLoop, load: Load) -> dict[str, Floats]:
    """Every quantity of :data:`QUANTITIES` of a closed loop that is solved already."""
    isl, osl = load.isl, np.maximum(load.osl, 1.0)
    rate = loop.output_tok_per_s
    return {
        "tpot": loop.tpot_s,
        "step": loop.decode_step_s,
        "ttft": loop.ttft_s,
        "e2e": loop.ttft_s + np.maximum(osl - 1.0, 0.0) * loop.tpot_s,
        "throughput": rate,
        "total_throughput": rate * (isl + osl) / osl,
    }


def spread_of(
    catalog_at: CatalogAt, quantity: Sequence[str], groups: Sequence[str], without: Sequence[str] = ()
) -> Spread:
    """How measurements lie about predictions of each quantity in each group (:func:`groups_of`).

    ``without`` names a family of models for each: where its measurements are among those that the spread was
    drawn from, the spread is that of the other families. What an accelerator without timings of its own adds
    is known of the load ``closed``: a spread of any other load is wider by the same ratio.

    Raises:
        UnknownFact: a quantity has no spread at all.
    """
    rows: dict[tuple[str, str, str], tuple[float, float, float]] = {}
    keys = list(zip(quantity, groups, without or [""] * len(groups), strict=True))
    for key in dict.fromkeys(keys):
        name = SPREADS[key[0]]
        load, *made = key[1].split()
        own: tuple[str, ...] = ()
        wider = (1.0, 1.0)
        if made and made[1] == UNTIMED:
            wider = _untimed(catalog_at, name)
        elif made:
            vendor, design = made
            own = (f"design={design};load={load}", f"load={load};vendor={vendor}", f"vendor={vendor}")
        whens = (*own, f"load={load}", "")
        if key[2]:
            whens = tuple(one for when in whens for one in (_without(when, key[2]), when))
        known = (catalog_at.find(SUBJECT, name, when) for when in whens)
        fact = next((one for one in known if one is not None), None) or catalog_at.fact(SUBJECT, name)
        low, middle, high = (math.log(one) for one in fact.ends)
        rows[key] = (middle, middle + wider[0] * (low - middle), middle + wider[1] * (high - middle))
    table = np.array([rows[key] for key in keys], dtype=np.float64).reshape(-1, 3).T
    return Spread(*np.ascontiguousarray(table))


def _untimed(catalog_at: CatalogAt, name: str) -> tuple[float, float]:
    """By how much the ends of a spread lie farther from its middle, in the logarithm, on an accelerator whose
    kernels nobody timed than on one whose were: never less."""
    ends = []
    for when in (f"design={UNTIMED};load=closed", "load=closed"):
        low, middle, high = (math.log(one) for one in catalog_at.fact(SUBJECT, name, when).ends)
        ends.append((middle - low, high - middle))
    (low, high), (usual_low, usual_high) = ends
    return max(low / usual_low, 1.0), max(high / usual_high, 1.0)


def _without(when: str, family: str) -> str:
    """The key of a spread that leaves a family out."""
    return write_when({**parse_when(when), "without": family})


SPREADS: Mapping[str, str] = {
    "tpot": "tpot_ratio",
    "step": "tpot_ratio",
    "ttft": "ttft_ratio",
    "e2e": "e2e_ratio",
    "throughput": "throughput_ratio",
    "total_throughput": "throughput_ratio",
}
"""The fact that holds measured over predicted of a quantity."""


def groups_of(catalog_at: CatalogAt, gpu_ids: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """The group of a load on an accelerator: its kind, then vendor and design where that is not NVIDIA's, or
    is a design of which a spread of its own is stated, or one whose kernels nobody timed."""
    made: dict[str, str] = {}
    for name in dict.fromkeys(gpu_ids):
        vendor, design = (
            catalog_at.text(f"gpu/{name}", "vendor"),
            catalog_at.find(f"gpu/{name}", "generation"),
        )
        other = f" {vendor} {design.value if design else vendor.lower()}"
        when = f"design={design.value if design else ''};load=closed"
        usual = vendor == "NVIDIA" and catalog_at.find(SUBJECT, SPREADS["tpot"], when) is None
        made[name] = "" if usual else other.replace("/", "-")
        if usual and not _is_timed(catalog_at, name):
            made[name] = f" {vendor} {UNTIMED}"
    return [f"{kind}{made[name]}" for name, kind in zip(gpu_ids, kinds, strict=True)]


def _is_timed(catalog_at: CatalogAt, gpu_id: str) -> bool:
    """Whether kernels of the accelerator were timed, or of one that has the same."""
    same = catalog_at.find(f"gpu/{gpu_id}", "kernels_of")
    timed = (f"kernel/{one}" for one in (gpu_id, str(same.value) if same else ""))
    return any(catalog_at.catalog.about(subject) for subject in timed)


def within(predicted: Floats, spread: Spread) -> Prediction:
    """The prediction with its interval: its median is moved by what measurements were found to be off."""
    scale = np.exp(np.stack([spread.middle, spread.low, spread.high]))
    return Prediction(predicted * scale[0], predicted * scale[1], predicted * scale[2])


def _median_step_s(setup: Setup, loop: ClosedLoop, osl: Floats) -> Floats:
    """The median gap between tokens: a bare step, until most steps carry a prompt."""
    prompts = np.maximum(loop.running / (setup.dp * setup.pp), 1.0) / osl
    return np.asarray(loop.decode_step_s + np.maximum(prompts - MEDIAN_OF_COUNT, 0.0) * loop.prompt_s)
