"""vLLM's ``/metrics`` page: totals since the server started, a row a model and engine.

Schema: «Production Metrics» (docs.vllm.ai/en/stable/usage/metrics). Counters hold no time, no single request
and no price: only how much was asked and answered in all. Two pages say what lies between them.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.errors import BadTrace
from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import REPORT, key
from isocost.trace.schema import ANCHOR_NS, Finding
from isocost.trace.sql import literal

_NAME = r"^([a-zA-Z_:][a-zA-Z0-9_:]*)"
_VALUE = r"(?:^[^{\s]+|\})\s+([0-9.eE+\-]+|NaN|[+\-]Inf)"


def knows(head: Head) -> bool:
    """Any page of metrics: no other reader takes one."""
    return head.kind == "metrics"


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Totals by model and engine.

    Raises:
        BadTrace: a page of another server.
    """
    with head.path.open(encoding="utf-8", errors="replace") as file:
        if not any(line.startswith("vllm:prompt_tokens") for line in file):
            raise BadTrace(
                "a metrics page without vllm:prompt_tokens_total",
                where=str(head.path),
                fix="Save the page /metrics of a vLLM server that has answered requests",
            )
    label = {name: rf"[{{,]{name}=\"([^\"]*)\"" for name in ("model_name", "engine")}
    samples = (
        f"(SELECT regexp_extract(sample, {literal(_NAME)}, 1) AS name, "
        f"regexp_extract(sample, {literal(label['model_name'])}, 1) AS model, "
        f"regexp_extract(sample, {literal(label['engine'])}, 1) AS engine, "
        f"TRY_CAST(regexp_extract(sample, {literal(_VALUE)}, 1) AS DOUBLE) AS total "
        "FROM {file} WHERE sample LIKE 'vllm:%')"
    )

    def total(*spellings: str) -> str:
        sums = (f"sum(total) FILTER (WHERE name = 'vllm:{one}')" for one in spellings)
        return f"coalesce({', '.join(sums)})"

    source = (
        f"(SELECT model, engine, {total('prompt_tokens_total', 'prompt_tokens')} AS prompt, "
        f"{total('generation_tokens_total', 'generation_tokens')} AS answer, "
        f"{total('prompt_tokens_cached_total', 'prefix_cache_hits_total', 'prefix_cache_hits')} AS hits, "
        f"{total('request_success_total', 'request_success')} AS calls "
        f"FROM {samples} GROUP BY model, engine HAVING prompt IS NOT NULL ORDER BY model, engine)"
    )
    columns = {
        "arrival_ns": f"{ANCHOR_NS}::BIGINT",
        "input_tok": "prompt",
        "output_tok": "answer",
        # Tokens that the prefix cache held: a part of the prompts, computed for nothing and billed by nobody.
        "cached_tok": "hits",
        "count": "coalesce(calls::BIGINT, -1)",
        "context_tok": "CASE WHEN calls > 0 THEN ceil(prompt / calls) ELSE 0 END",
        "model": names.text("model"),
        "provider": "'vllm'",
        "tenant": names.text("engine"),
        "request_id": key("model", "engine"),
    }
    text = "totals since the server started: neither when nor how much at once can be told"
    spelled = {
        "arrival_ns": "time",
        "input_tok": "vllm:prompt_tokens_total",
        "output_tok": "vllm:generation_tokens_total",
    }
    found = (REPORT, Finding("doubt", "only_totals", text))
    return Scan(columns, clock="relative", source=source, findings=found, spelled=spelled)


def by(_head: Head) -> Mapping[str, str]:
    """Model or engine."""
    return {"model": names.text("model"), "engine": names.text("engine")}


READER = Reader("vllm", knows, scan, by)
