"""``isocost reconcile``: why an invoice is not what the log says, in parts that sum to the difference."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.bill import Source
from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Json, app
from isocost.cli.trace import opened
from isocost.errors import BadInput
from isocost.units import usd_of

if TYPE_CHECKING:
    from isocost.books.residuals import Reconciled

UNEXPLAINED = "unexplained"
MOST_NAMED = 3
"""Residuals that the headline names."""


@app.command(sort_key=5)
def reconcile(
    log: Annotated[Path, Parameter(help="A log; its format is found by its columns.")],
    /,
    *,
    invoice: Annotated[
        list[str], Parameter(help="provider=FILE, as often as there are files; usage pages beside costs.")
    ],
    overlay: Annotated[Path | None, Parameter(help="The contract, as TOML (docs/money.md).")] = None,
    through: Annotated[
        list[str] | None,
        Parameter(help="A project or key that the log's calls are made with; others are direct traffic."),
    ] = None,
    month: Annotated[str, Parameter(help="Compare this UTC month alone: 2026-10.")] = "",
    source: Annotated[Source, Parameter(name="*")] = Source(),  # noqa: B008
    json: Json = False,
) -> None:
    """Explain an invoice by named residuals: what the log lacks, the contract, tax ... and unexplained.

    The residuals sum to the difference between the invoice and the bill of the log to the last digit.
    What the files cannot tell stays unexplained.
    """
    from isocost.books.overlay import Overlay, read_overlay
    from isocost.books.reconcile import Log, read_files
    from isocost.books.reconcile import reconcile as explained
    from isocost.books.statement import month_of

    files: dict[str, list[Path]] = {}
    for text in invoice:
        name, sign, path = text.partition("=")
        if not (sign and name.strip() and path.strip()):
            raise BadInput(f"{text!r} is not provider=FILE", where="--invoice", fix="Write openai=costs.json")
        files.setdefault(name.strip().lower(), []).append(Path(path.strip()))
    if month:
        month_of(month)
    terms = read_overlay(overlay) if overlay is not None else Overlay()
    catalog = load(source.facts)
    given = {name: read_files(name, paths, catalog) for name, paths in files.items()}
    trace = opened(log, source.map_, source.workload_by, source.format_, who=True)
    with working("pricing"):
        read = Log(trace, catalog, terms)
    with working("comparing"):
        found = [
            explained(read, name, *sides, month, frozenset(through or ())) for name, sides in given.items()
        ]
    beside = {
        line.provider: Decimal(0)
        for line in read.found.lines
        if line.provider and line.provider not in {one.provider for one in found}
    }
    for (provider, at), fusd in read.found.by("provider", "month").items():
        if provider in beside and (not month or at == month):
            beside[provider] += usd_of(fusd)
    if json:
        return show_json({"invoices": found, **_totals(found), "not_compared_usd": beside})
    for number, one in enumerate(found):
        if number:
            show("")
        _show(one)
    if len(found) > 1:
        show("", Text(wrapped(_headline("The invoices together are", found), indent=0), "bold"))
    for provider, usd in beside.items():
        if usd:
            show(wrapped(f"The log also has {_cents(usd)} at {provider}: no invoice of it was given"))
    return None


def _totals(found: list[Reconciled]) -> dict[str, object]:
    return {
        "invoice_usd": format(sum((one.invoice_usd for one in found), Decimal(0)), "f"),
        "bill_usd": format(sum((one.bill_usd for one in found), Decimal(0)), "f"),
        "unexplained_usd": format(sum((one.usd(UNEXPLAINED) for one in found), Decimal(0)), "f"),
    }


def _cents(usd: Decimal, *, sign: bool = False) -> str:
    """Dollars to the cent; what is smaller, to its first digits."""
    lead = "-" if usd < 0 else "+" if sign and usd > 0 else ""
    size = abs(usd)
    whole = size.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    return f"{lead}${whole:,}" if whole or not size else f"{lead}${float(size):.1g}"


def _headline(start: str, found: list[Reconciled]) -> str:
    """The difference, its largest parts, and what nothing explains."""
    invoiced = sum((one.invoice_usd for one in found), Decimal(0))
    bill = sum((one.bill_usd for one in found), Decimal(0))
    gap = invoiced - bill
    sums: dict[str, Decimal] = {}
    for one in found:
        for residual in one.residuals:
            sums[residual.name] = sums.get(residual.name, Decimal(0)) + residual.usd
    if not gap and not any(sums.values()):
        return f"{start} what the log says, {_cents(invoiced)}, to the last digit"
    side = "above" if gap > 0 else "below"
    said = f"{start} {_cents(abs(gap))} {side} the log ({_cents(invoiced)} for {_cents(bill)})"
    named = sorted(
        ((name, usd) for name, usd in sums.items() if name != UNEXPLAINED), key=lambda it: -abs(it[1])
    )
    most = MOST_NAMED + (len(named) == MOST_NAMED + 1)
    parts = [f"{_cents(usd, sign=usd < 0)} {name}" for name, usd in named[:most] if usd]
    rest = named[most:]
    if rest:
        parts.append(f"{_cents(sum((usd for _, usd in rest), Decimal(0)))} in {len(rest)} more")
    left = sums.get(UNEXPLAINED, Decimal(0))
    share = f" ({100 * abs(left) / abs(invoiced):.2f}% of the invoice)" if invoiced and left else ""
    told = f"{_cents(left, sign=left < 0)} unexplained{share}" if left else "nothing unexplained"
    return f"{said}: {', '.join([*parts, told])}" if parts else f"{said}: {told}"


def _show(one: Reconciled) -> None:
    from isocost.books.diff import signed

    show(Text(wrapped(_headline(f"The invoice of {one.provider} is", [one]), indent=0), "bold"))
    table = grid(("  ", "l"), ("amount", "r"), ("because of, and what to do", "w"))
    for residual in one.residuals:
        style = "yellow" if residual.name == UNEXPLAINED else ""
        text = f"{residual.evidence}\n-> {residual.action}"
        table.add_row(f"  {residual.name}", signed(residual.usd), text, style=style)
    table.add_row(
        "  invoice less bill", signed(one.difference_usd), "the parts sum to it exactly", style="bold"
    )
    if one.residuals:
        show("", table, "")
    first, last = one.period
    show(wrapped(f"{first} to {last}, by {one.compared}", "compared  "))
    for doubt in one.doubts:
        show(Text(wrapped(doubt), "yellow"))
