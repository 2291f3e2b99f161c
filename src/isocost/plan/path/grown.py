"""Limits of APIs that growth exceeds: what is too much in a quarter goes to the next offer.

A limit is the account's own where it is stated, else the highest published tier or what the log shows to
be served already, whichever is more. Streams are divided as in a month's plan
(:func:`isocost.plan.market.quotas.within_quotas`), at today's volume against limits that are as many times
smaller as traffic is greater.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from isocost.deployment import Api
from isocost.plan.asked.streams import Floats
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft, Serving
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.quotas import Quota, Quotas, loads, within_quotas

NEXT_MOST = 12
"""Offers, the cheapest, that overflow may go to."""


@dataclass(frozen=True)
class Ahead(Quotas):
    """An account's limits when traffic is ``multiple`` times today's, over today's traffic.

    ``seen``: what today's bill shows to be served, (4,) by provider and family. ``families`` and ``splits``
    keep what was looked up and divided.
    """

    multiple: float = 1.0
    seen: dict[tuple[str, str], Floats] = field(default_factory=dict)
    families: dict[tuple[str, str], str] = field(default_factory=dict)
    splits: dict[float, tuple[Case, ...] | None] = field(default_factory=dict)

    def family(self, api: Api) -> str:
        """As of :class:`Quotas`, looked up once for each offering."""
        key = api.provider, api.model
        if key not in self.families:
            self.families[key] = super().family(api)
        return self.families[key]

    def split(self, built: Built, multiple: float) -> tuple[Case, ...] | None:
        """The planned streams as limits divide them at a multiple of today's traffic; ``None``: whole."""
        if multiple not in self.splits:
            self.splits[multiple] = divided(self, [fewer(case) for case in built.planned], multiple)
        return self.splits[multiple]

    def binding(self, case: Case, api: Api) -> Quota | None:  # noqa: ARG002
        """The limit that a quarter keeps to; ``None``: there is none, or none is known."""
        if api.tier == "batch":
            return None
        found = self.own(api)
        if found is None:
            tiers = self.tiers(api)
            if not tiers:
                return None
            found = tiers[-1]
            if self.family_of(api) in self.seen:
                more = np.maximum(np.array(found.most), self.seen[self.family_of(api)])
                found = found._replace(most=(more[0], more[1], more[2], more[3]))
        low = np.array(found.most) / self.multiple
        return found._replace(most=(low[0], low[1], low[2], low[3]))

    def family_of(self, api: Api) -> tuple[str, str]:
        """Who shares a limit with an offering."""
        own = self.own(api)
        return api.provider, own.family if own is not None else self.family(api)


def ahead_of(built: Built) -> Ahead:
    """The limits at today's volume."""
    quotas = built.prepared.quotas
    plain = Ahead(quotas.at, quotas.have, quotas.table, quotas.supposed)
    if quotas.supposed:
        return plain
    served: dict[tuple[str, str], list[tuple[Case, Offer, Floats]]] = {}
    for case in built.planned:
        offer = _todays(case)
        if offer is not None and offer.api.tier != "batch":
            everything = np.ones(len(offer.usd_per_h))
            served.setdefault(plain.family_of(offer.api), []).append((case, offer, everything))
    seen = {
        family: np.asarray(np.max([load.asked.max(axis=1) for load in loads(plain, members)], axis=0))
        for family, members in served.items()
    }
    return replace(plain, seen=seen)


def _todays(case: Case) -> Offer | None:
    """A stream's offer at the API that serves it today."""
    if case.today is None:
        return None
    return next((offer for offer in case.offers if offer.api.subject == case.today.subject), None)


def fewer(case: Case) -> Case:
    """The case with the offers alone that its requests may come to: the cheapest that are allowed."""
    return replace(case, offers=tuple(offer for offer in case.offers if not offer.why_not)[:NEXT_MOST])


def divided(ahead: Ahead, cases: Sequence[Case], multiple: float) -> tuple[Case, ...] | None:
    """Cases at a multiple of today's traffic, divided where an API is full; ``None`` where none is."""
    found = within_quotas(replace(ahead, multiple=multiple), cases)
    same = len(found) == len(cases) and all(a is b for a, b in zip(found, cases, strict=True))
    return None if same else found


def overflowing(built: Built, ahead: Ahead, draft: Draft, multiple: float) -> tuple[Serving, ...] | None:
    """Servings of a draft of APIs alone, what is too much for one on the next that is allowed.

    ``None`` where nothing is too much. A serving without an offer has nowhere to go.
    """
    alone = [
        # What bars an offer elsewhere does not bar it here: it serves.
        serving.case
        if serving.offer is None
        else replace(serving.case, offers=(replace(serving.offer, why_not=""),))
        for serving in draft.servings
    ]
    if divided(ahead, alone, multiple) is None:
        return None
    found = divided(ahead, [_first(built, serving) for serving in draft.servings], multiple)
    assert found is not None
    cached = {serving.case.stream.id: serving.cached for serving in draft.servings}
    return tuple(Serving(case, case.best, {}, cached[case.stream.id]) for case in found)


def _first(built: Built, serving: Serving) -> Case:
    """The case of a serving with its own offer before all others."""
    case, mine = serving.case, serving.offer
    if mine is None:
        return case
    market = built.prepared.market
    planned = next(
        (one for one in built.planned if one.stream.id == case.stream.id and one.part is case.part), None
    )
    again = planned is not None and len(planned.rows) != len(case.rows)
    weight = built.prepared.weight_h
    allowed = [offer for offer in case.offers if not offer.why_not and offer.api.id != mine.api.id]
    others = [
        priced
        for offer in allowed[:NEXT_MOST]
        if (priced := market.again(case, offer) if again else offer) is not None
    ]
    others.sort(key=lambda offer: (round(offer.usd_per_month(weight), 6), offer.api.id))
    return replace(case, offers=(replace(mine, why_not=""), *others))
