"""(trace, fleet, policy) to a ledger: every request of a trace under a plan, in simulated time.

APIs bill each request at the price of its arrival (or of a stated date); replicas serve in the
queue kernel, all workloads of a pool together; an exact cache answers first; what a full pool turns
away goes to the route's fallback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.bill import STATUS, PricedColumns, price_columns
from isocost.catalog import Catalog
from isocost.catalog.prices import METERS
from isocost.deployment import Api, Deployment, ExactCache, Pool, cache_rule, offering_of, work_s
from isocost.errors import BadLimits, BadTrace
from isocost.fleet import Fleet, PoolSchedule
from isocost.ledger import Charge, Ledger, fusd
from isocost.policy.compiled import assign
from isocost.policy.route import Route
from isocost.replay.defer import served_ns
from isocost.replay.prefix import blocks_of
from isocost.replay.queue import BatchLimits, Served, Terms, serve, serve_with_prefixes
from isocost.replay.reuse import CacheUse, cache_use, exact_hits, provider_cache
from isocost.trace.schema import Chunk, numbered_sessions
from isocost.trace.shape import hour_of_week
from isocost.units import NS_PER_H, NS_PER_S, PS_PER_NS, PS_PER_S

LONGEST_NS = 50 * 24 * NS_PER_H
"""Longest log that replicas replay: the kernel counts 53 days of picoseconds, and answers end later."""
UNSERVED = -1
Rows = npt.NDArray[np.int64]


class Ratio(NamedTuple):
    """Tokens of another model for one of today's: input and output."""

    input: float
    output: float


@dataclass(frozen=True)
class Routed:
    """The rows of one stream (sorted by arrival) and the route that answers them.

    ``ratios`` convert its tokens to each deployment's model (absent: the same tokens);
    ``ttft_s`` are what an API is known to take, where the trace says so (today's).
    """

    route: Route
    rows: Rows
    ratios: Mapping[str, Ratio]
    measured: frozenset[str]
    """Deployments whose latency the trace itself measured."""


@dataclass(frozen=True)
class Situation:
    """What a replay needs beside the routes. ``on``: price everything on that date (``None``: at arrival)."""

    catalog: Catalog
    deployments: Mapping[str, Deployment]
    fleet: Fleet
    block_tok: int = 0
    on: date | None = None


@dataclass(frozen=True)
class Replayed:
    """What became of each row of the table.

    ``where`` int32 (n,) indexes ``names`` (-1: not demand); ``ttft_s`` and ``e2e_s`` float64 (n,), NaN
    where not known; ``overflowed`` counts by pool; ``busy_frac`` by pool: time in steps over time
    rented; ``unpriced`` rows are not in the ledger's total, which is then "at least".
    """

    ledger: Ledger
    names: tuple[str, ...]
    where: npt.NDArray[np.int32]
    ttft_s: npt.NDArray[np.float64]
    e2e_s: npt.NDArray[np.float64]
    overflowed: dict[str, int]
    busy_frac: dict[str, float]
    unpriced: int
    output_tok: npt.NDArray[np.int64]
    """Output tokens of each row as the model that answered counts them: (n,)."""
    caches: dict[str, CacheUse]
    """Prompt caches that something was read from, by deployment, and what none could exceed."""
    work_s: dict[str, Work]
    """Replica-seconds by pool: in prefill, in decoding, and rented."""

    def percentile(self, rows: Rows, q: float) -> dict[str, float | None]:
        """Percentiles of TTFT, TPOT and e2e over rows, in seconds; ``None`` where any is not known.

        Time per token is per token of the model that answered, as its user sees them come.
        """
        ttft, e2e, tok = self.ttft_s[rows], self.e2e_s[rows], self.output_tok[rows]
        tpot = ((e2e - ttft) / np.maximum(tok - 1.0, 1.0))[tok > 1]
        found = {"ttft": ttft, "tpot": tpot, "e2e": e2e}
        return {
            name: None if not len(values) or np.isnan(values).any() else float(np.percentile(values, q))
            for name, values in found.items()
        }


class Work(NamedTuple):
    """Replica-seconds: of prefill and of decoding that requests cause themselves, and rented in all."""

    prefill_s: float
    decode_s: float
    rented_s: float


