"""Accounts, unit costs, margins and energy of a plan, for a terminal: in brief, and every account of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.plan.result import Account, Band, PlanResult, UnitCost
from isocost.report import words
from isocost.units import count, money, money_range, percent

OPTIONS: Mapping[str, str] = {
    "today": "today",
    "api": "API",
    "hosted": "hosted",
    "selfhost": "self-hosted",
    "slm": "small model",
    "mix": "the plan",
}
"""Options of the table of single deployments, as its first column names them."""
PILLARS = (("development", "development"), ("deployment", "deployment"), ("sustainability", "upkeep"))
"""Pillar id and the word that heads its column."""
INDENT = 2
LABEL = 11
"""Columns of a label at the start of a line."""
FEATURES = 4
"""Features that the brief names."""
UNSAID = "not stated"
"""How the reason begins why an amount is not known."""
BANDS = 96
"""Columns from which intervals are shown."""
SELDOM = 0.005
"""Share of scenarios below which nothing is said of them."""
LEAST = 0.5
"""Requests a month, and months, that round to none."""
SHORT = 30
"""Columns of an account's name in the table."""


def brief(result: PlanResult, width: int) -> list[RenderableType]:
    """A few lines under the table of pillars: an answer, who causes it, energy, and what is not counted."""
    said: list[RenderableType] = []
    if result.unit_costs is not None and result.verdict != "infeasible":
        said += _units(result, width)
    energy = _energy(result)
    if energy:
        said.append(_line("energy", energy, width))
    if result.accounts:
        said.append(_line("accounts", _counted(result.accounts), width))
    if result.margins:
        said += ["", Padding(_margins(result), (0, 0, 0, INDENT), expand=False)]
    return ["", *said] if said else []


def _units(result: PlanResult, width: int) -> list[RenderableType]:
    costs = result.unit_costs
    assert costs is not None
    moved = result.verdict == "switch"
    now = f", {words.each(costs.today_usd)} today" if moved else ""
    head = f"an answer costs {words.each(costs.plan_usd)}{' under the plan' if moved else ''}{now}"
    if costs.revenue_usd is not None:
        head += f" and brings {words.each(costs.revenue_usd)}"
    parts = [_of(one) for one in costs.features[:FEATURES] if one.name]
    if len(parts) > 1:
        rest = len([one for one in costs.features if one.name]) - len(parts)
        head += f"; {', '.join(parts)}{f' and {rest} more' if rest > 0 else ''}"
    said: list[RenderableType] = [_line("unit cost", f"{head}.", width)]
    if costs.customers_count > 1:
        mean = costs.plan_usd * costs.requests_per_month / costs.customers_count
        first = costs.customers[0]
        most = f"{first.name or 'nobody named'} {money(first.plan_usd)}"
        text = (
            f"{costs.customers_count:,}, at {money(mean)} a month on average; the dearest tenth cause "
            f"{percent(costs.top_tenth_frac)} of it, the dearest is {most}."
        )
        said.append(_line("customers", text, width))
    return said


def _of(one: UnitCost) -> str:
    each = words.each(one.plan_usd / one.requests_per_month)
    if one.revenue_usd is None:
        return f"{one.name} {each}"
    margin = percent(1.0 - one.plan_usd / one.revenue_usd) if one.revenue_usd > 0 else "no"
    return f"{one.name} {each} ({margin} margin)"


