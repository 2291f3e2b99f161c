"""What a path says, for a terminal: the headline, the quarters, what is signed, how sure, what to measure."""

from __future__ import annotations

import textwrap

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.plan.path.result import PathResult, Step
from isocost.units import count, money, money_range, percent

INDENT = 2
RIVALS_MOST = 4
SURE_LEAST = 0.005


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
    if path.rivals:
        parts += ["", _line("keeping one way for the whole horizon", width, "bold")]
        parts.append(Padding(_rivals(path), (0, 0, 0, INDENT)))
    if path.cells:
        parts += ["", _line("who is cheapest, by volume and horizon (share of scenarios)", width, "bold")]
        parts.append(Padding(_cells(path), (0, 0, 0, INDENT)))
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
    table = _table(
        ("sign", False), ("accelerators", False), ("term", False), ("until", False), ("$/GPU-h", True),
        ("used", True),
    )  # fmt: skip
    for one in path.signings:
        when = "there already" if one.held else one.label
        table.add_row(
            when, f"{one.count}x {one.gpu}", one.term, one.until, f"{one.usd_per_gpu_h:.2f}",
            percent(one.used_frac),
        )  # fmt: skip
    return table


def _rivals(path: PathResult) -> Table:
    table = _table(
        ("", False), ("cost", True), ("80% band", True), ("cheapest in", True), ("cost of being wrong", True)
    )
    for one in path.rivals[:RIVALS_MOST]:
        known = one.usd is not None and one.band is not None
        table.add_row(
            one.way,
            money(one.usd) if known and one.usd is not None else "-",
            money_range(one.band.low, one.band.high) if one.band is not None else "-",
            percent(one.cheapest_frac) if one.cheapest_frac >= SURE_LEAST else "under 1%",
            money(one.regret_usd),
        )
    return table


def _cells(path: PathResult) -> Table:
    horizons = sorted({cell.months for cell in path.cells})
    volumes = sorted({cell.requests_per_month for cell in path.cells})
    at = {(cell.requests_per_month, cell.months): cell for cell in path.cells}
    table = _table(("requests/mo", True), *((f"{months} months", False) for months in horizons))
    for volume in volumes:
        cells = [at[volume, months] for months in horizons]
        table.add_row(count(volume), *(f"{cell.way} {percent(cell.frac)}" for cell in cells))
    return table
