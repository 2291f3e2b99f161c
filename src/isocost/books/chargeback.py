"""An invoice divided among cost centres, to the cent.

A dated mapping file says who pays for what. The first rule in the file that fits a line takes all of it, so
a line that several rules fit is never counted twice; with ``many = "even"`` the centres that the tags of a
line name share it evenly instead, and it still counts once. What no rule fits is the line ``unallocated``.

Usage is charged at its effective cost, so that who uses what was paid ahead pays for it. What is shared is a
line of its own: capacity and commitments that nothing used (idle), fees, shortfalls, credits, what the
mapping file states (redundancy, staff), what was paid ahead for other months, and what the invoice asks for
beyond all that. Each is split by its stated rule. Cents go by the largest remainder, so charges sum to the
invoice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec

from isocost.books.contract import Contract, Piece
from isocost.books.rounding import largest_remainder
from isocost.books.statement import Line, Statement
from isocost.errors import BadInput
from isocost.toml import read_toml
from isocost.units import FEMTO_PER_USD, usd_of

UNALLOCATED = "unallocated"
By = Literal["proportional", "even", "fixed"]
IDLE, TIMING, BEYOND = "idle", "paid ahead", "beyond the log"
"""Shared lines beside those stated: what nothing used; billed less effective cost; the rest."""

_NAMES = ("tenant", "workload", "model", "provider", "account", "credential", "deployment")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines that all given names fit belong to ``centre``: from day ``since`` on, before day ``until``.

    ``tag`` fits a line one of whose tags it is: tags are the workload as logged, a list in JSON or words
    between commas, semicolons or bars.
    """

    centre: str
    tenant: str = ""
    workload: str = ""
    model: str = ""
    provider: str = ""
    since: date | None = None
    until: date | None = None
    account: str = ""
    credential: str = ""
    deployment: str = ""
    tag: str = ""

    def fits(self, line: Line) -> bool:
        """Whether a line is this centre's, unless an earlier rule takes it."""
        if any(getattr(self, name) not in ("", getattr(line, name)) for name in _NAMES):
            return False
        if self.tag and self.tag not in tags_of(line.workload):
            return False
        day = date.fromisoformat(line.day)
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shared cost: ``usd`` stated here, or how an entry of the contract of this name or kind is split.

    ``by``: ``proportional`` to each centre's own usage, ``even`` among the centres with usage, or ``fixed``
    by ``weights``.
    """

    name: str
    usd: Decimal | None = None
    by: By = "proportional"
    weights: dict[str, Decimal] = {}


class CentreMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file: ``[[rule]]`` in order of precedence, and how shared costs are split."""

    rule: tuple[Rule, ...]
    shared: Literal["proportional", "even"] = "proportional"
    many: Literal["first", "even"] = "first"
    cost: tuple[Cost, ...] = ()


class Share(msgspec.Struct, frozen=True):
    """What a centre is charged, in whole cents.

    ``own_usd`` is its usage, exact; ``shared_usd`` its part of each shared line, each of which sums exactly
    over the centres. The charge differs from their sum by the rounding to cents.
    """

    centre: str
    usd: Decimal
    own_usd: Decimal
    shared_usd: dict[str, Decimal] = {}


class Divided(msgspec.Struct, frozen=True):
    """An invoice divided: a share for every centre in order of the rules, ``unallocated`` last.

    ``shared`` are the shared lines with their amounts and how each was split.
    """

    invoice_usd: Decimal
    shares: tuple[Share, ...]
    shared: tuple[tuple[str, Decimal, By], ...]


def tags_of(text: str) -> tuple[str, ...]:
    """The tags of a line, from its workload as logged.

    >>> tags_of('["a", "b"]'), tags_of("a, b;c"), tags_of("chat"), tags_of("")
    (('a', 'b'), ('a', 'b', 'c'), ('chat',), ())
    """
    if text.startswith("["):
        try:
            return tuple(dict.fromkeys(msgspec.json.decode(text, type=list[str])))
        except msgspec.DecodeError:
            pass
    return tuple(dict.fromkeys(part for part in re.split(r"\s*[,;|]\s*", text.strip()) if part))


def read_mapping(path: Path) -> CentreMap:
    """Read a mapping file.

    Raises:
        BadInput: it cannot be read, a rule names no centre or the reserved one, or a cost cannot be split.
    """
    fix = "Write [[rule]] with centre = 'research' and tenant = 'a'"
    found = read_toml(path, CentreMap, fix, strict=False)
    centres = {rule.centre for rule in found.rule}
    for number, rule in enumerate(found.rule, start=1):
        if rule.centre in ("", UNALLOCATED):
            raise BadInput(f"rule {number} names centre {rule.centre!r}", where=str(path), fix="Name another")
    for cost in found.cost:
        strange = sorted(set(cost.weights) - centres)
        if strange:
            raise BadInput(
                f"cost {cost.name!r} weighs centre {strange[0]!r}, which no rule names", where=str(path)
            )
        if (cost.by == "fixed") != bool(cost.weights) or any(
            not weight >= 0 for weight in cost.weights.values()
        ):
            raise BadInput(
                f"cost {cost.name!r}: weights go with by = 'fixed', and are not below zero",
                where=str(path), fix="Write by = 'fixed' and weights = { research = 2, sales = 1 }",
            )  # fmt: skip
        if cost.weights and not any(cost.weights.values()):
            raise BadInput(f"cost {cost.name!r}: all weights are zero", where=str(path), fix="Give one more")
    return found


