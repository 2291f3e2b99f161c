"""The compiled closed loop: a rule as a table, deployments that answer, requests that try in turn.

Import this module only where a kernel runs. ``isocost.replay.closed`` is the door and states the semantics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.replay.compiled import compiled
from isocost.replay.engine_kernel import route
from isocost.replay.engine_steps import compose_group, draw, finish, leap, start, steps_alike
from isocost.replay.engine_tables import (
    BOUNDARY,
    COMPUTED,
    EMITTED,
    END,
    HELD,
    IDLE,
    KEPT,
    LAST_PS,
    MADE,
    MODE,
    N_CUR,
    NEVER,
    NEXT_PS,
    NOW,
    OVERFLOWED,
    RUNNING,
    STEPS,
    TOO_LARGE,
    UNFINISHED,
    Engine,
    Fleet,
    Load,
    Out,
    Rules,
)

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]
F64 = NDArray[np.float64]

STOP, TRY, WAIT = 0, 1, 2
FAILED, OVER, MISSED, ANSWERED, GROUP0, OUTCOMES = 0, 1, 2, 3, 6, 11
PENDING, HIDDEN = -1, -2
ARRIVES, BEGINS, ENDS = 0, 1, 2
LIMITED, OUTAGE, ERROR, HANG, CUT, GIVEN_UP = 1, 2, 3, 4, 5, 6
MADE_PART, WHOLE_PART, NOTHING_PART = 0, 1, 2
WHOLE, UNBILLED = 1 << 20, -1
MINUTE_PS = 60e12
METERS = 4


class Machine(NamedTuple):
    """A rule: see :class:`isocost.policy.table.Table`; ``streams`` (S,): whoever answers is shown at once.

    ``likely`` (S, 11) cumulative chances in 2**-31, of outcomes that are drawn.
    """

    op: I8
    first: I32
    many: I32
    targets: I32
    stagger_ps: I64
    before_ps: I64
    after: I32
    streams: I8
    likely: I64


class World(NamedTuple):
    """Deployments (D,): ``pool`` -1 where one answers after ``ttft_ps``, ``e2e_ps`` (n, D).

    ``told`` (n, D): how an answer is judged (-1: drawn); ``answer`` (n, D): which it is, -1 unknown, for
    rules that compare; ``cost`` (n, D) in nano-dollars, spent where an attempt begins, and ``cost_in``, the
    part of it that is for input; ``given_up`` (D,): what of an attempt is billed that nobody waits for any
    more. ``entry`` (n, 3): where a request starts, and once ``soft`` and ``hard`` are
    spent.
    """

    arrival_ps: I64
    pool: I32
    ttft_ps: I64
    e2e_ps: I64
    told: I8
    answer: I32
    cost: I64
    cost_in: I64
    given_up: I8
    entry: I32
    soft: int
    hard: int
    seed: int


class Faults(NamedTuple):
    """How deployments (D,) that answer after a known time fail; chances are in 2**-31.

    ``row`` (n,) and ``key`` (D,): what draws depend on. ``error``: chance of an error, which comes after one
    of ``error_ps`` (D, k); ``hang``: of no answer within ``hang_ps``; ``timeout_ps``: the longest wait.
    Outages of d are ``window[d]`` to ``window[d + 1]`` of ``from_ps``, ``to_ps`` and ``fails``. ``limit``
    (D,): whose quota is used, -1 none, a refusal comes after ``refused_ps``; ``most`` (L, 4) of requests,
    input, output and all tokens a minute, buckets that hold ``holds`` and have ``level`` as of ``seen_ps``
    (L,); ``asks`` (2, n, D) tokens.
    ``some``: 0 where nothing fails.
    """

    some: int
    seed: int
    row: I64
    key: I64
    error: I64
    error_ps: I64
    hang: I64
    hang_ps: I64
    timeout_ps: I64
    window: I64
    from_ps: I64
    to_ps: I64
    fails: I64
    limit: I32
    refused_ps: I64
    most: F64
    holds: F64
    level: F64
    seen_ps: I64
    asks: I64


class Asked(NamedTuple):
    """Attempts (n, q) in the order begun: deployment, outcome, begin, first token and end; and the requests.

    ``why`` an attempt failed (0: it did not); ``billed``: -1 nothing, else the input and this part of the
    output, in 2**-20.

    ``head``, ``tail`` (n,): attempts told, attempts begun; ``state`` (n,); ``ttft_ps``, ``e2e_ps``,
    ``served`` (n,) deployment; ``heap`` (4, events): time, order, request, what and which attempt.
    """

    deployment: I32
    outcome: I8
    begin_ps: I64
    first_ps: I64
    end_ps: I64
    why: I8
    billed: I32
    head: I32
    tail: I32
    state: I32
    ttft_ps: I64
    e2e_ps: I64
    served: I32
    heap: I64
    size: I64


class Pool(NamedTuple):
    """One pool of replicas as the engine kernel has it; ``attempt`` (n,) which of a request it serves."""

    load: Load
    fleet: Fleet
    engine: Engine
    rules: Rules
    out: Out
    attempt: I32


@compiled
def sooner(heap: I64, a: int, b: int) -> bool:
    """Whether event ``a`` comes before ``b``."""
    return bool(heap[0, a] < heap[0, b] or (heap[0, a] == heap[0, b] and heap[1, a] < heap[1, b]))


@compiled
def swap(heap: I64, a: int, b: int) -> None:
    """Exchange two events."""
    for row in range(4):
        kept = heap[row, a]
        heap[row, a] = heap[row, b]
        heap[row, b] = kept


@compiled
def put(asked: Asked, time_ps: int, i: int, what: int, attempt: int) -> None:
    """An event of request ``i``; those of one moment come in the order in which they were put."""
    heap = asked.heap
    at = asked.size[0]
    asked.size[0] += 1
    heap[0, at] = time_ps
    heap[1, at] = asked.size[1]
    asked.size[1] += 1
    heap[2, at] = i
    heap[3, at] = what + 4 * attempt
    while at > 0 and sooner(heap, at, (at - 1) >> 1):
        swap(heap, at, (at - 1) >> 1)
        at = (at - 1) >> 1


@compiled
def take(asked: Asked) -> None:
    """The first event goes."""
    heap = asked.heap
    asked.size[0] -= 1
    size = asked.size[0]
    swap(heap, 0, size)
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and sooner(heap, child + 1, child):
            child += 1
        if not sooner(heap, child, at):
            return
        swap(heap, at, child)
        at = child


@compiled
def enter(i: int, s: int, now: int, machine: Machine, asked: Asked) -> None:
    """Request ``i`` comes to state ``s``: what is tried is begun, at once or later."""
    asked.state[i] = s
    if machine.op[s] != TRY:
        return
    for k in range(machine.many[s]):
        attempt = asked.tail[i]
        asked.tail[i] += 1
        asked.deployment[i, attempt] = machine.targets[machine.first[s] + k]
        asked.outcome[i, attempt] = PENDING
        put(asked, now + machine.before_ps[s] + k * machine.stagger_ps[s], i, BEGINS, attempt)


@compiled
def judged(i: int, attempt: int, world: World, machine: Machine, asked: Asked) -> int:
    """How an answer of request ``i`` is judged: as recorded, else drawn from the state's chances."""
    told: int = world.told[i, asked.deployment[i, attempt]]
    s = asked.state[i]
    mine = world.answer[i, asked.deployment[i, attempt]]
    if told == ANSWERED and mine >= 0 and machine.after[s, GROUP0] >= 0:
        new = 0
        for before in range(asked.head[i]):
            group: int = asked.outcome[i, before] - GROUP0
            if group >= 0:
                if world.answer[i, asked.deployment[i, before]] == mine:
                    return GROUP0 + group
                new = max(new, group + 1)
        return GROUP0 + min(new, OUTCOMES - 1 - GROUP0)
    if told >= 0:
        return told
    u = draw(world.seed, i, attempt)
    for o in range(OUTCOMES):
        if u < machine.likely[s, o]:
            return o
    return ANSWERED


