"""Helicone's requests, exported by its tool or API as JSONL, JSON or CSV.

Schema: «Export Data» and «Get Requests» (docs.helicone.ai/tools/export, docs.helicone.ai/rest/request/
post-v1requestquery-clickhouse) and the query behind them (Helicone/helicone,
valhalla/jawn/src/lib/stores/request/request.ts). No tier, no region and no reasoning count; cache writes do
not say how long they live, and the tool's CSV has no cached tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import field, rows, rows_source
from isocost.trace.schema import Finding, Outcome
from isocost.trace.sql import number, utc_ns

_NONE_ID = "00000000-0000-0000-0000-000000000000"


def knows(head: Head) -> bool:
    """The request's and the response's times beside token counts."""
    need = ("request_created_at", "response_status", "prompt_tokens", "completion_tokens")
    if head.kind in ("csv", "parquet"):
        return head.has(*need)
    return head.kind != "metrics" and any(all(one in row for one in need) for row in rows(head))


def _model(head: Head) -> str:
    return names.text(field(head, "model_override", "response_model", "model", "request_model"))


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """One row is one call through the proxy."""

    def count(*spellings: str) -> str:
        return number(field(head, *spellings))

    read, write = count("prompt_cache_read_tokens"), count("prompt_cache_write_tokens")
    # Helicone's counts exclude each other: its own totals add cache reads and writes to prompt tokens.
    whole = f"{count('prompt_tokens')} + coalesce({read}, 0) + coalesce({write}, 0)"
    answer = count("completion_tokens")
    status = number(field(head, "response_status"))
    # Codes below zero are Helicone's own, for calls without an answer.
    # What the proxy's own cache answered was demand, but no provider was asked and nobody billed it.
    hit = f"coalesce({field(head, 'cache_reference_id')}, '{_NONE_ID}') NOT IN ('{_NONE_ID}', 'DEFAULT_UUID')"
    failed = (
        f"CASE WHEN {status} = 499 THEN 2 WHEN {status} < 0 OR {status} >= 400 THEN 1 "
        f"WHEN {hit} THEN {int(Outcome.CACHED)} ELSE 0 END"
    )
    columns = {
        "arrival_ns": utc_ns(field(head, "request_created_at")),
        "input_tok": f"CASE WHEN ({failed}) IN (1, 2) THEN coalesce({whole}, 0) ELSE {whole} END",
        "output_tok": f"CASE WHEN ({failed}) IN (1, 2) THEN coalesce({answer}, 0) ELSE {answer} END",
        "cached_tok": read,
        "cache_write_tok": write,
        "model": _model(head),
        "provider": f"lower({names.text(field(head, 'provider'))})",
        "tenant": names.text(field(head, "request_user_id", "helicone_user")),
        "session": names.text(_property(head, "Helicone-Session-Id")),
        "request_id": names.text(field(head, "request_id", "response_id")),
        "billed_usd": count("cost", "costUSD", "cost_usd"),
        "ttft_s": f"{count('time_to_first_token')} / 1e3",
        "e2e_s": f"CASE WHEN ({failed}) = 0 THEN {count('delay_ms', 'latency')} / 1e3 END",
        "failed": failed,
    }
    doubts = {
        "short_writes": (
            f"coalesce({write}, 0) > 0",
            "calls do not say how long their cache writes live and count as 5-minute ones",
        ),
    }
    found = [
        Finding("found", "exclusive_input", "prompt tokens leave out cached ones (Helicone); they are added")
    ]
    if read == number("NULL"):
        text = (
            "this export does not count cached tokens: cached input is missing from it; export JSONL instead"
        )
        found = [Finding("doubt", "no_cached", text)]
    spelled = {
        "arrival_ns": "request_created_at",
        "input_tok": "prompt_tokens",
        "output_tok": "completion_tokens",
    }
    dull = (number("NULL"), names.text("NULL"), f"{number('NULL')} / 1e3", f"lower({names.text('NULL')})")
    return Scan(
        {name: sql for name, sql in columns.items() if sql not in dull},
        source="{file}" if head.kind in ("csv", "parquet") else rows_source(head),
        findings=tuple(found), doubts=doubts, spelled=spelled,
    )  # fmt: skip


def _property(head: Head, name: str) -> str:
    """SQL: one of the custom properties that callers attach."""
    bag = field(head, "request_properties", "properties")
    return "NULL" if bag == "NULL" else f"(TRY_CAST({bag} AS JSON)->>'$.\"{name}\"')"


def by(head: Head) -> Mapping[str, str]:
    """Model, user, and the custom properties of the sample."""
    mine = {
        "model": _model(head),
        "tenant": names.text(field(head, "request_user_id", "helicone_user")),
        "provider": names.text(field(head, "provider")),
    }
    for row in rows(head):
        for bag in ("request_properties", "properties"):
            found = row.get(bag)
            for name in found if isinstance(found, dict) else ():
                if "'" not in name and '"' not in name:
                    mine.setdefault(name, names.text(_property(head, name)))
    return {name: sql for name, sql in mine.items() if sql != names.text("NULL")}


READER = Reader("helicone", knows, scan, by, prefer=("workload", "feature", "app", "appname"))
