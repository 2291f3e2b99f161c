"""What a plan found, as plain data: the terminal, the report, the memo and ``--json`` all read this.

Money is US dollars a month of 730.5 hours unless the name says otherwise. Bands are central 80 %.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Option = Literal["today", "api", "hosted", "selfhost", "slm", "cache", "batch", "people", "mix"]
"""Ways to serve: someone's API, an API over open weights, own replicas, an own small model …"""

LimitStatus = Literal["held", "missed", "unverified", "no limit"]
Verdict = Literal["switch", "stay", "infeasible"]


class Band(msgspec.Struct, frozen=True):
    """A figure with its central 80 % interval, all in the same unit."""

    low: float
    mid: float
    high: float


class TraceNote(msgspec.Struct, frozen=True):
    """The traffic that was planned for."""

    title: str
    digest: str
    reader: str
    requests: int
    days: float
    requests_per_month: float
    input_mtok_per_month: float
    output_mtok_per_month: float
    today: str
    findings: list[str]


class Line(msgspec.Struct, frozen=True):
    """One row of the verdict's table: a deployment, its cost, latency, evidence and share.

    ``cached_frac`` of its input is read from a prompt cache, ``cache_bound_frac`` what Belady's rule, which
    knows the future, would read in the same memory; ``None``: no cache counts, or the log has no prefixes.
    """

    id: str
    label: str
    option: Option
    usd_per_month: float
    share_frac: float
    workloads: list[str]
    ttft_p95_s: float | None
    latency_evidence: str
    quality: str
    same_model: bool
    cached_frac: float | None = None
    cache_bound_frac: float | None = None


class Limit(msgspec.Struct, frozen=True):
    """A limit on a workload, what was measured or replayed, and whether it held."""

    workload: str
    name: str
    target: float
    unit: str
    found: float | None
    status: LimitStatus
    evidence: str


class Rate(msgspec.Struct, frozen=True):
    """What a plan asks of a provider for a family of models in its busiest minute, and the limit on it.

    ``meter`` is the fullest: requests, input tokens, output tokens, or tokens; ``seen_per_min`` what replay
    saw of it. ``status``: ``within`` the highest published tier (``tier`` says which is needed), ``stated``
    by the account, ``shown`` by the log, ``unknown``. ``overflow_frac`` of its streams goes to
    ``overflow_to`` in ``overflow_h`` hours of the week. ``others_per_min``: where the limit is not
    known and half of those that others publish are below what is asked, four in five, their median.
    """

    provider: str
    model: str
    meter: str
    asked_per_min: float
    seen_per_min: float | None
    limit_per_min: float | None
    tier: str
    tier_from_usd: float | None
    status: Literal["within", "stated", "shown", "unknown"]
    overflow_frac: float = 0.0
    overflow_h: int = 0
    overflow_to: str = ""
    others_per_min: Band | None = None


class OptionLine(msgspec.Struct, frozen=True):
    """The best single deployment of an option for all the traffic, or the mix, or today.

    ``feasible`` is false where a limit or the quality evidence rules it out; ``why_not`` says which.
    ``by_account`` maps account id to $/month; ``by_pillar`` sums it by pillar.
    """

    option: Option
    id: str
    label: str
    feasible: bool
    why_not: str
    usd_per_month: Band
    by_pillar: dict[str, float]
    by_account: dict[str, float]
    ttft_p95_s: float | None
    quality: str
    days_to_launch: float | None


class Account(msgspec.Struct, frozen=True):
    """An account of the chart by option, in the order of the result's options, in dollars a month.

    ``None`` is not known, or of an option that nothing serves; ``why`` says why an amount is nil or not
    known, '' where there is one.
    """

    id: str
    pillar: str
    label: str
    usd_per_month: list[float | None]
    why: list[str]


class Energy(msgspec.Struct, frozen=True):
    """Electricity of the answers of a month, what the grid emits for it, and what is counted."""

    kwh_per_month: Band
    kg_co2e_per_month: Band
    boundary: str


class UnitCost(msgspec.Struct, frozen=True):
    """A month of a feature or a customer: its requests, and what they cost today and under the plan.

    ``name`` is blank where the log names none. A share of what stands beside the answers is in both.
    """

    name: str
    requests_per_month: float
    today_usd: float
    plan_usd: float
    revenue_usd: float | None = None


class UnitCosts(msgspec.Struct, frozen=True):
    """What one interaction costs, and features and customers, the dearest first.

    Of ``customers_count`` customers those that cost most are listed; the dearest tenth of all cause
    ``top_tenth_frac`` of the cost.
    """

    requests_per_month: float
    today_usd: float
    plan_usd: float
    features: list[UnitCost]
    customers: list[UnitCost]
    customers_count: int
    top_tenth_frac: float
    has_beside: bool
    revenue_usd: float | None = None


