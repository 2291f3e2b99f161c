"""The page's own tables and figures: rows of text from a result, nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from isocost.plan.result import OptionLine, PlanResult
from isocost.report import words
from isocost.units import SECONDS_PER_H

NIL = ("0%", "0.0%")
"""Gaps that are printed as none."""
_HASH = re.compile(r"(?:sha256:)?[0-9a-f]{8,64}")

PILLARS: Mapping[str, str] = {
    "development": "Development",
    "deployment": "Deployment and scaling",
    "sustainability": "Sustainability and maintenance",
}
"""The three pillars in order, as people read them; any other id is shown as it is, after them."""

OPTION_NAMES: Mapping[str, str] = {
    "today": "Today",
    "api": "API",
    "hosted": "Hosted open weights",
    "selfhost": "Self-hosted",
    "slm": "Small model",
    "cache": "Cache",
    "batch": "Batch",
    "people": "People",
    "mix": "The plan",
}


class Figure(msgspec.Struct, frozen=True):
    """One of the four figures at the top: what it is, the figure, and a line under it."""

    label: str
    value: str
    under: str
    option: str


class Head(msgspec.Struct, frozen=True):
    """A column of pillar × option: an option and its best single deployment."""

    name: str
    label: str
    option: str
    standing: str
    why_not: str


class Matrix(msgspec.Struct, frozen=True):
    """Pillar by option and account by option; within each, a column adds up to its total.

    Accounts stand apart from pillars, because an account's pillar is not part of a result.
    """

    heads: list[Head]
    pillars: list[tuple[str, list[str]]]
    accounts: list[tuple[str, list[str]]]
    totals: list[str]
    ttfts: list[str]
    days: list[str]


def figures(result: PlanResult) -> list[Figure]:
    """Today, the plan and its band, the saving, and how far the plan can be trusted."""
    today, plan = result.today_usd, result.plan_usd
    at_least = "≥ " if result.at_least else ""
    first = Figure(
        "Today, a month",
        at_least + words.usd_short(today.mid),
        f"80% band {words.usd_short(today.low)} to {words.usd_short(today.high)}"
        + ("; at least, as part of the usage has no known price" if result.at_least else ""),
        "today",
    )
    held = sum(limit.status == "held" for limit in result.limits)
    missed = sum(limit.status == "missed" for limit in result.limits)
    set_ = sum(limit.status != "no limit" for limit in result.limits)
    if result.verdict == "infeasible":
        return [
            first,
            Figure("The plan, a month", "none", "no plan meets the limits", "mix"),
            Figure("Saving, a month", words.DASH, "there is no plan to compare with", "mix"),
            Figure("Limits held", f"{held} of {set_}", f"{missed} missed", "mix"),
        ]
    # Sums of floats differ in their last digits: under a cent is none.
    saving = round(today.mid - plan.mid, 2) + 0.0
    share = f", {words.percent(abs(saving) / today.mid)} of today" if today.mid > 0 else ""
    return [
        first,
        Figure(
            "The plan, a month",
            words.usd_short(plan.mid),
            f"80% band {words.usd_short(plan.low)} to {words.usd_short(plan.high)}",
            "mix",
        ),
        Figure(
            "Saving, a month" if saving >= 0 else "More than today, a month",
            at_least + words.usd_short(abs(saving)),
            f"{at_least}{words.usd_short(abs(saving) * 12)} a year{share}{_how_sure(result)}",
            "mix",
        ),
        Figure(
            "Limits held" if set_ else "Limits",
            f"{held} of {set_}" if set_ else "none set",
            _held_under(result, missed, set_ - held - missed),
            "mix",
        ),
    ]


def _how_sure(result: PlanResult) -> str:
    """In how many scenarios the plan is the cheaper one, where that is known and the plan saves."""
    if result.sure is None or result.plan_usd.mid >= result.today_usd.mid:
        return ""
    return f"; cheaper in {words.sure(result.sure.plan_cheaper_frac)} of scenarios"


def _held_under(result: PlanResult, missed: int, unverified: int) -> str:
    said = [f"{n} {what}" for n, what in ((missed, "missed"), (unverified, "unverified")) if n]
    gap = words.percent(result.gap_frac)
    said.append("cost certified the least" if gap in NIL else f"cost certified within {gap} of the least")
    return "; ".join(said)


def basis(result: PlanResult) -> str:
    """The day and the basis of the prices, said once."""
    if result.priced_on in result.price_basis:
        return result.price_basis[:1].upper() + result.price_basis[1:]
    if _HASH.fullmatch(result.price_basis):
        return f"Prices of {result.priced_on}, catalog {result.price_basis}"
    return f"Prices of {result.priced_on}: {result.price_basis}"


def plan_rows(result: PlanResult) -> list[dict[str, Any]]:
    """The verdict's table: each line of the plan, its share drawn as a bar."""
    return [
        {
            "label": line.label,
            "option": line.option,
            "usd": words.usd(line.usd_per_month),
            "share": words.percent(line.share_frac) if line.share_frac > 0 else words.DASH,
            "bar": "" if line.share_frac <= 0 else f"{min(max(line.share_frac, 0.0), 1.0) * 100:.1f}",
            "ttft": words.seconds(line.ttft_p95_s),
            "evidence": line.latency_evidence,
            "quality": line.quality or words.DASH,
            "workloads": line.workloads,
        }
        for line in result.lines
    ]


