"""The static allocation of a published peer: each size of request to one kind of accelerator.

Mélange (Griggs and others, arXiv:2404.14527): an integer programme that knows no time. It is a case that
our planner must never cost more than, and a published example to reproduce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isocost.errors import Infeasible


def static_fleet_usd_per_h(
    requests_per_s: Sequence[float],
    carries_per_s: Mapping[str, Sequence[float]],
    usd_per_h: Mapping[str, float],
) -> float:
    """The cheapest fleet that carries every size of request, each size on one kind of accelerator.

    ``requests_per_s`` holds the load of each of n sizes; ``carries_per_s`` what one accelerator of a kind
    carries of each size, n values, 0 where it cannot.

    Raises:
        Infeasible: no kind carries one of the sizes.
    """
    import highspy

    kinds = list(usd_per_h)
    sizes = range(len(requests_per_s))
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    count = {kind: solver.addIntegral(lb=0.0) for kind in kinds}
    goes = {(size, kind): solver.addBinary() for size in sizes for kind in kinds if carries_per_s[kind][size]}
    for size in sizes:
        here = [goes[size, kind] for kind in kinds if (size, kind) in goes]
        if not here:
            raise Infeasible(f"no accelerator carries requests of size {size}")
        solver.addConstr(sum(here[1:], here[0]) == 1)
    for kind in kinds:
        load = [
            goes[size, kind] * (requests_per_s[size] / carries_per_s[kind][size])
            for size in sizes
            if (size, kind) in goes
        ]
        if load:
            solver.addConstr(sum(load[1:], load[0]) <= count[kind])
    solver.minimize(
        sum((count[kind] * usd_per_h[kind] for kind in kinds[1:]), count[kinds[0]] * usd_per_h[kinds[0]])
    )
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise Infeasible("no fleet carries the load")
    return float(np.float64(solver.getInfo().objective_function_value))
