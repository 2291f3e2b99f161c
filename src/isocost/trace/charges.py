"""Charges of an invoice: what a line says of its day, model, meter, tier and key, read from anyone's words.

Amounts are :class:`~decimal.Decimal` as written, never binary floats. What a line does not say is blank or
``None``: nothing here is guessed from an amount.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Any, Literal, NamedTuple

import msgspec

from isocost.errors import BadInput

Kind = Literal["usage", "credit", "tax", "fee", "discount", "adjustment"]
KINDS: tuple[Kind, ...] = ("usage", "credit", "tax", "fee", "discount", "adjustment")

DIGITS = 100
"""Significant digits within which sums are exact."""

_WORDS: tuple[tuple[Kind, str], ...] = (
    ("tax", r"\b(tax|vat|gst|hst|sales tax)\b"),
    ("credit", r"\b(credits?|promotion(al)?|grant)\b"),
    ("discount", r"\b(discount|rebate)\b"),
    ("adjustment", r"\b(adjust(ment|ed)?|correction|refund|rounding)\b"),
    ("fee", r"\b(fees?|subscription|seats?|support plan|minimum|commitment|true-?up|shortfall)\b"),
)
"""Words of a description that name a kind, the first that fits."""

_METERS: tuple[tuple[str, str], ...] = (
    ("web_search", r"web ?search"),
    ("file_search", r"file ?search"),
    ("cache_storage", r"cache storage|cached? (content )?storage"),
    ("cache_write_1h", r"ephemeral 1h|cach(e|ing) (write|creation).*\b1 ?h|1 ?h(our)? cache (write|creat)"),
    ("cache_write", r"cach(e|ing) (write|creation)|ephemeral 5m"),
    ("audio_cache_read", r"(?<!un)cached.*audio|audio.*(?<!un)cached"),
    ("image_cache_read", r"(?<!un)cached.*image|image.*(?<!un)cached"),
    ("cache_read", r"(?<!un)cached|cache (read|hit)|\bcchd\b|\bcd inpt?\b"),
    ("audio_input", r"audio.*(input|prompt|\binpt?\b)"),
    ("audio_output", r"audio.*(output|completion|\bout(p|pt)?\b)"),
    ("image_input", r"image.*(input|prompt|\binpt?\b)"),
    ("image_output", r"image.*(output|completion|\bout(p|pt)?\b)"),
    ("output", r"output|completion|generated|\bout(p|pt)?\b"),
    ("input", r"input|prompt|\binpt?\b"),
    ("request", r"\brequests?\b"),
)  # fmt: skip
"""Words that name a meter, the first that fits; meters as :mod:`isocost.catalog.prices` names them."""

_TIERS: tuple[tuple[str, str], ...] = (
    ("batch", r"\bbatch\b"),
    ("priority", r"\bpriority\b|\bpp\b"),
    ("flex", r"\bflex\b"),
    ("fast", r"\bfast\b"),
)


class InvoiceLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One charge: ``amount`` in ``currency`` (ISO code, upper case) for ``line_item`` on a UTC ``day``.

    ``day`` is ``None`` where the file names none; ``until`` is the first day after the charge, where it is
    for more than one. ``model``, ``project`` (account, workspace), ``key``, ``meter`` and ``tier`` are blank
    where it does not say. ``quantity`` counts tokens (or searches, requests) of the meter. ``list_amount``
    is what the file says the charge is at list price, ``usd`` what it says the charge is in dollars. A
    credit is negative. ``line`` is its place in the file, from 1.
    """

    day: date | None
    line_item: str
    model: str
    project: str
    amount: Decimal
    currency: str
    kind: Kind
    line: int = 0
    meter: str = ""
    tier: str = ""
    key: str = ""
    quantity: Decimal | None = None
    requests: int | None = None
    list_amount: Decimal | None = None
    usd: Decimal | None = None
    until: date | None = None


class Invoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All charges of one file; ``period`` is its first and last UTC day, both included, ``None`` if undated.

    ``doubts`` say in a sentence each what may be missing or was left out.
    """

    provider: str
    period: tuple[date, date] | None
    lines: tuple[InvoiceLine, ...]
    doubts: tuple[str, ...] = ()

    @property
    def currencies(self) -> tuple[str, ...]:
        """The currencies that occur, in alphabetical order."""
        return tuple(sorted({line.currency for line in self.lines}))

    def total(self, currency: str = "USD") -> Decimal:
        """The exact sum of the lines in one currency."""
        return exact_sum(line.amount for line in self.lines if line.currency == currency)


class Row(NamedTuple):
    """A line, and what tells it apart in its file (empty: nothing)."""

    line: InvoiceLine
    key: str = ""


def exact_sum(parts: Iterator[Decimal] | Sequence[Decimal]) -> Decimal:
    """The sum without rounding."""
    with localcontext(Context(prec=DIGITS)):
        return sum(parts, Decimal(0))


def exact_product(one: Decimal, two: Decimal) -> Decimal:
    """The product without rounding."""
    with localcontext(Context(prec=DIGITS)):
        return one * two


def meter_of(text: str) -> str:
    """The meter that a description names; blank where it names none.

    >>> meter_of("gpt-4.1, cached input"), meter_of("USE1-Nova-output-tokens"), meter_of("Seats")
    ('cache_read', 'output', '')
    >>> meter_of("uncached_input_tokens"), meter_of("cache_creation.ephemeral_1h_input_tokens")
    ('input', 'cache_write_1h')
    """
    low = re.sub(r"[_\-,/|]+", " ", _snake(text))
    return next((meter for meter, pattern in _METERS if re.search(pattern, low)), "")


def tier_of(text: str) -> str:
    """The service tier that a description names; blank where it names none.

    >>> tier_of("gpt-4.1, batch input"), tier_of("gpt-4.1, input")
    ('batch', '')
    """
    low = re.sub(r"[_\-,/|]+", " ", _snake(text))
    return next((tier for tier, pattern in _TIERS if re.search(pattern, low)), "")


def kind_of(item: str, amount: Decimal) -> Kind:
    """What a charge is by its words; a negative one that names nothing is a credit."""
    for kind, pattern in _WORDS:
        if re.search(pattern, item.lower()):
            return kind
    return "credit" if amount < 0 else "usage"


def amount_of(value: Any, where: str) -> Decimal:
    """A decimal as written; ``(12.00)`` is negative, ``1,234.56`` has thousands.

    Raises:
        BadInput: it is none.
    """
    if isinstance(value, Decimal):
        found = value
    else:
        text = str(value or "").strip()
        negative = text.startswith("(") and text.endswith(")")
        text = re.sub(r"[()$€£]", "", text).strip()
        if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text):
            text = text.replace(",", "")
        try:
            found = -Decimal(text) if negative else Decimal(text)
        except InvalidOperation:
            raise BadInput(
                f"{value!r} is no amount", where=where, fix="Write amounts as 1234.56, with a decimal point"
            ) from None
    if not found.is_finite():
        raise BadInput(f"{value} is no amount", where=where)
    return found


def maybe_amount(value: Any, where: str) -> Decimal | None:
    """The same, ``None`` where the cell is empty."""
    return None if value is None or not str(value).strip() else amount_of(value, where)


def currency_of(value: Any, where: str) -> str:
    """An ISO currency code.

    Raises:
        BadInput: it is none.
    """
    text = str(value or "").strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise BadInput(f"{value!r} is no currency", where=where, fix="Give its ISO code: USD, EUR")
    return text


def day_of(value: Any, where: str, *, month_first: bool = False) -> date:
    """The UTC day of a date, a time or a count of seconds since 1970; 10/31/2026 where months are first.

    Raises:
        BadInput: it is none.
    """
    try:
        if isinstance(value, Decimal | int):
            return datetime.fromtimestamp(int(value), UTC).date()
        text = str(value or "").strip()
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
        if month_first and (found := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", text)):
            return date(int(found[3]), int(found[1]), int(found[2]))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise BadInput(f"{value!r} is no date", where=where, fix="Write dates as 2026-10-31") from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def _snake(name: str) -> str:
    """``lineItem/UnblendedCost`` as ``line_item/unblended_cost``; numbers and points stay."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).lower()


def spelled(name: str) -> str:
    """A column's name in lower case with one underscore between words.

    >>> spelled("lineItem/UnblendedCost"), spelled("Charge Period Start")
    ('line_item_unblended_cost', 'charge_period_start')
    """
    return re.sub(r"[^a-z0-9]+", "_", _snake(name)).strip("_")


def units_in(unit: str) -> Decimal:
    """How many tokens or requests one unit of a quantity is.

    >>> units_in("1K tokens"), units_in("1M"), units_in("Tokens"), units_in("100K")
    (Decimal('1000'), Decimal('1000000'), Decimal('1'), Decimal('100000'))
    """
    found = re.match(r"\s*(\d+(?:\.\d+)?)?\s*(k|m|thousand|million)?(?![a-jln-z])", unit.lower())
    scale: Mapping[str, int] = {"k": 1000, "thousand": 1000, "m": 10**6, "million": 10**6}
    number, letter = (found[1], found[2]) if found else (None, None)
    return Decimal(number or 1) * scale.get(letter or "", 1)
