"""How much a question would gain from the strong model, read from its text alone: pure Python, below a
millisecond.

The score is a sum that a person can check: a weight for each word and pair of words that the fit kept, two
for each feature of its form (:data:`FORM`: lengths, digits, symbols, lines), one for the task. It holds what
:mod:`isocost.policy.difficulty` fitted.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

import msgspec

_WORD = re.compile(r"\w+|[^\w\s]")
_DIGIT, _CAPITAL, _SYMBOL = re.compile(r"\d"), re.compile(r"[A-Z]"), re.compile(r"[-+*/=^<>()\[\]{}%$\\|]")
_NEGATED = re.compile(r"\b(?:not|no|except|least|false|incorrect|never)\b")
LONGEST_CHARS = 4000
"""Characters of a question that are read: the decision takes the same time for the longest prompt."""
FORM = (
    "characters", "characters of the first line", "lines", "digits", "symbols", "share of digits",
    "share of symbols", "share of capitals", "characters a word", "share of different words",
    "share of long words", "longest word", "commas a word", "longest further line",
    "spread of further lines", "share of further lines with digits", "asks", "has a blank", "negates",
)  # fmt: skip
"""Features of a question's form, counts as logarithms; they say as much of a task that was never seen."""
_LONG = 8
FAR = 4.0
"""Standard deviations beyond which a feature of the form counts no further."""


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted score. ``words`` holds a weight and ``rarity`` an inverse frequency for each word or pair of
    words; ``tasks`` a weight for each task that was seen. ``form`` has mean, spread, weight and weight of
    the square of each of :data:`FORM`, then both weights for a task that was not seen, where the form must
    also say what the task's name would have."""

    base: float
    words: dict[str, float]
    rarity: dict[str, float]
    tasks: dict[str, float]
    form: tuple[tuple[float, float, float, float, float, float], ...] = ()


def form(text: str) -> tuple[float, ...]:
    """The features :data:`FORM` of a text.

    >>> dict(zip(FORM, form("Is it 12?\\nA. 12\\nB. not")))["share of further lines with digits"]
    0.5
    """
    read = text[:LONGEST_CHARS]
    low = read.lower()
    lines = read.split("\n")
    further = [len(line) for line in lines[1:]] or [0]
    mean = sum(further) / len(further)
    spread = math.sqrt(sum((one - mean) ** 2 for one in further) / len(further))
    words = [one for one in _WORD.findall(low) if one[0].isalpha()]
    many, size = max(1, len(words)), max(1, len(read))
    digits, symbols = len(_DIGIT.findall(read)), len(_SYMBOL.findall(read))
    sizes = list(map(len, words)) or [0]
    return (
        math.log1p(len(text)), math.log1p(len(lines[0])), math.log1p(len(lines)), math.log1p(digits),
        math.log1p(symbols), digits / size, symbols / size, len(_CAPITAL.findall(read)) / size, size / many,
        len(set(words)) / many, sum(one > _LONG for one in sizes) / many, math.log1p(max(sizes)),
        low.count(",") / many, math.log1p(max(further)), math.log1p(spread),
        sum(_DIGIT.search(line) is not None for line in lines[1:]) / max(1, len(lines) - 1),
        float("?" in lines[0]), float("__" in read), float(_NEGATED.search(low) is not None),
    )  # fmt: skip


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
    of_task = weights.tasks.get(task)
    shape, at = 0.0, 4 if of_task is None else 2
    for value, fitted in zip(form(text), weights.form, strict=False):
        away = max(-FAR, min(FAR, (value - fitted[0]) / fitted[1]))
        shape += away * (fitted[at] + fitted[at + 1] * away)
    words = total / math.sqrt(square) if square else 0.0
    return weights.base + words + shape + (of_task or 0.0)
