"""Rows inside JSON documents: pages of buckets of results, as usage APIs answer, and fields of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from isocost.trace.head import Head
from isocost.trace.schema import Finding
from isocost.trace.sql import ident, literal


def get(*path: str, of: str = "json") -> str:
    """SQL: the text at a path of a JSON column, NULL where it is absent."""
    steps = "".join(f'."{step}"' for step in path)
    return f"({of}->>{literal('$' + steps)})"


def spread(table: str, path: str, name: str, of: str = "json", keep: Mapping[str, str] | None = None) -> str:
    """SQL: a row for each element of a JSON array, called ``name``; no row where there is no array.

    ``keep`` are expressions over the whole that each row carries along: never the whole itself, as a page
    would then be held, and parsed, once for each of its rows.
    """
    kept = "".join(f", {sql} AS {alias}" for alias, sql in (keep or {}).items())
    names = "".join(f", {alias}" for alias in keep or ())
    elements = f"TRY_CAST({of}->{literal(path)} AS JSON[]) AS elements"
    return (
        f"(WITH whole AS MATERIALIZED (SELECT {elements}{kept} FROM {table}) "
        f"SELECT unnest(elements) AS {name}{names} FROM whole)"
    )


def dicts(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, or none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def buckets(head: Head) -> Iterator[Mapping[str, Any]]:
    """The sample's time buckets: of pages, or bare."""
    for row in head.sample if head.kind in ("jsonl", "json") else ():
        yield from dicts(row.get("data")) if "data" in row else (row,)


def results(head: Head) -> list[Mapping[str, Any]]:
    """The sample's results, of all buckets."""
    return [one for bucket in buckets(head) for one in dicts(bucket.get("results"))]


def results_source(head: Head) -> str:
    """SQL: the file's results as ``json``, each beside the span of its ``bucket``."""
    paged = any("data" in row for row in head.sample)
    table = spread("{file}", "$.data", "bucket") if paged else "(SELECT json AS bucket FROM {file})"
    names = ("start_time", "end_time", "starting_at", "ending_at")
    span = ", ".join(f"'{name}', bucket->'$.{name}'" for name in names)
    return spread(table, "$.results", "json", "bucket", {"bucket": f"json_object({span})"})


def field(head: Head, *spellings: str) -> str:
    """SQL: the text of the first of these columns or keys that a row has, NULL where it has none."""
    if head.kind not in ("csv", "parquet"):
        return f"coalesce({', '.join(get(one) for one in spellings)})"
    mine = [ident(name) for one in spellings if (name := head.column(one)) is not None]
    return (
        f"coalesce({', '.join(f'nullif(CAST({one} AS VARCHAR), {chr(39) * 2})' for one in mine)})"
        if mine
        else "NULL"
    )


def rows(head: Head) -> list[Mapping[str, Any]]:
    """The sample's rows: of ``{"data": [...]}`` pages, of ``{"data": {...}}`` answers, or bare."""
    found: list[Mapping[str, Any]] = []
    for row in head.sample:
        data = row.get("data")
        found += [data] if isinstance(data, dict) else dicts(data) if isinstance(data, list) else [row]
    return found


def rows_source(head: Head) -> str:
    """SQL: the rows of :func:`rows` as ``json``."""
    if any(isinstance(row.get("data"), list) for row in head.sample):
        return spread("{file}", "$.data", "json")
    if any(isinstance(row.get("data"), dict) for row in head.sample):
        return "(SELECT json->'$.data' AS json FROM {file})"
    return "{file}"


def inside(head: Head) -> Head:
    """The head of the rows of :func:`rows`, where a page holds them: its columns are theirs."""
    found = rows(head) if head.kind in ("jsonl", "json") else []
    if not any("data" in row for row in head.sample) or not found:
        return head
    columns = dict.fromkeys((key for row in found for key in row), "JSON")
    return replace(head, columns=columns, sample=tuple(dict(row) for row in found))


def cut_off(head: Head) -> tuple[Finding, ...]:
    """A doubt where the last page of the sample says that more pages follow."""
    pages = [row for row in head.sample if "has_more" in row]
    if not pages or pages[-1]["has_more"] is not True:
        return ()
    text = "the last page says that more follow (has_more): usage is missing at the end"
    return (Finding("doubt", "cut_off", text),)


def key(*parts: str) -> str:
    """SQL: one text of several, as the id of a row; a part that is absent counts as empty."""
    return " || '|' || ".join(f"coalesce({part}, '')" for part in parts)


REPORT = Finding(
    "found", "usage_report", "rows are sums over requests: they can be billed, not planned or replayed on"
)
