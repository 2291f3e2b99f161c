"""The search for the cheapest plan, against brute force and against an independent programme."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from isocost.errors import Infeasible
from isocost.plan.solve import levels
from isocost.plan.solve.levels import spot_part
from isocost.plan.solve.mix import solve
from isocost.plan.solve.one_pool import _Counted, _Levelled, by_committed, one_pool, whole_pool, worth_of
from isocost.plan.solve.problem import PoolChoice, Problem, Solution, cost_of, emitted_kg

TOL = 1e-6


def small(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(float)


@st.composite
def pools(draw: st.DrawFn, name: str) -> PoolChoice:
    on_demand = draw(small(1, 20))
    return PoolChoice(
        name,
        draw(small(3, 12)),
        draw(small(3, 12)),
        on_demand,
        draw(st.none() | small(1, 15)),
        draw(st.none() | small(1, 15)),
        draw(st.sampled_from([0, 0, 1, 2])),
        draw(small(0, 30)),
        draw(small(0, 2)),
        start_usd=draw(st.sampled_from([0.0, 0.0, 1.0, 6.0])),
        least=draw(st.sampled_from([0, 0, 1, 3])),
    )


@st.composite
def problems(draw: st.DrawFn, pools_most: int = 2, streams_most: int = 3, hours_most: int = 3) -> Problem:
    hours, streams = draw(st.integers(1, hours_most)), draw(st.integers(1, streams_most))
    made = tuple(draw(pools(f"p{k}")) for k in range(draw(st.integers(1, pools_most))))

    def table(high: int) -> np.ndarray:
        cells = st.lists(small(0, high), min_size=streams * hours, max_size=streams * hours)
        return np.array(draw(cells)).reshape(streams, hours)

    api = table(60)
    api[[s for s in range(streams) if draw(st.integers(0, 3)) == 0]] = np.nan
    load = np.stack([table(15) for _ in made], axis=1)
    for s, k in itertools.product(range(streams), range(len(made))):
        if draw(st.integers(0, 4)) == 0:
            load[s, k] = np.nan
    return Problem(
        np.array(draw(st.lists(small(1, 5), min_size=hours, max_size=hours))),
        api,
        load,
        np.stack([table(4) for _ in made], axis=1),
        made,
        draw(small(0, 40)),
        draw(st.integers(0, 2)),
        draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        tuple(f"s{i}" for i in range(streams)),
        cyclic=draw(st.booleans()),
    )


def best(problem: Problem) -> Solution:
    return solve(problem, gap_frac=1e-9)


def hour_usd(problem: Problem, k: int, h: int, capacity: float) -> float:
    """The least API and variable cost of an hour with so much of pool k: a linear programme."""
    api, load, usd = problem.api_usd_per_h[:, h], problem.load_per_h[:, k, h], problem.pool_usd_per_h[:, k, h]
    none, closed = np.isnan(api), np.isnan(problem.load_per_h[:, k, :]).any(axis=1)
    if (none & closed).any():
        return np.inf
    found = linprog(
        usd - np.nan_to_num(api),
        A_ub=np.where(closed, 0.0, np.nan_to_num(load))[None, :],
        b_ub=[capacity],
        bounds=[(1.0 if n else 0.0, 0.0 if c else 1.0) for n, c in zip(none, closed, strict=True)],
    )
    return float(found.fun + np.nan_to_num(api).sum()) if found.status == 0 else np.inf


def rent_usd(problem: Problem, pool: PoolChoice, base: int, count: int) -> float:
    """The least rent of an hour with ``count`` replicas, ``base`` of them there: spot enumerated."""
    options = []
    for spot in range(count - base + 1):
        if spot and (pool.spot_usd_per_h is None or spot > problem.spot_frac * count + 1e-9):
            continue
        options.append((count - base - spot) * pool.on_demand_usd_per_h + spot * (pool.spot_usd_per_h or 0.0))
    return min(options) + count * pool.extra_usd_per_replica_h


def brute(problem: Problem, k: int) -> float:
    """The least cost with pool k running, over every reserved count and every hour's replicas."""
    pool, hours = problem.pools[k], len(problem.weight_h)
    load = np.nan_to_num(problem.load_per_h[:, k]).sum(axis=0).max()
    most = int(1 + problem.spare + pool.held + np.ceil(load / min(pool.first_per_h, pool.more_per_h)))
    split = {}
    for h, count in itertools.product(range(hours), range(most + 1)):
        working = count - problem.spare
        capacity = pool.first_per_h + pool.more_per_h * (working - 1) if working >= 1 else -1.0
        split[h, count] = hour_usd(problem, k, h, capacity) if working >= 1 else np.inf
    most = max(most, pool.least)
    for h, count in itertools.product(range(hours), range(most + 1)):
        if (h, count) not in split:
            split[h, count] = split[h, count - 1]
    totals = []
    for reserved in range(0 if pool.reserved_usd_per_h is None else max(0, most - pool.held), -1, -1):
        base = pool.held + reserved
        paid = reserved * problem.weight_h.sum() * (pool.reserved_usd_per_h or 0.0)
        low = max(base, pool.least)
        table = {
            (h, count): problem.weight_h[h] * (split[h, count] + rent_usd(problem, pool, base, count))
            for h, count in itertools.product(range(hours), range(low, most + 1))
        }
        for counts in itertools.product(range(low, most + 1), repeat=hours):
            usd = paid + sum(table[h, count] for h, count in enumerate(counts))
            if pool.start_usd:
                before = [counts[-1] if problem.cyclic else base, *counts[:-1]]
                usd += pool.start_usd * sum(
                    w * max(0, now - then)
                    for w, now, then in zip(problem.weight_h, counts, before, strict=True)
                )
            totals.append(usd)
    return float(min(totals) + pool.fixed_usd_per_month + problem.fixed_usd_per_month)


