"""Commitments that could be signed: their length, and the share of the on-demand rent that they take off.

Facts read: ``commitment/*`` (off_frac, term_months).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isocost.catalog import CatalogAt
from isocost.deployment import Pool, rent


@dataclass(frozen=True)
class Term:
    """A way to commit: paid for ``months`` at ``price_ratio`` of the on-demand rent of its signing day.

    ``quoted``: somebody's price; else the usual discount.
    """

    name: str
    words: str
    months: int
    price_ratio: float
    facts: tuple[str, ...]
    quoted: bool = True


WORDS: Mapping[str, str] = {
    "reserved_1y": "1 year",
    "reserved_3y": "3 years",
    "capacity_block": "capacity block",
}


def terms_of(at: CatalogAt, pool: Pool) -> list[Term]:
    """Terms on which a pool's accelerators can be had: by quote, else by the usual share off.

    A term that costs no less than renting by the hour is left out.
    """
    found = []
    for name, words in WORDS.items():
        length = at.find(f"commitment/{name}", "term_months")
        if length is None:
            continue
        quote, off = rent(at, pool.gpu, name, pool.gpus), at.find(f"commitment/{name}", "off_frac")
        if quote is not None:
            ratio, facts = quote.usd_per_gpu_h / pool.usd_per_gpu_h, (quote.fact.id,)
        elif off is not None:
            ratio, facts = 1.0 - float(off.value), (off.id,)
        else:
            continue
        if ratio < 1.0:
            found.append(Term(name, words, int(float(length.value)), ratio, facts, quote is not None))
    return found


def signed_for(at: CatalogAt, pool: Pool, months_most: int | None) -> Term | None:
    """The cheapest term of a plan for a month; ``None``: rented by the hour.

    Up to ``months_most`` months, on quotes or at the usual discount; where nobody says how long may be
    signed (``None``), a quoted year at most.
    """
    terms = terms_of(at, pool)
    if months_most is None:
        terms = [term for term in terms if term.name == "reserved_1y" and term.quoted]
    else:
        terms = [term for term in terms if term.months <= months_most]
    return min(terms, key=lambda term: (term.price_ratio, term.months), default=None)
