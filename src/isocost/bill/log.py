"""What a bill of a log needs beside its prices: what the user states, and what the log says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from isocost.trace.schema import Chunk, Outcome, Trace
from isocost.units import usd_of


class Logged(msgspec.Struct, frozen=True):
    """What a log says of its calls: how many failed, were cancelled or are there twice, and its own amounts.

    ``billed_usd`` is the sum of the log's own amounts over all rows but duplicates and those that a proxy's
    cache answered, ``None`` where it holds none; ``billed_rows`` is how many rows have one. ``failed`` counts
    failed repeats too.
    """

    rows: int
    failed: int
    cancelled: int
    duplicates: int
    billed_usd: Decimal | None
    billed_rows: int


def stated(trace: Trace, *, model: str = "", tier: str = "", region: str = "") -> Trace:
    """The trace with what its rows do not say: ``tier`` and ``region`` where a row has none; with ``model``,
    every row at that model."""
    names = dict(trace.names)
    texts = {"tier": tier, "region": region}
    for column, text in texts.items():
        if text:
            names[column] = (*names.get(column, ()), text)
    if model:
        names["model"], names["provider"] = (model,), ()

    def filled(chunk: Chunk) -> Chunk:
        changed: dict[str, Any] = {}
        for column, text in texts.items():
            held = getattr(chunk, column)
            if text:
                held = np.full(len(chunk), -1, np.int32) if held is None else held
                changed[column] = np.where(held < 0, len(names[column]) - 1, held).astype(np.int32)
        if model:
            changed |= {"model": np.zeros(len(chunk), np.int32), "provider": None}
        return replace(chunk, **changed)

    def read() -> Iterator[Chunk]:
        return (filled(chunk) for chunk in trace.chunks())

    given = {column for column, text in texts.items() if text} | ({"model"} if model else set())
    columns = (trace.columns | given) - ({"provider"} if model else set())
    return replace(trace, names=names, columns=columns, read=read)


def logged(trace: Trace) -> Logged:
    """Count a log's outcomes and add up its own amounts, a chunk at a time; amounts to a femto-dollar."""
    rows = failed = cancelled = duplicates = billed_rows = fusd = 0
    for chunk in trace.chunks():
        number = np.bincount(chunk.outcome, minlength=len(Outcome))
        rows += len(chunk)
        failed += int(number[Outcome.ERROR] + number[Outcome.RETRY])
        cancelled += int(number[Outcome.CANCELLED])
        duplicates += int(number[Outcome.DUPLICATE])
        if chunk.billed_usd is not None:
            asked = ~np.isin(chunk.outcome, [int(Outcome.DUPLICATE), int(Outcome.CACHED)])
            mine = chunk.billed_usd[asked & np.isfinite(chunk.billed_usd)]
            billed_rows += len(mine)
            # The text of an amount has at most fifteen digits that count; a double gives them back.
            fusd += sum(int(Decimal(repr(usd)).scaleb(15)) for usd in mine.tolist())
    return Logged(
        rows, failed, cancelled, duplicates,
        usd_of(fusd) if billed_rows else None, billed_rows,
    )  # fmt: skip
