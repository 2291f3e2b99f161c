"""Choose a policy on some questions, certify it on others, report it on the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isocost.policy.agree import (
    ByTask,
    Cascade,
    Chosen,
    Fixed,
    Part,
    Reading,
    chosen,
    reliability,
    run_each,
)
from isocost.policy.bounds import betting_lower, betting_p, labels_needed, loss_lower, loss_p, power
from isocost.policy.difficulty import Corpus, Fitted, Routed, bars, corpus, fit, rows_of
from isocost.policy.outcomes import Floats, Ints

WORTHS = (
    0.003, 0.005, 0.008, 0.012, 0.017, 0.023, 0.03, 0.038, 0.047, 0.057, 0.068, 0.08, 0.094, 0.11, 0.13, 0.16,
)  # fmt: skip
"""Quality that one mean strong answer's cost must buy: the trade-offs that are tried."""
_SEARCHED = (0.04, 0.1)
"""The trade-offs at which chains are compared."""
_MOST_MODELS = 8
_BEAM = 2
_CHAINS = 4
_FOLDS = 3
_CHEAP = 3
"""Models asked before the strong one, at most."""
CANDIDATES = 10
"""Policies that are taken to the certificate, beside strong-only: tried from the safest on, each at full
level."""
_LEAST_SAVING = 0.02
_DOUBT: Mapping[str, float] = {"cascade": 0.5}
_DOUBT_ELSE = 1.5
"""Standard errors that an estimated difference is marked down by, for having been picked as the best. Reading
answers is doubted least: what it gains rests on agreement, not on a few hundred questions being like the
next."""
_AVERAGED = 4
_CHANCES = (0.999, 0.995, 0.98, 0.93, 0.85, 0.7, 0.5, 0.3, 0.15, 0.05)
"""How likely the certificate of each candidate should look, from the safest to the boldest."""


class Policy(Protocol):
    """Anything that answers questions with models."""

    def run(self, part: Part) -> Chosen:
        """Answer every question."""
        ...


@dataclass(frozen=True)
class Estimate:
    """What a policy does, against strong-only on the same questions.

    ``difference`` is quality less the strong model's, in [-1, 1]; ``saving_frac`` of the strong model's cost;
    ``discordant_frac`` and ``differs_frac`` the shares of questions with another quality, another answer;
    ``blind_quality`` what the content-blind mix of strong and the best single model loses at the same cost.
    """

    questions: int
    difference: float
    saving_frac: float
    discordant_frac: float
    differs_frac: float
    wins: int
    losses: int
    blind_difference: float


