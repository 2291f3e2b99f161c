"""Bands, swings and common random numbers, against the distributions that they state."""

from __future__ import annotations

from datetime import date
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.ledger import Charge, Ledger, fusd
from isocost.risk import (
    JOIN,
    SCENARIOS,
    Choice,
    Driver,
    band,
    cheaper_frac,
    crossing,
    draws,
    evpi_usd,
    evppi_usd,
    grouped,
    regret,
    scenarios,
    surface,
    swings,
    with_families,
)

Floats = npt.NDArray[np.float64]

Z90 = NormalDist().inv_cdf(0.9)
ratios = st.tuples(st.floats(0.2, 0.99), st.floats(1.01, 5.0))


def ledger_of(*parts: tuple[str, float]) -> Ledger:
    keys = ("month", "api", "d", "deployment", "a", "", "", "m")
    return Ledger(Charge(*keys, 1.0, "tok", names, usd, fusd(usd)) for names, usd in parts)


def named(*drivers: Driver) -> dict[str, Driver]:
    return {driver.name: driver for driver in drivers}


@settings(deadline=None)
@given(st.text(min_size=1, max_size=8), ratios)
def test_the_ends_are_the_tenth_and_the_ninetieth_percentile(name: str, ends: tuple[float, float]) -> None:
    drawn = draws(Driver(name, *ends))
    low, mid, high = np.quantile(drawn, [0.1, 0.5, 0.9])
    assert low == pytest.approx(ends[0], rel=2e-3)
    assert mid == pytest.approx(1.0, rel=2e-3)
    assert high == pytest.approx(ends[1], rel=2e-3)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=8), st.sampled_from([64, 1000, SCENARIOS]))
def test_one_draw_falls_in_each_stratum(name: str, count: int) -> None:
    # With both sides equal the ratio is exp(z log(high) / z90): its order gives the uniform back.
    drawn = draws(Driver(name, 0.5, 2.0), count)
    uniform = np.array([NormalDist().cdf(np.log(x) * Z90 / np.log(2.0)) for x in drawn])
    edges = np.arange(count + 1) / count
    assert (np.sort(uniform) >= edges[:-1] - 1e-5).all()
    assert (np.sort(uniform) <= edges[1:] + 1e-5).all()


@settings(deadline=None)
@given(ratios)
def test_one_driver_gives_the_band_of_its_fact(ends: tuple[float, float]) -> None:
    found = band(ledger_of(("f", 100.0), ("", 50.0)), named(Driver("f", *ends)))
    assert found.low_usd == pytest.approx(50 + 100 * ends[0], rel=2e-3)
    assert found.mid_usd == 150.0
    assert found.high_usd == pytest.approx(50 + 100 * ends[1], rel=2e-3)


def test_a_driver_that_only_rises_never_lowers() -> None:
    totals = scenarios(ledger_of(("f", 100.0)), named(Driver("f", 1.0, 2.0)))
    assert totals.min() == pytest.approx(100.0)
    assert np.quantile(totals, 0.9) == pytest.approx(200.0, rel=2e-3)


def test_two_drivers_multiply_as_log_normals_do() -> None:
    # Both symmetric in logarithms: the product's spread is the root of the sum of squares.
    found = band(ledger_of((f"f{JOIN}g", 100.0)), named(Driver("f", 0.5, 2.0), Driver("g", 1 / 3, 3.0)))
    sigma = np.hypot(np.log(2.0), np.log(3.0))
    assert found.high_usd == pytest.approx(100 * np.exp(sigma), rel=0.04)
    assert found.low_usd == pytest.approx(100 * np.exp(-sigma), rel=0.04)


def test_a_shared_driver_draws_the_same_in_both_ledgers() -> None:
    drivers = named(Driver("f", 0.3, 4.0), Driver("g", 0.5, 2.0))
    one, two = ledger_of(("f", 100.0)), ledger_of(("g", 7.0), ("f", 200.0))
    alone = scenarios(ledger_of(("g", 7.0)), drivers)
    np.testing.assert_allclose(scenarios(two, drivers), 2 * scenarios(one, drivers) + alone, rtol=1e-6)
    # Twice the same thing is dearer in every scenario, whatever the fact turns out to be.
    assert cheaper_frac(one, ledger_of(("f", 100.1)), drivers) == 1.0


