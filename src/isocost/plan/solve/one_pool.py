"""The cheapest plan that runs one pool beside the APIs: exact, with no solver.

In one hour, n replicas serve the streams whose API cost per unit of load is highest first (a fractional
knapsack), so the API bill that remains is a table over n. Hours are tied by what a replica costs to
start: dynamic programming over counts, hour by hour, is exact for each number reserved. Over that number
the search is a branch and bound: one reserved replica less saves at most its own price.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from isocost.plan.solve.problem import Floats, Ints, PoolChoice, Problem, Solution, cost_of

Bools = npt.NDArray[np.bool_]

CLOSED_MOST = 64
"""Counts up to which a repeating week is closed exactly; beyond, its seam is bounded from below."""
EXACT_MOST = 64
"""Counts up to which every number reserved that could be best is tried."""
KG_FIRST, KG_STEP = 0.02, 1.1
"""The first price of emissions that is tried, as a share of a replica's rent, and the factor to the next."""
NEAR_FRAC = 2e-4
"""Beyond: how near to the best the number reserved is, as a share of what is at stake."""


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

    ``reserved`` fixes how many are. ``bound_usd`` equals the cost up to 64 replicas; beyond, nothing with
    these pools is cheaper than it.
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
    total = worth.load.sum(axis=0)
    floor = max(1 + problem.spare, pool.held, pool.least)
    most = max(int(pool.needed(total, problem.spare).max()), floor)
    table = _Table(problem, pool, worth, most, floor)
    limit = max(0, most - pool.held) if pool.reserved_usd_per_h is not None else 0
    if reserved is not None:
        usd, bound = table.cost(reserved)
        return None if not np.isfinite(usd) else (usd, bound, reserved, table.counts(reserved))
    scale = float((worth.base_usd_per_h + np.abs(worth.saving).sum(axis=0)) @ problem.weight_h)
    best, bound = _search(table, limit, 0.0 if most <= EXACT_MOST else NEAR_FRAC * scale)
    usd = table.cost(best)[0]
    return None if not np.isfinite(usd) else (usd, min(usd, bound), best, table.counts(best))


def by_committed(problem: Problem, k: int) -> Floats:
    """Least cost of pool k's schedule with 0, 1, … replicas reserved and not paid for: (n,).

    Up to all that it needs. Without the fixed costs of running it. Empty where a stream is stranded.
    """
    worth = worth_of(problem, k)
    pool = replace(problem.pools[k], reserved_usd_per_h=0.0)
    if schedule(problem, k, worth, 0) is None:
        return np.zeros(0)
    floor = max(1 + problem.spare, pool.held, pool.least)
    most = max(int(pool.needed(worth.load.sum(axis=0), problem.spare).max()), floor)
    table = _Table(problem, pool, worth, most, floor)
    return np.array([table.cost(n)[0] for n in range(most - pool.held + 1)])


def by_committed_within(problem: Problem, k: int, most_kg: float) -> tuple[Floats, Floats]:
    """As :func:`by_committed`, with what the replicas emit held to a limit: dollars, and a kilogram's price.

    The price is raised, by ``KG_STEP`` each time, until the schedule holds; dollars are without it. Both are
    as long as committed replicas, which always run, leave the limit room; empty where not even none do.
    """
    worth, pool = worth_of(problem, k), replace(problem.pools[k], reserved_usd_per_h=0.0)
    none = np.zeros(0)
    if pool.kg_per_replica_h <= 0.0 or schedule(problem, k, worth, 0) is None:
        return none, none
    floor = max(1 + problem.spare, pool.held, pool.least)
    most = max(int(pool.needed(worth.load.sum(axis=0), problem.spare).max()), floor)
    table = _Table(problem, pool, worth, most, floor)
    rent = pool.on_demand_usd_per_h + pool.extra_usd_per_replica_h
    stake = float((worth.base_usd_per_h + np.abs(worth.saving).sum(axis=0)).max())
    price, first, last = 0.0, KG_FIRST * rent / pool.kg_per_replica_h, 2.0 * stake / pool.kg_per_replica_h
    usd: list[float] = []
    prices: list[float] = []
    for n in range(most - pool.held + 1):
        while True:
            care = pool.extra_usd_per_replica_h + price * pool.kg_per_replica_h
            table.pool = replace(pool, extra_usd_per_replica_h=care)
            cost = table.cost(n)[0]
            if not np.isfinite(cost):
                return np.array(usd), np.array(prices)
            kg = pool.kg_per_replica_h * float(table.counts(n) @ problem.weight_h)
            if kg <= most_kg * (1.0 + 1e-9):
                break
            if price > last:
                return np.array(usd), np.array(prices)
            price = max(first, price * KG_STEP)
        usd.append(cost - price * kg)
        prices.append(price)
    return np.array(usd), np.array(prices)


