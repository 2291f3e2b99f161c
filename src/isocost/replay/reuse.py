"""What a trace repeats: whole prompts for an exact cache, prefixes for a prompt cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.deployment import CacheRule
from isocost.replay.reuse_kernel import common_blocks, common_tok, held, read_of, sizes
from isocost.trace.kernels import compiled
from isocost.trace.schema import Chunk
from isocost.units import NS_PER_S

if TYPE_CHECKING:
    from isocost.replay.prefix import Blocks

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


def exact_hits(table: Chunk, rows: Rows, ttl_s: float) -> Bools | None:
    """Which requests repeat a whole prompt within ``ttl_s`` of the answer that was stored: (len(rows),).

    ``None`` where the log has no prompt key. The key includes the tenant, so that no tenant ever
    sees another's answer. An entry lives ``ttl_s`` from the request that filled it.
    """
    if table.prompt_key is None:
        return None
    key = table.prompt_key[rows]
    tenant = np.zeros(len(rows), np.int64) if table.tenant is None else table.tenant[rows].astype(np.int64)
    arrival = table.arrival_ns[rows]
    order = np.lexsort((arrival, key, tenant))
    same = np.zeros(len(rows), np.bool_)
    same[1:] = (key[order][1:] == key[order][:-1]) & (tenant[order][1:] == tenant[order][:-1])
    # Rows of an unknown tenant may be of two.
    same[(key[order] < 0) | (tenant[order] < 0)] = False
    hits = np.zeros(len(rows), np.bool_)
    life = int(ttl_s * NS_PER_S)
    filled = 0
    times = arrival[order].tolist()
    for i, repeat in enumerate(same.tolist()):
        if repeat and times[i] - filled <= life:
            hits[order[i]] = True
        else:
            filled = times[i]
    return hits


def prefix_hits(table: Chunk, rows: Rows, block_tok: int, ttl_s: float) -> npt.NDArray[np.int64] | None:
    """Tokens of each request that a provider's prompt cache of life ``ttl_s`` would hold: (len(rows),).

    ``None`` where the log has no prefix blocks.
    """
    if table.block_offsets is None or block_tok <= 0:
        return None
    if table.block_ids is None:
        return None
    from isocost.replay.prefix import blocks_of, time_to_live, time_to_live_of_rows

    arrival, prompt = table.arrival_ns[rows], table.input_tok[rows].astype(np.int64)
    life, arrival = int(ttl_s * NS_PER_S), arrival - (arrival[0] if len(arrival) else 0)
    if table.block_ids.dtype == np.int32:
        numbers = table.block_ids.astype(np.int32, copy=False)
        where = np.asarray(rows, np.int64)
        hits = time_to_live_of_rows(table.block_offsets, numbers, where, arrival, prompt, block_tok, life)
        return np.minimum(hits, prompt)
    prompts = blocks_of(table, rows, prompt, block_tok)
    assert prompts is not None
    return np.minimum(time_to_live(prompts, arrival, life), prompt)


class CacheUse(NamedTuple):
    """What a deployment's prompt cache gives, as parts of its input, and what no cache could exceed.

    ``read_frac`` as replayed or billed; ``bound_frac`` what Belady's rule reads in the same memory with the
    future known; ``endless_frac`` what a cache reads that never forgets; ``memory_tok`` of the cache, 0 where
    it is not known (a provider's): the bound is the endless one then. NaN where the log has no prefixes.
    """

    read_frac: float
    bound_frac: float
    endless_frac: float
    memory_tok: int


def cache_use(
    table: Chunk, rows: Rows, input_tok: Rows, read_tok: int, block_tok: int, memory_tok: int = 0
) -> CacheUse:
    """How far ``read_tok`` cached tokens of ``rows`` are from what any cache of ``memory_tok`` could read."""
    from isocost.replay.prefix import belady, blocks_of, infinite, time_to_live_of_rows

    total = max(1, int(input_tok.sum()))
    read = read_tok / total
    if table.block_offsets is None or table.block_ids is None or block_tok <= 0 or not len(rows):
        return CacheUse(read, np.nan, np.nan, memory_tok)
    prompts = blocks_of(table, rows, input_tok, block_tok) if memory_tok else None
    if prompts is None:
        start, prompt = np.zeros(len(rows), np.int64), np.asarray(input_tok, np.int64)
        numbers = table.block_ids.astype(np.int32, copy=False)
        reads = time_to_live_of_rows(table.block_offsets, numbers, rows, start, prompt, block_tok, 0)
        endless = float(np.minimum(reads, prompt).sum()) / total
        return CacheUse(read, endless, endless, 0)
    bound = belady(prompts, memory_tok // block_tok)
    endless = float(np.minimum(infinite(prompts), input_tok).sum()) / total
    return CacheUse(read, float(np.minimum(bound, input_tok).sum()) / total, endless, memory_tok)


class Life(NamedTuple):
    """How a provider keeps prefixes: ``life_s`` after their last use, of at least ``least_tok`` tokens, read
    in whole steps of ``step_tok``; a request finds ``found_frac`` of what is still alive."""

    life_s: float
    least_tok: int = 0
    step_tok: int = 1
    found_frac: float = 1.0


class Kept(NamedTuple):
    """Of each request, int64 (n,): tokens read from a cache, and written where what is shared is marked."""

    read_tok: npt.NDArray[np.int64]
    written_tok: npt.NDArray[np.int64]


def kept(prompts: Blocks, arrival_ns: npt.NDArray[np.int64], input_tok: Rows, life: Life) -> Kept:
    """What a provider's cache reads of prompts in order of arrival, and writes.

    Written is what was not read of the part that some other request shares: whoever marks what is to be
    kept marks no more than that. Prefixes under ``least_tok`` are neither read nor written.
    """
    from isocost.replay.prefix import time_to_live

    n = len(prompts.offsets) - 1
    if not n:
        return Kept(np.zeros(0, np.int64), np.zeros(0, np.int64))
    whole = np.asarray(input_tok, np.int64)
    alive = np.minimum(time_to_live(prompts, arrival_ns, int(life.life_s * NS_PER_S)), whole)
    alive = np.where(alive >= life.least_tok, alive // life.step_tok * life.step_tok, 0)
    shared = np.empty(n, np.int64)
    visits = np.zeros(prompts.n_nodes, np.int32)
    compiled(common_tok)(prompts.offsets, prompts.nodes, prompts.tok, visits, shared)
    shared = np.minimum(shared, whole)
    written = np.where(shared >= life.least_tok, np.maximum(shared - alive, 0), 0)
    read = alive if life.found_frac == 1.0 else np.floor(alive * life.found_frac).astype(np.int64)
    return Kept(read, written)


def stored(
    prompts: Blocks,
    arrival_ns: npt.NDArray[np.int64],
    life_s: float,
    read_saves_usd: float,
    hold_usd_per_h: float,
) -> tuple[npt.NDArray[np.int64], float]:
    """Tokens read of each prompt (n,) from a cache that is paid by the hour, and what holding it costs.

    A token is held from its first use until ``life_s`` after its last. Blocks are held only where their
    reads, each of which saves ``read_saves_usd`` a token, are worth more than that at ``hold_usd_per_h`` a
    token and hour.
    """
    n, nodes = len(prompts.offsets) - 1, prompts.n_nodes
    arrival = arrival_ns - (arrival_ns[0] if n else 0)
    life = int(life_s * NS_PER_S)
    last, reads, held_ns = np.full(nodes, -1, np.int64), np.zeros(nodes, np.int32), np.zeros(nodes, np.int64)
    compiled(held)(prompts.offsets, prompts.nodes, arrival, life, last, reads, held_ns)
    hold_usd = held_ns / NS_PER_S / 3600.0 * hold_usd_per_h
    worth = reads * read_saves_usd > hold_usd
    read, size = np.empty(n, np.int64), np.zeros(nodes, np.int32)
    last[:] = -1
    compiled(read_of)(prompts.offsets, prompts.nodes, prompts.tok, arrival, life, last, worth, read)
    compiled(sizes)(prompts.offsets, prompts.nodes, prompts.tok, size)
    return read, float((size * hold_usd)[worth].sum())


ReadWrite = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]
"""Tokens of each request read from a provider's cache, and written where writing costs (else ``None``)."""


def provider_cache(table: Chunk, rows: Rows, block_tok: int, rule: CacheRule) -> ReadWrite | None:
    """Reads and writes of each request at a provider's prompt cache; ``None`` without prefix blocks.

    Prefixes shorter than the cache keeps are not read. Where writes cost, what was not read is written of
    the part that another of these requests shares: whoever marks what is to be kept marks no more than that.
    """
    return Prefixes(table, rows, block_tok).cache(rule)


class Prefixes:
    """What some requests share, for many rules: reads are found once a life, shared prefixes once."""

    def __init__(self, table: Chunk, rows: Rows, block_tok: int) -> None:
        self._of = table, rows, block_tok
        self._hits: dict[float, npt.NDArray[np.int64] | None] = {}
        self._shared: npt.NDArray[np.int64] | None = None

    def cache(self, rule: CacheRule) -> ReadWrite | None:
        """What :func:`provider_cache` says of these requests."""
        if rule.life_s not in self._hits:
            self._hits[rule.life_s] = prefix_hits(*self._of, rule.life_s)
        reads = self._hits[rule.life_s]
        if reads is None:
            return None
        reads = np.where(reads >= rule.least_tok, reads, 0)
        if not rule.writes:
            return reads, None
        if self._shared is None:
            self._shared = _shared_tok(*self._of)
        shared = self._shared
        return reads, np.where(shared >= rule.least_tok, np.maximum(shared - reads, 0), 0)


def _shared_tok(table: Chunk, rows: Rows, block_tok: int) -> npt.NDArray[np.int64]:
    """Tokens of each request's prefix that another of the rows has too: (len(rows),)."""
    from isocost.replay.prefix import blocks_of

    whole = table.input_tok[rows].astype(np.int64)
    assert table.block_offsets is not None
    assert table.block_ids is not None
    found = np.empty(len(rows), np.int64)
    if table.block_ids.dtype == np.int32:
        numbers = table.block_ids.astype(np.int32, copy=False)
        visits = np.zeros(int(numbers.max(initial=-1)) + 1, np.int32)
        where = np.asarray(rows, np.int64)
        compiled(common_blocks)(table.block_offsets, numbers, where, visits, found)
        return np.minimum(found * block_tok, whole)
    prompts = blocks_of(table, rows, whole, block_tok)
    assert prompts is not None
    compiled(common_tok)(
        prompts.offsets, prompts.nodes, prompts.tok, np.zeros(prompts.n_nodes, np.int32), found
    )
    return np.minimum(found, whole)
