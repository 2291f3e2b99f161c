"""Energy and carbon of the answers by region, with the boundary stated.

Facts read: ``energy/*``, ``gpu/*.tdp_w``. Own replicas: boards, hosts and building; an API: what makers
disclose of one answer, their building included. Making the machines and training the model are outside.
"""

from __future__ import annotations

from typing import NamedTuple

from isocost.develop.book import Term, given
from isocost.errors import BadInput
from isocost.keep.ask import OWN, Ask
from isocost.keep.book import Keep, moving, place_of
from isocost.ledger import Charge, Ledger, fusd
from isocost.perf.energy import power_of, replica_power_w
from isocost.risk import JOIN, Band, Driver, band

W_PER_KW, G_PER_KG, KG_PER_TONNE = 1e3, 1e3, 1e3


class Energy(NamedTuple):
    """A month's electricity and what the grid emits for it, each low, mid, high; grid in g a kWh."""

    kwh: tuple[float, float, float]
    kg_co2e: tuple[float, float, float]
    region: str
    grid_g_per_kwh: float
    pue: float | None
    boundary: str


def keep_powered(book: Keep, ask: Ask) -> Energy:
    """Book electricity on one's own premises, and carbon at the house's own price; energy and carbon of all.

    Raises:
        BadInput: the region or the accelerator is not known.
    """
    grid = moving(place_of(book.at, ask.region, "gco2e_per_kwh"))
    terms, quantity, boundary, pue = _kwh(book, ask)
    kwh = _ends(quantity, terms)
    kg = _ends(quantity / G_PER_KG, (*terms, grid))
    if ask.option in OWN and ask.own.on_premises:
        price = moving(place_of(book.at, ask.region, "usd_per_kwh"))
        book.add("energy", "electricity at the meter", "kWh", quantity, *terms, price)
    if ask.carbon_usd_per_tonne:
        price = given("carbon_usd_per_tonne stated", ask.carbon_usd_per_tonne)
        tonnes = quantity / G_PER_KG / KG_PER_TONNE
        book.add("carbon", "emissions at the stated price", "t", tonnes, *terms, grid, price)
    return Energy(kwh, kg, ask.region, grid.value, pue, boundary)


def _kwh(book: Keep, ask: Ask) -> tuple[tuple[Term, ...], float, str, float | None]:
    at = book.at
    if ask.option not in OWN:
        each = book.fact("energy/api", "kwh_per_request")
        return (
            (each,),
            ask.traffic.requests_per_month,
            "one text answer as makers disclose it, their building included; not training, not the machines'"
            " making",
            None,
        )
    gpu = ask.own.gpu
    if at.find(f"gpu/{gpu}", "tdp_w") is None:
        known = ", ".join(fact.subject.partition("/")[2] for fact in at.each("gpu/", "tdp_w"))
        raise BadInput(f"no power of accelerator {gpu!r}", where="own.gpu", fix=f"Known: {known}")
    tdp = at.number(f"gpu/{gpu}", "tdp_w")
    # Of the hours, a share is worked at full use of the memory; the rest idles with the model loaded.
    power = power_of(at, gpu)
    busy, idle = (float(replica_power_w(power, tdp, ask.own.gpus, use, use)) for use in (1.0, 0.0))
    watts = ask.own.busy_frac * busy + (1.0 - ask.own.busy_frac) * idle
    pue = book.fact("energy/default" if ask.own.on_premises else "energy/cloud", "pue")
    host = book.fact("energy/accelerator", "host_power_ratio")
    hours = at.number("finance/any", "hours_per_month")
    return (
        (host, pue),
        watts / W_PER_KW * hours,
        "boards, their hosts and the building (PUE); not training, not the machines' making",
        pue.value,
    )


def _ends(quantity: float, terms: tuple[Term, ...]) -> tuple[float, float, float]:
    """A product's central 80 %, by the same scenarios as money."""
    amount = quantity
    for one in terms:
        amount *= one.value
    names = JOIN.join(one.name for one in terms)
    charge = Charge("", "", "", "", "", "", "", "", amount, "", names, 1.0, fusd(amount))
    drivers = {one.name: Driver(one.name, one.low_ratio, one.high_ratio) for one in terms if one.moves}
    found: Band = band(Ledger([charge]), drivers)
    return found.low_usd, found.mid_usd, found.high_usd
