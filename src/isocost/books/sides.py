"""Two sides of a reconciliation, in cells that both can tell apart: what we bill and what was invoiced.

A *slot* is a day, model, account and key, as far as the invoice names them and the log knows them; a *cell*
is one meter of a slot. Amounts are exact fractions of femto-dollars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

import msgspec

from isocost.books.contract import Piece
from isocost.books.overlay import Overlay
from isocost.books.statement import Statement
from isocost.catalog import Catalog
from isocost.catalog.names import resolve
from isocost.errors import BadInput, UnknownModel
from isocost.ledger import FEMTO_PER_USD
from isocost.trace.charges import DIGITS, Invoice, InvoiceLine

NANO = Fraction(10**6)
"""A nano-dollar, in femto-dollars: digits of an amount below it are those of binary floats."""
LEAST_NAMED = Fraction(1, 2)
"""Share of an invoice's usage lines that must name an account, a key or a known model to tell them apart."""


class Slot(NamedTuple):
    """What both sides tell usage apart by; blank where one of them does not."""

    day: str
    model: str
    account: str
    key: str

    @property
    def said(self) -> str:
        """In words."""
        return " ".join(part for part in self if part) or "the whole invoice"


class Dims(msgspec.Struct, frozen=True):
    """Which of the names the comparison uses."""

    day: bool
    model: bool
    account: bool
    key: bool
    meter: bool

    @property
    def said(self) -> str:
        """In words: ``day, model, meter``."""
        return ", ".join(name for name in self.__struct_fields__ if getattr(self, name)) or "totals"


class Charge(msgspec.Struct, frozen=True):
    """An invoice line in dollars: ``fusd`` at the provider's own rate, ``booked_fusd`` at ours.

    ``known``: whether the catalog knows its model's name, so that it is the same name on both sides.
    """

    line: InvoiceLine
    model: str
    fusd: Fraction
    booked_fusd: Fraction
    known: bool = True


@dataclass
class Cell:
    """One meter of a slot: what was invoiced, and what we bill."""

    invoiced: Fraction = Fraction(0)
    charges: list[Charge] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    @property
    def ours(self) -> Fraction:
        """Femto-dollars that we bill."""
        return Fraction(sum(one.billed_fusd for one in self.pieces))

    @property
    def quantity(self) -> int:
        """Units that we bill."""
        return sum(one.line.quantity for one in self.pieces)

    @property
    def invoiced_quantity(self) -> Fraction | None:
        """Units that the invoice states, where all its lines do."""
        stated = [one.line.quantity for one in self.charges]
        if not stated or any(one is None for one in stated):
            return None
        return sum((Fraction(one) for one in stated if one is not None), Fraction(0))


Cells = dict[Slot, dict[str, Cell]]


def decimal_of(fusd: Fraction) -> Decimal:
    """Femto-dollars as exact dollars.

    Raises:
        ValueError: the fraction has no finite decimal.
    """
    with localcontext(Context(prec=DIGITS)) as context:
        found = Decimal(fusd.numerator) / Decimal(fusd.denominator)
        context.clear_flags()
        if Fraction(found) != fusd:
            raise ValueError(f"{fusd} is no finite decimal")
        return found.scaleb(-15)


def charges_of(invoice: Invoice, overlay: Overlay, models: Names) -> list[Charge]:
    """Invoice lines in dollars, their models under the catalog's names.

    Raises:
        BadInput: a line is in another currency, and neither the file nor the overlay has a rate of it.
    """
    found = []
    for line in invoice.lines:
        booked = own = Fraction(line.amount) * FEMTO_PER_USD
        if line.currency != "USD":
            day = line.day or (invoice.period[1] if invoice.period else date.min)
            rate = overlay.rate(line.currency, invoice.provider, day)
            stated = None if line.usd is None else Fraction(line.usd) * FEMTO_PER_USD
            if rate is None and stated is None:
                raise BadInput(
                    f"an amount in {line.currency} on {day}, and no rate of it",
                    where=f"{invoice.provider}, line {line.line}",
                    fix=f"Give in the overlay [[currency]] code = '{line.currency}', usd = 1.08, source",
                )
            amount = Fraction(line.amount) * FEMTO_PER_USD
            booked = amount * Fraction(rate.usd) if rate is not None else stated or Fraction(0)
            at = rate.invoiced_usd if rate is not None else None
            own = stated if stated is not None else amount * Fraction(at) if at is not None else booked
        name = models.of(line.model)
        found.append(Charge(line, name, own, booked, name not in models.strange))
    return found


