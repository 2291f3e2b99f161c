"""Limits on a load's latencies where none are stated: those that a plan takes for such prompts."""

from __future__ import annotations

from isocost.catalog import CatalogAt
from isocost.plan.asked.limits import Slo
from isocost.plan.market.prepare import default_slo
from isocost.size.queue import Need

__all__ = ["Need", "limits_of"]


def limits_of(at: CatalogAt, need: Need) -> tuple[float, float]:
    """Limits on p95 of TTFT and of TPOT, s: those stated, else those that a plan takes for such prompts."""
    slo = Slo(ttft_p95_s=need.ttft_p95_s, tpot_p95_s=need.tpot_p95_s).over(
        default_slo(at, float(need.input_tok))
    )
    assert slo.ttft_p95_s is not None
    assert slo.tpot_p95_s is not None
    return slo.ttft_p95_s, slo.tpot_p95_s
