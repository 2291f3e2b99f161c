"""Policies that decide by task, on logs that name tasks and on logs that do not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from golden import Golden
from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadLimits
from isocost.plan.written.file import PlanFile, dumps, loads
from isocost.plan.written.told import Played, Policed, police
from isocost.policy.rules import ByTask, Cascade
from isocost.policy.table import GROUP0, compile_rule, with_chances
from isocost.trace import Trace, open_trace

PLAN = (Path(__file__).parents[1] / "examples" / "policy.toml").read_text()
BASIS = PLAN[: PLAN.index("# Summaries")]
MINI, SMALL, BIG = "openai/gpt-5-mini", "openai/gpt-4.1-mini", "openai/gpt-5.4"
N = 1000


def log(path: Path, tasks: list[str] | None = None, more: str = "") -> Path:
    """Requests to the strong model, ten seconds apart; ``tasks`` come in turn."""
    head = "timestamp,model,input_tokens,output_tokens,ttft_s,e2e_s" + (",workload,topic" if tasks else "")
    lines = [head]
    for i in range(N):
        task = f",w,{tasks[i % len(tasks)]}" if tasks else ""
        at = f"2026-11-01T{i // 360:02}:{i // 6 % 60:02}:{i % 6 * 10:02}Z"
        lines.append(f"{at},{BIG},1000,100,0.5,2.0{task}{more}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return open_trace(log(tmp_path_factory.mktemp("log") / "log.csv"))


def plan(choose: str) -> PlanFile:
    made = loads(f'{BASIS}\n[[policy]]\nworkload = "*"\n[policy.choose]\n{choose}\n')
    assert loads(dumps(made)) == made
    return made


def answered(way: Played) -> dict[str, int]:
    return {row.deployment: row.requests for row in way.answered if row.requests}


BY_TASK = f'kind = "by-task"\ntasks = {{ faq = "{MINI}", law = "{BIG}", "*" = "{BIG}" }}\n'
MIX = (
    "seen = { questions = 10000000, groups = [{ tasks = { faq = 7000000 } }, { tasks = { law = 3000000 } }] }"
)
ACCEPT = 'accept = [{ pattern = "A", take = "A", but = ["law"] }]\n'
CASCADE = f'kind = "cascade"\nask = ["{MINI}", "{BIG}"]\n{ACCEPT}'


def test_the_certificate_s_mix_is_played_where_the_log_names_no_tasks(
    unnamed: Trace, catalog: Catalog
) -> None:
    found, _ = police(unnamed, plan(BY_TASK + MIX), catalog)
    assert found.likely is not None
    assert answered(found.likely)[MINI] / N == pytest.approx(0.7, abs=0.045)
    assert found.least.usd < found.likely.usd < found.most.usd
    said = next(note for note in found.notes if "names no tasks" in note)
    assert "faq 70%, law 30%" in said
    assert "--task-by" in said


def test_a_cheap_answer_is_taken_as_often_as_its_tasks_came(unnamed: Trace, catalog: Catalog) -> None:
    """Alone it would be taken of every request: that is the rule for any other task."""
    seen = (
        "seen = { questions = 10000000, chance = { A = 1, AA = 0.5, AB = 0.5 }, groups = ["
        "{ tasks = { faq = 6000000, chat = 2000000 }, chance = { A = 1, AA = 0.6, AB = 0.4 } },"
        "{ tasks = { law = 2000000 }, chance = { A = 1, AA = 0.1, AB = 0.9 } }] }"
    )
    found, _ = police(unnamed, plan(CASCADE + seen), catalog)
    assert found.likely is not None
    assert answered(found.likely)[BIG] / N == pytest.approx(0.2, abs=0.04)
    assert found.likely.escalated_frac == pytest.approx(0.2, abs=0.04)


def test_both_ends_are_played_where_nothing_says(unnamed: Trace, catalog: Catalog) -> None:
    found, _ = police(unnamed, plan(BY_TASK), catalog)
    assert not found.is_known
    assert found.likely is None
    assert {tuple(answered(way)) for way in (found.least, found.most)} == {(MINI,), (BIG,)}
    assert any("both ends" in note for note in found.notes)
    found, _ = police(unnamed, plan(CASCADE), catalog)
    assert (answered(found.least), answered(found.most)) == ({MINI: N}, {BIG: N})


def test_tasks_by_a_column(catalog: Catalog, tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", ["faq", "faq", "law", "poem"])
    trace = open_trace(path, task_by="topic")
    assert trace.names["task"] == ("faq", "law", "poem")
    found, _ = police(trace, plan(BY_TASK + MIX), catalog)
    assert found.is_known
    assert answered(found.most) == {MINI: N // 2, BIG: N // 2}
    assert any(f"{N // 4:,} of {N:,} requests are of tasks that the fit did not see (poem)" in note
               for note in found.notes)  # fmt: skip
    # A column of that name beside one of workloads needs no telling.
    path.write_text(path.read_text().replace("topic", "task"))
    assert open_trace(path).names["task"] == ("faq", "law", "poem")
    # Alone it names the workloads, and these are the tasks.
    path.write_text(path.read_text().replace("workload", "other"))
    trace = open_trace(path)
    assert (trace.names["workload"], "task" in trace.names) == (("faq", "law", "poem"), False)
    assert answered(police(trace, plan(BY_TASK + MIX), catalog)[0].most) == {MINI: N // 2, BIG: N // 2}


def test_questions_stand_for_requests_of_their_task(catalog: Catalog, tmp_path: Path) -> None:
    trace = open_trace(log(tmp_path / "log.csv", ["faq", "law", "law", "law"]), task_by="topic")
    rows = [["qid", "model", "quality", "pred", "task"]]
    for i in range(90):
        task = "faq" if i < 60 else "law"
        rows += [[str(i), MINI, "1" if task == "faq" else "0", "x", task], [str(i), BIG, "1", "y", task]]
    (tmp_path / "o.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    every = plan(f'kind = "fixed"\ndeployment = "{MINI}"')
    found, _ = police(trace, every, catalog, tmp_path / "o.csv")
    assert found.most.quality is not None
    assert found.most.quality.mean == pytest.approx(0.25)  # as the log's tasks, not as the file's


def test_chances_are_those_of_a_task_s_group() -> None:
    made = plan(
        CASCADE + "seen = { questions = 10, chance = { A = 1, AA = 0.5, AB = 0.5 }, groups = ["
        "{ tasks = { faq = 8 }, chance = { A = 1, AA = 0.6, AB = 0.4 } },"
        "{ tasks = { law = 2 }, chance = { A = 1, AA = 0.1, AB = 0.9 } }] }"
    ).policies[0]
    choice = made.choose
    assert isinstance(choice, Cascade)
    assert choice.seen is not None
    by_task = {task: group.chance for group in choice.seen.groups for task in group.tasks}
    table = with_chances(made, compile_rule(made), choice.seen.chance, by_task)
    law = next(start for key, start in table.starts.items() if key[3].endswith("\tlaw"))
    asked = int(table.after[law, GROUP0])
    assert table.chance[asked, GROUP0 : GROUP0 + 2] == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ("{ questions = 9, chance = { A = 1 } }", "nothing is read"),
        ("{ questions = 9, groups = [{ tasks = { faq = 8 } }] }", "tasks of 8 questions, of 9"),
        ("{ questions = 9, groups = [{ tasks = { faq = 9, law = 0 } }] }", "a task of no question"),
        ("{ questions = 9, groups = [{ tasks = { faq = 8 } }, { tasks = { faq = 1 } }] }", "in two groups"),
    ],
)
def test_a_mix_is_read_strictly(seen: str, why: str) -> None:
    with pytest.raises(BadLimits, match=why):
        plan(BY_TASK + f"seen = {seen}")


def outcomes(path: Path, *, named: bool) -> None:
    """Questions of two tasks: on one the cheap models are as good as the strong one, on the other not."""
    random = np.random.default_rng(3)
    with path.open("w") as out:
        write = csv.writer(out)
        write.writerow(["qid", "model", "quality", "pred", "in_tok", "out_tok", "task"])
        for i in range(3000):
            easy = random.random() < 0.6
            for name, right in ((MINI, 0.97 if easy else 0.4), (SMALL, 0.97 if easy else 0.4), (BIG, 0.9)):
                is_right = random.random() < right
                task = ("faq" if easy else "law") if named else ""
                answer = 0 if is_right else random.integers(1, 9)
                write.writerow([i, name, int(is_right), answer, 1000, 100, task])


def test_a_fit_by_task_foretells_what_its_outcomes_then_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes(Path("o.csv"), named=True)
    assert main(["policy", "fit", "o.csv", "--strong", BIG, "--candidates", f"{MINI},{SMALL}"]) == 0
    made = Path("policy.toml").read_text()
    Path("plan.toml").write_text(BASIS + made[made.index("[[policy]]") : made.index("[[certificate]]")])
    log(Path("log.csv"))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, more in (("mix", []), ("graded", ["--outcomes", "o.csv"])):
        capsys.readouterr()
        assert main(["replay", "log.csv", *more, "--json"]) == 0
        found[name] = json.loads(capsys.readouterr().out)["policy"]
    assert found["mix"]["likely"]["usd"] == pytest.approx(found["graded"]["most"]["usd"], rel=0.05)
    assert found["mix"]["likely"]["usd"] < 0.65 * found["mix"]["without"]["usd"]
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["replay", "log.csv"]) == 0
        golden.check(f"replay_tasks_{width}.txt", capsys.readouterr().out)


def test_a_fit_on_questions_without_tasks_holds_for_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes(Path("o.csv"), named=False)
    assert main(["policy", "fit", "o.csv", "--strong", BIG, "--candidates", f"{MINI},{SMALL}"]) == 0
    assert "saved" in capsys.readouterr().out
    made = Path("policy.toml").read_text()
    choice = loads(BASIS + made[made.index("[[policy]]") : made.index("[[certificate]]")]).policies[0].choose
    assert not isinstance(choice, ByTask)
    assert isinstance(choice, Cascade)
    assert choice.seen is not None
    assert all(one.tasks == ("*",) and not one.but for one in choice.accept)
    assert choice.seen.groups == ()


def test_a_policed_log_says_nothing_of_tasks_that_nothing_asks_for(unnamed: Trace, catalog: Catalog) -> None:
    found: Policed
    found, _ = police(unnamed, plan(f'kind = "fixed"\ndeployment = "{MINI}"'), catalog)
    assert found.is_known
    assert not any("task" in note for note in found.notes)
