"""``isocost bill``: what a log costs, every row at its own date, and what the amount leaves out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.output import fits, grid, show, show_json, staged, working, wrapped
from isocost.cli.price import check_tier
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import Format, Map, WorkloadBy, opened
from isocost.errors import BadInput
from isocost.units import exact_usd, plural, usd_of

if TYPE_CHECKING:
    from isocost.bill.log import Logged
    from isocost.books.contract import Contract
    from isocost.books.statement import Statement
    from isocost.trace import Trace
    from isocost.trace.schema import Unread

MOST_GROUPS = 40
"""Groups that are printed; ``--json`` has them all."""

BY = ("provider", "model", "offering", "tier", "region", "tenant", "workload", "account", "credential",
      "deployment", "hour", "day", "month")  # fmt: skip


@dataclass(frozen=True)
class Source:
    """How the log is read, and by which facts it is priced."""

    map_: Map = None
    format_: Format = None
    workload_by: WorkloadBy = None
    facts: Facts = None


@dataclass(frozen=True)
class Assumed:
    """What rows do not say, and under which contract they are billed."""

    now: Annotated[str | None, Parameter(help="Price every row at this model, at the row's own date.")] = None
    tier: Annotated[str, Parameter(help="The tier of rows that name none: batch, priority, flex.")] = ""
    region: Annotated[str, Parameter(help="The region of rows that name none.")] = ""
    at: Annotated[
        str | None, Parameter(help="Of a log whose times count from its start: the day it began, 2026-10-01.")
    ] = None
    overlay: Annotated[Path | None, Parameter(help="The contract, as TOML (docs/money.md).")] = None


@app.command(sort_key=3)
def bill(
    log: Annotated[Path, Parameter(help="A log or a usage report; its format is found by its columns.")],
    /,
    *,
    by: Annotated[
        str, Parameter(help="Groups: model, tenant, provider, workload, tier, region, day.")
    ] = "model",
    assumed: Annotated[Assumed, Parameter(name="*")] = Assumed(),
    quarantine: Annotated[
        Path | None, Parameter(help="Write rows that cannot be read here, however many, as line,reason.")
    ] = None,
    source: Annotated[Source, Parameter(name="*")] = Source(),
    json: Json = False,
) -> None:
    """Price a log exactly, each row at its own date, and say what is not priced and why."""
    from isocost.bill.log import logged, stated
    from isocost.books.contract import contract
    from isocost.books.dated import starting
    from isocost.books.overlay import read_overlay
    from isocost.books.statement import statement
    from isocost.catalog.names import resolve

    keys = tuple(part.strip() for part in by.split(",") if part.strip())
    wrong = [key for key in keys if key not in BY]
    if wrong or not keys:
        raise BadInput(f"{by!r} is no list of groups", where="--by", fix=f"Choose from {', '.join(BY)}")
    catalog = load(source.facts)
    check_tier(catalog, assumed.tier)
    if assumed.now is not None:
        resolve(catalog.at(newest(catalog)), assumed.now)
    terms = read_overlay(assumed.overlay) if assumed.overlay is not None else None
    trace = opened(
        log, source.map_, source.workload_by, source.format_, lenient=quarantine is not None,
        who=terms is not None or bool({*keys} & {"account", "credential", "deployment"}),
    )  # fmt: skip
    if assumed.at is not None:
        trace = starting(trace, assumed.at)
    said = logged(trace)
    with working("pricing"):
        found = statement(
            stated(trace, model=assumed.now or "", tier=assumed.tier, region=assumed.region),
            catalog,
            bucket="hour" if "hour" in keys or (terms is not None and terms.hourly) else "day",
        )
        under = contract(found, terms) if terms is not None else None
    if quarantine is not None:
        _set_aside(quarantine, trace.unread)
    keys = tuple("period" if key == "hour" else key for key in keys)
    groups = _groups(found, keys, under)
    if json:
        return show_json({**_document(found, said, trace, keys, groups), **_agreed(under)})
    _show(found, said, trace, keys, groups)
    if under is not None:
        _show_contract(under)
    if quarantine is not None:
        show(wrapped(f"{plural(len(trace.unread), 'row is', 'rows are')} set aside in {quarantine}"))
    return None


@dataclass
class _Group:
    """One line of the bill: calls, quantities by meter, and the exact amount."""

    key: tuple[str, ...]
    requests: int = 0
    partial: int = 0
    unpriced: int = 0
    amount_fusd: int = 0
    no_rate: bool = False
    billed_fusd: int | None = None

    def __post_init__(self) -> None:
        self.quantity: dict[str, int] = {}

    @property
    def usd(self) -> Decimal:
        """The amount in dollars, exact."""
        return usd_of(self.amount_fusd)

    @property
    def at_least(self) -> bool:
        """Whether the amount is a lower bound."""
        return bool(self.no_rate or self.partial or self.unpriced)


def _groups(found: Statement, keys: tuple[str, ...], under: Contract | None) -> list[_Group]:
    """Groups of the statement, dearest first; days and months in their order."""
    groups: dict[tuple[str, ...], _Group] = {}

    def of(row: object) -> _Group:
        key = tuple(str(getattr(row, name)) for name in keys)
        return groups.setdefault(key, _Group(key))

    for call in found.requests:
        one = of(call)
        one.requests += call.requests
        one.partial += call.partial
        one.unpriced += call.unpriced
    for line in found.lines:
        one = of(line)
        one.quantity[line.meter] = one.quantity.get(line.meter, 0) + line.quantity
        one.amount_fusd += line.amount_fusd
        one.no_rate |= line.rate_fusd is None
    for part in under.pieces if under is not None else ():
        one = of(part.line)
        one.billed_fusd = (one.billed_fusd or 0) + part.billed_fusd
    if keys[0] in ("period", "day", "month"):
        return sorted(groups.values(), key=lambda one: one.key)
    return sorted(groups.values(), key=lambda one: (-one.amount_fusd, one.key))


def _cents(usd: Decimal, at_least: bool = False) -> str:
    """Dollars to the cent; what is less than half a cent, exactly."""
    whole = usd.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    said = f"${whole:,}".replace("$-", "-$") if whole or not usd else exact_usd(usd)
    return f">= {said}" if at_least else said


def _reasons(found: Statement, trace: Trace) -> list[str]:
    """Why the total is a lower bound."""
    unread = len(trace.unread)
    said = [f"{plural(unread, 'row')} could not be read: not in it"] if unread else []
    if any(note.startswith("rows name no model") for note in found.notes):
        said.append("name their model with --now openai/gpt-4.1, or its column with --map model=COLUMN")
    twice = plural(found.duplicates, "row repeats", "rows repeat")
    return [*(note for note in found.notes if not note.startswith(twice)), *said]


def _at_least(found: Statement, trace: Trace) -> bool:
    return found.at_least or bool(found.bad_rows or trace.unread)


def _counts(found: Statement) -> tuple[int, int, int]:
    """Calls by status: priced, partial, unpriced."""
    partial = sum(one.partial for one in found.requests)
    unpriced = sum(one.unpriced for one in found.requests)
    return found.n_requests - partial - unpriced, partial, unpriced


def _headline(found: Statement, least: str) -> str:
    """The amount and for how many requests; where none has a price, that."""
    number = f"{found.n_requests:,} request{'s' if found.n_requests != 1 else ''}"
    if found.n_requests and _counts(found)[2] == found.n_requests and not found.total_usd:
        return f"no price for any of {number}"
    return f"{least}{_cents(found.total_usd)} for {number}"


def _show(found: Statement, said: Logged, trace: Trace, keys: tuple[str, ...], groups: list[_Group]) -> None:
    least = "at least " if _at_least(found, trace) else ""
    show(
        Text(_headline(found, least), "bold"),
        wrapped(
            f"{found.title}, {found.start:%Y-%m-%d} to {found.end:%Y-%m-%d} (UTC), each row at its own date"
        ),
        "",
    )
    meters = [meter for meter in _meters(groups) if meter != "request"]
    whole, short = [
        _table(found, keys, groups, meters, short=short, least=bool(least)) for short in (False, True)
    ]
    least_wide = _table(found, keys, groups, [], short=True, least=bool(least))
    table = next((one for one in (whole, short) if fits(one)), least_wide if meters else short)
    show(table)
    if table is least_wide:
        show("  tokens by meter are left out: they need more columns, or --json")
    if len(groups) > MOST_GROUPS:
        show(f"  and {len(groups) - MOST_GROUPS} more groups, in the total (all with --json)")
    priced, partial, unpriced = _counts(found)
    show("", wrapped(f"{priced:,} priced, {partial:,} partial, {unpriced:,} unpriced", "requests    "))
    for at, reason in enumerate(_reasons(found, trace)):
        show(wrapped(reason, "because     " if not at else " " * 12))
    if said.failed or said.cancelled:
        text = f"{said.failed:,} failed, {said.cancelled:,} cancelled; billed for what tokens they logged"
        if found.not_charged:
            text += f", but {found.not_charged:,} without an answer where the provider charges for none"
        show(wrapped(text, "calls       "))
    if said.duplicates:
        show(wrapped(f"{plural(said.duplicates, 'row')}, not billed", "duplicates  "))
    if found.avoided:
        saved = _cents(usd_of(found.avoided_fusd))
        text = f"{plural(found.avoided, 'call')} by the proxy's own cache: not billed, {saved} avoided"
        show(wrapped(text, "answered    "))
    if said.billed_usd is not None:
        difference = found.total_usd - said.billed_usd
        sign = "-" if difference < 0 else "+"
        text = (
            f"{exact_usd(said.billed_usd)} on {plural(said.billed_rows, 'row')}; ours is"
            f" {exact_usd(found.total_usd)} ({sign}{exact_usd(abs(difference))})"
        )
        show(wrapped(text, "in the log  "))
    show(wrapped(found.basis, "price basis "))


def _table(
    found: Statement,
    keys: tuple[str, ...],
    groups: list[_Group],
    meters: list[str],
    *,
    short: bool,
    least: bool,
) -> Table:
    """A line a group, and the total; ``short`` prints quantities as 140.6M, not 140,611,056.

    Short, the total leaves it to the headline that it is a lower bound.
    """
    heads = [(name, "l") for name in keys]
    heads[0] = (f"  {heads[0][0]}", "l")
    agreed = any(one.billed_fusd is not None for one in groups)
    table = grid(
        *heads, ("requests", "r"), *((meter.replace("_", "\n") if short else meter, "r") for meter in meters),
        ("amount", "r"), *((("billed", "r"),) if agreed else ()),
    )  # fmt: skip
    for one in groups[:MOST_GROUPS]:
        names = [name or "(none)" for name in one.key]
        amounts = [_units(one.quantity.get(meter, 0), short) for meter in meters]
        usd = "unpriced" if one.requests and one.unpriced == one.requests else _cents(one.usd, one.at_least)
        billed = [_cents(usd_of(one.billed_fusd or 0), one.at_least)] if agreed else []
        table.add_row(f"  {names[0]}", *names[1:], f"{one.requests:,}", *amounts, usd, *billed)
    totals = [_units(sum(one.quantity.get(meter, 0) for one in groups), short) for meter in meters]
    billed = []
    if agreed:
        whole = usd_of(sum(one.billed_fusd or 0 for one in groups))
        billed = [_cents(whole, least and not short)]
    table.add_row(
        "  total", *[""] * (len(keys) - 1), f"{found.n_requests:,}", *totals,
        _cents(found.total_usd, least and not short),
        *billed, style="bold",
    )  # fmt: skip
    return table


def _units(number: int, short: bool) -> str:
    """A quantity to the unit, or in thousands and millions."""
    if not short or number < 10_000:
        return f"{number:,}"
    return f"{number / 1e6:,.1f}M" if number >= 1e6 else f"{number / 1e3:.0f}k"


def _show_contract(under: Contract) -> None:
    """The four costs, what is charged beside usage, and what could not be applied."""
    costs = (("list", under.list_fusd), ("contracted", under.contracted_fusd), ("billed", under.billed_fusd),
             ("effective", under.effective_fusd))  # fmt: skip
    said = ", ".join(f"{name} {_cents(usd_of(fusd))}" for name, fusd in costs)
    show(wrapped(said, "contract    "))
    for kind, name, billed, effective in _entries(under):
        text = f"{kind} {name!r}: billed {_cents(billed)}, effective {_cents(effective)}"
        show(wrapped(text, " " * 12))
    for doubt in under.doubts:
        show(Text(wrapped(doubt, " " * 12), "yellow"))


def _entries(under: Contract) -> list[tuple[str, str, Decimal, Decimal]]:
    """What is charged beside usage, by kind and name."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for one in under.entries:
        billed, effective = sums.get((one.kind, one.name), (0, 0))
        sums[one.kind, one.name] = billed + one.billed_fusd, effective + one.effective_fusd
    return [
        (kind, name, usd_of(billed), usd_of(effective)) for (kind, name), (billed, effective) in sums.items()
    ]


