"""A roofline for machines and models that are known by a few numbers only: a batch, counts of parameters.

Tables of measured energy state a batch, a mean answer and how many parameters a model has, and often no
shapes, prompt lengths or engine settings. :func:`coarse_step` answers for such rows: one step of a batch,
with the prompts that interrupt it spread over the steps. Its constants are facts ``coarse/roofline``, by
accelerator, by stack (engine generation) and by task where the table says no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.catalog import CatalogAt
from isocost.perf.arch import Arch, Floats

SUBJECT = "coarse/roofline"

BY: Mapping[str, str] = {
    "memory_eff": "gpu", "flop_eff": "gpu", "expert_memory_eff": "gpu", "expert_flop_eff": "gpu",
    "narrow_flop_eff": "gpu", "narrow_expert_flop_eff": "gpu",
    "layer_s": "stack", "moe_layer_s": "stack", "step_s": "stack", "sequence_s": "stack",
    "overlap_excess": "stack", "input_tok": "task", "media_s": "task", "media_split_power": "",
    "crowd_s": "alone", "narrow_layer_s": "", "narrow_moe_layer_s": "",
    "collective_s": "", "cache_eff": "", "spread_ratio": "", "prefill_attention_eff": "",
    "rank_sequence_frac": "", "lockstep_power": "",
}  # fmt: skip
"""Every constant and the condition that it may be stated for; what has no statement takes the general one.

