"""Load the facts and answer for a date. An unknown fact raises; it is never zero."""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar, TypeVarTuple, cast, get_args

from isocost.catalog.fact import Attribute, Fact, Kind, Source
from isocost.errors import BadFact, UnknownFact
from isocost.toml import not_utf8

FACTS_DIR = Path(__file__).parent / "facts"
COLUMNS = (
    "subject", "attribute", "when", "value", "unit", "low", "high", "valid_from", "valid_to",
    "source", "quote", "checked", "kind", "boundary", "note",
)  # fmt: skip
_REQUIRED = ("subject", "attribute", "value", "source", "checked", "kind")
_KINDS = frozenset(get_args(Kind))

DATES_KEPT = 8
"""Dates of which a catalog keeps what it has answered: a plan asks again and again of a few."""

T = TypeVar("T")
Asked = TypeVarTuple("Asked")


class Key(NamedTuple):
    """What a fact is about, without its dates."""

    subject: str
    attribute: str
    when: str


class Row(NamedTuple):
    """A row as it was read: its fields in the order of ``COLUMNS``, and where it stands.

    ``layer`` is the number of the folder it came from: a fact of a later folder goes before one of an
    earlier folder.
    """

    fields: Sequence[str]
    file: str
    line: int
    layer: int

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"


class Catalog:
    """All facts with their sources, over all dates. Immutable once loaded; ``at(date)`` answers.

    Rows become facts when they are first asked for, because most runs read a small part of them.
    """

    def __init__(
        self,
        facts: Sequence[Fact],
        sources: dict[str, Source],
        attributes: dict[tuple[str, str], Attribute],
        basis: str,
        rows: Sequence[Row] = (),
    ) -> None:
        self.sources, self.attributes, self.basis, self.rows = sources, attributes, basis, tuple(rows)
        self._given = tuple(facts)
        self._rows: dict[tuple[str, str, str], list[Row]] = {}
        self._held: dict[tuple[str, str, str], tuple[tuple[int, Fact], ...]] = {}
        self._once: dict[tuple[object, ...], object] = {}
        self._keys: dict[str, tuple[Key, ...]] = {}
        self._at: dict[tuple[date, bool], CatalogAt] = {}
        index = self._rows
        for row in self.rows:
            fields = row[0]
            key = (fields[0], fields[1], fields[2])
            if key in index:
                index[key].append(row)
            else:
                index[key] = [row]
        for fact in self._given:
            self._held.setdefault((fact.subject, fact.attribute, fact.when), ())
            self._held[fact.subject, fact.attribute, fact.when] += ((0, fact),)

    @classmethod
    def load(cls, *folders: Path) -> Catalog:
        """Read every ``*.csv`` of the folders (default: the facts that ship with isocost).

        A fact of a later folder goes before one of an earlier folder, so that
        ``load(FACTS_DIR, mine)`` is the shipped facts with one's own on top. ``basis`` is a content
        hash of what was read: the price basis that a bill or plan names. Rows of other folders than
        the shipped one are read in full at once, so that a mistake in them shows here.

        Raises:
            BadFact: a row that is malformed, with file and line.
        """
        folders = folders or (FACTS_DIR,)
        digest = hashlib.sha256()
        attributes: dict[tuple[str, str], Attribute] = {}
        sources: dict[str, Source] = {}
        rows: list[Row] = []
        for folder in folders:
            for where, fields in _table(folder / "attributes.csv", digest):
                attribute = _attribute(fields, where)
                attributes[attribute.subject, attribute.attribute] = attribute
            for where, fields in _table(folder / "sources.csv", digest):
                source = _source(fields, where)
                sources[source.id] = source
        for layer, folder in enumerate(folders):
            for path in sorted(folder.glob("*.csv")):
                if path.name not in ("attributes.csv", "sources.csv"):
                    rows += _rows(path, digest, layer)
        _known_attributes(rows, attributes)
        catalog = cls((), sources, attributes, digest.hexdigest()[:12], rows)
        is_own = [folder != FACTS_DIR for folder in folders]
        for row in rows:
            if is_own[row.layer]:
                _fact(row, attributes)
        return catalog

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """Every fact, in the order of the files.

        Raises:
            BadFact: a row that is malformed, with file and line.
        """
        return (*self._given, *(_fact(row, self.attributes) for row in self.rows))

    def at(self, on: date, *, expected: bool = False) -> CatalogAt:
        """The facts in force on a date; ``expected`` ones only when asked for."""
        known = self._at.pop((on, expected), None) or CatalogAt(self, on, expected)
        self._at[on, expected] = known
        if len(self._at) > DATES_KEPT:
            del self._at[next(iter(self._at))]
        return known

    def history(self, subject: str, attribute: str, when: str = "") -> tuple[Fact, ...]:
        """Every dated value of one attribute, oldest first."""
        found = [fact for _, fact in self.held((subject, attribute, when))]
        return tuple(sorted(found, key=lambda fact: fact.valid_from or date.min))

    def held(self, key: tuple[str, str, str]) -> tuple[tuple[int, Fact], ...]:
        """The facts of one key over all dates, each with the number of its folder."""
        held = self._held.get(key)
        if held is None:
            rows = self._rows.get(key)
            if rows is None:
                return ()
            held = self._held[key] = tuple((row.layer, _fact(row, self.attributes)) for row in rows)
        return held

    def subjects(self, prefix: str = "") -> tuple[str, ...]:
        """Subjects that start with ``prefix``, in the order of the files."""
        return tuple(subject for subject in self._by_subject if subject.startswith(prefix))

    def having(self, attribute: str, prefix: str = "") -> tuple[str, ...]:
        """Subjects that start with ``prefix`` and have an attribute at some time under some ``when``."""
        keys = self._by_attribute.get(attribute, ())
        return tuple(dict.fromkeys(key[0] for key in keys if key[0].startswith(prefix)))

    def about(self, subject: str) -> tuple[Fact, ...]:
        """Every fact of a subject."""
        return tuple(fact for key in self._by_subject.get(subject, ()) for _, fact in self.held(key))

    def keys(self, subject: str) -> tuple[Key, ...]:
        """What the catalog holds of a subject, without the dates."""
        found = self._keys.get(subject)
        if found is None:
            found = self._keys[subject] = tuple(Key(*key) for key in self._by_subject.get(subject, ()))
        return found

    def once(self, build: Callable[[Catalog, *Asked], T], *asked: *Asked) -> T:
        """What ``build`` makes of this catalog and ``asked``, made the first time it is asked for."""
        key = (build, *asked)
        if key not in self._once:
            self._once[key] = build(self, *asked)
        return cast(T, self._once[key])

    @cached_property
    def _by_subject(self) -> dict[str, list[tuple[str, str, str]]]:
        return self._grouped(0)

    @cached_property
    def _by_attribute(self) -> dict[str, list[tuple[str, str, str]]]:
        return self._grouped(1)

    def _grouped(self, part: int) -> dict[str, list[tuple[str, str, str]]]:
        found: dict[str, list[tuple[str, str, str]]] = {}
        for key in chain(self._held, (key for key in self._rows if key not in self._held)):
            name = key[part]
            if name in found:
                found[name].append(key)
            else:
                found[name] = [key]
        return found


