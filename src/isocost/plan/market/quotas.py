"""Limits a minute that APIs set by usage tier: what a stream's busiest minute asks, and what overflows.

A limit counts requests, input tokens, output tokens, or both kinds together. It is the account's own where
``have.toml`` states it (``[[rate_limits]]``); else the highest tier that the provider publishes for the
family of models; else it is not known, which is said. Today's API has shown in the log what it takes. Batch
interfaces queue and have no limit a minute.

Facts read: ``provider/*`` (rpm_limit, input_tpm_limit, output_tpm_limit, tpm_limit by model and tier;
tier_from_usd; limit_counts_cached).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.catalog.fact import parse_when
from isocost.deployment import Api
from isocost.errors import BadLimits
from isocost.plan.asked.limits import Have, OwnRate
from isocost.plan.asked.streams import Floats, Rows
from isocost.plan.market.offers import Case, Offer
from isocost.trace.schema import Chunk
from isocost.units import NS_PER_H, NS_PER_MINUTE, WEEK_H

METERS = ("requests", "input tokens", "output tokens", "tokens")
"""What a limit counts, in this order everywhere; the last is input and output together."""
ATTRIBUTES = ("rpm_limit", "input_tpm_limit", "output_tpm_limit", "tpm_limit")
ANY = "any"
"""The family of all models of a provider that have no limits of their own."""
MINUTES_PER_H = 60.0
ROUNDS = 6
"""Times that overflow may fill the next API in turn."""
LEAST_FRAC = 1e-4
"""A share of a stream's hour below which nothing overflows."""


class Quota(NamedTuple):
    """Limits a minute of a family of models at a provider, by meter; infinite where there is none.

    ``tier`` is blank where the account's own numbers state it; ``from_usd`` opens the tier.
    """

    family: str
    tier: str
    most: tuple[float, float, float, float]
    from_usd: float | None
    stated: bool


