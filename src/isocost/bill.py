"""The exact price of usage: of one request, and of columns of requests, digit for digit the same.

Money is integer femto-dollars (1 USD = 10^15): a price of 0.000000001 USD per million tokens is still whole.
Every row is priced at its own moment. A row whose price is not known is ``unpriced`` and never zero; a row
with a meter that lacks a price is ``partial``, and its amount is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import Catalog
from isocost.catalog.names import Offering
from isocost.catalog.prices import FUSD_PER_USD, METERS, Rates, Slot, edges, rates
from isocost.errors import BadInput

Status = Literal["priced", "partial", "unpriced"]
STATUS: tuple[Status, ...] = ("priced", "partial", "unpriced")
"""Names of the status codes of a columnar bill."""

Ints = npt.NDArray[np.int64]

_NS_PER_MINUTE = 60 * 10**9
_NS_PER_DAY = 86_400 * 10**9
_EPOCH = date(1970, 1, 1)


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request used.

    ``input_tok`` counts all input: text and audio, read from the cache (``cached_tok``), written to it
    (``cache_write_tok`` for the provider's short life, ``cache_write_1h_tok`` for an hour) and plain.
    ``output_tok`` counts all output, reasoning and audio included. ``audio_input_tok`` is plain audio inside
    the input, ``audio_cached_tok`` audio inside ``cached_tok``, ``audio_output_tok`` audio inside the output.
    """

    input_tok: int = 0
    cached_tok: int = 0
    cache_write_tok: int = 0
    output_tok: int = 0
    cache_write_1h_tok: int = 0
    audio_input_tok: int = 0
    audio_cached_tok: int = 0
    audio_output_tok: int = 0
    web_searches: int = 0
    requests: int = 1

    def quantities(self) -> dict[str, int]:
        """Quantity of every meter.

        Raises:
            BadInput: a negative count, or parts that exceed their whole.
        """
        found = {
            "input": self.input_tok
            - self.cached_tok
            - self.cache_write_tok
            - self.cache_write_1h_tok
            - self.audio_input_tok,
            "cache_read": self.cached_tok - self.audio_cached_tok,
            "cache_write": self.cache_write_tok,
            "cache_write_1h": self.cache_write_1h_tok,
            "output": self.output_tok - self.audio_output_tok,
            "audio_input": self.audio_input_tok,
            "audio_cache_read": self.audio_cached_tok,
            "audio_output": self.audio_output_tok,
            "request": self.requests,
            "web_search": self.web_searches,
        }
        for meter, quantity in found.items():
            if quantity < 0:
                raise BadInput(
                    f"{quantity} units of {meter}",
                    where="usage",
                    fix="Input counts all input and output all output: no part may exceed its whole",
                )
        return found


class Line(NamedTuple):
    """One line of a bill: ``quantity`` of a meter at ``unit_price`` USD for ``per`` units."""

    meter: str
    quantity: int
    unit_price: Decimal
    per: int
    facts: tuple[str, ...]
    amount_fusd: int


class Priced(msgspec.Struct, frozen=True):
    """The bill of one request; ``why`` says what an amount that is only a lower bound leaves out."""

    amount_fusd: int
    lines: tuple[Line, ...]
    status: Status
    why: str = ""

    @property
    def usd(self) -> Decimal:
        """The amount in dollars, exact."""
        return Decimal(self.amount_fusd).scaleb(-15)


def price(
    catalog: Catalog,
    offering: Offering,
    usage: Usage,
    at: datetime,
    tier: str = "standard",
    region: str = "",
) -> Priced:
    """The exact bill of one request at a moment (a naive one is UTC).

    Raises:
        BadInput: counts that contradict each other.
    """
    moment = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    table = rates(
        catalog.at(moment.date()),
        offering,
        tier,
        region,
        usage.input_tok,
        moment.hour * 60 + moment.minute,
    )
    return _priced(usage.quantities(), table, offering, moment.date(), tier)


def _priced(quantities: Mapping[str, int], table: Rates, offering: Offering, on: date, tier: str) -> Priced:
    lines, missing = [], []
    for meter, quantity in quantities.items():
        rate = table.meters.get(meter)
        if rate is not None and quantity:
            lines.append(Line(meter, quantity, rate.usd, rate.per, rate.facts, quantity * rate.fusd))
        elif quantity and meter != "request":
            missing.append(meter)
    amount = sum(line.amount_fusd for line in lines)
    if missing:
        known = bool(lines)
        why = f"no price of {', '.join(missing)} at {offering.id}, tier {tier}, on {on}"
        return Priced(amount, tuple(lines), "partial" if known else "unpriced", why)
    if not table.meters:
        return Priced(0, (), "unpriced", f"no price of {offering.id}, tier {tier}, on {on}")
    return Priced(amount, tuple(lines), "partial" if table.doubt else "priced", table.doubt)


