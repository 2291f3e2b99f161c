"""What may not be certified: on prices that nobody knows, on labels that were not paid for, on splits that
are half stated; and what is said where nothing is."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.cli import main
from isocost.cli.routing import show_routing
from isocost.errors import BadInput
from isocost.policy import bounds
from isocost.policy.agree import Fixed, Part
from isocost.policy.fit import Candidate, certify, estimate, shuffled
from isocost.policy.grades import read_grades
from isocost.policy.measure import merged, outcomes_of
from isocost.policy.outcomes import read_outcomes
from isocost.policy.pricing import costs, price_models
from isocost.policy.study import Wanted, dumps, loads, splits, study
from isocost.validate import routing
from isocost.validate.routing import validate_routing
from test_policy_fit import made, written_to


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    return Catalog.load().at(date(2026, 11, 23))


def unpriced(rows: list[dict], names: dict[str, str]) -> list[dict]:
    """Rows without costs, models called otherwise."""
    return [{**row, "cost": "", "model": names.get(row["model"], row["model"])} for row in rows]


ACME = {"small-a": "acme-mini", "small-b": "acme-midi", "strong": "acme-maxi"}


@pytest.mark.parametrize("strong", ["", "acme-maxi"])
def test_a_strong_model_of_unknown_price_is_not_saved_against(
    tmp_path: Path, at: CatalogAt, strong: str
) -> None:
    names = {"small-a": "gpt-4o-mini", "small-b": "gpt-4.1-nano", "strong": "acme-maxi"}
    file = written_to(tmp_path / "o.csv", unpriced(made(1500, seed=3, right=(0.75, 0.75, 0.9)), names))
    with pytest.raises(BadInput, match="price of 'acme-maxi' is not known") as wrong:
        study(read_outcomes(file), at, Wanted(strong))
    assert "--price acme-maxi=" in str(wrong.value.fix)
    priced = study(read_outcomes(file), at, Wanted(strong, prices={"acme-maxi": (5.0, 25.0)}))
    assert priced.certificates[0].strong == "acme-maxi"
    report = validate_routing(file, splits=2, users=5)
    assert report.verdict.startswith("refused")
    assert any("acme-maxi is not known" in note for note in report.notes)


def test_a_cheap_model_of_unknown_price_saves_nothing_by_being_short(tmp_path: Path, at: CatalogAt) -> None:
    names = {"small-a": "gpt-4o-mini", "small-b": "acme-mini", "strong": "gpt-4o"}
    rows = [{**row, "out_tok": 1 if row["model"] == "acme-mini" else 500}
            for row in unpriced(made(60), names)]  # fmt: skip
    found = read_outcomes(written_to(tmp_path / "o.csv", rows))
    usd, _ = costs(found, price_models(found.models, at), at)
    of = found.models.index
    assert (usd[:, of("acme-mini")] >= usd[:, of("gpt-4o")]).all()


def test_relative_prices_are_no_dollars_and_rest_on_a_alone(tmp_path: Path, at: CatalogAt) -> None:
    rows = [{**row, "split": "ABBC"[int(row["qid"][1:]) % 4]} for row in unpriced(made(1200), ACME)]
    # Other grades of B and C: no price may move by them.
    other = [{**row, "quality": row["quality"] if row["split"] == "A" else 1.0 - row["quality"]}
             for row in rows]  # fmt: skip
    found, moved = (
        study(read_outcomes(written_to(tmp_path / f"{k}.csv", each)), at, Wanted("acme-maxi"))
        for k, each in enumerate((rows, other))
    )
    one = found.certificates[0]
    assert one.basis.prices == moved.certificates[0].basis.prices
    assert one.usd_per_1000 is None
    assert loads(dumps(found))[1][0].usd_per_1000 is None


def test_supposed_prices_are_said_and_never_shown_as_dollars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "o.csv", unpriced(made(2500), ACME))
    assert main(["policy", "fit", "o.csv"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "$" not in shown
    assert "at supposed prices" in shown
    assert "the saving holds only if they are so" in shown
    assert main(["measure", "--outcomes", "o.csv"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no price is known" in shown
    assert not re.search(r"\$\d", shown)


def test_dollars_and_relative_prices_are_not_mixed(tmp_path: Path, at: CatalogAt) -> None:
    rows = [{**row, "cost": row["cost"] if row["model"] == "strong" else ""} for row in made(600)]
    with pytest.raises(BadInput, match="price of 'small-a' is not known, and the file has costs"):
        study(read_outcomes(written_to(tmp_path / "o.csv", rows)), at, Wanted("strong"))


def test_grades_that_nobody_needs_leave_no_hole_in_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made(3000, seed=3)
    said: dict[str, set[str]] = {}
    for row in rows:
        said.setdefault(row["qid"], set()).add(row["pred"])
    rows = [{**row, "quality": "" if len(said[row["qid"]]) == 1 else row["quality"]} for row in rows]
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "o.csv", rows)
    assert main(["policy", "fit", "o.csv", "--strong", "strong"]) == 0
    assert "nan" not in capsys.readouterr().out
    (one,) = loads((tmp_path / "policy.toml").read_text(encoding="utf-8"))[1]
    assert one.certified
    whole = study(
        read_outcomes(written_to(tmp_path / "w.csv", made(3000, seed=3))),
        Catalog.load().at(date(2026, 11, 23)), Wanted("strong"),
    ).certificates[0]  # fmt: skip
    assert math.isfinite(one.held_out_difference)
    if one.policy == whole.policy and one.saving == pytest.approx(whole.saving):
        assert one.difference == pytest.approx(whole.difference)


def two(n: int, gap: float, cost: np.ndarray, seed: int = 0) -> Part:
    """A strong model (the second) and a cheap one that is right as often less ``gap``."""
    rng = np.random.default_rng(seed)
    strong = (rng.random(n) < 0.9).astype(float)
    other = np.where(rng.random(n) < gap, 0.0, strong)
    return Part(np.stack([other, strong], axis=1), cost, np.full((n, 2), -1), np.zeros(n, int), 1, 1)


def test_where_the_saving_is_in_doubt_no_grades_are_asked_for() -> None:
    cost = np.stack([np.random.default_rng(1).lognormal(-1.2, 1.6, 700), np.ones(700)], axis=1)
    part = two(700, 0.0, cost)
    proof = certify([Candidate("one model", Fixed(0), estimate(Fixed(0), part))], part, 0.01)
    assert proof.chosen is None
    assert proof.p_value <= 0.05
    assert proof.refused == "saving"
    assert proof.more_labels is None


def test_a_certificate_has_the_p_value_of_its_own_policy() -> None:
    """The second passes as to quality, but may save nothing: the first is certified, with its own."""
    n = 3000
    cost = np.stack([np.full(n, 0.5), np.full(n, 1.1), np.ones(n)], axis=1)
    pair = two(n, 0.002, cost[:, 1:])
    part = Part(
        np.stack([pair.quality[:, 0], pair.quality[:, 1], pair.quality[:, 1]], axis=1), cost,
        np.full((n, 3), -1), np.zeros(n, int), 1, 2,
    )  # fmt: skip
    ladder = [Candidate("one model", Fixed(j), estimate(Fixed(j), part)) for j in (0, 1)]
    alone = certify(ladder[:1], part, 0.01)
    both = certify(ladder, part, 0.01)
    assert both.chosen is ladder[0]
    assert len(both.tested) == 2
    assert both.tested[1][1] < alone.p_value
    assert both.p_value == alone.p_value


def test_more_rows_move_none_of_those_that_were_there(tmp_path: Path) -> None:
    rows = [{**row, "query": ""} for row in made(9000)]
    found = read_outcomes(written_to(tmp_path / "o.csv", rows))
    few, all_ = (splits(found, np.arange(n)) for n in (4000, 9000))
    assert all(set(one) <= set(more) for one, more in zip(few, all_, strict=True))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda i: "" if i == 7 else "B", "1 question of 90 without a split, 'q7' first"),
        (lambda i: "calibration" if i % 2 else "B", "no split is called 'CALIBRATION'"),
        (lambda i: "ABT"[i % 3], "no split is called 'T'"),
    ],
)
def test_a_split_is_stated_for_all_or_for_none(tmp_path: Path, at: CatalogAt, change, why: str) -> None:
    rows = [{**row, "split": change(int(row["qid"][1:])), "query": ""} for row in made(90)]
    with pytest.raises(BadInput, match=why):
        study(read_outcomes(written_to(tmp_path / "o.csv", rows)), at, Wanted("strong"))


def test_resampled_users_have_no_more_labels_than_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where labels run out nobody is certified anything, and an interval that nobody had covers no share."""
    file = written_to(tmp_path / "o.csv", made(1500))
    assert validate_routing(file, splits=2, users=20).saving_coverage_frac is not None
    monkeypatch.setattr(routing, "LABELS", 1)
    report = validate_routing(file, splits=2, users=20)
    assert report.verdict.startswith("refused")
    assert report.saving_coverage_frac is None
    assert report.held_out_coverage_frac is None
    show_routing(msgspec.to_builtins(report) | {"file": file.name})
    shown = " ".join(capsys.readouterr().out.split())
    assert "who share 20 choices of candidates" in shown
    assert "(ends averaged); no resampled user has a certificate, so how often it holds" in shown
    assert "for -" not in shown


