"""``isocost price``: the exact bill of one request, with the facts behind each line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.output import columns, grid, show, show_json, wrapped
from isocost.cli.root import Facts, InTok, Json, OutTok, app
from isocost.errors import BadInput, UnknownPrice
from isocost.units import exact_usd, money, money_range, tokens, usd_of, volume_per_month

if TYPE_CHECKING:
    from isocost.bill import Priced, Usage
    from isocost.catalog import Catalog, CatalogAt
    from isocost.catalog.names import Offering

DEFAULT_TOK = "1000"
MOST_OTHERS = 12
HEADS: Mapping[str, str] = {"web_search": "USD/search", "request": "USD/request"}
"""Meters that are not priced by the million tokens."""


@dataclass(frozen=True)
class Asked:
    """One request, and how and when it is sent."""

    in_: InTok = None
    out: OutTok = None
    cached: Annotated[str, Parameter(help="Input tokens read from the prompt cache.")] = "0"
    requests: Annotated[
        str | None, Parameter(help="Volume for a monthly total: 1M/mo, 200k..5M/mo, 30k/day.")
    ] = None
    tier: Annotated[str, Parameter(help="standard, batch, priority, flex, as the provider names it.")] = (
        "standard"
    )
    region: Annotated[str, Parameter(help="The provider's region, where the price depends on it.")] = ""
    at: Annotated[date | None, Parameter(help="The date of prices (default: the newest).")] = None


@app.command(sort_key=3)
def price(
    model: str,
    /,
    *,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Price one request exactly, a month of them, and the same model elsewhere.

    Parameters
    ----------
    model
        A model as logs name it: openai/gpt-4o, together/llama-3.3-70b, claude-sonnet-4-5.
    """
    from isocost.bill import Usage
    from isocost.bill import price as bill
    from isocost.catalog.names import resolve

    catalog = load(facts)
    on = asked.at or newest(catalog)
    at = catalog.at(on)
    offering = resolve(at, model)
    usage = Usage(
        input_tok=tokens(asked.in_ or DEFAULT_TOK),
        cached_tok=tokens(asked.cached),
        output_tok=tokens(asked.out or DEFAULT_TOK),
    )
    moment = datetime.combine(on, time(12), UTC)
    check_tier(catalog, asked.tier)
    priced = bill(catalog, offering, usage, moment, asked.tier, asked.region)
    if priced.status == "unpriced":
        raise UnknownPrice(priced.why, where=offering.id, fix=_when_known(catalog, offering, on, asked.tier))
    others = _elsewhere(at, offering, usage, moment, asked.tier)
    monthly = None
    if asked.requests is not None:
        volume = volume_per_month(asked.requests)
        monthly = (float(priced.usd) * volume.low, float(priced.usd) * volume.high)
    if json:
        return show_json(_document(catalog, offering, on, priced, usage, monthly, others))
    _show_bill(catalog, offering, on, priced, usage, asked)
    if on > date.today():
        show(wrapped(f"{on} is yet to come: this is what it would cost if prices stay as they are"))
    if monthly is not None:
        low, high = monthly
        said = money(low) if low == high else money_range(low, high)
        show("", Text(f"  {said} a month at {asked.requests}", "bold"))
    _show_history(catalog, offering, on)
    _show_others(others, offering)
    return None


