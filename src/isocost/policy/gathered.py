"""Graded answers of a file, or of two, as arrays: read some thousand rows at a time, so that a file of
millions takes little more memory than what is kept of it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.trace.table import Row, some_cells

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ALWAYS = ("qid", "model", "quality")
_SPELLED = (
    ("qid", ("qid", "question_id", "id", "query_id")),
    ("model", ("model", "deployment", "model_id", "model_name")),
    ("quality", ("quality", "score", "correct", "grade")),
    ("query", ("query", "question", "prompt", "input")),
    ("task", ("task", "subject", "category")),
    ("workload", ("workload",)),
    ("pred", ("pred", "prediction", "answer", "output")),
    ("in_tok", ("in_tok", "input_tok", "prompt_tokens", "input_tokens")),
    ("out_tok", ("out_tok", "output_tok", "completion_tokens", "output_tokens")),
    ("cost", ("cost", "cost_usd", "usd")),
    ("split", ("split",)),
    ("version", ("version", "model_version")),
)
_OF_QUESTION = ("query", "task", "workload", "split")
_KEPT_CHARS, _KEPT = 64, 100_000
"""Spellings up to this length, and so many of them, are worked out once."""
_SPACES, _PLAIN = re.compile(r"\s+"), re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?")


@dataclass(frozen=True)
class Gathered:
    """n questions in order of appearance and M models by name: ``quality``, ``out_tok``, ``cost`` (n, M) and
    ``in_tok`` (n,) are NaN where nothing is stated; ``answer`` (n, M) names the first model that said the
    same (-1: no answer); ``texts`` hold ``query``, ``task``, ``workload`` and ``split`` of each question."""

    qids: tuple[str, ...]
    models: tuple[str, ...]
    versions: tuple[str, ...]
    quality: Floats
    answer: Ints
    in_tok: Floats
    out_tok: Floats
    cost: Floats
    texts: dict[str, list[str]]
    has_answers: bool


def gathered(file: Path, results: Path | None, notes: list[str]) -> Gathered:
    """Read OUTCOMES, or QUERIES and RESULTS; ``notes`` takes what was left out.

    Of QUERIES only what belongs to the question is read: a column of answers there is not a model's.

    Raises:
        BadInput: a column is missing, a cell is none of its kind, or an answer has two grades.
    """
    if results is None:
        return _Rows(file, None).made()
    asked: dict[str, dict[str, object]] = {}
    for names, rows in _named(file, ("qid",)):
        at = [(name, k) for name, k in names.items() if name in (*_OF_QUESTION, "in_tok")]
        for row in rows:
            asked[str(row[names["qid"]])] = {name: row[k] for name, k in at}
    read = _Rows(results, asked)
    if not read.rows:
        raise BadInput(
            f"no result of a question of {file.name}", where=str(results), fix="Check the column qid"
        )
    if read.strays:
        notes.append(f"{len(read.strays):,} questions of the results are not in {file.name}: left out")
    return read.made()


def named_rows(file: Path, needed: Sequence[str]) -> list[dict[str, object]]:
    """All rows of a file by our names of its columns.

    Raises:
        BadInput: it has no column of a ``needed`` name, or is no table.
    """
    return [
        {name: row[k] for name, k in names.items()} for names, rows in _named(file, needed) for row in rows
    ]


def _named(file: Path, needed: Sequence[str]) -> Iterator[tuple[dict[str, int], Sequence[Row]]]:
    """Where our columns are, with some thousand rows at a time."""
    names: dict[str, int] = {}
    for heads, rows in some_cells(file):
        if not names:
            for ours, spellings in _SPELLED:
                hit = next((heads.index(one) for one in spellings if one in heads), None)
                if hit is not None:
                    names[ours] = hit
            missing = [one for one in needed if one not in names]
            if missing:
                raise BadInput(
                    f"no column {missing[0]!r}", where=str(file),
                    fix=f"It has {', '.join(heads)}; docs/routing.md says more",
                )  # fmt: skip
        yield names, rows


class _Codes(dict[object, int]):
    """A number for each text, in order of appearance, whatever type the cell is of; ``-1`` for one that is
    not among ``only``."""

    def __init__(self, only: Mapping[str, object] | None = None) -> None:
        self.texts: dict[str, int] = {}
        self.only = only
        self.strange: set[str] = set()

    def __missing__(self, cell: object) -> int:
        text = str(cell)
        if self.only is not None and text not in self.only:
            self.strange.add(text)
            return -1
        code = self[cell] = self.texts.setdefault(text, len(self.texts))
        return code


class _Rows:
    """Answers row by row, as columns of numbers."""

    def __init__(self, file: Path, asked: Mapping[str, Mapping[str, object]] | None) -> None:
        self.where = str(file)
        self.asked = asked or {}
        self.qid, self.model = _Codes(asked), _Codes()
        self.texts: dict[str, list[str]] = {name: [] for name in _OF_QUESTION}
        self.version: list[str] = []
        self.rows, self.has_answers = 0, False
        self._said: dict[str, int] = {}
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []
        for names, rows in _named(file, ALWAYS):
            self._add(names, rows)

    @property
    def strays(self) -> set[str]:
        """Questions that were not among those asked."""
        return self.qid.strange

    def _add(self, names: Mapping[str, int], rows: Sequence[Row]) -> None:
        self.has_answers = "pred" in names
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        for name in ALWAYS:
            self._check(name, columns[names[name]])
        q = np.fromiter(map(self.qid.__getitem__, columns[names["qid"]]), np.int64, len(rows))
        if self.qid.strange and (q < 0).any():
            kept = np.flatnonzero(q >= 0).tolist()
            self._add(names, [rows[k] for k in kept])
            return
        m = np.fromiter(map(self.model.__getitem__, columns[names["model"]]), np.int64, len(rows))
        self._state(names, columns, q, m)
        cells = {name: columns[k] for name, k in names.items()}

        def place(k: int) -> str:
            return f"{self.where}, question {cells['qid'][k]}, {cells['model'][k]}"

        quality = _floats(cells["quality"], _grade, place)
        numbers = [
            _floats(cells[name], partial(_stated, what=name), place)
            if name in cells
            else np.full(len(rows), np.nan)
            for name in ("in_tok", "out_tok", "cost")
        ]
        said = np.full(len(rows), -1, dtype=np.int64)
        if "pred" in cells:
            said[:] = [self._answer(value) for value in cells["pred"]]
        self.rows += len(rows)
        self._parts.append((q, m.astype(np.int32), quality, said, *numbers))

    def _check(self, name: str, column: Sequence[object]) -> None:
        """Raises BadInput: a cell that is a list, or a row of no question or model."""
        if not {list, dict}.isdisjoint(map(type, column)):
            raise BadInput(
                f"a cell of {name} is a list", where=self.where, fix="One row for each question and model"
            )
        if name != "quality" and (None in column or "" in column):
            k = next(k for k, cell in enumerate(column) if cell is None or cell == "")
            raise BadInput(
                f"row {self.rows + k + 1:,} has no {name}", where=self.where,
                fix="Name the question and the model of each row",
            )  # fmt: skip

    def _answer(self, value: object) -> int:
        """A number that equal answers share, -1 of none."""
        if isinstance(value, str):
            known = self._said.get(value)
            if known is not None:
                return known
        text = normal(value)
        code = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) if text else -1
        if isinstance(value, str) and len(value) <= _KEPT_CHARS and len(self._said) < _KEPT:
            self._said[value] = code
        return code

    def _state(self, names: Mapping[str, int], columns: Sequence[Sequence[object]], q: Ints, m: Ints) -> None:
        """Take what the rows say of questions and models: of a question the first that is not blank."""
        known = list(self.qid.texts)[len(self.texts["query"]) :]
        for name, texts in self.texts.items():
            texts += [
                "" if name in names else str(self.asked[qid].get(name) or "") if qid in self.asked else ""
                for qid in known
            ]
        self.version += [""] * (len(self.model.texts) - len(self.version))
        codes = q.tolist()
        for name, texts in self.texts.items():
            if name not in names:
                continue
            is_split = name == "split"
            for i, value in zip(codes, columns[names[name]], strict=True):
                if value and (is_split or not texts[i]):
                    stated = str(value)
                    if is_split and texts[i] and stated.upper() != texts[i].upper():
                        raise BadInput(
                            f"in split {texts[i]} and in split {stated}",
                            where=f"{self.where}, question {list(self.qid.texts)[i]}",
                            fix="Put all answers to a question into one split",
                        )
                    texts[i] = texts[i] or stated
        if "version" in names:
            for j, value in zip(m.tolist(), columns[names["version"]], strict=True):
                self.version[j] = self.version[j] or str(value or "")

    def made(self) -> Gathered:
        """All rows as arrays of questions and models."""
        qids, named = tuple(self.qid.texts), tuple(self.model.texts)
        order = sorted(range(len(named)), key=lambda j: named[j])
        models = tuple(named[j] for j in order)
        n, size = len(qids), len(models)
        shape = n, size
        if not self._parts:
            raise BadInput("no rows", where=self.where, fix="Give one row for each question and model")
        q, m, quality, said, in_tok, out_tok, cost = (
            np.concatenate([part[k] for part in self._parts]) for k in range(7)
        )
        self._parts.clear()
        place = np.empty(size, dtype=np.int64)
        place[order] = np.arange(size)
        cell = q * size + place[m]
        last = np.full(n * size, -1, dtype=np.int64)
        last[cell] = np.arange(len(cell))
        other = last[cell]
        again = np.flatnonzero(other != np.arange(len(cell)))
        differ = (said[again] != said[other[again]]) | ~(
            (quality[again] == quality[other[again]])
            | (np.isnan(quality[again]) & np.isnan(quality[other[again]]))
        )
        if differ.any():
            k = again[differ][0]
            raise BadInput(
                f"question {qids[q[k]]!r} has two outcomes of {models[place[m[k]]]!r}", where=self.where,
                fix="Keep one row of each",
            )  # fmt: skip
        stated = np.flatnonzero(~np.isnan(in_tok))[::-1]
        tokens = np.full(n, np.nan)
        tokens[q[stated]] = in_tok[stated]
        if self.asked and np.isnan(in_tok).all():
            tokens = np.array([number(self.asked[qid].get("in_tok"), "in_tok", qid) for qid in qids])
        grid = []
        for values in (quality, out_tok, cost):
            grid.append(np.full(n * size, np.nan))
            grid[-1][cell] = values
        answer = np.full(n * size, -1, dtype=np.int64)
        answer[cell] = said
        return Gathered(
            qids, models, tuple(self.version[j] for j in order), grid[0].reshape(shape),
            _first_to_say(answer.reshape(shape)), tokens, grid[1].reshape(shape), grid[2].reshape(shape),
            self.texts, self.has_answers,
        )  # fmt: skip


def _first_to_say(said: Ints) -> Ints:
    """The first column (n, M) that holds the same value in its row; -1 where there is none.

    >>> _first_to_say(np.array([[7, 9, 7, -1]])).tolist()
    [[0, 1, 0, -1]]
    """
    order = np.argsort(said, axis=1, kind="stable")
    ranked = np.take_along_axis(said, order, axis=1)
    new = np.ones(said.shape, dtype=np.bool_)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    start = np.maximum.accumulate(np.where(new, np.arange(said.shape[1]), 0), axis=1)
    out = np.empty_like(said)
    np.put_along_axis(out, order, np.take_along_axis(order, start, axis=1), axis=1)
    return np.where(said < 0, -1, out)


def _floats(
    column: Sequence[object], of: Callable[[object, str], float], place: Callable[[int], str]
) -> Floats:
    """A column of numbers, each spelling of them worked out once."""
    if set(map(type, column)) <= {float, int, NoneType}:
        out = np.array(column, dtype=np.float64)
        if not np.isinf(out).any():
            return out
    known: dict[object, float] = {}
    values = np.empty(len(column))
    for k, cell in enumerate(column):
        value = known.get(cell)
        if value is None:
            value = of(cell, place(k))
            known[cell] = value
        values[k] = value
    return values


def _grade(value: object, where: str) -> float:
    """A grade: a number, or what says by itself which (``True``, ``pass``, ``85%``, ``4/5``)."""
    from isocost.policy.grades.read import WORDS, value_of

    if isinstance(value, float) and math.isfinite(value):
        return value
    known = value_of(value, WORDS)
    if known is None:
        raise BadInput(f"quality {str(value)!r} is no grade", where=where, fix="Quality is 0 to 1")
    return known


def _stated(value: object, where: str, what: str) -> float:
    return number(value, what, where)


def number(value: object, what: str, where: str) -> float:
    """A cell as a number, NaN where nothing is stated.

    Raises:
        BadInput: it is none, or not finite.
    """
    if value is None or value == "":
        return math.nan
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = math.inf
    if math.isinf(found):
        raise BadInput(f"{what} {str(value)!r} is not a number", where=where)
    return found


def normal(answer: object) -> str:
    """An answer as it is compared: without case, spaces and separators; a number as a number.

    >>> normal(" 1,200.00 "), normal("B"), normal(None), normal("Paris. ")
    ('1200.0', 'b', '', 'paris')
    """
    text = "" if answer is None else _SPACES.sub(" ", str(answer)).strip().lower().rstrip(".")
    plain = text.replace(",", "").replace("$", "").replace(" ", "")
    if _PLAIN.fullmatch(plain):
        return repr(float(plain.rstrip("%"))) + ("%" if plain.endswith("%") else "")
    return "" if text in ("nan", "none", "null") else text
