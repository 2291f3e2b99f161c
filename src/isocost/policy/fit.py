"""Choose a policy on some questions, certify it on others, report it on the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from isocost.policy.agree import (
    ByTask,
    Cascade,
    Chosen,
    Fixed,
    Graded,
    Part,
    Reading,
    chosen,
    reliability,
    run_each,
)
from isocost.policy.bounds import (
    betting_lower,
    betting_p,
    labels_needed,
    loss_lower,
    loss_p,
    power,
    saving_interval,
    saving_moments,
)
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
LEAST_SAVING = 0.02
"""Saving below which a policy is not worth its trouble."""
_DOUBT: Mapping[str, float] = {"cascade": 0.5}
_DOUBT_ELSE = 1.5
"""Standard errors that an estimated difference is marked down by, for having been picked as the best. Reading
answers is doubted least: what it gains rests on agreement, not on a few hundred questions being like the
next."""
_AVERAGED = 4
_LEAST_CHANCE = 0.15
"""How likely the certificate of the boldest candidate should look: beyond it labels are spent for nothing."""


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

    ``chosen`` is ``None`` for strong-only. ``lower`` bounds the difference from below; the saving is
    ``saving_low`` to ``saving_high`` with its own confidence, two-sided. ``labels`` are the questions that
    needed a grade, in A and in B; ``tested`` the candidates that were tried on B. ``refused`` says what the
    first of them failed on (:class:`Climbed`); only of ``"quality"`` could ``more_labels`` settle it.
    """

    chosen: Candidate | None
    on_b: Estimate | None
    p_value: float
    lower: float
    saving_low: float
    saving_high: float
    labels_a: int
    labels_b: int
    tested: tuple[tuple[str, float], ...]
    more_labels: int | None
    max_loss: float
    confidence: float
    refused: str = ""


def estimate(policy: Policy, part: Part) -> Estimate:
    """Run a policy on questions and compare with strong-only and with the content-blind mix."""
    return compared(policy.run(part), part)


def compared(did: Chosen, part: Part) -> Estimate:
    """Compare what was done with strong-only; grades that are missing count as in :func:`differences`."""
    one = Chosen(did.quality[None], did.cost[None], did.model[None], did.differs[None])
    return _compared_each(one, part)[0]


def _compared_each(did: Chosen, part: Part) -> list[Estimate]:
    """:func:`compared` of some policies, whose arrays are (policies, n)."""
    n = len(part)
    if not n:
        return [Estimate(0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)] * len(did.cost)
    strong_cost = float(part.cost[:, part.strong].sum())
    difference = differences(did, part)
    wins, losses = (difference > 0).sum(axis=1), (difference < 0).sum(axis=1)
    mean, spent, differs = difference.mean(axis=1), did.cost.sum(axis=1), did.differs.mean(axis=1)
    out = []
    for k in range(len(spent)):
        saving = 1.0 - float(spent[k]) / strong_cost if strong_cost else 0.0
        out.append(Estimate(
            n, float(mean[k]), saving, float((wins[k] + losses[k]) / n), float(differs[k]), int(wins[k]),
            int(losses[k]), blind(part, saving),
        ))  # fmt: skip
    return out


def blind(part: Part, saving_frac: float) -> float:
    """Loss of the best mix of strong with one other model that saves as much without reading anything.

    A share of the questions, picked by lot, goes to the other model. Of questions with every grade.
    """
    quality, cost = part.means
    if not cost[part.strong] > 0:
        return 0.0
    saves = 1.0 - cost / cost[part.strong]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(saves > 0, saving_frac / saves, -1.0)
    share[part.strong] = -1.0
    can = (share >= 0.0) & (share <= 1.0)
    return float((share[can] * (quality[can] - quality[part.strong])).max()) if can.any() else 0.0


def strongest(part: Part) -> int:
    """The model of the best mean quality; of equals the cheapest."""
    quality, cost = part.quality.mean(axis=0), part.cost.mean(axis=0)
    return int(min(range(len(quality)), key=lambda j: (-round(float(quality[j]), 9), cost[j])))


def candidates(part: Part, ahead: int, max_loss: float, read: Corpus | None = None) -> tuple[Candidate, ...]:
    """Up to ten policies, from the safest to the boldest, that ``ahead`` questions are likely to certify.

    Everything here looks at split A alone; what a policy will do is judged on folds that it was not fitted
    on.
    """
    return few(all_candidates(part, read), ahead, max_loss)


