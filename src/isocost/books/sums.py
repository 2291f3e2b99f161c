"""A log added up, a chunk at a time: what :func:`isocost.books.statement.statement` makes its lines of.

Rates are asked once for the whole log, not once a chunk: the table of rates hangs on the offerings that the
log names, the tiers and the facts, and is made again only when a chunk names an offering that none before it
did. Rows are added up under (line of rates, group of names, period), so that the work of a chunk is a few
passes over its rows, whatever the number of groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.bill import STATUS
from isocost.bill.columns import exact_sums, quantities, reasons
from isocost.bill.tariff import SLOTS, Tariff
from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import METERS, STANDARD
from isocost.errors import UnknownModel
from isocost.trace.schema import WHO, Chunk, Outcome, Trace, utc
from isocost.units import plural

Ints = npt.NDArray[np.int64]

COUNTS = (
    "cached_tok", "cache_write_tok", "cache_write_1h_tok", "audio_input_tok", "audio_cached_tok",
    "audio_output_tok", "web_searches", "context_tok",
)  # fmt: skip
"""Columns of a trace that change what a row costs; ``count`` beside, which the bill calls ``requests``."""

Group = tuple[str, str, str, str, str, str, str, tuple[str, str, str]]
"""provider, model, offering, region, tenant, workload as lines name them, the model as logged, ``WHO``."""

_NAMES = ("provider", "model", "region", "tenant", "workload", *WHO)


@dataclass
class Sums:
    """What has been added up so far.

    ``quantities`` by (start of the period in ns, provider, model, offering, tier, region, tenant, workload,
    meter, rate, facts, ``WHO``); ``counts`` by the same without meter, rate and facts: requests, partial,
    unpriced. ``avoided`` calls a proxy answered from its own cache: nobody billed them, and ``avoided_fusd``
    is what they would have cost. ``not_charged`` calls failed without an output token at providers that say
    they do not charge for such: their tokens are in no line.
    """

    catalog: Catalog
    trace: Trace
    step_ns: int
    quantities: dict[tuple[Any, ...], int] = field(default_factory=dict)
    counts: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    bad_rows: int = 0
    avoided: int = 0
    avoided_fusd: int = 0
    not_charged: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    _resolved: dict[tuple[str, str], Offering | None] = field(default_factory=dict)
    _offerings: dict[Offering, int] = field(default_factory=dict)
    _tariff: Tariff | None = None

    def __post_init__(self) -> None:
        logged = self.trace.names.get("tier", ())
        self._tiers = (*("standard" if name in STANDARD else name for name in logged), "standard")

    def add(self, chunk: Chunk) -> None:
        """Price a chunk and add it."""
        if not len(chunk):
            return
        first, last = int(chunk.arrival_ns.min()), int(chunk.arrival_ns.max())
        self.first_ns = first if self.first_ns is None else min(first, self.first_ns)
        self.last_ns = last if self.last_ns is None else max(last, self.last_ns)
        twice = chunk.outcome == int(Outcome.DUPLICATE)
        served = chunk.outcome == int(Outcome.CACHED)
        self.duplicates += int(twice.sum())
        if served.any():
            self._avoid(chunk.take(served))
        if twice.any() or served.any():
            chunk = chunk.take(~(twice | served))
        if len(chunk):
            self._add(chunk)

    def finish(self) -> None:
        """Take over what the table of rates knows of rows without a price."""
        if self._tariff is None:
            return
        self.bad_rows += self._tariff.bad_rows
        for text, rows in reasons(self._tariff):
            if not text.startswith("no offering is known"):
                self.why[text] = self.why.get(text, 0) + rows
        self._tariff = None

    def _avoid(self, chunk: Chunk) -> None:
        """Price calls that nobody billed, apart from all others."""
        codes, _, offerings = self._groups(chunk)
        known = self._codes(offerings)
        tariff = Tariff(self.catalog, list(self._offerings), self._tiers)
        tariff.price(self._columns(chunk, known[codes]))
        self.avoided += len(chunk)
        self.avoided_fusd += tariff.total_fusd

    def _add(self, chunk: Chunk) -> None:
        codes, groups, offerings = self._groups(chunk)
        known = self._codes(offerings)
        if self._tariff is None or len(self._tariff.offerings) < len(self._offerings):
            self.finish()
            self._tariff = Tariff(self.catalog, list(self._offerings), self._tiers)
        columns = self._columns(chunk, known[codes])
        self._forgive(columns, chunk, offerings, codes)
        bill = self._tariff.price(columns, lines=True)
        start = chunk.arrival_ns // self.step_ns
        low = int(start.min())
        width = int(start.max()) - low + 1
        lines = len(self._tariff.lines)
        tier = columns.get("tier")
        tiers = len(self._tiers)
        # A row without a line of rates has only its own column to say its tier.
        rank = bill.line.astype(np.int64)
        if not bill.line.all():
            own = np.full(len(chunk), tiers - 1, np.int64) if tier is None else tier.astype(np.int64)
            rank = np.where(bill.line > 0, bill.line + tiers, own)
        else:
            rank += tiers
        key = (rank * len(groups) + codes) * width + (start - low)
        dense, rows = number(key, (lines + tiers) * len(groups) * width)
        origins = [self._origin(int(rank[row]) - tiers, int(rank[row])) for row in rows]
        places = [groups[int(codes[row])] for row in rows]
        begun = [int(start[row]) * self.step_ns for row in rows]
        self._quantities(columns, bill.line, dense, list(zip(origins, places, begun, strict=True)))
        self._requests(columns, bill.status, dense, list(zip(origins, places, begun, strict=True)))

    def _forgive(
        self,
        columns: dict[str, npt.NDArray[Any]],
        chunk: Chunk,
        offerings: Sequence[Offering | None],
        codes: Ints,
    ) -> None:
        """Take the tokens out of calls that failed without an answer, where the provider charges none."""
        failed = (chunk.outcome == int(Outcome.ERROR)) | (chunk.outcome == int(Outcome.RETRY))
        if not failed.any():
            return
        at = self.catalog.at(utc(int(chunk.arrival_ns[0])).date())
        free = np.array([one is not None and _forgives(at, one.provider) for one in offerings], np.bool_)
        rows = failed & free[codes] & (chunk.output_tok == 0) & (chunk.input_tok > 0)
        self.not_charged += int(rows.sum())
        for name in (*COUNTS, "input_tok"):
            if name in columns and rows.any():
                columns[name] = np.where(rows, 0, columns[name]).astype(columns[name].dtype)

    def _origin(self, line: int, tier: int) -> tuple[int, str]:
        """The line of rates (0: none) and the tier that a rank stands for."""
        if line < 0:
            return 0, self._tiers[tier]
        assert self._tariff is not None
        held = self._tariff.lines[line]
        assert held is not None
        return line, self._tiers[held[0].tier]

    def _quantities(
        self, columns: Mapping[str, Any], line: npt.NDArray[np.int32], dense: Ints, cells: Sequence[Any]
    ) -> None:
        """Enter quantities by cell and meter."""
        assert self._tariff is not None
        bad = None
        for slot, values in quantities(columns):
            if bad is None:
                bad = self._contradicting(columns, line)
            found = exact_sums(dense, np.where(bad, 0, values) if bad.any() else values, len(cells))
            meter = SLOTS[slot]
            for at in np.flatnonzero(found).tolist():
                (held, tier), group, begun = cells[at]
                rate = self._rate(held, meter)
                if rate is not None:
                    self._enter(group, tier, begun, meter, int(found[at]), rate)

    def _rate(self, line: int, meter: str) -> tuple[Any, ...] | None:
        """Rate and facts of a meter; ``None`` where it is no charge: requests that nobody prices."""
        assert self._tariff is not None
        held = self._tariff.lines[line]
        rate = held[1].meters.get(meter) if held is not None else None
        if rate is None:
            return None if meter == "request" else (None, ())
        return rate.fusd, rate.facts

    def _contradicting(
        self, columns: Mapping[str, Any], line: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.bool_]:
        """Rows without a line of rates whose counts contradict each other: their usage is in no line."""
        bad: npt.NDArray[np.bool_] = np.zeros(len(line), np.bool_)
        if line.all():
            return bad
        for slot, values in quantities(columns):
            if SLOTS[slot] != "request":
                bad |= values < 0
        bad &= line == 0
        return bad

    def _requests(
        self, columns: Mapping[str, Any], status: npt.NDArray[np.int8], dense: Ints, cells: Sequence[Any]
    ) -> None:
        """Enter calls by cell and status."""
        # A row of a usage report is as many calls as it says; one that does not say counts once.
        calls = columns.get("requests")
        weights = None if calls is None else np.where(calls < 0, 1, calls)
        size = len(cells) * len(STATUS)
        found = np.bincount(dense * len(STATUS) + status, weights=weights, minlength=size).astype(np.int64)
        for at, numbers in enumerate(found.reshape(-1, len(STATUS)).tolist()):
            (_, tier), (who, what, subject, place, tenant, workload, _, whose), begun = cells[at]
            key = (begun, who, what, subject, tier, place, tenant, workload, *whose)
            counts = self.counts.setdefault(key, [0, 0, 0])
            counts[0] += sum(numbers)
            counts[1] += numbers[STATUS.index("partial")]
            counts[2] += numbers[STATUS.index("unpriced")]

    def _enter(
        self, group: Group, tier: str, start_ns: int, meter: str, quantity: int, rate: tuple[Any, ...]
    ) -> None:
        who, what, subject, place, tenant, workload, _, whose = group
        key = (start_ns, who, what, subject, tier, place, tenant, workload, meter, *rate, *whose)
        self.quantities[key] = self.quantities.get(key, 0) + quantity

    def _columns(self, chunk: Chunk, offering: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[Any]]:
        """A chunk's columns as the bill takes them."""
        columns: dict[str, npt.NDArray[Any]] = {
            "offering": offering, "arrival_ns": chunk.arrival_ns,
            "input_tok": chunk.input_tok, "output_tok": chunk.output_tok,
        }  # fmt: skip
        if chunk.tier is not None:
            columns["tier"] = np.where(chunk.tier < 0, len(self._tiers) - 1, chunk.tier).astype(np.int32)
        for name in (*COUNTS, "count"):
            column = getattr(chunk, name)
            if column is not None:
                columns["requests" if name == "count" else name] = column
        return columns

    def _codes(self, offerings: Iterable[Offering | None]) -> npt.NDArray[np.int32]:
        """Codes of offerings among all that the log has named, -1 where none is known."""
        codes = [
            -1 if one is None else self._offerings.setdefault(one, len(self._offerings)) for one in offerings
        ]
        return np.array(codes, np.int32)

    def _groups(self, chunk: Chunk) -> tuple[Ints, list[Group], list[Offering | None]]:
        """A code for each row, and the group and offering that each code stands for."""
        key = np.zeros(len(chunk), np.int64)
        size = 1
        for name in _NAMES:
            column = getattr(chunk, name)
            if column is None or (len(self.trace.names[name]) == 1 and bool((column == 0).all())):
                continue
            width = len(self.trace.names[name]) + 1
            if size * width >= 1 << 62:
                _, key = np.unique(key, return_inverse=True)
                size = len(chunk)
            key = key * width + column + 1
            size *= width
        codes, first = number(key, size)
        groups: list[Group] = []
        offerings: list[Offering | None] = []
        for code, row in enumerate(first):
            said = {name: self._text(chunk, name, int(row)) for name in _NAMES}
            offering = self._offering(said["provider"], said["model"], int(chunk.arrival_ns[row]))
            if offering is not None and said["region"] and not offering.region:
                offering = msgspec.structs.replace(offering, region=said["region"])
            if not said["model"]:
                text = "rows name no model"
                self.why[text] = self.why.get(text, 0) + int((codes == code).sum())
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
        if (provider, model) not in self._resolved:
            try:
                found = resolve(self.catalog.at(utc(arrival_ns).date()), model, provider)
            except UnknownModel as unknown:
                self._resolved[provider, model] = None
                self.why[unknown.line()] = 0
            else:
                self._resolved[provider, model] = found
        return self._resolved[provider, model]

    def notes(self) -> tuple[str, ...]:
        """Why some usage has no price, or only a part of one."""
        said = [
            f"{text} ({plural(rows, 'row')})" if rows else text for text, rows in sorted(self.why.items())
        ]
        if self.bad_rows:
            said.append(
                plural(self.bad_rows, "row has", "rows have") + " counts that contradict each other: unpriced"
            )
        if self.duplicates:
            said.append(plural(self.duplicates, "row repeats", "rows repeat") + " a request id: counted once")
        return tuple(said)

    def in_order(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        """Quantities, in the order in which lines stand."""

        def order(item: tuple[tuple[Any, ...], int]) -> tuple[Any, ...]:
            *names, meter, rate, facts = item[0][:-3]
            return (*names, METERS.index(meter), -1 if rate is None else rate, facts, *item[0][-3:])

        yield from sorted(self.quantities.items(), key=order)


def _forgives(at: CatalogAt, provider: str) -> bool:
    """Whether a provider says that it does not charge for calls that failed without an answer."""
    rule = at.find(f"provider/{provider}", "failed_billed")
    return rule is not None and rule.value == "no"


def number(key: Ints, size: int) -> tuple[Ints, Ints]:
    """Keys numbered from 0 without gaps, and the first row of each number; ``size`` bounds the keys."""
    if size > max(1 << 22, 4 * len(key)):
        _, first, dense = np.unique(key, return_index=True, return_inverse=True)
        return dense.astype(np.int64), first.astype(np.int64)
    where = np.full(size, -1, np.int64)
    where[key[::-1]] = np.arange(len(key) - 1, -1, -1)
    used = np.flatnonzero(where >= 0)
    numbered = np.zeros(size, np.int64)
    numbered[used] = np.arange(len(used))
    return numbered[key], where[used]
