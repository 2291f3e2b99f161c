"""plan.toml: what is written is read back, what a person mistypes is refused, what is read runs."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.deployment import Api, ExactCache, Pool
from isocost.errors import BadLimits
from isocost.fleet import Fleet, PoolSchedule, Standing
from isocost.plan.asked.limits import Have, Limits, Slo
from isocost.plan.market.prepare import Request
from isocost.plan.run import make_plan
from isocost.plan.written.file import Basis, PlanFile, dumps, loads, read
from isocost.plan.written.rerun import rerun
from isocost.policy.route import Route, RoutePolicy, Share
from isocost.replay.run import Routed, Situation, replay
from isocost.trace.schema import Chunk
from isocost.trace.workload import Spread, from_numbers
from isocost.units import NS_PER_S

BY_HAND = Path(__file__).parent / "cases" / "plan.toml"

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
money = st.floats(0, 1e9, allow_nan=False)
counts, some = st.integers(0, 2**40), st.integers(1, 2**40)
hours = st.lists(st.integers(0, 3), min_size=168, max_size=168).map(tuple)
slos = st.builds(
    Slo,
    st.none() | st.floats(0.01, 9.0),
    st.none() | st.floats(0.01, 9.0),
    st.none() | st.floats(0.01, 9.0),
    st.none() | st.just("6h"),
    st.none() | st.sampled_from(["any", "own"]),
    st.none() | st.lists(words, max_size=2).map(tuple),
    st.none() | st.lists(words, max_size=2).map(tuple),
    st.none() | st.integers(0, 3),
    st.none() | st.integers(0, 3),
    st.none() | st.floats(0, 100),
)


@st.composite
def fractions(draw: st.DrawFn) -> tuple[tuple[float, ...], ...]:
    """Shares of two deployments that sum to one in every hour."""
    first = draw(st.lists(st.floats(0, 1), min_size=1, max_size=5))
    if draw(st.booleans()):
        return (first[0],), (1.0 - first[0],)
    week = tuple(first[i * len(first) // 168] for i in range(168))
    return week, tuple(1.0 - x for x in week)


routes = st.builds(
    lambda workload, model, fracs, cache, fallback, wait, serve: Route(
        workload, model, (Share("a", fracs[0]), Share("b", fracs[1])), cache, fallback, wait, "", serve
    ),
    words,
    words,
    fractions(),
    words,
    words,
    st.none() | money,
    st.sampled_from([(), (0.5,) * 84 + (1.5,) * 84]),
)
deployments = st.one_of(
    st.builds(Api, words, words, words, words, words, st.sampled_from(["standard", "batch"]), st.booleans()),
    st.builds(Pool, *[words] * 5, some, some, *[counts] * 4, *[some] * 3, money, words, words),
    st.builds(ExactCache, words, money),
)
schedules = st.builds(
    PoolSchedule,
    words,
    counts,
    counts,
    hours,
    hours,
    money,
    st.none() | money,
    st.none() | money,
    st.integers(-1, 99),
)
standings = st.builds(Standing, words, words, money, words, money, st.lists(words, max_size=3).map(tuple))


def plans() -> st.SearchStrategy[PlanFile]:
    many = lambda kind: st.lists(kind, max_size=3).map(tuple)  # noqa: E731
    return st.builds(
        PlanFile,
        st.builds(Basis, words, words, st.dates().map(str), words, words, money, money),
        st.builds(
            Limits,
            slos,
            st.dictionaries(words, slos, max_size=2),
            st.none() | st.floats(1, 1e9),
            st.none() | st.floats(0.51, 0.99),
        ),
        many(deployments),
        many(routes),
        st.builds(Fleet, many(schedules), many(standings)),
    )


@settings(deadline=None, max_examples=150)
@given(plans())
def test_a_plan_written_and_read_is_the_same_plan(plan: PlanFile) -> None:
    text = dumps(plan)
    assert loads(text) == plan
    assert dumps(loads(text)) == text
    assert text.startswith("# A plan of isocost")


def test_a_plan_written_by_hand_runs(catalog: Catalog) -> None:
    plan = read(BY_HAND)
    n, rng = 400, np.random.default_rng(0)
    table = Chunk(
        np.sort(rng.integers(0, 3 * 86_400, n)) * NS_PER_S + 4 * 86_400 * NS_PER_S,
        rng.integers(10, 900, n).astype(np.int32),
        rng.integers(1, 200, n).astype(np.int32),
        np.zeros(n, np.int8),
        prompt_key=rng.integers(0, 90, n),
    )
    policy = RoutePolicy(plan.routes)
    rows = {"faq": np.arange(0, n, 2), "reports": np.arange(1, n, 2)}
    routed = [
        Routed(route, mine, {}, frozenset())
        for name, mine in rows.items()
        if (route := policy.route(name, "gpt-4.1")) is not None
    ]
    on = date.fromisoformat(plan.basis.priced_on)
    situation = Situation(catalog, {d.id: d for d in plan.deployments}, plan.fleet, 0, on)
    found = replay(table, routed, situation, list(rows))
    assert (found.where >= 0).all()
    assert (found.where[rows["reports"]] == 0).all()
    assert {d for (d,) in found.ledger.by("deployment")} == {"openai/gpt-4.1", "self/small"}
    assert found.ledger.total_usd > 0
    assert read(BY_HAND).fleet.pools[0].on_demand[:20] == (0,) * 8 + (2,) * 10 + (0,) * 2
    assert loads(dumps(plan)) == plan


def with_change(old: str, new: str) -> str:
    text = BY_HAND.read_text(encoding="utf-8")
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("format = 1", "format = 9", "not a plan of this version"),
        ("format = 1", "", "starts with format = 1"),
        ("format = 1", "format = [", "not TOML"),
        ("fallback =", "fall_back =", "fall_back"),
        ("ttft_p95_s", "ttft_p95", "ttft_p95"),
        ("ttl_s = 3600.0", "ttl = 3600.0", "ttl"),
        ("ttl_s = 3600.0", "ttl_s = 'an hour'", "ttl_s"),
        ("overflow_outstanding", "overflow", "overflow"),
        ("[limits.default]", "[limit.default]", "limit"),
        ("[basis]", "[base]", "basis"),
        ("price_basis = \"\"\n", "", "price_basis"),
        ("[[route.share]]", "[[route.shares]]", "share"),
        ('frac = "24x0.75 144x1"', 'fraction = "24x0.75 144x1"', "frac"),
        ('frac = "24x0.75 144x1"', 'frac = "24x0.75 143x1"', "167 hours"),
        ('frac = "24x0.75 144x1"', 'frac = "24*0.75 144x1"', "COUNTxVALUE"),
        ('frac = "24x0.75 144x1"', 'frac = "24xmost 144x1"', "COUNTxVALUE"),
        ('frac = "24x0.75 144x1"', 'frac = "24x-0.75 144x1"', "0 or more"),
        ('frac = "24x0.75 144x1"', 'frac = "24x0.5 144x1"', "sum to 0.75"),
        ('frac = "24x0.75 144x1"', 'frac = "168xnan"', "0 or more"),
        ('on_demand = "8x0 10x2 150x0"', 'on_demand = "168x1.5"', "COUNTxVALUE"),
        ('on_demand = "8x0 10x2 150x0"', 'on_demand = "-168x1"', "0 hours"),
        ('type = "exact-cache"', 'type = "exactcache"', "exactcache"),
        ("[[pool]]", "[pool]", "list of tables"),
        ("[[deployment]]", "[deployment]", "TOML"),
        ('priced_on = "2026-03-02"', 'priced_on = "March"', "YYYY-MM-DD"),
        ("spare_replicas = 1", "spare_replicas = -1", "spare_replicas"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_and_said(old: str, new: str, says: str) -> None:
    with pytest.raises(BadLimits) as wrong:
        loads(with_change(old, new), "mine.toml")
    assert says in str(wrong.value)
    assert wrong.value.where.startswith(("mine.toml", "[[route]]"))
    assert wrong.value.fix


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(BadLimits, match="Make one: isocost plan LOG"):
        read(tmp_path / "plan.toml")
    with pytest.raises(BadLimits, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadLimits, match="UTF-8"):
        read(tmp_path / "plan.toml")


def test_a_pool_without_reserved_or_spot_prices_is_read_back() -> None:
    plan = read(BY_HAND)
    (pool,) = plan.fleet.pools
    bare = msgspec.structs.replace(pool, reserved_usd_per_h=None, spot_usd_per_h=None)
    plan = msgspec.structs.replace(plan, fleet=Fleet((bare,)))
    assert loads(dumps(plan)).fleet.pools == (bare,)


RENT = ("inference-compute", "idle-compute", "redundancy")


@pytest.mark.parametrize("slo", [Slo(), Slo(place="own", quality_margin_points=30.0), Slo(wait="48h")])
def test_a_plan_adds_up_and_run_again_on_its_own_log_costs_what_it_said(catalog: Catalog, slo: Slo) -> None:
    trace = from_numbers(100_000, 900, 200, spread=Spread(0.5, 0.5), days=14, seed=1)
    request = Request(trace, catalog, date(2026, 11, 22), Limits(default=slo), Have(), now="openai/gpt-4.1")
    made = make_plan(request)
    again = rerun(trace, loads(made.toml), catalog)
    assert (again.replayed.where >= 0).all()
    assert again.replayed.unpriced == 0
    months = again.span_s / (catalog.at(request.on).number("finance/any", "hours_per_month") * 3600)
    for accounts in (("api-tokens",), RENT):
        said, ran = (
            sum(charge.usd for charge in ledger if charge.account in accounts and charge.option != "people")
            for ledger in (made.ledger, again.replayed.ledger)
        )
        assert ran / months == pytest.approx(said, rel=0.005, abs=1e-9)
    result = made.result
    assert made.ledger.total_usd == pytest.approx(result.plan_usd.mid, abs=0.01)
    assert result.bound_usd <= result.plan_usd.mid + 0.01
    assert result.plan_usd.low <= result.plan_usd.mid <= result.plan_usd.high
    assert sum(line.usd_per_month for line in result.lines) == pytest.approx(result.plan_usd.mid, abs=0.05)
    steps = sum(lever.delta_usd for lever in result.levers)
    assert result.today_usd.mid + steps == pytest.approx(result.plan_usd.mid, abs=0.05)
    for option in result.options:
        assert (
            not option.feasible
            or option.option == "today"
            or option.usd_per_month.mid >= result.plan_usd.mid - 0.01
        )
        assert sum(option.by_pillar.values()) == pytest.approx(sum(option.by_account.values()), abs=0.02)
