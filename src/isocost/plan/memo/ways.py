"""Ways to serve a workload at any volume: what each costs a month there, charge by charge.

A trace is planned once. At another volume every quantity is multiplied, fleets are sized again hour by
hour from the same capacity table, and standing costs follow the volume as their facts say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from isocost.fleet import Fleet, Standing
from isocost.ledger import Ledger
from isocost.plan.make.build import Built, drafted, problem_of
from isocost.plan.make.draft import Draft, Serving, month_ledger, schedules
from isocost.plan.make.singles import api_singles, pool_single
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.prepare import Prepared
from isocost.plan.solve.one_pool import one_pool, whole_pool
from isocost.plan.solve.problem import Problem, Solution, emitted_kg
from isocost.units import WEEK_H

MIX_LEAST_FRAC = 0.01
"""Least share of the traffic on either side for a mix to be one."""


@dataclass(frozen=True)
class Way:
    """One way to serve everything: an API (``offers``, one a stream), own replicas (``pool``), or both.

    ``why_not`` is blank where every limit and its quality evidence allow it.
    """

    option: str
    id: str
    model: str
    offers: tuple[Offer, ...]
    pool: PoolOption | None
    why_not: str
    quality: str


@dataclass(frozen=True)
class Costed:
    """A way at a volume: its month, the replicas rented for a year and what they cost a month."""

    way: Way
    draft: Draft
    ledger: Ledger
    reserved: int = 0
    reserved_usd: float = 0.0
    api_frac: float = 0.0

    @property
    def usd(self) -> float:
        """The month's cost."""
        return self.ledger.total_usd


def ways_of(built: Built, today: str = "") -> tuple[Way, ...]:
    """Every way worth a row: the cheapest APIs of each kind, allowed and not, each pool, and mixes.

    ``today``: the offering that serves now, which is its own option; blank where nothing does.
    """
    found = []
    now = [next((o for o in case.offers if o.api.id == today), None) for case in built.planned]
    if today and all(offer is not None for offer in now):
        offers = tuple(offer for offer in now if offer is not None)
        found.append(Way("today", today, offers[0].api.model, offers, None, "", offers[0].verdict.reason))
    for option in ("api", "hosted"):
        for _, offers, why_not in api_singles(built, option, 2):
            verdict = min((offer.verdict for offer in offers), key=lambda v: v.passes)
            api = offers[0].api
            if api.id != today:
                found.append(Way(option, api.id, api.model, offers, None, why_not, verdict.reason))
    for pool in built.options:
        single = pool_single(built, pool)
        if single is not None:
            found.append(
                Way(single.option, single.id, single.model, (), pool, single.why_not, single.quality)
            )
    best = tuple(case.best for case in built.planned)
    if all(offer is not None for offer in best):
        offers = tuple(offer for offer in best if offer is not None)
        own = [way for way in found if way.pool is not None and not way.why_not]
        found += [replace(way, option="mix", offers=offers) for way in own]
    return tuple(found)


def costed(built: Built, way: Way, multiple: float, running: bool, committed: int = 0) -> Costed | None:
    """A way at a multiple of the planned volume; ``None`` where it cannot be.

    ``running``: the reference serves today, so that nothing is paid to launch it. ``committed``: replicas
    already rented for a year, paid whether they are used or not (and not in the ledger's charges).
    """
    prepared = built.prepared.grown(multiple)
    cases = [case.scaled(multiple) for case in built.planned]
    offers = [offer.scaled(multiple) for offer in way.offers]
    if way.pool is None:
        servings = [Serving(case, offer, {}, False) for case, offer in zip(cases, offers, strict=True)]
        draft = _launching(prepared, drafted(prepared, servings, (), Fleet()), running)
        return Costed(way, draft, month_ledger(prepared, draft), api_frac=1.0)
    if way.option == "mix":
        cases = [replace(case, offers=(offer,)) for case, offer in zip(cases, offers, strict=True)]
    problem = problem_of(prepared, cases, (way.pool,), built.tables, proven=False)
    problem = _with_commitment(problem, committed)
    solution = one_pool(problem, 0) if way.option == "mix" else whole_pool(problem, 0)
    if solution is None:
        return None
    rest = _rest(cases, solution)
    if way.option == "mix" and not MIX_LEAST_FRAC < rest < 1.0 - MIX_LEAST_FRAC:
        return None
    fallback: list[Offer | None] = list(offers) if way.option == "mix" else [None] * len(cases)
    servings = [
        Serving(case, offer, {way.pool.pool.id: solution.pool_frac[s, 0]}, False)
        for s, (case, offer) in enumerate(zip(cases, fallback, strict=True))
    ]
    fleet = Fleet(tuple(schedules(solution, (way.pool,), {})))
    draft = _launching(prepared, drafted(prepared, servings, (way.pool,), fleet), running)
    kg, most_kg = emitted_kg(problem, solution), built.prepared.request.limits.carbon_kg_per_month
    said = way
    if most_kg is not None and kg > most_kg and not way.why_not:
        said = replace(way, why_not=f"emits {kg:,.0f} kg of CO2e a month, over {most_kg:g}")
    reserved, rent = int(solution.reserved[0]), way.pool.rents.get("reserved_1y")
    month = rent.usd_per_gpu_h * way.pool.pool.gpus * float(prepared.weight_h.sum()) if rent else 0.0
    return Costed(said, draft, month_ledger(prepared, draft), reserved, reserved * month, rest)


