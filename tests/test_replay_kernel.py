"""The event-skipping kernel equals the step-by-step loop bit for bit, and keeps the laws of queues."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadLimits, BadTrace
from isocost.replay.queue import BatchLimits, Served, Terms, serve
from isocost.replay.stepwise import Prompt, serve_stepwise

small = st.integers(0, 12)
terms_st = st.builds(Terms, st.integers(1, 30), st.integers(0, 3), st.integers(0, 5), st.integers(0, 3))
limits_st = st.builds(BatchLimits, st.integers(1, 20), st.integers(1, 6), st.integers(2, 60))
requests_st = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 200)), small, st.integers(1, 25), small),
    min_size=1,
    max_size=40,
)


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, object]:
    n_replicas = draw(st.integers(1, 4))
    overflow = draw(st.sampled_from([-1, -1, 0, 1, 3]))
    switches = sorted(draw(st.lists(st.integers(0, 1500), max_size=3)))
    least = 1 if overflow < 0 else 0
    active = [draw(st.integers(least, n_replicas)) for _ in switches]
    return {
        "n_replicas": n_replicas,
        "routing": draw(st.sampled_from(["jsq", "round_robin", "least_tokens"])),
        "schedule": (switches, active),
        "overflow_outstanding": overflow,
    }


def columns(rows: list[tuple[int, int, int, int]]) -> tuple[list[int], list[int], list[int], list[int]]:
    arrival = np.cumsum([gap for gap, _, _, _ in rows]).tolist()
    return arrival, [i for _, i, _, _ in rows], [o for _, _, o, _ in rows], [min(i, c) for _, i, _, c in rows]


@settings(max_examples=400, deadline=None)
@given(requests_st, terms_st, limits_st, fleets())
def test_skipping_equals_stepping(rows, terms, limits, fleet) -> None:
    arrival, prompt, output, cached = columns(rows)
    fast = serve(arrival, prompt, output, terms, limits, cached_tok=cached, **fleet)
    slow = serve_stepwise(
        [Prompt(*row) for row in zip(arrival, prompt, output, cached, strict=True)], terms, limits, **fleet
    )
    assert fast.status.tolist() == slow.status
    assert fast.replica.tolist() == slow.replica
    assert fast.ttft_ps.tolist() == slow.ttft_ps
    assert fast.e2e_ps.tolist() == slow.e2e_ps
    assert fast.busy_ps.tolist() == slow.busy_ps
    assert fast.steps == slow.steps


def random_load(seed: int, n: int, rate_per_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1e12 / rate_per_s, n)).astype(np.int64)
    prompt = np.clip(rng.lognormal(6.5, 1.0, n), 1, 8000).astype(np.int64)
    return arrival, prompt, np.clip(rng.lognormal(4.5, 0.8, n), 1, 1000).astype(np.int64)


REAL = Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000)
ROOM = BatchLimits(2048, 256, 400_000)


@pytest.mark.parametrize("routing", ["jsq", "round_robin", "least_tokens"])
@pytest.mark.parametrize("overflow", [-1, 8])
def test_real_sizes_equal_stepping(routing: str, overflow: int) -> None:
    arrival, prompt, output = random_load(3, 400, 60.0)
    fleet = {"n_replicas": 3, "routing": routing, "overflow_outstanding": overflow}
    tight = BatchLimits(512, 24, 30_000)
    fast = serve(arrival, prompt, output, REAL, tight, **fleet)
    prompts = [Prompt(*row) for row in np.column_stack([arrival, prompt, output]).tolist()]
    slow = serve_stepwise(prompts, REAL, tight, **fleet)
    assert fast.e2e_ps.tolist() == slow.e2e_ps
    assert fast.ttft_ps.tolist() == slow.ttft_ps
    assert (fast.busy_ps.tolist(), fast.steps) == (slow.busy_ps, slow.steps)
    assert (fast.status == 1).any() == (overflow >= 0)


def assert_little(arrival: np.ndarray, served: Served) -> None:
    """Sum of times in system = integral of the number in system, added up from events, exactly."""
    here = served.status == 0
    events = [(int(a), 1) for a in arrival[here]] + [(int(a), -1) for a in (arrival + served.e2e_ps)[here]]
    area = inside = last = 0
    for at, change in sorted(events):
        area += inside * (at - last)
        inside, last = inside + change, at
    assert inside == 0
    assert area == int(served.e2e_ps[here].sum())


@settings(max_examples=150, deadline=None)
@given(requests_st, terms_st, limits_st, fleets())
def test_laws(rows, terms, limits, fleet) -> None:
    arrival, prompt, output, cached = columns(rows)
    served = serve(arrival, prompt, output, terms, limits, cached_tok=cached, **fleet)
    here = served.status == 0
    arrival, prompt, output = np.array(arrival), np.array(prompt), np.array(output)
    assert_little(arrival, served)
    assert ((served.status == 2) == (prompt + output > limits.kv_capacity_tok)).all()
    assert (served.replica[here] >= 0).all()
    assert (served.e2e_ps[~here] == -1).all()
    assert (served.ttft_ps[~here] == -1).all()
    assert (served.ttft_ps[here] >= terms.base_ps).all()
    assert (served.e2e_ps[here] >= served.ttft_ps[here] + terms.base_ps * (output[here] - 1)).all()
    # One replica never works on two steps at once, and never idles while it has a request.
    for r, busy in enumerate(served.busy_ps):
        mine = served.replica == r
        end = 0
        union = 0
        for start, stop in sorted(zip(arrival[mine], (arrival + served.e2e_ps)[mine], strict=True)):
            union += max(0, int(stop) - max(int(start), end))
            end = max(end, int(stop))
        assert busy == union
    # Every step moves at least one token.
    assert int(served.steps) <= int((np.maximum(1, prompt) + output)[here].sum())


@settings(max_examples=100, deadline=None)
@given(requests_st, terms_st, limits_st)
def test_dealt_out_equals_joint_clock(rows, terms, limits) -> None:
    """One replica: run to the end at once, or from arrival to arrival (an overflow is never reached)."""
    arrival, prompt, output, cached = columns(rows)
    alone = serve(arrival, prompt, output, terms, limits, cached_tok=cached)
    joint = serve(arrival, prompt, output, terms, limits, cached_tok=cached, overflow_outstanding=10**6)
    for a, b in zip(alone, joint, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_lone_request_is_a_closed_form() -> None:
    """Prefill steps, then an arithmetic series of decode steps."""
    terms, limits = Terms(1000, 7, 11, 3), BatchLimits(100, 8, 10_000)
    served = serve([50], [250], [5], terms, limits)
    ttft = 3 * 1000 + 7 * 250
    decode = sum(1000 + 11 + 3 * (250 + k) for k in range(1, 5))
    assert served.ttft_ps.tolist() == [ttft]
    assert served.e2e_ps.tolist() == [ttft + decode]
    assert (served.busy_ps.tolist(), served.steps) == ([ttft + decode], 7)
    warm = serve([50], [250], [5], terms, limits, cached_tok=[250])
    assert warm.ttft_ps.tolist() == [1000 + 7]


def test_more_replicas_shorten_the_tail() -> None:
    """Not true request by request, nor of every trace; true of the tail at a load that saturates one."""
    arrival, prompt, output = random_load(1, 3000, 12.0)
    tails = [
        np.percentile(serve(arrival, prompt, output, REAL, ROOM, n_replicas=n).ttft_ps, 95)
        for n in (1, 2, 4, 8)
    ]
    assert tails == sorted(tails, reverse=True)


def test_no_queue_is_too_long() -> None:
    n = 20_000
    served = serve(
        np.zeros(n, np.int64), np.full(n, 9), np.full(n, 3), REAL, BatchLimits(64, 4, 100), n_replicas=2
    )
    assert (served.status == 0).all()
    assert_little(np.zeros(n, np.int64), served)


def test_draining_replicas_take_nothing_new() -> None:
    arrival, prompt, output = random_load(5, 500, 20.0)
    middle = int(arrival[250])
    served = serve(arrival, prompt, output, REAL, ROOM, n_replicas=4, schedule=([0, middle], [4, 1]))
    assert set(served.replica[250:]) == {0}
    assert set(served.replica[:250]) == {0, 1, 2, 3}
    assert (served.e2e_ps > 0).all()


def test_overflow_where_nobody_is_active() -> None:
    served = serve([0, 10], [5, 5], [2, 2], REAL, ROOM, schedule=([5], [0]), overflow_outstanding=9)
    assert served.status.tolist() == [0, 1]


def test_empty() -> None:
    served = serve([], [], [], REAL, ROOM, n_replicas=2)
    assert (served.ttft_ps.size, served.busy_ps.tolist(), served.steps) == (0, [0, 0], 0)


@pytest.mark.parametrize(
    ("arrival", "prompt", "output", "cached"),
    [
        ([0, 1], [1], [1, 1], None),
        ([1, 0], [1, 1], [1, 1], None),
        ([-1, 0], [1, 1], [1, 1], None),
        ([0, 1], [1, -1], [1, 1], None),
        ([0, 1], [1, 1], [1, 0], None),
        ([0, 1], [1, 1], [1, 1], [0, 2]),
        ([0, 1], [1, 2**41], [1, 1], None),
        ([0, 2**62 + 1], [1, 1], [1, 1], None),
    ],
)
def test_bad_traces(arrival, prompt, output, cached) -> None:
    with pytest.raises(BadTrace):
        serve(arrival, prompt, output, REAL, ROOM, cached_tok=cached)


@pytest.mark.parametrize(
    "change",
    [
        {"terms": Terms(0, 1, 1, 1)},
        {"terms": Terms(1, -1, 1, 1)},
        {"terms": Terms(2**50, 1, 1, 1), "output_tok": [2**20]},
        {"limits": BatchLimits(0, 1, 1)},
        {"n_replicas": 0},
        {"routing": "random"},
        {"routing": "prefix_affinity"},
        {"schedule": ([5, 1], [1, 1])},
        {"schedule": ([5], [2])},
        {"schedule": ([5], [0])},
        {"schedule": ([5, 6], [1])},
    ],
)
def test_bad_limits(change) -> None:
    given_ = {"arrival_ps": [0], "input_tok": [1], "output_tok": [1], "terms": REAL, "limits": ROOM}
    if "output_tok" in change:
        given_["limits"] = BatchLimits(2048, 256, 2**30)
    with pytest.raises(BadLimits):
        serve(**(given_ | change))


PROGRAM = """
import json, sys
import numpy as np
import isocost.replay.queue as queue, isocost.replay.prefix as prefix, isocost.replay.capacity
assert not [name for name in sys.modules if name.split(".")[0] == "numba"], "numba imported before any kernel"
if sys.argv[1] == "without":
    sys.modules["numba"] = None
