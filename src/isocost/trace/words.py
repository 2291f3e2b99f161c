"""The words of a log's prompts: kept in a file until they are read, never in memory together.

A database hands rows out by the two thousand, and holds each several times while it makes them: prompts of
100,000 characters would take gigabytes. So a log of lines is read some megabytes at a time where its words
are asked for.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from isocost.trace.head import Head
from isocost.trace.sql import relation

if TYPE_CHECKING:
    import duckdb

LOT_BYTES = 16 << 20
"""Bytes of a log that are read together: the database holds some twelve times that. Each lot takes 30 ms."""
TEXT_BYTES, TEXT_ROWS = 4 << 20, 2_000
"""Words that are handed out together."""

I64 = npt.NDArray[np.int64]


def lots(head: Head, folder: Path) -> Iterator[str]:
    """SQL: a log of lines as smaller ones, one after the other in one file of ``folder``; others whole."""
    if head.kind != "jsonl":
        yield relation(head)
        return
    part = folder / "lot.jsonl"
    opener = gzip.open if head.path.suffix == ".gz" else open
    with opener(head.path, "rb") as whole:
        while lines := whole.readlines(LOT_BYTES):
            with part.open("wb") as out:
                out.writelines(lines)
            yield relation(replace(head, path=part), max(LOT_BYTES, part.stat().st_size))
    part.unlink(missing_ok=True)


@dataclass
class Words:
    """Texts by number, in a file of ``folder`` as they came; ``ends`` are where each ends in it."""

    folder: Path
    ends: list[I64] = field(default_factory=list)
    size: int = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "words"

    def take(self, con: duckdb.DuckDBPyConnection, query: str) -> None:
        """Append the one column of a query's rows."""
        found = con.execute(query)
        with self.path.open("ab") as out:
            while rows := found.fetchmany(TEXT_ROWS):
                texts = [b"" if row[0] is None else str(row[0]).encode() for row in rows]
                out.writelines(texts)
                ends = self.size + np.cumsum([len(text) for text in texts], dtype=np.int64)
                self.ends.append(ends)
                self.size = int(ends[-1])

    def read(self, numbers: I64) -> Iterator[list[str]]:
        """Texts by their numbers, some at a time."""
        ends = np.concatenate([np.zeros(1, np.int64), *self.ends])
        start, stop = ends[numbers], ends[numbers + 1]
        sums = np.cumsum(stop - start)
        lo = 0
        with self.path.open("rb") as file:
            while lo < len(numbers):
                most = (sums[lo - 1] if lo else 0) + TEXT_BYTES
                hi = min(lo + TEXT_ROWS, max(lo + 1, int(np.searchsorted(sums, most, side="right"))))
                texts = []
                for a, b in zip(start[lo:hi].tolist(), stop[lo:hi].tolist(), strict=True):
                    file.seek(a)
                    texts.append(file.read(b - a).decode())
                yield texts
                lo = hi
