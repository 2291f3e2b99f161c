"""Ways to serve: everything on APIs, or kinds of replica beside them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from isocost.plan.make.build import Built, problem_of
from isocost.plan.make.draft import Draft
from isocost.plan.make.parts import api_alone, api_parts
from isocost.plan.market.offers import Case
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.terms import Term, terms_of
from isocost.plan.path.grown import fewer
from isocost.plan.path.month import Prices, priced
from isocost.plan.path.way import Later, Part, Way, kinds_of, pool_draft, rows_of
from isocost.plan.solve.one_pool import one_pool
from isocost.plan.solve.problem import Problem
from isocost.plan.solve.programme import programme, served_in, served_later
from isocost.units import SECONDS_PER_H

TODAY = "as today"
"""The way that changes nothing."""
MANY = 2
"""APIs that a way is named by; of more, the first and their number."""
MULTIPLES = (1.0, 4.0)
"""Volumes beside the last at which the cheapest set of APIs is looked for."""
MIXED_MOST = 3
"""Ways with two kinds of replica, the cheapest at the largest volume; of each larger number, one."""
KINDS_MOST = 4
"""Kinds of replica that run beside one another at most."""


def ways_of(built: Built, stays: Draft, most: float) -> list[Way]:
    """Today's way, sets of APIs that are cheapest at some volume up to ``most``, and proven replicas.

    Replicas one kind at a time, and several kinds that divide the streams between them.
    """
    prepared, planned = built.prepared, built.planned
    built = replace(built, planned=tuple(fewer(case) for case in planned))
    drafts: list[tuple[str, Draft]] = []
    if all(s.offer is not None and not s.offer.why_not for s in stays.servings):
        drafts.append((TODAY, stays))
    if not built.draft.pools:
        drafts.append((name_of(built.draft), built.draft))
    for draft in api_alone(prepared, planned):
        drafts.append((name_of(draft), draft))
    for multiple in sorted({*MULTIPLES, most}):
        parts = api_parts(prepared.heavier(multiple), planned)
        if parts is not None:
            drafts.append((name_of(parts.draft), replace(parts.draft)))
    found: dict[tuple[object, ...], Way] = {}
    for name, draft in drafts:
        key = tuple((s.case.stream.id, s.offer.api.id if s.offer else "", s.cached) for s in draft.servings)
        found.setdefault(key, Way(name, draft, kinds_of(draft)))
    ways = list(found.values())
    own = _own(built)
    problems = {o.pool.id: problem_of(built.prepared, built.planned, (o,), built.tables) for o in own}
    volumes = (1.0, most) if most > 1.0 else (1.0,)
    ways += [way for option in own if (way := _way(built, [option], None, problems, volumes)) is not None]
    for size in range(2, min(len(own), KINDS_MOST) + 1):
        ways += _mixed(built, own, size, problems, volumes)
    return _apart(ways)


def _own(built: Built) -> list[PoolOption]:
    """Kinds of replica that some stream is proven on."""
    return [option for option in built.options if any(not fit.why_not for fit in option.fits.values())]


def _mixed(
    built: Built,
    own: Sequence[PoolOption],
    size: int,
    problems: Mapping[str, Problem],
    volumes: tuple[float, ...],
) -> list[Way]:
    """Ways with so many kinds of replica, cheapest at the largest volume first."""
    found = []
    for kinds in itertools.combinations(own, size):
        streams = division(built, kinds, problems)
        way = None if streams is None else _way(built, kinds, streams, problems, volumes)
        month = None if way is None else priced(built, way, Prices(volumes[-1]))
        if way is not None and month is not None:
            found.append((month.least_usd(), way))
    found.sort(key=lambda pair: pair[0])
    return [way for _, way in found[: MIXED_MOST if size == 2 else 1]]


def division(
    built: Built, kinds: Sequence[PoolOption], problems: Mapping[str, Problem]
) -> list[list[int]] | None:
    """Each stream on the kind that carries it for the least rent; ``None``: a kind is left without any."""
    usd = np.full((len(kinds), len(built.planned)), np.inf)
    for k, option in enumerate(kinds):
        problem = problems[option.pool.id]
        pool = problem.pools[0]
        if pool.more_per_h > 0:
            load = problem.load_per_h[:, 0].sum(axis=1)
            usd[k] = np.where(np.isfinite(load), load * pool.on_demand_usd_per_h / pool.more_per_h, np.inf)
    best = usd.argmin(axis=0)
    divided = [[int(s) for s in np.flatnonzero(best == k)] for k in range(len(kinds))]
    proven = [
        any(not option.fits[built.planned[s].stream.id].why_not for s in streams)
        for option, streams in zip(kinds, divided, strict=True)
    ]
    return divided if all(proven) else None


def _way(
    built: Built,
    options: Sequence[PoolOption],
    divided: Sequence[Sequence[int]] | None,
    problems: Mapping[str, Problem],
    volumes: tuple[float, ...],
) -> Way | None:
    """Kinds of replica, each with its streams (``None``: all of them, of one kind)."""
    whole = [range(len(built.planned))] if divided is None else divided
    parts = parts_of(built, options, whole, problems, volumes)
    solutions = [one_pool(part.problem, 0) for part in parts]
    if any(solution is None for solution in solutions):
        return None
    made = Way("", built.draft, frozenset(), parts, built.planned)
    draft = pool_draft(built.prepared, made, [s for s in solutions if s is not None])
    return replace(made, name=name_of(draft), draft=draft, kinds=kinds_of(draft))


def parts_of(
    built: Built,
    options: Sequence[PoolOption],
    divided: Sequence[Sequence[int]],
    problems: Mapping[str, Problem],
    volumes: tuple[float, ...],
) -> tuple[Part, ...]:
    """Kinds of replica, each with its streams; what may wait is put off as it pays at some volumes."""
    prepared, planned = built.prepared, built.planned
    found = []
    for option, streams in zip(options, divided, strict=True):
        problem, terms = rows_of(problems[option.pool.id], streams), tuple(terms_of(prepared.at, option.pool))
        later: tuple[Later, ...] = ()
        if any(_waits(planned[s]) for s in streams):
            waiting = problem_of(prepared, planned, (option,), built.tables, waits=True)
            later = put_off(rows_of(waiting, streams), terms, volumes)
        found.append(Part(option, problem, tuple(streams), terms, later))
    return tuple(found)


def _waits(case: Case) -> bool:
    return (case.ask.wait_s or 0.0) >= SECONDS_PER_H


def put_off(problem: Problem, terms: Sequence[Term], volumes: Sequence[float]) -> tuple[Later, ...]:
    """A problem with work that waits, its work placed as is cheapest at each volume, replicas signed for.

    The relaxation in parts of replicas places the work; whole replicas are then scheduled for it as for any.
    """
    found = []
    for volume in volumes:
        asked = replace(on_terms(problem, terms, volume), wait_h=problem.wait_h, fixed_usd_per_month=0.0)
        laid = programme(asked, only=(0,))
        answer = laid.solve(0.0, 0, None, True)
        if answer.values is not None:
            served = served_in(laid, answer.values)
            found.append(Later(served_later(replace(laid, problem=problem), served), served))
    return tuple(found)


def on_terms(problem: Problem, terms: Sequence[Term], multiple: float) -> Problem:
    """A part's problem at a volume, kept for a year or more: what always runs is taken on the best term."""
    ratio = min((term.price_ratio for term in terms), default=1.0)
    pool = problem.pools[0]
    return replace(
        problem,
        api_usd_per_h=problem.api_usd_per_h * multiple,
        load_per_h=problem.load_per_h * multiple,
        pools=(replace(pool, held=0, reserved_usd_per_h=pool.on_demand_usd_per_h * ratio),),
    )


def regrown(built: Built, way: Way, cases: tuple[Case, ...], multiple: float) -> Way:
    """A way with replicas where an API's limit divides its streams: each share beside the rest of it."""
    here = replace(built, planned=cases)
    owner = {way.cases[s].stream.id: i for i, part in enumerate(way.parts) for s in part.streams}
    divided = [
        [s for s, case in enumerate(cases) if owner[case.stream.id] == i] for i in range(len(way.parts))
    ]
    options = [part.option for part in way.parts]
    problems = {o.pool.id: problem_of(built.prepared, cases, (o,), built.tables) for o in options}
    parts = parts_of(here, options, divided, problems, (multiple,))
    return replace(way, parts=parts, cases=cases)


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


def name_of(draft: Draft) -> str:
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
