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


def test_rows_off_by_one_factor_are_one_mistake_where_others_prove_the_formula(tmp_path: Path) -> None:
    """A column made with another price is one mistake beside figures that come out, and no proof alone."""
    column = [
        row(f"c{k}", "breakeven_months", MONTHS.format(k, 100, 2), 0.5 * months(k, 100, 2), "months")
        for k in (500, 1000, 2000, 4000)
    ]
    report = validate_tco(asked(tmp_path / "column.csv", column))
    assert (len(report.flagged), len(report.failed)) == (0, 4)
    report = validate_tco(asked(tmp_path / "one.csv", column[:1]))
    assert (len(report.flagged), len(report.failed)) == (0, 1)
    right = [
        row(f"r{k}", "breakeven_months", MONTHS.format(k, 200, 3), months(k, 200, 3), "months")
        for k in (600, 700, 800)
    ]
    report = validate_tco(asked(tmp_path / "both.csv", [*column, *right]))
    assert (len(report.flagged), report.passed) == (4, 3)
    assert "3 more of it are off by the same factor" in report.flagged[0].because
    assert len(validate_tco(asked(tmp_path / "two.csv", [*column, *right[:2]])).flagged) == 0
    # Where others of the publication come out each in another way, the formula may be ours to mend.
    others = [
        row(f"o{k}", "breakeven_months", MONTHS.format(1000, 100, 2), k * months(1000, 100, 2), "months")
        for k in (1.3, 1.7, 2.5, 3.5)
    ]
    report = validate_tco(asked(tmp_path / "others.csv", [*others, *right]))
    assert not report.flagged
    assert len(report.failed) == 4


@pytest.mark.parametrize(
    ("again", "flagged"),
    [("{0}", 1), ("", 0), ("{1}", 0), ("77", 0)],
    ids=["ours", "none", "theirs", "another"],
)
def test_a_lone_figure_is_flagged_where_its_author_worked_out_ours(
    again: str, flagged: int, tmp_path: Path
) -> None:
    """Another who gets our figure from the inputs, and not the published one, is evidence."""
    right = months(500, 100, 2)
    names = (
        "case_id",
        "kind",
        "inputs",
        "metric",
        "published",
        "unit",
        "reproduced_here",
        "tolerance",
        "ref",
    )
    cells = ("x", "breakeven_months", MONTHS.format(500, 100, 2), "", 0.5 * right, "months")
    file = tmp_path / "x.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerow((*cells, again.format(round(right, 3), round(0.5 * right, 3)), "0.01", "a paper"))
    report = validate_tco(file)
    assert (report.passed, len(report.flagged), len(report.failed)) == (0, flagged, 1 - flagged)
    if not flagged:
        assert "nothing else tells" in report.why["x"]


GPUS = '{{"gpu_usd_h": 2, "gpus": {0}, "tok_s": {1}}}'


def test_what_a_price_is_of_is_read_as_the_publication_has_it(tmp_path: Path) -> None:
    """Tokens a second of one accelerator, or of all of them: other rows tell, a row's own figure does not."""
    one = {k: 2 / (k * 3600 / 1e6) for k in (1000, 2000, 4000, 8000)}
    each = [row(f"e{k}", "usd_per_mtok", GPUS.format(8, k), usd, "USD") for k, usd in one.items()]
    assert validate_tco(asked(tmp_path / "each.csv", each)).passed == 4
    assert validate_tco(asked(tmp_path / "alone.csv", each[:1])).passed == 1
    whole = [row(f"w{k}", "usd_per_mtok", GPUS.format(8, k), 8 * usd, "USD") for k, usd in one.items()]
    assert validate_tco(asked(tmp_path / "whole.csv", whole)).passed == 4
    report = validate_tco(asked(tmp_path / "alone.csv", whole[:1]))
    assert (report.passed, report.flagged) == (0, ())
    report = validate_tco(asked(tmp_path / "odd.csv", [*whole[1:], each[0]]))
    assert (report.passed, report.flagged) == (3, ())


@pytest.mark.parametrize("used", ["60", '"60%"', "0.6"])
def test_utilisation_is_a_share_or_a_percentage(used: str, tmp_path: Path) -> None:
    """Sixty of a hundred, however it is written."""
    inputs = f'{{"gpu_usd_h": 2, "tok_s": 1000, "utilization": {used}}}'
    report = validate_tco(asked(tmp_path / "x.csv", [row("x", "usd_per_mtok", inputs, 2 / 2.16, "USD")]))
    assert report.passed == 1


def test_an_input_that_explains_a_miss_is_no_contradiction(tmp_path: Path) -> None:
    """Eight accelerators that a formula does not count are ours to count, not the publication's error."""
    hours = '{"capex": 1000, "cloud_usd_h": 12, "onprem_usd_h": 2, "gpus": 8}'
    report = validate_tco(asked(tmp_path / "x.csv", [row("x", "breakeven_hours", hours, 800.0, "h")]))
    assert not report.flagged
    assert report.failed == ("x",)
    shared = '{"gpu_usd_h": 2.0, "gpus": 4, "tok_s": 1000, "utilization": 0.5}'
    right = row("y", "usd_per_mtok", shared, 2.0 * 4 / (1000 * 0.5 * 3600 / 1e6), "USD")
    assert validate_tco(asked(tmp_path / "y.csv", [right])).passed == 1
