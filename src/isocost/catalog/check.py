"""What is wrong with the facts: each check is a small function whose message says how to mend it."""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec

from isocost.catalog.catalog import Catalog
from isocost.catalog.fact import Fact
from isocost.errors import IsocostError
from isocost.units import UNITS, known

WORDS_OF_A_QUOTE = 25
PEOPLE = "people"
"""``used_by`` of what only ``catalog show`` prints: words that explain other facts."""
UNBUILT = "unbuilt:"
"""Before a room of the design that does not exist yet: its facts wait there, and compute nothing."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: ``what``, ``where`` (file and line, or id) and how to ``mend`` it."""

    what: str
    where: str
    mend: str

    def line(self) -> str:
        """The problem in one line."""
        return f"{self.where}: {self.what}. {self.mend}"


def check(catalog: Catalog, today: date | None = None) -> list[Problem]:
    """Every problem of a catalog, in the order of the checks.

    ``today`` (default: the day on which it runs) is the day after which nothing can have been checked.
    Where a row cannot be read, only that is reported: the other checks need facts.
    """
    unread = list(_unreadable(catalog))
    if unread:
        return unread
    facts = catalog.facts
    when = today or date.today()
    places = {
        id(fact): row.where for fact, row in zip(facts[-len(catalog.rows) :], catalog.rows, strict=False)
    }
    found: list[Problem] = []
    for fact in facts:
        place = places.get(id(fact), fact.id)
        found += [Problem(what, place, mend) for what, mend in _of_fact(catalog, fact, when)]
    found += _contradictory(catalog, facts, places)
    found += _unused(catalog, facts)
    found += _dangling(catalog)
    return found


def _unreadable(catalog: Catalog) -> Iterator[Problem]:
    for row in catalog.rows:
        try:
            catalog.held((row.fields[0], row.fields[1], row.fields[2]))
        except IsocostError as wrong:
            yield Problem(wrong.what, wrong.where or row.where, wrong.fix)


def _of_fact(catalog: Catalog, fact: Fact, today: date) -> Iterator[tuple[str, str]]:
    """What is wrong with one fact by itself: (what, how to mend it)."""
    if fact.source not in catalog.sources:
        yield f"source {fact.source!r} is not in sources.csv", "Add the source, or correct its id"
    spec = catalog.attributes[fact.subject.partition("/")[0], fact.attribute]
    if fact.unit != spec.unit:
        yield (
            f"unit {fact.unit!r}, the attribute's is {spec.unit!r}",
            "Convert the number; one attribute, one unit",
        )
    if spec.type == "integer" and fact.value != int(fact.value):
        yield f"{fact.value} is not whole", "Round it, or make the attribute a number"
    if spec.type == "flag" and fact.value not in ("true", "false"):
        yield f"flag {fact.value!r}", "Write true or false"
    if spec.type == "text" and not fact.value:
        yield "no value", "Leave out what is unknown"
    if fact.valid_from and fact.valid_to and fact.valid_to <= fact.valid_from:
        yield (
            f"ends {fact.valid_to}, before it starts",
            "valid_to is the first day on which it no longer holds",
        )
    if fact.checked > today:
        yield f"checked on {fact.checked}, which is to come", "Write the day on which you read the source"
    if len(fact.quote.split()) > WORDS_OF_A_QUOTE:
        yield f"a quote of {len(fact.quote.split())} words", f"Keep {WORDS_OF_A_QUOTE} at most"
    if fact.when != canonical(fact.when):
        yield f"`when` {fact.when!r} is not canonical", f"Write {canonical(fact.when)!r}"
    yield from _interval(fact)
    if fact.kind == "assumed" and not fact.note:
        yield "an assumption without its reason", "Say in the note why this value"


def _interval(fact: Fact) -> Iterator[tuple[str, str]]:
    if isinstance(fact.value, str):
        if fact.low is not None or fact.high is not None:
            yield "an interval around text", "Leave low and high blank"
        return
    if fact.low is not None and fact.value < fact.low:
        yield f"{fact.value} is below its low {fact.low}", "low and high bound the value"
    if fact.high is not None and fact.value > fact.high:
        yield f"{fact.value} is above its high {fact.high}", "low and high bound the value"


def canonical(when: str) -> str:
    """``when`` as it must be written: ``key=value`` parts, sorted by key, joined by semicolons."""
    parts = [part.strip().partition("=") for part in when.split(";") if part.strip()]
    return ";".join(f"{key.strip()}={value.strip()}" for key, _, value in sorted(parts))


