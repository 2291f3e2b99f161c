"""Times with a zone in Parquet files are read without a package for time zones."""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest

from isocost.policy.grades import Choice, read_grades
from isocost.trace import open_trace
from isocost.trace.head import look, rows_of_parquet
from isocost.validate.table import rows_of

SELECT = """
SELECT TIMESTAMPTZ '2026-11-01 10:00:00+02' + to_minutes(i::BIGINT) AS timestamp, [timestamp] AS seen,
       'openai/gpt-5.4' AS model, 1000 + i AS input_tokens, 50 AS output_tokens, 0.5 AS score,
       struct_pack(question := 'q' || i, asked := timestamp) AS inputs,
       struct_pack(score := 0.25, "at" := timestamp, "TIMESTAMP WITH TIME ZONE" := 'x') AS feedback,
       [struct_pack(a := timestamp)] AS many, MAP {timestamp: timestamp} AS by_time
FROM range(60) r(i)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log with zoned times, on a machine without pytz."""
    monkeypatch.setitem(sys.modules, "pytz", None)
    path = tmp_path / "log.parquet"
    with duckdb.connect() as con:
        con.execute(f"COPY ({SELECT}) TO '{path}'")
    return path


def test_a_log_is_read(log: Path) -> None:
    """At the instants that are meant, whatever the zone they were written in."""
    chunk = open_trace(log).requests()
    assert len(chunk) == 60
    assert np.datetime64(int(chunk.arrival_ns[0]), "ns") == np.datetime64("2026-11-01T08:00:00")
    assert str(look(log).sample[0]["timestamp"]) == "2026-11-01 08:00:00"


def test_a_table_is_read(log: Path) -> None:
    """Also where times stand in lists."""
    rows = rows_of(log, ("model",))
    assert len(rows) == 60
    assert rows[1][0]["timestamp"].startswith("2026-11-01 08:01")
    assert rows[1][0]["seen"] == '["2026-11-01 08:01:00"]'
    assert rows[1][0]["by_time"] == '{"2026-11-01 08:01:00": "2026-11-01 08:01:00"}'


def test_times_within_others_are_utc_wherever_the_machine_is(log: Path) -> None:
    columns = look(log).columns
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'America/New_York'")
        row = dict(zip(columns, rows_of_parquet(con, log, columns, 1)[0], strict=True))
    at = datetime(2026, 11, 1, 8)
    assert row["timestamp"] == at
    assert row["seen"] == [at]
    assert row["feedback"] == {"score": Decimal("0.25"), "at": at, "TIMESTAMP WITH TIME ZONE": "x"}
    assert row["many"] == [{"a": at}]
    assert row["by_time"] == {at: at}


def test_grades_are_read(log: Path) -> None:
    """Also where a grade stands beside a time; columns that are no grade do not keep them from being read."""
    found = read_grades([("", log)], Choice("score"))
    assert found.models == ("openai/gpt-5.4",)
    assert [one.quality for one in found.grades] == [0.25] * 60
    assert found.grades[7].query == "q7"
