"""What a claim is, what was found of it, and the rules by which figures become a verdict.

A verdict is computed, never written down: each rule is a pure function of figures with their intervals,
or of verdicts on parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import msgspec

from isocost.catalog.fact import Z_CENTRAL
from isocost.units import count, money, percent

Verdict = Literal["holds", "holds when", "fails", "not settled"]
VERDICTS: tuple[Verdict, ...] = ("holds", "holds when", "fails", "not settled")
SURE = 0.8
"""Chance from which a comparison is called settled; below one less it is settled the other way."""
NINETY_TO_EIGHTY = Z_CENTRAL / NormalDist().inv_cdf(0.95)
"""A logarithm's 90 % end to its 80 % end."""


class Claim(msgspec.Struct, frozen=True):
    """What somebody wrote: its id (``Q2``), the words in ours, and which article (blank: one of the five)."""

    id: str
    text: str
    article: str = ""

    @property
    def subject(self) -> str:
        """Subject of its facts in the catalog."""
        return f"claim/{self.id.lower()}"


class Figure(msgspec.Struct, frozen=True):
    """One computed number: what it is, its central 80 % (``None``: not known), and what it rests on.

    ``unit`` is one of ``USD``, ``x``, ``share``, or words; ``rests_on`` are ids of facts or of sources.
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    rests_on: tuple[str, ...] = ()
    note: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """Its central 80 %; the value twice where none is known."""
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )


class Range(NamedTuple):
    """A claimed range with its ends; an open end is infinite."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside, ends included."""
        return self.low <= value <= self.high

    def touches(self, low: float, high: float) -> bool:
        """Whether an interval has a point inside."""
        return low <= self.high and high >= self.low


class Ruling(NamedTuple):
    """A verdict with, for ``holds when``, the condition, and for ``not settled`` what it needs."""

    verdict: Verdict
    when: str = ""


class Part(NamedTuple):
    """One part of a claim in words, and the ruling on it."""

    words: str
    ruling: Ruling


class Finding(msgspec.Struct, frozen=True):
    """What was found of a claim.

    ``decides`` is the one number that decides, in words; ``figures`` the evidence; ``boundary`` what is
    counted; ``change`` what would change the verdict; ``claimed`` the numbers that the claim states, with
    their ends; ``sources`` the ids of the sources of all figures.
    """

    claim: Claim
    verdict: Verdict
    when: str
    decides: str
    figures: tuple[Figure, ...]
    boundary: str
    change: str
    claimed: tuple[Figure, ...] = ()
    sources: tuple[str, ...] = ()


def ranged(figures: Sequence[Figure], claimed: Range) -> Ruling:
    """A claimed range against our figure under each of several boundaries.

    Holds where every figure lies inside; holds under those boundaries that do; fails where not even a band
    touches it; is not settled where only bands do.

    >>> a, b = Figure("rented", 4.0, "", 3.0, 5.0), Figure("owned", 2.0, "", 1.0, 2.5)
    >>> ranged([a, b], Range(4.0, 5.0))
    Ruling(verdict='holds when', when='rented (4)')
    >>> ranged([a, b], Range(10.0, 15.0)).verdict, ranged([b], Range(2.4, 3.0)).verdict
    ('fails', 'not settled')
    """
    inside = [f"{one.name} ({said(one.value, one.unit)})" for one in figures if claimed.holds(one.value)]
    if len(inside) == len(figures) and figures:
        return Ruling("holds")
    if inside:
        return Ruling("holds when", either(inside))
    if any(claimed.touches(*one.ends) for one in figures):
        return Ruling("not settled", "a narrower band of our figure")
    return Ruling("fails") if figures else Ruling("not settled", "a figure to hold it against")


def probable(frac: float) -> Ruling:
    """A claim that holds with a probability.

    >>> [probable(p).verdict for p in (0.9, 0.5, 0.1)]
    ['holds', 'not settled', 'fails']
    """
    if math.isnan(frac) or 1.0 - SURE < frac < SURE:
        return Ruling("not settled", "a narrower band: neither way is 80 % likely")
    return Ruling("holds" if frac >= SURE else "fails")


def truth(holds: bool) -> Ruling:
    """A statement that is true or false of the facts."""
    return Ruling("holds" if holds else "fails")


def every(parts: Sequence[Part]) -> Ruling:
    """A claim of several parts: all must hold; where some do, it holds when only these are meant.

    >>> yes, no = Part("a", truth(True)), Part("b", truth(False))
    >>> open_ = Part("c", Ruling("not settled", "x"))
    >>> every([yes, yes]).verdict, every([no, no]).verdict, every([yes, no]), every([no, open_]).verdict
    ('holds', 'fails', Ruling(verdict='holds when', when='a'), 'not settled')
    """
    verdicts = {part.ruling.verdict for part in parts}
    if verdicts == {"holds"}:
        return Ruling("holds")
    if verdicts == {"fails"}:
        return Ruling("fails")
    good = [
        part.words if part.ruling.verdict == "holds" else f"{part.words}: {part.ruling.when}"
        for part in parts
        if part.ruling.verdict in ("holds", "holds when")
    ]
    if good:
        return Ruling("holds when", either(good))
    needs = [part.ruling.when or part.words for part in parts if part.ruling.verdict == "not settled"]
    return Ruling("not settled", "; ".join(needs))


def contradicted(one: Range, other: Range) -> bool:
    """Whether two statements of one claim about the same quantity cannot both be true.

    >>> contradicted(Range(3.3, 5.0), Range(9.0, 16.0)), contradicted(Range(1.0, 9.0), Range(9.0, 16.0))
    (True, False)
    """
    return not one.touches(*other)


