"""A memo as one page, in Markdown and as plain text: the same parts in the order that a meeting asks."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isocost.plan.memo.result import OPTIONS, Assumed, Cell, Memo, OptionRow, sentence
from isocost.report.words import DASH, listed
from isocost.units import count, money, money_range, percent

UNPROVEN = "†"
"""Marks a cost that the quality evidence does not allow yet."""
SAME = "same model"
"""The evidence of the model that quality is held to."""
CHEAPEST = "*"
"""Marks the least cost in plain text, where nothing is bold."""
PILLARS = ("development", "deployment", "sustainability")
ACCOUNTS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("tokens", ("api-tokens",)),
    ("accelerators at work", ("inference-compute",)),
    ("idle and spare ones", ("idle-compute", "redundancy")),
    ("people who run it", ("operations-staff",)),
)
"""Accounts that are shown by name, in words."""
SHORT: Mapping[str, str] = {
    "today": "today",
    "api": "closed API",
    "hosted": "open, by API",
    "selfhost": "own replicas",
    "slm": "own small",
    "mix": "own + API",
}
"""Options as column heads."""
MARGIN = 2
WHOLE_USD = 100
"""Dollars a month below which no cents are shown."""


class Table(NamedTuple):
    """Heads and rows of text; the first column is left-aligned, the others right."""

    heads: list[str]
    rows: list[list[str]]


class Part(NamedTuple):
    """A part of the page: a title, then a table or lines, then a line below."""

    title: str
    table: Table | None
    lines: list[str]
    below: list[str]


def markdown(memo: Memo) -> str:
    """The memo as a Markdown page."""
    lines = [f"# {memo.title}", "", f"**{memo.headline}**", "", subtitle(memo)]
    for part in parts(memo, bold="**"):
        lines += ["", f"## {part.title}", ""]
        if part.table is not None:
            heads = part.table.heads
            lines.append(f"| {' | '.join(heads)} |")
            lines.append(f"|---|{'---:|' * (len(heads) - 1)}")
            lines += [f"| {' | '.join(row)} |" for row in part.table.rows]
        if part.table is not None and (part.lines or part.below):
            lines.append("")
        lines += [f"- {line}" for line in part.lines]
        if part.lines and part.below:
            lines.append("")
        lines += part.below
    return "\n".join(lines) + "\n"


def text(memo: Memo, width: int = 100) -> str:
    """The memo as plain text of at most ``width`` columns; a table that is wider keeps its own width."""
    lines = [memo.title, *_wrapped(memo.headline, width), *_wrapped(subtitle(memo), width)]
    for part in parts(memo, bold=CHEAPEST):
        lines += ["", part.title]
        if part.table is not None:
            lines += _aligned(part.table, width)
        for line in part.lines:
            lines += _wrapped(line, width, first="  - ", rest="    ")
        for line in part.below:
            lines += _wrapped(line, width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def subtitle(memo: Memo) -> str:
    """What the figures are: dollars of which day, and whose quality is kept."""
    kept = f"today's {memo.now}" if memo.now else memo.reference
    return (
        f"US dollars a month at prices of {memo.priced_on}, people and launch included. Allowed are models "
        f"proven not worse than {kept}; {UNPROVEN} marks the others."
    )


def parts(memo: Memo, bold: str) -> list[Part]:
    """The page's parts in reading order; ``bold`` goes around the least cost."""
    return [
        _by_volume(memo, bold),
        _by_pillar(memo),
        _wires(memo),
        _wrong(memo),
        _rests(memo),
    ]


def _by_volume(memo: Memo, bold: str) -> Part:
    rows = []
    for i, verdict in enumerate(memo.verdicts):
        cells = [_cost(row.cells[i], row.option == verdict.option, bold) for row in memo.options]
        band = money_range(verdict.usd_per_month.low, verdict.usd_per_month.high)
        sure = DASH if verdict.sure_frac is None else percent(verdict.sure_frac)
        rows.append([count(verdict.requests_per_month), *cells, band, sure])
    heads = ["requests", *(SHORT[row.option] for row in memo.options), "80% band of least", "sure"]
    key = [f"{sentence(OPTIONS[row.option])}: {_who(row)}." for row in memo.options]
    marks = "**bold**" if bold == "**" else f"{bold}"
    below = [f"Least cost is {marks}; sure: share of scenarios in which it beats the next allowed option."]
    return Part("Verdict by volume", Table(heads, rows), key, below)


def _cost(cell: Cell | None, least: bool, bold: str) -> str:
    if cell is None:
        return DASH
    amount = money(cell.usd_per_month.mid)
    if not cell.feasible:
        return f"{amount}{UNPROVEN}"
    if not least:
        return amount
    return f"{bold}{amount}{bold}" if bold == "**" else f"{bold}{amount}"


