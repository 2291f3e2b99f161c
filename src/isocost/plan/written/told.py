"""What a log came to under a plan's policies: cost, attempts, waiting, quality, and what was stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import Catalog
from isocost.catalog.evidence import may_replace
from isocost.deployment import Api, Cache, Pool, Rules, SemanticCache
from isocost.errors import BadLimits, BadTrace
from isocost.ledger import FEMTO_PER_USD, Ledger
from isocost.plan.asked.streams import streams_of, week_of
from isocost.plan.written.answers import Answers
from isocost.plan.written.attempts import Rows, Traffic, World
from isocost.plan.written.caches import told_of, with_caches, wrong_of_hits
from isocost.plan.written.closed import (
    End,
    Loop,
    lay,
    play_laid,
    traffics,
    with_todays,
)
from isocost.plan.written.ended import billed_fusd, cut_of, whole_fusd
from isocost.plan.written.failed import DRAWS, Failures, paid_usd, play_failures, simple, untimed_hedges
from isocost.plan.written.failing import cut_in, measured, rates_of
from isocost.plan.written.file import PlanFile
from isocost.plan.written.near import Verifier, in_force
from isocost.plan.written.rerun import Rerun, today_of
from isocost.plan.written.said import at_a_budget, foretold, idle, notes_of, uneven, unscored
from isocost.plan.written.scores import Asked, scores
from isocost.plan.written.tasks import tasks_of, told_tasks
from isocost.policy.outcomes import read_outcomes
from isocost.policy.router import Weights
from isocost.policy.rules import Cascade, Router
from isocost.replay.run import Replayed, rent
from isocost.risk.scenarios import wilson
from isocost.trace.schema import Trace

Z_95 = 1.959963984540054
"""Standard deviations to either side that hold 95 % of a normal distribution."""
_OTHERS = range(2, DRAWS + 1)


class Answered(msgspec.Struct, frozen=True):
    """Of one deployment: requests whose answer was taken, attempts, dollars on all of them."""

    deployment: str
    requests: int
    attempts: int
    usd: float
    ttft_p95_s: float | None


class Waiting(msgspec.Struct, frozen=True):
    """Percentiles of the time to the first token that is shown and to the last, over requests that are
    answered, not deferred, and whose times are known: ``ttft_known_frac`` and ``e2e_known_frac`` of them.
    """

    ttft_p50_s: float | None
    ttft_p95_s: float | None
    e2e_p50_s: float | None
    e2e_p95_s: float | None
    ttft_known_frac: float
    e2e_known_frac: float


class Quality(msgspec.Struct, frozen=True):
    """Mean quality with its 95 % interval: ``outcomes``: grades; ``catalog``: shared benchmarks' difference
    from today's model, 0 the same."""

    source: str
    mean: float
    low: float
    high: float
    known_frac: float


class Stop(msgspec.Struct, frozen=True):
    """What a guard did: ``input``, ``output``, ``budget`` (refused) or ``downgraded``; ``usd``: what was not
    spent on first attempts. What a limit on lengths did: ``trimmed`` (prompts) or ``capped`` (answers taken);
    ``usd``: what all attempts cost less, ``tok``: tokens cut of these requests."""

    why: str
    requests: int
    usd: float
    tok: int = 0


class Played(msgspec.Struct, frozen=True):
    """One way that the log may have gone. ``usd`` is of its span: tokens of all attempts, and rent.

    ``attempts_per_request`` and ``escalated_frac`` are of requests that were not refused; a cache is no
    attempt.
    """

    requests: int
    usd: float
    usd_per_month: float
    at_least: bool
    attempts_per_request: float
    escalated_frac: float
    deferred: int
    answered: list[Answered]
    waiting: Waiting | None
    quality: Quality | None
    stopped: list[Stop]


class Policed(msgspec.Struct, frozen=True):
    """A log under a plan's policies.

    ``least`` and ``most`` are one where every answer's judgement is known. Where a fit saw how often cheap
    answers agree, ``likely`` is the middle one in cost of ``draws``, and four in five of them lie from
    ``least`` to ``most``. Else these are the cheapest and the dearest that any judgements can make it.
    ``without``: the same log and fleet with no policy, ``None`` where the plan does not say where requests
    would go then.
    """

    is_known: bool
    least: Played
    most: Played
    without: Played | None
    notes: list[str]
    likely: Played | None = None
    draws: int = 0
    failures: Failures | None = None
    """What failures of APIs do to the way that is shown; the ways above are without them."""
    failures_without: Failures | None = None

    @property
    def shown(self) -> Played:
        """The likely way, else the dearest."""
        return self.most if self.likely is None else self.likely


