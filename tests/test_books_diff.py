"""The parts of a change sum to it to the last digit, whatever moved, and name what moved it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.books.diff import EFFECTS, Diff, above, diff, markdown, renames, shapley
from isocost.books.rounding import largest_remainder
from isocost.books.statement import Line, Requests, Statement, statement
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.cli.root import main
from isocost.errors import BadInput
from isocost.ledger import Charge, Ledger, fusd
from isocost.trace.open import open_trace
from isocost.trace.schema import utc

CASES = Path(__file__).parent / "cases" / "books"
FRACTIONS = st.fractions(min_value=0, max_value=50, max_denominator=7)


def of(*rows: tuple[str, str, int, int, int | None]) -> Statement:
    """A statement of (tenant, model, requests, input tokens, femto-dollars a token)."""
    lines = tuple(
        Line("2026-10-01", "p", model, f"api/p/{model}", "standard", "", tenant, "w", "input", tok, rate,
             (f"api/p/{model}.input@{rate}",) if rate is not None else ())
        for tenant, model, _, tok, rate in rows
    )  # fmt: skip
    calls = tuple(
        Requests("2026-10-01", "p", model, f"api/p/{model}", "standard", "", tenant, "w", n)
        for tenant, model, n, _, _ in rows
    )
    return Statement("log", "", "", utc(0), utc(0), lines, calls)


def parts(found: Diff) -> dict[str, Decimal]:
    return {part.effect: part.usd for part in found.parts if part.usd}


SIDES = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")),
    st.tuples(st.integers(1, 1000), st.integers(0, 10**9), st.none() | st.integers(0, 10**9)),
    max_size=6,
).map(lambda side: of(*((t, m, *rest) for (t, m), rest in side.items())))


@settings(max_examples=150, deadline=None)
@given(before=SIDES, after=SIDES)
def test_parts_sum_to_the_change(before: Statement, after: Statement) -> None:
    found = diff(before, after)
    assert sum(part.usd for part in found.parts) == found.change_usd
    assert found.change_usd == after.total_usd - before.total_usd
    back = {effect: -usd for effect, usd in parts(diff(after, before)).items()}
    for effect in EFFECTS:
        # The same split backwards, but for the last femto-dollar of rounding.
        assert abs(parts(found).get(effect, 0) - back.get(effect, 0)) <= Decimal("1e-15")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=1, max_size=4))
def test_shapley_is_the_mean_over_all_orders(factors: list[tuple[Fraction, Fraction]]) -> None:
    before, after = ([pair[side] for pair in factors] for side in (0, 1))
    expected = [Fraction(0)] * len(factors)
    orders = list(permutations(range(len(factors))))
    for order in orders:
        now = list(before)
        for at in order:
            was = product(now)
            now[at] = after[at]
            expected[at] += (product(now) - was) / len(orders)
    assert shapley(before, after) == expected


def product(values: list[Fraction]) -> Fraction:
    result = Fraction(1)
    for value in values:
        result *= value
    return result


@given(st.lists(st.fractions(-100, 100, max_denominator=9), min_size=1, max_size=8))
def test_largest_remainder_keeps_the_sum(values: list[Fraction]) -> None:
    total = round(sum(values))
    try:
        whole = largest_remainder(values, total)
    except ValueError:
        assert total < sum(value.__floor__() for value in values) or len(values) == 0
        return
    assert sum(whole) == total
    assert all(abs(w - v) < 1 for w, v in zip(whole, values, strict=True))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([("a", "x", 10, 100, 5)], [("a", "x", 10, 100, 7)], {"price": 200}),
        ([("a", "x", 10, 100, 5)], [("a", "x", 20, 200, 5)], {"volume": 500}),
        ([("a", "x", 10, 100, 5)], [("a", "x", 10, 150, 5)], {"mix": 250}),
        ([("a", "x", 10, 100, 5)], [("a", "y", 10, 100, 7)], {"mix": 200}),
        ([("a", "x", 10, 100, 5)], [("a", "x", 10, 100, 5), ("b", "x", 1, 10, 5)], {"volume": 50}),
        ([("a", "x", 10, 100, None)], [("a", "x", 10, 100, 5)], {"coverage": 500}),
        ([("a", "x", 10, 100, 5)], [("a", "x", 20, 200, 7)], {"volume": 600, "price": 300}),
    ],
    ids=["price", "volume", "tokens", "model", "tenant", "coverage", "both"],
)
def test_one_change_is_one_effect(before: list, after: list, expected: dict[str, int]) -> None:
    found = parts(diff(of(*before), of(*after)))
    assert found == {effect: Decimal(amount).scaleb(-15) for effect, amount in expected.items()}


def charge(deployment: str, tok: float, price: float, unit: str = "tok") -> Charge:
    amount = fusd(Fraction(tok) * Fraction(price))
    return Charge(
        "", "api", deployment, "deployment", "compute", "w", "", "input", tok, unit, "", price, amount
    )


def test_a_route_in_a_plan_is_policy() -> None:
    before = Ledger([charge("big", 1e6, 2e-6)])
    after = Ledger([charge("big", 5e5, 2e-6), charge("small", 5e5, 1e-7), charge("gpu", 10, 2.0, "GPU-hour")])
    found = diff(before, after)
    assert set(parts(found)) == {"policy"}
    assert sum(part.usd for part in found.parts) == found.change_usd
    said = [cause.said for part in found.parts for cause in part.because]
    assert "gpu, compute starts" in said
    assert "w: big answers 100% to 50% of tokens" in said


def test_a_log_beside_a_plan_is_scaled_to_its_month() -> None:
    """Thirty days at 3 dollars a day beside a plan of 50 dollars a month that routes half elsewhere."""
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC)
    log = msgspec.structs.replace(of(("a", "big", 10, 9 * 10**7, 10**9)), start=start, end=end)
    scaled = Decimal(90) * Decimal("30.4375") / 30
    tok = 9e7 * 30.4375 / 30
    plan = Ledger([
        msgspec.structs.replace(charge("p/big:prefix", tok / 2, 1e-6), workload="w"),
        msgspec.structs.replace(charge("p/small", tok / 2, 1e-8), workload="w"),
    ])  # fmt: skip
    found = diff(log, plan, ("log", "plan"))
    assert found.before_usd == pytest.approx(scaled)
    assert sum(part.usd for part in found.parts) == found.change_usd
    assert abs(parts(found)["policy"] - found.change_usd) < Decimal("1e-6")
    assert "scaled to a mean month" in found.notes[0]
    back = diff(plan, log, ("plan", "log"))
    assert abs(back.change_usd + found.change_usd) <= Decimal("1e-15")


def test_a_renamed_model_is_no_mix() -> None:
    before, after = of(("a", "x", 10, 100, 5)), of(("a", "x-2", 10, 100, 7))
    names = {("p", "x"): ("p", "x-2")}
    found = diff(before, after, renamed=names)
    assert parts(found) == {"price": Decimal(200).scaleb(-15)}
    assert found.notes == ("renamed: p/x is p/x-2",)
    assert renames(before, after, Catalog.load(), ["x=x-2"]) == names
    for wrong in (["x"], ["y=x-2"]):
        with pytest.raises(BadInput):
            renames(before, after, Catalog.load(), wrong)


def test_the_catalog_knows_what_was_renamed(tmp_path: Path) -> None:
    """One provider, one model that answers, another name: a rename; two such names are none."""
    facts = tmp_path / "facts"
    facts.mkdir()
    for path in (CASES / "facts").glob("*.csv"):
        (facts / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with (facts / "prices.csv").open("a", encoding="utf-8") as file:
        for name in ("big-2", "big-3"):
            file.write(f"api/house/{name},serves,,house-big,,,,,,house-prices,,2026-01-01,published,,\n")
            file.write(
                f"api/house/{name},input_usd_per_mtok,,4,USD/Mtok,,,,,house-prices,,2026-01-01,published,,\n"
            )
    mine = Catalog.load(FACTS_DIR, facts)

    def side(*models: str) -> Statement:
        rows = [("a", model, 10, 100, 5) for model in models]
        plain = of(*rows)
        calls = tuple(
            msgspec.structs.replace(one, provider="house", offering=f"api/house/{one.model}")
            for one in plain.requests
        )
        return msgspec.structs.replace(plain, requests=calls)

    assert renames(side("big"), side("big-2"), mine) == {("house", "big"): ("house", "big-2")}
    assert renames(side("big"), side("big-2", "big-3"), mine) == {}
    assert renames(side("big"), side("big", "big-2"), mine) == {}


@pytest.mark.parametrize(
    ("threshold", "expected"), [("4", True), ("$5", False), ("100%", True), ("101%", True), ("300%", False)]
)
def test_threshold(threshold: str, expected: bool) -> None:
    million = 10**15
    found = diff(of(("a", "x", 1, 2, million)), of(("a", "x", 1, 7, million)))
    assert above(found, threshold) is expected
    with pytest.raises(BadInput, match="no threshold"):
        above(found, "much")


def test_looks_as_it_did(
    golden: Golden, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    command = [
        "diff",
        str(CASES / "september.csv"),
        str(CASES / "october.csv"),
        "--facts",
        str(CASES / "facts"),
    ]
    assert main(command) == 0
    golden.check("books_diff.txt", capsys.readouterr().out)
    assert main([*command, "--format", "github", "--fail-above", "5%"]) == 1
    golden.check("books_diff.md", capsys.readouterr().out)
    assert main([*command, "--json", "--fail-above", "6"]) == 0
    assert '"change_frac"' in capsys.readouterr().out


def test_markdown_has_a_row_for_each_effect() -> None:
    mine = Catalog.load(FACTS_DIR, CASES / "facts")
    one, two = (statement(open_trace(CASES / f"{name}.csv"), mine) for name in ("september", "october"))
    text = markdown(diff(one, two))
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:]] == [
        "price", "volume", "mix", "policy", "**total**",
    ]  # fmt: skip
    assert "api/house/big.input_usd_per_mtok@2026-10-15" in text
