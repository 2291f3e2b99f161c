"""Why an invoice is not what the log says: the difference as named residuals that sum to it exactly.

What stands on the invoice beside usage (tax, credits, fees, other currencies) is read off its lines. Usage is
compared in the smallest cells that both sides can tell apart. A cell's excess goes to a cause only where the
files identify it (docs/money.md has the rule of each); all else is *unexplained*, with what it might be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path

import msgspec

from isocost.books.causes import Option, Priced, explain, options_of
from isocost.books.contract import Piece, contract
from isocost.books.leftover import Counted, Leftover, Pending
from isocost.books.leftover import Log as Looked
from isocost.books.overlay import Overlay
from isocost.books.residuals import (
    CONTRACT,
    CREDITS,
    CURRENCY,
    CUT_OFF,
    DIRECT,
    ROUNDING,
    TAX,
    UNEXPLAINED,
    Ledgered,
    Place,
    Reconciled,
)
from isocost.books.sides import (
    Charge,
    Darkness,
    Names,
    Slot,
    cell_of,
    cells_of,
    charges_of,
    decimal_of,
    dims_of,
    local_day,
    places_of,
    vector,
)
from isocost.books.statement import Line, Requests, Statement, month_of, statement
from isocost.catalog import Catalog
from isocost.catalog.names import provider_named, providers
from isocost.errors import BadInput
from isocost.ledger import FEMTO_PER_USD
from isocost.trace import open_trace
from isocost.trace.charges import Invoice
from isocost.trace.head import look
from isocost.trace.invoices import read_invoice
from isocost.trace.readers import Reader, anthropic_usage, openai_usage, openrouter
from isocost.trace.schema import Trace
from isocost.units import plural

ZONES = range(-12, 15)
"""Whole hours ahead of UTC that an invoice's days may be in."""
LEAST_SHARE = Fraction(1, 4)
"""Share of the slots that another zone must make agree to be taken."""

Invoiced = dict[tuple[Slot, str], tuple[Fraction, int]]
"""What is invoiced for a slot's meter, and in how many lines."""

_BESIDE: Mapping[str, tuple[str, str]] = {
    "tax": (TAX, "tax lines"),
    "credit": (CREDITS, "credit lines"),
    "fee": (CONTRACT, "fee lines"),
    "discount": (CONTRACT, "discount lines"),
}


@dataclass
class Log:
    """A log to reconcile: read once, priced by the hour; parts of it are priced when they are asked for."""

    trace: Trace
    catalog: Catalog
    overlay: Overlay = field(default_factory=Overlay)

    def __post_init__(self) -> None:
        self.found: Statement = statement(self.trace, self.catalog, bucket="hour")
        self.priced = Priced(self.trace, self.catalog, self.overlay)
        self.dark = Darkness(self.found, hourly=not self.trace.aggregated)

    @property
    def days(self) -> tuple[date, date]:
        """The first and the last UTC day."""
        return self.found.start.date(), self.found.end.date()


