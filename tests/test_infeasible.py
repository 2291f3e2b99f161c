"""Limits that cannot hold together: the conflict is one, it is the smallest, and each way out is a way."""

from __future__ import annotations

import itertools
import re
import time
from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.errors import Infeasible
from isocost.plan.asked.limits import Have, Limits, Slo
from isocost.plan.make.build import build, kg_of
from isocost.plan.make.singles import pool_singles
from isocost.plan.market.prepare import Prepared, Request, prepare
from isocost.plan.tell import infeasible
from isocost.plan.tell.infeasible import RELAXABLE, Choice, explain, limits_on, typed
from isocost.trace.schema import Trace
from isocost.trace.workload import Spread, from_numbers

ON = date(2026, 11, 22)
CLOSED, OPEN = "openai/gpt-4.1", "groq/llama-3.3-70b-versatile"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return from_numbers(60_000, 700, 150, spread=Spread(0.4, 0.4), days=8, seed=3)


def prepared_of(catalog: Catalog, trace: Trace, slo: Slo, now: str = CLOSED, **whole: float) -> Prepared:
    limits = Limits(workload={"workload": slo}, **whole)  # type: ignore[arg-type]
    return prepare(Request(trace, catalog, ON, limits, Have(), now=now))


def stuck(prepared: Prepared) -> Infeasible:
    with pytest.raises(Infeasible) as error:
        build(prepared)
    return explain(prepared, error.value)


def relaxed(slo: Slo, text: str) -> Slo:
    """Limits after a way out, as a person would type it."""
    for name, value in re.findall(r"(\w+) of (?:at least )?([\d.e+-]+) instead", text):
        slo = msgspec.structs.replace(slo, **{name: float(value)})
    if 'place = "any"' in text:
        slo = msgspec.structs.replace(slo, place=None)
    if "not known to answer from" in text:
        slo = msgspec.structs.replace(slo, regions=None)
    if named := re.search(r"allow (\S+)$", text):
        kept = tuple(p for p in slo.not_providers or () if p != named.group(1))
        slo = msgspec.structs.replace(slo, not_providers=kept)
    return slo


CASES = [
    (Slo(place="own"), CLOSED, {"place", "quality_margin_points"}),
    (Slo(place="own", ttft_p95_s=0.02), OPEN, {"place", "ttft_p95_s"}),
    (Slo(place="own", tpot_p95_s=1e-4, quality_margin_points=30.0), OPEN, {"place", "tpot_p95_s"}),
    (Slo(regions=("atlantis",), place="own"), CLOSED, {"place", "quality_margin_points"}),
    (Slo(regions=("atlantis",), not_providers=("openai",)), CLOSED, {"regions", "quality_margin_points"}),
]


@pytest.mark.parametrize(("slo", "now", "names"), CASES)
def test_the_conflict_and_every_way_out(
    catalog: Catalog, trace: Trace, slo: Slo, now: str, names: set[str]
) -> None:
    prepared = prepared_of(catalog, trace, slo, now)
    found = stuck(prepared)
    assert {re.sub(r"^slo.toml \[.*?\] ", "", c).split(" = ")[0] for c in found.conflict} == names
    assert found.ways_out
    for text, price in found.ways_out:
        assert re.search(r"^\$[\d.]+[kM]? a month", price)
        after = prepared_of(catalog, trace, relaxed(slo, text), now)
        if " own" in price or "people included" in price:
            continue
        assert after.cases[0].best is not None, text


def test_a_margin_named_for_own_replicas_is_enough(catalog: Catalog, trace: Trace) -> None:
    slo = Slo(place="own")
    ways = dict(stuck(prepared_of(catalog, trace, slo)).ways_out)
    (text,) = (way for way in ways if "quality_margin_points" in way)
    assert build(prepared_of(catalog, trace, relaxed(slo, text))).usd_per_month > 0
    points = relaxed(slo, text).quality_margin_points
    assert points is not None
    with pytest.raises(Infeasible):
        build(prepared_of(catalog, trace, msgspec.structs.replace(slo, quality_margin_points=points - 1)))


def test_limits_are_named_as_they_were_typed(catalog: Catalog, trace: Trace) -> None:
    limits = Limits(
        default=Slo(regions=("eu", "us"), quality_margin_points=1.5),
        workload={"workload": Slo(ttft_p95_s=0.05, place="own")},
    )
    prepared = prepare(Request(trace, catalog, ON, limits, Have(), now=CLOSED))
    (case,) = prepared.cases
    assert limits_on(case) == ("place", "regions", "ttft_p95_s", "tpot_p95_s", "quality_margin_points")
    says = {name: typed(prepared, case, name) for name in limits_on(case)}
    assert says["ttft_p95_s"] == "slo.toml [workload.workload] ttft_p95_s = 0.05"
    assert says["place"] == 'slo.toml [workload.workload] place = "own"'
    assert says["regions"] == 'slo.toml [default] regions = ["eu", "us"]'
    assert says["quality_margin_points"] == "slo.toml [default] quality_margin_points = 1.5"
    assert says["tpot_p95_s"].endswith(", the default")


