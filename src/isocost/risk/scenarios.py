"""How sure: a ledger re-costed under scenarios of the facts that its charges are proportional to.

A charge is a quantity times facts, so a scenario multiplies it by the ratios of the drawn facts to
their central values. Draws are Latin hypercubes, one stream of random numbers for each driver's name:
two ledgers that share a driver see the same draw of it. Drivers of one family (rents of accelerators,
pay of people …) share a part of their draw, as large as the family's stated correlation.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.catalog.catalog import CatalogAt
from isocost.catalog.fact import CENTRAL as CENTRAL
from isocost.catalog.fact import Z_CENTRAL as Z_CENTRAL
from isocost.ledger import FEMTO_PER_USD, Ledger

Floats = npt.NDArray[np.float64]

SCENARIOS = 16_384
JOIN = " * "
"""Between the names of a charge's drivers in ``price_fact``."""


class Driver(NamedTuple):
    """A factor of charges: its low and high end over its central value (central 80 %); both above 0.

    Drivers of one ``family`` have rank correlations of about ``correlation_frac`` with one another.
    """

    name: str
    low_ratio: float
    high_ratio: float
    family: str = ""
    correlation_frac: float = 0.0


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


def with_families(drivers: Mapping[str, Driver], at: CatalogAt) -> dict[str, Driver]:
    """Drivers with the family that the start of their name says, by facts ``risk/<family>``."""
    families = [
        (str(fact.value), fact.subject.partition("/")[2], at.number(fact.subject, "correlation_frac"))
        for fact in at.each("risk/", "of_names")
    ]
    found = {}
    for name, driver in drivers.items():
        own = next((one for one in families if re.match(one[0], name)), None)
        found[name] = driver._replace(family=own[1], correlation_frac=own[2]) if own else driver
    return found


@lru_cache(maxsize=256)
def draws(driver: Driver, count: int = SCENARIOS) -> Floats:
    """Ratios of one driver, (count,): log-normal on each side of 1, its ends at 10 % and 90 %.

    Stratified, one draw a stratum; the order depends on the names of the driver and its family alone. The
    array is kept for the next who asks, and so is read-only.
    """
    rng = _stream(driver.name)
    order = rng.permutation(count)
    within = rng.random(count)
    if driver.family and driver.correlation_frac > 0.0:
        shared = math.sqrt(driver.correlation_frac) * _stream(f"family {driver.family}").standard_normal(
            count
        )
        own = math.sqrt(1.0 - driver.correlation_frac) * _normal_quantile((order + 0.5) / count)
        order = np.argsort(np.argsort(shared + own, kind="stable"), kind="stable")
    z = _normal_quantile((order + within) / count)
    slope = np.where(z < 0, -np.log(driver.low_ratio), np.log(driver.high_ratio)) / Z_CENTRAL
    found = np.asarray(np.exp(slope * z))
    found.flags.writeable = False
    return found


def drawn(drivers: Mapping[str, Driver], count: int = SCENARIOS) -> dict[str, Floats]:
    """The draws of every driver, each (count,)."""
    return {name: draws(driver, count) for name, driver in drivers.items()}


def _stream(name: str) -> np.random.Generator:
    """Random numbers of a name: the same for every ledger and every run."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64(seed))


def _moved(groups: Mapping[tuple[str, ...], float], name: str, ratio: float) -> float:
    """What the groups that a driver moves come to at one of its ratios, beyond their central sum."""
    return sum(usd * (ratio ** names.count(name) - 1.0) for names, usd in groups.items() if name in names)


def scenarios(ledger: Ledger, drivers: Mapping[str, Driver], count: int = SCENARIOS) -> Floats:
    """Totals of a ledger in dollars over scenarios: (count,). Drivers without an entry do not move."""
    groups = grouped(ledger)
    used = {name for names in groups for name in names}
    ratios = drawn({name: driver for name, driver in drivers.items() if name in used}, count)
    return totals(groups, ratios, count)


def totals(groups: Mapping[tuple[str, ...], float], ratios: Mapping[str, Floats], count: int) -> Floats:
    """Grouped dollars times the drawn ratios of their drivers: (count,)."""
    total = np.zeros(count)
    for names, usd in groups.items():
        factor: Floats | float = usd
        for name in names:
            if name in ratios:
                factor = factor * ratios[name]
        total += factor
    return total


def band(ledger: Ledger, drivers: Mapping[str, Driver], count: int = SCENARIOS) -> Band:
    """The ledger's total with its central 80 % over scenarios."""
    found = scenarios(ledger, drivers, count)
    low, high = np.quantile(found, [0.5 - CENTRAL / 2, 0.5 + CENTRAL / 2])
    return Band(float(low), ledger.total_usd, float(high))


def share(ledger: Ledger, accounts: Collection[str], drivers: Mapping[str, Driver]) -> tuple[float, ...]:
    """Some accounts' share of a ledger: low, middle and high end of its central 80 % over scenarios."""
    some = Ledger(charge for charge in ledger if charge.account in accounts)
    mid = some.total_usd / ledger.total_usd
    found = scenarios(some, drivers) / scenarios(ledger, drivers)
    low, high = np.quantile(found, [0.5 - CENTRAL / 2, 0.5 + CENTRAL / 2])
    return min(float(low), mid), mid, max(float(high), mid)


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


def wilson(share: float, n: float, z: float = Z_CENTRAL) -> tuple[float, float, float]:
    """Wilson's score interval of a mean of ``n`` values in [0, 1]: low end, middle, high end.

    Wide where all are alike, as it must be; the middle leans towards a half where few were seen.

    >>> wilson(0.5, 0.0), wilson(0.5, 10.0)[1], [round(x, 3) for x in wilson(1.0, 100.0, 1.96)][::2]
    ((0.0, 0.5, 1.0), 0.5, [0.963, 1.0])
    """
    if n <= 0.0:
        return 0.0, 0.5, 1.0
    lean, share = z * z / n, min(max(share, 0.0), 1.0)
    middle = (share + lean / 2.0) / (1.0 + lean)
    half = math.sqrt(lean * share * (1.0 - share) + lean * lean / 4.0) / (1.0 + lean)
    return max(0.0, middle - half), middle, min(1.0, middle + half)


def _normal_quantile(uniform: Floats) -> Floats:
    """Normal quantiles by table: exact at 2,001 points, linear in between, so that no loop runs."""
    points, levels = _table()
    return np.asarray(np.interp(uniform, levels, points))


@cache
def _table() -> tuple[Floats, Floats]:
    points = np.linspace(-4.5, 4.5, 2001)
    normal = NormalDist()
    return points, np.array([normal.cdf(float(x)) for x in points])
