"""A choice among options under uncertainty: who is cheapest how often, what a wrong choice costs, and what
knowing would be worth.

All options are costed in the same scenarios, so that what they share cancels. Costs in dollars of one
period, lower is better. The value of information is the expected saving from choosing after the news
rather than before it (expected value of perfect information, of all facts and of one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.ledger import Ledger
from isocost.risk.scenarios import SCENARIOS, Driver, drawn, grouped, totals

Floats = npt.NDArray[np.float64]

BINS = 64
"""Equally filled ranges of a fact over which its news is read."""
SHUFFLES = 8
"""Random orders that show how large a worth chance alone makes, so that it can be taken off."""


class Choice:
    """Options costed in the same scenarios: ``usd[i, s]`` is option ``names[i]`` in scenario ``s``."""

    def __init__(self, names: Sequence[str], usd: Floats, ratios: Mapping[str, Floats]) -> None:
        if len(names) != len(usd) or not names:
            raise BadInput("a choice needs at least one option, each with its costs", where="risk")
        self.names, self.usd, self.ratios = tuple(names), usd, dict(ratios)

    @property
    def best(self) -> int:
        """The option that costs least in the mean: what one chooses before any news."""
        return int(np.argmin(self.usd.mean(axis=1)))

    def cheapest_frac(self) -> dict[str, float]:
        """Share of scenarios in which each option costs least; a tie goes to the first."""
        won = np.bincount(np.argmin(self.usd, axis=0), minlength=len(self.names))
        return {name: float(won[i] / self.usd.shape[1]) for i, name in enumerate(self.names)}


class Regret(msgspec.Struct, frozen=True):
    """What an option costs above the cheapest of its scenario: mean, 90th percentile, how often any."""

    option: str
    mean_usd: float
    p90_usd: float
    wrong_frac: float


class Worth(msgspec.Struct, frozen=True):
    """Most that it is worth to learn one fact (or all: name ``*``) before choosing."""

    name: str
    usd: float


def choose(options: Mapping[str, Ledger], drivers: Mapping[str, Driver], count: int = SCENARIOS) -> Choice:
    """Cost every option in the same scenarios of the drivers that any of them rests on."""
    return weigh({name: grouped(ledger) for name, ledger in options.items()}, drivers, count)


def weigh(
    options: Mapping[str, Mapping[tuple[str, ...], float]],
    drivers: Mapping[str, Driver],
    count: int = SCENARIOS,
) -> Choice:
    """As :func:`choose`, of dollars already grouped by their drivers."""
    used = {name for groups in options.values() for names in groups for name in names}
    ratios = drawn({name: driver for name, driver in drivers.items() if name in used}, count)
    usd = np.stack([totals(groups, ratios, count) for groups in options.values()])
    return Choice(tuple(options), usd, ratios)


def regret(choice: Choice, option: str) -> Regret:
    """What it costs to have chosen an option, over what hindsight would have."""
    i = choice.names.index(option)
    lost = choice.usd[i] - choice.usd.min(axis=0)
    return Regret(option, float(lost.mean()), float(np.quantile(lost, 0.9)), float((lost > 0.0).mean()))


def evpi_usd(choice: Choice) -> float:
    """Expected value of knowing every fact before choosing: the mean regret of the best option."""
    return regret(choice, choice.names[choice.best]).mean_usd


def evppi_usd(choice: Choice) -> tuple[Worth, ...]:
    """Expected value of knowing each driver alone, most first; drivers that change no choice are left out.

    The mean cost of each option within ``BINS`` ranges of the driver says what one would choose on
    learning it. Noise makes any split look useful, so what ``SHUFFLES`` random splits of the same sizes
    find on average is taken off; the worth is never more than that of all facts. Source: Strong,
    Oakley and Brennan, Medical Decision Making 34 (2014); bins instead of a regression.
    """
    most = evpi_usd(choice)
    if len(choice.names) < 2 or most <= 0.0:
        return ()
    over = choice.usd - choice.usd[choice.best]
    rng = np.random.Generator(np.random.PCG64(len(choice.ratios)))
    chance = float(np.mean([_gain(over[:, rng.permutation(over.shape[1])]) for _ in range(SHUFFLES)]))
    found = []
    for name, ratios in choice.ratios.items():
        usd = min(_gain(over[:, np.argsort(ratios, kind="stable")]) - chance, most)
        if usd > 0.0:
            found.append(Worth(name, usd))
    return tuple(sorted(found, key=lambda worth: (-worth.usd, worth.name)))


def _gain(over: Floats) -> float:
    """Mean saving over option costs in order of what is learned: the best option of each bin."""
    size = over.shape[1] // BINS
    if size == 0:
        return 0.0
    means = over[:, : size * BINS].reshape(len(over), BINS, size).mean(axis=2)
    before = means.mean(axis=1).min()
    return float(before - means.min(axis=0).mean())


def crossing(volumes: Sequence[float], one_usd: Floats, two_usd: Floats) -> Floats:
    """Volume from which ``two`` costs less than ``one``, by scenario: (count,).

    Costs are (len(volumes), count) at rising volumes; between them they are taken as straight in the log of
    the volume. 0 where ``two`` is cheaper from the first volume on, infinite where it never is to stay.
    """
    if len(volumes) != len(one_usd) or len(volumes) != len(two_usd):
        raise BadInput("costs and volumes differ in number", where="risk.crossing")
    logs = np.log(np.asarray(volumes, dtype=np.float64))
    ahead = one_usd - two_usd
    dearer = ahead <= 0.0
    # The last volume at which two is not cheaper: from there on it stays so.
    last = len(volumes) - 1 - np.argmax(dearer[::-1], axis=0)
    found = np.zeros(ahead.shape[1])
    any_dearer = dearer.any(axis=0)
    never = any_dearer & (last == len(volumes) - 1)
    inside = any_dearer & ~never
    column = np.flatnonzero(inside)
    i = last[inside]
    low, high = ahead[i, column], ahead[i + 1, column]
    found[inside] = np.exp(logs[i] + (logs[i + 1] - logs[i]) * (-low / (high - low)))
    found[never] = math.inf
    return found
