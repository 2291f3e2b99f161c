"""The size and data that cost least for a quality and a demand, and where more is not worth it."""

from __future__ import annotations

import math

import msgspec

from isocost.catalog import CatalogAt
from isocost.develop.hardware import accelerator, rent_term
from isocost.develop.posterior import mfu_fact
from isocost.develop.scaling import (
    FLOP_PER_PARAM_SERVED,
    FLOP_PER_PARAM_TOK,
    Law,
    best_params,
    budget_for,
    laws,
    least,
    loss,
    rooted,
    tokens_for,
)
from isocost.units import SECONDS_PER_H

NUDGE = 1e-4
"""Relative step of a numerical slope."""
SMALLEST, LARGEST = 1e6, 1e14
"""Sizes between which an optimum is sought, parameters."""
HUNDREDTH = 0.01


class Prices(msgspec.Struct, frozen=True):
    """Dollars for one operation in training and in serving."""

    train_usd_per_flop: float
    serve_usd_per_flop: float


class Point(msgspec.Struct, frozen=True):
    """A size on so many tokens: what it costs to train and to serve, and its loss (nan: not stated)."""

    params: float
    training_tok: float
    loss: float
    train_flop: float
    serve_flop: float
    train_usd: float
    serve_usd: float

    @property
    def flop(self) -> float:
        """Operations of its whole life."""
        return self.train_flop + self.serve_flop

    @property
    def usd(self) -> float:
        """Dollars of its whole life."""
        return self.train_usd + self.serve_usd


class Optimum(msgspec.Struct, frozen=True):
    """What one law advises: ``trained`` is best for training alone, ``lived`` for the whole life.

    ``lived`` reaches the loss of ``trained``; it is ``None`` where the law states no loss.
    ``usd_per_hundredth`` is the training cost of the next hundredth of a nat; ``worth_usd`` the
    training cost beyond which more is not worth it, and ``worth_params`` the size there.
    """

    law: Law
    trained: Point
    lived: Point | None
    usd_per_hundredth: float
    worth_usd: float
    worth_params: float


def prices_of(at: CatalogAt, gpu: str) -> Prices:
    """What an operation costs on rented accelerators, at the utilisation of training and of serving."""
    one = accelerator(at, gpu)
    second = rent_term(at, one.ident).value / SECONDS_PER_H / one.flop_per_s
    serving = at.number("development/any", "inference_mfu_frac")
    return Prices(second / float(mfu_fact(at, one.ident).value), second / serving)


def point(one: Law, params: float, training_tok: float, served_tok: float, prices: Prices) -> Point:
    """A size on so many tokens that serves so many, priced."""
    train = FLOP_PER_PARAM_TOK * params * training_tok
    serve = FLOP_PER_PARAM_SERVED * params * served_tok
    nats = loss(one, params, training_tok) if one.has_loss else math.nan
    return Point(
        params,
        training_tok,
        nats,
        train,
        serve,
        train * prices.train_usd_per_flop,
        serve * prices.serve_usd_per_flop,
    )


def life_optimal(one: Law, target_loss: float, served_tok: float, prices: Prices) -> Point:
    """The point of a loss that costs least over training and serving (Sardana et al. 2023).

    With equal prices for both kinds of work it is least in operations.
    """

    def spent(params: float) -> float:
        tokens = tokens_for(one, params, target_loss)
        train = FLOP_PER_PARAM_TOK * tokens * prices.train_usd_per_flop
        return params * (train + FLOP_PER_PARAM_SERVED * served_tok * prices.serve_usd_per_flop)

    # Below this size the loss is out of reach at any amount of data.
    floor = rooted(
        lambda n: 1.0 if math.isfinite(tokens_for(one, n, target_loss)) else -1.0, SMALLEST, LARGEST
    )
    params = least(spent, floor * (1.0 + 1e-9), LARGEST)
    return point(one, params, tokens_for(one, params, target_loss), served_tok, prices)


def usd_per_nat(one: Law, flop: float, train_usd_per_flop: float) -> float:
    """Training dollars for the next nat at the best size for each budget.

    Raises:
        BadInput: the law states no loss.
    """
    here, more = (_best_loss(one, flop * factor) for factor in (1.0, 1.0 + NUDGE))
    return flop * NUDGE * train_usd_per_flop / (here - more)


def worth(one: Law, prices: Prices, usd_per_hundredth: float | None, least_gain_nats: float) -> float:
    """The training budget in operations beyond which more is not worth it.

    Where a hundredth of a nat has a value, it is where the next one costs that much; else where a
    doubling gains less than ``least_gain_nats``.
    """
    if usd_per_hundredth is not None:
        return rooted(
            lambda c: usd_per_nat(one, c, prices.train_usd_per_flop) * HUNDREDTH - usd_per_hundredth,
            1e12,
            1e34,
        )
    return rooted(lambda c: least_gain_nats - (_best_loss(one, c) - _best_loss(one, 2.0 * c)), 1e12, 1e34)


def optima(
    at: CatalogAt,
    served_tok: float,
    prices: Prices,
    *,
    params: float | None = None,
    flop: float | None = None,
    target_loss: float | None = None,
    usd_per_hundredth: float | None = None,
) -> tuple[Optimum, ...]:
    """What every published law advises for a quality, stated as one of a size, a budget or a loss.

    A size stands for the loss that it has where it is compute-optimal. Laws that cannot reach the
    quality with a size that anyone could train are left out.
    """
    gain = at.number("development/any", "least_gain_nats")
    found = []
    for one in laws(at):
        budget = _budget(one, params, flop, target_loss)
        size = math.inf if budget is None else best_params(one, budget)
        if budget is None or not SMALLEST <= size <= LARGEST:
            continue
        trained = point(one, size, budget / (FLOP_PER_PARAM_TOK * size), served_tok, prices)
        if not one.has_loss:
            found.append(Optimum(one, trained, None, math.nan, math.nan, math.nan))
            continue
        lived = life_optimal(one, trained.loss, served_tok, prices)
        stop = worth(one, prices, usd_per_hundredth, gain)
        next_one = usd_per_nat(one, budget, prices.train_usd_per_flop) * HUNDREDTH
        found.append(
            Optimum(one, trained, lived, next_one, stop * prices.train_usd_per_flop, best_params(one, stop))
        )
    return tuple(found)


def _budget(one: Law, params: float | None, flop: float | None, target_loss: float | None) -> float | None:
    if flop is not None:
        return flop
    if target_loss is not None:
        return rooted(lambda c: target_loss - _best_loss(one, c), 1e12, 1e34) if one.has_loss else None
    assert params is not None
    return budget_for(one, params)


def _best_loss(one: Law, flop: float) -> float:
    size = best_params(one, flop)
    return loss(one, size, flop / (FLOP_PER_PARAM_TOK * size))
