"""A model from the ``config.json`` beside its weights, of any family whose shapes the physics knows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from isocost.catalog import Catalog, Fact
from isocost.errors import BadInput
from isocost.perf.arch import shape_of_config

SAME: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("n_head_kv", "num_kv_heads", "n_kv_heads", "multi_query_group_num"),
    "head_dim": ("kv_channels", "attention_head_dim"),
    "intermediate_size": ("n_inner", "ffn_hidden_size", "ffn_dim", "inner_dim"),
    "vocab_size": ("padded_vocab_size",),
    "max_position_embeddings": ("max_sequence_length", "seq_length", "n_positions", "max_seq_len", "n_ctx"),
    "num_experts_per_tok": (
        "moe_topk",
        "moe_top_k",
        "num_experts_per_token",
        "experts_per_token",
        "top_k_experts",
        "moe_k",
    ),
    "num_experts": ("n_routed_experts", "num_local_experts", "moe_num_experts"),
    "n_shared_experts": ("num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    "first_k_dense_replace": ("num_dense_layers", "moe_layer_start_index"),
    "sliding_window": ("sliding_window_size", "attention_window_size"),
    "shared_expert_intermediate_size": ("moe_shared_expert_intermediate_size", "shared_intermediate_size"),
    "value_head_dim": ("v_head_dim",),
    "window_kv_heads": ("swa_num_key_value_heads",),
    "window_head_dim": ("swa_head_dim",),
}
"""What other families call the fields that a config is read by."""

FOUR_WIDE = frozenset({"falcon", "bloom", "gpt2", "gptj", "gpt_bigcode", "mpt"})
"""Families whose feed-forward is four widths where the config does not say."""
UNGATED = FOUR_WIDE | {"gpt_neox", "opt", "phi", "starcoder2", "nemotron", "nemotron_h"}
"""Families whose feed-forward is two matrices, not three with a gate."""

GATED = frozenset({"afmoe"})
"""Families whose attention multiplies its output by a gate as wide, without a field that says so."""

TIED = (
    "gemma", "cohere", "gpt2", "gpt_bigcode", "bloom", "mpt", "falcon", "opt", "starcoder2", "granite",
    "smollm", "olmo_hybrid", "recurrent_gemma",
)  # fmt: skip
"""Families (their first letters) whose input and output embeddings are one where the config does not say."""

SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "intermediate_size", "moe_intermediate_size", "num_experts", "num_experts_per_tok", "n_shared_experts",
    "max_position_embeddings", "sliding_window", "head_dim", "q_lora_rank", "kv_lora_rank",
    "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
)  # fmt: skip
"""Fields that are whole numbers, where they are there."""
POSITIVE = frozenset(SIZES[:3]) | {"vocab_size"}
WHOLE = "Give the whole config.json that lies beside the model's weights"

FORMATS: Mapping[str, str] = {
    "bfloat16": "bf16", "float16": "bf16", "half": "bf16", "float32": "bf16", "fp8": "fp8",
    "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "nvfp4": "fp4", "fp4": "fp4", "awq": "int4", "gptq": "int4",
    "auto-round": "int4", "bitsandbytes": "int4",
}  # fmt: skip
"""Stored formats by the name that a config gives them; 32-bit weights are served in 16."""


STATES: Mapping[str, float] = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
"""Bytes of an element by the name of its format, for what a layer keeps of a sequence."""
LAYER = re.compile(r"layers\.(\d+)\.")
ATTENTION = re.compile(r"(self_attn|attention)(\.?\*|$|\.(q|k|v|o|qkv|kv)_(\w_)?proj)")
"""How a module that is left out of quantising is named where it is a layer's attention."""


