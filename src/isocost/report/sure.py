"""How sure, as rows of text: ways in common scenarios, what is worth knowing, and what a path commits to."""

from __future__ import annotations

from collections.abc import Sequence

from isocost.plan.path.result import PathResult
from isocost.plan.result import PlanResult, Worth
from isocost.report import words
from isocost.report.chart import brief, capital


def odds_rows(result: PlanResult) -> list[dict[str, str]]:
    """Each way in the same scenarios: cost, chance to be the cheapest, and what choosing it risks."""
    if result.sure is None:
        return []
    return [
        {
            "label": one.label,
            "option": one.option,
            "usd": words.usd(one.usd_per_month.mid),
            "band": f"{words.usd_short(one.usd_per_month.low)} to {words.usd_short(one.usd_per_month.high)}",
            "cheapest": words.sure(one.cheapest_frac),
            "regret": words.usd(one.regret_usd),
            "tail": words.usd(one.regret_p90_usd),
            "allowed": "yes" if one.allowed else "not proven",
        }
        for one in result.sure.odds
    ]


def odds_sentence(result: PlanResult) -> str:
    """What the plan risks: the share of scenarios in which today would have been cheaper, and the regret."""
    if result.sure is None:
        return ""
    plan = next((one for one in result.sure.odds if one.option == "mix"), None)
    cheaper = words.sure(result.sure.plan_cheaper_frac)
    text = f"The plan costs less than today in {cheaper} of {words.whole(result.sure.scenarios)} scenarios"
    if plan is not None and plan.regret_usd >= 0.5:
        text += f"; hindsight would save {words.usd_short(plan.regret_usd)} a month in the mean"
    return text


def worth_rows(found: Sequence[Worth]) -> list[dict[str, str]]:
    """What it is worth to learn each fact, most first."""
    return [{"label": capital(one.label), "name": one.name, "usd": words.usd(one.usd)} for one in found]


def worths(result: PlanResult) -> list[dict[str, str]]:
    """What is worth measuring before choosing: facts that could change it, then proof of what is cheaper."""
    if result.sure is None:
        return []
    rows = [{**row, "how": "any fact alone"} for row in worth_rows(result.sure.worths)]
    for one in sorted(result.unproven, key=lambda u: (-u.saves_usd_per_month, u.id)):
        settle = (
            "" if one.samples_to_settle is None else f"; {one.samples_to_settle:,} graded samples settle it"
        )
        rows.append(
            {
                "label": f"Grade {brief(one.label, 50)} on your own questions",
                "name": one.id,
                "usd": f"up to {words.usd(one.saves_usd_per_month)}",
                "how": f"if it proves as good{settle}",
            }
        )
    return rows


def worths_sentence(result: PlanResult) -> str:
    """The finding: whether any fact could still change the choice among what is allowed."""
    if result.sure is None:
        return ""
    evpi = result.sure.evpi_usd
    if evpi < 1.0:
        text = "No fact about prices, people or speed would change the choice among what is allowed"
    else:
        text = f"Knowing every fact before choosing is worth at most {words.usd_short(evpi)} a month"
        if result.sure.worths:
            top = result.sure.worths[0]
            text += f"; most of it {brief(top.label, 50)}, {words.usd_short(top.usd)}"
    if result.unproven:
        best = max(one.saves_usd_per_month for one in result.unproven)
        text += f"; proof of quality is worth up to {words.usd_short(best)}"
    return text


def signing_rows(path: PathResult) -> list[dict[str, str]]:
    """What is signed when, for how long, at what rent, and how used it is."""
    return [
        {
            "when": "there already" if one.held else one.label,
            "what": f"{one.count} × {one.gpu}",
            "term": one.term,
            "until": one.until,
            "rent": f"${one.usd_per_gpu_h:.2f}",
            "used": words.percent(one.used_frac),
        }
        for one in path.signings
    ]


def rival_rows(path: PathResult) -> list[dict[str, str]]:
    """Staying with one way: its cost over the horizon, its chance to be cheapest, the regret of it."""
    return [
        {
            "way": one.way,
            "usd": words.usd(one.usd),
            "band": words.DASH
            if one.band is None
            else f"{words.usd_short(one.band.low)} to {words.usd_short(one.band.high)}",
            "cheapest": words.sure(one.cheapest_frac),
            "regret": words.usd(one.regret_usd),
        }
        for one in path.rivals
    ]
