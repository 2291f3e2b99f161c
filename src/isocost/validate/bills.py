"""Our bill against bills that are known to be right.

A file has the columns of ``COLUMNS``: one usage record a row with its right amount and the rule that it
tests. A row passes where our amount is the same to the digit and is not a lower bound; where the right
answer is that there is no price, or only a lower bound, where ours says just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from isocost.bill import Status, Usage, price
from isocost.catalog import Catalog
from isocost.catalog.names import resolve
from isocost.errors import BadInput, UnknownFact
from isocost.validate.table import rows_of

COLUMNS = (
    "id", "provider", "model", "at", "tier", "region", "input_uncached", "cache_read", "cache_write_5m",
    "cache_write_1h", "output_total", "reasoning", "audio_in", "audio_cached", "audio_out", "web_searches",
    "expected_usd",
)  # fmt: skip
"""Columns that are read. Counts are of tokens; audio input is beside the other input, audio output
inside the output; ``at`` is an ISO moment; ``expected_usd`` the right bill: an amount, ``>=`` and an amount
where some of the usage has no price, or ``unpriced`` where none of it has one."""

UNPRICED = "unpriced"

_WANTED: Mapping[str, str] = {
    "at": "not a moment; write 2026-11-10T15:00:00Z",
    "expected_usd": "neither an amount, >= and an amount, nor 'unpriced'",
}
"""What a cell that is no count ought to be."""


class Case(msgspec.Struct, frozen=True):
    """One row compared: ``ours_usd`` is ``None`` where nothing is priced; ``why`` says what is wrong.

    ``expected`` says how much of the usage has a price, ``expected_usd`` what that costs: ``None`` where
    nothing has one.
    """

    id: str
    expected: Status
    expected_usd: Decimal | None
    ours_usd: Decimal | None
    passed: bool
    why: str = ""


class Result(msgspec.Struct, frozen=True):
    """All rows of a file."""

    cases: tuple[Case, ...]

    @property
    def passed(self) -> int:
        """How many rows are right."""
        return sum(case.passed for case in self.cases)

    @property
    def passed_ids(self) -> tuple[str, ...]:
        """The ids of the rows that are right."""
        return tuple(case.id for case in self.cases if case.passed)

    @property
    def failed_ids(self) -> tuple[str, ...]:
        """The ids of the others."""
        return tuple(case.id for case in self.cases if not case.passed)


class BillsReport(msgspec.Struct, frozen=True):
    """What of a file is right: ids of the rows that are and are not; of the wrong ones what we say."""

    rows: int
    passed: int
    failed: tuple[str, ...]
    passed_ids: tuple[str, ...]
    wrong: tuple[Case, ...]


def validate_bills(file: Path, catalog: Catalog | None = None) -> BillsReport:
    """Price every row of a file, by the shipped facts without ``catalog``, and compare.

    Raises:
        BadInput: the file lacks a column or holds a value that cannot be read.
    """
    found = bills(catalog or Catalog.load(), file)
    wrong = tuple(case for case in found.cases if not case.passed)
    return BillsReport(len(found.cases), found.passed, found.failed_ids, found.passed_ids, wrong)


def bills(catalog: Catalog, file: Path) -> Result:
    """Price every row of a file and compare.

    Raises:
        BadInput: the file lacks a column or holds a value that cannot be read.
    """
    return Result(tuple(_case(catalog, row, where) for row, where in rows_of(file, COLUMNS)))


def _case(catalog: Catalog, row: dict[str, str], where: str) -> Case:
    name = "at"
    try:
        at = datetime.fromisoformat(row[name].strip())
        name = "expected_usd"
        expected, amount = _expected(row[name].strip())
        count: dict[str, int] = {}
        for name in COLUMNS[6:16]:
            count[name] = int(row[name].strip() or 0)
    except (ValueError, InvalidOperation):
        raise BadInput(f"{name} is {row[name]!r}, {_WANTED.get(name, 'not a count')}", where=where) from None
    usage = Usage(
        input_tok=sum(count[name] for name in COLUMNS[6:10]) + count["audio_in"] + count["audio_cached"],
        cached_tok=count["cache_read"] + count["audio_cached"],
        cache_write_tok=count["cache_write_5m"],
        cache_write_1h_tok=count["cache_write_1h"],
        output_tok=count["output_total"],
        audio_input_tok=count["audio_in"],
        audio_cached_tok=count["audio_cached"],
        audio_output_tok=count["audio_out"],
        web_searches=count["web_searches"],
    )
    try:
        offering = resolve(catalog.at(at.date()), row["model"], row["provider"])
    except UnknownFact as unknown:
        said = "" if expected == UNPRICED else unknown.line()
        return Case(row["id"], expected, amount, None, expected == UNPRICED, said)
    priced = price(catalog, offering, usage, at, row["tier"], row["region"])
    ours = None if priced.status == UNPRICED else priced.usd
    right = priced.status == expected and ours == amount
    why = "" if right else f"{offering.subject}: {_said(priced.status, ours)}, not {_said(expected, amount)}"
    return Case(
        row["id"], expected, amount, ours, right, f"{why}; {priced.why}" if why and priced.why else why
    )


def _expected(text: str) -> tuple[Status, Decimal | None]:
    if text == UNPRICED:
        return "unpriced", None
    if text.startswith(">="):
        return "partial", Decimal(text[2:])
    return "priced", Decimal(text)


def _said(status: Status, usd: Decimal | None) -> str:
    if usd is None:
        return "unpriced"
    return f"at least {usd}" if status == "partial" else str(usd)
