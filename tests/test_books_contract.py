"""A contract: what each part of a bill costs at list, as contracted, billed and in effect; sums are exact."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.books.contract import Contract, contract
from isocost.books.focus import problems, rows
from isocost.books.overlay import parse_overlay, read_overlay
from isocost.books.statement import Line, Requests, Statement, statement
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.catalog.prices import METERS
from isocost.cli.root import main
from isocost.errors import BadInput
from isocost.trace.open import open_trace

CASES = Path(__file__).parent / "cases" / "books"
USD = 10**15
DOLLAR = 10**9
"""Femto-dollars for one unit that make a million units a dollar."""


def of(*lines: tuple[str, str, str, int, int | None]) -> Statement:
    """A statement of (period, model, meter, quantity, femto-dollars for one)."""
    made = tuple(
        Line(period, "p", model, f"api/p/{model}", "standard", "", "t", "w", meter, quantity, rate)
        for period, model, meter, quantity, rate in lines
    )
    days = sorted(datetime.fromisoformat(line.day).replace(tzinfo=UTC) for line in made)
    calls = (Requests(made[0].period, "p", made[0].model, "", "standard", "", "t", "w", 1),)
    return Statement("log", "", "", days[0], days[-1], made, calls)


def under(text: str, *lines: tuple[str, str, str, int, int | None], month: bool = True) -> Contract:
    span = (date(2026, 10, 1), date(2026, 10, 31)) if month else None
    return contract(of(*lines), parse_overlay(text, "contract.toml"), span)


def usd(fusd: int) -> Decimal:
    return Decimal(fusd).scaleb(-15)


ONE = ("2026-10-05", "m", "input", 10**6, 4 * DOLLAR)
"""Four dollars of input."""


@pytest.mark.parametrize(
    ("text", "contracted"),
    [
        ("[[discount]]\npercent = 25", "3"),
        ("[[discount]]\nusd_per_mtok = 1.5", "1.5"),
        ("[[discount]]\npercent = -5", "4.2"),
        ("[[discount]]\nmodel = 'other'\npercent = 25", "4"),
        ("[[discount]]\nmodel = 'm*'\npercent = 25", "3"),
        ("[[discount]]\npercent = 25\nsince = 2026-10-06", "4"),
        ("[[discount]]\npercent = 25\nuntil = 2026-10-05", "4"),
        ("[[discount]]\npercent = 25\n[[discount]]\nmodel = 'm'\npercent = 50", "2"),
        (
            "[[discount]]\nmeter = 'input'\nmodel = 'm'\npercent = 50\n[[discount]]\nmodel='m'\npercent = 1",
            "2",
        ),
        ("[[discount]]\naccount = 'a'\npercent = 50", "4"),
    ],
)
def test_the_narrowest_discount_that_fits_holds(text: str, contracted: str) -> None:
    found = under(text, ONE)
    assert usd(found.contracted_fusd) == usd(found.billed_fusd) == Decimal(contracted)
    assert usd(found.list_fusd) == 4


@pytest.mark.parametrize(
    ("volume", "expected"),
    [("marginal", [Fraction(2), Fraction(4) * Fraction(9, 10) + Fraction(2) * Fraction(8, 10)]),
     ("whole", [Fraction(2) * Fraction(8, 10), Fraction(6) * Fraction(8, 10)])],
)  # fmt: skip
def test_tiers_by_volume(volume: str, expected: list[Fraction]) -> None:
    """Eight dollars of list in a month: above 2 a tenth off, above 6 a fifth; each month counts anew."""
    text = (
        f"[[discount]]\nvolume = '{volume}'\n[[discount.tiers]]\nabove_usd = 2\npercent = 10\n"
        "[[discount.tiers]]\nabove_usd = 6\npercent = 20\n"
    )
    lines = [
        ("2026-10-05", "m", "input", 2 * 10**6, DOLLAR),
        ("2026-10-06", "m", "input", 6 * 10**6, DOLLAR),
        ("2026-11-01", "m", "input", 10**6, DOLLAR),
    ]
    found = under(text, *lines, month=False)
    by_day = found.billed_by("day")
    assert [Fraction(by_day[(day,)], USD) for day in ("2026-10-05", "2026-10-06")] == expected
    assert Fraction(by_day["2026-11-01",], USD) == 1
    assert sum(piece.line.quantity for piece in found.pieces) == 9 * 10**6


def test_a_price_of_ones_own_where_there_is_no_list_price() -> None:
    found = under("[[discount]]\nusd_per_mtok = 2\n", ("2026-10-05", "m", "input", 10**6, None))
    assert (usd(found.billed_fusd), found.unpriced) == (2, ())
    assert under("", ("2026-10-05", "m", "input", 10**6, None)).unpriced != ()


def test_a_shortfall_is_billed_where_its_month_is_whole() -> None:
    text = "[[commitment]]\nname = 'min'\nusd = 10\n"
    (entry,) = under(text, ONE).entries
    assert (entry.kind, usd(entry.billed_fusd), entry.start) == ("shortfall", Decimal(6), date(2026, 10, 31))
    assert under(text.replace("10\n", "4\n"), ONE).entries == ()
    part = contract(of(ONE), parse_overlay(text, "c.toml"), (date(2026, 10, 1), date(2026, 10, 20)))
    assert part.entries == ()
    assert "after the log" in part.doubts[0]


def test_what_is_paid_ahead_is_drawn_down() -> None:
    text = (
        "[[commitment]]\nname = 'pool'\nusd = 3\nper = 'term'\npaid = 'upfront'\n"
        "since = 2026-10-01\nuntil = 2026-11-01\n"
    )
    found = under(text, ONE)
    (purchase,) = found.entries
    assert (purchase.kind, purchase.effective_fusd) == ("purchase", 0)
    assert usd(found.billed_fusd) == 3 + 1 == usd(found.effective_fusd)
    little = under(text.replace("usd = 3", "usd = 5"), ONE)
    assert {one.kind: (usd(one.billed_fusd), usd(one.effective_fusd)) for one in little.entries} == {
        "purchase": (5, 0), "unused": (0, 1),
    }  # fmt: skip
    assert little.billed_fusd == little.effective_fusd == 5 * USD


def test_what_was_used_before_the_log_must_be_said() -> None:
    text = "[[commitment]]\nusd = 3\nper = 'term'\nsince = 2026-09-01\nuntil = 2026-11-01\n"
    with pytest.raises(BadInput, match=r"contract.toml:1: the commitment began on 2026-09-01"):
        under(text, ONE)
    assert under(f"{text}used_usd = 3\n", ONE).entries == ()
    with pytest.raises(BadInput, match="the credit began"):
        under("[[credit]]\nusd = 3\nsince = 2026-09-01\n", ONE)


def test_capacity_answers_up_to_its_size() -> None:
    """A unit of 1,000 tokens a minute is 60,000 an hour; an output token counts as four."""
    text = (
        "[[provisioned]]\nname = 'ptu'\nunits = 1\nusd_per_unit_h = 2\ntok_per_min_per_unit = 1000\n"
        "output_counts = 4\nsince = 2026-10-05\nuntil = 2026-10-06\n"
    )
    lines = (
        ("2026-10-05T03", "m", "input", 20_000, DOLLAR),
        ("2026-10-05T03", "m", "output", 15_000, DOLLAR),
        ("2026-10-05T04", "m", "input", 30_000, DOLLAR),
    )
    found = under(text, *lines)
    covered = [(one.line.meter, one.line.quantity) for one in found.pieces if one.paid_by]
    assert covered == [("input", 20_000), ("output", 10_000), ("input", 30_000)]
    assert usd(sum(one.billed_fusd for one in found.pieces)) == usd(5_000 * DOLLAR)
    assert sum(one.billed_fusd for one in found.entries) == 48 * USD
    assert found.billed_fusd == found.effective_fusd
    whole = next(one for one in found.pieces if one.line.period.endswith("04"))
    assert usd(whole.effective_fusd) == 1, "half of an hour's capacity is half of its fee"


def test_credits_are_used_as_they_expire() -> None:
    text = (
        "[[credit]]\nname = 'later'\nusd = 1\nuntil = 2026-12-01\n"
        "[[credit]]\nname = 'sooner'\nusd = 1\nuntil = 2026-11-01\n"
        "[[credit]]\nname = 'over'\nusd = 9\nuntil = 2026-10-05\n"
        "[[credit]]\nname = 'endless'\nusd = 9\nmodel = 'm'\n"
    )
    found = under(text, ONE)
    paid = {one.name: usd(one.billed_fusd) for one in found.entries}
    assert paid == {"sooner": -1, "later": -1, "endless": -2}
    assert found.billed_fusd == 0


def test_fees_are_on_top_of_what_is_billed_before_credits() -> None:
    text = (
        "[[discount]]\npercent = 50\n[[credit]]\nusd = 1\n[[fee]]\nname='support'\npercent = 10\n"
        "[[fee]]\nname = 'seats'\nusd_per_month = 7\n"
    )
    fees = {one.name: usd(one.billed_fusd) for one in under(text, ONE).entries if one.kind == "fee"}
    assert fees == {"support": Decimal("0.2"), "seats": 7}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[discount]]\nmodel='a'\npercent=1\n\n[[discount]]\nmeter='b'\npercent=2", "lines 1 and 5"),
        ("[[discount]]\npercent=1\n[[discount]]\npercent=2\nsince=2026-10-01", "lines 1 and 3 conflict"),
        ("[[commitment]]\nusd=1\n[[commitment]]\nmodel='a'\nusd=2", "commitments of lines 1 and 3"),
        ("[[discount]]\n", "contract.toml:1: a discount gives one of"),
        ("\n[[discount]]\npercent = 'x'", "contract.toml:2:"),
        ("[[discount]]\npercent = 101", "percent is 101"),
        ("[[discount]]\ncolour = 'a'\npercent = 1", "unknown field `colour`"),
        ("[[credit]]\nusd = -1", "usd is -1"),
        ("[[fee]]\nname = 'x'", "a fee gives one of"),
        ("[[commitment]]\nusd = 1\nper = 'term'", "gives since and until"),
        ("[[credit]]\nusd = 1\nsince = 2026-10-02\nuntil = 2026-10-01", "it ends before it begins"),
        ("[[currency]]\ncode='EUR'\nusd=1\nsource=''\n[[currency]]\ncode='EUR'\nusd=2\nsource=''", "two r"),
        ("[[currency]]\ncode='EUR'\nusd=1", "missing required field `source`"),
        ("discount = 0.1", "is not a list of rules"),
        ("[[discount", "is not TOML"),
    ],
)  # fmt: skip
def test_contracts_that_cannot_hold_are_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        parse_overlay(text, "contract.toml")


def test_rules_that_no_row_is_of_are_named() -> None:
    past = '[[discount]]\nmodel = "m"\nprovider = "p"\nuntil = 2025-01-01\npercent = 5\n'
    text = f'[[discount]]\nprovider = "q"\npercent = 9\n{past}'
    assert under(text, ONE).doubts == ("no row of the log is of 'q': check the names in the contract",)


def test_dates_and_names_that_cannot_meet_do_not_conflict() -> None:
    text = (
        "[[discount]]\npercent=1\nuntil=2026-10-01\n[[discount]]\npercent=2\nsince=2026-10-01\n"
        "[[commitment]]\nmodel='a'\nusd=1\n[[commitment]]\nmodel='b'\nusd=2\n"
    )
    assert len(parse_overlay(text, "c.toml").discount) == 2


RULES = st.lists(
    st.sampled_from([
        "[[discount]]\nmodel = 'a'\npercent = 13.7\n",
        "[[discount]]\nmodel = 'b'\n[[discount.tiers]]\nabove_usd = 0.002\npercent = 7\n"
        "[[discount.tiers]]\nabove_usd = 0.01\npercent = 33.3\n",
        "[[provisioned]]\nname='u'\nmodel='a'\nunits=3\nusd_per_unit_h=0.0007\ntok_per_min_per_unit=7\n"
        "output_counts=3\n",
        "[[commitment]]\nname='c'\nmodel='b'\nusd=0.02\n",
        "[[commitment]]\nname='d'\nmodel='c'\nusd=0.03\npaid='upfront'\n",
        "[[credit]]\nname='k'\nusd=0.011\n",
        "[[credit]]\nname='l'\nmodel='a'\nusd=0.003\nuntil=2026-10-09\n",
        "[[fee]]\nname='f'\npercent=2.9\n",
        "[[fee]]\nname='g'\nusd_per_month=0.5\n",
    ]),
    unique=True,
)  # fmt: skip
LINES = st.lists(
    st.tuples(
        st.sampled_from([f"2026-10-{day:02}T{hour:02}" for day in (1, 7, 9, 31) for hour in (0, 9)]),
        st.sampled_from("abc"), st.sampled_from(["input", "cache_read", "output", "web_search"]),
        st.integers(1, 10**6), st.one_of(st.none(), st.integers(0, 10**11)),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(rules=RULES, lines=LINES)
def test_nothing_is_lost_under_any_contract(
    rules: list[str], lines: list[tuple[str, str, str, int, int | None]]
) -> None:
    """Quantities stay; what is billed is in effect, sooner or later; rows of the export sum to the same."""
    found = under("".join(rules), *lines)
    held = sum(one.line.quantity for one in found.pieces) + sum(line.quantity for line in found.unpriced)
    assert held == sum(line.quantity for line in found.found.lines)
    assert found.billed_fusd == found.effective_fusd
    assert all(one.billed_fusd >= 0 and one.effective_fusd >= 0 for one in found.pieces)
    charges = list(rows(found.found, found))
    assert problems(charges) == []
    for name in ("billed", "effective"):
        assert sum(getattr(row, f"{name}_cost") for row in charges) == usd(getattr(found, f"{name}_fusd"))
    usage = [row for row in charges if row.sku_meter in METERS]
    for name in ("list", "contracted"):
        assert sum(getattr(row, f"{name}_cost") for row in usage) == usd(getattr(found, f"{name}_fusd"))


def test_the_four_costs_differ_as_they_should() -> None:
    mine = Catalog.load(FACTS_DIR, CASES / "facts")
    found = statement(open_trace(CASES / "october.csv", who=True), mine, bucket="hour")
    made = contract(found, read_overlay(CASES / "contract.toml"), (date(2026, 10, 1), date(2026, 10, 31)))
    assert made.list_fusd == found.total_fusd > made.contracted_fusd
    assert {one.kind for one in made.entries} == {"purchase", "fee", "shortfall", "credit", "unused"}
    charges = list(rows(found, made))
    assert problems(charges) == []
    assert {row.commitment_discount_status for row in charges} == {None, "Used", "Unused"}
    assert {row.charge_category for row in charges} == {"Usage", "Purchase", "Credit"}


def test_looks_as_it_did(golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terms = ["--facts", str(CASES / "facts"), "--overlay", str(CASES / "contract.toml")]
    log = str(CASES / "october.csv")
    assert main(["bill", log, "--by", "tenant,model", *terms]) == 0
    basis = Catalog.load(FACTS_DIR, CASES / "facts").basis
    golden.check("books_contract_bill.txt", capsys.readouterr().out.replace(basis, "BASIS"))
    assert main(["export", "focus", log, *terms, "--out", str(tmp_path / "focus.csv")]) == 0
    golden.check("books_contract_focus.txt", capsys.readouterr().out.replace(str(tmp_path), "."))
    assert main(["close", "2026-10", log, *terms, "--books", str(tmp_path / "books")]) == 0
    assert "billed $" in capsys.readouterr().out
    assert main(["close", "2026-10", log, *terms[:2], "--books", str(tmp_path / "books")]) == 1
    assert "the contract overlay is another one" in capsys.readouterr().out
    assert main(["diff", str(CASES / "september.csv"), log, *terms]) == 0
    assert "overlay/" in capsys.readouterr().out
