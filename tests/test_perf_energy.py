"""Energy: power between idle and busy, what a token takes, and both against measured runs."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.perf.coarse import SUBJECT, keys_of, shape_of_counts
from isocost.perf.energy import energy_j_per_tok, power_of, replica_power_w, site_of, wall_j_per_tok
from isocost.validate import energy
from isocost.validate.energy import (
    COLUMNS,
    conditions_of,
    constants_of_runs,
    predict,
    read_runs,
    runs_of,
    validate_energy,
)

AT = Catalog.load().at(date(2026, 11, 23))
ROW = {
    "dataset": "ML.ENERGY v3.0", "task": "lm-arena-chat", "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "total_params_b": 8.0, "active_params_b": 8.0, "precision": "bfloat16", "gpu": "H100", "num_gpus": 1,
    "tp": 1, "ep": 1, "dp": 1, "avg_batch": 64.0, "avg_output_tokens": 600.0, "output_tok_per_s": 4000.0,
    "avg_power_w": 500.0, "j_per_output_token": 0.125,
}  # fmt: skip


def table(path: Path, *changes: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**ROW, **change} for change in changes)
    return path


@given(used=st.floats(0, 1), flop=st.floats(0, 1), more=st.floats(0, 1))
def test_power_lies_between_idle_and_the_limit_and_grows_with_use(
    used: float, flop: float, more: float
) -> None:
    power = power_of(AT, "h100-sxm")
    watts = float(replica_power_w(power, 700.0, 8.0, used, flop))
    assert 5600 * float(power.idle_power_frac) <= watts <= 5600
    assert float(replica_power_w(power, 700.0, 8.0, min(1.0, used + more), flop)) >= watts * (1 - 1e-12)


def test_energy_of_a_token_is_power_over_throughput() -> None:
    assert energy_j_per_tok(1000.0, 500.0) == 2.0
    assert np.isinf(energy_j_per_tok(1000.0, 0.0))
    site = site_of(AT)
    assert site.host_power_ratio is not None
    assert site.pue is not None
    assert wall_j_per_tok(2.0, site.host_power_ratio, site.pue) > 2.0


def test_an_accelerator_never_measured_has_the_mean_of_those_that_were() -> None:
    measured = [power_of(AT, name) for name in ("h100-sxm", "b200")]
    other = power_of(AT, "mi300x")
    for name in ("most_power_frac", "awake_power_frac"):
        low, high = sorted(float(getattr(one, name)) for one in measured)
        assert low <= float(getattr(other, name)) <= high


def test_an_accelerator_that_waits_for_its_host_draws_less_than_one_that_works() -> None:
    power = power_of(AT, "b200")
    waits, works = (float(replica_power_w(power, 1000.0, 1.0, 0.05, 0.01, busy)) for busy in (0.1, 1.0))
    assert waits < works


def test_weights_stored_narrow_draw_more_for_the_same_shares() -> None:
    wide, narrow = (power_of(AT, "h100-sxm", is_narrow=one) for one in (False, True))
    ratio = AT.number("energy/accelerator", "narrow_power_ratio")
    assert ratio > 1
    for name in ("memory_power_frac", "compute_power_frac"):
        assert float(getattr(narrow, name)) == pytest.approx(ratio * float(getattr(wide, name)))
    idle = (float(replica_power_w(one, 700.0, 1.0, 0.0, 0.0)) for one in (wide, narrow))
    assert len(set(idle)) == 1


def test_neighbours_of_one_format_say_nothing_of_another() -> None:
    rows = [
        {**ROW, "task": "gpqa", "gpu": "B200", "num_gpus": 1, "precision": name}
        for name in ("bfloat16", "mxfp4")
    ]
    runs, _ = runs_of(AT, rows)
    wide, narrow = conditions_of(runs)["alone"]
    assert "b200/gpqa" in wide
    assert not any("narrow" in one for one in wide)
    assert narrow.index("b200/gpqa/narrow") < narrow.index("narrow") < narrow.index("b200/gpqa")
    assert runs.machine.is_narrow.tolist() == [False, True]


def test_a_lone_accelerator_of_a_crowded_host_steps_slower_than_one_of_two() -> None:
    """Neighbours of a replica of one accelerator take time of the host, which one of two does not meet."""
    rows = [{**ROW, "task": "image-chat", "gpu": "B200", "num_gpus": gpus, "tp": gpus} for gpus in (1, 2)]
    alone, pair = predict(AT, runs_of(AT, rows)[0])["tok_per_s"]
    assert pair > 2.0 * alone


def test_a_task_that_was_not_stated_is_as_crowded_as_others() -> None:
    """Not as if nobody else ran on the host."""
    formats = [
        {**ROW, "task": task, "gpu": gpu, "precision": name}
        for task, gpu in (("image-chat", "B200"), ("never seen", "B200"), ("gpqa", "A100-SXM4-80GB"))
        for name in ("fp8", "bfloat16")
    ]
    runs, _ = runs_of(AT, formats)
    keys = keys_of(AT)
    values = np.array([AT.number(SUBJECT, *key) for key in keys])
    crowd_s = constants_of_runs(AT, runs, keys, values)["crowd_s"]
    stated = [
        float(fact.value) for fact in AT.each(SUBJECT, "crowd_s") if "/" in fact.when
    ]  # fmt: skip
    assert (crowd_s >= min(stated)).all()
    assert (crowd_s <= max(stated)).all()
    for when in ("", "alone=narrow"):
        fact = AT.fact(SUBJECT, "crowd_s", when)
        assert fact.kind == "assumed"
        assert fact.low is not None
        assert fact.high is not None
        assert fact.high / fact.low > 10
    several, _ = runs_of(AT, [{**ROW, "num_gpus": 2, "tp": 2}, {**ROW, "dataset": "ML.ENERGY v2.0"}])
    assert (constants_of_runs(AT, several, keys, values)["crowd_s"] < 1e-5).all()


def test_what_is_stated_of_a_crowd_was_measured() -> None:
    """A guess that no run moved has no width: such a row is assumed, not derived."""
    for fact in AT.each(SUBJECT, "crowd_s"):
        assert fact.kind == "assumed" or (fact.low or 0.0) < (fact.high or 0.0), fact


def test_what_is_said_and_is_no_number_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: np.array([np.nan]) for name in ("tok_per_s", "j_per_tok", "power_w")}
    monkeypatch.setattr(energy, "predict", lambda at, runs: said)
    report = validate_energy(table(tmp_path / "one.csv", {}))
    assert (report.rows, report.passed, len(report.failed), report.left_out) == (3, 0, 3, {})


def test_counts_of_parameters_make_a_decoder_of_that_size() -> None:
    layers, width, total, active, inside, *_ = shape_of_counts(AT, 7e9, 7e9)
    assert (total, active, inside) == (7e9, 7e9, 0.0)
    assert 28 <= layers <= 36
    assert 12 * layers * width**2 == pytest.approx(7e9)
    _, _, total, active, inside, experts, visited, *_ = shape_of_counts(AT, 235e9, 22e9)
    assert total - inside * (1 - visited / experts) == pytest.approx(active)


def test_a_run_that_is_what_we_say_passes_and_one_that_is_not_fails(tmp_path: Path) -> None:
    rows = read_runs(table(tmp_path / "one.csv", {}))
    runs, left_out = runs_of(AT, rows)
    assert not left_out
    said = predict(AT, runs)
    right = {"output_tok_per_s": said["tok_per_s"][0], "j_per_output_token": said["j_per_tok"][0]}
    exact = validate_energy(table(tmp_path / "exact.csv", right))
    assert (exact.passed, exact.failed, exact.covered) == (3, (), 1.0)
    assert exact.mape == pytest.approx(0, abs=1e-9)
    wrong = {"output_tok_per_s": 3 * said["tok_per_s"][0], "j_per_output_token": said["j_per_tok"][0]}
    report = validate_energy(table(tmp_path / "wrong.csv", wrong))
    assert report.passed == 1
    assert len(report.failed) == 2


def test_every_row_is_answered_and_rows_are_left_out_by_name(tmp_path: Path) -> None:
    changes = [
        {"model_id": "nobody/new-13b", "total_params_b": "", "active_params_b": ""},
        {"model_id": "nobody/unsized", "total_params_b": "", "active_params_b": ""},
        {"gpu": "A100-SXM4-40GB"}, {"gpu": "H100 80GB HBM3"}, {"task": "never seen"}, {"dataset": "other"},
        {"gpu": "ABACUS"}, {"avg_batch": ""},
        {"output_tok_per_s": "", "j_per_output_token": "", "avg_power_w": ""},
    ]  # fmt: skip
    report = validate_energy(table(tmp_path / "odd.csv", *changes))
    assert report.runs == 9
    assert report.left_out == {
        "unknown accelerator": 3, "batch or answer's length not stated": 3, "no measured value": 3,
    }  # fmt: skip
    assert sum(share.rows for share in report.by["metric"].values()) == 18
    assert report.rows == 27


def test_what_a_row_does_not_measure_is_compared_in_what_it_does(tmp_path: Path) -> None:
    changes = [
        {"j_per_output_token": ""}, {"output_tok_per_s": "", "avg_power_w": ""},
        {"output_tok_per_s": "", "j_per_output_token": ""},
    ]  # fmt: skip
    runs, left_out = runs_of(AT, read_runs(table(tmp_path / "part.csv", *changes)))
    assert not left_out
    got = np.array([runs.measured[name] for name in ("tok_per_s", "j_per_tok", "power_w")]).T
    assert got[0].tolist() == pytest.approx([4000.0, 0.125, 500.0])
    assert np.isnan(got[1]).tolist() == [True, False, True]
    assert np.isnan(got[2]).tolist() == [True, True, False]
    assert validate_energy(tmp_path / "part.csv").rows == 5


def test_an_accelerator_of_unknown_power_is_compared_in_speed_only(tmp_path: Path) -> None:
    catalog = Catalog.load()
    facts = [fact for fact in catalog.facts if (fact.subject, fact.attribute) != ("gpu/l4", "tdp_w")]
    without = Catalog(facts, catalog.sources, catalog.attributes, catalog.basis)
    report = validate_energy(table(tmp_path / "one.csv", {}, {"gpu": "L4"}), without)
    compared = {name: share.rows for name, share in report.by["metric"].items()}
    assert compared == {"tok/s": 2, "J/tok": 1, "W": 1}
    assert report.left_out == {"accelerator's power limit not known": 2}
    assert report.rows == 6


def test_formats_are_heard_by_every_name_and_strange_ones_are_left_out(tmp_path: Path) -> None:
    names = ["fp8_e4m3", "w8a8", "AWQ", "mxfp4", "nvfp4", "float16", "", "weird"]
    runs, left_out = runs_of(AT, read_runs(table(tmp_path / "f.csv", *({"precision": one} for one in names))))
    fp4, mxfp4, int4 = (AT.number(f"dtype/{one}", "bytes_per_element") for one in ("fp4", "mxfp4", "int4"))
    assert runs.machine.weight_bytes.tolist() == [1, 1, int4, mxfp4, fp4, 2, 2]
    assert left_out == {"format not known": 1}


def test_accelerators_are_counted_as_stated_or_as_named(tmp_path: Path) -> None:
    changes = [
        {"num_gpus": 2}, {"num_gpus": "", "gpu": "4xH100"}, {"num_gpus": "", "tp": 2, "dp": 2},
        {"num_gpus": "", "tp": ""}, {"num_gpus": 0}, {"num_gpus": -1}, {"num_gpus": 1e300},
    ]  # fmt: skip
    runs, left_out = runs_of(AT, read_runs(table(tmp_path / "n.csv", *changes)))
    assert runs.machine.gpus.tolist() == [2, 4, 4]
    assert left_out == {"number of accelerators not stated": 4}


def test_a_table_without_a_column_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("dataset,task\na,b\n")
    with pytest.raises(BadInput, match="no column model_id"):
        validate_energy(tmp_path / "short.csv")
    with pytest.raises(BadInput, match="no such file"):
        validate_energy(tmp_path / "absent.csv")


def test_measured_runs_stay_within_their_errors(data_dir: Path) -> None:
    """In-sample: the ceilings are what the shipped constants reach, with a margin."""
    report = validate_energy(data_dir / "energy" / "energy.parquet")
    assert report.runs == 1264
    assert report.by["metric"]["tok/s"].median <= 0.11
    assert report.by["metric"]["J/tok"].median <= 0.10
    assert report.by["metric"]["W"].median <= 0.085
    assert 0.75 <= report.covered <= 0.95


def test_a_tuned_model_has_the_shapes_of_what_it_was_tuned_from(tmp_path: Path) -> None:
    changes = [
        {"model_id": name} for name in ("databricks/dolly-v2-12b", "EleutherAI/pythia-12b", "x/new-12b")
    ]
    runs, _ = runs_of(AT, read_runs(table(tmp_path / "tuned.csv", *changes)))
    assert runs.by_counts.tolist() == [False, False, True]
    assert runs.shape.layers[0] == runs.shape.layers[1] == 36
    assert runs.family[0] == runs.family[1]


def test_what_the_table_says_of_models_left_out_is_said(tmp_path: Path) -> None:
    said = " ".join(validate_energy(table(tmp_path / "one.csv", {})).notes)
    for metric in ("tok_per_s", "j_per_tok"):
        whole, without = (
            AT.number("coarse/roofline", "left_out_mape", when)
            for when in (f"metric={metric}", f"metric={metric};without=worst")
        )
        assert without < whole
        assert f"{whole:.1%}" in said
        assert f"{without:.1%}" in said
        assert 0.75 <= AT.number("coarse/roofline", "left_out_covered", f"metric={metric}") <= 0.85


def test_a_table_in_any_case_and_form_is_the_same_table(tmp_path: Path) -> None:
    plain = validate_energy(table(tmp_path / "plain.csv", {}, {"num_gpus": 2}))
    text = (tmp_path / "plain.csv").read_text()
    head, rest = text.split("\n", 1)
    (tmp_path / "loud.csv").write_text(head.upper() + "\n" + rest)
    rows = [{**ROW, **change} for change in ({}, {"num_gpus": 2})]
    (tmp_path / "lines.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for name in ("loud.csv", "lines.jsonl"):
        found = validate_energy(tmp_path / name)
        assert (found.rows, found.mape, found.failed) == (plain.rows, plain.mape, plain.failed)
    (tmp_path / "head.csv").write_text(head + "\n")
    with pytest.raises(BadInput):
        validate_energy(tmp_path / "head.csv")
