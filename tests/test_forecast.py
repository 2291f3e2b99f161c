"""Prices and demand to come: what the fits say, where they must be right, and how they did."""

from __future__ import annotations

import math
import sys
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput, MissingExtra
from isocost.forecast import backtest as scored
from isocost.forecast.demand import demand, demand_by_statsforecast
from isocost.forecast.histories import LISTS, Fall, Move, Window, falls, moves, windows
from isocost.forecast.prices import (
    SERIES,
    Falls,
    band,
    fit_capability,
    fit_list,
    fit_rental,
    paths,
    pooled_falls,
)


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    """The shipped facts on a day that does not move."""
    return Catalog.load().at(date(2026, 11, 23))


@pytest.mark.parametrize("series", SERIES)
def test_paths_begin_at_today_and_repeat(at: CatalogAt, series: str) -> None:
    """The first column is 1; the same call gives the same draws; all ratios are positive."""
    one, two = (paths(at, series, 24, 500) for _ in range(2))  # type: ignore[arg-type]
    assert one.shape == (500, 25)
    assert (one[:, 0] == 1.0).all()
    assert (one > 0.0).all()
    assert np.array_equal(one, two)


def test_the_cheapest_price_of_a_quality_never_rises(at: CatalogAt) -> None:
    """A price that was offered once is not withdrawn from the record."""
    assert (np.diff(paths(at, "capability", 36, 500), axis=1) <= 0.0).all()


def test_four_series_differ_as_the_market_does(at: CatalogAt) -> None:
    """A list price stays; the price of a quality falls faster than anything; a rent may go either way."""
    year = {series: band(paths(at, series, 12)) for series in SERIES}
    assert year["list-maker"][1][12] == 1.0
    assert year["capability"][1][12] < 0.3
    low, _, high = year["rental"]
    assert low[12] < 1.0 < high[12]
    assert year["spend"][1][12] > 1.0


@pytest.mark.parametrize("series", SERIES)
def test_a_path_does_not_change_with_how_far_one_looks(at: CatalogAt, series: str) -> None:
    """The first year is the same in a short look and in a long one."""
    near, far = (paths(at, series, months, 200) for months in (12, 36))  # type: ignore[arg-type]
    assert np.array_equal(near, far[:, :13])


def test_published_fits_together(at: CatalogAt) -> None:
    """Between the lowest and the highest fit, and a new score is less sure than the mean."""
    pooled = pooled_falls(at)
    assert pooled.fits == 21
    assert pooled.low < pooled.factor_per_year < pooled.high
    assert 15.0 < pooled.factor_per_year < 60.0


def test_unknown_series_and_months_are_refused(at: CatalogAt) -> None:
    """With the names that exist."""
    with pytest.raises(BadInput, match="no series"):
        paths(at, "gold", 12)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="months"):
        paths(at, "rental", -1)


def test_a_list_price_changes_as_often_as_it_did(at: CatalogAt) -> None:
    """The share of paths without a change in a year is the posterior mean of that share."""
    for seller in LISTS:
        steps = fit_list(windows(at, seller))
        still = (steps.unchanged + 0.5) / (steps.unchanged + steps.changed + 1.0)
        ratios = paths(at, f"list-{seller}", 12)  # type: ignore[arg-type]
        assert float((ratios[:, 12] == 1.0).mean()) == pytest.approx(still, abs=0.02)


def test_histories_are_what_the_facts_say(at: CatalogAt) -> None:
    """Three windows a seller; falls are falls; rents of different contracts are not compared."""
    for seller in LISTS:
        found = windows(at, seller)
        assert [window.start for window in found] == ["2023-12", "2024-11", "2025-11"]
        assert all(0.0 in window.log_ratio for window in found)
    assert all(fall.log_ratio <= 0.0 for fall in falls(at.catalog))
    every = moves(at.catalog)
    assert every == sorted(every)
    assert min(move.log_ratio for move in every) == pytest.approx(math.log(2.85 / 9.2))


