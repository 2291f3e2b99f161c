"""What stands beside the answers of a way to serve, a month: made once a date, one concern a method.

A plan has many ways to serve; their people, duties, grading, storage, change and launch are those of
:mod:`isocost.keep` and :mod:`isocost.develop`, asked with the plan's own option, traffic and replicas.
Every amount is a product of facts, so that a scenario re-costs it by ratios: ``drivers`` are the facts
that move, by the name that charges carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from isocost.catalog import CatalogAt
from isocost.fleet import Standing
from isocost.keep.ask import OWN, Ask, Option, Traffic
from isocost.keep.book import Keep
from isocost.keep.change import Past, keep_moving, past
from isocost.keep.duties import keep_lawful, keep_reviewing
from isocost.keep.made import made
from isocost.keep.people import keep_devices, keep_launching, keep_porting, keep_running
from isocost.keep.power import Energy, keep_powered
from isocost.keep.stores import keep_documents
from isocost.keep.upkeep import keep_balanced, keep_current, keep_gateway, keep_stored, keep_watching
from isocost.ledger import Charge
from isocost.risk import JOIN, Driver

ANYWHERE = "default"
"""A region of which nothing is stated: what the catalog holds of places that it does not tell apart."""
LEAST_REQUESTS = 1e-9
"""Requests of a month without any: no ask has none."""


class Volume(NamedTuple):
    """Traffic a month that standing costs follow."""

    requests: float
    input_tok: float
    output_tok: float

    def scaled(self, multiple: float) -> Volume:
        """So many times the traffic."""
        return Volume(*(part * multiple for part in self))


class Use(NamedTuple):
    """Own replicas in use: their accelerator, how many on average, and the share of hours at full work."""

    gpu: str
    gpus: float
    busy_frac: float


class Standings:
    """Standing costs on a date, of an application as an ask states it; answers are kept by what was asked.

    Of the ask, option, traffic, providers and replicas are those of the call.
    """

    def __init__(self, at: CatalogAt, ask: Ask | None = None) -> None:
        self.at = at
        self.ask = Ask(region=ANYWHERE) if ask is None else ask
        self.drivers: dict[str, Driver] = {}
        self._known: dict[tuple[object, ...], list[Standing]] = {}
        self._asks: dict[tuple[str, Volume | None], Ask] = {}
        self._past: Past | None = None

    def _lines(self, key: tuple[object, ...], option: str, book: Callable[[Keep], object]) -> list[Standing]:
        if key not in self._known:
            kept = Keep(option, self.at)
            book(kept)
            self.drivers.update(kept.drivers)
            self._known[key] = [standing_of(charge) for charge in kept.charges]
        return self._known[key]

    def _of(self, option: str, volume: Volume | None = None) -> Ask:
        """The ask for an option and its traffic."""
        if (option, volume) not in self._asks:
            self._asks[option, volume] = self._made(option, volume)
        return self._asks[option, volume]

    def _made(self, option: str, volume: Volume | None) -> Ask:
        ask = replace(self.ask, option=option)
        if volume is None:
            return ask
        requests = max(volume.requests, LEAST_REQUESTS)
        each = Traffic(requests, volume.input_tok / requests, volume.output_tok / requests)
        return replace(ask, traffic=each)

    def people(self, option: str, models: int, gpus: float, held_fte: float) -> list[Standing]:
        """Engineers who run an option, in whole steps by services or models and by accelerators.

        ``held_fte`` are people already there for own replicas: they are not counted again.
        """
        own = option in OWN
        ask = self._of(option)

        def book(kept: Keep) -> None:
            asked = replace(
                ask,
                services=max(ask.services, models) if own else ask.services,
                own=replace(ask.own, gpus=gpus),
                held_fte=held_fte if own else ask.held_fte,
            )
            keep_running(kept, asked)

        return self._lines(("people", option, models, gpus, held_fte), option, book)

    def complying(
        self, providers: int, regions: tuple[str, ...], fresh: tuple[str, ...] = ()
    ) -> list[Standing]:
        """Duties in force: a review of each provider's terms, and what the places of the users ask.

        Duties count as set up but for the first review of ``fresh`` providers.
        """

        def book(kept: Keep) -> None:
            law = self.ask.law
            set_up = tuple(fact.subject.partition("/")[2] for fact in self.at.each("duty/", "title"))
            law = replace(law, places=law.places or regions, set_up=set_up)
            ask = replace(self._of("api"), providers=providers, law=law)
            keep_lawful(kept, ask)
            keep_reviewing(kept, fresh)

        return self._lines(("complying", providers, regions, fresh), "api", book)

    def watching(self, option: str, volume: Volume) -> list[Standing]:
        """Logs, traces, monitoring, evaluation and security of an option, and the load balancer."""
        ask = self._of(option, volume)

        def book(kept: Keep) -> None:
            keep_watching(kept, ask)
            keep_balanced(kept, ask)

        return self._lines(("watching", option in OWN, volume), option, book)

    def keeping(self, option: str, volume: Volume) -> list[Standing]:
        """Prompts and answers kept as logs, transfer out of own replicas, documents that are searched."""
        ask = self._of(option, volume)

        def book(kept: Keep) -> None:
            keep_stored(kept, ask)
            keep_documents(kept, ask)
            keep_devices(kept, ask)

        return self._lines(("keeping", option in OWN, volume), option, book)

    def gateway(self) -> list[Standing]:
        """Two small machines, where requests must be sent to more than one place."""
        return self._lines(("gateway",), "api", keep_gateway)

    def spread(self) -> float:
        """The part of a one-off outlay that falls on each month of its life."""
        return Keep("", self.at).once().value

    def launch(self, option: str) -> list[Standing]:
        """Engineering weeks and graded answers until the option serves, spread over their life."""
        ask = self._of(option)
        return self._lines(("launch", option), option, lambda book: keep_launching(book, ask))

    def porting(self, gpu: str) -> list[Standing]:
        """Leaving CUDA for the accelerators of another maker, spread over its life."""
        ask = self._of("selfhost")
        ask = replace(ask, own=replace(ask.own, gpu=gpu))
        return self._lines(("porting", gpu), "selfhost", lambda book: keep_porting(book, ask))

    def moving(self, name: str, usd_per_month: float, part_frac: float = 1.0) -> list[Standing]:
        """What a year's risk of a model's end or dearer prices costs a month, where it may be moved from.

        ``part_frac`` of the services use the model, at so many dollars a month.
        """
        if self._past is None:
            self._past = past(self.at)
        known, ask = self._past, self._of("api")
        yearly = usd_per_month * self.at.number("finance/any", "months_per_year")
        key = ("moving", name, usd_per_month, part_frac)
        return self._lines(key, "api", lambda book: keep_moving(book, ask, name, yearly, known, part_frac))

    def making(self, volume: Volume, params: float) -> list[Standing]:
        """Making an own small model, spread over its life, and keeping it current: data, training, people."""
        ask = self._of("slm", volume)
        ask = replace(ask, made=replace(ask.made, params=params))

        def book(kept: Keep) -> None:
            first = made(self.at, ask)
            every = {charge.account for charge in first.charges}
            kept.carry(first, every, 1.0, (kept.once(),), "", "{}, spread")
            keep_current(kept, ask)

        # Making follows the length of a request alone.
        length = ask.traffic.input_tok, ask.traffic.output_tok
        return self._lines(("making", length, params), "slm", book)

    def powered(self, option: str, volume: Volume, use: Use | None = None) -> tuple[list[Standing], Energy]:
        """Electricity on own premises, carbon at the house's price; energy and carbon of the answers."""
        ask = self._of(option, volume)
        if use is not None:
            ask = replace(ask, own=replace(ask.own, gpu=use.gpu, gpus=use.gpus, busy_frac=use.busy_frac))
        kept = Keep(option, self.at)
        energy = keep_powered(kept, ask)
        self.drivers.update(kept.drivers)
        return [standing_of(charge) for charge in kept.charges], energy


def standing_of(charge: Charge) -> Standing:
    """A charge of a month as a standing cost."""
    facts = tuple(name for name in charge.price_fact.split(JOIN) if name)
    return Standing(charge.account, charge.meter, charge.quantity, charge.unit, charge.unit_price_usd, facts)


def usd(lines: Iterable[Standing]) -> float:
    """What lines come to, in dollars a month."""
    return sum(line.usd_per_month for line in lines)


__all__ = ["OWN", "Option", "Standings", "Use", "Volume", "standing_of", "usd"]
