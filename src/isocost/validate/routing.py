"""Hold routing against graded outcomes: what is saved at full quality, what can be certified, and whether
it holds.

Questions are split at random, many times: A to choose, B to certify, C, a fifth, to report. Every attempt
of a cascade is paid. What C says is counted (``looks``), since each look at held-out answers is a chance to
be fooled; draws of users and tests of another mix are not, which tell of certificates and choose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput
from isocost.policy.agree import Chosen, Fixed, Part
from isocost.policy.bounds import Proofs, betting_p, saving_interval, saving_moments
from isocost.policy.difficulty import Corpus, Routed, corpus, fit, gained, rows_of
from isocost.policy.fit import (
    LEAST_SAVING,
    Candidate,
    all_candidates,
    all_on,
    candidates,
    certify,
    climb,
    compared,
    differences,
    doubt_of,
    estimate,
    label_rows,
    on,
    saving_bounds,
    shuffled,
    strongest,
)
from isocost.policy.lapse import basis, lapsed, mix_of
from isocost.policy.outcomes import (
    FEWEST,
    READ_AGREEMENT,
    Bools,
    Floats,
    Ints,
    Outcomes,
    read_outcomes,
    without,
)
from isocost.policy.pricing import RELATIVE, UNKNOWN, Price, costs, price_models, relative, supposed
from isocost.validate.priced import counted, guessed, rules_of

MAX_LOSS = 0.01
CONFIDENCE = 0.95
LABELS = 2000
SPLITS = 20
USERS = 1000
_FITS = 25
_MOST_A = 1100
_MOST_FULL = 8000
_MOST_RANKED = 20_000
"""Questions that are ordered by their words at most, drawn by lot: more say the same and take the longer."""
_LAST = 3
_FOLDS = 5
_SPARE = 1.15
"""How much more often than on A answers may differ before the labels run out."""
_LEAST_DIFFER_FRAC = 0.02
"""Answers are taken to differ so often at least, whatever the few questions of A say."""
_RUNG = 0.75
"""How far up the ladder of candidates the labels of B are meant to last."""
_STEP_BACK = 0.9
"""Share of the most that can be saved which is enough where quality comes first."""


class RoutingReport(msgspec.Struct, frozen=True):
    """What became of routing on one set; fractions are means over splits unless they say otherwise.

    ``rows`` are resampled users: each draws its own questions, chooses and certifies. One passes where the
    certified policy loses at most ``max_loss`` on all questions and costs no more than strong-only
    (strong-only itself passes). ``certified_saving_frac`` counts a split without a certificate as zero.
    Savings come with their 95 % intervals (``_low``, ``_high``: mean ends over splits, from the questions
    held out) and their standard deviation over splits. ``saving_coverage_frac`` is the share of users with a
    certificate whose interval of the saving holds what is true of all questions, on as many questions as B
    has; ``held_out_coverage_frac`` on as many as C has (``None``: no user has a certificate). The users share
    ``choices`` choices of candidates.

    ``strong`` is the best model of all questions; savings are held against the best of those that choose, in
    ``other_strong_frac`` of the splits another one (``full_other_strong_frac`` at full quality). The four
    ``against_strong_`` hold the same policies against ``strong`` in every split, quality as a ratio; where
    none was certified, or seems to lose nothing, the best model of those that choose is paid.
    """

    rows: int
    passed: int
    failed: tuple[str, ...]
    verdict: str
    questions: int
    models: int
    strong: str
    full_saving_frac: float
    full_saving_low: float
    full_saving_high: float
    full_saving_sd: float
    full_quality_ratio: float
    full_blind_difference: float
    certified_saving_frac: float
    certified_saving_low: float
    certified_saving_high: float
    certified_saving_sd: float
    certified_splits_frac: float
    certified_difference: float
    labels: float
    labels_most: float
    questions_run: float
    strict_saving_frac: float
    strict_labels: float
    violations_frac: float
    dearer_frac: float
    saving_coverage_frac: float | None
    held_out_coverage_frac: float | None
    apgr: dict[str, float]
    shift: dict[str, float]
    policy: str
    prices: dict[str, str]
    looks: int
    notes: tuple[str, ...]
    choices: int
    other_strong_frac: float
    full_other_strong_frac: float
    against_strong_certified_saving_frac: float
    against_strong_certified_quality_ratio: float
    against_strong_full_saving_frac: float
    against_strong_full_quality_ratio: float


class _Set(NamedTuple):
    """A set of outcomes with its costs (where prices are ``relative``, to the questions that choose, what
    each would cost at a price of 1); ``words`` of the questions where they have a text; which models' prices
    are ``unknown``."""

    outcomes: Outcomes
    usd: Floats
    words: Corpus | None
    unknown: Bools
    relative: CatalogAt | None

    def usd_by(self, known: Ints, rows: Ints) -> Floats:
        """Dollars of each answer to the questions ``rows``, (rows, M), as ``known`` ones price it."""
        if self.relative is None:
            return self.usd[rows]
        return self.usd[rows] * relative(self.outcomes.quality[known].mean(axis=0), self.relative)


def validate_routing(
    file: Path,
    catalog: Catalog | None = None,
    results: Path | None = None,
    against: Path | None = None,
    splits: int = SPLITS,
    users: int = USERS,
) -> RoutingReport:
    """Compare on a file of QUERIES (RESULTS beside it, or its ``.results`` twin) or of OUTCOMES.

    Questions that also stand in ``against`` (QUERIES or OUTCOMES) are dropped.

    Raises:
        BadInput: as :func:`isocost.policy.outcomes.read_outcomes`.
    """
    results = results or twin(file)
    outcomes = read_outcomes(file, results)
    if against is not None:
        outcomes = without(outcomes, read_outcomes(against, twin(against)))
    outcomes = _graded(outcomes)
    at = (catalog or Catalog.load()).at(date.today())
    prices = price_models(outcomes.models, at, quality=outcomes.quality.mean(axis=0))
    unknown, supposed_by = (supposed(rule, prices, outcomes) for rule in (UNKNOWN, RELATIVE))
    alike = tuple(Price(model, 1.0, 1.0, RELATIVE) for model in outcomes.models)
    usd, guesses = costs(outcomes, alike if supposed_by.any() else prices, at)
    reads = outcomes.has_answers and outcomes.agree_frac > READ_AGREEMENT
    words = corpus(outcomes.query) if all(outcomes.query) and not reads else None
    data = _Set(outcomes, usd, words, unknown, at if supposed_by.any() else None)
    everything = _part(data, np.arange(len(outcomes)), np.arange(len(outcomes)))
    shares = _shares(len(outcomes))
    kept, looks = [], 0
    for seed in range(splits):
        kept.append(_split(data, seed, shares, everything.strong))
        looks += 1
    strict_shares = (min(700, shares[0]), min(LABELS - 700, shares[1]))
    strict = [_split(data, 1000 + s, strict_shares) for s in range(splits)]
    looks += len(strict)
    told = _users(data, shares, users)
    apgr, more = _ranked(data, everything)
    looks += more
    shift = _shifted(data, shares)
    share = float(np.mean([one["certified"] for one in kept]))
    verdict = "certified" if _is_shown(kept) else "refused: no saving certified"
    if outcomes.one_class:
        verdict = "refused: every grade is the same"
    failed = tuple(f"user-{i}" for i in np.flatnonzero(told["failed"]))
    mean = {name: float(np.mean([one[name] for one in kept])) for name in kept[0]}
    spread = {
        name: float(np.std([one[name] for one in kept], ddof=1)) if splits > 1 else 0.0 for name in mean
    }
    right = [one["difference"] for one in kept if one["certified"]]
    rules = rules_of(outcomes, prices)
    priced = (*_priced(data, everything.strong), *guessed(rules))
    return RoutingReport(
        users, users - len(failed), failed, verdict, len(outcomes), len(outcomes.models),
        outcomes.models[everything.strong], mean["full_saving"], mean["full_low"], mean["full_high"],
        spread["full_saving"], mean["full_ratio"], mean["full_blind"], mean["saving"], mean["low"],
        mean["high"], spread["saving"], share, float(np.mean(right)) if right else 0.0, mean["labels"],
        max(one["labels"] for one in kept), mean["run"],
        float(np.mean([one["saving"] for one in strict])), float(sum(strict_shares)),
        float(told["violated"].mean()), float(told["dearer"].mean()), _mean(told["covered"]),
        _mean(told["covered_c"]), apgr, shift, _said(data, shares),
        rules, looks, (*counted(outcomes, guesses, splits), *priced), min(_FITS, users),
        mean["other"], mean["full_other"], mean["against_saving"], mean["against_ratio"],
        mean["full_against_saving"], mean["full_against_ratio"],
    )  # fmt: skip


def _is_shown(splits: Sequence[dict[str, float]]) -> bool:
    """Whether most splits gave a certificate, and what it saves where it is reported is more than chance: its
    interval there does not hold zero (means over splits; one without a certificate saves nothing)."""
    share, low = (float(np.mean([one[name] for one in splits])) for name in ("certified", "low"))
    return share > 0.5 and low > 0


def _graded(found: Outcomes) -> Outcomes:
    """Without questions that a model was not graded on: what it would have got there is not known.

    Raises:
        BadInput: too few are left.
    """
    whole = np.isfinite(found.quality).all(axis=1)
    if whole.all():
        return found
    if whole.sum() < FEWEST:
        raise BadInput(
            f"{int(whole.sum())} questions have a grade of every model", fix=f"At least {FEWEST} are needed"
        )
    said = f"{int((~whole).sum()):,} questions left out that not every model was graded on"
    out = found.take(np.flatnonzero(whole))
    return replace(out, notes=(*out.notes, said))


def twin(file: Path) -> Path | None:
    """The results beside a file of queries, ``X.queries.parquet`` and ``X.results.parquet``."""
    name = file.name.replace(".queries.", ".results.")
    other = file.with_name(name)
    return other if name != file.name and other.exists() else None


def _priced(data: _Set, strong: int) -> tuple[str, ...]:
    """What is to be known of prices that are not."""
    if data.relative is not None:
        return (
            "prices are relative, since none is known: supposed to rise with the quality on the questions "
            "that choose. Savings hold only if they are so",
        )
    if data.unknown[strong]:
        name = data.outcomes.models[strong]
        return (f"the price of {name} is not known: taken as the cheapest, so nothing is saved against it",)
    return ()


def _shares(n: int) -> tuple[int, int]:
    """Questions of A and of B: C keeps a fifth. A question needs a grade only where answers differ."""
    a = int(min(_MOST_A, max(20, 0.25 * n)))
    return a, int(0.8 * n - a)


def _part(data: _Set, rows: Ints, known: Ints) -> Part:
    """Questions as a choice of models sees them; the strong model is the best on ``known``, and of no price
    that is known no dearer than another: no saving rests on what it may cost."""
    found, usd, mine = data.outcomes, data.usd_by(known, rows), data.usd_by(known, known)
    raw = Part(found.quality[known], mine, found.answer[known], found.task[known], len(found.tasks), 0)
    strong = strongest(raw)
    if data.unknown[strong]:
        usd[:, strong], mine[:, strong] = usd.min(axis=1), mine.min(axis=1)
    unit = float(mine[:, strong].mean()) or 1.0  # of a free model nothing is saved, in any unit
    return Part(
        found.quality[rows], usd / unit, found.answer[rows], found.task[rows], len(found.tasks), strong,
        (), found.has_answers, found.whole,
    )  # fmt: skip


def _words(data: _Set, rows: Ints) -> Corpus | None:
    return None if data.words is None else rows_of(data.words, rows)


def _split(data: _Set, seed: int, shares: tuple[int, int], best: int | None = None) -> dict[str, float]:
    """One nested split: what was certified on B, and what it does on C; with the ``best`` model of all
    questions, also what the full-quality policy does, and both against that model.
    """
    known, c = _drawn(len(data.outcomes), seed)
    a, b = known[: shares[0]], known[shares[0] : sum(shares)]
    part_a, part_c = _part(data, a, a), _part(data, c, a)
    found = () if data.outcomes.one_class else candidates(part_a, len(b), MAX_LOSS, _words(data, a))
    labels_a = label_rows(part_a, range(len(data.outcomes.models)))
    b = b[: _within(found, labels_a, len(b))]
    part_b = _part(data, b, a)
    proves = _Proof(len(b), data.outcomes.whole)
    up = climb(
        all_on(found, data.words, b), part_b,
        lambda _, did: proves(differences(did, part_b)), 1.0 - CONFIDENCE, LABELS - labels_a,
    )  # fmt: skip
    out = {
        "certified": 0.0, "saving": 0.0, "low": 0.0, "high": 0.0, "difference": 0.0,
        "labels": float(labels_a + up.labels), "run": float(len(a) + len(b)),
    }  # fmt: skip
    did = None
    if up.won is not None:
        did = on(up.won.policy, data.words, c).run(part_c)
        on_c, (low, high) = compared(did, part_c), saving_bounds(did, part_c, 1.0 - CONFIDENCE)
        out.update(certified=1.0, saving=on_c.saving_frac, low=low, high=high, difference=on_c.difference)
    if best is not None:
        ratio, saving = _against(data.unknown, did, part_c, best)
        out.update(other=float(part_a.strong != best), against_ratio=ratio, against_saving=saving)
        out.update(_full(data, known[:_MOST_FULL], c, best))
    return out


def _drawn(n: int, seed: int) -> tuple[Ints, Ints]:
    """Questions of a split: those that are known, of which A comes first and then B, and C. Five splits in a
    row report on each question once."""
    folds = np.array_split(np.random.default_rng(seed // _FOLDS).permutation(n), _FOLDS)
    c = folds.pop(seed % _FOLDS)
    return np.random.default_rng(seed).permutation(np.concatenate(folds)), c


def _against(unknown: Bools, did: Chosen | None, part: Part, best: int) -> tuple[float, float]:
    """Quality as a ratio to, and saving as a share of, what the ``best`` model has on the same questions;
    without a policy the part's strong model answers. A price that is not known is taken as the cheapest."""
    base = part.cost.min(axis=1) if unknown[best] else part.cost[:, best]
    paid, right = (
        (part.cost[:, part.strong], part.quality[:, part.strong]) if did is None else (did.cost, did.quality)
    )
    whole, usd = float(part.quality[:, best].sum()), float(base.sum())
    return float(right.sum()) / whole if whole else 1.0, 1.0 - float(paid.sum()) / usd if usd else 0.0


