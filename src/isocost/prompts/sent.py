"""The requests of a log as this room needs them: who serves each today, and its prompt in pieces."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from isocost.catalog import Catalog
from isocost.catalog.names import Offering, resolve
from isocost.errors import BadTrace, UnknownModel
from isocost.plan.asked.streams import DEMAND
from isocost.prompts.pieces import I32, I64, Pieces, joined, pieces, spread
from isocost.prompts.words import words
from isocost.replay.prefix import Blocks, blocks, blocks_of
from isocost.trace.kernels import compiled, gather
from isocost.trace.schema import Chunk, Trace
from isocost.units import DAYS_PER_MONTH, NS_PER_DAY, NS_PER_S

Kind = Literal["words", "parts", "prefixes", "none"]
"""What is known of prompts: their words; ids of parts, each by itself; ids of whole prefixes; nothing."""

Number = TypeVar("Number", np.int32, np.int64)


class Sent(NamedTuple):
    """Requests that would be made again, in order of arrival.

    ``table`` holds the n of them, ``row`` each one's row of the log's table (for its words). ``serves`` is
    each one's index into ``offerings``, -1 unknown. ``pieces`` are their prompts where parts are known by
    themselves, ``tok`` the tokens of each piece; ``blocks`` where only prefixes are. ``months`` is how many
    times the log's span fits into a month.
    """

    trace: Trace
    catalog: Catalog
    on: date
    table: Chunk
    row: I64
    offerings: tuple[Offering, ...]
    unknown: tuple[str, ...]
    serves: I32
    kind: Kind
    pieces: Pieces | None
    tok: I32 | None
    blocks: Blocks | None
    days: float
    months: float

    def streams(self, by_workload: bool = True) -> list[tuple[str, int, I64]]:
        """Workload, offering and rows of each stream, the one with most tokens first; unknown models too."""
        workload = np.zeros(len(self.table), np.int64)
        if by_workload and self.table.workload is not None:
            workload = self.table.workload.astype(np.int64)
        key = workload * (len(self.offerings) + 1) + self.serves + 1
        names = self.trace.names.get("workload", ("",))
        found = []
        for one in np.unique(key):
            rows = np.flatnonzero(key == one)
            code, offering = divmod(int(one), len(self.offerings) + 1)
            name = names[code] if by_workload and 0 <= code < len(names) else ""
            found.append((name, offering - 1, rows))
        return sorted(found, key=lambda one: -int(self.table.input_tok[one[2]].sum(dtype=np.int64)))

    def blocks_of(self, rows: I64) -> Blocks | None:
        """The prompts of rows as blocks of prefixes with their tokens; ``None`` where nothing is known."""
        if self.pieces is not None and self.tok is not None:
            return prefixes(*taken(self.pieces, self.tok, rows))
        if self.blocks is not None:
            if len(rows) == len(self.table):
                return self.blocks
            lengths = np.diff(self.blocks.offsets)[rows]
            offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
            return Blocks(
                offsets,
                _gathered(self.blocks.offsets, self.blocks.nodes, rows, offsets),
                _gathered(self.blocks.offsets, self.blocks.tok, rows, offsets),
                self.blocks.n_nodes,
            )
        return None


def prefixes(found: Pieces, tok: I32) -> Blocks:
    """Pieces as blocks of prefixes with the tokens that each has."""
    n = len(found.offsets) - 1
    chained = blocks(found.offsets, found.ids, np.zeros(n, np.int64), None)
    return Blocks(chained.offsets, chained.nodes, tok, chained.n_nodes)


def taken(found: Pieces, tok: I32, rows: I64) -> tuple[Pieces, I32]:
    """The pieces of some rows, and their tokens."""
    lengths = np.diff(found.offsets)[rows]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = _gathered(found.offsets, found.ids, rows, offsets)
    size = _gathered(found.offsets, found.size, rows, offsets)
    return Pieces(offsets, ids, size), _gathered(found.offsets, tok, rows, offsets)


def _gathered(old: I64, values: npt.NDArray[Number], rows: I64, offsets: I64) -> npt.NDArray[Number]:
    out = np.empty(int(offsets[-1]), values.dtype)
    compiled(gather)(old, values, np.asarray(rows, np.int64), out)
    return out


def read(trace: Trace, catalog: Catalog, on: date, now: str = "") -> Sent:
    """The requests of a trace that was opened with its prompts.

    ``now`` is today's model, where the log names none: ``openai/gpt-4.1``.

    Raises:
        BadTrace: no request that would be made again, or rows are sums over several.
        UnknownModel: neither ``now`` nor any model of the log is known.
    """
    whole = trace.requests()
    row = np.flatnonzero(np.isin(whole.outcome, [int(one) for one in DEMAND]) & (whole.input_tok > 0))
    if not len(row):
        raise BadTrace("no request that would be made again", where=trace.title)
    lots = _cut(trace)
    table = whole if len(row) == len(whole) else whole.take(row)
    del whole
    offerings, unknown, serves = _serves(catalog, on, trace, table, now)
    kind: Kind = "none"
    held: Pieces | None = None
    tok: I32 | None = None
    found: Blocks | None = None
    prompt = table.input_tok.astype(np.int64)
    if lots is not None:
        kind, held = "words", lots if len(row) == len(lots.offsets) - 1 else taken(lots, lots.size, row)[0]
        del lots
        tok = spread(held, prompt)
    elif table.block_ids is not None and table.block_offsets is not None and not trace.chained:
        kind = "parts"
        size = np.full(len(table.block_ids), max(1, trace.block_tok), np.int32)
        held = Pieces(table.block_offsets, table.block_ids.astype(np.int64), size)
        tok = spread(held, prompt)
    elif trace.block_tok:
        found = _blocks(table, prompt, trace.block_tok)
        kind = "none" if found is None else "prefixes"
    span = int(table.arrival_ns[-1] - table.arrival_ns[0])
    span_ns = span * len(table) / max(1, len(table) - 1)
    days = max(span_ns / NS_PER_DAY, 1e-9)
    months = DAYS_PER_MONTH / days if span else 0.0
    return Sent(
        trace, catalog, on, table, row, offerings, unknown, serves, kind, held, tok, found, days, months
    )


def _blocks(table: Chunk, prompt: I64, block_tok: int) -> Blocks | None:
    """All prompts of a table as blocks; numbered blocks are not copied."""
    if table.block_ids is None or table.block_offsets is None or table.block_ids.dtype != np.int32:
        return blocks_of(table, np.arange(len(table)), prompt, block_tok)
    return blocks(table.block_offsets, table.block_ids, prompt, block_tok, numbered=True)


def _cut(trace: Trace) -> Pieces | None:
    if trace.texts is None:
        return None
    return joined(pieces(words(text).data for text in lot) for lot in trace.texts())


def _serves(
    catalog: Catalog, on: date, trace: Trace, table: Chunk, now: str
) -> tuple[tuple[Offering, ...], tuple[str, ...], I32]:
    """Who serves each request today: offerings, names that are not known, and the code of each row."""
    at = catalog.at(on)
    if now:
        provider, _, bare = now.rpartition("/") if now.count("/") == 1 else ("", "", now)
        return (resolve(at, bare, provider),), (), np.zeros(len(table), np.int32)
    if table.model is None:
        return (), ("no model is named",), np.full(len(table), -1, np.int32)
    models, providers = trace.names["model"], trace.names.get("provider", ())
    hosted = np.full(len(table), -1) if table.provider is None else table.provider.astype(np.int64)
    pair = (table.model.astype(np.int64) + 1) * (len(providers) + 1) + hosted + 1
    found: dict[str, int] = {}
    offerings: list[Offering] = []
    unknown: list[str] = []
    distinct, back = np.unique(pair, return_inverse=True)
    codes = np.full(len(distinct), -1, np.int32)
    for k, one in enumerate(distinct):
        m, p = divmod(int(one), len(providers) + 1)
        model, host = models[m - 1] if m else "", providers[p - 1] if p else ""
        try:
            offering = resolve(at, model, host)
        except UnknownModel:
            unknown.append(f"{host}/{model}".strip("/") or "no name")
            continue
        if offering.id not in found:
            found[offering.id] = len(offerings)
            offerings.append(offering)
        codes[k] = found[offering.id]
    return tuple(offerings), tuple(unknown), codes[back]


def noon_ns(on: date) -> int:
    """Noon of a day (UTC) in ns: the moment at which today's prices are asked."""
    return int(datetime(on.year, on.month, on.day, 12, tzinfo=UTC).timestamp()) * NS_PER_S
