"""Cost by volume: a line for an API against a staircase of replicas."""

from __future__ import annotations

import math
from typing import Any

from isocost.plan.result import BreakEven, OptionLine, PlanResult
from isocost.report import words
from isocost.report.chart import (
    WIDTH,
    Absent,
    Chart,
    Spec,
    Table,
    brief,
    counts,
    distinct,
    dollars,
    framed,
    log_ticks,
)
from isocost.report.palette import accents, var

POOLED = ("selfhost", "slm")
"""Options that come in whole replicas: drawn as a staircase."""

_ROOM = 1.6
"""Space left at the ends of the cost axis, so that a curve that is priced again stays in sight."""

_GPU_ACCOUNTS = ("inference-compute", "idle-compute", "redundancy", "latency-headroom", "commitments")
"""Accounts of the chart of accounts that move with the rent of a GPU."""
_API_ACCOUNTS = ("api-tokens",)
"""Accounts that move with the price of tokens."""


def breakeven(result: PlanResult) -> Chart | Absent:
    """Monthly cost of each option over volume, with today's volume and the crossings."""
    found = result.breakeven
    if found is None:
        return Absent("No second option can serve this traffic at any volume, so nothing breaks even.")
    if len(found.requests_per_month) < 2 or not found.options:
        return Absent("Cost by volume was not tabulated.")
    volume = result.trace.requests_per_month
    columns = ["Requests a month", *found.labels]
    if not any(c is not None for series in found.usd_per_month for c in series):
        return Absent("No option can serve this traffic at any volume tabulated.")
    rows = [
        [words.whole(v), *(words.usd(series[j]) for series in found.usd_per_month)]
        for j, v in enumerate(found.requests_per_month)
    ]
    crossings = "; ".join(
        f"{_label(found, b)} becomes cheaper than {_label(found, a)} from {words.whole(v)} requests a month"
        for a, b, v in found.crossings
    )
    return Chart(
        title=_title(result, found, volume),
        subtitle=(
            "$ a month by requests a month at this trace's mix of tokens. An API is a line; own replicas are "
            f"whole, so their cost is a staircase. Dashed: ruled out by a limit or by missing evidence. "
            f"The dotted rule is this trace, {words.count(volume)} a month."
        ),
        spec=_spec(result, found, volume),
        table=Table(columns, rows, [True] * len(columns), crossings and crossings + "."),
    )


def _index(found: BreakEven, name: str) -> int | None:
    """The series that a crossing names, by its label or by its option."""
    if name in found.labels:
        return found.labels.index(name)
    return next((i for i, option in enumerate(found.options) if option == name), None)


def _label(found: BreakEven, name: str) -> str:
    """The label of the series that a crossing names."""
    i = _index(found, name)
    return name if i is None else found.labels[i]


def at(found: BreakEven, i: int, volume: float) -> float | None:
    """Series ``i`` at a volume: the next tabulated step for replicas, a straight line otherwise."""
    vs, costs = found.requests_per_month, found.usd_per_month[i]
    if not vs[0] <= volume <= vs[-1]:
        return None
    j = next(k for k, v in enumerate(vs) if v >= volume)
    if j == 0 or found.options[i] in POOLED:
        return costs[j]
    a, b = costs[j - 1], costs[j]
    if a is None or b is None:
        return None
    return a + (b - a) * (volume - vs[j - 1]) / (vs[j] - vs[j - 1])


def allowed(result: PlanResult, i: int) -> bool:
    """Whether the limits and the evidence allow series ``i``; true where no option's line says."""
    found = result.breakeven
    line = None if found is None else _line_of(result, found.options[i], found.labels[i])
    return line is None or line.feasible


def _line_of(result: PlanResult, option: str, label: str) -> OptionLine | None:
    same = [line for line in result.options if line.option == option]
    return next((line for line in same if line.label == label), same[0] if same else None)


