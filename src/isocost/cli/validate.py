"""``isocost validate``: our figures against a file of measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput

MOST_FAILED = 6
SHOWN = frozenset(
    {"kind", "file", "rows", "left_out", "passed", "failed", "passed_ids", "by", "wrong", "compared"}
)
"""Parts of a report that have a place of their own in what is printed."""
FRACTIONS = frozenset({"mape", "median", "covered"})


@app.command(sort_key=8)
def validate(
    kind: Literal["bills", "perf", "replay", "prefix"],
    file: Annotated[Path, Parameter(help="CSV or Parquet; for replay a folder.")],
    /,
    *,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Compare our figures with a file of measured or known ones.

    Parameters
    ----------
    kind
        bills (right amounts), perf (measured speeds), replay (an engine's own request times),
        prefix (hits of a block cache).
    """
    if not file.exists():
        raise BadInput("no such file", where=str(file), fix="Check the path")
    with working(f"comparing with {file.name}"):
        found = _compared(kind, file, facts)
    if json:
        return show_json(found)
    table = grid(("", "l"), ("", "w"))
    rows, passed = int(str(found["rows"])), int(str(found["passed"]))
    left_out = found.get("left_out")
    kept = rows - sum(left_out.values()) if isinstance(left_out, Mapping) else rows
    table.add_row("rows", f"{rows:,}")
    if kept != rows:
        table.add_row("left out", _words(left_out))
    table.add_row("passed", f"{passed:,} of {kept:,} ({passed / kept:.1%})" if kept else "0")
    for name, value in found.items():
        if name not in SHOWN and value not in ({}, (), []):
            table.add_row(name, _words(value, name in FRACTIONS))
    show(f"{kind}: {file}", table)
    _show_groups(found.get("by"))
    failed = found["failed"]
    assert isinstance(failed, list | tuple)
    if kind == "bills":
        _show_bills(found)
    elif failed:
        more = (
            f" and {len(failed) - MOST_FAILED} more (--json lists all)" if len(failed) > MOST_FAILED else ""
        )
        show("", wrapped(f"{', '.join(str(one) for one in failed[:MOST_FAILED])}{more}", "failed: ", 0))
    return None


def _compared(kind: str, file: Path, facts: Path | None) -> dict[str, object]:
    """The report of a kind as a mapping that has kind, file, rows, passed and failed."""
    import msgspec

    head = {"kind": kind, "file": str(file)}
    if kind == "bills":
        from isocost.validate.bills import bills

        result = bills(load(facts), file)
        wrong = [
            {"id": case.id, "expected_usd": case.expected_usd, "ours_usd": case.ours_usd, "why": case.why}
            for case in result.cases
            if not case.passed
        ]
        counts = {"rows": len(result.cases), "passed": result.passed, "failed": result.failed_ids}
        return {**head, **counts, "passed_ids": result.passed_ids, "wrong": wrong}
    if kind == "perf":
        from datetime import date

        from isocost.validate.perf import validate_perf

        at = load(facts).at(date.today()) if facts else None
        report = msgspec.structs.asdict(validate_perf(file, at))
    elif kind == "prefix":
        from isocost.validate.prefix import validate_prefix

        report = msgspec.structs.asdict(validate_prefix(file))
    else:
        from isocost.validate.replay import validate_replay

        found = validate_replay(file)
        report = {**msgspec.structs.asdict(found), "compared": found.rows, "rows": len(found.rows)}
    report.pop("path", None)
    return {**head, **report}


def _show_bills(found: Mapping[str, object]) -> None:
    """Every id, and of the wrong bills what we say instead."""
    passed, failed, wrong = found["passed_ids"], found["failed"], found["wrong"]
    assert isinstance(passed, tuple)
    assert isinstance(failed, tuple)
    assert isinstance(wrong, list)
    if passed:
        show("", wrapped(", ".join(passed), "passed: ", 0))
    if failed:
        show(wrapped(", ".join(failed), "failed: ", 0))
    for case in wrong:
        show(wrapped(case["why"], f"{case['id']}: "))


def _show_groups(by: object) -> None:
    if not isinstance(by, Mapping):
        return
    table = grid(("by", "l"), ("", "l"), ("rows", "r"), ("MAPE", "r"), ("median", "r"), ("in 80 %", "r"))
    for name, shares in by.items():
        for i, (value, share) in enumerate(shares.items()):
            cells = (f"{share.rows:,}", f"{share.mape:.1%}", f"{share.median:.1%}", f"{share.covered:.0%}")
            table.add_row(name if i == 0 else "", value, *cells)
    show("", table)


def _words(value: object, frac: bool = False) -> str:
    if isinstance(value, float):
        return f"{value:.1%}" if frac else f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_words(item, frac)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value) if len(value) <= 6 else f"{len(value)} (--json)"
    return f"{value:,}" if isinstance(value, int) else str(value)
