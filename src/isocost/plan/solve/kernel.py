"""The compiled loops of a pool's schedule: the API bill that capacity leaves, and replicas hour by hour.

Import this module only where a schedule is made (it imports numba). ``isocost.plan.solve.one_pool`` is
the door and states what the loops solve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isocost.replay.compiled import compiled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@compiled
def rest_after(load: F64, saving: F64, order: I64, capacity: F64, must: F64, rest: F64) -> None:
    """What each hour's API bill falls by with each capacity: ``rest`` (H, N + 1) is lowered in place.

    ``load`` and ``saving`` (S, H) of whole streams; ``order`` (S, H) the streams of an hour by saving a
    unit of load; ``capacity`` (N + 1,) rises; ``must`` (H,) is the load that has no API: a capacity below
    it gives infinity. Streams whose saving is not positive are left out, except that load.
    """
    n_streams, n_hours = load.shape
    for h in range(n_hours):
        i, at, taken, saved = 0, 0.0, 0.0, 0.0
        for n in range(len(capacity)):
            room = capacity[n]
            while i < n_streams:
                s = order[i, h]
                use = load[s, h]
                if at + use > room:
                    break
                at += use
                saved += saving[s, h]
                i += 1
            taken = saved
            if i < n_streams:
                s = order[i, h]
                if load[s, h] > 0.0 and room > at:
                    taken += saving[s, h] * (room - at) / load[s, h]
            rest[h, n] -= taken
            if room < must[h] * (1.0 - 1e-12):
                rest[h, n] = np.inf


@compiled
def forward(rest: F64, rent: F64, weight: F64, start_usd: F64, low: I64, first: I64, value: F64) -> None:
    """Least cost of all hours up to h that end with n replicas, into ``value`` (H, N + 1).

    ``rest`` (H, N + 1) and ``rent`` (N + 1,) in dollars an hour; ``start_usd`` (1,) for each replica more
    than the hour before; ``low`` (1,) the fewest replicas. ``first`` (2,): kind and count: kind 0 starts
    from any count for nothing, 1 from ``count`` replicas, 2 holds ``count`` in the first hour.
    """
    n_hours, width = rest.shape
    floor, start = low[0], start_usd[0]
    for h in range(n_hours):
        w = weight[h]
        if h == 0:
            for n in range(width):
                cost = w * (rest[0, n] + rent[n])
                if n < floor or (first[0] == 2 and n != first[1]):
                    cost = np.inf
                elif first[0] == 1 and n > first[1]:
                    cost += w * start * (n - first[1])
                value[0, n] = cost
            continue
        # Falling is free: the least over all larger counts. Rising is paid by the step.
        best = np.inf
        for n in range(width - 1, -1, -1):
            if value[h - 1, n] < best:
                best = value[h - 1, n]
            value[h, n] = best
        best = np.inf
        for n in range(width):
            best += w * start
            if value[h - 1, n] < best:
                best = value[h - 1, n]
            if best < value[h, n]:
                value[h, n] = best
            value[h, n] += w * (rest[h, n] + rent[n]) if n >= floor else np.inf


@compiled
def backward(weight: F64, start_usd: F64, last: I64, value: F64, counts: I64) -> None:
    """The counts (H,) behind ``value``, whose last hour has ``last`` (1,) replicas."""
    n_hours, width = value.shape
    n = last[0]
    counts[n_hours - 1] = n
    for h in range(n_hours - 1, 0, -1):
        best, at = np.inf, n
        for m in range(width):
            cost = value[h - 1, m]
            if n > m:
                cost += weight[h] * start_usd[0] * (n - m)
            if cost < best:
                best, at = cost, m
        n = at
        counts[h - 1] = n