class Grouped(msgspec.Struct, frozen=True):
    """Quantities added up by (offering, tier, meter, facts, bucket): the charges of a ledger.

    Columns of one length. ``offering`` and ``tier`` are the codes given, ``meter`` an index into
    ``METERS``, ``fact`` an index into ``facts`` (-1 where the meter has no price), ``bucket`` the start of
    the hour or day in ns from the epoch (0 where not asked for), ``quantity`` units, ``rate_fusd``
    femto-dollars for one unit (-1 where unknown). Amounts are quantity times rate, and exceed 64 bits:
    :meth:`amounts_fusd` gives Python integers.
    """

    offering: npt.NDArray[np.int32]
    tier: npt.NDArray[np.int32]
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
        return Decimal(self.total_fusd).scaleb(-15)


def price_columns(
    catalog: Catalog,
    offerings: Sequence[Offering | None],
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    tiers: Sequence[str] = ("standard",),
    region: str = "",
    bucket: Literal["", "hour", "day"] = "",
) -> PricedColumns:
    """Price columns of requests, each at its own moment.

    ``columns`` holds ``offering`` (code into ``offerings``, -1 unknown), ``arrival_ns`` (UTC, ns from the
    epoch) and the counts ``input_tok`` (all input), ``cached_tok``, ``cache_write_tok``, ``output_tok``;
    ``cache_write_1h_tok``, ``audio_input_tok``, ``audio_cached_tok``, ``audio_output_tok``, ``web_searches``
    and ``tier`` (code into ``tiers``) may be left out. ``region`` applies where an offering names none.
    The same digits as :func:`price`, row by row, because both ask the same rates.

    Raises:
        BadInput: a column is missing, or a row's amount exceeds 64 bits (9,223 USD for one request).
    """
    codes = _column(columns, "offering")
    n = len(codes)
    tier = _column(columns, "tier") if "tier" in columns else np.zeros(n, np.int64)
    arrival_ns = _column(columns, "arrival_ns")
    quantities, bad = _quantities(columns)
    known = (codes >= 0) & ~bad
    if None in offerings:
        empty = np.array([offering is None for offering in offerings] or [True])
        known &= ~empty[np.where(codes >= 0, codes, 0)]
    rows = np.flatnonzero(known) if not known.all() else None
    if rows is not None:
        codes, tier, arrival_ns = codes[rows], tier[rows], arrival_ns[rows]
        quantities = {meter: values[rows] for meter, values in quantities.items()}
    context_tok = _column(columns, "input_tok")
    context_tok = context_tok if rows is None else context_tok[rows]

    amount = np.zeros(n, np.int64)
    status = np.full(n, STATUS.index("unpriced"), np.int8)
    cells = _cells(catalog, offerings, len(tiers), codes, tier, arrival_ns, context_tok)
    used, first = _first_rows(cells)
    dense = np.zeros(int(used[-1]) + 1 if len(used) else 0, np.int64)
    dense[used] = np.arange(len(used))
    cell = dense[cells]
    tables = []
    for row in first:
        offering = offerings[int(codes[row])]
        assert offering is not None
        day = _EPOCH + timedelta(days=int(arrival_ns[row] // _NS_PER_DAY))
        minute = int(arrival_ns[row] % _NS_PER_DAY // _NS_PER_MINUTE)
        at = catalog.at(day)
        tables.append(rates(at, offering, tiers[int(tier[row])], region, int(context_tok[row]), minute))
    mine, state, why = _amounts(cell, quantities, tables)
    amount[rows if rows is not None else slice(None)] = mine
    status[rows if rows is not None else slice(None)] = state
    grouped = _group(cell, quantities, tables, codes[first], tier[first], arrival_ns, bucket)
    unknown = int(n - len(codes) - bad.sum())
    if unknown:
        why = [(f"no offering is known for {unknown} rows", unknown), *why]
    return PricedColumns(amount, status, grouped, int(bad.sum()), tuple(why))


def _column(columns: Mapping[str, npt.NDArray[Any]], name: str) -> Ints:
    if name not in columns:
        raise BadInput(f"no column {name!r}", where="bill", fix=f"It has: {', '.join(columns)}")
    return np.asarray(columns[name]).astype(np.int64, copy=False)


def _quantities(columns: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, Ints], npt.NDArray[np.bool_]]:
    """Quantity of every meter that occurs, and the rows whose counts contradict each other."""
    plain = _column(columns, "input_tok")
    parts: dict[str, Ints] = {}
    for name, meter in (
        ("cached_tok", "cache_read"),
        ("cache_write_tok", "cache_write"),
        ("cache_write_1h_tok", "cache_write_1h"),
        ("audio_input_tok", "audio_input"),
    ):
        if name in columns:
            parts[meter] = _column(columns, name)
            plain = plain - parts[meter]
    output = _column(columns, "output_tok")
    if "audio_cached_tok" in columns:
        parts["audio_cache_read"] = _column(columns, "audio_cached_tok")
        parts["cache_read"] = parts.get("cache_read", np.zeros_like(plain)) - parts["audio_cache_read"]
    if "audio_output_tok" in columns:
        parts["audio_output"] = _column(columns, "audio_output_tok")
        output = output - parts["audio_output"]
    if "web_searches" in columns:
        parts["web_search"] = _column(columns, "web_searches")
    found = {"input": plain, **parts, "output": output}
    bad = np.zeros(len(plain), np.bool_)
    for values in found.values():
        if len(values) and values.min() < 0:
            bad |= values < 0
    occurring = {meter: v for meter, v in found.items() if meter in ("input", "output") or v.any()}
    return {**occurring, "request": np.ones(len(plain), np.int64)}, bad


def _cells(
    catalog: Catalog,
    offerings: Sequence[Offering | None],
    n_tiers: int,
    codes: Ints,
    tier: Ints,
    arrival_ns: Ints,
    context_tok: Ints,
) -> Ints:
    """A number for each row such that rows of one number have the same rates."""
    if not len(codes):
        return codes
    present = np.flatnonzero(np.bincount(codes, minlength=len(offerings)))
    days: set[date] = set()
    bands: set[int] = set()
    windows: set[Slot] = set()
    for code in present:
        offering = offerings[int(code)]
        assert offering is not None
        edge_days, edge_bands, edge_windows = edges(catalog, offering)
        days |= edge_days
        bands.update(edge_bands)
        windows.update(edge_windows)
    day = arrival_ns // _NS_PER_DAY
    first, last = int(day.min()), int(day.max())
    numbers = np.array(sorted((d - _EPOCH).days for d in days), np.int64)
    numbers = numbers[(numbers > first) & (numbers <= last)]
    cell = codes * n_tiers + tier
    if len(numbers):
        segment = np.searchsorted(numbers, np.arange(first, last + 1), side="right")
        cell = cell * (len(numbers) + 1) + segment[day - first]
    lengths = [length for length in sorted(bands) if length <= int(context_tok.max())]
    if lengths:
        band = np.zeros(len(codes), np.int64)
        for length in lengths:
            band += context_tok >= length
        cell = cell * (len(lengths) + 1) + band
    if windows:
        patterns, slot = _slots(tuple(sorted(windows)))
        minute = (arrival_ns % _NS_PER_DAY) // _NS_PER_MINUTE
        cell = cell * patterns + slot[((day + 3) % 7) * 1440 + minute]
    return cell


def _slots(windows: tuple[Slot, ...]) -> tuple[int, Ints]:
    """For each minute of the week (Monday first) a number of the set of windows that it falls into."""
    minutes = np.arange(7 * 1440)
    code = np.zeros(len(minutes), np.int64)
    for bit, window in enumerate(windows):
        inside = [window.covers(0, int(m) // 1440, int(m) % 1440) for m in minutes]
        code += np.array(inside, np.int64) << bit
    patterns, slot = np.unique(code, return_inverse=True)
    return len(patterns), slot.astype(np.int64)


def _first_rows(cells: Ints) -> tuple[Ints, Ints]:
    """The cell numbers that occur, ascending, and the first row of each."""
    if not len(cells):
        return cells, cells
    size = int(cells.max()) + 1
    if size > max(4 * len(cells), 1 << 22):
        used, first = np.unique(cells, return_index=True)
        return used, first.astype(np.int64)
    where = np.full(size, -1, np.int64)
    where[cells[::-1]] = np.arange(len(cells) - 1, -1, -1)
    used = np.flatnonzero(where >= 0)
    return used, where[used]


def _amounts(
    cell: Ints, quantities: Mapping[str, Ints], tables: Sequence[Rates]
) -> tuple[Ints, npt.NDArray[np.int8], list[tuple[str, int]]]:
    """Amount and status of every row, and the reasons for lower bounds with their row counts."""
    n = len(cell)
    amount = np.zeros(n, np.int64)
    missing = np.zeros(n, np.bool_)
    some = np.zeros(n, np.bool_)
    bound = 0
    why: list[tuple[str, int]] = []
    for meter, quantity in quantities.items():
        rate = np.array([_fusd(table, meter) for table in tables], np.int64)
        if not n or not (rate >= 0).any():
            unpriced = quantity > 0 if meter != "request" else missing[:0]
        else:
            bound += int(rate.max()) * int(quantity.max())
            if bound >= 1 << 63:
                _refuse(cell, quantities, tables)
                bound = 0
            mine = rate[cell]
            unpriced = (mine < 0) & (quantity > 0) if (rate < 0).any() and meter != "request" else missing[:0]
            priced = np.maximum(mine, 0) * quantity
            some |= (mine >= 0) & (quantity > 0)
            amount += priced
        if len(unpriced) and unpriced.any():
            missing |= unpriced
            why.append((f"no price of {meter}", int(unpriced.sum())))
    doubts = np.array([bool(table.doubt) for table in tables], np.bool_)
    empty = np.array([not table.meters for table in tables], np.bool_)
    status = np.zeros(n, np.int8)
    if doubts.any():
        status[doubts[cell]] = STATUS.index("partial")
        for doubt in dict.fromkeys(table.doubt for table in tables if table.doubt):
            held = np.array([table.doubt == doubt for table in tables], np.bool_)
            why.append((doubt, int(held[cell].sum())))
    status[missing & some] = STATUS.index("partial")
    status[missing & ~some] = STATUS.index("unpriced")
    if empty.any():
        status[empty[cell]] = STATUS.index("unpriced")
    return amount, status, why


def _fusd(table: Rates, meter: str) -> int:
    rate = table.meters.get(meter)
    return rate.fusd if rate is not None else -1


def _refuse(cell: Ints, quantities: Mapping[str, Ints], tables: Sequence[Rates]) -> None:
    """Raise where a row's exact amount does not fit in 64 bits; return where every row fits."""
    total = np.zeros(len(cell), np.float64)
    for meter, quantity in quantities.items():
        rate = np.array([max(_fusd(table, meter), 0) for table in tables], np.float64)
        total += rate[cell] * quantity
    worst = int(total.argmax())
    if total[worst] > (1 << 63) * 0.999:
        raise BadInput(
            f"one request costs {total[worst] / FUSD_PER_USD:,.0f} USD",
            where=f"row {worst}",
            fix="Check the unit of its token counts",
        )


def _group(
    cell: Ints,
    quantities: Mapping[str, Ints],
    tables: Sequence[Rates],
    codes: Ints,
    tier: Ints,
    arrival_ns: Ints,
    bucket: str,
) -> Grouped:
    """Add quantities up by cell and bucket; exact, because sums stay under 2^53."""
    step = {"": 0, "hour": 3_600 * 10**9, "day": _NS_PER_DAY}[bucket]
    start = int(arrival_ns.min() // step) if step and len(arrival_ns) else 0
    number = (arrival_ns // step - start) if step else np.zeros(len(cell), np.int64)
    width = int(number.max()) + 1 if len(number) else 1
    key = cell * width + number if step else cell
    used, dense = np.unique(key, return_inverse=True) if step else (np.arange(len(tables)), cell)
    facts: dict[tuple[str, ...], int] = {}
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _GROUP_COLUMNS}
    for meter, quantity in quantities.items():
        total = np.bincount(dense, weights=quantity, minlength=len(used))
        if len(total) and total.max() >= 1 << 53:
            raise BadInput(f"more than 2^53 units of {meter} in one bucket", where="bill", fix="Bill by day")
        ids = [
            facts.setdefault(table.meters[meter].facts, len(facts)) if meter in table.meters else -1
            for table in tables
        ]
        fact = np.array(ids, np.int32)
        rate = np.array([_fusd(table, meter) for table in tables], np.int64)
        which = used // width if step else used
        keep = (
            (total > 0) & ((rate[which] >= 0) | (meter != "request")) if len(used) else np.zeros(0, np.bool_)
        )
        which = which[keep]
        parts["offering"].append(codes[which])
        parts["tier"].append(tier[which])
        parts["meter"].append(np.full(len(which), METERS.index(meter)))
        parts["fact"].append(fact[which])
        parts["bucket"].append((used[keep] % width + start) * step)
        parts["quantity"].append(total[keep])
        parts["rate_fusd"].append(rate[which])
    return Grouped(
        **{name: np.concatenate(parts[name]).astype(kind) for name, kind in _GROUP_COLUMNS.items()},
        facts=tuple(facts),
    )


_GROUP_COLUMNS: Mapping[str, Any] = {
    "offering": np.int32,
    "tier": np.int32,
    "meter": np.int8,
    "fact": np.int32,
    "bucket": np.int64,
    "quantity": np.int64,
    "rate_fusd": np.int64,
}
