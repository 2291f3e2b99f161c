"""Intervals from what held-out families were measured to be over what was predicted of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TENTHS = (0.1, 0.5, 0.9)
LEAST_OF_GROUP = 8
LEAST_OF_SOURCE = 2
HELD_FRAC, LEAST_UNSEEN_FRAC = 0.80, 0.76
MIN_FAMILIES = 3
"""Fewer do not say how families differ."""


class Ratios(NamedTuple):
    """Measured over predicted of held-out rows, with the family, the group and the source of each."""

    value: np.ndarray
    family: np.ndarray
    group: np.ndarray
    source: np.ndarray


def tenths(ratios: Ratios, inside: np.ndarray) -> np.ndarray:
    """Tenth, fiftieth and ninetieth percentile over families that count as the root of their rows.

    Sources of two families or more count the same, because the next source is not one of them.
    """
    values = ratios.value[inside]
    key = np.char.add(ratios.source[inside].astype(str), ratios.family[inside].astype(str))
    _, which, counts = np.unique(key, return_inverse=True, return_counts=True)
    weight = counts[which] ** -0.5
    weight = weight / weight.sum()
    many = [
        here
        for name in np.unique(ratios.source[inside])
        if len(np.unique(key[here := ratios.source[inside] == name])) >= LEAST_OF_SOURCE
    ]
    share = sum(weight[here].sum() for here in many) / max(len(many), 1)
    for here in many:
        weight[here] *= share / weight[here].sum()
    order = np.argsort(values)
    return np.asarray(np.interp(TENTHS, np.cumsum(weight[order]) - 0.5 * weight[order], values[order]))


def inside_frac(ratios: Ratios, here: np.ndarray, wider: float | None, apart: bool) -> float:
    """How often an interval, widened in the logarithm, holds: from all families, or from the others.

    With no ``wider`` given it is widened as the families say that it is drawn from.
    """
    hits = []
    told = wider
    for family in np.unique(ratios.family[here]):
        test = here & (ratios.family == family)
        wider = widening(ratios, here & ~test if apart else here) if told is None else told
        low, middle, high = np.log(tenths(ratios, here & ~test if apart else here))
        found = np.log(ratios.value[test])
        hits.append((found >= middle + wider * (low - middle)) & (found <= middle + wider * (high - middle)))
    return float(np.concatenate(hits).mean())


def widening(ratios: Ratios, here: np.ndarray) -> float:
    """By how much an interval is widened so that it holds 80 % half way between families seen and unseen, and
    76 % of those unseen."""
    if len(np.unique(ratios.family[here])) < MIN_FAMILIES:
        return 1.0
    tried = np.linspace(0.7, 2.0, 53)
    unseen, seen = (
        np.array([inside_frac(ratios, here, wider, apart) for wider in tried]) for apart in (True, False)
    )
    half_way = np.interp(HELD_FRAC, 0.5 * (unseen + seen), tried)
    return float(max(half_way, np.interp(LEAST_UNSEEN_FRAC, unseen, tried)))


def coverage(name: str, ratios: Ratios) -> None:
    """How often the interval from the other families holds a family's measurements: as it is, widened as all
    families say, and widened as the others alone say."""
    for group in np.unique(ratios.group):
        here = ratios.group == group
        families = np.unique(ratios.family[here])
        if len(families) < 2:
            continue
        wider = widening(ratios, here)
        plain, apart, told = (inside_frac(ratios, here, one, True) for one in (1.0, wider, None))
        known = inside_frac(ratios, here, wider, False)
        print(
            f"  {name:10} {group:26} {here.sum():5} rows, {len(families)} families: {plain:.1%} inside;"
            f" widened by {wider:.2f}: {apart:.1%}, as the others alone say {told:.1%},"
            f" of families seen {known:.1%}"
        )
