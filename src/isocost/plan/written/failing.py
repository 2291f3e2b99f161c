"""How often the APIs of a plan fail: as stated, else as the log's own failed calls say, else as published.

Each number is taken by itself: as stated, else measured, else published. A log that shows failed calls tells
for each offering how often, beside what is published: of few calls it says little. Where failures come in
bursts its provider had an incident: those windows are played as long as they were, moved along the log by
lot. Failed calls that name no model are spread over the offerings by their calls. A log without any failed
call does not keep them: it says nothing. Facts of the provider are drawn from their intervals, and those of
any provider where its own are not known; nothing is taken as zero.

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

from isocost.catalog import Z_CENTRAL, CatalogAt, Fact
from isocost.deployment import Api, offering_of
from isocost.errors import BadLimits
from isocost.plan.asked.limits import Have, OwnFailures
from isocost.plan.market.quotas import ANY, Quotas
from isocost.plan.written.attempts import World
from isocost.plan.written.closed import Laid
from isocost.plan.written.file import PlanFile
from isocost.plan.written.rerun import today_of
from isocost.replay.faults import GIVEN_UP, TIMES, Failing, Faults, Outages, renewed, shifted
from isocost.trace.schema import Outcome
from isocost.units import NS_PER_H, PS_PER_NS

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Four = tuple[float, float, float, float]
Source = Literal["stated", "measured", "published"]
CALLED = (Outcome.OK, Outcome.CANCELLED, Outcome.ERROR, Outcome.RETRY)
FAILED = (Outcome.ERROR, Outcome.RETRY)
GAP_NS = NS_PER_H
LEAST_FAILED = 3
INCIDENT, MOST_USUAL = 0.5, 0.3
BY_CHANCE = 0.01
"""In an incident half of the calls fail, and it has three failures at least, an hour apart at most. Chance
brings a run that looks like one in so many logs at most."""
UNSURE = 3.0
"""A share without an interval is known before to a third and to three times."""
LEAST_SHARE, GRID, QUANTILES = 1e-8, 20_001, 1_001
MOST_DOWN = 0.9
"""Drawn incidents last so much of the time between their starts at most."""


class Between(NamedTuple):
    """A number and its central 80 %."""

    value: float
    low: float
    high: float

    def at(self, u: float) -> float:
        """The number ``u`` standard deviations from its middle, on a scale of factors.

        >>> one = Between(2.0, 1.0, 8.0)
        >>> one.at(0.0), round(one.at(Z_CENTRAL), 9), round(one.at(-Z_CENTRAL), 9)
        (2.0, 8.0, 1.0)
        """
        end = self.high if u > 0 else self.low
        if self.value <= 0 or end <= 0:
            return self.value
        return self.value * math.exp(abs(u) / Z_CENTRAL * math.log(end / self.value))

    @property
    def is_exact(self) -> bool:
        """Whether it is known without an interval."""
        return self.low == self.high

    def given(self, calls: int, failed: int) -> Floats:
        """Equally likely values of a share, in order, after ``failed`` of ``calls`` did: as known before, by
        how likely each value makes what was seen. Without an interval a third to three times is known before.

        >>> before = Between(0.002, 0.0005, 0.008)
        >>> [round(float(before.given(*seen).mean()), 4) for seen in ((0, 0), (1, 0), (2000, 100))]
        [0.0036, 0.0036, 0.0487]
        """
        value, low, high = self
        if not 0 < low < high or not low <= value <= high:
            value = max(value, 1e-6)
            low, high = value / UNSURE, value * UNSURE
        share = np.exp(np.linspace(math.log(LEAST_SHARE), math.log1p(-LEAST_SHARE), GRID))
        ends = np.where(share > value, high, low) / value
        u = Z_CENTRAL * np.log(share / value) / np.maximum(np.abs(np.log(ends)), 1e-9)
        score = failed * np.log(share) + (calls - failed) * np.log1p(-share) - 0.5 * u**2
        mass = np.cumsum(np.exp(score - score.max()))
        lots = (np.arange(QUANTILES) + 0.5) / QUANTILES
        return np.asarray(share[np.searchsorted(mass / mass[-1], lots)])


class Seen(NamedTuple):
    """What a log shows of an offering outside of incidents: calls, those that failed, how long failing took.

    ``unnamed``: failed calls, in incidents or not, that name no model and are taken as this one's.
    """

    calls: int
    failed: int
    error_s: tuple[float, ...]
    unnamed: int = 0


class Incidents(NamedTuple):
    """A provider's incidents in a log, in picoseconds from the hour in which it begins: windows, share of all
    its calls that failed in them, time from one to the next, and length."""

    windows: Outages
    frac: float
    every_h: float
    length_h: float


class Log(NamedTuple):
    """What a log shows: calls by offering, incidents by provider. Both are empty where no call failed."""

    seen: Mapping[str, Seen]
    incidents: Mapping[str, Incidents]


class Rates(NamedTuple):
    """How one deployment fails. ``source`` of errors, ``outage_source`` of incidents (``stated`` where any
    number of them is). Where the log measures errors ``seen`` are calls outside of incidents, and ``errors``
    equally likely shares of them that fail."""

    provider: str
    source: Source
    outage_source: Source
    seen: Seen | None
    error: Between
    errors: Floats | None
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
    most: Four


def rates_of(world: World, plan: PlanFile, log: Log | None = None) -> dict[str, Rates]:
    """How each API that answers at once fails, by deployment. ``log``: what the log shows, if that is known.

    Raises:
        BadLimits: stated incidents that do not fit what is measured or published of them.
    """
    seen, incidents = measured(world) if log is None else log
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
    at: CatalogAt, provider: str, own: OwnFailures | None, seen: Seen | None, incidents: Incidents | None
) -> Rates:
    own = own or OwnFailures(provider)
    outage_source, outages, (outage, every_h, length_h) = _incidents(at, own, seen, incidents)
    # Published errors count those of incidents too; what is stated or measured is outside of them.
    total, within = _fact(at, provider, "error_frac"), _fact(at, provider, "outage_frac")
    outside = _fact(at, provider, "error_outside_least_frac").value
    share = 1.0 if total.value <= 0 else max(outside, 1.0 - within.value / total.value)
    error = Between(*(each * share for each in total))
    source: Source = "published"
    errors = None
    if own.error_frac is not None:
        source, error = "stated", Between(*(own.error_frac,) * 3)
    elif seen is not None:
        source = "measured"
        errors = error.given(seen.calls, seen.failed)
        error = Between(*(float(errors.mean()),) * 3)
    # A log does not tell calls that hang from other failed calls: they are among these.
    hang = _exact(0.0) if source == "measured" else _fact(at, provider, "hang_frac")
    times = seen.error_s if seen is not None and own.error_s is None else ()
    if not times:
        times = (_fact(at, provider, "error_s").value if own.error_s is None else own.error_s,)
    given_up = _find(at, provider, "given_up")
    return Rates(
        provider, source, outage_source, seen if source == "measured" else None, error, errors, times,
        _exact(own.hang_frac) or hang or _fact(at, provider, "hang_frac"),
        _fact(at, provider, "hang_s").value if own.hang_s is None else own.hang_s,
        math.inf if own.timeout_s is None else own.timeout_s,
        outages, outage, every_h, length_h, _fact(at, provider, "refused_s").value, str(given_up.value), "",
        (math.inf,) * 4,
    )  # fmt: skip


def _incidents(
    at: CatalogAt, own: OwnFailures, seen: Seen | None, found: Incidents | None
) -> tuple[Source, Outages | None, tuple[Between, Between, Between]]:
    """Whence incidents are known, the log's own where they are played, and share, time between and length."""
    names = ("outage_frac", "outage_every_h", "outage_h")
    frac, every_h, length_h = (_fact(at, own.provider, name) for name in names)
    # The log shows its incidents too, and where it shows none there was none.
    source: Source = "published" if seen is None else "measured"
    if found is not None:
        frac, every_h, length_h = (Between(x, x, x) for x in found[1:])
    elif seen is not None:
        frac = Between(0.0, 0.0, 0.0)
    if own.outage_frac is None and own.outage_every_h is None and own.outage_h is None:
        windows = None if seen is None else Outages((), (), ()) if found is None else found.windows
        return source, windows, (frac, every_h, length_h)
    frac, every_h, length_h = (
        _exact(stated) or known
        for stated, known in zip(
            (own.outage_frac, own.outage_every_h, own.outage_h), (frac, every_h, length_h), strict=True
        )
    )
    _check_fit(own, frac.value, every_h.value, length_h.value)
    if own.outage_frac is None:
        frac = Between(*(min(each, length_h.value / every_h.value) for each in frac))
    return "stated", None, (frac, every_h, length_h)


