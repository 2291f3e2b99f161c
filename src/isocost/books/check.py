"""Budgets against the month's end as the log forecasts it, and days that stand out.

The forecast is seasonal by hour of the week: each week to come costs, hour by hour, what one of the log's
last weeks did, moved along the trend. The trend is a growth a week: that between any two of the weeks, a pair
weighing the square of its distance (the weights of a least-squares line). Every combination of weeks and
growths counts by its weight: the forecast is their median, the band their central 80 %, the probability of
exceeding a budget the share of them that does. Under four whole weeks no trend is read; a log of one week has
no band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.books.contract import Contract
from isocost.books.statement import Statement, month_of
from isocost.errors import BadInput
from isocost.toml import read_toml
from isocost.units import FEMTO_PER_USD, WEEK_H, usd_of

Floats = npt.NDArray[np.float64]

MOST_WEEKS = 8
"""Weeks of the log that weeks to come are drawn from: the last ones."""
LIKELY = 0.5
"""A budget fails the check where exceeding it is more probable than this."""
ROBUST_SIGMAS = 5.0
"""How many robust standard deviations (1.4826 times the median absolute deviation) a day may be off."""
LEAST_SPREAD_FRAC = 0.1
"""A spread below this share of the median is taken as this: equal days make no band."""
LEAST_SHARE = 0.01
"""A day must move the mean day of the whole log by this share to be worth a line."""
LEAST_DAYS = 7
LEAST_WEEKS_OF_TREND = 4
"""Whole weeks below which a growth between two of them is as likely chance."""

_KEYS = ("tenant", "workload", "model", "provider")


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dollars a calendar month (UTC) for what all the given names fit; none given: for the whole."""

    usd_per_month: Decimal
    tenant: str = ""
    workload: str = ""
    model: str = ""
    provider: str = ""

    @property
    def name(self) -> str:
        """What it is for."""
        said = [f"{key} {getattr(self, key)}" for key in _KEYS if getattr(self, key)]
        return ", ".join(said) or "total"


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget file: one ``[[budget]]`` each."""

    budget: tuple[Budget, ...]


class Outlook(msgspec.Struct, frozen=True):
    """A budget at the month's end: dollars spent so far, forecast, and the band of the central 80 %.

    ``exceeds`` is the probability of exceeding it; ``held`` is whether that is at most one half.
    ``growth`` is the trend, a share a week, with its central 80 %; ``None`` where none is read.
    """

    budget: str
    usd_per_month: Decimal
    spent_usd: Decimal
    forecast_usd: float
    low_usd: float
    high_usd: float
    exceeds: float
    held: bool
    growth: tuple[float, float, float] | None = None


class Anomaly(msgspec.Struct, frozen=True):
    """A day that costs more or less than its like: outside ``low_usd`` to ``high_usd``."""

    day: str
    name: str
    usd: float
    low_usd: float
    high_usd: float


class Check(msgspec.Struct, frozen=True):
    """Every budget and every unusual day of one month; ``weeks`` is how many the band comes from."""

    month: str
    until: datetime
    weeks: int
    outlooks: tuple[Outlook, ...]
    anomalies: tuple[Anomaly, ...]
    notes: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether no budget is forecast to be exceeded."""
        return all(one.held for one in self.outlooks)


def read_budgets(path: Path) -> tuple[Budget, ...]:
    """Read a budget file.

    Raises:
        BadInput: it cannot be read, holds no budget, or one is not above zero.
    """
    fix = "Write [[budget]] with usd_per_month = 1000 and tenant = 'a'"
    found = read_toml(path, Budgets, fix, strict=False).budget
    for one in found:
        if not one.usd_per_month > 0:
            raise BadInput(f"{one.usd_per_month} USD a month for {one.name}", where=str(path))
    if not found:
        raise BadInput("no budget", where=str(path), fix="Write [[budget]] with usd_per_month = 1000")
    return found


