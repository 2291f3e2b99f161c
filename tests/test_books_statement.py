"""Statements: every row at its own date, every line exact, what has no price kept apart."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.bill import Usage, price
from isocost.books.statement import REQUEST_KEYS, Statement, month_of, statement
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.catalog.names import resolve
from isocost.errors import BadInput, BadTrace, UnknownModel
from isocost.trace.open import open_trace
from isocost.trace.schema import Chunk, Outcome, Trace

CASES = Path(__file__).parent / "cases" / "books"
MODELS = ("gpt-4.1", "claude-sonnet-4-5", "gpt-5.4", "no-such-model", "")


@pytest.fixture(scope="module")
def mine() -> Catalog:
    """The shipped facts with two offerings of our own, one of which changes its price in October."""
    return Catalog.load(FACTS_DIR, CASES / "facts")


def trace_of(rows: list[tuple[str, str, int, int, int, str, str, int]], size: int = 1000) -> Trace:
    """Rows of (moment, model, input, cached, output, tenant, workload, outcome), in chunks of ``size``."""
    rows = sorted(rows)
    names = {
        "model": tuple(dict.fromkeys(row[1] for row in rows)),
        "tenant": tuple(dict.fromkeys(row[5] for row in rows)),
        "workload": tuple(dict.fromkeys(row[6] for row in rows)),
    }

    def code(column: str, text: str) -> int:
        return names[column].index(text)

    def chunks() -> list[Chunk]:
        parts = [rows[at : at + size] for at in range(0, len(rows), size)]
        return [
            Chunk(
                arrival_ns=np.array(
                    [int(datetime.fromisoformat(r[0]).replace(tzinfo=UTC).timestamp()) * 10**9 for r in part],
                    np.int64,
                ),
                input_tok=np.array([r[2] for r in part], np.int32),
                cached_tok=np.array([r[3] for r in part], np.int32),
                output_tok=np.array([r[4] for r in part], np.int32),
                model=np.array([code("model", r[1]) if r[1] else -1 for r in part], np.int32),
                tenant=np.array([code("tenant", r[5]) for r in part], np.int32),
                workload=np.array([code("workload", r[6]) for r in part], np.int32),
                outcome=np.array([r[7] for r in part], np.int8),
            )
            for part in parts
        ]

    return Trace("log", "digest", names, frozenset(names), lambda: iter(chunks()))


ROWS = st.lists(
    st.tuples(
        st.datetimes(datetime(2026, 9, 1), datetime(2026, 11, 20)).map(
            lambda d: d.strftime("%Y-%m-%dT%H:%M:%S")
        ),
        st.sampled_from(("house/small", "house/big", *MODELS)),
        st.integers(0, 400_000),
        st.integers(0, 500_000),
        st.integers(0, 90_000),
        st.sampled_from(("acme", "beta")),
        st.sampled_from(("chat", "batch")),
        st.sampled_from((0, 0, 1, 4)),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, size=st.integers(1, 40))
def test_equals_every_row_priced_alone(mine: Catalog, rows: list, size: int) -> None:
    """The total, its parts by model and tenant, and the counts, against one exact bill a row."""
    found = statement(trace_of(rows, size), mine)
    total, by_tenant, requests, unpriced, bad = Fraction(0), {}, 0, 0, 0
    for at, model, used, cached, out, tenant, _, outcome in rows:
        if outcome == Outcome.DUPLICATE:
            continue
        requests += 1
        try:
            offering = resolve(mine.at(date(2026, 10, 1)), model) if model else None
        except UnknownModel:
            offering = None
        if outcome in (1, 3) and not out and used and offering is not None and offering.provider == "openai":
            used = cached = 0  # OpenAI says that it does not charge for a call without an answer
        if cached > used:
            bad += 1
            unpriced += 1
            continue
        if offering is None:
            unpriced += 1
            continue
        moment = datetime.fromisoformat(at)
        priced = price(mine, offering, Usage(input_tok=used, cached_tok=cached, output_tok=out), moment)
        unpriced += priced.status == "unpriced"
        amount = sum(Fraction(line.unit_price) * line.quantity / line.per for line in priced.lines)
        total += amount
        by_tenant[tenant,] = by_tenant.get((tenant,), 0) + amount
    assert Fraction(found.total_fusd, 10**15) == total
    assert {k: v for k, v in found.by("tenant").items() if v} == {
        k: v * 10**15 for k, v in by_tenant.items() if v
    }
    for keys in (("model",), ("day", "meter"), ("provider", "tier"), ("workload", "month")):
        assert sum(found.by(*keys).values()) == found.total_fusd
    assert found.n_requests == requests
    assert sum(one.unpriced for one in found.requests) == unpriced
    assert found.bad_rows == bad
    assert found.duplicates == sum(row[7] == 4 for row in rows)
    assert found.at_least == bool(found.unpriced or unpriced)


@settings(max_examples=15, deadline=None)
@given(rows=ROWS, size=st.integers(1, 7))
def test_chunks_and_buckets_do_not_matter(mine: Catalog, rows: list, size: int) -> None:
    whole = statement(trace_of(rows), mine)
    assert statement(trace_of(rows, size), mine) == whole
    hourly = statement(trace_of(rows, size), mine, bucket="hour")
    assert hourly.total_fusd == whole.total_fusd
    assert hourly.by("day", "model", "meter") == whole.by("day", "model", "meter")
    assert hourly.requests_by("day", "tenant") == whole.requests_by("day", "tenant")


def test_a_price_holds_from_its_day(mine: Catalog) -> None:
    """House's big model costs 2 and then 3 dollars a million input tokens, from 15 October."""
    log = trace_of(
        [
            ("2026-10-14T23:59:59", "house/big", 1_000_000, 0, 0, "a", "w", 0),
            ("2026-10-15T00:00:00", "house/big", 1_000_000, 0, 0, "a", "w", 0),
        ]
    )
    found = statement(log, mine)
    assert [(line.day, line.amount_fusd // 10**15) for line in found.lines] == [
        ("2026-10-14", 2),
        ("2026-10-15", 3),
    ]
    assert found.lines[1].facts == ("api/house/big.input_usd_per_mtok@2026-10-15",)


def test_usage_without_a_price_is_kept_apart(mine: Catalog) -> None:
    log = trace_of(
        [
            ("2026-10-14T10:00:00", "house/big", 1000, 0, 0, "a", "w", 0),
            ("2026-10-14T11:00:00", "house/big", 1000, 400, 10, "a", "w", 0),
            ("2026-10-14T12:00:00", "no-such-model", 1000, 400, 10, "a", "w", 0),
        ]
    )
    found = statement(log, mine)
    assert found.at_least
    assert [(line.model, line.meter, line.quantity) for line in found.unpriced] == [
        ("no-such-model", "input", 600),
        ("no-such-model", "cache_read", 400),
        ("no-such-model", "output", 10),
        ("big", "cache_read", 400),
    ]
    assert [(one.model, one.requests, one.partial, one.unpriced) for one in found.requests] == [
        ("no-such-model", 1, 0, 1),
        ("big", 2, 1, 0),
    ]
    assert any("no-such-model" in note for note in found.notes)


def test_writes_and_reads_the_same(mine: Catalog, tmp_path: Path) -> None:
    found = statement(open_trace(CASES / "october.csv"), mine)
    found.write(tmp_path)
    assert Statement.read(tmp_path) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Statement) == found
    import duckdb

    with duckdb.connect() as db:
        row = db.execute(f"SELECT sum(amount_usd) FROM '{tmp_path}/lines.parquet'").fetchone()
    assert row is not None
    assert row[0] == found.total_usd
    (tmp_path / "requests.parquet").unlink()
    with pytest.raises(BadInput, match="not a statement"):
        Statement.read(tmp_path)


