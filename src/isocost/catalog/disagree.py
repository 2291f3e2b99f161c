"""Where two sources of prices differ, which one isocost believes, and by which rule.

The catalog's own prices are compared with a table that computes nothing (``crosscheck/litellm.csv``): the
current standard prices of the offerings that both know.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec

from isocost.catalog.catalog import Catalog, CatalogAt
from isocost.catalog.fact import Fact
from isocost.errors import BadFact

CROSSCHECK = Path(__file__).parent / "crosscheck" / "litellm.csv"
"""Prices of LiteLLM's table, by subject, attribute and ``when``; in the unit of the attribute."""

OTHER = "litellm-1.109.1-models"
"""The source of the table, in ``sources.csv``."""

RULES: Mapping[str, str] = {
    "dated": "the catalog's price has a first day, the table has no dates: dated goes before undated",
    "window": "the price differs by the hour and the table holds one of them: the whole goes before a part",
    "maker": "the maker's own price list, read model by model with its reasons, goes before a general table",
    "host": "nothing tells which of two undated prices of a host is newer: held until a refresh settles it",
}
"""Why the catalog's price is believed; the first that fits. A price of one's own facts goes before both."""

ROUNDED = Decimal("0.005")
"""Share of a price below which a difference is one of rounding, and no disagreement."""


class Difference(msgspec.Struct, frozen=True):
    """One price that the sources state differently, in the attribute's unit; we believe ``ours``."""

    subject: str
    attribute: str
    when: str
    ours: Decimal
    theirs: Decimal
    source: str
    rule: str

    @property
    def why(self) -> str:
        """The rule by which ours is believed, in words."""
        return RULES[self.rule]

    @property
    def share(self) -> Decimal:
        """How far theirs is from ours, as a share of ours."""
        return self.theirs / self.ours - 1 if self.ours else Decimal(0)


class Disagreements(msgspec.Struct, frozen=True):
    """All differences under a prefix, among ``offerings`` shared ones with ``prices`` shared prices.

    ``rounded`` counts those that differ by rounding alone, ``one_sided`` prices of offerings of the catalog
    that only the other source states.
    """

    offerings: int
    prices: int
    rounded: int
    one_sided: int
    differ: tuple[Difference, ...]

    @property
    def differing(self) -> int:
        """How many of the shared offerings differ in one price at least."""
        return len({one.subject for one in self.differ})

    @property
    def share_frac(self) -> float:
        """The share of shared offerings that differ."""
        return self.differing / self.offerings if self.offerings else 0.0


def disagreements(catalog: Catalog, on: date, prefix: str = "", file: Path = CROSSCHECK) -> Disagreements:
    """Compare the catalog's prices on a day with the other table.

    ``prefix`` picks offerings: ``api/google/``, or a provider's id.

    Raises:
        BadFact: the table cannot be read.
    """
    start = prefix if not prefix or prefix.startswith("api/") else f"api/{prefix}"
    at = catalog.at(on)
    shared: dict[str, bool] = {}
    differ: list[Difference] = []
    prices = one_sided = rounded = 0
    for subject, attribute, when, theirs in _table(file):
        if not subject.startswith(start):
            continue
        held = at.find(subject, attribute, when)
        if held is None or isinstance(held.value, str):
            one_sided += bool(catalog.keys(subject))
            continue
        shared[subject] = True
        prices += 1
        ours = Decimal(repr(held.value))
        if ours != theirs:
            found = Difference(subject, attribute, when, ours, theirs, held.source, _rule(at, held))
            if abs(found.share) < ROUNDED:
                rounded += 1
            else:
                differ.append(found)
    return Disagreements(len(shared), prices, rounded, one_sided, tuple(differ))


def _rule(at: CatalogAt, held: Fact) -> str:
    """The first of ``RULES`` that fits."""
    catalog = at.catalog
    for key in catalog.keys(held.subject):
        if key.attribute == held.attribute and "window=" in key.when:
            return "window"
    if held.valid_from is not None:
        return "dated"
    return "maker" if at.find(held.subject, "originator") is not None else "host"


def _table(file: Path) -> list[tuple[str, str, str, Decimal]]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [
                (row["subject"], row["attribute"], row["when"], Decimal(row["value"]))
                for row in csv.DictReader(lines)
            ]
    except (KeyError, ArithmeticError) as wrong:
        raise BadFact(f"not a table of prices: {wrong!r}", where=file.name) from None
