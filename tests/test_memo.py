"""The memo without a log: what it says holds together, its page, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.catalog import Catalog
from isocost.errors import BadInput, BadLimits, UnknownModel
from isocost.plan.asked.limits import Limits, Slo
from isocost.plan.memo import Memo, MemoAsk, memo
from isocost.report.memo import markdown, text
from isocost.trace.workload import within

ON = date(2026, 11, 22)
CASE = Path(__file__).parent / "cases" / "memo.json"
OWN = ("selfhost", "slm", "mix")


@pytest.fixture(scope="module")
def ask(catalog: Catalog) -> MemoAsk:
    return MemoAsk((250e3, 4e6), 1500, 500, catalog, ON)


@pytest.fixture(scope="module")
def found(ask: MemoAsk) -> Memo:
    return memo(ask)


@pytest.fixture(scope="module")
def stays(ask: MemoAsk) -> Memo:
    return memo(replace(ask, requests_per_month=(1e6, 1e6), now="openai/gpt-4o-mini"))


@pytest.fixture(scope="module")
def saved() -> Memo:
    """A memo as it once came out, so that its page does not change with prices."""
    return msgspec.json.decode(CASE.read_bytes(), type=Memo)


def test_page_in_markdown(saved: Memo, golden: Golden) -> None:
    golden.check("memo.md.txt", markdown(saved))


def test_page_in_the_terminal(saved: Memo, golden: Golden) -> None:
    golden.check("memo.txt", text(saved, 100))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_keeps_to_its_width(saved: Memo, width: int) -> None:
    tables = ("  requests", "  chosen")
    lines = text(saved, width).splitlines()
    prose = [line for line in lines if line.startswith("  - ") or "Least cost" in line]
    assert any(line.startswith(tables) for line in lines)
    assert all(len(line) <= width for line in prose)


def test_page_is_one_page(found: Memo) -> None:
    assert len(markdown(found).splitlines()) <= 75
    assert len(text(found, 100).splitlines()) <= 85


def test_every_default_is_on_the_page_with_its_source(found: Memo, catalog: Catalog) -> None:
    page = markdown(found)
    assert {"planning/memo", "slo/chat", "slo/redundancy", "slo/quality", "shape/office"} <= {
        fact.subject for fact in found.assumed
    }
    for fact in found.assumed:
        assert fact.id.split("@")[0] in page
        assert f"[{fact.source}]" in page
        assert fact.source in catalog.sources


def test_verdict_is_the_cheapest_that_is_allowed(found: Memo) -> None:
    for i, verdict in enumerate(found.verdicts):
        cells = {row.option: row.cells[i] for row in found.options}
        allowed = {o: c.usd_per_month.mid for o, c in cells.items() if c is not None and c.feasible}
        assert verdict.usd_per_month.mid == min(allowed.values())
        assert allowed[verdict.option] == verdict.usd_per_month.mid
        if verdict.runner_up:
            assert verdict.runner_up_usd == min(v for o, v in allowed.items() if o != verdict.option)
            assert verdict.sure_frac is not None
            assert 0 <= verdict.sure_frac <= 1


def test_volumes_are_even_factors_from_low_to_high(found: Memo) -> None:
    assert found.volumes[0] == pytest.approx(250e3)
    assert found.volumes[-1] == pytest.approx(4e6)
    factors = np.diff(np.log(found.volumes))
    assert np.allclose(factors, factors[0])


def test_pillars_and_accounts_sum_to_the_cost(found: Memo) -> None:
    middle = len(found.volumes) // 2
    for row in found.options:
        cell = row.cells[middle]
        if cell is not None:
            assert sum(row.by_pillar.values()) == pytest.approx(cell.usd_per_month.mid, abs=0.01)
            assert sum(row.by_account.values()) == pytest.approx(cell.usd_per_month.mid, abs=0.01)


def test_every_option_costs_more_with_more_traffic(found: Memo) -> None:
    for row in found.options:
        usd = [cell.usd_per_month.mid for cell in row.cells if cell is not None]
        assert usd == sorted(usd)


def test_bands_hold_their_middle(found: Memo) -> None:
    for row in found.options:
        for cell in row.cells:
            if cell is not None:
                assert cell.usd_per_month.low <= cell.usd_per_month.mid <= cell.usd_per_month.high


def test_regret_is_never_negative_and_nil_for_the_best(found: Memo) -> None:
    middle = len(found.volumes) // 2
    for regret in found.regrets:
        assert all(usd is None or usd >= 0 for usd in regret.usd_per_month)
    best = {regret.option: regret for regret in found.regrets}[found.verdicts[middle].option]
    assert best.usd_per_month[1] == 0
    assert best.days_to_switch[1] == 0


def test_tokens_cost_what_the_price_list_says(stays: Memo, catalog: Catalog) -> None:
    at, subject = catalog.at(ON), "api/openai/gpt-4o-mini"
    per_request = 1500 * at.number(subject, "input_usd_per_mtok") + 500 * at.number(
        subject, "output_usd_per_mtok"
    )
    today = next(row for row in stays.options if row.option == "today")
    assert today.by_account["api-tokens"] == pytest.approx(per_request * 1e6 / 1e6, rel=2e-3)


def test_what_serves_today_is_not_launched_again(stays: Memo, found: Memo) -> None:
    today = next(row for row in stays.options if row.option == "today")
    assert "acquisition" not in today.by_account
    for row in found.options:
        if any(cell is not None for cell in row.cells):
            assert row.by_account["acquisition"] > 0


def test_one_volume_becomes_a_range_around_it(stays: Memo, catalog: Catalog) -> None:
    ratio = catalog.at(ON).number("planning/memo", "range_ratio")
    middle = stays.volumes[len(stays.volumes) // 2]
    assert middle == pytest.approx(1e6)
    assert stays.volumes[-1] / middle == pytest.approx(ratio)


def test_price_at_which_both_tie_makes_them_tie(found: Memo) -> None:
    wire = next(wire for wire in found.tripwires if wire.name == "api price")
    assert wire.now is not None
    last = {row.option: row.cells[-1] for row in found.options}
    usd = {o: c.usd_per_month.mid for o, c in last.items() if c is not None and c.feasible}
    api = min(usd[o] for o in ("api", "hosted") if o in usd)
    own = min(usd[o] for o in OWN if o in usd)
    mtok = found.volumes[-1] * (found.input_tok + found.output_tok) / 1e6
    assert api + (wire.at - wire.now) * mtok == pytest.approx(own, rel=2e-3)


def test_crossings_lie_between_the_volumes_whose_verdicts_differ(found: Memo) -> None:
    for left, right in zip(found.verdicts, found.verdicts[1:], strict=False):
        between = [
            c
            for c in found.crossings
            if left.requests_per_month < c.requests_per_month <= right.requests_per_month
        ]
        if left.option != right.option:
            assert between
            assert between[0].before == left.option
            assert between[-1].after == right.option
        else:
            assert len(between) != 1


def test_scaling_agrees_with_planning_there(found: Memo, ask: MemoAsk) -> None:
    """Sizes from one capacity table come near those of a plan whose traffic is generated at that volume."""
    there = memo(replace(ask, requests_per_month=(250e3, 250e3)))
    middle = len(there.volumes) // 2
    scaled = {row.option: row.cells[0] for row in found.options}
    for row in there.options:
        cell, other = row.cells[middle], scaled[row.option]
        if cell is not None and other is not None and cell.feasible and other.feasible:
            assert other.usd_per_month.mid == pytest.approx(cell.usd_per_month.mid, rel=0.05)


def test_own_place_leaves_only_own_replicas_and_is_deterministic(ask: MemoAsk) -> None:
    own = replace(ask, limits=Limits(default=Slo(place="own"), budget_usd_per_month=100.0))
    one, two = memo(own), memo(own)
    assert "Over the budget of $100 at every volume." in one.headline
    assert {verdict.option for verdict in one.verdicts} <= set(OWN)
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
    absent = [row for row in one.options if row.option in ("api", "hosted")]
    assert all(row.why_not == "tokens must stay on replicas of one's own" for row in absent)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"requests_per_month": (5e6, 2e5)}, BadInput, "--requests: the range runs backwards"),
        ({"requests_per_month": (0.0, 2e5)}, BadInput, "--requests: 0 to 200000"),
        ({"requests_per_month": (float("nan"), 2e5)}, BadInput, "--requests: nan"),
        ({"input_tok": 0}, BadInput, "--in: 0 tokens a request"),
        ({"output_tok": -5}, BadInput, "--out: -5 tokens a request"),
        ({"output_tok": float("inf")}, BadInput, "--out: inf tokens a request"),
        ({"input_tok": 3e6}, BadInput, "--in: 3,000,500 tokens a request are over the context"),
        ({"now": "openai/gpt-99-imaginary"}, UnknownModel, "gpt-99-imaginary"),
        ({"shape": "siesta"}, BadLimits, "--shape: no shape 'siesta'"),
    ],
)
def test_bad_input_is_one_line(
    ask: MemoAsk, change: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as raised:
        memo(replace(ask, **change))  # type: ignore[arg-type]
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(2, 5000), st.floats(0.05, 1.6), st.floats(3, 30))
def test_lengths_keep_their_mean_under_the_cap(seed: int, mean: float, sigma: float, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    drawn = np.maximum(1, np.rint(mean * np.exp(sigma * rng.standard_normal(4000) - sigma**2 / 2)))
    kept = within(drawn.astype(np.int32), mean, ratio)
    assert kept.min() >= 1
    assert kept.max() <= max(1, np.floor(ratio * mean))
    assert kept.mean() == pytest.approx(mean, abs=max(0.05, 0.01 * mean))
