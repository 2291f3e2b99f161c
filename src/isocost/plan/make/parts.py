"""The cheapest way to serve by APIs alone, with everything counted: each provider must earn its keep.

A stream's tokens are cheapest at its cheapest offer, but each provider brings a review of its terms, each
kind its people, each new model its launch. Choosing which to use at all is a facility-location problem:

minimise   sum_sk c_sk x_sk + sum_p r_p u_p + d v + sum_o g_o l_o
subject to sum_k x_sk = 1,  x_sk <= u_p(k),  x_sk <= v (hosted k),  x_sk <= l_o(k) (new k),  u, v, l in {0, 1}

with c a month of a stream's tokens and its part of the risk that a closed model ends, r a provider's
review, d what hosted weights take in people beyond an API, and g the launch of something new. It is small,
and HiGHS proves its optimum.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from isocost.fleet import Fleet
from isocost.keep.standing import usd
from isocost.plan.make.build import drafted
from isocost.plan.make.draft import Draft, Serving, part_of, regions_of
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.prepare import Prepared
from isocost.plan.solve.milp import INF, Columns, Rows, minimise

PROOF_FRAC = 1e-6


@dataclass(frozen=True)
class Parts:
    """The cheapest API plan and a proven lower bound of any API plan with more than one deployment."""

    draft: Draft
    bound_usd: float


def api_parts(prepared: Prepared, cases: tuple[Case, ...]) -> Parts | None:
    """Solve with and without the exact cache; ``None`` where a stream has no allowed offer."""
    found = [_solved(prepared, cases, cached=False)]
    if any(case.cache_hit_frac.any() for case in cases):
        found.append(_solved(prepared, cases, cached=True))
    solved = [parts for parts in found if parts is not None]
    if not solved:
        return None
    best = min(solved, key=lambda parts: parts[1])
    return Parts(best[0], min(bound for _, _, bound in solved))


def solved_parts(prepared: Prepared, cases: tuple[Case, ...], cached: bool) -> Draft | None:
    """The cheapest API plan with or without the exact cache; ``None`` where a stream has no allowed offer."""
    found = _solved(prepared, cases, cached=cached)
    return None if found is None else found[0]


def api_alone(prepared: Prepared, cases: tuple[Case, ...]) -> tuple[Draft, ...]:
    """The cheapest single API of each kind and novelty for all streams, batch and kept prefixes among them.

    One API for everything needs no gateway, so it may beat a mix whose tokens cost less.
    """
    allowed = [{o.api.id: o for o in case.offers if not o.why_not} for case in cases]
    best: dict[tuple[str, bool], tuple[float, list[Offer]]] = {}
    for name, first in allowed[0].items():
        if not all(name in offers for offers in allowed):
            continue
        whole = [
            prepared.market.again(_case(case, False), offers[name])
            if case.cache_hit_frac.any()
            else offers[name]
            for case, offers in zip(cases, allowed, strict=True)
        ]
        found = [offer for offer in whole if offer is not None]
        if len(found) < len(cases):
            continue
        fresh = any(_fresh(first, _there(case)) for case in cases)
        usd = sum(offer.usd_per_month(prepared.weight_h) for offer in found)
        key = (first.api.option, fresh)
        if key not in best or usd < best[key][0]:
            best[key] = (usd, found)
    return tuple(
        drafted(
            prepared,
            [
                Serving(_case(case, False), offer, {}, False)
                for case, offer in zip(cases, offers, strict=True)
            ],
            (),
            Fleet(),
        )
        for _, offers in best.values()
    )


def _there(case: Case) -> set[tuple[str, str]]:
    return set() if case.today is None else {(case.today.provider, case.today.model)}


def _solved(
    prepared: Prepared, cases: tuple[Case, ...], *, cached: bool
) -> tuple[Draft, float, float] | None:
    """The draft, its cost by the model, and the bound."""
    choices = [_choices(prepared, case, cached) for case in cases]
    if not all(choices):
        return None
    lines, volume = prepared.standings, prepared.volume
    regions = regions_of(prepared)
    none, old = (usd(lines.complying(n, regions)) for n in (0, 1))
    new = usd(lines.complying(1, regions, ("a new one",)))
    people = {kind: usd(lines.people(kind, 1, 0.0, 0.0)) for kind in ("api", "hosted")}
    always = (*lines.watching("api", volume), *lines.keeping("api", volume), *lines.gateway())
    fixed = usd(always) + people["api"] + none
    columns, rows = Columns(), Rows()
    known = {provider for provider, _ in prepared.there}
    offered = [offer.api for offers in choices for offer in offers]
    provider = {
        p: columns.add((old if p in known else new) - none, 1.0, True)
        for p in sorted({api.provider for api in offered})
    }
    hosted = columns.add(people["hosted"] - people["api"], 1.0, True)
    launch = {kind: columns.add(usd(lines.launch(kind)), 1.0, True) for kind in ("api", "hosted")}
    x: list[list[int]] = []
    for case, offers in zip(cases, choices, strict=True):
        mine = []
        part = part_of(cases, case, prepared.weight_h, prepared.weight_h)
        for offer in offers:
            month = offer.usd_per_month(prepared.weight_h)
            if offer.api.option == "api":
                month += usd(lines.moving(offer.api.subject.removeprefix("api/"), month, part))
            column = columns.add(month, 1.0)
            mine.append(column)
            needs = [provider[offer.api.provider]]
            needs += [hosted] if offer.api.option == "hosted" else []
            needs += [launch[offer.api.option]] if _fresh(offer, prepared.there) else []
            for need in needs:
                rows.add([(column, 1.0), (need, -1.0)], -INF, 0.0)
        rows.add([(column, 1.0) for column in mine], 1.0, 1.0)
        x.append(mine)
    answer = minimise(columns, rows, offset_usd=fixed, gap_frac=PROOF_FRAC)
    if answer.values is None:
        return None
    servings = []
    for case, offers, mine in zip(cases, choices, x, strict=True):
        chosen = offers[int(np.argmax(answer.values[mine]))]
        served = _case(case, cached)
        servings.append(Serving(served, chosen, {}, bool(served.cache_hit_frac.any())))
    return drafted(prepared, servings, (), Fleet()), answer.usd, answer.bound_usd


def _choices(prepared: Prepared, case: Case, cached: bool) -> list[Offer]:
    """The cheapest allowed offer of each provider, kind and novelty: others are dominated."""
    there = _there(case)
    best: dict[tuple[str, str, bool], Offer] = {}
    for offer in case.offers:
        key = (offer.api.provider, offer.api.option, _fresh(offer, there))
        if not offer.why_not and key not in best:
            best[key] = offer
    if cached or not case.cache_hit_frac.any():
        return list(best.values())
    whole = _case(case, cached)
    return [again for offer in best.values() if (again := prepared.market.again(whole, offer)) is not None]


def _case(case: Case, cached: bool) -> Case:
    """The stream as it is without an exact cache, where there is to be none."""
    if cached:
        return case
    return replace(case, rows=case.stream.rows, cache_hit_frac=np.zeros_like(case.cache_hit_frac))


def _fresh(offer: Offer, there: Collection[tuple[str, str]]) -> bool:
    return (offer.api.provider, offer.api.model) not in there
