"""Everything that a path is found from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from isocost.catalog import CatalogAt
from isocost.forecast.prices import Series, paths
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft
from isocost.plan.path.ask import PathAsk
from isocost.plan.path.steps import Stage
from isocost.plan.path.ways import Way
from isocost.plan.solve.problem import Floats, Solution

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


def follows(way: Way) -> str:
    """The series that a way's API prices follow."""
    return series_of(way.draft)


def series_of(draft: Draft) -> str:
    """The series that the API prices of a draft follow: of hosts where all its APIs are over open weights."""
    hosted = [api.option == "hosted" for api in (*draft.apis, *draft.fallbacks)]
    return HOST if hosted and all(hosted) else MAKER


@dataclass(frozen=True)
class Study:
    """Ways and stages, and what they are priced by. ``hours`` of a month, ``rate`` the discount of one.

    ``ratios``: the drawn ratios of facts, by driver. ``solved`` and ``costs`` keep what was worked out, by
    way, quarter and committed replicas: schedules, and a month's dollars in every scenario.
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
    ratios: Mapping[str, Floats] = field(default_factory=dict)
    solved: dict[tuple[str, int, tuple[int, ...]], tuple[Solution, ...]] = field(default_factory=dict)
    costs: dict[tuple[str, int, tuple[int, ...]], Floats] = field(default_factory=dict)

    def only(self, ways: Sequence[Way]) -> Study:
        """The same with these ways alone, in their order."""
        index = [self.ways.index(way) for way in ways]
        stages = [
            replace(stage, priced={i: stage.priced[w] for i, w in enumerate(index) if w in stage.priced})
            for stage in self.stages
        ]
        return replace(self, ways=list(ways), stages=stages)
