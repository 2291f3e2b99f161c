"""From a request and a horizon to a path: ways priced by quarter, the least-cost path, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from isocost import risk
from isocost.errors import Infeasible
from isocost.finance import rate_per_month
from isocost.forecast.prices import paths
from isocost.plan.asked.streams import WEEK_H
from isocost.plan.make.build import Built
from isocost.plan.make.draft import DAYS, Draft, month_ledger
from isocost.plan.market.quotas import METERS
from isocost.plan.market.terms import Term
from isocost.plan.path.ask import PathAsk, Quarter, quarters
from isocost.plan.path.limits import over_budget, too_much_carbon
from isocost.plan.path.result import Cell, Falling, PathResult, Rival, Signing, Step
from isocost.plan.path.steps import Chosen, Stage, least_path, there_is
from isocost.plan.path.study import COUNT, RENTAL, WORDS, Study, follows, futures
from isocost.plan.path.sure import costed, month_groups, moving_on, solved_at
from isocost.plan.path.ways import TODAY, Part, Way, at_volume, launch_usd, pool_draft, priced, ways_of
from isocost.plan.result import Band, Worth
from isocost.plan.solve.one_pool import one_pool
from isocost.plan.solve.problem import Floats, Problem, Solution
from isocost.plan.tell import story
from isocost.units import count, money, percent

VOLUMES = tuple(4.0 ** (k / 2) for k in range(-4, 9))
"""Volumes over today's at which it is said who is cheapest."""
WORTHS_MOST = 3
ABOVE, OVER = "above", "over"
"""What an API is asked for: more than its highest tier, more than the account has."""
RIVALS_MOST = 6


def make_path(built: Built, stays: Draft, ask: PathAsk) -> PathResult:
    """The least-cost path over a horizon for a plan's traffic.

    ``stays``: business as usual, as :func:`isocost.plan.make.singles.today_draft` gives it.

    Raises:
        Infeasible: in some quarter no way serves within the limits.
    """
    most_kg = built.prepared.request.limits.carbon_kg_per_month
    study = _study(built, stays, ask, most_kg)
    try:
        best = least_path(study.ways, study.stages, study.launches, study.hours, study.rate)
    except Infeasible as error:
        raise _why(built, stays, ask, most_kg, error) from None
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
    solutions = [solved_at(study, study.ways[w], q, best.committed[q]) for q, w in enumerate(best.ways)]
    rivals = _rivals(alone, choice, kept)
    steps = [_step(study, best, q, solutions[q]) for q in range(len(study.stages))]
    budget = built.prepared.request.limits.budget_usd_per_month
    if (over := over_budget(steps, study.multiples, ask, budget)) is not None:
        raise over
    return PathResult(
        title=built.prepared.request.trace.title,
        priced_on=built.prepared.request.on.isoformat(),
        months=ask.months,
        growth_per_month=ask.growth_per_month,
        prices=ask.prices,
        headline=_headline(study, best, rivals),
        steps=steps,
        signings=_signings(study, best),
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
        notes=[*_notes(study, best), *_rate_notes(study, best, solutions)],
    )


def _why(built: Built, stays: Draft, ask: PathAsk, most_kg: float | None, error: Infeasible) -> Infeasible:
    """The error with what conflicts, where a limit on emissions does."""
    if most_kg is None:
        return error
    free = _study(built, stays, ask, None)
    try:
        best = least_path(free.ways, free.stages, free.launches, free.hours, free.rate)
    except Infeasible:
        return error
    needed = max(stage.priced[w].kg for stage, w in zip(free.stages, best.ways, strict=True))
    return too_much_carbon(error, most_kg, needed, best.usd, ask.months)


def _falling(study: Study, alone: Sequence[tuple[Way, Chosen]], path_usd: Floats) -> Falling | None:
    """The cheapest way of APIs alone at prices of a fixed quality, which fall as new models come."""
    way = next((way for way, _ in alone if not way.parts), None)
    if way is None or not study.ahead.paths:
        return None
    falls = paths(study.built.prepared.at, "capability", study.ask.months, COUNT)
    usd = moving_on(study, way, falls)
    middle = float(np.median(usd))
    return Falling(
        way.name, float(np.median(falls[:, study.ask.months])), middle, _band(usd, middle),
        float((path_usd < usd).mean()),
    )  # fmt: skip


