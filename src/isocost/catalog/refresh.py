"""What a newer source of prices would change: rows to read and accept, never written over the facts.

A refresh compares what a source states with what the catalog holds, and never goes back in time: a change
that a source dates before a day on which the catalog was checked, or before the segment in force, would
reprice what was billed already; it is a conflict that a person settles.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from isocost.catalog import genai
from isocost.catalog.catalog import COLUMNS, Catalog
from isocost.catalog.fact import Fact
from isocost.catalog.genai import Stated
from isocost.errors import BadInput

What = Literal["new", "changed", "expected", "gone", "conflict"]


class Proposal(msgspec.Struct, frozen=True):
    """One difference: what the catalog holds and what the source states, blank where it holds nothing.

    ``new``: a price that the catalog lacks; ``changed``: another value from ``valid_from`` on;
    ``expected``: announced for a day to come; ``gone``: the source states it no more; ``conflict``: the
    source dates the change before what the catalog was checked for.
    """

    what: What
    subject: str
    attribute: str
    when: str
    unit: str
    held: str
    stated: str
    valid_from: date | None
    valid_to: date | None
    why: str = ""


class Refresh(msgspec.Struct, frozen=True):
    """Every difference between the catalog and a source on a day.

    ``same`` counts prices that agree; ``left_out`` offerings that cannot be compared, with daily windows.
    """

    source: str
    on: date
    same: int
    left_out: tuple[str, ...]
    proposals: tuple[Proposal, ...]

    def of(self, what: What) -> tuple[Proposal, ...]:
        """The differences of one kind."""
        return tuple(one for one in self.proposals if one.what == what)


def from_package(catalog: Catalog, on: date) -> Refresh:
    """Compare with the installed genai-prices package.

    Raises:
        BadInput: it is not installed.
    """
    providers, source = genai.package()
    found: list[Stated] = []
    left_out: list[str] = []
    for subject, _, model in genai.offerings(providers):
        if any(genai.window(constraint) for constraint, _ in genai.lists(model)):
            left_out.append(subject)
        else:
            found += genai.stated(subject, genai.spans(model), on)
    hosts = set(genai.PROVIDERS.values())
    return compare(catalog, found, source, on, tuple(left_out), hosts)


def from_file(catalog: Catalog, file: Path, on: date) -> Refresh:
    """Compare with the prices of a file of facts. What it does not state is not gone.

    Raises:
        BadInput: it lacks a column, or a value cannot be read.
    """
    found = []
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        missing = {"subject", "attribute", "when", "value"} - set(reader.fieldnames or ())
        if missing:
            raise BadInput(
                f"no column {min(missing)!r}", where=str(file), fix=f"The columns are {','.join(COLUMNS)}"
            )
        for row in reader:
            if ("api", row["attribute"]) not in catalog.attributes:
                continue
            unit = catalog.attributes["api", row["attribute"]].unit
            try:
                days = [date.fromisoformat(row.get(name) or "") if row.get(name) else None for name in _DAYS]
                text = genai.text(Decimal(row["value"])) if unit else row["value"]
            except (ValueError, ArithmeticError) as wrong:
                raise BadInput(str(wrong), where=f"{file}:{reader.line_num}") from None
            if row["subject"].startswith("api/") and unit.startswith("USD"):
                found.append(
                    Stated(row["subject"], row["attribute"], row["when"], text, unit, days[0], days[1])
                )
    return compare(catalog, found, file.stem, on)


_DAYS = ("valid_from", "valid_to")


def compare(
    catalog: Catalog,
    found: Iterable[Stated],
    source: str,
    on: date,
    left_out: Sequence[str] = (),
    hosts: Iterable[str] = (),
) -> Refresh:
    """What a source that states ``found`` would change on a day.

    A price that the catalog holds from an earlier reading of the same kind of source, at one of ``hosts``
    and of an attribute that the source states, is gone where the source states it no more.
    """
    keys: dict[tuple[str, str, str], list[Stated]] = {}
    for one in found:
        keys.setdefault((one.subject, one.attribute, one.when), []).append(one)
    proposals: list[Proposal] = []
    same = 0
    for segments in keys.values():
        mine = [proposal for one in segments if (proposal := _of(catalog, one, on)) is not None]
        proposals += mine
        same += not mine
    family, states = source.rpartition("-")[0], {key[1] for key in keys}
    for host in sorted(hosts):
        for subject in catalog.subjects(f"api/{host}/"):
            if subject in left_out:
                continue
            for key in catalog.keys(subject):
                held = catalog.at(on).find(*key)
                # What is worked out from the source's rows is none of its rows.
                if (
                    held is not None
                    and held.kind != "derived"
                    and key.attribute in states
                    and held.source.startswith(family)
                    and not _stated(keys.get((key.subject, key.attribute, key.when), ()), on)
                ):
                    proposals.append(_proposal("gone", held, None, _text(held), on, "no longer stated"))
    return Refresh(source, on, same, tuple(left_out), tuple(proposals))


def _stated(segments: Iterable[Stated], on: date) -> bool:
    """Whether one of the segments holds on a day."""
    return any((one.since or date.min) <= on < (one.until or date.max) for one in segments)


def _of(catalog: Catalog, one: Stated, on: date) -> Proposal | None:
    """The difference that a segment makes; ``None`` where it says what is held, or nothing of today."""
    if one.until is not None and one.until <= on:
        return None
    key = (one.subject, one.attribute, one.when)
    if one.since is not None and one.since > on:
        announced = [
            fact
            for fact in catalog.history(*key)
            if fact.valid_from == one.since and _text(fact) == one.value
        ]
        return None if announced else _proposal("expected", None, one, "", one.since, "announced")
    held = catalog.at(on).find(*key)
    if held is None:
        if not catalog.keys(one.subject):
            return _proposal("new", None, one, "", one.since, "an offering that the catalog lacks")
        return _proposal("new", None, one, "", one.since or on, "a price that the catalog lacks")
    if _text(held) == one.value:
        return None
    if one.since is None or (held.valid_from is None and one.since > held.checked):
        return _proposal("changed", held, one, _text(held), one.since or on, "")
    if one.since > held.checked and one.since > (held.valid_from or date.min):
        return _proposal("changed", held, one, _text(held), one.since, "")
    if held.valid_from is not None and one.since < held.valid_from:
        why = f"dated {one.since}, before the segment in force, which starts {held.valid_from}"
    else:
        why = f"dated {one.since}; on {held.checked} the catalog's source still said {_text(held)}"
    return _proposal("conflict", held, one, _text(held), one.since, why)


def _proposal(
    what: What, held: Fact | None, one: Stated | None, value: str, since: date | None, why: str
) -> Proposal:
    about = one or held
    assert about is not None
    stated, until = (one.value, one.until) if one else ("", None)
    return Proposal(
        what, about.subject, about.attribute, about.when, about.unit, value, stated, since, until, why
    )


def _text(fact: Fact) -> str:
    return genai.text(Decimal(repr(fact.value))) if isinstance(fact.value, float) else str(fact.value)


def rows(refresh: Refresh) -> list[list[str]]:
    """New, changed and expected prices as rows of a facts file, which go before the shipped ones."""
    found = []
    for one in refresh.proposals:
        if one.what in ("new", "changed", "expected"):
            days = [day.isoformat() if day else "" for day in (one.valid_from, one.valid_to)]
            kind = "expected" if one.what == "expected" else "published"
            found.append([one.subject, one.attribute, one.when, one.stated, one.unit, "", "", *days,
                          refresh.source, "", refresh.on.isoformat(), kind, "", ""])  # fmt: skip
    return found


def write(refresh: Refresh, folder: Path) -> tuple[Path, ...]:
    """Write the proposals into a folder of facts of one's own, and what a person must settle beside it.

    ``prices.csv`` and ``sources.csv`` are facts, usable at once with ``--facts``; ``settle.txt`` lists what
    is gone and what conflicts. Raises OSError where the folder cannot be written.
    """
    prices, sources, settle = (folder / name for name in ("prices.csv", "sources.csv", "settle.txt"))
    with prices.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows(refresh))
    with sources.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "title", "address", "publisher", "licence", "read", "note"))
        writer.writerow((refresh.source, refresh.source, "", "", "", refresh.on.isoformat(), ""))
    lines = [
        f"{one.what}: {one.subject} {one.attribute} {one.when}".rstrip()
        + f": held {one.held}, stated {one.stated or '-'}; {one.why}\n"
        for one in refresh.proposals
        if one.what in ("gone", "conflict")
    ]
    settle.write_text("".join(lines), encoding="utf-8")
    return prices, sources, settle
