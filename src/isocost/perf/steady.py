"""Queues in the steady state: latency at a load, and the load that limits allow.

:func:`closed_form` answers for independent (Poisson) arrivals at a replica whose steps follow
:class:`~isocost.perf.terms.StepTerms`; replay answers for real ones. :func:`closed_loop` answers for a
benchmark that keeps a fixed number of requests in flight; it uses the roofline itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isocost.perf.arch import Arch, Floats
from isocost.perf.constants import Constants
from isocost.perf.hardware import Gpu
from isocost.perf.memory import cache_capacity_tok
from isocost.perf.roofline import eager_s, prefill_attention_s, prefill_s, step_s
from isocost.perf.setup import Setup
from isocost.perf.terms import StepTerms, step_terms

HALVINGS = 40


class Steady(NamedTuple):
    """Means of a steady state, float64 ``(n,)``; infinite times where the load cannot be carried.

    ``running`` sequences decode, ``concurrency`` also counts requests that wait or prefill:
    Little's law makes it rate times time in the system. ``utilisation`` is the share of step time
    that grows with load; at 1 the queue never empties.
    """

    ttft_s: Floats
    tpot_s: Floats
    concurrency: Floats
    running: Floats
    utilisation: Floats


def request_work_s(terms: StepTerms, isl: ArrayLike, osl: ArrayLike) -> Floats:
    """Replica time that one request adds to the steps it shares: prefill, then one share a token."""
    isl, osl = np.asarray(isl, dtype=np.float64), np.asarray(osl, dtype=np.float64)
    token = terms.seq_s + terms.kv_s_per_tok * (isl + 0.5 * osl)
    return np.asarray(isl * terms.prefill_s_per_tok + osl * token)


def closed_form(terms: StepTerms, isl: ArrayLike, osl: ArrayLike, rate_per_s: ArrayLike) -> Steady:
    """Latency and occupancy at ``rate_per_s`` requests a second on one replica.

    Steps are as long as the work that arrives during one, plus the base:
    ``S = base / (1 - rate * work)``; a sequence lives ``osl`` steps, so ``rate * osl * S`` run. A
    first token waits outside the engine, for half a step, for the prompts before it (an M/D/1 queue
    of prefills) and for its own prompt in the step that carries it.
    """
    isl, osl = np.asarray(isl, dtype=np.float64), np.asarray(osl, dtype=np.float64)
    rate = np.asarray(rate_per_s, dtype=np.float64)
    used = rate * request_work_s(terms, isl, osl)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(used < 1.0, terms.base_s / (1.0 - used), np.inf)
        running = rate * osl * step
        prompt = isl * terms.prefill_s_per_tok
        queue = np.where(used < 1.0, rate * prompt * prompt / (2.0 * (1.0 - used)), np.inf)
        ttft = terms.first_token_s + 1.5 * step + queue + prompt * terms.ranks
    crowded = running * (isl + 0.5 * osl) > terms.kv_capacity_tok
    step, ttft = np.where(crowded, np.inf, step), np.where(crowded, np.inf, ttft)
    with np.errstate(invalid="ignore"):
        inside = np.where(rate > 0, rate * (ttft + np.maximum(osl - 1.0, 0.0) * step), 0.0)
    return Steady(ttft, step, inside, np.where(crowded, np.inf, running), used)


def goodput(
    terms: StepTerms, isl: ArrayLike, osl: ArrayLike, ttft_limit_s: ArrayLike, tpot_limit_s: ArrayLike
) -> Floats:
    """The greatest rate (requests a second on one replica) whose mean latencies keep both limits.

    0 where even an idle replica does not, or where one request does not fit the cache. Percentiles
    and bursts are replay's business.
    """
    isl, osl = np.asarray(isl, dtype=np.float64), np.asarray(osl, dtype=np.float64)
    ttft_limit, tpot_limit = np.asarray(ttft_limit_s), np.asarray(tpot_limit_s)
    mean = isl + 0.5 * osl
    work = request_work_s(terms, isl, osl)
    room = np.maximum(terms.kv_capacity_tok / mean, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_tpot = (1.0 - terms.base_s / tpot_limit) / work
        by_room = room / (osl * terms.base_s + room * work)
    high = np.nan_to_num(np.maximum(np.minimum(by_tpot, by_room), 0.0))
    high = np.where(terms.kv_capacity_tok >= isl + osl, high, 0.0)
    low = np.zeros_like(high)
    prompt = isl * terms.prefill_s_per_tok
    base = terms.base_s
    inside_limit = ttft_limit - terms.first_token_s - prompt * (terms.ranks - 1.0)
    enough = _ttft_s(base, prompt, work, high) <= inside_limit
    for _ in range(HALVINGS):
        if enough.all():
            break
        middle = 0.5 * (low + high)
        keeps = _ttft_s(base, prompt, work, middle) <= inside_limit
        low = np.where(enough | ~keeps, low, middle)
        high = np.where(enough | keeps, high, middle)
    idle = _ttft_s(base, prompt, work, np.zeros_like(high)) <= inside_limit
    return np.asarray(np.where(idle, np.where(enough, high, low), 0.0))


def relaid(
    arch: Arch, gpu: Gpu, setup: Setup, k: Constants, isl: ArrayLike, osl: ArrayLike, running: ArrayLike
) -> StepTerms:
    """The terms laid again through an operating range that ends at ``running`` sequences."""
    return step_terms(arch, gpu, setup, k, isl, osl, np.clip(np.asarray(running), 2.0, 4096.0))


class ClosedLoop(NamedTuple):
    """Means of a benchmark with a fixed number of requests in flight, float64 ``(n,)``.

    ``decode_step_s`` is a step without prompts, ``prompt_s`` what one prompt adds to it."""

    ttft_s: Floats
    tpot_s: Floats
    decode_step_s: Floats
    prompt_s: Floats
    running: Floats
    output_tok_per_s: Floats


class Options(NamedTuple):
    """What an engine is told beside its layout; scalars or ``(n,)``.

    ``most_sequences`` run at once; ``prefix_hit_frac`` of a prompt is found in a prefix cache;
    ``drafts_tok`` tokens a step are drafted for each sequence, of which ``accepted_tok`` are kept in the
    mean; new requests are looked for every ``poll_steps`` steps; an offline run offers ``requests`` in all.
    Tokens of prompts in a step and formats are constants and set-up; prompts that are filled on replicas of
    their own are :func:`isocost.perf.pools.two_pools`.
    """

    most_sequences: ArrayLike = np.inf
    prefix_hit_frac: ArrayLike = 0.0
    drafts_tok: ArrayLike = 0.0
    accepted_tok: ArrayLike = 0.0
    poll_steps: ArrayLike = 1.0
    requests: ArrayLike = np.inf


PLAIN = Options()


def closed_loop(
    arch: Arch,
    gpu: Gpu,
    setup: Setup,
    k: Constants,
    concurrency: ArrayLike,
    isl: ArrayLike,
    osl: ArrayLike,
    options: Options = PLAIN,
) -> ClosedLoop:
    """Latency with ``concurrency`` requests in flight on one replica, replaced as they end.

    As many run as the cache holds. While a request decodes, each other running request of its rank
    prefills once, in batches with those that decode, which delays it. A first token waits for the step
    in progress, for its prompt, for a share of the prompts of the others (which start together at
    first, and in part stay so) and, beyond the cache's room, for a place; an engine that admits more
    than the room spends a part of that wait after the first token. Requests per second times their life
    is ``concurrency``: Little's law.
    """
    isl, osl = np.asarray(isl, dtype=np.float64), np.maximum(np.asarray(osl, dtype=np.float64), 1.0)
    wanted = np.maximum(np.asarray(concurrency, dtype=np.float64), 1.0)
    mean = isl + 0.5 * osl
    room = np.maximum(room_for(arch, gpu, setup, k, isl, osl), 1.0)
    seated = np.minimum(wanted, np.maximum(np.asarray(options.most_sequences), 1.0))
    running = np.minimum(seated, room)
    per_rank = np.maximum(running / (setup.dp * setup.pp), 1.0)
    found = np.asarray(options.prefix_hit_frac, dtype=np.float64)
    filled = isl * (1.0 - found)
    given = 1.0 + np.asarray(options.accepted_tok, dtype=np.float64)
    decode = {"batch": running, "context_tok": mean, "drafts_tok": options.drafts_tok}
    checked = step_s(arch, gpu, setup, k, **decode)
    step = checked * drafting(arch, options)
    # What is filled also attends to what was found.
    seen = prefill_attention_s(arch, setup, k, filled, isl * found)
    beyond = seen - prefill_attention_s(arch, setup, k, filled, 0.0)
    shared = step_s(arch, gpu, setup, k, prefill_tok=filled, **decode) - checked + beyond
    alone = (prefill_s(arch, gpu, setup, k, filled) + beyond) * k.prompt_alone_share
    others = (per_rank - 1.0) * shared
    tpot = step / given + k.prompt_share * others / osl
    eager = eager_s(arch, k)
    # Prompts that are taken together share the host's time for the layers.
    together = eager * np.minimum(filled / k.prompt_batch_tok, 1.0)
    queue = k.queue_share * (others + (per_rank - 1.0) * together)
    # A request comes half way between two looks for new ones, in the mean.
    poll = 0.5 * (np.asarray(options.poll_steps, dtype=np.float64) + 1.0) * step
    first = k.first_token_s + eager + alone + poll + queue
    life = first + np.maximum(osl - 1.0, 0.0) * tpot
    waiting = (wanted - running) / np.maximum(running, 1.0) * life
    preempted = k.preempted_frac * (seated - running) / np.maximum(running, 1.0) * life
    rate = running / np.maximum(life, tpot)
    return ClosedLoop(first + waiting - preempted, tpot + preempted / osl, step, shared, running, rate * osl)


def room_for(arch: Arch, gpu: Gpu, setup: Setup, k: Constants, isl: ArrayLike, osl: ArrayLike) -> Floats:
    """Requests that the cache of a replica holds at once, ``(n,)``: each with the part of its answer that the
    engine keeps a place for."""
    held = np.asarray(isl) + k.reserved_answer_frac * np.asarray(osl)
    return np.asarray(cache_capacity_tok(arch, gpu, setup, k, held) / held)


def drafting(arch: Arch, options: Options) -> Floats:
    """How many times longer a step takes that also drafts: each drafted token passes a layer of its own."""
    return np.asarray(1.0 + np.asarray(options.drafts_tok, dtype=np.float64) / arch.layers)


def drafted_step_s(
    arch: Arch,
    gpu: Gpu,
    setup: Setup,
    k: Constants,
    batch: ArrayLike,
    context_tok: ArrayLike,
    options: Options,
) -> Floats:
    """Time of a step that verifies what was drafted for ``batch`` sequences, and drafts again."""
    step = step_s(arch, gpu, setup, k, batch=batch, context_tok=context_tok, drafts_tok=options.drafts_tok)
    return step * drafting(arch, options)


def kept_tok(drafts_tok: ArrayLike, kept_frac: ArrayLike) -> Floats:
    """Drafted tokens kept in the mean, if each is kept as often as ``kept_frac`` while those before it were.

    >>> [round(float(kept_tok(drafts, 0.85)), 3) for drafts in (1, 3)]
    [0.85, 2.187]
    >>> float(kept_tok(0, 0.85))
    0.0
    """
    share = np.asarray(kept_frac, dtype=np.float64)
    return np.asarray(share * (1.0 - share ** np.asarray(drafts_tok)) / (1.0 - share))


def _ttft_s(base: Floats, prompt: Floats, work: Floats, rate: Floats) -> Floats:
    used = np.minimum(rate * work, 1.0 - 1e-12)
    return np.asarray((1.5 * base + 0.5 * rate * prompt * prompt) / (1.0 - used) + prompt)
