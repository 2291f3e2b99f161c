"""Write facts/api_prices.csv and facts/offers.csv from the installed genai-prices package.

Run by hand when prices change: ``python calibration/snapshot_prices.py``; read the diff; commit it. What is
kept of the package, and how, is in ``isocost.catalog.genai``; here is what its data lack.

1. Daily windows become ``window``; the package cannot tie a window to a date or a weekday, its comments
   do, and ``WINDOWS`` restates them.
2. Where its history of an entry is not whole, ``AMENDED`` says which prices held outside it.
3. Deprecated entries carry ``deprecated = true``.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from facts_file import FACTS_DIR, write
from genai_prices import types as g
from genai_prices.data import providers

from isocost.catalog.genai import PROVIDERS, Span, kept, lists, named, offerings, spans, stated, window

READ = date(2026, 11, 22)
SOURCE = "genai-prices-0.2.3"

ORIGINATORS = (
    "openai", "anthropic", "google", "x-ai", "mistral", "deepseek", "cohere", "moonshotai", "zai",
    "minimax", "perplexity", "meta", "voyageai",
)  # fmt: skip
MAKER_OF = {
    "meta-llama": "meta", "mistralai": "mistral", "z-ai": "zai", "qwen": "alibaba", "amazon": "aws",
    "nvidia": "nvidia", "microsoft": "microsoft",
}  # fmt: skip

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


def windows(model: Any) -> list[Span]:
    """Rule 1: the price lists of an entry's daily windows, with their dates and weekdays."""
    found: list[Span] = []
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
        flat = next(part.prices for part in spans(model) if part.since == date(2026, 8, 17))
        twice = {key: value * 2 for key, value in flat.items()}
        for hours in ("01:00-04:00", "06:00-10:00"):
            for since, until, days in (
                (date(2026, 8, 17), date(2026, 8, 23), ""),
                (date(2026, 8, 23), date(2026, 9, 10), "mon-fri "),
            ):
                found.append(Span(since, until, (f"window={days}{hours}",), twice, DOUBLED))
    return found


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
    path = FACTS_DIR / "models.csv"
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
    for subject, provider, model in offerings(providers):
        host = PROVIDERS[provider.id]
        known = amended([*spans(model), *windows(model)], AMENDED.get((provider.id, model.id)))
        for fact in stated(subject, known, READ):
            days = (fact.since, fact.until)
            prices.append(row(*fact[:5], *days, fact.kind, fact.note, fact.source))
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
        write(name, rows)
        print(name, len(rows))


if __name__ == "__main__":
    main()
