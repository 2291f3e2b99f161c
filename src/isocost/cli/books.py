"""``isocost close``, ``check`` and ``diff``: months that stay, budgets, and why a total changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.text import Text

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_as_is, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import Map, WorkloadBy, opened
from isocost.errors import BadInput
from isocost.units import percent, plural

if TYPE_CHECKING:
    from isocost.books.check import Check, Outlook
    from isocost.books.close import Closed, Restatement
    from isocost.books.diff import Diff
    from isocost.books.statement import Statement
    from isocost.catalog import Catalog
    from isocost.ledger import Ledger


@dataclass(frozen=True)
class Terms:
    """How logs are read, by which facts they are priced, and under which contract."""

    workload_by: WorkloadBy = None
    facts: Facts = None
    overlay: Annotated[Path | None, Parameter(help="The contract, as TOML (docs/money.md).")] = None


MOST_LINES = 12
"""Lines of a restatement that are printed; its file has them all."""


@app.command(sort_key=7)
def diff(
    before: Path,
    after: Path,
    /,
    *,
    format_: Annotated[
        Literal["text", "github", "json"], Parameter(name="--format", help="text, github (Markdown) or json.")
    ] = "text",
    fail_above: Annotated[
        str | None, Parameter(help="Exit with 1 where the total rises by more: 50 (dollars) or 5%.")
    ] = None,
    renamed: Annotated[
        list[str] | None,
        Parameter(help="old=new: a model that is only called otherwise; as often as needed."),
    ] = None,
    source: Annotated[Terms, Parameter(name="*")] = Terms(),
    json: Json = False,
) -> int:
    """Split the change of a total into price, volume, mix and policy, and say because of what.

    Parameters
    ----------
    before
        A log, a closed month (books/2026-10) or a plan's ledger.parquet.
    after
        Another; a log beside a ledger is scaled to the ledger's month.
    """
    from isocost.books.diff import above, bounds, headline, markdown, renames, signed
    from isocost.books.diff import diff as split
    from isocost.books.statement import Statement

    catalog = load(source.facts)
    with working("pricing"):
        one, two = (_side(path, catalog, source) for path in (before, after))
    names = None
    if isinstance(one[1], Statement) and isinstance(two[1], Statement):
        names = renames(one[1], two[1], catalog, renamed or ())
    elif renamed:
        raise BadInput("models are renamed between two logs", where="--renamed", fix="Leave it out here")
    found = split(one[1], two[1], (one[0], two[0]), names)
    failed = fail_above is not None and above(found, fail_above)
    if json or format_ == "json":
        show_json({**_document(found), "failed": failed})
    elif format_ == "github":
        show_as_is(markdown(found))
    else:
        show(Text(headline(found), "bold"))
        table = grid(("  ", "l"), ("change", "r"), ("because", "w"))
        for part in found.parts:
            causes = [f"{signed(cause.usd)} {cause.said}" for cause in part.because]
            causes += [f"and {part.others} more"] if part.others else []
            table.add_row(f"  {part.effect}", signed(part.usd), "\n".join(causes) or "-")
        table.add_row("  total", signed(found.change_usd), "", style="bold")
        show("", table)
        if bounds(found):
            show(Text(wrapped(bounds(found)), "yellow"))
        for note in found.notes:
            show(wrapped(note))
        if failed:
            show(Text(f"  above the threshold of {fail_above}", "bold red"))
    return int(failed)


def _document(found: Diff) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(found), "change_usd": found.change_usd, "change_frac": found.change_frac}


def _side(path: Path, catalog: Catalog, source: Terms) -> tuple[str, Statement | Ledger]:
    """What a path holds, and its name: a closed month, a plan's ledger, or a log (under a contract)."""
    from isocost.books.close import MANIFEST, read_closed
    from isocost.books.contract import contract
    from isocost.books.overlay import read_overlay
    from isocost.books.statement import statement
    from isocost.ledger import Ledger

    terms = read_overlay(source.overlay) if source.overlay is not None else None

    if path.is_dir():
        if (path / MANIFEST).exists():
            closed = read_closed(path)
            held = closed.statement
            return closed.manifest.month, contract(held, terms).statement if terms is not None else held
        if not (path / "ledger.parquet").exists():
            raise BadInput(
                "neither a closed month nor a plan", where=str(path), fix="Give a log, or a plan's folder"
            )
        path = path / "ledger.parquet"
    if path.suffix == ".parquet" and _is_ledger(path):
        return (path.parent.name or str(path)), Ledger.read(path)
    trace = opened(path, None, source.workload_by, None, who=terms is not None)
    found = statement(trace, catalog)
    return path.name, contract(found, terms).statement if terms is not None else found


