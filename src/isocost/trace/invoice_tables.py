"""Invoices as CSV: AWS's cost and usage report, Azure's cost details, FOCUS, OpenRouter, any other.

Schemas: AWS «Cost and Usage Report line item details» (docs.aws.amazon.com/cur/latest/userguide) and
«Understanding your Amazon Bedrock Cost and Usage Report data»; Azure «Cost and usage details file schema»
(learn.microsoft.com/azure/cost-management-billing/dataset-schema); FinOps Open Cost and Usage Specification
(focus.finops.org).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from isocost.errors import BadInput
from isocost.trace.charges import (
    KINDS,
    InvoiceLine,
    Kind,
    Row,
    amount_of,
    currency_of,
    day_of,
    exact_product,
    kind_of,
    maybe_amount,
    meter_of,
    spelled,
    tier_of,
    units_in,
)

_AWS_KINDS: Mapping[str, Kind] = {
    "Usage": "usage", "DiscountedUsage": "usage", "SavingsPlanCoveredUsage": "usage", "Tax": "tax",
    "Credit": "credit", "Refund": "credit", "Discount": "discount", "EdpDiscount": "discount",
    "BundledDiscount": "discount", "PrivateRateDiscount": "discount", "Fee": "fee", "RIFee": "fee",
    "SavingsPlanRecurringFee": "fee", "SavingsPlanUpfrontFee": "fee", "SavingsPlanNegation": "discount",
}  # fmt: skip
_AZURE_KINDS: Mapping[str, Kind] = {
    "usage": "usage", "purchase": "fee", "refund": "credit", "tax": "tax", "credit": "credit",
    "unusedreservation": "fee", "unusedsavingsplan": "fee", "roundingadjustment": "adjustment",
}  # fmt: skip
_FOCUS_KINDS: Mapping[str, Kind] = {
    "usage": "usage", "purchase": "fee", "tax": "tax", "credit": "credit", "adjustment": "adjustment",
}  # fmt: skip
_AI_WORDS = re.compile(
    r"bedrock|openai|foundry|generative|anthropic|claude|gemini|vertex|llm|inference", re.I
)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "day": ("date", "day", "usage_date", "charge_date", "period_start", "start_date", "invoice_date"),
    "line_item": ("description", "line_item", "item", "product", "service", "details"),
    "amount": ("amount", "cost", "total", "amount_usd", "cost_usd", "charge", "line_total"),
    "currency": ("currency", "currency_code", "billing_currency"),
    "model": ("model", "model_name"),
    "project": ("project", "project_id", "workspace", "workspace_id", "account", "account_id"),
    "kind": ("kind", "type", "charge_type", "line_type"),
    "key": ("key", "api_key_id", "api_key", "key_id", "credential"),
    "meter": ("meter", "token_type", "unit_type"),
    "tier": ("tier", "service_tier"),
    "quantity": ("quantity", "units", "tokens"),
    "requests": ("requests", "num_model_requests", "calls"),
    "list_amount": ("list_amount", "list_cost", "list_amount_usd"),
    "usd": ("usd", "amount_in_usd", "cost_in_usd"),
    "until": ("until", "period_end", "end_date"),
}
"""Columns of a table of one's own: what each is called, best first."""


class Table(NamedTuple):
    """A CSV that is being read: its name, its columns by name, and the rows."""

    file: Path
    places: Mapping[str, int]
    reader: Any

    def rows(self) -> Iterator[tuple[str, Callable[..., str]]]:
        """Every row that is not empty: where it is, and a look-up of the first of several columns."""
        for row in self.reader:
            where = f"{self.file}:{self.reader.line_num}"
            if not any(cell.strip() for cell in row):
                continue

            def cell(*names: str, row: Sequence[str] = row, where: str = where) -> str:
                for name in names:
                    if name in self.places:
                        found = _cell(row, self.places[name], where)
                        if found:
                            return found
                return ""

            yield where, cell


def read_table(file: Path, text: str, doubts: list[str]) -> Iterator[Row]:
    """Charges of a CSV, its dialect found by its columns.

    Raises:
        BadInput: a column is missing, or a cell is no amount, date or currency.
    """
    first = text.splitlines()[0]
    separator = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [spelled(name) for name in next(reader)]
    found = Table(file, {name: at for at, name in reversed(list(enumerate(header)))}, reader)
    if "line_item_unblended_cost" in found.places:
        return _aws(found, doubts)
    if "billed_cost" in found.places and "charge_category" in found.places:
        return _focus(found, doubts)
    if {"cost_in_billing_currency", "meter_category"} <= set(found.places):
        return _azure(found, doubts)
    if {"usage", "prompt_tokens", "completion_tokens"} <= set(found.places):
        return _openrouter(found)
    return _plain(found, header)


