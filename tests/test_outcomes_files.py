"""Files of outcomes and of pairs that cannot be read are refused in one line that says what and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocost.errors import BadInput
from isocost.policy.grades import Choice, read_grades
from isocost.policy.outcomes import read_outcomes, scale_of
from isocost.policy.semantic_pairs import read
from isocost.trace.table import cells

HEAD = "qid,model,quality"
GOOD = "\n".join([HEAD, *(f"q{i},{m},{(i + m) % 2}" for i in range(40) for m in (0, 1))]) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "the file is empty"),
        (b"qid,model,quality\n", "a header and no rows"),
        (GOOD.encode() + b"q1,m\n", "82: 2 cells, the header has 3. Mend or remove the line"),
        (GOOD.encode() + b"q1,m\xe9,1\n", "not a text file in UTF-8"),
        (GOOD.encode() * 40 + b"q1,m\xe9,1\n", "not a text file in UTF-8. Save it as UTF-8"),
        (GOOD.encode("utf-16"), "text in UTF-16"),
        (b'[{"qid": 1}]', "JSON, not a table. Write it as CSV or Parquet"),
        (GOOD.encode() + b'q1,"m,1\n', "82: a quote that does not end"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_bytes(text)
    for reader in (read_outcomes, read):
        with pytest.raises(BadInput) as wrong:
            reader(file)
        assert said in wrong.value.line()
        assert "\n" not in wrong.value.line()


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    for call in (lambda: read_outcomes(tmp_path), lambda: read_grades([("", tmp_path)], Choice())):
        with pytest.raises(BadInput, match="a folder, not a file"):
            call()


def test_line_ends_and_marks_change_nothing(tmp_path: Path) -> None:
    plain = tmp_path / "plain.csv"
    plain.write_text(GOOD)
    other = tmp_path / "other.csv"
    other.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(",", ";").replace("\n", "\r\n").encode())
    assert cells(plain) == cells(other)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("q0,0,0.5,inf", "cost 'inf' is not a number"),
        ("q0,0,inf,1", "quality 'inf' is no grade"),
        ("q0,0,-5,1", "quality -5 is out of range"),
    ],
)
def test_a_value_that_is_none_is_named(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "outcomes.csv"
    rest = GOOD.splitlines()[2:]
    file.write_text("\n".join([f"{HEAD},cost", row, *(f"{one},1" for one in rest)]))
    with pytest.raises(BadInput, match=said):
        read_outcomes(file)


def test_a_question_stands_in_one_split(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    rows = [f"q{i},{m},{(i + m) % 2},{'AB'[m]}" for i in range(40) for m in (0, 1)]
    file.write_text("\n".join([f"{HEAD},split", *rows]))
    with pytest.raises(BadInput, match="question q0: in split A and in split B"):
        read_outcomes(file)


def test_a_stray_grade_writes_no_outcomes(tmp_path: Path) -> None:
    file = tmp_path / "graded.csv"
    file.write_text(GOOD + "q99,0,-5\n")
    with pytest.raises(BadInput, match="quality -5 is out of range"):
        read_grades([("", file)], Choice())
    assert scale_of(np.array([0.0, 7.0, 9.0]), "") == 10.0
