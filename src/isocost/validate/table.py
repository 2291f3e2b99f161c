"""A table of known cases as rows of text, whatever file it comes in: CSV of any separator, Parquet, JSON."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from isocost.errors import BadInput
from isocost.trace.head import Head, as_json, look, rows_of_parquet

Row = tuple[dict[str, str], str]
"""Cells by column, blank where there is none, and where the row stands: file and line."""


def rows_of(file: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a file that has at least ``columns``; names of columns in any case, spaces around them.

    Raises:
        BadInput: no such file, no table, no row, or a column is missing.
    """
    head = look(file)
    found = list(
        _csv(head) if head.kind == "csv" else _parquet(head) if head.kind == "parquet" else _json(head)
    )
    names = {name for row, _ in found for name in row}
    missing = [name for name in columns if name not in names]
    if missing:
        raise BadInput(
            f"no column {', '.join(missing)}",
            where=str(file),
            fix=f"It has {', '.join(sorted(names))}; it needs {', '.join(columns)}",
        )
    return [({**dict.fromkeys(columns, ""), **row}, where) for row, where in found]


def _plain(name: object) -> str:
    return str(name).strip().lower()


def _text(value: Any) -> str:
    """A cell as text: whole numbers without a point, as a CSV would have them; blank where there is none."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _csv(head: Head) -> Iterator[Row]:
    opener = gzip.open if head.path.suffix == ".gz" else open
    try:
        with opener(head.path, "rt", encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=head.separator)
            names = [_plain(name) for name in next(reader)]
            for cells in reader:
                if cells:
                    yield dict(zip(names, cells, strict=False)), f"{head.path}:{reader.line_num}"
    except (UnicodeDecodeError, csv.Error) as wrong:
        raise BadInput(f"cannot read it: {wrong}", where=str(head.path), fix="Give CSV in UTF-8") from None


def _parquet(head: Head) -> Iterator[Row]:
    import duckdb

    with duckdb.connect() as db:
        names = [_plain(name) for name in head.columns]
        for number, cells in enumerate(rows_of_parquet(db, head.path, head.columns), 1):
            texts = [_text(as_json(cell)) for cell in cells]
            yield dict(zip(names, texts, strict=True)), f"{head.path}:{number}"


def _json(head: Head) -> Iterator[Row]:
    import msgspec

    opener = gzip.open if head.path.suffix == ".gz" else open
    with opener(head.path, "rb") as lines:
        try:
            if head.kind == "jsonl":
                found = [(at, msgspec.json.decode(line)) for at, line in enumerate(lines, 1) if line.strip()]
            else:
                held = msgspec.json.decode(lines.read())
                found = list(enumerate(held if isinstance(held, list) else [held], 1))
        except msgspec.DecodeError as wrong:
            raise BadInput(f"not JSON: {wrong}", where=str(head.path)) from None
    for at, one in found:
        if not isinstance(one, dict):
            raise BadInput("not a JSON object", where=f"{head.path}:{at}")
        yield {_plain(name): _text(value) for name, value in one.items()}, f"{head.path}:{at}"
