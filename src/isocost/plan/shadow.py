"""What limits cost: the plan made again with one of them a step looser, in words.

The difference is what the last step of the limit is worth: its shadow price. A limit that costs nothing is
said to cost nothing, since that is worth knowing too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from isocost.errors import Infeasible
from isocost.plan.asked.limits import Limits, Slo
from isocost.plan.make.build import Built
from isocost.plan.market.prepare import Request, prepare
from isocost.plan.run import least
from isocost.units import money

POINT = 1.0
"""Points of quality in a step."""
SLOWER = 1.25
"""What a latency limit is multiplied by in a step."""
MORE_CARBON = 1.1


class ShadowPrice(msgspec.Struct, frozen=True):
    """A limit, the step it was loosened by, and the dollars a month that this would save."""

    limit: str
    step: str
    usd_per_month: float
    text: str


def shadow_prices(built: Built) -> list[ShadowPrice]:
    """The limits that could bind, each loosened by a step and the plan made again; dearest first."""
    request = built.prepared.request
    points = 100.0 * built.prepared.market.margin
    ways: list[tuple[str, str, str, Limits]] = []
    looser = _each(
        request.limits, lambda s: {"quality_margin_points": _or(s.quality_margin_points, points) + POINT}
    )
    ways.append(("quality", "one point", "one more point of quality costs", looser))
    slower = _each(request.limits, lambda s: {"ttft_p95_s": _times(s.ttft_p95_s)}, default=_first(built))
    ways.append(("ttft_p95_s", "a quarter slower", "a first token a quarter sooner costs", slower))
    if any((case.slo.spare_replicas or 0) > 0 for case in built.planned) and built.draft.pools:
        bare = _each(request.limits, lambda _: {"spare_replicas": 0})
        ways.append(("spare_replicas", "none", "the spare replica costs", bare))
    carbon = request.limits.carbon_kg_per_month
    if carbon is not None:
        more = msgspec.structs.replace(request.limits, carbon_kg_per_month=carbon * MORE_CARBON)
        ways.append(("carbon_kg_per_month", "a tenth more", "the last tenth of the carbon limit costs", more))
    if any(case.slo.regions for case in built.planned):
        anywhere = _each(request.limits, lambda _: {"regions": ()})
        ways.append(("regions", "anywhere", "answering from these regions alone costs", anywhere))
    if any(case.slo.place == "own" for case in built.planned):
        open_to_all = _each(request.limits, lambda _: {"place": "any"})
        ways.append(("place", "anywhere", "keeping every token on own replicas costs", open_to_all))
    asked = [(limit, step, words, replace(request, limits=limits)) for limit, step, words, limits in ways]
    if request.have.rate_limits:
        free = replace(request, have=msgspec.structs.replace(request.have, rate_limits=()))
        asked.append(("rate_limits", "none stated", "the account's rate limits cost", free))
    found = []
    for limit, step, words, looser_request in asked:
        usd = _saved(built, looser_request)
        if usd is not None:
            said = f"{words} {money(usd)} a month" if usd >= 0.5 else f"{words} nothing here"
            found.append(ShadowPrice(limit, step, usd, said))
    budget = request.limits.budget_usd_per_month
    if budget is not None:
        room = budget - built.usd_per_month
        found.append(
            ShadowPrice("budget_usd_per_month", "", 0.0, f"the budget does not bind: {money(room)} are left")
        )
    return sorted(found, key=lambda one: -one.usd_per_month)


def _saved(built: Built, request: Request) -> float | None:
    """What the plan costs less under looser limits; ``None`` where none is found."""
    try:
        again = least(prepare(replace(request, limits=_no_budget(request.limits))))[0]
    except Infeasible:
        return None
    return max(0.0, built.usd_per_month - again.usd_per_month)


def _no_budget(limits: Limits) -> Limits:
    return msgspec.structs.replace(limits, budget_usd_per_month=None)


def _each(limits: Limits, change: Callable[[Slo], dict[str, object]], default: Slo | None = None) -> Limits:
    """The limits with a change in the default's and in every workload's table that has limits."""
    base = limits.default if default is None else default
    first = msgspec.structs.replace(limits.default, **change(base))
    own = {
        name: msgspec.structs.replace(slo, **change(slo.over(base))) for name, slo in limits.workload.items()
    }
    return msgspec.structs.replace(limits, default=first, workload=own)


def _first(built: Built) -> Slo:
    """The default's limits with the catalog's where it has none: of the stream with the tightest."""
    tightest = min((c.slo.ttft_p95_s for c in built.planned if c.slo.ttft_p95_s is not None), default=None)
    return built.prepared.request.limits.default.over(Slo(ttft_p95_s=tightest))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _times(value: float | None) -> float | None:
    return None if value is None else value * SLOWER
