"""What an attempt of each request at each deployment costs, takes, and how its answer is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.bill import STATUS, price_columns
from isocost.catalog import Catalog, CatalogAt
from isocost.deployment import (
    Api,
    Cache,
    Deployment,
    ExactCache,
    Rules,
    SemanticCache,
    cache_rule,
    offering_of,
)
from isocost.fleet import PoolSchedule
from isocost.ledger import FEMTO_PER_USD
from isocost.plan.asked.streams import Stream
from isocost.plan.market.quotas import counts_cached
from isocost.plan.written.answers import Answers
from isocost.plan.written.near import Near
from isocost.plan.written.rerun import ratios_of, today_of
from isocost.policy.rules import Cascade, Rule
from isocost.policy.table import MISSED, PASSED, REJECTED, SERVED
from isocost.replay.reuse import exact_hits, provider_cache
from isocost.replay.run import Ratio
from isocost.trace.schema import Chunk, Trace, numbered_sessions
from isocost.units import NS_PER_S

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What is the same however requests are answered."""

    catalog: Catalog
    on: date
    trace: Trace
    table: Chunk
    streams: Sequence[Stream]
    deployments: Mapping[str, Deployment]
    pools: Mapping[str, PoolSchedule]
    answers: Answers | None
    score: Floats | None = None
    """What fitted routers say of each of the table's requests, NaN where nothing is known."""
    near: Mapping[str, Near] = field(default_factory=dict)
    """What each semantic cache did, by name (:mod:`isocost.plan.written.caches`)."""
    cuts: bool = False
    """Whether answers may be given up that take too long, so that what of a cost is for input matters."""

    @cached_property
    def session(self) -> Rows | None:
        """A number of the session of each of the table's requests (n,), -1 none."""
        return numbered_sessions(self.table)

    @property
    def at(self) -> CatalogAt:
        """The catalog on the plan's date."""
        return self.catalog.at(self.on)


class Traffic(NamedTuple):
    """Rows of the table (sorted) under one rule; ``stream`` of each, and its place in that stream."""

    rule: Rule
    rows: Rows
    stream: Rows
    sequence: Rows


class Filled(NamedTuple):
    """Columns (n, D) of one loop."""

    input_tok: Rows
    output_tok: Rows
    cost_fusd: Rows
    priced: npt.NDArray[np.bool_]
    ttft_s: Floats
    e2e_s: Floats
    ttft_unknown: npt.NDArray[np.bool_]
    e2e_unknown: npt.NDArray[np.bool_]
    judged: Rows
    answer: Rows
    input_fusd: Rows
    """What of a cost is for input, where an answer may be cut or given up; else 0."""
    quota_tok: Rows
    """Input tokens that count against the provider's quota: without those from a cache where it says so."""


def fill(
    world: World, parts: Sequence[Traffic], place: Sequence[Rows], names: Sequence[str], n: int
) -> Filled:
    """Columns of all rules' requests, each at ``place`` among the n."""
    shape = (n, len(names))
    filled = Filled(
        np.ones(shape, np.int64), np.ones(shape, np.int64), np.zeros(shape, np.int64), np.ones(shape, bool),
        np.zeros(shape), np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool),
        np.full(shape, SERVED, np.int64), np.full(shape, -1, np.int64),
        np.zeros(shape, np.int64), np.ones(shape, np.int64),
    )  # fmt: skip
    for one, where in zip(parts, place, strict=True):
        for s in np.unique(one.stream):
            mine = one.stream == s
            stream = world.streams[int(s)]
            ratios, measured = ratios_of(world.at, stream, one.rule.deployments(), world.deployments)
            for name in one.rule.deployments():
                cell = _cell(world, one.rule, stream, one.rows[mine], (name, ratios.get(name), measured))
                d = names.index(name)
                for column, values in zip(filled, cell, strict=True):
                    column[where[mine], d] = values
        if one.rule.cache and (hits := hits_of(world, one)) is not None:
            filled.judged[where, names.index(one.rule.cache)] = np.where(hits, SERVED, MISSED)
    return filled


def hits_of(world: World, one: Traffic) -> npt.NDArray[np.bool_] | None:
    """Which requests of a rule its exact cache answers (k,); ``None`` where the log does not say. It holds
    what models answered: words that its semantic cache answered come to a model when asked again."""
    cache = world.deployments[one.rule.cache]
    hits = exact_hits(world.table, one.rows, cache.ttl_s) if isinstance(cache, ExactCache) else None
    near = None if one.rule.semantic is None else world.near.get(one.rule.semantic.cache)
    return hits if hits is None or near is None else hits & ~near.owed[one.rows]


