"""From a trace and limits to cases: streams, today's bill, and what each stream could be served by."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.deployment import Api, apis
from isocost.errors import BadInput, BadLimits
from isocost.keep.ask import Ask
from isocost.keep.standing import Standings, Volume
from isocost.plan.asked.limits import Have, Limits, Slo
from isocost.plan.asked.streams import Floats, Stream, Week, per_hour, streams_of, week_of
from isocost.plan.asked.today import Today, price_today
from isocost.plan.market.offers import Case, Market, ask_of
from isocost.plan.market.quotas import Quotas
from isocost.replay.reuse import exact_hits
from isocost.trace.schema import Chunk, Trace
from isocost.trace.shape import hour_of_week
from isocost.units import WEEK_H

DEFAULT_SHAPE = "office"


@dataclass(frozen=True)
class Request:
    """What a plan is asked for. ``on``: the date of prices; ``now``: today's model where the log has none."""

    trace: Trace
    catalog: Catalog
    on: date
    limits: Limits
    have: Have
    now: str = ""
    shape: str = DEFAULT_SHAPE
    exact_cache: bool = True
    keep: Ask | None = None
    """What stands beside the answers, as ``keep.toml`` states it; ``None``: what a log can say alone."""


@dataclass(frozen=True)
class Prepared:
    """A trace laid out for planning; ``weight_h`` (168,) hours a month for each hour of the week."""

    request: Request
    at: CatalogAt
    table: Chunk
    week: Week
    weight_h: Floats
    today: Today
    market: Market
    cases: tuple[Case, ...]
    volume: Volume
    cache_ttl_s: float
    standings: Standings

    @cached_property
    def quotas(self) -> Quotas:
        """Limits a minute of APIs for this account."""
        # Requests that were made up show nothing of what an API takes.
        supposed = bool(self.request.now) or self.request.trace.reader == "generated"
        return Quotas(self.at, self.request.have, self.table, supposed)

    @cached_property
    def there(self) -> frozenset[tuple[str, str]]:
        """Providers and models that serve today."""
        return frozenset(
            (case.today.provider, case.today.model) for case in self.cases if case.today is not None
        )

    def grown(self, multiple: float) -> Prepared:
        """The same with the volume that standing costs follow grown, for cases that are scaled themselves."""
        return replace(self, volume=self.volume.scaled(multiple))

    def heavier(self, multiple: float) -> Prepared:
        """So many times the traffic, each hour weighing more: for APIs, which no hour's load matters to."""
        return replace(self.grown(multiple), weight_h=self.weight_h * multiple)

    @property
    def today_usd(self) -> float:
        """Today's bill for tokens a month, priced at the log's own dates."""
        return float(self.today.usd_per_h @ self.weight_h)


def weekly_shape(at: CatalogAt, name: str) -> Floats:
    """A sourced weekly shape, (168,) with mean 1: hour weights times day weights, in UTC as published.

    Raises:
        BadLimits: no such shape in the catalog.
    """
    if at.find(f"shape/{name}", "hour_weight", "hour=0") is None:
        known = sorted({s.split("/")[1] for s in at.catalog.subjects("shape/")})
        raise BadLimits(f"no shape {name!r}", where="--shape", fix=f"Known: flat, {', '.join(known)}")
    hours = np.array([at.number(f"shape/{name}", "hour_weight", f"hour={h}") for h in range(24)])
    days = np.array(
        [
            at.number(f"shape/{name}", "day_weight", f"day={d}")
            for d in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        ]
    )
    shape = (days[:, None] * hours[None, :]).reshape(WEEK_H)
    return np.asarray(shape / shape.mean())


