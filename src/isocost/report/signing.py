"""The one page that goes to whoever signs: the answer, what it commits to, how sure, what would change it."""

from __future__ import annotations

from isocost.plan.path.result import PathResult
from isocost.plan.result import PlanResult
from isocost.report.words import sure
from isocost.units import count, money, money_range, percent

LINES_MOST = 6
SWINGS_MOST = 4


def page(result: PlanResult, path: PathResult | None) -> str:
    """The page as Markdown."""
    trace = result.trace
    parts = [
        f"# {result.title}: what to run",
        f"**{result.headline}**",
        f"80 % band {money_range(result.plan_usd.low, result.plan_usd.high)} a month"
        f"{_cheaper(result)}. {result.detail} "
        f"Traffic: {count(trace.requests_per_month)} requests a month; prices of {result.priced_on}.",
        _lines(result),
        _held(result),
    ]
    if path is not None:
        parts += [
            f"## Over {path.months} months",
            f"**{path.headline}** 80 % band {money_range(path.band.low, path.band.high)}, discounted.",
            _signings(path),
            _steps(path),
            _rivals(path),
        ]
    parts += ["## What would change it", _swings(result, path)]
    if result.unproven:
        one = result.unproven[0]
        parts.append(
            f"Cheaper, unproven: {one.label} would save {money(one.saves_usd_per_month)} a month; "
            f"{one.evidence}."
        )
    parts.append("## To sign\n\nApproved by: ____________________    Date: ____________")
    rests = f"Rests on {len(result.facts)} facts, {result.stale_facts} of them old"
    rests += f"; price basis {result.price_basis}"
    parts.append(f"_{rests}; trace {result.trace.digest}; isocost {result.version}._")
    return "\n\n".join(part for part in parts if part) + "\n"


def _cheaper(result: PlanResult) -> str:
    """In how many scenarios the plan costs less than today, where it saves at all."""
    if result.sure is None or result.plan_usd.mid >= result.today_usd.mid:
        return ""
    return f"; cheaper than today in {sure(result.sure.plan_cheaper_frac)} of scenarios"


def _lines(result: PlanResult) -> str:
    rows = ["| what runs | $/month | share | quality |", "|---|---:|---:|---|"]
    for line in result.lines[:LINES_MOST]:
        share = percent(line.share_frac) if line.share_frac else "-"
        rows.append(f"| {line.label} | {line.usd_per_month:,.0f} | {share} | {line.quality or '-'} |")
    return "\n".join(rows)


def _held(result: PlanResult) -> str:
    status: dict[str, list[str]] = {}
    for limit in result.limits:
        status.setdefault(limit.status, []).append(f"{limit.workload} {limit.name}")
    said = "; ".join(f"{word}: {', '.join(names)}" for word, names in status.items())
    return f"Limits {said}." if said else ""


def _signings(path: PathResult) -> str:
    if not path.signings:
        return "Nothing is to be signed."
    rows = ["| sign | accelerators | term | until | $/GPU-h | used |", "|---|---|---|---|---:|---:|"]
    for one in path.signings:
        when = "there already" if one.held else one.label
        rows.append(
            f"| {when} | {one.count}x {one.gpu} | {one.term} | {one.until} | {one.usd_per_gpu_h:.2f} | "
            f"{percent(one.used_frac)} |"
        )
    return "\n".join(rows)


def _steps(path: PathResult) -> str:
    said = [f"- **{step.label}**: {step.change}" for step in path.steps if step.change]
    first, last = path.steps[0], path.steps[-1]
    said.append(
        f"- From {money(first.usd_per_month)} a month at {count(first.requests_per_month)} requests to "
        f"{money(last.usd_per_month)} at {count(last.requests_per_month)}."
    )
    return "\n".join(said)


def _rivals(path: PathResult) -> str:
    rows = ["| kept throughout | cost | cheapest in | cost of being wrong |", "|---|---:|---:|---:|"]
    for one in path.rivals[:4]:
        usd = "-" if one.usd is None else money(one.usd)
        rows.append(f"| {one.way} | {usd} | {percent(one.cheapest_frac)} | {money(one.regret_usd)} |")
    return "\n".join(rows)


def _swings(result: PlanResult, path: PathResult | None) -> str:
    said = [
        f"- {swing.label}: {money(swing.low_usd)} to {money(swing.high_usd)} a month"
        for swing in result.swings[:SWINGS_MOST]
    ]
    if path is not None:
        said += [f"- Worth measuring first: {one.label}, up to {money(one.usd)}" for one in path.worths]
    return "\n".join(said)
