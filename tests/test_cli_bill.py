"""``isocost bill``: exact totals by group, what is not priced, duplicates, and rows that cannot be read."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from golden import Golden
from isocost.cli import main

CASES = Path(__file__).parent / "cases" / "traces"
FACTS = str(Path(__file__).parent / "cases" / "cli" / "facts")
HEAD = "time,model,prompt_tokens,completion_tokens\n"
GOOD = "2026-11-01T10:00:00Z,openai/gpt-4.1,1000,100\n"


@pytest.fixture(autouse=True)
def _plain_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("NO_COLOR", "1")


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert main(["bill", *argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_bill_as_printed(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bill", str(CASES / "litellm.csv"), "--by", "model,day"]) == 0
    text = capsys.readouterr().out
    basis = text.split("price basis")[1].strip()
    golden.check("cli_bill.txt", text.replace(basis, "BASIS"))


@pytest.mark.parametrize(("columns", "says"), [("80", "140.6M"), ("72", "tokens by meter are left out")])
def test_a_wide_bill_fits_a_narrow_terminal(
    columns: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    folder = CASES.parents[2] / "examples"
    words = ["--overlay", str(folder / "invoices" / "contract.toml"), "--by", "workload"]
    assert main(["bill", str(folder / "litellm_spendlogs.csv"), *words]) == 0
    text = capsys.readouterr().out
    assert says in text
    assert "$1,178.62" in text
    assert max(map(len, text.splitlines())) <= int(columns)


def test_groups_sum_to_the_exact_total(capsys: pytest.CaptureFixture[str]) -> None:
    log = str(CASES / "litellm.csv")
    totals = set()
    for by in ("model", "tenant,day", "provider,tier", "hour"):
        found = document(capsys, log, "--by", by)
        assert isinstance(found["groups"], list)
        parts = sum(Decimal(group["usd"]) for group in found["groups"])
        assert parts == Decimal(str(found["usd"]))
        assert sum(group["requests"] for group in found["groups"]) == found["requests"]
        totals.add(found["usd"])
    assert len(totals) == 1


def test_the_logs_own_amounts_stand_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, str(CASES / "litellm.csv"))
    assert (found["duplicates"], found["failed"], found["billed_usd"]) == (1, 2, "0.017800000000000")
    assert Decimal(str(found["difference_usd"])) == Decimal(str(found["usd"])) - Decimal("0.0178")


def test_batch_tier_where_rows_name_none(capsys: pytest.CaptureFixture[str]) -> None:
    log = Path("log.csv")
    log.write_text(HEAD + GOOD)
    whole = Decimal(str(document(capsys, str(log))["usd"]))
    assert whole == Decimal("0.0028")
    assert Decimal(str(document(capsys, str(log), "--tier", "batch")["usd"])) == whole / 2


def test_unknown_model_is_at_least(capsys: pytest.CaptureFixture[str]) -> None:
    log = Path("log.csv")
    log.write_text(HEAD + GOOD + "2026-11-01T10:00:01Z,nobody/knows-1,10,10\n")
    found = document(capsys, str(log))
    assert (found["at_least"], found["priced"], found["unpriced"]) == (True, 1, 1)
    assert any("knows-1" in str(why) for why in found["why"])  # type: ignore[attr-defined]
    assert main(["bill", str(log)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("at least $")
    assert "unpriced" in text
    assert document(capsys, str(log), "--now", "openai/gpt-4.1")["unpriced"] == 0


def test_rows_that_cannot_be_read_are_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    log, aside = Path("log.csv"), Path("bad.csv")
    log.write_text(
        HEAD + GOOD + "2026-11-01T10:00:01Z,openai/gpt-4.1,-5,10\n" + GOOD + "never,openai/gpt-4.1,5,10\n"
        "2026-11-01T10:00:02Z,openai/gpt-4.1,many,10\n"
    )
    assert main(["bill", str(log)]) == 2
    assert "log.csv" in capsys.readouterr().err
    found = document(capsys, str(log), "--quarantine", str(aside))
    assert (found["requests"], found["unread"], found["at_least"]) == (2, 3, True)
    lines = aside.read_text().splitlines()
    assert lines[0] == "line,reason"
    assert [line.partition(",")[0] for line in lines[1:]] == ["3", "5", "6"]
    assert "below zero" in lines[1]
    assert "no readable" in lines[2]


def test_a_log_without_dates_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bill", str(CASES / "burstgpt.csv")]) == 2
    assert "a price needs a date" in capsys.readouterr().err
