"""The risk that an API's model is retired or repriced within a year, as the cost of being able to move.

Facts read: ``retirement/*`` (released, retired), ``migration/any`` and the windows of list prices that
:mod:`isocost.forecast` fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.develop.book import Term
from isocost.forecast.histories import windows
from isocost.keep.ask import Ask
from isocost.keep.book import Keep
from isocost.risk.scenarios import wilson
from isocost.units import DAYS_PER_YEAR


class Share(NamedTuple):
    """A probability with its central 80 %."""

    low: float
    mid: float
    high: float


class Change(NamedTuple):
    """What may happen to the model in use within a year, and what a year of the risk is worth.

    ``retires_on`` is the announced day of its end, '' where none is known; ``rise_ratio`` the middle of the
    rises that list prices saw; ``moves_at_ratio`` the rise from which moving costs less than staying.
    """

    model: str
    age_years: float
    retired: Share
    retires_on: str
    rises: Share
    rise_ratio: float
    move_usd: float
    bill_usd_per_year: float
    moves_at_ratio: float
    usd_per_year: float


def seen_in(happened: float, trials: float) -> Share:
    """A share with its central 80 %; wide where little was seen.

    >>> seen_in(0.0, 0.0), seen_in(5.0, 10.0).mid
    (Share(low=0.0, mid=0.5, high=1.0), 0.5)
    """
    return Share(*wilson(happened / trials if trials > 0.0 else 0.5, trials))


def gone_within(lives_years: Sequence[float], age_years: float, events: float | None = None) -> Share:
    """Probability that a model of an age is gone a year later, from the lives of models that ended.

    ``events`` are the retirements that were decided apart from one another, where fewer than the models.

    >>> gone_within([0.5, 1.5, 3.0], 1.0).mid == seen_in(1.0, 2.0).mid
    True
    """
    alive = [life for life in lives_years if life > age_years]
    gone = [life for life in alive if life <= age_years + 1.0]
    weight = 1.0 if events is None or not alive else min(1.0, events / len(lives_years))
    return seen_in(len(gone) * weight, len(alive) * weight)


class Past(NamedTuple):
    """What models and prices did: lives in years, days on which ends were set, ratios of list prices."""

    lives_years: tuple[float, ...]
    days: int
    price_ratios: tuple[float, ...]


def lives(at: CatalogAt) -> tuple[list[float], int]:
    """Years from release to retirement of every model whose end the catalog knows; distinct days of them."""
    found, days = [], set()
    for fact in at.each("retirement/", "retired"):
        end = date.fromisoformat(str(fact.value))
        start = date.fromisoformat(at.text(fact.subject, "released"))
        found.append((end - start).days / DAYS_PER_YEAR)
        days.add((fact.subject.split("/")[1], end))
    return found, len(days)


def past(at: CatalogAt) -> Past:
    """What the catalog knows of the lives of models and of list prices a year apart."""
    known, days = lives(at)
    ratios = (math.exp(one) for window in windows(at, "maker") for one in window.log_ratio)
    return Past(tuple(known), days, tuple(ratios))


def ends(at: CatalogAt, name: str) -> tuple[str, str]:
    """When a model was released and when it ends, '' where not known; a reseller's model is its maker's.

    ``name`` is a seller and a model: ``openai/gpt-5-mini``, ``openrouter/openai/gpt-5-mini``.
    """
    subject = f"retirement/{name}"
    if at.find(subject, "retired") is None:
        last = "/" + name.rpartition("/")[2]
        known = (fact.subject for fact in at.each("retirement/", "retired"))
        subject = next((one for one in known if one.endswith(last)), subject)
    released, retired = at.find(subject, "released"), at.find(subject, "retired")
    return str(released.value) if released else "", str(retired.value) if retired else ""


def loss_usd(rises: Sequence[float], bill_usd_per_year: float, move_usd: float) -> float:
    """What a rise of prices costs on average, where one may move instead: the lesser of the two.

    >>> loss_usd([1.5, 3.0], 100.0, 60.0)
    55.0
    """
    each = [min((ratio - 1.0) * bill_usd_per_year, move_usd) for ratio in rises]
    return sum(each) / len(each) if each else 0.0


def bill_per_month(book: Keep, subject: str, ask: Ask) -> float:
    """What the answers cost a month at list prices.

    Raises:
        UnknownFact: the catalog holds no price of input or of output.
    """
    prices = [book.at.number(subject, f"{part}_usd_per_mtok") for part in ("input", "output")]
    tokens = (ask.traffic.input_tok, ask.traffic.output_tok)
    each = sum(price * tok for price, tok in zip(prices, tokens, strict=True))
    return ask.traffic.requests_per_month * each / 1e6


def keep_moving(
    book: Keep,
    ask: Ask,
    model: str,
    bill_usd_per_year: float | None = None,
    known: Past | None = None,
    part_frac: float = 1.0,
) -> Change:
    """Book the expected cost of moving away, and of rises that are not worth a move.

    A model whose end within a year is announced is moved from: its probability is 1. The bill is what
    the model's answers cost, at list prices where it is not given; ``part_frac`` of the services use it.

    Raises:
        UnknownFact: the bill is not given and the catalog has no list price of the model.
    """
    at, services = book.at, ask.services * part_frac
    seen = past(at) if known is None else known
    name = model.removeprefix("api/")
    released, announced = ends(at, name)
    age = at.number("migration/any", "age_years")
    if released:
        age = max(0.0, (at.on - date.fromisoformat(released)).days / DAYS_PER_YEAR)
    retired = gone_within(seen.lives_years, age, seen.days)
    if announced:
        sure = 1.0 if date.fromisoformat(announced) <= at.on + timedelta(days=365) else 0.0
        retired = Share(sure, sure, sure)
    rises = [ratio for ratio in seen.price_ratios if ratio > 1.0]
    rise = seen_in(float(len(rises)), float(len(seen.price_ratios)))
    each = book.fact("migration/any", "usd_per_service")
    graded = book.fact("migration/any", "graded_samples")
    grading = book.fact("ops/evaluation", "usd_per_sample")
    move = services * (each.value + graded.value * grading.value)
    bill = bill_usd_per_year
    if bill is None:
        bill = book.months() * bill_per_month(book, f"api/{name}", ask)
    month = 1.0 / book.months()
    chance = _term(f"retirement/{name}.within a year", retired)
    if retired.mid:
        what = f"moving from {name}, expected"
        book.add("api-change-risk", what, "service", services * month, chance, each)
        book.add("api-change-risk", f"{what}, graded", "sample", services * month, chance, graded, grading)
    harm = loss_usd(rises, bill, move) * (1.0 - retired.mid)
    if harm:
        chance = _term("prices/list-maker.rises within a year", rise)
        book.add("api-change-risk", f"{name} dearer, or moved from", "year", harm * month, chance)
    worth = retired.mid * move + rise.mid * harm
    limit = 1.0 + move / bill if bill else math.inf
    ratio = float(np.median(rises)) if rises else 1.0
    return Change(name, age, retired, announced, rise, ratio, move, bill, limit, worth)


def _term(name: str, share: Share) -> Term:
    low = max(share.low / share.mid, 1e-3) if share.mid else 1.0
    return Term(name, share.mid, low, share.high / share.mid if share.mid else 1.0)
