"""Time of one engine step: the greater of moving bytes and multiplying, part by part.

Every function is pure and vectorised: ``arch``, ``gpu`` and ``setup`` hold ``n`` candidates, the
other arguments broadcast against ``(n,)``, results are seconds of shape ``(n,)``. A step may hold
sequences that decode one token each and the tokens of prompts that are being prefilled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isocost.perf.arch import Arch, Floats
from isocost.perf.constants import Constants
from isocost.perf.hardware import Gpu
from isocost.perf.setup import Setup


def either_s(one_s: Floats, other_s: Floats, power: float | Floats) -> Floats:
    """A smooth maximum of two times: two kinds of work that overlap, but not perfectly.

    >>> import numpy as np
    >>> float(either_s(np.array([3.0]), np.array([0.0]), 3.0)[0])
    3.0
    """
    top = np.maximum(one_s, other_s)
    rest = np.minimum(one_s, other_s) / np.maximum(top, 1e-300)
    return np.asarray(top * (1.0 + rest**power) ** (1.0 / power))


def experts_touched_frac(arch: Arch, tokens: ArrayLike) -> Floats:
    """The share of a layer's experts that ``tokens`` visit, if each picks its experts at random.

    0 for dense models. From k/E for one token towards 1.
    """
    share = arch.experts_per_token / np.maximum(arch.experts, 1.0)
    return np.asarray(
        np.where(share > 0, -np.expm1(np.asarray(tokens) * np.log1p(-np.minimum(share, 1 - 1e-12))), 0.0)
    )


def linear_s(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, tokens: ArrayLike, sampled: ArrayLike
) -> Floats:
    """Time of all matrix multiplications by weights, for ``tokens`` in one data-parallel rank.

    ``sampled`` tokens pass the output head. Dense weights are sharded by ``tp``, routed experts by
    ``tp * dp``; experts are read if any token of the replica visits them, and each that is visited is
    padded to whole tiles of rows. Rows that enter a product are narrowed first, and a product takes no less
    than one round of the accelerator's units. A visit moves the token's hidden state there and back.
    """
    tokens = np.asarray(tokens, dtype=np.float64)
    bandwidth = gpu.memory_bytes_per_s
    dense = (arch.attention_params + arch.dense_params) / setup.tp
    # Half of the products are cut along the rows that enter them.
    entering = arch.products * arch.hidden_size * 0.5 * (1.0 + 1.0 / setup.tp)
    head = arch.head_params / setup.tp
    everyone = tokens * setup.dp
    shard = arch.expert_params / (setup.tp * setup.dp)
    touched = experts_touched_frac(arch, everyone * k.touch_share)
    one_expert = shard * setup.ep / np.maximum(arch.experts * arch.moe_layers, 1.0)
    visits = everyone * arch.experts_per_token / setup.ep
    rows = arch.moe_layers * (visits + k.expert_pad_rows * touched * arch.experts / setup.ep)
    return (
        either_s(
            dense * setup.dense_bytes / (bandwidth * k.dense_memory_eff),
            2.0
            * (tokens * dense + k.dense_tile_elements * entering)
            / (setup.dense_flop_per_s * k.dense_flop_eff),
            k.dense_blend,
        )
        + tokens * entering * k.dense_row_moves / bandwidth
        + either_s(
            shard * touched * setup.expert_bytes / (bandwidth * k.expert_memory_eff),
            2.0 * rows * one_expert / (setup.expert_flop_per_s * k.expert_flop_eff),
            k.expert_blend,
        )
        + arch.moe_layers * visits * arch.hidden_size * k.expert_row_moves / bandwidth
        + either_s(
            np.where(np.asarray(sampled) > 0, head * setup.wide_bytes / (bandwidth * k.head_memory_eff), 0.0),
            2.0 * np.asarray(sampled) * head / (setup.wide_flop_per_s * k.head_flop_eff),
            k.head_blend,
        )
        + tokens * arch.layers * arch.hidden_size * setup.wide_bytes * k.activation_moves / bandwidth
    )


def attention_s(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, batch: ArrayLike, context_tok: ArrayLike
) -> Floats:
    """Time to read the cache of ``batch`` decoding sequences of ``context_tok`` tokens each.

    A cache splits over ``tp`` no further than it has heads; linear attention reads and writes its state.
    """
    batch = np.asarray(batch, dtype=np.float64)
    context = np.asarray(context_tok, dtype=np.float64)
    seen = np.minimum(context, arch.sparse_tok)
    near = np.minimum(context, arch.window_tok)
    split = np.minimum(setup.tp, arch.cache_heads)
    read = arch.cache_elements * seen + arch.far_elements * context + arch.window_elements * near
    bytes_read = read * setup.cache_bytes / split
    bytes_read = bytes_read + arch.index_elements * context
    bytes_read = bytes_read + 2.0 * arch.state_elements * setup.wide_bytes / setup.tp
    whole = arch.index_flop + arch.far_flop
    flop = (arch.cache_flop * seen + arch.window_flop * near + whole * context) / setup.tp
    return either_s(
        batch * bytes_read / (gpu.memory_bytes_per_s * k.cache_memory_eff),
        batch * flop / (setup.wide_flop_per_s * k.cache_flop_eff),
        k.cache_blend,
    )


def prefill_attention_s(
    arch: Arch, setup: Setup, k: Constants, tokens: ArrayLike, context_tok: ArrayLike
) -> Floats:
    """Time of the attention of ``tokens`` prompt tokens that follow ``context_tok`` cached ones."""
    tokens = np.asarray(tokens, dtype=np.float64)
    mean = np.asarray(context_tok) + 0.5 * tokens
    pairs = arch.prefill_flop * np.minimum(mean, arch.sparse_tok) + (arch.index_flop + arch.far_flop) * mean
    pairs = pairs + arch.window_flop * np.minimum(mean, arch.window_tok)
    return np.asarray(tokens * pairs / setup.tp / (setup.wide_flop_per_s * k.prompt_flop_eff))


def communication_s(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, tokens: ArrayLike) -> Floats:
    """Time of the exchanges of one step: two reductions a layer under ``tp`` (a third, of next to nothing,
    where queries and keys are normalised over all heads), dispatch and combine of experts under ``dp``, one
    hand-over a stage under ``pp``. 0 on one accelerator.
    """
    link = gpu.link_bytes_per_s
    volume = np.asarray(tokens) * arch.hidden_size * setup.wide_bytes
    reduce_s = k.reduce_s + 2.0 * volume * (setup.tp - 1.0) / setup.tp / (link * k.reduce_eff)
    fan_out = np.minimum(arch.experts_per_token, setup.dp)
    spread_s = k.spread_s + volume * fan_out * (setup.dp - 1.0) / setup.dp / (link * k.spread_eff)
    return np.asarray(
        np.where(setup.tp > 1, 2.0 * arch.layers * reduce_s + arch.joint_norm_layers * k.reduce_s, 0.0)
        + np.where(setup.dp > 1, 2.0 * arch.moe_layers * spread_s, 0.0)
        + (setup.pp - 1.0) * (k.spread_s + volume / (link * k.spread_eff))
    )


def fixed_s(arch: Arch, setup: Setup, k: Constants) -> Floats:
    """Time of a step that no token changes: starts of kernels, layers, and the host."""
    held = arch.experts / setup.ep
    return np.asarray(
        arch.products * k.product_s
        + arch.layers * k.layer_s
        + arch.moe_layers * (k.moe_layer_s + held * k.expert_each_s)
        + np.where(arch.index_elements > 0, arch.layers * k.sparse_layer_s, 0.0)
        + np.where(arch.state_elements > 0, arch.layers * k.state_layer_s, 0.0)
        + k.step_s
    )


def eager_s(arch: Arch, k: Constants) -> Floats:
    """The host's time for a prompt, whose kernels it starts one by one: with each product some of its
    surroundings, and what experts need."""
    return np.asarray(arch.products * k.eager_product_s + arch.moe_layers * k.eager_moe_layer_s)


def step_s(
    arch: Arch,
    gpu: Gpu,
    setup: Setup,
    k: Constants,
    *,
    batch: ArrayLike,
    context_tok: ArrayLike,
    prefill_tok: ArrayLike = 0.0,
    drafts_tok: ArrayLike = 0.0,
) -> Floats:
    """Time of a step in which ``batch`` sequences of a replica decode one token each and
    every data-parallel rank prefills ``prefill_tok`` tokens of a new prompt; ``context_tok`` is the
    mean context of those that decode. With speculative decoding ``drafts_tok`` tokens more of each
    sequence are verified, beside a cache that is read once.

    The batch is spread over data-parallel ranks and over the micro-batches of a pipeline.
    """
    working = device_s(
        arch, gpu, setup, k,
        batch=batch, context_tok=context_tok, prefill_tok=prefill_tok, drafts_tok=drafts_tok,
    )  # fmt: skip
    each = np.asarray(batch, dtype=np.float64) / (setup.dp * setup.pp)
    return np.asarray(working + fixed_s(arch, setup, k) + each * k.sequence_s)


def device_s(
    arch: Arch,
    gpu: Gpu,
    setup: Setup,
    k: Constants,
    *,
    batch: ArrayLike,
    context_tok: ArrayLike,
    prefill_tok: ArrayLike = 0.0,
    drafts_tok: ArrayLike = 0.0,
) -> Floats:
    """Of a step (:func:`step_s`), the time in which the accelerator moves bytes, multiplies or exchanges;
    in the rest of it, it waits for kernels to start and for the host."""
    batch = np.asarray(batch, dtype=np.float64) / (setup.dp * setup.pp)
    prompt = np.asarray(prefill_tok, dtype=np.float64)
    decoding = batch * (1.0 + np.asarray(drafts_tok, dtype=np.float64))
    tokens = decoding + prompt
    return (
        linear_s(arch, gpu, setup, k, tokens, decoding + np.minimum(prompt, 1.0))
        + attention_s(arch, gpu, setup, k, batch, context_tok)
        + prefill_attention_s(arch, setup, k, prompt, 0.0)
        + communication_s(arch, gpu, setup, k, tokens)
    )


def decode_step_s(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, batch: ArrayLike, context_tok: ArrayLike
) -> Floats:
    """Time of a step in which ``batch`` sequences decode one token each."""
    return step_s(arch, gpu, setup, k, batch=batch, context_tok=context_tok)


def prefill_s(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, tokens: ArrayLike) -> Floats:
    """Time of a step that prefills one prompt of ``tokens`` and decodes nothing."""
    return step_s(arch, gpu, setup, k, batch=0.0, context_tok=0.0, prefill_tok=tokens)
