"""Who serves each hour of the week, and the replicas that were paid for and idle."""

from __future__ import annotations

from isocost.plan.result import Hours, PlanResult
from isocost.report import words
from isocost.report.chart import WIDTH, Absent, Chart, Spec, Table, counts, framed
from isocost.report.palette import accents, hatch, var

WEEK_H = 168
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def hours(result: PlanResult) -> Chart | Absent:
    """Requests an hour by deployment; below it replicas, those busy filled and those idle hatched."""
    found = result.hours
    if not found.deployments:
        return Absent("No plan serves the traffic, so no hour has been given to anyone.")
    if any(len(series) != WEEK_H for series in found.requests_per_h):
        return Absent("The week was not tabulated hour by hour.")
    pools = [i for i, series in enumerate(found.replicas) if any(series)]
    totals = [sum(series) for series in found.requests_per_h]
    order = sorted(range(len(totals)), key=lambda i: (-totals[i], found.deployments[i]))
    return Chart(
        title=_title(found, pools, totals, order),
        subtitle=(
            "Requests an hour of the week (UTC) by who serves them"
            + ("; below, replicas rented: filled are busy, hatched idle and paid for." if pools else ".")
        ),
        spec=_spec(found, pools, order),
        table=_table(found, pools),
    )


def _title(found: Hours, pools: list[int], totals: list[float], order: list[int]) -> str:
    all_requests = sum(totals)
    if all_requests <= 0:
        return "No requests in the week"
    top = order[0]
    first = f"{found.labels[top]} serves {words.percent(totals[top] / all_requests)} of requests"
    if not pools:
        return f"{first}; nothing is rented by the hour, so nothing is idle"
    rented = sum(sum(found.replicas[i]) for i in pools)
    idle = sum(n * f for i in pools for n, f in zip(found.replicas[i], found.idle_frac[i], strict=True))
    return f"{first}; {words.percent(idle / rented)} of rented replica-hours stand idle"


def _table(found: Hours, pools: list[int]) -> Table:
    columns = ["Hour (UTC)", *found.labels, "All requests"]
    for i in pools:
        columns += [f"Replicas: {found.labels[i]}", f"Idle: {found.labels[i]}"]
    rows = []
    for h in range(WEEK_H):
        each = [series[h] for series in found.requests_per_h]
        row = [f"{DAYS[h // 24]} {h % 24:02d}:00", *(words.whole(n) for n in each), words.whole(sum(each))]
        for i in pools:
            row += [words.whole(found.replicas[i][h]), words.percent(found.idle_frac[i][h])]
        rows.append(row)
    return Table(columns, rows, [False] + [True] * (len(columns) - 1))


def _spec(found: Hours, pools: list[int], order: list[int]) -> Spec:
    colours = accents(list(found.options))
    names = [found.labels[i] for i in order]
    x = {
        "field": "h",
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [0, WEEK_H], "nice": False},
        "axis": {"values": list(range(0, WEEK_H + 1, 24)), "labels": False, "tickSize": 6, "grid": True},
    }
    rows = [
        {"h": h, "requests": found.requests_per_h[i][min(h, WEEK_H - 1)], "label": found.labels[i], "rank": rank}
        for rank, i in enumerate(order)
        for h in range(WEEK_H + 1)
    ]
    served: Spec = {
        "width": WIDTH,
        "height": 240,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "area", "interpolate": "step-after", "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": {
                        "field": "requests",
                        "type": "quantitative",
                        "stack": "zero",
                        "title": "Requests an hour",
                        "axis": {"labelExpr": counts(), "tickCount": 5},
                    },
                    "order": {"field": "rank"},
                    "color": {
                        "field": "label",
                        "type": "nominal",
                        "scale": {"domain": names, "range": [colours[i] for i in order]},
                        "legend": {"symbolType": "square"},
                    },
                },
            }
        ],
    }
    if not pools:
        served["layer"].append(_days(240))
        return framed({**served, "padding": {"left": 6, "top": 6, "right": 6, "bottom": 28}})
    bars = []
    for i in pools:
        for h in range(WEEK_H):
            n, idle = found.replicas[i][h], found.idle_frac[i][h]
            if n:
                tip = f"{DAYS[h // 24]} {h % 24:02d}:00, {found.labels[i]}: {n} rented, {words.percent(idle)} idle"
                bars += [
                    {"h": h, "h2": h + 1, "n": n * (1 - idle), "fill": colours[i], "part": 2 * i, "tip": tip},
                    {"h": h, "h2": h + 1, "n": n * idle, "fill": hatch(colours[i]), "part": 2 * i + 1, "tip": tip},
                ]
    tallest = max(sum(found.replicas[i][h] for i in pools) for h in range(WEEK_H))
    rented: Spec = {
        "width": WIDTH,
        "height": 110,
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "strokeWidth": 0, "binSpacing": 0},
                "encoding": {
                    "x": {**x, "bin": "binned"},
                    "x2": {"field": "h2"},
                    "y": {
                        "field": "n",
                        "type": "quantitative",
                        "stack": "zero",
                        "title": "Replicas",
                        "scale": {"domain": [0, tallest * 1.04]},
                        "axis": {"tickCount": min(tallest, 4), "format": "~f"},
                    },
                    "order": {"field": "part"},
                    "fill": {"field": "fill", "scale": None},
                    "tooltip": {"field": "tip"},
                },
            },
            _days(110),
        ],
    }
    return framed({"vconcat": [served, rented], "spacing": 14})


def _days(height: int) -> Spec:
    values = [{"h": 24 * k + 12, "text": day} for k, day in enumerate(DAYS)]
    return {
        "data": {"values": values},
        "mark": {"type": "text", "baseline": "top", "color": var("soft")},
        "encoding": {
            "x": {"field": "h", "type": "quantitative"},
            "y": {"value": height + 9},
            "text": {"field": "text"},
        },
    }
