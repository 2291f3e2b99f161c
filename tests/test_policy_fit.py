"""Graded outcomes to certified policies: made sets with a known answer, bad input, files, commands."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from golden import Golden
from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadInput, BadLimits
from isocost.policy.agree import Cascade, Fixed, Part, Reading, patterns, written
from isocost.policy.difficulty import corpus, fit, gained
from isocost.policy.export import litellm, portkey
from isocost.policy.fit import Candidate, candidates, certify, estimate, saving_bounds, strongest
from isocost.policy.lapse import basis, lapsed, mix_of, same_mix_p
from isocost.policy.measure import sample, template
from isocost.policy.outcomes import normal, read_outcomes, without
from isocost.policy.outlook import outlook, worth
from isocost.policy.pricing import price_models
from isocost.policy.route import Attempt, Request
from isocost.policy.router import score
from isocost.policy.rules import (
    ByTask,
    Guard,
    Recover,
    Rule,
    Shape,
    Share,
    Split,
    Sticky,
    accepted,
    decide,
    pattern,
)  # fmt: skip
from isocost.policy.rules import Cascade as CascadeRule
from isocost.policy.rules import Fixed as FixedRule
from isocost.policy.study import Wanted, dumps, loads, study
from isocost.trace import example
from isocost.validate.routing import validate_routing

MODELS = ("small-a", "small-b", "strong")


def made(
    n: int, seed: int = 0, right: tuple[float, ...] = (0.75, 0.75, 0.8), blind: bool = False
) -> list[dict]:
    """Questions of four choices. Easy ones (half) all models get right more often; wrong answers scatter."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        easy = rng.random() < 0.5
        truth = rng.integers(4)
        for model, chance in zip(MODELS, right, strict=True):
            p = chance if blind else min(0.99, chance + 0.25) if easy else max(0.05, chance - 0.25)
            said = truth if rng.random() < p else (truth + 1 + rng.integers(3)) % 4
            rows.append({
                "qid": f"q{i}", "model": model, "quality": float(said == truth), "pred": "ABCD"[said],
                "query": f"{'add two' if easy else 'prove the lemma of'} number {i} {rng.integers(1e9)}",
                "task": "easy" if rng.random() < 0.5 else "mixed", "in_tok": 100, "out_tok": 50,
                "cost": 0.02 if model == "strong" else 0.001,
            })  # fmt: skip
    return rows


def written_to(path: Path, rows: list[dict]) -> Path:
    out = io.StringIO()
    write = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    write.writeheader()
    write.writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8")
    return path


