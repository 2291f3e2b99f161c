"""Limits that growth meets: what gives way and what that costs; or what conflicts, and each way out."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import NamedTuple

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.make.draft import Draft
from isocost.plan.market.quotas import METERS
from isocost.plan.path.ask import PathAsk
from isocost.plan.path.result import Met, Step
from isocost.plan.path.steps import Chosen, month_usd
from isocost.plan.path.study import BUDGET, CARBON, RATES, Study
from isocost.plan.solve.milp import INF
from isocost.units import count, money, percent

LEAST_FRAC = 0.0005
"""What a limit must cost at least, as a share of the path, or move of the requests, to be told."""
NAMED_MOST = 2


class Month(NamedTuple):
    """A month of a quarter: its label, the quarter's months, and its dollars."""

    label: str
    months: int
    usd_per_month: float


def months_of(study: Study, path: Chosen) -> list[Month]:
    """A month of each quarter of a path."""
    return [
        Month(stage.quarter.label, stage.quarter.months, month_usd(study.stages, path, q, study.hours))
        for q, stage in enumerate(study.stages)
    ]


def met(study: Study, best: Chosen, drafts: Sequence[Draft]) -> list[Met]:
    """The limits that the path gives way to, each with what the path costs more than without it alone."""
    held = {limit for stage in study.stages for limit in stage.free}
    found = [
        _rates(study, best, study.least(RATES), drafts) if RATES in held else None,
        _carbon(study, best, study.least(CARBON), drafts) if CARBON in held else None,
        _budget(study, best, study.least(BUDGET)) if study.budget_usd < INF else None,
    ]
    return [one for one in found if one is not None]


def _costs(best: Chosen, free: Chosen) -> float:
    return max(0.0, best.usd - free.usd)


def _other(study: Study, best: Chosen, free: Chosen) -> int | None:
    """The first quarter in which the path is not what it would be without a limit."""
    for q in range(len(study.stages)):
        if best.ways[q] != free.ways[q] or _signed_in(best, q) != _signed_in(free, q):
            return q
    return None


def _signed_in(path: Chosen, q: int) -> list[tuple[str, str, int]]:
    return [(one.gpu, one.term.name, one.count) for one in path.signed if one.step == q]


def _rates(study: Study, best: Chosen, free: Chosen, drafts: Sequence[Draft]) -> Met | None:
    """What is too much for an API, and where it goes."""
    usd = _costs(best, free)
    for q, stage in enumerate(study.stages):
        if best.ways[q] in stage.here:
            before = study.ways[best.ways[q]].draft if not study.ways[best.ways[q]].parts else None
            moved = _moved(study, before, drafts[q])
            full = ", ".join(_full(study, free.ways[q], q)) or "an API"
            if moved or usd > LEAST_FRAC * best.usd:
                small = "more stays on own replicas" if drafts[q].pools else "a few requests go to other APIs"
                text = f"{moved or small} ({_month(study, best, q)})"
                return Met(RATES, f"{full} is full", stage.quarter.label, text, usd)
    q0 = _other(study, best, free)
    if q0 is None:
        return None
    full = ", ".join(_full(study, free.ways[q0], q0)) or "an API"
    instead = _instead(study, best, free, q0)
    return Met(RATES, f"{full} is full", study.stages[q0].quarter.label, instead, usd)


def _instead(study: Study, best: Chosen, free: Chosen, q: int) -> str:
    """What a path does in a quarter that it would not do without a limit."""
    mine, other = (study.ways[path.ways[q]].name for path in (best, free))
    return f"{mine} instead of {other}" if mine != other else "it signs otherwise"


def _month(study: Study, best: Chosen, q: int) -> str:
    """What a limit adds to a month of its first quarter."""
    stage, w = study.stages[q], best.ways[q]
    free = stage.free.get(RATES, {}).get(w)
    if free is None:
        return "there is no other API"
    more = stage.priced[w].month_usd(best.committed[q]) - free.month_usd(
        [min(n, len(usd) - 1) for n, usd in zip(best.committed[q], free.parts, strict=True)]
    )
    return f"{money(max(0.0, more))} a month more at first"


