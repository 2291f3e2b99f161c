"""Usage reports, gateways' logs, spans and invoices: counts, conventions, and what each cannot say."""

from __future__ import annotations

import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.books.statement import statement
from isocost.catalog import Catalog
from isocost.errors import BadInput, BadTrace
from isocost.trace import open_trace
from isocost.trace.invoices import InvoiceLine, read_invoice
from isocost.trace.parts import PART_TOK, split
from isocost.trace.profile import profile
from isocost.trace.schema import Chunk, Trace

CASES = Path(__file__).parent / "cases" / "usage"
READ: list[dict[str, Any]] = json.loads((CASES / "cases.json").read_text(encoding="utf-8"))


def texts(trace: Trace, table: Chunk, column: str) -> list[str | None]:
    codes = getattr(table, column)
    return [trace.names[column][code] if code >= 0 else None for code in codes]


def codes_of(trace: Trace) -> set[str]:
    return {one.code for one in trace.findings}


@pytest.mark.parametrize("want", READ, ids=lambda want: str(want["file"]))
def test_counts_of_the_golden_samples(want: dict[str, Any]) -> None:
    trace = open_trace(CASES / want["file"])
    table = trace.table()
    assert trace.reader == want["reader"]
    for column, expected in want.items():
        if column in ("file", "reader", "text", "codes"):
            continue
        found = getattr(table, column)
        assert found is not None, column
        if column in ("billed_usd", "ttft_s"):
            assert found == pytest.approx([np.nan if x is None else x for x in expected], nan_ok=True), column
        else:
            assert found.tolist() == expected, column
    for column, expected in want.get("text", {}).items():
        assert texts(trace, table, column) == expected, column
    assert set(want["codes"]) <= codes_of(trace), trace.findings
    assert trace.aggregated == ("count" in want)


def test_every_sample_is_a_case() -> None:
    files = {path.name for path in CASES.iterdir() if not path.name.startswith("invoice")}
    assert files - {"cases.json"} == {want["file"] for want in READ}


def test_a_report_is_refused_where_requests_are_needed() -> None:
    trace = open_trace(CASES / "openai_usage.json")
    with pytest.raises(BadTrace, match=r"rows are sums over many requests.*log of requests"):
        trace.requests()
    log = open_trace(CASES / "bedrock.jsonl")
    assert len(log.requests()) == 5


def test_profile_counts_the_requests_of_a_report() -> None:
    seen = profile(open_trace(CASES / "openai_usage.json"))
    assert (seen.requests, seen.outcomes) == (484, {"ok": 484})
    assert (seen.input_tok, seen.output_tok) == (25_147_202, 9_949)
    assert seen.input.p50 == 300
    assert seen.input.mean == pytest.approx(25_147_202 / 484)
    assert {one.name: one.requests for one in seen.models} == {
        "gpt-4.1-2025-04-14": 477,
        "gpt-4o-audio-preview": 2,
        "(none)": 5,
    }
    assert seen.days == 3
    assert seen.rate.mean_per_h == pytest.approx(484 / 72)
    assert seen.cycle.daily is None
    assert seen.burst.interarrival_cv is None


def test_a_report_is_billed_by_its_sums_and_its_own_context() -> None:
    """The parts of a large bucket, and its sum, are no long requests: the mean request sets the band."""
    catalog = Catalog.load()
    made = statement(open_trace(CASES / "openai_usage.json"), catalog)
    assert made.n_requests == 484
    quantities = {
        (one.tier, one.meter): one.quantity for one in made.lines if one.offering.endswith("gpt-4.1")
    }
    assert quantities["batch", "cache_read"] == 25_000_000
    assert quantities["batch", "input"] == 1
    assert quantities["standard", "input"] == 141_201 - 8_448
    windows = statement(open_trace(CASES / "anthropic_usage.json"), catalog)
    assert {one.meter for one in windows.lines} == {
        "input", "cache_read", "cache_write", "cache_write_1h", "output", "web_search",
    }  # fmt: skip
    assert windows.unpriced == ()


def test_a_page_exported_twice_counts_once(tmp_path: Path) -> None:
    page = json.loads((CASES / "anthropic_usage.json").read_text())
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(json.dumps(page) + "\n" for _ in range(2)))
    trace = open_trace(path)
    table = trace.table()
    assert (table.outcome == 4).sum() == 3
    assert table.input_tok[table.outcome != 4].sum() == 9600
    assert "duplicate_ids" in codes_of(trace)


