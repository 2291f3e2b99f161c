"""What one unit of each meter costs at an offering: on a day, at a tier, in a place, for a context length.

Prices are facts of the offering (``api/...``); how a tier, a region or an unlisted meter changes them is a
fact of the provider (``provider/...``). A listed price goes before a rule; where neither is known, the meter
is missing from the answer, never zero. All arithmetic is decimal: nothing here is rounded but the last step
to whole femto-dollars per unit, which is exact for every price with at most nine decimals per million tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from isocost.catalog.catalog import Catalog, CatalogAt, Key
from isocost.catalog.fact import Fact, parse_when
from isocost.catalog.names import Offering
from isocost.errors import BadFact
from isocost.units import FEMTO_PER_USD

MTOK = 1_000_000

PRICES: Mapping[str, tuple[str, int]] = {
    "input": ("input_usd_per_mtok", MTOK),
    "cache_read": ("cache_read_usd_per_mtok", MTOK),
    "cache_write": ("cache_write_usd_per_mtok", MTOK),
    "cache_write_1h": ("cache_write_1h_usd_per_mtok", MTOK),
    "output": ("output_usd_per_mtok", MTOK),
    "audio_input": ("audio_input_usd_per_mtok", MTOK),
    "audio_cache_read": ("audio_cache_read_usd_per_mtok", MTOK),
    "audio_output": ("audio_output_usd_per_mtok", MTOK),
    "request": ("usd_per_request", 1),
    "web_search": ("usd_per_web_search", 1),
    "file_search": ("usd_per_file_search", 1),
    "image_input": ("image_input_usd_per_mtok", MTOK),
    "image_cache_read": ("image_cache_read_usd_per_mtok", MTOK),
    "image_output": ("image_output_usd_per_mtok", MTOK),
    "cache_storage": ("cache_storage_usd_per_mtok_h", MTOK),
}
"""Meter to (attribute of the offering, units that its price is stated for). Units are tokens, requests and
searches; of ``cache_storage`` token-hours: tokens held in an explicit cache times hours."""

METERS = tuple(PRICES)
STANDARD = ("", "standard", "default", "auto")


class Rate(msgspec.Struct, frozen=True):
    """What a meter costs: ``usd`` for ``per`` units, the same as ``fusd`` femto-dollars for one.

    ``facts`` are the ids of the price and of every rule that changed it; ``announced`` is the first day of a
    price that was announced and not yet seen in force.
    """

    meter: str
    usd: Decimal
    per: int
    fusd: int
    facts: tuple[str, ...]
    announced: date | None = None


class Rates(msgspec.Struct, frozen=True):
    """The meters that have a price, and ``doubt``: what the price leaves out, blank where nothing.

    ``announced`` says that a price is one that the provider announced for that day, which nobody has yet seen
    in force: blank where every price was read as it held.
    """

    meters: dict[str, Rate]
    doubt: str = ""
    announced: str = ""


class Slot(NamedTuple):
    """The part of a price's ``when`` that picks a row by the request: band and daily window.

    ``from_tok`` is the least input at which the band applies; ``days`` are weekdays (Monday 0) and
    ``start`` and ``stop`` minutes of the UTC day, of a window that may run over midnight; ``days`` is
    empty where there is no window.
    """

    from_tok: int = 0
    days: tuple[int, ...] = ()
    start: int = 0
    stop: int = 1440

    def covers(self, context_tok: int, weekday: int, minute: int | None) -> bool:
        """Whether a request of that length at that minute falls into the slot."""
        if context_tok < self.from_tok:
            return False
        if not self.days:
            return True
        if minute is None or weekday not in self.days:
            return False
        if self.start <= self.stop:
            return self.start <= minute < self.stop
        return minute >= self.start or minute < self.stop


class Asked(NamedTuple):
    """What a request says of itself that its price hangs on; ``minute`` of the UTC day, ``None`` unknown."""

    tier: str
    region: str
    context_tok: int
    minute: int | None


@dataclass
class Book:
    """The price rows of one offering: (meter, tier, region) to slots with their ``when``, narrowest first."""

    rows: dict[tuple[str, str, str], list[tuple[Slot, str]]] = field(default_factory=dict)
    bands: tuple[int, ...] = ()
    windows: tuple[Slot, ...] = ()


def rates(
    catalog_at: CatalogAt,
    offering: Offering,
    tier: str = "standard",
    region: str = "",
    context_tok: int | None = None,
    minute: int | None = None,
) -> Rates:
    """The price of every meter of an offering that has one.

    ``context_tok`` is all input of the request, cached included: it picks the context band (none: the
    base). ``minute`` of the UTC day picks a daily window (none: the price outside windows); on a public
    holiday of the provider's calendar no window holds. ``region`` blank or ``global`` is the provider's
    default place, and is read as :func:`place` does. A tier or a place that the logged name stated holds
    where none is given. A price that was announced for a day counts from that day on, where the catalog is
    asked with ``expected``.

    Raises:
        BadFact: a ``when`` of the offering's rows that cannot be read.
    """
    book = catalog_at.catalog.once(_book, offering.subject)
    band = max((edge for edge in book.bands if edge <= (context_tok or 0)), default=0)
    return catalog_at.once(_rates, offering, tier, region, band, minute if book.windows else None)


def _rates(
    catalog_at: CatalogAt,
    offering: Offering,
    tier: str,
    region: str,
    context_tok: int,
    minute: int | None,
) -> Rates:
    book = catalog_at.catalog.once(_book, offering.subject)
    tier = (offering.tier or "standard") if tier in STANDARD else tier
    region = place(region) or place(offering.region)
    if book.windows and _holiday(catalog_at, offering.provider):
        minute = None
    asked = Asked(tier, region, context_tok, minute)
    here = any(key[2] == region for key in book.rows) and bool(region)
    found: dict[str, Rate] = {}
    for meter in METERS:
        rate = _rate(catalog_at, book, offering, meter, asked._replace(region=region if here else ""))
        if rate is not None:
            found[meter] = rate
    for meter in ("cache_write", "cache_write_1h"):
        if meter not in found and "input" in found:
            rule = _rule(catalog_at, offering, "unlisted_write_multiplier", meter, asked)
            if rule is not None:
                plain = found["input"]
                usd = plain.usd * _exact(rule)
                found[meter] = _made(meter, usd, plain.per, (*plain.facts, rule.id), plain.announced)
    unbilled = catalog_at.find(offering.subject, "unbilled")
    doubt = str(unbilled.value) if unbilled is not None else ""
    days = [rate.announced for rate in found.values() if rate.announced]
    announced = f"prices announced for {min(days)}, not yet seen in force" if days else ""
    if region == "" or here:
        return Rates(found, doubt, announced)
    placed = {meter: _placed(catalog_at, offering, rate, asked) for meter, rate in found.items()}
    if None in placed.values():
        doubt = f"no price of {offering.provider} in region {region!r} is known: list price taken"
        return Rates(found, doubt, announced)
    return Rates({meter: rate for meter, rate in placed.items() if rate is not None}, doubt, announced)


def tiers(catalog: Catalog) -> tuple[str, ...]:
    """Every tier under which some offering has a price at some time, the standard one first."""
    attributes = {attribute for attribute, _ in PRICES.values()} | {"batch_multiplier", "tier_multiplier"}
    subjects = {subject for attribute in attributes for subject in catalog.having(attribute)}
    keys = (key for subject in subjects for key in catalog.keys(subject) if key.attribute in attributes)
    named = {parse_when(key.when).get("tier", "batch" if "batch" in key.attribute else "") for key in keys}
    return ("standard", *sorted(name for name in named - {*STANDARD} if "*" not in name))


def place(region: str) -> str:
    """A region as rules and prices name it; blank where it says none.

    >>> place("Data Zone (EU)"), place("us_east_1"), place("Global"), place("not_available")
    ('data-zone-eu', 'us-east-1', '', '')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", region.lower()).strip("-")
    return "" if plain in ("global", "not-available", "unknown", "default", "none") else plain


