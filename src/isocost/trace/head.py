"""The first look at a file: what it is, which columns it has, a few of its rows."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from isocost.errors import BadTrace

if TYPE_CHECKING:
    import duckdb

Kind = Literal["csv", "jsonl", "json", "parquet", "metrics"]
"""``metrics``: a page of counters in Prometheus' text format, a line a sample."""

SAMPLE_ROWS = 200
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Head:
    """A file's kind, its columns (name to DuckDB type; of a JSON file: the keys of the sample) and a sample.

    ``sample`` are the first rows as dictionaries: texts of a CSV, values of a JSON or Parquet file.
    """

    path: Path
    kind: Kind
    columns: Mapping[str, str]
    sample: tuple[Mapping[str, Any], ...]
    separator: str = ","
    whole: bool = False
    """A JSON file that is one object over many lines (a page of an API), not an array of rows."""

    def has(self, *names: str) -> bool:
        """Whether every one of the columns is there, whatever its case."""
        mine = {name.lower() for name in self.columns}
        return all(name.lower() in mine for name in names)

    def column(self, name: str) -> str | None:
        """The column's name as the file spells it, or ``None``."""
        for mine in self.columns:
            if mine.lower() == name.lower():
                return mine
        return None

    def values(self, name: str) -> list[Any]:
        """The sample's values of a column that are not empty."""
        return [row[name] for row in self.sample if row.get(name) not in (None, "")]


_AS_UTF8 = "Save it as UTF-8: iconv -f LATIN1 -t UTF-8 OLD > NEW, or the code page that it is in"

