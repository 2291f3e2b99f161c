"""Who is cheapest by volume and by how far one looks, while prices move.

A charge of an option in month t is its dollars today times the drawn ratio of each of its drivers, times
the path of the series that the driver's price follows. Months are discounted. Every cell of the table
rests on the same scenarios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.finance import rate_per_month
from isocost.risk.scenarios import Driver, drawn

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
) -> Surface:
    """Cost every option at every volume over every horizon.

    ``by_volume`` maps requests a month to options to monthly dollars grouped by their drivers; an option
    may be missing at a volume. ``series`` maps the beginning of a driver's name to its ratios to
    today's price, (scenarios, months + 1), of :func:`isocost.forecast.prices.paths`.

    Raises:
        BadInput: no volume, no horizon, or paths shorter than the longest horizon.
    """
    if not by_volume or not horizons or min(horizons) < 1:
        raise BadInput("a surface needs volumes, and horizons of at least a month", where="risk.surface")
    longest, count = max(horizons), SCENARIOS_OF_A_CELL
    for prefix, path in series.items():
        if path.shape[0] < count or path.shape[1] <= longest:
            raise BadInput(f"the path of {prefix!r} is too short", where="risk.surface")
    monthly = rate_per_month(discount_rate_per_year)
    weight = (1.0 + monthly) ** -np.arange(1.0, longest + 1.0)
    options = tuple(dict.fromkeys(name for by in by_volume.values() for name in by))
    used = {n for by in by_volume.values() for groups in by.values() for names in groups for n in names}
    ratios = drawn({name: driver for name, driver in drivers.items() if name in used}, count)
    # What a set of drivers multiplies a dollar by, summed over the months of each horizon.
    factor: dict[tuple[str, ...], Floats] = {}
    cost = np.full((len(options), len(by_volume), len(horizons), count), np.inf)
    for v, by in enumerate(by_volume.values()):
        for name, groups in by.items():
            total = np.zeros((len(horizons), count))
            for names, usd in groups.items():
                if names not in factor:
                    factor[names] = _factor(names, ratios, series, weight, horizons)
                total += usd * factor[names]
            cost[options.index(name), v] = total
    won = np.argmin(cost, axis=0)
    frac = [
        [[float((won[v, h] == i).mean()) for h in range(len(horizons))] for v in range(len(by_volume))]
        for i in range(len(options))
    ]
    mean = np.where(np.isfinite(cost).all(axis=3), cost.mean(axis=3), np.nan)
    return Surface(options, tuple(by_volume), tuple(horizons), frac, mean.tolist())


def _factor(
    names: tuple[str, ...],
    ratios: Mapping[str, Floats],
    series: Mapping[str, Floats],
    weight: Floats,
    horizons: Sequence[int],
) -> Floats:
    """Discounted months of a dollar that some drivers multiply: (horizons, scenarios)."""
    count = SCENARIOS_OF_A_CELL
    once = np.ones(count)
    moved = np.broadcast_to(weight, (count, len(weight)))
    for name in names:
        if name in ratios:
            once = once * ratios[name]
        path = path_of(name, series)
        if path is not None:
            moved = moved * path[:count, 1 : len(weight) + 1]
    summed = np.cumsum(moved, axis=1)
    return np.stack([once * summed[:, months - 1] for months in horizons])
