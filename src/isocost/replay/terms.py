"""What a replica's steps take and hold: what the queue's door and its kernel both speak of."""

from __future__ import annotations

from typing import NamedTuple


class Terms(NamedTuple):
    """Step time in whole picoseconds: base + prefill per token + seq per sequence + kv per token held."""

    base_ps: int
    prefill_ps_per_tok: int
    seq_ps: int
    kv_ps_per_tok: int


class BatchLimits(NamedTuple):
    """What one step and one replica may hold: tokens a step, sequences at once, tokens of KV cache.

    Each running sequence takes a token of the step's budget, so at most ``prefill_budget_tok``
    sequences run, whatever ``max_seqs`` says.
    """

    prefill_budget_tok: int
    max_seqs: int
    kv_capacity_tok: int