def _check_fit(own: OwnFailures, frac: float, every_h: float, length_h: float) -> None:
    """Refuse stated incidents that cannot be as they are stated.

    Raises:
        BadLimits: they are longer than the time between them, or fail more calls than come in them.
    """
    where = f"[[failure]] {own.provider}" + (f" {own.model}" if own.model else "")
    told = f"incidents of {length_h:.3g} h every {every_h:.3g} h"
    if not every_h > length_h:
        name = "outage_every_h" if own.outage_every_h is None else "outage_h"
        bound = f"more than {length_h:.3g}" if own.outage_every_h is None else f"less than {every_h:.3g}"
        raise BadLimits(f"{told}", where=where, fix=f"State {name} too, {bound}")
    if frac * every_h > length_h * (1 + 1e-9) and own.outage_frac is not None:
        fix = f"State outage_h too, {math.ceil(1000 * frac * every_h) / 1000:g} or more"
        if own.outage_h is not None:
            fix = f"State outage_every_h too, {math.floor(1000 * length_h / frac) / 1000:g} or less"
        raise BadLimits(
            f"outage_frac = {frac:g}, but {told} can fail {length_h / every_h:.2g} of all calls at most",
            where=where,
            fix=fix,
        )


def _exact(value: float | None) -> Between | None:
    return None if value is None else Between(value, value, value)


