"""A statement as FOCUS 1.2 rows, the open format of cloud bills, and checks of their arithmetic.

Columns and their meaning: FinOps Open Cost and Usage Specification 1.2 (focus.finops.org). A row is one line
of a statement: its charge period is the line's UTC day or hour, half-open; its price is stated for one unit
(a token, a request), so that quantity times unit price is the cost to the last digit. Without a contract the
contracted, billed and effective cost are the list cost. Usage without a price is not a row: FOCUS has no word
for an unknown cost, and null or zero would each be a claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from isocost.books.statement import Line, Statement, month_of
from isocost.catalog.prices import METERS
from isocost.errors import BadInput

TOKENS, REQUESTS, SEARCHES = "Tokens", "Requests", "Searches"
_UNITS: Mapping[str, str] = {"request": REQUESTS, "web_search": SEARCHES, "file_search": SEARCHES}
UNITS = (TOKENS, REQUESTS, SEARCHES)
"""Units of a row, as FOCUS writes them; a meter that is none of the others counts tokens."""

TIMES = ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd")
COSTS = ("ListCost", "ContractedCost", "BilledCost", "EffectiveCost")


class Row(msgspec.Struct, frozen=True, rename="pascal"):
    """One charge; ``None`` is null. Money is exact dollars, times are UTC."""

    billing_account_id: str
    billing_account_name: str | None
    billing_currency: str
    billing_period_start: datetime
    billing_period_end: datetime
    charge_category: str
    charge_class: str | None
    charge_description: str
    charge_frequency: str
    charge_period_start: datetime
    charge_period_end: datetime
    consumed_quantity: int
    consumed_unit: str
    billed_cost: Decimal
    contracted_cost: Decimal
    contracted_unit_price: Decimal
    effective_cost: Decimal
    invoice_id: str | None
    invoice_issuer_name: str
    list_cost: Decimal
    list_unit_price: Decimal
    pricing_category: str
    pricing_quantity: int
    pricing_unit: str
    provider_name: str
    publisher_name: str
    region_id: str | None
    region_name: str | None
    resource_id: str
    resource_name: str
    resource_type: str
    service_category: str
    service_name: str
    service_subcategory: str
    sku_id: str
    sku_meter: str
    sku_price_id: str
    sub_account_id: str | None
    sub_account_name: str | None
    tags: dict[str, str]


COLUMNS = tuple(Row.__struct_encode_fields__)
"""The columns of the export, as FOCUS spells them."""


def rows(found: Statement) -> Iterator[Row]:
    """The priced lines of a statement as FOCUS rows, in their order."""
    for line in found.lines:
        if line.rate_fusd is not None and line.quantity:
            yield _row(line, found.basis)


def _row(line: Line, basis: str) -> Row:
    start, end = _period(line.period)
    first, after = month_of(line.month)
    price = Decimal(line.rate_fusd or 0).scaleb(-15)
    cost = Decimal(line.amount_fusd).scaleb(-15)
    unit = _UNITS.get(line.meter, TOKENS)
    named = f"{line.provider}/{line.model}"
    tier = "" if line.tier == "standard" else f", {line.tier}"
    tags = {"workload": line.workload, "price_basis": basis, "price_facts": " ".join(line.facts)}
    return Row(
        billing_account_id=line.provider,
        billing_account_name=line.provider,
        billing_currency="USD",
        billing_period_start=datetime(first.year, first.month, first.day, tzinfo=UTC),
        billing_period_end=datetime(after.year, after.month, after.day, tzinfo=UTC),
        charge_category="Usage",
        charge_class=None,
        charge_description=f"{named} {line.meter}{tier}",
        charge_frequency="Usage-Based",
        charge_period_start=start,
        charge_period_end=end,
        consumed_quantity=line.quantity,
        consumed_unit=unit,
        billed_cost=cost,
        contracted_cost=cost,
        contracted_unit_price=price,
        effective_cost=cost,
        invoice_id=None,
        invoice_issuer_name=line.provider,
        list_cost=cost,
        list_unit_price=price,
        pricing_category="Standard",
        pricing_quantity=line.quantity,
        pricing_unit=unit,
        provider_name=line.provider,
        publisher_name=line.provider,
        region_id=line.region or None,
        region_name=line.region or None,
        resource_id=named,
        resource_name=line.model,
        resource_type="Model",
        service_category="AI and Machine Learning",
        service_name=f"{line.provider} API",
        service_subcategory="Generative AI",
        sku_id=f"{named}/{line.meter}",
        sku_meter=line.meter,
        sku_price_id=" ".join(line.facts) or f"{named}/{line.meter}",
        sub_account_id=line.tenant or None,
        sub_account_name=line.tenant or None,
        tags={key: value for key, value in tags.items() if value},
    )


def _period(text: str) -> tuple[datetime, datetime]:
    """The half-open UTC span of a day or an hour."""
    if "T" in text:
        start = datetime.fromisoformat(f"{text}:00").replace(tzinfo=UTC)
        return start, start + timedelta(hours=1)
    start = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return start, start + timedelta(days=1)


def problems(given: Sequence[Row]) -> list[str]:
    """What is wrong with rows, a sentence each, at most one of a kind a row; empty where all is right."""
    found = []
    for number, row in enumerate(given, start=1):
        where = f"row {number}"
        if row.consumed_quantity < 0 or row.pricing_quantity < 0:
            found.append(f"{where}: usage is negative")
        if row.pricing_unit not in UNITS or row.consumed_unit not in UNITS:
            found.append(f"{where}: unit {row.pricing_unit!r} is not known")
        if row.pricing_quantity * row.list_unit_price != row.list_cost:
            found.append(f"{where}: quantity times list unit price is not the list cost")
        if row.pricing_quantity * row.contracted_unit_price != row.contracted_cost:
            found.append(f"{where}: quantity times contracted unit price is not the contracted cost")
        if not row.charge_period_start < row.charge_period_end:
            found.append(f"{where}: the charge period does not end after it starts")
        inside = row.billing_period_start <= row.charge_period_start < row.billing_period_end
        if not inside or row.charge_period_end > row.billing_period_end:
            found.append(f"{where}: the charge period is not within the billing period")
        if row.sku_meter not in METERS:
            found.append(f"{where}: meter {row.sku_meter!r} is not known")
    return found


def write(given: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, or as Parquet where the name ends so; whole or not at all.

    Raises:
        BadInput: another ending, or rows that do not add up (nothing is written).
    """
    if path.suffix not in (".csv", ".parquet"):
        raise BadInput(f"{path.suffix!r} is no format", where=str(path), fix="Name a .csv or a .parquet")
    wrong = problems(given)
    if wrong:
        raise BadInput(f"{len(wrong)} rows do not add up: {wrong[0]}", where=str(path))
    part = path.with_suffix(path.suffix + ".part")
    if path.suffix == ".csv":
        part.write_text(csv_text(given), encoding="utf-8", newline="")
    else:
        _write_parquet(given, part)
    part.replace(path)


