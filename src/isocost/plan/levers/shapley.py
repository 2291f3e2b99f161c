"""The fair share of each lever in what all of them save together, whatever the order they are pulled in.

The Shapley value of lever i is its mean gain over all orders: with v(S) the cost under levers S,

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S) - v(S + i)).

Whole femto-dollars in, whole femto-dollars out: fractions are exact and the last of them go to the largest
remainders, so that the shares sum to v(none) - v(all) to the femto-dollar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np

EXACT_MOST = 10
"""Levers up to which every order is counted."""
ORDERS = 400
"""Orders sampled beyond."""


def shapley(
    levers: Sequence[str], cost_fusd: Callable[[frozenset[str]], int]
) -> tuple[dict[str, int], float]:
    """What each lever saves, in femto-dollars, and the standard error of one share in dollars.

    The error is 0 up to ten levers, where every order is counted.

    >>> shapley(["a", "b"], lambda on: 10 - 4 * ("a" in on) - 3 * ("b" in on))
    ({'a': 4, 'b': 3}, 0.0)
    """
    if len(levers) > EXACT_MOST:
        return _sampled(levers, cost_fusd)
    n = len(levers)
    parts: dict[str, Fraction] = {}
    for lever in levers:
        others = [name for name in levers if name != lever]
        total = Fraction(0)
        for size in range(n):
            weight = Fraction(math.factorial(size) * math.factorial(n - size - 1), math.factorial(n))
            for some in combinations(others, size):
                without = frozenset(some)
                total += weight * (cost_fusd(without) - cost_fusd(without | {lever}))
        parts[lever] = total
    whole = cost_fusd(frozenset()) - cost_fusd(frozenset(levers))
    return _rounded(parts, whole), 0.0


def _rounded(parts: dict[str, Fraction], whole: int) -> dict[str, int]:
    """Whole numbers that sum to ``whole``: the largest remainders are rounded up."""
    found = {name: math.floor(part) for name, part in parts.items()}
    order = sorted(parts, key=lambda name: (found[name] - parts[name], name))
    for name in order[: whole - sum(found.values())]:
        found[name] += 1
    return found


def _sampled(
    levers: Sequence[str], cost_fusd: Callable[[frozenset[str]], int]
) -> tuple[dict[str, int], float]:
    """Mean gains over random orders and their reverses, from a fixed seed."""
    rng = np.random.Generator(np.random.PCG64(0))
    gains: dict[str, list[int]] = {lever: [] for lever in levers}
    order: list[str] = []
    for k in range(ORDERS):
        order = order[::-1] if k % 2 else [levers[i] for i in rng.permutation(len(levers))]
        on: frozenset[str] = frozenset()
        before = cost_fusd(on)
        for lever in order:
            on = on | {lever}
            after = cost_fusd(on)
            gains[lever].append(before - after)
            before = after
    whole = cost_fusd(frozenset()) - cost_fusd(frozenset(levers))
    parts = {lever: Fraction(sum(some), len(some)) for lever, some in gains.items()}
    spread = max(float(np.std([g / 1e15 for g in some])) for some in gains.values()) / math.sqrt(ORDERS)
    return _rounded(parts, whole), spread
