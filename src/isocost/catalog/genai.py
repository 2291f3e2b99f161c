"""Prices that the genai-prices package holds, as facts of the catalog.

The package is read only where :func:`package` is called: nothing here imports it. Rules, each stated so that
it can be argued with:

1. Providers are those of ``PROVIDERS``: makers that sell their own models, clouds, and hosts of open
   weights. Of the reseller OpenRouter only models of ``MAKERS`` are kept, and no ``:free`` or ``~latest``
   alias; its ``model:batch`` is the batch tier of ``model``.
2. An entry without a price per token is left out. An entry whose prices are all zero is a free tier
   with rate limits, not a price of production, and is left out.
3. Deprecated entries stay, because old logs name them.
4. A start date becomes ``valid_from`` and closes the row before it. A row that starts after the day of
   the snapshot is ``expected``.
5. A context tier that starts at S applies to requests of more than S input tokens: ``band=>S``. The package
   writes an inclusive limit L as S = L - 1: ``band=>=L``.
6. Request variants become ``tier``. A variant states the meters that differ, none where the tier costs the
   same; every other meter of the offering is written at its standard price: a tier is complete or absent.
7. Daily windows are left to the caller (:func:`window`): the package cannot tie one to a date or a weekday.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

from isocost.errors import BadInput

PROVIDERS: Mapping[str, str] = {
    **{name: name for name in (
        "openai", "anthropic", "google", "x-ai", "mistral", "deepseek", "cohere", "moonshotai", "zai",
        "minimax", "perplexity", "meta", "voyageai", "groq", "together", "fireworks", "cerebras", "aws",
        "azure", "novita", "baseten", "databricks", "cloudflare", "ovhcloud", "doubleword", "modal", "arcee",
        "avian", "openrouter",
    )},
    "huggingface_nebius": "nebius",
    "huggingface_hyperbolic": "hyperbolic",
    "huggingface_nscale": "nscale",
    "huggingface_sambanova": "sambanova",
    "huggingface_publicai": "publicai",
}  # fmt: skip
"""Provider of the package to provider of the catalog."""

MAKERS = (
    "openai", "anthropic", "google", "x-ai", "mistralai", "deepseek", "meta-llama", "qwen", "z-ai",
    "moonshotai", "minimax", "amazon", "cohere", "nvidia", "microsoft", "perplexity",
)  # fmt: skip
METERS: Mapping[str, tuple[str, str, int]] = {
    "input_mtok": ("input_usd_per_mtok", "USD/Mtok", 1),
    "cache_read_mtok": ("cache_read_usd_per_mtok", "USD/Mtok", 1),
    "cache_write_mtok": ("cache_write_usd_per_mtok", "USD/Mtok", 1),
    "cache_write_1h_mtok": ("cache_write_1h_usd_per_mtok", "USD/Mtok", 1),
    "output_mtok": ("output_usd_per_mtok", "USD/Mtok", 1),
    "input_audio_mtok": ("audio_input_usd_per_mtok", "USD/Mtok", 1),
    "cache_audio_read_mtok": ("audio_cache_read_usd_per_mtok", "USD/Mtok", 1),
    "output_audio_mtok": ("audio_output_usd_per_mtok", "USD/Mtok", 1),
    "requests_kcount": ("usd_per_request", "USD/request", 1000),
    "input_image_mtok": ("image_input_usd_per_mtok", "USD/Mtok", 1),
    "cache_image_read_mtok": ("image_cache_read_usd_per_mtok", "USD/Mtok", 1),
    "output_image_mtok": ("image_output_usd_per_mtok", "USD/Mtok", 1),
    "storage_searches_kcount": ("usd_per_file_search", "USD/search", 1000),
    "web_searches_kcount": ("usd_per_web_search", "USD/search", 1000),
}
TOKEN_METERS = frozenset(
    {
        "input_mtok",
        "output_mtok",
        "input_audio_mtok",
        "output_audio_mtok",
    }
)
TIERS: Mapping[tuple[str, str], str] = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("service_tier", "ultrafast"): "ultrafast",
    ("speed", "fast"): "fast",
}
PARTS = ("id", "prices", "price_variants", "match", "context_window", "deprecated")


@dataclass(frozen=True)
class Span:
    """A price list over [since, until), under a ``when`` of tier and window."""

    since: date | None
    until: date | None
    when: tuple[str, ...]
    prices: dict[str, Any]
    note: str = ""
    source: str = ""


class Stated(NamedTuple):
    """A price that a source states, over [since, until); ``source`` blank: the source that is read."""

    subject: str
    attribute: str
    when: str
    value: str
    unit: str
    since: date | None
    until: date | None
    kind: str = "published"
    note: str = ""
    source: str = ""


def package() -> tuple[Sequence[Any], str]:
    """The providers of the installed package, and the id of the source that it is.

    Raises:
        BadInput: it is not installed.
    """
    try:
        found = importlib.import_module("genai_prices")
        data = importlib.import_module("genai_prices.data")
    except ImportError:
        raise BadInput(
            "the package genai-prices is not installed",
            where="catalog refresh",
            fix="Type: pip install 'isocost[refresh]', or give a file of facts: --from FILE",
        ) from None
    return data.providers, f"genai-prices-{found.__version__}"


def offerings(providers: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    """(subject, provider, entry) of every offering that is kept; a batch entry is a variant of its model."""
    for provider in sorted((p for p in providers if p.id in PROVIDERS), key=lambda p: PROVIDERS[p.id]):
        batches = {m.id: m for m in provider.models if m.id.endswith(":batch")}
        for model in sorted(provider.models, key=lambda m: m.id):
            if not kept(provider, model):
                continue
            batch = batches.get(f"{model.id}:batch")
            if provider.id == "openrouter" and batch is not None:
                parts = {name: getattr(model, name) for name in PARTS} | {
                    "price_variants": [batch_variant(batch)]
                }
                model = SimpleNamespace(**parts)
            yield f"api/{PROVIDERS[provider.id]}/{model.id}", provider, model


def kept(provider: Any, model: Any) -> bool:
    """Rules 1 and 2."""
    if provider.id == "openrouter":
        maker = model.id.partition("/")[0]
        if maker not in MAKERS or ":" in model.id or "/" not in model.id:
            return False
    if ":free" in model.id:
        return False
    found = [
        getattr(value, "base", value)
        for _, prices in lists(model)
        for key, value in prices.__dict__.items()
        if key in TOKEN_METERS and value is not None
    ]
    return any(value > 0 for value in found)


def lists(model: Any) -> list[tuple[Any, Any]]:
    """The (constraint, price list) pairs of an entry, first to last."""
    if isinstance(model.prices, list):
        return [(item.constraint, item.prices) for item in model.prices]
    return [(None, model.prices)]


def named(prices: Any) -> dict[str, Any]:
    """A price list as a dict; the 5-minute write under the one name."""
    found = {key: value for key, value in prices.__dict__.items() if value is not None}
    if "cache_write_5m_mtok" in found:
        found["cache_write_mtok"] = found.pop("cache_write_5m_mtok")
    return {key: value for key, value in found.items() if key in METERS}


def spans(model: Any) -> list[Span]:
    """Rules 4 and 6: every price list of an entry outside daily windows, with its dates and its ``when``."""
    dated = [(c.start_date if c else None, named(p)) for c, p in lists(model) if not window(c)]
    starts = sorted(
        {d for d, _ in dated if d} | {v.constraint.start_date for v in variants(model) if v.constraint}
    )
    found: list[Span] = []
    for number, since in enumerate([None, *starts]):
        until = starts[number] if number < len(starts) else None
        base: dict[str, Any] = {}
        for start, prices in dated:
            if start is None or (since is not None and start <= since):
                base = prices
        found.append(Span(since, until, (), base))
        tiers: dict[str, dict[str, Any]] = {}
        for variant in variants(model):
            if variant.constraint and (since is None or variant.constraint.start_date > since):
                continue
            tier = tier_of(variant)
            if tier is None:
                continue
            mine = tiers.setdefault(tier, {})
            for key, value in named(variant.prices).items():
                mine.setdefault(key, value)
        found += [Span(since, until, (f"tier={tier}",), {**base, **mine}) for tier, mine in tiers.items()]
    return found


def window(constraint: Any) -> bool:
    """Whether a constraint is a daily window."""
    return hasattr(constraint, "start_time")


def variants(model: Any) -> list[Any]:
    """The request variants of an entry."""
    return list(model.price_variants or ())


def tier_of(variant: Any) -> str | None:
    """The service tier that a variant names; ``None`` for the default and for anything else."""
    if len(variant.when) != 1:
        return None
    return TIERS.get(next(iter(variant.when.items())))


def bands(value: Any) -> list[tuple[tuple[str, ...], Decimal]]:
    """Rule 5: (band, price) pairs of one meter."""
    if not hasattr(value, "tiers"):
        return [((), value)]
    found: list[tuple[tuple[str, ...], Decimal]] = [((), value.base)]
    for tier in value.tiers:
        inclusive = (tier.start + 1) % 1000 == 0
        band = f"band=>={tier.start + 1}" if inclusive else f"band=>{tier.start}"
        found.append(((band,), tier.price))
    return found


def text(value: Decimal) -> str:
    """A price without exponent or trailing zeros."""
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def batch_variant(batch: Any) -> Any:
    """OpenRouter's ``model:batch`` as a variant of its model; of dated prices the last."""
    return SimpleNamespace(when={"processing": "batch"}, constraint=None, prices=lists(batch)[-1][1])


