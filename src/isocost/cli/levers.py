"""``isocost levers``: what each way to spend less is worth on this traffic."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from isocost.cli.catalog import load
from isocost.cli.output import columns, show, show_json, working
from isocost.cli.plan import Log, Reading, Terms, request_for
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import opened

AS_IT_IS, NO_TERMS = Reading(), Terms()
WORTH_USD = 0.5
"""A month: less is nothing in whole dollars."""


@app.command(sort_key=1)
def levers(
    log: Log = None,
    /,
    *,
    reading: Annotated[Reading, Parameter(name="*")] = AS_IT_IS,
    terms: Annotated[Terms, Parameter(name="*")] = NO_TERMS,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Price every lever on a log or a scenario: alone, last, and its fair share of what all save together."""
    from msgspec.structs import replace as changed

    from isocost.plan.levers import price_levers
    from isocost.plan.run import make_plan, totals_of
    from isocost.plan.shadow import shadow_prices
    from isocost.prompts.make import make
    from isocost.prompts.nearly import nearly
    from isocost.prompts.worth import worths
    from isocost.report.levers import render
    from isocost.report.prompts import render_worths

    request = request_for(load(facts), log, reading, terms)
    with working("planning"):
        outcome = make_plan(request)
    with working("pricing levers"):
        found = price_levers(outcome.built, outcome.stays, totals_of(outcome))
    with working("pricing limits"):
        limits = shadow_prices(outcome.built)
    trace = request.trace
    if log is not None and log.suffix != ".toml" and (trace.texts is None or not trace.chained):
        trace = opened(log, reading.map_, reading.workload_by, reading.format_, prompts=True)
    waits = {one: request.limits.of(one).wait_s for one in trace.names.get("workload", ())}
    with working("comparing prompts"):
        seen = worths(make(trace, request.catalog, request.on, now=request.now, declared_s=waits))
        alike = nearly(trace, request.catalog, request.on, now=request.now)
    if alike is not None:
        # What is priced here is not told again among what does not apply.
        seen = sorted([*seen, alike], key=lambda one: -one.saves.usd)
        others = [one for one in found.levers if one.name != alike.name]
        found = changed(found, levers=others)
    # Nor what the planner, which reads no words, finds worth nothing.
    told = {one.name for one in seen}
    rows = [
        one for one in found.levers if one.name not in told or max(one.alone_usd, one.share_usd) >= WORTH_USD
    ]
    found = changed(found, levers=rows)
    if json:
        return show_json({"levers": found, "limits": limits, "prompts": seen})
    show(render(found, columns(), limits, seen))
    if seen:
        show("", render_worths(seen, columns()))
    return None
