"""Compile a kernel where numba is installed, run the same function as Python where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
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
    _stamped(fast)
    _loaded_alone(fast)
    return cast(Callable[P, R], fast)


def _stamped(fast: object) -> None:
    """Make what is cached of a kernel hold for the files of all that it calls, not for its own alone.

    A compiled function has those that it calls compiled in, and numba looks at the age of its own file only.
    """
    index = getattr(getattr(fast, "_cache", None), "_cache_file", None)
    if index is not None and hasattr(index, "_source_stamp"):
        files = sorted(Path(__file__).parent.glob("*.py"))
        index._source_stamp = tuple((f.name, f.stat().st_mtime, f.stat().st_size) for f in files)


def _loaded_alone(fast: object) -> None:
    """Let a kernel that lies compiled in the cache be loaded without what numba needs to compile.

    Before it looks into the cache, numba imports its versions of all of numpy, which take longer than most
    replays; its compiler asks for them again itself wherever something has to be compiled.
    """
    cache = getattr(fast, "_cache", None)
    if not callable(getattr(cache, "_load_overload", None)):
        return

    def load(self: Any, signature: object, context: object) -> object:
        try:
            return self._load_overload(signature, context)
        except Exception:
            # Whatever is wrong with what lies there, numba's own way knows what to do about it.
            return type(self).load_overload(self, signature, context)

    cache.load_overload = MethodType(load, cache)  # type: ignore[union-attr]
