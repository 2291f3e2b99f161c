"""docs/money.md says what the books do: its examples read, its tables name every residual and every field."""

from __future__ import annotations

import re
from pathlib import Path

from isocost.books.chargeback import CentreMap, Cost, Rule, read_mapping
from isocost.books.check import read_budgets
from isocost.books.overlay import (
    SCOPE,
    Commitment,
    Credit,
    Currency,
    Discount,
    Fee,
    Provisioned,
    VolumeTier,
    parse_overlay,
)
from isocost.books.residuals import ACTIONS, RESIDUALS
from isocost.trace.invoice_tables import COLUMNS

PAGE = (Path(__file__).parents[1] / "docs" / "money.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block(word: str) -> str:
    (found,) = (text for text in BLOCKS if word in text)
    return found


def test_the_examples_read(tmp_path: Path) -> None:
    terms = parse_overlay(block("[[discount]]"), "money.md")
    assert all(
        getattr(terms, kind)
        for kind in ("discount", "commitment", "credit", "provisioned", "fee", "currency")
    )
    for name, read in (("budget", read_budgets), ("rule", read_mapping)):
        path = tmp_path / f"{name}.toml"
        path.write_text(block(f"[[{name}]]"), encoding="utf-8")
        assert read(path)


def test_every_field_of_a_rule_is_described() -> None:
    kinds = (Discount, VolumeTier, Commitment, Provisioned, Credit, Fee, Currency, CentreMap, Rule, Cost)
    fields = {name for kind in kinds for name in kind.__struct_fields__} - {"line", "rule", "cost"}
    assert {name for name in fields | set(SCOPE) if not re.search(rf"\b{name}\b", PAGE)} == set()


def test_every_residual_has_its_rule() -> None:
    rows = re.findall(r"^\| ([\w ,-]+) \|", PAGE, re.MULTILINE)
    named = {name.strip() for row in rows for name in row.split(",")}
    assert set(RESIDUALS) - named == set()
    assert set(ACTIONS) == set(RESIDUALS)


def test_columns_of_a_table_of_ones_own_are_described() -> None:
    assert [role for role, names in COLUMNS.items() if not any(f"`{name}`" in PAGE for name in names)] == []
