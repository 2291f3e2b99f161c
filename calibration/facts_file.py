"""How scripts here write facts: the columns of the catalog, a number in five digits, a file whole or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from isocost.catalog.catalog import COLUMNS, FACTS_DIR

__all__ = ["COLUMNS", "FACTS_DIR", "digits", "fact", "write"]


def digits(value: object) -> str:
    """A value as a facts file has it: five digits of a float, everything else as it is."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def fact(subject: str, attribute: str, value: object, unit: str = "", **more: object) -> dict[str, str]:
    """One row; ``more`` are other columns by name, blank where they are not given.

    Raises:
        TypeError: a column that facts do not have.
    """
    strange = set(more) - set(COLUMNS)
    if strange:
        raise TypeError(f"facts have no column {', '.join(sorted(strange))}")
    said = {"subject": subject, "attribute": attribute, "value": value, "unit": unit} | more
    return {name: digits(said.get(name, "")) for name in COLUMNS}


def write(file: str | Path, rows: Iterable[Mapping[str, object] | Sequence[object]]) -> None:
    """Replace a file (one of the shipped facts where only its name is given) by these rows.

    Rows are mappings by column, or values in the order of the columns.
    """
    path = FACTS_DIR / file if isinstance(file, str) else file
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    for row in rows:
        out.writerow([row.get(name, "") for name in COLUMNS] if isinstance(row, Mapping) else row)
    part = path.with_suffix(".part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(path)
