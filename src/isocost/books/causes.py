"""Causes whose effect on an invoice is known to the last digit, and which of them a slot's excess is.

Each cause has a vector: what it would add to the invoice, by slot and meter, computed from the log itself
(the price of its duplicates, of its cancelled calls, of its usage at another tier ...). A slot is explained
where one set of causes reproduces the invoice's amounts of *every* meter within the places that it is written
in. The fewest causes hold; where two different sets of equally few do, the slot stays unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.books.contract import Piece, contract
from isocost.books.overlay import Overlay
from isocost.books.sides import Cell, Dims, Slot, cell_of, requests_by, vector
from isocost.books.statement import Line, Statement, statement
from isocost.catalog import Catalog
from isocost.catalog.names import Offering
from isocost.catalog.prices import rates
from isocost.trace.schema import Chunk, Outcome, Trace

MOST_CAUSES = 4
"""Causes of one slot at once that are looked for."""

TIERS = ("standard", "batch", "priority", "flex")

Mask = npt.NDArray[np.bool_]
Vectors = dict[Slot, dict[str, Fraction]]


class Option(NamedTuple):
    """A cause with its vectors; of the options of one ``group`` a slot has at most one.

    ``counts`` are the calls or tokens (``unit``) that it is about, by slot.
    """

    cause: str
    said: str
    group: str
    vectors: Vectors
    counts: Mapping[Slot, int]
    unit: str


class Found(NamedTuple):
    """What explains a slot: options (none: the two sides agree), or, where several do, ``rivals``."""

    options: tuple[Option, ...]
    rivals: tuple[str, ...] = ()


def explain(
    excess: Mapping[str, Fraction], slot: Slot, options: Sequence[Option], tolerance: Mapping[str, Fraction]
) -> Found | None:
    """The fewest causes that reproduce a slot's excess in every meter; ``None`` where none do."""
    groups: dict[str, list[Option | None]] = {}
    for option in options:
        mine = option.vectors.get(slot, {})
        # What is smaller than the places of the invoice cannot be seen in it.
        if any(abs(part) >= tolerance[meter] for meter, part in mine.items() if meter in tolerance):
            groups.setdefault(option.group, [None]).append(option)
    hits: dict[int, list[tuple[Option, ...]]] = {}
    for chosen in product(*groups.values()):
        picked = tuple(one for one in chosen if one is not None)
        if len(picked) <= MOST_CAUSES and _fits(excess, slot, picked, tolerance):
            hits.setdefault(len(picked), []).append(picked)
    if not hits:
        return None
    fewest = hits[min(hits)]
    if len({_amounts(one, slot) for one in fewest}) > 1:
        said = sorted({" and ".join(option.said for option in one) for one in fewest})
        return Found((), tuple(said))
    return Found(fewest[0])


def _fits(
    excess: Mapping[str, Fraction], slot: Slot, picked: Sequence[Option], tolerance: Mapping[str, Fraction]
) -> bool:
    for meter, part in excess.items():
        left = part - sum((one.vectors[slot].get(meter, Fraction(0)) for one in picked), Fraction(0))
        if abs(left) >= tolerance[meter]:
            return False
    return all(meter in excess or not amount for one in picked for meter, amount in one.vectors[slot].items())


def _amounts(picked: Sequence[Option], slot: Slot) -> tuple[tuple[str, Fraction], ...]:
    """What a set of causes gives to each residual."""
    sums: dict[str, Fraction] = {}
    for one in picked:
        sums[one.cause] = sums.get(one.cause, Fraction(0)) + sum(one.vectors[slot].values(), Fraction(0))
    return tuple(sorted(sums.items()))


class Subset(NamedTuple):
    """A part of the log's rows, priced as if it were the log: its pieces, and its calls."""

    pieces: tuple[Piece, ...]
    found: Statement


