"""Every claim has a finding with evidence; a changed fact changes the verdict."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest

from golden import Golden
from isocost.catalog import Catalog
from isocost.catalog.catalog import COLUMNS, FACTS_DIR
from isocost.claims import IDS, VERDICTS, World, judged
from isocost.claims.registry import PLANNED
from isocost.cli import main
from isocost.errors import BadInput
from isocost.units import count

ROOT = Path(__file__).parents[1]
DAY = date(2026, 11, 23)
QUICK = [one for one in IDS if one not in PLANNED]


@pytest.fixture(scope="module")
def world(catalog: Catalog) -> World:
    return World(catalog, DAY)


def with_facts(folder: Path, rows: Iterable[tuple[str, str, str, float | str, str]]) -> World:
    """The shipped facts with some of one's own on top: subject, attribute, when, value, unit."""
    with (folder / "mine.csv").open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(COLUMNS)
        for subject, attribute, when, value, unit in rows:
            writer.writerow(
                [subject, attribute, when, value, unit, "", "", "", "", "assumption", "", "2026-11-23",
                 "assumed", "", "a test"]
            )  # fmt: skip
    return World(Catalog.load(FACTS_DIR, folder), DAY)


def test_all_48_claims_exist_with_their_words(catalog: Catalog) -> None:
    assert set(IDS) == {f"Q{i}" for i in range(1, 27)} | {f"D{i}" for i in range(1, 23)}
    held = {subject.partition("/")[2].upper() for subject in catalog.having("text", "claim/")}
    assert held == set(IDS)


@pytest.mark.parametrize("ident", QUICK)
def test_a_finding_has_evidence_that_exists(world: World, catalog: Catalog, ident: str) -> None:
    finding = judged(world, ident)
    known = {fact.id for fact in catalog.facts} | set(catalog.sources)
    assert finding.verdict in VERDICTS
    assert bool(finding.when) == (finding.verdict in ("holds when", "not settled"))
    assert finding.figures
    assert finding.sources
    assert finding.decides
    assert finding.boundary
    assert finding.change
    for figure in (*finding.figures, *finding.claimed):
        assert figure.rests_on, figure.name
        assert set(figure.rests_on) <= known, (figure.name, set(figure.rests_on) - known)
        if figure.low is not None and figure.high is not None:
            assert figure.low <= figure.value <= figure.high, figure.name


def test_planned_claims_have_evidence_and_agree(world: World, catalog: Catalog) -> None:
    known = {fact.id for fact in catalog.facts} | set(catalog.sources)
    found = {ident: judged(world, ident) for ident in IDS if ident in PLANNED}
    for ident, finding in found.items():
        assert finding.figures, ident
        assert finding.sources, ident
        assert bool(finding.when) == (finding.verdict in ("holds when", "not settled")), ident
        for figure in finding.figures:
            assert figure.rests_on, (ident, figure.name)
            assert set(figure.rests_on) <= known, (ident, figure.name, set(figure.rests_on) - known)
    starts = [one.value for one in found["D1"].figures if one.name == "own costs less from"]
    assert starts
    assert f"below {count(starts[0])} requests" in found["D6"].when
    assert f"from {count(starts[0])} requests" in found["D3"].when


def test_dear_people_make_self_hosting_dear(tmp_path: Path) -> None:
    mutated = with_facts(tmp_path, [("staff/platform-engineer", "usd_per_year", "", 5e6, "USD/year")])
    assert judged(mutated, "Q26").verdict == "fails"


def test_three_claims_on_gpt_3_draw_three_boundaries(world: World) -> None:
    assert judged(world, "Q2").when.startswith("the final run, rented ($4.")
    assert judged(world, "Q15").when == "the whole programme with staff"
    assert judged(world, "Q5").verdict == "fails"


def test_the_energy_of_gpt_3_is_not_millions(world: World) -> None:
    energy = next(one for one in judged(world, "Q5").figures if "energy:" in one.name)
    assert energy.value == pytest.approx(85_843, rel=0.01)


def test_a_claim_that_contradicts_itself_fails(world: World) -> None:
    finding = judged(world, "Q17")
    assert finding.verdict == "fails"
    assert "9-16x" in finding.decides


