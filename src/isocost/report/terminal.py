"""What a plan says, for a terminal of 60 to 120 columns: verdict first, then why, then what to type next.

Text is ASCII but for what the result itself holds, so that it can be pasted anywhere. Colour only marks what
position already says: nothing is lost where it is off.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.plan.result import Limit, Line, OptionLine, PlanResult, Rate
from isocost.report.accounts import OPTIONS, PILLARS, brief
from isocost.units import count, money, money_range, percent, plural, span

INDENT = 2
MOST_UNPROVEN = 3
MOST_SWINGS = 3
MOST_NOTES = 4
MOST_WORKLOADS = 4
HOURS_FROM_S = 3600
WIDE = 100
"""Columns from which columns stand two apart and bars have their full size."""
WIDEST = 110
"""Columns from which the options' bands are shown."""

STATUSES: Mapping[str, str] = {"missed": "red", "unverified": "yellow", "held": "green"}
"""What becomes of a limit, worst first, and its colour."""


def render(result: PlanResult, width: int = 100, stale_days: float | None = None) -> Group:
    """The result as lines of at most ``width`` columns.

    ``stale_days`` is the age past which ``result.stale_facts`` counts a fact.
    """
    parts: list[RenderableType] = [_opening(result, width), *_verdict(result, width)]
    if result.verdict != "infeasible":
        parts += ["", _in(_lines(result, width))]
    if result.unproven:
        parts += ["", *_unproven(result, width)]
    parts += ["", *_limits(result, width)]
    if result.options:
        parts += ["", _in(_options(result, width)), *brief(result, width)]
    parts += ["", *_closing(result, width, stale_days)]
    return Group(*parts)


def _opening(result: PlanResult, width: int) -> Text:
    trace = result.trace
    over = span(round(trace.days) if trace.days >= 2 else trace.days)
    said = (
        f"{result.title} ({plural(trace.requests, 'request')} in {over}; a month:"
        f" {count(trace.requests_per_month)}"
        f" requests, {_mtok(trace.input_mtok_per_month)} in, {_mtok(trace.output_mtok_per_month)} out)"
    )
    today = trace.today if trace.today.startswith("today") else f"today {trace.today}"
    return _wrapped(f"{said}, {today}. Prices of {result.priced_on}.", width)


def _mtok(mtok: float) -> str:
    return f"{mtok:,.0f} Mtok" if mtok >= 10 else f"{mtok:.2g} Mtok"


def _verdict(result: PlanResult, width: int) -> list[RenderableType]:
    style = "bold red" if result.verdict == "infeasible" else "bold"
    headline = _wrapped(result.headline, width, INDENT, style)
    said: list[RenderableType] = [headline]
    if result.verdict != "infeasible":
        band = f"80% band {money_range(result.plan_usd.low, result.plan_usd.high)}"
        last = headline.plain.splitlines()[-1]
        gap = width - len(last) - len(band)
        if gap >= 3:
            headline.append(" " * gap + band)
        else:
            said.append(_wrapped(band, width, INDENT))
    if result.detail:
        said.append(_wrapped(result.detail, width, INDENT))
    if result.range is not None:
        said.append(_wrapped(result.range.text, width, INDENT))
    if result.at_least:
        text = "Part of today's usage has no known price: today's total is a lower bound."
        said.append(_wrapped(text, width, INDENT, "yellow"))
    return said


