"""What claims are tested on: the catalog on a day, costs of known programmes, and a few planned workloads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from statistics import median
from typing import TypeVar

from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.catalog.fact import parse_when
from isocost.catalog.names import resolve
from isocost.catalog.prices import rates
from isocost.claims.finding import (
    NINETY_TO_EIGHTY,
    Claim,
    Figure,
    Finding,
    Range,
    Ruling,
    crossing_of,
    less_frac,
)
from isocost.develop import published
from isocost.develop.published_programme import Disclosed, Part, disclosed, method_interval, programme
from isocost.errors import UnknownFact
from isocost.plan.asked.limits import Limits, Slo
from isocost.plan.memo import Memo, MemoAsk, memo
from isocost.plan.memo.result import Cell
from isocost.plan.result import Band
from isocost.units import count

T = TypeVar("T")
REFERENCE = "claim/reference"
OWN = ("selfhost", "slm")
BOUGHT = ("api", "hosted")
CLAIMED: Mapping[str, str] = {
    "claimed_usd": "USD",
    "claimed_usd_per_month": "USD/month",
    "claimed_usd_per_year": "USD/year",
    "claimed_usd_per_mtok": "USD/Mtok",
    "claimed_usd_per_h": "USD/h",
    "claimed_ratio": "x",
    "claimed_frac": "share",
    "claimed_requests_per_month": "requests/month",
    "claimed_months": "months",
    "claimed_years": "years",
}
"""Attributes that hold the numbers of a claim, with the unit of a figure."""
CLASSES = ("small", "middle", "frontier")
STEP = 1.01
"""Volumes nearer than this factor are one volume."""
MOST_FACTS = 6
"""Facts of a plan that its costs name as evidence."""


class World:
    """A catalog on a day; what is dear to compute is computed once, when a claim first asks for it.

    ``savings`` are certified savings of routing on outcomes of one's own, by name: they go before the
    public sets.
    """

    def __init__(self, catalog: Catalog, on: date, savings: Mapping[str, float] | None = None) -> None:
        self.catalog, self.on, self.savings = catalog, on, dict(savings or {})
        self._kept: dict[str, object] = {}

    @property
    def at(self) -> CatalogAt:
        """The catalog on the day."""
        return self.catalog.at(self.on)

    def once(self, name: str, build: Callable[[], T]) -> T:
        """What ``build`` gives, built the first time the name is asked for."""
        if name not in self._kept:
            self._kept[name] = build()
        return self._kept[name]  # type: ignore[return-value]

    # What was claimed.

    def claim(self, ident: str) -> Claim:
        """The words of a claim.

        Raises:
            UnknownFact: the catalog holds no such claim.
        """
        subject = f"claim/{ident.lower()}"
        article = self.at.find(subject, "article")
        return Claim(ident, self.at.text(subject, "text"), "" if article is None else str(article.value))

    def claimed(self, claim: Claim, attribute: str, of: str = "") -> Range:
        """The claimed range of a quantity: its ends as facts ``end=low`` and ``end=high``, or one number.

        Raises:
            UnknownFact: neither an end nor a number is stated.
        """
        more = f";of={of}" if of else ""
        low, high = (self.at.find(claim.subject, attribute, f"end={end}{more}") for end in ("low", "high"))
        if low is None and high is None:
            value = self.number(claim, attribute, of)
            return Range(value, value)
        return Range(
            -math.inf if low is None else float(low.value), math.inf if high is None else float(high.value)
        )

    def number(self, claim: Claim, attribute: str, of: str = "") -> float:
        """A single number that a claim states or is tested on."""
        return self.at.number(claim.subject, attribute, f"of={of}" if of else "")

    def finding(
        self,
        claim: Claim,
        ruling: Ruling,
        decides: str,
        figures: Sequence[Figure],
        boundary: str,
        change: str,
    ) -> Finding:
        """A finding with the sources of everything that it rests on."""
        known: dict[str, None] = {}
        for figure in figures:
            for name in figure.rests_on:
                known[self._source_of(name)] = None
        sources = tuple(one for one in known if one)
        return Finding(
            claim,
            ruling.verdict,
            ruling.when,
            decides,
            tuple(figures),
            boundary,
            change,
            self._claimed(claim),
            sources,
        )

    def _claimed(self, claim: Claim) -> tuple[Figure, ...]:
        """Every number that a claim states; an open end is ``None``."""
        found: dict[tuple[str, str], Figure] = {}
        for key in self.catalog.keys(claim.subject):
            kind = CLAIMED.get(key.attribute)
            if kind is None:
                continue
            parts = parse_when(key.when)
            of, end = parts.get("of", ""), parts.get("end", "")
            fact = self.at.fact(*key)
            value = float(fact.value)
            before = found.get((key.attribute, of), Figure(of, value, kind))
            low = before.low if end == "high" else value
            high = before.high if end == "low" else value
            rests = (*before.rests_on, fact.id)
            found[key.attribute, of] = Figure(of, before.value, kind, low, high, rests)
        return tuple(found.values())

    def _source_of(self, name: str) -> str:
        """The source of a fact's id; a source's id as it is."""
        if name in self.catalog.sources:
            return name
        index = self.once("index", lambda: {fact.id: fact.source for fact in self.catalog.facts})
        return index.get(name, "")

    # Facts as figures.

    def fact(self, name: str, fact: Fact, unit: str = "", scale: float = 1.0) -> Figure:
        """A fact with its interval as a figure."""
        low = None if fact.low is None else fact.low * scale
        high = None if fact.high is None else fact.high * scale
        return Figure(name, float(fact.value) * scale, unit, low, high, (fact.id,), fact.boundary)

    # Programmes.

    def known(self, name: str) -> Disclosed:
        """The disclosures of a programme."""
        return self.once(f"disclosed {name}", lambda: disclosed(self.catalog, name))

    def amortised(self, name: str) -> Figure:
        """Hardware by use and energy of a final run, in money of its publication."""
        known = self.known(name)
        kind = self.catalog.at(published.ANY).text(
            f"chip/{published.chip_of(self.catalog, known.run)}", "kind"
        )
        ends = self.once(f"interval {kind}", lambda: method_interval(self.catalog, kind))
        usd = published.amortised_usd(self.catalog, known.run)
        low, high = (usd * ratio**NINETY_TO_EIGHTY for ratio in ends)
        rests = self.rests_on(known, "cottier-2024", "epoch-training-cost")
        return Figure("hardware by use + energy", usd, "USD", low, high, rests)

    def rent(self, name: str) -> Figure:
        """The final run rented at a long commitment, in money of its publication."""
        known = self.known(name)
        usd = published.rent_usd(self.catalog, known.run)
        return Figure(
            "the final run, rented", usd, "USD", rests_on=self.rests_on(known, "epoch-training-cost")
        )

    def programme_parts(self, name: str) -> Mapping[str, Part]:
        """The parts of a whole programme, in money of its publication."""
        known = self.known(name)
        return self.once(f"programme {name}", lambda: programme(self.catalog, known, known.run.published))

    def whole(self, name: str) -> Figure:
        """A whole programme: experiments and staff too."""
        one = self.programme_parts(name)["total"]
        low, high = (
            one.median_usd * (end / one.median_usd) ** NINETY_TO_EIGHTY for end in (one.low_usd, one.high_usd)
        )
        rests = self.rests_on(self.known(name), "epoch-development-cost")
        return Figure("the whole programme with staff", one.median_usd, "USD", low, high, rests)

    def rests_on(self, known: Disclosed, *sources: str) -> tuple[str, ...]:
        """Hours and chip of a programme, and the sources of its method."""
        at = self.catalog.at(published.ANY)
        facts = [at.find(known.subject, name) for name in ("chip_hours", "chip")]
        return (
            *(fact.id for fact in facts if fact is not None),
            *(one for one in sources if one in self.catalog.sources),
        )

    # Prices.

    def reference(self, name: str, when: str = "") -> float:
        """A number of the workload on which rules are tested."""
        return self.at.number(REFERENCE, name, when)

    def per_request(
        self, model: str, on: date | None = None, tok: tuple[float, float] | None = None
    ) -> Figure:
        """Dollars for a request of the reference lengths at an offering ``provider/model`` on a day.

        Raises:
            UnknownModel: no such offering.
            UnknownFact: it has no price of input or of output.
        """
        at = self.at if on is None else self.catalog.at(on)
        provider, _, name = model.partition("/")
        found = rates(at, resolve(at, name, provider)).meters
        if "input" not in found or "output" not in found:
            raise UnknownFact("no price of input and output", where=model)
        sent, made = tok or (self.reference("input_tok"), self.reference("output_tok"))
        usd = sent * float(found["input"].usd) / 1e6 + made * float(found["output"].usd) / 1e6
        return Figure(name, usd, "USD", rests_on=(*found["input"].facts, *found["output"].facts))

    def input_price(self, model: str, on: date) -> Figure:
        """Dollars for a million input tokens at an offering ``provider/model`` on a day."""
        at = self.catalog.at(on)
        provider, _, name = model.partition("/")
        rate = rates(at, resolve(at, name, provider)).meters["input"]
        return Figure(f"{name}, {on:%b %Y}", float(rate.usd), "USD/Mtok", rests_on=rate.facts)

    def of_class(self, size: str) -> str:
        """The offering that stands for a class of model: ``small``, ``middle``, ``frontier``."""
        return self.at.text(REFERENCE, "api", f"class={size}")

    # Planned workloads.

    def _memo(self, low: float, high: float, limits: Limits | None = None) -> Memo:
        sent, made = self.reference("input_tok"), self.reference("output_tok")
        return memo(MemoAsk((low, high), sent, made, self.catalog, self.on, limits=limits or Limits()))

    def planned(self, which: str = "reference") -> Memo:
        """A planned workload: ``reference``, ``large`` (high volumes) or ``realtime`` (tight limits)."""
        low, high = (self.reference("requests_per_month", f"end={end}") for end in ("low", "high"))
        if which == "large":
            low, high = high / 10.0, high * 10.0
        slo = Slo(
            ttft_p95_s=self.reference("ttft_p95_s", "for=realtime"),
            tpot_p95_s=self.reference("tpot_p95_s", "for=realtime"),
        )
        limits = Limits(default=slo) if which == "realtime" else None
        return self.once(f"memo {which}", lambda: self._memo(low, high, limits))

    def versus(self, one: Sequence[str], other: Sequence[str], *, proven: bool = True) -> Versus:
        """Two groups of ways against each other over all volumes, from a pilot to a large product."""
        low, high = (self.costs(which).compare(one, other, proven=proven) for which in ("reference", "large"))
        return joined(low, high)

    def costs(self, which: str = "reference") -> Costs:
        """The cost of every way by volume on a planned workload."""
        return Costs(self.planned(which), f"{which} workload")


def joined(low: Versus, high: Versus) -> Versus:
    """One comparison over the volumes of two planned workloads, the second's beyond those of the first."""
    more = [i for i, volume in enumerate(high.volumes) if volume > low.volumes[-1] * STEP]
    return Versus(
        [*low.volumes, *(high.volumes[i] for i in more)],
        [*low.one, *(high.one[i] for i in more)],
        [*low.other, *(high.other[i] for i in more)],
    )


