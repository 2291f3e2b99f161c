"""What each answer of a set of outcomes cost: as the file says, else by the catalog, else by a stated
rule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from isocost.catalog.catalog import CatalogAt
from isocost.catalog.names import resolve
from isocost.catalog.prices import rates
from isocost.errors import BadInput, UnknownFact
from isocost.policy.outcomes import Bools, Floats, Outcomes
from isocost.units import plural

MTOK = 1e6
UNKNOWN = "unknown: as the dearest here"
RELATIVE = "relative: rises with quality"
SIZED = "median of weights of its size"
MOST_PAID = 0.9
"""Share of a model's answers with a cost from which the mean of these stands for the others."""
_NEAREST = 15
"""Offerings of weights nearest in size whose median prices weights that the catalog does not sell."""
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z0-9])")
_NOISE = re.compile(
    r"^(meta-|c4ai-|open-)|(@.*|-turbo|-instruct|-inst|-chat|-it|-hf|-fp8|-v0\.\d|-bf16|-\d+k)+$"
)


@dataclass(frozen=True)
class Price:
    """Dollars a million tokens of one model, and where they come from."""

    model: str
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    rule: str


def price_models(
    models: Sequence[str],
    at: CatalogAt,
    stated: Mapping[str, tuple[float, float]] | None = None,
    quality: Floats | None = None,
) -> tuple[Price, ...]:
    """A price of every model, and by which rule.

    In order: as ``stated``; the catalog's offering of that name; the median of the hosts that sell weights of
    that name; a price listed for the name or for what it is a version of; the median of the offerings of
    weights nearest in size, where the name states a size; the dearest model of the file (``UNKNOWN``: no
    saving rests on it as long as it is not the strong model, see :func:`supposed`). Where none is known, or
    none but what is free, prices are ``RELATIVE``: from the worst to the best of mean ``quality`` (M,) they
    grow by the fact ``routing/default price_span``, and are no dollars. That quality is to be of the
    questions that choose, never of those that certify.
    """
    found: dict[str, Price] = {}
    hosts = _hosts(at)
    sizes = _sizes(at)
    for model in models:
        own = (stated or {}).get(model)
        if own is not None:
            found[model] = Price(model, *own, "as stated")
            continue
        priced = (
            _offered(model, at)
            or _sold(model, hosts)
            or _listed(model, at)
            or _version(model, hosts)
            or _sized(model, sizes)
        )
        if priced is not None:
            found[model] = priced
    unknown = [model for model in models if model not in found]
    dearest = max(
        found.values(), key=lambda one: one.input_usd_per_mtok + one.output_usd_per_mtok, default=None
    )
    if unknown and dearest is not None and dearest.input_usd_per_mtok + dearest.output_usd_per_mtok > 0:
        for model in unknown:
            found[model] = Price(model, dearest.input_usd_per_mtok, dearest.output_usd_per_mtok, UNKNOWN)
    elif unknown:
        level = np.zeros(len(models)) if quality is None else np.asarray(quality, dtype=np.float64)
        for model, price in zip(models, relative(level, at).tolist(), strict=True):
            found[model] = Price(model, price, price, RELATIVE)
    return tuple(found[model] for model in models)


def relative(quality: Floats, at: CatalogAt) -> Floats:
    """Prices (M,) that rise with the mean quality (M,) of models that nobody knows a price of; 1 for the
    best."""
    reach = max(1e-9, float(quality.max() - quality.min()))
    span = at.number("routing/default", "price_span")
    return np.array([span ** ((one - quality.max()) / reach) for one in quality.tolist()])


def paid(prices: Sequence[Price], outcomes: Outcomes) -> Floats:
    """Dollars of each answer as the file says, (n, M), NaN where it does not.

    Of a model that nothing else prices a few costs may be missing (an answer out of a tool's own cache, say):
    where most answers have one, the others cost what these do in the mean.
    """
    usd = outcomes.cost.copy()
    for j, price in enumerate(prices):
        known = np.isfinite(usd[:, j])
        if price.rule in (UNKNOWN, RELATIVE) and MOST_PAID <= known.mean() < 1.0:
            usd[~known, j] = usd[known, j].mean()
    return usd


