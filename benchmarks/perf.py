"""Set-ups per CPU-second of the performance model: ``python benchmarks/perf.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

import numpy as np

from isocost.catalog import Catalog
from isocost.perf import candidates, closed_form, goodput

ISL, OSL, ROWS = 1500.0, 300.0, 200_000


def rate(label: str, size: int, work: Callable[[], object], least: float) -> None:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    found = size / best
    print(f"{label:44} {found / 1e6:8.2f} M/CPU-s   {'ok' if found >= least else 'BELOW'} {least / 1e6:g} M")


def main() -> None:
    at = Catalog.load().at(date(2026, 11, 22))
    ids = [fact.subject.removeprefix("model/") for fact in at.each("model/", "layers")]
    every = candidates(at, ids)
    print(f"{every.size} candidates of {len(ids)} models, {len(every.gpu_ids)} accelerators")
    many = every.select(np.resize(np.arange(every.size), ROWS))
    terms = many.terms(ISL, OSL)
    rate("enumeration", every.size, lambda: candidates(at, ids), 1e5)
    rate("enumeration, terms and goodput at limits", every.size, lambda: _all(at, ids), 1e5)
    rate("step terms", ROWS, lambda: many.terms(ISL, OSL), 1e6)
    rate("closed form", ROWS, lambda: closed_form(terms, ISL, OSL, 1.0), 1e6)
    rate("goodput of given terms", ROWS, lambda: goodput(terms, ISL, OSL, 1.0, 0.05), 1e6)


def _all(at: object, ids: list[str]) -> object:
    return candidates(at, ids).goodput(ISL, OSL, 1.0, 0.05)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
