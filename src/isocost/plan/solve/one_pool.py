"""The cheapest plan that runs one pool beside the APIs, with no solver: exact but for two cases.

In one hour, n replicas serve the streams whose API cost per unit of load is highest first (a fractional
knapsack), so the API bill that remains is a table over n. Hours are tied by what a replica costs to
start. Replica by replica that is exact for every number reserved at once (:mod:`levels`). Few replicas with
spot among them, which comes in whole ones, take dynamic programming over counts, hour by hour, for each
number reserved; over that number the search is a branch and bound: one reserved replica less saves at most
its own price.

Not exact, and bounded from below instead: spot among more than ``SPOT_MOST`` replicas (``CLOSED_MOST`` where
starting one costs something), and more replicas than are taken one by one
(:data:`isocost.plan.solve.levels.LEVELS_MOST`).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isocost.plan.solve.levels import levels, spot_part
from isocost.plan.solve.problem import Floats, Ints, PoolChoice, Problem, Solution, cost_of

Bools = npt.NDArray[np.bool_]

SPOT_MOST = 200
"""Replicas up to which spot is planned in whole ones; beyond, what that misses is in the bound."""
CLOSED_MOST = 64
"""The same in a week that repeats where starts cost something: every count of its first hour is tried."""
PLACED_MOST = 512
"""Replicas up to which spot that was planned in parts is placed anew in whole ones, number by number."""
TRIES = 4
"""Numbers reserved for which that is done, those of least cost: the cheapest is kept."""
KG_FIRST, KG_STEP = 0.02, 1.1
"""The first price of emissions that is tried, as a share of a replica's rent, and the factor to the next."""


@dataclass(frozen=True)
class Worth:
    """What a pool is asked to carry: (S, H) load and what each whole stream-hour saves on it.

    ``base_usd_per_h`` (H,) is paid without the pool; ``must`` (S, H) has nowhere else to go; ``open``
    (S,) may be served here.
    """

    load: Floats
    saving: Floats
    base_usd_per_h: Floats
    must: Bools
    open: Bools


def stranded(problem: Problem) -> Bools:
    """Streams that no API may serve in some hour: (S,)."""
    return np.asarray(np.isnan(problem.api_usd_per_h).any(axis=1), dtype=np.bool_)


def allowed_on(problem: Problem, k: int) -> Bools:
    """Streams that pool k may serve: (S,)."""
    return np.asarray(np.isfinite(problem.load_per_h[:, k, :]).all(axis=1), dtype=np.bool_)


def worth_of(problem: Problem, k: int) -> Worth:
    """What the APIs would charge for what pool k could carry."""
    api, allowed = np.nan_to_num(problem.api_usd_per_h), allowed_on(problem, k)
    load = np.where(allowed[:, None], np.nan_to_num(problem.load_per_h[:, k, :]), 0.0)
    saving = np.where(allowed[:, None], api - np.nan_to_num(problem.pool_usd_per_h[:, k, :]), 0.0)
    return Worth(load, saving, api.sum(axis=0), np.isnan(problem.api_usd_per_h), allowed)


def one_pool(problem: Problem, k: int, reserved: int | None = None) -> Solution | None:
    """The cheapest plan whose only pool is k; ``None`` where a stream then has nowhere to go.

    ``reserved`` fixes how many are. ``bound_usd`` equals the cost, but for the two cases that the module
    names: there nothing with this pool is cheaper than it.
    """
    worth = worth_of(problem, k)
    found = schedule(problem, k, worth, reserved)
    if found is None:
        return None
    usd, bound, number, counts = found
    solution = _solution(problem, k, worth, number, counts)
    # The table and the parts add the same dollars in another order.
    bound = solution.usd_per_month if bound >= usd else min(solution.usd_per_month, _whole(problem, k, bound))
    return replace(solution, bound_usd=bound)


def _whole(problem: Problem, k: int, usd: float) -> float:
    return usd + problem.pools[k].fixed_usd_per_month + problem.fixed_usd_per_month


