"""Engines that run out of cache: the compiled loop against the plain one, and what must hold of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadLimits, BadTrace
from isocost.replay.engine import (
    EngineLimits,
    Losses,
    Options,
    Scaling,
    StepTerms,
    experts_touched,
    interruptions,
    serve_disaggregated,
    serve_engines,
    tokens_per_step,
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
        draw(st.integers(1, 3)), 0 if drafts else draw(st.integers(0, 1)), draw(st.integers(0, 1)),
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


LOAD = (np.arange(60) * 20_000, np.full(60, 40), np.full(60, 20))
ROOM = EngineLimits(64, 16, 400, 4)


def test_a_full_cache_preempts_who_came_last_and_loses_nothing() -> None:
    """Everybody is served, late; the first of a crowd is never put out; what is redone is time spent."""
    crowd = (np.zeros(12, int), np.full(12, 40), np.full(12, 60))
    roomy = serve_engines(*crowd, TERMS, ROOM)
    tight = serve_engines(*crowd, TERMS, ROOM._replace(n_blocks=60))
    assert (tight.status == 0).all()
    assert roomy.preempted.sum() == 0 < tight.preempted.sum()
    assert tight.preempted[0] == 0
    assert tight.prefill_ps.sum() > roomy.prefill_ps.sum()
    assert tight.e2e_ps.max() > roomy.e2e_ps.max()


def test_ranks_wait_for_the_slowest() -> None:
    """Two ranks in lock-step are never faster than two engines apart, and slower where loads differ."""
    prompt = np.where(np.arange(60) % 2, 200, 4)
    columns = (LOAD[0], prompt, LOAD[2])
    apart = serve_engines(*columns, TERMS, ROOM, Options(2, "round_robin"))
    together = serve_engines(*columns, TERMS, ROOM._replace(ranks=2), Options(1, "round_robin"))
    assert (apart.rank == together.rank).all()
    assert together.e2e_ps.mean() > apart.e2e_ps.mean()
    assert together.steps < apart.steps


def test_littles_law_holds() -> None:
    """Mean requests in the system are arrivals a second times the mean stay, exactly, over a whole replay."""
    found = serve_engines(*LOAD, TERMS, ROOM._replace(lag=1), Options(2))
    events = sorted([(t, 1) for t in LOAD[0]] + [(t, -1) for t in LOAD[0] + found.e2e_ps])
    inside, before, area = 0, 0, 0
    for at, change in events:
        area += inside * (at - before)
        inside, before = inside + change, at
    assert area == found.e2e_ps.sum()


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_nothing_is_lost_or_made_and_littles_law_holds(world) -> None:
    """With full caches, losses and scaling too: each request ends in one way, those that are served take what
    their tokens take at least, replicas work no longer than they are paid for, and L = lambda W, exactly."""
    arrival, prompt, output, cached, made, limits, options = world
    found = serve_engines(arrival, prompt, output, TERMS, limits, options, cached_tok=cached, made_tok=made)
    served = found.status == 0
    assert np.isin(found.status, [0, 1, 2, 3]).all()
    assert ((found.e2e_ps >= 0) == served).all()
    here = np.array(made) == 0  # whose first token was made elsewhere has none here
    assert (found.ttft_ps[served & here] >= 0).all()
    assert (found.ttft_ps[served] <= found.e2e_ps[served]).all()
    assert (found.queued_ps[served] <= found.e2e_ps[served]).all()
    # Every step takes its base, and gives a sequence one token and at most its drafts.
    left = np.array(output) - np.array(made)
    per_step = 1 + len(options.accept_frac)
    least = -(-left // per_step) * TERMS.base_ps
    assert (found.e2e_ps[served] >= least[served]).all()
    worked = found.prefill_ps + found.decode_ps
    assert (worked <= found.on_ps).all()
    assert found.steps * TERMS.base_ps <= worked.sum() or options.losses is not None
    inside = [(a, 1) for a, ok in zip(arrival, served, strict=True) if ok]
    inside += [(a + int(e), -1) for a, e, ok in zip(arrival, found.e2e_ps, served, strict=True) if ok]
    level = area = last = 0
    for at, change in sorted(inside):
        area += level * (at - last)
        level, last = level + change, at
    assert (level, area) == (0, int(found.e2e_ps[served].sum()))


def test_drafts_give_as_many_tokens_as_are_accepted() -> None:
    """Steps for one sequence are its tokens over the mean tokens a step, within chance."""
    shares = (0.8, 0.5, 0.2)
    alone = EngineLimits(64, 1, 4000, 4)
    found = serve_engines([0], [1], [9000], TERMS, alone, Options(accept_frac=shares, seed=3))
    assert 9000 / found.steps == pytest.approx(tokens_per_step(shares), rel=0.02)


def test_scaling_pays_from_launch_and_losses_requeue() -> None:
    rule = Scaling(10_000, 2, 1, 4, 50_000, 200_000, 1)
    scaled = serve_engines(*LOAD, TERMS, ROOM, Options(4, scaling=rule))
    fixed = serve_engines(*LOAD, TERMS, ROOM, Options(4))
    assert (scaled.status == 0).all()
    assert scaled.on_ps.sum() < fixed.on_ps.sum() == 4 * fixed.end_ps
    assert scaled.ttft_ps.mean() > fixed.ttft_ps.mean()
    losses = interruptions(3e9, 4, int(LOAD[0][-1]), 30_000, 20_000, seed=1)
    again = interruptions(3e9, 4, int(LOAD[0][-1]), 30_000, 20_000, seed=1)
    assert np.array_equal(losses.at_ps, again.at_ps)
    spot = serve_engines(*LOAD, TERMS, ROOM, Options(4, losses=losses))
    assert len(losses.at_ps) > 0 < spot.restarted.sum()
    assert (spot.status == 0).all()
    assert spot.on_ps.sum() < fixed.on_ps.sum()


def test_two_pools_are_one_pool_where_sending_is_free() -> None:
    """With one request at a time, prefill and decode apart take what they take together, and the transfer."""
    columns = (np.arange(5) * 10**9, np.full(5, 30), np.full(5, 12))
    pool = (TERMS, ROOM, Options())
    _, _, ttft, e2e = serve_disaggregated(*columns, pool, pool, 0)
    whole = serve_engines(*columns, TERMS, ROOM)
    assert ttft.tolist() == whole.ttft_ps.tolist()
    assert e2e.tolist() == whole.e2e_ps.tolist()
    _, _, _, sent = serve_disaggregated(*columns, pool, pool, 100)
    assert (sent - e2e).tolist() == [3000] * 5


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadLimits):
        serve_engines(*LOAD, TERMS, ROOM._replace(lag=1), Options(accept_frac=(0.5,)))
    with pytest.raises(BadLimits):
        serve_engines(*LOAD, TERMS, ROOM, Options(accept_frac=(0.5, 0.6)))
    with pytest.raises(BadLimits):
        serve_engines(*LOAD, TERMS, ROOM, Options(losses=Losses([5], [3], 0, 0)))
    with pytest.raises(BadLimits):
        serve_engines(*LOAD, TERMS, ROOM, Options(scaling=Scaling(0, 1, 1, 1, 0, 0, 1)))
    with pytest.raises(BadTrace):
        serve_engines(*LOAD, TERMS, ROOM, made_tok=np.ones(60, int))
    with pytest.raises(BadTrace):
        serve_engines([2, 1], [1, 1], [1, 1], TERMS, ROOM)
    large = serve_engines([0], [5000], [10], TERMS, ROOM)
    assert (int(large.status[0]), int(large.e2e_ps[0])) == (2, -1)
