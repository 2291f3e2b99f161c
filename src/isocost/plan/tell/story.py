"""A built plan as plain data: lines, limits, levers, what is unproven, what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import cast

import numpy as np

from isocost import risk
from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.fleet import Fleet
from isocost.keep.people import LAUNCH
from isocost.ledger import FEMTO_PER_USD, Charge, Ledger, fusd
from isocost.plan.make.build import PERCENTILE, Built, drafted
from isocost.plan.make.draft import CACHE, VOLUME, Draft, Serving, ratio_drivers, standing_charges
from isocost.plan.make.singles import Single
from isocost.plan.market.offers import Case, Offer, planned
from isocost.plan.market.pools import limit
from isocost.plan.result import (
    Band,
    FactUse,
    Limit,
    LimitStatus,
    Line,
    Option,
    OptionLine,
    Swing,
    TraceNote,
    Unproven,
)
from isocost.units import SECONDS_PER_DAY, percent

SWINGS_MOST = 8
UNPROVEN_MOST = 3
WORDS: Mapping[str, str] = {
    "fte": "people needed ({})",
    "fte_per_gpu": "people for each accelerator ({})",
    "fte_per_model": "people for each further model ({})",
    "usd_per_year": "yearly pay ({})",
    "loading_ratio": "employer's costs over pay",
    "month_ratio": "next month's traffic",
    "launch_weeks": "weeks to launch ({})",
    "samples_per_month": "answers graded a month",
    "usd_per_sample": "price of grading an answer",
    "usd_per_month": "standing charge ({})",
    "yearly_h": "hours a year ({})",
}
"""Attributes as people say them, with what they are of."""
LOOKED_AT = 24
"""Unproven models whose whole saving is worked out, those that save most tokens first."""


@dataclass(frozen=True)
class Totals:
    """Ledgers of today and of the plan, and the drivers that their charges share."""

    today: Ledger
    plan: Ledger
    drivers: Mapping[str, risk.Driver]


def today_ledger(built: Built, stays: Draft) -> Ledger:
    """Business as usual for a month: the log's rows at their own dates, and what stands beside them."""
    prepared = built.prepared
    ledger = Ledger()
    usd = prepared.today_usd
    tokens = prepared.volume.input_tok + prepared.volume.output_tok
    bill = ("month", "today", "today's bill", "deployment", "api-tokens", "", "", "tokens", tokens, "tok")
    ledger.add(Charge(*bill, VOLUME, usd / tokens, fusd(usd)))
    ledger.extend(standing_charges(prepared.at, stays.fleet.standing))
    return ledger


def drivers_of(built: Built, ledgers: Iterable[Ledger]) -> dict[str, risk.Driver]:
    """What may move: facts with an interval, token ratios, predicted step times, and next month's volume."""
    at = built.prepared.at
    names = {name for ledger in ledgers for c in ledger for name in c.price_fact.split(risk.JOIN) if name}
    facts = {fact.id: fact for fact in _facts(at.catalog, names)}
    found: dict[str, risk.Driver] = {}
    for name in sorted(names):
        fact = facts.get(name)
        if fact is not None and fact.low and fact.high and float(fact.value):
            value = float(fact.value)
            if fact.low != fact.high and fact.low > 0:
                found[name] = risk.Driver(name, fact.low / value, fact.high / value)
    # What stands beside the answers says itself which way its factors turn.
    beside = built.prepared.standings.drivers
    found |= {name: beside[name] for name in sorted(names) if name in beside}
    for case in built.planned:
        for offer in case.offers:
            for driver, ratio in zip(
                ratio_drivers(case, offer), (offer.input_ratio, offer.output_ratio), strict=True
            ):
                if driver in names:
                    mid = planned(ratio)
                    found[driver] = risk.Driver(driver, ratio.low / mid, max(ratio.high / mid, 1.0))
    for case in built.planned:
        today = case.stream.model if case.today is None else case.today.model
        for model in {option.pool.model for option in built.options}:
            name = f"ratio/output/{today}>{model}"
            if name in names and name not in found:
                ratio = built.prepared.market.ratios(today, model)[1]
                mid = planned(ratio)
                found[name] = risk.Driver(name, ratio.low / mid, max(ratio.high / mid, 1.0))
    for option in built.options:
        name = f"perf/{option.pool.id}"
        if name in names:
            slow, fast = option.speed_frac
            found[name] = risk.Driver(name, 1.0 / fast, 1.0 / slow)
    quotes = {option.rents[t].fact.id: option.rents[t] for option in built.options for t in option.rents}
    for name, quote in quotes.items():
        if name in names and quote.median_usd_per_gpu_h > quote.usd_per_gpu_h:
            own = found.get(name, risk.Driver(name, 1.0, 1.0))
            high = max(own.high_ratio, quote.median_usd_per_gpu_h / quote.usd_per_gpu_h)
            found[name] = risk.Driver(name, own.low_ratio, high)
    return risk.with_families(found, at)


