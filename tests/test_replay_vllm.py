"""Replay of engines against vLLM's scheduler written over again: full caches, and ranks in lock-step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.replay.engine import EngineLimits, EngineServed, Options, StepTerms, serve_engines
from vllm_scheduler import Request, Rules, serve


def ours(requests: list[Request], rules: Rules) -> EngineServed:
    columns = np.array([(one.arrival, one.num_prompt, one.num_output) for one in requests], np.int64).T
    return serve_engines(
        *columns, StepTerms(rules.base, rules.prompt, rules.sequence, rules.cache),
        EngineLimits(*rules[4:8], rules.ranks, 0, rules.by_chunk), Options(routing="rank_score"),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Request], Rules]:
    size = draw(st.integers(1, 8))
    rules = Rules(
        draw(st.integers(50, 2000)), draw(st.integers(0, 9)), draw(st.integers(0, 15)),
        draw(st.integers(0, 3)), draw(st.integers(1, 40)), draw(st.integers(1, 6)),
        draw(st.integers(4, 30)), size, draw(st.integers(1, 3)), draw(st.integers(0, 1)),
    )  # fmt: skip
    room = rules.num_blocks * size
    requests, at = [], 0
    for name in range(draw(st.integers(1, 12))):
        at += draw(st.integers(0, 4000))
        prompt = draw(st.integers(1, min(40, room - 1)))
        requests.append(Request(name, at, prompt, draw(st.integers(1, min(25, room - prompt)))))
    return requests, rules


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_times_are_those_of_vllms_scheduler(world: tuple[list[Request], Rules]) -> None:
    requests, rules = world
    found = ours(requests, rules)
    steps = serve(requests, rules)
    assert [one.preemptions for one in requests] == found.preempted.tolist()
    assert [one.first - one.arrival for one in requests] == found.ttft_ps.tolist()
    assert [one.last - one.arrival for one in requests] == found.e2e_ps.tolist()
    assert steps == found.steps


def drawn(n: int, mean_gap: float, seed: int) -> list[Request]:
    random = np.random.default_rng(seed)
    at = np.cumsum(random.exponential(mean_gap, n)).astype(int)
    prompt = np.clip(random.lognormal(6.0, 0.8, n), 16, 3000).astype(int)
    output = np.clip(random.lognormal(5.0, 0.6, n), 4, 900).astype(int)
    return [Request(i, *map(int, row)) for i, row in enumerate(zip(at, prompt, output, strict=True))]


@pytest.mark.parametrize(
    ("ranks", "blocks", "by_chunk"), [(1, 480, 0), (1, 320, 1), (4, 300, 0), (8, 250, 0), (4, 300, 1)]
)
def test_a_full_cache_and_ranks_in_lock_step_as_vllm_has_them(ranks: int, blocks: int, by_chunk: int) -> None:
    """As long as a real run: percentiles are the same, the more so where nobody comes back late."""
    rules = Rules(12 * 10**9, 40 * 10**6, 20 * 10**6, 90_000, 2048, 64, blocks, 16, ranks, by_chunk)
    requests = drawn(400, 2.2e11 / ranks, 7)
    found = ours(requests, rules)
    serve(requests, rules)
    preempted = np.array([one.preemptions for one in requests])
    assert found.preempted.sum() > 20
    assert found.preempted.sum() == pytest.approx(preempted.sum(), rel=0.02)
    theirs = np.array([(one.first - one.arrival, one.last - one.arrival) for one in requests]).T
    for got, wanted in zip((found.ttft_ps, found.e2e_ps), theirs, strict=True):
        for at in (50, 90, 95, 99):
            assert np.percentile(got, at) == pytest.approx(np.percentile(wanted, at), rel=0.005)
