"""A scenario file: a few numbers in place of a log, with limits, holdings and a horizon, in one TOML.

The numbers are those that a person can say without a log: requests a month, tokens of a mean request, how
much of the prompt all requests share, how many ask the same again. What they leave open (spread, bursts,
the week's shape) is the catalog's, as for ``--requests``.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.errors import BadInput, BadLimits
from isocost.keep.ask import Ask
from isocost.plan.asked.limits import Have, Limits, check
from isocost.plan.market.prepare import DEFAULT_SHAPE, Request, weekly_shape
from isocost.toml import read_toml
from isocost.trace.schema import Trace
from isocost.trace.workload import Parameters, PromptCache, Spread, Workload, generate
from isocost.units import DAYS_PER_MONTH, WEEK_H, percent, seconds, share, tokens, volume_per_month

MEMO = "planning/memo"
ROWS_MOST = 500_000
DAYS_MOST, DAYS_LEAST = 14.0, 7.0
BLOCK_TOK = 64
"""Tokens of a prefix block of generated requests."""
SEED = 7
CUSTOMERS_MOST = 100_000
MOST_SPREAD = 3.0
"""Standard deviation of the logarithm of lengths beyond which nobody has seen any."""


class Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"in_": "in"}):
    """One workload: ``requests`` with their period, tokens of a mean request.

    ``shared``: how much of the prompt all requests begin with; ``repeat``: share of requests that ask one of
    ``prompts`` fixed ones; ``turns`` requests a session; ``spread``: standard deviation of the logarithm of
    lengths, the catalog's where it is not said; ``wait``: how long an answer may take.
    """

    name: str
    requests: str
    in_: str | int
    out: str | int
    shared: str | int = 0
    repeat: str = "0%"
    prompts: int = 0
    turns: float = 1.0
    spread: float | None = None
    wait: str | None = None


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario as it is written.

    ``customers``: who sends the requests: names with their shares (of all, together 100 %), or how many there
    are, the k-th asking 1/k as much as the first. Without them nothing is told by customer.
    """

    title: str
    now: str
    workload: tuple[Numbers, ...]
    shape: str = DEFAULT_SHAPE
    customers: int | dict[str, str | float] = 0
    horizon: str | None = None
    growth: str | None = None
    prices: Literal["flat", "forecast"] | None = None
    slo: Limits = Limits()
    have: Have = Have()
    keep: Ask | None = None

    @property
    def workloads(self) -> tuple[str, ...]:
        """Names of its workloads."""
        return tuple(one.name for one in self.workload)


def read(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        BadInput: not TOML, a name with a typo, a value of the wrong type or out of range.
    """
    scenario = read_toml(path, Scenario, "See docs/horizon.md for the names")
    if not scenario.workload:
        raise BadInput("no [[workload]]", where=path.name, fix="Add one: name, requests, in and out")
    check(scenario.slo, path.name)
    unknown = [name for name in scenario.slo.workload if name not in scenario.workloads]
    if unknown:
        raise BadLimits(
            f"no workload {unknown[0]!r}", where=path.name, fix=f"It has: {', '.join(scenario.workloads)}"
        )
    return scenario


def request_of(scenario: Scenario, catalog: Catalog, on: date) -> Request:
    """What a scenario asks of a plan."""
    limits = scenario.slo
    waits = {one.name: one.wait for one in scenario.workload if one.wait is not None}
    if waits:
        own = dict(limits.workload)
        for name, wait in waits.items():
            base = own.get(name, limits.default)
            own[name] = msgspec.structs.replace(base, wait=base.wait or wait)
        limits = msgspec.structs.replace(limits, workload=own)
    trace = trace_of(scenario, catalog.at(on))
    return Request(trace, catalog, on, limits, scenario.have, "", scenario.shape, keep=scenario.keep)


def trace_of(scenario: Scenario, at: CatalogAt) -> Trace:
    """Requests that stand for a scenario's numbers: one or two weeks of them, the same every time."""
    names = ("input_sigma", "output_sigma", "dispersion", "longest_ratio")
    spread = Spread(*(at.number(MEMO, name) for name in names))
    shape = np.ones(WEEK_H) if scenario.shape == "flat" else weekly_shape(at, scenario.shape)
    kinds = tuple(_workload(one, spread) for one in scenario.workload)
    per_day = sum(kind.requests_per_day for kind in kinds)
    if per_day * DAYS_LEAST < 2:
        raise BadInput(f"{per_day * DAYS_PER_MONTH:g} requests a month", fix="Give more than a few a month")
    days = min(DAYS_MOST, max(DAYS_LEAST, float(round(ROWS_MOST / per_day))))
    shared = any(kind.system_tok or kind.turns > 1 for kind in kinds)
    cache = PromptCache(0.0, 1024, 128) if shared else None
    return generate(
        Parameters(
            scenario.title, SEED, days, kinds, {"given": tuple(shape.tolist())},
            block_tok=BLOCK_TOK if shared else 0, tenants=_tenants(scenario), cache=cache,
        ),
        scenario.now,
    )  # fmt: skip


def _tenants(scenario: Scenario) -> int | dict[str, float]:
    if isinstance(scenario.customers, int):
        if not 0 <= scenario.customers <= CUSTOMERS_MOST:
            raise BadInput(f"customers = {scenario.customers}", fix=f"Give 0 to {CUSTOMERS_MOST:,}")
        return scenario.customers
    shares = {name: share(str(part)) for name, part in scenario.customers.items()}
    whole = math.fsum(shares.values())
    if min(shares.values(), default=1.0) <= 0.0 or abs(whole - 1.0) > 1e-3:
        raise BadInput(
            f"[customers] are {percent(whole)} of the requests", where=scenario.title,
            fix='Give each a share above 0, all together 100%: acme = "40%"',
        )  # fmt: skip
    return shares


def _workload(one: Numbers, spread: Spread) -> Workload:
    volume = volume_per_month(one.requests)
    if volume.low != volume.high:
        raise BadInput(f"{one.requests!r} is a range", where=one.name, fix="Give one volume, as 1M/mo")
    length, common = tokens(str(one.in_)), tokens(str(one.shared)) if one.shared else 0
    if common >= length:
        raise BadInput(f"shared = {common} of {length} tokens in", where=one.name, fix="Share less than all")
    if one.spread is not None:
        if not 0.0 <= one.spread <= MOST_SPREAD:
            raise BadInput(f"spread = {one.spread:g}", where=one.name, fix=f"Give 0 to {MOST_SPREAD:g}")
        spread = msgspec.structs.replace(spread, input_sigma=one.spread, output_sigma=one.spread)
    return Workload(
        one.name, volume.low / DAYS_PER_MONTH, "given", float(length - common), float(tokens(str(one.out))),
        spread, system_tok=common, turns=one.turns, think_s=60.0 if one.turns > 1 else 0.0,
        repeat_frac=share(one.repeat), prompts=one.prompts or (500 if share(one.repeat) else 0),
        deadline_s=0.0 if one.wait is None else seconds(one.wait),
    )  # fmt: skip