def schedule(
    problem: Problem, k: int, worth: Worth, reserved: int | None = None
) -> tuple[float, float, int, Ints] | None:
    """Cost, its lower bound, the number reserved and the replicas (H,) of pool k; ``None``: stranded.

    Without the fixed costs of running it.
    """
    pool = problem.pools[k]
    barred = (worth.must & ~worth.open[:, None] & (problem.load_per_h[:, k] != 0)).any()
    if pool.first_per_h <= 0 or barred or not worth.open.any():
        return None
    schedules = _schedules(problem, pool, worth, reserved or 0)
    if reserved is None:
        limit = schedules.most - pool.held if pool.reserved_usd_per_h is not None else 0
        reserved, bound = schedules.best(max(0, limit))
    else:
        bound = schedules.bound(reserved)
    usd, counts = schedules.schedule(reserved)
    return None if counts is None else (usd, min(usd, bound), reserved, counts)


class _Schedules(Protocol):
    """A pool's schedules by the number reserved, each with what reserving costs."""

    most: int

    def bound(self, reserved: int) -> float:
        """What no schedule goes below."""

    def best(self, limit: int) -> tuple[int, float]:
        """The number up to a limit that is cheapest, and a lower bound over all of them."""

    def schedule(self, reserved: int) -> tuple[float, Ints | None]:
        """Cost and replicas by hour, (H,); none where some hour cannot be served."""

    def costs(self) -> Floats:
        """The least cost of every number, or a little more where it is not exact: (n,)."""


def _schedules(problem: Problem, pool: PoolChoice, worth: Worth, reserved: int = 0) -> _Schedules:
    """Replica by replica, or by counts where whole spot replicas weigh."""
    floor = max(1 + problem.spare, pool.held, pool.least)
    most = int(pool.needed(worth.load.sum(axis=0), problem.spare).max())
    most = max(most, floor, pool.held + reserved)
    whole = CLOSED_MOST if problem.cyclic and pool.start_usd > 0.0 else SPOT_MOST
    if spot_part(problem, pool) > 0.0 and most <= whole:
        return _Counted(problem, pool, worth, most, floor)
    return _Levelled(problem, pool, worth, most, floor)


def by_committed(problem: Problem, k: int) -> Floats:
    """Least cost of pool k's schedule with 0, 1, … replicas reserved and not paid for: (n,).

    A little more than the least in the two cases that the module names. Up to all that it needs. Without the
    fixed costs of running it. Empty where a stream is stranded.
    """
    worth = worth_of(problem, k)
    pool = replace(problem.pools[k], reserved_usd_per_h=0.0)
    if schedule(problem, k, worth, 0) is None:
        return np.zeros(0)
    return _schedules(problem, pool, worth).costs()


def by_committed_within(problem: Problem, k: int, most_kg: float) -> tuple[Floats, Floats]:
    """As :func:`by_committed`, with what the replicas emit held to a limit: dollars, and a kilogram's price.

    The price is raised, by ``KG_STEP`` each time, until the schedule holds; dollars are without it. Both are
    as long as committed replicas, which always run, leave the limit room; empty where not even none do.
    """
    worth, pool = worth_of(problem, k), replace(problem.pools[k], reserved_usd_per_h=0.0)
    none = np.zeros(0)
    if pool.kg_per_replica_h <= 0.0 or schedule(problem, k, worth, 0) is None:
        return none, none
    found = _schedules(problem, pool, worth)
    rent = pool.on_demand_usd_per_h + pool.extra_usd_per_replica_h
    stake = float((worth.base_usd_per_h + np.abs(worth.saving).sum(axis=0)).max())
    price, first, last = 0.0, KG_FIRST * rent / pool.kg_per_replica_h, 2.0 * stake / pool.kg_per_replica_h
    usd: list[float] = []
    prices: list[float] = []
    for n in range(found.most - pool.held + 1):
        while True:
            cost, counts = found.schedule(n)
            if counts is None:
                return np.array(usd), np.array(prices)
            kg = pool.kg_per_replica_h * float(counts @ problem.weight_h)
            if kg <= most_kg * (1.0 + 1e-9):
                break
            if price > last:
                return np.array(usd), np.array(prices)
            price = max(first, price * KG_STEP)
            care = pool.extra_usd_per_replica_h + price * pool.kg_per_replica_h
            found = _schedules(problem, replace(pool, extra_usd_per_replica_h=care), worth)
        usd.append(cost - price * kg)
        prices.append(price)
    return np.array(usd), np.array(prices)


