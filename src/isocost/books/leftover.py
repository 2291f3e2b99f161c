"""What identifies an excess whose size no cause fixes: strangers, request counts, silence, splits of tokens.

Rules are tried in the order in which they stand below; the first that holds takes the excess of the slot.
Each needs evidence in the files; none is a guess at what is likely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import msgspec

from isocost.books.causes import Priced
from isocost.books.contract import Piece
from isocost.books.residuals import (
    CACHE,
    CANCELLED,
    CUT_OFF,
    DIRECT,
    MISSING,
    RETRIES,
    ROUNDING,
    UNEXPLAINED,
    UNPRICED,
    Ledgered,
    Place,
)
from isocost.books.sides import Cell, Darkness, Dims, Slot, cell_of, requests_by
from isocost.books.statement import Statement

_NO_ROW = "the log has no row of it"
_BESIDE = "more calls than were logged: lost, or made under a key that the invoice does not name"

INPUTS = ("input", "cache_read", "cache_write", "cache_write_1h")
OUTPUTS = ("output", "audio_output", "image_output")

Amounts = Mapping[str, Fraction]


class Counted(NamedTuple):
    """A provider's own usage pages as a statement by the day; ``counts``: whether they count requests."""

    found: Statement
    counts: bool


class Log(NamedTuple):
    """What the rules look at: the log by the hour, its provider, its silence, and parts of it."""

    found: Statement
    provider: str
    dark: Darkness
    priced: Priced
    unread: int


class Pending(NamedTuple):
    """A slot that no cause of a known size explains."""

    slot: Slot
    meters: dict[str, Cell]
    excess: Amounts
    tolerance: Amounts


