"""``isocost plan``: from a log, or a few numbers, to the least-cost way to serve it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from isocost.cli.catalog import load, newest
from isocost.cli.output import columns, show, show_json, staged, working
from isocost.cli.root import Facts, InTok, Json, OutTok, app
from isocost.cli.trace import Format, Map, WorkloadBy, opened
from isocost.errors import BadInput
from isocost.units import tokens, volume_per_month

if TYPE_CHECKING:
    from isocost.catalog import Catalog
    from isocost.plan.market.prepare import Request
    from isocost.trace import Trace

FILES = ("plan.toml", "ledger.parquet", "report.html")
EXAMPLE_NOW = "anthropic/claude-opus-4-6"
"""Who answers the bundled example today."""

Log = Annotated[
    Path | None,
    Parameter(help="CSV, JSONL or Parquet; its format is found by its columns (default: the example)."),
]


@dataclass(frozen=True)
class Reading:
    """How the log is read."""

    now: Annotated[str, Parameter(help="Today's model, where the log names none: openai/gpt-4o.")] = ""
    workload_by: WorkloadBy = None
    map_: Map = None
    format_: Format = None


@dataclass(frozen=True)
class Terms:
    """What must hold, what is there already, and the prices."""

    slo: Annotated[Path | None, Parameter(help="Limits that must hold (docs/limits.md).")] = None
    have: Annotated[Path | None, Parameter(help="GPUs and people already there (docs/limits.md).")] = None
    on: Annotated[date | None, Parameter(help="The date of prices (default: the newest).")] = None
    shape: Annotated[
        str, Parameter(help="The week's shape where the log is under a week: office, consumer, flat.")
    ] = "office"


@dataclass(frozen=True)
class Written:
    """What is written, and where."""

    to: Annotated[
        Path, Parameter(help="The folder for plan.toml, ledger.parquet and report.html.", show_default=True)
    ] = Path()
    report: Annotated[bool, Parameter(help="Leave report.html out.", negative="--no-report", name="")] = True
    png: Annotated[Path | None, Parameter(help="A folder for the report's charts as pictures.")] = None


@dataclass(frozen=True)
class Guess:
    """No log: a few numbers instead."""

    requests: Annotated[
        str | None, Parameter(help="Without a log: requests a month, as 200k..5M/mo or 30k/day.")
    ] = None
    in_: InTok = None
    out: OutTok = None


@app.default
def example(
    *, to: Annotated[Path, Parameter(help="The folder to write into.")] = Path(), json: Json = False
) -> None:
    """Plan the bundled example: 14 days of a support product."""
    plan(written=Written(to=to), json=json)


@app.command(sort_key=1)
def plan(
    log: Log = None,
    /,
    *,
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),
    terms: Annotated[Terms, Parameter(name="*")] = Terms(),
    written: Annotated[Written, Parameter(name="*")] = Written(),
    guess: Annotated[Guess, Parameter(name="*")] = Guess(),
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Find the least-cost way to serve a log, or a volume, within its limits.

    Writes plan.toml (the plan), ledger.parquet (every charge) and report.html (one offline page).
    """
    if guess.requests is not None:
        return _memo(log, guess, reading.now, terms, written.to, load(facts), json)
    if guess.in_ is not None or guess.out is not None:
        raise BadInput(
            "--in and --out are tokens of a request, for a plan without a log",
            fix="Add --requests 1M/mo; the folder to write into is --to DIR",
        )
    from isocost.plan.run import make_plan

    catalog = load(facts)
    with staged(written.to) as stage:
        request = _request(catalog, log, reading, terms)
        with working("planning"):
            outcome = make_plan(request)
        (stage / "plan.toml").write_text(outcome.toml, encoding="utf-8")
        outcome.ledger.write(stage / "ledger.parquet")
        if written.report:
            from isocost.report import render

            with working("drawing the report"):
                (stage / "report.html").write_text(render(outcome.result), encoding="utf-8")
    names = [str(written.to / name) for name in FILES[: 3 if written.report else 2]]
    if written.png is not None:
        from isocost.report import pngs

        with working("drawing pictures"), staged(written.png) as stage:
            names.append(f"{len(pngs(outcome.result, stage))} pictures in {written.png}")
    if json:
        return show_json(outcome.result)
    from isocost.report.terminal import render as text

    stale = catalog.at(request.on).number("planning/facts", "stale_days")
    show(text(outcome.result, columns(), stale))
    show(f"  Wrote: {', '.join(names)}")
    return None


def _memo(
    log: Path | None, guess: Guess, now: str, terms: Terms, to: Path, catalog: Catalog, json: bool
) -> None:
    """Plan from a few numbers: print the memo, and write it as memo.md."""
    from isocost.plan.asked.limits import Have, Limits, read_have, read_limits
    from isocost.plan.memo import MemoAsk, memo
    from isocost.report.memo import markdown, text

    if log is not None:
        raise BadInput("a log and --requests", fix="Give one of the two: a log, or numbers instead of it")
    if guess.requests is None or guess.in_ is None or guess.out is None:
        raise BadInput(
            "no lengths", fix="Add --in and --out, the tokens of a mean request: --in 1500 --out 500"
        )
    volume = volume_per_month(guess.requests)
    ask = MemoAsk(
        (volume.low, volume.high),
        tokens(guess.in_),
        tokens(guess.out),
        catalog,
        terms.on or newest(catalog),
        now,
        read_limits(terms.slo) if terms.slo else Limits(),
        read_have(terms.have) if terms.have else Have(),
        terms.shape,
    )
    with staged(to) as stage:
        with working("planning"):
            found = memo(ask)
        (stage / "memo.md").write_text(markdown(found), encoding="utf-8")
    if json:
        return show_json(found)
    show(text(found, columns()), f"  Wrote: {to / 'memo.md'}")
    return None


def _request(catalog: Catalog, log: Path | None, reading: Reading, terms: Terms) -> Request:
    from isocost.plan.asked.limits import Have, Limits, read_have, read_limits
    from isocost.plan.market.prepare import Request
    from isocost.trace import example as bundled

    trace: Trace
    if log is None:
        with working("making the example"):
            trace = bundled(reading.now or EXAMPLE_NOW)
    else:
        trace = opened(log, reading.map_, reading.workload_by, reading.format_)
    workloads = tuple(trace.names.get("workload", ()))
    return Request(
        trace=trace,
        catalog=catalog,
        on=terms.on or newest(catalog),
        limits=read_limits(terms.slo, workloads) if terms.slo else Limits(),
        have=read_have(terms.have) if terms.have else Have(),
        now=reading.now if log is not None else "",
        shape=terms.shape,
    )
