"""What a provider asks for: costs pages, cost reports, billing CSVs as lines of exact amounts.

An invoice is no usage: it says what was charged for a day and an item, not which requests were made. Amounts
are :class:`~decimal.Decimal` as written, never binary floats. Schemas: OpenAI «Costs»
(platform.openai.com/docs/api-reference/usage/costs_object), Anthropic «Get Cost Report»
(platform.claude.com/docs/en/api/admin/cost_report), AWS «Cost and Usage Report line item details»
(docs.aws.amazon.com/cur/latest/userguide/Lineitem-columns.html).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from isocost.errors import BadInput

Kind = Literal["usage", "credit", "tax", "fee", "adjustment"]

_CENT_CURRENCIES = frozenset({"USD", "EUR", "GBP", "CAD", "AUD", "CHF"})
"""Currencies of a hundred cents, in which a count of cents can be read."""

_DIGITS = 100
"""Significant digits within which sums are exact."""

_AWS_KINDS: Mapping[str, Kind] = {
    "Usage": "usage", "DiscountedUsage": "usage", "SavingsPlanCoveredUsage": "usage", "Tax": "tax",
    "Credit": "credit", "Refund": "credit", "Discount": "credit", "EdpDiscount": "credit",
    "BundledDiscount": "credit", "PrivateRateDiscount": "credit", "Fee": "fee", "RIFee": "fee",
    "SavingsPlanRecurringFee": "fee", "SavingsPlanUpfrontFee": "fee", "SavingsPlanNegation": "adjustment",
}  # fmt: skip

_WORDS: tuple[tuple[Kind, str], ...] = (
    ("tax", r"\b(tax|vat|gst|hst|sales tax)\b"),
    ("credit", r"\b(credits?|discount|promotion(al)?|grant)\b"),
    ("adjustment", r"\b(adjust(ment|ed)?|correction|refund|true-?up|rounding)\b"),
    ("fee", r"\b(fees?|subscription|seats?|support plan|minimum|commitment)\b"),
)
"""Words of a description that name a kind, the first that fits."""

_CSV_NAMES: Mapping[str, tuple[str, ...]] = {
    "day": ("date", "day", "usage_date", "charge_date", "period_start", "start_date", "invoice_date"),
    "line_item": ("description", "line_item", "item", "product", "service", "details"),
    "amount": ("amount", "cost", "total", "amount_usd", "cost_usd", "charge", "line_total"),
    "currency": ("currency", "currency_code", "billing_currency"),
    "model": ("model", "model_name"),
    "project": ("project", "project_id", "workspace", "workspace_id", "account", "account_id"),
    "kind": ("kind", "type", "charge_type", "line_type"),
}


class InvoiceLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One charge: ``amount`` in ``currency`` (ISO code, upper case) for ``line_item`` on a UTC ``day``.

    ``day`` is ``None`` where the file names none. ``model`` and ``project`` are blank where it does not say.
    A credit is negative. ``line`` is its place in the file, from 1.
    """

    day: date | None
    line_item: str
    model: str
    project: str
    amount: Decimal
    currency: str
    kind: Kind
    line: int = 0


class Invoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All charges of one file; ``period`` is its first and last UTC day, both included, ``None`` if undated.

    ``doubts`` say in a sentence each what may be missing or was left out.
    """

    provider: str
    period: tuple[date, date] | None
    lines: tuple[InvoiceLine, ...]
    doubts: tuple[str, ...] = ()

    @property
    def currencies(self) -> tuple[str, ...]:
        """The currencies that occur, in alphabetical order."""
        return tuple(sorted({line.currency for line in self.lines}))

    def total(self, currency: str = "USD") -> Decimal:
        """The exact sum of the lines in one currency."""
        with localcontext(Context(prec=_DIGITS)):
            return sum((line.amount for line in self.lines if line.currency == currency), Decimal(0))


class _Row(NamedTuple):
    """A line, what tells it apart in its file (empty: nothing), and the last day that it covers."""

    line: InvoiceLine
    key: str = ""


def read_invoice(path: str | Path, provider: str) -> Invoice:
    """Read what a provider charged.

    OpenAI costs pages and Anthropic cost reports (JSON, one or more pages, or one a line), AWS cost and usage
    reports (CSV; only lines of Bedrock), or any CSV with a date, a description, an amount and a currency.

    Raises:
        BadInput: in one line, where and what to mend; an invoice with one unreadable line is not used.
    """
    file = Path(path)
    if not file.is_file():
        raise BadInput("no such file", where=str(file), fix="Check the path")
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as handle:
            text = handle.read()
    except (UnicodeDecodeError, OSError) as error:
        raise BadInput(f"not a text file in UTF-8 ({error})", where=str(file)) from None
    if not text.strip():
        raise BadInput("the file is empty", where=str(file), fix="Export the costs again")
    doubts: list[str] = []
    days: set[date] = set()
    if text.lstrip()[0] in "{[":
        rows = list(_json(file, text, provider, days, doubts))
    else:
        rows = list(_table(file, text, doubts))
    if not rows and not days:
        raise BadInput("no charges", where=str(file), fix="Export a period that has costs")
    lines = _once(rows, doubts)
    days |= {line.day for line in lines if line.day is not None}
    return Invoice(provider, (min(days), max(days)) if days else None, lines, tuple(doubts))


def _once(rows: Sequence[_Row], doubts: list[str]) -> tuple[InvoiceLine, ...]:
    """Each charge once: pages that overlap repeat a day's charges, and the later one is the newer."""
    latest: dict[str, InvoiceLine] = {}
    repeated = changed = 0
    for number, (line, key) in enumerate(rows):
        name = key or f"row {number}"
        if name in latest:
            repeated += 1
            changed += latest[name].amount != line.amount
        latest[name] = line
    if repeated:
        text = f"charges that are in the file more than once, and count once: {repeated:,}"
        doubts.append(f"{text} (the last holds where they changed: {changed:,})" if changed else text)
    return tuple(latest.values())