def test_which_test_is_asked_is_settled_by_all_grades_of_the_file(tmp_path: Path, at: CatalogAt) -> None:
    part = two(600, 0.002, np.tile([0.1, 1.0], (600, 1)))
    ladder = [Candidate("one model", Fixed(0), estimate(Fixed(0), part))]
    gap = part.quality[:, 0] - part.quality[:, 1]
    exact = certify(ladder, part, 0.01).p_value
    bet = certify(ladder, replace(part, whole=False), 0.01).p_value
    assert bet == bounds.betting_p(shuffled(gap), 0.01) != exact
    assert routing._Proof(600, False)(gap) == (bet <= 0.05)
    # One half grade, of split A: the test of B is that of grades between 0 and 1.
    rows = [{**row, "split": "ABB"[int(row["qid"][1:]) % 3]} for row in made(1500, seed=6)]
    plain = study(read_outcomes(written_to(tmp_path / "o.csv", rows)), at, Wanted("strong"))
    half = next(row for row in rows if row["split"] == "A" and row["quality"] == 0.0)
    half["quality"], half["pred"] = 0.5, "Z"
    mixed = study(read_outcomes(written_to(tmp_path / "m.csv", rows)), at, Wanted("strong"))
    assert plain.certificates[0].p_value != mixed.certificates[0].p_value


