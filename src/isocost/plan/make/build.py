"""Search: tabulate capacity, solve, replay the whole plan, derate on a miss and solve again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isocost.catalog import CatalogAt
from isocost.deployment import Rent, rent
from isocost.errors import Infeasible
from isocost.fleet import Fleet
from isocost.keep.standing import usd
from isocost.ledger import Ledger
from isocost.plan.make.draft import (
    CACHE,
    Draft,
    Serving,
    interruptions_per_h,
    month_ledger,
    schedules,
    spot_usd_per_h,
    standing_of,
)
from isocost.plan.market.capacity import Tabulated, choice, load_per_request, overflow_at, tabulate
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.pools import PoolOption, covering, limit, pool_options
from isocost.plan.market.prepare import Prepared
from isocost.plan.market.quotas import within_quotas
from isocost.plan.market.terms import signed_for
from isocost.plan.solve.milp import INF
from isocost.plan.solve.mix import solve
from isocost.plan.solve.one_pool import whole_pool
from isocost.plan.solve.problem import PoolChoice, Problem, Solution
from isocost.replay.run import Ratio, Replayed, Routed, Situation, replay
from isocost.units import SECONDS_PER_H, WEEK_H

GAP_FRAC = 0.002
"""Gap at which the search for a mix of pools may stop."""
ROUNDS = 4
DERATE = 0.85
"""What is left of a pool's capacity after a limit was missed in replay, and how often that is tried."""
PERCENTILE = 95.0
MANY_GPUS = 1000.0
"""Accelerators over which the people whom each takes are averaged."""
LATER_FRAC = 0.002
"""What putting work off must save at least, as a share of the plan, to be worth its queue."""
POOLS_MOST = 4
POOLS_TABULATED = 6
"""Pools that a mix may draw on, and that replay tabulates: by the closed form the rest cost more."""


@dataclass(frozen=True)
class Miss:
    """A limit that the replay of a plan did not hold on a pool."""

    pool: str
    workload: str
    name: str
    limit_s: float
    found_s: float


@dataclass(frozen=True)
class Built:
    """A plan that was solved and replayed."""

    prepared: Prepared
    planned: tuple[Case, ...]
    kept: tuple[Case, ...]
    options: tuple[PoolOption, ...]
    tables: Mapping[str, Tabulated]
    draft: Draft
    ledger: Ledger
    solution: Solution
    problem: Problem
    replayed: Replayed
    misses: tuple[Miss, ...]
    rounds: int

    @property
    def usd_per_month(self) -> float:
        """The plan's month."""
        return self.ledger.total_usd


def build(prepared: Prepared) -> Built:
    """The least-cost plan that the limits allow.

    Raises:
        Infeasible: a stream that nothing may serve; ``plan.tell.infeasible.explain`` finds the conflict.
    """
    planned = tuple(case for case in prepared.cases if case.today is not None)
    kept = tuple(case for case in prepared.cases if case.today is None)
    if not planned:
        raise Infeasible(
            "no stream has a model that the catalog knows", fix="Say it with --now PROVIDER/MODEL"
        )
    planned = within_quotas(prepared.quotas, planned)
    held: dict[str, int] = {}
    for lot in prepared.request.have.on(prepared.request.on).gpus:
        held[lot.gpu] = held.get(lot.gpu, 0) + lot.count
    found = [
        _on_term(prepared, option)
        for option in pool_options(
            prepared.at, prepared.market, planned, prepared.weight_h, keep=POOLS_TABULATED, held=held
        )
    ]
    tables = {
        option.pool.id: table
        for option in found
        if (table := tabulate(option, planned, prepared.table, prepared.request.trace.block_tok, PERCENTILE))
    }
    options = tuple(option for option in found if option.pool.id in tables)
    proven = [o for o in options if any(not f.why_not for f in o.fits.values())]
    usable = tuple(covering(proven, planned, POOLS_MOST))
    derate: dict[str, float] = {}
    for attempt in range(1, ROUNDS + 1):
        problem, solution = _solved(prepared, planned, usable, tables, derate)
        draft = _draft(prepared, planned, usable, tables, solution)
        replayed = replay_draft(prepared, draft)
        misses = misses_of(draft, replayed)
        if not misses or attempt == ROUNDS:
            break
        for pool in {miss.pool for miss in misses}:
            derate[pool] = derate.get(pool, 1.0) * DERATE
    ledger = month_ledger(prepared, draft)
    return Built(
        prepared, planned, kept, options, tables, draft, ledger, solution, problem, replayed, misses, attempt
    )


