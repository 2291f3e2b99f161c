"""A plan in the making: who serves what share of each stream in each hour, and the ledger of its month."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isocost.catalog import CatalogAt
from isocost.deployment import Api, Deployment, ExactCache, work_s
from isocost.fleet import Fleet, PoolSchedule, Standing
from isocost.keep.standing import Standings, Use
from isocost.ledger import Charge, Ledger, fusd
from isocost.plan.asked.streams import Floats
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.pools import PoolOption
from isocost.plan.market.prepare import Prepared
from isocost.plan.market.quotas import Load, loads
from isocost.plan.solve.problem import Solution
from isocost.policy.route import Route, Share
from isocost.units import SECONDS_PER_H, WEEK_H

CACHE = "cache/exact"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
VOLUME = "planning/volume.month_ratio"
"""The fact that every token bought is proportional to: next month's traffic over the trace's."""
ROUND = 6
"""Decimals of a share in plan.toml."""


@dataclass(frozen=True)
class Serving:
    """How one stream is served: an offer for what no pool takes, and each pool's share by hour.

    ``pool_frac`` maps pool id to (168,); what is left goes to ``offer``. ``cached`` says whether the
    exact cache answers first.
    """

    case: Case
    offer: Offer | None
    pool_frac: Mapping[str, Floats]
    cached: bool

    @property
    def api_frac(self) -> Floats:
        """The offer's share by hour: (168,)."""
        rest = 1.0 - sum(self.pool_frac.values(), np.zeros(WEEK_H))
        return np.where(rest < 10.0**-ROUND, 0.0, rest)


@dataclass(frozen=True)
class Draft:
    """Servings of all streams, the pools they use and their schedule, and what stands beside them."""

    servings: tuple[Serving, ...]
    pools: tuple[PoolOption, ...]
    fleet: Fleet
    options: frozenset[str]

    @property
    def apis(self) -> tuple[Api, ...]:
        """APIs in use, in order of first use."""
        used = [s.offer.api for s in self.servings if s.offer is not None and s.api_frac.any()]
        return tuple({api.id: api for api in used}.values())

    @property
    def fallbacks(self) -> tuple[Api, ...]:
        """APIs that only take what a full pool turns away."""
        offers = [s.offer.api for s in self.servings if s.offer is not None and s.pool_frac]
        return tuple({api.id: api for api in offers if api not in self.apis}.values())

    def deployments(self, cache_ttl_s: float) -> dict[str, Deployment]:
        """Everything that a route may name, by id."""
        found: dict[str, Deployment] = {}
        if any(serving.cached for serving in self.servings):
            found[CACHE] = ExactCache(CACHE, cache_ttl_s)
        for api in (*self.apis, *self.fallbacks):
            found[api.id] = api
        for pool in self.pools:
            found[pool.pool.id] = pool.pool
        return found

    def routes(self) -> tuple[Route, ...]:
        """The policy: one route a stream."""
        return tuple(_route(servings) for servings in self.by_stream())

    def loads(self, prepared: Prepared) -> list[Load]:
        """What the APIs in use are asked for in their busiest minutes."""
        used = [(s.case, s.offer, s.api_frac) for s in self.servings if s.offer is not None]
        return loads(prepared.quotas, used)

    def by_stream(self) -> list[list[Serving]]:
        """Servings of each stream: more than one where an API's limit a minute divides it."""
        found: dict[str, list[Serving]] = {}
        for serving in self.servings:
            found.setdefault(serving.case.stream.id, []).append(serving)
        return list(found.values())


