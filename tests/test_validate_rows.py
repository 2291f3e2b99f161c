"""Tables of known cases are read alike from any kind of file, and refused in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from isocost.errors import BadInput
from isocost.validate.table import rows_of

COLUMNS = ("id", "value")
ROWS = [{"id": "a", "value": "1", "note": "x, y"}, {"id": "b", "value": "0.25", "note": ""}]


def _csv(path: Path, names: Sequence[str], rows: list[dict[str, str]], **how: str) -> None:
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        out = csv.writer(file, **how)  # type: ignore[call-overload]
        out.writerow(names)
        out.writerows(list(row.values()) for row in rows)


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({**row, "value": float(row["value"])}) + "\n" for row in ROWS))


def _parquet(path: Path) -> None:
    values = ", ".join(f"('{row['id']}', {row['value']}::DOUBLE, '{row['note']}')" for row in ROWS)
    duckdb.execute(f"COPY (SELECT * FROM (VALUES {values}) t(id, value, note)) TO '{path}' (FORMAT parquet)")


WAYS: dict[str, Callable[[Path], object]] = {
    "plain": lambda path: _csv(path, list(ROWS[0]), ROWS),
    "byte order mark": lambda path: _csv(path, list(ROWS[0]), ROWS, encoding="utf-8-sig"),
    "windows": lambda path: _csv(path, list(ROWS[0]), ROWS, lineterminator="\r\n"),
    "semicolons": lambda path: _csv(path, list(ROWS[0]), ROWS, delimiter=";"),
    "upper case": lambda path: _csv(path, [" ID", "Value ", "NOTE"], ROWS),
    "json lines": _jsonl,
    "json": lambda path: path.write_text(json.dumps(ROWS)),
    "parquet": _parquet,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_rows_in_any_file(way: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    WAYS[way](path)
    assert [row for row, _ in rows_of(path, COLUMNS)] == ROWS


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the file is empty"),
        (b"id,value\n", "a header and no rows"),
        (b"id,note\na,b\n", r"no column value\. It has id, note; it needs id, value"),
        (b'{"id": 1, "value": 2}\n[1]\n', "table:2: not a JSON object"),
        (b"id,value\n\xe9,1\n", "not a text file in UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(body: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(body)
    with pytest.raises(BadInput, match=says):
        rows_of(path, COLUMNS)
