"""Cost against quality, both on this trace: what is dominated, what is not yet proven."""

from __future__ import annotations

import math

from isocost.plan.result import FrontierPoint, PlanResult
from isocost.report import words
from isocost.report.chart import WIDTH, Absent, Chart, Spec, Table, brief, dollars, framed
from isocost.report.palette import accent, var

_HEIGHT = 330
_ROOM = 4.0
_LINE_PX = 15.0
_GLYPH_PX = 6.6
_CROWDED_PX2 = 90.0


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
                    _standing(p),
                ]
                for p in sorted(found, key=lambda p: (p.usd_per_month, p.id))
            ],
            [False, True, True, True, True, False],
            "A dash is unknown: no benchmark in common with today's model. Names that would overlap are "
            "left to this table.",
        ),
    )


def _standing(p: FrontierPoint) -> str:
    return ("proven" if p.proven else "not proven") + (", dominated" if p.dominated else "")


def _title(result: PlanResult, found: list[FrontierPoint]) -> str:
    today = result.today_usd.mid
    proven = [p for p in found if p.proven and p.option not in ("today", "mix") and p.usd_per_month < today]
    hopes = [p for p in found if not p.proven and not p.dominated and p.usd_per_month < today]
    best = min(proven, key=lambda p: (p.usd_per_month, p.id), default=None)
    if best is not None:
        cost = words.usd_short(best.usd_per_month)
        text = f"{brief(best.label, 60)} is the cheapest proven single choice, {cost} a month"
    else:
        text = "No single choice is both proven and cheaper than today"
    hopes = [p for p in hopes if best is None or p.usd_per_month < best.usd_per_month]
    if hopes:
        n = len(hopes)
        text += f"; {n} cheaper {'ones are' if n > 1 else 'one is'} not proven on this task"
    return text


def _spec(found: list[FrontierPoint]) -> Spec:
    costs = [p.usd_per_month for p in found]
    log = min(costs) > 0 and max(costs) / min(costs) > 12
    x_lo, x_hi = (min(costs) / 1.35, max(costs) * 1.5) if log else (0.0, (max(costs) or 1.0) * 1.18)
    known = [p for p in found if p.quality_diff_points is not None]
    ends = [q for p in known for q in (p.quality_diff_points, p.quality_low_points) if q is not None]
    y_lo, y_hi = min([0.0, *ends]), max([0.0, *ends])
    pad = max(0.12 * (y_hi - y_lo), 0.5)
    y_lo, y_hi = y_lo - pad, y_hi + pad
    width = WIDTH - 60.0

    def across(usd: float) -> float:
        if log:
            return width * math.log(usd / x_lo) / math.log(x_hi / x_lo)
        return width * (usd - x_lo) / (x_hi - x_lo)

    def down(quality: float) -> float:
        return _HEIGHT * (y_hi - quality) / (y_hi - y_lo)

    x = {
        "field": "usd",
        "type": "quantitative",
        "scale": {"type": "log" if log else "linear", "domain": [x_lo, x_hi], "nice": False},
        "axis": {"labelExpr": dollars(), "title": None, "tickCount": 6},
    }
    x_title = "$ a month for all the traffic" + (" (log)" if log else "")
    y = {
        "field": "quality",
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
    rows = [_row(p, p.quality_diff_points) for p in known]
    main: list[Spec] = [
        {
            "data": {"values": [{"quality": 0}]},
            "mark": {"type": "rule", "color": var("rule"), "strokeWidth": 1.5},
            "encoding": {"y": y},
        },
        {
            "data": {"values": rows},
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {"x": x, "y": y, "y2": {"field": "low"}, "color": {"field": "colour", "scale": None}},
        },
        *_marks(rows, x, {"y": y}),
        *_labels(rows, _placed(at, known, walls, (width, _HEIGHT)), x, {"y": y}),
    ]
    panels: list[Spec] = [{"width": width, "height": _HEIGHT, "layer": main}] if known else []
    unknown = [p for p in found if p.quality_diff_points is None]
    if unknown:
        lone = [_row(p, None) for p in unknown]
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
            *_marks(lone, x, mid),
            *_labels(lone, _placed(spots, unknown, [], (width, 40.0)), x, mid),
        ]
        panels.append({"width": width, "height": 40, "layer": strip})
        main[2]["encoding"]["x"] = {**x, "axis": {**x["axis"], "labels": False, "ticks": False}}  # type: ignore[dict-item]
    for layer in panels[-1]["layer"]:
        if "x" in layer.get("encoding", {}) and "field" in layer["encoding"]["x"]:
            layer["encoding"]["x"] = {**x, "axis": {**x["axis"], "title": x_title}}  # type: ignore[dict-item]
    return framed({"vconcat": panels, "spacing": 8, "resolve": {"scale": {"x": "independent"}}})


def _row(p: FrontierPoint, quality: float | None) -> Spec:
    return {
        "usd": p.usd_per_month,
        "quality": quality,
        "low": p.quality_low_points,
        "label": brief(p.label, 34),
        "colour": accent(p.option),
        "fill": "transparent" if p.dominated else accent(p.option),
        "shape": "circle" if p.proven else "diamond",
        "proven": p.proven,
        "tip": f"{p.label}: {words.usd(p.usd_per_month)} a month, {_said(quality)}, {_standing(p)}",
        "id": p.id,
    }


def _said(quality: float | None) -> str:
    return "quality unknown" if quality is None else words.points(quality)


def _marks(rows: list[Spec], x: Spec, y: Spec) -> list[Spec]:
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
                "strokeDash": {"condition": {"test": "datum.proven", "value": [1, 0]}, "value": [3, 2]},
                "tooltip": {"field": "tip"},
            },
        },
    ]


def _labels(rows: list[Spec], placed: dict[str, tuple[str, float, float]], x: Spec, y: Spec) -> list[Spec]:
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


def _placed(
    at: dict[str, tuple[float, float]],
    found: list[FrontierPoint],
    walls: list[tuple[float, float, float, float]],
    size: tuple[float, float],
) -> dict[str, tuple[str, float, float]]:
    """Align and offsets of each label, so that none covers a mark, a whisker or another label.

    Boxes are (left, top, right, bottom) in pixels. Greedy over eight places a label, the most
    telling first; one that would cover more than a corner of something is left to the table.
    """
    taken: list[tuple[float, float, float, float]] = list(walls)
    taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in at.values()]
    placed = {}
    for p in sorted(found, key=_importance):
        x, y = at[p.id]
        long = len(brief(p.label, 34)) * _GLYPH_PX
        best: tuple[float, tuple[str, float, float], tuple[float, float, float, float]] | None = None
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
            placed[p.id] = best[1]
            taken.append(best[2])
    return placed


def _importance(p: FrontierPoint) -> tuple[int, float, str]:
    """Today and the plan first, then what is not dominated, proven before not, cheap before dear."""
    rank = 0 if p.option in ("today", "mix") else 1 + 2 * p.dominated + (not p.proven)
    return rank, p.usd_per_month, p.id


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + _ROOM / 2
    high = min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
