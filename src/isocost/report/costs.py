"""Every account by option, unit costs, margins and energy of a plan, as rows of text for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from isocost.plan.result import Account, Energy, OptionLine, PlanResult, UnitCost
from isocost.report import words
from isocost.report.accounts import amount
from isocost.report.sections import OPTION_NAMES, PILLARS

FIRST = 10
"""Customers that the page names, the dearest first."""


class Cell(msgspec.Struct, frozen=True):
    """An amount, 0 or a dash; why, and the number of that reason in the list (0: an amount has none)."""

    text: str
    why: str = ""
    nth: int = 0


class AccountRow(msgspec.Struct, frozen=True):
    """An account: its name, all that it holds, and a cell an option."""

    name: str
    label: str
    cells: list[Cell]


class Pillar(msgspec.Struct, frozen=True):
    """A pillar with its sum by option, and its accounts."""

    name: str
    sums: list[str]
    rows: list[AccountRow]


class Accounts(msgspec.Struct, frozen=True):
    """Every account by pillar and option; ``reasons`` are what numbers in cells refer to, from 1."""

    said: str
    pillars: list[Pillar]
    reasons: list[str]


def accounts(result: PlanResult) -> Accounts | None:
    """Each account by option: an amount, 0 with its reason, or a dash where it is not known."""
    if not result.accounts:
        return None
    numbers = _numbered(result)
    pillars = []
    for pillar, name in PILLARS.items():
        rows = [_row(one, numbers, result.options) for one in result.accounts if one.pillar == pillar]
        sums = [_usd(one.by_pillar.get(pillar, 0.0)) if one.id else words.DASH for one in result.options]
        if rows:
            pillars.append(Pillar(name, sums, rows))
    booked = sum(any(one.usd_per_month) for one in result.accounts)
    said = f"Every account: {booked} of {len(result.accounts)} have an amount, the others say why not"
    return Accounts(said, pillars, _reasons(result, numbers))


def _numbered(result: PlanResult) -> dict[str, int]:
    """Reasons in the order in which the table first gives them."""
    found: dict[str, int] = {}
    for pillar in PILLARS:
        for account in result.accounts:
            for option, why in zip(result.options, account.why, strict=True):
                if account.pillar == pillar and why and option.id:
                    found.setdefault(why, len(found) + 1)
    return found


def _row(account: Account, numbers: Mapping[str, int], options: Sequence[OptionLine]) -> AccountRow:
    cells = [
        Cell(_usd(usd), why, numbers.get(why, 0) if option.id else 0)
        for option, usd, why in zip(options, account.usd_per_month, account.why, strict=True)
    ]
    return AccountRow(_name(account), account.label, cells)


def _reasons(result: PlanResult, numbers: Mapping[str, int]) -> list[str]:
    """Each reason with the accounts it is given for; cells say for which options."""
    given: dict[str, dict[str, None]] = {why: {} for why in numbers}
    for account in result.accounts:
        for option, why in zip(result.options, account.why, strict=True):
            if option.id and why in given:
                given[why][_name(account)] = None
    return [f"{', '.join(names)}: {why}" for why, names in given.items()]


def _option(option: str) -> str:
    return OPTION_NAMES.get(option, option)


def _name(account: Account) -> str:
    """An account in a few words: its label up to the examples of what it holds."""
    return account.label.partition(":")[0]


def _usd(usd: float | None) -> str:
    """Dollars to the dollar, so that a column of accounts lines up; nil is a bare 0.

    >>> _usd(None), _usd(0.0), _usd(0.2), _usd(10813.47)
    ('—', '0', '<1', '10,813')
    """
    if not words.known(usd):
        return words.DASH
    assert usd is not None
    return "<1" if 0 < usd < 0.5 else f"{usd:,.0f}"


class UnitRow(msgspec.Struct, frozen=True):
    """A feature or a customer, and what it costs and brings; cells in the order of ``Units.heads``."""

    name: str
    cells: list[str]


class Units(msgspec.Struct, frozen=True):
    """What an answer costs, and features and customers in groups of ``(head, rows)``."""

    said: str
    heads: list[str]
    groups: list[tuple[str, list[UnitRow]]]
    note: str


def units(result: PlanResult) -> Units | None:
    """An answer, every feature and the dearest customers; columns of today only where the plan moves them."""
    costs = result.unit_costs
    if costs is None or result.verdict == "infeasible":
        return None
    moved = result.verdict == "switch"
    sold = costs.revenue_usd is not None
    heads = ["Requests a month", *(["$ a month today"] if moved else []), "$ a month"]
    heads += [*(["An answer today"] if moved else []), "An answer"]
    heads += ["Brings", "Margin"] if sold else []
    if moved:
        heads = [head if "today" in head or head in ("Requests a month", "Brings", "Margin")
                 else f"{head} under the plan" for head in heads]  # fmt: skip
    n = costs.requests_per_month
    brought = None if costs.revenue_usd is None else costs.revenue_usd * n
    every = UnitCost("Every request", n, costs.today_usd * n, costs.plan_usd * n, brought)
    groups = [("", [_unit(every, moved, sold)])]
    if len(costs.features) > 1:
        head = words.plural(len(costs.features), "feature")
        groups.append((head, [_unit(one, moved, sold) for one in costs.features]))
    first = costs.customers[:FIRST]
    if costs.customers_count > 1 and first:
        head = words.plural(costs.customers_count, "customer")
        head += f", the dearest {len(first)}" if costs.customers_count > len(first) else ""
        groups.append((head, [_unit(one, moved, sold) for one in first]))
    note = "Each request bears what it causes: tokens at their price, replicas by the time taken"
    note += "; people, duties and upkeep fall on all requests alike." if costs.has_beside else "."
    if costs.customers_count > 1:
        each = costs.plan_usd * n / costs.customers_count
        note = (
            f"A customer costs {words.usd(each)} a month on average; the dearest tenth cause "
            f"{words.percent(costs.top_tenth_frac)} of the cost. {note}"
        )
    said = f"An answer costs {words.each(costs.plan_usd)}"
    said += f" under the plan, {words.each(costs.today_usd)} today" if moved else ""
    said += f", and brings {words.each(costs.revenue_usd)}" if costs.revenue_usd is not None else ""
    return Units(said, heads, groups, note)


def _unit(one: UnitCost, moved: bool, sold: bool) -> UnitRow:
    n = one.requests_per_month
    today = [words.usd(one.today_usd)] if moved else []
    each = [words.each(one.today_usd / n) if n else words.DASH] if moved else []
    each.append(words.each(one.plan_usd / n) if n else words.DASH)
    cells = [words.count(n), *today, words.usd(one.plan_usd), *each]
    if sold:
        brings = one.revenue_usd
        cells += [words.usd(brings), words.percent(1.0 - one.plan_usd / brings) if brings else words.DASH]
    return UnitRow(one.name or "not named", cells)


def margins(result: PlanResult) -> list[dict[str, str]]:
    """Price plans on the log's customers, all together last: what they bring, cost and leave."""
    found = []
    for one in result.margins:
        loss = words.whole(one.plan_at_a_loss)
        if one.today_at_a_loss != one.plan_at_a_loss:
            loss = f"{words.whole(one.today_at_a_loss)} today, then {loss}"
        found.append(
            {
                "name": one.name,
                "customers": words.whole(one.customers),
                "brings": words.usd(one.revenue_usd),
                "today": words.usd(one.today_usd),
                "today_margin": words.percent(one.today_margin_frac),
                "plan": words.usd(one.plan_usd),
                "plan_margin": words.percent(one.plan_margin_frac),
                "loss": loss,
            }
        )
    return found


