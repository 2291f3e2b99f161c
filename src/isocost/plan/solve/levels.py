"""A pool's best schedule level by level, in one pass: exact but for what the last two paragraphs say.

What the API is still paid falls by less with each further replica, and a replica costs no less than the one
before it. So the schedule of n replicas falls apart into levels: the t-th replica is on or off in each hour
by itself, at what the hour's bill falls by between t - 1 and t replicas, its rent, and what it costs to start
(Hochbaum 2001: convex costs and convex differences along a chain). A level is a chain of on and off, closed
where the week repeats. Committed replicas are the lowest levels, always on and rented for nothing, so that
the sums of levels say what every number of them costs.

More replicas than ``LEVELS_MOST`` are taken a few at a time: bills between such steps lie below the straight
line that stands for them, so that costs are a little too high, and the bound lies lower by what the steps
could hide. The last step may pass what is needed: it is counted whole, and no schedule goes there.

Spot comes in whole replicas up to a share of all. Here it counts in parts of a replica: that is no dearer, so
the sums are then a lower bound, and what whole replicas cost more is added to the cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isocost.plan.solve.problem import Floats, Ints, PoolChoice, Problem
from isocost.units import WEEK_H

BLOCK = 4096
"""Levels whose bills are in memory at once, for a week of hours; fewer for more hours."""
LEVELS_MOST = 32_768
"""Steps in which replicas are taken, at most, for a week of hours; fewer for more hours."""


@dataclass(frozen=True)
class Levels:
    """A pool's schedules by the number committed: index 0 has those alone that are held.

    ``bound_usd`` (n,): what no schedule goes below, nothing paid for what is committed; it is what the best
    one costs unless spot comes in whole replicas. ``top`` (2, H): the highest level on in each hour, at the
    rent of a spot replica and beyond its share. ``step``: replicas taken at a time; what that may hide is
    ``hidden_usd``, already off the bound.
    """

    problem: Problem
    pool: PoolChoice
    bound_usd: Floats
    floor: int
    top: Ints
    step: int = 1
    hidden_usd: float = 0.0

    def counts(self, committed: int) -> Ints:
        """Replicas (H,) of the best schedule with so many committed beside those held."""
        return np.asarray(self._counts(np.array([self.pool.held + committed]))[0])

    def _counts(self, numbers: Ints) -> Ints:
        low, turn = _turn(self.problem, self.pool, numbers[:, None], self.floor)
        inside = np.minimum(self.top[0], turn)
        return np.asarray(np.maximum(low, np.where(self.top[1] > turn, self.top[1], inside)))

    def usd(self, committed: Ints) -> Floats:
        """What the best schedules cost by how many are committed: spot in whole replicas; same shape."""
        found = self.bound_usd[committed] + self.hidden_usd
        part = spot_part(self.problem, self.pool)
        if part <= 0.0:
            return found
        cheap, dear = _rents(self.problem, self.pool)
        size = _rows(len(self.problem.weight_h))
        for low in range(0, len(found), size):
            here = slice(low, low + size)
            numbers = (self.pool.held + committed[here])[:, None]
            counts = self._counts(numbers[:, 0])
            always, turn = _turn(self.problem, self.pool, numbers, self.floor)
            supposed = _forced_usd_per_h(self.problem, self.pool, numbers, self.floor)
            supposed = supposed + cheap * (np.minimum(counts, turn) - always)
            supposed = supposed + dear * np.maximum(0, counts - turn)
            rented = counts - numbers
            spot = np.minimum(rented, np.floor(counts * part))
            paid = rented * self.pool.on_demand_usd_per_h - spot * (self.pool.on_demand_usd_per_h - cheap)
            found[here] += (paid - supposed) @ self.problem.weight_h
        return found


def _rows(hours: int) -> int:
    return max(16, BLOCK * WEEK_H // hours)


def spot_part(problem: Problem, pool: PoolChoice) -> float:
    """The share of a pool's replicas that may be spot; 0 where spot is not cheaper."""
    spot = pool.spot_usd_per_h
    return 0.0 if spot is None or spot >= pool.on_demand_usd_per_h else problem.spot_frac


