"""What ``size`` says where the question is not the usual one: no rent, no host, adapters, other makers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.cli import main
from isocost.cli.catalog import newest
from isocost.size.answer import Wanted, size
from isocost.size.config import adapter_of, with_config
from isocost.size.nearest import nearest, points_of
from isocost.size.queue import Draft, Need
from isocost.size.setups import Ask, setups

LOAD = ("--rate", "5", "--isl", "2000", "--osl", "300", "--ttft-p95", "0.8", "--tpot-p95", "0.04")


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["size", *words]) == code
    seen = capsys.readouterr()
    return " ".join((seen.err if code else seen.out).split())


@pytest.mark.parametrize("gpu", ["gaudi3", "trainium2", "rtx-4090", "gb300"])
def test_what_nobody_rents_is_sized_without_a_price(capsys: pytest.CaptureFixture[str], gpu: str) -> None:
    text = said(capsys, "llama-3.1-8b", *LOAD, "--gpu", gpu, "--top", "2")
    assert re.match(rf"\d replicas? of \d x {gpu}\S* \S+ nobody is known to rent them", text)
    assert f"No on demand rent is known for {gpu}: the fewest accelerators come first." in text
    assert "$0" not in text
    rows = json.loads(said(capsys, "llama-3.1-8b", *LOAD, "--gpu", gpu, "--top", "3", "--json"))["rows"]
    assert all(row["usd_per_month"] is None and row["usd_per_mtok"] is None for row in rows)
    used = [row["gpus"] * row["replicas"] for row in rows]
    assert used == sorted(used)
    held = said(capsys, "llama-3.1-8b", *LOAD, "--have", f"{gpu}=16")
    assert re.search(rf"no rent, on \d+ of the 16 {gpu} that you have", held)


def test_makers_whose_stacks_of_today_were_not_measured_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "llama-3.1-8b", *LOAD, "--gpu", "mi300x")
    assert "No engine of today was measured on accelerators of AMD: " in text
    assert "by a build of their own" not in text
    assert "by a build of their own" in said(capsys, "llama-3.1-8b", *LOAD, "--gpu", "tpu-v6e")
    assert "was measured on accelerators" not in said(capsys, "llama-3.1-8b", *LOAD, "--gpu", "h100-sxm")


def test_who_sells_answers_only_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "llama-3.1-8b", *LOAD, "--gpu", "groq", code=2)
    assert "groq sells answers, not accelerators" in text
    assert "isocost catalog list api/groq/" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--rate", "5", "--ttft-p95", "0.001", "--tpot-p95", "0.0001"],
            r"even when idle: the first token takes 0\.\d+ s at",
        ),
        (["--rate", "1000000"], r"1,000,000 requests/s need more than 4,000 replicas"),
        (
            ["--rate", "5", "--count", "16"],
            r"16 accelerators are more than one fast link joins \(8\)\. Span hosts with a pipeli",
        ),
        (["--rate", "5", "--count", "3"], r"3 accelerators do not divide 64 heads"),
    ],
)
def test_why_there_is_no_answer(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    text = said(capsys, "llama-3.3-70b", "--isl", "2000", "--osl", "300", "--gpu", "h100-sxm", *words, code=2)
    assert re.search(says, text)


def test_two_hosts_are_joined_by_a_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "deepseek-v3", *LOAD, "--gpu", "h100-sxm", "--count", "16", "--pp", "2", "--top", "1")
    assert "--tensor-parallel-size 8 --pipeline-parallel-size 2" in text


def test_an_adapter_is_served_on_its_base(
    capsys: pytest.CaptureFixture[str], catalog: Catalog, tmp_path: Path
) -> None:
    own = {"base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct", "r": 24, "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(own))
    found = adapter_of(tmp_path)
    assert found is not None
    assert (found.base, found.rank, found.folder) == (own["base_model_name_or_path"], 24, str(tmp_path))
    for where in (tmp_path, tmp_path / "adapter_config.json"):
        text = said(capsys, str(where), *LOAD, "--gpu", "h100-sxm", "--top", "1")
        assert "vllm serve meta-llama/Llama-3.1-8B-Instruct " in text
        # Ranks that the engine makes room for are few: the next one up.
        assert f"--enable-lora --max-lora-rank 32 --lora-modules tuned={tmp_path}" in text
        assert "--lora-modules tuned --dataset-name random" in text
        assert "An adapter of rank 24 on llama-3.1-8b" in text
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert "an adapter without" in said(capsys, str(tmp_path), *LOAD, code=2)
    assert adapter_of(tmp_path / "config.json") is None


def test_formats_that_no_engine_makes_on_loading_are_checkpoints(at: CatalogAt) -> None:
    ask = Ask(("b200",), (2,), ("vllm", "trtllm"), ("fp4", "fp8"))
    rows = size(at, "llama-3.3-70b", Need(5.0, 2000, 300), (0.8, 0.04), ask, Wanted(top=8)).rows
    seen = {(row.engine, row.weights): row.command for row in rows}
    assert seen["vllm", "fp8"].startswith("vllm serve meta-llama/Llama-3.3-70B-Instruct --tensor")
    assert "--quantization fp8" in seen["vllm", "fp8"]
    assert seen["vllm", "fp4"].startswith("vllm serve ./Llama-3.3-70B-Instruct-fp4 ")
    assert seen["trtllm", "fp8"].startswith("trtllm-serve ./Llama-3.3-70B-Instruct-fp8 ")
    assert not any("--quantization fp4" in command for command in seen.values())
    assert all(
        row.bench.split()[4] == row.command.split()[-1] or row.bench.split()[4] in row.command for row in rows
    )


def test_a_checkpoint_in_four_bits_is_not_quantised_again_in_part(at: CatalogAt) -> None:
    found = setups(at, "gpt-oss-120b", Ask(("h200",)))
    assert {(one.dense, one.experts) for one in found.precisions} == {("bf16", "mxfp4")}


def test_drafts_come_of_the_model_where_it_makes_them(
    at: CatalogAt, catalog: Catalog, tmp_path: Path
) -> None:
    wanted = Wanted(top=1, draft=Draft(0.8, 2, 0.06))

    def command(facts: CatalogAt, model: str, count: int) -> str:
        ask = Ask(("h200",), (count,), precisions=("native",))
        return size(facts, model, Need(2.0, 1000, 200), (2.0, 0.1), ask, wanted).rows[0].command

    assert '{"method": "mtp", "num_speculative_tokens": 2}' in command(at, "deepseek-v3", 8)
    assert '{"method": "eagle3", "model": "DRAFT_MODEL", ' in command(at, "llama-3.1-8b", 1)
    shape = {
        "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 8,
        "intermediate_size": 8192, "vocab_size": 32000, "torch_dtype": "bfloat16",
        "num_nextn_predict_layers": 1, "max_position_embeddings": 32768,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape))
    grown, model = with_config(catalog, tmp_path / "config.json")
    assert '"mtp"' in command(grown.at(at.on), model, 1)


def test_the_nearest_point_of_a_mixture_is_a_mixture_and_of_an_accelerator_one_as_wide(at: CatalogAt) -> None:
    points = points_of(at)
    setup = {"engine": "vllm", "gpus": 1, "weights": "bf16"}
    found = nearest(points, "own", (3e9, True), ("mi300x", 5.3e12), setup, 32.0)
    by_name = {point.fact.id: point for point in points}
    assert by_name[found.fact].is_mixture
    assert found.is_extrapolated
    slow = nearest(points, "llama-3.1-8b", (8e9, False), ("rtx-4090", 1.0e12), setup, 8.0)
    wide = nearest(points, "llama-3.1-8b", (8e9, False), ("gb300", 8.0e12), setup, 8.0)
    assert slow.is_extrapolated
    assert by_name[slow.fact].bytes_per_s < by_name[wide.fact].bytes_per_s


def test_the_longest_request_is_a_round_number(at: CatalogAt) -> None:
    row = size(at, "llama-3.1-8b", Need(1.0, 1000, 200), (2.0, 0.1), Ask(("l4",)), Wanted(top=1)).rows[0]
    assert row.cache.longest_tok % 1024 == 0
    assert row.cache.longest_tok >= 1200


def test_a_load_so_rare_that_time_runs_out_of_digits() -> None:
    assert main(["size", "llama-3.1-8b", "--rate", "1e-4", "--isl", "500", "--osl", "50", "--gpu", "l4"]) == 0
    for rate in ("1e-6", "1e-12"):
        assert main(["size", "llama-3.1-8b", "--rate", rate, "--isl", "500", "--osl", "50"]) == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--isl", "200k"], "longer than its context"),
        (["--on", "2020-01-01"], "no rent is known on 2020-01-01"),
        (["--spec", "x"], "--spec x"),
        (["--count", "x"], "--count x"),
    ],
)
def test_what_cannot_be_is_said_in_its_own_words(
    more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["size", "llama-3.1-8b", "--rate", "2", "--osl", "10"]
    usual += [] if "--isl" in more else ["--isl", "500"]
    assert main([*usual, *more]) == 2
    assert says in capsys.readouterr().err
