"""Customers of a log: what each asks for in a month, and what serving each costs.

A customer is a tenant of the log. A request that names none belongs to no customer: its cost is shared
by all in proportion to their own, so that no cost is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.books.statement import Statement
from isocost.errors import BadInput
from isocost.ledger import FEMTO_PER_USD
from isocost.units import DAYS_PER_MONTH

Floats = NDArray[np.float64]
_INPUT = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_input")


class Customers(NamedTuple):
    """Columns of one row a customer, dearest first, all of a month of 30.4 days: (n,) each.

    ``by_feature_usd`` and ``by_feature_requests`` are (n, features) by workload.
    """

    names: tuple[str, ...]
    features: tuple[str, ...]
    requests: Floats
    input_tok: Floats
    output_tok: Floats
    usd: Floats
    by_feature_usd: Floats
    by_feature_requests: Floats
    at_least: bool

    def share_of_top(self, frac: float) -> float:
        """Share of the cost that the dearest ``frac`` of customers cause; at least one customer."""
        most = max(1, round(frac * len(self.usd)))
        whole = float(self.usd.sum())
        return float(np.sort(self.usd)[::-1][:most].sum()) / whole if whole else 0.0

    def costing(self, usd_per_month: float) -> Customers:
        """The same customers where serving all of them costs another amount: each in proportion."""
        whole = float(self.usd.sum())
        if whole <= 0.0:
            raise BadInput("nothing is priced, so no cost can be spread", where="value")
        factor = usd_per_month / whole
        return self._replace(usd=self.usd * factor, by_feature_usd=self.by_feature_usd * factor)


def customers(statement: Statement, days: float) -> Customers:
    """Customers of a statement that covers ``days`` days, scaled to a month.

    Raises:
        BadInput: the log names no tenant, or covers no time.
    """
    calls = statement.requests_by("tenant", "workload")
    named = sorted({tenant for tenant, _ in calls if tenant})
    if not named:
        raise BadInput(
            "the log names no customer", where="value", fix="Name the column: --map tenant=customer_id"
        )
    if days <= 0:
        raise BadInput("the log covers no time", where="value", fix="Give a log with times over days")
    features = sorted({workload for _, workload in calls})
    scale = DAYS_PER_MONTH / days
    usd = _table(statement.by("tenant", "workload"), named, features) * (scale / FEMTO_PER_USD)
    requests = _table(calls, named, features) * scale
    tokens = statement.quantity_by("tenant", "meter")
    read: dict[tuple[str, ...], int] = {
        (t, "x"): sum(n for (u, m), n in tokens.items() if u == t and m in _INPUT) for t in named
    }
    wrote: dict[tuple[str, ...], int] = {(t, "x"): tokens.get((t, "output"), 0) for t in named}
    order = np.argsort(-usd.sum(axis=1), kind="stable")
    return Customers(
        tuple(named[i] for i in order),
        tuple(features),
        requests.sum(axis=1)[order],
        (_table(read, named, ["x"])[:, 0] * scale)[order],
        (_table(wrote, named, ["x"])[:, 0] * scale)[order],
        usd.sum(axis=1)[order],
        usd[order],
        requests[order],
        statement.at_least,
    )


def _table(cells: Mapping[tuple[str, ...], int], rows: Sequence[str], columns: Sequence[str]) -> Floats:
    """Cells as (rows, columns); what belongs to no row is shared out in proportion to each column."""
    found = np.zeros((len(rows), len(columns)))
    spare = np.zeros(len(columns))
    row_of = {name: i for i, name in enumerate(rows)}
    column_of = {name: j for j, name in enumerate(columns)}
    for (row, column), amount in cells.items():
        if row in row_of:
            found[row_of[row], column_of[column]] += float(amount)
        elif column in column_of:
            spare[column_of[column]] += float(amount)
    whole = found.sum(axis=0)
    even = found.sum(axis=1) / found.sum() if found.sum() else np.full(len(rows), 1.0 / len(rows))
    share = np.where(whole > 0.0, found / np.where(whole > 0.0, whole, 1.0), even[:, None])
    return found + share * spare
