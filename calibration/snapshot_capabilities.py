"""Write facts/capabilities.csv from two tables of models and from the offers that the catalog holds.

Run by hand when models change: ``python calibration/snapshot_capabilities.py TABLE FOLDER``, where TABLE is
``model_prices_and_context_window_backup.json`` of the litellm package and FOLDER a copy of the models.dev
repository; read the diff; commit it. Nothing of isocost imports this file, that package or that folder.

Rules of the snapshot, each stated so that it can be argued with:

1. An entry of the table belongs to the offering that its provider (``HOSTS``) and name resolve to. Where
   some entries of an offering are spelled as its id is (dates, ``-latest`` and places aside), only those
   count; else every entry that resolves to it does.
2. A flag that is true states a capability (``FLAGS``), and so does an image or audio among the modalities
   listed; a flag that is false or absent does not. An entry without any flag says nothing, and one that is
   not for text (``MODES``) is left out.
3. Entries of one offering that disagree count with what all of them state and with the shortest context;
   the note says what only some state.
4. Of a maker's own offering that the table does not hold, models.dev speaks (``DEV_MAKERS``), by the
   same rules and only where spelled as the id is. Of other hosts it does not: their files inherit from
   the maker's.
5. A model that models.csv does not speak of has what its maker's own offering has. Images and sound of
   weights that others serve too need more than half of those hosts to state them as well, because a
   maker's endpoint may route to a sibling.
6. A maker's own offering has a row only where it differs from its model.
7. A context is written only where no other file of facts holds one; that of a model only where an
   offering of it would have none.
8. ``open_weights`` where the place of the weights was read (``READ_OPEN``; models.dev where the file is
   named as the model is and gives the address of its weights), or where ``ENOUGH`` hosts that are neither
   the maker nor in ``NOT_INDEPENDENT`` sell the model under the maker's name: a maker does not lend
   closed weights to that many. A maker of ``NEVER`` is never judged by the count. Faster servings of a
   model (``SERVINGS``) are no weights of their own, nor are names that move (``MOVING``).
9. ``regions`` only where a page says so of every offering of a provider (``REGIONS``): a wrong one would
   send tokens where they may not go.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from facts_file import COLUMNS, write

from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.names import resolve
from isocost.errors import UnknownModel

FILE = "capabilities.csv"
READ = date(2026, 11, 23)
TABLE_SOURCE = "litellm-1.109.1-models"
DEV_SOURCE = "models-dev-f3fc692"
OFFERS_SOURCE = "genai-prices-0.2.3"

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
    "meta": "meta",
    "meta_llama": "meta",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "azure": "azure",
    "azure_ai": "azure",
}  # fmt: skip
VERTEX = "vertex_ai"
DEV_MAKERS = {
    **{name: name for name in (
        "openai", "anthropic", "google", "mistral", "deepseek", "cohere", "moonshotai", "zai", "minimax",
        "perplexity",
    )},
    "xai": "x-ai",
}  # fmt: skip

ENOUGH = 3
NOT_INDEPENDENT = frozenset(
    (
        "openrouter", "azure", "aws", "google", "databricks", "github-copilot", "cursor", "perplexity",
        "cloudflare",
    )
)  # fmt: skip
NEVER = frozenset(("openai", "anthropic", "google", "x-ai", "cohere", "perplexity", "voyageai"))

# Names that move to the next weights are no weights.
MOVING = frozenset(("deepseek-chat", "deepseek-reasoner"))
NO_CHAT = re.compile(r"embed|image|tts")
SERVINGS = re.compile(r"(highspeed|turbo|flashx|airx)$")

# model: (source, note); what was read, not what is remembered.
READ_OPEN: dict[str, tuple[str, str]] = {
    "glm-5.3": ("miles-3240", "names the weights as zai-org/GLM-5.3-BF16"),
    "glm-5.3-flash": ("ds4-1040", "names the weights as zai-org/GLM-5.3-Flash"),
    "kimi-k3": (
        "xinference-5417",
        "its registry calls the model open-weight and lists builds of the weights",
    ),
    "gpt-oss-safeguard-20b": ("gpt-oss-safeguard-card", "Apache-2.0"),
}

# provider: (regions that all its offerings answer from, source, quote)
REGIONS = {"ovhcloud": ("eu", "docker-agent-ovhcloud", "OpenAI-compatible API, hosted in the EU")}


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its key, the plain form of its name, the words it states, its context."""

    key: str
    name: str
    states: frozenset[str]
    context_tok: int | None


