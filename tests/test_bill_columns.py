"""The columnar bill against the scalar one and against fractions, over every dimension that a price has."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.bill import STATUS, Usage, price, price_columns
from isocost.bill.columns import reasons
from isocost.bill.tariff import EXTRA_COLUMNS, SLOTS, Tariff
from isocost.catalog import Attribute, Catalog, Fact, Source
from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import METERS, PRICES
from isocost.errors import BadInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = int((datetime(2026, 6, 1, tzinfo=UTC) - EPOCH).total_seconds()) * 10**9
NAMES = (
    "openai/gpt-5.6-sol", "openai/o3", "anthropic/claude-haiku-5-5", "deepseek/deepseek-v4-pro",
    "xai/grok-4.6", "gemini/gemini-3.1-pro-preview", "groq/openai/gpt-oss-120b", "perplexity/sonar",
)  # fmt: skip
TOKENS = st.integers(0, 2**31 - 1)
TIERS, REGIONS = ("standard", "batch", "priority"), ("eu", "us")


@pytest.fixture(scope="module")
def offerings(catalog: Catalog) -> list[Offering]:
    at = catalog.at(date(2026, 11, 20))
    return [resolve(at, name) for name in NAMES]


def random_columns(n: int, offerings: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows over half a year, all tiers and regions, with every count that a row may have."""
    rng = np.random.default_rng(seed)
    i32 = np.int32
    parts = {
        name: rng.integers(0, 3000, n).astype(i32) * (rng.random(n) < share)
        for name, share in (
            ("cached_tok", 0.7), ("cache_write_tok", 0.1), ("cache_write_1h_tok", 0.1),
            ("audio_input_tok", 0.1), ("image_input_tok", 0.1),
        )
    }  # fmt: skip
    output = rng.integers(0, 3000, n)
    columns = {
        "offering": rng.integers(-1, offerings, n).astype(i32),
        "arrival_ns": START + np.sort(rng.integers(0, 170 * 86_400, n)) * 10**9,
        "tier": rng.integers(-1, len(TIERS), n).astype(i32),
        "region": rng.integers(-1, len(REGIONS), n).astype(i32),
        **parts,
        "input_tok": sum(parts.values()) + rng.choice([0, 5, 199_000, 200_000, 272_000, 400_000], n),
        "output_tok": output,
        "audio_cached_tok": parts["cached_tok"] // 3,
        "image_cached_tok": parts["cached_tok"] // 4,
        "audio_output_tok": output // 3 * (rng.random(n) < 0.1),
        "image_output_tok": output // 5 * (rng.random(n) < 0.1),
        "web_searches": rng.integers(0, 2, n),
        "file_searches": rng.integers(0, 2, n),
        "cache_storage_tok_h": rng.integers(0, 9, n) * (rng.random(n) < 0.05),
    }
    return {name: values.astype(np.int64) if "tok" in name else values for name, values in columns.items()}


def test_every_usage_has_a_column_and_every_meter_a_slot() -> None:
    base = {"input_tok", "cached_tok", "cache_write_tok", "output_tok", "requests"}
    assert {*base, *EXTRA_COLUMNS} == {one.name for one in msgspec.structs.fields(Usage)}
    assert sorted(SLOTS) == sorted(METERS)


def test_columns_equal_scalar_over_every_dimension(catalog: Catalog, offerings: list[Offering]) -> None:
    n = 1500
    columns = random_columns(n, len(offerings))
    found = price_columns(
        catalog, offerings, columns, tiers=TIERS, regions=REGIONS, region="global", bucket="day"
    )
    fields = [one.name for one in msgspec.structs.fields(Usage) if one.name in columns]
    for row in range(n):
        code = int(columns["offering"][row])
        if code < 0:
            assert (found.amount_fusd[row], STATUS[found.status[row]]) == (0, "unpriced")
            continue
        usage = Usage(**{name: int(columns[name][row]) for name in fields})
        at = EPOCH + timedelta(seconds=int(columns["arrival_ns"][row]) // 10**9)
        region = (*REGIONS, "global")[columns["region"][row]]
        one = price(catalog, offerings[code], usage, at, TIERS[columns["tier"][row]], region)
        assert (found.amount_fusd[row], STATUS[found.status[row]]) == (one.amount_fusd, one.status)
    assert found.total_fusd == sum(found.amount_fusd.tolist())
    assert set(found.status.tolist()) == {0, 1, 2}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TOKENS, TOKENS, st.integers(1, 10**7)), min_size=1, max_size=30))
