"""``isocost plan``: from a log, or a few numbers, to the least-cost way to serve it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from isocost.cli.catalog import load, newest
from isocost.cli.output import columns, show, show_json, staged, working
from isocost.cli.root import Facts, InTok, Json, OutTok, app
from isocost.cli.trace import Format, Map, WorkloadBy, opened
from isocost.errors import BadInput
from isocost.units import growth_per_month, tokens, volume_per_month

if TYPE_CHECKING:
    from isocost.catalog import Catalog
    from isocost.keep.ask import Ask
    from isocost.plan.market.prepare import Request
    from isocost.plan.path import PathAsk
    from isocost.plan.run import Outcome
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
    keep: Annotated[
        Path | None,
        Parameter(help="What stands beside the answers: documents, duties … (docs/keep.md)."),
    ] = None
    value: Annotated[
        Path | None, Parameter(help="Price plans: margin by plan, feature and customer (docs/value.md).")
    ] = None
    on: Annotated[date | None, Parameter(help="The date of prices (default: the newest).")] = None
    shape: Annotated[
        str, Parameter(help="The week's shape where the log is under a week: office, consumer, flat.")
    ] = "office"


@dataclass(frozen=True)
class Written:
    """What is written, where, and what is shown beside the plan."""

    to: Annotated[
        Path, Parameter(help="The folder for plan.toml, ledger.parquet and report.html.", show_default=True)
    ] = Path()
    report: Annotated[bool, Parameter(help="Leave report.html out.", negative="--no-report", name="")] = True
    memo: Annotated[
        Path | None, Parameter(help="A file for the one page that goes to whoever signs: Markdown, or .html.")
    ] = None
    accounts: Annotated[
        bool, Parameter(help="Show every account by option, and why it is nil.", negative="")
    ] = False
    png: Annotated[Path | None, Parameter(help="A folder for the report's charts as pictures.")] = None
    frontier: Annotated[
        bool, Parameter(help="Show cost against quality and latency, point by point.", negative="")
    ] = False


@dataclass(frozen=True)
class Ahead:
    """How far ahead, and what is supposed of it."""

    horizon: Annotated[
        str | None, Parameter(help="Plan quarter by quarter over so long: 36mo, 3y (docs/horizon.md).")
    ] = None
    growth: Annotated[
        str | None, Parameter(help="Growth of all traffic: 4%/mo, 60%/yr.", allow_leading_hyphen=True)
    ] = None
    prices: Annotated[
        Literal["flat", "forecast"] | None,
        Parameter(help="Prices to come: as the forecast has them (default), or as today."),
    ] = None


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
    ahead: Annotated[Ahead, Parameter(name="*")] = Ahead(),
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Find the least-cost way to serve a log, a volume or a scenario file (.toml), within its limits.

    Writes plan.toml (the plan), ledger.parquet (every charge) and report.html (one offline page).
    """
    if guess.requests is not None:
        _only_of_a_log(written, ahead)
        return _memo(log, guess, reading.now, terms, written.to, load(facts), json)
    if (
        (ahead.growth is not None or ahead.prices is not None)
        and ahead.horizon is None
        and not _scenario(log)
    ):
        raise BadInput("--growth and --prices are for a plan over a horizon", fix="Add --horizon 36mo")
    if guess.in_ is not None or guess.out is not None:
        raise BadInput(
            "--in and --out are tokens of a request, for a plan without a log",
            fix="Add --requests 1M/mo; the folder to write into is --to DIR",
        )
    from isocost.plan.run import make_plan

    catalog = load(facts)
    with staged(written.to) as stage:
        request, ahead = _requested(catalog, log, reading, terms, ahead)
        asked = _asked(ahead)
        with working("planning", compiles=True):
            outcome = make_plan(request)
            if terms.value is not None:
                outcome = _valued(outcome, terms.value)
        path = None
        if asked is not None:
            from isocost.plan.path import make_path

            with working("looking ahead"):
                path = make_path(outcome.built, outcome.stays, asked)
                outcome = _over_life(outcome, asked)
        if written.memo is not None:
            from isocost.report.signing import html, page

            as_html = written.memo.suffix.lower() in (".html", ".htm")
            _written(written.memo, (html if as_html else page)(outcome.result, path))
        (stage / "plan.toml").write_text(outcome.toml, encoding="utf-8")
        outcome.ledger.write(stage / "ledger.parquet")
        if written.report:
            from isocost.report import render

            with working("drawing the report"):
                (stage / "report.html").write_text(render(outcome.result, path), encoding="utf-8")
    names = [str(written.to / name) for name in FILES[: 3 if written.report else 2]]
    if written.memo is not None:
        names.append(str(written.memo))
    if written.png is not None:
        from isocost.report import pngs

        with working("drawing pictures"), staged(written.png) as stage:
            names.append(f"{len(pngs(outcome.result, stage, path))} pictures in {written.png}")
    if json:
        return show_json(outcome.result if path is None else {"plan": outcome.result, "path": path})
    from isocost.report.terminal import render as text

    stale = catalog.at(request.on).number("planning/facts", "stale_days")
    show(text(outcome.result, columns(), stale))
    if written.accounts:
        from isocost.report.accounts import every

        show("", *every(outcome.result, columns()))
    if written.frontier:
        from isocost.report.frontier import render as frontier_text

        show(frontier_text(outcome.result, columns()))
    if path is not None:
        from isocost.report.accounts import over_life
        from isocost.report.path import render as ahead_text

        show(*over_life(outcome.result, columns()))
        show(ahead_text(path, columns()))
    show(f"  Wrote: {', '.join(names)}")
    return None


