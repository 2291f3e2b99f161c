"""What more grades would buy: the certified saving to be expected after them, and how sure that is.

Nothing here looks at a certifying question that no fit has tested yet: who stops grading because such
questions look well has been fooled before the test begins. So what is foretold rests on the questions that
choose and on those that earlier fits tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from isocost.catalog.catalog import CatalogAt
from isocost.policy.agree import Part
from isocost.policy.fit import Candidate, compared, differences
from isocost.policy.looks import Look, earlier, hashed, left, level, scaled, tested
from isocost.policy.outcomes import Bools, Outcomes
from isocost.policy.prepared import Ground, Prepared, Wanted, ground, part, prepared
from isocost.policy.pricing import RELATIVE, supposed
from isocost.policy.study import ROUTING, others

STEPS = (0, 100, 300, 1000, 3000)
"""Further grades whose worth is shown; 0: a fit now, of questions that no fit has tested."""
_ALIKE = 1e-4
"""Savings that differ by less are one."""
_INSIDE = 0.8
"""Probability that the saving is within the interval that is foretold."""


class Rung(msgspec.Struct, frozen=True):
    """A candidate as far as it is known now.

    ``saving`` of strong-only's cost; ``difference`` of quality with its standard error ``doubt``, from A and
    the tested questions of B together; ``on_b`` the difference on the latter alone; ``discordant`` the share
    of questions with another quality.
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
    for 1,000 requests (``None``: prices are relative). ``ladder``: the candidates, from the safest.
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
    outcomes: Outcomes, at: CatalogAt, wanted: Wanted, looks: Sequence[Look] = ()
) -> tuple[Outlook, ...]:
    """How each workload stands before the next fit.

    Raises:
        BadInput: as :func:`isocost.policy.study.study`.
    """
    given = prepared(outcomes, at, wanted)
    return tuple(
        _outlook(given, given.outcomes.workloads[code] or "*", ground(given, rows, wanted), wanted, looks)
        for code, rows in given.large.items()
    )


def _outlook(given: Prepared, name: str, of: Ground, wanted: Wanted, looks: Sequence[Look]) -> Outlook:
    outcomes, alpha = given.outcomes, 1.0 - wanted.confidence
    qids = [outcomes.qid[i] for i in np.concatenate([of.a, of.b, of.c])]
    before = earlier(looks, ROUTING, qids, others(outcomes, of.strong))
    seen = tested(before)
    known = np.array([not hashed([outcomes.qid[i]]).isdisjoint(seen) for i in of.b], dtype=np.bool_)
    part_b = part(given, of, of.b)
    ran = [one.policy.run(part_b) for one in of.ladder]
    needed = np.zeros(len(of.b), dtype=np.bool_)
    for did in ran:
        needed |= did.differs
    won = [one for one in before if one.certified]
    return Outlook(
        name, outcomes.models[of.strong], bool(won), won[-1].saving if won else 0.0, wanted.max_loss,
        wanted.confidence, len(before), left(alpha, before), level(alpha, before),
        of.labels_a + int(needed.sum()), len(of.a) + len(of.b), int(known.sum()), int((~known).sum()),
        None if supposed(RELATIVE, given.prices, outcomes).any() else 1000 * of.unit,
        tuple(rung(one, part_b, known) for one in of.ladder),
    )  # fmt: skip


def rung(one: Candidate, of: Part, known: Bools) -> Rung:
    """A candidate with what folds of A and the ``known`` questions of B say of it together; what it costs is
    that on all of B, which tells nothing of quality."""
    did = one.policy.run(of)
    on_b, seen = differences(did, of)[known], one.expected
    n = seen.questions + len(on_b)
    discordant = (seen.discordant_frac * seen.questions + float((on_b != 0).sum())) / n
    # Not marked down for having been picked: more of A will choose anew, and better.
    both = (seen.difference * seen.questions + float(on_b.sum())) / n
    spread = max(discordant, 1.0 / n)
    return Rung(
        compared(did, of).saving_frac, both, (spread / n) ** 0.5,
        float(on_b.mean()) if len(on_b) else 0.0, discordant,
    )  # fmt: skip


def worth(found: Outlook, usd_per_month: float | None, low: float | None = None) -> tuple[Worth, ...]:
    """What further grades of a workload would buy: expected certified saving then, and more than now.

    ``usd_per_month`` is what strong-only costs (``None``: not known in dollars), ``low`` at the low end of a
    range.

    They fall on A, B and C as those did that are there. A candidate will pass where its difference on B,
    tested and new questions together, is above what the test asks; what the new ones will show is not known
    better than A and the tested ones know it today (its predictive distribution, normal). Candidates are
    tried from the safest, and each passes at most as likely as those before.
    """
    now = found.saving
    out = []
    for labels in STEPS if found.waiting else STEPS[1:]:
        each = (found.tested + found.waiting) / max(1, found.labels)
        fresh = found.waiting + labels * each
        alpha = found.whole
        reached = 1.0
        steps: list[tuple[float, float]] = []
        for k, one in enumerate(found.ladder):
            if not k:
                alpha = scaled(alpha, _passes(one, found.tested, fresh, found.max_loss, alpha))
            reached = min(reached, _passes(one, found.tested, fresh, found.max_loss, alpha))
            if one.saving > max([now, *(saving for saving, _ in steps)]) + _ALIKE:
                steps.append((one.saving, reached))
        saved, below = now, now
        for saving, likely in steps:
            saved, below = saved + (saving - below) * likely, saving
        ends = [
            max([now, *(saving for saving, likely in steps if likely >= share)])
            for share in ((1 + _INSIDE) / 2, (1 - _INSIDE) / 2)
        ]
        chance = 1.0 if found.certified else max((likely for _, likely in steps), default=0.0)
        gain, least = (None if usd is None else (saved - now) * usd for usd in (usd_per_month, low))
        out.append(Worth(found.workload, labels, chance, saved, ends[0], ends[1], gain, least))
    return tuple(out)


def _passes(one: Rung, tested: int, fresh: float, max_loss: float, alpha: float) -> float:
    """How likely a candidate passes on ``tested`` old and ``fresh`` new questions of B."""
    n = tested + fresh
    if n <= 0:
        return 0.0
    spread = max(one.discordant - one.difference**2, max_loss)
    mean = (tested * one.on_b + fresh * one.difference) / n
    sd = fresh / n * math.sqrt(one.doubt**2 + spread / max(fresh, 1.0))
    bar = NormalDist().inv_cdf(1.0 - alpha) * math.sqrt(spread / n) - max_loss
    return NormalDist().cdf((mean - bar) / max(sd, 1e-12))
