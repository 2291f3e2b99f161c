"""Requests a CPU-second of every replay, beside peers, in one run.

    python benchmarks/replay.py [--requests N] [--month] [--peer PYTHON]

The load is generated (Poisson arrivals, log-normal sizes, a fixed seed), so that it runs anywhere.
``--month`` adds ten million requests over thirty days. Peers: the step-by-step loops that the tests hold
the kernels equal to, and with ``--peer`` (a Python that has ``ai-dynamo``) Dynamo's offline replay, a
compiled simulator of the same kind, on the same requests with its own default engine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isocost.replay.engine import EngineLimits, Options, Scaling, StepTerms, interruptions, serve_engines
from isocost.replay.engine_stepwise import Ask, serve_engines_stepwise
from isocost.replay.prefix import Blocks, belady, blocks, fifo, infinite, lru, time_to_live
from isocost.replay.queue import BatchLimits, Terms, serve, serve_with_prefixes
from isocost.replay.stepwise import Prompt, serve_stepwise

TERMS = Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000)
LIMITS = BatchLimits(2048, 256, 400_000)
ENGINE_TERMS = StepTerms(*TERMS, 1_400_000)
ENGINE = EngineLimits(2048, 256, 25_000)
TIGHT = ENGINE._replace(n_blocks=2_500)
STEPWISE = 1500
MONTH, MONTH_S = 10_000_000, 30 * 86_400
BLOCK_TOK, PEER_BLOCK_TOK = 128, 512
PEER = """
import sys, time
from dynamo.replay import run_trace_replay
start = time.process_time()
found = run_trace_replay(sys.argv[1], num_workers=int(sys.argv[2]), trace_format="mooncake",
                         router_mode="round_robin", capture_per_request=False)
