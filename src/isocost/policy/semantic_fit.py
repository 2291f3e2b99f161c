"""Fit a semantic cache's verifier on graded pairs, and certify its wrong hits per request.

Past questions come in order. The first part fits. Pairs of a question and an earlier one that is alike are
graded (*would the same answer do?*), at most ``labels`` of them; what has one answer as a third has the
answer of that, so a grade or two a question make groups (:func:`learn`). Which words speak for which group is
learned by ridge (:func:`grouped`), and a logistic regression weighs that with what two questions share
(:func:`fit`). The second part certifies: thresholds are tried from the strictest on, and the loosest is kept
before the first whose exact upper bound (Clopper and Pearson) of wrong hits per request exceeds the limit.
Wrong hits only grow as a threshold falls, so one that lets too many through is kept only where the first such
one passed, which has less than the chance allowed: the confidence needs no correction. Where requests come
in sessions these are what is drawn, and the bound is a bet on each (:mod:`isocost.policy.drawn`).
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
from isocost.policy.drawn import Tally, tallied
from isocost.policy.proven import upper_of
from isocost.policy.semantic import HASHED, Member, Nearest, Weights, best, member_of, together

Floats = NDArray[np.float64]
RIDGE = 1.0
RIDGE_HASHED = 3.0
RIDGE_GROUP = 0.3
ROUNDS = 25
_ROUNDS_INSIDE = 200
LEAST_OF_EACH = 20
"""Right and wrong pairs without which nothing is fitted."""
JOINS = 0.27
"""Share of the grades that hold whole groups against each other, when each question had its own."""
JOIN_ROUNDS = 8
JOIN_LARGE = 0.5
"""How much more two groups are worth to be held against each other, for each e-fold of the smaller one."""
JOIN_ALONE = 0.6
"""How much a question that stands alone is worth to be held against a group."""
CLEAR_LEAST = 0.02
"""How far the words of a group speak for it at least, where likeness is measured by that."""
_JOIN_CANDIDATES = 40
SMALLEST_GROUP = 3
FOUND = 0.25
"""Share of the graded questions that only found groups."""
SPOKEN = 5
"""Features that groups say, the last ones."""
MOST_GROUPS = 160


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


class _Groups:
    """Questions that have one answer, and groups of them that are known to have two."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._apart: dict[int, set[int]] = {}
        self.labels = 0

    def root(self, i: int) -> int:
        parent = self._parent
        while parent.setdefault(i, i) != i:
            i = parent[i]
        return i

    def are_apart(self, one: int, two: int) -> bool:
        return two in self._apart.get(one, ())

    def hold(self, one: int, two: int, grade: Callable[[int, int], bool]) -> bool:
        """Grade two questions of two groups; the groups are one then, or apart."""
        a, b = self.root(one), self.root(two)
        self.labels += 1
        if not grade(max(one, two), min(one, two)):
            self._apart.setdefault(a, set()).add(b)
            self._apart.setdefault(b, set()).add(a)
            return False
        self._parent[a] = b
        for other in self._apart.pop(a, set()):
            self._apart[other] = (self._apart[other] - {a}) | {b}
            self._apart.setdefault(b, set()).add(other)
        return True

    def grown(self) -> Grown:
        apart = {(min(a, b), max(a, b)) for a, others in self._apart.items() for b in others}
        return Grown({i: self.root(i) for i in self._parent}, frozenset(apart), self.labels)


def learn(
    alike: Sequence[Sequence[tuple[float, int]]],
    vectors: Sequence[Mapping[str, float]],
    grade: Callable[[int, int], bool],
    labels: int,
) -> tuple[Grown, Read]:
    """Put questions into groups with at most ``labels`` graded pairs.

    ``alike[i]`` lists (likeness, number) of questions before i, the most alike first, and ``vectors[i]`` the
    question's parts; ``grade(i, j)`` says whether one answer would do. First one question after another is
    held against one earlier question (:func:`_first`). That leaves many groups where there is one answer;
    the rest of the grades finds them (:func:`_join`).
    """
    groups = _Groups()
    joins = int(JOINS * labels)
    seen = _first(groups, alike, grade, labels - joins, 0)
    read = Read.of(vectors, sorted(groups.grown().group))
    for left in range(JOIN_ROUNDS, 0, -1):
        _join(groups, read, grade, math.ceil((labels - groups.labels) / left))
    if groups.labels < labels and seen < len(alike):
        # Few groups are soon told apart: what is left goes to more questions.
        _first(groups, alike, grade, labels, seen)
        read = Read.of(vectors, sorted(groups.grown().group))
    return groups.grown(), read


def _first(
    groups: _Groups,
    alike: Sequence[Sequence[tuple[float, int]]],
    grade: Callable[[int, int], bool],
    labels: int,
    start: int,
) -> int:
    """Hold each question from ``start`` on against the most alike one of the group that speaks loudest for it
    (the sum of squared likeness), once: a second try is worth less than another question. The question that
    would have come next."""
    for i, found in enumerate(alike[start:], start):
        if groups.labels >= labels:
            return i
        loud: dict[int, float] = {}
        first: dict[int, int] = {}
        for likeness, other in found:
            group = groups.root(other)
            loud[group] = loud.get(group, 0.0) + likeness * likeness
            first.setdefault(group, other)
        groups.root(i)
        if loud:
            groups.hold(i, first[min(loud, key=lambda each: (-loud[each], each))], grade)
    return len(alike)


