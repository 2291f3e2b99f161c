"""Exact finite-sample tests of a mean of paired differences: no normal approximation decides anything.

A difference is quality of the policy minus quality of the strong model on one question. Where qualities are
0 or 1 it is -1, 0 or 1, and :func:`loss_p` is an exact unconditional test; else it lies in [-1, 1], and
:func:`betting_p` is a test by betting (Waudby-Smith and Ramdas, 2024), valid for any bounded outcome. Which
of the two is used is settled by the kind of outcomes, never by what they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TAIL_SD = 8.0
"""Counts further from their mean than this, and 15 more, are taken to reject; ``_TAIL`` is added for them."""
_TAIL = 1e-9
_OUTSIDE = 1e-3
"""Probability that the share of discordant questions is outside the range that is looked at; added to p.
Less where less than 5 % may go wrong, in proportion (:func:`_outside`): else no small level could be met."""
_ALIKE = 20
"""Twice the root of the discordant questions from which samples are told apart by the statistic alone."""
_CLOSE = 1e-4
"""How near a confidence bound is searched."""
_STEPS = (0.1, 0.02, 0.005)
"""Widths of the grid over that share, in the arc length of its likelihood; finer only if it matters."""
_FIRST_STEP = 0.4
"""Such a width that settles most of what is clear, where a yes or no is all that is asked."""


def loss_p(n: int, wins: int, losses: int, max_loss: float, alpha: float = 0.05) -> float:
    """P-value of "the mean difference is below -max_loss" from ``n`` differences in {-1, 0, 1}.

    The share of questions on which the two differ is not known. The p-value is the largest over a range
    that holds the share but for a probability of 0.001 (of ``alpha`` / 50 where that is less), which is added
    (Berger and Boos): an exact unconditional test of matched pairs, ordered by the difference in units of its
    spread. Between the
    points of a grid the probability is bounded: arcsin of its square root moves by no more than the arc
    length of the likelihood (half the integral of the root of Fisher's information). So the result is never
    below the true p-value; the grid is refined where it and ``alpha`` are close. ``max_loss`` may be
    negative (a gain).

    >>> loss_p(300, 0, 0, 0.01) > 0.99**300, loss_p(310, 0, 0, 0.01) < 0.05  # no loss in 300 is too few
    (True, True)
    >>> loss_p(300, 0, 9, 0.01) > 0.5, loss_p(1000, 30, 20, 0.01) < 0.02
    (True, True)
    """
    if n < 1 or min(wins, losses) < 0 or wins + losses > n:
        raise ValueError(f"{wins} wins and {losses} losses of {n}")
    if max_loss >= 1.0:
        return 0.0
    if max_loss <= -1.0:
        return 1.0
    return _upper_p(n, wins, losses, max_loss, alpha, alpha / 4, _STEPS)


def _upper_p(
    n: int, wins: int, losses: int, max_loss: float, alpha: float, enough: float, steps: Sequence[float]
) -> float:
    """The p-value, its grid refined until it is above ``alpha`` or not above ``enough``."""
    upper, both, outside = 1.0, wins + losses, _outside(alpha)
    seen = _seen(n, wins, losses, max_loss)
    for step in steps:
        shares, slack = _grid(n, (both, both), max_loss, step, outside)
        best = min(1.0, float(_rejects(n, seen, max_loss, shares).max()) + _TAIL)
        upper = min(upper, _at_most(best, slack) + outside)
        if best > alpha or upper <= enough:
            break
    return min(1.0, upper)


def _at_most(best: float, slack: float) -> float:
    """What a probability may be between two points of a grid, ``slack`` of arc length from the nearer."""
    return math.sin(min(math.pi / 2, math.asin(math.sqrt(best)) + slack)) ** 2


def is_proven(n: int, wins: int, losses: int, max_loss: float, alpha: float = 0.05) -> bool:
    """Whether :func:`loss_p` is at most ``alpha``, without the work that a sharper p-value takes.

    >>> is_proven(300, 0, 0, 0.01), is_proven(310, 0, 0, 0.01)
    (False, True)
    """
    if max_loss >= 1.0:
        return True
    if _is_far(n, wins, losses, max_loss, alpha):
        return False
    return _upper_p(n, wins, losses, max_loss, alpha, alpha, (_FIRST_STEP, *_STEPS)) <= alpha


def _is_far(n: int, wins: int, losses: int, max_loss: float, alpha: float) -> bool:
    """Whether the statistic is under a 90 % point of any share: no exact test at 5 % would say otherwise."""
    return alpha <= 0.05 and wins - losses + n * max_loss <= 1.2 * math.sqrt(max(1, wins + losses))


class Proofs:
    """:func:`is_proven` for many samples of ``n`` differences, each answered from those asked before where
    it follows.

    With as many discordant questions, more wins are never less of a proof. Samples with about as many
    (half a standard deviation) are told apart by the statistic alone: one at which the least of all shares
    that any of them allows is rejected is proven for all of them, and so is every larger one.

    >>> ask = Proofs(310, 0.01)
    >>> ask(0, 0), ask(2, 2), ask(1, 3), ask.worked_out
    (True, False, False, 2)
    """

    def __init__(self, n: int, max_loss: float, alpha: float = 0.05) -> None:
        self.n, self.max_loss, self.alpha = n, max_loss, alpha
        self.worked_out = 0
        self._bars: dict[int, tuple[int, int]] = {}
        self._about: dict[int, tuple[float, float]] = {}

    def __call__(self, wins: int, losses: int) -> bool:
        """Whether ``wins`` and ``losses`` prove it."""
        both, net = wins + losses, wins - losses
        not_by, by = self._bars.get(both, (-self.n - 1, self.n + 1))
        if net <= not_by or net >= by:
            return net >= by
        if _is_far(self.n, wins, losses, self.max_loss, self.alpha):
            return False
        proven = self._alike(wins, losses)
        if proven is None:
            proven = is_proven(self.n, wins, losses, self.max_loss, self.alpha)
            self.worked_out += 1
            self._bars[both] = (not_by, net) if proven else (net, by)
        return proven

    def _alike(self, wins: int, losses: int) -> bool | None:
        """What holds for all samples with about as many discordant questions; ``None``: it differs."""
        root = int(2.0 * math.sqrt(wins + losses))
        fewest, most = -(-(root**2) // 4), min(self.n, ((root + 1) ** 2 - 1) // 4)
        if root < _ALIKE or fewest <= self.n * abs(self.max_loss):
            return None
        seen = _seen(self.n, wins, losses, self.max_loss)
        not_by, by = self._about.get(root, (-math.inf, math.inf))
        if seen <= not_by or seen >= by:
            return seen >= by
        outside = _outside(self.alpha)
        for step in (_FIRST_STEP, *_STEPS[:2]):
            shares, slack = _grid(self.n, (fewest, most), self.max_loss, step, outside)
            chance = _rejects(self.n, seen, self.max_loss, shares)
            upper = _at_most(min(1.0, float(chance.max()) + _TAIL), slack) + outside
            if upper <= self.alpha:
                self._about[root] = (not_by, seen)
                return True
            inner = _grid(self.n, (most, fewest), self.max_loss, step, outside)[0]
            mine = chance[(shares >= inner[0]) & (shares <= inner[-1])]
            if len(mine) and mine.max() > self.alpha:
                self._about[root] = (seen, by)
                return False
        return None


def loss_lower(n: int, wins: int, losses: int, alpha: float = 0.05) -> float:
    """Lower confidence bound of the mean difference, by inverting :func:`loss_p`.

    >>> round(loss_lower(300, 0, 0), 4)
    -0.0101
    """
    low, high = -1.0, (wins - losses) / n
    # A few standard errors below what was seen is nearly always proven: a narrow bracket is searched faster.
    near = high - (4.0 * math.sqrt(wins + losses + 1) + 8.0) / n
    if near > low and is_proven(n, wins, losses, -near, alpha):
        low = near
    while high - low > _CLOSE:
        mid = (low + high) / 2
        low, high = (mid, high) if is_proven(n, wins, losses, -mid, alpha) else (low, mid)
    return low


def _outside(alpha: float) -> float:
    """``_OUTSIDE``, or less for a level under 5 %: set by the level alone, before anything is seen."""
    return min(_OUTSIDE, alpha / 50)


def _grid(
    n: int, discordant: tuple[int, int], max_loss: float, step: float, outside: float = _OUTSIDE
) -> tuple[Floats, float]:
    """Shares of discordant questions to look at, and half the arc length between two of them: from the least
    that the first count of ``discordant`` allows to the largest that the second does.

    A share outside has n KL(seen, share) above ln(2 / ``outside``) (Chernoff). The root of its information
    is at most the sum of the roots of n / (4 win), n / (4 loss) and n / (1 - share), whose integrals are
    square roots: the grid is even in their sum.
    """
    least, ends = abs(max_loss), []
    share = least + (1.0 - least) * np.linspace(0.0, 1.0, 20_001) ** 2
    for count, end in zip(discordant, (0, -1), strict=True):
        seen = count / n
        with np.errstate(divide="ignore", invalid="ignore"):
            away = np.where(seen > 0, seen * np.log(seen / share), 0.0)
            away = away + np.where(seen < 1, (1 - seen) * np.log((1 - seen) / (1 - share)), 0.0)
        near = np.flatnonzero(n * away <= math.log(2.0 / outside))
        ends += [int(near[end])] if len(near) else []
    # Where the least share that the claim allows is already too large, it alone stands for all.
    share = share[max(0, ends[0] - 1) : ends[1] + 2] if len(ends) == 2 else share[:2]
    arc = 0.5 * math.sqrt(n) * (
        np.sqrt(np.maximum(0.0, 2 * (share - max_loss))) + np.sqrt(np.maximum(0.0, 2 * (share + max_loss)))
        - 2.0 * np.sqrt(1.0 - share)
    )  # fmt: skip
    arc -= arc[0]
    count = max(2, math.ceil(arc[-1] / step) + 1)
    at = np.interp(np.linspace(0.0, arc[-1], count), arc, share)
    return at, arc[-1] / (count - 1) / 2 * 1.01


def _rejects(n: int, seen: float, max_loss: float, shares: Floats) -> Floats:
    """Probability, at each share of discordant questions, of a statistic of at least the one ``seen``.

    The trinomial probabilities of (wins, losses) at one share are those at another times a power for each
    win and each loss, so all shares are two products of matrices.
    """
    p_win = np.clip((shares - max_loss) / 2, 1e-300, 1.0)
    p_loss = np.clip((shares + max_loss) / 2, 1e-300, 1.0)
    p_same = np.clip(1.0 - shares, 1e-300, 1.0)
    w, v = _window(n, p_win), _window(n, p_loss)
    # All that depends on the sum of both counts is worked out once for each sum, and read along diagonals.
    both = np.arange(w[0] + v[0], w[-1] + v[-1] + 1)
    mid = len(shares) // 2
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    same = np.maximum(0, n - both)
    # What each count more takes from the rest is shared out, so that no factor overflows or vanishes.
    each = math.log(max(1, same[len(same) // 2])) - math.log(p_same[mid])
    log_w, log_v = (c * (math.log(p[mid]) + each) - logs[c] for c, p in ((w, p_win), (v, p_loss)))
    tops = float(log_w.max()), float(log_v.max())
    log_both = logs[n] + (n - both) * math.log(p_same[mid]) - logs[same] - both * each + sum(tops)
    likely = np.where(both <= n, np.exp(log_both), 0.0)
    bar = seen * np.sqrt(both + max(n * abs(max_loss), 1.0)) - n * max_loss
    by_sum, bars = (np.lib.stride_tricks.sliding_window_view(one, len(v)) for one in (likely, bar))
    table = by_sum * (w[:, None] - v[None, :] >= bars)
    table *= np.exp(log_w - tops[0])[:, None]
    table *= np.exp(log_v - tops[1])[None, :]
    # Powers are centred, so that they neither overflow nor vanish; a chance of zero allows only a count of
    # zero.
    level = np.log(p_same / p_same[mid])
    scale = n * level
    sides = []
    for chance, counts in ((p_win, w), (p_loss, v)):
        middle = counts[len(counts) // 2]
        grows = np.log(chance / chance[mid]) - level
        powers = np.exp(np.clip(grows[:, None] * (counts - middle)[None, :], -650.0, 650.0))
        never = chance <= 1e-300
        powers[never] = counts == 0
        scale += np.where(never, 0.0, grows * middle)
        sides.append(powers)
    return np.asarray(
        ((sides[0] @ table) * sides[1]).sum(axis=1) * np.exp(np.clip(scale, -650.0, 650.0)), np.float64
    )


def _window(n: int, p: Floats) -> npt.NDArray[np.int64]:
    """Counts that a binomial (n, p) takes, for any of the ``p``, but for a vanishing probability."""
    sd = np.sqrt(n * p * (1.0 - p))
    first = max(0, math.floor(float((n * p - _TAIL_SD * sd).min())) - 15)
    last = min(n, math.ceil(float((n * p + _TAIL_SD * sd).max())) + 15)
    return np.arange(first, last + 1)


def _score(both: npt.NDArray[np.int64], net: npt.NDArray[np.int64], n: int, max_loss: float) -> Floats:
    """What orders the outcomes: wins - losses above -max_loss, in units of its spread; larger speaks
    against it."""
    return np.asarray((net + n * max_loss) / np.sqrt(both + max(n * abs(max_loss), 1.0)), dtype=np.float64)


def _seen(n: int, wins: int, losses: int, max_loss: float) -> float:
    """The statistic that was seen, less what rounding may take from an equal one."""
    seen = float(_score(np.array([wins + losses]), np.array([wins - losses]), n, max_loss)[0])
    return seen - 1e-9 * (1.0 + abs(seen))


def betting_p(differences: Floats, max_loss: float) -> float:
    """P-value of "the mean difference is below -max_loss" for differences in [-1, 1], in the order given.

    A fortune of 1 is staked on each next difference at a bet that only earlier ones set (the growth-optimal
    approximation, at most half of what could be lost); if the claim were true the fortune would exceed 1/p
    with probability at most p (Ville's inequality). The order must not depend on the values.

    >>> betting_p(np.full(100, 0.2), 0.01) < 1e-3, betting_p(np.full(100, -0.2), 0.01)
    (True, 1.0)
    """
    if len(differences) and (differences.min() < -1.0 or differences.max() > 1.0):
        raise ValueError("differences lie in [-1, 1]")
    x, mean = (differences + 1.0) / 2.0, (1.0 - max_loss) / 2.0
    if mean <= 0.0:
        return 0.0
    counts = np.arange(1, len(x) + 1)
    before = np.concatenate([[0.5], (0.5 + np.cumsum(x)) / (counts + 1.0)])[:-1]
    spread = np.concatenate([[0.25], (0.25 + np.cumsum((x - before) ** 2)) / (counts + 1.0)])[:-1]
    gap = before - mean
    stake = np.clip(gap / (spread + gap**2), 0.0, 0.5 / mean)
    fortune = np.cumsum(np.log1p(stake * (x - mean)))
    return float(min(1.0, math.exp(-max(0.0, float(fortune.max(initial=0.0))))))


def betting_lower(differences: Floats, alpha: float = 0.05) -> float:
    """Lower confidence bound of the mean of differences in [-1, 1], by inverting :func:`betting_p`."""
    low, high = -1.0, 1.0
    for _ in range(20):
        mid = (low + high) / 2
        if betting_p(differences, -mid) <= alpha:
            low = mid
        else:
            high = mid
    return low


def saving_moments(saved: Floats, base: Floats) -> Floats:
    """What :func:`saving_interval` sums over questions, (9, n): of what each cost less than ``base``, and of
    ``base``."""
    s, b = saved, base
    return np.stack([s, b, s * s, s * b, b * b, s * s * s, s * s * b, s * b * b, b * b * b])


def saving_interval(sums: Floats, n: int, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Two-sided interval of the saving, a ratio of means, from the sums of :func:`saving_moments` over ``n``
    questions: ``alpha / 2`` on each side; (9, ...) gives (...).

    Normal for the ratio's linear part, after the cubic transformation that takes out its skewness (Hall,
    1992): close for a few hundred questions and more, not exact. No saving is above 1.

    >>> saved, base = np.tile([1.0, 0.2], 100), np.tile([2.0, 1.0], 100)
    >>> [round(float(end), 3) for end in saving_interval(saving_moments(saved, base).sum(axis=1), 200)]
    [0.382, 0.418]
    """
    s, b, ss, sb, bb, sss, ssb, sbb, bbb = np.asarray(sums, dtype=np.float64) / max(1, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(b > 0.0, s / b, 0.0)
        # Moments of saved - seen * base, whose mean is zero.
        second = np.maximum(0.0, ss - 2 * seen * sb + seen**2 * bb)
        third = sss - 3 * seen * ssb + 3 * seen**2 * sbb - seen**3 * bbb
        skew = np.where(second > 0.0, third / second**1.5, 0.0) / math.sqrt(max(1, n))
        step = np.where(b > 0.0, np.sqrt(second / max(1, n)) / b, np.inf)
        ends = []
        for z in (NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(alpha / 2)):
            straight = z - skew / 6
            bent = 3.0 / skew * (np.cbrt(1.0 + skew * straight) - 1.0)
            ends.append(seen - step * np.where(np.abs(skew) < 1e-6, straight, bent))
    return ends[0], np.minimum(1.0, ends[1])


def labels_needed(
    mean: float, discordant: float, max_loss: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """About how many questions would certify a policy, or ``None`` where no number would: it loses too much,
    or nothing may go wrong (``alpha`` 0).

    A plan for the next sample, not a proof: a normal approximation with the mean and the share of discordant
    questions as they look now.

    >>> labels_needed(0.0, 0.1, 0.01), labels_needed(-0.02, 0.1, 0.01)
    (6183, None)
    """
    gap = mean + max_loss
    if gap <= 0.0 or alpha <= 0.0:
        return None
    z = NormalDist().inv_cdf(1.0 - alpha) + NormalDist().inv_cdf(power)
    return math.ceil(z**2 * max(discordant - mean**2, max_loss) / gap**2)


def least_questions(max_loss: float, alpha: float = 0.05) -> int:
    """The fewest questions that certify a loss of at most ``max_loss``, where none was won and none lost.

    >>> least_questions(0.01), least_questions(0.01, 0.04)
    (303, 325)
    """
    low, high = 1, 2
    while not is_proven(high, 0, 0, max_loss, alpha):
        low, high = high, 2 * high
    while high - low > 1:
        mid = (low + high) // 2
        low, high = (low, mid) if is_proven(mid, 0, 0, max_loss, alpha) else (mid, high)
    return high


def power(n: int, mean: float, discordant: float, max_loss: float, alpha: float = 0.05) -> float:
    """About how likely ``n`` questions certify a policy (normal approximation; picks candidates, proves
    nothing).

    >>> round(power(1000, 0.01, 0.1, 0.01), 2)
    0.64
    """
    if n < 1:
        return 0.0
    spread = math.sqrt(max(discordant - mean**2, max_loss) / n)
    return NormalDist().cdf((mean + max_loss) / spread - NormalDist().inv_cdf(1.0 - alpha))
