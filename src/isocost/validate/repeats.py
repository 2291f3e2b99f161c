"""How far measurements of one set-up lie apart: what a file does not say, and what a run leaves to chance.

Rows are of one set-up where all columns agree that state it: model, accelerator, formats, layout, engine
and, if wished, its version, and load, as they are written. Equal values are one measurement, held twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from isocost.perf.arch import Floats

FEWEST = 8
"""Fewer set-ups measured again do not say how far measurements lie apart."""
DIGITS = 9
MEASURED = frozenset({"metric", "value", "unit", "config_id", "engine_version"})
"""Columns that do not state a set-up, or state it too finely: a version is asked for beside them."""


class Repeat(msgspec.Struct, frozen=True):
    """What a metric's measurements of the same set-up say: how many set-ups were measured again, the mean and
    median scatter of their values about the middle of each, and the mean and median error of what was
    predicted of them. All are sizes of logarithms, in which every set-up counts once."""

    setups: int
    scatter: float
    scatter_median: float
    error: float
    error_median: float


def stated_of(row: Mapping[str, Any]) -> str:
    """What the columns of a row state of its set-up, but for its engine's version.

    >>> stated_of({"model": "a", "tp": 2.0, "pp": None, "value": 3.0, "engine_version": "0.9"})
    'a|2.0|None'
    """
    return "|".join(str(value) for name, value in row.items() if name not in MEASURED)


def setups_of(labels: Mapping[str, Sequence[str]], *, any_version: bool = False) -> list[Hashable]:
    """What a file states of each row's set-up, of the labels ``stated`` (:func:`stated_of`) and ``version``:
    the latter is left out if any version will do."""
    if any_version:
        return list(labels["stated"])
    return list(zip(labels["stated"], labels["version"], strict=True))


def repeat_notes(again: Mapping[str, Repeat]) -> tuple[str, ...]:
    """One sentence on how far measurements of one set-up scatter, if anything was measured again."""
    if not again:
        return ()
    each = "; ".join(
        f"{name} {one.scatter:.1%} in the mean, {one.scatter_median:.1%} in the median ({one.setups:,} "
        f"set-ups, of which predictions are off by {one.error:.1%}, {one.error_median:.1%})"
        for name, one in again.items()
    )
    return (f"Measured again with the same columns, values scatter about the middle of each by: {each}",)


def repeats_of(
    setup: Sequence[Hashable], metric: Sequence[str], measured: Floats, predicted: Floats
) -> dict[str, Repeat]:
    """By metric, how far measurements of the same ``setup`` lie apart, and predictions from them; ``(n,)``
    each.

    Values of one set-up scatter in the logarithm about a middle of their own, which ``n`` of them find but
    for one part in ``n``: their distances from it are scaled by ``sqrt(n / (n - 1))``. Every set-up counts
    once; metrics with fewer than :data:`FEWEST` of them are left out.

    >>> values = np.tile([1.0, np.exp(0.2)], 8)
    >>> found = repeats_of(np.repeat(range(8), 2).tolist(), ["tpot"] * 16, values, 0 * values + 1.0)["tpot"]
    >>> round(found.scatter_median, 3), round(found.error_median, 3)
    (0.141, 0.1)
    >>> repeats_of([1, 1], ["tpot"] * 2, values[:2], values[:2])
    {}
    """
    found: dict[tuple[str, Hashable], dict[float, float]] = defaultdict(dict)
    rows = zip(setup, metric, measured.tolist(), predicted.tolist(), strict=True)
    for key, name, value, said in rows:
        found[name, key].setdefault(round(value, DIGITS), said)
    scatter: dict[str, list[float]] = defaultdict(list)
    error: dict[str, list[float]] = defaultdict(list)
    for (name, _), values in found.items():
        if len(values) > 1:
            log, said_log = np.log(list(values)), np.log(list(values.values()))
            apart = np.abs(log - log.mean()) * np.sqrt(len(log) / (len(log) - 1.0))
            scatter[name].append(float(apart.mean()))
            error[name].append(float(np.abs(said_log - log).mean()))
    return {
        name: Repeat(
            len(each),
            float(np.mean(each)),
            float(np.median(each)),
            float(np.mean(error[name])),
            float(np.median(error[name])),
        )
        for name, each in sorted(scatter.items())
        if len(each) >= FEWEST
    }
