"""Prices to come, as paths of the ratio to today's price, with the uncertainty of what they are fitted to.

Each series has a model of its own (:mod:`isocost.forecast.histories` says what they are):

- *list*: in each year a price changes with a probability (Beta posterior, Jeffreys prior) and then by a
  log-normal factor whose mean and spread are themselves uncertain (normal-inverse-gamma).
- *capability*: it falls by an exponential amount each half-year, the rate uncertain, from a prior that
  computing gets cheaper and algorithms better. It never rises.
- *rental*: a random walk in logs; its drift is shrunk to none by a prior, since three years hold one cycle.
- *spend*: growth at an uncertain rate that stays what it is.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput
from isocost.forecast.histories import Fall, Move, Window, falls, moves, published_falls, windows
from isocost.risk.scenarios import CENTRAL, Z_CENTRAL

Floats = NDArray[np.float64]
Series = Literal["list-maker", "list-host", "capability", "rental", "spend"]
SERIES: tuple[Series, ...] = get_args(Series)
COUNT = 4096
JEFFREYS = 0.5
DRAWN_MONTHS = 60
"""Months that are drawn at least, so that a path does not change with how far one looks."""


class Steps(NamedTuple):
    """Fitted list prices: changed and unchanged price-years; mean, spread and number of the changes."""

    changed: float
    unchanged: float
    mean: float
    spread: float
    seen: int


class Falls(NamedTuple):
    """Fitted half-years: ``still`` without a fall; ``fallen`` with one, of ``total`` in logs together."""

    still: float
    fallen: float
    total: float

    @property
    def still_frac(self) -> float:
        """Probability of a half-year without a cheaper model."""
        return (self.still + JEFFREYS) / (self.still + self.fallen + 2 * JEFFREYS)

    def exceeds(self, fall: float) -> float:
        """Probability that a fall, where there is one, is greater than ``fall`` in logs.

        Exponential falls whose rate is uncertain: a Lomax distribution.

        >>> Falls(0.0, 2.0, 1.0).exceeds(0.0)
        1.0
        """
        return float((self.total / (self.total + max(fall, 0.0))) ** self.fallen)


class Walk(NamedTuple):
    """Fitted rents: drift a year, its standard error, and spread of a year's walk, all in logs."""

    drift: float
    drift_error: float
    spread: float


def fit_list(past: Sequence[Window]) -> Steps:
    """The steps of list prices over windows of about a year, each model one price-year."""
    every = np.array([one for window in past for one in window.log_ratio])
    steps = every[every != 0.0]
    if len(steps) < 2:
        raise BadInput("fewer than two changed prices", where="prices/list", fix="Add dated prices")
    return Steps(
        len(steps), len(every) - len(steps), float(steps.mean()), float(steps.std(ddof=1)), len(steps)
    )


def fit_capability(past: Sequence[Fall], prior_per_year: float, prior_worth: float) -> Falls:
    """Half-years with and without a fall; falls as exponential, with a prior worth some falls.

    A score's cheapest price stays until a cheaper model comes, and then may drop far: both are in the
    data, neither in a normal. Rows of one half-year share their cheap models: n of them count as the
    square root of n, between one and all independent.
    """
    rows = Counter(fall.start for fall in past)
    weighted = [(rows[fall.start] ** -0.5, -fall.log_ratio) for fall in past]
    fell = [(weight, fall) for weight, fall in weighted if fall > 0.0]
    still = sum(weight for weight, fall in weighted if fall <= 0.0)
    total = prior_worth * prior_per_year / 2.0 + sum(weight * fall for weight, fall in fell)
    return Falls(still, prior_worth + sum(weight for weight, _ in fell), total)


def prior_fall_per_year(at: CatalogAt) -> float:
    """Log fall of a year that cheaper computing times better algorithms would bring."""
    of = "prices/capability"
    return math.log(at.number(of, "hardware_per_year")) + math.log(at.number(of, "algorithms_per_year"))


def fitted_falls(at: CatalogAt, past: Sequence[Fall]) -> Falls:
    """The falls of capability prices with the catalog's prior."""
    return fit_capability(past, prior_fall_per_year(at), at.number("prices/capability", "prior_worth"))


def fit_rental(past: Sequence[Move], prior_drift_sd: float) -> Walk:
    """A random walk over quotes; ``prior_drift_sd`` shrinks its drift a year to none."""
    if len(past) < 2:
        raise BadInput("fewer than two moves of a rent", where="prices/rental", fix="Add dated quotes")
    years = sum(move.years for move in past)
    spread = math.sqrt(sum(move.log_ratio**2 for move in past) / years)
    seen, error = sum(move.log_ratio for move in past) / years, spread / math.sqrt(years)
    weight = prior_drift_sd**2 / (prior_drift_sd**2 + error**2)
    return Walk(weight * seen, error * math.sqrt(weight), spread)


