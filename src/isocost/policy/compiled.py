"""The same rule over columns: what the kernel executes. A property test holds both equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isocost.policy.route import _SPREAD, Route, Share, share_edges

_LAST = (1 << 64) - 1


def assign(
    route: Route,
    hour: npt.NDArray[np.int64],
    first: int = 0,
    session: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int32]:
    """Index into ``route.shares`` for requests ``first, first + 1, ...`` that arrive in ``hour`` (n,).

    ``session`` (n,) numbers sessions, -1 none. Equals :func:`isocost.policy.route.pick` request by request.
    """
    sequence = np.arange(first, first + len(hour), dtype=np.int64)
    return assign_shares(route.shares, hour, keys(sequence, session, route.by_session))


def keys(
    sequence: npt.NDArray[np.int64], session: npt.NDArray[np.int64] | None, by_session: bool
) -> npt.NDArray[np.int64]:
    """The number by which each request is divided (n,); equals :func:`isocost.policy.route.key`."""
    if session is None or not by_session:
        return sequence
    return np.where(session >= 0, session, sequence).astype(np.int64)


def assign_shares(
    shares: Sequence[Share], hour: npt.NDArray[np.int64], sequence: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Index into ``shares`` for requests of these numbers that arrive in ``hour``, (n,) each."""
    place = sequence.astype(np.uint64) * np.uint64(_SPREAD)
    ends = np.array(
        [[min(_LAST, edge - 1) if edge else 0 for edge in share_edges(shares, h)] for h in range(168)],
        dtype=np.uint64,
    )
    usable = np.array([[share.at(h) > 0.0 for share in shares] for h in range(168)])
    chosen = np.full(len(hour), len(shares) - 1, dtype=np.int32)
    open_ = np.ones(len(hour), dtype=np.bool_)
    for k in range(len(shares)):
        has = usable[hour, k] & open_ & (place <= ends[hour, k])
        chosen[has] = k
        open_ &= ~has
    return chosen
