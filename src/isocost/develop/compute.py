"""Operations, hours, memory, energy and transfers of training: one pure function a quantity."""

from __future__ import annotations

import math

from isocost.units import SECONDS_PER_H

W_PER_KW = 1000.0
G_PER_T = 1e6


def dense_flop(flop_per_param_tok: float, params_active: float, training_tok: float) -> float:
    """Operations of the weights in training: the ``6 N D`` of the literature, N active parameters.

    Two for the forward and four for the backward pass of each multiply-add; an adapter saves the two of
    the frozen weights' gradients.

    >>> dense_flop(6.0, 8e9, 1e11)
    4.8e+21
    >>> dense_flop(6.0, 8e9, 0.0)
    0.0
    """
    return flop_per_param_tok * params_active * training_tok


def attention_flop(
    flop_per_param_tok: float, layers: float, hidden_size: float, context_tok: float, training_tok: float
) -> float:
    """Operations of causal attention in training: scores and mixes over half of the context.

    Two multiply-adds a layer for each pair of positions and channel (scores, values), half of which the
    causal mask leaves.

    >>> attention_flop(6.0, 32, 4096, 0, 1e11)
    0.0
    >>> attention_flop(6.0, 32, 4096, 8192, 1e11) / dense_flop(6.0, 8e9, 1e11) < 0.15
    True
    """
    return flop_per_param_tok * layers * hidden_size * context_tok * training_tok


def training_flop(
    flop_per_param_tok: float,
    params_active: float,
    training_tok: float,
    layers: float,
    hidden_size: float,
    context_tok: float,
) -> float:
    """Operations of training: the weights, and attention over the context.

    >>> training_flop(6.0, 8e9, 1e11, 32, 4096, 0.0) == dense_flop(6.0, 8e9, 1e11)
    True
    """
    dense = dense_flop(flop_per_param_tok, params_active, training_tok)
    return dense + attention_flop(flop_per_param_tok, layers, hidden_size, context_tok, training_tok)


def rented_usd(gpu_h: float, usd_per_gpu_h: float) -> float:
    """A run at a rent.

    >>> rented_usd(2_788_000.0, 2.0)
    5576000.0
    """
    return gpu_h * usd_per_gpu_h


def depth_of(params_active: float, aspect_ratio: float) -> float:
    """Layers of a usual dense transformer, whose width is ``aspect_ratio`` times its depth.

    A layer has twelve times its width squared of parameters.

    >>> round(depth_of(12 * 4096**2 * 32, 128.0), 9)
    32.0
    """
    return float((params_active / (12.0 * aspect_ratio**2)) ** (1.0 / 3.0))


def gpu_hours(flop: float, peak_flop_per_s: float, mfu_frac: float) -> float:
    """Accelerator-hours of an amount of work.

    >>> gpu_hours(3.6e18, 1e15, 1.0)
    1.0
    """
    return flop / (peak_flop_per_s * mfu_frac) / SECONDS_PER_H


def mfu(flop: float, peak_flop_per_s: float, gpu_h: float) -> float:
    """Share of peak throughput that disclosed hours imply; the inverse of :func:`gpu_hours`.

    >>> mfu(3.6e18, 1e15, gpu_hours(3.6e18, 1e15, 0.4))
    0.4
    """
    return flop / (peak_flop_per_s * gpu_h * SECONDS_PER_H)


def site_kwh(gpu_h: float, tdp_w: float, server_power_ratio: float, power_frac: float, pue: float) -> float:
    """Energy of a run at the meter of the site.

    >>> site_kwh(1000.0, 700.0, 1.0, 1.0, 1.0)
    700.0
    """
    return gpu_h * tdp_w / W_PER_KW * server_power_ratio * power_frac * pue


def carbon_t(kwh: float, gco2e_per_kwh: float) -> float:
    """Tonnes of CO2 equivalent of an amount of energy, where it was drawn.

    >>> carbon_t(1_000_000.0, 400.0)
    400.0
    """
    return kwh * gco2e_per_kwh / G_PER_T


def full_bytes(params_total: float, optimizer_bytes_per_param: float) -> float:
    """Memory of full training beside activations: weights, gradients, optimiser.

    >>> full_bytes(8e9, 16.0) / 1e9
    128.0
    """
    return params_total * optimizer_bytes_per_param


def adapter_bytes(
    params_total: float, adapter_frac: float, frozen_bytes_per_param: float, optimizer_bytes_per_param: float
) -> float:
    """Memory of LoRA beside activations: frozen weights, and the adapter trained in full.

    >>> adapter_bytes(8e9, 0.0, 2.0, 16.0) / 1e9
    16.0
    >>> adapter_bytes(8e9, 1.0, 0.0, 16.0) == full_bytes(8e9, 16.0)
    True
    """
    return params_total * (frozen_bytes_per_param + adapter_frac * optimizer_bytes_per_param)


def gpus_for(needed_bytes: float, memory_bytes: float, memory_usable_frac: float) -> int:
    """Accelerators that hold so many bytes; a power of two, as they are linked.

    >>> gpus_for(128e9, 80e9, 0.9), gpus_for(16e9, 80e9, 0.9)
    (2, 1)
    """
    least = needed_bytes / (memory_bytes * memory_usable_frac)
    return 2 ** max(0, math.ceil(math.log2(least))) if least > 0 else 1


def exchanged_bytes(rounds: float, sites: float, exchanged_params: float, bytes_per_param: float) -> float:
    """Bytes that federated averaging moves: every site receives and sends the weights in each round.

    >>> exchanged_bytes(1, 1, 1e9, 2.0)
    4000000000.0
    """
    return 2.0 * rounds * sites * exchanged_params * bytes_per_param


def flop_after(flop: float, months: float, halving_months: float) -> float:
    """Compute for the same performance after some months of better algorithms.

    >>> flop_after(1e24, 16.0, 8.0)
    2.5e+23
    >>> flop_after(1e24, 0.0, 8.0)
    1e+24
    """
    return float(flop * 2.0 ** (-months / halving_months))
