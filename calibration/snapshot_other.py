"""Write facts/other_prices.csv from LiteLLM's table of models: names and regions that no other facts price.

Run by hand after ``snapshot_litellm.py``: ``python calibration/snapshot_other.py TABLE``, where TABLE is
``model_prices_and_context_window_backup.json`` of a litellm package; read the diff; commit it.

Rules, each stated so that it can be argued with:

1. A name of the table that resolves to no offering of the catalog becomes one. Left out: names without a
   price per token, free tiers (but moderation and two models that are sold at zero), sizes that stand for
   models, models that a reseller only forwards, previews of hosts, and names whose price list has a history
   here (those are further names of an offering, in past_prices.csv).
2. A name with a region of a cloud before it (``bedrock/eu-west-2/meta.…``) whose price is not that of the
   name alone is a price of that region: ``when`` has ``region=eu-west-2``.
3. A geographic or a government profile, or Anthropic's platform at a cloud, whose price is not that of its
   family becomes an offering of its own. Claude's geographic profiles keep the family's price, because the
   table's ids without a profile contradict the provider's premium.
4. A fine-tuned model's name stands before the organisation and the id of the tune: ``match`` says so.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from facts_file import FACTS_DIR, write

from isocost.catalog import Catalog
from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import PRICES, rates
from isocost.errors import UnknownModel

READ, ON = date(2026, 11, 23), date(2026, 11, 10)
SOURCE = "litellm-1.109.1-models"
HOSTS = {
    "openai": "openai", "anthropic": "anthropic", "gemini": "google", "mistral": "mistral",
    "vertex_ai-language-models": "google", "vertex_ai-anthropic_models": "google", "deepseek": "deepseek",
    "groq": "groq", "azure": "azure", "azure_ai": "azure", "bedrock": "aws", "bedrock_converse": "aws",
    "moonshot": "moonshotai", "zai": "zai", "cohere_chat": "cohere", "fireworks_ai": "fireworks",
    "together_ai": "together", "cerebras": "cerebras", "perplexity": "perplexity", "minimax": "minimax",
}  # fmt: skip
METERS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "cache_read_input_audio_token_cost": "audio_cache_read",
    "output_cost_per_image_token": "image_output",
}
TIERS = {"_batches": "batch", "_flex": "flex", "_priority": "priority", "_ultrafast": "ultrafast"}
MODES = ("chat", "completion", "responses", "embedding", "moderation")
SOLD_AT_ZERO = re.compile(r"omni-moderation|glm-4\.\d-flash$")
LEFT_OUT = re.compile(r"preview|experimental|beta|labs|daybreak|lyria|gemma|gemini-exp")
REGION = re.compile(r"([a-z]{2}(?:-gov)?-[a-z]+-\d)/(.*)")
PROFILE = re.compile(r"(eu|apac|jp|us-gov|au)\.")
CLAUDE_PROFILE = re.compile(r"(eu|apac|us|jp|au)\.anthropic")

Price = tuple[str, str, int, Decimal]
"""Meter, tier, length above which it holds, USD for a million."""


def prices(row: Mapping[str, Any]) -> Iterator[Price]:
    """What a row of the table asks."""
    for name, value in row.items():
        if not isinstance(value, Decimal):
            continue
        tier = "standard"
        for ending, known in TIERS.items():
            if name.endswith(ending):
                name, tier = name.removesuffix(ending), known
        band = re.fullmatch(r"(.*?)_above_(\d+)k_tokens", name)
        meter = METERS.get(band[1] if band else name)
        if meter:
            yield meter, tier, int(band[2]) * 1000 if band else 0, value * 1_000_000


def facts(subject: str, asked: list[Price], note: str, region: str = "") -> Iterator[list[str]]:
    """The price rows of an offering."""
    for meter, tier, above, usd in asked:
        parts = {"tier": tier if tier != "standard" else "", "region": region}
        parts["band"] = f">{above}" if above else ""
        when = ";".join(f"{name}={value}" for name, value in sorted(parts.items()) if value)
        value = format(usd.normalize(), "f")
        yield [
            subject, PRICES[meter][0], when, value, "USD/Mtok", "", "", "", "",
            SOURCE, "", READ.isoformat(), "published", "", note,
        ]  # fmt: skip


def bare(key: str, provider: str) -> str:
    """A key of the table without the prefixes that say how the provider is called."""
    for prefix in (f"{provider}/", "vertex_ai/", "bedrock/", "gemini/", "azure/"):
        key = key.removeprefix(prefix)
    return key


def unknown(table: Mapping[str, Any], host: str, name: str, row: Mapping[str, Any]) -> Iterator[list[str]]:
    """Rules 1, 2 and 4: a name that no offering has."""
    asked = [one for one in prices(row) if one[3] > 0 or SOLD_AT_ZERO.search(name)]
    regional = REGION.fullmatch(name) if host == "aws" else None
    if regional:
        region, model = regional.groups()
        alone = table.get(model) or table.get(f"bedrock/us-east-1/{model}")
        keys = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
        if model not in table and region == "us-east-1":
            yield from facts(f"api/aws/{model}", asked, "A name that the snapshot lacks; at us-east-1")
        elif alone is None or any(alone.get(key) != row.get(key) for key in keys):
            note = "A region whose price is another than the id's own"
            yield from facts(f"api/aws/{model}", asked, note, region)
        return
    kept = re.search(r"us$|pro-0813|flash-0731|fast|glimmer", name) if host == "fireworks" else True
    forwarded = host == "perplexity" and "/" in name
    if not kept or forwarded or name.startswith("together-ai-") or CLAUDE_PROFILE.match(name):
        return
    if LEFT_OUT.search(name) and host not in ("google", "openai"):
        return
    yield from facts(f"api/{host}/{name}", asked, "A name that the snapshot lacks")
    if name.startswith("ft:"):
        stem = re.escape(re.sub(r"-\d{4}-\d\d-\d\d$", "", name)).replace(r"\-", "-")
        whole = re.escape(name).replace(r"\-", "-")
        yield [
            f"api/{host}/{name}", "match", "", f"^{stem}:|^{whole}", "", "", "", "", "",
            SOURCE, "", READ.isoformat(), "derived", "", "Logs add the organisation and the id of the tune",
        ]  # fmt: skip


def differs(name: str, key: str, asked: list[Price], found: Offering) -> Iterator[list[str]]:
    """Rules 2 and 3: a name whose price is not the one that its offering has."""
    regional = REGION.fullmatch(key.removeprefix("bedrock/")) if key.startswith("bedrock/") else None
    if regional:
        note = "A region whose price is another than the id's own"
        yield from facts(found.subject, asked, note, regional[1])
    elif name.startswith("claude_platform/"):
        note = "Anthropic's own platform at this cloud: without the premium of a region"
        yield from facts(f"api/aws/{name}", asked, note)
    elif found.provider == "aws" and PROFILE.match(name) and not CLAUDE_PROFILE.match(name):
        note = "A geographic id whose price is another than its family's"
        yield from facts(f"api/aws/{name}", asked, note)
    elif key.startswith("azure/us-gov/"):
        yield from facts(f"api/azure/{name}", asked, "A government cloud's price")


def main(table: Path) -> None:
    (FACTS_DIR / "other_prices.csv").unlink(missing_ok=True)
    catalog = Catalog.load()
    at = catalog.at(ON)
    held = json.loads(table.read_text(), parse_float=Decimal, parse_int=Decimal)
    found: dict[tuple[str, ...], list[str]] = {}
    for key, row in held.items():
        provider = str(row.get("litellm_provider", ""))
        host, asked = HOSTS.get(provider), [one for one in prices(row) if one[3] > 0]
        if host is None or row.get("mode") not in MODES or not (asked or SOLD_AT_ZERO.search(key)):
            continue
        name = bare(key, provider)
        try:
            offering = resolve(at, key, provider)
        except UnknownModel:
            rows = unknown(held, host, name, row)
        else:
            ours = rates(at, offering, region=offering.region).meters.get("input")
            standard = [
                usd for meter, tier, above, usd in asked if (meter, tier, above) == ("input", "standard", 0)
            ]
            if ours is None or not standard or abs(ours.usd - standard[0]) <= standard[0] / 10**7:
                continue
            rows = differs(name, key, asked, offering)
        for one in rows:
            found.setdefault(tuple(one[:3]), one)
    write("other_prices.csv", sorted(found.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