def stated(subject: str, known: Sequence[Span], read: date) -> list[Stated]:
    """The facts of one offering, as of the day on which they were read: equal neighbours in time are one."""
    history: dict[tuple[str, str], list[tuple[date | None, date | None, str]]] = {}
    notes: dict[tuple[str, str, date | None], tuple[str, str]] = {}
    for span in known:
        for key, value in span.prices.items():
            attribute, _, per = METERS[key]
            for band, price in bands(value):
                when = ";".join(sorted((*band, *span.when)))
                history.setdefault((attribute, when), []).append((span.since, span.until, text(price / per)))
                notes[attribute, when, span.since] = (span.note, span.source)
    units = {attribute: unit for attribute, unit, _ in METERS.values()}
    rows = []
    for (attribute, when), parts in history.items():
        joined: list[tuple[date | None, date | None, str]] = []
        for since, until, usd in sorted(parts, key=lambda part: part[0] or date.min):
            if joined and joined[-1][1] == since and joined[-1][2] == usd and since is not None:
                joined[-1] = (joined[-1][0], until, usd)
            else:
                joined.append((since, until, usd))
        for since, until, usd in joined:
            note, source = notes[attribute, when, since]
            kind = "expected" if since and since > read else "derived" if note else "published"
            days = (since, until)
            rows.append(Stated(subject, attribute, when, usd, units[attribute], *days, kind, note, source))
    return rows
