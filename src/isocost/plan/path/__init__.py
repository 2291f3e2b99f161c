"""The path: what to run quarter by quarter over a horizon, what to sign and when to switch."""

from isocost.plan.path.ask import PathAsk, horizon_months
from isocost.plan.path.result import PathResult
from isocost.plan.path.run import make_path

__all__ = ["PathAsk", "PathResult", "horizon_months", "make_path"]
