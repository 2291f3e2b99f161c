"""One accent per option, light and dark, and how a chart names them.

Charts are built with CSS variables (``var(--api)``): the page binds them for light, dark and print,
so a chart never needs drawing again; :func:`resolved` puts the light colours in for PNG files and
for anyone who takes a specification elsewhere. The accents start from Okabe and Ito's and were moved
until each stands out 3:1 from its ground and any two lie at least 0.07 apart in OKLab as people
without red or green cones see them; the tests hold both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "panel": "#f6f7f9",
    "ink": "#16191d",
    "soft": "#565e69",
    "rule": "#c9ced6",
    "grid": "#e7eaee",
    "good": "#0b7a5b",
    "bad": "#b3410e",
    "today": "#4c545e",
    "api": "#036caa",
    "hosted": "#9a3e01",
    "selfhost": "#039470",
    "slm": "#a53e8a",
    "cache": "#8f7a04",
    "batch": "#2f96d0",
    "people": "#7a6351",
    "mix": "#16191e",
}
"""Colours on white, and on paper."""

DARK: Mapping[str, str] = {
    "paper": "#14171b",
    "panel": "#1c2026",
    "ink": "#eceff3",
    "soft": "#a4adb9",
    "rule": "#4a525d",
    "grid": "#2a2f37",
    "good": "#3fc79a",
    "bad": "#f08a4b",
    "today": "#828b96",
    "api": "#40a4f3",
    "hosted": "#f1852e",
    "selfhost": "#31ca90",
    "slm": "#dc89c3",
    "cache": "#dec939",
    "batch": "#90d8ff",
    "people": "#b68c6b",
    "mix": "#eceff4",
}
"""The same names on near black."""

TINTS = 4
"""Shades of an accent for several deployments of one option: the accent, then paler."""

_PALER = (0.0, 0.34, 0.58, 0.74)


def _mixed(accent: str, paper: str, frac: float) -> str:
    pairs = zip(_bytes_of(accent), _bytes_of(paper), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * frac):02x}" for a, b in pairs)


def _bytes_of(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def variables(scheme: Mapping[str, str]) -> dict[str, str]:
    """Every variable of a scheme by name, tints (``api-1`` …) included."""
    found = dict(scheme)
    for name in OPTIONS:
        for i in range(1, TINTS):
            found[f"{name}-{i}"] = _mixed(scheme[name], scheme["paper"], _PALER[i])
    return found


OPTIONS = ("today", "api", "hosted", "selfhost", "slm", "cache", "batch", "people", "mix")


def var(name: str) -> str:
    """The CSS variable of a colour."""
    return f"var(--{name})"


def accent(option: str, nth: int = 0) -> str:
    """The accent of an option; ``nth`` picks a paler tint for a further deployment of it."""
    name = option if option in OPTIONS else "today"
    nth = nth % TINTS
    return var(f"{name}-{nth}" if nth else name)


def accents(options: list[Any]) -> list[str]:
    """An accent for each of several deployments, a paler tint where an option repeats."""
    seen: dict[str, int] = {}
    found = []
    for option in options:
        nth = seen.get(option, 0)
        seen[option] = nth + 1
        found.append(accent(option, nth))
    return found


def hatch(colour: str) -> str:
    """The hatched fill of a colour: a pattern that the page and the PNG writer define."""
    return f"url(#hatch-{colour[6:-1]})"


def hatches(scheme: Mapping[str, str] | None) -> str:
    """SVG ``<defs>`` of every hatch; with ``None`` they refer to the page's CSS variables."""
    names = [n if i == 0 else f"{n}-{i}" for n in OPTIONS for i in range(TINTS)]
    colours = variables(scheme) if scheme else {}
    patterns = []
    for name in names:
        stroke = colours[name] if scheme else var(name)
        patterns.append(
            f'<pattern id="hatch-{name}" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45)"><rect width="6" height="6" fill="{stroke}" fill-opacity="0.08"/>'
            f'<line x1="0" y1="0" x2="0" y2="6" stroke="{stroke}" stroke-width="2.2"/></pattern>'
        )
    return "<defs>" + "".join(patterns) + "</defs>"


def resolved(spec: Any, scheme: Mapping[str, str] | None = None) -> Any:
    """A copy of a specification in which each CSS variable is its colour (light by default)."""
    colours = {var(name): colour for name, colour in variables(scheme or LIGHT).items()}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return colours.get(node, node) if isinstance(node, str) else node

    return walk(spec)


def css() -> str:
    """Style rules that bind the variables for light, dark and print."""

    def block(scheme: Mapping[str, str]) -> str:
        return "".join(f"--{name}:{colour};" for name, colour in variables(scheme).items())

    light, dark = block(LIGHT), block(DARK)
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{color-scheme:light}}}}"
    )
