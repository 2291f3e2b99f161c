"""A semantic cache that is off until it is certified: who asked nearly the same, and is it the same?

One index holds the questions of one scope (:func:`isocost.policy.keys.scope_key`). The cached questions that
are most alike are found by rare words and letter groups; then a verifier decides whether the answer of one of
them may be given. It refuses outright where numbers differ or directions are swapped (*from A to B*),
whatever the score; else it scores what the two share and what they do not (words, names, a negation), how the
others look, and whether both belong to the same groups, with weights fitted on graded pairs
(:mod:`isocost.policy.semantic_fit`). Plain Python without arrays, so that it can run live.
"""

from __future__ import annotations

import heapq
import math
import re
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import mul
from typing import Final, NamedTuple

import msgspec

HASHED = 4096
"""Columns for words that two questions share or do not share."""
NEIGHBOURS = 8
RAREST = 24
"""Rare parts of a question by which candidates are found."""
CANDIDATES = 40
MOST_READ = 4000
"""Places of rare parts that are read for one question: the time grows little with the cache."""
LETTERS = 4
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*", re.UNICODE)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_ENDINGS = ("ing", "ed", "es", "s", "'s")
_SHORTEST_STEM = 3
_NEGATIONS = frozenset(
    {"no", "not", "never", "none", "nothing", "nobody", "neither", "nor", "without", "cannot", "unable"}
)
_DIRECTIONS = frozenset({"from", "to", "into", "than", "over", "before", "after", "against"})


class Question(NamedTuple):
    """A question taken apart once: stems in order, and what must not differ."""

    text: str
    stems: tuple[str, ...]
    words: frozenset[str]
    parts: tuple[str, ...]
    numbers: frozenset[str]
    negations: int
    names: frozenset[str]
    directions: tuple[tuple[str, str], ...]


_GONE: Final = Question("", (), frozenset(), (), frozenset(), 0, frozenset(), ())
"""In the place of a question that was let go."""


def taken_apart(text: str) -> Question:
    """Stems, letter groups, numbers, negations, names and directions of a question."""
    raw = _WORD.findall(text)
    low = [word.lower() for word in raw]
    stems = tuple(_stem(word) for word in low)
    flat = f" {' '.join(low)} "
    letters = (f"#{flat[i : i + LETTERS]}" for i in range(len(flat) - LETTERS + 1))
    pairs = (f"{a} {b}" for a, b in pairwise(stems))
    # A capital inside a sentence marks a name; the first word of one does not, nor does "I".
    inside = re.sub(r"(?:^|[.!?]\s+)\W*\w+", " ", text)
    names = frozenset(
        word.lower()
        for word in _WORD.findall(inside)
        if word[0].isupper() and word.lower() not in ("i", "i'm", "i've")
    )
    ways = tuple((low[i], stems[i + 1]) for i in range(len(low) - 1) if low[i] in _DIRECTIONS)
    return Question(
        text, stems, frozenset(stems), (*stems, *pairs, *letters), frozenset(_NUMBER.findall(text)),
        sum(word in _NEGATIONS or word.endswith("n't") for word in low) % 2, names, ways,
    )  # fmt: skip


def contradicts(one: Question, two: Question) -> str:
    """Why the second's answer cannot be the first's, whatever the score; empty where nothing says so."""
    if one.numbers != two.numbers:
        return "numbers differ"
    here, there = dict(one.directions), dict(two.directions)
    if any(
        there.get(other) == word and there.get(way) != word for way, word in here.items() for other in there
    ):
        return "directions are swapped"
    return ""


class Weights(msgspec.Struct, frozen=True):
    """A fitted verifier: how rare each part is, centre and spread of features, weights, the threshold.

    ``groups`` says of a part how far it speaks for each group of questions that were graded to have one
    answer. ``threshold`` is ``inf`` until a certificate has set it: the cache is then off.
    """

    rarity: Mapping[str, float]
    rarest: float
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    feature: tuple[float, ...]
    hashed: tuple[float, ...]
    bias: float
    groups: Mapping[str, tuple[float, ...]] = {}
    threshold: float = math.inf


class Nearest(NamedTuple):
    """A cached question that is alike: its number, and what the verifier looks at."""

    entry: int
    features: tuple[float, ...]
    hashed: tuple[int, ...]
    against: str


