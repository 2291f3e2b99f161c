"""From the model name in a log to the offering that the catalog prices.

Logs spell one model in many ways: the provider's own id, a dated snapshot, a cloud's id, a proxy's prefix
(``bedrock/``, ``together_ai/``). A name that fits nothing, or several hosts equally, is an error with the
nearest names: a guess here is a wrong bill later.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import msgspec

from isocost.catalog.catalog import Catalog, CatalogAt
from isocost.errors import UnknownModel


class Offering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as somebody sells it.

    ``subject`` holds the prices (``api/openai/gpt-4.1``); ``provider`` is who bills, whose rules apply: the
    same as in the subject, save where a cloud sells a maker's offering at the maker's list price
    (``azure`` and ``api/openai/gpt-4.1``). ``serves`` is the id of the model that answers, blank where
    unknown. ``region`` is a place, ``tier`` a service tier that the name itself stated
    (``azure/eu/gpt-4o``, ``anthropic/claude-opus-5.5:batch``).
    """

    subject: str
    provider: str
    serves: str = ""
    region: str = ""
    tier: str = ""

    @property
    def id(self) -> str:
        """``provider/model`` as a person would type it."""
        return f"{self.provider}/{self.subject.split('/', 2)[2]}"


SOLD_BY_MANY = "is sold by"
"""What the refusal says of a name that is known, but at several providers."""


@dataclass
class _Host:
    """The names of one provider: whole names, and tests of parts of a name in the order of the file."""

    exact: dict[str, str] = field(default_factory=dict)
    tests: list[tuple[str, str, str]] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    resells: tuple[str, ...] = ()

    def find(self, name: str) -> str | None:
        """The subject that a name stands for at this provider."""
        return self.exact.get(name) or self.match(name)[0]

    def match(self, name: str) -> tuple[str | None, int]:
        """The first subject one of whose tests fits, and how much of the name it explains."""
        for how, text, subject in self.tests:
            if how == "starts":
                fits = len(text) if name.startswith(text) else 0
            elif how == "holds":
                fits = len(text) if text in name else 0
            elif how == "ends":
                fits = len(text) if name.endswith(text) else 0
            else:
                found = re.search(text, name)
                fits = found.end() - found.start() if found else 0
            if fits:
                return subject, fits
        return None, 0


@dataclass
class _Index:
    """Names of every provider, made once for a catalog."""

    hosts: dict[str, _Host] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


# What makes a subject an offering: other facts (its measured speed) may stand before its price is known.
_PRICED = ("input_usd_per_mtok", "output_usd_per_mtok", "audio_input_usd_per_mtok", "usd_per_request")

# Path parts that say how a cloud is called, not which model.
_ROUTES = frozenset(
    {
        "accounts",
        "models",
        "converse",
        "converse_like",
        "invoke",
        "chat",
        "responses",
        "publishers",
        "deployments",
    }
)
# Tiers that OpenRouter writes into a model's name.
_TIERS: Mapping[str, str] = {":batch": "batch", ":free": "free"}
_PLACE = re.compile(r"^(us|eu|apac|au|jp|global|us-gov|[a-z]{2}(-gov)?-[a-z]+-?\d+)$")
_LITERAL = re.compile(r"(?:[^\\.+*?()\[\]{}|^$]|\\[^a-zA-Z0-9])+")
_ESCAPED = re.compile(r"\\(.)")
_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def resolve(catalog_at: CatalogAt, name: str, provider: str = "", nearest: bool = True) -> Offering:
    """The offering that a logged model name stands for.

    ``provider`` is what the log says of the provider, in any spelling that the catalog knows; where it is
    blank, a prefix of the name (``openai/``, ``bedrock/``) says it, else a bare name means the offering of
    the company that made the model. Costs some 10 to 100 microseconds: ask once for each distinct name.
    An error names the ``nearest`` names, which takes a thousand times as long, unless told not to.

    Raises:
        UnknownModel: no offering fits, or several hosts of the same weights do and nothing says which.
    """
    index = catalog_at.catalog.once(_index)
    clean = name.strip().lower()
    host = index.aliases.get(provider.strip().lower())
    if provider.strip() and host is None and provider.strip().lower() not in ("unknown", "custom"):
        raise UnknownModel(
            f"no provider {provider!r}",
            where=name,
            fix=_near(provider.lower(), index.aliases, "provider"),
        )
    plain, tier = clean, ""
    for ending, named in _TIERS.items():
        if clean.endswith(ending):
            plain, tier = clean.removesuffix(ending), named
    for spelling in _spellings(plain):
        found = _at_host(index, host, spelling) if host else _anywhere(index, spelling, name)
        if found is not None:
            subject, billed_by, place = found
            serves = catalog_at.find(subject, "serves")
            return Offering(subject, billed_by, str(serves.value) if serves else "", place, tier)
    known = (
        index.hosts[host].exact if host else {n: s for h in index.hosts.values() for n, s in h.exact.items()}
    )
    raise UnknownModel(
        f"no model {name!r}{f' at {host}' if host else ''}", where="catalog",
        fix=_near(clean, known, "model") if nearest else "",
    )  # fmt: skip


def provider_named(catalog: Catalog, name: str) -> str:
    """The catalog's name of a provider, in whatever spelling it is known; else the name as it is."""
    clean = name.strip().lower()
    return catalog.once(_index).aliases.get(clean, clean)


