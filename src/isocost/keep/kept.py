"""The whole: every account of deployment and upkeep, what it costs or why it costs nothing here."""

from __future__ import annotations

from typing import NamedTuple

from isocost.catalog import CatalogAt
from isocost.keep.absent import ANSWERS, of_keeping
from isocost.keep.ask import Ask
from isocost.keep.book import Keep, place_of
from isocost.keep.change import Change, keep_moving
from isocost.keep.duties import Duty, keep_lawful
from isocost.keep.people import keep_devices, keep_porting, keep_running
from isocost.keep.pooled import Part, shared
from isocost.keep.power import Energy, keep_powered
from isocost.keep.stores import Product, keep_documents
from isocost.keep.upkeep import (
    Automation,
    keep_balanced,
    keep_current,
    keep_gateway,
    keep_stored,
    keep_watching,
    priced,
)
from isocost.ledger import Charge, Ledger
from isocost.risk import Band, Swing, band, swings

PILLARS = ("deployment", "sustainability")
PAY = ".usd_per_year"


class Line(NamedTuple):
    """An account: its cost a month, the fact that moves it most, and what is booked to it."""

    account: str
    pillar: str
    band: Band
    driver: str
    charges: tuple[Charge, ...]


class Kept(NamedTuple):
    """What keeping costs a month: the whole, its accounts, why others are empty, and what stands behind."""

    ask: Ask
    total: Band
    lines: tuple[Line, ...]
    pillars: dict[str, Band]
    absent: dict[str, str]
    people_frac: float
    people_fte: float
    duties: tuple[Duty, ...]
    energy: Energy
    change: Change | None
    automation: Automation | None
    databases: tuple[Product, ...]
    shares: tuple[Part, ...]
    swings: tuple[Swing, ...]
    porting: str


def keep(at: CatalogAt, ask: Ask) -> Kept:
    """What it costs a month to keep the application that is asked for, on the catalog's date.

    Raises:
        BadInput: a region, accelerator or model that the catalog does not know.
        UnknownFact: a database or a target of porting that it does not know.
    """
    place_of(at, ask.region, "gco2e_per_kwh")
    book = Keep(ask.option, at)
    databases = keep_documents(book, ask)
    keep_watching(book, ask)
    keep_stored(book, ask)
    keep_gateway(book)
    keep_balanced(book, ask)
    people = keep_running(book, ask)
    keep_devices(book, ask)
    porting = keep_porting(book, ask)
    automation = keep_current(book, ask)
    duties = keep_lawful(book, ask)
    energy = keep_powered(book, ask)
    change = None
    if ask.option == "api" or (ask.option == "hosted" and ask.model):
        model = ask.model or at.text("slm/buy", "api")
        change = keep_moving(book, ask, priced(at, model, "model"))
    ledger = book.ledger
    total = book.total()
    lines = tuple(_line(book, one.account, one.band) for one in book.lines())
    pay = sum(charge.usd for charge in ledger if "staff/" in charge.price_fact and PAY in charge.price_fact)
    return Kept(
        ask=ask,
        total=total,
        lines=lines,
        pillars={name: band(ledger.where(pillar=name), book.drivers) for name in PILLARS},
        absent=_absent(at, ask, frozenset(line.account for line in lines)),
        people_frac=pay / total.mid_usd if total.mid_usd else 0.0,
        people_fte=people,
        duties=duties,
        energy=energy,
        change=change,
        automation=automation,
        databases=databases,
        shares=shared(ledger.total_fusd, ask.teams, ask.share_by),
        swings=swings(ledger, book.drivers),
        porting=porting,
    )


def _line(book: Keep, account: str, found: Band) -> Line:
    charges = tuple(charge for charge in book.charges if charge.account == account)
    widest = swings(Ledger(charges), book.drivers)
    return Line(account, charges[0].pillar, found, widest[0].name if widest else "", charges)


def _absent(at: CatalogAt, ask: Ask, booked: frozenset[str]) -> dict[str, str]:
    """Why an account of the two pillars has no amount; every one of them is here or booked."""
    reasons = of_keeping(ask)
    return {
        name: reasons[name].why if name in reasons else ANSWERS
        for fact in at.each("account/", "pillar")
        if fact.value in PILLARS and (name := fact.subject.partition("/")[2]) not in booked
    }
