"""Ways to serve a quarter: everything on APIs, or kinds of replica beside them; each at any volume."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isocost.fleet import Fleet, Standing
from isocost.keep.standing import Volume
from isocost.plan.make.build import Built, drafted, problem_of
from isocost.plan.make.draft import Draft, Serving, api_meters, schedules
from isocost.plan.make.parts import api_alone, api_parts
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.terms import Term, terms_of
from isocost.plan.solve.one_pool import by_committed, one_pool
from isocost.plan.solve.problem import Floats, Problem, Solution, emitted_kg

TODAY = "as today"
"""The way that changes nothing."""
MANY = 2
"""APIs that a way is named by; of more, the first and their number."""
MULTIPLES = (1.0, 4.0)
"""Volumes beside the last at which the cheapest set of APIs is looked for."""
PAIRS_MOST = 3
"""Ways with two kinds of replica, the cheapest at the largest volume."""


@dataclass(frozen=True)
class Part:
    """A kind of replica in a way: its problem over the streams that it takes part in, and its terms."""

    option: PoolOption
    problem: Problem
    streams: tuple[int, ...]
    terms: tuple[Term, ...] = ()

    @property
    def gpu(self) -> str:
        """The accelerator."""
        return self.option.pool.gpu

    @property
    def gpus(self) -> int:
        """Accelerators of a replica."""
        return self.option.pool.gpus


@dataclass(frozen=True)
class Way:
    """One way to serve: what it needs launched, and its kinds of replica where it has any.

    Each stream belongs to one part; what a part's replicas leave goes to the APIs.
    """

    name: str
    draft: Draft
    kinds: frozenset[str]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Priced:
    """A way in a quarter: its month beside what committed replicas cost, by how many of those there are.

    ``parts[i][c]``: the i-th kind of replica and its streams with c of them committed, free of charge;
    ``base_usd`` is all else: standing costs, and the APIs of a way without replicas. ``kg``: what the
    replicas emit in the month.
    """

    parts: tuple[Floats, ...]
    base_usd: float
    kg: float = 0.0

    def least_usd(self) -> float:
        """The month with as many committed replicas as help."""
        return self.base_usd + sum(float(usd.min()) for usd in self.parts)

    def month_usd(self, committed: Sequence[int]) -> float:
        """The month with so many of each kind committed."""
        return self.base_usd + sum(float(u[n]) for u, n in zip(self.parts, committed, strict=True))


def ways_of(built: Built, stays: Draft, most: float) -> list[Way]:
    """Today's way, sets of APIs that are cheapest at some volume up to ``most``, and proven replicas.

    Replicas one kind at a time, and two kinds that divide the streams between them.
    """
    prepared, planned = built.prepared, built.planned
    drafts: list[tuple[str, Draft]] = []
    if all(s.offer is not None and not s.offer.why_not for s in stays.servings):
        drafts.append((TODAY, stays))
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
    own = _own(built)
    ways += [way for option in own if (way := _way(built, [option], None)) is not None]
    pairs = [way for pair in itertools.combinations(own, 2) if (way := _pair(built, pair)) is not None]
    grown = {way.name: month for way in pairs if (month := priced(built, way, most, 1.0, 1.0)) is not None}
    ways += sorted((way for way in pairs if way.name in grown), key=lambda way: grown[way.name].least_usd())[
        :PAIRS_MOST
    ]
    return _apart(ways)


def _own(built: Built) -> list[PoolOption]:
    """Kinds of replica that some stream is proven on."""
    return [option for option in built.options if any(not fit.why_not for fit in option.fits.values())]


def _way(built: Built, options: Sequence[PoolOption], divided: Sequence[Sequence[int]] | None) -> Way | None:
    """Kinds of replica, each with its streams (``None``: all of them, of one kind)."""
    prepared, planned = built.prepared, built.planned
    parts = []
    for i, option in enumerate(options):
        streams = tuple(range(len(planned))) if divided is None else tuple(divided[i])
        whole = problem_of(prepared, planned, (option,), built.tables)
        rows = list(streams)
        problem = replace(
            whole,
            api_usd_per_h=whole.api_usd_per_h[rows],
            load_per_h=whole.load_per_h[rows],
            pool_usd_per_h=whole.pool_usd_per_h[rows],
            stream_ids=tuple(whole.stream_ids[s] for s in rows),
            wait_h=tuple(whole.wait_h[s] for s in rows) if whole.wait_h else (),
        )
        parts.append(Part(option, problem, streams, tuple(terms_of(prepared.at, option))))
    solutions = [one_pool(part.problem, 0) for part in parts]
    if any(solution is None for solution in solutions):
        return None
    made = Way("", built.draft, frozenset(), tuple(parts))
    draft = pool_draft(built, made, [s for s in solutions if s is not None])
    return Way(_named(draft), draft, _kinds(draft), tuple(parts))


def _pair(built: Built, pair: Sequence[PoolOption]) -> Way | None:
    """Two kinds of replica: each stream on the one that carries it for less rent; ``None``: one takes all."""
    problem = problem_of(built.prepared, built.planned, pair, built.tables)
    rent = [
        pool.on_demand_usd_per_h / pool.more_per_h if pool.more_per_h > 0 else np.inf
        for pool in problem.pools
    ]
    divided: tuple[list[int], list[int]] = ([], [])
    for s in range(len(built.planned)):
        load = problem.load_per_h[s].sum(axis=1)
        usd = [float(load[k]) * rent[k] if np.isfinite(load[k]) else np.inf for k in range(2)]
        divided[int(usd[1] < usd[0])].append(s)
    mine = [any(not option.fits[built.planned[s].stream.id].why_not for s in part)
            for option, part in zip(pair, divided, strict=True)]  # fmt: skip
    return _way(built, pair, divided) if all(mine) else None


def _apart(ways: list[Way]) -> list[Way]:
    """Names that tell ways apart: by the APIs that the first of the same name has not, else by a number."""
    first: dict[str, Way] = {}
    taken: dict[str, int] = {}
    found = []
    for way in ways:
        name = way.name
        if name in first:
            there = {api.id for api in first[name].draft.apis}
            other = [api.subject.removeprefix("api/") for api in way.draft.apis if api.id not in there]
            name = f"{name} with {other[0]}" if other else name
        else:
            first[name] = way
        taken[name] = taken.get(name, 0) + 1
        found.append(replace(way, name=name if taken[name] == 1 else f"{name} ({taken[name]})"))
    return found


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
    return frozenset(i.what for i in draft.fleet.standing if i.is_once)


def pool_draft(built: Built, way: Way, solutions: Sequence[Solution]) -> Draft:
    """A solution for each kind of replica of a way, as a draft."""
    fracs: dict[int, dict[str, Floats]] = {}
    pools = []
    for part, solution in zip(way.parts, solutions, strict=True):
        pools += schedules(solution, (part.option,), {})
        for row, s in enumerate(part.streams):
            if solution.pool_frac[row, 0].any():
                fracs.setdefault(s, {})[part.option.pool.id] = solution.pool_frac[row, 0]
    servings = [
        Serving(case, case.best, fracs.get(s, {}), bool(case.cache_hit_frac.any()))
        for s, case in enumerate(built.planned)
    ]
    options = tuple(part.option for part in way.parts)
    return drafted(built.prepared, servings, options, Fleet(tuple(pools)))


def at_volume(part: Part, multiple: float, api_ratio: float, gpu_ratio: float) -> Problem:
    """A part's problem in a quarter: loads and API bills grown, prices moved, committed replicas free."""
    pool = part.problem.pools[0]
    spot = pool.spot_usd_per_h
    moved = replace(
        pool,
        held=0,
        on_demand_usd_per_h=pool.on_demand_usd_per_h * gpu_ratio,
        spot_usd_per_h=None if spot is None else spot * gpu_ratio,
        start_usd=pool.start_usd * gpu_ratio,
        reserved_usd_per_h=0.0,
        fixed_usd_per_month=0.0,
    )
    return replace(
        part.problem,
        api_usd_per_h=part.problem.api_usd_per_h * (multiple * api_ratio),
        load_per_h=part.problem.load_per_h * multiple,
        pools=(moved,),
        fixed_usd_per_month=0.0,
    )