def part_of(path: Path) -> Part:
    found = read_outcomes(path)
    cost = found.cost / found.cost[:, -1].mean()
    return Part(found.quality, cost, found.answer, found.task, len(found.tasks), len(found.models) - 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_to(tmp_path_factory.mktemp("made") / "outcomes.csv", made(3000))


def test_patterns_are_read_in_order_of_appearance() -> None:
    read = patterns(np.array([[3, 3, 1, 3], [-1, 2, 2, 0]]), (0, 1, 2, 3))
    assert [written(int(read.code[3][i]), 4) for i in range(2)] == ["AABA", "-AAB"]


def test_a_cascade_saves_and_every_attempt_is_paid(file: Path) -> None:
    part = part_of(file)
    a, c = part.take(np.arange(0, 1200)), part.take(np.arange(1200, 2400))
    policy = Reading(a, (0, 1, 2)).fit(0.05)
    did = policy.run(c)
    seen = estimate(policy, c)
    # Nothing is cheaper than the first model, nothing dearer than all of them.
    assert did.cost.min() >= c.cost[:, 0].min()
    assert did.cost.max() <= c.cost.sum(axis=1).max() + 1e-12
    assert seen.saving_frac > 0.2
    assert seen.difference > -0.02
    assert seen.difference > seen.blind_difference


def test_where_answers_are_the_same_nothing_needs_a_grade(file: Path) -> None:
    part = part_of(file)
    did = Reading(part, (0, 1, 2)).fit(0.05).run(part)
    same = ~did.differs
    assert (did.quality[same] == part.quality[same, part.strong]).all()
    assert 0.02 < did.differs.mean() < 0.5


def test_a_cascade_can_cost_more_than_the_strong_model(file: Path) -> None:
    """Nothing is accepted where quality must not be sold: then every cheap answer was paid for nothing."""
    part = part_of(file)
    careful = Reading(part, (0, 1, 2)).fit(1e-9)
    assert estimate(careful, part).saving_frac < 0.2


def test_the_certificate_holds_for_users_who_draw_anew(file: Path) -> None:
    """Of policies that lose two points where one is allowed, at most one in twenty is certified."""
    rng = np.random.default_rng(1)
    n, certified = 400, 0
    for _ in range(150):
        quality = np.zeros((n, 2))
        draw = rng.multinomial(1, (0.04, 0.06, 0.9), size=n).argmax(axis=1)
        quality[:, 1] = draw == 1
        quality[:, 0] = draw == 0
        quality[draw == 2] = 1.0
        part = Part(
            quality, np.tile([0.1, 1.0], (n, 1)), np.full((n, 2), -1), np.zeros(n, int), 1, 1, (), False
        )
        candidate = Candidate("one model", Fixed(0), estimate(Fixed(0), part))
        certified += certify([candidate], part, 0.01).chosen is not None
    assert certified <= 150 * 0.05


def test_nothing_to_gain_is_refused(tmp_path: Path) -> None:
    rows = made(900, seed=2, right=(0.3, 0.3, 0.9), blind=True)
    found = study(
        read_outcomes(written_to(tmp_path / "o.csv", rows)),
        Catalog.load().at(date(2026, 11, 23)),
        Wanted("strong"),
    )
    assert not found.rules
    assert not found.certificates[0].certified


def test_strong_is_the_best_and_of_equals_the_cheapest() -> None:
    quality = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    part = Part(quality, np.tile([3.0, 2.0, 1.0], (3, 1)), np.full((3, 3), -1), np.zeros(3, int), 1, 0)
    assert strongest(part) == 1


def test_the_interval_holds_the_saving(file: Path) -> None:
    part = part_of(file)
    did = Reading(part, (0, 1, 2)).fit(0.08).run(part)
    low, high = saving_bounds(did, part)
    assert 0 < low < 1 - did.cost.sum() / part.cost[:, part.strong].sum() < high < 1
    assert high - low < 0.1


def test_a_router_learns_what_is_hard_and_runs_alike_in_plain_python() -> None:
    rng = np.random.default_rng(0)
    texts = [f"{'integral of' if rng.random() < 0.5 else 'colour of'} thing {i % 50}" for i in range(600)]
    gain = np.array([float("integral" in text and rng.random() < 0.6) for text in texts])
    read, task = corpus(texts), np.zeros(600, dtype=np.int64)
    fitted = fit(read, gain, task, 1, np.arange(300))
    assert gained(fitted.scores(read, task)[300:], gain[300:]) > 0.7
    weights = fitted.weights(read, ("t",))
    alone = [score(weights, text, "t") for text in texts[:40]]
    assert alone == pytest.approx(fitted.scores(read, task)[:40].tolist())


def test_the_written_rule_decides_as_the_fitted_policy(file: Path) -> None:
    """policy.toml, read back, accepts and asks on as the arrays do, question by question."""
    outcomes = read_outcomes(file)
    found = study(outcomes, Catalog.load().at(date(2026, 11, 23)), Wanted("strong"))
    rules, certificates = loads(dumps(found))
    assert certificates[0].certified
    choice = rules[0].choose
    assert isinstance(choice, CascadeRule)
    chain = [outcomes.models.index(name) for name in choice.ask]
    read = patterns(outcomes.answer, chain)
    asked = []
    for i in range(200):
        request = Request("w", "m", i, 0, "", outcomes.tasks[outcomes.task[i]])
        attempts: list[Attempt] = []
        while hasattr(action := decide(rules[0], request, attempts), "deployments"):
            d = len(attempts)
            label = int(read.label[i, d])
            attempts.append(Attempt(action.deployments[0], "served" if label >= 0 else "failed", label))
        asked.append(len(attempts))
        letter = accepted(choice, request.task, pattern(attempts))
        assert letter is None or letter in pattern(attempts)
    assert min(asked) < len(chain) <= max(asked) + 1
    assert dumps(found) == dumps(msgspec.structs.replace(found, rules=rules, certificates=certificates))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: rows[:60], "too few"),
        (
            lambda rows: [{**r, "quality": 3.0 if i == 5 else r["quality"]} for i, r in enumerate(rows)],
            "out of range",
        ),
        (lambda rows: [{**r, "quality": -0.2} for r in rows], "out of range"),
        (lambda rows: [*rows, {**rows[0], "quality": 1 - rows[0]["quality"]}], "two outcomes"),
        (lambda rows: [r for r in rows if r["model"] == "strong"], "only one model"),
        (lambda rows: [{**r, "quality": "good"} for r in rows], "no grade"),
        (lambda rows: [{k: v for k, v in r.items() if k != "quality"} for r in rows], "no column 'quality'"),
        (lambda rows: [{**r, "in_tok": -1} for r in rows], "negative"),
    ],
)
def test_bad_outcomes_are_refused(change, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        read_outcomes(written_to(tmp_path / "o.csv", change(made(40))))


def test_what_is_dropped_is_said(tmp_path: Path) -> None:
    rows = made(60)
    for row in rows:
        row["split"] = "A" if int(row["qid"][1:]) % 2 else "B"
    again = [{**row, "qid": f"again-{row['qid']}", "split": "C"} for row in rows[:30]]
    found = read_outcomes(written_to(tmp_path / "o.csv", rows + again))
    assert len(found) == 60
    assert "10 repeated questions dropped, 10 of them stood in two splits" in found.notes
    one = [{**row, "quality": 1.0} for row in rows]
    assert any("one class" in note for note in read_outcomes(written_to(tmp_path / "p.csv", one)).notes)


def test_questions_of_another_set_are_found_choices_aside(tmp_path: Path) -> None:
    here = [{**r, "query": f"What is {r['qid']} + 2?\nA. 3\nB. 4"} for r in made(40)]
    there = [
        {**r, "query": f"What is {r['qid']} + 2 ?\n(A) 9\n(B) 4\n(C) 3"}
        for r in made(80)
        if int(r["qid"][1:]) >= 30
    ]
    one, other = (
        read_outcomes(written_to(tmp_path / f"{k}.csv", rows)) for k, rows in (("a", here), ("b", there))
    )
    assert len(without(one, other)) == 30


def test_ungraded_answers_that_agree_need_no_grade(tmp_path: Path) -> None:
    rows = made(900, seed=4)
    by_question: dict[str, list[dict]] = {}
    for row in rows:
        by_question.setdefault(row["qid"], []).append(row)
    for group in by_question.values():
        if len({row["pred"] for row in group}) == 1:
            for row in group:
                row["quality"] = ""
    at = Catalog.load().at(date(2026, 11, 23))
    full = study(read_outcomes(written_to(tmp_path / "a.csv", made(900, seed=4))), at, Wanted("strong"))
    less = study(read_outcomes(written_to(tmp_path / "b.csv", rows)), at, Wanted("strong"))
    assert less.certificates[0].questions == full.certificates[0].questions
    assert less.certificates[0].certified == full.certificates[0].certified


def test_numbers_and_cases_are_one_answer() -> None:
    assert normal("480.00") == normal("480") == normal(" 480 ")
    assert normal("(a)") != normal("b")


def test_an_unknown_price_never_makes_a_saving() -> None:
    at = Catalog.load().at(date(2026, 11, 23))
    prices = {one.model: one for one in price_models(("gpt-4o-mini", "gpt-4o", "nobody-knows"), at)}
    assert prices["nobody-knows"].output_usd_per_mtok == prices["gpt-4o"].output_usd_per_mtok
    stated = price_models(("nobody-knows",), at, {"nobody-knows": (1.0, 2.0)})[0]
    assert (stated.input_usd_per_mtok, stated.output_usd_per_mtok) == (1.0, 2.0)
    relative = price_models(("x", "y"), at, quality=np.array([0.5, 0.9]))
    assert relative[1].input_usd_per_mtok == pytest.approx(10 * relative[0].input_usd_per_mtok)


def test_a_certificate_lapses_for_its_reasons() -> None:
    rng = np.random.default_rng(0)
    task, tokens = rng.integers(0, 3, 600), rng.normal(200, 40, 600)
    was = basis({"m": "1"}, {"m": (1.0, 2.0)}, ("a", "b", "c"), task, tokens)
    again = mix_of(was, ("a", "b", "c"), rng.integers(0, 3, 500), rng.normal(200, 40, 500))
    assert lapsed(was, again) == ()
    assert "another version" in lapsed(was, msgspec.structs.replace(again, versions={"m": "2"}))[0]
    assert "costs" in lapsed(was, msgspec.structs.replace(again, prices={"m": (1.0, 2.5)}))[0]
    assert "mix of tasks" in lapsed(was, mix_of(was, ("a", "b", "c"), np.zeros(500, int), tokens[:500]))[0]
    assert "lengths" in lapsed(was, mix_of(was, ("a", "b", "c"), task, tokens * 2))[0]
    assert "not certified" in lapsed(was, mix_of(was, ("a", "z"), rng.integers(0, 2, 500), tokens[:500]))[0]


def test_the_mix_test_keeps_its_level() -> None:
    rng = np.random.default_rng(2)
    mix = (0.5, 0.3, 0.15, 0.05)
    alarms = sum(
        same_mix_p(rng.multinomial(300, mix).tolist(), rng.multinomial(200, mix).tolist()) < 0.05
        for _ in range(200)
    )
    assert alarms <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5


EXPORTED = (
    Rule(CascadeRule(("openai/a", "aws/b")), workload="faq"),
    Rule(
        Split((Share("openai/a", (0.25,)), Share("self/b", (0.75,)))), workload="chat",
        shape=Shape(4000, 300), recover=Recover(2, 0.5, ("openai/a", "x-ai/c")), cache="cache/exact",
        guard=Guard(most_input_tok=9000), sticky=Sticky(("openai/a",)),
    ),
    Rule(ByTask({"law": "openai/a", "*": "elsewhere"}), recover=Recover(1, 2.0)),
)  # fmt: skip


def test_export_says_what_litellm_cannot(golden: Golden) -> None:
    """tests/test_litellm.py has LiteLLM itself do it."""
    found = litellm(EXPORTED, 3600)
    golden.check("policy_litellm.txt", found.text)
    assert all(any(part in one for one in found.left_out) for part in (
        "faq: the cascade openai/a > aws/b", "chat: trimming", "chat: the cap where", "$SELF_B_API_BASE",
        "default: which task", "tenants apart", "faq, default have it as well", "how LiteLLM names elsewhere",
        "chat: a retry at the same", "the longest (2 s)", "of all of openai/a, self/b",
    ))  # fmt: skip
    plain = litellm((Rule(FixedRule("openai/a")),))
    assert plain.left_out == ()


def test_export_says_what_portkey_cannot(golden: Golden) -> None:
    found = portkey(EXPORTED, 3600)
    golden.check("policy_portkey.txt", found.text)
    configs = json.loads(found.text)
    assert list(configs) == ["faq", "chat", "default"]
    balanced, first, second = configs["chat"]["targets"]
    assert [one["retry"]["attempts"] for one in balanced["targets"]] == [2, 2]
    assert "retry" not in first | second
    assert configs["default"]["strategy"]["default"] == "task-1"
    assert all(any(part in one for one in found.left_out) for part in (
        "faq: the cascade", "chat: sessions that stay", "chat: a cap", "how Portkey names self/b, elsewhere",
    ))  # fmt: skip


def test_a_sample_covers_workloads_and_lengths() -> None:
    trace = example("openai/gpt-4.1")
    picked = sample(trace, 120)
    counts = {name: picked.workload.count(name) for name in set(picked.workload)}
    assert min(counts.values()) >= 3
    for name in counts:
        strata = {s for s, w in zip(picked.stratum, picked.workload, strict=True) if w == name}
        assert strata == {0, 1, 2}
    assert sum(picked.stands_for) == pytest.approx(len(trace.table()))
    text = template(trace, picked, ("gpt-4o-mini",))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * len(picked.rows)


def test_a_model_that_the_log_calls_otherwise_has_one_row() -> None:
    trace = example("gpt-4.1")
    picked = sample(trace, 120)
    rows = list(
        csv.DictReader(io.StringIO(template(trace, picked, ("openai/gpt-4.1", "openai/gpt-4.1-mini"))))
    )
    assert {row["model"] for row in rows} == {"openai/gpt-4.1", "openai/gpt-4.1-mini"}
    assert all(bool(row["out_tok"]) == (row["model"] == "openai/gpt-4.1") for row in rows)


def test_more_grades_never_take_a_certificate_away(file: Path) -> None:
    at = Catalog.load().at(date(2026, 11, 23))
    (open_,) = outlook(read_outcomes(file), at, Wanted("strong"))
    one = msgspec.structs.replace(open_, certified=True, saving=0.3)
    rows = worth(one, 1000.0)
    assert all(row.chance == 1.0 and min(row.saving, row.low) >= one.saving for row in rows)
    assert [row.usd_per_month for row in rows] == pytest.approx([(r.saving - one.saving) * 1e3 for r in rows])
    none = worth(msgspec.structs.replace(open_, ladder=(), front=()), 1000.0)
    assert [(row.chance, row.usd_per_month) for row in none] == [(0.0, 0.0)] * len(none)


def test_candidates_go_from_the_safest_to_the_boldest(file: Path) -> None:
    part = part_of(file).take(np.arange(800))
    found = candidates(part, 1500, 0.01)
    savings = [one.expected.saving_frac for one in found]
    assert savings == sorted(savings)
    assert all(isinstance(one.policy, Cascade) for one in found)


def test_commands(
    file: Path,
    tmp_path: Path,
    golden: Golden,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["policy", "fit", str(file), "--strong", "strong", "--candidates", "small-a,small-b"]
    assert main(words) == 0
    golden.check("policy_fit.txt", capsys.readouterr().out)
    assert main(["policy", "check", "policy.toml", str(file)]) == 0
    assert "The certificate holds" in capsys.readouterr().out
    for change, said in (
        (["--version", "small-a=2"], "another version: 2, was unnamed"),
        (["--price", "small-a=90/90"], "small-a costs $90/$90"),
        ([str(_others(tmp_path))], "of tasks that were not certified: other"),
    ):
        assert main(["policy", "check", "policy.toml", *change]) == 1
        shown = capsys.readouterr().out
        assert "The certificate lapsed: strong-only" in shown
        assert said in " ".join(shown.split())
    assert main(["policy", "export", "policy.toml"]) == 0
    assert "model_list" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificates"][0]["certified"]
    assert main(["policy", "fit", str(file), "--strong", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
    assert main(["measure", "--outcomes", str(file)]) == 0
    assert "grades" in capsys.readouterr().out


def _others(folder: Path) -> Path:
    """Newer questions of a task that nobody certified."""
    made = folder / "newer.csv"
    made.write_text("qid,task,in_tok\n" + "".join(f"n{i},other,100\n" for i in range(80)), encoding="utf-8")
    return made


def test_grades_are_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A template without answers may be made again; one that somebody filled in, and any other file, not."""
    log = Path(__file__).parents[1] / "examples" / "litellm_spendlogs.csv"
    monkeypatch.chdir(tmp_path)
    assert main(["measure", str(log)]) == 0
    assert main(["measure", str(log)]) == 0
    file = Path("outcomes.csv")
    heads, first, *rest = file.read_text(encoding="utf-8").splitlines()
    place = heads.split(",").index("quality")
    cells = next(csv.reader([first]))
    cells[place] = "1"
    file.write_text("\n".join([heads, ",".join(cells), *rest]), encoding="utf-8")
    for text in (file.read_text(encoding="utf-8"), "a,b\n1,2\n"):
        file.write_text(text, encoding="utf-8")
        assert main(["measure", str(log)]) == 2
        assert "holds answers or grades already" in capsys.readouterr().err
        assert file.read_text(encoding="utf-8") == text


def test_a_policy_file_is_read_strictly() -> None:
    with pytest.raises(BadLimits, match="not policies of this version"):
        loads("format = 9")
    with pytest.raises(BadLimits, match="not known"):
        loads("format = 1\nextra = 2")
    with pytest.raises(BadLimits, match="unknown field"):
        loads('format = 1\n[[policy]]\nchooses = 1\n[policy.choose]\nkind = "fixed"\ndeployment = "a"')


def test_validate_on_a_made_set(file: Path) -> None:
    report = validate_routing(file, splits=3, users=40)
    assert report.verdict == "certified"
    assert report.violations_frac <= 0.05
    assert report.dearer_frac == 0.0
    assert report.full_saving_frac > 0.3
    assert report.rows == report.passed + len(report.failed) == 40


def test_validate_refuses_where_nothing_is_gained(tmp_path: Path) -> None:
    rows = made(600, seed=9, right=(0.3, 0.3, 0.9), blind=True)
    report = validate_routing(written_to(tmp_path / "o.csv", rows), splits=3, users=40)
    assert report.verdict.startswith("refused")
    assert report.certified_saving_frac == 0.0


def test_one_class_is_refused(tmp_path: Path) -> None:
    """Where every grade is the same nothing can be told apart: no saving rests on that."""
    path = written_to(tmp_path / "o.csv", [{**row, "quality": 1.0} for row in made(120)])
    with pytest.raises(BadInput, match="one class"):
        study(read_outcomes(path), Catalog.load().at(date(2026, 11, 23)), Wanted("strong"))
    report = validate_routing(path, splits=2, users=5)
    assert report.verdict.startswith("refused")
    assert report.certified_saving_frac == 0.0


@pytest.mark.parametrize("name", ["zeroeval_gsm", "routellm_mtbench"])
def test_public_outcomes(data_dir: Path, name: str) -> None:
    """A pool with answers is certified a saving; eighty questions are not."""
    folder = data_dir / "routing"
    report = validate_routing(
        folder / f"{name}.queries.parquet", results=folder / f"{name}.results.parquet", splits=2, users=15
    )
    assert report.violations_frac <= 0.05
    assert report.dearer_frac == 0.0
    if name == "zeroeval_gsm":
        assert report.verdict == "certified"
        assert report.certified_saving_frac >= 0.35
        assert report.labels_most <= 2000
    else:
        assert report.verdict.startswith("refused")


def _nothing_to_gain(seed: int, count: int) -> Part:
    """A strong model and three cheap ones whose agreement says nothing; all lose more than may be lost."""
    rng = np.random.default_rng(seed)
    answer = np.tile(np.arange(4), (count, 1))
    answer[:, 1:] = rng.integers(1, 4, (count, 3))
    right = rng.random((count, 4)) < np.array([0.85, 0.8, 0.8, 0.8])
    # The same answer has the same quality.
    for model in (2, 3):
        for other in range(1, model):
            right[:, model] = np.where(answer[:, model] == answer[:, other], right[:, other], right[:, model])
    cost = np.tile([1.0, 0.2, 0.15, 0.1], (count, 1)) * rng.lognormal(0.0, 0.3, (count, 1))
    return Part(right.astype(np.float64), cost / cost[:, 0].mean(), answer, rng.integers(0, 3, count), 3, 0)


def test_sets_without_a_gain_are_rarely_certified() -> None:
    """Choice on A included: what loses more than it may is certified in at most 5 % of sets."""
    truth = _nothing_to_gain(0, 40_000)
    false = 0
    for seed in range(60):
        picked = candidates(_nothing_to_gain(1000 + seed, 150), 600, 0.01)
        proof = certify(picked, _nothing_to_gain(5000 + seed, 600), 0.01)
        if proof.chosen is not None:
            did = proof.chosen.policy.run(truth)
            false += float((did.quality - truth.quality[:, 0]).mean()) < -0.01
    assert false <= 60 * 0.05


def test_questions_without_a_grade_of_each_model_are_left_out(tmp_path: Path) -> None:
    """One missing grade must not name another model the strongest: what is not known is no zero."""
    rows = ["qid,query,model,quality,pred,in_tok,out_tok"]
    for i in range(240):
        for name, good in (("openai/gpt-5-mini", i % 2), ("openai/gpt-5.4", int(i % 10 != 0))):
            grade = "" if name == "openai/gpt-5.4" and i % 24 == 0 else good
            rows.append(f"{i},question {i} of {i % 7} things,{name},{grade},{name[-1]}{i},500,100")
    file = tmp_path / "outcomes.csv"
    file.write_text("\n".join(rows) + "\n")
    found = validate_routing(file, splits=2, users=5)
    assert found.strong == "openai/gpt-5.4"
    assert any("10 questions left out that not every model was graded on" in note for note in found.notes)
