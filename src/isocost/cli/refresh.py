"""``isocost catalog refresh`` and ``disagreements``: prices against newer and against other sources."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from isocost.cli.catalog import On, facts_app, load, newest
from isocost.cli.output import grid, show, show_json, staged, wrapped
from isocost.cli.root import Facts, Json
from isocost.errors import BadInput

if TYPE_CHECKING:
    from isocost.catalog.refresh import Refresh, What

PACKAGE = "genai-prices"
MOST = 25
"""Lines of a table beyond which a prefix or --json shows the rest."""
KINDS: tuple[What, ...] = ("new", "changed", "expected", "gone", "conflict")


@facts_app.command
def refresh(
    *,
    source: Annotated[
        str, Parameter(name="--from", help=f"{PACKAGE} (the installed package), or a CSV file of facts.")
    ] = PACKAGE,
    out: Annotated[
        Path | None, Parameter(help="Write the proposed rows into this folder, usable with --facts.")
    ] = None,
    on: Annotated[date | None, Parameter(help="The day of the refresh (default: today).")] = None,
    facts: Facts = None,
    json: Json = False,
) -> int:
    """Propose what a newer source of prices would change; overwrite nothing. Exit code 1 on a conflict."""
    from isocost.catalog import refresh as refreshing

    catalog, day = load(facts), on or date.today()
    if source == PACKAGE:
        found = refreshing.from_package(catalog, day)
    elif Path(source).is_file():
        found = refreshing.from_file(catalog, Path(source), day)
    else:
        raise BadInput("no such file", where=source, fix=f"Name a CSV file of facts, or {PACKAGE}")
    if out is not None:
        if out.resolve() == _shipped():
            raise BadInput("these are the shipped facts", where=str(out), fix="Name a folder of your own")
        with staged(out) as stage:
            refreshing.write(found, stage)
    if json:
        differences: dict[str, object] = {kind: found.of(kind) for kind in KINDS}
        head = {"source": found.source, "on": found.on, "same": found.same, "left_out": found.left_out}
        show_json({**head, **differences})
    else:
        _show_refresh(found, out)
    return 1 if found.of("conflict") else 0


def _shipped() -> Path:
    from isocost.catalog.catalog import FACTS_DIR

    return FACTS_DIR.resolve()


def _show_refresh(found: Refresh, out: Path | None) -> None:
    counts = ", ".join(f"{len(found.of(kind))} {kind}" for kind in KINDS)
    show(f"{found.source} on {found.on}: {found.same:,} prices as they are; {counts}")
    if found.left_out:
        what = f"not compared, since their price windows have no dates there: {', '.join(found.left_out)}"
        show(wrapped(what, "", 0))
    if found.proposals:
        table = grid(("", "l"), ("price", "l"), ("held", "r"), ("stated", "r"), ("from", "l"))
        order = sorted(found.proposals, key=lambda one: -KINDS.index(one.what))
        for one in order[:MOST]:
            name = f"{one.subject}.{one.attribute}" + (f"[{one.when}]" if one.when else "")
            since = str(one.valid_from or "")
            table.add_row(one.what, name, one.held or "-", one.stated or "-", since)
        show("", table)
        if len(order) > MOST:
            show(f"and {len(order) - MOST} more (--json lists all)")
        if found.of("conflict"):
            show("", "Conflicts, which a person settles: the change is older than what was billed with")
        for one in found.of("conflict")[:MOST]:
            show(wrapped(one.why, f"{one.subject}.{one.attribute}: "))
    if out is not None:
        show("", f"Wrote {out / 'prices.csv'}, {out / 'sources.csv'}, {out / 'settle.txt'}",
             f"Next: isocost catalog check --facts {out}")  # fmt: skip
    elif found.proposals:
        show("", "Next: isocost catalog refresh --out FOLDER writes the rows; read them before you use them")


@facts_app.command
def disagreements(prefix: str = "", /, *, on: On = None, facts: Facts = None, json: Json = False) -> None:
    """Show where another table of prices differs from the facts, which is believed, and why.

    Parameters
    ----------
    prefix
        Offerings: ``google``, ``api/fireworks/``; without it, all that both know.
    """
    from isocost.catalog.disagree import OTHER, RULES
    from isocost.catalog.disagree import disagreements as compared

    catalog = load(facts)
    found = compared(catalog, on or newest(catalog), prefix)
    if json:
        whole = {"other": OTHER, "offerings": found.offerings, "prices": found.prices,
                 "rounded": found.rounded, "one_sided": found.one_sided, "differing": found.differing,
                 "share_frac": found.share_frac}  # fmt: skip
        rows = [
            {"subject": one.subject, "attribute": one.attribute, "when": one.when, "ours": one.ours,
             "theirs": one.theirs, "source": one.source, "rule": one.rule, "why": one.why}
            for one in found.differ
        ]  # fmt: skip
        return show_json({**whole, "differ": rows})
    if not found.offerings:
        raise BadInput(f"no shared offering starts with {prefix!r}", fix="Type 'isocost catalog list api/'")
    show(
        wrapped(
            f"{found.differing} of {found.offerings} offerings that both know differ in a price"
            f" ({found.share_frac:.1%}): {len(found.differ)} of {found.prices:,} prices, beside"
            f" {found.rounded} by rounding. The other source is {OTHER}; ours is believed, by these rules.",
            "",
            0,
        )
    )
    if found.differ:
        table = grid(("$ a million tokens", "w"), ("ours", "r"), ("theirs", "r"), ("off", "r"), ("rule", "l"))
        order = sorted(found.differ, key=lambda one: -abs(one.share))
        for one in order[:MOST]:
            name = f"{one.subject.removeprefix('api/')} {one.attribute.removesuffix('_usd_per_mtok')}"
            name += f" [{one.when}]" if one.when else ""
            table.add_row(name, f"{one.ours:f}", f"{one.theirs:f}", f"{one.share:+.0%}", one.rule)
        show("", table)
        if len(order) > MOST:
            show(f"and {len(order) - MOST} more: give a PREFIX, or --json")
        show("")
        for rule in dict.fromkeys(one.rule for one in order):
            show(wrapped(RULES[rule], f"{rule}: ", 0))
    return None
