"""Fit a semantic cache's verifier on graded pairs, and certify its wrong hits per request.

Past questions come in order. The first part fits: pairs are graded and questions put into groups
(:mod:`isocost.policy.semantic_learn`), and a logistic regression weighs what groups say with what two
questions share (:func:`fit`). The second part certifies, the third, which was never looked at, reports.

:func:`certify` is the simplest form, for a cache that keeps every question, as ``isocost validate semcache``
plays it: every score is tried as a threshold, from the highest on, and the loosest is kept before the first
whose exact upper bound (Clopper and Pearson) of wrong hits per request exceeds the limit. There wrong hits
only grow as a threshold falls, so one that lets too many through is kept only where the first such one
passed, which has less than the chance allowed: the confidence needs no correction. A cache that runs keeps
what it misses, so that its wrong hits need not grow: what goes into plans is certified by
:func:`isocost.policy.semantic_study.study`, at a few thresholds in an order that no grade has set. Where
requests come in sessions these are what is drawn, and the bound is a bet on each
(:mod:`isocost.policy.drawn`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.policy.drawn import Tally, tallied
from isocost.policy.proven import upper_of
from isocost.policy.semantic import HASHED, Nearest, Weights, best
from isocost.units import plural

Floats = NDArray[np.float64]
RIDGE = 1.0
"""Penalty of a weight of a feature, each scaled to a spread of 1; half its square, as of a prior."""
RIDGE_HASHED = 3.0
"""Penalty of a weight of a word: of thousands each is seen a few times."""
ROUNDS = 25
"""Steps of Newton's method at most; seven or so are taken."""
_ROUNDS_INSIDE = 200
LEAST_PAIRS = 40
"""Pairs without which nothing is fitted. They may all be right, or all wrong: the ridge then says so of all
that are alike, and a certificate is made by other requests."""

REPORTS, CERTIFIES, CERTIFIES_LARGE = 0.3, 0.3, 0.2
"""Shares of the requests that report and that certify; of many requests fewer certify."""
ENOUGH = 2600
"""Certifying requests of which 17 may be wrong at 1 % and 95 %: more would let through hardly more, and their
grades buy more hits where they fit."""


def parts(many: int) -> tuple[int, int]:
    """Where the requests that fit end, and those that certify; the rest reports.

    >>> parts(1000), parts(13_083)
    ((400, 700), (6542, 9158))
    """
    end = many - math.ceil(REPORTS * many)
    return end - min(int(CERTIFIES * many), max(int(CERTIFIES_LARGE * many), ENOUGH)), end


def cut(units: Sequence[int]) -> tuple[int, int]:
    """:func:`parts` of requests by their sessions, moved on to where one session ends and another begins.

    >>> cut([0, 1, 2, 3, 4, 4, 4, 5, 6, 7])
    (4, 7)
    >>> cut([0, 1, 2, 3, 3, 4, 4, 4, 5, 5]), cut([0] * 10)
    ((5, 8), (4, 7))
    """
    first, end = parts(len(units))

    def moved(mark: int) -> int:
        while 0 < mark < len(units) and units[mark] == units[mark - 1]:
            mark += 1
        return mark

    # A session that has all the rest leaves nothing behind it: it stays cut.
    first, end = (mark if (after := moved(mark)) == len(units) else after for mark in (first, end))
    return first, end


class Certificate(NamedTuple):
    """What was shown on the certifying part: ``wrong`` hits of ``hits`` of ``requests`` at the threshold.

    ``upper_frac`` bounds wrong hits per request at the confidence (NaN: nothing is certified); ``labels``
    counts every graded pair of the fitting and the certifying part. ``threshold`` is ``inf`` where nothing
    could be certified.
    """

    threshold: float
    requests: int
    hits: int
    wrong: int
    upper_frac: float
    labels: int