def _cell(
    world: World,
    rule: Rule,
    stream: Stream,
    rows: Rows,
    which: tuple[str, Ratio | None, frozenset[str]],
) -> Filled:
    """One deployment's columns for one stream, each (k,)."""
    name, ratio, measured = which
    one, table = world.deployments[name], world.table
    k = len(rows)
    read, written = (
        np.zeros(k, np.int64) if column is None else column[rows].astype(np.int64)
        for column in (table.cached_tok, table.cache_write_tok)
    )
    tokens = {
        "input_tok": table.input_tok[rows].astype(np.int64), "cached_tok": read, "cache_write_tok": written,
        "output_tok": table.output_tok[rows].astype(np.int64),
    }  # fmt: skip
    if isinstance(one, Api) and (ratio is not None or one.keeps_prefixes or table.cached_tok is None):
        rule_of = cache_rule(world.at, one)
        kept = None if rule_of is None else provider_cache(table, rows, world.trace.block_tok, rule_of)
        reads, writes = (None, None) if kept is None else kept
        tokens["cached_tok"] = np.zeros(k, np.int64) if reads is None else reads
        tokens["cache_write_tok"] = np.zeros(k, np.int64) if writes is None else writes
    if ratio is not None:
        for part, by in (
            ("input_tok", ratio.input), ("output_tok", ratio.output), ("cached_tok", ratio.input),
            ("cache_write_tok", ratio.input),
        ):  # fmt: skip
            tokens[part] = np.rint(tokens[part] * by).astype(np.int64)
    if rule.shape is not None and not isinstance(one, Cache | Rules):
        trim, cap = rule.shape.trim_input_tok, rule.shape.cap_output_tok
        tokens["input_tok"] = tokens["input_tok"] if trim is None else np.minimum(tokens["input_tok"], trim)
        tokens["output_tok"] = tokens["output_tok"] if cap is None else np.minimum(tokens["output_tok"], cap)
    tokens["cached_tok"] = np.minimum(tokens["cached_tok"], tokens["input_tok"])
    room = tokens["input_tok"] - tokens["cached_tok"]
    tokens["cache_write_tok"] = np.minimum(tokens["cache_write_tok"], room)
    cost, priced = np.zeros(k, np.int64), np.ones(k, np.bool_)
    ttft, e2e = np.zeros(k), np.zeros(k)
    inputs = np.zeros(k, np.int64)
    if isinstance(one, Api):
        cost, priced = price_of(world, one, tokens)
        if rule.hedge is not None or world.cuts:
            inputs = price_of(world, one, tokens | {"output_tok": np.zeros(k, np.int64)})[0]
        ttft, e2e = _times(world, one, rule, rows, tokens["output_tok"], name in measured)
    if isinstance(one, Rules):
        cost[:], ttft[:], e2e[:] = round(one.usd_per_request * FEMTO_PER_USD), one.answer_s, one.answer_s
    counted = tokens["input_tok"]
    if isinstance(one, Api) and not counts_cached(world.at, one.provider):
        counted = counted - tokens["cached_tok"]
    judged, answer = np.full(k, SERVED, np.int64), np.full(k, -1, np.int64)
    if isinstance(one, Cache):
        judged[:] = MISSED
        if isinstance(one, SemanticCache) and (near := world.near.get(name)) is not None:
            judged, cost, ttft[:] = near.judged[rows], near.cost_fusd[rows], near.look_s
            e2e = ttft
    elif isinstance(rule.choose, Cascade) and name in rule.choose.ask:
        judged, answer = _judged(world, rule.choose, name, stream, rows)
        if rule.choose.checked and name == rule.choose.ask[-1]:
            judged[:] = SERVED
    elif rule.first is not None and name == rule.first.deployment:
        judged[:] = -1
        if world.answers is not None and (told := world.answers.answered(name, stream, rows)) is not None:
            judged = np.where(told, SERVED, MISSED)
    return Filled(
        tokens["input_tok"], np.maximum(1, tokens["output_tok"]), cost, priced, np.nan_to_num(ttft),
        np.nan_to_num(e2e), np.isnan(ttft), np.isnan(e2e), judged, answer, inputs, counted,
    )  # fmt: skip


