"""Fits again and again: all together certify falsely at most as often as one was allowed to, what was tested
is remembered beside the outcomes, and nothing is foretold from what waits to be tested."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from golden import Golden
from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.cli import main
from isocost.cli.looks import ENDING, looks_of, read_looks
from isocost.errors import BadLimits
from isocost.policy import bounds, fit, looks, prepared
from isocost.policy.outcomes import Outcomes, read_outcomes
from isocost.policy.outlook import outlook, worth
from isocost.policy.study import Wanted, loads, splits, study
from test_policy_fit import made, written_to
from test_policy_workloads import of_workload

ALPHA = 0.05
BORDER = (0.02, 0.03, 0.95)
"""Chances of a win, a loss and neither: a loss of just the point that is allowed."""


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    return Catalog.load().at(date(2026, 11, 23))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return read_outcomes(written_to(tmp_path_factory.mktemp("looks") / "o.csv", made(1200, seed=7)))


def levels(count: int) -> list[float]:
    """Levels of so many looks that all fail, each as likely as not to certify."""
    taken: list[looks.Look] = []
    for k in range(count):
        now = looks.level(ALPHA, taken)
        taken.append(looks.look(asked_of(f"q{k}"), "2026-11-23", f"f{k}", taken, now))
    return [one.level for one in taken]


def asked_of(*qids: str, version: str = "") -> looks.Tested:
    return looks.Tested("routing", "*", "strong", {"cheap": version}, qids)


@given(st.lists(st.floats(0.0, 1.0), max_size=40))
def test_levels_are_within_the_whole(chances: list[float]) -> None:
    taken: list[looks.Look] = []
    for k, chance in enumerate(chances):
        now = looks.level(ALPHA, taken, chance)
        assert 0.0 <= now < ALPHA
        assert now > 0.0 or k > 10
        taken.append(looks.look(asked_of(str(k)), "2026-11-23", str(k), taken, now))
    assert sum(one.level for one in taken) <= ALPHA
    assert looks.left(ALPHA, taken) > 0.0


def test_the_first_look_is_nearly_the_whole() -> None:
    assert levels(4) == pytest.approx([0.04, 0.005, 0.0025, 0.00125])


SIZES = tuple(range(500, 4001, 500))


def passes(users: int, at_levels: Sequence[float], *, anew: bool, rng: np.random.Generator) -> np.ndarray:
    """Which looks certify a policy that loses just the point, (users, looks): the same one on what is there
    by then, or ``anew`` another at each look, which wins and loses on other questions."""
    ask = [bounds.Proofs(n, 0.01, level) for n, level in zip(SIZES, at_levels, strict=True)]
    out = np.zeros((users, len(SIZES)), dtype=bool)
    for user in range(users):
        if anew:
            seen = [rng.multinomial(n, BORDER) for n in SIZES]
        else:
            seen = list(rng.multinomial(SIZES[0], BORDER, size=len(SIZES)).cumsum(axis=0))
        out[user] = [proves(int(w), int(v)) for proves, (w, v, _) in zip(ask, seen, strict=True)]
    return out


@pytest.mark.parametrize("anew", [False, True])
def test_eight_looks_certify_falsely_at_most_once_in_twenty(anew: bool) -> None:
    """Where each look is tested at the whole, some look of eight passes for 13 to 15 % (the same policy), for
    more where each fit chooses another; with shared levels for at most 5 %."""
    rng = np.random.default_rng(0)
    shared = passes(700, levels(len(SIZES)), anew=anew, rng=rng)
    each = passes(250, [ALPHA] * len(SIZES), anew=anew, rng=rng)
    sd = (ALPHA * (1 - ALPHA) / len(shared)) ** 0.5
    assert shared.any(axis=1).mean() <= ALPHA + 3 * sd
    assert 0.02 < shared[:, 0].mean() <= 0.04 + 3 * sd
    assert each.any(axis=1).mean() > 0.1


def test_sizes_that_follow_from_what_was_seen_keep_the_level() -> None:
    """A user who grades a little more where it looks well, and many where it does not, up to eight times."""
    rng = np.random.default_rng(1)
    asks: dict[tuple[int, float], bounds.Proofs] = {}
    users, fooled = 700, 0
    for _ in range(users):
        n, total = 500, rng.multinomial(500, BORDER)
        for level in levels(8):
            wins, losses = int(total[0]), int(total[1])
            if asks.setdefault((n, level), bounds.Proofs(n, 0.01, level))(wins, losses):
                fooled += 1
                break
            z = (wins - losses + 0.01 * n) / (wins + losses + 0.01 * n) ** 0.5
            more = 100 if z > 1.5 else 500 if z > 0 else n
            if n + more > 4000:
                break
            n, total = n + more, total + rng.multinomial(more, BORDER)
    assert fooled / users <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / users) ** 0.5


def test_fits_share_what_may_go_wrong(outcomes: Outcomes, at: CatalogAt) -> None:
    seen: tuple[looks.Look, ...] = ()
    for k, n in enumerate((150, 250, 400, 400)):
        found = study(outcomes.take(np.arange(n)), at, Wanted("strong"), seen)
        one = found.certificates[0]
        assert one.level is not None
        assert one.left is not None
        if k == 3:  # the same fit again is no other look
            assert found.looks == ()
            assert (one.look, one.level) == (3, seen[-1].level)
            continue
        assert one.look == k + 1
        (taken,) = found.looks
        assert taken.tested == len(splits(outcomes.take(np.arange(n)), np.arange(n))[1])
        seen = (*seen, taken)
        assert one.left == pytest.approx(ALPHA - sum(each.level for each in seen))
        assert one.p_value <= one.level or not one.certified
    # Another question about the same ones is another look: other candidates, a laxer loss.
    other = study(outcomes.take(np.arange(400)), at, Wanted("strong", ("small-a",)), seen)
    assert other.certificates[0].look == 4


def worst(at_levels: Sequence[float], growth: float, grid: int = 161) -> float:
    """How often some look certifies falsely, one policy, normal differences, where the number of questions of
    each look is set by all that was seen so far in the worst way, within a total growth (dynamic
    programming over what was seen and how many there are)."""
    z = np.linspace(-5.0, 6.0, grid)
    step = z[1] - z[0]
    edges = np.concatenate([[-np.inf], (z[1:] + z[:-1]) / 2, [np.inf]])
    sizes = np.exp(np.linspace(0.0, np.log(growth), 25))
    later: dict[int, np.ndarray] = {}
    for d in range(1, len(sizes)):
        share = sizes[0] / sizes[d]
        later[d] = np.diff(norm.cdf((edges - z[:, None] * share**0.5) / (1 - share) ** 0.5), axis=1)
    best = np.zeros((len(sizes), grid))
    for level in at_levels[:0:-1]:
        hit = 1 - np.clip((norm.isf(level) - z) / step + 0.5, 0, 1)
        best = np.stack([
            np.max([later[j - i] @ (hit + (1 - hit) * best[j]) for j in range(i + 1, len(sizes))], axis=0)
            if i + 1 < len(sizes)
            else np.zeros(grid)
            for i in range(len(sizes))
        ])  # fmt: skip
    hit = 1 - np.clip((norm.isf(at_levels[0]) - z) / step + 0.5, 0, 1)
    return float(np.diff(norm.cdf(edges)) @ (hit + (1 - hit) * best[0]))


@pytest.mark.parametrize("first", [0.0, 0.25, 0.35, 1.0])
def test_the_worst_rule_of_setting_sizes_keeps_the_level(first: float) -> None:
    """Whatever the first look took, eight looks within a hundredfold; without a bound on later ones, what a
    first look of little chance leaves would make it 6.6 %."""
    taken: list[looks.Look] = []
    for k in range(8):
        now = looks.level(ALPHA, taken, 1.0 if k else first)
        taken.append(looks.look(asked_of(f"q{k}"), "2026-11-23", f"f{k}", taken, now))
    assert worst([one.level for one in taken], 100.0) <= ALPHA + 3e-4
    assert worst([0.002, 0.024, 0.012, 0.006, 0.003, 0.0015, 0.0007, 0.0004], 100.0) > 0.06


def spent_until(total: float, first: looks.Look) -> tuple[looks.Look, ...]:
    """One look of another fit at the same questions that leaves ``total`` of all that may go wrong."""
    return (msgspec.structs.replace(first, fit="other", sequence=("other",), level=ALPHA - total),)


@pytest.mark.parametrize("left", [2.5e-6, 1e-5])
def test_the_last_looks_are_tested_or_are_none(outcomes: Outcomes, at: CatalogAt, left: float) -> None:
    """Where this look may still be tested and the next may not, no number of grades is named; where this may
    not, as so little is staked, none is written down."""
    first = study(outcomes, at, Wanted("strong"), ()).looks[0]
    found = study(outcomes, at, Wanted("strong"), spent_until(left, first))
    one = found.certificates[0]
    assert one.look == 2
    assert bool(found.looks) == bool(one.level)
    assert one.certified or one.more_labels is None or one.left
    assert bounds.labels_needed(0.0, 0.1, 0.01, 0.0) is None
    small = outcomes.take(np.arange(150))
    none = study(
        small, at, Wanted("strong"), spent_until(2.5e-6, study(small, at, Wanted("strong"), ()).looks[0])
    )
    assert (none.looks, none.certificates[0].level) == ((), 0.0)


def test_another_choice_on_the_same_questions_is_another_look(
    outcomes: Outcomes, at: CatalogAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade that chooses otherwise."""
    first = study(outcomes, at, Wanted("strong"), ())
    assert study(outcomes, at, Wanted("strong"), first.looks).looks == ()
    monkeypatch.setattr(prepared, "few", lambda *of: fit.few(*of)[1:])
    again = study(outcomes, at, Wanted("strong"), first.looks)
    assert [one.number for one in again.looks] == [2]


