"""Block caches against plain dictionaries, against an oracle's hit tokens, and against each other."""

from __future__ import annotations

import csv
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadInput, BadLimits, BadTrace
from isocost.replay.prefix import (
    Blocks,
    belady,
    block_sizes,
    blocks,
    fifo,
    infinite,
    lru,
    time_to_live,
    time_to_live_of_rows,
)
from isocost.validate.prefix import read_blocks, validate_prefix

CASES = Path(__file__).parent / "cases" / "prefix_belady.csv"
traces_st = st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=40)


def prompts_of(rows: list[list[int]], block_tok: int = 4) -> Blocks:
    offsets = np.cumsum([0] + [len(row) for row in rows])
    prompt = [max(0, len(row) * block_tok - 1) for row in rows]
    return blocks(offsets, [i for row in rows for i in row], prompt, block_tok)


def chains(rows: list[list[int]]) -> list[list[tuple[int, ...]]]:
    return [[tuple(row[: k + 1]) for k in range(len(row))] for row in rows]


@settings(deadline=None)
@given(traces_st)
def test_nodes_are_prefixes_numbered_as_they_appear(rows) -> None:
    prompts = prompts_of(rows)
    known: dict[tuple[int, ...], int] = {}
    expected = [known.setdefault(chain, len(known)) for row in chains(rows) for chain in row]
    assert prompts.nodes.tolist() == expected
    assert prompts.n_nodes == len(known)


def test_nodes_of_large_ids_and_many_chains() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(-(2**62), 2**62, 300).repeat(20)[rng.permutation(6000)]
    offsets = np.arange(0, 6001, 3)
    prompts = blocks(offsets, ids, np.full(2000, 48), 16)
    known: dict[tuple[int, ...], int] = {}
    expected = [
        known.setdefault(tuple(ids[lo : lo + k + 1].tolist()), len(known))
        for lo in offsets[:-1]
        for k in range(3)
    ]
    assert prompts.nodes.tolist() == expected


def test_block_sizes_sum_to_the_prompt() -> None:
    assert block_sizes([0, 3, 4, 4], [10, 3, 0], 4).tolist() == [4, 4, 2, 3]
    assert block_sizes([0, 3], [4], 4).tolist() == [4, 1, 1]
    assert block_sizes([0, 2, 4], [5, 4], None).tolist() == [3, 3, 2, 2]


def hits(row: list[tuple[int, ...]], cache) -> int:
    """Leading blocks that are cached; each but a prompt's last counts 4 tokens, that one 3."""
    n = 0
    while n < len(row) and row[n] in cache:
        n += 1
    return 4 * n - (n == len(row) and n > 0)


@settings(max_examples=300, deadline=None)
@given(traces_st, st.integers(0, 12))
def test_lru_and_fifo_equal_dictionaries(rows, capacity) -> None:
    """The plain machines, one block at a time: LRU drops leaves only, FIFO what came first."""
    recent: OrderedDict[tuple[int, ...], None] = OrderedDict()
    queue: OrderedDict[tuple[int, ...], None] = OrderedDict()
    lru_tok, fifo_tok = [], []
    for row in chains(rows):
        lru_tok.append(hits(row, recent))
        fifo_tok.append(hits(row, queue))
        held = [chain for chain in row if chain in recent]
        for chain in row:
            if chain in recent:
                recent.move_to_end(chain)
                continue
            if len(recent) >= capacity:
                leaves = [c for c in recent if not any(d[:-1] == c for d in recent) and c not in held]
                if not leaves:
                    break
                del recent[leaves[0]]
            if len(chain) > 1 and chain[:-1] not in recent:
                break
            if capacity:
                recent[chain] = None
        for chain in row:
            if chain not in queue and capacity:
                if len(queue) >= capacity:
                    queue.popitem(last=False)
                queue[chain] = None
    prompts = prompts_of(rows)
    assert lru(prompts, capacity).tolist() == lru_tok
    assert fifo(prompts, capacity).tolist() == fifo_tok


