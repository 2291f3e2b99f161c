"""Why no plan meets the limits: the smallest set that cannot hold together, and what each way out costs.

Every choice that the catalog knows is priced with no limit at all, then asked which of the limits
speak against it. A plan exists under some limits exactly where a choice has none of them against it: so
the smallest conflict is the smallest set of limits that meets every choice's, and a way out gives up
the limits of one choice. What a request needs (context, tools) is a fact of the traffic, never relaxed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from isocost.deployment import Ask, misplaced
from isocost.errors import Infeasible
from isocost.keep.standing import usd
from isocost.plan.asked.limits import Slo
from isocost.plan.make.build import build, kg_of
from isocost.plan.market.offers import Case, Offer, ask_of
from isocost.plan.market.pools import PoolOption, pool_options
from isocost.plan.market.prepare import Prepared
from isocost.plan.solve.mix import CARBON
from isocost.plan.solve.one_pool import whole_pool
from isocost.plan.solve.problem import PoolChoice, Problem
from isocost.units import PS_PER_S, SECONDS_PER_H, money

QUALITY = "quality_margin_points"
PLACES = ("place", "regions", "not_providers")
SPEEDS = ("ttft_p95_s", "tpot_p95_s")
RELAXABLE = (*PLACES, *SPEEDS, QUALITY)
"""Limits of a stream that a person may give up."""
EVERY_POINT = 100.0
"""A margin that no shown difference exceeds: what still fails then lacks evidence, not points."""
WAYS_MOST = 6
POOLS_LOOKED_AT = 40


@dataclass(frozen=True)
class Choice:
    """Something that could serve a stream: its cost, and the limits of :data:`RELAXABLE` against it.

    ``points`` is the least quality margin that takes it; ``ttft_s`` and ``tpot_s`` the least limits that
    it can hold, NaN where not known; ``provider`` is blank on replicas of one's own.
    """

    id: str
    usd_per_month: float
    against: frozenset[str]
    points: float
    ttft_s: float
    tpot_s: float
    provider: str


def explain(prepared: Prepared, error: Infeasible, usd_per_month: float | None = None) -> Infeasible:
    """The error with the smallest conflict of limits and the price of each way out.

    ``usd_per_month`` is what the least-cost plan costs, where it exceeds the budget. An error that is about
    neither a stream nor the budget comes back as it is.
    """
    planned = [case for case in prepared.cases if case.today is not None]
    words = " ".join((error.what, *error.conflict))
    if error.where == CARBON:
        return _carbon(prepared, planned, error)
    stuck = [case for case in planned if case.best is None and case.stream.id in words]
    if stuck:
        # Longest first: the name of one stream may begin another's.
        return _stream(prepared, max(stuck, key=lambda case: len(case.stream.id)), error)
    if prepared.request.limits.budget_usd_per_month is not None and planned and not error.conflict:
        return _budget(prepared, planned, error, usd_per_month)
    return error


def _stream(prepared: Prepared, case: Case, error: Infeasible) -> Infeasible:
    """A stream that nothing may serve."""
    active = limits_on(case)
    choices = _pruned(_blocked(choice, active) for choice in _choices(prepared, case, active))
    if not choices:
        return Infeasible(
            error.what,
            conflict=(f"what {case.stream.id} needs: {_needs(case.ask)}",),
            where=error.where,
            fix="No offering is known to take such requests, whatever the limits; see 'isocost catalog list'",
        )
    conflict = _hitting([choice.against for choice in choices], active)
    ways = [(_words(prepared, case, choice), _price(choice)) for choice in choices[:WAYS_MOST]]
    return Infeasible(
        error.what,
        conflict=[typed(prepared, case, name) for name in conflict],
        ways_out=ways,
        where=error.where,
        fix=error.fix or "Relax a limit in slo.toml",
    )


def _carbon(prepared: Prepared, cases: Sequence[Case], error: Infeasible) -> Infeasible:
    """Replicas that emit more than is allowed, and streams that nothing else may serve."""
    limits = prepared.request.limits
    stuck = [case for case in cases if case.best is None]
    most_kg = limits.carbon_kg_per_month
    if most_kg is None or not stuck:
        return error
    free = msgspec.structs.replace(limits, carbon_kg_per_month=None)
    try:
        built = build(replace(prepared, request=replace(prepared.request, limits=free)))
    except Infeasible:
        return error
    needed = _up(kg_of(prepared, built.draft))
    paid = f"{money(built.usd_per_month)} a month, what the least-cost plan costs without it"
    conflict = [f"slo.toml {CARBON} = {most_kg:g}"]
    ways = [(f"{CARBON} of {needed:g} instead of {most_kg:g}", paid)]
    for case in stuck:
        active = limits_on(case)
        choices = _pruned(_apis(prepared, case, active))
        named = _hitting([choice.against for choice in choices], active) if choices else ()
        conflict += [typed(prepared, case, name) for name in named]
        ways += [(_words(prepared, case, choice), _price(choice)) for choice in choices[:WAYS_MOST]]
    return Infeasible(
        error.what,
        conflict=tuple(dict.fromkeys(conflict)),
        ways_out=ways[:WAYS_MOST],
        where=f"slo.toml {CARBON}",
        fix="Raise it, or let APIs take a part",
    )


def _budget(
    prepared: Prepared, cases: Sequence[Case], error: Infeasible, usd_per_month: float | None
) -> Infeasible:
    """A plan that costs more than is allowed: what gives the most for giving up one limit of one stream."""
    budget = prepared.request.limits.budget_usd_per_month or 0.0
    conflict = [f"slo.toml budget_usd_per_month = {budget:g}"]
    ways: list[tuple[float, str, str]] = []
    if usd_per_month is not None:
        text = f"budget_usd_per_month of {_up(usd_per_month):g} instead of {budget:g}"
        ways.append((-math.inf, text, f"{money(usd_per_month)} a month, what the least-cost plan costs"))
    for case in cases:
        now = math.inf if case.best is None else case.best.usd_per_month(prepared.weight_h)
        single = [c for c in _apis(prepared, case, limits_on(case)) if len(c.against) == 1]
        for choice in _pruned(c for c in single if c.usd_per_month < now):
            saved = now - choice.usd_per_month
            conflict += [typed(prepared, case, name) for name in choice.against]
            less = "" if math.isinf(saved) else f", {money(saved)} less than now"
            over = usd_per_month is not None and usd_per_month - saved > budget
            short = " but still over the budget" if over else ""
            ways.append((-saved, _words(prepared, case, choice), _price(choice) + less + short))
    ways.sort(key=lambda way: way[0])
    return Infeasible(
        error.what,
        conflict=tuple(dict.fromkeys(conflict)),
        ways_out=[way[1:] for way in ways[:WAYS_MOST]],
        where=error.where,
        fix=error.fix or "Raise the budget or relax a limit in slo.toml",
    )


def limits_on(case: Case) -> tuple[str, ...]:
    """The limits of :data:`RELAXABLE` that a stream has, in that order."""
    ask, speeds = case.ask, () if case.ask.wait_s is not None else SPEEDS
    found = {
        "place": ask.own_place,
        "regions": bool(ask.regions),
        "not_providers": bool(ask.not_providers),
        **{name: getattr(case.slo, name) is not None for name in speeds},
        QUALITY: True,
    }
    return tuple(name for name in RELAXABLE if found.get(name))


def typed(prepared: Prepared, case: Case, name: str) -> str:
    """A limit as its user typed it, with the table it stands in; else as the default it is."""
    limits, workload = prepared.request.limits, case.stream.workload
    for table, slo in (
        (f"[workload.{workload}]", limits.workload.get(workload)),
        ("[default]", limits.default),
    ):
        value = None if slo is None else getattr(slo, name)
        if value is not None:
            return f"slo.toml {table} {name} = {_toml(value)}"
    return f"{name} = {_toml(_value(prepared, case, name))}, the default"


def _value(prepared: Prepared, case: Case, name: str) -> object:
    value = getattr(case.slo, name)
    return 100.0 * prepared.market.margin if name == QUALITY and value is None else value


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f"{value:g}" if isinstance(value, int | float) else f'"{value}"'


def _relaxed(case: Case, names: Iterable[str]) -> Case:
    """The stream without some of its limits."""
    free = {name: EVERY_POINT if name == QUALITY else None for name in names}
    slo: Slo = msgspec.structs.replace(case.slo, **free)
    return replace(case, slo=slo, ask=ask_of(case.stream, slo))


def _choices(prepared: Prepared, case: Case, active: tuple[str, ...]) -> list[Choice]:
    return [*_apis(prepared, case, active), *_pools(prepared, case, active)]


def _apis(prepared: Prepared, case: Case, active: tuple[str, ...]) -> list[Choice]:
    """Offerings that could serve with no limit at all, and the limits against each."""
    found = []
    for offer in prepared.market.offers(_relaxed(case, RELAXABLE)):
        if offer.why_not:
            continue
        against = {name for name in active if _speaks(prepared, case, offer, name)}
        points = _points(prepared, case, offer.api.model) if QUALITY in against else 0.0
        found.append(
            Choice(
                offer.api.id,
                offer.usd_per_month(prepared.weight_h),
                frozenset(against),
                points,
                math.nan if offer.ttft_p95_s is None else offer.ttft_p95_s,
                math.nan,
                offer.api.provider,
            )
        )
    return found


def _speaks(prepared: Prepared, case: Case, offer: Offer, name: str) -> bool:
    """Whether one limit alone speaks against an offering."""
    same = case.today is not None and offer.api.subject == case.today.subject
    if name == "place":
        return True
    if name == "regions":
        return bool(misplaced(prepared.at, offer.api, Ask(0, 0, (), False, case.ask.regions, (), None)))
    if name == "not_providers":
        return offer.api.provider in case.ask.not_providers
    if name == "ttft_p95_s":
        limit, found = case.slo.ttft_p95_s, offer.ttft_p95_s
        return limit is not None and found is not None and found > limit and not same
    return name == QUALITY and not _passes(prepared, case, offer.api.model, _margin_points(prepared, case))


def _margin_points(prepared: Prepared, case: Case) -> float:
    points = case.slo.quality_margin_points
    return 100.0 * prepared.market.margin if points is None else points


def _passes(prepared: Prepared, case: Case, model: str, points: float) -> bool:
    today = case.today.model if case.today is not None else case.stream.model
    return prepared.market.verdict(model, today, points / 100.0).passes


def _points(prepared: Prepared, case: Case, model: str) -> float:
    """The least whole points of margin under which the evidence on a model passes."""
    low, high = int(_margin_points(prepared, case)), int(EVERY_POINT)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _passes(prepared, case, model, middle) else (middle, high)
    return float(high)


def _pools(prepared: Prepared, case: Case, active: tuple[str, ...]) -> list[Choice]:
    """Replicas by closed form: under the latency limits, under none, and where that helps under each."""
    speeds = tuple(name for name in SPEEDS if name in active)
    held = _pools_without(prepared, case, ())
    free = _pools_without(prepared, case, speeds) if speeds else []
    if len(speeds) > 1 and any(not any(one.against <= each.against for one in held) for each in free):
        for name in speeds:
            held += _pools_without(prepared, case, (name,))
    return [*held, *free]


def _pools_without(prepared: Prepared, case: Case, given_up: tuple[str, ...]) -> list[Choice]:
    """Replicas that carry a stream without some of its latency limits and its margin of quality."""
    relaxed = _relaxed(case, (QUALITY, *given_up))
    options = pool_options(prepared.at, prepared.market, [relaxed], prepared.weight_h, keep=POOLS_LOOKED_AT)
    able = [o for o in options if not o.fits[case.stream.id].why_not and o.goodput_per_s > 0]
    found = [_pool(prepared, case, option, given_up) for option in able]
    return [choice for choice in found if math.isfinite(choice.usd_per_month)]


def _pool(prepared: Prepared, case: Case, option: PoolOption, given_up: tuple[str, ...]) -> Choice:
    pool, model = option.pool, option.pool.model
    bad = not _passes(prepared, case, model, _margin_points(prepared, case))
    points = _points(prepared, case, model) if bad else 0.0
    ratio = option.fits[case.stream.id].ratio
    prompt, held = ratio.input * case.stream.input_p95_tok, ratio.input * case.stream.max_input_tok
    return Choice(
        pool.id,
        _pool_usd(prepared, case, option),
        frozenset((*given_up, QUALITY)) if bad else frozenset(given_up),
        points,
        (pool.first_token_ps + pool.base_ps + pool.prefill_ps_per_tok * prompt) / PS_PER_S,
        (pool.base_ps + pool.seq_ps + pool.kv_ps_per_tok * held) / PS_PER_S,
        "",
    )


def _pool_usd(prepared: Prepared, case: Case, option: PoolOption) -> float:
    """Rent of the cheapest schedule that carries a stream by closed form, people and making a model."""
    reserved, spot = option.rents.get("reserved_1y"), option.rents.get("spot")
    gpus, rate_per_h = option.pool.gpus, option.goodput_per_s * SECONDS_PER_H
    kind = PoolChoice(
        option.pool.id,
        rate_per_h,
        rate_per_h,
        option.usd_per_h,
        None if reserved is None else reserved.usd_per_gpu_h * gpus,
        None if spot is None else spot.usd_per_gpu_h * gpus,
        0,
        0.0,
    )
    load = case.stream.usage.requests * (1.0 - case.cache_hit_frac) * case.stream.peak
    hours = load.size
    problem = Problem(
        prepared.weight_h,
        np.full((1, hours), np.nan),
        load.reshape(1, 1, hours),
        np.zeros((1, 1, hours)),
        (kind,),
        0.0,
        case.slo.spare_replicas or 0,
        prepared.at.number("planning/spot", "most_frac"),
        (case.stream.id,),
    )
    found = whole_pool(problem, 0)
    if found is None:
        return math.inf
    mean = float(found.replicas[0] @ prepared.weight_h / prepared.weight_h.sum()) * gpus
    lines = prepared.standings
    standing = lines.people("selfhost", 1, mean, prepared.request.have.platform_fte)
    standing = [*standing, *lines.launch(option.pool.option), *lines.porting(option.pool.gpu)]
    if option.pool.option == "slm":
        params = prepared.at.number(f"model/{option.pool.model}", "params_total")
        standing += lines.making(prepared.volume, params)
    return found.usd_per_month + usd(standing)


def _blocked(choice: Choice, active: tuple[str, ...]) -> Choice:
    """A choice of a stream that is stuck: where the closed form finds nothing against it, replay did."""
    late = frozenset(name for name in SPEEDS if name in active)
    return choice if choice.against else replace(choice, against=late)


def _pruned(choices: Iterable[Choice]) -> list[Choice]:
    """The best choice of each set of limits, without sets that hold another's; fewest limits first.

    Best is the least margin of quality, then the least cost.
    """
    best: dict[frozenset[str], Choice] = {}
    for choice in choices:
        held = best.get(choice.against)
        if held is None or (choice.points, choice.usd_per_month) < (held.points, held.usd_per_month):
            best[choice.against] = choice
    least = [one for one in best.values() if not any(other < one.against for other in best)]
    return sorted(least, key=lambda choice: (len(choice.against), choice.usd_per_month, choice.id))


def _hitting(against: Sequence[frozenset[str]], active: tuple[str, ...]) -> tuple[str, ...]:
    """The fewest limits of which each choice has at least one against it."""
    for count in range(1, len(active) + 1):
        for names in itertools.combinations(active, count):
            if all(each & set(names) for each in against):
                return names
    return active


def _words(prepared: Prepared, case: Case, choice: Choice) -> str:
    """What is given up for a choice, all of it."""
    order = [name for name in RELAXABLE if name in choice.against]
    return f"{case.stream.workload}: " + " and ".join(_word(prepared, case, choice, name) for name in order)


def _word(prepared: Prepared, case: Case, choice: Choice, name: str) -> str:
    now = _toml(_value(prepared, case, name))
    if name == "place":
        return 'place = "any" instead of "own"'
    if name == "regions":
        return f"allow providers not known to answer from {' or '.join(case.ask.regions)}"
    if name == "not_providers":
        return f"allow {choice.provider}"
    if name == QUALITY:
        return f"{name} of {choice.points:g} instead of {now}"
    least = choice.ttft_s if name == "ttft_p95_s" else choice.tpot_s
    limit = getattr(case.slo, name)
    if math.isnan(least) or least <= limit:
        return f"a longer {name} than {now}"
    return f"{name} of at least {_up(least):g} instead of {now}"


def _up(value: float) -> float:
    """Rounded up to two figures, so that the value still holds."""
    if value <= 0:
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / step - 1e-9) * step, 12)


def _price(choice: Choice) -> str:
    what = " of tokens" if choice.provider else ", people included,"
    return f"{money(choice.usd_per_month)} a month{what} on {choice.id}"


def _needs(ask: Ask) -> str:
    words = [f"{ask.max_input_tok + ask.max_output_tok:,} tokens of context", *ask.needs]
    return ", ".join(words)
