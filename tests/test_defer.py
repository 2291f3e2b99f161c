"""Work that waits on own replicas: when it is served, and how a plan puts it off within its limits."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.plan.make.build import build, problem_of
from isocost.plan.market.prepare import prepare
from isocost.plan.scenario import read, request_of
from isocost.plan.solve.mix import solve
from isocost.replay.defer import served_ns
from isocost.units import NS_PER_H

SCENARIO = """
title = "own replicas, documents that wait"
now = "openai/gpt-4o"
[[workload]]
name = "chat"
requests = "1500k/mo"
in = 1500
out = 350
[[workload]]
name = "documents"
requests = "900k/mo"
in = "2k"
out = 700
wait = "24h"
[slo.default]
place = "own"
"""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 400 * NS_PER_H), min_size=1, max_size=60),
    st.lists(st.floats(0.0, 3.0), min_size=168, max_size=168),
    st.integers(1, 48),
)
def test_nothing_is_served_before_it_came_or_too_late(
    come: list[int], week: list[float], wait_h: int
) -> None:
    arrival = np.sort(np.array(come, np.int64))
    mean = sum(week) / 168 or 1.0
    served = served_ns(arrival, [x / mean for x in week], wait_h * 3600.0)
    assert (served >= arrival).all()
    assert (served <= arrival + wait_h * NS_PER_H).all()


def test_a_night_fills_first_come_first_served() -> None:
    week = np.zeros(168)
    week[::24] = 7.0  # all of it at midnight
    arrival = np.arange(24, dtype=np.int64) * NS_PER_H + NS_PER_H // 2
    served = served_ns(arrival, week * 24 / 7, 48 * 3600.0)
    assert (np.diff(served) >= 0).all()
    assert set((served // NS_PER_H).tolist()) <= {0, 24, 48}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("defer") / "own.toml"
    file.write_text(SCENARIO)
    return file


def test_a_plan_puts_work_off_where_that_is_cheaper(scenario: Path) -> None:
    prepared = prepare(request_of(read(scenario), Catalog.load(), date(2026, 11, 23)))
    built = build(prepared)
    at_once = problem_of(prepared, built.planned, built.options, built.tables)
    later = problem_of(prepared, built.planned, built.options, built.tables, waits=True)
    assert sorted(later.wait_h) == [0, 24]
    put_off = solve(later, gap_frac=0.002)
    assert put_off.usd_per_month <= solve(at_once, gap_frac=0.002).usd_per_month * (1 + 1e-9)
    # What is served is what came, and the plan's own replay keeps every limit.
    assert put_off.served is not None
    mine = np.isfinite(put_off.served).all(axis=1)
    np.testing.assert_allclose(put_off.served[mine].mean(axis=1), 1.0, rtol=1e-6)
    assert built.misses == ()
    waiting = [route for route in built.draft.routes() if route.wait_s is not None]
    if built.solution.served is not None:
        assert all(
            len(route.serve) == 168 for route in waiting if route.shares[0].deployment.startswith("self/")
        )
