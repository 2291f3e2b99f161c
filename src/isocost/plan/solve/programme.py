"""The whole problem as one mixed-integer programme, laid out as arrays.

minimise   sum_h w_h [ sum_s a_sh (1 - sum_p f_sph) + sum_sp v_sph f_sph
                       + sum_p (o_p n_ph + t_p m_ph + e_p N_ph + c_p u_ph) ]
           + sum_p [ W r_p R_p + F_p y_p ] + F z
subject to sum_s l_sph f_sph <= first_p y_p + more_p (N_ph - (1 + spare) y_p)
           N_ph = R_p + H_p y_p + n_ph + m_ph
           N_ph >= max(1 + spare, least_p) y_p,   m_ph <= q N_ph,   n_ph + m_ph <= M_ph y_p
           u_ph >= n_ph + m_ph - n_p(h-1) - m_p(h-1)
           f_sph <= y_p <= z,   sum_p f_sph <= 1 (= 1 with no API),   sum_ph w_h k_p N_ph <= K
where work waits, f_sph and what goes to the API count demand of mean hours, and a backlog ties the hours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from isocost.plan.solve.milp import INF, Answer, Columns, Ints, Rows, minimise
from isocost.plan.solve.one_pool import allowed_on
from isocost.plan.solve.problem import Floats, Problem, Solution


@dataclass(frozen=True)
class Index:
    """Numbers of the columns: shares (S, P, H) with -1 where barred; replicas (P, H); reserved, runs (P,).

    ``sent`` and ``backlog`` (S, H) exist for streams that wait, -1 elsewhere. Rows: ``cover`` (S, H).
    """

    frac: Ints
    sent: Ints
    backlog: Ints
    on_demand: Ints
    spot: Ints
    starts: Ints
    reserved: Ints
    runs: Ints
    any: int
    cover: Ints
    kg: int


@dataclass(frozen=True)
class Programme:
    """A problem laid out; ``demand`` (S, H) is each hour's work over its mean, for streams that wait."""

    problem: Problem
    columns: Columns
    rows: Rows
    index: Index
    demand: Floats
    offset_usd: float
    ties: tuple[tuple[int, int, float], ...]
    """Rows in which pools meet only by whether they run: (row, column, value)."""

    def solve(self, gap_frac: float, nodes: int, start: Floats | None, relaxed: bool) -> Answer:
        """HiGHS on it."""
        return minimise(
            self.columns,
            self.rows,
            offset_usd=self.offset_usd,
            gap_frac=gap_frac,
            nodes=nodes,
            start=start,
            relaxed=relaxed,
        )


def demand_of(problem: Problem) -> Floats:
    """Each stream's work by hour over its mean hour: (S, H), zero for a stream without any."""
    measure = np.nan_to_num(problem.api_usd_per_h)
    for k in range(len(problem.pools)):
        load = np.nan_to_num(problem.load_per_h[:, k])
        measure = np.where(load.any(axis=1, keepdims=True), load, measure)
    mean = measure.mean(axis=1, keepdims=True)
    return np.asarray(np.where(mean > 0, measure / np.where(mean > 0, mean, 1.0), 0.0))


