"""Where requests come in sessions: the bound holds whatever those of one session have to do with each other,
and the same words get no second wrong answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.errors import BadLimits
from isocost.policy.drawn import able, most_each, numbered, stake, tallied, upper
from isocost.policy.proven import Proven, check, most_wrong, upper_of
from isocost.policy.proven import upper as exact
from isocost.policy.semantic import Weights, contradicts, taken_apart
from isocost.policy.semantic_cache import SemanticCache, _said
from isocost.policy.semantic_index import Index
from isocost.policy.semantic_lapse import lapsed
from isocost.policy.semantic_pairs import read
from isocost.policy.semantic_study import Asked, Wanted, study
from test_semantic_cache import asked as questions

DRAWS = 2000
CERTIFYING = 2616
LIMIT = 0.01
EACH = most_each(CERTIFYING, LIMIT)
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def passed(sizes: Counts, wrong: Counts) -> bool:
    """Whether sessions of so many requests and wrong answers are certified."""
    bet = stake(int(sizes.sum()), EACH, LIMIT, 0.95)
    fortune = np.log1p(bet * (LIMIT * sizes - np.minimum(wrong, EACH))).sum()
    return bool(fortune >= -math.log(0.05))


def of_runs(again: float) -> tuple[Counts, Counts, Counts]:
    """Kinds of session, each as (requests, wrong answers if it is a bad one, weight): it asks nearly the same
    again with chance ``again``, and is told the same."""
    sizes = np.arange(1, 200)
    return sizes, sizes, again ** (sizes - 1) * (1 - again)


def of_bursts(bad: int, good: int) -> tuple[Counts, Counts, Counts]:
    """Who gets a wrong answer asks ``bad`` times, others ``good`` times."""
    return np.array([bad]), np.array([bad]), np.array([float(good)])


SCENES = {
    "half repeat the one before": (of_runs(0.5), None),
    "four fifths repeat the one before": (of_runs(0.8), None),
    "bursts of 10 where wrong, of 2 else": ((np.array([10]), np.array([10]), np.array([1.0])), 2),
    "bursts of 20 where wrong, of 1 else": ((np.array([20]), np.array([20]), np.array([1.0])), 1),
    "a favourite wrong pair, asked half of the time": ((np.array([4]), np.array([2]), np.array([1.0])), 4),
    "sessions up to 300, long ones as often wrong": (
        (np.arange(1, 301), np.arange(1, 301), np.arange(1, 301.0) ** -2.5), None,
    ),
}  # fmt: skip
"""Sizes, wrong answers and weights of sessions that may be bad, and the size of those that are not (``None``:
the same)."""


def drawn(scene: str, most: int) -> list[tuple[Counts, Counts]]:
    """Logs of ``CERTIFYING`` requests in sessions, of whose requests exactly 1 % get a wrong answer in the
    mean where a session is given ``most`` answers."""
    (sizes, wrong, weight), plain = SCENES[scene]
    weight = weight / weight.sum()
    got = float((np.minimum(wrong, most) * weight).sum())
    mean = float((sizes * weight).sum())
    # chance * got = LIMIT * (chance * mean + (1 - chance) * other)
    other = mean if plain is None else float(plain)
    chance = LIMIT * other / (got - LIMIT * (mean - other))
    rng = np.random.default_rng(20_261_123)
    logs = []
    for _ in range(DRAWS):
        many = CERTIFYING
        bad = rng.random(many) < chance
        kind = rng.choice(len(sizes), many, p=weight)
        size = np.where(bad, sizes[kind], sizes[kind] if plain is None else plain)
        last = int(np.searchsorted(np.cumsum(size), CERTIFYING)) + 1
        size, bad, kind = size[:last], bad[:last], kind[:last]
        size[-1] -= size.sum() - CERTIFYING
        told = np.where(bad, np.minimum(np.minimum(wrong[kind], most), size), 0)
        logs.append((size, told))
    return logs


@pytest.mark.parametrize("scene", SCENES)
def test_at_the_limit_at_most_one_certificate_in_twenty_passes(scene: str) -> None:
    """2,000 logs each. With requests taken one by one far more pass, as the first figure shows."""
    bar = most_wrong(CERTIFYING, LIMIT, 0.95)
    before = np.mean([wrong.sum() <= bar for _, wrong in drawn(scene, 10**6)])
    after = np.mean([passed(*one) for one in drawn(scene, EACH)])
    print(f"{scene}: {before:.3f} {after:.3f}")
    assert before > 0.08
    assert after <= 0.05


def test_the_fortune_is_the_bound() -> None:
    """What the draws above are held against is what a certificate is."""
    for sizes, told in drawn("half repeat the one before", EACH)[:40]:
        units = np.repeat(np.arange(len(sizes)), sizes).tolist()
        wrong = np.repeat(np.arange(len(sizes)), told).tolist()
        most = upper_of(tallied(units, wrong, EACH), EACH, LIMIT, 0.95)
        assert (most <= LIMIT) == passed(sizes, told)


def words_asked_again(again: float) -> tuple[Counts, Counts]:
    """First asks, and wrong answers among them, of logs in which a request repeats the words of any earlier
    one with chance ``again``: answered right, by the words' own answer or by a model."""
    rng = np.random.default_rng(20_261_123)
    first = CERTIFYING - rng.binomial(CERTIFYING, again, DRAWS)
    return first, rng.binomial(first, LIMIT)


