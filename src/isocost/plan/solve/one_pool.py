"""The cheapest plan that runs one pool beside the APIs: exact, with no solver.

Hours are independent given the reserved count R. In one hour, n replicas serve the streams whose
API cost per unit of load is highest first (a fractional knapsack), so the API bill that remains is a
piecewise linear function of capacity. The best n of every hour for every R is then a table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from isocost.plan.solve.problem import Floats, Ints, PoolChoice, Problem, Solution, cost_of

Bools = npt.NDArray[np.bool_]


def stranded(problem: Problem) -> Bools:
    """Streams that no API may serve: (S,)."""
    return np.asarray(np.isnan(problem.api_usd_per_h).any(axis=1), dtype=np.bool_)


def allowed_on(problem: Problem, k: int) -> Bools:
    """Streams that pool k may serve: (S,)."""
    return np.asarray(np.isfinite(problem.load_per_h[:, k, :]).all(axis=1), dtype=np.bool_)


def one_pool(problem: Problem, k: int) -> Solution | None:
    """The cheapest plan whose only pool is k; ``None`` where a stream then has nowhere to go.

    ``bound_usd`` equals the cost: nothing with these pools is cheaper.
    """
    pool, weight = problem.pools[k], problem.weight_h
    load = problem.load_per_h[:, k, :]
    allowed = allowed_on(problem, k)
    must = stranded(problem)
    if pool.first_per_h <= 0 or (must & ~allowed).any() or not allowed.any():
        return None
    total = np.where(allowed[:, None], load, 0.0).sum(axis=0)
    most = max(int(pool.needed(total, problem.spare).max()), 1 + problem.spare, pool.held)
    rest, order = _rest_after(problem, k, allowed, must, most)
    floor = max(1 + problem.spare, pool.held)
    counts = np.arange(most + 1)
    reserved_most = most - pool.held if pool.reserved_usd_per_h is not None else 0
    best: tuple[float, int, Ints] | None = None
    for reserved in range(max(0, reserved_most) + 1):
        base = pool.held + reserved
        rent = _rent_usd_per_h(problem, pool, counts, base) + counts * pool.extra_usd_per_replica_h
        usd_per_h = rest + rent[:, None]
        usd_per_h[: max(floor, base)] = np.inf
        n = usd_per_h.argmin(axis=0)
        usd = float(usd_per_h[n, np.arange(len(weight))] @ weight)
        usd += reserved * float(weight.sum()) * (pool.reserved_usd_per_h or 0.0)
        if best is None or usd < best[0] - 1e-9:
            best = (usd, reserved, n)
    if best is None or not np.isfinite(best[0]):
        return None
    return _solution(problem, k, best[1], best[2], order)


def _rest_after(problem: Problem, k: int, allowed: Bools, must: Bools, most: int) -> tuple[Floats, Ints]:
    """API dollars per hour that remain with 0..most replicas: (most + 1, H), inf where a stream is stranded.

    Also the order (S, H) in which an hour's streams are taken in.
    """
    pool, api = problem.pools[k], np.nan_to_num(problem.api_usd_per_h)
    load = np.where(allowed[:, None], np.nan_to_num(problem.load_per_h[:, k, :]), 0.0)
    saving = api - np.nan_to_num(problem.pool_usd_per_h[:, k, :])
    # What weighs nothing on the pool and saves something is taken in before all else.
    worth = np.where(
        load > 0,
        saving / np.where(load > 0, load, 1.0),
        np.where(allowed[:, None] & (saving > 0), np.inf, 0.0),
    )
    worth = np.where(must[:, None], np.inf, np.where(allowed[:, None], worth, -np.inf))
    order = np.argsort(-worth, axis=0, kind="stable")
    capacity = pool.capacity_per_h(np.arange(most + 1), problem.spare)
    rest = np.empty((most + 1, load.shape[1]))
    for h in range(load.shape[1]):
        row = order[:, h]
        gains = np.where(worth[row, h] > 0, saving[row, h], 0.0)
        filled = np.concatenate(([0.0], np.cumsum(np.where(worth[row, h] > 0, load[row, h], 0.0))))
        saved = np.concatenate(([0.0], np.cumsum(gains)))
        rest[:, h] = api[:, h].sum() - np.interp(capacity, filled, saved)
        rest[capacity < load[must, h].sum() * (1 - 1e-12), h] = np.inf
    return rest, order


def _rent_usd_per_h(problem: Problem, pool: PoolChoice, counts: Ints, base: int) -> Floats:
    spot = spot_of(problem, pool, counts, np.maximum(0, counts - base))
    on_demand = np.maximum(0, counts - base) - spot
    return np.asarray(on_demand * pool.on_demand_usd_per_h + spot * (pool.spot_usd_per_h or 0.0))


def spot_of(problem: Problem, pool: PoolChoice, replicas: Ints, rest: Ints) -> Ints:
    """How many of ``rest`` are spot where spot is cheaper: at most a share of all replicas."""
    if pool.spot_usd_per_h is None or pool.spot_usd_per_h >= pool.on_demand_usd_per_h:
        return np.zeros_like(rest)
    return np.asarray(np.minimum(rest, np.floor(replicas * problem.spot_frac)), dtype=np.int64)


def _solution(problem: Problem, k: int, reserved: int, replicas: Ints, order: Ints) -> Solution:
    pool, hours, pools = problem.pools[k], len(problem.weight_h), len(problem.pools)
    load = problem.load_per_h[:, k, :]
    frac = np.zeros((len(load), pools, hours))
    must = stranded(problem)
    room = pool.capacity_per_h(replicas, problem.spare).astype(np.float64)
    saving = np.nan_to_num(problem.api_usd_per_h) - np.nan_to_num(problem.pool_usd_per_h[:, k, :])
    for h in range(hours):
        for s in order[:, h]:
            use = load[s, h]
            if not np.isfinite(load[s]).all() or (saving[s, h] <= 0 and not must[s]):
                continue
            frac[s, k, h] = 1.0 if use <= 0 else min(1.0, room[h] / use)
            room[h] = max(0.0, room[h] - use * frac[s, k, h])
            if must[s] and frac[s, k, h] > 1 - 1e-9:
                frac[s, k, h] = 1.0
    rest = np.maximum(0, replicas - pool.held - reserved)
    spot = spot_of(problem, pool, replicas, rest)
    none = np.zeros((pools, hours), np.int64)
    on_demand, spots = none.copy(), none.copy()
    on_demand[k], spots[k] = rest - spot, spot
    only = np.arange(pools) == k
    found = Solution(
        0.0,
        0.0,
        frac,
        np.where(only, reserved, 0),
        on_demand,
        spots,
        np.where(only, pool.held, 0),
        only,
    )
    usd = cost_of(problem, found)
    return Solution(usd, usd, frac, found.reserved, on_demand, spots, found.held, only)


def whole_pool(problem: Problem, k: int) -> Solution | None:
    """The cheapest fleet of pool k that serves every stream in every hour, with no API."""
    return one_pool(problem.only((k,), api=False), 0)
