"""Price plans on a plan: what customers bring, and cost today and under it, each with a share of the rest."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from isocost.errors import BadInput
from isocost.plan.result import PlanMargin, PlanResult, UnitCost, UnitCosts
from isocost.plan.tell.unit import Spent
from isocost.value.ask import Value
from isocost.value.customers import Customers, Floats
from isocost.value.pricing import PlanLine, chosen, features, lines, revenue_usd

NAMELESS = ""


def customers_of(found: Spent, usd: Floats, beside_usd: float) -> Customers:
    """Customers of a log with the cost of their answers, and of what stands beside by their requests.

    A request that names no customer is shared by all in proportion to what they cost of its feature.

    Raises:
        BadInput: the log names no customer.
    """
    if not found.customers:
        raise BadInput(
            "the log names no customer",
            where="value",
            fix="Name the column: --map tenant=customer_id (a scenario: customers = 200)",
        )
    whole = float(found.requests.sum())
    cost = usd + beside_usd * found.requests / whole
    by_feature_usd, by_feature_requests = _named(cost), _named(found.requests)
    read, wrote = (_named(part).sum(axis=1) for part in (found.input_tok, found.output_tok))
    total = by_feature_usd.sum(axis=1)
    order = np.argsort(-total, kind="stable")
    keep = found.requests.sum(axis=0) > 0
    names = (*found.features, NAMELESS)
    return Customers(
        tuple(found.customers[i] for i in order),
        tuple(name for name, some in zip(names, keep, strict=True) if some),
        by_feature_requests.sum(axis=1)[order],
        read[order],
        wrote[order],
        total[order],
        by_feature_usd[order][:, keep],
        by_feature_requests[order][:, keep],
        found.at_least,
    )


def _named(table: Floats) -> Floats:
    """(customers + 1, features) without its last row, which is shared among the others."""
    named, spare = table[:-1], table[-1]
    whole = named.sum(axis=0)
    everyone = named.sum(axis=1)
    even = everyone / everyone.sum() if everyone.sum() else np.full(len(named), 1.0 / len(named))
    share = np.where(whole > 0.0, named / np.where(whole > 0.0, whole, 1.0), even[:, None])
    return np.asarray(named + share * spare)


def priced(result: PlanResult, found: Spent, ask: Value) -> PlanResult:
    """A plan with the margins of price plans: by plan, feature and customer, today and under it.

    Raises:
        BadInput: no price plan is given, or the log names no customer.
    """
    now = customers_of(found, found.today_usd, found.beside_today_usd)
    then = customers_of(found, found.plan_usd, found.beside_plan_usd)
    other = ask.other_usd_per_month
    pairs = zip(lines(ask.plans, now, other), lines(ask.plans, then, other), strict=True)
    margins = [_margin(one, two) for one, two in pairs]
    assert result.unit_costs is not None
    return replace(result, margins=margins, unit_costs=_brought(result.unit_costs, then, ask))


def _margin(now: PlanLine, then: PlanLine) -> PlanMargin:
    return PlanMargin(
        now.name, now.customers, now.revenue_usd, now.cost_usd, then.cost_usd, now.margin_frac,
        then.margin_frac, now.at_a_loss, then.at_a_loss,
    )  # fmt: skip


def _brought(costs: UnitCosts, of: Customers, ask: Value) -> UnitCosts:
    """Unit costs with what each brings."""
    choice = chosen(ask.plans, of)
    revenue = np.stack([revenue_usd(plan, of) for plan in ask.plans])[choice, np.arange(len(choice))]
    by_name = dict(zip(of.names, (float(usd) for usd in revenue), strict=True))
    by_feature = {one.name: one.revenue_usd for one in features(ask.plans, of)}

    def brings(one: UnitCost, known: dict[str, float]) -> UnitCost:
        return replace(one, revenue_usd=known.get(one.name))

    return replace(
        costs,
        revenue_usd=float(revenue.sum()) / costs.requests_per_month,
        features=[brings(one, by_feature) for one in costs.features],
        customers=[brings(one, by_name) for one in costs.customers],
    )
