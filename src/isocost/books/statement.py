"""What a log costs, as lines: usage of one day, model, tier, tenant and workload at one price.

Each row is priced at its own moment by :func:`isocost.bill.price_columns`; here prices are only added up.
A line's amount is its quantity times its rate, whole femto-dollars, so lines sum to the total exactly. Usage
without a price is a line without a rate: in no sum, and the total then says "at least".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.bill import STATUS, PricedColumns, price_columns
from isocost.catalog import Catalog
from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import METERS, STANDARD
from isocost.errors import BadInput, BadTrace, UnknownModel
from isocost.trace.schema import NS_PER_S, WHO, Chunk, Outcome, Trace, utc

Bucket = Literal["hour", "day"]

KEYS = (
    "period", "provider", "model", "offering", "tier", "region", "tenant", "workload", "meter",
)  # fmt: skip
"""What lines are told apart by; ``WHO`` beside, where the log was read for whose calls they are."""

REQUEST_KEYS = KEYS[:-1]
GROUPS = (*KEYS, *WHO, "day", "month")
"""What lines can be grouped by; ``day`` and ``month`` are the start of the period."""

LINES, REQUESTS, HEAD = "lines.parquet", "requests.parquet", "statement.toml"

_STEP_NS: Mapping[str, int] = {"hour": 3_600 * NS_PER_S, "day": 86_400 * NS_PER_S}
_COUNTS: Mapping[str, str] = {
    "cached_tok": "cache_read",
    "cache_write_tok": "cache_write",
    "cache_write_1h_tok": "cache_write_1h",
    "audio_input_tok": "audio_input",
    "web_searches": "web_search",
}
_PRICING: Mapping[str, str] = {
    "audio_cached_tok": "audio_cached_tok",
    "audio_output_tok": "audio_output_tok",
    "context_tok": "context_tok",
    "count": "requests",
}
"""Columns of a trace that change what a row costs, as the bill calls them."""
_WITHIN_INPUT = ("cached_tok", "cache_write_tok", "cache_write_1h_tok", "audio_input_tok")


class Line(msgspec.Struct, frozen=True):
    """``quantity`` of a meter in one UTC period (``2026-10-03``, or ``2026-10-03T05`` by the hour).

    ``rate_fusd`` is femto-dollars for one unit, ``None`` where no price is known; ``facts`` are the ids of
    the price and of every rule that changed it. ``provider`` and ``model`` are the catalog's names where the
    log's are known (``offering`` is then the subject that holds the prices), else as logged.
    """

    period: str
    provider: str
    model: str
    offering: str
    tier: str
    region: str
    tenant: str
    workload: str
    meter: str
    quantity: int
    rate_fusd: int | None
    facts: tuple[str, ...] = ()
    account: str = ""
    credential: str = ""
    deployment: str = ""

    @property
    def amount_fusd(self) -> int:
        """Quantity times rate; 0 without a rate (such a line is no part of a total)."""
        return self.quantity * self.rate_fusd if self.rate_fusd is not None else 0

    @property
    def day(self) -> str:
        """The UTC day."""
        return self.period[:10]

    @property
    def month(self) -> str:
        """The UTC month, ``2026-10``."""
        return self.period[:7]


class Requests(msgspec.Struct, frozen=True):
    """How many calls a group of one period made, and how many of them have no or only a partial price."""

    period: str
    provider: str
    model: str
    offering: str
    tier: str
    region: str
    tenant: str
    workload: str
    requests: int
    partial: int = 0
    unpriced: int = 0
    account: str = ""
    credential: str = ""
    deployment: str = ""

    @property
    def day(self) -> str:
        """The UTC day."""
        return self.period[:10]

    @property
    def month(self) -> str:
        """The UTC month."""
        return self.period[:7]


class Statement(msgspec.Struct, frozen=True):
    """Lines of usage with their prices, in order of their keys.

    ``digest`` is the content hash of the log, ``basis`` of the facts. ``start`` and ``end`` are the first
    and the last arrival (UTC, the end included). ``duplicates`` are rows of a request id that was logged
    before: in no line. ``bad_rows`` are rows whose counts contradict each other: counted as unpriced
    requests, their usage in no line.
    """

    title: str
    digest: str
    basis: str
    start: datetime
    end: datetime
    lines: tuple[Line, ...]
    requests: tuple[Requests, ...]
    duplicates: int = 0
    bad_rows: int = 0
    notes: tuple[str, ...] = ()

    @property
    def total_fusd(self) -> int:
        """The exact sum of all lines that have a price."""
        return sum(line.amount_fusd for line in self.lines)

    @property
    def total_usd(self) -> Decimal:
        """The exact sum in dollars."""
        return Decimal(self.total_fusd).scaleb(-15)

    @property
    def n_requests(self) -> int:
        """Calls that were or may have been billed."""
        return sum(one.requests for one in self.requests)

    @property
    def unpriced(self) -> tuple[Line, ...]:
        """Usage without a price."""
        return tuple(line for line in self.lines if line.rate_fusd is None)

    @property
    def at_least(self) -> bool:
        """Whether the total is a lower bound."""
        return bool(self.unpriced) or any(one.partial or one.unpriced for one in self.requests)

    def by(self, *keys: str) -> dict[tuple[str, ...], int]:
        """Femto-dollars by the named keys, in order of the lines; the parts sum to the whole.

        Raises:
            BadInput: a key that lines do not have.
        """
        totals: dict[tuple[str, ...], int] = {}
        for key, line in zip(self._grouped(self.lines, keys), self.lines, strict=True):
            totals[key] = totals.get(key, 0) + line.amount_fusd
        return totals

    def quantity_by(self, *keys: str) -> dict[tuple[str, ...], int]:
        """Quantities by the named keys, of one meter a group only where ``meter`` is among them."""
        totals: dict[tuple[str, ...], int] = {}
        for key, line in zip(self._grouped(self.lines, keys), self.lines, strict=True):
            totals[key] = totals.get(key, 0) + line.quantity
        return totals

    def requests_by(self, *keys: str) -> dict[tuple[str, ...], int]:
        """Requests by the named keys (all but ``meter``)."""
        totals: dict[tuple[str, ...], int] = {}
        for key, one in zip(self._grouped(self.requests, keys), self.requests, strict=True):
            totals[key] = totals.get(key, 0) + one.requests
        return totals

    @staticmethod
    def _grouped(rows: Sequence[Any], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        for key in keys:
            if key not in GROUPS:
                raise BadInput(f"{key!r} is no key of a statement", fix=f"Keys: {', '.join(GROUPS)}")
        return (tuple(getattr(row, key) for key in keys) for row in rows)

    def within(self, month: str) -> Statement:
        """The part of one UTC month, ``2026-10``."""
        return msgspec.structs.replace(
            self,
            title=f"{self.title}, {month}",
            lines=tuple(line for line in self.lines if line.month == month),
            requests=tuple(one for one in self.requests if one.month == month),
        )

    def write(self, folder: Path) -> None:
        """Write ``lines.parquet``, ``requests.parquet`` and ``statement.toml`` into an existing folder.

        Amounts stand beside quantities as DECIMAL(38, 15) dollars, for whoever reads the files elsewhere.
        """
        import tomli_w

        _write_lines(folder / LINES, self.lines)
        _write_requests(folder / REQUESTS, self.requests)
        head = {
            name: getattr(self, name) for name in self.__struct_fields__ if name not in ("lines", "requests")
        }
        head["notes"] = list(self.notes)
        (folder / HEAD).write_text(tomli_w.dumps(head), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Statement:
        """Read what :meth:`write` wrote.

        Raises:
            BadInput: a file is missing or is none that :meth:`write` wrote.
        """
        import duckdb

        try:
            head = msgspec.toml.decode((folder / HEAD).read_bytes())
            with duckdb.connect() as db:
                names = ", ".join(_columns(db, folder / LINES, (*KEYS, "quantity", "rate_fusd", "facts")))
                lines = db.execute(f"SELECT {names} FROM read_parquet(?)", [str(folder / LINES)]).fetchall()
                counts = (*REQUEST_KEYS, "requests", "partial", "unpriced")
                names = ", ".join(_columns(db, folder / REQUESTS, counts))
                requests = db.execute(
                    f"SELECT {names} FROM read_parquet(?)", [str(folder / REQUESTS)]
                ).fetchall()
            return cls(
                **{**head, "notes": tuple(head["notes"])},
                lines=tuple(_line(row) for row in lines),
                requests=tuple(Requests(*row) for row in requests),
            )
        except (OSError, duckdb.Error, KeyError, TypeError, msgspec.DecodeError) as wrong:
            text = str(wrong).splitlines()[0]
            raise BadInput(f"not a statement: {text}", where=str(folder)) from None


def statement(trace: Trace, catalog: Catalog, *, bucket: Bucket = "day") -> Statement:
    """Price a log, each row at its own date, and add it up, a chunk at a time.

    Every logged call but a duplicate is in it: providers bill what failed after the first token too, and a
    call that used nothing adds nothing.

    Raises:
        BadTrace: the log's clock counts from its own start, so no date has a price; or it has no rows.
    """
    if trace.clock == "relative":
        raise BadTrace(
            "times count from the log's start: a price needs a date",
            where=trace.title,
            fix="Type 'isocost bill LOG --at 2026-10-01' for what it would cost from that day on",
        )
    sums = _Sums(catalog, trace, _STEP_NS[bucket])
    for chunk in trace.chunks():
        sums.add(chunk)
    if sums.first_ns is None or sums.last_ns is None:
        raise BadTrace("no requests", where=trace.title)
    return Statement(
        trace.title,
        trace.digest,
        catalog.basis,
        utc(sums.first_ns),
        utc(sums.last_ns),
        tuple(sums.lines()),
        tuple(sums.calls()),
        sums.duplicates,
        sums.bad_rows,
        sums.notes(),
    )


Group = tuple[str, str, str, str, str, str, str, tuple[str, str, str]]
"""provider, model, offering, region, tenant, workload as lines name them, the model as logged, ``WHO``."""


@dataclass
class _Sums:
    """What has been added up so far."""

    catalog: Catalog
    trace: Trace
    step_ns: int
    quantities: dict[tuple[Any, ...], int] = field(default_factory=dict)
    counts: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    resolved: dict[tuple[str, str], Offering | None] = field(default_factory=dict)
    duplicates: int = 0
    bad_rows: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    def add(self, chunk: Chunk) -> None:
        """Price a chunk and add it."""
        if not len(chunk):
            return
        first, last = int(chunk.arrival_ns.min()), int(chunk.arrival_ns.max())
        self.first_ns = first if self.first_ns is None else min(first, self.first_ns)
        self.last_ns = last if self.last_ns is None else max(last, self.last_ns)
        twice = chunk.outcome == int(Outcome.DUPLICATE)
        if twice.any():
            self.duplicates += int(twice.sum())
            chunk = chunk.take(~twice)
            if not len(chunk):
                return
        codes, groups, offerings = self._groups(chunk)
        tiers, tier = self._tiers(chunk)
        columns: dict[str, npt.NDArray[Any]] = {
            "offering": codes, "tier": tier, "arrival_ns": chunk.arrival_ns,
            "input_tok": chunk.input_tok, "output_tok": chunk.output_tok,
        }  # fmt: skip
        for name in _COUNTS:
            column = getattr(chunk, name, None)
            if column is not None:
                columns[name] = column
        for name, called in _PRICING.items():
            column = getattr(chunk, name)
            if column is not None:
                columns[called] = column
        bucket: Bucket = "hour" if self.step_ns == _STEP_NS["hour"] else "day"
        bill = price_columns(self.catalog, offerings, columns, tiers=tiers, bucket=bucket)
        self.bad_rows += bill.bad_rows
        for text, rows in bill.why:
            if not text.startswith("no offering is known"):
                self.why[text] = self.why.get(text, 0) + rows
        self._priced(bill, groups, tiers)
        self._unknown(columns, groups, offerings, tiers)
        self._calls(bill, columns, groups, tiers)

    def _groups(self, chunk: Chunk) -> tuple[npt.NDArray[np.int64], list[Group], list[Offering | None]]:
        """A code for each row, and the group and offering that each code stands for."""
        names = ("provider", "model", "region", "tenant", "workload", *WHO)
        key = np.zeros(len(chunk), np.int64)
        size = 1
        for name in names:
            column = getattr(chunk, name)
            if column is None:
                continue
            width = len(self.trace.names[name]) + 1
            if size * width >= 1 << 62:
                _, key = np.unique(key, return_inverse=True)
                size = len(chunk)
            key = key * width + column + 1
            size *= width
        codes, first = _dense(key, size)
        groups: list[Group] = []
        offerings: list[Offering | None] = []
        for row in first:
            said = {name: self._text(chunk, name, int(row)) for name in names}
            offering = self._offering(said["provider"], said["model"], int(chunk.arrival_ns[row]))
            if offering is not None and said["region"] and not offering.region:
                offering = msgspec.structs.replace(offering, region=said["region"])
            offerings.append(offering)
            who, what, subject, place = said["provider"], said["model"], "", said["region"]
            if offering is not None:
                who, what = offering.provider, offering.subject.split("/", 2)[2]
                subject, place = offering.subject, offering.region
            whose = (said["account"], said["credential"], said["deployment"])
            groups.append((who, what, subject, place, said["tenant"], said["workload"], said["model"], whose))
        return codes, groups, offerings

    def _text(self, chunk: Chunk, name: str, row: int) -> str:
        column = getattr(chunk, name)
        return "" if column is None or column[row] < 0 else self.trace.names[name][int(column[row])]

    def _offering(self, provider: str, model: str, arrival_ns: int) -> Offering | None:
        if not model:
            return None
        if (provider, model) not in self.resolved:
            try:
                found = resolve(self.catalog.at(utc(arrival_ns).date()), model, provider)
            except UnknownModel as unknown:
                self.resolved[provider, model] = None
                self.why[unknown.line()] = 0
            else:
                self.resolved[provider, model] = found
        return self.resolved[provider, model]

    def _tiers(self, chunk: Chunk) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
        if chunk.tier is None:
            return ("standard",), np.zeros(len(chunk), np.int64)
        names = tuple("standard" if name in STANDARD else name for name in self.trace.names["tier"])
        return (*names, "standard"), np.where(chunk.tier < 0, len(names), chunk.tier).astype(np.int64)

    def _enter(
        self, group: Group, tier: str, start_ns: int, meter: str, quantity: int, rate: tuple[Any, ...]
    ) -> None:
        who, what, subject, place, tenant, workload, _, whose = group
        key = (start_ns, who, what, subject, tier, place, tenant, workload, meter, *rate, *whose)
        self.quantities[key] = self.quantities.get(key, 0) + quantity

    def _priced(self, bill: PricedColumns, groups: list[Group], tiers: Sequence[str]) -> None:
        found = bill.grouped
        columns = (
            found.offering, found.tier, found.bucket, found.meter, found.quantity, found.fact, found.rate_fusd
        )  # fmt: skip
        for code, tier, start, meter, quantity, fact, fusd in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            rate = (None, ()) if fact < 0 else (fusd, found.facts[fact])
            self._enter(groups[code], tiers[tier], start, METERS[meter], quantity, rate)

    def _unknown(
        self,
        columns: Mapping[str, npt.NDArray[Any]],
        groups: list[Group],
        offerings: Sequence[Offering | None],
        tiers: Sequence[str],
    ) -> None:
        """Usage of rows that no offering is known for: lines without a rate."""
        none = np.array([offering is None for offering in offerings], np.bool_)
        rows = np.flatnonzero(none[columns["offering"]])
        if not len(rows):
            return
        mine = {name: np.asarray(column)[rows].astype(np.int64) for name, column in columns.items()}
        for code, number in enumerate(np.bincount(mine["offering"], minlength=len(groups)).tolist()):
            if number and not groups[code][6]:
                text = "rows name no model"
                self.why[text] = self.why.get(text, 0) + number
        plain = mine["input_tok"] - sum(mine[name] for name in _WITHIN_INPUT if name in mine)
        bad = (plain < 0) | (mine["output_tok"] < 0)
        start = mine["arrival_ns"] // self.step_ns
        low = int(start.min())
        width = int(start.max()) - low + 1
        key = (mine["offering"] * len(tiers) + mine["tier"]) * width + start - low
        dense, first = _dense(key, len(groups) * len(tiers) * width)
        meters = {meter: mine[name] for name, meter in _COUNTS.items() if name in mine}
        for meter, counts in {"input": plain, **meters, "output": mine["output_tok"]}.items():
            total = np.bincount(dense, weights=np.where(bad, 0, counts), minlength=len(first))
            for at in np.flatnonzero(total):
                row = int(first[at])
                group, tier = groups[int(mine["offering"][row])], tiers[int(mine["tier"][row])]
                begun = int(start[row]) * self.step_ns
                self._enter(group, tier, begun, meter, int(total[at]), (None, ()))

    def _calls(
        self,
        bill: PricedColumns,
        columns: Mapping[str, npt.NDArray[Any]],
        groups: list[Group],
        tiers: Sequence[str],
    ) -> None:
        start = np.asarray(columns["arrival_ns"]) // self.step_ns
        low = int(start.min())
        width = int(start.max()) - low + 1
        key = (columns["offering"] * len(tiers) + columns["tier"]) * width + start - low
        key = key * len(STATUS) + bill.status
        dense, first = _dense(key, len(groups) * len(tiers) * width * len(STATUS))
        # A row of a usage report is as many calls as it says; one that does not say counts once.
        calls = columns.get("requests")
        weights = None if calls is None else np.where(calls < 0, 1, calls)
        numbers = np.bincount(dense, weights=weights).astype(np.int64)
        for row, number in zip(first.tolist(), numbers.tolist(), strict=True):
            who, what, subject, place, tenant, workload, _, whose = groups[int(columns["offering"][row])]
            tier = tiers[int(columns["tier"][row])]
            begun = int(start[row]) * self.step_ns
            counts = self.counts.setdefault(
                (begun, who, what, subject, tier, place, tenant, workload, *whose), [0, 0, 0]
            )
            counts[0] += number
            status = STATUS[int(bill.status[row])]
            if status != "priced":
                counts[1 if status == "partial" else 2] += number

    def lines(self) -> Iterator[Line]:
        """The lines, in order of their keys."""

        def order(item: tuple[tuple[Any, ...], int]) -> tuple[Any, ...]:
            *names, meter, rate, facts = item[0][:-3]
            return (*names, METERS.index(meter), -1 if rate is None else rate, facts, *item[0][-3:])

        for key, quantity in sorted(self.quantities.items(), key=order):
            start, *names, rate, facts = key[:-3]
            named = dict(zip((*KEYS, *WHO), (self._period(start), *names, *key[-3:]), strict=True))
            yield Line(**named, quantity=quantity, rate_fusd=rate, facts=facts)

    def calls(self) -> Iterator[Requests]:
        """Requests, in order of their keys."""
        for key, counts in sorted(self.counts.items()):
            start, *names = key[:-3]
            yield Requests(self._period(start), *names, *counts, *key[-3:])

    def notes(self) -> tuple[str, ...]:
        """Why some usage has no price, or only a part of one."""
        said = [f"{text} ({rows:,} rows)" if rows else text for text, rows in sorted(self.why.items())]
        if self.bad_rows:
            said.append(f"{self.bad_rows:,} rows have counts that contradict each other: unpriced")
        if self.duplicates:
            said.append(f"{self.duplicates:,} rows repeat a request id: counted once")
        return tuple(said)

    def _period(self, start_ns: int) -> str:
        at = datetime.fromtimestamp(start_ns // NS_PER_S, UTC)
        return at.strftime("%Y-%m-%dT%H") if self.step_ns == _STEP_NS["hour"] else at.strftime("%Y-%m-%d")


def _dense(key: npt.NDArray[np.int64], size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keys numbered from 0 without gaps, and the first row of each number; ``size`` bounds the keys."""
    if size > max(1 << 22, 4 * len(key)):
        _, first, dense = np.unique(key, return_index=True, return_inverse=True)
        return dense.astype(np.int64), first.astype(np.int64)
    where = np.full(size, -1, np.int64)
    where[key[::-1]] = np.arange(len(key) - 1, -1, -1)
    used = np.flatnonzero(where >= 0)
    number = np.zeros(size, np.int64)
    number[used] = np.arange(len(used))
    return number[key], where[used]


