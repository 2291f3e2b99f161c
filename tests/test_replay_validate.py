"""Fitted on the first part of a run, the replay predicts the rest, with a full cache and lock-step too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine_truth import write
from isocost.errors import BadInput
from isocost.replay.engine import EngineLimits, StepTerms
from isocost.validate.engine_run import read_run
from isocost.validate.replay import validate_replay

KWARGS = {"tensor_parallel_size": 1, "max_num_seqs": 48, "max_num_batched_tokens": 2048, "dtype": "bfloat16"}
DENSE = StepTerms(45_000_000_000, 170_000_000, 40_000_000, 160_000, 3_000_000)
MOE = StepTerms(6_000_000_000, 18_000_000, 25_000_000, 62_000, 2_000_000, 16_000_000_000)


def run_of(folder: Path, kind: str, seed: int = 3):
    """A 32B on one card whose cache holds 14 % of what may run, or a 30B of experts on two ranks."""
    if kind in ("full", "chunks"):
        limits = EngineLimits(2048 if kind == "full" else 256, 48, 1200, 16, 1, 1, int(kind == "chunks"))
        meta = {"model": "Qwen/Qwen3-32B", "engine_kwargs": KWARGS, "kv_cache": {"num_gpu_blocks": 1201}}
        return write(folder, DENSE, limits, meta, 3.0, 180, seed)
    limits = EngineLimits(2048, 24, 20_000, 16, 2, 1)
    kwargs = {**KWARGS, "max_num_seqs": 24, "data_parallel_size": 2, "enable_expert_parallel": True}
    meta = {"model": "Qwen/Qwen3-30B-A3B", "engine_kwargs": kwargs}
    return write(folder, MOE, limits, meta, 14.0, 180, seed)


@pytest.mark.parametrize("kind", ["full", "ranks"])
def test_the_first_part_predicts_the_rest(tmp_path: Path, kind: str) -> None:
    """Hidden constants, 3 % of noise on every step: percentiles of the other requests."""
    asks = run_of(tmp_path, kind)
    assert (sum(ask.preempted for ask in asks) > 20) == (kind == "full")
    report = validate_replay(tmp_path)
    assert (report.fitted, report.predicted, len(report.rows)) == (72, 108, 15)
    assert report.passed >= 13, report.rows
    # The p99 of 108 requests is the second largest of them: who is pushed out most is chance.
    errors = [abs(row.error_frac) for row in report.rows if row.percentile < 99]
    assert max(errors) < 0.04
    assert np.mean(errors) < 0.012
    assert (report.lag, report.by_chunk) == (1, 0)
    assert (report.preempted > 20) == (kind == "full")


@pytest.mark.parametrize("said", [False, True])
def test_an_older_engine_lets_prompts_in_by_their_first_chunk(tmp_path: Path, said: bool) -> None:
    """The data say so, or the settings do."""
    run_of(tmp_path, "chunks")
    meta = json.loads((tmp_path / "meta.json").read_text())
    meta["engine_kwargs"]["max_num_batched_tokens"] = 256
    if said:
        meta["resolved_config"] = {"scheduler_config": {"scheduler_reserve_full_isl": False}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    report = validate_replay(tmp_path)
    assert report.by_chunk == 1
    assert report.passed >= 12, report.rows


def test_the_size_of_a_full_cache_is_found(tmp_path: Path) -> None:
    """Where a run does not say how large its cache is, the waiting and the preemptions do."""
    run_of(tmp_path, "full")
    meta = json.loads((tmp_path / "meta.json").read_text())
    del meta["kv_cache"]
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "config.json").unlink()
    report = validate_replay(tmp_path)
    assert report.cache_from == "fitted"
    assert report.cache_tok == pytest.approx(1200 * 16, rel=0.03)
    assert max(abs(row.error_frac) for row in report.rows if row.percentile < 99) < 0.05


def test_a_run_is_read_in_several_layouts(tmp_path: Path) -> None:
    """Settings as the engine resolved them come before defaults; requests without times are left out."""
    run_of(tmp_path, "full")
    from datetime import date

    from isocost.catalog import Catalog

    at = Catalog.load().at(date(2026, 11, 23))
    plain = read_run(tmp_path, at)
    assert (plain.n_blocks, plain.max_seqs, plain.lag, plain.ranks) == (1200, 48, None, 1)
    assert plain.physics.kv_bytes_per_tok == 2 * 64 * 8 * 128 * 2
    settled = {
        "scheduler_config": {"max_num_seqs": 7, "max_num_batched_tokens": 99, "async_scheduling": False},
        "cache_config": {"num_gpu_blocks": 51, "block_size": 32},
    }
    (tmp_path / "meta.json").write_text(json.dumps({"engine_kwargs": {}, "resolved_config": settled}))
    with (tmp_path / "requests.jsonl").open("a") as lines:
        lines.write('{"input_toks": 5, "output_toks": 6, "queued_ts": null}\n')
    other = read_run(tmp_path, at)
    assert (other.max_seqs, other.budget_tok, other.lag) == (7, 99, 0)
    assert (other.n_blocks, other.block_tok, other.left_out) == (50, 32, {"without times": 1})
    assert np.isnan(other.physics.kv_bytes_per_tok)
    (tmp_path / "requests.jsonl").write_text('{"input_toks": 5, "output_toks": 6}\n')
    with pytest.raises(BadInput, match="times"):
        read_run(tmp_path, at)


def test_times_that_run_backwards_are_left_out_by_name(tmp_path: Path) -> None:
    """A request that ended before it was seen says nothing of an engine; neither do two of one moment."""
    run_of(tmp_path, "full")
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    lines[3]["first_token_ts"] = lines[3]["queued_ts"] - 1.0
    lines[9]["last_token_ts"] = lines[9]["first_token_ts"] - 1.0
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    from datetime import date

    from isocost.catalog import Catalog

    at = Catalog.load().at(date(2026, 11, 23))
    run = read_run(tmp_path, at)
    assert run.left_out == {"times not in order": 2}
    assert run.arrival_ps.size == len(lines) - 2
    for line in lines:
        line["first_token_ts"] = line["last_token_ts"] = line["queued_ts"]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(BadInput, match="in order"):
        read_run(tmp_path, at)


def test_a_run_of_single_tokens_has_no_times_per_output_token(tmp_path: Path) -> None:
    """Embeddings and classifiers answer one token: TTFT and e2e are predicted, TPOT is not asked."""
    meta = {"model": "Qwen/Qwen3-32B", "engine_kwargs": KWARGS, "kv_cache": {"num_gpu_blocks": 1201}}
    asks = write(tmp_path, DENSE, EngineLimits(2048, 48, 1200, 16, 1, 1), meta, 3.0, 40, 3)
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    for line in lines:
        line["output_toks"], line["last_token_ts"] = 1, line["first_token_ts"]
    lines[0]["queued_ts"] = None
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = validate_replay(tmp_path)
    assert len(asks) == 40
    assert {row.metric for row in report.rows} == {"ttft", "e2e"}
    assert all(np.isfinite(row.error_frac) for row in report.rows)
    assert set(report.mape) == {"ttft", "e2e"}
    # Rows are percentiles: requests without times are none of them.
    assert report.requests_left_out == {"without times": 1}
    assert report.passed + len(report.failed) == len(report.rows)