def reconcile(
    log: Log,
    provider: str,
    invoices: Sequence[Invoice],
    usage: Sequence[Counted] = (),
    month: str = "",
    through: Set[str] = frozenset(),
) -> Reconciled:
    """Explain what one provider invoiced beyond (or short of) what the log says.

    ``usage`` are the provider's own usage pages, which count requests and tokens. With ``month`` only that
    UTC month is compared; without it the whole log with the whole invoice. ``through`` names the projects
    and keys that the log's calls are made with: usage under another name is direct traffic.

    Raises:
        BadInput: no line of the invoice is of the month, an amount is in a currency without a rate, or the
            overlay cannot be applied.
    """
    who = known_provider(log, provider)
    whole = Invoice(who, _span(invoices), tuple(line for one in invoices for line in one.lines))
    doubts = [said for one in invoices for said in one.doubts]
    kept = of_month(whole, month)
    out = len(whole.lines) - len(kept.lines)
    if out:
        doubts.append(
            plural(out, "line of the invoice is", "lines of the invoice are")
            + f" of other days than {month}: left out"
        )
    names = Names(log.catalog, who, log.days[1])
    charges = charges_of(kept, log.overlay, names)
    book = Ledgered()
    pages = tuple(Counted(_through(one.found, through), one.counts) for one in usage)
    work = _Work(log, who, charges, pages, month, book)
    work.beside_usage()
    work.direct(through)
    work.period()
    work.zone()
    work.contract()
    work.slots()
    bill = work.listed(work.scope)
    invoiced = sum((one.booked_fusd for one in charges), Fraction(0))
    assert book.total() == invoiced - bill, "parts sum to the difference"
    strange = sorted({one.model for one in charges if not one.known and one.line.kind == "usage"})
    if strange and not work.dims.model:
        named = ", ".join(strange[:3]) + (" ..." if len(strange) > 3 else "")
        doubts.append(f"models are not told apart: the catalog does not know what the invoice calls {named}")
    if log.found.at_least:
        doubts.append("some usage of the log has no price: the bill is at least this")
    if log.trace.unread:
        doubts.append(f"{plural(len(log.trace.unread), 'row')} of the log could not be read: not in the bill")
    doubts += work.whose(through)
    if work.shift_h:
        doubts.append(f"the invoice's days are taken to begin {work.shift_h:+d} h from UTC")
    return Reconciled(
        who, work.span, decimal_of(invoiced), decimal_of(Fraction(bill)), book.residuals(),
        work.dims.said, tuple(doubts),
    )  # fmt: skip


def known_provider(log: Log, name: str) -> str:
    """A provider by the catalog's name of it.

    Raises:
        BadInput: neither the catalog nor the log knows it.
    """
    who = provider_named(log.catalog, name)
    here = sorted({one.provider for one in log.found.lines} - {""})
    every = providers(log.catalog)
    if who in here or who in every:
        return who
    near = get_close_matches(who, [*here, *every], n=1)
    fix = f"Did you mean {near[0]}?" if near else f"The log has {', '.join(here) or 'no provider by name'}"
    raise BadInput(f"no provider {name!r}", where="--invoice", fix=fix)


def _through(found: Statement, names: Set[str]) -> Statement:
    """Usage pages without what other projects and keys used."""
    if not names:
        return found

    def ours(one: Line | Requests) -> bool:
        mine = {one.account, one.credential} - {""}
        return not mine or bool(mine & names)

    return msgspec.structs.replace(
        found,
        lines=tuple(one for one in found.lines if ours(one)),
        requests=tuple(one for one in found.requests if ours(one)),
    )


def _span(invoices: Sequence[Invoice]) -> tuple[date, date] | None:
    periods = [one.period for one in invoices if one.period is not None]
    return (min(one[0] for one in periods), max(one[1] for one in periods)) if periods else None


def of_month(whole: Invoice, month: str) -> Invoice:
    """The lines of a month; lines without a day are kept.

    Raises:
        BadInput: there are none.
    """
    if not month:
        return whole
    first, after = month_of(month)
    mine = tuple(one for one in whole.lines if one.day is None or first <= one.day < after)
    if not mine:
        raise BadInput(
            f"no charges of {month}",
            where=f"the invoice of {whole.provider}",
            fix=f"It runs from {whole.period[0]} to {whole.period[1]}" if whole.period else "Give another",
        )
    return msgspec.structs.replace(whole, lines=mine, period=(first, after - timedelta(days=1)))


