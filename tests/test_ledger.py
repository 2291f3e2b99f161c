"""Charges: parts sum to the whole exactly, and a file keeps every femto-dollar."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocost.ledger import FEMTO_PER_USD, KEYS, Charge, Ledger, fusd

words = st.sampled_from(["", "a", "b", "mon 00h", "Zürich; «x»", 'it\'s, "quoted"\nline'])
amounts = st.integers(-(10**30), 10**30) | st.sampled_from([0, 1, -1, 2**63, -(2**63) - 1, 10**37, -(10**37)])
quantities = st.floats(-1e18, 1e18, allow_nan=False)


@st.composite
def charges(draw: st.DrawFn) -> Charge:
    return Charge(
        **{key: draw(words) for key in KEYS},
        quantity=draw(quantities),
        unit_price_usd=draw(quantities),
        amount_fusd=draw(amounts),
    )


ledgers = st.lists(charges(), max_size=12).map(Ledger)


@given(ledgers, st.lists(st.sampled_from(KEYS), max_size=4))
def test_parts_sum_to_the_whole_by_any_keys(ledger: Ledger, keys: list[str]) -> None:
    parts = ledger.by(*keys)
    assert sum(parts.values()) == ledger.total_fusd == sum(c.amount_fusd for c in ledger)
    for group, amount in parts.items():
        if len(set(keys)) == len(keys):
            assert ledger.where(**dict(zip(keys, group, strict=True))).total_fusd == amount


@given(ledgers, st.sampled_from(KEYS), st.sampled_from(KEYS))
def test_finer_groups_sum_to_coarser_ones(ledger: Ledger, one: str, two: str) -> None:
    coarse: dict[str, int] = {}
    for (first, _), amount in ledger.by(one, two).items():
        coarse[first] = coarse.get(first, 0) + amount
    assert coarse == {group[0]: amount for group, amount in ledger.by(one).items()}


@given(ledgers)
def test_totals_do_not_depend_on_the_order_of_entry(ledger: Ledger) -> None:
    back = Ledger(reversed(list(ledger)))
    assert back.total_fusd == ledger.total_fusd
    assert back.by("account", "meter") == ledger.by("account", "meter")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ledger=ledgers)
def test_a_file_gives_every_charge_back(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    ledger.write(path)
    assert list(Ledger.read(path)) == list(ledger)
    assert not list(tmp_path.glob("*.part"))


def test_an_empty_ledger_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    Ledger().write(path)
    assert len(Ledger.read(path)) == 0
    assert Ledger().total_fusd == 0
    assert Ledger().by("account") == {}


def test_a_file_adds_up_in_a_database(tmp_path: Path) -> None:
    # 0.1 is no binary fraction: a sum of doubles would be off by the last digits.
    path = tmp_path / "ledger.parquet"
    Ledger(_charge(fusd(Fraction(1, 10))) for _ in range(1001)).write(path)
    with duckdb.connect() as db:
        found = db.execute("SELECT sum(amount_usd)::VARCHAR FROM read_parquet(?)", [str(path)]).fetchall()
    assert found == [("100.100000000000000",)]


def test_an_amount_past_128_bits_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    with pytest.raises(duckdb.Error):
        Ledger([_charge(10**38)]).write(path)
    assert not path.exists()
    assert not list(tmp_path.iterdir())


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(AttributeError):
        Ledger([_charge(1)]).by("colour")


@given(st.fractions(-1000, 1000))
def test_a_modelled_amount_is_rounded_once_half_to_even(usd: Fraction) -> None:
    assert abs(Fraction(fusd(usd), FEMTO_PER_USD) - usd) <= Fraction(1, 2 * FEMTO_PER_USD)


def test_halves_go_to_the_even_femto_dollar() -> None:
    half = Fraction(1, 2 * FEMTO_PER_USD)
    assert [fusd(n * half) for n in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]


def _charge(amount: int) -> Charge:
    keys = ("month", "api", "d", "deployment", "api-tokens", "w", "", "input")
    return Charge(*keys[:8], 1.0, "tok", "", 0.1, amount)