class _Proof:
    """Whether differences on ``n`` questions certify a policy; one like another is worked out once.

    Which test is settled by all grades of the set (``whole``: each is 0 or 1), not by what was drawn.
    """

    def __init__(self, n: int, whole: bool) -> None:
        self.whole = whole
        self.counted = Proofs(n, MAX_LOSS, 1.0 - CONFIDENCE)

    def __call__(self, gap: Floats) -> bool:
        if self.whole:
            return self.counted(int((gap > 0).sum()), int((gap < 0).sum()))
        return betting_p(shuffled(gap), MAX_LOSS) <= 1.0 - CONFIDENCE


def _within(found: Sequence[Candidate], labels_a: int, most: int) -> int:
    """Questions of B that the labels left are likely to last for, as A saw how often answers differ: all but
    the boldest candidates can be tested."""
    differs = [one.expected.differs_frac for one in found[: max(1, math.ceil(_RUNG * len(found)))]]
    return max(
        1, min(most, int((LABELS - labels_a) / max(_LEAST_DIFFER_FRAC, _SPARE * max(differs, default=1.0))))
    )


def _full(data: _Set, known: Ints, c: Ints, best: int) -> dict[str, float]:
    """The policy that saves most among those that lose nothing on folds of what is known; as C has it."""
    part, part_c = _part(data, known, known), _part(data, c, known)
    picked = _steady(all_candidates(part, _words(data, known), len(known) // 3))
    did = None if picked is None else on(picked.policy, data.words, c).run(part_c)
    ratio, saving = _against(data.unknown, did, part_c, best)
    out = {
        "full_saving": 0.0, "full_low": 0.0, "full_high": 0.0, "full_ratio": 1.0, "full_blind": 0.0,
        "full_other": float(part.strong != best), "full_against_ratio": ratio, "full_against_saving": saving,
    }  # fmt: skip
    if did is not None:
        seen, (low, high) = compared(did, part_c), saving_bounds(did, part_c, 1.0 - CONFIDENCE)
        strong = float(part_c.quality[:, part_c.strong].mean())
        out.update(
            full_saving=seen.saving_frac, full_low=low, full_high=high, full_blind=seen.blind_difference,
            full_ratio=(strong + seen.difference) / strong if strong else 1.0,
        )  # fmt: skip
    return out


def _steady(found: Sequence[Candidate]) -> Candidate | None:
    """Of the kind that saves most before one of its trade-offs seems to lose, the best of those that save
    nearly as much.

    Of a kind whose trade-offs do well together, and not the luckiest of all policies: that one's estimate is
    the most flattered. A step back from the edge, because beyond it quality falls.
    """
    kinds: dict[tuple[int, ...], list[Candidate]] = {}
    for one in found:
        if one.expected.saving_frac >= LEAST_SAVING:
            kinds.setdefault(one.group, []).append(one)
    ends: list[tuple[float, list[Candidate]]] = []
    for kind in kinds.values():
        kept: list[Candidate] = []
        for one in sorted(kind, key=lambda each: each.expected.saving_frac):
            if one.expected.difference < _margin(one):
                break
            kept.append(one)
        if kept:
            last = kept[-_LAST:]
            ends.append((sum(one.expected.saving_frac for one in last) / len(last), kept))
    if not ends:
        return None
    kept = max(ends, key=lambda pair: pair[0])[1]
    least = _STEP_BACK * kept[-1].expected.saving_frac
    return max(
        (one for one in kept if one.expected.saving_frac >= least), key=lambda one: one.expected.difference
    )


def _margin(one: Candidate) -> float:
    """What an estimated difference must exceed: nothing where answers are read, else the further doubt."""
    further = doubt_of(one.name) - doubt_of("cascade")
    seen = one.expected
    return float(further * (max(seen.discordant_frac, 1e-4) / max(1, seen.questions)) ** 0.5)


def _users(data: _Set, shares: tuple[int, int], users: int) -> dict[str, npt.NDArray[np.bool_]]:
    """Users who draw questions with replacement: was what they certified true of all questions?

    Every few users share a choice (their A, ``_FITS`` in all); each has its own B, of as many questions and
    labels as a split's. ``covered`` has an entry for each user with a certificate.
    """
    n = len(data.outcomes)
    violated, dearer = np.zeros(users, dtype=np.bool_), np.zeros(users, dtype=np.bool_)
    covered: list[bool] = []
    covered_c: list[bool] = []
    fits = min(_FITS, users)
    every = np.arange(n)
    proofs: dict[int, _Proof] = {}
    is_whole = data.outcomes.whole
    for k in range(fits):
        rng = np.random.default_rng(5000 + k)
        a = np.unique(rng.integers(0, n, shares[0]))
        part_a = _part(data, a, a)
        found = candidates(part_a, shares[1], MAX_LOSS, _words(data, a))
        if not found:
            continue
        labels_a = label_rows(part_a, range(len(data.outcomes.models)))
        tested = _within(found, labels_a, shares[1])
        proves = proofs.setdefault(tested, _Proof(tested, is_whole))
        whole = _part(data, every, a)
        strong, base = whole.quality[:, whole.strong], whole.cost[:, whole.strong]
        gaps, moments = np.zeros((len(found), n)), np.zeros((len(found), 9, n))
        needs = np.zeros((len(found), n), dtype=np.bool_)
        for i, one in enumerate(all_on(found, data.words, every)):
            did = one.policy.run(whole)
            gaps[i], moments[i] = did.quality - strong, saving_moments(base - did.cost, base)
            needs[i] = did.differs
        true = moments[:, 0].sum(axis=1) / (base.sum() or 1.0)
        mine = range(k, users, fits)
        drawn = [(rng.integers(0, n, tested), rng.integers(0, n, n // _FOLDS)) for _ in mine]
        # How often each user drew each question: what a user sees is a sum, so all users are one product.
        often = [
            np.stack([np.bincount(one[s], minlength=n) for one in drawn], axis=1).astype(np.float64)
            for s in range(2)
        ]
        summed = [moments.reshape(-1, n) @ each for each in often]
        ends = [
            saving_interval(one.reshape(len(found), 9, -1).swapaxes(0, 1), size, 1.0 - CONFIDENCE)
            for one, size in zip(summed, (tested, n // _FOLDS), strict=True)
        ]
        wins, losses = (gaps > 0) @ often[0], (gaps < 0) @ often[0]
        labels = np.logical_or.accumulate(needs, axis=0) @ often[0]
        for u, user in enumerate(mine):
            won = -1
            for i in range(len(found)):
                if labels[i, u] > LABELS - labels_a:
                    break
                if is_whole:
                    passed = proves.counted(int(wins[i, u]), int(losses[i, u]))
                else:
                    passed = proves(gaps[i][drawn[u][0]])
                if not passed or ends[0][0][i, u] <= 0:
                    break
                won = i
            if won < 0:
                continue
            violated[user] = gaps[won].mean() < -MAX_LOSS
            dearer[user] = true[won] < 0
            for (low, high), to in zip(ends, (covered, covered_c), strict=True):
                to.append(bool(low[won, u] <= true[won] <= high[won, u]))
    return {
        "violated": violated, "dearer": dearer, "failed": violated | dearer,
        "covered": np.array(covered, dtype=np.bool_), "covered_c": np.array(covered_c, dtype=np.bool_),
    }  # fmt: skip


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    """A share; ``None`` of none."""
    return float(values.mean()) if len(values) else None


def _ranked(data: _Set, whole: Part) -> tuple[dict[str, float], int]:
    """Of two models: the gain had by sending the hardest-looking questions to the strong one (APGR)."""
    if len(data.outcomes.models) != 2 or data.words is None or len(data.outcomes) < 200:
        return {}, 0
    rows = np.arange(len(whole))
    if len(rows) > _MOST_RANKED:
        rows = np.sort(np.random.default_rng(0).permutation(len(rows))[:_MOST_RANKED])
    read, task, tasks = rows_of(data.words, rows), whole.task[rows], whole.tasks
    gain = (whole.quality[:, whole.strong] - whole.quality[:, 1 - whole.strong])[rows]
    out: dict[str, list[float]] = {"in_domain": [], "in_domain_length": []}
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(gain))
        a, c = order[: len(order) // 2], order[len(order) // 2 :]
        out["in_domain"].append(gained(fit(read, gain, task, tasks, a).scores(read, task)[c], gain[c]))
        out["in_domain_length"].append(gained(read.length[c], gain[c]))
    if tasks >= 10:
        out["unseen_tasks"] = []
        for seed in range(3):
            fold = np.random.default_rng(seed).permutation(tasks)[task] % 5
            score = np.zeros(len(gain))
            for k in range(5):
                rows = np.flatnonzero(fold != k)
                found = fit(read, gain, task, tasks, rows).scores(read, task)
                score[fold == k] = found[fold == k] - found[rows].mean()
            out["unseen_tasks"].append(gained(score, gain))
        out["length_alone"] = [gained(read.length, gain)]
    out["random"] = [0.5]
    return {name: float(np.mean(values)) for name, values in out.items()}, 3 + 3 * (tasks >= 10)


def _shifted(data: _Set, shares: tuple[int, int]) -> dict[str, float]:
    """Certified on half of the tasks, then asked the other half: does the check notice, and fall back?"""
    found = data.outcomes
    if len(found.tasks) < 4:
        return {}
    noticed, loss, alarms = [], [], []
    for seed in range(5):
        rng = np.random.default_rng(9000 + seed)
        half = rng.permutation(len(found.tasks)) < len(found.tasks) // 2
        mine = rng.permutation(np.flatnonzero(half[found.task]))
        other = np.flatnonzero(~half[found.task])
        a, rest = mine[: min(shares[0], len(mine) // 2)], mine[min(shares[0], len(mine) // 2) :]
        b, later = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        if min(len(a), len(b), len(later)) < 10:
            continue
        was = basis({}, {}, found.tasks, found.task[b], found.in_tok[b])
        noticed.append(bool(lapsed(was, mix_of(was, found.tasks, found.task[other], found.in_tok[other]))))
        alarms.append(bool(lapsed(was, mix_of(was, found.tasks, found.task[later], found.in_tok[later]))))
        picked = candidates(_part(data, a, a), len(b), MAX_LOSS, None)
        proof = certify(picked, _part(data, b, a), MAX_LOSS, CONFIDENCE)
        if proof.chosen is not None:
            loss.append(estimate(proof.chosen.policy, _part(data, other, a)).difference)
    if not noticed:
        return {}
    return {
        "noticed_frac": float(np.mean(noticed)),
        "false_alarms_frac": float(np.mean(alarms)),
        "difference_if_unnoticed": float(np.mean(loss)) if loss else 0.0,
    }


def _said(data: _Set, shares: tuple[int, int]) -> str:
    """The boldest policy that the first split tries, in words."""
    a = _drawn(len(data.outcomes), 0)[0][: shares[0]]
    part = _part(data, a, a)
    found = candidates(part, shares[1], MAX_LOSS, _words(data, a))
    if not found:
        return "strong-only"
    names, policy = data.outcomes.models, found[-1].policy
    if isinstance(policy, Fixed):
        return f"{found[-1].name}: {names[policy.model]}"
    if isinstance(policy, Routed):
        return f"{found[-1].name}: {names[policy.cheap]} or {names[part.strong]}"
    chain = getattr(policy, "chain", ())
    return f"{found[-1].name}: {' > '.join(names[j] for j in chain)}" if chain else found[-1].name


__all__ = ["RoutingReport", "twin", "validate_routing"]