rng = np.random.default_rng(7)
n = 300
arrival = np.cumsum(rng.integers(0, 40, n) * 10**9)
prompt, output = rng.integers(1, 900, n), rng.integers(1, 200, n)
terms, limits = queue.Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000), queue.BatchLimits(512, 16, 9_000)
a = queue.serve(arrival, prompt, output, terms, limits, n_replicas=3, overflow_outstanding=40)
offsets = np.concatenate([[0], np.cumsum(-(-prompt // 64))])
held = prefix.blocks(offsets, rng.integers(0, 3, offsets[-1]), prompt, 64)
b = queue.serve_with_prefixes(arrival, prompt, output, held, terms, limits, n_replicas=3)
c = [np.asarray(policy(held, 40)) for policy in (prefix.lru, prefix.fifo, prefix.belady)]
d = [prefix.infinite(held), prefix.time_to_live(held, arrival, 10**12)]
print(json.dumps([np.asarray(x).tolist() for x in (*a, *b, *c, *d)]))
"""


def test_compiled_uncompiled_and_without_numba_are_the_same() -> None:
    outputs = []
    for how, environment in (("with", {}), ("with", {"NUMBA_DISABLE_JIT": "1"}), ("without", {})):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, how],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1] == outputs[2]
    assert sum(outputs[0][12]) > 0  # tokens found in the cache: the comparison is of something


def test_a_kernel_from_the_cache_is_loaded_without_what_compiles(tmp_path: Path) -> None:
    """Twice in processes of their own: the second finds what the first has compiled, and says the same."""
    code = (
        "import sys, numpy as np\n"
        "from isocost.replay.prefix_kernel import needs\n"
        "out = np.empty(2, np.int64)\n"
        "one = np.array([3, 4])\n"
        "needs(np.array([0, 1, 2]), np.array([0, 0], np.int32), np.array([2, 2], np.int32),\n"
        "      np.zeros(1, np.int64), one, one, out)\n"
        "print(out.tolist(), 'numba.np.linalg' in sys.modules)\n"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    first, second = (line.split("] ") for line in said)
    assert first[0] == second[0]
    assert [first[1].strip(), second[1].strip()] == ["True", "False"]
