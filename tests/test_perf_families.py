"""Terms that only some families have, and rows whose figures cannot be: gates, joint norms, lost digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.cli.catalog import newest
from isocost.errors import UnknownModel
from isocost.perf import arch_of, constants_of, gpu_of, precision_of, setup_of
from isocost.perf.arch import Arch, model_id_of
from isocost.perf.hardware import gpu_id_of
from isocost.perf.roofline import communication_s
from isocost.size.config import with_config

WINDOWED = {
    "model_type": "afmoe", "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 64, "swa_num_key_value_heads": 4, "swa_head_dim": 32,
    "intermediate_size": 1024, "vocab_size": 1000, "sliding_window": 256, "tie_word_embeddings": False,
    "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 2,
    "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


def arch_of_config(catalog: Catalog, folder: Path, config: dict[str, object]) -> Arch:
    (folder / "config.json").write_text(json.dumps(config))
    grown, model = with_config(catalog, folder / "config.json")
    return arch_of(grown.at(newest(catalog)), [model])


def test_a_gate_is_as_wide_as_the_heads_of_each_kind_of_layer(catalog: Catalog, tmp_path: Path) -> None:
    gated = arch_of_config(catalog, tmp_path, WINDOWED)
    plain = arch_of_config(catalog, tmp_path, {**WINDOWED, "model_type": "plain"})
    stated = arch_of_config(catalog, tmp_path, {**WINDOWED, "model_type": "plain", "attn_output_gate": True})
    more = 512 * 8 * (64 * 2 + 32 * 6)
    assert gated.attention_params[0] - plain.attention_params[0] == more
    assert stated.attention_params[0] == gated.attention_params[0]
    assert gated.cache_elements[0] == plain.cache_elements[0] == 2 * (2 * 2 * 64)
    assert gated.window_elements[0] == 6 * (2 * 4 * 32)
    assert gated.params_total[0] - plain.params_total[0] == more


@pytest.mark.parametrize(
    "model",
    [
        "olmo-2-1124-7b",
        "olmo-2-1124-13b",
        "olmo-3-7b",
        "olmo-3-32b",
        "olmoe-1b-7b",
        "minimax-m2",
        "minimax-m2.5",
    ],
)
def test_norms_over_all_heads_are_summed_by_accelerators_that_share_a_layer(
    at: CatalogAt, model: str
) -> None:
    arch, gpu, k = arch_of(at, [model]), gpu_of(at, ["h100-sxm"]), constants_of(at)
    assert arch.joint_norm_layers[0] == arch.layers[0]
    apart = arch._replace(joint_norm_layers=np.zeros(1))
    for tp, more in ((1, 0.0), (2, float(k.reduce_s) * float(arch.layers[0]))):
        setup = setup_of(at, gpu, [precision_of(at, model, "native")], tp=tp)
        joint, alone = (float(communication_s(one, gpu, setup, k, 8.0)[0]) for one in (arch, apart))
        assert joint - alone == pytest.approx(more)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-32b", "gemma-3-27b", "glm-4.5", "gpt-oss-20b"])
def test_norms_by_head_need_no_sum(at: CatalogAt, model: str) -> None:
    assert arch_of(at, [model]).joint_norm_layers[0] == 0


def test_ten_rows_of_a_collection_have_lost_figures(at: CatalogAt, data_dir: Path) -> None:
    """Five runs, two rows each, state answers in a tenth of the time, and less, in which the weights can be
    read once a token; no other run of the collection does."""
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(data_dir / "perf" / "argonne.parquet")
    archs = {name: arch_of(at, [model_id_of(at, name)]) for name in table.model.unique() if known(at, name)}
    gpus = {name: gpu_of(at, [gpu_id_of(at, name)]) for name in table.gpu.unique()}
    lost = []
    for row in table[table.metric == "e2e_latency"].itertuples():
        if row.model not in archs:
            continue
        weights = 2.0 * float(archs[row.model].params_active[0])
        read_s = weights / (float(row.n_gpu) * float(gpus[row.gpu].memory_bytes_per_s[0]))
        if float(row.value) < 0.1 * float(row.osl) * read_s:
            lost.append(row)
    assert len(lost) == 5
    assert {row.engine for row in lost} == {"TensorRT-LLM"}
    assert all(row.model.startswith("Qwen/Qwen2-") for row in lost)
    twins = table[
        table.config_id.isin([row.config_id for row in lost]) & (table.metric == "total_throughput")
    ]
    assert len(lost) + len(twins) == 10


def known(at: CatalogAt, name: str) -> bool:
    try:
        model_id_of(at, name)
    except UnknownModel:
        return False
    return True
