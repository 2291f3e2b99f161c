"""Replicas for a load: enough of them, within the limits, the cheapest first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.cli import main
from isocost.cli.catalog import newest
from isocost.errors import BadInput
from isocost.perf import arch_of, candidates
from isocost.plan.sizing import Need, sizing, with_config

NEED = Need(5.0, 1000, 200, 2.0, 0.1)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


def test_rows_carry_the_load_within_the_limits(at: CatalogAt) -> None:
    found = sizing(at, "llama-3.1-8b", NEED, ("l4", "l40s", "h100-sxm"), top=8)
    assert found.rows
    assert [row.usd_per_month for row in found.rows] == sorted(row.usd_per_month for row in found.rows)
    hours = at.number("finance/any", "hours_per_month")
    for row in found.rows:
        assert row.replicas * row.goodput_per_s >= NEED.rate_per_s
        assert row.ttft_p95_s <= 2.0
        assert row.tpot_p95_s <= 0.1
        assert row.usd_per_month == pytest.approx(row.replicas * row.gpus * row.usd_per_gpu_h * hours)
        assert row.usd_low <= row.usd_per_month <= row.usd_high
        mtok = NEED.rate_per_s * 3600 * hours * 1200 / 1e6
        assert row.usd_per_mtok == pytest.approx(row.usd_per_month / mtok)
        assert at.fact(
            row.quote.split(".usd_per_gpu_h")[0], "usd_per_gpu_h", row.quote.split("[")[1].split("]")[0]
        )


def test_twice_the_load_is_not_cheaper_and_tighter_limits_neither(at: CatalogAt) -> None:
    def least(need: Need) -> float:
        return sizing(at, "llama-3.1-8b", need, ("l4", "l40s"), top=4).rows[0].usd_per_month

    assert least(NEED._replace(rate_per_s=10.0)) >= least(NEED)
    assert least(NEED._replace(tpot_p95_s=0.05)) >= least(NEED)


def test_command_serves_the_best_layout(at: CatalogAt) -> None:
    best = sizing(at, "llama-3.3-70b", NEED, ("h100-sxm",), top=1).rows[0]
    assert best.command.startswith("vllm serve meta-llama/Llama-3.3-70B-Instruct ")
    assert ("--quantization fp8" in best.command) is not best.native
    assert ("--tensor-parallel-size" in best.command) is (best.gpus > 1)


def config(folder: Path, **more: object) -> Path:
    """Llama 3.1 8B as Hugging Face describes it."""
    shape = {
        "_name_or_path": "me/mine-8b", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "vocab_size": 128256, "tie_word_embeddings": False, "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    path = folder / "config.json"
    path.write_text(json.dumps({**shape, **more}))
    return path


def test_a_config_is_the_model_that_it_describes(catalog: Catalog, at: CatalogAt, tmp_path: Path) -> None:
    grown, model = with_config(catalog, config(tmp_path))
    assert model == "mine-8b"
    mine = grown.at(at.on)
    assert arch_of(mine, [model]) == arch_of(at, ["llama-3.1-8b"])
    assert candidates(mine, model, ("l4",)).size == candidates(at, "llama-3.1-8b", ("l4",)).size
    ours, theirs = (
        sizing(a, m, NEED, ("l4",), top=1).rows[0] for a, m in ((mine, model), (at, "llama-3.1-8b"))
    )
    assert ours.usd_per_month == theirs.usd_per_month
    assert ours.command.startswith("vllm serve me/mine-8b ")


@pytest.mark.parametrize(
    ("text", "says"),
    [("[]", "not a model's config"), ("{", "not JSON"), ("{}", "no 'num_hidden_layers'")],
)
def test_a_config_that_is_none(catalog: Catalog, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=says):
        with_config(catalog, tmp_path / "config.json")


def test_a_format_that_is_not_known(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="torch_dtype is 'int3'"):
        with_config(catalog, config(tmp_path, torch_dtype="int3"))


def test_printed_with_a_command_that_can_be_copied(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = [
        "size",
        "llama-3.3-70b",
        "--rate",
        "5",
        "--in",
        "1000",
        "--out",
        "200",
        "--gpus",
        "h100-sxm,h200",
    ]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\d+ replicas? on \d x h\d00\S* in \w+: \$\S+ a month$", lines[0])
    assert lines[1].startswith("  80% band $")
    assert lines[-1].startswith("  vllm serve meta-llama/Llama-3.3-70B-Instruct ")
    assert lines[-1].endswith("--gpu-memory-utilization 0.90")
    rows = [line for line in lines if re.match(r"  \d x h", line)]
    assert 2 <= len(rows) <= 10
    assert all(re.search(r" \$[\d.]+k-\$[\d.]+k +\d+\.\d\d$", row) for row in rows), "nothing is cut"


def test_output_fits_any_encoding() -> None:
    code = "import sys; from isocost.cli import main; sys.exit(main(['price', 'openai/gpt-4o']))"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"$")