class _Levelled:
    """A pool's schedules, replica by replica."""

    def __init__(self, problem: Problem, pool: PoolChoice, worth: Worth, most: int, floor: int) -> None:
        load, saving = _taken_in(worth)
        bill = load, saving, order_of(worth)
        self.most, self.worth = most, worth
        self.found = levels(problem, pool, bill, (_needed(worth), worth.base_usd_per_h), (floor, most))
        self.reserved_usd = float(problem.weight_h.sum()) * (pool.reserved_usd_per_h or 0.0)

    def bound(self, reserved: int) -> float:
        """What no schedule goes below."""
        return float(self.found.bound_usd[reserved]) + reserved * self.reserved_usd

    def best(self, limit: int) -> tuple[int, float]:
        """The number up to a limit that is cheapest, and a lower bound over all of them."""
        bound = self.found.bound_usd[: limit + 1] + np.arange(limit + 1) * self.reserved_usd
        numbers = np.argsort(bound, kind="stable")[:PLACED_MOST]
        usd = self.found.usd(numbers) + numbers * self.reserved_usd
        tried = numbers[np.argsort(usd, kind="stable")[: TRIES if self._placed else 1]]
        return min((int(n) for n in tried), key=lambda n: (self.schedule(n)[0], n)), float(bound.min())

    def schedule(self, reserved: int) -> tuple[float, Ints | None]:
        """Cost and replicas by hour, (H,); whole spot replicas are placed anew unless there are many."""
        usd = float(self.found.usd(np.array([reserved]))[0]) + reserved * self.reserved_usd
        if not np.isfinite(usd):
            return usd, None
        counts = self.found.counts(reserved)
        return self._whole.schedule(reserved, int(counts[0])) if self._placed else (usd, counts)

    def costs(self) -> Floats:
        """What the best schedule of every number costs: (n,)."""
        numbers = np.arange(self.most - self.found.pool.held + 1)
        return np.asarray(self.found.usd(numbers) + numbers * self.reserved_usd)

    @property
    def _placed(self) -> bool:
        return self.most <= PLACED_MOST and spot_part(self.found.problem, self.found.pool) > 0.0

    @cached_property
    def _whole(self) -> _Counted:
        return _Counted(self.found.problem, self.found.pool, self.worth, self.most, self.found.floor)


def _needed(worth: Worth) -> Floats:
    """Load that has nowhere else to go, by hour: (H,)."""
    return np.asarray(np.where(worth.must & worth.open[:, None], worth.load, 0.0).sum(axis=0))


