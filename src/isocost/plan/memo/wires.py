"""Figures to watch: volumes, prices, people and proofs at which the verdict would turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isocost.plan.memo.result import (
    OPTIONS,
    Crossing,
    Tripwire,
)
from isocost.plan.memo.study import Study, winner_of
from isocost.plan.memo.traffic import MEMO, VOLUMES
from isocost.plan.memo.ways import (
    Costed,
    label,
    rent_of,
    tokens_usd,
)
from isocost.plan.tell import story
from isocost.units import count, money

PRICE_MOST = 100.0
"""A price must be within this factor of today's for a trip-wire to hang on it."""
FTE_LEAST = 0.2
"""A part of a person too small to run replicas: no trip-wire hangs on it."""


def tripwires_of(
    study: Study, found: Sequence[Mapping[str, Costed]], crossings: Sequence[Crossing]
) -> list[Tripwire]:
    """Volumes, prices, people and proofs at which another choice becomes the cheapest."""
    months = study.at.number(MEMO, "trip_months")
    wires = []
    for one in crossings:
        if one.requests_per_month >= study.multiples[0] * study.base:
            change = f"from {OPTIONS[one.before]} to {OPTIONS[one.after]}"
            text = (
                f"Switch {change} when traffic stays above {count(one.requests_per_month)} requests "
                f"a month for {months:g} months."
            )
            wires.append(Tripwire("volume", text, None, one.requests_per_month, "requests/month"))
    wires += _price_wires(study, found[-1])
    wires += _people_wires(study, found[-1])
    wires += _proof_wires(study, found)
    return wires


def _price_wires(study: Study, by: Mapping[str, Costed]) -> list[Tripwire]:
    """Prices at which the best API and the best own replicas tie at the high volume."""
    pair = _api_and_own(by)
    if pair is None:
        return []
    api, own = pair
    proof = "" if not own.way.why_not else ", once its quality is proven"
    volume = f"at {count(study.multiples[-1] * study.base)} requests a month"
    wires = []
    case = study.built.planned[0].stream
    mtok = float((case.usage.all_input_tok + case.usage.output_tok) @ study.built.prepared.weight_h) / 1e6
    paid = tokens_usd(api)
    price = paid / (mtok * study.multiples[-1])
    tie = (own.usd - (api.usd - paid)) / paid * price
    above = own.usd > api.usd
    if 0 < tie < price * PRICE_MOST:
        turn = "rises above" if above else "falls below"
        then = "own replicas cost less" if above else "the API costs less again"
        text = (
            f"If {label(api.way)} {turn} {_price(tie)} a million tokens, in and out together "
            f"(now {_price(price)}), {then} {volume}{proof}."
        )
        wires.append(Tripwire("api price", text, float(price), float(tie), "USD/Mtok"))
    rent, hours = rent_of(own)
    now = rent / hours if hours else 0.0
    gpu = own.way.pool.pool.gpu if own.way.pool is not None else ""
    tie = (api.usd - (own.usd - rent)) / hours if hours else 0.0
    if tie > 0:
        turn = "falls under" if above else "rises over"
        then = "own replicas cost less" if above else "the API costs less again"
        text = f"If {gpu} {turn} {_price(tie)} an hour (now {_price(now)}), {then} {volume}{proof}."
        wires.append(Tripwire("accelerator price", text, float(now), float(tie), "USD/h"))
    elif above:
        rest = money(own.usd - rent)
        text = (
            f"No price of accelerators makes own replicas cheaper {volume}: people and the rest alone are "
            f"{rest}, the API with its people {money(api.usd)}."
        )
        wires.append(Tripwire("accelerator price", text, float(now), 0.0, "USD/h"))
    return wires


def _api_and_own(by: Mapping[str, Costed]) -> tuple[Costed, Costed] | None:
    """The cheapest allowed API and the cheapest own replicas, unproven ones only where no other are."""
    apis = [by[o] for o in ("today", "api", "hosted") if o in by and not by[o].way.why_not]
    owns = [by[o] for o in ("selfhost", "slm") if o in by]
    if not apis or not owns:
        return None
    return min(apis, key=lambda one: one.usd), min(owns, key=lambda one: (bool(one.way.why_not), one.usd))


def _price(usd: float) -> str:
    """A unit price, to the cent where that says something."""
    return f"${usd:,.2f}" if usd >= 0.05 else money(usd)


def _people_wires(study: Study, by: Mapping[str, Costed]) -> list[Tripwire]:
    """How few people must run the replicas for them to cost less than the best API, high volume."""
    pair = _api_and_own(by)
    if pair is None or pair[1].usd <= pair[0].usd:
        return []
    api, own = pair
    people = own.ledger.where(account="operations-staff").total_usd
    base = study.at.number("staff/self-hosted", "fte")
    usd_per_fte = (
        sum(i.usd_per_month for i in study.built.prepared.standings.people("selfhost", 1, 0.0, 0.0)) / base
    )
    now, most = people / usd_per_fte, (people - (own.usd - api.usd)) / usd_per_fte
    if most < FTE_LEAST:
        return []
    volume = f"at {count(study.multiples[-1] * study.base)} requests a month"
    text = f"If no more than {most:.1f} people run the replicas (assumed {now:.1f}), they cost less {volume}."
    return [Tripwire("people", text, now, most, "FTE")]


def _proof_wires(study: Study, found: Sequence[Mapping[str, Costed]]) -> list[Tripwire]:
    """What a proof of quality on one's own samples would be worth at the middle volume."""
    by = found[VOLUMES // 2]
    best = winner_of(by)
    lacking = [one for one in by.values() if one.way.why_not and one.usd < best.usd]
    if not lacking:
        return []
    one = min(lacking, key=lambda other: other.usd)
    samples = story.samples(study.built)
    volume = f"at {count(study.base * study.multiples[VOLUMES // 2])} requests a month"
    text = (
        f"Grade {samples:,} samples of {label(one.way)} on your own task: if it is not worse it saves "
        f"{money(best.usd - one.usd)} a month {volume}."
    )
    return [Tripwire("proof", text, None, float(samples), "sample")]
