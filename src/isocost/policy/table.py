"""A rule as arrays: what a kernel executes. A property test holds it equal to
:func:`isocost.policy.rules.decide`.

A rule becomes a machine of few states. In a state something is done (``op``); each attempt that ends moves to
another state by how it ended (``after``). Where a request starts depends on its columns (:func:`entries`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.policy.compiled import assign_shares, keys
from isocost.policy.route import Action, Attempt, Ended, Refuse, Request, Stop, Try, View
from isocost.policy.rules import STRONG, ByTask, Cascade, Choice, Fixed, Router, Rule, Split, decide
from isocost.policy.seen import Group, Seen

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

STOP, TRY, WAIT, REFUSE_INPUT, REFUSE_OUTPUT, REFUSE_BUDGET = range(6)
FAILED, OVERFLOWED, MISSED, SERVED, PASSED, REJECTED, GROUP0 = range(7)
GROUPS = 5
"""Groups of equal answers that are told apart: outcome ``GROUP0 + g`` is an answer equal to group g's."""
OUTCOMES = GROUP0 + GROUPS
LEAST_COUNT = 1e-3
"""Questions that a pattern counts for at least where its share is drawn again."""

_ENDED: tuple[Ended, ...] = ("failed", "overflowed", "missed", "served", "passed", "rejected")
_REFUSED: Mapping[str, int] = {"input": REFUSE_INPUT, "output": REFUSE_OUTPUT, "budget": REFUSE_BUDGET}
_OPEN, _SOFT = "open", "soft"


@dataclass(frozen=True)
class Table:
    """S states over deployments ``names``.

    ``op`` (S,): what is done. TRY begins ``targets[first[s]:first[s] + count[s]]`` (codes into ``names``),
    the k-th ``k * stagger_s`` later than the first unless one has answered, all ``before_s`` later than
    now; ``trim_tok`` and ``cap_tok`` are cut first (-1: not). ``waits`` says that the answer may take as
    long as the request allows. ``after`` (S, 11): the state that follows an outcome, -1 where it cannot
    come. Attempts that were begun together are told in the order of ``targets``. ``chance`` (S, 11): how
    likely each outcome is in simulation, NaN unknown.
    """

    names: tuple[str, ...]
    op: Int8
    first: Int32
    count: Int32
    targets: Int32
    stagger_s: Floats
    before_s: Floats
    waits: npt.NDArray[np.bool_]
    trim_tok: Int32
    cap_tok: Int32
    after: Int32
    chance: Floats
    starts: Mapping[tuple[str, bool, str, str], int]


class Columns(NamedTuple):
    """Requests as columns (n,): ``task`` codes into ``tasks``; ``score`` and ``wait_s`` NaN where there is
    none; ``spent_usd`` of the budget at arrival; ``last`` the deployment that served the session last, code
    into ``names``, -1 none; ``sequence``, ``hour`` and ``session`` (``None``: no request has one) as in
    :class:`isocost.policy.route.Request`."""

    sequence: npt.NDArray[np.int64]
    hour: npt.NDArray[np.int64]
    task: npt.NDArray[np.int64]
    score: Floats
    input_tok: npt.NDArray[np.int64]
    output_tok: npt.NDArray[np.int64]
    wait_s: Floats
    spent_usd: Floats
    last: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64] | None = None


class _State(NamedTuple):
    attempts: tuple[Attempt, ...]
    pending: tuple[str, ...]


