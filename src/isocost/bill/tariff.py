"""Rates by offering, tier, region, day, context band and window: a table that rows look up and fill.

The first row of a kind asks the catalog; every other row of that kind reads one line of the table. The table
stays from chunk to chunk, so that a log of any length is priced in the memory of one chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.bill import kernel
from isocost.bill.kernel import FIRST_EXTRA
from isocost.bill.usage import STATUS
from isocost.catalog import Catalog
from isocost.catalog.names import Offering
from isocost.catalog.prices import METERS, Rates, Slot, edges, rates
from isocost.errors import BadInput
from isocost.units import FEMTO_PER_USD, NS_PER_DAY, NS_PER_MINUTE

Ints = npt.NDArray[np.int64]

SLOTS: tuple[str, ...] = (
    *("input", "output", "cache_read", "cache_write", "request"),
    *(meter for meter in METERS if meter not in ("input", "output", "cache_read", "cache_write", "request")),
)
"""Meters in the order of a line of rates."""

EXTRA_COLUMNS: Mapping[str, str] = {
    "cache_write_1h_tok": "cache_write_1h",
    "audio_input_tok": "audio_input",
    "audio_cached_tok": "audio_cache_read",
    "audio_output_tok": "audio_output",
    "web_searches": "web_search",
    "file_searches": "file_search",
    "image_input_tok": "image_input",
    "image_cached_tok": "image_cache_read",
    "image_output_tok": "image_output",
    "cache_storage_tok_h": "cache_storage",
}
"""Columns that few logs have, and the meter of each."""

_INSIDE = ("cache_write_1h_tok", "audio_input_tok", "audio_cached_tok", "image_input_tok", "image_cached_tok")
_EPOCH = date(1970, 1, 1)
_DAYS = (1 << 63) // NS_PER_DAY + 1
_NO_BAND = np.iinfo(np.int64).max
_NOON = 12 * 60
_PIECE = 1 << 15  # rows
_LINES = 1 << 12  # of rates: what the processor's second cache holds beside the rows of a piece


class Chunk(NamedTuple):
    """The bill of one chunk: a row's ``amount_fusd`` (int64), ``status`` (int8) and ``line`` of rates
    (int32; of length 0 where not asked for)."""

    amount_fusd: Ints
    status: npt.NDArray[np.int8]
    line: npt.NDArray[np.int32]


class Origin(NamedTuple):
    """What a line of rates is for: codes as the columns gave them, and the first day that asked."""

    offering: int
    tier: int
    region: int
    day: date


class Tariff:
    """Rates of ``offerings`` at ``tiers`` and ``regions``, and what was billed under each of them.

    A row without a tier or a region takes the last of ``tiers`` and ``regions``. With ``on``, every row is
    priced at noon of that day, whatever its own date. By line of the table, which is what one set of rates
    is: ``sums()`` are quantities by ``SLOTS``, ``missing`` the rows that lacked a price by
    ``SLOTS``, ``doubts`` the rows that the rates' doubt touched. Line 0 is for rows of no known offering.
    """

    def __init__(
        self,
        catalog: Catalog,
        offerings: Sequence[Offering | None],
        tiers: Sequence[str] = ("standard",),
        regions: Sequence[str] = ("",),
        on: date | None = None,
    ) -> None:
        self.catalog, self.offerings, self.on = catalog, tuple(offerings), on
        self.tiers, self.regions = tuple(tiers), tuple(regions)
        self.tally, self.bad_rows = np.zeros(2, np.int64), 0
        self.lines: list[tuple[Origin, Rates] | None] = [None]
        self._filled = 0
        known = [edges(catalog, one) if one else (frozenset(), (), ()) for one in self.offerings]
        self._days = [np.array(sorted((d - _EPOCH).days for d in days), np.int64) for days, _, _ in known]
        self._cuts = np.unique(np.concatenate([np.zeros(0, np.int64), *self._days]))
        if on is not None:
            self._cuts = self._cuts[:0]
        self._segment = np.zeros(_DAYS, np.int32)
        if len(self._cuts):
            self._segment = np.searchsorted(self._cuts, np.arange(_DAYS), side="right").astype(np.int32)
        n = max(1, len(self.offerings))
        self._n_bands = max((len(bands) for _, bands, _ in known), default=0)
        self._bands = np.full(n * self._n_bands, _NO_BAND, np.int64)
        self._patterns = np.tile(np.array([-1, 1], np.int64), (n, 1))
        tables: dict[tuple[Slot, ...], tuple[int, Ints]] = {}
        for code, (_, bands, windows) in enumerate(known):
            self._bands[code * self._n_bands : code * self._n_bands + len(bands)] = bands
            if windows:
                kinds, minutes = tables.setdefault(windows, _minutes(windows))
                self._patterns[code] = list(tables).index(windows), kinds
                assert len(minutes) == 7 * 1440
        self._minutes = np.array([minutes for _, minutes in tables.values()], np.int64).reshape(-1, 7 * 1440)
        skus = n * len(self.tiers) * len(self.regions)
        self._start = np.full(skus * (len(self._cuts) + 1), -1, np.int32)
        for code, one in enumerate(self.offerings):
            if one is None:
                size = len(self._start) // n
                self._start[code * size : (code + 1) * size] = 0
        self._rates, self._sums = (np.zeros((1, kernel.WIDTH), np.int64) for _ in range(2))
        self._extra_rates, self._extra_sums = (
            np.zeros((1, len(SLOTS) - FIRST_EXTRA), np.int64) for _ in range(2)
        )
        self.missing, self.doubts = np.zeros((1, len(SLOTS)), np.int64), np.zeros(1, np.int64)
        self._rates[0, kernel.FLAGS] = kernel.UNKNOWN
        self._grow(64)

    def sums(self) -> Ints:
        """Quantities by line and ``SLOTS``."""
        return np.column_stack([self._sums[:, :FIRST_EXTRA], self._extra_sums])

    @property
    def total_fusd(self) -> int:
        """The exact sum of all rows priced so far: quantities times rates, by line."""
        pairs = ((self._sums[:, :FIRST_EXTRA], self._rates), (self._extra_sums, self._extra_rates))
        return sum(
            int(held[at]) * int(rate[at])
            for held, rate in pairs
            for at in zip(*np.nonzero(held), strict=True)
        )

    def price(
        self, columns: Mapping[str, npt.NDArray[Any]], *, lines: bool = False, into: Chunk | None = None
    ) -> Chunk:
        """Price one chunk of rows; ``into`` takes the answer, where arrays of its length are at hand.

        Columns as :func:`isocost.bill.price_columns` takes them.

        Raises:
            BadInput: a column is missing, a code is out of range, or an amount exceeds 64 bits.
        """
        codes, counts, slots = self._columns(columns)
        n = len(codes[0])
        out = into or Chunk(
            np.empty(n, np.int64), np.empty(n, np.int8), np.empty(n if lines else 0, np.int32)
        )
        if any(len(part) not in (n, 0) for part in (*codes, *counts)) or len(out.amount_fusd) != n:
            raise BadInput("columns differ in length", where="bill", fix="Give one value a row in each")
        meters = {kernel.INPUT, kernel.OUTPUT, *(int(slot) for slot in slots)}
        meters |= {slot for slot in (kernel.CACHE_READ, kernel.CACHE_WRITE) if len(counts[slot])}
        special = kernel.UNFILLED | kernel.UNKNOWN | kernel.EMPTY | kernel.DOUBT
        used = np.int64(special | sum(1 << slot for slot in meters))
        self.tally[kernel.AT] = 0
        if self._is_flat(codes, counts, lines):
            self._price_flat(codes, counts, slots, out, used)
        else:
            self._price(codes, counts, slots, out, used)
        return out

    def _price(self, codes: Any, counts: Any, slots: Ints, out: Chunk, used: np.int64) -> None:
        """Piece by piece, so that what the kernels pass on to each other stays in the processor's cache."""
        n, held = len(codes[0]), (0, 0)
        prices: tuple[Any, ...] = ()
        states = self._states(0, used)
        usual = not any(len(part) for part in counts[5:])
        scratch = np.empty(0 if len(out.line) else min(n, _PIECE), np.int32)
        for lo in range(0, n, _PIECE):
            rows = slice(lo, min(n, lo + _PIECE))
            line = out.line[rows] if len(out.line) else scratch[: rows.stop - lo]
            piece = tuple(part[rows] for part in counts)
            length = piece[4] if len(piece[4]) else piece[0]
            offering = codes[0][rows].astype(np.int32, copy=False)
            self._find_lines((offering, *(part[rows] for part in codes[1:])), length, line, lo)
            piece = (*piece[:4], *piece[5:])
            answer = (out.amount_fusd[rows], out.status[rows])
            if usual and len(self.lines) <= _LINES:
                if held != (len(self.lines), self._filled):
                    self._settle(states, used)
                    held = len(self.lines), self._filled
                    prices = self._prices(np.arange(held[0], dtype=np.int32))
                    states = self._states(held[0], used)
                self.tally[kernel.AT] = 0
                self._small(line, piece[:4], prices, answer)
                done = int(self.tally[kernel.AT])
                if states[0].any():
                    begun = tuple(part[:done] for part in piece[:4])
                    kernel.compiled(kernel.judge_usual)(begun, line[:done], states, answer[1])
                if done == len(line):
                    continue
                piece = (*(part[done:] for part in piece[:4]), *piece[4:])
                line, answer, lo = line[done:], (answer[0][done:], answer[1][done:]), lo + done
            table = (self._rates, self._extra_rates, slots - FIRST_EXTRA, used)
            seen, rare = kernel.compiled(kernel.survey)(piece)
            limit, rare_limit = self._limits()
            wrong = None
            if not (0 <= seen < limit and 0 <= rare < rare_limit):
                piece, wrong = self._checked(piece, line, table, lo)
            sums = (answer[0], self._sums, self._extra_sums)
            kernel.compiled(kernel.price_rows)(piece, line, table, sums)
            found = (answer[1], self.missing, self.doubts)
            kernel.compiled(kernel.judge)(piece, line, table, found, self.tally)
            if wrong is not None:
                answer[1][wrong] = STATUS.index("unpriced")
        self._settle(states, used)

    def _states(self, n: int, used: np.int64) -> tuple[npt.NDArray[np.int8], Ints]:
        """The status of rows by line and by which of the first four meters they use, and room for how many
        there are: what :func:`isocost.bill.kernel.judge` finds for each."""
        flags, here = self._rates[:n, kernel.FLAGS][:, None], np.arange(16)[None, :]
        need = flags & used
        known = (here | 1 << kernel.REQUEST) & ~flags
        states = np.where(need & kernel.DOUBT, 1, 0)
        states = np.where(need & here, np.where(known, 1, 2), states)
        states = np.where(need & (kernel.EMPTY | kernel.UNKNOWN), 2, states)
        return states.astype(np.int8).ravel(), np.zeros(16 * n, np.int64)

    def _settle(self, states: tuple[Any, ...], used: np.int64) -> None:
        """Enter what lacked a price among the rows that the states were asked for."""
        seen = states[1].reshape(-1, 16)
        need = (self._rates[: len(seen), kernel.FLAGS] & used)[:, None]
        unknown = (need & kernel.UNKNOWN) != 0
        self.tally[kernel.UNKNOWN_ROWS] += int(np.where(unknown, seen, 0).sum())
        self.doubts[: len(seen)] += np.where(~unknown & ((need & kernel.DOUBT) != 0), seen, 0).sum(axis=1)
        for slot in range(kernel.REQUEST):
            lack = ~unknown & ((need & np.arange(16) & (1 << slot)) != 0)
            self.missing[: len(seen), slot] += np.where(lack, seen, 0).sum(axis=1)
        states[1][:] = 0

    def _find_lines(self, codes: Any, length: Any, line: npt.NDArray[np.int32], first: int) -> None:
        """The line of every row of a piece; ``first`` is where the piece begins, for messages."""
        self.tally[kernel.AT] = 0
        while True:
            shape = np.array(
                [
                    len(self.offerings), len(self.tiers), len(self.regions), len(self._cuts) + 1,
                    self._n_bands, self._noon(), len(self._minutes) > 0,
                ],
                np.int64,
            )  # fmt: skip
            table = (
                self._start, self._segment, self._bands, self._patterns, self._minutes, self._rates, shape,
            )  # fmt: skip
            why = kernel.compiled(kernel.find_lines)(codes, length, table, line, self.tally)
            row = int(self.tally[kernel.AT])
            if why == kernel.DONE:
                return
            if why == kernel.STOPPED_CODE:
                where = f"row {first + row}"
                raise BadInput("a code without a name", where=where, fix="Check the columns' names")
            self._fill(codes, max(0, int(length[row])), row)

    def _checked(self, counts: Any, line: Any, table: Any, first: int) -> tuple[Any, npt.NDArray[np.bool_]]:
        """Counts with rows that contradict themselves set to nothing, and these rows.

        Raises:
            BadInput: a row's amount does not fit in 64 bits.
        """
        wrong = np.zeros(len(line), np.bool_)
        row = int(kernel.compiled(kernel.first_beyond)(counts, line, table, wrong))
        if row >= 0:
            raise BadInput(
                f"one request costs more than {kernel.MOST / FEMTO_PER_USD:,.0f} USD",
                where=f"row {first + row}",
                fix="Check the unit of its token counts",
            )
        if wrong.any():
            self.bad_rows += int(wrong.sum())
            line[wrong] = 0
            self.tally[kernel.UNKNOWN_ROWS] -= int(wrong.sum())
            counts = tuple(part.copy() for part in counts)
            for part in counts:
                if len(part):
                    part[wrong] = 0
        return counts, wrong

    def _price_flat(self, codes: Any, counts: Any, slots: Ints, out: Chunk, used: np.int64) -> None:
        """Rows whose offering alone names their line."""
        n, each = len(codes[0]), len(self.tiers) * len(self.regions)
        for code in np.flatnonzero(self._start[each - 1 :: each] < 0):
            self._fill((np.array([code]), *codes[1:3], codes[3]), 0, 0)
        start = self._start[each - 1 :: each]
        if (self._rates[start, kernel.FLAGS] & used).any():
            self._price(codes, counts, slots, out, used)
            return
        prices = self._prices(start)
        self.tally[kernel.AT] = 0
        while not self._small(codes[0], counts[:4], prices, out):
            lo = int(self.tally[kernel.AT])
            rows = slice(lo, min(n, lo + _PIECE))
            piece = Chunk(out.amount_fusd[rows], out.status[rows], out.line)
            self._price(
                tuple(part[rows] for part in codes), tuple(part[rows] for part in counts), slots, piece, used
            )
            self.tally[kernel.AT] = rows.stop
            if rows.stop == n:
                break

    def _small(self, line: Any, counts: Any, prices: tuple[Any, ...], out: Any) -> bool:
        """Price rows from ``tally[AT]`` on until one needs the long way; whether none did."""
        held = (*out[:2], self._sums)
        with np.errstate(over="ignore"):  # what does not fit is taken back
            done = kernel.compiled(kernel.price_small)(line, counts, prices, held, self.tally)
        return bool(done == kernel.DONE)

    def _prices(self, start: npt.NDArray[np.int32]) -> tuple[Any, ...]:
        """The rates of lines as :func:`isocost.bill.kernel.price_small` takes them."""
        rates = self._rates[start]
        price = np.empty((len(start), 5), np.int64)
        price[:, :2] = rates[:, (kernel.INPUT, kernel.OUTPUT)]
        price[:, 2:4] = rates[:, (kernel.CACHE_READ, kernel.CACHE_WRITE)] - rates[:, [kernel.INPUT]]
        price[:, 4] = rates[:, kernel.REQUEST]
        limit = min(self._limits()[0], kernel.SMALL_TOK)
        shape = np.array([len(start), limit, price[:, 4].any()], np.int64)
        lanes, parts = (np.zeros(kernel.LANES * len(start), np.int64) for _ in range(2))
        return start, price, lanes, parts, shape

    def _is_flat(self, codes: Any, counts: Any, lines: bool) -> bool:
        """Whether the rates of every row hang on its offering alone."""
        _, tier, region, _ = codes
        others = any(len(part) for part in (tier, region, *counts[3:]))
        changes = len(self._cuts) or self._n_bands or len(self._minutes)
        return not (others or changes or lines)

    def _columns(self, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[Any, Any, Ints]:
        """Codes and counts as the kernel takes them, and the slots of the extra meters."""
        need = ("offering", "input_tok", "output_tok", *(("arrival_ns",) if self.on is None else ()))
        for name in need:
            if name not in columns:
                raise BadInput(f"no column {name!r}", where="bill", fix=f"It has: {', '.join(columns)}")
        none = np.zeros(0, np.int32)
        narrow = np.int16 if columns["offering"].dtype == np.int16 else np.int32
        codes = [
            _plain(columns[name], kind) if name in columns else none
            for name, kind in (("offering", narrow), ("tier", np.int32), ("region", np.int32))
        ]
        timed = self.on is None and (len(self._cuts) > 0 or len(self._minutes) > 0)
        arrival = _plain(columns["arrival_ns"], np.int64) if timed else np.zeros(0, np.int64)
        counts, slots = counted(columns)
        return (*codes, arrival), counts, slots

    def _fill(self, codes: Any, context_tok: int, row: int) -> None:
        """Ask the catalog for the rates of a row, and write their line."""
        offering, tier, region, arrival = codes
        code = int(offering[row])
        t = int(tier[row]) if len(tier) and tier[row] >= 0 else len(self.tiers) - 1
        r = int(region[row]) if len(region) and region[row] >= 0 else len(self.regions) - 1
        number, moment = 0, 0
        if len(arrival):
            moment = int(arrival[row])
            number = max(0, moment // NS_PER_DAY)
        day, minute = _EPOCH + timedelta(days=number), moment % NS_PER_DAY // NS_PER_MINUTE
        if not len(arrival):
            day, minute = self.on or day, _NOON
        part = int(self._segment[number])
        first = ((code * len(self.tiers) + t) * len(self.regions) + r) * (len(self._cuts) + 1)
        kinds = int(self._patterns[code, 1])
        if self._start[first + part] < 0:
            self._reserve(code, first, part, (self._n_bands + 1) * kinds)
        bands = self._bands[code * self._n_bands : (code + 1) * self._n_bands]
        at = int(self._start[first + part])
        band = int((context_tok >= bands).sum())
        if self._patterns[code, 0] >= 0:
            of_week = day.weekday() * 1440 + minute
            band = band * kinds + int(self._minutes[self._patterns[code, 0], of_week])
        at += band
        one = self.offerings[code]
        assert one is not None
        at_day = self.catalog.at(day, expected=True)
        found = rates(at_day, one, self.tiers[t], self.regions[r], context_tok, minute)
        self.lines[at] = (Origin(code, t, r, day), found)
        flags = kernel.DOUBT if found.doubt else 0
        flags |= 0 if found.meters else kernel.EMPTY
        for slot, meter in enumerate(SLOTS):
            rate = found.meters.get(meter)
            if rate is None:
                flags |= 1 << slot
            elif rate.fusd < 0:
                raise BadInput(f"a price below zero for {meter}", where=one.id, fix="Mend the fact")
            else:
                place = (self._rates, slot) if slot < FIRST_EXTRA else (self._extra_rates, slot - FIRST_EXTRA)
                place[0][at, place[1]] = rate.fusd
        self._rates[at, kernel.FLAGS] = flags
        self._filled += 1

    def _reserve(self, code: int, first: int, part: int, size: int) -> None:
        """Give the bands and windows of a SKU their lines, in all segments between two of its own edges."""
        at = len(self.lines)
        self.lines += [None] * size
        if len(self.lines) > len(self._rates):
            self._grow(2 * len(self.lines))
        lo, hi = 0, len(self._cuts) + 1
        for day in self._days[code] if len(self._cuts) else ():
            segment = int(np.searchsorted(self._cuts, day, side="right"))
            lo, hi = (segment, hi) if segment <= part else (lo, min(hi, segment))
        self._start[first + lo : first + hi] = at

    def _grow(self, size: int) -> None:
        """Make room for lines of rates, with what is there kept."""
        more = size - len(self._rates)
        for name in ("_rates", "_sums", "_extra_rates", "_extra_sums", "missing", "doubts"):
            held = getattr(self, name)
            setattr(self, name, np.concatenate([held, np.zeros((more, *held.shape[1:]), np.int64)]))
        self._rates[-more:, kernel.FLAGS] = kernel.UNFILLED

    def _limits(self) -> tuple[int, int]:
        """Counts under which no row can exceed 64 bits: of tokens, and of the rarer meters."""
        dearest = [int(rate) for rate in self._rates[: len(self.lines)].max(axis=0)]
        tokens = sum(dearest[: kernel.REQUEST])
        rare = dearest[kernel.REQUEST] + int(self._extra_rates[: len(self.lines)].max(axis=0).sum())
        spare = kernel.MOST - dearest[kernel.REQUEST]
        return _power(spare // 2 // max(1, tokens)), _power(spare // 2 // max(1, rare))

    def _noon(self) -> int:
        """The minute of the week at which rows without a time of their own are priced."""
        return self.on.weekday() * 1440 + _NOON if self.on else _NOON


def _power(most: int) -> int:
    """The largest power of two up to ``most``, and at most 2^62."""
    return 1 << min(62, max(0, most.bit_length() - 1))


def counted(columns: Mapping[str, npt.NDArray[Any]]) -> tuple[Any, Ints]:
    """Counts as the kernel takes them (input, output, cached, written, context, requests, inside, extras),
    and the slots of the extras.

    Audio and images leave the cached and the output tokens that they are counted in, as they have prices of
    their own.
    """
    names = ("input_tok", "output_tok", "cached_tok", "cache_write_tok", "context_tok")
    given = [name for name in EXTRA_COLUMNS if name in columns]
    small = all(columns[name].dtype == np.int32 for name in names if name in columns)
    kind: Any = np.int32 if small and not given else np.int64
    tokens = [_plain(columns[name], kind) if name in columns else np.zeros(0, kind) for name in names]
    none = np.zeros(0, np.int64)
    requests = _plain(columns["requests"], np.int64) if "requests" in columns else none
    if not given:
        return (*tokens, requests, none, np.zeros((0, 0), np.int64)), none
    extras = np.column_stack([columns[name].astype(np.int64) for name in given])
    inside = np.zeros(len(extras), np.int64)
    for name in _INSIDE:
        if name in given:
            inside += columns[name]
    for place, parts in (
        (1, ("audio_output_tok", "image_output_tok")),
        (2, ("audio_cached_tok", "image_cached_tok")),
    ):
        for name in parts:
            if name in given:
                whole = tokens[place] if len(tokens[place]) else np.zeros(len(extras), np.int64)
                tokens[place] = whole - columns[name]
    slots = np.array([SLOTS.index(EXTRA_COLUMNS[name]) for name in given], np.int64)
    return (*tokens, requests, inside, extras), slots


def _plain(values: npt.NDArray[Any], kind: Any) -> npt.NDArray[Any]:
    """Values in one type, end to end and writable: a kernel is compiled once for each layout."""
    found = np.ascontiguousarray(values, dtype=kind)
    return found if found.flags.writeable else found.copy()


def _minutes(windows: tuple[Slot, ...]) -> tuple[int, Ints]:
    """For each minute of the week (Monday first) a number of the set of windows that it falls into."""
    code = np.zeros(7 * 1440, np.int64)
    for bit, window in enumerate(windows):
        inside = [window.covers(0, minute // 1440, minute % 1440) for minute in range(7 * 1440)]
        code += np.array(inside, np.int64) << bit
    patterns, number = np.unique(code, return_inverse=True)
    return len(patterns), number.astype(np.int64)
