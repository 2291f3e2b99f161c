"""Published scaling laws: loss of a size on data, and the size and data that are best for a budget.

Four forms: ``sum`` (Hoffmann et al. 2022 and refits), ``kaplan`` (Kaplan et al. 2020), and laws that
state an allocation without a loss: ``power`` (parameters grow with a power of compute) and ``ratio``
(tokens for each parameter). Constants are facts of ``scaling/*``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from isocost.catalog import CatalogAt
from isocost.errors import BadInput

FLOP_PER_PARAM_TOK = 6.0
"""Operations for each parameter and training token, as every law of this module counts them."""
FLOP_PER_PARAM_SERVED = 2.0
"""Operations for each parameter and token read or written when serving."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
STEPS = 200


class Law(msgspec.Struct, frozen=True):
    """One set of constants; those that its form does not use are nan."""

    name: str
    title: str
    form: str
    kind: str
    loss_floor: float = math.nan
    params_factor: float = math.nan
    tok_factor: float = math.nan
    params_power: float = math.nan
    tok_power: float = math.nan
    params_scale: float = math.nan
    tok_scale: float = math.nan
    flop_power: float = math.nan
    anchor_flop: float = math.nan
    anchor_params: float = math.nan
    tok_per_param: float = math.nan

    @property
    def has_loss(self) -> bool:
        """Whether the law says a loss; the others say an allocation alone."""
        return self.form in ("sum", "kaplan")


def laws(at: CatalogAt) -> tuple[Law, ...]:
    """Every published set of constants, in the order of the facts."""
    found = []
    for form in at.each("scaling/", "form"):
        values = {}
        for name in Law.__struct_fields__[4:]:
            fact = at.find(form.subject, name)
            if fact is not None:
                values[name] = float(fact.value)
        first = next(iter(values))
        kind = at.fact(form.subject, first).kind
        found.append(
            Law(
                form.subject.partition("/")[2],
                at.text(form.subject, "title"),
                str(form.value),
                kind,
                **values,
            )
        )
    return tuple(found)


def law(at: CatalogAt, name: str) -> Law:
    """The set of constants of that name.

    Raises:
        BadInput: there is none; the names are given.
    """
    every = {one.name: one for one in laws(at)}
    if name not in every:
        raise BadInput(f"no scaling constants called {name!r}", fix=f"Known: {', '.join(every)}")
    return every[name]


def sum_loss(
    params: float,
    training_tok: float,
    loss_floor: float,
    params_factor: float,
    tok_factor: float,
    params_power: float,
    tok_power: float,
) -> float:
    """Loss in nats a token by the sum of two powers (Hoffmann et al. 2022, equation 10).

    >>> sum_loss(math.inf, math.inf, 1.69, 406.4, 410.7, 0.34, 0.28)
    1.69
    >>> round(sum_loss(70e9, 1.4e12, 1.69, 406.4, 410.7, 0.34, 0.28), 3)
    1.937
    """
    return float(loss_floor + params_factor / params**params_power + tok_factor / training_tok**tok_power)


def kaplan_loss(
    params: float,
    training_tok: float,
    params_scale: float,
    tok_scale: float,
    params_power: float,
    tok_power: float,
) -> float:
    """Loss in nats a token where size and data limit each other (Kaplan et al. 2020, equation 1.5).

    >>> round(kaplan_loss(math.inf, 5.4e13, 8.8e13, 5.4e13, 0.076, 0.095), 9)
    1.0
    """
    return float(
        ((params_scale / params) ** (params_power / tok_power) + tok_scale / training_tok) ** tok_power
    )


def loss(one: Law, params: float, training_tok: float) -> float:
    """Loss of a size on so many tokens.

    Raises:
        BadInput: the law states no loss.
    """
    if one.form == "sum":
        return sum_loss(
            params,
            training_tok,
            one.loss_floor,
            one.params_factor,
            one.tok_factor,
            one.params_power,
            one.tok_power,
        )
    if one.form == "kaplan":
        return kaplan_loss(
            params, training_tok, one.params_scale, one.tok_scale, one.params_power, one.tok_power
        )
    raise BadInput(f"{one.title} states no loss", fix="Choose a law of the form sum or kaplan")


