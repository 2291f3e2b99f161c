"""Cells as people write them: numbers with a currency, thousands, suffixes or a range; inputs as JSON."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

SUFFIXES: Mapping[str, float] = {
    "k": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9,
    "t": 1e12, "trillion": 1e12, "x": 1.0, "%": 0.01, "": 1.0,
}  # fmt: skip
_ONE = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d+)?"
_AMOUNT = re.compile(rf"(?P<number>{_ONE})\s*(?P<suffix>%|[a-z]*)", re.IGNORECASE)
_RANGE = re.compile(r"(?<=[\d.%a-zA-Z])\s*(?:-|–|—|\bto\b|\.\.+)\s*(?=[\d.])(?<![eE]-)", re.IGNORECASE)
_LEAD = re.compile(r"^(?:about|approx\.?|ca\.?|up to|over|under)\s+|^[~≈<>≤≥]+\s*", re.IGNORECASE)
_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%Y-%m", "%b %Y", "%B %Y", "%b-%Y", "%B %d, %Y", "%b %d, %Y", "%d %B %Y",
         "%d %b %Y", "%m/%d/%Y")  # fmt: skip
_MID_YEAR = 7


class Written(NamedTuple):
    """A figure of a cell: its middle, and its ends where a range is written (else the same)."""

    value: float
    low: float
    high: float

    @property
    def is_range(self) -> bool:
        """Whether two ends were written."""
        return self.high > self.low


def figure(text: str, unit: str = "") -> Written | None:
    """The figure that a cell states, ``None`` where it states none; a range has its geometric middle.

    A per cent is a share, but where the unit itself is per cent.

    >>> figure("$4,600,000"), figure("50-200").value, figure("~1.2e3").value, figure("40%").value
    (Written(value=4600000.0, low=4600000.0, high=4600000.0), 100.0, 1200.0, 0.4)
    >>> figure("40%", "% of cost").value, figure("$4.6M").value, figure("n/a"), figure(""), figure("nan")
    (40.0, 4600000.0, None, None, None)
    """
    plain = _LEAD.sub("", re.sub(r"USD|[$€£]", "", text.strip(), flags=re.IGNORECASE).strip())
    whole = _amount(plain, unit)
    if whole is not None:
        return Written(whole, whole, whole)
    parts = [part.strip() for part in _RANGE.split(plain)]
    if len(parts) != 2:
        return None
    # "5-10M" writes the suffix once.
    tail = re.sub(r"^[-+\d.,eE\s]+", "", parts[1])
    low = _amount(parts[0] if re.search(r"[a-z%]$", parts[0], re.IGNORECASE) else parts[0] + tail, unit)
    high = _amount(parts[1], unit)
    if low is None or high is None or low > high:
        return None
    return Written(math.sqrt(low * high) if low > 0.0 else (low + high) / 2.0, low, high)


def number(text: str, otherwise: float = math.nan, unit: str = "") -> float:
    """The same as one number; ``otherwise`` where none is stated."""
    found = figure(text, unit)
    return otherwise if found is None else found.value


def inputs(text: str, words: Collection[str] = ()) -> dict[str, Any] | None:
    """The inputs of a row: JSON, or as Python prints it; ``None`` where they cannot be read.

    Names are in small letters; values that are numbers written as text become numbers, but for those that
    are named in ``words``. What is null is not stated.

    >>> inputs('{"Hours": "1,200", "gpu": "4090", "x": null}', ("gpu",)), inputs("{bad")
    ({'hours': 1200.0, 'gpu': '4090'}, None)
    >>> inputs("{'hours': None, 'n': 3}"), inputs("[1]"), inputs("")
    ({'n': 3}, None, {})
    """
    try:
        found = json.loads(text.strip() or "{}")
    except ValueError:
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(found, dict):
        return None
    told: dict[str, Any] = {}
    for key, value in found.items():
        name = str(key).strip().lower()
        if value is None or value != value:
            continue
        read = figure(value) if isinstance(value, str) and name not in words else None
        told[name] = value if read is None or read.is_range else read.value
    return told


def day(text: str) -> date | None:
    """A day as written; of a month its first, of a year its middle; ``None`` where it is none.

    >>> day("2024-05-06"), day("May 2024"), day("2024"), day("soon")
    (datetime.date(2024, 5, 6), datetime.date(2024, 5, 1), datetime.date(2024, 7, 1), None)
    """
    plain = text.strip()
    if re.fullmatch(r"\d{4}", plain):
        return date(int(plain), _MID_YEAR, 1)
    for form in _DAYS:
        try:
            return datetime.strptime(plain[:10] if form == "%Y-%m-%d" else plain, form).date()
        except ValueError:
            continue
    return None


def _amount(text: str, unit: str) -> float | None:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or not re.search(r"\d", found["number"]):
        return None
    suffix = found["suffix"].lower()
    if suffix not in SUFFIXES:
        return None
    scale = 1.0 if suffix == "%" and "%" in unit else SUFFIXES[suffix]
    value = float(found["number"].replace(",", "")) * scale
    return value if math.isfinite(value) else None
