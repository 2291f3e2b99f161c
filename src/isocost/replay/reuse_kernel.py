"""Loops over the blocks of prompts that caches of providers share, keep and store.

Plain functions: whoever runs them compiles them (``isocost.trace.kernels.compiled``), with one result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


def common_tok(offsets: I64, nodes: I32, tok: I32, visits: I32, out: I64) -> None:
    """Tokens of each prompt (n,) up to its first block that no other has; ``visits`` starts at zero."""
    for r in range(len(offsets) - 1):
        for j in range(offsets[r], offsets[r + 1]):
            visits[nodes[j]] += 1
    for r in range(len(offsets) - 1):
        total = 0
        for j in range(offsets[r], offsets[r + 1]):
            if visits[nodes[j]] < 2:
                break
            total += int(tok[j])
        out[r] = total


def common_blocks(offsets: I64, nodes: I32, rows: I64, visits: I32, out: I64) -> None:
    """Leading blocks of the prompts of ``rows`` that some other of these rows has too: (rows,)."""
    for k in range(len(rows)):
        for j in range(offsets[rows[k]], offsets[rows[k] + 1]):
            visits[nodes[j]] += 1
    for k in range(len(rows)):
        count = 0
        for j in range(offsets[rows[k]], offsets[rows[k] + 1]):
            if visits[nodes[j]] < 2:
                break
            count += 1
        out[k] = count


def held(
    offsets: I64, nodes: I32, arrival_ns: I64, life_ns: int, last: I64, reads: I32, held_ns: I64
) -> None:  # fmt: skip
    """How often each block is read while it is held, and for how long it is: ``life_ns`` after every use.

    ``last`` (nodes,) starts at -1, ``reads`` and ``held_ns`` at zero.
    """
    for r in range(len(offsets) - 1):
        for j in range(offsets[r], offsets[r + 1]):
            x = nodes[j]
            if last[x] < 0:
                held_ns[x] += life_ns
            else:
                gap = arrival_ns[r] - last[x]
                if gap <= life_ns:
                    reads[x] += 1
                    held_ns[x] += gap
                else:
                    held_ns[x] += life_ns
            last[x] = arrival_ns[r]


def read_of(
    offsets: I64, nodes: I32, tok: I32, arrival_ns: I64, life_ns: int, last: I64, kept: npt.NDArray[np.bool_],
    out: I64,
) -> None:  # fmt: skip
    """Tokens of each prompt (n,) read from blocks that are ``kept`` (nodes,) and used within the life."""
    for r in range(len(offsets) - 1):
        total = 0
        alive = True
        for j in range(offsets[r], offsets[r + 1]):
            x = nodes[j]
            alive = alive and kept[x] and last[x] >= 0 and arrival_ns[r] - last[x] <= life_ns
            if alive:
                total += int(tok[j])
        for j in range(offsets[r], offsets[r + 1]):
            last[nodes[j]] = arrival_ns[r]
        out[r] = total


def sizes(offsets: I64, nodes: I32, tok: I32, out: I32) -> None:
    """Tokens of each block (nodes,), as its last prompt counts them."""
    for j in range(offsets[0], offsets[len(offsets) - 1]):
        out[nodes[j]] = tok[j]
