"""Anthropic's usage report for messages: buckets of a minute, an hour or a day, of the Admin API.

Schema: «Get Messages Usage Report» (platform.claude.com/docs/en/api/admin/usage_report) and «Usage and Cost
API» (platform.claude.com/docs/en/build-with-claude/usage-cost-api).
The report has no number of requests, no single request and no reasoning count; what was not asked for with
``group_by[]`` is null in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import REPORT, cut_off, get, key, results, results_source
from isocost.trace.schema import Finding
from isocost.trace.sql import number, utc_ns


def knows(head: Head) -> bool:
    """Results with input tokens named as uncached."""
    return any("uncached_input_tokens" in one for one in results(head))


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """A result is a row: the sums of one bucket and group, at the bucket's start."""
    # The four counts of input exclude each other, while our input_tok counts all input.
    plain = number(get("uncached_input_tokens"))
    read = number(get("cache_read_input_tokens"))
    written = number(get("cache_creation", "ephemeral_5m_input_tokens"))
    kept = number(get("cache_creation", "ephemeral_1h_input_tokens"))
    whole = " + ".join([plain, *(f"coalesce({part}, 0)" for part in (read, written, kept))])
    window, geo = get("context_window"), get("inference_geo")
    columns = {
        "arrival_ns": utc_ns(get("starting_at", of="bucket")),
        "input_tok": whole,
        "output_tok": number(get("output_tokens")),
        "cached_tok": read,
        "cache_write_tok": written,
        "cache_write_1h_tok": kept,
        "web_searches": number(get("server_tool_use", "web_search_requests")),
        "count": "-1::BIGINT",
        # The window is a range of lengths; its upper end falls into the same price band as all of it.
        "context_tok": f"CASE {window} WHEN '0-200k' THEN 200000 WHEN '200k-1M' THEN 1000000 ELSE 0 END",
        "model": names.text(get("model")),
        "provider": "'anthropic'",
        "tenant": names.text(f"coalesce({get('workspace_id')}, 'default')"),
        "tier": f"CASE WHEN {get('speed')} = 'fast' THEN 'fast' ELSE {names.tier(get('service_tier'))} END",
        "region": f"CASE WHEN {geo} NOT IN ('global', 'not_available') THEN {names.text(geo)} END",
        "request_id": _id(),
    }
    spelled = {
        "arrival_ns": "starting_at",
        "input_tok": "uncached_input_tokens",
        "output_tok": "output_tokens",
    }
    doubts = {
        "no_model": (
            f"{get('model')} IS NULL",
            "results name no model and cannot be priced: group_by[]=model",
        ),
        "no_tier": (
            f"{get('service_tier')} IS NULL",
            "results may hold batch usage, which costs less: group_by[]=service_tier",
        ),
        "no_context": (
            f"{window} IS NULL",
            "results do not say their context window and are priced as short: group_by[]=context_window",
        ),
    }
    text = "the report does not count requests: where requests are counted, a row counts as one"
    return Scan(
        columns,
        source=results_source(head),
        findings=(REPORT, Finding("doubt", "no_count", text), *cut_off(head)),
        doubts=doubts,
        spelled=spelled,
    )


def _id() -> str:
    """What tells a result apart: a page exported twice repeats it."""
    span = (get("starting_at", of="bucket"), get("ending_at", of="bucket"))
    groups = ("workspace_id", "api_key_id", "account_id", "service_account_id", "model", "service_tier",
              "context_window", "inference_geo", "speed")  # fmt: skip
    return key(*span, *(get(name) for name in groups))


def by(_head: Head) -> Mapping[str, str]:
    """Whatever the report was grouped by."""
    groups = ("workspace_id", "api_key_id", "model", "service_tier", "inference_geo")
    mine = {name: names.text(get(name)) for name in groups}
    return {**mine, "tenant": mine["workspace_id"]}


READER = Reader("anthropic-usage", knows, scan, by, prefer=("workspace_id",))
