"""Compile a kernel where numba is installed, run the same function as Python where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` compiled by numba and cached on disk, or ``function`` itself without numba.

    Import a module that uses this decorator only where a kernel runs: numba takes most of a second
    to import. ``NUMBA_DISABLE_JIT=1`` runs the Python function too. The results are the same.
    A function compiled so may not create arrays.
    """
    try:
        import numba
    except ImportError:
        return function
    # Without numba's runtime, arrays are not reference counted: the atomic counts of arrays that are
    # passed between small functions would otherwise take nine tenths of a kernel's time.
    options: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
    try:
        fast = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that the cache may be written to
        fast = numba.njit(**options)(function)
    return cast(Callable[P, R], fast)
