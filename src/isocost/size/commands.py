"""What to type: the server of a replica, and the benchmark whose file ``isocost calibrate`` reads."""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.size.config import Adapter
from isocost.size.memory import Engine
from isocost.size.queue import Draft, Need
from isocost.size.setups import Setups

ON_LOADING = "fp8"
"""The format that engines make of wider weights as they load them; others are checkpoints of their own."""
BENCHMARK_S = 120.0
FEWEST, MOST = 120, 2000


def served_name(catalog_at: CatalogAt, model: str) -> str:
    """The Hugging Face name, else the id."""
    named = catalog_at.find(f"model/{model}", "hf_id")
    return str(named.value) if named is not None else model


def checkpoint(catalog_at: CatalogAt, model: str, found: Setups, i: int) -> str:
    """What the server loads: the published weights, else a folder that holds them in the format of set-up
    ``i``, which no engine makes on loading."""
    name = served_name(catalog_at, model)
    weights, engine = found.precisions[found.precision[i]].experts, found.engines[found.engine[i]]
    if found.is_native[i] or (weights == ON_LOADING and engine != "trtllm"):
        return name
    return f"./{name.rstrip('/').rpartition('/')[2]}-{weights}"


class Beside(NamedTuple):
    """What a server is started with beside its layout: drafts, an adapter, a cache that is sent to or taken
    from replicas of the other kind (``apart``), and prompts that share prefixes."""

    draft: Draft | None = None
    adapter: Adapter | None = None
    apart: bool = False
    shares_prefixes: bool = False


PLAIN = Beside()


def serve_command(
    catalog_at: CatalogAt,
    model: str,
    found: Setups,
    i: int,
    engine: Engine,
    longest_tok: int,
    beside: Beside = PLAIN,
) -> str:
    """The server of one replica, with every option that the figures stand on."""
    draft, adapter = beside.draft, beside.adapter
    setup, name = found.setup, shlex.quote(checkpoint(catalog_at, model, found, i))
    tp, pp, dp = (int(np.asarray(one)[i]) for one in (setup.tp, setup.pp, setup.dp))
    cache = found.precisions[found.precision[i]].cache
    weights = found.precisions[found.precision[i]].experts
    quantised = not found.is_native[i] and weights == ON_LOADING
    used = f"{found.constants.memory_usable_frac:.2f}"
    which = found.engines[found.engine[i]]
    if which == "sglang":
        parts = [f"python -m sglang.launch_server --model-path {name}"]
        parts += [f"--tp {tp * dp}"] if tp * dp > 1 else []
        parts += [f"--dp {dp} --enable-dp-attention --ep {tp * dp}"] if dp > 1 else []
        parts += [f"--pp-size {pp}"] if pp > 1 else []
        parts += [f"--quantization {weights}"] if quantised else []
        parts += ["--kv-cache-dtype fp8_e4m3"] if cache == "fp8" else []
        parts += [
            f"--context-length {longest_tok}",
            f"--chunked-prefill-size {engine.max_num_batched_tokens}",
        ]
        return " ".join(
            [*parts, f"--max-running-requests {engine.max_num_seqs}", f"--mem-fraction-static {used}"]
        )
    if which == "trtllm":
        parts = [f"trtllm-serve {name} --tp_size {tp * dp}"]
        parts += [f"--ep_size {tp * dp}"] if dp > 1 else []
        parts += [f"--pp_size {pp}"] if pp > 1 else []
        parts += [f"--max_seq_len {longest_tok}", f"--max_num_tokens {engine.max_num_batched_tokens}"]
        return " ".join(
            [*parts, f"--max_batch_size {engine.max_num_seqs}", f"--kv_cache_free_gpu_memory_fraction {used}"]
        )
    parts = [f"vllm serve {name}"]
    for option, count in (("tensor", tp), ("pipeline", pp), ("data", dp)):
        parts += [f"--{option}-parallel-size {count}"] if count > 1 else []
    parts += ["--enable-expert-parallel"] if dp > 1 else []
    parts += [f"--quantization {weights}"] if quantised else []
    parts += ["--kv-cache-dtype fp8"] if cache == "fp8" else []
    parts += [f"--max-model-len {longest_tok}", f"--max-num-seqs {engine.max_num_seqs}"]
    parts += [f"--max-num-batched-tokens {engine.max_num_batched_tokens}", f"--gpu-memory-utilization {used}"]
    if catalog_at.find(f"model/{model}", "compress_tok") is not None:
        parts.append(f"--block-size {engine.block_tok}")
    if beside.shares_prefixes and catalog_at.find(f"model/{model}", "linear_state_size") is not None:
        # Off where layers keep a state, unless it is asked for.
        parts.append("--enable-prefix-caching")
    if beside.apart:
        sent = json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"})
        parts.append(f"--kv-transfer-config {shlex.quote(sent)}")
    if draft is not None:
        own = catalog_at.find(f"model/{model}", "draft_layers") is not None
        by = {"method": "mtp"} if own else {"method": "eagle3", "model": "DRAFT_MODEL"}
        guess = json.dumps(by | {"num_speculative_tokens": draft.depth})
        parts.append(f"--speculative-config {shlex.quote(guess)}")
    if adapter is not None:
        ranks = [int(most) for most in catalog_at.text("engine/vllm", "lora_ranks").split("|")]
        rank = next((most for most in ranks if most >= adapter.rank), adapter.rank)
        parts.append(f"--enable-lora --max-lora-rank {rank}")
        parts.append(f"--lora-modules tuned={shlex.quote(adapter.folder)}")
    return " ".join(parts)


def bench_command(name: str, need: Need, replicas: int, adapter: Adapter | None = None) -> str:
    """A benchmark of one replica that serves ``name``, at its share of the load, two minutes long."""
    rate = need.rate_per_s / replicas
    count = int(min(max(rate * BENCHMARK_S, FEWEST), MOST))
    shared = round(need.input_tok * need.prefix_hit_frac)
    parts = [
        f"vllm bench serve --model {shlex.quote(name)}{' --lora-modules tuned' if adapter else ''}",
        "--dataset-name random",
        f"--random-input-len {need.input_tok - shared} --random-output-len {need.output_tok} --ignore-eos",
        f"--num-prompts {count} --request-rate {rate:.4g}",
    ]
    if shared:
        parts.append(f"--random-prefix-len {shared}")
    if need.burst_cv not in (0.0, 1.0):
        parts.append(f"--burstiness {1.0 / need.burst_cv**2:.4g}")
    parts.append("--percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,95,99")
    return " ".join([*parts, "--save-result --save-detailed --result-filename bench.json"])
