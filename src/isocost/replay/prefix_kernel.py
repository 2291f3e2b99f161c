"""Compiled loops of block caches. Import only where one runs; ``isocost.replay.prefix`` is the door.

Every loop looks the whole prompt up before it inserts anything, writes hit tokens per request into
``hit_tok`` and takes its scratch arrays from the caller. Arrays: ``offsets`` (n + 1), ``nodes`` and
``tok`` (blocks held, int32), nodes dense from zero in order of first appearance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isocost.replay.compiled import compiled

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]


@compiled
def chain(offsets: I64, ids: I64, slot: I64, after: I64, block: I64, nodes: I32) -> int:
    """Number blocks by (node before, id): ``nodes`` filled in order of first appearance; how many there are.

    ``slot`` is an open hash table of -1, a power of two in size; ``after`` and ``block`` hold the key
    of each node.
    """
    mask = slot.size - 1
    n_nodes = 0
    for r in range(offsets.size - 1):
        before = -1
        for j in range(offsets[r], offsets[r + 1]):
            h = (ids[j] * 0x9E3779B1 + before * 0x85EBCA77 + (ids[j] >> 29)) & 0x7FFFFFFFFFFFFFF
            h = (h ^ (h >> 23)) & mask
            while slot[h] >= 0 and (after[slot[h]] != before or block[slot[h]] != ids[j]):
                h = (h + 1) & mask
            if slot[h] < 0:
                slot[h] = n_nodes
                after[n_nodes] = before
                block[n_nodes] = ids[j]
                n_nodes += 1
            before = slot[h]
            nodes[j] = before
    return n_nodes


@compiled
def ttl(offsets: I64, nodes: I32, tok: I32, used: I64, arrival: I64, life: int, hit_tok: I64) -> None:
    """A block lives ``life`` after its last use; ``used`` starts below every ``arrival - life``."""
    for r in range(offsets.size - 1):
        now = arrival[r]
        hit = 0
        for j in range(offsets[r], offsets[r + 1]):
            if used[nodes[j]] < now - life:
                break
            hit += tok[j]
        hit_tok[r] = hit
        for j in range(offsets[r], offsets[r + 1]):
            used[nodes[j]] = now


@compiled
def ttl_of_rows(
    offsets: I64, numbers: I32, rows: I64, sizes: I64, used: I64, arrival: I64, life: int, hit_tok: I64
) -> None:
    """As :func:`ttl`, over ``rows`` of a table, of ``sizes[0, k]`` tokens, ``sizes[1, k]`` a block."""
    for k in range(rows.size):
        now = arrival[k]
        left = sizes[0, k]
        hit = 0
        lo = offsets[rows[k]]
        hi = offsets[rows[k] + 1]
        for j in range(lo, hi):
            if used[numbers[j]] < now - life:
                break
            hit += max(1, min(left, sizes[1, k]))
            left -= sizes[1, k]
        hit_tok[k] = hit
        for j in range(lo, hi):
            used[numbers[j]] = now


@compiled
def spread(offsets: I64, sizes: I64, tok: I32) -> None:
    """Tokens of each block: ``sizes[1]`` a block of what is left of ``sizes[0]``, at least one."""
    for r in range(offsets.size - 1):
        left = sizes[0, r]
        for j in range(offsets[r], offsets[r + 1]):
            tok[j] = max(1, min(left, sizes[1, r]))
            left -= sizes[1, r]


@compiled
def needs(offsets: I64, nodes: I32, tok: I32, weight: I64, prompt: I64, output: I64, need: I64) -> None:
    """``weight`` (nodes): the most tokens that a block holds; ``need`` (n): memory of a request alone."""
    for j in range(nodes.size):
        if tok[j] > weight[nodes[j]]:
            weight[nodes[j]] = tok[j]
    for r in range(offsets.size - 1):
        in_blocks = 0
        memory = 0
        for j in range(offsets[r], offsets[r + 1]):
            in_blocks += tok[j]
            memory += weight[nodes[j]]
        need[r] = max(prompt[r], in_blocks) - in_blocks + memory + output[r]


@compiled
def lru(offsets: I64, nodes: I32, tok: I32, capacity: int, older: I32, newer: I32, hit_tok: I64) -> None:
    """The least recently used goes first; within a prompt, the tail. ``older``: -1 if absent, sentinel last.

    A prompt longer than the cache takes all of it, then gives up its own newest block for the next
    one, which is of no use without that: it is left with what had hit, or all but one block.
    """
    sentinel = older.size - 1
    size = 0
    for r in range(offsets.size - 1):
        lo = offsets[r]
        hi = offsets[r + 1]
        hit = 0
        n_hit = 0
        for j in range(lo, hi):
            if older[nodes[j]] < 0:
                break
            hit += tok[j]
            n_hit += 1
        hit_tok[r] = hit
        keep = hi - lo
        if keep > capacity:
            keep = max(capacity - 1, n_hit)
        for j in range(lo + keep - 1, lo - 1, -1):
            x = nodes[j]
            if older[x] >= 0:
                newer[older[x]] = newer[x]
                older[newer[x]] = older[x]
            elif size < capacity:
                size += 1
            else:
                oldest = newer[sentinel]
                newer[sentinel] = newer[oldest]
                older[newer[oldest]] = sentinel
                older[oldest] = -1
            newest = older[sentinel]
            newer[newest] = x
            older[x] = newest
            newer[x] = sentinel
            older[sentinel] = x
        while size > keep and hi - lo > capacity:
            oldest = newer[sentinel]
            newer[sentinel] = newer[oldest]
            older[newer[oldest]] = sentinel
            older[oldest] = -1
            size -= 1


@compiled
def fifo(offsets: I64, nodes: I32, tok: I32, ring: I64, present: I8, hit_tok: I64) -> None:
    """The first inserted goes first, whatever its use; the head of a prompt is inserted first."""
    at = 0
    for r in range(offsets.size - 1):
        hit = 0
        for j in range(offsets[r], offsets[r + 1]):
            if present[nodes[j]] == 0:
                break
            hit += tok[j]
        hit_tok[r] = hit
        for j in range(offsets[r], offsets[r + 1]):
            x = nodes[j]
            if present[x] == 0:
                if ring[at] >= 0:
                    present[ring[at]] = 0
                ring[at] = x
                present[x] = 1
                at += 1
                if at == ring.size:
                    at = 0


@compiled
def next_use(offsets: I64, nodes: I32, seen: I32, following: I32) -> None:
    """``following`` (blocks held): the next request that holds the same node, n + 1 where none does."""
    n = offsets.size - 1
    for r in range(n - 1, -1, -1):
        for j in range(offsets[r], offsets[r + 1]):
            following[j] = seen[nodes[j]]
        for j in range(offsets[r], offsets[r + 1]):
            seen[nodes[j]] = r


@compiled
def sift(heap: I64, at: I64, key: I64, size: int, i: int) -> None:
    """Put ``heap[i]`` where it belongs: the largest key first, then the largest node; ``at`` is kept."""
    x = heap[i]
    while i > 0:
        parent = (i - 1) >> 1
        y = heap[parent]
        if key[y] > key[x] or (key[y] == key[x] and y > x):
            break
        heap[i] = y
        at[y] = i
        i = parent
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        y = heap[child]
        if child + 1 < size:
            z = heap[child + 1]
            if key[z] > key[y] or (key[z] == key[y] and z > y):
                child += 1
                y = z
        if key[y] < key[x] or (key[y] == key[x] and y < x):
            break
        heap[i] = y
        at[y] = i
        i = child
    heap[i] = x
    at[x] = i


@compiled
def remove(heap: I64, at: I64, key: I64, size: int, i: int) -> None:
    """Take ``heap[i]`` out of a heap of ``size``."""
    at[heap[i]] = -1
    if i != size - 1:
        heap[i] = heap[size - 1]
        at[heap[i]] = i
        sift(heap, at, key, size - 1, i)


@compiled
def belady(
    offsets: I64, nodes: I32, tok: I32, following: I32, capacity: int, scratch: I64, hit_tok: I64
) -> None:
    """The leaf used again last goes first; a block that would be used later than all others stays out.

    ``scratch`` (6, nodes + 1): parent, children, present, key, place in the heap, heap.
    """
    parent = scratch[0]
    children = scratch[1]
    present = scratch[2]
    key = scratch[3]
    at = scratch[4]
    heap = scratch[5]
    leaves = 0
    size = 0
    for r in range(offsets.size - 1):
        lo = offsets[r]
        hi = offsets[r + 1]
        hit = 0
        j = lo
        before = -1
        while j < hi and present[nodes[j]] == 1:
            before = nodes[j]
            key[before] = following[j]
            hit += tok[j]
            j += 1
        hit_tok[r] = hit
        if before >= 0 and at[before] >= 0:
            remove(heap, at, key, leaves, at[before])
            leaves -= 1
        while j < hi:
            x = nodes[j]
            if size >= capacity:
                if leaves == 0 or key[heap[0]] <= following[j]:
                    break
                victim = heap[0]
                remove(heap, at, key, leaves, 0)
                leaves -= 1
                size -= 1
                present[victim] = 0
                up = parent[victim]
                if up >= 0:
                    children[up] -= 1
                    if children[up] == 0 and up != before:
                        heap[leaves] = up
                        leaves += 1
                        sift(heap, at, key, leaves, leaves - 1)
            present[x] = 1
            size += 1
            key[x] = following[j]
            parent[x] = before
            if before >= 0:
                children[before] += 1
            before = x
            j += 1
        if before >= 0 and children[before] == 0:
            heap[leaves] = before
            leaves += 1
            sift(heap, at, key, leaves, leaves - 1)
