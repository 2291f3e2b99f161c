"""A plan's month again when prices or volume move: grouped quantities times ratios, in a millisecond.

For whatever asks many times: a slider, a notebook, a sweep. The plan stays as it is; to let it change, make
it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isocost.ledger import Ledger
from isocost.risk import grouped

API, GPU, VOLUME = "api/", "rental/", "planning/volume"
"""Beginnings of the names of facts that API prices, rents and tokens are proportional to."""


class Recost:
    """A ledger, ready to be costed again. ``names`` of facts may be given whole or by how they begin."""

    def __init__(self, ledger: Ledger) -> None:
        groups = grouped(ledger)
        self._sets = tuple(groups)
        self._usd = np.array(list(groups.values()))

    def usd(self, ratios: Mapping[str, float]) -> float:
        """The month when each named fact is so many times what it is.

        >>> Recost(Ledger()).usd({"api/": 2.0})
        0.0
        """
        factor = np.ones(len(self._sets))
        for i, names in enumerate(self._sets):
            for name in names:
                for begins, ratio in ratios.items():
                    if name.startswith(begins):
                        factor[i] *= ratio
        return float(self._usd @ factor)
