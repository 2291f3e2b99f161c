"""OpenAI-style JSON: chat completions or responses with ``usage``, bare, in batch results or in log rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.schema import Finding, Need
from isocost.trace.sql import literal, number, utc_ns

_PLACES = ((), ("response", "body"), ("response",), ("body",), ("completion",), ("result", "message"))
"""Where a row may hold the answer object: the row itself, or inside a batch result or a log row."""

_TIMES = ("created", "created_at", "timestamp", "ts", "time", "start_time", "request_time")


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        row = row.get(step) if isinstance(row, dict) else None
    return row


def _place(head: Head) -> tuple[str, ...] | None:
    for path in _PLACES:
        for row in head.sample:
            usage = _at(row, (*path, "usage"))
            if isinstance(usage, dict) and {"prompt_tokens", "input_tokens"} & set(usage):
                return path
    return None


def knows(head: Head) -> bool:
    """A ``usage`` object with prompt or input tokens."""
    return head.kind in ("jsonl", "json") and _place(head) is not None


def _get(*path: str) -> str:
    steps = "".join(f'."{step}"' for step in path)
    return f"(json->>{literal('$' + steps)})"


def _first(*expressions: str) -> str:
    return f"coalesce({', '.join(expressions)})"


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Counts from ``usage`` in either spelling; a failed call without usage counts as zero tokens."""
    place = _place(head) or ()

    def usage(*path: str) -> str:
        return number(_get(*place, "usage", *path))

    # Anthropic's usage leaves what was read from or written to its cache out of input_tokens; OpenAI's
    # never has these two fields, so adding them where they are keeps input_tok the count of all input.
    read, write = usage("cache_read_input_tokens"), usage("cache_creation_input_tokens")
    whole = _first(
        usage("prompt_tokens"), f"{usage('input_tokens')} + coalesce({read}, 0) + coalesce({write}, 0)"
    )
    output = _first(usage("completion_tokens"), usage("output_tokens"))
    kept = usage("cache_creation", "ephemeral_1h_input_tokens")
    # Audio has prices of its own; of the cached part only the details' own details say how much is audio.
    ins = ("prompt_tokens_details", "input_tokens_details")
    outs = ("completion_tokens_details", "output_tokens_details")
    heard = _first(*(usage(one, "audio_tokens") for one in ins))
    replayed = _first(*(usage(one, "cached_tokens_details", "audio_tokens") for one in ins))
    spoken = _first(*(usage(one, "audio_tokens") for one in outs))
    status = names.failed(
        _first(_get(*place, "status"), _get("status"), _get("response", "status_code"), "'ok'")
    )
    error = f"coalesce({_get('error')}, {_get(*place, 'error')})"
    failed = f"CASE WHEN {error} IS NOT NULL AND {error} NOT IN ('null', '') THEN 1 ELSE {status} END"
    times = [_get(*path, name) for path in dict.fromkeys((place, ())) for name in _TIMES]
    time = _first(*times)
    seconds = number(time)
    columns = {
        # Unix seconds in OpenAI's fields, milliseconds in some loggers' (from 1e11 on), a text in others'.
        "arrival_ns": (
            f"CASE WHEN {seconds} IS NULL THEN {utc_ns(time)} WHEN {seconds} >= 1e11 THEN "
            f"TRY_CAST({seconds} * 1e6 AS BIGINT) ELSE TRY_CAST({seconds} * 1e9 AS BIGINT) END"
        ),
        "input_tok": f"CASE WHEN ({failed}) > 0 THEN coalesce({whole}, 0) ELSE {whole} END",
        "output_tok": f"CASE WHEN ({failed}) > 0 THEN coalesce({output}, 0) ELSE {output} END",
        "cached_tok": _first(
            usage("prompt_tokens_details", "cached_tokens"),
            usage("input_tokens_details", "cached_tokens"),
            read,
        ),
        "cache_write_tok": _first(
            f"CASE WHEN {write} IS NOT NULL THEN greatest({write} - coalesce({kept}, 0), 0) END",
            usage("prompt_tokens_details", "cache_write_tokens"),
            usage("input_tokens_details", "cache_write_tokens"),
        ),
        "cache_write_1h_tok": f"nullif({kept}, 0)",
        "audio_input_tok": f"nullif(greatest({heard} - coalesce({replayed}, 0), 0), 0)",
        "audio_cached_tok": f"nullif({replayed}, 0)",
        "audio_output_tok": f"nullif({spoken}, 0)",
        "web_searches": f"nullif({usage('server_tool_use', 'web_search_requests')}, 0)",
        "reasoning_tok": _first(
            usage("completion_tokens_details", "reasoning_tokens"),
            usage("output_tokens_details", "reasoning_tokens"),
        ),
        "model": names.text(_first(_get(*place, "model"), _get("model"))),
        "provider": names.text(_get("provider")),
        "tenant": names.text(_tenant(place)),
        "session": names.text(
            _first(
                _get(*place, "conversation", "id"), _get(*place, "metadata", "session_id"), _get("session_id")
            )
        ),
        # A row of a batch result was billed at the batch price, whatever tier its answer names.
        "tier": "'batch'" if place == ("response", "body") else names.tier(_get(*place, "service_tier")),
        "region": names.text(_get("region")),
        "request_id": names.text(_first(_get(*place, "id"), _get("custom_id"))),
        "failed": failed,
    }
    needs = _needs(head, place)
    if needs:
        columns["needs"] = needs
    for role in ("ttft_s", "e2e_s", "deadline_s"):
        column = names.guess(head, role)
        if column is not None:
            columns[role] = names.seconds(head, column)
    found = Finding(
        "found", "answers_at", f"answers with usage are at {'.'.join(place) or 'the top of each row'}"
    )
    spelled = {
        "arrival_ns": "created",
        "input_tok": "usage.prompt_tokens",
        "output_tok": "usage.completion_tokens",
    }
    return Scan(columns, findings=(found,), spelled=spelled)


