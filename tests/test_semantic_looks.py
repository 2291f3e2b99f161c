"""Fits of a semantic cache at the same certifying requests share what may go wrong; rounds that only add
grades are one fit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pytest

from isocost.errors import BadLimits
from isocost.policy import looks, semantic_looks, semantic_study
from isocost.policy.proven import Proven, check, most_wrong, upper
from isocost.policy.semantic_looks import Turn, grades_of, taken, turn
from isocost.policy.semantic_study import Asked, CacheStudy, Wanted, first_pairs, study
from test_semantic_commands import KINDS, THINGS, TRAIL

ABOUT = {
    form.format(thing) + one: f"{kind} {thing}"
    for kind, forms in KINDS.items()
    for form in forms
    for thing in THINGS[:2]
    for one in TRAIL
}
TEXTS = random.Random(4).choices(sorted(ABOUT), k=1040)
REQUESTS = [Asked(text, at_s=60.0 * i) for i, text in enumerate(TEXTS)]
WANTED = Wanted(0.05, made="2026-11-23")
Pairs = dict[tuple[int, int], bool]


def same(i: int, j: int) -> bool:
    """What a person would say, and wrongly of one pair in fifty."""
    return (ABOUT[TEXTS[i]] == ABOUT[TEXTS[j]]) != ((31 * i + 17 * j) % 50 == 0)


def fitted(
    grades: Mapping[tuple[int, int], bool], before: tuple[looks.Look, ...], **change: float
) -> CacheStudy:
    """A fit of what is graded so far, after some looks."""
    wanted = msgspec.structs.replace(WANTED, **change)
    return study(REQUESTS, wanted, lambda i, j: grades.get((i, j)), graded=grades, looks=before)


def kept(before: tuple[looks.Look, ...], found: CacheStudy) -> tuple[looks.Look, ...]:
    """Looks as the file has them afterwards."""
    return tuple({one.fit: one for one in (*before, *found.looks)}.values())


@pytest.fixture(scope="module", autouse=True)
def few_thresholds() -> Iterator[None]:
    """Each is a play of the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic_study, "EXPECTED", (0.02, 0.1, 0.2, 0.5))
        yield


@pytest.fixture(scope="module")
def to_fit() -> Pairs:
    return {
        (one.asked, one.held): same(one.asked, one.held) for one in first_pairs(REQUESTS, Wanted(labels=200))
    }


@pytest.fixture(scope="module")
def whole(to_fit: Pairs) -> CacheStudy:
    """The first look, where every pair that is asked for has its grade at once."""
    return study(REQUESTS, WANTED, same, graded=to_fit, looks=())


def test_a_round_that_reads_no_certifying_grade_is_no_look(to_fit: Pairs) -> None:
    """Neither where pairs to fit on are missing, nor where those that certify are, nor where no count of
    wrong answers could have certified."""
    first = fitted(to_fit, ())
    assert (first.proven, first.why) == (None, "certifying pairs are not graded yet")
    nothing = fitted({}, ())
    assert nothing.why == "pairs to fit on are not graded yet"
    small = fitted(to_fit, (), most_wrong_frac=0.001)
    assert "too small" in small.why
    for found in (first, nothing, small):
        assert (found.look, found.looks) == (0, ())


def test_rounds_that_add_grades_are_one_look(to_fit: Pairs, whole: CacheStudy) -> None:
    """However the grades of the certifying pairs come in, the verifier stays, one look is taken, and no round
    passes a threshold that the whole does not."""
    assert whole.proven is not None
    assert (whole.look, whole.level, whole.proven.level) == (1, 0.04, 0.04)
    check(whole.proven, "plan.toml")
    assert whole.proven.wrong_most_frac == upper(whole.proven.wrong, whole.proven.requests, 0.96)
    read = dict(grades_of(whole.looks[0]))
    assert all(told == same(*pair) for pair, told in read.items())
    order = random.Random(1).sample(sorted(read), len(read))
    grades: Pairs = dict(to_fit)
    before: tuple[looks.Look, ...] = ()
    for k in range(3):
        grades |= {pair: read[pair] for pair in order[k::3]}
        found = fitted(grades, before)
        before = kept(before, found)
        assert (found.look, found.level, len(before)) == (1, 0.04, 1)
        if found.proven is not None:
            assert found.proven.verifier == whole.proven.verifier
            assert found.proven.threshold >= whole.proven.threshold
    assert found.proven == msgspec.structs.replace(whole.proven, later_wrong=-1)
    assert before == whole.looks
    # The same fit again has nothing to keep.
    assert fitted(grades, before).looks == ()


