"""What answers a request: its place, price, what it can take, and whether the catalog knows so.

Eligibility comes before cost, and what is not known is not claimed: an offering that does not say
that it takes tools does not take them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from isocost.catalog import CatalogAt, Fact
from isocost.catalog.fact import parse_when
from isocost.catalog.names import Offering, deprecated
from isocost.catalog.prices import Rates, rates, ruled
from isocost.units import FEMTO_PER_USD, PS_PER_S

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Amount = TypeVar("Amount", float, "npt.NDArray[np.float64]")
"""A number, or an array of them."""


class Api(msgspec.Struct, frozen=True, tag="api", forbid_unknown_fields=True):
    """An offering by the token. ``option`` is ``api`` (a closed model) or ``hosted`` (open weights).

    ``keeps_prefixes``: prompts are laid out so that the provider's cache holds their shared prefixes.
    """

    id: str
    subject: str
    provider: str
    model: str
    option: str
    tier: str = "standard"
    keeps_prefixes: bool = False


class Pool(msgspec.Struct, frozen=True, tag="pool", forbid_unknown_fields=True):
    """A kind of replica: a model on so many accelerators, its step times and its rent.

    Step time is ``base + prefill * tokens + seq * sequences + kv * tokens held``, in picoseconds; each
    request spends ``first_token_ps`` outside the steps before its first token.
    ``quote`` is the fact id of the on-demand rent.
    """

    id: str
    option: str
    model: str
    precision: str
    gpu: str
    gpus: int
    tp: int
    base_ps: int
    prefill_ps_per_tok: int
    seq_ps: int
    kv_ps_per_tok: int
    kv_capacity_tok: int
    max_seqs: int
    prefill_budget_tok: int
    usd_per_gpu_h: float
    quote: str
    engine: str = "vllm"
    first_token_ps: int = 0


class ExactCache(msgspec.Struct, frozen=True, tag="exact-cache", forbid_unknown_fields=True):
    """Answers a prompt seen before by the same tenant and workload; nothing else, so quality is the same."""

    id: str
    ttl_s: float


class SemanticCache(msgspec.Struct, frozen=True, tag="semantic-cache", forbid_unknown_fields=True):
    """Answers a question that is nearly one asked before in the same scope; each scope has its own questions.

    An answer lives ``ttl_s`` from when it was kept; of all scopes together at most ``most_entries`` are kept,
    the oldest go first. ``embedding`` is the offering (``api/...``) whose vectors are compared, priced a
    question; blank: words and groups of letters, read where the gateway runs. ``look_s`` is how long a look
    takes, by which a hit answers and a miss begins later (``None``: the catalog's).
    """

    id: str
    ttl_s: float
    most_entries: int
    embedding: str = ""
    look_s: float | None = None


class Rules(msgspec.Struct, frozen=True, tag="rules", forbid_unknown_fields=True):
    """Rules, a search or a classifier of one's own that answers, or abstains, before any model is asked.

    ``usd_per_request`` is what each request put to it costs, answered or not (0 to 1,000); ``answer_s`` how
    long it takes (0 to a day).
    """

    id: str
    usd_per_request: float = 0.0
    answer_s: float = 0.0


Cache = ExactCache | SemanticCache
"""What answers without a model what a model answered before."""
Deployment = Api | Pool | ExactCache | SemanticCache | Rules


class Ask(NamedTuple):
    """What a stream asks of whatever serves it; empty and ``None`` ask nothing."""

    max_input_tok: int
    max_output_tok: int
    needs: tuple[str, ...]
    own_place: bool
    regions: tuple[str, ...]
    not_providers: tuple[str, ...]
    wait_s: float | None


class Rent(NamedTuple):
    """The cheapest quote for an accelerator on a term, and the middle of the providers' cheapest."""

    usd_per_gpu_h: float
    fact: Fact
    median_usd_per_gpu_h: float


class UnitPrices(NamedTuple):
    """Dollars per token by meter (and per request), with the ids of the facts behind each."""

    input_usd: float
    cache_read_usd: float
    cache_write_usd: float
    output_usd: float
    request_usd: float
    facts: dict[str, tuple[str, ...]]
    caches: bool


class CacheRule(NamedTuple):
    """A provider's prompt cache: how long a prefix lives, the least it keeps, whether writes cost extra."""

    life_s: float
    least_tok: float
    writes: bool


def cache_rule(catalog_at: CatalogAt, api: Api) -> CacheRule | None:
    """The prompt cache of an offering; ``None`` where it has none or its life is not known."""
    return catalog_at.once(_cache_rule, api)


def _cache_rule(catalog_at: CatalogAt, api: Api) -> CacheRule | None:
    life = catalog_at.find(f"provider/{api.provider}", "cache_ttl_s")
    prices = unit_prices(catalog_at, api, 0)
    if life is None or prices is None or not prices.caches:
        return None
    least_tok = least_cached_tok(catalog_at, offering_of(catalog_at, api.subject))
    return CacheRule(float(life.value), float(least_tok), prices.cache_write_usd > prices.input_usd)


def least_cached_tok(catalog_at: CatalogAt, offering: Offering) -> int:
    """The shortest prefix that a provider's prompt cache keeps for a model; 0 where none is known.

    Who resells a model keeps its maker's rule.
    """
    rule = ruled(catalog_at, offering, "cache_min_tok")
    return 0 if rule is None else int(float(rule.value))


def offering_of(catalog_at: CatalogAt, subject: str) -> Offering:
    """An offering by its subject ``api/provider/id``."""
    served = catalog_at.find(subject, "serves")
    return Offering(subject, subject.split("/", 2)[1], str(served.value) if served else "")


def open_weights(catalog_at: CatalogAt, model: str) -> bool:
    """Whether a model's weights can be had."""
    found = catalog_at.find(f"model/{model}", "open_weights")
    return found is not None and found.value == "true"


def work_s(pool: Pool, input_tok: Amount, cached_tok: Amount, output_tok: Amount) -> Amount:
    """Replica time of a request's own work: its prefill, and its share of the steps that it decodes in.

    The base of a step is left out: it is paid whether or not the request is there. What replicas are
    rented for beyond this is idle: steps that run part-empty, and no steps at all.
    """
    token_ps = pool.seq_ps + pool.kv_ps_per_tok * (input_tok + 0.5 * output_tok)
    return ((input_tok - cached_tok) * pool.prefill_ps_per_tok + output_tok * token_ps) / PS_PER_S


def apis(catalog_at: CatalogAt) -> Iterator[Api]:
    """Every offering with a known model and price in force, then its batch tier where it has one."""
    return iter(catalog_at.once(_apis))


def _apis(catalog_at: CatalogAt) -> tuple[Api, ...]:
    return tuple(_each_api(catalog_at))


def _each_api(catalog_at: CatalogAt) -> Iterator[Api]:
    gone = withdrawn(catalog_at)
    for subject in catalog_at.catalog.subjects("api/"):
        offering = offering_of(catalog_at, subject)
        if not offering.serves or deprecated(catalog_at, subject):
            continue
        option = "hosted" if open_weights(catalog_at, offering.serves) else "api"
        if option == "api" and offering.serves in gone:
            continue
        for tier in ("standard", "batch"):
            if {"input", "output"} <= rates(catalog_at, offering, tier).meters.keys():
                suffix = "" if tier == "standard" else ":batch"
                yield Api(offering.id + suffix, subject, offering.provider, offering.serves, option, tier)


def withdrawn(catalog_at: CatalogAt) -> frozenset[str]:
    """Models that their makers withdraw: who resells a closed one has nothing to sell then."""
    made: dict[str, bool] = {}
    for fact in catalog_at.each("api/", "originator"):
        model = offering_of(catalog_at, fact.subject).serves
        made[model] = made.get(model, True) and deprecated(catalog_at, fact.subject)
    return frozenset(model for model, gone in made.items() if gone and model)


def unit_prices(catalog_at: CatalogAt, api: Api, context_tok: int) -> UnitPrices | None:
    """What tokens cost at an offering for requests of a context length; ``None`` where unknown.

    Where the offering has no price for cached tokens it has no cache: they cost as input does.
    """
    return catalog_at.once(_unit_prices, api.subject, api.tier, context_tok)


def _unit_prices(catalog_at: CatalogAt, subject: str, tier: str, context_tok: int) -> UnitPrices | None:
    table: Rates = rates(catalog_at, offering_of(catalog_at, subject), tier, context_tok=context_tok)
    if not {"input", "output"} <= table.meters.keys():
        return None
    per_tok = {meter: rate.fusd / FEMTO_PER_USD for meter, rate in table.meters.items()}
    facts = {meter: rate.facts for meter, rate in table.meters.items()}
    plain = per_tok["input"]
    return UnitPrices(
        plain,
        per_tok.get("cache_read", plain),
        per_tok.get("cache_write", plain),
        per_tok["output"],
        per_tok.get("request", 0.0),
        facts,
        "cache_read" in per_tok,
    )


def unfit(catalog_at: CatalogAt, deployment: Api | Pool, ask: Ask) -> str:
    """Why a deployment may not serve a stream, in words; blank where it may."""
    if isinstance(deployment, Api):
        return _unfit_api(catalog_at, deployment, ask) or _lacks(catalog_at, deployment, ask)
    context = catalog_at.find(f"model/{deployment.model}", "context_tok")
    if context is None or ask.max_input_tok + ask.max_output_tok > float(context.value):
        known = f"{float(context.value):,.0f} tokens" if context else "not known"
        return f"context of {deployment.model} is {known}"
    if ask.max_input_tok + ask.max_output_tok > deployment.kv_capacity_tok:
        return f"one request of {ask.max_input_tok + ask.max_output_tok:,} tokens exceeds its cache"
    return _lacks(catalog_at, deployment, ask)


def misplaced(catalog_at: CatalogAt, api: Api, ask: Ask) -> str:
    """Why tokens may not go to an API, in words: limits on place hold for today's as for any other."""
    if ask.own_place:
        return "tokens must stay on replicas of one's own"
    if api.provider in ask.not_providers:
        return f"{api.provider} is excluded"
    if ask.regions:
        known = catalog_at.find(f"provider/{api.provider}", "regions")
        offered = str(known.value).split() if known else []
        if not set(ask.regions) & set(offered):
            return f"{api.provider} is not known to answer from {' or '.join(ask.regions)}"
    return ""


def _unfit_api(catalog_at: CatalogAt, api: Api, ask: Ask) -> str:
    if why_not := misplaced(catalog_at, api, ask):
        return why_not
    if api.tier == "batch":
        turnaround = catalog_at.find(f"provider/{api.provider}", "batch_turnaround_h")
        if ask.wait_s is None:
            return "answers are needed at once"
        if turnaround is None or float(turnaround.value) * 3600.0 > ask.wait_s:
            return f"a batch at {api.provider} may take longer than {ask.wait_s / 3600:g} h"
    context = catalog_at.find(api.subject, "context_tok")
    if context is None:
        context = catalog_at.find(f"model/{api.model}", "context_tok")
    if context is None:
        return "its context length is not known"
    if ask.max_input_tok + ask.max_output_tok > float(context.value):
        return f"context is {float(context.value):,.0f} tokens"
    return ""


def _lacks(catalog_at: CatalogAt, deployment: Api | Pool, ask: Ask) -> str:
    if not ask.needs:
        return ""
    subjects = [f"model/{deployment.model}"]
    if isinstance(deployment, Api):
        subjects.insert(0, deployment.subject)
    for subject in subjects:
        known = catalog_at.find(subject, "supports")
        if known is not None:
            missing = [need for need in ask.needs if need not in str(known.value).split("|")]
            return f"not known to take {', '.join(missing)}" if missing else ""
    return f"not known to take {', '.join(ask.needs)}"


def rent(catalog_at: CatalogAt, gpu: str, term: str, gpus: int) -> Rent | None:
    """The cheapest quote for ``gpus`` of an accelerator on a term; ``None`` where nobody quotes one.

    Each provider counts with its cheapest quote that can be rented in that number; quotes older than
    ``planning/rental.quote_life_days`` count only where there is no newer one.
    """
    return catalog_at.once(_rent, gpu, term, gpus)


def _quotes(catalog_at: CatalogAt) -> dict[tuple[str, str | None], list[tuple[str, dict[str, str], Fact]]]:
    """Providers' quotes in force by accelerator and term: provider, conditions, fact."""
    found: dict[tuple[str, str | None], list[tuple[str, dict[str, str], Fact]]] = {}
    for fact in catalog_at.each("rental/", "usd_per_gpu_h"):
        _, provider, gpu = fact.subject.split("/", 2)
        when = parse_when(fact.when)
        if provider != "market":
            found.setdefault((gpu, when.get("term")), []).append((provider, when, fact))
    return found


def _rent(catalog_at: CatalogAt, gpu: str, term: str, gpus: int) -> Rent | None:
    by_provider: dict[str, Fact] = {}
    for provider, when, fact in catalog_at.once(_quotes).get((gpu, term), ()):
        least = catalog_at.find(fact.subject, "min_gpus")
        if least is not None and float(least.value) > gpus:
            continue
        if "gpus" in when and int(when["gpus"]) > gpus:
            continue
        best = by_provider.get(provider)
        if best is None or float(fact.value) < float(best.value):
            by_provider[provider] = fact
    quotes = sorted(by_provider.values(), key=lambda fact: float(fact.value))
    life = timedelta(days=catalog_at.number("planning/rental", "quote_life_days"))
    fresh = [f for f in quotes if f.valid_from is None or catalog_at.on - f.valid_from <= life]
    quotes = fresh or quotes
    if not quotes:
        return None
    middle = float(quotes[len(quotes) // 2].value)
    return Rent(float(quotes[0].value), quotes[0], middle)


def api_ttft_p95_s(catalog_at: CatalogAt, api: Api) -> Fact | None:
    """The dated fact on an offering's time to first token, where there is one."""
    return catalog_at.find(api.subject, "ttft_p95_s")