_NO_TEXT: Mapping[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a spreadsheet or a zip archive, not a log", "Export it as CSV, or unpack it"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "Decompress it: zstd -d FILE"),
    b"BZh": ("compressed with bzip2", "Decompress it: bunzip2 FILE"),
    b"\xfd7zX": ("compressed with xz", "Decompress it: unxz FILE"),
    b"SQLi": ("a SQLite database", "Export the table of requests as CSV"),
    b"\xff\xfe": ("text in UTF-16", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
    b"\xfe\xff": ("text in UTF-16", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
}
"""What files that are no log begin with, what they are, and what to do."""


def look(path: Path) -> Head:
    """Open a file far enough to say what it is.

    Raises:
        BadTrace: it is absent, empty, a folder, or not a table.
    """
    if not path.exists():
        raise BadTrace("no such file", where=str(path), fix="Check the path")
    if path.is_dir():
        raise BadTrace("a folder, not a file", where=str(path), fix="Name one log file in it")
    if path.suffix == ".toml":
        raise BadTrace(
            "a TOML file, not a log", where=str(path), fix="A scenario is planned: isocost plan FILE"
        )
    if path.stat().st_size == 0:
        raise BadTrace("the file is empty", where=str(path), fix="Give one with at least one row")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return _parquet(path)
    if magic[:2] == b"\x1f\x8b" and path.suffix != ".gz":
        raise BadTrace("a gzip file without .gz in its name", where=str(path), fix="Rename it NAME.gz")
    for start, (what, fix) in _NO_TEXT.items():
        if magic.startswith(start):
            raise BadTrace(what, where=str(path), fix=fix)
    opener = gzip.open if magic[:2] == b"\x1f\x8b" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
            lines = [line for line in itertools.islice(text, SAMPLE_ROWS + 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise BadTrace(
            f"not a text file in UTF-8 (byte 0x{error.object[error.start]:02x})",
            where=str(path),
            fix=_AS_UTF8,
        ) from None
    except OSError as error:
        raise BadTrace(f"cannot be read ({error.strerror or error})", where=str(path)) from None
    if any("\0" in line for line in lines):
        raise BadTrace("not a text file (it holds zero bytes)", where=str(path), fix=_AS_UTF8)
    if not lines:
        raise BadTrace("the file is empty", where=str(path), fix="Give one with at least one row")
    first = lines[0].lstrip()
    if first.startswith("{"):
        return _one_object(path, lines[0]) or _json_lines(path, lines)
    if first.startswith(("# HELP ", "# TYPE ", "vllm:")):
        return Head(path, "metrics", {"sample": "VARCHAR"}, tuple({"sample": line.strip()} for line in lines))
    if first.startswith("["):
        return _json_array(path)
    if path.name.removesuffix(".gz").endswith((".json", ".jsonl")):
        raise BadTrace("not JSON: it begins neither with { nor with [", where=str(path), fix="Check the file")
    return _csv(path, lines)


def _one_object(path: Path, first: str) -> Head | None:
    """The file as one object over many lines, or ``None`` where its first line is an object by itself."""
    try:
        msgspec.json.decode(first)
    except msgspec.DecodeError:
        pass
    else:
        return None
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        try:
            row = msgspec.json.decode(file.read().removeprefix(b"\xef\xbb\xbf"))
        except msgspec.DecodeError:
            return None
    return Head(path, "json", _keys([row]), (row,), whole=True) if isinstance(row, dict) else None


def _json_lines(path: Path, lines: list[str]) -> Head:
    rows = []
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        raise BadTrace("no line is a JSON object", where=str(path), fix="Give one JSON object a line")
    return Head(path, "jsonl", _keys(rows), tuple(rows))


def _json_array(path: Path) -> Head:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        try:
            rows = msgspec.json.decode(file.read())
        except msgspec.DecodeError as error:
            raise BadTrace(f"not JSON ({error})", where=str(path)) from None
    rows = [row for row in rows if isinstance(row, dict)][:SAMPLE_ROWS]
    if not rows:
        raise BadTrace("a JSON array without objects", where=str(path))
    return Head(path, "json", _keys(rows), tuple(rows))


def _keys(rows: list[dict[str, Any]]) -> dict[str, str]:
    return dict.fromkeys(itertools.chain.from_iterable(rows), "JSON")


def _csv(path: Path, lines: list[str]) -> Head:
    counts = {separator: lines[0].count(separator) for separator in _SEPARATORS}
    separator = max(counts, key=lambda one: counts[one])
    header, *rows = csv.reader(lines, delimiter=separator)
    names = [name.strip() for name in header]
    if len({name.lower() for name in names}) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i] or not name)
        raise BadTrace(f"two columns are called {twice!r}", where=f"{path}:1", fix="Rename one")
    if all(_is_number(name) for name in names):
        raise BadTrace(
            "the first line holds numbers, not column names", where=f"{path}:1", fix="Add a header line"
        )
    if not rows:
        raise BadTrace("a header and no rows", where=str(path), fix="Give one with at least one row")
    sample = tuple(dict(zip(names, row, strict=False)) for row in rows)
    return Head(path, "csv", dict.fromkeys(names, "VARCHAR"), sample, separator)


def _parquet(path: Path) -> Head:
    import duckdb

    with duckdb.connect() as con:
        try:
            con.execute("DESCRIBE SELECT * FROM read_parquet($1)", [str(path)])
        except duckdb.Error as error:
            said = str(error).splitlines()[0].partition(" in file ")[0].removeprefix("Invalid Input Error: ")
            raise BadTrace(f"not a readable Parquet file ({said})", where=str(path)) from None
        columns = {row[0]: row[1] for row in con.fetchall()}
        rows = rows_of_parquet(con, path, columns, SAMPLE_ROWS)
        sample = tuple(dict(zip(columns, row, strict=True)) for row in rows)
    if not sample:
        raise BadTrace("a Parquet file without rows", where=str(path))
    return Head(path, "parquet", columns, sample)


def rows_of_parquet(
    con: duckdb.DuckDBPyConnection, path: Path, columns: Mapping[str, str], most: int | None = None
) -> list[tuple[Any, ...]]:
    """All columns (name to type) of a Parquet file's rows, or of its first ``most``; times with a zone as UTC
    without one, also within structs, lists and maps.

    The database's Python interface gives times with a zone only where another package is installed.
    """
    changed = []
    for name, kind in columns.items():
        if (plain := _without_zones(kind)) != kind:
            quoted = '"' + name.replace('"', '""') + '"'
            changed.append(f"CAST({quoted} AS {plain}) AS {quoted}")
    replaced = f" REPLACE ({', '.join(changed)})" if changed else ""
    limit = "" if most is None else f" LIMIT {most}"
    con.execute("SET TimeZone = 'UTC'")
    return con.execute(f"SELECT *{replaced} FROM read_parquet($1){limit}", [str(path)]).fetchall()


def as_json(value: Any) -> Any:
    """A cell as a JSON file would hold it: numbers, truths, texts, and lists and objects of these.

    >>> from datetime import date
    >>> as_json({1: [date(2026, 11, 1), True], "a": 0.5})
    {'1': ['2026-11-01', True], 'a': 0.5}
    """
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _without_zones(kind: str) -> str:
    """A type of the database without zones of times; what is quoted in it is a name.

    >>> _without_zones('STRUCT("TIMESTAMP WITH TIME ZONE" TIMESTAMP WITH TIME ZONE)[]')
    'STRUCT("TIMESTAMP WITH TIME ZONE" TIMESTAMP)[]'
    """
    parts = re.split(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')""", kind)
    return "".join(
        part if i % 2 else part.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMP")
        for i, part in enumerate(parts)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
