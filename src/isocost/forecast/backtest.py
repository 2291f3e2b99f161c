"""Forecasts against what came, on windows that begin after everything they were fitted to.

Two rivals stand beside ours: *flat*, no change with the variance of earlier windows; and *tenfold*, ten
times cheaper a year with the variance of earlier windows around that. All three give probabilities of the
same cells of the log ratio, ``CELL`` wide with one around no change, and are scored by the log of the
probability of the cell that came. Rises of a capability's cheapest price cannot be, so every rival's
probability of one counts as no change there. Rows of one window share their causes: the standard error
of a difference is taken over clusters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

import msgspec

from isocost.catalog.catalog import CatalogAt
from isocost.forecast.histories import LISTS, falls, moves, windows
from isocost.forecast.prices import JEFFREYS, Falls, fit_list, fit_rental, fitted_falls

CELL = 0.05
LEAST_PAST = 4
"""Earlier outcomes without which a rival has no variance."""
LEAST = 1e-12
"""A floor of a probability, so that one surprise cannot be infinitely bad."""
TENFOLD_PER_YEAR = -math.log(10.0)

Mass = Callable[[float, float], float]
"""Probability that a log ratio lies between two ends."""


class Row(NamedTuple):
    """Log scores of one outcome, and the cluster that it shares its causes with."""

    cluster: str
    ours: float
    flat: float
    tenfold: float


class Score(msgspec.Struct, frozen=True):
    """Mean log scores on one series (higher is better), ours less each rival's, and its standard error."""

    series: str
    windows: int
    outcomes: int
    ours: float
    flat: float
    tenfold: float
    over_flat: float
    over_flat_error: float
    over_tenfold: float
    over_tenfold_error: float


def backtest(at: CatalogAt) -> list[Score]:
    """Every series that has at least one window after one to fit, in the order of the histories."""
    found = [_lists(at, seller) for seller in LISTS]
    found += [_capability(at), _rental(at)]
    return [score for score in found if score is not None]


def _lists(at: CatalogAt, seller: str) -> Score | None:
    every = windows(at, seller)
    rows: list[Row] = []
    for i in range(1, len(every)):
        past = [one for window in every[:i] for one in window.log_ratio]
        steps = fit_list(every[:i])
        stays = (steps.unchanged + JEFFREYS) / (steps.unchanged + steps.changed + 2 * JEFFREYS)
        freedom = max(steps.seen - 1, 3)
        wide = steps.spread * math.sqrt((1 + 1 / steps.seen) * freedom / (freedom - 2))
        ours = _mixture(stays, _normal(steps.mean, wide))
        for model, ratio in enumerate(every[i].log_ratio):
            cells = (ours, *_rivals(past, 1.0))
            # A price list is one decision: prices that did not move are clusters of their own.
            cluster = f"{every[i].start} {round(ratio, 2) if ratio else f'still {model}'}"
            rows.append(_row(cluster, cells, ratio))
    return _score(f"list-{seller}", len(every) - 1, rows)


def _capability(at: CatalogAt) -> Score | None:
    every = falls(at.catalog)
    starts = sorted({fall.start for fall in every})
    rows: list[Row] = []
    used = 0
    for start in starts:
        past = [fall for fall in every if fall.start < start]
        if len(past) < LEAST_PAST:
            continue
        used += 1
        ours = _falls(fitted_falls(at, past))
        for fall in every:
            if fall.start != start:
                continue
            cells = (ours, *_rivals([one.log_ratio for one in past], 0.5))
            cluster = f"{start} {fall.series.partition('/')[0]}"
            rows.append(_row(cluster, cells, fall.log_ratio, rises=False))
    return _score("capability", used, rows)


def _rental(at: CatalogAt) -> Score | None:
    every = moves(at.catalog)
    rows: list[Row] = []
    for i in range(2, len(every)):
        move, past = every[i], [one for one in every if one.end <= every[i].start]
        if len(past) < 2:
            continue
        walk = fit_rental(past, at.number("prices/rental", "prior_drift_sd"))
        spread = math.sqrt(walk.spread**2 * move.years + (walk.drift_error * move.years) ** 2)
        a_year = [one.log_ratio / math.sqrt(one.years) for one in past]
        flat_sd = math.sqrt(sum(one**2 for one in a_year) / len(a_year) * move.years)
        off = [one.log_ratio - TENFOLD_PER_YEAR * one.years for one in past]
        ten_sd = math.sqrt(
            sum(x**2 / one.years for x, one in zip(off, past, strict=True)) / len(past) * move.years
        )
        cells = (
            _normal(walk.drift * move.years, spread),
            _normal(0.0, flat_sd),
            _normal(TENFOLD_PER_YEAR * move.years, ten_sd),
        )
        rows.append(_row(str(move.start), cells, move.log_ratio))
    return _score("rental", len(rows), rows)


def _rivals(past: Sequence[float], years: float) -> tuple[Mass, Mass]:
    """No change, and tenfold a year, each with the root mean square of what earlier windows left."""
    fall = TENFOLD_PER_YEAR * years
    flat = math.sqrt(sum(one**2 for one in past) / len(past))
    tenfold = math.sqrt(sum((one - fall) ** 2 for one in past) / len(past))
    return _normal(0.0, max(flat, CELL)), _normal(fall, max(tenfold, CELL))


def _normal(mean: float, spread: float) -> Mass:
    one = NormalDist(mean, spread)
    return lambda low, high: one.cdf(high) - one.cdf(low)


def _falls(of: Falls) -> Mass:
    return _mixture(of.still_frac, lambda low, high: of.exceeds(-high) - of.exceeds(-low))


def _mixture(stays: float, moves_by: Mass) -> Mass:
    return lambda low, high: (stays if low < 0.0 < high else 0.0) + (1.0 - stays) * moves_by(low, high)


def _row(cluster: str, masses: tuple[Mass, Mass, Mass], ratio: float, rises: bool = True) -> Row:
    return Row(cluster, *(_log_mass(mass, ratio, rises) for mass in masses))


def _log_mass(mass: Mass, ratio: float, rises: bool) -> float:
    """Log probability of the cell that holds a ratio."""
    centre = round(ratio / CELL) * CELL
    high = math.inf if centre == 0.0 and not rises else centre + CELL / 2
    return math.log(max(mass(centre - CELL / 2, high), LEAST))


def _score(series: str, used: int, rows: Sequence[Row]) -> Score | None:
    if not rows:
        return None
    over_flat = [(row.cluster, row.ours - row.flat) for row in rows]
    over_tenfold = [(row.cluster, row.ours - row.tenfold) for row in rows]
    return Score(
        series, used, len(rows), fmean(row.ours for row in rows), fmean(row.flat for row in rows),
        fmean(row.tenfold for row in rows), fmean(one for _, one in over_flat), _error(over_flat),
        fmean(one for _, one in over_tenfold), _error(over_tenfold),
    )  # fmt: skip


def _error(rows: Sequence[tuple[str, float]]) -> float:
    """Standard error of a mean over clusters; nan with one."""
    mean = sum(value for _, value in rows) / len(rows)
    sums: dict[str, float] = defaultdict(float)
    for cluster, value in rows:
        sums[cluster] += value - mean
    groups = len(sums)
    if groups < 2:
        return math.nan
    return math.sqrt(sum(one**2 for one in sums.values()) * groups / (groups - 1)) / len(rows)
