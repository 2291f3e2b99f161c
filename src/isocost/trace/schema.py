"""What a trace is: requests as columns, in chunks, with what is unknown left out.

A column that the log does not hold is ``None``, never zeros; a value that one row lacks is the
column's ``missing`` value. Text columns are int32 codes into ``Trace.names``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.errors import BadTrace
from isocost.trace.kernels import Numbers, compiled, gather
from isocost.units import NS_PER_DAY, NS_PER_S

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

NAMED = ("workload", "task", "model", "provider", "tenant", "session", "tier", "region")
WHO = ("account", "credential", "deployment")
"""Columns that are codes into ``Trace.names``; those of ``WHO`` are read where they are asked for."""


class Need(IntFlag):
    """What a request needs of whatever answers it."""

    NONE = 0
    IMAGE = 1
    AUDIO = 2
    TOOLS = 4
    STRUCTURED = 8
    REASONING = 16
    WEB_SEARCH = 32


class Outcome(IntEnum):
    """How a logged call ended. Only ``OK`` is a request to be served again; all may be billed."""

    OK = 0
    ERROR = 1
    CANCELLED = 2
    RETRY = 3
    """A failed call that repeats an earlier failed one; the repeat that succeeds is ``OK``."""
    DUPLICATE = 4
    """The same request id logged again: neither served nor billed twice."""
    CACHED = 5
    """Answered by a proxy's own cache: demand that no provider billed."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most a million requests, sorted by arrival; every array is of length n or ``None``.

    ``arrival_ns`` int64 since 1970 UTC. ``input_tok`` counts all input, cached included;
    ``cached_tok``, ``cache_write_tok`` (kept for the provider's short life) and
    ``cache_write_1h_tok`` (kept an hour) are separate parts of it as billed by the provider;
    ``output_tok`` includes ``reasoning_tok``. ``audio_input_tok`` is audio in the plain input,
    ``audio_cached_tok`` audio in ``cached_tok``, ``audio_output_tok`` audio in the output;
    ``web_searches`` are searches that the provider ran. Codes are int32 into ``Trace.names``, -1 missing.
    ``needs`` is a :class:`Need` bit set. Prefix blocks of request i are
    ``block_ids[block_offsets[i]:block_offsets[i+1]]`` (hash of the whole prefix up to and with
    that block; in a table a number from zero). ``prompt_key`` identifies the whole prompt (-1
    unknown). ``deadline_s``: how long the answer may take (NaN: interactive). ``ttft_s`` and
    ``e2e_s`` as measured, NaN missing.
    ``task`` is the kind of question, which policies may tell apart within a workload.
    ``line`` is the row's place in its file. ``account`` (project, workspace, subscription), ``credential``
    (the key) and ``deployment`` are what a contract or an invoice tells traffic apart by.

    A row of a usage report stands for several requests: ``count`` (int64) says for how many, -1
    where the report does not; a log of requests has no such column, and each row is one request.
    The tokens of such a row are sums, and its arrival is the start of its span. ``context_tok``
    is the length that price bands by length go by, where that is not ``input_tok``: always so
    in a usage report. Reports are billed as they are; a plan or a replay needs requests
    (:meth:`Trace.requests`). In a count column that the log has, a row without the
    count holds 0 (the reader's findings say how many).
    """

    arrival_ns: Int64
    input_tok: Int32
    output_tok: Int32
    outcome: npt.NDArray[np.int8]
    cached_tok: Int32 | None = None
    cache_write_tok: Int32 | None = None
    cache_write_1h_tok: Int32 | None = None
    reasoning_tok: Int32 | None = None
    audio_input_tok: Int32 | None = None
    audio_cached_tok: Int32 | None = None
    audio_output_tok: Int32 | None = None
    web_searches: Int32 | None = None
    count: Int64 | None = None
    context_tok: Int32 | None = None
    workload: Int32 | None = None
    task: Int32 | None = None
    model: Int32 | None = None
    provider: Int32 | None = None
    tenant: Int32 | None = None
    session: Int32 | None = None
    tier: Int32 | None = None
    region: Int32 | None = None
    account: Int32 | None = None
    credential: Int32 | None = None
    deployment: Int32 | None = None
    needs: npt.NDArray[np.uint16] | None = None
    block_offsets: Int64 | None = None
    block_ids: Int64 | Int32 | None = None
    prompt_key: Int64 | None = None
    deadline_s: Float32 | None = None
    ttft_s: Float32 | None = None
    e2e_s: Float32 | None = None
    billed_usd: npt.NDArray[np.float64] | None = None
    line: Int64 | None = None

    def __len__(self) -> int:
        return len(self.arrival_ns)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Chunk:
        """The chosen rows, blocks with them. ``rows``: indices or a mask of length n."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        picked: dict[str, object] = {}
        for spec in fields(self):
            if spec.name in ("block_offsets", "block_ids"):
                continue
            column = getattr(self, spec.name)
            picked[spec.name] = None if column is None else column[index]
        if self.block_offsets is not None and self.block_ids is not None:
            lengths = np.diff(self.block_offsets)[index]
            offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
            out = np.empty(offsets[-1], self.block_ids.dtype)
            compiled(gather)(self.block_offsets, self.block_ids, np.asarray(index, np.int64), out)
            picked["block_offsets"], picked["block_ids"] = offsets, out
        return Chunk(**picked)  # type: ignore[arg-type]


def numbered_sessions(table: Chunk, rows: Int64 | None = None) -> Int64 | None:
    """A number of each row's session (n,), from 0, -1 without one; ``None`` where the log names none. Of
    chosen ``rows`` the numbers hold among these only.

    A name that two tenants use is two sessions. Without tenants a session's number is its code.
    """
    if table.session is None:
        return None
    chosen = slice(None) if rows is None else rows
    codes = table.session[chosen].astype(np.int64)
    if table.tenant is None:
        return codes
    both = codes * (int(table.tenant.max(initial=-1)) + 2) + table.tenant[chosen] + 1
    has = codes >= 0
    out = np.full(len(codes), -1, np.int64)
    out[has] = np.unique(both[has], return_inverse=True)[1]
    return out


Level = Literal["found", "guessed", "doubt"]

Clock = Literal["utc", "relative"]
"""``relative``: the log counts from its own start, so neither date nor weekday is known."""

ANCHOR_NS = 4 * NS_PER_DAY
"""Where a relative clock starts: Monday 1970-01-05 00:00 UTC."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the reader found, guessed or doubts, in a sentence; ``rows`` it touches."""

    level: Level
    code: str
    text: str
    rows: int = 0


class Unread(NamedTuple):
    """A row of a log that cannot be a request: its line in the file, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Trace:
    """Requests of one log: a schema and a way to read its chunks, as often as is asked.

    ``names[column]`` are the texts that codes stand for. ``block_tok`` is the tokens a prefix
    block holds (0: no blocks). ``digest`` is a content hash of the file or of the parameters that
    generated it. ``columns`` are the optional columns that the log has. Arrivals of a trace whose
    ``clock`` is ``relative`` count from ``ANCHOR_NS``: they must not be used to look up a price.
    ``unread`` are the rows that were left out, in order of their lines. ``texts`` reads the words of prompts
    where they were asked for and the log has them: lists of JSON texts (blank where a row has none), together
    in the order of the chunks' rows. Block ids name whole prefixes, save where ``chained`` is false: there
    each names its own block alone, which is so only where prompts were asked for.
    """

    title: str
    digest: str
    names: Mapping[str, tuple[str, ...]]
    columns: frozenset[str]
    read: Callable[[], Iterator[Chunk]] = field(repr=False)
    block_tok: int = 0
    findings: tuple[Finding, ...] = ()
    reader: str = ""
    clock: Clock = "utc"
    unread: tuple[Unread, ...] = ()
    texts: Callable[[], Iterator[list[str]]] | None = field(default=None, repr=False)
    chained: bool = True

    def chunks(self) -> Iterator[Chunk]:
        """Read the log again, a chunk at a time, in order of arrival."""
        return self.read()

    def table(self) -> Chunk:
        """The whole trace as one chunk in memory; its prefix blocks are numbered from zero (int32)."""
        numbers = Numbers()
        return concat(tuple(_numbered(chunk, numbers) for chunk in self.chunks()))

    @property
    def aggregated(self) -> bool:
        """Whether rows stand for several requests each (a usage report)."""
        return "count" in self.columns

    def requests(self) -> Chunk:
        """The whole trace as one chunk in memory, for what needs single requests.

        A plan knows one kind of cache write, so those kept for an hour join the others here.

        Raises:
            BadTrace: rows are sums over several requests.
        """
        if self.aggregated:
            raise BadTrace(
                "a usage report: its rows are sums over many requests, and a plan needs each request",
                where=self.title,
                fix="Give a log of requests (a gateway's, a tracer's, spans); this report can be billed",
            )
        table = self.table()
        kept = table.cache_write_1h_tok
        if kept is None:
            return table
        written = kept if table.cache_write_tok is None else table.cache_write_tok + kept
        return replace(table, cache_write_tok=written, cache_write_1h_tok=None)

    def of(self, chunk: Chunk) -> Trace:
        """This trace with other rows (a selection already in memory)."""
        return replace(self, read=lambda: iter((chunk,)), texts=None)


def _numbered(chunk: Chunk, numbers: Numbers) -> Chunk:
    """The chunk with small numbers for its prefix blocks: half the memory, and nothing to look up later."""
    if chunk.block_ids is None or chunk.block_ids.dtype == np.int32:
        return chunk
    return replace(chunk, block_ids=numbers.feed(chunk.block_ids))


def concat(chunks: tuple[Chunk, ...]) -> Chunk:
    """Chunks end to end; columns must agree.

    Raises:
        BadTrace: there are no requests.
    """
    if not chunks:
        raise BadTrace("no requests", fix="Give a log with at least one row")
    if len(chunks) == 1:
        return chunks[0]
    joined: dict[str, object] = {}
    for spec in fields(Chunk):
        parts = [getattr(chunk, spec.name) for chunk in chunks]
        if any(part is None for part in parts):
            joined[spec.name] = None
        elif spec.name == "block_offsets":
            shifts = np.cumsum([0, *(part[-1] for part in parts[:-1])])
            tails = [part[1:] + shift for part, shift in zip(parts, shifts, strict=True)]
            joined[spec.name] = np.concatenate([np.zeros(1, np.int64), *tails])
        else:
            joined[spec.name] = np.concatenate(parts)
    return Chunk(**joined)  # type: ignore[arg-type]


def utc(arrival_ns: int) -> datetime:
    """An arrival as a UTC time."""
    return datetime.fromtimestamp(arrival_ns / NS_PER_S, tz=UTC)