@compiled
def tell(i: int, now: int, world: World, machine: Machine, asked: Asked) -> int:
    """What is known of request ``i``'s attempts, told in the order in which they were begun; what that takes
    off the bill."""
    while asked.e2e_ps[i] < 0 and asked.head[i] < asked.tail[i]:
        attempt = asked.head[i]
        outcome = asked.outcome[i, attempt]
        if outcome == PENDING:
            # A hedge: who answers first is shown, whoever was asked first.
            s = asked.state[i]
            if machine.stagger_ps[s] > 0:
                for later in range(attempt + 1, asked.tail[i]):
                    if asked.outcome[i, later] >= ANSWERED and asked.e2e_ps[i] < 0:
                        asked.e2e_ps[i] = now - world.arrival_ps[i]
                        asked.ttft_ps[i] = asked.first_ps[i, later] - world.arrival_ps[i]
                        asked.served[i] = asked.deployment[i, later]
                        return give_up(i, now, world, asked)
            return 0
        if outcome == HIDDEN:
            outcome = judged(i, attempt, world, machine, asked)
            asked.outcome[i, attempt] = outcome
        s = asked.state[i]
        after = machine.after[s, outcome]
        if after < 0:
            after = machine.after[s, ANSWERED if outcome >= ANSWERED else FAILED]
        asked.head[i] += 1
        if outcome >= ANSWERED:
            asked.served[i] = asked.deployment[i, attempt]
        enter(i, after, now, machine, asked)
        if machine.op[after] != TRY and machine.op[after] != WAIT:
            asked.e2e_ps[i] = now - world.arrival_ps[i]
            shown = outcome >= ANSWERED and machine.streams[s] != 0
            asked.ttft_ps[i] = (asked.first_ps[i, attempt] if shown else now) - world.arrival_ps[i]
            if outcome < ANSWERED:
                asked.served[i] = -1
            if machine.stagger_ps[s] > 0:
                return give_up(i, now, world, asked)
    return 0


