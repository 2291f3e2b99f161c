"""A device's memory by part, and the size of the cache that vLLM logs, reckoned as its source does.

vLLM takes a fraction of the device, loads the weights, runs one step of ``max_num_batched_tokens`` tokens
to see the peak of activations, and gives what is left to blocks of cache. Layers of one kind of attention
form groups of equally many layers that share the blocks' memory; a request of the longest length needs so
many blocks of each group, and the maximum concurrency is all blocks over those of one request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.perf import Constants, Gpu, Setup
from isocost.perf.arch import Arch, Floats
from isocost.perf.memory import weight_bytes

SUBJECT = "memory/vllm"


class Engine(NamedTuple):
    """What one step and one replica may hold: tokens a step, sequences at once, tokens a block of cache."""

    max_num_batched_tokens: int
    max_num_seqs: int
    block_tok: int


class Memory(NamedTuple):
    """Bytes of one accelerator by part, ``(n,)`` each; ``cache`` is what is left, below zero where it does
    not fit, ``unused`` what the engine leaves alone."""

    weights: Floats
    activations: Floats
    overhead: Floats
    cache: Floats
    unused: Floats


class CacheLog(NamedTuple):
    """What vLLM logs of its cache: tokens, and how many requests of ``longest_tok`` fit at once.

    ``blocks`` are of one data-parallel rank, ``block_tok`` tokens in one.
    """

    tokens: int
    max_concurrency: float
    longest_tok: int
    blocks: int
    block_tok: int


class Layers(NamedTuple):
    """Layers by kind of attention, and bytes that each keeps on one accelerator: of a token where it
    attends (``token_bytes``; ``window_token_bytes`` where it sees a window and they differ, else 0), of a
    sequence where it keeps a state (``state_bytes``, in ``state_blocks`` blocks of each group of layers)."""

    full: int
    window: int
    state: int
    window_tok: int
    token_bytes: float
    state_bytes: float
    window_token_bytes: float = 0.0
    state_blocks: int = 1


def memory_of(
    catalog_at: CatalogAt, arch: Arch, gpu: Gpu, setup: Setup, k: Constants, engine: Engine, vocab_tok: float
) -> Memory:
    """The parts of every set-up's memory on one accelerator.

    Raises:
        UnknownFact: a constant of the engine's memory is not in the catalog.
    """
    fact = catalog_at.number
    tokens = float(engine.max_num_batched_tokens)
    wide = setup.wide_bytes
    spread = setup.tp * setup.dp
    # A layer's feed-forward is alive at once, of all layers only one; a mixture's rows are copied by expert.
    inner = arch.dense_params / np.maximum(3.0 * arch.hidden_size * arch.layers, 1.0) / setup.tp
    visits = np.where(arch.experts > 0, arch.experts_per_token / np.maximum(setup.dp, 1.0), 0.0)
    moe_layers = np.maximum(arch.moe_layers, 1.0)
    expert_inner = arch.expert_params / np.maximum(3.0 * arch.hidden_size * arch.experts * moe_layers, 1.0)
    alive = fact(SUBJECT, "hidden_copies") * arch.hidden_size + 3.0 * inner
    alive = alive + visits * (arch.hidden_size + 3.0 * expert_inner / np.maximum(spread / setup.dp, 1.0))
    logits = engine.max_num_seqs * vocab_tok * fact(SUBJECT, "logit_bytes")
    activations = tokens * alive * wide + logits
    overhead = fact(SUBJECT, "overhead_bytes") + np.where(
        spread * setup.pp > 1, fact(SUBJECT, "collective_bytes"), 0.0
    )
    weights = weight_bytes(arch, setup)
    usable = gpu.memory_bytes * k.memory_usable_frac
    cache = usable - weights - activations - overhead
    return Memory(weights, activations, overhead * np.ones_like(cache), cache, gpu.memory_bytes - usable)


def layers_of(
    catalog_at: CatalogAt,
    model: str,
    split: tuple[float, float],
    cache_bytes: float,
    *,
    shares_prefixes: bool = False,
    drafts_tok: int = 0,
) -> Layers:
    """The layers of one stage of a model by kind, and what each keeps on one accelerator.

    ``split`` is (tensor, pipeline) parallel. A state takes a block of each group, one more where prefixes are
    shared, and one for each drafted token.
    """
    tp, pp = split

    def number(name: str) -> float:
        found = catalog_at.find(f"model/{model}", name)
        return 0.0 if found is None else float(found.value)

    layers = number("layers")
    full = (
        number("full_attention_layers")
        if catalog_at.find(f"model/{model}", "full_attention_layers")
        else layers
    )
    latent = number("mla_kv_rank")
    if latent:
        token = (latent + number("mla_rope_dim")) * cache_bytes
    else:
        heads, width = max(number("kv_heads") / tp, 1.0), number("head_dim")
        values = number("value_head_dim") or width
        token = heads * (width + values) * cache_bytes
    extra, index = _sparse_extra(catalog_at, number, cache_bytes)
    if number("compress_tok"):
        return _compressed_layers(number, cache_bytes, pp, extra, index)
    if index:
        sparse = number("sparse_layers") or full
        token += extra + index * (number("sparse_index_layers") or sparse) / full
    state = _state_bytes(catalog_at, model, number) / tp
    other = layers - full
    window = number("sliding_window_tok")
    near = 0.0
    if window and not latent and (number("window_kv_heads") or number("window_head_dim")):
        near_heads = max((number("window_kv_heads") or number("kv_heads")) / tp, 1.0)
        near_share = (number("window_head_dim") or width) / width
        near = near_heads * near_share * (width + values) * cache_bytes
    per_stage = [math.ceil(count / pp) for count in (full, other if window else 0, other if state else 0)]
    kept = 0
    if state:
        mode = "prefix_caching=on" if shares_prefixes else "prefix_caching=off"
        kept = int(catalog_at.number(SUBJECT, "state_blocks", mode)) + drafts_tok
    return Layers(per_stage[0], per_stage[1], per_stage[2], int(window), token, state, near, kept)


def _sparse_extra(
    catalog_at: CatalogAt, number: Callable[[str], float], cache_bytes: float
) -> tuple[float, float]:
    """Bytes of an entry beside its elements, and of a key of the index; none without an index.

    In fp8 the scales and the wider part of an entry of latent attention lie beside it.
    """
    if not number("sparse_index_dim"):
        return 0.0, 0.0
    index = number("sparse_index_dim") + catalog_at.number(SUBJECT, "index_extra_bytes")
    narrow = cache_bytes < catalog_at.number("dtype/bf16", "bytes_per_element")
    if not narrow or not (number("mla_kv_rank") or number("compress_tok")):
        return 0.0, index
    kind = "cache=compressed" if number("compress_tok") else "cache=plain"
    return catalog_at.number(SUBJECT, "sparse_fp8_extra_bytes", kind), index


def _compressed_layers(
    number: Callable[[str], float], cache_bytes: float, pp: float, extra_bytes: float, index_bytes: float
) -> Layers:
    """Layers whose entries stand for several tokens each (DeepSeek V4), those of both kinds as one: a token
    takes of each its share of an entry, of the index's key in those that have one, and every layer sees a
    window of single tokens. The cache is one head, which is not split."""
    each, far = number("compress_tok"), number("far_layers")
    chosen, entry = number("full_attention_layers"), number("head_dim") * cache_bytes + extra_bytes
    token = chosen * (entry + index_bytes) / each + far * entry / number("far_compress_tok")
    full, layers = math.ceil((chosen + far) / pp), math.ceil(number("layers") / pp)
    return Layers(full, layers, 0, int(number("sliding_window_tok")), token / (chosen + far), 0.0, entry, 0)


def _state_bytes(catalog_at: CatalogAt, model: str, number: Callable[[str], float]) -> float:
    """Bytes of a sequence's state in one layer: the state itself and the last columns of its inputs."""
    size = number("linear_state_size")
    if not size:
        return 0.0
    stated = catalog_at.find(f"model/{model}", "state_bytes_per_element")
    each = float(stated.value) if stated else catalog_at.number(SUBJECT, "state_bytes_per_element")
    columns = catalog_at.number(SUBJECT, "conv_columns")
    inputs = 2.0 * number("linear_key_size") + number("linear_value_size")
    return size * each + columns * inputs * catalog_at.number("dtype/bf16", "bytes_per_element")