def rest(result: PlanResult) -> str:
    """What the lines leave of the plan's cost, or nothing where that is rounding."""
    left = result.plan_usd.mid - sum(line.usd_per_month for line in result.lines)
    return words.usd(left) if abs(left) > max(0.5, 1e-4 * abs(result.plan_usd.mid)) else ""


def today_label(result: PlanResult) -> str:
    """Today's way of serving as a row's label."""
    said = result.trace.today
    return said[:1].upper() + said[1:] if said.lower().startswith("today") else f"Today: {said}"


def today_ttft(result: PlanResult) -> str:
    """Today's TTFT p95, where it is known."""
    return words.seconds(next((o.ttft_p95_s for o in result.options if o.option == "today"), None))


def plan_sentence(result: PlanResult) -> str:
    """The finding of the plan's table."""
    serving = [line for line in result.lines if line.share_frac > 0]
    same = sum(line.share_frac for line in serving if line.same_model)
    if not serving:
        return "The least-cost plan, line by line"
    if same >= 0.9995:
        return "Every request keeps its model"
    top = max(serving, key=lambda line: line.share_frac)
    if same <= 0.0005:
        return f"{top.label} answers {words.percent(top.share_frac)} of requests"
    kept, moved = words.percent(same), words.percent(1 - same)
    return f"{kept} of requests keep their model; {moved} move to one that is proven"


def matrix_sentence(result: PlanResult) -> str:
    """The finding of pillar by option: the plan's largest pillar."""
    plan = next((o for o in result.options if o.option == "mix"), None)
    plan = plan or next((o for o in result.options if o.option == "today"), None)
    amounts = {p: usd for p, usd in plan.by_pillar.items() if usd > 0} if plan else {}
    if plan is None or not amounts:
        return "Cost by pillar and option"
    top = max(amounts, key=lambda p: (amounts[p], p))
    who = "the plan" if plan.option == "mix" else "today's bill"
    return f"{PILLARS.get(top, top)} is {words.percent(amounts[top] / sum(amounts.values()))} of {who}"


def unproven_sentence(result: PlanResult) -> str:
    """The finding of what is cheaper but not proven."""
    if not result.unproven:
        return ""
    best = max(result.unproven, key=lambda u: (u.saves_usd_per_month, u.id))
    saves = words.usd_short(best.saves_usd_per_month)
    return f"{best.label} would save {saves} more a month, if it proved as good"


def trace_sentence(result: PlanResult) -> str:
    """The head of what was found about the traffic."""
    n = len(result.trace.findings)
    read = f"Read as {result.trace.reader}"
    return (
        f"{read}; {words.plural(n, 'thing')} to know about it" if n else f"{read}; nothing doubtful was found"
    )


def matrix(result: PlanResult) -> Matrix | None:
    """Pillar × option, then account × option; an amount that is nil or absent is a dash."""
    options = result.options
    if not options:
        return None
    pillars = [p for p in PILLARS if any(p in o.by_pillar for o in options)]
    pillars += sorted({p for o in options for p in o.by_pillar} - set(PILLARS))
    accounts = sorted(
        {a for o in options for a in o.by_account},
        key=lambda a: (-max(o.by_account.get(a, 0.0) for o in options), a),
    )
    return Matrix(
        heads=[
            Head(OPTION_NAMES.get(o.option, o.option), o.label, o.option, _standing(o), o.why_not)
            for o in options
        ],
        pillars=[(PILLARS.get(p, p), [_cell(o.by_pillar.get(p)) for o in options]) for p in pillars],
        accounts=[(a.replace("_", " "), [_cell(o.by_account.get(a)) for o in options]) for a in accounts],
        totals=[words.usd(o.usd_per_month.mid) if _exists(o) else words.DASH for o in options],
        ttfts=[words.seconds(o.ttft_p95_s) for o in options],
        days=[words.DASH if o.days_to_launch is None else words.whole(o.days_to_launch) for o in options],
    )


def _exists(o: OptionLine) -> bool:
    """Whether the option has any deployment at all; one that has none has no cost, not a cost of nil."""
    return bool(o.id or o.label)


def _standing(o: OptionLine) -> str:
    if not o.feasible:
        return "ruled out" if _exists(o) else "none found"
    return "in place" if o.option == "today" else "allowed"


