"""Grades that only some answers have, and options that nothing of the file fits: refused before a test is
spent or a file written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.cli import main
from isocost.errors import BadInput
from isocost.policy.agree import Fixed, Part
from isocost.policy.fit import difference_bounds, differences
from isocost.policy.outcomes import Outcomes, read_outcomes
from isocost.policy.outlook import outlook
from isocost.policy.prepared import Wanted, comparable, prepared
from isocost.policy.study import loads, study
from test_policy_fit import made, written_to

Rows = list[dict[str, object]]


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    return Catalog.load().at(date(2026, 11, 23))


def graded(rows: Rows, keeps: Callable[[dict[str, object]], bool]) -> Rows:
    return [{**row, "quality": row["quality"] if keeps(row) else ""} for row in rows]


def of(tmp_path: Path, rows: Rows) -> Outcomes:
    return read_outcomes(written_to(tmp_path / "o.csv", rows))


def right_by(row: dict[str, object]) -> bool:
    """Whether a small model was right, or the strong one wrong."""
    return (row["model"] == "strong") != (row["quality"] == 1.0)


def number(row: dict[str, object]) -> int:
    return int(str(row["qid"])[1:])


SMALL, ALL = ("small-a", "strong"), ("small-a", "small-b", "strong")


@pytest.mark.parametrize(
    ("models", "keeps", "alike"),
    [
        # Of the others only answers equal to the strong one's have grades: as good as the strong one's own.
        (SMALL, lambda row: row["model"] == "strong", True),
        (ALL, lambda row: row["model"] == "strong", True),
        # Of one model only answers that another gave too: it is never wrong or right alone.
        (ALL, lambda row: row["model"] != "small-b", True),
        # Each question was graded of one model, another one each time; and where no two answers are equal.
        (ALL, lambda row: number(row) % 3 == ALL.index(str(row["model"])), True),
        (ALL, lambda row: number(row) % 3 == ALL.index(str(row["model"])), False),
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_model_is_called_the_best_by_grades_of_different_questions(
    tmp_path: Path,
    at: CatalogAt,
    models: tuple[str, ...],
    keeps: Callable[[dict[str, object]], bool],
    alike: bool,
) -> None:
    """None is best, none is chosen, no test is spent on one; with the strong model named the fit says so."""
    rows = [row for row in made(1200, seed=2, right=(0.6, 0.6, 0.9)) if row["model"] in models]
    rows = [{**row, "pred": row["pred"] if alike else f"{row['pred']} {row['model']}"} for row in rows]
    found = of(tmp_path, graded(rows, keeps))
    with pytest.raises(BadInput, match="which model is the best cannot be told") as refused:
        study(found, at, Wanted())
    assert refused.value.fix.startswith("Type --strong MODEL")
    assert refused.value.fix.endswith(", ".join(models))
    told = study(found, at, Wanted("strong"), ())
    (one,) = told.certificates
    assert (one.strong, one.certified, told.looks) == ("strong", False, ())
    assert any("whether a cheaper model keeps quality cannot be told" in note for note in told.notes)
    with pytest.raises(BadInput, match="different questions"):
        outlook(found, at, Wanted("strong"))


def test_questions_that_all_are_graded_on_say_which_is_best(tmp_path: Path, at: CatalogAt) -> None:
    """A quarter of the questions graded of every model, at random; of the rest, what speaks for the small
    ones."""
    rows = made(4000, seed=5, right=(0.6, 0.6, 0.9))
    found = of(tmp_path, graded(rows, lambda row: number(row) % 4 == 0 or right_by(row)))
    means = np.nanmean(found.quality, axis=0)
    assert means[:2].min() > means[2]
    (one,) = study(found, at, Wanted()).certificates
    assert one.strong == "strong"


def test_full_grades_are_compared_over_all_questions(tmp_path: Path) -> None:
    found = of(tmp_path, made(300))
    every = np.arange(len(found))
    assert comparable(found, every) is every
    # Where all said the same nobody needs to have graded it.
    same = (found.answer == found.answer[:, :1]).all(axis=1)
    unneeded = {found.qid[i] for i in np.flatnonzero(same)}
    rows = graded(made(300), lambda row: row["qid"] not in unneeded)
    assert len(comparable(of(tmp_path, rows), every)) == len(found)


def test_a_workload_whose_best_cannot_be_told_is_named_and_not_tested(tmp_path: Path, at: CatalogAt) -> None:
    rows = [{**row, "qid": f"faq-{row['qid']}", "workload": "faq"} for row in made(1500, seed=2)]
    law = graded(made(600, seed=3), lambda row: row["model"] == "strong")
    rows += [{**row, "qid": f"law-{row['qid']}", "workload": "law"} for row in law]
    found = study(of(tmp_path, rows), at, Wanted())
    assert [one.workload for one in found.certificates] == ["faq"]
    assert any("which model is the best of law cannot be told" in note for note in found.notes)
    assert any("--strong MODEL" in note for note in found.notes)


def test_a_price_of_a_model_that_is_not_there_is_refused(
    tmp_path: Path, at: CatalogAt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = of(tmp_path, made(300))
    assert main(["policy", "fit", "o.csv", "--price", "zz=1/2"]) == 2
    assert "a price of 'zz', of which there are no outcomes" in (said := capsys.readouterr().err)
    assert "Models: small-a, small-b, strong" in said
    assert [one.name for one in tmp_path.iterdir()] == ["o.csv"]
    # A model of the file may have one although it is no candidate.
    prepared(found, at, Wanted("strong", ("small-a",), prices={"small-b": (1.0, 2.0)}))


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--volume=-3", "--volume: '-3' has no period"),
        ("--volume=x", "--volume: 'x' has no period"),
        ("--volume=0/mo", "--volume: '0/mo' is not a volume"),
        ("--strong=zz", "--strong: no outcomes of 'zz'. Models: cheap, dear"),
        ("--facts=none", "none"),
        ("--scale=1:1", "--scale: no scale '1:1'"),
    ],
)
def test_a_wrong_option_stops_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "g.csv", [
        {"qid": f"q{i}", "model": model, "quality": i % 2} for i in range(8) for model in ("cheap", "dear")
    ])  # fmt: skip
    assert main(["measure", "--grades", "g.csv", option]) == 2
    told = capsys.readouterr()
    assert why in told.err
    assert told.out == ""
    assert [one.name for one in tmp_path.iterdir()] == ["g.csv"]
    assert main(["measure", "--grades", "g.csv", "--strong=dear", "--volume=1k/mo"]) == 0
    assert (tmp_path / "outcomes.csv").exists()


def test_a_log_is_not_sampled_for_a_volume_that_cannot_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["measure", "log.csv", "--volume=x"]) == 2
    assert "--volume" in capsys.readouterr().err


@pytest.mark.parametrize("grades", [(0.0, 1.0), (0.0, 0.5, 1.0)])
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says(grades: tuple[float, ...]) -> None:
    rng, truth, held = np.random.default_rng(3), -0.1, 0
    for _ in range(40):
        strong = rng.choice(grades, 170)
        worse = np.where((strong == 1.0) & (rng.random(170) < 0.1 * len(grades)), 0.0, strong)
        quality, answer = np.stack([worse, strong], axis=1), np.full((170, 2), -1)
        part = Part(quality, np.ones((170, 2)), answer, np.zeros(170, int), 1, 1)
        did = Fixed(0).run(part)
        low, high = difference_bounds(did, part)
        assert low < differences(did, part).mean() < high
        held += low <= truth <= high
    assert held >= 38


def test_held_out_quality_is_shown_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What few held-out questions lost is no contradiction of a certificate that many others gave."""
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "o.csv", made(1500, seed=2))
    assert main(["policy", "fit", "o.csv", "--strong", "strong"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    text = (tmp_path / "policy.toml").read_text(encoding="utf-8")
    (one,) = loads(text)[1]
    low, high = one.held_out_difference_low, one.held_out_difference_high
    assert low is not None
    assert high is not None
    assert low < one.held_out_difference < high
    seen = f"{one.held_out_difference * 100:+.2f} pp ({low * 100:+.1f} to {high * 100:+.1f})"
    assert f"saved, {seen}, on {one.held_out_questions} questions" in shown
    # A file that was written without it still stands.
    older = "".join(line for line in text.splitlines(keepends=True) if "held_out_difference_" not in line)
    assert loads(older)[1][0].held_out_difference_low is None
