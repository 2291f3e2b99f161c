"""Rules that say what a request tries next."""

from isocost.policy.route import Action, Attempt, Request, Route, RoutePolicy, Share, Stop, Try, pick

__all__ = ["Action", "Attempt", "Request", "Route", "RoutePolicy", "Share", "Stop", "Try", "pick"]