class Found(NamedTuple):
    """A cached answer that may be given; else ``None``, with the ``score`` or what is ``against`` it."""

    answer: str | None
    score: float
    against: str


def rarity_of(questions: Iterable[Question]) -> tuple[dict[str, float], float]:
    """How rare each part is over past questions (inverse document frequency), and an unseen one's."""
    counts: Counter[str] = Counter()
    many = 0
    for question in questions:
        many += 1
        counts.update(dict.fromkeys(question.parts).keys())
    return {part: math.log((many + 1) / (seen + 1)) + 1.0 for part, seen in counts.items()}, math.log(
        many + 1
    ) + 1.0


class Index:
    """The cached questions of one scope."""

    def __init__(
        self, rarity: Mapping[str, float], rarest: float, groups: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        self._rarity, self._rarest = rarity, rarest
        self._groups = groups or {}
        self.first = 0
        """Questions before this one are forgotten."""
        self.questions: list[Question] = []
        self.answers: list[str] = []
        self._vectors: list[dict[str, float]] = []
        self._members: list[Member] = []
        self._by_part: dict[str, deque[tuple[int, float]]] = defaultdict(deque)

    def add(self, question: Question, answer: str) -> None:
        """Keep a question with its answer."""
        vector = self.vector(question)
        for part, weight in vector.items():
            self._by_part[part].append((len(self.questions), weight))
        self.questions.append(question)
        self.answers.append(answer)
        self._vectors.append(vector)
        self._members.append(member(vector, self._groups))

    def forget(self, first: int) -> None:
        """Let go of the questions before ``first``, which were added first; numbers of others stay."""
        for entry in range(self.first, min(first, len(self.questions))):
            for part in self._vectors[entry]:
                self._by_part[part].popleft()
                if not self._by_part[part]:
                    del self._by_part[part]
            self._vectors[entry], self.questions[entry], self.answers[entry] = {}, _GONE, ""
            self._members[entry] = Member((), 0.0, 0.0)
        self.first = max(self.first, min(first, len(self.questions)))

    def regroup(self, groups: Mapping[str, Sequence[float]]) -> None:
        """Read groups that were fitted later."""
        self._groups = groups
        self._members = [member(vector, groups) for vector in self._vectors]

    def alike(self, question: Question) -> list[tuple[float, int]]:
        """Cached questions that are most alike, at most ``CANDIDATES``, as (likeness, number)."""
        return self._alike(self.vector(question))

    def near(self, question: Question) -> tuple[Nearest, ...]:
        """The most alike cached questions with their features, at most ``NEIGHBOURS``."""
        vector = self.vector(question)
        found = self._alike(vector)[:NEIGHBOURS]
        mine = member(vector, self._groups)
        shared = [self._shared(question, self.questions[entry]) for _, entry in found]
        mean = sum(likeness for likeness, _ in found) / NEIGHBOURS
        common = sum(one[0] for one in shared) / NEIGHBOURS
        out = []
        for k, (likeness, entry) in enumerate(found):
            other = found[0][0] if k else found[1][0] if len(found) > 1 else 0.0
            held = self.questions[entry]
            features = (
                likeness, other, mean, likeness - other, *shared[k], common, *_apart(question, held),
                *together(mine, self._members[entry]),
            )  # fmt: skip
            out.append(Nearest(entry, features, hashed(question, held), contradicts(question, held)))
        return tuple(out)

    def vector(self, question: Question) -> dict[str, float]:
        """Weights of the parts of a question, of length 1 together."""
        counts = Counter(question.parts)
        vector = {part: (1.0 + math.log(many)) * self._rare(part) for part, many in counts.items()}
        length = math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0
        return {part: weight / length for part, weight in vector.items()}

    def _rare(self, part: str) -> float:
        return self._rarity.get(part, self._rarest)

    def _alike(self, vector: Mapping[str, float]) -> list[tuple[float, int]]:
        rare = sorted(vector, key=lambda part: (-self._rare(part), part))[:RAREST]
        partial: dict[int, float] = defaultdict(float)
        read = 0
        for part in rare:
            held = self._by_part.get(part, ())
            read += len(held)
            if partial and read > MOST_READ:
                break
            weight = vector[part]
            for entry, other in held:
                partial[entry] += weight * other
        found = []
        for entry in _highest(partial) if partial else ():
            there = self._vectors[entry]
            alike = sum([weight * there[part] for part, weight in vector.items() if part in there])
            found.append((alike, entry))
        return sorted(found, key=lambda one: (-one[0], one[1]))

    def _shared(self, one: Question, two: Question) -> tuple[float, ...]:
        """Share of rarity in common; share of each that the other lacks; the rarest word each has alone."""
        # Sets of words have no order, so sums over them must not depend on one.
        both = math.fsum(self._rare(word) for word in one.words & two.words)
        mine = [self._rare(word) for word in one.words - two.words]
        theirs = [self._rare(word) for word in two.words - one.words]
        alone, lacked = math.fsum(mine), math.fsum(theirs)
        return (
            both / (both + alone + lacked or 1.0),
            alone / (both + alone or 1.0),
            lacked / (both + lacked or 1.0),
            max(mine, default=0.0),
            max(theirs, default=0.0),
        )


def _apart(asked: Question, held: Question) -> tuple[float, ...]:
    """Lengths, a negation and names, of the two beside each other."""
    return (
        float(len(asked.stems)), float(abs(len(asked.stems) - len(held.stems))),
        float(asked.negations != held.negations), float(len(asked.names ^ held.names)),
        float(bool(asked.names & held.names)),
    )  # fmt: skip


class Member(NamedTuple):
    """How far a question belongs to each group, of length 1 together; to the first most, and how clearly."""

    towards: tuple[float, ...]
    most: float
    clear: float


def member(vector: Mapping[str, float], groups: Mapping[str, Sequence[float]]) -> Member:
    """Of a question's parts what they say of its groups; nothing where nothing was grouped."""
    rows = [[weight * one for one in groups[part]] for part, weight in vector.items() if part in groups]
    return member_of([sum(column) for column in zip(*rows, strict=True)])


def member_of(towards: Sequence[float]) -> Member:
    """The sum for each group, put to length 1."""
    if not towards:
        return Member((), 0.0, 0.0)
    first, second = heapq.nlargest(2, (*towards, 0.0))
    length = math.sqrt(sum(map(mul, towards, towards))) or 1.0
    return Member(tuple([one / length for one in towards]), first, first - second)


def together(asked: Member, held: Member) -> tuple[float, ...]:
    """Whether two questions belong to the same groups, and how far that is known of each."""
    both = sum(map(mul, asked.towards, held.towards))
    return (both, asked.most, asked.clear, held.most, held.clear)


def _highest(likeness: Mapping[int, float]) -> list[int]:
    """The ``CANDIDATES`` entries of the highest likeness, the earlier ones first among equals."""
    least = heapq.nlargest(CANDIDATES, likeness.values())[-1]
    high = [(-one, entry) for entry, one in likeness.items() if one >= least]
    return [entry for _, entry in sorted(high)[:CANDIDATES]]


def hashed(one: Question, two: Question) -> tuple[int, ...]:
    """Columns of the words that only one of two questions has, and of those that both have."""
    apart = (zlib.crc32(f"-{word}".encode()) % HASHED for word in one.words ^ two.words)
    both = (zlib.crc32(f"={word}".encode()) % HASHED for word in one.words & two.words)
    return (*sorted(apart), *sorted(both))


def score(weights: Weights, nearest: Nearest) -> float:
    """Log odds that the two questions have one answer, as fitted."""
    total = weights.bias
    for value, centre, spread, weight in zip(
        nearest.features, weights.centre, weights.spread, weights.feature, strict=True
    ):
        total += weight * (value - centre) / spread
    return total + sum(weights.hashed[column] for column in nearest.hashed)


def best(weights: Weights, near: Sequence[Nearest]) -> tuple[Nearest | None, float]:
    """The candidate of the highest score that nothing speaks against, and its score."""
    top: Nearest | None = None
    high = -math.inf
    for one in near:
        if not one.against and (found := score(weights, one)) > high:
            top, high = one, found
    return top, high


def look(weights: Weights, index: Index, text: str) -> Found:
    """The cached answer of a question, where the verifier lets it through. Off without a certificate."""
    if math.isinf(weights.threshold):
        return Found(None, -math.inf, "not certified")
    near = index.near(taken_apart(text))
    if not near:
        return Found(None, -math.inf, "nothing alike")
    one, found = best(weights, near)
    if one is None:
        return Found(None, -math.inf, near[0].against)
    if found < weights.threshold:
        return Found(None, found, "not alike enough")
    return Found(index.answers[one.entry], found, "")


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
