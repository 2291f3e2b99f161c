"""From the name in a log to the offering that is priced."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest

from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.catalog.names import resolve
from isocost.errors import UnknownModel

ON = date(2026, 11, 20)
CASES = list(csv.DictReader((Path(__file__).parent / "cases" / "names.csv").open(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['provider']}:{case['name']}")
def test_logged_names(catalog: Catalog, case: dict[str, str]) -> None:
    found = resolve(catalog.at(ON), case["name"], case["provider"])
    assert (found.subject, found.provider, found.region) == (
        case["subject"],
        case["billed_by"],
        case["region"],
    )


def test_every_offering_answers_to_its_own_id(catalog: Catalog) -> None:
    at = catalog.at(ON)
    for subject in catalog.having("input_usd_per_mtok", "api/"):
        _, provider, model = subject.split("/", 2)
        assert resolve(at, model, provider).subject == subject


def test_unknown_names_say_what_is_near_and_how_to_add_one(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel, match=r"(?s)gpt-4o.*--facts DIR"):
        resolve(catalog.at(ON), "gpt-4oo")
    with pytest.raises(UnknownModel, match="no provider 'opanai'"):
        resolve(catalog.at(ON), "gpt-4o", "opanai")


def test_weights_that_many_sell_are_not_guessed(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel, match=r"sold by \d+ providers.*Say which"):
        resolve(catalog.at(ON), "meta-llama/llama-3.3-70b-instruct")


def test_a_snapshot_that_is_not_listed_is_not_another_model(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel):
        resolve(catalog.at(ON), "gpt-4o-2031-01-01", "openai")


def test_ones_own_facts_add_a_model(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "subject,attribute,value,unit,source,checked,kind,note\n"
        "api/house/our-model,input_usd_per_mtok,0.2,USD/Mtok,us,2026-11-01,assumed,our rate\n"
        "api/openai/gpt-4o,input_usd_per_mtok,1.9,USD/Mtok,us,2026-11-01,assumed,our discount\n"
    )
    (tmp_path / "sources.csv").write_text(
        "id,title,address,publisher,licence,read,note\nus,Our contract,,us,,2026-11-01,\n"
    )
    mine = Catalog.load(FACTS_DIR, tmp_path)
    assert resolve(mine.at(ON), "house/our-model").subject == "api/house/our-model"
    assert mine.at(ON).number("api/openai/gpt-4o", "input_usd_per_mtok") == 1.9
