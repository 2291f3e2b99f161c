"""Levers: shares that sum exactly, whatever the order; and each on real candidates."""

from __future__ import annotations

import io
import itertools
import math
import time
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from isocost.catalog import Catalog
from isocost.plan.asked.limits import Have, Limits
from isocost.plan.levers import LeverPrice, Levers, price_levers
from isocost.plan.levers.shapley import shapley
from isocost.plan.market.prepare import Request
from isocost.plan.recost import API, GPU, Recost
from isocost.plan.run import Outcome, make_plan, totals_of
from isocost.plan.shadow import shadow_prices
from isocost.report.levers import render
from isocost.trace import example


@st.composite
def games(draw: st.DrawFn) -> tuple[list[str], dict[frozenset[str], int]]:
    names = list("abcd"[: draw(st.integers(1, 4))])
    subsets = [frozenset(c) for n in range(len(names) + 1) for c in itertools.combinations(names, n)]
    values = draw(st.lists(st.integers(0, 10**18), min_size=len(subsets), max_size=len(subsets)))
    return names, dict(zip(subsets, values, strict=True))


@settings(max_examples=100, deadline=None)
@given(games())
def test_shares_are_means_over_all_orders_and_sum_exactly(
    game: tuple[list[str], dict[frozenset[str], int]],
) -> None:
    names, value = game
    found, error = shapley(names, lambda on: value[on])
    assert error == 0.0
    assert sum(found.values()) == value[frozenset()] - value[frozenset(names)]
    for name in names:
        total = Fraction(0)
        for order in itertools.permutations(names):
            before = frozenset(order[: order.index(name)])
            total += value[before] - value[before | {name}]
        assert abs(found[name] - total / math.factorial(len(names))) < 1


def test_many_levers_are_sampled_and_still_sum_exactly() -> None:
    names = [f"l{i:02d}" for i in range(12)]

    def cost(on: frozenset[str]) -> int:
        return 10**18 - sum(10**15 * (i + 1) for i, name in enumerate(names) if name in on)

    found, error = shapley(names, cost)
    assert sum(found.values()) == 78 * 10**15
    assert error == pytest.approx(0.0, abs=1e-9)
    assert found["l11"] == 12 * 10**15


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    trace = example("anthropic/claude-opus-4-6")
    return make_plan(Request(trace, Catalog.load(), date(2026, 11, 23), Limits(), Have()))


@pytest.fixture(scope="module")
def found(outcome: Outcome) -> Levers:
    return price_levers(outcome.built, outcome.stays, totals_of(outcome))


def test_the_waterfall_reaches_the_plan_to_the_femto_dollar(outcome: Outcome) -> None:
    totals = totals_of(outcome)
    moved = sum(lever.delta_fusd for lever in outcome.result.levers)
    assert totals.today.total_fusd + moved == outcome.ledger.total_fusd


def test_every_lever_is_priced_or_says_why_not(found: Levers) -> None:
    for one in found.levers:
        assert one.applies or one.why_not
        assert one.alone_usd >= 0.0
        assert one.last_usd >= 0.0
        assert one.share_usd >= 0.0
    ids = {lever for one in found.levers for lever in one.id.split()}
    ids |= {lever for step in found.what_ifs for lever in step.id.split()}
    assert ids == {f"L{i}" for i in range(1, 23)}
    assert sum(one.share_usd for one in found.levers) == pytest.approx(found.together_usd, abs=1e-6)


def test_a_lever_on_its_own_saves_no_more_than_all(found: Levers) -> None:
    for one in found.levers:
        assert one.alone_usd <= found.together_usd + 1e-6
        assert one.last_usd <= found.together_usd + 1e-6


def test_a_looser_limit_never_costs(outcome: Outcome) -> None:
    for price in shadow_prices(outcome.built):
        assert price.usd_per_month >= 0.0
        assert price.text


def test_a_slider_is_answered_at_once_and_exactly(outcome: Outcome) -> None:
    again = Recost(outcome.ledger)
    assert again.usd({}) == pytest.approx(outcome.ledger.total_usd, rel=1e-12)
    bought = sum(charge.usd for charge in outcome.ledger if API in charge.price_fact)
    assert bought > outcome.ledger.where(account="api-tokens").total_usd > 0.0, (
        "a judge's tokens are bought too"
    )
    assert again.usd({API: 2.0}) == pytest.approx(outcome.ledger.total_usd + bought, rel=1e-9)
    start = time.process_time()
    for _ in range(10):
        again.usd({API: 1.1, GPU: 0.9})
    assert (time.process_time() - start) / 10 < 0.05


def test_a_saving_that_is_people_and_not_answers_is_told() -> None:
    """Fewer providers to run may outweigh dearer answers: both parts are said, and sum to the whole."""
    lever = LeverPrice("L1", "swap", "another model", True, 299.0, 299.0, 299.0, True, "")
    found = Levers("a log", 3900.0, 3900.0, 3601.0, 299.0, 0.0, [lever], [], standing_usd=332.0)
    shown = io.StringIO()
    Console(file=shown, width=100).print(render(found, 100))
    told = " ".join(shown.getvalue().split())
    assert "$33.00 a month more for answers and $332 a month less for people, tools and duties" in told
    assert "no full price" not in told
    shown = io.StringIO()
    Console(file=shown, width=100).print(render(replace(found, unpriced=2), 100))
    assert "2 rows have no full price and count nothing in today's dollars" in " ".join(
        shown.getvalue().split()
    )
