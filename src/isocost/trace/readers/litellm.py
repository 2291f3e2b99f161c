"""LiteLLM_SpendLogs, exported as CSV, JSONL or Parquet, or pages of its API (columns as in LiteLLM's
``schema.prisma``)."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import get, inside, rows_source
from isocost.trace.schema import Finding, Outcome
from isocost.trace.sql import number, utc_ns

_IN_METADATA = (
    "cached_tok", "cache_write_tok", "cache_write_1h_tok", "audio_input_tok", "audio_output_tok",
    "web_searches", "reasoning_tok",
)  # fmt: skip


def knows(head: Head) -> bool:
    """The table's own spelling of times and tokens, and one of its keys."""
    head = inside(head)
    return head.has("startTime", "prompt_tokens", "completion_tokens", "model") and (
        head.has("spend") or head.has("call_type") or head.has("api_key")
    )


def _column(head: Head, name: str) -> str:
    """SQL of a column, NULL where the export left it out."""
    mine = head.column(name)
    return "NULL" if mine is None else names.value(head, mine)


def _meta(head: Head, *path: str) -> str:
    """SQL of a value in the ``metadata`` JSON, at the first of ``path`` that is there."""
    if head.column("metadata") is None:
        return "NULL"
    return f"coalesce({', '.join(get(*one.split('.'), of='meta_') for one in path)}, NULL)"


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """One row is one call to a provider; the cached and reasoning counts sit in ``metadata``.

    LiteLLM adds Anthropic's cache reads and writes to ``prompt_tokens`` before it writes the row, so prompt
    tokens are all input here, whatever the provider.
    """
    held = rows_source(head) if head.kind in ("jsonl", "json") else "{file}"
    head = inside(head)
    ended = f"coalesce(nullif({_column(head, 'status')}, ''), {_meta(head, 'status')})"
    failed = names.failed(ended)
    if head.column("cache_hit") is not None:
        # What the proxy's own cache answered was demand, but no provider was asked and nobody billed it.
        hit = f"lower(CAST({_column(head, 'cache_hit')} AS VARCHAR)) = 'true'"
        failed = f"CASE WHEN {hit} AND ({failed}) = 0 THEN {int(Outcome.CACHED)} ELSE {failed} END"
    started, first, last = (
        utc_ns(_column(head, name)) for name in ("startTime", "completionStartTime", "endTime")
    )
    duration = f"nullif({last} - {started}, 0) / 1e9"
    written = number(_meta(
        head, "usage_object.cache_creation_input_tokens",
        "additional_usage_values.cache_creation_input_tokens",
        "usage_object.prompt_tokens_details.cache_creation_tokens",
        "usage_object.prompt_tokens_details.cache_write_tokens",
    ))  # fmt: skip
    kept = _detail(head, "prompt", "cache_creation_token_details.ephemeral_1h_input_tokens")
    searches = number(_meta(
        head, "usage_object.server_tool_use.web_search_requests",
        "usage_object.prompt_tokens_details.web_search_requests",
        "additional_usage_values.server_tool_use.web_search_requests",
    ))  # fmt: skip
    columns = {
        "arrival_ns": started,
        "input_tok": _count(head, "prompt_tokens", failed),
        "output_tok": _count(head, "completion_tokens", failed),
        "cached_tok": number(_meta(
            head, "usage_object.prompt_tokens_details.cached_tokens", "usage_object.cache_read_input_tokens",
            "additional_usage_values.prompt_tokens_details.cached_tokens",
            "additional_usage_values.cache_read_input_tokens",
        )),
        # An hour-long write costs more than a short one; the sum of both is beside them.
        "cache_write_tok": f"greatest({written} - coalesce({kept}, 0), 0)",
        "cache_write_1h_tok": f"nullif({kept}, 0)",
        "audio_input_tok": f"nullif({_detail(head, 'prompt', 'audio_tokens')}, 0)",
        "audio_output_tok": f"nullif({_detail(head, 'completion', 'audio_tokens')}, 0)",
        "web_searches": f"nullif({searches}, 0)",
        "reasoning_tok": _detail(head, "completion", "reasoning_tokens"),
        "model": names.text(_column(head, "model")),
        "provider": names.text(_column(head, "custom_llm_provider")),
        "tenant": names.text(f"coalesce(nullif({_column(head, 'team_id')}, ''), {_column(head, 'user')})"),
        "session": names.text(_column(head, "session_id")),
        "tier": _tier(head),
        "request_id": names.text(_column(head, "request_id")),
        "failed": failed,
        # The first token's time equals the end where nothing was streamed: that is no measurement of TTFT.
        "ttft_s": f"CASE WHEN {first} < {last} AND {first} > {started} THEN ({first} - {started}) / 1e9 END",
        "e2e_s": f"CASE WHEN ({failed}) = 0 AND {last} > {started} THEN {duration} END",
        "billed_usd": number(_column(head, "spend")),
        "prompt_key": names.key_of(f"nullif({_column(head, 'cache_key')}, 'Cache OFF')"),
    }  # fmt: skip
    spelled = {"arrival_ns": "startTime", "input_tok": "prompt_tokens", "output_tok": "completion_tokens"}
    found = Finding("found", "litellm", "LiteLLM spend logs: prompt tokens count all input, cached included")
    columns = {
        name: sql
        for name, sql in columns.items()
        if sql not in (number("NULL"), names.text("NULL"))
        and (head.column("metadata") is not None or name not in _IN_METADATA)
    }
    if head.column("cache_key") is None:
        columns.pop("prompt_key")
    source = held
    if head.column("metadata") is not None:
        source = f"(SELECT *, TRY_CAST({_column(head, 'metadata')} AS JSON) AS meta_ FROM {held})"
    return Scan(columns, source=source, findings=(found,), spelled=spelled)


