"""A ledger of products of facts, with the drivers that move each charge."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from isocost.catalog import Fact
from isocost.ledger import Charge, Ledger, fusd
from isocost.risk import JOIN, Band, Driver, band

PILLAR, ONCE = "development", "once"


class Term(NamedTuple):
    """A factor of a charge: its value, and the ends of its central 80 % as ratios to it."""

    name: str
    value: float
    low_ratio: float = 1.0
    high_ratio: float = 1.0

    @property
    def moves(self) -> bool:
        """Whether it has an interval."""
        return self.low_ratio < 1.0 or self.high_ratio > 1.0


def term(fact: Fact) -> Term:
    """A fact as a factor.

    >>> from datetime import date
    >>> day = date(2026, 1, 1)
    >>> term(Fact("a", "b", "", 2.0, "1", 1.0, 4.0, None, None, "s", "", day, "assumed", "", "")).high_ratio
    2.0
    """
    value = float(fact.value)
    low = fact.low / value if fact.low is not None and fact.low > 0 and value else 1.0
    high = fact.high / value if fact.high is not None and value else 1.0
    return Term(fact.id, value, low, high)


def given(name: str, value: float) -> Term:
    """A number that the user states: it does not move."""
    return Term(name, value)


def over(one: Term) -> Term:
    """The reciprocal of a factor, under its own name: what is divided by it.

    >>> over(Term("x", 2.0, 0.5, 4.0))
    Term(name='x', value=0.5, low_ratio=0.25, high_ratio=2.0)
    """
    return Term(one.name, 1.0 / one.value, 1.0 / one.high_ratio, 1.0 / one.low_ratio)


class Line(NamedTuple):
    """What one account comes to, with its central 80 %."""

    account: str
    band: Band


class Book:
    """Charges of one way to a model, in order of entry. A driver keeps one direction in a book."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.charges: list[Charge] = []
        self.drivers: dict[str, Driver] = {}

    def add(self, account: str, what: str, unit: str, quantity: float, *terms: Term) -> None:
        """Book ``quantity`` times every term; the last is the price of a unit."""
        amount = quantity * prod(one.value for one in terms)
        price = terms[-1].value if terms else 1.0
        for one in terms:
            if one.moves:
                self.drivers[one.name] = Driver(one.name, one.low_ratio, one.high_ratio)
        names = JOIN.join(one.name for one in terms)
        self.charges.append(
            Charge(
                ONCE, self.option, "", PILLAR, account, "", "", what, amount / price if price else 0.0, unit,
                names, price, fusd(amount),
            )
        )  # fmt: skip

    @property
    def ledger(self) -> Ledger:
        """All charges."""
        return Ledger(self.charges)

    def total(self) -> Band:
        """Everything, with its central 80 %."""
        return band(self.ledger, self.drivers)

    def lines(self) -> tuple[Line, ...]:
        """Accounts, the largest first; their sum is the total, exactly."""
        accounts = dict.fromkeys(charge.account for charge in self.charges)
        found = [Line(name, self.of((name,))) for name in accounts]
        return tuple(sorted(found, key=lambda line: -line.band.mid_usd))

    def of(self, accounts: Iterable[str]) -> Band:
        """Some accounts together."""
        wanted = frozenset(accounts)
        return band(Ledger(charge for charge in self.charges if charge.account in wanted), self.drivers)