def test_pages_may_be_packed_and_bare_and_cut_off(tmp_path: Path) -> None:
    page = json.loads((CASES / "openai_usage.json").read_text())
    whole = open_trace(CASES / "openai_usage.json").table()
    packed = tmp_path / "page.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(page, indent=1).encode()))
    bare = tmp_path / "buckets.json"
    bare.write_text(json.dumps(page["data"]))
    for path in (packed, bare):
        assert open_trace(path).table().input_tok.tolist() == whole.input_tok.tolist()
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps({**page, "has_more": True}))
    assert "cut_off" in codes_of(open_trace(cut))


def test_usage_that_is_not_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    result = {"object": "organization.usage.images.result", "images": 3, "num_model_requests": 3}
    path.write_text(json.dumps({"object": "page", "data": [{"start_time": 1, "results": [result]}]}))
    with pytest.raises(BadTrace, match="does not count tokens"):
        open_trace(path)


def test_azure_call_logs_are_refused_with_what_to_export(tmp_path: Path) -> None:
    path = tmp_path / "calls.json"
    call = {
        "time": "2026-11-01T10:00:00Z",
        "category": "RequestResponse",
        "durationMs": 90,
        "properties": "{}",
    }
    path.write_text(json.dumps({"records": [call]}, indent=1))
    with pytest.raises(BadTrace, match=r"bytes, not tokens.*ProcessedPromptTokens"):
        open_trace(path)


def test_metrics_of_another_server_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.txt"
    path.write_text("# HELP go_gc GC.\n# TYPE go_gc gauge\ngo_gc 1\n")
    with pytest.raises(BadTrace, match="vllm:prompt_tokens_total"):
        open_trace(path)


def test_a_result_without_counts_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = (CASES / "bedrock.jsonl").read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[0].replace('"inputTokenCount": 3,', "")] * 3))
    with pytest.raises(BadTrace, match=r"log.jsonl:3: .*cannot be read as a request"):
        open_trace(path)


def test_negative_usage_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    path.write_text((CASES / "openai_usage.json").read_text().replace("5000,", "-5000,"))
    with pytest.raises(BadTrace, match=r"usage.json:4: 'input_tokens' is -5000"):
        open_trace(path)


def test_bedrock_in_cloudwatch_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = (CASES / "bedrock.jsonl").read_text().splitlines()
    path.write_text("".join(json.dumps({"timestamp": 1, "message": line}) + "\n" for line in lines))
    want = open_trace(CASES / "bedrock.jsonl").table()
    assert open_trace(path).table().input_tok.tolist() == want.input_tok.tolist()


def test_otel_document_equals_its_lines(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (CASES / "otel.jsonl").read_text().splitlines()]
    path = tmp_path / "spans.json"
    spans = [one for line in lines for one in line["resourceSpans"]]
    path.write_text(json.dumps({"resourceSpans": spans}, indent=2))
    trace = open_trace(path)
    assert trace.table().input_tok.tolist() == [2000, 2000, 140, 12, 9]
    assert texts(trace, trace.table(), "workload")[3] == "search"


def test_pretty_object_that_is_no_page_is_still_named(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"name": "x", "values": [1, 2]}, indent=2))
    with pytest.raises(BadTrace, match="no column found for arrival"):
        open_trace(path)


TOKENS = st.one_of(st.integers(0, 100), st.integers(0, 10**11))