@pytest.mark.parametrize("again", [0.2, 0.5])
def test_equal_words_are_independent_as_they_are_wrong_once(again: float) -> None:
    first, wrong = words_asked_again(again)
    bars = {int(n): most_wrong(int(n), LIMIT, 0.95) for n in set(first.tolist())}
    passing = np.mean([k <= bars[n] for n, k in zip(first.tolist(), wrong.tolist(), strict=True)])
    assert 0.01 < passing <= 0.05 + 2.4 * math.sqrt(0.05 * 0.95 / DRAWS)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_more_wrong_answers_are_never_less_wrong(some: list[tuple[int, int]]) -> None:
    """The bound grows with each wrong answer, and is no lower than what was seen."""
    units = [k for k, (size, _) in enumerate(some) for _ in range(size)]
    wrong = [k for k, (size, bad) in enumerate(some) for _ in range(min(size, bad))]
    most = upper(tallied(units, wrong, 3), 3, 0.1, 0.95)
    seen = sum(min(size, bad, 3) for size, bad in some) / len(units)
    assert most >= seen
    assert upper(tallied(units, wrong[1:], 3), 3, 0.1, 0.95) <= most


def test_sessions_of_one_request_are_counted_exactly() -> None:
    tallies = tallied(list(range(2616)), range(17), 1)
    assert upper_of(tallies, 1, 0.01, 0.95) == exact(17, 2616, 0.95) <= 0.01
    assert upper(tallies, 1, 0.01, 0.95) > 0.01
    assert numbered(["a", "", "a", "b", ""]) == [0, 1, 0, 2, 3]
    assert able([0, 0, 1], {0: "x", 1: "x", 2: "y"}) == 1


def cache() -> SemanticCache:
    """Scores a pair by its likeness alone."""
    index = Index({}, 1.0)
    index.add(taken_apart("where is my card"), "")
    size = len(index.near(taken_apart("where is my card"))[0].features)
    first = (1.0, *(0.0,) * (size - 1))
    return SemanticCache(
        Weights({}, 1.0, (0.0,) * size, (1.0,) * size, first, (0.0,) * 4096, 0.0, {}, 0.5), 100.0, 50
    )


def test_the_same_words_get_another_questions_answer_once() -> None:
    """Asked again they go to a model; from then on they have an answer of their own, while it is alive."""
    held = cache()
    held.keep(b"s", "where is my new card", "in the post", 0.0)
    asks = "where is my new debit card"
    assert held.answer(b"s", asks, 1.0) == "in the post"
    assert held.owes(b"s", asks, 1.5)
    assert held.answer(b"s", asks, 2.0) is None
    held.keep(b"s", asks, "its own", 2.0)
    assert not held.owes(b"s", asks, 2.5)
    assert held.answer(b"s", asks, 3.0) == "its own"
    assert held.answer(b"s", asks.upper(), 3.0) == "its own"
    assert held.answer(b"t", asks, 3.0) is None
    held.keep(b"s", "where is my new card", "still in the post", 90.0)
    assert held.answer(b"s", asks, 150.0) is None
    assert held.owes(b"s", asks, 150.0)


@pytest.mark.parametrize(
    ("kept", "asks"),
    [
        ("How do I sort a list in C++?", "how do I sort a list in C#?"),
        ("change my 5$ to €", "change my 5€ to $"),
        ("what is 7 + 3", "what is 7 - 3"),
        ("solve x = -5", "solve x = 5"),
        ("what is 10 % 3", "what is 10 / 3"),
        ("is a > b here", "is a < b here"),
        ("was it 👍 for you", "was it 👎 for you"),
        ("Is 10.30 free", "Is 10,30 free"),
    ],
)
def test_other_symbols_are_other_words(kept: str, asks: str) -> None:
    """Not even once: what differs in a number, a sign or a symbol is refused, however alike the words are."""
    held = cache()
    held.keep(b"s", kept, "of the first", 0.0)
    assert held.answer(b"s", asks, 1.0) is None
    assert held.look(b"s", asks, 1.0).against in ("numbers differ", "symbols differ")
    assert held.answer(b"s", f" {kept.upper()} ", 1.0) == "of the first"
    held.keep(b"s", asks, "of the second", 2.0)
    for _ in range(3):
        assert held.answer(b"s", f"{kept}", 3.0) == "of the first"
        assert held.answer(b"s", f"{asks}", 3.0) == "of the second"


