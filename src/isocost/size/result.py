"""What a sizing says, as plain data: the terminal and ``--json`` read the same object."""

from __future__ import annotations

import msgspec

from isocost.size.nearest import Nearest
from isocost.size.queue import Need


class Band(msgspec.Struct, frozen=True):
    """A figure with the central 80 % of what would be measured."""

    value: float
    low: float
    high: float


class MemoryGb(msgspec.Struct, frozen=True):
    """Of one accelerator, GB (10**9 bytes): what is taken by what, and what the engine leaves alone."""

    weights: float
    cache: float
    activations: float
    overhead: float
    unused: float


class CacheSize(msgspec.Struct, frozen=True):
    """What vLLM logs: ``GPU KV cache size`` and ``Maximum concurrency for longest_tok tokens per request``;
    ``tokens_low`` and ``tokens_high`` bound it where activations and overheads are other than assumed."""

    tokens: int
    tokens_low: int
    tokens_high: int
    max_concurrency: float
    longest_tok: int
    block_tok: int


class Sized(msgspec.Struct, frozen=True):
    """Enough replicas of one set-up.

    ``rate_each_per_s`` is what one replica carries within the limits in the mean, ``goodput_per_s`` the
    requests a second of the whole load that keep both limits. ``prefill_replicas`` is above 0 where
    prefill runs apart: ``replicas`` then counts those that decode. Energy is of an output token at the
    accelerators, and at the building's meter. ``quote`` is the fact of the rent; where nobody is known to
    rent the accelerator and it is not held, the dollars are ``None``.
    """

    name: str
    gpu: str
    gpus: int
    engine: str
    tp: int
    pp: int
    dp: int
    weights: str
    cache_format: str
    native: bool
    quality: str
    replicas: int
    prefill_replicas: int
    rate_each_per_s: float
    goodput_per_s: float
    attained_frac: float
    ttft_p50_s: float
    ttft_p95_s: Band
    ttft_p99_s: float
    tpot_p50_s: float
    tpot_p95_s: Band
    memory: MemoryGb
    cache: CacheSize
    usd_per_gpu_h: float | None
    usd_per_month: Band | None
    usd_per_mtok: Band | None
    j_per_tok: Band | None
    wall_j_per_tok: float | None
    nearest: Nearest
    measured: str
    quote: str
    command: str
    bench: str


class Sizing(msgspec.Struct, frozen=True):
    """Set-ups by cost, the limits used, what was left out, and why nothing is left where nothing is."""

    model: str
    need: Need
    ttft_p95_s: float
    tpot_p95_s: float
    tried: int
    replayed: int
    rows: tuple[Sized, ...]
    notes: tuple[str, ...]
    why_none: str
