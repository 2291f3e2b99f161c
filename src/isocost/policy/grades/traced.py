"""Scores kept beside traces: Langfuse's scores and exports, Braintrust's experiments, LangSmith's.

Formats as of langfuse/langfuse fern/apis/server/definition (``Score`` of the API, v1 to v3) and
worker/src/features/database-read-stream (exports of scores, observations, traces and data set runs: a column
a score, its values in a list); braintrustdata's API «Fetch experiment» (``scores``, ``metrics``,
``span_attributes``); langchain-ai/langsmith-sdk ``ExperimentResults.to_pandas`` (columns ``inputs.*``,
``outputs.*``, ``reference.*``, ``feedback.*``) and ``Run`` with ``feedback_stats``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isocost.policy.grades.call import (
    Call,
    Found,
    Link,
    Mark,
    asked,
    first,
    items,
    mapping,
    named,
    paid,
    real,
    said,
    seconds,
    text,
    whole,
    words,
)  # fmt: skip

_KNOWN = frozenset((
    "id", "traceId", "trace_id", "type", "name", "startTime", "start_time", "endTime", "end_time",
    "completionStartTime", "input", "output", "metadata", "model", "modelId", "internalModelId",
    "modelParameters", "level", "statusMessage", "parentObservationId", "promptId", "promptName",
    "promptVersion", "usage", "usageDetails", "usage_details", "costDetails", "cost_details",
    "providedUsageDetails", "providedCostDetails", "inputCost", "outputCost", "totalCost", "inputUsage",
    "outputUsage", "totalUsage", "inputPrice", "outputPrice", "totalPrice", "calculatedInputCost",
    "calculatedOutputCost", "calculatedTotalCost", "latency", "timeToFirstToken", "promptTokens",
    "completionTokens", "totalTokens", "inputTokens", "outputTokens", "tags", "environment", "version",
    "release", "public", "bookmarked", "userId", "sessionId", "projectId", "timestamp", "createdAt",
    "updatedAt", "htmlPath", "observations", "scores", "comments", "traceName", "traceTags",
    "traceTimestamp", "errorCount", "warningCount", "defaultCount", "debugCount", "observationCount",
    "usagePricingTierId", "usagePricingTierName", "toolDefinitions", "toolCalls", "toolCallNames",
    "totalCount", "unit", "isRootObservation", "datasetItemId", "datasetRunId", "expectedOutput",
))  # fmt: skip
"""What Langfuse's exports hold beside scores."""


