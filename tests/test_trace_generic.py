"""Whatever is written under any names comes back, in any of the three kinds of file."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadTrace
from isocost.trace import Trace, ingest, open_trace
from isocost.trace.schema import concat

tokens = st.integers(0, 2**31 - 1)
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
rows = st.lists(
    st.tuples(st.integers(1_700_000_000, 1_800_000_000), tokens, tokens, words, words),
    min_size=1,
    max_size=30,
)


def write(folder: Path, kind: str, names: list[str], body: list[tuple[object, ...]]) -> Path:
    path = folder / f"log.{kind}"
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(body)
    elif kind == "jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in body]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        with duckdb.connect() as con:
            con.execute("CREATE TABLE t (a BIGINT, b BIGINT, c BIGINT, d VARCHAR, e VARCHAR)")
            con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", [list(row) for row in body])
            columns = ", ".join(f'{old} AS "{new}"' for old, new in zip("abcde", names, strict=True))
            con.execute(f"COPY (SELECT {columns} FROM t) TO '{path}' (FORMAT parquet)")
    return path


def decoded(trace: Trace) -> list[tuple[object, ...]]:
    table = trace.table()
    assert table.model is not None
    assert table.tenant is not None
    return [
        (int(at) // 10**9, int(i), int(o), trace.names["model"][m], trace.names["tenant"][t])
        for at, i, o, m, t in zip(
            table.arrival_ns, table.input_tok, table.output_tok, table.model, table.tenant, strict=True
        )
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@given(body=rows)
@settings(max_examples=25, deadline=None)
def test_round_trip(kind: str, body: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = ["ts", "prompt_tokens", "completion tokens", "Model", "customer_id"]
        path = write(Path(folder), kind, names, body)
        found = decoded(open_trace(path))
    # Sorted by time, and in the file's order where times are equal.
    assert found == sorted(body, key=lambda row: row[0])  # type: ignore[arg-type, return-value]


@given(body=rows, chunk=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_chunks_make_the_table(body: list[tuple[object, ...]], chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = write(Path(folder), "csv", ["ts", "input_tokens", "output_tokens", "model", "tenant"], body)
        whole = open_trace(path).table()
        patch.setattr(ingest, "CHUNK_ROWS", chunk)
        pieces = open_trace(path)
        parts = tuple(pieces.chunks())
    assert [len(part) for part in parts[:-1]] == [chunk] * (len(parts) - 1)
    joined = concat(parts)
    for name in ("arrival_ns", "input_tok", "output_tok", "model", "tenant", "line", "outcome"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist()


def test_reading_again_starts_again(tmp_path: Path) -> None:
    body: list[tuple[object, ...]] = [(1_700_000_000 + i, i, i, "m", "t") for i in range(50)]
    trace = open_trace(
        write(tmp_path, "csv", ["ts", "input_tokens", "output_tokens", "model", "tenant"], body)
    )
    first = trace.chunks()
    one = next(first)
    again = trace.table()
    assert np.array_equal(one.input_tok, again.input_tok)


def test_two_traces_do_not_share_names(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    names = ["ts", "input_tokens", "output_tokens", "model", "tenant"]
    one = open_trace(write(tmp_path, "csv", names, [(1_700_000_000, 1, 1, "m1", "t")]))
    two = open_trace(write(tmp_path / "x", "csv", names, [(1_700_000_000, 1, 1, "m2", "t")]))
    assert one.names["model"] == ("m1",)
    assert two.names["model"] == ("m2",)
    assert one.digest != two.digest


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        (
            "log.csv",
            b"ts,model,in,out\n1,caf\xe9,1,1\n",
            r"not a text file in UTF-8 \(byte 0xe9\)\. Save it as UTF-8",
        ),
        ("log.csv", "ts,in,out\n1,2,3\n".encode("utf-16"), r"text in UTF-16\. Save it as UTF-8: iconv"),
        ("log.xlsx", b"PK\x03\x04" + bytes(99), r"a spreadsheet or a zip archive.*Export it as CSV"),
        ("log.zst", b"\x28\xb5\x2f\xfd" + bytes(99), r"compressed with zstd\. Decompress it"),
        ("log.csv", b"ts,in,out\n1,\0,3\n", r"it holds zero bytes"),
        ("plan.toml", b'title = "a product"\n', r"a TOML file, not a log\. .* isocost plan FILE"),
        ("log.jsonl", b"not json\n", r"not JSON: it begins neither with"),
        ("log.parquet", b"PAR1 and no more", r"^[^\n]*not a readable Parquet file \([^\n]*\)$"),
        (
            "log.csv",
            b"time,input_tokens,output_tokens\n11/05/2026 10:00,1,2\n",
            r"no row has a readable value in 'time' \(such as '11/05/2026 10:00'\)\. Write times as 2026-11",
        ),
        (
            "log.csv",
            b'time,input_tokens,output_tokens\n1760000000,"1,234",2\n1760000001,"1,234",2\n',
            r"in 'input_tokens' \(such as '1,234'\)\. Write counts in digits alone",
        ),
    ],
)
def test_files_that_are_no_log_say_what_they_are(tmp_path: Path, name: str, body: bytes, says: str) -> None:
    log = tmp_path / name
    log.write_bytes(body)
    with pytest.raises(BadTrace, match=says):
        open_trace(log)


@pytest.mark.parametrize("model", ["", ",m"])
def test_an_optional_value_that_is_no_number_does_not_cost_its_row(tmp_path: Path, model: str) -> None:
    log = tmp_path / "log.csv"
    lines = [f"{1760000000 + at},100,10,{'n/a' if at % 2 else 5}{model}" for at in range(6)]
    log.write_text("\n".join([f"time,input_tokens,output_tokens,cached_tokens{model and ',model'}", *lines]))
    found = open_trace(log).table()
    assert (len(found), found.cached_tok.tolist()) == (6, [5, 0, 5, 0, 5, 0])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"fmt": "litelm"}, r"--format: no reader 'litelm'\. Did you mean litellm\?"),
        ({"fmt": "mooncake"}, r"no column 'timestamp', which a log that is read in this way has"),
        ({"mapping": {"arival": "time"}}, r"--map knows no column 'arival'\. Did you mean arrival\?"),
    ],
)
def test_misspelt_words_are_told(tmp_path: Path, words: dict[str, Any], says: str) -> None:
    log = tmp_path / "log.csv"
    log.write_text("time,input_tokens,output_tokens\n1760000000,1,2\n")
    with pytest.raises(BadTrace, match=says):
        open_trace(log, **words)
