"""Write facts/tier_prices.csv and catalog/crosscheck/litellm.csv from LiteLLM's table of models.

Run by hand when prices change: ``python calibration/snapshot_litellm.py TABLE``, where TABLE is
``model_prices_and_context_window_backup.json`` of a litellm package; read the diff; commit it.

Rules of the snapshot, each stated so that it can be argued with:

1. A row of the table is an offering of the catalog only where it has the same name at the same provider.
2. ``litellm.csv`` is a cross-check and computes nothing: standard prices of shared offerings, as they are.
3. ``tier_prices.csv`` fills gaps only: the price of a meter at a tier that the catalog has neither listed
   nor as a rule, and only for offerings whose standard input and output prices are the same in both, so
   that both speak of the same price list. Where the standard price has context bands, a tier is taken only
   with all of them.
4. The table has no history: a row holds over the days of the standard price beside which it was read.
5. Azure sells OpenAI's models by OpenAI's names: what its meters differ by is a rule of the provider, taken
   where the ratio is a decimal of at most two places for every token meter that the table states.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from facts_file import write

from isocost.catalog import Catalog
from isocost.catalog.fact import parse_when
from isocost.catalog.names import Offering
from isocost.catalog.prices import PRICES, rates

HERE = Path(__file__).resolve().parent.parent / "src" / "isocost" / "catalog"
READ = date(2026, 11, 23)
SOURCE = "litellm-1.109.1-models"
PROVIDERS = {
    "openai": "openai", "anthropic": "anthropic", "gemini": "google", "xai": "x-ai", "deepseek": "deepseek",
    "groq": "groq", "mistral": "mistral", "cohere": "cohere", "cohere_chat": "cohere",
    "moonshot": "moonshotai", "zai": "zai", "minimax": "minimax", "together_ai": "together",
    "fireworks_ai": "fireworks", "cerebras": "cerebras", "bedrock": "aws", "bedrock_converse": "aws",
    "openrouter": "openrouter", "perplexity": "perplexity", "novita": "novita", "nebius": "nebius",
    "hyperbolic": "hyperbolic", "nscale": "nscale", "sambanova": "sambanova", "voyage": "voyageai",
    "ovhcloud": "ovhcloud", "baseten": "baseten", "databricks": "databricks", "cloudflare": "cloudflare",
}  # fmt: skip
FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}
TIERS = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
# Places of Azure in LiteLLM's names, with the multiple that provider_rules.csv states for them.
AZURE_PLACES = {"us": Decimal("1.1"), "eu": Decimal("1.1"), "apac": None}
AZURE_METERS = ("input", "output", "cache_read")


def usd_per_mtok(usd_per_tok: float) -> Decimal:
    """A price of a token as a price of a million, without what a float adds."""
    return Decimal(f"{usd_per_tok * 1e6:.9g}").normalize()


def text(value: Decimal) -> str:
    """A decimal without exponent."""
    return format(value, "f")


def offering(catalog: Catalog, key: str, row: dict[str, Any]) -> Offering | None:
    """Rule 1."""
    host = PROVIDERS.get(str(row.get("litellm_provider", "")))
    if host is None or row.get("mode") not in ("chat", "responses", "completion", "embedding"):
        return None
    names = [key, key.partition("/")[2]] if "/" in key else [key]
    if host == "aws":
        if "/" in key:
            return None
        place, _, rest = key.partition(".")
        names = [f"regional.{rest}"] if place in ("us", "eu", "apac", "au", "jp") else [key]
        if place == "global":
            names = [key]
    if host == "fireworks":
        names.append(key.rpartition("/")[2])
    for name in names:
        subject = f"api/{host}/{name}"
        if catalog.keys(subject):
            serves = catalog.at(READ).find(subject, "serves")
            return Offering(subject, host, str(serves.value) if serves else "")
    return None


def row_of(
    subject: str, attribute: str, when: str, value: Decimal, days: tuple[Any, Any], note: str
) -> list[str]:
    """One row of a facts file."""
    unit = "1" if attribute.endswith("multiplier") else "USD/Mtok"
    since, until = (day.isoformat() if day else "" for day in days)
    return [subject, attribute, when, text(value), unit, "", "", since, until, SOURCE, "",
            READ.isoformat(), "published" if unit != "1" else "derived", "", note]  # fmt: skip


def span(catalog: Catalog, subject: str, attribute: str, when: str) -> tuple[date | None, date | None]:
    """The days of the standard price in force: rule 4."""
    fact = catalog.at(READ).find(subject, attribute, when)
    later = [f.valid_from for f in catalog.history(subject, attribute, when) if f.valid_from]
    return (fact.valid_from if fact else None, min((day for day in later if day > READ), default=None))


def bands(catalog: Catalog, subject: str, attribute: str) -> list[tuple[str, str]]:
    """The standard ``when`` of a meter with the ending of LiteLLM's field for its band."""
    found = []
    for key in catalog.keys(subject):
        if key.attribute != attribute or catalog.at(READ).find(*key) is None:
            continue
        parts = parse_when(key.when)
        if set(parts) <= {"band"}:
            limit = parts.get("band", "").lstrip(">=")
            found.append((key.when, f"_above_{int(limit) // 1000}k_tokens" if limit else ""))
    return found