def _rents(problem: Problem, pool: PoolChoice) -> tuple[float, float]:
    """Rent of one replica more while all that is rented may be spot, and where spot keeps to its share."""
    part = spot_part(problem, pool)
    cheap = pool.on_demand_usd_per_h if part <= 0.0 else float(pool.spot_usd_per_h or 0.0)
    return cheap, pool.on_demand_usd_per_h - part * (pool.on_demand_usd_per_h - cheap)


def _turn(problem: Problem, pool: PoolChoice, numbers: Ints, floor: int) -> tuple[Ints, Ints]:
    """By the number committed: the levels that are always on, and those that are spot at most."""
    part, low = spot_part(problem, pool), np.maximum(numbers, floor)
    if part <= 0.0:
        return low, low
    if part >= 1.0:
        return low, np.full_like(low, np.iinfo(np.int64).max)
    return low, np.maximum(low, np.ceil(np.round(numbers / (1.0 - part), 9)).astype(np.int64))


def _forced_usd_per_h(problem: Problem, pool: PoolChoice, numbers: Ints, floor: int) -> Floats:
    """Rent of what stands whatever the load, beyond what is committed, spot in parts of a replica."""
    forced = np.maximum(0.0, floor - numbers)
    spot = np.minimum(forced, spot_part(problem, pool) * floor)
    return forced * pool.on_demand_usd_per_h - spot * (pool.on_demand_usd_per_h - _rents(problem, pool)[0])


def levels(
    problem: Problem,
    pool: PoolChoice,
    bill: tuple[Floats, Floats, Ints],
    without: tuple[Floats, Floats],
    between: tuple[int, int],
) -> Levels:
    """Levels of a pool's schedule, of at least and at most so many replicas (``between``).

    ``bill``: load and saving (S, H) of what the pool takes in, and the order of streams in each hour, as
    :func:`isocost.plan.solve.kernel.rest_after` takes them; ``without`` replicas, by hour: load that then has
    nowhere to go, and dollars. Costs are infinite where not even the most carry that load.
    """
    from isocost.plan.solve.kernel import level_sums, rest_after

    (needed, base), (floor, asked) = without, between

    weight, hours = problem.weight_h, len(problem.weight_h)
    step = max(1, -(-(asked - floor) // max(1, LEVELS_MOST * WEEK_H // max(hours, WEEK_H))))
    steps = -(-(asked - floor) // step)
    most = floor + step * steps
    each = np.array([*_rents(problem, pool), pool.extra_usd_per_replica_h, pool.start_usd]) * step
    cost = np.array([*each, float(problem.cyclic)])
    room, came = np.zeros((2, hours)), np.zeros((2, hours, 2), np.int64)
    sums, top = np.zeros((3, most + 1)), np.zeros((2, hours), np.int64)
    size = _rows(hours)
    for low in range(0, max(1, steps), size):
        high = min(max(1, steps), low + size)
        numbers = floor + step * np.arange(low, high + 1)
        capacity = np.asarray(pool.capacity_per_h(numbers, problem.spare), dtype=np.float64)
        rest = np.repeat(base[:, None], high + 1 - low, axis=1)
        rest_after(*bill, capacity, needed, rest)
        if low == 0:
            room[0] = rest[:, 0]
        out = np.zeros((3, high - low))
        level_sums(rest, weight, cost, out, top, room, came)
        inside = np.arange(floor + step * low + 1, min(most, floor + step * high) + 1)
        sums[:, inside] = out[:, (inside - floor - 1) // step - low] / step
    numbers = np.arange(pool.held, asked + 1)
    always, turn = _turn(problem, pool, numbers, floor)
    turn, whole = np.minimum(turn, most), float(weight.sum())
    on, cheap, dear = np.cumsum(sums, axis=1)
    bound = float(room[0] @ weight) + on[always] + always * pool.extra_usd_per_replica_h * whole
    bound = bound + (cheap[turn] - cheap[always]) + (dear[most] - dear[turn])
    bound = bound + whole * _forced_usd_per_h(problem, pool, numbers, floor)
    if not problem.cyclic:
        bound = bound + np.maximum(0, floor - numbers) * pool.start_usd * weight[0]
    hidden = (step - 1) * whole * (pool.on_demand_usd_per_h + pool.extra_usd_per_replica_h + pool.start_usd)
    return Levels(problem, pool, bound - hidden, floor, np.minimum(floor + step * top, asked), step, hidden)
