"""Calibration: what tools write is read, a set-up is fitted, and what was fitted predicts what was not."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.catalog import FACTS_DIR
from isocost.cli import main
from isocost.cli.catalog import newest
from isocost.errors import BadInput
from isocost.perf.anchor import kinship_of
from isocost.perf.predict import groups_of, load_of, quantities, spread_of
from isocost.replay.queue import BatchLimits, Terms, serve
from isocost.size.answer import Wanted, size
from isocost.size.calibrated import Anchor, own_of, with_calibration
from isocost.size.queue import Need, arrivals_ps
from isocost.size.setups import Ask, one_setup
from isocost.size.speed import ratio_at, speed_of
from isocost.validate.benchmarks import Run, read_runs
from isocost.validate.calibrate import Place, Ratio, _posterior, calibrate, write
from isocost.validate.perf import points_of, predict, select
from isocost.validate.stated import read_rows

VLLM = {
    "date": "20261123-034000", "backend": "vllm", "model_id": "meta-llama/Llama-3.3-70B-Instruct",
    "num_prompts": 300, "request_rate": 2.5, "burstiness": 1.0, "max_concurrency": None, "duration": 121.0,
    "completed": 300, "total_input_tokens": 600_000, "total_output_tokens": 90_000,
    "request_throughput": 2.5, "mean_ttft_ms": 300.0, "mean_tpot_ms": 31.0,
}  # fmt: skip
SGLANG = {
    "backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "duration": 60.0, "completed": 240,
    "total_input_tokens": 240_000, "total_output_tokens": 48_000, "request_throughput": 4.0,
    "mean_e2e_latency_ms": 4200.0, "mean_ttft_ms": 200.0, "mean_tpot_ms": 20.0, "concurrency": 16.7,
}  # fmt: skip
AIPERF = {
    "time_to_first_token": {"unit": "ms", "avg": 250.0, "count": 90}, "request_count": {"avg": 90},
    "inter_token_latency": {"unit": "ms", "avg": 25.0},
    "request_throughput": {"unit": "requests/sec", "avg": 3},
    "input_sequence_length": {"unit": "tokens", "avg": 1000},
    "request_latency": {"unit": "ms", "avg": 5000.0},
    "output_sequence_length": {"unit": "tokens", "avg": 200},
    "input_config": {"model_names": ["Qwen/Qwen3-32B"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


@pytest.fixture(scope="module")
def place(at: CatalogAt) -> Place:
    ask = Ask(("h100-sxm",), (1,), ("vllm",), ("native",), ("bf16",))
    found = one_setup(at, "llama-3.1-8b", ask, (1, 1, 1))
    return Place("llama-3.1-8b", "h100-sxm", "vllm", found, BatchLimits(8192, 128, 400_000))


def read(folder: Path, text: str, name: str = "bench.json") -> list[Run]:
    (folder / name).write_text(text)
    return read_runs(folder / name)


def test_a_result_of_vllm_is_read_with_its_concurrency_by_little(tmp_path: Path) -> None:
    (run,) = read(tmp_path, json.dumps(VLLM))
    assert (run.model, run.engine, run.isl, run.osl) == (VLLM["model_id"], "vllm", 2000.0, 300.0)
    assert run.concurrency == pytest.approx(2.5 * (0.3 + 299 * 0.031))
    assert run.requests is None


def test_detailed_results_hold_requests_less_those_that_failed(tmp_path: Path) -> None:
    detailed = {
        **VLLM, "input_lens": [10, 20, 30], "output_lens": [3, 2, 2], "ttfts": [0.1, 0.2, 0.3],
        "itls": [[0.01, 0.01], [0.02], [0.03]], "start_times": [7.0, 5.0, 6.0], "errors": ["", "", "boom"],
    }  # fmt: skip
    (run,) = read(tmp_path, json.dumps(detailed))
    assert run.requests is not None
    assert run.requests.arrival_s.tolist() == [0.0, 2.0]
    assert run.requests.e2e_s.tolist() == pytest.approx([0.22, 0.12])


def test_a_result_with_every_field_that_vllm_writes_today_is_read(tmp_path: Path) -> None:
    """The fields, in order, of ``vllm/benchmarks/serve.py`` at 009e6d4a with ``--save-detailed``: one of
    three requests failed, and the rate was not limited."""
    written = {
        "date": "20261101-120000", "endpoint_type": "openai", "backend": "openai", "label": "openai",
        "model_id": "Qwen/Qwen3-8B", "tokenizer_id": "Qwen/Qwen3-8B", "num_prompts": 3, "request_rate": "inf",
        "burstiness": 1.0, "max_concurrency": 2, "duration": 4.0, "completed": 2, "failed": 1,
        "total_input_tokens": 200, "total_output_tokens": 6, "request_throughput": 0.5,
        "request_goodput": None, "output_throughput": 1.5, "total_token_throughput": 51.5,
        "input_lens": [100, 100, 100],
        "output_lens": [3, 0, 3], "ttfts": [0.1, 0.0, 0.2], "itls": [[0.02, 0.02], [], [0.03, 0.03]],
        "latencies": [0.14, 0.0, 0.26], "start_times": [10.0, 10.5, 11.0], "queue_times": [0.0, 0.0, 0.0],
        "generated_texts": ["a", "", "b"], "errors": ["", "timed out", ""], "max_output_tokens_per_s": 6.0,
        "max_concurrent_requests": 2, "rtfx": 0.0, "mean_ttft_ms": 150.0, "median_ttft_ms": 150.0,
        "std_ttft_ms": 50.0, "p50_ttft_ms": 150.0, "p99_ttft_ms": 199.0, "mean_tpot_ms": 25.0,
        "median_tpot_ms": 25.0, "std_tpot_ms": 5.0, "mean_itl_ms": 25.0, "mean_e2el_ms": 200.0,
    }  # fmt: skip
    (run,) = read(tmp_path, json.dumps(written))
    assert (run.model, run.engine, run.requests_n) == ("Qwen/Qwen3-8B", "vllm", 2)
    assert (run.isl, run.osl) == (100.0, 3.0)
    assert run.ttft_s == pytest.approx(0.15)
    assert run.tpot_s == pytest.approx(0.025)
    assert run.requests is not None
    assert run.requests.arrival_s.tolist() == [0.0, 1.0]
    assert run.requests.e2e_s == pytest.approx([0.14, 0.26])


def test_several_results_are_several_runs(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(one) for one in (SGLANG, SGLANG))
    runs = read(tmp_path, lines, "out.jsonl")
    assert [run.engine for run in runs] == ["sglang", "sglang"]
    assert runs[1].where.endswith("out.jsonl:2")
    assert len(read(tmp_path, json.dumps([VLLM, VLLM]))) == 2


def test_a_profile_of_aiperf_is_read_in_its_units(tmp_path: Path) -> None:
    (run,) = read(tmp_path, json.dumps(AIPERF))
    assert (run.model, run.ttft_s, run.tpot_s, run.requests_n) == ("Qwen/Qwen3-32B", 0.25, 0.025, 90)
    assert run.concurrency == pytest.approx(15.0)


def test_a_report_of_guidellm_is_read_benchmark_by_benchmark(tmp_path: Path) -> None:
    def stats(mean: float) -> dict[str, object]:
        return {"successful": {"mean": mean, "median": mean}, "errored": {"mean": 9e9}}

    metrics = {
        "request_totals": {"successful": 95, "incomplete": 0, "errored": 5, "total": 100},
        "time_to_first_token_ms": stats(40.0), "inter_token_latency_ms": stats(15.0),
        "request_latency": stats(4.0), "requests_per_second": stats(2.5),
        "prompt_token_count": stats(1000.0), "output_token_count": stats(250.0),
    }  # fmt: skip
    report = {
        "metadata": {"version": 2, "guidellm_version": "0.7.0"},
        "benchmarks": [
            {"config": {"rate": 2}, "metrics": metrics},
            {"config": {"rate": 8}, "metrics": metrics | {"request_concurrency": stats(31.5)}},
        ],
    }
    (tmp_path / "benchmarks.json").write_text(json.dumps(report))
    first, second = read_runs(tmp_path / "benchmarks.json")
    assert (first.requests_n, first.isl, first.osl) == (95, 1000, 250)
    assert (first.ttft_s, first.tpot_s) == (pytest.approx(0.04), pytest.approx(0.015))
    assert first.concurrency == pytest.approx(10.0)
    assert second.concurrency == pytest.approx(31.5)
    metrics["request_totals"] = {"successful": 0}
    (tmp_path / "none.json").write_text(json.dumps({"benchmarks": [{"metrics": metrics}]}))
    with pytest.raises(BadInput, match="no request was completed"):
        read_runs(tmp_path / "none.json")


def test_records_of_aiperf_are_requests_one_by_one(tmp_path: Path) -> None:
    def record(start: int, ttft: object, latency: object) -> str:
        return json.dumps({
            "metadata": {"x_request_id": "a", "request_start_ns": start, "request_end_ns": start + 10**9},
            "metrics": {
                "time_to_first_token": ttft, "request_latency": latency,
                "input_sequence_length": {"value": 50, "unit": "tokens"},
                "output_sequence_length": {"value": 100},
            },
            "error": None,
        })  # fmt: skip

    lines = [
        record(10**12, {"value": 45.5, "unit": "ms"}, {"value": 900.0, "unit": "ms"}),
        record(10**12 + 5 * 10**8, {"value": 0.05, "unit": "s"}, {"value": 1.1, "unit": "s"}),
        record(10**12 + 2 * 10**9, {"value": 60.0}, {"value": 1000.0}),
        json.dumps({"metadata": {"request_start_ns": 10**12}, "metrics": {}, "error": {"type": "Timeout"}}),
    ]
    (tmp_path / "profile_export.jsonl").write_text("\n".join(lines) + "\n")
    (run,) = read_runs(tmp_path / "profile_export.jsonl")
    assert run.requests is not None
    assert run.requests.arrival_s.tolist() == pytest.approx([0.0, 0.5, 2.0])
    assert run.requests.ttft_s.tolist() == pytest.approx([0.0455, 0.05, 0.06])
    assert run.requests.e2e_s.tolist() == pytest.approx([0.9, 1.1, 1.0])
    assert (run.isl, run.osl, run.requests_n) == (50, 100, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("{}", "no benchmark"),
        (json.dumps({**VLLM, "completed": 0}), "no request was completed"),
    ],
)
def test_what_is_no_benchmark_says_so(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read(tmp_path, text)


def test_a_log_of_requests_is_read_as_csv_too(tmp_path: Path) -> None:
    head = "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n"
    (run,) = read(tmp_path, head + "1.0,100,10,0.1,1.0\n0.5,100,10,0.2,1.1\n,1,1,1,1\n", "log.csv")
    assert run.requests is not None
    assert run.requests.arrival_s.tolist() == [0.0, 0.5]
    with pytest.raises(BadInput, match="no request with an arrival"):
        read(tmp_path, "a,b\n1,2\n", "log.csv")


@given(
    logs=st.lists(st.floats(-1, 1), min_size=1, max_size=30), middle=st.floats(-0.3, 0.3),
    between=st.floats(0.05, 0.6),
)  # fmt: skip
def test_more_runs_pull_the_ratio_to_their_mean_and_never_past_it(
    logs: list[float], middle: float, between: float
) -> None:
    found = math.log(_posterior(np.array(logs), middle, between, 0.12).value)
    mean = float(np.mean(logs))
    assert min(mean, middle) - 1e-9 <= found <= max(mean, middle) + 1e-9
    same = [_posterior(np.full(n, 0.2), 0.0, between, 0.12) for n in (1, 4, 16)]
    assert [one.high / one.low for one in same] == sorted((one.high / one.low for one in same), reverse=True)
    assert same[0].value <= same[1].value <= same[2].value <= math.exp(0.2)


def made(n: int, terms: Terms, limits: BatchLimits, rate_per_s: float) -> list[dict[str, float]]:
    """Requests as an engine of known terms serves them."""
    random = np.random.default_rng(1)
    arrival = arrivals_ps(rate_per_s, 1.0, n)
    prompt, output = random.integers(200, 3000, n), random.integers(50, 500, n)
    served = serve(arrival, prompt, output, terms, limits)
    return [
        {
            "queued_ts": arrival[i] / 1e12, "input_toks": int(prompt[i]), "output_toks": int(output[i]),
            "first_token_ts": (arrival[i] + served.ttft_ps[i]) / 1e12,
            "last_token_ts": (arrival[i] + served.e2e_ps[i]) / 1e12,
        }
        for i in range(n)
    ]  # fmt: skip


def test_terms_are_found_again_from_requests(tmp_path: Path, at: CatalogAt, place: Place) -> None:
    """A server half as fast again as the physics says: its later requests are predicted within 5 %."""
    raw = place.found.terms(1500.0, 270.0, np.array([30.0]))
    true = [float(one[0]) * 1.5e12 for one in raw[:4]]
    rows = made(120, Terms(*(int(x) for x in true)), place.limits, 6.0)
    (run,) = read(tmp_path, "\n".join(json.dumps(row) for row in rows), "requests.jsonl")
    found = calibrate(at, place, [run])
    for name in ("tpot", "ttft", "e2e"):
        error = found.errors[f"{name} by request"]
        # The first token jumps by whole steps at this load.
        assert error.after < (0.15 if name == "ttft" else 0.05)
        assert error.after < error.before
    assert found.tpot.value == pytest.approx(1.5, rel=0.12)
    assert found.tpot.high / found.tpot.low < found.tpot_before.high / found.tpot_before.low


def test_a_run_narrows_the_band_and_moves_what_size_says(
    tmp_path: Path, catalog: Catalog, at: CatalogAt, place: Place
) -> None:
    (run,) = read(tmp_path, json.dumps({**VLLM, "mean_tpot_ms": 30.0, "request_throughput": 3.0}))
    found = calibrate(at, place, [run])
    assert found.tpot.high / found.tpot.low < found.tpot_before.high / found.tpot_before.low
    assert math.isnan(found.errors["tpot"].after)
    write(found, tmp_path / "mine", "bench.json", "2026-11-23")
    grown = with_calibration(catalog, tmp_path / "mine").at(at.on)
    own = own_of(grown, "llama-3.1-8b", "h100-sxm", found.when)
    assert own is not None
    assert own.is_exact
    borrowed = own_of(grown, "llama-3.1-8b", "h100-sxm", "engine=vllm;gpus=2;weights=bf16")
    assert borrowed is not None
    assert own.tpot is not None
    assert borrowed.tpot is not None
    assert borrowed.tpot[2] / borrowed.tpot[1] > own.tpot[2] / own.tpot[1]
    assert own_of(grown, "llama-3.1-8b", "h200", found.when) is None
    need, ask = Need(3.0, 2000, 300), Ask(("h100-sxm",), (1,), precisions=("native",))
    plain, mine = (
        size(one, "llama-3.1-8b", need, (2.0, 0.1), ask, Wanted(top=1)).rows[0] for one in (at, grown)
    )
    assert mine.measured.startswith("your own measurements")
    assert mine.tpot_p50_s > plain.tpot_p50_s


def test_two_runs_say_how_well_each_predicts_the_other(at: CatalogAt, place: Place) -> None:
    """Both three tenths slower than the physics: knowing one, the other is nearer."""
    runs = []
    for load in (8.0, 32.0):
        found = place.found
        said = quantities(found.arch, found.gpu, found.setup, found.constants, load_of(load, 2000, 300))
        times = (1.3 * float(said[name][0]) for name in ("ttft", "tpot"))
        runs.append(Run("made", "", "vllm", 100, load, 2000.0, 300.0, *times, None, {}))
    two = calibrate(at, place, runs)
    for error in two.errors.values():
        assert error.compared == 2
        assert error.after < error.before == pytest.approx(1 - 1 / 1.3, rel=0.02)


def test_the_folder_is_a_folder_of_facts(tmp_path: Path, at: CatalogAt, place: Place) -> None:
    (run,) = read(tmp_path, json.dumps(VLLM))
    write(calibrate(at, place, [run]), tmp_path / "mine", "bench.json", "2026-11-23")
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {"calibration.csv", "sources.csv"}
    loaded = Catalog.load(FACTS_DIR, tmp_path / "mine").at(at.on)
    when = "engine=vllm;gpus=1;weights=bf16"
    assert loaded.number("calibration/llama-3.1-8b/h100-sxm", "tpot_ratio", when) > 0
    with (tmp_path / "mine" / "calibration.csv").open() as lines:
        assert all(row["source"] == "own-measurement" for row in csv.DictReader(lines))


@pytest.mark.parametrize(
    ("rows", "says"),
    [("", "not a calibration"), ("subject,attribute\na,b\n", "not a calibration")],
)
def test_a_calibration_that_is_none(catalog: Catalog, tmp_path: Path, rows: str, says: str) -> None:
    (tmp_path / "mine.csv").write_text(rows)
    with pytest.raises(BadInput, match=says):
        with_calibration(catalog, tmp_path / "mine.csv")


def test_the_command_says_before_and_after_and_where_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bench.json").write_text(json.dumps(VLLM))
    words = ["calibrate", "bench.json", "--gpu", "h200", "--tp", "2", "--precision", "fp8"]
    assert main([*words, "--out", "mine"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("llama-3.3-70b on 2 x h200, fp8 (vllm): a token takes ")
    for said in ("measured over predicted", "One run leaves nothing", "Holds for this model", "Wrote mine"):
        assert said in out
    assert main(["size", "llama-3.3-70b", "--calibration", "mine", "--gpu", "h200", "--rate", "2.5", "--isl",
                 "2000", "--osl", "300"]) == 0  # fmt: skip
    assert "yours" in capsys.readouterr().out
    assert main(["calibrate", "bench.json"]) == 2
    assert "no file says which accelerator" in capsys.readouterr().err
    assert main([*words, "--model", "nobody/none"]) == 2


def test_real_requests_are_predicted_after_two_thirds_of_them(
    data_dir: Path, catalog: Catalog, at: CatalogAt
) -> None:
    folder = data_dir / "traces" / "vllm_rtxpro6000_llama-3.1-8b"
    ask = Ask(("rtx-pro-6000",), (1,), ("vllm",), ("native",), ("bf16",))
    found = one_setup(at, "llama-3.1-8b", ask, (1, 1, 1))
    place = Place("llama-3.1-8b", "rtx-pro-6000", "vllm", found, BatchLimits(2048, 128, 500_000))
    fitted = calibrate(at, place, read_runs(folder))
    assert all(error.after < 0.03 for error in fitted.errors.values())
    for one in fitted.percentiles:
        assert one.after_s == pytest.approx(one.measured_s, rel=0.03)


def test_one_run_says_most_of_loads_like_its_own(at: CatalogAt, tmp_path: Path) -> None:
    (run,) = read(tmp_path, json.dumps({**VLLM, "model_id": "meta-llama/Llama-3.1-8B-Instruct"}))
    ask = Ask(("h100-sxm",), (1,), ("vllm",), ("native",), ("bf16",))
    found = calibrate(
        at,
        Place("llama-3.1-8b", "h100-sxm", "vllm", one_setup(at, "llama-3.1-8b", ask, (1, 1, 1)),
              BatchLimits(8192, 256, 400_000)),
        [run],
    )  # fmt: skip

    def wide(one: Ratio) -> float:
        return math.log(one.high / one.low)

    for name, other, before in (
        ("tpot", found.tpot, found.tpot_before),
        ("ttft", found.ttft, found.ttft_before),
    ):
        assert wide(found.near[name]) < 0.5 * wide(before)
        assert wide(found.near[name]) < wide(other) < wide(before)
    write(found, tmp_path / "mine", "bench.json", "2026-11-23")
    mine = with_calibration(Catalog.load(), tmp_path / "mine").at(at.on)
    own = own_of(mine, "llama-3.1-8b", "h100-sxm", "engine=vllm;gpus=1;weights=bf16")
    assert own is not None
    assert [round(one.concurrency, 1) for one in own.anchors["tpot"]] == [round(run.concurrency, 1)]
    speed = speed_of(mine, [("llama-3.1-8b", "h100-sxm", "engine=vllm;gpus=1;weights=bf16")])
    here, far = (speed.near(np.array([n]), 2000.0, 300.0) for n in (run.concurrency, 30 * run.concurrency))
    for quantity in ("tpot", "ttft", "throughput"):
        low, high = here.frac(quantity, 0)
        assert far.frac(quantity, 0)[0] < low < 1 < high < far.frac(quantity, 0)[1]
    assert here.own[0] is not None
    assert here.own[0].tpot is not None
    assert here.own[0].tpot[0] == pytest.approx(found.near["tpot"].value, rel=1e-3)
    # Facts of one's own go before the shipped ones in the same way.
    laid = Catalog.load(FACTS_DIR, tmp_path / "mine").at(at.on)
    assert own_of(laid, "llama-3.1-8b", "h100-sxm", "engine=vllm;gpus=1;weights=bf16") == own


def test_a_maker_that_is_hardly_known_is_believed_less_than_a_run(at: CatalogAt) -> None:
    prior = spread_of(at, ["tpot"], groups_of(at, ["mi300x"], ["closed"]))
    said = ratio_at(
        [Anchor(32.0, 1000.0, 200.0, 2.5)], (64.0, 1000.0, 200.0), prior, 0, kinship_of(at, "tpot")
    )
    assert 2.2 < said[0] < 2.5
    assert said[2] / said[1] < math.exp(float(prior.high[0] - prior.low[0]))


def test_one_measured_run_predicts_the_other_loads_of_its_setup(data_dir: Path, at: CatalogAt) -> None:
    """Silicon rows, each family answered by constants that had not seen it: of the loads of one set-up (the
    same lengths and engine version) the middle one is given, the others are predicted."""
    rows = read_rows(data_dir / "perf" / "silicon.parquet")
    version = {row["config_id"]: row["engine_version"] for row in rows}
    points, _, _ = points_of(at, rows)
    points = select(points, np.flatnonzero(points.told.prefill_replicas == 0))
    ratio = points.measured / predict(points)
    members: dict[tuple[object, ...], dict[tuple[float, ...], float]] = {}
    for i in np.flatnonzero(np.isin(points.quantity, ("tpot", "step"))).tolist():
        where = tuple(
            float(field[i]) for field in (*points.setup[:4], points.setup.ep, points.told.drafts_tok)
        )
        load = tuple(float(field[i]) for field in points.load[:3])
        labels = (points.labels[name][i] for name in ("model", "gpu", "stack"))
        key = (*labels, where, load[1:], version[points.labels["config_id"][i]])
        members.setdefault(key, {})[load] = float(ratio[i])
    prior = spread_of(at, ["tpot"], groups_of(at, ["h100-sxm"], ["closed"]))
    kin, before, after, inside = kinship_of(at, "tpot"), [], [], []
    for group in (one for one in members.values() if len(one) >= 3):
        loads = sorted(group)
        middle = loads[len(loads) // 2]
        for load in (one for one in loads if one != middle):
            given = [Anchor(*middle, group[middle])]
            value, low, high = ratio_at(given, load, prior, 0, kin)
            before.append(abs(1.0 / group[load] - 1.0))
            after.append(abs(value / group[load] - 1.0))
            inside.append(low <= group[load] <= high)
    assert len(after) > 1000
    assert np.mean(after) <= 0.085
    assert np.median(after) <= 0.056
    assert np.mean(after) < 0.65 * np.mean(before)
    assert 0.72 <= np.mean(inside) <= 0.86