@settings(max_examples=200, deadline=None)
@given(traces_st, st.integers(0, 12))
def test_bounds(rows, capacity) -> None:
    """No cache beats the one without a limit; a large one equals it; LRU and time to live grow with size."""
    prompts = prompts_of(rows)
    most = infinite(prompts)
    total = np.add.reduceat(np.append(prompts.tok, 0), prompts.offsets[:-1]) * (np.diff(prompts.offsets) > 0)
    assert (most <= total).all()
    for policy in (lru, fifo, belady):
        assert (policy(prompts, capacity) <= most).all()
        assert policy(prompts, prompts.n_nodes + 1).tolist() == most.tolist()
    arrival = np.arange(len(rows)) * 10
    lives = [time_to_live(prompts, arrival, life) for life in (0, 10, 25, 10**9)]
    for shorter, longer in pairwise(lives):
        assert (shorter <= longer).all()
    assert lives[-1].tolist() == most.tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 6))
def test_belady_is_optimal_on_single_blocks(ids, capacity) -> None:
    """Where each prompt is one block, Belady with bypass is the optimum: none hits more."""
    prompts = blocks(range(len(ids) + 1), ids, [1] * len(ids), 1)
    best = {frozenset(): 0}
    for i in ids:
        step: dict[frozenset[int], int] = {}
        for held, hit in best.items():
            gain = hit + (i in held)
            options = [held] if i in held else [held, *((held | {i}) - {out} for out in [*held, None])]
            for option in options:
                if len(option) <= capacity:
                    step[frozenset(option)] = max(step.get(frozenset(option), 0), gain)
        best = step
    assert belady(prompts, capacity).sum() == max(best.values())


@settings(max_examples=200, deadline=None)
@given(traces_st, st.lists(st.integers(0, 400), min_size=40, max_size=40), st.sampled_from([0, 300, 3600]))
def test_time_to_live_equals_a_dictionary_of_last_uses(rows, gaps, life) -> None:
    """Also over chosen rows of a table, whose blocks are not copied."""
    arrival = np.cumsum(gaps[: len(rows)])
    used: dict[tuple[int, ...], int] = {}
    expected = []
    for row, now in zip(chains(rows), arrival.tolist(), strict=True):
        expected.append(hits(row, {chain for chain, last in used.items() if now - last <= life}))
        used |= dict.fromkeys(row, now)
    prompts = prompts_of(rows)
    assert time_to_live(prompts, arrival, life).tolist() == expected
    whole = np.array([max(0, len(row) * 4 - 1) for row in rows])
    every = np.arange(len(rows))
    found = time_to_live_of_rows(prompts.offsets, prompts.nodes, every, arrival, whole, 4, life)
    assert found.tolist() == expected
    some = every[::2]
    part = prompts_of([rows[i] for i in some])
    found = time_to_live_of_rows(prompts.offsets, prompts.nodes, some, arrival[some], whole[some], 4, life)
    assert found.tolist() == time_to_live(part, arrival[some], life).tolist()


def test_time_to_live_is_renewed_by_use() -> None:
    prompts = prompts_of([[1], [1], [1], [1]])
    assert time_to_live(prompts, [0, 300, 600, 901], 300).tolist() == [0, 3, 3, 0]


def test_bad_input() -> None:
    with pytest.raises(BadTrace):
        blocks([0, 2], [1], [5], 4)
    with pytest.raises(BadTrace):
        blocks([0, 1], [1], [5, 6], 4)
    with pytest.raises(BadTrace):
        blocks([], [], [], 4)
    with pytest.raises(BadLimits):
        blocks([0, 1], [1], [5], 0)
    with pytest.raises(BadLimits):
        lru(prompts_of([[1]]), -1)
    with pytest.raises(BadTrace):
        time_to_live(prompts_of([[1], [1]]), [5, 1], 10)


def test_oracle_rows_are_equal(data_dir) -> None:
    report = validate_prefix(data_dir / "traces" / "prefix_cache_hits.csv")
    assert (report.answered, report.passed, report.failed) == (48, 48, ())
    assert report.rows == 48 + sum(report.left_out.values())


def test_belady_equals_the_oracle(data_dir) -> None:
    """Hit tokens of kvcache-simulator 0.1.3's optimal policy and ceiling, second half of each trace."""
    with CASES.open(newline="") as lines:
        for row in csv.DictReader(lines):
            prompts = read_blocks(data_dir / "traces", row["trace"])
            assert prompts is not None
            found = belady(prompts, int(row["capacity_blocks"]))[int(row["warmup_requests"]) :].sum()
            assert found == int(row["hit_tokens"]), row


