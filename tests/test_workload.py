"""Generated traces keep to their parameters, and are the same every time."""

from __future__ import annotations

import csv
import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from isocost.errors import BadInput
from isocost.trace import ANCHOR_NS, Outcome, Spread, Trace, example, from_numbers, hour_of_week, open_trace
from isocost.trace.profile import Profile, profile
from isocost.trace.workload import Parameters, Workload, generate
from isocost.units import DAYS_PER_MONTH

ROOT = Path(__file__).parents[1]
SPREAD = Spread(0.8, 0.6, 3.0)


@pytest.fixture(scope="module")
def bundled() -> Trace:
    return example("openai/gpt-4.1")


@pytest.fixture(scope="module")
def bundled_profile(bundled: Trace) -> Profile:
    return profile(bundled)


def test_numbers_come_back() -> None:
    trace = from_numbers(1_000_000, 1500, 500, spread=SPREAD, days=14, seed=3)
    table = trace.table()
    assert len(table) == pytest.approx(1_000_000 * 14 / DAYS_PER_MONTH, rel=0.01)
    assert table.input_tok.mean() == pytest.approx(1500, rel=0.01)
    assert table.output_tok.mean() == pytest.approx(500, rel=0.01)
    assert np.log(table.input_tok).std() == pytest.approx(0.8, rel=0.02)
    assert table.input_tok.min() >= 1
    assert table.arrival_ns[0] >= ANCHOR_NS
    assert table.arrival_ns[-1] < ANCHOR_NS + 14 * 86_400 * 10**9
    assert np.all(np.diff(table.arrival_ns) >= 0)
    assert trace.clock == "relative"
    assert trace.columns == {"workload"}
    burst = profile(trace).burst
    assert burst.dispersion_min == pytest.approx(3.0, rel=0.05)


def test_shape_is_followed() -> None:
    shape = np.where(np.arange(168) % 24 < 12, 3.0, 1.0)
    table = from_numbers(2_000_000, 100, 100, spread=Spread(0.0, 0.0), shape=shape).table()
    counts = np.bincount(hour_of_week(table.arrival_ns), minlength=168)
    by_hour = counts / counts.mean()
    assert by_hour == pytest.approx(shape / shape.mean(), rel=0.08)
    assert set(table.input_tok.tolist()) == {100}


def test_same_arguments_same_trace() -> None:
    one, two = (from_numbers(50_000, 10, 10, spread=SPREAD, seed=7) for _ in range(2))
    other = from_numbers(50_000, 10, 10, spread=SPREAD, seed=8)
    assert one.digest == two.digest != other.digest
    assert one.table().arrival_ns.tolist() == two.table().arrival_ns.tolist()


@pytest.mark.parametrize(
    "bad", [{"requests_per_month": 0}, {"input_tok": float("nan")}, {"days": -1}, {"shape": [1, 2]}]
)
def test_bad_numbers_are_named(bad: dict[str, object]) -> None:
    arguments = {"requests_per_month": 1e4, "input_tok": 10, "output_tok": 10, "spread": SPREAD, **bad}
    with pytest.raises(BadInput):
        from_numbers(**arguments)  # type: ignore[arg-type]


def test_adding_a_workload_leaves_the_others() -> None:
    shapes = {"flat": (1.0,) * 168}
    one = Workload("a", 500, "flat", 20, 10, SPREAD)
    two = Workload("b", 500, "flat", 20, 10, SPREAD)
    alone = generate(Parameters("t", 1, 7, (one,), shapes)).table()
    both = generate(Parameters("t", 1, 7, (one, two), shapes)).table()
    assert both.workload is not None
    kept = both.take(both.workload == 0)
    assert kept.arrival_ns.tolist() == alone.arrival_ns.tolist()
    assert kept.input_tok.tolist() == alone.input_tok.tolist()


def test_long_traces_come_in_chunks() -> None:
    trace = from_numbers(5_000_000, 10, 10, spread=SPREAD)
    sizes = [len(chunk) for chunk in trace.chunks()]
    assert max(sizes) <= 1_000_000
    assert sum(sizes) == len(trace.table())


