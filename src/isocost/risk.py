"""How sure: a ledger re-costed under scenarios of the facts that its charges are proportional to.

A charge is a quantity times facts, so a scenario multiplies it by the ratios of the drawn facts to
their central values. Draws are Latin hypercubes, one stream of random numbers for each driver's name:
two ledgers that share a driver see the same draw of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.ledger import FEMTO_PER_USD, Ledger

Floats = npt.NDArray[np.float64]

SCENARIOS = 4096
CENTRAL = 0.8
"""Share of scenarios inside a band, as of facts inside their low to high."""
JOIN = " * "
"""Between the names of a charge's drivers in ``price_fact``."""


class Driver(NamedTuple):
    """A factor of charges: its low and high end over its central value (central 80 %); both above 0."""

    name: str
    low_ratio: float
    high_ratio: float


class Band(NamedTuple):
    """A total with its central 80 %."""

    low_usd: float
    mid_usd: float
    high_usd: float


class Swing(NamedTuple):
    """The total at a driver's low and high end, all else central."""

    name: str
    low_usd: float
    high_usd: float

    @property
    def width_usd(self) -> float:
        """How much the driver moves the total."""
        return abs(self.high_usd - self.low_usd)


def grouped(ledger: Ledger) -> dict[tuple[str, ...], float]:
    """Dollars by the set of drivers they are proportional to."""
    sums: dict[tuple[str, ...], int] = {}
    for charge in ledger:
        names = tuple(charge.price_fact.split(JOIN)) if charge.price_fact else ()
        sums[names] = sums.get(names, 0) + charge.amount_fusd
    return {names: amount / FEMTO_PER_USD for names, amount in sums.items()}


def draws(driver: Driver, count: int = SCENARIOS) -> Floats:
    """Ratios of one driver, (count,): log-normal on each side of 1, its ends at 10 % and 90 %.

    Stratified, one draw a stratum; the order depends on the driver's name alone.
    """
    seed = int.from_bytes(hashlib.sha256(driver.name.encode()).digest()[:8], "big")
    rng = np.random.Generator(np.random.PCG64(seed))
    uniform = (rng.permutation(count) + rng.random(count)) / count
    z = _normal_quantile(uniform)
    end = NormalDist().inv_cdf(0.5 + CENTRAL / 2)
    slope = np.where(z < 0, -np.log(driver.low_ratio), np.log(driver.high_ratio)) / end
    return np.asarray(np.exp(slope * z))


def _moved(groups: Mapping[tuple[str, ...], float], name: str, ratio: float) -> float:
    """What the groups that a driver moves come to at one of its ratios, beyond their central sum."""
    return sum(usd * (ratio ** names.count(name) - 1.0) for names, usd in groups.items() if name in names)


def scenarios(ledger: Ledger, drivers: Mapping[str, Driver], count: int = SCENARIOS) -> Floats:
    """Totals of a ledger in dollars over scenarios: (count,). Drivers without an entry do not move."""
    ratios: dict[str, Floats] = {}
    total = np.zeros(count)
    for names, usd in grouped(ledger).items():
        factor = np.ones(count)
        for name in names:
            if name in drivers:
                if name not in ratios:
                    ratios[name] = draws(drivers[name], count)
                factor = factor * ratios[name]
        total += usd * factor
    return total


def band(ledger: Ledger, drivers: Mapping[str, Driver], count: int = SCENARIOS) -> Band:
    """The ledger's total with its central 80 % over scenarios."""
    totals = scenarios(ledger, drivers, count)
    low, high = np.quantile(totals, [0.5 - CENTRAL / 2, 0.5 + CENTRAL / 2])
    return Band(float(low), ledger.total_usd, float(high))


def swings(ledger: Ledger, drivers: Mapping[str, Driver]) -> tuple[Swing, ...]:
    """What each driver alone does to the total, widest first."""
    groups = grouped(ledger)
    total = sum(groups.values())
    found = []
    for driver in drivers.values():
        if any(usd and driver.name in names for names, usd in groups.items()):
            low, high = (_moved(groups, driver.name, end) for end in (driver.low_ratio, driver.high_ratio))
            found.append(Swing(driver.name, total + low, total + high))
    return tuple(sorted(found, key=lambda swing: (-swing.width_usd, swing.name)))


def cheaper_frac(one: Ledger, two: Ledger, drivers: Mapping[str, Driver]) -> float:
    """Share of scenarios in which ``one`` costs less than ``two``, with the same draws for both."""
    return float(np.mean(scenarios(one, drivers) < scenarios(two, drivers)))


def _normal_quantile(uniform: Floats) -> Floats:
    """Normal quantiles by table: exact at 2,001 points, linear in between, so that no loop runs."""
    points = np.linspace(-4.5, 4.5, 2001)
    normal = NormalDist()
    levels = np.array([normal.cdf(float(x)) for x in points])
    return np.asarray(np.interp(uniform, levels, points))
