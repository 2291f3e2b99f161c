"""What disclosed runs say of the next one: utilisation, experiments, whole programmes."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from isocost.catalog import CatalogAt, Fact

SUBJECT = "development/posterior"
END = NormalDist().inv_cdf(0.9)


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
        times = NormalDist().inv_cdf(0.5 + central / 2.0) / END
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


def pooled(logs_variance: float, count: int) -> float:
    """Variance of the next value on the log scale, where a mean was estimated from ``count`` values.

    >>> pooled(1.0, 4)
    1.25
    """
    return logs_variance * (1.0 + 1.0 / count) if count else math.inf
