"""Ways to serve a quarter: everything on APIs, or one kind of replica beside them; each at any volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from isocost.fleet import Fleet, Standing
from isocost.ledger import FEMTO_PER_USD
from isocost.plan.make.build import Built, drafted, problem_of
from isocost.plan.make.draft import Draft, Serving, month_ledger, schedules
from isocost.plan.make.parts import api_alone, api_parts
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.standing import Standings, Volume
from isocost.plan.path.terms import Term, terms_of
from isocost.plan.solve.one_pool import by_committed, one_pool
from isocost.plan.solve.problem import Floats, Problem, Solution

LAUNCH = "launch of "
"""How the standing cost of a launch begins: a path pays it once, when it happens."""
MANY = 2
"""APIs that a way is named by; of more, the first and their number."""
MULTIPLES = (1.0, 4.0)
"""Volumes beside the last at which the cheapest set of APIs is looked for."""


@dataclass(frozen=True)
class Way:
    """One way to serve: what it needs launched, and its pool where it has one."""

    name: str
    draft: Draft
    kinds: frozenset[str]
    option: PoolOption | None = None
    problem: Problem | None = None
    terms: tuple[Term, ...] = ()

    @property
    def gpus(self) -> int:
        """Accelerators of a replica."""
        return 0 if self.option is None else self.option.pool.gpus


@dataclass(frozen=True)
class Priced:
    """A way in a quarter: its month beside what committed replicas cost, by how many of those there are.

    ``usd[c]`` with c committed replicas free of charge; ``standing_usd`` is in it.
    """

    usd: Floats
    standing_usd: float

    def least_usd(self) -> float:
        """The month with as many committed replicas as help."""
        return float(self.usd.min())


def ways_of(built: Built, stays: Draft, most: float) -> list[Way]:
    """Today's way, sets of APIs that are cheapest at some volume up to ``most``, and each proven pool."""
    prepared, planned = built.prepared, built.planned
    drafts: list[tuple[str, Draft]] = []
    if all(s.offer is not None and not s.offer.why_not for s in stays.servings):
        drafts.append(("as today", stays))
    if not built.draft.pools:
        drafts.append((_named(built.draft), built.draft))
    for draft in api_alone(prepared, planned):
        drafts.append((_named(draft), draft))
    for multiple in sorted({*MULTIPLES, most}):
        parts = api_parts(scaled(built, multiple).prepared, planned)
        if parts is not None:
            drafts.append((_named(parts.draft), replace(parts.draft)))
    found: dict[tuple[object, ...], Way] = {}
    for name, draft in drafts:
        key = tuple((s.case.stream.id, s.offer.api.id if s.offer else "", s.cached) for s in draft.servings)
        found.setdefault(key, Way(name, draft, _kinds(draft)))
    ways = list(found.values())
    proven = [
        option
        for option in built.options
        if option.pool.option != "slm" and any(not fit.why_not for fit in option.fits.values())
    ]
    for option in proven:
        problem = problem_of(prepared, planned, (option,), built.tables)
        solution = one_pool(problem, 0)
        if solution is not None:
            draft = pool_draft(built, option, solution)
            terms = tuple(terms_of(prepared.at, option))
            ways.append(Way(_named(draft), draft, _kinds(draft), option, problem, terms))
    seen: dict[str, int] = {}
    for i, way in enumerate(ways):
        seen[way.name] = seen.get(way.name, 0) + 1
        if seen[way.name] > 1:
            ways[i] = replace(way, name=f"{way.name} ({seen[way.name]})")
    return ways


def scaled(built: Built, multiple: float) -> Built:
    """The same traffic, so many times of it: hours weigh more."""
    prepared = built.prepared
    volume = Volume(*(part * multiple for part in prepared.volume))
    return replace(built, prepared=replace(prepared, volume=volume, weight_h=prepared.weight_h * multiple))


