"""Write facts/capabilities.csv from LiteLLM's table of models and from the offers that the catalog holds.

Run by hand when models change: ``python calibration/snapshot_capabilities.py TABLE``, where TABLE is
``model_prices_and_context_window_backup.json`` of the litellm package; read the diff; commit it.
Nothing of isocost imports this file or that package.

Rules of the snapshot, each stated so that it can be argued with:

1. An entry of the table belongs to the offering that its provider (``HOSTS``) and name resolve to. Where
   some entries of an offering are spelled as its id is (dates, ``-latest`` and places aside), only those
   count; else every entry that resolves to it does.
2. A flag that is true states a capability (``FLAGS``), and so does an image or audio among the modalities
   listed; a flag that is false or absent does not. An entry without any flag says nothing, and one that is
   not for text (``MODES``) is left out.
3. Entries of one offering that disagree count with what all of them state; the note says what some do.
4. A model that models.csv does not speak of has what its maker's own offering has. Images and sound of
   weights that others serve too need more than half of those hosts to state them as well, because a
   maker's endpoint may route to a sibling.
5. A maker's own offering has a row only where it differs from its model.
6. ``open_weights`` where a card, a repository or the maker was read (``READ_OPEN``), or where ``ENOUGH``
   hosts that are neither the maker nor in ``NOT_INDEPENDENT`` sell the model under the maker's name: a
   maker does not lend closed weights to that many. A maker of ``NEVER`` is never judged by the count.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.names import resolve
from isocost.errors import UnknownModel

FACTS = Path(__file__).resolve().parent.parent / "src" / "isocost" / "catalog" / "facts"
FILE = "capabilities.csv"
READ = date(2026, 11, 23)
TABLE_SOURCE = "litellm-1.109.1-models"
OFFERS_SOURCE = "genai-prices-0.2.3"
HEADER = [
    "subject", "attribute", "when", "value", "unit", "low", "high", "valid_from", "valid_to",
    "source", "quote", "checked", "kind", "boundary", "note",
]  # fmt: skip

FLAGS = {
    "image": "supports_vision",
    "tools": "supports_function_calling",
    "structured": "supports_response_schema",
    "audio": "supports_audio_input",
}
MODES = ("chat", "responses", "completion")

# The table's provider to the catalog's. Vertex AI has several families of one provider.
HOSTS = {
    **{name: name for name in (
        "openai", "anthropic", "mistral", "deepseek", "cohere", "zai", "minimax", "perplexity", "groq",
        "cerebras", "novita", "baseten", "databricks", "cloudflare", "ovhcloud", "nebius", "hyperbolic",
        "nscale", "sambanova", "publicai", "openrouter",
    )},
    "text-completion-openai": "openai",
    "gemini": "google",
    "xai": "x-ai",
    "cohere_chat": "cohere",
    "moonshot": "moonshotai",
    "meta_llama": "meta",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "azure": "azure",
    "azure_ai": "azure",
}  # fmt: skip
VERTEX = "vertex_ai"

ENOUGH = 3
NOT_INDEPENDENT = frozenset(
    (
        "openrouter", "azure", "aws", "google", "databricks", "github-copilot", "cursor", "perplexity",
        "cloudflare",
    )
)  # fmt: skip
NEVER = frozenset(("openai", "anthropic", "google", "x-ai", "cohere", "perplexity", "voyageai"))

# model: (source, note); what was read, not what is remembered.
READ_OPEN: dict[str, tuple[str, str]] = {}


@dataclass(frozen=True)
class Entry:
    """One entry of the table: its key, the last part of its name, and the words that it states."""

    key: str
    name: str
    states: frozenset[str]


def main(table: Path) -> None:
    """Write the facts; say how many of each kind."""
    at = Catalog.load().at(READ)
    taken = held_elsewhere(at)
    entries = by_offering(at, json.loads(table.read_text()))
    makers = {subject: serves(at, subject) for subject in at.catalog.having("originator", "api/")}
    sellers = sold_by(at)
    rows: list[list[str]] = []
    of_model: dict[str, frozenset[str]] = {}
    for subject, model in sorted(makers.items()):
        if not model or f"model/{model}" in taken or subject not in entries or model in of_model:
            continue
        found, note = agreed(subject, entries[subject])
        others = [
            agreed(f"api/{host}/{name}", entries[f"api/{host}/{name}"])[0]
            for host, name in sellers[model]
            if f"api/{host}/{name}" in entries and f"api/{host}/{name}" not in makers
        ]
        for word in sorted(found & {"image", "audio"}):
            if others and 2 * sum(word in other for other in others) <= len(others):
                found -= {word}
                note = "; ".join(
                    filter(None, (note, f"the maker's endpoint takes {word}, most hosts' do not"))
                )
        of_model[model] = found
        rows.append(row(f"model/{model}", "supports", text(found), TABLE_SOURCE, "published", note))
    n_models = len(rows)
    for subject, here in sorted(entries.items()):
        model = serves(at, subject)
        found, note = agreed(subject, here)
        if not model or (subject in makers and of_model.get(model) == found):
            continue
        rows.append(row(subject, "supports", text(found), TABLE_SOURCE, "published", note))
    n_offers = len(rows) - n_models
    rows += opened(at, sellers, makers)
    with (FACTS / FILE).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEADER, *rows])
    print(f"{n_models} models, {n_offers} offerings, {len(rows) - n_models - n_offers} open weights")


def held_elsewhere(at: CatalogAt) -> frozenset[str]:
    """Models of which another file says what they support."""
    return frozenset(
        row.fields[0]
        for row in at.catalog.rows
        if row.fields[1] == "supports" and row.file != FILE and row.fields[0].startswith("model/")
    )


def serves(at: CatalogAt, subject: str) -> str:
    """The model that an offering serves, blank where unknown."""
    found = at.find(subject, "serves")
    return str(found.value) if found else ""


def sold_by(at: CatalogAt) -> dict[str, list[tuple[str, str]]]:
    """Hosts and their ids of each model."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for fact in at.each("api/", "serves"):
        _, host, name = fact.subject.split("/", 2)
        found[str(fact.value)].append((host, name))
    return found