def test_another_limit_or_verifier_is_another_look(to_fit: Pairs, whole: CacheStudy) -> None:
    """Each is tested at half of what is left; requests of which none was tested begin anew."""
    wanted = msgspec.structs.replace(WANTED, most_wrong_frac=0.06)
    limit = study(REQUESTS, wanted, same, graded=to_fit, looks=whole.looks)
    assert (limit.look, limit.level) == (2, 0.005)
    assert limit.proven is not None
    assert limit.proven.sure == 0.995
    before = kept(whole.looks, limit)
    pair = min(to_fit)
    other = {**to_fit, pair: not to_fit[pair]}
    found = study(REQUESTS, WANTED, same, graded=other, looks=before)
    assert (found.look, found.level) == (3, 0.0025)
    ids = [f"later {i}" for i in range(len(REQUESTS))]
    anew = study(REQUESTS, WANTED, same, graded=other, looks=before, ids=ids)
    assert (anew.look, anew.level) == (1, 0.04)


def test_a_grade_that_was_read_and_is_another_one_makes_another_look() -> None:
    """To blank one does not, since what nobody has graded counts as wrong; blanked and then changed is
    changed. Each goes on as what it was."""
    grades: Pairs = {(7, 3): False, (8, 2): True}
    first = taken(turned((), {}), "*", "2026-11-23", grades, None)
    assert first is not None
    assert turned((first,), grades).held == first
    mended = {**grades, (7, 3): True}
    again = turned((first,), mended)
    assert (again.number, again.level, again.held) == (2, 0.005, None)
    second = taken(again, "*", "2026-11-23", mended, 0.4)
    assert second is not None
    assert [turned((first, second), one).held for one in (grades, mended)] == [first, second]
    blank = turned((first,), {(8, 2): True})
    assert (blank.number, blank.level) == (1, 0.04)
    more = taken(blank, "*", "2026-11-23", {(8, 2): True, (9, 1): True}, None)
    assert more is not None
    assert grades_of(more) == [((7, 3), False), ((8, 2), True), ((9, 1), True)]
    assert turned((more,), mended).number == 2


def turned(before: tuple[looks.Look, ...], grades: Pairs, rests_on: object = "test") -> Turn:
    return turn(before, rests_on, ["a", "b"], 0.05, lambda i, j: grades.get((i, j)))


def test_what_earlier_looks_spent_is_not_tested(to_fit: Pairs) -> None:
    """Where nothing is left that may go wrong, no grade is read."""
    what = looks.Tested(semantic_looks.CACHE, "*", "", {}, TEXTS)
    spent = looks.ended(looks.look(what, "2026-11-23", "f1", (), 0.05), certified=True, saving=0.3)
    found = fitted(to_fit, (spent,))
    assert (found.proven, found.why, found.looks) == (None, semantic_looks.SPENT, ())


def test_one_fit_by_itself_is_at_the_whole_level(to_fit: Pairs) -> None:
    found = study(REQUESTS, WANTED, same, graded=to_fit)
    assert found.proven is not None
    assert (found.look, found.looks, found.proven.sure) == (0, (), 0.95)


def test_users_who_change_the_verifier_until_it_passes_are_fooled_at_most_once_in_twenty() -> None:
    """20,000 users of caches that are wrong just as often as is allowed ask five times, each time of another
    verifier and in four rounds of grades, at the levels that the record gives them; at 5 % each, some time of
    five passes for 15 % or more."""
    many, limit, levels = 1500, 0.02, []
    before: tuple[looks.Look, ...] = ()
    for k in range(5):
        grades: Pairs = {}
        one = None
        for later in range(4):
            this = turned(before if one is None else (*before, one), grades, k)
            assert (this.number, this.held is None) == (k + 1, later == 0)
            levels += [this.level] if later == 0 else []
            assert this.level == levels[-1]
            grades[later + 1, 0] = later % 2 == 0
            one = taken(this, "*", "2026-11-23", grades, None)
            assert one is not None
        assert one is not None
        before = (*before, one)
    wrong = np.random.default_rng(20_261_123).binomial(many, limit, (20_000, len(levels)))
    shared = (wrong <= [most_wrong(many, limit, 1.0 - level) for level in levels]).any(axis=1).mean()
    each = (wrong <= most_wrong(many, limit, 0.95)).any(axis=1).mean()
    assert shared <= 0.05
    assert each > 0.15


def test_a_certificate_follows_from_the_level_that_it_was_tested_at() -> None:
    plain = Proven(
        1.0, 0.01, 0.95, 2000, 500, 10, upper(10, 2000, 0.96), 900, "2026-11-23", "", "", unit="request",
        level=0.04,
    )  # fmt: skip
    check(plain, "plan.toml")
    with pytest.raises(BadLimits, match="prove at most"):
        check(msgspec.structs.replace(plain, level=0.005), "plan.toml")
    with pytest.raises(BadLimits, match=r"level 0\.2 at 0\.95"):
        check(msgspec.structs.replace(plain, level=0.2), "plan.toml")


def test_looks_with_grades_are_read_strictly() -> None:
    one = taken(turned((), {}), "*", "2026-11-23", {(7, 3): True, (9, 2): False}, 0.4)
    assert one is not None
    text = looks.dumps([one])
    assert looks.loads(text) == (one,)
    assert grades_of(one) == [((7, 3), True), ((9, 2), False)]
    with pytest.raises(BadLimits, match="not as it was written"):
        looks.loads(text.replace(one.grades, one.grades[:-12] + one.grades[-4:]))
