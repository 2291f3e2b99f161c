"""How often the APIs of a plan fail: as stated, else as the log's own failed calls say, else as published.

A log that shows failed calls tells for each offering how often; where they come in bursts, when its provider
had an incident: those windows are played as long as they were, moved along the log by lot. A log without any
failed call does not keep them: it says nothing. Where neither plan nor log says, facts of the provider are
drawn from their intervals, and those of any provider where its own are not known; nothing is taken as zero.

Quotas are the account's, where the plan states them; else the highest published tier, save for what the log
shows to be served today. Batch queues, caches and replicas do not fail here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from isocost.catalog import CatalogAt, Fact
from isocost.deployment import Api, offering_of
from isocost.plan.asked.limits import Have, OwnFailures
from isocost.plan.market.quotas import ANY, Quotas
from isocost.plan.written.attempts import World
from isocost.plan.written.closed import Laid
from isocost.plan.written.file import PlanFile
from isocost.plan.written.rerun import today_of
from isocost.replay.faults import GIVEN_UP, Failing, Faults, Outages, renewed, shifted
from isocost.trace.schema import NS_PER_S, Outcome

Rows = npt.NDArray[np.int64]
Source = Literal["stated", "measured", "published"]
CALLED = (Outcome.OK, Outcome.CANCELLED, Outcome.ERROR, Outcome.RETRY)
FAILED = (Outcome.ERROR, Outcome.RETRY)
Z_80 = 1.2815515655446004
"""Standard deviations to either side that hold 80 % of a normal distribution."""
GAP_NS = 3600 * NS_PER_S
LEAST_FAILED = 3
INCIDENT, MOST_USUAL = 0.5, 0.3
BY_CHANCE = 0.01
"""In an incident half of the calls fail, and it has three failures at least, an hour apart at most. Chance
brings a run that looks like one in so many logs at most."""
TIMES = 64
PS_PER_NS = 1000


class Between(NamedTuple):
    """A number and its central 80 %."""

    value: float
    low: float
    high: float

    def at(self, u: float) -> float:
        """The number ``u`` standard deviations from its middle, on a scale of factors.

        >>> one = Between(2.0, 1.0, 8.0)
        >>> one.at(0.0), round(one.at(Z_80), 9), round(one.at(-Z_80), 9), Between(2.0, 2.0, 2.0).at(3.0)
        (2.0, 8.0, 1.0, 2.0)
        """
        end = self.high if u > 0 else self.low
        if self.value <= 0 or end <= 0:
            return self.value
        return self.value * math.exp(abs(u) / Z_80 * math.log(end / self.value))


class Seen(NamedTuple):
    """What a log shows of an offering: calls, those that failed, and of these how long failing took."""

    calls: int
    failed: int
    error_s: tuple[float, ...]


class Rates(NamedTuple):
    """How one deployment fails. ``seen``: its calls outside of incidents, where the log measures them."""

    provider: str
    source: Source
    seen: Seen | None
    error: Between
    error_s: tuple[float, ...]
    hang: Between
    hang_s: float
    timeout_s: float
    outages: Outages | None
    outage: Between
    every_h: Between
    length_h: Between
    refused_s: float
    given_up: str
    limit: str
    most: tuple[float, float, float, float]


def rates_of(world: World, plan: PlanFile) -> dict[str, Rates]:
    """How each API that answers at once fails, by deployment."""
    seen, incidents = measured(world)
    quotas = Quotas(world.at, Have(rate_limits=plan.rate_limits), world.table, False)
    today = {one.subject for stream in world.streams if (one := today_of(world.at, stream)) is not None}
    found = {}
    for name, api in world.deployments.items():
        if not isinstance(api, Api) or api.tier == "batch":
            continue
        own = _stated(plan.failures, api)
        quota = quotas.own(api)
        if quota is None and api.subject not in today:
            quota = next(iter(reversed(quotas.tiers(api))), None)
        rates = _rates(world.at, api.provider, own, seen.get(api.subject), incidents.get(api.provider))
        if quota is not None:
            rates = rates._replace(limit=f"{api.provider}/{quota.family or ANY}", most=quota.most)
        found[name] = rates
    return found


def _stated(failures: Sequence[OwnFailures], api: Api) -> OwnFailures | None:
    """What a plan says of an API: of the longest family that holds its model, else of all its provider's."""
    mine = [
        one for one in failures
        if one.provider == api.provider
        and (not one.model or api.model == one.model or api.model.startswith(f"{one.model}-"))
    ]  # fmt: skip
    return max(mine, key=lambda one: len(one.model), default=None)


