"""How much a question would gain from the strong model, read from its text alone: pure Python, below a
millisecond.

The score is a sum that a person can check: a weight for each word and pair of words that the fit kept, one
for the length, one for the task. It holds what :mod:`isocost.policy.difficulty` fitted.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

import msgspec

_WORD = re.compile(r"\w+|[^\w\s]")
LONGEST_CHARS = 8000
"""Characters of a question that are read: the decision takes the same time for the longest prompt."""


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted score. ``words`` holds a weight and ``rarity`` an inverse frequency for each word or pair of
    words; ``tasks`` a weight for each task that was seen; ``length`` the weight of the logarithm of the
    characters."""

    base: float
    length: float
    words: dict[str, float]
    rarity: dict[str, float]
    tasks: dict[str, float]


def terms(text: str) -> dict[str, float]:
    """Words and pairs of words of a text, each at 1 + ln(count).

    >>> terms("No, no.") == {"no": 1 + math.log(2), ",": 1.0, ".": 1.0, "no ,": 1.0, ", no": 1.0, "no .": 1.0}
    True
    """
    words = _WORD.findall(text[:LONGEST_CHARS].lower())
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    for pair in pairwise(words):
        name = f"{pair[0]} {pair[1]}"
        counts[name] = counts.get(name, 0) + 1
    return {name: 1.0 if count == 1 else 1.0 + math.log(count) for name, count in counts.items()}


def score(weights: Weights, text: str, task: str = "") -> float:
    """Expected gain of the strong model's answer over the cheap one's, in quality."""
    total, square = 0.0, 0.0
    for name, value in terms(text).items():
        rarity = weights.rarity.get(name)
        if rarity is not None:
            part = value * rarity
            square += part * part
            total += part * weights.words.get(name, 0.0)
    return (
        weights.base
        + (total / math.sqrt(square) if square else 0.0)
        + weights.length * math.log(1.0 + len(text))
        + weights.tasks.get(task, 0.0)
    )