def _study(built: Built, stays: Draft, ask: PathAsk, most_kg: float | None) -> Study:
    at, on = built.prepared.at, built.prepared.request.on
    hours = at.number("finance/any", "hours_per_month")
    rate = rate_per_month(at.number("finance/any", "discount_rate_per_year"))
    steps = quarters(on, ask.months)
    multiples = [
        float(np.mean([(1.0 + ask.growth_per_month) ** (q.first + k + 0.5) for k in range(q.months)]))
        for q in steps
    ]
    ahead = futures(at, ask.months, ask.prices)
    ways = ways_of(built, stays, max(multiples))
    stages = []
    for quarter, multiple in zip(steps, multiples, strict=True):
        middle = quarter.middle
        discounted = sum((1.0 + rate) ** -(quarter.first + k + 1) for k in range(quarter.months))
        held: dict[str, int] = {}
        for lot in built.prepared.request.have.on(_last_day(quarter)).gpus:
            held[lot.gpu] = held.get(lot.gpu, 0) + lot.count
        gpu_ratio = ahead.middle(RENTAL, middle)
        months = {
            w: found
            for w, way in enumerate(ways)
            if (found := priced(built, way, multiple, ahead.middle(follows(way), middle), gpu_ratio))
            is not None
            and (most_kg is None or found.kg <= most_kg)
        }
        stages.append(Stage(quarter, discounted, (1.0 + rate) ** -quarter.first, gpu_ratio, held, months))
    launches = {kind: usd for way in ways for kind, usd in launch_usd(way, built).items()}
    return Study(built, ask, ways, stages, multiples, launches, hours, rate, ahead)


def _last_day(quarter: Quarter) -> date:
    """The last month of a quarter: what is held must be there to its end."""
    at = quarter.starts.month - 1 + quarter.months - 1
    return date(quarter.starts.year + at // 12, at % 12 + 1, 1)


def _alone(study: Study) -> list[tuple[Way, Chosen]]:
    """The least-cost path of each way kept for the whole horizon."""
    found = []
    for way in study.ways:
        own = study.only([way])
        if all(stage.priced for stage in own.stages):
            found.append((way, least_path(own.ways, own.stages, own.launches, own.hours, own.rate)))
    return sorted(found, key=lambda pair: pair[1].usd)[:RIVALS_MOST]


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


def _step(study: Study, best: Chosen, q: int, solutions: Sequence[Solution]) -> Step:
    built, stage, way = study.built, study.stages[q], study.ways[best.ways[q]]
    weight = built.prepared.weight_h
    volume = built.prepared.volume.requests * study.multiples[q]
    month = stage.priced[best.ways[q]].month_usd(best.committed[q])
    month += sum(
        one.count * one.usd_per_gpu_h * study.hours
        for one in best.signed
        if one.step <= q and stage.quarter.first < study.stages[one.step].quarter.first + one.term.months
    )
    change = _change(study, best, q)
    if not solutions:
        return Step(
            stage.quarter.label, stage.quarter.months, volume, way.name, 1.0, WEEK_H, "all hours", 0, 0.0, 0,
            month, change,
        )  # fmt: skip
    requests = np.stack([case.stream.usage.requests for case in built.planned])
    left = requests.copy()
    for part, solution in zip(way.parts, solutions, strict=True):
        left[list(part.streams)] *= 1.0 - solution.pool_frac[:, 0]
    api = left.sum(axis=0)
    some = api > 0.005 * requests.sum(axis=0).max()
    replicas = np.sum([solution.replicas[0] for solution in solutions], axis=0)
    return Step(
        stage.quarter.label, stage.quarter.months, volume, way.name,
        float((left @ weight).sum() / (requests @ weight).sum()), int(some.sum()), when(some),
        int(replicas.max()), float(replicas @ weight / weight.sum()), sum(best.committed[q]), month, change,
    )  # fmt: skip


def when(hours: np.ndarray) -> str:
    """Hours of the week, (168,) flags, in words.

    >>> flags = np.zeros(168, bool)
    >>> flags[[9, 10, 11, 33, 34, 35]] = True
    >>> when(flags)
    'Mon-Tue 09-12 UTC'
    """
    if hours.all():
        return "all hours"
    if not hours.any():
        return "never"
    days = hours.reshape(7, 24)
    runs: list[tuple[int, int, str]] = []
    for d in range(7):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], days[d].astype(int), [0]))))
        text = ", ".join(f"{a:02d}-{b:02d}" for a, b in zip(edges[::2], edges[1::2], strict=True))
        if runs and runs[-1][2] == text:
            runs[-1] = (runs[-1][0], d, text)
        else:
            runs.append((d, d, text))
    if len([text for _, _, text in runs if text]) > 2 or max(len(text) for _, _, text in runs) > 14:
        return f"in {int(hours.sum())} of {len(hours)} hours of the week"
    said = [
        f"{DAYS[a].title()}{'' if a == b else '-' + DAYS[b].title()} {text}" for a, b, text in runs if text
    ]
    return "; ".join(said) + " UTC"


