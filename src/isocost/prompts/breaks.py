"""What breaks a prefix: where prompts part early and go on with the same text, and what is lost there.

A prompt is a row of pieces. Its prefix holds as far as an earlier prompt of the stream began with the same
pieces; what comes after and was sent before, elsewhere in a prompt, is *lost*: it would have been read from a
cache, had nothing new stood before it. Losses are added up by the prefix after which they happen. Two ways
bring them back, tried on all prompts of that prefix: what varies goes behind what does not, or what comes in
any order is put in one order. Nothing here knows words; ``isocost.prompts.naming`` says what the pieces are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.prompts.pieces import I32, I64, Pieces
from isocost.trace.kernels import chain, compiled

LEAST_PROMPTS = 8
"""Fewer prompts that part at one place are no pattern."""
LEAST_FRAC = 0.005
"""A break counts from this share of a stream's tokens on."""
MOST_ROUNDS = 6
MOST_PLACES = 6
"""Places that are looked at in a round."""
MOST_PIECES = 400_000
_POPULAR = 0.5
"""A piece is common where at least half as many prompts have it as have the commonest."""
_DISORDER = 0.3
"""Share of prompts with common pieces in another order from which that counts as random."""

_MIXED = 0.1
"""Share of neighbouring pieces that stand both ways round from which they are documents in any order."""
_TURNED = 0.25
"""Share of prompts in which a piece has changed places from which its place is loose."""

Way = Literal["move", "order"]
Bools = npt.NDArray[np.bool_]


class Break(NamedTuple):
    """A place where prefixes break, in pieces.

    ``stem`` names the prefix that holds (-1: none) of ``depth`` pieces; ``anchor`` the content with which
    prompts go on together; ``rows`` the prompts (of those given) that part there; ``way`` what mends it;
    ``lost_tok`` what they sent again behind it, ``gained_tok`` what an endless cache reads more once mended;
    ``order`` the contents that are put first, in their order.
    """

    stem: int
    depth: int
    anchor: int
    rows: I64
    way: Way
    lost_tok: int
    gained_tok: int
    order: I64


class Mended(NamedTuple):
    """Prompts as pieces, the tokens of each piece, and where each stood before anything was mended: (m,)."""

    pieces: Pieces
    tok: I32
    origin: I64

    def parting(self, one: Break, row: int) -> int:
        """Where a prompt parts, as the first byte of the piece in the prompt as it was sent."""
        first, last = int(self.pieces.offsets[row]), int(self.pieces.offsets[row + 1]) - 1
        return self.byte(row, min(first + one.depth, last))

    def byte(self, row: int, piece: int) -> int:
        """The first byte of a piece in the prompt as it was sent."""
        first = int(self.pieces.offsets[row])
        mine = slice(first, int(self.pieces.offsets[row + 1]))
        whole = np.empty(mine.stop - first, np.int64)
        whole[self.origin[mine] - first] = self.pieces.size[mine]
        return int(whole[: int(self.origin[piece]) - first].sum())


class Chained(NamedTuple):
    """Pieces with the prefixes that they end: ``keys`` int64 (m,), ``tok`` int32 (m,) tokens of each."""

    pieces: Pieces
    keys: I64
    tok: I32
    row: I64


def chained(state: Mended) -> Chained:
    """Prefixes of pieces: the key of a piece mixes all pieces of its prompt up to it."""
    found = state.pieces
    keys = np.empty_like(found.ids)
    compiled(chain)(found.offsets, found.ids, keys)
    row = np.repeat(np.arange(len(found.offsets) - 1), np.diff(found.offsets))
    return Chained(found, keys, state.tok, row)


def first_rows(values: I64, row: I64) -> I64:
    """The first row that holds each value, for every value: (m,); rows do not fall."""
    order = np.argsort(values, kind="stable")
    sorts = values[order]
    starts = np.flatnonzero(np.concatenate(([True], sorts[1:] != sorts[:-1])))[: len(values)]
    del sorts
    out = np.empty(len(values), row.dtype)
    out[order] = np.repeat(row[order[starts]], np.diff(np.append(starts, len(values))))
    return out


