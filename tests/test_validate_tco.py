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


def row(
    case: str, kind: str, inputs: str, published: float, unit: str, ref: str = "a study"
) -> dict[str, str]:
    return {
        "case_id": case, "kind": kind, "inputs": inputs, "metric": "", "published": str(published),
        "unit": unit, "tolerance": "0.02", "ref": ref,
    }  # fmt: skip


def asked(to: Path, rows: Sequence[dict[str, str]]) -> Path:
    with to.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return to


MONTHS = (
    '{{"capex": {0}, "opex_month": 10, "capacity_mtok_month": {1}, "in_usd": {2}, "out_usd": 8, '
    '"mix": "1/2 in"}}'
)


def months(capex: float, mtok: float, in_usd: float) -> float:
    return capex / (mtok * (in_usd + 8) / 2 - 10)


def test_inputs_that_leave_nothing_to_suppose_flag_a_figure_that_is_alone(tmp_path: Path) -> None:
    """A break-even whose inputs say all contradicts them, with no other figure of the publication there."""
    wrong = row("a", "breakeven_months", MONTHS.format(1000, 100, 2), 1.1 * months(1000, 100, 2), "months")
    report = validate_tco(asked(tmp_path / "one.csv", [wrong]))
    assert [one.id for one in report.flagged] == ["a"]
    # A whole column made with another price is one mistake, not the word of many.
    column = [
        row(f"c{k}", "breakeven_months", MONTHS.format(k, 100, 2), 1.1 * months(k, 100, 2), "months")
        for k in (500, 1000, 2000)
    ]
    report = validate_tco(asked(tmp_path / "column.csv", column))
    assert len(report.flagged) == 3
    assert "2 more of the publication are off by the same factor" in report.flagged[0].because
    # Where others of the publication come out each in another way, the formula may be ours to mend.
    others = [
        row(f"o{k}", "breakeven_months", MONTHS.format(1000, 100, 2), k * months(1000, 100, 2), "months")
        for k in (1.3, 1.7, 2.5)
    ]
    report = validate_tco(asked(tmp_path / "others.csv", others))
    assert not report.flagged
    assert len(report.failed) == 3


def test_an_input_that_explains_a_miss_is_no_contradiction(tmp_path: Path) -> None:
    """Eight accelerators that a formula does not count are ours to count, not the publication's error."""
    hours = '{"capex": 1000, "cloud_usd_h": 12, "onprem_usd_h": 2, "gpus": 8}'
    report = validate_tco(asked(tmp_path / "x.csv", [row("x", "breakeven_hours", hours, 800.0, "h")]))
    assert not report.flagged
    assert report.failed == ("x",)
    shared = '{"gpu_usd_h": 2.0, "gpus": 4, "tok_s": 1000, "utilization": 0.5}'
    right = row("y", "usd_per_mtok", shared, 2.0 * 4 / (1000 * 0.5 * 3600 / 1e6), "USD")
    assert validate_tco(asked(tmp_path / "y.csv", [right])).passed == 1
