"""Curves of a plan: cost by volume, the isoquant, who serves each hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from isocost.plan.make.build import Built, problem_of
from isocost.plan.make.draft import used_frac
from isocost.plan.make.singles import Single, pool_single
from isocost.plan.market.offers import Case
from isocost.plan.market.pools import PoolOption
from isocost.plan.result import (
    BreakEven,
    Hours,
    Isoquant,
    IsoquantPoint,
    Option,
)
from isocost.plan.solve.one_pool import allowed_on, stranded
from isocost.plan.tell.story import named
from isocost.plan.tell.volume import months_of
from isocost.units import WEEK_H

MULTIPLES = tuple(4.0 ** (k / 2) for k in range(-6, 11))
"""Volumes of the break-even over today's: a 64th to a thousandfold, two a factor of four."""


def hours_of(built: Built) -> Hours:
    """Requests, replicas and idle share of each deployment by hour of the week."""
    draft = built.draft
    served: dict[str, np.ndarray] = {}
    options: dict[str, str] = {}
    for serving in draft.servings:
        requests = serving.case.stream.usage.requests
        left = requests * (1.0 - serving.case.cache_hit_frac) if serving.cached else requests
        parts = [(name, frac * left) for name, frac in serving.pool_frac.items()]
        if serving.offer is not None and serving.api_frac.any():
            api = serving.offer.api
            parts.append((api.id, serving.api_frac * left))
            options[api.id] = "batch" if api.tier == "batch" else api.option
        if serving.cached:
            parts.append(("cache/exact", requests - left))
            options["cache/exact"] = "cache"
        for name, amount in parts:
            served[name] = served.get(name, np.zeros(WEEK_H)) + amount
    replicas = {name: np.zeros(WEEK_H, np.int64) for name in served}
    idle = {name: np.zeros(WEEK_H) for name in served}
    for schedule in draft.fleet.pools:
        option = next(o for o in draft.pools if o.pool.id == schedule.deployment)
        options[option.pool.id] = option.pool.option
        replicas[option.pool.id] = np.array([schedule.replicas(h) for h in range(WEEK_H)])
        idle[option.pool.id] = 1.0 - used_frac(draft, option, schedule)
    names = sorted(served, key=lambda name: -float(served[name].sum()))
    return Hours(
        names,
        [named(name) for name in names],
        [cast(Option, options[name]) for name in names],
        [[round(float(x), 3) for x in served[name]] for name in names],
        [[int(x) for x in replicas[name]] for name in names],
        [[round(float(x), 4) for x in idle[name]] for name in names],
    )


def break_even(built: Built, chosen: dict[str, Single]) -> BreakEven | None:
    """Monthly cost of each option's best single deployment by volume; ``None`` with fewer than two.

    APIs: tokens in proportion, standing costs as they follow volume. Replicas: the fleet that the
    scaled load needs, hour by hour. A deployment that lacks only proof is drawn too: the table says so.
    """
    series: list[tuple[Option, str, list[float | None]]] = []
    for option, single in chosen.items():
        if single.draft is None:
            continue
        month = months_of(built, single.draft)
        months = [month(multiple) for multiple in MULTIPLES]
        series.append((cast(Option, option), single.id, [m if m is None else m.total_usd for m in months]))
    if len(series) < 2:
        return None
    volumes = [built.prepared.volume.requests * multiple for multiple in MULTIPLES]
    return BreakEven(
        volumes,
        [option for option, _, _ in series],
        [label for _, label, _ in series],
        [values for _, _, values in series],
        _crossings(volumes, series),
    )


def _crossings(
    volumes: Sequence[float], series: Sequence[tuple[Option, str, list[float | None]]]
) -> list[tuple[str, str, float]]:
    """Where a line goes below another as volume grows, on logarithms between the grid's points."""
    found: list[tuple[str, str, float]] = []
    for a, _, ones in series:
        for b, _, twos in series:
            for j in range(len(volumes) - 1):
                window = (ones[j], twos[j], ones[j + 1], twos[j + 1])
                if a == b or any(value is None for value in window):
                    continue
                before, after = (
                    cast(float, ones[j]) - cast(float, twos[j]),
                    cast(float, ones[j + 1]) - cast(float, twos[j + 1]),
                )
                if before < 0 <= after:
                    part = before / (before - after)
                    at = volumes[j] * (volumes[j + 1] / volumes[j]) ** part
                    found.append((a, b, float(at)))
                    break
    return sorted(found, key=lambda crossing: crossing[2])


def isoquant(built: Built) -> Isoquant | None:
    """Mixes of one pool, always on, and the APIs that do all the work; ``None`` where no pool is tabulated.

    The pool is the plan's, else the one that could carry everything at the least rent. It serves all
    streams alike up to its capacity in each hour; the APIs serve the rest.
    """
    pool = next(iter(built.draft.pools), None) or _cheapest(built)
    if pool is None:
        return None
    prepared = built.prepared
    problem = problem_of(prepared, built.planned, (pool,), built.tables, proven=False)
    choice, weight = problem.pools[0], problem.weight_h
    allowed = allowed_on(problem, 0)
    if not (allowed & ~stranded(problem)).any():
        return None
    load = problem.load_per_h[allowed, 0].sum(axis=0)
    tokens = np.array([_tok_per_h(case) for case in built.planned])
    api = np.nan_to_num(problem.api_usd_per_h)
    most = int(choice.needed(load, problem.spare).max())
    points = []
    for n in sorted({round(x) for x in np.linspace(0, most, min(most, 40) + 1)}):
        capacity = choice.capacity_per_h(np.full(WEEK_H, n), problem.spare)
        taken = np.where(load > 0, np.minimum(1.0, capacity / np.where(load > 0, load, 1.0)), 0.0)
        left = np.where(allowed[:, None], 1.0 - taken[None, :], 1.0)
        gpu_h = n * pool.pool.gpus * float(weight.sum())
        mtok = float(((tokens * left).sum(axis=0)) @ weight) / 1e6
        usd = float((api * left).sum(axis=0) @ weight) + gpu_h * pool.pool.usd_per_gpu_h
        fixed = problem.fixed_usd_per_month if n else 0.0
        points.append(IsoquantPoint(gpu_h, mtok, usd + fixed, n))
    whole = float(tokens.sum(axis=0) @ weight) / 1e6
    price = float(api.sum(axis=0) @ weight) / whole if whole else 0.0
    chosen = min(range(len(points)), key=lambda i: points[i].usd_per_month)
    best = [case.best for case in built.planned if case.best is not None]
    names = list(dict.fromkeys(offer.api.subject.removeprefix("api/") for offer in best))
    apis = " and ".join(names if len(names) <= 2 else [names[0], f"{len(names) - 1} other APIs"])
    fixed = problem.fixed_usd_per_month
    return Isoquant(pool.pool.id, apis, points, chosen, pool.pool.usd_per_gpu_h, price, fixed)


def _cheapest(built: Built) -> PoolOption | None:
    """The tabulated pool that carries everything at the least cost, allowed or not."""
    whole = [(pool, single) for pool in built.options if (single := pool_single(built, pool)) is not None]
    return min(whole, key=lambda pair: (bool(pair[1].why_not), pair[1].usd_per_month), default=(None,))[0]


def _tok_per_h(case: Case) -> np.ndarray:
    """Tokens an hour that the stream's best API would see: (168,)."""
    offer = case.best
    if offer is None:
        return np.zeros(WEEK_H)
    tokens = [part.usage.all_input_tok + part.usage.output_tok for part in offer.parts]
    return np.asarray(np.sum(tokens, axis=0))
