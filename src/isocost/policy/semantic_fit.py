"""Fit a semantic cache's verifier on graded pairs, and certify its wrong hits per request.

Past questions come in order. The first part fits: pairs of a question and its nearest earlier one are graded
(*would the same answer do?*), at most ``labels`` of them. The second part certifies: thresholds are tried
from the strictest on, and the loosest is kept before the first whose exact upper bound (Clopper and
Pearson) of wrong hits per request exceeds the limit. In that fixed order no threshold is tested that chance
alone let through, so the confidence needs no correction. What it hits on a third part was never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.policy.semantic import HASHED, Nearest, Weights, score

Floats = NDArray[np.float64]
RIDGE = 1.0
RIDGE_HASHED = 3.0
ROUNDS = 25
STEPS = 60
"""Thresholds that are tried, by equal shares of requests."""
LEAST_OF_EACH = 20
"""Right and wrong pairs without which nothing is fitted."""


class Certificate(NamedTuple):
    """What was shown on the certifying part: ``wrong`` hits of ``hits`` of ``requests`` at the threshold.

    ``upper_frac`` bounds wrong hits per request at the confidence; ``labels`` counts every graded pair of
    the fitting and the certifying part. ``threshold`` is ``inf`` where nothing could be certified.
    """

    threshold: float
    requests: int
    hits: int
    wrong: int
    upper_frac: float
    labels: int


def fit(nearest: Sequence[Nearest], same: Sequence[bool], rarity: dict[str, float], rarest: float) -> Weights:
    """A ridge logistic regression on graded pairs, in its dual: as many unknowns as pairs.

    Raises:
        BadInput: too few pairs that are the same, or too few that are not.
    """
    right = np.array(same, dtype=bool)
    if right.sum() < LEAST_OF_EACH or (~right).sum() < LEAST_OF_EACH:
        raise BadInput(
            f"{int(right.sum())} pairs with one answer and {int((~right).sum())} without",
            where="semantic cache",
            fix=f"Grade at least {LEAST_OF_EACH} of each",
        )
    features = np.array([one.features for one in nearest])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread < 1e-9] = 1.0
    dense = np.concatenate([np.ones((len(features), 1)), (features - centre) / spread], axis=1)
    words = np.zeros((len(features), HASHED))
    for i, one in enumerate(nearest):
        np.add.at(words[i], list(one.hashed), 1.0)
    kernel = dense @ dense.T / RIDGE + words @ words.T / RIDGE_HASHED
    dual = _dual(kernel, right.astype(np.float64))
    weight = dense.T @ dual / RIDGE
    return Weights(
        rarity, rarest, tuple(centre.tolist()), tuple(spread.tolist()), tuple(weight[1:].tolist()),
        tuple((words.T @ dual / RIDGE_HASHED).tolist()), float(weight[0]),
    )  # fmt: skip


def certify(
    weights: Weights,
    nearest: Sequence[Nearest | None],
    grade: Callable[[int], bool],
    *,
    most_wrong_frac: float,
    confidence: float,
    labels_used: int,
) -> tuple[Weights, Certificate]:
    """The loosest threshold whose wrong hits per request are at most ``most_wrong_frac``, at a confidence.

    ``nearest`` is that of every request of the certifying part, in any order; ``grade(i)`` says whether its
    nearest question's answer would do, and is asked only of requests above a threshold that is tried.
    """
    scores = np.array([-math.inf if one is None or one.against else score(weights, one) for one in nearest])
    order = np.argsort(-scores, kind="stable")
    able = int(np.isfinite(scores).sum())
    marks = [math.ceil(able * step / STEPS) for step in range(1, STEPS + 1)] if able else []
    wrong = asked = 0
    best = Certificate(math.inf, len(scores), 0, 0, 0.0, labels_used)
    for mark in sorted(set(marks)):
        for i in order[asked:mark]:
            wrong += not grade(int(i))
        asked = mark
        upper = most(wrong, len(scores), confidence)
        if upper > most_wrong_frac:
            break
        best = Certificate(float(scores[order[mark - 1]]), len(scores), mark, wrong, upper, 0)
    best = best._replace(labels=labels_used + asked)
    return msgspec.structs.replace(weights, threshold=best.threshold), best


def most(wrong: int, many: int, confidence: float) -> float:
    """The exact upper confidence bound of a share (Clopper and Pearson, 1934), one-sided.

    >>> round(most(0, 300, 0.95), 4)
    0.0099
    >>> most(5, 5, 0.95)
    1.0
    """
    if many <= 0 or wrong >= many:
        return 1.0
    low, high = wrong / many, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _at_most(wrong, many, middle) > 1.0 - confidence else (low, middle)
    return high


def _at_most(wrong: int, many: int, share: float) -> float:
    """Probability of at most ``wrong`` of ``many``."""
    if share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    log = math.lgamma(many + 1)
    terms = [
        log
        - math.lgamma(k + 1)
        - math.lgamma(many - k + 1)
        + k * math.log(share)
        + (many - k) * math.log1p(-share)
        for k in range(wrong + 1)
    ]
    top = max(terms)
    return min(1.0, math.exp(top) * math.fsum(math.exp(one - top) for one in terms))


def _dual(kernel: Floats, right: Floats) -> Floats:
    """Dual weights of a ridge logistic regression by Newton's method: (pairs,)."""
    log_odds: Floats = np.zeros(len(right))
    dual: Floats = np.zeros(len(right))
    for _ in range(ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -30.0, 30.0)))
        bend = np.maximum(chance * (1.0 - chance), 1e-6)
        target = log_odds + (right - chance) / bend
        dual = np.asarray(np.linalg.solve(kernel + np.diag(1.0 / bend), target), dtype=np.float64)
        log_odds, before = kernel @ dual, log_odds
        if float(np.abs(log_odds - before).max()) < 1e-6:
            break
    return dual
