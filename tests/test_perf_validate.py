"""The performance model against measured files: errors are reported, and stay where they were."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput, UnknownFact
from isocost.perf.constants import constants_for
from isocost.perf.hardware import gpu_id_of
from isocost.perf.named import model_within
from isocost.perf.predict import quantities
from isocost.validate.perf import answer, points_of, predict, validate_perf
from isocost.validate.runs import Key, Layout, Wanted, drafts_of, poll_steps_of, polls_of, pools_of, runs_of
from isocost.validate.stated import COLUMNS, layout_of, read_rows

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
        {"tp": "", "n_gpu": "", "precision": "auto"},
        {"precision": "ternary"},
        {"engine": "llama.cpp"},
        {"concurrency_or_batch": ""},
    )
    report = validate_perf(path, at)
    assert report.rows == 8
    assert report.answered == 2
    assert report.left_out == {
        "unknown model": 1,
        "unknown accelerator": 1,
        "metric not modelled": 1,
        "precision not modelled": 1,
        "engine that does not batch continuously": 1,
        "load not stated": 1,
    }
    assert report.answered + sum(report.left_out.values()) == report.rows
    assert report.by["family"]["llama-3"].rows == 2


def test_a_row_that_cannot_be_is_left_out_and_the_others_are_answered(tmp_path: Path, at: CatalogAt) -> None:
    wrong: list[dict[str, object]] = [
        {name: -1} for name in ("tp", "pp", "dp", "ep", "isl", "osl", "concurrency_or_batch", "value")
    ]
    wrong += [{"isl": 0}, {"concurrency_or_batch": 0}, {"unit": "fortnights"}]
    wrong += [{name: 1e300} for name in ("tp", "isl", "osl", "concurrency_or_batch")]
    report = validate_perf(_write(tmp_path / "speed.csv", {}, *wrong), at)
    assert report.answered == 1
    assert report.rows == 16
    assert report.left_out == {
        "layout not possible": 5,
        "input length not stated": 3,
        "output length not stated": 2,
        "load not stated": 3,
        "no measured value": 1,
        "unit not known": 1,
    }
    assert report.mape == report.mape


@pytest.mark.parametrize(
    "spelled",
    [
        {"engine": "vLLM (AITER)"},
        {"engine": "dynamo-vllm"},
        {"precision": "float16"},
        {"unit": "milliseconds"},
        {"metric": "mean_tpot_ms"},
        {"metric": "TPOT"},
        {"isl": "1,024"},
        {"model": "acme/our-llama-3.1-8b-tuned-v2"},
        {"model": "Llama3.1:8B"},
        {"dp": ""},
    ],
)
def test_the_same_in_other_words_is_answered_the_same(
    tmp_path: Path, at: CatalogAt, spelled: dict[str, object]
) -> None:
    plain = {"model": "meta-llama/Llama-3.1-8B-Instruct", "tp": 1, "dp": 4, "precision": "bf16"}
    rows = read_rows(_write(tmp_path / "speed.csv", plain, {**plain, **spelled}))
    points, left_out, unanswered = points_of(at, rows)
    assert not left_out
    assert not unanswered
    said = answer(at, points)
    assert said.median[1] == said.median[0]
    assert (points.labels["engine"][1], points.labels["family"][1]) == ("vllm", "llama-3")


def test_copies_of_attention_are_what_the_accelerators_leave() -> None:
    row = {"tp": 2.0, "pp": None, "dp": None, "ep": 8.0, "n_gpu": 8.0}
    assert layout_of(row) == (2.0, 1.0, 4.0, 8.0)
    assert layout_of({**row, "n_gpu": 7.0}) == (2.0, 1.0, 1.0, 8.0)


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("DeepSeek-R1-671B", "deepseek-r1"),
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "deepseek-r1"),
        ("openai/gpt-oss-120B (MXFP4)", "gpt-oss-120b"),
        ("Qwen3.5-397B", "qwen3.5-397b-a17b"),
        ("unsloth/Qwen3-8B-GGUF", "qwen3-8b"),
        ("Mixtral-8x7B-Instruct-v0.1-GPTQ-4bit-128g", "mixtral-8x7b"),
        ("DeepSeek-R1-Distill-Llama-70B", None),
        ("nvidia/Llama-3.1-8B-Minitron-4B", None),
        ("deepseek-v3.5", None),
        ("qwen3-14b-draft", None),
        ("gpt-oss", None),
        ("acme/our-model", None),
    ],
)
def test_a_model_is_known_within_the_name_of_what_was_made_from_it(
    at: CatalogAt, name: str, model_id: str | None
) -> None:
    assert model_within(at, name) == model_id


def test_what_the_stated_accelerators_cannot_hold_is_answered_on_the_fewest_that_can(
    tmp_path: Path, at: CatalogAt
) -> None:
    big = {"model": "deepseek-ai/DeepSeek-R1", "gpu": "L4", "tp": 1, "n_gpu": 1, "config_id": "big"}
    rows = read_rows(_write(tmp_path / "speed.csv", {"tp": "", "n_gpu": ""}, big))
    points, left_out, unanswered = points_of(at, rows)
    assert not left_out
    assert not unanswered
    assert points.setup.gpus.tolist() == [1.0, 32.0]
    size_off = "nobody/Nothing-90000B"
    report = validate_perf(_write(tmp_path / "huge.csv", {}, {"model": size_off, "config_id": "huge"}), at)
    assert report.answered == 1
    assert "huge" in report.failed
    with pytest.raises(BadInput, match="no row"):
        validate_perf(_write(tmp_path / "none.csv", {"gpu": "ABACUS"}), at)


def test_a_script_that_offered_all_requests_at_once_is_read_as_that(tmp_path: Path, at: CatalogAt) -> None:
    run = {
        "model": "openai/gpt-oss-120b", "gpu": "H100-SXM", "tp": 2, "n_gpu": 2, "precision": "fp4",
        "engine": "vllm", "engine_version": "0.11.2", "isl": 1024, "osl": 1024,
        "load_kind": "closed-loop agg",
    }  # fmt: skip
    loads = (
        {**run, "concurrency_or_batch": load, "metric": metric}
        for load in (64, 512)
        for metric in ("tpot_mean", "ttft_mean")
    )
    points, _, _ = points_of(at, read_rows(_write(tmp_path / "speed.csv", *loads)))
    assert points.load.concurrency.tolist() == [64.0, 64.0, 88.0, 88.0]
    assert points.told.most_sequences.tolist()[2:] == [16.0, 16.0]
    tpot, ttft, fewer, waited = predict(points)
    # Sixteen decode, so tokens come faster; the mean request waits four and a half turns for its seat.
    assert fewer < tpot
    assert waited == pytest.approx(4.5 * 921 * fewer, rel=0.15)
    assert waited > 10 * ttft


def test_prompts_that_a_script_holds_back_wait(tmp_path: Path, at: CatalogAt) -> None:
    run = {
        "model": "meta-llama/Llama-3.1-70B", "gpu": "B200", "precision": "fp8", "engine": "trtllm",
        "engine_version": "", "isl": 1024, "concurrency_or_batch": 16,
        "load_kind": "closed-loop agg", "metric": "ttft_mean",
    }  # fmt: skip
    runs = ({**run, "tp": tp, "n_gpu": tp, "osl": osl} for tp, osl in ((4, 1024), (4, 8192), (8, 1024)))
    points, _, _ = points_of(at, read_rows(_write(tmp_path / "speed.csv", *runs)))
    held, *others = points.told.poll_steps.tolist()
    assert 21 < held < 41
    assert others == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "gpu_id"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("NVIDIA H100 PCIe", "h100-pcie"),
        ("A100 SXM 80GB", "a100-80-sxm"),
        ("A100-40GB", "a100-40-sxm"), ("GB200 NVL72", "gb200"),
        ("RTX PRO 6000 Blackwell", "rtx-pro-6000"),
        ("GeForce RTX 4090", "rtx-4090"), ("AMD Instinct MI355X", "mi355x"),
        ("Google Cloud TPU v6e", "tpu-v6e"),
        ("RTX 6000 Ada", "rtx-6000-ada"), ("RTX A6000", "rtx-a6000"), ("H200 NVL", "h200-nvl"),
    ],
)  # fmt: skip
def test_accelerators_are_known_by_the_names_that_people_write(at: CatalogAt, name: str, gpu_id: str) -> None:
    assert gpu_id_of(at, name) == gpu_id


@pytest.mark.parametrize("name", ["B2000", "H1000", "M40 Max", "6000", "", "NVIDIA", "weird-gpu-9000"])
def test_accelerators_that_nobody_knows_stay_unknown(at: CatalogAt, name: str) -> None:
    with pytest.raises(UnknownFact):
        gpu_id_of(at, name)


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


def test_pools_that_prefill_apart_are_answered_for_themselves(tmp_path: Path, at: CatalogAt) -> None:
    listed = {
        "model": "deepseek-ai/DeepSeek-R1", "gpu": "GB200", "precision": "fp4", "engine": "trtllm", "tp": "",
        "engine_version": "0.8.1.post2", "n_gpu": "", "load_kind": "closed-loop disagg", "osl": 1024,
        "concurrency_or_batch": 615,
    }  # fmt: skip
    changes = (
        listed,
        {**listed, "metric": "ttft_mean"},
        {"tp": 64, "n_gpu": 64},
        {"load_kind": "disagg", "tp": ""},
    )
    rows = read_rows(_write(tmp_path / "speed.csv", *changes))
    points, left_out, unanswered = points_of(at, rows)
    assert not left_out
    assert not unanswered
    assert (points.told.prefill_replicas > 0).all()
    # The benchmark's own list says how wide the pools were; what no list holds is as wide as others are,
    # on whole nodes of eight.
    assert points.setup.gpus.tolist()[0] > 8
    assert points.setup.gpus.tolist()[2:] == [8, 8]
    assert points.told.decode_replicas.tolist()[2:] == [7, 4]
    assert set(points.labels["metric"]) == {"tpot_mean, prefill apart", "ttft_mean, prefill apart"}
    said = predict(points)
    assert np.isfinite(said).all()
    assert (said > 0).all()


def test_listed_runs_say_what_was_drafted(at: CatalogAt) -> None:
    runs = runs_of(at)
    key = Key("deepseek-v3", "b200", "trtllm", "fp8", 1024, 1024)
    layout = Layout(1, 8, 1, 1)
    assert drafts_of(runs[key], Wanted("1.2.0rc6.post3", 16, layout, None)) == 3
    assert drafts_of(runs[key], Wanted("1.2.0rc6.post2", 64, layout, None)) == 0
    assert drafts_of((), Wanted("1.2.0rc6.post3", 16, layout, None)) == 0
    pools = pools_of(
        runs[key._replace(gpu_id="gb200", weights="fp4")], Wanted("0.8.1.post2", 615, None, None)
    )
    assert pools
    assert all(run.prefill is not None for run in pools)
    assert polls_of(at)["deepseek-v3", "b200", "sglang", "fp8"]
    assert poll_steps_of(polls_of(at)["deepseek-v3", "b200", "sglang", "fp8"], 64) == 30


def test_the_pace_of_one_pool_is_read_from_the_words_of_its_load(tmp_path: Path, at: CatalogAt) -> None:
    bare = {"tp": "", "isl": "", "osl": "", "concurrency_or_batch": "", "unit": "tok/s", "n_gpu": 32}
    model = {**bare, "model": "DeepSeek-V3/R1", "gpu": "H800", "value": 5000}
    rows = read_rows(
        _write(
            tmp_path / "speed.csv",
            {**model, "metric": "prefill_tok_per_gpu", "load_kind": "prefill 4K, 16K tok/GPU"},
            {**model, "metric": "decode_tok_per_gpu", "load_kind": "decode 4K ctx bs128/GPU EP128"},
            {**model, "metric": "output_throughput_per_node(8gpu)", "load_kind": "decode EP144 online"},
        )
    )
    points, left_out, _ = points_of(at, rows)
    assert not left_out
    assert points.load.isl.tolist()[:2] == [4096, 4096]
    assert points.load.concurrency.tolist()[1] == 128 * 128
    assert points.measured.tolist() == [5000, 5000, 625]
    said = predict(points)
    assert said[0] > said[1] > 0


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


def test_any_table_with_those_columns_is_read(tmp_path: Path, at: CatalogAt) -> None:
    some = {name: value for name, value in ROW.items() if name not in ("ep", "dp", "pp", "engine_version")}
    (tmp_path / "speed.jsonl").write_text(json.dumps({name.upper(): value for name, value in some.items()}))
    report = validate_perf(tmp_path / "speed.jsonl", at)
    assert report.answered == 1
    bare = {"tp": "", "unit": "us", "value": 15_000, "precision": "FP8_BLOCK"}
    assert validate_perf(_write(tmp_path / "speed.csv", bare), at).answered == 1


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
    ("silicon", "ttft_mean"): 0.30,
    ("trtllm", "output_throughput"): 0.14,
    ("mlenergy", "itl_p50"): 0.13,
    ("inferencex_community", "tpot_mean"): 0.09,
    ("argonne", "e2e_latency"): 0.20,
    ("splitwise", "tpot_mean"): 0.28,
    ("splitwise", "e2e_mean"): 0.28,
    ("silicon", "tpot_mean, prefill apart"): 0.20,
    ("silicon", "ttft_mean, prefill apart"): 0.6,
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
    # Held against the other families' intervals.
    assert 0.75 <= report.covered <= 0.85
