"""The least-cost plan of a problem and a certified bound, by decomposition.

Plans without pools and plans with one pool are solved exactly (:mod:`one_pool`). Plans with several are
bounded from below by their relaxation, in which each pool's own problem is then solved in whole replicas at
the relaxation's prices (a Lagrangian bound: never below the relaxation's), and found by letting one pool
after another choose its replicas anew, given what the others serve. Small problems are closed by branch and
bound. Work that waits is placed by the relaxation first. No limit counts time.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.solve.milp import INF
from isocost.plan.solve.one_pool import (
    Worth,
    allowed_on,
    one_pool,
    schedule,
    shares,
    spot_of,
    stranded,
    worth_of,
)
from isocost.plan.solve.prices import bound_at, weekly
from isocost.plan.solve.problem import Floats, PoolChoice, Problem, Solution, cost_of, emitted_kg
from isocost.plan.solve.programme import (
    Programme,
    decode,
    encode,
    programme,
    reach_of,
    served_in,
    served_later,
)
from isocost.units import WEEK_H

CLOSED_MOST, REPLICAS_MOST = 1600, 40
"""Whole-numbered columns and replicas up to which branch and bound closes what decomposition leaves open."""
NODES = 100
"""Nodes of that search."""
PASSES = 4
"""Rounds in which every pool chooses anew, at most."""
DUAL_TOL = 1e-7
"""What the relaxation's prices may be off by, as a share of its cost."""
CARBON = "carbon_kg_per_month"
"""Where a limit on emissions is stated: what an error of its own names."""
CARBON_STEPS = 24
LONG_H = 2 * WEEK_H
"""Hours beyond which the relaxation is taken a week at a time."""
ROUNDS = 3
"""Rounds in which the number reserved and the prices of a long problem are set by turns."""


def solve(problem: Problem, *, gap_frac: float, nodes: int = NODES) -> Solution:
    """The cheapest plan found, to ``gap_frac`` or as near as the search gets; its gap is certified.

    Raises:
        Infeasible: a stream that neither an API nor a pool may serve, or emissions above the limit.
    """
    _check(problem)
    if problem.coupled:
        return _coupled(problem, gap_frac, nodes)
    singles = [found for k in range(len(problem.pools)) if (found := one_pool(problem, k)) is not None]
    if np.isfinite(problem.api_usd_per_h).all():
        singles.append(api_only(problem))
    best = min(singles, key=lambda one: one.usd_per_month) if singles else None
    proven = min((one.bound_usd for one in singles), default=INF)
    if len(problem.pools) < 2:
        assert best is not None
        return replace(best, bound_usd=min(best.usd_per_month, proven))
    long = len(problem.weight_h) > LONG_H
    left: list[tuple[float, tuple[int, ...]]] = []
    for low, pools in _ranked(problem, long):
        if _dearer(best, low, gap_frac):
            left.append((low, pools))
            continue
        again, made = (_long if long else _short)(problem, pools, best, gap_frac)
        if made is not None and (best is None or made.usd_per_month < best.usd_per_month - 1e-9):
            best = made
        left.append((max(low, again), pools))
    bound = min((low for low, _ in left), default=INF)
    if best is None or best.usd_per_month * (1 - gap_frac) > min(bound, proven):
        best, bound = _closed(problem, best, bound, gap_frac, nodes)
    return _certified(best, min(proven, bound))


def _ranked(problem: Problem, long: bool) -> list[tuple[float, tuple[int, ...]]]:
    """Sets of pools with a first bound each, from prices that all pools make together; least bound first."""
    sets = _sets(problem)
    every = max(sets, key=len, default=())
    reserved = _first_reserved(problem, every) if long and len(sets) > 1 else None
    priced = None if reserved is None else weekly(problem, reserved, every)
    if priced is None:
        return [(0.0, pools) for pools in sets]
    proven = bound_at(problem, priced[0], every)
    bounds = [(max(0.0, proven.bound_usd(pools) * (1.0 - DUAL_TOL)), pools) for pools in sets]
    return sorted(bounds, key=lambda pair: (pair[0], pair[1]))


