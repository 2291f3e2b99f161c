"""Load the facts and answer for a date. An unknown fact raises; it is never zero."""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple, cast, get_args

from isocost.catalog.fact import Attribute, Fact, Kind, Source
from isocost.errors import BadFact, UnknownFact

FACTS_DIR = Path(__file__).parent / "facts"
_KINDS = frozenset(get_args(Kind))


class Key(NamedTuple):
    """What a fact is about, without its dates."""

    subject: str
    attribute: str
    when: str


class Catalog:
    """All facts with their sources, over all dates. Immutable once loaded; ``at(date)`` answers."""

    def __init__(
        self,
        facts: tuple[Fact, ...],
        sources: dict[str, Source],
        attributes: dict[tuple[str, str], Attribute],
        basis: str,
    ) -> None:
        self.facts, self.sources, self.attributes, self.basis = facts, sources, attributes, basis
        self._by_key: dict[Key, list[Fact]] = defaultdict(list)
        self._by_subject: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            self._by_key[Key(fact.subject, fact.attribute, fact.when)].append(fact)
            self._by_subject[fact.subject].append(fact)

    @classmethod
    def load(cls, *folders: Path) -> Catalog:
        """Read every ``*.csv`` of the folders (default: the facts that ship with isocost).

        ``basis`` is a content hash of what was read: the price basis that a bill or plan names.

        Raises:
            BadFact: a row that is malformed, with file and line.
        """
        folders = folders or (FACTS_DIR,)
        digest = hashlib.sha256()
        attributes: dict[tuple[str, str], Attribute] = {}
        sources: dict[str, Source] = {}
        facts: list[Fact] = []
        for folder in folders:
            for name, line, row in _rows(folder / "attributes.csv", digest):
                attribute = _attribute(row, f"{name}:{line}")
                attributes[attribute.subject, attribute.attribute] = attribute
            for name, line, row in _rows(folder / "sources.csv", digest):
                source = _source(row, f"{name}:{line}")
                sources[source.id] = source
        for folder in folders:
            for path in sorted(folder.glob("*.csv")):
                if path.name in ("attributes.csv", "sources.csv"):
                    continue
                for name, line, row in _rows(path, digest):
                    facts.append(_fact(row, attributes, name, line))
        return cls(tuple(facts), sources, attributes, digest.hexdigest()[:12])

    def at(self, on: date, *, expected: bool = False) -> CatalogAt:
        """The facts in force on a date; ``expected`` ones only when asked for."""
        return CatalogAt(self, on, expected)

    def history(self, subject: str, attribute: str, when: str = "") -> tuple[Fact, ...]:
        """Every dated value of one attribute, oldest first."""
        found = self._by_key.get(Key(subject, attribute, when), ())
        return tuple(sorted(found, key=lambda fact: fact.valid_from or date.min))

    def subjects(self, prefix: str = "") -> tuple[str, ...]:
        """Subjects that start with ``prefix``, in the order of the files."""
        return tuple(subject for subject in self._by_subject if subject.startswith(prefix))

    def about(self, subject: str) -> tuple[Fact, ...]:
        """Every fact of a subject."""
        return tuple(self._by_subject.get(subject, ()))


