"""The linear form of a step that the replay kernel executes, and what fits beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isocost.perf.arch import Arch, Floats
from isocost.perf.constants import Constants
from isocost.perf.hardware import Gpu
from isocost.perf.memory import cache_capacity_tok, weight_bytes
from isocost.perf.roofline import decode_step_s, eager_s, prefill_s
from isocost.perf.setup import Setup

WIDEST_BATCH = 256.0
NARROWEST_FRAC = 0.25


class StepTerms(NamedTuple):
    """``n`` replicas; every field is float64 of shape ``(n,)``.

    Time of a step of a whole replica::

        base_s + prefill_s_per_tok * prefill_tokens
            + seq_s * running_sequences + kv_s_per_tok * cached_tokens_read

    ``cached_tokens_read`` sums the contexts of the sequences that decode. ``batch_low`` to
    ``batch_high`` is the range of running sequences over which the line was laid.
    ``kv_capacity_tok`` is what the cache of the replica holds, ``weight_bytes`` are those on one
    accelerator, ``first_token_s`` is what a request spends outside the steps. Where attention is
    copied, ``ranks`` prompts prefill side by side: ``prefill_s_per_tok`` is their joint pace, and a
    prompt alone takes ``ranks`` times as long.
    """

    base_s: Floats
    prefill_s_per_tok: Floats
    seq_s: Floats
    kv_s_per_tok: Floats
    kv_capacity_tok: Floats
    weight_bytes: Floats
    gpus: Floats
    first_token_s: Floats
    batch_low: Floats
    batch_high: Floats
    ranks: Floats

    def step_s(self, batch: ArrayLike, context_tok: ArrayLike, prefill_tok: ArrayLike = 0.0) -> Floats:
        """Time of one step by the linear form; arguments broadcast against ``(n,)``."""
        running = np.asarray(batch, dtype=np.float64)
        decode = running * (self.seq_s + self.kv_s_per_tok * np.asarray(context_tok))
        return np.asarray(self.base_s + self.prefill_s_per_tok * np.asarray(prefill_tok) + decode)


def step_terms(
    arch: Arch,
    gpu: Gpu,
    setup: Setup,
    k: Constants,
    isl: ArrayLike,
    osl: ArrayLike,
    batch: ArrayLike | None = None,
) -> StepTerms:
    """The roofline as a line over an operating range, for prompts of ``isl``, answers of ``osl`` tokens.

    Two things bend the roofline: experts that more tokens have not all touched, and the passage
    from memory-bound to compute-bound. Both are replaced by secants: in the batch between a
    quarter of ``batch`` and ``batch`` running sequences at the mean context (then moved by half of
    the sag between); in the cache between the contexts at the start and at the end of an answer;
    in the prompt between nothing and ``isl`` tokens, so that a whole prompt costs what the roofline
    says. Without ``batch``, the range ends at what the cache holds, 256 at most. Inside the range
    the line is within a few per cent; below it, it overstates steps of mixtures
    (:meth:`isocost.perf.candidates.Candidates.goodput` lays it again where it is used).
    """
    isl, osl = np.asarray(isl, dtype=np.float64), np.maximum(np.asarray(osl, dtype=np.float64), 1.0)
    mean = isl + 0.5 * osl
    capacity = cache_capacity_tok(arch, gpu, setup, k, mean)
    widest = (
        np.minimum(capacity / mean, WIDEST_BATCH) if batch is None else np.asarray(batch, dtype=np.float64)
    )
    high = np.maximum(np.broadcast_to(widest, capacity.shape), 2.0)
    low = np.maximum(NARROWEST_FRAC * high, 1.0)
    at_high = decode_step_s(arch, gpu, setup, k, high, mean)
    at_low = decode_step_s(arch, gpu, setup, k, low, mean)
    middle = decode_step_s(arch, gpu, setup, k, 0.5 * (low + high), mean)
    early = decode_step_s(arch, gpu, setup, k, high, isl)
    late = decode_step_s(arch, gpu, setup, k, high, isl + osl)
    kv = np.maximum(late - early, 0.0) / (high * osl)
    slope = np.maximum(at_high - at_low, 0.0) / (high - low)
    kv = np.minimum(kv, slope / mean)
    # Half of the sag of the curve between its ends: the line then errs as much at the ends as inside.
    sag = 0.5 * (middle - 0.5 * (at_low + at_high))
    base = at_high - slope * high + sag
    # A compute-bound line can meet zero batch below zero: it then starts at nothing.
    slope = np.where(base < 0, (at_high + sag) / high, slope)
    base = np.maximum(base, 0.0)
    prompt = prefill_s(arch, gpu, setup, k, isl)
    per_tok = np.maximum(prompt - base, 0.02 * prompt) / np.maximum(isl, 1.0) / setup.dp
    return StepTerms(
        base,
        per_tok,
        slope - kv * mean,
        kv,
        capacity,
        weight_bytes(arch, setup),
        setup.gpus,
        base * 0.0 + k.first_token_s + eager_s(arch, k),
        low,
        high,
        setup.dp,
    )