def police(
    trace: Trace,
    plan: PlanFile,
    catalog: Catalog,
    outcomes: Path | None = None,
    weights: Mapping[str, Weights] = {},
    verifiers: Mapping[str, Verifier] = {},
) -> tuple[Policed, Rerun]:
    """Play a log under a plan's policies; the second is the likely way, else the dearest,
    for its limits.

    ``weights``: the scores that routers name (:func:`isocost.plan.written.scores.named_weights`), read where
    the log, or ``outcomes``, has the words of prompts. ``verifiers``: those that semantic caches name
    (:func:`isocost.plan.written.near.named_verifiers`); a cache whose certificate lapsed is off.

    Raises:
        BadLimits: a stream that nothing covers, or rules that cannot be played.
        BadInput: OUTCOMES that cannot be read, or a semantic cache on a log without words.
    """
    kept, off = in_force(plan.policies, verifiers)
    plan = msgspec.structs.replace(plan, policies=kept)
    on = date.fromisoformat(plan.basis.priced_on)
    table = trace.requests()
    week = week_of(table, np.ones(168), "flat")
    streams = tuple(streams_of(trace, table, week, plan.basis.now))
    if not streams:
        raise BadTrace("no call was answered", where=trace.title, fix="Give a log with answered calls")
    answers = None
    notes: list[str] = [*off]
    if outcomes is not None:
        read = read_outcomes(outcomes, partial=True)
        answers = Answers.of(read, table, plan.deployments, trace.names.get("task", ()))
        notes += read.notes
    deployments = {each.id: each for each in plan.deployments}
    pools = {schedule.deployment: schedule for schedule in plan.fleet.pools}
    world = World(catalog, on, trace, table, streams, deployments, pools, answers)
    parts = traffics(world, plan, with_policies=True)
    world = with_caches(_scored(world, parts, weights), parts, verifiers)
    hours = world.at.number("finance/any", "hours_per_month")
    month = hours * 3600.0 / week.span_s
    world = cut_in(world, plan)
    laid = lay(world, parts)

    def ways_of(end: End, draw: int = 1) -> list[Loop]:
        return [play_laid(world, one, end, draw) for one in laid]

    loops = ways_of("least")
    judged, unknown = any(loop.judged for loop in loops), sum(loop.unscored for loop in loops)
    lots = sum(loop.lots for loop in loops)
    of_fit = lots > 0 or any(loop.foretold or loop.by_lot for loop in loops)
    at_ends = judged or unknown > 0 or any(loop.at_ends for loop in loops)
    ways, likely = [_played(world, plan, loops, month)], None
    clean, dearer = [paid_usd(loops)], False
    if at_ends:
        others = ways_of("most")
        ways.append(_played(world, plan, others, month))
        dearer = _by_end(ways)[-1] is ways[1]
        loops = others if dearer else loops
        clean = [paid_usd(loops)]
    elif of_fit:
        every = [ways[0]]
        for k in _OTHERS:
            drawn = ways_of("least", k)
            every.append(_played(world, plan, drawn, month))
            clean.append(paid_usd(drawn))
        order = sorted(range(DRAWS), key=lambda k: every[k].usd)
        ways = [every[order[DRAWS // 10]], every[order[-1 - DRAWS // 10]]]
        likely = every[order[DRAWS // 2]]
        loops = ways_of("least", 1 + order[DRAWS // 2])
    end: End = "most" if dearer else "least"
    log = measured(world)
    failures = play_failures(
        world, laid, rates_of(world, plan, log),
        lambda one, k, faults: play_laid(world, one, end, 1 if likely is None else k, faults), clean,
    )  # fmt: skip
    plain, without = None, None
    try:
        today = with_todays(world)
        plain_laid = lay(today, traffics(today, plan, with_policies=False))
    except BadLimits:
        plain_laid = []
    if plain_laid:
        plain_loops = [play_laid(today, one, "most") for one in plain_laid]
        plain = _played(today, plan, plain_loops, month)
        without = play_failures(
            today, plain_laid, rates_of(today, plan, log), simple(today), [paid_usd(plain_loops)]
        )
    waits = [way.waiting for way in (*ways, plain) if way is not None and way.waiting is not None]
    if any(one.ttft_known_frac < one.e2e_known_frac for one in waits):
        notes.append("The log has no first token of some answers (not streamed): TTFT is of the others")
    least, most = _by_end(ways)[0], _by_end(ways)[-1]
    notes += [foretold(world, parts, loops, likely is not None)] if of_fit else []
    notes += idle(plan, parts) + untimed_hedges(laid)
    notes += told_tasks(world, parts)
    notes += _near_told(world, parts, likely or most)
    notes += unscored(parts, unknown, lots) + notes_of(world, [one.rule for one in parts], judged)
    notes += at_a_budget(parts, (_refused(least), _refused(most))) + uneven(loops)
    found = Policed(
        not (at_ends or of_fit), least, most, plain, notes, likely, 0 if likely is None else DRAWS,
        failures, without,
    )  # fmt: skip
    return found, _rerun(world, loops, week.span_s)


def _by_end(ways: Sequence[Played]) -> list[Played]:
    """From the cheapest to the dearest; where a budget stops them at one cost, what answers most first."""
    return sorted(ways, key=lambda way: (way.usd, -sum(row.requests for row in way.answered)))


def _refused(way: Played) -> int:
    """Requests that a budget refused."""
    return sum(stop.requests for stop in way.stopped if stop.why == "budget")


def _scored(world: World, parts: Sequence[Traffic], weights: Mapping[str, Weights]) -> World:
    """The world with the scores of its routers' requests."""
    asked = []
    for one in (part for part in parts if isinstance(part.rule.choose, Router)):
        fitted = weights.get(getattr(one.rule.choose, "weights", ""))
        names, code, unknown = tasks_of(world, one, () if fitted is None else fitted.tasks)
        query = [""] * len(one.rows)
        if world.answers is not None:
            for s in np.unique(one.stream):
                mine = np.flatnonzero(one.stream == s)
                which = world.answers.question(world.streams[int(s)], one.rows[mine])
                for i, q in zip(mine.tolist(), which.tolist(), strict=True):
                    query[i] = world.answers.outcomes.query[q]
        asked.append(Asked(one.rule, one.rows, [names[k] for k in code.tolist()], query, unknown))
    if not asked:
        return world
    return replace(world, score=scores(world.trace, asked, weights, len(world.table)))


def _near_told(world: World, parts: Sequence[Traffic], shown: Played) -> list[str]:
    """What each semantic cache did, in the way that is shown."""
    rows = {row.deployment: row for row in shown.answered}
    found = {one.rule.semantic.cache: one.rule.semantic for one in parts if one.rule.semantic is not None}
    notes = []
    for name, semantic in found.items():
        near = world.near.get(name)
        if near is None or semantic.certificate is None or name not in rows:
            continue
        counted = bool((near.judged < 0).all()) and semantic.measured is not None
        notes.append(told_of(name, rows[name].attempts, rows[name].requests, semantic.certificate, counted))
    if notes and world.table.tenant is None:
        notes.append("The log names no tenants: its requests are taken as one tenant's")
    return notes


def _played(world: World, plan: PlanFile, loops: Sequence[Loop], month: float) -> Played:
    answered: dict[str, list[float]] = {}
    attempts = n = tried = escalated = deferred = unpriced = 0
    waits: list[npt.NDArray[np.float64]] = []
    ttft_of: dict[str, list[npt.NDArray[np.float64]]] = {}
    stops: dict[str, list[float]] = {}
    for loop in loops:
        i, q = _begun(loop)
        d = loop.found.deployment[i, q]
        n, attempts = n + len(loop.rows), attempts + _model_attempts(world, loop, d)
        tried += int(np.count_nonzero(np.bincount(i)))
        paid = billed_fusd(loop.found, loop.filled, i, q)
        unpriced += int((~loop.filled.priced[i, d]).sum())
        escalated += _escalated(loop)
        batch = _is_batch(world, loop)
        late = batch & (loop.served >= 0)
        deferred += int(late.sum())
        now = (loop.served >= 0) & ~batch
        times = np.stack([loop.ttft_s, loop.e2e_s], axis=1)
        waits.append(times[now])
        for code, name in enumerate(loop.names):
            told = answered.setdefault(name, [0, 0, 0])
            told[0] += int((loop.served == code).sum())
            told[1] += int((d == code).sum())
            told[2] += whole_fusd(paid[d == code])
            ttft_of.setdefault(name, []).append(times[now & (loop.served == code), 0])
        for why, stop in (*loop.refused.items(), ("downgraded", loop.downgraded)):
            held = stops.setdefault(why, [0, 0.0, 0])
            held[0], held[1] = held[0] + stop.requests, held[1] + stop.usd
        for cut in cut_of(loop.found, loop.filled, loop.uncut, (i, q)):
            held = stops.setdefault(cut.why, [0, 0.0, 0])
            held[0], held[1], held[2] = held[0] + cut.requests, held[1] + cut.usd, held[2] + cut.tok
    rents = {}
    for schedule in plan.fleet.pools:
        pool = world.deployments[schedule.deployment]
        if isinstance(pool, Pool):
            charges = rent(pool, schedule, world.table, 0.0)[1]
            rents[pool.id] = sum(charge.amount_fusd for charge in charges)
    for name, fusd in rents.items():
        answered.setdefault(name, [0, 0, 0])[2] += fusd
    rows = [
        Answered(name, int(one[0]), int(one[1]), int(one[2]) / FEMTO_PER_USD, _p95(ttft_of.get(name, [])))
        for name, one in answered.items()
        if one[1] or one[2]
    ]
    usd = sum(int(one[2]) for one in answered.values()) / FEMTO_PER_USD
    stopped = [Stop(why, int(one[0]), one[1], int(one[2])) for why, one in stops.items() if one[0]]
    return Played(
        n, usd, usd * month + plan.fleet.standing_usd_per_month, unpriced > 0, attempts / max(1, tried),
        escalated / max(1, tried), deferred, sorted(rows, key=lambda row: -row.usd),
        _waiting(np.concatenate(waits)), _quality(world, loops), stopped,
    )  # fmt: skip


def _begun(loop: Loop) -> tuple[Rows, Rows]:
    i, q = np.nonzero((loop.found.deployment >= 0) & (loop.found.begin_ps >= 0))
    return np.asarray(i, np.int64), np.asarray(q, np.int64)


def _model_attempts(world: World, loop: Loop, d: npt.NDArray[np.int32]) -> int:
    """Attempts at models."""
    is_model = np.array([not isinstance(world.deployments[name], Cache | Rules) for name in loop.names])
    return int(is_model[d].sum())


def _is_batch(world: World, loop: Loop) -> npt.NDArray[np.bool_]:
    batch = [isinstance(one := world.deployments[name], Api) and one.tier == "batch" for name in loop.names]
    return np.array([*batch, False])[loop.served]


def _escalated(loop: Loop) -> int:
    """Requests of cascades that were put to more deployments than the first asked."""
    total = 0
    for t, one in enumerate(loop.traffics):
        choice = one.rule.choose
        if isinstance(choice, Cascade):
            asked = np.array([name in choice.ask for name in loop.names] + [False])
            mine = loop.traffic == t
            begun = np.where(loop.found.begin_ps[mine] >= 0, loop.found.deployment[mine], -1)
            total += int((asked[begun].sum(axis=1) > choice.together).sum())
    return total


def _p95(parts: Sequence[npt.NDArray[np.float64]]) -> float | None:
    values = np.concatenate(parts) if parts else np.zeros(0)
    values = values[~np.isnan(values)]
    return float(np.percentile(values, 95)) if len(values) else None


def _waiting(times: npt.NDArray[np.float64]) -> Waiting | None:
    if not len(times):
        return None
    found: list[float | None] = []
    for column in times.T:
        told = column[~np.isnan(column)]
        found += [float(np.percentile(told, q)) if len(told) else None for q in (50, 95)]
    known = 1.0 - np.isnan(times).mean(axis=0)
    return Waiting(found[0], found[1], found[2], found[3], float(known[0]), float(known[1]))


def _quality(world: World, loops: Sequence[Loop]) -> Quality | None:
    """Quality of the answers taken: by grades where given, else by the catalog's benchmarks."""
    return _graded(world, loops) if world.answers is not None else _expected(world, loops)


def _graded(world: World, loops: Sequence[Loop]) -> Quality | None:
    assert world.answers is not None
    weight = np.zeros(len(world.answers.outcomes))
    whole = np.zeros(len(world.answers.outcomes))
    answered = near = 0
    for loop in loops:
        answered += int((loop.served >= 0).sum())
        is_near = [isinstance(world.deployments[name], SemanticCache) for name in loop.names]
        near += int(np.array([*is_near, False])[loop.served].sum())
        for one in loop.traffics:
            place = np.searchsorted(loop.rows, one.rows)
            for s in np.unique(one.stream):
                mine = one.stream == s
                question = world.answers.question(world.streams[int(s)], one.rows[mine])
                served = loop.served[place[mine]]
                for code, name in enumerate(loop.names):
                    j = world.answers.column.get(name)
                    if j is not None:
                        q = question[served == code]
                        q = q[np.isfinite(world.answers.outcomes.quality[q, j])]
                        np.add.at(weight, q, 1.0)
                        np.add.at(whole, q, world.answers.outcomes.quality[q, j])
    known = weight.sum()
    if not known:
        return None
    mean = float(whole.sum() / known)
    low, _, high = wilson(mean, float(known**2 / (weight**2).sum()), Z_95)
    # An answer from a semantic cache is as good as those it was kept from, save where it is the wrong one.
    seen, most = _wrong_frac(loops, answered)
    kept = 1.0 - seen
    return Quality(
        "outcomes", mean * kept, low * (1.0 - most), high * kept, float((known + near) / max(1, answered))
    )


def _wrong_frac(loops: Sequence[Loop], answered: int) -> tuple[float, float]:
    """Share of all answers that a semantic cache gave wrongly: as was seen, and at most as certified."""
    seen = most = 0.0
    for loop in loops:
        for t, one in enumerate(loop.traffics):
            semantic = one.rule.semantic
            if semantic is not None and semantic.certificate is not None and semantic.cache in loop.names:
                code = loop.names.index(semantic.cache)
                hits = int(((loop.traffic == t) & (loop.served == code)).sum())
                each = wrong_of_hits(semantic.certificate)
                seen, most = seen + hits * each[0], most + hits * each[1]
    return seen / max(1, answered), most / max(1, answered)


def _expected(world: World, loops: Sequence[Loop]) -> Quality | None:
    """Shared benchmarks' difference from today's models, weighed by requests; ``None`` where any is not
    known, or where what is read of answers or questions decides, which averages say nothing of."""
    total = difference = low = high = 0.0
    for loop in loops:
        for one in loop.traffics:
            if isinstance(one.rule.choose, Cascade | Router) or one.rule.first or one.rule.shape:
                return None
            served = loop.served[np.searchsorted(loop.rows, one.rows)]
            for s, code in {*zip(one.stream.tolist(), served.tolist(), strict=True)}:
                if code < 0:
                    continue
                stream, deployment = world.streams[s], world.deployments[loop.names[code]]
                k = int(((one.stream == s) & (served == code)).sum())
                total += k
                if isinstance(deployment, SemanticCache) and one.rule.semantic is not None:
                    assert one.rule.semantic.certificate is not None
                    seen, most = wrong_of_hits(one.rule.semantic.certificate)
                    # A wrong answer loses a whole one at most.
                    difference, low, high = difference - k * seen, low - k * most, high - 0.0
                if isinstance(deployment, Cache | Rules):
                    continue
                offering = today_of(world.at, stream)
                today = stream.model if offering is None else offering.serves or stream.model
                # One-sided 97.5 % is two-sided 95 %; the verdict at a margin is not read.
                verdict = may_replace(world.at, deployment.model, today, 0.0, 0.975)
                if math.isnan(verdict.difference):
                    return None
                difference += k * verdict.difference
                low, high = low + k * verdict.lower, high + k * verdict.upper
    return Quality("catalog", difference / total, low / total, high / total, 1.0) if total else None


def _rerun(world: World, loops: Sequence[Loop], span_s: float) -> Rerun:
    """As a replay of routes: what limits are held against, without requests refused or deferred."""
    n = len(world.table)
    ttft, e2e, tok = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.int64)
    counted = np.zeros(n, np.bool_)
    for loop in loops:
        ttft[loop.rows], e2e[loop.rows] = loop.ttft_s, loop.e2e_s
        tok[loop.rows] = loop.output_tok
        counted[loop.rows] = (loop.served >= 0) & ~_is_batch(world, loop)
    where = np.full(n, -1, np.int32)
    replayed = Replayed(Ledger(), tuple(world.deployments), where, ttft, e2e, {}, {}, 0, tok, {}, {})
    streams = [replace(stream, rows=stream.rows[counted[stream.rows]]) for stream in world.streams]
    return Rerun(replayed, tuple(s for s in streams if len(s.rows)), world.table, span_s)
