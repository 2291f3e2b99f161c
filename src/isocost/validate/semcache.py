"""A semantic cache on questions whose answers are known to be the same or not.

Two kinds of file. ``text, label``: questions of which equal labels have one answer; they come in a random
order, each is looked up among all before it, and the labels only grade pairs that were asked for. ``text_a,
text_b, label``: pairs, where 1 means one answer; the cache holds the first of each. Requests are split in
order: a part fits the verifier on at most ``LABELS`` graded pairs, a part certifies the threshold at
``MOST_WRONG`` wrong hits a request with ``CONFIDENCE``, the last 30 % report. A request of the last part
passes where it got no wrong answer. What was asked before word for word is left out: an exact cache answers
it. A column ``session`` or ``user`` says which requests are drawn together (:mod:`isocost.policy.drawn`), and
no part cuts one in two; requests of two values of a column ``tenant`` share no answers.

``ORDERS`` orders are played. They share their rows, so what they span is of the order alone: it says what
another split of this file would give, not what another file would.

It is not the cache that runs (:mod:`isocost.policy.semantic_study`), in these: every question is kept, also
what was answered; the same words may get another question's answer twice; times of the file are not read, and
nothing ages. ``plain_*`` and ``hindsight_*`` give a session as many answers as it has hits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.policy.drawn import able, most_each, numbered
from isocost.policy.semantic import Nearest, Weights, best, rarity_of, taken_apart
from isocost.policy.semantic_cache import SemanticCache, readable
from isocost.policy.semantic_fit import CERTIFIES, LEAST_PAIRS, Certificate, certify, cut, fit
from isocost.policy.semantic_index import Index
from isocost.policy.semantic_learn import graded_pairs, grouped, learn
from isocost.policy.semantic_pairs import drawn_by, graded, shuffled
from isocost.policy.semantic_study import LEAST_REQUESTS
from isocost.units import plural
from isocost.validate.table import rows_of

LABELS = 3500
MOST_WRONG = 0.01
CONFIDENCE = 0.95
MOST_ROWS = 20_000
"""Rows that are played: of more, so many are drawn."""
SEED = 20_261_123
ORDERS = 3
"""Random orders that are played: what one of them certifies says little, since the split alone moves it by
some percents of the requests."""
REPORTS = "counted for fitting or certifying"
BLANK = "no question or no label"
REPEATED = "asked before word for word: an exact cache's to answer"
BEYOND = f"not among the {MOST_ROWS:,} drawn"


class SemcacheReport(msgspec.Struct, frozen=True):
    """Hits and wrong hits on the reporting part; ``frac`` are shares of its requests.

    ``plain_hit_frac`` and ``plain_wrong_frac`` are those of the loosest threshold within ``most_wrong_frac``
    on the certifying part, without a bound: what the certificate costs. ``hindsight_hit_frac`` is what the
    loosest threshold would have hit on the reporting part: what no one can know before. ``labels`` counts
    graded pairs, fitting and certifying. ``certified_wrong_frac`` bounds wrong hits a request (NaN: nothing
    is certified). ``refused`` counts reporting requests by what spoke against the most alike question; the
    second may have been given. All this is of the first of the random ``orders``; of all of them ``mean_*``,
    ``least_*`` and ``most_*``, and in how many something was ``certified_orders``.
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
    certified_orders: int
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
    """One order: ``hit``, ``wrong`` and ``plain`` (bool) and ``right`` of its reporting requests; ``why``
    nothing was certified (blank: something was)."""

    rows: Rows
    repeated: int
    certifies: int
    why: str
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
        BadInput: the file cannot be read, or has neither set of columns, or nothing to ask.
    """
    kept, blank = _rows(Path(path))
    rng = np.random.Generator(np.random.PCG64(SEED))
    played = []
    for _ in range(orders):
        drawn = [kept[i] for i in shuffled([row.unit for row in kept], rng)]
        mark = min(MOST_ROWS, len(drawn))
        while 1 < mark < len(drawn) and drawn[mark].unit and drawn[mark].unit == drawn[mark - 1].unit:
            mark -= 1
        played.append(_played(drawn[:mark]))
    one = played[0]
    beyond = len(kept) - len(one.rows) - one.repeated
    left_out = {BLANK: blank, BEYOND: beyond, REPEATED: one.repeated}
    hits = [float(each.hit.mean()) for each in played]
    wrongs = [float(each.wrong.mean()) for each in played]
    certified = sum(not each.why for each in played)
    return SemcacheReport(
        path=str(path),
        rows=len(kept) + blank,
        passed=int((~one.wrong).sum()),
        failed=tuple(one.rows[one.certifies + int(i)].where for i in np.flatnonzero(one.wrong)),
        left_out={REPORTS: one.certifies, **{why: many for why, many in left_out.items() if many}},
        verdict=_verdict(certified, orders),
        most_wrong_frac=MOST_WRONG,
        hit_frac=hits[0],
        wrong_frac=wrongs[0],
        plain_hit_frac=float(one.plain.mean()),
        plain_wrong_frac=float((one.plain & ~one.right).mean()),
        hindsight_hit_frac=one.hindsight_hit_frac,
        certified_wrong_frac=one.certificate.upper_frac,
        labels=one.certificate.labels,
        refused=one.refused,
        orders=orders,
        certified_orders=certified,
        mean_hit_frac=sum(hits) / orders,
        least_hit_frac=min(hits),
        most_hit_frac=max(hits),
        most_wrong_seen_frac=max(wrongs),
        notes=tuple(_notes(played)),
    )


def _verdict(certified: int, orders: int) -> str:
    if not certified:
        return "off: nothing certified"
    return "certified" if certified == orders else f"certified in {certified} of {orders} orders"


def _notes(played: Sequence[_Played]) -> Iterator[str]:
    """What was certified, in the mean of the orders first."""
    one, many = played[0], len(played)
    hits = [float(each.hit.mean()) for each in played]
    wrongs = [float(each.wrong.mean()) for each in played]
    labels = sorted(each.certificate.labels for each in played)
    grades = f"{labels[0]:,}" if labels[0] == labels[-1] else f"{labels[0]:,} to {labels[-1]:,}"
    certified = [each for each in played if not each.why]
    if not certified:
        yield f"nothing is certified: {one.why}; {grades} pairs were graded"
    else:
        mean = f"{sum(hits) / many:.1%} of requests hit and {sum(wrongs) / many:.2%} got a wrong answer"
        mean += f" in the mean of {many} orders" if many > 1 else ""
        yield (
            f"{mean}, with {grades} graded pairs; at most {MOST_WRONG:.0%} is certified at {CONFIDENCE:.0%}"
            + (f" in {len(certified)} of {many} orders" if len(certified) < many else "")
        )
    if many > 1 and certified:
        yield (
            f"in {many} random orders of the rows {', '.join(f'{each:.1%}' for each in hits)} hit, and "
            f"{', '.join(f'{each:.2%}' for each in wrongs)} were wrong: that is what the split does, another "
            "file may differ more; passed, failed and what follows are of the first order"
        )
    if certified:
        yield (
            f"{one.plain.mean():.1%} hit and {(one.plain & ~one.right).mean():.2%} are wrong where "
            f"{MOST_WRONG:.0%} is what was seen before, not what is proven"
        )
    if one.repeated:
        yield (
            f"{plural(one.repeated, 'request')} of words that came before are an exact cache's to answer: "
            "they count neither as requests nor as hits"
        )
    yield from one.drawn


def _played(rows: Rows) -> _Played:
    """Fit on the first rows, certify on the next, report on the last."""
    before: set[tuple[bytes, str]] = set()
    fresh = []
    for row in rows:
        if len(row.texts) == 1:
            is_repeat = (row.tenant, row.texts[0]) in before
            before.add((row.tenant, row.texts[0]))
        else:
            is_repeat = row.texts[0] == row.texts[1]
        if not is_repeat:
            fresh.append(row)
    repeated, rows = len(rows) - len(fresh), fresh or rows[:1]
    repeated -= not fresh
    n = len(rows)
    fits, certifies = cut(numbered(row.unit for row in rows))
    weights, near, grade, fitted = (_of_pairs if len(rows[0].texts) == 2 else _of_questions)(rows, fits)
    units, each, drawn = _drawn(rows, fits, certifies)
    if weights is None:
        none = np.zeros(n - certifies, np.bool_)
        return _Played(
            rows, repeated, certifies,
            f"too few questions to fit on are alike: {LEAST_PAIRS} pairs are needed",
            Certificate(math.inf, certifies - fits, 0, 0, math.nan, fitted), none, none, none, none, 0.0, {},
            drawn,
        )  # fmt: skip
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
    why = ""
    if math.isinf(weights.threshold):
        why = "the surest answers were wrong more often than that"
        if certifies - fits < LEAST_REQUESTS:
            many = math.ceil(LEAST_REQUESTS / CERTIFIES)
            why = f"{certifies - fits} requests to certify on are too few; about {many:,} rows are needed"
        elif not any(best(weights, one)[0] for one in near[fits:certifies]):
            why = "no later question is like an earlier one"
    scores, right = _judged(weights, near, grade, certifies, n)
    hit = _given(scores >= weights.threshold, units[certifies:], each)
    return _Played(
        rows, repeated, certifies, why, certificate, hit, hit & ~right,
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
    """The lowest threshold above which at most ``MOST_WRONG`` of the requests are wrong hits.

    Equal scores stand or fall together.

    >>> wrong_last = np.array([True] * 199 + [False] * 3)
    >>> float(_loosest(np.arange(202.0)[::-1], wrong_last)), _loosest(np.array([5.0] * 202), wrong_last[::-1])
    (1.0, inf)
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    within = (np.cumsum(~right[order]) <= MOST_WRONG * len(right)) & np.isfinite(ranked) & last
    return float(ranked[np.flatnonzero(within)[-1]]) if within.any() else math.inf


