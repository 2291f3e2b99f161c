"""Limits over a horizon: a budget that growth breaks, emissions; what conflicts, what each way out costs."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from isocost.errors import Infeasible
from isocost.plan.path.ask import PathAsk
from isocost.plan.path.result import Step
from isocost.units import money, percent


def over_budget(
    steps: Sequence[Step], multiples: Sequence[float], ask: PathAsk, budget_usd: float | None
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