class _Counted:
    """A pool's schedules by dynamic programming over counts, for few replicas: exact whatever rents are."""

    def __init__(self, problem: Problem, pool: PoolChoice, worth: Worth, most: int, floor: int) -> None:
        self.problem, self.pool, self.most, self.floor = problem, pool, most, floor
        self.rest = _rest(problem, pool, worth, most)
        self.value = np.empty_like(self.rest)
        hours = float(problem.weight_h.sum())
        self.reserved_usd = hours * (pool.reserved_usd_per_h or 0.0)
        self.step_usd = self.reserved_usd + hours * max(0.0, pool.extra_usd_per_replica_h)

    def cost(self, reserved: int) -> float:
        """The least cost."""
        return self._run(reserved)[0] + reserved * self.reserved_usd

    def bound(self, reserved: int) -> float:
        """The same: it is exact."""
        return self.cost(reserved)

    def best(self, limit: int) -> tuple[int, float]:
        """The number up to a limit that is cheapest and its cost: intervals split best first.

        Between two numbers a and b, each costs at least what b does less the price of b - a - 1 reserved.
        """
        known = {n: self.cost(n) for n in {0, limit}}
        best = min(known, key=lambda n: (known[n], n))
        waiting: list[tuple[float, int, int]] = []

        def push(a: int, b: int) -> None:
            if b - a > 1:
                heapq.heappush(waiting, (known[b] - (b - a - 1) * self.step_usd, a, b))

        push(0, limit)
        while waiting:
            low, a, b = heapq.heappop(waiting)
            if low >= known[best] - 1e-9 * abs(known[best]):
                break
            middle = (a + b) // 2
            known[middle] = self.cost(middle)
            if known[middle] < known[best]:
                best = middle
            push(a, middle)
            push(middle, b)
        return best, known[best]

    def schedule(self, reserved: int, first: int | None = None) -> tuple[float, Ints | None]:
        """Cost and replicas by hour, (H,); ``first`` are in the first hour of a week that repeats."""
        from isocost.plan.solve.kernel import backward

        usd, last = self._run(reserved, first)
        if not np.isfinite(usd):
            return usd, None
        found = np.zeros(len(self.rest), np.int64)
        backward(self.problem.weight_h, self._start, np.array([last]), self.value, found)
        return usd + reserved * self.reserved_usd, found

    def costs(self) -> Floats:
        """The least cost of every number: (n,)."""
        return np.array([self.cost(n) for n in range(self.most - self.pool.held + 1)])

    @property
    def _start(self) -> Floats:
        return np.array([self.pool.start_usd])

    def _run(self, reserved: int, first: int | None = None) -> tuple[float, int]:
        base = self.pool.held + reserved
        counts = np.arange(self.most + 1)
        rent = _rent_usd_per_h(self.problem, self.pool, counts, base)
        rent = rent + counts * self.pool.extra_usd_per_replica_h
        low = max(self.floor, base)
        if not self.problem.cyclic:
            return self._forward(rent, low, 1, base)
        if self.pool.start_usd <= 0.0:
            return self._forward(rent, low, 0, 0)
        if first is not None:
            return self._closed(rent, low, first)
        usd, last = self._forward(rent, low, 0, 0)
        if not np.isfinite(usd):
            return usd, last
        # Close the week: every count of the first hour, with the last hour's step up to it.
        ends = [self._closed(rent, low, n) for n in range(low, len(counts))]
        best = min(range(len(ends)), key=lambda i: (ends[i][0], i))
        return self._closed(rent, low, low + best)

    def _forward(self, rent: Floats, low: int, kind: int, count: int) -> tuple[float, int]:
        from isocost.plan.solve.kernel import forward

        args = np.array([low]), np.array([kind, count])
        forward(self.rest, rent, self.problem.weight_h, self._start, *args, self.value)
        last = int(self.value[-1].argmin())
        return float(self.value[-1, last]), last

    def _closed(self, rent: Floats, low: int, first: int) -> tuple[float, int]:
        """The best week that starts with ``first`` replicas, its last hour's step up to them paid."""
        self._forward(rent, low, 2, first)
        counts = np.arange(len(rent))
        seam = self.problem.weight_h[0] * self.pool.start_usd * np.maximum(0, first - counts)
        whole = self.value[-1] + seam
        last = int(whole.argmin())
        return float(whole[last]), last


def _rest(problem: Problem, pool: PoolChoice, worth: Worth, most: int) -> Floats:
    """API dollars an hour left with 0..most replicas: (H, most + 1), inf where a stream is stranded."""
    from isocost.plan.solve.kernel import rest_after

    capacity = np.asarray(pool.capacity_per_h(np.arange(most + 1), problem.spare), dtype=np.float64)
    load, saving = _taken_in(worth)
    rest = np.repeat(worth.base_usd_per_h[:, None], most + 1, axis=1)
    rest_after(load, saving, order_of(worth), capacity, _needed(worth), rest)
    return rest


