"""Rules that say what a request tries next."""

from isocost.policy.route import (
    Action,
    Attempt,
    Edit,
    Refuse,
    Request,
    Route,
    RoutePolicy,
    Share,
    Stop,
    Try,
    View,
    pick,
)

__all__ = [
    "Action",
    "Attempt",
    "Edit",
    "Refuse",
    "Request",
    "Route",
    "RoutePolicy",
    "Share",
    "Stop",
    "Try",
    "View",
    "pick",
]
