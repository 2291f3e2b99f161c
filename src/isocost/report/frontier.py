"""Frontiers as a terminal shows them: what each point costs, how good it is and how soon it answers."""

from __future__ import annotations

import textwrap

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.plan.result import FrontierPoint, PlanResult
from isocost.report.chart import Chart
from isocost.report.charts.frontier import frontier as quality_chart
from isocost.report.charts.latency import latency as latency_chart
from isocost.report.charts.latency import short_s

INDENT = 2
MOST = 16
"""Rows: today, the plan, what is on a frontier, then the cheapest of the rest."""
WIDE = 100


def render(result: PlanResult, width: int = 100) -> Group:
    """The two frontiers' findings, a table of points by cost, and how to read it."""
    charts = (quality_chart(result), latency_chart(result))
    found = [chart.title for chart in charts if isinstance(chart, Chart)]
    parts: list[RenderableType] = ["", _line("cost against quality and latency", width, "bold")]
    parts += [_line(f"{title}.", width) for title in found]
    shown = _shown(result.frontier)
    parts += ["", Padding(_table(shown, width), (0, 0, 0, INDENT))]
    left = len(result.frontier) - len(shown)
    more = f" {left} more are in the report." if left else ""
    parts.append(
        _line(
            "best: no other is cheaper and as good (q: quality, in points beside today's model; f: first "
            "token; t: time per token); only what is proven beats what is proven. ?: not proven. ~: not seen "
            f"on this trace.{more}",
            width,
        )
    )
    return Group(*parts)


def _shown(points: list[FrontierPoint]) -> list[FrontierPoint]:
    first = [p for p in points if p.option in ("today", "mix") or _best(p)]
    rest = sorted((p for p in points if p not in first), key=lambda p: (not p.proven, p.usd_per_month, p.id))
    return sorted([*first, *rest[: max(0, MOST - len(first))]], key=lambda p: (p.usd_per_month, p.id))


def _best(p: FrontierPoint) -> str:
    """The planes in which nothing beats it."""
    planes = (
        ("q", not p.dominated and p.quality_diff_points is not None),
        ("f", not p.slow and p.ttft_p95_s is not None),
        ("t", not p.halting and p.tpot_p95_s is not None),
    )
    return " ".join(name for name, on in planes if on)


def _table(points: list[FrontierPoint], width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), header_style="dim")
    table.add_column("", min_width=22, max_width=52, overflow="fold")
    for head in ("$/month", "quality", "TTFT p95", "TPOT p95"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("best", no_wrap=True)
    for p in points:
        bold = "bold" if p.option == "mix" else ""
        table.add_row(
            Text(p.label if p.proven else f"? {p.label}", bold),
            Text(f"{p.usd_per_month:,.0f}", bold), _points(p.quality_diff_points),
            _latency(p.ttft_p95_s, p.ttft_bound), _latency(p.tpot_p95_s, p.tpot_bound), _best(p) or "-",
            style="" if p.proven else "dim",
        )  # fmt: skip
    return table


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}" if value else "0"


def _latency(value: float | None, bound: bool) -> str:
    return "-" if value is None else f"{'~' if bound else ''}{short_s(value)}"


def _line(text: str, width: int, style: str = "") -> Text:
    lead = " " * INDENT
    lines = textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)
    return Text("\n".join(lines), style)
