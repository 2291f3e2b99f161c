"""Exports as tools and their client libraries write them today: each read for what it says."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from isocost.trace import open_trace

CASES = Path(__file__).parent / "cases" / "exports"


class Export(NamedTuple):
    """What each of a file's rows says: all input, output, cached input, dollars, seconds."""

    file: str
    reader: str
    rows: int
    failed: int
    input_tok: int
    output_tok: int
    cached_tok: int | None
    usd: float | None
    ttft_s: float | None
    e2e_s: float | None
    model: str


EXPORTS = [
    Export("langfuse_observations_v2.jsonl", "langfuse", 4, 1, 1000, 90, 300, 0.0022, 0.5, 3.0, "gpt-4.1"),
    Export("langfuse_api_older.json", "langfuse", 3, 0, 100, 20, None, 0.0006, None, 2.0,
           "claude-sonnet-4-5"),
    Export("langfuse_ui.csv", "langfuse", 3, 0, 100, 20, None, 0.00036, 0.4, 3.0, "gpt-4.1"),
    Export("litellm_spend_logs.json", "litellm", 3, 1, 1000, 200, 400, 0.001, 0.877, 3.877, "gpt-4.1"),
    Export("litellm_spend_logs_pages.json", "litellm", 3, 1, 1000, 200, 400, 0.001, 0.877, 3.877, "gpt-4.1"),
    Export(
        "openrouter_activity_sdk.json", "openrouter", 3, 0, 500_000, 125_000, None, 2.0, None, None,
        "openai/gpt-4.1-2025-04-14",
    ),
    Export("openrouter_generations_sdk.jsonl", "openrouter", 3, 0, 1000, 200, 300, 0.0015, 1.25, 3.2,
           "openai/gpt-4.1"),
    Export("otel_genai.jsonl", "otel", 3, 1, 1000, 200, 400, None, None, 2.0, "gpt-4.1-2025-04-14"),
    Export("otel_openllmetry.jsonl", "otel", 3, 0, 5700, 50, 5000, None, None, 2.0, "claude-sonnet-4-5"),
    Export("otel_openinference.jsonl", "otel", 3, 0, 900, 100, 256, None, None, 2.0, "gpt-4o"),
]  # fmt: skip


@pytest.mark.parametrize("one", EXPORTS, ids=lambda one: one.file)
def test_an_export_is_read_for_what_it_says(one: Export) -> None:
    trace = open_trace(CASES / one.file)
    table = trace.table()
    assert (trace.reader, len(table), int((table.outcome > 0).sum())) == (one.reader, one.rows, one.failed)
    assert set(table.input_tok.tolist()) == {one.input_tok}
    assert set(table.output_tok.tolist()) == {one.output_tok}
    first = {
        "cached_tok": one.cached_tok, "billed_usd": one.usd, "ttft_s": one.ttft_s, "e2e_s": one.e2e_s,
    }  # fmt: skip
    for name, expected in first.items():
        column = getattr(table, name)
        if expected is None:
            assert column is None, name
        else:
            assert float(column[0]) == pytest.approx(expected), name
    assert trace.names["model"] == (one.model,)
