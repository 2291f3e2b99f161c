"""A semantic cache whole: an index a scope, answers that age, room for so many, to run live.

A replay steps through a log with the same object as a gateway would through its traffic, so what was
certified, what is replayed and what runs are one thing.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import deque
from copy import copy
from typing import Any, NamedTuple

from isocost.policy.semantic import Nearest, Question, Weights, best, taken_apart
from isocost.policy.semantic_index import Groups, Index

LONGEST_CHARS = 2000
"""Longer questions are not looked up: two are hardly ever nearly the same, and a look must stay short."""


_CLOSING = re.compile(r"(?<=[^\W\d_])[\s.?!]+$")
"""Marks after a last word; after a number or a sign they may say something (*5!*)."""


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

    The same words, whatever their endings, marks and symbols, get another question's answer once
    (:meth:`serve`): who asks again was not helped. As many words and sessions are remembered for that as
    answers may be held (``most_entries`` 0: all of them, without end), however old they are: words stay with
    the model when its answer to them has aged out.

    Questions that are not :func:`readable` are neither looked up nor kept.
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
        self._own: dict[int, int] = {}
        """The latest number under which a question is held as it is written, by its digest."""
        self._texts: deque[int] = deque()
        self._given: dict[int, None] = {}
        """Words that got another question's answer."""
        self._by: dict[str, int] = {}
        """Answers given in each session."""

    def __len__(self) -> int:
        return len(self._held)

    def copy(self) -> SemanticCache:
        """The same questions and answers, which go their own way: to play several times from one state."""
        twin = copy(self)
        twin._scopes = {scope: index.copy() for scope, index in self._scopes.items()}
        twin._numbers = {scope: numbers.copy() for scope, numbers in self._numbers.items()}
        twin._held, twin._texts = self._held.copy(), self._texts.copy()
        twin._own, twin._given, twin._by = dict(self._own), dict(self._given), dict(self._by)
        return twin

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
        question = taken_apart(question) if isinstance(question, str) else question
        return () if index is None or not readable(question.text) else index.near(question)

    def alike(self, scope: bytes, question: Question, now_s: float) -> list[tuple[float, int]]:
        """Questions of a scope by likeness alone, as (likeness, number in the order kept)."""
        self._age(now_s)
        index = self._scopes.get(scope)
        if index is None or not readable(question.text):
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

    def serve(
        self,
        scope: bytes,
        question: Question | str,
        now_s: float,
        threshold: float,
        session: str = "",
        most_each: int = 0,
    ) -> tuple[Seen, bool]:
        """What a look found, and whether its answer is given: where the score reaches the threshold.

        What a model has answered, but for case, blanks and closing marks, gets that answer. Words that got
        another question's answer before get none, so that a model answers: a wrong answer is not given twice
        to the same words. A ``session`` (blank: not known) is given at most ``most_each`` answers (0: any
        number).
        """
        question = taken_apart(question) if isinstance(question, str) else question
        seen = self.look(scope, question, now_s)
        if seen.score < threshold or (session and 0 < most_each <= self._by.get(session, 0)):
            return seen, False
        words = _words(scope, question)
        own = self._own.get(_said(scope, question))
        if own is not None:
            entry = self._scopes[scope].first + bisect_left(self._numbers[scope], own)
            seen = Seen(self._scopes[scope].answer(entry), seen.score, own, "")
        elif words in self._given:
            return seen, False
        else:
            self._given[words] = None
            _trim(self._given, self.most_entries)
        if session and most_each:
            self._by[session] = self._by.pop(session, 0) + 1
            _trim(self._by, self.most_entries)
        return seen, True

    def owes(self, scope: bytes, question: Question | str, now_s: float) -> bool:
        """Whether these words got another question's answer and no model's since: an exact cache has none."""
        self._age(now_s)
        question = taken_apart(question) if isinstance(question, str) else question
        return _words(scope, question) in self._given and _said(scope, question) not in self._own

    def answer(
        self, scope: bytes, question: Question | str, now_s: float, session: str = "", most_each: int = 0
    ) -> str | None:
        """The cached answer of a question where the verifier is sure enough; off without a threshold."""
        if math.isinf(self.weights.threshold):
            return None
        seen, given = self.serve(scope, question, now_s, self.weights.threshold, session, most_each)
        return seen.answer if given else None

    def keep(self, scope: bytes, question: Question | str, answer: str, now_s: float) -> int:
        """Keep a question with its answer; its number in the order kept (-1: it is not readable)."""
        self._age(now_s)
        question = taken_apart(question) if isinstance(question, str) else question
        if not readable(question.text):
            return -1
        weights = self.weights
        if scope not in self._scopes:
            self._scopes[scope] = Index(weights.rarity, weights.rarest, self._groups)
            self._numbers[scope] = deque()
        self._scopes[scope].add(question, answer)
        self._numbers[scope].append(self._kept)
        self._texts.append(_said(scope, question))
        self._own[self._texts[-1]] = self._kept
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
        text = self._texts.popleft()
        if self._own[text] == self._numbers[scope][0]:
            del self._own[text]
        index = self._scopes[scope]
        index.forget(index.first + 1)
        self._numbers[scope].popleft()
        if not self._numbers[scope]:
            del self._scopes[scope], self._numbers[scope]


def _trim(some: dict[Any, Any], most: int) -> None:
    """Let go of what was put in first, where there are more than ``most`` (0: any number)."""
    if 0 < most < len(some):
        del some[next(iter(some))]


def _said(scope: bytes, question: Question) -> int:
    """A digest of a question as it is written in a scope, but for case, blanks and the marks that end it."""
    return hash((scope, _CLOSING.sub("", " ".join(question.text.casefold().split()))))


def _words(scope: bytes, question: Question) -> int:
    """A digest of a question's words in a scope, whatever their case, endings and marks."""
    return hash((scope, question.stems))
