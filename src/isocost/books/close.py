"""A month that is closed stays as it was: usage, prices and overlay frozen, later changes said beside it.

::

    books/2026-10/manifest.toml          what was closed, and the hash of every file
                  lines.parquet, requests.parquet, statement.toml
                  facts.parquet          the rows of the catalog that the month's prices come from
                  overlay.toml           the contract, as it was given (empty: none)
    books/2026-10.restatement-1.toml     what changed since, line by line; the month itself never does
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import msgspec

from isocost.books.contract import contract
from isocost.books.overlay import parse_overlay
from isocost.books.rounding import largest_remainder
from isocost.books.statement import Line, Statement, month_of
from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.units import plural, usd_of

MANIFEST, FACTS, OVERLAY = "manifest.toml", "facts.parquet", "overlay.toml"
_CELL = ("day", "provider", "model", "tier", "region", "tenant", "workload", "meter")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was closed: ``files`` maps names to SHA-256 of their content."""

    month: str
    closed_on: date
    log: str
    log_digest: str
    price_basis: str
    total_usd: str
    at_least: bool
    requests: int
    files: dict[str, str]
    billed_usd: str = ""
    """What the contract bills for it; blank without one."""


class FactRow(msgspec.Struct, frozen=True):
    """A row of the catalog as it was: ``id`` and what the price or rule said."""

    id: str
    value: str
    unit: str
    valid_from: str
    valid_to: str
    source: str
    checked: str
    kind: str


class Closed(msgspec.Struct, frozen=True):
    """A closed month as it is read back."""

    manifest: Manifest
    statement: Statement
    facts: tuple[FactRow, ...]
    overlay: str


class Restated(msgspec.Struct, frozen=True):
    """One line of a restatement: what changed, and by how much it moves the month."""

    kind: Literal["usage", "price", "overlay"]
    said: str
    usd: Decimal


class Restatement(msgspec.Struct, frozen=True):
    """What the same month would be now; ``lines`` sum exactly to the change.

    Amounts are what is billed: under the contract that each side has, at list price without one.
    """

    month: str
    closed_usd: Decimal
    now_usd: Decimal
    lines: tuple[Restated, ...]

    @property
    def change_usd(self) -> Decimal:
        """Now less as it was closed."""
        return self.now_usd - self.closed_usd


