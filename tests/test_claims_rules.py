"""The rules that turn figures into a verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.claims.finding import (
    SURE,
    Figure,
    Part,
    Range,
    Ruling,
    below_volume,
    crossing_of,
    every,
    from_volume,
    less_frac,
    probable,
    ranged,
    truth,
)

POSITIVE = st.floats(1e-3, 1e9)


def band(value: float, low: float, high: float) -> Figure:
    return Figure("it", value, "USD", low, high)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_a_range_around_the_figure_holds_and_one_beyond_its_band_fails(
    value: float, one: float, two: float
) -> None:
    low, high = value / (1.0 + one), value * (1.0 + two)
    figure = band(value, low, high)
    assert ranged([figure], Range(low, high)).verdict == "holds"
    assert ranged([figure], Range(high * 1.01, math.inf)).verdict == "fails"
    assert ranged([figure], Range(-math.inf, low * 0.99)).verdict == "fails"


def test_a_range_that_only_the_band_touches_is_not_settled() -> None:
    ruling = ranged([band(1.0, 0.5, 3.0)], Range(2.0, 4.0))
    assert ruling.verdict == "not settled"
    assert ruling.when


def test_boundaries_that_hold_are_named() -> None:
    figures = [Figure("rented", 4.0), Figure("owned", 2.0), Figure("bought", 9.0)]
    assert ranged(figures, Range(3.0, 10.0)) == Ruling("holds when", "rented (4) or bought (9)")


def test_nothing_is_no_verdict() -> None:
    assert ranged([], Range(0.0, 1.0)).verdict == "not settled"
    assert probable(math.nan).verdict == "not settled"


@given(st.floats(0.0, 1.0))
def test_a_chance_and_its_opposite_are_told_alike(frac: float) -> None:
    turned = {"holds": "fails", "fails": "holds", "not settled": "not settled"}
    assert probable(1.0 - frac).verdict == turned[probable(frac).verdict] or abs(abs(frac - 0.5) - 0.3) < 1e-9


@given(POSITIVE, POSITIVE, st.floats(1.01, 10.0), st.floats(1.01, 10.0))
def test_chances_of_less_and_more_sum_to_one(a: float, b: float, one: float, two: float) -> None:
    first, second = band(a, a / one, a * two), band(b, b / two, b * one)
    assert less_frac(first, second) + less_frac(second, first) == pytest.approx(1.0)


def test_wider_bands_are_less_sure() -> None:
    narrow = less_frac(band(1.0, 0.9, 1.1), band(2.0, 1.8, 2.2))
    wide = less_frac(band(1.0, 0.2, 5.0), band(2.0, 0.4, 10.0))
    assert 0.5 < wide < SURE < narrow <= 1.0


def test_volume_rules_mirror_each_other() -> None:
    volumes, fracs = (1e4, 1e6, 1e8), (0.01, 0.5, 0.99)
    assert from_volume(volumes, fracs, 2e6).when == "from 2.0M requests a month"
    assert below_volume(volumes, fracs, 2e6).when == "below 2.0M requests a month"
    assert below_volume(volumes, (0.9, 0.9, 0.9), None).verdict == "fails"
    assert from_volume(volumes, (0.0, 0.3, 0.5), None).verdict == "not settled"


@given(st.floats(2.0, 1e4))
def test_a_crossing_is_found_where_it_lies(at: float) -> None:
    volumes = (1.0, 1e5)
    found = crossing_of(volumes, (at, at), volumes)
    assert found is not None
    assert math.isclose(found, at, rel_tol=1e-9)


def test_parts_of_a_claim() -> None:
    good, bad = Part("a", truth(True)), Part("b", truth(False))
    half = Part("c", Ruling("holds when", "rented"))
    assert every([good, good]).verdict == "holds"
    assert every([bad, bad]).verdict == "fails"
    assert every([good, bad]) == Ruling("holds when", "a")
    assert every([half, bad]) == Ruling("holds when", "c: rented")
