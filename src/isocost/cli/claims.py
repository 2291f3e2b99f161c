"""``isocost claims``: what the literature claims, put to the test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from isocost.cli.catalog import load
from isocost.cli.output import columns, grid, show, show_json, staged, working, wrapped
from isocost.cli.root import Facts, Json, app

if TYPE_CHECKING:
    from isocost.catalog import Catalog
    from isocost.claims import Finding

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
    html: Annotated[
        Path | None, Parameter(help="A file for the claims as one offline page, with evidence and sources.")
    ] = None,
    on: Annotated[date | None, Parameter(name="--date", help="Facts of another day, YYYY-MM-DD.")] = None,
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
    world = World(catalog, on or date.today(), savings)
    wanted = list(dict.fromkeys(one.upper() for one in ids)) or list(IDS)
    found = []
    for one in wanted:
        with working(f"testing {one}"):
            found.append(judged(world, one))
    if html is not None:
        from isocost.report.claims import page

        with staged(html.parent) as stage:
            (stage / html.name).write_text(page(found, catalog, world.on), encoding="utf-8")
    if json:
        from isocost.claims.words import counts

        return show_json({"counts": counts(found), "claims": found})
    if not ids:
        _show_table(found)
    for i, finding in enumerate(found if ids else ()):
        if i:
            show("")
        _show_finding(catalog, finding)
    if html is not None:
        show("", f"  Wrote: {html}")
    return None


def _show_table(found: Sequence[Finding]) -> None:
    from isocost.claims.words import decided, headline

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
    from isocost.claims.words import amount, spread, stated

    claim = finding.claim
    where = f" ({claim.article})" if claim.article else ""
    show(wrapped(f"{claim.id}{where}: {claim.text}", indent=0))
    condition = f": {finding.when}" if finding.when and finding.verdict == "holds when" else ""
    show(wrapped(f"{finding.verdict[:1].upper()}{finding.verdict[1:]}{condition}.", indent=0), "")
    if finding.claimed:
        show(wrapped("; ".join(stated(one) for one in finding.claimed), "claimed: "), "")
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