def _title(result: PlanResult, found: BreakEven, volume: float) -> str:
    may = [i for i in range(len(found.options)) if allowed(result, i)]
    costs = {i: cost for i in range(len(found.options)) if (cost := at(found, i, volume)) is not None}
    here = f"At {words.count(volume)} requests a month"
    low, high = found.requests_per_month[0], found.requests_per_month[-1]
    if not low <= volume <= high:
        return (
            f"{here}, this trace lies outside what was tabulated, {words.count(low)} to {words.count(high)}"
        )
    served = [(costs[i], i) for i in may if i in costs]
    if not served:
        return f"{here}, no single option that is allowed serves all the traffic"
    cost, i = min(served)
    name = found.labels[i]
    text = f"{here}, {brief(name, 60)} costs least of what is allowed ({words.usd_short(cost)})"
    if len(may) == len(found.options):
        text = text.replace(" of what is allowed", "")
    names, may_names = {found.options[i], name}, {n for k in may for n in (found.options[k], found.labels[k])}
    leaves = [(v, b) for a, b, v in found.crossings if a in names and b in may_names and v > volume]
    cheaper = [k for k, c in costs.items() if c < cost]
    if leaves:
        v, b = min(leaves)
        return f"{text}; {brief(_label(found, b), 60)} takes over from {words.count(v)}"
    if cheaper:
        n = len(cheaper)
        return f"{text}; {n} cheaper {'ones are' if n > 1 else 'one is'} ruled out"
    came = [(v, a) for a, b, v in found.crossings if b in names and a in may_names and v <= volume]
    if came:
        v, a = max(came)
        return f"{text}; below {words.count(v)} it was {brief(_label(found, a), 60)}"
    return text


def _spec(result: PlanResult, found: BreakEven, volume: float) -> Spec:
    vs = found.requests_per_month
    wide = vs[0] > 0 and vs[-1] / vs[0] > 20
    colours = accents(list(found.options))
    ok = [allowed(result, i) for i in range(len(found.options))]
    names = series_names(result)
    rows: list[Spec] = [
        {"v": v, "usd": series[j], "label": names[i], "stairs": found.options[i] in POOLED, "ok": ok[i]}
        for i, series in enumerate(found.usd_per_month)
        for j, v in enumerate(vs)
        if series[j] is not None
    ]
    costs = [row["usd"] for row in rows]
    wide = wide and min(costs) > 0
    kind = "log" if wide else "linear"
    low, high = (min(costs) / _ROOM, max(costs) * _ROOM) if wide else (0.0, max(costs) * _ROOM or 1.0)
    x_ticks: Spec = {"values": log_ticks(vs[0], vs[-1])} if wide else {"tickCount": 6}
    y_ticks: Spec = {"values": log_ticks(low, high)} if wide else {"tickCount": 6}
    x = {
        "field": "v",
        "type": "quantitative",
        "title": "Requests a month" + (" (log)" if wide else ""),
        "scale": {"type": kind, "domain": [vs[0], vs[-1]], "nice": False},
        "axis": {"labelExpr": counts(), **x_ticks},
    }
    y = {
        "field": "usd",
        "type": "quantitative",
        "title": "$ a month" + (" (log)" if wide else ""),
        "scale": {"type": kind, "domain": [low, high], "nice": False},
        "axis": {"labelExpr": dollars(), **y_ticks},
    }
    colour = {
        "field": "label",
        "type": "nominal",
        "scale": {"domain": names, "range": colours},
        "legend": {"symbolType": "stroke", "symbolStrokeWidth": 3, "columns": 2, "offset": 34},
    }
    tip = [
        {"field": "label", "title": "option"},
        {"field": "v", "title": "requests a month", "format": ",.0f"},
        {"field": "usd", "title": "$ a month", "format": ",.0f"},
    ]
    shapes = [("step-before", "datum.stairs"), ("linear", "!datum.stairs")]
    layers: list[Spec] = [
        {
            "data": {"name": "curves"},
            "transform": [{"filter": test}],
            "mark": {"type": "line", "interpolate": shape, "strokeWidth": 2.5, "clip": True},
            "encoding": {
                "x": x,
                "y": y,
                "color": colour,
                "strokeDash": {"condition": {"test": "datum.ok", "value": [1, 0]}, "value": [5, 3]},
                "tooltip": tip,
            },
        }
        for shape, test in shapes
    ]
    layers += [
        {
            "data": {"name": "today", "values": [{"v": volume, "text": "this trace"}]},
            "transform": [{"filter": f"datum.v >= {vs[0]} && datum.v <= {vs[-1]}"}],
            "layer": [
                {
                    "mark": {
                        "type": "rule",
                        "strokeDash": [2, 3],
                        "strokeWidth": 1.5,
                        "color": var("ink"),
                        "clip": True,
                    },
                    "encoding": {"x": {"field": "v", "type": "quantitative"}},
                },
                {
                    "mark": {"type": "text", "align": "center", "dy": -8, "baseline": "bottom"},
                    "encoding": {
                        "x": {"field": "v", "type": "quantitative"},
                        "y": {"value": 0},
                        "text": {"field": "text"},
                    },
                },
            ],
        },
        {
            "data": {"name": "crossings", "values": _crossing_rows(found)},
            "mark": {
                "type": "point",
                "filled": True,
                "size": 75,
                "clip": True,
                "opacity": 1,
                "color": var("ink"),
                "stroke": var("paper"),
            },
            "encoding": {"x": x, "y": y, "tooltip": {"field": "text"}},
        },
    ]
    return framed({"width": WIDTH - 40, "height": 360, "datasets": {"curves": rows}, "layer": layers})