def _full(study: Study, w: int, q: int) -> list[str]:
    """APIs of a way that are asked for more than their limits in a quarter."""
    if study.limits is None:
        return []
    found = []
    for load in study.ways[w].draft.loads(study.built.prepared):
        limit = next(
            (
                quota
                for serving in study.ways[w].draft.servings
                if serving.offer is not None
                and (serving.offer.api.provider, serving.offer.api.model) == (load.provider, load.model)
                and (quota := study.limits.binding(serving.case, serving.offer.api)) is not None
            ),
            None,
        )
        asked = load.asked * study.multiples[q]
        if limit is not None and (asked.max(axis=1) > np.array(limit.most)).any():
            meter = int((asked.max(axis=1) / np.array(limit.most)).argmax())
            most = f"{count(limit.most[meter])} {METERS[meter]} a minute"
            found.append(f"{load.provider}/{load.model} ({most})")
    return found


def _moved(study: Study, before: Draft | None, now: Draft) -> str:
    """Where requests go that are too many for an API: what each other API gains."""
    gained = _shares(study, now)
    for name, share in ({} if before is None else _shares(study, before)).items():
        gained[name] = gained.get(name, 0.0) - share
    if before is None:
        gained = {name: share for name, share in gained.items() if name not in _firsts(study)}
    most = sorted((name for name in gained if gained[name] > LEAST_FRAC), key=lambda name: -gained[name])
    said = [f"{percent(gained[name])} of requests go to {name}" for name in most[:NAMED_MOST]]
    return " and ".join(said)


def _firsts(study: Study) -> set[str]:
    """APIs that streams would use first."""
    return {case.best.api.id for case in study.built.planned if case.best is not None}


def _shares(study: Study, draft: Draft) -> dict[str, float]:
    """Share of the requests of each API of a draft."""
    weight = study.built.prepared.weight_h
    found: dict[str, float] = {}
    whole = 0.0
    for serving in draft.servings:
        requests = serving.case.stream.usage.requests * weight
        whole += float(requests.sum())
        if serving.offer is not None:
            name = serving.offer.api.id
            found[name] = found.get(name, 0.0) + float(requests @ serving.api_frac)
    return {name: requests / whole for name, requests in found.items()} if whole else {}


def _carbon(study: Study, best: Chosen, free: Chosen, drafts: Sequence[Draft]) -> Met | None:
    """Own replicas that emissions hold back."""
    most = study.built.prepared.request.limits.carbon_kg_per_month
    what, usd = f"carbon_kg_per_month = {most or 0.0:g}", _costs(best, free)
    for q, stage in enumerate(study.stages):
        month = stage.priced[best.ways[q]]
        prices = [
            how[number].usd_per_kg for how, number in zip(month.how, best.committed[q], strict=True) if how
        ]
        if any(prices):
            replicas = sum(
                float(np.mean([pool.replicas(h) for h in range(len(study.built.prepared.weight_h))]))
                for pool in drafts[q].fleet.pools
            )
            text = f"own replicas are held to {replicas:.1f} in the mean, APIs take the rest"
            return Met(CARBON, what, stage.quarter.label, text, usd)
    q0 = _other(study, best, free)
    if q0 is None:
        return None
    instead = _instead(study, best, free, q0)
    return Met(CARBON, what, study.stages[q0].quarter.label, instead, usd)


def _budget(study: Study, best: Chosen, free: Chosen) -> Met | None:
    """Months that the budget keeps down."""
    over = [month for month in months_of(study, free) if month.usd_per_month > study.budget_usd + 0.01]
    if not over:
        return None
    q0 = _other(study, best, free)
    since = study.stages[q0].quarter.label if q0 is not None else over[0].label
    dearest = max(over, key=lambda month: month.usd_per_month)
    text = (
        f"the path keeps within it, and would cost {money(dearest.usd_per_month)} a month in {dearest.label} "
        "without it"
    )
    return Met(BUDGET, f"budget_usd_per_month = {study.budget_usd:g}", since, text, _costs(best, free))


