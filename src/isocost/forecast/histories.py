"""Observed price movements, read from dated facts ``prices/…``: what is fitted, and what is predicted back.

Four series that must never be mixed:

- *list*: the price of one model at one seller. It stays for months and then steps, either way.
- *capability*: the cheapest price of a score on a benchmark. It falls with every cheaper model.
- *rental*: the price of an accelerator-hour. It goes both ways.
- *spend*: tokens that a task takes. They rise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import NamedTuple

from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.catalog.fact import Fact, parse_when
from isocost.units import DAYS_PER_YEAR

LISTS = ("maker", "host")
"""Sellers of list prices: who makes the model, and who resells or hosts it."""
RENTAL = "prices/rental/h100-sxm"
"""The one accelerator whose rent has a public history."""


class Window(NamedTuple):
    """List prices over about a year: ``log_ratio`` of each of the prices, 0 where it did not change."""

    seller: str
    start: str
    end: str
    log_ratio: tuple[float, ...]


class Fall(NamedTuple):
    """The cheapest price of a score over half a year: its log ratio, 0 or below."""

    series: str
    start: date
    log_ratio: float


class Move(NamedTuple):
    """A rent between two quotes of one kind of contract."""

    start: date
    end: date
    log_ratio: float

    @property
    def years(self) -> float:
        """Time between the quotes."""
        return (self.end - self.start).days / DAYS_PER_YEAR


def windows(at: CatalogAt, seller: str) -> list[Window]:
    """Windows of a seller's list prices, oldest first."""
    subject = f"prices/list-{seller}"
    found = []
    for key in at.catalog.keys(subject):
        if key.attribute != "skus":
            continue
        of = parse_when(key.when)
        moved = [
            math.log(at.number(subject, "price_ratio", other.when))
            for other in at.catalog.keys(subject)
            if other.attribute == "price_ratio"
            and f"from={of['from']};" in f"{other.when};"
            and f"to={of['to']}" in other.when
        ]
        still = int(at.number(subject, "skus", key.when)) - len(moved)
        found.append(Window(seller, of["from"], of["to"], (*moved, *(0.0,) * still)))
    return sorted(found, key=lambda window: window.start)


def capability_ends(catalog: Catalog) -> list[date]:
    """Ends of the half-years that the points of the capability series cover, first to last."""
    points = [point for series in _points(catalog).values() for point in series]
    first = min(day for day, _ in points)
    last = max(day for day, _ in points)
    start = date(first.year, first.month, 1)
    ends = []
    step = 0
    while True:
        months = start.month - 1 + 6 * step
        end = date(start.year + months // 12, months % 12 + 1, 1)
        ends.append(end)
        if end > last:
            return ends
        step += 1


def falls(catalog: Catalog) -> list[Fall]:
    """Every half-year of every capability series that had begun, oldest first."""
    found = []
    ends = capability_ends(catalog)
    series = _points(catalog)
    for start, end in pairwise(ends):
        for name, points in series.items():
            before, after = _price(points, start), _price(points, end)
            if before is not None and after is not None:
                found.append(Fall(name, start, math.log(after / before)))
    return found


def published_falls(at: CatalogAt) -> list[Fact]:
    """Published fits of a score's price: factor by which it falls a year, with its interval."""
    return list(at.each("prices/capability/", "price_fall_per_year"))


def moves(catalog: Catalog) -> list[Move]:
    """Changes of rent from quote to quote; quotes of different contracts are never compared."""
    found = []
    for key in catalog.keys(RENTAL):
        if key.attribute != "usd_per_gpu_h":
            continue
        quotes = [
            (fact.valid_from, float(fact.value))
            for fact in catalog.history(*key)
            if fact.valid_from is not None
        ]
        for (start, before), (end, after) in pairwise(quotes):
            found.append(Move(start, end, math.log(after / before)))
    return sorted(found)


def _points(catalog: Catalog) -> dict[str, list[tuple[date, float]]]:
    """Dated cheapest prices of each capability series, oldest first."""
    found: dict[str, list[tuple[date, float]]] = defaultdict(list)
    for subject in catalog.having("cheapest_usd_per_mtok", "prices/capability/"):
        for fact in catalog.history(subject, "cheapest_usd_per_mtok"):
            if fact.valid_from is not None:
                found[subject.removeprefix("prices/capability/")].append((fact.valid_from, float(fact.value)))
    return dict(found)


def _price(points: Sequence[tuple[date, float]], day: date) -> float | None:
    """The cheapest price on a day; ``None`` before the score was first reached."""
    before = [usd for on, usd in points if on <= day]
    return before[-1] if before else None