@compiled
def give_up(i: int, now: int, world: World, asked: Asked) -> int:
    """A hedge of request ``i`` has answered: its other attempts end here; what that takes off the bill."""
    less = 0
    for attempt in range(asked.tail[i]):
        d = asked.deployment[i, attempt]
        runs = asked.begin_ps[i, attempt] >= 0 and asked.end_ps[i, attempt] < 0
        if runs and world.pool[d] < 0:
            less += paid(i, attempt, world, asked)
            first = asked.begin_ps[i, attempt] + world.ttft_ps[i, d]
            ends = asked.begin_ps[i, attempt] + world.e2e_ps[i, d]
            if asked.why[i, attempt] == 0 or asked.why[i, attempt] == CUT:
                asked.billed[i, attempt] = made(first, ends, now, world.given_up[d])
            asked.end_ps[i, attempt] = now
            asked.why[i, attempt] = GIVEN_UP
            less -= paid(i, attempt, world, asked)
    return less


@compiled
def made(first_ps: int, ends_ps: int, now: int, how: int) -> int:
    """What is billed of an answer that is given up now: its input and a part of its output, in 2**-20."""
    if how == WHOLE_PART:
        return WHOLE
    if how == NOTHING_PART:
        return UNBILLED
    if now <= first_ps:
        return 0
    return int(min(1.0, (now - first_ps) / max(1, ends_ps - first_ps)) * WHOLE)


@compiled
def paid(i: int, attempt: int, world: World, asked: Asked) -> int:
    """What an attempt costs, in nano-dollars."""
    part: int = asked.billed[i, attempt]
    if part < 0:
        return 0
    d = asked.deployment[i, attempt]
    first: int = world.cost_in[i, d]
    whole: int = world.cost[i, d]
    if part >= WHOLE:
        return whole
    return first + (whole - first) * part // WHOLE


@compiled
def admitted(i: int, d: int, now: int, faults: Faults) -> bool:
    """Whether a quota lets an attempt through: buckets that fill evenly."""
    g = faults.limit[d]
    passed = now - faults.seen_ps[g]
    faults.seen_ps[g] = now
    needs_in = float(faults.asks[0, i, d])
    needs_out = float(faults.asks[1, i, d])
    enough = True
    for m in range(METERS):
        most = faults.most[g, m]
        faults.level[g, m] = min(faults.holds[g, m], faults.level[g, m] + most * (passed / MINUTE_PS))
        needs = 1.0 if m == 0 else needs_in if m == 1 else needs_out if m == 2 else needs_in + needs_out
        enough &= faults.level[g, m] >= needs
    if enough:
        faults.level[g, 0] -= 1.0
        faults.level[g, 1] -= needs_in
        faults.level[g, 2] -= needs_out
        faults.level[g, 3] -= needs_in + needs_out
    return enough


@compiled
def outage(d: int, now: int, faults: Faults) -> int:
    """The chance of failing in the outage that a deployment is in, 0 where it is in none."""
    low = faults.window[d]
    high = faults.window[d + 1]
    while low < high:
        middle = (low + high) // 2
        if faults.to_ps[middle] <= now:
            low = middle + 1
        else:
            high = middle
    if low < faults.window[d + 1] and faults.from_ps[low] <= now:
        return int(faults.fails[low])
    return 0