def supposed(rule: str, prices: Sequence[Price], outcomes: Outcomes) -> Bools:
    """Models (M,) that are priced by ``rule`` (``UNKNOWN`` or ``RELATIVE``), since neither the catalog nor
    the rows of the file say what they cost."""
    by_rule = np.array([price.rule == rule for price in prices], dtype=np.bool_)
    return np.asarray(by_rule & ~np.isfinite(paid(prices, outcomes)).all(axis=0), dtype=np.bool_)


def costs(outcomes: Outcomes, prices: Sequence[Price], at: CatalogAt) -> tuple[Floats, tuple[str, ...]]:
    """Dollars of each answer, (n, M), and what had to be supposed.

    A ``cost`` of the file goes before a price, and a cost of zero is one: of a model that is already paid. An
    unknown count of output tokens is the model's median, else the file's, else a fact; it is never zero.
    An answer of a model that nobody knows the price of costs at least what the dearest other one does.

    Raises:
        BadInput: a cost that is not known, or dollars beside a price that is relative.
    """
    notes = []
    relative = np.flatnonzero(supposed(RELATIVE, prices, outcomes))
    if len(relative) and np.nansum(outcomes.cost) > 0:
        name, without = outcomes.models[relative[0]], int(np.isnan(outcomes.cost[:, relative[0]]).sum())
        raise BadInput(
            f"the price of {name!r} is not known, and the file has costs in dollars, but not of "
            f"{plural(without, 'answer')} of it",
            fix=f"Fill in its cost, or type --price {name}=IN/OUT (dollars a million tokens)",
        )
    cost = paid(prices, outcomes)
    meant = int(np.isnan(outcomes.cost).sum() - np.isnan(cost).sum())
    if meant:
        notes.append(f"{plural(meant, 'answer')} without a cost: the mean of the model's others is taken")
    in_tok, out_tok = outcomes.in_tok.copy(), outcomes.out_tok.copy()
    if np.isnan(in_tok).any():
        known = in_tok[np.isfinite(in_tok)]
        fill = float(np.median(known)) if len(known) else at.number("routing/default", "in_tok")
        notes.append(
            f"input tokens of {int(np.isnan(in_tok).sum()):,} questions are not known: {fill:.0f} taken"
        )
        in_tok[np.isnan(in_tok)] = fill
    if np.isnan(out_tok).any() and np.isnan(cost).any():
        known = out_tok[np.isfinite(out_tok)]
        whole = float(np.median(known)) if len(known) else at.number("routing/default", "out_tok")
        for j in range(out_tok.shape[1]):
            gaps = np.isnan(out_tok[:, j])
            if gaps.any():
                out_tok[gaps, j] = whole if gaps.all() else np.median(out_tok[~gaps, j])
        notes.append(f"output tokens are not all known: {whole:.0f} taken where the model has none")
    per_in = np.array([price.input_usd_per_mtok for price in prices]) / MTOK
    per_out = np.array([price.output_usd_per_mtok for price in prices]) / MTOK
    usd = in_tok[:, None] * per_in[None, :] + out_tok * per_out[None, :]
    usd = np.where(np.isfinite(cost), cost, usd)
    unknown = supposed(UNKNOWN, prices, outcomes)
    if unknown.any():
        dearest = usd[:, ~unknown].max(axis=1)
        open_ = unknown[None, :] & np.isnan(cost)
        usd = np.where(open_, np.maximum(usd, dearest[:, None]), usd)
    if not np.isfinite(usd).all():
        raise BadInput("a cost is not known", fix="Give a cost column, or --price MODEL=IN/OUT")
    free = [name for j, name in enumerate(outcomes.models) if not usd[:, j].any()]
    if free:
        said = ", ".join(free[:5]) + (f" and {len(free) - 5} more" if len(free) > 5 else "")
        notes.append(f"free here, as the file or its price says: {said}")
    return usd, tuple(notes)


