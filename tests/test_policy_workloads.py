"""Several workloads in one file of outcomes, and costs that are not all there."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.errors import BadInput, BadLimits
from isocost.policy import Request, Try
from isocost.policy.outcomes import read_outcomes
from isocost.policy.pricing import costs, price_models
from isocost.policy.rules import Fixed, Policies
from isocost.policy.study import Wanted, dumps, loads, study
from test_policy_fit import made, written_to

TODAY = date(2026, 11, 23)


def of_workload(rows: list[dict[str, object]], name: str) -> list[dict[str, object]]:
    return [{**row, "qid": f"{name or 'rest'}-{row['qid']}", "workload": name} for row in rows]


def test_a_small_workload_is_named_and_keeps_its_strong_model(tmp_path: Path) -> None:
    rows = of_workload(made(2500, seed=2), "faq") + of_workload(made(7, seed=3), "billing")
    found = study(
        read_outcomes(written_to(tmp_path / "o.csv", rows)), Catalog.load().at(TODAY), Wanted("strong")
    )
    assert [one.workload for one in found.certificates] == ["faq"]
    assert any("too few graded questions" in note and "billing (7)" in note for note in found.notes)
    assert [rule.workload for rule in found.rules] == ["faq"]


def test_a_certificate_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    file = written_to(tmp_path / "o.csv", made(2500, seed=2))
    found = study(read_outcomes(file), Catalog.load().at(TODAY), Wanted("strong"))
    text = dumps(found)
    assert len(loads(text)[0]) == len(found.rules) == 1
    for pattern, by, why in (
        ("certified = true", "certified = false", "no certificate allows"),
        (r"saving = [\d.]+", "saving = 9.0", "saving = 9 cannot be"),
        (r"saving = [\d.]+", "saving = nan", "saving = nan cannot be"),
        (r"p_value = [\d.e-]+", "p_value = 0.4", "p_value = 0.4 cannot be"),
    ):
        with pytest.raises(BadLimits, match=why):
            loads(re.sub(pattern, by, text, count=1))


def test_a_workload_that_nobody_graded_keeps_its_strong_model(tmp_path: Path) -> None:
    rows = of_workload(made(2500, seed=2), "faq")
    rows += [{**row, "quality": ""} for row in of_workload(made(400, seed=3), "billing")]
    found = study(
        read_outcomes(written_to(tmp_path / "o.csv", rows)), Catalog.load().at(TODAY), Wanted("strong")
    )
    assert [one.workload for one in found.certificates] == ["faq"]
    assert any("strong model stays: billing (400)" in note for note in found.notes)


def test_the_rule_of_the_rest_routes_no_workload_that_failed(tmp_path: Path) -> None:
    """Rows without a workload make a rule for all; one that was refused, or never tried, stays strong."""
    rows = (
        of_workload(made(2500, seed=2), "")
        + of_workload(made(400, seed=4, right=(0.3, 0.3, 0.9)), "law")
        + of_workload(made(7, seed=3), "billing")
    )
    found = study(
        read_outcomes(written_to(tmp_path / "o.csv", rows)), Catalog.load().at(TODAY), Wanted("strong")
    )
    assert {one.workload: one.certified for one in found.certificates} == {"*": True, "law": False}
    kept = {rule.workload: rule.choose for rule in found.rules if rule.workload != "*"}
    assert kept == {"law": Fixed("strong"), "billing": Fixed("strong")}
    first = Policies(found.rules).next(Request("law", "strong", sequence=0, hour=9), [])
    assert isinstance(first, Try)
    assert first.deployments == ("strong",)


def test_no_workload_large_enough_is_refused_with_the_largest(tmp_path: Path) -> None:
    rows = of_workload(made(18), "faq") + of_workload(made(15, seed=5), "billing")
    with pytest.raises(BadInput, match=r"workload 'faq': too few questions: \d+ graded to choose on"):
        study(read_outcomes(written_to(tmp_path / "o.csv", rows)), Catalog.load().at(TODAY), Wanted("strong"))


def test_a_few_blank_costs_are_the_mean_of_the_others(tmp_path: Path) -> None:
    """Of models that no catalog knows; with most costs blank nothing is supposed."""
    rows = made(300)
    full = read_outcomes(written_to(tmp_path / "full.csv", rows))
    for i in (0, 7, 200):
        rows[i] = {**rows[i], "cost": ""}
    some = read_outcomes(written_to(tmp_path / "some.csv", rows))
    at = Catalog.load().at(TODAY)
    usd, notes = costs(some, price_models(some.models, at), at)
    blank = np.isnan(some.cost)
    assert blank.sum() == 3
    assert (usd[~blank] == full.cost[~blank]).all()
    for i, j in np.argwhere(blank):
        assert usd[i, j] == pytest.approx(np.nanmean(some.cost[:, j]))
    assert any(note.startswith("3 answers without a cost") for note in notes)
    most = [{**row, "cost": row["cost"] if i < 300 else ""} for i, row in enumerate(rows)]
    found = read_outcomes(written_to(tmp_path / "most.csv", most))
    with pytest.raises(BadInput, match=r"has costs in dollars, but not of \d+ answers of it"):
        costs(found, price_models(found.models, at), at)