def _route(servings: Sequence[Serving]) -> Route:
    case, shares = servings[0].case, []
    fracs: dict[str, Floats] = {}
    for serving in servings:
        part = np.ones(WEEK_H) if serving.case.part is None else serving.case.part
        for name, frac in serving.pool_frac.items():
            fracs[name] = fracs.get(name, np.zeros(WEEK_H)) + part * frac
    for serving in servings:
        part = np.ones(WEEK_H) if serving.case.part is None else serving.case.part
        if serving.offer is not None:
            name = serving.offer.api.id
            fracs[name] = fracs.get(name, np.zeros(WEEK_H)) + part * serving.api_frac
    taken = np.zeros(WEEK_H)
    names = list(fracs)
    for name, frac in fracs.items():
        # The last API takes what rounding leaves.
        last = name == names[-1] and any(s.offer is not None for s in servings)
        rounded = np.round(1.0 - taken, ROUND) if last else np.minimum(np.round(frac, ROUND), 1.0 - taken)
        taken += rounded
        if rounded.any():
            shares.append(Share(name, _short(rounded)))
    first = servings[0].offer
    return Route(
        case.stream.workload,
        case.stream.model,
        tuple(shares),
        CACHE if servings[0].cached else "",
        first.api.id if first is not None and any(s.pool_frac for s in servings) else "",
        case.ask.wait_s,
        case.stream.provider,
        () if case.served is None else tuple(round(float(x), ROUND) for x in case.served),
        by_session=min(len(servings), len(shares)) > 1,
    )


def _short(frac: Floats) -> tuple[float, ...]:
    values = [round(float(value), ROUND) for value in frac]
    return (values[0],) if len(set(values)) == 1 else tuple(values)


def schedules(
    solution: Solution, pools: Sequence[PoolOption], overflow: Mapping[str, int]
) -> list[PoolSchedule]:
    """Schedules of the pools that run."""
    found = []
    for k, option in enumerate(pools):
        if not solution.runs[k]:
            continue
        rents, gpus = option.rents, option.pool.gpus
        spot, reserved = rents.get("spot"), rents.get("reserved_1y")
        found.append(
            PoolSchedule(
                option.pool.id,
                int(solution.held[k]),
                int(solution.reserved[k]),
                tuple(int(n) for n in solution.on_demand[k]),
                tuple(int(n) for n in solution.spot[k]),
                option.usd_per_h,
                None if reserved is None else reserved.usd_per_gpu_h * gpus,
                None if spot is None else spot.usd_per_gpu_h * gpus,
                overflow.get(option.pool.id, -1),
            )
        )
    return found


def standing_of(
    prepared: Prepared,
    servings: Sequence[Serving],
    pools: Sequence[PoolOption],
    gpus: Mapping[str, float],
    today: bool = False,
) -> tuple[tuple[Standing, ...], frozenset[str]]:
    """Standing costs of a way to serve, and the options that it uses.

    ``gpus`` are mean accelerators by pool id. ``today`` leaves out launching: it is there already.
    """
    lines, have, volume = prepared.standings, prepared.request.have, prepared.volume
    apis = {s.offer.api.id: s.offer.api for s in servings if s.offer is not None and s.api_frac.any()}
    kinds = {api.option for api in apis.values()}
    own = sorted({option.pool.option for option in pools})
    base = "hosted" if "hosted" in kinds else "api"
    found: list[Standing] = []
    if apis:
        found += lines.people(base, 1, 0.0, 0.0)
    if own:
        models = len({option.pool.model for option in pools})
        found += lines.people("selfhost", models, sum(gpus.values()), have.platform_fte)
    main = own[0] if own else base
    found += lines.watching(main, volume) + lines.keeping(main, volume)
    if len(apis) + len(pools) > 1 or any(serving.cached for serving in servings):
        found += lines.gateway()
    providers = {api.provider for api in apis.values()}
    new = () if today else tuple(sorted(providers - {provider for provider, _ in prepared.there}))
    found += lines.complying(len(providers), regions_of(prepared), new)
    found += _moving(lines, prepared, servings)
    if not today:
        fresh = {api.option for api in apis.values() if (api.provider, api.model) not in prepared.there}
        for option in sorted(fresh | set(own)):
            found += lines.launch(option)
        for gpu in sorted({option.pool.gpu for option in pools}):
            found += lines.porting(gpu)
    for model in sorted({option.pool.model for option in pools if option.pool.option == "slm"}):
        found += lines.making(volume, prepared.at.number(f"model/{model}", "params_total"))
    found += _powered(prepared, main, pools, gpus)
    return tuple(found), frozenset(kinds | set(own))


