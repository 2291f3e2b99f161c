"""Charges sum to the invoice to the cent; nobody pays twice, and what nobody pays for is a line."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.books.chargeback import UNALLOCATED, CentreMap, Rule, Share, divide, read_mapping
from isocost.books.statement import Line, Statement
from isocost.errors import BadInput
from isocost.trace.schema import utc

USD = 10**15


def of(*rows: tuple[str, str, str, int]) -> Statement:
    """A statement of (day, tenant, workload, femto-dollars)."""
    lines = tuple(
        Line(day, "p", "m", "api/p/m", "standard", "", tenant, workload, "input", fusd, 1)
        for day, tenant, workload, fusd in rows
    )
    return Statement("log", "", "", utc(0), utc(0), lines, ())


NAMES = st.sampled_from(["", "a", "b", "c"])
RULES = st.lists(st.builds(Rule, centre=st.sampled_from("xyz"), tenant=NAMES, workload=NAMES), max_size=5)
ROWS = st.lists(st.tuples(st.just("2026-10-02"), NAMES, NAMES, st.integers(0, 10**19)), max_size=12)


@given(
    rows=ROWS,
    rules=RULES,
    shared=st.sampled_from(["proportional", "even"]),
    cents=st.integers(-(10**7), 10**9),
)
def test_charges_sum_to_the_invoice(rows: list, rules: list[Rule], shared: str, cents: int) -> None:
    found = of(*rows)
    invoice = Decimal(cents).scaleb(-2)
    shares = divide(found, CentreMap(tuple(rules), shared), invoice)
    assert sum(share.usd for share in shares) == invoice
    assert sum(share.own_usd for share in shares) == found.total_usd
    assert all(share.usd == share.usd.quantize(Decimal("0.01")) for share in shares)
    assert len({share.centre for share in shares}) == len(shares)


def test_the_first_rule_that_fits_takes_all_of_a_line() -> None:
    found = of(
        ("2026-10-02", "a", "chat", 2 * USD), ("2026-10-02", "a", "docs", USD), ("2026-10-02", "b", "", USD)
    )
    mapping = CentreMap((Rule("support", workload="chat"), Rule("research", tenant="a")))
    assert divide(found, mapping, Decimal(4)) == (
        Share("support", Decimal("2.00"), Decimal(2)),
        Share("research", Decimal("1.00"), Decimal(1)),
        Share(UNALLOCATED, Decimal("1.00"), Decimal(1)),
    )


def test_a_rule_holds_on_its_days() -> None:
    found = of(("2026-10-02", "a", "", USD), ("2026-10-03", "a", "", 2 * USD))
    mapping = CentreMap((Rule("old", tenant="a", until=date(2026, 10, 3)), Rule("new", tenant="a")))
    assert [share.usd for share in divide(found, mapping, Decimal(3))] == [1, 2, 0]


@pytest.mark.parametrize(
    ("shared", "expected"), [("proportional", ["30", "10", "1"]), ("even", ["27.50", "12.50", "1"])]
)
def test_shared_cost_follows_the_stated_rule(shared: str, expected: list[str]) -> None:
    """Ten dollars beyond usage of 22.50, 7.50 and 1: in proportion 3 to 1, or half each."""
    found = of(
        ("2026-10-02", "a", "", 45 * USD // 2),
        ("2026-10-02", "b", "", 15 * USD // 2),
        ("2026-10-02", "c", "", USD),
    )
    mapping = CentreMap((Rule("x", tenant="a"), Rule("y", tenant="b")), shared)
    assert [share.usd for share in divide(found, mapping, Decimal(41))] == [Decimal(usd) for usd in expected]


def test_mapping_files(tmp_path: Path) -> None:
    path = tmp_path / "centres.toml"
    path.write_text(
        'shared = "even"\n[[rule]]\ncentre = "x"\ntenant = "a"\nsince = 2026-10-01\n', encoding="utf-8"
    )
    assert read_mapping(path) == CentreMap((Rule("x", tenant="a", since=date(2026, 10, 1)),), "even")
    for text in ("[[rule]]\ncentre = 'unallocated'", "[[rule]]\ncolour = 'x'", "rule"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput):
            read_mapping(path)
    with pytest.raises(BadInput, match="not whole cents"):
        divide(of(), CentreMap(()), Decimal("1.001"))
