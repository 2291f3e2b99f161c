"""The performance model against measured files: errors are reported, and stay where they were."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput
from isocost.perf.constants import constants_for
from isocost.perf.predict import quantities
from isocost.validate.perf import COLUMNS, answer, layout_of, points_of, predict, read_rows, validate_perf

ROW = {
    "model": "meta-llama/Llama-3.3-70B-Instruct",
    "gpu": "H100-SXM",
    "n_gpu": 4,
    "tp": 4,
    "pp": 1,
    "ep": 1,
    "dp": 1,
    "precision": "fp8",
    "engine": "vllm",
    "engine_version": "0.19.0",
    "isl": 1024,
    "osl": 256,
    "concurrency_or_batch": 16,
    "load_kind": "closed-loop",
    "metric": "tpot_mean",
    "value": 15.0,
    "unit": "ms",
    "config_id": "one",
}


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    return Catalog.load().at(date(2026, 11, 22))


def _write(path: Path, *changes: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**ROW, **change} for change in changes)
    return path


def test_rows_are_left_out_only_by_a_named_rule(tmp_path: Path, at: CatalogAt) -> None:
    path = _write(
        tmp_path / "speed.csv",
        {},
        {"model": "nobody/Nothing"},
        {"gpu": "ABACUS"},
        {"metric": "power", "unit": "W"},
        {"load_kind": "closed-loop disagg"},
        {"tp": ""},
        {"tp": 16, "n_gpu": 16},
        {"engine": "llama.cpp"},
        {"concurrency_or_batch": ""},
    )
    report = validate_perf(path, at)
    assert report.rows == 9
    assert report.answered == 1
    assert report.left_out == {
        "unknown model": 1,
        "unknown accelerator": 1,
        "metric not modelled": 1,
        "prefill and decode on separate replicas": 1,
        "layout not stated": 1,
        "more than 8 accelerators a replica": 1,
        "engine that does not batch continuously": 1,
        "load not stated": 1,
    }
    assert report.answered + sum(report.left_out.values()) == report.rows
    assert report.by["family"]["llama-3"].rows == 1


def test_what_does_not_fit_is_unanswered_and_fails(tmp_path: Path, at: CatalogAt) -> None:
    big = {"model": "deepseek-ai/DeepSeek-R1", "gpu": "L4", "tp": 1, "n_gpu": 1, "config_id": "big"}
    report = validate_perf(_write(tmp_path / "speed.csv", {}, big), at)
    assert report.answered == 1
    assert "big" in report.failed
    with pytest.raises(BadInput, match="no row"):
        validate_perf(_write(tmp_path / "none.csv", {"gpu": "ABACUS"}), at)


def test_a_model_that_nobody_knows_is_answered_by_the_size_in_its_name(tmp_path: Path, at: CatalogAt) -> None:
    names = ("nobody/Nothing-72B", "nobody/Nothing-8B", "nobody/Nothing-60B-A3B", "meta-llama/Llama-3.1-8B")
    rows = read_rows(_write(tmp_path / "speed.csv", *({"model": name, "tp": 2} for name in names)))
    points, left_out, _ = points_of(at, rows)
    assert not left_out
    large, small, mixture, known = predict(points)
    assert large > 3 * small
    assert small == pytest.approx(known, rel=0.25)
    assert small < mixture < large
    assert points.labels["family"] == ["by size"] * 3 + ["llama-3"]


def test_no_row_is_left_out_for_what_it_measured(tmp_path: Path, at: CatalogAt) -> None:
    pair = [{"metric": "ttft_mean", "value": 60_000.0}, {}]
    report = validate_perf(_write(tmp_path / "speed.csv", *pair, {"config_id": "two"}), at)
    assert not report.left_out
    assert report.answered == 3


def test_layouts_are_read_back_as_the_engine_ran_them() -> None:
    def layout(tp: float, dp: float, ep: float) -> tuple[float, ...]:
        return layout_of({"tp": tp, "pp": None, "dp": dp, "ep": ep})

    assert layout(8, 1, 8) == layout(64, 1, 8) == (8, 1, 1, 8)
    assert layout(1, 8, 8) == layout(1, 64, 8) == (1, 1, 8, 8)
    assert layout(4, 4, 16) == (4, 1, 1, 4)
    assert layout(2, 1, 1) == (2, 1, 1, 1)


def test_a_perfect_file_passes_and_a_doubled_one_fails(tmp_path: Path, at: CatalogAt) -> None:
    rows = read_rows(_write(tmp_path / "speed.csv", {}, {"concurrency_or_batch": 64}))
    points, _, _ = points_of(at, rows)
    said_ms = answer(at, points).median * 1e3
    changes = [
        {"value": value, "concurrency_or_batch": load} for value, load in zip(said_ms, (16, 64), strict=True)
    ]
    exact = validate_perf(_write(tmp_path / "exact.csv", *changes), at)
    assert (exact.passed, exact.covered) == (2, 1.0)
    assert exact.mape == pytest.approx(0, abs=1e-9)
    doubled = [{**change, "value": 2 * float(change["value"])} for change in changes]
    twice = validate_perf(_write(tmp_path / "twice.csv", *doubled), at)
    assert (twice.passed, twice.covered) == (0, 0.0)
    assert twice.mape == pytest.approx(0.5)


def test_a_fitted_family_is_answered_by_constants_that_had_not_seen_it(tmp_path: Path, at: CatalogAt) -> None:
    points, _, _ = points_of(at, read_rows(_write(tmp_path / "speed.csv", {})))
    seen = constants_for(
        at, points.labels["gpu"], points.precisions, points.arch, points.setup, points.labels["stack"]
    )
    said = quantities(points.arch, points.gpu, points.setup, seen, points.load)["tpot"]
    assert predict(points) != pytest.approx(said, rel=1e-6)
    assert predict(points) == pytest.approx(said, rel=0.3)


def test_a_missing_file_or_column_is_one_clear_line(tmp_path: Path, at: CatalogAt) -> None:
    with pytest.raises(BadInput, match="no such file"):
        validate_perf(tmp_path / "absent.csv", at)
    short = tmp_path / "short.csv"
    short.write_text("model,gpu\na,b\n")
    with pytest.raises(BadInput, match="no column concurrency_or_batch"):
        validate_perf(short, at)


# Median absolute relative error of families that the constants had not seen, when last measured, with a
# margin: a change that makes the model worse on any of them fails here.
CEILINGS = {
    ("silicon", "tpot_mean"): 0.12,
    ("silicon", "ttft_mean"): 0.35,
    ("trtllm", "output_throughput"): 0.15,
    ("mlenergy", "itl_p50"): 0.125,
    ("inferencex_community", "tpot_mean"): 0.09,
    ("argonne", "e2e_latency"): 0.20,
    ("splitwise", "tpot_mean"): 0.28,
}


@pytest.mark.parametrize(("name", "metric"), CEILINGS)
def test_measured_files_stay_within_their_errors(
    data_dir: Path, at: CatalogAt, name: str, metric: str
) -> None:
    report = validate_perf(data_dir / "perf" / f"{name}.parquet", at)
    share = report.by["metric"][metric]
    assert share.median <= CEILINGS[name, metric]
    assert np.isfinite(share.mape)
    assert report.rows == report.answered + sum(report.left_out.values()) + _unanswered(data_dir, at, name)


def _unanswered(data_dir: Path, at: CatalogAt, name: str) -> int:
    return len(points_of(at, read_rows(data_dir / "perf" / f"{name}.parquet"))[2])


@pytest.mark.parametrize("name", ["silicon", "mlenergy", "trtllm", "argonne"])
def test_eighty_per_cent_intervals_hold_on_every_large_source(
    data_dir: Path, at: CatalogAt, name: str
) -> None:
    report = validate_perf(data_dir / "perf" / f"{name}.parquet", at)
    assert 0.75 <= report.covered <= 0.85
