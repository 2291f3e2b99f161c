"""Deployments as points with their names beside them: what frontiers of quality and of latency share."""

from __future__ import annotations

import math

from isocost.plan.result import FrontierPoint
from isocost.report import words
from isocost.report.chart import Spec, brief, dollars, log_ticks
from isocost.report.palette import accent, var

Box = tuple[float, float, float, float]

NAME_MOST = 34
LOG_FROM = 5.0
"""Ratio of the dearest to the cheapest from which costs are on a logarithm."""
_ROOM = 4.0
_LINE_PX = 15.0
_GLYPH_PX = 6.6
_CROWDED_PX2 = 90.0


def standing(p: FrontierPoint, beaten: bool) -> str:
    """Whether it is proven and whether another beats it, in words."""
    if p.option in ("today", "mix"):
        return "in place" if p.option == "today" else "the plan"
    return ("proven" if p.proven else "not proven") + (", dominated" if beaten else "")


def row(p: FrontierPoint, value: float | None, beaten: bool, said: str) -> Spec:
    """A point's data: ``value`` up the chart, hollow where ``beaten``, ``said`` of it on hover."""
    why = f" ({p.why_not})" if p.why_not else ""
    return {
        "usd": p.usd_per_month,
        "value": value,
        "label": brief(p.label, NAME_MOST),
        "colour": accent(p.option),
        "fill": "transparent" if beaten else accent(p.option),
        "shape": "square" if p.option in ("today", "mix") else "circle" if p.proven else "diamond",
        "proven": p.proven,
        "tip": f"{p.label}: {words.usd(p.usd_per_month)} a month, {said}, {standing(p, beaten)}{why}",
        "id": p.id,
    }


def costs_axis(found: list[FrontierPoint]) -> tuple[bool, float, float]:
    """Whether costs are on a logarithm, and the ends of their axis."""
    costs = [p.usd_per_month for p in found]
    log = min(costs) > 0 and max(costs) / min(costs) > LOG_FROM
    return (True, min(costs) / 1.35, max(costs) * 1.5) if log else (False, 0.0, (max(costs) or 1.0) * 1.18)


def costs_across(log: bool, low: float, high: float) -> Spec:
    """The axis of costs, without a title."""
    ticks: Spec = {"values": log_ticks(low, high)} if log else {"tickCount": 6}
    return {
        "field": "usd",
        "type": "quantitative",
        "scale": {"type": "log" if log else "linear", "domain": [low, high], "nice": False},
        "axis": {"labelExpr": dollars(), "title": None, **ticks},
    }


def place(value: float, low: float, high: float, size_px: float, log: bool) -> float:
    """Pixels from the low end of an axis."""
    if log:
        return size_px * math.log(value / low) / math.log(high / low)
    return size_px * (value - low) / (high - low)


def marks(rows: list[Spec], x: Spec, y: Spec) -> list[Spec]:
    """Points: filled, hollow where beaten, dashed where not proven."""
    return [
        {
            "data": {"values": rows},
            "mark": {"type": "point", "size": 150, "filled": True, "opacity": 1, "color": var("paper")},
            "encoding": {"x": x, **y, "shape": {"field": "shape", "scale": None}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "point", "size": 150, "strokeWidth": 2, "opacity": 1},
            "encoding": {
                "x": x,
                **y,
                "stroke": {"field": "colour", "scale": None},
                "fill": {"field": "fill", "scale": None},
                "fillOpacity": {"condition": {"test": "datum.proven", "value": 1}, "value": 0.25},
                "shape": {"field": "shape", "scale": None},
                "strokeOpacity": {"condition": {"test": "datum.pale", "value": 0.45}, "value": 1},
                "strokeDash": {"condition": {"test": "datum.proven", "value": [1, 0]}, "value": [3, 2]},
                "tooltip": {"field": "tip"},
            },
        },
    ]


def labels(rows: list[Spec], placed: dict[str, tuple[str, float, float]], x: Spec, y: Spec) -> list[Spec]:
    """The names that have a place."""
    layers = []
    for row in rows:
        if row["id"] not in placed:
            continue
        align, dx, dy = placed[row["id"]]
        layers.append(
            {
                "data": {"values": [row]},
                "mark": {"type": "text", "align": align, "dx": dx, "dy": dy, "baseline": "middle"},
                "encoding": {"x": x, **y, "text": {"field": "label"}},
            }
        )
    return layers


def placed(
    at: dict[str, tuple[float, float]],
    found: list[FrontierPoint],
    walls: list[Box],
    size: tuple[float, float],
    beaten: set[str],
) -> dict[str, tuple[str, float, float]]:
    """Align and offsets of each label, so that none covers a mark, a whisker or another label.

    Boxes are (left, top, right, bottom) in pixels. Greedy over eight places a label, the most
    telling first; one that would cover more than a corner of something is left to the table.
    """
    taken: list[Box] = list(walls)
    taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in at.values()]
    spots = {}
    for p in sorted(found, key=lambda p: _importance(p, p.id in beaten)):
        x, y = at[p.id]
        long = len(brief(p.label, NAME_MOST)) * _GLYPH_PX
        best: tuple[float, tuple[str, float, float], Box] | None = None
        for align, dx, dy in (
            ("left", 11.0, 0.0),
            ("right", -11.0, 0.0),
            ("center", 0.0, -17.0),
            ("left", 9.0, -11.0),
            ("right", -9.0, -11.0),
            ("left", 9.0, 12.0),
            ("right", -9.0, 12.0),
            ("center", 0.0, 18.0),
        ):
            start = x + dx - {"left": 0.0, "right": long, "center": long / 2}[align]
            box = (start, y + dy - _LINE_PX / 2, start + long, y + dy + _LINE_PX / 2)
            cost = sum(_overlap(box, other) for other in taken)
            cost += 50 * max(0.0, -start) + 50 * max(0.0, start + long - size[0])
            cost += 50 * max(0.0, -box[1]) + 50 * max(0.0, box[3] - size[1])
            if best is None or cost < best[0] - 1e-9:
                best = (cost, (align, dx, dy), box)
        if best is not None and best[0] < _CROWDED_PX2:
            spots[p.id] = best[1]
            taken.append(best[2])
    return spots


def _importance(p: FrontierPoint, beaten: bool) -> tuple[int, float, str]:
    """Today and the plan first, then what is not dominated, proven before not, cheap before dear."""
    rank = 0 if p.option in ("today", "mix") else 1 + 2 * beaten + (not p.proven)
    return rank, p.usd_per_month, p.id


def _overlap(a: Box, b: Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + _ROOM / 2
    high = min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
