"""FOCUS rows: exact arithmetic, whole half-open periods, and the same content as CSV and Parquet."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest

from golden import Golden
from isocost.books.focus import COLUMNS, COSTS, Row, csv_text, problems, rows, write
from isocost.books.statement import Line, Requests, Statement, statement
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.cli.root import main
from isocost.errors import BadInput
from isocost.trace.open import open_trace
from isocost.trace.schema import utc

CASES = Path(__file__).parent / "cases" / "books"


@pytest.fixture(scope="module")
def october() -> Statement:
    return statement(open_trace(CASES / "october.csv"), Catalog.load(FACTS_DIR, CASES / "facts"))


@pytest.fixture(scope="module")
def charges(october: Statement) -> list[Row]:
    return list(rows(october))


def test_rows_sum_to_the_statement(charges: list[Row], october: Statement) -> None:
    assert problems(charges) == []
    for column in ("list_cost", "contracted_cost", "billed_cost", "effective_cost"):
        assert sum(getattr(row, column) for row in charges) == october.total_usd
    assert sum(row.pricing_quantity for row in charges) == sum(line.quantity for line in october.lines)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pricing_quantity": -1}, "usage is negative"),
        ({"pricing_unit": "tok"}, "unit 'tok' is not known"),
        ({"list_cost": Decimal(1)}, "list unit price is not the list cost"),
        ({"contracted_cost": Decimal(1)}, "contracted unit price is not"),
        ({"charge_period_end": datetime(2026, 9, 1, tzinfo=UTC)}, "does not end after it starts"),
        ({"charge_period_end": datetime(2026, 11, 2, tzinfo=UTC)}, "not within the billing period"),
        ({"sku_meter": "smells"}, "meter 'smells' is not known"),
    ],
)
def test_what_does_not_add_up_is_refused(
    changed: dict[str, object], says: str, charges: list[Row], tmp_path: Path
) -> None:
    wrong = [charges[0], msgspec.structs.replace(charges[1], **changed)]
    assert any(one.startswith("row 2: ") and says in one for one in problems(wrong))
    with pytest.raises(BadInput, match="rows do not add up"):
        write(wrong, tmp_path / "focus.csv")
    assert list(tmp_path.iterdir()) == []


def test_csv_and_parquet_say_the_same(charges: list[Row], tmp_path: Path, october: Statement) -> None:
    write(charges, tmp_path / "focus.csv")
    write(charges, tmp_path / "focus.parquet")
    read = list(csv.DictReader(io.StringIO((tmp_path / "focus.csv").read_text(encoding="utf-8"))))
    assert [tuple(row) for row in read[:1]] == [COLUMNS]
    with duckdb.connect() as db:
        names = (*COSTS, "PricingQuantity", "SkuPriceId", "epoch(ChargePeriodStart)")
        found = db.execute(
            f"SELECT {', '.join(names)} FROM read_parquet(?)", [str(tmp_path / "focus.parquet")]
        ).fetchall()
    assert len(found) == len(read) == len(charges)
    for row, text in zip(found, read, strict=True):
        assert list(row[:5]) == [Decimal(text[name]) for name in names[:5]]
        assert row[5] == text["SkuPriceId"]
        assert row[6] == datetime.fromisoformat(text["ChargePeriodStart"]).timestamp()
    with pytest.raises(BadInput, match="is no format"):
        write(charges, tmp_path / "focus.xlsx")


def test_columns_are_spelled_as_the_specification_does() -> None:
    assert {"SkuId", "SkuMeter", "SkuPriceId", "BillingPeriodStart", "ListUnitPrice", "Tags"} <= set(COLUMNS)
    assert all(name[0].isupper() and "_" not in name for name in COLUMNS)


def test_what_has_no_price_is_no_row() -> None:
    line = Line("2026-10-01T05", "p", "m", "", "standard", "", "", "", "input", 7, None)
    calls = Requests("2026-10-01T05", "p", "m", "", "standard", "", "", "", 1, 0, 1)
    found = Statement(
        "log", "", "", utc(0), utc(0), (line, msgspec.structs.replace(line, rate_fusd=3)), (calls,)
    )
    charges = list(rows(found))
    assert [row.list_cost for row in charges] == [Decimal("21e-15")]
    assert (charges[0].charge_period_end - charges[0].charge_period_start).total_seconds() == 3600
    assert csv_text(charges).splitlines()[1].count("0.000000000000021") == 4


def test_looks_as_it_did(golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "focus.csv"
    command = [
        "export",
        "focus",
        str(CASES / "october.csv"),
        "--facts",
        str(CASES / "facts"),
        "--out",
        str(out),
    ]
    assert main(command) == 0
    golden.check("books_focus.txt", capsys.readouterr().out.replace(str(tmp_path), "."))
    head = out.read_text(encoding="utf-8").splitlines()[:4]
    golden.check("books_focus.csv", "\n".join(head).replace(basis(), "BASIS"))
    assert main([*command, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["rows"] == 282


def basis() -> str:
    return Catalog.load(FACTS_DIR, CASES / "facts").basis