def provisioned(
    catalog_at: CatalogAt, provider: str, term: str = "hour", model: str = "", region: str = ""
) -> Rate | None:
    """What a unit of provisioned throughput costs for an hour; ``None`` where it is not known.

    ``term`` is for how long it is taken: ``hour``, ``1-month``, ``6-month``. It is a charge of the account,
    by the hour and whether used or not, and so no part of a request's bill.
    """
    asked = {"term": (term,), "model": (model.lower(),), "region": (place(region),)}
    fact = _nearest(catalog_at, f"provider/{provider}", "provisioned_usd_per_unit_h", asked)
    return _made("provisioned", _exact(fact), 1, (fact.id,)) if fact is not None else None


def ruled(catalog_at: CatalogAt, offering: Offering, attribute: str) -> Fact | None:
    """The rule in force on how an offering's model is served: its maker's, else its seller's.

    Who resells a closed model serves it as its maker does (Google of Claude: "behaves as described in the
    Anthropic documentation"); a host of open weights runs them by rules of its own. A rule that names the
    model goes before one that does not.
    """
    name = offering.subject.split("/", 2)[2].lower()
    asked = {"model": (name, _spelled(name), offering.serves)}
    for seller in (maker(catalog_at.catalog, offering), offering.provider):
        fact = _nearest(catalog_at, f"provider/{seller}", attribute, asked) if seller else None
        if fact is not None:
            return fact
    return None


