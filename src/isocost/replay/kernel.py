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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.replay.compiled import compiled
from isocost.replay.terms import BatchLimits, Terms

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
N_PREFILL = 7
FIRST = 8  # first request in prefill, or -1
HEAD = 9  # first request that waits, or -1
TAIL = 10  # last request that was routed here, or -1
LEFT = 11  # tokens still to prefill of the last admitted request
BUSY = 12
COLUMNS = 13

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
    """Prefix blocks: request i holds ``ids[offsets[i]:offsets[i+1]]``; no ``ids`` at all: no prefixes.

    ``block_tok`` (one per id held) is what a hit saves, ``weight_tok`` (blocks) the memory a block
    takes. ``ref`` (r, blocks) counts the requests that use a block, -1 where it is not in memory.
    ``older``/``newer`` (r, blocks + 1) link the blocks that no request uses, in order of use, around
    a sentinel in the last column; ``unused_tok`` (r) is their size.
    """

    offsets: I64
    ids: I32
    block_tok: I32
    weight_tok: I64
    ref: I32
    older: I32
    newer: I32
    unused_tok: I64


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
    for j in range(memory.offsets[i], memory.offsets[i + 1]):
        block = memory.ids[j]
        if memory.ref[r, block] > 0:
            need -= memory.weight_tok[block]
    return need


@compiled
def pin(i: int, r: int, load: Load, memory: Memory, free_tok: int) -> int:
    """Tokens newly pinned for ``i``: its prefix is looked up, its prefill shortened, its blocks held.

    Blocks that no request uses are evicted, oldest first, until the rest fits in what remains of
    ``free_tok`` (memory not pinned before).
    """
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
    pinned: int = load.need_tok[i]
    for j in range(lo, hi):
        block = memory.ids[j]
        if ref[block] > 0:
            ref[block] += 1
            pinned -= memory.weight_tok[block]
            continue
        if ref[block] == 0:
            newer[older[block]] = newer[block]
            older[newer[block]] = older[block]
            memory.unused_tok[r] -= memory.weight_tok[block]
        ref[block] = 1
    while pinned + memory.unused_tok[r] > free_tok:
        block = newer[sentinel]
        newer[sentinel] = newer[block]
        older[newer[block]] = sentinel
        ref[block] = -1
        memory.unused_tok[r] -= memory.weight_tok[block]
    return pinned


@compiled
def unpin(i: int, r: int, load: Load, memory: Memory) -> int:
    """Tokens no longer pinned as ``i`` ends: blocks without users stay as cache, the tail as the oldest."""
    lo = memory.offsets[i]
    sentinel = memory.weight_tok.size
    ref = memory.ref[r]
    older = memory.older[r]
    newer = memory.newer[r]
    freed: int = load.need_tok[i]
    for j in range(memory.offsets[i + 1] - 1, lo - 1, -1):
        block = memory.ids[j]
        ref[block] -= 1
        if ref[block] > 0:
            freed -= memory.weight_tok[block]
            continue
        newest = older[sentinel]
        newer[newest] = block
        older[block] = newest
        newer[block] = sentinel
        older[sentinel] = block
        memory.unused_tok[r] += memory.weight_tok[block]
    return freed


