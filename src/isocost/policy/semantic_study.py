"""Fit a semantic cache's verifier on past requests, certify it by playing the cache, report it on later ones.

Requests come in order, each in a scope. The first part fits (:mod:`isocost.policy.semantic_fit`). On the
second the cache is played as it will run, what it misses kept and what it answers not, at thresholds from the
strictest on, which the scores alone have fixed; the loosest is kept before the first whose upper bound
of wrong hits per request exceeds the limit. In that fixed order no threshold is tested
that chance alone let through, so the confidence needs no correction. The third part is played on and told;
nothing was chosen by it.

A wrong hit is not kept, so whoever asks nearly the same again is wrong again. Equal words get no second
answer that is not their own (:meth:`isocost.policy.semantic_cache.SemanticCache.serve`). Where requests name
their session these are what is drawn (:mod:`isocost.policy.drawn`); else each request is, and the bound is
Clopper and Pearson's. What strangers ask of each other's near words is taken as independent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from isocost.errors import BadInput
from isocost.policy.drawn import Tally, able, most_each, numbered, tallied
from isocost.policy.looks import Look
from isocost.policy.proven import Proven, banded, upper, upper_of
from isocost.policy.semantic import Nearest, Weights, best, rarity_of, taken_apart
from isocost.policy.semantic_cache import SemanticCache, readable
from isocost.policy.semantic_fit import CERTIFIES, LEAST_PAIRS, cut, fit
from isocost.policy.semantic_index import Index
from isocost.policy.semantic_lapse import features_digest
from isocost.policy.semantic_learn import Grown, Read, graded_pairs, grouped, learn
from isocost.policy.semantic_looks import SPENT, Turn, taken, turn
from isocost.units import plural

LEAST_REQUESTS = 300
"""Certifying requests below which not even a cache without a wrong hit proves 1 % at 95 %."""
MORE_WRONG = "more answers were wrong than the limit allows"
TOO_SMALL = "the certifying part is too small to show it"
BANDS = 10
DIGITS = 5
"""Digits of a fitted weight that are kept: the file is certified as it is written."""
NEVER = 1e300
"""A score that no pair reaches."""
EXPECTED = (
    0.02, 0.05, 0.1, 0.12, 0.14, 0.16, 0.18, 0.21, 0.25, 0.3, 0.35, 0.4, 0.47, 0.55, 0.65, 0.75, 0.9, 1.1,
    1.3, 1.6, 2.0, 2.6,
)  # fmt: skip
"""Wrong answers that scores expect, over the limit, at the thresholds that are tried. Scores are surer than
they should be, so that the first to fail may expect a fifth of the limit: there the steps are short."""

Grade = Callable[[int, int], bool | None]
"""Whether the answer of request j would do for request i; ``None``: nobody has said."""


class Asked(NamedTuple):
    """A request as a cache sees it. ``unit`` is its session (blank: it is alone). ``is_kept_only``: it fills
    the cache and is not counted. ``is_repeat``: an exact cache answers it, if a model answered the first."""

    text: str
    scope: bytes = b""
    at_s: float = 0.0
    is_kept_only: bool = False
    unit: str = ""
    is_repeat: bool = False

    @property
    def counts(self) -> bool:
        """Whether it comes to the cache as a request of its own."""
        return not (self.is_kept_only or self.is_repeat)


class Wanted(msgspec.Struct, frozen=True):
    """What is asked of a cache, and how it keeps answers; ``unit`` is what requests are drawn by."""

    most_wrong_frac: float = 0.01
    confidence: float = 0.95
    labels: int = 3500
    ttl_s: float = math.inf
    most_entries: int = 0
    versions: Mapping[str, str] = {}
    made: str = ""
    unit: str = "request"
    workload: str = "*"


class Pair(NamedTuple):
    """A pair to be graded: request ``asked`` would get the answer of request ``held``; ``part`` fit or
    certify."""

    asked: int
    held: int
    part: str
    score: float


class CacheStudy(msgspec.Struct, frozen=True):
    """What was found. ``proven`` is ``None`` where nothing could be certified, for the reason ``why``.

    ``verifier`` is the fitted file, whose digest the certificate names. ``to_grade`` are pairs whose grades
    would go on with it. ``later_*`` are of the reporting part (NaN: none, or not graded). ``units`` are the
    sessions (visits, users: ``unit``) of the certifying requests, of which each is given at most
    ``most_each`` answers; 0 where requests are drawn one by one. It was look number ``look`` at those
    requests (0: no test came about), tested at ``level``; ``looks`` are to be kept.
    """

    requests: int
    fitted: int
    certifying: int
    labels: int
    proven: Proven | None
    why: str
    verifier: bytes
    to_grade: tuple[Pair, ...]
    later_requests: int
    later_hit_frac: float
    later_wrong_frac: float
    unit: str = "request"
    units: int = 0
    most_each: int = 0
    look: int = 0
    level: float = 0.0
    looks: tuple[Look, ...] = ()


def study(
    asked: Sequence[Asked],
    wanted: Wanted,
    grade: Grade,
    *,
    graded: Mapping[tuple[int, int], bool] | None = None,
    looks: Sequence[Look] | None = None,
    ids: Sequence[str] | None = None,
) -> CacheStudy:
    """Fit, certify and report.

    Where every pair can be graded, ``grade`` is asked as it is needed, for fitting at most ``wanted.labels``
    times. Where only some were, ``graded`` has those of (later, earlier) requests. ``looks`` are those that
    were taken before, at any requests; these are told apart by ``ids`` (default: their words). ``None``: this
    is the only look that there will be.

    Raises:
        BadInput: a limit, a confidence or a count of grades that cannot be meant, or too few requests.
    """
    if wanted.labels < LEAST_PAIRS:
        raise BadInput(
            f"{wanted.labels} graded pairs to fit on", fix=f"Type --labels 3500, at least {LEAST_PAIRS}"
        )
    if not 0 < wanted.most_wrong_frac < 0.5 or not 0.5 <= wanted.confidence < 1:
        raise BadInput(
            f"at most {wanted.most_wrong_frac:g} wrong at {wanted.confidence:g}",
            fix="Type --max-wrong 1% --confidence 95%",
        )
    past = _Past(asked, wanted)
    n, (first, end) = len(past.counted), past.cut
    if end - first < LEAST_REQUESTS:
        raise BadInput(
            f"{n} requests leave {end - first} to certify on", where="semantic cache",
            fix=f"At least {math.ceil(LEAST_REQUESTS / CERTIFIES):,} are needed",
        )  # fmt: skip
    fits, certifies = past.counted[first], past.counted[end]
    past.draw(fits, certifies)
    weights = past.fitted(fits, grade, graded)
    if isinstance(weights, str):
        return past.stopped(fits, weights, past.to_fit(fits) if graded is not None else ())
    # Certified as it is written: a rounded weight is another weight.
    weights = msgspec.json.decode(written(weights), type=Weights)
    past.look(weights, (fits, certifies), grade, looks, ids)
    if past.turn is not None and not past.turn.level:
        return past.stopped(fits, SPENT, ())
    found = [best(weights, one) for one in past.near(weights, fits, certifies)]
    order = sorted((i for i, (one, _) in enumerate(found) if one is not None), key=lambda i: -found[i][1])
    bars = thresholds([found[i][1] for i in order], len(found), wanted.most_wrong_frac)
    shown: _Claim | None = None
    open_: tuple[Pair, ...] = ()
    why = MORE_WRONG if bars else "no later question is surely one that was asked before"
    if past.bound(range(fits, certifies), ()) > wanted.most_wrong_frac:
        many = len(past.turn.before) if past.turn else 0
        left = f" at what {plural(many, 'earlier look')} at it left" if many else ""
        why = f"{TOO_SMALL}{left}, even if no answer were wrong"
        bars = []
    for bar in bars:
        claim = past.claimed(weights, bar, (fits, certifies), grade)
        if claim.upper > wanted.most_wrong_frac:
            # What nobody has graded counts as wrong; the grades of all that may come are asked for at once.
            if claim.ungraded:
                why = "certifying pairs are not graded yet"
                pairs = [(fits + i, one.entry, score) for i in order for one, score in [found[i]] if one]
                more = (Pair(i, j, "certify", x) for i, j, x in pairs if x >= bars[-1])
                ask = {(one.asked, one.held): one for one in (*claim.ungraded, *more)}
                open_ = tuple(one for pair, one in ask.items() if grade(*pair) is None)
            break
        shown = claim
    if shown is None:
        return past.stopped(fits, why, open_)
    return past.proven(weights, shown, (fits, certifies), n, grade, open_)


def thresholds(scores: Sequence[float], many: int, most_wrong_frac: float) -> list[float]:
    """Thresholds to try, the strictest first: where the scores themselves (descending) expect so many wrong
    answers among ``many`` requests. They rest on no grade of these requests.

    >>> thresholds([9.0, 9.0, 0.0], 3, 0.1)
    [9.0, 0.0]
    """
    expected, step, bars = 0.0, 0, []
    last = math.inf
    for score in scores:
        expected += 1.0 / (1.0 + math.exp(min(score, 500.0)))
        while step < len(EXPECTED) and expected > EXPECTED[step] * most_wrong_frac * many:
            step += 1
            if math.isfinite(last) and last not in bars:
                bars.append(last)
        if step == len(EXPECTED):
            return bars
        last = score
    return bars + [last] * (math.isfinite(last) and last not in bars)


def first_pairs(asked: Sequence[Asked], wanted: Wanted) -> tuple[Pair, ...]:
    """Pairs whose grades fit a verifier, at most ``wanted.labels``."""
    past = _Past(asked, wanted)
    return past.to_fit(past.counted[past.cut[0]] if past.counted else 0)


def written(weights: Weights) -> bytes:
    """The verifier's file: numbers of few digits, and a threshold that lets nothing through: the
    certificate's does."""
    plain = msgspec.to_builtins(msgspec.structs.replace(weights, threshold=NEVER))
    return msgspec.json.encode(_short(plain))


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def digest(file: bytes) -> str:
    """A verifier's file by its content."""
    return hashlib.sha256(file).hexdigest()[:12]


