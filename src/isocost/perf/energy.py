"""Electricity of accelerators: power between idle and busy, energy of a token.

Version 1: power grows linearly with the share of time in which steps run, between two fractions of
the board's limit. It leaves out hosts, fans and the building (a facility's PUE multiplies it).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isocost.catalog import CatalogAt
from isocost.perf.arch import Floats


class Power(NamedTuple):
    """Fractions of a board's power limit: working without pause, and holding a model idle."""

    busy_power_frac: float
    idle_power_frac: float


def power_of(catalog_at: CatalogAt) -> Power:
    """The fractions in force on a date.

    Raises:
        UnknownFact: one of them is not in the catalog.
    """
    return Power(*(catalog_at.number("perf/power", name) for name in Power._fields))


def replica_power_w(power: Power, tdp_w: ArrayLike, gpus: ArrayLike, busy_frac: ArrayLike) -> Floats:
    """Power of a replica of ``gpus`` accelerators that step ``busy_frac`` of the time.

    >>> float(replica_power_w(Power(0.8, 0.1), 700.0, 2.0, 1.0))
    1120.0
    """
    busy = np.clip(np.asarray(busy_frac, dtype=np.float64), 0.0, 1.0)
    share = power.idle_power_frac + (power.busy_power_frac - power.idle_power_frac) * busy
    return np.asarray(np.asarray(tdp_w) * np.asarray(gpus) * share)


def energy_j_per_tok(power_w: ArrayLike, tok_per_s: ArrayLike) -> Floats:
    """Energy of one output token at a throughput; infinite where nothing comes out."""
    rate = np.asarray(tok_per_s, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.asarray(power_w) / rate)
