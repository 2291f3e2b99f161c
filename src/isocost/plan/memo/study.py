"""Planned traffic at any volume: who wins there, where that changes, and what a wrong choice costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from isocost.catalog import CatalogAt
from isocost.plan.make.build import Built
from isocost.plan.memo.result import (
    OPTIONS,
    Crossing,
    Regret,
)
from isocost.plan.memo.traffic import VOLUMES, MemoAsk
from isocost.plan.memo.ways import (
    Costed,
    Way,
    best_of,
    commitment_usd,
    costed,
    label,
    replicas_of,
)
from isocost.plan.result import Band
from isocost.units import WEEKS_PER_YEAR

LOOK = 64.0
"""How far below and above the range crossings are looked for."""
STEP = 2.0
REPLICAS_MANY = 200
"""Replicas from which whole numbers no longer matter: a replica more is half a percent."""
DAYS_PER_WEEK = 7.0
STAFF: Mapping[str, str] = {
    "today": "",
    "api": "api",
    "hosted": "hosted-open",
    "selfhost": "self-hosted",
    "slm": "slm",
    "mix": "self-hosted",
}
"""Subject ``staff/...`` that says how long an option takes to launch."""


@dataclass(frozen=True)
class Study:
    """The planned traffic, its ways to serve and the multiples of it that the memo asks about."""

    ask: MemoAsk
    at: CatalogAt
    built: Built
    ways: tuple[Way, ...]
    multiples: tuple[float, ...]
    running: bool

    @property
    def base(self) -> float:
        """Requests a month at multiple 1."""
        return self.built.prepared.volume.requests

    def best(self, multiple: float) -> dict[str, Costed]:
        """The best way of each option at a multiple."""
        return best_of(self.built, self.ways, multiple, self.running)

    def allowed(self, multiple: float) -> dict[str, Costed]:
        """The best allowed way of each option at a multiple."""
        ways = [way for way in self.ways if not way.why_not]
        return best_of(self.built, ways, multiple, self.running)

    def winner(self, multiple: float) -> Costed:
        """The cheapest allowed way at a multiple."""
        return winner_of(self.allowed(multiple))


def winner_of(by: Mapping[str, Costed]) -> Costed:
    """The cheapest allowed way of those at one volume."""
    allowed = [one for one in by.values() if not one.way.why_not]
    return min(allowed, key=lambda one: (round(one.usd, 6), one.way.option))


def days(at: CatalogAt, option: str) -> Band | None:
    """Calendar days from decision to traffic; ``None`` where no fact says."""
    weeks = at.find(f"staff/{STAFF[option]}", "launch_weeks")
    if weeks is None:
        return None
    middle = float(weeks.value)
    low, high = weeks.low or middle, weeks.high or middle
    return Band(low * DAYS_PER_WEEK, middle * DAYS_PER_WEEK, high * DAYS_PER_WEEK)


def _days(at: CatalogAt, option: str) -> float | None:
    found = days(at, option)
    return None if found is None else found.mid


def launch_usd(at: CatalogAt, option: str) -> float | None:
    """What the engineering of a launch costs once."""
    weeks = at.find(f"staff/{STAFF[option]}", "launch_weeks")
    if weeks is None:
        return None
    loaded = at.number("staff/platform-engineer", "usd_per_year") * at.number("staff/any", "loading_ratio")
    return float(weeks.value) / WEEKS_PER_YEAR * loaded


def crossings_of(study: Study, volumes: Sequence[float]) -> list[Crossing]:
    """Volumes at which the cheapest option changes, from well below the range to well above it."""
    low, high = volumes[0] / LOOK, volumes[-1] * LOOK
    steps = math.ceil(math.log(high / low, STEP))
    grid = [float(v) for v in np.geomspace(low, high, steps + 1)]
    found: list[Crossing] = []
    before = study.winner(grid[0] / study.base).way.option
    for left, right in pairwise(grid):
        by = study.allowed(right / study.base)
        after = winner_of(by).way.option
        if after == before:
            if left > volumes[-1] and _far_enough(by):
                break
            continue
        near, far = left, right
        while far / near > 1.01:
            middle = math.sqrt(near * far)
            if study.winner(middle / study.base).way.option == before:
                near = middle
            else:
                far = middle
        found.append(Crossing(before, after, far, volumes[0] <= far <= volumes[-1]))
        before = after
    return found


def _far_enough(by: Mapping[str, Costed]) -> bool:
    """Whether more traffic changes no verdict: own replicas win, or are many and still lose."""
    return winner_of(by).way.pool is not None or any(
        replicas_of(one)[1] > REPLICAS_MANY for one in by.values()
    )


def regrets_of(study: Study, found: Sequence[Mapping[str, Costed]]) -> list[Regret]:
    """What each allowed option chosen for the middle volume costs above the best, volume by volume."""
    ends = (0, VOLUMES // 2, VOLUMES - 1)
    best = [winner_of(found[i]) for i in ends]
    hours = float(study.built.prepared.weight_h.sum())
    rows = []
    for option, one in found[VOLUMES // 2].items():
        if one.way.why_not:
            continue
        over: list[float | None] = []
        committed = commitment_usd(one.way, one.reserved, hours)
        for i, least in zip(ends, (other.usd for other in best), strict=True):
            if i == VOLUMES // 2:
                over.append(one.usd - least)
                continue
            again = costed(study.built, one.way, study.multiples[i], study.running, one.reserved)
            over.append(None if again is None else max(0.0, again.usd + committed - least))
        away = [0.0 if other.way.option == option else _days(study.at, other.way.option) for other in best]
        rows.append(Regret(option, label(one.way), over, one.reserved, away))
    return sorted(rows, key=lambda row: list(OPTIONS).index(row.option))