class PlanMargin(msgspec.Struct, frozen=True):
    """A price plan on the log's customers: what they bring a month, and cost today and under the plan."""

    name: str
    customers: int
    revenue_usd: float
    today_usd: float
    plan_usd: float
    today_margin_frac: float
    plan_margin_frac: float
    today_at_a_loss: int
    plan_at_a_loss: int


class LifeLine(msgspec.Struct, frozen=True):
    """A way to serve over a horizon, discounted to today: by pillar, an answer, and when it is ahead.

    ``ahead_months`` is when it has cost less than today, what it takes at once included; ``None``: not within
    the horizon, or today itself.
    """

    option: Option
    label: str
    feasible: bool
    by_pillar: dict[str, float]
    usd: Band
    usd_per_request: float
    ahead_months: float | None


class Life(msgspec.Struct, frozen=True):
    """Ways to serve over a horizon, traffic growing and prices moving; development is paid once."""

    months: int
    growth_per_month: float
    prices: str
    requests: float
    lines: list[LifeLine]


class Unproven(msgspec.Struct, frozen=True):
    """A cheaper choice that the evidence does not yet allow, and what would settle it."""

    id: str
    label: str
    workloads: list[str]
    saves_usd_per_month: float
    evidence: str
    samples_to_settle: int | None


class Swing(msgspec.Struct, frozen=True):
    """What the plan's monthly cost becomes at the low and the high end of one input."""

    name: str
    label: str
    low_usd: float
    high_usd: float
    facts: list[str]


class Lever(msgspec.Struct, frozen=True):
    """A step of the waterfall from today's bill to the plan: negative saves."""

    name: str
    label: str
    delta_usd: float
    delta_fusd: int = 0
    """The same in whole femto-dollars: these sum exactly."""


class Hours(msgspec.Struct, frozen=True):
    """Who serves each hour of the week (Monday 00:00 UTC first); lists are 168 long by deployment."""

    deployments: list[str]
    labels: list[str]
    options: list[Option]
    requests_per_h: list[list[float]]
    replicas: list[list[int]]
    idle_frac: list[list[float]]


class FrontierPoint(msgspec.Struct, frozen=True):
    """A deployment that could carry all traffic (or today, or the plan): cost against quality and latency.

    Latency is of the answers that somebody waits for. ``slow`` and ``halting`` are ``dominated`` in the
    plane of cost and TTFT, and of cost and TPOT. ``ttft_bound`` and ``tpot_bound``: the latency is not
    shown on this trace, at least the figure given where it is a published median. ``why_not``: what speaks
    against it, blank where nothing does.
    """

    id: str
    label: str
    option: Option
    usd_per_month: float
    quality_diff_points: float | None
    quality_low_points: float | None
    ttft_p95_s: float | None
    proven: bool
    dominated: bool
    tpot_p95_s: float | None = None
    ttft_evidence: str = ""
    tpot_evidence: str = ""
    ttft_bound: bool = False
    tpot_bound: bool = False
    slow: bool = False
    halting: bool = False
    why_not: str = ""


class BreakEven(msgspec.Struct, frozen=True):
    """Cost of each option by volume: a line for an API, a staircase for replicas.

    ``usd_per_month[i][j]`` is series i at ``requests_per_month[j]`` (None: cannot serve).
    ``crossings`` are ``(option a, option b, requests a month where b becomes cheaper)``.
    """

    requests_per_month: list[float]
    options: list[Option]
    labels: list[str]
    usd_per_month: list[list[float | None]]
    crossings: list[tuple[str, str, float]]


class IsoquantPoint(msgspec.Struct, frozen=True):
    """A mix that does all the work: GPU-hours rented and API tokens bought a month, and its cost."""

    gpu_h_per_month: float
    api_mtok_per_month: float
    usd_per_month: float
    replicas: int


class Isoquant(msgspec.Struct, frozen=True):
    """Mixes of one pool and one API that serve the same traffic, and the two prices.

    A point costs ``gpu_h * usd_per_gpu_h + mtok * usd_per_api_mtok``, and with any replica
    ``fixed_usd_per_month`` more: the people and upkeep that replicas bring, whatever their number.
    """

    pool: str
    api: str
    points: list[IsoquantPoint]
    chosen: int
    usd_per_gpu_h: float
    usd_per_api_mtok: float
    fixed_usd_per_month: float


