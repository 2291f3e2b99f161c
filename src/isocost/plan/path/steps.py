"""The least-cost path, as a programme over quarters: who serves, what is signed, what is launched.

For quarter q with discounted months d_q, way w, accelerator g and term t:

minimise   sum_q d_q sum_w (b_w x_wq + sum_p theta_wpq) + sum_kq D_q u_k l_kq + sum_gtq s_gtq r_gtq
subject to sum_w x_wq = 1,   theta_wpq >= (a_wpi - b_wpi i) x_wq + b_wpi c_wpq   (hull of its months)
           sum_p gpus_p c_wpq <= G_gq = held_gq + sum over terms in force of r_gtq'   (p on accelerator g)
           c_wpq <= C_wpq x_wq,   sum_(q' <= q) l_kq' >= x_wq  where w needs k launched
           sum_w (b_w x_wq + sum_p theta_wpq) + sum over terms paid in q of rent r_gtq' <= budget
           x, l in {0, 1},  r whole

with p the kinds of replica of a way and s_gtq the discounted rent of a term until it ends, beyond the
horizon too: so a path signs what outlives it only where that pays within the horizon, its whole rent counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.market.terms import Term
from isocost.plan.path.ask import Quarter
from isocost.plan.path.month import Priced
from isocost.plan.path.way import Way
from isocost.plan.solve.milp import INF, Columns, Rows, minimise
from isocost.plan.solve.problem import Floats

NODES = 2000
BUDGET_TRIES = 6
CENT = 0.01
GAP_FRAC = 1e-4


@dataclass(frozen=True)
class Stage:
    """A quarter's data: discounted months, discount at its start, price of accelerators, what is held.

    ``priced`` has the month of each way that serves the quarter; ``here`` the ways that differ in it from
    what they are today, and ``free``, by limit, what ways that it holds back would cost without it.
    """

    quarter: Quarter
    months: float
    discount: float
    gpu_ratio: float
    held: Mapping[str, int]
    priced: Mapping[int, Priced]
    here: Mapping[int, Way] = field(default_factory=dict)
    free: Mapping[str, Mapping[int, Priced]] = field(default_factory=dict)


@dataclass(frozen=True)
class Signed:
    """So many accelerators signed at the start of a quarter on a term, at dollars for each an hour."""

    step: int
    gpu: str
    term: Term
    count: int
    usd_per_gpu_h: float


@dataclass(frozen=True)
class Chosen:
    """A path: the way of each quarter, committed replicas in use there by kind, what is signed; its bound."""

    ways: tuple[int, ...]
    committed: tuple[tuple[int, ...], ...]
    signed: tuple[Signed, ...]
    usd: float
    bound_usd: float


def needs(ways: Sequence[Way], stage: Stage, w: int) -> frozenset[str]:
    """What must have been launched for a way in a quarter."""
    return ways[w].kinds | frozenset(stage.priced[w].more)


def term_usd(stages: Sequence[Stage], step: int, months: int, hours: float, rate: float) -> float:
    """Discounted hours that a term signed at a step is paid for: dollars for one dollar an hour.

    One shorter than a quarter is signed again until the quarter ends.
    """
    first = stages[step].quarter.first
    paid = max(months, stages[step].quarter.months)
    return float(sum(hours * (1.0 + rate) ** -(first + k + 1) for k in range(paid)))


def least_path(
    ways: Sequence[Way],
    stages: Sequence[Stage],
    launches: Mapping[str, float],
    hours: float,
    rate: float,
    budget_usd: float = INF,
) -> Chosen:
    """The cheapest path and what none goes below.

    ``hours`` in a month, ``rate`` the discount of a month. ``budget_usd``: the most that any month may cost,
    launches apart; the hull of months lies below them, so that what is allowed is lowered until they hold.

    Raises:
        Infeasible: in some quarter no way serves, or none within the budget.
    """
    allowed = [budget_usd] * len(stages)
    before: list[float] | None = None
    for _ in range(BUDGET_TRIES):
        try:
            found = _least(ways, stages, launches, hours, rate, allowed)
        except Infeasible:
            if before is None:
                raise
            # Lowered too far: half as far may leave a path.
            allowed = [(a + b) / 2.0 for a, b in zip(allowed, before, strict=True)]
            continue
        over = [month_usd(stages, found, q, hours) - budget_usd for q in range(len(stages))]
        if all(usd <= CENT for usd in over):
            return found
        before = allowed
        allowed = [most - max(0.0, usd) * 1.01 for most, usd in zip(allowed, over, strict=True)]
    raise Infeasible("no path was found within the budget")


def month_usd(stages: Sequence[Stage], path: Chosen, q: int, hours: float) -> float:
    """What a month of a quarter costs, undiscounted: who serves, and what is signed and still paid for."""
    usd = stages[q].priced[path.ways[q]].month_usd(path.committed[q])
    return usd + sum(
        one.count * one.usd_per_gpu_h * hours
        for one in path.signed
        if paid_in(stages, one.step, one.term.months, q)
    )


def paid_in(stages: Sequence[Stage], step: int, months: int, q: int) -> bool:
    """Whether what is signed at a step for so many months is paid for in some month of a quarter."""
    return 0 <= stages[q].quarter.first - stages[step].quarter.first < months


def _least(
    ways: Sequence[Way],
    stages: Sequence[Stage],
    launches: Mapping[str, float],
    hours: float,
    rate: float,
    allowed: Sequence[float],
) -> Chosen:
    """The cheapest path whose months cost no more than is allowed, as far as the hull says."""
    columns, rows = Columns(), Rows()
    count = len(ways)
    gpus = sorted({part.gpu for way in ways for part in way.parts})
    terms: dict[str, dict[str, Term]] = {g: {} for g in gpus}
    rents: dict[tuple[str, str], float] = {}
    for part in (part for way in ways for part in way.parts):
        for term in part.terms:
            # A term's ratio is over the rent of its own size of replica.
            key, usd_per_h = (part.gpu, term.name), part.option.pool.usd_per_gpu_h * term.price_ratio
            if usd_per_h < rents.get(key, INF):
                rents[key], terms[part.gpu][term.name] = usd_per_h, term
    x = np.full((len(stages), count), -1)
    for q, stage in enumerate(stages):
        there = [w for w in range(count) if w in stage.priced]
        if not there:
            raise Infeasible(f"nothing that the limits allow serves {stage.quarter.label}")
        for w in there:
            x[q, w] = columns.add(stage.months * stage.priced[w].base_usd, 1.0, True)
        rows.add([(int(x[q, w]), 1.0) for w in there], 1.0, 1.0)
    signing: dict[tuple[int, str, str], int] = {}
    for q in range(len(stages)):
        for gpu in gpus:
            most = _most(ways, stages, gpu)
            for name, term in terms[gpu].items():
                price = rents[gpu, name] * stages[q].gpu_ratio
                usd = price * term_usd(stages, q, term.months, hours, rate)
                signing[q, gpu, name] = columns.add(usd, float(most), True)
    for q, stage in enumerate(stages):
        month_terms = [(int(x[q, w]), month.base_usd) for w, month in stage.priced.items()]
        for w, month in stage.priced.items():
            uses: dict[str, list[tuple[int, float]]] = {}
            for part, months, lines in zip(ways[w].parts, month.parts, month.hulls, strict=True):
                theta, top = columns.add(stage.months, INF), float(len(months) - 1)
                month_terms.append((theta, 1.0))
                c = columns.add(0.0, top)
                rows.add([(c, 1.0), (int(x[q, w]), -top)], -INF, 0.0)
                for value, slope in lines:
                    rows.add([(theta, 1.0), (int(x[q, w]), -value), (c, -slope)], 0.0, INF)
                uses.setdefault(part.gpu, []).append((c, float(part.gpus)))
            for gpu, used in uses.items():
                active = [
                    (column, -1.0)
                    for (step, g, name), column in signing.items()
                    if g == gpu and in_force(stages, step, terms[g][name].months, q)
                ]
                rows.add([*used, *active], -INF, float(stage.held.get(gpu, 0)))
        if allowed[q] < INF:
            month_terms += [
                (column, rents[g, name] * stages[step].gpu_ratio * hours)
                for (step, g, name), column in signing.items()
                if paid_in(stages, step, terms[g][name].months, q)
            ]
            rows.add(month_terms, -INF, allowed[q])
    for kind, usd in launches.items():
        begun: list[int] = []
        for q, stage in enumerate(stages):
            begun.append(columns.add(usd * stage.discount, 1.0, True))
            for w in stage.priced:
                if kind in needs(ways, stage, w):
                    rows.add([*((b, 1.0) for b in begun), (int(x[q, w]), -1.0)], 0.0, INF)
    answer = minimise(columns, rows, offset_usd=0.0, gap_frac=GAP_FRAC, nodes=NODES)
    if answer.values is None:
        raise Infeasible("no path was found over the horizon")
    values = answer.values
    chosen = tuple(max((values[x[q, w]], -w, w) for w in stage.priced)[2] for q, stage in enumerate(stages))
    signed = tuple(
        Signed(q, gpu, terms[gpu][name], round(values[column]),
               rents[gpu, name] * stages[q].gpu_ratio)
        for (q, gpu, name), column in signing.items() if round(values[column]) > 0
    )  # fmt: skip
    committed, usd = cost_path(ways, stages, chosen, signed, launches, hours, rate)
    return Chosen(chosen, committed, signed, usd, min(usd, answer.bound_usd))


def _most(ways: Sequence[Way], stages: Sequence[Stage], gpu: str) -> int:
    """The most accelerators of a kind that any way could use in any quarter."""
    return max(
        (
            sum(
                (len(months) - 1) * part.gpus
                for part, months in zip(ways[w].parts, month.parts, strict=True)
                if part.gpu == gpu
            )
            for stage in stages
            for w, month in stage.priced.items()
        ),
        default=0,
    )


def in_force(stages: Sequence[Stage], step: int, months: int, q: int) -> bool:
    """Whether what is signed at a step for so many months is there to the end of a quarter."""
    since = stages[q].quarter.first - stages[step].quarter.first
    return since >= 0 and since + stages[q].quarter.months <= max(months, stages[step].quarter.months)


def allotted(months: Sequence[Floats], gpus: Sequence[int], there: int) -> tuple[int, ...]:
    """Committed replicas in use of kinds on one accelerator, of so many that are there, for the least cost.

    What is there and would only take care stays off.

    >>> allotted([np.array([9.0, 5.0]), np.array([9.0, 3.0, 2.0])], [2, 1], 3)
    (1, 1)
    """
    first = months[0][: there // gpus[0] + 1]
    if len(months) == 1:
        return (int(first.argmin()),)
    if len(months) == 2:
        # What the second kind costs with so many accelerators at most, looked up for every first.
        left = np.minimum((there - np.arange(len(first)) * gpus[0]) // gpus[1], len(months[1]) - 1)
        number = int((first + np.minimum.accumulate(months[1])[left]).argmin())
        return number, int(months[1][: left[number] + 1].argmin())
    best: tuple[float, tuple[int, ...]] = (INF, ())
    for n, usd in enumerate(first):
        rest = allotted(months[1:], gpus[1:], there - n * gpus[0])
        whole = float(usd) + sum(float(m[k]) for m, k in zip(months[1:], rest, strict=True))
        if whole < best[0]:
            best = (whole, (n, *rest))
    return best[1]


def there_is(stages: Sequence[Stage], signed: Sequence[Signed], gpu: str, q: int) -> int:
    """Accelerators of a kind that are held or signed in a quarter."""
    return stages[q].held.get(gpu, 0) + sum(
        one.count for one in signed if one.gpu == gpu and in_force(stages, one.step, one.term.months, q)
    )


def cost_path(
    ways: Sequence[Way],
    stages: Sequence[Stage],
    chosen: Sequence[int],
    signed: Sequence[Signed],
    launches: Mapping[str, float],
    hours: float,
    rate: float,
) -> tuple[tuple[tuple[int, ...], ...], float]:
    """Committed replicas in use by quarter and kind, and the discounted cost of a path, from its parts."""
    usd, committed = 0.0, []
    launched: set[str] = set()
    for one in signed:
        usd += one.count * one.usd_per_gpu_h * term_usd(stages, one.step, one.term.months, hours, rate)
    for q, (stage, w) in enumerate(zip(stages, chosen, strict=True)):
        way, month = ways[w], stage.priced[w]
        numbers = [0] * len(way.parts)
        for gpu in {part.gpu for part in way.parts}:
            mine = [i for i, part in enumerate(way.parts) if part.gpu == gpu]
            found = allotted(
                [month.parts[i] for i in mine],
                [way.parts[i].gpus for i in mine],
                there_is(stages, signed, gpu, q),
            )
            for i, number in zip(mine, found, strict=True):
                numbers[i] = number
        committed.append(tuple(numbers))
        usd += stage.months * month.month_usd(numbers)
        kinds = needs(ways, stage, w)
        usd += sum(launches[kind] for kind in kinds - launched) * stage.discount
        launched |= kinds
    return tuple(committed), usd