def _change(study: Study, best: Chosen, q: int) -> str:
    """What is done at the start of a quarter."""
    said = []
    way = study.ways[best.ways[q]]
    if q == 0:
        if way.name != TODAY:
            said.append(f"start {way.name}")
    elif best.ways[q] != best.ways[q - 1]:
        said.append(f"switch to {way.name}")
    said += [f"sign {one.count}x {one.gpu} for {one.term.words}" for one in best.signed if one.step == q]
    if q:
        before, now = study.stages[q - 1].held, study.stages[q].held
        said += [f"{before[g] - now.get(g, 0)}x {g} held end" for g in before if now.get(g, 0) < before[g]]
    return "; ".join(said)


def _signings(study: Study, best: Chosen) -> list[Signing]:
    on = study.built.prepared.request.on
    last = study.stages[-1].quarter
    found = [
        Signing("held", lot.gpu, lot.count, "held", lot.until.isoformat(), lot.usd_per_gpu_h,
                _used(study, best, lot.gpu, None), True)
        for lot in study.built.prepared.request.have.on(on).gpus
    ]  # fmt: skip
    for one in best.signed:
        starts = study.stages[one.step].quarter
        beyond = max(0, starts.first + one.term.months - last.first - last.months)
        found.append(
            Signing(
                starts.label, one.gpu, one.count, one.term.words, _ends(starts.starts, one.term).isoformat(),
                one.usd_per_gpu_h, _used(study, best, one.gpu, one.step), False,
                one.count * one.usd_per_gpu_h * study.hours * beyond,
            )
        )  # fmt: skip
    return found


