"""What failures of APIs do to a log under a plan: requests lost, waiting, attempts, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import Catalog, CatalogAt
from isocost.deployment import Pool
from isocost.ledger import FEMTO_PER_USD
from isocost.plan.written.attempts import Rows, Traffic, World
from isocost.plan.written.closed import Laid, Loop, lay, play_laid, traffics
from isocost.plan.written.ended import billed_fusd
from isocost.plan.written.failing import Rates, buckets_of, cut_in, faults_of, rates_of
from isocost.plan.written.file import PlanFile
from isocost.plan.written.rerun import Rerun
from isocost.replay.closed import Known, Replicas
from isocost.replay.faults import KINDS, Faults
from isocost.trace.schema import Trace

DRAWS = 21
"""Draws of what fails: an odd number has a middle one, and its third and nineteenth hold four in five."""
GIVEN_UP = 1 + KINDS.index("given up")
MOST_PLAYED = 250_000
"""Requests of routes that are played with failures: of a longer log every so many-th."""


class Band(msgspec.Struct, frozen=True):
    """The middle of the draws, and between what four in five of them lie."""

    value: float
    low: float
    high: float


class Up(msgspec.Struct, frozen=True):
    """Of one workload: requests that were not refused, the share of them that got an answer."""

    workload: str
    requests: int
    availability_frac: Band


class Rate(msgspec.Struct, frozen=True):
    """How an API is taken to fail. ``source`` of errors, ``outage_source`` of incidents: stated, measured (of
    ``calls`` in the log, of whose failed ones ``unnamed`` named no model) or published.

    ``error_frac`` of calls outside of incidents, ``outage_frac`` of all calls in incidents.
    """

    deployment: str
    source: str
    outage_source: str
    calls: int
    error_frac: float
    outage_frac: float
    limit: str
    unnamed: int


class Down(msgspec.Struct, frozen=True):
    """How much of the time a replica is supposed to be down; the replay does not play it.

    Ends of both take hours between stops and until it answers again at their better and at their worse end at
    once, which is wider than four in five.
    """

    deployment: str
    every_h: Band
    down_frac: Band


class Failures(msgspec.Struct, frozen=True):
    """A log under a plan whose APIs fail, in ``draws``.

    ``availability_frac`` of the requests that no guard refused got an answer, ``lost`` did not. ``usd``: what
    failures add in tokens to the requests that are answered, by trying again and elsewhere; ``unpaid_usd``:
    what those that are lost would have cost. ``failed``: attempts that failed, by kind in the middle draw.
    Percentiles are of the requests that were answered and whose times are known.
    """

    draws: int
    requests: int
    availability_frac: Band
    lost: Band
    usd: Band
    unpaid_usd: Band
    failed: Band
    kinds: dict[str, int]
    ttft_p95_s: Band | None
    e2e_p95_s: Band | None
    workloads: list[Up]
    rates: list[Rate]
    replicas: list[Down] = []


def down_frac(gpus: int, failure_every_h: float, restart_h: float) -> float:
    """Share of the time that a replica of so many accelerators is down: any of them stops it.

    >>> down_frac(1, 99.0, 1.0), down_frac(8, 100.0, 0.0)
    (0.01, 0.0)
    """
    return restart_h / (failure_every_h / gpus + restart_h)


def _downs(world: World) -> list[Down]:
    pools = {name: one for name, one in world.deployments.items() if isinstance(one, Pool)}
    return [down(world.at, name, one.gpus) for name, one in pools.items()]


def down(at: CatalogAt, name: str, gpus: int) -> Down:
    """How much of the time a replica of so many accelerators is supposed to be down."""
    often, every, seldom = at.fact("replica/any", "failure_every_h").ends
    quick, restart, slow = at.fact("replica/any", "restart_h").ends
    shares = [down_frac(gpus, *pair) for pair in ((every, restart), (seldom, quick), (often, slow))]
    return Down(name, Band(every / gpus, often / gpus, seldom / gpus), Band(*shares))


Paid = list[npt.NDArray[np.float64]]
"""Of each loop, what its requests cost in tokens (n,), in dollars."""


def paid_usd(loops: Sequence[Loop]) -> Paid:
    """What each request cost in tokens, all its attempts together."""
    out = []
    for loop in loops:
        i, q = np.nonzero((loop.found.deployment >= 0) & (loop.found.begin_ps >= 0))
        fusd = billed_fusd(loop.found, loop.filled, i, q)
        usd: npt.NDArray[np.float64] = np.zeros(len(loop.rows))
        np.add.at(usd, i, fusd / FEMTO_PER_USD)
        out.append(usd)
    return out


def play_failures(
    world: World,
    laid: Sequence[Laid],
    rates: Mapping[str, Rates],
    play: Callable[[Laid, int, Faults], Loop],
    clean: Sequence[Paid],
    frac: float = 1.0,
) -> Failures | None:
    """Play loops with what fails; ``None`` where nothing in them may fail.

    ``play`` plays one loop in a draw (1 and on); ``clean`` is what that draw, or any, costs where nothing
    fails; ``frac`` of the log's requests are in the loops.
    """
    names = dict.fromkeys(name for one in laid for name in one.names if name in rates)
    if not names:
        return None
    buckets = buckets_of(rates, laid, frac)
    told: list[tuple[float, ...]] = []
    kinds, up = [], []
    for draw in range(1, DRAWS + 1):
        loops = [
            play(one, draw, faults_of(rates, one, draw, part))
            for one, part in zip(laid, buckets, strict=True)
        ]
        asked, lost, by = _lost(world, loops)
        more = unpaid = 0.0
        for loop, usd, usual in zip(loops, paid_usd(loops), clean[(draw - 1) % len(clean)], strict=True):
            gone = (loop.found.begin_ps[:, 0] >= 0) & (loop.served < 0)
            more += float((usd - usual)[~gone].sum())
            unpaid += float((usual - usd)[gone].sum())
        why = sum(
            (np.bincount(x.found.why.ravel(), minlength=GIVEN_UP + 1) for x in loops), np.zeros(GIVEN_UP + 1)
        )
        times = [np.concatenate([getattr(x, name) for x in loops]) for name in ("ttft_s", "e2e_s")]
        p95 = [float(np.percentile(x[~np.isnan(x)], 95)) if (~np.isnan(x)).any() else np.nan for x in times]
        told.append((1 - lost / max(1, asked), float(lost), more, unpaid, float(why[1:GIVEN_UP].sum()), *p95))
        kinds.append(why)
        up.append(by)
    columns = np.array(told)
    bands = [_band(column) for column in columns.T]
    middle = kinds[int(np.argsort(columns[:, 4], kind="stable")[DRAWS // 2])]
    waits = [None if np.isnan(column).any() else _band(column) for column in columns.T[5:7]]
    return Failures(
        draws=DRAWS,
        requests=asked,
        availability_frac=bands[0],
        lost=bands[1],
        usd=bands[2],
        unpaid_usd=bands[3],
        failed=bands[4],
        kinds={kind: int(middle[1 + k]) for k, kind in enumerate(KINDS)},
        ttft_p95_s=waits[0],
        e2e_p95_s=waits[1],
        workloads=_workloads(up),
        rates=[_rate(name, rates[name]) for name in names],
        replicas=_downs(world),
    )


def _lost(world: World, loops: Sequence[Loop]) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """Requests of which anything was asked, those without an answer, and both by workload."""
    by: dict[str, tuple[int, int]] = {}
    for loop in loops:
        asked = loop.found.begin_ps[:, 0] >= 0
        lost = asked & (loop.served < 0)
        for t, one in enumerate(loop.traffics):
            place: Rows = np.flatnonzero(loop.traffic == t)
            for s in np.unique(one.stream).tolist():
                mine = place[one.stream == s]
                name = world.streams[s].workload
                before = by.get(name, (0, 0))
                by[name] = before[0] + int(asked[mine].sum()), before[1] + int(lost[mine].sum())
    return sum(n for n, _ in by.values()), sum(k for _, k in by.values()), by


def _workloads(up: Sequence[Mapping[str, tuple[int, int]]]) -> list[Up]:
    rows = []
    for name in up[0]:
        shares = np.array([1 - by[name][1] / max(1, by[name][0]) for by in up])
        rows.append(Up(name, up[0][name][0], _band(shares)))
    return sorted(rows, key=lambda row: -row.requests)


def _band(column: npt.NDArray[np.float64]) -> Band:
    order = np.sort(column)
    return Band(float(order[DRAWS // 2]), float(order[DRAWS // 10]), float(order[-1 - DRAWS // 10]))


def _rate(name: str, rates: Rates) -> Rate:
    calls, unnamed = (0, 0) if rates.seen is None else (rates.seen.calls, rates.seen.unnamed)
    return Rate(
        name, rates.source, rates.outage_source, calls, rates.error.value, rates.outage.value, rates.limit,
        unnamed,
    )  # fmt: skip


def of_routes(trace: Trace, plan: PlanFile, catalog: Catalog, found: Rerun) -> Failures | None:
    """What failures of APIs do to a log under a plan of routes; ``None`` where no API answers.

    Pools answer as replayed. Of a long log every so many-th request is played, against smaller quotas.

    Raises:
        BadLimits: a stream that no route covers.
    """
    deployments = {each.id: each for each in plan.deployments}
    pools = {schedule.deployment: schedule for schedule in plan.fleet.pools}
    on = date.fromisoformat(plan.basis.priced_on)
    world = cut_in(World(catalog, on, trace, found.table, found.streams, deployments, pools, None), plan)
    parts = traffics(world, plan, with_policies=False)
    requests = sum(len(one.rows) for one in parts)
    step = -(-requests // MOST_PLAYED)
    thin = [Traffic(one.rule, *(column[::step] for column in one[1:])) for one in parts]
    frac = sum(len(one.rows) for one in thin) / max(1, requests)
    laid = [_as_replayed(one, found) for one in lay(world, thin)]
    clean = [paid_usd([play_laid(world, one, "most") for one in laid])]
    failures = play_failures(world, laid, rates_of(world, plan), simple(world), clean, frac)
    return failures if failures is None or step == 1 else _whole(failures, 1 / frac)


def _as_replayed(laid: Laid, found: Rerun) -> Laid:
    """The loop with pools that answer when the replay of the routes says."""
    times = np.stack([found.replayed.ttft_s[laid.rows], found.replayed.e2e_s[laid.rows]])
    known = np.rint(np.nan_to_num(times) * 1e12).astype(np.int64)
    answers = Known(known[0], np.maximum(known[0], known[1]))
    deployments: dict[str, Known | Replicas] = {
        name: answers if isinstance(one, Replicas) else one for name, one in laid.deployments.items()
    }
    return laid._replace(deployments=deployments)


def _whole(part: Failures, by: float) -> Failures:
    """What holds of one in ``by`` requests, for all."""
    bands = {name: _times(getattr(part, name), by) for name in ("lost", "usd", "unpaid_usd", "failed")}
    ups = [msgspec.structs.replace(one, requests=round(one.requests * by)) for one in part.workloads]
    kinds = {kind: round(count * by) for kind, count in part.kinds.items()}
    return msgspec.structs.replace(
        part, requests=round(part.requests * by), kinds=kinds, workloads=ups, **bands
    )


def _times(band: Band, by: float) -> Band:
    return Band(band.value * by, band.low * by, band.high * by)


def simple(world: World) -> Callable[[Laid, int, Faults], Loop]:
    """A way to play loops in which nothing is judged by lot."""
    return lambda one, _, faults: play_laid(world, one, "most", 1, faults)


def untimed_hedges(laid: Sequence[Laid]) -> list[str]:
    """What is not known of hedges: an answer whose time nothing says is taken to be there at once."""
    names: dict[str, None] = {}
    for one in laid:
        for rule in (part.rule for part in one.parts if part.rule.hedge is not None):
            for name in rule.deployments():
                if one.filled.e2e_unknown[:, one.names.index(name)].any():
                    names[name] = None
    if not names:
        return []
    return [f"Nothing says how fast {', '.join(names)} answers: a hedge takes it to be there at once"]
