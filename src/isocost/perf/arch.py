"""The shapes of language models as arrays: what the physics needs to know, one entry per candidate.

A model is reduced to a few sums over its layers: parameters that every token reads, parameters of
routed experts, elements that the cache keeps for a token, and floating-point operations for one
pair of query and cached token. Grouped-query, latent (MLA), sliding-window, sparse and linear
attention differ only in those sums.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.catalog import CatalogAt
from isocost.errors import BadInput, UnknownModel

Floats = NDArray[np.float64]


class Arch(NamedTuple):
    """Shapes of ``n`` models; every field is float64 of shape ``(n,)``, summed over layers.

    ``attention_params``, ``dense_params`` (dense feed-forward, shared experts, router) and
    ``head_params`` are read whole for any token; ``expert_params`` counts all routed experts.
    ``*_elements`` are cache elements: of a token in layers that keep the whole context
    (``cache_elements``; no more than ``sparse_tok`` tokens of it are read), of a token in layers that read
    the whole context where others choose (``far_elements``), of a token in sliding-window layers
    (``window_elements``), of a token in the index of sparse attention (``index_elements``, one byte each)
    and of a sequence in linear attention (``state_elements``). Where one entry stands for several tokens, a
    token has its share of it. ``*_flop`` are per pair of query and cached token.
    ``cache_heads`` is how far the cache of a token can be split (1 with latent attention).
    ``products`` counts the matrix products of a pass apart from routers, routed experts and the head;
    ``latent`` is 1 where attention is latent; in ``joint_norm_layers`` queries and keys are normalised over
    all heads at once, which accelerators that share a layer have to sum for.
    """

    layers: Floats
    hidden_size: Floats
    attention_params: Floats
    dense_params: Floats
    expert_params: Floats
    head_params: Floats
    embedding_params: Floats
    experts: Floats
    experts_per_token: Floats
    moe_layers: Floats
    cache_heads: Floats
    cache_elements: Floats
    cache_flop: Floats
    prefill_flop: Floats
    far_elements: Floats
    far_flop: Floats
    window_elements: Floats
    window_flop: Floats
    window_tok: Floats
    sparse_tok: Floats
    index_elements: Floats
    index_flop: Floats
    state_elements: Floats
    products: Floats
    latent: Floats
    joint_norm_layers: Floats

    @property
    def params_total(self) -> Floats:
        """Parameters of the language model, embeddings counted once where they are shared, ``(n,)``."""
        every = self.attention_params + self.dense_params + self.head_params + self.embedding_params
        return every + self.expert_params

    @property
    def params_active(self) -> Floats:
        """Parameters that one token passes through, without the input embedding, ``(n,)``."""
        share = self.experts_per_token / np.maximum(self.experts, 1.0)
        return self.attention_params + self.dense_params + self.head_params + self.expert_params * share


SHAPE = """
layers hidden_size attention_heads kv_heads head_dim vocab_size tied_embeddings attention_gate
mla_q_rank mla_kv_rank mla_rope_dim mla_nope_dim mla_v_dim
full_attention_layers sliding_window_tok window_kv_heads window_head_dim value_head_dim
sparse_top_tok sparse_index_dim sparse_index_heads sparse_layers sparse_index_layers
compress_tok far_layers far_compress_tok output_rank output_groups
linear_key_size linear_value_size linear_state_size joint_norms
ffn_size ffn_matrices dense_ffn_layers experts experts_per_token expert_ffn_size shared_ffn_size
"""
"""Attributes of a model that its shapes are summed from, apart by spaces."""
JOINT_NORMS = frozenset({"olmo2", "olmo3", "olmoe"})
"""Types of models whose code normalises queries and keys over all heads, without a field that says so."""


def model_id_of(catalog_at: CatalogAt, name: str) -> str:
    """The catalog's id of a model called ``name``: an id, a Hugging Face name or an alias, case ignored.

    Names that differ only in who re-published the weights, in how they were tuned or in the format
    they are stored in have the same shapes, and are found as long as one id is meant.

    Raises:
        UnknownModel: no entry has the name; near names are given.
    """
    wanted, known = name.lower(), known_names(catalog_at)
    if wanted in known:
        return known[wanted]
    same = {model_id for other, model_id in known.items() if stem_of(other) == stem_of(wanted)}
    if len(same) == 1:
        return same.pop()
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    listed = "Type 'isocost catalog list model/', or give its config.json"
    fix = f"Near: {', '.join(near)}" if near else listed
    raise UnknownModel(f"no open-weights model {name!r}", fix=fix)


_TUNED = re.compile(
    r"-(?:instruct|chat|it|hf|base|thinking|bf16|fp8|fp4|nvfp4|mxfp4|int4|awq|gptq|w\da\d+|dynamic|\d{4})$"
)


def known_names(catalog_at: CatalogAt) -> dict[str, str]:
    """Ids of models by what they are called, in lower case: ids, Hugging Face names, aliases."""
    known: dict[str, str] = {}
    for fact in catalog_at.each("model/", "hf_id"):
        model_id = fact.subject.removeprefix("model/")
        known[model_id] = model_id
        known[str(fact.value).lower()] = model_id
    for fact in catalog_at.each("model/", "aliases"):
        for alias in str(fact.value).lower().split("|"):
            known.setdefault(alias, fact.subject.removeprefix("model/"))
    return known


def stem_of(name: str) -> str:
    """``nvidia/Llama-3.3-70B-Instruct-FP8`` and ``Llama 3.3 70B`` have one stem."""
    stem = re.sub(r"[\s_]+", "-", name.lower().rpartition("/")[2]).removeprefix("meta-")
    while (shorter := _TUNED.sub("", stem)) != stem:
        stem = shorter
    return stem


def arch_of(catalog_at: CatalogAt, model_ids: Sequence[str]) -> Arch:
    """Shapes of the models, one entry per id (an id may repeat).

    Raises:
        UnknownFact: a model or one of its shapes is not in the catalog.
    """
    rows = {model_id: _sums(_shape_of_facts(catalog_at, model_id)) for model_id in dict.fromkeys(model_ids)}
    table = np.array([rows[model_id] for model_id in model_ids], dtype=np.float64).reshape(
        -1, len(Arch._fields)
    )
    return Arch(*np.ascontiguousarray(table.T))


def arch_from_config(config: Mapping[str, Any]) -> Arch:
    """Shapes of one model from its Hugging Face ``config.json``, arrays of shape ``(1,)``.

    Raises:
        BadInput: a field without which the shapes are unknown is missing.
    """
    return Arch(*(np.array([value]) for value in _sums(shape_of_config(config))))


def take(arch: Arch, index: NDArray[np.intp]) -> Arch:
    """The entries at ``index``, which may repeat."""
    return Arch(*(field[index] for field in arch))


def _shape_of_facts(catalog_at: CatalogAt, model_id: str) -> dict[str, float]:
    subject = f"model/{model_id}"
    shape: dict[str, float] = {}
    for name in SHAPE.split():
        found = catalog_at.find(subject, name)
        if found is not None:
            shape[name] = float(found.value == "true" if isinstance(found.value, str) else found.value)
    for name in ("layers", "hidden_size", "attention_heads", "vocab_size"):
        if name not in shape:
            catalog_at.fact(subject, name)
    return shape


def shape_of_config(config: Mapping[str, Any]) -> dict[str, float]:
    """The shapes that a Hugging Face ``config.json`` states, by the names of the catalog's attributes.

    Raises:
        BadInput: a field without which the shapes are unknown is missing.
    """
    text = config.get("text_config") or config

    def first(*names: str) -> Any:
        for source in (text, config):
            for name in names:
                if source.get(name) is not None:
                    return source[name]
        return None

    def need(name: str) -> Any:
        value = first(name)
        if value is None:
            raise BadInput(f"no {name!r}", where="config.json", fix="It is not a decoder's config")
        return value

    layers, hidden, heads = need("num_hidden_layers"), need("hidden_size"), need("num_attention_heads")
    shape: dict[str, Any] = {
        "layers": layers,
        "hidden_size": hidden,
        "attention_heads": heads,
        "vocab_size": need("vocab_size"),
        "tied_embeddings": bool(first("tie_word_embeddings")),
    }
    if first("kv_lora_rank"):
        shape |= {
            "mla_q_rank": first("q_lora_rank") or 0,
            "mla_kv_rank": need("kv_lora_rank"),
            "mla_rope_dim": need("qk_rope_head_dim"),
            "mla_nope_dim": need("qk_nope_head_dim"),
            "mla_v_dim": need("v_head_dim"),
        }
    else:
        shape |= {
            "kv_heads": first("num_key_value_heads") or heads,
            "head_dim": first("head_dim") or hidden // heads,
        }
        for name in ("window_kv_heads", "window_head_dim", "value_head_dim"):
            if first(name):
                shape[name] = first(name)
    experts = first("num_experts", "n_routed_experts", "num_local_experts") or 0
    if experts:
        inner = first("moe_intermediate_size") or need("intermediate_size")
        shared = (first("n_shared_experts") or 0) * inner + (first("shared_expert_intermediate_size") or 0)
        shape |= {
            "experts": experts,
            "experts_per_token": need("num_experts_per_tok"),
            "expert_ffn_size": inner,
            "shared_ffn_size": shared,
            "dense_ffn_layers": first("first_k_dense_replace") or 0,
            "ffn_size": first("intermediate_size") or 0,
        }
    else:
        shape["ffn_size"] = need("intermediate_size")
    kinds = first("layer_types") or ()
    if first("full_attention_interval"):
        values, keys = need("linear_num_value_heads"), need("linear_num_key_heads")
        shape |= {
            "full_attention_layers": layers // first("full_attention_interval"),
            "linear_key_size": keys * need("linear_key_head_dim"),
            "linear_value_size": values * need("linear_value_head_dim"),
            "linear_state_size": values * need("linear_key_head_dim") * need("linear_value_head_dim"),
            "attention_gate": True,
        }
    elif first("sliding_window") and "sliding_attention" in kinds:
        shape |= {
            "full_attention_layers": sum(kind == "full_attention" for kind in kinds),
            "sliding_window_tok": first("sliding_window"),
        }
    if first("model_type") in JOINT_NORMS or (first("use_qk_norm") and first("qk_norm_type") == "per_layer"):
        shape["joint_norms"] = True
    if first("index_topk"):
        shape |= {
            "sparse_top_tok": first("index_topk"),
            "sparse_index_dim": need("index_head_dim"),
            "sparse_index_heads": need("index_n_heads"),
        }
        if isinstance(first("indexer_types"), list):
            # The others take what the layer before them has chosen.
            shape["sparse_index_layers"] = sum(kind == "full" for kind in first("indexer_types"))
    chosen = first("sparse_attention_config")
    if isinstance(chosen, Mapping) and chosen.get("sparse_topk_blocks"):
        shape |= {
            "sparse_top_tok": chosen["sparse_topk_blocks"] * chosen["sparse_block_size"],
            "sparse_index_dim": chosen["sparse_index_dim"],
            "sparse_index_heads": chosen["sparse_num_index_heads"],
            "sparse_layers": sum(chosen.get("sparse_attention_freq") or [1] * layers),
        }
    if isinstance(first("compress_ratios"), list):
        shape |= _ratios(first("compress_ratios")[:layers], need)
    return {name: float(value) for name, value in shape.items()}


def _ratios(ratios: Sequence[int], need: Callable[[str], Any]) -> dict[str, Any]:
    """Layers by how many tokens an entry of their cache stands for (none: the window alone).

    Raises:
        BadInput: a ratio beside the two that are known.
    """
    kinds = sorted({one for one in ratios if one})
    if len(kinds) != 2:
        raise BadInput(f"compress_ratios of {kinds}", where="config.json", fix="Known: two, as 4 and 128")
    return {
        "compress_tok": kinds[0],
        "full_attention_layers": ratios.count(kinds[0]),
        "far_compress_tok": kinds[1],
        "far_layers": ratios.count(kinds[1]),
        "sliding_window_tok": need("sliding_window"),
        "mla_q_rank": need("q_lora_rank"),
        "output_rank": need("o_lora_rank"),
        "output_groups": need("o_groups"),
    }


def _compressed(shape: Mapping[str, float], chosen: float) -> dict[str, float]:
    """What differs where attention reads entries that stand for several tokens each (DeepSeek V4).

    Every layer has one head of keys that are values too, queries and outputs of low rank, and a window of
    single tokens; in ``chosen`` layers entries of ``compress_tok`` tokens, which overlap, are chosen by an
    index, in ``far_layers`` all of the entries of ``far_compress_tok`` are read.
    """
    hidden, heads, dim = shape["hidden_size"], shape["attention_heads"], shape["head_dim"]
    layers, rank, out = shape["layers"], shape["mla_q_rank"], shape["output_rank"]
    each, far, far_each = shape["compress_tok"], shape["far_layers"], shape["far_compress_tok"]
    index_dim, index_heads = shape["sparse_index_dim"], shape["sparse_index_heads"]
    attention = hidden * rank + rank * heads * dim + hidden * dim
    attention += heads * dim * out + shape["output_groups"] * out * hidden
    # Entries and their weights come of a product each; entries that overlap are made twice as wide.
    index = rank * index_heads * index_dim + hidden * index_heads + 4 * hidden * index_dim
    pair = 4 * heads * dim
    return {
        "attention_params": attention * layers + chosen * (4 * hidden * dim + index) + far * 2 * hidden * dim,
        "cache_heads": 1.0,
        "cache_elements": chosen * dim / each,
        "cache_flop": chosen * pair / each,
        "prefill_flop": chosen * pair / each,
        "far_elements": far * dim / far_each,
        "far_flop": far * pair / far_each,
        "window_elements": layers * dim,
        "window_flop": layers * pair,
        "sparse_tok": shape["sparse_top_tok"] * each,
        "index_elements": chosen * index_dim / each,
        "index_flop": chosen * 2 * index_heads * index_dim / each,
        "latent": 1.0,
        "products": 5 * layers + 2 * layers,
    }


def _sums(shape: Mapping[str, float]) -> tuple[float, ...]:
    """The fields of :class:`Arch` in order, from the shapes of one model."""
    get = shape.get
    layers, hidden, heads = shape["layers"], shape["hidden_size"], shape["attention_heads"]
    full = get("full_attention_layers", layers)
    other = layers - full
    latent = get("mla_kv_rank", 0.0)
    if latent:
        rope, nope, width = shape["mla_rope_dim"], shape["mla_nope_dim"], shape["mla_v_dim"]
        rank = get("mla_q_rank", 0.0)
        query = hidden * rank + rank * heads * (nope + rope) if rank else hidden * heads * (nope + rope)
        up = latent * heads * (nope + width) + heads * width * hidden
        attention = query + hidden * (latent + rope) + up
        cache_heads, token = 1.0, latent + rope
        # Decoding multiplies queries by the compressed cache; prefill expands it first.
        pair, prefill_pair = 2 * heads * (2 * latent + rope), 2 * heads * (nope + rope + width)
    else:
        cache_heads, dim = shape["kv_heads"], shape["head_dim"]
        both = dim + get("value_head_dim", dim)
        attention = hidden * heads * (both + dim * get("attention_gate", 0.0)) + hidden * cache_heads * both
        token = cache_heads * both
        pair = prefill_pair = 2 * heads * both
    index_dim, index_heads = get("sparse_index_dim", 0.0), get("sparse_index_heads", 0.0)
    sparse = get("sparse_layers", full)
    indexed = get("sparse_index_layers", sparse) if index_dim else 0.0
    index = index_heads * index_dim * get("mla_q_rank", hidden) + hidden * (index_dim + index_heads)
    attention_params = attention * layers + index * indexed
    window = get("sliding_window_tok", 0.0)
    windowed = other if window else 0.0
    near_heads = get("window_kv_heads", cache_heads)
    near_both = (both / dim) * get("window_head_dim", dim) if not latent else 0.0
    near_token = near_heads * near_both if not latent else token
    near_pair = 2 * heads * near_both if not latent else pair
    if windowed and not latent:
        gate = heads * get("window_head_dim", dim) * get("attention_gate", 0.0)
        near = hidden * (near_both * (heads + near_heads) + gate)
        attention_params = attention * full + near * windowed + index * indexed
    state = get("linear_state_size", 0.0)
    if state:
        linear = hidden * (2 * shape["linear_key_size"] + 3 * shape["linear_value_size"])
        attention_params = attention * full + linear * other + index * indexed
    experts = get("experts", 0.0)
    dense_layers = get("dense_ffn_layers", 0.0) if experts else layers
    moe_layers = layers - dense_layers
    inner = get("ffn_size", 0.0) * dense_layers + get("shared_ffn_size", 0.0) * moe_layers
    dense = get("ffn_matrices", 3.0) * hidden * inner
    head = hidden * shape["vocab_size"]
    values = {
        "layers": layers,
        "hidden_size": hidden,
        "attention_params": attention_params,
        "dense_params": dense + hidden * experts * moe_layers,
        "expert_params": 3 * hidden * get("expert_ffn_size", 0.0) * experts * moe_layers,
        "head_params": head,
        "embedding_params": 0.0 if get("tied_embeddings", 0.0) else head,
        "experts": experts,
        "experts_per_token": get("experts_per_token", 0.0),
        "moe_layers": moe_layers if experts else 0.0,
        "cache_heads": cache_heads,
        "cache_elements": token * sparse,
        "cache_flop": pair * sparse,
        "prefill_flop": prefill_pair * sparse,
        "far_elements": token * (full - sparse),
        "far_flop": pair * (full - sparse),
        "window_elements": near_token * windowed,
        "window_flop": near_pair * windowed,
        "window_tok": window,
        "sparse_tok": get("sparse_top_tok", np.inf),
        "index_elements": index_dim * indexed,
        "index_flop": 2 * index_heads * index_dim * indexed,
        "state_elements": state * other,
        # Queries and keys are one product; latent attention compresses, expands and absorbs in five.
        "products": (5 if latent else 2) * layers
        + 2 * dense_layers
        + (2 * moe_layers if get("shared_ffn_size", 0.0) else 0.0),
        "latent": 1.0 if latent else 0.0,
        "joint_norm_layers": layers if get("joint_norms", 0.0) else 0.0,
    }
    if get("compress_tok", 0.0):
        values |= _compressed(shape, full)
    return tuple(float(values[name]) for name in Arch._fields)
