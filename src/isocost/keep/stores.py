"""Documents that are searched: their chunks, embeddings, vector database and copies.

Facts read: ``retrieval/any``, ``vectordb/*``, ``storage/*`` and the prices of embedding models.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from isocost.catalog import CatalogAt
from isocost.develop.book import Term, over
from isocost.errors import BadInput, UnknownFact
from isocost.keep.ask import Ask, Knowledge
from isocost.keep.book import Keep

GB, MEGA = 1e9, 1e6
RETRIEVAL, VECTORS = "retrieval/any", "vectordb/any"


class Index(NamedTuple):
    """What a vector database is asked to keep and do in a month."""

    elements: float
    raw_gb: float
    indexed_gb: float
    hot_gb: float
    written_gb: float
    queries: float


class Product(NamedTuple):
    """A vector database and what it charges a month for the index."""

    name: str
    title: str
    usd_per_month: float
    low_usd_per_month: float
    high_usd_per_month: float


def chunks(tok: float, chunk_tok: float, overlap_frac: float) -> float:
    """Chunks of a text, of which neighbours share a part.

    >>> chunks(1000.0, 100.0, 0.0), chunks(1000.0, 100.0, 0.5)
    (10.0, 20.0)
    """
    return tok / (chunk_tok * (1.0 - overlap_frac))


def _value(book: Keep, name: str, stated: float | None = None, subject: str = RETRIEVAL) -> float:
    return book.fact(subject, name, stated).value


def index_of(book: Keep, knowledge: Knowledge, requests_per_month: float) -> Index:
    """The index of documents: vectors as they are, with their graph, the part in memory, and traffic."""
    tok = knowledge.mtok * MEGA
    overlap = _value(book, "overlap_frac", knowledge.overlap_frac)
    pieces = chunks(tok, _value(book, "chunk_tok", knowledge.chunk_tok), overlap)
    elements = pieces * _value(book, "dimensions", knowledge.dimensions)
    raw = elements * _value(book, "bytes_per_element", subject=VECTORS)
    raw += pieces * _value(book, "metadata_bytes", subject=VECTORS)
    indexed = raw / GB * _value(book, "index_ratio", subject=VECTORS)
    again = _value(book, "changed_frac_per_month", knowledge.changed_frac_per_month)
    again += _value(book, "reindex_per_year", knowledge.reindex_per_year) / book.months()
    hot = indexed * _value(book, "hot_frac", subject=VECTORS)
    queries = requests_per_month * knowledge.searched_frac
    return Index(elements, raw / GB, indexed, hot, raw / GB * again, queries)


def product(at: CatalogAt, subject: str, index: Index) -> Product:
    """What a vector database charges for an index: by use, by what it keeps, or by whole nodes.

    Its band is that of its prices, all at their low or all at their high ends.
    """

    def bill(end: int) -> float:
        def price(name: str) -> float:
            # A database that states no price for a part does not charge for it.
            fact = at.find(subject, name)
            return 0.0 if fact is None else fact.ends[end]

        nodes = 0.0
        if size := price("node_gb"):
            nodes = max(price("least_nodes"), math.ceil(index.hot_gb / size))
        read_gb = max(index.raw_gb, price("least_query_gb"))
        use = (
            index.raw_gb * price("usd_per_gb_month")
            + index.written_gb * price("usd_per_gb_written")
            + index.queries * (price("usd_per_query") + read_gb * price("usd_per_query_gb"))
            + index.elements * price("usd_per_element_month")
            + nodes * price("usd_per_node_h") * at.number("finance/any", "hours_per_month")
        )
        return max(use, price("usd_per_month_least"))

    low, mid, high = sorted(bill(end) for end in range(3))
    return Product(subject.partition("/")[2], at.text(subject, "title"), mid, low, high)


def products(at: CatalogAt, index: Index) -> tuple[Product, ...]:
    """Every vector database whose prices the catalog holds, the cheapest first."""
    found = [product(at, fact.subject, index) for fact in at.each("vectordb/", "title")]
    return tuple(sorted(found, key=lambda one: (one.usd_per_month, one.name)))


def embedding(at: CatalogAt, named: str | None) -> str:
    """Subject of the embedding model's price.

    Raises:
        BadInput: the catalog has no price of it.
    """
    model = named or at.text(RETRIEVAL, "embedding")
    subject = model if model.startswith("api/") else f"api/{model}"
    if at.find(subject, "input_usd_per_mtok") is None:
        known = sorted(
            fact.subject.removeprefix("api/")
            for fact in at.each("api/", "input_usd_per_mtok")
            if "embed" in fact.subject and not fact.when
        )
        fix = f"Known: {', '.join(known[:8])} …; isocost catalog list"
        raise BadInput(f"no price of the embedding model {model!r}", where="knowledge.embedding", fix=fix)
    return subject


def keep_documents(book: Keep, ask: Ask) -> tuple[Product, ...]:
    """Book pipelines, vectors and copies of the documents; every database for comparison, cheapest first."""
    knowledge = ask.knowledge
    if knowledge is None:
        return ()
    index = index_of(book, knowledge, ask.traffic.requests_per_month)
    _pipelines(book, knowledge, index)
    found = products(book.at, index)
    _database(book, knowledge, found)
    held = book.fact("storage/object", "usd_per_gb_month")
    text = book.fact("storage/text", "bytes_per_tok")
    twice = book.fact(RETRIEVAL, "chunk_bytes_ratio")
    book.add(
        "storage", "documents and their chunks", "GB month", knowledge.mtok * MEGA / GB, text, twice, held
    )
    book.add("storage", "a copy of the embeddings", "GB month", index.raw_gb, held)
    return found


def _pipelines(book: Keep, knowledge: Knowledge, index: Index) -> None:
    price = book.fact(embedding(book.at, knowledge.embedding), "input_usd_per_mtok")
    clean = book.fact(RETRIEVAL, "clean_usd_per_mtok")
    overlap = _value(book, "overlap_frac", knowledge.overlap_frac)
    repeated = over(Term(f"{RETRIEVAL}.overlap_frac", 1.0 - overlap))
    changed = book.fact(RETRIEVAL, "changed_frac_per_month", knowledge.changed_frac_per_month)
    again = book.fact(RETRIEVAL, "reindex_per_year", knowledge.reindex_per_year)
    mtok, month = knowledge.mtok, 1.0 / book.months()
    book.add("pipelines", "documents read and cleaned first, spread", "Mtok", mtok, book.once(), clean)
    book.add("pipelines", "documents embedded first, spread", "Mtok", mtok, book.once(), repeated, price)
    book.add("pipelines", "changed documents cleaned", "Mtok", mtok, changed, clean)
    book.add("pipelines", "changed documents embedded", "Mtok", mtok, changed, repeated, price)
    book.add("pipelines", "everything embedded again", "Mtok", mtok * month, again, repeated, price)
    query = book.fact(RETRIEVAL, "query_tok")
    book.add("pipelines", "questions embedded", "Mtok", index.queries / MEGA, query, price)


def _database(book: Keep, knowledge: Knowledge, found: tuple[Product, ...]) -> None:
    """The named database; else the middle of all, its band from the cheapest to the dearest."""
    if knowledge.database is None:
        middle = found[len(found) // 2]
        low, high = found[0].usd_per_month, found[-1].usd_per_month
        name, what = "vectordb.product", f"the middle of {len(found)} products: {middle.title}"
    else:
        named = [one for one in found if one.name == knowledge.database]
        if not named:
            known = ", ".join(one.name for one in found)
            raise UnknownFact(
                f"no vector database {knowledge.database!r}",
                where="knowledge.database",
                fix=f"Known: {known}",
            )
        middle = named[0]
        low, high = middle.low_usd_per_month, middle.high_usd_per_month
        name, what = f"vectordb/{middle.name}.prices", middle.title
    mid = middle.usd_per_month
    price = Term(name, mid, max(low / mid, 1e-3), high / mid)
    book.add("vector-database", what, "month", 1.0, price)