def test_the_range_of_a_volume_is_shown_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "o.csv", made(400, seed=7))
    worths = {}
    for volume in ("10k/mo", "10k..1M/mo", "1M/mo"):
        assert main(["measure", "--outcomes", "o.csv", "--volume", volume, "--json"]) == 0
        worths[volume] = json.loads(capsys.readouterr().out)["worth"]
    low, both, high = worths.values()
    assert [row["usd_per_month_low"] for row in both] == pytest.approx([row["usd_per_month"] for row in low])
    assert [row["usd_per_month"] for row in both] == pytest.approx([row["usd_per_month"] for row in high])
    assert max(row["usd_per_month"] for row in both) > 0
    assert main(["measure", "--outcomes", "o.csv", "--volume", "10k..1M/mo"]) == 0
    shown = capsys.readouterr().out
    assert "at 10,000 to 1,000,000 requests a month" in shown
    assert re.search(r"are worth \$[\d.,]+ to \$[\d.,]+k a month", shown)


def test_grades_asked_for_are_those_that_b_lacked() -> None:
    """B failed although A held it enough: what B saw counts, and not one grade more."""
    part = two(500, 0.008, np.tile([0.1, 1.0], (500, 1)))
    rosy = replace(estimate(Fixed(0), part), difference=0.002, discordant_frac=0.002, questions=50)
    proof = certify([Candidate("one model", Fixed(0), rosy)], part, 0.01)
    assert proof.refused == "quality"
    assert proof.more_labels is None or proof.more_labels > 100


