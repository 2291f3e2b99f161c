"""The cached questions of one scope, and which of them are nearly as one asked now.

Earlier questions are found by the rarest parts of the one asked (words, pairs of them, letter groups), of
which only so many places are read; the likeness of those found is then worked out in full. Places, weights
and groups lie in arrays, which makes looks short and entries small. Sums run in one order, so equal questions
come out equal to the bit.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.policy.semantic import (
    Member,
    Nearest,
    Question,
    compared,
    contradicts,
    hashed,
    member_of,
    spoken,
)

NEIGHBOURS = 8
RAREST = 24
"""Rare parts of a question by which candidates are found."""
CANDIDATES = 40
MOST_READ = 4000
"""Places of rare parts that are read for one question: the time grows little with the cache."""
_SPARSE = 4
"""From so many entries for each place read on, places are sorted, not counted over all entries."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Groups(NamedTuple):
    """What parts say of groups of questions that have one answer: ``row`` of each part in ``said`` (parts,
    numbers), as :func:`isocost.policy.semantic.member_of` reads a sum of them."""

    row: Mapping[str, int]
    said: Floats

    @classmethod
    def of(cls, groups: Mapping[str, Sequence[float]]) -> Groups:
        """Groups as :class:`isocost.policy.semantic.Weights` hold them."""
        said = np.array(list(groups.values()), dtype=np.float64).reshape(
            len(groups), max(map(len, groups.values()), default=0)
        )
        return cls({part: k for k, part in enumerate(groups)}, said)

    def member(self, vector: Mapping[str, float]) -> Member:
        """How far a question belongs to each group, by its parts; nothing where nothing was grouped."""
        find = self.row.get
        known = [(row, weight) for part, weight in vector.items() if (row := find(part)) is not None]
        if not known:
            return member_of(())
        rows, weights = zip(*known, strict=True)
        return member_of(_added(np.array(weights)[:, None] * self.said[list(rows)]).tolist())


NO_GROUPS = Groups({}, np.zeros((0, 0)))


class _Places:
    """Entries that hold a part, in the order kept, each with its weight there (``held``, by turns: most
    parts have one entry, and two arrays weigh more than one); the first ``gone`` are forgotten."""

    __slots__ = ("gone", "held", "ident")

    def __init__(self, ident: int, entry: int, weight: float) -> None:
        self.ident = ident
        self.gone = 0
        self.held = array("d", (entry, weight))

    def __len__(self) -> int:
        return len(self.held) // 2 - self.gone

    def copy(self) -> _Places:
        """The same places, which go their own way."""
        twin = copy(self)
        twin.held = self.held[:]
        return twin

    def forget(self) -> None:
        """Let the first entry go."""
        self.gone += 1
        if 4 * self.gone > len(self.held):
            del self.held[: 2 * self.gone]
            self.gone = 0


class _Held(NamedTuple):
    """A cached question, whose parts are held as ``idents`` (int32) and ``weights`` (float64), with its
    answer and how far it belongs to which group (``towards``: by the ridge, then chances, float64)."""

    question: Question
    answer: str
    idents: bytes
    weights: bytes
    member: Member
    towards: bytes