def csv_text(given: Sequence[Row]) -> str:
    """Rows as CSV with a header; null is an empty field, numbers have no exponent, times end in Z."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in given:
        writer.writerow([_text(getattr(row, name)) for name in row.__struct_fields__])
    return out.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        # Quantities are decimals in FOCUS: a reader that guesses types from CSV must see one.
        return f"{value}.0"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)


def _write_parquet(given: Sequence[Row], path: Path) -> None:
    """The same texts, with types: money DECIMAL(38, 15), counts HUGEINT as DECIMAL(38, 0), times UTC."""
    import duckdb
    import numpy as np

    fields = Row.__struct_fields__
    columns = {
        column: np.array([_text(getattr(row, name)) for row in given], dtype=object)
        for column, name in zip(COLUMNS, fields, strict=True)
    }
    select = []
    for column in COLUMNS:
        kind = "VARCHAR"
        if column in COSTS or column.endswith("UnitPrice"):
            kind = "DECIMAL(38, 15)"
        elif column.endswith("Quantity"):
            kind = "DECIMAL(38, 0)"
        elif column in TIMES:
            kind = "TIMESTAMPTZ"
        select.append(f"CAST(nullif({column}, '') AS {kind}) AS {column}")
    with duckdb.connect(config={"threads": 1}) as db:
        if not given:
            db.execute(f"CREATE TABLE given ({', '.join(f'{column} VARCHAR' for column in COLUMNS)})")
        else:
            db.register("given", columns)
        db.execute(
            f"COPY (SELECT {', '.join(select)} FROM given) TO ? (FORMAT parquet, COMPRESSION zstd)",
            [str(path)],
        )
