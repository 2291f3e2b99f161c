"""The command line: one thin function per command, each a caller of the Python below it."""

from isocost.cli import (
    bill,
    books,
    calibrate,
    catalog,
    chargeback,
    develop,
    forecast,
    plan,
    price,
    reconcile,
    refresh,
    replay,
    size,
    trace,
    validate,
    value,
    why,
)
from isocost.cli.root import app, main

__all__ = [
    "app",
    "bill",
    "books",
    "calibrate",
    "catalog",
    "chargeback",
    "develop",
    "forecast",
    "main",
    "plan",
    "price",
    "reconcile",
    "refresh",
    "replay",
    "size",
    "trace",
    "validate",
    "value",
    "why",
]
