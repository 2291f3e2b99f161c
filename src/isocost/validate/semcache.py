"""A semantic cache on questions whose answers are known to be the same or not.

Two kinds of file. ``text, label``: questions of which equal labels have one answer; they come in a random
order, each is looked up among all before it, and the labels only grade pairs that were asked for. ``text_a,
text_b, label``: pairs, where 1 means one answer; the cache holds the first of each. Requests are split in
order: a part fits the verifier on at most ``LABELS`` graded pairs, a part certifies the threshold at
``MOST_WRONG`` wrong hits a request with ``CONFIDENCE``, the last 30 % report. A request of the last part
passes where it got no wrong answer. ``ORDERS`` orders are played, and the spread is told. A column
``session`` or ``user`` says which requests are drawn together (:mod:`isocost.policy.drawn`); requests of two
values of a column ``tenant`` share no answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.policy.drawn import able, most_each, numbered
from isocost.policy.semantic import Nearest, Weights, best, rarity_of, taken_apart
from isocost.policy.semantic_cache import SemanticCache
from isocost.policy.semantic_fit import Certificate, certify, fit, parts
from isocost.policy.semantic_index import Index
from isocost.policy.semantic_learn import graded_pairs, grouped, learn
from isocost.policy.semantic_pairs import drawn_by, graded
from isocost.validate.table import rows_of

LABELS = 3500
MOST_WRONG = 0.01
CONFIDENCE = 0.95
MOST_ROWS = 20_000
"""Rows that are played: of more, so many are drawn."""
SEED = 20_261_123
ORDERS = 3
"""Random orders that are played: what one of them certifies says little, since chance alone moves it by some
percents of the requests."""
REPORTS = "counted for fitting or certifying"
BLANK = "no question or no label"
BEYOND = f"not among the {MOST_ROWS:,} drawn"


class SemcacheReport(msgspec.Struct, frozen=True):
    """Hits and wrong hits on the reporting part; ``frac`` are shares of its requests.

    ``plain_hit_frac`` and ``plain_wrong_frac`` are those of the loosest threshold within ``most_wrong_frac``
    on the certifying part, without a bound: what the certificate costs. ``hindsight_hit_frac`` is what the
    loosest threshold would have hit on the reporting part: what no one can know before. ``labels`` counts
    graded pairs, fitting and certifying. All this is of the first of the random ``orders``; of all of them
    ``mean_*``, ``least_*`` and ``most_*``.
    """

    path: str
    rows: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]
    verdict: str
    most_wrong_frac: float
    hit_frac: float
    wrong_frac: float
    plain_hit_frac: float
    plain_wrong_frac: float
    hindsight_hit_frac: float
    certified_wrong_frac: float
    labels: int
    refused: dict[str, int]
    orders: int
    mean_hit_frac: float
    least_hit_frac: float
    most_hit_frac: float
    most_wrong_seen_frac: float
    notes: tuple[str, ...]


class Row(NamedTuple):
    """Its questions, its label, where it stands; its ``unit`` (session, user; blank: alone) and tenant."""

    texts: tuple[str, ...]
    label: str
    where: str
    unit: str
    tenant: bytes


Rows = list[Row]


class _Played(NamedTuple):
    """One order: ``hit``, ``wrong`` and ``plain`` (bool) and ``right`` of its reporting requests."""

    rows: Rows
    certifies: int
    certificate: Certificate
    hit: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    plain: NDArray[np.bool_]
    right: NDArray[np.bool_]
    hindsight_hit_frac: float
    refused: dict[str, int]
    drawn: tuple[str, ...]


def validate_semcache(path: Path | str, orders: int = ORDERS) -> SemcacheReport:
    """Fit, certify and report a semantic cache on one file, in so many random orders of its rows.

    Raises:
        BadInput: the file cannot be read, or has neither set of columns, or too few questions.
    """
    kept, blank = _rows(Path(path))
    rng = np.random.Generator(np.random.PCG64(SEED))
    played = []
    for _ in range(orders):
        drawn = [kept[i] for i in rng.permutation(len(kept))[:MOST_ROWS]]
        played.append(_played(drawn))
    one = played[0]
    beyond = len(kept) - len(one.rows)
    left_out = {why: many for why, many in ((BLANK, blank), (BEYOND, beyond)) if many}
    hits = [float(each.hit.mean()) for each in played]
    wrongs = [float(each.wrong.mean()) for each in played]
    labels = [each.certificate.labels for each in played]
    off = math.isinf(one.certificate.threshold)
    spread = (
        f"in {orders} random orders of the rows {', '.join(f'{each:.1%}' for each in hits)} hit, "
        f"{sum(hits) / orders:.1%} in the mean, and {', '.join(f'{each:.2%}' for each in wrongs)} were "
        f"wrong, with {min(labels):,} to {max(labels):,} graded pairs: one order alone says little",
    ) if orders > 1 else ()  # fmt: skip
    return SemcacheReport(
        path=str(path),
        rows=len(kept) + blank,
        passed=int((~one.wrong).sum()),
        failed=tuple(one.rows[one.certifies + int(i)].where for i in np.flatnonzero(one.wrong)),
        left_out={REPORTS: one.certifies, **left_out},
        verdict="off: nothing certified" if off else "certified",
        most_wrong_frac=MOST_WRONG,
        hit_frac=hits[0],
        wrong_frac=wrongs[0],
        plain_hit_frac=float(one.plain.mean()),
        plain_wrong_frac=float((one.plain & ~one.right).mean()),
        hindsight_hit_frac=one.hindsight_hit_frac,
        certified_wrong_frac=one.certificate.upper_frac,
        labels=labels[0],
        refused=one.refused,
        orders=orders,
        mean_hit_frac=sum(hits) / orders,
        least_hit_frac=min(hits),
        most_hit_frac=max(hits),
        most_wrong_seen_frac=max(wrongs),
        notes=(
            f"{hits[0]:.1%} of requests hit and {wrongs[0]:.2%} got a wrong answer, with "
            f"{labels[0]:,} graded pairs; at most {MOST_WRONG:.0%} is certified at {CONFIDENCE:.0%}",
            *spread,
            f"{one.plain.mean():.1%} hit and {(one.plain & ~one.right).mean():.2%} are wrong where "
            f"{MOST_WRONG:.0%} is what was seen before, not what is proven",
            *one.drawn,
        ),
    )


def _played(rows: Rows) -> _Played:
    """Fit on the first rows, certify on the next, report on the last."""
    n = len(rows)
    fits, certifies = parts(n)
    weights, near, grade, fitted = (_of_pairs if len(rows[0].texts) == 2 else _of_questions)(rows, fits)
    units, each, drawn = _drawn(rows, fits, certifies)
    weights, certificate = certify(
        weights,
        near[fits:certifies],
        lambda i, entry: grade(fits + i, entry),
        most_wrong_frac=MOST_WRONG,
        confidence=CONFIDENCE,
        labels_used=fitted,
        units=units[fits:certifies] if each else None,
        each=each,
    )
    scores, right = _judged(weights, near, grade, certifies, n)
    hit = _given(scores >= weights.threshold, units[certifies:], each)
    return _Played(
        rows, certifies, certificate, hit, hit & ~right,
        scores >= _loosest(*_judged(weights, near, grade, fits, certifies)), right,
        float((scores >= _loosest(scores, right)).mean()),
        dict(Counter(one[0].against for one in near[certifies:] if one and one[0].against)), drawn,
    )  # fmt: skip


def _drawn(rows: Rows, fits: int, certifies: int) -> tuple[list[int], int, tuple[str, ...]]:
    """Numbers of the rows' sessions, how many answers each is given (0: rows are drawn one by one), and what
    is to be said of it."""
    units = numbered(row.unit for row in rows)
    if not any(row.unit for row in rows):
        return units, 0, ()
    keys = {i: taken_apart(row.texts[-1]).stems for i, row in enumerate(rows)}
    each = min(able(units, keys), most_each(certifies - fits, MOST_WRONG))
    many = len(set(units[fits:certifies]))
    answers = "one answer" if each == 1 else f"{each} answers"
    note = (
        f"certified on {certifies - fits:,} requests of {many:,} that were drawn together, each of which is "
        f"given {answers} at most"
    )
    return units, each, (note,)


def _given(hit: NDArray[np.bool_], units: Sequence[int], each: int) -> NDArray[np.bool_]:
    """Hits that are given: of each session the first ``each`` (0: all)."""
    if not each:
        return hit
    many: Counter[int] = Counter()
    out = hit.copy()
    for i in np.flatnonzero(hit).tolist():
        many[units[i]] += 1
        out[i] = many[units[i]] <= each
    return out


def _judged(
    weights: Weights,
    near: Sequence[Sequence[Nearest]],
    grade: Callable[[int, int], bool],
    start: int,
    end: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of the best candidates of requests, and whether their answers are right."""
    found = [best(weights, one) for one in near[start:end]]
    right = [one is not None and grade(start + i, one.entry) for i, (one, _) in enumerate(found)]
    return np.array([score for _, score in found]), np.array(right, dtype=np.bool_)