def check_feasible(problem: Problem, found: Solution) -> None:
    """Every row of the programme, stated again."""
    served = found.pool_frac.sum(axis=1)
    assert (found.pool_frac >= 0).all()
    assert (served <= 1 + TOL).all()
    assert np.allclose(served[np.isnan(problem.api_usd_per_h)], 1.0, atol=1e-9)
    assert (found.pool_frac[np.isnan(problem.load_per_h)] == 0).all()
    assert (found.pool_frac[:, ~found.runs] == 0).all()
    load = (np.nan_to_num(problem.load_per_h) * found.pool_frac).sum(axis=0)
    for k, pool in enumerate(problem.pools):
        count = found.replicas[k]
        assert (count >= 0).all()
        if not found.runs[k]:
            assert not count.any()
            continue
        assert (count >= max(1 + problem.spare, pool.least)).all()
        assert found.held[k] == pool.held
        assert (load[k] <= pool.capacity_per_h(count, problem.spare) * (1 + TOL) + TOL).all()
        assert (found.spot[k] <= problem.spot_frac * count + TOL).all()
        assert pool.spot_usd_per_h is not None or not found.spot[k].any()
        assert pool.reserved_usd_per_h is not None or not found.reserved[k]


@settings(max_examples=150, deadline=None)
@given(problems(pools_most=1))
def test_one_pool_equals_brute_force(problem: Problem) -> None:
    found, least = one_pool(problem, 0), brute(problem, 0)
    if found is None:
        closed = np.isnan(problem.load_per_h[:, 0]).any(axis=1)
        assert not np.isfinite(least) or closed.all()
        return
    assert found.usd_per_month == pytest.approx(least, rel=1e-9, abs=1e-6)
    check_feasible(problem, found)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_a_plan_is_feasible_priced_by_its_parts_and_no_dearer_than_its_starts(problem: Problem) -> None:
    try:
        found = best(problem)
    except Infeasible:
        none = np.isnan(problem.api_usd_per_h).any(axis=1)
        nowhere = np.isnan(problem.load_per_h).any(axis=2).all(axis=1)
        assert (none & nowhere).any()
        return
    check_feasible(problem, found)
    assert cost_of(problem, found) == pytest.approx(found.usd_per_month, rel=1e-9, abs=1e-9)
    assert found.bound_usd <= found.usd_per_month + 1e-9
    assert 0.0 <= found.gap_frac <= 1e-4
    for k in range(len(problem.pools)):
        alone = one_pool(problem, k)
        assert alone is None or found.usd_per_month <= alone.usd_per_month + TOL
    api = problem.api_usd_per_h.sum(axis=0) @ problem.weight_h
    assert np.isnan(api) or found.usd_per_month <= api + TOL