def _sets(problem: Problem) -> list[tuple[int, ...]]:
    """Sets of at least two pools that could run together: in each, pools that some stream may use."""
    usable = [k for k, p in enumerate(problem.pools) if p.first_per_h > 0 and allowed_on(problem, k).any()]
    return [c for n in range(2, len(usable) + 1) for c in itertools.combinations(usable, n)]


def _dearer(best: Solution | None, low: float, gap_frac: float) -> bool:
    return best is not None and best.usd_per_month * (1 - gap_frac) <= low


def _short(
    problem: Problem, pools: tuple[int, ...], best: Solution | None, gap_frac: float
) -> tuple[float, Solution | None]:
    """What no plan that runs exactly these pools goes below, and a plan where one might be cheaper."""
    relaxed = relaxation(programme(problem, only=pools))
    if relaxed is None:
        return INF, None
    if _dearer(best, relaxed.bound_usd, gap_frac):
        return relaxed.bound_usd, None
    index = relaxed.programme.index
    frac = np.where(index.frac >= 0, np.clip(relaxed.values[index.frac], 0.0, 1.0), 0.0)
    return relaxed.bound_usd, descend(problem, pools, frac[:, list(pools)])


def _long(
    problem: Problem, pools: tuple[int, ...], best: Solution | None, gap_frac: float
) -> tuple[float, Solution | None]:
    """The same over many hours: prices week by week and the number reserved, by turns."""
    reserved = _first_reserved(problem, pools)
    bound, made = 0.0, None
    for attempt in range(ROUNDS):
        priced = None if reserved is None else weekly(problem, reserved, pools)
        if priced is None or reserved is None:
            return INF, None
        price, frac = priced
        found = bound_at(problem, price, pools)
        bound = max(bound, found.bound_usd(pools) * (1.0 - DUAL_TOL))
        if _dearer(best, bound, gap_frac):
            return bound, made
        if attempt == 0:
            made = descend(problem, pools, frac[:, list(pools)])
            if made is not None and (best is None or made.usd_per_month < best.usd_per_month):
                best = made
        reserved = 0.5 * (reserved + found.reserved)
    return bound, made