def _contradictory(catalog: Catalog, facts: Sequence[Fact], places: dict[int, str]) -> Iterator[Problem]:
    """Two values of one key in force on one day; a folder of one's own may go before the shipped one."""
    layers = {
        id(fact): row.layer for fact, row in zip(facts[-len(catalog.rows) :], catalog.rows, strict=False)
    }
    groups: dict[tuple[str, str, str, int, bool], list[Fact]] = defaultdict(list)
    for fact in facts:
        key = (fact.subject, fact.attribute, fact.when, layers.get(id(fact), 0), fact.kind == "expected")
        groups[key].append(fact)
    for group in groups.values():
        if len(group) == 1:
            continue
        group.sort(key=lambda fact: fact.valid_from or date.min)
        for before, after in pairwise(group):
            if before.valid_to is None or before.valid_to > (after.valid_from or date.min):
                yield Problem(
                    f"{before.value} and {after.value} both hold from {after.valid_from or 'the beginning'}",
                    f"{places.get(id(after), after.id)} ({after.subject} {after.attribute})",
                    f"End the earlier row on that day, at {places.get(id(before), before.id)}",
                )


def _unused(catalog: Catalog, facts: Iterable[Fact]) -> Iterator[Problem]:
    """Sources and attributes that no fact names, attributes that no code reads, units that are no units."""
    sources, attributes = set(), set()
    for fact in facts:
        sources.add(fact.source)
        attributes.add((fact.subject.partition("/")[0], fact.attribute))
    for source in catalog.sources:
        if source not in sources:
            yield Problem("no fact names this source", f"sources.csv {source}", "Remove it, or cite it")
    for (kind, name), spec in catalog.attributes.items():
        where = f"attributes.csv {kind}.{name}"
        if (kind, name) not in attributes:
            yield Problem("no fact has this attribute", where, "Remove the row, or add a fact")
        if spec.type in ("number", "integer") and not spec.unit:
            yield Problem("a number without a unit", where, "Write its unit, 1 for a plain number")
        if not known(spec.unit):
            words = [word for word in spec.unit.split("/") if word not in UNITS]
            yield Problem(
                f"unit {words[0]!r} is not known", where, "Use a unit of isocost.units, or add it there"
            )
        if spec.used_by == PEOPLE:
            continue
        waits = spec.used_by.startswith(UNBUILT)
        text = _source_code(spec.used_by.removeprefix(UNBUILT))
        if waits:
            if text is not None:
                room = spec.used_by.removeprefix(UNBUILT)
                yield Problem(f"{room} is built now", where, f"Read it there, and write {room}")
            continue
        if text is None:
            yield Problem(f"module {spec.used_by!r} does not exist", where, "Name the module that reads it")
        elif name not in text:
            yield Problem(
                f"{spec.used_by} does not read it", where, "Remove the row, or name the right module"
            )


@cache
def _source_code(module: str) -> str | None:
    """The text of a module, or of every module of a package; ``None`` where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if spec.origin and spec.origin.endswith(".py"):
        files.append(Path(spec.origin))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _dangling(catalog: Catalog) -> Iterator[Problem]:
    """Names of one subject in another that nothing answers to."""
    everywhere = catalog.at(date.max, expected=True)
    gpus = {subject.partition("/")[2] for subject in catalog.subjects("gpu/")}
    for subject in catalog.subjects("rental/"):
        gpu = subject.rpartition("/")[2]
        if gpus and gpu not in gpus:
            yield Problem(f"no gpu/{gpu}", subject, "Add the accelerator, or correct its id")
    models = {subject.partition("/")[2] for subject in catalog.subjects("model/")}
    made = {fact.subject for fact in everywhere.each("api/", "originator")}
    for fact in everywhere.each("api/", "serves"):
        if fact.subject in made:
            models.add(str(fact.value))
    for fact in everywhere.each("api/", "serves"):
        if fact.value not in models:
            yield Problem(
                f"serves {fact.value!r}, which is no model and no maker's offering",
                fact.subject,
                "Add the model, or correct its id",
            )
    yield from _bands(catalog)
    for subject in catalog.subjects("api/"):
        if not any(key.attribute.endswith(("_per_mtok", "per_request")) for key in catalog.keys(subject)):
            yield Problem("an offering without a price", subject, "Add its price, or remove it")


def _bands(catalog: Catalog) -> Iterator[Problem]:
    """Context bands that start at their limit where the provider's start above it, or the reverse."""
    everywhere = catalog.at(date.max, expected=True)
    for rule in everywhere.each("provider/", "band_inclusive"):
        sign = ">=" if rule.value == "true" else ">"
        for subject in catalog.subjects(f"api/{rule.subject.partition('/')[2]}/"):
            for key in catalog.keys(subject):
                found = re.search(r"band=(>=?)\d", key.when)
                if found and found[1] != sign:
                    yield Problem(
                        f"{key.attribute} has a band {found[1]}, the provider's rule says {sign}",
                        f"{subject} {key.when}",
                        "Correct the band, or the rule",
                    )
