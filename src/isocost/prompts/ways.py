"""The ways in which providers keep prefixes, from facts: lives, least lengths, steps, what filling costs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from isocost.catalog import CatalogAt, Fact
from isocost.catalog.names import Offering
from isocost.replay.reuse import Life


class CacheWay(NamedTuple):
    """A way of prompt caching. ``life``, ``short`` and ``long`` hold its facts at their value, low and high.

    ``marked``: the caller says what is kept. ``stored``: keeping it is billed by the hour. ``write_meter`` is
    what filling it is billed as. ``offering`` prices it where today's model is sold by somebody else.
    """

    id: str
    title: str
    providers: tuple[str, ...]
    models: tuple[str, ...]
    write_meter: str
    marked: bool
    stored: bool
    offering: str
    life: Life
    short: Life
    long: Life

    def serves(self, offering: Offering) -> bool:
        """Whether an offering's prompts may be cached this way."""
        name = offering.subject.split("/", 2)[2].rpartition("/")[2].lower()
        whole = offering.subject.split("/", 2)[2].lower()
        mine = offering.provider in self.providers
        return mine and any(fnmatchcase(name, one) or fnmatchcase(whole, one) for one in self.models)


def cache_ways(at: CatalogAt) -> tuple[CacheWay, ...]:
    """Every way that the catalog knows, in its order."""
    return tuple(_way(at, fact.subject) for fact in at.each("cache/", "title"))


def _way(at: CatalogAt, subject: str) -> CacheWay:
    life, found = at.fact(subject, "life_s"), at.fact(subject, "found_frac")
    step = int(at.number(subject, "step_tok"))

    def ends(which: int) -> Life:
        life_s, found_frac = (_end(one, which) for one in (life, found))
        return Life(life_s, 0, step, found_frac)

    return CacheWay(
        id=subject.partition("/")[2],
        title=at.text(subject, "title"),
        providers=tuple(at.text(subject, "providers").split("|")),
        models=tuple(at.text(subject, "models").split("|")),
        write_meter=at.text(subject, "write_meter"),
        marked=at.text(subject, "marked") == "true",
        stored=at.text(subject, "stored") == "true",
        offering=at.text(subject, "offering"),
        life=ends(0),
        short=ends(-1),
        long=ends(1),
    )


def _end(fact: Fact, which: int) -> float:
    """A fact's value, or its low (-1) or high (1) end where it has one."""
    end = fact.low if which < 0 else fact.high if which > 0 else None
    return float(fact.value if end is None else end)