def _taken_in(worth: Worth) -> tuple[Floats, Floats]:
    """Load and saving of what the pool takes in: what must be there, and what is dearer elsewhere."""
    wanted = worth.open[:, None] & ((worth.saving > 0) | worth.must)
    return np.where(wanted, worth.load, 0.0), np.where(wanted, worth.saving, 0.0)


def order_of(worth: Worth) -> Ints:
    """Streams (S, H) in the order in which an hour's replicas take them in."""
    # What weighs nothing on the pool and saves something is taken in before all else.
    load, saving = worth.load, worth.saving
    free = np.where(worth.open[:, None] & (saving > 0), np.inf, -np.inf)
    rate = np.where(load > 0, saving / np.where(load > 0, load, 1.0), free)
    rate = np.where(worth.open[:, None], rate, -np.inf)
    return np.asarray(np.lexsort((-rate, ~worth.must), axis=0), dtype=np.int64)


def _rent_usd_per_h(problem: Problem, pool: PoolChoice, counts: Ints, base: int) -> Floats:
    spot = spot_of(problem, pool, counts, np.maximum(0, counts - base))
    on_demand = np.maximum(0, counts - base) - spot
    return np.asarray(on_demand * pool.on_demand_usd_per_h + spot * (pool.spot_usd_per_h or 0.0))


def spot_of(problem: Problem, pool: PoolChoice, replicas: Ints, rest: Ints) -> Ints:
    """How many of ``rest`` are spot where spot is cheaper: at most a share of all replicas."""
    if pool.spot_usd_per_h is None or pool.spot_usd_per_h >= pool.on_demand_usd_per_h:
        return np.zeros_like(rest)
    return np.asarray(np.minimum(rest, np.floor(replicas * problem.spot_frac)), dtype=np.int64)


def shares(problem: Problem, k: int, worth: Worth, replicas: Ints) -> Floats:
    """Share of each stream's hour that so many replicas take in: (S, H)."""
    room = problem.pools[k].capacity_per_h(replicas, problem.spare).astype(np.float64)
    load, saving = _taken_in(worth)
    frac = np.zeros_like(load)
    hours = np.arange(load.shape[1])
    for row in order_of(worth):
        use, must = load[row, hours], worth.must[row, hours] & worth.open[row]
        takes = must | (saving[row, hours] > 0)
        part = np.where(use > 0, np.minimum(1.0, room / np.where(use > 0, use, 1.0)), 1.0)
        part = np.where(must & (part > 1 - 1e-9), 1.0, part)
        frac[row, hours] = np.where(takes, part, 0.0)
        room = np.maximum(0.0, room - use * frac[row, hours])
    return frac


def _solution(problem: Problem, k: int, worth: Worth, reserved: int, replicas: Ints) -> Solution:
    pool, hours, pools = problem.pools[k], len(problem.weight_h), len(problem.pools)
    frac = np.zeros((len(worth.load), pools, hours))
    frac[:, k] = shares(problem, k, worth, replicas)
    rest = np.maximum(0, replicas - pool.held - reserved)
    spot = spot_of(problem, pool, replicas, rest)
    none = np.zeros((pools, hours), np.int64)
    on_demand, spots = none.copy(), none.copy()
    on_demand[k], spots[k] = rest - spot, spot
    only = np.arange(pools) == k
    number, held = np.where(only, reserved, 0), np.where(only, pool.held, 0)
    found = Solution(0.0, 0.0, frac, number, on_demand, spots, held, only)
    usd = cost_of(problem, found)
    return replace(found, usd_per_month=usd, bound_usd=usd)


def whole_pool(problem: Problem, k: int) -> Solution | None:
    """The cheapest fleet of pool k that serves every stream in every hour, with no API."""
    return one_pool(problem.only((k,), api=False), 0)
