"""Azure OpenAI's platform metrics: tokens and requests summed by minute or hour, from Azure Monitor.

Schema: «Azure OpenAI monitoring data reference» (learn.microsoft.com/azure/ai-foundry/openai/
monitor-openai-reference) and Azure Monitor's «Metrics - List» answer; three shapes: the REST answer
(``value`` of metrics with ``timeseries``), records of a diagnostic setting (``metricName``, ``time``,
``total``), and the ``AzureMetrics`` table. Metrics hold no count of cached tokens (only a rate), no request
and no price.
Diagnostic logs of calls (``RequestResponse``) hold no tokens at all, and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isocost.errors import BadTrace
from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import REPORT, dicts, field, get, key, spread
from isocost.trace.schema import Finding
from isocost.trace.sql import literal, number, utc_ns

_INPUT = ("processedprompttokens", "inputtokens")
_OUTPUT = ("generatedtokens", "generatedcompletiontokens", "outputtokens")
_COUNT = ("azureopenairequests", "modelrequests")
"""Names of one quantity, newest family last: the first that a span has is taken, never their sum."""

_DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "deployment": ("modeldeploymentname",),
    "model": ("modelname",),
    "tier": ("servicetierresponse", "servicetier"),
    "region": ("region",),
}


def _records(head: Head) -> Iterator[Mapping[str, Any]]:
    for row in head.sample:
        yield from dicts(row["records"]) if isinstance(row.get("records"), list) else (row,)


def _answered(head: Head) -> bool:
    """Whether the file is the answer of the metrics API."""
    return head.kind in ("jsonl", "json") and any(
        "timeseries" in metric for row in head.sample for metric in dicts(row.get("value"))
    )


def _lower(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in row.items()}


def knows(head: Head) -> bool:
    """Azure Monitor's metric names, or a log of an Azure OpenAI resource."""
    if head.kind == "metrics":
        return False
    if _answered(head):
        return True
    known = {*_INPUT, *_OUTPUT, *_COUNT}
    return any(
        str(row.get("metricname", "")).lower() in known
        or (row.get("category") == "RequestResponse" and "durationms" in row)
        for row in map(_lower, _records(head))
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Samples of one span and group become one row.

    Raises:
        BadTrace: a log of calls, which holds no tokens.
    """
    if not _answered(head) and not any("metricname" in _lower(row) for row in _records(head)):
        raise BadTrace(
            "Azure's RequestResponse log counts bytes, not tokens",
            where=str(head.path),
            fix="Export the metrics ProcessedPromptTokens, GeneratedTokens and AzureOpenAIRequests instead",
        )
    samples = _answer_source() if _answered(head) else _records_source(head)
    groups = "span_ns, resource, deployment, model, tier, region"
    source = (
        f"(SELECT {groups}, {_total(_INPUT)} AS prompt, {_total(_OUTPUT)} AS answer, "
        f"{_total(_COUNT)} AS calls "
        f"FROM {samples} GROUP BY {groups} HAVING prompt > 0 OR answer > 0 OR calls > 0 ORDER BY span_ns, "
        "resource, deployment, model)"
    )
    spelled = {"arrival_ns": "time", "input_tok": "ProcessedPromptTokens", "output_tok": "GeneratedTokens"}
    columns = {
        "arrival_ns": "span_ns",
        "input_tok": "coalesce(prompt, CASE WHEN answer > 0 OR calls > 0 THEN 0 END)",
        "output_tok": "coalesce(answer, CASE WHEN prompt > 0 OR calls > 0 THEN 0 END)",
        "count": "coalesce(calls::BIGINT, -1)",
        "context_tok": "CASE WHEN calls > 0 THEN ceil(coalesce(prompt, 0) / calls) ELSE 0 END",
        # Without the model's own name its deployment stands for it, as people often name one after the other.
        "model": names.text("coalesce(model, deployment)"),
        "provider": "'azure'",
        "tenant": names.text("coalesce(deployment, resource)"),
        "tier": names.tier("tier"),
        "region": names.text("region"),
        "request_id": key("span_ns::VARCHAR", "resource", "deployment", "model", "tier", "region"),
    }
    doubts = {
        "no_model": (
            "model IS NULL",
            "rows name no model (split by ModelName); their deployment's name stands for it",
        ),
        "half_counted": (
            "prompt IS NULL OR answer IS NULL",
            "rows have only one of input and output tokens: the other counts as 0",
        ),
    }
    text = "Azure's metrics do not count cached tokens: all input is billed as uncached, which is too much"
    found = (REPORT, Finding("doubt", "no_cached", text))
    return Scan(columns, source=source, findings=found, doubts=doubts, spelled=spelled)


def _total(spellings: tuple[str, ...]) -> str:
    sums = (f"sum(total) FILTER (WHERE metric = {literal(one)})" for one in spellings)
    return f"coalesce({', '.join(sums)})"


def _answer_source() -> str:
    """SQL: metrics, their time series and their points, a row a point."""
    dimensions = ", ".join(
        f"list_filter(dims, lambda d: list_contains({list(spellings)!r}, lower(d->>'$.name.value')))[1]"
        f"->>'$.value' AS {name}"
        for name, spellings in _DIMENSIONS.items()
    )
    named = {
        "metric": "lower(m->>'$.name.value')",
        "resource": "regexp_extract(m->>'$.id', '/accounts/([^/]+)', 1)",
    }
    series = spread(spread("{file}", "$.value", "m"), "$.timeseries", "series", "m", named)
    told = {
        "metric": "metric",
        "resource": "resource",
        "dims": "TRY_CAST(series->'$.metadatavalues' AS JSON[])",
    }
    points = spread(series, "$.data", "point", "series", told)
    return (
        f"(SELECT metric, resource, {utc_ns(get('timeStamp', of='point'))} AS span_ns, "
        f"{number(get('total', of='point'))} AS total, {dimensions} FROM {points})"
    )


def _records_source(head: Head) -> str:
    """SQL: records of a diagnostic setting or rows of AzureMetrics, a row a point."""
    enveloped = any(isinstance(row.get("records"), list) for row in head.sample)
    inner = spread("{file}", "$.records", "json") if enveloped else "{file}"

    def read(*spellings: str) -> str:
        mine = [field(head, *spellings)]
        if head.kind in ("jsonl", "json"):
            mine += [get("dimensions", one) for one in spellings]
        return f"coalesce({', '.join(mine)}, NULL)"

    resource = (
        f"regexp_extract({read('resourceId', 'ResourceId', '_ResourceId')}, '(?i)/accounts/([^/]+)', 1)"
    )
    return (
        f"(SELECT lower({read('metricName', 'MetricName')}) AS metric, nullif({resource}, '') AS resource, "
        f"{utc_ns(read('time', 'TimeGenerated'))} AS span_ns, {number(read('total', 'Total'))} AS total, "
        f"{read('ModelDeploymentName')} AS deployment, {read('ModelName')} AS model, "
        f"{read('ServiceTierResponse')} AS tier, {read('Region')} AS region FROM {inner})"
    )


def by(_head: Head) -> Mapping[str, str]:
    """The deployment, model or resource."""
    return {name: names.text(name) for name in ("deployment", "model", "resource", "region")}


READER = Reader("azure-metrics", knows, scan, by, prefer=("deployment",))
