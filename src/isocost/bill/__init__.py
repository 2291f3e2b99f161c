"""The exact price of usage: of one request, and of columns of requests, digit for digit the same.

Money is integer femto-dollars (1 USD = 10^15): a price of 0.000000001 USD per million tokens is still whole.
Every row is priced at its own moment. A row whose price is not known is ``unpriced`` and never zero; a row
with a meter that lacks a price is ``partial``, and its amount is a lower bound. One request
(:func:`price`) needs no arrays: what works on columns is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isocost.bill.scalar import price
from isocost.bill.usage import STATUS, Line, Priced, Status, Usage

if TYPE_CHECKING:
    from isocost.bill.columns import Grouped, PricedColumns, price_columns

__all__ = [
    "STATUS", "Grouped", "Line", "Priced", "PricedColumns", "Status", "Usage", "price", "price_columns",
]  # fmt: skip

_OF_COLUMNS = ("Grouped", "PricedColumns", "price_columns")


def __getattr__(name: str) -> Any:
    """What needs numpy, imported on first use."""
    if name in _OF_COLUMNS:
        return getattr(import_module("isocost.bill.columns"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
