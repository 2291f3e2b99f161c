"""The quarters of a path: every way priced in each, within the limits that growth meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from isocost.finance import rate_per_month
from isocost.fleet import Fleet
from isocost.plan.make.build import Built, drafted
from isocost.plan.make.draft import Draft
from isocost.plan.path.ask import PathAsk, Quarter, quarters
from isocost.plan.path.grown import Ahead, ahead_of, overflowing
from isocost.plan.path.month import Priced, Prices, priced
from isocost.plan.path.steps import Stage
from isocost.plan.path.study import CARBON, RATES, Study, futures, prices_at
from isocost.plan.path.way import Way, launch_usd
from isocost.plan.path.ways import regrown, ways_of
from isocost.plan.solve.milp import INF


def study_of(built: Built, stays: Draft, ask: PathAsk) -> Study:
    """Ways priced by quarter.

    ``stays``: business as usual, as :func:`isocost.plan.make.singles.today_draft` gives it.
    """
    at, on = built.prepared.at, built.prepared.request.on
    hours = at.number("finance/any", "hours_per_month")
    rate = rate_per_month(at.number("finance/any", "discount_rate_per_year"))
    steps = quarters(on, ask.months)
    multiples = [
        float(np.mean([(1.0 + ask.growth_per_month) ** (q.first + k + 0.5) for k in range(q.months)]))
        for q in steps
    ]
    ahead, limits = futures(at, ask.months, ask.prices), ahead_of(built)
    ways = ways_of(built, stays, max(multiples))
    stages = []
    for quarter, multiple in zip(steps, multiples, strict=True):
        discounted = sum((1.0 + rate) ** -(quarter.first + k + 1) for k in range(quarter.months))
        held: dict[str, int] = {}
        for lot in built.prepared.request.have.on(_last_day(quarter)).gpus:
            held[lot.gpu] = held.get(lot.gpu, 0) + lot.count
        prices = prices_at(ahead, multiple, quarter.middle)
        plain = Stage(quarter, discounted, (1.0 + rate) ** -quarter.first, prices.gpu, held, {})
        stages.append(stage_of(built, plain, ways, prices, limits))
    study = Study(built, ask, ways, stages, multiples, {}, hours, rate, ahead, limits)
    return replace(study, launches=launches_of(study, ways))


def launches_of(study: Study, ways: Sequence[Way]) -> dict[str, float]:
    """What each launch costs that some way needs in some quarter."""
    found = {kind: usd for way in ways for kind, usd in launch_usd(way.draft, study.built).items()}
    for stage in study.stages:
        for months in (stage.priced, *stage.free.values()):
            for month in months.values():
                found |= month.more
    return found


def stage_of(built: Built, stage: Stage, ways: Sequence[Way], prices: Prices, limits: Ahead) -> Stage:
    """A quarter with every way that serves it priced."""
    most_kg = built.prepared.request.limits.carbon_kg_per_month
    cap = INF if most_kg is None else most_kg
    months: dict[int, Priced] = {}
    here: dict[int, Way] = {}
    free: dict[str, dict[int, Priced]] = {RATES: {}, CARBON: {}}
    for w, way in enumerate(ways):
        now = way_at(built, way, prices.multiple, limits)
        found = priced(built, now, prices, cap)
        if now is not way:
            here[w] = now
            unlimited = priced(built, way, prices, cap)
            if unlimited is not None:
                free[RATES][w] = unlimited
        if (
            cap < INF
            and now.parts
            and (found is None or any(how.usd_per_kg for hows in found.how for how in hows))
        ):
            uncapped = priced(built, now, prices)
            if uncapped is not None:
                free[CARBON][w] = uncapped
        if found is not None:
            months[w] = found
    return replace(stage, priced=months, here=here, free={k: v for k, v in free.items() if v})


def way_at(built: Built, way: Way, multiple: float, limits: Ahead) -> Way:
    """A way at a multiple of today's traffic: what is too much for an API goes elsewhere."""
    if way.parts:
        split = limits.split(built, multiple)
        return way if split is None else regrown(built, way, split, multiple)
    servings = overflowing(built, limits, way.draft, multiple)
    if servings is None:
        return way
    return replace(way, draft=drafted(built.prepared, servings, (), Fleet()))


def _last_day(quarter: Quarter) -> date:
    """The last month of a quarter: what is held must be there to its end."""
    at = quarter.starts.month - 1 + quarter.months - 1
    return date(quarter.starts.year + at // 12, at % 12 + 1, 1)