class _Claim(NamedTuple):
    """What a play of the cache at a threshold came to on the certifying requests: (request, whose answer or
    -1, score) of each, wrong hits, their bound a request, hits that nobody has graded, and which requests
    were answered wrong."""

    threshold: float
    played: list[tuple[int, int, float]]
    wrong: int
    upper: float
    ungraded: tuple[Pair, ...]
    amiss: list[int]


def grown_of(graded: Mapping[tuple[int, int], bool]) -> Grown:
    """Groups of one answer from pairs that people graded, whichever pairs these were."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent.setdefault(i, i) != i:
            i = parent[i]
        return i

    for (one, two), same in graded.items():
        a, b = root(one), root(two)
        if same and a != b:
            parent[max(a, b)] = min(a, b)
    apart = {
        (min(a, b), max(a, b))
        for (one, two), same in graded.items()
        if not same
        for a, b in [(root(one), root(two))]
    }
    return Grown({i: root(i) for i in parent}, frozenset(apart), len(graded))


class _Past:
    """Requests taken apart once, and what was graded of them."""

    def __init__(self, asked: Sequence[Asked], wanted: Wanted) -> None:
        self.asked = asked
        self.wanted = wanted
        self.questions = [taken_apart(one.text) if readable(one.text) else None for one in asked]
        self.units = numbered(one.unit for one in asked)
        self.counted = [i for i, one in enumerate(asked) if one.counts]
        self.cut = cut([self.units[i] for i in self.counted])
        """Where, of the requests that count, those that fit end and those that certify."""
        self.most_each = self.drawn = 0
        self.labels = 0
        self.read: dict[tuple[int, int], bool] = {}
        self.sure = wanted.confidence
        self.turn: Turn | None = None
        self._filled: tuple[Weights, int, SemanticCache, list[int]] | None = None

    def draw(self, start: int, end: int) -> None:
        """Settle how many answers a session is given: none is to weigh too much among those that certify, and
        none needs more than the most that any could use in the whole log."""
        if self.wanted.unit == "request":
            return
        met: set[bytes] = set()
        keys: dict[int, object] = {}
        for i, (one, question) in enumerate(zip(self.asked, self.questions, strict=True)):
            if one.counts and question is not None and one.scope in met:
                keys[i] = question.stems
            met |= {one.scope} if question is not None else set()
        mine = [i for i in range(start, end) if self.asked[i].counts]
        self.drawn = len({self.units[i] for i in mine})
        self.most_each = min(able(self.units, keys), most_each(len(mine), self.wanted.most_wrong_frac))

    def look(
        self,
        weights: Weights,
        parts: tuple[int, int],
        grade: Grade,
        looks: Sequence[Look] | None,
        ids: Sequence[str] | None,
    ) -> None:
        """Settle which look at the certifying requests this is, and how sure it is to be."""
        if looks is None:
            return
        wanted, (start, end) = self.wanted, parts
        alpha = 1.0 - wanted.confidence
        names = [one.text for one in self.asked] if ids is None else ids
        mine = [names[i] for i in range(start, end) if self.asked[i].counts]
        rests_on = (
            digest(written(weights)), features_digest(), wanted.most_wrong_frac, wanted.confidence,
            wanted.ttl_s, wanted.most_entries, wanted.unit, self.most_each, parts, self.asked[:end],
        )  # fmt: skip
        self.turn = turn(looks, rests_on, mine, alpha, grade)
        self.sure = 1.0 - self.turn.level

    def bound(self, rows: Iterable[int], wrong: Iterable[int]) -> float:
        """The upper bound of wrong answers a request, of requests ``rows`` and those that were ``wrong``."""
        limit, sure = self.wanted.most_wrong_frac, self.sure
        counted = [i for i in rows if self.asked[i].counts]
        if not self.most_each:
            return upper(sum(1 for _ in wrong), len(counted), sure)
        return upper_of(self.tallies(counted, wrong), self.most_each, limit, sure)

    def tallies(self, rows: Iterable[int], wrong: Iterable[int]) -> tuple[Tally, ...]:
        """Sessions by requests and wrong answers."""
        units = self.units
        return tallied([units[i] for i in rows], [units[i] for i in wrong], self.most_each)

    def _cache(self, weights: Weights, end: int) -> tuple[SemanticCache, list[int]]:
        """A cache that was off for the first requests, and so kept each; the request of each that it kept.

        Every threshold is played from the same one, so it is filled once and copied."""
        if self._filled is None or self._filled[0] is not weights or self._filled[1] != end:
            cache = SemanticCache(weights, self.wanted.ttl_s, self.wanted.most_entries)
            kept = []
            for i in range(end):
                if (question := self.questions[i]) is not None and not self.asked[i].is_repeat:
                    cache.keep(self.asked[i].scope, question, "", self.asked[i].at_s)
                    kept.append(i)
            self._filled = weights, end, cache, kept
        *_, cache, kept = self._filled
        return cache.copy(), list(kept)

    def _looked(
        self, cache: SemanticCache, kept: list[int], start: int, end: int, *, all_alike: bool
    ) -> tuple[list[tuple[Nearest, ...]], list[list[tuple[float, int]]]]:
        """Candidates of requests, and the most alike, each earlier one kept; numbered as the requests are."""
        near: list[tuple[Nearest, ...]] = []
        alike: list[list[tuple[float, int]]] = []
        for i in range(start, end):
            one, question = self.asked[i], self.questions[i]
            some: tuple[Nearest, ...] = ()
            if question is not None and one.counts:
                found = cache.near(one.scope, question, one.at_s)
                some = tuple(c._replace(entry=kept[cache.number(one.scope, c.entry)]) for c in found)
            near.append(some)
            if all_alike:
                loud = cache.alike(one.scope, question, one.at_s) if question is not None and some else []
                alike.append([(x, kept[k]) for x, k in loud])
            if question is not None and not one.is_repeat:
                cache.keep(one.scope, question, "", one.at_s)
                kept.append(i)
        return near, alike

    def fitted(self, fits: int, grade: Grade, graded: Mapping[tuple[int, int], bool] | None) -> Weights | str:
        """A verifier of the first requests, or why there is none."""
        past = [one for one in self.questions[:fits] if one is not None]
        plain = Weights(*rarity_of(past), (), (), (), (), 0.0)
        cache, kept = self._cache(plain, 0)
        near, _ = self._looked(cache, kept, 0, fits, all_alike=False)
        index = Index(plain.rarity, plain.rarest)
        # An exact cache answers whole repeats: there is nothing to grade.
        vectors = [
            index.vector(one) if one is not None and not self.asked[i].is_repeat else {}
            for i, one in enumerate(self.questions[:fits])
        ]
        if graded is None:
            scopes = [one.scope for one in self.asked[:fits]]
            grown, read = learn(vectors, lambda i, j: bool(grade(i, j)), self.wanted.labels, scopes)
        else:
            grown = grown_of({pair: same for pair, same in graded.items() if max(pair) < fits})
            read = Read.of(vectors, sorted(grown.group))
        self.labels = grown.labels
        if not grown.labels:
            is_alike = graded is not None and any(near)
            return (
                "pairs to fit on are not graded yet" if is_alike else "no two questions to fit on are alike"
            )
        groups, members = grouped(read, grown)
        pairs, same = graded_pairs(near, grown, members)
        if graded is None and len(pairs) < LEAST_PAIRS:
            # Nobody can grade more of them.
            return f"only {plural(len(pairs), 'pair')} to fit on are alike, and {LEAST_PAIRS} are needed"
        return fit(pairs, same, plain.rarity, plain.rarest, groups)

    def near(self, weights: Weights, start: int, end: int) -> list[tuple[Nearest, ...]]:
        """Candidates of the requests from ``start`` on; those that only fill the cache have none."""
        cache, kept = self._cache(weights, start)
        return self._looked(cache, kept, start, end, all_alike=False)[0]

    def to_fit(self, fits: int) -> tuple[Pair, ...]:
        """Pairs whose grades would fit a verifier: each request with the one that is most alike."""
        past = [one for one in self.questions[:fits] if one is not None]
        cache, kept = self._cache(Weights(*rarity_of(past), (), (), (), (), 0.0), 0)
        _, alike = self._looked(cache, kept, 0, fits, all_alike=True)
        found = [(i, *one[0]) for i, one in enumerate(alike) if one]
        many = min(len(found), self.wanted.labels)
        some = [found[k * len(found) // many] for k in range(many)]
        return tuple(Pair(i, j, "fit", likeness) for i, likeness, j in some)

    def play(
        self, weights: Weights, threshold: float, start: int, marks: Sequence[int]
    ) -> list[list[tuple[int, int, float]]]:
        """The cache as it runs: of each part between marks (request, whose answer or -1, score)."""
        cache, kept = self._cache(weights, start)
        parts: list[list[tuple[int, int, float]]] = []
        part: list[tuple[int, int, float]] = []
        for i in range(start, marks[-1]):
            one, question = self.asked[i], self.questions[i]
            if i in marks[:-1]:
                parts.append(part)
                part = []
            given, score = -1, -math.inf
            if question is None:
                is_kept = False
            elif one.is_repeat:
                is_kept = cache.owes(one.scope, question, one.at_s)
            elif one.is_kept_only:
                is_kept = True
            else:
                session = str(self.units[i]) if self.most_each else ""
                seen, hit = cache.serve(one.scope, question, one.at_s, threshold, session, self.most_each)
                score, given, is_kept = seen.score, kept[seen.number] if hit else -1, not hit
            if question is not None and is_kept:
                cache.keep(one.scope, question, "", one.at_s)
                kept.append(i)
            if one.counts:
                part.append((i, given, score))
        return [*parts, part]

    def claimed(self, weights: Weights, threshold: float, parts: tuple[int, int], grade: Grade) -> _Claim:
        """Play the cache at a threshold on the certifying requests; what is not graded counts as wrong."""
        (part,) = self.play(weights, threshold, parts[0], (parts[1],))
        hits = [(i, j, score) for i, j, score in part if j >= 0]
        told = [self._told(grade, i, j) for i, j, _ in hits]
        open_ = tuple(
            Pair(i, j, "certify", score)
            for (i, j, score), same in zip(hits, told, strict=True)
            if same is None
        )
        amiss = [i for (i, _, _), same in zip(hits, told, strict=True) if not same]
        return _Claim(threshold, part, len(amiss), self.bound([i for i, _, _ in part], amiss), open_, amiss)

    def _told(self, grade: Grade, i: int, j: int) -> bool | None:
        """A grade, counted once."""
        same = grade(i, j)
        if same is not None and (i, j) not in self.read:
            self.read[i, j] = same
            self.labels += 1
        return same

    def proven(
        self,
        weights: Weights,
        claim: _Claim,
        parts: tuple[int, int],
        n: int,
        grade: Grade,
        to_grade: tuple[Pair, ...],
    ) -> CacheStudy:
        """The certificate of a claim, and what the cache did later on."""
        wanted, (fits, certifies) = self.wanted, parts
        _, after = self.play(weights, claim.threshold, fits, (certifies, len(self.asked)))
        b = claim.played
        finite = [score for _, _, score in b if math.isfinite(score)]
        edges = np.unique(np.quantile(finite, np.arange(1, BANDS) / BANDS)).tolist() if finite else []
        later = [(i, j) for i, j, _ in after if j >= 0]
        known = [grade(i, j) for i, j in later]
        file = written(weights)
        found = Proven(
            claim.threshold, wanted.most_wrong_frac, wanted.confidence, len(b),
            sum(j >= 0 for _, j, _ in b), claim.wrong, claim.upper, self.labels, wanted.made,
            features_digest(), digest(file), dict(wanted.versions), tuple(edges),
            banded([score for _, _, score in b], edges), len(after), len(later),
            -1 if None in known else sum(not same for same in known),
            self.wanted.unit, self.drawn, self.most_each,
            self.tallies([i for i, _, _ in b], claim.amiss) if self.most_each else (),
            self.turn.level if self.turn else 0.0,
        )  # fmt: skip
        many = len(after) or math.nan
        return CacheStudy(
            n, self._counted(fits), len(b), self.labels, found, "", file, to_grade, len(after),
            len(later) / many, math.nan if found.later_wrong < 0 else found.later_wrong / many,
            wanted.unit, self.drawn, self.most_each, *self._looked_at(found),
        )  # fmt: skip

    def stopped(self, fits: int, why: str, to_grade: tuple[Pair, ...]) -> CacheStudy:
        """A study without a certificate."""
        fitted = self._counted(fits)
        return CacheStudy(
            len(self.counted), fitted, self.cut[1] - self.cut[0], self.labels, None, why, b"", to_grade,
            len(self.counted) - self.cut[1], math.nan, math.nan, self.wanted.unit, self.drawn, self.most_each,
            *self._looked_at(None),
        )  # fmt: skip

    def _looked_at(self, found: Proven | None) -> tuple[int, float, tuple[Look, ...]]:
        """Which look it was, at what level, and what is to be kept of it."""
        this = self.turn
        if this is None:
            return 0, 0.0, ()
        new = taken(
            this, self.wanted.workload, self.wanted.made, self.read, found.hit_frac if found else None
        )
        if new is None and this.held is None:
            return 0, 0.0, ()
        return this.number, this.level, () if new is None else (new,)

    def _counted(self, end: int) -> int:
        return sum(one.counts for one in self.asked[:end])
