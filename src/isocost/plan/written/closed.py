"""A plan's rules on a log: every request played through its policy, every attempt paid.

Rules of ``[[policy]]`` and, where none holds, routes become one table (:mod:`isocost.policy.table`) that
the closed loop steps through. How answers are judged comes from graded outcomes; where nothing says, the
log is played twice, with the outcomes that cost least and with those that cost most, and nothing between
is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace as replaced

from isocost.deployment import Api, Cache, Deployment, ExactCache, Pool, Rules, SemanticCache, open_weights
from isocost.errors import BadLimits, BadTrace
from isocost.ledger import FEMTO_PER_USD
from isocost.plan.asked.streams import Stream
from isocost.plan.written.attempts import Filled, Floats, Rows, Traffic, World, fill, price_of
from isocost.plan.written.ended import Uncut, downgraded, gates, taken, times_of
from isocost.plan.written.file import PlanFile
from isocost.plan.written.merged import Merged, counted_of, merge
from isocost.plan.written.rerun import today_of, uncovered
from isocost.plan.written.tasks import Tasked, drawn, ended, tasks_of, tells_apart
from isocost.policy.route import Request, Route, RoutePolicy, Share
from isocost.policy.rules import Cascade, Policies, Router, Rule, rule_of
from isocost.policy.seen import Seen
from isocost.policy.table import (
    GROUP0,
    LEAST_COUNT,
    MISSED,
    OUTCOMES,
    PASSED,
    REJECTED,
    SERVED,
    TRY,
    WAIT,
    Columns,
    Table,
    entries,
)
from isocost.replay.closed import Closed, Happened, Known, Replicas, Stopped, serve_closed, stopped
from isocost.replay.engine import EngineLimits, Options, StepTerms
from isocost.replay.faults import Faults
from isocost.replay.run import LONGEST_NS
from isocost.trace.shape import hour_of_week
from isocost.units import NS_PER_H, PS_PER_NS, PS_PER_S

End = Literal["least", "most"]
NO_SESSION = -1


class Loop(NamedTuple):
    """One closed loop: n requests, D deployments.

    ``rows`` (n,) of the log; ``traffic`` (n,) index into ``traffics``; ``filled`` what each would
    cost and take at each; ``ttft_s``, ``e2e_s`` (n,) from arrival, NaN not known or not
    answered; ``gate`` (n,) which entry was taken (0 open, 1 soft, 2 hard); ``served`` (n,) code into
    ``names`` of whose answer is taken; ``judged``: how answers are judged, which nothing says, was played at
    its least or most, ``at_ends`` of which task requests are; ``unscored``: requests of routers whose score
    is not known; ``foretold``: answers were judged, ``by_lot`` tasks drawn, and ``lots`` requests of routers
    scored, by what a fit saw.
    """

    traffics: tuple[Traffic, ...]
    names: tuple[str, ...]
    rows: Rows
    traffic: Rows
    found: Closed
    served: Rows
    gate: Rows
    filled: Filled
    ttft_s: Floats
    e2e_s: Floats
    output_tok: Rows
    judged: bool
    at_ends: bool
    unscored: int
    foretold: bool
    by_lot: bool
    lots: int
    uncut: Uncut
    refused: dict[str, Stopped]
    downgraded: Stopped


def traffics(world: World, plan: PlanFile, *, with_policies: bool) -> list[Traffic]:
    """Each stream's rule: a policy, else a route; without policies a route, else today's offering.

    Raises:
        BadLimits: a stream that nothing covers.
    """
    policies = Policies(plan.policies if with_policies else ())
    routes = RoutePolicy(plan.routes)
    found: dict[int, tuple[Rule, list[int]]] = {}
    made: dict[Route, Rule] = {}
    for s, stream in enumerate(world.streams):
        rule = policies.rule(Request(stream.workload, stream.model, 0, 0, stream.provider))
        if rule is None:
            route = routes.route(stream.workload, stream.model, stream.provider) or _today(
                world, stream, plan
            )
            rule = made.setdefault(route, rule_of(route))
        found.setdefault(id(rule), (rule, []))[1].append(s)
    out = []
    for rule, mine in found.values():
        rows = np.concatenate([world.streams[s].rows for s in mine])
        of = np.concatenate([np.full(len(world.streams[s].rows), s, np.int64) for s in mine])
        sequence = np.concatenate([np.arange(len(world.streams[s].rows)) for s in mine])
        order = np.argsort(rows, kind="stable")
        out.append(Traffic(rule, rows[order], of[order], sequence[order]))
    return out


def _today(world: World, stream: Stream, plan: PlanFile) -> Route:
    """A route to where a stream goes today."""
    offering = today_of(world.at, stream)
    for name, one in world.deployments.items():
        same = offering is not None and isinstance(one, Api) and one.subject == offering.subject
        if same and isinstance(one, Api) and one.tier == "standard":
            return Route(stream.workload, stream.model, (Share(name, (1.0,)),))
    raise uncovered(stream, plan, "policy or route")


def with_todays(world: World) -> World:
    """The same with every offering that the log's requests go to today among the deployments."""
    more: dict[str, Deployment] = dict(world.deployments)
    subjects = {one.subject for one in more.values() if isinstance(one, Api) and one.tier == "standard"}
    for stream in world.streams:
        offering = today_of(world.at, stream)
        if offering is not None and offering.serves and offering.subject not in subjects:
            subjects.add(offering.subject)
            option = "hosted" if open_weights(world.at, offering.serves) else "api"
            name = offering.id
            more[name] = Api(name, offering.subject, offering.provider, offering.serves, option)
    return replace(world, deployments=more)


