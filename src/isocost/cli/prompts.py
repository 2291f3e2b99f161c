"""``isocost prompts``: what a log's prompts cost by their shape."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from isocost.cli.catalog import load, newest
from isocost.cli.output import columns, show, show_json, working
from isocost.cli.plan import EXAMPLE_NOW, Log, Reading
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import opened
from isocost.errors import BadInput

AS_IT_IS = Reading()


@app.command(sort_key=2)
def prompts(
    log: Log = None,
    /,
    *,
    view: Annotated[
        str | None,
        Parameter(help="Only these: prefixes, caches, waiting, retrieval, lengths, rules (with commas)."),
    ] = None,
    reading: Annotated[Reading, Parameter(name="*")] = AS_IT_IS,
    slo: Annotated[Path | None, Parameter(help="How long answers may take (docs/limits.md: wait).")] = None,
    on: Annotated[date | None, Parameter(help="The date of prices (default: the newest).")] = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Say what breaks prefixes, which cache pays, what could wait, and what shorter prompts would save.

    Reads the words of prompts where the log has them; they are compared on this machine and never shown.
    """
    from isocost.plan.asked.limits import read_limits
    from isocost.prompts.make import VIEWS, make
    from isocost.report.prompts import render
    from isocost.trace import example

    asked = tuple(one.strip() for one in view.split(",")) if view else VIEWS
    for one in asked:
        if one not in VIEWS:
            raise BadInput(f"no view {one!r}", where="--view", fix=f"Views: {', '.join(VIEWS)}")
    catalog = load(facts)
    if log is None:
        trace = example(reading.now or EXAMPLE_NOW)
    else:
        trace = opened(log, reading.map_, reading.workload_by, reading.format_, prompts=True)
    workloads = tuple(trace.names.get("workload", ()))
    limits = read_limits(slo, workloads) if slo is not None else None
    waits = {} if limits is None else {one: limits.of(one).wait_s for one in workloads}
    with working("comparing prompts"):
        found = make(
            trace,
            catalog,
            on or newest(catalog),
            now=reading.now if log is not None else "",
            declared_s=waits,
            views=asked,
        )
    if json:
        return show_json(found)
    show(render(found, columns()))
    return None
