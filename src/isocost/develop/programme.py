"""A model's whole making: its cost by boundary and account, the ways there, what would change it."""

from __future__ import annotations

import math

import msgspec

from isocost.catalog import CatalogAt
from isocost.develop import compute
from isocost.develop.ask import Ask
from isocost.develop.book import Book, Line, over, term
from isocost.develop.distil import Distilled, distilled
from isocost.develop.hardware import (
    amortised_term,
    busy_for_own,
    energy_term,
    own_usd_per_gpu_h,
    purchase_term,
)
from isocost.develop.published import METHOD, with_network
from isocost.develop.ways import MAKERS, Way, run_flop, run_hours, site
from isocost.errors import BadInput
from isocost.risk import Band, Swing, swings

MOST_SWINGS = 5
PEOPLE = ("development-staff",)


class Boundary(msgspec.Struct, frozen=True):
    """What is counted, and what it comes to; ``None`` where a price is not known, said in ``note``."""

    name: str
    band: Band | None
    note: str


class Own(msgspec.Struct, frozen=True):
    """An own cluster against rented: an hour of each, and how busy it must be to cost the same."""

    own_usd_per_gpu_h: float
    rent_usd_per_gpu_h: float
    busy_frac: float


class Shared(msgspec.Struct, frozen=True):
    """Training where the data lie: what the exchange and the further computation cost."""

    sites: float
    rounds: float
    full: Band
    adapter: Band


class Programme(msgspec.Struct, frozen=True):
    """What making a model costs.

    ``chosen`` is the way that the headline and ``accounts`` are of; ``boundaries`` are of the same way.
    ``disclosed_multipliers`` are the least and the greatest whole programme over hardware and energy of
    the final run that four programmes imply. ``hours_range`` is the
    central 80 % of the hours of the final run. ``later_frac`` is the compute that the same loss takes a
    year later (low, middle, high).
    """

    ask: Ask
    chosen: Way
    total: Band
    people_frac: float
    boundaries: tuple[Boundary, ...]
    accounts: tuple[Line, ...]
    ways: tuple[tuple[Way, Band], ...]
    swings: tuple[Swing, ...]
    own: Own | None
    shared: Shared
    distilled: Distilled | None
    later_frac: tuple[float, float, float]
    disclosed_multipliers: tuple[float, float]
    flop: float
    mfu_frac: float
    hours_range: tuple[float, float]


def programme(at: CatalogAt, ask: Ask, way: str = "") -> Programme:
    """Cost a model: every way that the ask states enough for, and one of them in full.

    ``way`` is one of scratch, full, lora, distil, hosted, buy; blank is from scratch where tokens are
    stated, else LoRA.

    Raises:
        BadInput: no such way, or the ask states too little for it.
        UnknownFact: an accelerator, region or model that the catalog does not hold.
    """
    here = site(at, ask)
    every = {name: made for name, make in MAKERS.items() if (made := make(here)) is not None}
    wanted = way or ("scratch" if "scratch" in every else "lora")
    if wanted not in MAKERS:
        raise BadInput(f"no way is called {wanted!r}", fix=f"Ways: {', '.join(MAKERS)}")
    if wanted not in every:
        raise BadInput("training from scratch needs tokens", fix="Give --tokens 100e9, or tokens = 100e9")
    chosen = every[wanted]
    total = chosen.book.total()
    people = chosen.book.of(PEOPLE).mid_usd
    widest = swings(chosen.book.ledger, chosen.book.drivers)[:MOST_SWINGS]
    _, use = run_hours(at, ask, here.gpu)
    known = [float(fact.value) for fact in at.each("disclosed/", "programme_multiplier")]
    return Programme(
        ask,
        chosen,
        total,
        people / total.mid_usd if total.mid_usd else 0.0,
        _boundaries(at, ask, chosen),
        chosen.book.lines(),
        tuple((one, one.book.total()) for one in every.values()),
        widest,
        _own(at, ask),
        _shared(at, ask, chosen),
        distilled(at, ask) if ask.tokens else None,
        _later(at),
        (min(known), max(known)),
        run_flop(at, ask),
        1.0 / use.value if ask.gpu_hours is None else _implied(at, ask),
        _hours_range(at, ask, chosen),
    )


def _boundaries(at: CatalogAt, ask: Ask, chosen: Way) -> tuple[Boundary, ...]:
    """The same run under each boundary that the literature draws."""
    found = []
    if chosen.gpu_h:
        kept = ("training-from-scratch", "fine-tuning", "distillation")
        words = "accelerator-hours at the rent of today"
        found.append(Boundary("final run, rented", chosen.book.of(kept), words))
        found += [_amortised(at, ask, chosen), _bought(at, ask, chosen)]
    words = "with experiments, data, people, evaluation, infrastructure"
    found.append(Boundary("whole programme", chosen.book.total(), words))
    return tuple(found)


