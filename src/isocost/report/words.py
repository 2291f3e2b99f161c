"""How figures are written in the report: dollars, counts, shares, dates."""

from __future__ import annotations

import math

from isocost import units
from isocost.units import plural as plural
from isocost.units import span as span

DASH = "—"
"""Absent or unknown: an unknown amount is never printed as zero."""

HOURS_PER_MONTH = 730.5
"""A month in hours: 8766 hours of a mean year over 12, the month of every figure in ``PlanResult``."""


def known(value: float | None) -> bool:
    """Whether a figure is there and finite."""
    return value is not None and math.isfinite(value)


def usd(value: float | None) -> str:
    """Dollars to the dollar from 100 up, to the cent below, in three digits below a cent.

    >>> usd(11800), usd(-900.4), usd(12.3), usd(0.0004), usd(0), usd(None)
    ('$11,800', '−$900', '$12.30', '$0.0004', '$0', '—')
    """
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size == 0:
        return "$0"
    if size >= 99.5:
        text = f"{size:,.0f}"
    elif size >= 0.01:
        text = f"{size:,.2f}"
    else:
        text = f"{size:.3g}"
    return f"{'−' if value < 0 else ''}${text}"


def each(value: float | None) -> str:
    """A unit cost: dollars and cents, two digits of less than ten cents.

    >>> each(0.0301), each(12.5), each(0.0074), each(0), each(None)
    ('$0.03', '$12.50', '$0.0074', '$0', '—')
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"${value:,.2f}" if value >= 0.1 else f"${value:.2g}" if value else "$0"


def usd_short(value: float | None) -> str:
    """Dollars in two or three digits, for headlines and labels, as the terminal prints them.

    >>> usd_short(11800), usd_short(7_900_000), usd_short(640), usd_short(-4190), usd_short(None)
    ('$11.8k', '$7.9M', '$640', '−$4.2k', '—')
    """
    return DASH if value is None or not math.isfinite(value) else units.money(value).replace("-", "−", 1)


def count(value: float | None) -> str:
    """A count in two or three digits, as the terminal prints it.

    >>> count(257_415), count(1_000_000), count(42), count(None)
    ('257k', '1.0M', '42', '—')
    """
    return DASH if value is None or not math.isfinite(value) else units.count(value)


def whole(value: float | None) -> str:
    """A whole number with thousands apart."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.0f}"


def percent(frac: float | None) -> str:
    """A share, as the terminal prints it.

    >>> percent(0.52), percent(0.004), percent(0), percent(None)
    ('52%', '0.4%', '0%', '—')
    """
    return DASH if frac is None or not math.isfinite(frac) else units.percent(frac)


def sure(frac: float) -> str:
    """A share of scenarios: never rounded up to all of them, nor down to none.

    >>> sure(0.997), sure(1.0), sure(0.52), sure(0.001), sure(0.0)
    ('over 99%', '100%', '52%', 'under 1%', '0%')
    """
    if 0.995 <= frac < 1.0:
        return "over 99%"
    return "under 1%" if 0.0 < frac < 0.01 else percent(frac)


def seconds(value: float | None) -> str:
    """A latency in seconds.

    >>> seconds(0.58), seconds(12.0), seconds(None)
    ('0.58 s', '12 s', '—')
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def points(value: float | None) -> str:
    """A quality difference in percentage points, signed."""
    return DASH if value is None or not math.isfinite(value) else f"{value:+.1f} pt".replace("-", "−")


def number(value: float | None) -> str:
    """A number in about four digits, without an exponent where it can be read without.

    >>> number(21600), number(0.8), number(-2), number(1.5e-7), number(None)
    ('21,600', '0.8', '−2', '1.5e-07', '—')
    """
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    return text.replace("-", "−", 1) if value < 0 else text


def typed(text: str) -> str:
    """A fact's value as stored, with thousands apart where it is a number.

    >>> typed("210000"), typed("80e9"), typed("0.25"), typed("GQA"), typed("2026")
    ('210,000', '80e9', '0.25', 'GQA', '2,026')
    """
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{value:,.12g}" if 1000 <= abs(value) < 1e9 else text


def listed(names: list[str], most: int = 3) -> str:
    """Names in a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"]), listed(list("abcde"))
    ('a', 'a and b', 'a, b and c', 'a, b, c and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