def _cell(amount: float | None) -> str:
    return words.DASH if amount is None or amount == 0 else words.usd(amount)


def limit_rows(result: PlanResult) -> list[dict[str, str]]:
    """Each limit with what was found; what was not found stays unverified, never held."""
    rows = []
    for limit in result.limits:
        bare = limit.status == "no limit"
        rows.append(
            {
                "workload": limit.workload,
                "name": limit_name(limit.name),
                "target": words.DASH if bare else quantity(limit.target, limit.unit),
                "found": words.DASH if limit.found is None else quantity(limit.found, limit.unit),
                "status": limit.status,
                "evidence": limit.evidence or words.DASH,
            }
        )
    return rows


def limit_name(name: str) -> str:
    """A limit's name as people write it: ``TTFT p95``."""
    parts = [part.upper() if part in ("ttft", "tpot", "itl", "e2e") else part for part in name.split("_")]
    return " ".join(parts)


def quantity(value: float, unit: str) -> str:
    """A limit's value with its unit; long times in hours."""
    if unit == "s" and value >= SECONDS_PER_H:
        value, unit = value / SECONDS_PER_H, "h"
    return unit if unit and value == 0 and not _is_measure(unit) else f"{_three(value)} {unit}".strip()


def _three(value: float) -> str:
    """Three digits, enough for what was replayed or measured."""
    return words.number(value if abs(value) >= 1000 or value == 0 else float(f"{value:.3g}"))


def _is_measure(unit: str) -> bool:
    return unit in ("s", "ms", "pt", "%", "frac", "usd", "requests/s", "tok/s", "kg", "h", "days")


def limits_sentence(result: PlanResult) -> str:
    """The finding of the limits' table."""
    counts = {
        status: sum(x.status == status for x in result.limits) for status in ("held", "missed", "unverified")
    }
    if not any(counts.values()):
        return "No limit was set"
    parts = [f"{n} {status}" for status, n in counts.items() if n]
    what = words.listed(parts)
    if counts["unverified"] and not counts["held"] and not counts["missed"]:
        return f"No limit could be verified: {what}"
    if counts["missed"]:
        return f"Not every limit holds: {what}"
    return f"Every limit set holds: {what}" if not counts["unverified"] else f"No limit is missed: {what}"


def unproven_rows(result: PlanResult) -> list[dict[str, str]]:
    """Cheaper choices that the evidence does not allow yet, by what they would save."""
    return [
        {
            "label": u.label,
            "workloads": ", ".join(u.workloads),
            "saves": words.usd(u.saves_usd_per_month),
            "evidence": u.evidence or "none",
            "settle": "not known: there is nothing to size a sample from"
            if u.samples_to_settle is None
            else f"{u.samples_to_settle:,} graded samples",
        }
        for u in sorted(result.unproven, key=lambda u: (-u.saves_usd_per_month, u.id))
    ]


def fact_rows(result: PlanResult) -> list[dict[str, Any]]:
    """Every fact the plan rests on; only a web address becomes a link."""
    rows = []
    for fact in result.facts:
        if fact.low is None or fact.high is None:
            interval = words.DASH
        else:
            interval = f"{words.number(fact.low)} to {words.number(fact.high)}"
        rows.append(
            {
                "id": fact.id,
                "value": words.typed(fact.value),
                "unit": fact.unit.replace("_", " "),
                "interval": interval,
                "kind": fact.kind,
                "source": fact.source,
                "link": fact.address if fact.address.startswith(("https://", "http://")) else "",
                "address": fact.address,
                "checked": fact.checked,
                "age": fact.age_days,
                "quote": fact.quote,
                "order": _order(fact.value),
            }
        )
    return rows


def _order(value: str) -> str:
    try:
        return repr(float(value))
    except ValueError:
        return value


def facts_sentence(result: PlanResult) -> str:
    """The finding of the facts' table."""
    n = len(result.facts)
    if not n:
        return "No fact was recorded"
    assumed = sum(fact.kind == "assumed" for fact in result.facts)
    text = f"The plan rests on {words.plural(n, 'fact')}"
    text += f", {words.whole(assumed)} of them assumed" if assumed else ", none of them assumed"
    return text + (
        f"; {result.stale_facts} {'are' if result.stale_facts != 1 else 'is'} stale"
        if result.stale_facts
        else ""
    )


def rebuild_rows(result: PlanResult) -> list[tuple[str, str]]:
    """What it takes to make this page again; the result's own entries win over the defaults."""
    found = {
        "isocost": result.version,
        "priced on": result.priced_on,
        "price basis": result.price_basis,
        "trace": result.trace.digest,
    }
    names = {name.replace("_", " ") for name in result.rebuild}
    rows = [(name.replace("_", " "), text) for name, text in result.rebuild.items()]
    return rows + [(name, text) for name, text in found.items() if name not in names]