class Priced:
    """Parts of one log, priced by one catalog and one contract; each is made when it is first asked for."""

    def __init__(self, trace: Trace, catalog: Catalog, overlay: Overlay) -> None:
        self.trace, self.catalog = trace, catalog
        # Commitments and capacity hold for the whole: a part of the log has the prices alone.
        self.overlay = Overlay(discount=overlay.discount, path=overlay.path)
        self._made: dict[str, Subset | None] = {}

    def of(self, name: str) -> Subset | None:
        """``duplicates``, ``twins``, ``cancelled``, ``failed``, ``tier=batch``; ``None``: there are none."""
        if name not in self._made:
            self._made[name] = self._price(name)
        return self._made[name]

    def _price(self, name: str) -> Subset | None:
        if name.startswith("tier="):
            part = _at_tier(self.trace, name.removeprefix("tier="))
        else:
            part = _only(self.trace, _MASKS[name])
            if not any(True for _ in part.chunks()):
                return None
        found = statement(part, self.catalog, bucket="hour")
        return Subset(contract(found, self.overlay).pieces, found)


def _outcomes(*outcomes: Outcome) -> Callable[[Chunk], Mask]:
    return lambda chunk: np.isin(chunk.outcome, [int(one) for one in outcomes])


def _twins(chunk: Chunk) -> Mask:
    """Rows that equal an earlier row of the same moment in every column that tells calls apart."""
    names = ("arrival_ns", "input_tok", "output_tok", "cached_tok", "model", "session", "tenant", "workload",
             "prompt_key", "credential", "account")  # fmt: skip
    columns = [np.asarray(getattr(chunk, name)) for name in names if getattr(chunk, name) is not None]
    order = np.lexsort([np.arange(len(chunk)), *reversed(columns)])
    same = np.ones(max(0, len(chunk) - 1), np.bool_)
    for column in columns:
        same &= column[order][1:] == column[order][:-1]
    found = np.zeros(len(chunk), np.bool_)
    found[order[1:]] = same
    return found


_MASKS: Mapping[str, Callable[[Chunk], Mask]] = {
    "duplicates": _outcomes(Outcome.DUPLICATE),
    "twins": _twins,
    "cancelled": _outcomes(Outcome.CANCELLED),
    "failed": _outcomes(Outcome.ERROR, Outcome.RETRY),
}


def _only(trace: Trace, mask: Callable[[Chunk], Mask]) -> Trace:
    """The rows that a mask picks, as calls that ended well."""

    def read() -> Iterator[Chunk]:
        for chunk in trace.chunks():
            rows = chunk.take(mask(chunk))
            if len(rows):
                yield replace(rows, outcome=np.zeros(len(rows), np.int8))

    return replace(trace, read=read)


def _at_tier(trace: Trace, tier: str) -> Trace:
    def read() -> Iterator[Chunk]:
        for chunk in trace.chunks():
            yield replace(chunk, tier=np.zeros(len(chunk), np.int32))

    return replace(trace, names={**trace.names, "tier": (tier,)}, columns=trace.columns | {"tier"}, read=read)


Keep = Callable[[Piece], bool]
Ours = Mapping[Slot, Mapping[str, Cell]]


def options_of(log: Priced, keep: Keep, ours: Ours, dims: Dims, shift_h: int) -> list[Option]:
    """Every cause with a known vector, for the pieces that ``keep`` picks (a provider's, of a period)."""

    def option(name: str, cause: str, said: str, sign: int) -> Option:
        part = log.of(name)
        if part is None:
            return Option(cause, said, name, {}, {}, "calls")
        vectors = vector([one for one in part.pieces if keep(one)], dims, shift_h)
        signed = {
            slot: {meter: sign * one for meter, one in meters.items()} for slot, meters in vectors.items()
        }
        return Option(cause, said, name, signed, requests_by(part.found, dims, shift_h), "calls")

    once = any(one.code == "equal_rows" for one in log.trace.findings)
    found = [
        option("duplicates", "duplicates", "rows that repeat a request id were billed again", 1),
        option("twins", "duplicates", "rows that are in the log twice were billed once", -1)
        if once
        else None,
        option("cancelled", "cancelled streams", "cancelled calls were not billed", -1),
        option("failed", "retries", "failed attempts were not billed", -1),
    ]
    options = [one for one in found if one is not None and one.vectors]
    options += _tier_options(log, keep, ours, dims, shift_h)
    options += _cache_options(log.catalog, ours, dims)
    return options


