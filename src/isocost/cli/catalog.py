"""``isocost catalog``: which facts there are, what they say and whether they are sound."""

from __future__ import annotations

import textwrap
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.padding import Padding
from rich.text import Text

from isocost.cli.output import columns, grid, show, show_json, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.units import plural

if TYPE_CHECKING:
    from isocost.catalog import Catalog

LONGEST_VALUE = 40
"""Columns that a value of text may take before it goes on in the next line."""

On = Annotated[date | None, Parameter(help="The date whose facts are meant (default: the newest).")]

facts_app = app.command(
    App(name="catalog", help="The facts: prices, models, accelerators, scores, small print.", sort_key=7)
)


def load(facts: Path | None = None) -> Catalog:
    """The shipped facts, with a folder of one's own on top.

    Raises:
        BadFact: a row of one's own that is malformed.
        BadInput: no such folder.
    """
    from isocost.catalog import Catalog
    from isocost.catalog.catalog import FACTS_DIR
    from isocost.errors import BadInput

    if facts is None:
        return Catalog.load()
    if not facts.is_dir():
        raise BadInput("no such folder", where=str(facts), fix="Give a folder of CSV files of facts")
    return Catalog.load(FACTS_DIR, facts)


def newest(catalog: Catalog) -> date:
    """The newest day on which a price of an API was checked: the date of prices where none is given."""
    column = ("input_usd_per_mtok", "output_usd_per_mtok")
    from isocost.catalog.catalog import COLUMNS

    at, attribute = COLUMNS.index("checked"), COLUMNS.index("attribute")
    days = [row.fields[at] for row in catalog.rows if row.fields[attribute] in column]
    return date.fromisoformat(max(days))


@facts_app.command(name="list")
def list_(prefix: str = "", /, *, on: On = None, facts: Facts = None, json: Json = False) -> None:
    """List kinds of facts, or the subjects whose name starts with a prefix.

    Parameters
    ----------
    prefix
        ``model/``, ``api/openai``, ``gpu/h``; without it, the kinds that there are.
    """
    from isocost.catalog import listing

    catalog = load(facts)
    at = catalog.at(on or newest(catalog))
    if not prefix:
        kinds = listing.kinds(at)
        if json:
            return show_json(kinds)
        table = grid(("kind", "l"), ("subjects", "r"), ("facts", "r"))
        for kind in kinds:
            table.add_row(f"{kind.kind}/", f"{kind.subjects:,}", f"{kind.facts:,}")
        show(table, "", "Next: isocost catalog list model/      isocost catalog show gpu/h100-sxm")
        return None
    subjects = listing.subjects(at, prefix)
    if json:
        return show_json(subjects)
    table = grid(("subject", "l"), ("facts", "r"), ("oldest check", "l"))
    for subject in subjects:
        table.add_row(subject.subject, str(subject.facts), str(subject.oldest_check or "-"))
    show(table)
    return None


@facts_app.command(name="show")
def show_(subject: str, /, *, on: On = None, facts: Facts = None, json: Json = False) -> None:
    """Show every fact of a subject, with its source, date and quote.

    Parameters
    ----------
    subject
        As ``isocost catalog list`` prints it: ``gpu/h100-sxm``, ``api/openai/gpt-4o``; or the name of one
        of its facts: ``gpu/h100-sxm.memory_bytes``.
    """
    from isocost.catalog import listing

    catalog = load(facts)
    known = catalog.subjects()
    inside = [one for one in known if subject.startswith(f"{one}.")] if subject not in known else []
    whole = max(inside, key=len, default="")
    attribute = subject.removeprefix(f"{whole}.").partition("[")[0].partition("@")[0] if whole else ""
    rows = listing.show(catalog.at(on or newest(catalog)), whole or subject)
    if attribute in {row.attribute for row in rows}:
        rows = [row for row in rows if row.attribute == attribute]
    if json:
        return show_json(rows)
    table = grid((subject, "l"), ("value", "r"), ("unit", "l"), ("in force", "l"), ("kind", "l"), ("", "r"))
    sources: dict[str, int] = {}
    remarks: dict[str, str] = {}
    for row in rows:
        name = f"{row.attribute}[{row.when}]" if row.when else row.attribute
        value = f"{row.value} ({row.interval})" if row.interval else row.value
        since = f"{row.since or '...'} to {row.until or '...'}" if row.since or row.until else ""
        cited = f"{row.source}, checked {row.checked}: {row.address}" if row.address else row.source
        number = sources.setdefault(cited, len(sources) + 1)
        told = "\n".join([row.attribute, *(f"  {part}" for part in row.when.split(";") if part)])
        value = (
            "\n".join(textwrap.wrap(value, min(LONGEST_VALUE, columns() - 50), break_on_hyphens=False))
            or value
        )
        style = "" if row.in_force else "dim"
        table.add_row(told, value, row.unit, since, row.kind, f"[{number}]", style=style)
        if row.quote or row.note:
            remarks[f"{name} {since}".strip()] = " ".join(
                part for part in (f'"{row.quote}"' if row.quote else "", row.note) if part
            )
    show(table, "")
    for name, remark in remarks.items():
        show(wrapped(remark, f"{name}: ", 0))
    if remarks:
        show("")
    for cited, number in sources.items():
        show(wrapped(cited, f"[{number}] ", 0))
    past = sum(not row.in_force for row in rows)
    show(
        "",
        Text(
            f"{plural(len(rows), 'fact')}, {past} not in force on the date asked"
            if past
            else plural(len(rows), "fact")
        ),
    )
    return None


@facts_app.command
def check(*, facts: Facts = None, json: Json = False) -> int:
    """Check every fact: sourced, in its unit, not contradictory, used. Exit code 1 where one is not."""
    from isocost.catalog.check import check as problems_of

    catalog = load(facts)
    problems = problems_of(catalog)
    if json:
        show_json({"facts": len(catalog.rows), "basis": catalog.basis, "problems": problems})
    else:
        show(*(Padding(problem.line(), (0, 0, 0, 0)) for problem in problems))
        said = plural(len(problems), "problem") if problems else "sound"
        show(f"{len(catalog.rows):,} facts, {len(catalog.sources)} sources, basis {catalog.basis}: {said}")
    return 1 if problems else 0
