"""Who serves each hour of the week, and the replicas that were paid for and idle."""

from __future__ import annotations

from isocost.plan.result import Hours, PlanResult
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
    framed,
    legend_columns,
    plain,
)
from isocost.report.palette import TINTS, accents, hatch, var
from isocost.units import WEEK_H

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
    first = f"{brief(found.labels[top], 60)} serves {words.percent(totals[top] / all_requests)} of requests"
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
        row = [_clock(h), *(words.whole(n) for n in each), words.whole(sum(each))]
        for i in pools:
            row += [words.whole(found.replicas[i][h]), words.percent(found.idle_frac[i][h])]
        rows.append(row)
    return Table(columns, rows, [False] + [True] * (len(columns) - 1))


def _grouped(found: Hours, pools: list[int], order: list[int]) -> list[tuple[str, str, list[int]]]:
    """Label, fill and deployments of each band, largest first, those that share one last.

    An accent has few tints that the eye tells apart: of each option the largest deployments and every
    pool have a band of their own, and the rest share one.
    """
    told = distinct(list(found.labels))
    bands: list[tuple[str, str, list[int]]] = []
    for option in dict.fromkeys(found.options):
        mine = [i for i in order if found.options[i] == option]
        own = mine if len(mine) <= TINTS else [i for n, i in enumerate(mine) if n < TINTS - 1 or i in pools]
        rest = [i for i in mine if i not in own]
        tints = accents([option] * TINTS)
        bands += [(told[i], tints[min(n, TINTS - 1)], [i]) for n, i in enumerate(own)]
        if rest:
            bands.append((f"{len(rest)} more ({option})", tints[-1], rest))

    def size(band: tuple[str, str, list[int]]) -> tuple[bool, float, str]:
        return len(band[2]) > 1, -sum(sum(found.requests_per_h[i]) for i in band[2]), band[0]

    return sorted(bands, key=size)


def _spec(found: Hours, pools: list[int], order: list[int]) -> Spec:
    bands = _grouped(found, pools, order)
    names = [name for name, _, _ in bands]
    fills = {i: fill for _, fill, mine in bands for i in mine}
    x = {
        "field": "h",
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [0, WEEK_H], "nice": False},
        "axis": {"values": list(range(0, WEEK_H + 1, 24)), "labels": False, "tickSize": 6, "grid": True},
    }
    rows = [
        {
            "h": h,
            "requests": sum(found.requests_per_h[i][min(h, WEEK_H - 1)] for i in mine),
            "label": name,
            "rank": rank,
        }
        for rank, (name, _, mine) in enumerate(bands)
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
                        "scale": {"domain": names, "range": [fill for _, fill, _ in bands]},
                        "legend": {"symbolType": "square", "columns": legend_columns(names)},
                    },
                },
            },
            _hover(found, pools),
        ],
    }
    if not pools:
        served["layer"].append(_days(240))
        return framed(served)
    parts = []
    for i in pools:
        for h in range(WEEK_H + 1):
            n, idle = found.replicas[i][h % WEEK_H], found.idle_frac[i][h % WEEK_H]
            parts += [
                {"h": h, "n": n * (1 - idle), "fill": fills[i], "part": 2 * i},
                {"h": h, "n": n * idle, "fill": hatch(fills[i]), "part": 2 * i + 1},
            ]
    tallest = max(sum(found.replicas[i][h] for i in pools) for h in range(WEEK_H))
    rented: Spec = {
        "width": WIDTH,
        "height": 110,
        "layer": [
            {
                "data": {"values": parts},
                "mark": {"type": "area", "interpolate": "step-after", "opacity": 1},
                "encoding": {
                    "x": x,
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
                },
            },
            _hover(found, pools),
            _days(110),
        ],
    }
    return framed({"vconcat": [served, rented], "spacing": 14})


def _hover(found: Hours, pools: list[int]) -> Spec:
    """An unseen column an hour that says, under the pointer, who served it."""
    rows = []
    for h in range(WEEK_H):
        said = [
            f"{words.whole(series[h])} {plain(label)}"
            for label, series in zip(found.labels, found.requests_per_h, strict=True)
            if series[h] > 0
        ]
        said += [
            f"{words.plural(found.replicas[i][h], 'replica')} of {plain(found.labels[i])}, "
            f"{words.percent(found.idle_frac[i][h])} idle"
            for i in pools
            if found.replicas[i][h]
        ]
        rows.append({"h": h, "h2": h + 1, "tip": f"{_clock(h)} · " + " · ".join(said)})
    return {
        "data": {"values": rows},
        "mark": {"type": "bar", "opacity": 0, "binSpacing": 0},
        "encoding": {
            "x": {"field": "h", "type": "quantitative", "bin": "binned"},
            "x2": {"field": "h2"},
            "tooltip": {"field": "tip"},
        },
    }


def _clock(h: int) -> str:
    return f"{DAYS[h // 24]} {h % 24:02d}:00"


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
