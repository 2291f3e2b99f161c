"""What people call the columns of a request log, and the units that their values show."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from isocost.trace.head import Head
from isocost.trace.schema import ANCHOR_NS, Clock
from isocost.trace.sql import count_ns, ident, literal, number, utc_ns

NAMES: dict[str, tuple[str, ...]] = {
    "arrival": (
        "arrival_ns", "arrival", "arrival_time", "arrived_at", "timestamp", "ts", "ts_s", "ts_ms",
        "timestamp_ms", "timestamp_s", "time", "datetime", "date_time", "start_time", "starttime",
        "started_at", "request_time", "request_start", "created", "created_at", "createdat", "event_time",
        "date", "t",
    ),
    "input_tok": (
        "input_tok", "in_tok", "input_tokens", "prompt_tokens", "n_input_tokens", "num_input_tokens",
        "num_prompt_tokens", "prompt_tok", "input_toks", "inputtokens", "prompttokens", "contexttokens",
        "context_tokens", "request_tokens", "tokens_in", "input_token_count", "prompt_token_count",
        "input_length", "input_len", "prompt_len", "prompt_length", "isl",
        "usage_prompt_tokens", "usage_input_tokens", "gen_ai_usage_input_tokens",
        "gen_ai_usage_prompt_tokens", "input",
    ),
    "output_tok": (
        "output_tok", "out_tok", "output_tokens", "completion_tokens", "n_output_tokens", "num_output_tokens",
        "num_completion_tokens", "num_generated_tokens", "completion_tok", "output_toks", "outputtokens",
        "completiontokens", "generatedtokens", "generated_tokens", "response_tokens", "tokens_out",
        "output_token_count", "candidates_token_count", "output_length", "output_len", "osl",
        "usage_completion_tokens", "usage_output_tokens", "gen_ai_usage_output_tokens",
        "gen_ai_usage_completion_tokens", "output",
    ),
    "cached_tok": (
        "cached_tok", "cached_tokens", "cache_read_input_tokens", "cache_read_tokens", "cached_input_tokens",
        "cached_prompt_tokens", "prompt_cached_tokens", "cached_content_token_count",
        "gen_ai_usage_cache_read_input_tokens",
    ),
    "cache_write_tok": (
        "cache_write_tok", "cache_creation_input_tokens", "cache_write_tokens", "cache_creation_tokens",
        "gen_ai_usage_cache_creation_input_tokens",
    ),
    "reasoning_tok": ("reasoning_tok", "reasoning_tokens", "thinking_tokens", "thoughts_token_count"),
    "workload": ("workload", "use_case", "usecase", "feature", "app", "application", "task"),
    "task": ("task", "task_name", "task_type"),
    "model": ("model", "model_name", "model_id", "gen_ai_request_model", "gen_ai_response_model",
              "deployment"),
    "provider": ("provider", "custom_llm_provider", "gen_ai_provider_name", "gen_ai_system", "vendor"),
    "tenant": ("tenant", "tenant_id", "customer", "customer_id", "organization", "org_id", "account", "team",
               "team_id", "user", "user_id"),
    "session": ("session", "session_id", "sessionid", "conversation", "conversation_id", "thread_id",
                "chat_id"),
    "tier": ("tier", "service_tier"),
    "region": ("region", "location", "cloud_region"),
    "deadline_s": ("deadline_s", "deadline", "deadline_ms"),
    "ttft_s": ("ttft_s", "ttft", "ttft_ms", "time_to_first_token", "time_to_first_token_ms", "first_token_s",
               "first_latency"),
    "e2e_s": ("e2e_s", "e2e", "e2e_ms", "latency", "latency_s", "latency_ms", "duration", "duration_s",
              "duration_ms", "elapsed", "elapsed_time", "total_time", "response_time", "response_time_ms",
              "request_duration_ms", "api_time_s"),
    "billed_usd": ("billed_usd", "cost_usd", "spend", "cost", "total_cost", "price_usd"),
    "request_id": ("request_id", "requestid", "req_id", "response_id", "call_id", "id"),
    "status": ("status", "status_code", "http_status", "outcome"),
    "prompt_key": ("prompt_key", "prompt_hash", "cache_key", "prompt_id", "prompt_sha256"),
}  # fmt: skip
"""Our columns, and the spellings under which they are recognised, best first."""

_PER_S: Mapping[str, float] = {
    "ns": 1e9,
    "us": 1e6,
    "ms": 1e3,
    "s": 1.0,
    "sec": 1.0,
    "min": 1 / 60,
    "h": 1 / 3600,
}


def plain(name: str) -> str:
    """A column name in lower case with one underscore between words."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    flat = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return flat


