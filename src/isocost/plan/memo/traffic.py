"""What a memo is asked for, and the requests that stand in for a log."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.names import resolve
from isocost.deployment import Api
from isocost.errors import BadInput
from isocost.plan.asked.limits import Have, Limits
from isocost.plan.asked.today import api_of
from isocost.plan.market.prepare import DEFAULT_SHAPE, weekly_shape
from isocost.trace.schema import Trace
from isocost.trace.workload import Spread, from_numbers, within
from isocost.units import DAYS_PER_MONTH, WEEK_H, count

MEMO = "planning/memo"
VOLUMES = 5
"""Volumes of the memo's table, evenly apart on a logarithmic scale; the middle one is the third."""
REQUESTS_MOST, REQUESTS_LEAST = 250_000, 20_000
"""Requests of the generated trace: enough for a stable 95th percentile, few enough to replay in a second."""
DAYS_MOST, DAYS_LEAST = 14.0, 7.0


@dataclass(frozen=True)
class MemoAsk:
    """What a memo is asked for.

    ``requests_per_month``: low and high, equal for a single guess. ``now``: the model that serves today,
    blank where nothing does; then ``reference`` (default: the catalog's) says whose quality must be kept.
    ``shape``: the week, a name of the catalog or ``flat``.
    """

    requests_per_month: tuple[float, float]
    input_tok: float
    output_tok: float
    catalog: Catalog
    on: date
    now: str = ""
    limits: Limits = field(default_factory=Limits)
    have: Have = field(default_factory=Have)
    shape: str = DEFAULT_SHAPE
    reference: str = ""


def volumes_of(ask: MemoAsk, at: CatalogAt) -> list[float]:
    """Requests a month: five from low to high, the steps equal factors.

    Raises:
        BadInput: not a range of positive numbers, or tokens that are not at least one.
    """
    low, high = ask.requests_per_month
    for name, value in (("--in", ask.input_tok), ("--out", ask.output_tok)):
        if not (math.isfinite(value) and value >= 1):
            raise BadInput(f"{value:g} tokens a request", where=name, fix="Give at least one token, as 1500")
    if not (math.isfinite(low) and math.isfinite(high) and low > 0 and high > 0):
        raise BadInput(
            f"{low:g} to {high:g} requests a month", where="--requests", fix="Type 200k..5M/mo or 1M/mo"
        )
    if high < low:
        raise BadInput(
            f"the range runs backwards: {low:g} to {high:g}",
            where="--requests",
            fix=f"Type {count(high)}..{count(low)}/mo",
        )
    if low == high:
        ratio = at.number(MEMO, "range_ratio")
        low, high = low / ratio, high * ratio
    return [float(v) for v in np.geomspace(low, high, VOLUMES)]


def reference_of(at: CatalogAt, named: str) -> Api:
    """The offering whose quality must be kept, as ``provider/model`` or a model's name.

    Raises:
        UnknownModel: no offering of that name.
    """
    provider, _, bare = named.rpartition("/") if named.count("/") == 1 else ("", "", named)
    return api_of(at, resolve(at, bare, provider))


def traffic(ask: MemoAsk, at: CatalogAt, reference: Api, middle: float) -> tuple[Trace, float]:
    """The generated requests, and the requests a month that they stand for.

    One or two weeks at the middle volume, or as near to it as a replay of a second allows. Lengths are
    lognormal, none above the catalog's longest nor the reference's context; their means are as asked.

    Raises:
        BadInput: the mean request does not fit the reference's context.
    """
    most = REQUESTS_MOST / DAYS_LEAST * DAYS_PER_MONTH
    least = REQUESTS_LEAST / DAYS_MOST * DAYS_PER_MONTH
    volume = min(max(middle, least), most)
    days = min(DAYS_MOST, max(DAYS_LEAST, REQUESTS_MOST / (volume / DAYS_PER_MONTH)))
    shape = np.ones(WEEK_H) if ask.shape == "flat" else weekly_shape(at, ask.shape)
    spread = Spread(*(at.number(MEMO, name) for name in ("input_sigma", "output_sigma", "dispersion")))
    trace = from_numbers(volume, ask.input_tok, ask.output_tok, spread=spread, days=days, shape=shape)
    longest = at.number(MEMO, "longest_ratio")
    context = at.find(reference.subject, "context_tok") or at.find(f"model/{reference.model}", "context_tok")
    most_tok = math.inf if context is None else float(context.value)
    if ask.input_tok + ask.output_tok > most_tok:
        raise BadInput(
            f"{ask.input_tok + ask.output_tok:,.0f} tokens a request are over the context of {reference.id}",
            where="--in",
            fix=f"Its context is {most_tok:,.0f} tokens: name another model with --now",
        )
    room = most_tok / (ask.input_tok + ask.output_tok)
    table = trace.table()
    ratio = min(longest, room)
    prompts = within(table.input_tok, ask.input_tok, ratio).astype(table.input_tok.dtype)
    answers = within(table.output_tok, ask.output_tok, ratio).astype(table.output_tok.dtype)
    return trace.of(replace(table, input_tok=prompts, output_tok=answers)), volume
