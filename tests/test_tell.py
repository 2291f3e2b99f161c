"""What a plan is told by: frontiers, odds, break-even and payback, against sums made another way."""

from __future__ import annotations

import itertools
import math
import time
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost import risk
from isocost.catalog import Catalog
from isocost.plan import run
from isocost.plan.asked.limits import Have, Limits
from isocost.plan.market.prepare import Request
from isocost.plan.result import FrontierPoint
from isocost.plan.run import Outcome, make_plan
from isocost.plan.tell import frontier, odds, story
from isocost.report.frontier import render
from isocost.trace.workload import example

ON = date(2026, 11, 22)
NOW = "anthropic/claude-opus-4-6"
MONTHS = 24


@pytest.fixture(scope="module")
def outcome(catalog: Catalog) -> Outcome:
    return make_plan(Request(example(NOW), catalog, ON, Limits(), Have(), ""))


@pytest.fixture(scope="module")
def points(outcome: Outcome) -> dict[str, FrontierPoint]:
    return {p.id: p for p in outcome.result.frontier}


# ---- frontiers


def test_today_and_the_plan_are_points(outcome: Outcome, points: dict[str, FrontierPoint]) -> None:
    assert points["today"].usd_per_month == pytest.approx(outcome.result.today_usd.mid)
    assert points["plan"].usd_per_month == pytest.approx(outcome.result.plan_usd.mid)
    table = outcome.built.prepared.table
    waited = [c.stream.rows for c in outcome.built.planned if c.ask.wait_s is None]
    assert table.ttft_s is not None
    ttft = table.ttft_s[np.concatenate(waited)]
    assert points["today"].ttft_p95_s == pytest.approx(np.percentile(ttft[~np.isnan(ttft)], 95))


def test_nothing_on_a_frontier_is_beaten(points: dict[str, FrontierPoint]) -> None:
    """A point without a mark is not beaten; one with a mark is, and a proven one by a proven one."""

    def good(p: FrontierPoint) -> float:
        return -math.inf if p.quality_diff_points is None else p.quality_diff_points

    for p in points.values():
        beaten = [
            o
            for o in points.values()
            if o is not p
            and (o.proven or not p.proven)
            and o.usd_per_month <= p.usd_per_month
            and good(o) >= good(p) > -math.inf
            and (o.usd_per_month, good(o)) != (p.usd_per_month, good(p))
        ]
        if beaten:
            assert p.dominated, p.id
        if p.quality_diff_points is not None and p.dominated:
            assert beaten or p.usd_per_month > 0


def test_an_unproven_point_never_makes_a_proven_one_hollow(points: dict[str, FrontierPoint]) -> None:
    cheaper = [p for p in points.values() if not p.proven and p.usd_per_month < points["plan"].usd_per_month]
    assert cheaper, "the example has cheaper models that nobody has proven"
    assert not points["plan"].dominated
    assert points["today"].dominated, "the plan costs less with the same models"


def test_a_latency_that_was_not_seen_here_is_marked(points: dict[str, FrontierPoint]) -> None:
    for p in points.values():
        if p.option in ("api", "hosted") and p.ttft_p95_s is not None:
            assert p.ttft_bound == ("log" not in p.ttft_evidence)
        if p.option == "selfhost" and p.ttft_p95_s is not None:
            assert p.ttft_evidence == "replayed, busiest day"
        if p.ttft_p95_s is None:
            assert p.ttft_bound or p.option in ("today", "mix")


def test_frontiers_take_less_than_five_seconds(outcome: Outcome) -> None:
    totals = run.totals_of(outcome)
    start = time.process_time()
    frontier.frontier(outcome.built, totals)
    assert time.process_time() - start < 5.0


def test_a_pool_too_large_to_replay_is_said(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "CELLS_MOST", -1)
    kept = {option.id for option in outcome.result.options}
    found = frontier.frontier(outcome.built, run.totals_of(outcome), kept)
    own = [p for p in found if p.option == "selfhost"]
    assert own
    assert all(p.ttft_p95_s is None and "too many" in p.ttft_evidence for p in own)


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_them_within_its_width(outcome: Outcome, width: int) -> None:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=width, no_color=True).print(render(outcome.result, width))
    lines = out.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert any(line.strip().startswith("the plan") for line in lines)
    assert "? " in out.getvalue()


# ---- odds


def test_odds_are_of_common_scenarios(outcome: Outcome) -> None:
    sure = outcome.result.sure
    assert sure is not None
    assert sure.scenarios == risk.SCENARIOS
    allowed = [o for o in sure.odds if o.allowed]
    assert sum(o.cheapest_frac for o in allowed) == pytest.approx(1.0)
    plan = next(o for o in allowed if o.option == "mix")
    today = next(o for o in allowed if o.option == "today")
    # The bands overlap, and yet the plan is cheaper nearly always: what moves one moves the other.
    assert plan.usd_per_month.high > today.usd_per_month.low
    assert sure.plan_cheaper_frac > 0.95
    least = min(o.regret_usd for o in allowed)
    assert sure.evpi_usd == pytest.approx(least, rel=1e-6)
    assert all(0 <= w.usd <= sure.evpi_usd + 1e-9 for w in sure.worths)


