"""Margins by customer, feature and price plan, and the price of a margin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.cli import main
from isocost.errors import BadInput
from isocost.value.ask import Own, PricePlan, read
from isocost.value.customers import Customers
from isocost.value.pricing import (
    charge_usd,
    chosen,
    cost_usd,
    features,
    lines,
    payback,
    price_for_margin,
    revenue_usd,
    served_frac,
)

EXAMPLES = Path(__file__).parents[1] / "examples"


def made(requests: list[float], usd: list[float]) -> Customers:
    """Customers with two features each, a third of their requests in the first."""
    r, c = np.array(requests), np.array(usd)
    split = np.array([1 / 3, 2 / 3])
    return Customers(
        tuple(f"c{i}" for i in range(len(r))), ("a", "b"), r, r * 1000.0, r * 100.0, c,
        c[:, None] * split, r[:, None] * split, False,
    )  # fmt: skip


people = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e4)), min_size=1, max_size=30)
prices = st.builds(
    PricePlan,
    name=st.just("p"),
    usd_per_month=st.floats(0.1, 500),
    included_requests=st.floats(0, 1e4),
    usd_per_request=st.floats(0, 1),
    input_usd_per_mtok=st.floats(0, 50),
    output_usd_per_mtok=st.floats(0, 50),
    cap_requests=st.none() | st.floats(1, 1e5),
    data_usd_per_request=st.floats(0, 0.1),
)


@settings(deadline=None)
@given(people, prices, st.floats(0, 0.95), st.floats(0, 1e4))
def test_the_price_of_a_margin_holds_it(
    who: list[tuple[float, float]], plan: PricePlan, margin: float, other: float
) -> None:
    """With the scaled prices all customers together bring the margin, unless data alone brings more."""
    of = made([r for r, _ in who], [c for _, c in who])
    assume(float(cost_usd(plan, of, other).sum()) > 1e-3)
    priced = price_for_margin(plan, of, margin, other)
    brings = float(revenue_usd(priced, of).sum())
    costs = float(cost_usd(priced, of, other).sum())
    if priced.usd_per_month > 0.0:
        assert brings * (1 - margin) == pytest.approx(costs, rel=1e-6, abs=1e-6)
    else:
        assert brings * (1 - margin) >= costs - 1e-6


@settings(deadline=None)
@given(people, st.lists(prices, min_size=1, max_size=4))
def test_parts_sum_to_the_whole(who: list[tuple[float, float]], plans: list[PricePlan]) -> None:
    """Every customer is on one plan; plans sum to all; features sum to what customers bring and cost."""
    of = made([r for r, _ in who], [c for _, c in who])
    found = lines(plans, of, 7.0)
    whole = found[-1]
    assert whole.customers == len(who)
    parts = found[:-1] or found
    assert sum(line.revenue_usd for line in parts) == pytest.approx(whole.revenue_usd)
    assert sum(line.cost_usd for line in parts) == pytest.approx(whole.cost_usd)
    asked = [r > 0 for r, _ in who]
    if all(asked):
        by = features(plans, of)
        assert sum(one.revenue_usd for one in by) == pytest.approx(whole.revenue_usd)
        assert sum(one.cost_usd for one in by) + 7.0 == pytest.approx(whole.cost_usd)


@settings(deadline=None)
@given(people, st.lists(prices, min_size=2, max_size=4))
def test_nobody_pays_more_than_they_need(who: list[tuple[float, float]], plans: list[PricePlan]) -> None:
    """Among the plans that refuse least, each customer is on the one with the lowest charge."""
    of = made([r for r, _ in who], [c for _, c in who])
    on = chosen(plans, of)
    for i in range(len(who)):
        refused = [1.0 - float(served_frac(plan, of)[i]) for plan in plans]
        fair = [k for k in range(len(plans)) if refused[k] <= min(refused) + 1e-9]
        assert float(charge_usd(plans[on[i]], of)[i]) <= min(
            float(charge_usd(plans[k], of)[i]) for k in fair
        ) * (1 + 1e-9)


def test_a_heavy_user_on_a_flat_fee_costs_more_than_they_bring() -> None:
    """And a cap ends it."""
    of = made([10.0, 10.0, 10_000.0], [0.1, 0.1, 100.0])
    flat = lines([PricePlan("flat", usd_per_month=20.0)], of)[0]
    assert flat.at_a_loss == 1
    assert flat.heaviest_loss_usd == pytest.approx(80.0)
    capped = lines([PricePlan("flat", usd_per_month=20.0, cap_requests=1000.0)], of)[0]
    assert capped.at_a_loss == 0
    assert of.share_of_top(0.01) > 0.99


def test_payback() -> None:
    """Undiscounted months; net worth discounted; nothing saved is never repaid."""
    assert payback(Own(100.0, 10.0, 20.0), 0.0).months == 10.0
    assert payback(Own(100.0, 10.0, 20.0), 0.5).net_usd < 100.0
    never = payback(Own(100.0, 0.0), 0.1)
    assert never.months == float("inf")
    assert never.net_usd == -100.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[plans]]\nname='x'\n", "no price"),
        ("[[plans]]\nname='x'\nusd_per_month=-1\n", "below 0"),
        ("[[plans]]\nname='x'\nusd_per_mnth=1\n", "usd_per_mnth"),
        ("target_margin_frac=1.0\n", "below 1"),
        ("[[plans]]\nname='x'\nusd_per_month=1\n[[plans]]\nname='x'\nusd_per_month=2\n", "one name"),
        ("[[plans]\n", "TOML|toml|\\]"),
    ],
)
def test_wrong_files_are_refused(text: str, said: str, tmp_path: Path) -> None:
    """With what is wrong; a typo in a price must not be ignored."""
    file = tmp_path / "value.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        read(file)
    with pytest.raises(BadInput, match="no such file"):
        read(tmp_path / "absent.toml")


def test_the_example_as_printed(
    golden: Golden, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that a person sees, and the same numbers as JSON."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    log, asked = (str(EXAMPLES / name) for name in ("litellm_spendlogs.csv", "value.toml"))
    assert main(["value", log, asked]) == 0
    golden.check("value.txt", capsys.readouterr().out)
    assert main(["value", log, asked, "--serving-usd", "854.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usd_per_month"] == pytest.approx(854.5)
    assert sum(one["cost_usd"] for one in found["features"]) == pytest.approx(854.5)
    assert sum(one["usd"] for one in found["by_customer"].values()) == pytest.approx(854.5)


def test_a_log_without_customers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the column to name."""
    log = tmp_path / "log.csv"
    log.write_text(
        "time,model,prompt_tokens,completion_tokens\n2026-11-01T10:00:00Z,openai/gpt-4.1,1000,100\n",
        encoding="utf-8",
    )
    assert main(["value", str(log)]) == 2
    assert "no customer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no price plan and no own model"),
        ("target_margin_frac = 0.7", "no price plan and no own model"),
        ("other_usd_per_month = -5", "other_usd_per_month is -5"),
        ("[own_model]\noutlay_usd = -1\nsaves_usd_per_month = 1", "outlay_usd is -1"),
        ("[own_model]\noutlay_usd = 1\nsaves_usd_per_month = 1\nlife_months = 0", "life_months is 0"),
        ("[[plans]]\nname = 'a'", "has no price"),
        ("[[plans]]\nname = 'a'\nusd_per_mont = 5", "usd_per_mont"),
        ("plans = [", "value.toml"),
    ],
)
def test_a_value_file_that_says_nothing_or_nonsense_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "value.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=says):
        read(file)
