"""OpenAI's organization usage pages: completions and embeddings, in buckets of a minute, an hour or a day.

Schema: API reference, «Usage» (platform.openai.com/docs/api-reference/usage/completions_object) and the
OpenAPI document's ``UsageCompletionsResult``. Pages (``{"object": "page", "data": [buckets]}``), one or one a
line, or bare buckets. The report has no price, no single request and no reasoning count; what was not asked
for with ``group_by`` (model, batch, service_tier …) is null in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.errors import BadTrace
from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, names
from isocost.trace.readers.nested import REPORT, cut_off, get, key, results, results_source
from isocost.trace.schema import Finding
from isocost.trace.sql import number

_COUNTED = ("organization.usage.completions.result", "organization.usage.embeddings.result")


def knows(head: Head) -> bool:
    """Results that name themselves, or that count model requests beside input tokens."""
    return any(
        str(one.get("object", "")).startswith("organization.usage.")
        or ("num_model_requests" in one and "input_tokens" in one)
        for one in results(head)
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """A result is a row: the sums of one bucket and group, at the bucket's start.

    Raises:
        BadTrace: results of an endpoint that does not count tokens.
    """
    for one in results(head):
        kind = str(one.get("object", _COUNTED[0]))
        if kind not in _COUNTED:
            raise BadTrace(
                f"{kind} does not count tokens",
                where=str(head.path),
                fix="Export completions and embeddings usage; the costs pages hold the rest as amounts",
            )
    requests, whole = number(get("num_model_requests")), number(get("input_tokens"))
    cached, written = number(get("input_cached_tokens")), number(get("input_cache_write_tokens"))
    heard, heard_cached = number(get("input_audio_tokens")), number(get("input_cached_audio_tokens"))
    # input_tokens counts text, audio and images, cached and written ones included. Counts by kind
    # were once documented with their cached part and are now answered without it: the sum tells which.
    # Without counts of text the documented meaning holds.
    modal = " + ".join(
        f"coalesce({number(get(f'input_{kind}_tokens'))}, 0)" for kind in ("text", "audio", "image")
    )
    bare = f"{number(get('input_text_tokens'))} IS NOT NULL AND {modal} < {whole}"
    rest = f"greatest(coalesce({heard}, 0) - coalesce({heard_cached}, 0), 0)"
    plain_audio = f"CASE WHEN {bare} THEN {heard} ELSE {rest} END"
    embedded = f"{get('object')} = '{_COUNTED[1]}'"
    tier = names.tier(get("service_tier"))
    columns = {
        "arrival_ns": f"TRY_CAST({get('start_time', of='bucket')} AS BIGINT) * 1000000000",
        "input_tok": whole,
        "output_tok": f"CASE WHEN {embedded} THEN 0 ELSE {number(get('output_tokens'))} END",
        "cached_tok": cached,
        "cache_write_tok": written,
        "audio_input_tok": f"nullif({plain_audio}, 0)",
        "audio_cached_tok": f"nullif({heard_cached}, 0)",
        "audio_output_tok": f"nullif({number(get('output_audio_tokens'))}, 0)",
        "count": f"coalesce(TRY_CAST({get('num_model_requests')} AS BIGINT), -1)",
        "context_tok": f"ceil({whole} / greatest({requests}, 1))",
        "model": names.text(get("model")),
        "provider": "'openai'",
        "tenant": names.text(get("project_id")),
        # A batch is billed at the batch price, whatever tier its results name.
        "tier": f"CASE WHEN {get('batch')} = 'true' THEN 'batch' ELSE {tier} END",
        "request_id": _id(),
    }
    spelled = {"arrival_ns": "start_time", "input_tok": "input_tokens", "output_tok": "output_tokens"}
    doubts = {
        "no_model": (f"{get('model')} IS NULL", "results name no model and cannot be priced: group_by=model"),
        "no_batch": (
            f"{get('batch')} IS NULL",
            "results may hold batch usage, which costs less: group_by=batch",
        ),
        "no_tier": (
            f"{get('service_tier')} IS NULL AND coalesce({get('batch')}, '') <> 'true'",
            "results do not say their service tier and count as standard: group_by=service_tier",
        ),
        "image_tokens": (
            f"coalesce({number(get('input_image_tokens'))}, 0) + "
            f"coalesce({number(get('output_image_tokens'))}, 0) > 0",
            "results hold image tokens, which are priced as text here",
        ),
    }
    mean = "price bands by length go by a bucket's mean request, as the report has no lengths"
    found = (REPORT, Finding("guessed", "mean_context", mean), *cut_off(head))
    return Scan(columns, source=results_source(head), findings=found, doubts=doubts, spelled=spelled)


def _id() -> str:
    """What tells a result apart: a page exported twice repeats it."""
    span = (get("start_time", of="bucket"), get("end_time", of="bucket"))
    groups = ("object", "project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source")
    return key(*span, *(get(name) for name in groups))


def by(_head: Head) -> Mapping[str, str]:
    """Whatever the report was grouped by."""
    groups = ("project_id", "user_id", "api_key_id", "model", "batch", "service_tier")
    mine = {name: names.text(get(name)) for name in groups}
    return {**mine, "tenant": mine["project_id"]}


READER = Reader("openai-usage", knows, scan, by, prefer=("project_id",))
