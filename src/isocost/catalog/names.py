"""From the model name in a log to the offering that the catalog prices.

Logs spell one model in many ways: the provider's own id, a dated snapshot, a cloud's id, a proxy's prefix
(``bedrock/``, ``together_ai/``). A name that fits nothing, or several hosts equally, is an error with the
nearest names: a guess here is a wrong bill later.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
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
    unknown. ``region`` is a place that the name itself stated (``azure/eu/gpt-4o``).
    """

    subject: str
    provider: str
    serves: str = ""
    region: str = ""

    @property
    def id(self) -> str:
        """``provider/model`` as a person would type it."""
        return f"{self.provider}/{self.subject.split('/', 2)[2]}"


@dataclass
class _Host:
    """The names of one provider: exact ones, and patterns in the order of the file.

    A pattern is compiled when the first name reaches it, because most names are exact.
    """

    exact: dict[str, str] = field(default_factory=dict)
    patterns: list[tuple[str, str]] = field(default_factory=list)
    compiled: list[tuple[re.Pattern[str], str]] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    resells: tuple[str, ...] = ()

    def find(self, name: str) -> str | None:
        """The subject that a name stands for at this provider."""
        return self.exact.get(name) or self.match(name)[0]

    def match(self, name: str) -> tuple[str | None, int]:
        """The first subject whose pattern fits, and how much of the name it explains."""
        if len(self.compiled) < len(self.patterns):
            self.compiled = [(re.compile(text), subject) for text, subject in self.patterns]
        for pattern, subject in self.compiled:
            found = pattern.search(name)
            if found:
                return subject, found.end() - found.start()
        return None, 0


@dataclass
class _Index:
    """Names of every provider, made once for a catalog."""

    hosts: dict[str, _Host] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


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
_PLACE = re.compile(r"^(us|eu|apac|global|[a-z]{2}(-gov)?-[a-z]+-?\d+)$")
_WHOLE_NAME = re.compile(r"^\^(?:[^\\.+*?()\[\]{}|^$]|\\[^a-zA-Z0-9])+\$$")
_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def resolve(catalog_at: CatalogAt, name: str, provider: str = "") -> Offering:
    """The offering that a logged model name stands for.

    ``provider`` is what the log says of the provider, in any spelling that the catalog knows; where it is
    blank, a prefix of the name (``openai/``, ``bedrock/``) says it, else a bare name means the offering of
    the company that made the model. Costs some 10 to 100 microseconds: ask once for each distinct name.

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
    for spelling in _spellings(clean):
        found = _at_host(index, host, spelling) if host else _anywhere(index, spelling, name)
        if found is not None:
            subject, billed_by, place = found
            serves = catalog_at.find(subject, "serves")
            return Offering(subject, billed_by, str(serves.value) if serves else "", place)
    known = (
        index.hosts[host].exact if host else {n: s for h in index.hosts.values() for n, s in h.exact.items()}
    )
    raise UnknownModel(
        f"no model {name!r}{f' at {host}' if host else ''}", where="catalog", fix=_near(clean, known, "model")
    )


def deprecated(catalog_at: CatalogAt, subject: str) -> bool:
    """Whether the provider withdraws an offering: priced in old logs, no candidate of a plan."""
    return catalog_at.find(subject, "deprecated") is not None


def _index(catalog: Catalog) -> _Index:
    """Read the names out of the catalog."""
    index = _Index()
    everywhere = catalog.at(date.max, expected=True)
    own = {fact.subject for fact in everywhere.each("api/", "originator")}
    patterns = {fact.subject: str(fact.value) for fact in everywhere.each("api/", "match")}
    for subject in catalog.subjects("api/"):
        _, provider, model = subject.split("/", 2)
        host = index.hosts.setdefault(provider, _Host())
        host.exact[model.lower()] = subject
        if subject in own:
            host.own.add(subject)
    for subject, pattern in patterns.items():
        host = index.hosts[subject.split("/", 2)[1]]
        literals, rest = _literals(pattern)
        for literal in literals:
            host.exact.setdefault(literal, subject)
        if rest:
            host.patterns.append((rest, subject))
    for provider in index.hosts:
        index.aliases[provider] = provider
    for fact in everywhere.each("provider/", "aliases"):
        provider = fact.subject.partition("/")[2]
        index.aliases |= dict.fromkeys(str(fact.value).split(), provider)
    for fact in everywhere.each("provider/", "resells"):
        provider = fact.subject.partition("/")[2]
        index.hosts.setdefault(provider, _Host()).resells = tuple(str(fact.value).split())
    return index


def _literals(pattern: str) -> tuple[list[str], str]:
    """The whole names that a pattern lists (``^gpt-4$|^gpt-4-0613$``), and what is left of it."""
    if "(" in pattern:
        return [], pattern
    literals, rest = [], []
    for part in pattern.split("|"):
        if _WHOLE_NAME.match(part):
            literals.append(re.sub(r"\\(.)", r"\1", part[1:-1]))
        else:
            rest.append(part)
    return literals, "|".join(rest)


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
    subject = here.find(name)
    if subject is None:
        for other in here.resells:
            subject = index.hosts[other].find(name) if other in index.hosts else None
            if subject is not None:
                break
    if subject is not None:
        return subject, host, place
    head, slash, rest = name.partition("/")
    if not slash:
        return None
    if _PLACE.match(head):
        return _at_host(index, host, rest, head)
    return _at_host(index, host, rest, place)


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
                f"{logged!r} is sold by {len(hits)} providers", where="catalog", fix=f"Say which: {hosts}"
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
