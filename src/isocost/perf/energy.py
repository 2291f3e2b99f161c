"""Electricity of accelerators: power from how far memory and arithmetic are used, energy of a token.

A board draws its idle power, and of the rest of its limit a share that grows with the bandwidth and with
the arithmetic that are used::

    power = gpus * limit * (idle + (1 - idle) * min(1, level * memory_used**a * compute_used**b))

The constants are facts ``energy/accelerator``, fitted to measured power: a level for each accelerator,
exponents for a stack of software. A token takes the power for the time of a step over the tokens of a
step. Hosts and the building multiply what boards draw: facts with a boundary, beside and not inside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from isocost.catalog import CatalogAt
from isocost.errors import UnknownFact
from isocost.perf.arch import Floats

SUBJECT = "energy/accelerator"


class Power(NamedTuple):
    """Of ``n`` accelerators, ``(n,)`` each or scalars: idle share of the limit, level and exponents."""

    idle_power_frac: Floats
    power_level: Floats
    memory_power: Floats
    compute_power: Floats


class Site(NamedTuple):
    """What stands around accelerators: the host's power over that of its boards, and the building's over
    that of its computers (PUE). ``None`` where the catalog does not say."""

    host_power_ratio: float | None
    pue: float | None


def power_of(catalog_at: CatalogAt, gpu_id: str, stack: str = "") -> Power:
    """The constants of one accelerator under a stack (the newest measured where none is named).

    An accelerator that was not measured gets the level of all that were.

    Raises:
        UnknownFact: the catalog has no constants of power.
    """

    def number(name: str, *whens: str) -> float:
        for when in whens:
            fact = catalog_at.find(SUBJECT, name, when)
            if fact is not None:
                return float(fact.value)
        raise UnknownFact(f"no {name} of {SUBJECT}")

    named = stack or catalog_at.text(SUBJECT, "newest_stack")
    return Power(
        np.asarray(number("idle_power_frac", f"gpu={gpu_id}", "")),
        np.asarray(number("power_level", f"gpu={gpu_id};stack={named}", f"stack={named}", "")),
        np.asarray(number("memory_power", f"stack={named}", "")),
        np.asarray(number("compute_power", f"stack={named}", "")),
    )


def site_of(catalog_at: CatalogAt, kind: str = "cloud") -> Site:
    """Host share and PUE of a kind of site (``cloud``, ``default``)."""

    def maybe(subject: str, name: str) -> float | None:
        fact = catalog_at.find(subject, name)
        return None if fact is None else float(fact.value)

    return Site(maybe(SUBJECT, "host_power_ratio"), maybe(f"energy/{kind}", "pue"))


def power_frac(power: Power, memory_used_frac: ArrayLike, compute_used_frac: ArrayLike) -> Floats:
    """Power over the board's limit, between idle and 1.

    >>> import numpy as np
    >>> half = Power(*(np.float64(x) for x in (0.1, 1.0, 0.5, 0.0)))
    >>> float(power_frac(half, 0.0, 1.0)), float(power_frac(half, 1.0, 1.0))
    (0.1, 1.0)
    """
    memory = np.clip(np.asarray(memory_used_frac, dtype=np.float64), 0.0, 1.0)
    compute = np.clip(np.asarray(compute_used_frac, dtype=np.float64), 0.0, 1.0)
    used = power.power_level * memory**power.memory_power * compute**power.compute_power
    return np.asarray(power.idle_power_frac + (1.0 - power.idle_power_frac) * np.minimum(used, 1.0))


def replica_power_w(
    power: Power, tdp_w: ArrayLike, gpus: ArrayLike, memory_used_frac: ArrayLike, compute_used_frac: ArrayLike
) -> Floats:
    """Power of a replica's accelerators, W: never below idle nor above their limit."""
    share = power_frac(power, memory_used_frac, compute_used_frac)
    return np.asarray(np.asarray(tdp_w) * np.asarray(gpus) * share)


def energy_j_per_tok(power_w: ArrayLike, tok_per_s: ArrayLike) -> Floats:
    """Energy of one output token at a throughput; infinite where nothing comes out."""
    rate = np.asarray(tok_per_s, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.asarray(power_w) / rate)


def wall_j_per_tok(j_per_tok: ArrayLike, host_power_ratio: ArrayLike, pue: ArrayLike) -> Floats:
    """Energy of a token at the meter of the building: boards, hosts, cooling and losses.

    >>> round(float(wall_j_per_tok(2.0, 1.5, 1.2)), 9)
    3.6
    """
    return np.asarray(np.asarray(j_per_tok) * np.asarray(host_power_ratio) * np.asarray(pue))