def _find(at: CatalogAt, provider: str, name: str) -> Fact:
    found = at.find(f"provider/{provider}", name)
    return at.fact("provider/any", name) if found is None else found


def _fact(at: CatalogAt, provider: str, name: str) -> Between:
    """A provider's own fact, else that of any provider."""
    low, value, high = _find(at, provider, name).ends
    return Between(value, low, high)


def measured(world: World) -> Log:
    """What a log shows of its calls, where any failed."""
    table = world.table
    failed = np.isin(table.outcome, FAILED)
    if not failed.any():
        return Log({}, {})
    called = np.flatnonzero(np.isin(table.outcome, CALLED))
    subject_of = _subjects(world)
    seen: dict[str, Seen] = {}
    incidents: dict[str, Incidents] = {}
    subjects = sorted(set(subject_of.values()))
    code = {key: subjects.index(subject) for key, subject in subject_of.items()}
    known, place = np.unique(_keys(world, called), return_inverse=True)
    of = np.array([code.get(key, -1) for key in known.tolist()], np.int64)[place]
    providers = [offering_of(world.at, subject).provider for subject in subjects]
    unnamed = _spread(world, called, failed[called], of, providers)
    start_ns = int(table.arrival_ns[0]) // NS_PER_H * NS_PER_H
    span_h = (int(table.arrival_ns[-1]) - start_ns) / NS_PER_H
    for provider in sorted(set(providers)):
        mine = np.isin(of, [k for k, each in enumerate(providers) if each == provider])
        rows = called[mine]
        at_ns = table.arrival_ns[rows]
        windows = episodes(at_ns, failed[rows])
        inside = np.zeros(len(rows), np.bool_)
        if windows:
            edges = np.array([(first, last + 1) for first, last, _ in windows], np.int64)
            inside = np.searchsorted(edges[:, 0], at_ns, "right") > np.searchsorted(
                edges[:, 1], at_ns, "right"
            )
            length_h = float(np.diff(edges, axis=1).mean()) / NS_PER_H
            edges = (edges - start_ns) * PS_PER_NS
            share = np.array([share for *_, share in windows])
            incidents[provider] = Incidents(
                Outages(edges[:, 0], edges[:, 1], share), float((failed[rows] & inside).sum()) / len(rows),
                span_h / len(windows), length_h,
            )  # fmt: skip
        for k, subject in enumerate(subjects):
            own = rows[(of[mine] == k) & ~inside]
            if providers[k] == provider and (of == k).any():
                times = _times(world, called[of == k], failed)
                seen[subject] = Seen(
                    len(own), int(failed[own].sum()), times, int((unnamed & (of == k)).sum())
                )
    return Log(seen, incidents)


