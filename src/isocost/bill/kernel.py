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

import numpy as np

from isocost.units import NS_PER_DAY, NS_PER_MINUTE

F = TypeVar("F", bound=Callable[..., Any])

INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REQUEST, FIRST_EXTRA = 0, 1, 2, 3, 4, 5
"""Slots of the meters; rarer meters follow."""

FLAGS, WIDTH = 5, 8
"""Where a line of rates has its flags, and its length: one line of the processor's cache. The rates of rarer
meters stand in a table beside it."""

UNFILLED, DOUBT, EMPTY, UNKNOWN = 1 << 62, 1 << 61, 1 << 60, 1 << 59
"""Flags of a line of rates beside one bit for each slot without a price."""

DONE, STOPPED_UNFILLED, STOPPED_CODE = 0, 1, 2
"""Why a kernel stopped before the last row."""

AT, UNKNOWN_ROWS = 0, 1
"""Places in a tally: the row that a kernel stopped at, rows of no known offering."""

MOST = (1 << 63) - 1
_HALF = (1 << 32) - 1
_BLOCK = 1024  # rows whose counts are looked over before they are priced: they stay in the first cache
LANES = 4
"""How many sums :func:`price_small` keeps of one quantity."""

SMALL_TOK = 1 << 21
"""Counts of a row that it prices are below this: what a lane holds of ``LANES`` blocks does not fill half of
64 bits."""


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


def find_lines(codes: tuple[Any, ...], length: Any, table: tuple[Any, ...], line: Any, tally: Any) -> int:
    """Write the line of rates of every row from ``tally[AT]`` on; says why it stopped.

    ``codes``: offering, tier, region (int32) and arrival_ns (int64); all but offering may have length 0: the
    log has none. ``length`` is the count that context bands go by. ``table``: what
    :class:`isocost.bill.tariff.Tariff` holds.
    """
    offering, tier, region, arrival_ns = codes
    start, segment, bands, patterns, minutes, rates, shape = table
    n_offerings, n_tiers, n_regions, n_segments, n_bands = shape[0], shape[1], shape[2], shape[3], shape[4]
    fixed_minute, has_windows = shape[5], shape[6]
    has_tier, has_region, has_time = len(tier) > 0, len(region) > 0, len(arrival_ns) > 0
    for j in range(int(tally[AT]), len(offering)):
        code = int(offering[j])
        if code < 0:
            line[j] = 0
            continue
        t, r = n_tiers - 1, n_regions - 1
        if has_tier and tier[j] >= 0:
            t = int(tier[j])
        if has_region and region[j] >= 0:
            r = int(region[j])
        if code >= n_offerings or t >= n_tiers or r >= n_regions:
            tally[AT] = j
            return STOPPED_CODE
        day, moment, part = 0, 0, 0
        if has_time:
            moment = int(arrival_ns[j])
            day = moment // NS_PER_DAY
            part = int(segment[max(day, 0)])
        at = int(start[((code * n_tiers + t) * n_regions + r) * n_segments + part])
        if at > 0:
            band = 0
            for k in range(n_bands):
                band += length[j] >= bands[code * n_bands + k]
            if has_windows:
                window = int(patterns[code, 0])
                if window >= 0:
                    minute = fixed_minute
                    if has_time:
                        minute = (day + 3) % 7 * 1440 + (moment - day * NS_PER_DAY) // NS_PER_MINUTE
                    band = band * int(patterns[code, 1]) + int(minutes[window, minute])
            at += band
        if at < 0 or rates[at, FLAGS] & UNFILLED:
            tally[AT] = j
            return STOPPED_UNFILLED
        line[j] = at
    tally[AT] = len(offering)
    return DONE


