"""A statement as FOCUS 1.2 rows, the open format of cloud bills, and checks of their arithmetic.

Columns and their meaning: FinOps Open Cost and Usage Specification 1.2 (focus.finops.org). A row is one line
of a statement: its charge period is the line's UTC day or hour, half-open; its price is stated for one unit
(a token, a request), so that quantity times unit price is the cost to the last digit. Without a contract the
contracted, billed and effective cost are the list cost. Under one a line is a row for each of its pieces.
What is paid for capacity or for a commitment is of the category Purchase, billed and without effect (the
specification wants so); its effect is in the usage that it paid for, and in rows of the status Unused for
what nothing used. Fees are Usage by the charge, credits are Credit. Usage without a price is not a row: FOCUS
has no word for an unknown cost, and null or zero would each be a claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from isocost.books.contract import ENTRIES, Contract, Entry, Piece
from isocost.books.statement import Statement, month_of
from isocost.catalog.prices import METERS
from isocost.errors import BadInput
from isocost.units import usd_of

TOKENS, REQUESTS, SEARCHES, CHARGES, DOLLARS = "Tokens", "Requests", "Searches", "Charges", "USD"
_UNITS: Mapping[str, str] = {"request": REQUESTS, "web_search": SEARCHES, "file_search": SEARCHES}
UNITS = (TOKENS, REQUESTS, SEARCHES, CHARGES)
"""Units of a row, as FOCUS writes them; a meter that is none of the others counts tokens."""
CATEGORIES = ("Usage", "Purchase", "Credit")

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
    commitment_discount_category: str | None
    commitment_discount_id: str | None
    commitment_discount_name: str | None
    commitment_discount_quantity: Decimal | None
    commitment_discount_status: str | None
    commitment_discount_type: str | None
    commitment_discount_unit: str | None
    consumed_quantity: int | None
    consumed_unit: str | None
    billed_cost: Decimal
    contracted_cost: Decimal
    contracted_unit_price: Decimal | None
    effective_cost: Decimal
    invoice_id: str | None
    invoice_issuer_name: str
    list_cost: Decimal
    list_unit_price: Decimal | None
    pricing_category: str | None
    pricing_quantity: int | None
    pricing_unit: str | None
    provider_name: str
    publisher_name: str
    region_id: str | None
    region_name: str | None
    resource_id: str | None
    resource_name: str | None
    resource_type: str | None
    service_category: str
    service_name: str
    service_subcategory: str
    sku_id: str | None
    sku_meter: str | None
    sku_price_id: str | None
    sub_account_id: str | None
    sub_account_name: str | None
    tags: dict[str, str]


COLUMNS = tuple(Row.__struct_encode_fields__)
"""The columns of the export, as FOCUS spells them."""


def rows(found: Statement, under: Contract | None = None) -> Iterator[Row]:
    """The priced lines of a statement as FOCUS rows, in order; under a contract its pieces and entries."""
    if under is None:
        for line in found.lines:
            if line.rate_fusd is not None and line.quantity:
                amount = line.amount_fusd
                yield _row(Piece(line, line.rate_fusd, amount, amount), found.basis, None)
        return
    terms = _terms(under)
    for piece in under.pieces:
        if piece.line.quantity:
            yield _row(piece, found.basis, terms.get(piece.paid_by))
    for entry in under.entries:
        if entry.kind == "shortfall":
            # What falls short was bought, and nothing used it.
            bought = msgspec.structs.replace(entry, kind="purchase", effective_fusd=0)
            yield _charge(bought)
            yield _charge(msgspec.structs.replace(entry, kind="unused", billed_fusd=0))
        else:
            yield _charge(entry)


class _Terms(msgspec.Struct, frozen=True):
    """A commitment as FOCUS names it: ``Usage`` of capacity, or ``Spend``."""

    name: str
    category: str
    kind: str


def _terms(under: Contract) -> dict[str, _Terms]:
    """What pays for pieces, by its name."""
    spend = {one.name for one in under.entries if one.kind in ("purchase", "unused")}
    paid = {piece.paid_by for piece in under.pieces if piece.paid_by} | spend
    return {name: _committed(name, under.capacity) for name in paid}


def _committed(name: str, capacity: Sequence[str]) -> _Terms:
    if name in capacity:
        return _Terms(name, "Usage", "Provisioned throughput")
    return _Terms(name, "Spend", "Spend commitment")


def _row(piece: Piece, basis: str, paid: _Terms | None) -> Row:
    line = piece.line
    start, end = _period(line.period)
    contracted = usd_of(piece.rate_fusd)
    listed = usd_of(line.rate_fusd) if line.rate_fusd is not None else contracted
    unit = _UNITS.get(line.meter, TOKENS)
    named = f"{line.provider}/{line.model}"
    tier = "" if line.tier == "standard" else f", {line.tier}"
    tags = {
        "workload": line.workload, "price_basis": basis, "price_facts": " ".join(line.facts),
        "contract": piece.rule, "account": line.account, "credential": line.credential,
        "deployment": line.deployment,
    }  # fmt: skip
    base = _base(line.provider, start, end)
    drawn = (
        Decimal(line.quantity) if paid is None or paid.category == "Usage" else usd_of(piece.contracted_fusd)
    )
    return msgspec.structs.replace(
        base,
        charge_description=f"{named} {line.meter}{tier}",
        commitment_discount_category=paid.category if paid else None,
        commitment_discount_id=f"{line.provider}/{paid.name}" if paid else None,
        commitment_discount_name=paid.name if paid else None,
        commitment_discount_quantity=drawn if paid else None,
        commitment_discount_status="Used" if paid else None,
        commitment_discount_type=paid.kind if paid else None,
        commitment_discount_unit=(TOKENS if paid.category == "Usage" else DOLLARS) if paid else None,
        consumed_quantity=line.quantity,
        consumed_unit=unit,
        billed_cost=usd_of(piece.billed_fusd),
        contracted_cost=usd_of(piece.contracted_fusd),
        contracted_unit_price=contracted,
        effective_cost=usd_of(piece.effective_fusd),
        list_cost=usd_of(piece.list_fusd),
        list_unit_price=listed,
        pricing_category="Committed" if paid else "Standard",
        pricing_quantity=line.quantity,
        pricing_unit=unit,
        region_id=line.region or None,
        region_name=line.region or None,
        resource_id=named,
        resource_name=line.model,
        resource_type="Model",
        sku_id=f"{named}/{line.meter}",
        sku_meter=line.meter,
        sku_price_id=" ".join(line.facts) or f"{named}/{line.meter}",
        sub_account_id=line.account or line.tenant or None,
        sub_account_name=line.account or line.tenant or None,
        tags={key: value for key, value in tags.items() if value},
    )


def _base(provider: str, start: datetime, end: datetime) -> Row:
    """What all rows of a provider and a period share; usage, of nothing yet."""
    first, after = month_of(f"{start:%Y-%m}")
    nothing = Decimal(0)
    return Row(
        billing_account_id=provider,
        billing_account_name=provider,
        billing_currency="USD",
        billing_period_start=datetime(first.year, first.month, first.day, tzinfo=UTC),
        billing_period_end=datetime(after.year, after.month, after.day, tzinfo=UTC),
        charge_category="Usage",
        charge_class=None,
        charge_description="",
        charge_frequency="Usage-Based",
        charge_period_start=start,
        charge_period_end=end,
        commitment_discount_category=None,
        commitment_discount_id=None,
        commitment_discount_name=None,
        commitment_discount_quantity=None,
        commitment_discount_status=None,
        commitment_discount_type=None,
        commitment_discount_unit=None,
        consumed_quantity=None,
        consumed_unit=None,
        billed_cost=nothing,
        contracted_cost=nothing,
        contracted_unit_price=None,
        effective_cost=nothing,
        invoice_id=None,
        invoice_issuer_name=provider,
        list_cost=nothing,
        list_unit_price=None,
        pricing_category=None,
        pricing_quantity=None,
        pricing_unit=None,
        provider_name=provider,
        publisher_name=provider,
        region_id=None,
        region_name=None,
        resource_id=None,
        resource_name=None,
        resource_type=None,
        service_category="AI and Machine Learning",
        service_name=f"{provider} API",
        service_subcategory="Generative AI",
        sku_id=None,
        sku_meter=None,
        sku_price_id=None,
        sub_account_id=None,
        sub_account_name=None,
        tags={},
    )


ANY_PROVIDER = "contract"
"""Who charges what a contract charges for usage of any provider."""


def _charge(entry: Entry) -> Row:
    """A charge beside usage; of what is unused, the commitment and what it cost in effect."""
    provider = entry.provider or ANY_PROVIDER
    base = _base(
        provider, *(datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (entry.start, entry.end))
    )
    cost, effective = usd_of(entry.billed_fusd), usd_of(entry.effective_fusd)
    sku = f"{provider}/{entry.name}"
    if entry.kind == "credit":
        return msgspec.structs.replace(
            base, charge_category="Credit", charge_description=f"credit {entry.name}",
            charge_frequency="One-Time", billed_cost=cost, contracted_cost=cost, effective_cost=effective,
            list_cost=cost,
        )  # fmt: skip
    unused, fee = entry.kind == "unused", entry.kind == "fee"
    paid = _committed(entry.name, (entry.name,) if entry.paid_for == "capacity" else ())
    paid_or_none = paid if entry.paid_for else None
    return msgspec.structs.replace(
        base,
        charge_category="Usage" if unused or fee else "Purchase",
        charge_description=f"{entry.kind} {entry.name}",
        charge_frequency="Usage-Based" if unused else "Recurring",
        commitment_discount_category=paid.category if paid_or_none else None,
        commitment_discount_id=sku if paid_or_none else None,
        commitment_discount_name=paid.name if paid_or_none else None,
        commitment_discount_quantity=(effective if unused else cost) if paid_or_none else None,
        commitment_discount_status="Unused" if paid_or_none and unused else None,
        commitment_discount_type=paid.kind if paid_or_none else None,
        commitment_discount_unit=DOLLARS if paid_or_none else None,
        consumed_quantity=1 if fee else None,
        consumed_unit=CHARGES if fee else None,
        billed_cost=cost,
        contracted_cost=cost,
        contracted_unit_price=cost,
        effective_cost=effective,
        list_cost=cost,
        list_unit_price=cost,
        pricing_category="Committed" if unused else "Standard",
        pricing_quantity=1,
        pricing_unit=CHARGES,
        sku_id=sku,
        sku_meter=entry.kind,
        sku_price_id=f"overlay/{entry.name}",
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
        found += [f"row {number}: {said}" for said in _problems(row)]
    return found


def _problems(row: Row) -> Iterator[str]:
    if row.charge_category not in CATEGORIES:
        yield f"charge category {row.charge_category!r} is not known"
    if (row.consumed_quantity or 0) < 0 or (row.pricing_quantity or 0) < 0:
        yield "usage is negative"
    for unit in (row.pricing_unit, row.consumed_unit):
        if unit is not None and unit not in UNITS:
            yield f"unit {unit!r} is not known"
    for name, price, cost in (
        ("list", row.list_unit_price, row.list_cost),
        ("contracted", row.contracted_unit_price, row.contracted_cost),
    ):
        if row.pricing_quantity is not None and (price is None or row.pricing_quantity * price != cost):
            yield f"quantity times {name} unit price is not the {name} cost"
    if not row.charge_period_start < row.charge_period_end:
        yield "the charge period does not end after it starts"
    inside = row.billing_period_start <= row.charge_period_start < row.billing_period_end
    if not inside or row.charge_period_end > row.billing_period_end:
        yield "the charge period is not within the billing period"
    if row.sku_meter is not None and row.sku_meter not in (*METERS, *ENTRIES):
        yield f"meter {row.sku_meter!r} is not known"
    committed = row.commitment_discount_id is not None
    if committed != (row.commitment_discount_category is not None):
        yield "a commitment has a category, and nothing else has"
    if row.commitment_discount_status is not None and row.charge_category != "Usage":
        yield "only usage can use a commitment, or leave it unused"
    if row.charge_category == "Usage" and not committed and row.billed_cost != row.contracted_cost:
        yield "usage that no commitment pays for is billed at another than its contracted cost"
    if row.charge_category == "Usage" and row.commitment_discount_status == "Unused" and row.billed_cost:
        yield "what is unused is billed"
    if row.charge_category == "Credit" and row.billed_cost > 0:
        yield "a credit is charged"
    if row.charge_category == "Purchase" and row.effective_cost:
        yield "a purchase has an effect of its own"


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
        if column in COSTS or column.endswith("UnitPrice") or column == "CommitmentDiscountQuantity":
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
