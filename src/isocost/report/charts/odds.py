"""Who is cheapest by volume and horizon, and where each break-even lies, over scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from isocost.plan.path.result import PathResult
from isocost.plan.result import Band, OddsMap, PlanResult, Turn
from isocost.report import words
from isocost.report.chart import (
    WIDTH,
    Absent,
    Chart,
    Spec,
    Table,
    brief,
    capital,
    counts,
    distinct,
    framed,
    legend_columns,
    log_ticks,
    names_axis,
)
from isocost.report.charts.quarters import way_colours
from isocost.report.palette import accent, var

_ROW_PX = 24
_PALEST = 0.18
_DARK_FROM = 0.68
"""Share from which a cell is so dark that its text is in the colour of paper."""
SURE = 0.8
"""Share of scenarios from which who is cheapest is called settled."""


class Cell(NamedTuple):
    """A volume and a horizon: who is cheapest most often, and all shares in words."""

    volume: float
    months: int
    label: str
    frac: float
    said: str


def cheapest(result: PlanResult) -> Chart | Absent:
    """P(cheapest) by volume and horizon: of what is allowed, and of everything were it proven."""
    found = None if result.sure is None else result.sure.map
    if found is None:
        return Absent("There is one way to serve only, so none to be cheaper.")
    names = distinct(found.labels, 44)
    colours = {name: accent(option) for name, option in zip(names, found.options, strict=True)}
    every = [_cells(found, names, found.frac)]
    heads = ["everything priced"]
    if not all(found.allowed) and sum(found.allowed) > 1:
        every.insert(0, _cells(found, names, found.allowed_frac))
        heads = ["what is allowed", "were all of it proven"]
    here = result.trace.requests_per_month
    columns = ["Requests a month", *(f"{m} months" for m in found.months)]
    rows = []
    for v, volume in enumerate(found.requests_per_month):
        cells = []
        for h in range(len(found.months)):
            shares = sorted(((found.frac[i][v][h], names[i]) for i in range(len(names))), reverse=True)
            cells.append("; ".join(f"{n} {words.percent(f)}" for f, n in shares if f >= 0.005))
        rows.append([words.whole(volume), *cells])
    return Chart(
        title=_map_title(every, here, found),
        subtitle=(
            "The way that costs least in most scenarios, and the share in which it does, by requests a month "
            "and months looked ahead. Prices move as forecast, a launch is paid once, months are discounted, "
            "traffic stays."
        ),
        spec=heat(every, heads, colours, here),
        table=Table(columns, rows, [True] + [False] * len(found.months)),
    )


def _cells(found: OddsMap, names: list[str], frac: list[list[list[float]]]) -> list[Cell]:
    cells = []
    for v, volume in enumerate(found.requests_per_month):
        for h, months in enumerate(found.months):
            shares = sorted(((frac[i][v][h], -i) for i in range(len(names))), reverse=True)
            top, i = shares[0]
            said = ", ".join(f"{names[-j]} {words.percent(f)}" for f, j in shares if f >= 0.005)
            cells.append(Cell(volume, months, names[-i], top, said))
    return cells


def _near(cells: Sequence[Cell], volume: float, months: int) -> Cell:
    return min(cells, key=lambda c: (abs(c.months - months), abs(c.volume - volume)))


def _map_title(every: list[list[Cell]], here: float, found: OddsMap) -> str:
    months = 12 if 12 in found.months else found.months[-1]
    now = _near(every[0], here, months)
    what = "is cheapest" if len(every) == 1 else "is the cheapest allowed"
    text = f"At this volume {brief(now.label, 44)} {what} in {words.sure(now.frac)} of scenarios"
    text += f" over {months} months"
    others = [c for c in every[-1] if c.months == months and c.volume >= here and c.label != now.label]
    if others:
        first = min(others, key=lambda c: c.volume)
        if len(every) > 1:
            text += f"; were all proven, {brief(first.label, 44)}"
            text += " would be" if first.volume <= here * 1.01 else f" from {words.count(first.volume)}"
        else:
            text += f"; from {words.count(first.volume)} requests a month {brief(first.label, 44)}"
    return text


def heat(every: list[list[Cell]], heads: list[str], colours: dict[str, str], here: float) -> Spec:
    """Tables of cells coloured by who is cheapest, the paler the less sure."""
    volumes = sorted({c.volume for c in every[0]}, reverse=True)
    months = sorted({c.months for c in every[0]})
    near = min(volumes, key=lambda v: abs(v - here))
    shown = [name for name in colours if any(c.label == name for cells in every for c in cells)]
    labels = {
        v: words.count(v) + (" (this trace)" if v == near and abs(v / here - 1) < 0.05 else "")
        for v in volumes
    }
    width = (WIDTH - 150 - 60 * (len(every) - 1)) / len(every)
    panels: list[Spec] = []
    for k, (head, cells) in enumerate(zip(heads, every, strict=True)):
        rows = [
            {
                "volume": labels[c.volume],
                "months": str(c.months),
                "label": c.label,
                "frac": c.frac,
                "text": words.sure(c.frac),
                "tip": f"{words.count(c.volume)} a month over {c.months} months: {c.said}",
            }
            for c in cells
        ]
        y = {
            "field": "volume",
            "type": "nominal",
            "sort": [labels[v] for v in volumes],
            "title": "Requests a month" if k == 0 else None,
            "axis": {"labels": k == 0, "ticks": False, "domain": False, "labelPadding": 6},
        }
        x = {
            "field": "months",
            "type": "nominal",
            "sort": [str(m) for m in months],
            "title": "Months looked ahead",
            "axis": {"labelAngle": 0, "ticks": False, "domain": False},
        }
        colour = {
            "field": "label",
            "type": "nominal",
            "scale": {"domain": shown, "range": [colours[name] for name in shown]},
            "legend": {"symbolType": "square", "columns": min(2, legend_columns(shown)), "symbolOpacity": 1},
        }
        panels.append(
            {
                "title": {
                    "text": capital(head), "fontSize": 12.5, "fontWeight": 500, "offset": 6,
                    "anchor": "middle", "frame": "group",
                },
                "width": width,
                "height": {"step": _ROW_PX},
                "data": {"values": rows},
                "layer": [
                    {
                        "mark": {"type": "rect", "stroke": var("paper"), "strokeWidth": 2},
                        "encoding": {
                            "x": x, "y": y, "color": colour,
                            "opacity": {
                                "field": "frac", "type": "quantitative", "legend": None,
                                "scale": {"domain": [0.25, 1], "range": [_PALEST, 0.85], "clamp": True},
                            },
                            "tooltip": {"field": "tip"},
                        },
                    },
                    {
                        "mark": {"type": "text", "fontSize": 11},
                        "encoding": {
                            "x": x, "y": y, "text": {"field": "text"}, "tooltip": {"field": "tip"},
                            "color": {
                                "condition": {"test": f"datum.frac >= {_DARK_FROM}", "value": var("paper")},
                                "value": var("ink"),
                            },
                        },
                    },
                ],
            }
        )  # fmt: skip
    return framed({"hconcat": panels, "spacing": 24})


def turns(result: PlanResult) -> Chart | Absent:
    """Break-even as a distribution: the volume, and the months until a launch is paid back."""
    found = [] if result.sure is None else result.sure.turns
    if not found:
        return Absent("There is no other way to serve that could break even.")
    here = result.trace.requests_per_month
    volumes = result.sure.map.requests_per_month if result.sure and result.sure.map else [here]
    months = result.sure.map.months[-1] if result.sure and result.sure.map else 36
    names = distinct([turn.label for turn in found], 44)
    over = _against(found[0])
    beside = "".join(f" ({turn.label}: than {_against(turn)})" for turn in found if _against(turn) != over)
    return Chart(
        title=_turn_title(min(found, key=_soonest)),
        subtitle=(
            f"Where each way comes to cost less than {over}{beside}: bars span the central 80% of "
            "scenarios, the tick is the middle; pale: not proven. Above, the requests a month from which it "
            f"does (dotted: this trace, {words.count(here)}); below, months at this volume until its "
            "launch is paid back."
        ),
        spec=_turn_spec(found, names, here, (volumes[0], volumes[-1]), months),
        table=Table(
            ["Way", "From requests a month", "80%", "Never", "Launch, once", "Paid back, months", "80%",
             f"Not within {months}"],
            [
                [
                    name,
                    _at_volume(turn.requests_per_month, volumes[0]),
                    _ends(turn.requests_per_month, volumes[0]),
                    words.percent(turn.never_frac),
                    words.usd(turn.launch_usd),
                    words.DASH if turn.payback_months is None else f"{turn.payback_months.mid:.1f}",
                    words.DASH
                    if turn.payback_months is None
                    else f"{turn.payback_months.low:.1f} to {turn.payback_months.high:.1f}",
                    words.percent(turn.unpaid_frac),
                ]
                for name, turn in zip(names, found, strict=True)
            ],
            [False] + [True] * 7,
            "Bands are of the scenarios in which it happens at all; a dash is an event that mostly does not.",
        ),
    )  # fmt: skip


def _soonest(turn: Turn) -> tuple[bool, float, str]:
    mid = turn.requests_per_month.mid if turn.requests_per_month is not None else float("inf")
    return not turn.allowed, mid, turn.label


def _against(turn: Turn) -> str:
    """What a way is held against, as a noun."""
    return "today's way" if turn.over == "as today" else brief(turn.over, 44)


def _turn_title(turn: Turn) -> str:
    name, over = brief(turn.label, 44), _against(turn)
    if turn.requests_per_month is None:
        return f"In most scenarios {name} costs less than {over} at no volume"
    # A model's id keeps its letters; what is said in words begins as a sentence does.
    name = name if "/" in name else capital(name)
    band = turn.requests_per_month
    at = words.count(band.mid) if band.mid > 0 else "the smallest volume"
    text = f"{name} costs less than {over} from {at} requests a month"
    text += f" ({_span(band)})" if band.high > band.low else ""
    return text + ("" if turn.allowed else ", if it is proven")


def _span(band: Band) -> str:
    low = words.count(band.low) if band.low > 0 else "less"
    return f"80%: {low} to {words.count(band.high)}"


def _at_volume(band: Band | None, least: float) -> str:
    if band is None:
        return words.DASH
    return words.whole(band.mid) if band.mid > 0 else f"under {words.whole(least)}"


def _ends(band: Band | None, least: float) -> str:
    if band is None:
        return words.DASH
    low = words.count(band.low) if band.low > 0 else f"under {words.count(least)}"
    return f"{low} to {words.count(band.high)}"


def _turn_spec(
    found: list[Turn], names: list[str], here: float, volumes: tuple[float, float], months: int
) -> Spec:
    least, most = volumes
    y = {
        "field": "label",
        "type": "nominal",
        "sort": names,
        "title": None,
        "axis": names_axis(),
    }
    axes = {
        "volume": {
            "type": "quantitative",
            "title": "Requests a month (log)",
            "scale": {"type": "log", "domain": [least, most], "nice": False},
            "axis": {"labelExpr": counts(), "values": log_ticks(least, most)},
        },
        "months": {
            "type": "quantitative",
            "title": "Months until the launch is paid back",
            "scale": {"domain": [0, months], "nice": False},
            "axis": {"tickCount": 6},
        },
    }
    panels: list[Spec] = []
    for which, x in axes.items():
        rows = []
        for name, turn in zip(names, found, strict=True):
            band = turn.requests_per_month if which == "volume" else turn.payback_months
            frac = turn.never_frac if which == "volume" else turn.unpaid_frac
            row: Spec = {"label": name, "colour": accent(turn.option), "ok": turn.allowed}
            if band is None:
                say = "at no volume" if which == "volume" else f"not paid back within {months} months"
                row |= {"text": f"{say} in {words.percent(frac)}", "at": least if which == "volume" else 0}
            else:
                ends = [band.low, band.mid, band.high]
                if which == "volume":
                    ends = [min(max(end, least), most) for end in ends]
                seldom = f"; never in {words.percent(frac)}" if frac >= 0.005 else ""
                said = (
                    _ends(band, least) if which == "volume" else f"{band.low:.1f} to {band.high:.1f} months"
                )
                row |= {"low": ends[0], "mid": ends[1], "high": ends[2], "text": said + seldom, "at": ends[2]}
            rows.append(row)
        colour = {"field": "colour", "scale": None}
        faint = {"condition": {"test": "datum.ok", "value": 1}, "value": 0.45}
        layers: list[Spec] = [
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "bar", "height": 9, "cornerRadius": 4},
                "encoding": {
                    "y": y, "x": {"field": "low", **x}, "x2": {"field": "high"}, "color": colour,
                    "opacity": faint, "tooltip": {"field": "text"},
                },
            },
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "tick", "thickness": 3, "size": 20},
                "encoding": {"y": y, "x": {"field": "mid", **x}, "color": colour},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8, "fontSize": 11, "color": var("soft")},
                "encoding": {"y": y, "x": {"field": "at", **x}, "text": {"field": "text"}},
            },
        ]  # fmt: skip
        if which == "volume" and least <= here <= most:
            layers.append(
                {
                    "data": {"values": [{"v": here}]},
                    "mark": {"type": "rule", "strokeDash": [2, 3], "strokeWidth": 1.5, "color": var("ink")},
                    "encoding": {"x": {"field": "v", **x}},
                }
            )
        panels.append(
            {"width": WIDTH - 330, "height": {"step": 34}, "data": {"values": rows}, "layer": layers}
        )
    return framed(
        {"vconcat": panels, "spacing": 18, "resolve": {"scale": {"x": "independent", "y": "shared"}}}
    )


def path_cheapest(path: PathResult, here: float) -> Chart | Absent:
    """Who is cheapest by volume and horizon, keeping one way, of the ways that a path chooses from."""
    if not path.cells:
        return Absent("There is one way to serve only, so none to be cheaper.")
    ways = list(dict.fromkeys(name for cell in path.cells for name in cell.odds or {cell.way: cell.frac}))
    names = dict(zip(ways, distinct(ways, 60), strict=True))
    colours = {names[way]: colour for way, colour in way_colours(path).items() if way in names}
    cells = []
    for one in path.cells:
        shares = sorted((one.odds or {one.way: one.frac}).items(), key=lambda pair: -pair[1])
        said = ", ".join(f"{names[way]} {words.percent(frac)}" for way, frac in shares if frac >= 0.005)
        cells.append(Cell(one.requests_per_month, one.months, names[one.way], one.frac, said))
    now = _near(cells, here, path.months)
    unsure = [c for c in cells if c.frac < SURE]
    where = list(dict.fromkeys(words.count(c.volume) for c in unsure))
    sure = f"except at {words.listed(where)} a month" if unsure else "everywhere"
    volumes, months = sorted({c.volume for c in cells}), sorted({c.months for c in cells})
    at = {(c.volume, c.months): c for c in cells}
    return Chart(
        title=f"{brief(now.label, 70)} is cheapest in {words.sure(now.frac)} of scenarios",
        subtitle=(
            "Keeping one way, the one that costs least in most scenarios and the share in which it does, by "
            f"requests a month and months looked ahead. At least {words.percent(SURE)} sure {sure}."
        ),
        spec=heat([cells], ["ways that are allowed"], colours, here),
        table=Table(
            ["Requests a month", *(f"{m} months" for m in months)],
            [[words.whole(v), *(at[v, m].said for m in months)] for v in volumes],
            [True] + [False] * len(months),
        ),
    )