def _plain(table: Table, header: Sequence[str]) -> Iterator[Row]:
    """A table of one's own: the columns of ``COLUMNS``, of which three and a currency are needed."""
    chosen = {
        role: next((name for name in names if name in table.places), "") for role, names in COLUMNS.items()
    }
    lacking = [role for role in ("day", "line_item", "amount") if not chosen[role]]
    if lacking == ["line_item"] and chosen["model"]:
        lacking = []
    if lacking:
        raise BadInput(
            f"no column for {', '.join(lacking)} among: {', '.join(header)}",
            where=f"{table.file}:1",
            fix=f"Call the columns: {', '.join(COLUMNS[role][0] for role in lacking)}",
        )
    in_usd = chosen["amount"].endswith("_usd")
    if not chosen["currency"] and not in_usd:
        raise BadInput(
            "no column for the currency", where=f"{table.file}:1", fix="Add a column currency (USD)"
        )
    for where, cell in table.rows():
        said = {role: cell(name) if name else "" for role, name in chosen.items()}
        amount = amount_of(said["amount"], where)
        item = said["line_item"] or " ".join(filter(None, (said["model"], said["meter"])))
        kind = next((one for one in KINDS if one == said["kind"].lower()), None)
        until = day_of(said["until"], where) if said["until"] else None
        requests = maybe_amount(said["requests"], where)
        yield Row(InvoiceLine(
            day_of(said["day"], where), item, said["model"], said["project"], amount,
            "USD" if in_usd else currency_of(said["currency"], where),
            kind or kind_of(f"{said['kind']} {item}", amount), table.reader.line_num,
            _meter(said["meter"], item), said["tier"].lower() or tier_of(item), said["key"],
            maybe_amount(said["quantity"], where), None if requests is None else int(requests),
            maybe_amount(said["list_amount"], where), maybe_amount(said["usd"], where), until,
        ))  # fmt: skip


def _meter(named: str, item: str) -> str:
    return meter_of(named) if named else meter_of(item)


def _openrouter(table: Table) -> Iterator[Row]:
    """OpenRouter's daily activity: credits spent by day, model and upstream provider."""
    for where, cell in table.rows():
        model = cell("model_permaslug", "model")
        requests = maybe_amount(cell("requests"), where)
        yield Row(InvoiceLine(
            day_of(cell("date"), where), model, model, "", amount_of(cell("usage"), where), "USD", "usage",
            table.reader.line_num, requests=None if requests is None else int(requests),
        ))  # fmt: skip


def _aws(table: Table, doubts: list[str]) -> Iterator[Row]:
    """Lines of Bedrock in a cost and usage report, whichever of its two spellings of columns."""
    others, amount_of_others = 0, Decimal(0)
    unknown: set[str] = set()
    for where, cell in table.rows():
        amount = amount_of(cell("line_item_unblended_cost"), where)
        usage = cell("line_item_usage_type")
        item = cell("line_item_line_item_description") or usage
        told = (
            f"{cell('line_item_product_code')} {cell('product_product_name', 'product_servicename')} {item}"
        )
        if "bedrock" not in told.lower():
            others, amount_of_others = others + 1, amount_of_others + amount
            continue
        kind = cell("line_item_line_item_type")
        if kind not in _AWS_KINDS:
            unknown.add(kind)
        quantity = maybe_amount(cell("line_item_usage_amount"), where)
        if quantity is not None:
            quantity = exact_product(quantity, units_in(cell("pricing_unit") or _aws_unit(item)))
        counted = _AWS_KINDS.get(kind, "adjustment")
        yield Row(InvoiceLine(
            day_of(cell("line_item_usage_start_date"), where), item,
            cell("product_model") or _aws_model(usage),
            cell("line_item_usage_account_id"), amount,
            currency_of(cell("line_item_currency_code") or "USD", where), counted, table.reader.line_num,
            meter_of(cell("product_inference_type") or usage), tier_of(usage), cell("line_item_resource_id"),
            quantity if counted == "usage" else None, None,
            maybe_amount(cell("pricing_public_on_demand_cost"), where) if counted == "usage" else None,
        ))  # fmt: skip
    if others:
        doubts.append(
            f"lines of other products than Bedrock are left out: {others:,}, in all {amount_of_others}"
        )
    if unknown:
        doubts.append(f"line types that are not known count as adjustments: {', '.join(sorted(unknown))}")


def _aws_model(usage: str) -> str:
    """``USE1-Claude3.5Sonnet-input-tokens`` as ``Claude3.5Sonnet``."""
    bare = re.sub(r"^[A-Z]{2,4}\d?-", "", usage)
    return re.split(r"-(?:mantle-)?(?:input|output|cache|batch|priority|flex)", bare, maxsplit=1)[0]


