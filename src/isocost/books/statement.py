"""What a log costs, as lines: usage of one day, model, tier, tenant and workload at one price.

Each row is priced at its own moment (:mod:`isocost.books.sums`); here prices are only added up.
A line's amount is its quantity times its rate, whole femto-dollars, so lines sum to the total exactly. Usage
without a price is a line without a rate: in no sum, and the total then says "at least".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from isocost.books.sums import Sums
from isocost.catalog import Catalog
from isocost.errors import BadInput, BadTrace
from isocost.trace.schema import WHO, Trace, utc
from isocost.units import NS_PER_DAY, NS_PER_H, NS_PER_S, usd_of

Bucket = Literal["hour", "day"]

KEYS = (
    "period", "provider", "model", "offering", "tier", "region", "tenant", "workload", "meter",
)  # fmt: skip
"""What lines are told apart by; ``WHO`` beside, where the log was read for whose calls they are."""

REQUEST_KEYS = KEYS[:-1]
GROUPS = (*KEYS, *WHO, "day", "month")
"""What lines can be grouped by; ``day`` and ``month`` are the start of the period."""

LINES, REQUESTS, HEAD = "lines.parquet", "requests.parquet", "statement.toml"

_STEP_NS: Mapping[str, int] = {"hour": NS_PER_H, "day": NS_PER_DAY}


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
    requests, their usage in no line. ``avoided`` calls a proxy answered from its own cache: they are in no
    line and no count, because no provider billed them; ``avoided_fusd`` is what they would have cost.
    ``not_charged`` calls failed without an output token at a provider that does not charge for such: counted
    as requests, their tokens in no line.
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
    avoided: int = 0
    avoided_fusd: int = 0
    not_charged: int = 0

    @property
    def total_fusd(self) -> int:
        """The exact sum of all lines that have a price."""
        return sum(line.amount_fusd for line in self.lines)

    @property
    def total_usd(self) -> Decimal:
        """The exact sum in dollars."""
        return usd_of(self.total_fusd)

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

    Every logged call is in it, but a duplicate and one that a proxy's own cache answered. Providers bill what
    failed after the first token; what failed before it counts as logged, unless the provider says that it
    does not charge for it (``failed_billed``).

    Raises:
        BadTrace: the log's clock counts from its own start, so no date has a price; or it has no rows.
    """
    if trace.clock == "relative":
        raise BadTrace(
            "times count from the log's start: a price needs a date",
            where=trace.title,
            fix="Type 'isocost bill LOG --at 2026-10-01' for what it would cost from that day on",
        )
    sums = Sums(catalog, trace, _STEP_NS[bucket])
    for chunk in trace.chunks():
        sums.add(chunk)
    sums.finish()
    if sums.first_ns is None or sums.last_ns is None:
        raise BadTrace("no requests", where=trace.title)
    return Statement(
        trace.title,
        trace.digest,
        catalog.basis,
        utc(sums.first_ns),
        utc(sums.last_ns),
        tuple(_lines(sums, bucket)),
        tuple(_requests(sums, bucket)),
        sums.duplicates,
        sums.bad_rows,
        sums.notes(),
        sums.avoided,
        sums.avoided_fusd,
        sums.not_charged,
    )


def _lines(sums: Sums, bucket: Bucket) -> Iterator[Line]:
    """The lines, in order of their keys."""
    for key, quantity in sums.in_order():
        start, *names, rate, facts = key[:-3]
        named = dict(zip((*KEYS, *WHO), (_period(start, bucket), *names, *key[-3:]), strict=True))
        yield Line(**named, quantity=quantity, rate_fusd=rate, facts=facts)


def _requests(sums: Sums, bucket: Bucket) -> Iterator[Requests]:
    """Requests, in order of their keys."""
    for key, counts in sorted(sums.counts.items()):
        start, *names = key[:-3]
        yield Requests(_period(start, bucket), *names, *counts, *key[-3:])


def _period(start_ns: int, bucket: Bucket) -> str:
    at = datetime.fromtimestamp(start_ns // NS_PER_S, UTC)
    return at.strftime("%Y-%m-%dT%H") if bucket == "hour" else at.strftime("%Y-%m-%d")


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
