"""The catalog: what is in force on a day, what is unknown, and what is wrong with a row."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog import Attribute, Catalog, Fact, Source
from isocost.catalog.catalog import COLUMNS, FACTS_DIR
from isocost.catalog.check import canonical, check
from isocost.catalog.listing import kinds, show, subjects
from isocost.errors import BadFact, UnknownFact

ON = date(2026, 11, 20)


def fact(value: float, since: date | None, until: date | None = None, **other: object) -> Fact:
    row: dict[str, object] = {
        "subject": "api/p/m", "attribute": "input_usd_per_mtok", "when": "", "unit": "USD/Mtok", "low": None,
        "high": None, "source": "s", "quote": "", "checked": date(2026, 1, 1), "kind": "published",
        "boundary": "", "note": "",
    }  # fmt: skip
    return Fact(**{**row, "value": value, "valid_from": since, "valid_to": until, **other})  # type: ignore[arg-type]


def small(*facts: Fact) -> Catalog:
    source = Source("s", "S", "https://example.org", "", "", date(2026, 1, 1), "")
    spec = Attribute("api", "input_usd_per_mtok", "number", "USD/Mtok", "", "isocost.catalog.prices")
    return Catalog(facts, {"s": source}, {("api", "input_usd_per_mtok"): spec}, "basis")


@given(
    st.lists(st.dates(date(2024, 1, 1), date(2026, 12, 1)), min_size=1, max_size=5, unique=True),
    st.dates(date(2023, 1, 1), date(2027, 1, 1)),
)
def test_a_price_holds_from_its_first_day_until_the_next(starts: list[date], on: date) -> None:
    starts.sort()
    catalog = small(*(fact(float(n), start) for n, start in enumerate(starts)))
    in_force = [n for n, start in enumerate(starts) if start <= on]
    found = catalog.at(on).find("api/p/m", "input_usd_per_mtok")
    assert (found.value if found else None) == (in_force[-1] if in_force else None)
    # Right-continuous: nothing changes between a day and the next unless a price starts on the next.
    after = catalog.at(on + timedelta(days=1)).find("api/p/m", "input_usd_per_mtok")
    assert (after == found) or (on + timedelta(days=1)) in starts


def test_the_end_is_exclusive_and_the_announced_does_not_compute() -> None:
    catalog = small(fact(1.0, None, date(2026, 12, 1)), fact(2.0, date(2026, 12, 1), kind="expected"))
    assert catalog.at(date(2026, 11, 30)).number("api/p/m", "input_usd_per_mtok") == 1.0
    with pytest.raises(UnknownFact, match=r"no fact 'input_usd_per_mtok' on 2026-12-01"):
        catalog.at(date(2026, 12, 1)).fact("api/p/m", "input_usd_per_mtok")
    expected = catalog.at(date(2026, 12, 1), expected=True)
    assert expected.number("api/p/m", "input_usd_per_mtok") == 2.0


def test_unknown_facts_name_what_is_near(catalog: Catalog) -> None:
    with pytest.raises(UnknownFact, match=r"Near: .*api/openai/gpt-4o"):
        catalog.at(ON).fact("api/openai/gpt-4oo", "input_usd_per_mtok")
    with pytest.raises(UnknownFact, match="input_usd_per_mtok"):
        catalog.at(ON).fact("api/openai/gpt-4o", "input_usd_per_mtokk")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("api/x/m,input_usd_per_mtok,,abc,USD/Mtok,,,,,s,,2026-01-01,published,,", "'abc' is not a number"),
        ("api/x/m,input_usd_per_mtok,,nan,USD/Mtok,,,,,s,,2026-01-01,published,,", "not a finite number"),
        ("api/x/m,input_usd_per_mtok,,,USD/Mtok,,,,,s,,2026-01-01,published,,", "no value"),
        ("api/x/m,input_usd_per_mtok,,1,USD/Mtok,,,,,s,,,published,,", "no date of checking"),
        ("api/x/m,input_usd_per_mtok,,1,USD/Mtok,,,2026-13-01,,s,,2026-01-01,published,,", "is not a date"),
        ("api/x/m,input_usd_per_mtok,,1,USD/Mtok,,,,,s,,2026-01-01,guessed,,", "kind 'guessed'"),
        ("api/x/m,input_per_mtok,,1,USD/Mtok,,,,,s,,2026-01-01,published,,", "not in attributes.csv"),
        ("api/x/m,input_usd_per_mtok,1", "3 fields, the header has 15"),
    ],
)
def test_a_bad_row_of_ones_own_says_where(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(",".join(COLUMNS) + "\n" + row + "\n")
    with pytest.raises(BadFact, match=message) as caught:
        Catalog.load(FACTS_DIR, tmp_path)
    assert "mine.csv:2" in caught.value.line()


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("subject,attribute,value,source,checked,kind,price\n")
    with pytest.raises(BadFact, match="'price' is not one of a fact"):
        Catalog.load(FACTS_DIR, tmp_path)


def test_loading_is_quick() -> None:
    """Against reading the same rows, since a second of a busy machine does less than one of an idle one."""

    def least_s(work: Callable[[], object]) -> float:
        spent = []
        for _ in range(3):
            start = time.process_time()
            work()
            spent.append(time.process_time() - start)
        return min(spent)

    def read() -> list[list[list[str]]]:
        return [list(csv.reader(path.read_text().splitlines())) for path in FACTS_DIR.glob("*.csv")]

    assert least_s(lambda: Catalog.load(FACTS_DIR)) < 8 * least_s(read)


def test_shipped_prices_are_whole(catalog: Catalog) -> None:
    """What a snapshot of prices must hold; other files are checked by whoever writes them."""
    mine = ("api_prices.csv", "offers.csv", "provider_rules.csv")
    wrong = [p for p in check(catalog, date(2026, 11, 30)) if p.where.startswith(mine)]
    assert not wrong, "\n".join(p.line() for p in wrong)


def test_open_weights_have_several_hosts(catalog: Catalog) -> None:
    at = catalog.at(ON)
    hosts: dict[str, set[str]] = {}
    for served in at.each("api/", "serves"):
        if catalog.about(f"model/{served.value}") and not at.find(served.subject, "deprecated"):
            hosts.setdefault(str(served.value), set()).add(served.subject.split("/")[1])
    assert sum(len(found) >= 5 for found in hosts.values()) >= 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([fact(1.0, None), fact(2.0, date(2026, 1, 1))], "both hold from 2026-01-01"),
        ([fact(1.0, None, source="nowhere")], "source 'nowhere' is not in sources.csv"),
        ([fact(1.0, None, unit="EUR")], "unit 'EUR', the attribute's is 'USD/Mtok'"),
        ([fact(1.0, date(2026, 2, 1), date(2026, 2, 1))], "before it starts"),
        ([fact(1.0, None, checked=date(2030, 1, 1))], "to come"),
        ([fact(1.0, None, quote="word " * 26)], "26 words"),
        ([fact(1.0, None, when="tier=batch;band=>10")], "not canonical"),
        ([fact(1.0, None, low=2.0)], "below its low"),
        ([fact(1.0, None, high=0.5)], "above its high"),
        ([fact(1.0, None, kind="assumed")], "without its reason"),
    ],
)
def test_check_finds(wrong: list[Fact], message: str) -> None:
    found = [problem.line() for problem in check(small(*wrong), date(2026, 11, 22))]
    assert any(message in line for line in found), found
    right = [problem.line() for problem in check(small(fact(1.0, None)), date(2026, 11, 22))]
    assert not any(message in line for line in right)


def test_check_finds_what_nothing_uses() -> None:
    catalog = small(fact(1.0, None))
    catalog.attributes["api", "colour"] = Attribute("api", "colour", "text", "", "", "isocost.nowhere")
    catalog.sources["t"] = Source("t", "T", "", "", "", date(2026, 1, 1), "")
    lines = "\n".join(problem.line() for problem in check(catalog, date(2026, 11, 22)))
    assert "module 'isocost.nowhere' does not exist" in lines
    assert "no fact has this attribute" in lines
    assert "no fact names this source" in lines


def test_canonical_when() -> None:
    assert canonical("tier=batch; band=>272000") == "band=>272000;tier=batch"


def test_listing(catalog: Catalog) -> None:
    at = catalog.at(ON)
    assert {"api", "model", "gpu"} <= {kind.kind for kind in kinds(at)}
    assert any(row.subject == "api/openai/gpt-4o" for row in subjects(at, "api/openai/"))
    rows = show(at, "api/openai/o3")
    assert any(r.attribute == "output_usd_per_mtok" and r.value == "8" and r.in_force for r in rows)
    assert any(r.value == "40" and not r.in_force and r.until == "2025-06-10" for r in rows)
    with pytest.raises(UnknownFact, match="Near"):
        show(at, "api/openai/o33")
    with pytest.raises(UnknownFact, match="Near"):
        subjects(at, "openai/gpt-4o")


def test_what_ships_is_sound(catalog: Catalog) -> None:
    assert [problem.line() for problem in check(catalog)] == []