def cache_log(layers: Layers, cache_bytes: float, longest_tok: int, engine: Engine) -> CacheLog:
    """What vLLM logs for a cache of ``cache_bytes`` on one accelerator.

    >>> layers, engine = Layers(32, 0, 0, 0, 4096.0, 0.0), Engine(2048, 256, 16)
    >>> log = cache_log(layers, 32 * 4096.0 * 16 * 1000, 8000, engine)
    >>> log.tokens, round(log.max_concurrency, 2), log.blocks
    (16000, 2.0, 1000)

    Where a page is made long enough for a state, those of a window are as long.

    >>> log = cache_log(Layers(8, 8, 24, 512, 4096.0, 4e6), 2e10, 32768, engine)
    >>> log.tokens, log.max_concurrency
    (491520, 15.0)
    """
    block = engine.block_tok
    near_block = block
    if layers.window_token_bytes and layers.window:
        # Pages are as large as the largest kind's: the others hold more tokens in one.
        most = max(layers.token_bytes, layers.window_token_bytes)
        near_block = int(block * most / layers.window_token_bytes)
        block = int(block * most / layers.token_bytes)
    if layers.state:
        # The block of attention is made so long that its page holds a state.
        needed = math.ceil(layers.state_bytes / (layers.token_bytes * block))
        block *= max(1, needed)
        near_block *= max(1, needed)
    kinds = [count for count in (layers.full, layers.window, layers.state) if count]
    if not kinds or cache_bytes <= 0:
        return CacheLog(0, 0.0, longest_tok, 0, block)
    least, most = min(kinds), max(kinds)
    size = most if most < 1.5 * least else least
    page = layers.token_bytes * block
    blocks = int(cache_bytes // (page * size))
    whole = math.ceil(longest_tok / block)
    near = min(layers.window_tok - 1 + engine.max_num_batched_tokens, longest_tok) if layers.window else 0
    of_request = math.ceil(layers.full / size) * whole
    near_whole = math.ceil(longest_tok / near_block)
    near_blocks = min(math.ceil(near / near_block) + 1, near_whole)
    of_request += math.ceil(layers.window / size) * near_blocks if layers.window else 0
    of_request += math.ceil(layers.state / size) * layers.state_blocks if layers.state else 0
    concurrency = blocks / max(of_request, 1)
    return CacheLog(int(concurrency * longest_tok), concurrency, longest_tok, blocks, block)