MUTATIONS: list[tuple[str, str, list[tuple[str, str, str, float | str, str]]]] = [
    ("Q2", "fails", [("disclosed/gpt-3", "chip_hours", "", 50e6, "h")]),
    (
        "Q2",
        "holds",
        [
            ("claim/q2", "claimed_usd", "end=low", 1e6, "USD"),
            ("claim/q2", "claimed_usd", "end=high", 9e6, "USD"),
        ],
    ),
    ("Q5", "holds when", [("disclosed/gpt-3", "energy_kwh", "", 50e6, "kWh")]),
    ("Q10", "fails", [("disclosed/gpt-4", "chip_hours", "", 5.7e9, "h")]),
    ("Q11", "holds", [("claim/q11", "claimed_usd", "end=high", 2e8, "USD")]),
    ("Q13", "holds", [("claim/q13", "claimed_usd_per_year", "end=low", 1e5, "USD/year")]),
    (
        "Q16",
        "holds",
        [
            ("disclosed/frontier", "cost_growth_per_year", "", 20.0, "1"),
            ("disclosed/openai-2024", "final_run_usd", "", 2e9, "USD"),
        ],
    ),
    (
        "Q17",
        "holds",
        [
            ("claim/q17", "claimed_usd", "end=low;of=now", 8e6, "USD"),
            ("claim/q17", "claimed_usd", "end=high;of=now", 13e6, "USD"),
            ("claim/q17", "claimed_ratio", "end=low", 2.5, "1"),
        ],
    ),
    ("Q18", "fails", [("prices/capability/mmlu/gpt-3.5", "cheapest_usd_per_mtok", "", 1.0, "USD/Mtok")]),
    (
        "Q19",
        "holds",
        [
            ("claim/q19", "offering", "", "openai/gpt-4", ""),
            *(("claim/q19", "claimed_usd_per_mtok", f"of={i}", 30.0, "USD/Mtok") for i in "123"),
            *(("claim/q19", "offering", f"of={i}", "openai/gpt-4", "") for i in "123"),
        ],
    ),
    (
        "Q21",
        "holds",
        [
            ("claim/q21", "claimed_ratio", "end=low", 1.0, "1"),
            ("claim/q21", "claimed_ratio", "end=high", 6.0, "1"),
        ],
    ),
    ("Q24", "fails", [("prices/rental/h100-sxm", "usd_per_gpu_h", "term=on_demand", 2.0, "USD/h")]),
    (
        "Q25",
        "holds",
        [
            ("claim/q25", "spent_usd", "of=microsoft", 80e9, "USD"),
            ("claim/q25", "spent_usd", "of=alphabet", 75e9, "USD"),
        ],
    ),
    ("Q6", "fails", [("claim/q6", "claimed_frac", "", 0.99, "1")]),
    ("D7", "fails", [("staff/api", "launch_weeks", "", 40.0, "week")]),
    ("D16", "holds", [("claim/reference", "slm_tok", "", 1e16, "tok")]),
]


@pytest.mark.parametrize(("ident", "verdict", "rows"), MUTATIONS)
def test_a_changed_fact_changes_the_verdict(
    tmp_path: Path, world: World, ident: str, verdict: str, rows: list[tuple[str, str, str, float | str, str]]
) -> None:
    assert judged(world, ident).verdict != verdict
    assert judged(with_facts(tmp_path, rows), ident).verdict == verdict


def test_a_saving_on_ones_own_outcomes_goes_before_the_public_sets(catalog: Catalog) -> None:
    assert judged(World(catalog, DAY, {"mine": 0.4}), "Q6").verdict == "holds"
    assert judged(World(catalog, DAY, {"mine": 0.1}), "Q6").verdict == "fails"


def test_an_unknown_claim_is_refused(world: World) -> None:
    with pytest.raises(BadInput, match="no claim 'Q99'"):
        judged(world, "Q99")


def test_where_facts_do_not_reach_a_claim_is_not_settled(catalog: Catalog) -> None:
    finding = judged(World(catalog, date(2019, 1, 1)), "Q24")
    assert finding.verdict == "not settled"
    assert "usd_per_gpu_h" in finding.when


def test_verdicts_follow_the_day(catalog: Catalog) -> None:
    """In 2023 nothing had been reported of spending or prices of today."""
    early = judged(World(catalog, date(2023, 7, 1)), "Q24")
    late = judged(World(catalog, DAY), "Q24")
    assert early.figures[-1].value != late.figures[-1].value


@pytest.mark.parametrize("columns", [80, 120])
def test_terminal(
    golden: Golden, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["claims", "Q2", "Q17", "--date", "2026-11-23"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    golden.check(f"claims-{columns}.txt", text)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "q5", "--json", "--date", "2026-11-23"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["fails"] == 1
    assert found["claims"][0]["claim"]["id"] == "Q5"
    assert {"value", "low", "high", "rests_on"} <= set(found["claims"][0]["figures"][0])


def test_bad_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "Q99"]) == 2
    assert "Q1 to Q26" in capsys.readouterr().err


def test_the_page_lists_every_claim_with_its_verdict(world: World) -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([QD]\d+) \|[^|]*\| \*\*([^*]+)\*\* \|", page, re.MULTILINE))
    assert list(rows) == list(IDS)
    for ident in QUICK:
        assert rows[ident] == judged(world, ident).verdict, ident
    headline = next(line for line in page.splitlines() if "claims of the literature:" in line)
    for verdict, word in (("holds", "hold,"), ("holds when", "hold when"), ("fails", "fail")):
        told = re.search(rf"(\d+) {word}", headline)
        assert told is not None
        assert int(told[1]) == sum(one == verdict for one in rows.values())


def test_importing_claims_plans_nothing() -> None:
    code = "import isocost.claims, sys; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
