"""Every account of the chart by option: what it costs, why it is nil, or that it is not known; and energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from msgspec.structs import replace

from isocost.keep.absent import Absent, of_answers, of_keeping, of_making
from isocost.keep.ask import OWN, Ask
from isocost.keep.ask import Option as Kept
from isocost.keep.standing import Use
from isocost.plan.asked.streams import Floats
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft, pillar_of, regions_of, used_frac
from isocost.plan.make.singles import Single
from isocost.plan.result import Account, Band, Energy, OptionLine

COSTS = ("development", "deployment", "sustainability")
"""Pillars of cost, in the order of a life."""
UNSERVED = "nothing serves this way"


def table(
    built: Built, stays: Draft, chosen: dict[str, Single], options: Sequence[OptionLine]
) -> list[Account]:
    """Accounts of cost in the order of pillars; each is in one of them, and has an amount or a reason."""
    at = built.prepared.at
    reasons = [_reasons(built, draft_of(built, stays, chosen, one.option), one) for one in options]
    found = []
    for name, pillar in sorted(pillar_of(at).items(), key=lambda pair: _order(pair[1])):
        if pillar not in COSTS:
            continue
        usd: list[float | None] = []
        why = []
        for one, absent in zip(options, reasons, strict=True):
            amount = one.by_account.get(name)
            reason = absent.get(name, Absent("nothing here")) if absent else Absent(UNSERVED, False)
            usd.append(amount if amount is not None else 0.0 if reason.is_known else None)
            why.append("" if amount is not None else reason.why)
        found.append(Account(name, pillar, at.text(f"account/{name}", "label"), usd, why))
    return found


def _order(pillar: str) -> int:
    return COSTS.index(pillar) if pillar in COSTS else len(COSTS)


def draft_of(built: Built, stays: Draft, chosen: Mapping[str, Single], option: str) -> Draft | None:
    """The draft behind a row of the table of options."""
    if option in ("today", "mix"):
        return stays if option == "today" else built.draft
    return chosen[option].draft


def _reasons(built: Built, draft: Draft | None, line: OptionLine) -> dict[str, Absent] | None:
    """Why each account would be empty; ``None`` where there is no draft."""
    if draft is None:
        return None
    stated, ask = built.prepared.request.keep is not None, _ask(built, draft)
    reasons = of_making(ask) | of_answers(ask) | of_keeping(ask, is_stated=stated)
    if draft.pools and line.by_account.get("api-tokens"):
        # Replicas beside APIs: what is nil is nil for both.
        reasons["api-change-risk"] = Absent("other hosts sell the same open weights")
    return reasons


def _ask(built: Built, draft: Draft) -> Ask:
    """What a draft is, in the words of keeping."""
    ask = built.prepared.standings.ask
    places = ask.law.places or regions_of(built.prepared)
    kinds = sorted(draft.options)
    main = next((kind for kind in kinds if kind in OWN), kinds[0] if kinds else "api")
    main = main if main in ("api", "hosted", "selfhost", "slm") else "api"
    return replace(ask, option=cast(Kept, main), law=replace(ask.law, places=places))


def energies(
    built: Built, stays: Draft, chosen: dict[str, Single], options: Sequence[OptionLine]
) -> list[Energy | None]:
    """Energy and carbon of every option's answers."""
    return [energy(built, draft_of(built, stays, chosen, one.option)) for one in options]


def energy(built: Built, draft: Draft | None) -> Energy | None:
    """Electricity and emissions of a draft: of its replicas, and of the requests that APIs answer."""
    if draft is None:
        return None
    prepared, standings = built.prepared, built.prepared.standings
    weight = prepared.weight_h
    hours = float(weight.sum())
    parts = []
    for schedule in draft.fleet.pools:
        option = next(one for one in draft.pools if one.pool.id == schedule.deployment)
        replicas = np.array([schedule.replicas(h) for h in range(len(weight))], dtype=np.float64)
        rented = float(replicas @ weight)
        busy = float((replicas * used_frac(draft, option, schedule)) @ weight) / rented if rented else 0.0
        use = Use(option.pool.gpu, rented / hours * option.pool.gpus, busy)
        parts.append(standings.powered(option.pool.option, prepared.volume, use)[1])
    asked = _bought(draft, weight)
    if asked:
        share = asked / prepared.volume.requests if prepared.volume.requests else 0.0
        parts.append(standings.powered("api", prepared.volume.scaled(share))[1])
    if not parts:
        return None
    kwh, kg = (_summed(ends) for ends in ([one.kwh for one in parts], [one.kg_co2e for one in parts]))
    return Energy(kwh, kg, "; ".join(dict.fromkeys(one.boundary for one in parts)))


def _summed(ends: Sequence[tuple[float, float, float]]) -> Band:
    """Ends of parts that move together, as those of one grid do."""
    low, mid, high = (sum(one[i] for one in ends) for i in range(3))
    return Band(low, mid, high)


def _bought(draft: Draft, weight_h: Floats) -> float:
    """Requests a month that APIs answer."""
    found = 0.0
    for serving in draft.servings:
        if serving.offer is None:
            continue
        case = serving.case
        left = (1.0 - case.cache_hit_frac) if serving.cached else np.ones(len(weight_h))
        found += float((case.stream.usage.requests * left * serving.api_frac) @ weight_h)
    return found


__all__ = ["energies", "energy", "table"]