def _crossing_rows(found: BreakEven) -> list[Spec]:
    rows = []
    for a, b, v in found.crossings:
        i = _index(found, b)
        usd = None if i is None else at(found, i, v)
        if usd is not None:
            text = f"{_label(found, b)} cheaper than {_label(found, a)} from {words.count(v)} a month"
            rows.append({"v": v, "usd": usd, "text": text})
    return rows


def series_names(result: PlanResult) -> list[str]:
    """The series' names in the legend: told apart, and marked where they are ruled out."""
    found = result.breakeven
    if found is None:
        return []
    names = distinct(list(found.labels))
    return [name if allowed(result, i) else f"{name} (ruled out)" for i, name in enumerate(names)]


def sliders(result: PlanResult) -> dict[str, Any] | None:
    """What the page needs to re-price the chart: each series with the parts that each price moves.

    A series' cost at any volume is ``fixed + (cost - fixed) * (rest + api * k_api + gpu * k_gpu)``:
    ``fixed`` is what its accounts say neither price moves (people, storage …), never more than its
    least tabulated cost; ``api`` and ``gpu`` are the shares of what is left. The parts are read from
    ``PlanResult.options``; where an option is not there, all of it moves with its own price.
    """
    found = result.breakeven
    if found is None or isinstance(breakeven(result), Absent):
        return None
    series, names = [], series_names(result)
    for i, option in enumerate(found.options):
        line = _line_of(result, option, found.labels[i])
        costs = [c for c in found.usd_per_month[i] if c is not None and math.isfinite(c)]
        fixed, api, gpu = _parts(option, line, min(costs, default=0.0))
        series.append(
            {
                "label": names[i],
                "ok": allowed(result, i),
                "stairs": option in POOLED,
                "usd": found.usd_per_month[i],
                "fixed": round(fixed, 2),
                "api": round(api, 6),
                "gpu": round(gpu, 6),
            }
        )
    pairs = [(_index(found, a), _index(found, b)) for a, b, _ in found.crossings]
    return {
        "volumes": found.requests_per_month,
        "today": result.trace.requests_per_month,
        "series": series,
        "pairs": [pair for pair in pairs if None not in pair],
    }


def _parts(option: str, line: OptionLine | None, least_usd: float) -> tuple[float, float, float]:
    alone = (0.0, 0.0, 1.0) if option in POOLED else (0.0, 1.0, 0.0)
    if line is None:
        return alone
    api = sum(usd for name, usd in line.by_account.items() if name in _API_ACCOUNTS)
    rents = "inference-compute" in line.by_account
    gpu = sum(usd for name, usd in line.by_account.items() if rents and name in _GPU_ACCOUNTS)
    if api + gpu <= 0:
        return alone
    fixed = max(0.0, min(sum(line.by_account.values()) - api - gpu, least_usd))
    return fixed, api / (api + gpu), gpu / (api + gpu)
