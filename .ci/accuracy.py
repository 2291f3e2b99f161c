"""Rewrite the table of ``docs/accuracy.md``: ``python .ci/accuracy.py DATA``."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

from isocost.catalog import Catalog
from isocost.validate.perf import validate_perf

FILES = ("silicon", "inferencex_community", "mlenergy", "trtllm", "argonne", "splitwise", "published_points")
PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table(data: Path) -> str:
    """Errors of every file by quantity, as the rows of a table."""
    at = Catalog.load().at(date(2026, 11, 23))
    lines = ["| file | quantity | rows | MAPE | median | in 80 % |", "|---|---|---:|---:|---:|---:|"]
    for name in FILES:
        report = validate_perf(data / "perf" / f"{name}.parquet", at)
        for metric, share in report.by["metric"].items():
            numbers = f"{share.rows:,} | {share.mape:.1%} | {share.median:.1%} | {share.covered:.0%}"
            lines.append(f"| {name} | {metric} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrite the page in place."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(Path(sys.argv[1]))}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