class Index:
    """The cached questions of one scope, numbered as they were kept."""

    def __init__(self, rarity: Mapping[str, float], rarest: float, groups: Groups = NO_GROUPS) -> None:
        self._rarity, self._rarest = rarity, rarest
        self._groups = groups
        self.first = 0
        """Questions before this one are forgotten."""
        self._end = 0
        self._held: dict[int, _Held] = {}
        self._places: dict[str, _Places] = {}
        self._named: list[str] = []
        """The part of each number; numbers of parts that no entry holds are given again."""
        self._free: list[int] = []

    def add(self, question: Question, answer: str) -> None:
        """Keep a question with its answer."""
        vector = self.vector(question)
        idents = []
        for part, weight in vector.items():
            places = self._places.get(part)
            if places is None:
                places = self._places[part] = _Places(self._ident(part), self._end, weight)
            else:
                places.held.extend((self._end, weight))
            idents.append(places.ident)
        self._held[self._end] = _Held(
            question._replace(parts=()), answer, array("i", idents).tobytes(),
            array("d", vector.values()).tobytes(), *self._member(vector),
        )  # fmt: skip
        self._end += 1

    def copy(self) -> Index:
        """The same questions, to which others may be added."""
        twin = copy(self)
        twin._held, twin._named, twin._free = dict(self._held), list(self._named), list(self._free)
        twin._places = {part: places.copy() for part, places in self._places.items()}
        return twin

    def forget(self, first: int) -> None:
        """Let go of the questions before ``first``, which were added first; numbers of others stay."""
        for entry in range(self.first, min(first, self._end)):
            for ident in np.frombuffer(self._held.pop(entry).idents, np.int32).tolist():
                places = self._places[self._named[ident]]
                places.forget()
                if not len(places):
                    del self._places[self._named[ident]]
                    self._named[ident] = ""
                    self._free.append(ident)
        self.first = max(self.first, min(first, self._end))

    def regroup(self, groups: Groups) -> None:
        """Read groups that were fitted later."""
        self._groups = groups
        for entry, held in self._held.items():
            parts = [self._named[ident] for ident in np.frombuffer(held.idents, np.int32).tolist()]
            member, towards = self._member(
                dict(zip(parts, np.frombuffer(held.weights).tolist(), strict=True))
            )
            self._held[entry] = held._replace(member=member, towards=towards)

    def answer(self, entry: int) -> str:
        """The answer kept with a question."""
        return self._held[entry].answer

    def alike(self, question: Question) -> list[tuple[float, int]]:
        """Cached questions that are most alike, at most ``CANDIDATES``, as (likeness, number)."""
        return self._alike(self.vector(question))

    def near(self, question: Question) -> tuple[Nearest, ...]:
        """The most alike cached questions with their features, at most ``NEIGHBOURS``."""
        vector = self.vector(question)
        found = self._alike(vector)[:NEIGHBOURS]
        if not found:
            return ()
        mine = self._groups.member(vector)
        held = [self._held[entry] for _, entry in found]
        told = compared(
            question, [one.question for one in held], [likeness for likeness, _ in found],
            self._rarity, self._rarest, NEIGHBOURS,
        )  # fmt: skip
        theirs = np.frombuffer(b"".join([one.towards for one in held])).reshape(len(held), -1)
        many = len(mine.towards)
        products = (np.array([*mine.towards, *mine.chances]) * theirs).T if many else theirs.T
        both = _added(products[:many]).tolist() if many else [0.0] * len(held)
        chance = _added(products[many:]).tolist() if many else [0.0] * len(held)
        return tuple(
            [
                Nearest(
                    entry, (*features, *spoken(*product, mine, one.member)), hashed(question, one.question),
                    contradicts(question, one.question),
                )
                for (_, entry), one, features, product in zip(
                    found, held, told, zip(both, chance, strict=True), strict=True
                )
            ]
        )  # fmt: skip

    def vector(self, question: Question) -> dict[str, float]:
        """Weights of the parts of a question, of length 1 together."""
        counts = Counter(question.parts)
        rare, rarest = self._rarity.get, self._rarest
        raw = [
            rare(part, rarest) if many == 1 else (1.0 + math.log(many)) * rare(part, rarest)
            for part, many in counts.items()
        ]
        length = math.sqrt(sum([weight * weight for weight in raw])) or 1.0
        return dict(zip(counts, [weight / length for weight in raw], strict=True))

    def _member(self, vector: Mapping[str, float]) -> tuple[Member, bytes]:
        """What groups say of a question that is kept."""
        member = self._groups.member(vector)
        blank = [0.0] * (self._groups.said.shape[1] // 2 * 2)
        towards = array("d", (*member.towards, *member.chances) or blank)
        return member._replace(towards=(), chances=()), towards.tobytes()

    def _ident(self, part: str) -> int:
        if self._free:
            ident = self._free.pop()
            self._named[ident] = part
            return ident
        self._named.append(part)
        return len(self._named) - 1

    def _alike(self, vector: Mapping[str, float]) -> list[tuple[float, int]]:
        rare, rarest, find = self._rarity.get, self._rarest, self._places.get
        asked = [(-rare(part, rarest), part, weight, find(part)) for part, weight in vector.items()]
        entries = self._candidates([(weight, places) for *_, weight, places in sorted(asked)[:RAREST]])
        known = [(weight, places) for *_, weight, places in asked if places is not None]
        if not entries:
            return []
        held = [self._held[entry] for entry in entries]
        # A table of the question's parts by entries; what an entry has beside them falls into row 0.
        row = np.zeros(len(self._named), np.int64)
        row[[places.ident for _, places in known]] = len(held) * np.arange(1, len(known) + 1)
        cell = row.take(np.frombuffer(b"".join([one.idents for one in held]), np.int32))
        cell += np.repeat(np.arange(len(held)), [len(one.idents) // 4 for one in held])
        table = np.zeros((len(known) + 1, len(held)))
        table.ravel()[cell] = np.frombuffer(b"".join([one.weights for one in held]))
        weights = np.array([weight for weight, _ in known])
        found = zip(_added(table[1:] * weights[:, None]).tolist(), entries, strict=True)
        return sorted(found, key=lambda one: (-one[0], one[1]))

    def _candidates(self, rare: Sequence[tuple[float, _Places | None]]) -> list[int]:
        """Entries that are most alike by rare parts alone, the earlier ones first among equals."""
        read: list[_Places] = []
        weights: list[float] = []
        many: list[int] = []
        for weight, places in rare:
            if places is None:
                continue
            if read and sum(many) + len(places) > MOST_READ:
                break
            read.append(places)
            weights.append(weight)
            many.append(len(places))
        if not read:
            return []
        held = np.frombuffer(b"".join([memoryview(one.held)[2 * one.gone :] for one in read])).reshape(-1, 2)
        at, products = held[:, 0].astype(np.int64), np.repeat(weights, many) * held[:, 1]
        if self._end - self.first < _SPARSE * len(at):
            sums = np.bincount(at - self.first, products)
            found = np.flatnonzero(sums)
            sums, found = sums[found], found + self.first
        else:
            found, inverse = np.unique(at, return_inverse=True)
            sums = np.bincount(inverse, products)
        if len(found) > CANDIDATES:
            high = sums >= np.partition(sums, -CANDIDATES)[-CANDIDATES]
            sums, found = sums[high], found[high]
        order = np.argsort(-sums, kind="stable")[:CANDIDATES]
        out: list[int] = found[order].tolist()
        return out


def _added(rows: Floats) -> Floats:
    """Sums of columns, row after row: numpy's own sum takes another order for another number of columns."""
    total: Floats = np.add.accumulate(rows, axis=0)[-1]
    return total
