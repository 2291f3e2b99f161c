"""Fit a semantic cache's verifier on graded pairs, and certify its wrong hits per request.

Past questions come in order. The first part fits. Pairs of a question and an earlier one that is alike are
graded (*would the same answer do?*), at most ``labels`` of them; what has one answer as a third has the
answer of that, so a few grades a question make groups (:func:`grow`). Which words speak for which group is
learned by ridge (:func:`grouped`), and a logistic regression weighs that with what two questions share
(:func:`fit`). The second part certifies: thresholds are tried from the strictest on, and the loosest is kept
before the first whose exact upper bound (Clopper and Pearson) of wrong hits per request exceeds the limit. In
that fixed order no threshold is tested that chance alone let through, so the confidence needs no correction.
What it hits on a third part was never looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.policy.proven import upper
from isocost.policy.semantic import HASHED, Member, Nearest, Weights, best, member_of, together

Floats = NDArray[np.float64]
RIDGE = 1.0
RIDGE_HASHED = 3.0
RIDGE_GROUP = 0.3
ROUNDS = 25
_ROUNDS_INSIDE = 200
STEPS = 60
"""Thresholds that are tried, by equal shares of requests."""
LEAST_OF_EACH = 20
"""Right and wrong pairs without which nothing is fitted."""
TRIES = 3
"""Groups that a question is held against before it founds one."""
SMALLEST_GROUP = 3
FOUND = 0.25
"""Share of the graded questions that only found groups."""
SPOKEN = 5
"""Features that groups say, the last ones."""
MOST_GROUPS = 160


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


class Grown(NamedTuple):
    """Questions in groups of one answer: ``group`` of each that was graded (others are absent), pairs of
    groups that are ``apart``, and how many pairs were graded."""

    group: dict[int, int]
    apart: frozenset[tuple[int, int]]
    labels: int

    def same(self, one: int, two: int) -> bool | None:
        """Whether two questions have one answer, ``None`` where grades do not say."""
        a, b = self.group.get(one), self.group.get(two)
        if a is None or b is None:
            return None
        return True if a == b else False if (min(a, b), max(a, b)) in self.apart else None


def grow(
    alike: Sequence[Sequence[tuple[float, int]]], grade: Callable[[int, int], bool], labels: int
) -> Grown:
    """Put questions into groups, one after another, until ``labels`` pairs are graded.

    ``alike[i]`` lists (likeness, number) of questions before i, the most alike first. Each is held against
    the most alike question of the groups that speak loudest for it (the sum of squared likeness), at most
    ``TRIES`` of them; ``grade(i, j)`` says whether one answer would do.
    """
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent.setdefault(i, i) != i:
            i = parent[i]
        return i

    asked = 0
    differ: list[tuple[int, int]] = []
    for i, found in enumerate(alike):
        if asked >= labels:
            break
        loud: dict[int, float] = {}
        first: dict[int, int] = {}
        for likeness, other in found:
            group = root(other)
            loud[group] = loud.get(group, 0.0) + likeness * likeness
            first.setdefault(group, other)
        mine = root(i)
        for group in sorted(loud, key=lambda each: (-loud[each], each))[: min(TRIES, labels - asked)]:
            asked += 1
            if grade(i, first[group]):
                parent[mine] = group
                break
            differ.append((mine, group))
    number = {i: root(i) for i in parent}
    apart = {(min(a, b), max(a, b)) for one, two in differ for a, b in [(root(one), root(two))]}
    return Grown(number, frozenset(apart), asked)


def grouped(
    vectors: Sequence[Mapping[str, float]], grown: Grown
) -> tuple[dict[str, tuple[float, ...]], dict[int, Member]]:
    """What each part of a question says of each group, by ridge on the questions that were graded; and how
    far each of those belongs to the groups by what the others say of it (leave-one-out).
    """
    sizes = Counter(grown.group.values())
    large = [group for group, many in sizes.most_common(MOST_GROUPS) if many >= SMALLEST_GROUP]
    if len(large) < 2:
        return {}, {}
    place = {group: k for k, group in enumerate(large)}
    rows = sorted(grown.group)
    counts = Counter(part for i in rows for part in vectors[i])
    column = {part: k for k, part in enumerate(part for part, many in counts.items() if many > 1)}
    words = np.zeros((len(rows), len(column)), dtype=np.float32)
    target = np.zeros((len(rows), len(large)))
    alone = np.zeros(len(rows))
    for k, i in enumerate(rows):
        for part, share in vectors[i].items():
            at = column.get(part)
            if at is None:
                alone[k] += share * share
            else:
                words[k, at] = share
        if (group := place.get(grown.group[i])) is not None:
            target[k, group] = 1.0
    kernel = np.asarray(words @ words.T, dtype=np.float64) + np.diag(alone)
    inverse = np.linalg.inv(kernel + RIDGE_GROUP * np.eye(len(rows)))
    fitted = kernel @ inverse
    own = np.diag(fitted)[:, None]
    others = (fitted @ target - own * target) / (1.0 - own)
    weight = words.T @ (inverse @ target)
    said = {part: tuple(weight[k].tolist()) for part, k in column.items()}
    return said, {i: member_of(others[k].tolist()) for k, i in enumerate(rows)}


def graded_pairs(
    near: Sequence[Sequence[Nearest]], grown: Grown, members: Mapping[int, Member]
) -> tuple[list[Nearest], list[bool]]:
    """Candidates of graded questions whose grade follows, with what their groups say, as fit takes them.

    The first questions found groups in a cache that is nearly empty; they are left out.
    """
    pairs, same = [], []
    for i in sorted(grown.group)[int(FOUND * len(grown.group)) :]:
        for one in near[i]:
            follows = grown.same(i, one.entry)
            if follows is not None and not one.against:
                told = one.features
                if members:
                    told = (*told[:-SPOKEN], *together(members[i], members[one.entry]))
                pairs.append(one._replace(features=told))
                same.append(follows)
    return pairs, same


def fit(
    pairs: Sequence[Nearest],
    same: Sequence[bool],
    rarity: Mapping[str, float],
    rarest: float,
    groups: Mapping[str, tuple[float, ...]] | None = None,
) -> Weights:
    """A ridge logistic regression on graded pairs, by Newton's method and conjugate gradients.

    Raises:
        BadInput: too few pairs that are the same, or too few that are not.
    """
    right = np.array(same, dtype=np.float64)
    if min(right.sum(), len(right) - right.sum()) < LEAST_OF_EACH:
        raise BadInput(
            f"{int(right.sum())} pairs with one answer and {int(len(right) - right.sum())} without",
            where="semantic cache",
            fix=f"Grade at least {LEAST_OF_EACH} of each",
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
) -> tuple[Weights, Certificate]:
    """The loosest threshold whose wrong hits per request are at most ``most_wrong_frac``, at a confidence.

    ``near`` are the candidates of every request of the certifying part, in any order; ``grade(i, entry)``
    says whether the answer of a cached question would do, and is asked only of requests above a threshold
    that is tried.
    """
    found = [best(weights, one) for one in near]
    scores = np.array([score for _, score in found])
    order = np.argsort(-scores, kind="stable")
    able = int(np.isfinite(scores).sum())
    marks = [math.ceil(able * step / STEPS) for step in range(1, STEPS + 1)] if able else []
    wrong = asked = 0
    shown = Certificate(math.inf, len(scores), 0, 0, 0.0, labels_used)
    for mark in sorted(set(marks)):
        for i in order[asked:mark]:
            one = found[i][0]
            wrong += one is None or not grade(int(i), one.entry)
        asked = mark
        bound = upper(wrong, len(scores), confidence)
        if bound > most_wrong_frac:
            break
        shown = Certificate(float(scores[order[mark - 1]]), len(scores), mark, wrong, bound, 0)
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