def _offered(model: str, at: CatalogAt) -> Price | None:
    try:
        offering = resolve(at, model, nearest=False)
    except UnknownFact:
        return None
    meters = rates(at, offering).meters
    if "input" not in meters or "output" not in meters:
        return None
    return Price(model, float(meters["input"].usd), float(meters["output"].usd), offering.subject)


def _plain(name: str) -> str:
    """A name without what differs between hosts.

    >>> _plain("Meta-Llama-3_1-70B-Instruct"), _plain("meta-llama/llama-3.1-70b-instruct-turbo")
    ('llama-3.1-70b', 'llama-3.1-70b')
    """
    clean = name.lower().rpartition("/")[2].replace("_", ".").replace("gemma2", "gemma-2")
    before = ""
    while clean != before:
        before, clean = clean, _NOISE.sub("", clean)
    return clean


def _hosts(at: CatalogAt) -> dict[str, list[tuple[float, float]]]:
    """Plain name to the prices of those who sell it."""
    out: dict[str, list[tuple[float, float]]] = {}
    outputs = {
        fact.subject: float(fact.value) for fact in at.each("api/", "output_usd_per_mtok") if not fact.when
    }
    for fact in at.each("api/", "input_usd_per_mtok"):
        if not fact.when and fact.subject in outputs and float(fact.value) > 0:
            out.setdefault(_plain(fact.subject), []).append((float(fact.value), outputs[fact.subject]))
    return out


def _sold(model: str, hosts: Mapping[str, list[tuple[float, float]]]) -> Price | None:
    sold = hosts.get(_plain(model))
    if not sold:
        return None
    said = f"median of {len(sold)} host{'s' if len(sold) > 1 else ''}"
    return Price(model, median(one[0] for one in sold), median(one[1] for one in sold), said)


def _version(model: str, hosts: Mapping[str, list[tuple[float, float]]]) -> Price | None:
    """What the hosts ask for the longest part of a name that they sell: the name is a version of it."""
    parts = _plain(model).split("-")
    for k in range(len(parts) - 1, 1, -1):
        found = _sold("-".join(parts[:k]), hosts)
        if found is not None:
            said = f"{found.rule} of {'-'.join(parts[:k])}"
            return Price(model, found.input_usd_per_mtok, found.output_usd_per_mtok, said)
    return None


def _listed(model: str, at: CatalogAt) -> Price | None:
    """A price that somebody lists for the name, else for the longest part of it that is listed (a version
    of it)."""
    name = _plain(model)
    parts = name.split("-")
    for k in range(len(parts), 1, -1):
        known = "-".join(parts[:k])
        rows = [at.find(f"listed/{known}", f"{way}put_usd_per_mtok") for way in ("in", "out")]
        if rows[0] is not None and rows[1] is not None:
            said = "listed price" if known == name else f"listed price of {known}"
            return Price(model, float(rows[0].value), float(rows[1].value), said)
    return None


def _sizes(at: CatalogAt) -> list[tuple[float, float, float]]:
    """(billions of parameters, input, output price) of the offerings whose name states a size."""
    return [
        (size, *price)
        for name, sold in _hosts(at).items()
        for price in sold
        for size in [_billions(name)]
        if size
    ]


def _billions(name: str) -> float | None:
    """Billions of parameters that a name states.

    >>> _billions("mixtral-8x7b"), _billions("llama-3.1-70b"), _billions("gpt-4o")
    (56.0, 70.0, None)
    """
    found = _SIZE.search(name.lower().replace("_", "."))
    return float(found[1] or 1) * float(found[2]) if found else None


def _sized(model: str, sizes: Sequence[tuple[float, float, float]]) -> Price | None:
    size = _billions(model)
    if not size or not sizes:
        return None
    near = sorted(sizes, key=lambda one: abs(math.log(one[0] / size)))[:_NEAREST]
    return Price(model, median(one[1] for one in near), median(one[2] for one in near), SIZED)