def _facts(catalog: Catalog, ids: Iterable[str]) -> list[Fact]:
    """Facts by id: ``subject.attribute[when]@date``."""
    wanted, subjects = set(ids), {name.split("@")[0].split("[")[0].rpartition(".")[0] for name in ids}
    return [fact for subject in sorted(subjects) for fact in catalog.about(subject) if fact.id in wanted]


def band(ledger: Ledger, drivers: Mapping[str, risk.Driver]) -> Band:
    """A ledger's total with its central 80 %."""
    found = risk.band(ledger, drivers)
    return Band(min(found.low_usd, found.mid_usd), found.mid_usd, max(found.high_usd, found.mid_usd))


def swings(totals: Totals, at: CatalogAt) -> list[Swing]:
    """What matters most to the plan's cost."""
    found = risk.swings(totals.plan, totals.drivers)[:SWINGS_MOST]
    return [Swing(s.name, label(s.name, at), s.low_usd, s.high_usd, [s.name]) for s in found]


def label(driver: str, at: CatalogAt) -> str:
    """A driver in words."""
    head, _, rest = driver.partition("/")
    if head == "ratio":
        kind, _, model = rest.partition("/")
        now, _, then = model.partition(">")
        return f"{'prompt' if kind == 'input' else 'answer'} tokens of {then} for one of {now}"
    if head == "perf":
        return f"speed of {rest}"
    subject, _, attribute = driver.split("@")[0].split("[")[0].rpartition(".")
    spec = at.catalog.attributes.get((subject.partition("/")[0], attribute))
    where = subject.partition("/")[2]
    if attribute in WORDS:
        return WORDS[attribute].format(where.replace("-", " "))
    words = attribute.replace("_usd_per_mtok", " price").replace("usd_per_gpu_h", "rent of a GPU")
    return f"{words.replace('_', ' ')} ({where})" if spec else driver


def trace_note(built: Built) -> TraceNote:
    """The traffic in a few figures."""
    prepared, volume = built.prepared, built.prepared.volume
    trace = prepared.request.trace
    used: dict[str, float] = {}
    for case in prepared.cases:
        name = case.today.id if case.today is not None else case.stream.model
        used[name] = used.get(name, 0.0) + float(case.stream.usage.requests @ prepared.weight_h)
    ranked = sorted(used, key=lambda name: -used[name])
    today = ranked[0] if len(ranked) == 1 else f"{len(ranked)} models, most on {ranked[0]}"
    return TraceNote(
        trace.title,
        trace.digest,
        trace.reader,
        len(prepared.table),
        prepared.week.span_s / SECONDS_PER_DAY,
        volume.requests,
        volume.input_tok / 1e6,
        volume.output_tok / 1e6,
        today,
        [finding.text for finding in trace.findings],
    )