``alone`` is the accelerator and the task of a replica of one accelerator, and that its weights are stored
narrow: its neighbours run others. See :func:`alone_of` for what stands in where that is not stated."""

WIDTH_PER_LAYER, HEAD_DIM, CACHE_HEADS, LAYER_SQUARES = (
    "width_per_layer", "head_dim", "cache_heads", "layer_squares",
)  # fmt: skip


class Shape(NamedTuple):
    """``n`` models by counts, ``(n,)`` each: what a step reads and multiplies, summed over layers."""

    layers: Floats
    hidden_size: Floats
    params_total: Floats
    params_active: Floats
    expert_params: Floats
    experts: Floats
    experts_per_token: Floats
    moe_layers: Floats
    cache_elements: Floats
    window_elements: Floats
    window_tok: Floats


class Machine(NamedTuple):
    """``n`` replicas: accelerators, ranks of copied attention, whether experts are spread, one
    accelerator's bandwidth, its peak in the format of the weights and in bf16, bytes a weight, whether
    what enters a product is narrowed first (fp8), and whether weights are stored in fewer than 16 bits."""

    gpus: Floats
    dp: Floats
    is_spread: NDArray[np.bool_]
    bytes_per_s: Floats
    flop_per_s: Floats
    wide_flop_per_s: Floats
    weight_bytes: Floats
    narrows: NDArray[np.bool_]
    is_narrow: NDArray[np.bool_]


class Step(NamedTuple):
    """A mean step, ``(n,)``: its time with prompts spread over it, the shares of one accelerator's bandwidth
    and peak that it uses, and the shares of its time that the accelerator works and that images take."""

    step_s: Floats
    memory_used_frac: Floats
    compute_used_frac: Floats
    busy_frac: Floats
    media_frac: Floats


def keys_of(catalog_at: CatalogAt) -> list[tuple[str, str]]:
    """Every stated constant as (attribute, condition), in a fixed order."""
    found = [
        (fact.attribute, fact.when) for name in BY for fact in catalog_at.each(SUBJECT, name)
    ]  # fmt: skip
    return sorted(found)


def alone_of(gpu: str, task: str, stack: str, gpus: float, is_narrow: bool) -> tuple[str, ...]:
    """What ``crowd_s`` of a replica may be stated for, the nearest first; the general one comes after.

    A replica of several accelerators has none. A stack of which none was told apart has it in the times of
    its layers and steps. Weights stored narrow were held up less than wide ones beside them: other narrow
    ones say more of them than wide ones of their own task do.

    >>> alone_of("b200", "gpqa", "v3", 1, True)
    ('v3', 'b200/gpqa/narrow', 'narrow', 'b200/gpqa')
    >>> alone_of("b200", "gpqa", "v3", 1, False), alone_of("b200", "gpqa", "v3", 2, False)
    (('v3', 'b200/gpqa'), ('no',))
    """
    if gpus > 1:
        return ("no",)
    own = f"{gpu}/{task}"
    return (stack, f"{own}/narrow", "narrow", own) if is_narrow else (stack, own)


def pick(keys: Sequence[tuple[str, str]], name: str, wanted: Sequence[Sequence[str]]) -> NDArray[np.intp]:
    """Where in ``keys`` the constant ``name`` of each row stands, ``(n,)``; ``wanted`` are the conditions
    that it may be stated for, of which the first that is counts, and else the general one.

    >>> keys = [("crowd_s", ""), ("crowd_s", "alone=narrow")]
    >>> pick(keys, "crowd_s", [("b200/gpqa/narrow", "narrow"), ("b200/gpqa",)]).tolist()
    [1, 0]
    """
    at = {key: i for i, key in enumerate(keys)}
    by = BY[name]
    return np.array(
        [
            next((at[name, f"{by}={one}"] for one in each if (name, f"{by}={one}") in at), at[name, ""])
            for each in wanted
        ],
        dtype=np.intp,
    )


def shape_of_counts(catalog_at: CatalogAt, params_total: float, params_active: float) -> tuple[float, ...]:
    """A plausible decoder of so many parameters, as the fields of :class:`Shape`.

    Layers follow from ``params = layer_squares * layers * hidden_size**2`` with a fixed ratio of width to
    depth; a mixture is laid out between its total and its active size, and its experts hold the difference.
    """
    fact = catalog_at.number
    width, squares = fact(SUBJECT, WIDTH_PER_LAYER), fact(SUBJECT, LAYER_SQUARES)
    middle = float(np.sqrt(params_total * params_active))
    layers = (middle / (squares * width * width)) ** (1 / 3)
    is_mixture = params_total > params_active * fact(SUBJECT, "mixture_ratio")
    experts = fact(SUBJECT, "experts") if is_mixture else 0.0
    visited = fact(SUBJECT, "experts_per_token") if is_mixture else 0.0
    # Of e experts k are visited: what is not active is (1 - k/e) of them.
    inside = (params_total - params_active) / (1.0 - visited / experts) if is_mixture else 0.0
    cache = 2.0 * fact(SUBJECT, CACHE_HEADS) * fact(SUBJECT, HEAD_DIM) * layers
    return (
        layers, width * layers, params_total, params_active, inside, experts, visited,
        layers if is_mixture else 0.0, cache, 0.0, 0.0,
    )  # fmt: skip


def shape_of_arch(arch: Arch) -> Shape:
    """The counts of models whose shapes are known."""
    return Shape(
        arch.layers, arch.hidden_size, arch.params_total, arch.params_active, arch.expert_params,
        arch.experts, arch.experts_per_token, arch.moe_layers, arch.cache_elements + arch.far_elements,
        arch.window_elements, arch.window_tok,
    )  # fmt: skip


def coarse_step(shape: Shape, machine: Machine, batch: Floats, osl: Floats, k: Mapping[str, Floats]) -> Step:
    """One step of ``batch`` sequences with answers of ``osl`` tokens; ``k`` are the constants by row.

    Weights, cache, multiplications and exchanges are the accelerator's time; layers, steps and sequences
    cost the host's, as do neighbours of a replica of one accelerator. The two overlap to the degree that
    ``overlap_excess`` says: 0 adds them, a large value takes the greater. Each step also carries
    ``batch / osl`` new prompts; a replica of more accelerators has more of the host for their images.
    """
    n = machine.gpus
    read = machine.bytes_per_s * k["memory_eff"]
    is_mixture = shape.experts > 0
    is_narrow = machine.is_narrow
    visited = np.minimum(shape.experts_per_token / np.maximum(shape.experts, 1.0), 1 - 1e-9)
    touched = np.where(is_mixture, -np.expm1(batch * np.log1p(-visited)), 0.0)
    expert_active = shape.expert_params * visited * is_mixture
    dense_active = np.maximum(shape.params_active - expert_active, 0.02 * shape.params_active)
    dense_bytes = (shape.params_total - shape.expert_params) * machine.weight_bytes / n
    expert_bytes = shape.expert_params * machine.weight_bytes / n * touched
    spread = np.where(is_mixture & machine.is_spread, k["spread_ratio"], 1.0)
    rate = machine.flop_per_s * k["flop_eff"]
    dense_rate = rate * np.where(is_narrow, k["narrow_flop_eff"], 1.0)
    expert_rate = rate * np.where(is_narrow, k["narrow_expert_flop_eff"], k["expert_flop_eff"])
    context = k["input_tok"] + 0.5 * osl
    near = np.minimum(context, np.maximum(shape.window_tok, 1.0))
    cached = (shape.cache_elements * context + shape.window_elements * near) * k["wide_bytes"] * batch / n
    dense_s = _either(dense_bytes / read, 2.0 * dense_active * batch / n / dense_rate, 3.0)
    expert_s = spread * _either(
        expert_bytes / (read * k["expert_memory_eff"]), 2.0 * expert_active * batch / n / expert_rate, 3.0
    )
    reduced = (
        2.0
        * shape.layers
        * (k["collective_s"] + 2.0 * batch * shape.hidden_size * k["wide_bytes"] / k["link_bytes_per_s"])
    )
    device_s = (
        dense_s + expert_s + cached / (machine.bytes_per_s * k["cache_eff"]) + np.where(n > 1, reduced, 0.0)
    )
    # What enters a product is narrowed by kernels too small to overlap: they run, but nothing beside them.
    narrowed_s = machine.narrows * (
        shape.layers * k["narrow_layer_s"] + shape.moe_layers * k["narrow_moe_layer_s"]
    )
    host_s = (
        shape.layers * k["layer_s"] + shape.moe_layers * k["moe_layer_s"] + k["step_s"]
        + batch / machine.dp * k["sequence_s"] * (1.0 + k["rank_sequence_frac"] * (n - 1.0))
        + narrowed_s + k["crowd_s"]
    )  # fmt: skip
    prompt_s = 2.0 * k["input_tok"] / n * (dense_active / dense_rate + spread * expert_active / expert_rate)
    pairs = 2.0 * k["input_tok"] ** 2 * shape.hidden_size * shape.layers
    prompt_s = prompt_s + pairs / n / (machine.wide_flop_per_s * k["prefill_attention_eff"])
    # Ranks of copied attention step together: while one fills a prompt, the others wait.
    prompts_s = batch / osl * prompt_s * machine.dp ** k["lockstep_power"]
    media_s = batch / osl * k["media_s"] / n ** k["media_split_power"]
    step_s = _either(device_s, host_s, 1.0 + k["overlap_excess"]) + prompts_s + media_s
    flop = 2.0 * shape.params_active * batch * (1.0 + k["input_tok"] / osl) / n
    return Step(
        step_s,
        np.minimum((dense_bytes + expert_bytes + cached) / machine.bytes_per_s / step_s, 1.0),
        np.minimum(flop / machine.flop_per_s / step_s, 1.0),
        np.minimum((device_s + narrowed_s + prompts_s) / step_s, 1.0),
        media_s / step_s,
    )


def _either(one_s: Floats, other_s: Floats, power: Floats | float) -> Floats:
    """A smooth maximum: power 1 adds, a large power takes the greater."""
    top = np.maximum(one_s, other_s)
    rest = np.minimum(one_s, other_s) / np.maximum(top, 1e-300)
    return np.asarray(top * (1.0 + rest**power) ** (1.0 / power))