def milp_usd(problem: Problem) -> float:
    """The whole problem as another programme, over counts of pools and shares: an oracle."""
    streams, n_pools, hours = problem.load_per_h.shape
    per = 2 + 3 * hours + streams * hours
    count = 1 + n_pools * per
    cost, high, whole = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    cost[0], high[0], whole[0] = problem.fixed_usd_per_month, 1, 1
    rows: list[tuple[np.ndarray, float, float]] = []
    cover = [[np.zeros(count) for _ in range(hours)] for _ in range(streams)]
    api, weight, big = np.nan_to_num(problem.api_usd_per_h), problem.weight_h, 1e3
    for k, pool in enumerate(problem.pools):
        at = 1 + k * per
        y, reserved, n, m, u = at, at + 1, at + 2, at + 2 + hours, at + 2 + 2 * hours
        f = u + hours
        closed = np.isnan(problem.load_per_h[:, k]).any(axis=1)
        cost[y] = pool.fixed_usd_per_month + pool.held * pool.extra_usd_per_replica_h * weight.sum()
        high[y], whole[at : at + 2 + 2 * hours] = 1, 1
        cost[reserved] = ((pool.reserved_usd_per_h or 0.0) + pool.extra_usd_per_replica_h) * weight.sum()
        high[reserved] = np.inf if pool.reserved_usd_per_h is not None else 0
        for terms in ([(y, 1), (0, -1)], [(reserved, 1), (y, -big)]):
            row = np.zeros(count)
            for column, value in terms:
                row[column] = value
            rows.append((row, -np.inf, 0.0))
        for h in range(hours):
            cost[n + h] = weight[h] * (pool.on_demand_usd_per_h + pool.extra_usd_per_replica_h)
            cost[m + h] = weight[h] * ((pool.spot_usd_per_h or 0.0) + pool.extra_usd_per_replica_h)
            high[m + h] = np.inf if pool.spot_usd_per_h is not None else 0
            replicas = np.zeros(count)
            replicas[[reserved, n + h, m + h]], replicas[y] = 1, pool.held
            only = np.zeros(count)
            only[[n + h, m + h]], only[y] = 1, -big
            rows.append((only, -np.inf, 0.0))
            cost[u + h] = weight[h] * pool.start_usd
            begun = np.zeros(count)
            begun[[n + h, m + h, u + h]] = 1, 1, -1
            if h or problem.cyclic:
                begun[n + (h - 1) % hours] -= 1
                begun[m + (h - 1) % hours] -= 1
            rows.append((begun, -np.inf, 0.0))
            least = replicas.copy()
            least[y] -= max(1 + problem.spare, pool.least)
            rows.append((least, 0.0, np.inf))
            spots = -problem.spot_frac * replicas
            spots[m + h] += 1
            rows.append((spots, -np.inf, 0.0))
            carry = -pool.more_per_h * replicas
            carry[y] += pool.more_per_h * (1 + problem.spare) - pool.first_per_h
            for s in range(streams):
                column = f + s * hours + h
                cost[column] = weight[h] * (problem.pool_usd_per_h[s, k, h] - api[s, h])
                high[column] = 0.0 if closed[s] else 1.0
                carry[column] = 0.0 if closed[s] else problem.load_per_h[s, k, h]
                cover[s][h][column] = 1
                runs = np.zeros(count)
                runs[column], runs[y] = 1, -1
                rows.append((runs, -np.inf, 0.0))
            rows.append((carry, -np.inf, 0.0))
    for s, h in itertools.product(range(streams), range(hours)):
        rows.append((cover[s][h], 1.0 if np.isnan(problem.api_usd_per_h[s, h]) else -np.inf, 1.0))
    found = milp(
        cost,
        integrality=whole,
        bounds=Bounds(np.zeros(count), high),
        constraints=LinearConstraint(
            np.array([r[0] for r in rows]), [r[1] for r in rows], [r[2] for r in rows]
        ),
        options={"mip_rel_gap": 1e-9},
    )
    return float(found.fun + api.sum(axis=0) @ weight) if found.status == 0 else np.inf


@settings(max_examples=100, deadline=None)
@given(problems(hours_most=2))
def test_a_plan_equals_an_independent_programme(problem: Problem) -> None:
    least = milp_usd(problem)
    try:
        found = best(problem)
    except Infeasible:
        assert not np.isfinite(least)
        return
    assert found.usd_per_month == pytest.approx(least, rel=1e-5, abs=1e-4)


def exact_usd(problem: Problem) -> float:
    try:
        return best(problem).usd_per_month
    except Infeasible:
        return np.inf