@dataclass
class _Work:
    """One provider's reconciliation, step by step; ``book`` takes every attribution."""

    log: Log
    provider: str
    charges: list[Charge]
    usage: tuple[Counted, ...]
    month: str
    book: Ledgered
    shift_h: int = 0

    def __post_init__(self) -> None:
        mine = [one for one in self.log.found.lines if one.provider == self.provider]
        self.all = msgspec.structs.replace(self.log.found, lines=tuple(mine))
        self.scope = tuple(one for one in mine if not self.month or one.month == self.month)
        # Prices alone: what a contract bills is found once the period is known.
        self.plain = contract(self.all, self.log.priced.overlay).pieces
        first, last = self.log.days
        self.dims = dims_of(self.charges, self.plain, (last - first).days + 1)
        self.usage_charges = [one for one in self.charges if one.line.kind == "usage"]
        self.places = places_of(self.charges)
        self.span = first, last
        self.named = False
        self.pieces: tuple[Piece, ...] = ()

    def listed(self, lines: Sequence[Line]) -> int:
        """Femto-dollars at list price."""
        return sum(one.amount_fusd for one in lines)

    def beside_usage(self) -> None:
        """What is read off lines: currency, tax, credits, fees, discounts, adjustments."""
        for one in self.charges:
            line, where = one.line, Place(f"line {one.line.line} of the invoice")
            rate = one.booked_fusd - one.fusd
            self.book.add(CURRENCY, rate, f"{line.currency} at our rate less the provider's", where)
            if line.kind in _BESIDE:
                name, said = _BESIDE[line.kind]
                self.book.add(name, one.fusd, f"{said}: {line.line_item}", where)
            elif line.kind == "adjustment":
                text = line.line_item.lower()
                if "round" in text:
                    self.book.add(ROUNDING, one.fusd, f"a line of its own: {line.line_item}", where)
                else:
                    said = f"an adjustment that says no more than {line.line_item!r}"
                    self.book.add(UNEXPLAINED, one.fusd, said, where)
        if not self.log.overlay.discount:
            self.usage_charges = [self._at_list(one) for one in self.usage_charges]

    def direct(self, through: Set[str]) -> None:
        """Usage under projects and keys that the log's calls are not made with; what is left is named."""
        every = [(one.line.project, one.line.key) for one in self.usage_charges]
        self.named = bool(through) or (len(set(every)) == 1 and any(every[0]))
        kept = []
        for one in self.usage_charges:
            names = {one.line.project, one.line.key} - {""}
            if through and names and not names & through:
                where = Place(day=str(one.line.day or ""), model=one.model)
                said = f"under {' '.join(sorted(names))}, which the log's calls do not go through"
                self.book.add(DIRECT, one.fusd, said, where)
            else:
                kept.append(one)
        self.usage_charges = kept

    def whose(self, through: Set[str]) -> list[str]:
        """What to say where the invoice tells projects or keys apart, and nobody said which are the log's."""
        names = sorted({one.line.project or one.line.key for one in self.usage_charges} - {""})
        if through or len(names) < 2 or self.dims.account or self.dims.key:
            return []
        named = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return [f"the invoice is of {named}: say which the log's calls go through, as --through {names[0]}"]

    def _at_list(self, one: Charge) -> Charge:
        """A usage line at the list price that the file itself states; the rest is the contract's."""
        line = one.line
        if line.list_amount is None or (line.currency != "USD" and not line.amount):
            return one
        rate = one.fusd / (Fraction(line.amount) * FEMTO_PER_USD) if line.amount else Fraction(1)
        listed = Fraction(line.list_amount) * FEMTO_PER_USD * rate
        if decimal_of_or_none(listed) is None:
            return one
        said = "the file's own list price less what it bills"
        self.book.add(CONTRACT, one.fusd - listed, said, Place(day=str(line.day or ""), model=one.model))
        return msgspec.structs.replace(one, fusd=listed)

    def period(self) -> None:
        """The first and the last day that the invoice is for."""
        days = [one.line.day for one in self.usage_charges if one.line.day is not None]
        ends = [
            one.line.until - timedelta(days=1) for one in self.usage_charges if one.line.until is not None
        ]
        if self.month:
            first, after = month_of(self.month)
            self.span = first, after - timedelta(days=1)
        elif self.dims.day or ends:
            self.span = min(days), max([*days, *ends])
        elif len(set(days)) == 1:
            first, after = month_of(f"{days[0]:%Y-%m}")
            if days[0] in (first, after - timedelta(days=1), after):
                self.span = first, after - timedelta(days=1)

    def within(self, period: str, shift_h: int) -> bool:
        """Whether an hour of the log is in the invoice's period."""
        return str(self.span[0]) <= local_day(period, shift_h) <= str(self.span[1])

    def keep(self, shift_h: int) -> Callable[[Piece], bool]:
        """Whether a piece is this provider's, and in the invoice's period."""
        return lambda one: one.line.provider == self.provider and self.within(one.line.period, shift_h)

    def zone(self) -> None:
        """The zone whose days make the most slots agree, where it is not UTC and clearly so."""
        if not self.dims.day or not any("T" in one.line.period for one in self.plain):
            return
        invoiced: Invoiced = {}
        for slot, cells in cells_of(self.usage_charges, (), self.dims).items():
            for meter, cell in cells.items():
                invoiced[slot, meter] = cell.invoiced, len(cell.charges)
        hours: dict[str, dict[tuple[Slot, str], int]] = {}
        for piece in self.plain:
            held = hours.setdefault(piece.line.period, {})
            key = cell_of(piece, self.dims, 0)
            held[key] = held.get(key, 0) + piece.billed_fusd
        slots = len({slot for slot, _ in invoiced})
        here = self._agreeing(invoiced, hours, 0)
        if here == slots:
            return
        agree = {shift: self._agreeing(invoiced, hours, shift) if shift else here for shift in ZONES}
        best = max(ZONES, key=lambda shift: (agree[shift], -abs(shift)))
        rivals = [shift for shift in ZONES if agree[shift] == agree[best]]
        if agree[best] > here and len(rivals) == 1 and agree[best] >= max(2, int(LEAST_SHARE * slots)):
            self.shift_h = best

    def _agreeing(
        self, invoiced: Invoiced, hours: Mapping[str, Mapping[tuple[Slot, str], int]], shift_h: int
    ) -> int:
        """Slots all of whose meters agree when the log's days are those of a zone."""
        sums: dict[tuple[Slot, str], int] = {}
        for period, held in hours.items():
            day = local_day(period, shift_h)
            if str(self.span[0]) <= day <= str(self.span[1]):
                for (slot, meter), fusd in held.items():
                    key = slot._replace(day=day), meter
                    sums[key] = sums.get(key, 0) + fusd
        wrong = set()
        for key in {*sums, *invoiced}:
            amount, lines = invoiced.get(key, (Fraction(0), 1))
            if abs(amount - sums.get(key, 0)) >= self.places * max(1, lines):
                wrong.add(key[0])
        return len({key[0] for key in invoiced} - wrong)

    def contract(self) -> None:
        """Which rows the invoice is for, and what the contract bills for them."""
        mine = tuple(one for one in self.all.lines if self.within(one.period, self.shift_h))
        moved = self.listed(mine) - self.listed(self.scope)
        outside = sorted({one.day for one in self.scope} - {one.day for one in mine})
        if self.shift_h:
            said = f"the invoice's days begin {self.shift_h:+d} h from UTC: rows that this moves in or out"
        else:
            said = f"the log's rows of days that the invoice is not for: {', '.join(outside[:3])}"
        self.book.add(CUT_OFF, moved, said)
        under = contract(msgspec.structs.replace(self.all, lines=mine), self.log.overlay, self.span)
        self.pieces = under.pieces
        terms: dict[str, int] = {}
        for one in self.pieces:
            rule = one.paid_by or one.rule
            listed = one.line.amount_fusd
            terms[rule] = terms.get(rule, 0) + one.billed_fusd - listed
        for rule, amount in terms.items():
            self.book.add(CONTRACT, amount, f"overlay {rule!r} on usage")

    def _zones(self) -> list[Option]:
        """Of an invoice without days: the edges of its period in other zones than UTC."""
        here = vector([one for one in self.plain if self.within(one.line.period, 0)], self.dims)
        found = []
        for shift in ZONES:
            there = vector([one for one in self.plain if self.within(one.line.period, shift)], self.dims)
            moved = {
                slot: {
                    meter: there.get(slot, {}).get(meter, Fraction(0)) - amount
                    for meter, amount in meters.items()
                }
                for slot, meters in here.items()
            }
            found.append(Option(CUT_OFF, f"its period begins {shift:+d} h from UTC", "zone", moved, {}, ""))
        return found

    def slots(self) -> None:
        """Every slot: causes that fit to the last digit, then what else identifies it, else unexplained."""
        cells = cells_of(self.usage_charges, self.pieces, self.dims, self.shift_h)
        looked = Looked(
            self.log.found, self.provider, self.log.dark, self.log.priced, len(self.log.trace.unread)
        )
        left = Leftover(
            looked, self.dims, self.shift_h, lambda period: self.within(period, self.shift_h), self.usage,
            self.book, self.named, frozenset(one.model for one in self.charges if not one.known),
        )  # fmt: skip
        options = None
        pending: list[Pending] = []
        agreed = set()
        for slot, meters in sorted(cells.items()):
            excess = {meter: cell.invoiced - cell.ours for meter, cell in meters.items()}
            tolerance = {meter: self.places * max(1, len(cell.charges)) for meter, cell in meters.items()}
            at = Place(slot.said, slot.day, slot.model)
            if all(abs(part) < tolerance[meter] for meter, part in excess.items()):
                self.book.add(ROUNDING, sum(excess.values(), Fraction(0)), "places of the amounts", at)
                agreed.add(slot.model)
                continue
            if not any(cell.pieces for cell in meters.values()):
                left.stranger(slot, meters)
                continue
            if options is None:
                options = options_of(self.log.priced, self.keep(self.shift_h), cells, self.dims, self.shift_h)
                options += () if self.dims.day else self._zones()
            found = explain(excess, slot, options, tolerance)
            if found is None:
                pending.append(Pending(slot, meters, excess, tolerance))
            elif found.rivals:
                total = sum(excess.values(), Fraction(0))
                self.book.add(UNEXPLAINED, total, f"either {' or '.join(found.rivals)}", at)
            else:
                remains = sum(excess.values(), Fraction(0))
                for option in found.options:
                    amount = sum(option.vectors[slot].values(), Fraction(0))
                    number = option.counts.get(slot, 0)
                    self.book.add(
                        option.cause, amount, option.said, at._replace(number=number, unit=option.unit)
                    )
                    remains -= amount
                self.book.add(ROUNDING, remains, "places of the amounts", at)
        left.settle(pending, agreed, self.places)


