"""Replay on prefix blocks: equal to the step-by-step loop, and to plain replay where nothing is shared."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.replay.prefix import blocks
from isocost.replay.queue import BatchLimits, Terms, serve_with_prefixes
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