class Losses(NamedTuple):
    """Of each prompt: pieces of its prefix that an endless cache holds, their tokens, and what is lost."""

    depth: I64
    read_tok: I64
    lost_tok: I64


def losses(held: Chained) -> Losses:
    """What an endless cache reads of each prompt, and what it would have read in another order."""
    n = len(held.pieces.offsets) - 1
    known = first_rows(held.keys, held.row) < held.row
    sent = (first_rows(held.pieces.ids, held.row) < held.row) & ~known
    depth = np.bincount(held.row[known], minlength=n)
    read = np.bincount(held.row[known], held.tok[known], minlength=n)
    lost = np.bincount(held.row[sent], held.tok[sent], minlength=n)
    return Losses(depth.astype(np.int64), read.astype(np.int64), lost.astype(np.int64))


class Edges(NamedTuple):
    """Bytes at both ends of what varies that do not: the begin of its first piece, the end of its last."""

    head: int
    tail: int


Look = Callable[[Mended, Break], Edges]
"""Reads the words of some prompts that part at a break: where exactly they differ."""


def breaks(found: Pieces, tok: I32, look: Look | None = None) -> tuple[list[Break], list[Mended]]:
    """The breaks of one stream, in the order in which they are best mended.

    The second are the prompts as they are, then after each break was mended: one more than breaks. Breaks
    are looked for in the first prompts, of ``MOST_PIECES`` pieces, and mended in all. With ``look`` pieces
    are parted where what varies begins and ends; without, whole pieces are moved.
    """
    n = max(LEAST_PROMPTS, int(np.searchsorted(found.offsets, MOST_PIECES, "right")) - 1)
    states = [Mended(found, tok, np.arange(len(found.ids)))]
    seen: list[Break] = []
    tried: set[tuple[int, int]] = set()
    held = chained(states[-1])
    before = losses(held)
    while len(seen) < MOST_ROUNDS:
        best = _best(_first(states[-1], n), _first_of(held, n), tried)
        if best is None:
            break
        if look is not None and best.way == "move":
            states[-1], best = parted(states[-1], best, look(states[-1], best))
            held = chained(states[-1])
            before = losses(held)
        states.append(mended(states[-1], best, held))
        rows = np.flatnonzero(_through(held, best.stem, best.depth) & (before.lost_tok > 0))
        lost = int(before.lost_tok[rows].sum())
        held = chained(states[-1])
        after = losses(held)
        gained = int(after.read_tok.sum() - before.read_tok.sum())
        before = after
        seen.append(best._replace(rows=rows, lost_tok=lost, gained_tok=gained))
    return seen, states


def anchors(state: Mended, one: Break) -> I64:
    """The piece with which each prompt that parts at a break goes on: its index, -1 where there is none."""
    held = chained(state)
    behind = _behind(held, one.stem, one.depth)
    found = np.flatnonzero(behind & (state.pieces.ids == one.anchor))[::-1]
    at = np.full(len(state.pieces.offsets) - 1, -1, np.int64)
    at[held.row[found]] = found
    return at


