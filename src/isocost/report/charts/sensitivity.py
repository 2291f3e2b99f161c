"""What moves the plan's cost, input by input, and the band of all of them together."""

from __future__ import annotations

from isocost.plan.result import Band, PlanResult
from isocost.report import words
from isocost.report.chart import (
    WIDTH,
    Absent,
    Chart,
    Spec,
    Table,
    brief,
    capital,
    distinct,
    dollars,
    framed,
    names_axis,
)
from isocost.report.palette import accent, var

MOST = 12
"""Swings drawn; the table has all."""


def tornado(result: PlanResult) -> Chart | Absent:
    """The plan's monthly cost at the low and high end of each input, widest first."""
    if not result.swings or result.verdict == "infeasible":
        return Absent("No input's interval was swung through the plan.")
    found = sorted(result.swings, key=lambda s: (-abs(s.high_usd - s.low_usd), s.name))
    mid = result.plan_usd.mid
    top = found[0]
    ends = sorted((top.low_usd, top.high_usd))
    names = distinct([swing.label for swing in found])
    rows = []
    for name, swing in list(zip(names, found, strict=True))[:MOST]:
        for end, usd in (("low", swing.low_usd), ("high", swing.high_usd)):
            rows.append(
                {
                    "label": name,
                    "end": end,
                    "usd": usd,
                    "mid": mid,
                    "text": words.usd_short(usd),
                }
            )
    lo = min(min(s.low_usd, s.high_usd) for s in found)
    hi = max(max(s.low_usd, s.high_usd) for s in found)
    pad = 0.16 * max(hi - lo, 1e-9)
    domain = [min(lo, mid) - pad, max(hi, mid) + pad]
    y = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": names_axis(),
        "scale": {"paddingInner": 0.34},
    }
    x = {
        "field": "usd",
        "type": "quantitative",
        "title": "The plan, $ a month",
        "scale": {"domain": domain, "nice": False, "zero": False},
        "axis": {"labelExpr": dollars(), "tickCount": 6},
    }
    colour = {"low": var("rule"), "high": var("soft")}
    sides = [("right", -6, "datum.usd < datum.mid"), ("left", 6, "datum.usd >= datum.mid")]
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "cornerRadius": 1},
            "encoding": {
                "y": y,
                "x": x,
                "x2": {"field": "mid"},
                "color": {
                    "field": "end",
                    "scale": {"domain": list(colour), "range": list(colour.values())},
                    "legend": {
                        "symbolType": "square",
                        "labelExpr": "'input at the ' + datum.label + ' end of its 80% interval'",
                    },
                },
                "tooltip": [
                    {"field": "label", "title": "input"},
                    {"field": "end"},
                    {"field": "text", "title": "$ a month"},
                ],
            },
        },
        *(
            {
                "transform": [{"filter": test}],
                "mark": {"type": "text", "align": align, "dx": dx, "fontSize": 11, "color": var("soft")},
                "encoding": {"y": y, "x": x, "text": {"field": "text"}},
            }
            for align, dx, test in sides
        ),
        {
            "data": {"values": [{"usd": mid}]},
            "mark": {"type": "rule", "color": var("ink"), "strokeWidth": 1.5},
            "encoding": {"x": x},
        },
    ]
    return Chart(
        title=f"{capital(brief(top.label, 70))} matters most: the plan runs from {words.usd_short(ends[0])} "
        f"to {words.usd_short(ends[1])} a month across it",
        subtitle="$ a month, one input at a time at the ends of its central 80%; "
        f"the rule is the plan, {words.usd(mid)}.",
        spec=framed(
            {"width": WIDTH - 250, "height": {"step": 32}, "data": {"values": rows}, "layer": layers}
        ),
        table=Table(
            ["Input", "At its low end, $ a month", "At its high end, $ a month", "Swing", "Facts"],
            [
                [
                    s.label,
                    words.usd(s.low_usd),
                    words.usd(s.high_usd),
                    words.usd(abs(s.high_usd - s.low_usd)),
                    ", ".join(s.facts),
                ]
                for s in found
            ],
            [False, True, True, True, False],
        ),
    )


def band(result: PlanResult) -> Chart | Absent:
    """Central 80% of today, the plan and the best single deployment of each option."""
    feasible = result.verdict != "infeasible"
    found: list[tuple[str, str, Band, bool]] = [("Today", "today", result.today_usd, True)]
    if feasible:
        found.append(("The plan", "mix", result.plan_usd, True))
    found += [
        (o.label, o.option, o.usd_per_month, o.feasible)
        for o in result.options
        if o.option not in ("today", "mix") and (o.id or o.label)
    ]
    if len(found) < 2:
        return Absent("There is one cost only, so there are no bands to compare.")
    names = distinct([label for label, _, _, _ in found])
    rows: list[Spec] = [
        {
            "label": name,
            "low": b.low,
            "mid": b.mid,
            "high": b.high,
            "colour": accent(option),
            "ok": ok,
            "text": f"{words.usd_short(b.low)} to {words.usd_short(b.high)}"
            + ("" if ok else ", not allowed"),
        }
        for name, (_, option, b, ok) in zip(names, found, strict=True)
    ]
    peak = max(row["high"] for row in rows)
    y = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": names_axis(),
    }
    x = {
        "type": "quantitative",
        "title": "$ a month",
        "scale": {"domain": [0, peak * 1.3], "nice": False},
        "axis": {"labelExpr": dollars(), "tickCount": 6},
    }
    colour = {"field": "colour", "scale": None}
    faint = {"condition": {"test": "datum.ok", "value": 1}, "value": 0.45}
    spec = {
        "width": WIDTH - 250,
        "height": {"step": 34},
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "bar", "height": 9, "cornerRadius": 4},
                "encoding": {
                    "y": y,
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                    "color": colour,
                    "opacity": faint,
                },
            },
            {
                "mark": {"type": "tick", "thickness": 3, "size": 22},
                "encoding": {"y": y, "x": {"field": "mid", **x}, "color": colour},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8, "fontSize": 11, "color": var("soft")},
                "encoding": {"y": y, "x": {"field": "high", **x}, "text": {"field": "text"}},
            },
        ],
    }
    return Chart(
        title=_band_title(result, feasible),
        subtitle="$ a month: bars span the central 80%, the tick is the middle. "
        "Pale: a limit or the evidence rules it out.",
        spec=framed(spec),
        table=Table(
            ["", "Low, $ a month", "Middle", "High", "Allowed"],
            [
                [label, words.usd(b.low), words.usd(b.mid), words.usd(b.high), "yes" if ok else "no"]
                for label, _, b, ok in found
            ],
            [False, True, True, True, False],
        ),
    )


def _band_title(result: PlanResult, feasible: bool) -> str:
    today, plan = result.today_usd, result.plan_usd
    if not feasible:
        return f"Today costs {words.usd_short(today.low)} to {words.usd_short(today.high)} a month"
    if result.sure is not None and plan.mid < today.mid:
        share = words.sure(result.sure.plan_cheaper_frac)
        return f"The plan is cheaper than today in {share} of scenarios: what moves one moves the other"
    if plan.high < today.low:
        return "The plan is cheaper than today across the whole of both 80% bands"
    if plan.mid < today.mid:
        return "The plan is cheaper in the middle, but its 80% band overlaps today's"
    return "The plan is no cheaper than today"