def _agreed(under: Contract | None) -> dict[str, Any]:
    """The same as a document; nothing without a contract."""
    if under is None:
        return {}
    names = ("list", "contracted", "billed", "effective")
    costs = {f"{name}_usd": format(usd_of(getattr(under, f"{name}_fusd")), "f") for name in names}
    entries = [
        {
            "kind": one.kind, "name": one.name, "provider": one.provider, "start": one.start, "end": one.end,
            "billed_usd": format(usd_of(one.billed_fusd), "f"),
            "effective_usd": format(usd_of(one.effective_fusd), "f"),
        }
        for one in under.entries
    ]  # fmt: skip
    return {"contract": {**costs, "entries": entries, "doubts": under.doubts}}


def _meters(groups: list[_Group]) -> list[str]:
    """Meters that occur, in the order of the catalog."""
    from isocost.catalog.prices import METERS

    return [meter for meter in METERS if any(one.quantity.get(meter) for one in groups)]


def _set_aside(path: Path, rows: tuple[Unread, ...]) -> None:
    """Write the rows that cannot be read: the line in the log, and why."""
    with staged(path.parent) as folder, (folder / path.name).open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("line", "reason"))
        out.writerows(rows)


def _document(
    found: Statement, said: Logged, trace: Trace, keys: tuple[str, ...], groups: list[_Group]
) -> dict[str, Any]:
    priced, partial, unpriced = _counts(found)
    return {
        "title": found.title,
        "digest": found.digest,
        "price_basis": found.basis,
        "start": found.start,
        "end": found.end,
        "usd": format(found.total_usd, "f"),
        "at_least": _at_least(found, trace),
        "requests": found.n_requests,
        "priced": priced,
        "partial": partial,
        "unpriced": unpriced,
        "why": _reasons(found, trace),
        "failed": said.failed,
        "cancelled": said.cancelled,
        "duplicates": said.duplicates,
        "not_charged": found.not_charged,
        "avoided": found.avoided,
        "avoided_usd": format(usd_of(found.avoided_fusd), "f"),
        "bad_rows": found.bad_rows,
        "unread": len(trace.unread),
        "billed_usd": None if said.billed_usd is None else format(said.billed_usd, "f"),
        "billed_rows": said.billed_rows,
        "difference_usd": None if said.billed_usd is None else format(found.total_usd - said.billed_usd, "f"),
        "groups": [
            {
                **dict(zip(keys, one.key, strict=True)),
                "requests": one.requests,
                "partial": one.partial,
                "unpriced": one.unpriced,
                "quantity": one.quantity,
                "usd": format(one.usd, "f"),
                "at_least": one.at_least,
                **({} if one.billed_fusd is None else {"billed_usd": format(usd_of(one.billed_fusd), "f")}),
            }
            for one in groups
        ],
    }
