"""The contract overlay: what was agreed beside the list price, as dated rules of one TOML file.

A rule holds for the usage that all its given names fit, from day ``since`` on, before day ``until``. Of
several discounts that fit a line the one that gives more names holds; two that give equally many and can fit
the same line are a conflict, which is an error that names both lines of the file. The same holds for
commitments and for provisioned capacity; credits have a stated order, and fees add up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec

from isocost.books.statement import Line
from isocost.errors import BadInput

SCOPE = ("provider", "account", "credential", "deployment", "model", "meter", "tier", "region", "tenant",
         "workload")  # fmt: skip
"""Names that a rule may give; ``model`` may hold ``*``."""


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a rule holds for; blank names fit everything. ``line`` is where the rule begins in its file."""

    name: str = ""
    provider: str = ""
    account: str = ""
    credential: str = ""
    deployment: str = ""
    model: str = ""
    meter: str = ""
    tier: str = ""
    region: str = ""
    tenant: str = ""
    workload: str = ""
    since: date | None = None
    until: date | None = None
    line: int = 0

    @property
    def given(self) -> int:
        """How many names it gives: the more, the narrower it is."""
        return sum(1 for name in SCOPE if getattr(self, name))

    def on(self, day: date) -> bool:
        """Whether it holds on a day."""
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)

    def fits(self, line: Line) -> bool:
        """Whether it holds for a line of a statement."""
        return self.fits_names(line) and self.on(date.fromisoformat(line.day))

    def fits_names(self, line: Line) -> bool:
        """Whether all its names fit a line, whatever its day."""
        return all(_fits(getattr(self, name), getattr(line, name)) for name in SCOPE if getattr(self, name))

    def may_meet(self, other: Scope) -> bool:
        """Whether some line on some day could fit both."""
        for name in SCOPE:
            mine, its = getattr(self, name), getattr(other, name)
            if mine and its and not (_fits(mine, its) or _fits(its, mine)):
                return False
        starts_before_end = self.since is None or other.until is None or self.since < other.until
        return starts_before_end and (other.since is None or self.until is None or other.since < self.until)

    @property
    def said(self) -> str:
        """Its name, else what it holds for."""
        scope = " ".join(getattr(self, name) for name in SCOPE if getattr(self, name))
        return self.name or scope or "everything"


def _fits(pattern: str, text: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower()) if "*" in pattern else pattern.lower() == text.lower()


class VolumeTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds above a volume of one calendar month: list dollars, or million tokens."""

    above_usd: Decimal | None = None
    above_mtok: Decimal | None = None
    percent: Decimal | None = None
    usd_per_mtok: Decimal | None = None


class Discount(Scope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A price of one's own: ``percent`` off list, a fixed price, or tiers by the volume of a month.

    ``volume``: ``marginal`` prices the units above a threshold by its tier, ``whole`` all units of the month
    by the tier that the month reaches.
    """

    percent: Decimal | None = None
    usd_per_mtok: Decimal | None = None
    usd_per_unit: Decimal | None = None
    tiers: tuple[VolumeTier, ...] = ()
    volume: Literal["marginal", "whole"] = "marginal"


