"""A chart: its specification, the finding it states, its unit, and the table under it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import msgspec

from isocost.report.palette import resolved, var

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
WIDTH = 720
"""Pixels of the plotting area; the page scales the whole picture to its column."""
PADDING: Mapping[str, int] = {"left": 26, "right": 34, "top": 6, "bottom": 6}
"""Pixels around a picture: it is laid out in one font and read in the reader's own, whose letters may be a
tenth wider."""


class Table(msgspec.Struct, frozen=True):
    """Rows of text under a chart; ``numeric[j]`` sets column j flush right. ``note`` follows it."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    note: str = ""


class Chart(msgspec.Struct, frozen=True):
    """A Vega-Lite specification with the sentence it supports and the figures it draws.

    ``spec`` names colours by CSS variable until :meth:`standalone` resolves them; it has no title
    of its own, because the page sets ``title`` and ``subtitle`` as text.
    """

    title: str
    subtitle: str
    spec: Spec
    table: Table

    def standalone(self) -> Spec:
        """The specification with title, subtitle, light colours and a white ground."""
        head = {
            "text": textwrap.wrap(self.title, 92),
            "subtitle": textwrap.wrap(self.subtitle, 125),
        }
        spec = {**self.spec, "title": head, "background": var("paper")}
        found: Spec = resolved(spec)
        return found


class Absent(msgspec.Struct, frozen=True):
    """Why a chart cannot be drawn from this result."""

    reason: str


def framed(body: Spec) -> Spec:
    """A whole specification: schema, configuration and ``body``."""
    return {"$schema": SCHEMA, "config": _config(), "background": "transparent", **body}


def _config() -> Spec:
    ink, soft, rule, grid = var("ink"), var("soft"), var("rule"), var("grid")
    return {
        "aria": False,
        "font": FONT,
        "padding": PADDING,
        "view": {"stroke": None},
        "axis": {
            "labelColor": soft,
            "titleColor": soft,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 14,
            "gridColor": grid,
            "domainColor": rule,
            "tickColor": rule,
            "labelLimit": 320,
        },
        "legend": {
            "labelColor": ink,
            "labelFontSize": 12,
            "labelLimit": 420,
            "title": None,
            "orient": "top",
            "direction": "horizontal",
            "columns": 3,
            "symbolSize": 110,
            "columnPadding": 28,
        },
        "text": {"fontSize": 12, "color": ink},
        "title": {
            "anchor": "start",
            "color": ink,
            "fontSize": 16,
            "fontWeight": 600,
            "subtitleColor": soft,
            "subtitleFontSize": 12.5,
            "subtitlePadding": 6,
            "offset": 16,
            "frame": "bounds",
        },
    }


def dollars() -> str:
    """An axis label expression in dollars: ``$7.5k``; below ten dollars with its cents."""
    size = "abs(datum.value)"
    digits = f"({size} >= 10 || {size} == 0 ? format({size}, '.3~s') : format({size}, '.2~f'))"
    return f"(datum.value < 0 ? '−$' : '$') + replace({digits}, 'G', 'B')"


def names_axis() -> Spec:
    """The axis of names down a chart's side: words without ticks or a line."""
    return {
        "ticks": False,
        "domain": False,
        "labelColor": var("ink"),
        "labelPadding": 8,
        "labelLimit": 290,
    }


def plain(text: str) -> str:
    """A label without the backticks that mark a workload's name in running text."""
    return text.replace("`", "")


def brief(text: str, most: int = 40) -> str:
    """A plain label of at most so many letters; a longer one keeps its two ends, where names differ.

    >>> brief("open-70b on own pool"), brief("open-70b on own pool in eu-west-3", 21)
    ('open-70b on own pool', 'open-70b … eu-west-3')
    """
    text = plain(text)
    if len(text) <= most:
        return text
    tail = (most - 3) // 2
    return f"{text[: most - 3 - tail].rstrip()} … {text[-tail:].lstrip()}"


def legend_columns(labels: list[str]) -> int:
    """Columns of a legend above a chart that its labels fit into."""
    longest = max(map(len, labels), default=0)
    return 3 if longest <= 26 else 2 if longest <= 52 else 1


def distinct(labels: list[str], most: int = 40) -> list[str]:
    """Brief labels, told apart by a number where two are the same.

    >>> distinct(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    found = []
    for label in labels:
        text = brief(label, most)
        seen[text] = seen.get(text, 0) + 1
        found.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return found


def capital(text: str) -> str:
    """A sentence's first letter in capital."""
    return text[:1].upper() + text[1:]


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 times powers of ten, fewer over many decades.

    >>> log_ticks(10, 1000)
    [10, 20, 50, 100, 200, 500, 1000]
    """
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades <= 4 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10**p if p >= 0 else step / 10**-p for p in powers for step in steps]
    return [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]


def counts() -> str:
    """An axis label expression for a count: ``250k``."""
    whole = "abs(datum.value) >= 1 || datum.value == 0"
    return f"replace(format(datum.value, {whole} ? '.3~s' : '.2~f'), 'G', 'B')"