def test_example_is_what_it_says(bundled: Trace, bundled_profile: Profile) -> None:
    found = bundled_profile
    assert 100_000 <= found.requests <= 130_000
    assert found.days == pytest.approx(14, abs=0.05)
    assert [one.name for one in found.models] == ["gpt-4.1"]
    assert bundled.names["provider"] == ("openai",)
    assert {one.name for one in found.workloads} == {"faq", "chat", "summarise", "agent"}
    assert found.cycle.daily
    assert found.cycle.weekly
    assert found.reuse.prefix_frac is not None
    assert found.reuse.repeat_frac is not None
    assert found.reuse.cached_frac is not None
    assert 0.5 < found.reuse.prefix_frac < 0.9
    assert 0.1 < found.reuse.repeat_frac < 0.4
    # What the log says was billed as cached is a part of what could be.
    for one in found.workloads:
        assert one.cached_frac is not None
        assert one.prefix_frac is not None
        assert one.cached_frac <= one.prefix_frac
    answered = {one.id for one in found.questions if one.answered}
    assert {
        "baseline",
        "latency",
        "exact_cache",
        "prefix_cache",
        "batch",
        "tenant",
        "commitments",
    } <= answered
    assert {one.code for one in found.findings} == {"generated", "generated_latency"}


def test_example_sessions_grow(bundled: Trace) -> None:
    table = bundled.table()
    assert table.session is not None
    assert table.block_offsets is not None
    assert table.block_ids is not None
    counts = np.bincount(table.session[table.session >= 0])
    rows = np.flatnonzero(table.session == int(np.argmax(counts)))
    assert len(rows) > 5
    assert np.all(np.diff(table.input_tok[rows]) > 0)
    lists = [table.block_ids[table.block_offsets[i] : table.block_offsets[i + 1]] for i in rows]
    for before, after in itertools.pairwise(lists):
        assert after[: len(before)].tolist() == before.tolist()
    assert np.all(np.diff(table.block_offsets) == table.input_tok // 64)


def test_example_repeats_are_whole_prompts(bundled: Trace) -> None:
    table = bundled.table()
    assert table.prompt_key is not None
    keys, first, inverse = np.unique(table.prompt_key, return_index=True, return_inverse=True)
    assert table.input_tok.tolist() == table.input_tok[first][inverse].tolist()
    counts = np.sort(np.bincount(inverse))[::-1]
    assert counts[0] > 50 * counts[len(counts) // 2]
    assert len(keys) < len(table)


def test_example_deadlines_are_the_batchable_ones(bundled: Trace) -> None:
    table = bundled.table()
    assert table.deadline_s is not None
    assert table.workload is not None
    waits = np.array(bundled.names["workload"])[np.unique(table.workload[np.isfinite(table.deadline_s)])]
    assert waits.tolist() == ["summarise"]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", ROOT / "examples" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["litellm_spendlogs.csv", "azure_like.csv"])
def test_example_logs_are_what_the_script_writes(maker: ModuleType, tmp_path: Path, name: str) -> None:
    write = {"litellm_spendlogs.csv": maker.write_spend_logs, "azure_like.csv": maker.write_azure_like}[name]
    write(tmp_path / name)
    with (tmp_path / name).open() as new, (ROOT / "examples" / name).open() as kept:
        made, committed = list(csv.reader(new)), list(csv.reader(kept))
    assert len(made) == len(committed)
    assert made == committed


def test_example_log_has_its_flaws_found(catalog: object) -> None:
    path = ROOT / "examples" / "litellm_spendlogs.csv"
    assert path.stat().st_size < 3_000_000
    trace = open_trace(path)
    table = trace.table()
    codes = {one.code: one.rows for one in trace.findings}
    assert codes["duplicate_ids"] == 40
    assert codes["unreadable_rows"] == 4
    assert codes["gaps"] > 50
    assert codes["retries"] == codes["failed_calls"] > 100
    assert len(trace.names["model"]) == 12
    assert set(trace.names["provider"]) == {"openai", "anthropic"}
    assert np.sum(table.outcome == Outcome.DUPLICATE) == 40
    assert "billed_usd" not in trace.columns
    assert table.cached_tok is not None
    assert np.all(table.cached_tok <= table.input_tok)
    # Its models are priced: each is an offer of the catalog.
    subjects = set(catalog.subjects("api/"))  # type: ignore[attr-defined]
    assert table.model is not None
    assert table.provider is not None
    pairs = set(zip(table.provider.tolist(), table.model.tolist(), strict=True))
    for provider, model in pairs:
        assert f"api/{trace.names['provider'][provider]}/{trace.names['model'][model]}" in subjects