def _spread(
    world: World, called: Rows, failed: npt.NDArray[np.bool_], of: Rows, providers: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Deal failed calls (k,) that name no model over offerings, by their calls; which of the k these are.

    ``of`` (k,) is filled in. A call that names a provider of the log's offerings goes to one of these.
    """
    table = world.table
    blank = np.ones(len(called), np.bool_)
    if table.model is not None:
        blank = table.model[called] < 0
    dealt = failed & blank & (of < 0)
    calls = np.bincount(of[of >= 0], minlength=len(providers)).astype(np.float64)
    if not dealt.any() or not calls.any():
        return np.zeros(len(called), np.bool_)
    which = np.flatnonzero(dealt)
    lot = np.random.default_rng(0).random(len(which))
    names = world.trace.names.get("provider", ())
    provider = np.full(len(which), -1) if table.provider is None else table.provider[called[which]]
    for code in np.unique(provider).tolist():
        named = names[code] if code >= 0 else ""
        weight = calls * np.array([each == named for each in providers])
        weight = np.cumsum(weight if weight.any() else calls)
        mine = provider == code
        of[which[mine]] = np.searchsorted(weight / weight[-1], lot[mine], "right")
    return dealt


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

    >>> minute_ns = NS_PER_H // 60
    >>> minutes = np.arange(400)
    >>> found = episodes(minutes * minute_ns, np.isin(minutes, [7, 100, 101, 102, 104, 105, 300]))
    >>> [(first // minute_ns, last // minute_ns, round(share, 2)) for first, last, share in found]
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


class Buckets(NamedTuple):
    """A loop's part of quotas, by name: what fills a minute, and what they hold."""

    most: Mapping[str, Four]
    holds: Mapping[str, Four]


def buckets_of(rates: Mapping[str, Rates], laid: Sequence[Laid], frac: float = 1.0) -> list[Buckets]:
    """Each loop's part of the quotas, where a share ``frac`` of the log's requests is played.

    Loops are played one by one, so that a quota which several use is split: by what their requests that may
    come to it ask in all. A part holds its share of a minute, and what the largest request asks beyond it, so
    that none is refused which the whole would let through.
    """
    asked = [_asked(rates, one) for one in laid]
    every: dict[str, Floats] = {}
    for mine in asked:
        for limit, (total, _) in mine.items():
            every[limit] = every.get(limit, 0.0) + total
    most_of = {one.limit: np.array(one.most) for one in rates.values() if one.limit}
    found = []
    for mine in asked:
        most, holds = {}, {}
        for limit, (total, largest) in mine.items():
            whole = most_of[limit]
            share = frac * np.divide(total, every[limit], out=np.ones(4), where=every[limit] > 0)
            most[limit] = _four(whole * share)
            holds[limit] = _four(np.where(share < 1, np.minimum(whole, whole * share + largest), whole))
        found.append(Buckets(most, holds))
    return found


def _asked(rates: Mapping[str, Rates], laid: Laid) -> dict[str, tuple[Floats, Floats]]:
    """What requests that may come to a quota ask of it, by its meters (4,): in all, and the most of one."""
    found: dict[str, tuple[Floats, Floats]] = {}
    for part, place in zip(laid.parts, laid.place, strict=True):
        names: dict[str, list[int]] = {}
        for name in part.rule.deployments():
            if name in rates and rates[name].limit:
                names.setdefault(rates[name].limit, []).append(laid.names.index(name))
        for limit, columns in names.items():
            cells = np.ix_(place, np.array(columns, np.int64))
            asks = np.stack(
                [laid.filled.quota_tok[cells].max(axis=1), laid.filled.output_tok[cells].max(axis=1)]
            )
            each = np.stack([np.ones(len(place)), *asks, asks.sum(axis=0)])
            before = found.get(limit, (np.zeros(4), np.zeros(4)))
            found[limit] = (
                before[0] + each.sum(axis=1), np.maximum(before[1], each.max(axis=1, initial=0.0))
            )  # fmt: skip
    return found


def _four(values: Floats) -> Four:
    return float(values[0]), float(values[1]), float(values[2]), float(values[3])


def faults_of(rates: Mapping[str, Rates], laid: Laid, draw: int, buckets: Buckets | None = None) -> Faults:
    """One draw of how the deployments of a loop fail. ``buckets``: its part of quotas, left out all of them.

    What is drawn of a provider depends on the draw and its name alone, so that plans, and loops of one, meet
    the same incidents.
    """
    span_ps = laid.span_ps
    if buckets is None:
        (buckets,) = buckets_of(rates, [laid])
    failing, asks = {}, {}
    for d, name in enumerate(laid.names):
        if name not in rates:
            continue
        one = rates[name]
        random = np.random.default_rng((draw, crc32(one.provider.encode())))
        u = random.standard_normal(5)
        outages = one.outages
        if outages is None:
            outages = renewed(*_drawn(one, u), span_ps, random)
        elif np.size(outages.from_ps):
            outages = shifted(_within(outages, span_ps), int(random.integers(span_ps)), span_ps)
        error = one.error.at(u[3])
        if one.errors is not None:
            own = np.random.default_rng((draw, crc32(name.encode())))
            error = float(one.errors[own.integers(len(one.errors))])
        how = next(each for each in GIVEN_UP if each == one.given_up)
        if one.limit:
            asks[name] = (laid.filled.quota_tok[:, d], laid.filled.output_tok[:, d])
        failing[name] = Failing(
            min(1.0, error), one.error_s, min(1.0, one.hang.at(u[4])), one.hang_s, one.timeout_s, outages,
            one.limit, one.refused_s, how,
        )  # fmt: skip
    return Faults(failing, buckets.most, asks, laid.rows, draw, buckets.holds)


def _drawn(one: Rates, u: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Time between incidents, their length and the share that fails in them, in one draw.

    What is stated is kept; of the others, lengths give way, and times between where the length is stated.
    """
    every_h, length_h, frac = one.every_h.at(u[0]), one.length_h.at(u[1]), min(1.0, one.outage.at(u[2]))
    if not one.length_h.is_exact:
        length_h = max(min(length_h, MOST_DOWN * every_h), frac * every_h)
    elif not one.every_h.is_exact:
        every_h = max(every_h, length_h / MOST_DOWN)
        every_h = min(every_h, length_h / frac) if frac > 0 else every_h
    return every_h, length_h, min(1.0, frac * every_h / length_h)


def _within(outages: Outages, span_ps: int) -> Outages:
    """Outages cut at the end of a span."""
    start, end = np.asarray(outages.from_ps, np.int64), np.asarray(outages.to_ps, np.int64)
    keep = start < span_ps
    return Outages(start[keep], np.minimum(end[keep], span_ps), np.asarray(outages.frac)[keep])


def cut_in(world: World, plan: PlanFile) -> World:
    """The world, knowing whether answers may be given up."""
    return replace(world, cuts=any(one.timeout_s is not None for one in plan.failures))
