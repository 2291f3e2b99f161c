"""Claims of the literature as one offline page: verdict, what decides, figures, boundary, sources of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from markupsafe import Markup

from isocost.catalog import Catalog, Source
from isocost.claims import Figure, Finding
from isocost.claims.words import amount, counts, decided, headline, spread, stated
from isocost.report import palette, words
from isocost.report.html import asset, environment

MARKS: Mapping[str, str] = {"holds": "✓", "holds when": "◐", "fails": "✗", "not settled": "?"}
"""A sign for each verdict, so that it does not rest on colour."""
KINDS: Mapping[str, str] = {"Q": "Claims with a number", "D": "Rules of decision"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of a page without scripts."""


def page(found: Sequence[Finding], catalog: Catalog, on: date) -> str:
    """The page as HTML; it has no script and reaches for nothing. The same findings give the same bytes.

    ``on`` is the day whose facts were used.
    """
    groups = [
        (title, [_row(one, catalog) for one in found if one.claim.id.startswith(letter)])
        for letter, title in KINDS.items()
    ]
    return (
        environment()
        .get_template("claims.html.j2")
        .render(
            headline=headline(found),
            on=on.isoformat(),
            basis=catalog.basis,
            counts=[(verdict, MARKS[verdict], number) for verdict, number in counts(found).items()],
            groups=[(title, rows) for title, rows in groups if rows],
            style=Markup(palette.css() + "\n" + asset("report.css") + "\n" + asset("claims.css")),
            policy=POLICY,
            words=words,
        )
    )


def _row(finding: Finding, catalog: Catalog) -> dict[str, Any]:
    return {
        "id": finding.claim.id,
        "text": finding.claim.text,
        "article": finding.claim.article,
        "verdict": finding.verdict,
        "mark": MARKS[finding.verdict],
        "kind": finding.verdict.replace(" ", "-"),
        "decides": decided(finding),
        "claimed": "; ".join(stated(one) for one in finding.claimed),
        "figures": [_figure(one, catalog) for one in finding.figures],
        "boundary": finding.boundary,
        "change": finding.change,
        "sources": [_source(catalog.sources[one]) for one in finding.sources if one in catalog.sources],
    }


def _figure(figure: Figure, catalog: Catalog) -> dict[str, Any]:
    facts = [one for one in figure.rests_on if one not in catalog.sources]
    return {
        "name": figure.name,
        "value": amount(figure),
        "band": spread(figure) or words.DASH,
        "note": figure.note,
        "facts": facts,
    }


def _source(source: Source) -> tuple[str, str]:
    """A source's title, and its address where it is one of the web."""
    linked = source.address.startswith(("https://", "http://"))
    return source.title, source.address if linked else ""