def test_row_sums_equal_the_total_beyond_64_bits(rows: list[tuple[int, int, int]]) -> None:
    """Amounts near 2^63 a row: only sums in two halves hold their total."""
    usd_per_mtok = 2.0
    catalog = one_price(usd_per_mtok)
    tariff = Tariff(catalog, [Offering("api/p/m", "p")])
    wanted = Fraction(0)
    for prompt, output, times in rows:
        columns = {
            "offering": np.zeros(2, np.int32), "arrival_ns": np.full(2, START + times),
            "input_tok": np.array([prompt, output], np.int64), "output_tok": np.array([output, 0], np.int64),
        }  # fmt: skip
        chunk = tariff.price(columns)
        exact = [
            Fraction(usd_per_mtok) * (a + b) * 10**9
            for a, b in zip(columns["input_tok"].tolist(), columns["output_tok"].tolist(), strict=True)
        ]
        assert chunk.amount_fusd.tolist() == exact
        wanted += sum(exact)
    assert tariff.total_fusd == wanted


def test_the_usual_meters_give_the_same_digits_statuses_and_reasons(
    catalog: Catalog, offerings: list[Offering]
) -> None:
    """Without rarer meters a shorter way is taken, in blocks; a large or a wrong row takes the longer way."""
    n = 9000
    every = random_columns(n, len(offerings), seed=4)
    usual = ("offering", "arrival_ns", "tier", "region", "cached_tok", "cache_write_tok", "output_tok")
    columns = {name: every[name] for name in usual}
    columns["input_tok"] = columns["cached_tok"] + columns["cache_write_tok"] + every["audio_input_tok"]
    columns["input_tok"][[3000, 7000]] = [5_000_000, 0]
    columns["cached_tok"][7000] = 9
    short, long = (Tariff(catalog, offerings, TIERS, (*REGIONS, "")) for _ in range(2))
    found = short.price(columns)
    other = long.price({**columns, "web_searches": np.zeros(n, np.int64)})
    assert found.amount_fusd.tolist() == other.amount_fusd.tolist()
    assert found.status.tolist() == other.status.tolist()
    assert short.total_fusd == long.total_fusd == sum(found.amount_fusd.tolist())
    assert sorted(reasons(short)) == sorted(reasons(long))
    assert short.bad_rows == long.bad_rows == 1
    assert {text: rows for text, rows in reasons(short) if text.startswith("no offering")}
    for row in range(0, n, 90):
        code = int(columns["offering"][row])
        if code < 0 or row in (3000, 7000):
            continue
        names = {name: int(columns[name][row]) for name in usual[4:]}
        usage = Usage(input_tok=int(columns["input_tok"][row]), **names)
        at = EPOCH + timedelta(seconds=int(columns["arrival_ns"][row]) // 10**9)
        tier, region = TIERS[columns["tier"][row]], (*REGIONS, "")[columns["region"][row]]
        one = price(catalog, offerings[code], usage, at, tier, region)
        assert (found.amount_fusd[row], STATUS[found.status[row]]) == (one.amount_fusd, one.status)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**22), st.integers(0, 2**22), st.integers(0, 2)), min_size=1),
    st.booleans(),
    st.booleans(),
)
def test_flat_rows_equal_fractions_digit_for_digit(
    rows: list[tuple[int, int, int]], cached: bool, narrow: bool
) -> None:
    """Rows on both sides of what the short way takes, in both widths of code, several blocks of them."""
    rows = rows * (3000 // len(rows))
    usd = {0: (2.5, 0.25, 15.0), 1: (0.15, 0.075, 0.6), 2: (3.0, 0.3, 0.0000001)}
    catalog = listed(usd)
    tariff = Tariff(catalog, [Offering(f"api/p/{m}", "p") for m in usd], on=date(2026, 1, 1))
    given_tok, output, code = (np.array(part, np.int32) for part in zip(*rows, strict=True))
    columns = {
        "offering": code.astype(np.int16) if narrow else code, "input_tok": given_tok, "output_tok": output,
    }  # fmt: skip
    if cached:
        columns["cached_tok"] = given_tok // 3
    read = columns.get("cached_tok", np.zeros_like(given_tok))
    chunk = tariff.price(columns)
    exact = [
        (Fraction(str(usd[k][0])) * (a - c) + Fraction(str(usd[k][1])) * c + Fraction(repr(usd[k][2])) * b)
        * 10**9
        for a, b, c, k in zip(given_tok.tolist(), output.tolist(), read.tolist(), code.tolist(), strict=True)
    ]
    assert chunk.amount_fusd.tolist() == exact
    assert tariff.total_fusd == sum(exact)


def listed(usd: dict[int, tuple[float, float, float]]) -> Catalog:
    """A list of input, cached and output prices, without dates."""
    facts, specs = [], {}
    for model, prices in usd.items():
        for meter, value in zip(("input", "cache_read", "output"), prices, strict=True):
            attribute = PRICES[meter][0]
            specs["api", attribute] = Attribute("api", attribute, "number", "", "", "")
            facts.append(
                Fact(f"api/p/{model}", attribute, "", value, "", None, None, None, None, "s", "",
                     date(2026, 1, 1), "published", "", "")
            )  # fmt: skip
    return Catalog(facts, {"s": Source("s", "S", "", "", "", date(2026, 1, 1), "")}, specs, "basis")


def one_price(usd_per_mtok: float, *, dated: bool = False) -> Catalog:
    facts, specs = [], {}
    for meter in ("input", "output"):
        attribute = PRICES[meter][0]
        specs["api", attribute] = Attribute("api", attribute, "number", "", "", "")
        spans = [(None, date(2026, 9, 1)), (date(2026, 9, 1), None)] if dated else [(None, None)]
        for since, until in spans:
            facts.append(
                Fact("api/p/m", attribute, "", usd_per_mtok * (2 if since else 1), "", None, None,
                     since, until, "s", "", date(2026, 1, 1), "published", "", "")
            )  # fmt: skip
    return Catalog(facts, {"s": Source("s", "S", "", "", "", date(2026, 1, 1), "")}, specs, "basis")


@pytest.mark.parametrize("clean", [False, True])
def test_flat_and_dated_prices_give_the_same_digits(clean: bool) -> None:
    """A list without dates takes a shorter way; over the first span both ways see the same price."""
    n = 5000
    rng = np.random.default_rng(3)
    columns = {
        "offering": rng.integers(-1, 2, n).astype(np.int32), "arrival_ns": np.full(n, START),
        "input_tok": rng.integers(0, 9000, n).astype(np.int32),
        "output_tok": rng.integers(0, 900, n).astype(np.int32),
    }  # fmt: skip
    if clean:
        columns["offering"][:] = 0
    else:
        columns["input_tok"][7] = -1
    both = []
    for dated in (False, True):
        tariff = Tariff(one_price(0.15, dated=dated), [Offering("api/p/m", "p"), None][: 1 if clean else 2])
        chunk = tariff.price(columns)
        both.append((chunk.amount_fusd.tolist(), chunk.status.tolist(), tariff.total_fusd, tariff.bad_rows))
    assert both[0] == both[1]
    assert both[0][3] == int(not clean)
    assert both[0][2] == sum(both[0][0]) > 0


def test_a_row_beyond_64_bits_is_named() -> None:
    tariff = Tariff(one_price(900.0, dated=True), [Offering("api/p/m", "p")])
    columns = {
        "offering": np.zeros(3, np.int32), "arrival_ns": np.full(3, START),
        "input_tok": np.array([1, 2, 2**31], np.int64), "output_tok": np.array([1, 2, 2**31 - 1], np.int64),
    }  # fmt: skip
    assert tariff.price({name: values[:2] for name, values in columns.items()}).amount_fusd[1] > 0
    columns["input_tok"][2] = 2**34
    with pytest.raises(BadInput, match=r"row 2.*9,223 USD"):
        tariff.price(columns)


def test_a_code_without_a_name_is_named() -> None:
    tariff = Tariff(one_price(1.0, dated=True), [Offering("api/p/m", "p")])
    columns = {"offering": np.array([0, 5], np.int32), "arrival_ns": np.full(2, START)}
    columns |= {name: np.ones(2, np.int32) for name in ("input_tok", "output_tok")}
    with pytest.raises(BadInput, match="row 1: a code without a name"):
        tariff.price(columns)
    with pytest.raises(BadInput, match="differ in length"):
        tariff.price({**columns, "cached_tok": np.zeros(1, np.int32)})


def test_a_stream_needs_the_memory_of_one_chunk(catalog: Catalog, offerings: list[Offering]) -> None:
    n = 5_000
    columns = random_columns(n, len(offerings))
    columns = {k: v for k, v in columns.items() if k not in EXTRA_COLUMNS}
    tariff = Tariff(catalog, offerings, TIERS, (*REGIONS, ""))
    out = tariff.price(columns)
    once, lines = tariff.total_fusd, len(tariff.lines)
    tracemalloc.start()
    for _ in range(10):
        tariff.price(columns, into=out)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tariff.total_fusd == 11 * once
    assert len(tariff.lines) == lines
    assert most < 1_000_000


def test_one_request_needs_no_arrays() -> None:
    code = (
        "import sys, isocost.bill, isocost.bill.scalar\n"
        "assert isocost.bill.Usage and isocost.bill.price\n"
        "print([m for m in ('numpy', 'numba', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_uncompiled_is_the_same() -> None:
    """The kernels run as plain Python where there is no compiler."""
    code = (
        "import numpy as np; from isocost.bill import price_columns; from isocost.catalog import Catalog;"
        "from isocost.catalog.names import resolve; from datetime import date;"
        "c = Catalog.load(); at = c.at(date(2026, 11, 20));"
        f"o = [resolve(at, n) for n in {NAMES!r}]; n = 300; r = np.random.default_rng(2);"
        f"t = {START} + r.integers(0, 170 * 86400, n) * 10**9;"
        "x = dict(offering=r.integers(-1, 8, n).astype(np.int32), arrival_ns=t, tier=r.integers(0, 2, n),"
        "input_tok=r.integers(0, 300000, n).astype(np.int32),"
        "cached_tok=r.integers(0, 999, n).astype(np.int32),"
        "output_tok=r.integers(0, 999, n).astype(np.int32));"
        "f = price_columns(c, o, x, tiers=('standard', 'batch'));"
        "print(f.total_fusd, f.amount_fusd.sum() % 997, f.status.sum(), f.bad_rows, f.why)"
    )
    said = []
    for off in ("0", "1"):
        env = {**os.environ, "NUMBA_DISABLE_JIT": off}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
        )
        said.append(done.stdout)
    assert said[0] == said[1] != ""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="the kernels are not compiled")
def test_ten_million_rows_a_second(catalog: Catalog, offerings: list[Offering]) -> None:
    """A quarter of what ``benchmarks/bill.py`` measures, so that a busy machine passes too."""
    columns = random_columns(400_000, len(offerings))
    columns = {
        k: v.astype(np.int32) if k.endswith("_tok") else v
        for k, v in columns.items()
        if k not in EXTRA_COLUMNS
    }
    tariff = Tariff(catalog, offerings, TIERS, (*REGIONS, ""))
    out = tariff.price(columns)
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        tariff.price(columns, into=out)
        best = min(best, time.process_time() - began)
    assert len(out.amount_fusd) / best > 10_000_000