@dataclass
class Leftover:
    """The rules, for the slots of one provider; attributions go to ``book``.

    ``within`` says whether an hour of the log is in the invoice's period. ``named``: all usage that is
    compared goes through names (keys, accounts) that the log's calls go through too, so that traffic under
    other names is not in it.
    """

    log: Log
    dims: Dims
    shift_h: int
    within: Callable[[str], bool]
    usage: tuple[Counted, ...]
    book: Ledgered
    named: bool = False
    strange: Set[str] = frozenset()
    """Models of the invoice whose names the catalog does not know."""
    agreed: Set[str] = frozenset()

    def __post_init__(self) -> None:
        ours = ("", self.log.provider)
        mine = [one for one in self.log.found.requests if one.provider in ours]
        self.models = {one.model if one.offering else one.model.lower() for one in mine}
        self.accounts = {one.account for one in mine}
        self.keys = {one.credential for one in mine}
        self.no_price = {
            one.model if one.offering else one.model.lower()
            for one in self.log.found.lines
            if one.rate_fusd is None and one.provider in ours
        }
        self.partly = {
            cell_of(Piece(one, 0, 0, 0), self.dims, self.shift_h)[0]
            for one in self.log.found.lines
            if one.rate_fusd is None and one.provider in ours
        }
        self.calls = self._calls(self.log.found)
        self.counted: dict[Slot, int] = {}
        self.tokens: dict[Slot, dict[str, int]] = {}
        for page in self.usage:
            if page.counts:
                for slot, number in requests_by(page.found, self.dims).items():
                    self.counted[slot] = self.counted.get(slot, 0) + number
            for line in page.found.lines:
                slot = Slot(
                    line.day if self.dims.day else "",
                    (line.model if line.offering else line.model.lower()) if self.dims.model else "",
                    line.account if self.dims.account else "",
                    line.credential if self.dims.key else "",
                )
                held = self.tokens.setdefault(slot, {})
                meter = line.meter if self.dims.meter else ""
                held[meter] = held.get(meter, 0) + line.quantity

    def _calls(self, found: Statement) -> dict[Slot, int]:
        mine = tuple(
            one for one in found.requests if one.provider == self.log.provider and self.within(one.period)
        )
        part = msgspec.structs.replace(found, requests=mine)
        return requests_by(part, self.dims, self.shift_h)

    def _part(self, name: str, slot: Slot) -> int:
        """Calls of a slot that failed, were cancelled, or are there twice."""
        found = self.log.priced.of(name)
        return self._calls(found.found).get(slot, 0) if found is not None else 0

    def stranger(self, slot: Slot, meters: dict[str, Cell]) -> None:
        """A slot that the invoice has, and the log has no priced row of."""
        amount = sum((cell.invoiced for cell in meters.values()), Fraction(0))
        residual, said, number = self._of_stranger(slot, self._requests(slot, meters))
        if said == _NO_ROW and any(meters):
            said = f"the log counts no {' and '.join(sorted(filter(None, meters)))}"
        self._add(residual, amount, said, slot, number or self._requests(slot, meters) or 0)

    def _of_stranger(self, slot: Slot, counted: int | None) -> tuple[str, str, int]:
        if slot in self.partly or (self.dims.model and slot.model in self.no_price):
            return UNPRICED, "the log has this usage, and no price of it", 0
        if self.dims.key and slot.key not in self.keys:
            return DIRECT, f"key {slot.key or '(none)'} is on no row of the log", 0
        if self.dims.account and slot.account not in self.accounts:
            return DIRECT, f"account {slot.account or '(none)'} is on no row of the log", 0
        if slot.model in self.strange and slot.model not in self.models:
            return UNEXPLAINED, f"{slot.model}: a name that the catalog does not know, nor the log", 0
        if self.dims.model and slot.model and slot.model not in self.models:
            return DIRECT, f"no row of the log is of {slot.model}", 0
        if self.dims.day:
            first, last = str(self.log.dark.first.date()), str(self.log.dark.last.date())
            if not first <= slot.day <= last:
                return CUT_OFF, f"days outside the log, which runs from {first} to {last}", 0
            if not self.log.dark.alive(slot.day):
                return MISSING, "the log is silent all day", 0
            dark = self._dark(slot)
            if dark is not None:
                return *dark, 0
            if self._pace_per_day(slot) >= Darkness.UNLIKELY:
                said = "no row of it on a day on which the log has others, and on which it should have many"
                return DIRECT, said, 0
        number = counted or 0
        if number and (self.named or self.dims.key or self.dims.account):
            return MISSING, "calls that the provider counted, none of them logged", number
        if not self.log.found.requests or slot.model == "":
            return UNEXPLAINED, _NO_ROW, 0
        return UNEXPLAINED, "no row of it on this day, where few would be: lost, or sent directly", 0

    def _pace_per_day(self, slot: Slot) -> float:
        """Mean calls a day of a slot's model, account and key."""
        number = sum(n for one, n in self.calls.items() if one[1:] == slot[1:])
        days = len({one.day for one in self.calls})
        return number / days if days else 0.0

    def _requests(self, slot: Slot, meters: Mapping[str, Cell]) -> int | None:
        """Requests that the provider counted; ``None`` where nothing counts them."""
        if slot in self.counted:
            return self.counted[slot]
        stated = [one.line.requests for cell in meters.values() for one in cell.charges]
        numbers = [one for one in stated if one is not None]
        if not numbers or len(numbers) < len(stated):
            return None
        # A table that has a line for each meter repeats the count on each of them.
        return max(numbers) if self.dims.meter else sum(numbers)

    def _quantities(self, slot: Slot, meters: Mapping[str, Cell]) -> dict[str, Fraction] | None:
        """Units that the provider counted of every meter; ``None`` where some are not known."""
        found: dict[str, Fraction] = {}
        for meter, cell in meters.items():
            stated = cell.invoiced_quantity
            if stated is None:
                if slot not in self.tokens:
                    return None
                stated = Fraction(self.tokens[slot].get(meter, 0))
            found[meter] = stated
        return found if self.dims.meter else None

    def rest(self, slot: Slot, meters: dict[str, Cell], excess: Amounts, tolerance: Amounts) -> None:
        """A slot that both sides have, or the log alone, and that no cause of a known size explains."""
        unpriced = {meter for meter, cell in meters.items() if not cell.pieces} if (
            slot.model in self.no_price
        ) else set()  # fmt: skip
        for meter in unpriced:
            self._add(UNPRICED, excess[meter], f"the log has {meter or 'usage'} of it without a price", slot)
        left = {meter: part for meter, part in excess.items() if meter not in unpriced}
        total = sum(left.values(), Fraction(0))
        more = {meter for meter, part in left.items() if part >= tolerance[meter]}
        less = {meter for meter, part in left.items() if part <= -tolerance[meter]}
        held = self._quantities(slot, meters)
        number, logged = self._requests(slot, meters), self.calls.get(slot, 0)
        if self._split(slot, meters, left, held, more | less):
            return
        if held is not None and all(held[m] == meters[m].quantity for m in left):
            self._unexplained(slot, total, "the same tokens at another price")
            return
        said = self._grown(slot, number, logged, more) if more and not less else None
        if said is None:
            beyond = max(0, number - logged) if number is not None and more and not less else 0
            untold = _BESIDE if beyond else _untold(meters, more, less)
            self._add(UNEXPLAINED, total, untold, slot, beyond)
            return
        residual, ground = said
        beyond = max(0, number - logged) if number is not None and residual in (MISSING, CUT_OFF) else 0
        amount = self._at_our_price(meters, held) if residual == MISSING else None
        if amount is None:
            self._add(residual, total, ground, slot, beyond)
            return
        self._add(residual, amount, ground, slot, beyond)
        over = total - amount
        if abs(over) < sum(tolerance.values(), Fraction(0)):
            self._add(ROUNDING, over, "places of the amounts", slot)
        else:
            self._unexplained(slot, over, "what the missing tokens cost beyond our price")

    def _split(
        self, slot: Slot, meters: Mapping[str, Cell], left: Amounts, held: Amounts | None, moved: set[str]
    ) -> bool:
        """The same input tokens, differently divided among plain, read and written: cache semantics."""
        family = [meter for meter in left if meter in INPUTS]
        if held is None or not moved <= set(family) or len(family) < 2:
            return False
        same = sum(held[meter] for meter in family) == sum(meters[meter].quantity for meter in family)
        if not same or all(held[meter] == meters[meter].quantity for meter in family):
            return False
        self._add(
            CACHE,
            sum((left[meter] for meter in family), Fraction(0)),
            "the same input tokens, otherwise divided among plain, read from and written to the cache",
            slot,
        )
        self._add(
            ROUNDING,
            sum((part for meter, part in left.items() if meter not in family), Fraction(0)),
            "places of the amounts",
            slot,
        )
        return True

    def _grown(self, slot: Slot, number: int | None, logged: int, more: set[str]) -> tuple[str, str] | None:
        """What a slot that is more in some meters, and less in none, has more of; ``None``: nobody knows."""
        cancelled, failed = self._part("cancelled", slot), self._part("failed", slot)
        counted = number is not None
        if self.dims.meter and cancelled and more <= set(OUTPUTS) and (not counted or number == logged):
            return CANCELLED, "more output than was logged, only where calls were cancelled"
        if counted and number == logged and failed and not cancelled:
            return RETRIES, "as many calls as were logged, more tokens, only where attempts failed"
        dark = self._dark(slot)
        if dark is not None:
            return dark
        known = self.named or self.dims.key or self.dims.account
        if known and number is not None and number > logged:
            return MISSING, "more calls than were logged"
        plain = not (cancelled or failed or self._part("duplicates", slot)) and slot.model in self.agreed
        if known and plain and "input" in more and "output" in more:
            return MISSING, "more input and output under a key that the log knows, no odd call among its rows"
        return None

    def _dark(self, slot: Slot) -> tuple[str, str] | None:
        """What a part of a day without any call says; ``None`` where there is none, or both kinds are."""
        if not self.dims.day or self.shift_h:
            return None
        outside, silent = self.log.dark.hours(slot.day)
        if outside and not silent:
            return CUT_OFF, f"the log does not cover {outside} h of the day"
        if silent and not outside:
            return MISSING, f"the log is silent for {silent} h"
        return None

    def _at_our_price(self, meters: Mapping[str, Cell], held: Amounts | None) -> Fraction | None:
        """The tokens that the log lacks at the price of those it has; ``None`` where either is not known."""
        if held is None:
            return None
        total = Fraction(0)
        for meter, cell in meters.items():
            rates = {one.rate_fusd for one in cell.pieces}
            lacking = held[meter] - cell.quantity
            if lacking and len(rates) != 1:
                return None
            total += lacking * next(iter(rates), 0)
        return total if total > 0 else None

    def _add(self, residual: str, fusd: Fraction, said: str, slot: Slot, calls: int = 0) -> None:
        self.book.add(residual, fusd, said, Place(slot.said, slot.day, slot.model, calls, "calls"))

    def _unexplained(self, slot: Slot, fusd: Fraction, said: str) -> None:
        self._add(UNEXPLAINED, fusd, said, slot)

    def settle(self, pending: Sequence[Pending], agreed: Set[str], places: Fraction) -> None:
        """All slots that no cause of a known size explains; ``agreed`` are models with slots that do agree.

        Where every amount is the same multiple of ours (of the whole, of a model, or of each meter of one),
        it is the price that differs, and nothing says why.
        """
        self.agreed = agreed
        priced: dict[Slot, str] = {}
        whole = _ratio([cell for one in pending for cell in one.meters.values()], places)
        for model in sorted({one.slot.model for one in pending}):
            mine = [one for one in pending if one.slot.model == model]
            said = _multiple(mine, model, whole, places)
            if said:
                priced |= {one.slot: said for one in mine}
        for one in pending:
            if one.slot in priced:
                self._add(UNEXPLAINED, sum(one.excess.values(), Fraction(0)), priced[one.slot], one.slot)
            else:
                self.rest(one.slot, one.meters, one.excess, one.tolerance)


