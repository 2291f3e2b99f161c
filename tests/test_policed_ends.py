"""What a log under policies shows where ends tie, a task has no question, and a plan holds what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocost.catalog import Catalog
from isocost.errors import BadLimits
from isocost.plan.written.file import loads
from isocost.plan.written.told import Played, Policed, police
from isocost.policy.route import Attempt, Request, Route, Share, Stop, Try
from isocost.policy.rules import Cascade, Defer, First, Fixed, Guard, Recover, Rule, check, decide, rule_of
from isocost.trace import Trace, open_trace
from test_policed_tasks import BASIS, BIG, BY_TASK, CASCADE, MINI, MIX, N, answered, log

RULES = '[[deployment]]\ntype = "rules"\nid = "rx"\nusd_per_request = {}\nanswer_s = {}\n'
FIXED = f'[policy.choose]\nkind = "fixed"\ndeployment = "{BIG}"\n'
CHOOSE = "[policy.choose]\n"


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return open_trace(log(tmp_path_factory.mktemp("log") / "log.csv"))


def played(
    trace: Trace, catalog: Catalog, text: str, outcomes: Path | None = None, more: str = ""
) -> Policed:
    made = loads(f'{BASIS}\n{more}\n[[policy]]\nworkload = "*"\n{text}\n')
    return police(trace, made, catalog, outcomes)[0]


def graded(path: Path, tasks: tuple[str, ...]) -> Path:
    """Questions of each task in turn, which every model answers."""
    rows = ["qid,model,quality,pred,task"]
    for i in range(30 * len(tasks)):
        task = tasks[i % len(tasks)]
        rows += [f"{i},{MINI},{i % 2},x,{task}", f"{i},{BIG},1,y,{task}"]
    path.write_text("\n".join(rows) + "\n")
    return path


def stops(way: Played) -> dict[str, tuple[int, float]]:
    return {one.why: (one.requests, round(one.usd, 4)) for one in way.stopped}


def test_ends_that_a_budget_makes_cost_the_same_are_both_shown(unnamed: Trace, catalog: Catalog) -> None:
    """Rules that answer all, or none, spend $0.90: 900 are answered, or 180."""
    text = f'[policy.guard]\nusd = 0.9\n[policy.first]\ndeployment = "rx"\n{FIXED}'
    found = played(unnamed, catalog, text, more=RULES.format(0.001, 0.05))
    assert found.least.usd == pytest.approx(found.most.usd)
    assert (answered(found.least), answered(found.most)) == ({"rx": 900}, {BIG: 180})
    assert (stops(found.least)["budget"][0], stops(found.most)["budget"][0]) == (100, 820)
    assert any("refused are 100 to 820 of 1,000" in note for note in found.notes)


@pytest.mark.parametrize(
    ("usd", "answer_s"),
    [("-1.0", "0.1"), ("nan", "0.1"), ("inf", "0.1"), ("1e9", "0.1"), ("0.1", "-5.0"), ("0.1", "nan"),
     ("0.1", "inf"), ("0.1", "1e7")],
)  # fmt: skip
def test_what_rules_cost_and_take_can_be(usd: str, answer_s: str) -> None:
    with pytest.raises(BadLimits, match="Give a number from 0"):
        loads(f"{BASIS}\n{RULES.format(usd, answer_s)}")


@pytest.mark.parametrize("ttl_s", ["nan", "inf", "-1.0"])
def test_how_long_a_cache_keeps_can_be(ttl_s: str) -> None:
    with pytest.raises(BadLimits, match="ttl_s"):
        loads(f'{BASIS}\n[[deployment]]\ntype = "exact-cache"\nid = "c"\nttl_s = {ttl_s}\n')


@pytest.mark.parametrize(
    "rule",
    [
        Rule(Fixed("a"), first=First("a")),
        Rule(Fixed("b"), first=First("a"), recover=Recover(fallback=("a",))),
        Rule(Cascade(("a", "b")), first=First("a")),
        Rule(Fixed("b"), first=First("a"), guard=Guard(usd=1.0, then="a")),
        Rule(Fixed("b"), cache="a", recover=Recover(fallback=("a",))),
        Rule(Fixed("a"), defer=Defer("a", 60.0)),
    ],
)
def test_what_is_tried_once_is_named_for_nothing_else(rule: Rule) -> None:
    """Else it would be tried for ever: its attempts are not those of the choice."""
    with pytest.raises(BadLimits, match="is named for something else too"):
        check(rule)


def test_a_route_s_cache_answers_nothing_else() -> None:
    with pytest.raises(BadLimits, match="is its cache"):
        rule_of(Route("w", "m", (Share("a", (1.0,)),), cache="c", fallback="c"))


def test_what_is_tried_once_ends() -> None:
    rule, request = Rule(Fixed("b"), first=First("a")), Request("w", "m", 0, 0)
    check(rule)
    assert decide(rule, request, []) == Try(("a",))
    assert decide(rule, request, [Attempt("a", "missed")]) == Try(("b",))
    assert decide(rule, request, [Attempt("a", "missed"), Attempt("b", "failed")]) == Stop()


def test_a_task_that_outcomes_lack_stays_itself(catalog: Catalog, tmp_path: Path) -> None:
    """A third of the requests are poems: for the rules they are poems, whatever question stands for them."""
    trace = open_trace(log(tmp_path / "log.csv", ["faq", "law", "poem"]), task_by="topic")
    found = played(trace, catalog, CHOOSE + BY_TASK + MIX, graded(tmp_path / "o.csv", ("faq", "law")))
    plain = played(trace, catalog, CHOOSE + BY_TASK + MIX)
    assert found.most.usd == plain.most.usd
    assert answered(found.most) == answered(plain.most) == {MINI: 334, BIG: 666}
    assert any("no question of the task of 333 requests (poem)" in note for note in found.notes)
    assert any("333 of 1,000 requests are of tasks that the fit did not see" in note for note in found.notes)


def test_outcomes_without_tasks_are_not_any_other(unnamed: Trace, catalog: Catalog, tmp_path: Path) -> None:
    path = graded(tmp_path / "o.csv", ("",))
    found = played(unnamed, catalog, CHOOSE + BY_TASK, path)
    assert not found.is_known
    assert (answered(found.least), answered(found.most)) == ({MINI: N}, {BIG: N})
    assert any("Neither the log nor OUTCOMES names tasks" in note for note in found.notes)
    found = played(unnamed, catalog, CHOOSE + BY_TASK + MIX, path)
    assert found.likely is not None
    assert answered(found.likely)[MINI] / N == pytest.approx(0.7, abs=0.045)
    assert not any("did not see" in note for note in found.notes)
    # A log that names them needs none of the questions'.
    trace = open_trace(log(tmp_path / "log.csv", ["faq", "law"]), task_by="topic")
    found = played(trace, catalog, CHOOSE + BY_TASK, path)
    assert found.is_known
    assert answered(found.most) == {MINI: N // 2, BIG: N // 2}


SEEN = "seen = { questions = 10000000, chance = { A = 1, AA = 0.0, AB = 1.0 } }"


def test_a_cap_tells_of_answers_that_are_not_taken(unnamed: Trace, catalog: Catalog) -> None:
    """Drafts of which nothing is kept are cut too: the bill is a dollar less, and that is said."""
    whole = played(unnamed, catalog, CHOOSE + CASCADE + SEEN).most
    cut = played(unnamed, catalog, "[policy.shape]\ncap_output_tok = 500\n" + CHOOSE + CASCADE + SEEN).most
    assert answered(cut) == {BIG: N}
    assert stops(cut) == {"capped": (N, round(whole.usd - cut.usd, 4))}
    assert whole.usd - cut.usd == pytest.approx(1.0)


def test_a_budget_of_nothing_says_what_it_refused(unnamed: Trace, catalog: Catalog) -> None:
    found = played(unnamed, catalog, f"[policy.guard]\nusd = 0.0\n{FIXED}").most
    assert stops(found) == {"budget": (N, 4.0)}
    text = f'[policy.guard]\nusd = 100.0\nsoft_frac = 0.0\nthen = "{MINI}"\n{FIXED}'
    found = played(unnamed, catalog, text).most
    assert stops(found) == {"downgraded": (N, 1.75)}


def test_notes_do_not_contradict(unnamed: Trace, catalog: Catalog) -> None:
    """What a fit saw of answers is known where tasks are not; ends hold one draw, not four in five."""
    found = played(unnamed, catalog, CHOOSE + CASCADE + SEEN)
    assert found.likely is None
    assert any("each end holds one draw" in note for note in found.notes)
    assert not any("Nothing says" in note for note in found.notes)
    first = '[policy.first]\ndeployment = "rx"\ntasks = ["faq"]\nmeasured = { requests = 1000, hits = 300 }\n'
    found = played(unnamed, catalog, first + FIXED, more=RULES.format(0.001, 0.05))
    assert found.likely is None
    assert not any("four in five" in note or "no certificate" in note for note in found.notes)


@pytest.mark.parametrize("name", ["trim_input_tok", "cap_output_tok"])
def test_nothing_is_cut_to_nothing(name: str) -> None:
    with pytest.raises(BadLimits, match=f"{name} = 0"):
        loads(f'{BASIS}\n[[policy]]\nworkload = "*"\n[policy.shape]\n{name} = 0\n{FIXED}')


def test_shares_of_uneven_sessions_are_told(catalog: Catalog, tmp_path: Path) -> None:
    """One session is two thirds of all requests: half of the sessions are not half of the requests."""
    path = log(tmp_path / "log.csv")
    head, *lines = path.read_text().splitlines()
    rows = [f"{line},{'s' if i % 3 else f's{i}'}" for i, line in enumerate(lines)]
    path.write_text("\n".join([f"{head},session_id", *rows]) + "\n")
    shares = f'{{ deployment = "{BIG}", frac = [0.5] }}, {{ deployment = "{MINI}", frac = [0.5] }}'
    text = f'{CHOOSE}kind = "split"\nby_session = true\nshares = [{shares}]\n'
    found = played(open_trace(path), catalog, text)
    assert any(note.startswith("Shares are of sessions") for note in found.notes)
    found = played(open_trace(path), catalog, text.replace("true", "false"))
    assert not any(note.startswith("Shares are of sessions") for note in found.notes)
