"""Shapes: what the facts say of a model is what its config says, and what its publisher announced."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput, DoesNotFit, UnknownFact, UnknownModel
from isocost.perf import (
    Arch,
    arch_from_config,
    arch_of,
    candidates,
    constants_of,
    gpu_id_of,
    gpu_of,
    model_card,
    model_id_of,
    precision_of,
    setup_of,
)
from isocost.perf.memory import cache_bytes_per_tok, cache_capacity_tok, fits, weight_bytes

# Parameters as announced, in thousand millions: total, and active where the name states it.
ANNOUNCED = {
    "llama-3.3-70b": (70.6, 70.6),
    "llama-3.1-8b": (8.03, 8.03),
    "llama-3.1-405b": (405.0, 405.0),
    "qwen3-32b": (32.8, 32.8),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235.0, 22.0),
    "gpt-oss-120b": (116.8, 5.1),
    "gpt-oss-20b": (20.9, 3.6),
    "mixtral-8x7b": (46.7, 12.9),
    "deepseek-r1": (671.0, 37.0),
    "kimi-k2": (1000.0, 32.0),
    "glm-4.5-air": (106.0, 12.0),
    "qwen3-next-80b-a3b": (80.0, 3.0),
    "qwen3.5-397b-a17b": (397.0, 17.0),
    "minimax-m2.5": (229.0, 10.0),
    "glm-5": (744.0, 40.0),
    "llama-4-scout": (109.0, 17.0),
    "gemma-3-27b": (27.0, 27.0),
}
CONFIGS = {
    "llama-3.1-70b": {
        "num_hidden_layers": 80,
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
    "deepseek-r1": {
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "intermediate_size": 18432,
        "vocab_size": 129280,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "n_shared_experts": 1,
        "first_k_dense_replace": 3,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "tie_word_embeddings": False,
    },
    "gpt-oss-20b": {
        "num_hidden_layers": 24,
        "hidden_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 2880,
        "vocab_size": 201088,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "tie_word_embeddings": False,
    },
    "qwen3.5-27b": {
        "text_config": {
            "num_hidden_layers": 64,
            "hidden_size": 5120,
            "num_attention_heads": 24,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "intermediate_size": 17408,
            "vocab_size": 248320,
            "full_attention_interval": 4,
            "linear_num_key_heads": 16,
            "linear_key_head_dim": 128,
            "linear_num_value_heads": 48,
            "linear_value_head_dim": 128,
        },
        "tie_word_embeddings": False,
    },
}


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    return Catalog.load().at(date(2026, 11, 22))


@pytest.mark.parametrize("model_id", ANNOUNCED)
def test_shapes_add_up_to_the_announced_parameters(at: CatalogAt, model_id: str) -> None:
    arch = arch_of(at, [model_id])
    total, active = ANNOUNCED[model_id]
    assert arch.params_total[0] / 1e9 == pytest.approx(total, rel=0.03)
    # What "active" counts varies by publisher: with or without embeddings, rounded to a whole.
    assert arch.params_active[0] / 1e9 == pytest.approx(active, rel=0.22)


@pytest.mark.parametrize("model_id", CONFIGS)
def test_a_config_and_the_facts_give_one_arch(at: CatalogAt, model_id: str) -> None:
    from_facts, from_config = arch_of(at, [model_id]), arch_from_config(CONFIGS[model_id])
    for name in Arch._fields:
        assert getattr(from_facts, name) == getattr(from_config, name), name


def test_every_model_with_shapes_answers_and_agrees_with_its_own_totals(at: CatalogAt) -> None:
    ids = [fact.subject.removeprefix("model/") for fact in at.each("model/", "layers")]
    assert len(ids) >= 60
    arch = arch_of(at, ids)
    for i, model_id in enumerate(ids):
        stated = at.number(f"model/{model_id}", "params_total")
        assert arch.params_total[i] == pytest.approx(stated, rel=0.04), model_id
        stated = at.number(f"model/{model_id}", "params_active")
        assert arch.params_active[i] == pytest.approx(stated, rel=1e-9), model_id


def test_latent_attention_keeps_little_and_sliding_windows_stop_growing(at: CatalogAt) -> None:
    arch = arch_of(at, ["deepseek-r1", "llama-3.3-70b", "gpt-oss-120b"])
    assert arch.cache_elements.tolist() == [576 * 61, 2 * 8 * 128 * 80, 2 * 8 * 64 * 18]
    assert arch.window_tok.tolist() == [0, 0, 128]
    assert arch.cache_heads.tolist() == [1, 8, 8]


def test_names_are_found_and_near_names_offered(at: CatalogAt) -> None:
    assert model_id_of(at, "meta-llama/Llama-3.3-70B-Instruct") == "llama-3.3-70b"
    assert model_id_of(at, "DeepSeek-R1-0528") == "deepseek-r1"
    assert model_id_of(at, "unsloth/Qwen3-14B-FP8") == "qwen3-14b"
    assert model_id_of(at, "Llama 3.2 3B") == "llama-3.2-3b"
    assert model_id_of(at, "RedHatAI/gemma-3-12b-it-FP8-dynamic") == "gemma-3-12b"
    assert gpu_id_of(at, "H100-SXM") == "h100-sxm"
    with pytest.raises(UnknownModel, match="qwen3-32b"):
        model_id_of(at, "qwen3-33b")
    with pytest.raises(UnknownFact):
        gpu_id_of(at, "abacus")
    with pytest.raises(UnknownFact):
        arch_of(at, ["gpt-4.1"])
    with pytest.raises(BadInput, match="hidden_size"):
        arch_from_config({"num_hidden_layers": 2})


def test_an_accelerator_without_a_format_multiplies_in_a_wider_one(at: CatalogAt) -> None:
    gpu = gpu_of(at, ["a100-80-sxm", "h100-sxm", "b200"])
    assert gpu.fp8_flop_per_s[0] == gpu.bf16_flop_per_s[0]
    assert gpu.fp8_native.tolist() == [0, 1, 1]
    assert gpu.fp4_native.tolist() == [0, 0, 1]
    assert gpu.fp4_flop_per_s[1] == gpu.bf16_flop_per_s[1]


def test_weights_are_never_wider_than_published(at: CatalogAt) -> None:
    assert precision_of(at, "gpt-oss-120b", "bf16") == ("bf16", "mxfp4", "bf16")
    assert precision_of(at, "deepseek-r1", "bf16") == ("fp8", "fp8", "bf16")
    assert precision_of(at, "deepseek-r1", "fp4") == ("fp8", "fp4", "bf16")
    assert precision_of(at, "llama-3.3-70b", "fp4").dense == "fp4"
    with pytest.raises(BadInput):
        precision_of(at, "llama-3.3-70b", "int3")


def test_memory_adds_up(at: CatalogAt) -> None:
    arch, gpu = arch_of(at, ["llama-3.3-70b"] * 4), gpu_of(at, ["h100-sxm"] * 4)
    setup = setup_of(at, gpu, [precision_of(at, "llama-3.3-70b", "native")] * 4, tp=[1, 2, 4, 8])
    k = constants_of(at)
    assert weight_bytes(arch, setup) * setup.gpus == pytest.approx(arch.params_total * 2)
    # 80 layers, keys and values, 8 heads of 128, 2 bytes: 320 KiB a token over the whole replica.
    assert cache_bytes_per_tok(arch, setup, 4096) * setup.gpus == pytest.approx([327_680.0] * 4)
    capacity = cache_capacity_tok(arch, gpu, setup, k, 4096)
    assert (np.diff(capacity) > 0).all()
    # 141 GB of weights on two accelerators of 86 GB leave room for one or two requests.
    assert fits(arch, gpu, setup, k, 4096).tolist() == [False, True, True, True]
    assert capacity[1] < 8 * 4096
    used = weight_bytes(arch, setup) + cache_bytes_per_tok(arch, setup, 4096) * np.maximum(capacity, 0)
    assert (used[1:] + k.reserve_bytes <= gpu.memory_bytes[1:]).all()


def test_candidates_fit_stay_in_one_domain_and_say_when_the_model_changes(at: CatalogAt) -> None:
    found = candidates(at, ["llama-3.3-70b", "qwen2.5-7b", "deepseek-v3.1"])
    assert fits(found.arch, found.gpu, found.setup, found.constants, 8192).all()
    assert (found.gpus <= found.gpu.link_gpus).all()
    native = {found.precisions[i].dense for i in found.precision[found.is_native & (found.model == 0)]}
    assert native == {"bf16"}
    # 28 heads do not divide by 8.
    assert found.gpus[found.model == 1].max() == 4
    assert (found.setup.dp[found.model == 0] == 1).all()
    assert (found.setup.dp[found.model == 2] > 1).any()
    assert found.name(0).startswith("llama-3.3-70b on ")
    with pytest.raises(DoesNotFit, match="Allow more"):
        candidates(at, "kimi-k2", ["l4"])


def test_a_card_says_what_is_known_and_leaves_out_the_rest(at: CatalogAt) -> None:
    card = model_card(at, "llama-3.3-70b")
    assert card.licence == "Llama 3.3 Community"
    assert card.released == date(2024, 12, 6)
    assert card.context_tok == 131_072
    assert {"text", "tools", "structured"} <= card.supports
    assert "image" not in card.supports
    assert model_card(at, "qwen3-14b").released is None
    with pytest.raises(UnknownFact):
        model_card(at, "qwen9-14b")
