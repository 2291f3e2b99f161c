"""Cost against latency on this trace: the first token, and each one after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from isocost.plan.result import FrontierPoint, Limit, PlanResult
from isocost.report import words
from isocost.report.chart import WIDTH, Absent, Chart, Spec, Table, brief, framed, log_ticks
from isocost.report.charts.points import (
    Box,
    costs_across,
    costs_axis,
    labels,
    marks,
    place,
    placed,
    row,
    standing,
)
from isocost.report.palette import var

_HEIGHT = 220
_ENDS = 1.5
"""Room at the ends of a latency axis, as a factor."""


class Plane(NamedTuple):
    """One latency: its limit's name, its words, and how a point states it."""

    limit: str
    title: str
    value: Callable[[FrontierPoint], float | None]
    bound: Callable[[FrontierPoint], bool]
    evidence: Callable[[FrontierPoint], str]
    beaten: Callable[[FrontierPoint], bool]


PLANES: Mapping[str, Plane] = {
    "TTFT": Plane(
        "ttft_p95", "TTFT p95", lambda p: p.ttft_p95_s, lambda p: p.ttft_bound, lambda p: p.ttft_evidence,
        lambda p: p.slow,
    ),
    "TPOT": Plane(
        "tpot_p95", "TPOT p95", lambda p: p.tpot_p95_s, lambda p: p.tpot_bound, lambda p: p.tpot_evidence,
        lambda p: p.halting,
    ),
}  # fmt: skip
"""The two latencies: to the first token, and per token after it."""


def latency(result: PlanResult) -> Chart | Absent:
    """Deployments that could carry all the traffic: $ a month against TTFT and against TPOT."""
    found = [p for p in result.frontier if math.isfinite(p.usd_per_month) and _known(p)]
    if len(found) < 2:
        return Absent("No latency of two ways to serve is known: time your calls, or state it as a fact.")
    panels = []
    log, low, high = costs_axis(found)
    drawn = [plane for plane in PLANES.values() if any(plane.value(p) for p in found)]
    for i, plane in enumerate(drawn):
        here = [p for p in found if plane.value(p)]
        panels.append(_panel(result, here, plane, (log, low, high), i == len(drawn) - 1))
    left = len(result.frontier) - len(found)
    note = (
        "TPOT: time per token after the first. What was not seen on this trace is marked ~: a dated fact, "
        "or, for TPOT, a published median, so at least this."
    )
    if left:
        note += f" Of {words.plural(left, 'more', 'more')} no latency is known."
    return Chart(
        title=_title(found),
        subtitle=(
            "$ a month for all of this traffic against the 95th percentile of answers that somebody waits "
            "for; lower is sooner. Filled: proven. Diamond, dashed: not proven. Hollow: another is cheaper "
            "and no slower. Pale: not seen on this trace."
        ),
        spec=framed({"vconcat": panels, "spacing": 14, "resolve": {"scale": {"x": "independent"}}}),
        table=Table(
            ["Deployment", "$ a month", "TTFT p95", "known from", "TPOT p95", "known from", "Standing"],
            [
                [
                    p.label,
                    words.usd(p.usd_per_month),
                    _shown(p.ttft_p95_s, p.ttft_bound),
                    p.ttft_evidence,
                    _shown(p.tpot_p95_s, p.tpot_bound),
                    p.tpot_evidence,
                    standing(p, p.slow and p.halting),
                ]
                for p in sorted(found, key=lambda p: (p.usd_per_month, p.id))
            ],
            [False, True, True, False, True, False, False],
            note,
        ),
    )


def _known(p: FrontierPoint) -> bool:
    return bool(p.ttft_p95_s or p.tpot_p95_s)


def short_s(value: float | None, digits: int = 2) -> str:
    """A latency in seconds, or in milliseconds below a tenth.

    >>> short_s(0.0231), short_s(0.778), short_s(123.4), short_s(0.175, 3), short_s(None)
    ('23 ms', '0.78 s', '123 s', '0.175 s', '—')
    """
    if value is None or not math.isfinite(value):
        return words.DASH
    if value >= 10:
        return f"{value:.0f} s"
    return f"{value:.{digits}g} s" if value >= 0.1 else f"{value * 1000:.{digits}g} ms"


def _shown(value: float | None, bound: bool) -> str:
    return words.DASH if value is None else f"{'~ ' if bound else ''}{short_s(value)}"


