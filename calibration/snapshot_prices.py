"""Write facts/api_prices.csv and facts/offers.csv from the installed genai-prices package.

Run by hand when prices change: ``python calibration/snapshot_prices.py``; read the diff; commit it.
Nothing of isocost imports this file or that package.

Rules of the snapshot, each stated so that it can be argued with:

1. Providers are those of ``PROVIDERS``: makers that sell their own models, clouds, and hosts of open
   weights. Of the reseller OpenRouter only models of ``MAKERS`` are kept, and no ``:free`` or ``~latest``
   alias; its ``model:batch`` is the batch tier of ``model``.
2. An entry without a price per token is left out. An entry whose prices are all zero is a free tier
   with rate limits, not a price of production, and is left out.
3. Deprecated entries stay, because old logs name them; they carry ``deprecated = true``.
4. A start date becomes ``valid_from`` and closes the row before it. A row that starts after the day of
   the snapshot is ``expected``.
5. A context tier that starts at S applies to requests of more than S input tokens (genai_prices/types.py,
   ``calc_unit_price``): ``band=>S``. The package writes an inclusive limit L as S = L - 1: ``band=>=L``.
6. Request variants become ``tier``. A variant states the meters that differ, none where the tier costs the
   same; every other meter of the offering is written at its standard price: a tier is complete or absent.
7. Daily windows become ``window``; the package cannot tie a window to a date or a weekday, its comments
   do, and ``WINDOWS`` restates them.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from genai_prices import types as g
from genai_prices.data import providers

FACTS = Path(__file__).resolve().parent.parent / "src" / "isocost" / "catalog" / "facts"
READ = date(2026, 11, 22)
SOURCE = "genai-prices-0.2.3"
HEADER = [
    "subject", "attribute", "when", "value", "unit", "low", "high", "valid_from", "valid_to",
    "source", "quote", "checked", "kind", "boundary", "note",
]  # fmt: skip

PROVIDERS = {
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
ORIGINATORS = (
    "openai", "anthropic", "google", "x-ai", "mistral", "deepseek", "cohere", "moonshotai", "zai",
    "minimax", "perplexity", "meta", "voyageai",
)  # fmt: skip
MAKERS = (
    "openai", "anthropic", "google", "x-ai", "mistralai", "deepseek", "meta-llama", "qwen", "z-ai",
    "moonshotai", "minimax", "amazon", "cohere", "nvidia", "microsoft", "perplexity",
)  # fmt: skip
MAKER_OF = {
    "meta-llama": "meta", "mistralai": "mistral", "z-ai": "zai", "qwen": "alibaba", "amazon": "aws",
    "nvidia": "nvidia", "microsoft": "microsoft",
}  # fmt: skip

METERS = {
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
    "web_searches_kcount": ("usd_per_web_search", "USD/search", 1000),
}
TOKEN_METERS = {"input_mtok", "output_mtok", "input_audio_mtok", "output_audio_mtok"}
TIERS = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("service_tier", "ultrafast"): "ultrafast",
    ("speed", "fast"): "fast",
}
# First day on which a model's daily windows were in force, and the first on which only weekdays had them
# (comments of the package's DeepSeek entries).
WINDOWS = {
    "deepseek-v4-pro": (date(2026, 8, 17), date(2026, 8, 23)),
    "deepseek-v4-flash": (date(2026, 9, 10), date(2026, 9, 10)),
    "deepseek-flash": (date(2026, 9, 10), date(2026, 9, 10)),
}


@dataclass(frozen=True)
class Amended:
    """Where the package's history of an entry is not whole: its prices hold over [since, until) only, and
    ``spans`` (prices, days, source, note) hold outside."""

    since: date | None
    until: date | None
    spans: tuple[tuple[date | None, date | None, dict[str, Decimal], str, str], ...]


def _three(plain: str, cached: str, output: str) -> dict[str, Decimal]:
    return {
        "input_mtok": Decimal(plain),
        "cache_read_mtok": Decimal(cached),
        "output_mtok": Decimal(output),
    }


_V31 = (
    date(2025, 9, 6),
    date(2025, 9, 29),
    _three("0.56", "0.07", "1.68"),
    "deepseek-pricing",
    "In force from 16:00 UTC of the day before: this file knows whole days",
)
_V32 = (
    date(2025, 9, 29),
    date(2026, 7, 25),
    _three("0.28", "0.028", "0.42"),
    "roo-code-deepseek",
    "Read as of 2025-12-09; taken to hold from the day on which the name first meant V3.2-Exp "
    "to that on which it moved to V4 Flash",
)
AMENDED = {
    ("google", "gemini-3.6-flash"): Amended(
        date(2026, 8, 13),
        None,
        (
            (
                None,
                date(2026, 8, 13),
                _three("1.5", "0.15", "7.5"),
                "sim-5812",
                "Price as read for 2026-07-21. The day of the halving was not read: it is that of an "
                "archived page that the bills for testing cite",
            ),
        ),
    ),
    ("deepseek", "deepseek-chat"): Amended(date(2025, 2, 27), date(2025, 9, 6), (_V31, _V32)),
    ("deepseek", "deepseek-reasoner"): Amended(date(2025, 2, 27), date(2025, 9, 6), (_V31, _V32)),
}

DOUBLED = "twice the off-peak price, as on deepseek-v4-pro: the package holds no peak price of these days"


@dataclass(frozen=True)
class Span:
    """A price list over [since, until), under a ``when`` of tier and window."""

    since: date | None
    until: date | None
    when: tuple[str, ...]
    prices: dict[str, Any]
    note: str = ""
    source: str = ""


def kept(provider: Any, model: Any) -> bool:
    """Rules 1 and 2."""
    if provider.id == "openrouter":
        maker = model.id.partition("/")[0]
        if maker not in MAKERS or ":" in model.id or "/" not in model.id:
            return False
    if ":free" in model.id:
        return False
    found = [
        value.base if isinstance(value, g.TieredPrices) else value
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
    """Rules 4, 6 and 7: every price list of an entry with its dates and its ``when``."""
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
    for constraint, prices in lists(model):
        if not window(constraint):
            continue
        hours = f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M}"
        begin, weekdays = WINDOWS.get(model.id, (None, None))
        if begin and weekdays and begin < weekdays:
            found.append(Span(begin, weekdays, (f"window={hours}",), named(prices)))
        if weekdays:
            found.append(Span(weekdays, None, (f"window=mon-fri {hours}",), named(prices)))
        else:
            found.append(Span(None, None, (f"window={hours}",), named(prices)))
    if model.id == "deepseek-v4-flash" and any(window(constraint) for constraint, _ in lists(model)):
        flat = next(part.prices for part in found if part.since == date(2026, 8, 17))
        twice = {key: value * 2 for key, value in flat.items()}
        for hours in ("01:00-04:00", "06:00-10:00"):
            for since, until, days in (
                (date(2026, 8, 17), date(2026, 8, 23), ""),
                (date(2026, 8, 23), date(2026, 9, 10), "mon-fri "),
            ):
                found.append(Span(since, until, (f"window={days}{hours}",), twice, DOUBLED))
    return found


def window(constraint: Any) -> bool:
    """Whether a constraint is a daily window."""
    return isinstance(constraint, g.TimeOfDateConstraint)


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
    if not isinstance(value, g.TieredPrices):
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
    return g.PriceVariant({"processing": "batch"}, lists(batch)[-1][1])


def amended(known: list[Span], change: Amended | None) -> list[Span]:
    """The spans of an entry, cut to the days on which they hold, with those that hold outside."""
    if change is None:
        return known
    found = []
    for span in known:
        since = max(span.since or date.min, change.since or date.min)
        until = min(span.until or date.max, change.until or date.max)
        if since < until:
            days = (None if since == date.min else since, None if until == date.max else until)
            found.append(replace(span, since=days[0], until=days[1]))
    return [*(Span(s, u, (), p, note, source) for s, u, p, source, note in change.spans), *found]


def price_rows(subject: str, provider: str, model: Any) -> list[list[str]]:
    """The rows of one offering: equal neighbours in time are one row."""
    history: dict[tuple[str, str], list[tuple[date | None, date | None, str]]] = {}
    notes: dict[tuple[str, str, date | None], tuple[str, str]] = {}
    for span in amended(spans(model), AMENDED.get((provider, model.id))):
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
        for since, until, price in sorted(parts, key=lambda part: part[0] or date.min):
            if joined and joined[-1][1] == since and joined[-1][2] == price and since is not None:
                joined[-1] = (joined[-1][0], until, price)
            else:
                joined.append((since, until, price))
        for since, until, price in joined:
            note, source = notes[attribute, when, since]
            kind = "expected" if since and since > READ else "derived" if note else "published"
            rows.append(
                row(subject, attribute, when, price, units[attribute], since, until, kind, note, source)
            )
    return rows


def row(
    subject: str, attribute: str, when: str, value: str, unit: str,
    since: date | None = None, until: date | None = None, kind: str = "published", note: str = "",
    source: str = "",
) -> list[str]:  # fmt: skip
    """One row of a facts file."""
    days = [day.isoformat() if day else "" for day in (since, until)]
    return [
        subject,
        attribute,
        when,
        value,
        unit,
        "",
        "",
        *days,
        source or SOURCE,
        "",
        READ.isoformat(),
        kind,
        "",
        note,
    ]


def pattern(clause: Any) -> str:
    """A match clause as an unanchored regular expression on the lower-case name."""
    if isinstance(clause, g.ClauseOr):
        return "|".join(dict.fromkeys(pattern(part) for part in clause.or_))
    if isinstance(clause, g.ClauseAnd):
        return "".join(f"(?=.*(?:{pattern(part)}))" for part in clause.and_)
    if isinstance(clause, g.ClauseEquals):
        return f"^{escape(clause.equals)}$"
    if isinstance(clause, g.ClauseStartsWith):
        return f"^{escape(clause.starts_with)}"
    if isinstance(clause, g.ClauseEndsWith):
        return f"{escape(clause.ends_with)}$"
    if isinstance(clause, g.ClauseContains):
        return escape(clause.contains)
    return str(clause.regex)


def escape(name: str) -> str:
    """A literal of a regular expression, as short as it can be."""
    return re.sub(r"([.+*?()\[\]{}|^$\\])", r"\\\1", name.lower())


# Names that hosts give to open weights, after lower-casing, without the path before the last "/".
DROP = re.compile(
    r"[-_](instruct|it|chat|hf|turbo|lite|fp8|bf16|nvfp4|awq|int8|fast|ultrafast|us|maas|versatile|instant|basic"
    r"|16e|128e|specdec|v1:0|1:0|reference|free|p|highspeed|tput|17b|v0\.\d|v0:\d|text|versatile|8192|32768)$|:0$"
)
QUANTISED = re.compile(
    r"[-_](turbo|lite|fp8|bf16|nvfp4|awq|int8|fast|ultrafast|highspeed|instant|specdec)(?=[-_]|$)"
)


def weights(provider: str, name: str) -> str:
    """The short id of open weights that a host's name stands for, by spelling alone."""
    short = name.lower().split("/")[-1].removeprefix("databricks-").removeprefix("nvidia-")
    if provider == "aws":
        short = short.removeprefix("global.").removeprefix("regional.").partition(".")[2]
        short = re.sub(r"^llama(\d)-(\d)-", r"llama-\1.\2-", short)
        short = re.sub(r"-v1:0$|-1:0$", "", short)
    short = re.sub(r"(\d)p(\d)", r"\1.\2", short) if provider == "fireworks" else short
    short = re.sub(r"^meta-", "", short)
    short = re.sub(r"^llama-?v?(\d)", r"llama-\1", short)
    short = re.sub(r"^llama-3[_-](\d)", r"llama-3.\1", short)
    short = re.sub(r"^qwen-3", "qwen3", short)
    short = re.sub(r"^qwen-2\.5", "qwen2.5", short)
    short = re.sub(r"^qwen35", "qwen3.5", short)
    short = re.sub(r"^zai-glm", "glm", short)
    short = re.sub(
        r"^(glm|kimi-k|deepseek-v)-?(\d)-(\d)(?=-|$)",
        lambda m: f"{m[1]}{'-' if m[1] == 'glm' else ''}{m[2]}.{m[3]}",
        short,
    )
    short = re.sub(r"^deepseek_v3$", "deepseek-v3", short)
    before = ""
    while before != short:
        before, short = short, DROP.sub("", short)
    return short