def close(found: Statement, catalog: Catalog, month: str, books: Path, *, overlay: str, on: date) -> Closed:
    """Freeze a month of a statement into ``books/<month>``, whole or not at all.

    Raises:
        BadInput: no month, none of its days in the log, or a month that is closed already.
    """
    first, after = month_of(month)
    folder = books / month
    part = found.within(month)
    if not part.requests:
        raise BadInput(
            f"no rows of {month}",
            where=found.title,
            fix=f"The log runs from {found.start:%Y-%m-%d} to {found.end:%Y-%m-%d}",
        )
    if folder.exists():
        raise BadInput(f"{month} is closed already", where=str(folder), fix="A closed month never changes")
    if on < after:
        raise BadInput(f"{month} is not over", where=f"{first:%B %Y}", fix=f"Close it on {after} or later")
    books.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{month}-", suffix=".part", dir=books))
    try:
        part.write(stage)
        _write_facts(stage / FACTS, _facts(part.lines, catalog))
        (stage / OVERLAY).write_text(overlay, encoding="utf-8")
        files = {path.name: _hash(path) for path in sorted(stage.iterdir())}
        billed = format(usd_of(_billed(part, overlay, month)), "f") if overlay else ""
        manifest = Manifest(
            month, on, found.title, found.digest, found.basis, format(part.total_usd, "f"),
            part.at_least, part.n_requests, files, billed,
        )  # fmt: skip
        (stage / MANIFEST).write_bytes(msgspec.toml.encode(manifest))
        stage.chmod(0o755)
        stage.replace(folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return read_closed(folder)


def read_closed(folder: Path) -> Closed:
    """Read a closed month, and check that it still is what was closed.

    Raises:
        BadInput: it is none, or a file of it was changed.
    """
    try:
        manifest = msgspec.toml.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as wrong:
        raise BadInput(
            f"not a closed month: {wrong}", where=str(folder), fix="Type 'isocost close 2026-10 LOG'"
        ) from None
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file() or _hash(path) != digest:
            raise BadInput(
                "is not what was closed", where=str(path), fix="Restore the folder from where you keep it"
            )
    return Closed(
        manifest,
        Statement.read(folder),
        _read_facts(folder / FACTS),
        (folder / OVERLAY).read_text(encoding="utf-8"),
    )


def restate(closed: Closed, found: Statement, catalog: Catalog, overlay: str) -> Restatement:
    """What changed since a month was closed: its usage, the facts behind its prices, its overlay.

    A cell (day, model, tier, tenant, workload, meter) whose quantity changed moves the month by the change
    at the closed list price; what is left of the cell's change is its price's. What the contract takes off
    (or adds) now, less what it did, is the overlay's line.
    """
    before, after = closed.statement, found.within(closed.manifest.month)
    was, now = _cells(before.lines), _cells(after.lines)
    had = {row.id: row for row in closed.facts}
    has = {row.id: row for row in _facts(after.lines, catalog)}
    usage: dict[tuple[str, ...], Fraction] = {}
    price: dict[str, Fraction] = {}
    for key in dict.fromkeys((*was, *now)):
        (q0, a0, facts0), (q1, a1, facts1) = was.get(key, _NOTHING), now.get(key, _NOTHING)
        moved = Fraction(a1) if not q0 else Fraction(a0 * (q1 - q0), q0)
        if q0 != q1:
            who = (key[0], f"{key[1]}/{key[2]}".strip("/"), key[5], key[6])
            usage[who] = usage.get(who, Fraction(0)) + moved
        rest = a1 - a0 - moved
        changed = {ident for ident in facts0 | facts1 if had.get(ident) != has.get(ident)}
        if rest or (changed and q0 == q1):
            said = _price_said(sorted(changed or facts0 ^ facts1), had, has)
            price[said] = price.get(said, Fraction(0)) + rest
    parts = [*usage.values(), *price.values()]
    exact = largest_remainder(parts, after.total_fusd - before.total_fusd) if parts else []
    calls0 = before.requests_by("day", "provider", "model", "tenant", "workload")
    calls1 = after.requests_by("day", "provider", "model", "tenant", "workload")
    said_usage = [_usage_said(who, _calls(calls0, who), _calls(calls1, who)) for who in usage]
    pairs = [("usage", text) for text in said_usage] + [("price", text) for text in price]
    lines = [
        Restated("usage" if kind == "usage" else "price", text, usd_of(fusd))
        for (kind, text), fusd in zip(pairs, exact, strict=True)
    ]
    month = closed.manifest.month
    was_billed, now_billed = _billed(before, closed.overlay, month), _billed(after, overlay, month)
    moved_fusd = (now_billed - after.total_fusd) - (was_billed - before.total_fusd)
    if overlay != closed.overlay or moved_fusd:
        same = "the same contract on other usage" if overlay == closed.overlay else ""
        said = same or "the contract overlay is another one"
        lines.append(Restated("overlay", said, usd_of(moved_fusd)))
    lines.sort(key=lambda line: (line.kind, -abs(line.usd), line.said))
    return Restatement(month, usd_of(was_billed), usd_of(now_billed), tuple(lines))


def _billed(part: Statement, overlay: str, month: str) -> int:
    """Femto-dollars that a month is billed under a contract; at list price where there is none.

    Raises:
        BadInput: the overlay cannot be read or applied.
    """
    if not overlay.strip():
        return part.total_fusd
    first, after = month_of(month)
    terms = parse_overlay(overlay, OVERLAY)
    return contract(part, terms, (first, after - timedelta(days=1))).billed_fusd


def write_restatement(found: Restatement, books: Path) -> tuple[Path, bool]:
    """Write a restatement beside its month; the path, and whether it is new (or the last said the same)."""
    import tomli_w

    document = {
        "month": found.month,
        "closed_usd": format(found.closed_usd, "f"),
        "now_usd": format(found.now_usd, "f"),
        "change_usd": format(found.change_usd, "f"),
        "line": [
            {"kind": line.kind, "said": line.said, "usd": format(line.usd, "f")} for line in found.lines
        ],
    }
    text = tomli_w.dumps(document)
    number = 0
    while (path := books / f"{found.month}.restatement-{number + 1}.toml").exists():
        number += 1
    if number:
        last = books / f"{found.month}.restatement-{number}.toml"
        if last.read_text(encoding="utf-8") == text:
            return last, False
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path, True


_Sum = tuple[int, int, frozenset[str]]
_NOTHING: _Sum = (0, 0, frozenset())


def _cells(lines: Iterable[Line]) -> dict[tuple[str, ...], _Sum]:
    found: dict[tuple[str, ...], _Sum] = {}
    for line in lines:
        key = tuple(getattr(line, name) for name in _CELL)
        quantity, amount, facts = found.get(key, _NOTHING)
        found[key] = (quantity + line.quantity, amount + line.amount_fusd, facts | set(line.facts))
    return found


def _calls(calls: Mapping[tuple[str, ...], int], who: tuple[str, ...]) -> int:
    day, model, tenant, workload = who
    return sum(
        number
        for (d, p, m, t, w), number in calls.items()
        if (d, f"{p}/{m}".strip("/"), t, w) == (day, model, tenant, workload)
    )


def _usage_said(who: tuple[str, ...], before: int, after: int) -> str:
    day, model, tenant, workload = who
    by = "/".join(part for part in (tenant, workload) if part)
    count = (
        f"{before:,} to {plural(after, 'request')}"
        if before != after
        else f"{plural(after, 'request')}, other tokens"
    )
    return " ".join(part for part in (day, by, model or "(no model)") if part) + f": {count}"


def _price_said(changed: list[str], had: Mapping[str, FactRow], has: Mapping[str, FactRow]) -> str:
    if not changed:
        return "the same facts, other bands or hours"
    said = []
    for ident in changed:
        one, two = had.get(ident), has.get(ident)
        if one is not None and two is not None:
            what = f"{one.value} to {two.value}" if one.value != two.value else "other dates or source"
        else:
            what = f"new, {two.value}" if two is not None else f"no longer used, {one.value if one else ''}"
        said.append(f"{ident} ({what})")
    return "; ".join(said)


def _facts(lines: Iterable[Line], catalog: Catalog) -> tuple[FactRow, ...]:
    """The rows behind the lines' prices, by id; an id names its subject up to the attribute."""
    wanted = {ident for line in lines for ident in line.facts}
    subjects = {line.offering for line in lines if line.offering}
    subjects |= {f"provider/{line.provider}" for line in lines if line.offering}
    rows = {}
    for subject in subjects:
        for fact in catalog.about(subject):
            if fact.id in wanted:
                rows[fact.id] = FactRow(
                    fact.id, str(fact.value), fact.unit, str(fact.valid_from or ""),
                    str(fact.valid_to or ""), fact.source, str(fact.checked), fact.kind,
                )  # fmt: skip
    return tuple(rows[ident] for ident in sorted(rows))


def _write_facts(path: Path, rows: tuple[FactRow, ...]) -> None:
    import duckdb
    import numpy as np

    names = FactRow.__struct_fields__
    columns: dict[str, Any] = {
        name: np.array([getattr(row, name) for row in rows], dtype=object) for name in names
    }
    with duckdb.connect(config={"threads": 1}) as db:
        if rows:
            db.register("given", columns)
        else:
            db.execute(f"CREATE TABLE given ({', '.join(f'{name} VARCHAR' for name in names)})")
        db.execute("COPY (SELECT * FROM given) TO ? (FORMAT parquet, COMPRESSION zstd)", [str(path)])


def _read_facts(path: Path) -> tuple[FactRow, ...]:
    import duckdb

    with duckdb.connect() as db:
        names = ", ".join(FactRow.__struct_fields__)
        rows = db.execute(f"SELECT {names} FROM read_parquet(?)", [str(path)]).fetchall()
    return tuple(FactRow(*row) for row in rows)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
