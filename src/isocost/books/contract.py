"""A statement under a contract: what each part of its usage costs at list, as contracted, billed, in effect.

In this order: a discount makes the list price the contracted price; usage within provisioned capacity and
usage that draws down an upfront commitment is billed nothing more; percentage fees count on what usage is
billed; credits pay for what is left. What is charged beside usage is an *entry*: purchases, fees, shortfalls,
credits. Effective cost spreads what was paid ahead over the usage that it paid for; what nothing used is an
*unused* entry. All amounts are whole femto-dollars, rounded once, at a price or at an entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import msgspec

from isocost.books.overlay import Commitment, Discount, Overlay, Provisioned, Scope, VolumeTier
from isocost.books.rounding import largest_remainder
from isocost.books.statement import Line, Statement, month_of
from isocost.catalog.prices import PRICES
from isocost.errors import BadInput
from isocost.ledger import FEMTO_PER_USD

EntryKind = Literal["purchase", "fee", "shortfall", "credit", "unused"]
ENTRIES: tuple[EntryKind, ...] = ("purchase", "fee", "shortfall", "credit", "unused")
HOURS = 24


class Piece(msgspec.Struct, frozen=True):
    """A part of a line that is charged one way.

    ``line`` holds the part's quantity and its list price; ``contracted_fusd``, ``billed_fusd`` and
    ``effective_fusd`` are amounts. ``rule`` names the discount, ``paid_by`` the capacity or the commitment
    that pays for it.
    """

    line: Line
    rate_fusd: int
    billed_fusd: int
    effective_fusd: int
    rule: str = ""
    paid_by: str = ""

    @property
    def list_fusd(self) -> int:
        """At list price; at the contracted one where no list price is known."""
        return self.line.amount_fusd if self.line.rate_fusd is not None else self.contracted_fusd

    @property
    def contracted_fusd(self) -> int:
        """Quantity times contracted price."""
        return self.line.quantity * self.rate_fusd


class Entry(msgspec.Struct, frozen=True):
    """A charge beside usage, from ``start`` to before ``end`` (UTC days of a month); a credit is negative.

    ``paid_for`` says what a purchase, a shortfall or an unused part is of: ``capacity`` or ``spend``.
    """

    kind: EntryKind
    name: str
    provider: str
    start: date
    end: date
    billed_fusd: int
    effective_fusd: int
    paid_for: Literal["", "capacity", "spend"] = ""


class Contract(msgspec.Struct, frozen=True):
    """A statement under an overlay: pieces in order of its lines, entries in order of their start.

    ``unpriced`` are lines that neither the list nor the contract has a price for. ``doubts`` say what could
    not be applied.
    """

    found: Statement
    pieces: tuple[Piece, ...]
    entries: tuple[Entry, ...]
    unpriced: tuple[Line, ...] = ()
    doubts: tuple[str, ...] = ()
    capacity: tuple[str, ...] = ()
    """Names of provisioned capacity; whatever else pays for usage is a commitment to spend."""

    @property
    def list_fusd(self) -> int:
        """Usage at list price."""
        return sum(one.list_fusd for one in self.pieces)

    @property
    def contracted_fusd(self) -> int:
        """Usage at the contracted price."""
        return sum(one.contracted_fusd for one in self.pieces)

    @property
    def billed_fusd(self) -> int:
        """What the contract says is invoiced: usage and entries."""
        return sum(one.billed_fusd for one in self.pieces) + sum(one.billed_fusd for one in self.entries)

    @property
    def effective_fusd(self) -> int:
        """The same with what was paid ahead spread over what it paid for."""
        return sum(one.effective_fusd for one in self.pieces) + sum(
            one.effective_fusd for one in self.entries
        )

    @property
    def statement(self) -> Statement:
        """The statement at contracted prices; the facts of a line name its discount."""
        lines = [
            msgspec.structs.replace(
                one.line,
                rate_fusd=one.rate_fusd,
                facts=(*one.line.facts, f"overlay/{one.rule}") if one.rule else one.line.facts,
            )
            for one in self.pieces
        ]
        whole = sorted((*lines, *self.unpriced), key=lambda line: line.period)
        return msgspec.structs.replace(self.found, lines=tuple(whole))

    def billed_by(self, *keys: str) -> dict[tuple[str, ...], int]:
        """Femto-dollars that usage is billed, by keys of its lines; entries have none."""
        totals: dict[tuple[str, ...], int] = {}
        for one in self.pieces:
            key = tuple(str(getattr(one.line, name)) for name in keys)
            totals[key] = totals.get(key, 0) + one.billed_fusd
        return totals


def contract(found: Statement, overlay: Overlay, span: tuple[date, date] | None = None) -> Contract:
    """Apply a contract to a statement of whole UTC days.

    ``span`` is its first and last day; without it the days of the log. Fees and commitments of a month count
    where the span reaches into it; the shortfall of a commitment only where the span holds all of its period.

    Raises:
        BadInput: a commitment or a credit began before the span, and what was used of it is not stated.
    """
    first, last = span or (found.start.date(), found.end.date())
    made = _Made(overlay, first, last + timedelta(days=1))
    made.discounts(found.lines)
    made.capacity()
    made.commitments()
    made.fees()
    made.credits()
    made.unmet(found.lines)
    entries = sorted(made.entries, key=lambda one: (one.start, one.kind, one.name))
    pieces = tuple(
        Piece(one.line, one.rate_fusd, one.billed, one.effective, one.rule, one.paid_by) for one in made.parts
    )
    return Contract(
        found,
        pieces,
        tuple(entries),
        tuple(made.unpriced),
        tuple(made.doubts),
        tuple(one.said for one in overlay.provisioned),
    )


@dataclass(eq=False)
class _Part:
    """A piece in the making."""

    line: Line
    rate_fusd: int
    rule: str = ""
    paid_by: str = ""
    billed: int = 0
    effective: int = 0

    def __post_init__(self) -> None:
        self.billed = self.effective = self.line.quantity * self.rate_fusd


@dataclass
class _Made:
    """What has been applied so far; ``after`` is the first day after the span."""

    overlay: Overlay
    first: date
    after: date
    parts: list[_Part] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    unpriced: list[Line] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def discounts(self, lines: Iterable[Line]) -> None:
        """Every line at its contracted price, in order of time."""
        ordered = sorted(lines, key=lambda line: line.period)
        rules = [self.overlay.discount_for(line) for line in ordered]
        volume: dict[tuple[int, str], Fraction] = {}
        for line, rule in zip(ordered, rules, strict=True):
            if rule is not None and rule.tiers and rule.volume == "whole":
                key = rule.line, line.month
                volume[key] = volume.get(key, Fraction(0)) + _volume(rule, line)
        seen: dict[tuple[int, str], Fraction] = {}
        for line, rule in zip(ordered, rules, strict=True):
            if rule is None or not rule.tiers:
                self._enter(line, rule, rule)
            elif rule.volume == "whole":
                self._enter(line, rule, _tier(rule, volume[rule.line, line.month]))
            else:
                key = rule.line, line.month
                start = seen.get(key, Fraction(0))
                for part, tier in _marginal(rule, line, start):
                    self._enter(part, rule, tier)
                seen[key] = start + _volume(rule, line)
        for rule in self.overlay.discount:
            if rule.tiers and self.first.day > 1 and rule.on(self.first):
                self.doubts.append(
                    f"{rule.said}: volume tiers count from {self.first}, as the log has no earlier day"
                )

    def unmet(self, lines: Sequence[Line]) -> None:
        """Say which rules no line is of, whatever its day: a name in them may be misspelt."""
        rules = self.overlay
        named = (*rules.discount, *rules.commitment, *rules.credit, *rules.provisioned, *rules.fee)
        told = [repr(one.said) for one in named if not any(one.fits_names(line) for line in lines)]
        if told:
            self.doubts.append(f"no row of the log is of {', '.join(told)}: check the names in the contract")

    def _enter(self, line: Line, rule: Discount | None, price: Discount | VolumeTier | None) -> None:
        rate = _contracted(line, price)
        if rate is None:
            self.unpriced.append(line)
            return
        self.parts.append(_Part(line, rate, rule.said if rule is not None else ""))

    def capacity(self) -> None:
        """Usage within provisioned capacity is billed nothing more; the fee is spread over the capacity."""
        for rule in self.overlay.provisioned:
            for hours, start, parts in self._periods(rule):
                room = rule.units * rule.tok_per_min_per_unit * 60 * hours
                fee = _femto(Fraction(rule.units * rule.usd_per_unit_h * hours))
                used: list[tuple[_Part, Fraction]] = []
                left = Fraction(room)
                for part in parts:
                    weight = Fraction(_weight(rule, part.line.meter))
                    fit = part.line.quantity if not weight else min(part.line.quantity, int(left / weight))
                    if not fit:
                        continue
                    covered = self._split(part, fit)
                    covered.billed, covered.paid_by = 0, rule.said
                    used.append((covered, fit * weight))
                    left -= fit * weight
                shares = [Fraction(fee) * weight / Fraction(room) for _, weight in used]
                whole = largest_remainder([*shares, fee - sum(shares, Fraction(0))], fee)
                for (covered, _), effective in zip(used, whole, strict=False):
                    covered.effective = effective
                self._charge("unused", rule, start, 0, whole[-1])
                self._charge("purchase", rule, start, fee, 0)
        self._merge()

    def _periods(self, rule: Provisioned) -> Iterator[tuple[int, date, list[_Part]]]:
        """Every hour of the span (or day, of a statement by the day) with the usage that the rule fits."""
        hourly = any("T" in part.line.period for part in self.parts)
        mine: dict[str, list[_Part]] = {}
        for part in self.parts:
            if not part.paid_by and rule.fits(part.line) and _tokens(part.line.meter):
                mine.setdefault(part.line.period, []).append(part)
        if not hourly and mine:
            self.doubts.append(f"{rule.said}: capacity is compared with whole days, not hours")
        for day in _days(self.first, self.after):
            if not rule.on(day):
                continue
            for hour in range(HOURS) if hourly else (0,):
                period = f"{day}T{hour:02}" if hourly else f"{day}"
                yield (1 if hourly else HOURS), day, mine.get(period, [])

    def _split(self, part: _Part, quantity: int) -> _Part:
        """The first ``quantity`` units of a part as one of their own, before the rest."""
        if quantity == part.line.quantity:
            return part
        at = self.parts.index(part)
        head, tail = (
            _Part(msgspec.structs.replace(part.line, quantity=n), part.rate_fusd, part.rule)
            for n in (quantity, part.line.quantity - quantity)
        )
        self.parts[at : at + 1] = [head, tail]
        return head

    def _merge(self) -> None:
        """Entries of one rule and day are one."""
        sums: dict[Entry, tuple[int, int]] = {}
        for one in self.entries:
            key = msgspec.structs.replace(one, billed_fusd=0, effective_fusd=0)
            billed, effective = sums.get(key, (0, 0))
            sums[key] = billed + one.billed_fusd, effective + one.effective_fusd
        self.entries = [
            msgspec.structs.replace(key, billed_fusd=billed, effective_fusd=effective)
            for key, (billed, effective) in sums.items()
            if billed or effective
        ]

    def commitments(self) -> None:
        """Upfront ones are drawn down; of those in arrears the shortfall is billed."""
        for rule in self.overlay.commitment:
            for start, end in self._terms(rule):
                mine = [
                    part
                    for part in self.parts
                    if not part.paid_by
                    and start <= date.fromisoformat(part.line.day) < end
                    and rule.fits(part.line)
                ]
                left = _femto(Fraction(rule.usd)) - self._used(rule, start)
                if rule.paid == "upfront":
                    if self.first <= start < self.after:
                        self._charge("purchase", rule, start, _femto(Fraction(rule.usd)), 0)
                    for part in mine:
                        drawn = min(part.billed, max(0, left))
                        if drawn:
                            part.billed -= drawn
                            part.paid_by = rule.said
                            left -= drawn
                else:
                    left -= sum(part.billed for part in mine)
                last = end - timedelta(days=1)
                if left > 0 and self.first <= last < self.after:
                    if rule.paid == "upfront":
                        self._charge("unused", rule, last, 0, left)
                    elif self.first <= start or rule.used_usd is not None:
                        self._charge("shortfall", rule, last, left, left)
                elif left > 0 and rule.paid == "arrears":
                    self.doubts.append(
                        f"{rule.said}: its period ends on {last}, after the log; no shortfall is billed yet"
                    )

    def _terms(self, rule: Commitment) -> Iterator[tuple[date, date]]:
        """The periods of a commitment that the span reaches into, half-open."""
        if rule.per == "term":
            assert rule.since is not None
            assert rule.until is not None
            if rule.since < self.after and self.first < rule.until:
                yield rule.since, rule.until
            return
        for month in _months(self.first, self.after):
            start, end = month_of(month)
            if rule.on(start) or rule.on(end - timedelta(days=1)):
                yield max(start, rule.since or start), min(end, rule.until or end)

    def _used(self, rule: Commitment, start: date) -> int:
        """Femto-dollars used before the span of the period that holds its first day.

        Raises:
            BadInput: the period began earlier, and the overlay does not say.
        """
        if start >= self.first:
            return 0
        if rule.used_usd is None:
            raise BadInput(
                f"the commitment began on {start}, before the log ({self.first}): what was used is not known",
                where=f"{self.overlay.path}:{rule.line}",
                fix="State it: used_usd = 1234.56 (0 where nothing was)",
            )
        return _femto(Fraction(rule.used_usd))

    def fees(self) -> None:
        """Percentages of what usage is billed by the month, and fixed fees of each month."""
        for rule in self.overlay.fee:
            for month in _months(self.first, self.after):
                start, end = month_of(month)
                begin, stop = max(start, self.first), min(end, self.after)
                if rule.usd_per_month is not None:
                    if rule.on(begin):
                        self._charge(
                            "fee", rule, begin, *(_femto(Fraction(rule.usd_per_month)),) * 2, end=stop
                        )
                    continue
                base = sum(
                    part.billed for part in self.parts if part.line.month == month and rule.fits(part.line)
                )
                amount = _femto(Fraction(base, FEMTO_PER_USD) * Fraction(rule.percent or 0) / 100)
                if amount:
                    self._charge("fee", rule, begin, amount, amount, end=stop)

    def credits(self) -> None:
        """The credit that expires first pays first; then the narrower one, then the one stated first."""
        order = sorted(self.overlay.credit, key=lambda one: (one.until or date.max, -one.given, one.line))
        unpaid = {id(part): part.billed for part in self.parts}
        for rule in order:
            if rule.used_usd is None and rule.since is not None and rule.since < self.first:
                raise BadInput(
                    f"the credit began on {rule.since}, before the log ({self.first}): what is left of it is "
                    "not known",
                    where=f"{self.overlay.path}:{rule.line}",
                    fix="State it: used_usd = 1234.56 (0 where nothing was)",
                )
            left = _femto(Fraction(rule.usd - (rule.used_usd or 0)))
            paid: dict[str, int] = {}
            for part in self.parts:
                owed = unpaid[id(part)]
                if left > 0 and owed > 0 and rule.fits(part.line):
                    paying = min(owed, left)
                    unpaid[id(part)] -= paying
                    left -= paying
                    paid[part.line.month] = paid.get(part.line.month, 0) + paying
            for month, amount in paid.items():
                start, end = month_of(month)
                begin, stop = max(start, self.first), min(end, self.after)
                self._charge("credit", rule, begin, -amount, -amount, end=stop)

    def _charge(
        self,
        kind: EntryKind,
        rule: Scope,
        start: date,
        billed: int,
        effective: int,
        *,
        end: date | None = None,
    ) -> None:
        if billed or effective:
            stop = end or start + timedelta(days=1)
            what: Literal["", "capacity", "spend"] = ""
            if kind in ("purchase", "shortfall", "unused"):
                what = "capacity" if isinstance(rule, Provisioned) else "spend"
            self.entries.append(Entry(kind, rule.said, rule.provider, start, stop, billed, effective, what))


def _femto(usd: Fraction) -> int:
    """Whole femto-dollars, halves to even."""
    return round(usd * FEMTO_PER_USD)


def _tokens(meter: str) -> bool:
    return PRICES[meter][1] > 1 and meter != "cache_storage"


def _weight(rule: Provisioned, meter: str) -> Decimal:
    if "output" in meter:
        return rule.output_counts
    return rule.cached_counts if "cache_read" in meter else Decimal(1)


def _contracted(line: Line, price: Discount | VolumeTier | None) -> int | None:
    """Femto-dollars for one unit of a line; ``None`` where neither list nor contract has a price."""
    if price is not None and price.usd_per_mtok is not None and _tokens(line.meter):
        return _femto(Fraction(price.usd_per_mtok) / PRICES[line.meter][1])
    fixed = getattr(price, "usd_per_unit", None)
    if fixed is not None and not _tokens(line.meter):
        return _femto(Fraction(fixed))
    if line.rate_fusd is None:
        return None
    if price is not None and price.percent is not None:
        return round(Fraction(line.rate_fusd) * (1 - Fraction(price.percent) / 100))
    return line.rate_fusd


def _volume(rule: Discount, line: Line) -> Fraction:
    """What a line adds to the volume that tiers count: list dollars or million tokens."""
    if rule.tiers[0].above_usd is not None:
        return Fraction(line.amount_fusd, FEMTO_PER_USD)
    return Fraction(line.quantity, 10**6) if _tokens(line.meter) else Fraction(0)


def _from(tier: VolumeTier) -> Fraction:
    above = tier.above_usd if tier.above_usd is not None else tier.above_mtok
    return Fraction(above or 0)


def _tier(rule: Discount, volume: Fraction) -> VolumeTier | None:
    """The tier that a volume has reached; none below the first."""
    return next((tier for tier in reversed(rule.tiers) if volume > _from(tier)), None)


def _marginal(rule: Discount, line: Line, start: Fraction) -> Iterator[tuple[Line, VolumeTier | None]]:
    """A line cut where a threshold is passed; a unit belongs to the tier in which it begins."""
    whole = _volume(rule, line)
    each = whole / line.quantity if line.quantity else Fraction(0)
    cuts = [0]
    for tier in rule.tiers:
        if each and start <= _from(tier) < start + whole:
            cut = -((start - _from(tier)) // each) if _from(tier) > start else 0
            cuts.append(min(line.quantity, int(cut)))
    cuts.append(line.quantity)
    for low, high in pairwise(cuts):
        if high > low:
            reached = [tier for tier in rule.tiers if _from(tier) <= start + low * each]
            yield msgspec.structs.replace(line, quantity=high - low), (reached[-1] if reached else None)


def _days(first: date, after: date) -> Iterator[date]:
    while first < after:
        yield first
        first += timedelta(days=1)


def _months(first: date, after: date) -> Sequence[str]:
    return list(dict.fromkeys(f"{day:%Y-%m}" for day in _days(first, after)))