def _elsewhere(
    at: CatalogAt, offering: Offering, usage: Usage, moment: datetime, tier: str
) -> list[tuple[str, Decimal]]:
    """Offerings of the same model and what they ask for the same request, cheapest first."""
    from msgspec.structs import replace

    from isocost.bill import price as bill
    from isocost.catalog.names import deprecated
    from isocost.deployment import offering_of

    if not offering.serves:
        return []
    found = []
    for fact in at.each("api/", "serves"):
        if fact.value == offering.serves and not deprecated(at, fact.subject):
            other = offering_of(at, fact.subject)
            priced = bill(at.catalog, other, usage, moment, tier)
            if priced.status == "partial" and usage.cached_tok:
                # Who has no price for cached tokens has no cache: they cost as input does.
                priced = bill(at.catalog, other, replace(usage, cached_tok=0), moment, tier)
            if priced.status == "priced":
                found.append((other.id, priced.usd))
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def _show_bill(
    catalog: Catalog, offering: Offering, on: date, priced: Priced, usage: Usage, asked: Asked
) -> None:
    what = f"{usage.input_tok:,} tokens in"
    if usage.cached_tok:
        what += f" ({usage.cached_tok:,} from the cache)"
    how = ", ".join(part for part in (asked.tier if asked.tier != "standard" else "", asked.region) if part)
    least = "at least " if priced.status == "partial" else ""
    show(
        Text(f"{least}{exact_usd(priced.usd)} a request", "bold"),
        f"  {offering.id}{f', {how}' if how else ''}, {what}, {usage.output_tok:,} out, on {on}",
    )
    if priced.why:
        show(Text(f"  {priced.why}", "yellow"))
    table = grid(("  meter", "l"), ("quantity", "r"), ("unit price", "r"), ("amount", "r"), ("fact", "w"))
    facts = {fact.id: fact for fact in catalog.about(offering.subject)}
    facts |= {fact.id: fact for fact in catalog.about(f"provider/{offering.provider}")}
    cited: dict[str, str] = {}
    amounts = _aligned([usd_of(line.amount_fusd) for line in priced.lines])
    prices = _aligned([line.unit_price for line in priced.lines])
    for line, amount, unit_price in zip(priced.lines, amounts, prices, strict=True):
        per = f"{unit_price} / {'Mtok' if line.per > 1 else 'unit'}"
        table.add_row(f"  {line.meter}", f"{line.quantity:,}", per, amount, "\n".join(line.facts))
        for ident in line.facts:
            if ident in facts:
                source = catalog.sources[facts[ident].source]
                cited[source.title] = f"checked {facts[ident].checked}  {source.address}"
    show("", table, "")
    for title, where in cited.items():
        show(wrapped(f"{title}, {where}", "source: "))


def _aligned(amounts: list[Decimal]) -> list[str]:
    """Dollars to the last digit of any, so that their points stand under each other."""
    said = [exact_usd(amount) for amount in amounts]
    digits = max((len(text.partition(".")[2]) for text in said), default=2)
    return [f"{text}{'0' * (digits - len(text.partition('.')[2]))}" for text in said]


def _show_history(catalog: Catalog, offering: Offering, on: date) -> None:
    """Dated prices of an offering per million tokens: a row for each day and tier on which one changed."""
    rows = _history(catalog, offering)
    if not rows:
        return
    meters = list(dict.fromkeys(row["meter"] for row in rows))
    spans: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in rows:
        span = (row["from"], row["until"], row["when"], row["kind"])
        spans.setdefault(span, {})[row["meter"]] = row["usd"]
    dates = 10 if any(row["until"] for row in rows) else 3
    longest = max(len(row["when"]) for row in rows)
    across = 14 + dates + longest + sum(max(8, len(HEADS.get(meter, meter))) + 2 for meter in meters)
    if across > columns():
        table = grid(("  from", "l"), ("until", "l"), ("meter", "l"), ("", "l"), ("USD/Mtok", "r"), ("", "l"))
    else:
        named = [(HEADS.get(meter, meter), "r") for meter in meters]
        table = grid(("  from", "l"), ("until", "l"), ("", "l"), *named, ("", "l"))
    for (since, until, when, kind), usd in spans.items():
        early, late = since > on.isoformat(), bool(until) and until <= on.isoformat()
        note = "announced" if kind == "expected" else "to come" if early else "past" if late else ""
        style = "dim" if note else ""
        head = (f"  {since or '...'}", until or "...")
        if across > columns():
            for meter, price in usd.items():
                unit = HEADS.get(meter, "")
                table.add_row(*head, meter, when, f"{price} {unit}".strip(), note, style=style)
        else:
            table.add_row(*head, when, *(usd.get(meter, "-") for meter in meters), note, style=style)
    show("", Text("  prices, USD/Mtok", "bold"), table)


