"""Cited bills, digit for digit: each case hits one billing rule of one provider."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from isocost.bill import STATUS, price_columns
from isocost.catalog import Catalog
from isocost.catalog.names import resolve
from isocost.errors import BadInput, UnknownFact
from isocost.validate.bills import COLUMNS, bills

CASES = Path(__file__).parent / "cases" / "bills.csv"
MTOK = Decimal(1_000_000)
RATES = {
    "i": "input_uncached", "cr": "cache_read", "w5": "cache_write_5m", "w1": "cache_write_1h",
    "o": "output_total", "ai": "audio_in", "acr": "audio_cached", "ao": "audio_out",
}  # fmt: skip
"""Names in ``expected_rates`` to the columns that they price, in USD for a million tokens; ``ws`` is for a
search and ``rq`` for the request."""


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def by_hand(row: dict[str, str]) -> Decimal:
    """The bill from the rates that the row states."""
    total = Decimal(0)
    for name, rate in (part.split("=") for part in row["expected_rates"].split(";")):
        if name == "rq":
            total += Decimal(rate)
        elif name == "ws":
            total += Decimal(rate) * int(row["web_searches"])
        else:
            count = int(row[RATES[name]]) - (int(row["audio_out"]) if name == "o" else 0)
            total += Decimal(rate) * count / MTOK
    return total


@pytest.mark.parametrize("row", rows(CASES), ids=lambda row: row["id"])
def test_the_stated_bill_follows_from_the_stated_rates(row: dict[str, str]) -> None:
    assert row["why"]
    assert row["source"]
    if row["expected_usd"] == "unpriced":
        assert not row["expected_rates"]
    else:
        assert by_hand(row) == Decimal(row["expected_usd"].removeprefix(">="))


def test_every_case_is_right_to_the_digit(catalog: Catalog) -> None:
    result = bills(catalog, CASES)
    assert [f"{case.id}: {case.why}" for case in result.cases if not case.passed] == []


def test_columns_say_the_same(catalog: Catalog) -> None:
    """The columnar bill of all cases at once: the same amounts and the same words."""
    found, offerings = [], []
    for row in rows(CASES):
        at = datetime.fromisoformat(row["at"])
        try:
            offerings.append(resolve(catalog.at(at.date()), row["model"], row["provider"]))
        except UnknownFact:
            continue
        found.append((row, at))
    tiers = sorted({row["tier"] for row, _ in found})
    for region in sorted({row["region"] for row, _ in found}):
        here = [n for n, (row, _) in enumerate(found) if row["region"] == region]
        counts = {name: np.array([int(found[n][0][name]) for n in here]) for name in COLUMNS[6:16]}
        columns = {
            "offering": np.array(here),
            "tier": np.array([tiers.index(found[n][0]["tier"]) for n in here]),
            "arrival_ns": np.array([int(found[n][1].timestamp()) * 10**9 for n in here]),
            "input_tok": sum(counts[name] for name in COLUMNS[6:10])
            + counts["audio_in"]
            + counts["audio_cached"],
            "cached_tok": counts["cache_read"] + counts["audio_cached"],
            "cache_write_tok": counts["cache_write_5m"],
            "cache_write_1h_tok": counts["cache_write_1h"],
            "output_tok": counts["output_total"],
            "audio_input_tok": counts["audio_in"],
            "audio_cached_tok": counts["audio_cached"],
            "audio_output_tok": counts["audio_out"],
            "web_searches": counts["web_searches"],
        }
        bill = price_columns(catalog, offerings, columns, tiers=tiers, region=region)
        for place, n in enumerate(here):
            row, expected = found[n][0], found[n][0]["expected_usd"]
            said = STATUS[bill.status[place]]
            assert said == (
                "unpriced" if expected == "unpriced" else "partial" if ">" in expected else "priced"
            ), row
            if said != "unpriced":
                usd = Decimal(int(bill.amount_fusd[place])).scaleb(-15)
                assert usd == Decimal(expected.removeprefix(">=")), row


def test_the_cases_are_many_and_of_every_provider() -> None:
    found = rows(CASES)
    assert len(found) >= 150
    assert len({row["id"] for row in found}) == len(found)
    assert len({row["why"] for row in found}) > 0.9 * len(found), "each case tests something of its own"
    providers = Counter(row["id"].partition("-")[0] for row in found)
    assert len(providers) >= 18
    assert sum(row["expected_usd"] == "unpriced" for row in found) >= 10


def test_the_cases_for_testing_are_right(catalog: Catalog, data_dir: Path) -> None:
    result = bills(catalog, data_dir / "pricing" / "cases.csv")
    assert result.failed_ids == ()
    assert result.passed == 39


def test_a_wrong_bill_fails(catalog: Catalog, tmp_path: Path) -> None:
    """A case off by the last digit, one that is priced though it should not be, and the reverse."""
    row = next(row for row in rows(CASES) if row["id"] == "oa-01")
    wrong = [
        {**row, "id": "off", "expected_usd": "0.0270000001"},
        {**row, "id": "free", "expected_usd": "unpriced"},
        {**row, "id": "bound", "expected_usd": ">=0.027"},
        {**row, "id": "unknown", "model": "gpt-9-imaginary"},
        {**row, "id": "right"},
    ]
    file = tmp_path / "bills.csv"
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(wrong)
    result = bills(catalog, file)
    assert result.failed_ids == ("off", "free", "bound", "unknown")
    assert result.passed_ids == ("right",)
    assert "unpriced" in result.cases[1].why


def test_a_file_without_the_columns_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "bills.csv"
    file.write_text("id,provider\nx,openai\n")
    with pytest.raises(BadInput, match="no column model"):
        bills(catalog, file)