def _judged(world: World, choice: Cascade, name: str, stream: Stream, rows: Rows) -> tuple[Rows, Rows]:
    """How a cascade's answers are judged, -1 where nothing says, and which answers are equal."""
    k = len(rows)
    nothing = np.full(k, -1, np.int64)
    if world.answers is None:
        return nothing, nothing
    if choice.checked:
        grade = world.answers.quality(name, stream, rows)
        if grade is None:
            return nothing, nothing
        told = np.where(grade >= 0.5, PASSED, REJECTED)
        return np.where(np.isnan(grade), -1, told).astype(np.int64), nothing
    answer = world.answers.answer(name, stream, rows)
    return (nothing, nothing) if answer is None else (np.full(k, SERVED, np.int64), answer)


def price_of(world: World, api: Api, tokens: Mapping[str, Rows]) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """The bill of an attempt at each row, in 1e-15 dollars, and whether all of it is priced."""
    k = len(tokens["input_tok"])
    noon = datetime(world.on.year, world.on.month, world.on.day, 12, tzinfo=UTC)
    arrival = np.full(k, int(noon.timestamp()) * NS_PER_S)
    bill = price_columns(
        world.catalog,
        (offering_of(world.at, api.subject),),
        {"offering": np.zeros(k, np.int32), "arrival_ns": arrival, **tokens},
        tiers=(api.tier,),
    )
    return bill.amount_fusd, bill.status == STATUS.index("priced")


def _times(
    world: World, api: Api, rule: Rule, rows: Rows, output_tok: Rows, is_measured: bool
) -> tuple[Floats, Floats]:
    """Seconds to an API's first token and to its last, NaN where nothing says.

    Those that the log measured are its own; else what the log measured of the same offering elsewhere, in
    turn; else the catalog's medians. A batch takes as long as it may.
    """
    table, k = world.table, len(rows)
    if api.tier == "batch":
        wait = np.full(k, _batch_wait_s(world.at, api, rule))
        if table.deadline_s is not None:
            asked = table.deadline_s[rows]
            wait = np.where(np.isnan(asked), wait, asked)
        return wait, wait
    unknown = np.full(k, np.nan)
    if is_measured:
        ttft = unknown if table.ttft_s is None else np.asarray(table.ttft_s[rows], np.float64)
        e2e = unknown if table.e2e_s is None else np.asarray(table.e2e_s[rows], np.float64)
        logged = table.output_tok[rows]
        made = np.minimum(1.0, np.maximum(0, output_tok - 1) / np.maximum(1, logged - 1))
        # An answer that is cut short ends sooner; where its first token is not known, no sooner than it did.
        return ttft, np.where(np.isnan(ttft) | (output_tok >= logged), e2e, ttft + (e2e - ttft) * made)
    seen, per_tok_s = _observed(world, api)
    if len(seen):
        ttft = seen[np.random.default_rng(0).permutation(len(seen))[np.arange(k) % len(seen)]]
        return ttft, ttft + np.maximum(0, output_tok - 1) * per_tok_s
    first, speed = (world.at.find(api.subject, each) for each in ("ttft_p50_s", "output_tok_per_s"))
    if first is None or speed is None:
        return unknown, unknown
    whole = float(first.value) + np.maximum(0, output_tok - 1) / float(speed.value)
    return np.full(k, float(first.value)), whole


def _batch_wait_s(at: CatalogAt, api: Api, rule: Rule) -> float:
    """How long a batch may take: as the rule says, else the provider, else batches in general."""
    if rule.defer is not None:
        return rule.defer.wait_s
    said = at.find(f"provider/{api.provider}", "batch_turnaround_h")
    return at.number("slo/batch", "batch_wait_s") if said is None else float(said.value) * 3600.0


def _observed(world: World, api: Api) -> tuple[Floats, float]:
    """Times to first token (m,) of the log's requests that went to an offering, and its mean time per
    further token, over all their tokens: that of a short answer says little."""
    table = world.table
    if table.ttft_s is None or table.e2e_s is None or api.tier != "standard":
        return np.zeros(0), 0.0
    found = [np.zeros(0, np.int64)]
    for stream in world.streams:
        offering = today_of(world.at, stream)
        if offering is not None and offering.subject == api.subject:
            found.append(stream.rows)
    rows = np.concatenate(found)
    rows = rows[np.isfinite(table.ttft_s[rows]) & np.isfinite(table.e2e_s[rows])]
    ttft, e2e = table.ttft_s[rows].astype(np.float64), table.e2e_s[rows].astype(np.float64)
    further = np.maximum(1, table.output_tok[rows].astype(np.int64) - 1)
    return ttft, float(np.maximum(0.0, e2e - ttft).sum() / max(1, int(further.sum())))
