"""How far measurements of one and the same set-up lie apart: the error that no prediction can go below.

Rows are of the same set-up where all that a file states of it agrees: model, accelerator, formats, layout,
engine and, if wished, its version, and load. Equal values are one measurement that a file holds twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from isocost.perf.arch import Floats

if TYPE_CHECKING:
    from isocost.validate.perf import Points

FEWEST = 8
"""Fewer set-ups measured again do not say how far measurements lie apart."""
DIGITS = 9


class Repeat(msgspec.Struct, frozen=True):
    """What a metric's measurements of the same set-up say: how many set-ups were measured again, and the mean
    and median relative error of a prediction that knows the middle of each."""

    setups: int
    mape: float
    median: float


def setups_of(points: Points, *, any_version: bool = False) -> list[Hashable]:
    """What a file states of each point's set-up: its engine's version too, unless ``any_version`` will do."""
    named = ("model", "gpu", "engine", *(() if any_version else ("version",)))
    numbers = np.stack([*points.setup[:3], points.setup.ep, *points.load[:3]], axis=1)
    layouts = map(tuple, numbers.tolist())
    columns = zip(*(points.labels[name] for name in named), strict=True)
    kinds = points.load.kind.tolist()
    return list(zip(columns, layouts, points.precisions, kinds, strict=True))


def repeat_notes(again: Mapping[str, Repeat]) -> tuple[str, ...]:
    """One sentence on what no prediction can do better than, if anything was measured again."""
    if not again:
        return ()
    each = "; ".join(
        f"{name} {one.mape:.1%} in the mean, {one.median:.1%} in the median ({one.setups:,} set-ups)"
        for name, one in again.items()
    )
    return (f"Measured again with the same columns, values lie apart by: {each}. No prediction is nearer",)


def repeats_of(setup: Sequence[Hashable], metric: Sequence[str], measured: Floats) -> dict[str, Repeat]:
    """By metric, how far measurements of the same ``setup`` lie apart; ``(n,)`` each.

    Values of one set-up scatter in the logarithm about a middle of their own, which ``n`` of them find but
    for one part in ``n``: their distances from it are scaled by ``sqrt(n / (n - 1))``. Every set-up counts
    once; metrics with fewer than :data:`FEWEST` of them are left out.

    >>> values = np.tile([1.0, np.exp(0.2)], 8)
    >>> round(repeats_of(np.repeat(range(8), 2).tolist(), ["tpot"] * 16, values)["tpot"].median, 3)
    0.141
    >>> repeats_of([1, 1], ["tpot"] * 2, values[:2])
    {}
    """
    found: dict[tuple[str, Hashable], set[float]] = defaultdict(set)
    for key, name, value in zip(setup, metric, measured.tolist(), strict=True):
        found[name, key].add(round(value, DIGITS))
    apart: dict[str, list[float]] = defaultdict(list)
    for (name, _), values in found.items():
        if len(values) > 1:
            log = np.log(list(values))
            scatter = np.abs(log - log.mean()) * np.sqrt(len(log) / (len(log) - 1.0))
            apart[name].append(float(scatter.mean()))
    return {
        name: Repeat(len(each), float(np.mean(each)), float(np.median(each)))
        for name, each in sorted(apart.items())
        if len(each) >= FEWEST
    }
