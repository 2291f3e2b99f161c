"""Money over time: one pure function a quantity, with its limiting cases as doctests."""

from __future__ import annotations

import math


def capital_recovery_factor(rate_per_period: float, periods: float) -> float:
    """The level payment per period that repays one dollar (CRF), as in any engineering-economics text.

    >>> capital_recovery_factor(0.0, 4)
    0.25
    >>> round(capital_recovery_factor(0.01, 12), 6)
    0.088849
    """
    if rate_per_period == 0.0:
        return 1.0 / periods
    # 1 - (1 + r)^-n without its cancellation at small rates or its overflow at long lives.
    return rate_per_period / -math.expm1(-periods * math.log1p(rate_per_period))


def rate_per_month(discount_rate_per_year: float) -> float:
    """The monthly rate that compounds to a yearly one.

    >>> rate_per_month(0.0)
    0.0
    """
    return math.expm1(math.log1p(discount_rate_per_year) / 12.0)


def amortised_usd_per_month(upfront_usd: float, discount_rate_per_year: float, life_months: float) -> float:
    """An outlay spread over its life as equal monthly payments.

    >>> amortised_usd_per_month(1200.0, 0.0, 12.0)
    100.0
    """
    return upfront_usd * capital_recovery_factor(rate_per_month(discount_rate_per_year), life_months)


def usd_per_mtok(usd_per_month: float, mtok_per_month: float) -> float:
    """Levelised cost of tokens where cost and volume are the same every month.

    >>> usd_per_mtok(300.0, 100.0)
    3.0
    """
    return usd_per_month / mtok_per_month


def replica_usd_per_month(gpus: int, usd_per_gpu_h: float, hours_per_month: float) -> float:
    """One replica rented around the clock.

    >>> replica_usd_per_month(2, 3.0, 730.5)
    4383.0
    """
    return gpus * usd_per_gpu_h * hours_per_month