class Costs:
    """Dollars a month of every way to serve a planned workload, by volume."""

    def __init__(self, planned: Memo, words: str) -> None:
        self.planned, self.words = planned, words
        self.volumes = list(planned.volumes)
        self._rows = {row.option: row for row in planned.options}

    def cells(self, options: Sequence[str], *, proven: bool = True) -> list[Cell | None]:
        """The cheapest cell of some ways at each volume; ``proven`` leaves out what quality forbids."""
        found: list[Cell | None] = []
        for i in range(len(self.volumes)):
            some = [self._rows[name].cells[i] for name in options if name in self._rows]
            fit = [cell for cell in some if cell is not None and (cell.feasible or not proven)]
            found.append(min(fit, key=lambda cell: cell.usd_per_month.mid, default=None))
        return found

    def compare(self, one: Sequence[str], other: Sequence[str], *, proven: bool = True) -> Versus:
        """Two groups of ways against each other over the volumes that both can serve.

        Raises:
            UnknownFact: there is no such volume.
        """
        pairs = [
            (volume, a, b)
            for volume, a, b in zip(
                self.volumes, self.cells(one, proven=proven), self.cells(other, proven=proven), strict=True
            )
            if a is not None and b is not None
        ]
        if not pairs:
            raise UnknownFact(f"no volume at which both {', '.join(one)} and {', '.join(other)} serve")
        return Versus(
            [pair[0] for pair in pairs],
            [self._monthly(cell, volume) for volume, cell, _ in pairs],
            [self._monthly(cell, volume) for volume, _, cell in pairs],
        )

    @property
    def rests_on(self) -> tuple[str, ...]:
        """Facts of the plan that weigh most, and the workload."""
        return (*(fact.id for fact in self.planned.facts[:MOST_FACTS]), f"{REFERENCE}.input_tok")

    def _monthly(self, cell: Cell, volume: float) -> Figure:
        spread = cell.usd_per_month
        name = f"{cell.label}, {count(volume)} requests"
        return Figure(name, spread.mid, "USD/month", spread.low, spread.high, self.rests_on)

    def compute(self, option: str) -> Band:
        """Share of a way's month at the middle volume that is tokens, accelerators and energy.

        Raises:
            UnknownFact: it does not serve there.
        """
        found = self._rows[option].compute_frac if option in self._rows else None
        if found is None:
            raise UnknownFact(f"{option} does not serve {count(self.middle)} requests a month")
        return found

    @property
    def middle(self) -> float:
        """The volume of :meth:`compute`."""
        return self.volumes[len(self.volumes) // 2]


class Versus:
    """One way against another by volume: their costs, chances and where they cross."""

    def __init__(self, volumes: list[float], one: list[Figure], other: list[Figure]) -> None:
        self.volumes, self.one, self.other = volumes, one, other

    @property
    def cheaper_frac(self) -> list[float]:
        """Chance at each volume that the first costs less."""
        return [less_frac(a, b) for a, b in zip(self.one, self.other, strict=True)]

    @property
    def crossing(self) -> float | None:
        """The volume from which the first costs less in the middle."""
        return crossing_of(self.volumes, [a.value for a in self.one], [b.value for b in self.other])

    def shown(self) -> tuple[Figure, ...]:
        """Both at the lowest and at the highest volume."""
        return (self.one[0], self.other[0], self.one[-1], self.other[-1])


def middle_of(values: Iterable[float], what: str) -> float:
    """The median.

    Raises:
        UnknownFact: there are none.

    >>> middle_of([1.0, 4.0, 2.0], "it")
    2.0
    """
    found = sorted(values)
    if not found:
        raise UnknownFact(f"no fact of {what} on that day")
    return float(median(found))


def months_later(day: date, months: float) -> date:
    """A day some months of mean length later.

    >>> months_later(date(2024, 1, 1), 12.0)
    datetime.date(2024, 12, 31)
    """
    return day + timedelta(days=round(months * 365.25 / 12.0 - 0.5))
