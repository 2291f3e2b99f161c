"""A look by arrays finds, feature by feature and to the bit, what a look by plain dictionaries finds."""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.policy import semantic_index
from isocost.policy.semantic import (
    Member,
    Nearest,
    Question,
    compared,
    contradicts,
    hashed,
    member_of,
    rarity_of,
    taken_apart,
    together,
)
from isocost.policy.semantic_index import CANDIDATES, NEIGHBOURS, RAREST, Groups, Index

SOUNDS = ("ba", "re", "ti", "mo", "lu", "ka", "se", "no", "di", "pra", "ste", "vin")
ASKS = (
    "Why was my {} declined?", "how long does a {} take", "can't I change my {}", "Send 50 euros to {}",
    "from {} to Rome", "what is the {} for a visa", "my {} is still pending", "Is {} in Paris",
)  # fmt: skip


def questions(count: int, seed: int) -> list[Question]:
    """Short questions of few patterns, with words of their own; some are asked twice."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(SOUNDS, rng.integers(1, 4))) for _ in range(150)]
    made: list[str] = []
    for _ in range(count):
        if made and rng.random() < 0.1:
            made.append(made[rng.integers(len(made))])
            continue
        few = [words[min(int(rng.pareto(0.7)), len(words) - 1)] for _ in range(rng.integers(1, 7))]
        made.append(" ".join([ASKS[rng.integers(len(ASKS))].format(few[0]), *few[1:]]))
    return [taken_apart(text) for text in made]


def added(values: Sequence[float]) -> float:
    """One after another: ``sum`` makes good for rounding from Python 3.12 on."""
    total = 0.0
    for one in values:
        total += one
    return total


class Plain:
    """The same index by the definition, every sum in the order of the asked question's parts."""

    def __init__(
        self, rarity: Mapping[str, float], rarest: float, groups: Mapping[str, Sequence[float]]
    ) -> None:
        self.rarity, self.rarest, self.groups = rarity, rarest, groups
        self.held: dict[int, tuple[Question, dict[str, float]]] = {}
        self.end = 0

    def rare(self, part: str) -> float:
        return self.rarity.get(part, self.rarest)

    def vector(self, question: Question) -> dict[str, float]:
        raw = {
            part: (1.0 + math.log(many)) * self.rare(part) for part, many in Counter(question.parts).items()
        }
        length = math.sqrt(sum([one * one for one in raw.values()])) or 1.0
        return {part: one / length for part, one in raw.items()}

    def add(self, question: Question) -> None:
        self.held[self.end] = question, self.vector(question)
        self.end += 1

    def forget(self, first: int) -> None:
        self.held = {entry: one for entry, one in self.held.items() if entry >= first}

    def member(self, question: Question) -> Member:
        rows = [
            [weight * one for one in self.groups[part]]
            for part, weight in self.vector(question).items()
            if part in self.groups
        ]
        return member_of([added(column) for column in zip(*rows, strict=True)])

    def alike(self, question: Question) -> list[tuple[float, int]]:
        vector = self.vector(question)
        partial: dict[int, float] = defaultdict(float)
        read = 0
        for part in sorted(vector, key=lambda part: (-self.rare(part), part))[:RAREST]:
            there = [(entry, one[part]) for entry, (_, one) in self.held.items() if part in one]
            read += len(there)
            if partial and read > semantic_index.MOST_READ:
                break
            for entry, weight in there:
                partial[entry] += vector[part] * weight
        high = sorted(partial, key=lambda entry: (-partial[entry], entry))[:CANDIDATES]
        found = []
        for entry in high:
            other = self.held[entry][1]
            found.append((added([one * other.get(part, 0.0) for part, one in vector.items()]), entry))
        return sorted(found, key=lambda one: (-one[0], one[1]))

    def near(self, question: Question) -> tuple[Nearest, ...]:
        found = self.alike(question)[:NEIGHBOURS]
        held = [self.held[entry][0] for _, entry in found]
        told = compared(
            question, held, [likeness for likeness, _ in found], self.rarity, self.rarest, NEIGHBOURS
        )
        mine = self.member(question)
        return tuple(
            Nearest(
                entry, (*features, *together(mine, self.member(one))), hashed(question, one),
                contradicts(question, one),
            )
            for (_, entry), one, features in zip(found, held, told, strict=True)
        )  # fmt: skip


def both(past: Sequence[Question], groups: Mapping[str, Sequence[float]]) -> tuple[Index, Plain]:
    rarity, rarest = rarity_of(past)
    return Index(rarity, rarest, Groups.of(groups)), Plain(rarity, rarest, groups)


