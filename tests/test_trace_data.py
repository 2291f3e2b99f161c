"""Real traces: row counts and token sums as in the file, blocks rebuilt, budgets kept."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import duckdb
import numpy as np
import pytest

from isocost.trace import open_trace
from isocost.trace.kernels import Seen
from isocost.trace.profile import profile

FILES = {
    "azure2023_conv.csv": ("azure", 19_366, "sum(ContextTokens), sum(GeneratedTokens)"),
    "mooncake_conversation.jsonl": ("mooncake", 12_031, "sum(input_length), sum(output_length)"),
    "ragpulse.parquet": ("ragpulse", 7_106, "sum(in_tok), sum(out_tok)"),
    "servegen_10d.parquet": ("servegen", 1_209_725, "sum(in_tok), sum(out_tok)"),
    "claude_code_dev.parquet": ("coding", 27_389, "sum(in_tok), sum(out_tok)"),
    "claude_team_dev.parquet": ("coding", 27_389, "sum(in_tok), sum(out_tok)"),
}


@pytest.fixture(scope="module")
def traces(data_dir: Path) -> Path:
    folder = data_dir / "traces"
    if not folder.is_dir():
        pytest.skip(f"no traces in {data_dir}")
    return folder


@pytest.mark.parametrize("name", FILES)
def test_rows_and_tokens_are_the_file_s(traces: Path, name: str) -> None:
    reader, rows, sums = FILES[name]
    with duckdb.connect() as con:
        expected = con.execute(f"SELECT count(*), {sums} FROM '{traces / name}'").fetchone()
    trace = open_trace(traces / name)
    found = np.zeros(3, np.int64)
    last = -1
    for chunk in trace.chunks():
        assert len(chunk) <= 1_000_000
        assert chunk.arrival_ns[0] >= last
        assert np.all(np.diff(chunk.arrival_ns) >= 0)
        last = int(chunk.arrival_ns[-1])
        found += (len(chunk), chunk.input_tok.sum(dtype=np.int64), chunk.output_tok.sum(dtype=np.int64))
    assert trace.reader == reader
    assert found[0] == rows
    assert tuple(found.tolist()) == expected


def test_servegen_within_budget(traces: Path) -> None:
    begin = time.process_time()
    found = profile(open_trace(traces / "servegen_10d.parquet", workload_by="model"))
    assert time.process_time() - begin < 8.0
    assert found.requests == 1_209_725
    assert {one.name for one in found.workloads} == {"m-small", "m-mid", "m-large"}
    assert sum(one.requests for one in found.workloads) == found.requests
    assert sum(one.input_tok for one in found.workloads) == found.input_tok


def test_tenants_decode_to_the_file_s(traces: Path) -> None:
    trace = open_trace(traces / "servegen_10d.parquet")
    with duckdb.connect() as con:
        expected = dict(
            con.execute(
                f"SELECT tenant, count(*) FROM '{traces / 'servegen_10d.parquet'}' GROUP BY 1"
            ).fetchall()
        )
    counts = np.zeros(len(trace.names["tenant"]), np.int64)
    for chunk in trace.chunks():
        assert chunk.tenant is not None
        counts += np.bincount(chunk.tenant, minlength=len(counts))
    assert dict(zip(trace.names["tenant"], counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", ["claude_code_dev.parquet", "claude_team_dev.parquet"])
def test_block_lists_are_whole(traces: Path, name: str) -> None:
    lengths = "nblk" if "code" in name else "nblk64"
    with duckdb.connect() as con:
        expected = con.execute(f"SELECT {lengths} AS n FROM '{traces / name}'").fetchnumpy()["n"]
    trace = open_trace(traces / name)
    assert trace.block_tok == 64
    found = 0
    for chunk in trace.chunks():
        assert chunk.block_offsets is not None
        assert chunk.block_ids is not None
        assert chunk.line is not None
        assert np.diff(chunk.block_offsets).tolist() == expected[chunk.line - 1].tolist()
        assert np.all(np.diff(chunk.block_offsets) * 64 <= chunk.input_tok)
        found += len(chunk.block_ids)
    assert found == expected.sum() == 51_490_584


def test_mooncake_reuse_bounds_every_measured_cache(traces: Path) -> None:
    table = open_trace(traces / "mooncake_conversation.jsonl").table()
    assert table.block_offsets is not None
    assert table.block_ids is not None
    hits = Seen().feed(table.block_offsets, table.block_ids, table.input_tok, 512)
    # The same by a set, block by block.
    seen: set[int] = set()
    expected = []
    ids = table.block_ids.tolist()
    for lo, hi, tokens in zip(
        table.block_offsets[:-1].tolist(),
        table.block_offsets[1:].tolist(),
        table.input_tok.tolist(),
        strict=True,
    ):
        n = next((j for j in range(lo, hi) if ids[j] not in seen), hi) - lo
        expected.append(min(512 * n, tokens))
        seen.update(ids[lo:hi])
    assert hits.tolist() == expected
    with (traces / "prefix_cache_hits.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["trace"] == "conversation"]
    warm = int(rows[0]["warmup_requests"])
    assert int(table.input_tok[warm:].sum()) == int(rows[0]["total_tokens"])
    assert max(int(row["hit_tokens"]) for row in rows) <= hits[warm:].sum()


def test_mooncake_ticks_are_doubted(traces: Path) -> None:
    findings = {one.code: one for one in open_trace(traces / "mooncake_conversation.jsonl").findings}
    assert "ticks of 3 s" in findings["coarse_clock"].text
    azure = {one.code for one in open_trace(traces / "azure2023_conv.csv").findings}
    assert azure == {"workload_by"}
