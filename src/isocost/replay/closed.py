"""The closed loop: what a rule makes of requests, where waiting, failing and trying again take their time.

A rule (:mod:`isocost.policy.rules`) is compiled to a table (:mod:`isocost.policy.table`) that a kernel
executes over deployments: pools of replicas, which queue (:mod:`isocost.replay.engine`), and whatever
answers after a known time (an API, a cache, a batch queue). An attempt that follows another begins when
that one ends, and joins its pool's line then: load that a cascade sends on is load there.

Attempts of a request are told to the rule in the order in which they were begun. How an answer is judged
is as recorded, else drawn with the table's chances. Time to first token is that of the answer that is
shown: where the rule may still reject it, nothing is shown before it is accepted. A hedge shows whoever
answers first, and what the other made until then is billed. How APIs fail is in
:mod:`isocost.replay.faults`. At one instant: steps end, requests arrive, attempts begin and end, steps are
composed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits, BadTrace
from isocost.policy.table import (
    GROUP0,
    OUTCOMES,
    REFUSE_BUDGET,
    REFUSE_INPUT,
    REFUSE_OUTPUT,
    SERVED,
    STOP,
    TRY,
    WAIT,
    Table,
)
from isocost.replay import engine
from isocost.replay.engine import EngineLimits, Options, StepTerms
from isocost.replay.faults import Faults, billed_of, laid_faults
from isocost.units import PS_PER_S

if TYPE_CHECKING:
    from isocost.replay import closed_kernel as kernel

I64 = NDArray[np.int64]
NANO = 1e9
MOST_ATTEMPTS = 64
SLOTS = 4
UNLIMITED = 2**62


class Known(NamedTuple):
    """A deployment that answers request i after ``ttft_ps[i]``, whole after ``e2e_ps[i]``, at any load."""

    ttft_ps: ArrayLike
    e2e_ps: ArrayLike


class Replicas(NamedTuple):
    """A pool: terms, limits, options (no scaling, no losses), and requests as its model counts them."""

    terms: StepTerms
    limits: EngineLimits
    options: Options
    input_tok: ArrayLike
    output_tok: ArrayLike
    cached_tok: ArrayLike | None = None


class Happened(NamedTuple):
    """What answers are worth and cost, by deployment; each (n,), absent: drawn, unknown, nothing.

    ``judged``: an outcome of :mod:`isocost.policy.table` (SERVED, MISSED, FAILED, PASSED, REJECTED), -1 to
    draw it; ``answer``: a number equal where answers are equal; ``cost_usd`` of an attempt, ``input_usd``
    the part of it for input (absent: nothing), which is billed of an answer that is cut or given up.
    ``soft_usd`` and ``hard_usd``: once so much is spent, requests start at the second and third column of
    ``entry``.
    """

    judged: Mapping[str, ArrayLike] = {}
    answer: Mapping[str, ArrayLike] = {}
    cost_usd: Mapping[str, ArrayLike] = {}
    soft_usd: float = np.inf
    hard_usd: float = np.inf
    seed: int = 0
    input_usd: Mapping[str, ArrayLike] = {}


class Closed(NamedTuple):
    """What became of n requests and their attempts.

    ``ttft_ps``, ``e2e_ps`` (n,) from arrival, -1 without an end; ``served`` (n,) code into the table's
    names of who answered, -1 none (refused, or all failed); ``state`` (n,) in which it ended. Attempts
    (n, q) in the order begun, -1 beyond: ``deployment``, ``outcome``, ``begin_ps``, ``end_ps``; ``why`` one
    failed (see :mod:`isocost.replay.faults`, 0: it did not) and ``billed``: -1 nothing, else the input and
    this part of the output, in 2**-20. ``spent_usd`` on all attempts.
    """

    ttft_ps: I64
    e2e_ps: I64
    served: NDArray[np.int32]
    state: NDArray[np.int32]
    deployment: NDArray[np.int32]
    outcome: NDArray[np.int8]
    begin_ps: I64
    end_ps: I64
    spent_usd: float
    why: NDArray[np.int8]
    billed: NDArray[np.int32]


def serve_closed(
    arrival_ps: ArrayLike,
    table: Table,
    entry: ArrayLike,
    deployments: Mapping[str, Known | Replicas],
    happened: Happened | None = None,
    faults: Faults | None = None,
) -> Closed:
    """Play n requests, sorted by arrival, through a rule's table.

    ``entry`` (n,) or (n, 3): the state in which each starts (:func:`isocost.policy.table.entries`), and
    where the budget's two bars are passed. ``deployments`` has every name of the table. ``faults``: how those
    that answer after a known time fail; left out, they do not.

    Raises ``BadTrace`` for columns that differ in length or arrivals out of order, ``BadLimits`` for a name
    without a deployment or a rule that may try more than 64 times.
    """
    from isocost.replay import closed_kernel as kernel

    happened, faults = happened or Happened(), faults or Faults()
    arrival = np.ascontiguousarray(arrival_ps, np.int64)
    n = arrival.size
    if n and (arrival[0] < 0 or np.any(arrival[1:] < arrival[:-1])):
        raise BadTrace("arrivals are negative or out of order", where="arrival_ps")
    missing = [name for name in table.names if name not in deployments]
    if missing:
        raise BadLimits(f"no deployment {missing[0]!r}", where="deployments")
    starts = np.asarray(entry, np.int32)
    starts = np.repeat(starts[:, None], 3, axis=1) if starts.ndim == 1 else np.ascontiguousarray(starts)
    if starts.shape != (n, 3):
        raise BadTrace("a state to start in is needed for each request", where="entry")
    most, shape = _most_attempts(table), _shape(table)
    pools: list[kernel.Pool] = []
    which = np.full(len(table.names), -1, np.int32)
    times = np.zeros((2, n, len(table.names)), np.int64)
    for d, name in enumerate(table.names):
        found = deployments[name]
        if isinstance(found, Replicas):
            which[d] = len(pools)
            pools.append(_pool(arrival, found, shape))
        else:
            for row, values in zip(times, (found.ttft_ps, found.e2e_ps), strict=True):
                row[:, d] = _column(values, n, name)
    # The kernel is compiled once for each number of pools: four will do for most.
    while not pools or len(pools) % SLOTS:
        pools.append(_pool(arrival[:0], _nobody(), shape))
    bars = [UNLIMITED if np.isinf(usd) else int(usd * NANO) for usd in (happened.soft_usd, happened.hard_usd)]
    cost, cost_in = (
        np.rint(_table(table, usd, n, 0.0) * NANO).astype(np.int64)
        for usd in (happened.cost_usd, happened.input_usd)
    )
    judged = _table(table, happened.judged, n, -1.0 if np.isfinite(table.chance).any() else float(SERVED))
    answer = _table(table, happened.answer, n, -1.0).astype(np.int32)
    world = kernel.World(
        arrival, which, times[0], times[1], judged.astype(np.int8), answer, cost, cost_in,
        billed_of(faults, table.names), starts, bars[0], bars[1], int(happened.seed),
    )  # fmt: skip
    asked = _asked(n, most)
    try:
        failing = laid_faults(faults, table.names, n)
        spent = int(kernel.run(world, _machine(table), tuple(pools), failing, asked))
    except OverflowError as error:
        raise BadTrace(
            "the replay lasts longer than 53 days", fix="split the trace into partitions"
        ) from error
    return Closed(
        asked.ttft_ps, asked.e2e_ps, asked.served, asked.state, asked.deployment, asked.outcome,
        asked.begin_ps, asked.end_ps, spent / NANO, asked.why, asked.billed,
    )  # fmt: skip


class Stopped(NamedTuple):
    """What a guard or a budget stopped: requests, and what their first attempt would have cost."""

    requests: int
    usd: float


def stopped(found: Closed, table: Table, entry: ArrayLike, happened: Happened) -> dict[str, Stopped]:
    """What was refused in a closed loop, by why: ``input``, ``output``, ``budget``.

    ``entry`` as in :func:`serve_closed`; a request that the budget stopped is costed as its first column
    says, where that tries anything.
    """
    starts = np.asarray(entry, np.int32)
    starts = starts if starts.ndim == 1 else starts[:, 0]
    cost = _table(table, happened.cost_usd, starts.size, 0.0)
    told = {}
    for why, op in (("input", REFUSE_INPUT), ("output", REFUSE_OUTPUT), ("budget", REFUSE_BUDGET)):
        rows = np.flatnonzero((table.op[found.state] == op) & (found.e2e_ps >= 0))
        tries = rows[table.op[starts[rows]] == TRY]
        first = table.targets[table.first[starts[tries]]]
        told[why] = Stopped(len(rows), float(cost[tries, first].sum()))
    return told


def _machine(table: Table) -> kernel.Machine:
    from isocost.replay import closed_kernel as kernel

    answered = table.after[:, SERVED:]
    final = ~np.isin(table.op[np.maximum(answered, 0)], (TRY, WAIT)) | (answered < 0)
    streams: NDArray[np.int8] = np.asarray(final.all(axis=1), np.int8)
    chance = np.nan_to_num(table.chance, nan=0.0)
    likely = np.minimum(np.cumsum(chance, axis=1) * 2.0**31, 2.0**31).astype(np.int64)
    op = np.where(table.op == TRY, 1, np.where(table.op == WAIT, 2, 0)).astype(np.int8)
    assert (STOP, TRY, WAIT, GROUP0, OUTCOMES) == (0, 1, 2, kernel.GROUP0, kernel.OUTCOMES)
    stagger, before = (
        np.rint(each * PS_PER_S).astype(np.int64) for each in (table.stagger_s, table.before_s)
    )
    return kernel.Machine(
        op, table.first, table.count, table.targets, stagger, before, table.after, streams, likely
    )


def _asked(n: int, most: int) -> kernel.Asked:
    from isocost.replay import closed_kernel as kernel

    begin, first, end = np.full((3, n, most), -1, np.int64)
    head, tail, state = np.zeros((3, n), np.int32)
    ttft, e2e = np.full((2, n), -1, np.int64)
    return kernel.Asked(
        np.full((n, most), -1, np.int32), np.full((n, most), -1, np.int8), begin, first, end,
        np.zeros((n, most), np.int8), np.full((n, most), -1, np.int32), head, tail, state, ttft, e2e,
        np.full(n, -1, np.int32), np.zeros((4, n * most + 1), np.int64), np.zeros(2, np.int64),
    )  # fmt: skip


def _most_attempts(table: Table) -> int:
    """The most attempts that any way through the table begins."""
    most = np.zeros(len(table.op), np.int64)
    for _ in range(MOST_ATTEMPTS + 1):
        best = np.where(table.after >= 0, most[np.maximum(table.after, 0)], 0).max(axis=1, initial=0)
        more = np.where(table.op == TRY, table.count, 0) + best
        if np.array_equal(more, most):
            return max(1, int(most.max(initial=1)))
        most = more
    raise BadLimits(f"the rule may try more than {MOST_ATTEMPTS} times", where="table")


def _shape(table: Table) -> tuple[int, int]:
    """What is cut of every request's input and output: one trim and one cap, else a rule too fine to play."""
    tries = table.op == TRY
    cut = {
        (int(trim), int(cap)) for trim, cap in zip(table.trim_tok[tries], table.cap_tok[tries], strict=True)
    }
    if len(cut) > 1:
        raise BadLimits("it cuts some attempts and not others", where="rule", fix="Cut all of them")
    trim, cap = cut.pop() if cut else (-1, -1)
    return trim if trim >= 0 else UNLIMITED, cap if cap >= 0 else UNLIMITED


