"""What a trace repeats: whole prompts for an exact cache, prefixes for a prompt cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.deployment import CacheRule
from isocost.trace.schema import NS_PER_S, Chunk

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


ReadWrite = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]
"""Tokens of each request read from a provider's cache, and written where writing costs (else ``None``)."""


def provider_cache(table: Chunk, rows: Rows, block_tok: int, rule: CacheRule) -> ReadWrite | None:
    """Reads and writes of each request at a provider's prompt cache; ``None`` without prefix blocks.

    Prefixes shorter than the cache keeps are not read; where writes cost, all that is not read is
    written, if the whole is long enough to be kept.
    """
    reads = prefix_hits(table, rows, block_tok, rule.life_s)
    if reads is None:
        return None
    reads = np.where(reads >= rule.least_tok, reads, 0)
    if not rule.writes:
        return reads, None
    whole = table.input_tok[rows].astype(np.int64)
    return reads, np.where(whole >= rule.least_tok, whole - reads, 0)