def programme(
    problem: Problem,
    at_least: int = 0,
    only: tuple[int, ...] | None = None,
    reserved_at: Floats | None = None,
) -> Programme:
    """Lay a problem out. ``at_least`` pools run; ``only`` these run, and all of them.

    ``reserved_at`` (P,) fixes how many replicas are reserved, parts of them too.
    """
    columns, rows = Columns(), Rows()
    streams, pools, hours = problem.load_per_h.shape
    weight = problem.weight_h
    waits = np.array(problem.wait_h or (0,) * streams, dtype=np.int64)
    demand = demand_of(problem) if waits.any() else np.ones((streams, hours))
    api = np.nan_to_num(problem.api_usd_per_h)
    must = np.isnan(problem.api_usd_per_h)
    # What waits is counted in mean hours, so that its cost per unit is that of any hour with work.
    unit = np.where(waits[:, None] > 0, demand, 1.0)
    safe = np.where(unit > 0, unit, 1.0)
    allowed = np.zeros((streams, pools), bool)
    for k, pool in enumerate(problem.pools):
        allowed[:, k] = allowed_on(problem, k) & (pool.first_per_h > 0)
    ties: list[tuple[int, int, float]] = []
    z = columns.block(np.array([problem.fixed_usd_per_month]), 1.0, True, 1.0 if at_least else 0.0)
    frac = np.full((streams, pools, hours), -1, np.int64)
    sent, backlog = np.full((streams, hours), -1, np.int64), np.full((streams, hours), -1, np.int64)
    each = {name: np.full((pools, hours), -1, np.int64) for name in ("n", "m", "u")}
    runs, reserved = np.full(pools, -1, np.int64), np.full(pools, -1, np.int64)
    whole = float(weight.sum())
    for p, pool in enumerate(problem.pools):
        load = np.where(allowed[:, p, None], np.nan_to_num(problem.load_per_h[:, p]), 0.0)
        floor = max(1 + problem.spare, pool.least)
        most = _most(problem, p, load, waits, floor)
        extra = pool.extra_usd_per_replica_h
        on = only is None or p in only
        can = float(on and allowed[:, p].any())
        runs[p] = columns.block(
            np.array([pool.fixed_usd_per_month + pool.held * extra * whole]), can, True,
            1.0 if only is not None and can else 0.0,
        )[0]  # fmt: skip
        ties.append(
            (int(rows.block(1, -INF, 0.0, [(runs[p : p + 1], 1.0), (z, -1.0)])[0]), int(runs[p]), 1.0)
        )
        sure = only is not None and bool(can)
        top = 0.0 if pool.reserved_usd_per_h is None else float(max(0, most.max() - pool.held))
        least = 0.0
        if reserved_at is not None:
            least = top = float(reserved_at[p])
        price = ((pool.reserved_usd_per_h or 0.0) + extra) * whole
        reserved[p] = columns.block(np.array([price]), top, reserved_at is None, least)[0]
        if not sure:
            rows.block(1, -INF, 0.0, [(reserved[p : p + 1], 1.0), (runs[p : p + 1], -top)])
        peak = most.astype(np.float64)
        each["n"][p] = columns.block(weight * (pool.on_demand_usd_per_h + extra), peak, True)
        spot_top = peak if pool.spot_usd_per_h is not None else 0.0
        each["m"][p] = columns.block(weight * ((pool.spot_usd_per_h or 0.0) + extra), spot_top, True)
        n, m, y, r = each["n"][p], each["m"][p], runs[p], reserved[p]
        for s in map(int, np.flatnonzero(allowed[:, p])):
            per = np.where(unit[s] > 0, np.nan_to_num(problem.pool_usd_per_h[s, p]) / safe[s], 0.0)
            if waits[s]:
                per = np.full(hours, per.max())
            less = 0.0 if waits[s] else api[s]
            size = reach_of(demand[s], int(waits[s]), problem.cyclic)
            frac[s, p] = columns.block(weight * (per - less), size)
            if not sure:
                rows.block(hours, -INF, 0.0, [(frac[s, p], 1.0), (y, -size)])
        lines = rows.block(
            hours, -INF, 0.0,
            [(y, -pool.first_per_h - pool.more_per_h * (pool.held - 1 - problem.spare)),
             (r, -pool.more_per_h), (n, -pool.more_per_h), (m, -pool.more_per_h)],
        )  # fmt: skip
        for s in map(int, np.flatnonzero(allowed[:, p])):
            per = (
                load[s] if not waits[s] else np.full(hours, (load[s] / safe[s])[unit[s] > 0].max(initial=0.0))
            )
            rows.extend(lines, frac[s, p], per)
        rows.block(hours, 0.0, INF, [(r, 1.0), (n, 1.0), (m, 1.0), (y, pool.held - float(floor))])
        if not sure:
            rows.block(hours, -INF, 0.0, [(n, 1.0), (m, 1.0), (y, -most.astype(float))])
        if pool.spot_usd_per_h is not None:
            q = problem.spot_frac
            rows.block(hours, -INF, 0.0, [(m, 1.0 - q), (n, -q), (r, -q), (y, -q * pool.held)])
        if pool.start_usd > 0:
            each["u"][p] = columns.block(weight * pool.start_usd, INF)
            before_n, before_m = np.roll(n, 1), np.roll(m, 1)
            if not problem.cyclic:
                before_n[0] = before_m[0] = -1
            rows.block(
                hours, -INF, 0.0,
                [(n, 1.0), (m, 1.0), (before_n, -1.0), (before_m, -1.0), (each["u"][p], -1.0)],
            )  # fmt: skip
    cover = np.full((streams, hours), -1, np.int64)
    for s in range(streams):
        terms: list[tuple[Ints, Floats | float]] = [(frac[s, p], 1.0) for p in range(pools) if allowed[s, p]]
        if waits[s]:
            ahead = _within(demand[s], int(waits[s]), problem.cyclic)
            if not problem.cyclic:
                ahead[-1] = 0.0
            backlog[s] = columns.block(np.zeros(hours), ahead)
            per_api = np.where(unit[s] > 0, api[s] / safe[s], 0.0).max()
            sent[s] = columns.block(weight * per_api, 0.0 if must[s].any() else INF)
            before = np.roll(backlog[s], 1)
            if not problem.cyclic:
                before[0] = -1
            terms += [(sent[s], 1.0), (backlog[s], 1.0), (before, -1.0)]
            cover[s] = rows.block(hours, demand[s], demand[s], terms)
        elif terms:
            cover[s] = rows.block(hours, np.where(must[s], 1.0, -INF), 1.0, terms)
    kg = -1
    if problem.most_kg < INF:
        kg = int(rows.block(1, -INF, problem.most_kg, [])[0])
        for p, pool in enumerate(problem.pools):
            rate = pool.kg_per_replica_h
            for part in (each["n"][p], each["m"][p]):
                rows.extend(np.full(hours, kg), part, weight * rate)
            fixed = np.array([rate * whole, rate * whole * pool.held])
            rows.extend(np.full(2, kg), np.array([reserved[p], runs[p]]), fixed)
    if at_least and pools:
        row = rows.block(1, float(at_least), INF, [])
        rows.extend(np.repeat(row, pools), runs, 1.0)
        ties += [(int(row[0]), int(column), 1.0) for column in runs]
    still = np.where(waits[:, None] > 0, 0.0, api)
    index = Index(
        frac, sent, backlog, each["n"], each["m"], each["u"], reserved, runs, int(z[0]), cover, kg
    )  # fmt: skip
    return Programme(
        problem, columns, rows, index, demand, float((still.sum(axis=0) * weight).sum()), tuple(ties)
    )


