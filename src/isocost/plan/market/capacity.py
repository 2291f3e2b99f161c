"""What a pool carries within the limits, by replica count: tabulated by replay of the trace itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.deployment import Pool, work_s
from isocost.plan.market.offers import Case
from isocost.plan.market.pools import PoolOption, limit
from isocost.plan.solve.problem import PoolChoice
from isocost.replay.capacity import capacity
from isocost.replay.prefix import blocks_of
from isocost.replay.queue import BatchLimits, Terms, serve_with_prefixes
from isocost.trace.schema import Chunk
from isocost.units import NS_PER_H, PS_PER_NS, PS_PER_S, SECONDS_PER_H

SAMPLE = 3000
"""Requests of the busiest stretch that capacity is measured on."""
MANY = 4
"""Replica count at which pooling is measured beside one; the line between them is used beyond."""
NEVER_S = 1e5
"""A limit that never binds, in seconds, where a workload has none."""


@dataclass(frozen=True)
class Tabulated:
    """Capacity of one and of ``MANY`` replicas in requests/s of the sample, at the pool's strictest limits.

    ``mean_work_s`` is the replica time of one sample request: it turns the load of any stream into
    requests of the sample. ``outstanding`` is how many requests a replica holds at capacity;
    ``hit_frac`` the share of prompt tokens found in the pool's own prefix cache.
    """

    one_per_s: float
    many_per_s: float
    mean_work_s: float
    outstanding: float
    hit_frac: float


def tabulate(
    pool: PoolOption, cases: Sequence[Case], table: Chunk, block_tok: int, percentile: float
) -> Tabulated | None:
    """Bisect the load of the trace's busiest stretch on one and several replicas; ``None``: none."""
    mine = [case for case in cases if not pool.fits[case.stream.id].why_not]
    mine = mine or list(cases)
    rows, prompt, output = _sample(pool, mine, table)
    if len(rows) < 2:
        return None
    # What a request spends outside the steps is the same at any load.
    ttft = min(limit(case, "ttft_p95_s") for case in mine) - pool.pool.first_token_ps / PS_PER_S
    tpot = min(limit(case, "tpot_p95_s") for case in mine)
    terms = terms_of(pool.pool)
    limits = batch_of(pool.pool)
    fits = prompt + output <= limits.kv_capacity_tok
    rows, prompt, output = rows[fits], prompt[fits], output[fits]
    if ttft <= 0 or len(rows) < 2 or table.arrival_ns[rows[0]] == table.arrival_ns[rows[-1]]:
        return None
    arrival = (table.arrival_ns[rows] - table.arrival_ns[rows[0]]) * PS_PER_NS
    cached = _cached(pool, table, rows, prompt, output, block_tok)
    found = [
        capacity(
            arrival,
            prompt,
            output,
            terms,
            limits,
            n,
            ttft_limit_ps=min(ttft, NEVER_S) * PS_PER_S,
            tpot_limit_ps=min(tpot, NEVER_S) * PS_PER_S,
            percentile=percentile,
            cached_tok=cached,
        )
        for n in (1, MANY)
    ]
    one, many = found
    if one.requests_per_s <= 0 or many.requests_per_s <= 0:
        return None
    read = 0.0 if cached is None else float(cached.mean())
    work = work_s(pool.pool, float(prompt.mean()), read, float(output.mean()))
    stay_s = (max(one.ttft_ps, 0) + max(one.tpot_ps, 0) * float(output.mean())) / PS_PER_S
    hit = 0.0 if cached is None else float(cached.sum() / max(1, prompt.sum()))
    return Tabulated(one.requests_per_s, many.requests_per_s, work, one.requests_per_s * stay_s, hit)