def _who(row: OptionRow) -> str:
    """Which deployments stand behind an option's row, and what its evidence is."""
    cells = [cell for cell in row.cells if cell is not None]
    if not cells:
        return row.why_not
    names = listed(list(dict.fromkeys(cell.label for cell in cells)))
    doubt = next((cell.why_not for cell in cells if not cell.feasible), "")
    same = row.quality == SAME
    proof = (
        f"{UNPROVEN} not proven ({doubt.removeprefix('quality: ')})" if doubt else "" if same else row.quality
    )
    return f"{names}; {proof}" if proof else names


def _by_pillar(memo: Memo) -> Part:
    middle = len(memo.volumes) // 2
    shown = [row for row in memo.options if row.cells[middle] is not None]
    rows = []
    for pillar in PILLARS:
        rows.append([pillar, *(_amount(row.by_pillar.get(pillar, 0.0)) for row in shown)])
        for words, accounts in ACCOUNTS if pillar == "deployment" else ():
            sums = [sum(row.by_account.get(account, 0.0) for account in accounts) for row in shown]
            rows.append([f"· {words}", *(_amount(total) for total in sums)])
    rows.append(["total", *(_amount(sum(row.by_pillar.values())) for row in shown)])
    rows.append(["days to launch", *(_days(row) for row in shown)])
    rows.append(
        ["launch, once", *(DASH if row.launch_usd is None else money(row.launch_usd) for row in shown)]
    )
    heads = ["", *(SHORT[row.option] for row in shown)]
    title = f"Options by pillar and time to launch, at {count(memo.volumes[middle])} requests a month"
    return Part(title, Table(heads, rows), [], [])


def _amount(usd: float) -> str:
    return "-" if not usd else f"${usd:.0f}" if usd < WHOLE_USD else money(usd)


def _days(row: OptionRow) -> str:
    band = row.days_to_launch
    if band is None:
        return "0" if row.option == "today" else DASH
    return f"{band.mid:.0f} ({band.low:.0f} to {band.high:.0f})"


def _wires(memo: Memo) -> Part:
    lines = [wire.text for wire in memo.tripwires]
    return Part("Trip-wires", None, lines or ["None within 64 times the range."], [])


def _wrong(memo: Memo) -> Part:
    ends = (0, len(memo.volumes) // 2, -1)
    rows = []
    for regret in memo.regrets:
        cells = [
            DASH if usd is None else _over(usd, away)
            for usd, away in zip(regret.usd_per_month, regret.days_to_switch, strict=True)
        ]
        held = f", {regret.reserved} reserved" if regret.reserved else ""
        rows.append([f"{SHORT[regret.option]}{held}", *cells])
    heads = ["chosen for the middle", *(f"if {count(memo.volumes[i])}" for i in ends)]
    below = ["Dollars a month above the best at that volume, until switched (days that takes)."]
    return Part("Cost of being wrong about volume", Table(heads, rows), [], below)


def _over(usd: float, away: float | None) -> str:
    if usd < 0.5:
        return "-"
    return f"+{money(usd)} ({DASH if away is None else f'{away:.0f}'} d)"


def _rests(memo: Memo) -> Part:
    stated = "; ".join(f"{_name(fact)} {_value(fact)} [{fact.source}]" for fact in memo.assumed)
    carry = "; ".join(f"{_name(fact)} {_value(fact)} [{fact.source}]" for fact in memo.facts)
    lines = [f"In place of a log: {stated}."]
    if carry:
        lines.append(f"Most money rests on: {carry}.")
    show = "isocost catalog show NAME says why. Put in your own numbers with --facts DIR, or plan a log."
    show += f" Made by isocost {memo.version} with facts {memo.price_basis}."
    return Part("What was assumed", None, [*lines, *memo.notes, show], [])


def _name(fact: Assumed) -> str:
    return fact.id.split("@")[0]


def _value(fact: Assumed) -> str:
    unit = "" if fact.unit in ("", "1") else f" {fact.unit}"
    if fact.low is None or fact.high is None:
        return f"{fact.value}{unit}"
    return f"{fact.value}{unit} ({fact.low:g} to {fact.high:g})"


def _wrapped(line: str, width: int, first: str = " " * MARGIN, rest: str = " " * MARGIN) -> list[str]:
    return textwrap.wrap(line, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _aligned(table: Table, width: int) -> list[str]:
    """The table's lines, with two blanks between columns, one where they would not fit."""
    rows = [table.heads, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.heads))]
    gap = "  " if MARGIN + sum(widths) + 2 * (len(widths) - 1) <= width else " "
    return [
        " " * MARGIN
        + gap.join(cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row))
        for row in rows
    ]