def _on_term(prepared: Prepared, option: PoolOption) -> PoolOption:
    """The option with the commitment that may be signed for it as its reserved rent."""
    term = signed_for(prepared.at, option.pool, prepared.request.limits.commit_months_most)
    rents = {name: quote for name, quote in option.rents.items() if name != "reserved_1y"}
    if term is not None:
        usd = option.pool.usd_per_gpu_h * term.price_ratio
        quote = rent(prepared.at, option.pool.gpu, term.name, option.pool.gpus) if term.quoted else None
        hourly = rents["on_demand"]
        middle = usd * hourly.median_usd_per_gpu_h / hourly.usd_per_gpu_h
        rents["reserved_1y"] = quote or Rent(usd, hourly.fact, middle)
    return replace(option, rents=rents, signed=term)


def _solved(
    prepared: Prepared,
    cases: Sequence[Case],
    options: Sequence[PoolOption],
    tables: Mapping[str, Tabulated],
    derate: dict[str, float],
) -> tuple[Problem, Solution]:
    """The problem and its solution; with work put off where that is cheaper.

    What no plan beats counts plans that put work off.
    """
    problem = problem_of(prepared, cases, options, tables).derated(derate)
    solution = solve(problem, gap_frac=GAP_FRAC)
    later = problem_of(prepared, cases, options, tables, waits=True).derated(derate)
    if not later.wait_h or not options:
        return problem, solution
    put_off = solve(later, gap_frac=GAP_FRAC)
    bound = min(solution.bound_usd, put_off.bound_usd)
    if put_off.usd_per_month < solution.usd_per_month * (1.0 - LATER_FRAC):
        return later, replace(put_off, bound_usd=min(bound, put_off.usd_per_month))
    return problem, replace(solution, bound_usd=bound)


def pool_bound(built: Built) -> float:
    """What any plan with a pool costs at least, given the capacity table.

    The greater of two bounds: the fixed costs of running replicas and the fewest of the cheapest kind;
    and the solver's bound with the standing costs that every plan has.
    """
    problem, lines, volume = built.problem, built.prepared.standings, built.prepared.volume
    always = usd(lines.watching("api", volume)) + usd(lines.keeping("api", volume))
    hours, count = float(problem.weight_h.sum()), 1 + problem.spare
    rents = [
        pool.fixed_usd_per_month
        + max(0, count - pool.held) * hours * min(_rents(pool))
        + count * hours * pool.extra_usd_per_replica_h
        for pool in problem.pools
    ]
    least = problem.fixed_usd_per_month + min(rents, default=INF)
    return max(least, built.solution.bound_usd) + always


def _rents(pool: PoolChoice) -> list[float]:
    """Hourly rents of a replica on the terms that are on offer."""
    terms = (pool.on_demand_usd_per_h, pool.reserved_usd_per_h, pool.spot_usd_per_h)
    return [rent for rent in terms if rent is not None]