def test_fits_of_made_data() -> None:
    """Each fit finds what made its data, and without data is its prior."""
    none = fit_capability([], 1.4, 3.0)
    assert none.total / none.fallen == pytest.approx(0.7)
    many = [Fall("x", date(2000 + i, 1, 1), -2.0) for i in range(400)]
    found = fit_capability(many, 1.4, 3.0)
    assert found.total / found.fallen == pytest.approx(2.0, rel=0.01)
    assert found.still_frac < 0.01
    year = [Move(date(2020 + i, 1, 1), date(2021 + i, 1, 1), -0.1) for i in range(4)]
    assert fit_rental(year, 1e-9).drift == pytest.approx(0.0, abs=1e-9)
    assert fit_rental(year, 1e9).drift == pytest.approx(-0.1, rel=0.01)
    with pytest.raises(BadInput):
        fit_list([Window("maker", "a", "b", (0.0, 0.0))])


@given(
    still=st.floats(0.0, 50.0), fallen=st.floats(0.5, 50.0), total=st.floats(0.1, 100.0), fall=st.floats(0, 9)
)
def test_chances_of_falls_are_chances(still: float, fallen: float, total: float, fall: float) -> None:
    """Between 0 and 1, and less for a greater fall."""
    of = Falls(still, fallen, total)
    assert 0.0 < of.still_frac < 1.0
    assert 0.0 <= of.exceeds(fall + 1.0) <= of.exceeds(fall) <= 1.0


def test_masses_of_every_rival_sum_to_one() -> None:
    """Log scores compare probabilities of the same cells."""
    cells = [(k - 0.5) * scored.CELL for k in range(-4000, 4001)]
    rivals = (
        *scored._rivals([-1.0, 0.0, -2.0], 0.5),
        scored._mixture(0.9, scored._normal(-0.3, 0.5)),
        scored._falls(Falls(2.0, 5.0, 7.0)),
    )
    for mass in rivals:
        total = sum(mass(low, low + scored.CELL) for low in cells)
        assert total == pytest.approx(1.0, abs=2e-3)


def test_backtest_says_where_ours_is_better_and_where_not(at: CatalogAt) -> None:
    """List prices: far better than both. Others are not claimed beyond their errors."""
    found = {score.series: score for score in scored.backtest(at)}
    assert set(found) == {"list-maker", "list-host", "capability", "rental"}
    for name in ("list-maker", "list-host"):
        assert found[name].over_flat > 4 * found[name].over_flat_error
        assert found[name].over_tenfold > 4 * found[name].over_tenfold_error
    assert found["capability"].over_tenfold > -2 * found["capability"].over_tenfold_error


@given(
    level=st.floats(10.0, 1e6),
    growth=st.floats(-0.05, 0.05),
    weeks=st.integers(3, 12),
    days=st.integers(1, 28),
)
def test_demand_goes_on_as_it_did(level: float, growth: float, weeks: int, days: int) -> None:
    """Where every week is the last one times a factor, so are the weeks to come, and nothing is missed."""
    share = np.array([1.2, 1.1, 1.0, 1.0, 0.9, 0.4, 0.3])
    past = np.concatenate([level * math.exp(growth * week) * share for week in range(weeks)])
    found = demand(past, days)
    ahead = np.arange(days) // 7
    true = level * np.exp(growth * (weeks + ahead)) * share[np.arange(days) % 7]
    assert np.allclose(found.mid, true, rtol=1e-6)
    assert (found.low <= found.mid).all()
    assert (found.mid <= found.high).all()


def test_demand_of_a_short_log_is_refused() -> None:
    """And so is a week of nothing."""
    with pytest.raises(BadInput, match="two whole weeks"):
        demand(np.ones(13), 7)
    with pytest.raises(BadInput, match="without demand"):
        demand(np.concatenate([np.ones(7), np.zeros(7), np.ones(7)]), 7)


