"""Graded outcomes: which model answered which question how well, from one long table or from two.

OUTCOMES (CSV or Parquet) has a row for each question and model: ``qid``, ``model``, ``quality`` (0 to 1, or
``pass`` and ``fail``; empty where nobody graded it) and, where known, ``query`` (its text), ``task``,
``workload``, ``pred`` (the answer, as compared for agreement), ``in_tok``, ``out_tok``, ``cost`` (dollars),
``split`` (A choose, B certify, C report), ``version`` of the model. QUERIES (``qid``, ``query``, ``task``,
``in_tok``) and RESULTS (the rest) say the same in two.

Two answers are the same where they are equal as text without case, spaces and thousands separators, or as
numbers. The same answer to the same question has the same quality: an ungraded answer that another model
gave and somebody graded takes that grade.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.policy.gathered import Gathered, gathered, named_rows, normal, number
from isocost.units import plural

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

READ_AGREEMENT = 0.2
"""Share of questions with two equal answers from which agreement is read, and not the question."""
FEWEST = 30
"""Questions below which nothing is fitted."""
COVERED = 0.95
"""A model that answered less than this share of the questions is left out."""


@dataclass(frozen=True)
class Outcomes:
    """``n`` questions answered by ``M`` models.

    ``quality`` (n, M) in [0, 1], NaN where not graded; ``answer`` (n, M) a number for each distinct answer of
    a question, -1 where there is none; ``has_answers`` says whether the file has a column of them.
    ``in_tok`` (n,), ``out_tok`` (n, M) and ``cost`` (n, M; dollars) are NaN where not known. ``task``,
    ``workload`` are codes into their names. ``split`` is what the file says, in capitals, or empty. ``notes``
    say what was dropped or supposed.
    """

    qid: tuple[str, ...]
    query: tuple[str, ...]
    models: tuple[str, ...]
    versions: tuple[str, ...]
    tasks: tuple[str, ...]
    workloads: tuple[str, ...]
    task: Ints
    workload: Ints
    quality: Floats
    answer: Ints
    in_tok: Floats
    out_tok: Floats
    cost: Floats
    split: tuple[str, ...]
    has_answers: bool
    scale: float
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.qid)

    @property
    def one_class(self) -> bool:
        """Whether every grade is the same, so that nothing can be told apart."""
        known = self.quality[np.isfinite(self.quality)]
        return bool(known.min() == known.max())

    @cached_property
    def whole(self) -> bool:
        """Whether every grade is 0 or 1: what test a certificate rests on is settled by all grades, so that
        no chance of one split decides it."""
        known = self.quality[np.isfinite(self.quality)]
        return bool(((known == 0.0) | (known == 1.0)).all())

    @property
    def agree_frac(self) -> float:
        """Share of questions to which two models gave the same answer: near zero where answers are free
        text."""
        ranked = np.sort(self.answer, axis=1)
        same = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)
        return float(same.any(axis=1).mean())

    def take(self, rows: Ints, models: Sequence[int] | None = None) -> Outcomes:
        """Some questions and, where given, some models."""
        keep = np.arange(len(self.models)) if models is None else np.array(models, dtype=np.int64)
        return replace(
            self,
            qid=tuple(self.qid[i] for i in rows),
            query=tuple(self.query[i] for i in rows),
            split=tuple(self.split[i] for i in rows),
            models=tuple(self.models[j] for j in keep),
            versions=tuple(self.versions[j] for j in keep),
            task=self.task[rows],
            workload=self.workload[rows],
            in_tok=self.in_tok[rows],
            quality=self.quality[np.ix_(rows, keep)],
            answer=self.answer[np.ix_(rows, keep)],
            out_tok=self.out_tok[np.ix_(rows, keep)],
            cost=self.cost[np.ix_(rows, keep)],
        )


def read_outcomes(file: Path, results: Path | None = None, *, partial: bool = False) -> Outcomes:
    """Read OUTCOMES, or QUERIES and RESULTS.

    ``partial`` keeps models that answered only some of the questions that all others answered, as without an
    answer to the rest: such a one may abstain. Left out, they are dropped, so that models can be compared.

    Raises:
        BadInput: a column is missing, a quality is out of range, an id is not unique, too few questions.
    """
    notes: list[str] = []
    where = str(results or file)
    found = gathered(file, results, notes)
    if len(found.qids) < FEWEST:
        raise BadInput(
            f"{plural(len(found.qids), 'question')} {'is' if len(found.qids) == 1 else 'are'} too few",
            where=where,
            fix=f"Grade at least {FEWEST}: isocost measure LOG",
        )
    if len(found.models) < 2:
        raise BadInput("only one model", where=where, fix="Answers of two models or more are compared")
    return _complete(_one_of_each(_made(found, where, notes)), partial)


@dataclass(frozen=True)
class Mix:
    """Questions without outcomes: tasks, workloads, input tokens (n,), and the versions of models that a
    file names."""

    tasks: tuple[str, ...]
    task: Ints
    workload: tuple[str, ...]
    in_tok: Floats
    versions: dict[str, str]


def read_mix(file: Path) -> Mix:
    """Read newer questions (QUERIES or OUTCOMES), each once.

    Raises:
        BadInput: no such file, no column ``qid``, or no question.
    """
    rows = named_rows(file, ("qid",))
    versions = {
        str(row["model"]): str(row["version"]) for row in rows if row.get("model") and row.get("version")
    }
    first = {str(row["qid"]): row for row in reversed(rows)}
    if not first:
        raise BadInput("no question", where=str(file))
    tasks = tuple(sorted({str(row.get("task") or "") for row in first.values()}))
    code = {name: k for k, name in enumerate(tasks)}
    in_tok = [
        number(row.get("in_tok"), "in_tok", str(file))
        if row.get("in_tok") is not None
        else max(1.0, len(str(row["query"])) / 4)
        if row.get("query")
        else float("nan")
        for row in first.values()
    ]
    return Mix(
        tasks,
        np.array([code[str(row.get("task") or "")] for row in first.values()], dtype=np.int64),
        tuple(str(row.get("workload") or "") for row in first.values()),
        np.array(in_tok),
        versions,
    )


def _made(found: Gathered, where: str, notes: list[str]) -> Outcomes:
    in_tok, cost, texts = found.in_tok, found.cost, found.texts
    quality, scale = _scaled(found.quality, where, notes)
    if (cost < 0).any() or (found.out_tok < 0).any() or (in_tok < 0).any():
        raise BadInput("a count of tokens or a cost is negative", where=where)
    answer, has_answers = found.answer, found.has_answers
    if has_answers and _is_key(quality, answer):
        notes.append("the column of answers is the same for every model: a key, not what the models said")
        answer, has_answers = np.full_like(answer, -1), False
    quality = _shared(quality, answer)
    if not np.isfinite(in_tok).any() and not np.isfinite(cost).any() and any(texts["query"]):
        in_tok = np.array([max(1.0, len(text) / 4) for text in texts["query"]])
        notes.append("input tokens are a proxy: a quarter of the characters of the question")
    names: dict[str, tuple[str, ...]] = {}
    codes: dict[str, Ints] = {}
    for name in ("task", "workload"):
        names[name] = tuple(sorted(set(texts[name])))
        code = {value: k for k, value in enumerate(names[name])}
        codes[name] = np.array([code[value] for value in texts[name]], dtype=np.int64)
    return Outcomes(
        found.qids, tuple(texts["query"]), found.models, found.versions, names["task"], names["workload"],
        codes["task"], codes["workload"], quality, answer, in_tok, found.out_tok, cost,
        tuple(value.strip().upper() for value in texts["split"]), has_answers, scale, tuple(notes),
    )  # fmt: skip


def _is_key(quality: Floats, answer: Ints) -> bool:
    """Whether no question has two different answers, and yet grades differ: these are the right answers."""
    least = np.where(answer < 0, answer.shape[1], answer).min(axis=1)
    same = bool((answer.max(axis=1) <= least).all() and (answer >= 0).any())
    spread = np.nanmax(quality, axis=1, initial=-1.0) > np.nanmin(quality, axis=1, initial=2.0)
    return same and bool(spread.any())


def _scaled(quality: Floats, where: str, notes: list[str]) -> tuple[Floats, float]:
    """Quality in [0, 1]. A file graded to 10 or to 100 is divided; a stray value outside is an error."""
    known = quality[np.isfinite(quality)]
    if not len(known):
        raise BadInput("nothing is graded", where=where, fix="Fill in quality, 0 to 1")
    scale = scale_of(known, where)
    if scale > 1.0:
        notes.append(f"quality is graded to {scale:g} and divided by it: 1 pp is {scale / 100:g} of a grade")
    return quality / scale, scale


def scale_of(known: Floats, where: str) -> float:
    """What grades go up to: 1, 10 or 100.

    Raises:
        BadInput: one below 0 or above 100, or a few above 1 among others that go to 1.
    """
    top = float(known.max())
    if known.min() < 0:
        raise BadInput(f"quality {known.min():g} is out of range", where=where, fix="Quality is 0 to 1")
    if top <= 1.0:
        return 1.0
    if (known > 1.0).mean() < 0.2 or top > 100.0:
        raise BadInput(
            f"quality {top:g} is out of range", where=where, fix="Quality is 0 to 1, or all to 10 or 100"
        )
    return 10.0 if top <= 10.0 else 100.0


def _shared(quality: Floats, answer: Ints) -> Floats:
    """Ungraded answers take the grade of the same answer of another model."""
    open_ = np.isnan(quality) & (answer >= 0)
    if not open_.any():
        return quality
    out = quality.copy()
    for j in np.flatnonzero(open_.any(axis=0)):
        rows = np.flatnonzero(open_[:, j])
        same = (answer[rows] == answer[rows, j][:, None]) & np.isfinite(quality[rows])
        has = same.any(axis=1)
        out[rows[has], j] = quality[rows[has], same[has].argmax(axis=1)]
    return out


def key_of(query: str) -> str:
    """What two questions share that are the same: their words, without case, choices' letters and
    punctuation."""
    words = re.findall(r"\w+", query.lower())
    return hashlib.blake2b(" ".join(words).encode(), digest_size=8).hexdigest()


def stem_of(query: str) -> str:
    """The question without its choices: what a set that repeats another set's questions keeps.

    >>> stem_of("What is 2 + 2?\\nA. 3\\nB. 4") == stem_of("What is 2+2?\\n(A) 5 (B) 4 (C) 3")
    True
    """
    head = re.split(r"\n\s*(?:options\s*:?\s*\n|\(?[a-j][.):]\s)", query, maxsplit=1, flags=re.IGNORECASE)[0]
    return key_of(head)


def _one_of_each(found: Outcomes) -> Outcomes:
    """Without questions that stand twice; where they stand in different splits that is said."""
    if not any(found.query):
        return found
    first: dict[str, int] = {}
    keep, across = [], 0
    for i, text in enumerate(found.query):
        key = key_of(text) if text else found.qid[i]
        if key in first:
            across += found.split[first[key]] != found.split[i]
            continue
        first[key] = i
        keep.append(i)
    dropped = len(found) - len(keep)
    if not dropped:
        return found
    said = f"{dropped} repeated questions dropped, so that none is in two splits"
    if across:
        said = f"{dropped} repeated questions dropped, {across} of them stood in two splits"
    out = found.take(np.array(keep, dtype=np.int64))
    return replace(out, notes=(*out.notes, said))


def without(found: Outcomes, others: Outcomes) -> Outcomes:
    """Without the questions that stand in ``others``, choices aside: a set may repeat another's questions."""
    known = {stem_of(text) for text in others.query if text}
    keep = np.array([i for i, text in enumerate(found.query) if stem_of(text) not in known], dtype=np.int64)
    if len(keep) == len(found):
        return found
    out = found.take(keep)
    share = 1 - len(keep) / len(found)
    said = f"{len(found) - len(keep):,} questions ({share:.0%}) also stand in the other set: dropped"
    return replace(out, notes=(*out.notes, said))