def _moving(lines: Standings, prepared: Prepared, servings: Sequence[Serving]) -> list[Standing]:
    """The risk of each closed model that an API serves: its end, or dearer prices.

    A model carries as much of the services as of the requests. Open weights are sold by others too, so
    that the end of one host's offer costs next to nothing.
    """
    bills: dict[str, float] = {}
    parts: dict[str, float] = {}
    cases = [serving.case for serving in servings]
    for serving in servings:
        offer = serving.offer
        if offer is not None and offer.api.option == "api" and serving.api_frac.any():
            name = offer.api.subject.removeprefix("api/")
            share = serving.api_frac * prepared.weight_h
            bills[name] = bills.get(name, 0.0) + float(offer.usd_per_h @ share)
            parts[name] = parts.get(name, 0.0) + part_of(cases, serving.case, share, prepared.weight_h)
    return [line for name, usd in bills.items() for line in lines.moving(name, usd, parts[name])]


def part_of(cases: Sequence[Case], case: Case, weight_h: Floats, month_h: Floats) -> float:
    """Share of the requests of some cases in a month's hours that one of them has in weighted hours.

    All at one volume: what is served, not what the log has.
    """
    whole = sum(float(one.stream.usage.requests @ month_h) for one in cases)
    return float(case.stream.usage.requests @ weight_h) / whole if whole else 0.0


def _powered(
    prepared: Prepared, main: str, pools: Sequence[PoolOption], gpus: Mapping[str, float]
) -> list[Standing]:
    """Electricity on one's own premises, and carbon at the house's own price, where the ask states them."""
    ask = prepared.standings.ask
    if not ask.own.on_premises and not ask.carbon_usd_per_tonne:
        return []
    if not pools:
        return prepared.standings.powered(main, prepared.volume)[0]
    found: list[Standing] = []
    for option in pools:
        use = Use(option.pool.gpu, gpus[option.pool.id], ask.own.busy_frac)
        found += prepared.standings.powered(option.pool.option, prepared.volume, use)[0]
    return found


def regions_of(prepared: Prepared) -> tuple[str, ...]:
    """Regions that some workload's limits name."""
    return tuple(sorted({region for case in prepared.cases for region in case.slo.regions or ()}))


def month_ledger(prepared: Prepared, draft: Draft) -> Ledger:
    """The plan's charges for an average month, by hour of the week."""
    ledger = Ledger()
    hours = [f"{DAYS[h // 24]} {h % 24:02d}h" for h in range(WEEK_H)]
    for serving in draft.servings:
        if serving.offer is not None and serving.api_frac.any():
            _api_charges(ledger, serving, serving.offer, prepared.weight_h, hours)
    for schedule in draft.fleet.pools:
        option = next(o for o in draft.pools if o.pool.id == schedule.deployment)
        _pool_charges(ledger, prepared, draft, option, schedule, hours)
        _lag_charges(ledger, prepared, option, schedule, hours)
    ledger.extend(standing_charges(prepared.at, draft.fleet.standing))
    return ledger


def standing_charges(at: CatalogAt, items: Sequence[Standing]) -> list[Charge]:
    """Standing costs as charges of a month."""
    pillars = pillar_of(at)
    return [
        Charge(
            "month",
            "people",
            item.what,
            pillars[item.account],
            item.account,
            "",
            "",
            item.what,
            item.quantity,
            item.unit,
            " * ".join(item.facts),
            item.unit_price_usd,
            fusd(item.usd_per_month),
        )
        for item in items
    ]


def pillar_of(at: CatalogAt) -> dict[str, str]:
    """The one pillar of each account."""
    return {f.subject.removeprefix("account/"): str(f.value) for f in at.each("account/", "pillar")}