def _detail(head: Head, side: str, name: str) -> str:
    """SQL of a count in the details of the prompt's or the completion's tokens."""
    found = f"{side}_tokens_details.{name}"
    return number(_meta(head, f"usage_object.{found}", f"additional_usage_values.{found}"))


def _tier(head: Head) -> str:
    """SQL of the tier: batch calls by their type, else what the provider's usage names."""
    named = names.tier(_meta(head, "usage_object.service_tier", "additional_usage_values.service_tier"))
    return f"CASE WHEN {_column(head, 'call_type')} LIKE '%batch%' THEN 'batch' ELSE {named} END"


def _count(head: Head, name: str, failed: str) -> str:
    sql = number(_column(head, name))
    return f"CASE WHEN ({failed}) > 0 THEN coalesce({sql}, 0) ELSE {sql} END"


def by(head: Head) -> Mapping[str, str]:
    """Key alias and first tag, then the table's other keys."""
    head = inside(head)
    tags = f"TRY_CAST({_column(head, 'request_tags')} AS JSON)->>'$[0]'"
    mine = {
        "key_alias": names.text(
            f"coalesce({_column(head, 'key_alias')}, {_meta(head, 'user_api_key_alias')})"
            if head.column("key_alias") else _meta(head, "user_api_key_alias")
        ),
        "tag": names.text(tags),
        "model": names.text(_column(head, "model")),
        "model_group": names.text(_column(head, "model_group")),
        "tenant": names.text(f"coalesce(nullif({_column(head, 'team_id')}, ''), {_column(head, 'user')})"),
        "team": names.text(f"coalesce({_meta(head, 'user_api_key_team_alias')}, {_column(head, 'team_id')})"),
        "user": names.text(_column(head, "user")),
        "end_user": names.text(_column(head, "end_user")),
        "provider": names.text(_column(head, "custom_llm_provider")),
        "call_type": names.text(_column(head, "call_type")),
    }  # fmt: skip
    return {
        name: sql
        for name, sql in mine.items()
        if sql not in (names.text("NULL"), names.text("NULL->>'$[0]'"))
    }


READER = Reader("litellm", knows, scan, by, prefer=("key_alias", "tag"))
