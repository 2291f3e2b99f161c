"""What exists: replicas by hour, and standing costs."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.fleet import Fleet, PoolSchedule, Standing
from isocost.plan.asked.limits import Have, HeldGpus, Limits, Slo
from isocost.plan.make.build import build
from isocost.plan.market.prepare import Request, prepare
from isocost.trace.workload import Spread, from_numbers

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


def test_two_lots_of_one_accelerator_are_held_together(catalog: Catalog) -> None:
    trace = from_numbers(30_000, 600, 150, spread=Spread(0.4, 0.4), days=8, seed=7)
    limits = Limits(default=Slo(place="own", quality_margin_points=10.0, spare_replicas=1))

    def held(*lots: HeldGpus) -> list[int]:
        request = Request(trace, catalog, date(2026, 11, 22), limits, Have(lots), now="openai/gpt-4.1")
        return [pool.held for pool in build(prepare(request)).problem.pools]

    kinds = ("l4", "l40s", "a100-80-sxm", "h100-sxm", "mi300x")
    one = tuple(HeldGpus(gpu, 8, 1.0, date(2027, 1, 1)) for gpu in kinds)
    two = tuple(HeldGpus(gpu, 4, price, date(2027, 1, 1)) for gpu in kinds for price in (1.0, 1.1))
    assert held(*one) == held(*two)
    assert any(held(*one))
    ended = tuple(HeldGpus(gpu, 8, 1.0, date(2026, 11, 1)) for gpu in kinds)
    assert not any(held(*ended))
