"""Prefill and decode on replicas of their own: a closed loop through two pools.

A request waits for a rank that prefills, is prefilled, has its cache sent, and decodes on one of the replicas
of the other pool until it ends. Little's law over the whole loop says how many are where.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isocost.perf.arch import Arch, Floats
from isocost.perf.constants import Constants
from isocost.perf.hardware import Gpu
from isocost.perf.memory import cache_bytes_per_tok
from isocost.perf.roofline import eager_s, prefill_attention_s, prefill_s
from isocost.perf.setup import Setup
from isocost.perf.steady import PLAIN, ClosedLoop, Options, drafted_step_s, room_for

HALVINGS = 40
FULLEST_FRAC = 0.9999


class Side(NamedTuple):
    """One pool: ``replicas`` of a layout with its accelerators and constants, ``(n,)`` each."""

    gpu: Gpu
    setup: Setup
    k: Constants
    replicas: Floats


def two_pools(
    arch: Arch, prefill: Side, decode: Side, concurrency: ArrayLike, isl: ArrayLike, osl: ArrayLike,
    options: Options = PLAIN,
) -> ClosedLoop:  # fmt: skip
    """Latency with ``concurrency`` requests in flight over both pools; throughput is that of both together.

    Prompts queue for the ranks of the first pool as at a server of fixed times, and as many at once as a loop
    starts with. Where decoding has no room, requests wait for it before their first token.
    """
    isl, osl = np.asarray(isl, dtype=np.float64), np.maximum(np.asarray(osl, dtype=np.float64), 1.0)
    wanted = np.maximum(np.asarray(concurrency, dtype=np.float64), 1.0)
    mean = isl + 0.5 * osl
    given = 1.0 + np.asarray(options.accepted_tok, dtype=np.float64)
    filled = isl * (1.0 - np.asarray(options.prefix_hit_frac, dtype=np.float64))
    one, two = prefill, decode
    alone = prefill_s(arch, one.gpu, one.setup, one.k, filled) * one.k.prompt_alone_share
    ranks = one.replicas * one.setup.dp * one.setup.pp
    # Prompts that wait together are filled together, as many as a step takes.
    together = np.maximum(one.k.prompt_batch_tok / np.maximum(filled, 1.0), 1.0)
    pairs = prefill_attention_s(arch, one.setup, one.k, together * filled, 0.0)
    joint = prefill_s(arch, one.gpu, one.setup, one.k, together * filled) - pairs
    each = joint / together + prefill_attention_s(arch, one.setup, one.k, filled, 0.0)
    each = np.minimum(each * one.k.prompt_alone_share, alone)
    most = FULLEST_FRAC * ranks / each
    sent = isl * cache_bytes_per_tok(arch, one.setup, isl) / one.gpu.link_bytes_per_s
    outside = one.k.first_token_s + eager_s(arch, one.k) + sent
    burst = one.k.queue_share * np.maximum(wanted / ranks - 1.0, 0.0) * each
    room = np.maximum(room_for(arch, two.gpu, two.setup, two.k, isl, osl), 1.0)
    seats = np.minimum(room, np.asarray(options.most_sequences, dtype=np.float64)) * two.replicas
    after = np.maximum(osl - 1.0, 1.0)

    def at(running: Floats) -> tuple[Floats, Floats, Floats]:
        """Step, rate, and requests inside with ``running`` of them decoding."""
        step = drafted_step_s(arch, two.gpu, two.setup, two.k, running / two.replicas, mean, options)
        rate = running / (after * step / given)
        used = np.minimum(rate / most, 1.0)
        queue = each / ranks * 0.5 * used / np.maximum(1.0 - used, 1e-9)
        first = outside + alone + queue + burst + step
        return step, rate, np.where(rate < most, running + rate * first, np.inf)

    low, high = np.full_like(wanted, 1e-9), np.minimum(wanted, seats)
    low, high = np.broadcast_to(low, high.shape).copy(), high.copy()
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        fits = at(middle)[2] <= wanted
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    step, rate, _ = at(high)
    tpot = step / given
    return ClosedLoop(np.maximum(wanted / rate - after * tpot, alone), tpot, step, alone, high, rate * osl)
