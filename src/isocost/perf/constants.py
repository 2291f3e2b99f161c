"""The constants of the roofline: facts ``perf/roofline``, fitted once, the same for every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from isocost.catalog import CatalogAt
from isocost.perf.arch import Floats

SUBJECT = "perf/roofline"


class Constants(NamedTuple):
    """Scalars. ``*_eff`` are fractions of the peak that a data sheet states, ``*_s`` seconds.

    ``first_token_s`` and ``burst_frac`` are an engine's own; they may also be arrays ``(n,)``.
    """

    memory_eff: float
    cache_eff: float
    bf16_eff: float
    fp8_eff: float
    fp4_eff: float
    attention_eff: float
    expert_eff: float
    link_eff: float
    collective_s: float
    layer_s: float
    moe_layer_s: float
    step_s: float
    sequence_s: float
    first_token_s: float | Floats
    burst_frac: float | Floats
    overlap_power: float
    memory_usable_frac: float
    reserve_bytes: float


def constants_of(catalog_at: CatalogAt, engine: str = "vllm") -> Constants:
    """The constants in force on a date, with what ``engine`` (vllm, sglang, trtllm) has of its own.

    An engine that has nothing of its own gets what fits all of them.

    Raises:
        UnknownFact: one of them is not in the catalog.
    """
    own = (catalog_at.find(SUBJECT, name, f"engine={engine}") for name in Constants._fields)
    return Constants(
        *(
            float(fact.value) if fact else catalog_at.number(SUBJECT, name)
            for name, fact in zip(Constants._fields, own, strict=True)
        )
    )


RATIOS: Mapping[str, str] = {"tpot": "tpot_ratio", "ttft": "ttft_ratio", "throughput": "throughput_ratio"}
"""The facts that hold measured over predicted, by metric."""


class Interval(NamedTuple):
    """The central 80 % of measured over predicted, as factors on a prediction."""

    low: float
    high: float


def interval_of(catalog_at: CatalogAt, metric: str, vendor: str = "NVIDIA") -> Interval:
    """How far a prediction of ``metric`` (tpot, ttft, throughput) may be off on a vendor's accelerators.

    The constants were fitted to NVIDIA's; the others have intervals of their own (``vendor=...``).

    Raises:
        UnknownFact: the metric has no interval for the vendor.
    """
    when = "" if vendor == "NVIDIA" else f"vendor={vendor}"
    fact = catalog_at.fact(SUBJECT, RATIOS.get(metric, f"{metric}_ratio"), when)
    low = fact.low if fact.low is not None else float(fact.value)
    high = fact.high if fact.high is not None else float(fact.value)
    return Interval(low, high)