def lines(built: Built) -> list[Line]:
    """The plan's table: cache, then deployments by cost, then people and the rest."""
    draft, weight = built.draft, built.prepared.weight_h
    usd = {key[0]: amount / FEMTO_PER_USD for key, amount in built.ledger.by("deployment").items()}
    whole = sum(float(case.stream.usage.requests @ weight) for case in built.planned)
    found: list[Line] = []
    shares: dict[str, float] = {}
    users: dict[str, list[str]] = {}
    evidence: dict[str, tuple[str, str, bool, float | None, str]] = {}
    for serving in draft.servings:
        case = serving.case
        requests = case.stream.usage.requests * weight
        left = requests * (1.0 - case.cache_hit_frac) if serving.cached else requests
        parts = [(CACHE, requests - left)] if serving.cached else []
        parts += [(name, frac * left) for name, frac in serving.pool_frac.items()]
        if serving.offer is not None and serving.api_frac.any():
            parts.append((serving.offer.api.id, serving.api_frac * left))
        for name, amount in parts:
            shares[name] = shares.get(name, 0.0) + float(amount.sum())
            users.setdefault(name, [])
            if case.stream.workload not in users[name]:
                users[name].append(case.stream.workload)
            told = _evidence(built, name, serving.offer, case)
            known = evidence.get(name)
            evidence[name] = told if known is None or (known[2] and not told[2]) else known
    for name, share in shares.items():
        option, quality, same, ttft, latency = evidence[name]
        cost, frac = usd.get(name, 0.0), share / whole
        kind = cast(Option, option)
        said = _told_of(built, name)
        use = built.replayed.caches.get(name)
        reads = (None, None) if use is None else (use.read_frac, _known(use.bound_frac))
        found.append(Line(name, said, kind, cost, frac, users[name], ttft, latency, quality, same, *reads))
    found.sort(key=lambda line: (line.option != "cache", not line.same_model, -line.usd_per_month))
    rest = built.ledger.where(option="people").total_usd
    accounts = built.ledger.where(option="people").usd_by("account")
    words = ", ".join(sorted(accounts, key=lambda name: -accounts[name])[:4]).replace("-", " ")
    found.append(Line("people", words, "people", rest, 0.0, [], None, "", "", True))
    return found


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def named(deployment: str) -> str:
    """A deployment's id as a person reads it.

    >>> named("openai/gpt-4.1:batch"), named("openai/gpt-4.1:prefix")
    ('openai/gpt-4.1, batch', 'openai/gpt-4.1, prompt cache used')
    """
    words = {"batch": ", batch", "prefix": ", prompt cache used"}
    head, _, way = deployment.rpartition(":")
    if way in words and head:
        return head + words[way]
    return "exact cache" if deployment == CACHE else deployment


def _told_of(built: Built, name: str) -> str:
    """A deployment as a person reads it, and that its speed is one's own measurement where it is."""
    pool = next((option for option in built.options if option.pool.id == name), None)
    return f"{named(name)}, {pool.measured}" if pool is not None and pool.measured else named(name)


def _evidence(
    built: Built, name: str, offer: Offer | None, case: Case
) -> tuple[str, str, bool, float | None, str]:
    """Option, quality in words, same model, TTFT p95 and where that is from, of a deployment for a stream."""
    if name == CACHE:
        return "cache", "same answer", True, 0.0, "held in replay"
    if offer is not None and name == offer.api.id:
        option = "batch" if offer.api.tier == "batch" else offer.api.option
        return option, offer.verdict.reason, offer.same_model, offer.ttft_p95_s, offer.latency
    pool = next(option for option in built.draft.pools if option.pool.id == name)
    code = built.replayed.names.index(name)
    rows = case.stream.rows[built.replayed.where[case.stream.rows] == code]
    seen = built.replayed.percentile(rows, PERCENTILE)["ttft"]
    verdict = pool.fits[case.stream.id].verdict
    same = verdict.passes and verdict.n_benchmarks == 0
    return pool.pool.option, verdict.reason, same, seen, "held in replay"


def limits(built: Built) -> list[Limit]:
    """Each limit of each workload, what was seen, and whether it held; unknown is never passed."""
    found: list[Limit] = []
    draft, replayed = built.draft, built.replayed
    # Streams of one workload may have limits of their own: those of long prompts, or of what may wait.
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, serving in enumerate(draft.servings):
        one = serving.case
        bounds = (limit(one, f"{name}_p95_s") for name in ("ttft", "tpot", "e2e"))
        alike.setdefault((one.stream.workload, one.ask.wait_s, *bounds), []).append(i)
    for members in alike.values():
        case = draft.servings[members[0]].case
        workload = case.stream.workload
        if case.ask.wait_s is not None:
            note = "answers may wait; batch interfaces state their longest time"
            found.append(Limit(workload, "wait", case.ask.wait_s, "s", None, "held", note))
            continue
        rows = np.sort(np.concatenate([draft.servings[i].case.stream.rows for i in members]))
        cached = replayed.names.index(CACHE) if CACHE in replayed.names else -2
        rows = rows[replayed.where[rows] != cached]
        known = rows[~np.isnan(replayed.ttft_s[rows])]
        for name in ("ttft", "tpot", "e2e"):
            target = limit(case, f"{name}_p95_s")
            if not np.isfinite(target):
                continue
            seen = replayed.percentile(known, PERCENTILE)[name] if len(known) else None
            told = _told(built, rows)
            status, evidence = _status(target, seen, told, len(rows))
            found.append(Limit(workload, f"{name}_p95", target, "s", seen, status, evidence))
    return found


