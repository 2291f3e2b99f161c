"""The highest load within limits: what bisection promises, and a run of a real engine."""

from __future__ import annotations

import numpy as np
import pytest

from isocost.errors import BadInput, BadLimits, BadTrace
from isocost.replay.capacity import capacity, tabulate
from isocost.replay.queue import BatchLimits, Terms, serve
from isocost.validate.replay import validate_replay

TERMS = Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000)
LIMITS = BatchLimits(2048, 64, 200_000)
MUST = {"ttft_limit_ps": 1e12, "tpot_limit_ps": 3e10, "percentile": 95}


@pytest.fixture(scope="module")
def load() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    n = 2000
    arrival = np.cumsum(rng.exponential(1e12, n)).astype(np.int64)
    return arrival, rng.integers(1, 2000, n), rng.integers(1, 200, n)


def test_limits_hold_at_the_capacity_and_not_above(load) -> None:
    found = capacity(*load, TERMS, LIMITS, 2, **MUST)
    assert found.requests_per_s > 0
    assert found.ttft_ps <= MUST["ttft_limit_ps"]
    assert found.tpot_ps <= MUST["tpot_limit_ps"]
    assert 0.0 < found.utilisation <= 1.0
    arrival, prompt, output = load
    faster = ((arrival - arrival[0]) / (found.scale * 1.1)).astype(np.int64)
    served = serve(faster, prompt, output, TERMS, LIMITS, n_replicas=2)
    many = output > 1
    tpot = (served.e2e_ps - served.ttft_ps)[many] / (output[many] - 1)
    assert np.percentile(served.ttft_ps, 95) > MUST["ttft_limit_ps"] or np.percentile(tpot, 95) > 3e10


def test_the_same_twice_and_tighter_is_less(load) -> None:
    wide = capacity(*load, TERMS, LIMITS, 2, **MUST)
    assert capacity(*load, TERMS, LIMITS, 2, **MUST) == wide
    tight = capacity(*load, TERMS, LIMITS, 2, **(MUST | {"tpot_limit_ps": 1.5e10}))
    assert 0 < tight.requests_per_s < wide.requests_per_s


def test_cached_prompts_raise_capacity(load) -> None:
    cold = capacity(*load, TERMS, LIMITS, 1, **MUST)
    warm = capacity(*load, TERMS, LIMITS, 1, **MUST, cached_tok=load[1] // 2)
    assert warm.requests_per_s > cold.requests_per_s


def test_time_units_of_the_sample_do_not_matter(load) -> None:
    arrival, prompt, output = load
    once = capacity(arrival, prompt, output, TERMS, LIMITS, 1, **MUST)
    slow = capacity(arrival * 8 + 10**12, prompt, output, TERMS, LIMITS, 1, **MUST)
    assert slow.requests_per_s == pytest.approx(once.requests_per_s, rel=0.05)


def test_no_load_holds_an_impossible_limit(load) -> None:
    none = capacity(*load, TERMS, LIMITS, 1, **(MUST | {"ttft_limit_ps": 1e6}))
    assert (none.requests_per_s, none.ttft_ps) == (0.0, -1)
    unfit = capacity(*load, TERMS, BatchLimits(2048, 64, 900), 1, **MUST)
    assert unfit.requests_per_s == 0.0


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_load_that_may_wait_counts_only_as_far_as_it_is_worked_off(load, replicas: int) -> None:
    """Without limits a backlog holds them all; what is found is what replicas finish, day after day."""
    free = {"ttft_limit_ps": 1e17, "tpot_limit_ps": 1e17, "percentile": 95}
    found = capacity(*load, TERMS, LIMITS, replicas, **free)
    _, prompt, output = load
    again = np.tile(prompt, 4), np.tile(output, 4)
    served = serve(np.arange(8000, dtype=np.int64), *again, TERMS, LIMITS, n_replicas=replicas)
    whole = 8000 / served.e2e_ps.max() * 1e12
    assert found.requests_per_s == pytest.approx(whole, rel=0.05)
    strict = capacity(*load, TERMS, LIMITS, replicas, **MUST)
    assert strict.requests_per_s <= found.requests_per_s


def test_a_short_sample_is_tiled(load) -> None:
    arrival, prompt, output = (column[:60] for column in load)
    short = capacity(arrival, prompt, output, TERMS, LIMITS, 8, **MUST)
    long = capacity(*load, TERMS, LIMITS, 8, **MUST)
    assert short.requests_per_s == pytest.approx(long.requests_per_s, rel=0.35)


def test_table_is_monotone_and_nearly_proportional(load) -> None:
    rows = tabulate(*load, TERMS, LIMITS, [8, 1, 2, 4], **MUST)
    rates = [row.requests_per_s for row in rows]
    assert rates[1] <= rates[2] <= rates[3] <= rates[0]
    assert rates[0] >= 8 * rates[1] * 0.9  # pooling does not lose


def test_refusals(load) -> None:
    with pytest.raises(BadTrace):
        capacity([5], [1], [1], TERMS, LIMITS, 1, **MUST)
    with pytest.raises(BadTrace):
        capacity([5, 5], [1, 1], [1, 1], TERMS, LIMITS, 1, **MUST)
    with pytest.raises(BadLimits):
        capacity(*load, TERMS, LIMITS, 1, **(MUST | {"percentile": 101}))
    with pytest.raises(BadLimits):
        capacity(*load, TERMS, LIMITS, 0, **MUST)


def test_a_real_engine_is_predicted(data_dir) -> None:
    """Fitted on the first 120 requests; the last 180 are only compared. Targets: three in a hundred."""
    report = validate_replay(data_dir / "traces" / "vllm_rtxpro6000_llama-3.1-8b")
    assert (report.fitted, report.predicted, len(report.rows)) == (120, 180, 15)
    assert report.passed == 15
    assert max(abs(row.error_frac) for row in report.rows) < 0.02
    assert max(report.mape.values()) < 0.02


def test_a_run_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(BadInput):
        validate_replay(tmp_path)
    (tmp_path / "requests.jsonl").write_text('{"input_toks": 3}\n')
    (tmp_path / "meta.json").write_text('{"engine_kwargs": {"max_num_seqs": 2, "max_num_batched_tokens": 8}}')
    with pytest.raises(BadInput, match="output_toks"):
        validate_replay(tmp_path)