def paths(at: CatalogAt, series: Series, months: int, count: int = COUNT) -> Floats:
    """Ratios to today's price, (count, months + 1), the first column 1.

    The same series gives the same draws, so that two options that depend on it move together.

    Raises:
        BadInput: no such series, a negative number of months, or too little history.
    """
    if series not in SERIES:
        raise BadInput(f"no series {series!r}", fix=f"Series: {', '.join(SERIES)}")
    if months < 0:
        raise BadInput(f"{months} months", fix="Give a number of months from 0")
    seed = int.from_bytes(hashlib.sha256(series.encode()).digest()[:8], "big")
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = max(months, DRAWN_MONTHS)
    if series == "capability":
        logs = _falling(fitted_falls(at, falls(at.catalog)), drawn, count, rng)
    elif series == "rental":
        walk = fit_rental(moves(at.catalog), at.number("prices/rental", "prior_drift_sd"))
        logs = _walking(walk, drawn, count, rng)
    elif series == "spend":
        logs = _growing(at, drawn, count, rng)
    else:
        logs = _stepping(fit_list(windows(at, series.removeprefix("list-"))), drawn, count, rng)
    return np.asarray(
        np.exp(np.concatenate([np.zeros((count, 1)), np.cumsum(logs[:, :months], axis=1)], axis=1))
    )


def band(ratios: Floats) -> tuple[Floats, Floats, Floats]:
    """Low end, median and high end of the central 80 % over paths, each (months + 1,)."""
    low, mid, high = np.quantile(ratios, [0.5 - CENTRAL / 2, 0.5, 0.5 + CENTRAL / 2], axis=0)
    return low, mid, high


class Pooled(NamedTuple):
    """Published fits of a score's falling price taken together: factor a year, and 80 % of a new score's."""

    fits: int
    factor_per_year: float
    low: float
    high: float


def pooled_falls(at: CatalogAt) -> Pooled:
    """A hierarchical fit (random effects, DerSimonian and Laird) of the published ones.

    They are fits of the prices that set a record, each from its score's first day, so they are steeper
    than what a buyer sees on an average day; :func:`paths` counts the half-years without a fall too.
    """
    facts = [fact for fact in published_falls(at) if fact.low and fact.high]
    y = np.log([float(fact.value) for fact in facts])
    error = np.array([math.log((fact.high or 1.0) / (fact.low or 1.0)) / (2.0 * Z_CENTRAL) for fact in facts])
    weight = error**-2.0
    fixed = float(weight @ y / weight.sum())
    spare = weight.sum() - (weight**2).sum() / weight.sum()
    between = max(0.0, (float(weight @ (y - fixed) ** 2) - (len(y) - 1)) / spare)
    weight = 1.0 / (error**2 + between)
    mean = float(weight @ y / weight.sum())
    new = Z_CENTRAL * math.sqrt(between + 1.0 / weight.sum())
    return Pooled(len(y), math.exp(mean), math.exp(mean - new), math.exp(mean + new))


def _stepping(steps: Steps, months: int, count: int, rng: np.random.Generator) -> Floats:
    a_year = rng.beta(steps.changed + JEFFREYS, steps.unchanged + JEFFREYS, (count, 1))
    freedom = steps.seen - 1
    spread = steps.spread * np.sqrt(freedom / rng.chisquare(freedom, (count, 1)))
    mean = steps.mean + spread / math.sqrt(steps.seen) * rng.standard_normal((count, 1))
    changes = rng.random((count, months)) < -np.expm1(np.log1p(-a_year) / 12.0)
    return np.where(changes, mean + spread * rng.standard_normal((count, months)), 0.0)


def _falling(falls_of: Falls, months: int, count: int, rng: np.random.Generator) -> Floats:
    halves = -(-months // 6)
    stays = rng.beta(falls_of.still + JEFFREYS, falls_of.fallen + JEFFREYS, (count, 1))
    rate = rng.gamma(falls_of.fallen, 1.0 / falls_of.total, (count, 1))
    fall = -rng.standard_exponential((count, halves)) / rate
    fall = np.where(rng.random((count, halves)) < stays, 0.0, fall)
    return np.repeat(fall / 6.0, 6, axis=1)[:, :months]


def _walking(walk: Walk, months: int, count: int, rng: np.random.Generator) -> Floats:
    drift = walk.drift + walk.drift_error * rng.standard_normal((count, 1))
    return drift / 12.0 + walk.spread / math.sqrt(12.0) * rng.standard_normal((count, months))


def _growing(at: CatalogAt, months: int, count: int, rng: np.random.Generator) -> Floats:
    fact = at.fact("prices/spend", "tokens_growth_per_year")
    if fact.low is None or fact.high is None:
        raise BadInput("growth of tokens per task without an interval", where=fact.id, fix="Add low and high")
    spread = math.log(fact.high / fact.low) / (2.0 * Z_CENTRAL)
    rate = math.log(float(fact.value)) + spread * rng.standard_normal((count, 1))
    return np.repeat(rate / 12.0, months, axis=1)
