"""Replay on prefix blocks: equal to the step-by-step loop, and to plain replay where nothing is shared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadLimits, BadTrace
from isocost.replay.prefix import blocks
from isocost.replay.queue import BatchLimits, Terms, serve, serve_with_prefixes
from isocost.replay.stepwise import Prompt, serve_stepwise

terms_st = st.builds(Terms, st.integers(1, 30), st.integers(0, 3), st.integers(0, 5), st.integers(0, 3))
limits_st = st.builds(BatchLimits, st.integers(1, 20), st.integers(1, 6), st.integers(2, 60))


@st.composite
def traces(draw: st.DrawFn):
    """Rows of gap, input, output, ids; few ids, so that prefixes are shared and evicted."""
    block_tok = draw(st.integers(1, 5))
    rows = []
    for _ in range(draw(st.integers(1, 30))):
        ids = draw(st.lists(st.integers(0, 2), max_size=6))
        fill = (
            draw(st.integers(0, 12))
            if not ids
            else (len(ids) - 1) * block_tok + draw(st.integers(1, 2 * block_tok))
        )
        rows.append((draw(st.one_of(st.just(0), st.integers(0, 150))), fill, draw(st.integers(1, 12)), ids))
    return block_tok, rows


@settings(max_examples=400, deadline=None)
@given(traces(), terms_st, limits_st, st.data())
def test_prefixes_skipping_equals_stepping(trace, terms, limits, data) -> None:
    block_tok, rows = trace
    n_replicas = data.draw(st.integers(1, 4))
    fleet = {
        "n_replicas": n_replicas,
        "routing": data.draw(st.sampled_from(["jsq", "round_robin", "least_tokens", "prefix_affinity"])),
        "overflow_outstanding": data.draw(st.sampled_from([-1, -1, 1, 3])),
        "affinity_factor": data.draw(st.sampled_from([1.0, 2.0, 8.0])),
        "schedule": ([300], [data.draw(st.integers(1, n_replicas))]),
    }
    arrival = np.cumsum([row[0] for row in rows])
    ids = [i for row in rows for i in row[3]]
    offsets = np.cumsum([0] + [len(row[3]) for row in rows])
    prompt, output = [row[1] for row in rows], [row[2] for row in rows]
    held = blocks(offsets, ids, prompt, block_tok)
    fast = serve_with_prefixes(arrival, prompt, output, held, terms, limits, **fleet)
    weight = np.zeros(held.n_nodes, int)
    np.maximum.at(weight, held.nodes, held.tok)
    prompts = [
        Prompt(
            int(arrival[i]),
            row[1],
            row[2],
            0,
            tuple(
                (int(held.nodes[j]), int(held.tok[j]), int(weight[held.nodes[j]]))
                for j in range(offsets[i], offsets[i + 1])
            ),
        )
        for i, row in enumerate(rows)
    ]
    slow = serve_stepwise(prompts, terms, limits, **fleet)
    assert fast.status.tolist() == slow.status
    assert fast.replica.tolist() == slow.replica
    assert fast.cached_tok.tolist() == slow.cached_tok
    assert fast.ttft_ps.tolist() == slow.ttft_ps
    assert fast.e2e_ps.tolist() == slow.e2e_ps
    assert fast.busy_ps.tolist() == slow.busy_ps


def test_nothing_shared_is_plain_replay() -> None:
    rng = np.random.default_rng(2)
    n = 500
    arrival = np.cumsum(rng.integers(0, 60, n)) * 10**9
    prompt, output = rng.integers(1, 2000, n), rng.integers(1, 300, n)
    terms, limits = Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000), BatchLimits(1024, 32, 30_000)
    count = -(-prompt // 128)
    offsets = np.concatenate([[0], np.cumsum(count)])
    held = blocks(offsets, np.arange(offsets[-1]), prompt, 128)
    for routing in ("jsq", "round_robin", "least_tokens"):
        plain = serve(arrival, prompt, output, terms, limits, n_replicas=3, routing=routing)
        shared = serve_with_prefixes(
            arrival, prompt, output, held, terms, limits, n_replicas=3, routing=routing
        )
        for a, b in zip(plain, shared[:6], strict=True):
            np.testing.assert_array_equal(a, b)
        assert shared.cached_tok.tolist() == [0] * n


def test_one_prompt_again_and_again() -> None:
    """The second request finds all of the first's prompt but must still compute one token of it."""
    terms, limits = Terms(1000, 7, 0, 0), BatchLimits(100, 4, 60)
    held = blocks([0, 3, 6, 9], [1, 2, 3, 1, 2, 3, 1, 2, 4], [12, 12, 12], 4)
    served = serve_with_prefixes([0, 5000, 10_000], [12] * 3, [2] * 3, held, terms, limits)
    assert served.cached_tok.tolist() == [0, 11, 8]
    assert served.ttft_ps.tolist() == [1000 + 7 * 12, 1000 + 7, 1000 + 7 * 4]


def test_memory_is_shared_with_live_requests() -> None:
    """A cache that a live request's output pushes out is gone; with more memory it is there."""
    terms = Terms(1000, 7, 0, 0)
    held = blocks([0, 3, 3, 6], [1, 2, 3, 1, 2, 3], [12, 0, 12], 4)
    arrivals, prompts, outputs = [0, 10_000, 100_000], [12, 0, 12], [1, 30, 1]
    small = serve_with_prefixes(arrivals, prompts, outputs, held, terms, BatchLimits(100, 4, 37))
    large = serve_with_prefixes(arrivals, prompts, outputs, held, terms, BatchLimits(100, 4, 42))
    assert small.cached_tok.tolist() == [0, 0, 4]  # 37 - 30 leaves room for the first block alone
    assert large.cached_tok.tolist() == [0, 0, 11]


def test_affinity_finds_what_others_scatter() -> None:
    rng = np.random.default_rng(4)
    n, tenants = 2000, 40
    who = rng.integers(0, tenants, n)
    arrival = np.cumsum(rng.integers(0, 40, n)) * 10**9
    ids = np.stack([who * 10 + k for k in range(6)], axis=1).ravel()
    held = blocks(np.arange(0, 6 * n + 1, 6), ids, np.full(n, 600), 100)
    terms, limits = Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000), BatchLimits(1024, 32, 12_000)
    found = {
        routing: serve_with_prefixes(
            arrival, [600] * n, [20] * n, held, terms, limits, n_replicas=8, routing=routing
        ).cached_tok.sum()
        for routing in ("jsq", "prefix_affinity")
    }
    assert found["prefix_affinity"] > 1.5 * found["jsq"]


def test_affinity_breaks_ties_by_load() -> None:
    """The first replica is left at three times the other's load (+ 1); then both hold the prompt."""
    terms, limits = Terms(1000, 7, 0, 0), BatchLimits(100, 8, 4000)
    held = blocks([0, 1, 2, 3, 4], [1] * 4, [4] * 4, 4)
    served = serve_with_prefixes(
        [0, 10, 20, 5000], [4] * 4, [500] * 4, held, terms, limits, n_replicas=2, affinity_factor=2.0
    )
    assert served.replica.tolist() == [0, 0, 1, 1]


def test_bad_input() -> None:
    terms, limits = Terms(1000, 7, 0, 0), BatchLimits(100, 4, 60)
    held = blocks([0, 1], [1], [3], 4)
    with pytest.raises(BadTrace):
        serve_with_prefixes([0, 1], [3, 3], [1, 1], held, terms, limits)
    with pytest.raises(BadLimits):
        serve_with_prefixes([0], [3], [1], held, terms, limits, affinity_factor=0.5)