def guess(head: Head, role: str) -> str | None:
    """The file's column that most likely holds ``role``, or ``None``."""
    mine: dict[str, str] = {}
    for name in head.columns:
        mine.setdefault(plain(name), name)
        mine.setdefault(name.lower(), name)
        mine.setdefault(plain(name).replace("_", ""), name)
    for spelling in NAMES[role]:
        if spelling in mine:
            return mine[spelling]
    return None


def value(head: Head, column: str) -> str:
    """SQL: a column of the file; in a JSON file a key, or a dotted path to one."""
    if head.kind in ("csv", "parquet"):
        return ident(column)
    steps = [column] if column in head.columns else column.split(".")
    path = "".join('."' + step.replace('"', '\\"') + '"' for step in steps)
    return f"(json->>{literal('$' + path)})"


def samples(head: Head, column: str) -> list[Any]:
    """The sample's values of a column or dotted path that are not empty."""
    if column in head.columns:
        return head.values(column)
    found: list[Any] = []
    for row in head.sample:
        step: Any = row
        for part in column.split("."):
            step = step.get(part) if isinstance(step, dict) else None
        if step not in (None, ""):
            found.append(step)
    return found


def unit_of(column: str) -> str:
    """The time unit that a name ends in (``latency_ms`` is ``ms``), or an empty text."""
    last = plain(column).rpartition("_")[2]
    return last if last in _PER_S and "_" in plain(column) else ""


def arrival(head: Head, column: str, unit: str = "") -> tuple[str, Clock, str]:
    """SQL of ``arrival_ns``, its clock, and in words what was assumed (empty: nothing).

    Texts and timestamps are UTC unless they carry a zone. Numbers are told apart by size: from 1e8 on they
    count from 1970, in s, ms, µs or ns by magnitude; smaller ones count from the start of the log.
    """
    sql = value(head, column)
    kind = head.columns.get(column, "JSON")
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        zone = "" if "TIME ZONE" in kind else "times carry no zone and are read as UTC"
        return utc_ns(sql), "utc", zone
    seen = samples(head, column)
    numbers = [number for number in map(_float, seen) if number is not None]
    if len(numbers) < 0.5 * len(seen) or not seen:
        zoned = all(re.search(r"(Z|[+-]\d\d(:?\d\d)?)$", str(text).strip()) for text in seen)
        return utc_ns(sql), "utc", "" if zoned else "times carry no zone and are read as UTC"
    size = max(map(abs, numbers), default=0.0)
    if unit:
        relative = size / _PER_S[unit] < 1e8
        return (
            count_ns(sql, _PER_S[unit], ANCHOR_NS if relative else 0),
            "relative" if relative else "utc",
            "",
        )
    for name, floor in (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 1e8)):
        if size >= floor:
            return count_ns(sql, _PER_S[name]), "utc", f"{column!r} is read as {name} since 1970"
    named = unit_of(column)
    said = "" if named else f"{column!r} is read as seconds (else --map arrival={column}:ms)"
    return count_ns(sql, _PER_S[named or "s"], ANCHOR_NS), "relative", said


def seconds(head: Head, column: str, unit: str = "") -> str:
    """SQL of a duration in s; the unit as given, else as the name ends, else seconds."""
    per_s = _PER_S[unit or unit_of(column) or "s"]
    sql = number(value(head, column))
    return sql if per_s == 1.0 else f"{sql} / {per_s!r}"


def failed(sql: str) -> str:
    """SQL of how a call ended (0 ok, 1 error, 2 cancelled) from a status word or an HTTP code."""
    word = f"lower(trim(CAST({sql} AS VARCHAR)))"
    return (
        f"CASE WHEN {word} LIKE 'cancel%' OR {word} = '499' THEN 2 "
        f"WHEN {word} IN ('failure', 'failed', 'error', 'timeout', 'rate_limited', 'false') "
        f"OR TRY_CAST({word} AS INTEGER) >= 400 THEN 1 ELSE 0 END"
    )


def key_of(sql: str) -> str:
    """SQL: a text as a number of 63 bits, NULL where it is empty."""
    return f"CASE WHEN {sql} IS NOT NULL AND CAST({sql} AS VARCHAR) <> '' THEN (hash({sql}) >> 1)::BIGINT END"


def text(sql: str) -> str:
    """SQL: a text, NULL where it is empty."""
    return f"nullif(trim(CAST({sql} AS VARCHAR)), '')"


def tier(sql: str) -> str:
    """SQL: a service tier under the catalog's names; what providers call default is ``standard``."""
    word = f"lower({text(sql)})"
    return f"CASE WHEN {word} IN ('default', 'auto', 'on_demand') THEN 'standard' ELSE {word} END"


def is_unit(unit: str) -> bool:
    """Whether the text names a time unit."""
    return unit in _PER_S


def _float(x: Any) -> float | None:
    if isinstance(x, bool):
        return None
    try:
        number_ = float(x)
    except (TypeError, ValueError):
        return None
    return number_ if math.isfinite(number_) else None