def _rates(
    at: CatalogAt, provider: str, own: OwnFailures | None, seen: Seen | None, incidents: Outages | None
) -> Rates:
    own = own or OwnFailures(provider)
    outage, every_h, length_h = (
        _exact(value) or _fact(at, provider, name)
        for name, value in (
            ("outage_frac", own.outage_frac), ("outage_every_h", own.outage_every_h),
            ("outage_h", own.outage_h),
        )
    )  # fmt: skip
    # Published errors count those of incidents too; what is stated or measured is outside of them.
    total = _fact(at, provider, "error_frac")
    outside = Between(*(max(0.0, each - outage.value) for each in total))
    error = _exact(own.error_frac) or outside
    source: Source = "published"
    outages = None
    if own.error_frac is not None or own.outage_frac is not None:
        source = "stated"
    elif seen is not None:
        # The log shows its incidents too, and where it shows none there was none.
        source, outages = "measured", incidents or Outages((), (), ())
        error = _exact((seen.failed + 0.5) / (seen.calls + 1)) or outside
    hang = _exact(own.hang_frac) or (_exact(0.0) if source == "measured" else None)
    times = seen.error_s if seen is not None and own.error_s is None else ()
    if not times:
        times = (_fact(at, provider, "error_s").value if own.error_s is None else own.error_s,)
    given_up = _find(at, provider, "given_up")
    return Rates(
        provider, source, seen if source == "measured" else None, error, times,
        hang or _fact(at, provider, "hang_frac"),
        _fact(at, provider, "hang_s").value if own.hang_s is None else own.hang_s,
        math.inf if own.timeout_s is None else own.timeout_s,
        outages, outage, every_h, length_h, _fact(at, provider, "refused_s").value, str(given_up.value), "",
        (math.inf,) * 4,
    )  # fmt: skip


def _exact(value: float | None) -> Between | None:
    return None if value is None else Between(value, value, value)


def _find(at: CatalogAt, provider: str, name: str) -> Fact:
    found = at.find(f"provider/{provider}", name)
    return at.fact("provider/any", name) if found is None else found


def _fact(at: CatalogAt, provider: str, name: str) -> Between:
    """A provider's own fact, else that of any provider."""
    fact = _find(at, provider, name)
    value = float(fact.value)
    low, high = (value if end is None else float(end) for end in (fact.low, fact.high))
    return Between(value, low, high)


def measured(world: World) -> tuple[dict[str, Seen], dict[str, Outages]]:
    """What a log shows: of each offering its calls outside of incidents, of each provider its incidents.

    Incidents are in picoseconds from the hour in which the log begins. Both are empty where no call failed.
    """
    table = world.table
    failed = np.isin(table.outcome, FAILED)
    if not failed.any():
        return {}, {}
    called = np.flatnonzero(np.isin(table.outcome, CALLED))
    subject_of = _subjects(world)
    seen: dict[str, Seen] = {}
    incidents: dict[str, Outages] = {}
    subjects = sorted(set(subject_of.values()))
    code = {key: subjects.index(subject) for key, subject in subject_of.items()}
    keys = _keys(world, called)
    of = np.array([code.get(key, -1) for key in keys.tolist()], np.int64)
    providers = {subject: offering_of(world.at, subject).provider for subject in subjects}
    start_ns = int(table.arrival_ns[0]) // (3600 * NS_PER_S) * (3600 * NS_PER_S)
    for provider in sorted(set(providers.values())):
        mine = np.isin(of, [k for k, subject in enumerate(subjects) if providers[subject] == provider])
        rows = called[mine]
        windows = episodes(table.arrival_ns[rows], failed[rows])
        inside = np.zeros(len(rows), np.bool_)
        for first, last, _ in windows:
            inside |= (table.arrival_ns[rows] >= first) & (table.arrival_ns[rows] <= last)
        if windows:
            edges = np.array([(first, last + 1) for first, last, _ in windows], np.int64) - start_ns
            share = np.array([share for *_, share in windows])
            incidents[provider] = Outages(edges[:, 0] * PS_PER_NS, edges[:, 1] * PS_PER_NS, share)
        for k, subject in enumerate(subjects):
            own = rows[(of[mine] == k) & ~inside]
            if providers[subject] == provider and (of == k).any():
                seen[subject] = Seen(len(own), int(failed[own].sum()), _times(world, called[of == k], failed))
    return seen, incidents


def _keys(world: World, rows: Rows) -> Rows:
    """Which model and provider each row names, as one number."""
    table = world.table
    none = np.full(len(table), -1, np.int32)
    model = none if table.model is None else table.model
    provider = none if table.provider is None else table.provider
    return ((model[rows] + 1).astype(np.int64) << 32) | (provider[rows] + 1)


def _subjects(world: World) -> dict[int, str]:
    """The offering of each model and provider that a log's served requests name."""
    found = {}
    for stream in world.streams:
        offering = today_of(world.at, stream)
        if offering is not None and len(stream.rows):
            for key in np.unique(_keys(world, stream.rows)).tolist():
                found[key] = offering.subject
    return found


