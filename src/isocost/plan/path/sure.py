"""How sure a path is: its cost and its rivals' in the same scenarios of facts and of prices to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from isocost import risk
from isocost.fleet import Fleet
from isocost.ledger import FEMTO_PER_USD, Ledger
from isocost.plan.make.build import Built, drafted
from isocost.plan.make.draft import Draft, month_ledger
from isocost.plan.path.steps import Chosen, term_usd
from isocost.plan.path.study import COUNT, RENTAL, Study, follows
from isocost.plan.path.ways import LAUNCH, Way, at_volume, pool_draft, scaled, scaled_volume
from isocost.plan.solve.one_pool import one_pool
from isocost.plan.solve.problem import Floats, Solution

Groups = dict[tuple[str, ...], float]


def solved_at(
    way: Way, multiple: float, api_ratio: float, gpu_ratio: float, committed: int
) -> Solution | None:
    """The schedule of a way's pool in a quarter with so many replicas committed."""
    if way.problem is None:
        return None
    return one_pool(at_volume(way, multiple, api_ratio, gpu_ratio), 0, committed)


def month_groups(
    built: Built, way: Way, multiple: float, solution: Solution | None, committed_usd: float
) -> Groups:
    """A month of a way at a volume, today's prices, grouped by drivers; committed replicas apart.

    ``committed_usd`` is a month's rent of what is committed: it goes with the rent's fact.
    """
    if solution is None or way.option is None:
        grown = scaled(built, multiple).prepared
        draft = drafted(grown, way.draft.servings, (), Fleet())
        return _grouped(month_ledger(grown, draft), way, True, True)
    draft = _unpaid(pool_draft(scaled_volume(built, multiple), way.option, solution))
    grown = replace(built.prepared, weight_h=built.prepared.weight_h * multiple)
    groups = _grouped(month_ledger(built.prepared, draft), way, False, True)
    for names, usd in _grouped(month_ledger(grown, draft), way, True, False).items():
        groups[names] = groups.get(names, 0.0) + usd
    if committed_usd:
        names = (way.option.pool.quote,)
        groups[names] = groups.get(names, 0.0) + committed_usd
    return groups


def _unpaid(draft: Draft) -> Draft:
    """The draft with what is reserved free of charge: signings are paid for apart."""
    pools = tuple(msgspec.structs.replace(p, reserved_usd_per_h=None) for p in draft.fleet.pools)
    return replace(draft, fleet=Fleet(pools, draft.fleet.standing))


def _grouped(ledger: Ledger, way: Way, tokens: bool, rest: bool) -> Groups:
    groups: Groups = {}
    for charge in ledger:
        bought = charge.account == "api-tokens"
        if charge.meter.startswith(LAUNCH) or not (tokens if bought else rest):
            continue
        names = tuple(name for name in charge.price_fact.split(risk.JOIN) if name)
        if bought:
            names = (*names, follows(way))
        elif charge.option in ("selfhost", "slm"):
            names = (*names, RENTAL)
        groups[names] = groups.get(names, 0.0) + charge.amount_fusd / FEMTO_PER_USD
    return groups


def costed(study: Study, chosen: Chosen, drivers: Mapping[str, risk.Driver]) -> Floats:
    """Discounted dollars of a path in every scenario, (COUNT,): quantities times drawn prices, by quarter."""
    ahead = study.ahead
    months = []
    for q, stage in enumerate(study.stages):
        way = study.ways[chosen.ways[q]]
        api_ratio = ahead.middle(follows(way), stage.quarter.middle)
        found = solved_at(way, study.multiples[q], api_ratio, stage.gpu_ratio, chosen.committed[q])
        months.append(month_groups(study.built, way, study.multiples[q], found, 0.0))
    names = {name for groups in months for key in groups for name in key}
    ratios = risk.drawn({n: d for n, d in drivers.items() if n in names}, COUNT)
    total = np.zeros(COUNT)
    for stage, groups in zip(study.stages, months, strict=True):
        for key, usd in groups.items():
            factor = np.full(COUNT, usd * stage.months)
            for name in key:
                if name in ratios:
                    factor = factor * ratios[name]
                elif name in ahead.paths:
                    factor = factor * ahead.at(name, stage.quarter.middle)
            total += factor
    for one in chosen.signed:
        paid = one.count * one.usd_per_gpu_h
        paid *= term_usd(study.stages, one.step, one.term.months, study.hours, study.rate)
        month = float(study.stages[one.step].quarter.first)
        drawn = np.ones(COUNT)
        if RENTAL in ahead.paths and month:
            drawn = ahead.at(RENTAL, month) / max(1e-9, ahead.middle(RENTAL, month))
        total += paid * drawn
    launched: set[str] = set()
    for stage, w in zip(study.stages, chosen.ways, strict=True):
        for kind in study.ways[w].kinds - launched:
            total += study.launches[kind] * stage.discount
        launched |= study.ways[w].kinds
    return total