def stuck(study: Study, error: Infeasible) -> Infeasible:
    """The error with the limits that conflict with growth, and what lifting each would cost."""
    request, ask = study.built.prepared.request, study.ask
    conflict: list[str] = []
    ways: list[tuple[str, str]] = []
    what = error.what
    for limit in (BUDGET, CARBON, RATES):
        try:
            free = study.least(limit)
        except Infeasible:
            continue
        if limit == BUDGET:
            found = over_budget(months_of(study, free), study.multiples, ask, study.budget_usd)
        elif limit == CARBON and request.limits.carbon_kg_per_month is not None:
            kg = max(
                ({**stage.priced, **stage.free.get(CARBON, {})})[w].kg
                for stage, w in zip(study.stages, free.ways, strict=True)
            )
            found = too_much_carbon(error, request.limits.carbon_kg_per_month, kg, free.usd, ask.months)
        else:
            found = too_full(study, error, free)
        if found is not None:
            what = found.what
            conflict += [one for one in found.conflict if one not in conflict]
            ways += found.ways_out
    if not ways:
        return error
    return Infeasible(
        what, conflict=conflict, ways_out=ways, where="--horizon", fix="Relax a limit, or look less far ahead"
    )


def too_full(study: Study, error: Infeasible, free: Chosen) -> Infeasible | None:
    """What to say where limits a minute leave traffic of some quarter nowhere to go."""
    there = [(q, name) for q in range(len(study.stages)) for name in _full(study, free.ways[q], q)]
    if not there:
        return None
    first, name = there[0]
    api = name.partition(" (")[0]
    more = max(study.multiples) / study.multiples[first]
    return Infeasible(
        error.what,
        conflict=[f"the limit a minute of {name}", f"--growth {percent(study.ask.growth_per_month)}/mo"],
        ways_out=[
            (
                f"{up(max(1.0, more)):g} times the limit of {api} ([[rate_limits]] in have.toml)",
                f"{money(free.usd)} over {study.ask.months} months, of today's money",
            )
        ],
        where="--horizon",
        fix="Agree on a higher limit, or allow another API",
    )


def over_budget(
    steps: Sequence[Step | Month],
    multiples: Sequence[float],
    ask: PathAsk,
    budget_usd: float | None,
) -> Infeasible | None:
    """What to say where some quarter's month costs more than the budget; ``None`` where none does."""
    if budget_usd is None:
        return None
    first = next((q for q, step in enumerate(steps) if step.usd_per_month > budget_usd), None)
    if first is None:
        return None
    dearest = max(steps, key=lambda step: step.usd_per_month)
    growth = percent(ask.growth_per_month)
    ways = [
        (
            f"budget_usd_per_month of {up(dearest.usd_per_month):g} instead of {budget_usd:g}",
            f"{money(dearest.usd_per_month)} a month in {dearest.label}, the dearest of the least-cost path",
        )
    ]
    if first:
        fits = sum(step.months for step in steps[:first])
        ways.append(
            (
                f"a horizon of {fits} months instead of {ask.months}",
                f"{money(steps[first - 1].usd_per_month)} a month at its end",
            )
        )
        least = multiples[first - 1] ** (1.0 / max(ask.months - 0.5, 1.0)) - 1.0
        ways.append(
            (
                f"growth of about {percent(least)} a month instead of {growth}",
                f"{money(steps[first - 1].usd_per_month)} a month at the end",
            )
        )
    return Infeasible(
        f"from {steps[first].label} the least-cost path costs {money(steps[first].usd_per_month)} a month, "
        f"over {money(budget_usd)}",
        conflict=[f"slo.toml budget_usd_per_month = {budget_usd:g}", f"--growth {growth}/mo"],
        ways_out=ways,
        where="--horizon",
        fix="Raise the budget, or look less far ahead",
    )


def too_much_carbon(
    error: Infeasible, most_kg: float, needed_kg: float, usd: float, months: int
) -> Infeasible:
    """What to say where a limit on emissions leaves some quarter nothing that serves it."""
    return Infeasible(
        error.what,
        conflict=[
            f"slo.toml carbon_kg_per_month = {most_kg:g}",
            "replicas of one's own for the traffic to come",
        ],
        ways_out=[
            (
                f"carbon_kg_per_month of {up(needed_kg):g} instead of {most_kg:g}",
                f"{money(usd)} over {months} months, of today's money",
            )
        ],
        where="--horizon",
        fix="Raise carbon_kg_per_month, or allow an API",
    )


def up(value: float) -> float:
    """Rounded up to two figures, so that the value still holds.

    >>> up(1234.0), up(0.0)
    (1300.0, 0.0)
    """
    if value <= 0:
        return value
    step = 10.0 ** (floor(log10(value)) - 1)
    return round(ceil(value / step - 1e-9) * step, 12)