def play(world: World, parts: Sequence[Traffic], end: End, draw: int = 1) -> list[Loop]:
    """Play all rules; those that share a budget, or a pool without one, in one loop.

    Without graded outcomes, what a fit saw is drawn: ``draw`` numbers the lots and the chances' own draw.

    Raises:
        BadLimits: two budgets on one pool, or a name that cannot do what is asked of it.
    """
    return [play_laid(world, one, end, draw) for one in lay(world, parts)]


def lay(world: World, parts: Sequence[Traffic]) -> list[Laid]:
    """The loops of rules, ready to be played as often as there are draws.

    Raises:
        BadLimits: as :func:`play`.
    """
    groups: dict[tuple[object, ...], list[Traffic]] = {}
    for one in parts:
        _able(world, one.rule)
        guard = one.rule.guard
        budget: tuple[object, ...] = ()
        if guard is not None and guard.usd is not None:
            budget = (guard.budget or id(one.rule), guard.usd, guard.soft_frac)
        groups.setdefault(budget, []).append(one)
    used: dict[str, tuple[object, ...]] = {}
    budgets: dict[object, tuple[object, ...]] = {}
    for budget, mine in groups.items():
        if budget and budgets.setdefault(budget[0], budget) != budget:
            raise BadLimits(
                f"budget {budget[0]!r} has two amounts", where="[[policy]] guard", fix="Write one amount"
            )
        for name in (name for one in mine for name in one.rule.deployments()):
            if isinstance(world.deployments[name], Pool) and used.setdefault(name, budget) != budget:
                raise BadLimits(
                    f"{name!r} serves under two budgets, which are not played together",
                    where="[[policy]] guard",
                    fix="Give both policies one budget",
                )
    return [_lay(world, tuple(mine)) for mine in groups.values()]


def _able(world: World, rule: Rule) -> None:
    where = f"[[policy]] of {rule.workload!r}"
    for name in rule.deployments():
        one = world.deployments[name]
        near = "" if rule.semantic is None else rule.semantic.cache
        for kind, held, key in ((ExactCache, rule.cache, "cache"), (SemanticCache, near, "semantic")):
            if isinstance(one, kind) != (name == held):
                is_one = isinstance(one, Cache)
                what = "is a cache and answers nothing else" if is_one else f"is not a cache for {key!r}"
                raise BadLimits(f"{name!r} {what}", where=where, fix=f"Name a cache in {key!r}, nothing else")
        if isinstance(one, Rules) and (rule.first is None or name != rule.first.deployment):
            raise BadLimits(
                f"{name!r} is no model", where=where, fix="Rules answer 'first', and nothing else"
            )
        if isinstance(one, Pool) and name not in world.pools:
            raise BadLimits(f"{name!r} has no replicas", where=where, fix="Give it a [[pool]]")


