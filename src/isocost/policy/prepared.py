"""What the questions that choose say, before any that certify is looked at: prices, splits, candidates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput
from isocost.policy.agree import Part
from isocost.policy.bounds import least_questions
from isocost.policy.difficulty import Corpus, corpus, rows_of
from isocost.policy.fit import Candidate, all_candidates, chance_of, few, label_rows, on
from isocost.policy.looks import level
from isocost.policy.outcomes import FEWEST, READ_AGREEMENT, Bools, Floats, Ints, Outcomes
from isocost.policy.pricing import UNKNOWN, Price, costs, paid, price_models, supposed
from isocost.units import plural

SPLITS = ("A", "B", "C")
SHARE_A, SHARE_C = 0.25, 0.15


class Wanted(msgspec.Struct, frozen=True):
    """What is asked: the strong model (blank: the best), candidates (none: all), and how sure to be."""

    strong: str = ""
    candidates: tuple[str, ...] = ()
    max_loss: float = 0.01
    confidence: float = 0.95
    prices: Mapping[str, tuple[float, float]] = {}


def least_to_grade(max_loss: float = 0.01, confidence: float = 0.95) -> int:
    """The fewest questions of a workload that a first fit certifies anything on that is not better than the
    strong model: as many as split B needs where nothing is lost."""
    first = level(1.0 - confidence, ())
    return math.ceil(least_questions(max_loss, first) / (1.0 - SHARE_A - SHARE_C))


class Prepared(NamedTuple):
    """Outcomes of the models that are compared, with prices, dollars of each answer (n, M), which models'
    costs the file holds (M,), what was supposed, and the questions of workloads, by code, that are enough to
    certify on (``large``) and that are not."""

    outcomes: Outcomes
    prices: tuple[Price, ...]
    usd: Floats
    by_file: Bools
    guesses: tuple[str, ...]
    large: dict[int, Ints]
    small: dict[int, Ints]


def prepared(outcomes: Outcomes, at: CatalogAt, wanted: Wanted) -> Prepared:
    """Outcomes with prices, split into workloads.

    Raises:
        BadInput: a model that the outcomes do not have, splits that are stated in part, one class, too few
            questions, or a loss or a confidence that cannot be meant.
    """
    if not 0 < wanted.max_loss < 0.5 or not 0.5 <= wanted.confidence < 1:
        raise BadInput(
            f"max loss {wanted.max_loss:g}, confidence {wanted.confidence:g}",
            fix="Type --max-loss 1pp --confidence 95%",
        )
    if outcomes.one_class:
        raise BadInput(
            "one class: every grade is the same",
            fix="Grade so that a wrong answer has another quality than a right one",
        )
    chosen = _asked(outcomes, wanted)
    chooses = np.concatenate([
        splits(chosen, np.flatnonzero(chosen.workload == code))[0] for code in range(len(chosen.workloads))
    ])  # fmt: skip
    prices = price_models(chosen.models, at, wanted.prices, _level(chosen, chooses))
    by_file = np.asarray(np.isfinite(paid(prices, chosen)).all(axis=0), dtype=np.bool_)
    usd, guesses = costs(chosen, prices, at)
    large, small = _by_size(chosen)
    return Prepared(chosen, tuple(prices), usd, by_file, tuple(guesses), large, small)


class Ground(NamedTuple):
    """A workload as its questions of A chose: rows of the three splits, the strong model, its mean cost on A
    (``unit``, dollars), the words that a router reads, the candidates as they run on B, the questions of A
    that needed a grade, and every policy that was looked at on A."""

    a: Ints
    b: Ints
    c: Ints
    strong: int
    unit: float
    words: Corpus | None
    ladder: tuple[Candidate, ...]
    labels_a: int
    every: tuple[Candidate, ...] = ()


def ground(given: Prepared, rows: Ints, wanted: Wanted) -> Ground:
    """Choose candidates for a workload; no grade of B or C is looked at.

    Raises:
        BadInput: the price of the strong model is not known.
    """
    outcomes = given.outcomes
    a, b, c = splits(outcomes, rows)
    strong = _strong(outcomes, given.usd, a, wanted.strong)
    if supposed(UNKNOWN, given.prices, outcomes)[strong]:
        known = outcomes.models[strong]
        raise BadInput(
            f"the price of {known!r} is not known, and savings are held against it",
            fix=f"Type --price {known}=IN/OUT (dollars a million tokens), or fill in its cost",
        )
    bare = Ground(a, b, c, strong, float(given.usd[a, strong].mean()), None, (), 0)
    part_a = part(given, bare, a, fill=True)
    graded = np.flatnonzero(np.isfinite(part_a.quality).all(axis=1))
    part_a, a = part_a.take(graded), a[graded]
    reads = outcomes.has_answers and outcomes.agree_frac > READ_AGREEMENT
    words = corpus(outcomes.query) if all(outcomes.query) and not reads else None
    every = all_candidates(part_a, None if words is None else rows_of(words, a))
    return bare._replace(
        a=a, words=words, labels_a=label_rows(part_a, range(len(outcomes.models))),
        ladder=tuple(
            Candidate(one.name, on(one.policy, words, b), one.expected, one.group)
            for one in few(every, len(b), wanted.max_loss)
        ),
        every=tuple(every),
    )  # fmt: skip


def part(given: Prepared, of: Ground, rows: Ints, fill: bool = False) -> Part:
    """Some questions of a workload; ``fill``: where all models said the same, any grade stands for the one
    that is missing."""
    found = given.outcomes
    quality = found.quality[rows]
    if fill:
        quality = filled(quality, found.answer[rows])
    scale = of.unit or 1.0  # of a free model nothing is saved, in any unit
    return Part(
        quality, given.usd[rows] / scale, found.answer[rows], found.task[rows], len(found.tasks), of.strong,
        (), found.has_answers, found.whole,
    )  # fmt: skip


def chance(of: Ground, questions: int, max_loss: float, alpha: float) -> float:
    """How likely the first candidate passes on so many questions, as A sees it: one after another is tried,
    so no certificate is likelier."""
    return chance_of(of.ladder[0], questions, max_loss, alpha) if of.ladder else 0.0


def _by_size(outcomes: Outcomes) -> tuple[dict[int, Ints], dict[int, Ints]]:
    """Questions of each workload that has enough of them to choose and to certify, and of each that has not.

    Raises:
        BadInput: no workload has enough.
    """
    large: dict[int, Ints] = {}
    small: dict[int, Ints] = {}
    for code in range(len(outcomes.workloads)):
        rows = np.flatnonzero(outcomes.workload == code)
        a, b, _ = splits(outcomes, rows)
        enough = min(len(a), len(b)) >= FEWEST // 3 and np.isfinite(outcomes.quality[a]).any()
        (large if enough else small)[code] = rows
    if not large:
        most = max(small.values(), key=len)
        a, b, _ = splits(outcomes, most)
        a = a[np.isfinite(outcomes.quality[a]).any(axis=1)]
        name = outcomes.workloads[outcomes.workload[most[0]]]
        raise BadInput(
            f"too few questions: {len(a)} graded to choose on and {len(b)} to certify on",
            where=f"workload {name!r}" if name else "",
            fix=f"Grade at least {FEWEST // 3} of each, by hundreds if anything is to be certified",
        )
    return large, small


def _asked(outcomes: Outcomes, wanted: Wanted) -> Outcomes:
    names = outcomes.models
    for name in (wanted.strong, *wanted.candidates):
        if name and name not in names:
            raise BadInput(f"no outcomes of {name!r}", fix=f"Models: {', '.join(names[:12])}")
    if not wanted.candidates:
        return outcomes
    if not wanted.strong:
        raise BadInput("candidates without the model they may replace", fix="Add --strong MODEL")
    keep = [names.index(name) for name in dict.fromkeys((wanted.strong, *wanted.candidates))]
    return outcomes.take(np.arange(len(outcomes)), keep)


def splits(outcomes: Outcomes, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows of A, B and C: as the file says, else by a hash of the question's id, so that more rows move
    none.

    Raises:
        BadInput: a split that is none of the three, or of some questions only.
    """
    said = np.array([outcomes.split[i] for i in rows])
    strange = sorted(set(said[said != ""].tolist()) - set(SPLITS))
    blank = np.flatnonzero(said == "")
    if strange or 0 < len(blank) < len(rows):
        name = outcomes.workloads[outcomes.workload[rows[0]]]
        raise BadInput(
            f"no split is called {strange[0]!r}"
            if strange
            else f"{plural(len(blank), 'question')} of {len(rows):,} without a split,"
            f" {outcomes.qid[rows[blank[0]]]!r} first",
            where=f"workload {name!r}, column split" if name else "column split",
            fix="Fill in A (choose), B (certify) or C (report) for every question of a workload, or for none",
        )
    if not len(blank):
        return rows[said == "A"], rows[said == "B"], rows[said == "C"]
    place = np.array([_place(outcomes.qid[i]) for i in rows])
    a, c = place < SHARE_A, place >= 1.0 - SHARE_C
    return rows[a], rows[~a & ~c], rows[c]


def _level(outcomes: Outcomes, rows: Ints) -> Floats:
    """Mean quality of each model on some questions, (M,); zero where nobody graded it."""
    quality = filled(outcomes.quality[rows], outcomes.answer[rows])
    return np.asarray(np.nansum(quality, axis=0) / np.maximum(1, np.isfinite(quality).sum(axis=0)))


def _place(qid: str) -> float:
    return int.from_bytes(hashlib.blake2b(qid.encode(), digest_size=8).digest()) / 2**64


def _strong(outcomes: Outcomes, usd: Floats, a: Ints, named: str) -> int:
    if named:
        return outcomes.models.index(named)
    quality, cost = np.nanmean(outcomes.quality[a], axis=0), usd[a].mean(axis=0)
    return int(min(range(len(quality)), key=lambda j: (-round(float(quality[j]), 9), cost[j])))


def filled(quality: Floats, answer: Ints) -> Floats:
    """Where all models said the same and nobody graded it, any grade will do: nothing can be gained or
    lost."""
    same = (answer == answer[:, :1]).all(axis=1) & (answer >= 0).all(axis=1)
    open_ = np.isnan(quality).any(axis=1) & same
    out = quality.copy()
    out[open_] = 1.0
    return out