def _tier_options(log: Priced, keep: Keep, ours: Ours, dims: Dims, shift_h: int) -> Iterator[Option]:
    """The usage of a slot at another tier, where all of it has a price there."""
    for tier in TIERS:
        part = log.of(f"tier={tier}")
        if part is None:
            continue
        there = vector([one for one in part.pieces if keep(one)], dims, shift_h)
        counts: dict[Slot, dict[str, int]] = {}
        for one in part.pieces:
            if keep(one):
                slot, meter = cell_of(one, dims, shift_h)
                mine = counts.setdefault(slot, {})
                mine[meter] = mine.get(meter, 0) + one.line.quantity
        moved: Vectors = {}
        for slot, cells in ours.items():
            held = {meter: cell.quantity for meter, cell in cells.items() if cell.pieces}
            if held and held == counts.get(slot):
                moved[slot] = {meter: there[slot][meter] - cells[meter].ours for meter in held}
        totals = {slot: sum(counts[slot].values()) for slot in moved}
        yield Option("tier", f"it was billed at the {tier} tier", "tier", moved, totals, "tokens")


def _cache_options(catalog: Catalog, ours: Ours, dims: Dims) -> Iterator[Option]:
    """Other readings of the same cached tokens."""
    names = {
        "plain": "cached tokens were billed as plain input",
        "beside": "cached tokens were counted beside the input, not within it",
        "within": "the input that was logged held no cached tokens",
        "unwritten": "cache writes were billed as plain input",
        "hour": "cache writes were billed as kept for an hour",
    }
    vectors: dict[str, Vectors] = {name: {} for name in names}
    tokens: dict[str, dict[Slot, int]] = {name: {} for name in names}
    for slot, cells in ours.items():
        pieces = [piece for cell in cells.values() for piece in cell.pieces]
        plain = {_place(one.line): one.rate_fusd for one in pieces if one.line.meter == "input"}
        for piece in pieces:
            line = piece.line
            if line.meter not in ("cache_read", "cache_write"):
                continue
            rate = plain.get(_place(line)) or _rate(catalog, line, "input")
            if rate is None:
                continue
            as_input = Fraction(line.quantity * rate)
            gone = -Fraction(piece.billed_fusd)
            read = line.meter == "cache_read"
            changes = {
                ("plain" if read else "unwritten"): {line.meter: gone, "input": as_input},
                **({"beside": {"input": as_input}, "within": {"input": -as_input}} if read else {}),
            }
            hour = None if read else _rate(catalog, line, "cache_write_1h")
            if hour is not None:
                changes["hour"] = {"cache_write": gone, "cache_write_1h": Fraction(line.quantity * hour)}
            for name, change in changes.items():
                mine = vectors[name].setdefault(slot, {})
                tokens[name][slot] = tokens[name].get(slot, 0) + line.quantity
                for meter, part in change.items():
                    key = meter if dims.meter else ""
                    mine[key] = mine.get(key, Fraction(0)) + part
    for name, said in names.items():
        yield Option("cache semantics", said, "cache", vectors[name], tokens[name], "tokens")


def _place(line: Line) -> tuple[str, ...]:
    return line.period, line.model, line.tier, line.region, line.tenant, line.workload, line.credential


def _rate(catalog: Catalog, line: Line, meter: str) -> int | None:
    """The list price of another meter where a line was used; the base band, outside windows."""
    if not line.offering:
        return None
    at = catalog.at(date.fromisoformat(line.day))
    found = rates(at, Offering(line.offering, line.provider), line.tier, line.region).meters.get(meter)
    return found.fusd if found is not None else None
