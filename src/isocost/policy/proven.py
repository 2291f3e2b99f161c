"""What was proven of a semantic cache, as it is written in ``plan.toml``: pure Python, so that whatever runs
a plan live can hold it.

A claim is *with this confidence, at most so many of all requests get a wrong cached answer*. It rests on
counts, and a claim that does not follow from its own counts is refused (:func:`check`). It lapses where what
it rests on is another one (:func:`isocost.policy.semantic_lapse.lapsed`): features, verifier, the model
behind the answers, the questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from isocost.errors import BadLimits
from isocost.policy import drawn


class Proven(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A certificate of a semantic cache.

    ``threshold`` is the least score at which an answer is given. Of ``requests`` in order, which the verifier
    had not seen, ``hits`` got a cached answer and ``wrong`` of these were graded wrong; so with
    ``confidence`` at most ``wrong_most_frac`` of all requests get a wrong answer, which is within
    ``most_wrong_frac``. ``labels`` counts every pair that was graded. ``features`` and ``verifier`` are
    digests of what is read of questions and of the fitted file; ``versions`` the models whose answers are
    kept; ``edges`` and ``scores`` how the best candidates' scores were spread (the last count: nothing
    alike). ``later_*`` are what was seen on later requests that chose nothing; no claim rests on them.

    ``level`` is the chance of a false certificate that the counts were tested at, where looks at the same
    requests share ``1 - confidence`` (:mod:`isocost.policy.looks`); 0: it is the only one.

    ``unit`` is what was drawn as one: ``request``, or ``session`` (``visit``, ``user``), of which there were
    ``units``, each given at most ``most_each`` cached answers; ``tallies`` are (requests, wrong, how many
    sessions were so). Blank: an older form that took requests as independent; it counts no more
    (:func:`isocost.policy.semantic_lapse.lapsed`).
    """

    threshold: float
    most_wrong_frac: float
    confidence: float
    requests: int
    hits: int
    wrong: int
    wrong_most_frac: float
    labels: int
    made: str
    features: str
    verifier: str
    versions: dict[str, str] = {}
    edges: tuple[float, ...] = ()
    scores: tuple[int, ...] = ()
    later_requests: int = 0
    later_hits: int = 0
    later_wrong: int = -1
    unit: str = ""
    units: int = 0
    most_each: int = 0
    tallies: tuple[tuple[int, int, int], ...] = ()
    level: float = 0.0

    @property
    def sure(self) -> float:
        """Confidence at which its counts were tested: the claim's, or more."""
        return 1.0 - self.level if self.level else self.confidence

    @property
    def hit_frac(self) -> float:
        """Share of the certifying requests that were answered."""
        return self.hits / self.requests

    @property
    def wrong_of_hits_frac(self) -> float:
        """Share of the hits that were wrong, as seen."""
        return self.wrong / max(1, self.hits)


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hits of so many requests, counted elsewhere: what a replay plays where a log has no words."""

    requests: int
    hits: int


def check(found: Proven, where: str) -> None:
    """A claim that follows from its counts and meets its limit.

    Raises:
        BadLimits: it does not, or the counts cannot be.
    """
    fix = "Write it as isocost policy fit PAIRS --cache does"
    if not 0 <= found.wrong <= found.hits <= found.requests or found.requests < 1:
        raise BadLimits(
            f"{found.wrong} wrong of {found.hits} hits of {found.requests} requests", where=where, fix=fix
        )
    if not 0.0 < found.most_wrong_frac < 1.0 or not 0.5 <= found.confidence < 1.0:
        raise BadLimits(
            f"most_wrong_frac {found.most_wrong_frac:g} at {found.confidence:g}", where=where, fix=fix
        )
    if not 0.0 <= found.level <= 1.0 - found.confidence + 1e-9:
        raise BadLimits(f"level {found.level:g} at {found.confidence:g}", where=where, fix=fix)
    most = bound(found, where)
    of = f" of {found.units:,} {found.unit}s" if found.units else ""
    if most > found.wrong_most_frac + 1e-6 or most > found.most_wrong_frac + 1e-9:
        raise BadLimits(
            f"{found.wrong} wrong of {found.requests} requests{of} prove at most {most:.2%}, not "
            f"{min(found.wrong_most_frac, found.most_wrong_frac):.2%}",
            where=where, fix=fix,
        )  # fmt: skip
    if not math.isfinite(found.threshold):
        raise BadLimits(f"threshold {found.threshold}", where=where, fix=fix)


def bound(found: Proven, where: str) -> float:
    """The upper bound that a certificate's counts come to.

    Raises:
        BadLimits: its sessions do not add up to its requests.
    """
    if found.unit in ("", "request"):
        return upper(found.wrong, found.requests, found.sure)
    units = sum(many for _, _, many in found.tallies)
    requests = sum(size * many for size, _, many in found.tallies)
    wrong = sum(amiss * many for _, amiss, many in found.tallies)
    whole = all(0 <= amiss <= min(size, found.most_each) and many > 0 for size, amiss, many in found.tallies)
    if not whole or (units, requests, wrong) != (found.units, found.requests, found.wrong):
        raise BadLimits(
            f"its {found.unit}s come to {units} with {wrong} wrong of {requests} requests", where=where,
            fix="Write it as isocost policy fit PAIRS --cache does",
        )  # fmt: skip
    return upper_of(found.tallies, found.most_each, found.most_wrong_frac, found.sure)


def upper_of(tallies: Sequence[drawn.Tally], each: int, most_frac: float, confidence: float) -> float:
    """The upper bound of wrong answers a request where sessions are drawn (:mod:`isocost.policy.drawn`);
    exact where each is one request."""
    if each == 1 and all(size == 1 for size, _, _ in tallies):
        wrong = sum(amiss * many for _, amiss, many in tallies)
        return upper(wrong, sum(many for _, _, many in tallies), confidence)
    return drawn.upper(tallies, each, most_frac, confidence)


def check_counted(found: Counted, where: str) -> None:
    """Counts that can be.

    Raises:
        BadLimits: they cannot.
    """
    if not 0 <= found.hits <= found.requests or found.requests < 1:
        raise BadLimits(
            f"{found.hits} hits of {found.requests} requests", where=where,
            fix="Write measured = { requests = 4000, hits = 1500 }",
        )  # fmt: skip


def upper(wrong: int, many: int, confidence: float) -> float:
    """The exact upper confidence bound of a share (Clopper and Pearson, 1934), one-sided.

    >>> round(upper(0, 300, 0.95), 4), upper(5, 5, 0.95)
    (0.0099, 1.0)
    """
    if many <= 0 or wrong >= many:
        return 1.0
    low, high = wrong / many, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _at_most(wrong, many, middle) > 1.0 - confidence else (low, middle)
    return high


def most_wrong(many: int, most_frac: float, confidence: float) -> int:
    """The most wrong ones of ``many`` that still prove a share of at most ``most_frac``; -1: not even none.

    >>> most_wrong(3925, 0.01, 0.95), most_wrong(200, 0.01, 0.95)
    (28, -1)
    """
    wrong = -1
    while wrong + 1 < many and _at_most(wrong + 1, many, most_frac) <= 1.0 - confidence:
        wrong += 1
    return wrong


def _at_most(wrong: int, many: int, share: float) -> float:
    """Probability of at most ``wrong`` of ``many``."""
    if share <= 0.0 or share >= 1.0:
        return float(share <= 0.0)
    log = math.lgamma(many + 1)
    terms = [
        log - math.lgamma(k + 1) - math.lgamma(many - k + 1) + k * math.log(share)
        + (many - k) * math.log1p(-share)
        for k in range(wrong + 1)
    ]  # fmt: skip
    top = max(terms)
    return min(1.0, math.exp(top) * math.fsum(math.exp(one - top) for one in terms))


def banded(scores: Sequence[float], edges: Sequence[float]) -> tuple[int, ...]:
    """How many scores lie in each band between edges; those that are not finite last.

    >>> banded([0.1, 0.9, 2.0, -math.inf], [0.5, 1.0])
    (1, 1, 1, 1)
    """
    counts = [0] * (len(edges) + 2)
    for one in scores:
        counts[sum(one >= edge for edge in edges) if math.isfinite(one) else -1] += 1
    return tuple(counts)
