"""The exact bill of one request. Pure Python: no array, no database, no compiler."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from isocost.bill.usage import Line, Priced, Usage
from isocost.catalog import Catalog
from isocost.catalog.names import Offering
from isocost.catalog.prices import Rates, rates


def price(
    catalog: Catalog,
    offering: Offering,
    usage: Usage,
    at: datetime,
    tier: str = "standard",
    region: str = "",
) -> Priced:
    """The exact bill of one request at a moment (a naive one is UTC).

    After the day on which a price was last read, a price that was announced for then is taken, and ``why``
    says so.

    Raises:
        BadInput: counts that contradict each other.
    """
    moment = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    table = rates(
        catalog.at(moment.date(), expected=True),
        offering,
        tier,
        region,
        usage.input_tok,
        moment.hour * 60 + moment.minute,
    )
    return _priced(usage.quantities(), table, offering, moment.date(), tier)


def _priced(quantities: Mapping[str, int], table: Rates, offering: Offering, on: date, tier: str) -> Priced:
    lines, missing = [], []
    for meter, quantity in quantities.items():
        rate = table.meters.get(meter)
        if rate is not None and quantity:
            lines.append(Line(meter, quantity, rate.usd, rate.per, rate.facts, quantity * rate.fusd))
        elif quantity and meter != "request":
            missing.append(meter)
    amount = sum(line.amount_fusd for line in lines)
    if missing:
        known = bool(lines)
        why = f"no price of {', '.join(missing)} at {offering.id}, tier {tier}, on {on}"
        return Priced(amount, tuple(lines), "partial" if known else "unpriced", why)
    if not table.meters:
        return Priced(0, (), "unpriced", f"no price of {offering.id}, tier {tier}, on {on}")
    said = table.doubt or table.announced
    return Priced(amount, tuple(lines), "partial" if table.doubt else "priced", said)
