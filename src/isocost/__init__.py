"""isocost: the least-cost way to serve a language-model workload.

The public names; each is loaded when it is first asked for, so that ``import isocost`` does nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isocost.bill import Usage, price, price_columns
    from isocost.catalog import Catalog, Fact
    from isocost.errors import Infeasible, IsocostError
    from isocost.ledger import Charge, Ledger
    from isocost.plan.asked.limits import Have, Limits, Slo
    from isocost.plan.market.prepare import Request
    from isocost.plan.result import PlanResult
    from isocost.plan.run import Outcome, make_plan
    from isocost.plan.written.file import PlanFile
    from isocost.plan.written.rerun import rerun
    from isocost.report import render
    from isocost.trace import Trace, example, from_numbers, open_trace

__all__ = [
    "Catalog",
    "Charge",
    "Fact",
    "Have",
    "Infeasible",
    "IsocostError",
    "Ledger",
    "Limits",
    "Outcome",
    "PlanFile",
    "PlanResult",
    "Request",
    "Slo",
    "Trace",
    "Usage",
    "example",
    "from_numbers",
    "make_plan",
    "open_trace",
    "price",
    "price_columns",
    "render",
    "rerun",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'isocost' has no attribute {name!r}")
    return getattr(import_module(_home(name)), name)


def _home(name: str) -> str:
    """The module that a public name lives in."""
    homes = {
        "isocost.bill": ("Usage", "price", "price_columns"),
        "isocost.catalog": ("Catalog", "Fact"),
        "isocost.errors": ("Infeasible", "IsocostError"),
        "isocost.ledger": ("Charge", "Ledger"),
        "isocost.plan.written.file": ("PlanFile",),
        "isocost.plan.asked.limits": ("Have", "Limits", "Slo"),
        "isocost.plan.market.prepare": ("Request",),
        "isocost.plan.written.rerun": ("rerun",),
        "isocost.plan.result": ("PlanResult",),
        "isocost.plan.run": ("Outcome", "make_plan"),
        "isocost.report": ("render",),
        "isocost.trace": ("Trace", "example", "from_numbers", "open_trace"),
    }
    return next(module for module, names in homes.items() if name in names)
