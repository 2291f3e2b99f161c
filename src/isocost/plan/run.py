"""The whole way from a request to a plan: what the command line calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

import msgspec

from isocost.errors import Infeasible
from isocost.ledger import Ledger
from isocost.plan.levers import waterfall
from isocost.plan.make.build import Built, build, misses_of, pool_bound, replay_draft
from isocost.plan.make.draft import Draft, month_ledger
from isocost.plan.make.parts import Parts, api_alone, api_parts
from isocost.plan.make.singles import Single, singles, today_draft
from isocost.plan.make.trim import trimmed
from isocost.plan.market.prepare import Prepared, Request, prepare
from isocost.plan.rates import rates_of, stuck
from isocost.plan.result import FrontierPoint, OptionLine, PlanResult, Range, Verdict
from isocost.plan.tell import accounts, curves, odds, story
from isocost.plan.tell.frontier import frontier
from isocost.plan.tell.unit import spent, unit_costs
from isocost.plan.written.file import Basis, PlanFile, dumps
from isocost.units import SECONDS_PER_DAY, money, plural, span


@dataclass(frozen=True)
class Outcome:
    """A plan: plain data, the text of plan.toml, and the month's ledger."""

    result: PlanResult
    toml: str
    ledger: Ledger
    built: Built
    stays: Draft
    chosen: Mapping[str, Single]


def make_plan(request: Request) -> Outcome:
    """Plan a trace.

    Raises:
        Infeasible: no plan meets the limits; the error carries the smallest conflict and the ways out.
        BadTrace, BadLimits, UnknownModel, UnknownFact: as their messages say.
    """
    built, chosen, stays, bound = least(prepare(request))
    _within_budget(built)
    today = story.today_ledger(built, stays)
    drivers = story.drivers_of(built, (built.ledger, *(s.ledger for s in chosen.values() if s.ledger)))
    totals = story.Totals(today, built.ledger, drivers)
    result = _result(built, chosen, stays, totals, bound, _range(request, built))
    return Outcome(result, dumps(plan_file(built, totals)), built.ledger, built, stays, chosen)


def totals_of(outcome: Outcome) -> story.Totals:
    """Ledgers of today and of the plan, and what may move both."""
    built = outcome.built
    return story.Totals(story.today_ledger(built, outcome.stays), built.ledger, {})


def least(prepared: Prepared) -> tuple[Built, dict[str, Single], Draft, float]:
    """The least-cost plan, the best single deployments, business as usual, and what no plan beats.

    Raises:
        Infeasible: no plan meets the limits.
    """
    built = solved(prepared)
    chosen = singles(built)
    stays = today_draft(prepared, built.planned)
    alone = (stays, *api_alone(prepared, built.planned))
    built, bound = cheapest(trimmed(built), chosen, alone, api_parts(prepared, built.planned))
    return built, chosen, stays, bound


def solved(prepared: Prepared) -> Built:
    """Build, or say what conflicts."""
    try:
        built = build(prepared)
    except Infeasible as error:
        from isocost.plan.tell.infeasible import explain

        raise stuck(prepared) or explain(prepared, error) from None
    return built


def _within_budget(built: Built) -> None:
    """Refuse a plan that costs more than its budget, when all that could be cheaper was tried."""
    budget = built.prepared.request.limits.budget_usd_per_month
    if budget is not None and built.usd_per_month > budget:
        from isocost.plan.tell.infeasible import explain

        over = Infeasible(
            f"the least-cost plan is {money(built.usd_per_month)} a month, over {money(budget)}"
        )
        raise explain(built.prepared, over, built.usd_per_month)


def cheapest(
    built: Built, chosen: dict[str, Single], alone: tuple[Draft, ...], parts: Parts | None
) -> tuple[Built, float]:
    """The cheapest of the mix, APIs alone, single deployments and today; and what no plan beats.

    ``alone``: business as usual, and the cheapest single APIs.
    """
    rivals = [single.draft for single in chosen.values() if single.feasible and single.draft is not None]
    rivals.extend(alone)
    if parts is not None:
        rivals.append(parts.draft)
    costs = [
        (month_ledger(built.prepared, draft).total_usd, draft)
        for draft in rivals
        if _allowed(draft) and not any(load.over for load in draft.loads(built.prepared))
    ]
    bounds = [usd for usd, draft in costs if len(draft.apis) + len(draft.pools) == 1]
    bounds.append(pool_bound(built))
    if parts is not None:
        bounds.append(parts.bound_usd)
    for usd, draft in sorted(costs, key=lambda pair: pair[0]):
        if usd >= built.usd_per_month - 0.005:
            break
        replayed = replay_draft(built.prepared, draft)
        misses = misses_of(draft, replayed)
        if misses and not built.misses:
            # It costs less because it is too small: replay shows that it breaks a limit.
            continue
        ledger = month_ledger(built.prepared, draft)
        built = replace(built, draft=draft, ledger=ledger, replayed=replayed, misses=misses)
        break
    return built, min(built.usd_per_month, *bounds)


