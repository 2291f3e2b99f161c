"""What a path says, for a terminal: the headline, the quarters, what is signed, how sure, what to measure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from string import ascii_uppercase

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.plan.path.result import Falling, PathResult, Step
from isocost.units import count, money, money_range, percent

INDENT = 2
RIVALS_MOST = 4
SURE_LEAST = 0.005
EVERY = 2
"""Of the volumes of the map, one in so many is printed."""
CLOSE_FRAC = 0.02
NAME_LEAST = 18
"""Columns of a way's name at least."""


def render(path: PathResult, width: int = 100) -> Group:
    """The path as lines of at most ``width`` columns."""
    parts: list[RenderableType] = ["", _line(path.headline, width, "bold")]
    band = f"80% band {money_range(path.band.low, path.band.high)}, of today's money"
    gap = f"at most {percent(path.gap_frac)} above the least of these ways"
    parts.append(_line(f"{band}; {gap}.", width))
    parts += ["", Padding(_steps(path), (0, 0, 0, INDENT))]
    changes = _changes(path, width)
    if changes:
        parts += ["", _line("what to do", width, "bold"), *changes]
    if path.signings:
        parts += ["", _line("commitments", width, "bold"), Padding(_signings(path), (0, 0, 0, INDENT))]
    letters = _letters(path)
    if path.rivals:
        parts += ["", _line("keeping one way for the whole horizon", width, "bold")]
        parts.append(Padding(_rivals(path, letters, width), (0, 0, 0, INDENT)))
        said = "if wrong: what having chosen it costs above hindsight, in the mean of scenarios"
        parts.append(_line(f"{said}.{_expected(path)}", width))
        if path.falling is not None:
            parts.append(_line(_falling(path.falling, path.months, letters), width))
    if path.cells:
        title = "who is cheapest at a steady volume, launch included (share of scenarios)"
        parts += ["", _line(title, width, "bold"), Padding(_cells(path, letters), (0, 0, 0, INDENT))]
        if others := _others(path, letters):
            parts.append(_line(others, width))
    if path.worths:
        parts += ["", _line("worth measuring first", width, "bold")]
        for one in path.worths:
            parts.append(_line(f"{one.label}: knowing it is worth up to {money(one.usd)}", width, indent=4))
    notes = list(path.notes)
    if path.week_error_frac is not None:
        notes.append(
            f"One week stands for each quarter: run on every hour of the first year, the path costs "
            f"{percent(abs(path.week_error_frac))} {'less' if path.week_error_frac > 0 else 'more'}."
        )
    parts.append("")
    parts += [_line(note, width) for note in notes]
    return Group(*parts)


def _falling(one: Falling, months: int, letters: Mapping[str, str]) -> str:
    """What the same quality would cost, were it always bought where it is cheapest."""
    yearly = max(one.ratio, 1e-9) ** (-12.0 / months)
    band = money_range(one.band.low, one.band.high)
    return (
        f"Were {letters.get(one.way, one.way)}'s quality always bought from the cheapest model that has it, "
        f"each proven first, as such prices have fallen ({yearly:.1f}x a year, the median), APIs alone would "
        f"cost {money(one.usd)} ({band}): the path is cheaper in {percent(one.path_wins_frac)} of scenarios. "
        "Own replicas would gain from such models too; a long commitment bets on one."
    )


def _expected(path: PathResult) -> str:
    """Whether the path is also the least in the mean: its middle prices may hide a long tail."""
    kept = [one for one in path.rivals if one.usd is not None]
    if not kept:
        return ""
    least = min(kept, key=lambda one: one.mean_usd)
    if least.mean_usd < path.mean_usd * (1.0 - CLOSE_FRAC):
        return (
            f" The path costs {money(path.mean_usd)} in the mean; {least.way} kept throughout costs "
            f"{money(least.mean_usd)}: dearer in the middle, surer."
        )
    return f" The path itself: {money(path.mean_usd)} in the mean."


def _line(text: str, width: int, style: str = "", indent: int = INDENT) -> Text:
    lead = " " * indent
    lines = textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)
    return Text("\n".join(lines), style)