print(found.summary["completed_requests"], time.process_time() - start)
"""


def load(n: int, rate_per_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    arrival = np.cumsum(rng.exponential(1e12 / rate_per_s, n)).astype(np.int64)
    prompt = np.clip(rng.lognormal(6.5, 1.0, n), 1, 8000).astype(np.int64)
    return arrival, prompt, np.clip(rng.lognormal(5.0, 0.8, n), 1, 2000).astype(np.int64)


def sessions(n: int, block_tok: int) -> Blocks:
    """Prompts of about 20 blocks: one of 200 system prompts, one of n/10 histories, new blocks."""
    rng = np.random.default_rng(1)
    system, history = rng.integers(0, 200, n), rng.integers(0, max(1, n // 10), n)
    ids = np.concatenate(
        [
            system[:, None] * 8 + np.arange(8) + 10**12,
            history[:, None] * 8 + np.arange(8) + 10**11,
            np.arange(4 * n).reshape(n, 4),
        ],
        axis=1,
    )
    return blocks(np.arange(0, 20 * n + 1, 20), ids.ravel(), np.full(n, 20 * block_tok), block_tok)


def show(name: str, n: int, run: Callable[[], object], unit: str = "requests", times: int = 3) -> None:
    if times > 1:
        run()  # compile or load, fault the pages in
    best = np.inf
    for _ in range(times):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    print(f"{name:<58} {n / best:>14,.0f} {unit}/CPU-s", flush=True)


def queues(n: int) -> None:
    for rate in (2.0, 8.0, 14.0):
        columns = load(n, rate)
        show(f"one replica, load {rate:g}", n, lambda c=columns: serve(*c, TERMS, LIMITS))
    for replicas in (4, 16, 64):
        for rate in (2.0, 8.0, 14.0):
            columns = load(n, rate * replicas)
            for routing, overflow in (("jsq", -1), ("least_tokens", -1), ("round_robin", -1), ("jsq", 60)):
                fleet = {"n_replicas": replicas, "routing": routing, "overflow_outstanding": overflow}
                name = f"{replicas} replicas, {routing}{', overflow' if overflow > 0 else ''}, load {rate:g}"
                show(name, n, lambda c=columns, f=fleet: serve(*c, TERMS, LIMITS, **f))


def engines(n: int) -> None:
    """Cache in blocks, preemption where it is short, lock-step, scaling, losses, drafts."""
    for name, limits, options, rate in (
        ("engine, one replica", ENGINE, Options(), 8.0),
        ("engine, cache full, preempted", TIGHT, Options(), 3.0),
        ("engine, 4 ranks in lock-step", ENGINE._replace(ranks=4, lag=1), Options(), 30.0),
        ("engine, 8 replicas", ENGINE, Options(8), 64.0),
        ("engine, two drafts", ENGINE, Options(accept_frac=(0.7, 0.4)), 8.0),
    ):
        columns = load(n, rate)
        show(name, n, lambda c=columns, e=limits, o=options: serve_engines(*c, ENGINE_TERMS, e, o))
    columns = load(n, 40.0)
    minute = 60 * 10**12
    scaling = Scaling(minute // 4, 40, 1, 8, 2 * minute, 5 * minute, 4)
    losses = interruptions(0.5, 8, int(columns[0][-1]), minute, 2 * minute)
    options = Options(8, scaling=scaling, losses=losses)
    show(
        "engine, up to 8 replicas, scaling, losses",
        n,
        lambda: serve_engines(*columns, ENGINE_TERMS, ENGINE, options),
    )


def caches(n: int) -> None:
    prompts = sessions(n, BLOCK_TOK)
    for replicas in (1, 4, 16, 64):
        for routing in ("jsq", "prefix_affinity"):
            arrival, _, output = load(n, 4.0 * replicas)
            fleet = {"n_replicas": replicas, "routing": routing}
            columns = (arrival, np.full(n, 20 * BLOCK_TOK), output, prompts, TERMS, LIMITS)
            name = f"{replicas} replicas with prefixes, 20 blocks, {routing}"
            show(name, n, lambda c=columns, f=fleet: serve_with_prefixes(*c, **f))
    held = prompts.nodes.size
    for policy in (lru, fifo, belady):
        show(f"{policy.__name__}, 20,000 blocks", held, lambda p=policy: p(prompts, 20_000), "blocks")
    arrival = load(n, 4.0)[0]
    for minutes in (5, 60):
        life = minutes * 60 * 10**12
        show(f"time to live, {minutes} min", held, lambda t=life: time_to_live(prompts, arrival, t), "blocks")
    show("infinite", held, lambda: infinite(prompts), "blocks")
    ids, whole = prompts.nodes.astype(np.int64) * 7919, np.full(n, 20 * BLOCK_TOK)
    show("prompts chained from ids", held, lambda: blocks(prompts.offsets, ids, whole, BLOCK_TOK), "blocks")


def month() -> None:
    for replicas, overflow in ((1, -1), (4, -1), (4, 60)):
        columns = load(MONTH, MONTH / MONTH_S)
        fleet = {"n_replicas": replicas, "overflow_outstanding": overflow}
        start = time.process_time()
        serve(*columns, TERMS, LIMITS, **fleet)
        spent = time.process_time() - start
        name = f"a month of 10 M, {replicas} replicas{', overflow' if overflow > 0 else ''}"
        print(f"{name:<58} {spent:>14.2f} CPU-s", flush=True)


def peers(python: str | None) -> None:
    rows = [Prompt(*row) for row in np.column_stack([c[:STEPWISE] for c in load(STEPWISE, 8.0)]).tolist()]
    show("step by step, one replica, load 8", STEPWISE, lambda: serve_stepwise(rows, TERMS, LIMITS))
    asks = np.column_stack([c[:STEPWISE] for c in load(STEPWISE, 8.0)]).tolist()

    def plain() -> object:
        made = [Ask(i, *row) for i, row in enumerate(asks)]
        return serve_engines_stepwise(made, ENGINE_TERMS, ENGINE)

    show("step by step, engine, load 8", STEPWISE, plain, times=1)
    if python is None:
        print("Dynamo's replay: not run (give --peer a Python that has ai-dynamo)")
        return
    n, replicas = 20_000, 4
    arrival, prompt, output = load(n, 8.0 * replicas)
    with tempfile.TemporaryDirectory() as folder:
        file, script = Path(folder, "trace.jsonl"), Path(folder, "peer.py")
        script.write_text(PEER)
        first = np.concatenate([[0], np.cumsum(-(-prompt // PEER_BLOCK_TOK))])
        with file.open("w") as lines:
            for i in range(n):
                held = list(range(first[i], first[i + 1]))
                sizes = {"input_length": int(prompt[i]), "output_length": int(output[i])}
                row = {"timestamp": int(arrival[i] // 10**9), **sizes, "hash_ids": held}
                lines.write(json.dumps(row) + "\n")
        command = [python, str(script), str(file), str(replicas)]
        done, spent = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    print(
        f"{'Dynamo offline replay, 4 workers, load 8':<58} {int(done) / float(spent):>14,.0f} requests/CPU-s"
    )
    ours = (arrival, prompt, output)
    fleet = {"n_replicas": replicas, "routing": "round_robin"}
    show("isocost queue, the same requests", n, lambda: serve(*ours, TERMS, LIMITS, **fleet))
    options = Options(replicas, "round_robin")
    show("isocost engine, the same", n, lambda: serve_engines(*ours, ENGINE_TERMS, ENGINE, options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--month", action="store_true")
    parser.add_argument("--peer", help="a Python that has ai-dynamo")
    given = parser.parse_args()
    print(f"{given.requests:,} requests, best of 3; load = requests/s per replica")
    queues(given.requests)
    few = min(given.requests, 200_000)
    engines(few)
    caches(few)
    if given.month:
        month()
    peers(given.peer)


if __name__ == "__main__":
    main()
