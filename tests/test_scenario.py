"""Scenario files: read strictly, the same traffic every time, and the examples cost what they claim."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.plan.market.prepare import prepare
from isocost.plan.scenario import read, request_of, trace_of

ROOT = Path(__file__).parents[1]
ON = date(2026, 11, 23)
NUMBERS = """
title = "t"
now = "openai/gpt-4.1"
[[workload]]
name = "a"
requests = "60k/mo"
in = 1000
out = 200
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def write(folder: Path, text: str) -> Path:
    path = folder / "s.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_come_out_as_they_were_said(tmp_path: Path, catalog: Catalog) -> None:
    scenario = read(write(tmp_path, NUMBERS + 'shared = 300\nrepeat = "20%"\n'))
    trace = trace_of(scenario, catalog.at(ON))
    table = trace.requests()
    months = 14.0 / (365.25 / 12)
    assert len(table) / months == pytest.approx(60_000, rel=0.05)
    assert table.input_tok.mean() == pytest.approx(1000, rel=0.1)
    assert table.output_tok.mean() == pytest.approx(200, rel=0.1)
    assert trace.digest == trace_of(scenario, catalog.at(ON)).digest


def test_a_wait_becomes_a_limit(tmp_path: Path, catalog: Catalog) -> None:
    request = request_of(read(write(tmp_path, NUMBERS + 'wait = "24h"\n')), catalog, ON)
    assert request.limits.of("a").wait == "24h"


def test_customers_ask_their_shares(tmp_path: Path, catalog: Catalog) -> None:
    named = NUMBERS + '[customers]\nacme = "70%"\nbeta = 0.3\n'
    trace = trace_of(read(write(tmp_path, named)), catalog.at(ON))
    who = trace.requests().tenant
    assert who is not None
    assert trace.names["tenant"] == ("acme", "beta")
    assert np.bincount(who) / len(who) == pytest.approx([0.7, 0.3], abs=0.02)
    counted = trace_of(read(write(tmp_path, "customers = 3\n" + NUMBERS)), catalog.at(ON)).requests().tenant
    assert counted is not None
    assert np.bincount(counted) / len(counted) == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.02)
    assert trace_of(read(write(tmp_path, NUMBERS)), catalog.at(ON)).requests().tenant is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NUMBERS + '[customers]\na = "70%"\n', "70% of the requests"),
        (NUMBERS + "[customers]\n", "0% of the requests"),
        (NUMBERS + "[customers]\na = 1.5\n", "more than the whole"),
        ("customers = -1\n" + NUMBERS, "customers = -1"),
        (NUMBERS.replace("requests", "request"), "request"),
        (NUMBERS.replace("60k/mo", "60k"), "no period"),
        (NUMBERS.replace("60k/mo", "60k..90k/mo"), "range"),
        (NUMBERS + "shared = 2000\n", "shared"),
        (NUMBERS + "[slo.workload.b]\nttft_p95_s = 1.0\n", "no workload 'b'"),
        ("title = ", "not TOML"),
        ('title = "t"\nnow = "x"\nworkload = []\n', "no [[workload]]"),
    ],
)
def test_a_mistake_is_said(tmp_path: Path, catalog: Catalog, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        request_of(read(write(tmp_path, text)), catalog, ON)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("startup", 100, 1_000), ("support", 1_000, 5_000), ("midscale", 1_000, 10_000)]
)
def test_an_example_costs_what_it_is_known_to_cost(catalog: Catalog, name: str, low: int, high: int) -> None:
    """Today's tokens a month: a start-up hundreds, a support application of a million 1 to 5 thousand."""
    request = request_of(read(ROOT / "examples" / f"{name}.toml"), catalog, ON)
    assert low <= prepare(request).today_usd <= high


def test_every_example_is_read(catalog: Catalog) -> None:
    for path in sorted((ROOT / "examples").glob("*.toml")):
        if "[[workload]]" in path.read_text(encoding="utf-8"):
            assert read(path).workload
