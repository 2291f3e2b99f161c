"""OpenTelemetry GenAI spans: OTLP in JSON (a document, or one export a line), or flattened to rows.

Schema: «Semantic conventions for generative client AI spans» and the ``gen_ai`` attribute registry
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans). Spans hold no price and no cost, the tier only
where the instrumentation adds it, and cache writes without how long they live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isocost.errors import BadTrace
from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import dicts, field, get
from isocost.trace.schema import Finding
from isocost.trace.sql import ident, literal, number

_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "llm.token_count.prompt_details.cache_read",
)
_WRITE = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.input_tokens.cache_write",
    "llm.token_count.prompt_details.cache_write",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "llm.token_count.completion_details.reasoning",
)
_BAGS = ("attributes", "SpanAttributes", "span_attributes")
_STEPS = ("invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan")
_OUTER = ("AGENT", "CHAIN", "TOOL", "EVALUATOR", "GUARDRAIL")
"""Operations, and OpenInference's kinds of span, that contain calls of a model: their usage is that of the
calls inside, counted again."""

_PROVIDERS: Mapping[str, str] = {
    "aws.bedrock": "bedrock", "azure.ai.openai": "azure", "azure.ai.inference": "azure",
    "gcp.gemini": "google", "gcp.gen_ai": "google", "gcp.vertex_ai": "google", "mistral_ai": "mistral",
    "x_ai": "x-ai",
}  # fmt: skip
"""The convention's names of providers that the catalog calls otherwise."""

Attribute = Callable[..., str]


def _otlp(head: Head) -> bool:
    return head.kind in ("jsonl", "json") and any("resourceSpans" in row for row in head.sample)


def _bag(row: Mapping[str, Any]) -> str | None:
    return next((name for name in _BAGS if isinstance(row.get(name), dict)), None)


