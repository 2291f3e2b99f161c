"""Price plans on real customers: revenue, margin, who loses money, and the price that holds a margin.

Amounts are dollars of a month. Every customer has one plan: the one on which they pay least of those
offered, unless only one is. That is what informed customers do, and the seller's worst case.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.finance import breakeven_periods, capital_recovery_factor, rate_per_month
from isocost.value.ask import Own, PricePlan
from isocost.value.customers import Customers

Floats = NDArray[np.float64]
RESAMPLES = 2000
CENTRAL = 0.8


class PlanLine(msgspec.Struct, frozen=True):
    """One plan: who is on it, what they bring and cost, how many cost more than they bring.

    ``margin_frac`` is (revenue - cost) / revenue with its central 80 % over customers drawn again; nan
    without revenue. ``heaviest_loss_usd`` is what the worst customer loses a month.
    """

    name: str
    customers: int
    revenue_usd: float
    cost_usd: float
    margin_frac: float
    margin_low: float
    margin_high: float
    at_a_loss: int
    heaviest_loss_usd: float


class Feature(msgspec.Struct, frozen=True):
    """One workload: its requests, its share of what customers bring, what answering it costs."""

    name: str
    requests: float
    revenue_usd: float
    cost_usd: float


class Payback(msgspec.Struct, frozen=True):
    """An own model: months until its outlay is repaid, and net worth over its life, discounted."""

    months: float
    net_usd: float
    return_frac: float


def served_frac(plan: PricePlan, of: Customers) -> Floats:
    """Share of each customer's requests that the plan's cap lets through: (n,)."""
    if plan.cap_requests is None:
        return np.ones(len(of.requests))
    kept = np.minimum(plan.cap_requests, of.requests)
    return np.divide(kept, of.requests, out=np.ones(len(kept)), where=of.requests > 0.0)


def charge_usd(plan: PricePlan, of: Customers) -> Floats:
    """What each customer pays on a plan: (n,)."""
    kept = served_frac(plan, of)
    over = np.maximum(0.0, of.requests * kept - plan.included_requests)
    tokens = of.input_tok * plan.input_usd_per_mtok + of.output_tok * plan.output_usd_per_mtok
    return plan.usd_per_month + over * plan.usd_per_request + tokens * kept / 1e6


def revenue_usd(plan: PricePlan, of: Customers) -> Floats:
    """What each customer brings: what they pay, and what their data brings from elsewhere."""
    return charge_usd(plan, of) + of.requests * served_frac(plan, of) * plan.data_usd_per_request


def cost_usd(plan: PricePlan, of: Customers, other_usd_per_month: float) -> Floats:
    """What serving each customer costs on a plan: answers within the cap, and an even share of the rest."""
    return of.usd * served_frac(plan, of) + other_usd_per_month / len(of.usd)


def chosen(plans: Sequence[PricePlan], of: Customers) -> NDArray[np.int64]:
    """The plan on which each customer pays least, the first of equals: (n,).

    A plan whose cap refuses some of a customer's requests is taken only where all do, the least first.
    """
    pays = np.stack([charge_usd(plan, of) for plan in plans])
    refused = np.stack([1.0 - served_frac(plan, of) for plan in plans])
    least = refused.min(axis=0)
    found: NDArray[np.int64] = np.argmin(np.where(refused <= least + 1e-12, pays, np.inf), axis=0)
    return found


def lines(plans: Sequence[PricePlan], of: Customers, other_usd_per_month: float = 0.0) -> list[PlanLine]:
    """Every plan with the customers who would choose it, and all together last (name ``all``)."""
    if not plans:
        raise BadInput("no price plan", where="value", fix="Add [[plans]] to the value file")
    choice = chosen(plans, of)
    every = np.arange(len(choice))
    revenue = np.stack([revenue_usd(plan, of) for plan in plans])[choice, every]
    cost = np.stack([cost_usd(plan, of, other_usd_per_month) for plan in plans])[choice, every]
    found = [_line(plan.name, revenue[choice == i], cost[choice == i]) for i, plan in enumerate(plans)]
    return [*found, _line("all", revenue, cost)] if len(plans) > 1 else found


def features(plans: Sequence[PricePlan], of: Customers) -> list[Feature]:
    """Every workload, without costs that no request causes.

    A customer's revenue is shared among the features they use in proportion to their requests.
    """
    choice = chosen(plans, of)
    every = np.arange(len(choice))
    revenue = np.stack([revenue_usd(plan, of) for plan in plans])[choice, every]
    kept = np.stack([served_frac(plan, of) for plan in plans])[choice, every]
    share = of.by_feature_requests / np.where(of.requests > 0.0, of.requests, 1.0)[:, None]
    return [
        Feature(
            name,
            float((of.by_feature_requests[:, j] * kept).sum()),
            float((revenue * share[:, j]).sum()),
            float((of.by_feature_usd[:, j] * kept).sum()),
        )
        for j, name in enumerate(of.features)
    ]


def price_for_margin(
    plan: PricePlan, of: Customers, target_margin_frac: float, other_usd_per_month: float = 0.0
) -> PricePlan:
    """The plan with its prices scaled so that all customers on it bring the target margin.

    Income from data stays what it is. Closed form: what customers pay is linear in the prices.

    Raises:
        BadInput: nobody pays anything on the plan, or nothing costs anything: no factor can help.
    """
    cost = float(cost_usd(plan, of, other_usd_per_month).sum())
    paid = float(charge_usd(plan, of).sum())
    data = float(revenue_usd(plan, of).sum()) - paid
    if paid <= 0.0 or cost <= 0.0:
        what = f"nobody pays on plan {plan.name!r}" if paid <= 0.0 else "serving costs nothing"
        raise BadInput(what, where="value", fix="Give the plan a price, and a log that is priced")
    factor = max(0.0, (cost / (1.0 - target_margin_frac) - data) / paid)
    priced = ("usd_per_month", "usd_per_request", "input_usd_per_mtok", "output_usd_per_mtok")
    return msgspec.structs.replace(plan, **{name: getattr(plan, name) * factor for name in priced})


def payback(own: Own, discount_rate_per_year: float) -> Payback:
    """When an own model has repaid what it took, and what it is worth over its life.

    >>> payback(Own(1200.0, 100.0, 24.0), 0.0)
    Payback(months=12.0, net_usd=1200.0, return_frac=1.0)
    """
    months = breakeven_periods(own.outlay_usd, own.saves_usd_per_month)
    worth = own.saves_usd_per_month / capital_recovery_factor(
        rate_per_month(discount_rate_per_year), own.life_months
    )
    net = worth - own.outlay_usd
    return Payback(months, net, net / own.outlay_usd if own.outlay_usd else float("inf"))


def _line(name: str, revenue: Floats, cost: Floats) -> PlanLine:
    brought, spent = float(revenue.sum()), float(cost.sum())
    lost = np.maximum(0.0, cost - revenue)
    low, high = _margin_band(revenue, cost)
    return PlanLine(
        name, len(revenue), brought, spent, (brought - spent) / brought if brought else float("nan"),
        low, high, int((lost > 0.0).sum()), float(lost.max()) if len(lost) else 0.0,
    )  # fmt: skip


def _margin_band(revenue: Floats, cost: Floats) -> tuple[float, float]:
    """Central 80 % of the margin over customers drawn again with replacement (a bootstrap)."""
    n = len(revenue)
    if n < 2 or revenue.sum() <= 0.0:
        return float("nan"), float("nan")
    rng = np.random.Generator(np.random.PCG64(n))
    drawn = rng.multinomial(n, np.full(n, 1.0 / n), RESAMPLES).astype(np.float64)
    brought, spent = drawn @ revenue, drawn @ cost
    margin = np.where(brought > 0.0, (brought - spent) / np.where(brought > 0.0, brought, 1.0), np.nan)
    low, high = np.nanquantile(margin, [0.5 - CENTRAL / 2, 0.5 + CENTRAL / 2])
    return float(low), float(high)
