"""How sure a plan is: every way to serve in the same scenarios, at today's volume and others, now and later.

A way's month is its ledger grouped by the facts that its charges are proportional to. What development
costs (a launch, the making of a model) is spread in a plan's month; over a horizon it is paid once, when the
way begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from isocost import risk
from isocost.fleet import SPREAD
from isocost.forecast.prices import paths
from isocost.ledger import FEMTO_PER_USD, Ledger
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft
from isocost.plan.make.singles import Single
from isocost.plan.path.study import RENTAL, SERIES, series_of
from isocost.plan.result import Band, Odds, OddsMap, Option, Sure, Turn, Worth
from isocost.plan.tell.story import Totals, label
from isocost.plan.tell.volume import TOKENS, months_of

Groups = dict[tuple[str, ...], float]

HORIZONS_MONTHS = (3, 12, 24, 36)
"""How far ahead it is asked who is cheapest."""
VOLUMES = tuple(4.0 ** (k / 2) for k in range(-4, 9))
"""Volumes over today's at which it is asked: a 16th to 256 times, two a factor of four."""
WORTHS_MOST = 5
WORTH_LEAST_USD = 1.0
LIFE = "finance/any.one_off_amortisation_months"
"""Begins the name of the months over which an outlay is spread; one that is paid at once has no such life."""
SELDOM = 0.5
"""Share of scenarios below which an event has no band: it mostly does not happen."""


@dataclass(frozen=True)
class Contender:
    """A way to serve that is weighed: its label, whether it is allowed, and what it is made of."""

    option: Option
    label: str
    allowed: bool
    draft: Draft
    ledger: Ledger


def sure(built: Built, chosen: Mapping[str, Single], stays: Draft, totals: Totals) -> Sure:
    """The plan, today and the best single deployment of each option, in common scenarios."""
    ways = contenders(built, chosen, stays, totals)
    weighed = {way.label: way.ledger for way in ways}
    choice = risk.choose(weighed, totals.drivers)
    may = risk.Choice(
        [way.label for way in ways if way.allowed],
        choice.usd[[way.allowed for way in ways]],
        choice.ratios,
    )
    at = built.prepared.at
    worths = [
        Worth(one.name, label(one.name, at), one.usd)
        for one in risk.evppi_usd(may)
        if one.usd >= WORTH_LEAST_USD
    ]
    today, plan = (next(w for w in ways if w.option == option) for option in ("today", "mix"))
    ahead = _Ahead(built, ways, totals.drivers)
    return Sure(
        scenarios=risk.SCENARIOS,
        plan_cheaper_frac=risk.cheaper_frac(plan.ledger, today.ledger, totals.drivers),
        odds=[_odds(way, i, choice, may) for i, way in enumerate(ways)],
        evpi_usd=risk.evpi_usd(may),
        worths=worths[:WORTHS_MOST],
        turns=ahead.turns(),
        map=ahead.map(),
    )


def contenders(
    built: Built, chosen: Mapping[str, Single], stays: Draft, totals: Totals
) -> tuple[Contender, ...]:
    """The plan, today, and each option's best single deployment that is neither of them."""
    may_stay = all(s.offer is not None and not s.offer.why_not for s in stays.servings)
    today = Contender("today", "as today", may_stay, stays, totals.today)
    found = [Contender("mix", "the plan", True, built.draft, totals.plan), today]
    now = {(s.case.stream.id, s.offer.api.id) for s in stays.servings if s.offer is not None}
    for option, single in chosen.items():
        if single.draft is None or single.ledger is None:
            continue
        same = {(s.case.stream.id, s.offer.api.id) for s in single.draft.servings if s.offer is not None}
        if same == now and not single.draft.pools:
            continue
        found.append(Contender(cast(Option, option), single.id, single.feasible, single.draft, single.ledger))
    return tuple(found)


def _odds(way: Contender, i: int, choice: risk.Choice, may: risk.Choice) -> Odds:
    mine = choice.usd[i]
    others = may.usd if way.allowed else np.vstack([may.usd, mine])
    names = may.names if way.allowed else (*may.names, way.label)
    among = risk.Choice(names, others, {})
    lost = risk.regret(among, way.label)
    return Odds(
        way.option, way.label, way.allowed, _band(mine, way.ledger.total_usd),
        among.cheapest_frac()[way.label], lost.mean_usd, lost.p90_usd,
    )  # fmt: skip


def _band(usd: np.ndarray, mid: float) -> Band:
    low, high = np.quantile(usd, [0.5 - risk.CENTRAL / 2, 0.5 + risk.CENTRAL / 2])
    return Band(min(float(low), mid), mid, max(float(high), mid))


