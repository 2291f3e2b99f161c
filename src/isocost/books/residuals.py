"""The named parts of the difference between an invoice and a bill, and what each rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec

from isocost.books.sides import decimal_of
from isocost.trace.charges import exact_sum

CURRENCY, TAX, CREDITS, CONTRACT = "currency", "tax", "credits", "contract"
CUT_OFF, DIRECT, MISSING = "cut-off and time zone", "direct traffic", "missing rows"
DUPLICATES, CANCELLED, RETRIES = "duplicates", "cancelled streams", "retries"
CACHE, TIER, UNPRICED = "cache semantics", "tier", "unpriced usage"
ROUNDING, UNEXPLAINED = "rounding", "unexplained"

RESIDUALS = (
    CURRENCY, TAX, CREDITS, CONTRACT, CUT_OFF, DIRECT, MISSING, DUPLICATES, CANCELLED, RETRIES, CACHE, TIER,
    UNPRICED, ROUNDING, UNEXPLAINED,
)  # fmt: skip
"""Every residual, in the order in which the difference is attributed."""

ACTIONS: Mapping[str, str] = {
    CURRENCY: "Check the provider's rate against the contract's",
    TAX: "Nothing: tax is no usage",
    CREDITS: "Nothing; mind when they expire",
    CONTRACT: "Check the rates against the contract; keep it as --overlay",
    CUT_OFF: "Compare the same days: export the invoice in UTC, or a log that covers its period",
    DIRECT: "Find who holds these keys, or route them through the gateway",
    MISSING: "Find why calls were not logged; until then the bill is too low",
    DUPLICATES: "Ask for a refund where one call was billed twice; deduplicate the log where it was not",
    CANCELLED: "Log usage at cancellation, or cap max_tokens: the provider bills what it generated",
    RETRIES: "Log attempts that failed with what they used, and look at why they fail",
    CACHE: "Check that the log keeps cached tokens apart as the provider counts them",
    TIER: "Log the service tier of each call (service_tier, batch)",
    UNPRICED: "Add the price as a fact (--facts DIR) or to the overlay",
    ROUNDING: "Nothing",
    UNEXPLAINED: "See what would tell: usage pages with request counts, costs by key, the contract",
}


class Part(msgspec.Struct, frozen=True):
    """One attribution: ``usd`` of a residual, on what ground (``said``), where, and of how many units.

    ``number`` counts ``unit`` (calls or tokens); 0 where nothing is counted.
    """

    residual: str
    usd: Decimal
    said: str
    where: str = ""
    day: str = ""
    model: str = ""
    number: int = 0
    unit: str = ""


class Residual(msgspec.Struct, frozen=True):
    """A named part of the difference, positive where the invoice is above the bill."""

    name: str
    usd: Decimal
    evidence: str
    action: str
    parts: tuple[Part, ...] = ()


class Reconciled(msgspec.Struct, frozen=True):
    """One provider's invoice against the bill; ``residuals`` (those with parts) sum to the difference.

    ``compared`` says what both sides were told apart by; ``doubts`` what may be missing from either.
    """

    provider: str
    period: tuple[date, date]
    invoice_usd: Decimal
    bill_usd: Decimal
    residuals: tuple[Residual, ...]
    compared: str
    doubts: tuple[str, ...] = ()

    @property
    def difference_usd(self) -> Decimal:
        """The invoice less the bill."""
        return self.invoice_usd - self.bill_usd

    def usd(self, name: str) -> Decimal:
        """A residual's amount; zero where it has no part."""
        return next((one.usd for one in self.residuals if one.name == name), Decimal(0))


class Place(NamedTuple):
    """Where an attribution holds: words, day, model, and how many calls or tokens it is about."""

    where: str = ""
    day: str = ""
    model: str = ""
    number: int = 0
    unit: str = ""


class Entered(NamedTuple):
    """An attribution in the making; the amount is an exact fraction of femto-dollars."""

    residual: str
    fusd: Fraction
    said: str
    place: Place


@dataclass
class Ledgered:
    """Attributions in the order in which they are made."""

    parts: list[Entered] = field(default_factory=list)

    def add(self, residual: str, fusd: Fraction | int, said: str, place: Place = Place()) -> None:  # noqa: B008
        """Enter an amount; nothing where it is zero."""
        if fusd:
            self.parts.append(Entered(residual, Fraction(fusd), said, place))

    def total(self) -> Fraction:
        """The sum of all attributions."""
        return sum((one.fusd for one in self.parts), Fraction(0))

    def residuals(self) -> tuple[Residual, ...]:
        """The residuals that have parts, in their order; parts with the largest amounts first."""
        found = []
        for name in RESIDUALS:
            mine = [one for one in self.parts if one.residual == name]
            if not mine:
                continue
            mine.sort(key=lambda one: (-abs(one.fusd), one.place, one.said))
            parts = tuple(Part(name, decimal_of(one.fusd), one.said, *one.place) for one in mine)
            total = decimal_of(sum((one.fusd for one in mine), Fraction(0)))
            found.append(Residual(name, total, evidence(parts), ACTIONS[name], parts))
        return tuple(found)


def evidence(parts: Sequence[Part]) -> str:
    """What a residual rests on, in a sentence: each ground once, with where it holds."""
    grounds: dict[str, list[Part]] = {}
    for part in parts:
        grounds.setdefault(part.said, []).append(part)
    said = []
    ranked = sorted(grounds.items(), key=lambda item: -abs(exact_sum([one.usd for one in item[1]])))
    for ground, mine in ranked[:3]:
        usd = exact_sum([one.usd for one in mine])
        amount = f"{'-' if usd < 0 else ''}${abs(usd):,.2f} " if len(grounds) > 1 else ""
        said.append(f"{amount}{ground}{_where(mine)}")
    if len(grounds) > len(said):
        said.append(f"and {len(grounds) - len(said)} more grounds")
    return "; ".join(said)


def _where(parts: Sequence[Part]) -> str:
    days = sorted({one.day for one in parts if one.day})
    models = sorted({one.model for one in parts if one.model})
    places = sorted({one.where for one in parts if one.where})
    span = "" if not days else days[0] if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"
    named = ", ".join(models[:2]) + (f" and {len(models) - 2} more models" if len(models) > 2 else "")
    other = "" if models or days else ", ".join(places[:2]) + (" ..." if len(places) > 2 else "")
    units = {one.unit for one in parts if one.number}
    number = f"{sum(one.number for one in parts):,} {units.pop()}" if len(units) == 1 else ""
    told = "; ".join(part for part in (named, span, other, number) if part)
    return f" ({told})" if told else ""
