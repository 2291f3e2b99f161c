"""Graded results of other tools: each format as its tool writes it, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import Golden
from isocost.cli import main
from isocost.errors import BadInput
from isocost.policy.grades import Choice, Grade, Grades, read_grades
from isocost.policy.measure import merged, outcomes_of
from isocost.policy.outcomes import read_outcomes

CASES = Path(__file__).parent / "cases" / "grades"


def read(*names: str, **choice: Any) -> Grades:
    """Grades of cases, each ``FILE`` or ``MODEL=FILE``."""
    parts = [name.rpartition("=") for name in names]
    return read_grades([(model, CASES / name) for model, _, name in parts], Choice(**choice))


def short(found: Grades) -> list[tuple[Any, ...]]:
    return [(g.query, g.model, g.quality, g.pred, g.in_tok, g.out_tok, g.cost, g.latency_s)
            for g in found.grades]  # fmt: skip


BIG, MINI = "openai/gpt-4.1", "openai/gpt-4.1-mini"
EXPECTED: dict[tuple[str, ...], tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    ("promptfoo_v3.json",): ({}, [
        ("Capital of Peru?", BIG, 1, "Lima", 30, 2, 0.0002, 1.2),
        ("Capital of Peru?", MINI, 1, "Lima", 30, 2, 0.00004, 0.5),
        # Out of promptfoo's cache: neither paid nor waited for, and its tokens are not told apart.
        ("7 times 8?", BIG, 1, "56", None, None, None, None),
        ("7 times 8?", MINI, 0.25, "54", 30, 2, 0.00004, 0.45),
        ("Largest planet?", BIG, 1, "Jupiter", 30, 2, 0.0002, 1.1),
    ]),
    ("promptfoo_v2.json",): ({}, [
        ("Hi", "openai/gpt-4", 1, "Hi", 8, 1, 0.0003, 0.7),
        ("Hi", "anthropic/claude-3-haiku-20240307", 0, "Hello", 8, 1, None, 0.4),
    ]),
    ("promptfoo_table.json",): ({}, [
        ("Hi", "openai/gpt-4", 1, "Hi", None, None, 0.0003, 0.65),
        ("Hi", "openai/gpt-3.5-turbo", 0, "Yo", None, None, 0.00002, 0.3),
    ]),
    # Repeats of one test: their mean, and no one answer.
    ("promptfoo.jsonl",): ({}, [
        ("Capital of Peru?", "strong", 1, "Lima", 30, 2, None, 0.8),
        ("Capital of Peru?", "cheap", 0.5, "", 30, 2, None, 0.8),
    ]),
    ("promptfoo.csv",): ({}, [
        ("Capital of Peru?", BIG, 1, "Lima", None, None, None, None),
        ("Capital of Peru?", MINI, 1, "Lima", None, None, None, None),
        ("7 times 8?", BIG, 1, "56", None, None, None, None),
    ]),
    ("promptfoo_older.csv",): ({}, [
        ("Capital of Peru?", "openai/gpt-4", 1, "Lima", None, None, None, None),
        ("Capital of Peru?", "openai/gpt-3.5-turbo", 0.25, "Quito", None, None, None, None),
        ("7 times 8?", "openai/gpt-4", 1, "56", None, None, None, None),
    ]),
    ("langfuse_scores.json", "langfuse_observations.jsonl"): ({"score": "helpful", "scale": (1, 5)}, [
        ("Capital of Spain?", "gpt-4.1", 0.875, "Madrid", 20, 2, 0.0002, 1.5),
        ("Capital of Spain?", "gpt-4.1-mini", 0.25, "Lisbon", 20, 2, 0.00004, 0.5),
    ]),
    ("langfuse_observations.jsonl", "langfuse_scores.json"): (
        {"score": "tone", "values": {"polite": 1.0, "curt": 0.25}}, [
        ("Capital of Spain?", "gpt-4.1", 1, "Madrid", 20, 2, 0.0002, 1.5),
        ("Capital of Spain?", "gpt-4.1-mini", 0.25, "Lisbon", 20, 2, 0.00004, 0.5),
    ]),
    ("langfuse_traces.csv",): ({"score": "quality_score"}, [
        ("Capital of Spain?", "gpt-4.1", 1, "Madrid", 20, 2, 0.0002, 1.4),
        ("Capital of Spain?", "gpt-4.1-mini", 0.5, "Lisbon", 20, 2, 0.0002, 1.4),
    ]),
    ("braintrust.json",): ({"score": "ExactMatch"}, [
        ("2+2?", "gpt-4.1-mini", 1, "4", 12, 1, 0.00001, 1.5),
        ("3+3?", "gpt-4.1-mini", 0, "7", 12, 1, 0.00001, 1.0),
    ]),
    ("braintrust.csv",): ({}, [("2+2?", "gpt-4.1", 1, "4", 12, 1, None, 1.5)]),
    ("m=langsmith.csv",): ({"score": "correctness"}, [
        ("2+2?", "m", 1, "4", None, None, None, 1.25), ("3+3?", "m", 0, "7", None, None, None, 0.75),
    ]),
    ("langsmith_runs.json",): ({}, [("2+2?", "gpt-4.1-mini", 1, "4", 12, 1, 0.00001, 1.25)]),
    ("deepeval.json",): ({"score": "answer relevancy"}, [
        ("Refund after 30 days?", "gpt-4.1-mini", 0.9, "Yes", None, None, 0.00002, 0.8),
        ("Open on Sundays?", "gpt-4.1-mini", 0.3, "Maybe", None, None, None, None),
    ]),
    # Epochs of one sample: the mean; cached input counts as input.
    ("inspect.json",): ({}, [
        ("2+2?", MINI, 0.5, "", 34, 3, None, 0.6), ("3+3?", MINI, 0.5, "6", 34, 3, None, 0.6),
    ]),
    ("openai_items.json",): ({}, [
        ("Stocks rally", "gpt-4o-mini-2024-07-18", 1, "Markets", 323, 2, None, None),
    ]),
    ("openai_oss.jsonl",): ({}, [("2+2?", "gpt-4o", 1, "4", None, None, None, None)]),
    ("judge.csv",): ({"scale": (1, 5)}, [
        ("Why is the sky blue?", "gpt-4.1", 1, "Scattering", None, None, None, 1.2),
        ("Why is the sky blue?", "gpt-4.1-mini", 0.25, "The sea", None, None, None, 0.4),
    ]),
    ("wide.csv",): ({"models": ("gpt-4.1", "gpt-4.1-mini")}, [
        ("Why?", "gpt-4.1", 1, "", None, None, None, None),
        ("Why?", "gpt-4.1-mini", 0, "", None, None, None, None),
        ("Who?", "gpt-4.1", 1, "", None, None, None, None),
        ("Who?", "gpt-4.1-mini", 1, "", None, None, None, None),
    ]),
    # A model's name with what its column holds, before or after it; a blank is no grade.
    ("wide_beside.csv",): ({"known": ("gpt-4o", "small").__contains__}, [
        ("Why?", "gpt-4o", 1, "As it is", 12, 3, 0.001, None),
        ("Why?", "small", 0.5, "So", 12, 2, None, None),
        ("Who?", "small", 1, "Me", 9, 1, None, None),
    ]),
    ("several.csv",): ({"score": "faithfulness"}, [("Why?", "a", 0.5, "Because", None, None, None, None)]),
    ("labels.csv",): ({"values": {"good": 1.0, "so-so": 0.5, "Bad": 0.0}}, [
        ("", "a", 1, "x", None, None, None, None), ("", "b", 0, "y", None, None, None, None),
        ("", "a", 1, "x", None, None, None, None), ("", "b", 0.5, "y", None, None, None, None),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("names", EXPECTED, ids=lambda names: "+".join(names))
def test_every_tools_results_become_grades(names: tuple[str, ...]) -> None:
    choice, rows = EXPECTED[names]
    found = short(read(*names, **choice))
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in rows]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in rows])


REFUSED = [
    (("langfuse_scores.json",), {}, "several scores: correct \\(2 answers\\).*--score correct"),
    (("deepeval.json",), {}, "several scores.*--score 'Answer Relevancy'"),
    (("deepeval.json",), {"score": "bias"}, "'Bias' less is better.*--scale 1:0"),
    (("deepeval.json",), {"score": "none"}, "--score: no score 'none'.*Answer Relevancy"),
    (("judge.csv",), {}, "goes from 2 to 5.*--scale 1:5"),
    (("judge.csv",), {"scale": (1.0, 4.0)}, "beyond 1 to 4.*goes from 2 to 5"),
    (("labels.csv",), {}, "'good' \\(2 answers\\).*--values good=,bad=,so-so="),
    (("wide.csv",), {}, "several scores.*models: --models gpt-4.1,gpt-4.1-mini"),
    (("wide.csv",), {"known": "gpt-4.1".__eq__}, "gpt-4.1, which are models, and of gpt-4.1-mini.*Say which"),
    (("wide.csv",), {"models": ("gpt-4.1", "gpt-5")}, "no column of grades of gpt-5"),
    (("wide.csv",), {"models": ("gpt-5",)}, "--models: no grades of gpt-5.* columns of gpt-4.1, gpt-4"),
    (
        ("judge.csv",),
        {"models": ("gpt-5",), "scale": (1, 5)},
        "--models: no grades of gpt-5.* grades of gpt-4.1, gpt-4.1-mini",
    ),
    (("promptfoo_v3.json",), {"models": (MINI, "gpt-5")}, "--models: no grades of gpt-5[.] There"),
    (("wide_twice.csv",), {"models": ("a", "b")}, "several columns of grades of a: a score, a rating"),
    (("langfuse_observations.jsonl",), {}, "answers without a score.*SCORES.json"),
    (("langfuse_run_items.json",), {}, "no graded answer"),
    (("x=promptfoo_v3.json",), {}, "names 2 models itself"),
    (("nothing.json",), {}, "no such file"),
    (("several.csv",), {"columns": {"qid": "nr"}}, "no column 'nr'.*It has user_input"),
    (("several.csv",), {"columns": {"who": "model"}}, "--map: no such column: who"),
]


@pytest.mark.parametrize(
    ("names", "choice", "said"), REFUSED, ids=[f"{n[0]}-{s[:24]}" for n, _, s in REFUSED]
)
def test_what_is_refused_says_what_to_type(names: tuple[str, ...], choice: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read(*names, **choice)


def test_only_models_that_are_asked_for(tmp_path: Path) -> None:
    """Whether each has a column or each row names its own; hosts may be left out."""
    long, wide = (
        read("judge.csv", scale=(1, 5), models=("gpt-4.1-mini",)),
        read("wide.csv", models=("gpt-4.1",)),
    )
    assert (long.models, wide.models) == (("gpt-4.1-mini",), ("gpt-4.1",))
    assert long.notes[0] == "1 grade left out: of gpt-4.1"
    assert read("promptfoo_v3.json", models=("gpt-4.1-mini",)).models == (MINI,)


def test_raters_whose_names_are_models(tmp_path: Path) -> None:
    """Columns that are taken as models are named, and a score that is asked for is none."""
    file = tmp_path / "raters.csv"
    file.write_text("question,o1,o3,r1\nWhy?,1,0,1\n")
    known = {"o1", "o3"}.__contains__
    with pytest.raises(BadInput, match="--models o1,o3,r1, or the score: --score r1"):
        read_grades([("", file)], Choice(known=known))
    for score, grade in (("r1", 1.0), ("O3", 0.0)):
        found = read_grades([("m", file)], Choice(score, known=known))
        assert [(one.model, one.quality) for one in found.grades] == [("m", grade)]
    file.write_text("question,o1\nWhy?,1\n")
    found = read_grades([("", file)], Choice(known=known))
    assert found.models == ("o1",)
    assert found.notes[0].startswith("1 column taken as grades of a model: o1;")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("text", [(CASES / "wide.csv").read_bytes(), b""])
def test_a_pipe_is_read(tmp_path: Path, text: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(text,), daemon=True)
    writer.start()
    if text:
        assert len(read_grades([("", pipe)], Choice(models=("gpt-4.1", "gpt-4.1-mini"))).grades) == 4
    else:
        with pytest.raises(BadInput, match="the file is empty"):
            read_grades([("", pipe)])
    writer.join()


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, data, said in (
        ("a.json", b"{", "not JSON"), ("a.json", b"{}", "no results of promptfoo"),
        ("a.csv", b"model,score\n", "a header and no rows"),
        ("a.csv", b"model,score\nm,1\n", "which question"),
        ("a.csv", b"qid,model,answer\n1,m,x\n", "no column of scores"), ("a.json", b"\xff\xfe", "as text"),
        ("a.yaml", b"results:", "YAML is not read"), ("a.eval", b"PK", "inspect log convert"),
        ("a.csv", b"qid,model,score\n1,m,\n", "nothing is graded"), ("a.parquet", b"x", "cannot be read"),
        ("a.json", b'{"results": {"results": [{"score": 1, "success": true}]}}', "without a provider"),
    ):  # fmt: skip
        file = tmp_path / name
        file.write_bytes(data)
        with pytest.raises(BadInput, match=said):
            read_grades([("", file)])


def test_inspects_packed_log_says_what_its_json_says(tmp_path: Path) -> None:
    log = json.loads((CASES / "inspect.json").read_text(encoding="utf-8"))
    packed = tmp_path / "log.eval"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("header.json", json.dumps({k: v for k, v in log.items() if k != "samples"}))
        for one in log["samples"]:
            pack.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    assert read_grades([("", packed)]).grades == read("inspect.json").grades


def test_scores_name_their_calls_or_stand_alone() -> None:
    both = read(
        "langfuse_scores.json", "langfuse_observations.jsonl", "langfuse_run_items.json", score="correct"
    )
    assert [(g.qid, g.model, g.quality) for g in both.grades] == [
        ("item-9", "gpt-4.1", 1.0), ("item-9", "gpt-4.1-mini", 0.0),
    ]  # fmt: skip
    named = read("langfuse_scores.csv")
    assert [(g.qid, g.model) for g in named.grades] == [("w:7", "gpt-4.1"), ("w:7", "gpt-4.1-mini")]


def test_a_trace_of_several_models_has_no_one_to_praise(tmp_path: Path) -> None:
    calls = [json.loads(line) for line in (CASES / "langfuse_observations.jsonl").read_text().splitlines()]
    file = tmp_path / "agent.jsonl"
    file.write_text("\n".join(json.dumps({**one, "traceId": "t1"}) for one in calls))
    found = read_grades([("", file), ("", CASES / "langfuse_scores.json")], Choice("helpful", (1, 5)))
    assert all(grade.model == "" for grade in found.grades)
    assert any("with several models left out" in note for note in found.notes)


@given(st.lists(st.sampled_from(["1", "0", "true", "FAIL", "85%", "3/4", "", "n/a"]), min_size=1, max_size=9))
def test_grades_are_from_0_to_1_and_nothing_is_no_zero(values: list[str]) -> None:
    from isocost.policy.grades.call import Call
    from isocost.policy.grades.read import _graded

    calls = [Call(str(i), "m", {"score": value}) for i, value in enumerate(values)]
    kept = [value for value in values if value not in ("", "n/a")]
    if not kept:
        with pytest.raises(BadInput, match="no answer has"):
            _graded(calls, "score", Choice(), "", [])
        return
    found = _graded(calls, "score", Choice(), "", [])
    assert len(found) == len(kept)
    assert all(0 <= grade.quality <= 1 for grade in found)
    worse = _graded(calls, "score", Choice(scale=(1.0, 0.0)), "", [])
    assert [a.quality + b.quality for a, b in zip(found, worse, strict=True)] == pytest.approx(
        [1] * len(kept)
    )


def test_a_template_takes_grades_by_id_words_and_a_models_bare_name() -> None:
    text = (
        "qid,workload,model,quality,pred,query,out_tok,cost\n"
        "w:1,w,gpt-4.1,,,Why?,,\nw:2,w,gpt-4.1,,,,,\nw:1,w,b,,,Why?,,\n"
    )
    grades = [
        Grade("w:2", "openai/gpt-4.1", 0.5, "x", out_tok=7, cost=0.1, latency_s=2.0),
        Grade("elsewhere", "openai:gpt-4.1", 1.0, also=("q:none",)),
        Grade("1", "b", 1.0),
        Grade("w:1", "c", 1.0),
    ]
    found = merged(text, [*grades, Grade("my why", "b", 0.25, also=("q:" + _digest("why?"),))])
    assert (found.placed, found.stray) == (2, 3)
    assert found.unknown_models == ("c",)
    assert found.unknown_questions == ("elsewhere", "1")
    rows = list(csv.DictReader(found.text.splitlines()))
    assert [row["quality"] for row in rows] == ["", "0.5", "0.25"]
    assert (rows[1]["out_tok"], rows[1]["cost"], rows[1]["latency_s"]) == ("7", "0.1", "2.0")


def _digest(text: str) -> str:
    from isocost.policy.grades.call import named

    return named(text).removeprefix("q:")


def test_grades_without_a_template_are_outcomes_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"provider": {"id": f"openai:{model}"}, "vars": {"question": f"What is {i} + {i}?"}, "success": ok,
         "score": int(ok), "latencyMs": 900, "cost": 0.001, "testIdx": i,
         "response": {"output": str(2 * i if ok else i), "tokenUsage": {"prompt": 20, "completion": 3}}}
        for i in range(1, 41) for model, ok in (("gpt-4.1", True), ("gpt-4.1-mini", i % 4 > 0))
    ]  # fmt: skip
    file, out = tmp_path / "results.json", tmp_path / "outcomes.csv"
    file.write_text(json.dumps({"results": {"version": 3, "results": rows}}), encoding="utf-8")
    out.write_text(outcomes_of(read_grades([("", file)]).grades), encoding="utf-8")
    found = read_outcomes(out)
    assert found.models == ("openai/gpt-4.1", "openai/gpt-4.1-mini")
    assert len(found) == 40
    assert found.quality.mean(axis=0).tolist() == [1.0, 0.75]
    assert found.agree_frac == 0.75
    with pytest.raises(BadInput, match="MODEL=FILE"):
        outcomes_of([Grade("1", "", 1.0)])


def test_the_command_reads_says_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["measure", "--grades", str(CASES / "promptfoo_v3.json")]
    assert main(words) == 0
    golden.check("measure_grades.txt", capsys.readouterr().out)
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["imported"]["grades"] == 5
    assert told["imported"]["models"][0]["median_s"] == 1.15
    # What is there already is filled in, and what fits nothing is said.
    before = Path("outcomes.csv").read_text(encoding="utf-8")
    assert main(["measure", "--grades", str(CASES / "openai_items.json")]) == 2
    assert "no grade is of a model of outcomes.csv" in capsys.readouterr().err
    assert Path("outcomes.csv").read_text(encoding="utf-8") == before
    for flags, said in (
        (["--scale", "5"], "Type WORST:BEST"), (["--scale", "2:2"], "Type WORST:BEST"),
        (["--values", "good=2"], "numbers from 0 to 1"), (["--score", "tone"], "no score 'tone'"),
    ):  # fmt: skip
        assert main([*words, *flags]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert main(["measure", str(CASES / "judge.csv"), "--grades", "x.csv"]) == 2
    assert "First isocost measure" in capsys.readouterr().err
