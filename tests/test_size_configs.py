"""Configs as they are published, and what vLLM logged: parameters, bytes of cache, blocks, concurrency."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput
from isocost.perf import arch_of, constants_of, gpu_of, precision_of, setup_of
from isocost.perf.arch import model_id_of
from isocost.perf.memory import weight_bytes
from isocost.perf.roofline import attention_s
from isocost.size.config import formats, with_config
from isocost.size.memory import Engine, cache_log, layers_of

CASES = Path(__file__).parent / "cases" / "size"
PUBLISHED = json.loads((CASES / "configs.json").read_text())
with (CASES / "vllm_logs.csv").open(newline="") as file:
    LOGS = list(csv.DictReader(file))
with (CASES / "gallery.csv").open(newline="") as file:
    GALLERY = list(csv.DictReader(file))
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
    values of the layers that attend to all or choose of it (``cache``), of those that read all where others
    choose (``far``), of those that see a window (``window``), and keys of an index (``index``)."""
    case = PUBLISHED[name]
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(case["config"]))
    grown, model = with_config(catalog, folder / "config.json")
    arch = arch_of(grown.at(date(2026, 11, 22)), [model])
    # A total that is published in two figures only is met within their rounding.
    assert arch.params_total[0] == pytest.approx(case["params"], rel=case.get("within", WITHIN))
    if "active" in case:
        assert arch.params_active[0] == pytest.approx(case["active"], rel=0.03)
    assert arch.cache_elements[0] == pytest.approx(case["cache"], rel=1e-9)
    assert arch.window_elements[0] == pytest.approx(case["window"], rel=1e-9)
    if "index" in case:
        assert (arch.far_elements[0], arch.index_elements[0]) == (case["far"], case["index"])


def test_a_cache_that_is_compressed_by_layer_is_as_small_as_published(at: CatalogAt) -> None:
    """A million tokens of DeepSeek V4 Pro take 9.62 GiB in 16 bits, an 8.7th of V3.2's with its index."""

    def gib(model: str) -> float:
        arch = arch_of(at, [model])
        return float((arch.cache_elements + arch.far_elements + arch.index_elements)[0]) * 2.0 * 2**20 / GIB

    assert gib("deepseek-v4-pro") == pytest.approx(9.62, abs=0.005)
    assert gib("deepseek-v3.2") / gib("deepseek-v4-pro") == pytest.approx(8.7, abs=0.05)


def test_what_an_index_has_chosen_is_all_that_a_long_context_costs(at: CatalogAt) -> None:
    """Of a context ten times as long, layers that choose read as much; the index and the far layers more."""
    arch, gpu = arch_of(at, ["deepseek-v4-flash"]), gpu_of(at, ["b200"])
    setup = setup_of(at, gpu, [precision_of(at, "deepseek-v4-flash", "native")], tp=1)
    k = constants_of(at)
    times = [float(attention_s(arch, gpu, setup, k, 64.0, context)[0]) for context in (1e4, 1e5, 1e6)]
    assert times[0] < times[1] < times[2]
    assert times[1] < 5 * times[0]
    whole = arch._replace(sparse_tok=np.full(1, np.inf))
    assert float(attention_s(whole, gpu, setup, k, 64.0, 1e6)[0]) > 2 * times[2]


def test_bytes_of_a_token_in_vllms_cache_of_sparse_attention(at: CatalogAt) -> None:
    """584 bytes an entry and 132 a key of the index in DeepSeek V4, 656 and 132 in V3.2."""
    v4, older = (layers_of(at, name, (8.0, 1.0), 1.0) for name in ("deepseek-v4-flash", "deepseek-v3.2"))
    assert (v4.full, v4.window, v4.window_tok, v4.window_token_bytes) == (41, 43, 128, 584)
    assert v4.token_bytes * 41 == pytest.approx(21 * (584 + 132) / 4 + 20 * 584 / 128)
    assert (older.full, older.window, older.token_bytes) == (61, 0, 656 + 132)
    assert layers_of(at, "deepseek-v3.2", (8.0, 1.0), 2.0).token_bytes == 576 * 2 + 132
    shared = layers_of(at, "glm-5.3", (8.0, 1.0), 1.0)
    assert shared.token_bytes * 78 == pytest.approx(78 * 656 + 21 * 132)


def test_ratios_that_are_not_known_are_refused_by_name(catalog: Catalog, tmp_path: Path) -> None:
    config = PUBLISHED["deepseek-v4-flash"]["config"] | {"compress_ratios": [0, 4, 16, 128]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="compress_ratios"):
        with_config(catalog, tmp_path / "config.json")


@pytest.mark.parametrize("row", GALLERY, ids=lambda row: row["name"])
def test_a_model_is_as_large_as_others_reckon(at: CatalogAt, row: dict[str, str]) -> None:
    """Sizes and KiB of cache a token in 16 bits as S. Raschka's LLM Architecture Gallery (26 April 2026) has
    them; left out are those that count a key that is also the value once, or one width for two kinds of
    layers."""
    model = model_id_of(at, row["name"])
    arch = arch_of(at, [model])
    kept = float((arch.cache_elements + arch.far_elements)[0])
    if at.find(f"model/{model}", "compress_tok") is None:
        kept += float(arch.window_elements[0])
    assert 2.0 * kept / 1024.0 == pytest.approx(float(row["kv_kib"]), abs=0.051)
    total = float(row["total_b"])
    assert arch.params_total[0] / 1e9 == pytest.approx(total, rel=0.06, abs=0.5)
    if row["active_b"]:
        assert arch.params_active[0] / 1e9 == pytest.approx(float(row["active_b"]), rel=0.09, abs=0.6)


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
