"""Readers, one file a format. Each says whether it knows a file, and how its columns become ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isocost.trace.head import Head
from isocost.trace.ingest import Scan


@dataclass(frozen=True)
class Reader:
    """One format: a name, a test on the file's first rows, and the SELECT that reads it.

    ``scan`` takes the head and the user's column mapping (only the generic reader uses it). ``by``
    names columns that ``--workload-by`` may ask for, as SQL over the file; ``prefer`` those of them that name
    workloads by themselves, best first.
    """

    name: str
    knows: Callable[[Head], bool]
    scan: Callable[[Head, Mapping[str, str]], Scan]
    by: Callable[[Head], Mapping[str, str]]
    prefer: tuple[str, ...] = ()


def no_columns(_head: Head) -> Mapping[str, str]:
    """``by`` of a format with nothing to tell workloads apart."""
    return {}
