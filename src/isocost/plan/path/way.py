"""A way to serve, as data: its draft, its kinds of replica, and the streams of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isocost.fleet import Fleet, Standing
from isocost.plan.make.build import Built, drafted
from isocost.plan.make.draft import Draft, Serving, schedules
from isocost.plan.market.offers import Case
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.prepare import Prepared
from isocost.plan.market.terms import Term
from isocost.plan.solve.problem import Floats, Problem, Solution


@dataclass(frozen=True)
class Later:
    """A part's problem with work put into other hours: ``served`` (S, 168) over the mean hour's."""

    problem: Problem
    served: Floats


@dataclass(frozen=True)
class Part:
    """A kind of replica in a way: its problem over the streams that it takes part in, and its terms.

    ``later``: the same where work that may wait fills idle hours.
    """

    option: PoolOption
    problem: Problem
    streams: tuple[int, ...]
    terms: tuple[Term, ...] = ()
    later: tuple[Later, ...] = ()

    @property
    def gpu(self) -> str:
        """The accelerator."""
        return self.option.pool.gpu

    @property
    def gpus(self) -> int:
        """Accelerators of a replica."""
        return self.option.pool.gpus

    @property
    def problems(self) -> tuple[Problem, ...]:
        """As work comes in, then with work put off."""
        return (self.problem, *(one.problem for one in self.later))


@dataclass(frozen=True)
class Way:
    """One way to serve: what it needs launched, and its kinds of replica where it has any.

    Each stream belongs to one part; what a part's replicas leave goes to the APIs. ``cases`` are the
    streams, those that an API's limit divides as one for each share; empty for a way of APIs alone.
    """

    name: str
    draft: Draft
    kinds: frozenset[str]
    parts: tuple[Part, ...] = ()
    cases: tuple[Case, ...] = ()


def pool_draft(prepared: Prepared, way: Way, solutions: Sequence[Solution]) -> Draft:
    """A solution for each kind of replica of a way, as a draft; work that is put off in its own hours."""
    fracs: dict[int, dict[str, Floats]] = {}
    served: dict[int, Floats] = {}
    pools = []
    for part, solution in zip(way.parts, solutions, strict=True):
        pools += schedules(solution, (part.option,), {})
        for row, s in enumerate(part.streams):
            if solution.pool_frac[row, 0].any():
                fracs.setdefault(s, {})[part.option.pool.id] = solution.pool_frac[row, 0]
                if solution.served is not None and np.isfinite(solution.served[row]).all():
                    served[s] = solution.served[row]
    servings = []
    for s, case in enumerate(way.cases):
        mine = case.put_off(served[s]) if s in served else case
        servings.append(Serving(mine, mine.best, fracs.get(s, {}), bool(case.cache_hit_frac.any())))
    options = tuple(part.option for part in way.parts)
    return drafted(prepared, servings, options, Fleet(tuple(pools)))


def kinds_of(draft: Draft) -> frozenset[str]:
    """What has to be launched before a way serves."""
    return frozenset(i.what for i in draft.fleet.standing if i.is_once)


def rows_of(problem: Problem, streams: Sequence[int]) -> Problem:
    """The problem of some of its streams."""
    rows = list(streams)
    return replace(
        problem,
        api_usd_per_h=problem.api_usd_per_h[rows],
        load_per_h=problem.load_per_h[rows],
        pool_usd_per_h=problem.pool_usd_per_h[rows],
        stream_ids=tuple(problem.stream_ids[s] for s in rows),
        wait_h=tuple(problem.wait_h[s] for s in rows) if problem.wait_h else (),
    )


def standing_usd(items: tuple[Standing, ...]) -> float:
    """Standing costs a month, launches apart."""
    return sum(i.usd_per_month for i in items if not i.is_once)


def launch_usd(draft: Draft, built: Built) -> Mapping[str, float]:
    """What each launch that a draft needs costs once."""
    spread = built.prepared.standings.spread()
    return {i.what: i.usd_per_month / spread for i in draft.fleet.standing if i.is_once}