def check(found: Statement, budgets: Sequence[Budget], under: Contract | None = None) -> Check:
    """Forecast the month of the log's last row for every budget, and find the days that stand out.

    ``found`` is a statement by the hour; ``under`` the same under a contract, whose billed cost then counts,
    what is charged beside usage spread over the hours that it is for.

    Raises:
        BadInput: the statement is not by the hour, the log is shorter than a week, or a budget is for
            something that the log does not hold.
    """
    if any("T" not in line.period for line in found.lines):
        raise BadInput("a check needs a statement by the hour", where=found.title)
    begin, stop = _hour(found.start), _hour(found.end) + 1
    weeks = min((stop - begin) // WEEK_H, MOST_WEEKS)
    if weeks < 1:
        raise BadInput(
            "shorter than a week: no week to forecast from",
            where=found.title,
            fix="Give a log of a week or more",
        )
    month = f"{found.end:%Y-%m}"
    first, after = (_hour(datetime(day.year, day.month, day.day, tzinfo=UTC)) for day in month_of(month))
    outlooks = []
    for budget in budgets:
        series, spent_fusd = _series(found, under, budget, (begin, stop), month)
        growths = _growths(series, weeks)
        ends = _ends(series, after - stop, weeks, growths)
        spent_usd = spent_fusd / FEMTO_PER_USD
        low, middle, high = (spent_usd + _quantile(*ends, share) for share in (0.1, 0.5, 0.9))
        over = spent_usd + ends[0] > float(budget.usd_per_month)
        exceeds = float(ends[1][over].sum() / ends[1].sum())
        trend = None
        if len(growths[0]) > 1:
            slow, usual, fast = (float(np.expm1(_quantile(*growths, share))) for share in (0.1, 0.5, 0.9))
            trend = usual, slow, fast
        outlooks.append(
            Outlook(
                budget.name, budget.usd_per_month, usd_of(spent_fusd), middle, low, high,
                exceeds, exceeds <= LIKELY, trend,
            )
        )  # fmt: skip
    notes = []
    if begin > first:
        notes.append(f"the log begins on {found.start:%Y-%m-%d %H:%M}: what {month} cost before is not in it")
    if weeks == 1:
        notes.append("the log holds one whole week: the forecast has no band")
    if found.at_least:
        notes.append("some usage has no price: everything here is at least that")
    return Check(month, found.end, weeks, tuple(outlooks), tuple(_anomalies(found, month)), tuple(notes))


def _hour(moment: datetime) -> int:
    return int(moment.timestamp() // 3600)


def _series(
    found: Statement, under: Contract | None, budget: Budget, span: tuple[int, int], month: str
) -> tuple[Floats, int]:
    """Dollars of every hour of the log, and exactly those of the month."""
    begin, stop = span
    asked = {key: getattr(budget, key) for key in _KEYS if getattr(budget, key)}
    for key, name in asked.items():
        known = {getattr(one, key) for one in found.requests}
        if name not in known:
            raise BadInput(
                f"no {key} {name!r} in the log",
                where=found.title,
                fix=f"It has: {', '.join(sorted(filter(None, known))[:8])}",
            )
    series = np.zeros(stop - begin)
    spent_fusd = 0
    charged = (
        [(line, line.amount_fusd) for line in found.lines]
        if under is None
        else [(piece.line, piece.billed_fusd) for piece in under.pieces]
    )
    for line, fusd in charged:
        if all(getattr(line, key) == name for key, name in asked.items()):
            at = _hour(datetime.fromisoformat(f"{line.period}:00").replace(tzinfo=UTC)) - begin
            series[at] += fusd / FEMTO_PER_USD
            spent_fusd += fusd if line.month == month else 0
    for entry in under.entries if under is not None else ():
        # What is charged beside usage belongs to no tenant, workload or model.
        if set(asked) <= {"provider"} and asked.get("provider", entry.provider) == entry.provider:
            spent_fusd += entry.billed_fusd if f"{entry.start:%Y-%m}" == month else 0
            first, last = (
                min(max(_hour(datetime(day.year, day.month, day.day, tzinfo=UTC)), begin), stop)
                for day in (entry.start, entry.end)
            )
            if last > first:
                series[first - begin : last - begin] += entry.billed_fusd / FEMTO_PER_USD / (last - first)
    return series, spent_fusd


def _growths(series: Floats, weeks: int) -> tuple[Floats, Floats]:
    """Logarithms of growth a week between any two of the weeks, and their weights; 0 where none is read."""
    totals = series[len(series) - weeks * WEEK_H :].reshape(weeks, WEEK_H).sum(axis=1)
    if weeks < LEAST_WEEKS_OF_TREND or not (totals > 0).all():
        return np.zeros(1), np.ones(1)
    early, late = np.triu_indices(weeks, 1)
    apart = (late - early).astype(np.float64)
    return (np.log(totals[late]) - np.log(totals[early])) / apart, apart**2


def _ends(series: Floats, rest_h: int, weeks: int, growths: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """What the rest of the month may cost, and the weight of each case."""
    history = series[len(series) - weeks * WEEK_H :].reshape(weeks, WEEK_H)
    cases, weights = [], []
    for growth, weight in zip(*growths, strict=True):
        sums = np.zeros(1)
        for number, start in enumerate(range(0, rest_h, WEEK_H)):
            # The hour after the log's end is the first of every block of 168 hours that ends where it does.
            block = history[:, : min(WEEK_H, rest_h - start)].sum(axis=1)
            ahead = weeks - np.arange(weeks) + number
            sums = np.add.outer(sums, block * np.exp(growth * ahead)).ravel()
        cases.append(sums)
        weights.append(np.full(len(sums), weight / len(sums)))
    return np.concatenate(cases), np.concatenate(weights)


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    """The least value that a share of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(len(values) - 1, int(np.searchsorted(reached, share - 1e-12)))])


def _anomalies(found: Statement, month: str) -> Iterable[Anomaly]:
    """Whole days of the month outside the band of their like: working days or weekends, tenant or model."""
    first, last = found.start.date(), found.end.date()
    days = [first + timedelta(n) for n in range(1, (last - first).days)]
    if len(days) < LEAST_DAYS:
        return
    total = found.total_fusd / FEMTO_PER_USD / ((last - first).days + 1)
    weekend = np.array([day.weekday() >= 5 for day in days])
    for key in ("tenant", "model"):
        cost = found.by(key, "day")
        for name in sorted({group[0] for group in cost}):
            usd = np.array([cost.get((name, day.isoformat()), 0) / FEMTO_PER_USD for day in days])
            for like in (weekend, ~weekend):
                yield from _outside(days, usd, like, f"{key} {name or '(none)'}", (month, total))


def _outside(
    days: Sequence[date], usd: Floats, like: npt.NDArray[np.bool_], name: str, of: tuple[str, float]
) -> Iterable[Anomaly]:
    month, total = of
    mine = usd[like]
    # Too few of a kind have no spread of their own: they are judged among all days.
    mine = usd if len(mine) < LEAST_DAYS else mine
    middle = float(np.median(mine))
    spread = max(1.4826 * float(np.median(np.abs(mine - middle))), LEAST_SPREAD_FRAC * middle)
    low, high = max(0.0, middle - ROBUST_SIGMAS * spread), middle + ROBUST_SIGMAS * spread
    for at in np.flatnonzero(like).tolist():
        value = float(usd[at])
        moved = abs(value - middle) > LEAST_SHARE * total
        if days[at].isoformat()[:7] == month and moved and not low <= value <= high:
            yield Anomaly(days[at].isoformat(), name, value, low, high)
