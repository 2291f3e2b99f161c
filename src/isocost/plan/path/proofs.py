"""What grading is worth before a path is chosen: cheaper ways that lack proof alone, and their odds.

A way that may prove not worse than today's model is one of two things: allowed, or not. The path without it
costs V, the path with it V'; graded, one takes it if it passes. So grading is worth P (V - V'), the expected
value of perfect information about it, with P the odds that it is within the margin by published scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from statistics import NormalDist

from isocost.catalog.evidence import Verdict
from isocost.errors import Infeasible
from isocost.fleet import Fleet
from isocost.plan.make.build import Built, drafted, problem_of
from isocost.plan.make.draft import Serving
from isocost.plan.market.offers import Case, Offer
from isocost.plan.market.pools import Fit, PoolOption
from isocost.plan.market.terms import terms_of
from isocost.plan.path.result import Proof
from isocost.plan.path.stages import launches_of, stage_of
from isocost.plan.path.steps import Chosen
from isocost.plan.path.study import Study
from isocost.plan.path.way import Part, Way, kinds_of, pool_draft
from isocost.plan.path.ways import name_of
from isocost.plan.solve.one_pool import one_pool
from isocost.plan.tell.story import samples

APIS_MOST, POOLS_MOST = 2, 2
"""Unproven APIs and kinds of replica that are looked at: the cheapest of each."""
SHOWN_MOST = 3
QUALITY = "quality"


def odds_of(verdict: Verdict, margin: float) -> float | None:
    """The chance that a model is within the margin, by published scores; ``None``: they do not say.

    >>> odds_of(Verdict(False, "", -0.02, 0.01, -0.04, 0.0, 1, 100), 0.02)
    0.5
    """
    if not verdict.n_benchmarks or not isfinite(verdict.difference) or verdict.se <= 0.0:
        return None
    if verdict.lower >= -margin:
        # The scores would do, and are of too few kinds of work: they say nothing of this one.
        return None
    return NormalDist().cdf((verdict.difference + margin) / verdict.se)


def proofs_of(study: Study, best: Chosen) -> list[Proof]:
    """Ways that lack proof alone and would make the path cheaper, most worth first."""
    found = []
    for way, verdicts, workloads in (*_apis(study.built), *_pools(study.built)):
        path = _with(study, way)
        saves = 0.0 if path is None else best.usd - path.usd
        if saves < 1.0:
            continue
        # A model that is fine-tuned is another than the one that was scored.
        own = any(part.option.pool.option == "slm" for part in way.parts)
        odds = [None if own else odds_of(verdict, margin) for verdict, margin in verdicts]
        known = [one for one in odds if one is not None]
        likely = min(known) if len(known) == len(odds) else None
        many = samples(study.built)
        price = study.built.prepared.at.number("ops/evaluation", "usd_per_sample")
        found.append(
            Proof(
                way.name, workloads, saves, likely, saves * (1.0 if likely is None else likely), many,
                many * price, min((v for v, _ in verdicts), key=lambda v: v.passes).reason,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: -one.worth_usd)[:SHOWN_MOST]


def _with(study: Study, way: Way) -> Chosen | None:
    """The least-cost path with one more way."""
    ways = [*study.ways, way]
    assert study.limits is not None
    stages = []
    for q, stage in enumerate(study.stages):
        alone = stage_of(study.built, replace(stage, priced={}), [way], study.prices(q), study.limits)
        stages.append(
            replace(
                stage,
                priced={**stage.priced, **{len(study.ways) + w: month for w, month in alone.priced.items()}},
            )
        )
    more = replace(study, ways=ways, stages=stages, solved={}, costs={})
    more = replace(more, launches={**study.launches, **launches_of(more, [way])})
    try:
        return more.least()
    except Infeasible:
        return None


def _margin(study_margin: float, case: Case) -> float:
    points = case.slo.quality_margin_points
    return study_margin if points is None else points / 100.0


def _lacks_proof(built: Built, why_not: str, verdict: Verdict, case: Case) -> bool:
    """Whether proof alone is lacking, and what is published does not speak against it."""
    if not why_not.startswith(QUALITY) or "proven loss" in why_not:
        return False
    return not verdict.n_benchmarks or verdict.upper >= -_margin(built.prepared.market.margin, case)


def _apis(built: Built) -> list[tuple[Way, list[tuple[Verdict, float]], list[str]]]:
    """Ways of APIs in which one model that lacks proof takes what it is cheapest for."""
    margin, weight = built.prepared.market.margin, built.prepared.weight_h
    moved: dict[str, dict[int, Offer]] = {}
    gains: dict[str, float] = {}
    for s, case in enumerate(built.planned):
        best = case.best
        for offer in case.offers:
            if not offer.verdict.n_benchmarks or not _lacks_proof(built, offer.why_not, offer.verdict, case):
                continue
            gain = (best.usd_per_month(weight) if best is not None else 0.0) - offer.usd_per_month(weight)
            if gain > 0:
                gains[offer.api.id] = gains.get(offer.api.id, 0.0) + gain
                moved.setdefault(offer.api.id, {})[s] = offer
    ranked = sorted(gains, key=lambda name: (-gains[name], name))
    models: dict[str, str] = {}
    for name in ranked:
        models.setdefault(next(iter(moved[name].values())).api.model, name)
    found = []
    for name in list(models.values())[:APIS_MOST]:
        offers = moved[name]
        servings = [
            Serving(case, offers.get(s, case.best), {}, bool(case.cache_hit_frac.any()))
            for s, case in enumerate(built.planned)
        ]
        if any(serving.offer is None for serving in servings):
            continue
        draft = drafted(built.prepared, servings, (), Fleet())
        verdicts = [(o.verdict, _margin(margin, built.planned[s])) for s, o in offers.items()]
        users = list(dict.fromkeys(built.planned[s].stream.workload for s in offers))
        found.append((Way(name, draft, kinds_of(draft)), verdicts, users))
    return found


def _pools(built: Built) -> list[tuple[Way, list[tuple[Verdict, float]], list[str]]]:
    """Ways with one kind of replica that lacks proof, the APIs beside it."""
    margin = built.prepared.market.margin
    found: list[tuple[float, Way, list[tuple[Verdict, float]], list[str]]] = []
    for option in built.options:
        fits = [(s, option.fits[case.stream.id]) for s, case in enumerate(built.planned)]
        lacking = [
            (s, fit) for s, fit in fits if _lacks_proof(built, fit.why_not, fit.verdict, built.planned[s])
        ]
        if not lacking:
            continue
        allowed = _allowed(option, lacking, built.planned)
        problem = problem_of(built.prepared, built.planned, (allowed,), built.tables)
        solution = one_pool(problem, 0)
        if solution is None:
            continue
        part = Part(
            allowed,
            problem,
            tuple(range(len(built.planned))),
            tuple(terms_of(built.prepared.at, option.pool)),
        )
        way = Way("", built.draft, frozenset(), (part,), built.planned)
        draft = pool_draft(built.prepared, way, [solution])
        way = replace(way, name=name_of(draft), draft=draft, kinds=kinds_of(draft))
        verdicts = [(fit.verdict, _margin(margin, built.planned[s])) for s, fit in lacking]
        users = list(dict.fromkeys(built.planned[s].stream.workload for s, _ in lacking))
        found.append((solution.usd_per_month, way, verdicts, users))
    found.sort(key=lambda one: one[0])
    return [(way, verdicts, users) for _, way, verdicts, users in found[:POOLS_MOST]]


def _allowed(option: PoolOption, lacking: Sequence[tuple[int, Fit]], cases: Sequence[Case]) -> PoolOption:
    """The kind of replica as if it were proven for these streams."""
    fits = dict(option.fits)
    for s, fit in lacking:
        fits[cases[s].stream.id] = replace(fit, why_not="")
    return replace(option, fits=fits)
