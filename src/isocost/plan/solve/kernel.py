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


@compiled
def level_sums(rest: F64, weight: F64, cost: F64, out: F64, top: I64, room: F64, came: I64) -> None:
    """What each level of replicas costs over all hours, on and off as is cheapest, into ``out`` (3, N).

    ``rest`` (H, N + 1) is the API bill by replicas: level k is the step from k to k + 1, which may not be off
    where the bill before it is infinite. Row 0: what bills change by were it always on; rows 1 and 2: the
    least cost at each of two rents. ``cost`` (5,): those rents an hour, dollars an hour beside rent, for each
    start in an hour of weight 1, and 1 where the first hour follows the last; 0: all are off before it.
    ``top`` (2, H) rises by each level that is on. ``room`` (2, H): its first row becomes the first finite
    bill; its second and ``came`` (2, H, 2) are to work in.
    """
    n_hours, width = rest.shape
    start, step, closed = room[0], room[1], cost[4] > 0.0
    for k in range(width - 1):
        always = 0.0
        for h in range(n_hours):
            step[h] = 0.0
            if not np.isinf(rest[h, k]):
                step[h] = rest[h, k + 1] - rest[h, k]
            elif not np.isinf(rest[h, k + 1]):
                start[h] = rest[h, k + 1]
            always += weight[h] * step[h]
        out[0, k] = always
        for p in range(2):
            if p == 1 and cost[1] == cost[0]:
                out[2, k] = out[1, k]
                for h in range(n_hours):
                    top[1, h] = top[0, h]
                continue
            rent = cost[p] + cost[2]
            on_all, off_all, whole = True, True, 0.0
            for h in range(n_hours):
                hour = step[h] + rent
                whole += weight[h] * hour
                if np.isinf(rest[h, k]) or hour < 0.0:
                    off_all = False
                if not np.isinf(rest[h, k]) and hour > 0.0:
                    on_all = False
            if off_all:
                continue
            if on_all and closed:
                out[1 + p, k] = whole
                for h in range(n_hours):
                    top[p, h] += 1
                continue
            least, chosen, last_state = np.inf, 0, 0
            for first in range(2):
                if first == 1 and not closed:
                    break
                off, on = np.inf, np.inf
                for h in range(n_hours):
                    hour_usd = weight[h] * (step[h] + rent)
                    begin = weight[h] * cost[3]
                    if h == 0:
                        if closed:
                            # The seam is paid at the end.
                            off, on = (np.inf, hour_usd) if first == 1 else (0.0, np.inf)
                        else:
                            off, on = 0.0, hour_usd + begin
                        if np.isinf(rest[0, k]):
                            off = np.inf
                        continue
                    came[first, h, 0], came[first, h, 1] = 0, 1
                    new_off = off
                    if on < off:
                        new_off = on
                        came[first, h, 0] = 1
                    new_on = on
                    if off + begin <= on:
                        new_on = off + begin
                        came[first, h, 1] = 0
                    off = np.inf if np.isinf(rest[h, k]) else new_off
                    on = new_on + hour_usd
                if closed and first == 1:
                    off += weight[0] * cost[3]
                state = 1 if on < off else 0
                value = on if on < off else off
                if value < least:
                    least, chosen, last_state = value, first, state
            out[1 + p, k] = least
            state = last_state
            for h in range(n_hours - 1, -1, -1):
                top[p, h] += state
                if h > 0:
                    state = came[chosen, h, state]