def problem_of(
    prepared: Prepared,
    cases: Sequence[Case],
    options: Sequence[PoolOption],
    tables: Mapping[str, Tabulated],
    *,
    proven: bool = True,
    waits: bool = False,
) -> Problem:
    """The problem as arrays. ``proven=False`` lets pools serve what only their quality evidence forbids.

    ``waits``: work that may wait may be put off by whole hours, at a load in proportion to its demand.
    """
    shape = (len(cases), len(options), WEEK_H)
    api = np.full((len(cases), WEEK_H), np.nan)
    load = np.full(shape, np.nan)
    wait_h = tuple(int((case.ask.wait_s or 0.0) // SECONDS_PER_H) for case in cases)
    for s, case in enumerate(cases):
        if case.best is not None:
            api[s] = case.best.usd_per_h
        requests = case.stream.usage.requests * (1.0 - case.cache_hit_frac) * case.stream.peak
        if waits and wait_h[s]:
            # What is put off is any of the work: each hour's load and price are those of the mean request.
            mean = case.stream.usage.requests * (1.0 - case.cache_hit_frac)
            api[s] = mean * (api[s].sum() / mean.sum() if mean.sum() > 0 else 1.0)
            requests = mean * (requests.sum() / mean.sum() if mean.sum() > 0 else 1.0)
        for p, option in enumerate(options):
            why_not = option.fits[case.stream.id].why_not
            if not why_not or (not proven and why_not.startswith("quality")):
                load[s, p] = requests * load_per_request(option, case, tables[option.pool.id])
    lines, volume, have = prepared.standings, prepared.volume, prepared.request.have
    fixed = usd(lines.people("selfhost", 1, 0.0, have.platform_fte)) + usd(lines.launch("selfhost"))
    fixed += usd(lines.watching("selfhost", volume)) - usd(lines.watching("api", volume))
    fixed += usd(lines.keeping("selfhost", volume)) - usd(lines.keeping("api", volume))
    hours = float(prepared.weight_h.sum())
    # People come in whole steps beyond the accelerators that the first of them carry: the line below those
    # steps is what the solver sees.
    few, many = (usd(lines.people("selfhost", 1, gpus, 0.0)) for gpus in (0.0, MANY_GPUS))
    care = (many - few) / MANY_GPUS / hours
    more = usd(lines.people("selfhost", 2, 0.0, 0.0)) - few
    fixed -= care * hours * prepared.at.number("staff/any", "held_gpus")
    pools: list[PoolChoice] = []
    held_left: dict[str, int] = {}
    for lot in have.on(prepared.request.on).gpus:
        held_left[lot.gpu] = held_left.get(lot.gpu, 0) + lot.count
    spare = max((case.slo.spare_replicas or 0) for case in cases)
    least = max((c.slo.replicas_per_region or 0) * max(1, len(c.slo.regions or ())) for c in cases)
    for p, option in enumerate(options):
        beside = more + usd(lines.porting(option.pool.gpu))
        pool = choice(option, tables[option.pool.id], 0, beside, care * option.pool.gpus)
        # What is held beyond the need stays off: it would only take care.
        useful = int(pool.needed(np.nansum(load[:, p], axis=0), spare).max())
        held = min(held_left.pop(option.pool.gpu, 0) // option.pool.gpus, useful)
        pools.append(replace(pool, held=held, **_beside(prepared.at, option, pool, least)))
    spot = prepared.at.number("planning/spot", "most_frac")
    ids = tuple(case.stream.id for case in cases)
    most_kg = prepared.request.limits.carbon_kg_per_month
    return Problem(
        prepared.weight_h, api, load, np.zeros(shape), tuple(pools), max(0.0, fixed), spare, spot, ids,
        wait_h=wait_h if waits and any(wait_h) else (),
        most_kg=INF if most_kg is None else most_kg,
    )  # fmt: skip


def _beside(at: CatalogAt, option: PoolOption, pool: PoolChoice, least: int) -> dict[str, Any]:
    """What a replica costs to start and to have interrupted, the fewest there may be, and its emissions."""
    lag_h = at.number("ops/replica", "start_lag_s") / SECONDS_PER_H
    start = pool.on_demand_usd_per_h * lag_h
    spot = pool.spot_usd_per_h
    if spot is not None:
        spot = spot_usd_per_h(spot, interruptions_per_h(at, option.pool.gpu), lag_h)
    return {
        "start_usd": start,
        "spot_usd_per_h": spot,
        "least": least,
        "kg_per_replica_h": kg_per_h(at, option),
    }


def kg_per_h(at: CatalogAt, option: PoolOption) -> float:
    """CO2e of a replica in an hour, at most: its accelerators at full work, host and building, the grid."""
    from isocost.perf.energy import power_of, replica_power_w, site_of

    grid, tdp = at.find("energy/default", "gco2e_per_kwh"), at.find(f"gpu/{option.pool.gpu}", "tdp_w")
    if grid is None or tdp is None:
        return 0.0
    power = power_of(at, option.pool.gpu)
    watts = float(replica_power_w(power, float(tdp.value), option.pool.gpus, 1.0, 1.0))
    site = site_of(at)
    return watts * (site.host_power_ratio or 1.0) * (site.pue or 1.0) / 1000.0 * float(grid.value) / 1000.0


def kg_of(prepared: Prepared, draft: Draft) -> float:
    """CO2e of a draft's replicas in a month, at most: what a limit on carbon counts."""
    kg = {option.pool.id: kg_per_h(prepared.at, option) for option in draft.pools}
    return sum(
        float(np.array([one.replicas(h) for h in range(WEEK_H)]) @ prepared.weight_h) * kg[one.deployment]
        for one in draft.fleet.pools
    )


def _draft(
    prepared: Prepared,
    cases: Sequence[Case],
    options: Sequence[PoolOption],
    tables: Mapping[str, Tabulated],
    solution: Solution,
) -> Draft:
    servings = []
    for s, case in enumerate(cases):
        fracs = {
            option.pool.id: solution.pool_frac[s, k]
            for k, option in enumerate(options)
            if solution.runs[k] and solution.pool_frac[s, k].any()
        }
        served = None if solution.served is None else solution.served[s]
        if served is not None and np.isfinite(served).all() and fracs:
            case = case.put_off(served)
        servings.append(Serving(case, case.best, fracs, bool(case.cache_hit_frac.any())))
    used = tuple(o for k, o in enumerate(options) if solution.runs[k])
    overflow = {
        option.pool.id: overflow_at(tables[option.pool.id])
        for option in used
        if all(s.offer is not None for s in servings if option.pool.id in s.pool_frac)
    }
    pools = schedules(solution, options, overflow)
    return drafted(prepared, servings, used, Fleet(tuple(pools)))


def drafted(
    prepared: Prepared,
    servings: Sequence[Serving],
    used: Sequence[PoolOption],
    fleet: Fleet,
    today: bool = False,
) -> Draft:
    """Servings and schedules with the standing costs that they bring."""
    hours = float(prepared.weight_h.sum())
    gpus = {}
    for schedule in fleet.pools:
        option = next(o for o in used if o.pool.id == schedule.deployment)
        replicas = np.array([schedule.replicas(h) for h in range(WEEK_H)])
        gpus[option.pool.id] = float(replicas @ prepared.weight_h) / hours * option.pool.gpus
    standing, kinds = standing_of(prepared, servings, used, gpus, today)
    return Draft(tuple(servings), tuple(used), Fleet(fleet.pools, standing), kinds)


def replay_draft(prepared: Prepared, draft: Draft) -> Replayed:
    """Run the trace itself under a draft, priced on the plan's date."""
    request = prepared.request
    deployments = draft.deployments(prepared.cache_ttl_s)
    routed, workloads = [], []
    for servings, route in zip(draft.by_stream(), draft.routes(), strict=True):
        ratios: dict[str, Ratio] = {}
        measured = set()
        case = servings[0].case
        for serving in servings:
            offer = serving.offer
            if offer is None:
                continue
            same = case.today is not None and offer.api.subject == case.today.subject
            if not same:
                ratios[offer.api.id] = offer.ratio
            if same and offer.api.tier == "standard":
                measured.add(offer.api.id)
        for option in draft.pools:
            if any(option.pool.id in serving.pool_frac for serving in servings):
                ratios[option.pool.id] = option.fits[case.stream.id].ratio
        routed.append(Routed(route, case.stream.rows, ratios, frozenset(measured)))
        workloads.append(case.stream.workload)
    situation = Situation(request.catalog, deployments, draft.fleet, request.trace.block_tok, request.on)
    return replay(prepared.table, routed, situation, workloads)


def misses_of(draft: Draft, replayed: Replayed) -> tuple[Miss, ...]:
    """Limits that pools did not hold, by workload."""
    found = []
    for option in draft.pools:
        code = replayed.names.index(option.pool.id)
        for serving in draft.servings:
            if option.pool.id not in serving.pool_frac:
                continue
            rows = serving.case.stream.rows
            rows = rows[replayed.where[rows] == code]
            if not len(rows):
                continue
            seen = replayed.percentile(rows, PERCENTILE)
            for name in ("ttft", "tpot", "e2e"):
                most, value = limit(serving.case, f"{name}_p95_s"), seen[name]
                if value is not None and value > most:
                    found.append(Miss(option.pool.id, serving.case.stream.workload, name, most, value))
    return tuple(dict.fromkeys(found))


def only_api(
    prepared: Prepared, cases: Sequence[Case], offers: Sequence[Offer | None], *, today: bool
) -> Draft:
    """Every stream on one offer each, no pool and no cache."""
    servings = [
        Serving(replace(case, rows=case.stream.rows, cache_hit_frac=np.zeros(WEEK_H)), offer, {}, False)
        for case, offer in zip(cases, offers, strict=True)
    ]
    return drafted(prepared, servings, (), Fleet(), today)


def only_pool(
    prepared: Prepared, cases: Sequence[Case], option: PoolOption, tables: Mapping[str, Tabulated]
) -> tuple[Draft, bool] | None:
    """Every stream on one pool; whether every limit and its evidence allow it. ``None``: it cannot be."""
    bare = [replace(case, rows=case.stream.rows, cache_hit_frac=np.zeros(WEEK_H)) for case in cases]
    problem = problem_of(prepared, bare, (option,), tables, proven=False)
    found = whole_pool(problem, 0)
    if found is None:
        return None
    servings = [
        Serving(case, None, {option.pool.id: found.pool_frac[s, 0]}, False) for s, case in enumerate(bare)
    ]
    fleet = Fleet(tuple(schedules(found, (option,), {})))
    proven = all(not option.fits[case.stream.id].why_not for case in cases)
    return drafted(prepared, servings, (option,), fleet), proven


__all__ = ["CACHE", "Built", "Miss", "build", "drafted", "misses_of", "only_api", "only_pool", "replay_draft"]