@dataclass(frozen=True)
class Quotas:
    """Limits of an account: published tiers, and what ``have.toml`` states."""

    at: CatalogAt
    have: Have
    table: Chunk
    supposed: bool
    """Whether today's model is only supposed, so that the log has not shown what it takes."""
    _bursts: dict[tuple[str, int], Floats] = field(default_factory=dict, repr=False, compare=False)
    """Of each stream, whole and as an exact cache leaves it: a plan asks many times."""

    def family(self, api: Api) -> str:
        """The family whose models share a limit at a provider; blank where none is published."""
        found = [name for name in _families(self.at, api.provider) if _within(api.model, name)]
        return max(found, key=len, default=ANY if ANY in _families(self.at, api.provider) else "")

    def tiers(self, api: Api) -> tuple[Quota, ...]:
        """Published tiers, lowest first."""
        family = self.family(api)
        if not family:
            return ()
        found: dict[str, list[float]] = {}
        for i, attribute in enumerate(ATTRIBUTES):
            for fact in self.at.each(f"provider/{api.provider}", attribute):
                when = parse_when(fact.when)
                if fact.subject == f"provider/{api.provider}" and when.get("model") == family:
                    found.setdefault(when.get("tier", ""), [math.inf] * 4)[i] = float(fact.value)
        made = []
        for tier, most in found.items():
            opens = self.at.find(f"provider/{api.provider}", "tier_from_usd", f"tier={tier}")
            usd = None if opens is None else float(opens.value)
            made.append(Quota(family, tier, (most[0], most[1], most[2], most[3]), usd, False))
        return tuple(sorted(made, key=lambda q: (min(q.most[1], q.most[3]), q.most[0], q.tier)))

    def own(self, api: Api) -> Quota | None:
        """What the account states for an API; ``None`` where it says nothing.

        Raises:
            BadLimits: a tier that is not published for the model.
        """
        mine = [one for one in self.have.rate_limits if one.provider == api.provider]
        exact = [one for one in mine if one.model and _within(api.model, one.model)]
        found = max(exact, key=lambda one: len(one.model), default=None)
        found = found or next((one for one in mine if not one.model), None)
        return None if found is None else self._stated(api, found)

    def _stated(self, api: Api, one: OwnRate) -> Quota:
        most = [one.requests_per_min, one.input_tok_per_min, one.output_tok_per_min, one.tok_per_min]
        numbers = [math.inf if value is None else float(value) for value in most]
        family = one.model or self.family(api) or api.model
        if not one.tier:
            return Quota(family, "", (numbers[0], numbers[1], numbers[2], numbers[3]), None, True)
        tiers = {quota.tier: quota for quota in self.tiers(api)}
        if one.tier not in tiers:
            known = ", ".join(tiers)
            raise BadLimits(
                f"no tier {one.tier!r} of {api.provider}/{api.model}",
                where="have.toml [[rate_limits]]",
                fix=f"Known: {known}" if known else "None is published: give requests_per_min or tok_per_min",
            )
        there = tiers[one.tier]
        lower = [min(a, b) for a, b in zip(there.most, numbers, strict=True)]
        return there._replace(family=family, most=(lower[0], lower[1], lower[2], lower[3]), stated=True)

    def binding(self, case: Case, api: Api) -> Quota | None:
        """The limit that a plan keeps to for a stream at an API.

        ``None``: there is none, it is not known, or the log shows that more is served.
        """
        if api.tier == "batch":
            return None
        own = self.own(api)
        if own is not None:
            return own
        tiers = () if self.shown(case, api) else self.tiers(api)
        return tiers[-1] if tiers else None

    def shown(self, case: Case, api: Api) -> bool:
        """Whether the log shows what a stream's API takes, and the account states nothing else."""
        same = case.today is not None and case.today.subject == api.subject
        return same and not self.supposed and self.own(api) is None

    def asked(self, case: Case, offer: Offer) -> Floats:
        """What a stream asks of an offer in the busiest minute of each hour, by meter: (4, 168)."""
        cached = float(counts_cached(self.at, offer.api.provider))
        requests, inputs, outputs = np.zeros(WEEK_H), np.zeros(WEEK_H), np.zeros(WEEK_H)
        for part in offer.parts:
            use = part.usage
            requests = requests + use.requests
            inputs = inputs + use.input_tok + use.cache_write_tok + cached * use.cached_tok
            outputs = outputs + use.output_tok
        means = np.stack([requests, inputs, outputs, inputs + outputs]) / MINUTES_PER_H
        return np.asarray(means * case.stream.peak * self.burst(case)[:, None])

    def burst(self, case: Case) -> Floats:
        """The busiest minute of a stream over the mean minute of its busiest hour, by meter: (4,)."""
        key = (case.stream.id, len(case.rows))
        if key not in self._bursts:
            self._bursts[key] = burst(self.table, case.rows)
        return self._bursts[key]


def counts_cached(at: CatalogAt, provider: str) -> bool:
    """Whether input that is read from a cache counts against a provider's limits; unknown counts."""
    counts = at.find(f"provider/{provider}", "limit_counts_cached")
    return counts is None or counts.value != "false"


class Others(NamedTuple):
    """Tokens a minute of a family at the highest tier of those that publish one: four in five, the median."""

    low: float
    middle: float
    high: float


def others(at: CatalogAt) -> Others:
    """What providers that publish limits let an account have at most, a family each; tokens in and out.

    A family of which only one of the two is published, and not their sum, is left out.
    """
    most: dict[tuple[str, str], dict[str, float]] = {}
    for attribute in ATTRIBUTES[1:]:
        for fact in at.each("provider/", attribute):
            family = most.setdefault((fact.subject, parse_when(fact.when).get("model", "")), {})
            family[attribute] = max(family.get(attribute, 0.0), float(fact.value))
    tokens = []
    for family in most.values():
        parts = family.get("input_tpm_limit", math.inf) + family.get("output_tpm_limit", math.inf)
        tokens.append(min(family.get("tpm_limit", math.inf), parts))
    known = np.array([value for value in tokens if math.isfinite(value)])
    low, middle, high = np.quantile(known, [0.1, 0.5, 0.9]) if len(known) else (math.inf,) * 3
    return Others(float(low), float(middle), float(high))


