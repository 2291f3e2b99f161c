"""Commitments that could be signed: their length, and the share of the on-demand rent that they take off.

Facts read: ``commitment/*`` (off_frac, term_months).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isocost.catalog import CatalogAt
from isocost.plan.market.pools import PoolOption


@dataclass(frozen=True)
class Term:
    """A way to commit: paid for ``months`` at ``price_ratio`` of the on-demand rent of its signing day."""

    name: str
    words: str
    months: int
    price_ratio: float
    facts: tuple[str, ...]


WORDS: Mapping[str, str] = {
    "reserved_1y": "1 year",
    "reserved_3y": "3 years",
    "capacity_block": "capacity block",
}


def terms_of(at: CatalogAt, option: PoolOption) -> list[Term]:
    """Terms on which a pool's accelerators can be had: by quote, else by the usual share off.

    A term that costs no less than renting by the hour is left out.
    """
    found = []
    on_demand = option.pool.usd_per_gpu_h
    for name, words in WORDS.items():
        length = at.find(f"commitment/{name}", "term_months")
        if length is None:
            continue
        quote, off = option.rents.get(name), at.find(f"commitment/{name}", "off_frac")
        if quote is not None:
            ratio, facts = quote.usd_per_gpu_h / on_demand, (quote.fact.id,)
        elif off is not None:
            ratio, facts = 1.0 - float(off.value), (off.id,)
        else:
            continue
        if ratio < 1.0:
            found.append(Term(name, words, int(float(length.value)), ratio, facts))
    return found