@dataclass
class _State:
    """Columns of a replay in progress, (n,) each; tokens are those of whoever answers."""

    where: npt.NDArray[np.int32]
    fallback: npt.NDArray[np.int32]
    stream: npt.NDArray[np.int32]
    ttft_s: npt.NDArray[np.float64]
    e2e_s: npt.NDArray[np.float64]
    tokens: dict[str, npt.NDArray[np.int64]]


def replay(
    table: Chunk, routed: Sequence[Routed], situation: Situation, workloads: Sequence[str]
) -> Replayed:
    """Run a table of requests through routes; ``workloads`` names each stream's workload.

    Raises:
        BadLimits: a route names a deployment or a pool's schedule that is not there.
    """
    if any(each.route.serve for each in routed):
        return _put_off(table, routed, situation, workloads)
    names = tuple(situation.deployments)
    code = {name: i for i, name in enumerate(names)}
    state = _start(table)
    hour = hour_of_week(table.arrival_ns)
    session = numbered_sessions(table) if any(each.route.by_session for each in routed) else None
    for s, each in enumerate(routed):
        _known(each.route, situation)
        state.stream[each.rows] = s
        by = (hour[each.rows], None if session is None else session[each.rows])
        _route(table, each, state, by, situation, code)
    ledger = Ledger()
    overflowed: dict[str, int] = {}
    busy: dict[str, float] = {}
    caches: dict[str, CacheUse] = {}
    work: dict[str, Work] = {}
    for schedule in situation.fleet.pools:
        pool = situation.deployments.get(schedule.deployment)
        if not isinstance(pool, Pool):
            known = [d.id for d in situation.deployments.values() if isinstance(d, Pool)]
            raise BadLimits(
                f"{schedule.deployment!r} is not a pool",
                where="[[pool]]",
                fix=f"Pools among the deployments are: {', '.join(known) or 'none'}",
            )
        rows = np.flatnonzero(state.where == code[pool.id])
        served, cached, worked = _serve(table, rows, pool, schedule, state.tokens, situation.block_tok)
        ok = served.status == 0
        state.ttft_s[rows[ok]] = (served.ttft_ps[ok] + pool.first_token_ps) / PS_PER_S
        state.e2e_s[rows[ok]] = (served.e2e_ps[ok] + pool.first_token_ps) / PS_PER_S
        overflowed[pool.id] = int((~ok).sum())
        state.where[rows[~ok]] = state.fallback[rows[~ok]]
        _recount(table, routed, rows[~ok], state, situation, code)
        prompt = state.tokens["input_tok"][rows]
        if cached.any():
            memory = pool.kv_capacity_tok * max(schedule.replicas(h) for h in range(168))
            read = int(cached[ok].sum())
            caches[pool.id] = cache_use(table, rows, prompt, read, situation.block_tok, memory)
        rented_s, charges = rent(pool, schedule, table, worked.prefill_s + worked.decode_s)
        work[pool.id] = worked._replace(rented_s=rented_s)
        busy[pool.id] = float(served.busy_ps.sum()) / PS_PER_S / rented_s if rented_s else 0.0
        ledger.extend(charges)
    unpriced = 0
    for each in routed:
        for name in each.measured:
            mine = each.rows[state.where[each.rows] == code[name]]
            if table.ttft_s is not None:
                state.ttft_s[mine] = table.ttft_s[mine]
            if table.e2e_s is not None:
                state.e2e_s[mine] = table.e2e_s[mine]
    for name, deployment in situation.deployments.items():
        if isinstance(deployment, Api):
            rows = np.flatnonzero(state.where == code[name])
            unpriced += _bill(deployment, table, rows, state, workloads, situation, ledger)
            if len(rows) and state.tokens["cached_tok"][rows].any():
                prompt, read = state.tokens["input_tok"][rows], int(state.tokens["cached_tok"][rows].sum())
                caches[name] = cache_use(table, rows, prompt, read, situation.block_tok)
    return Replayed(
        ledger,
        names,
        state.where,
        state.ttft_s,
        state.e2e_s,
        overflowed,
        busy,
        unpriced,
        state.tokens["output_tok"],
        caches,
        work,
    )