class Odds(msgspec.Struct, frozen=True):
    """A way to serve, costed in the same scenarios as its rivals; money a month.

    ``cheapest_frac`` and regrets are among the ways that are ``allowed`` (for one that is not: were it
    allowed too). ``regret_usd`` is what choosing it costs above hindsight in the mean, ``regret_p90_usd`` in
    one scenario of ten.
    """

    option: Option
    label: str
    allowed: bool
    usd_per_month: Band
    cheapest_frac: float
    regret_usd: float
    regret_p90_usd: float


class Worth(msgspec.Struct, frozen=True):
    """What it is worth to learn a fact before choosing: $ (a month in a plan, discounted in a path)."""

    name: str
    label: str
    usd: float


class Turn(msgspec.Struct, frozen=True):
    """A break-even as a distribution over scenarios: where ``label`` comes to cost less than ``over``.

    ``requests_per_month`` is the volume from which it does to stay; ``payback_months`` how long until its
    launch is paid back at today's volume, prices moving as forecast. Of the scenarios in which it ever does;
    ``None`` where that is fewer than half. ``never_frac`` and ``unpaid_frac``: the share in which it does not
    within the volumes, and within the months, that were looked at.
    """

    option: Option
    label: str
    over: str
    allowed: bool
    requests_per_month: Band | None
    never_frac: float
    launch_usd: float
    payback_months: Band | None
    unpaid_frac: float


class OddsMap(msgspec.Struct, frozen=True):
    """P(cheapest) by volume and by how far one looks: ``frac[i][v][h]`` of option i among all that are shown.

    ``allowed[i]`` is false where evidence is missing; of the allowed ones alone, ``allowed_frac`` in the same
    order (0 for the others).
    """

    labels: list[str]
    options: list[Option]
    allowed: list[bool]
    requests_per_month: list[float]
    months: list[int]
    frac: list[list[list[float]]]
    allowed_frac: list[list[list[float]]]


class Sure(msgspec.Struct, frozen=True):
    """How sure a plan is, from scenarios with common draws.

    ``plan_cheaper_frac``: share in which the plan costs less than today. ``evpi_usd``: most that knowing
    every fact before choosing among the allowed ways is worth a month; ``worths`` of single facts.
    """

    scenarios: int
    plan_cheaper_frac: float
    odds: list[Odds]
    evpi_usd: float
    worths: list[Worth]
    turns: list[Turn]
    map: OddsMap | None


class FactUse(msgspec.Struct, frozen=True):
    """A fact the plan rests on, with where it came from."""

    id: str
    value: str
    unit: str
    low: float | None
    high: float | None
    kind: str
    source: str
    address: str
    checked: str
    quote: str
    age_days: int


class Range(msgspec.Struct, frozen=True):
    """The plan under a flat and under a weekly shape, where the trace is shorter than a week."""

    flat_usd: float
    shaped_usd: float
    shape: str
    text: str


class PlanResult(msgspec.Struct, frozen=True):
    """Everything a plan says. ``gap_frac`` is certified given the capacity table."""

    title: str
    version: str
    priced_on: str
    price_basis: str
    verdict: Verdict
    headline: str
    trace: TraceNote
    today_usd: Band
    plan_usd: Band
    cash_usd_per_month: float
    full_usd_per_month: float
    lines: list[Line]
    unproven: list[Unproven]
    options: list[OptionLine]
    bound_usd: float
    gap_frac: float
    rounds: int
    limits: list[Limit]
    swings: list[Swing]
    levers: list[Lever]
    hours: Hours
    frontier: list[FrontierPoint]
    breakeven: BreakEven | None
    isoquant: Isoquant | None
    facts: list[FactUse]
    stale_facts: int
    range: Range | None
    at_least: bool
    """True where some of today's usage could not be priced: today's total is then a lower bound."""
    notes: list[str]
    next: list[str]
    rebuild: dict[str, str]
    detail: str = ""
    """One more sentence under the headline: what answers cost apart from people and upkeep."""
    sure: Sure | None = None
    """How sure; ``None`` in results of older versions."""
    rates: list[Rate] = []
    """What APIs are asked for in their busiest minute, against limits of usage tiers."""
    accounts: list[Account] = []
    """Every account of cost by option; those that are nil or not known say why."""
    energies: list[Energy | None] = []
    """Energy and carbon by option; ``None`` where nothing serves, or today's models are not known."""
    unit_costs: UnitCosts | None = None
    life: Life | None = None
    """The same ways over a horizon, where one was asked for."""
    margins: list[PlanMargin] = []
    """Price plans on the log's customers, all together last, where prices were given."""
