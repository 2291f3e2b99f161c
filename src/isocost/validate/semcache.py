"""A semantic cache on questions whose answers are known to be the same or not.

Two kinds of file. ``text, label``: questions of which equal labels have one answer; they come in a random
order, each is looked up among all before it, and the label only grades what was found. ``text_a, text_b,
label``: pairs, where 1 means one answer; the cache holds the first of each. Requests are split in order: 40 %
fit the verifier on at most ``LABELS`` graded pairs, 30 % certify the threshold at ``MOST_WRONG`` wrong hits a
request with ``CONFIDENCE``, 30 % report. A request of the last part passes where it got no wrong answer.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np

from isocost.errors import BadInput
from isocost.policy.semantic import Index, Nearest, Weights, rarity_of, score, taken_apart
from isocost.policy.semantic_fit import certify, fit

LABELS = 3000
MOST_WRONG = 0.01
CONFIDENCE = 0.95
FITS, CERTIFIES = 0.4, 0.7
FIRST = 0.1
"""Share of the fitting part that only fills the cache: nothing near is in it yet."""
SEED = 20_261_123
REPORTS = "counted for fitting or certifying"


class SemcacheReport(msgspec.Struct, frozen=True):
    """Hits and wrong hits on the reporting part; ``frac`` are shares of its requests.

    ``hindsight_hit_frac`` is the share that the loosest threshold within ``most_wrong_frac`` would have hit
    there: what no one can know before. ``labels`` counts graded pairs, fitting and certifying.
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
    hindsight_hit_frac: float
    certified_wrong_frac: float
    labels: int
    refused: dict[str, int]
    notes: tuple[str, ...]


def validate_semcache(path: Path | str) -> SemcacheReport:
    """Fit, certify and report a semantic cache on one file.

    Raises:
        BadInput: the file cannot be read, or has neither set of columns, or too few questions.
    """
    near, same, rarity = _questions(Path(path))
    n = len(near)
    fits, certifies = int(FITS * n), int(CERTIFIES * n)
    rng = np.random.Generator(np.random.PCG64(SEED))
    graded = [
        int(i)
        for i in rng.permutation(np.arange(int(FIRST * fits), fits))
        if near[i] is not None and not near[i].against
    ][:LABELS]
    weights = fit([one for i in graded if (one := near[i]) is not None], [same[i] for i in graded], *rarity)
    weights, certificate = certify(
        weights,
        near[fits:certifies],
        lambda i: same[fits + i],
        most_wrong_frac=MOST_WRONG,
        confidence=CONFIDENCE,
        labels_used=len(graded),
    )
    scores = np.array([_score(weights, one) for one in near[certifies:]])
    right = np.array(same[certifies:])
    hit = scores >= weights.threshold
    wrong = hit & ~right
    order = np.argsort(-scores, kind="stable")
    within = np.cumsum(~right[order]) <= MOST_WRONG * len(right)
    within &= np.isfinite(scores[order])
    off = math.isinf(weights.threshold)
    return SemcacheReport(
        path=str(path),
        rows=n,
        passed=int((~wrong).sum()),
        failed=tuple(f"row {certifies + int(i)}" for i in np.flatnonzero(wrong)),
        left_out={REPORTS: certifies},
        verdict="off: nothing certified" if off else "certified",
        most_wrong_frac=MOST_WRONG,
        hit_frac=float(hit.mean()),
        wrong_frac=float(wrong.mean()),
        hindsight_hit_frac=float(within.sum() / len(right)),
        certified_wrong_frac=certificate.upper_frac,
        labels=certificate.labels,
        refused=dict(Counter(one.against for one in near[certifies:] if one is not None and one.against)),
        notes=(
            f"{hit.mean():.1%} of requests hit and {wrong.mean():.2%} got a wrong answer, with "
            f"{certificate.labels:,} graded pairs; at most {MOST_WRONG:.0%} is certified at {CONFIDENCE:.0%}",
        ),
    )


def _score(weights: Weights, near: Nearest | None) -> float:
    return -math.inf if near is None or near.against else score(weights, near)


def _questions(file: Path) -> tuple[list[Nearest | None], list[bool], tuple[dict[str, float], float]]:
    """Each request's nearest earlier question, whether its answer would do, and how rare words are."""
    import duckdb

    if not file.exists():
        raise BadInput("no such file", where=str(file), fix="Check the path")
    try:
        how = "read_parquet(?)" if file.suffix == ".parquet" else "read_csv(?, all_varchar=true)"
        table = duckdb.execute(f"SELECT * FROM {how}", [str(file)])
        names = [str(column[0]).lower() for column in table.description or ()]
        rows = table.fetchall()
    except duckdb.Error as wrong:
        raise BadInput(f"cannot read it: {str(wrong).splitlines()[0]}", where=str(file)) from None
    pairs = "text_a" in names and "text_b" in names
    if "label" not in names or not (pairs or "text" in names):
        raise BadInput(
            f"columns {', '.join(names)}", where=str(file), fix="Give text,label or text_a,text_b,label"
        )
    rng = np.random.Generator(np.random.PCG64(SEED))
    rows = [rows[i] for i in rng.permutation(len(rows))]
    label = names.index("label")
    if pairs:
        one, two = names.index("text_a"), names.index("text_b")
        asked = [taken_apart(str(row[two])) for row in rows]
        held = [taken_apart(str(row[one])) for row in rows]
        rarity = rarity_of(question for both in (asked, held) for question in both[: int(FITS * len(rows))])
        found: list[Nearest | None] = []
        for question, other in zip(asked, held, strict=True):
            index = Index(*rarity)
            index.add(other, "")
            found.append(index.nearest(question))
        return found, [str(row[label]) in ("1", "1.0", "true", "True") for row in rows], rarity
    asked = [taken_apart(str(row[names.index("text")])) for row in rows]
    rarity = rarity_of(asked[: int(FITS * len(rows))])
    index, found, same = Index(*rarity), [], []
    for i, question in enumerate(asked):
        near = index.nearest(question)
        found.append(near)
        same.append(near is not None and rows[near.entry][label] == rows[i][label])
        index.add(question, "")
    return found, same, rarity
