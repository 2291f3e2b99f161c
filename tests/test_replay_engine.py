"""Engines that run out of cache: the compiled loop against the plain one, and what must hold of both."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.replay.engine import (
    EngineLimits,
    Losses,
    Options,
    Scaling,
    StepTerms,
    experts_touched,
    serve_engines,
)
from isocost.replay.engine_stepwise import Ask, agrees, serve_engines_stepwise

TERMS = StepTerms(1000, 7, 11, 1, 900, 500)


@st.composite
def worlds(draw):
    n = draw(st.integers(1, 14))
    gaps = draw(st.lists(st.integers(0, 6000), min_size=n, max_size=n))
    prompt = draw(st.lists(st.integers(0, 60), min_size=n, max_size=n))
    output = draw(st.lists(st.integers(1, 25), min_size=n, max_size=n))
    drafts = draw(st.sampled_from([(), (), (0.7,), (0.9, 0.4)]))
    limits = EngineLimits(
        draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.integers(4, 30)), draw(st.integers(1, 8)),
        draw(st.integers(1, 3)), 0 if drafts else draw(st.integers(0, 1)),
    )  # fmt: skip
    replicas = draw(st.integers(1, 3))
    scaling = losses = None
    if draw(st.booleans()):
        least = draw(st.integers(0, replicas))
        most = draw(st.integers(max(1, least), replicas))
        scaling = Scaling(
            draw(st.integers(500, 9000)), draw(st.integers(1, 4)), least, most, draw(st.integers(0, 8000)),
            draw(st.integers(0, 20000)), draw(st.integers(0, replicas)),
        )  # fmt: skip
    if draw(st.booleans()):
        at = sorted(draw(st.lists(st.integers(0, 60000), max_size=4)))
        which = draw(st.lists(st.integers(0, replicas - 1), min_size=len(at), max_size=len(at)))
        losses = Losses(at, which, draw(st.integers(0, 5000)), draw(st.integers(0, 5000)))
    options = Options(
        replicas, draw(st.sampled_from(["jsq", "round_robin", "least_tokens", "rank_score"])),
        draw(st.sampled_from([-1, -1, 0, 2, 5])), scaling, losses, drafts, draw(st.integers(0, 9)),
        draw(st.sampled_from([None, experts_touched(8, 2, 12)])),
    )  # fmt: skip
    cached = [draw(st.integers(0, p)) for p in prompt]
    made = [
        draw(st.integers(0, 1)) if c == p and o > 1 else 0
        for c, p, o in zip(cached, prompt, output, strict=True)
    ]
    return np.cumsum(gaps).tolist(), prompt, output, cached, made, limits, options


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_equals_the_plain_loop(world) -> None:
    arrival, prompt, output, cached, made, limits, options = world
    found = serve_engines(arrival, prompt, output, TERMS, limits, options, cached_tok=cached, made_tok=made)
    touched = (
        () if options.touched_frac is None else np.rint(options.touched_frac * 2**20).astype(int).tolist()
    )
    rows = zip(range(99), arrival, prompt, output, cached, made, strict=False)
    asks, groups, end = serve_engines_stepwise([Ask(*row) for row in rows], TERMS, limits, options, touched)
    assert agrees(found, asks, groups)
    assert found.end_ps == end
