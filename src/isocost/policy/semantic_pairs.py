"""Files of questions and pairs that a semantic cache is certified on, and pairs of a log for people to grade.

Three kinds. ``text, label``: questions of which equal labels have one answer; with a column ``timestamp``
they come in its order, else in a random one. A column ``session`` or ``user`` says which are drawn together,
one ``tenant`` which share no answers. ``text_a, text_b, label``: pairs, where 1 means one answer; the
first is in the cache when the second is asked. ``asked_line, held_line, same``: pairs of a log
(:func:`template`), graded by people; their words are in the log.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isocost.errors import BadInput
from isocost.policy.semantic_study import Asked, Grade, Pair
from isocost.trace.table import cells

SEED = 20_261_123
COLUMNS = ("part", "asked_line", "held_line", "score", "asked", "held", "same")
"""Of pairs of a log. ``same`` is to be filled in: 1 where the answer to ``held`` would do for ``asked``."""
UNITS = ("session", "user")
"""Columns by which requests are drawn together, the first that is there."""
_YES = ("1", "1.0", "true", "yes", "y", "same", "duplicate")
_NO = ("0", "0.0", "false", "no", "n", "different", "distinct", "not duplicate")
_FIX = "Give text,label or text_a,text_b,label, or the pairs of isocost measure LOG --cache"


class Questions(NamedTuple):
    """Requests in order, who grades their pairs, what is to be said of them, and what they are drawn by."""

    asked: tuple[Asked, ...]
    grade: Grade
    notes: tuple[str, ...]
    unit: str = "request"


def is_of_log(file: Path) -> bool:
    """Whether a file holds pairs of a log, whose words are there and not here."""
    return {"asked_line", "held_line", "same"} <= set(cells(file)[0])


def read(file: Path) -> Questions:
    """Questions with labels, or pairs.

    Raises:
        BadInput: the file cannot be read, has neither set of columns, or labels that are none.
    """
    names, rows = cells(file)
    found = set(names)
    if {"text_a", "text_b", "label"} <= found:
        return _pairs(names, rows, str(file))
    if not {"text", "label"} <= found:
        raise BadInput(f"columns {', '.join(names)}", where=str(file), fix=_FIX)
    text, label = names.index("text"), names.index("label")
    notes = []
    kept = [row for row in rows if row[text] and row[label] not in (None, "")]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept):,} rows without a text or a label are left out")
    if "timestamp" in found:
        kept = sorted(kept, key=lambda row: str(row[names.index("timestamp")]))
    else:
        order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(kept))
        kept = [kept[i] for i in order]
        notes.append("without a column timestamp the questions are taken in a random order")
    labels = [str(row[label]) for row in kept]
    if len(set(labels)) < 2:
        raise BadInput(
            "one class: every label is the same", where=str(file),
            fix="Label questions by the answer that they need",
        )  # fmt: skip
    unit, tenant = drawn_by(names), "tenant" if "tenant" in found else ""
    asked = tuple(
        Asked(str(row[text]), _cell(names, row, tenant).encode(), float(i), unit=_cell(names, row, unit))
        for i, row in enumerate(kept)
    )
    return Questions(asked, lambda i, j: labels[i] == labels[j], tuple(notes), unit or "request")


def drawn_by(names: Sequence[str]) -> str:
    """The column that says which requests are of one session or person; blank: there is none."""
    return next((name for name in UNITS if name in names), "")


def _cell(names: Sequence[str], row: Sequence[object], name: str) -> str:
    value = row[names.index(name)] if name else None
    return "" if value is None else str(value)


def _pairs(names: Sequence[str], rows: Sequence[tuple[object, ...]], where: str) -> Questions:
    a, b, label = (names.index(name) for name in ("text_a", "text_b", "label"))
    same = [graded(row[label], f"{where}, row {k + 1}") for k, row in enumerate(rows)]
    known = [k for k, one in enumerate(same) if one is not None and rows[k][a] and rows[k][b]]
    if len({same[k] for k in known}) < 2:
        raise BadInput(
            "one class: every grade is the same", where=where, fix="Grade 1 for one answer, else 0"
        )
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(known))
    asked, grades = [], []
    unit = drawn_by(names)
    for place, k in enumerate(known[i] for i in order):
        scope = place.to_bytes(8)
        asked += [
            Asked(str(rows[k][a]), scope, float(place), is_kept_only=True),
            Asked(str(rows[k][b]), scope, float(place), unit=_cell(names, rows[k], unit)),
        ]
        grades += [None, same[k]]
    notes = ("each pair is a cache of one question: what else a cache would hold is not in the file",)
    return Questions(tuple(asked), lambda i, _: grades[i], notes, unit or "request")


def graded(value: object, where: str) -> bool | None:
    """A grade as people write it; ``None``: not graded yet.

    Raises:
        BadInput: something else.
    """
    text = str("" if value is None else value).strip().lower()
    if not text:
        return None
    if text not in _YES + _NO:
        raise BadInput(f"grade {value!r}", where=where, fix="Write 1 where one answer would do, else 0")
    return text in _YES


def grades_of(file: Path, place: Mapping[int, int]) -> dict[tuple[int, int], bool]:
    """Grades of a log's pairs, by the places of their lines among the requests.

    Raises:
        BadInput: not such a file, or none of its lines is a request.
    """
    names, rows = cells(file)
    out: dict[tuple[int, int], bool] = {}
    strays = 0
    one, two, same = (names.index(name) for name in ("asked_line", "held_line", "same"))
    for k, row in enumerate(rows):
        told = graded(row[same], f"{file}, row {k + 1}")
        try:
            lines = int(str(row[one])), int(str(row[two]))
        except ValueError:
            raise BadInput(f"lines {row[one]!r}, {row[two]!r}", where=f"{file}, row {k + 1}") from None
        if told is None:
            continue
        if lines[0] not in place or lines[1] not in place:
            strays += 1
            continue
        out[place[lines[0]], place[lines[1]]] = told
    if strays and not out:
        raise BadInput(
            f"none of its {strays:,} pairs is of this log and workload", where=str(file),
            fix="Name the log that it was made of: --log LOG",
        )  # fmt: skip
    return out


def template(
    pairs: Sequence[Pair], asked: Sequence[Asked], lines: Sequence[int], before: Path | None = None
) -> str:
    """Pairs for people to grade, as CSV, behind those that are in a file already."""
    out = StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(COLUMNS)
    there: set[tuple[str, str]] = set()
    if before is not None:
        names, rows = cells(before)
        for row in rows:
            kept = dict(zip(names, row, strict=True))
            there.add((str(kept["asked_line"]), str(kept["held_line"])))
            write.writerow([kept.get(name) or "" for name in COLUMNS])
    for one in pairs:
        key = str(lines[one.asked]), str(lines[one.held])
        if key not in there:
            there.add(key)
            write.writerow(
                [one.part, *key, f"{one.score:.3f}", asked[one.asked].text, asked[one.held].text, ""]
            )
    return out.getvalue()
