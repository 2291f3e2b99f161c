"""Put past questions into groups of one answer with few graded pairs, and learn which words speak for which.

Who grades says whether one answer would do for two questions. What has one answer as a third has the answer
of that, so a grade or two a question make groups (:func:`learn`). At first likeness tells which question is
held against which: likeness of words and letters, and of the directions in which all questions differ (latent
semantics, which needs no grade). Then two regressions read a question's parts (:func:`grouped`): a ridge, and
a softmax that also learns from what was *not* found: a question that stands alone belongs to none of the
groups that it was held against.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.policy.semantic import Member, Nearest, member_of, together

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
RIDGE_GROUP = 0.3
"""Penalty of the ridge of groups on words, beside likenesses of 1 of each question to itself."""
RIDGE_CHANCE = 0.05
"""Penalty of the softmax."""
JOINS = 0.2
"""Share of the grades that hold whole groups against each other, when each question had its own."""
JOIN_ROUNDS = 8
"""Rounds of that, the grades of each read before the next."""
JOIN_LARGE = 0.5
"""How much more two groups are worth to be held against each other, for each e-fold of the smaller one."""
JOIN_ALONE = 0.6
"""How much a question that stands alone is worth to be held against a group."""
CLEAR_LEAST = 0.02
"""How far the words of a group speak for it at least, where likeness is measured by that."""
_JOIN_CANDIDATES = 40
LOUD = 4
"""Power of likeness with which questions speak for their group: one that is alike says more than many."""
LATENT, _LATENT_ROUNDS, _LATENT_SPARE = 160, 4, 16
"""Directions of latent semantics, rounds of subspace iteration and directions beside them."""
MOST_COMPARED, LARGEST_COMPARED = 2, 10_000
"""Questions, for each grade and in all, that are compared each with each: the square of them is held."""
SMALLEST_GROUP = 2
"""Questions of a group that words are learnt for: one question alone says nothing of another."""
MOST_GROUPS = 160
"""Groups that words are learnt for, the largest: each is a number for each word."""
FOUND = 0.25
"""Share of the graded questions, the first, that only found groups: no pairs of them are fitted."""
SPOKEN = 15
"""Features that groups say, the last ones."""
_STEPS, _STEPS_FOLD, _FOLDS = 60, 40, 4
"""Steps of the softmax, of that without a fold, and folds."""
_POWER_STEPS = 8
"""Steps of the power method to the largest eigenvalue, half of which bounds how far the softmax bends."""
_SEED = 20_261_123

Grade = Callable[[int, int], bool]
"""Whether the answer of the second question, which was asked before, would do for the first."""


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

    def hold(self, one: int, two: int, grade: Grade) -> bool:
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


class Read(NamedTuple):
    """Graded questions as regressions read them: ``rows`` their numbers, ``vectors`` their parts, ``kernel``
    (rows, rows) how alike they are, ``inverse`` of that plus the ridge, and ``fitted``, their product."""

    rows: list[int]
    vectors: Sequence[Mapping[str, float]]
    kernel: Singles
    inverse: Floats
    fitted: Floats

    @classmethod
    def of(
        cls, vectors: Sequence[Mapping[str, float]], rows: list[int], kernel: Singles | None = None
    ) -> Read:
        """Read the questions of ``rows``, whose likenesses may be known."""
        some = [vectors[i] for i in rows]
        kernel = likeness_of(some) if kernel is None else kernel[np.ix_(rows, rows)]
        wide = kernel.astype(np.float64)
        inverse: Floats = np.asarray(np.linalg.inv(wide + RIDGE_GROUP * np.eye(len(rows))), dtype=np.float64)
        return cls(rows, some, kernel, inverse, wide @ inverse)

    def by_others(self, target: Floats) -> Floats:
        """What the others say of each question's ``target`` (rows, groups): leave-one-out."""
        own = np.diag(self.fitted)[:, None]
        return np.asarray((self.fitted @ target - own * target) / (1.0 - own), dtype=np.float64)

    def said(self, share: Floats) -> dict[str, Floats]:
        """What each part that two questions have says, where each question says ``share`` (rows, groups)."""
        counts = Counter(part for vector in self.vectors for part in vector)
        out: dict[str, Floats] = {}
        for row, vector in zip(share, self.vectors, strict=True):
            for part, weight in vector.items():
                if counts[part] > 1:
                    there = out.get(part)
                    out[part] = weight * row if there is None else there + weight * row
        return out


