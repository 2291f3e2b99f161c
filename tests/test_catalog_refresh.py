"""A newer source proposes and never overwrites; where two sources differ, one is believed by a rule."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from golden import Golden
from isocost.bill import Usage, price
from isocost.catalog import Catalog
from isocost.catalog.catalog import COLUMNS, FACTS_DIR
from isocost.catalog.disagree import CROSSCHECK, RULES, disagreements
from isocost.catalog.genai import Stated
from isocost.catalog.names import resolve
from isocost.catalog.prices import provisioned, rates
from isocost.catalog.refresh import compare, from_file, from_package, rows, write
from isocost.cli import main
from isocost.errors import BadFact, BadInput

DAY = date(2026, 11, 24)
NEW_YEAR, JULY, XMAS = date(2026, 1, 1), date(2026, 7, 1), date(2026, 12, 24)
INPUT = "input_usd_per_mtok"
HEAD = "subject,attribute,when,value,valid_from\n"


def stated(subject: str, value: str, since: date | None = None, when: str = "") -> Stated:
    return Stated(subject, INPUT, when, value, "USD/Mtok", since, None)


def differences(catalog: Catalog, *found: Stated) -> list[tuple[str, str, date | None]]:
    return [(one.what, one.stated, one.valid_from) for one in compare(catalog, found, "new-1", DAY).proposals]


def test_an_equal_price_proposes_nothing(catalog: Catalog) -> None:
    found = compare(catalog, [stated("api/openai/gpt-4o", "2.5")], "new-1", DAY)
    assert (found.same, found.proposals) == (1, ())


@pytest.mark.parametrize(
    ("subject", "value", "since", "expected"),
    [
        pytest.param("openai/gpt-4o", "2", None, ("changed", DAY), id="undated: from that day"),
        pytest.param("openai/gpt-4o", "2", DAY, ("changed", DAY), id="dated after the last check"),
        pytest.param("openai/gpt-4o", "2", NEW_YEAR, ("conflict", NEW_YEAR), id="dated before it"),
        pytest.param("openai/gpt-5.6-sol", "3", JULY, ("conflict", JULY), id="before the segment in force"),
        pytest.param("openai/gpt-4o", "2", XMAS, ("expected", XMAS), id="announced"),
        pytest.param("acme/big", "2", None, ("new", None), id="an offering that is not known"),
    ],
)  # fmt: skip
def test_what_is_proposed(
    catalog: Catalog, subject: str, value: str, since: date | None, expected: tuple[str, date | None]
) -> None:
    assert differences(catalog, stated(f"api/{subject}", value, since)) == [(expected[0], value, expected[1])]


def test_a_new_tier_of_a_known_offering_starts_on_the_day(catalog: Catalog) -> None:
    found = differences(catalog, stated("api/openai/gpt-4o", "1.5", when="tier=night"))
    assert found == [("new", "1.5", DAY)]


def test_what_a_source_states_no_more_is_gone(catalog: Catalog) -> None:
    cohere = [
        stated(subject, str(fact.value).removesuffix(".0"))
        for subject in catalog.subjects("api/cohere/")
        if (fact := catalog.at(DAY).find(subject, INPUT)) is not None
    ]
    whole = compare(catalog, cohere, "genai-prices-9", DAY, hosts=["cohere"])
    less = compare(catalog, cohere[1:], "genai-prices-9", DAY, hosts=["cohere"])
    assert whole.proposals == ()
    assert [(one.what, one.subject) for one in less.proposals] == [("gone", cohere[0].subject)]


def test_proposals_are_facts_that_work_and_the_shipped_ones_stay(catalog: Catalog, tmp_path: Path) -> None:
    before = (FACTS_DIR / "api_prices.csv").read_bytes()
    file = tmp_path / "new.csv"
    file.write_text(
        f"{HEAD}api/openai/gpt-4o,{INPUT},,2,\napi/openai/gpt-4o,output_usd_per_mtok,,9,2026-01-01\n"
    )
    found = from_file(catalog, file, DAY)
    out = tmp_path / "mine"
    out.mkdir()
    write(found, out)
    mine = Catalog.load(FACTS_DIR, out)
    assert (FACTS_DIR / "api_prices.csv").read_bytes() == before
    assert mine.at(DAY).number("api/openai/gpt-4o", INPUT) == 2
    assert mine.at(date(2026, 11, 23)).number("api/openai/gpt-4o", INPUT) == 2.5, "history is not repriced"
    assert mine.at(DAY).number("api/openai/gpt-4o", "output_usd_per_mtok") == 10, "a conflict is not applied"
    assert "output_usd_per_mtok" in (out / "settle.txt").read_text()
    assert all(len(row) == len(COLUMNS) for row in rows(found))


def test_a_file_that_is_no_facts_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("subject,attribute,when\n")
    with pytest.raises(BadInput, match="no column 'value'"):
        from_file(catalog, file, DAY)
    file.write_text(f"{HEAD}api/openai/gpt-4o,{INPUT},,cheap,\n")
    with pytest.raises(BadInput):
        from_file(catalog, file, DAY)


def test_the_snapshot_is_what_the_package_holds(catalog: Catalog) -> None:
    """The facts were taken from it, so that the same version of it changes nothing."""
    genai = pytest.importorskip("genai_prices")
    if f"genai-prices-{genai.__version__}" not in catalog.sources:
        pytest.skip("another version than the snapshot's")
    found = from_package(catalog, date(2026, 11, 23))
    assert found.proposals == ()
    assert found.same > 5000
    assert all("deepseek" in subject for subject in found.left_out)


def test_without_the_package_it_says_what_to_type(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(BadInput) as wrong:
        from_package(catalog, DAY)
    assert "pip install" in wrong.value.fix


def test_disagreements_are_counted_and_reasoned(catalog: Catalog) -> None:
    found = disagreements(catalog, date(2026, 11, 23))
    assert found.offerings > 400
    assert 0 < found.differing < found.offerings / 4
    assert {one.rule for one in found.differ} <= set(RULES)
    assert all(abs(one.share) >= Decimal("0.005") for one in found.differ)
    one = disagreements(catalog, date(2026, 11, 23), "x-ai")
    assert {part.subject.split("/")[1] for part in one.differ} <= {"x-ai"}


def test_a_table_of_its_own_is_compared(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    rows_of = [
        f"api/openai/gpt-4o,{INPUT},,2.5", "api/openai/gpt-4o,output_usd_per_mtok,,9",
        f"api/openai/o3,{INPUT},,10", f"api/deepseek/deepseek-v4-pro,{INPUT},,1.32",
        f"api/together/openai/gpt-oss-120b,{INPUT},,0.15001",
    ]  # fmt: skip
    file.write_text("subject,attribute,when,value\n" + "\n".join(rows_of) + "\n")
    found = disagreements(catalog, date(2026, 11, 23), file=file)
    rules = {one.subject.rpartition("/")[2]: one.rule for one in found.differ}
    assert rules == {"gpt-4o": "dated", "o3": "dated", "deepseek-v4-pro": "window"}
    assert (found.offerings, found.prices, found.rounded, found.differing) == (4, 5, 1, 3)
    file.write_text("subject,price\nx,1\n")
    with pytest.raises(BadFact):
        disagreements(catalog, date(2026, 11, 23), file=file)


def test_the_cross_check_computes_nothing(catalog: Catalog) -> None:
    assert CROSSCHECK.parent != FACTS_DIR
    assert not any(row.file == CROSSCHECK.name for row in catalog.rows)
    with CROSSCHECK.open(encoding="utf-8", newline="") as lines:
        assert all(("api", row["attribute"]) in catalog.attributes for row in csv.DictReader(lines))


def test_meters_that_no_request_counts_have_prices(catalog: Catalog) -> None:
    at = catalog.at(date(2026, 11, 20))
    flash = rates(at, resolve(at, "gemini-3.8-flash", "google")).meters["cache_storage"]
    assert (flash.usd, flash.per, flash.fusd) == (Decimal("0.5"), 1_000_000, 500_000_000)
    image = rates(at, resolve(at, "gpt-image-1.5", "openai")).meters
    assert [image[name].usd for name in ("image_input", "image_cache_read", "image_output")] == [8, 2, 32]
    assert (
        "cache_storage"
        not in rates(catalog.at(date(2027, 1, 1)), resolve(at, "gemini-3.8-flash", "google")).meters
    )


def test_a_request_with_images_a_held_cache_and_file_searches(catalog: Catalog) -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    image = resolve(catalog.at(at.date()), "gpt-image-1.5", "openai")
    used = Usage(input_tok=3000, image_input_tok=2000, image_output_tok=4000, output_tok=4000)
    bill = price(catalog, image, used, at)
    assert (bill.status, bill.usd) == ("priced", Decimal(1000 * 5 + 2000 * 8 + 4000 * 32) / 1_000_000)
    flash = resolve(catalog.at(at.date()), "gemini-3.8-flash", "google")
    held = price(catalog, flash, Usage(cache_storage_tok_h=2 * 300_000), at)
    assert (held.status, held.usd) == ("priced", Decimal("0.3"))
    assert price(catalog, image, Usage(cache_storage_tok_h=1), at).status == "unpriced"
    sol = resolve(catalog.at(at.date()), "gpt-6-sol", "openai")
    assert price(catalog, sol, Usage(file_searches=4), at).usd == Decimal("0.01")


def test_provisioned_throughput(catalog: Catalog) -> None:
    at = catalog.at(date(2026, 11, 20))
    unit = provisioned(at, "aws", "1-month", "anthropic.claude-v2:1", "us-east-1")
    assert unit is not None
    assert unit.usd == 63, "0.0175 USD a second"
    azure = provisioned(at, "azure")
    assert azure is not None
    assert azure.usd == 2
    assert provisioned(at, "openai") is None
    assert provisioned(at, "aws", "hour", "anthropic.claude-v2:1", "us-east-1") is None


def test_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path, golden: Golden) -> None:
    file = tmp_path / "new.csv"
    file.write_text(
        f"{HEAD}api/openai/gpt-4o,{INPUT},,2,\napi/openai/gpt-5.6-sol,{INPUT},,3,2026-08-01\n"
        f"api/openai/gpt-4.1,{INPUT},,1.5,2026-12-24\napi/acme/big,{INPUT},,1.5,\n"
        f"api/openai/gpt-4.1,output_usd_per_mtok,,8,\n"
    )
    words = ["catalog", "refresh", "--from", str(file), "--on", "2026-11-24"]
    assert main(words) == 1, "a conflict"
    golden.check("catalog_refresh.txt", capsys.readouterr().out)
    assert main([*words, "--out", str(tmp_path / "mine"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [len(found[kind]) for kind in ("new", "changed", "expected", "gone", "conflict")] == [
        1,
        1,
        1,
        0,
        1,
    ]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "prices.csv",
        "settle.txt",
        "sources.csv",
    ]
    assert main(["catalog", "disagreements", "x-ai"]) == 0
    golden.check("catalog_disagreements.txt", capsys.readouterr().out)
    assert main(["catalog", "disagreements", "x-ai", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing"] == 1
    assert main(["catalog", "refresh", "--from", "nothing.csv"]) == 2
    assert main(["catalog", "refresh", "--from", str(file), "--out", str(FACTS_DIR)]) == 2
    assert main(["catalog", "disagreements", "nobody"]) == 2


def test_the_mapping_is_free_to_import() -> None:
    assert "genai_prices" not in vars(importlib.import_module("isocost.catalog.genai"))


def test_disagreements_fit_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The longest names are of hosts that keep their maker's."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["catalog", "disagreements"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
