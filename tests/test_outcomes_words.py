"""Grades in words, as tests and annotators write them, are the numbers that they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocost.errors import BadInput
from isocost.policy.outcomes import read_outcomes


def _file(path: Path, good: str, bad: str) -> Path:
    rows = [f"q{i},What is {i}?,{m},{good if (i + m) % 3 else bad}" for i in range(40) for m in (0, 1)]
    path.write_text("\n".join(["qid,query,model,quality", *rows]))
    return path


@pytest.mark.parametrize(
    ("good", "bad"), [("True", "False"), ("pass", "fail"), ("Correct", "WRONG"), ("yes", "no")]
)
def test_a_grade_in_words_is_its_number(tmp_path: Path, good: str, bad: str) -> None:
    plain = read_outcomes(_file(tmp_path / "plain.csv", "1", "0"))
    found = read_outcomes(_file(tmp_path / "words.csv", good, bad))
    assert (found.quality == plain.quality).all()
    assert 0 < found.quality.mean() < 1


def test_a_word_that_says_no_grade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no grade"):
        read_outcomes(_file(tmp_path / "words.csv", "polite", "rude"))