def prepare(request: Request) -> Prepared:
    """Lay a trace out: read it whole, split it, price today, and price every offering for every stream."""
    at = request.catalog.at(request.on)
    for lot in request.have.gpus:
        if at.find(f"gpu/{lot.gpu}", "memory_bytes") is None:
            known = [s.removeprefix("gpu/") for s in request.catalog.subjects("gpu/")]
            near = difflib.get_close_matches(lot.gpu, known, n=3, cutoff=0.3) or sorted(known)[:3]
            raise BadLimits(
                f"no accelerator {lot.gpu!r}", where="have.toml [[gpus]]", fix=f"Near: {', '.join(near)}"
            )
    if request.keep is not None and request.keep.made.base is not None:
        _known_base(at, request.keep.made.base)
    table = request.trace.requests()
    shape = np.ones(WEEK_H) if request.shape == "flat" else weekly_shape(at, request.shape)
    week = week_of(table, shape, request.shape)
    weight_h = np.full(WEEK_H, at.number("finance/any", "hours_per_month") / WEEK_H)
    streams = streams_of(request.trace, table, week, request.now)
    today = price_today(request.catalog, request.on, request.trace, table, week, streams, request.now)
    ttl_s = at.number("planning/exact-cache", "ttl_s")
    margin = at.number("slo/quality", "quality_margin_frac")
    confidence = at.number("slo/quality", "quality_confidence_frac")
    market = Market(
        at,
        request.limits,
        _offered(at, today),
        margin,
        request.limits.confidence or confidence,
        bool(request.now),
        week,
        request.trace,
        table,
        request.keep.made if request.keep is not None else None,
    )
    cases = []
    for stream in streams:
        slo = request.limits.of(stream.workload).over(default_slo(at, stream.input_p95_tok))
        case = _case(stream, today.apis[stream.id], slo, table, week, ttl_s if request.exact_cache else None)
        offers = market.offers(case)
        if case.today is not None and (kept := market.kept(case, case.today)) is not None:
            offers.append(kept)
        cases.append(case.with_offers(offers, weight_h))
    volume = Volume(
        *(
            float(sum(getattr(c.stream.usage, name) @ weight_h for c in cases for name in names))
            for names in (("requests",), ("input_tok", "cached_tok", "cache_write_tok"), ("output_tok",))
        )
    )
    return Prepared(
        request,
        at,
        table,
        week,
        weight_h,
        today,
        market,
        tuple(cases),
        volume,
        ttl_s,
        Standings(at, request.keep),
    )


def _known_base(at: CatalogAt, base: str) -> None:
    """Refuse a base of an own model that the catalog knows no weights of, or that is not small."""
    small = at.number("planning/slm", "params_most")
    sizes = {fact.subject.partition("/")[2]: float(fact.value) for fact in at.each("model/", "params_total")}
    known = sorted(name for name, params in sizes.items() if params <= small)
    if base not in known:
        near = difflib.get_close_matches(base, known, n=3, cutoff=0.3) or known[:3]
        raise BadInput(f"no small model {base!r}", where="made.base", fix=f"Near: {', '.join(near)}")


def default_slo(at: CatalogAt, input_p95_tok: float) -> Slo:
    """Limits where nobody states any: those of the catalog's class for prompts of that length."""
    long = [fact for fact in at.each("slo/", "from_input_p95_tok") if input_p95_tok >= float(fact.value)]
    default = next(fact.subject for fact in long or at.each("slo/", "default") if fact.value != "false")
    return Slo(
        ttft_p95_s=at.number(default, "ttft_p95_s"),
        tpot_p95_s=at.number(default, "tpot_p95_s"),
        spare_replicas=int(at.number("slo/redundancy", "spare_replicas")),
    )


def _offered(at: CatalogAt, today: Today) -> tuple[Api, ...]:
    """Every offering on the date, and today's own even where its provider withdraws it."""
    found = {api.id: api for api in apis(at)}
    for api in today.apis.values():
        if api is not None:
            found.setdefault(api.id, api)
    return tuple(found.values())


def _case(stream: Stream, today: Api | None, slo: Slo, table: Chunk, week: Week, ttl_s: float | None) -> Case:
    """A stream with the requests that an exact cache would leave."""
    none = np.zeros(WEEK_H)
    case = Case(stream, today, slo, ask_of(stream, slo), stream.rows, none)
    hits = None if ttl_s is None else exact_hits(table, stream.rows, ttl_s)
    if hits is None or not hits.any():
        return case
    how = hour_of_week(table.arrival_ns[stream.rows[hits]])
    answered = per_hour(how, None, week)
    whole = stream.usage.requests
    frac = np.where(whole > 0, answered / np.where(whole > 0, whole, 1.0), 0.0)
    return replace(case, rows=stream.rows[~hits], cache_hit_frac=np.minimum(frac, 1.0))