@dataclass(frozen=True)
class Said:
    """What the entries of one offering say together, where, and what to note."""

    states: frozenset[str]
    context_tok: int | None
    source: str
    note: str


def main(table: Path, folder: Path) -> None:
    """Write the facts; say how many of each kind."""
    at = Catalog.load().at(READ)
    makers = {subject: serves(at, subject) for subject in at.catalog.having("originator", "api/")}
    said = {
        subject: together(subject, here, DEV_SOURCE)
        for subject, here in by_offering(at, of_folder(folder)).items()
        if subject in makers and here[0].name == plain(subject.split("/", 2)[2])
    }
    for subject, here in by_offering(at, of_table(json.loads(table.read_text()))).items():
        said[subject] = together(subject, here, TABLE_SOURCE)
    sellers = sold_by(at)
    models = of_models(said, makers, sellers)
    rows = []
    for name, what in sorted(models.items()):
        offers = [f"api/{host}/{offer}" for host, offer in sellers[name]]
        if all(held(at, o, "context_tok") or (o in said and said[o].context_tok) for o in offers):
            what = replace(what, context_tok=None)
        rows += rows_of(at, f"model/{name}", what, what.states)
    for subject, what in sorted(said.items()):
        model = serves(at, subject)
        if model:
            own = subject in makers and model in models
            same = own and models[model].states == what.states and not held(at, f"model/{model}", "supports")
            rows += rows_of(at, subject, what, None if same else what.states)
    rows += opened(at, sellers, makers, folder)
    for provider, (regions, source, quote) in REGIONS.items():
        place = row(f"provider/{provider}", "regions", regions, source, "published", "")
        place[COLUMNS.index("quote")] = quote
        rows.append(place)
    write(FILE, rows)
    counts = Counter((row[0].partition("/")[0], row[1], row[9]) for row in rows)
    for (kind, attribute, source), count in sorted(counts.items()):
        print(f"{count:4d} {kind} {attribute} {source}")


def rows_of(at: CatalogAt, subject: str, what: Said, states: frozenset[str] | None) -> list[list[str]]:
    """The rows of one subject that no other file holds; ``None`` leaves out what it supports."""
    rows = []
    if states is not None and not held(at, subject, "supports"):
        rows.append(row(subject, "supports", text(states), what.source, "published", what.note))
    if what.context_tok and not held(at, subject, "context_tok"):
        context = row(subject, "context_tok", str(what.context_tok), what.source, "published", "")
        context[COLUMNS.index("unit")] = "tok"
        rows.append(context)
    return rows


def of_models(
    said: dict[str, Said], makers: dict[str, str], sellers: dict[str, list[tuple[str, str]]]
) -> dict[str, Said]:
    """What each model takes, by rule 5."""
    found: dict[str, Said] = {}
    for subject, model in sorted(makers.items()):
        if not model or subject not in said or model in found:
            continue
        own = said[subject]
        offers = [f"api/{host}/{name}" for host, name in sellers[model]]
        others = [said[offer].states for offer in offers if offer in said and offer not in makers]
        states, notes = own.states, [own.note] if own.note else []
        for word in sorted(states & {"image", "audio"}):
            if others and 2 * sum(word in other for other in others) <= len(others):
                states -= {word}
                notes.append(f"the maker's endpoint takes {word}, most hosts' do not")
        found[model] = Said(states, own.context_tok, own.source, "; ".join(notes))
    return found


def held(at: CatalogAt, subject: str, attribute: str) -> bool:
    """Whether another file of facts speaks of it."""
    return (subject, attribute) in at.catalog.once(elsewhere)


def elsewhere(catalog: Catalog) -> frozenset[tuple[str, str]]:
    """Subjects and attributes of the other files."""
    return frozenset((row.fields[0], row.fields[1]) for row in catalog.rows if row.file != FILE)


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


def of_table(table: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, Entry]]:
    """Host, name and entry of each row of LiteLLM's table that says something."""
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
        states = {word for word, flag in FLAGS.items() if entry.get(flag) is True}
        states |= {"image", "audio"} & set(entry.get("supported_modalities") or ())
        context = entry.get("max_input_tokens")
        tok = int(context) if isinstance(context, int | float) and context > 0 else None
        yield host, name, Entry(key, plain(name), frozenset(states), tok)