def _table(*heads: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for head, right in heads:
        table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _steps(path: PathResult) -> Table:
    """Quarters; those alike in all but volume stand in one row."""
    table = _table(
        ("from", False), ("requests/mo", True), ("$/month", True), ("replicas", True), ("signed", True),
        ("to an API", True),
    )  # fmt: skip
    for group in _alike(path.steps):
        first, last = group[0], group[-1]
        many = len(group) > 1
        table.add_row(
            Text(first.label, no_wrap=True),
            f"{count(first.requests_per_month)}" + (f"-{count(last.requests_per_month)}" if many else ""),
            f"{money(first.usd_per_month)}" + (f"-{money(last.usd_per_month)}" if many else ""),
            "-" if not first.peak else f"{first.mean:.1f}, peak {first.peak}",
            "-" if not first.committed else str(first.committed),
            _to_api(first),
        )
    return table


def _to_api(step: Step) -> str:
    if not step.peak:
        return percent(step.api_frac)
    return "-" if not step.api_hours else f"{percent(step.api_frac)}, {step.api_hours} h a week"


def _changes(path: PathResult, width: int) -> list[Text]:
    """What is done when, a line each."""
    said = []
    for step in path.steps:
        if step.change:
            lead = " " * INDENT + f"{step.label}  "
            rest = " " * len(lead)
            lines = textwrap.wrap(
                step.change, width, initial_indent=lead, subsequent_indent=rest, break_on_hyphens=False
            )
            said.append(Text("\n".join(lines)))
    return said


def _alike(steps: list[Step]) -> list[list[Step]]:
    """Runs of quarters in which nothing changes but volume, and no replica is signed or peak moves."""
    groups: list[list[Step]] = []
    for step in steps:
        last = groups[-1][-1] if groups else None
        same = (
            last is not None
            and not step.change
            and (step.way, step.committed, step.peak) == (last.way, last.committed, last.peak)
        )
        if same:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def _signings(path: PathResult) -> Table:
    owed = any(one.beyond_usd for one in path.signings)
    table = _table(
        ("sign", False), ("accelerators", False), ("term", False), ("until", False), ("$/GPU-h", True),
        ("used", True), *((("owed after", True),) if owed else ()),
    )  # fmt: skip
    for one in path.signings:
        when = "there already" if one.held else one.label
        table.add_row(
            when, f"{one.count}x {one.gpu}", one.term, one.until, f"{one.usd_per_gpu_h:.2f}",
            percent(one.used_frac), *((money(one.beyond_usd) if one.beyond_usd else "-",) if owed else ()),
        )  # fmt: skip
    return table


def _rivals(path: PathResult, letters: Mapping[str, str], width: int) -> Table:
    table = _table(
        ("", False), ("way", False), ("cost", True), ("mean", True), ("80% band", True), ("cheapest", True),
        ("if wrong", True),
    )  # fmt: skip
    rows = []
    for one in path.rivals[:RIVALS_MOST]:
        known = one.usd is not None and one.band is not None
        rows.append(
            (
                money(one.usd) if known and one.usd is not None else "-",
                money(one.mean_usd),
                money_range(one.band.low, one.band.high) if one.band is not None else "-",
                percent(one.cheapest_frac) if one.cheapest_frac >= SURE_LEAST else "under 1%",
                money(one.regret_usd),
            )
        )
    heads = [str(column.header) for column in table.columns[2:]]
    others = sum(2 + max(len(head), *(len(row[i]) for row in rows)) for i, head in enumerate(heads))
    room = max(NAME_LEAST, width - INDENT - len("A  ") - others)
    for one, row in zip(path.rivals, rows, strict=False):
        table.add_row(letters[one.way], _broken(one.way, room), *row)
    return table


def _broken(name: str, width: int) -> str:
    """A name on lines of a width, broken after a blank or a slash where it can be.

    >>> _broken("novita/deepseek/deepseek_v3 (batch)", 20)
    'novita/deepseek/\\ndeepseek_v3 (batch)'
    """
    lines = [""]
    for piece in re.findall(rf"[^ /]{{0,{width - 1}}}[ /]?", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _letters(path: PathResult) -> dict[str, str]:
    """A letter for each way that is shown."""
    ways = dict.fromkeys([one.way for one in path.rivals[:RIVALS_MOST]] + [cell.way for cell in path.cells])
    return {way: ascii_uppercase[i % len(ascii_uppercase)] for i, way in enumerate(ways)}


def _cells(path: PathResult, letters: Mapping[str, str]) -> Table:
    horizons = sorted({cell.months for cell in path.cells})
    volumes = sorted({cell.requests_per_month for cell in path.cells})[::EVERY]
    at = {(cell.requests_per_month, cell.months): cell for cell in path.cells}
    table = _table(("requests/mo", True), *((f"{months} months", False) for months in horizons))
    for volume in volumes:
        cells = [at[volume, months] for months in horizons]
        table.add_row(count(volume), *(f"{letters[cell.way]}  {percent(cell.frac)}" for cell in cells))
    return table


def _others(path: PathResult, letters: Mapping[str, str]) -> str:
    """Ways that the map names and the table above it does not."""
    shown = {one.way for one in path.rivals[:RIVALS_MOST]}
    volumes = set(sorted({cell.requests_per_month for cell in path.cells})[::EVERY])
    used = dict.fromkeys(cell.way for cell in path.cells if cell.requests_per_month in volumes)
    return "; ".join(f"{letters[way]} {way}" for way in used if way not in shown)
