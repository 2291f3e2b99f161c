"""``isocost chargeback``: an invoice divided among cost centres, to the cent."""

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
    from isocost.books.chargeback import Divided
    from isocost.books.overlay import Overlay
    from isocost.catalog import Catalog

CENT = Decimal("0.01")


@app.command(sort_key=6)
def chargeback(
    log: Annotated[Path, Parameter(help="A log; its format is found by its columns.")],
    /,
    *,
    centres: Annotated[Path, Parameter(help="Who pays for what, as TOML: [[rule]] with a centre and names.")],
    invoice: Annotated[
        list[str] | None, Parameter(help="provider=FILE, as often as needed: what is divided.")
    ] = None,
    total: Annotated[str | None, Parameter(help="What is divided, in dollars: 1234.56.")] = None,
    overlay: Annotated[Path | None, Parameter(help="The contract, as TOML (docs/money.md).")] = None,
    month: Annotated[str, Parameter(help="This UTC month alone: 2026-10.")] = "",
    source: Annotated[Source, Parameter(name="*")] = Source(),  # noqa: B008
    json: Json = False,
) -> None:
    """Divide an invoice among cost centres: usage by the rules, shared costs by theirs, cents to the last.

    Without an invoice or a total, what the log costs is divided.
    """
    from datetime import timedelta

    from isocost.books.chargeback import divided, read_mapping
    from isocost.books.contract import contract
    from isocost.books.overlay import Overlay, read_overlay
    from isocost.books.statement import month_of, statement

    if invoice and total is not None:
        raise BadInput("an invoice and a total", where="--total", fix="Give one of them")
    mapping = read_mapping(centres)
    terms = read_overlay(overlay) if overlay is not None else Overlay()
    catalog = load(source.facts)
    trace = opened(log, source.map_, source.workload_by, source.format_, who=True)
    with working("pricing"):
        found = statement(trace, catalog, bucket="hour" if terms.hourly else "day")
        span = None
        if month:
            first, after = month_of(month)
            found, span = found.within(month), (first, after - timedelta(days=1))
            if not found.requests:
                raise BadInput(f"no rows of {month}", where=log.name, fix="Give a month that the log holds")
        under = contract(found, terms, span)
    if invoice:
        exact, what = _invoiced(invoice, catalog, terms, month), "the invoice"
    elif total is not None:
        exact, what = _dollars(total), "the total"
    else:
        exact, what = usd_of(under.billed_fusd), "what the log costs"
    made = divided(found, mapping, exact.quantize(CENT, ROUND_HALF_EVEN), under)
    if json:
        return show_json({"divided": made, "exact_usd": format(exact, "f"), "at_least": found.at_least})
    _show(made, what, mapping.many)
    if found.at_least:
        show(Text(wrapped("some usage has no price: it is in what is shared beyond the log"), "yellow"))
    return None


def _dollars(text: str) -> Decimal:
    try:
        found = Decimal(text.strip().removeprefix("$").replace(",", ""))
    except ArithmeticError:
        found = Decimal("nan")
    if not found.is_finite():
        raise BadInput(f"{text!r} is no amount", where="--total", fix="Type dollars: 1234.56")
    return found


def _invoiced(words: list[str], catalog: Catalog, terms: Overlay, month: str) -> Decimal:
    """What the invoices ask for in dollars, at our rates; of one month, where it is named."""
    from datetime import date
    from fractions import Fraction

    from isocost.books.reconcile import of_month, read_files
    from isocost.books.sides import Names, charges_of, decimal_of
    from isocost.catalog.names import provider_named

    whole = Fraction(0)
    for text in words:
        name, sign, path = text.partition("=")
        if not (sign and name.strip() and path.strip()):
            raise BadInput(f"{text!r} is not provider=FILE", where="--invoice", fix="Write openai=costs.json")
        for one in read_files(name.strip(), [Path(path.strip())], catalog)[0]:
            kept = of_month(one, month)
            on = kept.period[1] if kept.period else None
            names = Names(catalog, provider_named(catalog, name.strip()), on or date.max)
            whole += sum((line.booked_fusd for line in charges_of(kept, terms, names)), Fraction(0))
    return decimal_of(whole)


def _show(made: Divided, what: str, many: str) -> None:
    from isocost.books.chargeback import UNALLOCATED

    named = [one for one in made.shares if one.centre != UNALLOCATED]
    nobody = made.shares[-1]
    share = f" ({100 * nobody.usd / made.invoice_usd:.1f}%)" if made.invoice_usd else ""
    left = f"{_cents(nobody.usd)} unallocated{share}" if nobody.usd else "nothing unallocated"
    show(Text(f"{_cents(made.invoice_usd)} ({what}) among {len(named)} cost centres; {left}", "bold"), "")
    table = grid(("  centre", "l"), ("usage", "r"), ("shared", "r"), ("charge", "r"), ("share", "r"))
    for one in made.shares:
        shared = sum(one.shared_usd.values(), Decimal(0))
        part = f"{100 * one.usd / made.invoice_usd:.1f}%" if made.invoice_usd else "-"
        table.add_row(f"  {one.centre}", _cents(one.own_usd), _cents(shared), _cents(one.usd), part)
    own = sum((one.own_usd for one in made.shares), Decimal(0))
    rest = sum((usd for _, usd, _ in made.shared), Decimal(0))
    table.add_row("  total", _cents(own), _cents(rest), _cents(made.invoice_usd), "", style="bold")
    show(table)
    if made.shared:
        show("", Text("  shared, and how it is split", "bold"))
        lines = grid(("  ", "l"), ("amount", "r"), ("by", "l"))
        for name, usd, by in made.shared:
            lines.add_row(f"  {name}", _cents(usd), by)
        show(lines)
    rule = "the first rule that fits takes a row whole" if many == "first" else (
        "a row's tags share it evenly, else the first rule that fits takes it whole"
    )  # fmt: skip
    show("", wrapped(f"{rule}; cents by the largest remainder: charges sum to the total exactly"))


def _cents(usd: Decimal) -> str:
    # Adding zero takes the sign from a zero that was rounded from below.
    return f"${usd.quantize(CENT, ROUND_HALF_EVEN) + 0:,}".replace("$-", "-$")
