"""Invoices in the shapes that providers give them: what each line says of its model, meter, tier and key."""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from isocost.books.overlay import Overlay, read_overlay
from isocost.books.reconcile import Log, read_files, reconcile
from isocost.books.statement import Statement, statement
from isocost.catalog import Catalog
from isocost.cli.root import main
from isocost.errors import BadInput
from isocost.trace import open_trace
from isocost.trace.invoice_tables import azure_model
from isocost.trace.invoices import InvoiceLine, read_invoice

ROOT = Path(__file__).parents[1]


def lines(name: str, provider: str) -> tuple[tuple[InvoiceLine, ...], tuple[str, ...]]:
    found = read_invoice(ROOT / "tests" / "cases" / "reconcile" / f"{name}.csv", provider)
    return found.lines, found.doubts


def test_azure() -> None:
    (cached, batch, units), doubts = lines("azure", "azure")
    assert (cached.model, cached.meter, cached.tier, cached.quantity) == (
        "gpt-4.1-mini",
        "cache_read",
        "",
        120_000,
    )
    assert (cached.amount, cached.currency, cached.usd) == (Decimal("0.0108"), "EUR", Decimal("0.012"))
    assert cached.list_amount == Decimal("0.0108"), (
        "pay-as-you-go price times quantity, in the billing currency"
    )
    assert (batch.model, batch.meter, batch.tier, batch.quantity) == ("gpt-4.1", "output", "batch", 2_000_000)
    assert (units.kind, units.quantity, str(units.day)) == ("fee", None, "2026-10-31")
    assert doubts == ("lines of other services are left out: 1, in all 2.16",)
    assert azure_model("gpt 5 mini pp Inp glbl Tokens") == "gpt-5-mini"


def test_focus() -> None:
    (usage, credit), doubts = lines("focus", "openai")
    assert (usage.model, usage.meter, usage.quantity, usage.list_amount) == ("gpt-4.1", "input", 500_000, 1)
    assert (usage.project, usage.until) == ("team-1", None)
    assert (credit.kind, credit.amount, str(credit.until)) == ("credit", -5, "2026-11-01")
    assert "other services" in doubts[0]


def test_aws() -> None:
    (read, batch, off), _ = lines("aws", "bedrock")
    assert (read.model, read.meter, read.quantity) == ("Claude4.5Sonnet", "cache_read", 1_500_000)
    assert (read.list_amount, read.kind, off.kind) == (Decimal("0.5"), "usage", "discount")
    assert (batch.meter, batch.tier, batch.quantity) == ("output", "batch", 2000)


def test_openrouter_and_a_table_of_ones_own() -> None:
    ((row,), _) = lines("openrouter", "openrouter")
    assert (row.model, row.amount, row.requests) == ("openai/gpt-4.1-2025-04-14", Decimal("0.015"), 5)
    (usage, fee, whole), _ = lines("own", "openai")
    assert (usage.meter, usage.tier, usage.quantity, usage.requests) == ("output", "batch", 10**6, 40)
    assert (usage.key, usage.list_amount, str(usage.until)) == ("key-1", 25, "2026-11-01")
    assert (fee.kind, whole.kind) == ("fee", "adjustment")


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """What writes the example invoices."""
    spec = importlib.util.spec_from_file_location("example_invoices", ROOT / "examples" / "invoices.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def priced(catalog: Catalog) -> tuple[Log, Statement]:
    trace = open_trace(ROOT / "examples" / "litellm_spendlogs.csv", who=True)
    terms = read_overlay(ROOT / "examples" / "invoices" / "contract.toml")
    return Log(trace, catalog, terms), statement(trace, catalog)


def test_the_examples_are_explained(
    made: ModuleType, priced: tuple[Log, Statement], catalog: Catalog, tmp_path: Path
) -> None:
    """Costs pages, usage pages and a cost report of the example log, with all that was done to them."""
    log, found = priced
    batch = log.priced.of("tier=batch")
    assert batch is not None
    costs, usage = made.openai(found, batch.found.lines)
    (tmp_path / "costs.json").write_text(costs, encoding="utf-8")
    (tmp_path / "usage.json").write_text(usage, encoding="utf-8")
    (tmp_path / "anthropic.json").write_text(made.anthropic(found), encoding="utf-8")
    files = read_files("openai", [tmp_path / "costs.json", tmp_path / "usage.json"], catalog)
    one = reconcile(log, "openai", *files, "2026-11", frozenset({"proj_gateway"}))
    assert {part.name for part in one.residuals} >= {
        "credits", "direct traffic", "missing rows", "tier", "unexplained",
    }  # fmt: skip
    assert float(one.usd("direct traffic")) == pytest.approx(49.28)
    assert float(one.usd("unexplained")) == pytest.approx(0.87, abs=0.01)
    assert float(one.usd("credits")) == -25
    files = read_files("anthropic", [tmp_path / "anthropic.json"], catalog)
    other = reconcile(log, "anthropic", *files, "2026-11")
    assert {part.name for part in other.residuals} <= {"contract", "missing rows", "rounding"}
    for each in (one, other):
        total = sum((Fraction(part.usd) for part in each.residuals), Fraction(0))
        assert total == Fraction(each.invoice_usd) - Fraction(each.bill_usd)
    with pytest.raises(BadInput, match="usage pages have no amounts"):
        read_files("openai", [tmp_path / "usage.json"], catalog)


def test_a_foreign_invoice_needs_a_rate(priced: tuple[Log, Statement], tmp_path: Path) -> None:
    log, _ = priced
    path = tmp_path / "invoice.csv"
    path.write_text("date,description,amount,currency\n2026-11-03,usage,5,GBP\n", encoding="utf-8")
    plain = Log.__new__(Log)
    plain.__dict__ |= {**log.__dict__, "overlay": Overlay()}
    with pytest.raises(BadInput, match=r"an amount in GBP on 2026-11-03, and no rate of it"):
        reconcile(plain, "openai", [read_invoice(path, "openai")])


def test_the_files_own_list_price_is_the_contract(
    priced: tuple[Log, Statement], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A FOCUS export of the log itself, billed a fifth under list: nothing else is left."""
    log = str(ROOT / "examples" / "litellm_spendlogs.csv")
    terms = tmp_path / "contract.toml"
    terms.write_text("[[discount]]\npercent = 20\n", encoding="utf-8")
    out = tmp_path / "focus.csv"
    assert main(["export", "focus", log, "--out", str(out), "--overlay", str(terms)]) == 0
    assert main(["reconcile", log, "--invoice", f"openai={only(out, 'openai', tmp_path)}", "--json"]) == 0
    text = capsys.readouterr().out
    (one,) = msgspec.json.decode(text[text.index("{") :])["invoices"]
    sums: dict[str, Any] = {part["name"]: Decimal(part["usd"]) for part in one["residuals"]}
    assert set(sums) <= {"contract", "rounding"}
    assert sums["contract"] == -Decimal(one["bill_usd"]) / 5


def only(path: Path, provider: str, folder: Path) -> Path:
    """The rows of one provider."""
    rows = path.read_text(encoding="utf-8").splitlines()
    mine = folder / f"{provider}.csv"
    mine.write_text(
        "\n".join([rows[0], *(row for row in rows[1:] if row.startswith(f"{provider},"))]), "utf-8"
    )
    return mine
