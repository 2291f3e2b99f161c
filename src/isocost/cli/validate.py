"""``isocost validate``: our figures against files of measured ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput
from isocost.units import plural

if TYPE_CHECKING:
    from isocost.validate.kinds import Share
    from isocost.validate.peers import Peer

MOST_FAILED = 6
FRACTIONS = frozenset({"mape", "median", "covered"})
SHOWN = FRACTIONS | {
    "kind", "file", "rows", "left_out", "passed", "failed", "passed_ids", "by", "wrong", "compared", "notes",
    "peers", "repeats",
}  # fmt: skip
"""Parts of a report that have a place of their own in what is printed."""
HEADS = (("rows", "r"), ("passed", "r"), ("MAPE", "r"), ("median", "r"), ("in 80 %", "r"))


@app.command(sort_key=8)
def validate(
    kind: str = "",
    file: Annotated[Path | None, Parameter(help="CSV or Parquet; for replay a folder.")] = None,
    results: Annotated[Path | None, Parameter(help="For routing: the results of the questions.")] = None,
    /,
    *,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Compare our figures with a file of measured or known ones; alone, with all that ISOCOST_DATA holds.

    Parameters
    ----------
    kind
        What the file holds: bills, perf, energy, replay, prefix and so on; 'isocost validate' names all.
    """
    from isocost.validate.kinds import compare, data_files, kind_of

    if kind:
        kind_of(kind)
    catalog = load(facts) if facts else None
    if file is not None:
        with working(f"comparing with {file.name}"):
            found = compare(kind, file, catalog, results)
        return show_json(found) if json else _show_one(found)
    reports = []
    for name, each in data_files(kind=kind or None):
        with working(f"comparing with {each.name}"):
            try:
                reports.append(compare(name, each, catalog))
            except BadInput as wrong:
                reports.append(
                    {
                        "kind": name,
                        "file": str(each),
                        "rows": 0,
                        "passed": 0,
                        "failed": (),
                        "notes": (wrong.line(),),
                    }
                )
    if json:
        return show_json(reports)
    return _show_one(reports[0]) if len(reports) == 1 else _show_all(reports)


def _show_one(found: Mapping[str, Any]) -> None:
    if found["kind"] == "routing":
        from isocost.cli.routing import show_routing

        return show_routing(found)
    rows, passed, kept = _counts(found)
    share = f" ({passed / kept:.1%})" if kept else ""
    show(Text(f"{found['kind']}: {passed:,} of {plural(kept, 'row')} passed{share}", "bold"))
    said = _sentence(found)
    show(*([wrapped(said)] if said else []), f"  {found['file']}: {plural(rows, 'row')}")
    if rows != kept:
        show(wrapped(_words(found["left_out"]), "left out: "))
    _show_rest(found)
    _show_groups(found.get("by"), found.get("peers") or {})
    _show_failed(found)
    for note in found.get("notes", ()):
        show(wrapped(note))


def _sentence(found: Mapping[str, Any]) -> str:
    said = []
    if _known(found.get("mape")):
        said.append(f"error {found['mape']:.1%} in the mean")
    if _known(found.get("median")):
        said.append(f"{found['median']:.1%} in the median")
    if _known(found.get("covered")):
        said.append(f"{found['covered']:.0%} inside the 80 % interval")
    return ", ".join(said)


def _known(value: object) -> bool:
    return isinstance(value, float) and not math.isnan(value)


def _counts(found: Mapping[str, Any]) -> tuple[int, int, int]:
    """Rows, rows that passed, and rows that no rule leaves out."""
    rows, passed = int(found["rows"]), int(found["passed"])
    return rows, passed, rows - sum((found.get("left_out") or {}).values())


def _show_rest(found: Mapping[str, Any]) -> None:
    """What a kind has to say of its own and knows: nan is what a file does not ask."""
    table = grid(("", "l"), ("", "w"))
    for name, value in found.items():
        if name in FRACTIONS and isinstance(value, Mapping):
            table.add_row(f"  {name}", _words(value, True))
        elif name not in SHOWN and value not in ({}, (), []) and value == value:
            table.add_row(f"  {name.replace('_', ' ')}", _words(value))
    if table.row_count:
        show(table)