def maker(catalog: Catalog, offering: Offering) -> str:
    """The provider that makes the closed model of an offering; blank where the catalog names none.

    Where nothing says which model is served, the maker's own name of it may stand in the seller's.
    """
    models, names = catalog.once(_makers)
    if offering.serves:
        return models.get(offering.serves, "")
    sold = _spelled(offering.subject.split("/", 2)[2].lower())
    return next((by for name, by in names if name in sold), "")


def _makers(catalog: Catalog) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Makers by closed model, and by their own names of these, the longest first."""
    models, names = {}, []
    for subject in catalog.having("originator", "api/"):
        _, by, name = subject.split("/", 2)
        served = next((str(fact.value) for fact in catalog.about(subject) if fact.attribute == "serves"), "")
        weights = catalog.history(f"model/{served}", "open_weights")
        if not any(fact.value == "true" for fact in weights):
            names.append((_spelled(name.lower()), by))
            models[served or name] = by
    return models, tuple(sorted(names, key=lambda one: -len(one[0])))


def _spelled(name: str) -> str:
    """A name with the hyphens that makers write where sellers write points."""
    return name.replace(".", "-")


def edges(catalog: Catalog, offering: Offering) -> tuple[frozenset[date], tuple[int, ...], tuple[Slot, ...]]:
    """Where the price of an offering can change: (days, input lengths, daily windows).

    Between two neighbouring days, within a band and within the same windows every request of one tier and
    region has the same rates: a columnar bill asks :func:`rates` once for each such cell.
    """
    return catalog.once(_edges, offering)


def _edges(catalog: Catalog, offering: Offering) -> tuple[frozenset[date], tuple[int, ...], tuple[Slot, ...]]:
    book = catalog.once(_book, offering.subject)
    days = set()
    subjects = [offering.subject, f"provider/{offering.provider}"]
    if book.windows:
        subjects += catalog.subjects("calendar/")
    for subject in subjects:
        for fact in catalog.about(subject):
            days |= {day for day in (fact.valid_from, fact.valid_to) if day}
    return frozenset(days), book.bands, book.windows


def _holiday(catalog_at: CatalogAt, provider: str) -> bool:
    """Whether the day is a public holiday of the calendar that a provider's daily windows keep."""
    kept = catalog_at.find(f"provider/{provider}", "window_calendar")
    return kept is not None and catalog_at.find(f"calendar/{kept.value}", "holiday") is not None


def _rate(catalog_at: CatalogAt, book: Book, offering: Offering, meter: str, asked: Asked) -> Rate | None:
    """One meter's rate: a listed price, else the standard price under the tier's rule. Where the offering has
    prices of its own in the region asked for, only these; else the price before the region."""
    per = PRICES[meter][1]
    tier, region = asked.tier, asked.region if per != 1 else ""
    own = offering.provider == offering.subject.split("/", 2)[1]
    if tier == "standard" or own:
        listed = _listed(catalog_at, book, offering.subject, (meter, tier, region), asked)
        if listed is not None:
            return _made(meter, _exact(listed), per, (listed.id,), _announced(listed))
    if tier == "standard":
        return None
    name = "batch_multiplier" if tier == "batch" else "tier_multiplier"
    rule = _rule(catalog_at, offering, name, meter, asked._replace(region=""))
    standard = _listed(catalog_at, book, offering.subject, (meter, "standard", region), asked)
    if rule is None or standard is None:
        return None
    usd = _exact(standard) * _exact(rule)
    return _made(meter, usd, per, (standard.id, rule.id), _announced(standard))


def _announced(fact: Fact) -> date | None:
    return fact.valid_from if fact.kind == "expected" else None


def _listed(
    catalog_at: CatalogAt, book: Book, subject: str, row: tuple[str, str, str], asked: Asked
) -> Fact | None:
    """The narrowest price row in force that covers the request."""
    attribute = PRICES[row[0]][0]
    for slot, when in book.rows.get(row, ()):
        if slot.covers(asked.context_tok, catalog_at.on.weekday(), asked.minute):
            fact = catalog_at.find(subject, attribute, when)
            if fact is not None:
                return fact
    return None


def _placed(catalog_at: CatalogAt, offering: Offering, rate: Rate, asked: Asked) -> Rate | None:
    """A rate in a region; only tokens cost more there. ``None`` where no rule is known."""
    if rate.per == 1:
        return rate
    rule = _rule(catalog_at, offering, "region_multiplier", rate.meter, asked)
    if rule is None:
        return None
    factor = _exact(rule)
    facts = (*rate.facts, rule.id) if factor != 1 else rate.facts
    return _made(rate.meter, rate.usd * factor, rate.per, facts, rate.announced)


