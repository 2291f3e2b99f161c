"""What a certificate says of dollars: the interval of the saving, models that are free, what more labels buy,
and odd sets on which nothing may be promised."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.policy.agree import Fixed, Part, Reading
from isocost.policy.bounds import Proofs, is_proven, saving_interval, saving_moments
from isocost.policy.fit import Candidate, candidates, climb, estimate
from isocost.policy.outcomes import Outcomes, read_outcomes
from isocost.policy.outlook import outlook, worth
from isocost.policy.pricing import costs, price_models
from isocost.policy.study import Wanted, dumps, loads, study
from isocost.validate.routing import validate_routing
from test_policy_fit import MODELS, made, written_to

TODAY = date(2026, 11, 23)
SHARE = 0.95
DRAWS = 400
FOUR_SIGMA = 4 * (SHARE * (1 - SHARE) / DRAWS) ** 0.5


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return read_outcomes(written_to(tmp_path_factory.mktemp("saving") / "outcomes.csv", made(6000, seed=3)))


def part_of(found: Outcomes) -> Part:
    cost = found.cost / found.cost[:, -1].mean()
    return Part(found.quality, cost, found.answer, found.task, len(found.tasks), len(found.models) - 1)


@pytest.mark.parametrize("size", [200, 1500])
def test_the_interval_of_a_saving_covers_as_often_as_it_says(outcomes: Outcomes, size: int) -> None:
    """Of users who draw questions with replacement; costs differ by a factor of ten from question to
    question."""
    part = part_of(outcomes)
    rng = np.random.default_rng(4)
    part = replace(part, cost=part.cost * rng.lognormal(0.0, 0.8, (len(part), 1)))
    did = Reading(part, (0, 1, 2)).fit(0.05).run(part)
    base = part.cost[:, 2]
    moments, true = saving_moments(base - did.cost, base), float((base - did.cost).sum() / base.sum())
    drawn = rng.integers(0, len(part), (DRAWS, size))
    sums = np.stack([moments[:, rows].sum(axis=1) for rows in drawn], axis=1)
    low, high = saving_interval(sums, size)
    covered = ((low <= true) & (true <= high)).mean()
    assert SHARE - 0.02 - FOUR_SIGMA <= covered <= SHARE + 0.02 + FOUR_SIGMA
    assert abs((low > true).mean() - (high < true).mean()) < 0.06


def test_the_interval_of_the_certified_saving_covers_with_the_choice_in_it(outcomes: Outcomes) -> None:
    """The candidate is picked on the very questions that the interval is told of."""
    part, size = part_of(outcomes), 1200
    ladder = candidates(part.take(np.arange(1000)), size, 0.01)
    later = part.take(np.arange(1000, len(part)))
    base, strong = later.cost[:, later.strong], later.quality[:, later.strong]
    ran = [one.policy.run(later) for one in ladder]
    moments = np.array([saving_moments(base - did.cost, base) for did in ran])
    gaps = np.array([did.quality - strong for did in ran])
    true = moments[:, 0].sum(axis=1) / base.sum()
    rng = np.random.default_rng(5)
    often = np.stack(
        [np.bincount(rng.integers(0, len(later), size), minlength=len(later)) for _ in range(DRAWS)], axis=1
    )
    low, high = saving_interval((moments @ often).swapaxes(0, 1), size)
    wins, losses, proves = (gaps > 0) @ often, (gaps < 0) @ often, Proofs(size, 0.01)
    covered = []
    for user in range(DRAWS):
        won = -1
        while won + 1 < len(ladder) and proves(int(wins[won + 1, user]), int(losses[won + 1, user])):
            won += 1
        if won >= 0:
            covered.append(low[won, user] <= true[won] <= high[won, user])
    assert len(covered) > DRAWS / 2
    assert abs(np.mean(covered) - SHARE) < FOUR_SIGMA


def test_intervals_are_limits_where_nothing_varies_or_nothing_is_paid() -> None:
    same = saving_moments(np.full(50, 0.5), np.ones(50)).sum(axis=1)
    assert [float(end) for end in saving_interval(same, 50)] == [0.5, 0.5]
    low, high = saving_interval(np.zeros(9), 50)
    assert low == -np.inf
    assert high == 1.0


def test_proofs_asked_one_after_another_are_those_asked_alone() -> None:
    rng = np.random.default_rng(0)
    ask = Proofs(800, 0.01)
    pairs = rng.integers(0, 25, (60, 2)).tolist()
    assert [ask(w, v) for w, v in pairs] == [is_proven(800, w, v, 0.01) for w, v in pairs]
    assert ask.worked_out < len(pairs)


def cheap(rows: list[dict], usd: dict[str, object]) -> list[dict]:
    return [{**row, "cost": usd.get(row["model"], row["cost"])} for row in rows]


def test_a_free_model_is_known_to_be_free(tmp_path: Path) -> None:
    rows = cheap(made(3000, seed=2), {"small-a": 0, "small-b": 0.0})
    found = read_outcomes(written_to(tmp_path / "o.csv", rows))
    at = Catalog.load().at(TODAY)
    usd, notes = costs(found, price_models(found.models, at), at)
    assert (usd.sum(axis=0) > 0).tolist() == [False, False, True]
    assert any("free here" in note and "small-a, small-b" in note for note in notes)
    one = study(found, at, Wanted("strong")).certificates[0]
    assert one.certified
    # All that is paid is the strong model's share: the patterns that are not accepted.
    assert 0.3 < one.saving < 1.0
    assert validate_routing(tmp_path / "o.csv", splits=2, users=20).verdict == "certified"


@pytest.mark.parametrize("free", [MODELS, ("strong",)])
def test_of_a_free_strong_model_nothing_is_saved(tmp_path: Path, free: tuple[str, ...]) -> None:
    file = written_to(tmp_path / "o.csv", cheap(made(600), dict.fromkeys(free, 0)))
    found = study(read_outcomes(file), Catalog.load().at(TODAY), Wanted("strong"))
    assert not found.certificates[0].certified
    assert found.certificates[0].usd_per_1000 == 0.0
    report = validate_routing(file, splits=2, users=10)
    assert report.verdict.startswith("refused")
    assert report.full_saving_frac == 0.0


def test_a_blank_cost_stays_unknown(tmp_path: Path) -> None:
    """A known model is priced, an unknown one as the dearest; neither is free."""
    rows = [{**row, "model": "gpt-4o" if row["model"] == "strong" else row["model"], "cost": ""}
            for row in made(60)]  # fmt: skip
    found = read_outcomes(written_to(tmp_path / "o.csv", rows))
    at = Catalog.load().at(TODAY)
    usd, notes = costs(found, price_models(found.models, at), at)
    assert (usd > 0).all()
    assert not any("free here" in note for note in notes)
    stated = price_models(found.models, at, dict.fromkeys(found.models, (0.0, 0.0)))
    assert not costs(found, stated, at)[0].any()
    none = price_models(("a", "b"), at, {"a": (0.0, 0.0)}, np.array([0.5, 0.6]))
    assert none[1].input_usd_per_mtok > 0  # what is not known is not as free as what is
    with pytest.raises(BadInput, match="negative"):
        read_outcomes(written_to(tmp_path / "n.csv", cheap(made(60), {"strong": -1})))


def test_zero_tokens_are_a_count(tmp_path: Path) -> None:
    rows = [{**row, "in_tok": 0, "out_tok": 0, "cost": ""} for row in made(60)]
    found = read_outcomes(written_to(tmp_path / "o.csv", rows))
    at = Catalog.load().at(TODAY)
    usd, notes = costs(found, price_models(found.models, at), at)
    assert not usd.any()
    assert any("free here" in note for note in notes)


@pytest.mark.parametrize(
    "change",
    [
        {"cost": 1.0},  # nothing is cheaper
        {"quality": None},  # drawn by lot: agreement says nothing of quality
    ],
)
def test_odd_sets_are_promised_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    rng = np.random.default_rng(8)
    rows = made(700, seed=1)
    if "quality" in change:
        for row in rows:
            row["quality"] = int(rng.random() < (0.9 if row["model"] == "strong" else 0.6))
            row["pred"] = f"{row['pred']}{rng.integers(1000)}"
    else:
        rows = [{**row, **change} for row in rows]
    report = validate_routing(written_to(tmp_path / "o.csv", rows), splits=3, users=30)
    assert report.verdict.startswith("refused")
    assert report.violations_frac <= 0.05
    assert report.dearer_frac == 0.0


def test_a_task_for_each_question_is_no_task(outcomes: Outcomes) -> None:
    """Tasks of few questions are not told apart, and cost no memory."""
    part = part_of(outcomes).take(np.arange(900))
    every = replace(part, task=np.arange(900), tasks=900)
    none = replace(part, task=np.zeros(900, np.int64), tasks=1)
    other = replace(part, task=np.full(900, 900), tasks=900)
    told = Reading(every, (0, 1, 2)).fit(0.05)
    assert told.run(every).model.tolist() == told.run(other).model.tolist()
    alone = Reading(none, (0, 1, 2)).fit(0.05).run(none)
    assert told.run(every).cost.mean() == pytest.approx(alone.cost.mean(), rel=0.1)


def test_labels_are_never_more_than_were_given(outcomes: Outcomes) -> None:
    """The ladder is climbed no further than grades last."""
    part = part_of(outcomes)
    later = part.take(np.arange(800, 2800))
    policies = Reading(part.take(np.arange(800)), (0, 1, 2)).fit(0.05), Fixed(0)
    ladder = [Candidate("", one, estimate(one, part)) for one in policies]
    alone = [int(one.run(later).differs.sum()) for one in policies]
    assert alone[0] < alone[1]
    for most in (0, alone[0] - 1, alone[0], max(alone), 2000):
        up = climb(ladder, later, lambda *_: True, 0.05, most)
        assert up.labels <= most
        assert (up.won is not None) == (most >= alone[0])
    assert up.won is ladder[-1]


def test_what_more_labels_buy_is_about_what_they_bring(outcomes: Outcomes) -> None:
    """Foretold from 400 questions, against the certificate on as many more as the labels come to."""
    at = Catalog.load().at(TODAY)
    foretold, brought, inside = [], [], 0
    for draw in range(6):
        order = np.random.default_rng(draw).permutation(len(outcomes))
        (one,) = outlook(outcomes.take(order[:400]), at, Wanted("strong"))
        row = next(row for row in worth(one, 1.0) if row.labels == 300)
        more = round(400 * (1 + row.labels / one.labels))
        later = study(outcomes.take(order[:more]), at, Wanted("strong"), ()).certificates[0]
        foretold.append(row.saving)
        brought.append(later.saving if later.certified else 0.0)
        inside += row.low - 0.05 <= brought[-1] <= row.high + 0.05
    assert 0.5 * np.mean(brought) <= np.mean(foretold) <= np.mean(brought) + 0.1
    assert inside >= 4


def test_the_file_keeps_the_interval(outcomes: Outcomes) -> None:
    found = study(outcomes.take(np.arange(2500)), Catalog.load().at(TODAY), Wanted("strong"))
    one = found.certificates[0]
    assert one.saving_high is not None
    assert one.saving_low < one.saving < one.saving_high
    (kept,) = loads(dumps(found))[1]
    assert kept.saving_high == pytest.approx(one.saving_high)