@compiled
def fate(i: int, attempt: int, now: int, world: World, faults: Faults, asked: Asked) -> int:
    """Why an attempt at whatever answers after a known time fails, 0 where it does not; and when it ends.

    The draws depend on request, deployment and how often it was asked before alone: other rules meet the
    same failures.
    """
    d = asked.deployment[i, attempt]
    if faults.limit[d] >= 0 and not admitted(i, d, now, faults):
        asked.end_ps[i, attempt] = now + faults.refused_ps[d]
        return LIMITED
    before = 0
    for other in range(attempt):
        before += asked.deployment[i, other] == d and asked.begin_ps[i, other] >= 0
    place = faults.key[d] + 8 * before
    row = faults.row[i]
    worst = outage(d, now, faults)
    in_outage = worst > 0 and draw(faults.seed, row, place) < worst
    if in_outage or (faults.error[d] > 0 and draw(faults.seed, row, place + 1) < faults.error[d]):
        which = draw(faults.seed, row, place + 2) % faults.error_ps.shape[1]
        asked.end_ps[i, attempt] = now + faults.error_ps[d, which]
        return OUTAGE if in_outage else ERROR
    if faults.hang[d] > 0 and draw(faults.seed, row, place + 3) < faults.hang[d]:
        asked.end_ps[i, attempt] = now + faults.hang_ps[d]
        return HANG
    if world.e2e_ps[i, d] > faults.timeout_ps[d]:
        asked.end_ps[i, attempt] = now + faults.timeout_ps[d]
        return CUT
    asked.end_ps[i, attempt] = now + world.e2e_ps[i, d]
    return 0


@compiled
def ended(i: int, attempt: int, now: int, outcome: int, world: World, machine: Machine, asked: Asked) -> int:
    """An attempt is over; what that takes off the bill."""
    asked.end_ps[i, attempt] = now
    asked.outcome[i, attempt] = outcome
    if outcome == HIDDEN and machine.stagger_ps[asked.state[i]] > 0:
        asked.outcome[i, attempt] = judged(i, attempt, world, machine, asked)
    return tell(i, now, world, machine, asked)


@compiled
def begin_known(i: int, attempt: int, now: int, world: World, faults: Faults, asked: Asked) -> int:
    """An attempt at whatever answers after a known time is begun; what it costs."""
    asked.begin_ps[i, attempt] = now
    d = asked.deployment[i, attempt]
    asked.billed[i, attempt] = WHOLE
    first = now + world.ttft_ps[i, d]
    if faults.some == 0:
        asked.first_ps[i, attempt] = first
        put(asked, now + world.e2e_ps[i, d], i, ENDS, attempt)
        return int(world.cost[i, d])
    why = fate(i, attempt, now, world, faults, asked)
    ends = asked.end_ps[i, attempt]
    asked.end_ps[i, attempt] = -1
    asked.why[i, attempt] = why
    if why == CUT:
        whole = now + world.e2e_ps[i, d]
        asked.billed[i, attempt] = made(first, whole, ends, world.given_up[d])
    elif why != 0:
        asked.billed[i, attempt] = UNBILLED
    else:
        asked.first_ps[i, attempt] = first
    put(asked, ends, i, ENDS, attempt)
    return paid(i, attempt, world, asked)


@compiled
def begin_in(pool: Pool, i: int, attempt: int, now: int, world: World, machine: Machine, asked: Asked) -> int:
    """An attempt at a pool is begun; what it costs."""
    asked.begin_ps[i, attempt] = now
    asked.billed[i, attempt] = WHOLE
    if pool.out.status[i] == TOO_LARGE:
        asked.billed[i, attempt] = UNBILLED
        return -ended(i, attempt, now, FAILED, world, machine, asked)
    row = pool.load.state[i]
    row[COMPUTED] = 0
    row[MADE] = 0
    row[EMITTED] = 0
    row[HELD] = 0
    row[KEPT] = 0
    pool.load.arrival_ps[i] = now
    pool.out.status[i] = UNFINISHED
    pool.attempt[i] = attempt
    route(i, now, pool.load, pool.fleet, pool.engine, pool.rules, pool.out)
    if pool.out.status[i] == OVERFLOWED:
        asked.billed[i, attempt] = UNBILLED
        return -ended(i, attempt, now, OVER, world, machine, asked)
    return paid(i, attempt, world, asked)