def likeness_of(vectors: Sequence[Mapping[str, float]]) -> Singles:
    """How alike questions are, each with each: the products of their parts, (questions, questions)."""
    many = len(vectors)
    places: dict[str, list[int]] = {}
    for i, vector in enumerate(vectors):
        for part in vector:
            places.setdefault(part, []).append(i)
    shared = {part: np.array(at) for part, at in places.items() if len(at) > 1}
    weights = {part: np.array([vectors[i][part] for i in at.tolist()]) for part, at in shared.items()}
    out = np.zeros((many, many), dtype=np.float32)
    for i, vector in enumerate(vectors):
        known = [part for part in vector if part in shared]
        if known:
            at = np.concatenate([shared[part] for part in known])
            products = np.concatenate([vector[part] * weights[part] for part in known])
            out[i] = np.bincount(at, products, many)
        out[i, i] = 1.0 if vector else 0.0
    return out


def latent(kernel: Singles) -> Singles:
    """Each question by the directions in which questions differ most (latent semantics), of length 1:
    (questions, directions). Subspace iteration from a fixed start."""
    many = len(kernel)
    if not many:
        return kernel
    wide = min(LATENT + _LATENT_SPARE, many)
    rng = np.random.Generator(np.random.PCG64(_SEED))
    basis = rng.standard_normal((many, wide)).astype(np.float32)
    for _ in range(_LATENT_ROUNDS):
        basis = np.linalg.qr(kernel @ basis)[0]
    values, turn = np.linalg.eigh((basis.T @ (kernel @ basis)).astype(np.float64))
    keep = np.argsort(-values)[: min(LATENT, wide)]
    found = basis @ (turn[:, keep] * np.sqrt(np.maximum(values[keep], 0.0))).astype(np.float32)
    length = np.sqrt((found * found).sum(axis=1, keepdims=True))
    return np.asarray(found / np.maximum(length, 1e-9), dtype=np.float32)


def learn(
    vectors: Sequence[Mapping[str, float]],
    grade: Grade,
    labels: int,
    scopes: Sequence[bytes] | None = None,
) -> tuple[Grown, Read]:
    """Put questions into groups with at most ``labels`` graded pairs.

    ``vectors[i]`` are the parts of the i-th question, ``scopes[i]`` says where it was asked: pairs of two
    scopes are never graded. First one question after another is held against one earlier question
    (:func:`_first`). That leaves many groups where there is one answer; the rest of the grades finds them
    (:func:`_join`).
    """
    groups = _Groups()
    kernel = likeness_of(vectors[: min(MOST_COMPARED * labels, LARGEST_COMPARED)])
    many = len(kernel)
    number: dict[bytes, int] = {}
    names = np.array([number.setdefault(scope, len(number)) for scope in (scopes or [b""] * many)[:many]])
    first = _First(kernel, latent(kernel), names)
    first.hold(groups, grade, labels - int(JOINS * labels))
    read = Read.of(vectors, sorted(groups.grown().group), kernel)
    for left in range(JOIN_ROUNDS, 0, -1):
        _join(groups, read, names[read.rows], grade, math.ceil((labels - groups.labels) / left))
    if groups.labels < labels and first.seen < many:
        # Few groups are soon told apart: what is left goes to more questions.
        first.hold(groups, grade, labels)
        read = Read.of(vectors, sorted(groups.grown().group), kernel)
    return groups.grown(), read


class _First:
    """Questions one after another, each held once against the most alike one of the group that speaks loudest
    for it: a second try is worth less than another question."""

    def __init__(self, kernel: Singles, hidden: Singles, scopes: NDArray[np.int64]) -> None:
        self._kernel, self._hidden, self._scopes = kernel, hidden, scopes
        self.seen = 0
        """The question that comes next."""

    def hold(self, groups: _Groups, grade: Grade, labels: int) -> None:
        """Grade until so many pairs are graded in all."""
        while self.seen < len(self._kernel) and groups.labels < labels:
            i = self.seen
            self.seen += 1
            groups.root(i)
            alike = 0.5 * (self._kernel[i, :i] + self._hidden[:i] @ self._hidden[i])
            alike[(alike <= 0.0) | (self._scopes[:i] != self._scopes[i])] = 0.0
            there = np.flatnonzero(alike)
            if not len(there):
                continue
            roots = np.array([groups.root(j) for j in there.tolist()])
            names, at = np.unique(roots, return_inverse=True)
            loud = names[np.bincount(at, alike[there].astype(np.float64) ** LOUD).argmax()]
            mine = there[roots == loud]
            groups.hold(i, int(mine[alike[mine].argmax()]), grade)