def ratio_drivers(case: Case, offer: Offer) -> tuple[str, str]:
    """Names of the token ratios that an offer's quantities are proportional to; blank where exact."""
    today = case.stream.model if case.today is None else case.today.model
    model = f"{today}>{offer.api.model}"
    exact = offer.input_ratio.low == offer.input_ratio.high, offer.output_ratio.low == offer.output_ratio.high
    return ("" if exact[0] else f"ratio/input/{model}", "" if exact[1] else f"ratio/output/{model}")


def api_meters(serving: Serving) -> Iterator[tuple[str, Floats, float, tuple[str, ...]]]:
    """Meters of a stream at its offer: name, quantity by hour (168,), unit price, ids of what it rests on."""
    offer = serving.offer
    if offer is None or not serving.api_frac.any():
        return
    ratio_in, ratio_out = ratio_drivers(serving.case, offer)
    share = serving.api_frac
    for part in offer.parts:
        p, u = part.prices, part.usage
        for meter, quantity, price, ratio in (
            ("input", u.input_tok, p.input_usd, ratio_in),
            ("cache_read", u.cached_tok, p.cache_read_usd, ratio_in),
            ("cache_write", u.cache_write_tok, p.cache_write_usd, ratio_in),
            ("output", u.output_tok, p.output_usd, ratio_out),
            ("request", u.requests, p.request_usd, ""),
        ):
            if price == 0.0 or not quantity.any():
                continue
            facts = p.facts.get(meter, p.facts["input"])
            yield meter, quantity * share, price, (*facts, *((ratio,) if ratio else ()), VOLUME)


def _api_charges(
    ledger: Ledger, serving: Serving, offer: Offer, weight_h: Floats, hours: Sequence[str]
) -> None:
    api, stream = offer.api, serving.case.stream
    option = "batch" if api.tier == "batch" else api.option
    for meter, quantity, price, names in api_meters(serving):
        drivers = " * ".join(names)
        for h in np.flatnonzero(quantity * weight_h).tolist():
            amount = float(quantity[h] * weight_h[h])
            ledger.add(
                Charge(
                    hours[h], option, api.id, "deployment", "api-tokens", stream.workload, "", meter, amount,
                    "request" if meter == "request" else "tok", drivers, price, fusd(amount * price),
                )
            )  # fmt: skip


def _pool_charges(
    ledger: Ledger,
    prepared: Prepared,
    draft: Draft,
    option: PoolOption,
    schedule: PoolSchedule,
    hours: Sequence[str],
) -> None:
    """Rent by hour, split into compute in use, the spare replica, and idle time."""
    pool = option.pool
    spare = max((case.slo.spare_replicas or 0) for case in prepared.cases)
    used = used_frac(draft, option, schedule)
    quotes = {
        "on_demand": (schedule.on_demand, schedule.on_demand_usd_per_h),
        "spot": (schedule.spot, schedule.spot_usd_per_h),
        "reserved": ((schedule.reserved,) * WEEK_H, schedule.reserved_usd_per_h),
    }
    names = {"on_demand": "on_demand", "spot": "spot", "reserved": "reserved_1y"}
    written = _written_ratio(prepared, draft, option)
    for kind, (counts, usd_per_h) in quotes.items():
        if usd_per_h is None:
            continue
        fact = option.rents[names[kind]].fact.id
        for h in range(WEEK_H):
            if not counts[h]:
                continue
            whole = schedule.replicas(h)
            extra = min(1.0, spare / whole) if whole else 0.0
            busy = min(used[h], 1.0 - extra)
            for account, part in (
                ("inference-compute", busy),
                ("redundancy", extra),
                ("idle-compute", 1.0 - extra - busy),
            ):
                quantity = counts[h] * float(prepared.weight_h[h]) * part
                if quantity <= 0:
                    continue
                drivers = f"{fact} * perf/{pool.id}"
                if written and account == "inference-compute":
                    drivers += f" * {written}"
                ledger.add(
                    Charge(
                        hours[h],
                        pool.option,
                        pool.id,
                        "deployment",
                        account,
                        "",
                        "",
                        kind,
                        quantity,
                        "replica h",
                        drivers,
                        usd_per_h,
                        fusd(quantity * usd_per_h),
                    )
                )