def test_what_was_certified_stands_where_nothing_promises_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workloads are certified; further rows of one leave it without a candidate: its rule stays."""
    monkeypatch.chdir(tmp_path)
    rows = of_workload(made(1500, seed=7), "x") + of_workload(made(1500, seed=8), "y")
    written_to(tmp_path / "o.csv", rows)
    assert main(["policy", "fit", "o.csv", "--strong", "strong"]) == 0
    was = {one.workload for one in loads(Path("policy.toml").read_text())[0]}
    assert was == {"x", "y"}
    bad = of_workload(made(1500, seed=9, right=(0.05, 0.05, 0.99), blind=True), "y")
    bad = [{**row, "qid": f"{row['qid']}-more", "cost": 0.02} for row in bad]
    more = of_workload(made(300, seed=10), "x")
    written_to(tmp_path / "o.csv", rows + bad + [{**row, "qid": f"{row['qid']}-more"} for row in more])
    assert main(["policy", "fit", "o.csv", "--strong", "strong"]) == 0
    rules, certificates = loads(Path("policy.toml").read_text())
    assert {one.workload for one in rules} == was
    assert all(one.certified for one in certificates)


def test_measure_advises_a_fit_for_what_is_not_certified_with_the_same_strong_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A workload that is certified needs no fit; each is held against the strong model of its last look."""
    monkeypatch.chdir(tmp_path)
    x = of_workload(made(1500, seed=7), "x")
    y = of_workload(made(300, seed=8, right=(0.9, 0.5, 0.5), blind=True), "y")
    for name, rows, strong in (("x.csv", x, "strong"), ("y.csv", y, "small-a")):
        written_to(tmp_path / name, rows)
        assert main(["policy", "fit", name, "--strong", strong]) == 0
    written_to(tmp_path / "o.csv", x + of_workload(made(20, seed=9, right=(0.9, 0.5, 0.5)), "y2") + y)
    capsys.readouterr()
    assert main(["measure", "--outcomes", "o.csv"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "A fit now certifies" not in shown
    assert "Next: more grades" in shown
    assert "--strong" not in shown
    assert main(["measure", "--outcomes", "o.csv", "--json"]) == 0
    found = {one["workload"]: one for one in json.loads(capsys.readouterr().out)["workloads"]}
    assert found["x"]["certified"]
    assert (found["x"]["strong"], found["y"]["strong"]) == ("strong", "small-a")


def test_where_nothing_is_left_nothing_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written_to(tmp_path / "o.csv", made(800, seed=7))
    assert main(["policy", "fit", "o.csv", "--strong", "strong"]) == 0
    record = (tmp_path / "o.looks.toml").read_bytes()
    capsys.readouterr()
    assert main(["policy", "fit", "o.csv", "--strong", "strong", "--confidence", "99%"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not tested: 1 earlier look at these questions took all that may go wrong at 99%" in shown
    assert (tmp_path / "o.looks.toml").read_bytes() == record


def test_one_look_by_itself_is_at_the_whole_level(outcomes: Outcomes, at: CatalogAt) -> None:
    one = study(outcomes, at, Wanted("strong")).certificates[0]
    assert (one.look, one.left) == (1, 0.0)
    assert one.level == pytest.approx(ALPHA)


def test_a_sequence_is_known_by_its_questions_and_versions() -> None:
    first = looks.look(asked_of("a", "b", version="1"), "2026-11-23", "f1", [], 0.04)
    second = looks.look(asked_of("b", "c", version="1"), "2026-11-24", "f2", [first], 0.005)
    kept = [first, second]
    # What was tested before counts wherever it stands now, and with it all of its sequence.
    assert looks.earlier(kept, "routing", ["c"], {"cheap": "1", "new": "7"}) == (first, second)
    assert looks.earlier(kept, "routing", ["d"], {"cheap": "1"}) == ()
    assert looks.earlier(kept, "cache", ["a"], {"cheap": "1"}) == ()
    # Answers of another version are other outcomes.
    assert looks.earlier(kept, "routing", ["a"], {"cheap": "2"}) == ()
    assert looks.strong_of(kept, "routing", ["cheap", "strong"]) == {"*": "strong"}
    assert looks.strong_of(kept, "routing", ["cheap"]) == {}
    # The strong model of each workload is that of its last look, in whatever order files are read.
    other = msgspec.structs.replace(first, made="2026-11-25", strong="cheap", workload="x")
    last = msgspec.structs.replace(first, made="2026-11-26")
    assert looks.strong_of([last, other, first], "routing", ["cheap", "strong"]) == {
        "*": "strong", "x": "cheap"
    }  # fmt: skip


def test_other_candidates_at_the_same_questions_are_another_look() -> None:
    """Though no model is shared: each is a chance to be fooled. Only where all of now are of then, in other
    versions, does a sequence begin anew."""
    was = looks.look(asked_of("a", version="1"), "2026-11-23", "f1", [], 0.04)
    assert looks.earlier([was], "routing", ["a"], {"other": ""}) == (was,)
    assert looks.earlier([was], "routing", ["a"], {"strong": ""}) == (was,)
    assert looks.earlier([was], "routing", ["a"], {"cheap": "2", "new": ""}) == (was,)
    assert looks.earlier([was], "routing", ["a"], {"cheap": "2"}) == ()
    assert looks.earlier([was], "routing", ["a"], {}) == (was,)


def test_looks_are_in_the_order_of_time_whatever_their_files_are_called(
    outcomes: Outcomes, at: CatalogAt
) -> None:
    taken: tuple[looks.Look, ...] = ()
    for n in (300, 400):
        taken += study(outcomes.take(np.arange(n)), at, Wanted("strong"), taken).looks
    assert [one.number for one in taken] == [1, 2]
    first, again = (
        study(outcomes.take(np.arange(400)), at, Wanted("strong"), some).certificates[0]
        for some in (taken, taken[::-1])
    )
    assert first == again
    assert (again.look, again.level, again.staked_less) == (2, taken[1].level, first.staked_less)
    assert again.left == pytest.approx(ALPHA - sum(one.level for one in taken))


def test_a_file_of_looks_is_read_strictly() -> None:
    open_ = looks.look(asked_of("a"), "2026-11-23", "f1", [], 0.04)
    text = looks.dumps([looks.ended(open_, certified=True, saving=0.31)])
    assert looks.dumps(looks.loads(text)) == text
    for change, why in (
        (("0.04", "0.004"), "look 1 of 2026-11-23 is not as it was written"),
        (("certified = true", "certified = false"), "not as it was written"),
        (("format = 1", "format = 2"), "no looks of this version"),
        (("kind =", "kinds ="), "unknown field"),
        (("[[look]]", "[[look"), "cannot be read"),
    ):
        with pytest.raises(BadLimits, match=why):
            looks.loads(text.replace(*change))


def test_looks_are_kept_beside_the_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused or not, renamed or not, written elsewhere or not; a record that was changed stops the fit."""
    monkeypatch.chdir(tmp_path)
    file = written_to(tmp_path / "o.csv", made(400, seed=7))
    fit = ["policy", "fit", "o.csv", "--strong", "strong"]
    assert main(fit) == 0
    first = capsys.readouterr().out
    assert "No saving certified" in first
    assert "look 1" in first
    assert not (tmp_path / "policy.toml").exists()
    assert [one.name for one in tmp_path.glob(f"*{ENDING}")] == ["o.looks.toml"]
    assert main([*fit, "--to", "elsewhere"]) == 0
    again = capsys.readouterr().out
    assert first.startswith(again)
    assert "What was tested is kept in o.looks.toml" in first
    file.rename(tmp_path / "p.csv")
    written_to(tmp_path / "p.csv", made(800, seed=7))
    assert main(["policy", "fit", "p.csv", "--strong", "strong", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["certificates"][0]["look"] == 2
    assert document["looks"] == []
    assert looks_of(Path("p.csv"), tmp_path).name == "p.looks.toml"
    (tmp_path / "data").mkdir(mode=0o555)
    assert looks_of(tmp_path / "data" / "p.csv", tmp_path) == tmp_path / "p.looks.toml"
    assert len(read_looks(Path("p.csv"))) == 2
    assert main(["policy", "fit", "p.csv", "--to", "policy.toml"]) == 2
    assert "is no folder" in capsys.readouterr().err
    record = tmp_path / "p.looks.toml"
    text = record.read_text(encoding="utf-8")
    record.write_text(text.replace("level = 0.0", "level = 0.00"), encoding="utf-8")
    assert main(["policy", "fit", "p.csv", "--strong", "strong"]) == 2
    assert "is not as it was written" in capsys.readouterr().err


def test_what_is_shown_from_one_fit_to_the_next(
    tmp_path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for count in (400, 800):
        written_to(tmp_path / "outcomes.csv", made(count, seed=7))
        assert main(["measure", "--strong", "strong"]) == 0
        assert main(["policy", "fit", "outcomes.csv", "--strong", "strong"]) == 0
    golden.check("policy_looks.txt", capsys.readouterr().out)


def test_nothing_is_foretold_from_questions_that_wait(outcomes: Outcomes, at: CatalogAt) -> None:
    """Other grades on B change no forecast until a fit has tested them."""
    _, b, _ = splits(outcomes, np.arange(len(outcomes)))
    quality = outcomes.quality.copy()
    quality[b] = 1.0 - quality[b]
    other = replace(outcomes, quality=quality)
    was, now = (worth(outlook(each, at, Wanted("strong"))[0], 1000.0) for each in (outcomes, other))
    assert was == now
    assert was[0].labels == 0
    tested = study(outcomes, at, Wanted("strong"), ()).looks
    told = outlook(other, at, Wanted("strong"), tested)[0]
    assert (told.waiting, told.tested, told.looks) == (0, len(b), 1)
    assert worth(told, 1000.0) != was
