"""Replay of engines whose cache may run full: what each request waits, and what each replica works.

An engine holds its cache in blocks of ``block_tok`` tokens, taken as sequences grow, as vLLM's V1
scheduler does. A step is composed so, with a budget of tokens:

1. running sequences in order of admission: one token each (with drafts: one and the drafts), or the
   next chunk of a prompt; where a block is needed and none is free, the sequence that was admitted last
   loses its place and its blocks, waits at the head of the line, and nothing is admitted in this step;
2. waiting requests, first come first served, while budget, seats and blocks allow; one is admitted only
   where all its known tokens have room (``by_chunk``: where those of its first chunk have). Who comes
   back recomputes its prompt and what it had made, except for its own leading full blocks that nobody
   has taken since (blocks are freed tail first and taken in the order in which they became free).

The last chunk of a prompt gives the first token. With ``lag`` 1 a step is composed when the one before
it starts, as engines with asynchronous scheduling do: who arrives during a step runs in the second one
after it, and a seat is free one step later. Ranks of one replica step together: a step lasts as long as
the slowest of them. Time is whole picoseconds. At one instant, in this order: steps end, replicas are
lost, replicas are there, the scaling rule looks, requests are routed, steps are composed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits, BadTrace
from isocost.replay import engine_tables as kernel

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Choice = Literal["round_robin", "jsq", "least_tokens", "rank_score"]
CHOICES: tuple[Choice, ...] = ("round_robin", "jsq", "least_tokens", "rank_score")
LONGEST_STEPS_PS = 2**61
WHOLE = 1 << 20


class StepTerms(NamedTuple):
    """Step time: base + prefill a prompt token + pair (fs) a pair of prompt token and what it attends to
    + seq a sequence that decodes + kv a token that those hold; experts: all of them, where all are touched.
    """

    base_ps: int
    prefill_ps_per_tok: int
    seq_ps: int
    kv_ps_per_tok: int
    pair_fs: int = 0
    expert_ps: int = 0


class EngineLimits(NamedTuple):
    """One rank: tokens a step, sequences at once, blocks of cache and tokens in one; ranks in lock-step.

    ``lag``: 1 where a step is composed while the one before it runs, else 0. ``by_chunk``: 1 where a request
    is admitted as soon as the first chunk of what it has to compute has room, as older engines do, else 0.
    """

    budget_tok: int
    max_seqs: int
    n_blocks: int
    block_tok: int = 16
    ranks: int = 1
    lag: int = 0
    by_chunk: int = 0


class Scaling(NamedTuple):
    """A rule that looks every ``every_ps``: as many replicas as outstanding / ``target``, rounded up.

    Between ``least`` and ``most``; a new one takes ``start_ps`` before it takes requests, and is paid for
    from its launch; none is given back within ``cool_ps`` of the last change. One that is given back
    takes no more requests and is paid for until its last one ends. ``first`` are there at time zero.
    """

    every_ps: int
    target: int
    least: int
    most: int
    start_ps: int
    cool_ps: int
    first: int


class Losses(NamedTuple):
    """Spot replicas taken away: when, which (m,), how long until one is there again, then it starts.

    What it had goes back into line, without what it had computed, and to whichever replica is chosen.
    With a scaling rule, that one's ``start_ps`` holds. Losses after the last arrival are not played.
    """

    at_ps: ArrayLike
    replica: ArrayLike
    away_ps: int
    start_ps: int


class EngineServed(NamedTuple):
    """What became of n requests on r replicas.

    ``ttft_ps``, ``e2e_ps`` int64 (n,), -1 where not served; ``queued_ps`` (n,) from arrival until an
    engine saw it (it looks between steps); ``rank`` (n,) of all ranks, -1; ``status`` (n,): 0 served, 1
    overflowed, 2 does not fit the cache, 3 never reached a replica; ``preempted``, ``restarted`` (n,)
    times. Per replica (r,): ``prefill_ps`` and ``decode_ps``, time in steps (a step with any sequence
    that decodes gives its base to decoding); ``on_ps``, time paid for. ``steps`` of all; ``end_ps``.
    """

    ttft_ps: I64
    e2e_ps: I64
    queued_ps: I64
    rank: NDArray[np.int32]
    status: NDArray[np.int8]
    preempted: NDArray[np.int32]
    restarted: NDArray[np.int32]
    prefill_ps: I64
    decode_ps: I64
    on_ps: I64
    steps: int
    end_ps: int


class Options(NamedTuple):
    """What else may be said of a replay; see :func:`serve_engines`."""

    n_replicas: int = 1
    routing: Choice = "jsq"
    overflow_outstanding: int = -1
    scaling: Scaling | None = None
    losses: Losses | None = None
    accept_frac: tuple[float, ...] = ()
    seed: int = 0
    touched_frac: ArrayLike | None = None


def serve_engines(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    terms: StepTerms,
    limits: EngineLimits,
    options: Options | None = None,
    *,
    cached_tok: ArrayLike | None = None,
    made_tok: ArrayLike | None = None,
) -> EngineServed:
    """Replay n requests, sorted by arrival, on equal replicas whose cache may run full.

    ``cached_tok`` (n,) of a prompt need no prefill; ``made_tok`` (n,) tokens were made elsewhere before
    (0, or 1 with the whole prompt cached: prefilled in another pool). ``options``: ``routing`` over all
    ranks: fewest outstanding (``jsq``), fewest outstanding tokens, turns, or ``rank_score`` (4 x waiting
    + running, as vLLM deals to data-parallel ranks; ties: the lowest). ``overflow_outstanding`` >= 0: a
    rank with that many accepts no more (status 1). ``accept_frac``: with drafts, the share of steps in
    which at least 1, 2, ... of them are accepted; drawn from ``seed``, request and place alone.
    ``touched_frac``: the part of all experts that 0, 1, 2, ... tokens of a step touch.

    Raises ``BadTrace`` and ``BadLimits`` as :func:`isocost.replay.queue.serve` does.
    """
    from isocost.replay import engine_kernel

    options = options or Options()
    load = _load(arrival_ps, input_tok, output_tok, cached_tok, made_tok)
    load, fleet, engine, rules, out = _laid_out(load, terms, limits, options)
    try:
        end = int(engine_kernel.run(load, fleet, engine, rules, out))
    except OverflowError as error:
        raise BadTrace(
            "the replay lasts longer than 53 days", fix="split the trace into partitions"
        ) from error
    group, groups = fleet.group, options.n_replicas
    on = group[:, kernel.ON_PS].copy()
    for g in range(groups):
        if group[g, kernel.PHASE] in (kernel.ON, kernel.STARTING):
            on[g] += max(0, end - int(group[g, kernel.LAUNCHED]))
    prefill, decode = group[:, kernel.PREFILL_PS].copy(), group[:, kernel.DECODE_PS].copy()
    return EngineServed(*out, prefill, decode, on, int(group[:, kernel.STEPS].sum()), end)


Laid = tuple[kernel.Load, kernel.Fleet, kernel.Engine, kernel.Rules, kernel.Out]


def laid_out(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    cached_tok: ArrayLike | None,
    machine: tuple[StepTerms, EngineLimits, Options],
) -> Laid:
    """The tables that the kernel works on, for loops that drive it themselves; checked as a replay's are."""
    return _laid_out(_load(arrival_ps, input_tok, output_tok, cached_tok, None), *machine)