def _line(row: Sequence[Any]) -> Line:
    names, (quantity, rate, facts, *whose) = row[: len(KEYS)], row[len(KEYS) :]
    named = dict(zip(KEYS, names, strict=True)) | dict(zip(WHO, whose, strict=True))
    return Line(**named, quantity=quantity, rate_fusd=rate, facts=tuple(facts))


def _columns(db: Any, path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The columns and those of ``WHO``, which are blank where the file has none."""
    held = {row[0] for row in db.execute("SELECT name FROM parquet_schema(?)", [str(path)]).fetchall()}
    return (*names, *(name if name in held else "''" for name in WHO))


def _write_lines(path: Path, lines: Iterable[Line]) -> None:
    rows = list(lines)
    whose = [name for name in WHO if any(getattr(row, name) for row in rows)]
    columns: dict[str, Any] = _texts(rows, (*KEYS, *whose))
    columns["quantity"] = np.array([line.quantity for line in rows], np.int64)
    columns["rate"] = np.array([-1 if one.rate_fusd is None else one.rate_fusd for one in rows], np.int64)
    columns["fact_ids"] = np.array(["\n".join(line.facts) for line in rows], dtype=object)
    _copy(
        path,
        columns,
        f"{', '.join(KEYS)}, quantity, nullif(rate, -1) AS rate_fusd, "
        "CASE WHEN fact_ids = '' THEN CAST([] AS VARCHAR[]) "
        "ELSE string_split(fact_ids, chr(10)) END AS facts, "
        "CASE WHEN rate >= 0 THEN CAST(CAST(quantity AS HUGEINT) * rate AS DECIMAL(38, 0)) "
        f"* CAST('0.000000000000001' AS DECIMAL(16, 15)) END AS amount_usd{''.join(f', {n}' for n in whose)}",
    )


def _write_requests(path: Path, requests: Iterable[Requests]) -> None:
    rows = list(requests)
    columns: dict[str, Any] = _texts(rows, REQUEST_KEYS)
    for name in ("requests", "partial", "unpriced"):
        columns[name] = np.array([getattr(row, name) for row in rows], np.int64)
    columns |= _texts(rows, [name for name in WHO if any(getattr(row, name) for row in rows)])
    _copy(path, columns, "*")


def _texts(rows: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: np.array([getattr(row, name) for row in rows], dtype=object) for name in names}


def _copy(path: Path, columns: Mapping[str, Any], select: str) -> None:
    """Columns as Parquet, in their order; whole or not at all."""
    import duckdb

    part = path.with_suffix(path.suffix + ".part")
    with duckdb.connect(config={"threads": 1}) as db:
        db.register("given", dict(columns))
        db.execute(f"COPY (SELECT {select} FROM given) TO ? (FORMAT parquet, COMPRESSION zstd)", [str(part)])
    part.replace(path)


def month_of(text: str) -> tuple[date, date]:
    """The first day of a month, and of the next: ``2026-10``.

    Raises:
        BadInput: not a month.

    >>> month_of("2026-12")
    (datetime.date(2026, 12, 1), datetime.date(2027, 1, 1))
    """
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise BadInput(f"{text!r} is not a month", fix="Type one like 2026-10") from None
    return first, date(first.year + first.month // 12, first.month % 12 + 1, 1)