def with_config(catalog: Catalog, path: Path) -> tuple[Catalog, str]:
    """A catalog that also holds the model of a Hugging Face ``config.json``, and the model's id.

    Raises:
        BadInput: no such file, not a decoder's config, or a field without which the shapes are unknown.
    """
    config = _filled(catalog, _read(path))
    called = str(config.get("_name_or_path") or path.resolve().parent.name or "config")
    model = called.rstrip("/").rpartition("/")[2].lower()
    while catalog.about(f"model/{model}"):
        # A folder called like a model of the catalog is not that model.
        model += "-own"
    # What lies beside the config is what is served, whatever it was tuned from.
    served = str(path.parent) if path.is_absolute() else f"./{path.parent}".removesuffix("/.")
    try:
        plain = normal(config)
    except BadInput as wrong:
        raise BadInput(wrong.what, where=str(path), fix=wrong.fix) from None
    day = max(source.read for source in catalog.sources.values())

    def fact(attribute: str, value: float | str, unit: str) -> Fact:
        return Fact(
            f"model/{model}", attribute, "", value, unit, None, None, None, None,
            "config.json", "", day, "published", "", str(path),
        )  # fmt: skip

    facts = [fact("hf_id", served, "")]
    try:
        shape = shape_of_config(plain) | recurrent(plain)
        if plain.get("attn_output_gate") or plain.get("model_type") in GATED:
            shape["attention_gate"] = 1.0
        if plain.get("model_type") in UNGATED:
            shape["ffn_matrices"] = 2.0
    except BadInput as wrong:
        raise BadInput(wrong.what, where=str(path), fix=_missing(config)) from None
    for name, value in shape.items():
        spec = catalog.attributes["model", name]
        flag = spec.type == "flag"
        facts.append(fact(name, ("true" if value else "false") if flag else value, spec.unit))
    dense, experts = formats(config, path)
    facts.append(fact("weight_dtype", dense, ""))
    if experts != dense:
        facts.append(fact("expert_dtype", experts, ""))
    held = str(plain.get("mamba_ssm_cache_dtype") or plain.get("mamba_ssm_dtype") or "")
    if "linear_state_size" in shape and held in STATES:
        facts.append(fact("state_bytes_per_element", STATES[held], "bytes"))
    drafts = plain.get("num_nextn_predict_layers") or plain.get("mtp_num_hidden_layers")
    if isinstance(drafts, int) and drafts > 0:
        facts.append(fact("draft_layers", float(drafts), "count"))
    if plain.get("max_position_embeddings"):
        facts.append(fact("context_tok", float(plain["max_position_embeddings"]), "tok"))
    facts.append(fact("family", str(config.get("model_type") or "own"), ""))
    return Catalog(facts, catalog.sources, catalog.attributes, catalog.basis, catalog.rows), model


def _filled(catalog: Catalog, config: dict[str, Any]) -> dict[str, Any]:
    """A config whose family says what an absent field means, with those fields stated (Gemma 3)."""
    nested = config.get("text_config")
    inner = nested if isinstance(nested, dict) else config
    kind = inner.get("model_type")
    if not isinstance(kind, str):
        return config
    for fact in catalog.about(f"config/{kind}"):
        field = fact.when.removeprefix("field=")
        if fact.attribute == "default" and inner.get(field) is None:
            inner[field] = int(float(fact.value))
    return config


class Adapter(NamedTuple):
    """Low-rank weights beside a base model: whose, of which rank, and the folder that they lie in."""

    base: str
    rank: int
    folder: str


def adapter_of(path: Path) -> Adapter | None:
    """The adapter that a folder or an ``adapter_config.json`` holds; ``None`` where it holds none.

    Raises:
        BadInput: an adapter that does not say what it was tuned from, or of which rank it is.
    """
    file = path / "adapter_config.json" if path.is_dir() else path
    if file.name != "adapter_config.json" or not file.is_file() or (file.parent / "config.json").is_file():
        return None
    config = _read(file)
    base, rank = config.get("base_model_name_or_path"), config.get("r")
    if not isinstance(base, str) or not isinstance(rank, int) or rank < 1:
        raise BadInput(
            "an adapter without 'base_model_name_or_path' and its rank 'r'", where=str(file),
            fix="Name the base model instead: isocost size meta-llama/Llama-3.1-8B-Instruct",
        )  # fmt: skip
    folder = file.parent
    return Adapter(base, rank, str(folder) if folder.is_absolute() else f"./{folder}".removesuffix("/."))