def fit(
    pairs: Sequence[Nearest],
    same: Sequence[bool],
    rarity: Mapping[str, float],
    rarest: float,
    groups: Mapping[str, tuple[float, ...]] | None = None,
) -> Weights:
    """A ridge logistic regression on graded pairs, by Newton's method and conjugate gradients.

    Raises:
        BadInput: too few pairs.
    """
    right = np.array(same, dtype=np.float64)
    if len(pairs) < LEAST_PAIRS:
        raise BadInput(
            f"{plural(len(pairs), 'graded pair')} that are alike",
            where="semantic cache",
            fix=f"Grade at least {LEAST_PAIRS}",
        )
    features = np.array([one.features for one in pairs])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread < 1e-9] = 1.0
    dense = np.concatenate([np.ones((len(features), 1)), (features - centre) / spread], axis=1)
    row = np.repeat(np.arange(len(pairs)), [len(one.hashed) for one in pairs])
    word = np.array([column for one in pairs for column in one.hashed], dtype=np.int64)
    weight = _logistic(dense, row, word, right)
    size = dense.shape[1]
    return Weights(
        rarity, rarest, tuple(centre.tolist()), tuple(spread.tolist()), tuple(weight[1:size].tolist()),
        tuple(weight[size:].tolist()), float(weight[0]), groups or {},
    )  # fmt: skip


def certify(
    weights: Weights,
    near: Sequence[Sequence[Nearest]],
    grade: Callable[[int, int], bool],
    *,
    most_wrong_frac: float,
    confidence: float,
    labels_used: int,
    units: Sequence[int] | None = None,
    each: int = 0,
) -> tuple[Weights, Certificate]:
    """The loosest threshold whose wrong hits per request are at most ``most_wrong_frac``, at a confidence.

    Every score is tried as a threshold, from the highest on. ``near`` are the candidates of every request of
    the certifying part, in any order; ``grade(i, entry)`` says whether the answer of a cached question would
    do, and is asked only of requests above a threshold that is tried. ``units`` has the session of every
    request (``None``: each is alone), which is given at most ``each`` answers: as many of its wrong ones
    count.
    """
    found = [best(weights, one) for one in near]
    scores = np.array([score for _, score in found])
    order = np.argsort(-scores, kind="stable")
    able = int(np.isfinite(scores).sum())
    asked = known = 0
    amiss: list[int] = []
    tallies: tuple[Tally, ...] = ()
    most = 1.0
    shown = Certificate(math.inf, len(scores), 0, 0, math.nan, labels_used)
    numbers = list(range(len(scores))) if units is None else list(units)
    each = 1 if units is None else each
    while asked < able:
        mark = asked + 1
        # Equal scores stand or fall together.
        while mark < able and scores[order[mark]] == scores[order[asked]]:
            mark += 1
        for i in order[asked:mark]:
            one = found[i][0]
            if one is None or not grade(int(i), one.entry):
                amiss.append(numbers[int(i)])
        asked = mark
        if not tallies or len(amiss) > known:
            known, tallies = len(amiss), tallied(numbers, amiss, each)
            most = upper_of(tallies, each, most_wrong_frac, confidence)
        if most > most_wrong_frac:
            break
        bar = float(scores[order[mark - 1]])
        wrong = sum(bad * many for _, bad, many in tallies)
        shown = Certificate(bar, len(scores), mark, wrong, most, 0)
    shown = shown._replace(labels=labels_used + asked)
    return msgspec.structs.replace(weights, threshold=shown.threshold), shown


def _logistic(dense: Floats, row: NDArray[np.int64], word: NDArray[np.int64], right: Floats) -> Floats:
    """Weights of the dense columns, then of the hashed ones: (dense + HASHED,)."""
    size = dense.shape[1]
    penalty = np.concatenate([np.full(size, RIDGE), np.full(HASHED, RIDGE_HASHED)])

    def times(w: Floats) -> Floats:
        return np.asarray(dense @ w[:size] + np.bincount(row, w[size + word], len(dense)), dtype=np.float64)

    def back(u: Floats) -> Floats:
        return np.concatenate([dense.T @ u, np.bincount(word, u[row], HASHED)])

    weight = np.zeros(size + HASHED)
    for _ in range(ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(times(weight), -30.0, 30.0)))
        bend = np.maximum(chance * (1.0 - chance), 1e-6)
        rest = back(right - chance) - penalty * weight
        move, step, now = np.zeros_like(weight), rest.copy(), float(rest @ rest)
        start = now
        for _ in range(_ROUNDS_INSIDE):
            if now <= 1e-8 * start or now == 0.0:
                break
            image = back(bend * times(step)) + penalty * step
            length = now / float(step @ image)
            move, rest = move + length * step, rest - length * image
            after = float(rest @ rest)
            step, now = rest + after / now * step, after
        weight = weight + move
        if float(np.abs(move).max()) < 1e-6:
            break
    return weight
