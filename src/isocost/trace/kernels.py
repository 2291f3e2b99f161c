"""Loops over prefix blocks. Compiled where numba is installed; the same functions run without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
F = TypeVar("F", bound=Callable[..., Any])

# Every product below stays under 2^63: the compiler may assume that integers do not overflow, and plain
# Python's would not wrap. Two lanes of 31 bits, each modulo a prime, give ids of 62 bits.
_PRIME_A, _PRIME_B = (1 << 31) - 1, (1 << 31) - 19
_BASE_A, _BASE_B = 1_103_515_245, 1_664_525_311
_LOW = (1 << 31) - 1


@functools.cache
def compiled(function: F) -> F:
    """The function compiled on first use, or as it is where numba is absent."""
    try:
        from numba import njit
    except ImportError:
        return function
    return cast(F, njit(cache=True)(function))


def chain(offsets: Int64, ids: Int64, out: Int64) -> None:
    """Turn ids of block contents into ids of prefixes: ``out[j]`` mixes every block of its row up to j.

    ``offsets`` (rows + 1,), ``ids`` and ``out`` (blocks,). Ids that a log gives per block say that two blocks
    hold the same text, not that all before them is the same, which a prefix cache needs.
    """
    for row in range(len(offsets) - 1):
        a, b = 1, 1
        for j in range(offsets[row], offsets[row + 1]):
            block = int(ids[j])
            a = (a * _BASE_A + block % _PRIME_A + 1) % _PRIME_A
            b = (b * _BASE_B + block % _PRIME_B + 1) % _PRIME_B
            out[j] = (a << 31) | b


def unroll(
    held: Int64, start: Int64, key: Int64, shared: Int64, suffix_offsets: Int64, suffix: Int64, out: Int64
) -> None:
    """Write out whole block lists that a log stores as "the first ``shared`` of my predecessor, then suffix".

    ``held`` is one buffer for the current list of every key, the list of key k at ``start[k]``; it carries
    over from chunk to chunk. Rows (``key``, ``shared``, ``suffix_offsets`` rows + 1) are in order of
    arrival. ``out`` takes the lists end to end.
    """
    at = 0
    for row in range(len(key)):
        base = start[key[row]]
        n = shared[row]
        for j in range(suffix_offsets[row], suffix_offsets[row + 1]):
            held[base + n] = suffix[j]
            n += 1
        for j in range(n):
            out[at + j] = held[base + j]
        at += n


def reuse(
    offsets: Int64, ids: Int64 | Int32, input_tok: Int32, block_tok: int, first: int,
    table: Int64, used: int, hit_tok: Int64,
) -> tuple[int, int]:  # fmt: skip
    """Tokens of each row that an endless prefix cache holds already; look up before insert.

    ``table`` is an open-addressing set of ids, a power of two long, -1 where free. Rows from ``first`` on are
    done until the table is half full; returns (rows done, ids in the table). ``hit_tok`` (rows,) is filled.
    A hit stops at the first block not seen; the last block of a row may hold fewer than ``block_tok``
    tokens.
    """
    size = len(table) - 1
    rows = len(offsets) - 1
    for row in range(first, rows):
        lo, hi = offsets[row], offsets[row + 1]
        if 2 * (used + hi - lo) > size:
            return row, used
        hits = 0
        for step in range(2):
            alive = True
            for j in range(lo, hi):
                key = int(ids[j])
                slot = (((key & _LOW) * _BASE_A) ^ (((key >> 31) & _LOW) * _BASE_B)) >> 15 & size
                while table[slot] != -1 and table[slot] != key:
                    slot = (slot + 1) & size
                if step == 0:
                    alive = alive and table[slot] == key
                    if not alive:
                        break
                    hits += 1
                elif table[slot] == -1:
                    table[slot] = key
                    used += 1
        hit_tok[row] = min(hits * block_tok, int(input_tok[row]))
    return rows, used


def rehash(old: Int64, table: Int64) -> None:
    """Move every id of ``old`` into the larger, empty ``table`` (both as :func:`reuse` keeps them)."""
    size = len(table) - 1
    for i in range(len(old)):
        key = int(old[i])
        if key == -1:
            continue
        slot = (((key & _LOW) * _BASE_A) ^ (((key >> 31) & _LOW) * _BASE_B)) >> 15 & size
        while table[slot] != -1:
            slot = (slot + 1) & size
        table[slot] = key


def number(ids: Int64, first: int, table: Int64, held: Int64, used: int, out: Int32) -> tuple[int, int]:
    """Ids as numbers in order of first appearance; ``held[k]`` is the id numbered k.

    ``table`` is an open-addressing set of numbers, a power of two long, -1 where free. Ids from
    ``first`` on are done until it is half full; returns (ids done, numbers given).
    """
    size = len(table) - 1
    for j in range(first, len(ids)):
        key = int(ids[j])
        slot = (((key & _LOW) * _BASE_A) ^ (((key >> 31) & _LOW) * _BASE_B)) >> 15 & size
        while table[slot] != -1 and held[table[slot]] != key:
            slot = (slot + 1) & size
        if table[slot] == -1:
            if 2 * used >= size:
                return j, used
            held[used] = key
            table[slot] = used
            used += 1
        out[j] = table[slot]
    return len(ids), used


def place(held: Int64, used: int, table: Int64) -> None:
    """Enter the numbers of ``held`` into the larger, empty ``table`` (both as :func:`number` keeps them)."""
    size = len(table) - 1
    for k in range(used):
        key = int(held[k])
        slot = (((key & _LOW) * _BASE_A) ^ (((key >> 31) & _LOW) * _BASE_B)) >> 15 & size
        while table[slot] != -1:
            slot = (slot + 1) & size
        table[slot] = k


def gather(offsets: Int64, ids: Int64 | Int32, rows: Int64, out: Int64 | Int32) -> None:
    """The lists of ``rows``, end to end: list r is ``ids[offsets[r]:offsets[r + 1]]``."""
    at = 0
    for k in range(len(rows)):
        for j in range(offsets[rows[k]], offsets[rows[k] + 1]):
            out[at] = ids[j]
            at += 1


class Numbers:
    """Ids of prefix blocks as dense numbers, fed a chunk at a time; equal ids get equal numbers."""

    def __init__(self) -> None:
        self.table = np.full(1 << 16, -1, np.int64)
        self.held = np.empty(1 << 15, np.int64)
        self.used = 0

    def feed(self, ids: Int64 | Int32) -> Int32:
        """The numbers of ``ids``, (blocks,) int32."""
        out = np.empty(len(ids), np.int32)
        run, enter = compiled(number), compiled(place)
        done = 0
        while True:
            done, self.used = run(ids, done, self.table, self.held, self.used, out)
            if done == len(ids):
                return out
            larger = np.full(2 * len(self.table), -1, np.int64)
            enter(self.held, self.used, larger)
            self.held = np.concatenate((self.held, np.empty(len(self.held), np.int64)))
            self.table = larger


class Seen:
    """The prefix blocks seen so far: an endless cache, fed a chunk at a time."""

    def __init__(self) -> None:
        self.table = np.full(1 << 16, -1, np.int64)
        self.used = 0

    def feed(
        self, offsets: Int64, ids: Int64 | Int32, input_tok: Int32, block_tok: int
    ) -> npt.NDArray[np.int64]:
        """Tokens of each row already held (rows,), then remember the rows' blocks."""
        hit_tok = np.zeros(len(offsets) - 1, np.int64)
        run, grow = compiled(reuse), compiled(rehash)
        row = 0
        while True:
            row, self.used = run(offsets, ids, input_tok, block_tok, row, self.table, self.used, hit_tok)
            if row == len(offsets) - 1:
                return hit_tok
            larger = np.full(2 * len(self.table), -1, np.int64)
            grow(self.table, larger)
            self.table = larger