class Commitment(Scope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``usd`` of contracted cost that is paid for in any case, each month or once a term.

    ``paid``: in ``arrears`` the shortfall is billed at the end (true-up); ``upfront`` the whole is billed at
    the start, and usage draws it down. ``used_usd`` is what was used before the log begins.
    """

    usd: Decimal
    per: Literal["month", "term"] = "month"
    paid: Literal["arrears", "upfront"] = "arrears"
    used_usd: Decimal | None = None


class Credit(Scope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``usd`` that pay for billed usage until they expire; the one that expires first is used first."""

    usd: Decimal
    used_usd: Decimal | None = None


class Provisioned(Scope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Throughput at a fixed fee: ``units`` at ``usd_per_unit_h`` that answer ``tok_per_min_per_unit`` each.

    An output token counts as ``output_counts`` and a cached one as ``cached_counts`` tokens of the capacity.
    What exceeds the capacity of a period is billed at the contracted price.
    """

    units: Decimal
    usd_per_unit_h: Decimal
    tok_per_min_per_unit: Decimal
    output_counts: Decimal = Decimal(1)
    cached_counts: Decimal = Decimal(1)


class Fee(Scope, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fee on top: ``percent`` of what usage is billed, before credits, or ``usd_per_month``."""

    percent: Decimal | None = None
    usd_per_month: Decimal | None = None


class Currency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one unit of ``code`` is worth to us in dollars, and the rate that the provider bills at.

    ``invoiced_usd`` is the provider's rate; left out, nothing is known of it. ``source`` says whose rate
    ``usd`` is.
    """

    code: str
    usd: Decimal
    source: str
    invoiced_usd: Decimal | None = None
    provider: str = ""
    since: date | None = None
    until: date | None = None
    line: int = 0


class Overlay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All rules of a file, in its order; ``path`` names it in messages."""

    discount: tuple[Discount, ...] = ()
    commitment: tuple[Commitment, ...] = ()
    credit: tuple[Credit, ...] = ()
    provisioned: tuple[Provisioned, ...] = ()
    fee: tuple[Fee, ...] = ()
    currency: tuple[Currency, ...] = ()
    path: str = ""

    def discount_for(self, line: Line) -> Discount | None:
        """The discount that holds for a line: of those that fit, the narrowest."""
        return max((one for one in self.discount if one.fits(line)), key=lambda one: one.given, default=None)

    def rate(self, code: str, provider: str, day: date) -> Currency | None:
        """The rate of a currency on a day, that of the provider before one for all."""
        fit = [
            one
            for one in self.currency
            if one.code == code
            and one.provider in ("", provider)
            and (one.since is None or one.since <= day)
            and (one.until is None or day < one.until)
        ]
        return max(fit, key=lambda one: bool(one.provider), default=None)

    @property
    def hourly(self) -> bool:
        """Whether capacity is compared with usage, so that a statement by the hour is needed."""
        return bool(self.provisioned)


_KINDS = ("discount", "commitment", "credit", "provisioned", "fee", "currency")


def read_overlay(path: Path) -> Overlay:
    """Read a contract.

    Raises:
        BadInput: it cannot be read, a rule says too little, too much or nothing possible, or two conflict.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as wrong:
        said = (wrong.strerror or str(wrong)).lower()
        raise BadInput(f"cannot be read ({said})", where=str(path), fix="Give the contract as TOML") from None
    except UnicodeDecodeError:
        raise BadInput("is not text in UTF-8", where=str(path), fix="Give the contract as TOML") from None
    return parse_overlay(text, str(path))


def parse_overlay(text: str, path: str) -> Overlay:
    """A contract from its text; ``path`` names it in messages.

    Raises:
        BadInput: as :func:`read_overlay`.
    """
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as wrong:
        raise BadInput(f"is not TOML: {wrong}", where=path, fix="docs/money.md has an example") from None
    for kind in _KINDS:
        rules = document.get(kind, [])
        if not isinstance(rules, list):
            raise BadInput(f"{kind} is not a list of rules", where=path, fix=f"Write [[{kind}]]")
        for number, rule in zip(_lines(text, kind), rules, strict=False):
            if isinstance(rule, dict):
                rule["line"] = number
    try:
        found = msgspec.convert({**_plain(document), "path": path}, Overlay, strict=False)
    except msgspec.ValidationError as wrong:
        raise BadInput(
            str(wrong), where=_at(path, text, str(wrong)), fix="docs/money.md lists the fields"
        ) from None
    _check(found)
    return found


def _lines(text: str, kind: str) -> list[int]:
    """Where each rule of a kind begins, counted from 1."""
    head = re.compile(rf"^\s*\[\[\s*{kind}\s*\]\]")
    return [number for number, line in enumerate(text.splitlines(), 1) if head.match(line)]


def _plain(value: Any) -> Any:
    """Decimals as their text, which converts without a binary float between."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Decimal) else value


def _at(path: str, text: str, wrong: str) -> str:
    """The line of the rule that a message of the decoder is about: ``$.discount[1].percent``."""
    found = re.search(r"\$\.(\w+)\[(\d+)\]", wrong)
    lines = _lines(text, found[1]) if found else []
    return f"{path}:{lines[int(found[2])]}" if found and int(found[2]) < len(lines) else path


def _check(found: Overlay) -> None:
    for kind in _KINDS:
        for rule in getattr(found, kind):
            said = _wrong(rule)
            if said:
                raise BadInput(said, where=f"{found.path}:{rule.line}", fix="docs/money.md lists the fields")
    for kind in ("discount", "commitment", "provisioned"):
        _conflicts(found.path, kind, getattr(found, kind))
    rates: Sequence[Currency] = found.currency
    for at, one in enumerate(rates):
        for other in rates[at + 1 :]:
            same = (one.code, one.provider) == (other.code, other.provider)
            if same and (one.since is None or other.until is None or one.since < other.until) and (
                other.since is None or one.until is None or other.since < one.until
            ):  # fmt: skip
                _clash(found.path, "currency", one.line, other.line, f"two rates of {one.code} on one day")


def _wrong(rule: Any) -> str:
    """What a rule says that cannot be; blank where all is well."""
    if rule.since is not None and rule.until is not None and not rule.since < rule.until:
        return "it ends before it begins"
    numbers = ("usd", "units", "usd_per_unit_h", "tok_per_min_per_unit", "output_counts", "invoiced_usd")
    for name in numbers:
        value = getattr(rule, name, None)
        if value is not None and not value > 0:
            return f"{name} is {value}: it must be above zero"
    for name in ("usd_per_mtok", "usd_per_unit", "usd_per_month", "used_usd", "cached_counts"):
        value = getattr(rule, name, None)
        if value is not None and not value >= 0:
            return f"{name} is {value}: it must not be below zero"
    percent = getattr(rule, "percent", None)
    if percent is not None and not (percent <= 100 if isinstance(rule, Discount) else percent >= 0):
        return f"percent is {percent}"
    if isinstance(rule, Discount):
        ways = [rule.percent, rule.usd_per_mtok, rule.usd_per_unit, rule.tiers or None]
        if sum(way is not None for way in ways) != 1:
            return "a discount gives one of percent, usd_per_mtok, usd_per_unit and [[discount.tiers]]"
        return _wrong_tiers(rule)
    if isinstance(rule, Fee) and (rule.percent is None) == (rule.usd_per_month is None):
        return "a fee gives one of percent and usd_per_month"
    if isinstance(rule, Commitment) and rule.per == "term" and (rule.since is None or rule.until is None):
        return "a commitment of a term gives since and until"
    if isinstance(rule, Provisioned) and rule.meter:
        return "provisioned throughput holds for all meters of a deployment"
    return ""


def _wrong_tiers(rule: Discount) -> str:
    steps = []
    for tier in rule.tiers:
        if (tier.above_usd is None) == (tier.above_mtok is None):
            return "a volume tier gives one of above_usd and above_mtok"
        if (tier.percent is None) == (tier.usd_per_mtok is None):
            return "a volume tier gives one of percent and usd_per_mtok"
        if tier.percent is not None and tier.percent > 100:
            return f"percent is {tier.percent}"
        steps.append((tier.above_usd is None, tier.above_usd or tier.above_mtok or Decimal(0)))
    if len({by for by, _ in steps}) > 1:
        return "all volume tiers of a discount count in dollars, or all in tokens"
    values = [step for _, step in steps]
    return "" if values == sorted(set(values)) else "volume tiers rise"


def _conflicts(path: str, kind: str, rules: Sequence[Scope]) -> None:
    for at, one in enumerate(rules):
        for other in rules[at + 1 :]:
            # A discount that gives more names goes before one that gives fewer; others may not meet at all.
            if (kind != "discount" or one.given == other.given) and one.may_meet(other):
                _clash(
                    path, kind, one.line, other.line, f"{one.said!r} and {other.said!r} fit the same usage"
                )


def _clash(path: str, kind: str, one: int, other: int, said: str) -> None:
    raise BadInput(
        f"{kind}s of lines {one} and {other} conflict: {said}",
        where=f"{path}:{other}",
        fix="Give one of them more names, or dates that do not overlap",
    )