class CatalogAt:
    """A catalog on one date."""

    def __init__(self, catalog: Catalog, on: date, expected: bool = False) -> None:
        self.catalog, self.on, self.expected = catalog, on, expected
        self._found: dict[tuple[str, str, str], Fact | None] = {}
        self._once: dict[tuple[object, ...], object] = {}

    def once(self, build: Callable[[CatalogAt, *Asked], T], *asked: *Asked) -> T:
        """What ``build`` makes of this date's facts and ``asked``, made the first time it is asked for."""
        key = (build, *asked)
        if key not in self._once:
            self._once[key] = build(self, *asked)
        return cast(T, self._once[key])

    def find(self, subject: str, attribute: str, when: str = "") -> Fact | None:
        """The fact in force, or ``None`` where the catalog does not hold one."""
        key = (subject, attribute, when)
        if key not in self._found:
            self._found[key] = self._in_force(key)
        return self._found[key]

    def _in_force(self, key: tuple[str, str, str]) -> Fact | None:
        best: tuple[int, date, Fact] | None = None
        for layer, fact in self.catalog.held(key):
            if not fact.holds(self.on) or (fact.kind == "expected" and not self.expected):
                continue
            since = fact.valid_from or date.min
            if best is None or (layer, since) >= best[:2]:
                best = (layer, since, fact)
        return best[2] if best else None

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
            fix=self._near(subject, attribute),
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
        for key in self.catalog._by_attribute.get(attribute, ()):
            if key[0].startswith(prefix):
                found = self.find(*key)
                if found is not None:
                    yield found

    def _near(self, subject: str, attribute: str) -> str:
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


