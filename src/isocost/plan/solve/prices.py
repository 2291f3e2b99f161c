"""Prices of serving each stream in each hour, and what they prove about every plan with several pools.

At given prices, the plan falls apart: each pool by itself chooses its replicas, whole, to earn the most
(dynamic programming), and the APIs serve what costs less than its price. What all of them then cost is a
lower bound of any plan (weak duality), whatever the prices. Good prices come from the relaxation, taken a
week at a time with the reserved replicas given, which no longer ties the weeks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from isocost.plan.solve.one_pool import Worth, allowed_on, schedule
from isocost.plan.solve.problem import Floats, Problem
from isocost.plan.solve.programme import programme
from isocost.units import WEEK_H


@dataclass(frozen=True)
class Priced:
    """What prices prove: ``base_usd`` is paid by streams; ``run_usd`` (P,) what running each pool adds to it.

    A plan that runs exactly some pools costs no less than the base and what they add. ``reserved`` (P,):
    the number that each would reserve.
    """

    base_usd: float
    run_usd: Floats
    reserved: Floats

    def bound_usd(self, pools: Iterable[int]) -> float:
        """What no plan that runs these pools, and no other, goes below."""
        return self.base_usd + float(sum(self.run_usd[k] for k in pools))


def bound_at(problem: Problem, price: Floats, pools: Iterable[int]) -> Priced:
    """What prices (S, H), in dollars an hour of each stream, prove of plans that run some of these pools.

    Work that waits and limits on emissions are not seen: without them a plan costs no more.
    """
    weight, api = problem.weight_h, problem.api_usd_per_h
    paid = np.where(np.isnan(api), price, np.minimum(price, np.nan_to_num(api)))
    reserved, run = np.zeros(len(problem.pools)), np.full(len(problem.pools), np.inf)
    for k in pools:
        pool, allowed = problem.pools[k], allowed_on(problem, k)
        load = np.where(allowed[:, None], np.nan_to_num(problem.load_per_h[:, k]), 0.0)
        saving = np.where(allowed[:, None], paid - np.nan_to_num(problem.pool_usd_per_h[:, k]), 0.0)
        none = np.zeros_like(load, dtype=bool)
        found = schedule(problem, k, Worth(load, saving, np.zeros(len(weight)), none, allowed))
        if found is not None:
            run[k], reserved[k] = found[1] + pool.fixed_usd_per_month, found[2]
    return Priced(float(paid.sum(axis=0) @ weight) + problem.fixed_usd_per_month, run, reserved)


def weekly(problem: Problem, reserved: Floats, pools: tuple[int, ...]) -> tuple[Floats, Floats] | None:
    """Prices (S, H) and shares (S, P, H) of the relaxation, a week at a time, so many being reserved.

    ``None`` where a week cannot be served.
    """
    price, frac = np.zeros_like(problem.api_usd_per_h), np.zeros(problem.load_per_h.shape)
    total = len(problem.weight_h)
    for start in range(0, total, WEEK_H):
        part = slice(start, min(total, start + WEEK_H))
        weight = problem.weight_h[part]
        week = replace(
            problem,
            weight_h=weight,
            api_usd_per_h=problem.api_usd_per_h[:, part],
            load_per_h=problem.load_per_h[:, :, part],
            pool_usd_per_h=problem.pool_usd_per_h[:, :, part],
            cyclic=True,
        )
        laid = programme(week, only=pools, reserved_at=reserved)
        answer = laid.solve(0.0, 0, None, True)
        if answer.values is None or answer.price is None:
            return None
        there = laid.index.frac >= 0
        frac[:, :, part] = np.where(there, np.clip(answer.values[laid.index.frac], 0.0, 1.0), 0.0)
        cover = laid.index.cover
        dual = np.where(cover >= 0, answer.price[cover], 0.0) / weight
        # Where the API is there, its cost is counted from the start: the row prices the saving.
        price[:, part] = dual + np.nan_to_num(week.api_usd_per_h)
    return price, frac