def _history(catalog: Catalog, offering: Offering) -> list[dict[str, str]]:
    """Every dated price of an offering, oldest first."""
    from isocost.catalog.prices import PRICES

    meters = {attribute: meter for meter, (attribute, _) in PRICES.items()}
    rows = []
    for fact in catalog.about(offering.subject):
        if fact.attribute in meters:
            rows.append({
                "from": fact.valid_from.isoformat() if fact.valid_from else "",
                "until": fact.valid_to.isoformat() if fact.valid_to else "",
                "meter": meters[fact.attribute],
                "when": fact.when,
                "usd": exact_usd(Decimal(repr(fact.value))).removeprefix("$"),
                "kind": fact.kind,
                "fact": fact.id,
            })  # fmt: skip
    return sorted(rows, key=lambda row: (row["from"], row["when"]))


def _show_others(others: list[tuple[str, Decimal]], offering: Offering) -> None:
    if len(others) < 2:
        return
    least = others[0][1]
    show("", Text(f"  {offering.serves} elsewhere, the same request", "bold"))
    table = grid(("", "l"), ("", "r"), ("", "r"))
    shown = others[:MOST_OTHERS]
    for (name, usd), said in zip(shown, _aligned([usd for _, usd in shown]), strict=True):
        times = f"{usd / least:.2f}x" if least else ""
        table.add_row(f"  {name}", said, times, style="bold" if name == offering.id else "")
    show(table)
    if len(others) > MOST_OTHERS:
        show(f"  and {len(others) - MOST_OTHERS} dearer")


def check_tier(catalog: Catalog, tier: str) -> None:
    """Refuse a tier that no provider has.

    Raises:
        BadInput: with those that there are.
    """
    from isocost.catalog.prices import STANDARD, tiers

    every = tiers(catalog)
    if tier not in STANDARD and tier not in every:
        raise BadInput(f"no tier {tier!r}", where="--tier", fix=f"Choose from {', '.join(every)}")


def _when_known(catalog: Catalog, offering: Offering, on: date, tier: str) -> str:
    """The tiers that an offering has a price at, where another has one that day; else the span over which it
    has a price."""
    from isocost.catalog.prices import rates, tiers

    at = catalog.at(on)
    priced = [one for one in tiers(catalog) if {"input", "output"} & rates(at, offering, one).meters.keys()]
    if priced and tier not in priced:
        return f"It has a price at the tier {' or '.join(priced)}"
    rows = _history(catalog, offering)
    if not rows:
        raise BadInput(
            "no price at any date", where=offering.id, fix=f"Type 'isocost catalog show {offering.subject}'"
        )
    ends = {row["until"] for row in rows}
    until = "today" if "" in ends else max(ends)
    return f"Its prices are known from {min(row['from'] for row in rows) or 'the beginning'} to {until}"


def _document(
    catalog: Catalog,
    offering: Offering,
    on: date,
    priced: Priced,
    usage: Usage,
    monthly: tuple[float, float] | None,
    others: list[tuple[str, Decimal]],
) -> dict[str, object]:
    return {
        "offering": offering,
        "on": on,
        "price_basis": catalog.basis,
        "usage": usage,
        "usd": priced.usd,
        "status": priced.status,
        "why": priced.why,
        "lines": [{**line._asdict(), "amount_usd": usd_of(line.amount_fusd)} for line in priced.lines],
        "usd_per_month": monthly,
        "history": _history(catalog, offering),
        "elsewhere": [{"offering": name, "usd": usd} for name, usd in others],
    }
