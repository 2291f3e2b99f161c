"""``isocost claims``: what the literature claims, put to the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from isocost.cli.catalog import load
from isocost.cli.output import columns, grid, show, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput
from isocost.units import count, money, money_range, percent

if TYPE_CHECKING:
    from isocost.catalog import Catalog
    from isocost.claims import Figure, Finding

HEADS: Mapping[str, str] = {
    "holds": "hold",
    "holds when": "hold when …",
    "fails": "fail",
    "not settled": "not settled",
}
"""Verdicts in the headline."""
WIDE = 110
"""Columns from which claim and finding stand side by side."""
MOST_SOURCES = 8
MOST_FACTS = 6


@app.command(sort_key=12)
def claims(
    *ids: Annotated[str, Parameter(help="Claims to show in full: Q2 D10. None: every one, a row each.")],
    outcomes: Annotated[
        Path | None, Parameter(help="Graded answers of several models to one's own questions, for Q6.")
    ] = None,
    on: Annotated[str | None, Parameter(name="--date", help="Facts of another day, YYYY-MM-DD.")] = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Put the literature's claims to the test: 26 with a number (Q), 22 rules of decision (D).

    Each is run against the catalog, published disclosures and the planner; the verdict is computed from
    what is found: holds, holds when, fails, or not settled, with what would settle it.
    """
    from isocost.claims import IDS, World, judged

    catalog = load(facts)
    savings = {}
    if outcomes is not None:
        from isocost.validate.routing import validate_routing

        with working(f"routing on {outcomes.name}"):
            savings[outcomes.name] = validate_routing(outcomes, catalog).certified_saving_frac
    world = World(catalog, _day(on), savings)
    wanted = list(dict.fromkeys(one.upper() for one in ids)) or list(IDS)
    found = []
    for one in wanted:
        with working(f"testing {one}"):
            found.append(judged(world, one))
    if json:
        return show_json({"counts": _counts(found), "claims": found})
    if not ids:
        return _show_table(found)
    for i, finding in enumerate(found):
        if i:
            show("")
        _show_finding(catalog, finding)
    return None


def headline(found: Sequence[Finding]) -> str:
    """How many claims there are, by verdict."""
    parts = [f"{number} {HEADS[verdict]}" for verdict, number in _counts(found).items() if number]
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
    return _said(figure.value, figure.unit)


def spread(figure: Figure) -> str:
    """Its central 80 %; blank where none is known."""
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    if figure.unit.startswith("USD"):
        return money_range(figure.low, figure.high)
    return f"{_said(figure.low, figure.unit)} to {_said(figure.high, figure.unit)}"


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    seen = Counter[str](one.verdict for one in found)
    return {verdict: seen[verdict] for verdict in HEADS}


def _show_table(found: Sequence[Finding]) -> None:
    show(wrapped(headline(found), indent=0), "")
    wide = columns() >= WIDE
    heads = [("", "l"), ("verdict", "l"), ("claim", "w")]
    table = grid(*heads, ("what decides", "w")) if wide else grid(*heads)
    for finding in found:
        decides = decided(finding)
        text = finding.claim.text
        cells = (text, decides) if wide else (f"{text}\n> {decides}",)
        table.add_row(finding.claim.id, finding.verdict, *cells)
    show(table)
    show(
        "",
        wrapped(
            "verdicts are computed: change a fact (--facts DIR) or a day (--date) and they change.",
            "how sure: ",
        ),
        wrapped("isocost claims Q2 for the evidence, its boundary and its sources", "next: "),
    )


def _show_finding(catalog: Catalog, finding: Finding) -> None:
    claim = finding.claim
    where = f" ({claim.article})" if claim.article else ""
    show(wrapped(f"{claim.id}{where}: {claim.text}", indent=0))
    condition = f": {finding.when}" if finding.when and finding.verdict == "holds when" else ""
    show(wrapped(f"{finding.verdict[:1].upper()}{finding.verdict[1:]}{condition}.", indent=0), "")
    if finding.claimed:
        show(wrapped("; ".join(_stated(one) for one in finding.claimed), "claimed: "), "")
    table = grid(("evidence", "w"), ("found", "r"), ("80% band", "r"))
    for figure in finding.figures:
        table.add_row(figure.name, amount(figure), spread(figure) or "-")
    if finding.figures:
        show(table, "")
    show(wrapped(finding.decides, "decides: "))
    show(wrapped(finding.boundary, "boundary: "))
    if finding.verdict == "not settled" and finding.when:
        show(wrapped(finding.when, "needs: "))
    show(wrapped(finding.change, "what would change it: "))
    names = [catalog.sources[one].title for one in finding.sources if one in catalog.sources]
    more = f"; and {len(names) - MOST_SOURCES} more" if len(names) > MOST_SOURCES else ""
    if names:
        show(wrapped("; ".join(names[:MOST_SOURCES]) + more, "sources: "))
    ids = list(dict.fromkeys(name for figure in finding.figures for name in figure.rests_on))
    shown = [one for one in ids if one not in catalog.sources][:MOST_FACTS]
    if shown:
        show(wrapped("isocost why NAME, or isocost catalog show, of:", "facts: "))
        for one in shown:
            show(f"    {one}")


def _stated(figure: Figure) -> str:
    """A claimed number, or range, which may be open at an end."""
    lead = f"{figure.name}: " if figure.name else ""
    if figure.high is None:
        return f"{lead}{amount(figure)} or more"
    if figure.low is None:
        return f"{lead}under {_said(figure.high, figure.unit)}"
    return lead + (spread(figure) or amount(figure))


def _said(value: float, unit: str) -> str:
    if value != value:
        return "never"
    if unit.startswith("USD"):
        rest = unit.removeprefix("USD")
        return money(value) + {"/month": "/mo", "/year": "/year", "/Mtok": "/Mtok", "/h": "/h"}.get(
            rest, rest
        )
    if unit == "x":
        return f"{value:,.1f}x" if value < 100 else f"{value:,.0f}x"
    if unit == "share":
        return percent(value)
    if unit == "requests/month":
        return f"{count(value)}/mo"
    number = f"{value:,.3g}" if abs(value) < 1e3 else count(value)
    return f"{number} {unit}".strip()


def _day(text: str | None) -> date:
    if text is None:
        return date.today()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a date", fix="Write YYYY-MM-DD") from None
