"""Every formula that `why` prints gives the number beside it, and the numbers are the plan's own."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from isocost.bill import Usage, price
from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.catalog import FACTS_DIR
from isocost.catalog.evidence import may_replace
from isocost.catalog.names import resolve
from isocost.cli import main
from isocost.cli.catalog import newest
from isocost.cli.why import live, printed
from isocost.deployment import rent
from isocost.errors import UnknownFact
from isocost.keep.standing import Standings
from isocost.ledger import Charge, Ledger, fusd
from isocost.perf import candidates
from isocost.perf.memory import cache_capacity_tok, weight_bytes
from isocost.why import Asked, explain, fact_of, of_ledger, why
from isocost.why.formula import WORDS, Leaf

FACTS = Path(__file__).parent / "cases" / "cli" / "facts"
ASKED = Asked(2000, 300, 400, today="openai/gpt-4o")
POOLS = (
    "self/llama-3.3-70b@4xh100-sxm",
    "self/llama-3.1-8b@1xl4",
    "self/deepseek-v3@8xh200-ep",
    "self/gpt-oss-120b@1xh100-sxm",
    "self/qwen3-next-80b-a3b@4xh100-sxm",
    "self/llama-3.3-70b@2xh100-sxm:fp8",
)
QUANTITIES = (
    "usd_per_mtok",
    "usd_per_month",
    "goodput_per_s",
    "weight_bytes",
    "cache_bytes_per_tok",
    "cache_capacity_tok",
    "decode_step_s",
    "prefill_s",
)
OTHERS = (
    "openai/gpt-4o.usd_per_request",
    "anthropic/claude-sonnet-4-5.usd_per_request",
    "llama-3.3-70b.quality",
    "selfhost.staff_usd_per_month",
    "api.staff_usd_per_month",
    "gpu/h100-sxm.memory_bytes",
)
NAMES = [f"{pool}.{quantity}" for pool in POOLS for quantity in QUANTITIES] + list(OTHERS)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


@pytest.mark.parametrize("name", NAMES)
def test_every_formula_gives_its_number(at: CatalogAt, name: str) -> None:
    for node in why(at, name, ASKED).walk():
        assert node.evaluate() == pytest.approx(node.value, rel=1e-9), node.formula
        if node.formula:
            shown = eval(live(node), {"__builtins__": {}, "inf": float("inf")}, dict(WORDS))
            assert shown == pytest.approx(float(printed(node.value)), rel=1e-5, abs=1e-12), live(node)


@pytest.mark.parametrize("name", NAMES)
def test_every_leaf_says_where_it_comes_from(at: CatalogAt, name: str) -> None:
    given = {"batch", "context_tok", "tokens", "prefill_tok", "sampled"}
    for node in why(at, name, ASKED).walk():
        if not node.inputs:
            assert node.facts or node.how or node.name in given, node.name
        for ident in node.facts:
            assert fact_of(at, ident).id == ident


def test_the_numbers_are_those_that_a_plan_computes(at: CatalogAt) -> None:
    every = candidates(at, "llama-3.3-70b", ("h100-sxm",), context_tok=2300.0)
    one = every.select(np.flatnonzero((every.gpus == 4) & every.is_native)[:1])
    pool = "self/llama-3.3-70b@4xh100-sxm"
    rate, _ = one.goodput(2000, 300, at.number("slo/chat", "ttft_p95_s"), at.number("slo/chat", "tpot_p95_s"))
    quote = rent(at, "h100-sxm", "on_demand", 4)
    assert quote is not None
    hand = 4 * quote.usd_per_gpu_h / (float(rate[0]) * 3600 * 2300 / 1e6)
    assert why(at, f"{pool}.usd_per_mtok", ASKED).value == pytest.approx(hand, rel=1e-12)
    assert why(at, f"{pool}.weight_bytes", ASKED).value == float(weight_bytes(one.arch, one.setup)[0])
    room = cache_capacity_tok(one.arch, one.gpu, one.setup, one.constants, 2150.0)
    assert why(at, f"{pool}.cache_capacity_tok", ASKED).value == float(room[0])
    verdict = may_replace(at, "llama-3.3-70b", "gpt-4o", at.number("slo/quality", "quality_margin_frac"))
    assert why(at, "llama-3.3-70b.quality", ASKED).value == verdict.lower
    people = sum(line.usd_per_month for line in Standings(at).people("selfhost", 1, 1.0, 0.0))
    assert why(at, "selfhost.staff_usd_per_month", ASKED).value == pytest.approx(people, rel=1e-12)


def test_a_request_is_its_bill(catalog: Catalog) -> None:
    mine = Catalog.load(FACTS_DIR, FACTS)
    at = mine.at(date(2026, 1, 1))
    offering = resolve(at, "acme/big")
    for tier in ("standard", "batch"):
        asked = Asked(20_000, 500, 0, tier)
        bill = price(
            mine,
            offering,
            Usage(input_tok=20_000, output_tok=500),
            datetime(2026, 1, 1, 12, tzinfo=UTC),
            tier,
        )
        node = why(at, "acme/big.usd_per_request", asked)
        assert node.value == float(bill.usd)
        assert node.evaluate() == pytest.approx(float(bill.usd), rel=1e-12)
    assert "provider/acme.batch_multiplier" in node.all_facts()


def charge(deployment: str, account: str, meter: str, quantity: float, price_usd: float) -> Charge:
    amount = fusd(quantity * price_usd)
    key = ("mon 00h", "api", deployment, "deployment", account, "chat", "")
    return Charge(*key, meter, quantity, "tok", "gpu/h100-sxm.memory_bytes", price_usd, amount)


def test_a_plan_is_its_ledger() -> None:
    ledger = Ledger(
        [
            charge("acme/big", "api-tokens", "input", 4e6, 2.5e-6),
            charge("acme/big", "api-tokens", "input", 2e6, 2.5e-6),
            charge("acme/big", "api-tokens", "input", 1e6, 5e-6),
            charge("acme/big", "api-tokens", "output", 1e6, 1e-5),
            charge("self/mine", "inference-compute", "rent", 10.0, 3.0),
        ]
    )
    node = of_ledger(ledger, "plan")
    assert node.value == pytest.approx(ledger.total_usd) == pytest.approx(60.0)
    for one in node.walk():
        assert one.evaluate() == pytest.approx(one.value, rel=1e-12)
    assert of_ledger(ledger, "plan.acme/big").value == pytest.approx(30.0)
    assert of_ledger(ledger, "plan.inference-compute.usd_per_month").value == pytest.approx(30.0)
    assert of_ledger(ledger, "plan.chat").value == pytest.approx(60.0)
    assert node.all_facts() == ("gpu/h100-sxm.memory_bytes",)
    with pytest.raises(UnknownFact, match="no part 'nothing'"):
        of_ledger(ledger, "plan.nothing")


def test_what_a_plan_only_estimated_is_said_to_be_no_fact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    risk = charge("acme/big", "api-change-risk", "service", 1.0, 100.0)
    facts = "retirement/acme/big.within a year * migration/any.usd_per_service"
    Ledger([msgspec.structs.replace(risk, price_fact=facts)]).write(tmp_path / "ledger.parquet")
    assert main(["why", "plan", "--ledger", str(tmp_path / "ledger.parquet")]) == 0
    assert "big.within a year, estimated from facts of retirement/*" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["why", "plan", "--ledger", str(tmp_path / "ledger.parquet"), "--json"]) == 0
    assert '"kind": "estimated"' in capsys.readouterr().out


def half_of(x: float) -> float:
    """Half."""
    doubled = x * 2.0
    return doubled / 4.0


def looped(x: float) -> float:
    """Adds up."""
    total = 0.0
    for _ in range(3):
        total += x
    return total


def outer(x: float, y: float) -> float:
    """A call with an expression as its argument, and a local that hides nothing."""
    z = half_of(x + y) + half_of(y)
    return max(z, x) * 3.0


def test_resolver_walks_locals_and_calls() -> None:
    node = explain(outer, {"x": 1.0, "y": 5.0}, lambda argument, field: Leaf())
    assert node.formula == "max(z, x) * 3.0"
    z = node.inputs[0]
    assert z.formula == "half_of + half_of_2"
    assert [one.value for one in z.inputs] == [3.0, 2.5]
    assert z.inputs[0].inputs[0].formula == "x * 2.0"
    assert z.inputs[0].inputs[0].inputs[0].formula == "x + y"
    assert [one.evaluate() for one in node.walk()] == [one.value for one in node.walk()]


def test_a_loop_shows_no_formula() -> None:
    node = explain(looped, {"x": 2.0}, lambda argument, field: Leaf())
    assert (node.value, node.formula, node.how) == (6.0, "", "Adds up.")


def test_the_formula_is_the_text_of_the_function(at: CatalogAt) -> None:
    node = why(at, "self/llama-3.1-8b@1xl4.weight_bytes", ASKED)
    assert node.formula == "((dense + ends) / tp + experts / (tp * dp)) / pp"


def test_printed_page_adds_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each printed pair '= names', '= numbers' the numbers give the value above."""
    monkeypatch.setenv("COLUMNS", "120")
    words = ["why", "self/llama-3.1-8b@1xl4.usd_per_mtok", "--in", "500", "--out", "100", "--depth", "6"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    checked = 0
    for before, above, line in zip(lines, lines[1:], lines[2:], strict=False):
        value = re.match(r"\s*\S+ = ([-\d.e+]+)", before)
        numbers = re.match(r"\s+= ([-\d.e+*/() ]+)$", line)
        if value and above.lstrip().startswith("= ") and numbers:
            assert eval(numbers[1]) == pytest.approx(float(value[1]), rel=1e-5)
            checked += 1
    assert checked >= 5
