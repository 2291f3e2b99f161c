"""What the compiled loop of engines works on: tables of requests, replicas and ranks, and their columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
NEVER = 2**63 - 1
LAST_PS = 2**62

# Columns of Fleet.group, one row a replica.
NOW, END, MODE, NEXT_PS, NEXT_PREFILL, CUR_PREFILL = 0, 1, 2, 3, 4, 5
PREFILL_PS, DECODE_PS, STEPS, PHASE, LAUNCHED, ON_PS, READY, CUR_PS = 6, 7, 8, 9, 10, 11, 12, 13
GROUP_COLUMNS = 14
# Columns of Fleet.rank, one row a rank.
N_RUN, N_WAIT, HEAD, TAIL, FREE, TAKEN, N_CUR, N_NEXT, OUTSTANDING, OUTSTANDING_TOK = range(10)
RANK_COLUMNS = 10
# Columns of Load.state, one row a request.
COMPUTED, MADE, EMITTED, HELD, KEPT, MARK, LINK = range(7)
STATE_COLUMNS = 7

IDLE, BOUNDARY, RUNNING = 0, 1, 2
OFF, STARTING, ON, DRAINING = 0, 1, 2, 3
ROUND_ROBIN, JSQ, LEAST_TOKENS, RANK_SCORE = 0, 1, 2, 3
SERVED, OVERFLOWED, TOO_LARGE, UNFINISHED = 0, 1, 2, 3


class Load(NamedTuple):
    """n requests by arrival: sizes, tokens computed and made before they come, and their state (n, 7)."""

    arrival_ps: I64
    input_tok: I64
    output_tok: I64
    cached_tok: I64
    made_tok: I64
    state: I64


class Fleet(NamedTuple):
    """r replicas of d ranks: ``group`` (r, 14), ``rank`` (r*d, 10), who runs and who gets tokens.

    ``running``, ``cur``, ``cur_tok``, ``coming``, ``coming_tok`` are (r*d, seats): requests in order of
    admission; those that the step in flight, and the one composed after it, give tokens to.
    ``order`` (n,) is scratch; ``backlog`` (4,) holds head, tail and length of the requests that wait for
    a replica, and whose turn it is.
    """

    group: I64
    rank: I64
    running: I64
    cur: I64
    cur_tok: I64
    coming: I64
    coming_tok: I64
    order: I64
    backlog: I64


class Engine(NamedTuple):
    """Step terms, limits and switches of every replica.

    ``accept`` are thresholds below 2**31, one a draft; ``touched`` is which part of the experts, in
    2**-20, so many tokens of a step touch (the last entry holds for more). ``by_chunk``: 1 where a request
    is admitted as soon as its first chunk has room, else 0.
    """

    base_ps: int
    prefill_ps: int
    pair_fs: int
    seq_ps: int
    kv_ps: int
    budget_tok: int
    seats: int
    n_blocks: int
    block_tok: int
    ranks: int
    lag: int
    seed: int
    accept: I64
    expert_ps: int
    touched: I64
    by_chunk: int


class Rules(NamedTuple):
    """Routing; overflow per rank or -1; scaling: tick, target, least, most, start, cool-down; losses."""

    routing: int
    overflow: int
    tick_ps: int
    target: int
    least: int
    most: int
    start_ps: int
    cool_ps: int
    lost_ps: I64
    lost_group: I64
    away_ps: int


class Out(NamedTuple):
    """Results (n), written in place; ``first_seen_ps`` when a request was last taken up by an engine."""

    ttft_ps: I64
    e2e_ps: I64
    queued_ps: I64
    rank: NDArray[np.int32]
    status: NDArray[np.int8]
    preempted: NDArray[np.int32]
    restarted: NDArray[np.int32]
