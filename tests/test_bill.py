"""The bill against right bills, against fractions, and scalar against columns, digit for digit."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.bill import STATUS, Usage, price, price_columns
from isocost.catalog import Attribute, Catalog, Fact, Source
from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import METERS, PRICES, edges, rates
from isocost.errors import BadInput
from isocost.validate.bills import bills

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
METERS_HERE = ("input", "cache_read", "cache_write", "output")
PRICE = st.integers(1, 10**8).map(lambda n: Decimal(n).scaleb(-6))
DAYS = [date(2026, 1, 1), date(2026, 3, 1), date(2026, 3, 2)]


def test_bills_that_are_known(catalog: Catalog, data_dir: Path) -> None:
    result = bills(catalog, data_dir / "pricing" / "cases.csv")
    assert result.failed_ids == (), [case for case in result.cases if not case.passed]


def made(
    attribute: str, when: str, value: Decimal, since: date | None, until: date | None, subject: str
) -> Fact:
    return Fact(
        subject, attribute, when, float(value), "", None, None, since, until, "s", "", date(2026, 1, 1),
        "published", "", "",
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Catalog, dict[tuple[str, str, date | None], Fraction]]:
    """A provider with random prices by meter, band, tier and date, and its prices as fractions."""
    facts: list[Fact] = []
    known: dict[tuple[str, str, date | None], Fraction] = {}
    specs = {}
    starts = draw(st.lists(st.sampled_from(DAYS), unique=True, max_size=3).map(sorted))
    spans = list(zip([None, *starts], [*starts, None], strict=True))
    for meter in METERS_HERE:
        attribute = PRICES[meter][0]
        specs["api", attribute] = Attribute("api", attribute, "number", "", "", "")
        for when in ("", "band=>1000", "band=>=5000", "tier=batch"):
            for since, until in spans:
                if draw(st.booleans()) or (meter == "input" and not when):
                    value = draw(PRICE)
                    facts.append(made(attribute, when, value, since, until, "api/p/m"))
                    known[meter, when, since] = Fraction(value)
    specs["provider", "batch_multiplier"] = Attribute("provider", "batch_multiplier", "number", "", "", "")
    if draw(st.booleans()):
        facts.append(made("batch_multiplier", "meter=output", Decimal("0.5"), None, None, "provider/p"))
        known["output", "rule", None] = Fraction(1, 2)
    source = Source("s", "S", "", "", "", date(2026, 1, 1), "")
    return Catalog(facts, {"s": source}, specs, "basis"), known


def by_hand(
    known: dict[tuple[str, str, date | None], Fraction],
    quantity: dict[str, int],
    total: int,
    on: date,
    tier: str,
) -> tuple[Fraction, set[str]]:
    """The bill in fractions of a dollar, and the meters without a price."""

    def in_force(meter: str, when: str) -> Fraction | None:
        starts = [s for m, w, s in known if (m, w) == (meter, when) and (s is None or s <= on)]
        spans = sorted({s for _, _, s in known}, key=lambda s: s or date.min)
        if not starts:
            return None
        start = max(starts, key=lambda s: s or date.min)
        after = [s for s in spans if s and s > (start or date.min)]
        return known[meter, when, start] if not after or on < after[0] else None

    def standard(meter: str) -> Fraction | None:
        for when, holds in (("band=>=5000", total >= 5000), ("band=>1000", total > 1000), ("", True)):
            if holds and in_force(meter, when) is not None:
                return in_force(meter, when)
        return None

    bill, missing = Fraction(0), set()
    for meter, count in quantity.items():
        if not count:
            continue
        unit = standard(meter)
        if tier == "batch":
            factor = known.get((meter, "rule", None))
            ruled = unit * factor if unit is not None and factor is not None else None
            listed = in_force(meter, "tier=batch")
            unit = listed if listed is not None else ruled
        if unit is None:
            missing.add(meter)
        else:
            bill += unit * count / 1_000_000
    return bill, missing


ROW = st.tuples(
    st.integers(0, 6000), st.integers(0, 3000), st.integers(0, 200), st.integers(0, 9000),
    st.sampled_from(DAYS).flatmap(lambda d: st.integers(-2, 2).map(lambda n: d + timedelta(days=n))),
    st.integers(0, 86_399), st.booleans(),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(worlds(), st.lists(ROW, min_size=1, max_size=12))
def test_scalar_and_columns_equal_fractions(
    world: tuple[Catalog, dict[tuple[str, str, date | None], Fraction]],
    rows: list[tuple[int, int, int, int, date, int, bool]],
) -> None:
    catalog, known = world
    offering = Offering("api/p/m", "p")
    columns: dict[str, list[int]] = {name: [] for name in COLUMNS}
    wanted, states = [], []
    for plain, read, write, out, on, second, batch in rows:
        usage = Usage(input_tok=plain + read + write, cached_tok=read, cache_write_tok=write, output_tok=out)
        at = datetime(on.year, on.month, on.day, tzinfo=UTC) + timedelta(seconds=second)
        quantity = {"input": plain, "cache_read": read, "cache_write": write, "output": out}
        tier = "batch" if batch else "standard"
        bill, missing = by_hand(known, quantity, usage.input_tok, on, tier)
        priced = price(catalog, offering, usage, at, tier)
        assert Fraction(priced.amount_fusd, 10**15) == bill
        assert sum(line.amount_fusd for line in priced.lines) == priced.amount_fusd
        for line in priced.lines:
            assert Fraction(line.unit_price) * line.quantity / line.per * 10**15 == line.amount_fusd
        assert (priced.status == "priced") == (
            not missing and bool(rates_of(catalog, offering, usage, at, tier))
        )
        wanted.append(priced.amount_fusd)
        states.append(priced.status)
        nanoseconds = int((at - EPOCH).total_seconds()) * 10**9
        for name, value in zip(
            COLUMNS, (0, nanoseconds, usage.input_tok, read, write, out, int(batch)), strict=True
        ):
            columns[name].append(value)
    found = price_columns(
        catalog, [offering], {n: np.array(v) for n, v in columns.items()}, tiers=("standard", "batch")
    )
    assert found.amount_fusd.tolist() == wanted
    assert [STATUS[code] for code in found.status] == states
    assert found.total_fusd == sum(wanted)


COLUMNS = ("offering", "arrival_ns", "input_tok", "cached_tok", "cache_write_tok", "output_tok", "tier")


def rates_of(
    catalog: Catalog, offering: Offering, usage: Usage, at: datetime, tier: str
) -> dict[str, object]:
    return dict(rates(catalog.at(at.date()), offering, tier, "", usage.input_tok).meters)


@pytest.mark.parametrize(
    ("model", "tokens", "at", "usd_per_mtok"),
    [
        ("openai/gpt-6-sol", 272_000, "2026-11-10T15:00", "2"),
        ("openai/gpt-6-sol", 272_001, "2026-11-10T15:00", "4"),
        ("xai/grok-4.6", 199_999, "2026-11-10T15:00", "2"),
        ("xai/grok-4.6", 200_000, "2026-11-10T15:00", "4"),
        ("deepseek/deepseek-v4-pro", 10, "2026-11-10T00:59:59", "0.66"),
        ("deepseek/deepseek-v4-pro", 10, "2026-11-10T01:00", "1.32"),
        ("deepseek/deepseek-v4-pro", 10, "2026-11-10T03:59:59", "1.32"),
        ("deepseek/deepseek-v4-pro", 10, "2026-11-10T04:00", "0.66"),
        ("deepseek/deepseek-v4-pro", 10, "2026-11-14T01:00", "0.66"),
        ("deepseek/deepseek-v4-pro", 10, "2026-08-22T01:00", "1.32"),
        ("deepseek/deepseek-v4-pro", 10, "2026-08-16T01:00", "0.435"),
        ("openai/o3", 10, "2025-06-09T23:59:59", "10"),
        ("openai/o3", 10, "2025-06-10T00:00", "2"),
    ],
)
def test_at_the_edges(catalog: Catalog, model: str, tokens: int, at: str, usd_per_mtok: str) -> None:
    """Bands, daily windows (not at weekends since 2026-08-23) and first days, on both sides."""
    moment = datetime.fromisoformat(at)
    offering = resolve(catalog.at(moment.date()), model)
    line = price(catalog, offering, Usage(input_tok=tokens), moment).lines[0]
    assert line.unit_price == Decimal(usd_per_mtok)
    assert line.amount_fusd == tokens * Decimal(usd_per_mtok) * 10**9


@pytest.fixture(scope="module")
def priced_offerings(catalog: Catalog) -> list[Offering]:
    at = catalog.at(date(2026, 11, 20))
    names = [
        "openai/gpt-5.6-sol", "openai/o3", "anthropic/claude-haiku-5-5", "deepseek/deepseek-v4-pro",
        "deepseek/deepseek-v4-flash", "xai/grok-4.6", "gemini/gemini-3.1-pro-preview",
        "azure/eu/gpt-5.6-luna", "groq/openai/gpt-oss-120b", "perplexity/sonar",
    ]  # fmt: skip
    return [resolve(at, name) for name in names]


def test_columns_equal_scalar_on_shipped_prices(catalog: Catalog, priced_offerings: list[Offering]) -> None:
    """Random rows at and beside every day, band and window at which some price changes."""
    rng = np.random.default_rng(7)
    tiers = ("standard", "batch", "flex", "priority")
    n = 4000
    days, bands, starts = set(), {1}, {0}
    for offering in priced_offerings:
        edge_days, edge_bands, windows = edges(catalog, offering)
        days |= {(day - EPOCH.date()).days for day in edge_days}
        bands.update(edge_bands)
        starts |= {minute for window in windows for minute in (window.start, window.stop)}
    day = rng.choice(sorted(days), n) + rng.integers(-1, 2, n)
    minute = (rng.choice(sorted(starts), n) + rng.integers(-1, 2, n)) % 1440
    total = np.maximum(rng.choice(sorted(bands), n) + rng.integers(-1, 2, n), 0)
    columns = {
        "offering": rng.integers(-1, len(priced_offerings), n).astype(np.int32),
        "arrival_ns": (day * 86_400 + minute * 60) * 10**9 + rng.integers(0, 60 * 10**9, n),
        "input_tok": total,
        "cached_tok": total // 3,
        "cache_write_tok": np.where(rng.random(n) < 0.3, total // 5, 0),
        "output_tok": rng.integers(0, 5000, n),
        "web_searches": rng.integers(0, 2, n),
        "tier": rng.integers(0, len(tiers), n),
    }
    found = price_columns(catalog, priced_offerings, columns, tiers=tiers, bucket="hour")
    for row in range(n):
        code = int(columns["offering"][row])
        if code < 0:
            assert STATUS[found.status[row]] == "unpriced"
            continue
        usage = Usage(**{k: int(columns[k][row]) for k in (*COLUMNS[2:6], "web_searches")})
        at = EPOCH + timedelta(microseconds=int(columns["arrival_ns"][row]) // 1000)
        one = price(catalog, priced_offerings[code], usage, at, tiers[columns["tier"][row]])
        assert found.amount_fusd[row] == one.amount_fusd
        assert STATUS[found.status[row]] == one.status
    assert set(found.status) == {0, 1, 2}
    assert found.total_fusd == sum(int(amount) for amount in found.amount_fusd)


def test_grouped_quantities_name_their_prices(catalog: Catalog, priced_offerings: list[Offering]) -> None:
    columns = {
        "offering": np.array([0, 0, 2]),
        "arrival_ns": np.array([0, 3_599, 3_600]) * 10**9 + 20_000 * 86_400 * 10**9,
        "input_tok": np.array([10, 20, 40]),
        "output_tok": np.array([1, 2, 4]),
    }
    lines = price_columns(catalog, priced_offerings, columns, bucket="hour").grouped
    wanted = {(0, "input", 30), (0, "output", 3), (2, "input", 40), (2, "output", 4)}
    rows = zip(lines.offering, lines.meter, lines.quantity, strict=True)
    assert {(int(o), METERS[m], int(q)) for o, m, q in rows} == wanted
    assert len(set(lines.bucket.tolist())) == 2
    for line, offering in enumerate(lines.offering):
        price_fact = lines.facts[lines.fact[line]][0]
        assert price_fact.startswith(priced_offerings[offering].subject)


def test_a_row_without_a_price_is_never_zero(catalog: Catalog) -> None:
    columns = {name: np.array([5]) for name in ("input_tok", "output_tok")}
    columns |= {"offering": np.array([-1]), "arrival_ns": np.array([0])}
    found = price_columns(catalog, [None], columns)
    assert STATUS[found.status[0]] == "unpriced"
    assert found.why == (("no offering is known for 1 rows", 1),)
    offering = resolve(catalog.at(date(2026, 11, 20)), "mistral/codestral")
    one = price(catalog, offering, Usage(input_tok=5, cached_tok=2), datetime(2026, 11, 20), "priority")
    assert (one.status, one.amount_fusd) == ("unpriced", 0)
    assert "no price of" in one.why


def test_a_missing_meter_makes_a_lower_bound(catalog: Catalog) -> None:
    offering = resolve(catalog.at(date(2026, 11, 20)), "groq/llama-3.3-70b-versatile")
    usage = Usage(input_tok=1000, cached_tok=400, output_tok=10)
    one = price(catalog, offering, usage, datetime(2026, 11, 20))
    assert one.status == "partial"
    assert one.why.startswith("no price of cache_read")
    assert one.amount_fusd > 0


def test_an_unknown_region_is_a_lower_bound(catalog: Catalog) -> None:
    offering = resolve(catalog.at(date(2026, 11, 20)), "mistral/mistral-large-2512")
    one = price(catalog, offering, Usage(input_tok=5), datetime(2026, 11, 20), region="mars")
    assert one.status == "partial"
    assert "region 'mars'" in one.why


def test_counts_that_contradict_each_other(catalog: Catalog, priced_offerings: list[Offering]) -> None:
    with pytest.raises(BadInput, match="-1 units of input"):
        price(catalog, priced_offerings[0], Usage(input_tok=4, cached_tok=5), datetime(2026, 11, 20))
    columns = {
        "offering": np.zeros(3, int), "arrival_ns": np.zeros(3, int), "input_tok": np.array([4, 6, -1]),
        "cached_tok": np.array([5, 5, 0]), "output_tok": np.zeros(3, int),
    }  # fmt: skip
    found = price_columns(catalog, priced_offerings, columns)
    assert found.bad_rows == 2
    assert found.status.tolist() == [2, 0, 2]


def test_an_amount_beyond_64_bits_is_refused(catalog: Catalog, priced_offerings: list[Offering]) -> None:
    columns = {
        "offering": np.zeros(2, int), "arrival_ns": np.zeros(2, int),
        "input_tok": np.array([10, 4 * 10**9]), "output_tok": np.zeros(2, int),
    }  # fmt: skip
    with pytest.raises(BadInput, match=r"row 1.*USD"):
        price_columns(catalog, priced_offerings, columns)


def test_empty_columns(catalog: Catalog) -> None:
    columns = {name: np.zeros(0, np.int64) for name in COLUMNS}
    found = price_columns(catalog, [], columns, bucket="day")
    assert len(found.amount_fusd) == 0
    assert found.total_fusd == 0


def test_missing_column_is_named(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match="no column 'offering'"):
        price_columns(catalog, [], {"input_tok": np.zeros(1, int)})


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="the kernels are not compiled")
def test_a_million_rows_a_second(catalog: Catalog, priced_offerings: list[Offering]) -> None:
    rng = np.random.default_rng(1)
    n = 300_000
    start = int((datetime(2026, 8, 10, tzinfo=UTC) - EPOCH).total_seconds()) * 10**9
    columns = {
        "offering": rng.integers(0, len(priced_offerings), n).astype(np.int32),
        "arrival_ns": start + np.sort(rng.integers(0, 14 * 86_400 * 10**9, n)),
        "input_tok": rng.integers(1000, 300_000, n),
        "output_tok": rng.integers(0, 2000, n),
    }
    began = time.process_time()
    price_columns(catalog, priced_offerings, columns)
    assert n / (time.process_time() - began) > 1_000_000
