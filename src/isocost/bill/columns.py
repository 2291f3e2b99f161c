"""The exact bill of columns of requests, and its quantities added up into the charges of a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.bill import kernel
from isocost.bill.tariff import SLOTS, Ints, Tariff, counted
from isocost.catalog import Catalog
from isocost.catalog.names import Offering
from isocost.catalog.prices import METERS
from isocost.units import NS_PER_DAY, NS_PER_H, usd_of

_STEP_NS: Mapping[str, int] = {"": 0, "hour": NS_PER_H, "day": NS_PER_DAY}


class Grouped(msgspec.Struct, frozen=True):
    """Quantities added up by (offering, tier, region, meter, facts, bucket): the charges of a ledger.

    Columns of one length. ``offering``, ``tier`` and ``region`` are the codes given, ``meter`` an index into
    ``METERS``, ``fact`` an index into ``facts`` (-1 where the meter has no price), ``bucket`` the start of
    the hour or day in ns from the epoch (0 where not asked for), ``quantity`` units, ``rate_fusd``
    femto-dollars for one unit (-1 where unknown). Amounts are quantity times rate, and exceed 64 bits:
    :meth:`amounts_fusd` gives Python integers.
    """

    offering: npt.NDArray[np.int32]
    tier: npt.NDArray[np.int32]
    region: npt.NDArray[np.int32]
    meter: npt.NDArray[np.int8]
    fact: npt.NDArray[np.int32]
    bucket: Ints
    quantity: Ints
    rate_fusd: Ints
    facts: tuple[tuple[str, ...], ...]

    def amounts_fusd(self) -> list[int]:
        """The exact amount of every line; lines without a price are 0 and carry fact -1."""
        return [
            int(quantity) * int(rate) if rate > 0 else 0
            for quantity, rate in zip(self.quantity, self.rate_fusd, strict=True)
        ]


class PricedColumns(msgspec.Struct, frozen=True):
    """The bill of columns: ``amount_fusd`` int64 and ``status`` int8 (see ``STATUS``) a row.

    ``bad_rows`` counts rows whose counts contradict each other: they are unpriced. ``why`` pairs each
    reason for a lower bound with the number of rows it holds for.
    """

    amount_fusd: Ints
    status: npt.NDArray[np.int8]
    grouped: Grouped
    bad_rows: int
    why: tuple[tuple[str, int], ...]

    @property
    def total_fusd(self) -> int:
        """The exact sum of all rows."""
        return sum(self.grouped.amounts_fusd())

    @property
    def total_usd(self) -> Decimal:
        """The exact sum in dollars."""
        return usd_of(self.total_fusd)


def price_columns(
    catalog: Catalog,
    offerings: Sequence[Offering | None],
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    tiers: Sequence[str] = ("standard",),
    regions: Sequence[str] = (),
    region: str = "",
    bucket: Literal["", "hour", "day"] = "",
) -> PricedColumns:
    """Price columns of requests, each at its own moment.

    ``columns`` holds ``offering`` (code into ``offerings``, -1 unknown), ``arrival_ns`` (UTC, ns from the
    epoch) and the counts ``input_tok`` (all input) and ``output_tok``; ``cached_tok``, ``cache_write_tok``,
    ``cache_write_1h_tok``, ``audio_input_tok``, ``audio_cached_tok``, ``audio_output_tok``, ``web_searches``,
    ``image_input_tok``, ``image_cached_tok``, ``image_output_tok``, ``file_searches``,
    ``cache_storage_tok_h``, ``requests`` (that a row stands for, -1 unknown; else one), ``context_tok`` (that
    bands go by; else all input),
    ``tier`` (code into ``tiers``, -1: the last; without the column the first) and ``region`` (code into
    ``regions``, -1: ``region``) may be left out. ``region`` applies where an offering names none. The same
    digits as :func:`isocost.bill.price`, row by row, because both ask the same rates.

    Raises:
        BadInput: a column is missing, or a row's amount exceeds 64 bits (9,223 USD for one request).
    """
    tiers = tiers if "tier" in columns else tiers[:1]
    tariff = Tariff(catalog, offerings, tiers, (*regions, region))
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    chunk = tariff.price(arrays, lines=bool(bucket))
    step = _STEP_NS[bucket]
    number = arrays["arrival_ns"].astype(np.int64) // step if step else None
    grouped = _bucketed(tariff, chunk.line, number, step, arrays) if number is not None else whole(tariff)
    return PricedColumns(chunk.amount_fusd, chunk.status, grouped, tariff.bad_rows, reasons(tariff))


def reasons(tariff: Tariff) -> tuple[tuple[str, int], ...]:
    """Why rows that a tariff priced are a lower bound, each with its number of rows; and, with no number,
    that prices of later days are announced ones."""
    found: Counter[str] = Counter()
    unknown = int(tariff.tally[kernel.UNKNOWN_ROWS])
    if unknown:
        found[f"no offering is known for {unknown} rows"] = unknown
    for slot, meter in enumerate(SLOTS):
        rows = int(tariff.missing[:, slot].sum())
        if rows and meter == "request":
            found["the log does not say for how many requests a row stands"] = rows
        elif rows:
            found[f"no price of {meter}"] = rows
    for at, line in enumerate(tariff.lines):
        if line is not None and tariff.doubts[at]:
            found[line[1].doubt] += int(tariff.doubts[at])
        if line is not None and line[1].announced:
            found[line[1].announced] += 0
    return tuple(found.items())


def whole(tariff: Tariff) -> Grouped:
    """Everything that a tariff priced, by line of its rates."""
    lines = np.array(_in_order(tariff), np.int64)
    return _charges(tariff, lines, np.zeros(len(lines), np.int64), tariff.sums()[lines])


def _bucketed(
    tariff: Tariff, line: npt.NDArray[np.int32], number: Ints, step: int, columns: Mapping[str, Any]
) -> Grouped:
    """The same by hour or day: rows are added up again, under their line and bucket."""
    order = _in_order(tariff)
    rank = np.full(len(tariff.lines), -1, np.int64)
    rank[order] = np.arange(len(order))
    keep = np.flatnonzero(line > 0)
    first = int(number.min()) if len(number) else 0
    width = int(number.max()) - first + 1 if len(number) else 1
    key = rank[line[keep]] * width + number[keep] - first
    used, dense = np.unique(key, return_inverse=True)
    sums = np.zeros((len(used), len(SLOTS)), np.int64)
    for slot, values in quantities(columns):
        sums[:, slot] = exact_sums(dense, values[keep], len(used))
    lines = np.array(order, np.int64)[used // width] if len(used) else np.zeros(0, np.int64)
    return _charges(tariff, lines, (used % width + first) * step, sums)


def quantities(columns: Mapping[str, Any]) -> list[tuple[int, Ints]]:
    """The quantity of every meter that the columns count, by slot of ``SLOTS``: what a bill multiplies."""
    (plain, output, cached, written, _, requests, inside, extras), slots = counted(columns)
    found = [(kernel.OUTPUT, output)]
    if len(cached) or len(written) or len(inside):
        plain = plain.astype(np.int64)
    for slot, part in ((kernel.CACHE_READ, cached), (kernel.CACHE_WRITE, written), (-1, inside)):
        if len(part):
            plain = plain - part
            if slot >= 0:
                found.append((slot, part))
    found += [(int(slot), extras[:, e]) for e, slot in enumerate(slots)]
    asked = np.maximum(requests, 0) if len(requests) else np.ones(len(plain), np.int64)
    return [(kernel.INPUT, plain), *found, (kernel.REQUEST, asked)]


def exact_sums(dense: Ints, values: npt.NDArray[Any], size: int) -> Ints:
    """Sums of non-negative values under keys 0 to ``size`` - 1: in halves that a double holds exactly."""
    low = np.bincount(dense, weights=values & 0xFFFFFF, minlength=size).astype(np.int64)
    high = values >> 24
    if not high.any():
        return low
    return low + (np.bincount(dense, weights=high, minlength=size).astype(np.int64) << 24)


def _in_order(tariff: Tariff) -> list[int]:
    """Lines that are filled, by offering, tier, region and then as rows first needed them."""
    filled = [(line[0][:3], at) for at, line in enumerate(tariff.lines) if line is not None]
    return [at for _, at in sorted(filled)]


def _charges(tariff: Tariff, lines: Ints, bucket_ns: Ints, sums: Ints) -> Grouped:
    facts: dict[tuple[str, ...], int] = {}
    rows: list[tuple[int, ...]] = []
    for meter in METERS:
        slot = SLOTS.index(meter)
        for k in np.flatnonzero(sums[:, slot] > 0):
            held = tariff.lines[int(lines[k])]
            assert held is not None
            origin, table = held
            rate = table.meters.get(meter)
            if rate is None and meter == "request":
                continue
            fact = facts.setdefault(rate.facts, len(facts)) if rate else -1
            fusd = rate.fusd if rate else -1
            codes = (origin.offering, origin.tier, origin.region, METERS.index(meter), fact)
            rows.append((*codes, int(bucket_ns[k]), int(sums[k, slot]), fusd))
    kinds = (np.int32, np.int32, np.int32, np.int8, np.int32, np.int64, np.int64, np.int64)
    names = ("offering", "tier", "region", "meter", "fact", "bucket", "quantity", "rate_fusd")
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    return Grouped(
        **{name: np.array(column, kind) for name, column, kind in zip(names, columns, kinds, strict=True)},
        facts=tuple(facts),
    )
