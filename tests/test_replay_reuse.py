"""What a prompt cache gives, beside what no cache could exceed; blocks of a table are looked up in place."""

from __future__ import annotations

import numpy as np
import pytest

from isocost.replay.prefix import blocks, time_to_live
from isocost.replay.reuse import cache_use, prefix_hits
from isocost.trace import open_trace
from isocost.trace.schema import Chunk


def table_of(rows: list[list[int]], numbered: bool) -> Chunk:
    n = len(rows)
    ids = np.array([i for row in rows for i in row], np.int32 if numbered else np.int64)
    return Chunk(
        arrival_ns=np.arange(n) * 10**9,
        input_tok=np.array([16 * len(row) for row in rows], np.int32),
        output_tok=np.ones(n, np.int32),
        outcome=np.zeros(n, np.int8),
        block_offsets=np.cumsum([0] + [len(row) for row in rows]),
        block_ids=ids,
    )


ROWS = [[0, 1, 2], [3, 4], [0, 1, 5], [3, 4, 6], [0, 1, 2], [7]]


def test_a_cache_stands_between_nothing_and_belady() -> None:
    table = table_of(ROWS, numbered=True)
    every, prompt = np.arange(6), table.input_tok.astype(np.int64)
    total = int(prompt.sum())
    found = cache_use(table, every, prompt, 32, 16, memory_tok=5 * 16)
    assert found.read_frac == pytest.approx(32 / total)
    assert found.read_frac < found.bound_frac <= found.endless_frac == pytest.approx(7 * 16 / total)
    provider = cache_use(table, every, prompt, 32, 16)
    assert provider.bound_frac == provider.endless_frac == found.endless_frac
    plain = Chunk(table.arrival_ns, table.input_tok, table.output_tok, table.outcome)
    unknown = cache_use(plain, every, prompt, 32, 16)
    assert np.isnan(unknown.bound_frac)


def test_numbers_and_hashes_of_prefixes_hit_alike() -> None:
    some = np.array([0, 2, 3, 4])
    for ttl_s in (1.0, 3.0, 100.0):
        found = [prefix_hits(table_of(ROWS, numbered), some, 16, ttl_s) for numbered in (True, False)]
        assert found[0] is not None
        assert found[1] is not None
        assert found[0].tolist() == found[1].tolist()


def test_a_logs_blocks_are_its_chains(data_dir) -> None:
    """Numbers given while reading say the same as chaining the ids anew."""
    trace = open_trace(data_dir / "traces" / "mooncake_conversation.jsonl")
    table = trace.requests()
    assert table.block_ids is not None
    assert table.block_ids.dtype == np.int32
    prompts = blocks(table.block_offsets, table.block_ids.astype(np.int64), table.input_tok, trace.block_tok)
    assert (prompts.nodes == table.block_ids).all()
    every = np.arange(len(table))
    for life_s in (300, 3600):
        expected = time_to_live(prompts, table.arrival_ns - table.arrival_ns[0], life_s * 10**9)
        found = prefix_hits(table, every, trace.block_tok, float(life_s))
        assert found is not None
        assert found.tolist() == np.minimum(expected, table.input_tok).tolist()