def _over_life(outcome: Outcome, asked: PathAsk) -> Outcome:
    """The plan with its ways over the horizon."""
    from msgspec.structs import replace as changed

    from isocost.plan.tell.life import life

    found = life(outcome.built, outcome.stays, outcome.chosen, outcome.result, asked)
    return replace(outcome, result=changed(outcome.result, life=found))


def _valued(outcome: Outcome, file: Path) -> Outcome:
    """The plan with what price plans bring."""
    from isocost.plan.run import totals_of
    from isocost.plan.tell.unit import spent
    from isocost.value.ask import read
    from isocost.value.planned import priced

    found = spent(outcome.built, totals_of(outcome).today)
    return replace(outcome, result=priced(outcome.result, found, read(file)))


def _scenario(log: Path | None) -> bool:
    return log is not None and log.suffix == ".toml"


def _asked(ahead: Ahead) -> PathAsk | None:
    """The horizon that is asked for."""
    if ahead.horizon is None:
        return None
    from isocost.plan.path import PathAsk, horizon_months

    growth = 0.0 if ahead.growth is None else growth_per_month(ahead.growth)
    return PathAsk(horizon_months(ahead.horizon), growth, ahead.prices or "forecast")


def _written(path: Path, text: str) -> None:
    with staged(path.parent) as stage:
        (stage / path.name).write_text(text, encoding="utf-8")


def request_for(catalog: Catalog, log: Path | None, reading: Reading, terms: Terms) -> Request:
    """What is asked of a plan by a log, a scenario file or nothing (the example)."""
    return _requested(catalog, log, reading, terms, Ahead())[0]


def _requested(
    catalog: Catalog, log: Path | None, reading: Reading, terms: Terms, ahead: Ahead
) -> tuple[Request, Ahead]:
    if log is not None and _scenario(log):
        return _from_scenario(catalog, log, terms, ahead)
    return _request(catalog, log, reading, terms), ahead


def _from_scenario(catalog: Catalog, path: Path, terms: Terms, ahead: Ahead) -> tuple[Request, Ahead]:
    """A scenario file; what is typed beside it goes before what it says."""
    from isocost.plan.asked.limits import read_have, read_limits
    from isocost.plan.scenario import read, request_of

    scenario = read(path)
    request = request_of(scenario, catalog, terms.on or newest(catalog))
    if terms.slo is not None:
        request = replace(request, limits=read_limits(terms.slo, scenario.workloads))
    if terms.have is not None:
        request = replace(request, have=read_have(terms.have))
    if terms.keep is not None:
        request = replace(request, keep=_kept(terms))
    mixed = Ahead(
        ahead.horizon or scenario.horizon, ahead.growth or scenario.growth, ahead.prices or scenario.prices
    )
    return request, mixed


def _only_of_a_log(written: Written, ahead: Ahead) -> None:
    """Refuse what a plan from a few numbers cannot give."""
    asked = {
        "--horizon": ahead.horizon, "--growth": ahead.growth, "--prices": ahead.prices,
        "--memo": written.memo, "--png": written.png, "--accounts": written.accounts,
        "--frontier": written.frontier,
    }  # fmt: skip
    named = [name for name, value in asked.items() if value]
    if named:
        raise BadInput(
            f"{', '.join(named)}: not for a plan from --requests alone, which writes memo.md",
            fix="Name a log, or a scenario file with the numbers in it: isocost plan examples/startup.toml",
        )


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
        with working("planning", compiles=True):
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
        trace = _with_keys(log, reading)
    workloads = tuple(trace.names.get("workload", ()))
    return Request(
        trace=trace,
        catalog=catalog,
        on=terms.on or newest(catalog),
        limits=read_limits(terms.slo, workloads) if terms.slo else Limits(),
        have=read_have(terms.have) if terms.have else Have(),
        now=reading.now if log is not None else "",
        shape=terms.shape,
        keep=_kept(terms),
    )


def _with_keys(log: Path, reading: Reading) -> Trace:
    """The log, and which of its prompts are the same: by its hashes, else by its words."""
    from isocost.plan.written.caches import keyed

    how = (reading.map_, reading.workload_by, reading.format_)
    trace = opened(log, *how, prompts=True)
    if trace.texts is None:
        return trace
    with working("comparing prompts"):
        # Block ids of some logs mean another thing where words are asked for.
        return keyed(trace) if trace.chained else keyed(replace(opened(log, *how), texts=trace.texts))


def _kept(terms: Terms) -> Ask | None:
    """What stands beside the answers, as its file states it."""
    from isocost.keep.ask import read

    return read(terms.keep) if terms.keep is not None else None