def some_groups(past: Sequence[Question], many: int) -> dict[str, tuple[float, ...]]:
    """Weights of chance for every third part: of each group by ridge and by softmax, and of no group."""
    rng = np.random.default_rng(1)
    return {
        part: tuple(rng.standard_normal(2 * many + 1).tolist()) for part in sorted(rarity_of(past)[0])[::3]
    }


def same(one: Sequence[Nearest], two: Sequence[Nearest]) -> bool:
    """To the bit where ``sum`` does not make good for rounding, else to its last digits."""
    if sys.version_info < (3, 12):
        return list(one) == list(two)
    return [(a.entry, a.hashed, a.against) for a in one] == [
        (b.entry, b.hashed, b.against) for b in two
    ] and all(a.features == pytest.approx(b.features, abs=1e-12) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("most_read", [4000, 120])
def test_arrays_find_what_dictionaries_find(monkeypatch: pytest.MonkeyPatch, most_read: int) -> None:
    """Candidates, features and scores, with few places read and many, while old entries go."""
    monkeypatch.setattr(semantic_index, "MOST_READ", most_read)
    asked = questions(420, 3)
    index, plain = both(asked[:200], some_groups(asked[:200], 9))
    for k, question in enumerate(asked):
        if k % 7 == 0:
            assert index.alike(question) == plain.alike(question)
            assert same(index.near(question), plain.near(question))
        index.add(question, str(k))
        plain.add(question)
        if k > 150:
            index.forget(k - 150)
            plain.forget(k - 150)
    assert index.answer(419) == "419"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.sampled_from(["not", "my", "Card", "card", "to", "Rome", "12", "pin"]), max_size=6),
        max_size=14,
    ),
    st.integers(0, 6),
    st.integers(0, 3),
)
def test_arrays_find_what_dictionaries_find_of_any_words(
    said: list[list[str]], keep: int, groups: int
) -> None:
    """Also of nothing, of equal questions, of one entry, and without groups."""
    asked = [taken_apart(" ".join(words)) for words in said]
    index, plain = both(asked[:5], {})
    told = some_groups(asked, groups) if groups else {}
    plain.groups = told
    index.regroup(Groups.of(told))
    for k, question in enumerate(asked):
        assert index.alike(question) == plain.alike(question)
        assert same(index.near(question), plain.near(question))
        index.add(question, "")
        plain.add(question)
        index.forget(k - keep)
        plain.forget(k - keep)


def test_groups_that_come_later_are_read_of_what_is_held() -> None:
    """As if they had been known when it was kept."""
    asked = questions(60, 4)
    groups = some_groups(asked, 5)
    early, plain = both(asked, groups)
    late, _ = both(asked, {})
    for question in asked:
        early.add(question, "")
        late.add(question, "")
        plain.add(question)
    late.regroup(Groups.of(groups))
    assert late.near(asked[3]) == early.near(asked[3])
    assert same(early.near(asked[3]), plain.near(asked[3]))


def test_a_sparse_read_of_a_large_index_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few of many entries share a part, places are sorted instead of counted over all entries."""
    asked = questions(200, 5)
    index, plain = both(asked, {})
    for question in asked:
        index.add(question, "")
        plain.add(question)
    for sparse in (0, 10**9):
        monkeypatch.setattr(semantic_index, "_SPARSE", sparse)
        assert all(index.alike(question) == plain.alike(question) for question in asked[::9])


def test_a_copy_goes_its_own_way() -> None:
    """What one of the two keeps or lets go, the other neither finds nor misses."""
    asked = questions(120, 6)
    index, plain = both(asked, some_groups(asked, 3))
    for question in asked[:60]:
        index.add(question, "")
        plain.add(question)
    twin = index.copy()
    for question in asked[60:]:
        twin.add(question, "")
    twin.forget(50)
    assert all(same(index.near(question), plain.near(question)) for question in asked[::7])
    index.forget(60)
    assert index.near(asked[3]) == ()
    assert twin.near(asked[70])


def test_what_was_let_go_leaves_nothing_behind() -> None:
    """Words of entries that are gone, their numbers and places."""
    index, _ = both([], {})
    for k in range(300):
        index.add(taken_apart(f"card {k} of number {k * 7919}"), "")
        index.forget(k - 9)
    held = {part for k in range(290, 300) for part in taken_apart(f"card {k} of number {k * 7919}").parts}
    assert set(index._places) == held
    assert len(index._named) < 3 * len(held)
    index.forget(300)
    assert index.near(taken_apart("card 299")) == ()
    assert not index._places