@settings(max_examples=40, deadline=None)
@given(
    parts=st.tuples(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS),
    output=TOKENS,
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    count=st.integers(-1, 10**7),
)
def test_parts_add_up_and_none_contradicts_itself(
    parts: tuple[int, ...], output: int, shares: tuple[float, ...], count: int
) -> None:
    _, cached, written, kept, audio = parts
    row = {
        "input_tok": sum(parts), "output_tok": output, "cached_tok": cached, "cache_write_tok": written,
        "cache_write_1h_tok": kept, "audio_input_tok": audio, "audio_cached_tok": int(cached * shares[0]),
        "audio_output_tok": int(output * shares[1]), "reasoning_tok": int(output * shares[2]),
    }  # fmt: skip
    columns = ", ".join(f"{value}::DOUBLE AS {name}" for name, value in row.items())
    select = f"SELECT {columns}, {count}::BIGINT AS count, 'id' AS request_id"
    with duckdb.connect() as con:
        got = con.execute(split(select, [*row, "count", "request_id"])).fetchnumpy()
    for name, value in row.items():
        assert int(got[name].sum()) == value, name
        assert got[name].max() <= PART_TOK + 10
    assert (got["count"] == -1).all() if count < 0 else got["count"].sum() == count
    inside = got["cached_tok"] + got["cache_write_tok"] + got["cache_write_1h_tok"] + got["audio_input_tok"]
    assert (got["input_tok"] - inside).min() >= 0
    assert (got["cached_tok"] - got["audio_cached_tok"]).min() >= 0
    assert (got["output_tok"] - got["audio_output_tok"]).min() >= 0
    assert len(set(got["request_id"])) == len(got["request_id"])


def said(one: InvoiceLine) -> tuple[Any, ...]:
    return (one.amount, one.kind)


def test_openai_costs() -> None:
    invoice = read_invoice(CASES / "invoice_openai.json", "openai")
    assert invoice.period == (date(2026, 11, 1), date(2026, 11, 3))
    assert [said(one) for one in invoice.lines] == [
        (Decimal("0.06"), "usage"),
        (Decimal("2.2500000000000001"), "usage"),
        (Decimal("-1.5"), "credit"),
        (Decimal("0.1"), "usage"),
    ]
    assert [one.model for one in invoice.lines] == ["gpt-4.1-2025-04-14", "", "", "gpt-4.1-2025-04-14"]
    assert [one.project for one in invoice.lines] == ["proj_a", "proj_a", "", "proj_b"]
    assert invoice.total() == Decimal("0.9100000000000001")
    assert invoice.doubts == ()


def test_overlapping_cost_pages_count_once_and_the_last_holds() -> None:
    invoice = read_invoice(CASES / "invoice_openai_pages.jsonl", "openai")
    assert invoice.total() == Decimal("1.1100000000000001")
    assert len(invoice.lines) == 4
    assert "has_more" in invoice.doubts[0]
    assert "more than once" in invoice.doubts[1]


def test_two_like_charges_of_one_bucket_are_two(tmp_path: Path) -> None:
    result = {"amount": {"value": 1, "currency": "usd"}, "line_item": None, "project_id": None}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"data": [{"start_time": 1793491200, "results": [result, result]}]}))
    assert read_invoice(path, "openai").total() == 2


def test_anthropic_costs_are_cents() -> None:
    invoice = read_invoice(CASES / "invoice_anthropic.json", "anthropic")
    assert [one.amount for one in invoice.lines] == [Decimal("1.2345"), Decimal("0.000003"), Decimal(10)]
    assert invoice.total() == Decimal("11.234503")
    assert invoice.lines[0].model == "claude-sonnet-4-5-20250929"
    assert invoice.lines[2].line_item == "Web Search Usage"


def test_aws_report_holds_bedrock_alone() -> None:
    invoice = read_invoice(CASES / "invoice_aws.csv", "aws")
    assert [said(one) for one in invoice.lines] == [
        (Decimal("0.0000123456"), "usage"),
        (Decimal("0.20"), "tax"),
        (Decimal("-0.00001"), "credit"),
        (Decimal("0.5"), "adjustment"),
    ]
    assert "1.25" in invoice.doubts[0]
    assert "Oddity" in invoice.doubts[1]


def test_any_csv_of_charges() -> None:
    invoice = read_invoice(CASES / "invoice_plain.csv", "together")
    assert [said(one) for one in invoice.lines] == [
        (Decimal("1234.56"), "usage"),
        (Decimal("234.57"), "tax"),
        (Decimal("-12.00"), "credit"),
        (Decimal("20"), "fee"),
        (Decimal("-0.01"), "adjustment"),
    ]
    assert invoice.currencies == ("EUR",)
    assert invoice.total("EUR") == Decimal("1477.12")
    assert invoice.total("USD") == 0