def _json(file: Path, text: str, provider: str, days: set[date], doubts: list[str]) -> Iterator[_Row]:
    pages = _documents(file, text)
    more = [page for page in pages if "has_more" in page]
    if more and more[-1]["has_more"] is True:
        doubts.append("the last page says that more follow (has_more): charges are missing at the end")
    place = 0
    for page in pages:
        buckets = page.get("data", [page])
        for bucket in buckets if isinstance(buckets, list) else ():
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list):
                raise BadInput(
                    "no costs page: a bucket without results",
                    where=str(file),
                    fix="Give the answer of the costs API as it came, or a CSV of charges",
                )
            where = str(file)
            day = _day(bucket.get("start_time", bucket.get("starting_at")), where)
            days.add(day)
            alike: Counter[str] = Counter()
            for result in results:
                place += 1
                row = _result(result, bucket, day, provider, f"{file}: result {place}", place)
                # Results of one bucket that look alike are two charges; those of two pages are one.
                alike[row.key] += 1
                yield row._replace(key=f"{row.key} {alike[row.key]}")


def _documents(file: Path, text: str) -> list[dict[str, Any]]:
    """The file's objects: of one document, of an array, or one a line; numbers as they are written."""

    def parsed(part: str) -> Any:
        return json.loads(part, parse_float=Decimal, parse_int=Decimal)

    try:
        whole = parsed(text)
        found = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    found.append(parsed(line))
                except json.JSONDecodeError as error:
                    raise BadInput(f"not JSON ({error.msg})", where=f"{file}:{number}") from None
    if not found or not all(isinstance(one, dict) for one in found):
        raise BadInput("no JSON objects", where=str(file), fix="Give the answer of the costs API as it came")
    return found


def _result(result: Any, bucket: Mapping[str, Any], day: date, provider: str, where: str, place: int) -> _Row:
    """One result of an OpenAI costs bucket or of an Anthropic cost report."""
    if not isinstance(result, dict) or "amount" not in result:
        usage = isinstance(result, dict) and ("input_tokens" in result or "uncached_input_tokens" in result)
        what = "usage, not costs" if usage else "no amount"
        raise BadInput(what, where=where, fix="Give costs pages here; usage pages are logs")
    amount = result["amount"]
    ours = "openai" if isinstance(amount, dict) else "anthropic"
    if provider in ("openai", "anthropic") and provider != ours:
        raise BadInput(f"a cost page of {ours}, not of {provider}", where=where, fix=f"Name it {ours}=FILE")
    if isinstance(amount, dict):
        item = str(result.get("line_item") or "")
        model = re.fullmatch(r"(.+?),\s*(?:cached |audio |image |batch )*(?:input|output)\b.*", item)
        value = _amount(amount.get("value"), where)
        currency = _currency(amount.get("currency"), where)
        named, project = (model.group(1) if model else ""), str(result.get("project_id") or "")
    else:
        item = str(result.get("description") or result.get("cost_type") or "")
        currency = _currency(result.get("currency"), where)
        if currency not in _CENT_CURRENCIES:
            raise BadInput(
                f"amounts count the smallest unit of {currency}, whose size is not known here", where=where
            )
        # "123.45" is 1.2345 dollars: the report counts cents, with as many digits as the price needs.
        with localcontext(Context(prec=_DIGITS)):
            value = _amount(amount, where).scaleb(-2)
        named, project = str(result.get("model") or ""), str(result.get("workspace_id") or "")
    groups = {name: one for name, one in result.items() if name not in ("amount", "object", "quantity")}
    span = [bucket.get(name) for name in ("start_time", "end_time", "starting_at", "ending_at")]
    key = json.dumps([span, groups], sort_keys=True, default=str)
    return _Row(InvoiceLine(day, item, named, project, value, currency, _kind(item, value), place), key)