def _most(problem: Problem, p: int, load: Floats, waits: Ints, floor: int) -> Ints:
    """Replicas that any hour could need: what waits may come all at once."""
    pool, hours = problem.pools[p], load.shape[1]
    if pool.first_per_h <= 0:
        return np.zeros(hours, np.int64)
    total = load[waits == 0].sum(axis=0)
    for s in np.flatnonzero(waits):
        total = total + _within(load[s], int(waits[s]) + 1, problem.cyclic)
    return np.maximum(pool.needed(total, problem.spare), floor)


def reach_of(demand: Floats, wait_h: int, cyclic: bool) -> Floats:
    """The most of a stream that one hour could serve, in the units of its shares: (H,)."""
    return _within(demand, wait_h + 1, cyclic) if wait_h else np.ones_like(demand)


def _within(amount: Floats, hours: int, cyclic: bool) -> Floats:
    """What arrived in the last ``hours`` hours, this one included: (H,)."""
    reach = min(hours, len(amount))
    padded = np.concatenate([amount[-reach:] if cyclic else np.zeros(reach), amount])
    sums = np.concatenate(([0.0], np.cumsum(padded)))
    end = np.arange(len(amount)) + reach + 1
    return np.array(sums[end] - sums[end - reach])


def encode(solution: Solution, index: Index, problem: Problem, count: int) -> Floats:
    """A solution as column values, to start the search from; for problems where nothing waits."""
    from isocost.plan.solve.problem import starts

    values = np.zeros(count)
    values[index.any] = float(solution.runs.any())
    values[index.runs] = solution.runs
    values[index.reserved] = solution.reserved
    values[index.on_demand] = solution.on_demand
    values[index.spot] = solution.spot
    there = index.frac >= 0
    values[index.frac[there]] = solution.pool_frac[there]
    if len(problem.pools):
        begun = starts(problem, solution.on_demand + solution.spot)
        paid = index.starts >= 0
        values[index.starts[paid]] = begun[paid]
    return values


def decode(programme: Programme, values: Floats) -> Solution:
    """Column values as a solution of a problem where nothing waits, shares cleaned of rounding."""
    problem, index = programme.problem, programme.index
    frac = np.where(index.frac >= 0, np.clip(values[index.frac], 0.0, 1.0), 0.0)
    frac[frac < 1e-7] = 0.0
    whole = frac.sum(axis=1, keepdims=True)
    frac = np.where(whole > 1.0, frac / np.where(whole > 0, whole, 1.0), frac)
    must = np.isnan(problem.api_usd_per_h)[:, None, :]
    frac = np.where(must & (whole > 0), frac / np.where(whole > 0, np.minimum(whole, 1.0), 1.0), frac)
    runs = values[index.runs] > 0.5
    held = np.array([pool.held if on else 0 for pool, on in zip(problem.pools, runs, strict=True)], np.int64)

    def counts(numbers: Ints) -> Ints:
        return np.where(numbers >= 0, np.rint(values[numbers]), 0).astype(np.int64)

    return Solution(
        0.0, 0.0, frac, counts(index.reserved), counts(index.on_demand), counts(index.spot), held, runs
    )


def served_in(programme: Programme, values: Floats) -> Floats:
    """Work served in each hour over the mean hour's, of streams that wait, NaN of others: (S, H)."""
    problem, index = programme.problem, programme.index
    moved = np.full_like(programme.demand, np.nan)
    for s, wait in enumerate(problem.wait_h):
        if not wait:
            continue
        served = values[index.sent[s]].copy()
        for p in range(len(problem.pools)):
            if index.frac[s, p, 0] >= 0:
                served += values[index.frac[s, p]]
        moved[s] = np.maximum(served, 0.0)
    return moved


def served_later(programme: Programme, moved: Floats) -> Problem:
    """The problem with each waiting stream's work in the hours that it is served in."""
    problem, demand = programme.problem, programme.demand
    load, api, use = problem.load_per_h.copy(), problem.api_usd_per_h.copy(), problem.pool_usd_per_h.copy()
    for s, wait in enumerate(problem.wait_h):
        if not wait:
            continue
        there = demand[s] > 0
        per = np.where(there, demand[s], 1.0)
        for table in (*load[s], *use[s], api[s]):
            known = not np.isnan(table).any()
            table[:] = (table / per)[there].max(initial=0.0) * moved[s] if known else np.nan
    return replace(problem, load_per_h=load, api_usd_per_h=api, pool_usd_per_h=use, wait_h=())
