"""Whole parts that sum to a whole: the largest-remainder rule."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor


def largest_remainder(parts: Sequence[Fraction], total: int) -> list[int]:
    """Parts as whole numbers that sum to ``total``, which is their sum to within a half of each.

    Every part is rounded down; what is then missing goes, one each, to the parts that lost most, the first
    of equals first.

    Raises:
        ValueError: ``total`` is further from the sum of the parts than rounding can bridge.

    >>> largest_remainder([Fraction(1, 3)] * 3, 1)
    [1, 0, 0]
    """
    whole = [floor(part) for part in parts]
    missing = total - sum(whole)
    if not 0 <= missing <= len(parts):
        raise ValueError(f"parts sum to {float(sum(parts))}, not to {total}")
    order = sorted(range(len(parts)), key=lambda at: (whole[at] - parts[at], at))
    for at in order[:missing]:
        whole[at] += 1
    return whole