def compile_rule(rule: Rule) -> Table:
    """The machine of a rule: its states are what can have happened, as far as the rule tells it apart."""
    names = rule.deployments()
    code = {name: i for i, name in enumerate(names)}
    rows: list[tuple[Action, list[int]]] = []
    starts: dict[tuple[str, bool, str, str], int] = {}
    for key in _keys(rule):
        request, view, single = _typical(rule, key)
        seen: dict[_State, int] = {}
        starts[key] = _unroll(single, request, view, _State((), ()), seen, rows)
    size = len(rows)
    targets: list[int] = []
    op, waits = np.zeros(size, np.int8), np.zeros(size, np.bool_)
    first, count = np.zeros(size, np.int32), np.zeros(size, np.int32)
    stagger, before = np.zeros(size), np.zeros(size)
    trim, cap = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
    after = np.full((size, OUTCOMES), -1, np.int32)
    for s, (action, follows) in enumerate(rows):
        after[s] = follows
        match action:
            case Stop():
                op[s] = STOP
            case Refuse():
                op[s] = _REFUSED[action.why]
            case Try():
                op[s] = TRY if action.deployments else WAIT
                first[s], count[s] = len(targets), len(action.deployments)
                targets += [code[name] for name in action.deployments]
                stagger[s], before[s], waits[s] = (
                    action.stagger_s,
                    action.not_before_s,
                    action.wait_s is not None,
                )
                if action.edit is not None:
                    trim[s] = -1 if action.edit.trim_input_tok is None else action.edit.trim_input_tok
                    cap[s] = -1 if action.edit.cap_output_tok is None else action.edit.cap_output_tok
    chance = np.full((size, OUTCOMES), np.nan)
    return Table(
        names, op, first, count, np.array(targets, np.int32), stagger, before, waits, trim, cap, after,
        chance, starts,
    )  # fmt: skip


def _unroll(
    rule: Rule,
    request: Request,
    view: View,
    state: _State,
    seen: dict[_State, int],
    rows: list[tuple[Action, list[int]]],
) -> int:
    """The number of a state, its followers made first come first numbered."""
    if state in seen:
        return seen[state]
    action = decide(rule, request, state.attempts, view)
    number = len(rows)
    seen[state] = number
    follows = [-1] * OUTCOMES
    rows.append((action, follows))
    pending = state.pending + (action.deployments if isinstance(action, Try) else ())
    if isinstance(action, Stop | Refuse) or not pending:
        return number
    deployment, rest = pending[0], pending[1:]
    groups = 1 + max((one.answer for one in state.attempts), default=-1)
    for outcome in (FAILED, SERVED, PASSED, REJECTED, *(GROUP0 + g for g in range(min(GROUPS, groups + 1)))):
        attempt = attempt_of(deployment, outcome)
        follows[outcome] = _unroll(rule, request, view, _State((*state.attempts, attempt), rest), seen, rows)
    follows[OVERFLOWED] = follows[MISSED] = follows[FAILED]
    return number


def attempt_of(deployment: str, outcome: int) -> Attempt:
    """The attempt that an outcome stands for."""
    if outcome >= GROUP0:
        return Attempt(deployment, "served", outcome - GROUP0)
    return Attempt(deployment, _ENDED[outcome])


def _keys(rule: Rule) -> list[tuple[str, bool, str, str]]:
    """What can set two requests apart at the start: gate, deferred, last deployment, pick (and task)."""
    guard = rule.guard
    gates = [_OPEN]
    if guard is not None:
        gates += ["input"] * (guard.most_input_tok is not None) + ["output"] * (
            guard.most_output_tok is not None
        )
        gates += ["budget"] * (guard.usd is not None) + [_SOFT] * bool(guard.then)
    lasts = ["", *(rule.sticky.among if rule.sticky else ())]
    picks = [f"{pick}\t{task}" for pick in _picks(rule.choose) for task in task_names(rule)]
    return list(product(gates, [False, True] if rule.defer else [False], lasts, picks))


def _picks(choice: Choice) -> list[str]:
    match choice:
        case Fixed():
            return [choice.deployment]
        case Split():
            return list(dict.fromkeys(share.deployment for share in choice.shares))
        case ByTask():
            return list(dict.fromkeys(choice.tasks.values()))
        case Router():
            return [choice.cheap, choice.strong]
        case Cascade():
            return [""]


