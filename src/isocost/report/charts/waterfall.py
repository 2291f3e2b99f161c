"""From today's bill to the plan, a lever at a time."""

from __future__ import annotations

import textwrap

from isocost.plan.result import PlanResult
from isocost.report import words
from isocost.report.chart import (
    WIDTH,
    Absent,
    Chart,
    Spec,
    Table,
    brief,
    capital,
    dollars,
    framed,
    names_axis,
    plain,
)
from isocost.report.palette import accent, hatch, var

TOLERANCE_FRAC = 0.001
"""Levers that miss the difference by more than this share of today's bill get a step that says so."""
LEAST_USD = 0.005
"""Half a cent: a step below it would be printed as nothing, and is left out."""
REST = "not attributed to one lever"


def steps(result: PlanResult) -> list[tuple[str, float]]:
    """The levers in order; the last is what they leave unattributed, where that is not rounding."""
    found = [(plain(x.label), x.delta_usd) for x in result.levers if abs(x.delta_usd) >= LEAST_USD]
    found = found or [(plain(x.label), 0.0) for x in result.levers[:1]]
    rest = result.plan_usd.mid - result.today_usd.mid - sum(delta for _, delta in found)
    if abs(rest) > TOLERANCE_FRAC * max(abs(result.today_usd.mid), 1e-9):
        found.append((REST, rest))
    return found


def waterfall(result: PlanResult) -> Chart | Absent:
    """A floating bar a lever between today's total and the plan's."""
    if result.verdict == "infeasible":
        return Absent("No plan meets the limits, so there is nothing to step down to.")
    moved = max((abs(lever.delta_usd) for lever in result.levers), default=0.0)
    gap = abs(result.plan_usd.mid - result.today_usd.mid)
    if not result.levers or max(moved, gap) < LEAST_USD:
        return Absent("The plan pulls no lever: it is today's way of serving.")
    found = steps(result)
    total, rows = result.today_usd.mid, [["Today", "", words.usd(result.today_usd.mid)]]
    for label, delta in found:
        total += delta
        rows.append([label, f"{'+' if delta > 0 else ''}{words.usd(delta)}", words.usd(total)])
    rows.append(
        ["Plan", words.usd(result.plan_usd.mid - result.today_usd.mid), words.usd(result.plan_usd.mid)]
    )
    return Chart(
        title=_title(found),
        subtitle="$ a month: from today's bill to the plan, in the order in which the levers are pulled. "
        "Filled saves, hatched adds.",
        spec=_spec(result, found),
        table=Table(["Step", "Change, $ a month", "Then, $ a month"], rows, [False, True, True]),
    )


def _title(found: list[tuple[str, float]]) -> str:
    label, delta = min((one for one in found if one[0] != REST), key=lambda step: (step[1], step[0]))
    if delta > -LEAST_USD:
        return "No lever saves anything here"
    saved = -sum(d for _, d in found if d < 0)
    added = sum(d for _, d in found if d > 0)
    text = f"{capital(brief(label, 70))} saves {words.usd_short(-delta)} a month"
    if len([d for _, d in found if d < 0]) > 1:
        text += f" of {words.usd_short(saved)}"
    return text + (f"; {words.usd_short(added)} of new cost comes with it" if added > 0 else "")


def _spec(result: PlanResult, found: list[tuple[str, float]]) -> Spec:
    total = result.today_usd.mid
    rows = [_row("Today", 0.0, total, accent("today"), words.usd_short(total), 0)]
    for label, delta in found:
        colour = var("rule") if delta < 0 else hatch(accent("mix"))
        text = f"{'+' if delta > 0 else ''}{words.usd_short(delta)}"
        rows.append(_row(brief(label, 76), total, total + delta, colour, text, len(rows)))
        total += delta
    plan = result.plan_usd.mid
    rows.append(_row("Plan", 0.0, plan, accent("mix"), words.usd_short(plan), len(rows)))
    peak = max(max(row["from"], row["to"]) for row in rows)
    y = {
        "field": "n",
        "type": "ordinal",
        "title": None,
        "axis": {
            "labelExpr": "[" + ",".join(_lines(row["label"]) for row in rows) + "][datum.value]",
            **names_axis(),
        },
        "scale": {"paddingInner": 0.32},
    }
    x = {
        "type": "quantitative",
        "title": "$ a month",
        "scale": {"domain": [0, peak * 1.12], "nice": False},
        "axis": {"labelExpr": dollars(), "tickCount": 6},
    }
    links = [{"n": row["n"], "n2": row["n"] + 1, "x": row["to"]} for row in rows[:-1]]
    return framed(
        {
            "width": WIDTH - 250,
            "height": {"step": 36},
            "layer": [
                {
                    "data": {"values": links},
                    "mark": {"type": "rule", "color": var("rule"), "strokeDash": [2, 2]},
                    "encoding": {
                        "x": {"field": "x", **x},
                        "y": {**y, "bandPosition": 0.5},
                        "y2": {"field": "n2", "bandPosition": 0.5},
                    },
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "bar", "cornerRadius": 1},
                    "encoding": {
                        "x": {"field": "from", **x},
                        "x2": {"field": "to"},
                        "y": y,
                        "color": {"field": "colour", "scale": None},
                        "tooltip": [
                            {"field": "label", "title": "step"},
                            {"field": "text", "title": "$ a month"},
                        ],
                    },
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "text", "align": "left", "dx": 6},
                    "encoding": {"x": {"field": "right", **x}, "y": y, "text": {"field": "text"}},
                },
            ],
        }
    )


def _lines(text: str) -> str:
    """A label in one line or two, as a list of Vega's expression language."""
    return "[" + ",".join(_quoted(line) for line in textwrap.wrap(text, 40)[:2]) + "]"


def _quoted(text: str) -> str:
    """A label as a string of Vega's expression language."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", " ") + "'"


def _row(label: str, start: float, end: float, colour: str, text: str, n: int) -> Spec:
    return {
        "label": label,
        "from": start,
        "to": end,
        "right": max(start, end),
        "colour": colour,
        "text": text,
        "n": n,
    }
