"""A mixed-integer programme as it is written down, and HiGHS to solve it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

INF = float("inf")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NODES_MOST = 20_000
"""Nodes of a search that nobody limits."""


@dataclass(slots=True)
class Rows:
    """Rows of the constraint matrix, ``low <= sum(value * column) <= high``, as they are added."""

    row: list[Ints] = field(default_factory=list)
    column: list[Ints] = field(default_factory=list)
    value: list[Floats] = field(default_factory=list)
    low: list[Floats] = field(default_factory=list)
    high: list[Floats] = field(default_factory=list)
    count: int = 0

    def add(self, terms: list[tuple[int, float]], low: float, high: float) -> int:
        """One row; returns its number."""
        return int(self.block(1, low, high, [(np.array([c]), v) for c, v in terms])[0])

    def block(
        self,
        count: int,
        low: Floats | float,
        high: Floats | float,
        terms: list[tuple[Ints, Floats | float]],
    ) -> Ints:
        """``count`` rows at once: a term is a column and a value for every row (-1: none); their numbers."""
        rows = np.arange(self.count, self.count + count)
        for columns, values in terms:
            across = np.broadcast_to(np.asarray(columns, np.int64), (count,))
            value = np.broadcast_to(np.asarray(values, np.float64), (count,))
            there = (across >= 0) & (value != 0.0)
            self.row.append(rows[there])
            self.column.append(across[there])
            self.value.append(value[there])
        self.low.append(np.array(np.broadcast_to(low, (count,)), dtype=np.float64))
        self.high.append(np.array(np.broadcast_to(high, (count,)), dtype=np.float64))
        self.count += count
        return rows

    def extend(self, rows: Ints, columns: Ints, values: Floats | float) -> None:
        """More terms of rows that are there."""
        self.row.append(np.asarray(rows, np.int64).ravel())
        self.column.append(np.asarray(columns, np.int64).ravel())
        self.value.append(np.array(np.broadcast_to(values, np.shape(columns)), dtype=np.float64).ravel())


@dataclass(slots=True)
class Columns:
    """Variables from 0 to ``high``, with their cost; whole numbers where ``whole``."""

    cost: list[Floats] = field(default_factory=list)
    low: list[Floats] = field(default_factory=list)
    high: list[Floats] = field(default_factory=list)
    whole: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    count: int = 0

    def add(self, cost: float, high: float, whole: bool = False) -> int:
        """One variable; returns its number."""
        return int(self.block(np.array([cost]), high, whole)[0])

    def block(
        self, cost: Floats, high: Floats | float, whole: bool = False, low: Floats | float = 0.0
    ) -> Ints:
        """Variables at once, in the shape of ``cost``; returns their numbers in that shape."""
        shape = np.shape(cost)
        self.cost.append(np.asarray(cost, np.float64).ravel())
        for kept, bound in ((self.low, low), (self.high, high)):
            kept.append(np.array(np.broadcast_to(bound, shape), dtype=np.float64).ravel())
        size = self.cost[-1].size
        self.whole.append(np.full(size, whole))
        numbers = np.arange(self.count, self.count + size).reshape(shape)
        self.count += size
        return numbers


class Answer(NamedTuple):
    """``values`` of the columns (``None``: none found), their cost and a proven lower bound, in dollars.

    The bound is 0 where the search ended before it had one. ``price`` of each row: what its right side is
    worth, in a programme without whole numbers.
    """

    status: str
    values: Floats | None
    usd: float
    bound_usd: float
    price: Floats | None = None


def minimise(
    columns: Columns,
    rows: Rows,
    *,
    offset_usd: float,
    gap_frac: float,
    nodes: int = NODES_MOST,
    start: Floats | None = None,
    relaxed: bool = False,
) -> Answer:
    """The cheapest values of the columns, to ``gap_frac`` or as near as ``nodes`` of search allow.

    ``offset_usd`` is added to every cost, so that the gap is a share of the whole. One thread, a fixed
    seed and a limit that counts work, never time: the same problem gives the same answer on any machine.
    ``relaxed`` drops whole numbers.
    """
    import highspy

    high = np.concatenate(columns.high) if columns.count else np.zeros(0)
    whole = np.concatenate(columns.whole) & (not relaxed) if columns.count else np.zeros(0, bool)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns.count, rows.count
    lp.col_cost_ = np.concatenate(columns.cost)
    lp.col_lower_, lp.col_upper_ = np.concatenate(columns.low), high
    lp.row_lower_ = np.concatenate(rows.low) if rows.count else np.zeros(0)
    lp.row_upper_ = np.concatenate(rows.high) if rows.count else np.zeros(0)
    starts, index, value = _by_row(rows)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = starts, index, value
    if whole.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[int(one)] for one in whole]
    lp.offset_ = offset_usd
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, setting in (
        ("output_flag", False),
        ("mip_rel_gap", gap_frac),
        ("mip_max_nodes", nodes),
        ("threads", 1),
        ("random_seed", 0),
    ):
        solver.setOptionValue(option, setting)
    solver.passModel(lp)
    if start is not None:
        warm = highspy.HighsSolution()
        warm.col_value = start.tolist()
        solver.setSolution(warm)
    solver.run()
    info = solver.getInfo()
    status = str(solver.modelStatusToString(solver.getModelStatus()))
    solution = solver.getSolution()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer(status, None, INF, _finite(info.mip_dual_bound) if whole.any() else 0.0)
    usd, values = float(info.objective_function_value), np.array(solution.col_value)
    if not whole.any():
        proven = usd if solver.getModelStatus() == highspy.HighsModelStatus.kOptimal else 0.0
        return Answer(status, values, usd, proven, np.array(solution.row_dual))
    return Answer(status, values, usd, _finite(info.mip_dual_bound))


def _finite(bound: float) -> float:
    """A bound that is no number of dollars (the search ended before it had one) proves nothing."""
    return max(0.0, float(bound)) if np.isfinite(bound) else 0.0


def _by_row(rows: Rows) -> tuple[Ints, Ints, Floats]:
    """The matrix row by row: where each starts, columns and values; terms of one place are added up."""
    if not rows.row:
        return np.zeros(rows.count + 1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    row, column = np.concatenate(rows.row), np.concatenate(rows.column)
    value = np.concatenate(rows.value)
    order = np.lexsort((column, row))
    row, column, value = row[order], column[order], value[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    at = np.flatnonzero(first)
    value = np.add.reduceat(value, at) if len(at) else value
    starts = np.searchsorted(row[at], np.arange(rows.count + 1))
    return starts.astype(np.int64), column[at], value
