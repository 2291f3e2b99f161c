"""The least-cost path, as a programme over quarters: who serves, what is signed, what is launched.

For quarter q with discounted months d_q, way w, accelerator g and term t:

minimise   sum_q d_q sum_w theta_wq + sum_kq D_q u_k l_kq + sum_gtq s_gtq r_gtq
subject to sum_w x_wq = 1,   theta_wq >= (a_wi - b_wi i) x_wq + b_wi c_wq   (the convex hull of its months)
           gpus_w c_wq <= G_gq = held_gq + sum over terms in force of r_gtq',   c_wq <= C_wq x_wq
           sum_(q' <= q) l_kq' >= x_wq  where w needs k launched,   x, l in {0, 1},  r whole

with s_gtq the discounted rent of a term until it ends, beyond the horizon too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.path.ask import Quarter
from isocost.plan.path.terms import Term
from isocost.plan.path.ways import Priced, Way
from isocost.plan.solve.milp import INF, Columns, Rows, minimise
from isocost.plan.solve.problem import Floats

NODES = 2000
GAP_FRAC = 1e-4


@dataclass(frozen=True)
class Stage:
    """A quarter's data: discounted months, discount at its start, price of accelerators, what is held."""

    quarter: Quarter
    months: float
    discount: float
    gpu_ratio: float
    held: Mapping[str, int]
    priced: Mapping[int, Priced]


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
    """A path: the way of each quarter, committed replicas in use there, what is signed; cost and bound."""

    ways: tuple[int, ...]
    committed: tuple[int, ...]
    signed: tuple[Signed, ...]
    usd: float
    bound_usd: float


