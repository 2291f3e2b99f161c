"""A plan's policies on a log: every attempt paid, both ends where nothing is known, guards, quality."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from golden import Golden
from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadLimits
from isocost.plan.written.file import PlanFile, loads
from isocost.plan.written.told import Z_95, Policed, police
from isocost.risk import wilson
from isocost.trace import Trace, open_trace

ROOT = Path(__file__).parents[1]
PLAN = (ROOT / "examples" / "policy.toml").read_text()
BASIS = PLAN[: PLAN.index("# Summaries")]
MINI, SMALL, BIG = "openai/gpt-5-mini", "openai/gpt-4.1-mini", "openai/gpt-5.4"
PRICES = {MINI: (0.25, 2.0), SMALL: (0.4, 1.6), BIG: (2.5, 15.0)}
"""Dollars a million tokens, input and output, as listed in November 2026."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 questions to gpt-5.4, 20 seconds apart, 1,000 tokens in and 100 out; no cache."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rows = [
        f"2026-11-0{1 + i // 144}T{i // 6 % 24:02}:{i % 6 * 10:02}:00Z,{BIG},1000,100,0.5,2.0"
        for i in range(300)
    ]
    path.write_text("timestamp,model,input_tokens,output_tokens,ttft_s,e2e_s\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def trace(log: Path) -> Trace:
    return open_trace(log)


def policy(text: str, name: str = "*") -> PlanFile:
    return loads(f'{BASIS}\n[[policy]]\nworkload = "{name}"\n{text}')


def outcomes(path: Path, agree_every: int) -> Path:
    """100 questions; the small ones agree, wrongly, on each n-th and differ on others; the big is right."""
    with path.open("w") as out:
        write = csv.writer(out)
        write.writerow(["qid", "model", "quality", "pred"])
        for i in range(100):
            same = i % agree_every == 0
            write.writerow([i, MINI, 0, "x"])
            write.writerow([i, SMALL, 0 if same else 1, "x" if same else "right"])
            write.writerow([i, BIG, 1, "right"])
    return path


FIXED = f'[policy.choose]\nkind = "fixed"\ndeployment = "{BIG}"\n'
CASCADE = f"""
[policy.choose]
kind = "cascade"
ask = ["{MINI}", "{SMALL}", "{BIG}"]
accept = [{{ pattern = "AA", take = "A" }}]
"""


def usd(name: str, found: Policed) -> float:
    return next((row.usd for row in found.most.answered if row.deployment == name), 0.0)


def test_a_fixed_policy_costs_what_its_tokens_do(trace: Trace, catalog: Catalog) -> None:
    plan = policy(f'[policy.choose]\nkind = "fixed"\ndeployment = "{BIG}"\n')
    found, _ = police(trace, plan, catalog)
    each = (1000 * PRICES[BIG][0] + 100 * PRICES[BIG][1]) / 1e6
    assert found.most.usd == pytest.approx(300 * each, rel=1e-12)
    assert found.is_known
    assert found.without is not None
    assert found.without.usd == found.most.usd
    assert found.most.quality is not None
    assert (found.most.quality.mean, found.most.quality.source) == (0.0, "catalog")
    waiting = found.most.waiting
    assert waiting is not None
    assert (waiting.ttft_p50_s, waiting.e2e_p95_s, waiting.ttft_known_frac) == (0.5, 2.0, 1.0)


def test_every_attempt_of_a_cascade_is_paid(trace: Trace, catalog: Catalog, tmp_path: Path) -> None:
    found, _ = police(trace, policy(CASCADE), catalog, outcomes(tmp_path / "o.csv", 4))
    by = {row.deployment: row for row in found.most.answered}
    assert found.is_known
    # A quarter of the questions, each asked three times, is accepted after two answers.
    assert (by[MINI].attempts, by[SMALL].attempts, by[BIG].attempts) == (300, 300, 225)
    assert (by[MINI].requests, by[SMALL].requests, by[BIG].requests) == (75, 0, 225)
    assert found.most.attempts_per_request == pytest.approx(825 / 300)
    assert by[BIG].usd == pytest.approx(225 * (1000 * 2.5 + 100 * 15) / 1e6, rel=1e-12)
    assert found.most.usd == pytest.approx(sum(row.usd for row in by.values()), rel=1e-12)
    assert found.most.escalated_frac == 1.0  # the second is asked of all: one at a time
    quality = found.most.quality
    assert quality is not None
    assert quality.mean == pytest.approx(0.75)
    assert quality.low < 0.75 < quality.high
    assert found.without is not None
    assert found.without.quality is not None
    assert found.without.quality.mean == 1.0


def test_where_nothing_is_known_both_ends_hold_all_outcomes(
    trace: Trace, catalog: Catalog, tmp_path: Path
) -> None:
    plan = policy(CASCADE)
    unknown, _ = police(trace, plan, catalog)
    assert not unknown.is_known
    assert unknown.least.usd < unknown.most.usd
    assert unknown.most.quality is None
    for k, every in enumerate((1, 2, 5, 100)):
        known, _ = police(trace, plan, catalog, outcomes(tmp_path / f"{k}.csv", every))
        assert unknown.least.usd - 1e-9 <= known.most.usd <= unknown.most.usd + 1e-9
        if every == 1:
            assert known.most.usd == pytest.approx(unknown.least.usd, rel=1e-12)


def test_a_checker_and_rules_that_may_abstain_have_two_ends(trace: Trace, catalog: Catalog) -> None:
    checked = CASCADE.replace('accept = [{ pattern = "AA", take = "A" }]', "checked = true")
    found, _ = police(trace, policy(checked), catalog)
    assert (found.least.attempts_per_request, found.most.attempts_per_request) == (1.0, 3.0)
    first = f'first = {{ deployment = "{MINI}" }}\n{FIXED}'
    found, _ = police(trace, policy(first), catalog)
    assert (found.least.attempts_per_request, found.most.attempts_per_request) == (1.0, 2.0)
    router = f'[policy.choose]\nkind = "router"\ncheap = "{MINI}"\nstrong = "{BIG}"\nbar = 0.5\n'
    found, _ = police(trace, policy(router), catalog)
    assert {row.deployment for row in found.least.answered} == {MINI}
    assert {row.deployment for row in found.most.answered} == {BIG}


def test_a_budget_stops_and_says_what(trace: Trace, catalog: Catalog) -> None:
    each = (1000 * PRICES[BIG][0] + 100 * PRICES[BIG][1]) / 1e6
    text = f'[policy.choose]\nkind = "fixed"\ndeployment = "{BIG}"\n'
    found, _ = police(trace, policy(f'guard = {{ budget = "b", usd = {each * 100} }}\n{text}'), catalog)
    (stop,) = found.most.stopped
    assert (stop.why, stop.requests) == ("budget", 200)
    assert stop.usd == pytest.approx(200 * each)
    assert found.most.usd == pytest.approx(100 * each)
    guard = f'guard = {{ budget = "b", usd = {each * 100}, soft_frac = 0.5, then = "{MINI}" }}\n{text}'
    found, _ = police(trace, policy(guard), catalog)
    told = {stop.why: stop for stop in found.most.stopped}
    lower = usd(MINI, found) / next(r.requests for r in found.most.answered if r.deployment == MINI)
    assert usd(BIG, found) == pytest.approx(50 * each)
    assert told["downgraded"].usd == pytest.approx(told["downgraded"].requests * (each - lower))
    refused = told["budget"].requests if "budget" in told else 0
    assert sum(row.requests for row in found.most.answered) + refused == 300


def test_without_policies_or_routes_a_log_costs_what_its_bill_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bill's engine reads each row's own model and date; replay's path to it is another."""
    lines = (ROOT / "examples" / "litellm_spendlogs.csv").read_text().splitlines(keepends=True)
    demand = [line for line in lines[1:1200] if line.rstrip().endswith(",success")]
    (tmp_path / "log.csv").write_text("".join([lines[0], *demand]))
    (tmp_path / "policy.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    assert main(["replay", "log.csv", "--plan", "policy.toml", "--json"]) == 0
    without = json.loads(capsys.readouterr().out)["policy"]["without"]
    assert main(["bill", "log.csv", "--json"]) == 0
    billed = json.loads(capsys.readouterr().out)
    assert without["usd"] == pytest.approx(float(billed["usd"]), rel=1e-9)


def test_a_pool_waits_is_rented_and_takes_what_a_cascade_sends(trace: Trace, catalog: Catalog) -> None:
    case = (ROOT / "tests" / "cases" / "plan.toml").read_text()
    pool = case[
        case.index('[[deployment]]\ntype = "pool"') : case.index('[[deployment]]\ntype = "exact-cache"')
    ]
    rule = (
        '[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "cascade"\nchecked = true\n'
        f'ask = ["self/small", "{BIG}"]\n'
    )
    plan = loads(f"{BASIS}\n{pool}\n{rule}{case[case.index('[[pool]]') :]}")
    found, _ = police(trace, plan, catalog)
    least, most = ({row.deployment: row for row in way.answered} for way in (found.least, found.most))
    assert least["self/small"].requests == most[BIG].requests == most["self/small"].attempts == 300
    assert least["self/small"].usd == most["self/small"].usd > 0
    assert found.least.waiting is not None
    assert found.most.waiting is not None
    alone_s = found.least.waiting.e2e_p50_s
    assert alone_s is not None
    # It thinks: ten times as many tokens. 1,000 steps of 20 ms, 1 ms for the sequence and 0.1 us for each of
    # some 1,500 tokens held, after 100 us for each of about 1,000 tokens of prompt.
    assert alone_s == pytest.approx(1000 * (0.02 + 0.001 + 0.00015) + 0.1, rel=0.005)
    assert found.most.waiting.e2e_p50_s == pytest.approx(alone_s + 2.0, abs=0.05)
    assert found.most.waiting.ttft_p50_s == pytest.approx(alone_s + 0.5, abs=0.05)


def test_a_guard_on_length_costs_what_it_refused(trace: Trace, catalog: Catalog) -> None:
    text = f"guard = {{ most_input_tok = 999 }}\n{FIXED}"
    found, _ = police(trace, policy(text), catalog)
    (stop,) = found.most.stopped
    assert (stop.why, stop.requests, found.most.usd) == ("input", 300, 0.0)
    assert stop.usd == pytest.approx(300 * 0.004)


def test_what_is_cut_is_not_paid(trace: Trace, catalog: Catalog) -> None:
    text = f"shape = {{ trim_input_tok = 400, cap_output_tok = 50 }}\n{FIXED}"
    found, _ = police(trace, policy(text), catalog)
    assert found.most.usd == pytest.approx(300 * (400 * 2.5 + 50 * 15) / 1e6, rel=1e-12)
    assert any("cutting" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[policy.choose]\nkind = "fixed"\ndeployment = "nobody/none"\n', "it names 'nobody/none'"),
        (f'recover = {{ fallback = ["{BIG}"] }}\n{FIXED}', "a circle"),
        (f'recover = {{ fallback = ["{SMALL}", "{SMALL}"] }}\n{FIXED}', "a circle"),
        (f'hedge = {{ deployment = "{BIG}", after_s = 1.0 }}\n{FIXED}', "hedged by itself"),
        (f'[policy.choose]\nkind = "fixd"\ndeployment = "{BIG}"\n', "fixd"),
        (f'[policy.choose]\nkind = "cascade"\nask = ["{BIG}", "{BIG}"]\n', "each once"),
    ],
)  # fmt: skip
def test_bad_rules_are_one_line(
    text: str, says: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(f"{BASIS}\n[[policy]]\n{text}")
    assert main(["replay", str(log), "--plan", str(tmp_path / "plan.toml")]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1


def test_outcomes_without_policies_are_refused(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(
        f'{BASIS}\n[[route]]\nworkload = "all"\nmodel = "*"\nshare = [{{ deployment = "{BIG}", frac = 1 }}]\n'
    )
    asked = [
        "replay",
        str(log),
        "--plan",
        str(tmp_path / "plan.toml"),
        "--outcomes",
        str(outcomes(tmp_path / "o.csv", 2)),
    ]
    assert main(asked) == 2
    assert "no [[policy]]" in capsys.readouterr().err


def test_two_amounts_of_one_budget_are_refused(tmp_path: Path, catalog: Catalog) -> None:
    rows = [f"2026-11-01T00:{i:02}:00Z,{BIG},{'xy'[i % 2]},1000,100\n" for i in range(20)]
    (tmp_path / "log.csv").write_text("timestamp,model,workload,input_tokens,output_tokens\n" + "".join(rows))
    choose = f'[policy.choose]\nkind = "fixed"\ndeployment = "{BIG}"\n'
    plan = loads(
        f'{BASIS}\n[[policy]]\nworkload = "x"\nguard = {{ budget = "b", usd = 1 }}\n{choose}'
        f'[[policy]]\nworkload = "y"\nguard = {{ budget = "b", usd = 2 }}\n{choose}'
    )
    with pytest.raises(BadLimits, match="two amounts"):
        police(open_trace(tmp_path / "log.csv"), plan, catalog)


def test_a_budget_of_a_policy_that_holds_nowhere_is_no_conflict(trace: Trace, catalog: Catalog) -> None:
    choose = f'[policy.choose]\nkind = "fixed"\ndeployment = "{BIG}"\n'
    plan = loads(
        f'{BASIS}\n[[policy]]\nworkload = "all"\nguard = {{ budget = "b", usd = 1 }}\n{choose}'
        f'[[policy]]\nworkload = "x"\nguard = {{ budget = "b", usd = 2 }}\n{choose}'
    )
    found, _ = police(trace, plan, catalog)  # only one of them holds on this log
    assert found.most.requests == 300


def test_an_interval_is_never_narrower_for_being_sure() -> None:
    low, _, high = wilson(1.0, 30, Z_95)
    assert high == pytest.approx(1.0)
    assert low < 0.9
    assert np.diff([wilson(0.8, n, Z_95)[0] for n in (10, 100, 1000)]).min() > 0


@pytest.mark.parametrize("width", [80, 120])
def test_the_example_looks_as_it_did(
    width: int,
    golden: Golden,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    lines = (ROOT / "examples" / "litellm_spendlogs.csv").read_text().splitlines(keepends=True)
    (tmp_path / "log.csv").write_text("".join(lines[:1500]))
    (tmp_path / "policy.toml").write_text(PLAN.replace("usd = 400", "usd = 40"))
    assert main(["replay", "log.csv", "--plan", "policy.toml"]) == 0
    golden.check(f"replay_policy_{width}.txt", capsys.readouterr().out)
    assert main(["replay", "log.csv", "--plan", "policy.toml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policy"]["most"]["usd"] == found["usd"]
    assert found["policy"]["least"]["usd"] < found["usd"] < found["policy"]["without"]["usd"]


def test_a_rule_that_no_request_meets_is_said(trace: Trace, catalog: Catalog) -> None:
    plan = policy(FIXED)
    other = policy(FIXED, "no such workload").policies[0]
    plan = msgspec.structs.replace(plan, policies=(*plan.policies, other))
    found, _ = police(trace, plan, catalog)
    assert "No request meets the policy of 'no such workload'" in found.notes
    assert not any("No request meets" in note for note in police(trace, policy(FIXED), catalog)[0].notes)