def task_names(rule: Rule) -> list[str]:
    """Tasks that the rule names beyond its choice of a deployment; ``*`` stands for any other."""
    named = list(rule.first.tasks) if rule.first else []
    if isinstance(rule.choose, Cascade):
        named += [task for one in rule.choose.accept for task in (*one.tasks, *one.but)]
    return list(dict.fromkeys([*(name for name in named if name != STRONG), STRONG]))


def _typical(rule: Rule, key: tuple[str, bool, str, str]) -> tuple[Request, View, Rule]:
    """A request, a view and a rule without chance that stand for all requests of a key."""
    gate, deferred, last, both = key
    pick, _, task = both.partition("\t")
    guard = rule.guard
    spent, input_tok, output_tok = -1.0, 0, 0
    if guard is not None:
        input_tok = (guard.most_input_tok or 0) + 1 if gate == "input" else 0
        output_tok = (guard.most_output_tok or 0) + 1 if gate == "output" else 0
        if gate == "budget":
            spent = guard.usd or 0.0
        elif gate == _SOFT:
            # Between the two bars; where they are one, no request is here.
            spent = guard.soft_frac * (guard.usd or 0.0)
    wait = rule.defer.wait_s if rule.defer is not None and deferred else None
    request = Request("", "", 0, 0, "", "" if task == STRONG else task, None, input_tok, output_tok, wait)
    single = rule if not pick else msgspec.structs.replace(rule, choose=Fixed(pick))
    return request, View(spent, last), single


def entries(rule: Rule, table: Table, columns: Columns, tasks: Sequence[str]) -> Int32:
    """State in which each request starts, (n,)."""
    n = len(columns.sequence)
    deferred = np.zeros(n, np.bool_)
    if rule.defer is not None:
        deferred = np.nan_to_num(columns.wait_s, nan=-1.0) >= rule.defer.wait_s
    known = set(task_names(rule))
    plain = [task if task in known else STRONG for task in tasks] or [STRONG]
    task = np.minimum(columns.task, len(plain) - 1) if tasks else np.zeros(n, np.int64)
    among = set(rule.sticky.among) if rule.sticky else set()
    lasts = [*(name if name in among else "" for name in table.names), ""]
    gates, gate = _gates(rule, columns)
    picks, pick = _picked(rule.choose, columns, tasks)
    # Few requests differ in what sets them apart: each kind is looked up once.
    sizes = (len(gates), 2, len(lasts), len(picks), len(plain))
    mixed = np.ravel_multi_index(
        (gate, deferred.astype(np.int64), columns.last % len(lasts), pick, task), sizes
    )
    state = np.full(int(np.prod(sizes)), -1, np.int32)
    for kind in np.flatnonzero(np.bincount(mixed, minlength=len(state))):
        g, d, last, p, t = (int(k) for k in np.unravel_index(kind, sizes))
        state[kind] = table.starts[gates[g], bool(d), lasts[last], f"{picks[p]}\t{plain[t]}"]
    return np.asarray(state[mixed], np.int32)


def _gates(rule: Rule, columns: Columns) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Gates by name, and the code of each request's."""
    names = [_OPEN, _SOFT, "budget", "output", "input"]
    gate = np.zeros(len(columns.sequence), np.int64)
    guard = rule.guard
    if guard is None:
        return names, gate
    if guard.usd is not None:
        if guard.then:
            gate[columns.spent_usd >= guard.soft_frac * guard.usd] = 1
        gate[columns.spent_usd >= guard.usd] = 2
    if guard.most_output_tok is not None:
        gate[columns.output_tok > guard.most_output_tok] = 3
    if guard.most_input_tok is not None:
        gate[columns.input_tok > guard.most_input_tok] = 4
    return names, gate


