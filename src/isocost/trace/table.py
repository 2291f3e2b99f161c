"""A file as a table of cells, for files that are no log: CSV of any separator, or Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from isocost.errors import BadInput
from isocost.trace.head import look
from isocost.trace.sql import literal, relation

Row = tuple[object, ...]

_ROWS = 20_000
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_CELLS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")


def cells(path: Path) -> tuple[list[str], list[Row]]:
    """Names of the columns in lower case, and the rows: texts of a CSV, ``None`` where nothing stands;
    values of a Parquet file.

    Raises:
        BadInput: no such file, a folder, an empty one, no table, or a line that does not fit its header.
    """
    names: list[str] = []
    out: list[Row] = []
    for heads, rows in some_cells(path):
        names = heads
        out += rows
    return names, out


def some_cells(path: Path) -> Iterator[tuple[list[str], list[Row]]]:
    """:func:`cells`, some thousand rows at a time; once at least."""
    import duckdb

    head = look(path)
    if head.kind not in ("csv", "parquet"):
        raise BadInput("JSON, not a table", where=str(path), fix="Write it as CSV or Parquet")
    if head.kind == "parquet":
        source = relation(head)
    else:
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in head.columns)
        source = (
            f"read_csv({literal(str(path))}, columns={{{columns}}}, delim={literal(head.separator)}, "
            "quote='\"', escape='\"', header=true, auto_detect=false, max_line_size=67108864)"
        )
    try:
        with duckdb.connect() as con:
            found = con.execute(f"SELECT * FROM {source}")
            names = [str(one[0]).lower() for one in found.description or ()]
            rows = found.fetchmany(_ROWS)
            while True:
                yield names, rows
                rows = found.fetchmany(_ROWS)
                if not rows:
                    return
    except duckdb.Error as wrong:
        raise _unreadable(path, str(wrong)) from None


def _unreadable(path: Path, said: str) -> BadInput:
    """The database's many lines on what it could not read, as one."""
    line = _LINE.search(said)
    where = f"{path}:{line[1]}" if line else str(path)
    if counts := _CELLS.search(said):
        return BadInput(
            f"{counts[2]} cells, the header has {counts[1]}", where=where, fix="Mend or remove the line"
        )
    if "unterminated quote" in said:
        return BadInput("a quote that does not end", where=where, fix="Close it, or double it")
    if "utf-8" in said.lower() or "unicode" in said.lower():
        return BadInput("not a text file in UTF-8", where=where, fix="Save it as UTF-8")
    return BadInput(f"cannot be read: {said.splitlines()[0]}", where=where)
