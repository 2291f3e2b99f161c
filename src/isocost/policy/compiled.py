"""The same rule over columns: what the kernel executes. A property test holds both equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from isocost.policy.route import _SPREAD, Route, edges

_LAST = (1 << 64) - 1


def assign(route: Route, hour: npt.NDArray[np.int64], first: int = 0) -> npt.NDArray[np.int32]:
    """Index into ``route.shares`` for requests ``first, first + 1, ...`` that arrive in ``hour`` (n,).

    Equals :func:`isocost.policy.route.pick` request by request.
    """
    place = (np.arange(first, first + len(hour), dtype=np.uint64)) * np.uint64(_SPREAD)
    ends = np.array(
        [[min(_LAST, edge - 1) if edge else 0 for edge in edges(route, h)] for h in range(168)],
        dtype=np.uint64,
    )
    usable = np.array([[share.at(h) > 0.0 for share in route.shares] for h in range(168)])
    chosen = np.full(len(hour), len(route.shares) - 1, dtype=np.int32)
    open_ = np.ones(len(hour), dtype=np.bool_)
    for k in range(len(route.shares)):
        has = usable[hour, k] & open_ & (place <= ends[hour, k])
        chosen[has] = k
        open_ &= ~has
    return chosen