def survey(counts: tuple[Any, ...]) -> tuple[int, int]:
    """All counts or-ed together, of tokens and of rarer meters: below zero where any is, else no less than
    any."""
    input_tok, output_tok, cached_tok, written_tok, requests, inside_tok, extras = counts
    seen, rare = 0, 0
    has_cached, has_written, has_inside = len(cached_tok) > 0, len(written_tok) > 0, len(inside_tok) > 0
    for j in range(len(input_tok)):
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
    for j in range(len(requests)):
        rare |= max(0, int(requests[j]))
    for j in range(extras.shape[0]):
        for e in range(extras.shape[1]):
            rare |= int(extras[j, e])
    return seen, rare


def price_rows(counts: tuple[Any, ...], line: Any, table: tuple[Any, ...], out: tuple[Any, ...]) -> None:
    """Amounts of rows whose lines are known and none of which can exceed 64 bits.

    ``counts``: input, output, cached, written (one integer type), ``requests`` (int64, -1 unknown),
    ``inside`` (int64: input of rarer meters) and ``extras`` (int64, rows by meters); all but input and output
    may have length 0. ``table``: rates, those of rarer meters, the extras' places among these, and the bits
    of the meters in use. ``out``: amount (int64); by line ``sums`` of quantities and of rarer meters.
    """
    input_tok, output_tok, cached_tok, written_tok, requests, inside_tok, extras = counts
    rates, extra_rates, places, _ = table
    amount, sums, extra_sums = out
    n_extras = len(places)
    has_cached, has_written, has_inside = len(cached_tok) > 0, len(written_tok) > 0, len(inside_tok) > 0
    has_requests = len(requests) > 0
    for j in range(len(line)):
        at = line[j]
        plain, output, read, written, asked = int(input_tok[j]), int(output_tok[j]), 0, 0, 1
        if has_cached:
            read = int(cached_tok[j])
        if has_written:
            written = int(written_tok[j])
        plain -= read + written
        if has_inside:
            plain -= int(inside_tok[j])
        if has_requests:
            asked = max(0, int(requests[j]))
        total = plain * int(rates[at, INPUT]) + output * int(rates[at, OUTPUT])
        total += read * int(rates[at, CACHE_READ]) + written * int(rates[at, CACHE_WRITE])
        total += asked * int(rates[at, REQUEST])
        sums[at, INPUT] += plain
        sums[at, OUTPUT] += output
        sums[at, CACHE_READ] += read
        sums[at, CACHE_WRITE] += written
        sums[at, REQUEST] += asked
        for e in range(n_extras):
            total += int(extras[j, e]) * int(extra_rates[at, places[e]])
            extra_sums[at, places[e]] += extras[j, e]
        amount[j] = total


def judge(
    counts: tuple[Any, ...], line: Any, table: tuple[Any, ...], out: tuple[Any, ...], tally: Any
) -> None:
    """Write the status (int8) of every row, and count by line the rows that lack a price (by slot) or are in
    doubt; arguments as of :func:`price_rows`."""
    input_tok, output_tok, cached_tok, written_tok, requests, inside_tok, extras = counts
    rates, _, places, used = table
    status, missing, doubts = out
    n_extras, has_requests = len(places), len(requests) > 0
    for j in range(len(line)):
        at, state = line[j], 0
        if has_requests and requests[j] < 0 and rates[at, REQUEST] > 0:
            missing[at, REQUEST] += 1
            state = 1
        need = rates[at, FLAGS] & used
        if need & UNKNOWN:
            tally[UNKNOWN_ROWS] += 1
            state = 2
        elif need:
            plain, read, written = int(input_tok[j]), 0, 0
            if len(cached_tok) > 0:
                read = int(cached_tok[j])
            if len(written_tok) > 0:
                written = int(written_tok[j])
            plain -= read + written
            if len(inside_tok) > 0:
                plain -= int(inside_tok[j])
            here = (plain > 0) << INPUT | (output_tok[j] > 0) << OUTPUT
            here |= (read > 0) << CACHE_READ | (written > 0) << CACHE_WRITE
            for e in range(n_extras):
                here |= (extras[j, e] > 0) << (FIRST_EXTRA + places[e])
            lack = need & here
            if need & DOUBT:
                doubts[at] += 1
                state = 1
            if lack:
                state = 1 if (here | 1 << REQUEST) & ~rates[at, FLAGS] else 2
                for slot in range(REQUEST):
                    missing[at, slot] += (lack >> slot) & 1
                for e in range(n_extras):
                    slot = FIRST_EXTRA + places[e]
                    missing[at, slot] += (lack >> slot) & 1
            if need & EMPTY:
                state = 2
        status[j] = state


