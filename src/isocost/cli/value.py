"""``isocost value``: what customers bring and cost, by price plan and by feature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from isocost.cli.bill import Source
from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Json, app
from isocost.cli.trace import opened
from isocost.errors import BadInput
from isocost.units import money, percent

if TYPE_CHECKING:
    from isocost.value.ask import PricePlan, Value
    from isocost.value.customers import Customers
    from isocost.value.pricing import Feature, PlanLine

MOST_CUSTOMERS = 5
MANY = 10
"""Customers from which a tenth of them is one or more."""
LOGGED = Source()
"""The log as it is."""


@app.command(sort_key=8)
def value(
    log: Annotated[Path, Parameter(help="A log that names customers (tenants).")],
    asked: Annotated[Path | None, Parameter(help="A value file: price plans, margin, an own model.")] = None,
    /,
    *,
    now: Annotated[str | None, Parameter(help="The model that answers, where the log names none.")] = None,
    serving_usd: Annotated[
        float | None, Parameter(help="What serving costs a month instead of the log's bill, as a plan says.")
    ] = None,
    source: Annotated[Source, Parameter(name="*")] = LOGGED,
    json: Json = False,
) -> None:
    """Cost and margin by customer, feature and price plan, and the price that holds a margin."""
    from datetime import date

    from isocost.bill.log import stated
    from isocost.books.statement import statement
    from isocost.value import pricing
    from isocost.value.ask import Value, read
    from isocost.value.customers import customers

    ask = read(asked) if asked else Value()
    catalog = load(source.facts)
    with working(f"pricing {log.name}"):
        trace = opened(log, source.map_, source.workload_by, source.format_)
        found = statement(stated(trace, model=now or ""), catalog)
        of = customers(found, _days(found.lines))
    if serving_usd is not None:
        if not 0 < serving_usd < math.inf:
            raise BadInput(
                f"{serving_usd:g} dollars", where="--serving-usd", fix="Give what serving costs a month"
            )
        of = of.costing(serving_usd)
    lines = pricing.lines(ask.plans, of, ask.other_usd_per_month) if ask.plans else []
    features = pricing.features(ask.plans, of) if ask.plans else []
    fixed = _fixed(ask, of)
    rate = catalog.at(date.today()).number("finance/any", "discount_rate_per_year")
    back = pricing.payback(ask.own_model, rate) if ask.own_model else None
    if json:
        return show_json(
            {
                "customers": len(of.names),
                "usd_per_month": float(of.usd.sum()),
                "usd_per_request": float(of.usd.sum() / of.requests.sum()),
                "at_least": of.at_least,
                "top": {"1 %": of.share_of_top(0.01), "10 %": of.share_of_top(0.1)},
                "by_customer": {
                    name: {"usd": float(usd), "requests": float(requests)}
                    for name, usd, requests in zip(of.names, of.usd, of.requests, strict=True)
                },
                "plans": lines,
                "features": features,
                "priced_for_margin": fixed,
                "own_model": back,
            }
        )
    show(wrapped(_headline(of, lines, features), indent=0), "")
    _show_customers(of)
    if lines:
        _show_plans(lines, ask.other_usd_per_month)
        _show_features(features)
    if fixed:
        assert ask.target_margin_frac is not None
        words = "; ".join(f"{plan.name}: {_priced(plan)}" for plan in fixed)
        show("", wrapped(f"For {percent(ask.target_margin_frac)} margin on all customers alone: {words}."))
    if back is not None:
        when = "never" if back.months == float("inf") else f"after {back.months:.1f} months"
        show("", wrapped(f"The own model is repaid {when}; over its life it nets {money(back.net_usd)}."))
    if not ask.plans:
        show("", wrapped("Give a value file to see margins: isocost value LOG value.toml (docs/value.md)."))
    return None


def _days(lines: object) -> float:
    """Days between the first and the last line, both whole."""
    from datetime import date

    days = sorted({line.day for line in lines})  # type: ignore[attr-defined]
    return (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days + 1.0 if days else 0.0


def _fixed(ask: Value, of: Customers) -> list[PricePlan]:
    """Each plan priced so that it alone holds the margin that is asked for."""
    from isocost.value.pricing import price_for_margin

    if ask.target_margin_frac is None:
        return []
    return [price_for_margin(plan, of, ask.target_margin_frac, ask.other_usd_per_month) for plan in ask.plans]


def _headline(of: Customers, lines: list[PlanLine], features: list[Feature]) -> str:
    each = float(of.usd.sum() / of.requests.sum())
    least = "at least " if of.at_least else ""
    mean = money(float(of.usd.mean()))
    number = len(of.names)
    who = (
        f"the dearest 10% of {number:,} customers cause"
        if number >= MANY
        else f"the dearest of {number} causes"
    )
    top = f"; {who} {percent(of.share_of_top(0.1))} of the cost" if number > 1 else ""
    said = f"An answer costs {least}{_small(each)}, a customer {least}{mean} a month{top}."
    if not lines:
        return said
    whole = lines[-1]
    if whole.revenue_usd <= 0:
        return said
    verb = "costs more than it brings" if whole.at_a_loss == 1 else "cost more than they bring"
    loses = f"{whole.at_a_loss:,} of {whole.customers:,} customers {verb}"
    if whole.customers == 1:
        loses = "the one customer costs more than they bring"
    who = loses if whole.at_a_loss else "no customer costs more than they bring"
    losing = [one for one in features if one.cost_usd > one.revenue_usd]
    worst = max(losing, key=lambda one: one.cost_usd - one.revenue_usd, default=None)
    also = f"; {worst.name or 'what has no name'} costs more than it brings" if worst else ""
    return f"{percent(whole.margin_frac)} margin: {who}{also}. {said}"


def _show_customers(of: Customers) -> None:
    table = grid(("customer", "l"), ("requests a month", "r"), ("cost", "r"), ("of all", "r"))
    whole = float(of.usd.sum())
    for name, requests, usd in list(zip(of.names, of.requests, of.usd, strict=True))[:MOST_CUSTOMERS]:
        table.add_row(
            name, f"{requests:,.0f}", money(float(usd)), percent(float(usd) / whole if whole else 0.0)
        )
    rest = len(of.names) - MOST_CUSTOMERS
    if rest > 0:
        usd = float(of.usd[MOST_CUSTOMERS:].sum())
        table.add_row(
            f"{rest:,} others", f"{of.requests[MOST_CUSTOMERS:].sum():,.0f}", money(usd),
            percent(usd / whole if whole else 0.0),
        )  # fmt: skip
    show(table)


def _show_plans(lines: list[PlanLine], other_usd: float) -> None:
    table = grid(
        ("price plan", "l"), ("customers", "r"), ("brings", "r"), ("costs", "r"), ("margin", "r"),
        ("80% band", "r"), ("at a loss", "r"), ("worst", "r"),
    )  # fmt: skip
    for line in lines:
        known = line.margin_frac == line.margin_frac
        sure = line.margin_low == line.margin_low
        table.add_row(
            line.name, f"{line.customers:,}", money(line.revenue_usd), money(line.cost_usd),
            percent(line.margin_frac) if known else "-",
            f"{percent(line.margin_low)} to {percent(line.margin_high)}" if sure else "-",
            f"{line.at_a_loss:,}", money(-line.heaviest_loss_usd) if line.heaviest_loss_usd else "-",
        )  # fmt: skip
    show("", table)
    if other_usd:
        show(wrapped(f"Costs include {money(other_usd)} a month beside the answers, shared evenly."))


def _show_features(features: list[Feature]) -> None:
    table = grid(("feature", "l"), ("requests", "r"), ("brings", "r"), ("costs", "r"), ("margin", "r"))
    for one in features:
        margin = percent((one.revenue_usd - one.cost_usd) / one.revenue_usd) if one.revenue_usd else "-"
        table.add_row(
            one.name or "(none named)", f"{one.requests:,.0f}", money(one.revenue_usd), money(one.cost_usd),
            margin,
        )  # fmt: skip
    show("", table)


def _priced(plan: PricePlan) -> str:
    parts = (
        (plan.usd_per_month, "a month"),
        (plan.usd_per_request, "a request"),
        (plan.input_usd_per_mtok, "a million input tokens"),
        (plan.output_usd_per_mtok, "a million output tokens"),
    )
    return ", ".join(f"{_small(usd)} {what}" for usd, what in parts if usd)


def _small(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1.0 else f"${usd:.3g}"
