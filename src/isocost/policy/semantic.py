"""A semantic cache that is off until it is certified: who asked nearly the same, and is it the same?

One index holds the questions of one scope (:func:`isocost.policy.keys.scope_key`). A question's nearest
cached one is found by rare words and letter groups; then a verifier decides whether its answer may be given.
It refuses outright where numbers differ or directions are swapped (*from A to B*), whatever the score; else
it scores what the two share and what they do not (words, names, a negation), and how their neighbourhood
looks, with weights fitted on graded pairs (:mod:`isocost.policy.semantic_fit`). Plain Python without
arrays, so that it can run live.
"""

from __future__ import annotations

import heapq
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

HASHED = 4096
"""Columns for words that two questions share or do not share."""
NEIGHBOURS = 8
RAREST = 24
"""Rare parts of a question by which candidates are found."""
CANDIDATES = 40
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

    ``threshold`` is ``inf`` until a certificate has set it: the cache is then off.
    """

    rarity: Mapping[str, float]
    rarest: float
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    feature: tuple[float, ...]
    hashed: tuple[float, ...]
    bias: float
    threshold: float = math.inf


class Nearest(NamedTuple):
    """The nearest cached question: its number, and what the verifier looks at."""

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
        counts.update(set(question.parts))
    return {part: math.log((many + 1) / (seen + 1)) + 1.0 for part, seen in counts.items()}, math.log(
        many + 1
    ) + 1.0


class Index:
    """The cached questions of one scope."""

    def __init__(self, rarity: Mapping[str, float], rarest: float) -> None:
        self._rarity, self._rarest = rarity, rarest
        self.questions: list[Question] = []
        self.answers: list[str] = []
        self._vectors: list[dict[str, float]] = []
        self._by_part: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def add(self, question: Question, answer: str) -> None:
        """Keep a question with its answer."""
        vector = self._vector(question)
        for part, weight in vector.items():
            self._by_part[part].append((len(self.questions), weight))
        self.questions.append(question)
        self.answers.append(answer)
        self._vectors.append(vector)

    def nearest(self, question: Question) -> Nearest | None:
        """The most alike cached question with its features; ``None`` where nothing is alike."""
        vector = self._vector(question)
        rare = sorted(vector, key=lambda part: (-self._rare(part), part))[:RAREST]
        partial: dict[int, float] = defaultdict(float)
        for part in rare:
            weight = vector[part]
            for entry, held in self._by_part.get(part, ()):
                partial[entry] += weight * held
        if not partial:
            return None
        close = _highest(partial)
        alike = sorted(((self._alike(vector, entry), -entry) for entry in close), reverse=True)[:NEIGHBOURS]
        likeness = [one for one, _ in alike]
        entries = [-negative for _, negative in alike]
        best = self.questions[entries[0]]
        return Nearest(
            entries[0],
            self._features(question, best, [self.questions[entry] for entry in entries[1:]], likeness),
            hashed(question, best),
            contradicts(question, best),
        )

    def _rare(self, part: str) -> float:
        return self._rarity.get(part, self._rarest)

    def _vector(self, question: Question) -> dict[str, float]:
        counts = Counter(question.parts)
        vector = {part: (1.0 + math.log(many)) * self._rare(part) for part, many in counts.items()}
        length = math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0
        return {part: weight / length for part, weight in vector.items()}

    def _alike(self, vector: Mapping[str, float], entry: int) -> float:
        other = self._vectors[entry]
        return sum([weight * other[part] for part, weight in vector.items() if part in other])

    def _features(
        self, asked: Question, best: Question, others: Sequence[Question], likeness: Sequence[float]
    ) -> tuple[float, ...]:
        """Likeness of the best and of the rest, what is shared and what is not, what neighbours say."""
        top = likeness[0]
        second = likeness[1] if len(likeness) > 1 else 0.0
        mean = sum(likeness[:5]) / 5.0
        agree = [self._shared(other, best)[0] for other in others]
        near = [self._shared(asked, other)[0] for other in others]
        weight = sum(likeness[1:]) or 1.0
        return (
            top, second, mean, top - second, *self._shared(asked, best),
            sum(agree[:4]) / 4.0, sum(agree) / (NEIGHBOURS - 1), max(agree, default=0.0), sum(near[:4]) / 4.0,
            sum(a * b for a, b in zip(agree, likeness[1:], strict=True)) / weight,
            float(len(asked.stems)), float(abs(len(asked.stems) - len(best.stems))),
            float(asked.negations != best.negations), float(len(asked.names ^ best.names)),
            float(bool(asked.names & best.names)),
        )  # fmt: skip

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


def look(weights: Weights, index: Index, text: str) -> Found:
    """The cached answer of a question, where the verifier lets it through. Off without a certificate."""
    if math.isinf(weights.threshold):
        return Found(None, -math.inf, "not certified")
    nearest = index.nearest(taken_apart(text))
    if nearest is None:
        return Found(None, -math.inf, "nothing alike")
    if nearest.against:
        return Found(None, -math.inf, nearest.against)
    found = score(weights, nearest)
    if found < weights.threshold:
        return Found(None, found, "not alike enough")
    return Found(index.answers[nearest.entry], found, "")


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