def _put_off(
    table: Chunk, routed: Sequence[Routed], situation: Situation, workloads: Sequence[str]
) -> Replayed:
    """The replay with the work that waits arriving when it is served; latencies count from when it came."""
    arrival = table.arrival_ns.copy()
    for each in routed:
        if each.route.serve:
            arrival[each.rows] = served_ns(
                table.arrival_ns[each.rows], each.route.serve, each.route.wait_s or 0.0
            )
    order = np.argsort(arrival, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    later = replace(table.take(order), arrival_ns=arrival[order])
    again = [
        Routed(
            msgspec.structs.replace(each.route, serve=()),
            np.sort(place[each.rows]),
            each.ratios,
            each.measured,
        )
        for each in routed
    ]
    found = replay(later, again, situation, workloads)
    late_s = (arrival - table.arrival_ns) / NS_PER_S
    return replace(
        found,
        where=found.where[place],
        ttft_s=found.ttft_s[place] + late_s,
        e2e_s=found.e2e_s[place] + late_s,
        output_tok=found.output_tok[place],
    )


def _logged(table: Chunk) -> dict[str, npt.NDArray[np.int64]]:
    """Tokens as the log has them: those of today's model."""
    read, written = (
        np.zeros(len(table), np.int64) if column is None else column.astype(np.int64)
        for column in (table.cached_tok, table.cache_write_tok)
    )
    return {
        "input_tok": table.input_tok.astype(np.int64),
        "cached_tok": read,
        "cache_write_tok": written,
        "output_tok": table.output_tok.astype(np.int64),
    }


def _start(table: Chunk) -> _State:
    n = len(table)
    tokens = _logged(table)
    unknown, nowhere = np.full(n, np.nan), np.full(n, UNSERVED, np.int32)
    return _State(nowhere, nowhere.copy(), nowhere.copy(), unknown, unknown.copy(), tokens)


def _route(
    table: Chunk,
    each: Routed,
    state: _State,
    by: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None],
    situation: Situation,
    code: Mapping[str, int],
) -> None:
    """Send one stream's rows where its route says ``by`` their hours and sessions (k,), and count their
    tokens as the answering model does."""
    rows, route = each.rows, each.route
    shares = np.array([code[share.deployment] for share in route.shares], np.int32)
    state.where[rows] = shares[assign(route, by[0], session=by[1])]
    if route.fallback:
        state.fallback[rows] = code[route.fallback]
    if route.cache:
        cache = situation.deployments[route.cache]
        hits = exact_hits(table, rows, cache.ttl_s) if isinstance(cache, ExactCache) else None
        if hits is not None:
            state.where[rows[hits]] = code[route.cache]
            state.ttft_s[rows[hits]] = state.e2e_s[rows[hits]] = 0.0
    _convert(table, each, rows, state, situation, code)


def _convert(
    table: Chunk,
    each: Routed,
    rows: Rows,
    state: _State,
    situation: Situation,
    code: Mapping[str, int],
) -> None:
    """Turn today's tokens of rows into those of whoever answers them, its prompt cache with them."""
    tokens = state.tokens
    for name, deployment in situation.deployments.items():
        mine = rows[state.where[rows] == code[name]]
        if isinstance(deployment, Api) and len(mine):
            _cache(table, mine, deployment, name not in each.ratios, situation, tokens)
    for name, ratio in each.ratios.items():
        mine = rows[state.where[rows] == code[name]]
        tokens["input_tok"][mine] = np.rint(tokens["input_tok"][mine] * ratio.input)
        tokens["output_tok"][mine] = np.rint(tokens["output_tok"][mine] * ratio.output)
        room = tokens["input_tok"][mine]
        for part in ("cached_tok", "cache_write_tok"):
            # Parts rounded one by one may come to more than their whole.
            tokens[part][mine] = np.minimum(np.rint(tokens[part][mine] * ratio.input), room)
            room = room - tokens[part][mine]


def _cache(
    table: Chunk,
    rows: Rows,
    api: Api,
    billed: bool,
    situation: Situation,
    tokens: Mapping[str, npt.NDArray[np.int64]],
) -> None:
    """Cache reads and writes at an API: as billed where it is today's and is used as today, else replayed."""
    if billed and not api.keeps_prefixes and table.cached_tok is not None:
        return
    rule = cache_rule(situation.catalog.at(situation.on or date.max), api)
    found = None if rule is None else provider_cache(table, rows, situation.block_tok, rule)
    reads, writes = (None, None) if found is None else found
    tokens["cached_tok"][rows] = 0 if reads is None else reads
    tokens["cache_write_tok"][rows] = 0 if writes is None else writes


def _recount(
    table: Chunk,
    routed: Sequence[Routed],
    rows: Rows,
    state: _State,
    situation: Situation,
    code: Mapping[str, int],
) -> None:
    """Tokens of rows that a pool turned away, as their fallback counts them."""
    if not len(rows):
        return
    for name, logged in _logged(table).items():
        state.tokens[name][rows] = logged[rows]
    for s, each in enumerate(routed):
        _convert(table, each, rows[state.stream[rows] == s], state, situation, code)