def _is_ledger(path: Path) -> bool:
    import duckdb

    try:
        with duckdb.connect() as db:
            names = db.execute("SELECT name FROM parquet_schema(?)", [str(path)]).fetchall()
    except duckdb.Error as wrong:
        raise BadInput(
            str(wrong).splitlines()[0], where=str(path), fix="Give a log, a closed month or a ledger.parquet"
        ) from None
    return {("price_fact",), ("amount_usd",)} <= set(names)


@app.command(sort_key=6)
def close(
    month: str,
    log: Path,
    /,
    *,
    books: Annotated[Path, Parameter(help="The folder of closed months.")] = Path("books"),
    overlay: Annotated[
        Path | None, Parameter(help="The contract that applies, as TOML; kept with it.")
    ] = None,
    workload_by: WorkloadBy = None,
    map_: Map = None,
    facts: Facts = None,
    json: Json = False,
) -> int:
    """Freeze a month; once it is closed, say what would be restated (exit code 1) and never change it.

    Parameters
    ----------
    month
        The UTC month: 2026-10.
    log
        The log that holds it.
    """
    from isocost.books.close import close as freeze
    from isocost.books.close import read_closed, restate, write_restatement
    from isocost.books.overlay import read_overlay
    from isocost.books.statement import month_of, statement

    month_of(month)
    terms = read_overlay(overlay) if overlay is not None else None
    contract = overlay.read_text(encoding="utf-8") if overlay is not None else ""
    catalog = load(facts)
    with working(f"pricing {log.name}"):
        trace = opened(log, map_, workload_by, None, who=terms is not None)
        hourly = terms is not None and terms.hourly
        found = statement(trace, catalog, bucket="hour" if hourly else "day")
    if not (books / month).exists():
        closed = freeze(found, catalog, month, books, overlay=contract, on=datetime.now(UTC).date())
        if json:
            show_json({"closed": True, **_manifest(closed)})
        else:
            _show_closed(closed, books / month)
        return 0
    restated = restate(read_closed(books / month), found, catalog, contract)
    path, new = write_restatement(restated, books) if restated.lines else (None, False)
    if json:
        show_json({"closed": False, "restatement": restated, "file": path})
    else:
        _show_restated(restated, path, new)
    return int(bool(restated.lines))


def _manifest(closed: Closed) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(closed.manifest)


def _show_closed(closed: Closed, folder: Path) -> None:
    head = closed.manifest
    least = "at least " if head.at_least else ""
    billed = f", billed ${Decimal(head.billed_usd):,.2f} under the contract" if head.billed_usd else ""
    show(
        Text(f"{head.month} is closed at {least}${Decimal(head.total_usd):,.2f}{billed}", "bold"),
        f"  {plural(head.requests, 'request')}, {plural(len(closed.statement.lines), 'line')},"
        f" {plural(len(closed.facts), 'fact')},"
        f" price basis {head.price_basis}",
    )
    for note in closed.statement.notes:
        show(Text(wrapped(note), "yellow"))
    show_as_is(f"  in {folder}")


def _show_restated(found: Restatement, path: Path | None, new: bool) -> None:
    from isocost.books.diff import signed

    if path is None:
        show(Text(f"{found.month} is as it was closed: ${found.closed_usd:,.2f}", "bold"))
        return
    said = f"{found.month} was closed at ${found.closed_usd:,.2f}; now it would be ${found.now_usd:,.2f}"
    show(Text(f"{said} ({signed(found.change_usd)})", "bold"))
    table = grid(("  ", "l"), ("change", "r"), ("because", "w"))
    for line in found.lines[:MOST_LINES]:
        table.add_row(f"  {line.kind}", signed(line.usd), line.said)
    rest = found.lines[MOST_LINES:]
    if rest:
        table.add_row("", signed(sum((line.usd for line in rest), Decimal(0))), f"{len(rest)} more lines")
    show("", table, "", "  The closed month is unchanged.")
    show_as_is(f"  {'restated' if new else 'said before'} in {path}")


@app.command(sort_key=6)
def check(
    log: Path,
    /,
    *,
    budget: Annotated[Path, Parameter(help="TOML: [[budget]] with usd_per_month, and tenant, model ...")],
    map_: Map = None,
    source: Annotated[Terms, Parameter(name="*")] = Terms(),
    json: Json = False,
) -> int:
    """Forecast the month's end against budgets, flag unusual days; exit code 1 where one will not hold.

    Parameters
    ----------
    log
        A log of a week or more; its last row says which month.
    """
    from isocost.books.check import check as judge
    from isocost.books.check import read_budgets
    from isocost.books.contract import contract
    from isocost.books.overlay import read_overlay
    from isocost.books.statement import statement

    budgets = read_budgets(budget)
    terms = read_overlay(source.overlay) if source.overlay is not None else None
    catalog = load(source.facts)
    with working(f"pricing {log.name}"):
        trace = opened(log, map_, source.workload_by, None, who=terms is not None)
        priced = statement(trace, catalog, bucket="hour")
        found = judge(priced, budgets, contract(priced, terms) if terms is not None else None)
    if json:
        show_json(found)
    else:
        _show_check(found)
    return int(not found.held)


