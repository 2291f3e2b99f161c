"""How questions are put into groups with few grades, and what their words say of the groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.policy import semantic_learn
from isocost.policy.semantic import member_of, rarity_of, taken_apart, together
from isocost.policy.semantic_index import Index
from isocost.policy.semantic_learn import Grown, Read, grouped, latent, learn, likeness_of

SAID = (
    "where is my card", "my card did not arrive", "track the card", "card is late", "i forgot my pin",
    "reset the pin please", "my pin is blocked", "change the pin", "what is the exchange rate",
    "exchange rate for euros", "rate of exchange today", "which rate do i get",
)  # fmt: skip


def vectors(texts: tuple[str, ...] = SAID) -> list[dict[str, float]]:
    """Parts of questions by their rarity."""
    asked = [taken_apart(text) for text in texts]
    index = Index(*rarity_of(asked))
    return [index.vector(question) for question in asked]


def topic(i: int) -> int:
    return i // 4


@pytest.mark.parametrize(
    "words",
    [
        ("arrive", "arrives", "arrived", "arriving"),
        ("top", "tops", "topped", "topping"),
        ("pay", "pays", "payment", "payments"),
        ("currency", "currencies"),
        ("card", "card's", "cards"),
    ],
)
def test_forms_of_a_word_are_one(words: tuple[str, ...]) -> None:
    assert len({taken_apart(word).stems for word in words}) == 1


def test_words_that_are_others_stay_apart() -> None:
    """A negation too, and words that are nothing but an ending."""
    words = ("can", "can't", "pin", "ping", "ring", "red", "ally", "fee", "free", "is")
    assert len({taken_apart(word).stems for word in words}) == len(words)


def test_letters_are_of_one_word() -> None:
    """No group of letters reaches into the next word; a short word is one group."""
    letters = [part for part in taken_apart("my card").parts if part.startswith("#")]
    assert letters == ["# my ", "# car", "#card", "#ard "]


def test_likeness_is_the_product_of_parts() -> None:
    """Against the sum by the definition; a question without parts is like none."""
    some = [*vectors(), {}]
    found = likeness_of(some)
    for i, one in enumerate(some):
        for j, two in enumerate(some):
            told = sum(weight * two.get(part, 0.0) for part, weight in one.items())
            assert found[i, j] == pytest.approx(told, abs=1e-6)


def test_latent_directions_are_the_leading_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of them against those by a full decomposition."""
    monkeypatch.setattr(semantic_learn, "LATENT", 4)
    kernel = likeness_of(vectors())
    values, turn = np.linalg.eigh(kernel.astype(np.float64))
    top = turn[:, -4:] * np.sqrt(values[-4:])
    top /= np.linalg.norm(top, axis=1, keepdims=True)
    found = latent(kernel)
    assert found @ found.T == pytest.approx(top @ top.T, abs=2e-3)


def test_no_pair_of_two_scopes_is_graded() -> None:
    """Who grades would read what another tenant asked."""
    scopes = [b"one" if i % 2 else b"two" for i in range(len(SAID))]
    asked: list[tuple[int, int]] = []

    def grade(i: int, j: int) -> bool:
        asked.append((i, j))
        return topic(i) == topic(j)

    learn(vectors(), grade, 30, scopes)
    assert asked
    assert all(scopes[i] == scopes[j] for i, j in asked)


def known() -> Grown:
    """All but two in their groups; those were held against one group, in vain."""
    group = {i: 4 * topic(i) for i in range(12)} | {3: 3, 11: 11}
    return Grown(group, frozenset({(3, 4), (0, 11), (0, 4), (0, 8), (4, 8)}), 14)


def test_a_softmax_learns_from_what_was_not_found() -> None:
    """At its optimum; a question that stands alone is taken for none that it was held against."""
    read = Read.of(vectors(), list(range(12)))
    may = semantic_learn._may_be(read.rows, known(), {0: 0, 4: 1, 8: 2})
    assert may[3].tolist() == [True, False, True, True]
    assert may[11].tolist() == [False, True, True, True]
    told = semantic_learn._chances(read.kernel, may, 4000)
    reach = read.kernel @ told
    chance = np.exp(reach) / np.exp(reach).sum(axis=1, keepdims=True)
    allowed = chance * may / (chance * may).sum(axis=1, keepdims=True)
    assert np.abs(chance - allowed + semantic_learn.RIDGE_CHANCE * told).max() < 1e-3
    assert chance[3, 1] < chance[3, 0]
    assert chance[11, 0] < chance[11, 2]


def test_words_speak_for_their_groups() -> None:
    """The sum over a question's parts is what its members say of it, by both regressions."""
    some = vectors()
    read = Read.of(some, list(range(12)))
    said, members = grouped(read, known())
    assert {len(row) for row in said.values()} == {7}
    assert set(members) == set(range(12))
    sums = np.sum([weight * np.array(said[part]) for part, weight in some[0].items() if part in said], axis=0)
    # The largest group comes first.
    assert member_of(sums.tolist()).likely == 1
    assert sums[:3].argmax() == 1


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=3, max_size=15).filter(lambda told: len(told) % 2 == 1))
def test_a_member_has_chances(told: list[float]) -> None:
    """That add up to one with that of no group; two of the same are as like as can be."""
    one = member_of(told)
    assert sum(one.chances) + one.rest == pytest.approx(1.0)
    assert one.chances[one.likely] == max(one.chances)
    assert one.margin >= 0.0
    assert all(map(math.isfinite, together(one, one)))
    assert together(one, one)[6] == pytest.approx(1.0) or one.size < 1e-9


def test_a_question_of_no_group_says_nothing() -> None:
    assert set(together(member_of(()), member_of(()))) == {0.0}