def _pool(arrival: I64, replicas: Replicas, shape: tuple[int, int]) -> kernel.Pool:
    from isocost.replay import closed_kernel as kernel

    options = replicas.options
    if options.scaling is not None or options.losses is not None:
        raise BadLimits("a pool in the closed loop neither scales nor is lost", where="options")
    prompt = np.minimum(np.asarray(replicas.input_tok, np.int64), shape[0])
    output = np.minimum(np.asarray(replicas.output_tok, np.int64), shape[1])
    cached = None if replicas.cached_tok is None else np.minimum(replicas.cached_tok, prompt)
    # The loop moves a request's arrival at a pool to when its attempt there begins: a copy of its own.
    laid = engine.laid_out(arrival.copy(), prompt, output, cached, replicas[:3])
    return kernel.Pool(*laid, np.full(arrival.size, -1, np.int32))


def _nobody() -> Replicas:
    return Replicas(StepTerms(1, 0, 0, 0), EngineLimits(1, 1, 1), Options(), (), ())


def _table(table: Table, columns: Mapping[str, ArrayLike], n: int, absent: float) -> NDArray[np.float64]:
    """Columns by deployment, (n, D)."""
    found = np.full((n, len(table.names)), absent)
    for name, values in columns.items():
        if name in table.names:
            found[:, table.names.index(name)] = _column(values, n, name)
    return found


def _column(values: ArrayLike, n: int, name: str) -> NDArray[np.float64] | I64:
    column = np.asarray(values)
    if column.ndim and column.shape != (n,):
        raise BadTrace("one value a request is needed", where=name)
    return column
