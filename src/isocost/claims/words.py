"""Claims in words: the headline, what decides, figures with their bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from isocost.claims.finding import Figure, Finding, said
from isocost.units import money_range

HEADS: Mapping[str, str] = {
    "holds": "hold",
    "holds when": "hold when …",
    "fails": "fail",
    "not settled": "not settled",
}
"""Verdicts in the headline."""


def headline(found: Sequence[Finding]) -> str:
    """How many claims there are, by verdict."""
    parts = [f"{number} {HEADS[verdict]}" for verdict, number in counts(found).items() if number]
    return f"{len(found)} claims of the literature: {', '.join(parts)}."


def decided(finding: Finding) -> str:
    """The number that decides, and the condition under which the claim holds."""
    text = f"{finding.decides[:1].upper()}{finding.decides[1:]}."
    if finding.when:
        lead = "Needs" if finding.verdict == "not settled" else "Holds when"
        text += f" {lead}: {finding.when}."
    return text


def amount(figure: Figure) -> str:
    """A figure's value as a person reads it."""
    return said(figure.value, figure.unit)


def spread(figure: Figure) -> str:
    """Its central 80 %; blank where none is known."""
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    if figure.unit.startswith("USD"):
        return money_range(figure.low, figure.high)
    return f"{said(figure.low, figure.unit)} to {said(figure.high, figure.unit)}"


def counts(found: Sequence[Finding]) -> dict[str, int]:
    """How many claims have each verdict."""
    seen = Counter[str](one.verdict for one in found)
    return {verdict: seen[verdict] for verdict in HEADS}


def stated(figure: Figure) -> str:
    """A claimed number, or range, which may be open at an end."""
    lead = f"{figure.name}: " if figure.name else ""
    if figure.high is None:
        return f"{lead}{amount(figure)} or more"
    if figure.low is None:
        return f"{lead}under {said(figure.high, figure.unit)}"
    return lead + (spread(figure) or amount(figure))
