"""Published costs of training are reproduced from their inputs, and a wrong one is found out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.validate.training import (
    CLAIM,
    NO_FIGURE,
    NO_INPUTS,
    NO_NUMBER,
    RECALLED,
    UNREADABLE,
    TrainingReport,
    rounding,
    validate_training,
)

CASES = Path(__file__).parent / "cases" / "training.csv"
COLUMNS = (
    *("case_id", "kind", "inputs", "metric", "published", "ci_low", "ci_high", "unit", "reproduced_here"),
    *("rel_err", "tolerance", "provenance", "ref", "note"),
)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def written(path: Path, table: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.fixture(scope="module")
def report(catalog: Catalog) -> TrainingReport:
    return validate_training(CASES, catalog)


def test_every_case_is_as_it_says(report: TrainingReport) -> None:
    """``note`` of a case says whether it must pass; wrong ones are here to be found."""
    wanted = {(row["case_id"], row["metric"]): row["note"] for row in rows(CASES)}
    for row in report.compared:
        assert ("pass" if row.passed else "fail") == wanted[row.id, row.metric], row
    assert report.left_out == {CLAIM: 2, RECALLED: 1}
    assert report.verdicts["seedclaim:GPT-3:low"].startswith("holds for rent")
    assert report.verdicts["seedclaim:GPT-9:any"].startswith("not known")


def test_a_changed_publication_turns_a_pass_into_a_fail(
    report: TrainingReport, catalog: Catalog, tmp_path: Path
) -> None:
    """No answer is made of what a row publishes: moved, every pass fails, and our answer stays."""
    passed = {(row.id, row.metric): row for row in report.compared if row.passed}
    table = []
    for row in rows(CASES):
        if (row["case_id"], row["metric"]) in passed:
            far = 20.0 if row["kind"] in ("gpu_hours", "development_cost") else 1.2
            ends = {key: str(float(row[key]) * far) for key in ("ci_low", "ci_high") if row[key]}
            # An upper bound is broken from the other side.
            down = row["kind"] in ("finetune", "data")
            value = float(row["published"])
            table.append({**row, **ends, "published": str(value / far if down else value * far)})
    moved = validate_training(written(tmp_path / "moved.csv", table), catalog)
    assert [row for row in moved.compared if row.passed] == []
    for row in moved.compared:
        assert row.ours == passed[row.id, row.metric].ours


def test_answers_do_not_hang_on_the_order_or_company_of_rows(
    report: TrainingReport, catalog: Catalog, tmp_path: Path
) -> None:
    one = validate_training(written(tmp_path / "back.csv", rows(CASES)[::-1]), catalog)
    key = lambda row: (row.id, row.metric)  # noqa: E731
    assert sorted(one.compared, key=key) == sorted(report.compared, key=key)


def test_rounding_is_half_of_the_last_digit_printed() -> None:
    assert rounding(1234.5) == pytest.approx(0.05 / 1234.5)
    assert rounding(4e8) == 0.01


def test_a_file_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("case_id,kind\n1,2\n")
    with pytest.raises(BadInput, match="no column"):
        validate_training(tmp_path / "a.csv")
    with pytest.raises(BadInput, match="no such file"):
        validate_training(tmp_path / "c.csv")


def test_a_row_that_cannot_be_read_is_left_out_by_name(catalog: Catalog, tmp_path: Path) -> None:
    good = rows(CASES)[0]
    table = [
        {**good, "inputs": "[1]"},
        {**good, "published": "n/a"},
        {**good, "published": ""},
        {**good, "inputs": json.dumps({"hours": [1], "pub": "soon"})},
        {**good, "kind": "trend", "inputs": json.dumps({"a": "much", "b": 0, "years": 0})},
    ]
    found = validate_training(written(tmp_path / "a.csv", table), catalog)
    assert found.left_out == {UNREADABLE: 1, NO_NUMBER: 1, NO_FIGURE: 1}
    assert [row.how for row in found.compared] == ["unanswered", "unanswered"]
    assert all(row.why for row in found.compared)


def _money(text: str) -> str:
    return f"${float(text):,.12g}" if text else ""


def _wide(text: str) -> str:
    return f"{float(text) * 0.98:.8g}-{float(text) * 1.02:.8g}" if text else ""


REWRITTEN = {
    "dollars and thousands": lambda row: {**row, "published": _money(row["published"])},
    "ranges": lambda row: {**row, "published": _wide(row["published"])},
    "upper-case headers": lambda row: {key.upper(): value for key, value in row.items()},
    "spaces": lambda row: {key: f" {value} " for key, value in row.items()},
    "upper-case metrics": lambda row: {**row, "metric": row["metric"].upper()},
    "inputs as text": lambda row: {
        **row,
        "inputs": json.dumps(
            {
                key.upper(): f"{value:,}" if isinstance(value, int | float) else value
                for key, value in json.loads(row["inputs"] or "{}").items()
            }
        ),
    },
    "inputs as Python prints them": lambda row: {**row, "inputs": str(json.loads(row["inputs"] or "{}"))},
}


@pytest.mark.parametrize("way", REWRITTEN)
def test_how_a_row_is_written_changes_no_answer(
    way: str, report: TrainingReport, catalog: Catalog, tmp_path: Path
) -> None:
    table = [REWRITTEN[way](row) for row in rows(CASES)]
    with (tmp_path / "a.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    found = validate_training(tmp_path / "a.csv", catalog)
    assert found.left_out == report.left_out
    assert [row.ours for row in found.compared] == [row.ours for row in report.compared]
    right = [(row.id, row.metric.lower()) for row in report.compared if row.passed]
    assert set(right) <= {(row.id, row.metric.lower()) for row in found.compared if row.passed}


def test_the_published_study_is_reproduced(data_dir: Path, catalog: Catalog) -> None:
    """At least 95 % of the rows that no rule leaves out, and 85 % of the forecasts inside 90 %."""
    found = validate_training(data_dir / "training" / "groundtruth_training.csv", catalog)
    kept = found.rows - sum(found.left_out.values())
    assert found.passed >= 0.95 * kept
    assert found.within_tenth_percent >= 0.95 * found.reproduced
    assert found.forecast_covered >= 0.85
    assert found.multiplier_covered == 1.0
    assert json.loads(json.dumps(list(found.failed))) == list(found.failed)


def test_a_case_without_inputs_is_left_out_by_name(catalog: Catalog, tmp_path: Path) -> None:
    """What nothing can be computed from is no failure of ours; inputs that say too little are one."""
    first, second = rows(CASES)[:2]
    file = written(tmp_path / "few.csv", [{**first, "inputs": ""}, {**second, "inputs": "{}"}])
    report = validate_training(file, catalog)
    assert report.left_out == {NO_INPUTS: 1}
    assert [(row.id, row.passed) for row in report.compared] == [(second["case_id"], False)]