def test_a_wrong_row_fails(data_dir, tmp_path) -> None:
    source = data_dir / "traces" / "prefix_cache_hits.csv"
    head, first, *_ = source.read_text().splitlines()
    (tmp_path / "mooncake_conversation.jsonl").symlink_to(data_dir / "traces" / "mooncake_conversation.jsonl")
    file = tmp_path / "hits.csv"
    columns = dict(zip(head.split(","), first.split(","), strict=True))
    columns["hit_tokens"] = str(int(columns["hit_tokens"]) + 1)
    file.write_text(f"{head}\n{','.join(columns.values())}\n{first.replace('conversation', 'elsewhere')}\n")
    report = validate_prefix(file)
    assert (report.answered, report.passed) == (1, 0)
    assert report.failed == ("conversation/fifo/6",)
    file.write_text(f"{head.replace('policy', 'rule')}\n{first}\n")
    with pytest.raises(BadInput, match="policy"):
        validate_prefix(file)
    with pytest.raises(BadInput):
        validate_prefix(tmp_path / "absent.csv")


def test_other_logs_and_spellings_are_read(tmp_path) -> None:
    """A log of one's own beside the file, counts as tables write them; what cannot be compared has a name."""
    random = np.random.default_rng(4)
    held: dict[tuple[int, ...], None] = {}
    number: dict[tuple[int, ...], int] = {}
    hit_tok, total_tok, room, lines = 0, 0, 9, []
    for i in range(120):
        ids = [int(random.integers(0, 3)) for _ in range(random.integers(1, 6))]
        chain = [tuple(ids[: j + 1]) for j in range(len(ids))]
        hashes = [number.setdefault(block, len(number)) for block in chain]
        cached = next((j for j, block in enumerate(chain) if block not in held), len(chain))
        hit_tok, total_tok = hit_tok + 512 * cached, total_tok + 512 * len(ids)
        for block in reversed(chain):
            held.pop(block, None)
            held[block] = None
        while len(held) > room:
            held.pop(next(iter(held)))
        lines.append(
            f'{{"timestamp": {i}, "input_length": {512 * len(ids)}, "output_length": 3, '
            f'"hash_ids": {hashes}}}'
        )
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    file = tmp_path / "hits.csv"
    head = "trace,window,policy,capacity_blocks,hit_tokens,total_tokens,warmup_requests"
    good = f"mine,all,LRU,{room}.0,{hit_tok},{total_tok},0"
    file.write_text(
        f"{head}\n{good}\nmine,all,lru,9,,1,0\nmine,all,lru,9,1,1,500\nmine,all,magic,9,1,{total_tok},0\n"
        f"mine,all,infinite,9,{infinite(read_blocks(tmp_path, 'mine')).sum()},{total_tok},0\n"
    )
    report = validate_prefix(file)
    assert (report.rows, report.answered, report.passed) == (5, 3, 2)
    assert report.left_out == {"a count is not stated": 1, "its warm-up is longer than its trace": 1}
    assert report.failed == ("mine/magic/9",)
    assert "magic" in report.notes[0]
    most = infinite(read_blocks(tmp_path, "mine")).sum()
    endless = [f"mine,all,Infinite,{room},{most},{total_tok},0" for room in ("", "inf", "-1", "9")]
    file.write_text("\n".join([head, *endless]))
    report = validate_prefix(file)
    assert (report.rows, report.answered, report.passed) == (4, 4, 4)
    file.write_text(f"{head}\n{good.replace('LRU,9.0', 'LRU,inf')}\n")
    with pytest.raises(BadInput, match="capacity_blocks"):
        validate_prefix(file)
    file.write_text(f"{head}\n{good.replace('LRU,9.0', 'LRU,many')}\n")
    with pytest.raises(BadInput, match="many"):
        validate_prefix(file)


def test_traces_of_the_data_folder_are_found(tmp_path, monkeypatch) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "mine.jsonl").write_text(
        '{"timestamp": 0, "input_length": 512, "output_length": 3, "hash_ids": [1]}\n' * 2
    )
    file = tmp_path / "hits" / "hits.csv"
    file.parent.mkdir()
    file.write_text(
        "trace,window,policy,capacity_blocks,hit_tokens,total_tokens,warmup_requests\n"
        "mine,all,lru,4,512,1024,0\n"
    )
    monkeypatch.setenv("ISOCOST_DATA", str(tmp_path))
    assert validate_prefix(file).passed == 1
    monkeypatch.delenv("ISOCOST_DATA")
    with pytest.raises(BadInput, match="no row to compare"):
        validate_prefix(file)
