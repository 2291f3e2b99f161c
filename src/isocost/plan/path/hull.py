"""Lines below a table of costs by number: what a path's programme sees of a month.

A hull of more than ``LINES_MOST`` corners is seen a little low between the lines that are kept: a plan's cost
is read from the table, and only what is proven of all plans loosens.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from isocost.plan.solve.problem import Floats

LINES_MOST = 32
"""Lines that stand for a hull, at most."""
NEAR_FRAC = 1e-6
"""How far below the hull they may lie, as a share of its largest value, before another is added."""

Line = tuple[float, float]


def envelope(usd: Floats) -> list[Line]:
    """Lines (value at 0, slope) whose maximum is the lower convex hull of values at 0, 1, …, or below it.

    It is the hull where that has at most ``LINES_MOST`` lines. Of more, each next one is kept where those
    before lie lowest below it, until all is within ``NEAR_FRAC`` or as many are kept: then nothing bounds how
    far below.

    >>> envelope(np.array([4.0, 1.0, 0.0]))
    [(4.0, -3.0), (2.0, -1.0)]
    """
    hull: list[int] = []
    for i in _bends(usd):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (usd[b] - usd[a]) * (i - a) < (usd[i] - usd[a]) * (b - a):
                break
            hull.pop()
        hull.append(i)
    if len(hull) == 1:
        return [(float(usd[0]), 0.0)]
    lines = []
    for a, b in pairwise(hull):
        slope = float(usd[b] - usd[a]) / (b - a)
        lines.append((float(usd[a]) - slope * a, slope))
    return lines if len(lines) <= LINES_MOST else _few(lines, np.array(hull), usd[hull])


def _bends(usd: Floats) -> list[int]:
    """Where the values bend: points inside a straight stretch are on no hull's corner."""
    if len(usd) < 3:
        return list(range(len(usd)))
    steps = np.diff(usd)
    bent = np.abs(np.diff(steps)) > 1e-12 * float(np.abs(usd).max())
    return [0, *(int(i) + 1 for i in np.flatnonzero(bent)), len(usd) - 1]


def _few(lines: list[Line], at: np.ndarray, values: Floats) -> list[Line]:
    """Some of a hull's lines, each next one where those before lie lowest below it."""
    kept = [0, len(lines) - 1]
    below = np.maximum(*(lines[i][0] + lines[i][1] * at for i in kept))
    near = NEAR_FRAC * float(np.abs(values).max())
    while len(kept) < LINES_MOST:
        worst = int((values - below).argmax())
        line = min(worst, len(lines) - 1)
        if values[worst] - below[worst] <= near or line in kept:
            break
        kept.append(line)
        below = np.maximum(below, lines[line][0] + lines[line][1] * at)
    return [lines[i] for i in sorted(kept)]
