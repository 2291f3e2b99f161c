"""The table of ``isocost validate``: every kind in one form, by source and group, beside other predictors."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadInput
from isocost.validate.energy import COLUMNS
from isocost.validate.kinds import KINDS, compare, data_files, kind_of, share_of, shares_by
from isocost.validate.peers import peers_of

RUN = {
    "dataset": "ML.ENERGY v3.0", "task": "lm-arena-chat", "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "precision": "bfloat16", "gpu": "H100", "num_gpus": 1, "avg_batch": 64, "avg_output_tokens": 600,
    "output_tok_per_s": 4000, "j_per_output_token": 0.12,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one energy table of one run."""
    monkeypatch.setenv("ISOCOST_DATA", str(tmp_path))
    (tmp_path / "energy").mkdir()
    # The data folder's own file is Parquet; a table of the same columns is as good.
    with (tmp_path / "energy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerow(RUN)
    return tmp_path


def test_every_kind_names_a_function_that_exists_and_files_to_read() -> None:
    import importlib

    for name, kind in KINDS.items():
        module, _, function = kind.function.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name
        assert kind.holds
        assert kind.files


def test_a_kind_that_is_none_names_those_there_are() -> None:
    with pytest.raises(BadInput, match="Kinds: bills, perf, energy"):
        kind_of("speed")


def test_without_data_it_says_what_to_point_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ISOCOST_DATA", raising=False)
    assert main(["validate"]) == 2
    said = capsys.readouterr().err
    assert "ISOCOST_DATA" in said
    assert "perf/silicon.parquet" in said
    with pytest.raises(BadInput, match="no measured files"):
        data_files(tmp_path)


def test_one_file_in_one_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "energy", str(folder / "energy.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"kind", "file", "rows", "passed", "failed", "mape", "median", "covered", "by", "peers"} <= set(
        found
    )
    assert found["rows"] == 3
    assert main(["validate", "energy", str(folder / "energy.csv")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("energy: ")
    assert "log-regression" in out
    assert "left out in turn" in out


def test_shares_are_of_their_rows() -> None:
    error, covered = np.array([0.1, 0.3, 0.2]), np.array([True, False, True])
    whole = share_of(error, covered, error <= 0.25)
    assert (whole.rows, whole.passed, whole.covered) == (3, 2, pytest.approx(2 / 3))
    assert (whole.mape, whole.median) == (pytest.approx(0.2), pytest.approx(0.2))
    by = shares_by({"gpu": ["a", "b", "a"]}, error, None, error <= 0.25)["gpu"]
    assert (by["a"].rows, by["b"].rows) == (2, 1)
    assert math.isnan(by["a"].covered)
    assert share_of(error, covered, error <= 1, np.zeros(3, dtype=bool)).rows == 0


def test_other_predictors_come_from_facts(catalog: Catalog) -> None:
    from isocost.cli.catalog import newest

    at = catalog.at(newest(catalog))
    (peer,) = peers_of(at, "energy", "tok_per_s")
    assert peer.name == "log-regression"
    assert 0 < peer.median < peer.mape < 1
    assert peers_of(at, "energy", "nothing") == []


def test_compare_refuses_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        compare("energy", tmp_path / "absent.csv")


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("name", ["noise.csv", "noise.parquet", "empty.csv", "folder"])
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    file = tmp_path / name
    if name == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"" if name == "empty.csv" else bytes(range(256)) * 9)
    assert main(["validate", kind, str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert str(tmp_path) in captured.err


def test_what_a_file_does_not_ask_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three published costs without a forecast among them: no share of forecasts, rather than 'nan'."""
    cases = (Path(__file__).parent / "cases" / "training.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(cases[:3]))
    assert main(["validate", "training", str(tmp_path / "few.csv")]) == 0
    said = capsys.readouterr().out
    assert "nan" not in said.split()
    assert "reproduced" in said
