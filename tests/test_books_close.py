"""A closed month never changes; what changed since is said line by line and sums to the change."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest

from golden import Golden
from isocost.books.close import Closed, close, read_closed, restate, write_restatement
from isocost.books.statement import Statement, statement
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.cli.root import main
from isocost.errors import BadInput
from isocost.trace.open import open_trace

CASES = Path(__file__).parent / "cases" / "books"
ON = date(2026, 11, 2)


@pytest.fixture(scope="module")
def mine() -> Catalog:
    return Catalog.load(FACTS_DIR, CASES / "facts")


@pytest.fixture(scope="module")
def october(mine: Catalog) -> Statement:
    return statement(open_trace(CASES / "october.csv"), mine)


@pytest.fixture
def closed(mine: Catalog, october: Statement, tmp_path: Path) -> Closed:
    return close(october, mine, "2026-10", tmp_path / "books", overlay="", on=ON)


def cheaper(folder: Path) -> Path:
    """The same facts, but the price of 15 October is 2.5 instead of 3."""
    folder.mkdir()
    for path in (CASES / "facts").glob("*.csv"):
        text = path.read_text(encoding="utf-8").replace(",,3,USD/Mtok", ",,2.5,USD/Mtok")
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def shorter(path: Path) -> Path:
    """October without its fifth day."""
    lines = (CASES / "october.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("2026-10-05")), encoding="utf-8")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_closed_is_what_was_billed(closed: Closed, october: Statement) -> None:
    assert closed.statement == october.within("2026-10")
    assert closed.manifest.total_usd == format(october.total_usd, "f")
    ids = {ident for line in closed.statement.lines for ident in line.facts}
    assert {row.id for row in closed.facts} == ids


def test_nothing_changed_is_nothing_to_say(closed: Closed, mine: Catalog, october: Statement) -> None:
    assert restate(closed, october, mine, "").lines == ()


def test_a_late_price_names_its_fact(closed: Closed, tmp_path: Path) -> None:
    catalog = Catalog.load(FACTS_DIR, cheaper(tmp_path / "facts"))
    found = restate(closed, statement(open_trace(CASES / "october.csv"), catalog), catalog, "")
    assert [(line.kind, line.said) for line in found.lines] == [
        ("price", "api/house/big.input_usd_per_mtok@2026-10-15 (3.0 to 2.5)")
    ]
    assert found.lines[0].usd == found.change_usd < 0


def test_late_rows_are_named_and_everything_sums(closed: Closed, tmp_path: Path) -> None:
    catalog = Catalog.load(FACTS_DIR, cheaper(tmp_path / "facts"))
    trace = open_trace(shorter(tmp_path / "october.csv"))
    found = restate(closed, statement(trace, catalog), catalog, "[[discount]]\npercent = 10\n")
    assert {line.kind for line in found.lines} == {"usage", "price", "overlay"}
    assert sum(line.usd for line in found.lines) == found.change_usd == found.now_usd - found.closed_usd
    assert "2026-10-05 acme/docs house/big: 2 to 0 requests" in [line.said for line in found.lines]


def test_files_that_changed_are_refused(closed: Closed, tmp_path: Path) -> None:
    folder = tmp_path / "books" / "2026-10"
    assert read_closed(folder) == closed
    (folder / "overlay.toml").write_text("discount = 0.2\n", encoding="utf-8")
    with pytest.raises(BadInput, match="is not what was closed"):
        read_closed(folder)
    with pytest.raises(BadInput, match="not a closed month"):
        read_closed(tmp_path)


def test_a_month_is_closed_once_and_when_it_is_over(
    closed: Closed, mine: Catalog, october: Statement, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="is closed already"):
        close(october, mine, "2026-10", tmp_path / "books", overlay="", on=ON)
    with pytest.raises(BadInput, match="is not over"):
        close(october, mine, "2026-10", tmp_path / "new", overlay="", on=date(2026, 10, 31))
    with pytest.raises(BadInput, match="no rows of 2026-08"):
        close(october, mine, "2026-08", tmp_path / "new", overlay="", on=ON)
    assert not (tmp_path / "new").exists()


def test_a_restatement_is_written_once(closed: Closed, mine: Catalog, tmp_path: Path) -> None:
    books = tmp_path / "books"
    was = content(books / "2026-10")
    trace = open_trace(shorter(tmp_path / "october.csv"))
    found = restate(closed, statement(trace, mine), mine, "")
    path, new = write_restatement(found, books)
    assert (path.name, new) == ("2026-10.restatement-1.toml", True)
    assert write_restatement(found, books) == (path, False)
    other = msgspec.structs.replace(found, lines=found.lines[:1])
    assert write_restatement(other, books)[0].name == "2026-10.restatement-2.toml"
    assert content(books / "2026-10") == was


def test_looks_as_it_did(
    golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    facts = ["--facts", str(CASES / "facts")]
    assert main(["close", "2026-10", str(CASES / "october.csv"), *facts]) == 0
    said = capsys.readouterr().out
    assert main(["close", "2026-10", str(CASES / "october.csv"), *facts]) == 0
    said += capsys.readouterr().out
    assert main(["close", "2026-10", str(shorter(tmp_path / "october.csv")), *facts]) == 1
    # The price basis names all shipped facts too, which change.
    said += capsys.readouterr().out
    golden.check(
        "books_close.txt", "\n".join(line.partition(", price basis")[0] for line in said.splitlines())
    )
