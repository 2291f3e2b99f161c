"""What a plan came to on a log: cost by deployment, latency against the limits, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.ledger import FEMTO_PER_USD
from isocost.plan.market.prepare import default_slo
from isocost.plan.result import Limit, LimitStatus
from isocost.plan.written.failed import Failures, of_routes
from isocost.plan.written.file import PlanFile
from isocost.plan.written.near import Verifier
from isocost.plan.written.rerun import Rerun, rerun
from isocost.plan.written.told import Policed, police
from isocost.policy.router import Weights
from isocost.trace.schema import Trace
from isocost.units import SECONDS_PER_H

LATENCIES = (("ttft_p95_s", "ttft"), ("tpot_p95_s", "tpot"), ("e2e_p95_s", "e2e"))
"""Field of a limit and the measure that it is on."""


class Served(msgspec.Struct, frozen=True):
    """What one deployment answered.

    ``busy_frac``, ``prefill_frac``, ``decode_frac``: of rented time, ``None`` where nothing is rented.
    ``cached_frac`` of its input was read from a prompt cache; ``cache_bound_frac`` is what Belady's rule,
    which knows the future, would read in the same memory (a provider's: in an endless one); ``None`` where
    nothing was read or the log has no prefixes.
    """

    deployment: str
    requests: int
    share_frac: float
    usd: float
    ttft_p95_s: float | None
    overflowed: int
    busy_frac: float | None
    prefill_frac: float | None = None
    decode_frac: float | None = None
    cached_frac: float | None = None
    cache_bound_frac: float | None = None


class Review(msgspec.Struct, frozen=True):
    """A replayed log. ``usd`` is what its own span cost in tokens and rent.

    ``usd_per_month`` scales that to a mean month and adds what stands beside it; ``planned_usd_per_month``
    is what the plan expected. ``at_least`` where rows could not be priced.
    """

    title: str
    requests: int
    span_s: float
    priced_on: str
    usd: float
    standing_usd_per_month: float
    usd_per_month: float
    planned_usd_per_month: float
    at_least: bool
    served: list[Served]
    limits: list[Limit]
    policy: Policed | None = None
    """What the plan's policies did, where it has any; the fields above are then of the likely way, else of
    the dearest."""
    failures: Failures | None = None
    """What failures of APIs do; the fields above are without them."""


def review(
    trace: Trace,
    plan: PlanFile,
    catalog: Catalog,
    outcomes: Path | None = None,
    weights: Mapping[str, Weights] = {},
    verifiers: Mapping[str, Verifier] = {},
) -> Review:
    """Replay a log under a plan and set it against its limits; the last three as :func:`police` reads them.

    Raises:
        BadLimits: a stream of the log that no route of the plan covers.
    """
    if plan.policies:
        return _policed(
            plan, catalog, trace.title, police(trace, plan, catalog, outcomes, weights, verifiers)
        )
    found = rerun(trace, plan, catalog)
    at = catalog.at(date.fromisoformat(plan.basis.priced_on))
    hours = at.number("finance/any", "hours_per_month")
    usd = found.replayed.ledger.total_usd
    standing = plan.fleet.standing_usd_per_month
    return Review(
        title=trace.title,
        requests=int(sum(len(stream.rows) for stream in found.streams)),
        span_s=found.span_s,
        priced_on=plan.basis.priced_on,
        usd=usd,
        standing_usd_per_month=standing,
        usd_per_month=usd * hours * SECONDS_PER_H / found.span_s + standing,
        planned_usd_per_month=plan.basis.plan_usd_per_month,
        at_least=found.replayed.unpriced > 0,
        served=_served(found),
        limits=_limits(found, plan, at),
        failures=of_routes(trace, plan, catalog, found),
    )


def _policed(plan: PlanFile, catalog: Catalog, title: str, played: tuple[Policed, Rerun]) -> Review:
    policy, found = played
    at = catalog.at(date.fromisoformat(plan.basis.priced_on))
    most = policy.shown
    total = max(1, sum(row.requests for row in most.answered))
    return Review(
        title=title,
        requests=most.requests,
        span_s=found.span_s,
        priced_on=plan.basis.priced_on,
        usd=most.usd,
        standing_usd_per_month=plan.fleet.standing_usd_per_month,
        usd_per_month=most.usd_per_month,
        planned_usd_per_month=plan.basis.plan_usd_per_month,
        at_least=most.at_least,
        served=[
            Served(row.deployment, row.requests, row.requests / total, row.usd, row.ttft_p95_s, 0, None)
            for row in most.answered
        ],
        limits=_limits(found, plan, at),
        policy=policy,
        failures=policy.failures,
    )


def _served(found: Rerun) -> list[Served]:
    replayed = found.replayed
    costs = {key[0]: amount / FEMTO_PER_USD for key, amount in replayed.ledger.by("deployment").items()}
    demand = np.concatenate([stream.rows for stream in found.streams])
    rows = []
    for code, name in enumerate(replayed.names):
        mine = demand[replayed.where[demand] == code]
        ttft = replayed.percentile(mine, 95.0)["ttft"]
        usd = costs.get(name, 0.0)
        if len(mine) or usd:
            share = len(mine) / max(1, len(demand))
            over = replayed.overflowed.get(name, 0)
            work, cache = replayed.work_s.get(name), replayed.caches.get(name)
            parts: tuple[float | None, float | None] = (None, None)
            if work is not None and work.rented_s:
                parts = (work.prefill_s / work.rented_s, work.decode_s / work.rented_s)
            read = None if cache is None else cache.read_frac
            bound = None if cache is None or np.isnan(cache.bound_frac) else cache.bound_frac
            busy = replayed.busy_frac.get(name)
            rows.append(Served(name, len(mine), share, usd, ttft, over, busy, *parts, read, bound))
    return sorted(rows, key=lambda row: -row.usd)


def _limits(found: Rerun, plan: PlanFile, at: CatalogAt) -> list[Limit]:
    """Each latency limit of each workload; requests that may wait have none."""
    waits = {route.workload for route in plan.routes if route.wait_s is not None}
    rows: dict[str, list[np.ndarray]] = {}
    for stream in found.streams:
        rows.setdefault(stream.workload, []).append(stream.rows)
    limits = []
    for workload, parts in rows.items():
        if workload in waits:
            continue
        mine = np.concatenate(parts)
        longest = float(np.percentile(found.table.input_tok[mine], 95.0))
        slo = plan.limits.of(workload).over(default_slo(at, longest))
        seen = found.replayed.percentile(mine, 95.0)
        for field, measure in LATENCIES:
            target, value = getattr(slo, field), seen[measure]
            if target is not None:
                status: LimitStatus = (
                    "unverified" if value is None else "held" if value <= target else "missed"
                )
                why = "latency of some of its requests is not known" if value is None else "replayed"
                limits.append(Limit(workload, field.removesuffix("_s"), target, "s", value, status, why))
    return limits
