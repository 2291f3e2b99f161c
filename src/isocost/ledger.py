"""Charges and what they add up to: every figure shown anywhere is a GROUP BY of one ledger.

A charge is a quantity times a unit price, booked to one account of one pillar. Amounts are whole
femto-USD (1e-15) in Python integers, so that parts sum to the whole exactly at any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from isocost.units import FEMTO_PER_USD as FEMTO_PER_USD

KEYS = (
    "period",
    "option",
    "deployment",
    "pillar",
    "account",
    "workload",
    "tenant",
    "meter",
    "unit",
    "price_fact",
)
"""What charges can be grouped by."""


class Charge(msgspec.Struct, frozen=True):
    """One line: ``quantity`` of ``meter`` at ``unit_price_usd`` came to ``amount_fusd``.

    ``period`` is an hour of the week (``mon 00h``), a UTC hour or a month, as its maker says;
    ``price_fact`` is the id of the fact behind the unit price ('' where there is none).
    """

    period: str
    option: str
    deployment: str
    pillar: str
    account: str
    workload: str
    tenant: str
    meter: str
    quantity: float
    unit: str
    price_fact: str
    unit_price_usd: float
    amount_fusd: int

    @property
    def usd(self) -> float:
        """The amount in dollars, for display."""
        return self.amount_fusd / FEMTO_PER_USD


def fusd(usd: float | Fraction) -> int:
    """Dollars as whole femto-USD, rounded half to even: the one rounding of a modelled amount.

    >>> fusd(0.25)
    250000000000000
    """
    above, below = usd.as_integer_ratio()
    whole, rest = divmod(above * FEMTO_PER_USD, below)
    return whole + (2 * rest > below or (2 * rest == below and whole % 2 == 1))


class Ledger:
    """Charges in order of entry."""

    def __init__(self, charges: Iterable[Charge] = ()) -> None:
        self._charges = list(charges)

    def __len__(self) -> int:
        return len(self._charges)

    def __iter__(self) -> Iterator[Charge]:
        return iter(self._charges)

    def add(self, charge: Charge) -> None:
        """Enter a charge."""
        self._charges.append(charge)

    def extend(self, charges: Iterable[Charge]) -> None:
        """Enter many."""
        self._charges.extend(charges)

    @property
    def total_fusd(self) -> int:
        """The whole, in femto-USD."""
        return sum(charge.amount_fusd for charge in self._charges)

    @property
    def total_usd(self) -> float:
        """The whole, in dollars."""
        return self.total_fusd / FEMTO_PER_USD

    def where(self, **equal: str) -> Ledger:
        """The charges whose named keys have the given values."""
        return Ledger(c for c in self._charges if all(getattr(c, k) == v for k, v in equal.items()))

    def by(self, *keys: str) -> dict[tuple[str, ...], int]:
        """Femto-USD by the named keys, in order of first entry; the parts sum to the whole."""
        totals: dict[tuple[str, ...], int] = {}
        for charge in self._charges:
            group = tuple(getattr(charge, key) for key in keys)
            totals[group] = totals.get(group, 0) + charge.amount_fusd
        return totals

    def usd_by(self, key: str) -> dict[str, float]:
        """Dollars by one key."""
        return {group[0]: amount / FEMTO_PER_USD for group, amount in self.by(key).items()}

    def write(self, path: Path) -> None:
        """Write the charges as Parquet, amounts as DECIMAL(38, 15) dollars; whole or not at all."""
        import duckdb
        import numpy as np

        part = path.with_suffix(path.suffix + ".part")
        columns: dict[str, Any] = {
            key: np.array([getattr(charge, key) for charge in self._charges], dtype=object) for key in KEYS
        }
        columns["quantity"] = np.array([charge.quantity for charge in self._charges], dtype=np.float64)
        columns["unit_price_usd"] = np.array([c.unit_price_usd for c in self._charges], dtype=np.float64)
        columns["amount"] = np.array([str(charge.amount_fusd) for charge in self._charges], dtype=object)
        with duckdb.connect() as db:
            db.register("charges", columns)
            db.execute(
                "COPY (SELECT * EXCLUDE (amount), "
                "CAST(CAST(amount AS HUGEINT) AS DECIMAL(38, 0)) "
                "* CAST('0.000000000000001' AS DECIMAL(16, 15)) AS amount_usd FROM charges) "
                "TO ? (FORMAT parquet, COMPRESSION zstd)",
                [str(part)],
            )
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read what :meth:`write` wrote, to the last femto-USD."""
        import duckdb

        with duckdb.connect() as db:
            names: Sequence[str] = (*KEYS, "quantity", "unit_price_usd")
            rows = db.execute(
                f"SELECT {', '.join(names)}, CAST(amount_usd AS VARCHAR) FROM read_parquet(?)", [str(path)]
            ).fetchall()
        return cls(
            Charge(
                **dict(zip(names, row[:-1], strict=True)), amount_fusd=int(Fraction(row[-1]) * FEMTO_PER_USD)
            )
            for row in rows
        )
