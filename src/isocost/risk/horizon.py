"""Who is cheapest by volume and by how far one looks, while prices move.

A charge of an option in month t is its dollars today times the drawn ratio of each of its drivers, times
the path of the series that the driver's price follows. Months are discounted. Every cell of the table
rests on the same scenarios.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.finance import rate_per_month
from isocost.risk.scenarios import Driver, drawn, totals

Floats = npt.NDArray[np.float64]
Groups = Mapping[tuple[str, ...], float]
SCENARIOS_OF_A_CELL = 1024


class Surface(msgspec.Struct, frozen=True):
    """``cheapest_frac[option][volume][horizon]``: share of scenarios in which an option costs least.

    ``cost_usd`` has the mean discounted cost over the horizon in the same order; nan where an option does
    not serve a volume. ``horizons`` are months.
    """

    options: tuple[str, ...]
    volumes: tuple[float, ...]
    horizons: tuple[int, ...]
    cheapest_frac: list[list[list[float]]]
    cost_usd: list[list[list[float]]]


def path_of(name: str, series: Mapping[str, Floats]) -> Floats | None:
    """The path of the longest beginning of a driver's name in ``series``; ``None`` where prices stay."""
    found = [prefix for prefix in series if name.startswith(prefix)]
    return series[max(found, key=len)] if found else None


def surface(
    by_volume: Mapping[float, Mapping[str, Groups]],
    drivers: Mapping[str, Driver],
    series: Mapping[str, Floats],
    horizons: Sequence[int],
    discount_rate_per_year: float,
    once: Mapping[str, Groups] | None = None,
) -> Surface:
    """Cost every option at every volume over every horizon.

    ``by_volume`` maps requests a month to options to monthly dollars grouped by their drivers; an option
    may be missing at a volume. ``series`` maps the beginning of a driver's name to its ratios to
    today's price, (scenarios, months + 1), of :func:`isocost.forecast.prices.paths`. ``once`` has what an
    option costs when it begins (a launch), in the same groups: the shorter the horizon, the more it weighs.

    Raises:
        BadInput: no volume, no horizon, or paths shorter than the longest horizon.
    """
    if not by_volume or not horizons or min(horizons) < 1:
        raise BadInput("a surface needs volumes, and horizons of at least a month", where="risk.surface")
    longest, count = max(horizons), SCENARIOS_OF_A_CELL
    weight = _weight(series, longest, discount_rate_per_year)
    options = tuple(dict.fromkeys(name for by in by_volume.values() for name in by))
    begins = once or {}
    every = [groups for by in by_volume.values() for groups in by.values()] + list(begins.values())
    ratios = _drawn(every, drivers)
    first = {name: totals(groups, ratios, count) for name, groups in begins.items()}
    # What a set of drivers multiplies a dollar by, summed over the months of each horizon.
    factor: dict[tuple[str, ...], Floats] = {}
    cost = np.full((len(options), len(by_volume), len(horizons), count), np.inf)
    for v, by in enumerate(by_volume.values()):
        for name, groups in by.items():
            total = np.zeros((len(horizons), count))
            if name in first:
                total += first[name]
            for names, usd in groups.items():
                if names not in factor:
                    summed = _summed(names, ratios, series, weight)
                    factor[names] = np.stack([summed[:, months - 1] for months in horizons])
                total += usd * factor[names]
            cost[options.index(name), v] = total
    won = np.argmin(cost, axis=0)
    frac = [
        [[float((won[v, h] == i).mean()) for h in range(len(horizons))] for v in range(len(by_volume))]
        for i in range(len(options))
    ]
    mean = np.where(np.isfinite(cost).all(axis=3), cost.mean(axis=3), np.nan)
    return Surface(options, tuple(by_volume), tuple(horizons), frac, mean.tolist())


def payback(
    one: Groups,
    two: Groups,
    once: Groups,
    drivers: Mapping[str, Driver],
    series: Mapping[str, Floats],
    months: int,
    discount_rate_per_year: float,
) -> Floats:
    """Months until what ``two`` saves on ``one`` has paid for its launch ``once``, by scenario: (scenarios,).

    Straight within a month; 0 where there is nothing to pay back and something is saved from the first
    month on; infinite where it is not paid back within ``months``. Money is discounted as in
    :func:`surface`, and a saving that prices undo before the launch is paid counts for nothing.

    Raises:
        BadInput: paths shorter than the months.
    """
    weight = _weight(series, months, discount_rate_per_year)
    ratios = _drawn((one, two, once), drivers)
    count = SCENARIOS_OF_A_CELL
    saved = np.zeros((count, months + 1))
    saved[:, 0] = -totals(once, ratios, count)
    left = saved[:, :1].copy()
    for groups, sign in ((one, 1.0), (two, -1.0)):
        for names, usd in groups.items():
            saved[:, 1:] += sign * usd * _summed(names, ratios, series, weight)
    saved[:, 1:] += left
    paid = (saved[:, 1:] >= 0.0) & (saved[:, 1:] > left)
    month = np.argmax(paid, axis=1)
    row = np.arange(count)
    before, after = saved[row, month], saved[row, month + 1]
    rise = after - before
    part = np.where(rise > 0.0, -before / np.where(rise > 0.0, rise, 1.0), 0.0)
    return np.where(paid.any(axis=1), month + np.clip(part, 0.0, 1.0), np.inf)


def _weight(series: Mapping[str, Floats], months: int, discount_rate_per_year: float) -> Floats:
    """What a dollar of each month is worth today: (months,); checks that paths reach so far."""
    for prefix, path in series.items():
        if path.shape[0] < SCENARIOS_OF_A_CELL or path.shape[1] <= months:
            raise BadInput(f"the path of {prefix!r} is too short", where="risk.horizon")
    monthly = rate_per_month(discount_rate_per_year)
    return np.asarray((1.0 + monthly) ** -np.arange(1.0, months + 1.0))


def _drawn(every: Iterable[Groups], drivers: Mapping[str, Driver]) -> dict[str, Floats]:
    """Draws of the drivers that any of the groups rests on."""
    used = {name for groups in every for names in groups for name in names}
    return drawn({name: driver for name, driver in drivers.items() if name in used}, SCENARIOS_OF_A_CELL)


def _summed(
    names: tuple[str, ...], ratios: Mapping[str, Floats], series: Mapping[str, Floats], weight: Floats
) -> Floats:
    """What a monthly dollar that some drivers multiply adds up to, discounted: (scenarios, months)."""
    count = SCENARIOS_OF_A_CELL
    once = np.ones(count)
    moved: Floats = np.broadcast_to(weight, (count, len(weight)))
    for name in names:
        if name in ratios:
            once = once * ratios[name]
        path = path_of(name, series)
        if path is not None:
            moved = moved * path[:count, 1 : len(weight) + 1]
    return np.asarray(np.cumsum(moved, axis=1) * once[:, None])
