"""Open anyone's log as a trace: find its format, its columns and what is doubtful in it."""

from __future__ import annotations

import gzip
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from isocost.errors import BadTrace
from isocost.trace.head import Head, look
from isocost.trace.ingest import Scan, ingest
from isocost.trace.readers import (
    Reader,
    anthropic_usage,
    azure,
    azure_monitor,
    bailian,
    bedrock,
    burstgpt,
    coding,
    generic,
    helicone,
    langfuse,
    litellm,
    mooncake,
    names,
    openai,
    openai_usage,
    openrouter,
    otel,
    ragpulse,
    servegen,
    vllm,
)
from isocost.trace.schema import WHO, Finding, Trace
from isocost.trace.sql import relation
from isocost.trace.wording import wording

READERS: tuple[Reader, ...] = (
    azure.READER,
    mooncake.READER,
    bailian.READER,
    burstgpt.READER,
    litellm.READER,
    servegen.READER,
    ragpulse.READER,
    coding.READER,
    vllm.READER,
    openai_usage.READER,
    anthropic_usage.READER,
    bedrock.READER,
    azure_monitor.READER,
    langfuse.READER,
    otel.READER,
    openrouter.READER,
    helicone.READER,
    openai.READER,
    generic.READER,
)
"""Tried in this order; the generic reader takes what no other knows."""

WHO_NAMES: Mapping[str, tuple[str, ...]] = {
    "account": ("account", "project_id", "workspace_id", "account_id", "project", "workspace",
                "subscription_id", "organization", "team_id", "team"),
    "credential": ("credential", "api_key_id", "key_alias", "api_key_name", "api_key", "key_id", "key",
                   "user_api_key_alias", "user_api_key"),
    "deployment": ("deployment", "deployment_name", "deployment_id", "model_group", "endpoint_id",
                   "resource_id"),
}  # fmt: skip
"""What accounts, credentials and deployments are called in logs, best first."""

_MOST_WORKLOADS = 50
_FIRST_ROWS, _FIRST_BYTES = 2_000, 16 << 20
_NOTHING = "(none)"


def open_trace(
    path: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    workload_by: str | None = None,
    task_by: str | None = None,
    fmt: str | None = None,
    lenient: bool = False,
    who: bool = False,
    prompts: bool = False,
) -> Trace:
    """Read a log as requests: CSV, JSONL or Parquet, its format found by its columns.

    ``mapping`` names columns (``{"input_tok": "prompt_tokens", "arrival": "ts:ms"}``) and implies the
    generic reader. ``workload_by`` is the column whose values are the workloads (``key_alias``, ``tag``,
    ``model``, ``tenant`` …, or a column of the file); without it a column made for that is taken, else the
    whole file is one workload. ``task_by`` likewise is the column whose values are the tasks within a
    workload; without it a column of that name is taken beside one of workloads. ``fmt`` forces a reader by
    name. The trace's findings say what was found, guessed and doubted. ``lenient`` leaves out every row that
    cannot be a request, where else more than one in a hundred is taken for a misread log; ``Trace.unread``
    lists them. ``who`` also reads the columns of ``WHO``, under the first of the names that people give them;
    ``prompts`` the words of prompts, where the log has them (``Trace.texts``).

    Raises:
        BadTrace: in one line, where and what to type.
    """
    head = look(Path(path))
    columns = {role: column for role, column in (mapping or {}).items() if role not in WHO}
    reader = _reader(head, fmt, bool(columns))
    scan = reader.scan(head, columns)
    title = head.path.name.removesuffix(".gz").rpartition(".")[0] or head.path.name
    scan, findings = _with_workload(head, reader, scan, workload_by, title)
    if task_by is not None:
        scan = replace(scan, columns={**scan.columns, "task": _column_sql(head, reader, task_by, "tasks")})
    if who:
        scan = _with_who(head, reader, scan, mapping or {})
    alone = prompts and "blocks" in scan.columns and not scan.chained
    if alone:
        scan = replace(scan, chained=True)
    if prompts and (words := wording(head, reader.name)) is not None:
        scan = replace(scan, columns={**scan.columns, "prompt": words})
    if scan.clock == "relative":
        text = "times count from the log's start: date and weekday are unknown; taken to begin a Monday 00:00"
        findings.append(Finding("guessed", "relative_clock", text))
    scan = replace(scan, findings=(*scan.findings, *findings))
    found = ingest(head, scan, reader=reader.name, title=title, lenient=lenient)
    return replace(found, chained=not alone)


