"""Of which task each request of a log is, and what is played where the log does not say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.plan.written.attempts import Rows, Traffic, World
from isocost.policy.rules import STRONG, ByTask, Rule
from isocost.policy.seen import Seen
from isocost.policy.table import LEAST_COUNT, task_names
from isocost.units import plural

NAMED_MOST = 3
"""Tasks that are named in a note."""
BY_COLUMN = "--task-by COLUMN"


class Tasked(NamedTuple):
    """Tasks by name, the code of each of a rule's requests (k,), and which requests' is not known (k,)."""

    names: tuple[str, ...]
    code: Rows
    unknown: npt.NDArray[np.bool_]


def tells_apart(rule: Rule) -> bool:
    """Whether a rule decides by the task."""
    return isinstance(rule.choose, ByTask) or task_names(rule) != [STRONG]


def tasks_of(world: World, one: Traffic, known: Collection[str] = ()) -> Tasked:
    """Tasks of a rule's requests: as the log names them; else of the questions that stand for them; else the
    workload, where the rule has tasks of such names, or they are ``known``. A question without a task says
    nothing, save where the rule was fitted on such questions."""
    k, known = len(one.rows), {*known, *_known(one.rule)}
    names: tuple[str, ...] = ()
    code = np.full(k, -1, np.int64)
    if world.table.task is not None:
        names, code = world.trace.names["task"], world.table.task[one.rows].astype(np.int64)
    if world.answers is not None:
        asked = np.empty(k, np.int64)
        for s in np.unique(one.stream):
            mine = one.stream == s
            asked[mine] = world.answers.task(world.streams[int(s)], one.rows[mine])
        says = np.array([name != "" or "" in known for name in world.answers.tasks])[asked]
        code = np.where((code < 0) & says, len(names) + asked, code)
        names = (*names, *world.answers.tasks)
    if (code < 0).all():
        workloads = tuple(dict.fromkeys(stream.workload for stream in world.streams))
        of = np.array([workloads.index(stream.workload) for stream in world.streams], np.int64)
        if {workloads[c] for c in np.unique(of[one.stream]).tolist()} & known:
            return Tasked(workloads, of[one.stream], np.zeros(k, np.bool_))
    return Tasked((*names, ""), np.where(code < 0, len(names), code), code < 0)


def _known(rule: Rule) -> set[str]:
    """Tasks that a rule names, or that its fit saw."""
    seen = seen_of(rule)
    groups = () if seen is None else seen.groups
    named = list(rule.choose.tasks) if isinstance(rule.choose, ByTask) else []
    return {*task_names(rule), *named, *(task for group in groups for task in group.tasks)} - {STRONG}


def seen_of(rule: Rule) -> Seen | None:
    """What a rule's fit saw."""
    found: Seen | None = getattr(rule.choose, "seen", None)
    return found


def drawn(rule: Rule, found: Tasked, seed: tuple[int, int]) -> Tasked | None:
    """Tasks that are not known drawn as they came to the fit, the shares from the questions that they rest
    on; ``None`` where no fit saw tasks."""
    seen = seen_of(rule)
    counts = {} if seen is None else {task: n for group in seen.groups for task, n in group.tasks.items()}
    if not counts:
        return None
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.maximum(np.array(list(counts.values()), np.float64), LEAST_COUNT))
    lots = random.choice(len(counts), int(found.unknown.sum()), p=shares)
    code = found.code.copy()
    code[found.unknown] = len(found.names) + lots
    return Tasked((*found.names, *counts), code, found.unknown)


def ended(rule: Rule, found: Tasked, costs: Mapping[tuple[str, str], float], *, dearest: bool) -> Tasked:
    """Tasks that are not known as the one that costs least, or most; ``costs`` says what is spent from the
    start of each pick and task."""
    choice, known = rule.choose, set(task_names(rule))
    named = list(choice.tasks) if isinstance(choice, ByTask) else task_names(rule)
    first = next(pick for pick, _ in costs)

    def usd(task: str) -> float:
        pick = choice.tasks[task] if isinstance(choice, ByTask) else first
        return costs[pick, task if task in known else STRONG]

    task = max(named, key=usd) if dearest else min(named, key=usd)
    code = np.where(found.unknown, len(found.names), found.code)
    return Tasked((*found.names, task), code, found.unknown)


def told_tasks(world: World, parts: Sequence[Traffic]) -> list[str]:
    """What is known of the tasks that rules tell apart, in sentences."""
    notes = _stood_in(world, parts)
    for one in (part for part in parts if tells_apart(part.rule)):
        found = tasks_of(world, one)
        seen, whose = seen_of(one.rule), "" if one.rule.workload == STRONG else f" of {one.rule.workload}"
        missing, all_ = int(found.unknown.sum()), len(one.rows)
        counts = {} if seen is None else {task: n for group in seen.groups for task, n in group.tasks.items()}
        if missing:
            which = f"{missing:,} of {all_:,} requests name no task"
            if missing == all_:
                who = "The log names" if world.answers is None else "Neither the log nor OUTCOMES names"
                which = f"{who} {'no ' if world.answers is None else ''}tasks"
            way = "both ends are played, the tasks that cost least and most"
            if counts:
                first = sorted(counts, key=lambda task: -counts[task])
                shares = ", ".join(f"{t} {counts[t] / sum(counts.values()):.0%}" for t in first[:NAMED_MOST])
                more = len(first) - NAMED_MOST
                shares += f" and {plural(more, 'other')}" if more > 0 else ""
                way = (
                    f"they are drawn as they came on the {sum(counts.values()):,} certifying questions"
                    f" ({shares})"
                )
            notes.append(
                f"{which}, and the policy{whose} decides by task: {way}. Name them with {BY_COLUMN} or "
                f"{'--outcomes' if world.answers is None else 'a column task in OUTCOMES'}. Live, a request "
                "without its task goes by the rules for any other (*)"
                + (", which no certificate covers" if counts else "")
            )
        strange = ~found.unknown & np.array([name not in counts for name in found.names])[found.code]
        if counts and strange.any():
            names = sorted({found.names[c] or "(blank)" for c in found.code[strange].tolist()})
            also = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
            notes.append(
                f"{int(strange.sum()):,} of {all_:,} requests are of tasks that the fit did not see "
                f"({', '.join(names[:NAMED_MOST])}{also}): they go by the rules for any other (*), outside "
                "the certificate"
            )
    return notes


def _stood_in(world: World, parts: Sequence[Traffic]) -> list[str]:
    """Requests whose task the log names and OUTCOMES lacks: what answers them is of other tasks."""
    if world.answers is None or world.table.task is None:
        return []
    if not any(world.answers.tasks):
        if not any(tells_apart(one.rule) for one in parts):
            return []
        return ["OUTCOMES names no tasks: any of its questions stands for a request, whatever its task"]
    other, tasks = 0, set()
    for one in parts:
        for s in np.unique(one.stream):
            rows = one.rows[one.stream == s]
            strange = world.answers.stands_in(world.streams[int(s)], rows)
            other += int(strange.sum())
            tasks |= {
                world.trace.names["task"][c] for c in np.unique(world.table.task[rows[strange]]).tolist()
            }
    if not other:
        return []
    which = ", ".join(sorted(tasks)[:NAMED_MOST])
    also = f" and {len(tasks) - NAMED_MOST} more" if len(tasks) > NAMED_MOST else ""
    return [
        f"OUTCOMES has no question of the task of {other:,} requests ({which}{also}): questions of other "
        "tasks stand for them, and say how their answers are judged and graded"
    ]