def _margins(result: PlanResult) -> Table:
    table = _table()
    table.add_column("price plan")
    for head in ("customers", "brings", "today", "margin", "the plan", "margin", "at a loss"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in result.margins:
        loss = f"{one.plan_at_a_loss:,}"
        if one.today_at_a_loss != one.plan_at_a_loss:
            loss = f"{one.today_at_a_loss:,} > {loss}"
        table.add_row(
            one.name, f"{one.customers:,}", money(one.revenue_usd), money(one.today_usd),
            _frac(one.today_margin_frac), money(one.plan_usd), _frac(one.plan_margin_frac), loss,
        )  # fmt: skip
    return table


def _frac(value: float) -> str:
    return percent(value) if value == value else "-"


def _energy(result: PlanResult) -> str:
    """Energy and carbon of today and of the plan, else of the best own replicas, with the boundary."""
    wanted = ("today", "mix") if result.verdict != "stay" else ("mix", "selfhost")
    shown = []
    boundaries: list[str] = []
    for one, energy in zip(result.options, result.energies, strict=False):
        if energy is None or one.option not in wanted:
            continue
        kg = energy.kg_co2e_per_month
        shown.append(
            f"{OPTIONS[one.option]} {amount(energy.kwh_per_month.mid)} kWh, {amount(kg.mid)} kg CO2e "
            f"({amount(kg.low)} to {amount(kg.high)})"
        )
        boundaries.append(energy.boundary)
    said = "; ".join(dict.fromkeys(boundaries))
    return f"a month: {'; '.join(shown)}. Counted: {said}." if shown else ""


def amount(value: float) -> str:
    """A quantity without its unit: whole from ten up, two digits below.

    >>> amount(2601.7), amount(0.0342)
    ('2,602', '0.034')
    """
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _counted(accounts: Sequence[Account]) -> str:
    """How many accounts have an amount in some option, are nil in all, or are not known."""
    booked = sum(any(one.usd_per_month) for one in accounts)
    unknown = [one for one in accounts if not any(one.usd_per_month) and _is_unknown(one)]
    nil = len(accounts) - booked - len(unknown)
    said = f"{booked} of {len(accounts)} have an amount, {nil} are nil"
    if unknown:
        names = ", ".join(_short(one) for one in unknown)
        said += f", {len(unknown)} not known ({names}: --keep keep.toml states them)"
    return f"{said}; --accounts shows each."


def _is_unknown(one: Account) -> bool:
    """Whether no option that has a deployment knows it."""
    return any(
        usd is None and why.startswith(UNSAID) for usd, why in zip(one.usd_per_month, one.why, strict=True)
    )


def every(result: PlanResult, width: int) -> list[RenderableType]:
    """Each account by option with pillars as sums; nil is 0, what is not known a dash, with the reasons."""
    table = _table()
    table.add_column("account, $/month", max_width=SHORT)
    for one in result.options:
        table.add_column(OPTIONS[one.option], justify="right", no_wrap=True)
    for pillar, word in PILLARS:
        table.add_row(
            Text(word, "bold"),
            *(
                Text(_usd(one.by_pillar.get(pillar, 0.0) if one.id else None), "bold")
                for one in result.options
            ),
        )
        for account in result.accounts:
            if account.pillar == pillar:
                table.add_row(f"  {_short(account)}", *(_usd(usd) for usd in account.usd_per_month))
    totals = (one.usd_per_month.mid if one.id else None for one in result.options)
    table.add_row(Text("all", "bold"), *(Text(_usd(usd), "bold") for usd in totals))
    said: list[RenderableType] = [Padding(table, (0, 0, 0, INDENT), expand=False), ""]
    reasons: dict[str, dict[str, list[str]]] = {}
    for account in result.accounts:
        for one, why in zip(result.options, account.why, strict=True):
            if why and one.id:
                reasons.setdefault(why, {}).setdefault(_short(account), []).append(OPTIONS[one.option])
    everyone = [OPTIONS[one.option] for one in result.options if one.id]
    for why, accounts in reasons.items():
        names = [
            name if options == everyone else f"{name} ({', '.join(options)})"
            for name, options in accounts.items()
        ]
        said.append(_line("-" if why.startswith(UNSAID) else "0", f"{', '.join(names)}: {why}.", width))
    return said


def over_life(result: PlanResult, width: int) -> list[RenderableType]:
    """The pillars of each way over a horizon, when each is ahead of today, and from which volume."""
    life = result.life
    if life is None:
        return []
    table = _table()
    table.add_column("all on one", no_wrap=True)
    for head in (f"{life.months} months", *(word for _, word in PILLARS), "an answer", "ahead"):
        table.add_column(head, justify="right", no_wrap=True)
    if width >= BANDS:
        table.add_column("80% band", justify="right", no_wrap=True)
    for one in life.lines:
        same = abs(one.usd.mid - life.lines[0].usd.mid) < 0.5
        ahead = "-" if same else when(one.ahead_months)
        cells = [money(one.usd.mid), *(money(one.by_pillar.get(pillar, 0.0)) for pillar, _ in PILLARS)]
        cells += [words.each(one.usd_per_request), ahead]
        if width >= BANDS:
            cells.append(money_range(one.usd.low, one.usd.high))
        table.add_row(OPTIONS[one.option], *cells, style="" if one.feasible else "dim")
    head = (
        f"the three pillars over {life.months} months: today's money, development paid once, ahead of today"
    )
    said: list[RenderableType] = [
        "",
        Text(textwrap.fill(head, width, initial_indent="  ", subsequent_indent="  ")),
        Padding(table, (0, 0, 0, INDENT), expand=False),
    ]
    said += [_line("break-even", f"{text}.", width) for text in break_evens(result)]
    return said


def break_evens(result: PlanResult) -> list[str]:
    """From which volume, and after how many months, what takes an outlay costs less; a clause each."""
    turns = result.sure.turns if result.sure is not None else []
    found = []
    for turn in turns:
        volume, back = turn.requests_per_month, turn.payback_months
        if turn.option not in ("mix", "selfhost", "slm") or volume is None:
            continue
        over = "today" if turn.option == "mix" else "the plan"
        since = f"from {_band(volume)} requests a month" if volume.high >= LEAST else "at any volume"
        text = f"{OPTIONS[turn.option]} costs less than {over} {since}"
        if back is not None and back.high < LEAST:
            text += "; at today's volume what it takes is paid back within days"
        elif back is not None:
            text += f"; at today's volume what it takes is paid back in {_band(back)} months"
        if turn.never_frac >= SELDOM:
            text += f"; in {percent(turn.never_frac)} of scenarios at no volume that was looked at"
        found.append(text)
    return found


def when(months: float | None) -> str:
    """When a way is ahead of today.

    >>> when(None), when(0.0), when(28.46)
    ('never', 'at once', 'month 28.5')
    """
    if months is None:
        return "never"
    return "at once" if months == 0 else f"month {months:.1f}"


def _band(one: Band) -> str:
    return f"{count(one.mid)} ({count(one.low)} to {count(one.high)})"


def _short(account: Account) -> str:
    """An account in a word or two: its name in the chart."""
    return account.id.replace("-", " ").replace("api", "API")


def _usd(usd: float | None) -> str:
    if usd is None:
        return "-"
    return "<1" if 0 < usd < 0.5 else f"{usd:,.0f}"


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")


def _line(label: str, text: str, width: int) -> Text:
    lines = textwrap.wrap(
        text,
        max(20, width),
        initial_indent=f"  {label:<{LABEL}}",
        subsequent_indent=" " * (LABEL + 2),
        break_on_hyphens=False,
    )
    return Text("\n".join(lines))