@pytest.mark.parametrize(
    ("text", "provider", "message"),
    [
        ("", "openai", "the file is empty"),
        ("{oops", "openai", r"bill:1: not JSON"),
        ('{"data": []}', "openai", "no charges"),
        ('{"error": "denied"}', "openai", "a bucket without results"),
        ('{"data": [{"start_time": 1, "results": [{"input_tokens": 1}]}]}', "openai", "usage, not costs"),
        (
            '{"data": [{"starting_at": "2026-11-01", "results": [{"amount": "1", "currency": "USD"}]}]}',
            "openai",
            "a cost page of anthropic, not of openai",
        ),
        (
            '{"data": [{"starting_at": "2026-11-01", "results": [{"amount": "1", "currency": "JPY"}]}]}',
            "anthropic",
            "smallest unit of JPY",
        ),
        ("date,description,amount\n2026-11-01,x,1\n", "x", "no column for the currency"),
        ("date,description,amount,currency\n2026-11-01,x,1,5,USD\n", "x", "bill:2: '5' is no currency"),
        ('date,description,amount,currency\n2026-11-01,x,"1.234,56",EUR\n', "x", "bill:2: .* is no amount"),
        ("date,description,amount,currency\n01/11/2026,x,1,EUR\n", "x", "bill:2: .* is no date"),
        ("date,description,amount,currency\n2026-11-01,x,nan,EUR\n", "x", "is no amount"),
        ("date,description,amount,currency\n2026-11-01,x\n", "x", "shorter than the header"),
        ("when,what\n1,2\n", "x", "no column for day, line_item, amount"),
    ],
)
def test_bad_invoices_say_where_and_why(tmp_path: Path, text: str, provider: str, message: str) -> None:
    path = tmp_path / "bill"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_invoice(path, provider)


def test_answers_keep_hour_long_writes_searches_and_audio_apart(tmp_path: Path) -> None:
    rows = [
        {"id": "m1", "created": 1793527200, "model": "claude-sonnet-4-5", "usage": {
            "input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 250,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 50},
            "output_tokens": 9, "server_tool_use": {"web_search_requests": 2}}},
        {"id": "c1", "created": 1793527201, "model": "gpt-4o-audio-preview", "usage": {
            "prompt_tokens": 300, "completion_tokens": 90,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 120,
                                      "cached_tokens_details": {"audio_tokens": 20}},
            "completion_tokens_details": {"audio_tokens": 70}}},
    ]  # fmt: skip
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = open_trace(path).table()
    want = {
        "input_tok": [353, 300], "cached_tok": [100, 64], "cache_write_tok": [200, 0],
        "cache_write_1h_tok": [50, 0], "web_searches": [2, 0], "audio_input_tok": [0, 100],
        "audio_cached_tok": [0, 20], "audio_output_tok": [0, 70],
    }  # fmt: skip
    assert {name: getattr(table, name).tolist() for name in want} == want


def test_a_plan_sees_all_cache_writes_as_one_kind() -> None:
    trace = open_trace(CASES / "bedrock.jsonl")
    assert trace.table().cache_write_tok.tolist() == [200, 0, 0, 0, 0]
    planned = trace.requests()
    assert planned.cache_write_1h_tok is None
    assert planned.cache_write_tok.tolist() == [250, 0, 0, 0, 0]


def test_bedrock_writes_by_life_and_the_tier_of_the_answer(tmp_path: Path) -> None:
    """Converse says how long each write lives in a list, and the tier that served the call."""
    usage = {"cacheDetails": [{"inputTokens": 600, "ttl": "1h"}, {"inputTokens": 300, "ttl": "5m"}]}
    body = {"usage": usage, "serviceTier": {"type": "flex"}}
    row = {
        "schemaType": "ModelInvocationLog", "timestamp": "2026-11-01T10:00:00Z", "region": "us-east-1",
        "modelId": "us.anthropic.claude-opus-5-5", "requestId": "a",
        "input": {"inputTokenCount": 100, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 900},
        "output": {"outputTokenCount": 7, "outputBodyJson": body},
    }  # fmt: skip
    plain = {**row, "requestId": "b", "output": {"outputTokenCount": 7}}
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (row, plain)) + "\n")
    trace = open_trace(path)
    table = trace.table()
    assert table.cache_write_tok is not None
    assert table.cache_write_1h_tok is not None
    assert table.tier is not None
    assert (table.cache_write_tok.tolist(), table.cache_write_1h_tok.tolist()) == ([300, 900], [600, 0])
    assert [trace.names["tier"][code] if code >= 0 else "" for code in table.tier] == ["flex", ""]
    assert {one.code: one.rows for one in trace.findings}["short_writes"] == 1
