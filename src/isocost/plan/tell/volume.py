"""A way to serve at another volume: the month of any draft with so many times the traffic.

Tokens go in proportion, standing costs as they follow volume, replicas are solved again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from isocost.fleet import Fleet
from isocost.ledger import Charge, Ledger, fusd
from isocost.plan.make.build import Built, drafted, problem_of
from isocost.plan.make.draft import Draft, month_ledger, schedules, standing_charges
from isocost.plan.solve.mix import api_only, descend
from isocost.plan.solve.one_pool import one_pool, whole_pool
from isocost.plan.solve.problem import Problem, Solution

TOKENS = "api-tokens"


def months_of(built: Built, draft: Draft, *, today: bool = False) -> Callable[[float], Ledger | None]:
    """The month's ledger of a draft at any multiple of today's traffic; ``None``: it cannot be served.

    ``today``: what serves now, which launches nothing.
    """
    if draft.pools:
        return lambda multiple: _with_pools(built, draft, multiple)
    prepared = built.prepared
    tokens = _of_a_month(month_ledger(prepared, draft).where(account=TOKENS))

    def month(multiple: float) -> Ledger:
        again = drafted(prepared.heavier(multiple), draft.servings, (), Fleet(), today)
        paid = (times(charge, multiple) for charge in tokens)
        return Ledger([*paid, *standing_charges(prepared.at, again.fleet.standing)])

    return month


def _of_a_month(ledger: Ledger) -> list[Charge]:
    """The charges of hours as one for each stream, deployment, meter and price."""
    sums: dict[tuple[str, ...], Charge] = {}
    for one in ledger:
        key = (one.deployment, one.workload, one.meter, one.price_fact)
        held = sums.get(key)
        sums[key] = msgspec.structs.replace(
            one,
            period="month",
            quantity=one.quantity + (held.quantity if held else 0.0),
            amount_fusd=one.amount_fusd + (held.amount_fusd if held else 0),
        )
    return list(sums.values())


def times(charge: Charge, factor: float) -> Charge:
    """So many times a charge."""
    amount = fusd(charge.usd * factor)
    return msgspec.structs.replace(charge, quantity=charge.quantity * factor, amount_fusd=amount)


def _with_pools(built: Built, draft: Draft, multiple: float) -> Ledger | None:
    """A draft with replicas: those of one kind alone where nothing else serves, else beside its APIs."""
    pools = draft.pools
    bare = [
        replace(case.scaled(multiple), offers=() if case.best is None else (case.best.scaled(multiple),))
        for case in (serving.case for serving in draft.servings)
    ]
    alone = len(pools) == 1 and all(s.pool_frac and not s.api_frac.any() for s in draft.servings)
    grown = built.prepared.grown(multiple)
    problem = problem_of(grown, bare, pools, built.tables, proven=not alone)
    solution = whole_pool(problem, 0) if alone else again(problem, draft)
    if solution is None:
        return None
    servings = []
    for s, (serving, case) in enumerate(zip(draft.servings, bare, strict=True)):
        fracs = {o.pool.id: frac for k, o in enumerate(pools) if (frac := solution.pool_frac[s, k]).any()}
        servings.append(replace(serving, case=case, offer=None if alone else case.best, pool_frac=fracs))
    used = tuple(option for k, option in enumerate(pools) if solution.runs[k])
    fleet = Fleet(tuple(schedules(solution, pools, {})))
    return month_ledger(grown, drafted(grown, servings, used, fleet))


def again(problem: Problem, draft: Draft) -> Solution | None:
    """The cheapest found with all of a draft's pools, any one of them, or none, beside its APIs."""
    count = len(problem.pools)
    found = [one_pool(problem, k) for k in range(count)]
    if count > 1:
        none = np.zeros(problem.load_per_h.shape[2])
        frac = np.array(
            [[s.pool_frac.get(o.pool.id, none) for o in draft.pools] for s in draft.servings], np.float64
        )
        found.append(descend(problem, tuple(range(count)), frac))
        if np.isfinite(problem.api_usd_per_h).all():
            found.append(api_only(problem))
    return min((one for one in found if one is not None), key=lambda one: one.usd_per_month, default=None)
