"""Energy of a set-up under a load, from the same bytes and operations as its time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.perf.arch import Arch
from isocost.perf.energy import Power, energy_j_per_tok, power_of, replica_power_w
from isocost.perf.hardware import Gpu
from isocost.perf.roofline import experts_touched_frac
from isocost.perf.setup import Setup


class Energy(NamedTuple):
    """Power of all accelerators of a set-up, W, and energy of an output token at the accelerators, J."""

    power_w: float
    j_per_tok: float


def energy_of(
    catalog_at: CatalogAt,
    gpu_id: str,
    parts: tuple[Arch, Gpu, Setup],
    rate_per_s: float,
    lengths_tok: tuple[int, int],
    steps_per_s: float,
    running: float,
) -> Energy | None:
    """Energy of one replica that takes ``rate_per_s`` requests; ``None`` where its power limit is unknown.

    ``parts`` are of one set-up, (1,) each; ``lengths_tok`` the computed prompt and the answer,
    ``steps_per_s`` the replica's steps and ``running`` the sequences in one.
    """
    limit = catalog_at.find(f"gpu/{gpu_id}", "tdp_w")
    if limit is None:
        return None
    arch, gpu, setup = parts
    prompt, answer = lengths_tok
    gpus = float(setup.gpus[0])
    touched = float(experts_touched_frac(arch, max(running, 1.0))[0]) if arch.experts[0] > 0 else 0.0
    dense = (arch.attention_params + arch.dense_params)[0] * setup.dense_bytes[0] * setup.dp[0]
    weights = dense + arch.head_params[0] * setup.wide_bytes[0] * setup.dp[0]
    weights += arch.expert_params[0] * touched * setup.expert_bytes[0]
    context = prompt + 0.5 * answer
    seen = min(context, float(arch.sparse_tok[0]))
    near = min(context, float(arch.window_tok[0]))
    cached = (arch.cache_elements[0] * seen + arch.window_elements[0] * near) * setup.cache_bytes[0]
    cached += arch.index_elements[0] * context + 2.0 * arch.state_elements[0] * setup.wide_bytes[0]
    read = steps_per_s * (weights + running * cached) / gpus
    flop = 2.0 * arch.params_active[0] * rate_per_s * (prompt + answer) / gpus
    power: Power = power_of(catalog_at, gpu_id)
    watts = float(
        replica_power_w(
            power, float(limit.value), gpus,
            read / float(gpu.memory_bytes_per_s[0]), flop / float(setup.dense_flop_per_s[0]),
            # Of independent sequences, how often one runs at least.
            -np.expm1(-running),
        )
    )  # fmt: skip
    return Energy(watts, float(energy_j_per_tok(watts, np.float64(rate_per_s * answer))))