def _table(file: Path, text: str, doubts: list[str]) -> Iterator[_Row]:
    """Rows of a CSV: AWS's cost and usage report, or any with the four columns."""
    first = text.splitlines()[0]
    separator = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [re.sub(r"[^a-z0-9]+", "_", _snake(name)).strip("_") for name in next(reader)]
    places = {name: at for at, name in enumerate(header)}
    if "line_item_unblended_cost" in places:
        yield from _aws(file, reader, places, doubts)
        return
    chosen = {
        role: next((places[name] for name in names if name in places), None)
        for role, names in _CSV_NAMES.items()
    }
    if chosen["amount"] is None or chosen["day"] is None or chosen["line_item"] is None:
        lacking = [role for role in ("day", "line_item", "amount") if chosen[role] is None]
        example = ", ".join(_CSV_NAMES[role][0] for role in lacking)
        raise BadInput(
            f"no column for {', '.join(lacking)} among: {', '.join(header)}",
            where=f"{file}:1",
            fix=f"Call the columns: {example}",
        )
    in_usd = header[chosen["amount"]].endswith("_usd")
    for row in reader:
        where = f"{file}:{reader.line_num}"
        if not any(cell.strip() for cell in row):
            continue
        cells = {role: _cell(row, at, where) for role, at in chosen.items()}
        if chosen["currency"] is None and not in_usd:
            raise BadInput("no column for the currency", where=f"{file}:1", fix="Add a column currency (USD)")
        amount = _amount(cells["amount"], where)
        currency = "USD" if in_usd else _currency(cells["currency"], where)
        kind = cells["kind"].lower()
        kinds: tuple[Kind, ...] = ("usage", "credit", "tax", "fee", "adjustment")
        named = next((one for one in kinds if one == kind), None)
        yield _Row(InvoiceLine(
            _day(cells["day"], where), cells["line_item"], cells["model"], cells["project"], amount, currency,
            named or _kind(f"{kind} {cells['line_item']}", amount), reader.line_num,
        ))  # fmt: skip


def _aws(file: Path, reader: Any, places: Mapping[str, int], doubts: list[str]) -> Iterator[_Row]:
    """Lines of Bedrock in a cost and usage report, whichever of its two spellings of columns."""
    others, amount_of_others = 0, Decimal(0)
    unknown: set[str] = set()
    for row in reader:
        where = f"{file}:{reader.line_num}"
        if not any(cell.strip() for cell in row):
            continue

        def cell(*names: str, row: Sequence[str] = row, where: str = where) -> str:
            return next((_cell(row, places[name], where) for name in names if name in places), "")

        amount = _amount(cell("line_item_unblended_cost"), where)
        item = cell("line_item_line_item_description") or cell("line_item_usage_type")
        told = f"{cell('line_item_product_code')} {cell('product_product_name')} {item}"
        if "bedrock" not in told.lower():
            others, amount_of_others = others + 1, amount_of_others + amount
            continue
        kind = cell("line_item_line_item_type")
        if kind not in _AWS_KINDS:
            unknown.add(kind)
        currency = _currency(cell("line_item_currency_code") or "USD", where)
        yield _Row(InvoiceLine(
            _day(cell("line_item_usage_start_date"), where), item, cell("product_model"),
            cell("line_item_usage_account_id"), amount, currency, _AWS_KINDS.get(kind, "adjustment"),
            reader.line_num,
        ))  # fmt: skip
    if others:
        doubts.append(
            f"lines of other products than Bedrock are left out: {others:,}, in all {amount_of_others}"
        )
    if unknown:
        doubts.append(f"line types that are not known count as adjustments: {', '.join(sorted(unknown))}")


def _snake(name: str) -> str:
    """``lineItem/UnblendedCost`` as ``line_item/unblended_cost``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).lower()


def _cell(row: Sequence[str], at: int | None, where: str) -> str:
    if at is None:
        return ""
    if at >= len(row):
        raise BadInput(f"a row of {len(row)} cells, shorter than the header", where=where, fix="Mend the row")
    return row[at].strip()


def _amount(value: Any, where: str) -> Decimal:
    """A decimal as written; ``(12.00)`` is negative, ``1,234.56`` has thousands."""
    if isinstance(value, Decimal):
        found = value
    else:
        text = str(value or "").strip()
        negative = text.startswith("(") and text.endswith(")")
        text = re.sub(r"[()$€£]", "", text).strip()
        if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text):
            text = text.replace(",", "")
        try:
            found = -Decimal(text) if negative else Decimal(text)
        except InvalidOperation:
            raise BadInput(
                f"{value!r} is no amount", where=where, fix="Write amounts as 1234.56, with a decimal point"
            ) from None
    if not found.is_finite():
        raise BadInput(f"{value} is no amount", where=where)
    return found


def _currency(value: Any, where: str) -> str:
    text = str(value or "").strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise BadInput(f"{value!r} is no currency", where=where, fix="Give its ISO code: USD, EUR")
    return text


def _day(value: Any, where: str) -> date:
    """The UTC day of a date, a time or a count of seconds since 1970."""
    try:
        if isinstance(value, Decimal | int):
            return datetime.fromtimestamp(int(value), UTC).date()
        text = str(value or "").strip()
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise BadInput(f"{value!r} is no date", where=where, fix="Write dates as 2026-10-31") from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def _kind(item: str, amount: Decimal) -> Kind:
    """What a charge is by its words; a negative one that names nothing is a credit."""
    for kind, pattern in _WORDS:
        if re.search(pattern, item.lower()):
            return kind
    return "credit" if amount < 0 else "usage"