@settings(max_examples=100, deadline=None)
@given(problems(hours_most=2), st.sampled_from(["spare", "spot", "api", "pool", "held"]), st.data())
def test_relaxing_a_limit_never_costs_more(problem: Problem, limit: str, data: st.DataObject) -> None:
    if limit == "spare":
        easier = replace(problem, spare=max(0, problem.spare - 1))
    elif limit == "spot":
        easier = replace(problem, spot_frac=min(1.0, problem.spot_frac + 0.25))
    elif limit == "api":
        easier = replace(problem, api_usd_per_h=np.nan_to_num(problem.api_usd_per_h, nan=30.0))
    elif limit == "pool":
        easier = replace(problem, load_per_h=np.nan_to_num(problem.load_per_h, nan=5.0))
    else:
        # Replicas already paid for and in no need of care: they cannot make a plan dearer.
        bare = tuple(replace(p, extra_usd_per_replica_h=0.0) for p in problem.pools)
        problem = replace(problem, pools=bare)
        easier = replace(problem, pools=tuple(replace(p, held=p.held + 1) for p in bare))
    assert exact_usd(easier) <= exact_usd(problem) * (1 + 1e-6) + 1e-5


@settings(max_examples=100, deadline=None)
@given(problems(hours_most=2), st.sampled_from([1.0, 1.3, 2.0, 3.7]))
def test_more_of_all_workloads_never_costs_less(problem: Problem, times: float) -> None:
    more = replace(
        problem,
        api_usd_per_h=problem.api_usd_per_h * times,
        load_per_h=problem.load_per_h * times,
        pool_usd_per_h=problem.pool_usd_per_h * times,
    )
    assert exact_usd(more) >= exact_usd(problem) * (1 - 1e-6) - 1e-5


def melange_usd(problem: Problem) -> float:
    """Least rent of fixed counts of replicas that carry the peak load of every hour, and no API.

    The allocation of Melange (Griggs et al. 2024): integer counts by kind, load split over kinds.
    """
    streams, n_pools, _ = problem.load_per_h.shape
    peak = problem.load_per_h.max(axis=2)
    hours = problem.weight_h.sum()
    cost = np.concatenate(
        [[pool.on_demand_usd_per_h * hours for pool in problem.pools], np.zeros(streams * n_pools)]
    )
    rows, low, high = [], [], []
    for k, pool in enumerate(problem.pools):
        row = np.zeros(len(cost))
        row[k] = -pool.more_per_h
        for s in range(streams):
            row[n_pools + s * n_pools + k] = peak[s, k]
        rows.append(row)
        low.append(-np.inf)
        high.append(0.0)
    for s in range(streams):
        row = np.zeros(len(cost))
        row[n_pools + s * n_pools : n_pools + (s + 1) * n_pools] = 1
        rows.append(row)
        low.append(1.0)
        high.append(1.0)
    found = milp(
        cost,
        integrality=np.concatenate([np.ones(n_pools), np.zeros(streams * n_pools)]),
        bounds=Bounds(0, np.concatenate([np.full(n_pools, np.inf), np.ones(streams * n_pools)])),
        constraints=LinearConstraint(np.array(rows), low, high),
        options={"mip_rel_gap": 1e-9},
    )
    assert found.status == 0
    return float(found.fun)


@st.composite
def rented_only(draw: st.DrawFn) -> Problem:
    """No API, no spare, no fixed cost: what a static allocation can also serve."""
    problem = draw(problems())
    load = np.maximum(1.0, np.nan_to_num(problem.load_per_h, nan=7.0))
    kinds = tuple(
        replace(
            p,
            first_per_h=p.more_per_h,
            held=0,
            fixed_usd_per_month=0.0,
            extra_usd_per_replica_h=0.0,
            start_usd=0.0,
            least=0,
        )
        for p in problem.pools
    )
    return replace(
        problem,
        api_usd_per_h=np.full_like(problem.api_usd_per_h, np.nan),
        load_per_h=load,
        pool_usd_per_h=np.zeros_like(load),
        pools=kinds,
        fixed_usd_per_month=0.0,
        spare=0,
    )


@settings(max_examples=100, deadline=None)
@given(rented_only())
def test_a_static_allocation_for_the_peak_is_never_cheaper(problem: Problem) -> None:
    found = best(problem)
    static = melange_usd(problem)
    assert found.bound_usd <= static * (1 + 1e-6) + 1e-6
    assert found.usd_per_month <= static * (1 + 1e-5) + 1e-4


