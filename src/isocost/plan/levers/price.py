"""Each lever of the list priced on a trace: alone, last, its fair share; and why others do not apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import msgspec

from isocost.ledger import FEMTO_PER_USD
from isocost.plan.levers.candidates import (
    BATCH,
    CACHE,
    COMMIT,
    HOST,
    NARROW,
    OWN,
    PREFIX,
    SPOT,
    SWAP,
    Candidate,
    candidates,
    needs,
    uses_of,
)  # fmt: skip
from isocost.plan.levers.shapley import shapley
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft
from isocost.plan.result import Lever
from isocost.plan.tell.story import Totals

SAME_USE = "same use at the plan's prices, without failed calls"
STEP = 0.1
"""Share by which lengths and requests are cut to price what one could do oneself."""
PRICED: Mapping[str, tuple[str, str]] = {
    CACHE: ("L6", "exact cache answers repeats"),
    PREFIX: ("L7", "prompt cache, used as prefixes allow"),
    BATCH: ("L10", "batch for what may wait"),
    HOST: ("L19", "the same model at another provider"),
    SWAP: ("L1 L3 L5 L17", "another model, proven not worse"),
    OWN: ("L16 L18", "own replicas, shared by the workloads, on the accelerators that cost least"),
    COMMIT: ("L20", "reserved in place of on demand"),
    SPOT: ("L20", "spot, within the share that may go"),
    NARROW: ("L4", "weights quantised where they are shown to keep quality"),
}
"""Levers that the planner pulls: ids of the requirements and words."""


class LeverPrice(msgspec.Struct, frozen=True):
    """A lever. Savings in dollars a month: ``alone`` added to today's way, ``last`` lost without it.

    ``share``: its part of what all save together, by Shapley. ``why_not`` where it does not apply.
    """

    id: str
    name: str
    label: str
    applies: bool
    alone_usd: float
    last_usd: float
    share_usd: float
    in_plan: bool
    why_not: str


class WhatIf(msgspec.Struct, frozen=True):
    """Something that only the user can do, priced under today's way and under the plan, by a step of it."""

    id: str
    label: str
    today_usd: float
    plan_usd: float


class Levers(msgspec.Struct, frozen=True):
    """All levers. Shares sum to ``together_usd`` exactly; ``error_usd`` is 0 where all orders are counted.

    ``standing_usd`` of ``together_usd`` is people, tools and duties: below 0 where the plan needs more. Rows
    of the log without a full price (``unpriced``) count nothing in dollars of today: those are at least.
    """

    title: str
    today_usd: float
    same_use_usd: float
    plan_usd: float
    together_usd: float
    error_usd: float
    levers: list[LeverPrice]
    what_ifs: list[WhatIf]
    standing_usd: float = 0.0
    unpriced: int = 0


def _costs(found: Sequence[Candidate], least: int) -> Callable[[frozenset[str]], int]:
    """v(S): the cheapest candidate whose levers are all in S, none below the plan that replay has checked."""

    @cache
    def cost(on: frozenset[str]) -> int:
        return max(least, min(one.fusd for one in found if one.uses <= on))

    return cost


def waterfall(built: Built, stays: Draft, totals: Totals) -> list[Lever]:
    """From today's bill to the plan: prices and dates, then each lever by its fair share; sums exactly."""
    found = candidates(built, stays)
    plan = built.ledger.total_fusd
    used = sorted(uses_of(built.draft))
    cost = _costs(found, plan)
    shares, _ = shapley(used, cost)
    billed = totals.today.total_fusd
    steps = [("prices", SAME_USE, cost(frozenset()) - billed)]
    steps += [(name, PRICED[name][1], -shares[name]) for name in used]
    assert billed + sum(delta for _, _, delta in steps) == plan
    return [Lever(name, label, delta / FEMTO_PER_USD, delta) for name, label, delta in steps if delta]


def price_levers(built: Built, stays: Draft, totals: Totals) -> Levers:
    """Every lever on this traffic."""
    found = candidates(built, stays)
    names = sorted(set().union(*(one.uses for one in found)))
    cost = _costs(found, built.ledger.total_fusd)
    every = frozenset(names)
    shares, error = shapley(names, cost)
    base, least = cost(frozenset()), cost(every)
    used = uses_of(built.draft)
    usd = float(FEMTO_PER_USD)
    levers = []
    for name, (ids, label) in PRICED.items():
        if name not in names:
            levers.append(LeverPrice(ids, name, label, False, 0.0, 0.0, 0.0, False, _why_not(built, name)))
            continue
        alone = (base - cost(frozenset({name}))) / usd
        last = (cost(every - {name}) - least) / usd
        levers.append(LeverPrice(ids, name, label, True, alone, last, shares[name] / usd, name in used, ""))
    levers.sort(key=lambda one: (not one.applies, -one.share_usd, one.name))
    levers += [LeverPrice(i, n, w, False, 0, 0, 0, False, why) for i, n, w, why in _outside()]
    return Levers(
        built.prepared.request.trace.title,
        totals.today.total_usd,
        base / usd,
        built.ledger.total_usd,
        (base - least) / usd,
        error,
        levers,
        _what_ifs(totals),
        _standing_usd(built, found),
        built.prepared.today.unpriced,
    )


