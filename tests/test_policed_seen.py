"""What a fit saw, played in a replay without graded answers: an estimate with its interval."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadLimits
from isocost.plan.written.file import PlanFile, dumps, loads
from isocost.plan.written.told import Policed, police
from isocost.policy.rules import Accept, Cascade, First, Rule
from isocost.policy.seen import Seen
from isocost.policy.table import GROUP0, MISSED, SERVED, compile_rule, redrawn, with_chances
from isocost.trace import Trace, open_trace

PLAN = (Path(__file__).parents[1] / "examples" / "policy.toml").read_text()
BASIS = PLAN[: PLAN.index("# Summaries")]
MINI, SMALL, BIG = "openai/gpt-5-mini", "openai/gpt-4.1-mini", "openai/gpt-5.4"
REQUESTS = 2000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 requests to the strong model, ten seconds apart, alike in tokens and times."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rows = [
        f"2026-11-01T{i // 360:02}:{i // 6 % 60:02}:{i % 6 * 10:02}Z,{BIG},1000,100,0.5,2.0"
        for i in range(REQUESTS)
    ]
    path.write_text("timestamp,model,input_tokens,output_tokens,ttft_s,e2e_s\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def trace(log: Path) -> Trace:
    return open_trace(log)


def cascade(seen: str, more: str = "") -> str:
    return (
        f'\n[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "cascade"\n'
        f'ask = ["{MINI}", "{SMALL}", "{BIG}"]\naccept = [{{ pattern = "AA", take = "A" }}]\n'
        f"{more}seen = {seen}\n"
    )


def seen_of(agree: float, questions: int) -> str:
    other = 1 - agree
    return (
        f"{{ questions = {questions}, chance = {{ A = 1, AA = {agree}, AB = {other:.6g}, AAA = {agree}, "
        f"ABB = {other / 2:.6g}, ABA = {other / 2:.6g} }} }}"
    )


def plan(text: str) -> PlanFile:
    return loads(BASIS + text)


def attempts(name: str, found: Policed) -> int:
    return next(row.attempts for row in found.shown.answered if row.deployment == name)


@pytest.mark.parametrize("agree", [0.2, 0.75])
def test_as_many_are_asked_on_as_the_fit_saw(agree: float, trace: Trace, catalog: Catalog) -> None:
    found, _ = police(trace, plan(cascade(seen_of(agree, 10**7))), catalog)
    assert found.likely is not None
    assert not found.is_known
    assert (attempts(MINI, found), attempts(SMALL, found)) == (REQUESTS, REQUESTS)
    spread = (agree * (1 - agree) / REQUESTS) ** 0.5
    assert attempts(BIG, found) / REQUESTS == pytest.approx(1 - agree, abs=3 * spread)
    assert found.least.usd < found.likely.usd < found.most.usd
    assert any("10,000,000 questions" in note for note in found.notes)


def test_few_questions_make_a_wide_interval(trace: Trace, catalog: Catalog) -> None:
    widths = []
    for questions in (30, 300, 10**7):
        found, _ = police(trace, plan(cascade(seen_of(0.6, questions))), catalog)
        widths.append(found.most.usd - found.least.usd)
    assert widths[0] > 2 * widths[1] > 2 * widths[2] > 0


def test_what_is_certain_is_the_end_that_it_is(trace: Trace, catalog: Catalog) -> None:
    ends, _ = police(trace, plan(cascade(seen_of(0.5, 9)).rpartition("seen")[0]), catalog)
    always, _ = police(
        trace, plan(cascade("{ questions = 9, chance = { A = 1, AA = 1, AAA = 1 } }")), catalog
    )
    never, _ = police(trace, plan(cascade("{ questions = 9, chance = { A = 1, AB = 1, ABC = 1 } }")), catalog)
    assert ends.likely is None
    assert always.likely is not None
    assert never.likely is not None
    assert always.least.usd == always.most.usd == ends.least.usd
    assert never.least.usd == never.most.usd == ends.most.usd


def test_graded_answers_go_before_what_a_fit_saw(trace: Trace, catalog: Catalog, tmp_path: Path) -> None:
    with (tmp_path / "o.csv").open("w") as out:
        write = csv.writer(out)
        write.writerow(["qid", "model", "quality", "pred"])
        for i in range(100):
            write.writerows([[i, MINI, i % 2, "x"], [i, SMALL, 1, "y"], [i, BIG, 1, "y"]])
    found, _ = police(trace, plan(cascade(seen_of(0.99, 500))), catalog, tmp_path / "o.csv")
    assert found.is_known
    assert found.likely is None
    assert attempts(BIG, found) == REQUESTS  # they never agree


def test_a_router_without_words_sends_as_many_as_the_fit_saw(trace: Trace, catalog: Catalog) -> None:
    text = (
        f'\n[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "router"\ncheap = "{MINI}"\n'
        f'strong = "{BIG}"\n'
        "bar = 0.5\nseen = { questions = 10000000, chance = { strong = 0.25 } }\n"
    )
    found, _ = police(trace, plan(text), catalog)
    assert found.likely is not None
    assert attempts(BIG, found) / REQUESTS == pytest.approx(0.25, abs=0.03)
    assert any(f"Scores of {REQUESTS:,} of {REQUESTS:,}" in note for note in found.notes)


def test_a_plan_keeps_what_a_fit_saw() -> None:
    made = plan(cascade(seen_of(0.7, 900)))
    choice = loads(dumps(made)).policies[0].choose
    assert isinstance(choice, Cascade)
    assert choice.seen is not None
    assert (choice.seen.questions, choice.seen.chance["AA"]) == (900, 0.7)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ("{ questions = 0, chance = { A = 1 } }", "questions = 0"),
        ("{ chance = { A = 1 } }", "questions"),
        ("{ questions = 9, chance = { A = 1, AA = 1.2 } }", "chance of 'AA' is 1.2"),
        ("{ questions = 9, chance = { A = 1, AA = 0.5, AB = 0.3 } }", "came on 0.8 of the questions"),
        ("{ questions = 9, chance = { A = 1, AA = 0.5, AB = 0.5, AAA = 0.5 } }", "what follows 'AB'"),
        ("{ questions = 9, chance = { A = 0.9 } }", "the first letters"),
        ("{ questions = 9, chance = { A = 1, AC = 1 } }", "cannot be"),
        ("{ questions = 9, chance = { A = 1, AA = 1, AAA = 1, AAAA = 1 } }", "4 letters"),
        ("{ questions = 9, chance = { A = 1, AA = 1, AAA = 1 }, more = 1 }", "unknown field"),
        ('{ questions = 9, chance = { A = "all" } }', "Expected `float`"),
        ("{ questions = 9, chance = { A = nan } }", "chance of 'A' is nan"),
    ],
)  # fmt: skip
def test_what_a_fit_saw_is_read_strictly(seen: str, why: str) -> None:
    with pytest.raises(BadLimits, match=why):
        plan(cascade(seen))


def test_a_checker_is_not_foretold_and_a_router_has_one_chance() -> None:
    with pytest.raises(BadLimits, match="a checker is not foretold"):
        plan(cascade(seen_of(0.5, 9), "checked = true\n"))
    with pytest.raises(BadLimits, match="that of strong"):
        plan(
            f'\n[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "router"\ncheap = "{MINI}"\n'
            f'strong = "{BIG}"\nbar = 0.5\nseen = {{ questions = 9, chance = {{ A = 1 }} }}\n'
        )


def test_chances_are_those_of_the_cascade_behind_rules_that_answer_first() -> None:
    rule = Rule(Cascade(("a", "b", "d"), (Accept("AA", "A"),), together=2), first=First("r"))
    table = with_chances(rule, compile_rule(rule), {"A": 0.9, "-": 0.1, "AA": 0.7, "AB": 0.2})
    start = next(iter(table.starts.values()))
    assert np.isnan(table.chance[start]).all()  # nothing was seen of the rules
    asked = int(table.after[start, MISSED])
    assert table.chance[asked, [GROUP0, SERVED]] == pytest.approx([0.9, 0.1])
    waits = int(table.after[asked, GROUP0])
    assert table.chance[waits, GROUP0 : GROUP0 + 2] == pytest.approx([7 / 9, 2 / 9])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=4, max_size=4), st.integers(1, 10**6), st.integers(0, 50))
def test_drawn_shares_sum_and_keep_what_never_came(counts: list[int], questions: int, draw: int) -> None:
    whole = sum(counts) or 1
    counts[0] += not sum(counts)
    leaves = dict(zip(("AA", "AB", "-A", "--"), (count / whole for count in counts), strict=True))
    first = {"A": leaves["AA"] + leaves["AB"], "-": leaves["-A"] + leaves["--"]}
    out = redrawn(Seen(questions, {**first, **leaves}), draw)
    assert set(out) == {*first, *leaves}
    for name in first:
        assert sum(out[one] for one in leaves if one[0] == name) == pytest.approx(out[name])
    assert sum(out[name] for name in first) == pytest.approx(1.0)
    assert all(out[name] == 0.0 for name, share in {**first, **leaves}.items() if share == 0.0)


def test_drawn_shares_have_the_mean_and_spread_of_their_questions() -> None:
    drawn = [redrawn(Seen(400, {"A": 1.0, "AA": 0.7, "AB": 0.3}), k)["AA"] for k in range(800)]
    assert np.mean(drawn) == pytest.approx(0.7, abs=0.004)
    assert np.std(drawn) == pytest.approx((0.7 * 0.3 / 401) ** 0.5, rel=0.1)


def test_a_fitted_policy_foretells_what_its_outcomes_then_show(
    log: Path,
    golden: Golden,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """policy fit, its [[policy]] in plan.toml, replay without outcomes and with them."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    with Path("o.csv").open("w") as out:
        write = csv.writer(out)
        write.writerow(["qid", "model", "quality", "pred", "in_tok", "out_tok"])
        for i in range(3000):
            easy = random.random() < 0.6
            for name, right in ((MINI, 0.97 if easy else 0.4), (SMALL, 0.97 if easy else 0.4), (BIG, 0.9)):
                is_right = random.random() < right
                write.writerow([i, name, int(is_right), 0 if is_right else random.integers(1, 9), 1000, 100])
    assert main(["policy", "fit", "o.csv", "--strong", BIG, "--candidates", f"{MINI},{SMALL}"]) == 0
    capsys.readouterr()
    made = Path("policy.toml").read_text()
    rule = made[made.index("[[policy]]") : made.index("[[certificate]]")]
    assert "questions = " in rule
    Path("plan.toml").write_text(BASIS + rule)
    found = {}
    for name, more in (("seen", []), ("graded", ["--outcomes", "o.csv"])):
        assert main(["replay", str(log), *more, "--json"]) == 0
        found[name] = json.loads(capsys.readouterr().out)["policy"]
    assert found["graded"]["is_known"]
    low, high = found["seen"]["least"]["usd"], found["seen"]["most"]["usd"]
    assert found["seen"]["likely"]["usd"] == pytest.approx(found["graded"]["most"]["usd"], rel=0.03)
    assert 0.005 < (high - low) / low < 0.1
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["replay", str(log)]) == 0
        golden.check(f"replay_seen_{width}.txt", capsys.readouterr().out)
