"""How the literature costs a training run: rent, hardware by use with energy, hardware bought.

The three methods of Cottier et al. (2024), as the code of that study computes them: what hardware is
worth when training starts falls with the progress of accelerators, a run pays for the share of that
fall which its hours use, and money of the month of publication is restated by a producer price index.
Every number is a fact of ``training/published-method``, ``chip/*``, ``chip-class/*``,
``training-rental/*``, ``index/*`` and ``energy/us-industrial``.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from fnmatch import fnmatchcase

import msgspec

from isocost.catalog import Catalog, CatalogAt
from isocost.develop.compute import site_kwh
from isocost.errors import UnknownFact
from isocost.units import DAYS_PER_YEAR, SECONDS_PER_H

METHOD = "training/published-method"
ANY = date(2000, 1, 1)
"""A day on which facts without dates are asked for."""
H_PER_YEAR = 24.0 * DAYS_PER_YEAR
TERM = "3y"
"""Term of the rent that the published figures use."""


class Run(msgspec.Struct, frozen=True):
    """A final training run as a source states it; ``None`` where it does not.

    ``chip`` is a subject's id (``nvidia-a100-sxm4-40-gb``); ``value_usd`` and ``purchase_usd`` are the
    worth of one chip with its server when training starts and when it was bought, ``rent_usd_per_h`` an
    hour of it, each where a source states it.
    """

    name: str
    organisation: str
    published: date
    chip: str = ""
    chips: float | None = None
    run_h: float | None = None
    chip_h: float | None = None
    flop: float | None = None
    mfu_frac: float | None = None
    value_usd: float | None = None
    purchase_usd: float | None = None
    rent_usd_per_h: float | None = None


def value_after(usd_per_chip: float, price_fall_ooms_per_year: float, years: float) -> float:
    """What a chip is worth some years after its price, as throughput per dollar grows.

    >>> value_after(1000.0, 0.14, 0.0)
    1000.0
    >>> round(value_after(1000.0, 1.0, 1.0), 9)
    100.0
    """
    return float(usd_per_chip * 10.0 ** (-price_fall_ooms_per_year * years))


def amortised_usd_per_chip_h(value_usd: float, price_fall_ooms_per_year: float) -> float:
    """The part of a chip's worth that an hour uses up: the rate at which its worth falls.

    >>> amortised_usd_per_chip_h(0.0, 0.14)
    0.0
    """
    return value_usd * price_fall_ooms_per_year * math.log(10.0) / H_PER_YEAR


def with_network(usd: float, interconnect_frac: float) -> float:
    """Servers with their share of the cluster's network, which is a share of the whole.

    >>> with_network(81.0, 0.19)
    100.0
    """
    return usd / (1.0 - interconnect_frac)


def restated(usd: float, level_then: float, level_now: float) -> float:
    """Money of one month in that of another.

    >>> restated(100.0, 100.0, 125.0)
    125.0
    """
    return usd * (level_now / level_then)


def chip_hours(catalog: Catalog, run: Run) -> float:
    """Hours as stated, else of chips times length, else of compute at the utilisation of the method.

    Raises:
        UnknownFact: the run states neither hours nor compute on a known chip.
    """
    if run.chip_h is not None:
        return run.chip_h
    if run.chips is not None and run.run_h is not None:
        return run.chips * run.run_h
    if run.flop is None:
        raise UnknownFact("neither hours nor compute is stated", where=run.name)
    mfu_frac = run.mfu_frac or catalog.at(ANY).number(METHOD, "mfu_frac")
    return run.flop / (_chip(catalog, run, "flop_per_s") * mfu_frac) / SECONDS_PER_H


def chip_of(catalog: Catalog, run: Run) -> str:
    """The chip as stated, else the one that most models of the year of publication were trained on."""
    return run.chip or catalog.at(run.published).text("training/usual-chip", "chip")


def start_of(catalog: Catalog, run: Run) -> date:
    """The day on which training started: as disclosed, else before publication by a gap and its length."""
    at = catalog.at(ANY)
    hours = at.number(METHOD, "run_h") if run.run_h is None else math.floor(run.run_h)
    length = timedelta(hours=hours)
    for subject in catalog.having("match", "disclosed/"):
        if fnmatchcase(run.name, at.text(subject, "match")):
            started, ended = at.find(subject, "training_started"), at.find(subject, "training_ended")
            if started is not None:
                return date.fromisoformat(str(started.value))
            if ended is not None:
                return _day(date.fromisoformat(str(ended.value)), -length)
    return _day(run.published, -(length + timedelta(days=at.number(METHOD, "release_gap_days"))))


def purchase_usd(catalog: Catalog, run: Run) -> tuple[float, date]:
    """Price of one chip with its part of a server, and the day from which it could be in use.

    Raises:
        UnknownFact: nobody states a price of purchase for the chip's class.
    """
    at, chip = catalog.at(ANY), chip_of(catalog, run)
    released = date.fromisoformat(at.text(f"chip/{chip}", "released"))
    own = at.find(f"chip/{chip}", "usd_per_chip")
    if own is not None:
        return float(own.value) * of_chip(at, "server_overhead_ratio", chip), released
    group = f"chip-class/{at.text(f'chip/{chip}', 'purchase_class')}"
    usd = at.number(group, "usd_per_chip")
    if at.text(group, "includes_server") == "false":
        usd *= of_chip(at, "server_overhead_ratio", chip)
    first = _day(released, timedelta(days=at.number(METHOD, "availability_gap_days")))
    return usd, max(first, date.fromisoformat(at.text(group, "priced_on")))


def value_usd(catalog: Catalog, run: Run) -> float:
    """What one chip with its server is worth when training starts, as stated or by the method.

    Training on a GPU cannot start before it could be bought; on a TPU it may, before the public release.
    """
    if run.value_usd is not None:
        return run.value_usd
    usd, since = purchase_usd(catalog, run)
    start = start_of(catalog, run)
    if catalog.at(ANY).text(f"chip/{chip_of(catalog, run)}", "kind") == "gpu":
        start = max(start, since)
    years = (start - since).days / DAYS_PER_YEAR
    return value_after(usd, catalog.at(ANY).number(METHOD, "price_fall_ooms_per_year"), years)


def hardware_usd(catalog: Catalog, run: Run) -> float:
    """Hardware used up by the run, network included."""
    at = catalog.at(ANY)
    hourly = amortised_usd_per_chip_h(value_usd(catalog, run), at.number(METHOD, "price_fall_ooms_per_year"))
    return with_network(hourly * chip_hours(catalog, run), at.number(METHOD, "interconnect_frac"))


def energy_kwh(catalog: Catalog, run: Run) -> float:
    """Energy of the run at the meter of the site.

    Raises:
        UnknownFact: the design power of the chip is not known.
    """
    at, chip = catalog.at(ANY), chip_of(catalog, run)
    kind = at.text(f"chip/{chip}", "kind")
    words = at.text(METHOD, "hyperscalers").split(";")
    operator = "hyperscaler" if any(word in run.organisation.lower() for word in words) else "other"
    return site_kwh(
        chip_hours(catalog, run),
        _chip(catalog, run, "tdp_w"),
        of_chip(at, "server_power_ratio", chip),
        at.number(METHOD, "power_frac", f"chip={kind}"),
        at.number(METHOD, "pue", f"operator={operator}"),
    )


def energy_usd(catalog: Catalog, run: Run) -> float:
    """Energy of the run at the industrial price of the year of publication."""
    price = catalog.at(run.published).number("energy/us-industrial", "usd_per_kwh")
    return energy_kwh(catalog, run) * price


def amortised_usd(catalog: Catalog, run: Run) -> float:
    """Hardware by use with energy, in money of the publication."""
    return hardware_usd(catalog, run) + energy_usd(catalog, run)


def acquisition_usd(catalog: Catalog, run: Run) -> float:
    """All hardware of the run bought, network included, in money of the publication.

    Raises:
        UnknownFact: the number of chips is not stated.
    """
    if run.chips is None:
        raise UnknownFact("the number of chips is not stated", where=run.name)
    usd = run.purchase_usd if run.purchase_usd is not None else purchase_usd(catalog, run)[0]
    return with_network(usd * run.chips, catalog.at(ANY).number(METHOD, "interconnect_frac"))


def rent_usd(catalog: Catalog, run: Run) -> float:
    """All hours at the rent of a long commitment, in money of the publication.

    Chips times length go before stated hours, as in the published figures.
    """
    price = run.rent_usd_per_h if run.rent_usd_per_h is not None else rent_usd_per_h(catalog, run)
    if run.chips is not None and run.run_h is not None:
        return price * run.chips * run.run_h
    return price * chip_hours(catalog, run)


def rent_usd_per_h(catalog: Catalog, run: Run) -> float:
    """An hour of the chip on a long commitment when the contract was signed.

    Clouds in the order of the method, the organisation's own first; the last price before the day of
    signing, else the first after it; a price of another term by the cloud's usual discounts.

    Raises:
        UnknownFact: no cloud states a price of the chip.
    """
    at, chip = catalog.at(ANY), chip_of(catalog, run)
    signed = _day(start_of(catalog, run), -timedelta(days=at.number(METHOD, "rent_gap_days")))
    clouds = [_cloud(at, run.organisation)]
    if at.text(f"chip/{chip}", "kind") == "gpu":
        clouds += [one for one in at.text(METHOD, "cloud_order").split(";") if one not in clouds]
    else:
        clouds = ["google"]
    for term in (TERM, "1y", "on_demand"):
        for cloud in clouds:
            for one in (chip, *_alike(catalog, chip)):
                price = _dated(catalog, f"training-rental/{cloud}/{one}", term, signed)
                if price is not None:
                    return price * _kept(at, cloud, TERM) / _kept(at, cloud, term)
    raise UnknownFact("no cloud states a price of the accelerator", where=f"chip/{chip}")


def index_level(catalog: Catalog, month: date) -> float:
    """The price index of a month; of the latest known month where it is later."""
    history = catalog.history("index/data-processing", "level")
    known = [fact for fact in history if fact.valid_from is not None and fact.valid_from <= month]
    if not known:
        raise UnknownFact(f"no price index for {month}", where="index/data-processing")
    return float(known[-1].value)


def _cloud(at: CatalogAt, organisation: str) -> str:
    chosen = ""
    for one in organisation.lower().split(","):
        for word in ("google", "deepmind", "microsoft", "openai"):
            if word in one:
                chosen = at.text(METHOD, "cloud", f"operator={word}")
                break
    return chosen or at.text(METHOD, "default_cloud")


def _alike(catalog: Catalog, chip: str) -> list[str]:
    """Other variants of an accelerator: those bought at the same price."""
    at = catalog.at(ANY)
    group = at.find(f"chip/{chip}", "purchase_class")
    if group is None:
        return []
    others = [
        fact.subject.partition("/")[2]
        for fact in at.each("chip/", "purchase_class")
        if fact.value == group.value
    ]
    return sorted((one for one in others if one != chip), key=len)


def _dated(catalog: Catalog, subject: str, term: str, day: date) -> float | None:
    history = catalog.history(subject, "usd_per_chip_h", f"term={term}")
    before = [fact for fact in history if (fact.valid_from or date.min) <= day]
    found = before[-1] if before else (history[0] if history else None)
    return None if found is None else float(found.value)


def _kept(at: CatalogAt, cloud: str, term: str) -> float:
    if term == "on_demand":
        return 1.0
    return 1.0 - at.number(METHOD, "commitment_discount_frac", f"cloud={cloud};term={term}")


def _chip(catalog: Catalog, run: Run, attribute: str) -> float:
    return catalog.at(ANY).number(f"chip/{chip_of(catalog, run)}", attribute)


def of_chip(at: CatalogAt, attribute: str, chip: str) -> float:
    """A number of the method for a chip: of the longest word that its name holds, its kind, or any."""
    held = {
        key.when.removeprefix("chip="): key.when
        for key in at.catalog.keys(METHOD)
        if key.attribute == attribute
    }
    named = sorted((word for word in held if word in chip), key=len, reverse=True)
    kind = at.find(f"chip/{chip}", "kind")
    for word in (*named, str(kind.value) if kind else "gpu", "any"):
        if word in held:
            return at.number(METHOD, attribute, held[word])
    return at.number(METHOD, attribute)


def _day(day: date, gap: timedelta) -> date:
    """A day moved by whole days, rounded down: hours of a day do not change the date before them."""
    return day + timedelta(days=math.floor(gap / timedelta(days=1)))