def _join(groups: _Groups, read: Read, scopes: NDArray[np.int64], grade: Grade, labels: int) -> None:
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
        near = np.where(scopes[here][:, None] == scopes[there], read.kernel[np.ix_(here, there)], -1.0)
        i, j = np.unravel_index(int(near.argmax()), near.shape)
        one, two = groups.root(read.rows[here[i]]), groups.root(read.rows[there[j]])
        if near[i, j] >= 0.0 and one != two and not groups.are_apart(one, two):
            groups.hold(read.rows[here[i]], read.rows[there[j]], grade)


def grouped(read: Read, grown: Grown) -> tuple[dict[str, tuple[float, ...]], dict[int, Member]]:
    """What each part of a question says of each group, by ridge and by softmax, on the questions that were
    graded; and how far each of those belongs to the groups by what the others say of it (leave-one-out, and
    out of fold).
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
    may = _may_be(read.rows, grown, place)
    share = np.concatenate([read.inverse @ target, _chances(read.kernel, may, _STEPS)], axis=1)
    fold = np.arange(len(read.rows)) % _FOLDS
    out = np.zeros(may.shape)
    for k in range(_FOLDS):
        rest, mine = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        seen = _chances(np.ascontiguousarray(read.kernel[np.ix_(rest, rest)]), may[rest], _STEPS_FOLD)
        out[mine] = read.kernel[np.ix_(mine, rest)] @ seen
    others = np.concatenate([read.by_others(target), out], axis=1)
    said = {part: tuple(row.tolist()) for part, row in read.said(share).items()}
    return said, {i: member_of(others[k].tolist()) for k, i in enumerate(read.rows)}


def _may_be(rows: Sequence[int], grown: Grown, place: Mapping[int, int]) -> NDArray[np.bool_]:
    """Groups that each question may belong to; the last column: to none of them."""
    apart: dict[int, list[int]] = {}
    for a, b in grown.apart:
        for one, two in ((a, b), (b, a)):
            if two in place:
                apart.setdefault(one, []).append(place[two])
    may = np.zeros((len(rows), len(place) + 1), dtype=np.bool_)
    for k, i in enumerate(rows):
        group = grown.group[i]
        if group in place:
            may[k, place[group]] = True
        else:
            may[k] = True
            may[k, apart.get(group, [])] = False
    return may


def _chances(kernel: Singles, may: NDArray[np.bool_], steps: int) -> Singles:
    """A softmax over groups where of some questions only is known which they may be of: what each question
    says of each group, (questions, groups), by accelerated steps that begin anew where they overshoot."""
    many = len(kernel)
    top, probe = 1.0, np.ones(many, dtype=np.float32)
    for _ in range(_POWER_STEPS):
        probe = kernel @ probe
        top = float(np.sqrt(probe @ probe)) or 1.0
        probe /= np.float32(top)
    step = np.float32(1.0 / (0.5 * top + RIDGE_CHANCE))
    mask = may.astype(np.float32)
    at = np.zeros(may.shape, dtype=np.float32)
    ahead, reach = at, kernel @ at
    known, speed = reach, 1.0
    for _ in range(steps):
        chance = np.exp(reach - reach.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        allowed = chance * mask
        allowed /= np.maximum(allowed.sum(axis=1, keepdims=True), np.float32(1e-12))
        after = ahead - step * (chance - allowed + np.float32(RIDGE_CHANCE) * ahead)
        told = kernel @ after
        # The steps are of weights of parts, whose products are those of questions through the kernel.
        if float(np.sum((ahead - after) * (told - known))) > 0.0:
            speed = 1.0
            momentum = np.float32(0.0)
        else:
            faster = (1.0 + math.sqrt(1.0 + 4.0 * speed * speed)) / 2.0
            momentum = np.float32((speed - 1.0) / faster)
            speed = faster
        ahead, reach = after + momentum * (after - at), told + momentum * (told - known)
        at, known = after, told
    return at


def graded_pairs(
    near: Sequence[Sequence[Nearest]], grown: Grown, members: Mapping[int, Member]
) -> tuple[list[Nearest], list[bool]]:
    """Candidates of graded questions whose grade follows, with what their groups say, as a fit takes them.

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
