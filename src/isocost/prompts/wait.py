"""Which requests could wait, what waiting saves, and whether work in order of deadlines is done in time.

A provider sells waiting as a batch, with a stated longest time, or as a flexible tier without a promise. Own
replicas sell it as quiet hours: work that may wait is done when what may not leaves room.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.prompts.pieces import I64
from isocost.prompts.price import Floats, Prices, per_month
from isocost.prompts.result import Band, Filled, Wait, Waiting
from isocost.prompts.sent import Sent
from isocost.trace.schema import numbered_sessions
from isocost.units import NS_PER_H, NS_PER_S

DEADLINES_H = (1.0, 6.0, 24.0)
BINS_AN_H = 12
"""Own replicas are followed in steps of five minutes."""
_OFTEN, _NEVER = 0.2, 0.01
"""Shares of requests from which a session is a talk, and below which answers are never streamed."""
LEAST_HOURS = 3
"""A schedule is seen only where requests come in at least so many hours."""


class Signs(NamedTuple):
    """What a workload's requests show of who waits for them.

    ``regular_frac`` of them come in the busiest five minutes of the hour; ``followed_frac`` of those with a
    session have a later one soon (``None``: no sessions); ``streamed_frac`` have a time to the first token
    before the end (``None``: the log knows of none); ``hours`` in which any came.
    """

    regular_frac: float
    followed_frac: float | None
    hours: int
    streamed_frac: float | None = None


def signs(sent: Sent, rows: I64, follow_up_s: float) -> Signs:
    """Regularity of arrivals and follow-ups within sessions."""
    arrival = sent.table.arrival_ns[rows]
    minute = (arrival % NS_PER_H) * BINS_AN_H // NS_PER_H
    busiest = float(np.bincount(minute, minlength=BINS_AN_H).max()) / max(1, len(rows))
    hours = len(np.unique(arrival // NS_PER_H))
    session = numbered_sessions(sent.table, rows)
    followed: float | None = None
    if session is not None and (mine := session >= 0).any():
        of, when = session[mine], arrival[mine]
        order = np.lexsort((when, of))
        gap = np.diff(when[order])
        again = (of[order][1:] == of[order][:-1]) & (gap <= follow_up_s * NS_PER_S)
        followed = float(again.sum()) / int(mine.sum())
    first = sent.table.ttft_s
    streamed = None if first is None else float(np.isfinite(first[rows]).mean())
    return Signs(busiest, followed, hours, streamed)


def judged(found: Signs, declared_s: float | None, regular_frac: float) -> tuple[str, str]:
    """Whether requests may wait (declared, likely, unlikely, unknown), and why.

    >>> judged(Signs(0.9, 0.0, 24), None, 0.5)[0], judged(Signs(0.1, 0.6, 24), None, 0.5)[0]
    ('likely', 'unlikely')
    """
    if declared_s is not None:
        return "declared", f"its answers may take {declared_s / 3600:g} h"
    if found.followed_frac is not None and found.followed_frac >= _OFTEN:
        return "unlikely", f"{found.followed_frac:.0%} of requests are followed up in their session at once"
    if found.hours >= LEAST_HOURS and found.regular_frac >= regular_frac:
        return "likely", f"{found.regular_frac:.0%} of requests come in the same five minutes of the hour"
    if found.streamed_frac is not None and found.streamed_frac < _NEVER:
        return "likely", "its answers are never streamed, and no session asks again at once"
    return "unknown", 'nothing in the log says who waits: declare it in slo.toml (wait = "24h")'


def waiting(sent: Sent, prices: Prices, declared_s: Mapping[str, float | None]) -> list[Waiting]:
    """Each workload's signs, and what waiting saves at each deadline with today's providers."""
    at = sent.catalog.at(sent.on)
    follow_up_s = at.number("waiting/any", "follow_up_s")
    regular_frac = at.number("waiting/any", "regular_frac")
    found = []
    for workload, rows in by_workload(sent):
        stated = declared_s.get(workload)
        if stated is None and sent.table.deadline_s is not None:
            held = sent.table.deadline_s[rows]
            stated = float(np.nanmin(held)) if np.isfinite(held).any() else None
        mine = signs(sent, rows, follow_up_s)
        may, because = judged(mine, stated, regular_frac)
        today = prices.logged(rows)
        known = np.isfinite(today)
        found.append(Waiting(
            workload=workload,
            requests=len(rows),
            usd_per_month=float(today[known].sum()) * sent.months if known.any() else None,
            may=may,
            because=because,
            declared_h=None if stated is None else stated / 3600.0,
            regular_frac=mine.regular_frac,
            followed_frac=mine.followed_frac,
            waits=_waits(sent, prices, rows, today),
        ))  # fmt: skip
    return found


def by_workload(sent: Sent) -> list[tuple[str, I64]]:
    """Rows of each workload, whatever serves them, the one with most tokens first."""
    names: dict[str, list[I64]] = {}
    for workload, _, rows in sent.streams():
        names.setdefault(workload, []).append(rows)
    return [(name, np.sort(np.concatenate(parts))) for name, parts in names.items()]


def _waits(sent: Sent, prices: Prices, rows: I64, today: Floats) -> list[Wait]:
    """What the cheapest tier in time saves at each deadline: a batch where that is, else a flexible one."""
    at = sent.catalog.at(sent.on)
    batch, flex = prices.logged(rows, "batch"), prices.logged(rows, "flex")
    hours = np.array([_turnaround_h(at, one.provider) for one in sent.offerings] or [np.inf])
    turnaround_h = np.where(sent.serves[rows] >= 0, hours[sent.serves[rows]], np.inf)
    by_batch = np.where(np.isfinite(batch), today - batch, 0.0)
    by_flex = np.where(np.isfinite(flex), today - flex, 0.0)
    return [
        _wait(sent, rows, np.where(turnaround_h <= most_h, by_batch, 0.0), by_flex, most_h)
        for most_h in DEADLINES_H
    ]


def _wait(sent: Sent, rows: I64, by_batch: Floats, by_flex: Floats, hours: float) -> Wait:
    promised = bool(np.nansum(by_batch) >= np.nansum(by_flex)) and bool(np.nansum(by_batch) > 0)
    best = np.maximum(np.nan_to_num(by_batch), 0.0) if promised else np.maximum(np.nan_to_num(by_flex), 0.0)
    if not best.any():
        return Wait(hours, "nothing is sold for it", False, None)
    how = "batch" if promised else "flexible tier, no time promised"
    return Wait(hours, how, promised, Band(*per_month(sent, rows, best)))


def _turnaround_h(at: CatalogAt, provider: str) -> float:
    found = at.find(f"provider/{provider}", "batch_turnaround_h")
    return np.inf if found is None else float(found.value)


def filled(sent: Sent, may_wait: set[str]) -> list[Filled]:
    """Capacity of own replicas with and without waiting: tokens prefilled and written, in steps of 5 minutes.

    Work is what a replica does, in tokens of output, a token of input counting ``waiting/any.input_weight``
    of one. All that may wait has one deadline; capacity is the least at which none is missed, found by
    halving, and proven by a replay of single requests in order of their deadlines.
    """
    table = sent.table
    weight = sent.catalog.at(sent.on).number("waiting/any", "input_weight")
    work = table.output_tok.astype(np.float64) + weight * table.input_tok
    names = sent.trace.names.get("workload", ("",))
    code = np.zeros(len(table), np.int64) if table.workload is None else table.workload.astype(np.int64)
    loose = np.isin(code, [i for i, name in enumerate(names) if name in may_wait])
    if not loose.any() or loose.all() or sent.days < 0.25:
        return []
    step_ns = NS_PER_H // BINS_AN_H
    at = ((table.arrival_ns - table.arrival_ns[0]) // step_ns).astype(np.int64)
    bins = int(at[-1]) + 1
    fixed: Floats = np.bincount(at[~loose], work[~loose], bins).astype(np.float64)
    free: Floats = np.bincount(at[loose], work[loose], bins).astype(np.float64)
    before = float((fixed + free).max())
    found = []
    for hours in DEADLINES_H:
        steps = int(hours * BINS_AN_H)
        capacity = least_capacity(fixed, free, steps)
        missed = missed_deadlines(fixed, at[loose], work[loose], steps, capacity)
        busy = float((fixed + free).sum()) / (capacity * bins) if capacity else 0.0
        found.append(Filled(hours, capacity / before, busy, int(loose.sum()), missed))
    return found


def least_capacity(fixed: Floats, free: Floats, steps: int) -> float:
    """Least work a step (of those in ``fixed`` and ``free``, (n,)) at which all is done within ``steps``.

    What may not wait goes first. Work of one deadline is done in order of arrival, so all is in time exactly
    where what came until a step is done ``steps`` later; the last steps' work may run on after the log.

    >>> import numpy as np
    >>> round(least_capacity(np.array([4.0, 0, 0, 0]), np.array([4.0, 0, 0, 0]), 1), 6)
    4.0
    """
    low, high = float(fixed.max(initial=0.0)), float((fixed + free).max(initial=0.0))
    tail = np.zeros(steps)
    fixed, free = np.concatenate((fixed, tail)), np.concatenate((free, tail))
    due = np.concatenate((np.zeros(steps), np.cumsum(free)[: len(free) - steps]))
    for _ in range(60):
        middle = (low + high) / 2.0
        left, queue = np.maximum(middle - fixed, 0.0), np.cumsum(free)
        # Done until a step: all room so far, less the most of it that ever lay idle (as of a reservoir).
        room = np.cumsum(left)
        done = room + np.minimum.accumulate(np.minimum(queue - room, 0.0))
        if (done + 1e-9 * max(1.0, float(queue[-1])) >= due).all():
            high = middle
        else:
            low = middle
    return high


def missed_deadlines(fixed: Floats, at: I64, work: Floats, steps: int, capacity: float) -> int:
    """Requests not done in time by a replay in order of deadlines: each step does what may not wait first.

    ``at`` (n,) the step in which each arrives, ``work`` (n,) its work.
    """
    waiting_now: list[tuple[int, int]] = []
    left = work.astype(np.float64).copy()
    missed, nxt, n = 0, 0, len(at)
    order = np.argsort(at, kind="stable")
    slack = 1e-6 * max(1.0, float(work.sum()))
    for step in range(len(fixed) + steps + 1):
        while nxt < n and at[order[nxt]] <= step:
            heapq.heappush(waiting_now, (int(at[order[nxt]]) + steps, int(order[nxt])))
            nxt += 1
        room = capacity - (fixed[step] if step < len(fixed) else 0.0)
        while waiting_now and room > 0:
            due, one = waiting_now[0]
            does = min(room, left[one])
            left[one] -= does
            room -= does
            if left[one] > slack / n:
                break
            heapq.heappop(waiting_now)
            missed += step > due
    return missed + len(waiting_now)