Fitted = tuple[Weights | None, list[tuple[Nearest, ...]], Callable[[int, int], bool], int]
"""A verifier (``None``: too few pairs to fit one), each request's candidates, who grades them, and how many
pairs were graded to fit."""


def _of_pairs(rows: Rows, fits: int) -> Fitted:
    """The first question of each pair is all that the cache of the second holds."""
    same = [graded(row.label, row.where) is True for row in rows]
    held, asked = ([taken_apart(row.texts[k]) for row in rows] for k in (0, 1))
    rarity = rarity_of(question for both in (asked, held) for question in both[:fits])
    near = []
    for question, other in zip(asked, held, strict=True):
        index = Index(*rarity)
        index.add(other, "")
        near.append(index.near(question) if readable(question.text) and readable(other.text) else ())
    picked = [i for i in range(fits) if near[i] and not near[i][0].against][:LABELS]
    if len(picked) < LEAST_PAIRS:
        return None, near, lambda i, _: same[i], len(picked)
    weights = fit([near[i][0] for i in picked], [same[i] for i in picked], *rarity)
    return weights, near, lambda i, _: same[i], len(picked)


def _of_questions(rows: Rows, fits: int) -> Fitted:
    """Each question is looked up among all of its tenant before it."""
    asked = [taken_apart(row.texts[0]) if readable(row.texts[0]) else None for row in rows]
    rarity = rarity_of(one for one in asked[:fits] if one is not None)
    cache, index = SemanticCache(Weights(*rarity, (), (), (), (), 0.0)), Index(*rarity)
    near: list[tuple[Nearest, ...]] = []
    kept: list[int] = []

    def play(start: int, end: int) -> None:
        for i in range(start, end):
            scope, question = rows[i].tenant, asked[i]
            if question is None:
                near.append(())
                continue
            found = cache.near(scope, question, 0.0)
            near.append(tuple(one._replace(entry=kept[cache.number(scope, one.entry)]) for one in found))
            cache.keep(scope, question, "", 0.0)
            kept.append(i)

    play(0, fits)

    def grade(i: int, entry: int) -> bool:
        return rows[i].label == rows[entry].label

    scopes = [row.tenant for row in rows[:fits]]
    vectors = [{} if one is None else index.vector(one) for one in asked[:fits]]
    grown, read = learn(vectors, grade, LABELS, scopes)
    groups, members = grouped(read, grown)
    pairs, same = graded_pairs(near, grown, members)
    if len(pairs) < LEAST_PAIRS:
        return None, near, grade, grown.labels
    weights = fit(pairs, same, *rarity, groups)
    cache.refit(weights)
    play(fits, len(rows))
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
            tuple(row[name] for name in names), row["label"].strip(), where,
            row.get(unit, "").strip(), row.get("tenant", "").strip().encode(),
        )
        for row, where in found
    ]  # fmt: skip
    kept = [row for row in rows if all(text.strip() for text in row.texts) and row.label]
    if not kept:
        raise BadInput("no row has a question and a label", where=str(file), fix="Fill in both")
    return kept, len(rows) - len(kept)
