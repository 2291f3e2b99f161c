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


def either_s(one_s: Floats, other_s: Floats, power: float) -> Floats:
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
    ``tp * dp``; experts are read if any token of the replica visits them.
    """
    tokens = np.asarray(tokens, dtype=np.float64)
    bandwidth = gpu.memory_bytes_per_s * k.memory_eff
    dense = (arch.attention_params + arch.dense_params) / setup.tp
    head = arch.head_params / setup.tp
    spread = setup.tp * setup.dp
    everyone = tokens * setup.dp
    experts = arch.expert_params / spread
    touched = experts * experts_touched_frac(arch, everyone)
    visits = experts * everyone * arch.experts_per_token / np.maximum(arch.experts, 1.0)
    dense_rate = setup.dense_flop_per_s * _efficiency(gpu, setup.dense_flop_per_s, k)
    expert_rate = setup.expert_flop_per_s * _efficiency(gpu, setup.expert_flop_per_s, k) * k.expert_eff
    power = k.overlap_power
    return (
        either_s(dense * setup.dense_bytes / bandwidth, 2.0 * tokens * dense / dense_rate, power)
        + either_s(touched * setup.expert_bytes / bandwidth, 2.0 * visits / expert_rate, power)
        + either_s(
            np.where(np.asarray(sampled) > 0, head * setup.wide_bytes / bandwidth, 0.0),
            2.0 * np.asarray(sampled) * head / (setup.wide_flop_per_s * k.bf16_eff),
            power,
        )
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
    bytes_read = (arch.cache_elements * seen + arch.window_elements * near) * setup.cache_bytes / split
    bytes_read = bytes_read + arch.index_elements * context
    bytes_read = bytes_read + 2.0 * arch.state_elements * setup.wide_bytes / setup.tp
    flop = (arch.cache_flop * seen + arch.window_flop * near + arch.index_flop * context) / setup.tp
    return either_s(
        batch * bytes_read / (gpu.memory_bytes_per_s * k.cache_eff),
        batch * flop / (setup.wide_flop_per_s * k.attention_eff),
        k.overlap_power,
    )


def prefill_attention_s(
    arch: Arch, setup: Setup, k: Constants, tokens: ArrayLike, context_tok: ArrayLike
) -> Floats:
    """Time of the attention of ``tokens`` prompt tokens that follow ``context_tok`` cached ones."""
    tokens = np.asarray(tokens, dtype=np.float64)
    mean = np.asarray(context_tok) + 0.5 * tokens
    pairs = arch.prefill_flop * np.minimum(mean, arch.sparse_tok) + arch.index_flop * mean
    pairs = pairs + arch.window_flop * np.minimum(mean, arch.window_tok)
    return tokens * pairs / setup.tp / (setup.wide_flop_per_s * k.attention_eff)


def communication_s(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, tokens: ArrayLike) -> Floats:
    """Time of the exchanges of one step: two reductions a layer under ``tp``, dispatch and combine of
    experts under ``dp``, one hand-over a stage under ``pp``. 0 on one accelerator.
    """
    link = gpu.link_bytes_per_s * k.link_eff
    volume = np.asarray(tokens) * arch.hidden_size * setup.wide_bytes
    reduce_s = k.collective_s + 2.0 * volume * (setup.tp - 1.0) / setup.tp / link
    fan_out = np.minimum(arch.experts_per_token, setup.dp)
    spread_s = k.collective_s + volume * fan_out * (setup.dp - 1.0) / setup.dp / link
    return np.asarray(
        np.where(setup.tp > 1, 2.0 * arch.layers * reduce_s, 0.0)
        + np.where(setup.dp > 1, 2.0 * arch.moe_layers * spread_s, 0.0)
        + (setup.pp - 1.0) * (k.collective_s + volume / link)
    )


def step_s(
    arch: Arch,
    gpu: Gpu,
    setup: Setup,
    k: Constants,
    *,
    batch: ArrayLike,
    context_tok: ArrayLike,
    prefill_tok: ArrayLike = 0.0,
) -> Floats:
    """Time of a step in which ``batch`` sequences of a replica decode one token each and
    every data-parallel rank prefills ``prefill_tok`` tokens of a new prompt; ``context_tok`` is the
    mean context of those that decode.

    The batch is spread over data-parallel ranks and over the micro-batches of a pipeline.
    """
    batch = np.asarray(batch, dtype=np.float64) / (setup.dp * setup.pp)
    prompt = np.asarray(prefill_tok, dtype=np.float64)
    tokens = batch + prompt
    return (
        linear_s(arch, gpu, setup, k, tokens, batch + np.minimum(prompt, 1.0))
        + attention_s(arch, gpu, setup, k, batch, context_tok)
        + prefill_attention_s(arch, setup, k, prompt, 0.0)
        + communication_s(arch, gpu, setup, k, tokens)
        + k.step_s
        + arch.layers * k.layer_s
        + arch.moe_layers * k.moe_layer_s
        + batch * k.sequence_s
    )


def decode_step_s(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, batch: ArrayLike, context_tok: ArrayLike
) -> Floats:
    """Time of a step in which ``batch`` sequences decode one token each."""
    return step_s(arch, gpu, setup, k, batch=batch, context_tok=context_tok)


def prefill_s(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, tokens: ArrayLike) -> Floats:
    """Time of a step that prefills one prompt of ``tokens`` and decodes nothing."""
    return step_s(arch, gpu, setup, k, batch=0.0, context_tok=0.0, prefill_tok=tokens)


def _efficiency(gpu: Gpu, rate: Floats, k: Constants) -> Floats:
    eff = np.where(rate <= gpu.bf16_flop_per_s, k.bf16_eff, k.fp8_eff)
    return np.asarray(np.where(rate > gpu.fp8_flop_per_s, k.fp4_eff, eff))
