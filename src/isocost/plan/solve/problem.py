"""The planning problem as data: periods, streams, pools, and what each costs. No solver here.

Symbols (as in docs/maths.md): hour of the week h with weight w_h (hours a month), stream s, pool p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """A kind of replica that could be run.

    Capacity of n replicas is at least ``first + more * (n - 1)`` requests of the reference mix per
    hour, within the limits (tabulated by replay). Rents are per replica-hour; ``None`` is not on
    offer. ``held`` replicas are sunk: they cost nothing more in cash. ``start_usd`` is paid for each
    replica rented by the hour that was not there the hour before: the rent of its lag, above all.
    ``least`` replicas stand wherever the pool runs; each emits ``kg_per_replica_h`` of CO2e.
    """

    id: str
    first_per_h: float
    more_per_h: float
    on_demand_usd_per_h: float
    reserved_usd_per_h: float | None
    spot_usd_per_h: float | None
    held: int
    fixed_usd_per_month: float
    extra_usd_per_replica_h: float = 0.0
    start_usd: float = 0.0
    least: int = 0
    kg_per_replica_h: float = 0.0

    def needed(self, load_per_h: Floats, spare: int) -> Ints:
        """Least replicas that carry a load (H,), with ``spare`` more wherever there is load.

        Where more replicas carry no more (``more_per_h`` 0), the one that carries what can be.
        """
        if self.more_per_h <= 0:
            return np.where(load_per_h > 0, 1 + spare, 0)
        over = np.maximum(0.0, load_per_h - self.first_per_h)
        n = 1 + np.ceil(np.round(over / self.more_per_h, 9)).astype(np.int64)
        return np.where(load_per_h > 0, n + spare, 0)

    def capacity_per_h(self, replicas: Ints, spare: int) -> Floats:
        """What so many replicas carry with ``spare`` of them idle; same shape."""
        working = np.maximum(0, replicas - spare)
        return np.where(working > 0, self.first_per_h + self.more_per_h * (working - 1), 0.0)


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything the solver sees.

    ``weight_h`` (H,); ``api_usd_per_h`` (S, H): all of a stream's demand in an hour on its cheapest
    allowed API, NaN where none is allowed; ``load_per_h`` (S, P, H): requests of the reference mix
    that the stream's busiest sample of the hour puts on a pool, NaN where the pool may not serve it;
    ``pool_usd_per_h`` (S, P, H): what serving it there costs beside the replicas;
    ``fixed_usd_per_month``: paid once if any pool runs; ``spare``: replicas beyond the load;
    ``spot_frac``: most of a pool's replicas that may be spot; ``cyclic``: the last hour is followed by
    the first (a week that repeats), else hours are followed to their end and start from nothing;
    ``wait_h``: whole hours that each stream's work may wait, empty for none (then ``load_per_h`` is
    proportional to demand); ``most_kg``: emissions over all hours.
    """

    weight_h: Floats
    api_usd_per_h: Floats
    load_per_h: Floats
    pool_usd_per_h: Floats
    pools: tuple[PoolChoice, ...]
    fixed_usd_per_month: float
    spare: int
    spot_frac: float
    stream_ids: tuple[str, ...]
    cyclic: bool = True
    wait_h: tuple[int, ...] = ()
    most_kg: float = math.inf

    @property
    def coupled(self) -> bool:
        """Whether hours are tied by more than replicas: work that waits, or a limit on emissions."""
        return any(self.wait_h) or self.most_kg < math.inf

    def derated(self, factor: dict[str, float]) -> Problem:
        """The same with the capacity of the named pools multiplied."""
        by = [factor.get(pool.id, 1.0) for pool in self.pools]
        pools = tuple(
            replace(pool, first_per_h=pool.first_per_h * f, more_per_h=pool.more_per_h * f)
            for pool, f in zip(self.pools, by, strict=True)
        )
        return replace(self, pools=pools)

    def only(self, pools: tuple[int, ...], *, api: bool) -> Problem:
        """The same with fewer pools, and with or without the APIs."""
        keep = list(pools)
        return replace(
            self,
            pools=tuple(self.pools[k] for k in keep),
            load_per_h=self.load_per_h[:, keep],
            pool_usd_per_h=self.pool_usd_per_h[:, keep],
            api_usd_per_h=self.api_usd_per_h if api else np.full_like(self.api_usd_per_h, np.nan),
        )


@dataclass(frozen=True, slots=True)
class Solution:
    """A feasible plan of a problem and how far from the best it can be.

    ``pool_frac`` (S, P, H): share of a stream's hour on each pool; the rest goes to its API.
    ``reserved`` (P,), ``on_demand`` and ``spot`` (P, H): replicas rented beside the held ones.
    ``bound_usd`` is a proven lower bound of ``usd_per_month``. ``served`` (S, H): work served in an hour over
    the mean hour's, of streams whose work was put off; NaN of all others, ``None`` where nothing was.
    """

    usd_per_month: float
    bound_usd: float
    pool_frac: Floats
    reserved: Ints
    on_demand: Ints
    spot: Ints
    held: Ints
    runs: npt.NDArray[np.bool_]
    served: Floats | None = None

    @property
    def gap_frac(self) -> float:
        """How much cheaper any plan could be, as a share of this one's cost."""
        return max(0.0, 1.0 - self.bound_usd / self.usd_per_month) if self.usd_per_month > 0 else 0.0

    @property
    def replicas(self) -> Ints:
        """All replicas by pool and hour: (P, H)."""
        return (self.reserved + self.held)[:, None] + self.on_demand + self.spot


def cost_of(problem: Problem, solution: Solution) -> float:
    """The cash cost a month of a solution, from its parts: what the solver's objective must equal."""
    w = problem.weight_h
    served = solution.pool_frac.sum(axis=1)
    rest = np.maximum(0.0, 1.0 - served)
    api = np.where(rest > 1e-9, problem.api_usd_per_h * rest, 0.0).sum(axis=0) @ w
    variable = (np.nan_to_num(problem.pool_usd_per_h) * solution.pool_frac).sum(axis=(0, 1)) @ w
    rent = 0.0
    for k, pool in enumerate(problem.pools):
        hours = float(w.sum())
        rent += float(solution.on_demand[k] @ w) * pool.on_demand_usd_per_h
        rent += float(solution.spot[k] @ w) * (pool.spot_usd_per_h or 0.0)
        rent += int(solution.reserved[k]) * hours * (pool.reserved_usd_per_h or 0.0)
        rent += float(solution.replicas[k] @ w) * pool.extra_usd_per_replica_h
        rent += pool.fixed_usd_per_month * bool(solution.runs[k])
        rent += pool.start_usd * float(starts(problem, solution.on_demand[k] + solution.spot[k]) @ w)
    return float(api + variable + rent + problem.fixed_usd_per_month * bool(solution.runs.any()))


def starts(problem: Problem, rented: Ints) -> Floats:
    """Replicas that start in each hour, of (..., H) replicas rented by the hour; same shape."""
    before = np.roll(rented, 1, axis=-1)
    if not problem.cyclic:
        before[..., 0] = 0
    return np.asarray(np.maximum(0.0, rented - before))


def emitted_kg(problem: Problem, solution: Solution) -> float:
    """Emissions of a solution's replicas over all hours."""
    rates = np.array([pool.kg_per_replica_h for pool in problem.pools])
    return float(rates @ (solution.replicas @ problem.weight_h)) if len(rates) else 0.0
