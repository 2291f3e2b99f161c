"""A way in a quarter: what its month costs by how many replicas are committed, and its schedule again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from isocost.fleet import Fleet
from isocost.plan.make.build import Built, drafted
from isocost.plan.make.draft import Draft, api_meters
from isocost.plan.market.offers import Case, Offer
from isocost.plan.path.hull import Line, envelope
from isocost.plan.path.way import Part, Way, launch_usd, pool_draft, standing_usd
from isocost.plan.solve.one_pool import by_committed, by_committed_within, one_pool
from isocost.plan.solve.problem import Floats, Problem, Solution, cost_of, emitted_kg

LATER_FRAC = 0.002
"""What putting work off must save at least, as a share of the month, to be worth its queue."""
KG_TRIES = 40
"""Doublings and halvings in the search for a price of emissions."""


@dataclass(frozen=True)
class How:
    """How a part runs: which of its problems (0: nothing put off), and what a kilogram of CO2e is charged."""

    problem: int = 0
    usd_per_kg: float = 0.0


@dataclass(frozen=True)
class Priced:
    """A way in a quarter: its month beside what committed replicas cost, by how many of those there are.

    ``parts[i][c]``: the i-th kind of replica and its streams with c of them committed, free of charge;
    ``how[i][c]`` is how it then runs. ``base_usd`` is all else: standing costs, and the APIs of a way
    without replicas. ``kg``: what the replicas emit in the month. ``more``: launches beyond the way's own,
    and what each costs.
    """

    parts: tuple[Floats, ...]
    base_usd: float
    kg: float = 0.0
    how: tuple[tuple[How, ...], ...] = ()
    more: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def hulls(self) -> tuple[list[Line], ...]:
        """Lines below each of the parts, by how many are committed."""
        return tuple(envelope(usd) for usd in self.parts)

    def least_usd(self) -> float:
        """The month with as many committed replicas as help."""
        return self.base_usd + sum(float(usd.min()) for usd in self.parts)

    def month_usd(self, committed: Sequence[int]) -> float:
        """The month with so many of each kind committed."""
        return self.base_usd + sum(float(u[n]) for u, n in zip(self.parts, committed, strict=True))


class Prices(NamedTuple):
    """A quarter: traffic and prices over today's, of makers' APIs, of hosts', of accelerators."""

    multiple: float = 1.0
    maker: float = 1.0
    host: float = 1.0
    gpu: float = 1.0

    def of(self, offer: Offer | None) -> float:
        """The price of an offer over today's: makers and hosts move apart."""
        return self.host if offer is not None and offer.api.option == "hosted" else self.maker


def moved(part: Part, which: int, cases: Sequence[Case], prices: Prices) -> Problem:
    """A part's problem in a quarter; ``which`` of its problems. ``cases``: the streams of its way."""
    ratio = np.array([[prices.of(cases[s].best)] for s in part.streams])
    return at_volume(part.problems[which], prices.multiple, ratio, prices.gpu)


def at_volume(problem: Problem, multiple: float, api_ratio: Floats | float, gpu_ratio: float) -> Problem:
    """A problem with loads and API bills grown, prices moved, and committed replicas free.

    ``api_ratio``: one, or (S, 1).
    """
    pool = problem.pools[0]
    spot = pool.spot_usd_per_h
    later = replace(
        pool,
        held=0,
        on_demand_usd_per_h=pool.on_demand_usd_per_h * gpu_ratio,
        spot_usd_per_h=None if spot is None else spot * gpu_ratio,
        start_usd=pool.start_usd * gpu_ratio,
        reserved_usd_per_h=0.0,
        fixed_usd_per_month=0.0,
    )
    return replace(
        problem,
        api_usd_per_h=problem.api_usd_per_h * (multiple * api_ratio),
        load_per_h=problem.load_per_h * multiple,
        pools=(later,),
        fixed_usd_per_month=0.0,
        most_kg=math.inf,
    )


def charged(problem: Problem, usd_per_kg: float) -> Problem:
    """The problem with what its replicas emit at a price."""
    if not usd_per_kg:
        return problem
    pool = problem.pools[0]
    care = pool.extra_usd_per_replica_h + usd_per_kg * pool.kg_per_replica_h
    return replace(problem, pools=(replace(pool, extra_usd_per_replica_h=care),))


def scheduled(part: Part, how: How, number: int, cases: Sequence[Case], prices: Prices) -> Solution | None:
    """A part's schedule in a quarter with so many committed."""
    problem = moved(part, how.problem, cases, prices)
    found = one_pool(charged(problem, how.usd_per_kg), 0, number)
    if found is None:
        return None
    usd = cost_of(problem, found)
    served = part.later[how.problem - 1].served if how.problem else None
    return replace(found, usd_per_month=usd, bound_usd=min(usd, found.bound_usd), served=served)


