"""What measurements of one's own say of a set-up: facts ``calibration/MODEL/ACCELERATOR``.

``isocost calibrate`` writes them. ``tpot_ratio`` and ``ttft_ratio`` are measured over predicted with their
central 80 %; with a load in ``when`` they are of one run, and say more the nearer a load is to that of the
run (:mod:`isocost.perf.anchor`). Where requests were measured one by one there are also the terms of a step,
which replace the physics for that very set-up. Another layout or format of the same model on the same
accelerator takes the ratio with a wider interval; another accelerator takes nothing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.catalog.fact import Z_CENTRAL, parse_when, write_when
from isocost.errors import BadInput

TERMS = ("base_s", "prefill_s_per_tok", "seq_s", "kv_s_per_tok", "first_token_s")
RATIOS = ("tpot_ratio", "ttft_ratio")
SOURCE = "own-measurement"
"""The source that facts of one's own name."""
COLUMNS = ("subject", "attribute", "when", "value", "unit", "low", "high", "source", "note")
MEASURED = ("concurrency", "isl", "osl")
"""Where a set-up was measured: a calibration does not hold far outside."""


class Anchor(NamedTuple):
    """One run: requests in flight, tokens of prompt and answer, and measured over predicted."""

    concurrency: float
    isl: float
    osl: float
    ratio: float


class Own(NamedTuple):
    """A ratio of one's own by metric (value, low, high), terms of a step where they were fitted, whether it
    is of this very set-up, between which loads (``concurrency``, ``isl``, ``osl``) it was measured,
    whether by oneself (a few logs of requests that others published are among the shipped facts), and the
    runs of this very set-up by metric."""

    tpot: tuple[float, float, float] | None
    ttft: tuple[float, float, float] | None
    step: Mapping[str, float] | None
    is_exact: bool
    held: Mapping[str, tuple[float, float]]
    is_own: bool
    anchors: Mapping[str, tuple[Anchor, ...]] = {}


def condition(engine: str, gpus: int, weights: str) -> str:
    """The ``when`` of a set-up's calibration.

    >>> condition("vllm", 2, "fp8")
    'engine=vllm;gpus=2;weights=fp8'
    """
    return f"engine={engine};gpus={gpus};weights={weights}"


def own_of(catalog_at: CatalogAt, model: str, gpu: str, when: str) -> Own | None:
    """What was measured of a set-up, else of the same model on the same accelerator; ``None`` for nothing.

    A ratio that is borrowed from another set-up has its interval widened by
    ``calibration/any.borrowed_log_sd``.
    """
    subject = f"calibration/{model}/{gpu}"
    ratios = {name: catalog_at.find(subject, name, when) for name in RATIOS}
    anchors = {name.removesuffix("_ratio"): _anchors(catalog_at, subject, name, when) for name in RATIOS}
    is_exact = any(ratios.values())
    wider = 0.0
    if not is_exact:
        for name in RATIOS:
            every = (fact for fact in catalog_at.each(subject, name) if "concurrency=" not in fact.when)
            ratios[name] = next(iter(every), None)
        if not any(ratios.values()):
            return None
        wider = Z_CENTRAL * catalog_at.number("calibration/any", "borrowed_log_sd")
    terms = {name: catalog_at.find(subject, name, when) for name in TERMS}
    step = None
    if all(fact is not None for fact in terms.values()):
        step = {name: float(fact.value) for name, fact in terms.items() if fact is not None}
    held = {}
    for name in MEASURED:
        fact = catalog_at.find(subject, name, when)
        if fact is not None and fact.low is not None and fact.high is not None:
            held[name] = (fact.low, fact.high)
    is_own = any(fact.source == SOURCE for fact in ratios.values() if fact is not None)
    tpot, ttft = (_band(ratios[name], wider) for name in RATIOS)
    return Own(tpot, ttft, step, is_exact, held, is_own, anchors)


def run_condition(when: str, concurrency: float, isl: float, osl: float) -> str:
    """The ``when`` of one run of a set-up.

    >>> run_condition("engine=vllm;gpus=2;weights=fp8", 12.34567, 2000.0, 300.0)
    'concurrency=12.346;engine=vllm;gpus=2;isl=2000;osl=300;weights=fp8'
    """
    load = {"concurrency": concurrency, "isl": isl, "osl": osl}
    parts = parse_when(when)
    parts |= {name: f"{value:.5g}" for name, value in load.items()}
    return write_when(parts)


def _anchors(catalog_at: CatalogAt, subject: str, name: str, when: str) -> tuple[Anchor, ...]:
    """The runs of a set-up: those whose ``when`` says its engine, count and format, and a load."""
    wanted = set(when.split(";"))
    found = []
    for fact in catalog_at.each(subject, name):
        parts = parse_when(fact.when)
        if "concurrency" in parts and wanted <= set(fact.when.split(";")):
            concurrency, isl, osl = (float(parts[one]) for one in MEASURED)
            found.append(Anchor(concurrency, isl, osl, float(fact.value)))
    return tuple(found)


def outside(own: Own, load: Mapping[str, float], slack: float) -> list[str]:
    """Which of a load's ``concurrency``, ``isl`` and ``osl`` lie further outside what was measured than a
    factor ``slack``."""
    return [
        name
        for name, (low, high) in own.held.items()
        if name in load and not low / slack <= load[name] <= high * slack
    ]


def with_calibration(catalog: Catalog, path: Path) -> Catalog:
    """A catalog that also holds what ``isocost calibrate`` wrote: a folder, or its ``calibration.csv``.

    Raises:
        BadInput: no such file, or not such a file.
    """
    file = path / "calibration.csv" if path.is_dir() else path
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as wrong:
        raise BadInput(wrong.strerror or str(wrong), where=str(file)) from None
    if not rows or any(name not in rows[0] for name in COLUMNS):
        raise BadInput(
            "not a calibration", where=str(file), fix="Make one: isocost calibrate bench.json --out mine"
        )
    day = max(source.read for source in catalog.sources.values())
    facts = []
    for line, row in enumerate(rows, 2):
        if not row["subject"].startswith("calibration/"):
            raise BadInput(f"{row['subject']!r} is no calibration", where=f"{file}:{line}")
        try:
            value, low, high = (float(row[name]) if row[name] else None for name in ("value", "low", "high"))
        except ValueError as wrong:
            raise BadInput(str(wrong), where=f"{file}:{line}") from None
        if value is None:
            raise BadInput("no value", where=f"{file}:{line}")
        subject, attribute, when, unit = (row[name] for name in ("subject", "attribute", "when", "unit"))
        facts.append(
            Fact(
                subject, attribute, when, value, unit, low, high, None, None,
                SOURCE, "", day, "measured", "", row["note"],
            )
        )  # fmt: skip
    return Catalog(facts, catalog.sources, catalog.attributes, catalog.basis, catalog.rows)


def _band(fact: Fact | None, wider: float) -> tuple[float, float, float] | None:
    if fact is None:
        return None
    low, value, high = fact.ends
    return (
        value,
        value * math.exp(-math.hypot(math.log(value / low), wider)),
        value * math.exp(math.hypot(math.log(high / value), wider)),
    )