def _title(found: list[FrontierPoint]) -> str:
    """Whether being sooner costs more: the plan beside the cheapest that is faster."""
    plan = next((p for p in found if p.option == "mix"), None) or next(
        (p for p in found if p.option == "today"), None
    )
    if plan is None or plan.ttft_p95_s is None:
        return "What a sooner answer costs"
    mine = plan.ttft_p95_s
    who = "The plan" if plan.option == "mix" else "Today"
    text = f"{who} answers in {short_s(mine)} for {words.usd_short(plan.usd_per_month)} a month"
    # What prints as the same second is not sooner: nobody would pay for it.
    sooner = [
        p
        for p in found
        if p.ttft_p95_s is not None and p.ttft_p95_s < mine and short_s(p.ttft_p95_s) != short_s(mine)
    ]
    proven = [p for p in sooner if p.proven]
    best = min(proven or sooner, key=lambda p: (p.usd_per_month, p.id), default=None)
    if best is None:
        return f"{text}; nothing known is sooner"
    cost = words.usd_short(best.usd_per_month)
    proof = "" if best.proven else ", not proven"
    return f"{text}; {brief(best.label, 50)} would in {short_s(best.ttft_p95_s)} for {cost}{proof}"


def _targets(result: PlanResult, plane: Plane) -> list[Limit]:
    """The strictest limit of each size, once."""
    seen: dict[float, Limit] = {}
    for limit in result.limits:
        if limit.name == plane.limit and limit.target > 0:
            seen.setdefault(limit.target, limit)
    return [seen[target] for target in sorted(seen)]


def _panel(
    result: PlanResult, found: list[FrontierPoint], plane: Plane, costs: tuple[bool, float, float], last: bool
) -> Spec:
    log, x_lo, x_hi = costs
    width = WIDTH - 60.0
    values = [value for p in found if (value := plane.value(p))]
    limits = _targets(result, plane)
    low = min(values) / _ENDS
    high = max(max(values), *(limit.target for limit in limits), low) * _ENDS
    x = costs_across(log, x_lo, x_hi)
    x["axis"] |= (
        {"title": "$ a month for all the traffic" + (" (log)" if log else "")} if last else {"labels": False}
    )
    y = {
        "field": "value",
        "type": "quantitative",
        "title": f"{plane.title} (log)",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "values": log_ticks(low, high),
            "labelExpr": "datum.value < 0.1 ? format(datum.value * 1000, '.2~f') + ' ms' : "
            "format(datum.value, '.2~f') + ' s'",
        },
    }
    at = {
        p.id: (place(p.usd_per_month, x_lo, x_hi, width, log), _HEIGHT - place(v, low, high, _HEIGHT, True))
        for p in found
        if (v := plane.value(p))
    }
    walls: list[Box] = []
    for limit in limits:
        level = _HEIGHT - place(limit.target, low, high, _HEIGHT, True)
        walls.append((width - 150, level - 16, width, level))
    beaten = {p.id for p in found if plane.beaten(p)}
    rows = [_row(p, plane) for p in found]
    layers: list[Spec] = [
        {
            "data": {"values": [{"value": x.target, "text": _said(result, plane, x)} for x in limits]},
            "layer": [
                {
                    "mark": {"type": "rule", "strokeDash": [5, 3], "color": var("bad"), "strokeWidth": 1.2},
                    "encoding": {"y": y},
                },
                {
                    "mark": {"type": "text", "align": "right", "baseline": "bottom", "dy": -3, "fontSize": 11,
                             "color": var("bad")},
                    "encoding": {"x": {"value": width - 4}, "y": y, "text": {"field": "text"}},
                },
            ],
        },
        *marks(rows, x, {"y": y}),
        *labels(rows, placed(at, found, walls, (width, float(_HEIGHT)), beaten), x, {"y": y}),
    ]  # fmt: skip
    return {"width": width, "height": _HEIGHT, "layer": layers}


def _said(result: PlanResult, plane: Plane, limit: Limit) -> str:
    who = [x.workload for x in result.limits if x.name == plane.limit and x.target == limit.target]
    return f"limit of {words.listed(list(dict.fromkeys(who)), 2)}, {short_s(limit.target, 3)}"


def _row(p: FrontierPoint, plane: Plane) -> Spec:
    value, bound = plane.value(p), plane.bound(p)
    said = f"{plane.title} {_shown(value, bound)} ({plane.evidence(p)})"
    return {**row(p, value, plane.beaten(p), said), "pale": bound}