def is_scores(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows are Langfuse's scores: a name and a value, and what they are of."""
    of = ("traceId", "trace_id", "observationId", "observation_id", "sessionId", "datasetRunId", "subject")
    return bool(rows) and all(
        "name" in row and ("value" in row or "stringValue" in row) and any(one in row for one in of)
        for row in rows
    )


def scores(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mark]:
    """Langfuse's scores. ``metadata`` may name question and model; else a trace or an observation does.

    A category counts by its text, also where a config maps it to a number. Corrections and comments in words
    are no scores.
    """
    for row in rows:
        kind = str(first(row.get("dataType"), row.get("data_type"), "NUMERIC")).upper()
        if kind in ("CORRECTION", "TEXT"):
            continue
        extra, subject = mapping(row.get("metadata")), mapping(row.get("subject"))
        label = first(row.get("stringValue"), row.get("string_value"))
        value = label if kind == "CATEGORICAL" else first(row.get("value"), label)
        if kind == "BOOLEAN":
            value = {"1": True, "0": False}.get(str(value).removesuffix(".0"), value)
        of = (
            first(row.get("observationId"), row.get("observation_id"), subject.get("observationId")),
            first(row.get("traceId"), row.get("trace_id"), subject.get("traceId"), subject.get("id")),
        )
        yield Mark(
            tuple(str(one) for one in of if one), str(row["name"]), value,
            text(extra.get("qid")), text(extra.get("model"), row.get("model")),
        )  # fmt: skip


def is_links(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows say which trace answered which item of a data set."""
    return bool(rows) and all("datasetItemId" in row and "traceId" in row for row in rows)


def links(rows: Sequence[Mapping[str, Any]]) -> Iterator[Link]:
    """Langfuse's items of data set runs."""
    for row in rows:
        of = (row.get("observationId"), row.get("traceId"))
        yield Link(tuple(str(one) for one in of if one), str(row["datasetItemId"]))


def is_langfuse(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows are observations or traces as Langfuse exports them."""
    return bool(rows) and all(
        "id" in row
        and ("input" in row or "output" in row)
        and ("traceId" in row or "startTime" in row or "htmlPath" in row or "bookmarked" in row
             or isinstance(row.get("observations"), list))
        for row in rows
    )  # fmt: skip


def langfuse(rows: Sequence[Mapping[str, Any]]) -> Iterator[Found]:
    """Calls out of observations, or out of traces (then with the one model of their generations), with the
    scores that stand in columns or in the trace."""
    for row in rows:
        inside = items(row.get("observations"))
        for one in items(row.get("scores")):
            yield from scores([{"traceId": row.get("id"), **one}])
        if inside:
            yield from (_langfuse(one, str(row["id"]), {}) for one in inside if one.get("model"))
            continue
        columns = {name: _only(value) for name, value in row.items() if name not in _KNOWN}
        yield _langfuse(row, text(row.get("traceId")), columns)


def _only(value: Any) -> Any:
    """The value of a score's column: of a list (also as text) the mean, where all are numbers."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    if not isinstance(value, list):
        return value
    if value and all(isinstance(one, int | float) for one in value):
        return sum(value) / len(value)
    return value[0] if value and len(set(map(str, value))) == 1 else None


def _langfuse(row: Mapping[str, Any], trace: str, columns: Mapping[str, Any]) -> Call:
    extra = mapping(row.get("metadata"))
    usage = mapping(first(row.get("usageDetails"), row.get("usage_details"), row.get("usage")))
    query = _question(row.get("input"))
    waited = first(row.get("latency"))
    start, end = (
        first(row.get("startTime"), row.get("start_time")),
        first(row.get("endTime"), row.get("end_time")),
    )
    model = text(row.get("model"), row.get("modelId"), extra.get("model"))
    return Call(
        str(first(extra.get("qid"), row.get("datasetItemId"), named(query) if query else "", row["id"])),
        model, {name: value for name, value in columns.items() if value is not None},
        tuple(str(one) for one in (row["id"], trace) if one), query, said(row.get("output")),
        str(extra.get("task") or ""),
        in_tok=whole(first(usage.get("input"), usage.get("promptTokens"), row.get("inputUsage"),
                           row.get("promptTokens"), row.get("inputTokens"))),
        out_tok=whole(first(usage.get("output"), usage.get("completionTokens"), row.get("outputUsage"),
                            row.get("completionTokens"), row.get("outputTokens"))),
        cost=paid(first(row.get("calculatedTotalCost"), row.get("totalCost"), row.get("total_cost"),
                        mapping(row.get("costDetails")).get("total"))),
        latency_s=seconds(start, end) if waited is None else real(waited),
        failed=str(row.get("level") or "").upper() == "ERROR",
    )  # fmt: skip


def _question(value: Any) -> str:
    """The question in an input: the last message of the user, or the text."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return words(value)
    held = value.get("messages") if isinstance(value, dict) else value
    turns = [one for one in items(held) if one.get("role") in ("user", "human")]
    if turns:
        return said(turns[-1:])
    return asked(value) if isinstance(value, dict) else words(value)


def is_braintrust(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows are of a Braintrust experiment: scores by name, beside spans or metrics."""
    return bool(rows) and all(
        ("scores" in row and ("metrics" in row or "span_id" in row or "expected" in row)) for row in rows
    )


def braintrust(rows: Sequence[Mapping[str, Any]], model: str = "") -> Iterator[Call]:
    """Root spans of an experiment; model, tokens and cost may stand in spans below them."""
    spans: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        spans.setdefault(str(first(row.get("root_span_id"), row.get("id"))), []).append(row)
    for inside in spans.values():
        roots = [row for row in inside if _is_root(row)] or [
            row for row in inside if mapping(row.get("scores"))
        ]
        for row in roots:
            metrics, extra = mapping(row.get("metrics")), mapping(row.get("metadata"))
            below = [one for one in inside if _kind(one) == "llm"]
            counted = [mapping(one.get("metrics")) for one in below] or [metrics]
            held = [str(mapping(one.get("metadata")).get("model") or "") for one in below]
            models = list(dict.fromkeys(one for one in held if one))
            query = _question(row.get("input"))
            span = seconds(metrics.get("start"), metrics.get("end"))
            yield Call(
                str(first(extra.get("qid"), mapping(row.get("origin")).get("id"), named(query))),
                text(extra.get("model"), models[0] if len(models) == 1 else "", model),
                {name: value for name, value in mapping(row.get("scores")).items() if value is not None},
                (named(query), str(row.get("id"))), query, said(row.get("output")),
                str(extra.get("task") or ""),
                in_tok=_total(counted, "prompt_tokens"), out_tok=_total(counted, "completion_tokens"),
                cost=paid(first(metrics.get("estimated_cost"), _usd(counted))),
                latency_s=real(first(metrics.get("duration"), span)),
                failed=bool(row.get("error")) and not mapping(row.get("scores")),
            )  # fmt: skip


def _is_root(row: Mapping[str, Any]) -> bool:
    if "is_root" in row:
        return str(row["is_root"]).lower() == "true"
    return row.get("span_id") is None or row.get("span_id") == row.get("root_span_id")


def _kind(row: Mapping[str, Any]) -> str:
    return str(mapping(row.get("span_attributes")).get("type") or "")


def _total(metrics: Sequence[Mapping[str, Any]], name: str) -> int | None:
    known = [count for one in metrics if (count := whole(one.get(name))) is not None]
    return sum(known) if known else None


def _usd(metrics: Sequence[Mapping[str, Any]]) -> float | None:
    known = [usd for one in metrics if (usd := paid(one.get("estimated_cost"))) is not None]
    return sum(known) if known else None


def is_langsmith(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows are runs of a LangSmith experiment as its API or command gives them."""
    return bool(rows) and all(
        "inputs" in row and ("reference_example_id" in row or "feedback_stats" in row or "runs" in row)
        for row in rows
    )


def langsmith(rows: Sequence[Mapping[str, Any]], model: str = "") -> Iterator[Call]:
    """Runs with their feedback; of examples with runs (a comparison of experiments), each run."""
    for row in rows:
        runs = items(row.get("runs")) or [dict(row)]
        for run in runs:
            extra = mapping(mapping(run.get("extra")).get("metadata"))
            feedback = mapping(first(run.get("feedback_stats"), row.get("feedback_stats")))
            query = _question(first(row.get("inputs"), run.get("inputs")))
            own = first(run.get("reference_example_id"), row.get("id") if row.get("runs") else None)
            yield Call(
                str(first(own, named(query))),
                text(extra.get("ls_model_name"), extra.get("model"), model),
                {name: _feedback(one) for name, one in feedback.items()}, (named(query), str(run.get("id"))),
                query, said(run.get("outputs")), in_tok=whole(run.get("prompt_tokens")),
                out_tok=whole(run.get("completion_tokens")), cost=paid(run.get("total_cost")),
                latency_s=seconds(run.get("start_time"), run.get("end_time")), failed=bool(run.get("error")),
            )  # fmt: skip


def _feedback(one: Any) -> Any:
    """The mean of a feedback's scores, or its one category."""
    stats = mapping(one)
    if not stats:
        return one
    if stats.get("avg") is not None:
        return stats["avg"]
    values = mapping(stats.get("values"))
    return next(iter(values)) if len(values) == 1 else None
