"""Times with a zone in Parquet files are read without a package for time zones."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from isocost.policy.grades import read as grades
from isocost.policy.grades.wide import Columns
from isocost.trace import open_trace
from isocost.trace.head import look
from isocost.validate.table import rows_of

SELECT = """
SELECT TIMESTAMPTZ '2026-11-01 10:00:00+02' + to_minutes(i::BIGINT) AS timestamp, [timestamp] AS seen,
       'openai/gpt-5.4' AS model, 1000 + i AS input_tokens, 50 AS output_tokens, 0.5 AS score,
       'q' || i AS question
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


def test_grades_are_read(log: Path) -> None:
    """Columns that are no grade do not keep them from being read."""
    assert grades._parquet(log, Columns())