class CatalogAt:
    """A catalog on one date."""

    def __init__(self, catalog: Catalog, on: date, expected: bool = False) -> None:
        self.catalog, self.on, self.expected = catalog, on, expected

    def find(self, subject: str, attribute: str, when: str = "") -> Fact | None:
        """The fact in force, or ``None`` where the catalog does not hold one."""
        best: Fact | None = None
        for fact in self.catalog._by_key.get(Key(subject, attribute, when), ()):
            if not fact.holds(self.on) or (fact.kind == "expected" and not self.expected):
                continue
            if best is None or (fact.valid_from or date.min) > (best.valid_from or date.min):
                best = fact
        return best

    def fact(self, subject: str, attribute: str, when: str = "") -> Fact:
        """The fact in force.

        Raises:
            UnknownFact: none is; the message names near subjects or attributes.
        """
        found = self.find(subject, attribute, when)
        if found is not None:
            return found
        raise UnknownFact(
            f"no fact {attribute!r}{f' when {when}' if when else ''} on {self.on}",
            where=subject,
            fix=self._near(subject, attribute, when),
        )

    def number(self, subject: str, attribute: str, when: str = "") -> float:
        """The value of a numeric fact in force; raises as :meth:`fact` does."""
        value = self.fact(subject, attribute, when).value
        if isinstance(value, str):
            raise UnknownFact(f"{attribute!r} is text, not a number", where=subject)
        return value

    def text(self, subject: str, attribute: str, when: str = "") -> str:
        """The value of a text fact in force; raises as :meth:`fact` does."""
        return str(self.fact(subject, attribute, when).value)

    def each(self, prefix: str, attribute: str) -> Iterator[Fact]:
        """Facts in force of one attribute (any ``when``) over subjects that start with ``prefix``."""
        for key in self.catalog._by_key:
            if key.attribute == attribute and key.subject.startswith(prefix):
                found = self.find(*key)
                if found is not None:
                    yield found

    def _near(self, subject: str, attribute: str, when: str) -> str:
        here = self.catalog.about(subject)
        if not here:
            close = difflib.get_close_matches(subject, self.catalog.subjects(), n=3, cutoff=0.5)
            return f"Near: {', '.join(close)}" if close else "Type 'isocost catalog list'"
        others = [fact for fact in here if fact.attribute == attribute]
        if others:
            spans = {f"{f.valid_from or '...'} to {f.valid_to or '...'} {f.when}".strip() for f in others}
            return f"Known: {'; '.join(sorted(spans)[:4])}"
        near = difflib.get_close_matches(attribute, {f.attribute for f in here}, n=3, cutoff=0.5)
        return f"It has: {', '.join(near or sorted({f.attribute for f in here})[:6])}"


def _rows(path: Path, digest: hashlib._Hash) -> Iterator[tuple[str, int, dict[str, str]]]:
    if not path.exists():
        return
    raw = path.read_bytes()
    digest.update(path.name.encode() + b"\0" + raw)
    reader = csv.reader(raw.decode("utf-8").splitlines())
    header = next(reader, None)
    if header is None:
        return
    for row in reader:
        if len(row) != len(header):
            raise BadFact(
                f"{len(row)} fields, the header has {len(header)}",
                where=f"{path.name}:{reader.line_num}",
                fix="Quote fields that hold a comma",
            )
        yield path.name, reader.line_num, dict(zip(header, row, strict=True))


def _date(text: str, where: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadFact(f"{text!r} is not a date", where=where, fix="Write YYYY-MM-DD") from None


def _number(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise BadFact(f"{text!r} is not a number", where=where) from None


def _attribute(row: dict[str, str], where: str) -> Attribute:
    if row["type"] not in ("number", "integer", "text", "flag"):
        raise BadFact(f"type {row['type']!r}", where=where, fix="Use number, integer, text or flag")
    return Attribute(**row)  # type: ignore[arg-type]


def _source(row: dict[str, str], where: str) -> Source:
    read = _date(row["read"], where)
    if read is None:
        raise BadFact("a source without the date it was read", where=where)
    return Source(**{**row, "read": read})  # type: ignore[arg-type]


def _fact(
    row: dict[str, str], attributes: dict[tuple[str, str], Attribute], name: str, line: int
) -> Fact:
    where = f"{name}:{line}"
    try:
        subject, attribute = row["subject"], row["attribute"]
        spec = attributes.get((subject.partition("/")[0], attribute))
        if spec is None:
            raise BadFact(
                f"attribute {attribute!r} of {subject!r} is not in attributes.csv", where=where
            )
        text = row["value"]
        value: float | str = text
        if spec.type in ("number", "integer"):
            number = _number(text, where)
            if number is None:
                raise BadFact("no value", where=where, fix="Leave out what is unknown")
            value = number
        checked = _date(row["checked"], where)
        if checked is None:
            raise BadFact("no date of checking", where=where)
        if row["kind"] not in _KINDS:
            raise BadFact(f"kind {row['kind']!r}", where=where, fix=f"Use one of {sorted(_KINDS)}")
        return Fact(
            subject, attribute, row["when"], value, row["unit"],
            _number(row["low"], where), _number(row["high"], where),
            _date(row["valid_from"], where), _date(row["valid_to"], where),
            row["source"], row["quote"], checked, cast(Kind, row["kind"]), row["boundary"], row["note"],
        )  # fmt: skip
    except KeyError as missing:
        raise BadFact(f"column {missing} is missing", where=name) from None