class Laid(NamedTuple):
    """A loop before it is played: what no draw changes. ``place`` of each rule's requests among the n;
    ``span_ps``: of the whole log, from the hour in which it begins."""

    parts: tuple[Traffic, ...]
    names: tuple[str, ...]
    rows: Rows
    place: tuple[Rows, ...]
    traffic: Rows
    filled: Filled
    arrival_ps: Rows
    deployments: dict[str, Known | Replicas]
    happened: Happened
    tasks: tuple[Tasked, ...]
    uncut: Uncut
    span_ps: int


def _lay(world: World, parts: tuple[Traffic, ...]) -> Laid:
    names = merge([one.rule for one in parts], 1, by_fit=False).table.names
    rows = np.sort(np.concatenate([one.rows for one in parts]))
    place = tuple(np.searchsorted(rows, one.rows) for one in parts)
    traffic = np.empty(len(rows), np.int64)
    for t, where in enumerate(place):
        traffic[where] = t
    filled = fill(world, parts, place, names, len(rows))
    deployments = {
        name: _known(filled, d) if name not in world.pools else _replicas(world, name, filled, d)
        for d, name in enumerate(names)
    }
    guard = parts[0].rule.guard
    usd = np.inf if guard is None or guard.usd is None else guard.usd
    soft = np.inf if guard is None or guard.usd is None else guard.soft_frac * guard.usd
    judged, answer, cost, inputs = (
        {name: values[:, d] for d, name in enumerate(names)}
        for values in (
            filled.judged,
            filled.answer,
            filled.cost_fusd / FEMTO_PER_USD,
            filled.input_fusd / FEMTO_PER_USD,
        )
    )
    happened = Happened(judged, answer, cost, soft, usd, 0, inputs)

    def without(name: str) -> Filled | None:
        if all(one.rule.shape is None or getattr(one.rule.shape, name) is None for one in parts):
            return None
        return fill(world, [_uncut(one, name) for one in parts], place, names, len(rows))

    uncut = Uncut(without("trim_input_tok"), without("cap_output_tok"))
    tasks = tuple(tasks_of(world, one) for one in parts)
    return Laid(
        parts, names, rows, place, traffic, filled, _arrivals(world, rows), deployments, happened, tasks,
        uncut, int(_arrivals(world, np.array([len(world.table) - 1]))[0]) + 1,
    )  # fmt: skip


def _uncut(one: Traffic, name: str) -> Traffic:
    """The same requests without one of their rule's limits on lengths."""
    shape = one.rule.shape
    if shape is None:
        return one
    return one._replace(rule=replaced(one.rule, shape=replaced(shape, **{name: None})))


def play_laid(world: World, laid: Laid, end: End, draw: int = 1, faults: Faults | None = None) -> Loop:
    """Play one loop; see :func:`play`. ``faults``: how APIs fail in it, left out not at all."""
    parts, filled, names = laid.parts, laid.filled, laid.names
    rules = [one.rule for one in parts]
    # Graded outcomes say of each question what a fit says of all.
    merged = merge(rules, draw, by_fit=world.answers is None)
    happened = laid.happened._replace(seed=draw)
    table, worth = _ended(merged, rules, filled, end)
    tasks, at_ends, by_lot = _tasks(laid, merged, worth, (end, draw))
    last = np.full(len(laid.rows), NO_SESSION, np.int64)
    entry, opened, scored = _entry(world, laid, (merged, tasks), last, (end, draw))
    found = serve_closed(laid.arrival_ps, table, entry, laid.deployments, happened, faults)
    if any(rule.sticky is not None for rule in rules):
        # Where a session was served first, its later requests stay.
        last = _sessions(world, parts, laid.place, laid.rows, found.served, names)
        entry, opened, _ = _entry(world, laid, (merged, tasks), last, (end, draw))
        found = serve_closed(laid.arrival_ps, table, entry, laid.deployments, happened, faults)
    gate = gates(found, entry)
    served = taken(rules, laid.traffic, found, names, [(one.names, one.code) for one in tasks])
    refused = stopped(found, table, opened, happened)
    judged, foretold = _was_drawn(parts, merged, laid.traffic, found, filled)
    return Loop(
        parts, names, laid.rows, laid.traffic, found, served, gate, filled,
        *times_of(found, filled), filled.output_tok[np.arange(len(laid.rows)), np.maximum(served, 0)],
        judged, at_ends, scored[0], foretold, by_lot, scored[1], laid.uncut, refused,
        downgraded(found, table, opened, gate, filled),
    )  # fmt: skip


