"""Demand to come from days gone by: the weekday's share, the trend of whole weeks, and how far both missed.

A seasonal-naive forecast with drift: the last weeks' level times the weekday's share, growing as whole
weeks grew. Its band comes from its own misses one week ahead on the same log, and widens with the root of
the weeks. Less than two whole weeks hold neither a trend nor a miss, and are refused.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.risk.scenarios import Z_CENTRAL

Floats = NDArray[np.float64]
WEEK_DAYS = 7
LEVEL_WEEKS = 4
"""Whole weeks that the level and the weekdays' shares are taken from."""


class Demand(NamedTuple):
    """Forecast days, each (days,): low end, middle and high end of the central 80 %; growth of a week."""

    low: Floats
    mid: Floats
    high: Floats
    growth_per_week: float
    weeks: int


def demand(per_day: Floats, days: int) -> Demand:
    """Forecast ``days`` days after the last of ``per_day`` (days of history, oldest first, each whole).

    Raises:
        BadInput: under two whole weeks, or weeks without any demand.
    """
    per_day = np.asarray(per_day, dtype=np.float64)
    weeks = len(per_day) // WEEK_DAYS
    if weeks < 2:
        raise BadInput(
            f"{len(per_day)} whole days of demand",
            where="forecast",
            fix="Give at least two whole weeks; a shorter log holds no trend",
        )
    table = per_day[len(per_day) - weeks * WEEK_DAYS :].reshape(weeks, WEEK_DAYS)
    if (table.sum(axis=1) <= 0).any():
        raise BadInput("a week without demand", where="forecast", fix="Begin after the gap")
    growth = _growth(table)
    misses = [
        math.log(table[i].sum() / (table[i - 1].sum() * math.exp(_growth(table[:i]))))
        for i in range(1, weeks)
    ]
    miss = math.sqrt(sum(one * one for one in misses) / len(misses))
    recent = table[-LEVEL_WEEKS:]
    share = recent.sum(axis=0) / recent.sum()
    ahead = np.arange(days) // WEEK_DAYS + 1
    mid = table[-1].sum() * np.exp(growth * ahead) * share[np.arange(days) % WEEK_DAYS]
    wide = np.exp(Z_CENTRAL * miss * np.sqrt(ahead))
    return Demand(mid / wide, mid, mid * wide, growth, weeks)


def _growth(table: Floats) -> float:
    """Log growth of a week: the median of the slopes between all pairs of weeks (Theil and Sen)."""
    logs = np.log(table.sum(axis=1))
    if len(logs) < 3:
        return 0.0
    first, second = np.triu_indices(len(logs), 1)
    return float(np.median((logs[second] - logs[first]) / (second - first)))