def tier_rows(catalog: Catalog, sold: Offering, row: dict[str, Any]) -> Iterator[list[str]]:
    """Rule 3."""
    at = catalog.at(READ)
    standard = rates(at, sold).meters
    for meter in ("input", "output"):
        if (
            meter not in standard
            or usd_per_mtok(row.get(FIELDS[meter]) or 0) != standard[meter].usd.normalize()
        ):
            return
    for tier, ending in TIERS.items():
        known = rates(at, sold, tier).meters
        for meter, name in FIELDS.items():
            attribute = PRICES[meter][0]
            plain = bands(catalog, sold.subject, attribute)
            stated = [(when, row.get(f"{name}{band}{ending}")) for when, band in plain]
            if meter in known or not plain or any(not price for _, price in stated):
                continue
            for when, price in stated:
                full = ";".join(sorted([*([when] if when else []), f"tier={tier}"]))
                days = span(catalog, sold.subject, attribute, when)
                yield row_of(
                    sold.subject,
                    attribute,
                    full,
                    usd_per_mtok(price),
                    days,
                    "Of the tier that no other source here states",
                )


def azure_rows(catalog: Catalog, table: dict[str, Any]) -> Iterator[list[str]]:
    """Rule 5: tiers and places of Azure as multiples of its global standard price."""
    for key, row in sorted(table.items()):
        parts = key.split("/")
        if parts[0] != "azure" or row.get("mode") not in ("chat", "responses", "embedding"):
            continue
        model = parts[-1]
        if not catalog.keys(f"api/openai/{model}"):
            continue
        if len(parts) == 2:
            for tier in ("priority", "flex"):
                for meter, ratio in ratios(row, row, TIERS[tier]).items():
                    yield azure("tier_multiplier", f"meter={meter};model={model};tier={tier}", ratio)
        elif len(parts) == 3 and parts[1] in AZURE_PLACES:
            found = ratios(row, table.get(f"azure/{model}", {}), "")
            factors = set(found.values())
            if "input" in found and len(factors) == 1 and factors != {AZURE_PLACES[parts[1]]}:
                for place in (parts[1], f"{parts[1]}-datazone", f"{parts[1]}-data-zone"):
                    yield azure("region_multiplier", f"model={model};region={place}", *factors)


def azure(attribute: str, when: str, ratio: Decimal) -> list[str]:
    """A rule of Azure."""
    note = "Of two of Azure's own meters, as LiteLLM read them from its retail price list"
    return row_of("provider/azure", attribute, when, ratio, (None, None), note)


def ratios(row: dict[str, Any], base: dict[str, Any], ending: str) -> dict[str, Decimal]:
    """Price over price for every meter that both state, where all are decimals of two places."""
    found = {}
    for meter in AZURE_METERS:
        above, below = row.get(FIELDS[meter] + ending), base.get(FIELDS[meter])
        if above and below:
            ratio = usd_per_mtok(above) / usd_per_mtok(below)
            if ratio != round(ratio, 2):
                return {}
            found[meter] = ratio.normalize()
    return found


def main() -> None:
    """Write both files."""
    table = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    write("tier_prices.csv", ())
    catalog = Catalog.load()
    tiers: dict[tuple[str, ...], list[str]] = {}
    cross: dict[tuple[str, str, str], list[str]] = {}
    for key, row in sorted(table.items()):
        sold = offering(catalog, key, row)
        if sold is None:
            continue
        for meter, name in FIELDS.items():
            attribute = PRICES[meter][0]
            for when, band in [*bands(catalog, sold.subject, attribute)] or [("", "")]:
                price = row.get(name + band)
                if price:
                    cross.setdefault(
                        (sold.subject, attribute, when),
                        [sold.subject, attribute, when, text(usd_per_mtok(price))],
                    )
        for found in tier_rows(catalog, sold, row):
            tiers.setdefault(tuple(found[:3]), found)
    for found in azure_rows(catalog, table):
        tiers.setdefault(tuple(found[:3]), found)
    write("tier_prices.csv", sorted(tiers.values()))
    with (HERE / "crosscheck" / "litellm.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["subject", "attribute", "when", "value"])
        writer.writerows(sorted(cross.values()))
    print(f"{len(tiers)} facts of tiers; {len(cross)} prices to compare")


if __name__ == "__main__":
    main()
