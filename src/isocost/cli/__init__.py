"""The command line: one thin function per command, each a caller of the Python below it."""

from isocost.cli import books, catalog, plan, price, refresh, replay, size, trace, validate, why
from isocost.cli.root import app, main

__all__ = [
    "app",
    "books",
    "catalog",
    "main",
    "plan",
    "price",
    "refresh",
    "replay",
    "size",
    "trace",
    "validate",
    "why",
]