@dataclass(frozen=True)
class Candidate:
    """A policy that was chosen on split A, with what it did on folds of A that it was not fitted on."""

    name: str
    policy: Policy
    expected: Estimate
    group: tuple[int, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """What split B proves: with ``confidence`` the loss is at most ``max_loss``, or it is not proven.

    ``chosen`` is ``None`` for strong-only. ``lower`` bounds the difference from below; ``saving_low`` the
    saving. ``labels`` are the questions that needed a grade, in A and in B; ``tested`` the candidates that
    were tried on B.
    """

    chosen: Candidate | None
    on_b: Estimate | None
    p_value: float
    lower: float
    saving_low: float
    labels_a: int
    labels_b: int
    tested: tuple[tuple[str, float], ...]
    more_labels: int | None
    max_loss: float
    confidence: float


def estimate(policy: Policy, part: Part) -> Estimate:
    """Run a policy on questions and compare with strong-only and with the content-blind mix."""
    return compared(policy.run(part), part)


def compared(did: Chosen, part: Part) -> Estimate:
    """Compare what was done with strong-only."""
    strong_cost = float(part.cost[:, part.strong].sum())
    difference = did.quality - part.quality[:, part.strong]
    n = max(1, len(part))
    saving = 1.0 - float(did.cost.sum()) / strong_cost if strong_cost else 0.0
    return Estimate(
        len(part),
        float(difference.mean()) if len(part) else 0.0,
        saving,
        float((difference != 0).mean()) if len(part) else 0.0,
        float(did.differs.mean()) if len(part) else 0.0,
        int((difference > 0).sum()),
        int((difference < 0).sum()),
        blind(part, saving) if n else 0.0,
    )


def blind(part: Part, saving_frac: float) -> float:
    """Loss of the best mix of strong with one other model that saves as much without reading anything.

    A share of the questions, picked by lot, goes to the other model.
    """
    quality, cost = part.quality.mean(axis=0), part.cost.mean(axis=0)
    strong = part.strong
    best = -math.inf
    for other in range(len(quality)):
        saves = 1.0 - cost[other] / cost[strong]
        if other != strong and saves > 0:
            share = saving_frac / saves
            if 0.0 <= share <= 1.0:
                best = max(best, share * float(quality[other] - quality[strong]))
    return float(best) if math.isfinite(best) else 0.0


def strongest(part: Part) -> int:
    """The model of the best mean quality; of equals the cheapest."""
    quality, cost = part.quality.mean(axis=0), part.cost.mean(axis=0)
    return int(min(range(len(quality)), key=lambda j: (-round(float(quality[j]), 9), cost[j])))


def candidates(part: Part, ahead: int, max_loss: float, read: Corpus | None = None) -> tuple[Candidate, ...]:
    """Up to ten policies, from the safest to the boldest, that ``ahead`` questions are likely to certify.

    Everything here looks at split A alone; what a policy will do is judged on folds that it was not fitted
    on.
    """
    return _few(all_candidates(part, read), ahead, max_loss)


def all_candidates(part: Part, read: Corpus | None = None, searched: int | None = None) -> list[Candidate]:
    """Every policy that is looked at on split A, each judged on folds that it was not fitted on.

    Where ``searched`` is given, chains are compared on that many first questions alone and judged on the
    others, so that their estimate is not flattered by the search.
    """
    cheap = _worth_asking(part)
    folds = _folds(len(part))
    found = [*_singles(part, cheap), *_by_task(part, cheap, folds)]
    if part.has_answers and cheap:
        found += _cascades(part, cheap, folds, searched)
    if read is not None and len(read.names) and cheap:
        found += _routers(part, cheap, folds, read)
    return found


def certify(
    chosen_on_a: Sequence[Candidate],
    part: Part,
    max_loss: float,
    confidence: float = 0.95,
    labels_a: int = 0,
) -> Certificate:
    """Test the candidates on split B in their order, each at the full level, until one fails.

    The order was fixed before B was looked at, so the chance that any policy that loses more than
    ``max_loss`` passes is at most 1 - ``confidence`` (fixed-sequence testing). A question without a grade
    whose answer differs counts as lost.
    """
    alpha = 1.0 - confidence
    tested: list[tuple[str, float]] = []
    won: tuple[Candidate, Estimate, float, Chosen] | None = None
    graded = np.zeros(len(part), dtype=np.bool_)
    first: Estimate | None = None
    for candidate in chosen_on_a:
        did = candidate.policy.run(part)
        graded |= did.differs
        seen = compared(did, part)
        first = first or seen
        p_value = _p_value(did, part, max_loss, alpha)
        tested.append((candidate.name, p_value))
        if p_value > alpha or seen.saving_frac <= 0:
            break
        won = (candidate, seen, p_value, did)
    labels_b = int(graded.sum())
    if won is None:
        more = None
        if chosen_on_a and first is not None:
            need = labels_needed(
                chosen_on_a[0].expected.difference, chosen_on_a[0].expected.discordant_frac, max_loss, alpha
            )
            share = first.differs_frac
            more = None if need is None else max(1, math.ceil(need * share) - labels_b)
        p_value = tested[0][1] if tested else 1.0
        return Certificate(
            None, None, p_value, -1.0, 0.0, labels_a, labels_b, tuple(tested), more, max_loss, confidence
        )
    candidate, seen, p_value, did = won
    return Certificate(
        candidate, seen, p_value, _lower(did, part, alpha), saving_lower(did, part, alpha), labels_a,
        labels_b, tuple(tested), None, max_loss, confidence,
    )  # fmt: skip


def _differences(did: Chosen, part: Part) -> Floats:
    difference = did.quality - part.quality[:, part.strong]
    return np.where(np.isnan(difference), np.where(did.differs, -1.0, 0.0), difference)


def _p_value(did: Chosen, part: Part, max_loss: float, alpha: float) -> float:
    difference = _differences(did, part)
    if not len(difference):
        return 1.0
    if _whole(part):
        return loss_p(
            len(difference), int((difference > 0).sum()), int((difference < 0).sum()), max_loss, alpha
        )
    return betting_p(_shuffled(difference), max_loss)


def _lower(did: Chosen, part: Part, alpha: float) -> float:
    difference = _differences(did, part)
    if _whole(part):
        return loss_lower(len(difference), int((difference > 0).sum()), int((difference < 0).sum()), alpha)
    return betting_lower(_shuffled(difference), alpha)


def _shuffled(values: Floats) -> Floats:
    """In an order of chance, as a bet on one after another needs: a file may be sorted by task."""
    return values[np.random.default_rng(len(values)).permutation(len(values))]


def _whole(part: Part) -> bool:
    """Whether every grade is 0 or 1."""
    known = part.quality[np.isfinite(part.quality)]
    return bool(np.isin(known, (0.0, 1.0)).all())


def saving_lower(did: Chosen, part: Part, alpha: float = 0.05) -> float:
    """Lower bound of the saving as a share of the strong model's cost, by betting on the saving of each
    question.

    It supposes that no question saves or costs more than the dearest one that was seen.
    """
    saved = part.cost[:, part.strong] - did.cost
    most = max(
        1e-12, float(np.abs(saved).max(initial=0.0)), float(part.cost[:, part.strong].max(initial=0.0))
    )
    return (
        betting_lower(_shuffled(saved / most), alpha)
        * most
        / max(1e-12, float(part.cost[:, part.strong].mean()))
    )


def label_rows(part: Part, models: Sequence[int]) -> int:
    """Questions of split A that need a grade: those on which the models do not all say the same."""
    if not part.has_answers:
        return len(part)
    said = part.answer[:, list(models)]
    return int(((said != said[:, :1]) | (said < 0)).any(axis=1).sum())


def _folds(n: int) -> Ints:
    return np.arange(n, dtype=np.int64) % _FOLDS


def _worth_asking(part: Part) -> list[int]:
    """Models that may save: cheaper than the strong one, on the two best fronts of cost and quality."""
    quality, cost = part.quality.mean(axis=0), part.cost.mean(axis=0)
    left = [j for j in range(len(cost)) if j != part.strong and cost[j] < 0.9 * cost[part.strong]]
    out: list[int] = []
    while left and len(out) < _MOST_MODELS:
        best, front = -math.inf, []
        for j in sorted(left, key=lambda j: (cost[j], -quality[j])):
            if quality[j] > best:
                best = quality[j]
                front.append(j)
        front.sort(key=lambda j: -quality[j])
        out += front[: _MOST_MODELS - len(out)]
        left = [j for j in left if j not in front]
    return out


def _singles(part: Part, cheap: Sequence[int]) -> list[Candidate]:
    return [Candidate("one model", Fixed(j), estimate(Fixed(j), part), (-2, j)) for j in cheap]


def _by_task(part: Part, cheap: Sequence[int], folds: Ints) -> list[Candidate]:
    """A model for each task: the one whose shrunk quality less the worth of its cost is best."""
    if part.tasks < 2:
        return []
    out = []
    for worth in WORTHS[::3]:

        def make(inner: Part, worth: float = worth) -> Policy:
            right = reliability(inner)
            models = [part.strong, *cheap]
            value = right[:, models] - worth * inner.cost.mean(axis=0)[models][None, :]
            best = [models[k] for k in value.argmax(axis=1)]
            best[-1] = part.strong
            return ByTask(tuple(best))

        out.append(_crossed("a model per task", part, folds, make))
    return out


def _crossed(name: str, part: Part, folds: Ints, make: _Make) -> Candidate:
    """A policy fitted on all of A, judged on folds that it was not fitted on."""
    parts = []
    for fold in range(_FOLDS):
        rows = np.flatnonzero(folds == fold)
        if len(rows):
            parts.append((rows, make(part.take(np.flatnonzero(folds != fold))).run(part.take(rows))))
    return Candidate(name, make(part), compared(_joined(len(part), parts), part), (-3,))


class _Make(Protocol):
    def __call__(self, inner: Part) -> Policy: ...


def _joined(n: int, parts: Sequence[tuple[Ints, Chosen]]) -> Chosen:
    quality, cost = np.zeros(n), np.zeros(n)
    model, differs = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    for rows, did in parts:
        quality[rows], cost[rows], model[rows], differs[rows] = did.quality, did.cost, did.model, did.differs
    return Chosen(quality, cost, model, differs)


def _cascades(part: Part, cheap: Sequence[int], folds: Ints, searched: int | None = None) -> list[Candidate]:
    """The best chains of a beam search, fitted at every trade-off."""
    ground = part if searched is None else part.take(np.arange(searched))
    judged = np.arange(searched or 0, len(part))
    right = reliability(ground)
    scored: dict[tuple[int, ...], float] = {}

    def value(front: tuple[int, ...]) -> float:
        if front not in scored:
            reading = Reading(ground, (*front, part.strong), right)
            scored[front] = float(reading.values(_SEARCHED).sum())
        return scored[front]

    alone: list[tuple[int, ...]] = [(j,) for j in cheap]
    beam = sorted(alone, key=value, reverse=True)[: 2 * _BEAM]
    for _ in range(_CHEAP - 1):
        longer = {(*front, j) for front in beam[:_BEAM] for j in cheap if j not in front}
        if not longer:
            break
        beam = sorted(longer, key=value, reverse=True)[: 2 * _BEAM]
    chains = sorted(scored, key=lambda front: scored[front], reverse=True)[:_CHAINS]
    out = []
    for front in chains:
        chain = (*front, part.strong)
        inner = [
            (np.flatnonzero(folds == f), Reading(part.take(np.flatnonzero(folds != f)), chain))
            for f in range(_FOLDS)
        ]
        ran = [(rows, run_each(reading.fits(WORTHS), part.take(rows))) for rows, reading in inner]
        for k, policy in enumerate(Reading(part, chain).fits(WORTHS)):
            did = _joined(len(part), [(rows, each[k]) for rows, each in ran])
            seen = compared(_rows_of(did, judged), part.take(judged))
            out.append(Candidate("cascade", policy, seen, chain))
    return out


def _rows_of(did: Chosen, rows: Ints) -> Chosen:
    return Chosen(did.quality[rows], did.cost[rows], did.model[rows], did.differs[rows])


def _routers(part: Part, cheap: Sequence[int], folds: Ints, read: Corpus) -> list[Candidate]:
    """The score of the text, for the two cheap models that lose least for what they save."""
    quality, cost = part.quality.mean(axis=0), part.cost.mean(axis=0)
    order = sorted(cheap, key=lambda j: quality[j] - 0.1 * cost[j], reverse=True)[:2]
    out = []
    for j in order:
        gain = part.quality[:, part.strong] - part.quality[:, j]
        whole = fit(read, gain, part.task, part.tasks, np.arange(len(part)))
        outer = np.zeros(len(part))
        for fold in range(_FOLDS):
            mine = folds == fold
            one = fit(read, gain, part.task, part.tasks, np.flatnonzero(~mine))
            outer[mine] = one.scores(read, part.task)[mine]
        for bar in bars(outer):
            model = np.where(outer >= bar, part.strong, j)
            did = chosen(part, model, part.cost[np.arange(len(part)), model])
            out.append(Candidate("router", Routed(whole, read, j, float(bar)), compared(did, part), (-1, j)))
    return out


def on(policy: Policy, read: Corpus | None, rows: Ints) -> Policy:
    """A policy as it runs on other questions: a router must be given their words."""
    if isinstance(policy, Routed) and read is not None:
        return Routed(policy.fitted, rows_of(read, rows), policy.cheap, policy.bar)
    return policy


def doubt_of(kind: str) -> float:
    """Standard errors that an estimate of a kind of policy is marked down by."""
    return _DOUBT.get(kind, _DOUBT_ELSE)


def _few(found: Sequence[Candidate], ahead: int, max_loss: float) -> tuple[Candidate, ...]:
    """Of the kind that promises most a few policies, from the safest to the boldest.

    One kind, because estimates of policies that read the same move together: what is chosen among them is a
    trade-off, not luck.
    """

    def chance(one: Candidate) -> float:
        seen = one.expected
        doubt = doubt_of(one.name) * math.sqrt(max(seen.discordant_frac, 1e-4) / max(1, seen.questions))
        return power(ahead, seen.difference - doubt, seen.discordant_frac, max_loss)

    chances = {id(one): chance(one) for one in found}
    saves = [one for one in found if one.expected.saving_frac >= _LEAST_SAVING]
    if not saves:
        return ()
    worth: dict[tuple[int, ...], list[float]] = {}
    for one in saves:
        worth.setdefault(one.group, []).append(one.expected.saving_frac * chances[id(one)])
    # The mean of a few trade-offs of a kind is less of a lucky draw than its best.
    group = max(worth, key=lambda key: sum(sorted(worth[key])[-_AVERAGED:]) / min(_AVERAGED, len(worth[key])))
    kind = [one for one in saves if one.group == group]
    best = max(kind, key=lambda one: one.expected.saving_frac * chances[id(one)])
    picked: dict[int, Candidate] = {}
    for least in _CHANCES:
        sure = [one for one in kind if chances[id(one)] >= least]
        if sure:
            most = max(sure, key=lambda one: one.expected.saving_frac)
            picked[id(most)] = most
    picked = picked or {id(best): best}
    return tuple(sorted(picked.values(), key=lambda one: one.expected.saving_frac)[:CANDIDATES])


__all__ = [
    "CANDIDATES",
    "Candidate",
    "Cascade",
    "Certificate",
    "Corpus",
    "Estimate",
    "Fitted",
    "Policy",
    "all_candidates",
    "blind",
    "candidates",
    "certify",
    "compared",
    "corpus",
    "doubt_of",
    "estimate",
    "label_rows",
    "on",
    "saving_lower",
    "strongest",
]  # fmt: skip
