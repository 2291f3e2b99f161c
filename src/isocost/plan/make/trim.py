"""Fewer parts where they cost less: each provider, kind and cache in a plan must earn what stands beside it.

The solver sees tokens and replicas. People, launch, a gateway and the review of a provider's terms
come with the parts that are used, so parts are dropped one at a time while the whole gets cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from isocost.fleet import Fleet
from isocost.plan.make.build import Built, drafted, replay_draft
from isocost.plan.make.draft import Draft, Serving, month_ledger
from isocost.plan.market.offers import Case, Offer


@dataclass(frozen=True)
class Parts:
    """What a plan may use: providers and kinds beside today's, and the exact cache."""

    providers: frozenset[str]
    kinds: frozenset[str]
    cache: bool

    def without(self) -> Iterator[Parts]:
        """The same with one part less, in a stable order."""
        for provider in sorted(self.providers):
            yield replace(self, providers=self.providers - {provider})
        for kind in sorted(self.kinds):
            yield replace(self, kinds=self.kinds - {kind})
        if self.cache:
            yield replace(self, cache=False)


def trimmed(built: Built) -> Built:
    """The plan, or a plan of fewer parts that costs less with everything counted."""
    apis = {s.offer.api for s in built.draft.servings if s.offer is not None}
    parts = Parts(
        frozenset(api.provider for api in apis),
        frozenset(api.option for api in apis),
        # Pools are sized for what the cache leaves them: without it they would be too few.
        any(serving.cached for serving in built.draft.servings) and not built.draft.pools,
    )
    best, usd = built.draft, built.usd_per_month
    improved = True
    while improved:
        improved = False
        for fewer in parts.without():
            draft = _using(built, fewer)
            if draft is None:
                continue
            cost = month_ledger(built.prepared, draft).total_usd
            if cost < usd - 0.005 and not any(load.over for load in draft.loads(built.prepared)):
                best, usd, chosen, improved = draft, cost, fewer, True
        if improved:
            parts = chosen
    if best is built.draft:
        return built
    ledger, replayed = month_ledger(built.prepared, best), replay_draft(built.prepared, best)
    return replace(built, draft=best, ledger=ledger, replayed=replayed)


def _using(built: Built, parts: Parts) -> Draft | None:
    """The plan's servings with the cheapest offers among some parts; ``None`` where a stream is stranded."""
    servings = []
    for serving in built.draft.servings:
        case = serving.case
        offer = next((o for o in case.offers if not o.why_not and _may_use(o, case, parts)), None)
        if offer is None and serving.offer is not None:
            return None
        cached = serving.cached and (parts.cache or bool(built.draft.pools))
        if serving.cached and not cached:
            case = replace(case, rows=case.stream.rows, cache_hit_frac=np.zeros_like(case.cache_hit_frac))
            offer = None if offer is None else built.prepared.market.again(case, offer)
        servings.append(Serving(case, offer, serving.pool_frac, cached))
    return drafted(built.prepared, servings, built.draft.pools, Fleet(built.draft.fleet.pools))


def _may_use(offer: Offer, case: Case, parts: Parts) -> bool:
    """Whether an offer is of today's provider and kind, or of parts that the plan may use."""
    api, today = offer.api, case.today
    provider = api.provider in parts.providers or (today is not None and api.provider == today.provider)
    kind = api.option in parts.kinds or (today is not None and api.option == today.option)
    return provider and kind
