"""How sure a path is: its cost and its rivals' in the same scenarios of facts and of prices to come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from isocost import risk
from isocost.fleet import SPREAD, Fleet
from isocost.ledger import FEMTO_PER_USD, Charge
from isocost.plan.make.build import Built, drafted
from isocost.plan.make.draft import Draft, api_meters, month_ledger, standing_charges
from isocost.plan.path.month import scheduled
from isocost.plan.path.steps import Chosen, needs, term_usd
from isocost.plan.path.study import COUNT, MAKER, RENTAL, Study, series_of_api
from isocost.plan.path.way import Way, pool_draft
from isocost.plan.solve.problem import Floats, Solution

Groups = dict[tuple[str, ...], float]


def solved_at(study: Study, w: int, q: int, committed: tuple[int, ...]) -> tuple[Solution, ...]:
    """The schedule of each kind of replica of a way in a quarter with so many of each committed."""
    stage, way = study.stages[q], study.way(w, q)
    key = (way.name, q, committed)
    if key not in study.solved:
        hows = stage.priced[w].how
        found = [
            scheduled(part, how[number], number, way.cases, study.prices(q))
            for part, number, how in zip(way.parts, committed, hows, strict=True)
        ]
        assert all(one is not None for one in found)
        study.solved[key] = tuple(one for one in found if one is not None)
    return study.solved[key]


def month_groups(
    built: Built, way: Way, multiple: float, solutions: Sequence[Solution], committed_usd: Sequence[float]
) -> Groups:
    """A month of a way at a volume, today's prices, grouped by drivers; committed replicas apart.

    ``committed_usd``: a month's rent of what is committed of each kind, which goes with the rent's fact.
    """
    groups: Groups = {}
    if not way.parts:
        draft = drafted(built.prepared.heavier(multiple), way.draft.servings, (), Fleet())
    else:
        draft = _unpaid(pool_draft(built.prepared.heavier(multiple), way, solutions))
        grown = tuple(replace(s, offer=None, case=s.case.scaled(multiple)) for s in draft.servings)
        bare = replace(draft, servings=grown)
        _add(groups, (c for c in month_ledger(built.prepared, bare) if c.option != "people"))
        for part, usd in zip(way.parts, committed_usd, strict=True):
            rent = (part.option.pool.quote,)
            groups[rent] = groups.get(rent, 0.0) + usd
    _add(groups, standing_charges(built.prepared.at, draft.fleet.standing))
    weight = built.prepared.weight_h * multiple
    for serving in draft.servings:
        series = MAKER if serving.offer is None else series_of_api(serving.offer.api)
        for _, quantity, price, names in api_meters(serving):
            key = (*names, series)
            groups[key] = groups.get(key, 0.0) + float(quantity @ weight) * price
    return groups


def _unpaid(draft: Draft) -> Draft:
    """The draft with what is reserved free of charge: signings are paid for apart."""
    pools = tuple(msgspec.structs.replace(p, reserved_usd_per_h=None) for p in draft.fleet.pools)
    return replace(draft, fleet=Fleet(pools, draft.fleet.standing))


def _add(groups: Groups, charges: Iterable[Charge]) -> None:
    """Charges but outlays that are spread, which a path pays once."""
    for charge in charges:
        if charge.meter.endswith(SPREAD):
            continue
        names = tuple(name for name in charge.price_fact.split(risk.JOIN) if name)
        if charge.option in ("selfhost", "slm"):
            names = (*names, RENTAL)
        groups[names] = groups.get(names, 0.0) + charge.amount_fusd / FEMTO_PER_USD


def costed(study: Study, chosen: Chosen) -> Floats:
    """Discounted dollars of a path in every scenario, (COUNT,): quantities times drawn prices, by quarter."""
    ahead, ratios = study.ahead, study.ratios
    total = np.zeros(COUNT)
    for q, stage in enumerate(study.stages):
        way, committed = study.way(chosen.ways[q], q), chosen.committed[q]
        key = (way.name, q, committed)
        if key not in study.costs:
            found = solved_at(study, chosen.ways[q], q, committed)
            groups = month_groups(study.built, way, study.multiples[q], found, [0.0] * len(found))
            month = np.zeros(COUNT)
            for names, usd in groups.items():
                factor = np.full(COUNT, usd)
                for name in names:
                    if name in ratios:
                        factor = factor * ratios[name]
                    elif name in ahead.paths:
                        factor = factor * ahead.at(name, stage.quarter.middle)
                month += factor
            study.costs[key] = month
        total += study.costs[key] * stage.months
    for one in chosen.signed:
        paid = one.count * one.usd_per_gpu_h
        paid *= term_usd(study.stages, one.step, one.term.months, study.hours, study.rate)
        begins = float(study.stages[one.step].quarter.first)
        drawn = np.ones(COUNT)
        if RENTAL in ahead.paths and begins:
            drawn = ahead.at(RENTAL, begins) / max(1e-9, ahead.middle(RENTAL, begins))
        total += paid * drawn
    launched: set[str] = set()
    for stage, w in zip(study.stages, chosen.ways, strict=True):
        kinds = needs(study.ways, stage, w)
        for kind in kinds - launched:
            total += study.launches[kind] * stage.discount
        launched |= kinds
    return total