def test_a_way_out_of_the_budget_costs_less_than_now(catalog: Catalog, trace: Trace) -> None:
    prepared = prepared_of(catalog, trace, Slo(), budget_usd_per_month=50.0)
    over = Infeasible("the least-cost plan is $900 a month, over $50")
    found = explain(prepared, over, 900.0)
    assert found.what == over.what
    assert found.conflict[0] == "slo.toml budget_usd_per_month = 50"
    assert found.ways_out[0] == (
        "budget_usd_per_month of 900 instead of 50",
        "$900 a month, what the least-cost plan costs",
    )
    (case,) = prepared.cases
    assert case.best is not None
    for text, price in found.ways_out[1:]:
        after = prepared_of(catalog, trace, relaxed(Slo(), text))
        best = after.cases[0].best
        assert best is not None
        assert best.usd_per_month(after.weight_h) < case.best.usd_per_month(prepared.weight_h)
        saved = case.best.usd_per_month(prepared.weight_h) - best.usd_per_month(after.weight_h)
        assert "less than now" in price
        assert ("still over" in price) == (900.0 - saved > 50.0)


def test_needs_of_the_traffic_are_not_relaxed(
    catalog: Catalog, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing that is sold takes such requests, whatever the limits.
    monkeypatch.setattr(infeasible, "_choices", lambda *_: [])
    found = stuck(prepared_of(catalog, trace, Slo(place="own")))
    assert found.ways_out == ()
    (conflict,) = found.conflict
    assert conflict.endswith("tokens of context")
    assert "isocost catalog list" in found.fix


def test_other_errors_come_back_as_they_are(catalog: Catalog, trace: Trace) -> None:
    error = Infeasible("something else")
    assert explain(prepared_of(catalog, trace, Slo()), error) is error


def test_it_is_quick(catalog: Catalog, trace: Trace) -> None:
    prepared = prepared_of(catalog, trace, Slo(place="own", ttft_p95_s=0.02))
    start = time.process_time()
    stuck(prepared)
    assert time.process_time() - start < 10.0


choices = st.lists(st.sets(st.sampled_from(RELAXABLE), min_size=1).map(frozenset), min_size=1, max_size=8)


@given(choices)
def test_the_conflict_is_the_smallest(against: list[frozenset[str]]) -> None:
    found = infeasible._hitting(against, RELAXABLE)
    assert all(each & set(found) for each in against)
    smaller = itertools.combinations(RELAXABLE, len(found) - 1)
    assert not any(all(each & set(names) for each in against) for names in smaller)


@given(choices, st.data())
def test_ways_are_the_cheapest_of_the_least_limits(
    against: list[frozenset[str]], data: st.DataObject
) -> None:
    made = [
        Choice(f"c{i}", data.draw(st.floats(1, 9)), each, 0.0, 1.0, 1.0, "p")
        for i, each in enumerate(against)
    ]
    found = infeasible._pruned(made)
    for one in found:
        assert not any(each < one.against for each in against)
        assert one.usd_per_month == min(c.usd_per_month for c in made if c.against == one.against)
    for each in against:
        assert any(one.against <= each for one in found)
    assert [len(one.against) for one in found] == sorted(len(one.against) for one in found)


@pytest.mark.parametrize(
    ("value", "up"), [(0.0431, 0.044), (0.2, 0.2), (3883.9, 3900.0), (0.0999, 0.1), (7.0, 7.0)]
)
def test_a_value_is_rounded_up_so_that_it_holds(value: float, up: float) -> None:
    assert infeasible._up(value) == pytest.approx(up)
    assert infeasible._up(value) >= value - 1e-12


def test_a_limit_on_carbon_says_what_it_conflicts_with_and_what_each_way_out_costs(
    catalog: Catalog, trace: Trace
) -> None:
    slo = Slo(place="own", quality_margin_points=5.0)
    error = stuck(prepared_of(catalog, trace, slo, OPEN, carbon_kg_per_month=100.0))
    assert error.conflict[0] == "slo.toml carbon_kg_per_month = 100"
    assert error.conflict[1:] == ('slo.toml [workload.workload] place = "own"',)
    (first, price), *others = error.ways_out
    assert re.fullmatch(r"carbon_kg_per_month of [\d.e+]+ instead of 100", first)
    assert "$" in price
    needed = float(first.split()[2])
    free = build(prepared_of(catalog, trace, slo, OPEN, carbon_kg_per_month=needed))
    assert kg_of(free.prepared, free.draft) <= needed
    assert any('place = "any"' in way for way, _ in others)


def test_no_single_deployment_slips_past_a_limit_on_carbon(catalog: Catalog, trace: Trace) -> None:
    """Replicas that emit more than is allowed are no rival of the plan, however little they cost."""
    slo = Slo(quality_margin_points=5.0)
    free = pool_singles(build(prepared_of(catalog, trace, slo, OPEN)), "selfhost")[0]
    assert free.feasible
    assert free.draft is not None
    built = build(prepared_of(catalog, trace, slo, OPEN, carbon_kg_per_month=100.0))
    assert kg_of(built.prepared, free.draft) > 100.0
    assert kg_of(built.prepared, built.draft) <= 100.0
    now = next(single for single in pool_singles(built, "selfhost") if single.id == free.id)
    assert "kg of CO2e" in now.why_not
