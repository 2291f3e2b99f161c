"""``isocost size``: the cheapest replicas for a load, from the physics, checked by replay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.output import columns, grid, show, show_as_is, show_json, working, wrapped
from isocost.cli.root import Facts, InTok, Json, OutTok, app
from isocost.errors import BadInput, Infeasible
from isocost.units import money, money_range, tokens

if TYPE_CHECKING:
    from isocost.plan.sizing import Sized, Sizing

WIDE = 112
"""Columns from which memory is shown beside cost."""
NARROW = 92
"""Columns below which what one replica carries is left out."""


@dataclass(frozen=True)
class Load:
    """What must be carried, within which limits."""

    rate: Annotated[float, Parameter(help="Requests a second, on average.", required=True)] = 0.0
    in_: InTok = None
    out: OutTok = None
    ttft_p95: Annotated[
        float | None, Parameter(help="Limit on the time to first token, s (default: slo facts).")
    ] = None
    tpot_p95: Annotated[
        float | None, Parameter(help="Limit on the time per output token, s (default: slo facts).")
    ] = None


@dataclass(frozen=True)
class Choice:
    """What may be used."""

    gpus: Annotated[
        str | None, Parameter(help="Accelerators: h100-sxm,l40s (default: all that somebody rents).")
    ] = None
    term: Annotated[str, Parameter(help="on_demand, spot or reserved_1y.")] = "on_demand"
    top: Annotated[int, Parameter(help="How many set-ups to show.", show_default=True)] = 10
    on: Annotated[date | None, Parameter(help="The date of rents (default: the newest).")] = None


@app.command(sort_key=4)
def size(
    model: str,
    /,
    *,
    load_: Annotated[Load, Parameter(name="*")] = Load(),
    choice: Annotated[Choice, Parameter(name="*")] = Choice(),
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Find the cheapest replicas that carry a load: accelerators, counts, precisions.

    Parameters
    ----------
    model
        An open model (llama-3.3-70b, a Hugging Face name), or the path of a config.json.
    """
    from isocost.plan.sizing import Need, sizing, with_config

    if load_.in_ is None or load_.out is None:
        raise BadInput(
            "no lengths", fix="Add --in and --out, the tokens of a mean request: --in 2000 --out 300"
        )
    catalog = load(facts)
    name = model
    if model.endswith(".json"):
        catalog, name = with_config(catalog, Path(model))
    need = Need(load_.rate, tokens(load_.in_), tokens(load_.out), load_.ttft_p95, load_.tpot_p95)
    kinds = tuple(part.strip() for part in choice.gpus.split(",")) if choice.gpus else None
    with working("laying out replicas"):
        found = sizing(catalog.at(choice.on or newest(catalog)), name, need, kinds, choice.term, choice.top)
    if json:
        return show_json(found)
    if not found.rows:
        raise Infeasible(found.why_none, fix="Allow more time, or other accelerators with --gpus")
    _show(found)
    return None


def _show(found: Sizing) -> None:
    need, best = found.need, found.rows[0]
    band = money_range(best.usd_low, best.usd_high)
    show(
        Text(f"{_counted(best)}: {money(best.usd_per_month)} a month", "bold"),
        f"  80% band {band}; ${best.usd_per_mtok:.2f} a million tokens, in and out together",
        f"  for {need.rate_per_s:g} requests/s of {need.input_tok:,} in, {need.output_tok:,} out within "
        f"TTFT p95 {found.ttft_p95_s:g} s, TPOT p95 {found.tpot_p95_s:g} s",
        "",
        _table(found.rows),
        "",
    )
    for note in found.notes:
        show(wrapped(note))
    show("", "  Next, on each replica:")
    show_as_is(f"  {best.command}")


def _counted(row: Sized) -> str:
    return f"{row.replicas} replica{'s' if row.replicas != 1 else ''} on {row.name}"


def _table(rows: tuple[Sized, ...]) -> Table:
    wide, narrow = columns() >= WIDE, columns() < NARROW
    heads = [("  replica", "l"), ("n" if narrow else "replicas", "r")]
    heads += [] if narrow else [("req/s each", "r")]
    heads += [("TTFT p95", "r"), ("TPOT p95", "r")]
    heads += [("GB weights", "r"), ("cache tok", "r")] if wide else []
    table = grid(*heads, ("$/month", "r"), ("80% band", "r"), ("$/Mtok", "r"))
    for row in rows:
        cells = [f"  {row.name}", str(row.replicas)]
        cells += [] if narrow else [f"{row.goodput_per_s:.2f}"]
        cells += [f"{row.ttft_p95_s:.2f} s", f"{row.tpot_p95_s * 1000:.0f} ms"]
        cells += [f"{row.weight_gb:.0f}", f"{row.cache_tok:,}"] if wide else []
        band = f"{money(row.usd_low)}-{money(row.usd_high)}"
        table.add_row(*cells, f"{row.usd_per_month:,.0f}", band, f"{row.usd_per_mtok:.2f}")
    return table
