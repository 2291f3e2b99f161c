"""What a public benchmark says of its own runs: layouts, pools and drafts that files of results leave out.

InferenceX lists what it runs (facts ``measured/<model>/<accelerator>.runs``); its results, as they are passed
on, name a model, an accelerator, an engine's version, lengths and the requests in flight, but not how many
accelerators prefill, or whether tokens were drafted. A row of a file is looked up in that list.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.catalog.fact import parse_when

_LAYOUT = r"tp(\d+) ep(\d+)( dp)?"
_POOLS = re.compile(rf"c([\d,]+) mtp(\d+) prefill (\d+) x {_LAYOUT} decode (\d+) x {_LAYOUT}")
_ONE = re.compile(rf"c([\d,]+) mtp(\d+) {_LAYOUT}")


class Layout(NamedTuple):
    """How many replicas of which parallelism; copied attention counts as ``dp``."""

    replicas: int
    tp: int
    dp: int
    ep: int

    @property
    def gpus(self) -> int:
        """Accelerators of all replicas."""
        return self.replicas * self.tp * self.dp


class Run(NamedTuple):
    """A set-up at some concurrencies: ``drafts_tok`` a step, ``prefill`` apart from ``decode`` or not."""

    version: str
    loads: tuple[int, ...]
    drafts_tok: int
    prefill: Layout | None
    decode: Layout


class Key(NamedTuple):
    """What the list is looked up by; ``family`` because names of one shape differ."""

    family: str
    gpu_id: str
    engine: str
    weights: str
    isl: int
    osl: int


class Wanted(NamedTuple):
    """What a row of results says of its run; ``None`` where it does not."""

    version: str
    load: float
    layout: Layout | None
    gpus: int | None


def runs_of(catalog_at: CatalogAt) -> Mapping[Key, Sequence[Run]]:
    """Every listed run by what a row of results states."""
    found: dict[Key, list[Run]] = defaultdict(list)
    for fact in catalog_at.each("measured/", "runs"):
        _, model_id, gpu_id = fact.subject.split("/")
        told = parse_when(fact.when)
        family = catalog_at.text(f"model/{model_id}", "family")
        key = Key(family, gpu_id, told["engine"], told["weights"], int(told["isl"]), int(told["osl"]))
        for words in str(fact.value).split(" | "):
            found[key].append(_run(told["version"], words))
    return found


def _run(version: str, words: str) -> Run:
    """
    >>> _run("1.0", "c4,8 mtp3 tp8 ep1").decode
    Layout(replicas=1, tp=8, dp=1, ep=1)
    >>> _run("1.0", "c64 mtp0 prefill 2 x tp4 ep4 dp decode 1 x tp16 ep16 dp").decode.gpus
    16
    """
    apart, one = _POOLS.fullmatch(words), _ONE.fullmatch(words)
    if apart:
        loads, drafts, many, *first, more = apart.groups()[:7]
        return Run(
            version, _loads(loads), int(drafts), _layout(many, *first), _layout(more, *apart.groups()[7:])
        )
    assert one is not None, words
    loads, drafts, *rest = one.groups()
    return Run(version, _loads(loads), int(drafts), None, _layout("1", *rest))


def _loads(words: str) -> tuple[int, ...]:
    return tuple(int(one) for one in words.split(","))


def _layout(replicas: str, tp: str, ep: str, spread: str | None) -> Layout:
    ranks = int(tp) if spread else 1
    return Layout(int(replicas), int(tp) // ranks, ranks, int(ep))


def drafts_of(runs: Sequence[Run], wanted: Wanted) -> int:
    """Tokens that a replica drafted a step: those of the listed runs that the row can be, if all drafted.

    0 where the list holds a plain run at the same version, layout and load: it can have been that one.
    """
    same = [run for run in runs if run.prefill is None and run.decode == wanted.layout]
    same = [run for run in same if int(wanted.load) in run.loads]
    same = [run for run in same if run.version == wanted.version] or same
    return min((run.drafts_tok for run in same), default=0)


def pools_of(runs: Sequence[Run], wanted: Wanted) -> list[Run]:
    """The listed runs with prefill apart that a row can be, nearest in load; empty where none is listed."""
    # One that lists no replica to decode on is one pool that does both.
    apart = [run for run in runs if run.prefill and run.decode.replicas and run.prefill.replicas]
    if wanted.gpus:
        apart = [run for run in apart if _gpus(run) == wanted.gpus]
    apart = [run for run in apart if run.version == wanted.version] or apart
    if not apart:
        return []
    far = [min(abs(np.log(load / max(wanted.load, 1.0))) for load in run.loads) for run in apart]
    return [run for run, one in zip(apart, far, strict=True) if one <= min(far) + 1e-9]


class Pools(NamedTuple):
    """A listed pair of pools: accelerators that prefill and that decode, at a load and lengths."""

    isl: float
    osl: float
    load: float
    prefill_gpus: float
    decode_gpus: float


def listed_pools(listed: Mapping[Key, Sequence[Run]]) -> Sequence[Pools]:
    """Every pair of pools that is listed, of any model: one for each load."""
    return [
        Pools(key.isl, key.osl, load, run.prefill.gpus, run.decode.gpus)
        for key, runs in listed.items()
        for run in runs
        if run.prefill and run.prefill.replicas and run.decode.replicas
        for load in run.loads
    ]


def usual_pools(pools: Sequence[Pools], isl: float, osl: float, load: float) -> tuple[float, float]:
    """Accelerators that prefill and that decode where a row's own pools are not listed.

    The middle of those of the nearest lengths, of the loads within a factor of two, else of the nearest load;
    one each where none is listed.

    >>> usual_pools([Pools(1024, 1024, 64, 4, 8), Pools(1024, 1024, 2048, 16, 24)], 1000, 1000, 1500)
    (16.0, 24.0)
    """
    if not pools:
        return 1.0, 1.0
    table = np.log(np.maximum(np.array(pools, dtype=np.float64), 1.0))
    apart = np.abs(table[:, :2] - np.log(np.maximum([isl, osl], 1.0))).sum(axis=1)
    table = table[apart <= apart.min() + 1e-9]
    far = np.abs(table[:, 2] - np.log(max(load, 1.0)))
    near = table[far <= max(np.log(2.0), float(far.min())) + 1e-9]
    prefill, decode = np.exp(np.median(near[:, 3:], axis=0))
    return round(float(prefill), 6), round(float(decode), 6)


def scripted(catalog_at: CatalogAt, attribute: str) -> Mapping[tuple[str, ...], str]:
    """What scripts tell an engine (``cache_dtype``, ``whole_experts``), by the first four of a key."""
    found: dict[tuple[str, ...], str] = {}
    for fact in catalog_at.each("measured/", attribute):
        _, model_id, gpu_id = fact.subject.split("/")
        told = parse_when(fact.when)
        family = catalog_at.text(f"model/{model_id}", "family")
        found[family, gpu_id, told["engine"], told["weights"]] = str(fact.value)
    return found


def polls_of(catalog_at: CatalogAt) -> Mapping[tuple[str, ...], Sequence[tuple[float, float]]]:
    """How often schedulers look for requests: (from which concurrency, steps) by the first four of a key."""
    found: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for fact in catalog_at.each("measured/", "poll_steps"):
        _, model_id, gpu_id = fact.subject.split("/")
        told = parse_when(fact.when)
        family = catalog_at.text(f"model/{model_id}", "family")
        key = (family, gpu_id, told["engine"], told["weights"])
        found[key].append((float(told["from"]), float(fact.value)))
    return found


def poll_steps_of(polls: Sequence[tuple[float, float]], load: float) -> float:
    """Steps between two looks for new requests at a concurrency; 1 where no script says otherwise.

    >>> poll_steps_of([(1, 10), (16, 30)], 4), poll_steps_of([(1, 10), (16, 30)], 64), poll_steps_of((), 64)
    (10, 30, 1.0)
    """
    return max(((start, steps) for start, steps in polls if load >= start), default=(0.0, 1.0))[1]


class Hold(NamedTuple):
    """An engine holds new prompts back for up to ``steps`` steps, so as to fill more of them together: from a
    load on, of some lengths (0 where of any), below a parallelism, or only where attention is copied."""

    steps: float
    load: float
    isl: float
    osl: float
    tp_below: float
    is_copied: bool


def holds_of(catalog_at: CatalogAt) -> Mapping[tuple[str, ...], Sequence[Hold]]:
    """What scripts say of holding prompts back, by the first four of a key."""
    found: dict[tuple[str, ...], list[Hold]] = defaultdict(list)
    for fact in catalog_at.each("measured/", "hold_steps"):
        _, model_id, gpu_id = fact.subject.split("/")
        told = parse_when(fact.when)
        family = catalog_at.text(f"model/{model_id}", "family")
        found[family, gpu_id, told["engine"], told["weights"]].append(
            Hold(
                float(fact.value),
                float(told.get("from", 1)),
                float(told.get("isl", 0)),
                float(told.get("osl", 0)),
                float(told.get("tp_below", np.inf)),
                told.get("attention") == "copied",
            )
        )
    return found


def held_steps(holds: Sequence[Hold], layout: Layout, load: float, isl: float, osl: float) -> float:
    """Steps that a prompt is held back in the mean; 0 where no script says so.

    The first to come waits for all the steps, those that come meanwhile for less: ``load / osl`` come a step.
    Where attention is copied the wait ends as soon as each copy has one.

    >>> hold = Hold(20.0, 1.0, 1024.0, 1024.0, 8.0, False)
    >>> [held_steps([hold], Layout(1, tp, 1, 1), 51.2, 1024, 1024) for tp in (4, 8)]
    [15.0, 0.0]
    """
    waits = [0.0]
    for hold in holds:
        is_meant = load >= hold.load and hold.isl in (0, isl) and hold.osl in (0, osl)
        if not is_meant or layout.tp * layout.dp >= hold.tp_below or (hold.is_copied and layout.dp <= 1):
            continue
        come = load / max(osl, 1.0)
        steps = min(hold.steps, layout.dp / come) if hold.is_copied else hold.steps
        waits.append(steps * (1.0 + 0.5 * come * steps) / (1.0 + come * steps))
    return max(waits)


class Flood(NamedTuple):
    """A script whose client offers ``offered`` requests at once whatever load is listed, of ``each`` for
    every seat of an engine that seats the listed load."""

    offered: float
    each: float


def floods_of(catalog_at: CatalogAt) -> Mapping[tuple[str, ...], Flood]:
    """Scripts that offer all requests at once, by the first four of a key."""
    offered, each = scripted(catalog_at, "offered_requests"), scripted(catalog_at, "requests_per_seat")
    return {key: Flood(float(value), float(each[key])) for key, value in offered.items()}


def seats_of(runs: Sequence[Run], flood: Flood | None, load: float) -> tuple[float, float]:
    """The seats of a row's engine and the requests in flight: ``(inf, 0)`` where the load is what it says.

    A load that no list holds, and that a script's client offered whatever was listed, went to an engine with
    one of the listed loads for seats: the middle of them, in ratios. Of ``each`` requests a seat that are
    offered at once the mean waits ``(each - 1) / 2`` turns, as in a loop with so many more in flight.

    >>> run = Run("1", (4, 8, 16), 0, None, Layout(1, 8, 1, 1))
    >>> seats_of([run], Flood(512.0, 10.0), 512.0), seats_of([run], Flood(512.0, 10.0), 16.0)
    ((8.0, 44.0), (inf, 0.0))
    """
    loads = sorted({one for run in runs if run.prefill is None for one in run.loads})
    if flood is None or load != flood.offered or load in loads or not loads:
        return np.inf, 0.0
    seats = round(float(np.exp(np.log(loads).mean())), 9)
    return seats, seats * (1.0 + 0.5 * (flood.each - 1.0))


def offline_requests(catalog_at: CatalogAt, row: Mapping[str, Any]) -> float:
    """How many requests an offline run offers in all: as its benchmark states, or as most do."""
    lengths = f"isl={int(row['isl'] or 0)};osl={int(row['osl'] or 0)}"
    found = catalog_at.find("perf/benchmark", "offline_requests", lengths)
    return float(found.value) if found else catalog_at.number("perf/benchmark", "offline_requests")


def seats_unstated(catalog_at: CatalogAt, stack: str, is_offline: bool) -> float:
    """Sequences that run at once where a row states none: as many as its engine's offline benchmark seats."""
    named = f"engine={stack.partition('-')[0]}" if is_offline else ""
    found = catalog_at.find("perf/benchmark", "most_sequences", named)
    return float(found.value) if found else catalog_at.number("perf/benchmark", "most_sequences")


def _gpus(run: Run) -> int:
    return run.decode.gpus + (run.prefill.gpus if run.prefill else 0)
