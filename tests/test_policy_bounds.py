"""The certificate's tests: against full enumeration, and their coverage where it is worst."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial, norm

from isocost.policy.bounds import betting_lower, betting_p, labels_needed, loss_lower, loss_p, power

ALPHA = 0.05


def enumerated(n: int, wins: int, losses: int, max_loss: float, share: float) -> float:
    """Probability of an outcome at least as extreme, summed over every outcome."""

    def score(w: int, v: int) -> float:
        return (w - v + n * max_loss) / math.sqrt(w + v + max(n * abs(max_loss), 1.0))

    win, loss = (share - max_loss) / 2, (share + max_loss) / 2
    seen = score(wins, losses) - 1e-9
    return sum(
        float(multinomial.pmf((w, v, n - w - v), n, (win, loss, 1 - share)))
        for w in range(n + 1)
        for v in range(n + 1 - w)
        if score(w, v) >= seen
    )


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (4, 1), (9, 3), (2, 5)])
def test_p_value_is_never_below_the_enumerated_one(wins: int, losses: int) -> None:
    n, max_loss = 40, 0.1
    found = loss_p(n, wins, losses, max_loss)
    # The share may lie outside the range that is looked at with probability 0.001, which is added.
    worst = max(enumerated(n, wins, losses, max_loss, float(s)) for s in np.linspace(max_loss, 0.3, 41))
    if found < ALPHA:
        assert worst <= found + 1e-9


@pytest.mark.parametrize("share", [0.0101, 0.05, 0.2])
@pytest.mark.parametrize("n", [200, 600])
def test_coverage_where_the_loss_is_exactly_the_margin(n: int, share: float) -> None:
    """At the edge of the claim, whatever the share of discordant questions, at most 5 in 100 pass."""
    max_loss, draws = 0.01, 4_000
    rng = np.random.default_rng(7)
    counts = rng.multinomial(n, ((share - max_loss) / 2, (share + max_loss) / 2, 1 - share), size=draws)
    different, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    plain = (different[:, 0] - different[:, 1] + n * max_loss) / np.sqrt(np.maximum(1, different.sum(axis=1)))
    passed = sum(
        int(times[i])
        for i, (w, v) in enumerate(different)
        if plain[i] > 1.2 and loss_p(n, int(w), int(v), max_loss, ALPHA) <= ALPHA
    )
    assert passed / draws <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / draws)


def test_the_exact_test_costs_little_against_the_normal_one() -> None:
    """Where the normal approximation is fit to be used, the exact p-value is near it."""
    n, wins, losses = 2000, 130, 110
    normal = float(norm.sf((wins - losses + 20) / math.sqrt(wins + losses)))
    assert normal <= loss_p(n, wins, losses, 0.01) <= normal + 0.004


@settings(max_examples=25, deadline=None)
@given(st.integers(50, 600), st.integers(0, 20), st.integers(0, 20))
def test_more_wins_never_speak_against_a_policy(n: int, wins: int, losses: int) -> None:
    here = loss_p(n, wins, losses, 0.02)
    # Far below the level the grid is not refined, so p-values are compared with the level alone.
    assert loss_p(n, wins + 5, losses, 0.02) <= ALPHA or here > ALPHA
    assert 0.0 <= here <= 1.0


def test_the_lower_bound_is_where_the_test_turns() -> None:
    low = loss_lower(800, 40, 30)
    assert low < 10 / 800
    assert loss_p(800, 40, 30, -low) <= ALPHA < loss_p(800, 40, 30, -low - 0.002)


@pytest.mark.parametrize("kind", ["rare", "wide", "graded"])
def test_betting_covers_at_the_edge(kind: str) -> None:
    rng = np.random.default_rng(3)
    max_loss, n, draws = 0.05, 300, 600
    made = {
        "rare": lambda: np.where(rng.random(n) < max_loss, -1.0, 0.0),
        "wide": lambda: np.where(rng.random(n) < (1 - max_loss) / 2, 1.0, -1.0),
        "graded": lambda: np.clip(rng.normal(-max_loss, 0.2, n), -max_loss - 0.4, -max_loss + 0.4),
    }[kind]
    passed = sum(betting_p(made(), max_loss) <= ALPHA for _ in range(draws))
    assert passed / draws <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / draws)


def test_betting_certifies_what_is_plain() -> None:
    rng = np.random.default_rng(5)
    assert betting_p(rng.normal(0.05, 0.1, 500).clip(-1, 1), 0.01) < 0.001
    assert 0.0 < betting_lower(rng.normal(0.05, 0.1, 500).clip(-1, 1)) < 0.06


def test_labels_and_power_agree() -> None:
    need = labels_needed(0.005, 0.1, 0.01)
    assert need is not None
    assert power(need, 0.005, 0.1, 0.01) == pytest.approx(0.8, abs=0.01)
    assert labels_needed(-0.01, 0.1, 0.01) is None


@pytest.mark.parametrize("bad", [(0, 0, 0), (10, 6, 5), (10, -1, 0)])
def test_counts_that_cannot_be_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="of"):
        loss_p(*bad, 0.01)
