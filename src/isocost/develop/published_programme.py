"""How the literature costs a whole programme: hardware, energy and staff over all of its runs.

The method of the ``development_cost`` notebook of Cottier et al. (2024): components of the final run
times a multiplier for experiments, with the pay of the people whom the report names. It is a Monte
Carlo estimate; :func:`programme` states for each part its median, central 90 % and the error that the
published median has by its own number of draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.catalog.fact import Z_CENTRAL
from isocost.develop import published
from isocost.develop.published import ANY, METHOD, Run
from isocost.errors import UnknownFact

Floats = NDArray[np.float64]
PROGRAMME = "training/programme-method"
DRAWS = 10_000
"""Draws behind each published median."""
REPEATS = 16
"""Independent estimates, whose spread is the error of one."""
STAFF_DRAWS = 500
SEED = 20_240_531


class Part(NamedTuple):
    """A part of a programme in dollars: median, central 90 %, and the relative error of one estimate."""

    median_usd: float
    low_usd: float
    high_usd: float
    error_frac: float


class Disclosed(msgspec.Struct, frozen=True):
    """A programme whose people, hours and length are known."""

    subject: str
    run: Run


def disclosed(catalog: Catalog, name: str) -> Disclosed:
    """The disclosures of a programme of that name.

    Raises:
        UnknownFact: the catalog does not hold its hours.
    """
    at = catalog.at(ANY)
    plain = _words(name.lower().replace(" ", "-"))
    for subject in sorted(catalog.having("organisation", "disclosed/"), key=len, reverse=True):
        pattern, words = at.text(subject, "match"), _words(subject.partition("/")[2])
        if not (fnmatchcase(name, pattern) or plain <= words or words <= plain):
            continue
        run = Run(
            pattern,
            at.text(subject, "organisation"),
            date.fromisoformat(at.text(subject, "published")),
            at.text(subject, "chip"),
            chip_h=at.number(subject, "chip_hours"),
            run_h=_maybe(at, subject, "run_h"),
        )
        return Disclosed(subject, run)
    raise UnknownFact(f"no disclosed programme is called {name!r}", where="disclosed/")


def programme(catalog: Catalog, one: Disclosed, month: date) -> dict[str, Part]:
    """Every part of a programme and its total, in money of ``month``.

    Raises:
        UnknownFact: nobody states who worked on it.
    """
    if one.subject not in catalog.having("people", "disclosed/"):
        raise UnknownFact("nobody states who worked on it", where=one.subject)
    level = published.index_level
    factor = published.restated(1.0, level(catalog, one.run.published), level(catalog, month))
    estimates = [_draw(catalog, one, np.random.default_rng(SEED + i)) for i in range(REPEATS)]
    names = [*estimates[0], "total"]
    found = {}
    for name in names:
        each = [_total(estimate) if name == "total" else estimate[name] for estimate in estimates]
        medians = np.array([np.median(draws) for draws in each])
        seen = float(np.log(medians).std(ddof=1))
        every = np.concatenate(each)
        due = math.sqrt(math.pi / 2.0 / DRAWS) * float(np.log(every[every > 0.0]).std())
        low, high = np.quantile(every, [0.05, 0.95])
        error = max(seen, due) * math.sqrt(1.0 + 1.0 / REPEATS)
        middle = float(np.exp(np.log(medians).mean()))
        found[name] = Part(middle * factor, float(low) * factor, float(high) * factor, error)
    return found


def _total(parts: Mapping[str, Floats]) -> Floats:
    return np.asarray(sum(parts.values()))


def _draw(catalog: Catalog, one: Disclosed, rng: np.random.Generator) -> dict[str, Floats]:
    at, run = catalog.at(ANY), one.run
    runs = log_normal(rng, at.fact(PROGRAMME, "compute_multiplier"))
    hardware = published.hardware_usd(catalog, run)
    servers = hardware * (1.0 - at.number(METHOD, "interconnect_frac"))
    chips = servers / published.of_chip(at, "server_overhead_ratio", run.chip)
    price = log_normal(rng, at.fact(METHOD, "uncertainty_ratio", "of=power_price"))
    return {
        "staff": _staff(at, one.subject, rng),
        "chips": chips * runs,
        "servers": (servers - chips) * log_normal(rng, at.fact(PROGRAMME, "compute_multiplier")),
        "network": (hardware - servers) * log_normal(rng, at.fact(PROGRAMME, "compute_multiplier")),
        "energy": _energy(catalog, one, rng) * price,
    }


def _energy(catalog: Catalog, one: Disclosed, rng: np.random.Generator) -> Floats:
    """Energy of all runs in dollars: from energy, power or length as disclosed, else by the method."""
    at, subject = catalog.at(ANY), one.subject
    runs = log_normal(rng, at.fact(PROGRAMME, "compute_multiplier"))
    price = catalog.at(one.run.published).number("energy/us-industrial", "usd_per_kwh")
    stated, power = at.find(subject, "energy_kwh"), at.find(subject, "chip_kw")
    chips, length = at.find(subject, "chips"), at.find(subject, "run_h")
    if stated is not None:
        return runs * float(stated.value) * price
    if power is None or chips is None or length is None:
        return runs * published.energy_usd(catalog, one.run)
    many: float | Floats = float(chips.value)
    if chips.low is not None and chips.high is not None:
        many = rng.uniform(chips.low, chips.high, DRAWS)
    hours = float(length.value) if length.low is None else log_normal(rng, length)
    return runs * many * hours * float(power.value) * price


def _staff(at: CatalogAt, subject: str, rng: np.random.Generator) -> Floats:
    """Pay of everyone named: salary with its overhead, and equity that is drawn once for a person."""
    total = np.zeros(STAFF_DRAWS)
    for key in at.catalog.keys(subject):
        if key.attribute != "people":
            continue
        size = (STAFF_DRAWS, int(at.number(*key)))
        pay = log_normal(rng, _of_role(at, "salary_usd_per_year", key.when), size)
        pay = pay * log_normal(rng, at.fact(PROGRAMME, "salary_overhead_ratio"), size)
        equity = log_normal(rng, _of_role(at, "equity_usd_per_year", key.when), size[1:])
        time = log_normal(rng, at.fact(PROGRAMME, "fte", key.when), size)
        total += ((pay + equity) * time).sum(axis=1)
    years = at.fact(subject, "project_years")
    length = np.maximum(normal(rng, years, STAFF_DRAWS), 0.0)
    draws = total * length
    return np.asarray(rng.choice(draws, DRAWS))


def _of_role(at: CatalogAt, attribute: str, when: str) -> Fact:
    return at.find(PROGRAMME, attribute, when) or at.fact(PROGRAMME, attribute)


def log_normal(rng: np.random.Generator, fact: Fact, size: int | tuple[int, ...] = DRAWS) -> Floats:
    """Draws of a fact whose low and high are the ends of 80 % on the log scale."""
    assert fact.low is not None
    assert fact.high is not None
    middle, spread = math.log(fact.low * fact.high) / 2.0, math.log(fact.high / fact.low) / (2.0 * Z_CENTRAL)
    return rng.lognormal(middle, spread, size)


def normal(rng: np.random.Generator, fact: Fact, size: int | tuple[int, ...] = DRAWS) -> Floats:
    """Draws of a fact whose low and high are the ends of 80 %."""
    assert fact.low is not None
    assert fact.high is not None
    return rng.normal(float(fact.value), (fact.high - fact.low) / (2.0 * Z_CENTRAL), size)


def method_interval(catalog: Catalog, kind: str) -> tuple[float, float]:
    """Ends of 90 % of the published amortised cost over its median, for ``gpu`` or ``tpu``.

    Factors of the method are drawn independently; a third of the models have their hours from compute.
    """
    at, rng = catalog.at(ANY), np.random.default_rng(SEED)
    count = DRAWS * 20

    def of(name: str, size: int = count) -> Floats:
        return log_normal(rng, at.fact(METHOD, "uncertainty_ratio", f"of={name}"), size)

    def hours() -> Floats:
        imputed = int(at.number(METHOD, "imputed_frac") * count)
        use = np.clip(
            normal(rng, at.fact(METHOD, "uncertainty_ratio", "of=utilisation"), imputed), 0.01, 0.99
        )
        middle = (0.1 + 0.65) / 2.0
        derived = of("flop", imputed) / (of("peak", imputed) * use / middle)
        return np.concatenate([derived, of("chips", count - imputed) * of("run_length", count - imputed)])

    fall = normal(rng, at.fact(METHOD, "price_fall_ooms_per_year"), count)
    years = normal(rng, at.fact(METHOD, "uncertainty_ratio", "of=years_since"), count)
    price = of(f"{kind}_price")
    hardware = of("server_overhead") * of("interconnect") * price / 10.0 ** (fall * years) * fall * hours()
    power = log_normal(rng, at.fact(METHOD, "power_frac", f"chip={kind}"), count)
    large = int(at.number(METHOD, "hyperscaler_frac") * count)
    pue = np.concatenate(
        [
            log_normal(rng, at.fact(METHOD, "pue", f"operator={who}"), many)
            / at.number(METHOD, "pue", f"operator={who}")
            for who, many in (("hyperscaler", large), ("other", count - large))
        ]
    )
    energy = of("power_price") * power / at.number(METHOD, "power_frac", f"chip={kind}") * pue * hours()
    # The study adds energy to hardware in the units of the draws, so that the fall of prices weighs it.
    spent = hardware + energy * of("energy_share")
    low, middle, high = np.quantile(spent, [0.05, 0.5, 0.95])
    return float(low / middle), float(high / middle)


def _maybe(at: CatalogAt, subject: str, attribute: str) -> float | None:
    fact = at.find(subject, attribute)
    return None if fact is None else float(fact.value)


def _words(text: str) -> set[str]:
    return set(text.split("-"))
