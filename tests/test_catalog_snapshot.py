"""The price snapshot against the package it was taken from, where that package is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from isocost.bill import Usage, price
from isocost.catalog import Catalog
from isocost.catalog.names import Offering

genai = pytest.importorskip("genai_prices")
SCRIPT = Path(__file__).parents[1] / "calibration" / "snapshot_prices.py"
MOMENTS = [
    datetime(2025, 6, 9, 5, tzinfo=UTC),
    datetime(2026, 8, 20, 12, tzinfo=UTC),
    datetime(2026, 11, 18, 2, tzinfo=UTC),
]
USAGES = [Usage(900, 0, 0, 100), Usage(150_000, 50_000, 0, 900), Usage(280_000, 1000, 500, 7)]
TIERS = {"standard": None, "batch": {"processing": "batch"}, "flex": {"service_tier": "flex"}}


@pytest.fixture(scope="module")
def snapshot() -> Iterator[ModuleType]:
    # A script imports what stands beside it, as when it is run.
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("snapshot_prices", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["snapshot_prices"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


def test_bills_equal_those_of_the_package(catalog: Catalog, snapshot: ModuleType) -> None:
    """Every text offering at three moments, three lengths and three tiers, where both know every meter.

    Left out by rule: DeepSeek (the package cannot tie a window to a date) and entries whose history this
    catalog amends.
    """
    compared = 0
    amended = {row.fields[0] for row in catalog.rows if row.file == "past_prices.csv"}
    for provider in snapshot.providers:
        if provider.id not in snapshot.PROVIDERS or provider.id in ("deepseek", "openrouter"):
            continue
        for model in provider.models:
            if not snapshot.kept(provider, model) or (provider.id, model.id) in snapshot.AMENDED:
                continue
            host = snapshot.PROVIDERS[provider.id]
            offering = Offering(f"api/{host}/{model.id}", host)
            if offering.subject in amended:
                continue
            for at in MOMENTS:
                for tier, context in TIERS.items():
                    variants = [v for v in model.price_variants or () if v.when == context]
                    started = [v for v in variants if v.constraint is None or v.constraint.active(at)]
                    if context and not started:
                        continue
                    for usage in USAGES:
                        ours = price(catalog, offering, usage, at, tier)
                        theirs = expected(provider, model, usage, at, context)
                        if ours.status == "priced" and theirs is not None:
                            assert Fraction(ours.amount_fusd, 10**15) == theirs, (
                                offering.id,
                                at,
                                tier,
                                usage,
                            )
                            compared += 1
    assert compared > 3000


def expected(provider: object, model: object, usage: Usage, at: datetime, context: object) -> Fraction | None:
    """The package's bill; ``None`` where it lacks a price of a meter, which it takes as free."""
    prices = model.get_prices(at, context)  # type: ignore[attr-defined]
    needs = {"input_mtok": True, "output_mtok": True, "cache_read_mtok": usage.cached_tok}
    needs["cache_write_mtok"] = usage.cache_write_tok
    if any(need and getattr(prices, key) is None for key, need in needs.items()):
        return None
    counts = {"input_tokens": usage.input_tok, "output_tokens": usage.output_tok}
    counts |= {"cache_read_tokens": usage.cached_tok, "cache_write_tokens": usage.cache_write_tok}
    bill = model.calc_price(  # type: ignore[attr-defined]
        genai.Usage(**counts), provider, genai_request_timestamp=at, price_context=context
    )
    return Fraction(bill.total_price)
