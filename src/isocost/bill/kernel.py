"""The loops that price columns. Compiled where numba is installed; the same functions run without it.

A row finds its rates by four look-ups, none of which searches: its SKU (offering, tier and region) and the
segment of its day name a first line of the table of rates, the context band and the window move on from
there. Lines are filled when a row first needs them, so a kernel stops at a row whose line is empty and is
called again from that row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REQUEST, FIRST_EXTRA = 0, 1, 2, 3, 4, 5
"""Places of the meters in a line of rates; rarer meters follow."""

UNFILLED, DOUBT, EMPTY, UNKNOWN = 1 << 62, 1 << 61, 1 << 60, 1 << 59
"""Flags of a line of rates beside one bit for each meter without a price."""

DONE, STOPPED_UNFILLED, STOPPED_OVERFLOW, STOPPED_CODE = 0, 1, 2, 3
"""Why a kernel stopped before the last row."""

AT, LOW_SUM, HIGH_SUM, BAD, UNKNOWN_ROWS = 0, 1, 2, 3, 4
"""Places in a tally: the row that a kernel stopped at, the amounts' sum in two halves, rows left out."""

NS_PER_DAY = 86_400 * 10**9
NS_PER_MINUTE = 60 * 10**9
MOST = (1 << 63) - 1
_HALF = (1 << 32) - 1
_BLOCK = 2048  # rows whose counts are looked over before they are priced: they stay in the first cache


@functools.cache
def compiled(function: F) -> F:
    """The function compiled on first use and kept on disk, or as it is where numba is absent."""
    try:
        from numba import njit
    except ImportError:
        return function
    options: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
    try:
        return cast(F, njit(cache=True, **options)(function))
    except RuntimeError:  # no folder that the cache may be written to
        return cast(F, njit(**options)(function))


def price_rows(
    codes: tuple[Any, ...], counts: tuple[Any, ...], table: tuple[Any, ...], out: tuple[Any, ...], tally: Any
) -> int:
    """Price rows from ``tally[AT]`` on; says why it stopped.

    ``codes``: offering, tier, region (int32) and arrival_ns (int64). ``counts``: input, output, cached,
    written (one integer type), ``inside`` (int64: input of rarer meters) and ``extras`` (int64, rows by
    meters). All but offering, input and output may have length 0: the log has none. ``table``: what
    :class:`isocost.bill.tariff.Tariff` holds. ``out``: amount (int64), status (int8), line (int32, may have
    length 0); and by line of rates ``sums`` of quantities, ``missing`` and ``doubts`` of rows.
    """
    offering, tier, region, arrival_ns = codes
    input_tok, output_tok, cached_tok, written_tok, inside_tok, extras = counts
    start, segment, bands, patterns, minutes, rates, flags, extra_slots, shape = table
    amount, status, line, sums, missing, doubts = out
    n_offerings, n_tiers, n_regions, n_segments, n_bands = shape[0], shape[1], shape[2], shape[3], shape[4]
    limit, extra_limit, used = shape[5], shape[6], shape[7]
    n, n_extras = len(offering), len(extra_slots)
    has_tier, has_region, has_line = len(tier) > 0, len(region) > 0, len(line) > 0
    has_time, has_cached, has_written = len(arrival_ns) > 0, len(cached_tok) > 0, len(written_tok) > 0
    has_inside = len(inside_tok) > 0
    fixed_minute = shape[8]
    low, high = tally[LOW_SUM], tally[HIGH_SUM]
    i = int(tally[AT])
    while i < n:
        stop = min(i + _BLOCK, n)
        seen, seen_extra = 0, 0
        for j in range(i, stop):
            plain = int(input_tok[j])
            seen |= plain | int(output_tok[j])
            if has_cached:
                seen |= int(cached_tok[j])
                plain -= int(cached_tok[j])
            if has_written:
                seen |= int(written_tok[j])
                plain -= int(written_tok[j])
            if has_inside:
                seen |= int(inside_tok[j])
                plain -= int(inside_tok[j])
            seen |= plain
        for j in range(i, stop):
            for e in range(n_extras):
                seen_extra |= int(extras[j, e])
        checked = seen < 0 or seen >= limit or seen_extra < 0 or seen_extra >= extra_limit
        for j in range(i, stop):
            code = int(offering[j])
            at = 0
            if code >= n_offerings:
                tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = j, low, high
                return STOPPED_CODE
            if code >= 0:
                sku = code
                if has_tier:
                    other = int(tier[j])
                    if other >= n_tiers:
                        tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = j, low, high
                        return STOPPED_CODE
                    sku = sku * n_tiers + (other if other >= 0 else n_tiers - 1)
                else:
                    sku = sku * n_tiers + n_tiers - 1
                if has_region:
                    other = int(region[j])
                    if other >= n_regions:
                        tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = j, low, high
                        return STOPPED_CODE
                    sku = sku * n_regions + (other if other >= 0 else n_regions - 1)
                else:
                    sku = sku * n_regions + n_regions - 1
                day, moment = 0, 0
                part = 0
                if has_time:
                    moment = int(arrival_ns[j])
                    day = moment // NS_PER_DAY
                    part = int(segment[max(day, 0)])
                at = int(start[sku * n_segments + part])
                if at < 0:
                    tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = j, low, high
                    return STOPPED_UNFILLED
                if at > 0:
                    band = 0
                    for k in range(n_bands):
                        band += int(input_tok[j]) >= bands[code * n_bands + k]
                    window = int(patterns[code, 0])
                    if window >= 0:
                        minute = fixed_minute
                        if has_time:
                            minute = (day + 3) % 7 * 1440 + (moment - day * NS_PER_DAY) // NS_PER_MINUTE
                        band = band * int(patterns[code, 1]) + int(minutes[window, minute])
                    at += band
            need = flags[at] & used
            if need & UNFILLED:
                tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = j, low, high
                return STOPPED_UNFILLED
            plain, output = int(input_tok[j]), int(output_tok[j])
            read, written = 0, 0
            if has_cached:
                read = int(cached_tok[j])
            if has_written:
                written = int(written_tok[j])
            plain -= read + written
            if has_inside:
                plain -= int(inside_tok[j])
            total = 0
            if checked:
                wrong = plain < 0 or output < 0 or read < 0 or written < 0
                for e in range(n_extras):
                    wrong = wrong or extras[j, e] < 0
                if wrong:
                    tally[BAD] += 1
                    amount[j], status[j] = 0, 2
                    if has_line:
                        line[j] = 0
                    continue
                over = False
                for m in range(FIRST_EXTRA + n_extras):
                    quantity, slot = 1, m
                    if m == INPUT:
                        quantity = plain
                    elif m == OUTPUT:
                        quantity = output
                    elif m == CACHE_READ:
                        quantity = read
                    elif m == CACHE_WRITE:
                        quantity = written
                    elif m >= FIRST_EXTRA:
                        quantity, slot = int(extras[j, m - FIRST_EXTRA]), int(extra_slots[m - FIRST_EXTRA])
                    rate = int(rates[at, slot])
                    if rate > 0 and quantity > (MOST - total) // rate:
                        over = True
                        break
                    total += quantity * rate
                if over:
                    tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = j, low, high
                    return STOPPED_OVERFLOW
            else:
                total = plain * int(rates[at, INPUT]) + output * int(rates[at, OUTPUT])
                total += read * int(rates[at, CACHE_READ]) + written * int(rates[at, CACHE_WRITE])
                total += int(rates[at, REQUEST])
                for e in range(n_extras):
                    total += int(extras[j, e]) * int(rates[at, extra_slots[e]])
            sums[at, INPUT] += plain
            sums[at, OUTPUT] += output
            sums[at, CACHE_READ] += read
            sums[at, CACHE_WRITE] += written
            sums[at, REQUEST] += 1
            for e in range(n_extras):
                sums[at, extra_slots[e]] += extras[j, e]
            state = 0
            if need:
                if need & UNKNOWN:
                    tally[UNKNOWN_ROWS] += 1
                    state = 2
                else:
                    here = 1 << REQUEST
                    here |= (plain > 0) << INPUT | (output > 0) << OUTPUT
                    here |= (read > 0) << CACHE_READ | (written > 0) << CACHE_WRITE
                    for e in range(n_extras):
                        here |= (extras[j, e] > 0) << extra_slots[e]
                    lack = need & here & ~(1 << REQUEST)
                    if need & DOUBT:
                        doubts[at] += 1
                        state = 1
                    if lack:
                        state = 1 if here & ~flags[at] else 2
                        for slot in range(rates.shape[1]):
                            missing[at, slot] += (lack >> slot) & 1
                    if need & EMPTY:
                        state = 2
            amount[j], status[j] = total, state
            if has_line:
                line[j] = at
            low += total & _HALF
            high += total >> 32
        i = stop
    tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = n, low, high
    return DONE