@compiled
def finish_step(p: int, g: int, world: World, machine: Machine, pools: tuple[Pool, ...], asked: Asked) -> int:
    """The step in flight of replica ``g`` of pool ``p`` ends, and who has all tokens is told; what that takes
    off the bill."""
    pool = pools[p]
    ranks = pool.engine.ranks
    n = 0
    for q in range(g * ranks, (g + 1) * ranks):
        for c in range(pool.fleet.rank[q, N_CUR]):
            i = pool.fleet.cur[q, c]
            if i >= 0 and pool.load.state[i, EMITTED] + pool.fleet.cur_tok[q, c] >= pool.load.output_tok[i]:
                pool.fleet.order[n] = i
                n += 1
    finish(g, pool.load, pool.fleet, pool.engine, pool.out)
    now = pool.fleet.group[g, NOW]
    less = 0
    for k in range(n):
        i = pool.fleet.order[k]
        attempt = pool.attempt[i]
        asked.first_ps[i, attempt] = pool.load.arrival_ps[i] + pool.out.ttft_ps[i]
        less += ended(i, attempt, now, HIDDEN, world, machine, asked)
    return less


@compiled
def compose_step(pool: Pool, g: int, until_ps: int) -> None:
    """Replica ``g`` starts its next step, or many that only decode, or is idle."""
    s = pool.fleet.group[g]
    if s[NOW] > LAST_PS:
        raise OverflowError("the replay runs past the last time that picoseconds can count")
    alike = steps_alike(g, pool.load, pool.fleet, pool.engine)
    if alike > 1:
        done = s[STEPS]
        leap(g, alike, until_ps, pool.load, pool.fleet, pool.engine)
        if s[STEPS] > done:
            return
    if s[NEXT_PS] < 0 and not compose_group(g, pool.load, pool.fleet, pool.engine, pool.out):
        s[MODE] = IDLE
        return
    start(g, pool.fleet, pool.engine)
    if pool.engine.lag > 0:
        compose_group(g, pool.load, pool.fleet, pool.engine, pool.out)


@compiled
def run(world: World, machine: Machine, pools: tuple[Pool, ...], faults: Faults, asked: Asked) -> int:
    """Play all; what was spent, in nano-dollars. At one moment: steps end, events, steps are composed."""
    n = world.arrival_ps.size
    spent = 0
    coming = 0
    while True:
        event = world.arrival_ps[coming] if coming < n else NEVER
        is_arrival = coming < n
        if asked.size[0] > 0 and asked.heap[0, 0] < event:
            event = asked.heap[0, 0]
            is_arrival = False
        ends = NEVER
        composes = NEVER
        following = NEVER
        end_p = end_g = do_p = do_g = -1
        for p in range(len(pools)):
            group = pools[p].fleet.group
            for g in range(group.shape[0]):
                if group[g, MODE] == RUNNING:
                    if group[g, END] < ends:
                        ends = group[g, END]
                        end_p = p
                        end_g = g
                elif group[g, MODE] == BOUNDARY:
                    if group[g, NOW] < composes:
                        following = composes
                        composes = group[g, NOW]
                        do_p = p
                        do_g = g
                    elif group[g, NOW] < following:
                        following = group[g, NOW]
        if ends == NEVER and event == NEVER and composes == NEVER:
            return spent
        if ends <= event and ends <= composes:
            spent -= finish_step(end_p, end_g, world, machine, pools, asked)
        elif event <= composes:
            if is_arrival:
                i = coming
                coming += 1
                gate = 2 if spent >= world.hard else 1 if spent >= world.soft else 0
                s = world.entry[i, gate]
                enter(i, s, event, machine, asked)
                if machine.op[s] != TRY and machine.op[s] != WAIT:
                    asked.e2e_ps[i] = 0
                    asked.ttft_ps[i] = 0
                continue
            i = asked.heap[2, 0]
            what = asked.heap[3, 0] % 4
            attempt = asked.heap[3, 0] // 4
            take(asked)
            if what == BEGINS:
                # Unless the request has its answer.
                p = world.pool[asked.deployment[i, attempt]]
                if asked.e2e_ps[i] < 0 and p < 0:
                    spent += begin_known(i, attempt, event, world, faults, asked)
                elif asked.e2e_ps[i] < 0:
                    spent += begin_in(pools[p], i, attempt, event, world, machine, asked)
            elif asked.end_ps[i, attempt] < 0:
                outcome = HIDDEN if asked.why[i, attempt] == 0 else FAILED
                spent -= ended(i, attempt, event, outcome, world, machine, asked)
        else:
            until = min(min(event, ends), following)
            compose_step(pools[do_p], do_g, until)
