"""Business as usual: who answers each stream now, and what the log's own rows cost at their own dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

from isocost.bill import STATUS, PricedColumns, price_columns
from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.names import Offering, resolve
from isocost.deployment import Api, cache_rule, open_weights
from isocost.errors import UnknownModel
from isocost.plan.asked.streams import Floats, Stream, Week, per_hour
from isocost.replay.reuse import provider_cache
from isocost.trace.schema import Chunk, Outcome, Trace
from isocost.trace.shape import hour_of_week
from isocost.units import NS_PER_S

PRICED = STATUS.index("priced")


@dataclass(frozen=True, slots=True)
class Today:
    """What today costs.

    ``bill`` prices every row that was billed; ``usd_per_h`` (168,) its mean by hour of the week;
    ``trace_usd`` the sum over the log as it is; ``unpriced`` rows are in neither, so both are then
    "at least". ``apis`` are who answers each stream, ``None`` where the catalog does not know.
    """

    bill: PricedColumns
    usd_per_h: Floats
    trace_usd: float
    unpriced: int
    apis: dict[str, Api | None]
    unknown: tuple[str, ...]
    cache_supposed: bool
    """Whether prompt-cache reads are not logged but replayed from the log's prefixes."""


def resolve_all(catalog_at: CatalogAt, names: set[tuple[str, str]]) -> dict[tuple[str, str], Offering | None]:
    """Offerings of (provider, model) names; ``None`` where no entry matches."""
    found: dict[tuple[str, str], Offering | None] = {}
    for provider, model in sorted(names):
        try:
            found[provider, model] = resolve(catalog_at, model, provider)
        except UnknownModel:
            found[provider, model] = None
    return found


def api_of(catalog_at: CatalogAt, offering: Offering) -> Api:
    """An offering as a deployment at its standard tier."""
    option = "hosted" if offering.serves and open_weights(catalog_at, offering.serves) else "api"
    served = offering.serves or offering.subject.split("/", 2)[2]
    return Api(offering.id, offering.subject, offering.provider, served, option)


def price_today(
    catalog: Catalog, on: date, trace: Trace, table: Chunk, week: Week, streams: tuple[Stream, ...], now: str
) -> Today:
    """Price the log: each row at its own model, tier and date; with ``now``, all at that model on ``on``.

    Raises:
        UnknownModel: ``now`` matches nothing, or no model of the log does.
    """
    at = catalog.at(on)
    if now:
        provider, _, bare = now.rpartition("/") if now.count("/") == 1 else ("", "", now)
        offering = resolve(at, bare, provider)
        named: dict[tuple[str, str], Offering | None] = {("", now): offering}
        offerings: list[Offering | None] = [offering]
        codes = np.zeros(len(table), np.int32)
    else:
        named, offerings, codes = _codes(at, trace, table)
        if not any(named.values()):
            resolve(at, next(iter(named))[1], next(iter(named))[0])
    apis: dict[str, Api | None] = {}
    for stream in streams:
        found = named.get((stream.provider, stream.model), named.get(("", stream.model)))
        apis[stream.id] = None if found is None else api_of(at, found)
    reads, writes, supposed = _cache_use(at, trace, table, streams, apis)
    rows = np.flatnonzero(~np.isin(table.outcome, [int(Outcome.DUPLICATE), int(Outcome.CACHED)]))
    columns = {
        "offering": codes[rows],
        "arrival_ns": _moments(table, on, bool(now) or trace.clock == "relative")[rows],
        "input_tok": table.input_tok[rows],
        "cached_tok": reads[rows],
        "cache_write_tok": writes[rows],
        "output_tok": table.output_tok[rows],
    }
    kept = _kept_an_hour(trace, table)
    if kept is not None:
        columns["cache_write_1h_tok"] = kept[rows]
        columns["cache_write_tok"] = np.maximum(writes - kept, 0)[rows]
    tiers: tuple[str, ...] = ("standard",)
    if table.tier is not None:
        tiers = (*trace.names["tier"], "standard")
        columns["tier"] = np.where(table.tier[rows] < 0, len(tiers) - 1, table.tier[rows])
    bill = price_columns(catalog, offerings, columns, tiers=tiers, bucket="hour")
    usd = bill.amount_fusd / 1e15
    usd_per_h = per_hour(hour_of_week(table.arrival_ns[rows]), usd, week)
    unknown = tuple(f"{p}/{m}".strip("/") for (p, m), o in named.items() if o is None)
    unpriced = int((bill.status != PRICED).sum())
    return Today(bill, usd_per_h, float(bill.total_usd), unpriced, apis, unknown, supposed)


def _kept_an_hour(trace: Trace, table: Chunk) -> npt.NDArray[np.int64] | None:
    """Tokens of every row that were written to a cache for an hour, which costs more than a short life: a
    plan's own rows hold both kinds as one. ``None`` where the log has none, or other rows than the plan."""
    if "cache_write_1h_tok" not in trace.columns:
        return None
    whole = trace.table()
    if whole.cache_write_1h_tok is None or len(whole) != len(table):
        return None
    return whole.cache_write_1h_tok.astype(np.int64)


def _cache_use(
    at: CatalogAt,
    trace: Trace,
    table: Chunk,
    streams: tuple[Stream, ...],
    apis: Mapping[str, Api | None],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], bool]:
    """Prompt-cache reads and writes of every row: as logged, else what the providers' caches would hold.

    The third says whether they are supposed: the log has prefixes but not what was read from a cache.
    """
    n = len(table)
    if table.cached_tok is not None:
        writes = (
            np.zeros(n, np.int64) if table.cache_write_tok is None else table.cache_write_tok.astype(np.int64)
        )
        return table.cached_tok.astype(np.int64), writes, False
    reads, writes, supposed = np.zeros(n, np.int64), np.zeros(n, np.int64), False
    for stream in streams:
        api = apis[stream.id]
        rule = None if api is None else cache_rule(at, api)
        found = None if rule is None else provider_cache(table, stream.rows, trace.block_tok, rule)
        if found is not None:
            reads[stream.rows] = found[0]
            writes[stream.rows] = 0 if found[1] is None else found[1]
            supposed = True
    return reads, writes, supposed


def _codes(
    at: CatalogAt, trace: Trace, table: Chunk
) -> tuple[dict[tuple[str, str], Offering | None], list[Offering | None], np.ndarray]:
    models = trace.names["model"]
    providers = trace.names.get("provider", ())
    model = np.full(len(table), -1, np.int32) if table.model is None else table.model
    provider = np.full(len(table), -1, np.int32) if table.provider is None else table.provider
    pairs = (model.astype(np.int64) + 1) * (len(providers) + 1) + provider + 1
    distinct, codes = np.unique(pairs, return_inverse=True)
    names = []
    for pair in distinct:
        m, p = divmod(int(pair), len(providers) + 1)
        names.append((providers[p - 1] if p else "", models[m - 1] if m else ""))
    named = resolve_all(at, {name for name in names if name[1]})
    return named, [named.get(name) for name in names], codes.astype(np.int32)


def _moments(table: Chunk, on: date, restated: bool) -> np.ndarray:
    """When each row is priced: its arrival, or noon of ``on`` where today's model is only supposed."""
    if not restated:
        return table.arrival_ns
    noon = datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
    return np.full(len(table), int(noon.timestamp()) * NS_PER_S, np.int64)