class Names:
    """Model names as the statement has them: the catalog's where it knows them, else in lower case."""

    def __init__(self, catalog: Catalog, provider: str, on: date) -> None:
        self._at, self._provider = catalog.at(on), provider
        self._known: dict[str, str] = {"": ""}
        self.strange: set[str] = set()
        """Names that the catalog does not know, in lower case."""

    def of(self, name: str) -> str:
        """One name."""
        if name not in self._known:
            bare = name.partition("/")[2] if name.lower().startswith(f"{self._provider}/") else name
            try:
                found = resolve(self._at, bare, self._provider)
            except UnknownModel:
                self._known[name] = name.lower()
                self.strange.add(name.lower())
            else:
                self._known[name] = found.subject.split("/", 2)[2]
        return self._known[name]


def dims_of(charges: Sequence[Charge], pieces: Iterable[Piece], days_of_log: int) -> Dims:
    """What both sides tell usage apart by."""
    lines = [one for one in charges if one.line.kind == "usage"]
    held = list(pieces)
    days = {one.line.day for one in lines}
    whole = not lines or any(one.line.day is None or one.line.until is not None for one in lines)
    tokens = [one for one in lines if one.line.meter not in ("web_search", "file_search")]
    models = {one.line.model.lower() for one in held}

    def shared(invoice: Callable[[Charge], str], ours: str) -> bool:
        theirs = [invoice(one) for one in lines]
        named = sum(1 for one in theirs if one)
        mine = {str(getattr(one.line, ours)) for one in held}
        return bool(lines) and named > LEAST_NAMED * len(lines) and bool(mine & (set(theirs) - {""}))

    return Dims(
        day=not whole and (len(days) > 1 or days_of_log == 1),
        model=bool(tokens)
        and all(one.model for one in tokens)
        and sum(one.known or one.model in models for one in tokens) >= LEAST_NAMED * len(tokens),
        account=shared(lambda one: one.line.project, "account"),
        key=shared(lambda one: one.line.key, "credential"),
        meter=bool(lines) and all(one.line.meter for one in lines),
    )


def local_day(period: str, shift_h: int) -> str:
    """The day of a period in a zone that is ``shift_h`` hours ahead of UTC.

    >>> local_day("2026-10-31T23", 2), local_day("2026-10-31T23", 0)
    ('2026-11-01', '2026-10-31')
    """
    if "T" not in period or not shift_h:
        return period[:10]
    hour = int(period[11:13]) + shift_h
    if 0 <= hour < 24:
        return period[:10]
    return str(date.fromisoformat(period[:10]) + timedelta(days=1 if hour >= 24 else -1))


def cell_of(piece: Piece, dims: Dims, shift_h: int) -> tuple[Slot, str]:
    """The slot and meter of a piece of our bill."""
    line = piece.line
    # Searches are charged beside the models that made them.
    model = "" if line.meter in ("web_search", "file_search") else line.model
    slot = Slot(
        local_day(line.period, shift_h) if dims.day else "",
        (model if line.offering or not model else model.lower()) if dims.model else "",
        line.account if dims.account else "",
        line.credential if dims.key else "",
    )
    return slot, line.meter if dims.meter else ""


def slot_of(charge: Charge, dims: Dims) -> Slot:
    """The slot of an invoice line."""
    line = charge.line
    model = "" if line.meter in ("web_search", "file_search") else charge.model
    return Slot(
        str(line.day) if dims.day else "",
        model if dims.model else "",
        line.project if dims.account else "",
        line.key if dims.key else "",
    )