def test_a_refusal_says_that_the_next_fit_is_tested_more_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "o.csv", made(400, seed=7))
    assert main(["policy", "fit", "o.csv", "--strong", "strong"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "would settle it" in shown
    assert "each further fit on these questions is another chance to be fooled" in shown
    assert "isocost measure --outcomes o.csv" in shown


def test_workloads_and_splits_come_back_with_the_grades(tmp_path: Path) -> None:
    rows = [{**row, "workload": "faq" if int(row["qid"][1:]) % 2 else "chat",
             "split": "ABC"[int(row["qid"][1:]) % 3]} for row in made(60)]  # fmt: skip
    grades = read_grades([("", written_to(tmp_path / "graded.csv", rows))]).grades
    (tmp_path / "o.csv").write_text(outcomes_of(grades), encoding="utf-8")
    found = read_outcomes(tmp_path / "o.csv")
    assert found.workloads == ("chat", "faq")
    assert {found.split[found.qid.index(f"q{i}")] for i in (0, 3)} == {"A"}
    bare = [{name: row[name] for name in ("qid", "model", "quality")} | {"quality": ""} for row in rows]
    empty = written_to(tmp_path / "t.csv", bare).read_text(encoding="utf-8")
    filled = merged(empty, grades).text
    assert filled.splitlines()[0].split(",").count("workload") == 1
    (tmp_path / "f.csv").write_text(filled, encoding="utf-8")
    assert read_outcomes(tmp_path / "f.csv").workloads == ("chat", "faq")
    # A split of another tool is none of these.
    train = [{**row, "split": "train"} for row in rows]
    again = read_grades([("", written_to(tmp_path / "train.csv", train))]).grades
    assert {one.split for one in again} == {""}


@pytest.mark.parametrize(
    ("certified", "low", "shown"),
    [
        ((1, 1, 1), (0.01, 0.02, 0.01), True),
        ((1, 1, 1), (0.01, -0.05, 0.01), False),
        ((1, 0, 0), (0.3, 0, 0), False),
    ],
)
def test_a_saving_whose_interval_holds_zero_where_it_is_reported_is_refused(
    certified: tuple[int, ...], low: tuple[float, ...], shown: bool
) -> None:
    assert (
        routing._is_shown([{"certified": c, "low": b} for c, b in zip(certified, low, strict=True)]) is shown
    )


def test_the_level_is_that_of_one_look() -> None:
    """What docs/routing.md says of looking again as grades come in: a loss of just one point, eight looks."""
    sizes = range(500, 4001, 500)
    proofs = [bounds.Proofs(n, 0.01) for n in sizes]
    rng = np.random.default_rng(0)
    passed = np.zeros((600, len(sizes)), dtype=bool)
    for user in range(len(passed)):
        seen = rng.multinomial(500, (0.02, 0.03, 0.95), size=len(sizes)).cumsum(axis=0)
        passed[user] = [ask(int(w), int(v)) for ask, (w, v, _) in zip(proofs, seen, strict=True)]
    sd = (0.05 * 0.95 / len(passed)) ** 0.5
    assert passed.mean(axis=0).max() < 0.05 + 3 * sd
    assert 0.1 < passed.any(axis=1).mean() < 0.2


def test_a_policy_is_no_plan_and_becomes_part_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """fit, then replay: what is missing is said; put into a plan, it is played."""
    monkeypatch.chdir(tmp_path)
    examples = Path(__file__).parents[1] / "examples"
    log = examples / "litellm_spendlogs.csv"
    names = {"small-a": "openai/gpt-5-mini", "small-b": "openai/gpt-4.1-mini", "strong": "openai/gpt-5.4"}
    written_to(tmp_path / "o.csv", unpriced(made(1500), names))
    assert main(["policy", "fit", "o.csv", "--strong", "openai/gpt-5.4"]) == 0
    capsys.readouterr()
    assert main(["replay", str(log), "--plan", "policy.toml"]) == 2
    assert "Put each [[policy]] into a plan.toml" in capsys.readouterr().err
    made_ = (tmp_path / "policy.toml").read_text(encoding="utf-8")
    rule = made_[made_.index("[[policy]]") : made_.index("[[certificate]]")]
    plan = (examples / "policy.toml").read_text(encoding="utf-8")
    (tmp_path / "plan.toml").write_text(plan[: plan.index("[[policy]]")] + rule, encoding="utf-8")
    assert main(["replay", str(log), "--outcomes", "o.csv"]) == 0
    shown = capsys.readouterr().out
    assert "without its policies" in shown or "with policies" in shown


def test_what_costs_and_savings_rest_on_is_said(tmp_path: Path) -> None:
    rows = made(300, seed=5, right=(0.8, 0.8, 0.9))
    paid = validate_routing(written_to(tmp_path / "paid.csv", rows), splits=2, users=5)
    assert set(paid.prices.values()) == {"as the file's rows say"}
    assert "costs are the file's" in paid.notes
    names = {"small-a": "acme-8b", "small-b": "gpt-4.1-nano", "strong": "gpt-4o"}
    guessed = validate_routing(written_to(tmp_path / "o.csv", unpriced(rows, names)), splits=2, users=5)
    assert any(note.startswith("1 of 3 prices are guessed from the size") for note in guessed.notes)
    assert not any("costs are the file's" in note for note in guessed.notes)


def test_savings_are_also_told_against_the_best_of_all_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alike = made(120, seed=2, right=(0.9, 0.6, 0.9))
    report = validate_routing(written_to(tmp_path / "o.csv", alike), splits=5, users=5)
    assert 0 < report.other_strong_frac < 1
    assert report.against_strong_certified_saving_frac != report.certified_saving_frac
    show_routing(msgspec.to_builtins(report) | {"file": "o.csv"})
    told = " ".join(capsys.readouterr().out.split())
    assert f"{report.other_strong_frac:.0%} of splits" in told
    assert f"{report.against_strong_certified_quality_ratio:.1%} of its quality" in told
    assert f"against {report.strong} alone" in told
    assert f"only {report.strong}" not in told

    rows = made(600, right=(0.6, 0.6, 0.95))
    apart = validate_routing(written_to(tmp_path / "p.csv", rows), splits=5, users=5)
    assert apart.other_strong_frac == apart.full_other_strong_frac == 0
    assert apart.against_strong_certified_saving_frac == pytest.approx(apart.certified_saving_frac)
    assert apart.against_strong_full_saving_frac == pytest.approx(apart.full_saving_frac)
    assert apart.against_strong_full_quality_ratio == pytest.approx(apart.full_quality_ratio)
    show_routing(msgspec.to_builtins(apart) | {"file": "p.csv"})
    told = " ".join(capsys.readouterr().out.split())
    assert "alone" not in told
    assert f"only {apart.strong}" in told


def test_where_nothing_is_certified_the_best_of_a_is_paid() -> None:
    """Worked by hand: three models of cost 1, 4 and 2; the second is A's best, the third all questions'."""
    quality = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    cost = np.tile([1.0, 4.0, 2.0], (4, 1))
    answer, task = np.tile(np.arange(3), (4, 1)), np.zeros(4, dtype=np.int64)
    part = Part(quality, cost, answer, task, 1, 1)
    known, not_known = np.zeros(3, dtype=np.bool_), np.array([False, False, True])
    assert routing._against(known, None, part, 2) == (1.0, -1.0)
    cheap = Fixed(0).run(part)
    assert routing._against(known, cheap, part, 2) == pytest.approx((2 / 3, 0.5))
    assert routing._against(known, cheap, part, 1) == pytest.approx((2 / 3, 0.75))
    # What a model of no known price costs is no reason to claim a saving.
    assert routing._against(not_known, cheap, part, 2) == pytest.approx((2 / 3, 0.0))


def test_a_cheaper_model_that_is_as_good_as_the_best_is_named(tmp_path: Path, at: CatalogAt) -> None:
    found = read_outcomes(written_to(tmp_path / "o.csv", made(800, seed=2, right=(0.6, 0.6, 0.9))))
    small, strong = found.models.index("small-a"), found.models.index("strong")
    quality = found.quality.copy()
    quality[:, small] = quality[:, strong]
    first = splits(found, np.arange(len(found)))[0]
    quality[first[np.flatnonzero(quality[first, strong] == 1.0)[0]], small] = 0.0
    alike = replace(found, quality=quality, answer=np.full_like(found.answer, -1))
    told = [note for note in study(alike, at, Wanted()).notes if "--strong" in note]
    assert [note.split(" was the best")[0] for note in told] == ["strong"]
    assert "--strong small-a holds" in told[0]
    assert not any("--strong" in note for note in study(alike, at, Wanted("strong")).notes)
    assert not any("--strong" in note for note in study(found, at, Wanted()).notes)
