"""A folder that one run of an engine leaves: its requests' times, its limits, and what physics says of it.

``requests.jsonl``: input_toks, output_toks, queued_ts, first_token_ts, last_token_ts (seconds of one
clock) and, where it is there, arrival_time (seconds of another), one request a line. ``meta.json``:
``model`` and ``engine_kwargs``; where they are there, ``kv_cache`` and ``resolved_config`` as the engine
settled them. ``config.json``: where it is there, the accelerator's memory and bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog import CatalogAt
from isocost.errors import BadInput, IsocostError
from isocost.perf.arch import Arch, arch_of, model_id_of
from isocost.units import PS_PER_S

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
GIB = 2.0**30
BUDGET_TOK, SEATS = 2048, 128
BYTES_OF: Mapping[str, float] = {
    "bfloat16": 2, "float16": 2, "half": 2, "auto": 2, "float32": 4, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1,
    "int8": 1, "fp4": 0.5, "nvfp4": 0.5, "mxfp4": 0.5,
}  # fmt: skip
TIMES = ("queued_ts", "first_token_ts", "last_token_ts")
WITHOUT, BACKWARDS = "without times", "times not in order"


class Physics(NamedTuple):
    """What a rank's step and cache should be from shapes and data sheets; NaN where not known.

    ``weights_bytes`` that any step reads, ``expert_bytes`` of all routed experts on a rank,
    ``kv_bytes_per_tok``, ``bytes_per_s``; ``pair_frac``: floating-point work of a pair of prompt token and
    context over that of a prompt token; ``experts`` and how many a token picks; ``cache_bytes`` left.
    """

    weights_bytes: float
    expert_bytes: float
    kv_bytes_per_tok: float
    bytes_per_s: float
    pair_frac: float
    experts: int
    experts_per_token: int
    cache_bytes: float


class EngineRun(NamedTuple):
    """n requests in order of arrival, times from the first one on, and the engine's limits.

    ``ttft_s``, ``e2e_s`` from when the engine saw the request. ``sees_late`` where arrivals are known
    apart from that. ``n_blocks``, ``lag`` and ``by_chunk`` are ``None`` where the run does not say.
    ``left_out`` counts requests by rule.
    """

    arrival_ps: I64
    input_tok: I64
    output_tok: I64
    ttft_s: F64
    e2e_s: F64
    sees_late: bool
    budget_tok: int
    max_seqs: int
    block_tok: int
    n_blocks: int | None
    ranks: int
    lag: int | None
    by_chunk: int | None
    physics: Physics
    left_out: Mapping[str, int]


def read_run(folder: Path, catalog_at: CatalogAt) -> EngineRun:
    """A run's requests and what is known of its engine.

    Raises:
        BadInput: a file is absent or malformed, or no request has its times.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(
            "not a folder", where=str(folder), fix="Give the folder that holds requests.jsonl and meta.json"
        )
    try:
        lines = (folder / "requests.jsonl").read_bytes().splitlines()
        rows = [msgspec.json.decode(line, type=_Request) for line in lines if line.strip()]
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=_Meta)
    except OSError as wrong:
        raise BadInput(wrong.strerror or str(wrong), where=wrong.filename or str(folder)) from None
    except msgspec.MsgspecError as wrong:
        raise BadInput(str(wrong), where=str(folder)) from None
    timed = [
        row for row in rows
        if None not in (row.queued_ts, row.first_token_ts, row.last_token_ts) and row.output_toks > 0
    ]  # fmt: skip
    if not timed:
        raise BadInput("no request has its times", where=str(folder / "requests.jsonl"))
    left_out = {WITHOUT: len(rows) - len(timed)}
    whole = [row for row in timed if _in_order(row)]
    left_out[BACKWARDS] = len(timed) - len(whole)
    timed = whole
    if not timed:
        raise BadInput(
            "no request has times in order: seen, first token, last token",
            where=str(folder / "requests.jsonl"), fix=f"Give {', '.join(TIMES)} of one clock",
        )  # fmt: skip
    columns = {name: np.array([getattr(row, name) for row in timed], np.float64) for name in TIMES}
    queued = columns["queued_ts"]
    known = [row.arrival_time for row in timed if row.arrival_time is not None]
    sees_late = len(known) == len(timed)
    # Two clocks: the request that was seen soonest after it came was seen at once.
    arrival = np.array(known, np.float64) if sees_late else queued
    arrival = arrival - np.max(arrival - queued)
    order = np.argsort(arrival, kind="stable")
    kwargs, settled = meta.engine_kwargs, meta.resolved_config
    scheduler = _mapping(settled.get("scheduler_config"))
    cache = {**_mapping(settled.get("cache_config")), **meta.kv_cache}
    usual = catalog_at.number("memory/vllm", "block_tok")
    block_tok = int(_number(cache.get("block_size")) or _number(kwargs.get("block_size")) or usual)
    blocks = _number(cache.get("num_gpu_blocks")) or _number(kwargs.get("num_gpu_blocks_override"))
    lag, whole_prompt = (
        scheduler.get(name, kwargs.get(name)) for name in ("async_scheduling", "scheduler_reserve_full_isl")
    )

    def limit(name: str, default: int) -> int:
        return int(_number(kwargs.get(name)) or _number(scheduler.get(name)) or default)

    config = _config(folder / "config.json")
    return EngineRun(
        np.rint((arrival - arrival.min())[order] * PS_PER_S).astype(np.int64),
        np.array([row.input_toks for row in timed], np.int64)[order],
        np.array([row.output_toks for row in timed], np.int64)[order],
        (columns["first_token_ts"] - queued)[order],
        (columns["last_token_ts"] - queued)[order],
        sees_late,
        limit("max_num_batched_tokens", BUDGET_TOK),
        limit("max_num_seqs", SEATS),
        block_tok,
        int(blocks) - 1 if blocks else None,  # one block is the engine's own
        int(_number(kwargs.get("data_parallel_size")) or 1),
        int(lag) if isinstance(lag, bool) else None,
        int(not whole_prompt) if isinstance(whole_prompt, bool) else None,
        _physics(catalog_at, meta, config),
        {rule: count for rule, count in left_out.items() if count},
    )