def _lines(result: PlanResult, width: int) -> Table:
    """The verdict's table: today, the plan, and what the plan is made of."""
    table = _table(width)
    table.add_column("", min_width=24, max_width=44)
    table.add_column("$/month", justify="right", no_wrap=True)
    table.add_column("TTFT p95", justify="right", no_wrap=True)
    table.add_column("quality evidence", min_width=16)
    table.add_column("share", justify="right", no_wrap=True)
    bar = 20 if width >= WIDEST else 10 if width >= WIDE else 6
    table.add_column("", no_wrap=True)
    cents = max((abs(line.usd_per_month) for line in result.lines), default=0.0) < 10
    today, plan = _option(result, "today"), _option(result, "mix")
    label = result.trace.today if result.trace.today.startswith("today") else f"today: {result.trace.today}"
    least = ">= " if result.at_least else ""
    ttft = "-" if today is None else _seconds(today.ttft_p95_s)
    table.add_row(
        today.label if today is not None and today.label else label,
        least + _usd(result.today_usd.mid, cents),
        ttft,
        "-",
        "100%",
        "",
    )
    table.add_row(
        Text("least-cost plan", "bold"),
        Text(_usd(result.plan_usd.mid, cents), "bold"),
        "-" if plan is None else _seconds(plan.ttft_p95_s),
        "-" if plan is None else plan.quality or "-",
        "",
        "",
    )
    most = max((line.share_frac for line in result.lines), default=1.0) or 1.0
    for line in result.lines:
        share = percent(line.share_frac) if line.share_frac > 0 else "-"
        drawn = "#" * max(1, round(bar * line.share_frac / most)) if line.share_frac > 0 else ""
        table.add_row(
            Padding(Text(line.label + _reads(line), overflow="fold"), (0, 0, 0, INDENT)),
            _usd(line.usd_per_month, cents),
            _seconds(line.ttft_p95_s),
            line.quality or "-",
            share,
            Text(drawn, "cyan"),
        )
    return table


def _reads(line: Line) -> str:
    """What a deployment counts on a prompt cache to read, beside the most that any could read."""
    if line.cached_frac is None:
        return ""
    bound = line.cache_bound_frac
    best = "bound not known" if bound is None else f"Belady bound {percent(bound)}"
    return f"\n(cache reads {percent(line.cached_frac)}; {best})"


def _unproven(result: PlanResult, width: int) -> list[RenderableType]:
    """What would be cheaper, and what it would take to allow it."""
    said: list[RenderableType] = [Text("  cheaper, unproven on your task:", "bold")]
    first = sorted(result.unproven, key=lambda one: -one.saves_usd_per_month)
    for one in first[:MOST_UNPROVEN]:
        text = f"{one.label} would save {money(one.saves_usd_per_month)} a month more: {one.evidence}"
        if one.samples_to_settle is not None:
            text += f"; {one.samples_to_settle:,} graded samples would settle it"
        said.append(_wrapped(text, width, 2 * INDENT))
    if len(first) > MOST_UNPROVEN:
        said.append(_wrapped(f"and {len(first) - MOST_UNPROVEN} more in the report", width, 2 * INDENT))
    return said


def _limits(result: PlanResult, width: int) -> list[RenderableType]:
    table = limit_rows(result.limits)
    if result.verdict == "infeasible":
        return [table]
    within = f"at most {percent(result.gap_frac)} above the least possible, {money(result.bound_usd)}"
    rounds = f"{result.rounds} round{'s' if result.rounds != 1 else ''} of replay"
    rates = [
        _labelled("rates" if i == 0 else "", text, width) for i, text in enumerate(rate_words(result.rates))
    ]
    return [table, *rates, _labelled("gap", f"{within}, given the capacities; {rounds}", width)]


def rate_words(rates: Sequence[Rate]) -> list[str]:
    """Limits a minute in words: those that bind or need a tier, a line each; the rest together."""
    said: list[str] = []
    unknown: list[str] = []
    shown: list[str] = []
    for rate in rates:
        name, unit = f"{rate.provider}/{rate.model}", f"{rate.meter} a minute"
        asked = f"{name} is asked for {count(rate.asked_per_min)} {unit} at its busiest"
        limit = "" if rate.limit_per_min is None else count(rate.limit_per_min)
        if rate.overflow_frac > 0:
            tier = f", tier {rate.tier}," if rate.tier else ""
            where = f"{percent(rate.overflow_frac)} overflows to {rate.overflow_to}"
            said.append(f"{name} is full at {limit} {unit}{tier} in {rate.overflow_h} hours a week: {where}")
        elif rate.status == "stated":
            said.append(f"{asked}, of the {limit} that your account has")
        elif rate.status == "within":
            paid = "" if rate.tier_from_usd is None else f", open from ${rate.tier_from_usd:,.0f} paid"
            tier = rate.tier if rate.tier.isalpha() else f"tier {rate.tier}"
            said.append(f"{asked}: {tier} needed ({limit}{paid})")
        else:
            (shown if rate.status == "shown" else unknown).append(f"{name} ({count(rate.asked_per_min)})")
    if shown:
        said.append(f"as the log shows them served, tokens at the busiest minute: {_first(shown)}")
    if unknown:
        said.append(
            f"limits not known, ask before you switch, tokens at the busiest minute: {_first(unknown)}"
        )
    much = [rate for rate in rates if rate.others_per_min is not None]
    if much and (band := much[0].others_per_min) is not None:
        name = _first([f"{rate.provider}/{rate.model}" for rate in much])
        most = f"{count(band.low)} to {count(band.high)} tokens a minute for four in five"
        text = "more than half of the limits that others publish at their highest tier"
        said.append(f"{name} is asked for {text} ({most}); it is taken to have none here")
    return said