@settings(max_examples=100, deadline=None)
@given(rented_only())
def test_in_one_hour_on_demand_a_plan_is_the_static_allocation(problem: Problem) -> None:
    one = replace(
        problem,
        weight_h=problem.weight_h[:1],
        api_usd_per_h=problem.api_usd_per_h[:, :1],
        load_per_h=problem.load_per_h[:, :, :1],
        pool_usd_per_h=problem.pool_usd_per_h[:, :, :1],
        pools=tuple(replace(p, reserved_usd_per_h=None, spot_usd_per_h=None) for p in problem.pools),
    )
    assert best(one).usd_per_month == pytest.approx(melange_usd(one), rel=1e-5, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(problems(), st.floats(0.3, 1.0))
def test_derating_multiplies_capacity_and_never_helps(problem: Problem, factor: float) -> None:
    less = problem.derated({"p0": factor})
    assert less.pools[0].first_per_h == problem.pools[0].first_per_h * factor
    assert less.pools[0].more_per_h == problem.pools[0].more_per_h * factor
    assert less.pools[1:] == problem.pools[1:]
    one, two = one_pool(problem, 0), one_pool(less, 0)
    assert (one is None) == (two is None)
    if one is not None and two is not None:
        assert two.usd_per_month >= one.usd_per_month - 1e-6


def test_only_keeps_the_named_pools_and_may_leave_the_apis_out() -> None:
    problem = problem_of(pools=(pool("a"), pool("b"), pool("c")))
    kept = problem.only((2, 0), api=False)
    assert [p.id for p in kept.pools] == ["c", "a"]
    assert kept.load_per_h.shape == (1, 2, 2)
    assert np.isnan(kept.api_usd_per_h).all()
    assert np.isfinite(problem.only((1,), api=True).api_usd_per_h).all()


def pool(name: str = "p", **changes: object) -> PoolChoice:
    return replace(PoolChoice(name, 10.0, 10.0, 2.0, None, None, 0, 0.0), **changes)  # type: ignore[arg-type]


def problem_of(pools: tuple[PoolChoice, ...] = (), **changes: object) -> Problem:
    n = len(pools)
    base = Problem(
        np.array([3.0, 1.0]),
        np.array([[9.0, 5.0]]),
        np.full((1, n, 2), 8.0),
        np.zeros((1, n, 2)),
        pools,
        0.0,
        0,
        0.5,
        ("s",),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_no_pools_is_the_api_bill() -> None:
    found = best(problem_of())
    assert found.usd_per_month == found.bound_usd == 3 * 9 + 5
    assert found.replicas.shape == (0, 2)


def test_no_pools_and_no_api_is_infeasible() -> None:
    with pytest.raises(Infeasible, match="'s'"):
        best(problem_of(api_usd_per_h=np.full((1, 2), np.nan)))


@pytest.mark.parametrize("count", [1, 2])
def test_a_pool_without_capacity_is_never_used(count: int) -> None:
    none = tuple(pool(f"p{k}", first_per_h=0.0, more_per_h=0.0) for k in range(count))
    found = best(problem_of(none))
    assert found.usd_per_month == 32.0
    assert not found.runs.any()


def test_a_pool_that_cannot_grow_takes_what_one_replica_takes() -> None:
    fixed = pool("p", more_per_h=0.0)
    found = best(problem_of((fixed,), load_per_h=np.full((1, 1, 2), 20.0)))
    assert found.replicas.tolist() == [[1, 1]]
    assert found.pool_frac[0, 0].tolist() == [0.5, 0.5]
    assert best(
        problem_of((fixed, pool("q", on_demand_usd_per_h=99.0)), load_per_h=np.full((1, 2, 2), 20.0))
    ).usd_per_month == pytest.approx(found.usd_per_month)
    assert whole_pool(problem_of((fixed,), load_per_h=np.full((1, 1, 2), 20.0)), 0) is None


def test_hours_without_load_keep_the_least_replicas_only() -> None:
    problem = problem_of(
        (pool("p"),), load_per_h=np.array([[[25.0, 0.0]]]), api_usd_per_h=np.array([[99.0, 0.0]])
    )
    found = best(problem)
    assert found.replicas.tolist() == [[3, 1]]


def test_no_traffic_at_all_costs_nothing() -> None:
    found = best(problem_of((pool(),), load_per_h=np.zeros((1, 1, 2)), api_usd_per_h=np.zeros((1, 2))))
    assert found.usd_per_month == 0.0
    assert found.gap_frac == 0.0


def test_held_replicas_cost_nothing_more_and_are_all_there() -> None:
    found = best(problem_of((pool(held=3),)))
    assert found.usd_per_month == 0.0
    assert found.held.tolist() == [3]
    assert not found.on_demand.any()


def test_reserved_where_cheaper_around_the_clock_and_spot_up_to_its_share() -> None:
    kind = pool(reserved_usd_per_h=1.9, spot_usd_per_h=1.0)
    busy = problem_of((kind,), load_per_h=np.array([[[40.0, 20.0]]]), api_usd_per_h=np.array([[1e3, 1e3]]))
    found = best(busy)
    # Two run always; of the four in the busy hour half may be spot.
    assert found.reserved.tolist() == [1]
    assert found.spot.tolist() == [[2, 1]]
    assert found.on_demand.tolist() == [[1, 0]]


def test_a_stream_without_an_api_in_some_hours_only_is_served_there() -> None:
    problem = problem_of(
        (pool(),), load_per_h=np.array([[[40.0, 8.0]]]), api_usd_per_h=np.array([[0.5, np.nan]])
    )
    found = best(problem)
    assert found.replicas.tolist() == [[1, 1]]
    check_feasible(problem, found)
    assert found.usd_per_month == pytest.approx(milp_usd(problem))


def test_an_unused_pool_with_held_replicas_is_not_kept_running() -> None:
    dear = pool(held=2, extra_usd_per_replica_h=50.0)
    found = best(problem_of((dear,)))
    assert found.usd_per_month == 32.0
    assert not found.held.any()


def test_what_weighs_nothing_is_taken_in_first() -> None:
    problem = problem_of((pool(),), load_per_h=np.zeros((1, 1, 2)), api_usd_per_h=np.array([[9.0, 5.0]]))
    assert best(problem).usd_per_month == pytest.approx(brute(problem, 0)) == 8.0


@settings(max_examples=50, deadline=None)
@given(problems())
def test_a_search_cut_short_proves_no_more_than_it_knows(problem: Problem) -> None:
    try:
        cut = solve(problem, gap_frac=0.0, nodes=0)
    except Infeasible:
        return
    check_feasible(problem, cut)
    assert cut.bound_usd <= exact_usd(problem) + 1e-4 <= cut.usd_per_month + 2e-4


@st.composite
def tied(draw: st.DrawFn) -> Problem:
    """Work that may wait an hour or two, and a limit on emissions; loads in proportion to demand."""
    problem = draw(problems(hours_most=3))
    streams, n, hours = problem.load_per_h.shape
    cells = st.lists(small(1, 9), min_size=streams * hours, max_size=streams * hours)
    demand = np.array(draw(cells)).reshape(streams, hours)
    api = np.where(np.isnan(problem.api_usd_per_h).any(axis=1), np.nan, problem.api_usd_per_h.max(axis=1))
    load = np.where(np.isnan(problem.load_per_h).any(axis=2), np.nan, problem.load_per_h.max(axis=2))
    kinds = tuple(replace(p, kg_per_replica_h=draw(small(0, 2))) for p in problem.pools)
    return replace(
        problem,
        api_usd_per_h=api[:, None] * demand,
        load_per_h=load[:, :, None] * demand[:, None, :],
        pool_usd_per_h=np.zeros((streams, n, hours)),
        pools=kinds,
        weight_h=np.ones(hours),
        wait_h=tuple(draw(st.sampled_from([0, 1, 2])) for _ in range(streams)),
        most_kg=draw(st.sampled_from([np.inf, 4.0, 15.0, 60.0])),
    )


def tied_usd(problem: Problem) -> float:
    """The same with waiting work as amounts by hour of arrival and of service, and emissions: an oracle."""
    streams, n_pools, hours = problem.load_per_h.shape
    pairs = [
        (s, a, (a + d) % hours)
        for s in range(streams)
        for a in range(hours)
        for d in range(min(problem.wait_h[s], hours - 1) + 1)
        if problem.cyclic or a + d < hours
    ]
    per_pool = 2 + 3 * hours
    at_pair = 1 + n_pools * per_pool
    count = at_pair + len(pairs) * (n_pools + 1)
    cost, high, whole = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    cost[0], high[0], whole[0] = problem.fixed_usd_per_month, 1, 1
    rows: list[tuple[np.ndarray, float, float]] = []
    kg, big = np.zeros(count), 1e4
    for k, pool in enumerate(problem.pools):
        at = 1 + k * per_pool
        y, r, n, m, u = at, at + 1, at + 2, at + 2 + hours, at + 2 + 2 * hours
        cost[y], high[y] = pool.fixed_usd_per_month + pool.held * pool.extra_usd_per_replica_h * hours, 1
        whole[at : at + 2 + 2 * hours] = 1
        cost[r] = ((pool.reserved_usd_per_h or 0.0) + pool.extra_usd_per_replica_h) * hours
        high[r] = np.inf if pool.reserved_usd_per_h is not None else 0
        kg[y], kg[r] = pool.kg_per_replica_h * hours * pool.held, pool.kg_per_replica_h * hours
        for terms in ([(y, 1), (0, -1)], [(r, 1), (y, -big)]):
            row = np.zeros(count)
            for column, value in terms:
                row[column] = value
            rows.append((row, -np.inf, 0.0))
        for h in range(hours):
            cost[n + h] = pool.on_demand_usd_per_h + pool.extra_usd_per_replica_h
            cost[m + h] = (pool.spot_usd_per_h or 0.0) + pool.extra_usd_per_replica_h
            high[m + h] = np.inf if pool.spot_usd_per_h is not None else 0
            cost[u + h] = pool.start_usd
            kg[n + h] = kg[m + h] = pool.kg_per_replica_h
            replicas, begun, only = np.zeros(count), np.zeros(count), np.zeros(count)
            replicas[[r, n + h, m + h]], replicas[y] = 1, pool.held
            begun[[n + h, m + h, u + h]] = 1, 1, -1
            if h or problem.cyclic:
                begun[n + (h - 1) % hours] -= 1
                begun[m + (h - 1) % hours] -= 1
            only[[n + h, m + h]], only[y] = 1, -big
            least, spots = replicas.copy(), -problem.spot_frac * replicas
            least[y] -= max(1 + problem.spare, pool.least)
            spots[m + h] += 1
            carry = -pool.more_per_h * replicas
            carry[y] += pool.more_per_h * (1 + problem.spare) - pool.first_per_h
            for i, (s, a, b) in enumerate(pairs):
                if b == h and np.isfinite(problem.load_per_h[s, k]).all():
                    carry[at_pair + i * (n_pools + 1) + k] = problem.load_per_h[s, k, a]
            rows += [(begun, -np.inf, 0), (only, -np.inf, 0), (least, 0, np.inf), (spots, -np.inf, 0)]
            rows.append((carry, -np.inf, 0.0))
    for i, (s, a, _) in enumerate(pairs):
        base = at_pair + i * (n_pools + 1)
        for k in range(n_pools):
            if np.isnan(problem.load_per_h[s, k]).any():
                high[base + k] = 0.0
            row = np.zeros(count)
            row[base + k], row[1 + k * per_pool] = 1, -1
            rows.append((row, -np.inf, 0.0))
        api = problem.api_usd_per_h[s, a]
        cost[base + n_pools] = 0.0 if np.isnan(api) else api
        high[base + n_pools] = 0.0 if np.isnan(api) else 1.0
    for s, a in itertools.product(range(streams), range(hours)):
        row = np.zeros(count)
        for i, (t, b, _) in enumerate(pairs):
            if (t, b) == (s, a):
                base = at_pair + i * (n_pools + 1)
                row[base : base + n_pools + 1] = 1
        rows.append((row, 1.0, 1.0))
    rows.append((kg, -np.inf, min(problem.most_kg, 1e9)))
    found = milp(
        cost,
        integrality=whole,
        bounds=Bounds(np.zeros(count), high),
        constraints=LinearConstraint(
            np.array([r[0] for r in rows]), [r[1] for r in rows], [r[2] for r in rows]
        ),
        options={"mip_rel_gap": 1e-9},
    )
    return float(found.fun) if found.status == 0 else np.inf


@settings(max_examples=150, deadline=None)
@given(tied())
def test_work_that_waits_and_emissions_are_bounded_from_both_sides(problem: Problem) -> None:
    least = tied_usd(problem)
    try:
        found = solve(problem, gap_frac=1e-6)
    except Infeasible:
        return
    assert found.bound_usd <= least * (1 + 1e-5) + 1e-4
    assert found.usd_per_month >= least * (1 - 1e-6) - 1e-5
    assert emitted_kg(problem, found) <= problem.most_kg * (1 + 1e-6) + 1e-9


@settings(max_examples=60, deadline=None)
@given(problems(pools_most=1, streams_most=2, hours_most=3), st.integers(70, 900))
def test_many_replicas_cost_what_their_schedule_costs_and_the_bound_lies_below(
    problem: Problem, times: int
) -> None:
    """Levels: the cost told for a number reserved is that of its schedule, and no other number is cheaper."""
    grown = replace(
        problem,
        load_per_h=problem.load_per_h * times,
        api_usd_per_h=problem.api_usd_per_h * times,
        pool_usd_per_h=problem.pool_usd_per_h * times,
    )
    found = one_pool(grown, 0)
    if found is None:
        return
    check_feasible(grown, found)
    assert cost_of(grown, found) == pytest.approx(found.usd_per_month, rel=1e-9)
    assert found.bound_usd <= found.usd_per_month + TOL
    if grown.pools[0].reserved_usd_per_h is None:
        return
    for number in {0, int(found.reserved[0]) // 2, int(found.reserved[0]) + 3}:
        other = one_pool(grown, 0, number)
        assert other is None or other.usd_per_month >= found.bound_usd - TOL


@settings(max_examples=120, deadline=None)
@given(problems(pools_most=1, streams_most=2), st.integers(2, 7), st.integers(2, 5))
def test_steps_of_several_replicas_are_bounded_from_below_and_cost_no_less_than_the_best(
    problem: Problem, steps: int, times: int
) -> None:
    """Levels of several replicas each, against dynamic programming over counts for every number reserved."""
    grown = replace(
        problem,
        load_per_h=problem.load_per_h * times,
        api_usd_per_h=problem.api_usd_per_h * times,
        pool_usd_per_h=problem.pool_usd_per_h * times,
    )
    if one_pool(grown, 0) is None:
        return
    kind, worth = grown.pools[0], worth_of(grown, 0)
    floor = max(1 + grown.spare, kind.held, kind.least)
    most = max(floor, int(kind.needed(worth.load.sum(axis=0), grown.spare).max()))
    exact = _Counted(grown, kind, worth, most, floor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "LEVELS_MOST", steps)
        coarse = _Levelled(grown, kind, worth, most, floor)
    told = coarse.costs()
    for number in range(most - kind.held + 1):
        least = exact.cost(number)
        near = TOL * (1.0 + abs(least))
        assert coarse.bound(number) <= least + near
        usd, counts = coarse.schedule(number)
        assert counts is not None
        assert counts.max() <= most
        assert usd >= least - near
        assert told[number] >= least - near
        if coarse.found.step == 1 and spot_part(grown, kind) <= 0.0:
            assert usd == pytest.approx(least, rel=1e-9, abs=1e-6)


def test_what_steps_of_replicas_tell_lies_within_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat load of 520 replicas taken in steps: the last passes what is needed and is counted whole."""
    kind = PoolChoice("p", 1.0, 1.0, 1.0, 0.6, None, 0, 0.0)
    flat = np.full((1, 1, 1), 520.0)
    problem = Problem(
        np.array([730.0]), flat[:, 0] * 100.0, flat, np.zeros_like(flat), (kind,), 0.0, 0, 0.0, ("s",)
    )
    monkeypatch.setattr(levels, "LEVELS_MOST", 512)
    told = by_committed(problem, 0)
    found = one_pool(problem, 0)
    assert found is not None
    assert found.replicas.tolist() == [[520]]
    assert found.bound_usd <= 520 * 730 * 0.6
    true = 730.0 * (520 - np.arange(521))
    assert (told >= true - 1e-6).all()
    assert (told <= true + 730.0 + 1e-6).all()


def test_what_commitments_save_falls_with_each_and_equals_the_schedules_one_by_one() -> None:
    rng = np.random.default_rng(4)
    hours = 48
    pool = PoolChoice("p", 10.0, 9.0, 4.0, 2.0, None, 0, 0.0, 0.3, start_usd=1.5)
    load = rng.uniform(200.0, 2500.0, (2, 1, hours))
    problem = Problem(
        np.ones(hours), load[:, 0] * rng.uniform(0.3, 1.2, (2, 1)), load, np.zeros_like(load), (pool,), 0.0,
        1, 0.5, ("a", "b"),
    )  # fmt: skip
    usd = by_committed(problem, 0)
    assert len(usd) > 300
    assert (np.diff(usd, 2) >= -1e-6 * usd.max()).all()
    free = replace(problem, pools=(replace(pool, reserved_usd_per_h=0.0),))
    for number in (0, 1, 57, 200, len(usd) - 1):
        one = one_pool(free, 0, number)
        assert one is not None
        assert one.usd_per_month == pytest.approx(usd[number], rel=1e-9)