def parted(state: Mended, one: Break, edges: Edges) -> tuple[Mended, Break]:
    """The prompts with what stands before the anchor as three pieces: what is shared, what varies, and what
    is shared again; prompts too short for that stay as they are. The break is then around what varies.
    """
    old, m = state.pieces, len(state.tok)
    last = anchors(state, one) - 1
    first = old.offsets[:-1] + one.depth
    some = np.flatnonzero(last >= first)
    first, last = first[some], last[some]
    size = _between(old.size, first, last)
    long = size > edges.head + edges.tail
    if not long.any() or not edges.head + edges.tail:
        return state, one
    some, first, last, size = some[long], first[long], last[long], size[long]
    tok = _between(state.tok, first, last)
    # What varies is named by all its pieces and their order; the sums wrap around.
    place = (np.arange(m) - np.repeat(old.offsets[:-1], np.diff(old.offsets))).astype(np.uint64)
    place = old.ids.astype(np.uint64) * (place * 2 + 1)
    named = (_between(place, first, last) >> np.uint64(2)).astype(np.int64)
    del place
    inside = np.zeros(m + 1, np.int8)
    inside[first] += 1
    inside[last + 1] -= 1
    counts = (np.cumsum(inside, dtype=np.int8)[:m] == 0).astype(np.int8)
    counts[first] = 3
    # Only what varies gets other numbers: its three pieces begin at ``at``, all else is as it was.
    at = np.cumsum(counts, dtype=np.int64)[first] - 3
    whole = np.repeat(np.arange(m, dtype=np.int32), counts)
    pieces = Pieces(
        np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))[old.offsets], old.ids[whole], old.size[whole]
    )
    toks = state.tok[whole]
    # Tokens go by bytes; what rounding leaves stays with what varies.
    per = tok / np.maximum(1, size)
    head_tok, tail_tok = (per * edges.head).astype(np.int64), (per * edges.tail).astype(np.int64)
    pieces.ids[at], pieces.ids[at + 1], pieces.ids[at + 2] = one.anchor ^ 1, named, one.anchor ^ 2
    pieces.size[at], pieces.size[at + 2] = edges.head, edges.tail
    pieces.size[at + 1] = size - edges.head - edges.tail
    toks[at], toks[at + 1], toks[at + 2] = head_tok, tok - head_tok - tail_tok, tail_tok
    of_origin = np.empty(m, np.int64)
    of_origin[state.origin] = counts
    begins = np.cumsum(of_origin) - of_origin
    del of_origin
    origin = begins[state.origin[whole]]
    origin[at + 1] += 1
    origin[at + 2] += 2
    new = Mended(pieces, toks, origin)
    stem = int(chained(new).keys[pieces.offsets[some[0]] + one.depth])
    return new, one._replace(stem=stem, depth=one.depth + 1, anchor=one.anchor ^ 2)


def _between(
    values: npt.NDArray[np.int32 | np.uint64], first: I64, last: I64
) -> npt.NDArray[np.int64 | np.uint64]:
    """Sums of values from each first to each last, both counted; those of unsigned ones wrap around."""
    wide = np.uint64 if values.dtype == np.uint64 else np.int64
    upto = np.concatenate((np.zeros(1, wide), np.cumsum(values, dtype=wide)))
    return upto[last + 1] - upto[first]


def _first(state: Mended, n: int) -> Mended:
    offsets = state.pieces.offsets[: n + 1]
    m = int(offsets[-1])
    part = Pieces(offsets, state.pieces.ids[:m], state.pieces.size[:m])
    return Mended(part, state.tok[:m], state.origin[:m])


def _first_of(held: Chained, n: int) -> Chained:
    """The chained pieces of the first prompts."""
    offsets = held.pieces.offsets[: n + 1]
    m = int(offsets[-1])
    part = Pieces(offsets, held.pieces.ids[:m], held.pieces.size[:m])
    return Chained(part, held.keys[:m], held.tok[:m], held.row[:m])


def _best(state: Mended, held: Chained, tried: set[tuple[int, int]]) -> Break | None:
    """The break that gains most once mended, of the few places behind which most is lost."""
    if not len(state.tok):
        return None
    least = LEAST_FRAC * float(state.tok.sum())
    before = losses(held)
    best: Break | None = None
    for stem in _places(held, before, least):
        for one in _ways(held, stem, before.lost_tok > 0):
            if (one.stem, one.anchor) in tried:
                continue
            after = losses(chained(mended(state, one, held)))
            gained = int(after.read_tok.sum() - before.read_tok.sum())
            if gained < least:
                tried.add((one.stem, one.anchor))
            elif best is None or gained > best.gained_tok:
                best = one._replace(gained_tok=gained)
    if best is not None:
        tried.add((best.stem, best.anchor))
    return best


