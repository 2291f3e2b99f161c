"""Routes: the scalar rule and the compiled one decide alike, and shares come true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.errors import BadLimits
from isocost.policy import Attempt, Request, Route, RoutePolicy, Share, Stop, Try, pick
from isocost.policy.compiled import assign

fracs = st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any)


def route_of(weights: list[int], by_hour: bool, by_session: bool = False) -> Route:
    whole = sum(weights)
    shares = tuple(
        Share(f"d{i}", tuple([w / whole] * (168 if by_hour else 1))) for i, w in enumerate(weights)
    )
    return Route("faq", "m", shares, cache="cache", fallback="safe", by_session=by_session)


@given(fracs, st.booleans(), st.integers(0, 10_000))
def test_compiled_equals_scalar(weights: list[int], by_hour: bool, first: int) -> None:
    route = route_of(weights, by_hour)
    hours = np.arange(60, dtype=np.int64) * 7 % 168
    columns = assign(route, hours, first)
    scalar = [pick(route, first + i, int(h)) for i, h in enumerate(hours)]
    assert [route.shares[k].deployment for k in columns] == scalar


@given(fracs, st.booleans(), st.booleans(), st.lists(st.integers(-1, 2**62), min_size=60, max_size=60))
def test_compiled_equals_scalar_by_session(
    weights: list[int], by_hour: bool, by_session: bool, sessions: list[int]
) -> None:
    route = route_of(weights, by_hour, by_session)
    hours = np.arange(60, dtype=np.int64) * 7 % 168
    columns = assign(route, hours, 0, np.array(sessions))
    scalar = [pick(route, i, int(h), sessions[i]) for i, h in enumerate(hours)]
    assert [route.shares[k].deployment for k in columns] == scalar


@given(fracs, st.integers(0, 2**62))
def test_a_session_stays_together_and_shares_come_true(weights: list[int], seed: int) -> None:
    route = route_of(weights, False, by_session=True)
    hours = np.zeros(5000, np.int64)
    one = assign(route, hours, 0, np.full(5000, seed))
    assert len(np.unique(one)) == 1
    sessions = np.random.default_rng(seed).permutation(np.repeat(np.arange(1000), 5))
    picked = np.bincount(assign(route, hours, 0, sessions), minlength=len(weights)) / 5000
    assert np.abs(picked - np.array(weights) / sum(weights)).max() < 0.01
    hashes = np.random.default_rng(seed).integers(0, 2**62, 5000)
    picked = np.bincount(assign(route, hours, 0, hashes), minlength=len(weights)) / 5000
    assert np.abs(picked - np.array(weights) / sum(weights)).max() < 0.05


@given(fracs)
def test_long_run_frequency_is_the_share(weights: list[int]) -> None:
    route = route_of(weights, False)
    picked = np.bincount(assign(route, np.zeros(5000, np.int64)), minlength=len(weights)) / 5000
    assert np.abs(picked - np.array(weights) / sum(weights)).max() < 0.005


def test_cache_then_choice_then_fallback_then_stop() -> None:
    policy = RoutePolicy([route_of([1], False)])
    request = Request("faq", "m", 0, 0)
    assert policy.next(request, []) == Try(("cache",))
    missed = [Attempt("cache", "missed")]
    assert policy.next(request, missed) == Try(("d0",))
    full = [*missed, Attempt("d0", "overflowed")]
    assert policy.next(request, full) == Try(("safe",))
    assert policy.next(request, [*full, Attempt("safe", "failed")]) == Stop()
    assert policy.next(request, [*missed, Attempt("d0", "served")]) == Stop()


def test_shares_that_do_not_sum_are_refused() -> None:
    with pytest.raises(BadLimits, match="sum to"):
        RoutePolicy([Route("w", "m", (Share("a", (0.5,)),))])