def _first_reserved(problem: Problem, pools: tuple[int, ...]) -> Floats | None:
    """The number that the relaxation of two middling weeks reserves: (P,); ``None``: it has no plan."""
    count = len(problem.weight_h) // WEEK_H
    load = np.nan_to_num(problem.api_usd_per_h).sum(axis=0) + np.nan_to_num(problem.load_per_h).sum(
        axis=(0, 1)
    )
    ranked = np.argsort(load[: count * WEEK_H].reshape(count, WEEK_H).sum(axis=1), kind="stable")
    pick = (np.array([ranked[count // 2], ranked[count // 4]])[:, None] * WEEK_H + np.arange(WEEK_H)).ravel()
    some = replace(
        problem,
        weight_h=np.full(len(pick), problem.weight_h.sum() / len(pick)),
        api_usd_per_h=problem.api_usd_per_h[:, pick],
        load_per_h=problem.load_per_h[:, :, pick],
        pool_usd_per_h=problem.pool_usd_per_h[:, :, pick],
        cyclic=True,
    )
    laid = programme(some, only=pools)
    answer = laid.solve(0.0, 0, None, True)
    return None if answer.values is None else answer.values[laid.index.reserved]


def _certified(best: Solution | None, bound_usd: float) -> Solution:
    if best is None:
        raise Infeasible("no plan was found within the limits", fix="Relax a limit in slo.toml")
    return replace(best, bound_usd=max(0.0, min(best.usd_per_month, bound_usd)))


def _check(problem: Problem) -> None:
    no_api = stranded(problem)
    usable = [pool.first_per_h > 0 for pool in problem.pools]
    for s in np.flatnonzero(no_api):
        if not any(allowed_on(problem, k)[s] and usable[k] for k in range(len(problem.pools))):
            raise Infeasible(
                f"nothing that the limits allow can serve {problem.stream_ids[s]!r}",
                conflict=(f"limits of {problem.stream_ids[s]}",),
            )


def api_only(problem: Problem) -> Solution:
    """Everything on the APIs."""
    streams, hours, pools = *problem.api_usd_per_h.shape, len(problem.pools)
    none, zero = np.zeros((pools, hours), np.int64), np.zeros(pools, np.int64)
    frac, off = np.zeros((streams, pools, hours)), np.zeros(pools, bool)
    solution = Solution(0.0, 0.0, frac, zero, none, none.copy(), zero.copy(), off)
    usd = cost_of(problem, solution)
    return replace(solution, usd_per_month=usd, bound_usd=usd)


@dataclass(frozen=True)
class Relaxed:
    """A relaxation solved: column values, row prices, its cost, and the bound with whole replicas."""

    programme: Programme
    values: Floats
    prices: Floats
    usd: float
    bound_usd: float


def relaxation(laid: Programme) -> Relaxed | None:
    """The programme without whole numbers, and the bound that whole replicas of each pool lift it to."""
    answer = laid.solve(0.0, 0, None, True)
    if answer.values is None or answer.price is None or answer.bound_usd <= 0.0 < answer.usd:
        return None
    lifted = answer.usd
    for k in range(len(laid.problem.pools)):
        if np.concatenate(laid.columns.high)[laid.index.runs[k]] > 0:
            lifted += max(0.0, _whole_replicas(laid, k, answer.values, answer.price))
    bound = max(answer.bound_usd, lifted) * (1.0 - DUAL_TOL)
    return Relaxed(laid, answer.values, answer.price, answer.usd, bound)


def _whole_replicas(laid: Programme, k: int, values: Floats, prices: Floats) -> float:
    """What pool k's own problem costs more in whole replicas than in parts, at given prices of all else."""
    problem, index, pool = laid.problem, laid.index, laid.problem.pools[k]
    weight, whole = problem.weight_h, float(laid.problem.weight_h.sum())
    costs, highs = np.concatenate(laid.columns.cost), np.concatenate(laid.columns.high)
    lows = np.concatenate(laid.columns.low)
    per_kg = prices[index.kg] if index.kg >= 0 else 0.0
    care = pool.extra_usd_per_replica_h - per_kg * pool.kg_per_replica_h
    shift = care - pool.extra_usd_per_replica_h
    load, saving = np.zeros_like(problem.api_usd_per_h), np.zeros_like(problem.api_usd_per_h)
    allowed = index.frac[:, k, 0] >= 0
    waits = problem.wait_h or (0,) * len(allowed)
    paid = 0.0
    for s in np.flatnonzero(allowed):
        column = index.frac[s, k]
        reduced = costs[column] - prices[index.cover[s]]
        paid += float(reduced @ values[column])
        size = reach_of(laid.demand[s], waits[s], problem.cyclic)
        unit = np.nan_to_num(problem.load_per_h[s, k])
        if waits[s]:
            there = laid.demand[s] > 0
            unit = np.full(len(weight), (unit[there] / laid.demand[s][there]).max(initial=0.0))
        load[s], saving[s] = unit * size, -reduced / weight * size
    rent = [(index.on_demand[k], 0.0), (index.spot[k], 0.0)]
    paid += sum(float((costs[c] + weight * shift) @ values[c]) for c, _ in rent)
    paid += (costs[index.reserved[k]] + whole * shift) * values[index.reserved[k]]
    if index.starts[k, 0] >= 0:
        paid += float(costs[index.starts[k]] @ values[index.starts[k]])
    # What running it costs at the prices of the rows that tie pools: any pool runs, so many run.
    fixed = costs[index.runs[k]] + pool.held * whole * shift
    for rows_at, sign in _ties(laid, k):
        fixed -= sign * prices[rows_at]
    paid += fixed * values[index.runs[k]]
    none = np.zeros_like(load, dtype=bool)
    priced: PoolChoice = replace(pool, extra_usd_per_replica_h=care)
    worth = Worth(load, saving, np.zeros(len(weight)), none, allowed)
    given = replace(problem, pools=(*problem.pools[:k], priced, *problem.pools[k + 1 :]))
    found = schedule(given, k, worth)
    run = INF if found is None else found[1] + fixed - pool.held * whole * care
    best = run if lows[index.runs[k]] > 0 else min(0.0, run)
    assert highs[index.runs[k]] > 0
    return best - paid if np.isfinite(best) else 0.0


def _ties(laid: Programme, k: int) -> list[tuple[int, float]]:
    """Rows in which only ``y`` of pool k meets other pools, and its value there."""
    return [(row, value) for row, column, value in laid.ties if column == laid.index.runs[k]]


def descend(
    problem: Problem, pools: tuple[int, ...], frac: Floats, reserved: Mapping[int, int] | None = None
) -> Solution | None:
    """One pool after another chooses its replicas, given what the others serve, until none gains.

    ``frac`` (S, len(pools), H): shares to start from. ``reserved`` fixes numbers by pool.
    """
    frac = frac / np.maximum(1.0, frac.sum(axis=1, keepdims=True))
    best: Solution | None = None
    chosen: dict[int, tuple[int, Floats]] = {}
    for _ in range(PASSES):
        for i, k in enumerate(pools):
            others = frac.sum(axis=1) - frac[:, i]
            left = np.clip(1.0 - others, 0.0, 1.0)
            left[left < 1e-9] = 0.0
            worth = worth_of(problem, k)
            must = worth.must & (left > 0)
            if (must & ~worth.open[:, None]).any():
                # Nobody else may serve it: the others have to first.
                must = must & worth.open[:, None]
            part = Worth(worth.load * left, worth.saving * left, np.zeros(left.shape[1]), must, worth.open)
            found = schedule(_bare(problem, k), 0, part, None if reserved is None else reserved[k])
            if found is None:
                return best
            chosen[k] = (found[2], found[3].astype(np.float64))
            frac[:, i] = shares(_bare(problem, k), 0, part, found[3]) * left
        if len(chosen) < len(pools):
            continue
        solution = _assembled(problem, pools, frac, chosen)
        if solution is None:
            continue
        if best is not None and solution.usd_per_month >= best.usd_per_month - 1e-9:
            break
        best = solution
    return best


def _bare(problem: Problem, k: int) -> Problem:
    """The problem with pool k alone and every stream open to it as the caller says."""
    return replace(
        problem,
        pools=(problem.pools[k],),
        load_per_h=problem.load_per_h[:, k : k + 1],
        pool_usd_per_h=problem.pool_usd_per_h[:, k : k + 1],
        api_usd_per_h=np.nan_to_num(problem.api_usd_per_h),
    )


def _assembled(
    problem: Problem, pools: tuple[int, ...], frac: Floats, chosen: dict[int, tuple[int, Floats]]
) -> Solution | None:
    """Shares and counts as a solution; ``None`` where a stream is left without a place."""
    streams, count, hours = problem.load_per_h.shape
    whole = np.zeros((streams, count, hours))
    reserved, held = np.zeros(count, np.int64), np.zeros(count, np.int64)
    on_demand, spot = np.zeros((count, hours), np.int64), np.zeros((count, hours), np.int64)
    runs = np.zeros(count, bool)
    for i, k in enumerate(pools):
        number, counts = chosen[k]
        pool, replicas = problem.pools[k], counts.astype(np.int64)
        whole[:, k] = frac[:, i]
        rest = np.maximum(0, replicas - pool.held - number)
        spot[k] = spot_of(problem, pool, replicas, rest)
        on_demand[k], reserved[k], held[k], runs[k] = rest - spot[k], number, pool.held, True
    total = whole.sum(axis=1)
    must = np.isnan(problem.api_usd_per_h)
    if (total[must] < 1 - 1e-7).any():
        return None
    scale = np.where(must & (total > 0), total, np.maximum(total, 1.0))
    whole = whole / np.where(scale > 0, scale, 1.0)[:, None, :]
    found = Solution(0.0, 0.0, whole, reserved, on_demand, spot, held, runs)
    return replace(found, usd_per_month=cost_of(problem, found))


def _closed(
    problem: Problem, best: Solution | None, bound: float, gap_frac: float, nodes: int
) -> tuple[Solution | None, float]:
    """Branch and bound where the problem is small enough; the best plan and what no mix goes below."""
    laid = programme(problem)
    many = sum(int(part.sum()) for part in laid.columns.whole) > CLOSED_MOST
    if best is not None and (many or best.replicas.sum(axis=0).max(initial=0) > REPLICAS_MOST):
        return best, bound
    start = None if best is None else encode(best, laid.index, problem, laid.columns.count)
    answer = laid.solve(gap_frac, nodes, start, False)
    if answer.values is not None:
        found = decode(laid, answer.values)
        found = replace(found, usd_per_month=cost_of(problem, found))
        if best is None or found.usd_per_month < best.usd_per_month:
            best = found
    return best, max(bound, answer.bound_usd)


def _coupled(problem: Problem, gap_frac: float, nodes: int) -> Solution:
    """Hours tied by waiting work or emissions: each set of at most one pool, and mixes, by its relaxation."""
    found: Solution | None = None
    bound = INF
    count = len(problem.pools)
    cases = [programme(problem, only=(k,)) for k in range(count)]
    if np.isfinite(problem.api_usd_per_h).all():
        cases.append(programme(problem, only=()))
    if count > 1:
        cases.append(programme(problem, at_least=2))
    for laid in cases:
        relaxed = relaxation(laid)
        if relaxed is None:
            continue
        bound = min(bound, relaxed.bound_usd)
        if found is not None and found.usd_per_month * (1 - gap_frac) <= relaxed.bound_usd:
            continue
        running = laid.columns.high
        keep = tuple(k for k in range(count) if np.concatenate(running)[laid.index.runs[k]] > 0)
        moved = served_in(laid, relaxed.values) if any(problem.wait_h) else None
        placed = problem if moved is None else served_later(laid, moved)
        per_kg = 0.0 if laid.index.kg < 0 else max(0.0, -float(relaxed.prices[laid.index.kg]))
        made = _within_kg(placed, keep, per_kg, gap_frac, nodes)
        if made is not None and (found is None or made.usd_per_month < found.usd_per_month):
            found = replace(made, served=moved)
    if found is None and problem.most_kg == INF:
        return _certified(None, bound)
    if found is None:
        raise Infeasible(
            f"no plan stays within {problem.most_kg:g} kg of CO2e",
            where=CARBON,
            fix="Raise carbon_kg_per_month in slo.toml",
        )
    return _certified(found, bound)


def _within_kg(
    problem: Problem, keep: tuple[int, ...], per_kg: float, gap_frac: float, nodes: int
) -> Solution | None:
    """The cheapest plan found under the limit on emissions, its price per kilogram raised until it holds."""
    free = replace(problem, most_kg=INF).only(keep, api=True)
    price, step = per_kg, max(per_kg, 1e-3) * 0.05
    for _ in range(CARBON_STEPS):
        pools = tuple(
            replace(p, extra_usd_per_replica_h=p.extra_usd_per_replica_h + price * p.kg_per_replica_h)
            for p in free.pools
        )
        try:
            made = solve(replace(free, pools=pools), gap_frac=gap_frac, nodes=nodes)
        except Infeasible:
            return None
        plain = replace(made, usd_per_month=cost_of(free, made))
        if emitted_kg(free, plain) <= problem.most_kg * (1 + 1e-9):
            return _spread(plain, keep, problem)
        price, step = price + step, step * 2.0
    return None


def _spread(solution: Solution, keep: tuple[int, ...], problem: Problem) -> Solution:
    """A solution over fewer pools, as one over all."""
    at, count = list(keep), len(problem.pools)

    def wide(part: np.ndarray, axis: int) -> np.ndarray:
        shape = list(part.shape)
        shape[axis] = count
        whole = np.zeros(shape, part.dtype)
        whole[(slice(None),) * axis + (at,)] = part
        return whole

    return replace(
        solution,
        pool_frac=wide(solution.pool_frac, 1),
        reserved=wide(solution.reserved, 0),
        on_demand=wide(solution.on_demand, 0),
        spot=wide(solution.spot, 0),
        held=wide(solution.held, 0),
        runs=wide(solution.runs, 0),
    )
