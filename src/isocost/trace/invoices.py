"""What a provider asks for: costs pages, cost reports, billing tables as lines of exact amounts.

An invoice is no usage: it says what was charged for a day and an item, not which requests were made. Schemas:
OpenAI «Costs» (platform.openai.com/docs/api-reference/usage/costs_object), Anthropic «Get Cost Report»
(platform.claude.com/docs/en/api/admin/cost_report), OpenRouter «Get user activity»; tables are in
:mod:`isocost.trace.invoice_tables`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any

from isocost.errors import BadInput
from isocost.toml import not_utf8
from isocost.trace.charges import (
    DIGITS,
    Invoice,
    InvoiceLine,
    Row,
    amount_of,
    currency_of,
    day_of,
    kind_of,
    meter_of,
    tier_of,
)
from isocost.trace.invoice_tables import read_table

__all__ = ["Invoice", "InvoiceLine", "read_invoice"]

_CENT_CURRENCIES = frozenset({"USD", "EUR", "GBP", "CAD", "AUD", "CHF"})
"""Currencies of a hundred cents, in which a count of cents can be read."""

_MODEL = re.compile(
    r"(.+?),\s*(?:(?:cached|audio|image|text|batch|flex|priority|fast|standard)[\s,]+)*(?:input|output)\b.*",
    re.IGNORECASE,
)
"""``gpt-4.1, cached input``: the model before the comma."""


def read_invoice(path: str | Path, provider: str) -> Invoice:
    """Read what a provider charged.

    OpenAI costs pages and Anthropic cost reports (JSON, one or more pages, or one a line), OpenRouter's daily
    activity, AWS cost and usage reports (CSV; only lines of Bedrock), Azure cost details and FOCUS exports
    (only lines of model services), or any CSV with a date, a description, an amount and a currency.

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
    except UnicodeDecodeError as error:
        raise BadInput(
            not_utf8(error), where=str(file), fix="Export the costs again as CSV or JSON"
        ) from None
    except OSError as error:
        raise BadInput(
            f"cannot be read: {error.strerror or error}", where=str(file), fix="Check the path"
        ) from None
    if not text.strip():
        raise BadInput("the file is empty", where=str(file), fix="Export the costs again")
    doubts: list[str] = []
    days: set[date] = set()
    if text.lstrip()[0] in "{[":
        rows = list(_json(file, text, provider, days, doubts))
    else:
        rows = list(read_table(file, text, doubts))
    if not rows and not days:
        raise BadInput("no charges", where=str(file), fix="Export a period that has costs")
    lines = _once(rows, doubts)
    days |= {line.day for line in lines if line.day is not None}
    return Invoice(provider, (min(days), max(days)) if days else None, lines, tuple(doubts))


def _once(rows: Sequence[Row], doubts: list[str]) -> tuple[InvoiceLine, ...]:
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


def _json(file: Path, text: str, provider: str, days: set[date], doubts: list[str]) -> Iterator[Row]:
    pages = _documents(file, text)
    more = [page for page in pages if "has_more" in page]
    if more and more[-1]["has_more"] is True:
        doubts.append("the last page says that more follow (has_more): charges are missing at the end")
    place = 0
    for page in pages:
        buckets = page.get("data", [page])
        for bucket in buckets if isinstance(buckets, list) else ():
            if isinstance(bucket, dict) and "prompt_tokens" in bucket and "usage" in bucket:
                place += 1
                yield _activity(bucket, f"{file}: result {place}", place)
                continue
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list):
                raise BadInput(
                    "no costs page: a bucket without results",
                    where=str(file),
                    fix="Give the answer of the costs API as it came, or a CSV of charges",
                )
            where = str(file)
            day = day_of(bucket.get("start_time", bucket.get("starting_at")), where)
            days.add(day)
            alike: Counter[str] = Counter()
            for result in results:
                place += 1
                row = _result(result, bucket, day, provider, f"{file}: result {place}", place)
                # Results of one bucket that look alike are two charges; those of two pages are one.
                alike[row.key] += 1
                yield row._replace(key=f"{row.key} {alike[row.key]}")


def _activity(row: Mapping[str, Any], where: str, place: int) -> Row:
    """A row of OpenRouter's daily activity: credits spent by day, model and endpoint."""
    model = str(row.get("model_permaslug") or row.get("model") or "")
    requests = row.get("requests")
    line = InvoiceLine(
        day_of(row.get("date"), where), model, model, "", amount_of(row["usage"], where), "USD", "usage",
        place, requests=None if requests is None else int(requests),
    )  # fmt: skip
    return Row(line, json.dumps([str(row.get(name)) for name in ("date", "model", "endpoint_id")]))


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


def _result(result: Any, bucket: Mapping[str, Any], day: date, provider: str, where: str, place: int) -> Row:
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
        found = _MODEL.fullmatch(item)
        value = amount_of(amount.get("value"), where)
        currency = currency_of(amount.get("currency"), where)
        named, project = (found.group(1) if found else ""), str(result.get("project_id") or "")
        meter, tier = meter_of(item[len(named) :]), tier_of(item[len(named) :])
        counted = result.get("quantity")
        quantity = None if counted is None or not meter else amount_of(counted, where)
    else:
        item = str(result.get("description") or result.get("cost_type") or "")
        currency = currency_of(result.get("currency"), where)
        if currency not in _CENT_CURRENCIES:
            raise BadInput(
                f"amounts count the smallest unit of {currency}, whose size is not known here", where=where
            )
        # "123.45" is 1.2345 dollars: the report counts cents, with as many digits as the price needs.
        with localcontext(Context(prec=DIGITS)):
            value = amount_of(amount, where).scaleb(-2)
        named, project = str(result.get("model") or ""), str(result.get("workspace_id") or "")
        meter, tier = meter_of(str(result.get("token_type") or item)), str(result.get("service_tier") or "")
        quantity = None
    groups = {name: one for name, one in result.items() if name not in ("amount", "object", "quantity")}
    span = [bucket.get(name) for name in ("start_time", "end_time", "starting_at", "ending_at")]
    key = json.dumps([span, groups], sort_keys=True, default=str)
    return Row(InvoiceLine(
        day, item, named, project, value, currency, kind_of(item, value), place, meter,
        "" if tier == "standard" else tier, str(result.get("api_key_id") or ""), quantity,
    ), key)  # fmt: skip
