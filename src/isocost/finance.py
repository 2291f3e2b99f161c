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


def breakeven_periods(upfront_usd: float, saving_usd_per_period: float) -> float:
    """Periods until an outlay is repaid; infinite where nothing is saved. Undiscounted.

    >>> breakeven_periods(100.0, 25.0)
    4.0
    >>> breakeven_periods(100.0, 0.0)
    inf
    """
    return upfront_usd / saving_usd_per_period if saving_usd_per_period > 0.0 else math.inf


def breakeven_volume(fixed_usd_per_period: float, usd_per_unit: float) -> float:
    """Units per period at which paying by the unit costs as much as a fixed amount.

    >>> breakeven_volume(700.0, 5.0)
    140.0
    """
    return fixed_usd_per_period / usd_per_unit if usd_per_unit > 0.0 else math.inf


def blended_usd_per_mtok(
    input_usd_per_mtok: float, output_usd_per_mtok: float, input_share_frac: float
) -> float:
    """Price of a million tokens of which a share is input.

    >>> blended_usd_per_mtok(1.0, 4.0, 0.25)
    3.25
    """
    return input_usd_per_mtok * input_share_frac + output_usd_per_mtok * (1.0 - input_share_frac)


def input_usd(
    input_tok: float, cached_frac: float, usd_per_mtok_uncached: float, usd_per_mtok_cached: float
) -> float:
    """Cost of input of which a share is read from a prompt cache.

    >>> input_usd(1e6, 0.0, 3.0, 0.3)
    3.0
    >>> input_usd(1e6, 1.0, 3.0, 0.3)
    0.3
    """
    blended = usd_per_mtok_uncached * (1.0 - cached_frac) + usd_per_mtok_cached * cached_frac
    return input_tok * blended / 1e6


def mtok_per_period(tok_per_s: float, hours_per_period: float) -> float:
    """Millions of tokens that a speed makes in a period of use.

    >>> mtok_per_period(1000.0, 1.0)
    3.6
    """
    return tok_per_s * hours_per_period * 3600.0 / 1e6


def escalated_usd(first_usd: float, escalated_frac: float, second_usd: float) -> float:
    """Cost of a request that goes to a second way where the first does not do.

    >>> escalated_usd(1.0, 0.0, 5.0)
    1.0
    """
    return first_usd + escalated_frac * second_usd
