"""Anchors: what a user's own measurements say of other loads on the same set-up.

The logarithm of measured over predicted is taken as a Gaussian process over the load: a part that a
set-up has at every load, a part that fades with the distance between loads (in e-folds of concurrency,
prompt and answer), and noise of repetition. One point moves every prediction and narrows its interval;
near the point more, far from it less. The variances are facts ``perf/anchor``, found on families of models
that the physics had not seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.errors import BadInput
from isocost.perf.arch import Floats
from isocost.perf.predict import SPREADS, Load, Prediction, Spread

SUBJECT = "perf/anchor"


class Kinship(NamedTuple):
    """How alike the errors of one set-up are: variances of logarithms, and e-folds of load over which
    the second part fades."""

    common: float
    local: float
    noise: float
    reach: float


class Anchors(NamedTuple):
    """``m`` measurements of one quantity on one set-up: their loads, what was predicted and measured."""

    load: Load
    predicted: Floats
    measured: Floats


def kinship_of(catalog_at: CatalogAt, quantity: str) -> Kinship:
    """The variances of a quantity (one of :data:`isocost.perf.predict.QUANTITIES`).

    Raises:
        UnknownFact: the catalog has none.
    """
    when = f"quantity={SPREADS[quantity].removesuffix('_ratio')}"
    common, local, noise = (
        catalog_at.number(SUBJECT, name, when) ** 2
        for name in ("common_log_sd", "local_log_sd", "noise_log_sd")
    )
    return Kinship(common, local, noise, catalog_at.number(SUBJECT, "reach", when))


def anchored(predicted: Floats, spread: Spread, load: Load, anchors: Anchors, kin: Kinship) -> Prediction:
    """Predictions at ``n`` loads of the set-up that the anchors measured, moved and narrowed.

    ``spread`` is what it would be without anchors; without any, the result is exactly that.

    Raises:
        BadInput: a measurement is not a positive number.
    """
    if not (np.isfinite(anchors.measured).all() and (anchors.measured > 0).all()):
        raise BadInput("a measurement that is not above zero", where="anchor")
    if not len(anchors.measured):
        scale = np.exp(np.stack([spread.middle, spread.low, spread.high]))
        return Prediction(*(predicted * scale))
    here, there = _place(load), _place(anchors.load)
    among = _covariance(there, there, kin) + kin.noise * np.eye(len(there))
    across = _covariance(here, there, kin)
    weight = np.linalg.solve(among, across.T).T
    known = np.log(anchors.measured / anchors.predicted) - float(np.median(spread.middle))
    middle = spread.middle + weight @ known
    prior = kin.common + kin.local + kin.noise
    left = np.maximum(prior - np.einsum("ij,ij->i", weight, across), kin.noise)
    narrower = np.sqrt(left / prior)
    low = middle + (spread.low - spread.middle) * narrower
    high = middle + (spread.high - spread.middle) * narrower
    return Prediction(predicted * np.exp(middle), predicted * np.exp(low), predicted * np.exp(high))


def _place(load: Load) -> Floats:
    """Where a load lies, in e-folds: shape ``(n, 3)``."""
    return np.asarray(np.log(np.stack([np.maximum(part, 1.0) for part in load[:3]], axis=1)))


def _covariance(one: Floats, other: Floats, kin: Kinship) -> Floats:
    apart = ((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=2)
    faded: Floats = kin.local * np.exp(-0.5 * apart / kin.reach**2)
    return kin.common + faded
