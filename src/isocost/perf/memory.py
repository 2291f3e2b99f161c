"""What fits in the memory of a replica: weights, cache, and how many tokens the cache can hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isocost.perf.arch import Arch, Floats
from isocost.perf.constants import Constants
from isocost.perf.hardware import Gpu
from isocost.perf.setup import Setup


def weight_bytes(arch: Arch, setup: Setup) -> Floats:
    """Bytes of weights on one accelerator, ``(n,)``: dense parts sharded by ``tp``, experts by
    ``tp * dp``, layers by ``pp``."""
    dense = (arch.attention_params + arch.dense_params) * setup.dense_bytes
    ends = (arch.head_params + arch.embedding_params) * setup.wide_bytes
    experts = arch.expert_params * setup.expert_bytes
    return np.asarray(((dense + ends) / setup.tp + experts / (setup.tp * setup.dp)) / setup.pp)


def cache_bytes_per_tok(arch: Arch, setup: Setup, context_tok: ArrayLike) -> Floats:
    """Bytes on one accelerator for each token of a sequence of ``context_tok`` tokens, ``(n,)``.

    What a sequence keeps whatever its length (sliding windows, states) is spread over its tokens.
    A cache of fewer heads than ``tp`` is copied.
    """
    context = np.maximum(np.asarray(context_tok, dtype=np.float64), 1.0)
    split = np.minimum(setup.tp, arch.cache_heads)
    window = arch.window_elements * np.minimum(context, arch.window_tok) / context
    kept = arch.cache_elements + arch.far_elements + window
    token = kept * setup.cache_bytes / split + arch.index_elements
    state = arch.state_elements * setup.wide_bytes / setup.tp / context
    return np.asarray((token + state) / setup.pp)


def cache_capacity_tok(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, context_tok: ArrayLike) -> Floats:
    """Tokens that the cache of a whole replica holds, ``(n,)``; 0 or less where the weights do not fit.

    Usable memory is a fraction of the device's; a reserve is kept for activations, graphs and
    communication buffers.
    """
    room = gpu.memory_bytes * k.memory_usable_frac - k.reserve_bytes - weight_bytes(arch, setup)
    return np.asarray(setup.dp * room / cache_bytes_per_tok(arch, setup, context_tok))


def fits(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, context_tok: ArrayLike) -> np.ndarray:
    """Whether the weights and the cache of one request of ``context_tok`` tokens fit, bool ``(n,)``."""
    capacity = cache_capacity_tok(arch, gpu, setup, k, context_tok) / setup.dp
    return np.asarray(capacity >= np.asarray(context_tok))
