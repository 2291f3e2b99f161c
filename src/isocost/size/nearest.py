"""The measured set-up nearest to one that is asked for: facts ``measured/MODEL/ACCELERATOR``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from isocost.catalog import CatalogAt, Fact
from isocost.catalog.fact import parse_when

SAME = 0.15
OTHER_KIND = 0.8
"""Between a mixture of experts and a dense model."""
FAR, OTHER_GPU = 1.6, 1.7
"""In e-folds, about: beyond it nothing that was measured says much of the set-up."""


class Point(NamedTuple):
    """A measured set-up: its fact, model, accelerator, engine, accelerators, format of the weights, the
    parameters that a token passes through, whether these are a mixture's, the accelerator's
    bandwidth, and the concurrency measured (median, low, high)."""

    fact: Fact
    model: str
    gpu: str
    engine: str
    gpus: int
    weights: str
    params_active: float
    is_mixture: bool
    bytes_per_s: float
    concurrency: tuple[float, float, float]


class Nearest(msgspec.Struct, frozen=True):
    """What was measured nearest, in words; ``is_extrapolated`` where it is far; its fact."""

    says: str
    is_extrapolated: bool
    fact: str


def points_of(catalog_at: CatalogAt) -> list[Point]:
    """Every measured set-up whose model has known sizes."""
    sizes: dict[str, tuple[float, bool]] = {}
    widths: dict[str, float] = {}
    found = []
    for fact in catalog_at.each("measured/", "concurrency"):
        _, model, gpu = fact.subject.split("/", 2)
        if model not in sizes:
            size = catalog_at.find(f"model/{model}", "params_active")
            is_mixture = catalog_at.find(f"model/{model}", "experts") is not None
            sizes[model] = (float(size.value) if size is not None else math.nan, is_mixture)
        if gpu not in widths:
            widths[gpu] = catalog_at.number(f"gpu/{gpu}", "memory_bytes_per_s")
        when = parse_when(fact.when)
        low, middle, high = fact.ends
        found.append(
            Point(
                fact,
                model,
                gpu,
                when["engine"],
                int(when["gpus"]),
                when["weights"],
                *sizes[model],
                widths[gpu],
                (middle, low, high),
            )
        )
    return found


def nearest(
    points: Sequence[Point],
    model: str,
    size: tuple[float, bool],
    gpu: tuple[str, float],
    setup: Mapping[str, object],
    running: float,
) -> Nearest:
    """The nearest of ``points``.

    ``size`` is the parameters that a token passes through and whether they are a mixture's, ``gpu`` the
    accelerator and its bandwidth; ``setup`` holds engine, gpus and weights, ``running`` the concurrency.

    Distance adds the logarithm of each ratio (parameters, accelerators, concurrency outside what was
    measured) and a step for another accelerator, engine or format; that for an accelerator alone is far.
    """
    best, least = None, math.inf
    for point in points:
        if math.isnan(point.params_active):
            continue
        far = 0.0
        if point.model != model:
            far = 0.3 + OTHER_KIND * (point.is_mixture != size[1])
            far += abs(math.log(point.params_active / size[0]))
        if point.gpu != gpu[0]:
            far += OTHER_GPU + 0.2 * abs(math.log(point.bytes_per_s / gpu[1]))
        far += 0.3 * (point.engine != setup["engine"]) + 0.5 * (point.weights != setup["weights"])
        far += 0.5 * abs(math.log(point.gpus / float(str(setup["gpus"]))))
        _, low, high = point.concurrency
        if running > 0:
            far += 0.5 * max(math.log(low / running), math.log(running / high), 0.0)
        if far < least:
            best, least = point, far
    if best is None:
        return Nearest("extrapolated: nothing like it was measured", True, "")
    of = f"{best.model} on {best.gpus} x {best.gpu}, {best.weights}, {best.engine}"
    if least <= SAME:
        return Nearest(f"measured: {of}", False, best.fact.id)
    if least <= FAR:
        return Nearest(f"near: {of}", False, best.fact.id)
    return Nearest(f"extrapolated; nearest {of}", True, best.fact.id)