def judge_usual(counts: tuple[Any, ...], line: Any, table: tuple[Any, ...], status: Any) -> None:
    """The same for rows of the usual meters: a row's line and which of four meters it uses name its status.

    ``table``: states (int8) and numbers of rows seen (int64), sixteen a line.
    """
    input_tok, output_tok, cached_tok, written_tok = counts
    states, seen = table
    has_cached, has_written = len(cached_tok) > 0, len(written_tok) > 0
    for j in range(len(line)):
        plain, read, written = int(input_tok[j]), 0, 0
        if has_cached:
            read = int(cached_tok[j])
        if has_written:
            written = int(written_tok[j])
        here = (plain > read + written) << INPUT | (output_tok[j] > 0) << OUTPUT
        here |= (read > 0) << CACHE_READ | (written > 0) << CACHE_WRITE
        at = np.uint64(line[j]) * np.uint64(16) + np.uint64(here)
        status[j] = states[at]
        seen[at] += 1


def first_beyond(counts: tuple[Any, ...], line: Any, table: tuple[Any, ...], wrong: Any) -> int:
    """Mark rows whose counts contradict each other in ``wrong``; the first row beyond 64 bits, else -1."""
    input_tok, output_tok, cached_tok, written_tok, requests, inside_tok, extras = counts
    rates, extra_rates, places, _ = table
    for j in range(len(line)):
        at = line[j]
        plain, output, read, written, asked = int(input_tok[j]), int(output_tok[j]), 0, 0, 1
        if len(cached_tok) > 0:
            read = int(cached_tok[j])
        if len(written_tok) > 0:
            written = int(written_tok[j])
        plain -= read + written
        if len(inside_tok) > 0:
            plain -= int(inside_tok[j])
        if len(requests) > 0:
            asked = max(0, int(requests[j]))
        bad = plain < 0 or output < 0 or read < 0 or written < 0
        for e in range(len(places)):
            bad = bad or extras[j, e] < 0
        wrong[j] = bad
        if bad:
            continue
        total = 0
        for m in range(FIRST_EXTRA + len(places)):
            quantity = plain
            if m == OUTPUT:
                quantity = output
            elif m == CACHE_READ:
                quantity = read
            elif m == CACHE_WRITE:
                quantity = written
            elif m == REQUEST:
                quantity = asked
            if m < FIRST_EXTRA:
                rate = int(rates[at, m])
            else:
                quantity = int(extras[j, m - FIRST_EXTRA])
                rate = int(extra_rates[at, places[m - FIRST_EXTRA]])
            if rate > 0 and quantity > (MOST - total) // rate:
                return j
            total += quantity * rate
    return -1