@compiled
def advance(
    r: int, until_ps: int, load: Load, pool: Pool, memory: Memory, batch: tuple[Terms, BatchLimits], out: Out
) -> None:
    """Run replica ``r`` through every step that ends at or before ``until_ps`` and starts before it.

    One long loop over local variables, because state that lives in arrays costs half the speed.
    """
    base_ps, prefill_ps, seq_ps, kv_ps = batch[0]
    budget_tok, seats, capacity_tok = batch[1]
    arrival_ps, input_tok, output_tok, prefill_tok, need_tok, link = load
    has_blocks = memory.ids.size > 0
    keys = pool.last_step[r]
    reqs = pool.last_req[r]
    s = pool.state[r]
    now, step, mode, k, end = s[NOW], s[STEP], s[MODE], s[K], pool.end_ps[r]
    n_run, kv_tok, pinned_tok = s[N_RUN], s[KV], s[PINNED]
    n_prefill, first, head, left_tok, busy = s[N_PREFILL], s[FIRST], s[HEAD], s[LEFT], s[BUSY]
    n_done = 0
    tok_done = 0
    while True:
        if mode >= DECODE:
            if end > until_ps:
                break
            busy += end - now
            now = end
            step += k
            kv_tok += k * n_run
            while n_run > 0 and keys[0] == step:
                i = reqs[0]
                pop(keys, reqs, n_run)
                n_run -= 1
                kv_tok -= input_tok[i] + output_tok[i]
                out.e2e_ps[i] = now - arrival_ps[i]
                n_done += 1
                tok_done += input_tok[i] + output_tok[i]
                pinned_tok -= unpin(i, r, load, memory) if has_blocks else need_tok[i]
            if mode == PREFILL:
                i = first
                while i != head:
                    following = link[i]
                    if following == head and left_tok > 0:
                        break
                    out.ttft_ps[i] = now - arrival_ps[i]
                    n_prefill -= 1
                    if output_tok[i] == 1:
                        out.e2e_ps[i] = now - arrival_ps[i]
                        n_done += 1
                        tok_done += input_tok[i] + 1
                        pinned_tok -= unpin(i, r, load, memory) if has_blocks else need_tok[i]
                    else:
                        push(keys, reqs, n_run, step + output_tok[i] - 1, i)
                        n_run += 1
                        kv_tok += input_tok[i] + 1
                    i = following
                first = i if i != head else -1
            mode = BOUNDARY
        if now >= until_ps:
            end = now
            break
        if n_run == 0 and n_prefill == 0:
            if head < 0:
                mode = IDLE
                end = NEVER
                break
            now = max(now, arrival_ps[head])
        if now > LAST_PS:
            raise OverflowError("the replay runs past the last time that picoseconds can count")
        fits = head >= 0 and n_run + n_prefill < seats
        if fits:
            fits = (
                pinned_tok + (room_for(head, r, load, memory) if has_blocks else need_tok[head])
                <= capacity_tok
            )
        step_ps = base_ps + seq_ps * n_run + kv_ps * kv_tok
        if n_prefill == 0 and not (fits and arrival_ps[head] <= now):
            mode = DECODE
            k = keys[0] - step
            growth = kv_ps * n_run
            end = now + series(k, step_ps, growth)
            if fits and end > arrival_ps[head]:
                k = steps_until(arrival_ps[head] - now, step_ps, growth)
                end = now + series(k, step_ps, growth)
            continue
        mode = PREFILL
        k = 1
        free_tok = budget_tok - n_run
        if n_prefill > 0:
            part = min(left_tok, free_tok)
            left_tok -= part
            free_tok -= part
        while free_tok > 0 and fits and arrival_ps[head] <= now:
            if has_blocks:
                pinned_tok += pin(head, r, load, memory, capacity_tok - pinned_tok)
            else:
                pinned_tok += need_tok[head]
            part = min(prefill_tok[head], free_tok)
            left_tok = prefill_tok[head] - part
            free_tok -= part
            n_prefill += 1
            if first < 0:
                first = head
            head = link[head]
            fits = head >= 0 and n_run + n_prefill < seats
            if fits:
                fits = (
                    pinned_tok + (room_for(head, r, load, memory) if has_blocks else need_tok[head])
                    <= capacity_tok
                )
        end = now + step_ps + prefill_ps * (budget_tok - n_run - free_tok)
    s[NOW], s[STEP], s[MODE], s[K] = now, step, mode, k
    s[N_RUN], s[KV], s[PINNED], s[N_PREFILL] = n_run, kv_tok, pinned_tok, n_prefill
    s[FIRST], s[HEAD], s[LEFT], s[BUSY] = first, head, left_tok, busy
    pool.end_ps[r] = end
    pool.outstanding[r] -= n_done
    pool.outstanding_tok[r] -= tok_done


@compiled
def enqueue(i: int, r: int, load: Load, pool: Pool, memory: Memory, batch: tuple[Terms, BatchLimits]) -> None:
    """Request ``i`` joins the line of replica ``r``; a run of decode steps that it may join is cut short."""
    terms, limits = batch
    s = pool.state[r]
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
    elif s[MODE] == DECODE and s[N_RUN] < limits.max_seqs:
        need = room_for(i, r, load, memory) if memory.ids.size > 0 else load.need_tok[i]
        if s[PINNED] + need <= limits.kv_capacity_tok:
            step_ps = terms.base_ps + terms.seq_ps * s[N_RUN] + terms.kv_ps_per_tok * s[KV]
            growth = terms.kv_ps_per_tok * s[N_RUN]
            s[K] = steps_until(load.arrival_ps[i] - s[NOW], step_ps, growth)
            pool.end_ps[r] = s[NOW] + series(s[K], step_ps, growth)


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
