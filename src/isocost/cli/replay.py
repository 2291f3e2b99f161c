"""``isocost replay``: a plan over a log, in simulated time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.plan import EXAMPLE_NOW, Log
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import Format, Map, WorkloadBy, opened
from isocost.units import money, percent

if TYPE_CHECKING:
    from isocost.plan.written.review import Review, Served

PlanPath = Annotated[
    Path, Parameter(name="--plan", help="A plan.toml that 'isocost plan' wrote.", show_default=True)
]


@app.command(sort_key=5)
def replay(
    log: Log = None,
    /,
    *,
    plan_: PlanPath = Path("plan.toml"),
    workload_by: WorkloadBy = None,
    map_: Map = None,
    format_: Format = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Run a plan over a log in simulated time: what it costs there, and whether the limits hold."""
    from isocost.plan.written.file import read
    from isocost.plan.written.review import review
    from isocost.trace import example

    made = read(plan_)
    catalog = load(facts)
    trace = example(EXAMPLE_NOW) if log is None else opened(log, map_, workload_by, format_)
    with working("replaying"):
        found = review(trace, made, catalog)
    if json:
        return show_json(found)
    _show(found, plan_)
    return None


def _show(found: Review, plan: Path) -> None:
    from isocost.report.terminal import limit_rows

    least = "at least " if found.at_least else ""
    show(
        Text(
            f"{least}{money(found.usd_per_month)} a month, planned {money(found.planned_usd_per_month)}",
            "bold",
        )
    )
    days = found.span_s / 86_400
    span = f"{days:.1f} days" if days >= 2 else f"{days * 24:.1f} hours"
    show(
        wrapped(
            f"{found.title}: {found.requests:,} requests in {span} under {plan}. Tokens and rent came to "
            f"{money(found.usd)}; people and upkeep are {money(found.standing_usd_per_month)} a month. "
            f"Prices of {found.priced_on}."
        ),
        "",
    )
    table = grid(
        ("  deployment", "w"), ("requests", "r"), ("share", "r"), ("$", "r"), ("TTFT p95", "r"),
        ("busy", "r"), ("turned away", "r"),
    )  # fmt: skip
    for row in found.served:
        ttft = "-" if row.ttft_p95_s is None else f"{row.ttft_p95_s:.2f} s"
        busy = "-" if row.busy_frac is None else percent(row.busy_frac)
        away = f"{row.overflowed:,}" if row.busy_frac is not None else "-"
        cells = (f"{row.requests:,}", percent(row.share_frac), f"{row.usd:,.2f}", ttft, busy, away)
        table.add_row(f"  {row.deployment}", *cells)
    show(table)
    for row in found.served:
        if said := _counts_on(row):
            show(wrapped(said, "  "))
    show("", limit_rows(found.limits))


def _counts_on(row: Served) -> str:
    """What a deployment's figures rest on: its prompt cache against the best that any could do; its time."""
    said = []
    if row.cached_frac is not None:
        read = f"{percent(row.cached_frac)} of its input read from a prompt cache"
        bound = row.cache_bound_frac
        best = "the log has no prefixes to say what the best cache would read"
        if bound is not None:
            best = f"the best possible (Belady, which knows the future) reads {percent(bound)}"
        said.append(f"{read}; {best}")
    if row.prefill_frac is not None and row.decode_frac is not None:
        work = f"{percent(row.prefill_frac)} of rented time on prompts, {percent(row.decode_frac)} on answers"
        said.append(work)
    return f"{row.deployment}: {'. '.join(said)}." if said else ""
