"""Printing of money and counts, and what people type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost import units
from isocost.errors import BadInput


@given(st.floats(-1e13, 1e13))
def test_printed_money_is_within_a_part_in_ten(usd: float) -> None:
    text = units.money(usd)
    scale = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1], 1.0)
    read = float(text.replace("$", "").replace(",", "").rstrip("kMBT")) * scale
    assert read == pytest.approx(usd, rel=0.06, abs=1e-300)


@pytest.mark.parametrize(
    ("usd", "text"), [(999.4, "$999"), (999.6, "$1.0k"), (99_960, "$100k"), (999_600, "$1.0M")]
)
def test_money_at_the_seams(usd: float, text: str) -> None:
    assert units.money(usd) == text


@pytest.mark.parametrize(
    ("text", "months"),
    [("1M/mo", 1e6), ("12M/yr", 1e6), ("1/s", 2_629_800), ("10k/day", 304_375), ("1k/h", 730_500)],
)
def test_volumes(text: str, months: float) -> None:
    assert units.volume_per_month(text).low == pytest.approx(months)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (units.volume_per_month, "200k"),
        (units.volume_per_month, "5M..200k/mo"),
        (units.volume_per_month, "1/fortnight"),
        (units.volume_per_month, "-1/mo"),
        (units.seconds, "6"),
        (units.seconds, "six hours"),
        (units.seconds, "-2h"),
        (units.seconds, "2 parsecs"),
        (units.tokens, "1.5"),
        (units.tokens, "-1"),
        (units.tokens, "many"),
        (units.share, "15"),
        (units.share, "half"),
        (units.growth_per_month, "4%"),
        (units.growth_per_month, "-100%/mo"),
    ],
)
def test_what_cannot_be_read_says_what_to_type(parse: object, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text)  # type: ignore[operator]
    assert text in str(caught.value)
    assert caught.value.fix


@given(st.integers(0, 10**12))
def test_tokens_read_back(count: int) -> None:
    assert units.tokens(f"{count:,}") == units.tokens(str(count)) == count
