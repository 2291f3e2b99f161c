"""Rows priced per CPU-second, ours beside others and the memory bound: ``python benchmarks/bill.py``.

``--rows N`` sets the rows of a run (4 million), ``--stream N`` prices N rows as a stream of chunks and says
the memory that took. All of it runs on one core; each figure is the best of five.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

import numpy as np

from isocost.bill import kernel
from isocost.bill.tariff import Chunk, Tariff
from isocost.catalog import Catalog
from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import edges

SINCE, DAYS = datetime(2026, 6, 1, tzinfo=UTC), 170
TIERS, REGIONS = ("batch", "flex", "standard"), ("eu", "us", "")
NAMES = (
    "openai/gpt-5.6-sol", "openai/o3", "anthropic/claude-haiku-5-5", "deepseek/deepseek-v4-pro",
    "deepseek/deepseek-v4-flash", "xai/grok-4.6", "gemini/gemini-3.1-pro-preview", "azure/gpt-5.6-luna",
    "groq/openai/gpt-oss-120b", "perplexity/sonar",
)  # fmt: skip
"""Dated prices, context bands, regions, tiers; two of ten have daily windows."""

Columns = dict[str, np.ndarray]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rows", type=int, default=4_000_000)
    asked.add_argument("--stream", type=int, default=0)
    given = asked.parse_args()
    catalog = Catalog.load()
    at = catalog.at(date(2026, 11, 20))
    offerings = [resolve(at, name) for name in NAMES]
    columns = rows_of(given.rows, len(offerings))
    if given.stream:
        stream(catalog, offerings, given.stream)
        return
    flat = {name: columns[name] for name in ("offering", "input_tok", "output_tok")}
    flat["offering"] = flat["offering"].astype(np.int16)
    bound = memory_bound(flat)
    print(f"{given.rows:,} rows; rows per CPU-second")
    say("memory bound: read 10 bytes, write 9", bound, bound)
    calm, plain = (without(catalog, offerings, bands=bands) for bands in (False, True))
    say("isocost, flat", ours(Tariff(catalog, plain, on=SINCE.date()), flat), bound)
    dated = {name: columns[name] for name in (*flat, "arrival_ns")}
    say("isocost, dated and banded", ours(Tariff(catalog, calm), dated), bound)
    everything = ours(Tariff(catalog, calm, TIERS, REGIONS), columns)
    say("isocost, dated, tiered, regional, banded, cached", everything, bound)
    say(
        "the same, a fifth with daily windows",
        ours(Tariff(catalog, offerings, TIERS, REGIONS), columns),
        bound,
    )
    say("DuckDB, ASOF join by date", duckdb_asof(columns, len(NAMES)), bound)
    say("numpy, searchsorted by date", numpy_search(columns, len(NAMES)), bound)
    say("genai-prices", genai_prices(columns), bound)
    say("litellm", litellm(columns), bound)


def say(what: str, rate: float | None, bound: float) -> None:
    if rate is None:
        print(f"  {what:52} not installed")
    else:
        print(f"  {what:52} {rate:>14,.0f}   {rate / bound:10.2e} of the bound")


def best(work: Callable[[], object], times: int = 5) -> float:
    """CPU seconds of the fastest run."""
    found = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        found = min(found, time.process_time() - start)
    return found


def rows_of(n: int, offerings: int, seed: int = 1) -> Columns:
    rng = np.random.default_rng(seed)
    start = int(SINCE.timestamp()) * 10**9
    given = rng.integers(1000, 300_000, n).astype(np.int32)
    return {
        "offering": rng.integers(0, offerings, n).astype(np.int32),
        "arrival_ns": start + np.sort(rng.integers(0, DAYS * 86_400 * 10**9, n)),
        "tier": rng.integers(0, len(TIERS), n).astype(np.int32),
        "region": rng.integers(0, len(REGIONS), n).astype(np.int32),
        "input_tok": given,
        "cached_tok": (given // 3).astype(np.int32),
        "output_tok": rng.integers(0, 2000, n).astype(np.int32),
    }


def without(catalog: Catalog, offerings: list[Offering], *, bands: bool) -> list[Offering]:
    """Offerings without daily windows, and where asked without context bands and fees for a request."""
    changes = [edges(catalog, one) for one in offerings]
    return [
        one
        for one, (_, lengths, windows) in zip(offerings, changes, strict=True)
        if not windows and not (bands and (lengths or catalog.history(one.subject, "usd_per_request")))
    ]


def ours(tariff: Tariff, columns: Columns) -> float:
    """Rows per CPU-second of a tariff whose lines are filled."""
    n = len(columns["offering"])
    if len(tariff.offerings) < int(columns["offering"].max()) + 1:
        code = columns["offering"]
        columns = {**columns, "offering": code % code.dtype.type(len(tariff.offerings))}
    out = tariff.price(columns)
    return n / best(lambda: tariff.price(columns, into=out))


def memory_bound(columns: Columns) -> float:
    """Rows per CPU-second of a loop that reads and writes what a flat bill must, and multiplies nothing."""
    amount = np.zeros(len(columns["offering"]), np.int64)
    status = np.zeros(len(amount), np.int8)
    passed = kernel.compiled(_pass)
    passed(columns["offering"], columns["input_tok"], columns["output_tok"], amount, status)
    work = best(
        lambda: passed(columns["offering"], columns["input_tok"], columns["output_tok"], amount, status)
    )
    return len(amount) / work


def _pass(offering: Any, given: Any, output: Any, amount: Any, status: Any) -> None:
    for i in range(len(offering)):
        amount[i] = given[i] + output[i]
        status[i] = offering[i]


def duckdb_asof(columns: Columns, skus: int) -> float | None:
    """The usual SQL: prices by model and date, each row joined to the last price before it."""
    if not find_spec("duckdb"):
        return None
    import duckdb

    n = min(len(columns["offering"]), 2_000_000)
    with duckdb.connect() as db:
        db.execute("SET threads = 1")
        db.register("held", {name: values[:n] for name, values in columns.items()})
        db.execute("CREATE TABLE rows AS SELECT * FROM held")
        start = int(SINCE.timestamp()) * 10**9
        db.execute(
            "CREATE TABLE prices AS SELECT s::INTEGER AS offering, "
            f"{start} + d * 20 * 86400000000000 AS since, "
            "2000000000 + s + d AS a, 8000000000 + s + d AS b "
            f"FROM range({skus}) r(s), range(9) q(d)"
        )
        query = (
            "SELECT sum(input_tok::BIGINT * a + output_tok::BIGINT * b) FROM rows ASOF JOIN prices "
            "ON rows.offering = prices.offering AND rows.arrival_ns >= prices.since"
        )
        return n / best(lambda: db.execute(query).fetchall(), 3)


def numpy_search(columns: Columns, skus: int) -> float:
    """Two look-ups by binary search and gathers, as one would write it with arrays."""
    start = int(SINCE.timestamp()) * 10**9
    since = start + np.arange(9) * 20 * 86_400 * 10**9
    given, output = (base * 10**9 + np.arange(skus * 9) for base in (2, 8))

    def work() -> object:
        segment = np.searchsorted(since, columns["arrival_ns"], side="right") - 1
        line = columns["offering"] * 9 + segment
        return (columns["input_tok"] * given[line] + columns["output_tok"] * output[line]).sum()

    return len(columns["offering"]) / best(work, 3)


def genai_prices(columns: Columns) -> float | None:
    if not find_spec("genai_prices"):
        return None
    from genai_prices import Usage, calc_price

    n = 3000
    rows = list(zip(columns["input_tok"][:n].tolist(), columns["output_tok"][:n].tolist(), strict=True))
    when = [SINCE + timedelta(hours=i) for i in range(n)]

    def work() -> object:
        return [
            calc_price(
                Usage(input_tokens=given, output_tokens=output),
                model_ref="gpt-4.1", provider_id="openai", genai_request_timestamp=at,
            ).total_price
            for (given, output), at in zip(rows, when, strict=True)
        ]  # fmt: skip

    return n / best(work, 3)


def litellm(columns: Columns) -> float | None:
    if not find_spec("litellm"):
        return None
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its own copy of prices, nothing from a network
    with contextlib.redirect_stdout(None):
        import litellm as peer

    n = 3000
    rows = list(zip(columns["input_tok"][:n].tolist(), columns["output_tok"][:n].tolist(), strict=True))

    def work() -> object:
        return [
            peer.cost_per_token(model="gpt-4.1", prompt_tokens=given, completion_tokens=output)
            for given, output in rows
        ]

    return n / best(work, 3)


def stream(catalog: Catalog, offerings: list[Offering], n: int) -> None:
    """Price ``n`` rows a million at a time; only one chunk is ever held."""
    tariff = Tariff(catalog, offerings, TIERS, REGIONS)
    size = 1_000_000
    chunks = [rows_of(size, len(offerings), seed) for seed in range(3)]
    out: Chunk | None = None
    done, spent, added = 0, 0.0, 0
    while done < n:
        columns = chunks[done // size % len(chunks)]
        start = time.process_time()
        out = tariff.price(columns, into=out)
        spent += time.process_time() - start
        added += int(out.amount_fusd.astype(object).sum()) if done < 3 * size else 0
        if done == 2 * size:
            assert tariff.total_fusd == added, "row sums are not the total"
        done += size
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    usd = Decimal(tariff.total_fusd).scaleb(-15)
    print(f"{done:,} rows as a stream: {done / spent:,.0f} rows per CPU-second, {most / 1e9:.2f} GB at most")
    print(f"  total {usd:,f} USD, {len(tariff.lines):,} lines of rates")


if __name__ == "__main__":
    main()
