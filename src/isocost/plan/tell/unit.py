"""What an answer costs, by whom it is for and what it does: today and under the plan.

Answers are charged to the requests that caused them: API tokens by each request's own, replicas by the time
that each takes of them. What stands beside the answers is shared by requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isocost.deployment import work_s
from isocost.ledger import FEMTO_PER_USD, Ledger
from isocost.plan.asked.streams import Floats
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft, Serving, api_meters
from isocost.plan.result import UnitCost, UnitCosts
from isocost.trace.schema import Outcome

MOST = 12
"""Customers that are named, the dearest under the plan first."""
BESIDE = "people"
"""Option of charges that stand beside the answers."""


@dataclass(frozen=True)
class Spent:
    """A month by customer and feature: (customers, features) each; the last customer has no name.

    ``today_usd`` and ``plan_usd`` are of the answers alone; ``beside_*`` is what stands beside them all.
    """

    customers: tuple[str, ...]
    features: tuple[str, ...]
    requests: Floats
    input_tok: Floats
    output_tok: Floats
    today_usd: Floats
    plan_usd: Floats
    beside_today_usd: float
    beside_plan_usd: float
    at_least: bool


def spent(built: Built, today: Ledger) -> Spent:
    """A plan's month and today's by customer and feature of the log."""
    prepared = built.prepared
    table, names = prepared.table, prepared.request.trace.names
    customers, features = names.get("tenant", ()), names.get("workload", ())
    n = len(table)
    who = np.full(n, -1, np.int64) if table.tenant is None else table.tenant.astype(np.int64)
    what = np.full(n, -1, np.int64) if table.workload is None else table.workload.astype(np.int64)
    shape = (len(customers) + 1, len(features) + 1)
    cell = np.where(who < 0, shape[0] - 1, who) * shape[1] + np.where(what < 0, shape[1] - 1, what)

    def summed(amounts: Floats) -> Floats:
        whole = np.bincount(cell, amounts, shape[0] * shape[1]).astype(np.float64).reshape(shape)
        return whole

    weight = _per_row(built)
    beside = [ledger.where(option=BESIDE).total_usd for ledger in (today, built.ledger)]
    return Spent(
        customers, features, summed(weight), summed(weight * table.input_tok),
        summed(weight * table.output_tok), summed(_today(built)), summed(_planned(built)),
        beside[0], beside[1], bool(prepared.today.unpriced),
    )  # fmt: skip


def unit_costs(found: Spent) -> UnitCosts:
    """An answer, a feature and a customer, with their share of what stands beside the answers."""
    requests = float(found.requests.sum())
    each = [usd / requests for usd in (found.beside_today_usd, found.beside_plan_usd)]
    now, then = (
        usd + beside * found.requests
        for usd, beside in zip((found.today_usd, found.plan_usd), each, strict=True)
    )

    def lines(names: tuple[str, ...], axis: int) -> list[UnitCost]:
        rows = [(*names, "")[i] for i in range(len(names) + 1)]
        count, before, after = (part.sum(axis=axis) for part in (found.requests, now, then))
        costs = [
            UnitCost(name, float(count[i]), float(before[i]), float(after[i]))
            for i, name in enumerate(rows)
            if count[i] > 0
        ]
        return sorted(costs, key=lambda one: (-one.plan_usd, one.name))

    customers = lines(found.customers, 1) if found.customers else []
    usd = np.sort([one.plan_usd for one in customers])[::-1]
    top = max(1, round(0.1 * len(usd)))
    return UnitCosts(
        requests,
        float(now.sum()) / requests,
        float(then.sum()) / requests,
        lines(found.features, 0),
        customers[:MOST],
        len(customers),
        float(usd[:top].sum() / usd.sum()) if len(usd) and usd.sum() else 0.0,
        sum(each) > 0,
    )


def _per_row(built: Built) -> Floats:
    """Requests a month that each row of the log stands for."""
    found = np.zeros(len(built.prepared.table))
    for case in built.prepared.cases:
        stream = case.stream
        found[stream.rows] = float(stream.usage.requests @ built.prepared.weight_h) / max(1, len(stream.rows))
    return found


def _today(built: Built) -> Floats:
    """What each row costs a month today, as the log's own bill has it: it sums to today's bill."""
    prepared = built.prepared
    table, bill = prepared.table, prepared.today.bill
    rows = np.flatnonzero(~np.isin(table.outcome, [int(Outcome.DUPLICATE), int(Outcome.CACHED)]))
    found = np.zeros(len(table))
    found[rows] = bill.amount_fusd / FEMTO_PER_USD
    whole = float(found.sum())
    return found * (prepared.today_usd / whole) if whole else found


def _planned(built: Built) -> Floats:
    """What each row costs a month under the plan: its tokens' price, or its time on replicas."""
    table, draft, weight = built.prepared.table, built.draft, built.prepared.weight_h
    prompt, answer = table.input_tok.astype(np.float64), table.output_tok.astype(np.float64)
    found = np.zeros(len(table))
    for serving in draft.servings:
        rows = serving.case.rows if serving.cached else serving.case.stream.rows
        bases = {"output": answer[rows], "request": np.ones(len(rows))}
        for meter, quantity, price, _ in api_meters(serving):
            base = bases.get(meter, prompt[rows])
            found[rows] += _shared(float(quantity @ weight) * price, base)
    for name, (rows, work_s_of) in _work(built, draft).items():
        usd = built.ledger.where(deployment=name).total_usd
        np.add.at(found, rows, _shared(usd, work_s_of))
    return found


def _work(built: Built, draft: Draft) -> dict[str, tuple[np.ndarray, Floats]]:
    """Rows that a pool takes a part of, and the seconds of a replica that each part takes."""
    found: dict[str, tuple[np.ndarray, Floats]] = {}
    for option in draft.pools:
        rows, seconds = [], []
        for serving in draft.servings:
            taken = serving.pool_frac.get(option.pool.id)
            if taken is None:
                continue
            mine = serving.case.rows if serving.cached else serving.case.stream.rows
            rows.append(mine)
            seconds.append(_share(built, serving, taken) * _seconds(built, serving, option.pool.id, mine))
        if rows:
            found[option.pool.id] = np.concatenate(rows), np.concatenate(seconds)
    return found


def _share(built: Built, serving: Serving, taken: Floats) -> float:
    """Mean share of a stream that goes to a pool with one of its servings, by requests."""
    weight, stream = built.prepared.weight_h, serving.case.stream
    whole = sum(
        float(one.case.stream.usage.requests @ weight)
        for one in built.draft.servings
        if one.case.stream.id == stream.id
    )
    return float((taken * stream.usage.requests) @ weight) / whole if whole else 0.0


def _seconds(built: Built, serving: Serving, pool: str, rows: np.ndarray) -> Floats:
    option = next(one for one in built.draft.pools if one.pool.id == pool)
    ratio, table = option.fits[serving.case.stream.id].ratio, built.prepared.table
    prompt, answer = table.input_tok[rows] * ratio.input, table.output_tok[rows] * ratio.output
    return np.asarray(work_s(option.pool, prompt, np.zeros(len(rows)), answer), dtype=np.float64)


def _shared(usd: float, base: Floats) -> Floats:
    """An amount among rows in proportion to a base; evenly where all of it is 0."""
    whole = float(base.sum())
    return usd * base / whole if whole else np.full(len(base), usd / max(1, len(base)))