def of_folder(folder: Path) -> Iterator[tuple[str, str, Entry]]:
    """Host, name and entry of each maker's own file of models.dev."""
    for maker, host in DEV_MAKERS.items():
        place = folder / "providers" / maker / "models"
        for path in sorted(place.glob("**/*.toml")):
            entry = tomllib.loads(path.read_text())
            if "base_model" in entry:
                base = tomllib.loads((folder / "models" / f"{entry['base_model']}.toml").read_text())
                entry = base | entry
            modalities = entry.get("modalities", {})
            if NO_CHAT.search(path.stem) or "text" not in modalities.get("output", ()):
                continue
            states = {"image", "audio"} & set(modalities.get("input", ()))
            states |= {"tools"} if entry.get("tool_call") else set()
            states |= {"structured"} if entry.get("structured_output") else set()
            limits = entry.get("limit", {})
            name = path.relative_to(place).as_posix().removesuffix(".toml")
            tok = limits.get("input") or limits.get("context") or None
            yield host, name, Entry(f"{maker}/{name}", plain(name), frozenset(states), tok)


def by_offering(at: CatalogAt, entries: Iterator[tuple[str, str, Entry]]) -> dict[str, list[Entry]]:
    """The entries of each offering, by rule 1."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for host, name, entry in entries:
        try:
            subject = resolve(at, name, host).subject
        except UnknownModel:
            continue
        if subject.split("/")[1] == host:
            found[subject].append(entry)
    for subject, here in found.items():
        same = [entry for entry in here if entry.name == plain(subject.split("/", 2)[2])]
        found[subject] = same or here
    return found


def plain(name: str) -> str:
    """A name without its path, place, date, version and punctuation."""
    short = name.lower().rpartition("/")[2]
    short = re.sub(r"^(us|eu|apac|global|au|jp|ca|in|us-gov)\.(?=[a-z])", "", short)
    short = re.sub(r"[-@](20\d{2}-?\d{2}-?\d{2}|latest|default)(?=$|[-:])", "", short)
    short = re.sub(r"-v\d(:\d+)?$|:0$", "", short)
    return re.sub(r"[^a-z0-9]+", "-", short)


def together(subject: str, here: list[Entry], source: str) -> Said:
    """What every entry of an offering states, and a note on what only some do (rule 3)."""
    every = frozenset.intersection(*(entry.states for entry in here))
    some = frozenset.union(*(entry.states for entry in here)) - every
    notes = []
    if here[0].name != plain(subject.split("/", 2)[2]):
        notes.append(f"read from {', '.join(sorted(entry.key for entry in here)[:3])}")
    if some:
        notes.append(f"entries disagree on {', '.join(word for word in FLAGS if word in some)}")
    contexts = [entry.context_tok for entry in here if entry.context_tok]
    return Said(every, min(contexts, default=None), source, "; ".join(notes))


def text(words: frozenset[str]) -> str:
    """The value of ``supports``: text first, then the others in the order of ``FLAGS``."""
    return "|".join(("text", *(word for word in FLAGS if word in words)))


def opened(
    at: CatalogAt, sellers: dict[str, list[tuple[str, str]]], makers: dict[str, str], folder: Path
) -> list[list[str]]:
    """Rows of ``open_weights``, by rule 8."""
    read = dict(READ_OPEN)
    for path in sorted((folder / "models").glob("*/*.toml")):
        entry = tomllib.loads(path.read_text())
        addresses = [place["url"] for place in entry.get("weights", ()) if "url" in place]
        if entry.get("open_weights") and addresses and not path.stem.endswith("-latest"):
            read.setdefault(path.stem.lower(), (DEV_SOURCE, f"weights at {addresses[0]}"))
    maker_of = {model: subject.split("/")[1] for subject, model in makers.items()}
    rows = []
    for model in sorted(sellers):
        if held(at, f"model/{model}", "open_weights") or SERVINGS.search(model) or model in MOVING:
            continue
        if model in read:
            source, note = read[model]
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
    main(Path(sys.argv[1]), Path(sys.argv[2]))
