"""Rewrite the tables of ``docs/accuracy.md``: ``python .ci/accuracy.py DATA``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.perf.predict import groups_of, spread_of, within
from isocost.validate.perf import (
    PerfReport,
    Points,
    answer,
    assumed_spread,
    points_of,
    predict,
    validate_perf,
)
from isocost.validate.repeats import repeats_of, setups_of
from isocost.validate.stated import RATES, read_rows

FILES = ("silicon", "inferencex_community", "mlenergy", "trtllm", "argonne", "splitwise", "published_points")
LARGE = ("silicon", "mlenergy", "trtllm", "argonne")
"""Sources with 300 configurations and five families."""
PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
TODAY = date(2026, 11, 23)
WIDTH = 110


def table(data: Path, reports: Mapping[str, PerfReport] | None = None) -> str:
    """Errors of every file by quantity, as the rows of a table."""
    found = _reports(data) if reports is None else reports
    lines = ["| file | quantity | rows | MAPE | median | in 80 % |", "|---|---|---:|---:|---:|---:|"]
    for name, report in found.items():
        for metric, share in report.by["metric"].items():
            numbers = f"{share.rows:,} | {share.mape:.1%} | {share.median:.1%} | {share.covered:.0%}"
            lines.append(f"| {name} | {metric} | {numbers} |")
    return "\n".join(lines) + "\n"


def repeats(data: Path, reports: Mapping[str, PerfReport] | None = None) -> str:
    """How far measurements of one set-up lie apart, beside our error, as the rows of a table."""
    found = _reports(data) if reports is None else reports
    lines = [
        "| file | quantity | set-ups again | mean | median | any version | ours of them | ours of all |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, report in found.items():
        at, points = _points(data, name)
        said = answer(at, points).median
        setups = setups_of(points.labels, any_version=True)
        for metric, loose in repeats_of(setups, points.labels["metric"], points.measured, said).items():
            one = report.repeats.get(metric)
            share = report.by["metric"][metric]
            same = f"{one.setups} | {one.scatter:.1%} | {one.scatter_median:.1%}" if one else "– | – | –"
            ours = _pair(one.error, one.error_median) if one else "–"
            rest = (_pair(loose.scatter, loose.scatter_median), ours, _pair(share.mape, share.median))
            lines.append(f"| {name} | {metric} | {same} | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"


def held(data: Path, reports: Mapping[str, PerfReport] | None = None) -> str:
    """How often intervals hold, of the large sources, where a family is seen and where it is not."""
    found = _reports(data) if reports is None else reports
    unseen = [found[name].covered for name in LARGE]
    seen = [_seen(*_points(data, name)) for name in LARGE]
    pairs = ", ".join(f"{name} {a:.1%} and {b:.1%}" for name, a, b in zip(LARGE, unseen, seen, strict=True))
    said = (
        "`in 80 %` is how often the interval holds what was measured, where its ends are percentiles of the"
        " other families alone, widened as all families say. Of sources with 300 configurations and five"
        " families it holds, of families whose percentiles it is not drawn from and of those that it is:"
        f" {pairs}."
    )
    return textwrap.fill(said, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _reports(data: Path) -> dict[str, PerfReport]:
    at = Catalog.load().at(TODAY)
    return {name: validate_perf(data / "perf" / f"{name}.parquet", at) for name in FILES}


def _points(data: Path, name: str) -> tuple[CatalogAt, Points]:
    at = Catalog.load().at(TODAY)
    return at, points_of(at, read_rows(data / "perf" / f"{name}.parquet"))[0]


def _seen(at: CatalogAt, points: Points) -> float:
    """The share of measurements inside the interval of all families, their own among them."""
    named = ["throughput" if one in RATES else str(one) for one in points.quantity]
    spread = spread_of(at, named, groups_of(at, points.labels["gpu"], points.load.kind.tolist()))
    said = within(predict(points), assumed_spread(at, spread, named, points.labels["assumed"]))
    return float(np.mean((points.measured >= said.low) & (points.measured <= said.high)))


def _pair(mean: float, median: float) -> str:
    return f"{mean:.1%} / {median:.1%}"


def spoken(reports: Mapping[str, PerfReport]) -> dict[str, str]:
    """Figures of the tables that the page's sentences say again, by the name of their marks."""
    apart = {
        name: reports["silicon"].by["metric"][f"{name}_mean, prefill apart"] for name in ("tpot", "ttft")
    }
    return {
        "large": ", ".join(f"{100.0 * reports[name].covered:.0f}" for name in LARGE) + " %",
        **{f"apart {name}": f"{100 * one.mape:.0f} % in the mean, {100 * one.median:.0f} % in the median"
           for name, one in apart.items()},
    }  # fmt: skip


PARTS = {"table": table, "repeats": repeats, "held": held}


def main() -> None:
    """Rewrite the page in place."""
    data = Path(sys.argv[1])
    reports = _reports(data)
    text = PAGE.read_text(encoding="utf-8")
    for name, made in PARTS.items():
        begin, end = (f"<!-- {name}: {side} -->\n" for side in ("begin", "end"))
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{made(data, reports)}{end}{after}"
    for name, words in spoken(reports).items():
        mark = f"<!-- {name} -->"
        before, _, rest = text.partition(mark)
        _, end, after = rest.partition("<!-- / -->")
        text = f"{before}{mark}{words}{end}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
