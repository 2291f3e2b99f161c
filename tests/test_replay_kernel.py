"""The event-skipping kernel equals the step-by-step loop bit for bit, and keeps the laws of queues."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.replay.queue import BatchLimits, Terms, serve
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
