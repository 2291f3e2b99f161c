"""How far off other predictors are on the same rows: facts ``peer/NAME``, printed beside ours."""

from __future__ import annotations

from typing import NamedTuple

from isocost.catalog import CatalogAt


class Peer(NamedTuple):
    """Another predictor's mean and median absolute relative error; nan where only one is known."""

    name: str
    mape: float
    median: float


def peers_of(catalog_at: CatalogAt, kind: str, metric: str, source: str = "") -> list[Peer]:
    """Who else was held against a metric of a kind of file (and of one source, where several differ)."""
    when = f"kind={kind};metric={metric}" + (f";source={source}" if source else "")
    found: dict[str, dict[str, float]] = {}
    for name in ("mape", "median_error"):
        for fact in catalog_at.each("peer/", name):
            if fact.when == when:
                found.setdefault(fact.subject.removeprefix("peer/"), {})[name] = float(fact.value)
    nan = float("nan")
    return [
        Peer(name, each.get("mape", nan), each.get("median_error", nan))
        for name, each in sorted(found.items())
    ]
