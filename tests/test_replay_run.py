"""A plan run over a trace: to the last digit where prices decide, by accounting identities elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.bill import Usage, price
from isocost.catalog import Catalog
from isocost.deployment import Api, Deployment, ExactCache, Pool, offering_of, work_s
from isocost.errors import BadLimits, BadTrace
from isocost.fleet import Fleet, PoolSchedule
from isocost.policy.route import Route, Share
from isocost.replay.reuse import exact_hits
from isocost.replay.run import Ratio, Replayed, Routed, Situation, replay
from isocost.size.queue import Need, Step, carried
from isocost.trace.schema import Chunk, utc
from isocost.units import NS_PER_H, NS_PER_S, PS_PER_S

START = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * NS_PER_S
GPT = Api("openai/gpt-4.1", "api/openai/gpt-4.1", "openai", "gpt-4.1", "api")
MINI = Api("openai/gpt-4.1-mini", "api/openai/gpt-4.1-mini", "openai", "gpt-4.1-mini", "api")
CACHE = ExactCache("cache/exact", 3600.0)
TERMS = {"base_ps": 10**10, "prefill_ps_per_tok": 10**7, "seq_ps": 10**8, "kv_ps_per_tok": 1000}
MEMORY = {"kv_capacity_tok": 200_000, "max_seqs": 16, "prefill_budget_tok": 2048}
POOL = Pool(
    "self/m@1xg", "selfhost", "m", "bf16", "g", 1, 1, **TERMS, **MEMORY, usd_per_gpu_h=2.0, quote="rent of g"
)
ON = date(2026, 3, 2)


def chunk(n: int = 300, seed: int = 0, days: float = 9.0, start: int = START, **columns: np.ndarray) -> Chunk:
    rng = np.random.default_rng(seed)
    arrival = start + np.sort(rng.integers(0, int(days * 24 * NS_PER_H), n))
    prompt = rng.integers(10, 3000, n).astype(np.int32)
    made = {
        "input_tok": prompt,
        "output_tok": rng.integers(1, 400, n).astype(np.int32),
        "outcome": np.zeros(n, np.int8),
        "cached_tok": (prompt * rng.choice([0.0, 0.3, 1.0], n)).astype(np.int32),
    }
    return Chunk(arrival, **{**made, **columns})


def route(*shares: tuple[str, float], cache: str = "", fallback: str = "") -> Route:
    return Route("faq", "*", tuple(Share(name, (frac,)) for name, frac in shares), cache, fallback)


def pool_schedule(
    held: int = 0, reserved: int = 0, on_demand: int = 0, spot: int = 0, overflow: int = -1
) -> PoolSchedule:
    weekly = ((on_demand,) * 168, (spot,) * 168)
    return PoolSchedule(POOL.id, held, reserved, *weekly, 2.0, 1.5, 0.9, overflow)


def run(
    catalog: Catalog,
    table: Chunk,
    rule: Route,
    deployments: tuple[Deployment, ...],
    pools: tuple[PoolSchedule, ...] = (),
    ratios: Mapping[str, Ratio] | None = None,
    on: date | None = ON,
) -> Replayed:
    situation = Situation(catalog, {d.id: d for d in deployments}, Fleet(pools), 0, on)
    rows = np.arange(len(table))
    return replay(table, [Routed(rule, rows, ratios or {}, frozenset())], situation, ["faq"])


def bill_fusd(catalog: Catalog, api: Api, table: Chunk, rows: np.ndarray, on: date | None) -> int:
    """The bill of rows one by one, in exact fractions of a dollar."""
    total = Fraction(0)
    for i in rows:
        moment = (
            utc(int(table.arrival_ns[i]))
            if on is None
            else datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
        )
        offering = offering_of(catalog.at(moment.date()), api.subject)
        cached = 0 if table.cached_tok is None else int(table.cached_tok[i])
        usage = Usage(int(table.input_tok[i]), cached, 0, int(table.output_tok[i]))
        found = price(catalog, offering, usage, moment, api.tier)
        assert found.status == "priced"
        total += sum(Fraction(line.unit_price) * line.quantity / line.per for line in found.lines)
    assert total * 10**15 == int(total * 10**15)
    return int(total * 10**15)


@pytest.mark.parametrize("on", [None, ON, date(2026, 11, 1)])
@pytest.mark.parametrize("api", [GPT, MINI, msgspec.structs.replace(GPT, id="b", tier="batch")])
def test_one_api_is_its_bill_to_the_last_digit(catalog: Catalog, api: Api, on: date | None) -> None:
    table = chunk()
    if api.tier == "batch":
        table = replace(table, cached_tok=np.zeros(len(table), np.int32))
    found = run(catalog, table, route((api.id, 1.0)), (api,), on=on)
    assert found.unpriced == 0
    assert found.ledger.total_fusd == bill_fusd(catalog, api, table, np.arange(len(table)), on)
    assert set(found.ledger.by("option")) == {("api",)}


def test_prices_at_arrival_follow_every_change_of_price(catalog: Catalog) -> None:
    # Two changes of price in a month, and before the first a cheaper price by night.
    api = Api("deepseek/deepseek-chat", "api/deepseek/deepseek-chat", "deepseek", "deepseek-v3", "hosted")
    start = int(datetime(2025, 9, 2, tzinfo=UTC).timestamp()) * NS_PER_S
    table = chunk(500, days=32, start=start)
    found = run(catalog, table, route((api.id, 1.0)), (api,), on=None)
    assert found.unpriced == 0
    assert found.ledger.total_fusd == bill_fusd(catalog, api, table, np.arange(500), None)
    inputs = {c.unit_price_usd for c in found.ledger if c.meter == "input"}
    assert len(inputs) == 4


def test_a_first_token_waits_outside_the_steps_as_size_says(catalog: Catalog) -> None:
    """The same load on the same replica: a plan's replay and ``isocost size`` see the same times."""
    wait_s, count, rate = 0.037, 400, 2.0
    pool = msgspec.structs.replace(POOL, first_token_ps=round(wait_s * PS_PER_S))
    need = Need(rate, 900, 120, burst_cv=0.0)
    step = Step(
        POOL.base_ps / PS_PER_S, POOL.prefill_ps_per_tok / PS_PER_S, POOL.seq_ps / PS_PER_S,
        POOL.kv_ps_per_tok / PS_PER_S, wait_s, POOL.kv_capacity_tok,
    )  # fmt: skip
    size = carried(need, step, (POOL.prefill_budget_tok, POOL.max_seqs), 1, (9.0, 9.0), n=count)
    assert size is not None
    arrival = (START // NS_PER_H + 1) * NS_PER_H + np.arange(1, count + 1) * int(1e9 / rate)
    same = np.full(count, 900, np.int32), np.full(count, 120, np.int32), np.zeros(count, np.int8)
    table = Chunk(arrival, **dict(zip(("input_tok", "output_tok", "outcome"), same, strict=True)))
    seen = run(catalog, table, route((POOL.id, 1.0)), (pool,), (pool_schedule(on_demand=1),))
    assert seen.percentile(np.arange(count), 95.0)["ttft"] == pytest.approx(size.ttft_p95_s, abs=1e-9)
    assert seen.percentile(np.arange(count), 95.0)["tpot"] == pytest.approx(size.tpot_p95_s, abs=1e-9)
    bare = run(catalog, table, route((POOL.id, 1.0)), (POOL,), (pool_schedule(on_demand=1),))
    np.testing.assert_allclose(seen.e2e_s - bare.e2e_s, wait_s)


def test_shares_come_true_and_each_part_is_billed(catalog: Catalog) -> None:
    table = chunk(2000)
    found = run(catalog, table, route((GPT.id, 0.37), (MINI.id, 0.63)), (GPT, MINI))
    share = np.bincount(found.where, minlength=2) / len(table)
    assert share == pytest.approx([0.37, 0.63], abs=0.005)
    for i, api in enumerate((GPT, MINI)):
        rows = np.flatnonzero(found.where == i)[:150]
        part = table.take(rows)
        again = run(catalog, part, route((api.id, 1.0)), (api,))
        assert again.ledger.total_fusd == bill_fusd(catalog, api, part, np.arange(len(part)), ON)
    whole = found.ledger.by("deployment")
    assert sum(whole.values()) == found.ledger.total_fusd


def test_shares_by_hour_hold_in_their_hours(catalog: Catalog) -> None:
    table = chunk(3000)
    frac = np.zeros(168)
    frac[:84] = 1.0
    rule = Route("faq", "*", (Share(GPT.id, tuple(frac)), Share(MINI.id, tuple(1 - frac))))
    found = run(catalog, table, rule, (GPT, MINI))
    hour = (table.arrival_ns // NS_PER_H + 72) % 168
    assert (found.where == np.where(hour < 84, 0, 1)).all()


def test_cache_hits_cost_nothing_and_take_no_time(catalog: Catalog) -> None:
    table = chunk(400, days=0.5, prompt_key=np.arange(400) % 4, tenant=(np.arange(400) % 3).astype(np.int32))
    found = run(catalog, table, route((GPT.id, 1.0), cache=CACHE.id), (CACHE, GPT))
    hits = found.where == 0
    assert hits.any()
    assert (found.ttft_s[hits] == 0).all()
    assert found.ledger.total_fusd == bill_fusd(catalog, GPT, table, np.flatnonzero(~hits), ON)
    assert {d for (d,) in found.ledger.by("deployment")} == {GPT.id}


def test_without_prompt_keys_nothing_is_known_to_repeat(catalog: Catalog) -> None:
    found = run(catalog, chunk(50), route((GPT.id, 1.0), cache=CACHE.id), (CACHE, GPT))
    assert (found.where == 1).all()


@given(st.integers(0, 10**6), st.integers(0, 3), st.floats(0.0, 30_000.0), st.booleans())
def test_a_hit_repeats_an_earlier_miss_of_its_tenant_in_time(
    seed: int, tenants: int, ttl_s: float, unknown: bool
) -> None:
    rng = np.random.default_rng(seed)
    n = 120
    key = rng.integers(-1, 6, n)
    tenant = rng.integers(-1 if unknown else 0, tenants + 1, n).astype(np.int32)
    table = chunk(n, seed, 2.0, prompt_key=key, tenant=tenant)
    rows = np.flatnonzero(rng.random(n) < 0.8)
    hits = exact_hits(table, rows, ttl_s)
    assert hits is not None
    filled: dict[tuple[int, int], int] = {}
    for i, hit in zip(rows, hits, strict=True):
        mine = (int(key[i]), int(tenant[i]))
        now = int(table.arrival_ns[i])
        fresh = min(mine) >= 0 and mine in filled and now - filled[mine] <= int(ttl_s * NS_PER_S)
        assert bool(hit) == fresh
        if not fresh:
            filled[mine] = now


def test_rent_is_replicas_times_hours_times_price(catalog: Catalog) -> None:
    table = chunk(500, days=3.0)
    schedule = pool_schedule(held=1, reserved=2, on_demand=1, spot=1)
    found = run(catalog, table, route((POOL.id, 1.0)), (POOL,), (schedule,))
    hours = (table.arrival_ns[-1] - table.arrival_ns[0]) / NS_PER_H
    by_kind = found.ledger.usd_by("meter")
    for kind, count, usd_per_h in (("on_demand", 1, 2.0), ("spot", 1, 0.9), ("reserved", 2, 1.5)):
        assert by_kind[kind] == pytest.approx(count * hours * usd_per_h, rel=1e-9)
    assert by_kind["held"] == 0.0
    quantity = sum(charge.quantity for charge in found.ledger)
    assert quantity == pytest.approx(5 * hours, rel=1e-9)
    used = sum(c.quantity for c in found.ledger if c.account == "inference-compute")
    prompt, answer = table.input_tok.astype(np.float64), np.maximum(1.0, table.output_tok.astype(np.float64))
    own = work_s(POOL, prompt, np.zeros_like(prompt), answer).sum() / 3600
    assert used == pytest.approx(own, rel=1e-9)
    assert used <= found.busy_frac[POOL.id] * 5 * hours
    accounts = found.ledger.by("account")
    assert set(accounts) == {("inference-compute",), ("idle-compute",)}
    assert sum(accounts.values()) == found.ledger.total_fusd


def test_replicas_by_hour_are_rented_in_their_hours_only(catalog: Catalog) -> None:
    table = chunk(400, days=14.0)
    counts = np.ones(168, int)
    counts[10:20] = 3
    schedule = msgspec.structs.replace(pool_schedule(), on_demand=tuple(counts.tolist()))
    found = run(catalog, table, route((POOL.id, 1.0)), (POOL,), (schedule,))
    edges = np.arange(table.arrival_ns[0] // NS_PER_H, table.arrival_ns[-1] // NS_PER_H + 1)
    for hour in edges[1:-1]:
        at = utc(int(hour) * NS_PER_H).strftime("%Y-%m-%dT%HZ")
        expected = 2.0 * counts[(hour + 72) % 168]
        assert found.ledger.where(period=at).total_usd == pytest.approx(expected)


def test_every_request_ends_and_littles_law_holds(catalog: Catalog) -> None:
    table = chunk(800, days=1.0)
    found = run(catalog, table, route((POOL.id, 1.0)), (POOL,), (pool_schedule(on_demand=2),))
    assert not np.isnan(found.e2e_s).any()
    assert (found.e2e_s >= found.ttft_s).all()
    assert (found.ttft_s > 0).all()
    # L = lambda W, with L measured by its own count: the integral of how many are in the system.
    arrive = (table.arrival_ns - table.arrival_ns[0]) / NS_PER_S
    leave = arrive + found.e2e_s
    moments = np.concatenate([arrive, leave])
    steps = np.concatenate([np.ones(len(table)), -np.ones(len(table))])
    order = np.argsort(moments, kind="stable")
    inside = np.cumsum(steps[order])[:-1]
    area = float(inside @ np.diff(moments[order]))
    span = float(leave.max())
    assert area / span == pytest.approx(len(table) / span * found.e2e_s.mean(), rel=1e-9)
    assert inside.min() >= 0


def test_what_a_full_pool_turns_away_goes_to_the_fallback_and_is_billed(catalog: Catalog) -> None:
    # All at once: one replica that accepts four at a time cannot take sixty.
    table = chunk(60, days=1e-9)
    table = replace(table, arrival_ns=np.r_[table.arrival_ns[:-1], START + NS_PER_H])
    schedule = pool_schedule(on_demand=1, overflow=4)
    rule = route((POOL.id, 1.0), fallback=GPT.id)
    # The pool's model says everything in twice the tokens; what it turns away is counted as it was asked.
    found = run(catalog, table, rule, (POOL, GPT), (schedule,), {POOL.id: Ratio(2.0, 2.0)})
    away = found.where == 1
    assert found.overflowed == {POOL.id: int(away.sum())}
    assert 0 < away.sum() < len(table)
    billed = found.ledger.where(deployment=GPT.id)
    assert billed.total_fusd == bill_fusd(catalog, GPT, table, np.flatnonzero(away), ON)


def test_what_has_no_fallback_is_counted_and_nowhere(catalog: Catalog) -> None:
    table = replace(chunk(60, days=1e-9))
    table = replace(table, arrival_ns=np.r_[table.arrival_ns[:-1], START + NS_PER_H])
    found = run(catalog, table, route((POOL.id, 1.0)), (POOL,), (pool_schedule(on_demand=1, overflow=4),))
    assert found.overflowed[POOL.id] == (found.where == -1).sum() > 0
    assert np.isnan(found.e2e_s[found.where == -1]).all()


@settings(deadline=None, max_examples=25)
@given(st.floats(0.4, 3.0), st.floats(0.4, 3.0), st.integers(0, 1000))
def test_tokens_of_another_model_are_converted_and_always_priced(
    catalog: Catalog, ratio_in: float, ratio_out: float, seed: int
) -> None:
    table = chunk(60, seed)
    table = replace(table, cache_write_tok=(table.input_tok - table.cached_tok) // 2)
    found = run(catalog, table, route((GPT.id, 1.0)), (GPT,), ratios={GPT.id: Ratio(ratio_in, ratio_out)})
    assert found.unpriced == 0
    tokens: dict[str, float] = {}
    for charge in found.ledger:
        tokens[charge.meter] = tokens.get(charge.meter, 0.0) + charge.quantity
    inputs = tokens.get("input", 0) + tokens.get("cache_read", 0) + tokens.get("cache_write", 0)
    assert inputs == pytest.approx(ratio_in * table.input_tok.sum(), abs=0.5 * len(table))
    assert tokens["output"] == pytest.approx(ratio_out * table.output_tok.sum(), abs=0.5 * len(table))


def test_a_mix_is_deterministic_and_adds_up(catalog: Catalog) -> None:
    table = chunk(900, prompt_key=np.arange(900) % 100)
    rule = route((POOL.id, 0.5), (MINI.id, 0.5), cache=CACHE.id, fallback=GPT.id)
    deployments = (CACHE, POOL, MINI, GPT)
    pools = (pool_schedule(on_demand=1, overflow=2),)
    one, two = (run(catalog, table, rule, deployments, pools) for _ in range(2))
    assert list(one.ledger) == list(two.ledger)
    assert (one.where == two.where).all()
    assert np.array_equal(one.e2e_s, two.e2e_s, equal_nan=True)
    for keys in (("option",), ("deployment", "account"), ("period", "meter")):
        assert sum(one.ledger.by(*keys).values()) == one.ledger.total_fusd
    assert (one.where >= 0).all()


@pytest.mark.parametrize(
    ("rule", "deployments", "pools", "message"),
    [
        (
            route(("openai/gpt-9", 1.0)),
            (GPT,),
            (),
            "it names 'openai/gpt-9'. Deployments are: openai/gpt-4.1",
        ),
        (route((POOL.id, 1.0)), (POOL,), (), "has no replicas"),
        (route((CACHE.id, 1.0)), (CACHE,), (), "takes no share"),
        (route((GPT.id, 1.0), cache=GPT.id), (GPT,), (), "is not a cache"),
        (route((GPT.id, 1.0), fallback=POOL.id), (GPT, POOL), (), "can be full too"),
        (
            route((GPT.id, 1.0)),
            (GPT,),
            (pool_schedule(1),),
            "is not a pool. Pools among the deployments are: none",
        ),
    ],
)
def test_a_route_that_would_serve_for_free_is_refused(
    catalog: Catalog,
    rule: Route,
    deployments: tuple[Deployment, ...],
    pools: tuple[PoolSchedule, ...],
    message: str,
) -> None:
    with pytest.raises(BadLimits, match=message.replace("(", r"\(")):
        run(catalog, chunk(20), rule, deployments, pools)


@pytest.mark.parametrize("kind", ["spot", "reserved"])
def test_replicas_without_a_price_are_refused(catalog: Catalog, kind: str) -> None:
    schedule = msgspec.structs.replace(pool_schedule(on_demand=1, **{kind: 1}), **{f"{kind}_usd_per_h": None})
    with pytest.raises(BadLimits, match=f"{kind}_usd_per_h"):
        run(catalog, chunk(20), route((POOL.id, 1.0)), (POOL,), (schedule,))


def test_a_log_longer_than_the_kernel_counts_is_refused(catalog: Catalog) -> None:
    for days in (60.0, 200.0, 800.0):
        with pytest.raises(BadTrace, match="one piece"):
            run(catalog, chunk(20, days=days), route((POOL.id, 1.0)), (POOL,), (pool_schedule(on_demand=1),))


def test_percentiles_are_unknown_where_any_request_is(catalog: Catalog) -> None:
    table = chunk(100)
    found = run(catalog, table, route((GPT.id, 1.0)), (GPT,))
    assert found.percentile(np.arange(100), 95.0) == {
        "ttft": None,
        "tpot": None,
        "e2e": None,
    }


def test_time_per_token_is_per_token_of_the_model_that_answers(catalog: Catalog) -> None:
    # A model that says the same in ten times the tokens is not ten times as slow at each.
    table = chunk(60, days=2.0)
    table = replace(table, output_tok=np.full(60, 20, np.int32))
    pools = (pool_schedule(on_demand=1),)
    rule = route((POOL.id, 1.0))
    one = run(catalog, table, rule, (POOL,), pools).percentile(np.arange(60), 50.0)
    wordy = run(catalog, table, rule, (POOL,), pools, {POOL.id: Ratio(1.0, 10.0)}).percentile(
        np.arange(60), 50.0
    )
    assert wordy["tpot"] == pytest.approx(one["tpot"], rel=0.05)
    assert wordy["e2e"] is not None
    assert one["e2e"] is not None
    assert wordy["e2e"] > 5 * one["e2e"]
