"""Files of questions for a semantic cache: sessions stay whole, times are times, repeats are an exact
cache's, and whatever a file holds is answered."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.errors import BadInput
from isocost.policy.semantic_fit import cut
from isocost.policy.semantic_pairs import read, shuffled
from isocost.policy.semantic_study import Asked, Wanted, study
from isocost.validate.semcache import MOST_WRONG, _loosest, validate_semcache
from test_semantic_cache import asked as questions


def written(file: Path, head: str, rows: list[tuple[object, ...]]) -> Path:
    """A CSV file."""
    file.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return file


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=30), st.integers(0, 9))
def test_a_random_order_keeps_sessions_whole(units: list[str], seed: int) -> None:
    """Rows of a session stand together in their own order; with no session it is a plain permutation."""
    order = shuffled(units, np.random.Generator(np.random.PCG64(seed)))
    assert sorted(order) == list(range(len(units)))
    places = defaultdict(list)
    for place, i in enumerate(order):
        if units[i]:
            places[units[i]].append((place, i))
    for mine in places.values():
        assert [place for place, _ in mine] == list(range(mine[0][0], mine[0][0] + len(mine)))
        assert mine == sorted(mine, key=lambda one: one[1])
    plain = np.random.Generator(np.random.PCG64(seed)).permutation(len(units))
    assert shuffled([""] * len(units), np.random.Generator(np.random.PCG64(seed))) == plain.tolist()


def test_no_session_is_in_two_parts(tmp_path: Path) -> None:
    """So that a session that certifies is a fresh draw: none of it fitted, none of it reports."""
    rows = [(f"question {i}", i % 7, f"s{i % 300}") for i in range(1800)]
    made = read(written(tmp_path / "x.csv", "text,label,session", rows))
    units = [int(one.unit[1:]) for one in made.asked]
    first, end = cut(units)
    parts = [set(units[:first]), set(units[first:end]), set(units[end:])]
    assert all(parts)
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize(
    "times",
    [
        [str(k) for k in range(1, 13)],
        [f"{10**18 + k}" for k in range(12)],
        [f"2026-0{1 + k // 6}-01T0{k % 6}:00:00Z" for k in range(12)],
        [f"2026-11-{k:02d}" for k in range(1, 13)],
        ["2026-11-23T09:30:00+02:00", "2026-11-23T08:00:00Z"],
    ],
)
def test_timestamps_are_sorted_as_what_they_are(tmp_path: Path, times: list[str]) -> None:
    """1, 2, 10 and not 1, 10, 2; an offset counts."""
    rows = [(f"q{k}", "ab"[k % 2], time) for k, time in enumerate(times)]
    made = read(written(tmp_path / "x.csv", "text,label,timestamp", rows[::-1]))
    assert [one.text for one in made.asked] == [f"q{k}" for k in range(len(times))]


@pytest.mark.parametrize(
    ("times", "said"),
    [(("1", ""), "no time"), (("1", "monday"), "no time"), (("nan", "1"), "no time"),
     (("1", "2026-11-23"), "numbers and"), (("2026-11-23", "2026-11-23T00:00Z"), "offset")],
)  # fmt: skip
def test_timestamps_of_two_kinds_are_refused(tmp_path: Path, times: tuple[str, str], said: str) -> None:
    """What cannot be put in order is not guessed."""
    rows = [("one", "a", times[0]), ("two", "b", times[1])]
    with pytest.raises(BadInput, match=said):
        read(written(tmp_path / "x.csv", "text,label,timestamp", rows))


def test_repeats_and_blanks_of_a_file_are_no_requests(tmp_path: Path) -> None:
    """Letter for letter the same of one tenant is an exact cache's; blanks around labels are nothing, and a
    column without a session in it names none."""
    rows = [
        ("where", "a", "t", ""),
        ("where", " a ", "t", " "),
        ("where", "b", "u", ""),
        ("  ", "a", "t", ""),
    ]
    made = read(written(tmp_path / "x.csv", "text,label,tenant,session", rows))
    assert sorted((one.scope, one.text, one.is_repeat) for one in made.asked) == [
        (b"t", "where", False), (b"t", "where", True), (b"u", "where", False)
    ]  # fmt: skip
    assert made.unit == "request"
    assert any("1 whole repeat" in note for note in made.notes)
    same = next(i for i, one in enumerate(made.asked) if one.is_repeat)
    assert made.grade(same, 1 - same if made.asked[1 - same].scope == b"t" else 2)


def test_repeats_are_left_out_of_what_is_validated(tmp_path: Path) -> None:
    """They count as no hits, by a rule that is named."""
    texts, topics = questions(150, 5)
    rows = [*zip(texts, topics, strict=True)] * 4
    found = validate_semcache(written(tmp_path / "x.csv", "text,label", rows), orders=1)
    assert found.left_out["asked before word for word: an exact cache's to answer"] == 600 - len(set(texts))
    assert found.rows == found.passed + len(found.failed) + sum(found.left_out.values())


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=300))
def test_equal_scores_stand_or_fall_together(rows: list[tuple[int, bool]]) -> None:
    """Against every threshold tried: the loosest that lets at most so many wrong answers through."""
    scores = np.array([float(score) for score, _ in rows])
    right = np.array([same for _, same in rows])
    allowed = MOST_WRONG * len(rows)
    tried = [bar for bar in set(scores.tolist()) if (~right[scores >= bar]).sum() <= allowed]
    assert _loosest(scores, right) == min(tried, default=math.inf)


def asked(texts: list[str]) -> list[Asked]:
    return [Asked(text, at_s=float(i)) for i, text in enumerate(texts)]


def test_nothing_wrong_to_learn_from_is_certified() -> None:
    """A file of easy questions has no wrong pair: the bound needs none."""
    texts, _ = questions(1200, 5)
    found = study(asked([f"{text} {i}th" for i, text in enumerate(texts)]), Wanted(0.02), lambda i, j: False)
    assert found.proven is None
    easy = study(asked([text.replace("pin", "card") for text in texts]), Wanted(0.02), lambda i, j: True)
    assert easy.proven is not None
    assert easy.proven.wrong == 0
    assert easy.proven.hits > 300


def test_nothing_alike_is_a_result() -> None:
    """Off, for that reason, and nobody is asked for grades that would not help."""
    found = study(asked([f"{i}" for i in range(1200)]), Wanted(), lambda i, j: False)
    assert (found.proven, found.to_grade) == (None, ())
    assert "alike" in found.why


@pytest.mark.parametrize("many", [1, 2, 40, 1100])
def test_a_file_that_certifies_nothing_is_answered(tmp_path: Path, many: int) -> None:
    """Every row passes with the cache off, no bound is claimed, and it says what is missing."""
    rows = [(f"word{i} other{i}", i % 3) for i in range(many)]
    found = validate_semcache(written(tmp_path / "x.csv", "text,label", rows), orders=2)
    assert (found.hit_frac, found.failed, found.certified_orders) == (0.0, (), 0)
    assert found.verdict == "off: nothing certified"
    assert math.isnan(found.certified_wrong_frac)
    assert found.notes[0].startswith("nothing is certified: ")
    assert "is certified at" not in " ".join(found.notes)
    assert found.rows == found.passed + sum(found.left_out.values())


def test_too_few_grades_are_refused() -> None:
    """None, fewer than none and fewer than a fit takes."""
    for labels in (-5, 0, 39):
        with pytest.raises(BadInput, match="graded pairs to fit on"):
            study(asked(["a b c"] * 1200), Wanted(labels=labels), lambda i, j: True)