def _tenant(place: tuple[str, ...]) -> str:
    return _first(_get(*place, "user"), _get("user"), _get(*place, "safety_identifier"), _get("tenant"))


def _needs(head: Head, place: tuple[str, ...]) -> str:
    """SQL of the :class:`Need` bits that an answer or the request beside it shows; empty: none."""

    def logged(*fields: tuple[str, ...]) -> list[str]:
        paths = [(*path, *field) for path in dict.fromkeys((place, (), ("request",))) for field in fields]
        return [_get(*path) for path in paths if any(_at(row, path) is not None for row in head.sample)]

    terms = []
    tools = logged(("tools",))
    if tools:
        test = " OR ".join(f"coalesce(json_array_length({one}), 0) > 0" for one in tools)
        terms.append(f"CASE WHEN {test} THEN {int(Need.TOOLS)} ELSE 0 END")
    formats = logged(("response_format", "type"), ("text", "format", "type"))
    if formats:
        test = " OR ".join(f"coalesce({one}, '') IN ('json_schema', 'json_object')" for one in formats)
        terms.append(f"CASE WHEN {test} THEN {int(Need.STRUCTURED)} ELSE 0 END")
    return " + ".join(terms)


def by(head: Head) -> Mapping[str, str]:
    """Model, user, and whatever scalar the rows or their ``metadata`` carry."""
    place = _place(head) or ()
    mine = {
        "model": names.text(_first(_get(*place, "model"), _get("model"))),
        "tenant": names.text(_tenant(place)),
        "user": names.text(_tenant(place)),
        "tag": names.text(_first(_get(*place, "metadata", "tag"), _get("tag"))),
    }
    for path in dict.fromkeys(((*place, "metadata"), ("metadata",), ())):
        for row in head.sample:
            found = _at(row, path)
            if isinstance(found, dict):
                for name, value in found.items():
                    if isinstance(value, str | int) and not isinstance(value, bool):
                        mine.setdefault(name, names.text(_get(*path, name)))
    return mine


READER = Reader("openai", knows, scan, by, prefer=("workload", "feature", "tag", "key_alias"))
