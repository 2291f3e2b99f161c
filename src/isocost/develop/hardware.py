"""Accelerators for training: what one does, draws, costs to rent and to buy today."""

from __future__ import annotations

import difflib
import math
from datetime import date, timedelta

import msgspec

from isocost.catalog import CatalogAt, Fact
from isocost.catalog.fact import parse_when
from isocost.develop.book import Term, term
from isocost.develop.published import (
    ANY,
    H_PER_YEAR,
    METHOD,
    amortised_usd_per_chip_h,
    of_chip,
    value_after,
    with_network,
)
from isocost.errors import UnknownFact
from isocost.units import DAYS_PER_YEAR


class Accelerator(msgspec.Struct, frozen=True):
    """One accelerator: its id, dense 16-bit throughput, memory and design power."""

    ident: str
    name: str
    flop_per_s: float
    memory_bytes: float
    tdp_w: float


def accelerator(at: CatalogAt, name: str) -> Accelerator:
    """The accelerator of a name or an alias.

    Raises:
        UnknownFact: none is called so; near ones are named.
    """
    wanted = name.strip().lower()
    names: dict[str, str] = {}
    for fact in at.each("gpu/", "name"):
        names[fact.subject.partition("/")[2]] = fact.subject
        names.setdefault(str(fact.value).lower(), fact.subject)
    for fact in at.each("gpu/", "aliases"):
        for alias in str(fact.value).split("|"):
            names.setdefault(alias.strip().lower(), fact.subject)
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)
        raise UnknownFact(
            f"no accelerator is called {name!r}",
            where="gpu",
            fix=f"Near: {', '.join(near)}" if near else "Type 'isocost catalog list gpu/'",
        )
    subject = names[wanted]
    return Accelerator(
        subject.partition("/")[2],
        at.text(subject, "name"),
        at.number(subject, "peak_flop_per_s", "dtype=bf16"),
        at.number(subject, "memory_bytes"),
        at.number(subject, "tdp_w"),
    )


def rent_term(at: CatalogAt, gpu: str) -> Term:
    """An hour on demand: the middle of the providers' cheapest quotes, and what 80 % of them ask.

    Raises:
        UnknownFact: nobody quotes the accelerator.
    """
    quotes = _quotes(at, gpu)
    if not quotes:
        raise UnknownFact(
            "nobody quotes a price on demand",
            where=f"rental/…/{gpu}",
            fix="State it: --usd-per-gpu-h, or usd_per_gpu_h in slm.toml",
        )
    middle = (
        quotes[len(quotes) // 2]
        if len(quotes) % 2
        else (quotes[len(quotes) // 2 - 1] + quotes[len(quotes) // 2]) / 2.0
    )
    return Term(
        f"rental/{gpu}.usd_per_gpu_h",
        middle,
        _quantile(quotes, 0.1) / middle,
        _quantile(quotes, 0.9) / middle,
    )


def purchase_term(at: CatalogAt, gpu: str) -> Term | None:
    """One accelerator with its part of a server: from its price when new, and what that has fallen to.

    The middle is the geometric mean of both. ``None`` where no price of purchase is known.
    """
    words = gpu.split("-")
    group = next((one for one in at.catalog.subjects("chip-class/") if one.partition("/")[2] in words), None)
    if group is None:
        return None
    usd = at.number(group, "usd_per_chip")
    years = (at.on - date.fromisoformat(at.text(group, "priced_on"))).days / DAYS_PER_YEAR
    fallen = value_after(usd, at.number(METHOD, "price_fall_ooms_per_year"), years)
    middle = math.sqrt(usd * fallen)
    return Term(f"{group}.usd_per_chip", middle, fallen / middle, usd / middle)


def amortised_term(at: CatalogAt, gpu: str) -> Term | None:
    """An hour of an accelerator by use: the fall of its worth in that hour, network included."""
    price = purchase_term(at, gpu)
    if price is None:
        return None
    hourly = amortised_usd_per_chip_h(price.value, at.number(METHOD, "price_fall_ooms_per_year"))
    usd = with_network(hourly, at.number(METHOD, "interconnect_frac"))
    return Term(price.name, usd, price.low_ratio, price.high_ratio)


def own_usd_per_gpu_h(
    purchase_usd: float,
    interconnect_frac: float,
    own_life_years: float,
    own_upkeep_frac: float,
    energy_usd_per_gpu_h: float,
) -> float:
    """An hour of an own cluster that never idles: price over its life, upkeep, energy.

    >>> own_usd_per_gpu_h(0.0, 0.19, 4.0, 0.1, 0.1)
    0.1
    """
    bought = with_network(purchase_usd, interconnect_frac)
    return bought * (1.0 / own_life_years + own_upkeep_frac) / H_PER_YEAR + energy_usd_per_gpu_h


def busy_for_own(own_usd_per_gpu_h: float, energy_usd_per_gpu_h: float, rent_usd_per_gpu_h: float) -> float:
    """Share of its life that an own cluster must be busy to cost what renting costs; above 1: never.

    >>> busy_for_own(2.0, 0.0, 4.0)
    0.5
    """
    saved = rent_usd_per_gpu_h - energy_usd_per_gpu_h
    return (own_usd_per_gpu_h - energy_usd_per_gpu_h) / saved if saved > 0 else math.inf


def server_kw_per_gpu(at: CatalogAt, one: Accelerator) -> float:
    """Mean power of an accelerator with its part of the server and the site, while training."""
    method = at.catalog.at(ANY)
    frac = method.number(METHOD, "power_frac", "chip=gpu")
    return (
        one.tdp_w
        / 1e3
        * of_chip(method, "server_power_ratio", one.ident)
        * frac
        * at.number("energy/default", "pue")
    )


def region(at: CatalogAt, name: str, attribute: str) -> Fact:
    """A fact of a region's electricity; of the default where the region does not state it.

    Raises:
        UnknownFact: no region is called so.
    """
    if not at.catalog.keys(f"energy/{name}"):
        known = ", ".join(one.partition("/")[2] for one in at.catalog.subjects("energy/"))
        raise UnknownFact(f"no region is called {name!r}", where="energy", fix=f"Known: {known}")
    return at.find(f"energy/{name}", attribute) or at.fact("energy/default", attribute)


def energy_term(at: CatalogAt, name: str) -> Term:
    """A kilowatt-hour in a region."""
    return term(region(at, name, "usd_per_kwh"))


def _quotes(at: CatalogAt, gpu: str) -> list[float]:
    """Each provider's cheapest quote on demand that is fresh, lowest first; old ones where none is."""
    life = timedelta(days=at.number("planning/rental", "quote_life_days"))
    fresh: dict[str, float] = {}
    every: dict[str, float] = {}
    for fact in at.each("rental/", "usd_per_gpu_h"):
        _, provider, of = fact.subject.split("/", 2)
        if of != gpu or provider == "market" or parse_when(fact.when).get("term") != "on_demand":
            continue
        usd = float(fact.value)
        every[provider] = min(usd, every.get(provider, math.inf))
        if fact.valid_from is None or at.on - fact.valid_from <= life:
            fresh[provider] = min(usd, fresh.get(provider, math.inf))
    return sorted((fresh or every).values())


def _quantile(values: list[float], share: float) -> float:
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