def envelope(usd: Floats) -> list[tuple[float, float]]:
    """Lines (value at 0, slope) whose maximum is the lower convex hull of values at 0, 1, …

    >>> envelope(np.array([4.0, 1.0, 0.0]))
    [(4.0, -3.0), (2.0, -1.0)]
    """
    hull: list[int] = []
    for i in range(len(usd)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (usd[b] - usd[a]) * (i - a) < (usd[i] - usd[a]) * (b - a):
                break
            hull.pop()
        hull.append(i)
    if len(hull) == 1:
        return [(float(usd[0]), 0.0)]
    lines = []
    for a, b in pairwise(hull):
        slope = float(usd[b] - usd[a]) / (b - a)
        lines.append((float(usd[a]) - slope * a, slope))
    return lines


def term_usd(stages: Sequence[Stage], step: int, months: int, hours: float, rate: float) -> float:
    """Discounted hours that a term signed at a step is paid for: dollars for one dollar an hour."""
    first = stages[step].quarter.first
    return float(sum(hours * (1.0 + rate) ** -(first + k + 1) for k in range(months)))


def least_path(
    ways: Sequence[Way], stages: Sequence[Stage], launches: Mapping[str, float], hours: float, rate: float
) -> Chosen:
    """The cheapest path and what none goes below.

    ``hours`` in a month, ``rate`` the discount of a month.

    Raises:
        Infeasible: in some quarter no way serves.
    """
    columns, rows = Columns(), Rows()
    count = len(ways)
    gpus = sorted({way.option.pool.gpu for way in ways if way.option is not None})
    terms: dict[str, dict[str, Term]] = {g: {} for g in gpus}
    rents: dict[str, float] = {}
    for way in ways:
        if way.option is not None:
            gpu = way.option.pool.gpu
            rents[gpu] = min(rents.get(gpu, INF), way.option.pool.usd_per_gpu_h)
            terms[gpu].update({term.name: term for term in way.terms})
    x = np.full((len(stages), count), -1)
    used = np.full((len(stages), count), -1)
    for q, stage in enumerate(stages):
        there = [w for w in range(count) if w in stage.priced]
        if not there:
            raise Infeasible(f"nothing that the limits allow serves {stage.quarter.label}")
        for w in there:
            x[q, w] = columns.add(0.0, 1.0, True)
        rows.add([(int(x[q, w]), 1.0) for w in there], 1.0, 1.0)
    signing: dict[tuple[int, str, str], int] = {}
    for q in range(len(stages)):
        for gpu in gpus:
            most = _most(ways, stages, gpu)
            for name, term in terms[gpu].items():
                price = rents[gpu] * stages[q].gpu_ratio * term.price_ratio
                usd = price * term_usd(stages, q, term.months, hours, rate)
                signing[q, gpu, name] = columns.add(usd, float(most), True)
    for q, stage in enumerate(stages):
        for w, month in stage.priced.items():
            theta = columns.add(stage.months, INF)
            option = ways[w].option
            if option is None:
                rows.add([(theta, 1.0), (int(x[q, w]), -float(month.usd[0]))], 0.0, INF)
                continue
            top = float(len(month.usd) - 1)
            c = used[q, w] = columns.add(0.0, top)
            rows.add([(c, 1.0), (int(x[q, w]), -top)], -INF, 0.0)
            for value, slope in envelope(month.usd):
                rows.add([(theta, 1.0), (int(x[q, w]), -value), (int(c), -slope)], 0.0, INF)
            gpu = option.pool.gpu
            active = [
                (column, -1.0)
                for (step, g, name), column in signing.items()
                if g == gpu and _in_force(stages, step, terms[g][name].months, q)
            ]
            rows.add([(int(c), float(ways[w].gpus)), *active], -INF, float(stage.held.get(gpu, 0)))
    for kind, usd in launches.items():
        begun: list[int] = []
        for q, stage in enumerate(stages):
            begun.append(columns.add(usd * stage.discount, 1.0, True))
            for w in stage.priced:
                if kind in ways[w].kinds:
                    rows.add([*((b, 1.0) for b in begun), (int(x[q, w]), -1.0)], 0.0, INF)
    answer = minimise(columns, rows, offset_usd=0.0, gap_frac=GAP_FRAC, nodes=NODES)
    if answer.values is None:
        raise Infeasible("no path was found over the horizon")
    values = answer.values
    chosen = tuple(max((values[x[q, w]], -w, w) for w in stage.priced)[2] for q, stage in enumerate(stages))
    signed = tuple(
        Signed(q, gpu, terms[gpu][name], round(values[column]),
               rents[gpu] * stages[q].gpu_ratio * terms[gpu][name].price_ratio)
        for (q, gpu, name), column in signing.items() if round(values[column]) > 0
    )  # fmt: skip
    committed, usd = cost_path(ways, stages, chosen, signed, launches, hours, rate)
    return Chosen(chosen, committed, signed, usd, min(usd, answer.bound_usd))


def _most(ways: Sequence[Way], stages: Sequence[Stage], gpu: str) -> int:
    """The most accelerators of a kind that any way could use in any quarter."""
    mine = {
        w: way.gpus for w, way in enumerate(ways) if way.option is not None and way.option.pool.gpu == gpu
    }
    return max(
        (
            (len(stage.priced[w].usd) - 1) * gpus
            for stage in stages
            for w, gpus in mine.items()
            if w in stage.priced
        ),
        default=0,
    )


def _in_force(stages: Sequence[Stage], step: int, months: int, q: int) -> bool:
    since = stages[q].quarter.first - stages[step].quarter.first
    return since >= 0 and since + stages[q].quarter.months <= max(months, stages[step].quarter.months)


def cost_path(
    ways: Sequence[Way],
    stages: Sequence[Stage],
    chosen: Sequence[int],
    signed: Sequence[Signed],
    launches: Mapping[str, float],
    hours: float,
    rate: float,
) -> tuple[tuple[int, ...], float]:
    """Committed replicas in use by quarter, and the discounted cost of a path, from its parts."""
    usd, committed = 0.0, []
    launched: set[str] = set()
    for one in signed:
        usd += one.count * one.usd_per_gpu_h * term_usd(stages, one.step, one.term.months, hours, rate)
    for q, (stage, w) in enumerate(zip(stages, chosen, strict=True)):
        way, month = ways[w], stage.priced[w]
        number = 0
        if way.option is not None:
            there = stage.held.get(way.option.pool.gpu, 0) + sum(
                one.count
                for one in signed
                if one.gpu == way.option.pool.gpu and _in_force(stages, one.step, one.term.months, q)
            )
            # What is there and would only take care stays off.
            number = int(month.usd[: there // way.gpus + 1].argmin())
        committed.append(number)
        usd += stage.months * float(month.usd[number])
        for kind in way.kinds - launched:
            usd += launches[kind] * stage.discount
        launched |= way.kinds
    return tuple(committed), usd
