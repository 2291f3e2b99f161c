"""Logs without dates are priced as if they had begun on a day; logs are read for whose calls they are."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from isocost.books.dated import starting
from isocost.books.reconcile import Log, reconcile
from isocost.books.statement import Statement, statement
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.cli.root import main
from isocost.errors import BadInput
from isocost.trace import open_trace
from isocost.trace.invoices import read_invoice
from isocost.trace.schema import Outcome

CASES = Path(__file__).parent / "cases"
FACTS = CASES / "books" / "facts"


@pytest.fixture(scope="module")
def mine() -> Catalog:
    return Catalog.load(FACTS_DIR, FACTS)


@pytest.fixture
def relative(tmp_path: Path) -> Path:
    """Two calls, the second a day and a half after the first."""
    path = tmp_path / "log.csv"
    path.write_text(
        "ts_s,model,input_tok,output_tok\n0,house/big,1000000,0\n129600,house/big,1000000,0\n",
        encoding="utf-8",
    )
    return path


def test_a_price_of_the_day_that_is_said(relative: Path, mine: Catalog) -> None:
    """The price rises from 2 to 3 dollars on 15 October."""
    trace = open_trace(relative)
    for on, usd in (("2026-10-01", 4), ("2026-10-14", 5), ("2026-10-15", 6)):
        found = statement(starting(trace, on), mine)
        assert found.total_usd == usd
        assert found.start.date() == date.fromisoformat(on)
    with pytest.raises(BadInput, match="is no day"):
        starting(trace, "yesterday")
    with pytest.raises(BadInput, match="dates of its own"):
        starting(open_trace(CASES / "books" / "october.csv"), "2026-10-01")


def test_the_command(relative: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bill", str(relative), "--facts", str(FACTS)]
    assert main(command) == 2
    assert "--at 2026-10-01" in capsys.readouterr().err
    assert main([*command, "--at", "2026-10-14", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["usd"].startswith("5.0")


def test_whose_calls_they_are(tmp_path: Path, mine: Catalog) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "time,model,input_tok,output_tok,project_id,api_key_id,deployment\n"
        "2026-10-01T09:00:00Z,house/big,1000000,0,p-1,k-1,eu\n2026-10-01T10:00:00Z,house/big,1000000,0,p-2,k-1,us\n",
        encoding="utf-8",
    )
    plain = statement(open_trace(path), mine)
    assert plain.by("account", "credential") == {("", ""): 4 * 10**15}
    found = statement(open_trace(path, who=True), mine)
    assert found.by("account", "deployment") == {("p-1", "eu"): 2 * 10**15, ("p-2", "us"): 2 * 10**15}
    assert found.by("credential") == {("k-1",): 4 * 10**15}
    found.write(tmp_path)
    assert Statement.read(tmp_path) == found
    named = statement(open_trace(path, who=True, mapping={"account": "deployment"}), mine)
    assert set(named.by("account")) == {("eu",), ("us",)}


def test_a_usage_report_as_a_log_has_no_hours(tmp_path: Path, catalog: Catalog) -> None:
    """OpenAI's usage pages as the log of its costs: days without hours are no silence."""
    trace = open_trace(CASES / "usage" / "openai_usage.json", who=True)
    log = Log(trace, catalog)
    days = sorted({line.day for line in log.found.lines})
    assert {log.dark.hours(day) for day in days} == {(0, 0)}
    bill = sum(line.amount_fusd for line in log.found.lines if line.day == days[0] and line.rate_fusd)
    path = tmp_path / "invoice.csv"
    rows = [f"{day},usage,{bill / 1e15 + 1:.9f},USD" for day in days]
    path.write_text("\n".join(["date,description,amount,currency", *rows]), encoding="utf-8")
    found = reconcile(log, "openai", [read_invoice(path, "openai")])
    assert {one.name for one in found.residuals} <= {"unexplained", "unpriced usage", "rounding"}


def test_rows_stay_in_order_where_ids_repeat(tmp_path: Path) -> None:
    """A log of several row groups, in order, a few ids twice: the look-up of ids must not shuffle it."""
    path = tmp_path / "log.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("time,model,input_tok,output_tok,request_id\n")
        for row in range(260_000):
            ident = row - 1 if row % 50_000 == 1 else row
            file.write(f"{1_790_000_000 + row},m,10,1,r{ident}\n")
    table = open_trace(path).table()
    assert (np.diff(table.arrival_ns) > 0).all()
    assert (table.outcome == int(Outcome.DUPLICATE)).sum() == 6
