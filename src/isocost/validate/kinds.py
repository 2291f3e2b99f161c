"""The kinds of measured files that isocost is held against: one line a kind, one form of report.

A kind names a function ``(file, catalog) -> report``, where ``catalog`` is ``None`` for the shipped
facts (a kind whose function wants something else says so). A report is any ``msgspec.Struct`` with
``rows`` (how many, or the compared rows themselves), ``passed`` and ``failed`` (ids); where they are
known also ``left_out`` (rows by named rule), ``mape``, ``median`` and ``covered`` (fractions), ``by``
(grouping, value, :class:`Share`), ``notes`` (sentences) and whatever else it has to say.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.validate.peers import peers_of


class Share(msgspec.Struct, frozen=True):
    """Errors of one group: rows, mean and median absolute relative error, 80 % interval coverage,
    and how many rows passed. ``covered`` is nan where no interval is stated."""

    rows: int
    mape: float
    median: float
    covered: float = math.nan
    passed: int = 0


class Kind(NamedTuple):
    """A kind of file: what it holds, the function that compares it, and its files in the data folder.

    ``takes`` is what the function gets beside the file: the catalog, the catalog at today's ``date``
    (both ``None`` where the shipped facts are meant), or ``nothing``.
    """

    holds: str
    function: str
    files: tuple[str, ...]
    takes: Literal["catalog", "date", "nothing"] = "catalog"


KINDS: Mapping[str, Kind] = {
    "bills": Kind("right amounts of usage", "isocost.validate.bills:validate_bills", ("pricing/cases.csv",)),
    "perf": Kind(
        "measured serving speed", "isocost.validate.perf:validate_perf",
        tuple(f"perf/{name}.parquet" for name in (
            "silicon", "trtllm", "mlenergy", "argonne", "inferencex_community", "splitwise",
            "published_points",
        )), "date",
    ),
    "energy": Kind(
        "measured power and speed", "isocost.validate.energy:validate_energy", ("energy/energy.parquet",),
    ),
    "replay": Kind(
        "an engine's own request times, a folder", "isocost.validate.replay:validate_replay",
        ("traces/vllm_rtxpro6000_llama-3.1-8b",), "date",
    ),
    "prefix": Kind(
        "hits of a block cache", "isocost.validate.prefix:validate_prefix", ("traces/prefix_cache_hits.csv",),
        "nothing",
    ),
    "training": Kind(
        "published costs, hours and scaling laws of training",
        "isocost.validate.training:validate_training", ("training/groundtruth_training.csv",),
    ),
    "tco": Kind(
        "published break-evens, bills and prices of tokens", "isocost.validate.tco:validate_tco",
        ("tco/groundtruth_tco.csv",),
    ),
    "routing": Kind(
        "graded outcomes of several models, with their questions",
        "isocost.validate.routing:validate_routing",
        tuple(f"routing/{name}.queries.parquet" for name in (
            "mmlupro", "zeroeval_gsm", "routellm_mmlu", "routellm_gsm8k", "routellm_mtbench",
        )),
    ),
    "semcache": Kind(
        "questions with one answer, for a semantic cache", "isocost.validate.semcache:validate_semcache",
        ("routing/semcache_banking77.parquet", "routing/semcache_qqp_sample.parquet"), "nothing",
    ),
}  # fmt: skip
"""Every kind by its name on the command line. A new one is one line here."""


PAIRED = frozenset({"routing"})
"""Kinds whose files come in pairs: questions, and results."""


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        BadInput: there is none; the kinds are named.
    """
    if name not in KINDS:
        raise BadInput(f"no kind of file {name!r}", fix=f"Kinds: {', '.join(KINDS)}")
    return KINDS[name]


def compare(
    name: str, file: Path, catalog: Catalog | None = None, second: Path | None = None
) -> dict[str, Any]:
    """A file compared: its report as a mapping that begins with ``kind`` and ``file``.

    ``second`` is the other half of a kind that comes in two files.

    Raises:
        BadInput: no such kind, no such file, or a file that the kind cannot read.
    """
    import duckdb

    kind = kind_of(name)
    if not file.exists():
        raise BadInput("no such file", where=str(file), fix="Check the path")
    module, _, function = kind.function.partition(":")
    beside: tuple[object, ...] = ()
    if kind.takes != "nothing":
        beside = (catalog.at(date.today()) if catalog is not None and kind.takes == "date" else catalog,)
    if second is not None:
        if name not in PAIRED:
            raise BadInput(
                f"{name} is one file", where=str(second), fix=f"Type: isocost validate {name} {file}"
            )
        beside = (*beside, second)
    try:
        found = getattr(importlib.import_module(module), function)(file, *beside)
    except (UnicodeDecodeError, duckdb.Error) as wrong:
        raise BadInput(
            f"cannot read it: {str(wrong).splitlines()[0].rstrip('.')}", where=str(file),
            fix="Give CSV in UTF-8, or Parquet",
        ) from None  # fmt: skip
    report = dict(found) if isinstance(found, Mapping) else msgspec.structs.asdict(found)
    report.pop("path", None)
    if not isinstance(report["rows"], int):
        report |= {"compared": report["rows"], "rows": len(report["rows"])}
    if "peers" not in report:
        at = (catalog or Catalog.load()).at(date.today())
        metrics = (report.get("by") or {}).get("metric", {})
        report["peers"] = {metric: peers_of(at, name, metric, file.stem) for metric in metrics}
    return {"kind": name, "file": str(file), **report}


def data_files(folder: Path | None = None, kind: str | None = None) -> list[tuple[str, Path]]:
    """Every kind (or one) with each of its files that lies in a data folder (else in ``ISOCOST_DATA``).

    Raises:
        BadInput: no folder is named, it is absent, or it holds none of the files.
    """
    named = folder or (Path(os.environ["ISOCOST_DATA"]) if os.environ.get("ISOCOST_DATA") else None)
    kinds = KINDS if kind is None else {kind: kind_of(kind)}
    every = ", ".join(file for each in kinds.values() for file in each.files[:1])
    if named is None:
        raise BadInput(
            "no folder of measured files",
            fix=f"Set ISOCOST_DATA to a folder with {every}; or name a file: isocost validate KIND FILE",
        )
    found = [
        (name, named / file)
        for name, each in kinds.items()
        for file in each.files
        if (named / file).exists()
    ]  # fmt: skip
    if not found:
        raise BadInput("no measured files", where=str(named), fix=f"A data folder holds {every}")
    return found


def share_of(
    error_frac: NDArray[np.float64],
    covered: NDArray[np.bool_] | None,
    passed: NDArray[np.bool_],
    here: NDArray[np.bool_] | None = None,
) -> Share:
    """The errors of the rows that ``here`` marks (all of them without it)."""
    at = np.ones(len(error_frac), dtype=bool) if here is None else here
    if not at.any():
        return Share(0, math.nan, math.nan)
    inside = math.nan if covered is None else float(covered[at].mean())
    error = error_frac[at]
    return Share(int(at.sum()), float(error.mean()), float(np.median(error)), inside, int(passed[at].sum()))


def shares_by(
    labels: Mapping[str, Sequence[str]],
    error_frac: NDArray[np.float64],
    covered: NDArray[np.bool_] | None,
    passed: NDArray[np.bool_],
) -> dict[str, dict[str, Share]]:
    """The errors of every value of every grouping; ``labels`` maps a grouping to its value on each row."""
    return {
        name: {
            value: share_of(error_frac, covered, passed, np.array([one == value for one in column]))
            for value in sorted(set(column))
        }
        for name, column in labels.items()
    }