def _arrivals(world: World, rows: Rows) -> Rows:
    arrival = world.table.arrival_ns
    start = int(arrival[0]) // NS_PER_H * NS_PER_H
    if int(arrival[-1]) - start > LONGEST_NS:
        days = (int(arrival[-1]) - start) / NS_PER_H / 24
        raise BadTrace(
            f"a log of {days:.0f} days cannot be replayed in one piece",
            fix=f"Replay at most {LONGEST_NS // NS_PER_H // 24} days of it",
        )
    return np.asarray((arrival[rows] - start) * PS_PER_NS, np.int64)


def _known(filled: Filled, d: int) -> Known:
    ttft, e2e = (np.rint(times[:, d] * PS_PER_S).astype(np.int64) for times in (filled.ttft_s, filled.e2e_s))
    return Known(ttft, np.maximum(ttft, e2e))


def _replicas(world: World, name: str, filled: Filled, d: int) -> Replicas:
    pool = world.deployments[name]
    assert isinstance(pool, Pool)
    block_tok = int(world.at.number("memory/vllm", "block_tok"))
    return Replicas(
        StepTerms(pool.base_ps, pool.prefill_ps_per_tok, pool.seq_ps, pool.kv_ps_per_tok),
        EngineLimits(pool.prefill_budget_tok, pool.max_seqs, pool.kv_capacity_tok // block_tok, block_tok),
        Options(fewest(world, name)),
        filled.input_tok[:, d],
        filled.output_tok[:, d],
    )


def fewest(world: World, name: str) -> int:
    """A pool's fewest replicas in any hour of the log, at least one: the loop has no schedule."""
    arrival = world.table.arrival_ns
    hours = np.arange(int(arrival[0]) // NS_PER_H, int(arrival[-1]) // NS_PER_H + 1) * NS_PER_H
    schedule = world.pools[name]
    return max(1, min(schedule.replicas(int(h)) for h in np.unique(hour_of_week(hours))))


def _tasks(
    laid: Laid, merged: Merged, worth: Sequence[Mapping[int, float]], way: tuple[End, int]
) -> tuple[list[Tasked], bool, bool]:
    """Tasks as they are played; whether any was at its least or most, and whether any was drawn of a fit."""
    end, draw = way
    out, at_ends, by_lot = [], False, False
    for t, (one, tasked) in enumerate(zip(laid.parts, laid.tasks, strict=True)):
        if not tells_apart(one.rule) or not tasked.unknown.any():
            out.append(tasked)
            continue
        lots = drawn(one.rule, tasked, (draw, len(laid.parts) + t))
        if lots is None:
            costs = {(pick, task): usd for pick, task, usd in _open(merged.tables[t], worth[t])}
            lots, at_ends = ended(one.rule, tasked, costs, dearest=end == "most"), True
        else:
            by_lot = True
        out.append(lots)
    return out, at_ends, by_lot


def _open(table: Table, worth: Mapping[int, float]) -> Iterator[tuple[str, str, float]]:
    """Pick, task and what is still spent of each start that nothing stops, defers or keeps."""
    for (gate, deferred, last, both), start in table.starts.items():
        if gate == "open" and not deferred and not last:
            pick, _, task = both.partition("\t")
            yield pick, task, worth[start]


def _entry(
    world: World,
    laid: Laid,
    of: tuple[Merged, Sequence[Tasked]],
    last: Rows,
    way: tuple[End, int],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], tuple[int, int]]:
    """States in which requests start, (n, 3); would start without a guard, (n,); scores not known, drawn."""
    (merged, tasked), (end, draw) = of, way
    out = np.zeros((len(last), 3), np.int32)
    opened = np.zeros(len(last), np.int32)
    unscored = lots = 0
    for t, (one, where) in enumerate(zip(laid.parts, laid.place, strict=True)):
        rule, table, k = one.rule, merged.tables[t], len(one.rows)
        score = np.full(k, np.nan)
        if isinstance(rule.choose, Router):
            score = score if world.score is None else world.score[one.rows]
            unknown = np.isnan(score)
            seen = rule.choose.seen if world.answers is None else None
            if seen is not None:
                lots += int(unknown.sum())
                score = np.where(unknown, _lots(seen, k, (draw, t)), score)
            else:
                unscored += int(unknown.sum())
                cheap = _dearer_first(world, rule.choose) == (end == "most")
                score = np.where(unknown, -np.inf if cheap else np.inf, score)
        tasks, task, _ = tasked[t]
        columns = Columns(
            one.sequence, hour_of_week(world.table.arrival_ns[one.rows]), task, score,
            world.table.input_tok[one.rows].astype(np.int64),
            world.table.output_tok[one.rows].astype(np.int64),
            np.full(k, np.nan) if world.table.deadline_s is None
            else np.asarray(world.table.deadline_s[one.rows], np.float64),
            # Nothing is spent at first: a budget of 0 stops a request, and says which it would have been.
            np.full(k, -np.inf), _local(last[where], merged.table.names, table.names),
            None if world.session is None else world.session[one.rows],
        )  # fmt: skip
        out[where] = (entries(rule, table, columns, tasks) + merged.offset[t])[:, None]
        nothing = columns._replace(input_tok=np.zeros(k, np.int64), output_tok=np.zeros(k, np.int64))
        opened[where] = entries(rule, table, nothing, tasks) + merged.offset[t]
        guard = rule.guard
        if guard is not None and guard.usd is not None:
            for column, spent in ((1, guard.soft_frac * guard.usd), (2, guard.usd)):
                bars = columns._replace(spent_usd=np.full(k, spent))
                out[where, column] = entries(rule, table, bars, tasks) + merged.offset[t]
    return out, opened, (unscored, lots)


def _lots(seen: Seen, k: int, seed: tuple[int, int]) -> Floats:
    """Scores that are above any bar as often as a fit saw it, below else."""
    random = np.random.default_rng(seed)
    strong = seen.chance["strong"] * seen.questions
    share = random.beta(max(strong, LEAST_COUNT), max(seen.questions - strong, LEAST_COUNT))
    return np.where(random.random(k) < share, np.inf, -np.inf)


def _dearer_first(world: World, choice: Router) -> bool:
    """Whether ``cheap`` costs more a token than ``strong``."""
    usd = []
    for name in (choice.cheap, choice.strong):
        one = world.deployments[name]
        tokens = {
            "input_tok": np.array([1000]), "output_tok": np.array([300]), "cached_tok": np.array([0]),
            "cache_write_tok": np.array([0]),
        }  # fmt: skip
        usd.append(int(price_of(world, one, tokens)[0][0]) if isinstance(one, Api) else 0)
    return usd[0] > usd[1]


def _local(last: Rows, names: Sequence[str], mine: Sequence[str]) -> Rows:
    code = np.array([mine.index(name) if name in mine else -1 for name in names] + [-1], np.int64)
    return code[last]


def _sessions(
    world: World,
    parts: Sequence[Traffic],
    place: Sequence[Rows],
    rows: Rows,
    served: npt.NDArray[np.int32],
    names: Sequence[str],
) -> Rows:
    """Where each request's session was served first among those it may stay at; -1 nowhere yet."""
    last = np.full(len(rows), NO_SESSION, np.int64)
    if world.session is None:
        return last
    for one, where in zip(parts, place, strict=True):
        if one.rule.sticky is None:
            continue
        among = {names.index(name) for name in one.rule.sticky.among}
        stays: dict[int, int] = {}
        for i, session in zip(where.tolist(), world.session[one.rows].tolist(), strict=True):
            if session < 0:
                continue
            last[i] = stays.get(session, NO_SESSION)
            if session not in stays and int(served[i]) in among:
                stays[session] = int(served[i])
    return last


def _ended(
    merged: Merged, rules: Sequence[Rule], filled: Filled, end: End
) -> tuple[Table, list[dict[int, float]]]:
    """The table with, where nothing says how an answer is judged, the outcome that costs least or most; and
    what each rule's starts then still cost."""
    table = merged.table
    cost = filled.cost_fusd.mean(axis=0) + 1.0  # an attempt at a pool costs something too
    chance = np.zeros_like(table.chance)
    worth: list[dict[int, float]] = []
    for rule, mine, offset in zip(rules, merged.tables, merged.offset, strict=True):
        each = cost[[table.names.index(name) for name in mine.names]]
        judged: dict[int, tuple[float, int]] = {}
        for start in mine.starts.values():
            _worth(_Costs(rule, mine, each, end), int(start), (), judged)
        for s, (_, outcome) in judged.items():
            if outcome >= 0:
                chance[offset + s, outcome] = 1.0
        worth.append({start: judged[int(start)][0] for start in mine.starts.values()})
        known = np.isfinite(mine.chance).all(axis=1)
        chance[np.flatnonzero(known) + offset] = mine.chance[known]
    return replace(table, chance=chance), worth


class _Costs(NamedTuple):
    rule: Rule
    table: Table
    each: npt.NDArray[np.float64]
    end: End


def _worth(of: _Costs, s: int, pending: tuple[int, ...], drawn: dict[int, tuple[float, int]]) -> float:
    """What is still spent from a state on, and in ``drawn`` the outcome that makes it so (-1 no more)."""
    if s in drawn:
        return drawn[s][0]
    table, own = of.table, 0.0
    if table.op[s] == TRY:
        begun = table.targets[table.first[s] : table.first[s] + table.count[s]]
        own = float(of.each[begun].sum())
        pending = (*pending, *begun.tolist())
    if not pending or table.op[s] not in (TRY, WAIT):
        drawn[s] = (own, -1)
        return own
    can = _can(table, s, table.names[pending[0]], of.rule)
    if np.isfinite(table.chance[s]).all():
        can = [o for o in range(OUTCOMES) if table.chance[s, o] > 0]
    follow = {o: _worth(of, int(table.after[s, o]), pending[1:], drawn) for o in can}
    if np.isfinite(table.chance[s]).all():
        likely = sum(float(table.chance[s, o]) * value for o, value in follow.items())
        drawn[s] = (own + likely, -1)
        return drawn[s][0]
    best = (min if of.end == "least" else max)(follow, key=lambda o: follow[o])
    drawn[s] = (own + follow[best], best)
    return drawn[s][0]


def _can(table: Table, s: int, name: str, rule: Rule) -> list[int]:
    """Outcomes that an answer of a deployment may have in a state, as far as costs go."""
    if name == rule.cache or (rule.semantic is not None and name == rule.semantic.cache):
        return [SERVED, MISSED]
    if rule.first is not None and name == rule.first.deployment:
        return [SERVED, MISSED]
    choice = rule.choose
    if isinstance(choice, Cascade) and name in choice.ask:
        if choice.checked:
            return [SERVED] if name == choice.ask[-1] else [PASSED, REJECTED]
        groups = [o for o in range(GROUP0, OUTCOMES) if table.after[s, o] >= 0]
        return groups or [SERVED]
    return [SERVED]


def _was_drawn(
    parts: Sequence[Traffic], merged: Merged, traffic: Rows, found: Closed, filled: Filled
) -> tuple[bool, bool]:
    """Whether any attempt was judged by what costs least or most, and whether any by what a fit saw."""
    i, q = np.nonzero((found.deployment >= 0) & (found.begin_ps >= 0))
    d = found.deployment[i, q]
    fits = np.zeros((len(parts), len(merged.table.names)), np.bool_)
    for t, (one, table) in enumerate(zip(parts, merged.tables, strict=True)):
        choice = one.rule.choose
        if isinstance(choice, Cascade) and np.isfinite(table.chance).any():
            fits[t] = [name in choice.ask for name in merged.table.names]
        counted = counted_of(one.rule)
        fits[t] |= [name in counted for name in merged.table.names]
    drawn, by_fit = filled.judged[i, d] < 0, fits[traffic[i], d]
    return bool((drawn & ~by_fit).any()), bool((drawn & by_fit).any())
