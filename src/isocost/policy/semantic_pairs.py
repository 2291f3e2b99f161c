"""Files of questions and pairs that a semantic cache is certified on, and pairs of a log for people to grade.

Three kinds. ``text, label``: questions of which equal labels have one answer; with a column ``timestamp``
(numbers, or ISO 8601) they come in its order, else in a random one, in which sessions stay whole. A column
``session`` or ``user`` says which are drawn together, one ``tenant`` which share no answers. What a tenant
asked before word for word is an exact cache's to answer. ``text_a, text_b, label``: pairs, where 1 means one
answer; the first is in the cache when the second is asked. ``asked_line, held_line, same``: pairs of a log
(:func:`template`), graded by people; their words are in the log.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isocost.errors import BadInput
from isocost.policy.drawn import numbered
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
    unit, tenant = drawn_by(names), "tenant" if "tenant" in found else ""
    notes = []
    kept = [k for k, row in enumerate(rows) if _cell(names, row, "text") and _cell(names, row, "label")]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept):,} rows without a text or a label are left out")
    if "timestamp" in found:
        at = names.index("timestamp")
        when = _times([(rows[k][at], f"{file}, row {k + 1}") for k in kept])
        kept = [kept[i] for i in sorted(range(len(kept)), key=when.__getitem__)]
    else:
        rng = np.random.Generator(np.random.PCG64(SEED))
        kept = [kept[i] for i in shuffled([_cell(names, rows[k], unit) for k in kept], rng)]
        notes.append("without a column timestamp the questions are taken in a random order")
    labels = [_cell(names, rows[k], "label") for k in kept]
    if len(set(labels)) < 2:
        raise BadInput(
            "one class: every label is the same", where=str(file),
            fix="Label questions by the answer that they need",
        )  # fmt: skip
    asked: list[Asked] = []
    before: set[tuple[str, str]] = set()
    for i, row in enumerate(rows[k] for k in kept):
        # As it is written: to an exact cache a blank more is another question.
        said = _cell(names, row, tenant), str(row[names.index("text")])
        drawn = _cell(names, row, unit)
        asked.append(Asked(said[1], said[0].encode(), float(i), unit=drawn, is_repeat=said in before))
        before.add(said)
    if len(before) < len(asked):
        notes.append(f"{len(asked) - len(before):,} whole repeats are left to an exact cache")
    is_drawn = any(one.unit for one in asked)
    return Questions(
        tuple(asked), lambda i, j: labels[i] == labels[j], tuple(notes), unit if is_drawn else "request"
    )


def shuffled(units: Sequence[str], rng: np.random.Generator) -> list[int]:
    """A random order of rows in which those of one session (``units``; blank: alone) stay together, in their
    own order: a part of a session in each part of the rows would be no fresh draw."""
    together: list[list[int]] = []
    for i, number in enumerate(numbered(units)):
        if number == len(together):
            together.append([])
        together[number].append(i)
    return [i for number in rng.permutation(len(together)) for i in together[number]]


def _times(values: Sequence[tuple[object, str]]) -> list[float]:
    """Times that can be sorted: all numbers, all ISO 8601 with an offset, or all without.

    Raises:
        BadInput: one that is none, or of two kinds.
    """
    out: list[float] = []
    kinds: dict[str, str] = {}
    for value, where in values:
        kind, when = _time(value)
        kinds.setdefault(kind, where)
        out.append(when)
    if "" in kinds:
        raise BadInput(
            "a timestamp that is no time",
            where=kinds[""],
            fix="Write numbers or ISO 8601: 2026-11-23T09:30:00Z",
        )
    if len(kinds) > 1:
        (one, _), (two, where) = list(kinds.items())[:2]
        raise BadInput(f"timestamps are {one} and {two}", where=where, fix="Write all of them in one way")
    return out


def _time(value: object) -> tuple[str, float]:
    """What a timestamp is (blank: none) and its place in time; whole numbers stay exact."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        text = str("" if value is None else value).strip()
        try:
            return "numbers", int(text)
        except ValueError:
            pass
        try:
            number = float(text)
            return ("numbers", number) if math.isfinite(number) else ("", 0.0)
        except ValueError:
            pass
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return "", 0.0
    if value.tzinfo is None:
        return "times without an offset", value.replace(tzinfo=UTC).timestamp()
    return "times with an offset", value.timestamp()


def drawn_by(names: Sequence[str]) -> str:
    """The column that says which requests are of one session or person; blank: there is none."""
    return next((name for name in UNITS if name in names), "")


def _cell(names: Sequence[str], row: Sequence[object], name: str) -> str:
    """A cell without blanks around it; blank where there is no such column (``name`` blank)."""
    value = row[names.index(name)] if name else None
    return "" if value is None else str(value).strip()


def _pairs(names: Sequence[str], rows: Sequence[tuple[object, ...]], where: str) -> Questions:
    label = names.index("label")
    same = [graded(row[label], f"{where}, row {k + 1}") for k, row in enumerate(rows)]
    texts = [(_cell(names, row, "text_a"), _cell(names, row, "text_b")) for row in rows]
    known = [k for k, one in enumerate(same) if one is not None and all(texts[k])]
    a, b = names.index("text_a"), names.index("text_b")
    if len({same[k] for k in known}) < 2:
        raise BadInput(
            "one class: every grade is the same", where=where, fix="Grade 1 for one answer, else 0"
        )
    unit = drawn_by(names)
    units = [_cell(names, rows[k], unit) for k in known]
    asked, grades = [], []
    for place, at in enumerate(shuffled(units, np.random.Generator(np.random.PCG64(SEED)))):
        held, text = str(rows[known[at]][a]), str(rows[known[at]][b])
        scope = place.to_bytes(8)
        asked += [
            Asked(held, scope, float(place), is_kept_only=True),
            Asked(text, scope, float(place), unit=units[at], is_repeat=text == held),
        ]
        grades += [None, same[known[at]]]
    notes = ["each pair is a cache of one question: what else a cache would hold is not in the file"]
    if repeats := sum(one.is_repeat for one in asked):
        notes.append(f"{repeats:,} whole repeats are left to an exact cache")
    return Questions(tuple(asked), lambda i, _: grades[i], tuple(notes), unit if any(units) else "request")


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
