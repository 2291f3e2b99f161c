"""A log whose times count from its own start, as if it had begun on a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

from isocost.errors import BadInput
from isocost.trace.schema import ANCHOR_NS, Chunk, Trace
from isocost.units import NS_PER_S


def starting(trace: Trace, on: str) -> Trace:
    """The trace with its clock set: what was its start is 00:00 UTC of the day ``on``.

    Raises:
        BadInput: not a day, or a log that has dates of its own.
    """
    try:
        day = date.fromisoformat(on)
    except ValueError:
        raise BadInput(f"{on!r} is no day", where="--at", fix="Type one like 2026-10-01") from None
    if trace.clock != "relative":
        raise BadInput("the log has dates of its own", where=trace.title, fix="Leave out --at")
    moved = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * NS_PER_S - ANCHOR_NS

    def read() -> Iterator[Chunk]:
        for chunk in trace.chunks():
            yield replace(chunk, arrival_ns=chunk.arrival_ns + moved)

    return replace(trace, clock="utc", read=read)