def _in_order(row: _Request) -> bool:
    """Whether a request was seen, then gave its first token, then its last, and had sizes."""
    assert row.queued_ts is not None
    assert row.first_token_ts is not None
    assert row.last_token_ts is not None
    return row.input_toks >= 0 and row.queued_ts < row.first_token_ts <= row.last_token_ts < math.inf


class _Request(msgspec.Struct):
    input_toks: int
    output_toks: int
    queued_ts: float | None = None
    first_token_ts: float | None = None
    last_token_ts: float | None = None
    arrival_time: float | None = None


class _Meta(msgspec.Struct):
    engine_kwargs: dict[str, Any]
    model: str = ""
    kv_cache: dict[str, Any] = {}
    resolved_config: dict[str, Any] = {}
    hardware: dict[str, Any] = {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    """A positive number, or 0."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if good else 0.0  # type: ignore[arg-type]


def _config(path: Path) -> Mapping[str, Any]:
    """The first accelerator that a cluster's description names, or nothing."""
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}
    for node in _mapping(found).get("nodes") or ():
        for instance in _mapping(node).get("instances") or ():
            return _mapping(instance)
    return {}


def _physics(catalog_at: CatalogAt, meta: _Meta, config: Mapping[str, Any]) -> Physics:
    kwargs = meta.engine_kwargs
    memory = _mapping(config.get("npu_mem"))
    rate = _number(memory.get("mem_bw")) * 1e9 or np.nan
    try:
        name = meta.model or str(config.get("model_name", ""))
        arch: Arch | None = arch_of(catalog_at, [model_id_of(catalog_at, name)])
    except IsocostError:
        arch = None
    if arch is None:
        return Physics(np.nan, 0.0, np.nan, rate, 0.0, 0, 0, np.nan)
    tp = int(_number(kwargs.get("tensor_parallel_size")) or 1)
    dp = int(_number(kwargs.get("data_parallel_size")) or 1)
    over = tp * dp if kwargs.get("enable_expert_parallel") or dp > 1 else tp
    size = BYTES_OF.get(str(kwargs.get("quantization") or kwargs.get("dtype") or "auto"), 2.0)
    cache_size = BYTES_OF.get(str(kwargs.get("kv_cache_dtype") or "auto"), 2.0)
    shared = float((arch.attention_params + arch.dense_params + arch.head_params)[0]) * size / tp
    experts = float(arch.expert_params[0]) * size / over
    heads = max(1.0, tp / float(arch.cache_heads[0]))
    kv = float((arch.cache_elements + arch.far_elements + arch.window_elements)[0]) * cache_size * heads / tp
    total = _number(meta.hardware.get("device_total_memory_bytes")) or _number(memory.get("mem_size")) * GIB
    share = _number(memory.get("mem_util")) or _number(kwargs.get("gpu_memory_utilization")) or 0.9
    room = _number(kwargs.get("kv_cache_memory_bytes"))
    if not room and total:
        room = total * share - shared - experts - float(arch.embedding_params[0]) * size / tp
    pair = float((arch.prefill_flop / (2.0 * arch.params_active))[0])
    picks = int(arch.experts_per_token[0])
    return Physics(shared, experts, kv, rate, pair, int(arch.experts[0]), picks, room if room > 0 else np.nan)