def _standing_usd(built: Built, found: Sequence[Candidate]) -> float:
    """What stands beside the cheapest way without levers, less what stands beside the plan."""
    plain = min((one for one in found if not one.uses), key=lambda one: one.fusd)
    return plain.draft.fleet.standing_usd_per_month - built.draft.fleet.standing_usd_per_month


def _why_not(built: Built, name: str) -> str:
    """Why a lever that the planner could pull does nothing here."""
    planned = built.planned
    if name == CACHE:
        return "no request repeats another within the life of an answer, or the log has no prompts' keys"
    if name == PREFIX:
        if built.prepared.table.block_offsets is None:
            return "the log has no prefixes: which prompts begin alike is not known"
        return "prefixes bring no reads beyond those that are billed"
    if name == BATCH:
        if all(case.ask.wait_s is None for case in planned):
            return 'every answer is needed at once (slo.toml: wait = "24h")'
        return "no batch interface is in time and known for today's models"
    if name in (HOST, SWAP) and any(
        name in needs(offer, case) for case in planned for offer in case.offers if not offer.why_not
    ):
        which = "other providers of today's models" if name == HOST else "the models proven not worse"
        return f"{which} cost no less, what a change takes included"
    if name == HOST:
        return "no other provider of today's models is allowed"
    if name == SWAP:
        reasons = [o.why_not for c in planned for o in c.offers if o.why_not.startswith("quality")]
        return f"no other model is proven not worse: {len(reasons)} offers lack the evidence"
    if name == OWN:
        return "no replica carries this traffic within the limits with a model that is allowed"
    if name in (COMMIT, SPOT):
        own = any(option.pool.option != "slm" for option in built.options)
        if own and name == COMMIT:
            return "a matter of a horizon: isocost plan LOG --horizon 36mo"
        return "it goes with own replicas" if not own else "no quote, or no use for it at this volume"
    if name == NARROW:
        return "no allowed replica of narrower weights, or none shown to keep quality"
    return ""


def _outside() -> list[tuple[str, str, str, str]]:
    """Levers that take something that a log does not show."""
    grade = "its quality on your task is not known: grade samples (isocost measure)"
    return [
        ("L2", "distillation", "distillation into a small model", f"{grade}; its cost: isocost develop"),
        (
            "L1 L18",
            "hardware",
            "mixture of experts, newer accelerators",
            "priced in the choice of own replicas",
        ),
        ("L6", "semantic-cache", "semantic cache", "a log does not say which near questions share an answer"),
        (
            "L7",
            "speculation",
            "speculative decoding",
            "its gain here is not known: isocost calibrate",
        ),
        ("L8", "retrieval", "retrieval in place of long contexts", "needs your documents and a graded test"),
        ("L12", "routing", "routing by difficulty", "needs graded outcomes by request: isocost policy"),
        ("L13", "federated", "federated training", "no training is in this plan"),
        ("L14", "edge", "on the device", "the devices of your users are not known"),
        ("L15", "updates", "automated updates", "counted in people and retraining, not saved here"),
        ("L21", "fine-tune", "fine-tuning against out of the box", f"{grade}; its cost: isocost develop"),
    ]


def _what_ifs(totals: Totals) -> list[WhatIf]:
    """A tenth less of what is paid for by the token or the request."""
    plan = totals.plan

    def part(meters: tuple[str, ...]) -> float:
        paid = sum(c.amount_fusd for c in plan if c.account == "api-tokens" and c.meter in meters)
        return STEP * paid / FEMTO_PER_USD

    tokens = totals.today.where(account="api-tokens").total_usd
    whole = sum(c.amount_fusd for c in plan if c.account == "api-tokens") / FEMTO_PER_USD
    split = part(("input", "cache_read", "cache_write")), part(("output",))
    known = (split[0] + split[1]) or 1.0
    return [
        WhatIf("L9", "prompts a tenth shorter", STEP * tokens * split[0] / known, split[0]),
        WhatIf(
            "L9 L22",
            "answers a tenth shorter (a limit on output)",
            STEP * tokens * split[1] / known,
            split[1],
        ),
        WhatIf("L11", "a tenth of requests answered by rules or a classifier", STEP * tokens, STEP * whole),
    ]