def _loosest(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The lowest threshold above which at most ``MOST_WRONG`` of the requests are wrong hits."""
    order = np.argsort(-scores, kind="stable")
    within = (np.cumsum(~right[order]) <= MOST_WRONG * len(right)) & np.isfinite(scores[order])
    return float(scores[order[int(within.sum()) - 1]]) if within.any() else math.inf


Fitted = tuple[Weights, list[tuple[Nearest, ...]], Callable[[int, int], bool], int]
"""A verifier, each request's candidates, who grades them, and how many pairs were graded to fit."""


def _of_pairs(rows: Rows, fits: int) -> Fitted:
    """The first question of each pair is all that the cache of the second holds."""
    same = [graded(row.label, row.where) is True for row in rows]
    held, asked = ([taken_apart(row.texts[k]) for row in rows] for k in (0, 1))
    rarity = rarity_of(question for both in (asked, held) for question in both[:fits])
    near = []
    for question, other in zip(asked, held, strict=True):
        index = Index(*rarity)
        index.add(other, "")
        near.append(index.near(question))
    picked = [i for i in range(fits) if near[i] and not near[i][0].against][:LABELS]
    weights = fit([near[i][0] for i in picked], [same[i] for i in picked], *rarity)
    return weights, near, lambda i, _: same[i], len(picked)


def _of_questions(rows: Rows, fits: int) -> Fitted:
    """Each question is looked up among all of its tenant before it."""
    asked = [taken_apart(row.texts[0]) for row in rows]
    rarity = rarity_of(asked[:fits])
    cache, index = SemanticCache(Weights(*rarity, (), (), (), (), 0.0)), Index(*rarity)
    near = []

    def look(i: int) -> tuple[Nearest, ...]:
        scope = rows[i].tenant
        found = cache.near(scope, asked[i], 0.0)
        return tuple(one._replace(entry=cache.number(scope, one.entry)) for one in found)

    for i in range(fits):
        near.append(look(i))
        cache.keep(rows[i].tenant, asked[i], "", 0.0)

    def grade(i: int, entry: int) -> bool:
        return rows[i].label == rows[entry].label

    scopes = [row.tenant for row in rows[:fits]]
    grown, read = learn([index.vector(question) for question in asked[:fits]], grade, LABELS, scopes)
    groups, members = grouped(read, grown)
    pairs, same = graded_pairs(near, grown, members)
    weights = fit(pairs, same, *rarity, groups)
    cache.refit(weights)
    for i in range(fits, len(rows)):
        near.append(look(i))
        cache.keep(rows[i].tenant, asked[i], "", 0.0)
    return weights, near, grade, grown.labels


def _rows(file: Path) -> tuple[Rows, int]:
    """Rows that have what is needed, and how many have not."""
    if not file.exists():
        raise BadInput("no such file", where=str(file), fix="Check the path")
    found = rows_of(file, ("label",))
    has = found[0][0].keys() if found else set()
    names = ("text",) if "text" in has else ("text_a", "text_b")
    if not set(names) <= set(has):
        raise BadInput(
            f"columns {', '.join(has)}", where=str(file), fix="Give text,label or text_a,text_b,label"
        )
    unit = drawn_by(tuple(has))
    rows = [
        Row(
            tuple(row[name] for name in names), row["label"].strip(), where, row.get(unit, "").strip(),
            row.get("tenant", "").encode(),
        )
        for row, where in found
    ]  # fmt: skip
    kept = [row for row in rows if all(text.strip() for text in row.texts) and row.label]
    if not kept:
        raise BadInput("no row has a question and a label", where=str(file), fix="Fill in both")
    return kept, len(rows) - len(kept)
