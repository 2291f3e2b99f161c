"""From requests to hours of the week: what was seen is what comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadTrace
from isocost.plan.asked.streams import (
    hour_of_week,
    peak_over_mean,
    per_hour,
    sampled_hours,
    streams_of,
    usage_of,
    week_of,
)
from isocost.trace import shape as trace_shape
from isocost.trace.schema import Chunk, Outcome, Trace
from isocost.units import NS_PER_H, NS_PER_S, WEEK_H

START = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * NS_PER_S
OFFICE = np.tile(np.r_[np.full(8, 0.2), np.full(10, 2.0), np.full(6, 0.4)], 7)
OFFICE /= OFFICE.mean()


def ns(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * NS_PER_S  # type: ignore[arg-type]


def table_of(arrival_ns: np.ndarray, **columns: np.ndarray) -> Chunk:
    n = len(arrival_ns)
    base = {
        "input_tok": np.arange(n, dtype=np.int32) % 700 + 1,
        "output_tok": np.arange(n, dtype=np.int32) % 90 + 1,
        "outcome": np.zeros(n, np.int8),
    }
    return Chunk(np.asarray(arrival_ns, np.int64), **{**base, **columns})


def trace_of(table: Chunk, **names: tuple[str, ...]) -> Trace:
    return Trace("a log", "x", names, frozenset(), lambda: iter((table,)))


@st.composite
def tables(draw: st.DrawFn, hours_most: float = 900.0) -> Chunk:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    span = int(draw(st.floats(0.01, hours_most)) * NS_PER_H)
    start = START + draw(st.integers(0, 10 * WEEK_H * NS_PER_H))
    n = draw(st.integers(2, 400))
    inside = np.sort(rng.integers(0, span + 1, n))
    inside[0], inside[-1] = 0, span
    return table_of(start + inside)


@pytest.mark.parametrize(
    ("moment", "hour"),
    [
        ((1970, 1, 1, 0, 0), 72),
        ((2026, 3, 2, 0, 0), 0),
        ((2026, 3, 2, 0, 59), 0),
        ((2026, 3, 2, 1, 0), 1),
        ((2026, 3, 8, 23, 59), 167),
        ((2024, 2, 29, 13, 30), 3 * 24 + 13),
        ((2000, 1, 1, 6, 0), 5 * 24 + 6),
        ((2038, 1, 19, 3, 14), 24 + 3),
    ],
)
def test_hour_of_the_week_of_known_dates(moment: tuple[int, ...], hour: int) -> None:
    assert hour_of_week(np.array([ns(*moment)])).tolist() == [hour]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))
def test_hour_of_the_week_is_the_calendars(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    stamp = np.array([(moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000])
    assert hour_of_week(stamp)[0] == moment.weekday() * 24 + moment.hour
    assert trace_shape.hour_of_week(stamp)[0] == hour_of_week(stamp)[0]


@given(st.integers(0, 3 * 10**18), st.integers(1, 60 * 24 * NS_PER_H))
def test_sampled_hours_sum_to_the_span(first: int, span: int) -> None:
    sampled = sampled_hours(first, first + span)
    assert sampled.sum() == pytest.approx(span / NS_PER_H, rel=1e-9, abs=1e-9)
    assert (sampled >= -1e-12).all()
    assert sampled.max() - sampled.min() <= 1 + 1e-9


def test_sampled_hours_of_known_spans() -> None:
    half = sampled_hours(ns(2026, 3, 2, 0, 30), ns(2026, 3, 2, 2, 15))
    assert half[:4].tolist() == [0.5, 1.0, 0.25, 0.0]
    assert sampled_hours(ns(2026, 3, 2), ns(2026, 3, 16)) == pytest.approx(np.full(WEEK_H, 2.0))
    assert sampled_hours(ns(2026, 3, 2, 5, 10), ns(2026, 3, 2, 5, 40)).sum() == pytest.approx(0.5)


@settings(deadline=None)
@given(tables(), st.sampled_from(["flat", "office"]), st.booleans())
def test_means_by_hour_give_the_observed_total_back(table: Chunk, name: str, weighed: bool) -> None:
    shape = np.ones(WEEK_H) if name == "flat" else OFFICE
    week = week_of(table, shape, name)
    weights = table.input_tok if weighed else None
    found = per_hour(hour_of_week(table.arrival_ns), weights, week)
    total = table.input_tok.sum() if weighed else len(table)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found @ week.sampled_h == pytest.approx(float(total), rel=1e-9)
    if week.short:
        assert found / found.mean() == pytest.approx(shape)


@settings(deadline=None)
@given(tables())
def test_the_busiest_sample_is_no_less_than_the_mean(table: Chunk) -> None:
    week = week_of(table, OFFICE, "office")
    peak = peak_over_mean(table.arrival_ns, hour_of_week(table.arrival_ns), week)
    assert peak.shape == (WEEK_H,)
    assert (peak >= 1.0).all()
    assert np.isfinite(peak).all()


def test_the_peak_of_a_known_fortnight() -> None:
    # Monday 00h: 3 requests in one week and 9 in the other, so the mean is 6 and the busiest 9.
    hours = np.arange(2 * WEEK_H)
    counts = np.ones(2 * WEEK_H, int)
    counts[0], counts[WEEK_H] = 3, 9
    arrival = np.repeat(START + hours * NS_PER_H, counts) + NS_PER_S
    arrival = np.r_[START, np.sort(arrival), START + 2 * WEEK_H * NS_PER_H - 1]
    table = table_of(arrival)
    week = week_of(table, OFFICE, "office")
    assert not week.short
    assert week.shape_name == ""
    peak = peak_over_mean(arrival, hour_of_week(arrival), week)
    assert peak[0] == pytest.approx(9 / 6.5)
    assert peak[1] == 1.0


@given(st.floats(0.001, 167.0))
def test_a_trace_shorter_than_a_week_says_so(hours: float) -> None:
    table = table_of(np.array([START, START + max(1, int(hours * NS_PER_H))]))
    week = week_of(table, OFFICE, "office")
    assert week.short
    assert week.shape_name == "office"
    assert week.span_s == pytest.approx(hours * 3600, abs=1e-6)
    assert (peak_over_mean(table.arrival_ns, hour_of_week(table.arrival_ns), week) == 1.0).all()


def test_a_whole_week_needs_no_shape() -> None:
    week = week_of(table_of(np.array([START, START + WEEK_H * NS_PER_H])), OFFICE, "office")
    assert not week.short
    assert week.shape is None


def test_one_instant_has_no_rate() -> None:
    with pytest.raises(BadTrace, match="one instant"):
        week_of(table_of(np.full(3, START)), OFFICE, "office")


def test_the_same_total_flat_or_by_the_office_differs_only_elsewhere() -> None:
    # Seen: Monday 08h to 18h only. Flat takes those hours for the week's mean; the office knows better.
    arrival = START + 8 * NS_PER_H + np.arange(0, 10 * NS_PER_H, NS_PER_H // 50)
    table = table_of(arrival)
    rows = np.arange(len(table))
    flat = usage_of(table, rows, week_of(table, np.ones(WEEK_H), "flat"))
    shaped = usage_of(table, rows, week_of(table, OFFICE, "office"))
    assert flat.requests[8:18] == pytest.approx(shaped.requests[8:18])
    assert flat.requests.sum() > 1.5 * shaped.requests.sum()


@settings(deadline=None)
@given(tables())
def test_input_meters_sum_to_all_input(table: Chunk) -> None:
    rows = np.arange(len(table))
    week = week_of(table, OFFICE, "office")
    read, write = table.input_tok // 2, table.input_tok // 3
    usage = usage_of(table, rows, week, read.astype(np.int64), write.astype(np.int64))
    assert usage.all_input_tok @ week.sampled_h == pytest.approx(float(table.input_tok.sum()))
    half = usage.scaled(0.5)
    assert half.requests == pytest.approx(usage.requests / 2)
    assert half.all_input_tok == pytest.approx(usage.all_input_tok / 2)


def split_table() -> Chunk:
    n = 60
    arrival = START + np.arange(n) * 3 * NS_PER_H
    return table_of(
        arrival,
        workload=np.arange(n, dtype=np.int32) % 2,
        model=(np.arange(n, dtype=np.int32) // 2) % 2,
        outcome=np.where(np.arange(n) % 10 == 9, Outcome.ERROR, Outcome.OK).astype(np.int8),
    )


def test_streams_part_the_demand_by_workload_and_model() -> None:
    table = split_table()
    trace = trace_of(table, workload=("faq", "sum"), model=("a", "b"))
    found = streams_of(trace, table, week_of(table, OFFICE, "office"))
    assert [s.id for s in found] == sorted(
        [s.id for s in found], key=lambda i: -{s.id: len(s.rows) for s in found}[i]
    )
    assert {s.id for s in found} == {"faq:a", "faq:b", "sum:a", "sum:b"}
    rows = np.concatenate([s.rows for s in found])
    assert sorted(rows) == np.flatnonzero(table.outcome == Outcome.OK).tolist()
    for stream in found:
        assert (np.diff(stream.rows) > 0).all()
        assert stream.max_input_tok == table.input_tok[stream.rows].max()


def test_only_answers_and_cancelled_calls_are_demand() -> None:
    n = 200
    outcome = (np.arange(n) % 5).astype(np.int8)
    table = table_of(START + np.arange(n) * NS_PER_H, outcome=outcome)
    (stream,) = streams_of(trace_of(table), table, week_of(table, OFFICE, "office"), "openai/gpt-4.1")
    kept = {Outcome(int(o)) for o in outcome[stream.rows]}
    assert kept == {Outcome.OK, Outcome.CANCELLED}
    assert stream.id == "all:openai/gpt-4.1"


def test_a_log_without_models_asks_for_one() -> None:
    table = table_of(START + np.arange(4) * NS_PER_H)
    with pytest.raises(BadTrace, match="--now"):
        streams_of(trace_of(table), table, week_of(table, OFFICE, "office"))


def test_streams_of_two_providers_have_two_names() -> None:
    n = 40
    table = table_of(
        START + np.arange(n) * 5 * NS_PER_H,
        model=np.zeros(n, np.int32),
        provider=(np.arange(n) % 2).astype(np.int32),
    )
    trace = trace_of(table, model=("gpt-4o",), provider=("openai", "azure"))
    found = streams_of(trace, table, week_of(table, OFFICE, "office"))
    assert len({s.id for s in found}) == len(found) == 2
