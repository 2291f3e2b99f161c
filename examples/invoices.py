"""Write the example invoices of this folder: ``python examples/invoices.py``.

What the providers of ``litellm_spendlogs.csv`` might have charged for 1 to 19 November 2026, in the shape of
their own reports: OpenAI's costs and usage pages, Anthropic's cost report. The amounts are the log's own,
priced by the catalog, with things done to them that happen: an outage of the log, a project beside the
gateway, batches that the log does not name, a discount, a credit, and a small amount that nothing explains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from isocost.books.causes import Priced
from isocost.books.overlay import Overlay
from isocost.books.statement import Line, Statement, statement
from isocost.catalog import Catalog
from isocost.trace import open_trace

HERE = Path(__file__).parent
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 19)
FUSD = 10**15

OUTAGE, LOST_FRAC = "2026-11-10", Fraction(1, 12)
"""The day on which the log was silent for hours, and what the providers billed more on it."""
BATCHED = ("gpt-5.4", ("2026-11-12", "2026-11-13", "2026-11-14"))
LAB = "proj_lab"
LAB_MODEL, LAB_TOK, LAB_CALLS = "gpt-4.1", {"input": 9_100_000, "output": 805_000}, 640
LAB_USD = {"input": 18.2, "output": 6.44}
OFF_LIST = Fraction(92, 100)
"""Anthropic's prices as agreed."""
WORDS = {"input": "input", "cache_read": "cached input", "output": "output"}
TYPES = {"input": "uncached_input_tokens", "cache_read": "cache_read_input_tokens", "output": "output_tokens",
         "cache_write": "cache_creation.ephemeral_5m_input_tokens"}  # fmt: skip

Cell = tuple[str, str, str]
"""Day, model, meter."""


def days() -> Iterator[date]:
    """Every day of the invoices."""
    day = FIRST
    while day <= LAST:
        yield day
        day += timedelta(days=1)


def cells(lines: tuple[Line, ...], provider: str) -> dict[Cell, tuple[int, Fraction]]:
    """Tokens and femto-dollars."""
    found: dict[Cell, tuple[int, Fraction]] = {}
    for line in lines:
        if line.provider == provider and str(FIRST) <= line.day <= str(LAST):
            tokens, fusd = found.get((line.day, line.model, line.meter), (0, Fraction(0)))
            found[line.day, line.model, line.meter] = tokens + line.quantity, fusd + line.amount_fusd
    return found


def grown(found: dict[Cell, tuple[int, Fraction]]) -> dict[Cell, tuple[int, Fraction]]:
    """With the calls of the outage, which the log does not hold."""
    made = dict(found)
    for (day, model, meter), (tokens, fusd) in found.items():
        if day == OUTAGE:
            more = int(tokens * LOST_FRAC)
            made[day, model, meter] = tokens + more, fusd + fusd / tokens * more
    return made


def dollars(fusd: Fraction) -> float:
    """Femto-dollars as a report writes them."""
    return float(round(Decimal(fusd.numerator) / Decimal(fusd.denominator) / FUSD, 10))