def read_models() -> dict[str, str]:
    """Spelling to ``model/`` id, from the ids and ``hf_id`` of facts/models.csv where it exists."""
    path = FACTS / "models.csv"
    found: dict[str, str] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                model = line["subject"].removeprefix("model/")
                found.setdefault(model, model)
                if line["attribute"] == "hf_id":
                    found.setdefault(weights("", line["value"]), model)
    return found


def served(provider: str, name: str, models: dict[str, str], made: dict[str, Any]) -> tuple[str, str, str]:
    """What an offering serves: (model id, maker's provider id, note)."""
    host = PROVIDERS[provider]
    for short in (weights(provider, name), name.lower()):
        if short in models:
            note = "matched by name"
            if QUANTISED.search(name.lower()) or host == "openrouter":
                note += "; the host may serve it at another precision"
            return models[short], "", note
    bare = re.sub(r"^(global|regional)\.", "", name).removeprefix("anthropic.").removeprefix("openai.")
    bare = bare.split("/")[-1].lower().removeprefix("zai-")
    if host in ORIGINATORS and not any(exact_family(m, bare) for m in ORIGINATORS if m != host):
        return name.lower(), host, ""
    for maker in ORIGINATORS:
        model = made[maker].find_model(bare)
        if model is None:
            model = made[maker].find_model(weights(provider, name))
        if model is not None and kept(made[maker], model) and exact_family(maker, bare):
            return (
                models.get(weights(maker, model.id), model.id.lower()),
                maker,
                "matched by the maker's own names",
            )
    return "", "", ""


