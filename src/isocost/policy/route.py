"""What a request tries next, as a pure function: pure Python, so that the gateway can hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from isocost.errors import BadLimits

Ended = Literal["served", "missed", "overflowed", "failed", "passed", "rejected"]
"""How an attempt ended. ``missed``: a cache or rules had no answer. ``passed`` and ``rejected`` are what a
checker said of a served answer."""

_SPREAD = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio: multiples of it, modulo 2**64, spread most evenly over a share."""
_WHOLE = 1 << 64


class Request(msgspec.Struct, frozen=True):
    """What a policy may see of a request.

    ``sequence`` counts the requests of its workload and model, from 0; ``hour`` is the hour of the
    week, Monday 00:00 UTC first. ``score`` is what :mod:`isocost.policy.router` makes of its text, ``None``
    unknown; ``wait_s`` how long its answer may take, ``None`` interactive; ``output_tok`` what it asks for
    at most. ``session`` is a number that stands for its session (in a gateway a hash of its tenant and
    its name), -1 none.
    """

    workload: str
    model: str
    sequence: int
    hour: int
    provider: str = ""
    task: str = ""
    score: float | None = None
    input_tok: int = 0
    output_tok: int = 0
    wait_s: float | None = None
    session: int = -1


class View(msgspec.Struct, frozen=True):
    """What a policy may see beside the request: ``spent_usd`` of its budget, and where its session was
    served ``last``."""

    spent_usd: float = 0.0
    last: str = ""


class Attempt(msgspec.Struct, frozen=True):
    """A deployment that was tried, and how that ended.

    ``answer`` numbers the groups of equal answers of one request in order of appearance, -1 where there is
    none.
    """

    deployment: str
    ended: Ended
    answer: int = -1


class Stop(msgspec.Struct, frozen=True):
    """Nothing more to try."""


class Refuse(msgspec.Struct, frozen=True):
    """The request is refused: ``input``, ``output`` or ``budget`` says by which guard."""

    why: str


class Edit(msgspec.Struct, frozen=True):
    """What is cut of a request: input beyond ``trim_input_tok``, output beyond ``cap_output_tok`` tokens."""

    trim_input_tok: int | None = None
    cap_output_tok: int | None = None


class Try(msgspec.Struct, frozen=True):
    """Try these deployments next, all at once; none: wait for those that are out.

    ``wait_s`` is how long the answer may take (batch); ``edit`` what is cut first; ``not_before_s`` how
    long to pause before; ``stagger_s`` how much later than the one before it each deployment starts, unless
    one answered.
    """

    deployments: tuple[str, ...]
    wait_s: float | None = None
    edit: Edit | None = None
    not_before_s: float = 0.0
    stagger_s: float = 0.0


Action = Stop | Try | Refuse


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment's share of a route, by hour of the week: 168 numbers, or one for all hours."""

    deployment: str
    frac: tuple[float, ...]

    def at(self, hour: int) -> float:
        """The share in an hour of the week."""
        return self.frac[0] if len(self.frac) == 1 else self.frac[hour]


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rule of one workload and one of today's models (and, where it is named, its provider).

    ``cache`` is tried first where it is named; then the deployment that the shares pick; then, on
    overflow or failure, ``fallback``. ``serve``: where work that waits is put off, what each hour of the week
    serves of it over a mean hour (168), first come, first served. ``by_session``: shares divide sessions, not
    requests, so that what a session sent before is read from the cache where it goes on.
    """

    workload: str
    model: str
    shares: tuple[Share, ...]
    cache: str = ""
    fallback: str = ""
    wait_s: float | None = None
    provider: str = ""
    serve: tuple[float, ...] = ()
    by_session: bool = False


class RoutePolicy:
    """Routes by workload and model. Decides from its arguments alone: no clock, no I/O."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._by_key = {(route.workload, route.model, route.provider): route for route in routes}
        for route in routes:
            for hour in range(168):
                whole = sum(share.at(hour) for share in route.shares)
                if abs(whole - 1.0) > 1e-6:
                    raise BadLimits(
                        f"shares of {route.workload!r} sum to {whole:.6f} in hour {hour} of the week",
                        where="[[route]]",
                        fix="Make them sum to 1",
                    )

    def route(self, workload: str, model: str, provider: str = "") -> Route | None:
        """The rule that applies: of workload, model and provider, else of fewer of them (model ``*``)."""
        keys = ((workload, model, provider), (workload, model, ""), (workload, "*", ""))
        return next((self._by_key[key] for key in keys if key in self._by_key), None)

    def next(self, request: Request, attempts: Sequence[Attempt], view: View | None = None) -> Action:
        """Given what was tried and how it went, what next?"""
        del view  # a route looks at nothing beside the request
        route = self.route(request.workload, request.model, request.provider)
        if route is None or (attempts and attempts[-1].ended == "served"):
            return Stop()
        tried = {attempt.deployment for attempt in attempts}
        if route.cache and route.cache not in tried:
            return Try((route.cache,))
        chosen = pick(route, request.sequence, request.hour, request.session)
        for deployment in (chosen, route.fallback):
            if deployment and deployment not in tried:
                return Try((deployment,), route.wait_s)
        return Stop()


def spread(sequence: int) -> int:
    """Where request ``sequence`` falls in [0, 2**64): a low-discrepancy sequence, exact in integers.

    >>> spread(0), spread(1) == _SPREAD
    (0, True)
    """
    return (sequence * _SPREAD) % _WHOLE


def edges(route: Route, hour: int) -> list[int]:
    """Upper edges of the shares of a route on [0, 2**64], the last one whole; one per share."""
    return share_edges(route.shares, hour)


def share_edges(shares: Sequence[Share], hour: int) -> list[int]:
    """Upper edges of shares on [0, 2**64], the last one whole; one per share."""
    sums, out = 0.0, []
    for share in shares:
        sums += share.at(hour)
        out.append(min(_WHOLE, int(sums * _WHOLE)))
    out[-1] = _WHOLE
    return out


def pick(route: Route, sequence: int, hour: int, session: int = -1) -> str:
    """The deployment that the shares of a route give to a request; its long-run frequency is its share.

    Where these divide sessions, one stays with its deployment for as long as the shares stay; a request
    without a session is divided by itself.
    """
    return pick_share(route.shares, key(sequence, session, route.by_session), hour)


def key(sequence: int, session: int, by_session: bool) -> int:
    """The number by which a request is divided: its session's, where sessions are and it has one.

    >>> key(7, 3, True), key(7, 3, False), key(7, -1, True)
    (3, 7, 7)
    """
    return session if by_session and session >= 0 else sequence


def pick_share(shares: Sequence[Share], sequence: int, hour: int) -> str:
    """The deployment that shares give to a request; its long-run frequency is its share."""
    place = spread(sequence)
    for share, edge in zip(shares, share_edges(shares, hour), strict=True):
        if place < edge and share.at(hour) > 0.0:
            return share.deployment
    return shares[-1].deployment