class Read(NamedTuple):
    """Graded questions as a ridge regression reads them: ``rows`` their numbers, ``column`` of each part that
    two of them have, ``words`` (rows, columns) its weight, ``kernel`` (rows, rows) how alike they are,
    ``inverse`` of that plus the ridge, and ``fitted``, their product."""

    rows: list[int]
    column: dict[str, int]
    words: NDArray[np.float32]
    kernel: Floats
    inverse: Floats
    fitted: Floats

    @classmethod
    def of(cls, vectors: Sequence[Mapping[str, float]], rows: list[int]) -> Read:
        """Read the questions of ``rows``."""
        counts = Counter(part for i in rows for part in vectors[i])
        column = {part: k for k, part in enumerate(part for part, many in counts.items() if many > 1)}
        words = np.zeros((len(rows), len(column)), dtype=np.float32)
        alone = np.zeros(len(rows))
        for k, i in enumerate(rows):
            for part, share in vectors[i].items():
                at = column.get(part)
                if at is None:
                    alone[k] += share * share
                else:
                    words[k, at] = share
        kernel = np.asarray(words @ words.T, dtype=np.float64) + np.diag(alone)
        inverse: Floats = np.asarray(
            np.linalg.inv(kernel + RIDGE_GROUP * np.eye(len(rows))), dtype=np.float64
        )
        return cls(rows, column, words, kernel, inverse, kernel @ inverse)

    def by_others(self, target: Floats) -> Floats:
        """What the others say of each question's ``target`` (rows, groups): leave-one-out."""
        own = np.diag(self.fitted)[:, None]
        return np.asarray((self.fitted @ target - own * target) / (1.0 - own), dtype=np.float64)


def _join(groups: _Groups, read: Read, grade: Callable[[int, int], bool], labels: int) -> None:
    """Hold groups against each other that words take for each other, and questions that stand alone against
    the group that their words speak for: of all the likeliest first, each group once."""
    roots = [groups.root(i) for i in read.rows]
    sizes = Counter(roots)
    names = [group for group, many in sizes.items() if many > 1]
    if labels < 1 or not names:
        return
    place = {group: k for k, group in enumerate(names)}
    mine = np.array([place.get(group, -1) for group in roots])
    within = np.flatnonzero(mine >= 0)
    target = np.zeros((len(roots), len(names)))
    target[within, mine[within]] = 1.0
    told = read.by_others(target)
    many = target.sum(axis=0)
    mean = (target.T @ told) / many[:, None]
    clear = np.maximum(np.diag(mean), CLEAR_LEAST)
    both = np.triu((mean + mean.T) / (clear[:, None] + clear), 1)
    both *= 1.0 + JOIN_LARGE * np.log(np.minimum(many[:, None], many))
    wanted = []
    for flat in np.argsort(-both, axis=None, kind="stable")[: _JOIN_CANDIDATES * labels]:
        a, b = divmod(int(flat), len(names))
        if both[a, b] > 0.0 and not groups.are_apart(names[a], names[b]):
            wanted.append((float(both[a, b]), a, b))
    for k in np.flatnonzero(mine < 0).tolist():
        open_ = (int(g) for g in np.argsort(-told[k], kind="stable") if told[k, g] > 0.0)
        best_ = next((g for g in open_ if not groups.are_apart(roots[k], names[g])), None)
        if best_ is not None:
            wanted.append((JOIN_ALONE * float(told[k, best_]), -1 - k, best_))
    held: set[int] = set()
    end = groups.labels + labels
    for _, a, b in sorted(wanted, key=lambda one: (-one[0], one[1], one[2])):
        if groups.labels >= end:
            return
        if a >= 0 and (a in held or b in held):
            continue
        held |= {a, b} if a >= 0 else set()
        here = np.flatnonzero(mine == a) if a >= 0 else np.array([-1 - a])
        there = np.flatnonzero(mine == b)
        near = read.kernel[np.ix_(here, there)]
        i, j = np.unravel_index(int(near.argmax()), near.shape)
        one, two = read.rows[here[i]], read.rows[there[j]]
        if groups.root(one) != groups.root(two) and not groups.are_apart(groups.root(one), groups.root(two)):
            groups.hold(one, two, grade)


def grouped(read: Read, grown: Grown) -> tuple[dict[str, tuple[float, ...]], dict[int, Member]]:
    """What each part of a question says of each group, by ridge on the questions that were graded; and how
    far each of those belongs to the groups by what the others say of it (leave-one-out).
    """
    sizes = Counter(grown.group.values())
    large = [group for group, many in sizes.most_common(MOST_GROUPS) if many >= SMALLEST_GROUP]
    if len(large) < 2:
        return {}, {}
    place = {group: k for k, group in enumerate(large)}
    target = np.zeros((len(read.rows), len(large)))
    for k, i in enumerate(read.rows):
        if (group := place.get(grown.group[i])) is not None:
            target[k, group] = 1.0
    others = read.by_others(target)
    weight = read.words.T @ (read.inverse @ target)
    said = {part: tuple(weight[k].tolist()) for part, k in read.column.items()}
    return said, {i: member_of(others[k].tolist()) for k, i in enumerate(read.rows)}


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
    shown = Certificate(math.inf, len(scores), 0, 0, 0.0, labels_used)
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