def less_frac(one: Figure, other: Figure) -> float:
    """Chance that a figure is less than another: log-normal on each side of the middle, independent.

    >>> round(less_frac(Figure("a", 1.0, "", 0.5, 2.0), Figure("b", 1.0, "", 0.5, 2.0)), 3)
    0.5
    >>> less_frac(Figure("a", 1.0), Figure("b", 2.0))
    1.0
    """
    if one.value <= 0.0 or other.value <= 0.0:
        return float(one.value < other.value)
    gap = math.log(other.value / one.value)
    # The sides that face each other decide: the upper one of the smaller, the lower one of the larger.
    up, down = (one, other) if gap >= 0.0 else (other, one)
    spread = math.hypot(math.log(up.ends[1] / up.value), math.log(down.value / max(down.ends[0], 1e-300)))
    if spread == 0.0:
        return float(gap > 0.0) if gap else 0.5
    return NormalDist().cdf(gap / (spread / Z_CENTRAL))


def share_of(one: Sequence[float], rest: Sequence[float]) -> tuple[float, float, float]:
    """One part's share of two, each with the ends of its central 90 %: the share's low, middle, high.

    Log-normal on each side and independent; the ends are of the central 80 %.

    >>> share_of((1.0, 1.0, 1.0), (3.0, 3.0, 3.0))
    (0.25, 0.25, 0.25)
    >>> [round(end, 2) for end in share_of((5.0, 10.0, 20.0), (5.0, 10.0, 20.0))]
    [0.32, 0.5, 0.68]
    """
    odds = one[1] / rest[1]
    below, above = (
        math.hypot(math.log(one[end] / one[1]), math.log(rest[1] / rest[2 - end])) * NINETY_TO_EIGHTY
        for end in (0, 2)
    )
    ends = (odds * math.exp(-below), odds, odds * math.exp(above))
    return ends[0] / (1.0 + ends[0]), ends[1] / (1.0 + ends[1]), ends[2] / (1.0 + ends[2])


def from_volume(volumes: Sequence[float], fracs: Sequence[float], crossing: float | None) -> Ruling:
    """A claim that becomes true with volume: chances by volume, and where the middles cross.

    >>> from_volume((1.0, 1000.0), (0.0, 0.95), 300.0).when, from_volume((1e6, 1e7), (0.5, 0.9), None).when
    ('from 300 requests a month', 'from 10M requests a month')
    >>> from_volume((1.0, 10.0), (0.9, 0.95), None).verdict, from_volume((1.0,), (0.1,), None).verdict
    ('holds', 'fails')
    """
    found = [probable(frac).verdict for frac in fracs]
    if found and all(one == "holds" for one in found):
        return Ruling("holds")
    if found and all(one == "fails" for one in found):
        return Ruling("fails")
    if found and found[-1] == "holds":
        start = crossing or next(volume for volume, one in zip(volumes, found, strict=True) if one == "holds")
        return Ruling("holds when", f"from {count(start)} requests a month")
    return Ruling("not settled", "narrower bands of the costs at the volumes where it would hold")


def below_volume(volumes: Sequence[float], fracs: Sequence[float], crossing: float | None) -> Ruling:
    """A claim that is true until a volume; ``fracs`` are chances of its opposite.

    >>> below_volume((1.0, 1000.0), (0.0, 0.95), 300.0).when
    'below 300 requests a month'
    >>> below_volume((1.0, 10.0), (0.9, 0.95), None).verdict
    'fails'
    """
    other = from_volume(volumes, fracs, crossing)
    if other.verdict == "holds when":
        return Ruling("holds when", other.when.replace("from", "below", 1))
    turned: dict[Verdict, Verdict] = {"holds": "fails", "fails": "holds"}
    return Ruling(turned.get(other.verdict, other.verdict), other.when)


def crossing_of(volumes: Sequence[float], one: Sequence[float], other: Sequence[float]) -> float | None:
    """The last volume at which one cost falls below another, straight between points on logarithms.

    >>> round(crossing_of((1.0, 100.0), (10.0, 10.0), (1.0, 100.0)), 6)
    10.0
    >>> crossing_of((1.0, 100.0), (10.0, 10.0), (1.0, 2.0)) is None
    True
    """
    gaps = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    found = None
    for i in range(1, len(gaps)):
        if gaps[i - 1] > 0.0 >= gaps[i]:
            share = gaps[i - 1] / (gaps[i - 1] - gaps[i])
            found = math.exp(math.log(volumes[i - 1]) + share * math.log(volumes[i] / volumes[i - 1]))
    return found


def either(words: Sequence[str]) -> str:
    """Words joined by *or*.

    >>> either(["a", "b", "c"])
    'a, b or c'
    """
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def said(value: float, unit: str) -> str:
    """A value with its unit as a person reads it; what is just off a whole multiple shows that it is.

    >>> said(4.1e6, "USD"), said(0.31, "share"), said(1.97, "x"), said(float("nan"), "x"), said(1.0, "weeks")
    ('$4.1M', '31%', '1.97x', 'never', '1 week')
    """
    if value != value:
        return "never"
    if unit.startswith("USD"):
        rest = unit.removeprefix("USD")
        return money(value) + {"/month": "/mo", "/year": "/year", "/Mtok": "/Mtok", "/h": "/h"}.get(
            rest, rest
        )
    if unit == "x":
        short = f"{value:,.1f}"
        hides = short.endswith(".0") and abs(value - round(value)) > 1e-9
        return f"{value:,.0f}x" if value >= 100 else f"{value:,.2f}x" if hides else f"{short}x"
    if unit == "share":
        return percent(value)
    if unit == "requests/month":
        return f"{count(value)}/mo"
    number = f"{value:,.3g}" if abs(value) < 1e3 else count(value)
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}".strip()