def _told(built: Built, rows: np.ndarray) -> int:
    """How many rows are answered where latency is known: by replayed pools, or as the log itself timed.

    A log that times only some of its calls (streamed ones) still tells how fast that deployment is.
    """
    replayed, known = built.replayed, 0
    for code in np.unique(replayed.where[rows]):
        mine = rows[replayed.where[rows] == code]
        if not np.isnan(replayed.ttft_s[mine]).all():
            known += len(mine)
    return known


def _status(target: float, seen: float | None, known: int, rows: int) -> tuple[LimitStatus, str]:
    if seen is None:
        return "unverified", "no published or measured latency: measure it before you switch"
    if seen > target:
        return "missed", f"measured or replayed on {percent(known / rows)} of requests"
    if known < rows:
        return "unverified", f"held on the {percent(known / rows)} whose latency is known"
    return "held", "in replay or by the log's own times"


def option_line(option: str, single: Single, built: Built, totals: Totals) -> OptionLine:
    """One option's best single deployment for the table of options by pillars."""
    if single.ledger is None:
        nothing = Band(0.0, 0.0, 0.0)
        return OptionLine(
            cast(Option, option), "", "", False, single.why_not, nothing, {}, {}, None, "", None
        )
    return OptionLine(
        cast(Option, option),
        single.id,
        _told_of(built, single.id),
        single.feasible,
        single.why_not,
        band(single.ledger, totals.drivers),
        single.ledger.usd_by("pillar"),
        single.ledger.usd_by("account"),
        None,
        single.quality,
        _launch_days(built, single.draft),
    )


def today_line(built: Built, totals: Totals) -> OptionLine:
    """Business as usual as a row of the table of options."""
    note = trace_note(built).today
    found = band(totals.today, totals.drivers)
    pillars, accounts = totals.today.usd_by("pillar"), totals.today.usd_by("account")
    table = built.prepared.table
    known = None if table.ttft_s is None else table.ttft_s[~np.isnan(table.ttft_s)]
    ttft = None if known is None or not len(known) else float(np.percentile(known, PERCENTILE))
    label = f"today: {note}" if " models" in note else f"today: all on {note}"
    return OptionLine("today", "today", label, True, "", found, pillars, accounts, ttft, "", 0.0)


def plan_line(built: Built, totals: Totals) -> OptionLine:
    """The plan as a row of the table of options; it is launched when its slowest new part is."""
    found = band(totals.plan, totals.drivers)
    pillars, accounts = totals.plan.usd_by("pillar"), totals.plan.usd_by("account")
    servings = built.draft.servings
    waited = [serving.case.stream.rows for serving in servings if serving.case.ask.wait_s is None]
    seen = built.replayed.percentile(np.concatenate(waited), PERCENTILE)["ttft"] if waited else None
    launch = _launch_days(built, built.draft)
    quality = "same model, or not worse on published scores"
    return OptionLine("mix", "plan", "the plan", True, "", found, pillars, accounts, seen, quality, launch)


def _launch_days(built: Built, draft: Draft | None) -> float | None:
    """Days until the slowest part of a draft that is not there today answers; 0 where nothing is new."""
    if draft is None:
        return None
    new = {api.option for api in draft.apis if (api.provider, api.model) not in built.prepared.there}
    new |= {option.pool.option for option in draft.pools}
    days = [days_to_launch(built.prepared.at, option) for option in sorted(new)]
    return max((d for d in days if d is not None), default=0.0)


def days_to_launch(at: CatalogAt, option: str) -> float | None:
    """Calendar days from decision to traffic."""
    if option not in LAUNCH:
        return None
    weeks = at.find(f"staff/{LAUNCH[option]}", "launch_weeks")
    return None if weeks is None else 7.0 * float(weeks.value)


def _offers(built: Built, serving: Serving, wanted: Callable[[Offer], bool]) -> list[Offer]:
    """Offers of a stream that are wanted, priced for the requests that this serving leaves them."""
    case = serving.case
    found = [offer for offer in case.offers if wanted(offer)]
    planned_as = next(c for c in built.planned if c.stream.id == case.stream.id)
    if bool(case.cache_hit_frac.any()) == bool(planned_as.cache_hit_frac.any()):
        return found
    market = built.prepared.market
    return [again for offer in found if (again := market.again(case, offer)) is not None]


