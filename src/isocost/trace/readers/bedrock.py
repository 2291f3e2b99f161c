"""Amazon Bedrock's model invocation logs, as written to S3 or CloudWatch: one JSON object a call.

Schema: «Monitor model invocation using CloudWatch Logs and Amazon S3»
(docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html); cache counts beside
``inputTokenCount``. The log has no price, no user beyond the caller's identity, no time to first token, and
no service tier; calls of batch jobs are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import dicts, get
from isocost.trace.schema import Finding
from isocost.trace.sql import number, utc_ns

_BODY = ("output", "outputBodyJson")


def _wrapped(row: Mapping[str, Any]) -> bool:
    """Whether the record lies as JSON in the ``message`` of a CloudWatch event."""
    return "modelId" not in row and "ModelInvocationLog" in str(row.get("message", ""))


def knows(head: Head) -> bool:
    """The record's own schema type, or its model beside the token counts."""
    if head.kind not in ("jsonl", "json"):
        return False
    return any(
        _wrapped(row)
        or row.get("schemaType") == "ModelInvocationLog"
        or ("modelId" in row and isinstance(row.get("input"), dict) and "inputTokenCount" in row["input"])
        for row in dicts(list(head.sample))
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """One row is one call; a call with an error code counts as failed, with no tokens if none are logged."""
    source = "{file}"
    if any(_wrapped(row) for row in head.sample):
        source = "(SELECT TRY_CAST(json->>'$.message' AS JSON) AS json FROM {file})"
    read, write = (number(get("input", f"cache{kind}InputTokenCount")) for kind in ("Read", "Write"))
    plain, output = number(get("input", "inputTokenCount")), number(get("output", "outputTokenCount"))
    parts = f"coalesce({read}, 0) + coalesce({write}, 0)"
    # Bedrock leaves cached and written tokens out of the input count; only OpenAI's models there keep
    # their own count, which includes them.
    openai = f"{get('modelId')} LIKE '%openai.%'"
    whole = f"CASE WHEN {openai} THEN {plain} ELSE {plain} + {parts} END"
    # How long writes live stands in the answer only: as Anthropic says it, or in Converse's list by life.
    lives = get(*_BODY, "usage", "cacheDetails")
    each = f"TRY_CAST({lives} AS JSON[])"
    hour = f"list_sum([TRY_CAST(one->>'$.inputTokens' AS DOUBLE) for one in {each} if one->>'$.ttl' = '1h'])"
    said = number(get(*_BODY, "usage", "cache_creation", "ephemeral_1h_input_tokens"))
    kept = f"coalesce({said}, CASE WHEN {lives} IS NOT NULL THEN coalesce({hour}, 0) END)"
    brief = f"CASE WHEN {write} IS NOT NULL THEN greatest({write} - coalesce({kept}, 0), 0) END"
    failed = f"CASE WHEN {get('errorCode')} IS NOT NULL THEN 1 ELSE 0 END"
    columns = {
        "arrival_ns": utc_ns(get("timestamp")),
        "input_tok": f"CASE WHEN ({failed}) > 0 THEN coalesce({whole}, 0) ELSE {whole} END",
        "output_tok": f"CASE WHEN ({failed}) > 0 THEN coalesce({output}, 0) ELSE {output} END",
        "cached_tok": read,
        "cache_write_tok": brief,
        "cache_write_1h_tok": f"nullif({kept}, 0)",
        # An ARN of a profile or deployment ends in the model's id.
        "model": names.text(f"regexp_extract({get('modelId')}, '[^/]+$')"),
        "provider": "'bedrock'",
        "tenant": names.text(f"coalesce({get('identity', 'arn')}, {get('accountId')})"),
        "region": names.text(get("region")),
        "tier": names.tier(
            f"coalesce({get(*_BODY, 'serviceTier', 'type')}, {get(*_BODY, 'service_tier')}, "
            f"{get('input', 'inputBodyJson', 'serviceTier', 'type')})"
        ),
        "e2e_s": f"{number(get(*_BODY, 'metrics', 'latencyMs'))} / 1e3",
        "request_id": names.text(get("requestId")),
        "failed": failed,
    }
    text = "input counts leave out cached tokens (Bedrock's meaning); they are added"
    doubts = {
        "openai_on_bedrock": (
            f"{openai} AND {parts} > 0",
            "calls of OpenAI models count cached tokens inside the input, unlike the others",
        ),
        "short_writes": (
            f"coalesce({write}, 0) > 0 AND {kept} IS NULL",
            "calls do not say how long their cache writes live and count as 5-minute ones",
        ),
    }
    spelled = {"arrival_ns": "timestamp", "input_tok": "inputTokenCount", "output_tok": "outputTokenCount"}
    found = (Finding("found", "exclusive_input", text),)
    return Scan(columns, source=source, findings=found, doubts=doubts, spelled=spelled)


def by(head: Head) -> Mapping[str, str]:
    """Who called, from where, which model, and the request's own metadata."""
    mine = {
        "model": names.text(f"regexp_extract({get('modelId')}, '[^/]+$')"),
        "tenant": names.text(f"coalesce({get('identity', 'arn')}, {get('accountId')})"),
        "account": names.text(get("accountId")),
        "operation": names.text(get("operation")),
        "region": names.text(get("region")),
    }
    for row in head.sample:
        found = row.get("requestMetadata")
        for name in found if isinstance(found, dict) else ():
            mine.setdefault(name, names.text(get("requestMetadata", name)))
    return mine


READER = Reader("bedrock", knows, scan, by, prefer=("workload", "feature", "app"))