def _laid_out(load: kernel.Load, terms: StepTerms, limits: EngineLimits, options: Options) -> Laid:
    engine = _engine(terms, limits, options, load)
    rules = _rules(options)
    n = load.arrival_ps.size
    fleet = _fleet(engine, options, n)
    ttft, e2e, queued = np.full((3, n), -1, np.int64)
    out = kernel.Out(
        ttft, e2e, queued, np.full(n, -1, np.int32), np.full(n, kernel.UNFINISHED, np.int8),
        np.zeros(n, np.int32), np.zeros(n, np.int32),
    )  # fmt: skip
    most = load.input_tok + load.output_tok + engine.accept.size
    out.status[-(-most // engine.block_tok) > engine.n_blocks] = kernel.TOO_LARGE
    return load, fleet, engine, rules, out


def serve_disaggregated(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    prefill: tuple[StepTerms, EngineLimits, Options],
    decode: tuple[StepTerms, EngineLimits, Options],
    transfer_ps_per_tok: int,
) -> tuple[EngineServed, EngineServed, I64, I64]:
    """Two pools: one prefills and makes the first token, its cache is sent, the other makes the rest.

    ``transfer_ps_per_tok`` is cache bytes a token over the bandwidth between them. Returns what each
    pool did (its own times), and TTFT and e2e (n,) of the whole, -1 where either did not serve. A
    request of one token never leaves the first pool. The decode pool's rows are those that the first
    one served and that go on, in order of the time at which their cache is there, then of arrival.
    """
    arrival = np.ascontiguousarray(arrival_ps, np.int64)
    prompt, output = np.asarray(input_tok, np.int64), np.asarray(output_tok, np.int64)
    if transfer_ps_per_tok < 0:
        raise BadLimits("a transfer takes no negative time", where="transfer_ps_per_tok")
    first = serve_engines(arrival, prompt, np.minimum(output, 1), prefill[0], prefill[1], prefill[2])
    served = first.status == 0
    ttft = np.where(served, first.ttft_ps, -1)
    e2e = np.where(served & (output == 1), first.e2e_ps, -1)
    rows = np.flatnonzero(served & (output > 1))
    there = arrival[rows] + ttft[rows] + transfer_ps_per_tok * prompt[rows]
    order = np.argsort(there, kind="stable")
    rows, there = rows[order], there[order]
    rest = serve_engines(
        there, prompt[rows], output[rows], decode[0], decode[1], decode[2],
        cached_tok=prompt[rows], made_tok=np.ones(len(rows), np.int64),
    )  # fmt: skip
    ok = rest.status == 0
    e2e[rows[ok]] = there[ok] + rest.e2e_ps[ok] - arrival[rows[ok]]
    return first, rest, np.where(e2e >= 0, ttft, -1), e2e


def interruptions(
    rate_per_h: float, n_replicas: int, length_ps: int, away_ps: int, start_ps: int, seed: int = 0
) -> Losses:
    """Losses of ``n_replicas`` spot replicas over ``length_ps``: independent, at a rate an hour of each."""
    if not rate_per_h >= 0:
        raise BadLimits("a rate is not negative", where="rate_per_h")
    random = np.random.default_rng(seed)
    at: list[int] = []
    replica: list[int] = []
    for r in range(n_replicas):
        t = 0.0
        while rate_per_h > 0:
            t += random.exponential(3600e12 / rate_per_h)
            if t > length_ps:
                break
            at.append(int(t))
            replica.append(r)
    order = np.argsort(np.array(at, np.int64), kind="stable")
    return Losses(np.array(at, np.int64)[order], np.array(replica, np.int64)[order], away_ps, start_ps)


def tokens_per_step(accept_frac: tuple[float, ...]) -> float:
    """Tokens that one step gives a sequence, in the mean: 1 and what is accepted of the drafts.

    >>> tokens_per_step(()), tokens_per_step((0.8, 0.5))
    (1.0, 2.3)
    """
    return 1.0 + sum(accept_frac)


def experts_touched(n_experts: int, active: int, most_tok: int) -> F64:
    """The part of a layer's experts that 0 .. ``most_tok`` tokens touch, if each picks evenly: (most + 1,).

    >>> experts_touched(128, 8, 2).tolist()
    [0.0, 0.0625, 0.12109375]
    """
    touched: F64 = 1.0 - (1.0 - active / n_experts) ** np.arange(most_tok + 1, dtype=np.float64)
    return touched


def _load(
    arrival_ps: ArrayLike,
    input_tok: ArrayLike,
    output_tok: ArrayLike,
    cached_tok: ArrayLike | None,
    made_tok: ArrayLike | None,
) -> kernel.Load:
    from isocost.replay.queue import checked_requests

    arrival, prompt, output = checked_requests(arrival_ps, input_tok, output_tok)
    none = np.zeros_like(prompt)
    cached = none if cached_tok is None else np.ascontiguousarray(cached_tok, np.int64)
    made = none if made_tok is None else np.ascontiguousarray(made_tok, np.int64)
    if cached.shape != prompt.shape or np.any(cached < 0) or np.any(cached > prompt):
        raise BadTrace("cached tokens must lie between zero and the input", where="cached_tok")
    if (
        made.shape != prompt.shape
        or np.any((made < 0) | (made >= output))
        or np.any((made > 0) & (cached < prompt))
    ):
        raise BadTrace("who has made tokens has its whole prompt cached and tokens to make", where="made_tok")
    # At least one token is computed, even of a prompt that is all cached; an empty prompt has one.
    prompt = np.maximum(1, prompt)
    cached = np.minimum(cached, prompt - (made == 0))
    state = np.zeros((arrival.size, kernel.STATE_COLUMNS), np.int64)
    state[:, kernel.MADE] = state[:, kernel.EMITTED] = made
    state[:, kernel.LINK] = -1
    return kernel.Load(arrival, prompt, output, cached, made, state)


def _engine(terms: StepTerms, limits: EngineLimits, options: Options, load: kernel.Load) -> kernel.Engine:
    if terms.base_ps < 1 or min(terms) < 0:
        raise BadLimits("a step takes time: base must be positive, no term negative", where="terms")
    if min(limits[:5]) < 1 or not {limits.lag, limits.by_chunk} <= {0, 1}:
        raise BadLimits(
            "budget, sequences, blocks and ranks must be positive, lag and by_chunk 0 or 1", where="limits"
        )
    shares = options.accept_frac
    if any(not 0.0 <= b <= a <= 1.0 for a, b in zip((1.0, *shares), shares, strict=False)):
        raise BadLimits("shares of accepted drafts fall from 1 towards 0", where="accept_frac")
    if shares and limits.lag:
        raise BadLimits("with drafts the next step is not known before the last one ends", where="lag")
    seats = limits.max_seqs
    capacity = limits.n_blocks * limits.block_tok
    worst = int(terms.base_ps) + terms.expert_ps + terms.prefill_ps_per_tok * limits.budget_tok
    worst += terms.seq_ps * seats + terms.kv_ps_per_tok * capacity
    worst += terms.pair_fs * limits.budget_tok * capacity // 1000
    if worst * min(int(load.output_tok.max(initial=1)), capacity) > LONGEST_STEPS_PS:
        raise BadLimits("one request would take longer than picoseconds can count", where="terms, limits")
    touched = np.empty(0, np.int64)
    if options.touched_frac is not None:
        touched = np.rint(np.asarray(options.touched_frac, np.float64) * WHOLE).astype(np.int64)
        if touched.size == 0 or touched.min() < 0 or touched.max() > WHOLE:
            raise BadLimits("parts of the experts lie between 0 and 1", where="touched_frac")
    return kernel.Engine(
        int(terms.base_ps), int(terms.prefill_ps_per_tok), int(terms.pair_fs), int(terms.seq_ps),
        int(terms.kv_ps_per_tok), int(limits.budget_tok), int(seats), int(limits.n_blocks),
        int(limits.block_tok), int(limits.ranks), int(limits.lag), int(options.seed) & 0x7FFFFFFF,
        np.array([int(share * 2**31) for share in shares], np.int64), int(terms.expert_ps), touched,
        int(limits.by_chunk),
    )  # fmt: skip


def _rules(options: Options) -> kernel.Rules:
    if options.routing not in CHOICES:
        raise BadLimits(f"unknown routing {options.routing!r}", where="routing", fix=", ".join(CHOICES))
    if options.n_replicas < 1:
        raise BadLimits("at least one replica is needed", where="n_replicas")
    s = options.scaling
    if s is not None and not (
        s.every_ps > 0 and s.target > 0 and 0 <= s.least <= s.most and 1 <= s.most <= options.n_replicas
        and s.start_ps >= 0 and s.cool_ps >= 0 and 0 <= s.first <= options.n_replicas
    ):  # fmt: skip
        raise BadLimits("a scaling rule with an impossible number", where="scaling")
    lost = options.losses or Losses((), (), 0, 0)
    at = np.ascontiguousarray(lost.at_ps, np.int64)
    which = np.ascontiguousarray(lost.replica, np.int64)
    if at.shape != which.shape or np.any(at[1:] < at[:-1]) or min(lost.away_ps, lost.start_ps) < 0:
        raise BadLimits("losses are sorted by time, one replica each", where="losses")
    if at.size and (at[0] < 0 or which.min() < 0 or which.max() >= options.n_replicas):
        raise BadLimits("a loss of a replica that is not there", where="losses")
    scaling = (s.every_ps, s.target, s.least, s.most) if s else (0, 1, 0, 0)
    start, cool = (s.start_ps if s else lost.start_ps), (s.cool_ps if s else 0)
    routing = CHOICES.index(options.routing)
    return kernel.Rules(
        routing, max(-1, options.overflow_outstanding), *scaling, start, cool, at, which, lost.away_ps
    )


def _fleet(engine: kernel.Engine, options: Options, n: int) -> kernel.Fleet:
    groups = options.n_replicas
    group = np.zeros((groups, kernel.GROUP_COLUMNS), np.int64)
    group[:, kernel.END] = kernel.NEVER
    group[:, kernel.NEXT_PS] = -1
    group[:, kernel.PHASE] = kernel.ON
    if options.scaling is not None:
        group[options.scaling.first :, kernel.PHASE] = kernel.OFF
    rank = np.zeros((groups * engine.ranks, kernel.RANK_COLUMNS), np.int64)
    rank[:, [kernel.HEAD, kernel.TAIL]] = -1
    rank[:, kernel.FREE] = engine.n_blocks
    seats = min(engine.seats, max(n, 1))
    running, cur, cur_tok, coming, coming_tok = np.zeros((5, groups * engine.ranks, seats), np.int64)
    order, backlog = np.zeros(n, np.int64), np.array([-1, -1, 0, 0], np.int64)
    return kernel.Fleet(group, rank, running, cur, cur_tok, coming, coming_tok, order, backlog)