def _read(path: Path, digest: hashlib._Hash) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file with their numbers, the header first; nothing where there is no file."""
    if not path.exists():
        return
    raw = path.read_bytes()
    digest.update(path.name.encode() + b"\0" + raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise BadFact(not_utf8(wrong), where=path.name, fix="Save it as UTF-8") from None
    reader = csv.reader(text.splitlines())
    width = 0
    for row in reader:
        width = width or len(row)
        if len(row) != width:
            raise BadFact(
                f"{len(row)} fields, the header has {width}",
                where=f"{path.name}:{reader.line_num}",
                fix="Quote fields that hold a comma",
            )
        yield reader.line_num, row


def _table(path: Path, digest: hashlib._Hash) -> Iterator[tuple[str, dict[str, str]]]:
    lines = _read(path, digest)
    _, header = next(lines, (0, []))
    for number, row in lines:
        yield f"{path.name}:{number}", dict(zip(header, row, strict=True))


def _rows(path: Path, digest: hashlib._Hash, layer: int) -> list[Row]:
    """The rows of a facts file; a file of one's own may leave out columns that it does not need."""
    lines = _read(path, digest)
    _, header = next(lines, (0, list(COLUMNS)))
    name = path.name
    if tuple(header) == COLUMNS:
        return [Row(row, name, number, layer) for number, row in lines]
    missing = [column for column in _REQUIRED if column not in header]
    strange = [column for column in header if column not in COLUMNS]
    if missing or strange:
        what = (
            f"column {missing[0]!r} is missing" if missing else f"column {strange[0]!r} is not one of a fact"
        )
        raise BadFact(what, where=f"{name}:1", fix=f"The columns are {','.join(COLUMNS)}")
    place = [header.index(column) if column in header else -1 for column in COLUMNS]
    return [Row(["" if at < 0 else row[at] for at in place], name, number, layer) for number, row in lines]


def _known_attributes(rows: Sequence[Row], attributes: dict[tuple[str, str], Attribute]) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        kind, attribute = row.fields[0].partition("/")[0], row.fields[1]
        if (kind, attribute) in seen:
            continue
        if (kind, attribute) not in attributes:
            raise BadFact(
                f"attribute {attribute!r} of {row.fields[0]!r} is not in attributes.csv",
                where=row.where,
                fix="Check its spelling, or add a row to attributes.csv",
            )
        seen.add((kind, attribute))


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
        number = float(text)
    except ValueError:
        raise BadFact(f"{text!r} is not a number", where=where) from None
    if number != number or number in (float("inf"), float("-inf")):
        raise BadFact(f"{text!r} is not a finite number", where=where)
    return number


def _attribute(row: dict[str, str], where: str) -> Attribute:
    try:
        if row["type"] not in ("number", "integer", "text", "flag"):
            raise BadFact(f"type {row['type']!r}", where=where, fix="Use number, integer, text or flag")
        return Attribute(**row)  # type: ignore[arg-type]
    except (KeyError, TypeError) as wrong:
        raise BadFact(f"not a row of attributes: {wrong}", where=where) from None


def _source(row: dict[str, str], where: str) -> Source:
    try:
        read = _date(row["read"], where)
        if read is None:
            raise BadFact("a source without the date it was read", where=where)
        return Source(**{**row, "read": read})  # type: ignore[arg-type]
    except (KeyError, TypeError) as wrong:
        raise BadFact(f"not a row of sources: {wrong}", where=where) from None


def _fact(row: Row, attributes: dict[tuple[str, str], Attribute]) -> Fact:
    where = row.where
    (
        subject, attribute, when, text, unit, low, high, valid_from, valid_to,
        source, quote, checked, kind, boundary, note,
    ) = row.fields  # fmt: skip
    value: float | str = text
    if attributes[subject.partition("/")[0], attribute].type in ("number", "integer"):
        number = _number(text, where)
        if number is None:
            raise BadFact("no value", where=where, fix="Leave out what is unknown")
        value = number
    day = _date(checked, where)
    if day is None:
        raise BadFact("no date of checking", where=where)
    if kind not in _KINDS:
        raise BadFact(f"kind {kind!r}", where=where, fix=f"Use one of {', '.join(sorted(_KINDS))}")
    return Fact(
        subject, attribute, when, value, unit, _number(low, where), _number(high, where),
        _date(valid_from, where), _date(valid_to, where), source, quote, day, cast(Kind, kind),
        boundary, note,
    )  # fmt: skip
