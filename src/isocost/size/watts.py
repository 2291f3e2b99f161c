"""Energy of a set-up under a load, from the same bytes, operations and times as its speed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.perf.arch import Arch
from isocost.perf.constants import Constants
from isocost.perf.energy import energy_j_per_tok, power_of, replica_power_w
from isocost.perf.hardware import Gpu
from isocost.perf.roofline import device_s, experts_touched_frac, step_s
from isocost.perf.setup import Setup


class Energy(NamedTuple):
    """Power of all accelerators of a set-up, W, and energy of an output token at the accelerators, J."""

    power_w: float
    j_per_tok: float


class Work(NamedTuple):
    """What one replica does: requests a second of ``prompt_tok`` computed and ``answer_tok`` made tokens, in
    ``steps_per_s`` steps that take ``in_steps_frac`` of its time; ``found_tok`` of a prompt were cached, and
    a pass of a sequence makes ``tok_per_pass`` tokens of the ``drafts_tok`` that it checks and one more."""

    rate_per_s: float
    prompt_tok: float
    answer_tok: float
    steps_per_s: float
    in_steps_frac: float
    tok_per_pass: float = 1.0
    found_tok: float = 0.0
    drafts_tok: float = 0.0

    @property
    def context_tok(self) -> float:
        """Tokens that a sequence has behind it halfway through its answer."""
        return self.found_tok + self.prompt_tok + 0.5 * self.answer_tok

    @property
    def running(self) -> float:
        """Sequences that decode in a step, in the mean."""
        passes = self.rate_per_s * self.answer_tok / self.tok_per_pass
        return passes / self.steps_per_s if self.steps_per_s > 0 else 0.0

    @property
    def computed_tok_per_s(self) -> float:
        """Tokens that pass the model in a second: prompts, and of answers also drafts that are not kept."""
        checked = self.answer_tok * (1.0 + self.drafts_tok) / self.tok_per_pass
        return self.rate_per_s * (self.prompt_tok + checked)

    @property
    def step_prompt_tok(self) -> float:
        """Tokens of prompts in a step, in the mean."""
        return self.rate_per_s * self.prompt_tok / self.steps_per_s if self.steps_per_s > 0 else 0.0


def busy_frac(parts: tuple[Arch, Gpu, Setup, Constants], work: Work) -> float:
    """Share of its time in which an accelerator of the set-up works: that of a step in which it moves bytes
    or multiplies, times the replica's share in steps. Nothing of what the host or an empty queue takes.

    ``parts`` are of one set-up, (1,) each.
    """
    arch, gpu, setup, k = parts
    each = work.step_prompt_tok / float(setup.dp[0])
    load = {"batch": work.running, "context_tok": work.context_tok, "drafts_tok": work.drafts_tok}
    working = device_s(arch, gpu, setup, k, prefill_tok=each, **load)
    whole = step_s(arch, gpu, setup, k, prefill_tok=each, **load)
    return float((working / whole)[0]) * min(max(work.in_steps_frac, 0.0), 1.0)


def energy_of(
    catalog_at: CatalogAt, gpu_id: str, parts: tuple[Arch, Gpu, Setup, Constants], work: Work
) -> Energy | None:
    """Energy of one replica at work; ``None`` where the power limit of its accelerator is unknown.

    ``parts`` are of one set-up, (1,) each.
    """
    limit = catalog_at.find(f"gpu/{gpu_id}", "tdp_w")
    if limit is None:
        return None
    arch, gpu, setup, _ = parts
    gpus, running = float(setup.gpus[0]), work.running
    visited = max(running * (1.0 + work.drafts_tok), 1.0)
    touched = float(experts_touched_frac(arch, visited)[0]) if arch.experts[0] > 0 else 0.0
    dense = (arch.attention_params + arch.dense_params)[0] * setup.dense_bytes[0] * setup.dp[0]
    weights = dense + arch.head_params[0] * setup.wide_bytes[0] * setup.dp[0]
    weights += arch.expert_params[0] * touched * setup.expert_bytes[0]
    context = work.context_tok
    seen = min(context, float(arch.sparse_tok[0]))
    near = min(context, float(arch.window_tok[0]))
    cached = arch.cache_elements[0] * seen + arch.far_elements[0] * context + arch.window_elements[0] * near
    cached = cached * setup.cache_bytes[0]
    cached += arch.index_elements[0] * context + 2.0 * arch.state_elements[0] * setup.wide_bytes[0]
    read = work.steps_per_s * (weights + running * cached) / gpus
    flop = 2.0 * arch.params_active[0] * work.computed_tok_per_s / gpus
    held = setup.expert_bytes if arch.experts[0] > 0 else setup.dense_bytes
    power = power_of(catalog_at, gpu_id, is_narrow=bool(held[0] < setup.wide_bytes[0]))
    watts = float(
        replica_power_w(
            power, float(limit.value), gpus,
            read / float(gpu.memory_bytes_per_s[0]), flop / float(setup.dense_flop_per_s[0]),
            busy_frac(parts, work),
        )
    )  # fmt: skip
    return Energy(watts, float(energy_j_per_tok(watts, np.float64(work.rate_per_s * work.answer_tok))))
