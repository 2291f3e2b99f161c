"""From a reader's SELECT to a trace: validate once, sort, encode texts, then hand out chunks."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isocost.errors import BadTrace
from isocost.trace.clock import clock_findings
from isocost.trace.head import Head
from isocost.trace.kernels import chain, compiled, unroll
from isocost.trace.parts import split
from isocost.trace.schema import NAMED, WHO, Chunk, Clock, Finding, Trace, Unread
from isocost.trace.sql import at_once, literal, relation
from isocost.trace.words import Words, lots
from isocost.units import plural

if TYPE_CHECKING:
    import duckdb

CHUNK_ROWS = 1_000_000
CHUNK_BLOCKS = 16_000_000
MOST_MEMORY = "1500MB"
MEMORY_LIMIT: Mapping[str, str] = {"parquet": "600MB"}
"""DuckDB spills to disk above this; above the most where a row is text, which may be of many megabytes."""
WORDS_LIMIT, READ_LIMIT = "600MB", "80MB"
"""With the words of prompts, which are read a lot at a time: meanwhile, and then."""

BAD_SHARE = 0.01
"""Share of rows that may be unusable before the log is refused: more says that it was misread."""

RETRY_WINDOW_NS = 600 * 1_000_000_000
"""A call of the same session this soon after a failed one counts as its repeat."""

INPUT_PARTS = ("cached_tok", "cache_write_tok", "cache_write_1h_tok", "audio_input_tok")
COUNTS = (
    *INPUT_PARTS,
    "reasoning_tok",
    "audio_cached_tok",
    "audio_output_tok",
    "web_searches",
    "context_tok",
)
_WHOLE: Mapping[str, str] = {
    **dict.fromkeys(INPUT_PARTS, "input_tok"),
    "audio_cached_tok": "coalesce(cached_tok, 0)",
    **dict.fromkeys(("reasoning_tok", "audio_output_tok"), "output_tok"),
}
"""What a count is part of, and is capped at."""
TIMES = ("deadline_s", "ttft_s", "e2e_s")


_READABLE = (
    "Write counts in digits alone, 1234",
    "Write times as 2026-11-01T10:00:00Z or in seconds since 1970",
)
_NEEDED = ("arrival_ns", "input_tok", "output_tok")
_UNUSABLE = " OR ".join(f"{name} IS NULL" for name in _NEEDED)


@dataclass(frozen=True)
class Scan:
    """How one format becomes requests: a SQL expression over the file's columns for each of ours.

    ``columns`` may name: arrival_ns (BIGINT), input_tok, output_tok and ``COUNTS`` (DOUBLE), ``count``
    (BIGINT: the rows of a usage report), the texts of ``NAMED`` and ``WHO``, needs, prompt_key, deadline_s,
    ttft_s, e2e_s, billed_usd, request_id (text), failed (0 ok, 1 error, 2 cancelled,
    5 answered by a proxy's cache), blocks (BIGINT[]),
    shared (BIGINT: ``blocks`` follow the first ``shared`` blocks of the same ``chain_key``'s last request).
    ``source`` replaces the file as the relation, with ``{file}`` standing for it. ``chained``: block ids
    already name whole prefixes.
    """

    columns: Mapping[str, str]
    clock: Clock = "utc"
    block_tok: int = 0
    chained: bool = True
    source: str = "{file}"
    findings: tuple[Finding, ...] = ()
    doubts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Rows to count and doubt: code to (SQL test over the file, what is said after their number)."""
    workload: str = ""
    """The one workload of all rows, where no column names workloads."""
    spelled: Mapping[str, str] = field(default_factory=dict)
    """What our columns are called in the file, for messages."""


def ingest(head: Head, scan: Scan, *, reader: str, title: str, lenient: bool = False) -> Trace:
    """Read the file once into a sorted table; the trace reads its chunks from there.

    ``lenient``: rows that cannot be requests are left out, however many, and listed in ``unread``.

    Raises:
        BadTrace: rows that cannot be requests, with the first line and what to do.
    """
    import duckdb

    spill = tempfile.mkdtemp(prefix="isocost-")
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"SET memory_limit = '{MEMORY_LIMIT.get(head.kind, MOST_MEMORY)}'")
    words = None
    if "prompt" in scan.columns:
        con.execute("SET threads = 1")
        if head.kind == "jsonl":
            con.execute(f"SET memory_limit = '{WORDS_LIMIT}'")
        words = Words(Path(spill))
    con.execute(f"SET temp_directory = {literal(spill)}")
    con.execute("SET preserve_insertion_order = true")
    con.execute("SET enable_progress_bar = false")
    if con.execute("SELECT 1 FROM duckdb_optimizers() WHERE name = 'type_pushdown'").fetchone():
        # It would have a CSV reader cast, which leaves out the rows that a TRY_CAST is to keep, as NULL.
        con.execute("SET disabled_optimizers = 'type_pushdown'")
    table = _Table(con, head, scan, words, lenient=lenient)
    weakref.finalize(table, shutil.rmtree, spill, ignore_errors=True)
    table.stage()
    findings = [*scan.findings, *table.check()]
    findings += table.settle()
    if words is not None:
        con.execute(f"SET memory_limit = '{READ_LIMIT}'")
    if "count" not in table.present:
        findings += clock_findings(table.arrivals(), scan.clock)
    if "cached_tok" in table.present:
        text = "billed cache reads are evidence of reuse at that provider, not of a self-hosted hit rate"
        findings.append(Finding("found", "billed_cache", text))
    names = table.names
    if scan.workload:
        names["workload"] = (scan.workload,)
    columns = frozenset(
        {*table.present, "workload"} - {"arrival_ns", "input_tok", "output_tok", "request_id"}
    )
    return Trace(
        title=title, digest=_digest(head.path), names=names, columns=_public(columns), read=table.read,
        block_tok=scan.block_tok, findings=tuple(findings), reader=reader, clock=scan.clock,
        unread=tuple(table.unread), texts=table.texts if words is not None else None,
    )  # fmt: skip


def _public(columns: frozenset[str]) -> frozenset[str]:
    """Names of the chunk's optional columns."""
    renamed = {"failed": "outcome", "blocks": "block_ids"}
    return frozenset(renamed.get(name, name) for name in columns if name not in ("shared", "chain_key")) | {
        "line"
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@dataclass
class _Table:
    """The rows of one file in a DuckDB database of their own; ``present`` are the columns with a value."""

    con: duckdb.DuckDBPyConnection
    head: Head
    scan: Scan
    words: Words | None = None
    present: frozenset[str] = frozenset()
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rows: int = 0
    chunk_rows: int = 0
    rejected: tuple[int, ...] = ()
    lenient: bool = False
    unread: list[Unread] = field(default_factory=list)

    def stage(self) -> None:
        """Load the file's rows, in its order, under our names; find out which columns hold anything."""
        import duckdb

        asked = {name: sql for name, sql in self.scan.columns.items() if name != "prompt"}
        columns = {"failed": "0", **asked} if "failed" in asked else asked
        tests = {f"is_{code}": test for code, (test, _) in self.scan.doubts.items()}
        select = ", ".join(f"{expression} AS {name}" for name, expression in {**columns, **tests}.items())
        try:
            held = self.words
            for k, lot in enumerate([relation(self.head)] if held is None else lots(self.head, held.folder)):
                source = self.scan.source.replace("{file}", lot)
                rows = "SELECT {} FROM {}".format(*at_once(select, source))
                rows = split(rows, columns) if "count" in columns else rows
                self._load(f"INSERT INTO staged {rows}" if k else f"CREATE TABLE staged AS {rows}")
                if held is not None:
                    held.take(self.con, f"SELECT {self.scan.columns['prompt']} FROM {source}")
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            lacking = re.search(r'Referenced column "([^"]+)" not found', first)
            if lacking:
                what = f"no column {lacking[1]!r}, which a log that is read in this way has"
                fix = f"Leave out --format, or name another. Columns found: {', '.join(self.head.columns)}"
                raise BadTrace(what, where=str(self.head.path), fix=fix) from None
            raise BadTrace(f"cannot be read ({first})", where=str(self.head.path)) from None
        counts = self._one(", ".join(f"count({name}) AS {name}" for name in columns))
        self.present = frozenset(name for name, n in counts.items() if n)
        if self.head.kind == "csv":
            lines = self.con.execute(
                "SELECT line, min(error_message) FROM reject_errors GROUP BY 1 ORDER BY 1"
            ).fetchall()
            self.rejected = tuple(int(row[0]) for row in lines)
            self.unread += [Unread(int(line), str(said).splitlines()[0]) for line, said in lines]

    def _load(self, statement: str) -> None:
        import duckdb

        try:
            self.con.execute(statement)
        except duckdb.OutOfMemoryException:
            # A row of many megabytes.
            self.con.execute(f"SET memory_limit = '{MOST_MEMORY}'")
            self.con.execute(statement)

    def check(self) -> list[Finding]:
        """Look at every column once for what cannot be, then keep the rows that can.

        Raises:
            BadTrace: negative or NaN tokens, out-of-range values, or too many rows that are none.
        """
        missing = [name for name in ("arrival_ns", "input_tok", "output_tok") if name not in self.present]
        total = int(self._one("count(*) AS n")["n"])
        if missing and total:
            called = ", ".join(f"{self._called(name)}{self._such(name)}" for name in missing)
            raise BadTrace(
                f"no row has a readable value in {called}",
                where=str(self.head.path),
                fix=f"{_READABLE[missing[0] == 'arrival_ns']}. {self._map_fix()}",
            )
        counted = [name for name in ("input_tok", "output_tok", *COUNTS) if name in self.present]
        self._set_aside(counted)
        wrong = {
            **{f"neg_{n}": f"{n} < 0 OR isnan({n})" for n in counted},
            **{f"big_{n}": f"{n} > 2147483647" for n in counted},
        }
        for name in TIMES:
            if name in self.present:
                wrong[f"minus_{name}"] = f"{name} < 0"
        if "cached_tok" in self.present:
            wrong["over_cached"] = "cached_tok > input_tok"
        if "reasoning_tok" in self.present:
            wrong["over_reasoning"] = "reasoning_tok > output_tok"
        done = "failed = 0" if "failed" in self.present else "true"
        wrong |= {
            "unusable": _UNUSABLE,
            "early": "arrival_ns < 0",
            "no_output": f"output_tok = 0 AND {done}",
            "no_input": f"input_tok = 0 AND {done}",
            **{f"is_{code}": f"is_{code}" for code in self.scan.doubts},
        }
        found = self._one(
            ", ".join(
                f"count(*) FILTER (WHERE {test}) AS n_{key}, min(rowid) FILTER (WHERE {test}) AS at_{key}"
                for key, test in wrong.items()
            )
        )
        for key in wrong:
            kind, _, column = key.partition("_")
            if not found[f"n_{key}"] or kind not in ("neg", "big", "early"):
                continue
            value = self.con.execute(
                f"SELECT {column or 'arrival_ns'} FROM staged WHERE rowid = $1", [found[f"at_{key}"]]
            ).fetchone()
            shown = "a time before 1970" if kind == "early" else f"{value[0]:g}" if value else "?"
            n = int(found[f"n_{key}"])
            raise BadTrace(
                f"{self._called(column or 'arrival_ns')} is {shown} ({n:,} of {plural(total, 'row')} so)",
                where=f"{self.head.path}:{self._line(int(found[f'at_{key}']))}",
                fix="Tokens must be from 0 to 2,147,483,647 and times after 1970: mend or remove the row",
            )
        return self._unusable(found, total) + self._odd(found)

    def _set_aside(self, counted: list[str]) -> None:
        """List rows that cannot be requests; where any number may be left out, blank what they hold."""
        tests = {f"no readable {self._called(n)}": f"{n} IS NULL" for n in _NEEDED}
        if self.lenient:
            for n in counted:
                tests[f"{self._called(n)} is below zero or no number"] = f"{n} < 0 OR isnan({n})"
                tests[f"{self._called(n)} is above 2,147,483,647"] = f"{n} > 2147483647"
            tests[f"{self._called('arrival_ns')} is before 1970"] = "arrival_ns < 0"
        case = " ".join(f"WHEN {test} THEN {literal(text)}" for text, test in tests.items())
        wrong = f"SELECT rowid AS r, CASE {case} END AS why FROM staged WHERE {' OR '.join(tests.values())}"
        rows = self.con.execute(f"{wrong} ORDER BY 1").fetchall()
        self.unread = sorted([*self.unread, *(Unread(self._line(int(row)), str(why)) for row, why in rows)])
        if rows and self.lenient:
            blank = ", ".join(f"{name} = NULL" for name in ("arrival_ns", *counted))
            self.con.execute(f"UPDATE staged SET {blank} WHERE {' OR '.join(tests.values())}")

    def _unusable(self, found: Mapping[str, Any], total: int) -> list[Finding]:
        bad = int(found["n_unusable"]) + len(self.rejected)
        if not bad:
            return []
        usable = total - int(found["n_unusable"])
        rows = self.con.execute(f"SELECT rowid FROM staged WHERE {_UNUSABLE} LIMIT 5").fetchall()
        at = sorted([*(self._line(int(row[0])) for row in rows), *self.rejected[:5]])[:5]
        if usable == 0 or (not self.lenient and bad > max(1.0, BAD_SHARE * (total + len(self.rejected)))):
            raise BadTrace(
                f"{bad:,} of {plural(total + len(self.rejected), 'row')} cannot be read as a request"
                " (a time, input tokens and output tokens)",
                where=f"{self.head.path}:{at[0]}",
                fix="Mend or remove the rows, or name the columns with --map",
            )
        shown = ", ".join(str(line) for line in at) + (" ..." if bad > len(at) else "")
        text = plural(
            bad,
            f"row could not be read and is left out: line {shown}",
            f"rows could not be read and are left out: lines {shown}",
        )
        return [Finding("doubt", "unreadable_rows", text, bad)]

    def _odd(self, found: Mapping[str, Any]) -> list[Finding]:
        findings = []
        for key, code, text in (
            ("no_output", "no_output", "calls ended well with no output tokens"),
            ("no_input", "no_input", "calls ended well with no input tokens"),
            (
                "over_cached",
                "cached_over_input",
                "rows count more cached tokens than input; cached is capped",
            ),
            (
                "over_reasoning",
                "reasoning_over_output",
                "rows count more reasoning tokens than output; capped",
            ),
        ):
            n = int(found.get(f"n_{key}") or 0)
            if n:
                findings.append(Finding("doubt", code, f"{n:,} {text}", n))
        for code, (_, text) in self.scan.doubts.items():
            n = int(found[f"n_is_{code}"])
            if n:
                findings.append(Finding("doubt", code, f"{n:,} {text}", n))
        for name in TIMES:
            n = int(found.get(f"n_minus_{name}") or 0)
            if n:
                findings.append(
                    Finding(
                        "doubt",
                        "negative_time",
                        f"{plural(n, 'row has', 'rows have')} a negative {name}: left out",
                        n,
                    )
                )
        return findings

    def settle(self) -> list[Finding]:
        """Sort, encode texts as codes, mark duplicates and repeats; drop what was staged."""
        findings = []
        back = self._int(
            "SELECT count(*) FILTER (WHERE a < l) FROM "
            "(SELECT arrival_ns AS a, lag(arrival_ns) OVER () AS l FROM staged WHERE arrival_ns IS NOT NULL)"
        )
        if back:
            findings.append(
                Finding(
                    "doubt", "clock_order", f"the clock goes backwards at {plural(back, 'row')}; sorted", back
                )
            )
        duplicate = "false"
        if "request_id" in self.present:
            self.con.execute(
                "CREATE TABLE twice AS SELECT r FROM (SELECT rowid AS r, row_number() OVER "
                "(PARTITION BY request_id ORDER BY rowid) AS n FROM staged WHERE request_id IS NOT NULL)"
                " WHERE n > 1"
            )
            twice = self._int("SELECT count(*) FROM twice")
            if twice:
                duplicate = "s.rowid IN (SELECT r FROM twice)"
                text = plural(
                    twice,
                    "row repeats a request id; it is neither served nor billed twice",
                    "rows repeat a request id; they are neither served nor billed twice",
                )
                findings.append(Finding("doubt", "duplicate_ids", text, twice))
        else:
            findings += self._twins()
        # The look-up of repeated ids is a join, after which rows come in any order.
        self._encode(duplicate, ordered=not back and duplicate == "false")
        self.con.execute("DROP TABLE staged")
        findings += self._repeats()
        served = (
            self._int("SELECT count(*) FROM requests WHERE outcome = 5") if "failed" in self.present else 0
        )
        if served:
            text = plural(served, "call was", "calls were")
            text += " answered by a proxy's own cache: demand that no provider billed"
            findings.append(Finding("found", "answered_by_cache", text, served))
        self.rows = self._int("SELECT count(*) FROM requests")
        self.chunk_rows = CHUNK_ROWS
        if "blocks" in self.present:
            blocks = "len(blocks) + coalesce(shared, 0)" if "shared" in self.present else "len(blocks)"
            mean = max(1.0, self._int(f"SELECT coalesce(sum({blocks}), 0) FROM requests") / max(1, self.rows))
            self.chunk_rows = max(1_000, min(CHUNK_ROWS, int(CHUNK_BLOCKS / mean)))
        return findings

    def _twins(self) -> list[Finding]:
        same = [name for name in ("arrival_ns", "input_tok", "output_tok", "model", "session", "tenant",
                                  "prompt_key", "blocks") if name in self.present]  # fmt: skip
        if not same:
            return []
        twins = self._int(
            "SELECT coalesce(sum(n - 1), 0) FROM"
            f" (SELECT count(*) AS n FROM staged GROUP BY {', '.join(same)} HAVING n > 1)"
        )
        if not twins:
            return []
        text = plural(twins, "row equals", "rows equal")
        text += " an earlier row in every column read; kept, as the log has no request id"
        return [Finding("doubt", "equal_rows", text, twins)]

    def _encode(self, duplicate: str, *, ordered: bool) -> None:
        has = self.present
        for name in [*NAMED, *WHO, "chain_key"]:
            if name not in has:
                continue
            self.con.execute(
                f"CREATE TYPE e_{name} AS ENUM (SELECT {name} FROM staged WHERE {name} IS NOT NULL "
                "GROUP BY 1 ORDER BY min(rowid))"
            )
            if name in (*NAMED, *WHO):
                found = self.con.execute(f"SELECT unnest(enum_range(NULL::e_{name}))").fetchall()
                self.names[name] = tuple(str(row[0]) for row in found)
        failed = "coalesce(failed, 0)" if "failed" in has else "0"
        columns = {
            "arrival_ns": "arrival_ns",
            "input_tok": "round(input_tok)::INTEGER",
            "output_tok": "round(output_tok)::INTEGER",
            "outcome": f"(CASE WHEN {duplicate} THEN 4 ELSE {failed} END)::TINYINT",
            "line": "s.place" if "count" in has else "s.rowid",
        }
        for name in COUNTS:
            if name in has:
                most = (
                    f"least(coalesce({name}, 0), {_WHOLE[name]})"
                    if name in _WHOLE
                    else f"coalesce({name}, 0)"
                )
                columns[name] = f"round({most})::INTEGER"
        if "count" in has:
            columns["count"] = "coalesce(count, -1)::BIGINT"
        for name in [*NAMED, *WHO, "chain_key"]:
            if name in has:
                columns[name] = f"coalesce(enum_code({name}::e_{name})::INTEGER, -1)"
        for name in TIMES:
            if name in has:
                columns[name] = f"(CASE WHEN {name} >= 0 THEN {name} ELSE 'nan' END)::FLOAT"
        if "needs" in has:
            columns["needs"] = "coalesce(needs, 0)::USMALLINT"
        if "prompt_key" in has:
            columns["prompt_key"] = "coalesce(prompt_key, -1)::BIGINT"
        if "billed_usd" in has:
            columns["billed_usd"] = "coalesce(billed_usd, 'nan')::DOUBLE"
        if "blocks" in has:
            columns["blocks"] = "coalesce(blocks, [])::BIGINT[]"
        if "shared" in has:
            columns["shared"] = "coalesce(shared, 0)::BIGINT"
        select = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
        order = "" if ordered else " ORDER BY s.arrival_ns, s.rowid"
        self.con.execute(
            f"CREATE TABLE requests AS SELECT {select} FROM staged s WHERE s.arrival_ns IS NOT NULL "
            f"AND s.input_tok IS NOT NULL AND s.output_tok IS NOT NULL{order}"
        )

    def _repeats(self) -> list[Finding]:
        """Mark failed calls that repeat a failed one; count those that a later call made good."""
        key = "session" if "session" in self.present else "prompt_key" if "prompt_key" in self.present else ""
        failed = self._int("SELECT count(*) FROM requests WHERE outcome = 1")
        if not failed:
            return []
        findings = [
            Finding(
                "found",
                "failed_calls",
                plural(failed, "call failed; it is not demand", "calls failed; they are not demand"),
                failed,
            )
        ]
        if not key:
            return findings
        self.con.execute(
            "CREATE TABLE chains AS SELECT rowid AS r, outcome, arrival_ns - lag(arrival_ns) OVER w AS gap,"
            f" lag(outcome) OVER w AS before FROM requests WHERE {key} >= 0 AND outcome IN (0, 1)"
            f" AND {key} IN (SELECT DISTINCT {key} FROM requests WHERE outcome = 1)"
            f" WINDOW w AS (PARTITION BY {key} ORDER BY arrival_ns, rowid)"
        )
        soon = f"before = 1 AND gap <= {RETRY_WINDOW_NS}"
        repeat = f"SELECT r FROM chains WHERE {soon} AND outcome = 1"
        again = self._int(f"SELECT count(*) FROM ({repeat})")
        mended = self._int(f"SELECT count(*) FROM chains WHERE {soon} AND outcome = 0")
        if again:
            self.con.execute(f"UPDATE requests SET outcome = 3 WHERE rowid IN ({repeat})")
        if again or mended:
            text = f"{mended:,} failed calls were repeated with success within 10 min, {again:,} in vain"
            findings.append(Finding("found", "retries", text, again + mended))
        return findings

    def read(self) -> Iterator[Chunk]:
        """The rows as chunks, in order of arrival."""
        has = self.present
        plain = ["arrival_ns", "input_tok", "output_tok", "outcome", "line"]
        plain += [n for n in (*COUNTS, *NAMED, *WHO, *TIMES, "needs", "prompt_key", "billed_usd", "count")
                  if n in has]  # fmt: skip
        with_suffix = "shared" in has
        extra = ["len(blocks)::BIGINT AS n_blocks"] if "blocks" in has else []
        extra += ["shared", "chain_key"] if with_suffix else []
        held, starts = self._lists() if with_suffix else (None, None)
        for lo in range(0, self.rows, self.chunk_rows):
            span = f"FROM requests WHERE rowid >= {lo} AND rowid < {lo + self.chunk_rows}"
            cursor = self.con.cursor()
            got: dict[str, Any] = cursor.execute(f"SELECT {', '.join(plain + extra)} {span}").fetchnumpy()
            columns = {name: np.asarray(got[name]) for name in plain}
            columns["line"] = self._lines(columns["line"])
            if self.scan.workload:
                columns["workload"] = np.zeros(len(columns["line"]), np.int32)
            if "blocks" in has:
                ids = cursor.execute(f"SELECT unnest(blocks) AS id {span}").fetchnumpy()["id"]
                ids = np.asarray(ids, np.int64)
                offsets = _offsets(np.asarray(got["n_blocks"], np.int64))
                if held is not None and starts is not None:
                    key, shared = np.asarray(got["chain_key"], np.int64), np.asarray(got["shared"])
                    whole = _offsets(shared + np.diff(offsets))
                    out = np.empty(whole[-1], np.int64)
                    compiled(unroll)(held, starts, key, shared, offsets, ids, out)
                    ids, offsets = out, whole
                elif not self.scan.chained:
                    out = np.empty_like(ids)
                    compiled(chain)(offsets, ids, out)
                    ids = out
                columns["block_offsets"], columns["block_ids"] = offsets, ids
            cursor.close()
            yield Chunk(**columns)

    def texts(self) -> Iterator[list[str]]:
        """The words of prompts, in the order of the rows, some at a time."""
        if self.words is not None:
            got = self.con.cursor().execute("SELECT line FROM requests ORDER BY rowid").fetchnumpy()["line"]
            yield from self.words.read(np.asarray(got, np.int64))

    def arrivals(self) -> Iterator[np.ndarray[Any, Any]]:
        """Arrivals alone (ns), in chunks."""
        for lo in range(0, self.rows, CHUNK_ROWS):
            span = f"FROM requests WHERE rowid >= {lo} AND rowid < {lo + CHUNK_ROWS}"
            yield np.asarray(
                self.con.cursor().execute(f"SELECT arrival_ns {span}").fetchnumpy()["arrival_ns"]
            )

    def _lists(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A buffer for the current block list of every chain key, and where each list starts in it."""
        longest = self.con.execute(
            "SELECT max(shared + len(blocks))::BIGINT AS n FROM requests"
            " GROUP BY chain_key ORDER BY chain_key"
        ).fetchnumpy()["n"]
        offsets = _offsets(np.asarray(longest, np.int64))
        return np.zeros(int(offsets[-1]), np.int64), offsets[:-1]

    def _one(self, select: str) -> dict[str, Any]:
        got = self.con.execute(f"SELECT {select} FROM staged")
        return dict(zip([c[0] for c in got.description or ()], got.fetchone() or (), strict=True))

    def _int(self, query: str) -> int:
        return int((self.con.execute(query).fetchone() or (0,))[0])

    def _line(self, row: int) -> int:
        if "count" in self.present:
            row = self._int(f"SELECT place FROM staged WHERE rowid = {row}")
        return int(self._lines(np.array([row]))[0])

    def _lines(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The place in the file of staged rows: a header counts as a line, rejected lines as well."""
        if self.head.kind != "csv":
            return rows.astype(np.int64) + 1
        places = rows.astype(np.int64) + 2
        for line in self.rejected:
            places += places >= line
        return places

    def _called(self, name: str) -> str:
        return repr(self.scan.spelled.get(name, name.removesuffix("_ns")))

    def _such(self, name: str) -> str:
        """The first value of a column that is one of the file's, as it stands there; else nothing."""
        column = self.scan.spelled.get(name, name.removesuffix("_ns"))
        held = (row.get(column) for row in self.head.sample)
        value = next((str(one) for one in held if one not in (None, "")), "")
        return f" (such as {value[:40]!r})" if value else ""

    def _map_fix(self) -> str:
        found = ", ".join(self.head.columns)
        return f"Or name other columns, --map arrival=...,input_tok=...,output_tok=..., of {found}"


def _offsets(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
