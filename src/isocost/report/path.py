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

from isocost.plan.path.result import Falling, Met, PathResult, Rival, Step
from isocost.plan.result import Band
from isocost.report.words import sure
from isocost.units import count, money, money_range, percent

INDENT = 2
RIVALS_MOST = 4
TODAY = "as today"
WIDE = 100
"""Columns from which the mean of scenarios has a column of its own."""
EVERY = 2
"""Of the volumes of the map, one in so many is printed."""
CLOSE_FRAC = 0.02
MEASURED_MOST = 5
SPILL_FRAC = 0.0005
"""Share of requests below which the hours of an API are not told."""
NAME_LEAST = 18
"""Columns of a way's name at least."""


def render(path: PathResult, width: int = 100) -> Group:
    """The path as lines of at most ``width`` columns."""
    parts: list[RenderableType] = ["", _line(path.headline, width, "bold")]
    band = f"80% band {money_range(path.band.low, path.band.high)}, of today's money"
    gap = f"at most {percent(path.gap_frac)} above the least of these ways"
    parts.append(_line(f"{band}; {gap}.", width))
    parts += ["", Padding(_steps(path), (0, 0, 0, INDENT))]
    if hours := _hours(path, width):
        parts += ["", _line("what goes to an API, and in which hours", width, "bold"), *hours]
    if changes := _changes(path, width):
        parts += ["", _line("what to do", width, "bold"), *changes]
    if path.met:
        parts += ["", _line("limits that growth meets", width, "bold")]
        parts += [_dated(one.since, _met(one), width) for one in path.met]
    if path.signings:
        parts += ["", _line("commitments", width, "bold"), Padding(_signings(path), (0, 0, 0, INDENT))]
    letters = _letters(path)
    if path.rivals:
        parts += ["", _line("keeping one way for the whole horizon", width, "bold")]
        parts.append(Padding(_rivals(path, letters, width), (0, 0, 0, INDENT)))
        said = "if wrong: what having chosen it costs above hindsight, in the mean of scenarios"
        parts.append(_line(f"{said}.{_expected(path)}{_broken_limits(path, letters)}", width))
        if path.falling is not None:
            parts.append(_line(_falling(path.falling, path.months, letters), width))
    if path.cells:
        title = "who is cheapest at a steady volume, launch included (share of scenarios)"
        parts += ["", _line(title, width, "bold"), Padding(_cells(path, letters), (0, 0, 0, INDENT))]
        if others := _others(path, letters):
            parts.append(_line(others, width))
    if first := _measure(path):
        parts += ["", _line("worth measuring first", width, "bold")]
        wide = max(len(amount) for amount, _ in first)
        parts += [_dated(f"{amount:>{wide}}", text, width) for amount, text in first]
    notes = list(path.notes)
    if path.week_error_frac is not None:
        notes.append(
            f"One week stands for each quarter: run on every hour of the first year, the path costs "
            f"{percent(abs(path.week_error_frac))} {'less' if path.week_error_frac > 0 else 'more'}."
        )
    parts.append("")
    parts += [_line(note, width) for note in notes]
    return Group(*parts)


def _met(one: Met) -> str:
    """A limit, what the path does instead, and what it costs."""
    cost = f"costs {money(one.usd)} over the horizon" if one.usd >= 1.0 else "costs nothing more"
    return f"{one.what}: {one.instead}; {cost}"


def _measure(path: PathResult) -> list[tuple[str, str]]:
    """What to measure first, most worth first: dollars, and what."""
    found = [(one.usd, money(one.usd), f"know {one.label}") for one in path.worths]
    for proof in path.proofs:
        saves = f"saves {money(proof.saves_usd)} if it passes"
        odds = (
            f"{sure(proof.odds)} likely by its published scores"
            if proof.odds is not None
            else "no published score says how likely"
        )
        grade = f"grade {proof.samples:,} answers of {proof.way} (about {money(proof.grading_usd)})"
        found.append((proof.worth_usd, money(proof.worth_usd), f"{grade}: {saves}, {odds}"))
    found.sort(key=lambda one: -one[0])
    return [(f"up to {amount}", text) for _, amount, text in found[:MEASURED_MOST]]


def _hours(path: PathResult, width: int) -> list[Text]:
    """The hours in which an API takes what replicas leave, a line for each run of quarters."""
    said = []
    for group in _alike(path.steps):
        first = group[0]
        if first.peak and first.api_hours and first.api_frac >= SPILL_FRAC:
            said.append(
                _dated(first.label, f"{percent(first.api_frac)} to {first.api}: {first.api_when}", width)
            )
    return said


