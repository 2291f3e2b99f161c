"""What a plan's amounts are made of: its ledger's charges, grouped until each is quantity times price.

``plan`` is the whole month; ``plan.NAME`` the part of a deployment, account, pillar, option or workload.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from isocost.errors import UnknownFact
from isocost.ledger import FEMTO_PER_USD, Charge, Ledger
from isocost.why.formula import Node

PARTS = ("deployment", "account", "pillar", "option", "workload")
"""What ``plan.NAME`` may name, tried in this order."""


def of_ledger(ledger: Ledger, name: str) -> Node:
    """The tree of an amount of a plan, in dollars a month.

    Raises:
        UnknownFact: the ledger has no part of that name; those that it has are given.
    """
    part = name.removesuffix(".usd_per_month").partition(".")[2]
    charges = list(ledger)
    if part:
        charges = next((found for key in PARTS if (found := list(ledger.where(**{key: part})))), [])
    if not charges:
        known = sorted({getattr(charge, key) for charge in ledger for key in PARTS[:2]})
        raise UnknownFact(
            f"the plan has no part {part!r}", where="ledger.parquet", fix=f"Parts: {', '.join(known)}"
        )
    return _sum(name, [_account(*group) for group in _groups(charges, "account")])


def _account(account: str, charges: list[Charge]) -> Node:
    """An account as the sum of what each deployment adds to it."""
    return _sum(account, [_deployment(*group) for group in _groups(charges, "deployment")])


def _deployment(deployment: str, charges: list[Charge]) -> Node:
    lines: dict[tuple[str, str, float, str], list[Charge]] = {}
    for charge in charges:
        key = (charge.meter, charge.unit, charge.unit_price_usd, charge.price_fact)
        lines.setdefault(key, []).append(charge)
    names: dict[str, int] = {}
    parts = []
    for (meter, unit, unit_price_usd, price_fact), members in lines.items():
        names[meter] = names.get(meter, 0) + 1
        called = meter if names[meter] == 1 else f"{meter}_{names[meter]}"
        facts = tuple(price_fact.split(" * ")) if price_fact else ()
        how = "" if len(facts) == 1 else "and the other facts are in the quantity" if facts else "no fact"
        inputs = (
            Node(
                "quantity",
                sum(charge.quantity for charge in members),
                unit,
                how="a month, replayed or stated",
            ),
            Node("unit_price_usd", unit_price_usd, f"USD/{unit}", how=how, facts=facts),
        )
        usd = sum(charge.amount_fusd for charge in members) / FEMTO_PER_USD
        parts.append(Node(_word(called), usd, "USD/month", "quantity * unit_price_usd", "", inputs))
    return _sum(deployment, parts)


def _sum(name: str, parts: list[Node]) -> Node:
    """A node of parts, the largest first; a single part stands for the whole."""
    parts.sort(key=lambda node: -node.value)
    called = name if name.partition(".")[0] == "plan" else _word(name)
    if len(parts) == 1:
        only = parts[0]
        return Node(called, only.value, only.unit, only.formula, only.how, only.inputs)
    total = sum(part.value for part in parts)
    return Node(called, total, "USD/month", " + ".join(part.name for part in parts), "", tuple(parts))


def _groups(charges: Iterable[Charge], key: str) -> list[tuple[str, list[Charge]]]:
    groups: dict[str, list[Charge]] = {}
    for charge in charges:
        groups.setdefault(getattr(charge, key), []).append(charge)
    return list(groups.items())


def _word(name: str) -> str:
    """A name as formulas can hold it."""
    word = re.sub(r"\W+", "_", name).strip("_")
    return word if word[:1].isalpha() else f"_{word}"
