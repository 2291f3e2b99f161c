"""A semantic cache whole: an index a scope, answers that age, room for so many, to run live.

A replay steps through a log with the same object as a gateway would through its traffic, so what was
certified, what is replayed and what runs are one thing.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from isocost.policy.semantic import Nearest, Question, Weights, best, taken_apart
from isocost.policy.semantic_index import Groups, Index

LONGEST_CHARS = 2000
"""Longer questions are not looked up: two are hardly ever nearly the same, and a look must stay short."""


def readable(text: str) -> bool:
    """Whether a question is looked up at all."""
    return 0 < len(text) <= LONGEST_CHARS and not text.isspace()


class Seen(NamedTuple):
    """What a look found: the best candidate's ``answer``, its ``score`` (minus infinity: none), the number
    of the question in the order kept (-1), and what speaks ``against`` it."""

    answer: str
    score: float
    number: int
    against: str


class SemanticCache:
    """Questions of all scopes with their answers.

    An answer is kept for ``ttl_s`` and not longer for being given; of all scopes together at most
    ``most_entries`` are held, the oldest go first. A question is looked for in its own scope alone.
    """

    def __init__(self, weights: Weights, ttl_s: float = math.inf, most_entries: int = 0) -> None:
        self.weights = weights
        self._groups = Groups.of(weights.groups)
        self.ttl_s = ttl_s
        self.most_entries = most_entries
        self._scopes: dict[bytes, Index] = {}
        self._numbers: dict[bytes, deque[int]] = {}
        self._held: deque[tuple[float, bytes]] = deque()
        self._kept = 0

    def __len__(self) -> int:
        return len(self._held)

    def look(self, scope: bytes, question: Question | str, now_s: float) -> Seen:
        """The best candidate of a question in its scope, whether or not it may be given."""
        near = self.near(scope, question, now_s)
        one, score = best(self.weights, near)
        if one is None:
            return Seen("", -math.inf, -1, near[0].against if near else "nothing alike")
        return Seen(self._scopes[scope].answer(one.entry), score, self.number(scope, one.entry), "")

    def near(self, scope: bytes, question: Question | str, now_s: float) -> tuple[Nearest, ...]:
        """Candidates of a question in its scope, the most alike first; entries are those of the scope."""
        self._age(now_s)
        index = self._scopes.get(scope)
        if index is None:
            return ()
        return index.near(taken_apart(question) if isinstance(question, str) else question)

    def alike(self, scope: bytes, question: Question, now_s: float) -> list[tuple[float, int]]:
        """Questions of a scope by likeness alone, as (likeness, number in the order kept)."""
        self._age(now_s)
        index = self._scopes.get(scope)
        if index is None:
            return []
        return [(likeness, self.number(scope, entry)) for likeness, entry in index.alike(question)]

    def number(self, scope: bytes, entry: int) -> int:
        """The number, in the order kept, of an entry of a scope."""
        return self._numbers[scope][entry - self._scopes[scope].first]

    def refit(self, weights: Weights) -> None:
        """Read with other weights of the same rarities."""
        self.weights, self._groups = weights, Groups.of(weights.groups)
        for index in self._scopes.values():
            index.regroup(self._groups)

    def answer(self, scope: bytes, question: Question | str, now_s: float) -> str | None:
        """The cached answer of a question where the verifier is sure enough; off without a threshold."""
        if math.isinf(self.weights.threshold):
            return None
        found = self.look(scope, question, now_s)
        return found.answer if found.score >= self.weights.threshold else None

    def keep(self, scope: bytes, question: Question | str, answer: str, now_s: float) -> int:
        """Keep a question with its answer; its number in the order kept."""
        self._age(now_s)
        weights = self.weights
        if scope not in self._scopes:
            self._scopes[scope] = Index(weights.rarity, weights.rarest, self._groups)
            self._numbers[scope] = deque()
        self._scopes[scope].add(taken_apart(question) if isinstance(question, str) else question, answer)
        self._numbers[scope].append(self._kept)
        self._held.append((now_s, scope))
        self._kept += 1
        while self.most_entries and len(self._held) > self.most_entries:
            self._forget()
        return self._kept - 1

    def _age(self, now_s: float) -> None:
        while self._held and now_s - self._held[0][0] > self.ttl_s:
            self._forget()

    def _forget(self) -> None:
        _, scope = self._held.popleft()
        index = self._scopes[scope]
        index.forget(index.first + 1)
        self._numbers[scope].popleft()
        if not self._numbers[scope]:
            del self._scopes[scope], self._numbers[scope]
