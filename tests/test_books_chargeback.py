"""Charges sum to the invoice to the cent; nobody pays twice, and what nobody pays for is a line."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import Golden
from isocost.books.chargeback import (
    BEYOND,
    IDLE,
    UNALLOCATED,
    CentreMap,
    Cost,
    Rule,
    Share,
    divide,
    divided,
    read_mapping,
)
from isocost.books.contract import contract
from isocost.books.overlay import parse_overlay
from isocost.books.statement import Line, Statement
from isocost.cli.root import main
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


def test_a_row_of_several_tags_counts_once() -> None:
    """Tags as JSON and as words: by the first rule whole, or shared evenly by the centres that they name."""
    found = of(
        ("2026-10-02", "", '["search","mobile"]', 4 * USD),
        ("2026-10-02", "", "mobile, beta", 2 * USD),
        ("2026-10-02", "", "other", USD),
    )
    rules = (Rule("finders", tag="search"), Rule("phones", tag="mobile"), Rule("phones", tag="beta"))
    first = divide(found, CentreMap(rules), Decimal(7))
    assert [share.usd for share in first] == [4, 2, 1]
    even = divide(found, CentreMap(rules, many="even"), Decimal(7))
    assert [share.usd for share in even] == [2, 4, 1]
    assert sum(share.own_usd for share in even) == 7


def test_shared_costs_follow_their_own_rules() -> None:
    """Redundancy by weights, the support fee evenly, idle capacity in proportion, the rest as stated."""
    terms = parse_overlay(
        "[[provisioned]]\nname='u'\nmodel='other'\nunits=1\nusd_per_unit_h=0.25\ntok_per_min_per_unit=1\n"
        "[[fee]]\nname='support'\nusd_per_month=8\n",
        "c.toml",
    )
    found = of(("2026-10-02", "a", "", 3 * USD), ("2026-10-02", "b", "", USD))
    under = contract(found, terms, (date(2026, 10, 2), date(2026, 10, 2)))
    mapping = CentreMap(
        (Rule("x", tenant="a"), Rule("y", tenant="b")),
        cost=(
            Cost("redundancy", Decimal(10), "fixed", {"x": Decimal(1), "y": Decimal(4)}),
            Cost("fee support", by="even"),
        ),
    )
    made = divided(found, mapping, Decimal("29.00"), under)
    assert {name: (usd, by) for name, usd, by in made.shared} == {
        IDLE: (6, "proportional"), "fee support": (8, "even"), "redundancy": (10, "fixed"),
        BEYOND: (1, "proportional"),
    }  # fmt: skip
    x, y, nobody = made.shares
    assert (x.own_usd, y.own_usd, nobody.usd) == (3, 1, 0)
    assert x.shared_usd == {
        IDLE: Decimal("4.5"), "fee support": 4, "redundancy": 2, BEYOND: Decimal("0.75"),
    }  # fmt: skip
    assert (x.usd, y.usd) == (Decimal("14.25"), Decimal("14.75"))


def test_usage_pays_for_what_was_paid_ahead() -> None:
    """Usage within a prepaid commitment is billed nothing, and charged what it drew."""
    terms = parse_overlay(
        "[[commitment]]\nname='pool'\nusd=9\nper='term'\npaid='upfront'\nused_usd=0\n"
        "since=2026-09-01\nuntil=2026-12-01\n",
        "c.toml",
    )
    found = of(("2026-10-02", "a", "", 3 * USD))
    under = contract(found, terms, (date(2026, 10, 1), date(2026, 10, 31)))
    made = divided(found, CentreMap((Rule("x", tenant="a"),)), Decimal(0), under)
    assert made.shares[0].own_usd == 3
    assert made.shared == (("paid ahead", Decimal(-3), "proportional"),)
    assert [share.usd for share in made.shares] == [0, 0]


def test_mapping_files(tmp_path: Path) -> None:
    path = tmp_path / "centres.toml"
    path.write_text(
        'shared = "even"\n[[rule]]\ncentre = "x"\ntenant = "a"\nsince = 2026-10-01\n', encoding="utf-8"
    )
    assert read_mapping(path) == CentreMap((Rule("x", tenant="a", since=date(2026, 10, 1)),), "even")
    rule = "[[rule]]\ncentre = 'x'\n"
    for text in (
        "[[rule]]\ncentre = 'unallocated'", "[[rule]]\ncolour = 'x'", "rule",
        f"{rule}[[cost]]\nname = 'a'\nby = 'fixed'", f"{rule}[[cost]]\nname = 'a'\nweights = {{ x = 1 }}",
        f"{rule}[[cost]]\nname = 'a'\nby = 'fixed'\nweights = {{ y = 1 }}",
        f"{rule}[[cost]]\nname = 'a'\nby = 'fixed'\nweights = {{ x = 0 }}",
    ):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput):
            read_mapping(path)
    with pytest.raises(BadInput, match="not whole cents"):
        divide(of(), CentreMap(()), Decimal("1.001"))


CASES = Path(__file__).parent / "cases" / "books"


def test_looks_as_it_did(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "chargeback", str(CASES / "october.csv"), "--centres", str(CASES / "centres.toml"),
        "--facts", str(CASES / "facts"), "--month", "2026-10", "--overlay", str(CASES / "contract.toml"),
    ]  # fmt: skip
    assert main([*command, "--total", "9.99"]) == 0
    golden.check("books_chargeback.txt", capsys.readouterr().out)
    assert main([*command, "--json"]) == 0
    assert '"unallocated"' in capsys.readouterr().out
    assert main([*command, "--total", "much"]) == 2
    assert "is no amount" in capsys.readouterr().err
