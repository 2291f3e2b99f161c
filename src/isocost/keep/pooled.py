"""Who pays for what teams share (L16): by use, by peak, or by Shapley's value; the parts sum exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import factorial
from typing import NamedTuple

from isocost.keep.ask import Rule, Team
from isocost.ledger import FEMTO_PER_USD


class Part(NamedTuple):
    """What a team pays of the whole, and its share; ``apart_frac`` the capacity it would need alone."""

    team: str
    frac: float
    amount_fusd: int
    apart_frac: float | None

    @property
    def usd(self) -> float:
        """The amount in dollars."""
        return self.amount_fusd / FEMTO_PER_USD


def exactly(whole_fusd: int, weights: Sequence[Fraction]) -> list[int]:
    """A whole amount in parts by weight: rounded down, the rest to the largest remainders, the first first.

    All parts are equal where all weights are 0.

    >>> exactly(10, [Fraction(1), Fraction(1), Fraction(1)])
    [4, 3, 3]
    """
    total = sum(weights)
    fair = [whole_fusd * (one / total if total else Fraction(1, len(weights))) for one in weights]
    parts = [int(one // 1) for one in fair]
    order = sorted(range(len(parts)), key=lambda i: (parts[i] - fair[i], i))
    for i in order[: whole_fusd - sum(parts)]:
        parts[i] += 1
    return parts


def peak_of(loads: Sequence[Sequence[Fraction]]) -> Fraction:
    """The highest hour of loads together; 0 of none.

    >>> peak_of([[Fraction(1), Fraction(3)], [Fraction(2), Fraction(0)]])
    Fraction(3, 1)
    """
    return max((sum(hour, Fraction(0)) for hour in zip(*loads, strict=True)), default=Fraction(0))


def shapley(loads: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """What each load adds to the peak of those before it, mean over every order: exact, for few.

    A load that never adds pays nothing; equal loads pay the same; the parts sum to the peak of all.

    >>> shapley([[Fraction(1), Fraction(0)], [Fraction(0), Fraction(1)]])
    [Fraction(1, 2), Fraction(1, 2)]
    """
    n = len(loads)
    peaks = {
        group: peak_of([loads[i] for i in group])
        for size in range(n + 1)
        for group in combinations(range(n), size)
    }
    values = []
    for i in range(n):
        value = Fraction(0)
        for group, peak in peaks.items():
            if i not in group:
                weight = Fraction(factorial(len(group)) * factorial(n - len(group) - 1), factorial(n))
                value += weight * (peaks[tuple(sorted((*group, i)))] - peak)
        values.append(value)
    return values


def shared(whole_fusd: int, teams: Sequence[Team], rule: Rule) -> tuple[Part, ...]:
    """A whole in femto-USD among teams by a rule; the parts sum to it.

    By use: the sum of a team's load. By peak: its highest hour. Shapley: of the peak of all together;
    teams without hours peak at once.
    """
    if not teams:
        return ()
    loads = [_load(team) for team in teams]
    peaks = [_peak(team) for team in teams]
    if rule == "use":
        weights = [
            Fraction(team.use) if team.use is not None else sum(_load(team), Fraction(0)) for team in teams
        ]
    elif rule == "peak":
        weights = peaks
    else:
        weights = shapley(loads)
    amounts = exactly(whole_fusd, [Fraction(one) for one in weights])
    together = peak_of(loads) if len({len(load) for load in loads}) == 1 else Fraction(0)
    return tuple(
        Part(
            team.name,
            amount / whole_fusd if whole_fusd else 0.0,
            amount,
            float(peak / together) if together else None,
        )
        for team, amount, peak in zip(teams, amounts, peaks, strict=True)
    )


def _load(team: Team) -> list[Fraction]:
    """A team's hours; one at its peak (its use where it states none) where it has no hours."""
    if team.load:
        return [Fraction(one) for one in team.load]
    return [Fraction(team.peak if team.peak is not None else team.use or 0.0)]


def _peak(team: Team) -> Fraction:
    return Fraction(team.peak) if team.peak is not None else max(_load(team))
