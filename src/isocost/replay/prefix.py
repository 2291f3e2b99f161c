"""What a prefix cache would save, per request: LRU, FIFO, Belady, a time to live, or no limit.

A prompt is a row of blocks. A block hits where it and every block before it are in the cache. All
caches look the whole prompt up before they insert any of it, and where a prompt's own blocks compete
for room the tail is given up first, as an inference engine does that allocates a whole prompt at
once. Requests come in the order in which they are given. Sizes of caches are in blocks here; memory
that live requests share with the cache is ``isocost.replay.queue.serve_with_prefixes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits, BadTrace

if TYPE_CHECKING:
    from isocost.trace.schema import Chunk

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]


class Blocks(NamedTuple):
    """Prompts of n requests as blocks.

    Request i holds ``nodes[offsets[i]:offsets[i+1]]``; ``offsets`` int64 (n + 1,); ``nodes`` int32
    (m,), from zero, equal exactly where block and all blocks before it are equal; ``tok`` int32
    (m,) prompt tokens in each; all nodes are below ``n_nodes``.
    """

    offsets: I64
    nodes: I32
    tok: I32
    n_nodes: int


def blocks(
    block_offsets: ArrayLike,
    block_ids: ArrayLike,
    input_tok: ArrayLike,
    block_tok: int | None,
    numbered: bool = False,
) -> Blocks:
    """Prompts as chained blocks.

    ``block_ids`` (m,) may name a block's content or its whole prefix: both give the same chain.
    ``block_tok`` tokens fill each block, the last one takes what is left (at least one token each,
    so a prompt shorter than its blocks counts a token for each block beyond it); ``None`` spreads the
    prompt evenly over its blocks, rounded to whole tokens (halves up). ``numbered`` ids are small
    numbers of whole prefixes already, as :meth:`isocost.trace.schema.Trace.table` gives them.

    Raises ``BadTrace`` where offsets, ids and inputs do not belong together.
    """
    from isocost.replay import prefix_kernel

    if numbered:
        nodes = np.ascontiguousarray(block_ids, np.int32)
        offsets = _checked(np.ascontiguousarray(block_offsets, np.int64), nodes)
        n_nodes = int(nodes.max(initial=-1)) + 1
        return Blocks(offsets, nodes, block_sizes(offsets, input_tok, block_tok), n_nodes)
    ids = np.ascontiguousarray(block_ids, np.int64)
    offsets = _checked(np.ascontiguousarray(block_offsets, np.int64), ids)
    size = 1 << max(4, int(2 * ids.size).bit_length())
    after, name = np.empty_like(ids), np.empty_like(ids)
    nodes = np.empty(ids.size, np.int32)
    with np.errstate(over="ignore"):  # the hash wraps around
        n_nodes = prefix_kernel.chain(offsets, ids, np.full(size, -1, np.int64), after, name, nodes)
    return Blocks(offsets, nodes, block_sizes(offsets, input_tok, block_tok), int(n_nodes))


def block_sizes(block_offsets: ArrayLike, input_tok: ArrayLike, block_tok: int | None) -> I32:
    """Prompt tokens in each block, int32 (m,); the rules of :func:`blocks`."""
    offsets = np.asarray(block_offsets, np.int64)
    prompt = np.asarray(input_tok, np.int64)
    if prompt.shape != (offsets.size - 1,):
        raise BadTrace("one prompt length a request is needed", where="input_tok, block_offsets")
    if block_tok is not None and block_tok < 1:
        raise BadLimits("a block holds at least one token", where="block_tok")
    from isocost.replay import prefix_kernel

    sizes = np.empty(offsets[-1], np.int32)
    prefix_kernel.spread(offsets, _row_sizes(np.diff(offsets), prompt, block_tok), sizes)
    return sizes


def _row_sizes(count: I64, prompt: I64, block_tok: int | None) -> I64:
    """Tokens of each prompt and of each of its blocks, (2, n): what :func:`block_sizes` fills blocks from."""
    if block_tok is not None:
        return np.stack([prompt, np.full_like(prompt, block_tok)])
    even = np.maximum(1, (2 * prompt + count) // np.maximum(1, 2 * count))
    return np.stack([even * count, even])


def infinite(prompts: Blocks) -> I64:
    """Hit tokens per request, int64 (n,), of a cache that never evicts."""
    return time_to_live(prompts, np.zeros(prompts.offsets.size - 1, np.int64), 0)


def time_to_live(prompts: Blocks, arrival_ps: ArrayLike, life_ps: int) -> I64:
    """Hit tokens per request of a cache without limit that drops a block ``life_ps`` after its last use.

    A use at exactly ``life_ps`` still hits, and renews the block (as providers' 5-minute and 1-hour
    prompt caches do). ``arrival_ps`` (n,) sorted.
    """
    from isocost.replay import prefix_kernel

    arrival = np.ascontiguousarray(arrival_ps, np.int64)
    if arrival.shape != (prompts.offsets.size - 1,) or np.any(arrival[1:] < arrival[:-1]):
        raise BadTrace("arrivals must be sorted, one a request", where="arrival_ps")
    if life_ps < 0:
        raise BadLimits("a time to live is not negative", where="life_ps")
    used = np.full(prompts.n_nodes, -(2**63), np.int64)
    hit_tok = np.empty(arrival.size, np.int64)
    first = int(arrival[0]) if arrival.size else 0
    life = min(int(life_ps), 2**62)
    prefix_kernel.ttl(prompts.offsets, prompts.nodes, prompts.tok, used, arrival - first, life, hit_tok)
    return hit_tok


def time_to_live_of_rows(
    block_offsets: I64, numbers: I32, rows: I64, arrival_ps: I64, input_tok: I64, block_tok: int, life_ps: int
) -> I64:
    """:func:`time_to_live` of chosen rows of a table, their blocks not copied: (len(rows),), in their order.

    ``arrival_ps`` and ``input_tok`` are those of the rows. Raises ``BadTrace`` where arrivals are not sorted.
    """
    from isocost.replay import prefix_kernel

    if np.any(arrival_ps[1:] < arrival_ps[:-1]):
        raise BadTrace("arrivals must be sorted, one a request", where="arrival_ps")
    used = np.full(int(numbers.max(initial=-1)) + 1, -(2**63), np.int64)
    sizes = _row_sizes(np.diff(block_offsets)[rows], input_tok, block_tok)
    hit_tok = np.empty(rows.size, np.int64)
    arrays = (block_offsets, numbers, rows, sizes, used, arrival_ps)
    prefix_kernel.ttl_of_rows(*arrays, min(int(life_ps), 2**62), hit_tok)
    return hit_tok


def lru(prompts: Blocks, capacity_blocks: int) -> I64:
    """Hit tokens per request, int64 (n,): the least recently used goes first, of one prompt its tail."""
    from isocost.replay import prefix_kernel

    hit_tok = np.zeros(prompts.offsets.size - 1, np.int64)
    if _capacity(capacity_blocks) and prompts.nodes.size:
        older = np.full(prompts.n_nodes + 1, -1, np.int32)
        newer = np.full(prompts.n_nodes + 1, -1, np.int32)
        older[-1] = newer[-1] = prompts.n_nodes
        room = min(capacity_blocks, prompts.n_nodes)
        prefix_kernel.lru(prompts.offsets, prompts.nodes, prompts.tok, room, older, newer, hit_tok)
    return hit_tok


def fifo(prompts: Blocks, capacity_blocks: int) -> I64:
    """Hit tokens per request, int64 (n,): the first inserted goes first, used or not."""
    from isocost.replay import prefix_kernel

    hit_tok = np.zeros(prompts.offsets.size - 1, np.int64)
    if _capacity(capacity_blocks) and prompts.nodes.size:
        ring = np.full(min(capacity_blocks, prompts.n_nodes), -1, np.int64)
        present = np.zeros(prompts.n_nodes, np.int8)
        prefix_kernel.fifo(prompts.offsets, prompts.nodes, prompts.tok, ring, present, hit_tok)
    return hit_tok


def belady(prompts: Blocks, capacity_blocks: int) -> I64:
    """Hit tokens per request, int64 (n,), by Belady's rule with the whole future known.

    The block whose next use is farthest goes first, among blocks that no other cached block follows
    (a block without its prefix is of no use); one needed later than all of those stays out. The
    yardstick for any policy that one may deploy; with blocks of unequal size it is a rule, not a proof.
    """
    from isocost.replay import prefix_kernel

    n = prompts.offsets.size - 1
    hit_tok = np.zeros(n, np.int64)
    if _capacity(capacity_blocks) and prompts.nodes.size:
        following = np.empty(prompts.nodes.size, np.int32)
        seen = np.full(prompts.n_nodes, n + 1, np.int32)
        prefix_kernel.next_use(prompts.offsets, prompts.nodes, seen, following)
        scratch = np.zeros((6, prompts.n_nodes + 1), np.int64)
        scratch[4] = -1
        arrays = (prompts.offsets, prompts.nodes, prompts.tok, following)
        prefix_kernel.belady(*arrays, int(capacity_blocks), scratch, hit_tok)
    return hit_tok


def _capacity(capacity_blocks: int) -> int:
    """The capacity, refused where it is negative."""
    if capacity_blocks < 0:
        raise BadLimits("a cache cannot hold fewer than no blocks", where="capacity_blocks")
    return capacity_blocks


def blocks_of(table: Chunk, rows: I64, input_tok: ArrayLike, block_tok: int) -> Blocks | None:
    """Prompts of chosen rows of a table, as ``input_tok`` counts them; ``None`` where it has no blocks."""
    if table.block_offsets is None or block_tok <= 0:
        return None
    part = table.take(rows)
    assert part.block_offsets is not None
    assert part.block_ids is not None
    numbered = part.block_ids.dtype == np.int32
    return blocks(part.block_offsets, part.block_ids, input_tok, block_tok, numbered)


def _checked(offsets: I64, ids: I64 | I32) -> I64:
    """The offsets, refused where they do not belong to the ids."""
    if offsets.ndim != 1 or ids.ndim != 1 or offsets.size == 0 or offsets[0] != 0:
        raise BadTrace("offsets start at zero, one more than there are requests", where="block_offsets")
    if offsets[-1] != ids.size or np.any(np.diff(offsets) < 0):
        raise BadTrace("offsets do not rise to the number of ids", where="block_offsets")
    return offsets