def normal(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config by the field names of the most common families, its text part first.

    A nested ``text_config`` (``llm_config``, ``language_config``) is the decoder; windows and mixtures that
    a family writes as a pattern are spelled out by layer.

    Raises:
        BadInput: a size that is no whole number, or a negative one.
    """
    nested = next(
        (
            config[name]
            for name in ("text_config", "llm_config", "language_config", "thinker_config")
            if config.get(name)
        ),
        None,
    )
    if isinstance(nested, Mapping) and isinstance(nested.get("text_config"), Mapping):
        nested = nested["text_config"]
    plain = {**{key: value for key, value in config.items() if key != "text_config"}, **(nested or {})}
    attn = plain.get("attn_config") or {}
    for name, others in SAME.items():
        if plain.get(name) is None:
            found = next((plain[other] for other in others if plain.get(other) is not None), None)
            if found is None and isinstance(attn, Mapping):
                found = next(
                    (
                        attn[other]
                        for other in ("kv_n_heads",)
                        if name == "num_key_value_heads" and attn.get(other)
                    ),
                    None,
                )
            if found is not None:
                plain[name] = found
    _sizes(plain)
    _spell_out(plain)
    _by_layer(plain)
    if plain.get("tie_word_embeddings") is None and str(plain.get("model_type", "")).startswith(TIED):
        plain["tie_word_embeddings"] = True
    if plain.get("kv_lora_rank") is not None or plain.get("value_head_dim") == plain.get("head_dim"):
        plain["value_head_dim"] = None
    return plain


def _sizes(plain: dict[str, Any]) -> None:
    """Hold sizes to whole numbers; widths that differ by layer become their mean."""
    for name in SIZES:
        value = plain.get(name)
        if value is None:
            continue
        each = value if isinstance(value, list) and value and name.endswith("intermediate_size") else [value]
        least = 1 if name in POSITIVE else 0
        for one in each:
            if isinstance(one, bool) or not isinstance(one, int | float) or one != one // 1 or one < least:
                raise BadInput(f"{name!r} is {one!r}, not a size", fix=WHOLE)
        if name == "intermediate_size" and each is value:
            plain[name] = round(sum(each) / len(each))


def _spell_out(plain: dict[str, Any]) -> None:
    """Fields that follow from others in some families."""
    layers = plain.get("num_hidden_layers")
    if plain.get("multi_query") and not plain.get("num_key_value_heads"):
        plain["num_key_value_heads"] = 1
    wide = plain.get("n_embd") or plain.get("expansion_ratio") or plain.get("model_type") in FOUR_WIDE
    if plain.get("intermediate_size") is None and plain.get("hidden_size") and wide:
        plain["intermediate_size"] = int(plain["hidden_size"] * float(plain.get("expansion_ratio") or 4))
    pattern = plain.get("sliding_window_pattern") or plain.get("_sliding_window_pattern")
    if layers and plain.get("sliding_window") and not plain.get("layer_types"):
        if isinstance(pattern, int) and pattern > 1:
            plain["layer_types"] = [
                "full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)
            ]
        elif plain.get("use_sliding_window") is False or plain["sliding_window"] >= (
            plain.get("max_position_embeddings") or plain["sliding_window"] + 1
        ):
            plain["sliding_window"] = None
        elif str(plain.get("model_type", "")) in ("mistral", "phi3", "starcoder2"):
            plain["layer_types"] = ["sliding_attention"] * layers
        elif str(plain.get("model_type", "")) in ("gemma2", "cohere2"):
            every = 2 if plain["model_type"] == "gemma2" else 4
            plain["layer_types"] = [
                "full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)
            ]
    step = (
        plain.get("interleave_moe_layer_step")
        or plain.get("moe_layer_freq")
        or plain.get("expert_layer_period")
    )
    if layers and isinstance(step, int) and step > 1 and not plain.get("first_k_dense_replace"):
        plain["first_k_dense_replace"] = layers - layers // step
    if isinstance(plain.get("moe_layers"), list):
        plain["first_k_dense_replace"] = layers - len(plain["moe_layers"]) if layers else 0
    if plain.get("intermediate_size_mlp") and plain.get("num_experts"):
        plain.setdefault("moe_intermediate_size", plain["intermediate_size"])
        plain["intermediate_size"] = plain["intermediate_size_mlp"]
        plain.setdefault("n_shared_experts", 1)
    if isinstance(plain.get("moe_intermediate_size"), list):
        plain["moe_intermediate_size"] = plain["moe_intermediate_size"][-1]


def _by_layer(plain: dict[str, Any]) -> None:
    """Layers that a family lists one by one: windows, dense ones, heads of their own, feed-forwards."""
    listed = plain.get("layers_block_type")
    if plain.get("num_hidden_layers") is None and isinstance(listed, list):
        plain["num_hidden_layers"] = len(listed)
    layers = plain.get("num_hidden_layers")
    pattern = plain.get("hybrid_layer_pattern")
    if isinstance(pattern, list) and pattern and plain.get("sliding_window"):
        plain["layer_types"] = ["sliding_attention" if one else "full_attention" for one in pattern]
    freq = plain.get("moe_layer_freq")
    if isinstance(freq, list) and freq:
        plain["first_k_dense_replace"] = sum(not one for one in freq)
    if plain.get("dense_intermediate_size") and plain.get("num_experts"):
        plain["moe_intermediate_size"] = plain.get("moe_intermediate_size") or plain["intermediate_size"]
        plain["intermediate_size"] = plain["dense_intermediate_size"]
    if plain.get("shared_expert_intermediate_size") and plain.get("n_shared_experts"):
        # Both state one thing: how many, and how wide they are together.
        plain["n_shared_experts"] = None
    if plain.get("enable_moe_block") and plain.get("num_experts"):
        # A dense feed-forward beside the routed one is a shared expert.
        plain["shared_expert_intermediate_size"] = plain["intermediate_size"]
        plain["first_k_dense_replace"] = 0
    if plain.get("global_head_dim"):
        plain["window_head_dim"], plain["head_dim"] = plain["head_dim"], plain["global_head_dim"]
    if plain.get("num_global_key_value_heads"):
        plain["window_kv_heads"] = plain["num_key_value_heads"]
        plain["num_key_value_heads"] = plain["num_global_key_value_heads"]
    if isinstance(plain.get("block_configs"), list) and layers:
        _searched(plain)


def _searched(plain: dict[str, Any]) -> None:
    """A decoder whose blocks were searched one by one (Nemotron of Llama): those with attention are its
    layers, and the feed-forwards are spread over them."""
    heads, groups, widths = plain["num_attention_heads"], [], 0.0
    for block in plain["block_configs"]:
        attention, feed = block.get("attention") or {}, block.get("ffn") or {}
        if not attention.get("no_op") and attention.get("n_heads_in_group"):
            groups.append(heads // attention["n_heads_in_group"])
        if not feed.get("no_op") and feed.get("ffn_mult"):
            # Two thirds of the multiple, rounded up as its code does.
            wide = int(2 * feed["ffn_mult"] * plain["hidden_size"] / 3)
            widths += -(-wide // 256) * 256
    if groups and widths:
        plain["num_hidden_layers"] = len(groups)
        plain["num_key_value_heads"] = round(sum(groups) / len(groups))
        plain["intermediate_size"] = round(widths / len(groups))


def recurrent(plain: Mapping[str, Any]) -> dict[str, float]:
    """The shapes of layers that keep a state (Mamba 2 in Nemotron-H, Jamba, Bamba, Granite 4, Zamba).

    A layer of ``d`` inner width, ``g`` groups and ``s`` state is, in parameters, linear attention with
    values of ``d`` and keys of ``g * s``; its state holds ``d * s``. Where mixing and feed-forward are
    layers of their own, each mixer is a layer and feed-forwards are paired with mixers. Empty where there
    are none.
    """
    delta = plain.get("linear_attn_config")
    if isinstance(delta, Mapping) and delta.get("num_heads") and delta.get("full_attn_layers"):
        wide = float(delta["num_heads"] * delta["head_dim"])
        found = {
            "full_attention_layers": float(len(delta["full_attn_layers"])),
            "linear_key_size": wide, "linear_value_size": wide, "linear_state_size": wide * delta["head_dim"],
        }  # fmt: skip
        return found | _narrow_experts(plain)
    state = plain.get("ssm_state_size") or plain.get("mamba_d_state") or plain.get("mamba_state_dim")
    layers = plain.get("num_hidden_layers")
    if not state or not layers:
        return _narrow_experts(plain)
    heads, width = plain.get("mamba_num_heads") or plain.get("mamba_n_heads"), plain.get("mamba_head_dim")
    width = width or plain.get("mamba_d_head")
    expand = plain.get("mamba_expand") or plain.get("expand") or 2
    inner = heads * width if heads and width else int(expand) * plain["hidden_size"]
    groups = plain.get("n_groups") or plain.get("mamba_n_groups") or 1
    full, mixers, dense, routed = _kinds(plain, layers)
    found = {
        "layers": float(full + mixers),
        "full_attention_layers": float(full),
        "linear_key_size": float(groups * state),
        "linear_value_size": float(inner),
        "linear_state_size": float(inner * state),
    }
    if routed and plain.get("num_experts"):
        # Feed-forwards of every kind are paired with mixers; the rest of the mixers have none.
        alone = full + mixers - routed
        found["dense_ffn_layers"] = float(alone)
        found["ffn_size"] = plain["intermediate_size"] * dense / alone if alone else 0.0
    elif dense != full + mixers and plain.get("intermediate_size"):
        found["ffn_size"] = plain["intermediate_size"] * dense / (full + mixers)
    return found | _narrow_experts(plain)


def _kinds(plain: Mapping[str, Any], layers: int) -> tuple[int, int, int, int]:
    """Layers with attention, with a state, with a dense feed-forward and with a routed one."""
    pattern, listed = plain.get("hybrid_override_pattern"), plain.get("layers_block_type")
    if isinstance(listed, list) and not isinstance(pattern, str) and {"moe", "mlp"} & set(listed):
        signs = {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"}
        pattern = "".join(signs.get(str(kind), "") for kind in listed)
    if isinstance(pattern, str):
        return pattern.count("*"), pattern.count("M"), pattern.count("-"), pattern.count("E")
    kinds = listed or plain.get("layer_types") or ()
    if kinds:
        full = sum("attention" in str(kind) and "linear" not in str(kind) for kind in kinds)
    elif isinstance(plain.get("attn_layer_indices"), list):
        full = len(plain["attn_layer_indices"])
    elif plain.get("attn_layer_period"):
        full = layers // int(plain["attn_layer_period"])
    elif plain.get("num_key_value_heads"):
        # Both in every layer, side by side.
        return layers, layers, layers, 0
    else:
        full = 0
    return full, layers - full, layers, 0


def _narrow_experts(plain: Mapping[str, Any]) -> dict[str, float]:
    """Experts of two matrices, or that act in a width of their own, as wide as gives their parameters."""
    experts, inner = plain.get("num_experts"), plain.get("moe_intermediate_size")
    latent = plain.get("moe_latent_size") or plain.get("routed_expert_hidden_size")
    is_plain = plain.get("model_type") in UNGATED
    if not experts or not inner or not (latent or is_plain):
        return {}
    matrices = 2.0 if is_plain else 3.0
    share = latent / plain["hidden_size"] if latent else 1.0
    shared = (plain.get("n_shared_experts") or 0) * inner
    shared += plain.get("shared_expert_intermediate_size") or 0
    # Into the experts' width and back: two matrices that every token passes.
    return {
        "expert_ffn_size": inner * share * matrices / 3.0,
        "shared_ffn_size": shared + 2.0 * (latent or 0) / matrices,
    }


def formats(config: Mapping[str, Any], path: Path) -> tuple[str, str]:
    """Formats of the stored dense weights and of the routed experts.

    Raises:
        BadInput: a format that the physics does not know.
    """
    nested = config.get("text_config")
    inner: Mapping[str, Any] = nested if isinstance(nested, Mapping) else {}
    wide = next(
        (source[name] for source in (config, inner) for name in ("torch_dtype", "dtype") if source.get(name)),
        None,
    )
    quantised = (
        config.get("quantization_config")
        or inner.get("quantization_config")
        or config.get("compression_config")
        or _beside(path)
    )
    if isinstance(quantised, Mapping) and quantised:
        found = _quantised(quantised)
        if found is None:
            raise BadInput(
                f"quantisation {quantised.get('quant_method')!r} is not known", where=str(path),
                fix="Known: fp8, compressed-tensors, modelopt, mxfp4, awq, gptq, bitsandbytes of 4 or 8 bits",
            )  # fmt: skip
        # gpt-oss and most NVFP4 checkpoints of mixtures leave attention as it was.
        only_experts = found == "mxfp4" and "gpt" in str(config.get("model_type", ""))
        plain = normal(config)
        if FORMATS.get(str(plain.get("expert_dtype"))):
            return found, FORMATS[str(plain["expert_dtype"])]
        apart = bool(plain.get("num_experts")) and _keeps_attention(quantised, plain)
        return ("bf16" if only_experts or apart else found), found
    dense = FORMATS.get(str(wide).removeprefix("torch."))
    if dense is None:
        raise BadInput(
            f"torch_dtype is {wide!r}", where=str(path),
            fix="Known: bfloat16, float16, float32, or a quantization_config",
        )  # fmt: skip
    return dense, dense


def _keeps_attention(stated: Mapping[str, Any], plain: Mapping[str, Any]) -> bool:
    """Whether what is left out of quantising covers the attention of most layers."""
    lists = (stated.get(name) for name in ("ignore", "exclude_modules", "modules_to_not_convert"))
    kept = [str(one) for named in lists if isinstance(named, list) for one in named]
    if any(one.startswith(("re:", "*")) and ATTENTION.search(one) for one in kept):
        return True
    layers = {found[1] for one in kept if ATTENTION.search(one) and (found := LAYER.search(one))}
    return 2 * len(layers) > int(plain.get("num_hidden_layers") or 1)


def _beside(path: Path) -> Mapping[str, Any]:
    """The ``hf_quant_config.json`` that ModelOpt lays beside a config; empty where there is none."""
    file = path.parent / "hf_quant_config.json"
    found = _read(file).get("quantization") if file.is_file() else None
    return found if isinstance(found, Mapping) else {}


def _quantised(stated: Mapping[str, Any]) -> str | None:
    """The format that a ``quantization_config`` stores weights in; ``None`` where it is not known."""
    method = str(stated.get("quant_method") or "").lower()
    algorithm = str(stated.get("quant_algo") or stated.get("format") or "").lower()
    if algorithm == "mixed_precision":
        # Most layers by number are experts': their format is the one stated most.
        each = stated.get("quantized_layers") or {}
        named = [str(one.get("quant_algo", "")).lower() for one in each.values() if isinstance(one, Mapping)]
        algorithm = max(set(named), key=named.count) if named else algorithm
    if method in FORMATS and method not in ("awq", "gptq", "auto-round", "bitsandbytes"):
        return FORMATS[method]
    for word, found in (("nvfp4", "fp4"), ("mxfp4", "mxfp4"), ("fp8", "fp8"), ("float-quantized", "fp8")):
        if word in algorithm:
            return found
    groups = stated.get("config_groups")
    if isinstance(groups, Mapping) and groups:
        weights = (next(iter(groups.values())) or {}).get("weights") or {}
        bits, kind = weights.get("num_bits"), str(weights.get("type", "int"))
        if bits == 8:
            # Eight-bit integers take the same bytes and, where units exist, the same rate.
            return "fp8"
        if bits == 4:
            return "fp4" if kind == "float" else "int4"
        return None
    if method in ("awq", "gptq", "auto-round"):
        return "int4" if int(stated.get("bits", 4)) == 4 else "fp8" if int(stated["bits"]) == 8 else None
    if method == "bitsandbytes":
        return "int4" if stated.get("load_in_4bit") or stated.get("_load_in_4bit") else "fp8"
    return None


def _missing(config: Mapping[str, Any]) -> str:
    """What of the fields that every decoder has is not there."""
    plain = normal(config)
    wanted = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    lack = [name for name in wanted if plain.get(name) is None]
    if len(lack) == len(wanted):
        return "It is not a decoder's config; give the one that lies beside the weights"
    if lack:
        return f"Missing: {', '.join(lack)}. {WHOLE}"
    return "It is not a decoder that the physics knows"


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except OSError as wrong:
        raise BadInput(wrong.strerror or str(wrong), where=str(path), fix="Check the path") from None
    except ValueError as wrong:
        raise BadInput(f"not JSON: {wrong}", where=str(path), fix=WHOLE) from None
    if not isinstance(config, dict):
        raise BadInput("not a model's config", where=str(path), fix=WHOLE)
    return config
