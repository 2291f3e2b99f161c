"""How fast the planner is, how near to the least possible, and what a static allocation costs beside it.

    python benchmarks/plan.py                 every size, a week, representative weeks and the whole year
    python benchmarks/plan.py 10 100          these peak numbers of replicas

A made year of traffic (office hours, a slower summer, growth, noise; fixed seed) of four workloads on four
kinds of replica, each on demand, spot or reserved, beside an API: thirteen options an hour. The static
allocation is a whole-number programme for the peak (Melange, Griggs et al. 2024), solved by scipy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from isocost.plan.solve.mix import solve
from isocost.plan.solve.problem import PoolChoice, Problem
from isocost.plan.solve.weeks import estimate, representative
from isocost.units import WEEK_H

SIZES = (3, 10, 30, 100, 300)
YEAR_H = 8760
GAP_FRAC = 0.001


def year(replicas: float, seed: int = 0, streams: int = 4) -> Problem:
    """A year whose busiest hour takes about so many of the first kind of replica."""
    rng = np.random.Generator(np.random.PCG64(seed))
    hour = np.arange(YEAR_H)
    day, week = hour % 24, hour // 24 % 7
    office = 0.25 + np.exp(-((day - 14) ** 2) / 18.0)
    night = 0.3 + np.exp(-((np.minimum(abs(day - 3), 24 - abs(day - 3))) ** 2) / 8.0)
    shape = np.stack(
        [np.where(week < 5, 1.0, 0.45) * (office if s % 4 < 3 else night) for s in range(streams)]
    )
    season = 1.0 + 0.15 * np.cos(2 * np.pi * (hour - 700) / YEAR_H)
    demand = shape * season * (1.0 + 0.2 * hour / YEAR_H) * rng.gamma(60.0, 1 / 60.0, (streams, YEAR_H))
    demand *= (0.4 ** np.arange(streams))[:, None]
    capacity = np.array([100.0, 180.0, 60.0, 40.0])
    demand *= replicas * capacity[0] / demand.sum(axis=0).max()
    weigh = np.stack([np.full(4, 1.0) * rng.uniform(0.9, 1.2, 4) for _ in range(streams)])
    load = demand[:, None, :] * weigh[:, :, None]
    load[0, 2:] = np.nan  # the main workload needs the larger model
    pools = tuple(
        PoolChoice(
            f"kind{k}", capacity[k] * 0.85, capacity[k], rent, rent * 0.7, rent * 0.45, 0, 4000.0,
            0.05 * rent, start_usd=0.25 * rent,
        )
        for k, rent in enumerate((4.0, 7.5, 2.3, 1.7))
    )  # fmt: skip
    api = demand * np.array([0.085, 0.06, 0.05, 0.045])[:streams, None]
    return Problem(
        np.ones(YEAR_H), api, load, np.zeros_like(load), pools, 30_000.0 * min(1.0, replicas / 30), 1, 0.5,
        tuple(f"s{i}" for i in range(streams)), cyclic=False,
    )  # fmt: skip


def a_week(problem: Problem) -> Problem:
    """Its first whole week of autumn, standing for the year."""
    part = slice(39 * WEEK_H, 40 * WEEK_H)
    from dataclasses import replace

    return replace(
        problem,
        weight_h=np.full(WEEK_H, YEAR_H / WEEK_H),
        api_usd_per_h=problem.api_usd_per_h[:, part],
        load_per_h=problem.load_per_h[:, :, part],
        pool_usd_per_h=problem.pool_usd_per_h[:, :, part],
        cyclic=True,
    )


def static_usd(problem: Problem) -> float:
    """Fixed whole replicas for the peak of every stream, around the clock, and no API."""
    streams, n, _ = problem.load_per_h.shape
    peak = np.nan_to_num(problem.load_per_h).max(axis=2)
    barred = np.isnan(problem.load_per_h).any(axis=2)
    hours = float(problem.weight_h.sum())
    rent = [
        min(p.on_demand_usd_per_h, p.reserved_usd_per_h or np.inf) + p.extra_usd_per_replica_h
        for p in problem.pools
    ]
    cost = np.concatenate(
        [np.array(rent) * hours, [p.fixed_usd_per_month for p in problem.pools], np.zeros(streams * n)]
    )
    rows, low, high = [], [], []
    big = 1e5
    for k, pool in enumerate(problem.pools):
        carry = np.zeros(len(cost))
        carry[k], carry[n + k] = -pool.more_per_h, pool.more_per_h * (1 + problem.spare) - pool.first_per_h
        runs = np.zeros(len(cost))
        runs[k], runs[n + k] = 1.0, -big
        for s in range(streams):
            carry[2 * n + s * n + k] = peak[s, k]
        rows += [carry, runs]
        low += [-np.inf, -np.inf]
        high += [0.0, 0.0]
    for s in range(streams):
        row = np.zeros(len(cost))
        row[2 * n + s * n : 2 * n + (s + 1) * n] = 1.0
        rows.append(row)
        low.append(1.0)
        high.append(1.0)
    top = np.concatenate([np.full(n, np.inf), np.ones(n), np.where(barred, 0.0, 1.0).ravel()])
    whole = np.concatenate([np.ones(2 * n), np.zeros(streams * n)])
    found = milp(
        cost, integrality=whole, bounds=Bounds(np.zeros(len(cost)), top),
        constraints=LinearConstraint(np.array(rows), low, high), options={"mip_rel_gap": 1e-6},
    )  # fmt: skip
    return float(found.fun) + problem.fixed_usd_per_month


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds, and what came of it."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("replicas", nargs="*", type=float, default=list(SIZES))
    solve(a_week(year(3)), gap_frac=GAP_FRAC)  # compiles the loops
    heads = f"{'replicas':>8}  {'hours':<22}{'seconds':>8}{'gap':>8}{'$/year':>13}{'static':>13}{'error':>9}"
    print(heads + "  pools; seconds to run the reserved numbers on every hour")
    for replicas in parser.parse_args(argv).replicas:
        whole = year(replicas)
        static = static_usd(whole)
        week = a_week(whole)
        seconds, one = timed(lambda week=week: solve(week, gap_frac=GAP_FRAC))
        line(replicas, "168, one week", seconds, one, static_usd(week), "")
        reduced = representative(whole)
        seconds, few = timed(lambda reduced=reduced: solve(reduced.problem, gap_frac=GAP_FRAC))
        seconds_all, told = timed(lambda whole=whole, few=few: estimate(whole, few))
        line(
            replicas, f"{len(reduced.problem.weight_h)}, {reduced.weeks} weeks", seconds, few, static,
            f"{few.usd_per_month / told.usd_per_month - 1:+.2%}", f"; {seconds_all:.1f} s",
        )  # fmt: skip
        seconds, full = timed(lambda whole=whole: solve(whole, gap_frac=GAP_FRAC))
        line(replicas, "8760, the year", seconds, full, static, "")


def line(
    replicas: float, hours: str, seconds: float, found: object, static: float, error: str, more: str = ""
) -> None:
    used = ",".join(str(k) for k in np.flatnonzero(found.runs)) or "API"
    print(
        f"{replicas:8.0f}  {hours:<22}{seconds:8.1f}{found.gap_frac:8.2%}{found.usd_per_month:13,.0f}"
        f"{static:13,.0f}{error:>9}  {used}{more}",
        flush=True,
    )


if __name__ == "__main__":
    main()