def _families(at: CatalogAt, provider: str) -> tuple[str, ...]:
    names = dict.fromkeys(
        parse_when(fact.when).get("model", "")
        for attribute in ATTRIBUTES
        for fact in at.each(f"provider/{provider}", attribute)
        if fact.subject == f"provider/{provider}"
    )
    return tuple(name for name in names if name)


def _within(model: str, family: str) -> bool:
    """Whether a model is of a family: ``claude-opus-4-6`` of ``claude-opus-4``, not of ``claude-opus-5``.

    >>> _within("gpt-4o-mini", "gpt-4o"), _within("gpt-5.4", "gpt-5")
    (True, False)
    """
    return model == family or model.startswith(f"{family}-")


def burst(table: Chunk, rows: Rows) -> Floats:
    """The busiest minute over the mean minute of the busiest hour, by meter: (4,), at least 1.

    Where all requests of a log carry the same second of the hour, its minutes say nothing: 1.
    """
    if not len(rows):
        return np.ones(4)
    arrival = table.arrival_ns[rows]
    if (arrival % NS_PER_H == arrival[0] % NS_PER_H).all() and len(rows) > 1:
        return np.ones(4)
    inputs, outputs = table.input_tok[rows].astype(np.float64), table.output_tok[rows].astype(np.float64)
    hour, minute = arrival // NS_PER_H, arrival // NS_PER_MINUTE
    found = []
    for weight in (np.ones(len(rows)), inputs, outputs, inputs + outputs):
        by_hour = np.bincount(hour - hour.min(), weights=weight)
        busiest = int(by_hour.argmax()) + int(hour.min())
        mine = hour == busiest
        peak = np.bincount(minute[mine] - minute[mine].min(), weights=weight[mine]).max()
        mean = by_hour.max() / MINUTES_PER_H
        found.append(max(1.0, float(peak / mean)) if mean > 0 else 1.0)
    return np.array(found)


