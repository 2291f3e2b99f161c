"""Money over time, against closed forms, limits and a schedule paid month by month in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.finance import (
    amortised_usd_per_month,
    capital_recovery_factor,
    rate_per_month,
    replica_usd_per_month,
    usd_per_mtok,
)

rates = st.floats(1e-14, 0.5)
lives = st.integers(1, 600)


@given(st.fractions(Fraction(1, 10**9), Fraction(1, 2)), lives)
def test_level_payments_repay_exactly(rate: Fraction, periods: int) -> None:
    rate = Fraction(float(rate))
    exact = rate / (1 - (1 + rate) ** -periods)
    assert capital_recovery_factor(float(rate), periods) == pytest.approx(float(exact), rel=1e-13)


@given(st.floats(0.001, 0.05), st.integers(1, 120))
def test_a_loan_paid_month_by_month_ends_at_zero(rate: float, periods: int) -> None:
    owed, payment = 1.0, capital_recovery_factor(rate, periods)
    for _ in range(periods):
        owed = owed * (1.0 + rate) - payment
    assert owed == pytest.approx(0.0, abs=1e-9 * (1.0 + rate) ** periods)


@given(rates, lives)
def test_interest_makes_it_more_than_an_equal_split_and_more_than_the_interest(
    rate: float, periods: int
) -> None:
    factor = capital_recovery_factor(rate, periods)
    assert factor >= 1.0 / periods * (1 - 1e-12)
    assert factor >= rate
    assert factor <= (1.0 / periods + rate) * (1 + 1e-12)


@given(st.floats(1e-300, 1e-9), lives)
def test_a_vanishing_rate_is_an_equal_split(rate: float, periods: int) -> None:
    assert capital_recovery_factor(rate, periods) == pytest.approx(1.0 / periods, rel=1e-6)
    assert capital_recovery_factor(0.0, periods) == 1.0 / periods


@pytest.mark.parametrize("periods", [1e4, 1e6, 1e9])
def test_a_life_without_end_is_interest_for_ever(periods: float) -> None:
    assert capital_recovery_factor(0.07, periods) == pytest.approx(0.07)


def test_one_period_repays_all_with_its_interest() -> None:
    assert capital_recovery_factor(0.25, 1) == pytest.approx(1.25)


@given(st.floats(0.0, 1.0))
def test_twelve_months_compound_to_the_year(rate: float) -> None:
    # Written so that the check itself loses no digits to the one that it would add and take away.
    year = math.expm1(12 * math.log1p(rate_per_month(rate)))
    assert year == pytest.approx(rate, rel=1e-12, abs=1e-15)


@given(st.floats(1e-18, 1e-12))
def test_a_tiny_yearly_rate_is_not_lost(rate: float) -> None:
    assert rate_per_month(rate) == pytest.approx(rate / 12, rel=1e-9)


@given(st.floats(1.0, 1e7), st.floats(0.0, 0.4), st.integers(1, 120))
def test_amortised_payments_are_worth_the_outlay(upfront: float, yearly: float, months: int) -> None:
    payment = amortised_usd_per_month(upfront, yearly, months)
    worth = math.fsum(payment / (1.0 + yearly) ** (m / 12) for m in range(1, months + 1))
    assert worth == pytest.approx(upfront, rel=1e-9)


@given(st.floats(0.0, 1e6), st.floats(1.0, 10.0))
def test_products_scale_with_each_factor(usd_per_gpu_h: float, hours: float) -> None:
    assert replica_usd_per_month(8, usd_per_gpu_h, hours) == pytest.approx(8 * usd_per_gpu_h * hours)


def test_levelised_cost_times_volume_is_the_cost() -> None:
    assert usd_per_mtok(123.4, 56.7) * 56.7 == pytest.approx(123.4)
    with pytest.raises(ZeroDivisionError):
        usd_per_mtok(1.0, 0.0)