def _known(route: Route, situation: Situation) -> None:
    """Every name of a route is there and can do what the route asks of it, so that nothing is served free."""
    deployments, where = situation.deployments, f"[[route]] of {route.workload!r}"
    rented = {schedule.deployment for schedule in situation.fleet.pools}
    shares = tuple(share.deployment for share in route.shares)
    for name in (*shares, route.cache, route.fallback):
        if name and name not in deployments:
            raise BadLimits(
                f"it names {name!r}", where=where, fix=f"Deployments are: {', '.join(deployments)}"
            )
    for name in shares:
        if isinstance(deployments[name], ExactCache):
            raise BadLimits(f"{name!r} is a cache and takes no share", where=where, fix="Name it in 'cache'")
        if isinstance(deployments[name], Pool) and name not in rented:
            raise BadLimits(f"{name!r} has no replicas", where=where, fix="Give it a [[pool]]")
    if route.cache and not isinstance(deployments[route.cache], ExactCache):
        raise BadLimits(f"{route.cache!r} is not a cache", where=where, fix="Name it in [[route.share]]")
    if route.fallback and not isinstance(deployments[route.fallback], Api):
        raise BadLimits(f"fallback {route.fallback!r} can be full too", where=where, fix="Name an API")


def _serve(
    table: Chunk,
    rows: Rows,
    pool: Pool,
    schedule: PoolSchedule,
    tokens: Mapping[str, npt.NDArray[np.int64]],
    block_tok: int,
) -> tuple[Served, Rows, Work]:
    """What the pool's replicas did with its rows, their cached tokens, and what their own work took."""
    start = int(table.arrival_ns[0]) // NS_PER_H * NS_PER_H
    if int(table.arrival_ns[-1]) - start > LONGEST_NS:
        days = (int(table.arrival_ns[-1]) - start) / NS_PER_H / 24
        raise BadTrace(
            f"a log of {days:.0f} days cannot be replayed in one piece",
            fix=f"Replay at most {LONGEST_NS // NS_PER_H // 24} days of it",
        )
    arrival = (table.arrival_ns[rows] - start) * PS_PER_NS
    hours = np.arange(0, (int(table.arrival_ns[-1]) - start) // NS_PER_H + 1)
    first = int(hour_of_week(start))
    active = np.array([schedule.replicas(int((first + h) % 168)) for h in hours], np.int32)
    changes = np.flatnonzero(np.diff(active, prepend=-1))
    switches = (hours[changes] * (NS_PER_H * PS_PER_NS), active[changes])
    terms = Terms(pool.base_ps, pool.prefill_ps_per_tok, pool.seq_ps, pool.kv_ps_per_tok)
    limits = BatchLimits(pool.prefill_budget_tok, pool.max_seqs, pool.kv_capacity_tok)
    prompt, output = tokens["input_tok"][rows], np.maximum(1, tokens["output_tok"][rows])
    most, overflow = int(active.max()), schedule.overflow_outstanding
    prompts = blocks_of(table, rows, prompt, block_tok) if len(rows) else None
    if prompts is not None:
        found = serve_with_prefixes(
            arrival, prompt, output, prompts, terms, limits,
            n_replicas=most, schedule=switches, overflow_outstanding=overflow,
        )  # fmt: skip
        served = Served(found.ttft_ps, found.e2e_ps, found.replica, found.status, found.busy_ps, found.steps)
        cached = np.maximum(0, found.cached_tok)
        return served, cached, _work(pool, prompt, cached, output, served)
    served = serve(
        arrival,
        prompt,
        output,
        terms,
        limits,
        n_replicas=most,
        schedule=switches,
        overflow_outstanding=overflow,
    )
    none = np.zeros_like(prompt)
    return served, none, _work(pool, prompt, none, output, served)


def _work(pool: Pool, prompt: Rows, cached: Rows, output: Rows, served: Served) -> Work:
    """Replica-seconds of the served requests' own work."""
    ok = served.status == 0
    tokens = [np.asarray(column[ok], dtype=np.float64) for column in (prompt, cached, output)]
    whole = float(work_s(pool, *tokens).sum())
    prefill = float((tokens[0] - tokens[1]).sum()) * pool.prefill_ps_per_tok / PS_PER_S
    return Work(prefill, whole - prefill, 0.0)


def rent(pool: Pool, schedule: PoolSchedule, table: Chunk, worked_s: float) -> tuple[float, list[Charge]]:
    """Replica-seconds rented over the trace's span, and the charges: requests' work apart from idle time."""
    first, last = int(table.arrival_ns[0]), int(table.arrival_ns[-1])
    hours = np.arange(first // NS_PER_H, last // NS_PER_H + 1)
    length = np.ones(len(hours))
    length[0] -= (first - hours[0] * NS_PER_H) / NS_PER_H
    length[-1] -= ((hours[-1] + 1) * NS_PER_H - last) / NS_PER_H
    how = hour_of_week(hours * NS_PER_H)
    on_demand, spot = np.array(schedule.on_demand)[how], np.array(schedule.spot)[how]
    kinds = (
        ("on_demand", on_demand, schedule.on_demand_usd_per_h, pool.quote),
        ("spot", spot, schedule.spot_usd_per_h or 0.0, pool.quote),
        ("reserved", np.full(len(hours), schedule.reserved), schedule.reserved_usd_per_h or 0.0, pool.quote),
        ("held", np.full(len(hours), schedule.held), 0.0, ""),
    )
    for kind, count, _, _ in kinds[:3]:
        if count.any() and getattr(schedule, f"{kind}_usd_per_h") is None:
            raise BadLimits(
                f"{pool.id!r} has {kind} replicas without a price",
                where="[[pool]]",
                fix=f"Write {kind}_usd_per_h, the rent of one replica",
            )
    rented_h = sum(float(count @ length) for _, count, _, _ in kinds)
    used = min(1.0, worked_s / 3600 / rented_h) if rented_h else 0.0
    charges = []
    for h in range(len(hours)):
        period = _utc(int(hours[h]) * NS_PER_H)
        for kind, count, usd_per_h, fact in kinds:
            replica_h = float(count[h] * length[h])
            if not replica_h:
                continue
            for account, part in (("inference-compute", used), ("idle-compute", 1.0 - used)):
                quantity = replica_h * part
                charges.append(
                    Charge(period, pool.option, pool.id, "deployment", account, "", "", kind, quantity,
                           "replica h", fact, usd_per_h, fusd(quantity * usd_per_h))
                )  # fmt: skip
    return rented_h * 3600, charges


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns / NS_PER_S, tz=UTC).strftime("%Y-%m-%dT%HZ")


def _bill(
    api: Api,
    table: Chunk,
    rows: Rows,
    state: _State,
    workloads: Sequence[str],
    situation: Situation,
    ledger: Ledger,
) -> int:
    """Bill the rows that an API answers, stream by stream; returns how many have no full price."""
    offering = offering_of(situation.catalog.at(situation.on or date.max), api.subject)
    bad = 0
    for s in np.unique(state.stream[rows]):
        mine = rows[state.stream[rows] == s]
        arrival = table.arrival_ns[mine]
        if situation.on is not None:
            noon = datetime(situation.on.year, situation.on.month, situation.on.day, 12, tzinfo=UTC)
            arrival = np.full(len(mine), int(noon.timestamp()) * NS_PER_S)
        columns = {name: values[mine] for name, values in state.tokens.items()}
        bill = price_columns(
            situation.catalog,
            (offering,),
            {"offering": np.zeros(len(mine), np.int32), "arrival_ns": arrival, **columns},
            tiers=(api.tier,),
            bucket="hour",
        )
        bad += int((bill.status != STATUS.index("priced")).sum())
        ledger.extend(_charges(api, bill, workloads[int(s)] if s >= 0 else ""))
    return bad


def _charges(api: Api, bill: PricedColumns, workload: str) -> list[Charge]:
    grouped = bill.grouped
    amounts = grouped.amounts_fusd()
    return [
        Charge(
            _utc(int(grouped.bucket[i])),
            api.option,
            api.id,
            "deployment",
            "api-tokens",
            workload,
            "",
            METERS[int(grouped.meter[i])],
            float(grouped.quantity[i]),
            "tok",
            " * ".join(grouped.facts[int(grouped.fact[i])]) if grouped.fact[i] >= 0 else "",
            int(grouped.rate_fusd[i]) / 1e15,
            amounts[i],
        )
        for i in range(len(amounts))
        if amounts[i] or grouped.fact[i] < 0
    ]
