"""The three pillars of each way to serve over a horizon: what is paid once, and what each quarter takes.

Traffic grows and prices move as the path supposes; development is paid when the way begins, never spread.
Everything is discounted to today.
"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.finance import rate_per_month
from isocost.fleet import SPREAD
from isocost.keep.ask import OWN
from isocost.ledger import FEMTO_PER_USD, Charge, Ledger, fusd
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft, standing_charges
from isocost.plan.make.singles import Single
from isocost.plan.path.ask import PathAsk, quarters
from isocost.plan.path.study import RENTAL, Futures, futures, series_of
from isocost.plan.result import Life, LifeLine, PlanResult
from isocost.plan.tell.accounts import draft_of
from isocost.plan.tell.story import band, drivers_of
from isocost.plan.tell.volume import TOKENS, months_of, times


def life(
    built: Built, stays: Draft, chosen: Mapping[str, Single], result: PlanResult, ask: PathAsk
) -> Life | None:
    """Ways of the table of options over a horizon; ``None`` where today cannot be told over it."""
    ahead = futures(built.prepared.at, ask.months, ask.prices)
    known: dict[str, tuple[Ledger, list[Ledger]]] = {}
    for one in result.options:
        draft = draft_of(built, stays, chosen, one.option)
        ledgers = None if draft is None else _quarters(built, draft, one.option, ask, ahead)
        if ledgers is not None:
            known[one.option] = ledgers
    if "today" not in known:
        return None
    wholes = {name: _whole(*ledgers) for name, ledgers in known.items()}
    drivers, served = drivers_of(built, wholes.values()), _requests(built, ask)
    found = []
    for one in result.options:
        if one.option not in known:
            continue
        usd, whole = band(wholes[one.option], drivers), wholes[one.option]
        turn = None if one.option == "today" else _ahead(_sums(known["today"]), _sums(known[one.option]), ask)
        pillars = whole.usd_by("pillar")
        found.append(LifeLine(one.option, one.label, one.feasible, pillars, usd, usd.mid / served, turn))
    return Life(ask.months, ask.growth_per_month, ask.prices, served, found)


def _whole(once: Ledger, each: list[Ledger]) -> Ledger:
    return Ledger([*once, *(charge for ledger in each for charge in ledger)])


def _sums(ledgers: tuple[Ledger, list[Ledger]]) -> tuple[float, list[float]]:
    return ledgers[0].total_usd, [ledger.total_usd for ledger in ledgers[1]]


def _multiple(ask: PathAsk, middle: float) -> float:
    return float((1.0 + ask.growth_per_month) ** middle)


def _requests(built: Built, ask: PathAsk) -> float:
    """Requests over the horizon."""
    stages = quarters(built.prepared.request.on, ask.months)
    month = built.prepared.volume.requests
    return sum(month * _multiple(ask, one.middle) * one.months for one in stages)


def _quarters(
    built: Built, draft: Draft, option: str, ask: PathAsk, ahead: Futures
) -> tuple[Ledger, list[Ledger]] | None:
    """What is paid once, and each quarter's charges, discounted; ``None``: a quarter cannot be served."""
    at, spread = built.prepared.at, built.prepared.standings.spread()
    rate = rate_per_month(at.number("finance/any", "discount_rate_per_year"))
    first = Ledger(standing_charges(at, draft.fleet.standing))
    once = Ledger(times(c, 1.0 / spread) for c in first if c.meter.endswith(SPREAD))
    month_at = months_of(built, draft, today=option == "today")
    each = []
    for stage in quarters(built.prepared.request.on, ask.months):
        month = month_at(_multiple(ask, stage.middle))
        if month is None:
            return None
        ratio = ahead.middle(series_of(draft), stage.middle), ahead.middle(RENTAL, stage.middle)
        weight = stage.months / (1.0 + rate) ** stage.middle
        each.append(_grouped(month, weight, ratio))
    return once, each


def _grouped(month: Ledger, weight: float, ratios: tuple[float, float]) -> Ledger:
    """Charges of a quarter by what they rest on, outlays apart; few, so that they are quick to re-cost."""
    sums: dict[tuple[str, str, str, str], float] = {}
    for charge in month:
        if charge.meter.endswith(SPREAD):
            continue
        tokens, rents = ratios
        factor = tokens if charge.account == TOKENS else rents if charge.option in OWN else 1.0
        key = (charge.option, charge.pillar, charge.account, charge.price_fact)
        sums[key] = sums.get(key, 0.0) + charge.amount_fusd / FEMTO_PER_USD * factor * weight
    return Ledger(
        Charge("quarter", option, "", pillar, account, "", "", account, usd, "USD", facts, 1.0, fusd(usd))
        for (option, pillar, account, facts), usd in sums.items()
    )


def _ahead(today: tuple[float, list[float]], way: tuple[float, list[float]], ask: PathAsk) -> float | None:
    """Months until a way has cost less than today, what it took at once included; ``None``: not within them.

    >>> _ahead((0.0, [30.0, 30.0]), (30.0, [0.0, 0.0]), PathAsk(6))
    3.0
    """
    behind = way[0] - today[0]
    if behind <= 0:
        return 0.0
    begins = 0.0
    for then, now in zip(way[1], today[1], strict=True):
        length = min(3.0, ask.months - begins)
        gain = now - then
        if gain >= behind > 0:
            return begins + length * behind / gain
        behind -= gain
        begins += length
    return None