def all_candidates(part: Part, read: Corpus | None = None, searched: int | None = None) -> list[Candidate]:
    """Every policy that is looked at on split A, each judged on folds that it was not fitted on.

    Where ``searched`` is given, models and chains are compared on that many first questions alone and judged
    on the others, so that their estimate is not flattered by the search.
    """
    cheap = _worth_asking(part if searched is None else part.take(np.arange(searched)))
    folds = _folds(len(part))
    found = [*_singles(part, cheap), *_by_task(part, cheap, folds)]
    if part.has_answers and cheap:
        found += _cascades(part, cheap, folds, searched)
    if read is not None and len(read.names) and cheap:
        found += _routers(part, cheap, folds, read)
    return found


@dataclass(frozen=True)
class Climbed:
    """How far up a ladder of candidates split B went: the last that passed (``None``: none), what it did and
    how it compares, what the first did, and the questions of B that needed a grade.

    ``stopped`` says what the next one failed on: ``"quality"``, ``"saving"`` or ``"labels"``; blank where all
    passed, or there was none.
    """

    won: Candidate | None
    did: Chosen | None
    seen: Estimate | None
    first: Estimate | None
    labels: int
    stopped: str = ""


def climb(
    ladder: Sequence[Candidate],
    part: Part,
    passes: Callable[[Candidate, Chosen], bool],
    alpha: float,
    most_labels: int | None = None,
) -> Climbed:
    """Try candidates in their order until one does not pass, may save nothing (the interval of its saving,
    ``alpha`` outside), or would need more than ``most_labels`` grades in all."""
    graded = np.zeros(len(part), dtype=np.bool_)
    up = Climbed(None, None, None, None, 0)
    for candidate in ladder:
        did = candidate.policy.run(part)
        needed = graded | did.differs
        if most_labels is not None and needed.sum() > most_labels:
            return replace(up, stopped="labels")
        graded, seen = needed, compared(did, part)
        up = replace(up, first=up.first or seen, labels=int(graded.sum()))
        if not passes(candidate, did):
            return replace(up, stopped="quality")
        if saving_bounds(did, part, alpha)[0] <= 0:
            return replace(up, stopped="saving")
        up = replace(up, won=candidate, did=did, seen=seen)
    return up


def certify(
    chosen_on_a: Sequence[Candidate],
    part: Part,
    max_loss: float,
    confidence: float = 0.95,
    labels_a: int = 0,
    after: float | None = None,
    outside: float | None = None,
) -> Certificate:
    """Test the candidates on split B in their order, each at the full level, until one fails, or may be
    dearer than strong-only.

    The order was fixed before B was looked at, so the chance that any policy that loses more than
    ``max_loss`` passes is at most 1 - ``confidence`` (fixed-sequence testing). A question without a grade
    whose answer differs counts as lost. ``after`` is the level of the test that further grades would be for
    (``None``: the same), ``outside`` what the interval of the saving leaves outside (``None``: the same).
    """
    alpha = 1.0 - confidence
    outside = alpha if outside is None else outside
    tested: list[tuple[str, float]] = []
    p_of: dict[int, float] = {}

    def passes(candidate: Candidate, did: Chosen) -> bool:
        tested.append((candidate.name, _p_value(did, part, max_loss, alpha)))
        p_of[id(candidate)] = tested[-1][1]
        return tested[-1][1] <= alpha

    up = climb(chosen_on_a, part, passes, outside)
    if up.won is None or up.did is None:
        more = None
        if up.first is not None and up.stopped == "quality":
            more = _more(
                chosen_on_a[0].expected, up.first, up.labels, max_loss, alpha if after is None else after
            )
        p_value = tested[0][1] if tested else 1.0
        return Certificate(
            None, None, p_value, -1.0, 0.0, 0.0, labels_a, up.labels, tuple(tested), more, max_loss,
            confidence, up.stopped,
        )  # fmt: skip
    return Certificate(
        up.won, up.seen, p_of[id(up.won)], _lower(up.did, part, alpha), *saving_bounds(up.did, part, outside),
        labels_a, up.labels, tuple(tested), None, max_loss, confidence,
    )  # fmt: skip


def _more(on_a: Estimate, on_b: Estimate, labels: int, max_loss: float, alpha: float) -> int | None:
    """Further grades that would settle what B did not (``None``: no number): as A and B see it together; as B
    alone where these together hold that it had enough."""
    n = on_a.questions + on_b.questions
    difference = (on_a.difference * on_a.questions + on_b.difference * on_b.questions) / n
    discordant = (on_a.discordant_frac * on_a.questions + on_b.discordant_frac * on_b.questions) / n
    more = 0
    for seen in ((difference, discordant), (on_b.difference, on_b.discordant_frac)):
        need = labels_needed(*seen, max_loss, alpha)
        if need is None:
            return None
        more = math.ceil(need * on_b.differs_frac) - labels
        if more > 0:
            return more
    return 1


