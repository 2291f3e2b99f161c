"""Prompts cut into pieces at places that their own bytes choose, so that equal text is cut alike.

Where one prompt has a word more than another, pieces of a fixed size would never match again; a cut that
hangs on the last 32 bytes alone finds its step again after a few pieces (content-defined chunking). Each byte
is read once. Pieces stand for the blocks of a prompt cache: about 20 tokens each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.replay.prefix import Blocks, blocks
from isocost.trace.kernels import compiled

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

LEAST_BYTES, MOST_BYTES = 24, 512
_NEWLINE = 10
MASK = (1 << 6) - 1
"""A cut is made where six bits of the rolling hash are zero, every 64 bytes after the least on average; and
at the end of a line, where messages, tools and documents end too."""
LOT = 1 << 17
"""Pieces that are worked on together."""
_PRIME_A, _PRIME_B = (1 << 31) - 1, (1 << 31) - 19
_BASE_A, _BASE_B = 1_103_515_245, 1_664_525_311


class Pieces(NamedTuple):
    """Pieces of n prompts: those of prompt i are ``[offsets[i]:offsets[i + 1]]``.

    ``ids`` int64 (m,) equal where the text of a piece is equal (62 bits), ``size`` int32 (m,) its bytes.
    """

    offsets: I64
    ids: I64
    size: I32


def gear() -> I64:
    """A random number of 32 bits for each byte, the same on every machine."""
    table, state = np.empty(256, np.int64), 88_172_645_463_325_252
    for i in range(256):
        state = (state + 0x9E3779B97F4A7C15) % (1 << 64)
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % (1 << 64)
        table[i] = (mixed ^ (mixed >> 27)) % (1 << 32)
    return table


def cut(data: U8, starts: I64, table: I64, offsets: I64, ids: I64, size: I32) -> int:
    """Cut prompts, which lie end to end in ``data`` from ``starts`` (n + 1,), and name each piece.

    Fills ``offsets`` (n + 1,), ``ids`` and ``size``; returns the pieces in all. Every product stays under
    2^63, as plain Python's would not wrap.
    """
    m = 0
    for i in range(len(starts) - 1):
        offsets[i] = m
        rolling, length, a, b = 0, 0, 1, 1
        for k in range(starts[i], starts[i + 1]):
            byte = int(data[k])
            rolling = ((rolling << 1) + int(table[byte])) & 0xFFFFFFFF
            a = (a * _BASE_A + byte + 1) % _PRIME_A
            b = (b * _BASE_B + byte + 1) % _PRIME_B
            length += 1
            chosen = byte == _NEWLINE or (length >= LEAST_BYTES and (rolling >> 20) & MASK == 0)
            if byte == _NEWLINE:
                rolling = 0  # where a line is cut hangs on the line alone
            if chosen or length >= MOST_BYTES:
                ids[m] = (a << 31) | b
                size[m] = length
                m += 1
                length, a, b = 0, 1, 1
        if length:
            ids[m] = (a << 31) | b
            size[m] = length
            m += 1
    offsets[len(starts) - 1] = m
    return m


def pieces(prompts: Iterable[bytes]) -> Pieces:
    """The pieces of prompts; a blank one has none."""
    held = list(prompts)
    lengths = np.fromiter((len(one) for one in held), np.int64, len(held))
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    whole = b"".join(held)
    data = np.frombuffer(whole, np.uint8)
    room = len(whole) // LEAST_BYTES + whole.count(b"\n") + len(held) + 1
    offsets, ids, size = np.zeros(len(held) + 1, np.int64), np.empty(room, np.int64), np.empty(room, np.int32)
    m = int(compiled(cut)(data, starts, gear(), offsets, ids, size))
    return Pieces(offsets, ids[:m].copy(), size[:m].copy())


def joined(parts: Iterable[Pieces]) -> Pieces:
    """Pieces of several lots of prompts, one lot after another."""
    lots = list(parts)
    if not lots:
        return Pieces(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32))
    shifts = np.cumsum([0, *(int(one.offsets[-1]) for one in lots[:-1])])
    tails = [one.offsets[1:] + shift for one, shift in zip(lots, shifts, strict=True)]
    return Pieces(
        np.concatenate([np.zeros(1, np.int64), *tails]),
        np.concatenate([one.ids for one in lots]),
        np.concatenate([one.size for one in lots]),
    )


def as_blocks(found: Pieces, input_tok: I64) -> Blocks:
    """Pieces as blocks of prefixes, the prompt's tokens spread over them by their bytes.

    ``input_tok`` (n,). Tokens of a prompt's blocks add up to it, except where it has no pieces.
    """
    chained = blocks(found.offsets, found.ids, input_tok, None)
    return Blocks(chained.offsets, chained.nodes, spread(found, input_tok), chained.n_nodes)


def spread(found: Pieces, input_tok: I64) -> I32:
    """Tokens of each piece (m,): those of its prompt (n,), by bytes."""
    n, tok = len(found.offsets) - 1, np.empty(len(found.ids), np.int32)
    low = 0
    while low < n:
        high = max(low + 1, int(np.searchsorted(found.offsets, found.offsets[low] + LOT, "right")) - 1)
        begin, end = int(found.offsets[low]), int(found.offsets[high])
        offsets = found.offsets[low : high + 1] - begin
        whole = np.concatenate(([0.0], np.cumsum(found.size[begin:end], dtype=np.float64)))
        row = np.repeat(np.arange(high - low), np.diff(offsets))
        first, last = whole[offsets[:-1]], whole[offsets[1:]]
        rate = np.asarray(input_tok[low:high], np.float64) / np.maximum(1.0, last - first)
        upto = np.floor((whole[1:] - first[row]) * rate[row] + 0.5).astype(np.int64)
        before = np.concatenate(([0], upto[:-1])).astype(np.int64)
        before[offsets[:-1][np.diff(offsets) > 0]] = 0
        tok[begin:end] = upto - before
        low = high
    return tok