def _ends(starts: date, term: Term) -> date:
    at = starts.month - 1 + term.months
    return date(starts.year + at // 12, at % 12 + 1, 1)


def _used(study: Study, best: Chosen, gpu: str, step: int | None) -> float:
    """Share of the committed accelerators of a kind that the path's ways run, while they are there."""
    there = used = 0.0
    for q, stage in enumerate(study.stages):
        if step is not None and q < step:
            continue
        total = there_is(study.stages, best.signed, gpu, q)
        mine = sum(
            number * part.gpus
            for part, number in zip(study.ways[best.ways[q]].parts, best.committed[q], strict=True)
            if part.gpu == gpu
        )
        there += total * stage.months
        used += min(total, mine) * stage.months
    return used / there if there else 0.0


def _rivals(
    alone: Sequence[tuple[Way, Chosen]], choice: risk.Choice, kept: Mapping[str, Floats]
) -> list[Rival]:
    cheapest = choice.cheapest_frac()
    return [
        Rival(
            way.name, path.usd, _band(kept[way.name], path.usd), cheapest[way.name],
            risk.regret(choice, way.name).mean_usd, float(kept[way.name].mean()),
        )
        for way, path in alone
    ]  # fmt: skip


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
            problems = [_on_terms(part, multiple) for part in way.parts]
            found = [one_pool(problem, 0) for problem in problems]
            if any(one is None for one in found):
                continue
            solutions = [one for one in found if one is not None]
            paid = [
                int(one.reserved[0]) * study.hours * (problem.pools[0].reserved_usd_per_h or 0.0)
                for problem, one in zip(problems, solutions, strict=True)
            ]
            groups[way.name] = month_groups(built, way, multiple, solutions, paid)
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


def _on_terms(part: Part, multiple: float) -> Problem:
    """A part at a volume, kept for a year or more: what always runs is taken on the best term."""
    ratio = min((term.price_ratio for term in part.terms), default=1.0)
    pool = part.problem.pools[0]
    return replace(
        part.problem,
        api_usd_per_h=part.problem.api_usd_per_h * multiple,
        load_per_h=part.problem.load_per_h * multiple,
        pools=(replace(pool, held=0, reserved_usd_per_h=pool.on_demand_usd_per_h * ratio),),
    )


def _week_error(
    study: Study, best: Chosen, solutions: Sequence[Sequence[Solution]], steps: Sequence[Step]
) -> float | None:
    """What the first year by one week a quarter misjudges, against all its hours with growth week by week.

    A share of all that the year costs; ``None`` where no replicas run in it.
    """
    first = [q for q, stage in enumerate(study.stages) if stage.quarter.first < 12]
    estimated = exact = 0.0
    for q in first:
        way, stage = study.ways[best.ways[q]], study.stages[q]
        ratio = study.ahead.middle(follows(way), stage.quarter.middle)
        weeks = stage.quarter.months * study.hours / WEEK_H
        levels = [
            (1.0 + study.ask.growth_per_month)
            ** (stage.quarter.first + (k + 0.5) / weeks * stage.quarter.months)
            for k in range(round(weeks))
        ]
        for part, number, found in zip(way.parts, best.committed[q], solutions[q], strict=True):
            one = at_volume(part, 1.0, ratio, stage.gpu_ratio)
            year = replace(
                one,
                weight_h=np.full(
                    len(levels) * WEEK_H, stage.quarter.months * study.hours / (len(levels) * WEEK_H)
                ),
                api_usd_per_h=np.concatenate([one.api_usd_per_h * m for m in levels], axis=1),
                load_per_h=np.concatenate([one.load_per_h * m for m in levels], axis=2),
                pool_usd_per_h=np.concatenate([one.pool_usd_per_h for _ in levels], axis=2),
                cyclic=False,
            )
            whole = one_pool(year, 0, number)
            if whole is None:
                return None
            exact += whole.usd_per_month
            estimated += found.usd_per_month * stage.quarter.months
    paid = sum(steps[q].usd_per_month * steps[q].months for q in first)
    return None if exact <= 0 or paid <= 0 else (estimated - exact) / paid


def _headline(study: Study, best: Chosen, rivals: list[Rival]) -> str:
    months = study.ask.months
    text = f"Over {months} months the least-cost path costs {money(best.usd)} of today's money"
    today = next((r for r in rivals if r.way == TODAY), None)
    if today is not None and today.usd is not None and today.usd > best.usd * 1.001:
        text += f", {money(today.usd - best.usd)} less than staying as today"
    start = study.ways[best.ways[0]].name
    told = [] if start == TODAY else [f"start {start} at once"]
    switches = [q for q in range(1, len(best.ways)) if best.ways[q] != best.ways[q - 1]]
    if switches:
        q = switches[0]
        told.append(f"switch to {study.ways[best.ways[q]].name} in {study.stages[q].quarter.label}")
    elif best.signed:
        first = best.signed[0]
        label = study.stages[first.step].quarter.label
        more = f", the first of {len(best.signed)} commitments" if len(best.signed) > 1 else ""
        told.append(f"sign {first.count}x {first.gpu} for {first.term.words} in {label}{more}")
    else:
        told.append("sign nothing, switch nothing on the way")
    text += f"; {', '.join(told)}"
    return text + "."


def _notes(study: Study, best: Chosen) -> list[str]:
    growth, volume = study.ask.growth_per_month, count(study.built.prepared.volume.requests)
    grows = f"Traffic grows {percent(growth)} a month, from {volume} requests a month."
    said = [grows if growth else "Traffic stays as it is (--growth 4%/mo)."]
    if study.ways[best.ways[0]].name != TODAY:
        said.append(
            "A plan of one month spreads what a change takes over the change's life at today's volume, and"
            " may stay where this path changes."
        )
    if study.ask.prices == "flat":
        said.append("Prices of APIs and rents stay as they are today (--prices forecast).")
    else:
        mid = study.ask.months
        parts = [
            f"{WORDS[n].removesuffix(' to come')} {study.ahead.middle(n, mid):.2f}x"
            for n in study.ahead.paths
        ]
        said.append(f"Prices at the end of the horizon, median of the forecast: {', '.join(parts)}.")
    said.append("At any time two kinds of replica at most run beside the APIs.")
    return said


def _rate_notes(study: Study, best: Chosen, solutions: Sequence[Sequence[Solution]]) -> list[str]:
    """From when an API on the path needs a higher usage tier, or more than any that is published."""
    tiers: dict[tuple[str, str], str] = {}
    said = []
    for q, stage in enumerate(study.stages):
        way = study.ways[best.ways[q]]
        draft = pool_draft(study.built, way, solutions[q]) if way.parts else way.draft
        for load in draft.loads(study.built.prepared):
            more = replace(load, asked=load.asked * study.multiples[q])
            key, name = (load.provider, load.model), f"{load.provider}/{load.model}"
            tier = more.tier
            if load.tiers and tier is None and tiers.get(key) != ABOVE:
                meter = more.fullest(load.tiers[-1].most)
                asked = f"{count(more.asked[meter].max())} {METERS[meter]} a minute"
                text = f"{name} is asked for {asked} from {stage.quarter.label}, more than any published tier"
                said.append(f"{text} ({count(load.tiers[-1].most[meter])}): agree on it before.")
                tiers[key] = ABOVE
            elif tier is not None and tiers.get(key, tier.tier) not in (tier.tier, ABOVE):
                said.append(f"{name} needs usage tier {tier.tier} from {stage.quarter.label}.")
            if tier is not None:
                tiers[key] = tier.tier
            elif more.most is not None and more.most.stated and more.over and tiers.get(key) != OVER:
                said.append(f"{name} is asked for more than your account's limit from {stage.quarter.label}.")
                tiers[key] = OVER
    return said