def _allowed(draft: Draft) -> bool:
    """Whether every stream has somewhere to go that nothing speaks against."""
    return all(s.pool_frac or (s.offer is not None and not s.offer.why_not) for s in draft.servings)


def plan_file(built: Built, totals: story.Totals) -> PlanFile:
    """The plan as it is written."""
    request = built.prepared.request
    basis = Basis(
        request.trace.title,
        request.trace.digest,
        request.on.isoformat(),
        request.catalog.basis,
        request.now,
        round(totals.today.total_usd, 2),
        round(totals.plan.total_usd, 2),
    )
    deployments = tuple(built.draft.deployments(built.prepared.cache_ttl_s).values())
    held = request.have
    return PlanFile(
        basis, request.limits, deployments, built.draft.routes(), built.draft.fleet,
        failures=held.failures, rate_limits=held.rate_limits,
    )  # fmt: skip


def _range(request: Request, built: Built) -> Range | None:
    """The plan under a flat week beside the shaped one, where the trace is shorter than a week."""
    if not built.prepared.week.short or request.shape == "flat":
        return None
    table = request.trace.of(built.prepared.table)
    flat, _, _, _ = least(prepare(replace(request, shape="flat", trace=table)))
    text = (
        f"The trace covers {span(built.prepared.week.span_s / SECONDS_PER_DAY)}: "
        f"the rest of the week is supposed. "
        f"The plan costs {money(built.usd_per_month)} a month with the {request.shape!r} shape and "
        f"{money(flat.usd_per_month)} in a flat week. No commitment rests on the flat week alone."
    )
    return Range(flat.usd_per_month, built.usd_per_month, request.shape, text)


def _result(
    built: Built,
    chosen: dict[str, Single],
    stays: Draft,
    totals: story.Totals,
    bound: float,
    span: Range | None,
) -> PlanResult:
    prepared, request = built.prepared, built.prepared.request
    at = prepared.at
    today, plan = story.band(totals.today, totals.drivers), story.band(totals.plan, totals.drivers)
    sunk = sum(
        held.count * held.usd_per_gpu_h * float(prepared.weight_h.sum())
        for held in request.have.on(request.on).gpus
    )
    least = at.number("finance/any", "switch_saving_min_frac")
    same = all(line.same_model for line in story.lines(built))
    bill = prepared.today_usd
    saving = (today.mid - plan.mid) / bill if bill else 0.0
    full = any(load.over for load in stays.loads(prepared))
    may_stay = _allowed(today_draft(prepared, built.planned)) and not full
    verdict: Verdict = "switch" if saving >= least or not may_stay else "stay"
    facts = story.facts_used(built, totals)
    stale = at.number("planning/facts", "stale_days")
    at_least = bool(prepared.today.unpriced)
    options = [story.today_line(built, totals)]
    options += [story.option_line(option, single, built, totals) for option, single in chosen.items()]
    options.append(story.plan_line(built, totals))
    points = frontier(built, totals, {option.id for option in options})
    options = [_timed(option, points) for option in options]
    return PlanResult(
        title=request.trace.title,
        version=version("isocost"),
        priced_on=request.on.isoformat(),
        price_basis=request.catalog.basis,
        verdict=verdict,
        headline=_headline(verdict, totals, same, may_stay, at_least),
        trace=story.trace_note(built),
        today_usd=today,
        plan_usd=plan,
        cash_usd_per_month=plan.mid,
        full_usd_per_month=plan.mid + sunk,
        lines=story.lines(built),
        unproven=story.unproven(built),
        options=options,
        bound_usd=bound,
        gap_frac=max(0.0, 1.0 - bound / built.usd_per_month) if built.usd_per_month else 0.0,
        rounds=built.rounds,
        limits=story.limits(built),
        rates=rates_of(built),
        swings=story.swings(totals, at),
        levers=waterfall(built, stays, totals),
        hours=curves.hours_of(built),
        frontier=points,
        breakeven=curves.break_even(built, chosen),
        isoquant=curves.isoquant(built),
        facts=facts,
        stale_facts=sum(fact.age_days > stale for fact in facts),
        range=span,
        at_least=at_least,
        notes=_notes(built),
        next=_next(request),
        rebuild=_rebuild(request),
        detail=_detail(totals, at_least),
        accounts=accounts.table(built, stays, chosen, options),
        energies=accounts.energies(built, stays, chosen, options),
        unit_costs=unit_costs(spent(built, totals.today)),
        sure=odds.sure(built, chosen, stays, totals),
    )


def _timed(option: OptionLine, points: list[FrontierPoint]) -> OptionLine:
    """An option with the TTFT of its point, where that was seen on this trace."""
    seen = next((p.ttft_p95_s for p in points if p.id == option.id and not p.ttft_bound), None)
    return option if option.ttft_p95_s is not None else msgspec.structs.replace(option, ttft_p95_s=seen)


