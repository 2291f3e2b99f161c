"""``isocost replay``: a plan over a log, in simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.plan import EXAMPLE_NOW, Log
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import Format, Map, TaskBy, WorkloadBy, opened
from isocost.errors import BadInput, BadLimits
from isocost.units import DAYS_PER_MONTH, SECONDS_PER_DAY, money, percent, span

if TYPE_CHECKING:
    from isocost.plan.written.failed import Band, Failures
    from isocost.plan.written.review import Review, Served
    from isocost.plan.written.told import Played, Policed, Quality
    from isocost.trace import Trace

PlanPath = Annotated[
    Path, Parameter(name="--plan", help="A plan.toml that 'isocost plan' wrote.", show_default=True)
]

OutcomesPath = Annotated[
    Path | None,
    Parameter(help="Graded answers ('isocost measure'), by which policies' answers are judged."),
]


@dataclass(frozen=True)
class Reading:
    """How the log is read."""

    workload_by: WorkloadBy = None
    task_by: TaskBy = None
    map_: Map = None
    format_: Format = None

    def opened(self, log: Path, *, prompts: bool = False) -> Trace:
        """The log as a trace, ``prompts`` with the words of prompts."""
        return opened(log, self.map_, self.workload_by, self.format_, task_by=self.task_by, prompts=prompts)


AS_IT_IS = Reading()


@app.command(sort_key=5)
def replay(
    log: Log = None,
    /,
    *,
    plan_: PlanPath = Path("plan.toml"),
    outcomes: OutcomesPath = None,
    reading: Annotated[Reading, Parameter(name="*")] = AS_IT_IS,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Run a plan over a log in simulated time: what it costs there, and whether the limits hold."""
    from isocost.plan.written.caches import asks_words, keyed
    from isocost.plan.written.file import read
    from isocost.plan.written.near import named_verifiers
    from isocost.plan.written.review import review
    from isocost.plan.written.scores import named_weights
    from isocost.trace import example

    made = read(plan_)
    if outcomes is not None and not made.policies:
        raise BadInput("no [[policy]] to judge answers for", where=str(plan_), fix="Leave out --outcomes")
    catalog = load(facts)
    weights = named_weights(made.policies, plan_.parent)
    verifiers = named_verifiers(made.policies, plan_.parent)
    trace = example(EXAMPLE_NOW) if log is None else reading.opened(log)
    caches = [*(rule.cache for rule in made.policies), *(route.cache for route in made.routes)]
    if log is not None and (weights or asks_words(made.policies, caches, trace)):
        # A second look, since block ids of some logs mean another thing where words are asked for.
        words = reading.opened(log, prompts=True)
        trace = replace(trace, texts=words.texts)
        trace = keyed(trace) if any(caches) else trace
    with working("replaying", compiles=True):
        try:
            found = review(trace, made, catalog, outcomes, weights, verifiers)
        except BadLimits as wrong:
            # What plays a plan does not know its file.
            raise BadLimits(wrong.what, where=wrong.where or str(plan_), fix=wrong.fix) from None
    if json:
        return show_json(found)
    if found.policy is None:
        _show(found, plan_)
    else:
        _show_policy(found, found.policy, plan_)
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
    show(
        wrapped(
            f"{found.title}: {found.requests:,} requests in {span(found.span_s / SECONDS_PER_DAY)} "
            f"under {plan}. Tokens and rent came to {money(found.usd)}; "
            f"people and upkeep are {money(found.standing_usd_per_month)} a month. "
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
    if any(row.cached_frac is not None and row.cache_bound_frac is None for row in found.served):
        show(
            wrapped(
                "What the best cache would read is not known: the log does not say what prompts share.", "  "
            )
        )
    if found.failures is not None:
        _show_failures(found.failures, None)
    show("", limit_rows(found.limits))


def _counts_on(row: Served) -> str:
    """What a deployment's figures rest on: its prompt cache against the best that any could do; its time."""
    said = []
    if row.cached_frac is not None:
        read = f"{percent(row.cached_frac)} of its input read from a prompt cache"
        if row.cache_bound_frac is not None:
            read += (
                f"; the best possible (Belady, which knows the future) reads {percent(row.cache_bound_frac)}"
            )
        said.append(read)
    if row.prefill_frac is not None and row.decode_frac is not None:
        work = f"{percent(row.prefill_frac)} of rented time on prompts, {percent(row.decode_frac)} on answers"
        said.append(work)
    return f"{row.deployment}: {'. '.join(said)}." if said else ""


def _show_policy(found: Review, policy: Policed, plan: Path) -> None:
    from isocost.report.terminal import limit_rows

    least, most, plain, shown = policy.least, policy.most, policy.without, policy.shown
    at_least = "at least " if most.at_least else ""
    between = money(most.usd_per_month)
    if not policy.is_known:
        between = f"{money(least.usd_per_month)} to {between}"
    if policy.likely is not None:
        between = f"about {money(shown.usd_per_month)} ({between})"
    beside = "" if plain is None else f", {money(plain.usd_per_month)} without its policies"
    show(Text(f"{at_least}{between} a month{beside}", "bold"))
    show(
        wrapped(
            f"{found.title}: {found.requests:,} requests in {span(found.span_s / SECONDS_PER_DAY)} "
            f"under {plan}, every attempt paid. "
            f"People and upkeep are {money(found.standing_usd_per_month)} a month of it. "
            f"Prices of {found.priced_on}."
        ),
        "",
    )
    ways = [("with policies", most)] if policy.is_known else [("at least", least), ("at most", most)]
    if policy.likely is not None:
        ways = [("likely", policy.likely), ("low", least), ("high", most)]
    ways += [] if plain is None else [("without", plain)]
    table = grid(("  in this log", "l"), *((name, "r") for name, _ in ways))
    for label, cell in _ROWS:
        table.add_row(f"  {label}", *(cell(way) for _, way in ways))
    show(table, "")
    table = grid(
        ("  deployment", "w"), ("attempts", "r"), ("answered", "r"), ("$", "r"), ("TTFT p95", "r"),
        *(() if plain is None else (("$ without", "r"),)),
    )  # fmt: skip
    before = {} if plain is None else {row.deployment: row for row in plain.answered}
    for row in shown.answered:
        ttft = "-" if row.ttft_p95_s is None else _seconds(row.ttft_p95_s)
        cells = [f"{row.attempts:,}", f"{row.requests:,}", f"{row.usd:,.2f}", ttft]
        if plain is not None:
            cells.append(f"{before[row.deployment].usd:,.2f}" if row.deployment in before else "-")
        table.add_row(f"  {row.deployment}", *cells)
    for name, row in before.items():
        if name not in {one.deployment for one in shown.answered}:
            table.add_row(f"  {name}", "0", "0", "0.00", "-", f"{row.usd:,.2f}")
    show(table)
    for stop in shown.stopped:
        cut = {"requests": f"{stop.requests:,}", "usd": f"{stop.usd:,.2f}", "tok": f"{stop.tok:,}"}
        show(wrapped(_STOPPED[stop.why].format(**cut), "  "))
    if policy.failures is not None:
        _show_failures(policy.failures, policy.failures_without)
    show("", limit_rows(found.limits))
    for note in policy.notes:
        show(wrapped(f"{note}.", "  "))


def _show_failures(found: Failures, without: Failures | None) -> None:
    """What failing APIs do, with the plan's policies and without; how often they are taken to fail."""
    ways = [found] if without is None else [found, without]
    names = ["with policies", "without"] if len(ways) > 1 else [f"middle and 80 % of {found.draws} draws"]
    table = grid(("  when APIs fail", "l"), *((name, "r") for name in names))
    for label, cell in _FAILURE_ROWS:
        table.add_row(f"  {label}", *(cell(way) for way in ways))
    show("", table)
    worst = min(found.workloads, key=lambda one: one.availability_frac.value)
    if len(found.workloads) > 1 and worst.availability_frac.value < found.availability_frac.value:
        show(wrapped(f"Least available: {worst.workload}, {_share(worst.availability_frac)}.", "  "))
    show(wrapped(_rates(found), "  "))
    if found.replicas:
        each = [
            f"{one.deployment} {_minutes(one.down_frac.value)} minutes a month"
            f" ({_minutes(one.down_frac.low)} to {_minutes(one.down_frac.high)}), every"
            f" {one.every_h.value:,.0f} h ({one.every_h.low:,.0f} to {one.every_h.high:,.0f})"
            for one in found.replicas
        ]
        said = (
            f"Replicas and caches are not played as failing. A replica is supposed to be down: {_some(each)}."
        )
        show(wrapped(said, "  "))


def _share(band: Band) -> str:
    """A share near one, with as many digits as tell it from one."""
    least = min(1 - band.low, 1 - band.value) or 1 - band.low
    digits = 0 if least <= 0 else max(0, min(4, -math.floor(math.log10(max(least, 1e-6))) - 1))
    value, low, high = (f"{100 * x:.{digits}f}" for x in (band.value, band.low, band.high))
    return f"{value} % ({low} to {high})"


def _count(band: Band) -> str:
    return f"{band.value:,.0f} ({band.low:,.0f} to {band.high:,.0f})"


def _usd(band: Band) -> str:
    value, low, high = (round(x, 2) or 0.0 for x in (band.value, band.low, band.high))
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(value):,.2f} ({low:,.2f} to {high:,.2f})"


def _kinds(found: Failures) -> str:
    """Attempts that failed in the middle draw, by why."""
    said = [f"{count:,} {_KINDS[kind]}" for kind, count in found.kinds.items() if count and kind in _KINDS]
    return ", ".join(said) or "none"


def _when(band: Band | None) -> str:
    return "not known" if band is None else f"{band.value:.2f} s"


def _rates(found: Failures) -> str:
    """How often each API is taken to fail, and by what."""
    said: dict[str, list[str]] = {}
    for one in found.rates:
        errors = f"{one.deployment} {_percent(one.error_frac)}"
        if one.source == "measured":
            errors += f" of {one.calls:,}"
        if one.outage_frac:
            errors += f" and {_percent(one.outage_frac)} in incidents"
            errors += "" if one.outage_source == one.source else f" ({_WHENCE[one.outage_source]})"
        said.setdefault(one.source, []).append(errors)
    parts = [f"{_SOURCES[source]}: {_some(names)}" for source, names in said.items()]
    unnamed = sum(one.unnamed for one in found.rates)
    if unnamed:
        parts.append(f"{unnamed:,} failed calls name no model and are spread over these by their calls")
    return ". ".join(parts) + ". Draws are alike for every rule."


def _percent(frac: float) -> str:
    """Two figures of a small share."""
    return f"{100 * frac:.2g} %"


def _minutes(frac: float) -> str:
    """Minutes of a month, two figures where they are few."""
    minutes = frac * DAYS_PER_MONTH * SECONDS_PER_DAY / 60.0
    return f"{minutes:,.0f}" if minutes >= 10.0 else f"{minutes:.2g}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


MOST_NAMES = 4
_SOURCES: Mapping[str, str] = {
    "stated": "Calls that fail, as the plan states",
    "measured": "Calls that fail, as the log's own did",
    "published": "Calls that fail, as published for the provider or, without that, for any",
}
_WHENCE: Mapping[str, str] = {"stated": "stated", "measured": "the log's own", "published": "published"}
_KINDS: Mapping[str, str] = {
    "refused": "above a quota", "outage": "in incidents", "error": "errors", "hang": "without an answer",
    "cut": "too slow",
}  # fmt: skip
_FAILURE_ROWS: tuple[tuple[str, Callable[[Failures], str]], ...] = (
    ("requests answered", lambda way: _share(way.availability_frac)),
    ("lost", lambda way: _count(way.lost)),
    ("attempts that fail", lambda way: _count(way.failed)),
    ("of these, a middle draw", _kinds),
    ("added to the bill", lambda way: _usd(way.usd)),
    ("not billed, as lost", lambda way: _usd(way.unpaid_usd)),
    ("TTFT p95", lambda way: _when(way.ttft_p95_s)),
    ("E2E p95", lambda way: _when(way.e2e_p95_s)),
)
"""What is shown of a log whose APIs fail."""
_REFUSED = ("input", "output", "budget")
_STOPPED: Mapping[str, str] = {
    "input": "Refused, input too long: {requests} requests, whose first attempts would have cost ${usd}.",
    "output": "Refused, output too long: {requests} requests, whose first attempts would have cost ${usd}.",
    "budget": "Refused, budget spent: {requests} requests, whose first attempts would have cost ${usd}.",
    "trimmed": "Prompts cut to the limit: {requests}, by {tok} tokens in all, which saves ${usd}.",
    "capped": "Answers cut to the limit: {requests}, by {tok} tokens in all, which saves ${usd}.",
    "downgraded": "Sent to a cheaper model as the budget ran low: {requests} requests, ${usd} less.",
}


def _quality(found: Quality | None) -> str:
    """Mean and interval; a difference where the catalog's benchmarks are all that is known."""
    if found is None:
        return "not known"
    if found.source == "catalog" and found.low == found.high == 0.0:
        return "as today"
    scale, sign = 100.0, "+" if found.source == "catalog" else ""
    said = f"{found.mean * scale:{sign}.1f} ({found.low * scale:{sign}.1f} to {found.high * scale:{sign}.1f})"
    return f"{said} pt" if found.source == "catalog" else f"{said} %"


def _wait(way: Played, name: str) -> str:
    """A percentile over the requests whose times are known."""
    value: float | None = None if way.waiting is None else getattr(way.waiting, name)
    return "not known" if value is None else _seconds(value)


def _seconds(value: float) -> str:
    """A time; a look in a cache takes milliseconds."""
    return f"{value * 1000:.0f} ms" if 0.0 < value < 0.01 else f"{value:.2f} s"


def _known(way: Played) -> str:
    if way.waiting is None:
        return "-"
    return f"{percent(way.waiting.ttft_known_frac)}, {percent(way.waiting.e2e_known_frac)}"


_ROWS: tuple[tuple[str, Callable[[Played], str]], ...] = (
    ("cost", lambda way: f"${way.usd:,.2f}"),
    ("attempts a request", lambda way: f"{way.attempts_per_request:.2f}"),
    ("escalated", lambda way: percent(way.escalated_frac)),
    ("deferred to a batch", lambda way: f"{way.deferred:,}"),
    ("refused", lambda way: f"{sum(s.requests for s in way.stopped if s.why in _REFUSED):,}"),
    ("TTFT p50", lambda way: _wait(way, "ttft_p50_s")),
    ("TTFT p95", lambda way: _wait(way, "ttft_p95_s")),
    ("E2E p50", lambda way: _wait(way, "e2e_p50_s")),
    ("E2E p95", lambda way: _wait(way, "e2e_p95_s")),
    ("TTFT, E2E known of", _known),
    ("quality, 95 % interval", lambda way: _quality(way.quality)),
)
"""What is shown of each way that the log may go."""
