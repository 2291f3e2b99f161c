"""How many replicas of what carry a load: every layout by the closed form, the cheapest by replay.

The closed form gives means; percentiles come from a replay of independent (Poisson) arrivals of
equal requests. Bursts and spread of a real log are a plan's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.catalog.evidence import may_quantise
from isocost.deployment import PS_PER_S, Rent, rent
from isocost.errors import BadInput
from isocost.perf import Candidates, StepTerms, candidates, gpu_id_of, interval_of, model_id_of
from isocost.perf.arch import shape_of_config
from isocost.plan.asked.limits import Slo
from isocost.plan.market.prepare import default_slo
from isocost.replay.queue import BatchLimits, Terms, serve

SAMPLE = 4000
"""Requests of a replay."""
PERCENTILE = 95.0
MOST_ROUNDS = 12
"""Replicas that are added at most, a twentieth at a time, until the percentiles hold."""


class Need(NamedTuple):
    """Requests a second, their mean lengths, and limits on p95 in seconds (``None``: the catalog's)."""

    rate_per_s: float
    input_tok: int
    output_tok: int
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None


class Sized(msgspec.Struct, frozen=True):
    """Enough replicas of one layout. ``usd_low`` and ``usd_high`` bound the central 80 % of $/month.

    ``goodput_per_s`` is what one replica carries within the limits, ``weight_gb`` weights on one
    accelerator, ``cache_tok`` what the replica's cache holds, ``quote`` the fact of the rent.
    """

    name: str
    gpu: str
    gpus: int
    precision: str
    native: bool
    replicas: int
    goodput_per_s: float
    ttft_p95_s: float
    tpot_p95_s: float
    weight_gb: float
    cache_tok: int
    usd_per_gpu_h: float
    usd_per_month: float
    usd_low: float
    usd_high: float
    usd_per_mtok: float
    quote: str
    command: str


class Sizing(msgspec.Struct, frozen=True):
    """Layouts by cost, the limits used, what was left out, and why nothing is left where nothing is."""

    model: str
    need: Need
    ttft_p95_s: float
    tpot_p95_s: float
    tried: int
    rows: tuple[Sized, ...]
    notes: tuple[str, ...]
    why_none: str


def sizing(
    at: CatalogAt,
    model: str,
    need: Need,
    gpus: Sequence[str] | None = None,
    term: str = "on_demand",
    top: int = 10,
) -> Sizing:
    """The cheapest layouts that carry a load, at most ``top``.

    Raises:
        UnknownModel: no open-weights model of that name.
        UnknownFact: an accelerator, or a shape of the model, is not in the catalog.
        DoesNotFit: no layout holds the weights and one request.
        BadInput: a rate or a length that is not positive.
    """
    if not (need.rate_per_s > 0 and need.input_tok > 0 and need.output_tok > 0 and top > 0):
        raise BadInput("rate, lengths and --top must be above zero", fix="Type --rate 5 --in 2000 --out 300")
    model_id = model_id_of(at, model)
    ttft, tpot = limits_of(at, need)
    kinds = None if gpus is None else tuple(gpu_id_of(at, gpu) for gpu in gpus)
    every = candidates(at, model_id, kinds, context_tok=float(need.input_tok + need.output_tok))
    rate, terms = every.goodput(need.input_tok, need.output_tok, ttft, tpot)
    quotes = [rent(at, every.gpu_ids[every.gpu_type[i]], term, int(every.gpus[i])) for i in range(every.size)]
    usd_per_h = np.array([
        math.inf if quote is None else quote.usd_per_gpu_h * float(every.gpus[i])
        for i, quote in enumerate(quotes)
    ])  # fmt: skip
    with np.errstate(divide="ignore"):
        cost = np.where(rate > 0, np.ceil(need.rate_per_s / rate) * usd_per_h, np.inf)
    order = [int(i) for i in np.argsort(cost, kind="stable") if np.isfinite(cost[i])]
    found: list[Sized] = []
    for i in order[: 2 * top]:
        quote = quotes[i]
        assert quote is not None
        row = _sized(at, every, terms, i, need, (ttft, tpot), float(rate[i]), quote)
        if row is not None:
            found.append(row)
    found.sort(key=lambda row: (row.usd_per_month, row.name))
    unquoted = sorted({every.gpu_ids[every.gpu_type[i]] for i, quote in enumerate(quotes) if quote is None})
    return Sizing(
        model_id, need, ttft, tpot, every.size, tuple(found[:top]),
        tuple(_notes(at, model_id, found[:top], unquoted, term)),
        _why_none(rate, order, found, ttft, tpot),
    )  # fmt: skip


def limits_of(at: CatalogAt, need: Need) -> tuple[float, float]:
    """Limits on p95 of TTFT and of TPOT, s: those stated, else those that a plan takes for such prompts."""
    slo = Slo(ttft_p95_s=need.ttft_p95_s, tpot_p95_s=need.tpot_p95_s).over(
        default_slo(at, float(need.input_tok))
    )
    assert slo.ttft_p95_s is not None
    assert slo.tpot_p95_s is not None
    return slo.ttft_p95_s, slo.tpot_p95_s


def _sized(
    at: CatalogAt,
    every: Candidates,
    terms: StepTerms,
    i: int,
    need: Need,
    limits_s: tuple[float, float],
    rate: float,
    quote: Rent,
) -> Sized | None:
    """One layout with as many replicas as its percentiles need; ``None`` where none are enough."""
    replicas = max(1, math.ceil(need.rate_per_s / rate))
    for _ in range(MOST_ROUNDS):
        ttft, tpot = _percentiles(at, terms, i, need, replicas)
        if ttft <= limits_s[0] and tpot <= limits_s[1]:
            break
        replicas = max(replicas + 1, math.ceil(replicas * 1.05))
    else:
        return None
    hours = at.number("finance/any", "hours_per_month")
    gpus = int(every.gpus[i])
    usd = gpus * quote.usd_per_gpu_h * hours
    spread = interval_of(at, "throughput")
    low, high = (max(1, math.ceil(replicas / factor)) for factor in (spread.high, spread.low))
    mtok = need.rate_per_s * 3600.0 * hours * (need.input_tok + need.output_tok) / 1e6
    precision = every.precisions[every.precision[i]]
    dtype = "+".join(dict.fromkeys((precision.dense, precision.experts)))
    return Sized(
        name=every.name(i).removeprefix(f"{every.model_ids[every.model[i]]} on "),
        gpu=every.gpu_ids[every.gpu_type[i]],
        gpus=gpus,
        precision=dtype,
        native=bool(every.is_native[i]),
        replicas=replicas,
        goodput_per_s=rate,
        ttft_p95_s=ttft,
        tpot_p95_s=tpot,
        weight_gb=float(terms.weight_bytes[i]) / 1e9,
        cache_tok=int(terms.kv_capacity_tok[i]),
        usd_per_gpu_h=quote.usd_per_gpu_h,
        usd_per_month=replicas * usd,
        usd_low=min(replicas, low) * usd,
        usd_high=max(replicas, high) * usd,
        usd_per_mtok=replicas * usd / mtok,
        quote=quote.fact.id,
        command=_command(at, every, terms, i),
    )


def _percentiles(at: CatalogAt, terms: StepTerms, i: int, need: Need, replicas: int) -> tuple[float, float]:
    """p95 of TTFT and of TPOT in seconds at the load; infinite where a request does not fit."""
    n = SAMPLE
    gaps = np.random.Generator(np.random.PCG64(0)).exponential(PS_PER_S / need.rate_per_s, n)
    served = serve(
        np.cumsum(gaps).astype(np.int64),
        np.full(n, need.input_tok),
        np.full(n, need.output_tok),
        Terms(*(round(float(term[i]) * PS_PER_S) for term in terms[:4])),
        BatchLimits(
            int(at.number("engine/vllm", "max_num_batched_tokens")),
            int(at.number("engine/vllm", "max_num_seqs")),
            int(terms.kv_capacity_tok[i]),
        ),
        n_replicas=replicas,
    )
    if (served.status != 0).any():
        return math.inf, math.inf
    ttft = float(np.percentile(served.ttft_ps, PERCENTILE)) / PS_PER_S + float(terms.first_token_s[i])
    if need.output_tok < 2:
        return ttft, 0.0
    gap = (served.e2e_ps - served.ttft_ps) / (need.output_tok - 1)
    return ttft, float(np.percentile(gap, PERCENTILE)) / PS_PER_S


def _command(at: CatalogAt, every: Candidates, terms: StepTerms, i: int) -> str:
    """The vLLM server of one replica."""
    model = every.model_ids[every.model[i]]
    named = at.find(f"model/{model}", "hf_id")
    context = at.find(f"model/{model}", "context_tok")
    longest = int(terms.kv_capacity_tok[i] / every.setup.dp[i])
    longest = min(longest, int(float(context.value))) if context is not None else longest
    parts = [f"vllm serve {named.value if named is not None else model}"]
    for option, count in (
        ("tensor", every.setup.tp[i]),
        ("pipeline", every.setup.pp[i]),
        ("data", every.setup.dp[i]),
    ):
        if count > 1:
            parts.append(f"--{option}-parallel-size {int(count)}")
    if every.setup.dp[i] > 1:
        parts.append("--enable-expert-parallel")
    if not every.is_native[i]:
        parts.append("--quantization fp8")
    parts.append(f"--max-model-len {longest}")
    parts.append(f"--max-num-seqs {int(at.number('engine/vllm', 'max_num_seqs'))}")
    parts.append(f"--gpu-memory-utilization {every.constants.memory_usable_frac:.2f}")
    return " ".join(parts)


def _notes(at: CatalogAt, model: str, rows: Sequence[Sized], unquoted: Sequence[str], term: str) -> list[str]:
    said = [
        "p95 by replay of Poisson arrivals of equal requests; bursts of a real log are a plan's business."
    ]
    narrow = sorted({row.precision.rpartition("+")[2] for row in rows if not row.native})
    margin = at.number("slo/quality", "quality_margin_frac")
    for dtype in narrow:
        said.append(f"Narrower than published: {may_quantise(at, model, dtype, margin).reason} of the score.")
    if unquoted:
        said.append(f"No {term.replace('_', ' ')} rent is known for {', '.join(unquoted)}: left out.")
    said.append("Rent only, no spare replica: people, idle nights and the rest are in a plan.")
    return said


def _why_none(
    rate: np.ndarray, order: Sequence[int], found: Sequence[Sized], ttft: float, tpot: float
) -> str:
    if found:
        return ""
    if not (rate > 0).any():
        return f"no layout keeps TTFT p95 {ttft:g} s and TPOT p95 {tpot:g} s, even when idle"
    if not order:
        return "no layout that keeps the limits has a known rent"
    return f"no number of replicas tried keeps TTFT p95 {ttft:g} s and TPOT p95 {tpot:g} s in replay"


def with_config(catalog: Catalog, path: Path) -> tuple[Catalog, str]:
    """A catalog that also holds the model of a Hugging Face ``config.json``, and the model's id.

    Raises:
        BadInput: no such file, or not a decoder's config.
    """
    try:
        config = json.loads(path.read_bytes())
    except OSError as wrong:
        raise BadInput(wrong.strerror or str(wrong), where=str(path)) from None
    except ValueError as wrong:
        raise BadInput(f"not JSON: {wrong}", where=str(path)) from None
    if not isinstance(config, dict):
        raise BadInput("not a model's config", where=str(path))
    called = str(config.get("_name_or_path") or path.resolve().parent.name or "config")
    model = called.rpartition("/")[2].lower()
    day = max(source.read for source in catalog.sources.values())

    def fact(attribute: str, value: float | str, unit: str) -> Fact:
        return Fact(
            f"model/{model}", attribute, "", value, unit, None, None, None, None,
            "config.json", "", day, "published", "", str(path),
        )  # fmt: skip

    facts = [fact("hf_id", called, "")]
    for name, value in shape_of_config(config).items():
        spec = catalog.attributes["model", name]
        flag = spec.type == "flag"
        facts.append(fact(name, ("true" if value else "false") if flag else value, spec.unit))
    facts.append(fact("weight_dtype", _dtype(config, path), ""))
    longest = (config.get("text_config") or config).get("max_position_embeddings")
    if longest:
        facts.append(fact("context_tok", float(longest), "tok"))
    grown = Catalog(facts, catalog.sources, catalog.attributes, catalog.basis, catalog.rows)
    return grown, model


def _dtype(config: dict[str, object], path: Path) -> str:
    """The format of the published weights."""
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict) and "fp8" in str(quantised.get("quant_method", "")):
        return "fp8"
    nested = config.get("text_config")
    inner: dict[str, object] = nested if isinstance(nested, dict) else {}
    named = config.get("torch_dtype") or config.get("dtype") or inner.get("torch_dtype") or inner.get("dtype")
    if named not in ("bfloat16", "float16"):
        raise BadInput(
            f"torch_dtype is {named!r}", where=str(path), fix="Known: bfloat16, float16, and fp8 checkpoints"
        )
    return "bf16"
