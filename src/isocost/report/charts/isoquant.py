"""The hero chart: mixes that do the same work, and the line of mixes that cost the same."""

from __future__ import annotations

from isocost.plan.result import Isoquant, IsoquantPoint, PlanResult
from isocost.report import words
from isocost.report.chart import WIDTH, Absent, Chart, Spec, Table, brief, counts, framed, plain
from isocost.report.palette import accent, var

_HEIGHT = 380
_LABEL_PX = 15
"""Isocost lines whose labels would lie closer than this are left out, the chosen one never."""


def isoquant(result: PlanResult) -> Chart | Absent:
    """API tokens bought against GPU-hours rented, a month, with isocost lines at the two prices."""
    found = result.isoquant
    if found is None:
        return Absent(
            "No pool of own replicas competes with an API in this plan, so there is no mix to draw."
        )
    if not found.points or not 0 <= found.chosen < len(found.points):
        return Absent("The mixes of pool and API were not tabulated.")
    if not found.usd_per_gpu_h > 0 or not found.usd_per_api_mtok > 0:
        return Absent("One of the two prices is nil or not known, so no isocost line can be drawn.")
    if len(found.points) < 2 or not any(p.gpu_h_per_month > 0 for p in found.points):
        return Absent(
            "Only one mix of pool and API serves this traffic, so there is none to weigh it against."
        )
    best = found.points[found.chosen]
    pool, api = brief(found.pool, 60), brief(found.api, 60)
    return Chart(
        title=_title(found, best),
        subtitle=(
            f"Each dot does all the work: Mtok a month bought from {api} against GPU-hours a month "
            f"rented for {pool}. Along a straight line the cost is the same; the least is where it "
            f"first touches.{_beside(found)}"
        ),
        spec=_spec(found, best),
        table=Table(
            ["Replicas", "GPU-hours a month", "API Mtok a month", "$ a month", "Against the least"],
            [
                [
                    words.whole(p.replicas),
                    words.whole(p.gpu_h_per_month),
                    words.whole(p.api_mtok_per_month),
                    words.usd(p.usd_per_month),
                    "least" if p is best else f"+{words.usd(p.usd_per_month - best.usd_per_month)}",
                ]
                for p in found.points
            ],
            [True] * 5,
            f"At {words.usd(found.usd_per_gpu_h)} a GPU-hour, {words.usd(found.usd_per_api_mtok)} an API "
            f"Mtok and {words.usd(found.fixed_usd_per_month)} a month that neither moves.",
        ),
    )


def _title(found: Isoquant, best: IsoquantPoint) -> str:
    pool, api = brief(found.pool, 60), brief(found.api, 60)
    cost = words.usd_short(best.usd_per_month)
    without = next((p for p in found.points if p.replicas == 0), None)
    if best.replicas == 0:
        return f"Renting no GPU is cheapest: {api} alone, for {cost} a month"
    replicas = words.plural(best.replicas, "replica")
    rest = f" beside {api}" if best.api_mtok_per_month > 0 else " and no API"
    more = ""
    if without is not None and without.usd_per_month > best.usd_per_month:
        more = f", {words.usd_short(without.usd_per_month - best.usd_per_month)} less than the API alone"
    return f"{replicas} of {pool}{rest} cost least: {cost} a month{more}"


