"""From a request and a horizon to a path: the least-cost path, its rivals, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from isocost import risk
from isocost.errors import Infeasible
from isocost.forecast.prices import paths
from isocost.plan.make.build import Built
from isocost.plan.make.draft import Draft, month_ledger
from isocost.plan.path.ask import PathAsk
from isocost.plan.path.limits import met, months_of, stuck
from isocost.plan.path.month import charged, moved
from isocost.plan.path.proofs import proofs_of
from isocost.plan.path.result import Cell, Falling, PathResult, Rival, Step
from isocost.plan.path.stages import study_of, way_at
from isocost.plan.path.steps import Chosen, least_path
from isocost.plan.path.study import COUNT, HOST, MAKER, WORDS, Futures, Study
from isocost.plan.path.sure import costed, month_groups, solved_at
from isocost.plan.path.told import draft_at, headline_of, notes_of, rate_notes, signings_of, step_of
from isocost.plan.path.way import Way
from isocost.plan.path.ways import TODAY, on_terms
from isocost.plan.result import Band, Worth
from isocost.plan.solve.one_pool import one_pool
from isocost.plan.solve.problem import Floats, Solution, cost_of
from isocost.plan.tell import story
from isocost.units import WEEK_H

VOLUMES = tuple(4.0 ** (k / 2) for k in range(-4, 9))
"""Volumes over today's at which it is said who is cheapest."""
WORTHS_MOST = 3
RIVALS_MOST = 6


def make_path(built: Built, stays: Draft, ask: PathAsk) -> PathResult:
    """The least-cost path over a horizon for a plan's traffic.

    ``stays``: business as usual, as :func:`isocost.plan.make.singles.today_draft` gives it.

    Raises:
        Infeasible: in some quarter no way serves within the limits.
    """
    study = study_of(built, stays, ask)
    try:
        best = study.least()
    except Infeasible as error:
        raise stuck(study, error) from None
    drivers = _drivers(study)
    study = replace(study, ratios=risk.drawn(drivers, COUNT))
    alone = _alone(study)
    usd = costed(study, best)
    kept = {way.name: costed(study.only([way]), path) for way, path in alone}
    choice = risk.Choice(
        tuple(kept) or ("the path",),
        np.stack(list(kept.values()) or [usd]),
        _ratios(study),
    )
    solutions = [solved_at(study, w, q, best.committed[q]) for q, w in enumerate(best.ways)]
    drafts = [draft_at(study, best, q, found) for q, found in enumerate(solutions)]
    rivals = _rivals(study, alone, choice, kept)
    steps = [step_of(study, best, q, drafts[q], solutions[q]) for q in range(len(study.stages))]
    return PathResult(
        title=built.prepared.request.trace.title,
        priced_on=built.prepared.request.on.isoformat(),
        months=ask.months,
        growth_per_month=ask.growth_per_month,
        prices=ask.prices,
        headline=headline_of(study, best, rivals),
        steps=steps,
        signings=signings_of(study, best),
        usd=best.usd,
        mean_usd=float(usd.mean()),
        band=_band(usd, best.usd),
        bound_usd=best.bound_usd,
        gap_frac=max(0.0, 1.0 - best.bound_usd / best.usd) if best.usd > 0 else 0.0,
        week_error_frac=_week_error(study, best, solutions, steps),
        rivals=rivals,
        cells=_cells(study, drivers),
        worths=_worths(study, choice),
        falling=_falling(study, alone, usd),
        notes=[*notes_of(study, best, drafts), *rate_notes(study, drafts)],
        met=met(study, best, drafts),
        proofs=proofs_of(study, best),
    )


def _falling(study: Study, alone: Sequence[tuple[Way, Chosen]], path_usd: Floats) -> Falling | None:
    """The cheapest way of APIs alone at prices of a fixed quality, which fall as new models come."""
    way, kept = next(((way, kept) for way, kept in alone if not way.parts), (None, None))
    if way is None or kept is None or not study.ahead.paths:
        return None
    falls = paths(study.built.prepared.at, "capability", study.ask.months, COUNT)
    ahead = Futures({**study.ahead.paths, MAKER: falls, HOST: falls})
    usd = costed(replace(study.only([way]), ahead=ahead, costs={}), kept)
    middle = float(np.median(usd))
    return Falling(
        way.name, float(np.median(falls[:, study.ask.months])), middle, _band(usd, middle),
        float((path_usd < usd).mean()),
    )  # fmt: skip


def _alone(study: Study) -> list[tuple[Way, Chosen]]:
    """The least-cost path of each way kept for the whole horizon."""
    found = []
    for way in study.ways:
        own = study.only([way])
        if all(stage.priced for stage in own.stages):
            found.append((way, least_path(own.ways, own.stages, own.launches, own.hours, own.rate)))
    found.sort(key=lambda pair: pair[1].usd)
    return found[:RIVALS_MOST] + [pair for pair in found[RIVALS_MOST:] if pair[0].name == TODAY]


def _drivers(study: Study) -> dict[str, risk.Driver]:
    """What may move, of all ways."""
    built = study.built
    ledgers = [month_ledger(built.prepared, way.draft) for way in study.ways]
    return risk.with_families(story.drivers_of(built, ledgers), built.prepared.at)