def cells_of(charges: Iterable[Charge], pieces: Iterable[Piece], dims: Dims, shift_h: int = 0) -> Cells:
    """Both sides by slot and meter."""
    found: Cells = {}

    def cell(slot: Slot, meter: str) -> Cell:
        return found.setdefault(slot, {}).setdefault(meter, Cell())

    for charge in charges:
        if charge.line.kind == "usage":
            one = cell(slot_of(charge, dims), charge.line.meter if dims.meter else "")
            one.invoiced += charge.fusd
            one.charges.append(charge)
    for piece in pieces:
        slot, meter = cell_of(piece, dims, shift_h)
        cell(slot, meter).pieces.append(piece)
    return found


def vector(pieces: Iterable[Piece], dims: Dims, shift_h: int = 0) -> dict[Slot, dict[str, Fraction]]:
    """Femto-dollars by slot and meter."""
    found: dict[Slot, dict[str, Fraction]] = {}
    for piece in pieces:
        slot, meter = cell_of(piece, dims, shift_h)
        mine = found.setdefault(slot, {})
        mine[meter] = mine.get(meter, Fraction(0)) + piece.billed_fusd
    return found


def places_of(charges: Iterable[Charge]) -> Fraction:
    """The unit of the last place that usage lines are written in, in femto-dollars: a cent, a nano-dollar."""
    exponents = [one.line.amount.as_tuple().exponent for one in charges if one.line.kind == "usage"]
    least = min((one for one in exponents if isinstance(one, int)), default=-2)
    return max(NANO, Fraction(10) ** (15 + min(least, 0)))


def requests_by(found: Statement, dims: Dims, shift_h: int = 0) -> dict[Slot, int]:
    """Calls by slot."""
    counts: dict[Slot, int] = {}
    for one in found.requests:
        slot = Slot(
            local_day(one.period, shift_h) if dims.day else "",
            (one.model if one.offering or not one.model else one.model.lower()) if dims.model else "",
            one.account if dims.account else "",
            one.credential if dims.key else "",
        )
        counts[slot] = counts.get(slot, 0) + one.requests
    return counts


class Darkness:
    """Where the log is silent for longer than its own pace explains, whichever provider it calls.

    ``hourly``: whether the log says when in a day calls were made; a usage report does not. ``first`` and
    ``last`` are its ends.
    """

    UNLIKELY = 14.0
    """Calls that a silence lacks at the log's mean pace: by chance, one silence in a million."""

    def __init__(self, found: Statement, *, hourly: bool = True) -> None:
        self.first, self.last, self.hourly = found.start, found.end, hourly
        self._hours: dict[datetime, int] = {}
        for one in found.requests:
            at = datetime.fromisoformat(
                f"{one.period}:00" if "T" in one.period else f"{one.period}T00:00"
            ).replace(tzinfo=UTC)
            self._hours[at] = self._hours.get(at, 0) + one.requests
        span_h = max(1.0, (self.last - self.first).total_seconds() / 3600)
        self.pace_per_h = sum(self._hours.values()) / span_h

    def hours(self, day: str) -> tuple[int, int]:
        """Silent hours of a UTC day outside the log's ends, and between them, each where it is unlikely."""
        if not self.hourly:
            return 0, 0
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        outside = inside = run = longest = 0
        for hour in range(24):
            at = start + timedelta(hours=hour)
            if at + timedelta(hours=1) <= self.first or at > self.last:
                outside += 1
                run = 0
            elif not self._hours.get(at):
                run += 1
                longest = max(longest, run)
            else:
                run = 0
        inside = longest if longest * self.pace_per_h >= self.UNLIKELY else 0
        return (outside if outside * self.pace_per_h >= self.UNLIKELY else 0), inside

    def alive(self, day: str) -> bool:
        """Whether the log has any call on a UTC day."""
        return any(at.strftime("%Y-%m-%d") == day for at in self._hours)
