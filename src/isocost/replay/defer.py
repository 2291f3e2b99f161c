"""Work that is put off: when each waiting request is served, by a schedule over the hours of the week."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isocost.trace.shape import hour_of_week
from isocost.units import NS_PER_H, NS_PER_S

Times = npt.NDArray[np.int64]


def served_ns(arrival_ns: Times, serve: Sequence[float], wait_s: float) -> Times:
    """When requests (sorted by arrival) are served: first come, first served, at most ``wait_s`` late.

    ``serve`` (168,) is the work of each hour of the week over that of a mean hour; a mean hour is that of the
    requests themselves. In an hour they are served evenly, none before it came.

    >>> served_ns(np.array([0, 1]) * NS_PER_H, [1.0] * 168, 7200.0) // NS_PER_H
    array([0, 1])
    """
    count = len(arrival_ns)
    served = arrival_ns + int(wait_s * NS_PER_S)
    if not count:
        return served
    first = int(arrival_ns[0] // NS_PER_H)
    hours = first + np.arange(
        int(arrival_ns[-1] // NS_PER_H) - first + 1 + math.ceil(wait_s * NS_PER_S / NS_PER_H)
    )
    logged = max(1, int(arrival_ns[-1] // NS_PER_H) - first + 1)
    room = np.asarray(serve, dtype=np.float64)[hour_of_week(hours * NS_PER_H)] * (count / logged)
    come = np.searchsorted(arrival_ns, (hours + 1) * NS_PER_H)
    done, left = 0, 0.0
    for hour, capacity, waiting in zip(hours.tolist(), room.tolist(), come.tolist(), strict=True):
        left += capacity
        take = min(math.floor(left + 1e-9), waiting - done)
        if take > 0:
            rows = slice(done, done + take)
            even = hour * NS_PER_H + ((np.arange(take) + 0.5) * (NS_PER_H / take)).astype(np.int64)
            served[rows] = np.minimum(served[rows], np.maximum(arrival_ns[rows], even))
            done += take
            left -= take
        if done == waiting:
            # Idle capacity is not saved up; a part of a request is.
            left %= 1.0
        if done == count:
            break
    return np.asarray(served)