def test_the_same_words_written_otherwise_are_anothers_question() -> None:
    """Equal stems are not an answer of one's own: it is given once, and so is that of a question whose
    number another has."""
    held = cache()
    held.keep(b"s", "where is my new card", "in the post", 0.0)
    assert held.answer(b"s", "where are... is my new cards", 1.0) == "in the post"
    assert [held.answer(b"s", "where is my (new) cards", 1.0 + k) for k in range(3)] == [
        "in the post",
        None,
        None,
    ]
    held.keep(b"s", "Is 10.30 free", "A", 10.0)
    held.keep(b"s", "Is 10,30 free", "B", 10.0)
    assert held.answer(b"s", "Is 10.30 free?", 11.0) == "A"


@given(st.text(alphabet="aA5$€+-.?! ,ßİ'", max_size=12), st.text(alphabet=" \t.?!", max_size=3))
def test_what_is_written_alike_never_contradicts(text: str, end: str) -> None:
    """So that an answer of one's own is never one that would be refused."""
    one, two = taken_apart(text), taken_apart(f" {text.swapcase()}{end}")
    if _said(b"", one) == _said(b"", two):
        assert contradicts(one, two) == ""


def test_long_and_blank_questions_are_neither_kept_nor_found() -> None:
    """Whoever calls: a cache that runs is the one that was certified."""
    held = cache()
    for text in ("", "  ", "where is my card " * 200):
        assert held.keep(b"s", text, "no", 0.0) == -1
        assert held.answer(b"s", text, 1.0) is None
    assert len(held) == 0


def test_a_session_is_given_so_many_answers() -> None:
    held = cache()
    held.keep(b"s", "where is my new card", "in the post", 0.0)
    asks = [f"where is my new card {word}" for word in ("please", "now", "today")]
    given_ = [held.answer(b"s", one, 1.0, "me", 2) for one in asks]
    assert given_ == ["in the post", "in the post", None]
    assert held.answer(b"s", asks[2], 1.0, "you", 2) == "in the post"


def of_sessions(**change: object) -> Proven:
    """300 sessions of two requests, three of which got a wrong answer."""
    tallies = ((2, 0, 297), (2, 1, 3))
    most = upper_of(tallies, 2, 0.05, 0.95)
    plain = Proven(
        1.0, 0.05, 0.95, 600, 200, 3, most, 500, "2026-11-23", "", "", unit="session", units=300,
        most_each=2, tallies=tallies,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"units": 299}, "sessions come to 300"),
        ({"wrong": 2}, "with 3 wrong"),
        ({"tallies": ((2, 0, 300),)}, "sessions come to 300 with 0 wrong"),
        ({"tallies": ((2, 0, 299), (2, 3, 1))}, "sessions come to 300"),
        ({"most_each": 0}, "sessions come to 300"),
        ({"wrong_most_frac": 0.012}, "of 300 sessions prove at most"),
    ],
)
def test_a_certificate_follows_from_its_sessions(change: dict[str, object], said: str) -> None:
    check(of_sessions(), "plan.toml")
    with pytest.raises(BadLimits, match=said):
        check(of_sessions(**change), "plan.toml")


def test_a_certificate_of_an_older_form_holds_no_more() -> None:
    """It took requests as independent; its counts are read still, and what to type is said."""
    old = of_sessions(unit="", units=0, most_each=0, tallies=(), wrong_most_frac=exact(3, 600, 0.95))
    check(old, "plan.toml")
    assert "isocost policy fit PAIRS --cache --log LOG" in lapsed(old)[0]


def studied(units: Sequence[str], unit: str) -> tuple[Proven | None, str]:
    texts, topics = questions(1000, 5)
    found = study(
        [Asked(text, at_s=float(i), unit=units[i]) for i, text in enumerate(texts)],
        Wanted(0.05, 0.95, 150, unit=unit), lambda i, j: topics[i] == topics[j],
    )  # fmt: skip
    return found.proven, found.why


def test_a_study_draws_sessions() -> None:
    """The certificate follows from the sessions of its certifying part, each given as many answers as it
    says; where each is alone its bound is exact."""
    found, _ = studied([f"s{i // 3}" for i in range(1000)], "session")
    assert found is not None
    check(found, "plan.toml")
    assert found.unit == "session"
    # Both cuts are moved on to where a session ends.
    assert found.units == len({i // 3 for i in range(402, 702)}) == found.requests // 3
    assert found.hits <= found.units * found.most_each
    alone, _ = studied([f"s{i}" for i in range(1000)], "session")
    assert alone is not None
    assert alone.wrong_most_frac == exact(alone.wrong, alone.requests, 0.95)


def test_a_file_says_what_was_drawn_together(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("Text,Label,Session,Tenant\na,1,s,t\nb,2,,t\nc,1,s,u\n", encoding="utf-8")
    made = read(file)
    assert made.unit == "session"
    assert sorted((one.text, one.unit, one.scope) for one in made.asked) == [
        ("a", "s", b"t"), ("b", "", b"t"), ("c", "s", b"u"),
    ]  # fmt: skip
    file.write_text("text,label\na,1\nb,2\n", encoding="utf-8")
    assert read(file).unit == "request"