def _named(draft: Draft) -> str:
    """A way in a few words: an API once, with the manners in which it is used."""
    used: dict[str, list[str]] = {}
    for api in draft.apis:
        manners = used.setdefault(api.subject.removeprefix("api/"), [])
        manners += ["prompt cache"] if api.keeps_prefixes else ["batch"] if api.tier == "batch" else []
    apis = [f"{name} ({', '.join(how)})" if how else name for name, how in used.items()]
    if len(apis) > MANY:
        apis = [f"{len(apis)} APIs ({apis[0]} …)"]
    said = [*(option.pool.id.removeprefix("self/") for option in draft.pools), *apis]
    return " + ".join(said) + (", exact cache" if any(s.cached for s in draft.servings) else "")


def _kinds(draft: Draft) -> frozenset[str]:
    """What has to be launched before a way serves."""
    return frozenset(i.what for i in draft.fleet.standing if i.what.startswith(LAUNCH))


def pool_draft(built: Built, option: PoolOption, solution: Solution) -> Draft:
    """A solution with one pool as a draft."""
    servings = []
    for s, case in enumerate(built.planned):
        frac = {option.pool.id: solution.pool_frac[s, 0]} if solution.pool_frac[s, 0].any() else {}
        servings.append(Serving(case, case.best, frac, bool(case.cache_hit_frac.any())))
    fleet = Fleet(tuple(schedules(solution, (option,), {})))
    return drafted(built.prepared, servings, (option,), fleet)


def at_volume(way: Way, multiple: float, api_ratio: float, gpu_ratio: float) -> Problem:
    """A pool's problem in a quarter: loads and API bills grown, prices moved, committed replicas free."""
    assert way.problem is not None
    pool = way.problem.pools[0]
    spot = pool.spot_usd_per_h
    moved = replace(
        pool,
        held=0,
        on_demand_usd_per_h=pool.on_demand_usd_per_h * gpu_ratio,
        spot_usd_per_h=None if spot is None else spot * gpu_ratio,
        start_usd=pool.start_usd * gpu_ratio,
        reserved_usd_per_h=0.0,
    )
    return replace(
        way.problem,
        api_usd_per_h=way.problem.api_usd_per_h * (multiple * api_ratio),
        load_per_h=way.problem.load_per_h * multiple,
        pools=(moved,),
        fixed_usd_per_month=0.0,
    )


def priced(built: Built, way: Way, multiple: float, api_ratio: float, gpu_ratio: float) -> Priced:
    """A way in a quarter."""
    grown = scaled(built, multiple)
    if way.option is None:
        charges = month_ledger(built.prepared, way.draft)
        tokens = sum(c.amount_fusd for c in charges if c.account == "api-tokens") / FEMTO_PER_USD
        again = drafted(grown.prepared, way.draft.servings, (), Fleet())
        standing = standing_usd(again.fleet.standing)
        return Priced(np.array([tokens * multiple * api_ratio + standing]), standing)
    problem = at_volume(way, multiple, api_ratio, gpu_ratio)
    usd = by_committed(problem, 0)
    solution = one_pool(problem, 0)
    assert solution is not None
    pool = problem.pools[0]
    draft = pool_draft(scaled_volume(built, multiple), way.option, solution)
    care = pool.extra_usd_per_replica_h * float(solution.replicas[0] @ problem.weight_h)
    standing = standing_usd(draft.fleet.standing) - care
    return Priced(usd + standing, standing)


def scaled_volume(built: Built, multiple: float) -> Built:
    """The same with the volume that standing costs follow grown, hours as they are."""
    prepared = built.prepared
    volume = Volume(*(part * multiple for part in prepared.volume))
    return replace(built, prepared=replace(prepared, volume=volume))


def standing_usd(items: tuple[Standing, ...]) -> float:
    """Standing costs a month, launches apart."""
    return sum(i.usd_per_month for i in items if not i.what.startswith(LAUNCH))


def launch_usd(way: Way, built: Built) -> Mapping[str, float]:
    """What each launch that a way needs costs once."""
    at = built.prepared.at
    spread = Standings(at).spread()
    return {i.what: i.usd_per_month / spread for i in way.draft.fleet.standing if i.what.startswith(LAUNCH)}