def test_the_map_is_of_shares_that_sum_to_one(outcome: Outcome) -> None:
    found = outcome.result.sure.map if outcome.result.sure else None
    assert found is not None
    frac, allowed = np.array(found.frac), np.array(found.allowed_frac)
    np.testing.assert_allclose(frac.sum(axis=0), 1.0)
    np.testing.assert_allclose(allowed.sum(axis=0), 1.0)
    assert (allowed[~np.array(found.allowed)] == 0).all()


def test_at_todays_volume_the_map_rests_on_the_same_ledgers(outcome: Outcome) -> None:
    """A way's month at one time today's volume is its ledger, less what is paid once."""
    built, totals = outcome.built, run.totals_of(outcome)
    chosen = run.singles(built)
    middle = odds.VOLUMES.index(1.0)
    for way in odds.contenders(built, chosen, outcome.stays, totals):
        groups = odds.groups_by_volume(built, way)[middle]
        assert groups is not None
        once = sum(c.usd for c in way.ledger if c.meter.endswith(odds.SPREAD))
        if way.option == "today":
            continue  # today's bill is of its rows at their own dates
        assert sum(groups.values()) == pytest.approx(way.ledger.total_usd - once, rel=1e-6), way.label


def test_tokens_go_in_proportion_and_people_do_not(outcome: Outcome) -> None:
    built, totals = outcome.built, run.totals_of(outcome)
    way = odds.contenders(built, run.singles(built), outcome.stays, totals)[0]
    found = [sum(groups.values()) for groups in odds.groups_by_volume(built, way) if groups is not None]
    assert found == sorted(found)
    ratio = [b / a for a, b in itertools.pairwise(found)]
    assert ratio[0] < 1.5, "at the least volume people cost most"
    assert 1.8 < ratio[-1] <= 2.0, "at the largest, tokens"


def test_what_feeds_the_scenarios(outcome: Outcome) -> None:
    """Catalog intervals, physics, token ratios, volume and rents all move some way's cost."""
    built = outcome.built
    ledgers = [s.ledger for s in run.singles(built).values() if s.ledger is not None]
    drivers = story.drivers_of(built, [built.ledger, *ledgers])
    heads = {name.split("/")[0] for name in drivers}
    assert {"staff", "planning", "perf", "rental", "ratio"} <= heads
    for ledger in ledgers:
        moved = {s.name.split("/")[0] for s in risk.swings(ledger, drivers) if s.width_usd > 0}
        assert "staff" in moved
    own = next(s for s in run.singles(built).values() if s.option == "selfhost" and s.ledger is not None)
    assert own.ledger is not None
    moved = {s.name.split("/")[0] for s in risk.swings(own.ledger, drivers) if s.width_usd > 0}
    assert {"perf", "rental", "staff", "ratio"} <= moved
    families = {driver.family for driver in drivers.values()}
    assert {"people", "rents", "speeds"} <= families
    pay = [d for name, d in drivers.items() if "usd_per_year" in name]
    assert pay
    assert all(d.family != "people" for d in pay), "pay is no amount of work"


# ---- payback


def groups(usd: float, name: str = "f") -> dict[tuple[str, ...], float]:
    return {(name,): usd}


@settings(deadline=None, max_examples=40)
@given(st.floats(1.0, 500.0), st.floats(0.0, 5000.0))
def test_payback_without_uncertainty_is_launch_over_saving(saves: float, launch: float) -> None:
    found = risk.payback(groups(1000.0), groups(1000.0 - saves), groups(launch), {}, {}, MONTHS, 0.0)
    months = launch / saves
    if months <= MONTHS * 0.999:
        assert found == pytest.approx(months, rel=1e-6, abs=1e-6)
    elif months > MONTHS * 1.001:
        assert np.isinf(found).all()


def test_what_never_saves_is_never_paid_back() -> None:
    found = risk.payback(groups(100.0), groups(100.0), groups(10.0), {}, {}, MONTHS, 0.05)
    assert np.isinf(found).all()
    assert np.isinf(risk.payback(groups(100.0), groups(101.0), {}, {}, {}, MONTHS, 0.05)).all()
    assert (risk.payback(groups(100.0), groups(99.0), {}, {}, {}, MONTHS, 0.05) == 0).all()


def test_falling_prices_put_a_payback_off() -> None:
    path = np.tile(0.9 ** np.arange(MONTHS + 1.0), (risk.SCENARIOS_OF_A_CELL, 1))
    falls = {"api": path}
    one, two = {("api/x",): 100.0}, {("rental/y",): 50.0}
    steady = risk.payback(one, two, groups(100.0), {}, {}, MONTHS, 0.0)
    later = risk.payback(one, two, groups(100.0), {}, falls, MONTHS, 0.0)
    assert steady == pytest.approx(2.0)
    assert (later > steady).all()


def test_a_launch_weighs_more_the_shorter_one_looks() -> None:
    by = {1.0: {"stay": groups(100.0, "a"), "move": groups(60.0, "b")}}
    found = risk.surface(by, {}, {}, [1, 12], 0.0, {"move": groups(100.0, "b")})
    stay, move = (found.options.index(name) for name in ("stay", "move"))
    assert found.cheapest_frac[stay][0][0] == 1.0
    assert found.cheapest_frac[move][0][1] == 1.0
    assert found.cost_usd[move][0] == [160.0, 820.0]