def _complete(found: Outcomes, partial: bool = False) -> Outcomes:
    """Models that answered nearly all questions (``partial``: all models); questions these answered."""
    answered = np.isfinite(found.quality) | (found.answer >= 0)
    share = answered.mean(axis=0)
    keep = [j for j in range(len(found.models)) if share[j] >= COVERED * share.max()]
    notes = list(found.notes)
    gone = [found.models[j] for j in range(len(found.models)) if j not in keep]
    if gone and not partial:
        notes.append(f"left out, for answering under {COVERED:.0%} of the questions: {', '.join(gone)}")
    whole = answered[:, keep].all(axis=1)
    if not whole.all():
        notes.append(f"{int((~whole).sum())} questions left out that not every model answered")
    if (len(keep) < 2 and not partial) or whole.sum() < FEWEST:
        raise BadInput("too few questions were answered by two models", fix=f"At least {FEWEST} are needed")
    out = found.take(np.flatnonzero(whole), None if partial else keep)
    values = out.quality[np.isfinite(out.quality)]
    if len(values) and values.min() == values.max():
        notes.append(f"one class: every graded answer has quality {values[0]:g}, so no router can be learned")
    return replace(out, notes=tuple(notes))


__all__ = [
    "COVERED", "FEWEST", "READ_AGREEMENT", "Bools", "Floats", "Ints", "Mix", "Outcomes", "key_of", "normal",
    "read_mix", "read_outcomes", "scale_of", "stem_of", "without",
]  # fmt: skip