def test_a_month_is_a_part(mine: Catalog) -> None:
    found = statement(open_trace(CASES / "october.csv"), mine)
    parts = [found.within(month) for month in ("2026-09", "2026-10", "2026-11")]
    assert sum(part.total_fusd for part in parts) == found.total_fusd
    assert sum(part.n_requests for part in parts) == found.n_requests
    assert month_of("2026-02") == (date(2026, 2, 1), date(2026, 3, 1))
    with pytest.raises(BadInput, match="not a month"):
        month_of("2026-13")


def test_a_log_without_dates_has_no_statement(mine: Catalog) -> None:
    log = Trace("log", "", {}, frozenset(), lambda: iter(()), clock="relative")
    with pytest.raises(BadTrace, match="a price needs a date"):
        statement(log, mine)


def test_unknown_key_is_named(mine: Catalog) -> None:
    found = statement(open_trace(CASES / "october.csv"), mine)
    with pytest.raises(BadInput, match="no key of a statement"):
        found.by("colour")
    assert len(REQUEST_KEYS) == 8


def test_what_a_proxy_answered_is_avoided_and_not_billed(tmp_path: Path, catalog: Catalog) -> None:
    body = (CASES.parent / "traces" / "litellm.csv").read_text()
    plain, hits = tmp_path / "plain.csv", tmp_path / "hits.csv"
    plain.write_text(body)
    hits.write_text(body.replace("False,9f86d081", "True,9f86d081"))
    before, after = (statement(open_trace(path), catalog) for path in (plain, hits))
    assert (before.avoided, before.avoided_fusd) == (0, 0)
    assert after.avoided == 1
    assert after.avoided_fusd > 0
    assert before.total_fusd == after.total_fusd + after.avoided_fusd
    assert before.n_requests == after.n_requests + 1
    after.write(tmp_path)
    assert Statement.read(tmp_path).avoided_fusd == after.avoided_fusd


def test_a_call_that_failed_without_an_answer_costs_what_its_provider_says(catalog: Catalog) -> None:
    """OpenAI says that it charges nothing for it; of Anthropic no such word was read, so its tokens count."""
    failed, cancelled = int(Outcome.ERROR), int(Outcome.CANCELLED)
    rows = [
        ("2026-10-01T10:00", model, 1000, 0, output, "t", "w", outcome)
        for model in ("gpt-4.1", "claude-sonnet-4-5")
        for output, outcome in ((0, failed), (7, failed), (0, cancelled))
    ]
    found = statement(trace_of(rows), catalog)
    assert found.not_charged == 1
    assert found.n_requests == 6
    given = {
        key: quantity for key, quantity in found.quantity_by("model", "meter").items() if key[1] == "input"
    }
    assert given == {("gpt-4.1", "input"): 2000, ("claude-sonnet-4-5", "input"): 3000}
