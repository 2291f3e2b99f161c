"""Outcomes read in pieces: a key is no answer, strays are said, doubled rows must agree."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from isocost.errors import BadInput
from isocost.policy.bounds import Proofs, is_proven
from isocost.policy.outcomes import read_outcomes
from isocost.trace import table


def long(path: Path, extra: str = "", answer: str = "") -> Path:
    rows = ["qid,model,quality,answer"]
    rows += [
        f"q{i},m{j},{int((i * 7 + j) % 3 > 0)},{answer or 'AB'[(i + j) % 2]}"
        for i in range(40)
        for j in (2, 1)
    ]
    path.write_text("\n".join([*rows, *([extra] if extra else [])]) + "\n", encoding="utf-8")
    return path


def test_pieces_say_what_one_reading_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = long(tmp_path / "o.csv")
    whole = read_outcomes(file)
    monkeypatch.setattr(table, "_ROWS", 7)
    pieces = read_outcomes(file)
    assert (
        (pieces.qid, pieces.models)
        == (whole.qid, whole.models)
        == (tuple(f"q{i}" for i in range(40)), ("m1", "m2"))
    )
    assert np.array_equal(pieces.quality, whole.quality)
    assert np.array_equal(pieces.answer, whole.answer)
    assert whole.quality[3].tolist() == [float((3 * 7 + j) % 3 > 0) for j in (1, 2)]
    assert (whole.answer[:, 0] != whole.answer[:, 1]).all()


def test_a_column_of_right_answers_is_not_what_models_said(tmp_path: Path) -> None:
    found = read_outcomes(long(tmp_path / "o.csv", answer="A"))
    assert not found.has_answers
    assert any("a key" in note for note in found.notes)


def test_an_answer_has_one_grade(tmp_path: Path) -> None:
    assert len(read_outcomes(long(tmp_path / "o.csv", "q0,m1,1,B"))) == 40
    with pytest.raises(BadInput, match="two outcomes"):
        read_outcomes(long(tmp_path / "o.csv", "q0,m1,0,B"))


def test_samples_that_are_alike_share_their_proofs_and_no_verdict() -> None:
    rng = np.random.default_rng(1)
    ask = Proofs(2000, 0.01)
    for both in rng.integers(150, 260, 60).tolist():
        wins = int(both / 2 + rng.normal(0, 0.6) * both**0.5 / 2)
        assert ask(wins, both - wins) == is_proven(2000, wins, both - wins, 0.01)
    assert ask.worked_out < 20


@pytest.mark.parametrize(
    ("column", "cells", "why"),
    [
        ("quality", [[1.0], [0.0]], "a cell of quality is a list"),
        ("qid", [["a"], ["b"]], "a cell of qid is a list"),
        ("qid", [None, "b"], "row 1 has no qid"),
        ("model", ["m", ""], "row 2 has no model"),
    ],
)
def test_rows_that_name_no_question_or_hold_lists_are_refused(
    tmp_path: Path, column: str, cells: list[object], why: str
) -> None:
    columns: dict[str, list[object]] = {"qid": ["a", "b"], "model": ["m", "m"], "quality": [1.0, 0.0]}
    columns[column] = cells
    rows = "SELECT " + ", ".join(f"unnest(${name}) AS {name}" for name in columns)
    duckdb.execute(f"COPY ({rows}) TO '{tmp_path / 'o.parquet'}'", columns)
    with pytest.raises(BadInput, match=why):
        read_outcomes(tmp_path / "o.parquet")
