"""What exists: replicas by hour, and standing costs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.fleet import Fleet, PoolSchedule, Standing

weeks = st.lists(st.integers(0, 9), min_size=168, max_size=168).map(tuple)


@given(st.integers(0, 5), st.integers(0, 5), weeks, weeks, st.integers(0, 167))
def test_replicas_are_the_sum_of_their_kinds(
    held: int, reserved: int, on_demand: tuple[int, ...], spot: tuple[int, ...], hour: int
) -> None:
    schedule = PoolSchedule("p", held, reserved, on_demand, spot, 2.0)
    assert schedule.replicas(hour) == held + reserved + on_demand[hour] + spot[hour]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3)), max_size=6))
def test_standing_costs_are_quantities_times_prices(lines: list[tuple[float, float]]) -> None:
    items = tuple(Standing("a", "x", quantity, "month", price, ()) for quantity, price in lines)
    assert Fleet((), items).standing_usd_per_month == pytest.approx(sum(q * p for q, p in lines))


def test_terms_that_are_not_on_offer_have_no_price() -> None:
    schedule = PoolSchedule("p", 0, 0, (1,) * 168, (0,) * 168, 2.0)
    assert schedule.reserved_usd_per_h is None
    assert schedule.spot_usd_per_h is None
    assert schedule.overflow_outstanding == -1


@pytest.mark.parametrize("kind", [Fleet, PoolSchedule, Standing])
def test_a_typo_is_refused(kind: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.convert({"colour": 1}, kind)