def at(day: str) -> int:
    """Seconds since 1970 of a day."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def page(buckets: list[dict[str, Any]]) -> str:
    """Buckets as a page, one a line."""
    pages = {"object": "page", "data": buckets, "has_more": False, "next_page": None}
    return (
        json.dumps(pages, separators=(",", ":")).replace('{"object":"bucket"', '\n{"object":"bucket"') + "\n"
    )


def openai(found: Statement, batch: tuple[Line, ...]) -> tuple[str, str]:
    """Costs by line item and project, and usage by model and project."""
    usage = grown(cells(found.lines, "openai"))
    model, on = BATCHED
    for cell, (tokens, fusd) in cells(batch, "openai").items():
        if cell[1] == model and cell[0] in on:
            usage[cell] = tokens, fusd
    calls = found.requests_by("day", "provider", "model")
    costs, pages = [], []
    for day in map(str, days()):
        lines = [
            cost(f"{named}, {WORDS[meter]}", dollars(fusd), "proj_gateway")
            for (at_day, named, meter), (_, fusd) in sorted(usage.items())
            if at_day == day
        ]
        if day in ("2026-11-05", "2026-11-06"):
            lines += [cost(f"{LAB_MODEL}, {meter}", usd, LAB) for meter, usd in LAB_USD.items()]
        if day == "2026-11-08":
            lines.append(cost("gpt-4o, output", 0.87, "proj_gateway"))
        if day == "2026-11-19":
            lines.append(cost("Promotional credit", -25.0, None))
        costs.append(bucket(day, lines))
        rows = []
        for named in sorted({cell[1] for cell in usage if cell[0] == day}):
            number = calls.get((day, "openai", named), 0)
            number += int(number * LOST_FRAC) if day == OUTAGE else 0
            read = usage.get((day, named, "cache_read"), (0,))[0]
            tokens = usage.get((day, named, "input"), (0,))[0] + read, read
            written = usage.get((day, named, "output"), (0,))[0]
            rows.append(used("proj_gateway", named, tokens, written, number))
        if day in ("2026-11-05", "2026-11-06"):
            rows.append(used(LAB, LAB_MODEL, (LAB_TOK["input"], 0), LAB_TOK["output"], LAB_CALLS))
        pages.append(bucket(day, rows))
    return page(costs), page(pages)


def used(project: str, model: str, tokens: tuple[int, int], written: int, calls: int) -> dict[str, Any]:
    """One result of a usage page; ``tokens`` are the input, and those of it that were cached."""
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": tokens[0], "input_cached_tokens": tokens[1], "output_tokens": written,
        "num_model_requests": calls, "project_id": project, "model": model,
        "batch": None, "service_tier": None,
    }  # fmt: skip


def cost(item: str, value: float, project: str | None) -> dict[str, Any]:
    """One result of a costs page."""
    return {"object": "organization.costs.result", "amount": {"value": value, "currency": "usd"},
            "line_item": item, "project_id": project}  # fmt: skip


def bucket(day: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """One day."""
    return {"object": "bucket", "start_time": at(day), "end_time": at(day) + 86_400, "results": results}


def anthropic(found: Statement) -> str:
    """Costs by description: cents as text."""
    usage = grown(cells(found.lines, "anthropic"))
    buckets = []
    for day in map(str, days()):
        results = [
            {
                "amount": format(Decimal(repr(dollars(fusd * OFF_LIST * 100))), "f"), "currency": "USD",
                "cost_type": "tokens", "description": f"{named} usage, {TYPES[meter]}", "model": named,
                "service_tier": "standard", "token_type": TYPES[meter], "workspace_id": None,
            }
            for (at_day, named, meter), (_, fusd) in sorted(usage.items())
            if at_day == day
        ]  # fmt: skip
        end = datetime.fromisoformat(day) + timedelta(days=1)
        buckets.append({"starting_at": f"{day}T00:00:00Z", "ending_at": f"{end:%Y-%m-%d}T00:00:00Z",
                        "results": results})  # fmt: skip
    return json.dumps({"data": buckets, "has_more": False, "next_page": None}, separators=(",", ":")).replace(
        '{"starting_at"', '\n{"starting_at"'
    ) + "\n"  # fmt: skip


def main() -> None:
    """Write the three reports."""
    catalog = Catalog.load()
    trace = open_trace(HERE / "litellm_spendlogs.csv")
    found = statement(trace, catalog)
    batch = Priced(trace, catalog, Overlay()).of("tier=batch")
    assert batch is not None
    costs, usage = openai(found, batch.found.lines)
    folder = HERE / "invoices"
    (folder / "openai_costs.json").write_text(costs, encoding="utf-8")
    (folder / "openai_usage.json").write_text(usage, encoding="utf-8")
    (folder / "anthropic_costs.json").write_text(anthropic(found), encoding="utf-8")


if __name__ == "__main__":
    main()
