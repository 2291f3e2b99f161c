"""Langfuse's observations, exported as JSON, JSONL or CSV: one generation or embedding a row.

Schema: «Model usage and cost tracking» (langfuse.com/docs/model-usage-and-cost), the observations API
(``usageDetails``, ``costDetails``), and Langfuse's ingestion of OpenAI's usage
(langfuse/langfuse, packages/shared/src/server/ingestion/types.ts). Usage types are free texts, so what none
of the words input and output names is not counted; the provider, service tier and region are not held.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import field, get, rows, rows_source
from isocost.trace.schema import Finding
from isocost.trace.sql import number, utc_ns

_USAGE = ("usageDetails", "usage_details")
_OLDER = (("promptTokens", "completionTokens"), ("inputUsage", "outputUsage"))
"""Counts of versions before usage by type: input is all input there."""


def knows(head: Head) -> bool:
    """Usage by type beside the observation's start."""
    if head.kind in ("csv", "parquet"):
        older = head.has("startTime") and any(head.has(*names, "traceId") for names in _OLDER)
        return older or any(head.has(one, start) for one in _USAGE for start in ("startTime", "start_time"))
    return head.kind != "metrics" and any(
        (any(usage in row for usage in _USAGE) and ("startTime" in row or "start_time" in row))
        or ("startTime" in row and "traceId" in row and ("usage" in row or "promptTokens" in row))
        for row in rows(head)
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Observations with usage; spans and events have none, and are not requests."""
    usage = (
        f"coalesce(TRY_CAST(TRY_CAST(nullif({field(head, 'usageDetails', 'usage_details')}, '{{}}') AS JSON) "
        f"AS MAP(VARCHAR, DOUBLE)), {_older(head)})"
    )
    # A key of an object is found in the one pass that is made for all of them; a text is parsed once more.
    cost = f"TRY_CAST({field(head, 'costDetails', 'cost_details')} AS JSON)->>'$.total'"
    if head.kind not in ("csv", "parquet"):
        cost = f"{get('costDetails', 'total')}, {get('cost_details', 'total')}, {cost}"
    paid = field(head, "calculatedTotalCost", "totalCost", "total_cost")
    inner = "{file}" if head.kind in ("csv", "parquet") else rows_source(head)
    source = (
        f"(SELECT *, {_sum('input')} AS ins, {_sum('output')} AS outs, coalesce(used['input'], 0) + "
        "coalesce(used['output'], 0) = used['total'] AND ins + outs > used['total'] AS nested FROM ("
        "SELECT *, [lower(k) for k in map_keys(used)] AS types, map_values(used) AS counts FROM ("
        f"SELECT *, {usage} AS used, "
        f"coalesce(upper({field(head, 'type')}), 'GENERATION') AS kind "
        f"FROM {inner}) WHERE kind IN ('GENERATION', 'EMBEDDING')))"
    )
    start, first, end = (
        utc_ns(field(head, one, names.plain(one))) for one in ("startTime", "completionStartTime", "endTime")
    )
    error = f"upper({field(head, 'level')}) = 'ERROR'"
    failed = f"CASE WHEN {error} THEN 1 ELSE 0 END"
    # Types exclude each other (Langfuse takes OpenAI's details out of input and output), so all types of
    # input are added. Where total is input plus output alone, the types beside them are parts of them.
    whole = "CASE WHEN nested THEN used['input'] ELSE ins END"
    written = "CASE WHEN nested THEN used['output'] ELSE outs END"
    empty = f"({error} OR (kind = 'EMBEDDING' AND ins > 0))"
    columns = {
        "arrival_ns": start,
        "input_tok": f"CASE WHEN {error} THEN coalesce({whole}, 0) ELSE {whole} END",
        "output_tok": f"CASE WHEN {empty} THEN coalesce({written}, 0) ELSE {written} END",
        "cached_tok": _sum("input", "cache_read", "cached"),
        "cache_write_tok": _sum("input", "cache_creation", "cache_write", without="1h"),
        "cache_write_1h_tok": _sum("input", "cache_creation_1h", "cache_write_1h", "ephemeral_1h"),
        "audio_input_tok": _sum("input", "audio", without="cache"),
        "audio_output_tok": _sum("output", "audio"),
        "reasoning_tok": _sum("output", "reasoning"),
        "model": names.text(field(head, "model", "providedModelName", "provided_model_name")),
        "tenant": names.text(field(head, "userId", "user_id")),
        "session": names.text(field(head, "sessionId", "session_id")),
        "request_id": names.text(field(head, "id")),
        "billed_usd": f"coalesce(TRY_CAST(coalesce({cost}) AS DOUBLE), TRY_CAST({paid} AS DOUBLE))",
        "ttft_s": f"coalesce(({first} - {start}) / 1e9, "
        f"{number(field(head, 'timeToFirstToken', 'time_to_first_token'))})",
        "e2e_s": f"CASE WHEN ({failed}) = 0 THEN ({end} - {start}) / 1e9 END",
        "failed": failed,
    }
    doubts = {
        "nested_usage": ("nested", "observations count usage types inside input and output, not beside them"),
        "unnamed_usage": (
            "list_max(list_where(counts, [NOT contains(k, 'input') AND NOT contains(k, 'output') AND "
            "k <> 'total' for k in types])) > 0",
            "observations have usage types that name neither input nor output: not counted",
        ),
    }
    text = "types of usage are added: input leaves out cached tokens, output leaves out reasoning (Langfuse)"
    found = (Finding("found", "exclusive_input", text),)
    spelled = {
        "arrival_ns": "startTime",
        "input_tok": "usageDetails.input",
        "output_tok": "usageDetails.output",
    }
    return Scan(columns, source=source, findings=found, doubts=doubts, spelled=spelled)


def _older(head: Head) -> str:
    """SQL: the counts of an older version as usage by type, NULL where there are none."""
    tabular = head.kind in ("csv", "parquet")
    counts = []
    for k, side in enumerate(("input", "output")):
        mine = field(head, *(names[k] for names in _OLDER))
        counts.append(number(mine if tabular else f"coalesce({get('usage', side)}, {mine})"))
    return (
        f"CASE WHEN coalesce({counts[0]}, {counts[1]}) IS NOT NULL "
        f"THEN MAP(['input', 'output'], [{counts[0]}, {counts[1]}]) END"
    )


def _sum(side: str, *words: str, without: str = "") -> str:
    """SQL: tokens of the usage types of one side, of those only that hold one of ``words``; NULL: no such."""
    tests = [f"contains(k, '{side}')"]
    if words:
        held = " OR ".join(f"contains(k, '{word}')" for word in words)
        tests.append(f"({held})")
    if without:
        tests.append(f"NOT contains(k, '{without}')")
    return f"list_sum(list_where(counts, [{' AND '.join(tests)} for k in types]))"


def by(head: Head) -> Mapping[str, str]:
    """Name, model, user, environment, prompt."""
    known = {
        "name": ("name",), "model": ("model", "providedModelName", "provided_model_name"),
        "tenant": ("userId", "user_id"), "user": ("userId", "user_id"), "environment": ("environment",),
        "prompt": ("promptName", "prompt_name"), "trace_name": ("traceName", "trace_name"),
        "version": ("version",),
    }  # fmt: skip
    mine = {name: names.text(field(head, *spellings)) for name, spellings in known.items()}
    return {name: sql for name, sql in mine.items() if sql != names.text("NULL")}


READER = Reader("langfuse", knows, scan, by, prefer=("trace_name", "name"))
