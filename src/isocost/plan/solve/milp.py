"""A mixed-integer programme as it is written down, and HiGHS to solve it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

INF = float("inf")


@dataclass(slots=True)
class Rows:
    """Rows of the constraint matrix, ``low <= sum(value * column) <= high``, as they are added."""

    start: list[int] = field(default_factory=lambda: [0])
    column: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, terms: list[tuple[int, float]], low: float, high: float) -> None:
        """One row; zero coefficients are left out."""
        for column, value in terms:
            if value != 0.0:
                self.column.append(column)
                self.value.append(value)
        self.start.append(len(self.column))
        self.low.append(low)
        self.high.append(high)


@dataclass(slots=True)
class Columns:
    """Variables from 0 to ``high``, with their cost; whole numbers where ``whole``."""

    cost: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)

    def add(self, cost: float, high: float, whole: bool = False) -> int:
        """One variable; returns its number."""
        self.cost.append(cost)
        self.high.append(high)
        self.whole.append(whole)
        return len(self.cost) - 1


class Answer(NamedTuple):
    """``values`` of the columns (``None``: none found), their cost and a proven lower bound, in dollars.

    The bound is 0 where the search ended before it had one.
    """

    status: str
    values: npt.NDArray[np.float64] | None
    usd: float
    bound_usd: float


def minimise(
    columns: Columns,
    rows: Rows,
    *,
    offset_usd: float,
    gap_frac: float,
    limit_s: float,
    start: npt.NDArray[np.float64] | None = None,
) -> Answer:
    """The cheapest values of the columns, to ``gap_frac`` or as near as ``limit_s`` allows.

    ``offset_usd`` is added to every cost, so that the gap is a share of the whole. One thread and a
    fixed seed: the same problem gives the same answer unless the time limit cuts it off.
    """
    import highspy

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(columns.cost), len(rows.low)
    lp.col_cost_ = np.array(columns.cost)
    lp.col_lower_, lp.col_upper_ = np.zeros(len(columns.cost)), np.array(columns.high)
    lp.row_lower_, lp.row_upper_ = np.array(rows.low), np.array(rows.high)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(rows.start)
    lp.a_matrix_.index_ = np.array(rows.column)
    lp.a_matrix_.value_ = np.array(rows.value)
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    lp.integrality_ = [kinds[whole] for whole in columns.whole]
    lp.offset_ = offset_usd
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in (
        ("output_flag", False),
        ("mip_rel_gap", gap_frac),
        ("time_limit", limit_s),
        ("threads", 1),
        ("random_seed", 0),
    ):
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    if start is not None:
        warm = highspy.HighsSolution()
        warm.col_value = start.tolist()
        solver.setSolution(warm)
    solver.run()
    info = solver.getInfo()
    status = str(solver.modelStatusToString(solver.getModelStatus()))
    bound = float(info.mip_dual_bound)
    # A bound that is no number of dollars (the search ended before it had one) proves nothing.
    bound = max(0.0, bound) if np.isfinite(bound) else 0.0
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer(status, None, INF, bound)
    values = np.array(solver.getSolution().col_value)
    return Answer(status, values, float(info.objective_function_value), bound)