def choice(
    option: PoolOption, found: Tabulated, held: int, fixed_usd_per_month: float, replica_usd_per_h: float
) -> PoolChoice:
    """A tabulated pool as the solver sees it, with what it costs beside its rent."""
    more = (found.many_per_s - found.one_per_s) / (MANY - 1)
    rents, gpus = option.rents, option.pool.gpus
    spot, reserved = rents.get("spot"), rents.get("reserved_1y")
    return PoolChoice(
        option.pool.id,
        found.one_per_s * SECONDS_PER_H,
        max(0.0, more) * SECONDS_PER_H,
        option.usd_per_h,
        None if reserved is None else reserved.usd_per_gpu_h * gpus,
        None if spot is None else spot.usd_per_gpu_h * gpus,
        held,
        fixed_usd_per_month,
        replica_usd_per_h,
    )


def load_per_request(option: PoolOption, case: Case, found: Tabulated) -> float:
    """Requests of the sample that one request of a stream weighs as, by replica time."""
    fit = option.fits[case.stream.id]
    usage = case.stream.usage
    requests = float(usage.requests.sum())
    isl = fit.ratio.input * float(usage.all_input_tok.sum()) / requests
    osl = fit.ratio.output * float(usage.output_tok.sum()) / requests
    return work_s(option.pool, isl, isl * found.hit_frac, osl) / found.mean_work_s


def terms_of(pool: Pool) -> Terms:
    """A pool's step times as the kernel takes them."""
    return Terms(pool.base_ps, pool.prefill_ps_per_tok, pool.seq_ps, pool.kv_ps_per_tok)


def batch_of(pool: Pool) -> BatchLimits:
    """A pool's limits on a step and on its memory."""
    return BatchLimits(pool.prefill_budget_tok, pool.max_seqs, pool.kv_capacity_tok)


def overflow_at(found: Tabulated) -> int:
    """Outstanding requests per replica above which a request goes elsewhere: twice those at capacity."""
    return max(4, math.ceil(2.0 * found.outstanding))


def _sample(
    pool: PoolOption, cases: Sequence[Case], table: Chunk
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The busiest stretch of requests of these streams, in the pool's tokens."""
    asked = np.zeros(len(table), dtype=bool)  # marking is faster than np.unique by far on a long trace
    for case in cases:
        asked[case.rows] = True
    rows = np.flatnonzero(asked)
    ratio_in, ratio_out = np.ones(len(table)), np.ones(len(table))
    for case in cases:
        fit = pool.fits[case.stream.id]
        ratio_in[case.rows], ratio_out[case.rows] = fit.ratio
    if len(rows) > SAMPLE:
        hours = (table.arrival_ns[rows] - table.arrival_ns[rows[0]]) // NS_PER_H
        busiest = int(np.bincount(hours).argmax())
        middle = int(np.searchsorted(hours, busiest) + np.searchsorted(hours, busiest + 1)) // 2
        start = min(max(0, middle - SAMPLE // 2), len(rows) - SAMPLE)
        rows = rows[start : start + SAMPLE]
    prompt = np.rint(table.input_tok[rows] * ratio_in[rows]).astype(np.int64)
    output = np.maximum(1, np.rint(table.output_tok[rows] * ratio_out[rows])).astype(np.int64)
    return rows, prompt, output


def _cached(
    pool: PoolOption,
    table: Chunk,
    rows: npt.NDArray[np.int64],
    prompt: npt.NDArray[np.int64],
    output: npt.NDArray[np.int64],
    block_tok: int,
) -> npt.NDArray[np.int64] | None:
    """Prompt tokens in one replica's own cache when the sample runs at its real pace; no blocks: ``None``.

    Billed cache reads are no evidence here: they are another machine's cache.
    """
    prompts = blocks_of(table, rows, prompt, block_tok)
    if prompts is None:
        return None
    arrival = (table.arrival_ns[rows] - table.arrival_ns[rows[0]]) * PS_PER_NS
    served = serve_with_prefixes(
        arrival, prompt, output, prompts, terms_of(pool.pool), batch_of(pool.pool), n_replicas=1
    )
    return np.minimum(np.maximum(0, served.cached_tok), prompt)