def _times(world: World, rows: Rows, failed: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Quantiles of how long failing took, as logged; empty where the log does not say."""
    if world.table.e2e_s is None:
        return ()
    taken = world.table.e2e_s[rows[failed[rows]]].astype(np.float64)
    taken = taken[np.isfinite(taken) & (taken > 0)]
    if len(taken) < LEAST_FAILED:
        return ()
    return tuple(np.quantile(taken, (np.arange(TIMES) + 0.5) / TIMES).tolist())


def episodes(at_ns: Rows, failed: npt.NDArray[np.bool_]) -> list[tuple[int, int, float]]:
    """Incidents among a provider's calls (n,), in order: first and last failure, and the share that failed.

    A run of calls is an incident where it is so much likelier if half of all calls fail than if the usual
    share does that chance would hardly bring one like it in the whole log. The usual share is the rest's.

    >>> at = np.arange(400) * 60 * NS_PER_S
    >>> found = episodes(at, np.isin(np.arange(400), [7, 100, 101, 102, 104, 105, 300]))
    >>> [(first // 60 // NS_PER_S, last // 60 // NS_PER_S, round(share, 2)) for first, last, share in found]
    [(100, 105, 0.83)]
    """
    which = np.flatnonzero(failed)
    if len(which) < LEAST_FAILED:
        return []
    runs = _runs(at_ns, which, len(which) / len(at_ns))
    inside = sum(high - low + 1 for low, high, _ in runs)
    rest = (len(which) - sum(count for *_, count in runs) + 0.5) / (len(at_ns) - inside + 1)
    runs = _runs(at_ns, which, rest)
    return [(int(at_ns[low]), int(at_ns[high]), count / (high - low + 1)) for low, high, count in runs]


def _runs(at_ns: Rows, which: Rows, usual: float) -> list[tuple[int, int, int]]:
    """Runs of calls whose likelihood ratio is highest: first and last failure, and how many there are."""
    usual = min(usual, MOST_USUAL)
    fails, answers = math.log(INCIDENT / usual), math.log((1 - INCIDENT) / (1 - usual))
    bar = math.log(len(at_ns) / BY_CHANCE)
    found: list[tuple[int, int, int]] = []
    score, count = 0.0, 0
    first = last = best_last = int(which[0])
    best, best_count = 0.0, 0

    def close() -> None:
        if best > bar and best_count >= LEAST_FAILED:
            found.append((first, best_last, best_count))

    for k in which.tolist():
        before = score + (k - last - 1) * answers if count else 0.0
        if before <= 0 or best - before > bar or at_ns[k] - at_ns[last] > GAP_NS:
            close()
            first, before, count, best, best_count = k, 0.0, 0, 0.0, 0
        score, count, last = before + fails, count + 1, k
        if score > best:
            best, best_last, best_count = score, k, count
    close()
    return found


def faults_of(rates: Mapping[str, Rates], laid: Laid, draw: int) -> Faults:
    """One draw of how the deployments of a loop fail.

    What is drawn of a provider depends on the draw and its name alone, so that plans meet the same incidents.
    """
    span_ps = int(laid.arrival_ps[-1]) + 1
    failing, limits, asks = {}, {}, {}
    for d, name in enumerate(laid.names):
        if name not in rates:
            continue
        one = rates[name]
        random = np.random.default_rng((draw, crc32(one.provider.encode())))
        u = random.standard_normal(5)
        outages = one.outages
        if outages is None:
            every_h, length_h = one.every_h.at(u[0]), one.length_h.at(u[1])
            length_h = min(length_h, 0.5 * every_h)
            share = min(1.0, one.outage.at(u[2]) * every_h / length_h)
            outages = renewed(every_h, length_h, share, span_ps, random)
        elif np.size(outages.from_ps):
            outages = shifted(_within(outages, span_ps), int(random.integers(span_ps)), span_ps)
        error = one.error.at(u[3])
        if one.seen is not None:
            own = np.random.default_rng((draw, crc32(name.encode())))
            error = float(own.beta(one.seen.failed + 0.5, one.seen.calls - one.seen.failed + 0.5))
        how = next(each for each in GIVEN_UP if each == one.given_up)
        if one.limit:
            limits[one.limit] = one.most
            asks[name] = (laid.filled.input_tok[:, d], laid.filled.output_tok[:, d])
        failing[name] = Failing(
            min(1.0, error), one.error_s, min(1.0, one.hang.at(u[4])), one.hang_s, one.timeout_s, outages,
            one.limit, one.refused_s, how,
        )  # fmt: skip
    return Faults(failing, limits, asks, laid.rows, draw)


def _within(outages: Outages, span_ps: int) -> Outages:
    """Outages cut at the end of a span."""
    start, end = np.asarray(outages.from_ps, np.int64), np.asarray(outages.to_ps, np.int64)
    keep = start < span_ps
    return Outages(start[keep], np.minimum(end[keep], span_ps), np.asarray(outages.frac)[keep])


def cut_in(world: World, plan: PlanFile) -> World:
    """The world, knowing whether answers may be given up."""
    return replace(world, cuts=any(one.timeout_s is not None for one in plan.failures))