def decimal_of_or_none(fusd: Fraction) -> object | None:
    """Whether an amount has a finite decimal, without which it cannot be stated exactly."""
    try:
        return decimal_of(fusd)
    except ValueError:
        return None


def read_files(provider: str, paths: Sequence[Path], catalog: Catalog) -> tuple[list[Invoice], list[Counted]]:
    """A provider's files as invoices and usage pages; OpenRouter's daily activity is both.

    Raises:
        BadInput: one cannot be read, or all are usage pages, which have no amounts.
    """
    invoices, usage = [], []
    for path in paths:
        reader = _usage_reader(path)
        if reader is not None:
            pages = open_trace(path, fmt=reader.name, who=True)
            found = statement(pages, catalog)
            usage.append(Counted(found, counts=reader is not anthropic_usage.READER))
        if reader is None or reader is openrouter.READER:
            invoices.append(read_invoice(path, provider_named(catalog, provider)))
    if not invoices:
        raise BadInput(
            "usage pages have no amounts",
            where=str(paths[0]),
            fix=f"Give costs too: --invoice {provider}=COSTS --invoice {provider}={paths[0].name}",
        )
    return invoices, usage


def _usage_reader(path: Path) -> Reader | None:
    """The reader of a provider's usage pages, where a file is one."""
    if path.suffix == ".gz" or not path.is_file() or not path.stat().st_size:
        return None
    try:
        head = look(path)
    except BadInput:
        return None
    readers = (openai_usage.READER, anthropic_usage.READER, openrouter.READER)
    return next((one for one in readers if one.knows(head)), None)