def _search(table: _Table, limit: int, near_usd: float) -> tuple[int, float]:
    """The best number reserved and a lower bound over all: intervals split best first.

    Between two numbers a and b, each costs at least what b does less the price of b - a - 1 reserved.
    """
    known = {n: table.cost(n) for n in {0, limit}}
    best = min(known, key=lambda n: (known[n][0], n))
    bound = min(low for _, low in known.values())
    waiting: list[tuple[float, int, int]] = []

    def push(a: int, b: int) -> None:
        if b - a > 1:
            heapq.heappush(waiting, (known[b][1] - (b - a - 1) * table.step_usd, a, b))

    push(0, limit)
    while waiting:
        low, a, b = heapq.heappop(waiting)
        if low >= known[best][0] - near_usd - 1e-9 * abs(known[best][0]):
            return best, min(bound, low)
        middle = (a + b) // 2
        known[middle] = table.cost(middle)
        bound = min(bound, known[middle][1])
        if known[middle][0] < known[best][0]:
            best = middle
        push(a, middle)
        push(middle, b)
    return best, bound


class _Table:
    """The API bill that each number of replicas leaves in each hour, and costs by number reserved."""

    def __init__(self, problem: Problem, pool: PoolChoice, worth: Worth, most: int, floor: int) -> None:
        self.problem, self.pool, self.most, self.floor = problem, pool, most, floor
        self.rest = _rest(problem, pool, worth, most)
        self.value = np.empty_like(self.rest)
        hours = float(problem.weight_h.sum())
        self.reserved_usd = hours * (pool.reserved_usd_per_h or 0.0)
        self.step_usd = self.reserved_usd + hours * max(0.0, pool.extra_usd_per_replica_h)

    def cost(self, reserved: int) -> tuple[float, float]:
        """Cost with so many reserved, and what no schedule with them goes below."""
        usd, bound, _ = self._run(reserved)
        paid = reserved * self.reserved_usd
        return usd + paid, bound + paid

    def counts(self, reserved: int) -> Ints:
        """The replicas of the best schedule with so many reserved."""
        from isocost.plan.solve.kernel import backward

        _, _, last = self._run(reserved)
        found = np.zeros(len(self.rest), np.int64)
        backward(self.problem.weight_h, self._start, np.array([last]), self.value, found)
        return found

    @property
    def _start(self) -> Floats:
        return np.array([self.pool.start_usd])

    def _run(self, reserved: int) -> tuple[float, float, int]:
        base = self.pool.held + reserved
        counts = np.arange(self.most + 1)
        rent = _rent_usd_per_h(self.problem, self.pool, counts, base)
        rent = rent + counts * self.pool.extra_usd_per_replica_h
        low = max(self.floor, base)
        if not self.problem.cyclic:
            usd, last = self._forward(rent, low, 1, base)
            return usd, usd, last
        usd, last = self._forward(rent, low, 0, 0)
        if self.pool.start_usd <= 0.0 or not np.isfinite(usd):
            return usd, usd, last
        if len(counts) <= CLOSED_MOST:
            # Close the week: every count of the first hour, with the last hour's step up to it.
            ends = [self._closed(rent, low, n) for n in range(low, len(counts))]
            best = min(range(len(ends)), key=lambda i: (ends[i][0], i))
            closed, last = self._closed(rent, low, low + best)
            return closed, closed, last
        seams = {n: self._closed(rent, low, n)[0] for n in {low, self._top(last)}}
        closed, last = self._closed(rent, low, min(seams, key=lambda n: (seams[n], n)))
        return closed, usd, last

    def _top(self, last: int) -> int:
        """Replicas of the first hour of the schedule in ``value`` that ends with ``last``."""
        from isocost.plan.solve.kernel import backward

        found = np.zeros(len(self.rest), np.int64)
        backward(self.problem.weight_h, self._start, np.array([last]), self.value, found)
        return int(found[0])

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
    needed = np.where(worth.must & worth.open[:, None], worth.load, 0.0).sum(axis=0)
    rest = np.repeat(worth.base_usd_per_h[:, None], most + 1, axis=1)
    rest_after(load, saving, order_of(worth), capacity, needed, rest)
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