def divide(
    found: Statement, mapping: CentreMap, invoice_usd: Decimal, under: Contract | None = None
) -> tuple[Share, ...]:
    """Charges of every centre, in order of the rules, ``unallocated`` last; they sum to the invoice.

    Shared cost goes to the centres; to ``unallocated`` only where no centre has usage.

    Raises:
        BadInput: the invoice is not whole cents.
    """
    return divided(found, mapping, invoice_usd, under).shares


def divided(
    found: Statement, mapping: CentreMap, invoice_usd: Decimal, under: Contract | None = None
) -> Divided:
    """The same with its shared lines.

    Raises:
        BadInput: the invoice is not whole cents.
    """
    cents = Fraction(invoice_usd) * 100
    if cents.denominator != 1:
        raise BadInput(f"an invoice of {invoice_usd} USD is not whole cents", fix="Give it as it is billed")
    centres = list(dict.fromkeys((*(rule.centre for rule in mapping.rule), UNALLOCATED)))
    pieces = (
        under.pieces
        if under is not None
        else tuple(
            Piece(line, line.rate_fusd, line.amount_fusd, line.amount_fusd)
            for line in found.lines
            if line.rate_fusd is not None
        )
    )
    own = dict.fromkeys(centres, Fraction(0))
    for piece in pieces:
        mine = owners(piece.line, mapping)
        for centre in mine:
            own[centre] += Fraction(piece.effective_fusd, len(mine))
    whole = largest_remainder(list(own.values()), int(sum(own.values(), Fraction(0))))
    usage = dict(zip(centres, whole, strict=True))
    lines = _shared(mapping, under, pieces, int(cents) * 10**13)
    parts: dict[str, dict[str, int]] = {}
    said: list[tuple[str, Decimal, By]] = []
    for name, fusd in lines.items():
        rule = next((one for one in mapping.cost if one.name == name), Cost(name, by=mapping.shared))
        weights = _weights([usage[centre] for centre in centres], centres, rule)
        split = largest_remainder([fusd * weight for weight in weights], fusd)
        parts[name] = dict(zip(centres, split, strict=True))
        said.append((name, usd_of(fusd), rule.by))
    exact = [
        Fraction(usage[centre] + sum(part[centre] for part in parts.values()), 10**13) for centre in centres
    ]
    charges = largest_remainder(exact, int(cents))
    shares = tuple(
        Share(
            centre, Decimal(charge).scaleb(-2), usd_of(usage[centre]),
            {name: usd_of(part[centre]) for name, part in parts.items()},
        )
        for centre, charge in zip(centres, charges, strict=True)
    )  # fmt: skip
    return Divided(invoice_usd, shares, tuple(said))


def owners(line: Line, mapping: CentreMap) -> tuple[str, ...]:
    """The centres that pay for a line: one, or with ``many = "even"`` each that one of its tags names."""
    fit = [rule for rule in mapping.rule if rule.fits(line)]
    if not fit:
        return (UNALLOCATED,)
    if mapping.many == "first" or not fit[0].tag:
        return (fit[0].centre,)
    return tuple(dict.fromkeys(rule.centre for rule in fit if rule.tag))


def _shared(
    mapping: CentreMap, under: Contract | None, pieces: Sequence[Piece], invoice_fusd: int
) -> Mapping[str, int]:
    """Shared lines in femto-dollars; with the usage they are the invoice."""
    lines: dict[str, int] = {}
    billed = sum(piece.billed_fusd for piece in pieces)
    effective = sum(piece.effective_fusd for piece in pieces)
    for entry in under.entries if under is not None else ():
        name = (
            IDLE
            if entry.kind == "unused"
            else ""
            if entry.kind == "purchase"
            else f"{entry.kind} {entry.name}"
        )
        if name:
            lines[name] = lines.get(name, 0) + entry.effective_fusd
        billed += entry.billed_fusd
        effective += entry.effective_fusd
    if billed != effective:
        lines[TIMING] = billed - effective
    stated = {
        cost.name: round(Fraction(cost.usd) * FEMTO_PER_USD) for cost in mapping.cost if cost.usd is not None
    }
    lines |= stated
    rest = invoice_fusd - billed - sum(stated.values())
    if rest:
        lines[BEYOND] = rest
    return lines


def _weights(own: Sequence[int], centres: Sequence[str], rule: Cost) -> list[Fraction]:
    """Shares of a shared cost; the last of ``own`` is what nobody is named for."""
    if rule.by == "fixed":
        total = sum((Fraction(weight) for weight in rule.weights.values()), Fraction(0))
        return [Fraction(rule.weights.get(centre, Decimal(0))) / total for centre in centres]
    named = own[:-1]
    if not any(named):
        return [*(Fraction(0) for _ in named), Fraction(1)]
    if rule.by == "even":
        users = sum(amount > 0 for amount in named)
        return [*(Fraction(int(amount > 0), users) for amount in named), Fraction(0)]
    return [*(Fraction(amount, sum(named)) for amount in named), Fraction(0)]
