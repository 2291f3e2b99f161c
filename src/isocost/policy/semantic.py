"""A semantic cache that is off until it is certified: who asked nearly the same, and is it the same?

The cached questions of one scope that are most alike are found by rare words and letter groups
(:mod:`isocost.policy.semantic_index`); then a verifier decides whether the answer of one of them may be
given. It refuses outright where numbers or symbols differ (*C++* and *C#*, *5 $* and *5 €*, a sign, a thumb)
or directions are swapped (*from A to B*), whatever the score; else it scores what the two share and what they
do not (words, names, a negation), how the others look, and
whether both belong to the same groups, with weights fitted on graded pairs
(:mod:`isocost.policy.semantic_learn`, :mod:`isocost.policy.semantic_fit`). Plain Python without arrays, so
that it can run live.
"""

from __future__ import annotations

import heapq
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import mul
from typing import NamedTuple

import msgspec

HASHED = 4096
"""Columns for words that two questions share or do not share."""
LETTERS = 4
LEAST_CHANCE = 1e-9
"""Chances below are taken as this."""
_APART, _BOTH = zlib.crc32(b"-"), zlib.crc32(b"=")
"""What the hash of a word begins with."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*", re.UNICODE)
_DIGITS = r"[.,]?\d+(?:[.,:]\d+)*"
_MONEY = "$€£¥₹₩₽₺₴₫฿¢"
# A number, with its currency before or behind it; a dash that is a minus, unless a letter stands before it as
# in covid-19; whatever else is no word and no blank.
_MARK = re.compile(
    rf"(?P<before>[{_MONEY}])\s?(?P<paid>{_DIGITS})|(?P<number>{_DIGITS})(?:\s?(?P<behind>[{_MONEY}]))?"
    rf"|(?P<minus>(?<![^\W\d_])[-\u2010-\u2015\u2212]\s*(?=[{_MONEY}]?\s?{_DIGITS}))|(?P<other>[^\w\s])"
)
_SYMBOLS = frozenset("#%&*/@\\^‰§")
"""Marks that mean something by themselves, beside all that Unicode calls a symbol (mathematical, currency,
picture); other marks may differ where questions mean the same."""
_PICTURED = frozenset({"Sm", "Sc", "So"})
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "edly", "ed", "ies", "es", "s", "ly")
_SHORTENED = re.compile(r"'(?:s|re|ve|ll|d|m)$")
"""A verb or an owner's mark at the end of a word; a negation is none."""
_SHORTEST_STEM = 3
_NEGATIONS = frozenset(
    {"no", "not", "never", "none", "nothing", "nobody", "neither", "nor", "without", "cannot", "unable"}
)
_DIRECTIONS = frozenset({"from", "to", "into", "than", "over", "before", "after", "against"})


class Question(NamedTuple):
    """A question taken apart once: stems in order, and what must not differ. ``numbers`` are as written, with
    signs and currencies, ``symbols`` what else
    means something (``+ # % < 👍``), both in order."""

    text: str
    stems: tuple[str, ...]
    words: frozenset[str]
    parts: tuple[str, ...]
    numbers: tuple[str, ...]
    symbols: tuple[str, ...]
    negations: int
    names: frozenset[str]
    directions: tuple[tuple[str, str], ...]


def taken_apart(text: str) -> Question:
    """Stems, letter groups, numbers, symbols, negations, names and directions of a question."""
    raw = _WORD.findall(text)
    low = [word.lower() for word in raw]
    stems = tuple(_stem(word) for word in low)
    # Letters within a word: across words the pairs of stems say it better.
    letters = [
        f"#{edged[i : i + LETTERS]}"
        for edged in [f" {word} " for word in low]
        for i in range(max(1, len(edged) - LETTERS + 1))
    ]
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
        text, stems, frozenset(stems), (*stems, *pairs, *letters), *_marks(text),
        sum(word in _NEGATIONS or word.endswith("n't") for word in low) % 2, names, ways,
    )  # fmt: skip