@settings(deadline=None)
@given(st.permutations([("f", 3.0), ("g", 5.0), (f"f{JOIN}g", 2.0), ("", 1.0), ("h", 4.0)]))
def test_order_of_charges_and_of_drivers_does_not_matter(parts: list[tuple[str, float]]) -> None:
    drivers = [Driver("f", 0.5, 2.0), Driver("g", 0.9, 1.1), Driver("h", 0.2, 1.5)]
    one = scenarios(ledger_of(*parts), named(*drivers))
    two = scenarios(ledger_of(*sorted(parts)), named(*reversed(drivers)))
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_names_draw_independently() -> None:
    made = np.array([draws(Driver(f"fact-{i}", 0.5, 2.0)) for i in range(12)])
    correlation = np.corrcoef(np.log(made)) - np.eye(12)
    assert np.abs(correlation).max() < 0.06


def test_draws_are_the_same_every_time() -> None:
    assert (draws(Driver("f", 0.5, 2.0)) == draws(Driver("f", 0.5, 2.0))).all()


sums = st.lists(
    st.tuples(st.sampled_from(["", "f", "g", f"f{JOIN}g", f"f{JOIN}f"]), st.floats(0, 1e5)), max_size=8
)


@settings(deadline=None)
@given(sums, ratios, ratios)
def test_a_swing_is_the_ledger_at_the_ends(
    parts: list[tuple[str, float]], one: tuple[float, float], two: tuple[float, float]
) -> None:
    ledger, drivers = ledger_of(*parts), named(Driver("f", *one), Driver("g", *two))
    found = {swing.name: swing for swing in swings(ledger, drivers)}
    for name, ends in (("f", one), ("g", two)):
        at = [sum(usd * end ** names.split(JOIN).count(name) for names, usd in parts) for end in ends]
        if name in found:
            assert (found[name].low_usd, found[name].high_usd) == pytest.approx(at, rel=1e-9, abs=1e-9)
            assert found[name].low_usd <= ledger.total_usd + 1e-6 <= found[name].high_usd + 2e-6
        else:
            assert at[0] == pytest.approx(at[1], abs=1e-9)
    widths = [swing.width_usd for swing in swings(ledger, drivers)]
    assert widths == sorted(widths, reverse=True)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 100.0), st.floats(1.0, 100.0), ratios)
def test_one_or_the_other_is_cheaper(a: float, b: float, ends: tuple[float, float]) -> None:
    drivers = named(Driver("f", *ends), Driver("g", 0.5, 2.0))
    one, two = ledger_of(("f", a), ("", 3.0)), ledger_of(("g", b), ("", 3.0))
    ties = np.mean(scenarios(one, drivers) == scenarios(two, drivers))
    assert cheaper_frac(one, two, drivers) + cheaper_frac(two, one, drivers) == pytest.approx(1.0 - ties)
    assert cheaper_frac(one, one, drivers) == 0.0


def test_a_fair_race_is_even() -> None:
    drivers = named(Driver("f", 0.5, 2.0), Driver("g", 0.5, 2.0))
    assert cheaper_frac(ledger_of(("f", 9.0)), ledger_of(("g", 9.0)), drivers) == pytest.approx(0.5, abs=0.03)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "f", f"f{JOIN}g"]), st.floats(0, 1e4)), max_size=9))
def test_groups_sum_to_the_whole(parts: list[tuple[str, float]]) -> None:
    ledger = ledger_of(*parts)
    assert sum(grouped(ledger).values()) == pytest.approx(ledger.total_usd)


def test_what_no_driver_moves_stays() -> None:
    ledger = ledger_of(("other", 12.0), ("", 3.0))
    assert (scenarios(ledger, named(Driver("f", 0.5, 2.0))) == 15.0).all()
    assert swings(ledger, named(Driver("f", 0.5, 2.0))) == ()
    assert band(Ledger(), {}).high_usd == 0.0


def choice_of(*costs: Floats, **ratios: Floats) -> Choice:
    return Choice(tuple("abcdef"[: len(costs)]), np.stack(costs), ratios)


def test_families_share_a_part_of_their_draws() -> None:
    """Rank correlation as stated, each driver still one draw a stratum, strangers uncorrelated."""
    one, two = (Driver(name, 0.5, 2.0, "rents", 0.7) for name in ("x", "y"))
    other = Driver("z", 0.5, 2.0)
    logs = [np.log(draws(driver)) for driver in (one, two, other)]
    assert np.corrcoef(logs[0], logs[1])[0, 1] == pytest.approx(0.7, abs=0.03)
    assert np.corrcoef(logs[0], logs[2])[0, 1] == pytest.approx(0.0, abs=0.03)
    assert np.quantile(np.exp(logs[0]), 0.9) == pytest.approx(2.0, rel=2e-3)


