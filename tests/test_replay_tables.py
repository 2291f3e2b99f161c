"""Prefix hits by routing and replicas, and workloads that share a pool."""

from __future__ import annotations

import numpy as np
import pytest

from isocost.errors import BadLimits
from isocost.replay.prefix import blocks
from isocost.replay.queue import BatchLimits, Terms, serve
from isocost.replay.tables import ROUTINGS, Shared, prefix_hits, spent_s, together

TERMS = Terms(10**10, 2 * 10**7, 2 * 10**7, 50_000)
LIMITS = BatchLimits(2048, 64, 60_000)


def sessions(n: int, seed: int = 0):
    """n requests of n/8 sessions whose prompts grow by two blocks a turn."""
    rng = np.random.default_rng(seed)
    session = rng.integers(0, n // 8, n)
    turn = np.array([int((session[:i] == session[i]).sum()) for i in range(n)])
    rows = [[s * 1000 + k for k in range(4 + 2 * t)] for s, t in zip(session, turn, strict=True)]
    prompt = np.array([len(row) * 64 for row in rows])
    offsets = np.cumsum([0] + [len(row) for row in rows])
    arrival = np.cumsum(rng.exponential(0.25e12, n)).astype(np.int64)
    return arrival, prompt, rng.integers(20, 60, n), blocks(offsets, np.concatenate(rows), prompt, 64)


def test_no_routing_beats_the_endless_cache_and_affinity_beats_turns() -> None:
    rows = prefix_hits(*sessions(320), TERMS, LIMITS, n_replicas=(1, 4))
    assert [(row.n_replicas, row.routing) for row in rows] == [(n, r) for n in (1, 4) for r in ROUTINGS]
    for row in rows:
        assert 0.0 <= row.hit_frac <= row.endless_frac
        assert row.bound_frac <= row.endless_frac
        assert 0.0 < row.busy_frac <= 1.0
    one = [row.hit_frac for row in rows if row.n_replicas == 1]
    assert len(set(one)) == 1, "with one replica there is nothing to route"
    four = {row.routing: row.hit_frac for row in rows if row.n_replicas == 4}
    assert four["prefix_affinity"] > 1.3 * four["round_robin"]


def test_a_workload_misses_behind_another_one() -> None:
    """Short requests hold their limit alone and miss it beside long prompts: only a joint replay shows it."""
    n = 200
    arrival = (np.arange(n) * 2 * 10**11).astype(np.int64)
    short, long_ = np.full(n, 100), np.full(n, 6000)
    output = np.full(n, 5)
    asks = {"chat": Shared(ttft_s=0.08)}
    alone = together(["chat"] * n, arrival, short, output, (TERMS, LIMITS, 1), asks)
    assert alone[0].holds
    both = np.stack([arrival, arrival + 10**10], axis=1).ravel()
    prompt = np.stack([long_, short], axis=1).ravel()
    names = ["rag", "chat"] * n
    rows = together(names, both, prompt, np.repeat(output, 2), (TERMS, LIMITS, 1), asks)
    assert [(row.workload, row.requests, row.holds) for row in rows] == [("rag", n, True), ("chat", n, False)]
    assert rows[0].prefill_s > 20 * rows[1].prefill_s


def test_seconds_spent_are_the_time_that_replicas_work() -> None:
    """Prefill and decode seconds of all requests, and the base of every step, are the busy time."""
    arrival, prompt, output, _ = sessions(200)
    served = serve(arrival, prompt, output, TERMS, LIMITS, n_replicas=2)
    prefill, decode = spent_s(TERMS, prompt, np.zeros_like(prompt), output)
    whole = prefill.sum() + decode.sum() + served.steps * TERMS.base_ps / 1e12
    assert whole == pytest.approx(served.busy_ps.sum() / 1e12, rel=1e-9)


def test_what_finds_no_place_misses() -> None:
    rows = together(["a"], [0], [10**6], [5], (TERMS, LIMITS, 1), {"a": Shared(ttft_s=1e9)})
    assert (rows[0].lost, rows[0].holds) == (1, False)
    with pytest.raises(BadLimits):
        together(["a"], [0, 1], [1, 1], [1, 1], (TERMS, LIMITS, 1), {})