def price_small(
    line: Any, counts: tuple[Any, ...], table: tuple[Any, ...], out: tuple[Any, ...], tally: Any
) -> int:
    """Amounts of rows with small counts of the usual meters, from ``tally[AT]`` on; says why it stopped.

    ``line`` (int16 or int32) is a code into ``price``, ``counts`` input, output, cached and written (the last
    two may have length 0). ``table``: by code the line of rates; the rates of input and output, what cached
    and written input cost beyond plain input, and the rate of a request; room for sums in ``LANES`` lanes, of
    input with output and of cached with written; and ``shape`` (codes, limit, whether any line asks for a
    request). ``out``: amount, status, which is set to priced; ``sums`` by line, to which requests are added
    where a line asks for them.

    It stops (``STOPPED_UNFILLED``) at a block with a count that is below zero or not below the limit, or
    whose code is out of range. Lanes take turns, because a processor waits for a sum that it has just
    written; two quantities share one sum, in halves that ``SMALL_TOK`` keeps apart.
    """
    input_tok, output_tok, cached_tok, written_tok = counts
    start, price, lanes, parts, shape = table
    amount, status, sums = out
    codes, limit, has_fee = shape[0], shape[1], shape[2]
    n, size, turn = len(line), np.uint64(shape[0]), np.uint64(LANES - 1)
    has_cached, has_written = len(cached_tok) > 0, len(written_tok) > 0
    why, first = DONE, int(tally[AT])
    i = first
    while i < n and why == DONE:
        stop = min(i + _BLOCK, n)
        code, given, output = line[i:stop], input_tok[i:stop], output_tok[i:stop]
        read = cached_tok[i:stop] if has_cached else cached_tok
        written = written_tok[i:stop] if has_written else written_tok
        usd, state = amount[i:stop], status[i:stop]
        least, most, seen = code[0], code[0], 0
        for j in range(len(code)):
            least = min(least, code[j])
            most = max(most, code[j])
        if least < 0 or most >= codes:
            why = STOPPED_UNFILLED
            code, read, written = code[:0], read[:0], written[:0]
        for j in range(len(code)):
            k, a, b = np.uint64(code[j]), np.int64(given[j]), np.int64(output[j])
            usd[j] = a * price[k, 0] + b * price[k, 1]
            lanes[(np.uint64(j) & turn) * size + k] += a + (b << 32)
        for j in range(len(read)):
            k, a = np.uint64(code[j]), np.int64(read[j])
            usd[j] += a * price[k, 2]
            parts[(np.uint64(j) & turn) * size + k] += a
        for j in range(len(written)):
            k, a = np.uint64(code[j]), np.int64(written[j])
            usd[j] += a * price[k, 3]
            parts[(np.uint64(j) & turn) * size + k] += a << 32
        # Looked over when they are at hand: a block with a count that does not fit is taken back.
        for j in range(len(code)):
            seen |= int(given[j]) | int(output[j])
        for j in range(len(read)):
            seen |= int(read[j]) | (int(given[j]) - int(read[j]))
        for j in range(len(written)):
            rest = int(given[j]) - int(written[j])
            if has_cached:
                rest -= int(read[j])
            seen |= int(written[j]) | rest
        if seen < 0 or seen >= limit:
            why = STOPPED_UNFILLED
            for j in range(len(code)):
                k, a, b = np.uint64(code[j]), np.int64(given[j]), np.int64(output[j])
                lanes[(np.uint64(j) & turn) * size + k] -= a + (b << 32)
            for j in range(len(read)):
                parts[(np.uint64(j) & turn) * size + np.uint64(code[j])] -= np.int64(read[j])
            for j in range(len(written)):
                parts[(np.uint64(j) & turn) * size + np.uint64(code[j])] -= np.int64(written[j]) << 32
        if why == DONE:
            for j in range(len(code) if has_fee else 0):
                usd[j] += price[code[j], 4]
                sums[start[code[j]], REQUEST] += 1
            for j in range(len(state)):
                state[j] = 0
            i = stop
        if why != DONE or i == n or (i - first) % (LANES * _BLOCK) == 0:
            for one in range(codes):
                whole, output_sum, reads, writes = 0, 0, 0, 0
                for lane in range(LANES):
                    at = lane * codes + one
                    whole += int(lanes[at] & _HALF)
                    output_sum += int(lanes[at] >> 32)
                    reads += int(parts[at] & _HALF)
                    writes += int(parts[at] >> 32)
                    lanes[at], parts[at] = 0, 0
                sums[start[one], INPUT] += whole - reads - writes
                sums[start[one], OUTPUT] += output_sum
                sums[start[one], CACHE_READ] += reads
                sums[start[one], CACHE_WRITE] += writes
    tally[AT] = i
    return why
