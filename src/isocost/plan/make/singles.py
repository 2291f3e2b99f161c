"""The best single deployment of each option: what a meeting compares a plan with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isocost.ledger import Ledger
from isocost.plan.make.build import Built, kg_of, only_api, only_pool
from isocost.plan.make.draft import Draft, month_ledger
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.prepare import Prepared


@dataclass(frozen=True)
class Single:
    """One deployment that carries everything: its draft and ledger, or why there is none.

    ``why_not`` is blank where every limit and its quality evidence allow it.
    """

    option: str
    id: str
    model: str
    draft: Draft | None
    ledger: Ledger | None
    why_not: str
    quality: str

    @property
    def feasible(self) -> bool:
        """Whether nothing speaks against it."""
        return self.draft is not None and not self.why_not

    @property
    def usd_per_month(self) -> float:
        """The month's cost, infinite where it cannot be."""
        return np.inf if self.ledger is None else self.ledger.total_usd


def today_draft(prepared: Prepared, cases: Sequence[Case]) -> Draft:
    """Today's models at the plan's prices, with the standing costs of what is there already."""
    offers = [
        next((o for o in case.offers if case.today and o.api.id == case.today.id), None) for case in cases
    ]
    return only_api(prepared, cases, whole_offers(prepared, cases, offers), today=True)


def whole_offers(
    prepared: Prepared, cases: Sequence[Case], offers: Sequence[Offer | None]
) -> tuple[Offer | None, ...]:
    """The same offers for all requests of each stream: a single deployment has no exact cache before it."""
    return tuple(
        None if offer is None else prepared.market.whole(case, offer.api)
        for case, offer in zip(cases, offers, strict=True)
    )


def api_singles(built: Built, option: str, most: int) -> list[tuple[float, tuple[Offer, ...], str]]:
    """Offerings of an option that could carry every stream: tokens a month, offers, what speaks against.

    Cheapest first, allowed ones before others; at most ``most`` of each.
    """
    weight = built.prepared.weight_h
    by_id: dict[str, list[Offer]] = {}
    for case in built.planned:
        for offer in case.offers:
            if offer.api.option == option and offer.api.tier == "standard" and not offer.api.keeps_prefixes:
                by_id.setdefault(offer.api.id, []).append(offer)
    allowed, other = [], []
    for offers in by_id.values():
        if len(offers) < len(built.planned):
            continue
        usd = sum(offer.usd_per_month(weight) for offer in offers)
        reasons = list(dict.fromkeys(offer.why_not for offer in offers if offer.why_not))
        row = (usd, tuple(offers), reasons[0] if reasons else "")
        if not reasons:
            allowed.append(row)
        elif all(reason.startswith("quality") for reason in reasons):
            other.append(row)

    def rank(row: tuple[float, tuple[Offer, ...], str]) -> tuple[bool, float, str]:
        # What is shown to be worse comes after what nobody has shown anything of.
        worse = any(offer.verdict.upper < -built.prepared.market.margin for offer in row[1])
        return worse, round(row[0], 6), row[1][0].api.id

    return sorted(allowed, key=rank)[:most] + sorted(other, key=rank)[:most]


def best_api(built: Built, option: str) -> Single:
    """The cheapest allowed offering of an option, else the cheapest that only lacks proof."""
    found = api_singles(built, option, 1)
    if not found:
        return Single(option, "", "", None, None, "no offering takes every stream", "")
    _, offers, why_not = found[0]
    whole = whole_offers(built.prepared, built.planned, offers)
    draft = only_api(built.prepared, built.planned, whole, today=_is_today(built.planned, offers))
    first = found[0][1][0]
    quality = min((o.verdict for o in found[0][1]), key=lambda v: v.passes).reason
    return Single(
        option, first.api.id, first.api.model, draft, month_ledger(built.prepared, draft), why_not, quality
    )


def _is_today(cases: Sequence[Case], offers: Sequence[Offer]) -> bool:
    return all(c.today is not None and c.today.id == o.api.id for c, o in zip(cases, offers, strict=True))


def pool_singles(built: Built, option: str) -> list[Single]:
    """Every tabulated pool of an option that can carry everything, cheapest allowed first."""
    found = []
    for pool in built.options:
        if pool.pool.option != option:
            continue
        single = pool_single(built, pool)
        if single is not None:
            found.append(single)
    return sorted(found, key=lambda s: (bool(s.why_not), round(s.usd_per_month, 6), s.id))


def pool_single(built: Built, pool: PoolOption) -> Single | None:
    """One pool carrying everything; ``None`` where a stream does not fit it at all."""
    made = only_pool(built.prepared, built.planned, pool, built.tables)
    if made is None:
        return None
    draft, proven = made
    fits = [pool.fits[case.stream.id] for case in built.planned]
    why_not = "" if proven else next(fit.why_not for fit in fits if fit.why_not)
    most_kg, kg = built.prepared.request.limits.carbon_kg_per_month, kg_of(built.prepared, draft)
    if not why_not and most_kg is not None and kg > most_kg * (1.0 + 1e-9):
        why_not = f"{kg:,.0f} kg of CO2e a month are over {most_kg:g}"
    quality = min((fit.verdict for fit in fits), key=lambda v: v.passes).reason
    ledger = month_ledger(built.prepared, draft)
    return Single(pool.pool.option, pool.pool.id, pool.pool.model, draft, ledger, why_not, quality)


def singles(built: Built) -> dict[str, Single]:
    """The best single deployment of each option."""
    found = {option: best_api(built, option) for option in ("api", "hosted")}
    for option in ("selfhost", "slm"):
        ranked = pool_singles(built, option)
        nothing = Single(option, "", "", None, None, "" if ranked else _barred(built, option), "")
        found[option] = ranked[0] if ranked else nothing
    return found


def _barred(built: Built, option: str) -> str:
    """Why no replica of a kind carries everything: what a stream needs and the best of them lacks."""
    for pool in built.options:
        for case in built.planned:
            why_not = pool.fits[case.stream.id].why_not
            if pool.pool.option == option and why_not and not why_not.startswith("quality"):
                return f"{case.stream.workload}: {why_not}"
    return "no replica carries this traffic within the limits"
