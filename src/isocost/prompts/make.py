"""Everything that a log's prompts say, put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

import numpy as np

from isocost.catalog import Catalog
from isocost.prompts.fixes import fixes
from isocost.prompts.lengths import trims
from isocost.prompts.lives import lives
from isocost.prompts.price import Prices
from isocost.prompts.result import Prompts
from isocost.prompts.rules import simple
from isocost.prompts.searched import searched, studies
from isocost.prompts.sent import Kind, Sent, read
from isocost.prompts.wait import filled, waiting
from isocost.trace.profile import WEEK_DAYS
from isocost.trace.schema import Trace
from isocost.units import money, percent, span

VIEWS = ("prefixes", "caches", "waiting", "retrieval", "lengths", "rules")
"""What may be asked for, in the order in which it is told."""

KNOWN: Mapping[Kind, str] = {
    "words": "the log has the words of prompts: they were compared here and nothing of them is kept or sent",
    "parts": "the log names the parts of prompts by themselves, without their words",
    "prefixes": (
        "the log names prefixes by chained hashes: the same text behind another beginning has another name, "
        "so what breaks a prefix cannot be seen; export the words, or hashes of each block by itself"
    ),
    "none": (
        "the log has neither words of prompts nor hashes of their blocks: prefixes and lives of caches "
        "cannot be told; log the messages, or hashes of blocks"
    ),
}


def make(
    trace: Trace,
    catalog: Catalog,
    on: date,
    *,
    now: str = "",
    declared_s: Mapping[str, float | None] | None = None,
    views: Collection[str] = VIEWS,
) -> Prompts:
    """What a log's prompts cost by their shape.

    ``trace`` is one that ``open_trace(..., prompts=True)`` read; ``now`` names today's model where the log
    does not; ``declared_s`` how long answers of a workload may take. ``views`` leaves out what is not asked.

    Raises:
        BadTrace: no request to be made again, or rows are sums over several.
        UnknownModel: ``now`` is not in the catalog.
    """
    sent = read(trace, catalog, on, now)
    prices = Prices(sent)
    usd = prices.logged(np.arange(len(sent.table)))
    priced = np.isfinite(usd)
    asked = frozenset(views)
    told = fixes(sent, prices) if "prefixes" in asked else None
    streams = lives(sent, prices) if asked & {"caches", "retrieval"} else []
    waits = waiting(sent, prices, declared_s or {}) if "waiting" in asked else []
    may = {one.workload for one in waits if one.may in ("declared", "likely")}
    at = catalog.at(on)
    return Prompts(
        title=trace.title,
        views=tuple(one for one in VIEWS if one in asked),
        priced_on=on.isoformat(),
        requests=len(sent.table),
        days=sent.days,
        usd_per_month=float(usd[priced].sum()) * sent.months,
        at_least=not bool(priced.all()),
        known=sent.kind,
        known_says=KNOWN[sent.kind],
        found=told.found if told is not None else [],
        found_saves=told.saves if told is not None else None,
        lost_frac=told.lost_frac if told is not None else None,
        lives=[one.told for one in streams] if "caches" in asked else [],
        waiting=waits,
        filled=filled(sent, may) if waits else [],
        trims=trims(sent, prices) if "lengths" in asked else [],
        searched=searched(sent, prices, streams) if "retrieval" in asked else [],
        studies=studies(at) if "retrieval" in asked else [],
        simple=simple(sent, prices) if "rules" in asked else [],
        notes=_notes(sent, prices),
    )


def _notes(sent: Sent, prices: Prices) -> list[str]:
    found = []
    if sent.table.cached_tok is not None:
        whole, output = sent.table.input_tok.astype(np.int64), sent.table.output_tok.astype(np.int64)
        read = float(sent.table.cached_tok.sum(dtype=np.int64)) / float(whole.sum())
        paid = prices.logged(np.arange(len(whole)))
        saved = float(np.nansum(prices.rates().bill(whole, output) - paid)) * sent.months
        found.append(
            f"as logged, {percent(read)} of the input was read from a cache, which saves {money(saved)} "
            "a month against none"
        )
    if sent.unknown:
        found.append(f"no price is known of {', '.join(sent.unknown[:4])}: the total says at least")
    if not sent.months:
        found.append("all requests come at one instant: what a month costs is not known")
    elif sent.days < WEEK_DAYS:
        found.append(f"{span(sent.days)} stand for a month, as if every day were like these")
    return found