def _written_ratio(prepared: Prepared, draft: Draft, option: PoolOption) -> str:
    """Name of the token ratio that a pool's work follows: of its stream that writes most; or blank."""
    mine = [serving.case for serving in draft.servings if option.pool.id in serving.pool_frac]
    if not mine:
        return ""
    case = max(mine, key=lambda one: float(one.stream.usage.output_tok.sum()))
    today = case.stream.model if case.today is None else case.today.model
    ratio = prepared.market.ratios(today, option.pool.model)[1]
    return "" if ratio.low == ratio.high else f"ratio/output/{today}>{option.pool.model}"


def _lag_charges(
    ledger: Ledger, prepared: Prepared, option: PoolOption, schedule: PoolSchedule, hours: Sequence[str]
) -> None:
    """Rent of replicas that start and do not answer yet: at each rise, and after each interruption."""
    at, pool = prepared.at, option.pool
    lag = at.fact("ops/replica", "start_lag_s")
    lag_h = float(lag.value) / SECONDS_PER_H
    rented = np.array(schedule.on_demand) + np.array(schedule.spot)
    begun = np.maximum(0, rented - np.roll(rented, 1)) * prepared.weight_h * lag_h
    parts = [("start", option.rents["on_demand"].fact.id, schedule.on_demand_usd_per_h, begun)]
    if schedule.spot_usd_per_h is not None and any(schedule.spot):
        plain = schedule.spot_usd_per_h
        more = spot_usd_per_h(plain, interruptions_per_h(at, pool.gpu), lag_h) / plain - 1.0
        lost = np.array(schedule.spot) * prepared.weight_h * more
        parts.append(("interrupted", option.rents["spot"].fact.id, plain, lost))
    for meter, fact, price, quantities in parts:
        for h in np.flatnonzero(quantities).tolist():
            quantity = float(quantities[h])
            ledger.add(
                Charge(
                    hours[h], pool.option, pool.id, "deployment", "idle-compute", "", "", meter, quantity,
                    "replica h", f"{fact} * {lag.id}", price, fusd(quantity * price),
                )
            )  # fmt: skip


def interruptions_per_h(at: CatalogAt, gpu: str) -> float:
    """How often an hour a spot replica is reclaimed, from the share reclaimed within a month."""
    fact = at.find("ops/spot", "interruption_frac_per_month", f"gpu={gpu}")
    frac = at.number("ops/spot", "interruption_frac_per_month") if fact is None else float(fact.value)
    return -math.log1p(-frac) / at.number("finance/any", "hours_per_month")


def spot_usd_per_h(usd_per_h: float, interruptions_per_h: float, lag_h: float) -> float:
    """What an hour that a spot replica serves costs: each interruption pays the lag of the next again.

    >>> spot_usd_per_h(1.0, 0.0, 0.2)
    1.0
    """
    away = min(0.5, interruptions_per_h * lag_h)
    return usd_per_h * (1.0 + away) / (1.0 - away)


def used_frac(draft: Draft, option: PoolOption, schedule: PoolSchedule) -> Floats:
    """Share of a pool's replica time that its mean load takes, by hour: (168,)."""
    work = np.zeros(WEEK_H)
    for serving in draft.servings:
        frac = serving.pool_frac.get(option.pool.id)
        if frac is None:
            continue
        usage, ratio = serving.case.stream.usage, option.fits[serving.case.stream.id].ratio
        keep = (1.0 - serving.case.cache_hit_frac) if serving.cached else np.ones(WEEK_H)
        requests = float(usage.requests.sum())
        isl = ratio.input * float(usage.all_input_tok.sum()) / requests
        osl = ratio.output * float(usage.output_tok.sum()) / requests
        work += frac * keep * usage.requests * work_s(option.pool, isl, 0.0, osl) / 3600.0
    replicas = np.array([schedule.replicas(h) for h in range(WEEK_H)], dtype=np.float64)
    return np.asarray(np.minimum(1.0, work / np.where(replicas > 0, replicas, 1.0)))
