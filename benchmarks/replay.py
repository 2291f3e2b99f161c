"""Requests a CPU-second of every replay, beside the step-by-step loop, in one run.

    python benchmarks/replay.py [REQUESTS]

The load is generated (Poisson arrivals, log-normal sizes, a fixed seed), so that it runs anywhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from isocost.replay.prefix import Blocks, belady, blocks, fifo, infinite, lru, time_to_live
from isocost.replay.queue import BatchLimits, Terms, serve, serve_with_prefixes
from isocost.replay.stepwise import Prompt, serve_stepwise

TERMS = Terms(5_500_000_000, 40_000_000, 20_000_000, 52_000)
LIMITS = BatchLimits(2048, 256, 400_000)
STEPWISE = 1500


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


def show(name: str, n: int, run: Callable[[], object], unit: str = "requests") -> None:
    run()  # compile or load, fault the pages in
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    print(f"{name:<58} {n / best:>14,.0f} {unit}/CPU-s")


def main(n: int) -> None:
    print(f"{n:,} requests, best of 3; load = requests/s per replica")
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
    few = min(n, 200_000)
    prompts = sessions(few, 128)
    for replicas in (1, 4, 16, 64):
        for routing in ("jsq", "prefix_affinity"):
            arrival, _, output = load(few, 4.0 * replicas)
            fleet = {"n_replicas": replicas, "routing": routing}
            columns = (arrival, np.full(few, 20 * 128), output, prompts, TERMS, LIMITS)
            name = f"{replicas} replicas with prefixes, 20 blocks, {routing}"
            show(name, few, lambda c=columns, f=fleet: serve_with_prefixes(*c, **f))
    held = prompts.nodes.size
    for policy in (lru, fifo, belady):
        show(f"{policy.__name__}, 20,000 blocks", held, lambda p=policy: p(prompts, 20_000), "blocks")
    arrival = load(few, 4.0)[0]
    show("time to live, 5 min", held, lambda: time_to_live(prompts, arrival, 300 * 10**12), "blocks")
    show("infinite", held, lambda: infinite(prompts), "blocks")
    rows = [Prompt(*row) for row in np.column_stack([c[:STEPWISE] for c in load(n, 8.0)]).tolist()]
    show("step by step, one replica, load 8", STEPWISE, lambda: serve_stepwise(rows, TERMS, LIMITS))
    rows = [Prompt(*row) for row in np.column_stack([c[:STEPWISE] for c in load(n, 32.0)]).tolist()]
    show(
        "step by step, 4 replicas, load 8",
        STEPWISE,
        lambda: serve_stepwise(rows, TERMS, LIMITS, n_replicas=4),
    )


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    main(size)