def _rule(catalog_at: CatalogAt, offering: Offering, attribute: str, meter: str, asked: Asked) -> Fact | None:
    """The most specific rule of the provider in force for a meter, tier, region and model."""
    names = (offering.subject.split("/", 2)[2].lower(), offering.serves)
    parts = {"meter": (meter,), "tier": (asked.tier,), "region": (asked.region,), "model": names}
    return _nearest(catalog_at, f"provider/{offering.provider}", attribute, parts)


def _nearest(
    catalog_at: CatalogAt, subject: str, attribute: str, asked: Mapping[str, tuple[str, ...]]
) -> Fact | None:
    """The fact in force whose ``when`` says most of what is asked, every part of it fitting."""
    best: tuple[int, Fact] | None = None
    for key, parts, weight in catalog_at.catalog.once(_rules, subject, attribute):
        if not all(any(fnmatchcase(name, glob) for name in asked.get(part, ())) for part, glob in parts):
            continue
        fact = catalog_at.find(*key)
        if fact is not None and (best is None or weight > best[0]):
            best = (weight, fact)
    return best[1] if best else None


def _made(meter: str, usd: Decimal, per: int, facts: tuple[str, ...], announced: date | None = None) -> Rate:
    fusd = (usd * FEMTO_PER_USD / per).to_integral_value(ROUND_HALF_EVEN)
    return Rate(meter, Decimal(format(usd.normalize(), "f")), per, int(fusd), facts, announced)


def _exact(fact: Fact) -> Decimal:
    """The decimal that the file states: the shortest one that reads back as the same float."""
    return Decimal(repr(fact.value)) if isinstance(fact.value, float) else Decimal(fact.value)


def _rules(
    catalog: Catalog, subject: str, attribute: str
) -> tuple[tuple[Key, tuple[tuple[str, str], ...], int], ...]:
    """The rules of one attribute of a subject, in the order of the files: key, parts of its ``when``, and how
    much these say."""
    keys = [key for key in catalog.keys(subject) if key.attribute == attribute]
    parts = [tuple(parse_when(key.when).items()) for key in keys]
    return tuple(
        (key, part, sum(len(glob.replace("*", "")) + 1 for _, glob in part))
        for key, part in zip(keys, parts, strict=True)
    )


def _book(catalog: Catalog, subject: str) -> Book:
    meters = {attribute: meter for meter, (attribute, _) in PRICES.items()}
    rows: dict[tuple[str, str, str], list[tuple[Slot, str]]] = {}
    for key in catalog.keys(subject):
        if key.attribute in meters:
            when = parse_when(key.when)
            tier, region = when.pop("tier", "standard"), when.pop("region", "")
            slot = Slot(_band(when.pop("band", ""), subject), *_window(when.pop("window", ""), subject))
            if when:
                raise BadFact(
                    f"{next(iter(when))!r} in `when` is not known to a bill",
                    where=f"{subject} {key.attribute}",
                    fix="Use band, region, tier, window",
                )
            rows.setdefault((meters[key.attribute], tier, region), []).append((slot, key.when))
    for found in rows.values():
        found.sort(key=lambda pair: (bool(pair[0].days), pair[0].from_tok), reverse=True)
    slots = [slot for found in rows.values() for slot, _ in found]
    bands = sorted({slot.from_tok for slot in slots} - {0})
    windows = sorted({slot._replace(from_tok=0) for slot in slots if slot.days})
    return Book(rows, tuple(bands), tuple(windows))


def _band(text: str, where: str) -> int:
    """The least input of a band: ``>272000`` is 272001, ``>=200000`` is 200000."""
    if not text:
        return 0
    found = re.fullmatch(r">(=?)(\d+)", text)
    if not found:
        raise BadFact(f"band {text!r}", where=where, fix="Write >272000 or >=200000")
    return int(found[2]) + (0 if found[1] else 1)


_DAYS: Mapping[str, int] = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}


def _window(text: str, where: str) -> tuple[tuple[int, ...], int, int]:
    """Days, first minute and end of a window: ``mon-fri 01:00-04:00``, in UTC; no days: every day."""
    if not text:
        return (), 0, 1440
    found = re.fullmatch(r"(?:(\w{3})-(\w{3}) )?(\d\d):(\d\d)-(\d\d):(\d\d)", text)
    if not found or not {found[1], found[2]} <= {None, *_DAYS}:
        raise BadFact(f"window {text!r}", where=where, fix="Write mon-fri 01:00-04:00 (UTC)")
    days = tuple(range(7))
    if found[1]:
        days = tuple(_week(_DAYS[found[1]], _DAYS[found[2]]))
    return days, int(found[3]) * 60 + int(found[4]), int(found[5]) * 60 + int(found[6])


def _week(first: int, last: int) -> Iterator[int]:
    day = first
    yield day
    while day != last:
        day = (day + 1) % 7
        yield day