def _amortised(at: CatalogAt, ask: Ask, chosen: Way) -> Boundary:
    here, name = site(at, ask), "hardware by use + energy"
    hourly = amortised_term(at, here.gpu.ident)
    if hourly is None:
        return Boundary(name, None, f"not known: no price of purchase of {here.gpu.name}")
    book = Book("amortised")
    hours, use = (
        run_hours(at, ask, here.gpu)
        if chosen.name == "scratch"
        else (chosen.gpu_h, over(term(at.fact("slm/any", "mfu_frac"))))
    )
    scale = 1.0 if chosen.name == "scratch" else 1.0 / use.value
    book.add("training-cluster", "what the hours use up", "h", hours * scale, use, hourly)
    book.add(
        "training-energy",
        "energy at the site's meter",
        "kWh",
        hours * scale * here.kw,
        use,
        energy_term(at, ask.region),
    )
    return Boundary(name, book.total(), "as an owner counts: the fall of its worth while it runs, and power")


def _bought(at: CatalogAt, ask: Ask, chosen: Way) -> Boundary:
    here, name = site(at, ask), "buying the cluster"
    price = purchase_term(at, here.gpu.ident)
    if price is None:
        return Boundary(name, None, f"not known: no price of purchase of {here.gpu.name}")
    book = Book("bought")
    servers = with_network(float(chosen.gpus), at.number(METHOD, "interconnect_frac"))
    book.add("training-cluster", "accelerators with servers and network", "count", servers, price)
    return Boundary(name, book.total(), f"{chosen.gpus:,} × accelerator, server and network, before any use")


def _own(at: CatalogAt, ask: Ask) -> Own | None:
    here = site(at, ask)
    price = purchase_term(at, here.gpu.ident)
    if price is None:
        return None
    power = here.kw * energy_term(at, ask.region).value
    hourly = own_usd_per_gpu_h(
        price.value,
        at.number(METHOD, "interconnect_frac"),
        at.number("development/any", "own_life_years"),
        at.number("development/any", "own_upkeep_frac"),
        power,
    )
    return Own(hourly, here.rent.value, busy_for_own(hourly, power, here.rent.value))


def _shared(at: CatalogAt, ask: Ask, chosen: Way) -> Shared:
    """Federated averaging of the whole model, and of an adapter alone."""
    here, any_ = site(at, ask), "development/any"
    sites = ask.federated.sites or at.number(any_, "federated_sites")
    rounds = ask.federated.rounds or at.number(any_, "federated_rounds")
    word = at.number("dtype/bf16", "bytes_per_element")
    price = term(at.fact("storage/egress", "usd_per_gb"))
    more = term(at.fact(any_, "local_over_central_flop"))
    bands = []
    for part in (1.0, at.number(any_, "adapter_frac")):
        book = Book("federated")
        moved = compute.exchanged_bytes(rounds, sites, ask.params * part, word)
        book.add("federated-training", "weights exchanged", "GB", moved / 1e9, price)
        extra = max(0.0, more.value - 1.0)
        book.add("federated-training", "further computation", "h", chosen.gpu_h * extra, here.rent)
        bands.append(book.total())
    return Shared(sites, rounds, bands[0], bands[1])


def _hours_range(at: CatalogAt, ask: Ask, chosen: Way) -> tuple[float, float]:
    """Central 80 % of the hours of the final run: what utilisation leaves open."""
    use = over(term(at.fact("slm/any", "mfu_frac")))
    if chosen.name == "scratch":
        use = run_hours(at, ask, site(at, ask).gpu)[1]
    return chosen.gpu_h * use.low_ratio, chosen.gpu_h * use.high_ratio


def _later(at: CatalogAt) -> tuple[float, float, float]:
    """Compute for the same loss a year from now, over today's: high progress, middle, low."""
    fact = at.fact("disclosed/language-models", "halving_months")
    ends = (fact.low or float(fact.value), float(fact.value), fact.high or float(fact.value))
    low, middle, high = (compute.flop_after(1.0, 12.0, months) for months in ends)
    return low, middle, high


def _implied(at: CatalogAt, ask: Ask) -> float:
    here = site(at, ask)
    flop = run_flop(at, ask)
    return compute.mfu(flop, here.gpu.flop_per_s, ask.gpu_hours) if flop and ask.gpu_hours else math.nan
