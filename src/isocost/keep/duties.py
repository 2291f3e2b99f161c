"""Compliance as dated duties: which apply to whom from when, and the hours they take.

Facts read: ``duty/*`` (title, applies_from, region, role, risk_class, setup_h, yearly_h, deployer_setup_h,
deployer_yearly_h, usd_per_year, moved_from), ``staff/*`` and ``place/*.within``. This is not legal advice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from isocost.catalog import CatalogAt, Fact
from isocost.develop.book import over
from isocost.keep.ask import OWN, Ask, Law
from isocost.keep.book import Keep, moving

EVERYWHERE = "any"


class Duty(NamedTuple):
    """A duty that falls on the asker: hours once and a year, each as low, mid and high of its fact.

    ``usd_per_year`` is what a year of it costs, ``setup_usd`` what it takes once; ``counts`` where it is
    in force, so that the month pays for it.
    """

    id: str
    title: str
    applies_from: str
    moved_from: str
    who: str
    setup_h: tuple[float, float, float]
    yearly_h: tuple[float, float, float]
    setup_usd: float
    usd_per_year: float
    counts: bool
    is_set_up: bool


def places(at: CatalogAt, ask: Ask) -> frozenset[str]:
    """Places whose law applies: those of the users, else the region of the machines, and what holds them."""
    named = ask.law.places or (ask.region,)
    outer = (at.find(f"place/{place}", "within") for place in named)
    return frozenset(named) | {str(fact.value) for fact in outer if fact is not None}


def in_place(region: str, where: frozenset[str]) -> bool:
    """Whether a duty of a region falls on a place: the region, or a part or a case of it.

    >>> in_place("eu-high-risk", frozenset({"eu"})), in_place("us-ca", frozenset({"eu"}))
    (True, False)
    """
    return region == EVERYWHERE or any(region == one or region.startswith(f"{one}-") for one in where)


def in_class(risk_class: str, law: Law) -> bool:
    """Whether a duty of a class of uses falls on a use.

    >>> in_class("limited", Law(risk="high")), in_class("high", Law(risk="limited"))
    (True, False)
    """
    if risk_class == "personal":
        return law.personal_data
    if risk_class == "decision":
        return law.decides_on_people
    if risk_class == "limited":
        return law.risk != "minimal"
    return risk_class in (EVERYWHERE, law.risk)


def _hours(at: CatalogAt, subject: str, name: str, law: Law) -> Fact:
    own = at.find(subject, f"deployer_{name}") if law.role == "deployer" else None
    return own or at.fact(subject, name)


def keep_lawful(book: Keep, ask: Ask) -> tuple[Duty, ...]:
    """Book the duties in force; every duty that will ever apply, by date.

    A duty of the terms of a provider falls on each of them; own replicas have none.
    """
    at, law = book.at, ask.law
    where = places(at, ask)
    found = []
    for title in at.each("duty/", "title"):
        subject = title.subject
        role = at.find(subject, "role")
        risk_class = at.find(subject, "risk_class")
        if role is not None and role.value not in (EVERYWHERE, law.role):
            continue
        if risk_class is not None and not in_class(str(risk_class.value), law):
            continue
        region = at.text(subject, "region")
        times = ask.providers if region == EVERYWHERE else 1
        if not in_place(region, where) or (region == EVERYWHERE and ask.option in OWN) or not times:
            continue
        found.append(_duty(book, subject, ask, float(times)))
    return tuple(sorted(found, key=lambda one: (one.applies_from, one.id)))


def keep_reviewing(book: Keep, providers: Collection[str]) -> None:
    """Book the first review of the terms of providers that are new, spread over its life."""
    at = book.at
    pay = (over(book.fact("staff/any", "hours_per_year")), *book.salary())
    for title in at.each("duty/", "title"):
        if at.text(title.subject, "region") == EVERYWHERE:
            hours = moving(at.fact(title.subject, "setup_h"))
            for provider in providers:
                what = f"first review of the terms of {provider}, spread"
                book.add("compliance", what, "h", 1.0, book.once(), hours, *pay)


def _duty(book: Keep, subject: str, ask: Ask, times: float) -> Duty:
    at, law, name = book.at, ask.law, subject.partition("/")[2]
    since = at.text(subject, "applies_from")
    counts, is_set_up = since <= at.on.isoformat(), name in law.set_up
    hours_once, hours = (_hours(at, subject, part, law) for part in ("setup_h", "yearly_h"))
    year = over(book.fact("staff/any", "hours_per_year"))
    pay = (year, *book.salary())
    hour_usd = pay[0].value * pay[1].value * pay[2].value
    advice, moved = at.find(subject, "usd_per_year"), at.find(subject, "moved_from")
    title = at.text(subject, "title")
    outside = float(advice.value) if advice else 0.0
    if counts:
        month = times / book.months()
        book.add("compliance", title, "h", month, moving(hours), *pay)
        if advice is not None:
            book.add("compliance", f"{title}: advice", "year", month, moving(advice))
        if not is_set_up:
            book.add(
                "compliance", f"{title}: set up, spread", "h", times, book.once(), moving(hours_once), *pay
            )
    return Duty(
        name, title, since, str(moved.value) if moved else "", law.role, hours_once.ends, hours.ends,
        times * float(hours_once.value) * hour_usd,
        times * (float(hours.value) * hour_usd + outside),
        counts, is_set_up,
    )  # fmt: skip