def _aws_unit(item: str) -> str:
    """The unit that a description prices by: ``$0.00006 per 1K input tokens``."""
    found = re.search(r"per\s+([\d.]*\s*[KM]?)\b", item, re.IGNORECASE)
    return found[1] if found else ""


def _azure(table: Table, doubts: list[str]) -> Iterator[Row]:
    """Cost details of Azure (EA or MCA) for its model services, in the billing currency."""
    others, amount_of_others = 0, Decimal(0)
    for where, cell in table.rows():
        amount = amount_of(cell("cost_in_billing_currency"), where)
        told = f"{cell('meter_category')} {cell('meter_sub_category')} {cell('product_name', 'product')}"
        if not _AI_WORDS.search(told):
            others, amount_of_others = others + 1, amount_of_others + amount
            continue
        item = cell("meter_name") or cell("product_name", "product")
        kind = _AZURE_KINDS.get(cell("charge_type").lower(), "adjustment")
        quantity = maybe_amount(cell("quantity"), where)
        payg = maybe_amount(cell("payg_price", "pay_gprice"), where)
        rate = maybe_amount(cell("exchange_rate_pricing_to_billing", "exchange_rate"), where)
        listed = None
        if payg is not None and quantity is not None and kind == "usage":
            listed = exact_product(exact_product(payg, quantity), rate or Decimal(1))
        units = units_in(cell("unit_of_measure"))
        yield Row(InvoiceLine(
            day_of(cell("date", "usage_date"), where, month_first=True), item, azure_model(item),
            cell("subscription_id", "subscription_guid"), amount,
            currency_of(cell("billing_currency", "billing_currency_code"), where), kind,
            table.reader.line_num, meter_of(item), tier_of(item), cell("resource_id"),
            None if quantity is None or kind != "usage" else exact_product(quantity, units), None, listed,
            maybe_amount(cell("cost_in_usd"), where),
        ))  # fmt: skip
    if others:
        doubts.append(f"lines of other services are left out: {others:,}, in all {amount_of_others}")


def azure_model(meter: str) -> str:
    """The model in the name of one of Azure's meters.

    >>> azure_model("gpt 4.1 mini cached Inp glbl Tokens"), azure_model("gpt-4o-0806-Outp-regnl Tokens")
    ('gpt-4.1-mini', 'gpt-4o-0806')
    """
    low = re.sub(r"[\s_]+", "-", meter.strip().lower())
    cut = re.split(
        r"-(?:batch|cached|cchd|cd|inp|inpt|input|outp|out|opt|output|prompt|glbl|regnl|dzone|pp)\b", low
    )
    return cut[0]


def _focus(table: Table, doubts: list[str]) -> Iterator[Row]:
    """A FOCUS export: billed cost, what it is at list price, and quantities where meters are named."""
    others, amount_of_others = 0, Decimal(0)
    whole = "service_category" in table.places or "service_name" in table.places
    for where, cell in table.rows():
        amount = amount_of(cell("billed_cost"), where)
        told = f"{cell('service_category')} {cell('service_name')} {cell('service_subcategory')}"
        ours = "ai and machine learning" in told.lower() or _AI_WORDS.search(told)
        kind = _FOCUS_KINDS.get(cell("charge_category").lower(), "adjustment")
        if whole and not ours and told.strip():
            others, amount_of_others = others + 1, amount_of_others + amount
            continue
        item = cell("charge_description") or cell("sku_meter") or cell("sku_id")
        usage = kind == "usage"
        consumed = maybe_amount(cell("consumed_quantity") or cell("pricing_quantity"), where)
        unit = cell("consumed_unit") or cell("pricing_unit")
        start = day_of(cell("charge_period_start"), where)
        quantity = exact_product(consumed, units_in(unit)) if usage and consumed is not None else None
        yield Row(InvoiceLine(
            start, item, cell("resource_name") if cell("resource_type").lower() == "model" else "",
            cell("sub_account_id"), amount, currency_of(cell("billing_currency"), where), kind,
            table.reader.line_num, meter_of(cell("sku_meter") or item), tier_of(item), cell("x_api_key_id"),
            quantity, None, maybe_amount(cell("list_cost"), where) if usage else None, None,
            _later(start, cell("charge_period_end"), where),
        ))  # fmt: skip
    if others:
        doubts.append(f"lines of other services are left out: {others:,}, in all {amount_of_others}")


def _later(start: date, end: str, where: str) -> date | None:
    """The exclusive end of a charge, where it covers more than a day."""
    if not end:
        return None
    stop = day_of(end, where)
    return stop if stop > start + timedelta(days=1) else None


def _cell(row: Sequence[str], at: int, where: str) -> str:
    if at >= len(row):
        raise BadInput(f"a row of {len(row)} cells, shorter than the header", where=where, fix="Mend the row")
    return row[at].strip()
