"""What disclosed runs say of the next one: utilisation, experiments, whole programmes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from isocost.catalog import CatalogAt, Fact
from isocost.catalog.fact import Z_CENTRAL

SUBJECT = "development/posterior"
STEPS = 2000
"""Even number of parts of an integral."""


class Spread(NamedTuple):
    """A positive quantity: its median, and its central 80 % as ratios to it."""

    median: float
    low_ratio: float
    high_ratio: float

    @classmethod
    def of(cls, fact: Fact) -> Spread:
        """A fact with its interval; without one it does not move."""
        value = float(fact.value)
        low = fact.low / value if fact.low else 1.0
        high = fact.high / value if fact.high else 1.0
        return cls(value, low, high)

    def ends(self, central: float) -> tuple[float, float]:
        """Low and high end of another central share, log-normal on each side.

        >>> Spread(2.0, 0.5, 2.0).ends(0.8)
        (1.0, 4.0)
        """
        times = NormalDist().inv_cdf(0.5 + central / 2.0) / Z_CENTRAL
        return self.median * self.low_ratio**times, self.median * self.high_ratio**times


def mfu_fact(at: CatalogAt, accelerator: str) -> Fact:
    """Utilisation of the next run on an accelerator: of its family where that is known, else of any."""
    name = accelerator.lower()
    for family in at.catalog.subjects("chip-family/"):
        if any(word in name for word in at.text(family, "words").split(";")):
            return at.fact(SUBJECT, "mfu_frac", f"chip={family.partition('/')[2]}")
    return at.fact(SUBJECT, "mfu_frac")


def mfu_spread(at: CatalogAt, accelerator: str) -> Spread:
    """The same with its interval."""
    return Spread.of(mfu_fact(at, accelerator))


def experiments(at: CatalogAt) -> Fact:
    """Compute of experiments and failed runs over that of the final run."""
    return at.fact(SUBJECT, "experiments_ratio")


def whole_over_final(staff_over_compute: float, compute_multiplier: float) -> float:
    """A programme with its staff over the compute of its final run.

    >>> whole_over_final(0.0, 1.0)
    1.0
    >>> whole_over_final(0.5, 2.0)
    3.0
    """
    return compute_multiplier * (1.0 + staff_over_compute)


def next_of(values: Sequence[float], central: float) -> tuple[float, float]:
    """Ends of the central share for the next of some positive values: a Student t on the log scale.

    >>> low, high = next_of([3.0, 3.0 * 1.1, 3.0 / 1.1], 0.9)
    >>> low < 3.0 < high and round(low * high, 9)
    9.0
    """
    logs = [math.log(value) for value in values]
    count = len(logs)
    middle = math.fsum(logs) / count
    variance = math.fsum((one - middle) ** 2 for one in logs) / (count - 1)
    spread = math.sqrt(variance * (1.0 + 1.0 / count)) * t_quantile(0.5 + central / 2.0, count - 1)
    return math.exp(middle - spread), math.exp(middle + spread)


def t_quantile(level: float, degrees: int) -> float:
    """Quantile of Student's t above the median, by bisection of its integral.

    >>> round(t_quantile(0.95, 2), 3), round(t_quantile(0.975, 10), 3)
    (2.92, 2.228)
    """
    scale = math.exp(math.lgamma((degrees + 1) / 2.0) - math.lgamma(degrees / 2.0)) / math.sqrt(
        degrees * math.pi
    )

    def below(end: float) -> float:
        step = end / STEPS
        heights = [(1.0 + (i * step) ** 2 / degrees) ** (-(degrees + 1) / 2.0) for i in range(STEPS + 1)]
        odd, even = math.fsum(heights[1:-1:2]), math.fsum(heights[2:-1:2])
        area = step / 3.0 * (heights[0] + 4.0 * odd + 2.0 * even + heights[-1])
        return float(0.5 + scale * area)

    low, high = 0.0, 1e3 if degrees == 1 else 100.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if below(middle) < level else (low, middle)
    return (low + high) / 2.0
