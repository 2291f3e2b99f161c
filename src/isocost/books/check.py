"""Budgets against the month's end as the log forecasts it, and days that stand out.

The forecast is seasonal-naive by hour of the week: each week to come costs, hour by hour, what one of the
log's last weeks did. All combinations of them are equally likely: the forecast is their median, the band
their central 80 %, the probability of exceeding a budget the share of them that does. A trend is not
extrapolated; a log of one week has no band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.books.statement import Statement, month_of
from isocost.errors import BadInput

Floats = npt.NDArray[np.float64]

WEEK_H = 168
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
    """

    budget: str
    usd_per_month: Decimal
    spent_usd: Decimal
    forecast_usd: float
    low_usd: float
    high_usd: float
    exceeds: float
    held: bool


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
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=Budgets, strict=False).budget
    except (OSError, msgspec.MsgspecError) as wrong:
        raise BadInput(
            str(wrong), where=str(path), fix="Write [[budget]] with usd_per_month = 1000 and tenant = 'a'"
        ) from None
    for one in found:
        if not one.usd_per_month > 0:
            raise BadInput(f"{one.usd_per_month} USD a month for {one.name}", where=str(path))
    if not found:
        raise BadInput("no budget", where=str(path), fix="Write [[budget]] with usd_per_month = 1000")
    return found


def check(found: Statement, budgets: Sequence[Budget]) -> Check:
    """Forecast the month of the log's last row for every budget, and find the days that stand out.

    ``found`` is a statement by the hour.

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
        series, spent_fusd = _series(found, budget, begin, stop, month)
        low, middle, high, exceeds = _forecast(series, stop, after, spent_fusd / 1e15, budget, weeks)
        outlooks.append(
            Outlook(
                budget.name, budget.usd_per_month, Decimal(spent_fusd).scaleb(-15), middle, low, high,
                exceeds, exceeds <= LIKELY,
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


def _series(found: Statement, budget: Budget, begin: int, stop: int, month: str) -> tuple[Floats, int]:
    """Dollars of every hour of the log, and exactly those of the month."""
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
    for line in found.lines:
        if all(getattr(line, key) == name for key, name in asked.items()):
            at = _hour(datetime.fromisoformat(f"{line.period}:00").replace(tzinfo=UTC)) - begin
            series[at] += line.amount_fusd / 1e15
            spent_fusd += line.amount_fusd if line.month == month else 0
    return series, spent_fusd


def _forecast(
    series: Floats, stop: int, after: int, spent_usd: float, budget: Budget, weeks: int
) -> tuple[float, float, float, float]:
    """Low, forecast and high dollars at the month's end, and the probability of exceeding the budget."""
    history = series[len(series) - weeks * WEEK_H :].reshape(weeks, WEEK_H)
    rest = after - stop
    sums = np.zeros(1)
    for start in range(0, rest, WEEK_H):
        # The hour after the log's end is the first of every block of 168 hours that ends where it does.
        block = history[:, : min(WEEK_H, rest - start)].sum(axis=1)
        sums = np.add.outer(sums, block).ravel()
    ends = np.sort(spent_usd + sums)
    low, middle, high = np.quantile(ends, [0.1, 0.5, 0.9], method="inverted_cdf")
    return float(low), float(middle), float(high), float((ends > float(budget.usd_per_month)).mean())


def _anomalies(found: Statement, month: str) -> Iterable[Anomaly]:
    """Whole days of the month outside the band of their like: working days or weekends, tenant or model."""
    first, last = found.start.date(), found.end.date()
    days = [first + timedelta(n) for n in range(1, (last - first).days)]
    if len(days) < LEAST_DAYS:
        return
    total = found.total_fusd / 1e15 / ((last - first).days + 1)
    weekend = np.array([day.weekday() >= 5 for day in days])
    for key in ("tenant", "model"):
        cost = found.by(key, "day")
        for name in sorted({group[0] for group in cost}):
            usd = np.array([cost.get((name, day.isoformat()), 0) / 1e15 for day in days])
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