def tokens_for(one: Law, params: float, target_loss: float) -> float:
    """Tokens on which a size reaches a loss; infinite where it never does.

    >>> h = Law("h", "", "sum", "", 1.69, 406.4, 410.7, 0.34, 0.28)
    >>> round(tokens_for(h, 70e9, loss(h, 70e9, 1.4e12)) / 1.4e12, 9)
    1.0
    >>> tokens_for(h, 1e6, 1.7)
    inf
    """
    if one.form == "sum":
        left = target_loss - one.loss_floor - one.params_factor / params**one.params_power
        return (one.tok_factor / left) ** (1.0 / one.tok_power) if left > 0 else math.inf
    left = target_loss ** (1.0 / one.tok_power) - (one.params_scale / params) ** (
        one.params_power / one.tok_power
    )
    return one.tok_scale / left if left > 0 else math.inf


def best_params(one: Law, flop: float) -> float:
    """Parameters that are best for a training budget.

    >>> h = Law("h", "", "sum", "", 1.69, 406.4, 410.7, 0.34, 0.28)
    >>> n = best_params(h, 1e22)
    >>> best = loss(h, n, 1e22 / (6 * n))
    >>> best <= loss(h, n * 1.01, 1e22 / (6 * n * 1.01)) and best <= loss(h, n * 0.99, 1e22 / (6 * n * 0.99))
    True
    >>> best_params(Law("r", "", "ratio", "", tok_per_param=20.0), 120.0)
    1.0
    """
    if one.form == "ratio":
        return math.sqrt(flop / (FLOP_PER_PARAM_TOK * one.tok_per_param))
    if one.form == "power":
        return float(one.anchor_params * (flop / one.anchor_flop) ** one.flop_power)
    if one.form == "sum":
        a, b = one.params_power, one.tok_power
        scale = (a * one.params_factor / (b * one.tok_factor)) ** (1.0 / (a + b))
        return float(scale * (flop / FLOP_PER_PARAM_TOK) ** (b / (a + b)))
    spread = flop / FLOP_PER_PARAM_TOK
    return least(lambda n: loss(one, n, spread / n), 1e3, spread / 1e3)


def budget_for(one: Law, params: float) -> float:
    """The training budget for which a size is best; the inverse of :func:`best_params`.

    >>> h = Law("h", "", "sum", "", 1.69, 406.4, 410.7, 0.34, 0.28)
    >>> round(best_params(h, budget_for(h, 13e9)) / 13e9, 6)
    1.0
    """
    return rooted(lambda flop: best_params(one, flop) - params, 1e9, 1e40)


def least(value: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is least, by golden section on the log scale.

    >>> round(least(lambda x: (math.log(x) - 1.0) ** 2, 0.1, 100.0), 6) == round(math.e, 6)
    True
    """
    a, b = math.log(low), math.log(high)
    c, d = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    at_c, at_d = value(math.exp(c)), value(math.exp(d))
    for _ in range(STEPS):
        if at_c <= at_d:
            b, d, at_d = d, c, at_c
            c = b - GOLDEN * (b - a)
            at_c = value(math.exp(c))
        else:
            a, c, at_c = c, d, at_d
            d = a + GOLDEN * (b - a)
            at_d = value(math.exp(d))
    return math.exp((a + b) / 2.0)


def rooted(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function passes zero, by bisection on the log scale; an end where it does not.

    >>> round(rooted(lambda x: x - 5.0, 0.1, 100.0), 9)
    5.0
    """
    a, b = math.log(low), math.log(high)
    for _ in range(STEPS):
        middle = (a + b) / 2.0
        if rising(math.exp(middle)) < 0.0:
            a = middle
        else:
            b = middle
    return math.exp((a + b) / 2.0)
