"""What a plan asks of APIs a minute, as plain data; what to say where a limit leaves a stream no place."""

from __future__ import annotations

from typing import Literal

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.asked.streams import Floats
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Serving
from isocost.plan.market.prepare import Prepared
from isocost.plan.market.quotas import METERS, Load, loads, others, within_quotas
from isocost.plan.result import Band, Rate
from isocost.plan.tell.story import named
from isocost.units import NS_PER_MINUTE, count, percent

FULL_FRAC = 0.95
"""Share of a limit from which an API counts as full."""
SEEN_HOURS = 0.005
"""Share of a stream's busiest hour from which an hour counts as one of overflow."""


def rates_of(built: Built) -> list[Rate]:
    """A line for each API in use that answers at once, the fullest first."""
    found = [_rate(built, load) for load in built.draft.loads(built.prepared)]
    return sorted(found, key=lambda r: -(r.asked_per_min / r.limit_per_min if r.limit_per_min else 0.0))


def _rate(built: Built, load: Load) -> Rate:
    tier = load.tier
    held = load.most or tier or (load.tiers[-1] if load.tiers else None)
    meter = len(METERS) - 1 if held is None else load.fullest(held.most)
    peak = float(load.asked[meter].max())
    frac, hours, where = _overflow(built, load)
    status: Literal["within", "stated", "shown", "unknown"] = "within"
    if load.shown or held is None:
        status = "shown" if load.shown else "unknown"
    elif held.stated:
        status = "stated"
    # The tier that is needed where none is stated; the stated limit, and its tier, where one is.
    named = held if held is not None and held.stated else tier or held
    return Rate(
        load.provider,
        load.model,
        METERS[meter],
        peak,
        _seen(built, load, meter),
        None if named is None else float(named.most[meter]),
        "" if named is None else named.tier,
        None if named is None else named.from_usd,
        status,
        frac,
        hours,
        where,
        _above_others(built, peak) if status == "unknown" else None,
    )


def _above_others(built: Built, tok_per_min: float) -> Band | None:
    """What other providers publish, where half of it is less than is asked of one that publishes nothing."""
    found = others(built.prepared.at)
    return Band(found.low, found.middle, found.high) if tok_per_min > found.middle else None


def _overflow(built: Built, load: Load) -> tuple[float, int, str]:
    """Share of the streams at an API that its limit sends elsewhere, in how many hours, and where to."""
    if load.most is None or (load.asked / np.array(load.most.most)[:, None]).max() < FULL_FRAC:
        return 0.0, 0, ""
    away, whole = np.zeros(0), np.zeros(0)
    where: dict[str, float] = {}
    for servings in built.draft.by_stream():
        if len(servings) < 2 or not any(_is(serving, load) for serving in servings):
            continue
        mine = sum((s.case.stream.usage.requests for s in servings), np.zeros_like(servings[0].api_frac))
        gone = mine - sum((_served(s, load) for s in servings), np.zeros_like(mine))
        away = gone if not len(away) else away + gone
        whole = mine if not len(whole) else whole + mine
        for serving in servings:
            for name, amount in _places(serving):
                if not _is(serving, load) and amount > 0:
                    where[name] = where.get(name, 0.0) + amount
    if not len(away) or away.sum() <= 0:
        return 0.0, 0, ""
    frac = float(away.sum() / whole.sum())
    return (
        frac,
        int((away > SEEN_HOURS * whole.max()).sum()),
        named(max(where, key=lambda n: where[n], default="")),
    )


def _served(serving: Serving, load: Load) -> Floats:
    requests = serving.case.stream.usage.requests
    return np.asarray(requests * serving.api_frac if _is(serving, load) else np.zeros_like(requests))


def _is(serving: Serving, load: Load) -> bool:
    offer = serving.offer
    return offer is not None and (offer.api.provider, offer.api.model) == (load.provider, load.model)


def _places(serving: Serving) -> list[tuple[str, float]]:
    requests = serving.case.stream.usage.requests
    found = [(name, float(frac @ requests)) for name, frac in serving.pool_frac.items()]
    if serving.offer is not None:
        found.append((serving.offer.api.id, float(serving.api_frac @ requests)))
    return found


def _seen(built: Built, load: Load, meter: int) -> float | None:
    """The busiest minute of an API in replay, its own tokens; ``None`` where replay sent it nothing."""
    table, replayed = built.prepared.table, built.replayed
    mine = np.zeros(len(table), bool)
    inputs = np.zeros(len(table))
    for serving in built.draft.servings:
        offer = serving.offer
        if offer is None or not _is(serving, load) or offer.api.id not in replayed.names:
            continue
        rows = serving.case.stream.rows
        here = rows[replayed.where[rows] == replayed.names.index(offer.api.id)]
        mine[here] = True
        read = 0 if table.cached_tok is None or meter == len(METERS) - 1 else table.cached_tok[here]
        inputs[here] = (table.input_tok[here] - read) * offer.ratio.input
    if not mine.any():
        return None
    minute = table.arrival_ns[mine] // NS_PER_MINUTE
    outputs = replayed.output_tok[mine].astype(np.float64)
    weight = (np.ones(int(mine.sum())), inputs[mine], outputs, inputs[mine] + outputs)[meter]
    return float(np.bincount(minute - minute.min(), weights=weight).max())


def stuck(prepared: Prepared) -> Infeasible | None:
    """What to say where a limit a minute leaves some stream nowhere to go; ``None`` where none does."""
    planned = tuple(case for case in prepared.cases if case.today is not None)
    for case in within_quotas(prepared.quotas, planned):
        if case.part is None or case.best is not None:
            continue
        whole = next(one for one in planned if one.stream.id == case.stream.id)
        offer = whole.best
        assert offer is not None
        load = loads(prepared.quotas, [(whole, offer, np.ones_like(case.part))])[0]
        return _said(load, float(case.part.max()))
    return None


def _said(load: Load, most_frac: float) -> Infeasible:
    assert load.most is not None
    name = f"{load.provider}/{load.model}"
    meter = load.fullest(load.most.most)
    peak, limit = float(load.asked[meter].max()), float(load.most.most[meter])
    tier = f", tier {load.most.tier}" if load.most.tier else ""
    where = "have.toml [[rate_limits]]" if load.most.stated else "the highest published tier"
    unit = f"{METERS[meter]} a minute"
    if load.tier is not None:
        paid = "" if load.tier.from_usd is None else f", open once ${load.tier.from_usd:,.0f} are paid"
        carries = f"carries {count(load.tier.most[meter])} {unit}{paid}"
        way = (f"tier {load.tier.tier} of {name}", carries)
    else:
        way = (f"a limit of {count(peak)} {unit} at {name}", "ask the provider: no published tier has it")
    return Infeasible(
        f"{percent(most_frac)} of the busiest hour is over {name}'s rate limit; nothing else may serve it",
        conflict=[f"{where}: {name}{tier} {count(limit)} {unit}; the peak is {count(peak)}"],
        ways_out=[way],
        where=where,
        fix="Raise the rate limit, let the work wait (batch), or allow another provider",
    )