def _reader(head: Head, fmt: str | None, mapped: bool) -> Reader:
    if fmt is not None:
        for reader in READERS:
            if reader.name == fmt:
                return reader
        every = [one.name for one in READERS]
        near = get_close_matches(fmt, every, n=1)
        fix = f"Did you mean {near[0]}?" if near else f"Readers: {', '.join(every)}"
        raise BadTrace(f"no reader {fmt!r}", where="--format", fix=fix)
    if mapped:
        return generic.READER
    return next(reader for reader in READERS if reader.knows(head))


def _with_workload(
    head: Head, reader: Reader, scan: Scan, asked: str | None, title: str
) -> tuple[Scan, list[Finding]]:
    choices = dict(reader.by(head))
    if asked is not None:
        return _named(scan, _column_sql(head, reader, asked, "workloads")), []
    for name in reader.prefer:
        if name in choices and _tells_apart(head, scan, choices[name]):
            text = f"workloads are taken from {name} (else --workload-by COLUMN)"
            return _named(scan, choices[name]), [Finding("guessed", "workload_by", text)]
    columns = {name: sql for name, sql in scan.columns.items() if name != "workload"}
    others = [
        name
        for name in choices
        if name in ("key_alias", "tag", "model", "tenant", "user", "team", "call_type")
    ]
    hint = f" (else --workload-by {'|'.join(others)})" if others else ""
    found = Finding("guessed", "workload_by", f"all requests are one workload, {title!r}{hint}")
    return replace(scan, columns=columns, workload=title), [found]


def _column_sql(head: Head, reader: Reader, asked: str, what: str) -> str:
    """SQL of what a reader, or the file itself, calls ``asked``.

    Raises:
        BadTrace: neither knows it.
    """
    choices = reader.by(head)
    sql = next((sql for name, sql in choices.items() if name.lower() == asked.lower()), None)
    column = head.column(asked)
    if sql is None and column is not None:
        sql = names.text(names.value(head, column))
    if sql is None:
        raise BadTrace(
            f"cannot tell {what} apart by {asked!r}",
            where=str(head.path),
            fix=f"It has: {', '.join(sorted({*choices, *head.columns}))}",
        )
    return sql


def _named(scan: Scan, sql: str) -> Scan:
    return replace(scan, columns={**scan.columns, "workload": f"coalesce({sql}, '{_NOTHING}')"})


def _with_who(head: Head, reader: Reader, scan: Scan, mapping: Mapping[str, str]) -> Scan:
    """The scan with accounts, credentials and deployments, as far as the file names any."""
    choices = {names.plain(name): sql for name, sql in reader.by(head).items()}
    found: dict[str, str] = {}
    for role, spellings in WHO_NAMES.items():
        for spelling in (*((mapping[role],) if role in mapping else ()), *spellings):
            sql = choices.get(names.plain(spelling))
            column = head.column(spelling)
            if sql is None and column is not None:
                sql = names.text(names.value(head, column))
            if sql is not None:
                found[role] = sql
                break
    return replace(scan, columns={**scan.columns, **found})


def _tells_apart(head: Head, scan: Scan, sql: str) -> bool:
    """Whether the first rows hold a value mostly, two to fifty different ones."""
    import duckdb

    with ExitStack() as held_open:
        con = held_open.enter_context(duckdb.connect())
        con.execute("SET threads = 1")
        first = (
            replace(head, path=held_open.enter_context(_beginning(head.path)))
            if head.kind == "jsonl"
            else head
        )
        source = scan.source.replace("{file}", f"(SELECT * FROM {relation(first)} LIMIT {_FIRST_ROWS})")
        found = con.execute(
            f"SELECT count(DISTINCT v), count(v), count(*) FROM (SELECT {sql} AS v FROM {source})"
        ).fetchone()
    different, held, rows = found or (0, 0, 0)
    return bool(2 <= different <= _MOST_WORKLOADS and 2 * held >= rows)


def _up_to(lines: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Lines of so many bytes together, and the one that goes beyond."""
    held = 0
    for line in lines:
        yield line
        held += len(line)
        if held > most:
            return


@contextmanager
def _beginning(path: Path) -> Iterator[Path]:
    """The first lines of a file as a file: a database would read, and parse, far more of it at a time."""
    opener = gzip.open if path.suffix == ".gz" else open
    with tempfile.TemporaryDirectory(prefix="isocost-") as folder:
        part = Path(folder) / "first.jsonl"
        with opener(path, "rb") as whole, part.open("wb") as few:
            few.writelines(itertools.islice(_up_to(whole, _FIRST_BYTES), _FIRST_ROWS))
        yield part
