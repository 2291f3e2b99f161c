"""Published figures of total cost, worked out again from their inputs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import product
from math import ceil, isclose
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.errors import BadInput, Infeasible
from isocost.validate.kinds import compare
from isocost.validate.static import static_fleet_usd_per_h
from isocost.validate.tco import (
    CONTRADICTS,
    NO_FIGURE,
    NO_INPUTS,
    NO_NUMBER,
    ONLY_SHARES,
    UNREADABLE,
    validate_tco,
)

CASES = Path(__file__).parent / "cases" / "tco.csv"


def rewritten(to: Path, change: dict[str, str], where: str) -> Path:
    """A copy of the cases with the cells of one case changed."""
    with CASES.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        names: Sequence[str] = reader.fieldnames or ()
        rows = [{**row, **change} if row["case_id"] == where else row for row in reader]
    with to.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(rows)
    return to


def test_cases_of_our_own() -> None:
    """Disclosed and published figures come out; what does not is flagged, failed or left out by name."""
    report = validate_tco(CASES)
    assert report.passed == 7
    assert report.failed == ("unsure (months)",)
    assert [one.id for one in report.flagged] == ["wrong product (compute)"]
    assert report.flagged[0].ours == 800.0
    assert report.left_out == {CONTRADICTS: 1, NO_INPUTS: 1, ONLY_SHARES: 1}


@pytest.mark.parametrize("case", ["lenovo:on-demand", "melange", "deepseek:day"])
def test_a_changed_figure_does_not_pass(case: str, tmp_path: Path) -> None:
    """The published figure is only compared with, never read to make ours."""
    file = rewritten(tmp_path / "tco.csv", {"published": "12345"}, case)
    assert validate_tco(file).passed < 7


def test_published_figures(data_dir: Path) -> None:
    """99 % of the published rows within their tolerance; those that contradict themselves by name."""
    found = compare("tco", data_dir / "tco" / "groundtruth_tco.csv")
    kept = found["rows"] - sum(found["left_out"].values())
    assert found["passed"] >= 0.99 * kept
    assert found["failed"] == ()
    flagged = {one.id.partition(" (")[0] for one in found["flagged"]}
    assert len(flagged) == 9
    assert sum("Gemini 2.5 Pro" in one for one in flagged) == 8


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    """The missing column is named."""
    file = tmp_path / "x.csv"
    file.write_text("case_id,kind\na,b\n", encoding="utf-8")
    with pytest.raises(BadInput, match="inputs"):
        validate_tco(file)
    with pytest.raises(BadInput, match="no such file"):
        validate_tco(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"inputs": "{"}, UNREADABLE), ({"published": "n/a"}, NO_NUMBER), ({"published": ""}, NO_FIGURE)],
)
def test_a_row_that_cannot_be_read_is_left_out_by_name(
    change: dict[str, str], rule: str, tmp_path: Path
) -> None:
    """The others are answered."""
    report = validate_tco(rewritten(tmp_path / "tco.csv", change, "melange"))
    assert report.left_out[rule] == 1
    assert report.passed == 6


def test_neither_order_nor_writing_changes_an_answer(tmp_path: Path) -> None:
    """Rows from last to first, headers in capitals, figures with a currency."""
    with CASES.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[::-1]
    for row in rows:
        row["published"] = f"${float(row['published']):,.12g}" if row["published"] else ""
    with (tmp_path / "tco.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, [name.upper() for name in rows[0]])
        writer.writeheader()
        writer.writerows({name.upper(): value for name, value in row.items()} for row in rows)
    report, usual = validate_tco(tmp_path / "tco.csv"), validate_tco(CASES)
    assert (report.passed, report.left_out) == (usual.passed, usual.left_out)


rates = st.lists(st.sampled_from([1.0, 2.0, 3.5, 7.0]), min_size=2, max_size=2)


@given(load=rates, small=rates, large=rates, usd=st.sampled_from([1.5, 2.0, 4.0]))
def test_the_static_fleet_is_the_cheapest(
    load: list[float], small: list[float], large: list[float], usd: float
) -> None:
    """Equal to trying every assignment of sizes to kinds."""
    carries, prices = {"small": small, "large": large}, {"small": 1.0, "large": usd}
    best = min(
        sum(
            prices[kind] * ceil(sum(load[i] / carries[kind][i] for i in (0, 1) if to[i] == kind) - 1e-9)
            for kind in prices
        )
        for to in product(prices, repeat=2)
    )
    assert isclose(static_fleet_usd_per_h(load, carries, prices), best, rel_tol=1e-6)


def test_a_size_that_nothing_carries_is_infeasible() -> None:
    """Rather than free."""
    with pytest.raises(Infeasible):
        static_fleet_usd_per_h([1.0], {"small": [0.0]}, {"small": 1.0})
