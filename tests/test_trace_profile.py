"""The profile against numbers worked out another way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadTrace
from isocost.trace import Chunk, Trace, hour_of_week, open_trace
from isocost.trace.kernels import Seen
from isocost.trace.profile import _bin, _unbin, profile
from isocost.units import NS_PER_H

CASES = Path(__file__).parent / "cases" / "traces"
MONDAY_NS = 4 * 86_400 * 10**9


def trace_of(
    arrival_s: np.ndarray, input_tok: np.ndarray | None = None, pieces: int = 1, **more: object
) -> Trace:
    n = len(arrival_s)
    order = np.argsort(arrival_s, kind="stable")
    chunk = Chunk(
        arrival_ns=MONDAY_NS + (np.asarray(arrival_s)[order] * 1e9).astype(np.int64),
        input_tok=np.full(n, 10, np.int32) if input_tok is None else input_tok.astype(np.int32),
        output_tok=np.full(n, 5, np.int32),
        outcome=np.zeros(n, np.int8),
        **more,  # type: ignore[arg-type]
    )
    parts = [chunk.take(part) for part in np.array_split(np.arange(n), pieces) if len(part)]
    columns = frozenset(name for name in more if name != "block_offsets")
    return Trace("t", "d", {}, columns, lambda: iter(parts), block_tok=4)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=200), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_quantiles_are_of_the_data(tokens: list[int], pieces: int) -> None:
    found = profile(trace_of(np.arange(len(tokens)) * 1.0, np.array(tokens), pieces)).input
    for q, value in ((0.5, found.p50), (0.9, found.p90), (0.95, found.p95), (0.99, found.p99)):
        exact = float(np.quantile(tokens, q, method="inverted_cdf"))
        assert value == pytest.approx(exact, rel=5e-4)
    assert found.mean == pytest.approx(np.mean(tokens))


def test_bins_keep_order_and_value() -> None:
    values = np.unique(np.concatenate([np.arange(9000), 2 ** np.arange(13, 40), 2 ** np.arange(13, 40) - 1]))
    cells = _bin(values)
    assert np.all(np.diff(cells) >= 0)
    back = np.array([_unbin(int(cell)) for cell in cells])
    assert back == pytest.approx(values, rel=5e-4)
    assert back[:4096].tolist() == values[:4096].tolist()


@given(st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_prefix_reuse_equals_a_set(pieces: int, random: object) -> None:
    rng = np.random.default_rng(random.randint(0, 2**31))  # type: ignore[attr-defined]
    lists = [rng.integers(0, 12, rng.integers(0, 7)) for _ in range(40)]
    tokens = np.array([4 * len(one) + 1 for one in lists])
    # As a reader would: content ids chained into prefixes.
    prefixes = [[hash(tuple(one[: j + 1].tolist())) & (2**62 - 1) for j in range(len(one))] for one in lists]
    seen: set[int] = set()
    hit = 0
    for blocks, tok in zip(prefixes, tokens, strict=True):
        n = next((j for j, block in enumerate(blocks) if block not in seen), len(blocks))
        hit += min(4 * n, int(tok))
        seen |= set(blocks)
    offsets = np.concatenate(([0], np.cumsum([len(one) for one in prefixes]))).astype(np.int64)
    ids = np.array([block for one in prefixes for block in one], np.int64)
    trace = trace_of(np.arange(40) * 1.0, tokens, pieces, block_offsets=offsets, block_ids=ids)
    assert profile(trace).reuse.prefix_frac == pytest.approx(hit / tokens.sum())


def test_seen_grows() -> None:
    ids = np.arange(300_000, dtype=np.int64) * 977 + (np.arange(300_000) % 5 << 33)
    offsets = np.arange(0, 300_001, 10, dtype=np.int64)
    tokens = np.full(30_000, 40, np.int32)
    seen = Seen()
    assert seen.feed(offsets, ids, tokens, 4).sum() == 0
    assert seen.used == 300_000
    assert seen.feed(offsets, ids, tokens, 4).sum() == 40 * 30_000


def test_poisson_is_not_bursty_and_batches_are() -> None:
    rng = np.random.default_rng(5)
    smooth = profile(trace_of(np.sort(rng.random(40_000) * 20_000))).burst
    assert smooth.dispersion_s == pytest.approx(1.0, abs=0.05)
    assert smooth.dispersion_min == pytest.approx(1.0, abs=0.25)
    assert smooth.interarrival_cv == pytest.approx(1.0, abs=0.05)
    tenfold = profile(trace_of(np.sort(np.repeat(rng.random(4_000) * 20_000, 10)))).burst
    assert tenfold.dispersion_s == pytest.approx(10.0, rel=0.1)


def test_cycles_need_a_week_and_are_found() -> None:
    rng = np.random.default_rng(2)
    day = np.sort(rng.random(5_000) * 86_400 / 2)  # mornings only
    days = [day + k * 86_400 for k in range(14) if k % 7 < 5]
    office = profile(trace_of(np.concatenate([*days, [14 * 86_400.0]])))
    assert office.cycle.daily is True
    assert office.cycle.weekly is True
    flat = profile(trace_of(np.sort(rng.random(50_000) * 14 * 86_400)))
    assert flat.cycle.daily is False
    assert flat.cycle.weekly is False
    short = profile(trace_of(np.sort(rng.random(5_000) * 3 * 86_400)))
    assert short.cycle.daily is None
    assert "under a week" in short.cycle.because
    asked = {one.id: one.answered for one in short.questions}
    assert asked["commitments"] is False
    assert {one.id: one.answered for one in flat.questions}["commitments"] is True


def test_questions_follow_columns() -> None:
    found = profile(open_trace(CASES / "litellm.csv"))
    asked = {one.id: one for one in found.questions}
    assert asked["baseline"].answered
    assert asked["latency"].because == "column ttft_s, e2e_s"
    assert not asked["prefix_cache"].answered
    assert asked["dates"].answered
    assert found.outcomes == {"ok": 3, "error": 1, "retry": 1, "duplicate": 1}
    assert found.requests == 3
    assert found.input_tok == 6400
    assert found.reuse.cached_frac == pytest.approx((1024 + 2048) / 6400)
    assert sum(one.requests for one in found.workloads) == sum(one.requests for one in found.models) == 3
    body = json.loads(found.json())
    assert body["workloads"][0]["name"] == "support"
    assert body["findings"]


def test_exact_repeats() -> None:
    keys = np.array([1, 2, 1, 1, -1, 3])
    found = profile(trace_of(np.arange(6) * 1.0, pieces=3, prompt_key=keys))
    assert found.reuse.repeat_frac == pytest.approx(2 / 5)


def test_nothing_served_is_an_error() -> None:
    trace = trace_of(np.arange(3) * 1.0)
    failed = trace.table()
    bad = Chunk(failed.arrival_ns, failed.input_tok, failed.output_tok, np.ones(3, np.int8))
    with pytest.raises(BadTrace, match="no request ended well"):
        profile(trace.of(bad))


def test_hour_of_week() -> None:
    assert hour_of_week(MONDAY_NS) == 0
    assert hour_of_week(MONDAY_NS - 1) == 167
    assert hour_of_week(np.array([MONDAY_NS + 25 * NS_PER_H])).tolist() == [25]
