"""What a path is asked for, and its quarters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Literal

from isocost.errors import BadInput
from isocost.units import MONTHS

QUARTER = 3
"""Months of one step of a path."""
LONGEST = 60
Prices = Literal["flat", "forecast"]


@dataclass(frozen=True)
class PathAsk:
    """A horizon in months, growth of all traffic a month, and how prices are supposed to go."""

    months: int
    growth_per_month: float = 0.0
    prices: Prices = "forecast"


@dataclass(frozen=True)
class Quarter:
    """A step: its first month (0 is the first after today), months in it, and the day it starts."""

    first: int
    months: int
    starts: date

    @property
    def middle(self) -> float:
        """Months from today to its middle."""
        return self.first + self.months / 2

    @property
    def label(self) -> str:
        """Its first month, as people write it."""
        return f"{self.starts:%b %Y}"


def horizon_months(text: str) -> int:
    """Whole months of a horizon: ``36mo``, ``3y``.

    Raises:
        BadInput: not a horizon, or not 3 to 60 months.

    >>> horizon_months("36mo"), horizon_months("3y")
    (36, 36)
    """
    found = re.fullmatch(r"(\d+)\s*([a-z]+)", text.strip().lower())
    if found is None or found[2] not in MONTHS:
        raise BadInput(f"{text!r} is not a horizon", fix="Type 36mo or 3y")
    months = int(int(found[1]) * MONTHS[found[2]])
    if not QUARTER <= months <= LONGEST:
        raise BadInput(f"a horizon of {months} months", fix=f"Type {QUARTER}mo to {LONGEST}mo")
    return months


def quarters(on: date, months: int) -> list[Quarter]:
    """Steps of three months from the month after ``on``; the last may be shorter.

    >>> [q.label for q in quarters(date(2026, 11, 23), 7)]
    ['Dec 2026', 'Mar 2027', 'Jun 2027']
    """
    found = []
    for first in range(0, months, QUARTER):
        at = on.month + first
        starts = date(on.year + at // 12, at % 12 + 1, 1)
        found.append(Quarter(first, min(QUARTER, months - first), starts))
    return found
