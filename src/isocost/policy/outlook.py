"""What more grades would buy: the certified saving to be expected after them, and how sure that is.

Nothing here looks at a certifying question that no fit has tested yet: who stops grading because such
questions look well has been fooled before the test begins. So what is foretold rests on the questions that
choose and on those that earlier fits tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput
from isocost.policy.agree import Part
from isocost.policy.difficulty import rows_of
from isocost.policy.fit import Candidate, candidates, compared, differences, doubt_of, on
from isocost.policy.looks import Look, earlier, hashed, left, level, scaled, seen_by
from isocost.policy.outcomes import Bools, Outcomes
from isocost.policy.prepared import SAME, Ground, Prepared, Wanted, comparable, ground, part, prepared, splits
from isocost.policy.pricing import RELATIVE, supposed
from isocost.policy.study import ROUTING, others

STEPS = (0, 100, 300, 1000, 3000)
"""Further grades whose worth is shown; 0: a fit now, of questions that no fit has tested."""
_HALVINGS = 4
"""Times that A is halved to see how much it flatters."""
_ALIKE = 1e-4
"""Savings that differ by less are one."""
_INSIDE = 0.8
"""Probability that the saving is within the interval that is foretold."""


class Rung(msgspec.Struct, frozen=True):
    """A candidate as far as it is known now.

    ``saving`` of strong-only's cost; ``difference`` of quality with its standard error ``doubt``, from A and
    the tested questions of B together, A's marked down by the ladder's ``flattery``; ``on_b`` the difference
    on the latter alone; ``discordant`` the share of questions with another quality.
    """

    saving: float
    difference: float
    doubt: float
    on_b: float
    discordant: float


class Outlook(msgspec.Struct, frozen=True):
    """A workload as it stands: what earlier looks certified (``saving`` 0: nothing), and what is known of the
    candidates without the questions of B that wait to be tested.

    ``labels`` are the graded questions that were needed, of ``questions`` in A and B; ``tested`` questions of
    B were tested, ``waiting`` were not. ``whole`` is the level of the next look where it is likely to
    certify, after ``looks``; ``left`` all that may still go wrong. ``usd_per_1000`` is what strong-only costs
    for 1,000 requests (``None``: prices are relative). ``ladder``: the candidates, from the safest;
    ``front``: of every policy that was looked at on A those that no other beats in saving and quality, as A
    has them;
    ``flattery`` by how much A flatters what was chosen on it (:func:`flattery`).
    """

    workload: str
    strong: str
    certified: bool
    saving: float
    max_loss: float
    confidence: float
    looks: int
    left: float
    whole: float
    labels: int
    questions: int
    tested: int
    waiting: int
    usd_per_1000: float | None
    ladder: tuple[Rung, ...]
    front: tuple[Rung, ...] = ()
    flattery: float = 0.0


class Worth(msgspec.Struct, frozen=True):
    """What ``labels`` more grades of a workload buy: the chance that a saving is certified then, the expected
    certified saving (share of strong-only's cost) with a central 80 % interval, and the dollars by which it
    is more than today's (``usd_per_month_low``: at the low end of a range of volumes; ``None``: no range, or
    no dollars)."""

    workload: str
    labels: int
    chance: float
    saving: float
    low: float
    high: float
    usd_per_month: float | None
    usd_per_month_low: float | None = None


def outlook(
    outcomes: Outcomes,
    at: CatalogAt,
    wanted: Wanted,
    looks: Sequence[Look] = (),
    strong: Mapping[str, str] | None = None,
) -> tuple[Outlook, ...]:
    """How each workload stands before the next fit; not of those whose grades do not tell models apart.

    ``strong`` is the strong model by workload where ``wanted`` names none; of the others it is the best.

    Raises:
        BadInput: as :func:`isocost.policy.study.study`, or there is no other workload.
    """
    given = prepared(outcomes, at, wanted)
    chosen = given.outcomes
    tell = {
        code: rows for code, rows in given.large.items() if len(comparable(chosen, splits(chosen, rows)[0]))
    }
    if not tell:
        raise BadInput(
            "models are graded on different questions, which tells nothing of what more would buy",
            fix=f"{SAME.capitalize()}, as a template of isocost measure LOG asks for",
        )
    out = []
    for code, rows in tell.items():
        name = chosen.workloads[code] or "*"
        held = wanted.strong or (strong or {}).get(name, "")
        of = ground(given, rows, msgspec.structs.replace(wanted, strong=held))
        out.append(_outlook(given, name, of, wanted, looks))
    return tuple(out)


def _outlook(given: Prepared, name: str, of: Ground, wanted: Wanted, looks: Sequence[Look]) -> Outlook:
    outcomes, alpha = given.outcomes, 1.0 - wanted.confidence
    qids = [outcomes.qid[i] for i in np.concatenate([of.a, of.b, of.c])]
    before = earlier(looks, ROUTING, qids, others(outcomes, of.strong))
    seen = seen_by(before)
    known = np.array([not hashed([outcomes.qid[i]]).isdisjoint(seen) for i in of.b], dtype=np.bool_)
    part_b = part(given, of, of.b)
    ran = [one.policy.run(part_b) for one in of.ladder]
    needed = np.zeros(len(of.b), dtype=np.bool_)
    for did in ran:
        needed |= did.differs
    won = [one for one in before if one.certified]
    flat = flattery(given, of, wanted.max_loss)
    labels = of.labels_a + int(needed.sum())
    return Outlook(
        name, outcomes.models[of.strong], bool(won), won[-1].saving if won else 0.0, wanted.max_loss,
        wanted.confidence, len(before), left(alpha, before), level(alpha, before),
        labels, len(of.a) + len(of.b), int(known.sum()), int((~known).sum()),
        None if supposed(RELATIVE, given.prices, outcomes).any() else 1000 * of.unit,
        tuple(rung(one, part_b, known, flat) for one in of.ladder), _front(of.every, flat), flat,
    )  # fmt: skip


def flattery(given: Prepared, of: Ground, max_loss: float) -> float:
    """By how much the quality of the candidates, as A's own folds have it, is above what it is elsewhere, for
    they were picked for looking well.

    Candidates are chosen on one half of A and held against the other half, and the other way round, so that
    the luck of the questions cancels; a choice among twice as many is flattered half as much.
    """
    part_a = part(given, of, of.a, fill=True)
    above: list[float] = []
    for seed in range(_HALVINGS):
        order = np.random.default_rng(seed).permutation(len(part_a))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for mine, yours in (halves, halves[::-1]):
            words = None if of.words is None else rows_of(of.words, of.a[mine])
            other = part_a.take(yours)
            for one in candidates(part_a.take(mine), len(of.b), max_loss, words):
                did = on(one.policy, of.words, of.a[yours]).run(other)
                above.append(one.expected.difference - float(differences(did, other).mean()))
    return max(0.0, float(np.mean(above)) / 2) if above else 0.0


def _front(every: Sequence[Candidate], flat: float) -> tuple[Rung, ...]:
    """Policies that no other beats in saving and quality, from the boldest, as split A has them: each marked
    down for having been picked among many, and its kind as a choice of candidates doubts it."""
    out: list[Rung] = []
    for one in sorted(every, key=lambda one: (-one.expected.saving_frac, -one.expected.difference)):
        seen = one.expected
        error = (max(seen.discordant_frac, 1.0 / seen.questions) / seen.questions) ** 0.5
        down = max(flat, doubt_of(one.name) * error)
        if seen.saving_frac > 0 and (not out or seen.difference - down > out[-1].difference):
            doubt = math.hypot(error, flat / 2)
            out.append(Rung(seen.saving_frac, seen.difference - down, doubt, 0.0, seen.discordant_frac))
    return tuple(out)


def rung(one: Candidate, of: Part, known: Bools, flat: float = 0.0) -> Rung:
    """A candidate with what folds of A and the ``known`` questions of B say of it together; what it costs is
    that on all of B, which tells nothing of quality."""
    did = one.policy.run(of)
    on_b, seen = differences(did, of)[known], one.expected
    n = seen.questions + len(on_b)
    discordant = (seen.discordant_frac * seen.questions + float((on_b != 0).sum())) / n
    both = ((seen.difference - flat) * seen.questions + float(on_b.sum())) / n
    doubt = math.hypot((max(discordant, 1.0 / n) / n) ** 0.5, flat / 2 * seen.questions / n)
    return Rung(
        compared(did, of).saving_frac, both, doubt,
        float(on_b.mean()) if len(on_b) else 0.0, discordant,
    )  # fmt: skip


def worth(found: Outlook, usd_per_month: float | None, low: float | None = None) -> tuple[Worth, ...]:
    """What further grades of a workload would buy: expected certified saving then, and more than now.

    ``usd_per_month`` is what strong-only costs (``None``: not known in dollars), ``low`` at the low end of a
    range.

    They fall on A, B and C as those did that are there. A candidate will pass where its difference on B,
    tested and new questions together, is above what the test asks; what the new ones will show is not known
    better than A and the tested ones know it today (its predictive distribution, normal). Candidates are
    tried from the safest, and each passes at most as likely as those before. More of A chooses better: what
    a choice on it lacks is about half of what it flatters, and falls as A grows. And it chooses anew, by as
    much as A then is new: among all that A has looked at, not only today's candidates.
    """
    now, out = found.saving, []
    for labels in STEPS:
        if not labels and not found.waiting:
            continue
        growth = 1.0 + labels / max(1, found.labels)
        fresh = found.waiting + (growth - 1.0) * (found.tested + found.waiting)
        reach = _reach(found, fresh, growth)
        points = [now, *sorted({saving for saving, _ in reach if saving > now + _ALIKE})]
        # How likely the certified saving is at least that of each point.
        least = [
            1.0 if k == 0 else max(likely for saving, likely in reach if saving >= at)
            for k, at in enumerate(points)
        ]
        saved = now + math.fsum(
            (high - low) * likely for low, high, likely in zip(points, points[1:], least[1:], strict=False)
        )
        low_end, high_end = (
            max(at for at, likely in zip(points, least, strict=True) if likely >= share)
            for share in ((1 + _INSIDE) / 2, (1 - _INSIDE) / 2)
        )
        chance = 1.0 if found.certified else max(least[1:], default=0.0)
        gain, at_low = (None if usd is None else (saved - now) * usd for usd in (usd_per_month, low))
        out.append(Worth(found.workload, labels, chance, saved, low_end, high_end, gain, at_low))
    return tuple(out)


def _reach(found: Outlook, fresh: float, growth: float) -> list[tuple[float, float]]:
    """Savings, and how likely at least each is certified with ``fresh`` new questions of B, where A has grown
    to ``growth`` times its size."""
    better = found.flattery / 2 * (1.0 - 1.0 / growth)
    alpha, size = found.whole, found.tested + fresh

    def likely(one: Rung, tested: int, new: float) -> float:
        later = msgspec.structs.replace(one, difference=one.difference + better, on_b=one.on_b + better)
        return _passes(later, tested, new, found.max_loss, alpha)

    if found.ladder:
        alpha = scaled(alpha, likely(found.ladder[0], found.tested, fresh))
    kept, best = [], 1.0
    for one in found.ladder:
        best = min(best, likely(one, found.tested, fresh))
        kept.append((one.saving, best))
    alpha = found.whole
    anew = [(one.saving, likely(one, 0, size)) for one in found.front]
    new = 1.0 - 1.0 / growth

    def at_least(among: list[tuple[float, float]], saving: float) -> float:
        return max((chance for at, chance in among if at >= saving), default=0.0)

    return [
        (at, (1.0 - new) * at_least(kept, at) + new * at_least(anew, at))
        for at in sorted({at for at, _ in (*kept, *(anew if new else ()))})
    ]


def _passes(one: Rung, tested: int, fresh: float, max_loss: float, alpha: float) -> float:
    """How likely a candidate passes on ``tested`` old and ``fresh`` new questions of B."""
    n = tested + fresh
    if n <= 0 or alpha <= 0:
        return 0.0
    spread = max(one.discordant - one.difference**2, max_loss)
    mean = (tested * one.on_b + fresh * one.difference) / n
    sd = fresh / n * math.sqrt(one.doubt**2 + spread / max(fresh, 1.0))
    bar = NormalDist().inv_cdf(1.0 - alpha) * math.sqrt(spread / n) - max_loss
    return NormalDist().cdf((mean - bar) / max(sd, 1e-12))