def by_offering(at: CatalogAt, table: dict[str, dict[str, Any]]) -> dict[str, list[Entry]]:
    """The entries of each offering, by rules 1 and 2."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for key, entry in table.items():
        family = str(entry.get("litellm_provider", ""))
        host = "google" if family.startswith(VERTEX) else HOSTS.get(family)
        if (
            host is None
            or entry.get("mode") not in MODES
            or not any(flag in entry for flag in FLAGS.values())
        ):
            continue
        name = key.removeprefix(f"{family}/").removeprefix(f"{VERTEX}/").removeprefix("bedrock/")
        try:
            subject = resolve(at, name, host).subject
        except UnknownModel:
            continue
        if subject.split("/")[1] == host:
            found[subject].append(Entry(key, plain(name), stated(entry)))
    for subject, here in found.items():
        same = [entry for entry in here if entry.name == plain(subject.split("/", 2)[2])]
        found[subject] = same or here
    return found


def stated(entry: dict[str, Any]) -> frozenset[str]:
    """The words that an entry states: by a flag, or among the modalities of what it reads."""
    flags = {word for word, flag in FLAGS.items() if entry.get(flag) is True}
    return frozenset(flags | ({"image", "audio"} & set(entry.get("supported_modalities") or ())))


def plain(name: str) -> str:
    """A name without its path, place, date, version and punctuation."""
    short = name.lower().rpartition("/")[2]
    short = re.sub(r"^(us|eu|apac|global|au|jp|ca|in|us-gov)\.(?=[a-z])", "", short)
    short = re.sub(r"[-@](20\d{2}-?\d{2}-?\d{2}|latest|default)(?=$|[-:])", "", short)
    short = re.sub(r"-v\d(:\d+)?$|:0$", "", short)
    return re.sub(r"[^a-z0-9]+", "-", short)


def agreed(subject: str, here: list[Entry]) -> tuple[frozenset[str], str]:
    """What every entry of an offering states, and a note on what only some do (rule 3)."""
    every = frozenset.intersection(*(entry.states for entry in here))
    some = frozenset.union(*(entry.states for entry in here)) - every
    notes = []
    if not any(entry.name == plain(subject.split("/", 2)[2]) for entry in here):
        notes.append(f"read from {', '.join(sorted(entry.key for entry in here)[:3])}")
    if some:
        notes.append(f"entries disagree on {', '.join(word for word in FLAGS if word in some)}")
    return every, "; ".join(notes)


def text(words: frozenset[str]) -> str:
    """The value of ``supports``: text first, then the others in the order of ``FLAGS``."""
    return "|".join(("text", *(word for word in FLAGS if word in words)))


def opened(
    at: CatalogAt, sellers: dict[str, list[tuple[str, str]]], makers: dict[str, str]
) -> list[list[str]]:
    """Rows of ``open_weights``, by rule 6."""
    known = {row.fields[0] for row in at.catalog.rows if row.fields[1] == "open_weights" and row.file != FILE}
    maker_of = {model: subject.split("/")[1] for subject, model in makers.items()}
    rows = []
    for model in sorted(sellers):
        if f"model/{model}" in known:
            continue
        if model in READ_OPEN:
            source, note = READ_OPEN[model]
            rows.append(row(f"model/{model}", "open_weights", "true", source, "published", note))
            continue
        maker = maker_of.get(model, "")
        hosts = sorted({host for host, _ in sellers[model]} - NOT_INDEPENDENT - {maker})
        if maker not in NEVER and len(hosts) >= ENOUGH:
            note = f"sold under this name by {len(hosts)} hosts that did not make it: {', '.join(hosts)}"
            rows.append(row(f"model/{model}", "open_weights", "true", OFFERS_SOURCE, "derived", note))
    return rows


def row(subject: str, attribute: str, value: str, source: str, kind: str, note: str) -> list[str]:
    """One row of the file."""
    return [subject, attribute, "", value, "", "", "", "", "", source, "", READ.isoformat(), kind, "", note]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