def test_families_come_from_facts() -> None:
    at = Catalog.load().at(date(2026, 11, 23))
    found = with_families(named(Driver("rental/x.usd", 0.5, 2.0), Driver("api/x.usd", 0.5, 2.0)), at)
    assert found["rental/x.usd"].family == "rents"
    assert found["rental/x.usd"].correlation_frac > 0.0
    assert found["api/x.usd"].family == ""


def test_the_value_of_knowing_is_that_of_two_normals() -> None:
    """Two options whose costs differ by N(m, s): E[max(0, d)] - max(0, m) in closed form."""
    n = 1 << 16
    z = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    mean, spread = 3.0, 10.0
    found = choice_of(np.zeros(n) + 100.0, 100.0 + mean + spread * z, f=z)
    unit = mean / spread
    exact = spread * (NormalDist().pdf(unit) - unit * NormalDist().cdf(-unit))
    assert evpi_usd(found) == pytest.approx(exact, rel=1e-3)
    # All the uncertainty is in one fact, so knowing that fact is worth all.
    assert evppi_usd(found)[0].usd == pytest.approx(exact, rel=0.02)


def test_a_fact_that_changes_no_choice_is_worth_nothing() -> None:
    rng = np.random.default_rng(0)
    noise, other = rng.standard_normal((2, SCENARIOS))
    found = choice_of(100.0 + noise, 100.0 + noise + 5.0, f=noise, g=other)
    assert evpi_usd(found) == 0.0
    assert evppi_usd(found) == ()
    found = choice_of(100.0 + 10 * noise, 100.0 - 10 * noise, f=noise, g=other)
    worth = {one.name: one.usd for one in evppi_usd(found)}
    assert worth["f"] > 7.0
    assert worth.get("g", 0.0) < 0.05


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 4))
def test_parts_of_a_choice_agree(seed: int, options: int) -> None:
    """Shares sum to one; hindsight is never worth less than nothing; one fact never more than all."""
    rng = np.random.default_rng(seed)
    draws_of = rng.standard_normal((options, 1024))
    found = choice_of(*(100.0 + draws_of), **{f"f{i}": row for i, row in enumerate(draws_of)})
    assert sum(found.cheapest_frac().values()) == pytest.approx(1.0)
    lost = [regret(found, name).mean_usd for name in found.names]
    assert min(lost) >= 0.0
    assert evpi_usd(found) == pytest.approx(min(lost))
    assert all(0.0 < one.usd <= evpi_usd(found) for one in evppi_usd(found))


def test_the_break_even_of_a_line_and_a_fixed_cost() -> None:
    volumes = [1.0, 10.0, 100.0, 1000.0]
    per_use = np.array(volumes)[:, None] * np.array([1.0, 2.0, 1e-9, 500.0])
    fixed = np.full((4, 4), 150.0)
    found = crossing(volumes, per_use, fixed)
    assert 100.0 < found[0] < 1000.0
    assert 10.0 < found[1] < 100.0
    assert found[2] == np.inf
    assert found[3] == 0.0
    with pytest.raises(BadInput):
        crossing([1.0], per_use, fixed)


def test_a_falling_price_wins_the_longer_one_looks() -> None:
    """An option that follows a falling series overtakes a cheaper one that stays."""
    series = {"api/": np.tile(0.9 ** np.arange(37.0), (2048, 1))}
    by = {1.0: {"stays": {("rental/x",): 100.0}, "falls": {("api/y",): 150.0}}}
    found = surface(by, named(Driver("rental/x", 0.9, 1.1)), series, [1, 36], 0.0)
    assert found.cheapest_frac[0][0][0] == 1.0
    assert found.cheapest_frac[1][0][1] == 1.0
    assert found.cost_usd[1][0][1] == pytest.approx(150.0 * sum(0.9**k for k in range(1, 37)))
    with pytest.raises(BadInput):
        surface(by, {}, series, [37], 0.0)


def test_an_option_that_does_not_serve_is_never_cheapest() -> None:
    by = {1.0: {"a": {(): 1.0}}, 2.0: {"a": {(): 9.0}, "b": {(): 1.0}}}
    found = surface(by, {}, {}, [12], 0.05)
    assert found.cheapest_frac[1][0][0] == 0.0
    assert np.isnan(found.cost_usd[1][0][0])
    assert found.cheapest_frac[1][1][0] == 1.0
