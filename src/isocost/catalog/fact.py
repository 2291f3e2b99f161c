"""One fact, one source, one attribute: the rows of ``facts/*.csv``, ``sources.csv``, ``attributes.csv``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from statistics import NormalDist
from typing import Literal

import msgspec

Kind = Literal["published", "measured", "derived", "assumed", "expected"]
"""How a number came to be. ``expected`` facts (announced, not yet in force) never compute."""


CENTRAL = 0.8
"""Share of cases between the low and the high end of a fact, and of every band made of facts."""
Z_CENTRAL = NormalDist().inv_cdf(0.5 + CENTRAL / 2)
"""Standard deviations from the middle of a normal distribution to the ends of its central 80 %."""


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value of one attribute of one subject, with its history, interval and source.

    ``when`` qualifies the attribute in canonical ``key=value;key=value`` form, keys sorted
    (``band=>272000;tier=batch``); it is part of the identity, with ``subject``, ``attribute`` and
    ``valid_from``. ``valid_from`` is inclusive, ``valid_to`` exclusive, both UTC dates; ``None`` is
    open. ``low`` and ``high`` bound the central 80 %. ``quote`` is at most 25 words of what was
    read, or blank. ``boundary`` says what the number counts, where the word is ambiguous.
    """

    subject: str
    attribute: str
    when: str
    value: float | str
    unit: str
    low: float | None
    high: float | None
    valid_from: date | None
    valid_to: date | None
    source: str
    quote: str
    checked: date
    kind: Kind
    boundary: str
    note: str

    @property
    def id(self) -> str:
        """``subject.attribute[when]@valid_from``: unique in a catalog."""
        when = f"[{self.when}]" if self.when else ""
        since = f"@{self.valid_from.isoformat()}" if self.valid_from else ""
        return f"{self.subject}.{self.attribute}{when}{since}"

    @property
    def ends(self) -> tuple[float, float, float]:
        """Low end, value and high end of a numeric fact; the value where an end is not known."""
        value = float(self.value)
        return value if self.low is None else self.low, value, value if self.high is None else self.high

    def holds(self, on: date) -> bool:
        """Whether the fact is in force on ``on``: from ``valid_from``, before ``valid_to``."""
        after = self.valid_from is None or self.valid_from <= on
        return after and (self.valid_to is None or on < self.valid_to)


def parse_when(when: str) -> dict[str, str]:
    """A canonical ``when`` as a mapping.

    >>> parse_when("band=>272000;tier=batch"), parse_when("")
    ({'band': '>272000', 'tier': 'batch'}, {})
    """
    return dict(part.partition("=")[::2] for part in when.split(";")) if when else {}


def write_when(parts: Mapping[str, str]) -> str:
    """A mapping as a canonical ``when``: keys sorted.

    >>> write_when({"tier": "batch", "band": ">272000"})
    'band=>272000;tier=batch'
    """
    return ";".join(f"{key}={parts[key]}" for key in sorted(parts))


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where facts were read; ``read`` is the day on which it was."""

    id: str
    title: str
    address: str
    publisher: str
    licence: str
    read: date
    note: str


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an attribute means: it drives parsing, checks and the docs.

    ``subject`` is the first path part it belongs to (``model``, ``gpu``, ``api`` …), ``type`` one
    of number, integer, text, flag; ``unit`` the one unit that its facts must state; ``used_by``
    the dotted module that reads it, ``people`` for words that only explain, or ``unbuilt:`` and the
    room of the design that will.
    """

    subject: str
    attribute: str
    type: Literal["number", "integer", "text", "flag"]
    unit: str
    description: str
    used_by: str