def _marks(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Numbers of a text as they are written, with their signs and currencies, and its other symbols."""
    numbers, symbols = [], []
    minus = ""
    for found in _MARK.finditer(text):
        if found["minus"]:
            minus = "-"
        elif digits := found["paid"] or found["number"]:
            # A comma or point that ends what stands before is no part of a number; ".5" is.
            plain = digits.lstrip(",") if found["number"] else digits
            numbers.append(f"{minus}{found['before'] or found['behind'] or ''}{plain}")
            minus = ""
        elif (mark := found["other"]) in _SYMBOLS or unicodedata.category(mark) in _PICTURED:
            symbols.append(mark)
    return tuple(numbers), tuple(symbols)


def contradicts(one: Question, two: Question) -> str:
    """Why the second's answer cannot be the first's, whatever the score; empty where nothing says so."""
    if one.numbers != two.numbers:
        return "numbers differ"
    if one.symbols != two.symbols:
        return "symbols differ"
    here, there = dict(one.directions), dict(two.directions)
    if any(
        there.get(other) == word and there.get(way) != word for way, word in here.items() for other in there
    ):
        return "directions are swapped"
    return ""


class Weights(msgspec.Struct, frozen=True):
    """A fitted verifier: how rare each part is, centre and spread of features, weights, the threshold.

    ``groups`` says of a part how far it speaks for each group of questions that were graded to have one
    answer, as :func:`member_of` reads it. ``threshold`` is ``inf`` until a certificate has set it: the cache
    is then off.
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


def compared(
    asked: Question,
    held: Sequence[Question],
    likeness: Sequence[float],
    rarity: Mapping[str, float],
    rarest: float,
    neighbours: int,
) -> list[tuple[float, ...]]:
    """Features of a question beside each of the cached ones that are most alike, without what groups say.

    ``likeness`` of each is known, the highest first; ``rarity`` says how rare a word is; of ``neighbours``
    that could have been found means are taken.
    """
    shared = [_shared(asked, one, rarity, rarest) for one in held]
    mean = sum(likeness) / neighbours
    common = sum([one[0] for one in shared]) / neighbours
    second = likeness[1] if len(likeness) > 1 else 0.0
    out = []
    for k, one in enumerate(held):
        other = likeness[0] if k else second
        out.append((likeness[k], other, mean, likeness[k] - other, *shared[k], common, *_apart(asked, one)))
    return out


def _shared(one: Question, two: Question, rarity: Mapping[str, float], rarest: float) -> tuple[float, ...]:
    """Share of rarity in common; share of each that the other lacks; the rarest word each has alone."""
    # Sets of words have no order, so sums over them must not depend on one.
    both = math.fsum([rarity.get(word, rarest) for word in one.words & two.words])
    mine = [rarity.get(word, rarest) for word in one.words - two.words]
    theirs = [rarity.get(word, rarest) for word in two.words - one.words]
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
    """How far a question belongs to each group.

    ``towards`` are its sums by the ridge, of length 1 together; ``most`` is the largest of them before, and
    ``clear`` how far the second is below. ``chances`` are those of the softmax, of length ``size``; ``rest``
    is the chance of none of the groups, ``likely`` the likeliest one (-1: there are no groups), ``sure`` the
    logarithm of its chance, and ``margin`` how far the second is below in log odds.
    """

    towards: tuple[float, ...] = ()
    chances: tuple[float, ...] = ()
    most: float = 0.0
    clear: float = 0.0
    size: float = 0.0
    rest: float = 0.0
    likely: int = -1
    sure: float = 0.0
    margin: float = 0.0


def member_of(told: Sequence[float]) -> Member:
    """Of a question the sum for each group by the ridge, then by the softmax, then that of no group."""
    many = len(told) // 2
    if not many:
        return Member()
    ridge, soft = told[:many], told[many:-1]
    first, second = heapq.nlargest(2, (*ridge, 0.0))
    length = math.sqrt(sum(map(mul, ridge, ridge))) or 1.0
    high = max(told[many:])
    odds = [math.exp(one - high) for one in told[many:]]
    total = sum(odds)
    chances = tuple([one / total for one in odds[:-1]])
    top, next_ = heapq.nlargest(2, (*soft, -math.inf))
    return Member(
        tuple([one / length for one in ridge]), chances, first, first - second,
        math.sqrt(sum(map(mul, chances, chances))), odds[-1] / total, soft.index(top),
        math.log(max(max(chances), LEAST_CHANCE)), top - next_ if many > 1 else 0.0,
    )  # fmt: skip


def together(asked: Member, held: Member) -> tuple[float, ...]:
    """Whether two questions belong to the same groups, and how far that is known of each."""
    return spoken(
        sum(map(mul, asked.towards, held.towards)), sum(map(mul, asked.chances, held.chances)), asked, held
    )


def spoken(both: float, chance: float, asked: Member, held: Member) -> tuple[float, ...]:
    """:func:`together` of two questions of which the products over the groups are known."""
    known = min(max(chance, LEAST_CHANCE), 1.0 - 1e-6)
    odds = math.log(known) - math.log1p(-known) if asked.likely >= 0 else 0.0
    same = float(asked.likely >= 0 and asked.likely == held.likely)
    return (
        both, asked.most, asked.clear, held.most, held.clear, odds,
        chance / (asked.size * held.size or 1.0), asked.margin, held.margin, asked.rest, held.rest,
        asked.sure, held.sure, same, same * min(asked.margin, held.margin),
    )  # fmt: skip


def hashed(one: Question, two: Question) -> tuple[int, ...]:
    """Columns of the words that only one of two questions has, and of those that both have."""
    apart = [zlib.crc32(word.encode(), _APART) % HASHED for word in one.words ^ two.words]
    both = [zlib.crc32(word.encode(), _BOTH) % HASHED for word in one.words & two.words]
    apart.sort()
    both.sort()
    return (*apart, *both)


def score(weights: Weights, nearest: Nearest) -> float:
    """Log odds that the two questions have one answer, as fitted."""
    total = weights.bias
    for value, centre, spread, weight in zip(
        nearest.features, weights.centre, weights.spread, weights.feature, strict=True
    ):
        total += weight * (value - centre) / spread
    return total + sum([weights.hashed[column] for column in nearest.hashed])


def best(weights: Weights, near: Sequence[Nearest]) -> tuple[Nearest | None, float]:
    """The candidate of the highest score that nothing speaks against, and its score."""
    top: Nearest | None = None
    high = -math.inf
    for one in near:
        if not one.against and (found := score(weights, one)) > high:
            top, high = one, found
    return top, high


def _stem(word: str) -> str:
    """A word without its endings: *arrive*, *arrives*, *arrived* and *arriving* are one."""
    word = _SHORTENED.sub("", word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            break
    if len(word) > _SHORTEST_STEM and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] if len(word) > _SHORTEST_STEM + 1 and word[-1] in "ey" else word