def _first(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - MOST_WORKLOADS
    return ", ".join(names[:MOST_WORKLOADS]) + (f" and {more} more" if more > 0 else "")


def limit_rows(limits: Sequence[Limit]) -> Table:
    """Each limit, by what became of it and on what evidence; missed ones first."""
    groups: dict[tuple[str, str], dict[str, list[Limit]]] = {}
    for status in STATUSES:
        for limit in limits:
            if limit.status == status:
                targets = groups.setdefault((status, limit.evidence), {})
                targets.setdefault(_target(limit), []).append(limit)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=8)
    table.add_column(no_wrap=True)
    table.add_column()
    last = ""
    for (status, evidence), targets in groups.items():
        said = "; ".join(f"{target}: {_where(members)}" for target, members in targets.items())
        text = f"{said} ({evidence})" if evidence else said
        word = Text("" if status == last else status, STATUSES[status])
        table.add_row("" if last else "  limits", word, text)
        last = status
    if not groups:
        table.add_row("  limits", "none set", "--slo slo.toml states them")
    return table


def _where(members: Sequence[Limit]) -> str:
    """Workloads of one limit with what was found; of many, the largest."""
    if len(members) <= MOST_WORKLOADS:
        return ", ".join(_found(limit) for limit in members)
    known = [limit for limit in members if limit.found is not None]
    if not known:
        return f"{len(members)} workloads"
    return f"{len(members)} workloads, most {_found(max(known, key=lambda limit: limit.found or 0.0))}"


def _target(limit: Limit) -> str:
    name = limit.name.replace("ttft_", "TTFT ").replace("tpot_", "TPOT ").replace("e2e_", "end to end ")
    if limit.found is None and limit.target == 0:
        return f"{name} {limit.unit}".strip()
    sign = ">=" if limit.target < 0 or "lower" in limit.name else "<="
    return f"{name} {sign} {_amount(limit.target, limit.unit)}"


def _found(limit: Limit) -> str:
    if limit.found is None:
        return limit.workload
    seen = round(limit.found, 2 if limit.found >= 0.1 else 3)
    return f"{limit.workload} {_amount(seen, limit.unit)}"


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        if value >= HOURS_FROM_S:
            return f"{value / 3600:.1f} h"
        return f"{value:.3f}".rstrip("0").ljust(len(f"{value:.2f}"), "0") + " s"
    if unit in ("frac", "1"):
        return percent(value)
    return f"{value:,.4g} {unit}".strip()


