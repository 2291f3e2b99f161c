"""Cost against quality, both on this trace: what is dominated, what is not yet proven."""

from __future__ import annotations

import math

from isocost.plan.result import FrontierPoint, PlanResult
from isocost.report import words
from isocost.report.chart import WIDTH, Absent, Chart, Spec, Table, brief, framed
from isocost.report.charts.points import costs_across, costs_axis, labels, marks, place, placed, row, standing
from isocost.report.palette import var

_HEIGHT = 330


def frontier(result: PlanResult) -> Chart | Absent:
    """Deployments that could carry all the traffic: $ a month against quality beside today's."""
    found = [p for p in result.frontier if math.isfinite(p.usd_per_month)]
    if not found:
        return Absent("No deployment that could carry all the traffic was priced.")
    return Chart(
        title=_title(result, found),
        subtitle=(
            "$ a month for all of this traffic against quality, in points beside today's model (whisker down "
            "to the one-sided 95% lower bound). Filled: proven. Diamond, dashed: not proven. "
            "Hollow: dominated."
        ),
        spec=_spec(found),
        table=Table(
            ["Deployment", "$ a month", "Quality beside today", "Lower bound", "TTFT p95", "Standing"],
            [
                [
                    p.label,
                    words.usd(p.usd_per_month),
                    words.points(p.quality_diff_points),
                    words.points(p.quality_low_points),
                    words.seconds(p.ttft_p95_s),
                    standing(p, p.dominated),
                ]
                for p in sorted(found, key=lambda p: (p.usd_per_month, p.id))
            ],
            [False, True, True, True, True, False],
            "A dash is unknown: no benchmark in common with today's model. Names that would overlap are "
            "left to this table.",
        ),
    )


def _title(result: PlanResult, found: list[FrontierPoint]) -> str:
    today, plan = result.today_usd.mid, result.plan_usd.mid
    proven = [p for p in found if p.proven and p.option not in ("today", "mix") and p.usd_per_month < today]
    best = min(proven, key=lambda p: (p.usd_per_month, p.id), default=None)
    most = today
    if best is not None:
        cost, most = words.usd_short(best.usd_per_month), best.usd_per_month
        text = f"{brief(best.label, 60)} is the cheapest proven single choice, {cost} a month"
    elif result.verdict != "infeasible" and plan < today:
        most = plan
        text = f"Nothing that is proven costs less than the plan, {words.usd_short(plan)} a month"
    else:
        text = "No single choice is both proven and cheaper than today"
    hopes = [p for p in found if not p.proven and p.usd_per_month < most]
    if hopes:
        n = len(hopes)
        text += f"; {n} cheaper {'ones are' if n > 1 else 'one is'} not proven on this task"
    return text


def _spec(found: list[FrontierPoint]) -> Spec:
    log, x_lo, x_hi = costs_axis(found)
    known = [p for p in found if p.quality_diff_points is not None]
    ends = [q for p in known for q in (p.quality_diff_points, p.quality_low_points) if q is not None]
    y_lo, y_hi = min([0.0, *ends]), max([0.0, *ends])
    pad = max(0.12 * (y_hi - y_lo), 0.5)
    y_lo, y_hi = y_lo - pad, y_hi + pad
    width = WIDTH - 60.0

    def across(usd: float) -> float:
        return place(usd, x_lo, x_hi, width, log)

    def down(quality: float) -> float:
        return _HEIGHT * (y_hi - quality) / (y_hi - y_lo)

    x = costs_across(log, x_lo, x_hi)
    x_title = "$ a month for all the traffic" + (" (log)" if log else "")
    y = {
        "field": "value",
        "type": "quantitative",
        "title": "Quality beside today, points",
        "scale": {"domain": [y_lo, y_hi], "nice": False},
        "axis": {"labelExpr": "datum.value == 0 ? '0' : format(datum.value, '+.2~f')", "tickCount": 6},
    }
    at = {p.id: (across(p.usd_per_month), down(p.quality_diff_points or 0.0)) for p in known}
    walls = [(0.0, down(0) - 1, width, down(0) + 1)]
    for p in known:
        if p.quality_diff_points is not None and p.quality_low_points is not None:
            at_x = across(p.usd_per_month)
            walls.append((at_x - 2, down(p.quality_diff_points), at_x + 2, down(p.quality_low_points)))
    rows = [_row(p) for p in known]
    beaten = {p.id for p in found if p.dominated}
    main: list[Spec] = [
        {
            "data": {"values": [{"value": 0}]},
            "mark": {"type": "rule", "color": var("rule"), "strokeWidth": 1.5},
            "encoding": {"y": y},
        },
        {
            "data": {"values": rows},
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {"x": x, "y": y, "y2": {"field": "low"}, "color": {"field": "colour", "scale": None}},
        },
        *marks(rows, x, {"y": y}),
        *labels(rows, placed(at, known, walls, (width, _HEIGHT), beaten), x, {"y": y}),
    ]
    panels: list[Spec] = [{"width": width, "height": _HEIGHT, "layer": main}] if known else []
    unknown = [p for p in found if p.quality_diff_points is None]
    if unknown:
        lone = [_row(p) for p in unknown]
        spots = {p.id: (across(p.usd_per_month), 20.0) for p in unknown}
        mid = {"y": {"value": 20}}
        ground = {"type": "rect", "color": var("panel"), "opacity": 1}
        strip: list[Spec] = [
            {"data": {"values": [{}]}, "mark": ground},
            {
                "data": {"values": [{}]},
                "mark": {"type": "text", "align": "right", "dx": -10, "color": var("soft")},
                "encoding": {"x": {"value": 0}, "y": {"value": 20}, "text": {"value": "unknown"}},
            },
            *marks(lone, x, mid),
            *labels(lone, placed(spots, unknown, [], (width, 40.0), beaten), x, mid),
        ]
        panels.append({"width": width, "height": 40, "layer": strip})
        main[2]["encoding"]["x"] = {**x, "axis": {**x["axis"], "labels": False, "ticks": False}}
    for layer in panels[-1]["layer"]:
        if "x" in layer.get("encoding", {}) and "field" in layer["encoding"]["x"]:
            layer["encoding"]["x"] = {**x, "axis": {**x["axis"], "title": x_title}}
    return framed({"vconcat": panels, "spacing": 8, "resolve": {"scale": {"x": "independent"}}})


def _row(p: FrontierPoint) -> Spec:
    quality = p.quality_diff_points
    said = "quality unknown" if quality is None else words.points(quality)
    return {**row(p, quality, p.dominated, said), "low": p.quality_low_points}