def priced(built: Built, way: Way, prices: Prices, most_kg: float = math.inf) -> Priced | None:
    """A way in a quarter; ``None`` where some stream then has nowhere to go.

    ``most_kg``: what its replicas may emit in the month; fewer of them run where that is too much.
    """
    if not way.parts:
        return _apis(built, way, prices)
    tables = [_by_committed(part, way.cases, prices) for part in way.parts]
    if any(table is None for table in tables):
        return None
    known = [table for table in tables if table is not None]
    plain = _plain(way, known, prices)
    kg = _kg(way, plain)
    if kg > most_kg:
        caps = _shares(way, known, prices, most_kg)
        held = [
            None if cap is None else _within(part, how[0].problem, way.cases, prices, cap)
            for part, (_, how), cap in zip(way.parts, known, caps, strict=True)
        ]
        if any(table is None for table in held):
            return None
        known = [table for table in held if table is not None]
        plain = _plain(way, known, prices)
        kg = _kg(way, plain)
    solutions = [one for one in plain if one is not None]
    if len(solutions) < len(way.parts):
        return None
    draft = pool_draft(built.prepared.heavier(prices.multiple), way, solutions)
    care = sum(
        part.problem.pools[0].extra_usd_per_replica_h * float(one.replicas[0] @ part.problem.weight_h)
        for part, one in zip(way.parts, solutions, strict=True)
    )
    return Priced(
        tuple(usd for usd, _ in known), standing_usd(draft.fleet.standing) - care, kg,
        tuple(how for _, how in known), _more(built, way, draft),
    )  # fmt: skip


def _more(built: Built, way: Way, draft: Draft) -> dict[str, float]:
    """Launches of a quarter's draft that the way did not need at today's volume."""
    return {kind: usd for kind, usd in launch_usd(draft, built).items() if kind not in way.kinds}


def _plain(
    way: Way, known: Sequence[tuple[Floats, tuple[How, ...]]], prices: Prices
) -> list[Solution | None]:
    """The schedules with nothing committed."""
    return [
        scheduled(part, how[0], 0, way.cases, prices) for part, (_, how) in zip(way.parts, known, strict=True)
    ]


def _apis(built: Built, way: Way, prices: Prices) -> Priced | None:
    """A way of APIs alone."""
    if any(serving.offer is None for serving in way.draft.servings):
        return None
    weight = built.prepared.weight_h
    tokens = sum(
        float(quantity @ weight) * price * prices.of(serving.offer)
        for serving in way.draft.servings
        for _, quantity, price, _ in api_meters(serving)
    )
    again = drafted(built.prepared.heavier(prices.multiple), way.draft.servings, (), Fleet())
    usd = tokens * prices.multiple + standing_usd(again.fleet.standing)
    return Priced((), usd, more=_more(built, way, again))


def _by_committed(part: Part, cases: Sequence[Case], prices: Prices) -> tuple[Floats, tuple[How, ...]] | None:
    """Least dollars by committed replicas, work put off where that saves enough."""
    best = by_committed(moved(part, 0, cases, prices), 0)
    if not len(best):
        return None
    which = np.zeros(len(best), np.int64)
    for i in range(1, len(part.problems)):
        other = by_committed(moved(part, i, cases, prices), 0)
        if not len(other):
            continue
        # More committed than it needs cost no more: they stay off.
        other = np.minimum.accumulate(other)
        other = np.concatenate([other, np.full(max(0, len(best) - len(other)), other[-1])])[: len(best)]
        saves = other < best * (1.0 - LATER_FRAC)
        best, which = np.where(saves, other, best), np.where(saves, i, which)
    return best, tuple(How(int(i)) for i in which)


def _kg(way: Way, solutions: Sequence[Solution | None]) -> float:
    return sum(
        emitted_kg(part.problem, one)
        for part, one in zip(way.parts, solutions, strict=True)
        if one is not None
    )


def _shares(
    way: Way,
    known: Sequence[tuple[Floats, tuple[How, ...]]],
    prices: Prices,
    most_kg: float,
) -> list[float | None]:
    """What each kind of replica may emit: what it does at the one price of a kilogram that holds them all."""
    if len(way.parts) == 1:
        return [most_kg]
    low, high = 0.0, 1e-3
    emitted: list[float] = []
    for _ in range(KG_TRIES):
        high *= 2.0
        emitted = _emitted(way, known, prices, high)
        if sum(emitted) <= most_kg:
            break
        low = high
    else:
        return [None] * len(way.parts)
    for _ in range(KG_TRIES // 4):
        middle = 0.5 * (low + high)
        found = _emitted(way, known, prices, middle)
        if sum(found) <= most_kg:
            high, emitted = middle, found
        else:
            low = middle
    rest = (most_kg - sum(emitted)) / len(emitted)
    return [kg + rest for kg in emitted]


def _emitted(
    way: Way,
    known: Sequence[tuple[Floats, tuple[How, ...]]],
    prices: Prices,
    usd_per_kg: float,
) -> list[float]:
    found = []
    for part, (_, how) in zip(way.parts, known, strict=True):
        one = scheduled(part, How(how[0].problem, usd_per_kg), 0, way.cases, prices)
        found.append(math.inf if one is None else emitted_kg(part.problem, one))
    return found


def _within(
    part: Part, which: int, cases: Sequence[Case], prices: Prices, most_kg: float
) -> tuple[Floats, tuple[How, ...]] | None:
    """The same with what the replicas emit held to a limit, as far as committed replicas leave it."""
    usd, per_kg = by_committed_within(moved(part, which, cases, prices), 0, most_kg)
    return (usd, tuple(How(which, float(price)) for price in per_kg)) if len(usd) else None
