"""Retrieval in the place of long context: what a search costs, what it saves, and what it did to answers."""

from __future__ import annotations

import numpy as np

from isocost.catalog import CatalogAt
from isocost.keep.stores import GB, Index, chunks, products
from isocost.prompts.lives import Cached
from isocost.prompts.price import Prices, per_month
from isocost.prompts.result import Band, Searched, Study
from isocost.prompts.sent import Sent

RETRIEVAL, VECTORS = "retrieval/any", "vectordb/any"
LEAST_FRAC = 0.05
"""Workloads with fewer long prompts are left out."""


def searched(sent: Sent, prices: Prices, streams: list[Cached]) -> list[Searched]:
    """Workloads with long prompts: today's bill, with the cheapest cache, against search and a few chunks."""
    at = sent.catalog.at(sent.on)
    found = []
    for one in streams:
        whole = sent.table.input_tok[one.rows].astype(np.int64)
        long = whole >= at.number(RETRIEVAL, "long_tok")
        if long.mean() < LEAST_FRAC:
            continue
        told = _searched(sent, prices, at, one, np.flatnonzero(long))
        if told is not None:
            found.append(told)
    return found


def studies(at: CatalogAt) -> list[Study]:
    """Published comparisons of answers with retrieval and with the whole text."""
    return [
        Study(
            at.text(fact.subject, "title"), at.text(fact.subject, "model"), at.text(fact.subject, "asked_on"),
            float(fact.value), fact.source,
        )
        for fact in at.each("study/", "delta_points")
    ]  # fmt: skip


def _searched(sent: Sent, prices: Prices, at: CatalogAt, one: Cached, at_long: np.ndarray) -> Searched | None:
    rows = one.rows[at_long]
    whole = sent.table.input_tok[rows].astype(np.int64)
    output = sent.table.output_tok[rows].astype(np.int64)
    rates = prices.rates().of(rows)
    kept = None if one.kept is None else type(one.kept)(*(part[at_long] for part in one.kept))
    today = rates.bill(whole, output, kept, one.write_meter)
    if not np.isfinite(today).all():
        return None
    chunk = at.number(RETRIEVAL, "chunk_tok")
    query = at.number(RETRIEVAL, "query_tok")
    # What is no document of a prompt is not known apart: taken as long as the workload's shortest prompts.
    every = sent.table.input_tok[one.rows]
    base = min(float(np.quantile(every, 0.05)), float(whole.mean()) / 4.0)
    unique, source = _unique_tok(sent, rows, whole)
    embed, embed_usd_per_tok = at.text(RETRIEVAL, "embedding"), 0.0
    price = at.find(f"api/{embed}", "input_usd_per_mtok")
    if price is None:
        return None
    embed_usd_per_tok = float(price.value) / 1e6
    rerank = at.fact("rerank/cohere", "usd_per_search")
    n, months = len(rows), sent.months
    overlap = at.number(RETRIEVAL, "overlap_frac")
    store = _store(at, unique * months, n * months)
    embed_usd = embed_usd_per_tok * (unique / (1.0 - overlap) + n * query) * months

    def saved(kept_chunks: float, rerank_usd: float, store_usd: float) -> tuple[np.ndarray, np.ndarray]:
        then_tok = np.minimum(whole, np.int64(round(base + query + kept_chunks * chunk)))
        then = rates.bill(then_tok, output)
        fixed = (embed_usd + store_usd) / max(months, 1e-12) / n
        return today - then - rerank_usd - fixed, then

    count = at.fact(RETRIEVAL, "kept_chunks")
    mid, then = saved(float(count.value), float(rerank.value), store[1])
    ends = (
        float(saved(float(count.high or count.value), float(rerank.high or rerank.value), store[3])[0].sum()),
        float(saved(float(count.low or count.value), float(rerank.low or rerank.value), store[2])[0].sum()),
    )
    return Searched(
        workload=one.told.workload,
        model=one.told.model,
        requests=n,
        long_frac=n / len(one.rows),
        mean_tok=float(whole.mean()),
        then_tok=base + query + float(count.value) * chunk,
        today_usd=float(today.sum()) * months,
        model_usd=float(then.sum()) * months,
        embed_usd=embed_usd,
        rerank_usd=float(rerank.value) * n * months,
        store_usd=store[1],
        store=store[0],
        unique_mtok=unique * months / 1e6,
        unique_from=source,
        saves=Band(*per_month(sent, rows, mid, ends)),
    )


def _unique_tok(sent: Sent, rows: np.ndarray, whole: np.ndarray) -> tuple[float, str]:
    """Tokens of text that these prompts hold, each text once, and how that is known."""
    if sent.pieces is not None and sent.tok is not None:
        from isocost.prompts.sent import taken

        found, tok = taken(sent.pieces, sent.tok, rows)
        _, first = np.unique(found.ids, return_index=True)
        return float(tok[first].sum()), "its prompts' parts, each counted once"
    prompts = sent.blocks_of(rows)
    if prompts is not None:
        _, first = np.unique(prompts.nodes, return_index=True)
        return float(prompts.tok[first].sum()), "its prefixes, each counted once"
    return float(whole.sum()), "every prompt taken as new text, as the log does not say"


def _store(at: CatalogAt, tok: float, queries: float) -> tuple[str, float, float, float]:
    """The middle of all vector databases for so much text: its name, dollars a month, cheapest, dearest."""
    pieces = chunks(tok, at.number(RETRIEVAL, "chunk_tok"), at.number(RETRIEVAL, "overlap_frac"))
    elements = pieces * at.number(RETRIEVAL, "dimensions")
    raw = elements * at.number(VECTORS, "bytes_per_element") + pieces * at.number(VECTORS, "metadata_bytes")
    indexed = raw / GB * at.number(VECTORS, "index_ratio")
    hot = indexed * at.number(VECTORS, "hot_frac")
    found = products(at, Index(elements, raw / GB, indexed, hot, raw / GB, queries))
    middle = found[len(found) // 2]
    return middle.title, middle.usd_per_month, found[0].usd_per_month, found[-1].usd_per_month