def commitment_usd(way: Way, replicas: int, hours_per_month: float) -> float:
    """What replicas rented for a year cost a month."""
    rent = None if way.pool is None else way.pool.rents.get("reserved_1y")
    if rent is None or way.pool is None:
        return 0.0
    return replicas * rent.usd_per_gpu_h * way.pool.pool.gpus * hours_per_month


def best_of(built: Built, ways: Iterable[Way], multiple: float, running: bool) -> dict[str, Costed]:
    """The cheapest allowed way of each option at a volume, else the cheapest that only lacks proof."""
    found: dict[str, Costed] = {}
    for way in ways:
        held = found.get(way.option)
        if held is not None and way.why_not and not held.way.why_not:
            continue
        one = costed(built, way, multiple, running)
        if one is None:
            continue
        if held is None or _rank(one) < _rank(held):
            found[way.option] = one
    return found


def _rank(one: Costed) -> tuple[bool, float, str]:
    return bool(one.way.why_not), round(one.usd, 6), one.way.id


def _with_commitment(problem: Problem, committed: int) -> Problem:
    """The same with replicas that are paid for already; more are rented by the hour."""
    if not committed:
        return problem
    pool = replace(problem.pools[0], held=problem.pools[0].held + committed, reserved_usd_per_h=None)
    return replace(problem, pools=(pool,))


def _rest(cases: Iterable[Case], solution: Solution) -> float:
    """Share of requests that the API takes."""
    whole = rest = 0.0
    for s, case in enumerate(cases):
        requests = case.stream.usage.requests
        whole += float(requests.sum())
        rest += float(np.maximum(0.0, 1.0 - solution.pool_frac[s, 0]) @ requests)
    return rest / whole if whole else 0.0


def _launching(prepared: Prepared, draft: Draft, running: bool) -> Draft:
    """A draft with the launch of the reference's own offering, where it does not run either.

    Drafts take the reference for what serves today, and leave its launch out.
    """
    if running:
        return draft
    counted = {api.option for api in draft.apis if (api.provider, api.model) not in prepared.there}
    more: list[Standing] = []
    for option in sorted({api.option for api in draft.apis} - counted):
        more += prepared.standings.launch(option)
    return replace(draft, fleet=Fleet(draft.fleet.pools, (*draft.fleet.standing, *more)))


def rent_of(one: Costed) -> tuple[float, float]:
    """Rent a month and the accelerator-hours that it pays for, reserved and idle ones included."""
    gpus = {option.pool.id: option.pool.gpus for option in one.draft.pools}
    usd = hours = 0.0
    for charge in one.ledger:
        if charge.deployment in gpus:
            usd += charge.usd
            hours += charge.quantity * gpus[charge.deployment]
    return usd, hours


def tokens_usd(one: Costed) -> float:
    """What a month's tokens cost at APIs."""
    return one.ledger.where(account="api-tokens").total_usd


def replicas_of(one: Costed) -> tuple[int, int]:
    """Fewest and most replicas over the hours of the week."""
    counts = [s.replicas(h) for s in one.draft.fleet.pools for h in range(WEEK_H)]
    return (min(counts), max(counts)) if counts else (0, 0)


def label(way: Way) -> str:
    """A way in words: ``google/gemini-2.0-flash``, ``qwen3-32b on 1x h100-sxm``."""
    if way.pool is None:
        return way.id
    pool = way.pool.pool
    own = f"{pool.model} on {pool.gpus}x {pool.gpu}"
    return f"{own} + {way.offers[0].api.id}" if way.option == "mix" else own
