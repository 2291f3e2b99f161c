"""An invoice divided among cost centres, to the cent.

A dated mapping file says who pays for what. The first rule in the file that fits a line takes all of it, so
a line that several rules fit is never counted twice; what no rule fits is the line ``unallocated``. What the
invoice asks for beyond the statement (idle, redundancy, commitments, tax, credits) is shared: in proportion
to each centre's own usage, or evenly. Cents go by the largest remainder, so charges sum to the invoice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec

from isocost.books.rounding import largest_remainder
from isocost.books.statement import Line, Statement
from isocost.errors import BadInput

UNALLOCATED = "unallocated"
Shared = Literal["proportional", "even"]

_NAMES = ("tenant", "workload", "model", "provider")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines that all given names fit belong to ``centre``: from day ``since`` on, before day ``until``."""

    centre: str
    tenant: str = ""
    workload: str = ""
    model: str = ""
    provider: str = ""
    since: date | None = None
    until: date | None = None

    def fits(self, line: Line) -> bool:
        """Whether a line is this centre's, unless an earlier rule takes it."""
        if any(getattr(self, name) not in ("", getattr(line, name)) for name in _NAMES):
            return False
        day = date.fromisoformat(line.day)
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


class CentreMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file: ``[[rule]]`` in order of precedence, and how shared costs are split."""

    rule: tuple[Rule, ...]
    shared: Shared = "proportional"


class Share(msgspec.Struct, frozen=True):
    """What a centre is charged, in whole cents; ``own_usd`` is its usage, exact, the rest is shared cost."""

    centre: str
    usd: Decimal
    own_usd: Decimal


def read_mapping(path: Path) -> CentreMap:
    """Read a mapping file.

    Raises:
        BadInput: it cannot be read, or a rule names no centre or the reserved one.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=CentreMap)
    except (OSError, msgspec.MsgspecError) as wrong:
        raise BadInput(
            str(wrong), where=str(path), fix="Write [[rule]] with centre = 'research' and tenant = 'a'"
        ) from None
    for number, rule in enumerate(found.rule, start=1):
        if rule.centre in ("", UNALLOCATED):
            raise BadInput(f"rule {number} names centre {rule.centre!r}", where=str(path), fix="Name another")
    return found


def divide(found: Statement, mapping: CentreMap, invoice_usd: Decimal) -> tuple[Share, ...]:
    """Charges of every centre, in order of the rules, ``unallocated`` last; they sum to the invoice.

    Shared cost goes to the centres; to ``unallocated`` only where no centre has usage.

    Raises:
        BadInput: the invoice is not whole cents.
    """
    cents = Fraction(invoice_usd) * 100
    if cents.denominator != 1:
        raise BadInput(f"an invoice of {invoice_usd} USD is not whole cents", fix="Give it as it is billed")
    centres = list(dict.fromkeys((*(rule.centre for rule in mapping.rule), UNALLOCATED)))
    own = dict.fromkeys(centres, 0)
    for line in found.lines:
        centre = next((rule.centre for rule in mapping.rule if rule.fits(line)), UNALLOCATED)
        own[centre] += line.amount_fusd
    rest = Fraction(invoice_usd) * 10**15 - found.total_fusd
    weights = _weights([own[centre] for centre in centres], mapping.shared)
    exact = [
        (own[centre] + rest * weight) / Fraction(10**13)
        for centre, weight in zip(centres, weights, strict=True)
    ]
    whole = largest_remainder(exact, int(cents))
    return tuple(
        Share(centre, Decimal(part).scaleb(-2), Decimal(own[centre]).scaleb(-15))
        for centre, part in zip(centres, whole, strict=True)
    )


def _weights(own: Sequence[int], shared: Shared) -> list[Fraction]:
    """Shares of the shared cost; the last of ``own`` is what nobody is named for."""
    named = own[:-1]
    if not any(named):
        return [*(Fraction(0) for _ in named), Fraction(1)]
    if shared == "even":
        users = sum(amount > 0 for amount in named)
        return [*(Fraction(int(amount > 0), users) for amount in named), Fraction(0)]
    return [*(Fraction(amount, sum(named)) for amount in named), Fraction(0)]