def within_quotas(quotas: Quotas, cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases, those split whose cheapest API is full in some hour: what overflows goes to the next offer.

    In each hour the streams that lose least by going elsewhere go first. A case that is split keeps the
    share that fits; its rest is another case of the same stream, from which the full API is barred.
    """
    pending = list(cases)
    for _ in range(ROUNDS):
        full = _full(quotas, pending)
        if not full:
            break
        for family, (members, most, name) in full.items():
            keep = _kept(quotas, [pending[i] for i in members], most)
            for i, share in zip(members, keep, strict=True):
                if (share >= 1.0 - LEAST_FRAC).all():
                    continue
                case = pending[i]
                barred = [
                    replace(offer, why_not=offer.why_not or f"rate limit of {name} is reached")
                    if _key(quotas, offer.api) == family and offer.api.tier != "batch"
                    else offer
                    for offer in case.offers
                ]
                pending[i] = _part(case, share, case.offers)
                pending.append(_part(case, 1.0 - share, tuple(barred)))
    return tuple(case for case in pending if case.part is None or case.part.any())


def _key(quotas: Quotas, api: Api) -> tuple[str, str]:
    own = quotas.own(api)
    return api.provider, own.family if own is not None else quotas.family(api)


def _full(quotas: Quotas, cases: Sequence[Case]) -> dict[tuple[str, str], tuple[list[int], Floats, str]]:
    """Families of APIs whose limits the cases that prefer them exceed: who, the limits, and a name."""
    by: dict[tuple[str, str], list[int]] = {}
    for i, case in enumerate(cases):
        if case.best is not None and quotas.binding(case, case.best.api) is not None:
            by.setdefault(_key(quotas, case.best.api), []).append(i)
    found = {}
    for family, members in by.items():
        first = cases[members[0]]
        assert first.best is not None
        quota = quotas.binding(first, first.best.api)
        assert quota is not None
        most = np.array(quota.most)
        asked = sum((_asked(quotas, cases[i]) for i in members), np.zeros((4, WEEK_H)))
        if (asked > most[:, None] * (1.0 + LEAST_FRAC)).any():
            found[family] = (members, most, f"{first.best.api.provider}/{first.best.api.model}")
    return found


def _asked(quotas: Quotas, case: Case) -> Floats:
    assert case.best is not None
    return quotas.asked(case, case.best)


def _kept(quotas: Quotas, members: Sequence[Case], most: Floats) -> list[Floats]:
    """Share of each member's hours that an API carries within its limits: (168,) each."""
    asked = np.stack([_asked(quotas, case) for case in members]) / most[None, :, None]
    worst = asked.sum(axis=0).argmax(axis=0)
    load = np.take_along_axis(asked, worst[None, None, :], axis=1)[:, 0, :]
    loss = np.stack([_loss(case) for case in members])
    rate = np.where(load > 0, loss / np.where(load > 0, load, 1.0), np.inf)
    keep = np.zeros_like(load)
    room = np.ones(WEEK_H)
    hours = np.arange(WEEK_H)
    for row in np.argsort(-rate, axis=0, kind="stable"):
        use = load[row, hours]
        part = np.where(use > 0, np.minimum(1.0, room / np.where(use > 0, use, 1.0)), 1.0)
        keep[row, hours] = part
        room = np.maximum(0.0, room - use * part)
    # A meter that was not the fullest before may be now.
    over = np.maximum(1.0, (asked * keep[:, None, :]).sum(axis=0).max(axis=0))
    return [np.asarray(share) for share in keep / over]


def _loss(case: Case) -> Floats:
    """What a stream's hour costs more at its next offer: (168,), infinite where it has none."""
    assert case.best is not None
    barred = case.best.api
    for offer in case.offers:
        same = (offer.api.provider, offer.api.model) == (barred.provider, barred.model)
        if not offer.why_not and not same:
            return np.asarray(offer.usd_per_h - case.best.usd_per_h)
    return np.full(WEEK_H, np.inf)


def _part(case: Case, share: Floats, offers: tuple[Offer, ...]) -> Case:
    """A share of a case's hours as a case of its own."""
    whole = share if case.part is None else case.part * share
    stream = replace(case.stream, usage=case.stream.usage.scaled(share))
    scaled = tuple(offer.scaled(share) for offer in offers)
    return replace(case, stream=stream, offers=scaled, part=whole)


@dataclass(frozen=True)
class Load:
    """What a plan asks of a family of models at a provider in its busiest minutes.

    ``asked`` (4, 168) by meter; ``most``: the limit that is kept to, or ``None``; ``shown``: the log shows
    that it is served already.
    """

    provider: str
    model: str
    asked: Floats
    most: Quota | None
    tiers: tuple[Quota, ...]
    shown: bool

    @property
    def over(self) -> bool:
        """Whether some minute asks more than the limit."""
        if self.most is None:
            return False
        return bool((self.asked > np.array(self.most.most)[:, None] * (1.0 + 2 * LEAST_FRAC)).any())

    @property
    def tier(self) -> Quota | None:
        """The lowest published tier that carries it; ``None`` where none does."""
        peak = self.asked.max(axis=1)
        return next((q for q in self.tiers if (peak <= np.array(q.most) * (1.0 + LEAST_FRAC)).all()), None)

    def fullest(self, most: tuple[float, ...]) -> int:
        """The meter that comes nearest to limits."""
        return int((self.asked.max(axis=1) / np.array(most)).argmax())


def loads(quotas: Quotas, served: Iterable[tuple[Case, Offer, Floats]]) -> list[Load]:
    """What streams at their offers ask by family, each with its share of hours: (168,)."""
    by: dict[tuple[str, str], list[tuple[Case, Offer, Floats]]] = {}
    for case, offer, frac in served:
        if offer.api.tier != "batch" and frac.any():
            family = _key(quotas, offer.api)
            by.setdefault(family if family[1] else (family[0], offer.api.model), []).append(
                (case, offer, frac)
            )
    found = []
    for members in by.values():
        api = members[0][1].api
        asked = sum((quotas.asked(c, o) * frac for c, o, frac in members), np.zeros((4, WEEK_H)))
        # What the log shows to be served of one stream is shown of the limit that all of them share.
        limits = [quotas.binding(c, o.api) for c, o, _ in members]
        shown = any(quotas.shown(c, o.api) for c, o, _ in members)
        most = None if None in limits else limits[0]
        found.append(Load(api.provider, api.model, asked, most, quotas.tiers(api), shown))
    return found