def _spec(found: Isoquant, best: IsoquantPoint) -> Spec:
    x_max = max(p.gpu_h_per_month for p in found.points) * 1.12 or 1.0
    y_max = max(p.api_mtok_per_month for p in found.points) * 1.15 or 1.0
    least = _variable_usd(found, best)
    step = max(_variable_usd(found, p) for p in found.points) - least
    levels = [(least, True)]
    levels += [(least + step * k, False) for k in (0.5, 1.0) if step > 0]
    levels += [(least - step * 0.5, False)] if least > step * 0.5 > 0 else []
    lines, labels = [], []
    heights: list[float] = []
    for i, (level, chosen) in enumerate(levels):
        ends = _clipped(found, level, x_max, y_max)
        if ends is None:
            continue
        height = ends[1][1] / y_max * _HEIGHT - ends[1][0] / x_max * (WIDTH - 60)
        if any(abs(height - other) < _LABEL_PX for other in heights):
            continue
        heights.append(height)
        lines += [{"line": i, "x": x, "y": y, "chosen": chosen} for x, y in ends]
        x, y = ends[1]
        text = f"{words.usd_short(level + _fixed(found))} a month"
        labels.append({"x": x, "y": y, "text": text, "chosen": chosen})
    dots = [
        {
            "x": p.gpu_h_per_month,
            "y": p.api_mtok_per_month,
            "name": _name(p, p is best),
            "best": p is best,
            "tip": f"{words.plural(p.replicas, 'replica')}, {words.usd(p.usd_per_month)} a month",
        }
        for p in found.points
    ]
    x_axis = {
        "field": "x",
        "type": "quantitative",
        "title": _axis("GPU-hours rented a month", found.pool),
        "scale": {"domain": [0, x_max], "nice": False},
        "axis": {"labelExpr": counts(), "grid": False, "tickCount": 8},
    }
    y_axis = {
        "field": "y",
        "type": "quantitative",
        "title": _axis("API tokens bought, Mtok a month", found.api),
        "scale": {"domain": [0, y_max], "nice": False},
        "axis": {"labelExpr": counts(), "grid": False, "tickCount": 6},
    }
    pool, plan = accent("selfhost"), accent("mix")
    xy = {"x": x_axis, "y": y_axis}
    return framed(
        {
            "width": WIDTH - 60,
            "height": _HEIGHT,
            "layer": [
                {
                    "data": {"values": lines},
                    "mark": {"type": "line", "clip": True},
                    "encoding": {
                        **xy,
                        "detail": {"field": "line"},
                        "color": {"condition": {"test": "datum.chosen", "value": plan}, "value": var("rule")},
                        "size": {"condition": {"test": "datum.chosen", "value": 2}, "value": 1.2},
                        "strokeDash": {
                            "condition": {"test": "datum.chosen", "value": [1, 0]},
                            "value": [5, 4],
                        },
                    },
                },
                {
                    "data": {"values": labels},
                    "mark": {"type": "text", "align": "left", "dx": 6, "baseline": "middle", "fontSize": 11},
                    "encoding": {
                        **xy,
                        "text": {"field": "text"},
                        "color": {"condition": {"test": "datum.chosen", "value": plan}, "value": var("soft")},
                    },
                },
                {
                    "data": {"values": dots},
                    "mark": {"type": "line", "color": pool, "strokeWidth": 3},
                    "encoding": {**xy, "order": {"field": "x", "type": "quantitative"}},
                },
                {
                    "data": {"values": dots},
                    "mark": {"type": "point", "filled": True, "opacity": 1, "stroke": var("paper")},
                    "encoding": {
                        **xy,
                        "color": {"condition": {"test": "datum.best", "value": plan}, "value": pool},
                        "size": {"condition": {"test": "datum.best", "value": 220}, "value": 80},
                        "tooltip": {"field": "tip"},
                    },
                },
                {
                    "data": {"values": dots},
                    "mark": {"type": "text", "align": "left", "baseline": "bottom", "dx": 8, "dy": -7},
                    "encoding": {
                        **xy,
                        "text": {"field": "name"},
                        "color": {"condition": {"test": "datum.best", "value": plan}, "value": var("soft")},
                    },
                },
            ],
        }
    )


def _axis(unit: str, of: str) -> str:
    """An axis' title: its unit and, where there is room, what it counts."""
    return f"{unit} ({plain(of)})" if len(of) <= 32 else unit


def _name(p: IsoquantPoint, best: bool) -> str:
    if p.replicas == 0:
        return "API alone"
    return words.plural(p.replicas, "replica") if best else f"{p.replicas}"


def _variable_usd(found: Isoquant, p: IsoquantPoint) -> float:
    return p.gpu_h_per_month * found.usd_per_gpu_h + p.api_mtok_per_month * found.usd_per_api_mtok


def _clipped(
    found: Isoquant, level: float, x_max: float, y_max: float
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The two ends, left then right, of an isocost line within the plotting area."""
    gpu, api = found.usd_per_gpu_h, found.usd_per_api_mtok
    left = (0.0, level / api) if level / api <= y_max else ((level - y_max * api) / gpu, y_max)
    right = (level / gpu, 0.0) if level / gpu <= x_max else (x_max, (level - x_max * gpu) / api)
    return (left, right) if 0 <= left[0] < right[0] <= x_max else None


def _fixed(found: Isoquant) -> float:
    """What a month costs beside both prices at the chosen mix: nothing where it has no replica."""
    return found.fixed_usd_per_month if found.points[found.chosen].replicas else 0.0


def _beside(found: Isoquant) -> str:
    """A word on what the lines leave out, where the chosen mix has no replica."""
    if found.points[found.chosen].replicas or not found.fixed_usd_per_month:
        return ""
    fixed = words.usd_short(found.fixed_usd_per_month)
    return (
        f" Lines are of tokens and rent alone: a first replica brings {fixed} of people and upkeep besides."
    )