@pytest.mark.parametrize("weeks", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("week_sd", "day_sd", "growth"), [(0.1, 0.1, 0.01), (0.02, 0.05, 0.0), (0.2, 0.1, 0.05)]
)
def test_four_in_five_days_come_within_their_bands(
    weeks: int, week_sd: float, day_sd: float, growth: float
) -> None:
    """Of levels that wander from week to week and days that differ by chance, however short the log."""
    rng = np.random.default_rng(1)
    share = np.array([1.1, 1.15, 1.1, 1.1, 1.0, 0.5, 0.45])
    inside = []
    for _ in range(150):
        level = np.repeat(np.cumsum(rng.normal(growth, week_sd, weeks + 4)), 7)
        days = 1000.0 * np.exp(level + rng.normal(0.0, day_sd, len(level))) * np.tile(share, weeks + 4)
        found, true = demand(days[: 7 * weeks], 28), days[7 * weeks :]
        inside.append(((true >= found.low) & (true <= found.high)).mean())
    assert 0.74 <= np.mean(inside) <= 0.97


def test_another_forecaster_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(MissingExtra, match=r"pip install 'isocost\[forecast\]'"):
        demand_by_statsforecast(np.ones(21), 7)


def test_another_forecaster_agrees_where_weeks_repeat() -> None:
    pytest.importorskip("statsforecast")
    rng = np.random.default_rng(2)
    past = np.tile([1.2, 1.1, 1.0, 1.0, 0.9, 0.4, 0.3], 8) * 1000.0 * np.exp(rng.normal(0.0, 0.02, 56))
    theirs, ours = demand_by_statsforecast(past, 14), demand(past, 14)
    assert np.allclose(theirs.mid, ours.mid, rtol=0.15)
    assert (theirs.low <= theirs.mid).all()
    assert (theirs.mid <= theirs.high).all()


def test_bands_hold_about_what_they_say() -> None:
    """Of weekly totals of noisy flat demand, about 80 % come within the band of one week ahead."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        noise = np.exp(0.1 * rng.standard_normal(9))
        past = np.repeat(1000.0 * noise[:8], 7)
        found = demand(past, 7)
        true = 7000.0 * noise[8]
        inside += bool(found.week_low[0] <= true <= found.week_high[0])
    assert 0.7 <= inside / 300 <= 0.95


@pytest.mark.parametrize("day_sd", [0.0, 0.3])
def test_a_week_is_surer_than_its_days(day_sd: float) -> None:
    """Its days even each other out; where nothing differs by chance they do not."""
    rng = np.random.default_rng(4)
    past = 1000.0 * np.exp(rng.normal(0.0, 0.1, 6).repeat(7) + rng.normal(0.0, day_sd, 42))
    found = demand(past, 7)
    days, week = found.high.sum() / found.mid.sum(), found.week_high[0] / found.week_mid[0]
    assert found.week_mid[0] == pytest.approx(found.mid.sum())
    assert week <= days * (1 + 1e-9)
    assert (week < 0.9 * days) == (day_sd > 0)


def test_hours_of_a_real_log_come_within_their_bands(data_dir: Path) -> None:
    """Ten days of three models and of their thirty busiest tenants, each next day from the days before."""
    found = duckdb.sql(
        "select model, model || tenant as tenant, cast(floor(ts_s / 3600) as bigint) as hour, count(*) as n "
        f"from '{data_dir}/traces/servegen_10d.parquet' group by all"
    ).fetchnumpy()
    hours = int(found["hour"].max()) + 1

    def by(names: np.ndarray) -> list[np.ndarray]:
        """Requests by hour of each name, busiest first."""
        every = [
            np.bincount(found["hour"][names == name], found["n"][names == name], hours)
            for name in np.unique(names)
        ]
        return sorted(every, key=lambda one: -float(one.sum()))

    wholes = by(np.asarray(found["model"]).astype(str))
    parts = by(np.asarray(found["tenant"]).astype(str))[:30]
    for series, low, high in ((wholes, 0.75, 0.95), (parts, 0.7, 0.9)):
        inside, days = [], []
        for one in series:
            for day in range(2, hours // 24):
                past, true = one[: 24 * day], one[24 * day : 24 * day + 24]
                if (past.reshape(-1, 24).sum(axis=1) <= 0).any():
                    continue
                ahead = demand(past, 24, season=24)
                inside.append(((true >= ahead.low) & (true <= ahead.high)).mean())
                days.append(ahead.week_low[0] <= true.sum() <= ahead.week_high[0])
        assert low <= np.mean(inside) <= high
        assert 0.65 <= np.mean(days) <= 1.0