def knows(head: Head) -> bool:
    """OTLP's envelope, or rows with the convention's token attributes."""
    if head.kind == "metrics":
        return False
    if _otlp(head) or any(head.has(one) for one in _INPUT):
        return True
    return any(one in row[bag] for row in head.sample if (bag := _bag(row)) for one in (*_INPUT, *_OUTPUT))


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Spans of model calls that count tokens; spans of agents and tools only contain them and are not read.

    Raises:
        BadTrace: flattened spans without a start time.
    """
    taken: dict[str, str] = {}
    attribute: Attribute

    def once(*keys: str) -> str:
        return f"coalesce({', '.join(taken.setdefault(key, f'a{len(taken)}') for key in keys)}, NULL)"

    if _otlp(head):
        source, attribute, span = _otlp_source(), once, _of_span
        start, end = (f"TRY_CAST({span(one)} AS BIGINT)" for one in ("startTimeUnixNano", "endTimeUnixNano"))
        status = "span.status.code"
    else:
        source, attribute, start, end = _flat(head)
        status = field(head, "StatusCode", "status_code", "status.code", "status")
    read, write = number(attribute(*_READ)), number(attribute(*_WRITE))
    plain = number(attribute(*_INPUT))
    parts = f"coalesce({read}, 0) + coalesce({write}, 0)"
    # By the convention the input counts cached and written tokens as well. A count below its parts was
    # made by an instrumentation that copied a provider's exclusive count: they are added there.
    whole = f"CASE WHEN {plain} < {parts} THEN {plain} + {parts} ELSE {plain} END"
    operation, kind = attribute("gen_ai.operation.name"), attribute("openinference.span.kind")
    outer = ", ".join(literal(one) for one in _OUTER)
    failed = (
        f"CASE WHEN upper(CAST({status} AS VARCHAR)) IN ('2', 'ERROR', 'STATUS_CODE_ERROR') "
        f"OR {attribute('error.type')} IS NOT NULL THEN 1 ELSE 0 END"
    )
    counted = f"{plain} IS NOT NULL OR {number(attribute(*_OUTPUT))} IS NOT NULL"
    steps = ", ".join(literal(one) for one in _STEPS)
    output = f"coalesce({number(attribute(*_OUTPUT))}, CASE WHEN {operation} = 'embeddings' THEN 0 END)"
    columns = {
        "arrival_ns": start,
        "input_tok": f"CASE WHEN ({failed}) > 0 THEN coalesce({whole}, 0) ELSE {whole} END",
        "output_tok": f"CASE WHEN ({failed}) > 0 THEN coalesce({output}, 0) ELSE {output} END",
        "cached_tok": read,
        "cache_write_tok": write,
        "reasoning_tok": number(attribute(*_REASONING)),
        "model": names.text(attribute("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")),
        "provider": _provider(
            attribute("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
        ),
        "tenant": names.text(attribute("tenant.id", "user.id", "enduser.id")),
        "session": names.text(attribute("gen_ai.conversation.id", "session.id")),
        "tier": names.tier(attribute("openai.response.service_tier", "gen_ai.openai.response.service_tier",
                                     "gen_ai.response.service_tier")),
        "region": names.text(attribute("cloud.region")),
        # Two instrumentations of one call write two spans with the same answer: one of them counts.
        "request_id": names.text(attribute("gen_ai.response.id")),
        "ttft_s": number(attribute("gen_ai.response.time_to_first_chunk",
                                   "gen_ai.server.time_to_first_token")),
        "e2e_s": f"CASE WHEN ({failed}) = 0 AND {end} > {start} THEN ({end} - {start}) / 1e9 END",
        "failed": failed,
    }  # fmt: skip
    doubts = {
        "exclusive_input": (
            f"{plain} < {parts}",
            "spans count fewer input tokens than cached ones, which the convention rules out: they are added",
        ),
        "short_writes": (
            f"coalesce({write}, 0) > 0",
            "calls do not say how long their cache writes live and count as 5-minute ones",
        ),
    }
    if taken:
        texts = ", ".join(f"{_of_map(key)} AS {alias}" for key, alias in taken.items())
        source = f"(SELECT *, {texts} FROM {source})"
    source = (
        f"(SELECT * FROM {source} WHERE ({counted}) AND coalesce({operation}, '') NOT IN ({steps}) "
        f"AND coalesce(upper({kind}), '') NOT IN ({outer}))"
    )
    text = "input counts cached tokens (the convention's meaning); agents' and tools' own spans are not read"
    spelled = {"arrival_ns": "startTimeUnixNano", "input_tok": _INPUT[0], "output_tok": _OUTPUT[0]}
    found = (Finding("found", "inclusive_input", text),)
    return Scan(columns, source=source, findings=found, doubts=doubts, spelled=spelled)


def _provider(sql: str) -> str:
    cases = " ".join(f"WHEN {literal(one)} THEN {literal(ours)}" for one, ours in _PROVIDERS.items())
    return f"CASE {sql} {cases} ELSE {names.text(sql)} END"


def _of_map(*keys: str) -> str:
    return f"coalesce({', '.join(f'texts[list_position(keys, {literal(one)})]' for one in keys)})"


def _of_span(name: str) -> str:
    return f"span.{ident(name)}"


_ATTRIBUTES = (
    '[{"key": "VARCHAR", "value": {"stringValue": "VARCHAR", "intValue": "VARCHAR", '
    '"doubleValue": "VARCHAR", "boolValue": "VARCHAR"}}]'
)
_SPAN = (
    '{"startTimeUnixNano": "VARCHAR", "endTimeUnixNano": "VARCHAR", "status": {"code": "VARCHAR"}, '
    f'"attributes": {_ATTRIBUTES}}}'
)
_RESOURCE = f'{{"resource": {{"attributes": {_ATTRIBUTES}}}, "scopeSpans": [{{"spans": [{_SPAN}]}}]}}'
_SHAPE = f'{{"resourceSpans": [{_RESOURCE}]}}'
"""What is read of an export: one pass over its text, instead of one for each attribute of each span."""


def _otlp_source() -> str:
    """SQL: a row a span with its ``keys`` and their ``texts``, the span's own before its resource's."""

    def texts(of: str) -> str:
        kinds = ", ".join(f"a.value.{kind}Value" for kind in ("string", "int", "double", "bool"))
        return f"[coalesce({kinds}) for a in {of}]"

    shape = literal(_SHAPE)
    resources = f"(SELECT unnest(from_json(json, {shape}).resourceSpans) AS res FROM {{file}})"
    held = "coalesce(res.resource.attributes, [])"
    scopes = f"(SELECT unnest(res.scopeSpans) AS scope, {held} AS held FROM {resources})"
    spans = f"(SELECT unnest(scope.spans) AS span, held FROM {scopes})"
    counted = ", ".join(literal(one) for one in (*_INPUT, *_OUTPUT))
    keyed = (
        "(SELECT span, list_concat([a.key for a in span.attributes], [a.key for a in held]) AS keys, "
        f"list_concat({texts('span.attributes')}, {texts('held')}) AS texts FROM {spans})"
    )
    return f"(SELECT * FROM {keyed} WHERE list_has_any(keys, [{counted}]))"


def _flat(head: Head) -> tuple[str, Attribute, str, str]:
    """Source, attributes, start and end of spans that lie flat, their attributes beside or in a bag."""
    bag = next((found for row in head.sample if (found := _bag(row))), None)

    def attribute(*keys: str) -> str:
        mine = [field(head, *keys)]
        if bag is not None:
            mine += [get(bag, one) for one in keys]
        return f"coalesce({', '.join(mine)}, NULL)"

    times = []
    for spellings in (
        ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime", "Timestamp", "timestamp"),
        ("endTimeUnixNano", "end_time_unix_nano", "end_time", "endTime"),
    ):
        column = next((name for one in spellings if (name := head.column(one)) is not None), None)
        times.append("NULL::BIGINT" if column is None else names.arrival(head, column)[0])
    if times[0] == "NULL::BIGINT":
        raise BadTrace(
            "spans without a start time",
            where=str(head.path),
            fix=f"Columns found: {', '.join(head.columns)}. Name one startTimeUnixNano or start_time",
        )
    return "{file}", attribute, times[0], times[1]


def by(head: Head) -> Mapping[str, str]:
    """Model, service, operation, and every attribute of the sample's spans."""
    attribute: Attribute = _of_map if _otlp(head) else _flat(head)[1]
    known = {
        "model": ("gen_ai.response.model", "gen_ai.request.model"),
        "provider": ("gen_ai.provider.name", "gen_ai.system"),
        "service.name": ("service.name",),
        "operation": ("gen_ai.operation.name",),
        "agent": ("gen_ai.agent.name",),
        "tenant": ("tenant.id", "user.id", "enduser.id"),
        "workload": ("workload",),
    }
    mine = {name: names.text(attribute(*keys)) for name, keys in known.items()}
    for row in head.sample if _otlp(head) else ():
        for resource in dicts(row.get("resourceSpans")):
            for scope in dicts(resource.get("scopeSpans")):
                for span in dicts(scope.get("spans")):
                    for one in dicts(span.get("attributes")):
                        name = str(one.get("key"))
                        if "'" not in name:
                            mine.setdefault(name, names.text(_of_map(name)))
    return mine


READER = Reader("otel", knows, scan, by, prefer=("workload", "service.name"))
