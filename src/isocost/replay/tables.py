"""What routing and the number of replicas do to prefix caches, and whether workloads hold in one pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits
from isocost.replay.capacity import tpot_ps
from isocost.replay.prefix import Blocks, belady, infinite
from isocost.replay.queue import (
    BatchLimits,
    Routing,
    Terms,
    serve,
    serve_with_prefixes,
)
from isocost.units import PS_PER_S

ROUTINGS: tuple[Routing, ...] = ("round_robin", "jsq", "least_tokens", "prefix_affinity")
I64 = NDArray[np.int64]


class PrefixHits(NamedTuple):
    """One routing over so many replicas: cached part of the input, its p95 TTFT, time that replicas work.

    ``bound_frac`` is what Belady's rule reads in the memory of all replicas together with the future
    known, ``endless_frac`` a cache that never forgets: no routing can exceed the second.
    """

    routing: str
    n_replicas: int
    hit_frac: float
    bound_frac: float
    endless_frac: float
    ttft_p95_s: float
    busy_frac: float


class InPool(NamedTuple):
    """One workload among those that share a pool: its requests and percentiles (s), whether limits hold.

    ``prefill_s`` and ``decode_s`` of replica time that its requests cause themselves; ``lost`` found no
    place. A request without a place misses every limit.
    """

    workload: str
    requests: int
    ttft_s: float
    tpot_s: float
    prefill_s: float
    decode_s: float
    lost: int
    holds: bool


class Shared(NamedTuple):
    """What a workload asks of a pool: most TTFT and TPOT (s) at a percentile (0 to 100); none: ``inf``."""

    ttft_s: float = np.inf
    tpot_s: float = np.inf
    percentile: float = 95.0


def prefix_hits(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    prompts: Blocks,
    terms: Terms,
    limits: BatchLimits,
    *,
    n_replicas: Sequence[int] = (1, 2, 4, 8),
    routings: Sequence[Routing] = ROUTINGS,
) -> list[PrefixHits]:
    """Hit rate of replicas' own prefix caches by routing and number, replayed with requests in memory.

    The load is not scaled: more replicas share the same requests. In order of ``n_replicas``, then
    ``routings``. Raises as :func:`isocost.replay.queue.serve_with_prefixes` does.
    """
    prompt = np.asarray(input_tok, np.int64)
    arrival = np.asarray(arrival_ps, np.int64)
    total = max(1, int(prompt.sum()))
    block = max(1, int(prompts.tok.max(initial=1)))
    endless = float(np.minimum(infinite(prompts), prompt).sum()) / total
    rows = []
    for n in n_replicas:
        best = belady(prompts, n * limits.kv_capacity_tok // block)
        bound = float(np.minimum(best, prompt).sum()) / total
        for routing in routings:
            found = serve_with_prefixes(
                arrival, prompt, output_tok, prompts, terms, limits, n_replicas=n, routing=routing
            )
            ok = found.status == 0
            hit = float(np.minimum(found.cached_tok, prompt)[ok].sum()) / total
            ttft = float(np.percentile(found.ttft_ps[ok], 95)) / PS_PER_S if ok.any() else np.nan
            end = float((arrival + np.maximum(0, found.e2e_ps)).max(initial=1) - arrival.min(initial=0))
            busy = float(found.busy_ps.sum()) / (n * max(1.0, end))
            rows.append(PrefixHits(routing, n, hit, bound, endless, ttft, busy))
    return rows


def together(
    workload: Sequence[str],
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    pool: tuple[Terms, BatchLimits, int],
    asks: Mapping[str, Shared],
    *,
    cached_tok: ArrayLike | None = None,
) -> list[InPool]:
    """Workloads that share replicas, each against its own limits, in one replay with JSQ.

    ``workload`` (n,) names each request's; ``pool`` is terms, limits and replicas; a workload without an
    entry in ``asks`` has no limits. One that waits behind another's long prompts shows it here and not in
    a replay of its own.
    """
    terms, limits, n_replicas = pool
    names = np.asarray(workload)
    prompt, output = np.asarray(input_tok, np.int64), np.asarray(output_tok, np.int64)
    if names.shape != prompt.shape:
        raise BadLimits("one workload a request is needed", where="workload")
    served = serve(arrival_ps, prompt, output, terms, limits, n_replicas=n_replicas, cached_tok=cached_tok)
    cached = np.zeros_like(prompt) if cached_tok is None else np.asarray(cached_tok, np.int64)
    prefill, decode = spent_s(terms, prompt, cached, output)
    rows = []
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        ask = asks.get(name, Shared())
        part = served._replace(
            ttft_ps=served.ttft_ps[mine], e2e_ps=served.e2e_ps[mine], status=served.status[mine]
        )
        lost = int((part.status != 0).sum())
        ttft = np.where(part.status == 0, part.ttft_ps / PS_PER_S, np.inf)
        tpot = np.concatenate([tpot_ps(part, output[mine]) / PS_PER_S, np.full(lost, np.inf)])
        at = [
            float(np.percentile(values, ask.percentile, method="higher")) if values.size else 0.0
            for values in (ttft, tpot)
        ]
        holds = at[0] <= ask.ttft_s and at[1] <= ask.tpot_s
        spent = float(prefill[mine].sum()), float(decode[mine].sum())
        rows.append(InPool(str(name), int(mine.sum()), at[0], at[1], *spent, lost, holds))
    return rows


def spent_s(
    terms: Terms, input_tok: I64, cached_tok: I64, output_tok: I64
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Replica-seconds of each request's own prefill and of its decoding, (n,) each; the base is nobody's.

    >>> spent_s(Terms(1, 10**9, 10**9, 0), np.array([100]), np.array([40]), np.array([11]))
    (array([0.06]), array([0.01]))
    """
    todo = np.maximum(1, input_tok - cached_tok)
    decodes = (output_tok - 1).astype(np.float64)
    prefill = todo * (terms.prefill_ps_per_tok / PS_PER_S)
    # The k-th of these steps holds the prompt and k tokens.
    held = decodes * (input_tok + 0.5 * output_tok)
    return prefill, (decodes * terms.seq_ps + held * terms.kv_ps_per_tok) / PS_PER_S
