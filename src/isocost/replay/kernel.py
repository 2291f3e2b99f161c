"""The compiled loop of a continuous-batching fleet: exact, in integer picoseconds, skipping between events.

Import this module only where a kernel runs (it imports numba). ``isocost.replay.queue`` is the door:
it checks the input, calls :func:`run`, and states the semantics; ``isocost.replay.stepwise`` is the
same machine one step at a time, which the tests hold equal to this one bit for bit.

A replica is always in one of four modes: idle; at a step boundary whose step is not yet composed; in
a run of ``K`` decode-only steps; in one step that prefills. A boundary at time t is composed only when
every request that arrived at or before t has been routed. While nothing is prefilled and nothing can
be admitted, the KV cache grows by the number of running sequences each step, so step times are an
arithmetic series and ``K`` steps are one event. Nothing that a later arrival could change is
committed: a run of decode steps stays cuttable until its end has passed.

Requests wait in linked lists over their own indices, so no queue has a limit. Because prefill is first
come first served and a step is cut by its token budget alone, at most one request (the last admitted) is part
prefilled between steps; the requests in prefill are therefore a stretch of the list, FIRST up to HEAD.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.replay.compiled import compiled

if TYPE_CHECKING:
    from isocost.replay.queue import BatchLimits, Terms

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]

NEVER = 2**63 - 1
LAST_PS = 2**62
"""No step may end later: 53 days; a run of steps that starts before stays inside int64."""

# Columns of Pool.state, one row a replica.
NOW = 0  # start of the step or run of steps in flight, or the boundary to compose
STEP = 1  # steps done
MODE = 2
K = 3  # steps in flight
N_RUN = 4  # sequences that decode
KV = 5  # tokens in the cache of the sequences that decode
PINNED = 6  # tokens reserved by admitted requests (shared blocks once)
CACHED = 7  # tokens of blocks in memory that no admitted request uses
N_PREFILL = 8
FIRST = 9  # first request in prefill, or -1
HEAD = 10  # first request that waits, or -1
TAIL = 11  # last request that was routed here, or -1
LEFT = 12  # tokens still to prefill of the last admitted request
BUSY = 13
COLUMNS = 14

IDLE, BOUNDARY, DECODE, PREFILL = 0, 1, 2, 3
ROUND_ROBIN, JSQ, LEAST_TOKENS, PREFIX_AFFINITY = 0, 1, 2, 3
SERVED, OVERFLOWED, TOO_LARGE = 0, 1, 2


class Load(NamedTuple):
    """n requests by arrival: ``need_tok`` is reserved on admission, ``link`` is the next in line."""

    arrival_ps: I64
    input_tok: I64
    output_tok: I64
    prefill_tok: I64
    need_tok: I64
    link: I64


class Pool(NamedTuple):
    """r replicas: ``state`` (r, COLUMNS), end of the step in flight, outstanding, what decodes.

    ``last_step`` and ``last_req`` (r, seats) are binary heaps: requests by the step that ends them.
    """

    state: I64
    end_ps: I64
    outstanding: I64
    outstanding_tok: I64
    last_step: I64
    last_req: I64


class Memory(NamedTuple):
    """Prefix blocks: request i holds ``ids[offsets[i]:offsets[i+1]]``; ``ref`` (r, blocks) is -1 if absent.

    ``older``/``newer`` (r, blocks + 1) link the blocks that no request uses, in order of use, around a
    sentinel in the last column. ``weight_tok`` (blocks) is the memory a block takes, ``block_tok``
    (one per id held) what a hit on it saves. ``tokens`` of size zero: no prefixes.
    """

    offsets: I64
    ids: I64
    block_tok: I64
    weight_tok: I64
    ref: I32
    older: I32
    newer: I32


class Rules(NamedTuple):
    """Routing: one of the constants above; schedule (k); overflow threshold or -1; affinity factor."""

    routing: int
    switch_ps: I64
    n_active: I64
    overflow: int
    affinity_factor: float


class Out(NamedTuple):
    """Results (n), written in place."""

    ttft_ps: I64
    e2e_ps: I64
    replica: I32
    status: I8


@compiled
def push(keys: I64, reqs: I64, size: int, key: int, req: int) -> None:
    """Add ``(key, req)`` to the binary heap of ``size`` entries in ``keys`` and ``reqs``."""
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if keys[parent] <= key:
            break
        keys[i] = keys[parent]
        reqs[i] = reqs[parent]
        i = parent
    keys[i] = key
    reqs[i] = req


@compiled
def pop(keys: I64, reqs: I64, size: int) -> None:
    """Remove the smallest key of the binary heap of ``size`` entries."""
    last = size - 1
    key = keys[last]
    req = reqs[last]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= last:
            break
        if child + 1 < last and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[i] = keys[child]
        reqs[i] = reqs[child]
        i = child
    keys[i] = key
    reqs[i] = req


@compiled
def series(k: int, first: int, growth: int) -> int:
    """Sum of ``k`` step times, the first ``first``, each ``growth`` longer than the one before."""
    return k * first + growth * ((k * (k - 1)) >> 1)


@compiled
def steps_until(gap: int, first: int, growth: int) -> int:
    """Smallest k >= 1 with ``series(k) >= gap``: a floating estimate, corrected in integers."""
    if growth > 0:
        half = first - 0.5 * growth
        k = int(2.0 * gap / (half + math.sqrt(half * half + 2.0 * growth * gap)))
    else:
        k = gap // first
    if k < 1:
        k = 1
    while series(k, first, growth) < gap:
        k += 1
    while k > 1 and series(k - 1, first, growth) >= gap:
        k -= 1
    return k


@compiled
def room_for(i: int, r: int, load: Load, memory: Memory) -> int:
    """Tokens of memory that admitting request ``i`` on replica ``r`` would pin beyond those pinned now."""
    need: int = load.need_tok[i]
    if memory.ids.size == 0:
        return need
    for j in range(memory.offsets[i], memory.offsets[i + 1]):
        block = memory.ids[j]
        if memory.ref[r, block] > 0:
            need -= memory.weight_tok[block]
    return need


@compiled
def pin(i: int, r: int, load: Load, pool: Pool, memory: Memory, capacity_tok: int) -> None:
    """Look up the prefix of ``i``, shorten its prefill by the hits, pin its blocks, evict for room."""
    s = pool.state[r]
    lo = memory.offsets[i]
    hi = memory.offsets[i + 1]
    sentinel = memory.weight_tok.size
    ref = memory.ref[r]
    older = memory.older[r]
    newer = memory.newer[r]
    hit = 0
    for j in range(lo, hi):
        if ref[memory.ids[j]] < 0:
            break
        hit += memory.block_tok[j]
    load.prefill_tok[i] = max(1, load.input_tok[i] - hit)
    private = load.need_tok[i]
    for j in range(lo, hi):
        block = memory.ids[j]
        weight = memory.weight_tok[block]
        private -= weight
        if ref[block] > 0:
            ref[block] += 1
            continue
        if ref[block] == 0:
            newer[older[block]] = newer[block]
            older[newer[block]] = older[block]
            s[CACHED] -= weight
        ref[block] = 1
        s[PINNED] += weight
    s[PINNED] += private
    while s[PINNED] + s[CACHED] > capacity_tok:
        block = newer[sentinel]
        newer[sentinel] = newer[block]
        older[newer[block]] = sentinel
        ref[block] = -1
        s[CACHED] -= memory.weight_tok[block]


@compiled
def unpin(i: int, r: int, load: Load, pool: Pool, memory: Memory) -> None:
    """Give back what ``pin`` took: blocks that nobody uses stay as cache, the tail first to be evicted."""
    s = pool.state[r]
    lo = memory.offsets[i]
    hi = memory.offsets[i + 1]
    sentinel = memory.weight_tok.size
    ref = memory.ref[r]
    older = memory.older[r]
    newer = memory.newer[r]
    private = load.need_tok[i]
    for j in range(hi - 1, lo - 1, -1):
        block = memory.ids[j]
        weight = memory.weight_tok[block]
        private -= weight
        ref[block] -= 1
        if ref[block] == 0:
            newest = older[sentinel]
            newer[newest] = block
            older[block] = newest
            newer[block] = sentinel
            older[sentinel] = block
            s[PINNED] -= weight
            s[CACHED] += weight
    s[PINNED] -= private


@compiled
def complete(i: int, r: int, load: Load, pool: Pool, memory: Memory, out: Out) -> None:
    """Request ``i`` ends at the boundary that replica ``r`` has reached."""
    out.e2e_ps[i] = pool.state[r, NOW] - load.arrival_ps[i]
    pool.outstanding[r] -= 1
    pool.outstanding_tok[r] -= load.input_tok[i] + load.output_tok[i]
    if memory.ids.size == 0:
        pool.state[r, PINNED] -= load.need_tok[i]
    else:
        unpin(i, r, load, pool, memory)


@compiled
def finish(r: int, load: Load, pool: Pool, memory: Memory, out: Out) -> None:
    """The step or run of steps in flight ends: clocks move, sequences end, prefills turn into decodes."""
    s = pool.state[r]
    keys = pool.last_step[r]
    reqs = pool.last_req[r]
    s[BUSY] += pool.end_ps[r] - s[NOW]
    s[NOW] = pool.end_ps[r]
    s[STEP] += s[K]
    s[KV] += s[K] * s[N_RUN]
    step = s[STEP]
    while s[N_RUN] > 0 and keys[0] == step:
        i = reqs[0]
        pop(keys, reqs, s[N_RUN])
        s[N_RUN] -= 1
        s[KV] -= load.input_tok[i] + load.output_tok[i]
        complete(i, r, load, pool, memory, out)
    if s[MODE] == PREFILL:
        i = s[FIRST]
        head = s[HEAD]
        while i != head:
            following = load.link[i]
            if following == head and s[LEFT] > 0:
                break
            out.ttft_ps[i] = s[NOW] - load.arrival_ps[i]
            s[N_PREFILL] -= 1
            if load.output_tok[i] == 1:
                complete(i, r, load, pool, memory, out)
            else:
                push(keys, reqs, s[N_RUN], step + load.output_tok[i] - 1, i)
                s[N_RUN] += 1
                s[KV] += load.input_tok[i] + 1
            i = following
        s[FIRST] = i if i != head else -1
    s[MODE] = BOUNDARY


@compiled
def compose(r: int, load: Load, pool: Pool, memory: Memory, terms: Terms, limits: BatchLimits) -> None:
    """Decide what replica ``r`` does from its boundary on, and when that ends if nothing arrives."""
    s = pool.state[r]
    head = s[HEAD]
    if s[N_RUN] == 0 and s[N_PREFILL] == 0:
        if head < 0:
            s[MODE] = IDLE
            pool.end_ps[r] = NEVER
            return
        if load.arrival_ps[head] > s[NOW]:
            s[NOW] = load.arrival_ps[head]
    now = s[NOW]
    if now > LAST_PS:
        raise OverflowError("the replay runs past the last time that picoseconds can count")
    free = limits.kv_capacity_tok - s[PINNED]
    fits = head >= 0 and s[N_RUN] + s[N_PREFILL] < limits.max_seqs and room_for(head, r, load, memory) <= free
    if s[N_PREFILL] == 0 and not (fits and load.arrival_ps[head] <= now):
        k = pool.last_step[r, 0] - s[STEP]
        first = terms.base_ps + terms.seq_ps * s[N_RUN] + terms.kv_ps_per_tok * s[KV]
        growth = terms.kv_ps_per_tok * s[N_RUN]
        if fits and now + series(k, first, growth) > load.arrival_ps[head]:
            k = steps_until(load.arrival_ps[head] - now, first, growth)
        s[MODE] = DECODE
        s[K] = k
        pool.end_ps[r] = now + series(k, first, growth)
        return
    left = limits.prefill_budget_tok - s[N_RUN]
    chunk = 0
    if s[N_PREFILL] > 0:
        chunk = min(s[LEFT], left)
        s[LEFT] -= chunk
        left -= chunk
    while left > 0 and fits and load.arrival_ps[head] <= now:
        if memory.ids.size == 0:
            s[PINNED] += load.need_tok[head]
        else:
            pin(head, r, load, pool, memory, limits.kv_capacity_tok)
        part = min(load.prefill_tok[head], left)
        s[LEFT] = load.prefill_tok[head] - part
        left -= part
        chunk += part
        if s[FIRST] < 0:
            s[FIRST] = head
        s[N_PREFILL] += 1
        head = load.link[head]
        free = limits.kv_capacity_tok - s[PINNED]
        fits = (
            head >= 0
            and s[N_RUN] + s[N_PREFILL] < limits.max_seqs
            and room_for(head, r, load, memory) <= free
        )
    s[HEAD] = head
    s[MODE] = PREFILL
    s[K] = 1
    step_ps = terms.base_ps + terms.prefill_ps_per_tok * chunk
    pool.end_ps[r] = now + step_ps + terms.seq_ps * s[N_RUN] + terms.kv_ps_per_tok * s[KV]


@compiled
def advance(
    r: int, until_ps: int, load: Load, pool: Pool, memory: Memory, rules: tuple[Terms, BatchLimits], out: Out
) -> None:
    """Run replica ``r`` through every step that ends at or before ``until_ps`` and starts before it."""
    s = pool.state[r]
    while True:
        if s[MODE] >= DECODE:
            if pool.end_ps[r] > until_ps:
                return
            finish(r, load, pool, memory, out)
        if s[NOW] >= until_ps:
            pool.end_ps[r] = s[NOW]
            return
        compose(r, load, pool, memory, rules[0], rules[1])
        if s[MODE] == IDLE:
            return


@compiled
def enqueue(i: int, r: int, load: Load, pool: Pool, memory: Memory, rules: tuple[Terms, BatchLimits]) -> None:
    """Request ``i`` joins the line of replica ``r``; a run of decode steps that it may join is cut short."""
    s = pool.state[r]
    terms = rules[0]
    limits = rules[1]
    pool.outstanding[r] += 1
    pool.outstanding_tok[r] += load.input_tok[i] + load.output_tok[i]
    load.link[i] = -1
    if s[TAIL] >= 0:
        load.link[s[TAIL]] = i
    s[TAIL] = i
    if s[HEAD] >= 0:
        return
    s[HEAD] = i
    if s[MODE] == IDLE:
        s[MODE] = BOUNDARY
        s[NOW] = load.arrival_ps[i]
        pool.end_ps[r] = s[NOW]
    elif (
        s[MODE] == DECODE
        and s[N_RUN] < limits.max_seqs
        and room_for(i, r, load, memory) <= limits.kv_capacity_tok - s[PINNED]
    ):
        first = terms.base_ps + terms.seq_ps * s[N_RUN] + terms.kv_ps_per_tok * s[KV]
        growth = terms.kv_ps_per_tok * s[N_RUN]
        s[K] = steps_until(load.arrival_ps[i] - s[NOW], first, growth)
        pool.end_ps[r] = s[NOW] + series(s[K], first, growth)


@compiled
def longest_prefix(i: int, active: int, pool: Pool, memory: Memory, factor: float) -> int:
    """The replica that holds most of the prefix of ``i``, or the least loaded where that one is too busy."""
    least = 0
    for r in range(1, active):
        if pool.outstanding[r] < pool.outstanding[least]:
            least = r
    best = least
    best_blocks = 0
    for r in range(active):
        blocks = 0
        for j in range(memory.offsets[i], memory.offsets[i + 1]):
            if memory.ref[r, memory.ids[j]] < 0:
                break
            blocks += 1
        if blocks > best_blocks or (
            blocks == best_blocks and blocks > 0 and pool.outstanding[r] < pool.outstanding[best]
        ):
            best = r
            best_blocks = blocks
    if pool.outstanding[best] + 1 > factor * (pool.outstanding[least] + 1):
        return least
    return best


@compiled
def choose(i: int, active: int, turn: int, pool: Pool, memory: Memory, rules: Rules) -> int:
    """The replica that request ``i`` goes to, or -1 where all active ones have ``overflow`` outstanding."""
    limit = rules.overflow if rules.overflow >= 0 else NEVER
    if rules.routing == ROUND_ROBIN:
        for hop in range(active):
            r = (turn + hop) % active
            if pool.outstanding[r] < limit:
                return r
        return -1
    if rules.routing == PREFIX_AFFINITY:
        r = longest_prefix(i, active, pool, memory, rules.affinity_factor)
        if pool.outstanding[r] < limit:
            return r
    best = -1
    if rules.routing == LEAST_TOKENS:
        for r in range(active):
            if pool.outstanding[r] < limit and (
                best < 0 or pool.outstanding_tok[r] < pool.outstanding_tok[best]
            ):
                best = r
        return best
    for r in range(active):
        if pool.outstanding[r] < limit and (best < 0 or pool.outstanding[r] < pool.outstanding[best]):
            best = r
    return best


@compiled
def run(
    load: Load,
    pool: Pool,
    memory: Memory,
    rules: Rules,
    batch: tuple[Terms, BatchLimits],
    out: Out,
) -> None:
    """Replay: fills ``out``; busy time and steps are left in ``pool.state``."""
    n = load.arrival_ps.size
    n_replicas = pool.end_ps.size
    # A routing that looks at no replica needs no common clock: deal out, then run each replica alone.
    blind = rules.overflow < 0 and (rules.routing == ROUND_ROBIN or n_replicas == 1)
    active = n_replicas
    switch = 0
    turn = 0
    for i in range(n):
        if out.status[i] != SERVED:
            continue
        now = load.arrival_ps[i]
        while switch < rules.switch_ps.size and rules.switch_ps[switch] <= now:
            active = rules.n_active[switch]
            switch += 1
        if blind:
            r = turn % active
            s = pool.state[r]
            if s[HEAD] < 0:
                s[HEAD] = i
                s[MODE] = BOUNDARY
            else:
                load.link[s[TAIL]] = i
            s[TAIL] = i
            load.link[i] = -1
        else:
            for q in range(n_replicas):
                if pool.end_ps[q] <= now:
                    advance(q, now, load, pool, memory, batch, out)
            r = choose(i, active, turn, pool, memory, rules)
            if r < 0:
                out.status[i] = OVERFLOWED
                continue
            enqueue(i, r, load, pool, memory, batch)
        turn = r + 1
        out.replica[i] = r
    for r in range(n_replicas):
        advance(r, NEVER, load, pool, memory, batch, out)
