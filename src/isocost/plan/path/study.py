"""Everything that a path is found from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from isocost.catalog import CatalogAt
from isocost.deployment import Api
from isocost.forecast.prices import Series, paths
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft
from isocost.plan.path.ask import PathAsk
from isocost.plan.path.grown import Ahead
from isocost.plan.path.month import Prices
from isocost.plan.path.steps import Chosen, Stage, least_path
from isocost.plan.path.way import Way
from isocost.plan.solve.milp import INF
from isocost.plan.solve.problem import Floats, Solution

RATES, CARBON, BUDGET = "rates", "carbon", "budget"
"""Limits that growth may meet."""
COUNT = 2048
"""Scenarios of a path."""
MAKER, HOST, RENTAL = "forecast/list-maker", "forecast/list-host", "forecast/rental"
SERIES: Mapping[str, Series] = {MAKER: "list-maker", HOST: "list-host", RENTAL: "rental"}
WORDS: Mapping[str, str] = {
    MAKER: "list prices of closed models to come",
    HOST: "list prices of hosted open weights to come",
    RENTAL: "rents of accelerators to come",
}


@dataclass(frozen=True)
class Futures:
    """Prices to come over the horizon: draws (COUNT, months + 1) by series, or none where prices stay."""

    paths: Mapping[str, Floats]

    def middle(self, series: str, month: float) -> float:
        """The median ratio to today's price at a month; 1 where prices stay."""
        if series not in self.paths:
            return 1.0
        return float(np.median(self.at(series, month)))

    def at(self, series: str, month: float) -> Floats:
        """The draws at a month."""
        path = self.paths[series]
        return np.asarray(path[:, min(path.shape[1] - 1, round(month))])


def futures(at: CatalogAt, months: int, mode: str) -> Futures:
    """Prices to come, or prices that stay."""
    if mode == "flat":
        return Futures({})
    return Futures({name: paths(at, series, months, COUNT) for name, series in SERIES.items()})


def prices_at(ahead: Futures, multiple: float, month: float) -> Prices:
    """A quarter's prices, the medians of their forecast."""
    return Prices(
        multiple, ahead.middle(MAKER, month), ahead.middle(HOST, month), ahead.middle(RENTAL, month)
    )


def series_of(draft: Draft) -> str:
    """The series that the API prices of a draft follow: of hosts where all its APIs are over open weights."""
    hosted = [api.option == "hosted" for api in (*draft.apis, *draft.fallbacks)]
    return HOST if hosted and all(hosted) else MAKER


def series_of_api(api: Api) -> str:
    """The series that the prices of one API follow."""
    return HOST if api.option == "hosted" else MAKER


@dataclass(frozen=True)
class Study:
    """Ways and stages, and what they are priced by. ``hours`` of a month, ``rate`` the discount of one.

    ``limits``: those of APIs at today's volume. ``ratios``: the drawn ratios of facts, by driver. ``solved``
    and ``costs`` keep what was worked out, by way, quarter and committed replicas: schedules, and a month's
    dollars in every scenario.
    """

    built: Built
    ask: PathAsk
    ways: list[Way]
    stages: list[Stage]
    multiples: list[float]
    launches: dict[str, float]
    hours: float
    rate: float
    ahead: Futures
    limits: Ahead | None = None
    ratios: Mapping[str, Floats] = field(default_factory=dict)
    solved: dict[tuple[str, int, tuple[int, ...]], tuple[Solution, ...]] = field(default_factory=dict)
    costs: dict[tuple[str, int, tuple[int, ...]], Floats] = field(default_factory=dict)

    def way(self, w: int, q: int) -> Way:
        """A way as it is in a quarter: with what an API's limit divides there."""
        return self.stages[q].here.get(w, self.ways[w])

    def prices(self, q: int) -> Prices:
        """A quarter's traffic and middle prices."""
        return prices_at(self.ahead, self.multiples[q], self.stages[q].quarter.middle)

    @property
    def budget_usd(self) -> float:
        """The most that a month may cost."""
        most = self.built.prepared.request.limits.budget_usd_per_month
        return INF if most is None else most

    def least(self, without: str = "") -> Chosen:
        """The least-cost path, with one limit lifted where it is named.

        Raises:
            Infeasible: there is none.
        """
        stages = [replace(s, priced={**s.priced, **s.free.get(without, {})}) for s in self.stages]
        budget = INF if without == BUDGET else self.budget_usd
        return least_path(self.ways, stages, self.launches, self.hours, self.rate, budget)

    def only(self, ways: Sequence[Way]) -> Study:
        """The same with these ways alone, in their order."""
        index = [self.ways.index(way) for way in ways]
        stages = [
            replace(
                stage,
                priced={i: stage.priced[w] for i, w in enumerate(index) if w in stage.priced},
                here={i: stage.here[w] for i, w in enumerate(index) if w in stage.here},
                free={
                    limit: {i: there[w] for i, w in enumerate(index) if w in there}
                    for limit, there in stage.free.items()
                },
            )
            for stage in self.stages
        ]
        return replace(self, ways=list(ways), stages=stages)
