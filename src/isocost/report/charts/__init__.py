"""One module a chart; each turns a ``PlanResult`` into a ``Chart``, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isocost.plan.result import PlanResult
from isocost.report.chart import Absent, Chart
from isocost.report.charts.breakeven import breakeven
from isocost.report.charts.frontier import frontier
from isocost.report.charts.hours import hours
from isocost.report.charts.isoquant import isoquant
from isocost.report.charts.sensitivity import band, tornado
from isocost.report.charts.waterfall import waterfall

BUILDERS: Mapping[str, Callable[[PlanResult], Chart | Absent]] = {
    "isoquant": isoquant,
    "breakeven": breakeven,
    "frontier": frontier,
    "hours": hours,
    "waterfall": waterfall,
    "tornado": tornado,
    "band": band,
}
"""Every chart in reading order."""
