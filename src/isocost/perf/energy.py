"""Electricity of accelerators: power from how far memory and arithmetic are used, energy of a token.

A board draws its idle power, more while kernels run at all, and more with the bandwidth and the arithmetic
that they use, up to what it is held to::

    wanted = idle + awake * busy + memory * memory_used + compute * sqrt(compute_used) + media * media_share
    power  = gpus * limit * wanted / (1 + (wanted / most)**sharpness)**(1 / sharpness)

The constants are facts ``energy/accelerator``, fitted to measured power: ``awake`` and ``most`` by
accelerator and stack of software, the others by stack; the root is of clocks that fall as arithmetic fills
the board's limit. With weights stored narrow, ``memory`` and ``compute`` are a ratio greater. A token takes
the power for the time of a step over the tokens of a step. Hosts and the building multiply what boards draw:
facts with a boundary, beside and not inside.
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
    """Of ``n`` accelerators, ``(n,)`` each or scalars, as shares of the board's limit: idle, the most that is
    drawn, and what is added while kernels run, at all of the bandwidth, at all of the arithmetic and while
    images are read; ``sharpness`` of the passage to the most."""

    idle_power_frac: Floats
    most_power_frac: Floats
    awake_power_frac: Floats
    memory_power_frac: Floats
    compute_power_frac: Floats
    media_power_frac: Floats
    sharpness: Floats


class Site(NamedTuple):
    """What stands around accelerators: the host's power over that of its boards, and the building's over
    that of its computers (PUE). ``None`` where the catalog does not say."""

    host_power_ratio: float | None
    pue: float | None


def power_of(catalog_at: CatalogAt, gpu_id: str, stack: str = "", *, is_narrow: bool = False) -> Power:
    """The constants of one accelerator under a stack (the newest measured where none is named).

    An accelerator that was not measured gets the mean of those that were. Weights of fewer than 16 bits
    (``is_narrow``) draw more for the same share of the bandwidth and of the arithmetic of their format.

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
    pair = (f"gpu={gpu_id};stack={named}", f"stack={named}", "")
    more = number("narrow_power_ratio", "") if is_narrow else 1.0
    return Power(
        np.asarray(number("idle_power_frac", f"gpu={gpu_id}", "")),
        np.asarray(number("most_power_frac", *pair)),
        np.asarray(number("awake_power_frac", *pair)),
        np.asarray(number("memory_power_frac", *pair[1:]) * more),
        np.asarray(number("compute_power_frac", *pair[1:]) * more),
        np.asarray(number("media_power_frac", *pair[1:])),
        np.asarray(number("power_sharpness", "")),
    )


def site_of(catalog_at: CatalogAt, kind: str = "cloud") -> Site:
    """Host share and PUE of a kind of site (``cloud``, ``default``)."""

    def maybe(subject: str, name: str) -> float | None:
        fact = catalog_at.find(subject, name)
        return None if fact is None else float(fact.value)

    return Site(maybe(SUBJECT, "host_power_ratio"), maybe(f"energy/{kind}", "pue"))


def power_frac(
    power: Power,
    memory_used_frac: ArrayLike,
    compute_used_frac: ArrayLike,
    busy_frac: ArrayLike = 0.0,
    media_frac: ArrayLike = 0.0,
) -> Floats:
    """Power over the board's limit, between idle and the most that is drawn (at most 1).

    An accelerator is at work for as long as its memory or its arithmetic would be at their peaks, at least.

    >>> import numpy as np
    >>> board = Power(*(np.float64(x) for x in (0.1, 0.9, 0.3, 0.2, 0.4, 0.0, 6.0)))
    >>> float(power_frac(board, 0.0, 0.0)), round(float(power_frac(board, 0.0, 0.0, 1.0)), 3)
    (0.1, 0.399)
    >>> round(float(power_frac(board, 1.0, 1.0)), 2)
    0.84
    """
    memory, compute, busy = (
        np.clip(np.asarray(one, dtype=np.float64), 0.0, 1.0)
        for one in (memory_used_frac, compute_used_frac, busy_frac)
    )
    busy = np.maximum(busy, np.maximum(memory, compute))
    wanted = power.idle_power_frac + power.awake_power_frac * busy + power.memory_power_frac * memory
    wanted = (
        wanted + power.compute_power_frac * np.sqrt(compute) + power.media_power_frac * np.asarray(media_frac)
    )
    most = np.minimum(power.most_power_frac, 1.0)
    held = wanted / (1.0 + (wanted / most) ** power.sharpness) ** (1.0 / power.sharpness)
    return np.asarray(np.maximum(held, power.idle_power_frac))


def replica_power_w(
    power: Power,
    tdp_w: ArrayLike,
    gpus: ArrayLike,
    memory_used_frac: ArrayLike,
    compute_used_frac: ArrayLike,
    busy_frac: ArrayLike = 0.0,
) -> Floats:
    """Power of a replica's accelerators, W: never below idle nor above their limit."""
    share = power_frac(power, memory_used_frac, compute_used_frac, busy_frac)
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
