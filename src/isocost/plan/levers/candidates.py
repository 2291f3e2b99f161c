"""Plans that use some levers and not others: each with its cost and the levers that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from isocost.fleet import Fleet
from isocost.ledger import fusd
from isocost.plan.make.build import Built, drafted, problem_of
from isocost.plan.make.draft import Draft, Serving, month_ledger, schedules
from isocost.plan.make.parts import api_alone, solved_parts
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.pools import PoolOption
from isocost.plan.solve.one_pool import one_pool

CACHE, PREFIX, BATCH, HOST, SWAP = "exact-cache", "prompt-cache", "batch", "provider", "model"
OWN, COMMIT, SPOT, NARROW = "own-replicas", "commit", "spot", "quantise"
API_LEVERS = (PREFIX, BATCH, HOST, SWAP)


@dataclass(frozen=True)
class Candidate:
    """A plan's month, in femto-dollars, and the levers that it needs."""

    fusd: int
    uses: frozenset[str]
    draft: Draft


def uses_of(draft: Draft) -> frozenset[str]:
    """The levers that set a draft apart from today's way."""
    found: set[str] = set()
    for serving in draft.servings:
        if serving.cached:
            found.add(CACHE)
        offer = serving.offer
        if offer is not None and serving.api_frac.any():
            found |= needs(offer, serving.case)
    for schedule in draft.fleet.pools:
        found.add(OWN)
        if schedule.reserved:
            found.add(COMMIT)
        if any(schedule.spot):
            found.add(SPOT)
        option = next(o for o in draft.pools if o.pool.id == schedule.deployment)
        if not option.native:
            found.add(NARROW)
        for serving in draft.servings:
            verdict = option.fits[serving.case.stream.id].verdict
            if option.pool.id in serving.pool_frac and verdict.n_benchmarks:
                found.add(SWAP)
    return frozenset(found)


def needs(offer: Offer, case: Case) -> frozenset[str]:
    """The levers that an offer needs for a stream."""
    found = set()
    if offer.api.keeps_prefixes:
        found.add(PREFIX)
    if offer.api.tier == "batch":
        found.add(BATCH)
    if case.today is not None:
        if not offer.same_model and offer.api.id != case.today.id:
            found.add(SWAP)
        elif offer.api.provider != case.today.provider:
            found.add(HOST)
    return frozenset(found)


def candidates(built: Built, stays: Draft) -> list[Candidate]:
    """Today's way, the cheapest plans by APIs under each set of levers, own replicas beside, and the plan."""
    prepared, planned = built.prepared, built.planned
    drafts: list[Draft] = [stays]
    there = frozenset().union(*(needs(o, c) for c in planned for o in c.offers if not o.why_not))
    usable = [lever for lever in API_LEVERS if lever in there]
    for size in range(len(usable) + 1):
        for some in combinations(usable, size):
            cases = tuple(_only(case, frozenset(some)) for case in planned)
            if not all(any(not o.why_not for o in case.offers) for case in cases):
                continue
            drafts += api_alone(prepared, cases)
            for cached in (False, True):
                if cached and not any(case.cache_hit_frac.any() for case in planned):
                    continue
                parts = solved_parts(prepared, cases, cached)
                if parts is not None:
                    drafts.append(parts)
    found = [Candidate(_fusd(built, draft), uses_of(draft), draft) for draft in drafts]
    for option in _proven(built):
        found += _with_pool(built, option)
    found.append(Candidate(sum(c.amount_fusd for c in built.ledger), uses_of(built.draft), built.draft))
    return _least(found)


def _least(found: Sequence[Candidate]) -> list[Candidate]:
    """The cheapest candidate of each set of levers."""
    best: dict[frozenset[str], Candidate] = {}
    for one in found:
        if one.uses not in best or one.fusd < best[one.uses].fusd:
            best[one.uses] = one
    return list(best.values())


def _only(case: Case, some: frozenset[str]) -> Case:
    """The stream with only offers that these levers allow."""
    return replace(case, offers=tuple(o for o in case.offers if needs(o, case) <= some))


def _fusd(built: Built, draft: Draft) -> int:
    """A draft without pools: tokens as they are priced, and what stands beside them."""
    weight = built.prepared.weight_h
    tokens = sum(
        float((serving.offer.usd_per_h * serving.api_frac) @ weight)
        for serving in draft.servings
        if serving.offer is not None
    )
    return fusd(tokens + draft.fleet.standing_usd_per_month)


def _proven(built: Built) -> list[PoolOption]:
    return [option for option in built.options if any(not fit.why_not for fit in option.fits.values())]


def _with_pool(built: Built, option: PoolOption) -> list[Candidate]:
    """A pool beside the APIs, with and without commitments, spot and each way to use the APIs."""
    found = []
    whole = frozenset(API_LEVERS)
    for some in (frozenset[str](), whole):
        cases = tuple(_only(case, some) for case in built.planned)
        problem = problem_of(built.prepared, cases, (option,), built.tables)
        for commit in (False, True):
            for spot in (False, True):
                pool = problem.pools[0]
                if (commit and pool.reserved_usd_per_h is None) or (spot and pool.spot_usd_per_h is None):
                    continue
                given = replace(
                    pool,
                    reserved_usd_per_h=pool.reserved_usd_per_h if commit else None,
                    spot_usd_per_h=pool.spot_usd_per_h if spot else None,
                )
                solution = one_pool(replace(problem, pools=(given,)), 0)
                if solution is None:
                    continue
                servings = [
                    Serving(
                        case,
                        case.best,
                        {option.pool.id: solution.pool_frac[s, 0]} if solution.pool_frac[s, 0].any() else {},
                        bool(case.cache_hit_frac.any()),
                    )
                    for s, case in enumerate(cases)
                ]
                if any(s.offer is None and s.api_frac.any() for s in servings):
                    continue
                fleet = Fleet(tuple(schedules(solution, (option,), {})))
                draft = drafted(built.prepared, servings, (option,), fleet)
                total = sum(c.amount_fusd for c in month_ledger(built.prepared, draft))
                found.append(Candidate(total, uses_of(draft), draft))
    return found