def margins_sentence(result: PlanResult) -> str:
    """The margin of all price plans together, today and under the plan, and who stays at a loss."""
    if not result.margins:
        return ""
    every = result.margins[-1]
    now, then = (words.percent(frac) for frac in (every.today_margin_frac, every.plan_margin_frac))
    text = f"{words.usd_short(every.revenue_usd)} a month leaves a margin of {then}"
    text += f", {now} today" if now != then else ""
    lost = every.plan_at_a_loss
    return text + (f"; {words.plural(lost, 'customer')} of {every.customers:,} at a loss" if lost else "")


class EnergyRow(msgspec.Struct, frozen=True):
    """An option's electricity and emissions of a month, each with its central 80 %, and of one answer."""

    option: str
    name: str
    label: str
    kwh: str
    kwh_band: str
    kg: str
    kg_band: str
    wh_per_request: str


def energies(result: PlanResult) -> list[EnergyRow]:
    """Energy and carbon of every option, a dash where they are not known; none where no option has any."""
    if not any(result.energies):
        return []
    return [
        _energy(option, energy, result.trace.requests_per_month)
        for option, energy in zip(result.options, result.energies, strict=True)
    ]


def _energy(option: OptionLine, energy: Energy | None, requests: float) -> EnergyRow:
    name = _option(option.option)
    label = option.label if option.option not in ("today", "mix") else ""
    if energy is None:
        return EnergyRow(option.option, name, label, words.DASH, "", words.DASH, "", words.DASH)
    kwh, kg = energy.kwh_per_month, energy.kg_co2e_per_month
    each = kwh.mid * 1000.0 / requests if requests else None
    return EnergyRow(
        option.option,
        name,
        label,
        amount(kwh.mid),
        f"{amount(kwh.low)} to {amount(kwh.high)}",
        amount(kg.mid),
        f"{amount(kg.low)} to {amount(kg.high)}",
        words.DASH if each is None else amount(each) if each >= 10 else f"{each:#.2g}",
    )


def boundaries(result: PlanResult) -> list[str]:
    """What is counted as energy, for which options; and why there is a dash."""
    said: dict[str, list[str]] = {}
    for option, energy in zip(result.options, result.energies, strict=False):
        why = "nothing serves this way" if not option.id else "not known: the energy of its models is not"
        said.setdefault(why if energy is None else f"counted is {energy.boundary}", []).append(
            _option(option.option)
        )
    return [f"{words.listed(names, len(names))}: {what}." for what, names in said.items()]


def energy_sentence(result: PlanResult) -> str:
    """What the plan's electricity comes to, else today's, in the middle and with the band of its carbon."""
    by_option: dict[str, Energy | None] = {}
    if result.energies:
        by_option = {one.option: got for one, got in zip(result.options, result.energies, strict=True)}
    for option, who in (("mix", "The plan's answers"), ("today", "Today's answers")):
        if option == "mix" and result.verdict == "infeasible":
            continue
        energy = by_option.get(option)
        if energy is not None:
            kg = energy.kg_co2e_per_month
            return (
                f"{who} take {amount(energy.kwh_per_month.mid)} kWh a month and cause "
                f"{amount(kg.mid)} kg CO2e ({amount(kg.low)} to {amount(kg.high)})"
            )
    return "Energy and carbon of a month's answers"
