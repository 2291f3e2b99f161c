"""Replay of continuous batching: what each request waits, and what each replica works, at given step times.

One step of a replica takes ``base + prefill * tokens prefilled + seq * sequences that decode + kv *
tokens in the cache of the sequences that decode``, as a vLLM-like engine composes it:

1. every running sequence decodes one token and takes one token of the step's budget;
2. the prefill in progress takes a chunk of what is left, first come first served;
3. waiting requests are admitted first come first served while budget, seats and cache allow; a
   request reserves input + output tokens of cache until it ends, so none is ever preempted.

The first output token comes from the step that ends the prefill, each later one from one decode
step. At least one prompt token is always computed, even where the whole prompt is cached. Time is
whole picoseconds. At one instant, in this order: steps end, requests that arrive are routed (they see
what has ended), steps start (they see what has arrived). Nothing here holds a number of the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits, BadTrace
from isocost.replay.terms import BatchLimits as BatchLimits
from isocost.replay.terms import Terms as Terms

if TYPE_CHECKING:
    from isocost.replay.kernel import Memory
    from isocost.replay.prefix import Blocks

Routing = Literal["jsq", "round_robin", "least_tokens", "prefix_affinity"]
Schedule = tuple[ArrayLike, ArrayLike]
I64 = NDArray[np.int64]
Columns = tuple[I64, I64, I64, I64, I64]
Rules = tuple[str, I64, I64, int, float]

LONGEST_STEPS_PS = 2**61
"""Longest that one request may decode alone under the worst step; keeps every sum inside int64."""


class Served(NamedTuple):
    """What happened to each of n requests on r replicas.

    ``ttft_ps``, ``e2e_ps`` int64 (n,), -1 where not served here; ``replica`` int32 (n,), -1 where not
    served here; ``status`` int8 (n,): 0 served, 1 overflowed, 2 does not fit the cache; ``busy_ps``
    int64 (r,) time in steps; ``steps`` taken by all replicas.
    """

    ttft_ps: I64
    e2e_ps: I64
    replica: NDArray[np.int32]
    status: NDArray[np.int8]
    busy_ps: I64
    steps: int


class ServedWithPrefixes(NamedTuple):
    """As :class:`Served`, and ``cached_tok`` int64 (n,): prompt tokens found cached, -1 if not served."""

    ttft_ps: I64
    e2e_ps: I64
    replica: NDArray[np.int32]
    status: NDArray[np.int8]
    busy_ps: I64
    steps: int
    cached_tok: I64


def serve(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    terms: Terms,
    limits: BatchLimits,
    *,
    n_replicas: int = 1,
    routing: Routing = "jsq",
    cached_tok: ArrayLike | None = None,
    schedule: Schedule | None = None,
    overflow_outstanding: int = -1,
) -> Served:
    """Replay n requests, sorted by arrival, on ``n_replicas`` equal replicas.

    ``cached_tok`` of each prompt need no prefill (they still occupy the cache). ``routing``: ``jsq``
    joins the fewest outstanding requests, ``least_tokens`` the fewest outstanding input + output
    tokens (ties: the lowest index), ``round_robin`` takes turns. ``schedule`` is ``(switch_ps (k,),
    n_active (k,))``: from each time on, only the first ``n_active`` replicas accept new requests and
    the others drain; before the first time all accept. With ``overflow_outstanding`` >= 0 a replica
    with that many outstanding accepts no more, and a request that finds no replica goes elsewhere
    (status 1). A request larger than the whole cache gets status 2.

    Raises ``BadTrace`` for unsorted or negative arrivals, negative input, output below 1, cached
    outside 0..input, lengths that differ, or times past int64 picoseconds; ``BadLimits`` for terms,
    limits or a schedule that cannot be.
    """
    from isocost.replay import kernel

    if routing == "prefix_affinity":
        raise BadLimits("routing by prefix needs prefixes", where="routing", fix="use serve_with_prefixes")
    none = np.empty(0, np.int64)
    nobody = np.empty((n_replicas if n_replicas > 0 else 0, 0), np.int32)
    blocks = np.empty(0, np.int32)
    memory = kernel.Memory(none, blocks, blocks, none, nobody, nobody, nobody, none)
    arrival, prompt, output = checked_requests(arrival_ps, input_tok, output_tok)
    prefill = np.maximum(1, prompt - _cached(cached_tok, prompt))
    columns = (arrival, prompt, output, prefill, prompt + output)
    rules = _rules(routing, n_replicas, schedule, overflow_outstanding, 1.0)
    return _run(columns, terms, limits, n_replicas, rules, memory)


def serve_with_prefixes(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    prompts: Blocks,
    terms: Terms,
    limits: BatchLimits,
    *,
    n_replicas: int = 1,
    routing: Routing = "prefix_affinity",
    affinity_factor: float = 2.0,
    schedule: Schedule | None = None,
    overflow_outstanding: int = -1,
) -> ServedWithPrefixes:
    """Replay n requests whose prompts are ``prompts`` (:func:`isocost.replay.prefix.blocks`, n rows).

    Each replica's cache and its live requests share one memory of ``kv_capacity_tok``. On admission a
    request looks its prefix up, and the blocks that it finds need no prefill; then it pins all of its
    blocks, and unused blocks are evicted, least recently used first and of one prompt the tail first,
    where the memory is needed. When it ends, its prompt's blocks that no other live request uses stay
    as cache; generated tokens are not kept. Blocks are found from admission on: prefill is first
    come first served, so whoever is admitted later also runs later.

    ``prefix_affinity`` sends a request to the replica that holds most of its leading blocks (ties: the
    fewest outstanding, then the lowest index), unless that one's outstanding + 1 exceeds
    ``affinity_factor`` times the least loaded one's + 1, or it accepts no more: then the least loaded
    takes it. The rest is as in :func:`serve`. State takes 12 bytes a replica and distinct block.
    """
    from isocost.replay import kernel, prefix_kernel

    arrival, prompt, output = checked_requests(arrival_ps, input_tok, output_tok)
    offsets, nodes, tok, n_nodes = prompts
    if offsets.size != arrival.size + 1:
        raise BadTrace("prompts and requests differ in number", where="prompts")
    rules = _rules(routing, n_replicas, schedule, overflow_outstanding, affinity_factor)
    weight, need = np.zeros(n_nodes, np.int64), np.empty(arrival.size, np.int64)
    prefix_kernel.needs(offsets, nodes, tok, weight, prompt, output, need)
    links = np.full((2, n_replicas, n_nodes + 1), n_nodes, np.int32)
    ref = np.full((n_replicas, n_nodes), -1, np.int32)
    unused = np.zeros(n_replicas, np.int64)
    memory = kernel.Memory(offsets, nodes, tok, weight, ref, links[0], links[1], unused)
    prefill = np.maximum(1, prompt)
    served = _run((arrival, prompt, output, prefill, need), terms, limits, n_replicas, rules, memory)
    cached = np.where(served.status == kernel.SERVED, np.maximum(0, prompt - prefill), -1)
    return ServedWithPrefixes(*served, cached)


def _run(
    columns: Columns,
    terms: Terms,
    limits: BatchLimits,
    n_replicas: int,
    rules: Rules,
    memory: Memory,
) -> Served:
    """Lay out the state, call the kernel, collect. ``columns``: arrival, input, output, prefill, need."""
    from isocost.replay import kernel

    arrival, prompt, output, prefill, need = columns
    n = arrival.size
    limits = _checked(terms, limits, output)
    state = np.zeros((n_replicas, kernel.COLUMNS), np.int64)
    state[:, [kernel.FIRST, kernel.HEAD, kernel.TAIL]] = -1
    seats = min(limits.max_seqs, max(n, 1))
    pool = kernel.Pool(
        state,
        np.full(n_replicas, kernel.NEVER, np.int64),
        np.zeros(n_replicas, np.int64),
        np.zeros(n_replicas, np.int64),
        np.zeros((n_replicas, seats), np.int64),
        np.zeros((n_replicas, seats), np.int64),
    )
    out = kernel.Out(
        np.full(n, -1, np.int64), np.full(n, -1, np.int64), np.full(n, -1, np.int32), np.zeros(n, np.int8)
    )
    out.status[need > limits.kv_capacity_tok] = kernel.TOO_LARGE
    load = kernel.Load(arrival, prompt, output, prefill, need, np.full(n, -1, np.int64))
    names = {"round_robin": 0, "jsq": 1, "least_tokens": 2, "prefix_affinity": 3}
    batch = (Terms(*map(int, terms)), limits)
    try:
        kernel.run(load, pool, memory, kernel.Rules(names[rules[0]], *rules[1:]), batch, out)
    except OverflowError as error:
        raise BadTrace(
            "the replay lasts longer than 53 days", fix="split the trace into partitions"
        ) from error
    return Served(*out, state[:, kernel.BUSY].copy(), int(state[:, kernel.STEP].sum()))


def checked_requests(
    arrival_ps: ArrayLike, input_tok: ArrayLike, output_tok: ArrayLike
) -> tuple[I64, I64, I64]:
    """Arrivals, inputs and outputs as int64 (n,), refused where they cannot be; as :func:`serve` says."""
    arrival = np.ascontiguousarray(arrival_ps, np.int64)
    prompt = np.ascontiguousarray(input_tok, np.int64)
    output = np.ascontiguousarray(output_tok, np.int64)
    if arrival.ndim != 1 or not arrival.shape == prompt.shape == output.shape:
        raise BadTrace("arrivals, inputs and outputs differ in length", where="replay")
    if arrival.size:
        if arrival[0] < 0 or np.any(arrival[1:] < arrival[:-1]):
            raise BadTrace(
                "arrivals are negative or out of order", where="arrival_ps", fix="sort, count from the first"
            )
        if prompt.min() < 0:
            raise BadTrace("negative input tokens", where=f"input_tok[{int(prompt.argmin())}]")
        if output.min() < 1:
            raise BadTrace(
                "output below one token",
                where=f"output_tok[{int(output.argmin())}]",
                fix="leave such rows out",
            )
        if max(int(prompt.max()), int(output.max())) >= 2**40:
            raise BadTrace("a request of more than 2^40 tokens", where="input_tok, output_tok")
    return arrival, prompt, output


def _cached(cached_tok: ArrayLike | None, prompt: I64) -> I64:
    """Cached tokens as int64, checked against the prompt; zero where not given."""
    if cached_tok is None:
        return np.zeros_like(prompt)
    cached = np.ascontiguousarray(cached_tok, np.int64)
    if cached.shape != prompt.shape or np.any(cached < 0) or np.any(cached > prompt):
        raise BadTrace("cached tokens must lie between zero and the input", where="cached_tok")
    return cached


def _rules(
    routing: str, n_replicas: int, schedule: Schedule | None, overflow: int, affinity_factor: float
) -> Rules:
    """Routing, switch times, active counts, overflow threshold and affinity factor, checked."""
    if routing not in ("round_robin", "jsq", "least_tokens", "prefix_affinity"):
        raise BadLimits(f"unknown routing {routing!r}", where="routing")
    if n_replicas < 1:
        raise BadLimits("at least one replica is needed", where="n_replicas")
    if not affinity_factor >= 1.0:
        raise BadLimits("the affinity factor must be at least 1", where="affinity_factor")
    switch, active = schedule if schedule is not None else ((), ())
    switch_ps = np.ascontiguousarray(switch, np.int64)
    n_active = np.ascontiguousarray(active, np.int64)
    least = 0 if overflow >= 0 else 1
    if switch_ps.shape != n_active.shape or switch_ps.ndim != 1 or np.any(switch_ps[1:] < switch_ps[:-1]):
        raise BadLimits("switch times must be sorted, one count each", where="schedule")
    if n_active.size and (n_active.min() < least or n_active.max() > n_replicas):
        raise BadLimits(f"active replicas must lie between {least} and {n_replicas}", where="schedule")
    return routing, switch_ps, n_active, max(-1, int(overflow)), float(affinity_factor)


def _checked(terms: Terms, limits: BatchLimits, output: I64) -> BatchLimits:
    """Limits with at most as many sequences as tokens a step; refuses what cannot run or would overflow."""
    if terms.base_ps < 1 or min(terms) < 0:
        raise BadLimits("a step takes time: base must be positive, no term negative", where="terms")
    if min(limits) < 1:
        raise BadLimits("budget, sequences and cache must be positive", where="limits")
    seqs = min(int(limits.max_seqs), int(limits.prefill_budget_tok))
    capacity = int(limits.kv_capacity_tok)
    worst = terms.base_ps + terms.prefill_ps_per_tok * limits.prefill_budget_tok
    worst += terms.seq_ps * seqs + terms.kv_ps_per_tok * capacity
    longest = min(int(output.max(initial=1)), capacity)
    if int(worst) * longest > LONGEST_STEPS_PS:
        raise BadLimits("one request would take longer than picoseconds can count", where="terms, limits")
    return BatchLimits(int(limits.prefill_budget_tok), seqs, capacity)
