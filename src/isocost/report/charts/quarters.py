"""A path by quarter: what a month costs, who serves, and what is committed."""

from __future__ import annotations

from isocost.plan.path.result import PathResult
from isocost.report import words
from isocost.report.chart import (
    WIDTH,
    Absent,
    Chart,
    Spec,
    Table,
    brief,
    distinct,
    dollars,
    framed,
    legend_columns,
)
from isocost.report.palette import accent, var

_TINTS = ("api", "selfhost", "hosted", "slm", "batch", "cache", "people")


def way_colours(path: PathResult) -> dict[str, str]:
    """A colour for each way of a path, those of its quarters first; as today is always today's."""
    ways = [step.way for step in path.steps]
    ways += [name for cell in path.cells for name in cell.odds or {cell.way: cell.frac}]
    others = [way for way in dict.fromkeys(ways) if way != "as today"]
    found = {way: accent(_TINTS[k % len(_TINTS)]) for k, way in enumerate(others)}
    return {"as today": accent("today"), **found}


def quarters(path: PathResult) -> Chart | Absent:
    """A bar a quarter: dollars a month by the way that serves; under it replicas, committed and at peak."""
    if not path.steps:
        return Absent("The path has no quarter.")
    ways = list(dict.fromkeys(step.way for step in path.steps))
    names = dict(zip(ways, distinct(ways, 60), strict=True))
    known = way_colours(path)
    colours = [known[way] for way in ways]
    first, last = path.steps[0], path.steps[-1]
    switch = next((s for k, s in enumerate(path.steps) if k and s.way != path.steps[k - 1].way), None)
    title = f"A month costs {words.usd_short(first.usd_per_month)} at first"
    title += f" and {words.usd_short(last.usd_per_month)} at the end"
    title += (
        f"; switch to {brief(names[switch.way], 44)} in {switch.label}"
        if switch
        else "; nothing is switched on the way"
    )
    return Chart(
        title=title,
        subtitle="$ a month by quarter, at the volume and the median prices supposed for it; what is done at "
        "its start is in the table.",
        spec=_spec(path, names, colours),
        table=Table(
            ["From", "Requests a month", "$ a month", "Way", "Replicas, mean", "peak", "committed",
             "To an API", "What is done"],
            [
                [
                    s.label, words.whole(s.requests_per_month), words.usd(s.usd_per_month), s.way,
                    words.DASH if not s.peak else f"{s.mean:.1f}", words.DASH if not s.peak else str(s.peak),
                    words.DASH if not s.committed else str(s.committed),
                    words.percent(s.api_frac) + (f", {s.api_when}" if s.peak and s.api_hours else ""),
                    s.change,
                ]
                for s in path.steps
            ],
            [False, True, True, False, True, True, True, False, False],
        ),
    )  # fmt: skip


def _spec(path: PathResult, names: dict[str, str], colours: list[str]) -> Spec:
    rows: list[Spec] = [
        {
            "when": s.label,
            "usd": s.usd_per_month,
            "way": names[s.way],
            "text": words.usd_short(s.usd_per_month),
            "tip": f"{s.label}: {words.usd(s.usd_per_month)} a month at {words.count(s.requests_per_month)} "
            f"requests; {names[s.way]}" + (f"; {s.change}" if s.change else ""),
        }
        for s in path.steps
    ]
    order = [s.label for s in path.steps]
    shown = list(names.values())
    width = WIDTH - 70
    x = {
        "field": "when",
        "type": "ordinal",
        "sort": order,
        "title": None,
        "axis": {"labelAngle": -40, "ticks": False},
    }
    peak = max(row["usd"] for row in rows) or 1.0
    y = {
        "field": "usd",
        "type": "quantitative",
        "title": "$ a month",
        "scale": {"domain": [0, peak * 1.12], "nice": False},
        "axis": {"labelExpr": dollars(), "tickCount": 5},
    }
    colour = {
        "field": "way",
        "type": "nominal",
        "scale": {"domain": shown, "range": colours},
        "legend": {"symbolType": "square", "columns": legend_columns(shown)},
    }
    main: Spec = {
        "width": width,
        "height": 230,
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 1},
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": {"field": "tip"}},
            },
            {
                "mark": {"type": "text", "dy": -7, "fontSize": 11, "color": var("soft")},
                "encoding": {"x": x, "y": y, "text": {"field": "text"}},
            },
        ],
    }
    if not any(s.peak for s in path.steps):
        return framed(main)
    run = [
        {"when": s.label, "n": n, "what": what}
        for s in path.steps
        for what, n in (
            ("committed", s.committed),
            ("by the hour, at the peak", max(0, s.peak - s.committed)),
        )
    ]
    replicas: Spec = {
        "width": width,
        "height": 110,
        "data": {"values": run},
        "mark": {"type": "bar"},
        "encoding": {
            "x": {**x, "axis": {"labels": False, "ticks": False}},
            "y": {
                "field": "n",
                "type": "quantitative",
                "title": "Replicas",
                "axis": {"tickCount": 4, "format": "d"},
            },
            "color": {
                "field": "what",
                "scale": {
                    "domain": ["committed", "by the hour, at the peak"],
                    "range": [var("ink"), var("rule")],
                },
                "legend": {"symbolType": "square"},
            },
            "order": {"field": "what", "sort": "descending"},
            "tooltip": [{"field": "when"}, {"field": "what"}, {"field": "n", "title": "replicas"}],
        },
    }
    return framed(
        {"vconcat": [main, replicas], "spacing": 26, "resolve": {"scale": {"color": "independent"}}}
    )
