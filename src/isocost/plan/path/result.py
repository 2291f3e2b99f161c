"""What a path says, as plain data: the terminal, the memo and ``--json`` read this."""

from __future__ import annotations

import msgspec

from isocost.plan.result import Band, Worth


class Step(msgspec.Struct, frozen=True):
    """A quarter: traffic, who serves, and what it costs a month. Shares are of requests.

    ``api_frac`` goes to an API, in ``api_hours`` hours of the week at least in part; ``peak`` and ``mean``
    replicas run, ``committed`` of them signed or held. ``change``: what is done at its start. ``api`` names
    the APIs.
    """

    label: str
    months: int
    requests_per_month: float
    way: str
    api_frac: float
    api_hours: int
    api_when: str
    peak: int
    mean: float
    committed: int
    usd_per_month: float
    change: str
    api: str = ""


class Signing(msgspec.Struct, frozen=True):
    """A commitment: when it is signed, for how long, how many accelerators at what rent, and how used it is.

    ``held``: it is there already, paid for until it ends whatever is done. ``beyond_usd``: what is still owed
    when the horizon ends, undiscounted; it is in the path's cost. ``usd``: all that signing it promises.
    """

    label: str
    gpu: str
    count: int
    term: str
    until: str
    usd_per_gpu_h: float
    used_frac: float
    held: bool
    beyond_usd: float = 0.0
    usd: float = 0.0


class Rival(msgspec.Struct, frozen=True):
    """Staying with one way for the whole horizon: discounted cost, chance that it is the cheapest, regret.

    ``regret_usd`` is what having chosen it costs above hindsight, ``mean_usd`` its cost, in the mean of
    scenarios.
    """

    way: str
    usd: float | None
    band: Band | None
    cheapest_frac: float
    regret_usd: float
    mean_usd: float
    why_not: str = ""


class Cell(msgspec.Struct, frozen=True):
    """Who is cheapest at a volume over a horizon, and in what share of scenarios; ``odds`` of every way."""

    requests_per_month: float
    months: int
    way: str
    frac: float
    odds: dict[str, float] = {}


class Met(msgspec.Struct, frozen=True):
    """A limit that growth meets: from when, what the path does instead, and what that costs over the horizon.

    ``limit`` is ``rates``, ``carbon`` or ``budget``; ``usd`` is what the path costs above the one without it.
    """

    limit: str
    what: str
    since: str
    instead: str
    usd: float


class Proof(msgspec.Struct, frozen=True):
    """A cheaper way that only lacks proof: what it saves over the horizon, and how likely it is to pass.

    ``odds`` that it is within the margin, by published scores (``None``: none compare it); ``worth_usd`` is
    what grading is worth before choosing: the saving times those odds, all of it where they are not known.
    """

    way: str
    workloads: list[str]
    saves_usd: float
    odds: float | None
    worth_usd: float
    samples: int
    grading_usd: float
    evidence: str


class Falling(msgspec.Struct, frozen=True):
    """APIs alone, were today's quality always bought where it is cheapest: what the path would lose to.

    ``ratio`` of that price at the horizon's end to today's, the median; ``path_wins_frac`` of the scenarios.
    """

    way: str
    ratio: float
    usd: float
    band: Band
    path_wins_frac: float


class PathResult(msgspec.Struct, frozen=True):
    """A path over a horizon. Dollars are discounted to today unless they are a month's.

    ``gap_frac`` is certified given the capacities, these ways to serve and the supposed prices;
    ``week_error_frac`` is what planning on representative weeks misjudges the first year by, measured on all
    its hours.
    """

    title: str
    priced_on: str
    months: int
    growth_per_month: float
    prices: str
    headline: str
    steps: list[Step]
    signings: list[Signing]
    usd: float
    mean_usd: float
    band: Band
    bound_usd: float
    gap_frac: float
    week_error_frac: float | None
    rivals: list[Rival]
    cells: list[Cell]
    worths: list[Worth]
    notes: list[str]
    falling: Falling | None = None
    met: list[Met] = []
    proofs: list[Proof] = []