def _dated(lead: str, text: str, width: int) -> Text:
    """A line with what begins it apart."""
    head = " " * INDENT + lead + "  "
    lines = textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    )
    return Text("\n".join(lines))


def _falling(one: Falling, months: int, letters: Mapping[str, str]) -> str:
    """What the same quality would cost, were it always bought where it is cheapest."""
    yearly = max(one.ratio, 1e-9) ** (-12.0 / months)
    band = money_range(one.band.low, one.band.high)
    return (
        f"Were {letters.get(one.way, one.way)}'s quality always bought from the cheapest model that has it, "
        f"each proven first, as such prices have fallen ({yearly:.1f}x a year, the median), APIs alone would "
        f"cost {money(one.usd)} ({band}): the path is cheaper in {sure(one.path_wins_frac)} of scenarios. "
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
            f" In that mean the path costs {money(path.mean_usd)}; {least.way} kept throughout costs "
            f"{money(least.mean_usd)}: dearer in the middle, surer."
        )
    return f" In that mean the path costs {money(path.mean_usd)}."


def _broken_limits(path: PathResult, letters: Mapping[str, str]) -> str:
    """Ways that break a limit when they are kept throughout."""
    said = [f"{letters[one.way]} is {one.why_not}" for one in _shown(path) if one.why_not]
    return f" {'; '.join(said)}." if said else ""


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
            "-" if not first.peak else f"{first.mean:.1f} (peak {first.peak})",
            "-" if not first.committed else str(first.committed),
            percent(first.api_frac) if first.api_hours else "-",
        )
    return table


def _changes(path: PathResult, width: int) -> list[Text]:
    """What is done when, a line each."""
    return [_dated(step.label, step.change, width) for step in path.steps if step.change]


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
    """The path, and each way that is kept throughout."""
    wide = width >= WIDE
    mean = [("mean", True)] if wide else []
    table = _table(
        ("", False), ("way", False), ("cost", True), *mean, ("80% band", True), ("cheapest", True),
        ("if wrong", True),
    )  # fmt: skip
    rows = [("", "the path", *_cost(path.usd, path.mean_usd, path.band, wide), "", "")]
    for one in _shown(path):
        cost = _cost(one.usd, one.mean_usd, one.band, wide)
        rows.append((letters[one.way], one.way, *cost, sure(one.cheapest_frac), money(one.regret_usd)))
    heads = [str(column.header) for column in table.columns[2:]]
    others = sum(2 + max(len(head), *(len(row[i + 2]) for row in rows)) for i, head in enumerate(heads))
    room = max(NAME_LEAST, width - INDENT - len("A  ") - others)
    for letter, name, *rest in rows:
        table.add_row(letter, _broken(name, room), *rest)
    return table


def _cost(usd: float | None, mean_usd: float, band: Band | None, wide: bool) -> list[str]:
    """What a way costs, in the middle, in the mean where there is room, and its band."""
    mean = [money(mean_usd)] if wide else []
    return [
        "-" if usd is None else money(usd), *mean,
        "-" if band is None else money_range(band.low, band.high),
    ]  # fmt: skip


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


def _shown(path: PathResult) -> list[Rival]:
    """The rivals that have a row: the cheapest, and staying as today."""
    first = path.rivals[:RIVALS_MOST]
    return first + [one for one in path.rivals[RIVALS_MOST:] if one.way == TODAY]


def _letters(path: PathResult) -> dict[str, str]:
    """A letter for each way that is shown."""
    ways = dict.fromkeys([one.way for one in _shown(path)] + [cell.way for cell in path.cells])
    return {way: ascii_uppercase[i % len(ascii_uppercase)] for i, way in enumerate(ways)}


def _cells(path: PathResult, letters: Mapping[str, str]) -> Table:
    horizons = sorted({cell.months for cell in path.cells})
    volumes = sorted({cell.requests_per_month for cell in path.cells})[::EVERY]
    at = {(cell.requests_per_month, cell.months): cell for cell in path.cells}
    table = _table(("requests/mo", True), *((f"{months} months", False) for months in horizons))
    for volume in volumes:
        cells = [at[volume, months] for months in horizons]
        table.add_row(count(volume), *(f"{letters[cell.way]}  {sure(cell.frac)}" for cell in cells))
    return table


def _others(path: PathResult, letters: Mapping[str, str]) -> str:
    """Ways that the map names and the table above it does not."""
    shown = {one.way for one in _shown(path)}
    volumes = set(sorted({cell.requests_per_month for cell in path.cells})[::EVERY])
    used = dict.fromkeys(cell.way for cell in path.cells if cell.requests_per_month in volumes)
    return "; ".join(f"{letters[way]} {way}" for way in used if way not in shown)
