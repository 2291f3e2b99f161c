"""The three pillars of each way to serve over a horizon, and when each is ahead of today."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.plan.result import Life, LifeLine, PlanResult
from isocost.report import words
from isocost.report.accounts import when
from isocost.report.chart import WIDTH, Absent, Chart, Spec, Table, brief, distinct, dollars, framed
from isocost.report.palette import accent, var

STRENGTH: Mapping[str, tuple[str, float]] = {
    "development": ("development", 0.3),
    "deployment": ("deployment and scaling", 1.0),
    "sustainability": ("upkeep", 0.58),
}
"""Pillar id, its word, and how strong its share of an option's bar is drawn."""
SAME_USD = 0.5
"""Dollars up to which two ways cost the same."""


def life(result: PlanResult) -> Chart | Absent:
    """A bar a way: development paid once, deployment and upkeep over the horizon, in today's money."""
    found = result.life
    if found is None or not found.lines:
        return Absent("A plan of one month has none: --horizon 36mo asks for one.")
    names = distinct([_name(line) for line in found.lines], 38)
    growth = (
        f"; traffic grows {words.percent(found.growth_per_month)} a month" if found.growth_per_month else ""
    )
    return Chart(
        title=_title(found),
        subtitle=f"Dollars of today over {found.months} months, all traffic on one way; development is paid "
        f"once{growth}. The line spans the central 80%.",
        spec=_spec(found, names),
        table=_table(found),
    )


def _name(line: LifeLine) -> str:
    return {"today": "Today", "mix": "The plan"}.get(line.option, line.label)


def _same(found: Life, line: LifeLine) -> bool:
    return abs(line.usd.mid - found.lines[0].usd.mid) < SAME_USD


def _ahead(found: Life, line: LifeLine) -> str:
    """When a way is ahead of today, in a word or two; '' for today and what costs the same."""
    if _same(found, line):
        return "" if line.option == "today" else "as today"
    months = line.ahead_months
    if months is None:
        return "never ahead of today"
    return "ahead at once" if months == 0 else f"ahead from {when(months)}"


def _title(found: Life) -> str:
    today, over = found.lines[0], f"Over {found.months} months"
    best = min((one for one in found.lines if one.feasible), key=lambda one: one.usd.mid, default=today)
    if _same(found, best):
        return f"{over} nothing that is allowed costs less than today, {words.usd_short(today.usd.mid)}"
    saved = words.usd_short(today.usd.mid - best.usd.mid)
    ahead = "" if best.ahead_months is None else f", {_ahead(found, best)}"
    name = "the plan" if best.option == "mix" else brief(best.label, 50)
    return f"{over} {name} costs {words.usd_short(best.usd.mid)}, {saved} less than today{ahead}"


def _spec(found: Life, names: list[str]) -> Spec:
    bars: list[Spec] = []
    ends: list[Spec] = []
    for name, line in zip(names, found.lines, strict=True):
        for k, (pillar, (word, _)) in enumerate(STRENGTH.items()):
            usd = line.by_pillar.get(pillar, 0.0)
            tip = f"{name}, {word}: {words.usd(usd)}"
            bars.append({"label": name, "pillar": word, "usd": usd, "nth": k,
                         "colour": accent(line.option), "tip": tip})  # fmt: skip
        said = [words.usd_short(line.usd.mid), _ahead(found, line), "" if line.feasible else "not allowed"]
        ends.append({"label": name, "low": line.usd.low, "high": line.usd.high, "mid": line.usd.mid,
                     "end": line.usd.high, "text": ", ".join(x for x in said if x)})  # fmt: skip
    peak = max((row["end"] for row in ends), default=0.0) or 1.0
    y = {
        "field": "label",
        "type": "nominal",
        "sort": names,
        "title": None,
        "axis": {"ticks": False, "domain": False, "labelColor": var("ink"), "labelPadding": 8,
                 "labelLimit": 270},
        "scale": {"paddingInner": 0.4},
    }  # fmt: skip
    x = {
        "type": "quantitative",
        "title": f"$ over {found.months} months, discounted",
        "scale": {"domain": [0, peak * 1.7], "nice": False},
        "axis": {"labelExpr": dollars(), "tickCount": 5},
    }
    shown = [word for word, _ in STRENGTH.values()]
    strength = {
        "field": "pillar",
        "type": "ordinal",
        "sort": shown,
        "scale": {"type": "ordinal", "domain": shown, "range": [much for _, much in STRENGTH.values()]},
        "legend": {"symbolType": "square", "symbolFillColor": var("ink"), "symbolStrokeWidth": 0},
    }
    return framed(
        {
            "width": WIDTH - 230,
            "height": {"step": 36},
            "layer": [
                {
                    "data": {"values": bars},
                    "mark": {"type": "bar", "cornerRadius": 1},
                    "encoding": {
                        "y": y,
                        "x": {"field": "usd", "stack": "zero", **x},
                        "order": {"field": "nth", "type": "quantitative"},
                        "color": {"field": "colour", "scale": None},
                        "opacity": strength,
                        "tooltip": {"field": "tip"},
                    },
                },
                {
                    "data": {"values": ends},
                    "mark": {"type": "rule", "color": var("soft"), "strokeWidth": 1.4},
                    "encoding": {"y": y, "x": {"field": "low", **x}, "x2": {"field": "high"}},
                },
                {
                    "data": {"values": ends},
                    "mark": {"type": "text", "align": "left", "dx": 8, "fontSize": 11, "color": var("soft")},
                    "encoding": {"y": y, "x": {"field": "end", **x}, "text": {"field": "text"}},
                },
            ],
        }
    )


def _table(found: Life) -> Table:
    return Table(
        ["Way", "Cost", "80% band", *(word.capitalize() for word, _ in STRENGTH.values()), "An answer",
         "Ahead of today", "Allowed"],
        [
            [
                _name(line),
                words.usd(line.usd.mid),
                f"{words.usd_short(line.usd.low)} to {words.usd_short(line.usd.high)}",
                *(words.usd(line.by_pillar.get(pillar, 0.0)) for pillar in STRENGTH),
                words.each(line.usd_per_request),
                words.DASH if _same(found, line) else when(line.ahead_months),
                "yes" if line.feasible else "no",
            ]
            for line in found.lines
        ],
        [False, True, True, True, True, True, True, True, False],
        f"Over {found.months} months {words.count(found.requests)} requests are answered.",
    )  # fmt: skip