def _places(held: Chained, found: Losses, least: float) -> list[tuple[int, int]]:
    """Prefixes (key, pieces) behind which much is lost and after which prompts go different ways."""
    starts = held.pieces.offsets[:-1][held.row]
    place = np.arange(len(held.row)) - starts
    inside = np.flatnonzero(place < found.depth[held.row])
    keys, first, back = np.unique(held.keys[inside], return_index=True, return_inverse=True)
    lost = np.bincount(back, found.lost_tok[held.row[inside]], len(keys))
    at = inside[first]
    parent = np.where(place[at] > 0, held.keys[np.maximum(at - 1, 0)], -1)
    keys, lost = np.concatenate(([-1], keys)), np.concatenate(([float(found.lost_tok.sum())], lost))
    depth = np.concatenate(([0], place[at] + 1))
    of = np.argsort(keys)
    most = np.zeros(len(keys))
    np.maximum.at(most, of[np.searchsorted(keys[of], parent)], lost[1:])
    worth = np.flatnonzero((lost >= max(1.0, least)) & (most < 0.9 * lost))
    worth = worth[np.argsort(-lost[worth], kind="stable")][:MOST_PLACES]
    return [(int(keys[k]), int(depth[k])) for k in worth]


def _through(held: Chained, stem: int, depth: int) -> Bools:
    """Which prompts begin with a prefix and go on: (n,)."""
    n = np.diff(held.pieces.offsets)
    found = n > depth
    if depth:
        at = np.minimum(held.pieces.offsets[:-1] + depth - 1, len(held.keys) - 1)
        found &= held.keys[at] == stem
    return np.asarray(found, np.bool_)


def _behind(held: Chained, stem: int, depth: int) -> Bools:
    """Which pieces stand behind a prefix: (m,)."""
    place = np.arange(len(held.row)) - held.pieces.offsets[:-1][held.row]
    return np.asarray(_through(held, stem, depth)[held.row] & (place >= depth), np.bool_)