def _headline(verdict: Verdict, totals: story.Totals, same: bool, may_stay: bool, at_least: bool) -> str:
    """The answer in a sentence."""
    now, then = totals.today.total_usd, totals.plan.total_usd
    least = "at least " if at_least else ""
    if verdict == "stay":
        more = " or more" if at_least else ""
        return f"Stay as you are, at {money(now)} a month{more}: nothing proven saves enough to change."
    if not may_stay:
        return f"Within the limits this costs {money(then)} a month; today's {least}{money(now)} breaks them."
    kept = "and keep every model" if same else "with no change of model that is not proven"
    return f"Serve this for {money(then)} a month, not {least}{money(now)}, {kept}."


def _detail(totals: story.Totals, at_least: bool) -> str:
    """What answers cost apart from people and upkeep, today and under the plan."""
    now = totals.today.where(account="api-tokens").total_usd
    rest = totals.plan.where(option="people").total_usd
    then = totals.plan.total_usd - rest
    least = "at least " if at_least else ""
    if abs(then - now) < 0.005 * max(now, 1.0):
        return f"Answers cost {least}{money(now)}; people and upkeep add {money(rest)}."
    return f"Answers cost {money(then)}, not {least}{money(now)}; people and upkeep add {money(rest)}."


def _notes(built: Built) -> list[str]:
    prepared, today = built.prepared, built.prepared.today
    notes = []
    if today.unpriced:
        why = "; ".join(why for why, _ in today.bill.why[:2])
        notes.append(
            f"{plural(today.unpriced, 'row has', 'rows have')} no full price, so today's bill is at least"
            f" this: {why}."
        )
    for case in built.planned:
        own = next((o for o in case.offers if case.today is not None and o.api.id == case.today.id), None)
        if own is not None and own.why_not:
            notes.append(f"{case.stream.workload}: today's {own.api.id} breaks a limit: {own.why_not}.")
    whole = {case.stream.id: case.stream.usage.requests for case in prepared.cases}
    for serving in built.draft.servings:
        case = serving.case
        if case.served is not None:
            mean = whole[case.stream.id] / max(float(whole[case.stream.id].mean()), 1e-300)
            moved = float(abs(case.served - mean).sum()) / 2.0 / len(mean)
            wait = (case.ask.wait_s or 0.0) / 3600
            notes.append(
                f"{case.stream.workload}: {moved:.0%} of it is put off into hours with idle replicas, "
                f"each request by {wait:g} h at most."
            )
    for schedule in built.draft.fleet.pools:
        option = next(o for o in built.draft.pools if o.pool.id == schedule.deployment)
        if schedule.reserved and option.signed is not None:
            gpus, usd = schedule.reserved * option.pool.gpus, option.rents["reserved_1y"].usd_per_gpu_h
            owed = gpus * usd * float(prepared.weight_h.sum()) * option.signed.months
            said = f"Signs {gpus}x {option.pool.gpu} for {option.signed.words} at ${usd:.2f} per GPU-hour"
            how = "" if option.signed.quoted else ", at the usual discount: nobody's quote"
            notes.append(f"{said}, {money(owed)} in all{how}. --horizon says whether that pays to its end.")
    for case in built.kept:
        notes.append(f"{case.stream.workload}: {case.stream.model!r} is not in the catalog: left alone.")
    if today.cache_supposed:
        notes.append("The log has prefixes but no cache reads: today's bill supposes the provider's cache.")
    elif prepared.table.cached_tok is None:
        notes.append("The log has no prompt-cache reads: today's bill is an upper figure.")
    for model in sorted(_unknown(built)):
        notes.append(f"How many tokens {model} uses for one of today's is not known: priced at the high end.")
    for miss in built.misses:
        seen = f"{miss.name} p95 {miss.found_s:.2f} s on {miss.pool}"
        notes.append(f"{miss.workload}: {seen} misses {miss.limit_s:g} s in replay.")
    for name, count in built.replayed.overflowed.items():
        if count:
            notes.append(f"{plural(count, 'request')} found {name} full in replay and went to the fallback.")
    return notes


def _unknown(built: Built) -> set[str]:
    """Models in use whose token ratios are only defaults."""
    used = [s.offer for s in built.draft.servings if s.offer is not None and s.api_frac.any()]
    return {o.api.model for o in used if not (o.input_ratio.known and o.output_ratio.known)}


def _next(request: Request) -> list[str]:
    mine = request.trace.reader in ("", "example")
    return ["isocost plan YOUR_LOG" if mine else "isocost plan LOG --slo slo.toml", "isocost why plan"]


def _rebuild(request: Request) -> dict[str, str]:
    return {
        "isocost": version("isocost"),
        "trace": request.trace.digest,
        "prices": request.catalog.basis,
        "priced on": request.on.isoformat(),
        "now": request.now,
        "shape": request.shape,
    }
