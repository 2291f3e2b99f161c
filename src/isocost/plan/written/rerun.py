"""Any plan on any log: ``plan.toml`` replayed, with what it costs and how fast it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.evidence import input_ratio, output_ratio
from isocost.catalog.names import Offering, resolve
from isocost.deployment import Api, Cache, Deployment, Rules
from isocost.errors import BadLimits, UnknownModel
from isocost.plan.asked.streams import Stream, streams_of, week_of
from isocost.plan.market.offers import planned
from isocost.plan.written.file import PlanFile
from isocost.policy.route import Route, RoutePolicy
from isocost.replay.run import Ratio, Replayed, Routed, Situation, replay
from isocost.trace.schema import Chunk, Trace


@dataclass(frozen=True)
class Rerun:
    """A replayed log: the ledger of its own hours, and the streams that were routed."""

    replayed: Replayed
    streams: tuple[Stream, ...]
    table: Chunk
    span_s: float


def rerun(trace: Trace, plan: PlanFile, catalog: Catalog, *, at_arrival: bool = False) -> Rerun:
    """Replay a log under a plan.

    Prices are those of the plan's date, or with ``at_arrival`` of each request's own arrival.

    Raises:
        BadLimits: a stream of the log that no route of the plan covers.
    """
    priced_on = date.fromisoformat(plan.basis.priced_on)
    at = catalog.at(priced_on)
    table = trace.requests()
    week = week_of(table, np.ones(168), "flat")
    streams = streams_of(trace, table, week, plan.basis.now)
    policy = RoutePolicy(plan.routes)
    deployments: dict[str, Deployment] = {each.id: each for each in plan.deployments}
    routed = [_routed(at, stream, policy, plan) for stream in streams]
    on = None if at_arrival else priced_on
    situation = Situation(catalog, deployments, plan.fleet, trace.block_tok, on)
    found = replay(table, routed, situation, [stream.workload for stream in streams])
    return Rerun(found, streams, table, week.span_s)


def _routed(at: CatalogAt, stream: Stream, policy: RoutePolicy, plan: PlanFile) -> Routed:
    route = policy.route(stream.workload, stream.model, stream.provider)
    if route is None:
        raise uncovered(stream, plan, "route")
    deployments = {each.id: each for each in plan.deployments}
    return Routed(route, stream.rows, *ratios_of(at, stream, _names(route), deployments))


def today_of(at: CatalogAt, stream: Stream) -> Offering | None:
    """The offering that a stream goes to today; ``None`` where the catalog does not know it."""
    try:
        return resolve(
            at, stream.model.rpartition("/")[2], stream.provider or stream.model.rpartition("/")[0]
        )
    except UnknownModel:
        return None


def ratios_of(
    at: CatalogAt, stream: Stream, names: Iterable[str], deployments: Mapping[str, Deployment]
) -> tuple[dict[str, Ratio], frozenset[str]]:
    """Tokens of each deployment's model for one of today's, and the deployments that the log measured."""
    offering = today_of(at, stream)
    today = stream.model if offering is None else offering.serves or stream.model
    ratios: dict[str, Ratio] = {}
    measured = set()
    for name in names:
        deployment = deployments.get(name)
        if deployment is None or isinstance(deployment, Cache | Rules):
            continue
        if isinstance(deployment, Api) and offering is not None and deployment.subject == offering.subject:
            if deployment.tier == "standard":
                measured.add(name)
            continue
        ratios[name] = Ratio(
            planned(input_ratio(at, today, deployment.model)),
            planned(output_ratio(at, today, deployment.model)),
        )
    return ratios, frozenset(measured)


def _names(route: Route) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*(share.deployment for share in route.shares), route.fallback)))


def uncovered(stream: Stream, plan: PlanFile, what: str) -> BadLimits:
    """The error of a stream that no route (``what``: nor policy) of a plan covers; it names no file."""
    covered = [(one.workload, one.model) for one in plan.policies]
    covered += [(one.workload, one.model) for one in plan.routes]
    held = [f"{workload} ({model})" for workload, model in covered]
    kind = "[[route]]" if what == "route" else "[[policy]] and no [[route]]"
    has = f"it has no {kind}"
    if held:
        more = f" and {len(held) - _MOST_TOLD} more" if len(held) > _MOST_TOLD else ""
        has = f"it has {', '.join(held[:_MOST_TOLD])}{more}"
    names = {workload for workload, _ in covered}
    other = (
        "" if not names or stream.workload in names else ", or read the log with its names (--workload-by)"
    )
    share = f'share = [{{ deployment = "{_first(plan)}", frac = 1 }}]'
    return BadLimits(
        f"no {what} for workload {stream.workload!r} and model {stream.model!r}; {has}",
        fix=f'Add a [[route]] with workload = "{stream.workload}", model = "*" (any), {share}{other}',
    )


def _first(plan: PlanFile) -> str:
    """A deployment that answers, for an example."""
    names = [one.id for one in plan.deployments if not isinstance(one, Cache | Rules)]
    return names[0] if names else "ID of a [[deployment]]"


_MOST_TOLD = 6
