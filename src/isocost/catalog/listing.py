"""Rows for `catalog list` and `catalog show`: pure functions; who prints them is another matter."""

from __future__ import annotations

import difflib
from collections import Counter
from datetime import date

import msgspec

from isocost.catalog.catalog import CatalogAt
from isocost.catalog.fact import Fact
from isocost.errors import UnknownFact


class Kind(msgspec.Struct, frozen=True):
    """One kind of subject (``api``, ``model`` …): how many subjects and facts it has."""

    kind: str
    subjects: int
    facts: int


class Subject(msgspec.Struct, frozen=True):
    """One subject: its facts in force, and the oldest day on which one of them was checked."""

    subject: str
    facts: int
    oldest_check: date | None


class Shown(msgspec.Struct, frozen=True):
    """One fact as `catalog show` prints it; ``in_force`` is false for the past and the announced."""

    attribute: str
    when: str
    value: str
    unit: str
    interval: str
    since: str
    until: str
    kind: str
    in_force: bool
    source: str
    address: str
    checked: str
    quote: str
    note: str
    meaning: str


def kinds(catalog_at: CatalogAt) -> list[Kind]:
    """The kinds of subject that the catalog holds, the largest first."""
    subjects: Counter[str] = Counter()
    facts: Counter[str] = Counter()
    for subject in catalog_at.catalog.subjects():
        kind = subject.partition("/")[0]
        subjects[kind] += 1
        facts[kind] += len(catalog_at.catalog.about(subject))
    return [Kind(kind, number, facts[kind]) for kind, number in subjects.most_common()]


def subjects(catalog_at: CatalogAt, prefix: str = "") -> list[Subject]:
    """Subjects that start with a prefix (``api/groq``, ``model/``) and have a fact in force.

    Raises:
        UnknownFact: nothing starts with it; near subjects are named.
    """
    found = []
    for subject in catalog_at.catalog.subjects(prefix):
        held = [fact for fact in catalog_at.catalog.about(subject) if _in_force(catalog_at, fact)]
        if held:
            found.append(Subject(subject, len(held), min(fact.checked for fact in held)))
    if not found and prefix:
        raise UnknownFact("nothing starts with it", where=prefix, fix=_near(catalog_at, prefix))
    return found


def show(catalog_at: CatalogAt, subject: str) -> list[Shown]:
    """Every fact of a subject: those in force first, then the past and the announced.

    Raises:
        UnknownFact: no such subject; near ones are named.
    """
    facts = catalog_at.catalog.about(subject)
    if not facts:
        raise UnknownFact("no such subject", where=subject, fix=_near(catalog_at, subject))
    rows = [_shown(catalog_at, fact) for fact in facts]
    order = list(dict.fromkeys(row.attribute for row in rows))
    rows.sort(key=lambda row: (not row.in_force, order.index(row.attribute), row.when, row.since))
    return rows


def _shown(catalog_at: CatalogAt, fact: Fact) -> Shown:
    catalog = catalog_at.catalog
    source = catalog.sources.get(fact.source)
    spec = catalog.attributes.get((fact.subject.partition("/")[0], fact.attribute))
    interval = ""
    if fact.low is not None or fact.high is not None:
        interval = f"{_number(fact.low)}..{_number(fact.high)}"
    return Shown(
        attribute=fact.attribute,
        when=fact.when,
        value=fact.value if isinstance(fact.value, str) else _number(fact.value),
        unit="" if fact.unit == "1" else fact.unit,
        interval=interval,
        since=fact.valid_from.isoformat() if fact.valid_from else "",
        until=fact.valid_to.isoformat() if fact.valid_to else "",
        kind=fact.kind,
        in_force=_in_force(catalog_at, fact),
        source=source.title if source else fact.source,
        address=source.address if source else "",
        checked=fact.checked.isoformat(),
        quote=fact.quote,
        note=fact.note,
        meaning=spec.description if spec else "",
    )


def _in_force(catalog_at: CatalogAt, fact: Fact) -> bool:
    return catalog_at.find(fact.subject, fact.attribute, fact.when) == fact


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:.12g}"


def _near(catalog_at: CatalogAt, name: str) -> str:
    known = catalog_at.catalog.subjects()
    inside = [subject for subject in known if name.lower() in subject.lower()][:3]
    close = inside or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Near: {', '.join(close)}" if close else "Type 'isocost catalog list' to see what there is"