def priced(built: Built, way: Way, multiple: float, api_ratio: float, gpu_ratio: float) -> Priced | None:
    """A way in a quarter; ``None`` where some stream then has nowhere to go."""
    if not way.parts:
        weight = built.prepared.weight_h
        tokens = sum(
            float(quantity @ weight) * price
            for serving in way.draft.servings
            for _, quantity, price, _ in api_meters(serving)
        )
        again = drafted(scaled(built, multiple).prepared, way.draft.servings, (), Fleet())
        return Priced((), tokens * multiple * api_ratio + standing_usd(again.fleet.standing))
    problems = [at_volume(part, multiple, api_ratio, gpu_ratio) for part in way.parts]
    usd = [by_committed(problem, 0) for problem in problems]
    solutions = [one_pool(problem, 0) for problem in problems]
    if any(not len(costs) for costs in usd) or any(one is None for one in solutions):
        return None
    draft = pool_draft(scaled_volume(built, multiple), way, [one for one in solutions if one is not None])
    care = sum(
        problem.pools[0].extra_usd_per_replica_h * float(one.replicas[0] @ problem.weight_h)
        for problem, one in zip(problems, solutions, strict=True)
        if one is not None
    )
    kg = sum(emitted_kg(problem, one) for problem, one in zip(problems, solutions, strict=True) if one)
    return Priced(tuple(usd), standing_usd(draft.fleet.standing) - care, kg)


def scaled_volume(built: Built, multiple: float) -> Built:
    """The same with the volume that standing costs follow grown, hours as they are."""
    prepared = built.prepared
    volume = Volume(*(part * multiple for part in prepared.volume))
    return replace(built, prepared=replace(prepared, volume=volume))


def standing_usd(items: tuple[Standing, ...]) -> float:
    """Standing costs a month, launches apart."""
    return sum(i.usd_per_month for i in items if not i.is_once)


def launch_usd(way: Way, built: Built) -> Mapping[str, float]:
    """What each launch that a way needs costs once."""
    spread = built.prepared.standings.spread()
    return {i.what: i.usd_per_month / spread for i in way.draft.fleet.standing if i.is_once}