def _options(result: PlanResult, width: int) -> Table:
    """Pillar by option: the best single deployment of each option, and the plan."""
    table = _table(width)
    table.add_column("all on one", min_width=11)
    table.add_column("", min_width=18, max_width=40)
    for head in ("$/month", *(word for _, word in PILLARS)):
        table.add_column(head, justify="right", no_wrap=True)
    if width >= WIDEST:
        table.add_column("80% band", justify="right", no_wrap=True)
    table.add_column("launch", justify="right", no_wrap=True)
    cents = max((line.usd_per_month.mid for line in result.options), default=0.0) < 10
    shown = [line for line in result.options if line.option in OPTIONS]
    for line in shown:
        style = "" if line.feasible else "dim"
        amounts = [line.usd_per_month.mid, *(line.by_pillar.get(pillar, 0.0) for pillar, _ in PILLARS)]
        priced = line.usd_per_month.mid > 0
        cells = [
            Text(OPTIONS[line.option]),
            Text(line.label.removeprefix("today: ") or "-", overflow="fold"),
            *(Text(_usd(amount, cents) if priced else "-") for amount in amounts),
        ]
        if width >= WIDEST:
            cells.append(Text(_band(line) if priced else "-"))
        launch = "-" if line.days_to_launch is None else f"{line.days_to_launch:,.0f} days"
        table.add_row(*cells, "now" if line.days_to_launch == 0 else launch, style=style)
    absent = [line for line in shown if not line.feasible]
    if absent:
        table.caption = "\n".join(
            textwrap.fill(
                f"{OPTIONS[line.option]}: ruled out, {line.why_not}",
                width - INDENT,
                subsequent_indent=" " * INDENT,
                break_on_hyphens=False,
            )
            for line in absent
        )
    return table


def _band(line: OptionLine) -> str:
    return f"{money(line.usd_per_month.low)} to {money(line.usd_per_month.high)}"


def _closing(result: PlanResult, width: int, stale_days: float | None) -> list[RenderableType]:
    said: list[RenderableType] = []
    if result.verdict != "infeasible" and result.full_usd_per_month != result.cash_usd_per_month:
        cash, full = money(result.cash_usd_per_month), money(result.full_usd_per_month)
        said.append(_labelled("cash", f"{cash} a month; {full} with what is already paid", width))
    swings = sorted(result.swings, key=lambda one: -abs(one.high_usd - one.low_usd))[:MOST_SWINGS]
    if swings:
        ranges = [f"{one.label} ({money_range(*sorted((one.low_usd, one.high_usd)))})" for one in swings]
        said.append(_wrapped(f"What matters most: {'; '.join(ranges)}.", width, INDENT))
    if result.facts:
        assumed = sum(fact.kind == "assumed" for fact in result.facts)
        old = f"older than {stale_days:.0f} days" if stale_days is not None else "due for a check"
        text = f"Rests on {plural(len(result.facts), 'fact')}: {result.stale_facts} {old}, {assumed} assumed."
        said.append(_wrapped(text, width, INDENT))
    for note in result.notes[:MOST_NOTES]:
        said.append(_wrapped(f"Note: {note}", width, INDENT, "dim"))
    if len(result.notes) > MOST_NOTES:
        said.append(Text(f"  {len(result.notes) - MOST_NOTES} more notes in the report", "dim"))
    for i, command in enumerate(result.next):
        said.append(Text(f"  {'Next:' if i == 0 else '     '} {command}"))
    return said


def _option(result: PlanResult, option: str) -> OptionLine | None:
    return next((line for line in result.options if line.option == option), None)


def _table(width: int) -> Table:
    return Table(
        box=None,
        pad_edge=False,
        padding=(0, 2 if width >= WIDE else 1, 0, 0),
        header_style="dim",
        caption_justify="left",
        caption_style="dim",
    )


def _labelled(label: str, text: str, width: int) -> Text:
    """A line of its own under a label of eight columns."""
    lines = textwrap.wrap(
        text,
        max(20, width),
        initial_indent=f"  {label:<8}",
        subsequent_indent=" " * 10,
        break_on_hyphens=False,
    )
    return Text("\n".join(lines))


def _in(renderable: RenderableType) -> Padding:
    return Padding(renderable, (0, 0, 0, INDENT), expand=False)


def _wrapped(text: str, width: int, indent: int = 0, style: str = "") -> Text:
    """Text broken at spaces, every line indented."""
    lead = " " * indent
    lines = textwrap.wrap(
        text, max(20, width), initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False
    )
    return Text("\n".join(lines), style)


def _usd(usd: float, cents: bool = False) -> str:
    """Dollars in a column: whole, or to the cent where the whole column is small."""
    if cents:
        return f"{usd:,.2f}"
    return "<1" if 0 < usd < 0.5 else f"{usd:,.0f}"


def _seconds(value_s: float | None) -> str:
    return "-" if value_s is None else f"{value_s:.2f} s"
