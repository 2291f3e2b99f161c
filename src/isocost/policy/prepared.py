"""What the questions that choose say, before any that certify is looked at: prices, splits, candidates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
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
SAME = "grade all of them on the same ones"
"""What to do where models are graded on different questions."""
_FEW = FEWEST // 3
"""Graded questions of A below which nothing is chosen on them."""


class Wanted(msgspec.Struct, frozen=True):
    """What is asked: the strong model (blank: the best), candidates (none: all), and how sure to be."""

    strong: str = ""
    candidates: tuple[str, ...] = ()
    max_loss: float = 0.01
    confidence: float = 0.95
    prices: Mapping[str, tuple[float, float]] = {}


def least_to_grade(max_loss: float = 0.01, confidence: float = 0.95) -> int:
    """About the fewest questions of a workload that a first fit certifies anything on that is not better than
    the strong model: 95 times in 100 split B, which a hash draws, has as many of them as it needs where
    nothing is lost."""
    need, share_b = least_questions(max_loss, level(1.0 - confidence, ())), 1.0 - SHARE_A - SHARE_C
    # share_b n - z sqrt(share_b (1 - share_b) n) = need, the normal approximation of a binomial's lower end
    half = NormalDist().inv_cdf(0.95) * math.sqrt(share_b * (1.0 - share_b)) / 2
    return math.ceil(((half + math.sqrt(half**2 + share_b * need)) / share_b) ** 2)


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
            questions, no strong model named where grades do not tell the best, or a loss or a confidence that
            cannot be meant.
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
    large, small, apart = _by_size(chosen, wanted.strong)
    return Prepared(chosen, tuple(prices), usd, by_file, (*guesses, *apart), large, small)


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
    """Choose candidates for a workload, none where the grades of A do not tell models apart; no grade of B or
    C is looked at.

    Raises:
        BadInput: the price of the strong model is not known.
    """
    outcomes = given.outcomes
    a, b, c = splits(outcomes, rows)
    strong, tells = _strong(outcomes, given.usd, a, wanted.strong), len(comparable(outcomes, a)) > 0
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
    every: list[Candidate] = []
    if tells:
        every = all_candidates(part_a, None if words is None else rows_of(words, a))
    return bare._replace(
        a=a, words=words, labels_a=label_rows(part_a, range(len(outcomes.models))),
        ladder=tuple(
            Candidate(one.name, on(one.policy, words, b), one.expected, one.group)
            for one in few(every, len(b), wanted.max_loss, 1.0 - wanted.confidence)
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


def _by_size(outcomes: Outcomes, strong: str) -> tuple[dict[int, Ints], dict[int, Ints], tuple[str, ...]]:
    """Questions of each workload that has enough of them to choose and to certify, and of each that has not;
    and what is said of those whose grades do not tell models apart: where the strong one is named, these are
    enough.

    Raises:
        BadInput: no workload has enough.
    """
    large: dict[int, Ints] = {}
    small: dict[int, Ints] = {}
    apart: dict[int, int] = {}
    for code in range(len(outcomes.workloads)):
        rows = np.flatnonzero(outcomes.workload == code)
        a, b, _ = splits(outcomes, rows)
        enough = min(len(a), len(b)) >= _FEW and bool(np.isfinite(outcomes.quality[a]).any())
        if enough and not len(comparable(outcomes, a)):
            apart[code], enough = len(a), bool(strong)
        (large if enough else small)[code] = rows
    if large:
        todo = f"{SAME}, or name in --candidates those that were" if strong else "--strong MODEL names one"
        return large, small, tuple(f"{_apart(outcomes, code, strong)}; {todo}" for code in apart)
    if apart:
        raise BadInput(
            _apart(outcomes, max(apart, key=lambda code: apart[code]), strong),
            fix=f"Type --strong MODEL, the one that quality is held against: {_some(outcomes.models)}",
        )
    rows = max(small.values(), key=len)
    a, b, _ = splits(outcomes, rows)
    a = a[np.isfinite(outcomes.quality[a]).any(axis=1)]
    name = outcomes.workloads[outcomes.workload[rows[0]]]
    raise BadInput(
        f"too few questions: {len(a)} graded to choose on and {len(b)} to certify on",
        where=f"workload {name!r}" if name else "",
        fix=f"Grade at least {_FEW} of each, by hundreds if anything is to be certified",
    )


def _apart(outcomes: Outcomes, code: int, strong: str) -> str:
    name = outcomes.workloads[code]
    of = f" of {name}" if name else ""
    which = f"whether a cheaper model keeps quality{of}" if strong else f"which model is the best{of}"
    return f"{which} cannot be told: models are graded on different questions"


def _some(models: Sequence[str]) -> str:
    return ", ".join(models[:12])


def _asked(outcomes: Outcomes, wanted: Wanted) -> Outcomes:
    names = outcomes.models
    for name in (wanted.strong, *wanted.candidates):
        if name and name not in names:
            raise BadInput(f"no outcomes of {name!r}", fix=f"Models: {_some(names)}")
    for name in wanted.prices:
        if name not in names:
            raise BadInput(
                f"a price of {name!r}, of which there are no outcomes", fix=f"Models: {_some(names)}"
            )
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
    """Mean quality of each model on some questions, (M,), the same ones where these tell; zero where nobody
    graded it."""
    both = comparable(outcomes, rows)
    rows = both if len(both) else rows
    quality = filled(outcomes.quality[rows], outcomes.answer[rows])
    return np.asarray(np.nansum(quality, axis=0) / np.maximum(1, np.isfinite(quality).sum(axis=0)))


def comparable(outcomes: Outcomes, rows: Ints) -> Ints:
    """Those of some questions on which models can be compared: where all are graded, or said the same. None
    where these do not tell which model is better.

    An answer takes the grade of an equal one. So of a model that nobody graded those answers have grades that
    others gave too, and are no fair sample of what it says: its answers that no other gave must have grades
    as well, and enough questions whose answers differ (half of them, where they are few) must have them all.
    """
    answer, known = outcomes.answer[rows], np.isfinite(outcomes.quality[rows])
    graded = np.isfinite(filled(outcomes.quality[rows], answer)).all(axis=1)
    if graded.all():
        return rows
    alone = _alone(answer)
    unseen = (alone.sum(axis=0) >= _FEW) & ~(alone & known).any(axis=0)
    differ = ((answer != answer[:, :1]) | (answer < 0)).any(axis=1)
    if unseen.any() or (graded & differ).sum() < min(_FEW, differ.sum() / 2):
        return rows[:0]
    return rows[graded]


def _alone(answer: Ints) -> Bools:
    """Answers (n, M) that no other model gave to the same question."""
    order = np.argsort(answer, axis=1)
    ranked = np.take_along_axis(answer, order, axis=1)
    same = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)
    alone = np.ones(answer.shape, dtype=np.bool_)
    alone[:, 1:] &= ~same
    alone[:, :-1] &= ~same
    out = np.empty_like(alone)
    np.put_along_axis(out, order, alone, axis=1)
    return out


def _place(qid: str) -> float:
    return int.from_bytes(hashlib.blake2b(qid.encode(), digest_size=8).digest()) / 2**64


def _strong(outcomes: Outcomes, usd: Floats, a: Ints, named: str) -> int:
    """The model that is named, else the best of A on questions where all are graded (of equals the
    cheapest)."""
    if named:
        return outcomes.models.index(named)
    both = comparable(outcomes, a)
    quality = np.nanmean(filled(outcomes.quality[both], outcomes.answer[both]), axis=0)
    cost = usd[a].mean(axis=0)
    return int(min(range(len(quality)), key=lambda j: (-round(float(quality[j]), 9), cost[j])))


def filled(quality: Floats, answer: Ints) -> Floats:
    """Where all models said the same and nobody graded it, any grade will do: nothing can be gained or
    lost."""
    same = (answer == answer[:, :1]).all(axis=1) & (answer >= 0).all(axis=1)
    open_ = np.isnan(quality).any(axis=1) & same
    out = quality.copy()
    out[open_] = 1.0
    return out