def differences(did: Chosen, part: Part) -> Floats:
    """Quality less the strong model's, (n,); lost where an answer differs and nobody graded it."""
    difference = did.quality - part.quality[:, part.strong]
    return np.where(np.isnan(difference), np.where(did.differs, -1.0, 0.0), difference)


def _p_value(did: Chosen, part: Part, max_loss: float, alpha: float) -> float:
    difference = differences(did, part)
    if not len(difference):
        return 1.0
    if _whole(part):
        return loss_p(
            len(difference), int((difference > 0).sum()), int((difference < 0).sum()), max_loss, alpha
        )
    return betting_p(shuffled(difference), max_loss)


def _lower(did: Chosen, part: Part, alpha: float) -> float:
    return _lower_of(differences(did, part), _whole(part), alpha)


def _lower_of(difference: Floats, whole: bool, alpha: float) -> float:
    if whole:
        return loss_lower(len(difference), int((difference > 0).sum()), int((difference < 0).sum()), alpha)
    return betting_lower(shuffled(difference), alpha)


def shuffled(values: Floats) -> Floats:
    """In an order of chance, as a bet on one after another needs: a file may be sorted by task."""
    return values[np.random.default_rng(len(values)).permutation(len(values))]


def _whole(part: Part) -> bool:
    """Whether every grade is 0 or 1, of the file or else of the questions themselves."""
    if part.whole is not None:
        return part.whole
    known = part.quality[np.isfinite(part.quality)]
    return bool(np.isin(known, (0.0, 1.0)).all())