def unproven(built: Built) -> list[Unproven]:
    """Cheaper models that only lack proof, and about how many graded samples would settle it.

    The saving counts what comes with the move: people, a launch, the review of a provider's terms.
    """
    weight = built.prepared.weight_h
    gains: dict[str, float] = {}
    moves: dict[str, dict[int, Offer]] = {}
    for i, serving in enumerate(built.draft.servings):
        if serving.offer is None:
            continue
        share = serving.api_frac * weight
        paid = float(serving.offer.usd_per_h @ share)
        for offer in _offers(built, serving, partial(_only_unproven, built)):
            gain = paid - float(offer.usd_per_h @ share)
            if gain > 0:
                gains[offer.api.id] = gains.get(offer.api.id, 0.0) + gain
                moves.setdefault(offer.api.id, {})[i] = offer
    first: dict[tuple[str, str], str] = {}
    for name in sorted(gains, key=lambda name: (-gains[name], name)):
        api = next(iter(moves[name].values())).api
        first.setdefault((api.model, api.option), name)
    saves = {
        name: gains[name] - _stands_more(built, moves[name]) for name in list(first.values())[:LOOKED_AT]
    }
    found: list[Unproven] = []
    seen: set[str] = set()
    for name in sorted(saves, key=lambda name: (-saves[name], name)):
        offers = moves[name]
        one = next(iter(offers.values()))
        if saves[name] <= 0 or one.api.model in seen or len(found) == UNPROVEN_MOST:
            continue
        seen.add(one.api.model)
        users = list(dict.fromkeys(built.draft.servings[i].case.stream.workload for i in offers))
        reason = list(offers.values())[-1].why_not.removeprefix("quality: ")
        found.append(Unproven(name, named(name), users, saves[name], reason, samples(built)))
    return found


def _only_unproven(built: Built, offer: Offer) -> bool:
    """Whether an offer lacks proof alone, and what is published does not speak against it."""
    if not offer.why_not.startswith("quality") or not offer.verdict.n_benchmarks:
        return False
    return offer.verdict.upper >= -built.prepared.market.margin and "proven loss" not in offer.why_not


def _stands_more(built: Built, moved: Mapping[int, Offer]) -> float:
    """What stands beside the plan, a month, if some servings moved to these offers: people, launch, terms."""
    servings = [
        replace(serving, offer=moved[i]) if i in moved else serving
        for i, serving in enumerate(built.draft.servings)
    ]
    again = drafted(built.prepared, servings, built.draft.pools, Fleet(built.draft.fleet.pools))
    return again.fleet.standing_usd_per_month - built.draft.fleet.standing_usd_per_month


def samples(built: Built) -> int:
    """Graded answers of each model that would show one of equal quality to be within the margin.

    ``2 p (1 - p) ((z_confidence + z_power) / margin)^2`` for unpaired grades; share of good answers ``p``
    and power are facts of ``planning/grading``.
    """
    from statistics import NormalDist

    market, at = built.prepared.market, built.prepared.at
    good, power = at.number("planning/grading", "good_frac"), at.number("planning/grading", "power_frac")
    z = NormalDist().inv_cdf(market.confidence) + NormalDist().inv_cdf(power)
    return int(np.ceil(2 * good * (1 - good) * (z / market.margin) ** 2))


def facts_used(built: Built, totals: Totals) -> list[FactUse]:
    """Facts behind the plan's charges, those that carry most money first."""
    at, money = built.prepared.at, dict[str, int]()
    for charge in totals.plan:
        for name in charge.price_fact.split(risk.JOIN):
            if name:
                money[name] = money.get(name, 0) + abs(charge.amount_fusd)
    for serving in built.draft.servings:
        offer = serving.offer
        if offer is not None:
            for name in (*offer.input_ratio.facts, *offer.output_ratio.facts):
                money.setdefault(name, 0)
    facts = {fact.id: fact for fact in _facts(at.catalog, money)}
    ranked = sorted((name for name in money if name in facts), key=lambda name: (-money[name], name))
    return [_use(facts[name], at.catalog, built.prepared.request.on) for name in ranked]


def _use(fact: Fact, catalog: Catalog, on: date) -> FactUse:
    source = catalog.sources.get(fact.source)
    value = fact.value if isinstance(fact.value, str) else f"{fact.value:g}"
    return FactUse(
        fact.id, value, fact.unit, fact.low, fact.high, fact.kind,
        source.title if source else fact.source, source.address if source else "", fact.checked.isoformat(),
        fact.quote, (on - fact.checked).days,
    )  # fmt: skip
