"""One module a chart; each turns a ``PlanResult`` into a ``Chart``, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isocost.plan.path.result import PathResult
from isocost.plan.result import PlanResult
from isocost.report.chart import Absent, Chart
from isocost.report.charts.breakeven import breakeven
from isocost.report.charts.frontier import frontier
from isocost.report.charts.hours import hours
from isocost.report.charts.isoquant import isoquant
from isocost.report.charts.latency import latency
from isocost.report.charts.life import life
from isocost.report.charts.odds import cheapest, path_cheapest, turns
from isocost.report.charts.quarters import quarters
from isocost.report.charts.sensitivity import band, tornado
from isocost.report.charts.waterfall import waterfall

BUILDERS: Mapping[str, Callable[[PlanResult], Chart | Absent]] = {
    "isoquant": isoquant,
    "breakeven": breakeven,
    "turns": turns,
    "frontier": frontier,
    "latency": latency,
    "hours": hours,
    "waterfall": waterfall,
    "life": life,
    "tornado": tornado,
    "band": band,
    "cheapest": cheapest,
}
"""Every chart in reading order."""

AHEAD: Mapping[str, Callable[[PathResult, PlanResult], Chart | Absent]] = {
    "quarters": lambda path, _: quarters(path),
    "cheapest-way": lambda path, result: path_cheapest(path, result.trace.requests_per_month),
}
"""Charts of a path over a horizon, in reading order."""