def saving_bounds(did: Chosen, part: Part, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided interval, with confidence 1 - ``alpha``, of the saving as a share of the strong model's
    cost."""
    base = part.cost[:, part.strong]
    low, high = saving_interval(saving_moments(base - did.cost, base).sum(axis=1), len(part), alpha)
    return float(low), float(high)


def difference_bounds(did: Chosen, part: Part, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided interval, with confidence 1 - ``alpha``, of the mean difference of quality, by the tests that
    certify."""
    found = differences(did, part)
    low, high = (_lower_of(sign * found, _whole(part), alpha / 2) for sign in (1.0, -1.0))
    return low, -high


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
    inner = [part.take(np.flatnonzero(folds != fold)) for fold in range(_FOLDS)]
    right = [reliability(one) for one in (*inner, part)]
    models = np.array([part.strong, *cheap])
    out = []
    for worth in WORTHS[::3]:
        made = []
        for one, known in zip((*inner, part), right, strict=True):
            best = (known[:, models] - worth * one.cost.mean(axis=0)[models][None, :]).argmax(axis=1)
            best[-1] = 0
            made.append(ByTask(tuple(models[best].tolist())))
        model = np.zeros(len(part), dtype=np.int64)
        for fold, policy in enumerate(made[:-1]):
            mine = folds == fold
            model[mine] = np.asarray(policy.models, dtype=np.int64)[part.task[mine]]
        seen = compared(chosen(part, model, part.cost[np.arange(len(part)), model]), part)
        out.append(Candidate("a model per task", made[-1], seen, (-3,)))
    return out


def _cascades(part: Part, cheap: Sequence[int], folds: Ints, searched: int | None = None) -> list[Candidate]:
    """The best chains of a beam search, fitted at every trade-off."""
    ground = Graded(part if searched is None else part.take(np.arange(searched)))
    scored: dict[tuple[int, ...], float] = {}

    def value(front: tuple[int, ...]) -> float:
        if front not in scored:
            scored[front] = float(Reading(ground, (*front, part.strong)).values(_SEARCHED).sum())
        return scored[front]

    alone: list[tuple[int, ...]] = [(j,) for j in cheap]
    beam = sorted(alone, key=value, reverse=True)[: 2 * _BEAM]
    for _ in range(_CHEAP - 1):
        longer = {(*front, j) for front in beam[:_BEAM] for j in cheap if j not in front}
        if not longer:
            break
        beam = sorted(longer, key=value, reverse=True)[: 2 * _BEAM]
    chains = sorted(scored, key=lambda front: scored[front], reverse=True)[:_CHAINS]
    whole = ground if searched is None else Graded(part)
    inner = [
        (np.flatnonzero(folds == f), Graded(part.take(np.flatnonzero(folds != f)))) for f in range(_FOLDS)
    ]
    held = [part.take(rows) for rows, _ in inner]
    judged = np.arange(searched or 0, len(part))
    judge = part if searched is None else part.take(judged)
    out = []
    for front in chains:
        chain = (*front, part.strong)
        model, cost = np.zeros((len(WORTHS), len(part)), dtype=np.int64), np.zeros((len(WORTHS), len(part)))
        for (rows, graded), mine in zip(inner, held, strict=True):
            model[:, rows], cost[:, rows] = run_each(Reading(graded, chain).fits(WORTHS), mine)
        seen = _compared_each(chosen(judge, model[:, judged], cost[:, judged]), judge)
        made = Reading(whole, chain).fits(WORTHS)
        out += [Candidate("cascade", policy, one, chain) for policy, one in zip(made, seen, strict=True)]
    return out


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


def all_on(found: Sequence[Candidate], read: Corpus | None, rows: Ints) -> list[Candidate]:
    """Candidates as they run on other questions: words are looked up once for all that share a score."""
    if read is None or not any(isinstance(one.policy, Routed) for one in found):
        return list(found)
    theirs = rows_of(read, rows)
    scored: dict[int, Floats] = {}
    out = []
    for one in found:
        policy = one.policy
        if isinstance(policy, Routed):
            if id(policy.fitted) not in scored:
                scored[id(policy.fitted)] = policy.fitted.of_words(theirs)
            policy = Routed(policy.fitted, theirs, policy.cheap, policy.bar, scored[id(policy.fitted)])
        out.append(replace(one, policy=policy))
    return out


def doubt_of(kind: str) -> float:
    """Standard errors that an estimate of a kind of policy is marked down by."""
    return _DOUBT.get(kind, _DOUBT_ELSE)


def chance_of(one: Candidate, ahead: int, max_loss: float, alpha: float = 0.05) -> float:
    """How likely ``ahead`` questions certify a candidate, as split A sees it, marked down for having been
    picked."""
    seen = one.expected
    doubt = doubt_of(one.name) * math.sqrt(max(seen.discordant_frac, 1e-4) / max(1, seen.questions))
    return power(ahead, seen.difference - doubt, seen.discordant_frac, max_loss, alpha)


def few(
    found: Sequence[Candidate], ahead: int, max_loss: float, alpha: float = 0.05
) -> tuple[Candidate, ...]:
    """Of the kind that promises most a few policies, from the safest to the boldest that a test at ``alpha``
    may still certify.

    One kind, because estimates of policies that read the same move together: what is chosen among them is a
    trade-off, not luck. The ladder begins with the policy that accepts least, however good a bolder one
    looks on a few hundred grades: a safe first rung costs nothing, a bold one that fails ends the tests.
    """

    chances = {id(one): chance_of(one, ahead, max_loss, alpha) for one in found}
    saves = [one for one in found if one.expected.saving_frac >= LEAST_SAVING]
    if not saves:
        return ()
    worth: dict[tuple[int, ...], list[float]] = {}
    for one in saves:
        worth.setdefault(one.group, []).append(one.expected.saving_frac * chances[id(one)])
    # The mean of a few trade-offs of a kind is less of a lucky draw than its best.
    group = max(worth, key=lambda key: sum(sorted(worth[key])[-_AVERAGED:]) / min(_AVERAGED, len(worth[key])))
    kind = sorted((one for one in saves if one.group == group), key=lambda one: one.expected.saving_frac)
    most = max(
        (one.expected.saving_frac for one in kind if chances[id(one)] >= _LEAST_CHANCE),
        default=kind[0].expected.saving_frac,
    )
    # Trade-offs that accept alike are one.
    unlike = {
        (one.expected.saving_frac, one.expected.difference): one
        for one in reversed(kind)
        if one.expected.saving_frac <= most
    }
    ladder = list(unlike.values())[::-1]
    rungs = np.unique(np.round(np.linspace(0, len(ladder) - 1, CANDIDATES)).astype(int))
    return tuple(ladder[k] for k in rungs)


__all__ = [
    "CANDIDATES",
    "LEAST_SAVING",
    "Candidate",
    "Cascade",
    "Certificate",
    "Corpus",
    "Estimate",
    "Fitted",
    "Policy",
    "all_candidates",
    "all_on",
    "blind",
    "candidates",
    "certify",
    "chance_of",
    "climb",
    "compared",
    "corpus",
    "difference_bounds",
    "differences",
    "doubt_of",
    "estimate",
    "few",
    "label_rows",
    "on",
    "saving_bounds",
    "shuffled",
    "strongest",
]  # fmt: skip