def _ways(held: Chained, stem: tuple[int, int], losing: Bools) -> list[Break]:
    """The ways to mend prompts that part behind a prefix; ``losing`` (n,) are those that lose by it."""
    key, depth = stem
    at = np.flatnonzero(_behind(held, key, depth) & losing[held.row])
    if not len(at):
        return []
    n = len(held.pieces.offsets)
    ids, back = np.unique(held.pieces.ids[at], return_inverse=True)
    # A prompt that repeats a piece counts once.
    pairs, first = np.unique(back.astype(np.int64) * n + held.row[at], return_index=True)
    prompts = np.bincount(pairs // n, minlength=len(ids))
    if prompts.max() < LEAST_PROMPTS:
        return []
    place = np.bincount(pairs // n, at[first] - held.pieces.offsets[:-1][held.row[at[first]]]) / prompts
    common = prompts >= _POPULAR * prompts.max()
    nothing = np.zeros(0, np.int64)
    anchor = int(np.argmin(np.where(common, place, np.inf)))
    found = [Break(key, depth, int(ids[anchor]), nothing, "move", 0, 0, nothing)]
    loose = _loose(held, at[first], back[first], common)
    if len(loose):
        order = np.lexsort((place[loose], -prompts[loose]))
        found.append(Break(key, depth, -1, nothing, "order", 0, 0, ids[loose[order]]))
    elif _mixed(held, at, back, prompts) > _MIXED:
        often = np.flatnonzero(prompts >= LEAST_PROMPTS)
        order = np.lexsort((place[often], -prompts[often]))
        found.append(Break(key, depth, -1, nothing, "order", 0, 0, ids[often[order]]))
    return found


def _mixed(held: Chained, at: I64, number: I64, prompts: I64) -> float:
    """Share of neighbouring pieces, both of them frequent, that stand the other way round as often.

    Documents that a search ranks anew for each question are mixed; text is not, as its pieces follow one
    another always alike.
    """
    pair = (held.row[at[1:]] == held.row[at[:-1]]) & (at[1:] == at[:-1] + 1)
    one, two = number[:-1][pair].astype(np.int64), number[1:][pair].astype(np.int64)
    often = (prompts[one] >= LEAST_PROMPTS) & (prompts[two] >= LEAST_PROMPTS) & (one != two)
    one, two = one[often], two[often]
    if len(one) < LEAST_PROMPTS:
        return 0.0
    _, back = np.unique(np.minimum(one, two) * len(prompts) + np.maximum(one, two), return_inverse=True)
    up, every = np.bincount(back, one < two), np.bincount(back)
    return float(2.0 * np.minimum(up, every - up).sum() / every.sum())


def _loose(held: Chained, at: I64, number: I64, common: Bools) -> I64:
    """Numbers of the common pieces that change places with other common ones, next to the prompt that has
    most of them; none where few prompts differ from it in their order."""
    keep = common[number]
    at, number = at[keep], number[keep]
    sort = np.argsort(at)
    at, number = at[sort], number[sort]
    row = held.row[at]
    mine = row == int(np.argmax(np.bincount(row)))
    rank = np.full(int(number.max()) + 1, -1, np.int64)
    rank[number[mine]] = np.arange(int(mine.sum()))
    inside = rank[number] >= 0
    row, number = row[inside], number[inside]
    step = rank[number]
    back = (row[1:] == row[:-1]) & (step[1:] < step[:-1])
    if np.count_nonzero(np.bincount(row[1:][back])) < _DISORDER * np.count_nonzero(np.bincount(row)):
        return np.zeros(0, np.int64)
    # A piece is out of its place where one that follows it in the pattern stands before it, or the reverse.
    size = len(rank) + 1
    high = np.maximum.accumulate(row * size + step)
    low = np.minimum.accumulate((row * size + step)[::-1])[::-1]
    turned = np.zeros(len(row), np.bool_)
    turned[1:] = high[:-1] > row[1:] * size + step[1:]
    turned[:-1] |= low[1:] < row[:-1] * size + step[:-1]
    share = np.bincount(number, turned, len(rank)) / np.maximum(1, np.bincount(number, minlength=len(rank)))
    return np.flatnonzero(share > _TURNED)


def mended(state: Mended, one: Break, held: Chained | None = None) -> Mended:
    """All prompts with a break mended."""
    held = chained(state) if held is None else held
    behind = _behind(held, one.stem, one.depth)
    place = np.arange(len(held.row)) - held.pieces.offsets[:-1][held.row]
    key = place
    if one.way == "order":
        sort = np.argsort(one.order)
        at = np.minimum(np.searchsorted(one.order[sort], held.pieces.ids), len(sort) - 1)
        listed = behind & (one.order[sort][at] == held.pieces.ids)
        where = np.flatnonzero(listed)
        begins, ends = (
            np.full(len(held.pieces.offsets) - 1, len(held.row)),
            np.full(len(held.pieces.offsets) - 1, -1),
        )
        np.minimum.at(begins, held.row[where], place[where])
        np.maximum.at(ends, held.row[where], place[where])
        begin, end = begins[held.row], ends[held.row]
        many = len(held.row) + len(sort)
        within = behind & (place >= begin) & (place <= end)
        # The listed come first, in their order; what stood between them goes behind all else.
        key = np.where(place > end, place + many, place)
        key = np.where(within, np.where(listed, begin + sort[at], place + 3 * many), key)
    else:
        begins = np.full(len(held.pieces.offsets) - 1, -1, np.int64)
        found = np.flatnonzero(behind & (held.pieces.ids == one.anchor))[::-1]
        begins[held.row[found]] = place[found]
        key = np.where(behind & (place < begins[held.row]), place + len(held.row), place)
    order = np.lexsort((place, key, held.row))
    old = held.pieces
    moved = Pieces(old.offsets, old.ids[order], old.size[order])
    return Mended(moved, held.tok[order], state.origin[order])