def _picked(
    choice: Choice, columns: Columns, tasks: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Deployments that a choice without steps may give, and the code of each request's."""
    n = len(columns.sequence)
    match choice:
        case Fixed():
            return [choice.deployment], np.zeros(n, np.int64)
        case Split():
            names = [share.deployment for share in choice.shares]
            number = keys(columns.sequence, columns.session, choice.by_session)
            return names, np.asarray(assign_shares(choice.shares, columns.hour, number), np.int64)
        case ByTask():
            each = [choice.tasks.get(task, choice.tasks[STRONG]) for task in tasks] or [choice.tasks[STRONG]]
            return each, np.minimum(columns.task, len(each) - 1).astype(np.int64)
        case Router():
            hard = np.isnan(columns.score) | (columns.score >= choice.bar)
            return [choice.cheap, choice.strong], hard.astype(np.int64)
        case Cascade():
            return [""], np.zeros(n, np.int64)


def with_chances(
    rule: Rule,
    table: Table,
    seen: Mapping[str, float],
    by_task: Mapping[str, Mapping[str, float]] = {},
) -> Table:
    """A cascade's table with the chance of each outcome, from how often each pattern was seen (of all
    questions; ``by_task`` of those of a task).

    ``seen`` maps patterns (``A``, ``AA``, ``AB``, ``A-``) to shares; an answer that cannot be compared
    (``-``) is an answer all the same. What follows a pattern that never came stays unknown.
    """
    choice = rule.choose
    if not isinstance(choice, Cascade):
        return table
    chance = table.chance.copy()
    nobody: tuple[str, ...] = ()
    named = task_names(rule)
    others = next((mine for task, mine in by_task.items() if task not in named), seen)
    waiting = []
    for (_, _, _, both), start in table.starts.items():
        task = both.partition("\t")[2]
        waiting.append((start, "", nobody, others if task == STRONG else by_task.get(task, seen)))
    done: set[int] = set()
    while waiting:
        s, before, pending, mine = waiting.pop()
        if s in done or table.op[s] not in (TRY, WAIT):
            continue
        done.add(s)
        begun = table.targets[table.first[s] : table.first[s] + table.count[s]]
        pending = (*pending, *(table.names[k] for k in begun))
        is_asked = pending[0] in choice.ask
        shares = np.zeros(OUTCOMES)
        for outcome in np.flatnonzero(table.after[s] >= 0).tolist():
            letter = chr(ord("A") + outcome - GROUP0) if outcome >= GROUP0 else "-"
            told = before + letter if is_asked else before
            if is_asked and outcome >= SERVED and outcome not in (PASSED, REJECTED):
                shares[outcome] = mine.get(told, 0.0)
            waiting.append((int(table.after[s, outcome]), told, pending[1:], mine))
        if shares.any():
            chance[s] = shares / shares.sum()
    return replace(table, chance=chance)


def redrawn(seen: Seen | Group, draw: int | tuple[int, int]) -> dict[str, float]:
    """The chances as another set of as many questions may have shown them: one draw of what is not known.

    What follows a pattern is drawn from the Dirichlet distribution of its counts (the Bayesian bootstrap),
    pattern by pattern, so that the shares still sum to their pattern's.

    >>> drawn = redrawn(Seen(100, {"A": 1.0, "AA": 0.7, "AB": 0.3}), 1)
    >>> drawn["A"], round(drawn["AA"] + drawn["AB"], 9), drawn["AA"] == 0.7
    (1.0, 1.0, False)
    """
    random = np.random.default_rng(draw)
    out = {"": 1.0}
    for before in ["", *sorted(seen.chance, key=lambda name: (len(name), name))]:
        after = [name for name in seen.chance if name[:-1] == before and name and seen.chance[name] > 0]
        if after:
            counts = np.array([seen.chance[name] * seen.questions for name in after])
            shares = random.dirichlet(np.maximum(counts, LEAST_COUNT))
            out |= {name: out[before] * float(share) for name, share in zip(after, shares, strict=True)}
        out |= {name: 0.0 for name in seen.chance if name[:-1] == before and name not in out}
    return {name: out[name] for name in seen.chance}