def price_flat(
    codes: tuple[Any, ...], counts: tuple[Any, ...], table: tuple[Any, ...], out: tuple[Any, ...], tally: Any
) -> int:
    """The same for rows whose rates hang on the offering alone; says why it stopped.

    ``codes``: offering. ``counts``: input, output, cached (may have length 0). ``table``: the line of every
    offering, rates, flags, shape (offerings, limit, used). ``out``: amount, status; ``sums`` by line.
    It stops (``STOPPED_UNFILLED``) at a block with a row that needs :func:`price_rows`.
    """
    (offering,) = codes
    input_tok, output_tok, cached_tok = counts
    start, rates, flags, shape = table
    amount, status, sums = out
    n_offerings, limit, used = shape[0], shape[1], shape[2]
    n, has_cached = len(offering), len(cached_tok) > 0
    low, high = tally[LOW_SUM], tally[HIGH_SUM]
    i = int(tally[AT])
    while i < n:
        stop = min(i + _BLOCK, n)
        seen, least, most = 0, 0, 0
        for j in range(i, stop):
            seen |= int(input_tok[j]) | int(output_tok[j])
            least = min(least, int(offering[j]))
            most = max(most, int(offering[j]))
        if has_cached:
            for j in range(i, stop):
                seen |= int(cached_tok[j]) | (int(input_tok[j]) - int(cached_tok[j]))
        need = 0
        if not (seen < 0 or seen >= limit or least < 0 or most >= n_offerings):
            for j in range(i, stop):
                need |= flags[start[offering[j]]]
        if seen < 0 or seen >= limit or least < 0 or most >= n_offerings or need & used:
            tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = i, low, high
            return STOPPED_UNFILLED
        for j in range(i, stop):
            at = start[offering[j]]
            plain, output, read = int(input_tok[j]), int(output_tok[j]), 0
            if has_cached:
                read = int(cached_tok[j])
                plain -= read
            total = plain * rates[at, INPUT] + output * rates[at, OUTPUT] + read * rates[at, CACHE_READ]
            total += rates[at, REQUEST]
            sums[at, INPUT] += plain
            sums[at, OUTPUT] += output
            sums[at, CACHE_READ] += read
            sums[at, REQUEST] += 1
            amount[j], status[j] = total, 0
            low += total & _HALF
            high += total >> 32
        i = stop
    tally[AT], tally[LOW_SUM], tally[HIGH_SUM] = n, low, high
    return DONE