def _trend(one: Outlook) -> str:
    """The growth a week: ``+3.1%``."""
    return "-" if one.growth is None else f"{100 * one.growth[0]:+.1f}%"


def _trends(found: Check) -> str:
    """How sure the growths are: ``total +3 to +35% a week``."""
    bands = [
        f"{one.budget} {100 * one.growth[1]:+.0f} to {100 * one.growth[2]:+.0f}%"
        for one in found.outlooks
        if one.growth is not None
    ]
    return f"80% bands of the growth a week: {'; '.join(bands)}" if bands else ""


def _show_check(found: Check) -> None:
    from isocost.books.check import ROBUST_SIGMAS

    wrong = [one.budget for one in found.outlooks if not one.held]
    verdict = f"over budget: {'; '.join(wrong)}" if wrong else "all budgets hold"
    show(Text(f"{found.month}: {verdict}", "bold red" if wrong else "bold"))
    table = grid(
        ("  budget", "w"),
        ("a month", "r"),
        ("spent", "r"),
        ("month end", "r"),
        ("80% band", "r"),
        ("a week", "r"),
        ("chance over", "r"),
    )
    for one in found.outlooks:
        table.add_row(
            f"  {one.budget}", f"${one.usd_per_month:,.2f}", f"${one.spent_usd:,.2f}",
            f"${one.forecast_usd:,.2f}", f"${one.low_usd:,.2f} to ${one.high_usd:,.2f}",
            _trend(one), percent(one.exceeds), style="" if one.held else "red",
        )  # fmt: skip
    show("", table, "")
    weeks = "the last week" if found.weeks == 1 else f"the last {found.weeks} weeks, in every combination"
    trend = any(one.growth is not None for one in found.outlooks)
    along = ", moved along the trend" if trend else ", without a trend (four whole weeks are needed)"
    said = f"until {found.until:%Y-%m-%d %H:%M} UTC; the rest as {weeks}, hour by hour of the week"
    show(wrapped(f"{said}{along}"))
    if trend:
        show(wrapped(_trends(found)))
    for note in found.notes:
        show(Text(wrapped(note), "yellow"))
    if found.anomalies:
        show("", Text(f"  days outside their median +- {ROBUST_SIGMAS:.0f} robust deviations", "bold"))
        days = grid(("  day", "l"), ("", "w"), ("cost", "r"), ("band", "r"))
        for day in found.anomalies:
            band = f"${day.low_usd:,.2f} to ${day.high_usd:,.2f}"
            days.add_row(f"  {day.day}", day.name, f"${day.usd:,.2f}", band)
        show(days)


export = app.command(
    App(name="export", help="Write what a log costs in formats that other tools read.", sort_key=8)
)


@export.command
def focus(
    log: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="A .csv or a .parquet.")] = Path("focus.csv"),
    map_: Map = None,
    source: Annotated[Terms, Parameter(name="*")] = Terms(),
    json: Json = False,
) -> None:
    """Write FOCUS 1.2 rows: one for each day, model, tier, tenant, workload and meter.

    Parameters
    ----------
    log
        The log; its usage without a price is left out and counted.
    """
    from isocost.books.contract import contract
    from isocost.books.focus import rows, write
    from isocost.books.overlay import read_overlay
    from isocost.books.statement import statement

    terms = read_overlay(source.overlay) if source.overlay is not None else None
    catalog = load(source.facts)
    with working(f"pricing {log.name}"):
        trace = opened(log, map_, source.workload_by, None, who=terms is not None)
        hourly = terms is not None and terms.hourly
        found = statement(trace, catalog, bucket="hour" if hourly else "day")
        charges = list(rows(found, contract(found, terms) if terms is not None else None))
        write(charges, out)
    names = ("list", "contracted", "billed", "effective")
    costs = {name: sum((getattr(row, f"{name}_cost") for row in charges), Decimal(0)) for name in names}
    if json:
        show_json({
            "file": out, "rows": len(charges), **{f"{name}_cost_usd": costs[name] for name in names},
            "unpriced_lines": len(found.unpriced), "at_least": found.at_least,
        })  # fmt: skip
        return
    said = [f"{name} cost ${costs[name]:,.2f}" for name in (names if terms is not None else names[:1])]
    show(Text(f"{plural(len(charges), 'row')}, {', '.join(said)}", "bold"))
    if found.at_least:
        show(
            Text(
                wrapped(
                    plural(
                        len(found.unpriced),
                        "line of usage has no price: it is no row",
                        "lines of usage have no price: they are no rows",
                    )
                ),
                "yellow",
            )
        )
    show_as_is(f"  in {out}")