def exact_family(maker: str, name: str) -> bool:
    """Whether a name looks like the maker's (their match clauses are loose about derivatives)."""
    families = {
        "openai": r"^(gpt-|o[134](-|$)|text-embedding)",
        "anthropic": r"^claude-",
        "google": r"^gemini-|^gemma-",
        "x-ai": r"^grok-",
        "mistral": r"^(mistral|ministral|mixtral|codestral|devstral|magistral|pixtral|voxtral)",
        "deepseek": r"^deepseek-v\d|^deepseek-flash",
        "cohere": r"^command",
        "moonshotai": r"^kimi-",
        "zai": r"^glm-",
        "minimax": r"^minimax-",
        "meta": r"^muse-",
    }
    return bool(re.search(families.get(maker, r"(?!)"), name))


def main() -> None:
    """Write both files."""
    made = {provider.id: provider for provider in providers}
    models = read_models()
    prices, offers = [], []
    for provider in sorted((p for p in providers if p.id in PROVIDERS), key=lambda p: PROVIDERS[p.id]):
        host = PROVIDERS[provider.id]
        for model in sorted(provider.models, key=lambda m: m.id):
            if not kept(provider, model):
                continue
            subject = f"api/{host}/{model.id}"
            batch = next((m for m in provider.models if m.id == f"{model.id}:batch"), None)
            if provider.id == "openrouter" and batch is not None:
                model = replace(model, price_variants=[batch_variant(batch)])
            prices += price_rows(subject, provider.id, model)
            regex = pattern(model.match)
            if regex != f"^{escape(model.id)}$":
                offers.append(row(subject, "match", "", regex, ""))
            if model.context_window:
                offers.append(row(subject, "context_tok", "", str(model.context_window), "tok"))
            model_id, maker, note = served(provider.id, model.id, models, made)
            if model_id:
                offers.append(row(subject, "serves", "", model_id, "", kind="derived", note=note))
            if host in ORIGINATORS and (not maker or maker == host):
                offers.append(row(subject, "originator", "", "true", "", kind="derived"))
            if model.deprecated:
                offers.append(row(subject, "deprecated", "", "true", ""))
    for name, rows in (("api_prices.csv", prices), ("offers.csv", offers)):
        with (FACTS / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(rows)
        print(name, len(rows))


if __name__ == "__main__":
    main()