class _Ahead:
    """The ways at every volume, and prices to come."""

    def __init__(self, built: Built, ways: Sequence[Contender], drivers: Mapping[str, risk.Driver]) -> None:
        at = built.prepared.at
        self._volume = built.prepared.volume.requests
        self._drivers = drivers
        months = max(HORIZONS_MONTHS)
        self._paths = {
            name: paths(at, series, months, risk.SCENARIOS_OF_A_CELL) for name, series in SERIES.items()
        }
        self._rate = at.number("finance/any", "discount_rate_per_year")
        self._spread = built.prepared.standings.spread()
        self._ways = list(ways)
        self._groups = {way.label: groups_by_volume(built, way) for way in self._ways}
        self._once = {
            way.label: {names: usd / self._spread for names, usd in _grouped(way, way.ledger, True).items()}
            for way in self._ways
        }

    def map(self) -> OddsMap | None:
        """P(cheapest) by volume and horizon; ``None`` where there is nothing to choose from."""
        if len(self._ways) < 2:
            return None
        every = self._surface(self._ways)
        may = [way for way in self._ways if way.allowed]
        allowed = self._surface(may) if may else None
        none = [[0.0] * len(HORIZONS_MONTHS) for _ in VOLUMES]
        return OddsMap(
            labels=[way.label for way in self._ways],
            options=[way.option for way in self._ways],
            allowed=[way.allowed for way in self._ways],
            requests_per_month=[self._volume * m for m in VOLUMES],
            months=list(HORIZONS_MONTHS),
            frac=[_of(every, way, none) for way in self._ways],
            allowed_frac=[
                _of(allowed, way, none) if allowed is not None and way.allowed else none for way in self._ways
            ],
        )

    def _surface(self, ways: Sequence[Contender]) -> risk.Surface:
        by_volume = {}
        for v, multiple in enumerate(VOLUMES):
            here = {way.label: groups for way in ways if (groups := self._groups[way.label][v]) is not None}
            by_volume[self._volume * multiple] = here
        once = {way.label: self._once[way.label] for way in ways}
        return risk.surface(by_volume, self._drivers, self._paths, HORIZONS_MONTHS, self._rate, once)

    def turns(self) -> list[Turn]:
        """Break-even of every other way with the plan (else with today), and of the plan with today."""
        plan = next((way for way in self._ways if way.option == "mix"), None)
        today = next((way for way in self._ways if way.option == "today"), None)
        over = plan or self._ways[0]
        found = [self._turn(way, over) for way in self._ways if way.option not in ("mix", "today")]
        return [*found, self._turn(plan, today)] if plan is not None and today is not None else found

    def _turn(self, way: Contender, over: Contender) -> Turn:
        count = risk.SCENARIOS_OF_A_CELL
        both = [
            (m, one, two)
            for m, one, two in zip(VOLUMES, self._groups[over.label], self._groups[way.label], strict=True)
            if one is not None and two is not None
        ]
        once = self._once[way.label]
        launch = sum(once.values())
        now = next(((one, two) for m, one, two in both if m == 1.0), None)
        volumes, months = np.array([np.inf]), np.array([np.inf])
        if len(both) > 1:
            # A month of its own, with its part of what is paid once: what the break-even chart draws.
            part = {names: usd * self._spread for names, usd in once.items()}
            names = {n for _, *two in both for groups in (*two, part) for key in groups for n in key}
            ratios = risk.drawn({n: d for n, d in self._drivers.items() if n in names}, count)
            ones, twos = (
                np.stack([risk.totals(groups, ratios, count) for groups in column])
                for column in ([one for _, one, _ in both], [two for _, _, two in both])
            )
            twos += risk.totals(part, ratios, count)
            volumes = risk.crossing([self._volume * m for m, _, _ in both], ones, twos)
        if now is not None:
            most = max(HORIZONS_MONTHS)
            months = risk.payback(*now, once, self._drivers, self._paths, most, self._rate)
        return Turn(
            way.option, way.label, over.label, way.allowed,
            _when(volumes), float(np.isinf(volumes).mean()),
            launch, _when(months), float(np.isinf(months).mean()),
        )  # fmt: skip


def _of(table: risk.Surface, way: Contender, none: list[list[float]]) -> list[list[float]]:
    return table.cheapest_frac[table.options.index(way.label)] if way.label in table.options else none


def _when(values: np.ndarray) -> Band | None:
    """The band of what happens at all; ``None`` where it mostly does not."""
    there = values[np.isfinite(values)]
    if len(there) < SELDOM * len(values):
        return None
    low, mid, high = np.quantile(there, [0.5 - risk.CENTRAL / 2, 0.5, 0.5 + risk.CENTRAL / 2])
    return Band(float(low), float(mid), float(high))


def groups_by_volume(built: Built, way: Contender) -> list[Groups | None]:
    """A way's month at each of ``VOLUMES``, development apart, with the series its prices follow.

    ``None``: it cannot serve that volume.
    """
    month = months_of(built, way.draft, today=way.option == "today")
    found = [month(multiple) for multiple in VOLUMES]
    return [None if ledger is None else _grouped(way, ledger, False) for ledger in found]


def _grouped(way: Contender, ledger: Ledger, once: bool) -> Groups:
    """Dollars by drivers, of outlays that are spread or of all the rest."""
    groups: Groups = {}
    follows = series_of(way.draft)
    for charge in ledger:
        if charge.meter.endswith(SPREAD) != once:
            continue
        names = tuple(n for n in charge.price_fact.split(risk.JOIN) if n and not n.startswith(LIFE))
        if charge.account == TOKENS:
            names = (*names, follows)
        elif charge.option in ("selfhost", "slm"):
            names = (*names, RENTAL)
        groups[names] = groups.get(names, 0.0) + charge.amount_fusd / FEMTO_PER_USD
    return groups
