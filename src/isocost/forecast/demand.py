"""Demand to come from what came: the weekday's share, the trend of whole weeks, and how far both missed.

A seasonal-naive forecast with drift: the last week's level times the weekday's share, growing as whole
weeks grew. Three things are not known, and widen the band: how a week moves from the one before (it adds up
week by week), how fast weeks grow (it adds up with the square), and how a day differs from its weekday's
share. All are read off the log itself; few weeks say little of them, which is what Student's t is for. Less
than two whole weeks hold neither a trend nor a miss. A log of some days is forecast in the same way by the
hour of the day, where it holds two whole days: it knows no weekdays.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput, MissingExtra
from isocost.risk.scenarios import CENTRAL, Z_CENTRAL

Floats = NDArray[np.float64]
WEEK_DAYS = 7
DAY_HOURS = 24
LEVEL_SEASONS = 4
"""Whole weeks (or days) that the level and the shares within them are taken from."""
NOUNS: Mapping[int, tuple[str, str]] = {WEEK_DAYS: ("days", "weeks"), DAY_HOURS: ("hours", "days")}


class Demand(NamedTuple):
    """Forecast days, each (days,): low end, middle and high end of the central 80 %; growth of a week.

    ``week_low``, ``week_mid`` and ``week_high`` are the same of whole weeks' sums, whose days even each other
    out; the last may be shorter. ``season`` is days of a week; where it is 24, read hours for days, and days
    for weeks.
    """

    low: Floats
    mid: Floats
    high: Floats
    growth_per_week: float
    weeks: int
    week_low: Floats
    week_mid: Floats
    week_high: Floats
    season: int = WEEK_DAYS


def demand(per_day: Floats, days: int, season: int = WEEK_DAYS) -> Demand:
    """Forecast ``days`` days after the last of ``per_day`` (days of history, oldest first, each whole).

    ``season`` is how many of them repeat: 7 days, or 24 where ``per_day`` are hours.

    Raises:
        BadInput: under two whole weeks, or weeks without any demand.
    """
    per_day = np.asarray(per_day, dtype=np.float64)
    weeks = len(per_day) // season
    units, wholes = NOUNS.get(season, ("periods", "seasons"))
    if weeks < 2:
        raise BadInput(
            f"{len(per_day)} whole {units} of demand",
            where="forecast",
            fix=f"Give at least two whole {wholes}; a shorter log holds no trend",
        )
    table = per_day[len(per_day) - weeks * season :].reshape(weeks, season)
    if (table.sum(axis=1) <= 0).any():
        raise BadInput(f"a {wholes[:-1]} without demand", where="forecast", fix="Begin after the gap")
    growth = _growth(table)
    totals = table.sum(axis=1)
    steps = np.diff(np.log(totals))
    free = max(1, len(steps) - 1)
    recent = table[-LEVEL_SEASONS:]
    share = recent.sum(axis=0) / recent.sum()
    ahead = np.arange(days) // season + 1
    weekday = np.arange(days) % season
    mid = totals[-1] * np.exp(growth * ahead) * share[weekday]
    day2 = _day_variance(recent, share)
    # A week's own total is off by the noise of its days, which steps from week to week hold twice; as both
    # are estimates, at least half of what the steps show is taken for steps.
    seen2 = float(((steps - growth) ** 2).sum()) / free
    step2 = max(seen2 / 2.0, seen2 - 2.0 * day2 / season)
    level2 = step2 * (ahead + ahead**2 / len(steps)) + day2 / season
    noise2 = day2 * (1.0 + 1.0 / len(recent))
    t_level, t_day = _t_central(free), _t_central((len(recent) - 1) * (season - 1))
    wide = np.exp(np.sqrt(t_level**2 * level2 + t_day**2 * noise2))
    # A week's sum: its days share the level, and differ each by chance.
    first = np.arange(0, days, season)
    week = np.add.reduceat(mid, first) if days else np.zeros(0)
    spread2 = np.add.reduceat(mid**2, first) / np.maximum(week, 1e-300) ** 2 if days else np.zeros(0)
    whole = np.exp(np.sqrt(t_level**2 * level2[first] + t_day**2 * noise2 * spread2))
    return Demand(mid / wide, mid, mid * wide, growth, weeks, week / whole, week, week * whole, season)


def _day_variance(table: Floats, share: Floats) -> float:
    """Variance of a day about its weekday's share of its week, relative to that."""
    expected = table.sum(axis=1, keepdims=True) * share
    there = np.broadcast_to(share > 0, table.shape)
    off = table[there] / expected[there] - 1.0
    free = (len(table) - 1) * (len(share) - 1)
    return float((off**2).sum()) / max(1, free)


def _t_central(free: int) -> float:
    """Half the width of the central 80 % of Student's t, in its scale: Hill's series, exact for one degree.

    >>> round(_t_central(1), 3), round(_t_central(4), 3), round(_t_central(10**6), 3)
    (3.078, 1.533, 1.282)
    """
    if free == 1:
        return math.tan(0.4 * math.pi)
    z = Z_CENTRAL
    series = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(part / float(free) ** power for power, part in enumerate(series))


def demand_by_statsforecast(per_day: Floats, days: int, season: int = WEEK_DAYS) -> Demand:
    """The same question put to statsforecast's exponential smoothing (AutoETS).

    Its sums of weeks take the days' bands as if they moved together.

    Raises:
        MissingExtra: statsforecast is not installed.
        BadInput: as :func:`demand`.
    """
    ours = demand(per_day, days, season)
    try:
        models = importlib.import_module("statsforecast.models")
    except ImportError:
        raise MissingExtra(
            "statsforecast is not installed",
            where="--method ets",
            fix="Type: pip install 'isocost[forecast]'",
        ) from None
    past = np.asarray(per_day, dtype=np.float64)
    level = round(100 * CENTRAL)
    found = models.AutoETS(season_length=season).forecast(y=past, h=days, level=[level])
    low, mid, high = (np.maximum(found[name], 0.0) for name in (f"lo-{level}", "mean", f"hi-{level}"))
    later, first = float(mid[season : 2 * season].sum()), float(mid[:season].sum())
    growth = math.log(later / first) if days >= 2 * season and later > 0 else 0.0
    starts = np.arange(0, days, season)
    ends = [np.add.reduceat(part, starts) if days else np.zeros(0) for part in (low, mid, high)]
    return Demand(low, mid, high, growth, ours.weeks, ends[0], ends[1], ends[2], season)


def _growth(table: Floats) -> float:
    """Log growth of a week: the median of the slopes between all pairs of weeks (Theil and Sen)."""
    logs = np.log(table.sum(axis=1))
    if len(logs) < 3:
        return 0.0
    first, second = np.triu_indices(len(logs), 1)
    return float(np.median((logs[second] - logs[first]) / (second - first)))
