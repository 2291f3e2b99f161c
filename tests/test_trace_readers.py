"""Each format's documented sample gives the rows it should; every bad file gives one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from isocost.errors import BadTrace
from isocost.trace import Chunk, Outcome, Trace, open_trace
from isocost.trace.kernels import chain

CASES = Path(__file__).parent / "cases" / "traces"
GOOD: dict[str, dict[str, Any]] = json.loads((CASES / "cases.json").read_text())
BAD: dict[str, str] = json.loads((CASES / "bad" / "cases.json").read_text())


def texts(trace: Trace, table: Chunk, column: str) -> list[str | None]:
    return [None if code < 0 else trace.names[column][code] for code in getattr(table, column)]


@pytest.mark.parametrize("name", GOOD)
def test_sample_reads_as_documented(name: str) -> None:
    want = GOOD[name]
    trace = open_trace(CASES / name)
    table = trace.table()
    assert trace.reader == want["reader"]
    assert trace.clock == want["clock"]
    assert trace.columns == {*want["columns"], "workload", "line"}
    assert table.input_tok.tolist() == want["input_tok"]
    assert table.output_tok.tolist() == want["output_tok"]
    assert table.arrival_ns == pytest.approx(np.array(want["arrival_s"]) * 1e9, abs=1e3)
    assert np.all(np.diff(table.arrival_ns) >= 0)
    for column in ("outcome", "cached_tok", "cache_write_tok", "reasoning_tok", "needs"):
        if column in want:
            assert getattr(table, column).tolist() == want[column], column
    for column in ("ttft_s", "e2e_s", "billed_usd"):
        if column in want:
            expected = [np.nan if one is None else one for one in want[column]]
            assert getattr(table, column) == pytest.approx(expected, nan_ok=True), column
    for column, expected in want.get("text", {}).items():
        assert texts(trace, table, column) == expected, column
    if "blocks" in want:
        assert table.block_ids is not None
        assert table.block_offsets is not None
        ids = np.concatenate([chunk.block_ids for chunk in trace.chunks()])
        found = np.split(ids, table.block_offsets[1:-1])
        assert [one.tolist() for one in found] == want["blocks"]
        # In a table the same blocks have numbers from zero, in order of appearance.
        number: dict[int, int] = {}
        assert table.block_ids.tolist() == [number.setdefault(i, len(number)) for i in ids.tolist()]
    assert trace.block_tok == want.get("block_tok", 0)
    codes = {one.code for one in trace.findings}
    assert set(want.get("codes", [])) <= codes, trace.findings


def test_bailian_blocks_become_prefixes() -> None:
    table = open_trace(CASES / "bailian.jsonl").table()
    assert table.block_ids is not None
    assert table.block_offsets is not None
    first, other, second, third, last = np.split(table.block_ids, table.block_offsets[1:-1])
    assert second[:3].tolist() == first.tolist()
    assert third[:4].tolist() == second.tolist()
    assert last.tolist() == other.tolist()
    # Block 8 after 7 is another prefix than block 8 after 9.
    assert first[1] != other[1]
    assert len(set(table.block_ids.tolist())) == 7


def test_chain_is_the_same_uncompiled() -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 2**62, 500)
    offsets = np.array([0, 10, 10, 200, 500])
    plain, jitted = np.zeros(500, np.int64), np.zeros(500, np.int64)
    chain(offsets, ids, plain)
    numba = pytest.importorskip("numba")
    numba.njit(chain)(offsets, ids, jitted)
    assert plain.tolist() == jitted.tolist()
    assert plain.min() >= 0
    assert len(set(plain.tolist())) == 500


@pytest.mark.parametrize("name", BAD)
def test_bad_file_says_so_in_one_line(name: str) -> None:
    with pytest.raises(BadTrace) as caught:
        open_trace(CASES / "bad" / name)
    assert BAD[name] in caught.value.line()
    assert "\n" not in caught.value.line()
    assert caught.value.exit_code == 2


def test_unknown_columns_say_what_to_type() -> None:
    with pytest.raises(BadTrace, match=r"--map arrival=COLUMN,input_tok=COLUMN,output_tok=COLUMN"):
        open_trace(CASES / "bad" / "unknown.csv")


def test_generic_guesses_names_units_and_outcomes() -> None:
    trace = open_trace(CASES / "generic.csv", mapping={"arrival": "when"}, workload_by="customer")
    table = trace.table()
    assert trace.reader == "generic"
    assert table.arrival_ns[0] == 1_793_523_600 * 10**9
    assert table.output_tok.tolist() == [10, 20, 0]
    assert table.outcome.tolist() == [0, 0, 1]
    assert table.e2e_s == pytest.approx([1.5, 0.25, np.nan], nan_ok=True)
    assert texts(trace, table, "workload") == ["acme", "beta", "acme"]
    assert texts(trace, table, "model") == ["m-a", "m-b", "m-a"]
    guessed = next(one.text for one in trace.findings if one.code == "columns")
    assert "input_tok=prompt_tokens" in guessed
    assert "arrival" not in guessed


def test_generic_takes_nested_keys_and_units() -> None:
    mapping = {"arrival": "time_ms", "input_tok": "n.in", "output_tok": "n.out"}
    trace = open_trace(CASES / "generic.jsonl", mapping=mapping)
    table = trace.table()
    assert np.diff(table.arrival_ns).tolist() == [1_500_000_000]
    assert table.input_tok.tolist() == [5, 7]
    assert texts(trace, table, "workload") == ["x", "y"]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"arival": "when"}, "--map knows no column 'arival'"),
        ({"arrival": "whan"}, "no such column"),
        ({"arrival": "when:fortnights"}, "'fortnights' is no time unit"),
    ],
)
def test_mapping_errors_are_clear(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(BadTrace, match=message):
        open_trace(CASES / "generic.csv", mapping=mapping)


def test_workload_by_a_column_that_is_not_there() -> None:
    with pytest.raises(BadTrace, match=r"cannot tell workloads apart by 'planet'.*key_alias"):
        open_trace(CASES / "litellm.csv", workload_by="planet")


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("tag", ["prod", "prod", "prod", "prod", "(none)", "(none)"]),
        ("model", ["gpt-4.1", *["claude-sonnet-4-5"] * 3, "gpt-4.1-mini", "gpt-4.1-mini"]),
        ("user", ["u1", "u1", "u1", "u1", "u2", "u2"]),
    ],
)
def test_litellm_workload_by(by: str, expected: list[str]) -> None:
    trace = open_trace(CASES / "litellm.csv", workload_by=by)
    assert texts(trace, trace.table(), "workload") == expected


def test_litellm_cache_hits_are_no_bill(tmp_path: Path) -> None:
    path = tmp_path / "hits.csv"
    body = (CASES / "litellm.csv").read_text()
    path.write_text(body.replace("False,9f86d081", "True,9f86d081"))
    trace = open_trace(path)
    hits = int((trace.table().outcome == Outcome.CACHED).sum())
    assert hits == {one.code: one.rows for one in trace.findings}["answered_by_cache"] == 1
    assert "answered_by_cache" not in {one.code for one in open_trace(CASES / "litellm.csv").findings}


def test_litellm_counts_in_metadata(tmp_path: Path) -> None:
    """Hour-long writes, audio and searches have prices of their own, and lie deep in ``metadata``."""
    usage = {
        "cache_creation_input_tokens": 900,
        "cache_read_input_tokens": 50,
        "server_tool_use": {"web_search_requests": 3},
        "prompt_tokens_details": {
            "audio_tokens": 20,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": 300,
                "ephemeral_1h_input_tokens": 600,
            },
        },
        "completion_tokens_details": {"audio_tokens": 7, "reasoning_tokens": 5},
    }
    row = {
        "request_id": "a", "startTime": "2026-11-01 10:00:00", "endTime": "2026-11-01 10:00:01",
        "prompt_tokens": 1000, "completion_tokens": 40, "model": "claude-opus-5-5", "spend": 0.1,
        "custom_llm_provider": "anthropic", "metadata": json.dumps({"usage_object": usage}),
    }  # fmt: skip
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "request_id": "b", "metadata": "{}"}) + "\n")
    table = open_trace(path).table()
    wanted = {
        "input_tok": 1000, "cached_tok": 50, "cache_write_tok": 300, "cache_write_1h_tok": 600,
        "audio_input_tok": 20, "audio_output_tok": 7, "web_searches": 3, "reasoning_tok": 5,
    }  # fmt: skip
    for name, value in wanted.items():
        column = getattr(table, name)
        assert column is not None, name
        assert column.tolist() == [value, value if name == "input_tok" else 0], name


def test_a_few_unreadable_rows_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [f"2026-11-02 10:00:{i % 60:02d},{100 + i},5" for i in range(400)]
    rows[10] = "2026-11-02 10:00:10,,5"
    rows[50] = "2026-11-02 10:00:10,5"
    rows[300] = "2026-11-02 10:00:10,1,2,3"
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    trace = open_trace(path)
    assert len(trace.table()) == 397
    doubt = next(one for one in trace.findings if one.code == "unreadable_rows")
    assert doubt.rows == 3
    assert doubt.text.endswith("lines 12, 52, 302")
    assert any(one.code == "clock_order" for one in trace.findings)
    # Rows keep their line in the file, though they were sorted.
    table = trace.table()
    assert table.line is not None
    lines = path.read_text().split("\n")
    for i in (0, 200, 396):
        assert lines[table.line[i] - 1].split(",")[1] == str(table.input_tok[i])


def test_gzip_is_read(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress((CASES / "azure2023.csv").read_bytes()))
    trace = open_trace(path)
    assert trace.title == "log"
    assert trace.table().input_tok.tolist() == [4808, 3180, 110]


def test_json_array_is_read(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (CASES / "openai_chat.jsonl").read_text().splitlines()]
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rows, indent=1))
    trace = open_trace(path)
    assert trace.reader == "openai"
    assert trace.table().input_tok.tolist() == [2006, 100]


def test_anthropic_columns_in_a_flat_file_are_made_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    path.write_text(
        "timestamp,input_tokens,cache_read_input_tokens,cache_creation_input_tokens,output_tokens\n"
        "1793527200,21,2000,188,393\n1793527201,50,,,7\n"
    )
    trace = open_trace(path)
    table = trace.table()
    assert table.input_tok.tolist() == [2209, 50]
    assert table.cached_tok is not None
    assert table.cached_tok.tolist() == [2000, 0]
    assert {"exclusive_input", "time_unit"} <= {one.code for one in trace.findings}


@pytest.mark.parametrize(
    ("ticks", "step"), [(1_793_527_200, 1), (1_793_527_200_000, 1000), (1_793_527_200 * 10**9, 10**9)]
)
def test_time_units_are_told_by_magnitude(tmp_path: Path, ticks: int, step: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"ts,input_tokens,output_tokens\n{ticks},1,1\n{ticks + step},1,1\n")
    table = open_trace(path).table()
    assert table.arrival_ns.tolist() == [1_793_527_200 * 10**9, 1_793_527_201 * 10**9]


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as con:
        con.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


def test_servegen_parquet(tmp_path: Path) -> None:
    select = (
        "SELECT * FROM (VALUES (0.5::DOUBLE, 'm', 'm/c1', 10, 2), (1.25, 'n', 'n/c2', 20, 3))"
        " t(ts_s, model, tenant, in_tok, out_tok)"
    )
    trace = open_trace(parquet(tmp_path / "s.parquet", select))
    table = trace.table()
    assert trace.reader == "servegen"
    assert trace.columns == {"model", "tenant", "workload", "line"}
    assert texts(trace, table, "tenant") == ["m/c1", "n/c2"]
    assert texts(trace, table, "workload") == ["s", "s"]
    assert np.diff(table.arrival_ns).tolist() == [750_000_000]


def test_ragpulse_parquet(tmp_path: Path) -> None:
    row = "([1,2,{0}]::INTEGER[], [5,6], [7], []::INTEGER[], [{1}])"
    select = " UNION ALL ".join(
        f"SELECT {i}.5::DOUBLE ts_s, {100 + i} in_tok, 5 out_tok, 's{i}' AS session, x[1] sys_prompt,"
        " x[2] passages_ids, x[3] history, x[4] web_search, x[5] user_input"
        f" FROM (SELECT {row.format(3, u)} x)"
        for i, u in enumerate((9, 9, 10))
    )
    trace = open_trace(parquet(tmp_path / "r.parquet", select))
    table = trace.table()
    assert trace.reader == "ragpulse"
    assert table.prompt_key is not None
    assert table.prompt_key[0] == table.prompt_key[1] != table.prompt_key[2]
    assert trace.block_tok == 14  # 303 tokens in 21 parts
    assert "block_sizes" in {one.code for one in trace.findings}
    assert table.block_offsets is not None
    assert table.block_ids is not None
    first, second, third = (
        table.block_ids[lo:hi].tolist()
        for lo, hi in zip(table.block_offsets[:-1], table.block_offsets[1:], strict=True)
    )
    assert first == second != third
    assert first[:-1] == third[:-1]
    assert len({*first}) == len(first) == 7


TEAM = """SELECT * FROM (VALUES
 (10.0::DOUBLE, 3, '3', 0, 'a', 200, 5, 1.5::DOUBLE, 0, [1,2,3]),
 (11.0, 4, '4', 0, 'a', 130, 5, 1.5, 0, [1,2]),
 (12.0, 3, '3', 1, 'a', 330, 5, 'nan', 3, [4,5]),
 (13.0, 4, '4', 1, 'a', 140, 5, 1.5, 1, [9]),
 (14.0, 3, '3', 2, 'a', 130, 5, 1.5, 2, []::INTEGER[])
) t(ts_s, tenant, session, seq, model, in_tok, out_tok, api_time_s, lcp_prev_in_session, suffix_hash_ids)"""


def test_coding_blocks_are_rebuilt(tmp_path: Path) -> None:
    trace = open_trace(parquet(tmp_path / "team.parquet", TEAM))
    assert trace.reader == "coding"
    table = trace.table()
    assert table.block_ids is not None
    assert table.block_offsets is not None
    three, four = 3 << 32, 4 << 32
    ids = np.concatenate([chunk.block_ids for chunk in trace.chunks()])
    lists = [one.tolist() for one in np.split(ids, table.block_offsets[1:-1])]
    assert lists == [
        [three + i for i in (1, 2, 3)],
        [four + i for i in (1, 2)],
        [three + i for i in (1, 2, 3, 4, 5)],
        [four + i for i in (1, 9)],
        [three + i for i in (1, 2)],
    ]
    assert table.e2e_s == pytest.approx([1.5, 1.5, np.nan, 1.5, 1.5], nan_ok=True)
    # Reading twice gives the same: the carried lists start afresh.
    again = trace.table()
    assert again.block_ids is not None
    assert again.block_ids.tolist() == table.block_ids.tolist()


def test_negative_latency_is_left_out_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("ts,input_tokens,output_tokens,latency_s\n1793527200,1,1,-2\n1793527201,1,1,2\n")
    trace = open_trace(path)
    assert trace.table().e2e_s == pytest.approx([np.nan, 2.0], nan_ok=True)
    assert "negative_time" in {one.code for one in trace.findings}
