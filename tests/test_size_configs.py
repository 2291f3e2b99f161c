"""Configs as they are published, and what vLLM logged: parameters, bytes of cache, blocks, concurrency."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.perf import arch_of, gpu_of, precision_of, setup_of
from isocost.perf.memory import weight_bytes
from isocost.size.config import formats, with_config
from isocost.size.memory import Engine, cache_log, layers_of

CASES = Path(__file__).parent / "cases" / "size"
PUBLISHED = json.loads((CASES / "configs.json").read_text())
with (CASES / "vllm_logs.csv").open(newline="") as file:
    LOGS = list(csv.DictReader(file))
GIB = 2.0**30
WITHIN = 0.01


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(date(2026, 11, 22))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_has_its_parameters_and_its_cache(
    catalog: Catalog, tmp_path: Path, name: str
) -> None:
    """Totals are of the language model as published; elements of cache a token are counted by hand: keys and
    values of the layers that attend to all (``cache``), of those that see a window (``window``)."""
    case = PUBLISHED[name]
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(case["config"]))
    grown, model = with_config(catalog, folder / "config.json")
    arch = arch_of(grown.at(date(2026, 11, 22)), [model])
    assert arch.params_total[0] == pytest.approx(case["params"], rel=WITHIN)
    assert arch.cache_elements[0] == pytest.approx(case["cache"], rel=1e-9)
    assert arch.window_elements[0] == pytest.approx(case["window"], rel=1e-9)


@pytest.mark.parametrize(
    "row", [row for row in LOGS if row["what"] == "cache"], ids=lambda row: f"{row['model']}-{row['tokens']}"
)
def test_a_cache_of_known_size_is_logged_as_vllm_logged_it(at: CatalogAt, row: dict[str, str]) -> None:
    cache_bytes = at.number(f"dtype/{row['cache']}", "bytes_per_element")
    shares = row["prefix_caching"] == "yes"
    layers = layers_of(at, row["model"], (float(row["tp"]), 1.0), cache_bytes, shares_prefixes=shares)
    longest = int(row["max_model_len"])
    log = cache_log(layers, float(row["available_gib"]) * GIB, longest, Engine(8192, 256, 16))
    assert log.max_concurrency * longest == pytest.approx(float(row["tokens"]), rel=float(row["within_frac"]))
    assert log.max_concurrency == pytest.approx(
        float(row["concurrency"]), abs=0.0051 + float(row["within_frac"]) * float(row["concurrency"])
    )


@pytest.mark.parametrize(
    "row", [row for row in LOGS if row["what"] == "weights"], ids=lambda row: row["model"]
)
def test_weights_take_what_vllm_logged(at: CatalogAt, row: dict[str, str]) -> None:
    arch, gpu = arch_of(at, [row["model"]]), gpu_of(at, ["h200"])
    precision = precision_of(at, row["model"], row["weights"])
    setup = setup_of(at, gpu, [precision], tp=np.array([int(row["tp"])]))
    ours = float(weight_bytes(arch, setup)[0]) / GIB
    assert ours == pytest.approx(float(row["available_gib"]), rel=float(row["within_frac"]))


def test_a_state_takes_one_more_block_where_prefixes_are_shared_and_one_for_each_draft(at: CatalogAt) -> None:
    def blocks(**more: object) -> int:
        return layers_of(at, "qwen3.5-27b", (1.0, 1.0), 2.0, **more).state_blocks  # type: ignore[arg-type]

    assert (blocks(), blocks(shares_prefixes=True), blocks(drafts_tok=3)) == (1, 2, 4)


def test_what_is_left_unquantised_is_heard(tmp_path: Path) -> None:
    mixture = {"num_hidden_layers": 2, "n_routed_experts": 8, "torch_dtype": "bfloat16"}
    fp4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}

    def read(**more: object) -> tuple[str, str]:
        return formats({**mixture, "quantization_config": {**fp4, **more}}, tmp_path / "config.json")

    assert read() == ("fp4", "fp4")
    assert read(ignore=["re:.*self_attn.*"]) == ("bf16", "fp4")
    each = [f"model.layers.{i}.self_attn.{part}_proj" for i in (0, 1) for part in "qkvo"]
    assert read(exclude_modules=each) == ("bf16", "fp4")
    # An indexer's projection is not the attention.
    assert read(ignore=[f"model.layers.{i}.self_attn.indexer.wk" for i in (0, 1)]) == ("fp4", "fp4")
    mixed = {
        "a.experts": {"quant_algo": "NVFP4"},
        "b.experts": {"quant_algo": "NVFP4"},
        "c": {"quant_algo": "FP8"},
    }
    assert read(quant_algo="MIXED_PRECISION", quantized_layers=mixed)[1] == "fp4"


def test_the_file_that_modelopt_lays_beside_a_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert formats({"torch_dtype": "bfloat16"}, path) == ("bf16", "bf16")
    (tmp_path / "hf_quant_config.json").write_text(
        json.dumps({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}})
    )
    assert formats({"torch_dtype": "bfloat16"}, path) == ("fp8", "fp8")
