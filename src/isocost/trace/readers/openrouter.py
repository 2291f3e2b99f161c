"""OpenRouter: generation records, the activity page's CSV of generations, and the daily activity answer.

Schema: «Get a generation» and «Get user activity» (openrouter.ai/docs/api-reference), «Usage accounting»
(openrouter.ai/docs/use-cases/usage-accounting). Generations hold no cache writes, no tier and no region; the
daily activity also no cached tokens. OpenRouter's prices can be a provider's that it chose for the call.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import REPORT, key, rows, rows_source
from isocost.trace.readers.nested import field as plain_field
from isocost.trace.schema import Finding
from isocost.trace.sql import number, utc_ns


def _camel(name: str) -> str:
    """A key as OpenRouter's own client libraries spell it.

    >>> _camel("native_tokens_prompt")
    'nativeTokensPrompt'
    """
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def field(head: Head, *spellings: str) -> str:
    """SQL: the text of the first of these keys, as the API or its client libraries spell it."""
    return plain_field(head, *dict.fromkeys(one for name in spellings for one in (name, _camel(name))))


def _has(head: Head, *keys: str) -> bool:
    if head.kind == "metrics":
        return False
    if head.kind in ("csv", "parquet"):
        return all(head.has(one) or head.has(_camel(one)) for one in keys)
    return any(all(one in row or _camel(one) in row for one in keys) for row in rows(head))


def _daily(head: Head) -> bool:
    return _has(head, "date", "requests", "prompt_tokens", "completion_tokens", "provider_name")


def knows(head: Head) -> bool:
    """Native token counts, the CSV's generation ids, or daily activity by endpoint."""
    return (
        _has(head, "native_tokens_prompt", "native_tokens_completion")
        or _has(head, "generation_id", "tokens_prompt", "tokens_completion")
        or _daily(head)
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """A generation or, of the daily activity, a day's sums of one endpoint."""
    source = "{file}" if head.kind in ("csv", "parquet") else rows_source(head)
    return _activity(head, source) if _daily(head) else _generations(head, source)


def _generations(head: Head, source: str) -> Scan:
    def count(*spellings: str) -> str:
        return number(field(head, *spellings))

    # Providers bill by their own tokenizer's counts (native), not by the normalised ones beside them; the
    # CSV has one count only. Both include cached and reasoning tokens, as OpenAI's do.
    prompt = count("native_tokens_prompt", "tokens_prompt")
    answer = count("native_tokens_completion", "tokens_completion")
    cancelled = f"lower({field(head, 'cancelled')}) = 'true'"
    ended = f"lower({field(head, 'finish_reason', 'finish_reason_normalized')})"
    normalised = field(head, "native_tokens_prompt")
    columns = {
        "arrival_ns": utc_ns(field(head, "created_at")),
        "input_tok": prompt,
        "output_tok": f"CASE WHEN {cancelled} THEN coalesce({answer}, 0) ELSE {answer} END",
        "cached_tok": count("native_tokens_cached", "tokens_cached"),
        "reasoning_tok": count("native_tokens_reasoning", "tokens_reasoning"),
        "model": names.text(field(head, "model_permaslug", "model")),
        "provider": "'openrouter'",
        "tenant": names.text(field(head, "external_user", "user", "api_key_name", "app_name")),
        "tier": names.tier(field(head, "service_tier")),
        "session": names.text(field(head, "session_id")),
        "request_id": names.text(field(head, "generation_id", "id")),
        "billed_usd": count("total_cost", "cost_total", "usage"),
        "ttft_s": f"{count('time_to_first_token_ms', 'latency')} / 1e3",
        "e2e_s": f"{count('generation_time_ms', 'generation_time')} / 1e3",
        "failed": f"CASE WHEN {cancelled} THEN 2 WHEN {ended} = 'error' THEN 1 ELSE 0 END",
    }
    byok = f"lower({field(head, 'is_byok')}) = 'true' OR {count('byok_usage_inference')} > 0"
    doubts = {
        "own_key": (
            byok,
            "calls used the caller's own key: the provider bills them, OpenRouter only its fee",
        ),
        "normalised_tokens": (
            f"{normalised} IS NULL",
            "rows have one token count, which may be OpenRouter's normalised one and not the billed one",
        ),
    }
    spelled = {
        "arrival_ns": "created_at",
        "input_tok": "native_tokens_prompt",
        "output_tok": "native_tokens_completion",
    }
    text = "tokens are native ones, cached and reasoning included; billed_usd is what OpenRouter charged"
    return Scan(
        {name: sql for name, sql in columns.items() if sql not in (number("NULL"), names.text("NULL"))},
        source=source, findings=(Finding("found", "inclusive_input", text),), doubts=doubts, spelled=spelled,
    )  # fmt: skip


def _activity(head: Head, source: str) -> Scan:
    requests, prompt = (number(field(head, one)) for one in ("requests", "prompt_tokens"))
    columns = {
        "arrival_ns": utc_ns(field(head, "date")),
        "input_tok": prompt,
        "output_tok": number(field(head, "completion_tokens")),
        "reasoning_tok": number(field(head, "reasoning_tokens")),
        "count": f"coalesce({requests}::BIGINT, -1)",
        "context_tok": f"ceil({prompt} / greatest({requests}, 1))",
        "model": names.text(field(head, "model_permaslug", "model")),
        "provider": "'openrouter'",
        "request_id": key(*(field(head, one) for one in ("date", "model_permaslug", "model", "endpoint_id"))),
        "billed_usd": number(field(head, "usage")),
    }
    doubts = {
        "own_key": (
            f"{number(field(head, 'byok_usage_inference'))} > 0",
            "days hold calls with the caller's own key: the provider bills them, OpenRouter only its fee",
        )
    }
    text = "daily activity does not count cached tokens: all input is billed as uncached, which is too much"
    spelled = {"arrival_ns": "date", "input_tok": "prompt_tokens", "output_tok": "completion_tokens"}
    return Scan(
        columns, source=source, findings=(REPORT, Finding("doubt", "no_cached", text)), doubts=doubts,
        spelled=spelled,
    )  # fmt: skip


def by(head: Head) -> Mapping[str, str]:
    """Model, upstream provider, application, user."""
    known = ("model", "model_permaslug", "provider_name", "user", "external_user", "app_name", "api_key_name",
             "origin", "variant")  # fmt: skip
    mine = {name: names.text(field(head, name)) for name in known}
    return {name: sql for name, sql in mine.items() if sql != names.text("NULL")}


READER = Reader("openrouter", knows, scan, by, prefer=("app_name",))