def _ratios(study: Study) -> dict[str, Floats]:
    """Draws by driver, prices to come by where they stand in the middle of the horizon."""
    middle = {name: path[:, path.shape[1] // 2] for name, path in study.ahead.paths.items()}
    return {**study.ratios, **middle}


def _band(usd: np.ndarray, middle: float) -> Band:
    low, high = np.quantile(usd, [0.1, 0.9])
    return Band(min(float(low), middle), middle, max(float(high), middle))


def _rivals(
    study: Study,
    alone: Sequence[tuple[Way, Chosen]],
    choice: risk.Choice,
    kept: Mapping[str, Floats],
) -> list[Rival]:
    cheapest = choice.cheapest_frac()
    return [
        Rival(
            way.name, path.usd, _band(kept[way.name], path.usd), cheapest[way.name],
            risk.regret(choice, way.name).mean_usd, float(kept[way.name].mean()),
            _over_budget(study.only([way]), path),
        )
        for way, path in alone
    ]  # fmt: skip


def _over_budget(study: Study, path: Chosen) -> str:
    """From when a way that is kept throughout costs more than the budget; blank where it never does."""
    over = [month.label for month in months_of(study, path) if month.usd_per_month > study.budget_usd + 0.01]
    return f"over the budget from {over[0]}" if over else ""


def _worths(study: Study, choice: risk.Choice) -> list[Worth]:
    at = study.built.prepared.at
    found = [w for w in risk.evppi_usd(choice) if w.usd >= 1.0][:WORTHS_MOST]
    return [Worth(w.name, WORDS.get(w.name) or story.label(w.name, at), w.usd) for w in found]


def _cells(study: Study, drivers: dict[str, risk.Driver]) -> list[Cell]:
    """Who is cheapest by volume and horizon, staying with one way."""
    built, at = study.built, study.built.prepared.at
    by_volume = {}
    for multiple in VOLUMES:
        groups = {}
        for way in study.ways:
            now = way if study.limits is None else way_at(built, way, multiple, study.limits)
            if any(serving.offer is None for serving in now.draft.servings) and not now.parts:
                continue
            problems = [on_terms(part.problem, part.terms, multiple) for part in now.parts]
            found = [one_pool(problem, 0) for problem in problems]
            if any(one is None for one in found):
                continue
            solutions = [one for one in found if one is not None]
            paid = [
                int(one.reserved[0]) * study.hours * (problem.pools[0].reserved_usd_per_h or 0.0)
                for problem, one in zip(problems, solutions, strict=True)
            ]
            groups[way.name] = month_groups(built, now, multiple, solutions, paid)
        by_volume[built.prepared.volume.requests * multiple] = groups
    horizons = sorted({min(m, study.ask.months) for m in (12, 24, 36, study.ask.months)})
    rate = at.number("finance/any", "discount_rate_per_year")
    begins: dict[str, dict[tuple[str, ...], float]] = {
        way.name: {(): sum(study.launches[kind] for kind in way.kinds)} for way in study.ways if way.kinds
    }
    table = risk.surface(by_volume, drivers, study.ahead.paths, horizons, rate, begins)
    cells = []
    for v, volume in enumerate(table.volumes):
        for h, months in enumerate(table.horizons):
            fracs = [table.cheapest_frac[i][v][h] for i in range(len(table.options))]
            best = int(np.argmax(fracs))
            odds = {name: frac for name, frac in zip(table.options, fracs, strict=True) if frac > 0.0}
            cells.append(Cell(volume, months, table.options[best], fracs[best], odds))
    return cells


def _week_error(
    study: Study, best: Chosen, solutions: Sequence[Sequence[Solution]], steps: Sequence[Step]
) -> float | None:
    """What the first year by one week a quarter misjudges, against all its hours with growth week by week.

    A share of all that the year costs; ``None`` where no replicas run in it.
    """
    first = [q for q, stage in enumerate(study.stages) if stage.quarter.first < 12]
    estimated = exact = 0.0
    for q in first:
        way, stage = study.way(best.ways[q], q), study.stages[q]
        weeks = stage.quarter.months * study.hours / WEEK_H
        levels = [
            (1.0 + study.ask.growth_per_month)
            ** (stage.quarter.first + (k + 0.5) / weeks * stage.quarter.months)
            for k in range(round(weeks))
        ]
        hows = stage.priced[best.ways[q]].how
        for part, how, number, found in zip(way.parts, hows, best.committed[q], solutions[q], strict=True):
            one = moved(part, how[number].problem, way.cases, study.prices(q)._replace(multiple=1.0))
            year = replace(
                one,
                weight_h=np.full(
                    len(levels) * WEEK_H, stage.quarter.months * study.hours / (len(levels) * WEEK_H)
                ),
                api_usd_per_h=np.concatenate([one.api_usd_per_h * m for m in levels], axis=1),
                load_per_h=np.concatenate([one.load_per_h * m for m in levels], axis=2),
                pool_usd_per_h=np.concatenate([one.pool_usd_per_h for _ in levels], axis=2),
                wait_h=(),
                cyclic=False,
            )
            whole = one_pool(charged(year, how[number].usd_per_kg), 0, number)
            if whole is None:
                return None
            exact += cost_of(year, whole)
            estimated += found.usd_per_month * stage.quarter.months
    paid = sum(steps[q].usd_per_month * steps[q].months for q in first)
    return None if exact <= 0 or paid <= 0 else (estimated - exact) / paid