def _show_failed(found: Mapping[str, Any]) -> None:
    if found.get("passed_ids"):
        show("", wrapped(", ".join(found["passed_ids"]), "passed: ", 0))
    failed = [str(one) for one in found["failed"]]
    if failed:
        cut = 0 if "wrong" in found else max(0, len(failed) - MOST_FAILED)
        more = f" and {cut:,} more (--json lists all)" if cut else ""
        show("", wrapped(f"{', '.join(failed[: len(failed) - cut])}{more}", "failed: ", 0))
    for case in found.get("wrong", ()):
        show(wrapped(case.why, f"{case.id}: "))


def _show_groups(by: Mapping[str, Mapping[str, Share]] | None, peers: Mapping[str, Sequence[Peer]]) -> None:
    if not by:
        return
    table = grid(("by", "l"), ("", "l"), *HEADS)
    for name, shares in by.items():
        for i, (value, share) in enumerate(shares.items()):
            table.add_row(name if i == 0 else "", value, *_cells(share))
    show("", table)
    metrics = by.get("metric", {}).items()
    _show_others([(value, "", share, peers.get(value, ())) for value, share in metrics])


def _show_others(lines: Sequence[tuple[str, str, Share, Sequence[Peer]]]) -> None:
    """What other predictors do on the same rows: by metric and source, beside ours."""
    table = grid(
        ("beside another predictor", "l"), ("", "l"), ("", "l"), ("MAPE", "r"), ("median", "r"),
        ("ours", "r"), ("median", "r"),
    )  # fmt: skip
    for value, source, share, others in lines:
        for one in others:
            theirs = (_percent(one.mape) or "-", _percent(one.median) or "-")
            table.add_row(value, source, one.name, *theirs, _percent(share.mape), _percent(share.median))
    if table.row_count:
        show("", table)


def _show_all(reports: Sequence[Mapping[str, Any]]) -> None:
    """The table by source, then by each grouping."""
    table = grid(("kind", "l"), ("source", "l"), ("rows", "r"), ("left out", "r"), *HEADS[1:])
    total = held = 0
    for found in reports:
        rows, passed, kept = _counts(found)
        total, held = total + kept, held + passed
        errors = [
            _percent(found.get(name), places) for name, places in (("mape", 1), ("median", 1), ("covered", 0))
        ]
        left_out = f"{rows - kept:,}" if rows != kept else ""
        name = _source(found)
        table.add_row(found["kind"], name, f"{rows:,}", left_out, _part(passed, kept), *errors)
    show(
        Text(f"{held:,} of {plural(total, 'row')} passed, in {plural(len(reports), 'file')}", "bold"),
        "",
        table,
    )
    names = dict.fromkeys(name for found in reports for name in found.get("by") or {})
    kinds = len({found["kind"] for found in reports}) > 1
    for name in names:
        table = grid((f"by {name}", "l"), *([("kind", "l")] if kinds else []), ("source", "l"), *HEADS)
        lines = [
            (value, found["kind"], _source(found), share, (found.get("peers") or {}).get(value, ()))
            for found in reports
            for value, share in (found.get("by") or {}).get(name, {}).items()
        ]
        last = ""
        for value, kind, source, share, _ in sorted(lines, key=lambda line: line[:3]):
            table.add_row(value if value != last else "", *([kind] if kinds else []), source, *_cells(share))
            last = value
        show("", table)
        if name == "metric":
            _show_others([(value, source, share, others) for value, _, source, share, others in lines])
    for found in reports:
        for note in found.get("notes", ()):
            show(wrapped(f"{_source(found)}: {note}"))
    show("", wrapped("Rows left out, each by a named rule: isocost validate KIND FILE. All of it: --json."))


def _cells(share: Share) -> tuple[str, ...]:
    errors = (_percent(share.mape), _percent(share.median), _percent(share.covered, 0))
    return (f"{share.rows:,}", _part(share.passed, share.rows) if share.passed else "", *errors)


def _part(count: int, whole: int) -> str:
    return f"{count / whole:.0%}" if whole else ""


def _percent(value: object, places: int = 1) -> str:
    return f"{value:.{places}%}" if _known(value) else ""


def _words(value: object, frac: bool = False) -> str:
    if isinstance(value, float):
        return f"{value:.1%}" if frac else f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_words(item, frac)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value) if len(value) <= 6 else f"{len(value)} (--json)"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _source(found: Mapping[str, Any]) -> str:
    return Path(found["file"]).name.removesuffix(".parquet").removesuffix(".csv")
