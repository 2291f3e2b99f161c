"""How sure a count of wrong answers is where requests come in sessions: pure Python, as
:mod:`isocost.policy.proven`.

A session is drawn, not a request: who got a wrong answer asks again, and is told the same. So the requests of
one session count as one draw, whatever they have to do with each other, and a session is given at most so
many cached answers (``most_each``), so that no single one can hold all that is wrong.

The bound is a bet. On each session of S requests with W wrong answers, at most ``most_each``, a fortune of 1
is multiplied by 1 + stake (share * S - W). If on average more than ``share`` of the requests were wrong, the
fortune would grow in no mean (the product of means is at most the power of their mean), and so reach
1 / (1 - confidence) with at most that chance (Markov); Waudby-Smith and Ramdas (2024) bet likewise. Sessions
may differ, and long ones may be wrong more often: no length is taken for granted but what ``most_each`` says
of answers. One stake for all, set by the number of requests and by words, not by grades, is what makes that
true.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

WEIGHT = 10.0
"""Of as many wrong answers as a limit allows, a session may get one at most."""
STAKED = 0.9
"""Of a fortune, at most so much is staked on a session that could be wholly wrong."""
_STAKES = 200
_ROUNDS = 60

Tally = tuple[int, int, int]
"""Requests of a session, wrong answers among them, and how many sessions were like that."""


def most_each(requests: int, most_frac: float) -> int:
    """The most answers that a session may be given, for ``requests`` to prove anything.

    >>> most_each(2616, 0.01), most_each(300, 0.01)
    (2, 1)
    """
    return max(1, int(requests * most_frac / WEIGHT))


def stake(requests: int, each: int, most_frac: float, confidence: float) -> float:
    """What is staked on every session: at this, the most sessions may have one wrong answer.

    >>> round(stake(2616, 1, 0.01, 0.95), 2), round(stake(2616, 4, 0.01, 0.95), 3)
    (0.44, 0.225)
    """
    most, goal = requests * most_frac, -math.log1p(-confidence)
    stakes = [STAKED * k / _STAKES / each for k in range(1, _STAKES + 1)]
    return max(stakes, key=lambda bet: (bet * most - goal) / -math.log1p(-bet))


def tallied(units: Sequence[int], wrong: Iterable[int], each: int) -> tuple[Tally, ...]:
    """Sessions by size and wrong answers: ``units`` has the session of every request, ``wrong`` those of the
    wrong answers. More than ``each`` of one session count as ``each``.

    >>> tallied([7, 7, 8, 9], [7, 9], 1)
    ((1, 0, 1), (1, 1, 1), (2, 1, 1))
    """
    many, bad = Counter(units), Counter(wrong)
    kinds = Counter((size, min(each, bad[unit])) for unit, size in many.items())
    return tuple((size, amiss, count) for (size, amiss), count in sorted(kinds.items()))


def upper(tallies: Sequence[Tally], each: int, most_frac: float, confidence: float) -> float:
    """The upper confidence bound of wrong answers a request; 1 where nothing is shown.

    ``most_frac`` is the limit that it will be held against: it sets the stake, and the bound holds whatever
    it is.

    >>> round(upper([(1, 0, 2602), (1, 14, 1)], 1, 0.01, 0.95), 4)  # one session of 14: counted as it is
    1.0
    >>> round(upper([(1, 0, 2602), (1, 1, 14)], 1, 0.01, 0.95), 4)
    0.0096
    >>> round(upper([(2, 0, 1302), (2, 1, 6)], 2, 0.01, 0.95), 4)
    0.0056
    """
    requests = sum(size * many for size, _, many in tallies)
    if requests < 1 or any(wrong > each for _, wrong, _ in tallies):
        return 1.0
    bet, goal = stake(requests, each, most_frac, confidence), -math.log1p(-confidence)
    low, high = 0.0, 1.0
    if _fortune(tallies, bet, high) < goal:
        return 1.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _fortune(tallies, bet, middle) < goal else (low, middle)
    return high


def _fortune(tallies: Sequence[Tally], bet: float, share: float) -> float:
    """Logarithm of the fortune where ``share`` of the requests is what is bet against."""
    return math.fsum(many * math.log1p(bet * (share * size - wrong)) for size, wrong, many in tallies)


def is_alone(units: Sequence[int]) -> bool:
    """Whether each request is a session of its own: then counts are exact (Clopper and Pearson)."""
    return len(set(units)) == len(units)


def numbered(names: Iterable[str]) -> list[int]:
    """Numbers of sessions by name; who has no name is alone.

    >>> numbered(["a", "", "a", ""])
    [0, 1, 0, 2]
    """
    known: dict[str, int] = {}
    out, after = [], 0
    for name in names:
        number = known.get(name, after) if name else after
        after += number == after
        if name:
            known[name] = number
        out.append(number)
    return out


def able(units: Sequence[int], keys: Mapping[int, object]) -> int:
    """The most different questions of one session that a cache could answer: ``keys`` has the words of each
    request that can be answered, by its place."""
    some: dict[int, set[object]] = {}
    for place, key in keys.items():
        some.setdefault(units[place], set()).add(key)
    return max((len(one) for one in some.values()), default=1)
