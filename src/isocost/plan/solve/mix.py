"""The mixed-integer programme over hours, streams and pools, solved by HiGHS.

minimise   sum_h w_h [ sum_s a_sh (1 - sum_p f_sph) + sum_sp v_sph f_sph
                       + sum_p (o_p n_ph + t_p m_ph) ]
           + sum_p [ W r_p R_p + e_p sum_h w_h (R_p + H_p + n_ph + m_ph) + F_p y_p ] + F z
subject to sum_s l_sph f_sph + (more_p (1 + spare) - first_p) y_p <= more_p (R_p + H_p y_p + n_ph + m_ph)
           R_p + H_p y_p + n_ph + m_ph >= (1 + spare) y_p,   m_ph <= q (R_p + H_p y_p + n_ph + m_ph)
           n_ph + m_ph <= N_ph y_p,  f_sph <= y_p <= z,  sum_p f_sph <= 1 (= 1 with no API),  n, m, R integer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.solve.milp import INF, Columns, Rows, minimise
from isocost.plan.solve.one_pool import allowed_on, one_pool, stranded
from isocost.plan.solve.problem import Floats, Problem, Solution, cost_of


def solve(problem: Problem, *, gap_frac: float, limit_s: float) -> Solution:
    """The cheapest plan found, to ``gap_frac`` or as near as ``limit_s`` allows; its gap is certified.

    The best plan with no pool and the best with each one pool are exact and start the search; HiGHS
    mixes pools and proves the bound.

    Raises:
        Infeasible: a stream that neither an API nor a pool may serve.
    """
    _check(problem)
    starts = [one_pool(problem, k) for k in range(len(problem.pools))]
    if np.isfinite(problem.api_usd_per_h).all():
        starts.append(_api_only(problem))
    known = [start for start in starts if start is not None]
    best = min(known, key=lambda start: start.usd_per_month) if known else None
    if len(problem.pools) <= 1 and best is not None and not _partly(problem):
        return best
    columns, rows = Columns(), Rows()
    index = _build(problem, columns, rows)
    start = None if best is None else _encode(best, index, len(columns.cost))
    answer = minimise(
        columns,
        rows,
        offset_usd=float((np.nan_to_num(problem.api_usd_per_h).sum(axis=0) * problem.weight_h).sum()),
        gap_frac=gap_frac,
        limit_s=limit_s,
        start=start,
    )
    if answer.values is not None:
        found = _decode(problem, index, answer.values)
        found = replace(found, usd_per_month=cost_of(problem, found))
        if best is None or found.usd_per_month < best.usd_per_month:
            best = found
    if best is None:
        raise Infeasible(
            f"the solver ended without a plan ({answer.status})", fix="Relax a limit in slo.toml"
        )
    return replace(best, bound_usd=min(best.usd_per_month, answer.bound_usd))


def _partly(problem: Problem) -> bool:
    """Whether a stream may use an API in some hours and not in others: one pool alone is then not exact."""
    none = np.isnan(problem.api_usd_per_h)
    return bool((none.any(axis=1) & ~none.all(axis=1)).any())


def _check(problem: Problem) -> None:
    no_api = stranded(problem)
    usable = [pool.first_per_h > 0 for pool in problem.pools]
    for s in np.flatnonzero(no_api):
        if not any(allowed_on(problem, k)[s] and usable[k] for k in range(len(problem.pools))):
            raise Infeasible(
                f"nothing that the limits allow can serve {problem.stream_ids[s]!r}",
                conflict=(f"limits of {problem.stream_ids[s]}",),
            )


def _api_only(problem: Problem) -> Solution:
    streams, hours, pools = *problem.api_usd_per_h.shape, len(problem.pools)
    none = np.zeros((pools, hours), np.int64)
    zero = np.zeros(pools, np.int64)
    solution = Solution(
        0.0,
        0.0,
        np.zeros((streams, pools, hours)),
        zero,
        none,
        none.copy(),
        zero.copy(),
        np.zeros(pools, bool),
    )
    usd = cost_of(problem, solution)
    return replace(solution, usd_per_month=usd, bound_usd=usd)


def _build(problem: Problem, columns: Columns, rows: Rows) -> dict[str, Any]:
    weight, hours = problem.weight_h, len(problem.weight_h)
    streams, spare = len(problem.api_usd_per_h), problem.spare
    api = problem.api_usd_per_h
    z = columns.add(problem.fixed_usd_per_month, 1.0, True)
    frac: dict[tuple[int, int, int], int] = {}
    at: dict[str, list[Any]] = {"y": [], "R": [], "n": [], "m": []}
    whole_month = float(weight.sum())
    for p, pool in enumerate(problem.pools):
        load = problem.load_per_h[:, p, :]
        allowed = allowed_on(problem, p) & (pool.first_per_h > 0)
        total = np.nansum(np.where(allowed[:, None], load, 0.0), axis=0)
        most = (
            np.maximum(pool.needed(total, spare), 1 + spare) if pool.first_per_h > 0 else np.zeros(hours, int)
        )
        extra_month = pool.extra_usd_per_replica_h * whole_month
        y = columns.add(pool.fixed_usd_per_month + pool.held * extra_month, float(allowed.any()), True)
        rows.add([(y, 1.0), (z, -1.0)], -INF, 0.0)
        reserved_most = 0.0 if pool.reserved_usd_per_h is None else float(most.max())
        reserved = columns.add(
            (pool.reserved_usd_per_h or 0.0) * whole_month + extra_month, reserved_most, True
        )
        rows.add([(reserved, 1.0), (y, -reserved_most)], -INF, 0.0)
        allowed_streams = [int(s) for s in np.flatnonzero(allowed)]
        n, m = [], []
        for h in range(hours):
            extra = pool.extra_usd_per_replica_h
            top = float(most[h])
            n.append(columns.add(weight[h] * (pool.on_demand_usd_per_h + extra), top, True))
            m.append(
                columns.add(
                    weight[h] * ((pool.spot_usd_per_h or 0.0) + extra),
                    0.0 if pool.spot_usd_per_h is None else top,
                    True,
                )
            )
            terms = []
            for s in allowed_streams:
                unit = problem.pool_usd_per_h[s, p, h] - (0.0 if np.isnan(api[s, h]) else api[s, h])
                column = columns.add(weight[h] * unit, 1.0)
                frac[s, p, h] = column
                terms.append((column, float(load[s, h])))
                rows.add([(column, 1.0), (y, -1.0)], -INF, 0.0)
            rows.add([(n[h], 1.0), (m[h], 1.0), (y, -top)], -INF, 0.0)
            replicas = [(reserved, 1.0), (y, float(pool.held)), (n[h], 1.0), (m[h], 1.0)]
            offset = pool.more_per_h * (1 + spare) - pool.first_per_h
            capacity = [(c, -pool.more_per_h * v) for c, v in replicas]
            capacity[1] = (y, capacity[1][1] + offset)
            rows.add([*terms, *capacity], -INF, 0.0)
            least = list(replicas)
            least[1] = (y, pool.held - (1.0 + spare))
            rows.add(least, 0.0, INF)
            if pool.spot_usd_per_h is not None:
                q = problem.spot_frac
                share = [(c, -q * v) for c, v in replicas]
                share[3] = (m[h], 1.0 - q)
                rows.add(share, -INF, 0.0)
        at["y"].append(y)
        at["R"].append(reserved)
        at["n"].append(n)
        at["m"].append(m)
    for s in range(streams):
        for h in range(hours):
            terms = [(frac[s, p, h], 1.0) for p in range(len(problem.pools)) if (s, p, h) in frac]
            if terms:
                rows.add(terms, 1.0 if np.isnan(api[s, h]) else -INF, 1.0)
    return {"frac": frac, **at}


def _encode(solution: Solution, index: dict[str, Any], count: int) -> Floats:
    """A solution as column values, to start the search from."""
    values = np.zeros(count)
    values[0] = float(solution.runs.any())
    for (s, p, h), column in index["frac"].items():
        values[column] = solution.pool_frac[s, p, h]
    for p, runs in enumerate(solution.runs):
        values[index["y"][p]] = float(runs)
        values[index["R"][p]] = float(solution.reserved[p])
        values[index["n"][p]] = solution.on_demand[p]
        values[index["m"][p]] = solution.spot[p]
    return values


def _decode(problem: Problem, index: dict[str, Any], values: Floats) -> Solution:
    streams, pools, hours = problem.load_per_h.shape
    frac = np.zeros((streams, pools, hours))
    for (s, p, h), column in index["frac"].items():
        frac[s, p, h] = min(1.0, max(0.0, values[column]))
    frac[frac < 1e-7] = 0.0
    whole = frac.sum(axis=1, keepdims=True)
    frac = np.where(whole > 1.0, frac / np.where(whole > 0, whole, 1.0), frac)
    must = np.isnan(problem.api_usd_per_h)[:, None, :]
    frac = np.where(must & (whole > 0), frac / np.where(whole > 0, np.minimum(whole, 1.0), 1.0), frac)
    runs = np.array([values[y] > 0.5 for y in index["y"]])
    held = np.array(
        [pool.held if on else 0 for pool, on in zip(problem.pools, runs, strict=True)], dtype=np.int64
    )
    reserved = np.array([round(values[c]) for c in index["R"]], dtype=np.int64)
    on_demand = np.array([[round(values[c]) for c in row] for row in index["n"]], dtype=np.int64)
    spot = np.array([[round(values[c]) for c in row] for row in index["m"]], dtype=np.int64)
    return Solution(0.0, 0.0, frac, reserved, on_demand, spot, held, runs)