def _multiple(mine: Sequence[Pending], model: str, whole: Fraction | None, places: Fraction) -> str:
    """What to say of slots of a model whose amounts are multiples of ours; blank where they are none."""
    why = (
        "a contract, an exchange rate, tax in prices, or a price that the catalog has not; nothing in the "
        "files tells which"
    )
    if whole is not None:
        return f"every amount is {float(whole):.4g} of ours: {why}"
    one = _ratio([cell for slot in mine for cell in slot.meters.values()], places)
    if one is not None:
        return f"every amount of {model or 'it'} is {float(one):.4g} of ours: {why}"
    meters = sorted({meter for slot in mine for meter in slot.meters})
    by_meter = {
        meter: _ratio([slot.meters[meter] for slot in mine if meter in slot.meters], places)
        for meter in meters
    }
    if len(mine) > 1 and meters and all(ratio is not None for ratio in by_meter.values()):
        told = ", ".join(f"{meter} {float(ratio or 0):.4g}" for meter, ratio in by_meter.items())
        return f"every amount of {model or 'it'} is a fixed multiple of ours ({told}): {why}"
    return ""


def _ratio(cells: list[Cell], places: Fraction) -> Fraction | None:
    """The one ratio of invoice to bill of several cells, where there is one."""
    both = [cell for cell in cells if cell.charges and cell.pieces]
    ours = sum((cell.ours for cell in both), Fraction(0))
    if len(both) < 2 or len(both) < len(cells) or not ours:
        return None
    ratio = sum((cell.invoiced for cell in both), Fraction(0)) / ours
    for cell in both:
        if abs(cell.invoiced - ratio * cell.ours) >= places * (len(cell.charges) + 1) * (1 + ratio):
            return None
    return ratio


def _untold(meters: Mapping[str, Cell], more: set[str], less: set[str]) -> str:
    """What an excess that nothing identifies looks like."""
    if not any(cell.charges for cell in meters.values()):
        return "the log has it, the invoice does not"
    if more and less:
        return f"more {', '.join(sorted(more))}, less {', '.join(sorted(less))} than the log says".replace(
            "  ", " "
        )
    if less:
        return "less of it than the log has"
    return "more of it than the log has: lost rows, or traffic beside the log under a name that it knows"
