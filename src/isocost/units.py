"""Units that facts may state, how money is printed, and how people write durations, volumes and shares.

Every parser takes what a person types (``6h``, ``200k..5M/mo``, ``4%/mo``, ``32k``) and says, where it
cannot, what to type instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from isocost.errors import BadInput


class Unit(NamedTuple):
    """One word of a unit: what it measures, and its meaning in words."""

    dimension: str
    meaning: str


UNITS: Mapping[str, Unit] = {
    "1": Unit("ratio", "a plain number: a share, a factor"),
    "USD": Unit("money", "United States dollars"),
    "EUR": Unit("money", "euros"),
    "s": Unit("time", "seconds"),
    "min": Unit("time", "minutes"),
    "h": Unit("time", "hours"),
    "day": Unit("time", "days"),
    "week": Unit("time", "weeks"),
    "month": Unit("time", "mean months, a twelfth of a year"),
    "year": Unit("time", "years of 365.25 days"),
    "tok": Unit("tokens", "tokens of the model that is meant"),
    "Mtok": Unit("tokens", "millions of tokens"),
    "char": Unit("text", "characters"),
    "request": Unit("count", "requests"),
    "search": Unit("count", "web searches made by a model"),
    "count": Unit("count", "things that are counted"),
    "unit": Unit("count", "units of work, as the fact says"),
    "event": Unit("count", "logged events"),
    "Mevent": Unit("count", "millions of logged events"),
    "sample": Unit("count", "graded answers"),
    "label": Unit("count", "labelled examples"),
    "example": Unit("count", "training examples"),
    "elements": Unit("count", "elements of a vector or matrix"),
    "parameters": Unit("count", "weights of a model"),
    "FTE": Unit("staff", "people at full time"),
    "FLOP": Unit("compute", "floating-point operations"),
    "bytes": Unit("storage", "bytes"),
    "GB": Unit("storage", "billions of bytes"),
    "W": Unit("power", "watts"),
    "kWh": Unit("energy", "kilowatt-hours"),
    "J": Unit("energy", "joules"),
    "g": Unit("mass", "grams of CO2 equivalent"),
}
"""Words that a unit is built of, as ``USD/Mtok`` or ``USD/GB/month``; text and flags have no unit."""

SECONDS: Mapping[str, float] = {
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "day": 86_400.0,
    "w": 604_800.0,
}
"""Seconds in each unit of time that a person may type."""

MONTHS: Mapping[str, float] = {"mo": 1.0, "month": 1.0, "yr": 12.0, "y": 12.0, "year": 12.0}
DAYS_PER_YEAR = 365.25
DAYS_PER_MONTH = DAYS_PER_YEAR / 12
WEEKS_PER_YEAR = DAYS_PER_YEAR / 7
WEEK_H = 168
"""Hours of the week: the periods of a plan."""
SECONDS_PER_H = 3600.0
SECONDS_PER_DAY = 86_400.0
NS_PER_S = 10**9
NS_PER_MINUTE = 60 * NS_PER_S
NS_PER_H = 60 * NS_PER_MINUTE
NS_PER_DAY = 24 * NS_PER_H
PS_PER_NS = 1000
PS_PER_S = 1e12
SCALE: Mapping[str, int] = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
"""Powers of ten that may follow a number; ``m`` is a million, in any case."""

FEMTO_PER_USD = 10**15
"""Femto-dollars in a dollar: money is counted in whole ones."""


def usd_of(fusd: int) -> Decimal:
    """Femto-dollars in dollars, to the last digit.

    >>> usd_of(1_230_000_000_000_000)
    Decimal('1.230000000000000')
    """
    return Decimal(fusd).scaleb(-15)


_NUMBER = r"([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"


def known(unit: str) -> bool:
    """Whether a unit is blank or built of words of ``UNITS``.

    >>> known("USD/Mtok"), known("USD/GB/month"), known("dollars")
    (True, True, False)
    """
    return not unit or all(word in UNITS for word in unit.split("/"))


def meaning(unit: str) -> str:
    """A unit in words.

    >>> meaning("USD/Mtok")
    'United States dollars per millions of tokens'
    """
    return " per ".join(UNITS[word].meaning for word in unit.split("/")) if unit else "no unit"


def money(usd: float, *, sign: bool = False) -> str:
    """Dollars for a person: two or three significant figures, a letter for the thousands.

    >>> [money(x) for x in (7_912, 0, 11_800, 950, 12.3, 1.234, 0.0034, 2.5e6, -7_912)]
    ['$7.9k', '$0', '$11.8k', '$950', '$12.30', '$1.23', '$0.0034', '$2.5M', '-$7.9k']
    """
    lead = "-" if usd < 0 else "+" if sign and usd > 0 else ""
    size = abs(usd)
    if size >= 999.5:
        for letter, scale in (("k", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12)):
            part = size / scale
            if part < 999.5 or letter == "T":
                return f"{lead}${part:,.0f}{letter}" if part >= 99.95 else f"{lead}${part:.1f}{letter}"
    if size >= 99.995 or size == 0:
        return f"{lead}${size:.0f}"
    if size >= 0.995:
        return f"{lead}${size:.2f}"
    return f"{lead}${size:.2g}" if size >= 1e-4 else f"{lead}${size:.1e}"


def money_range(low_usd: float, high_usd: float) -> str:
    """A band of dollars: ``$7.1k to $9.0k``."""
    return f"{money(low_usd)} to {money(high_usd)}"


def exact_usd(amount: Decimal) -> str:
    """Dollars to the last digit, without an exponent and with at least cents.

    >>> exact_usd(Decimal("0.049")), exact_usd(Decimal("12")), exact_usd(Decimal("1E-15"))
    ('$0.049', '$12.00', '$0.000000000000001')
    """
    plain = format(amount, "f")
    whole, _, part = plain.partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}".replace("$-", "-$")


def percent(frac: float) -> str:
    """A share for a person.

    >>> percent(0.153), percent(0.004), percent(1)
    ('15%', '0.4%', '100%')
    """
    size = abs(frac) * 100
    return f"{frac * 100:.0f}%" if size >= 9.95 or size == 0 else f"{frac * 100:.1f}%"


def count(number: float) -> str:
    """A count for a person: ``312M``, ``1.2M``, ``118k``, ``950``.

    >>> count(312_400_000), count(1_209_725), count(118_402), count(950)
    ('312M', '1.2M', '118k', '950')
    """
    size = abs(number)
    for letter, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= 0.9995 * scale:
            part = number / scale
            return f"{part:.0f}{letter}" if abs(part) >= 9.95 else f"{part:.1f}{letter}"
    return f"{number:.0f}"


def plural(n: float, one: str, many: str = "") -> str:
    """A count with its noun, or with all that follows it.

    >>> plural(1, "replica"), plural(3_000, "replica"), plural(2, "query", "queries")
    ('1 replica', '3,000 replicas', '2 queries')
    """
    return f"{n:,.0f} {one if n == 1 else many or one + 's'}"


def span(days: float) -> str:
    """A length of time for a person: days, or hours where they are fewer than two days.

    >>> span(20.94), span(14.0), span(0.5), span(1 / 24)
    ('20.9 days', '14 days', '12 hours', '1 hour')
    """
    number, unit = (days, "day") if days >= 2 else (days * 24, "hour")
    return f"{number:.1f}".removesuffix(".0") + f" {unit}" + ("" if round(number, 1) == 1.0 else "s")


def tokens(text: str) -> int:
    """A count of tokens: ``32k``, ``1.5M``, ``4,096``; thousands are 1000.

    Raises:
        BadInput: not a whole, non-negative count.

    >>> tokens("32k"), tokens("1.5M"), tokens("4,096")
    (32000, 1500000, 4096)
    """
    value = _scaled(text, "a count of tokens", "Type a number like 1500, 32k or 1.5M")
    if not 0 <= value < math.inf or value != int(value):
        raise BadInput(f"{text!r} is not a count of tokens", fix="Type a number like 1500, 32k or 1.5M")
    return int(value)


def seconds(text: str) -> float:
    """A duration in seconds: ``6h``, ``800ms``, ``2d``, ``1h30m``, ``0.8s``.

    Raises:
        BadInput: no unit, or one that is not a unit of time.

    >>> seconds("6h"), seconds("800ms"), seconds("1h30m")
    (21600.0, 0.8, 5400.0)
    """
    clean = text.strip().lower().replace(" ", "")
    parts = re.findall(rf"{_NUMBER}([a-z]+)", clean)
    if not parts or "".join(number + unit for number, unit in parts) != clean:
        raise BadInput(f"{text!r} is not a duration", fix="Type it with its unit, like 800ms, 30s, 6h or 2d")
    total = 0.0
    for number, unit in parts:
        scale = SECONDS.get(unit) or SECONDS.get(unit.rstrip("s"))
        if scale is None or float(_plain(number)) < 0:
            raise BadInput(f"{text!r} is not a duration", fix="Units of time are ms, s, min, h, d, w")
        total += float(_plain(number)) * scale
    return total


def share(text: str) -> float:
    """A share as a fraction: ``12%`` or ``0.12``.

    Raises:
        BadInput: not a number, or a bare one above 1 (is it a percentage?).

    >>> share("12%"), share("0.12")
    (0.12, 0.12)
    """
    clean = text.strip()
    found = re.fullmatch(rf"{_NUMBER}\s*(%?)", clean)
    if not found:
        raise BadInput(f"{text!r} is not a share", fix="Type 12% or 0.12")
    value = float(Decimal(_plain(found[1])) / 100) if found[2] else float(_plain(found[1]))
    if not found[2] and abs(value) > 1:
        raise BadInput(f"{text!r} is more than the whole", fix=f"Type {clean}% if it is a percentage")
    return value


def growth_per_month(text: str) -> float:
    """A growth as a fraction a month: ``4%/mo``, ``60%/yr`` (compounded), ``-2%/month``.

    Raises:
        BadInput: no period, or a fall of all or more.

    >>> growth_per_month("4%/mo"), round(growth_per_month("60%/yr"), 4)
    (0.04, 0.0399)
    """
    head, slash, period = text.strip().lower().partition("/")
    if not slash or period not in MONTHS:
        raise BadInput(f"{text!r} has no period", fix="Type a growth like 4%/mo or 60%/yr")
    value = share(head) if head.strip().endswith("%") else float(_scaled(head, "a growth", "Type 4%/mo"))
    if value <= -1:
        raise BadInput(f"{text!r} leaves nothing", fix="Type a growth above -100%")
    months = MONTHS[period]
    return value if months == 1 else float((1 + value) ** (1 / months) - 1)


MOST_REQUESTS_PER_MONTH = 1e15
"""A hundred thousand for everybody alive: beyond it arithmetic is not exact, nor the question meant."""


class Volume(NamedTuple):
    """Requests a month, from ``low`` to ``high`` (equal for a single number)."""

    low: float
    high: float


def volume_per_month(text: str) -> Volume:
    """Requests a month: ``200k..5M/mo``, ``1M/month``, ``30k/day``, ``12/s``.

    Raises:
        BadInput: no period, a period that is not known, or a range that runs backwards.

    >>> volume_per_month("200k..5M/mo"), volume_per_month("1k/day")
    (Volume(low=200000.0, high=5000000.0), Volume(low=30437.5, high=30437.5))
    """
    fix = "Type a volume with its period, like 200k..5M/mo, 30k/day or 12/s"
    head, slash, period = text.strip().lower().partition("/")
    if not slash:
        raise BadInput(f"{text!r} has no period", fix=fix)
    if period in MONTHS:
        times = 1 / MONTHS[period]
    elif period in SECONDS and period not in ("m", "ms"):
        times = DAYS_PER_MONTH * SECONDS["d"] / SECONDS[period]
    else:
        raise BadInput(f"{text!r}: {period!r} is not a period", fix=fix)
    ends = [_scaled(part, "a volume", fix) * times for part in head.split("..")]
    if len(ends) > 2 or ends[0] <= 0 or ends[-1] < ends[0]:
        raise BadInput(f"{text!r} is not a volume or a range of two", fix=fix)
    if ends[-1] > MOST_REQUESTS_PER_MONTH:
        raise BadInput(f"{text!r} is more than {MOST_REQUESTS_PER_MONTH:g} requests a month", fix=fix)
    return Volume(ends[0], ends[-1])


def _scaled(text: str, what: str, fix: str) -> float:
    found = re.fullmatch(rf"{_NUMBER}\s*([kmbgt]?)", text.strip(), re.IGNORECASE)
    if not found:
        raise BadInput(f"{text!r} is not {what}", fix=fix)
    return float(Decimal(_plain(found[1])) * SCALE[found[2].lower()])


def _plain(number: str) -> str:
    return number.replace(",", "").replace("_", "")