def providers(catalog: Catalog) -> frozenset[str]:
    """The providers that the catalog has offerings of, by its own names."""
    return frozenset(catalog.once(_index).hosts)


def deprecated(catalog_at: CatalogAt, subject: str) -> bool:
    """Whether the provider withdraws an offering: priced in old logs, no candidate of a plan."""
    return catalog_at.find(subject, "deprecated") is not None


def _index(catalog: Catalog) -> _Index:
    """Read the names out of the catalog."""
    index = _Index()
    everywhere = catalog.at(date.max, expected=True)
    own = set(catalog.having("originator", "api/"))
    patterns = [(fact.subject, str(fact.value)) for fact in everywhere.each("api/", "match")]
    priced = [subject for attribute in _PRICED for subject in catalog.having(attribute, "api/")]
    for subject in dict.fromkeys(priced):
        _, provider, model = subject.split("/", 2)
        host = index.hosts.setdefault(provider, _Host())
        host.exact[model.lower()] = subject
        if subject in own:
            host.own.add(subject)
    for subject, pattern in patterns:
        host = index.hosts.setdefault(subject.split("/", 2)[1], _Host())
        for how, text in _parts(pattern):
            if how == "is":
                host.exact.setdefault(text, subject)
            else:
                host.tests.append((how, text, subject))
    for provider in index.hosts:
        index.aliases[provider] = provider
    for fact in everywhere.each("provider/", "aliases"):
        provider = fact.subject.partition("/")[2]
        index.aliases |= dict.fromkeys(str(fact.value).split(), provider)
    for fact in everywhere.each("provider/", "resells"):
        provider = fact.subject.partition("/")[2]
        index.hosts.setdefault(provider, _Host()).resells = tuple(str(fact.value).split())
    return index


def _parts(pattern: str) -> Iterator[tuple[str, str]]:
    """The alternatives of a pattern as plain tests of a name, which are many times faster to make."""
    if "(" in pattern:
        yield "fits", pattern
        return
    for part in pattern.split("|"):
        body = part.removeprefix("^")
        ends = body.endswith("$") and not body.endswith("\\$")
        body = body[:-1] if ends else body
        if not _LITERAL.fullmatch(body):
            yield "fits", part
        elif part.startswith("^"):
            yield "is" if ends else "starts", _ESCAPED.sub(r"\1", body)
        else:
            yield "ends" if ends else "holds", _ESCAPED.sub(r"\1", body)


def _spellings(name: str) -> Iterator[str]:
    """The name, then with a compact date spread out, then with Vertex's ``@`` read as a dash."""
    yield name
    spread = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
    if spread != name:
        yield spread
    if "@" in name:
        yield name.replace("@", "-")


def _at_host(index: _Index, host: str, name: str, place: str = "") -> tuple[str, str, str] | None:
    """(subject, who bills, place) of a name at a provider, with prefixes peeled off one by one."""
    here = index.hosts[host]
    head, slash, rest = name.partition("/")
    placed = bool(_PLACE.match(head))
    if slash and name not in here.exact and (placed or index.aliases.get(head) == host):
        # Before the name as a whole: what holds "o4-mini" also holds "eu/o4-mini", and would lose the place.
        found = _at_host(index, host, rest, head if placed else place)
        if found is not None:
            return found
    subject = here.find(name)
    if subject is None:
        for other in here.resells:
            subject = index.hosts[other].find(name) if other in index.hosts else None
            if subject is not None:
                break
    if subject is not None:
        return subject, host, place
    return _at_host(index, host, rest, place) if slash else None


def _anywhere(index: _Index, name: str, logged: str) -> tuple[str, str, str] | None:
    """(subject, who bills, place) of a name without a provider."""
    head, slash, rest = name.partition("/")
    if slash and head in index.aliases:
        found = _at_host(index, index.aliases[head], rest)
        if found is not None:
            return found
    if slash and (head in _ROUTES or _PLACE.match(head)):
        return _anywhere(index, rest, logged)
    for made_here, exact in ((True, True), (True, False), (False, True), (False, False)):
        hits: dict[str, str] = {}
        most = 0
        for host, here in index.hosts.items():
            if made_here and not here.own:
                continue
            subject, explained = (here.exact.get(name), 0) if exact else here.match(name)
            if subject is None or (subject in here.own) != made_here or explained < most:
                continue
            if explained > most:
                hits.clear()
            hits[host], most = subject, explained
        if len(hits) > 1:
            hosts = ", ".join(
                f"{host}/{subject.split('/', 2)[2]}" for host, subject in list(hits.items())[:4]
            )
            raise UnknownModel(
                f"{logged!r} {SOLD_BY_MANY} {len(hits)} providers", where="catalog", fix=f"Say which: {hosts}"
            )
        if hits:
            host, subject = next(iter(hits.items()))
            return subject, host, ""
    return None


def _near(name: str, known: dict[str, str], what: str) -> str:
    """The nearest names, and how to add one's own."""
    short = {full.rpartition("/")[2]: full for full in known}
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    close += [
        short[hit] for hit in difflib.get_close_matches(name.rpartition("/")[2], short, n=3, cutoff=0.6)
    ]
    near = f"Near: {', '.join(list(dict.fromkeys(close))[:3])}. " if close else ""
    return f"{near}To add your own {what}, put its facts as CSV in a folder and type --facts DIR"
