"""The cheapest set-ups that carry a load: all of them by the closed form, the best by replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.catalog.evidence import may_quantise
from isocost.deployment import Rent, rent
from isocost.errors import BadInput, DoesNotFit, UnknownFact
from isocost.perf import StepTerms, closed_form, model_id_of
from isocost.perf.arch import Floats
from isocost.perf.energy import site_of, wall_j_per_tok
from isocost.perf.memory import cache_bytes_per_tok
from isocost.size.calibrated import Own, condition, outside
from isocost.size.commands import Beside, bench_command, checkpoint, serve_command, served_name
from isocost.size.config import Adapter
from isocost.size.memory import SUBJECT, Engine, Memory, cache_log, layers_of, memory_of
from isocost.size.nearest import Point, nearest, points_of
from isocost.size.queue import (
    Carried,
    Draft,
    Need,
    Step,
    carried,
    carried_apart,
    carried_with_drafts,
    checked,
    holds,
)
from isocost.size.result import Band, CacheSize, MemoryGb, Sized, Sizing
from isocost.size.setups import Ask, Setups, setups
from isocost.size.speed import Speed, loaded, speed_of
from isocost.size.watts import Work, energy_of

MOST_REPLICAS = 4000
MOST_GROWN = 14
"""Times that replicas are added, a fourteenth more each time."""
MOST_REPLAYED = 60
ROUND_TOK = 1024
"""The longest request is a multiple of it."""
Replay = Callable[[Step, int], Carried | None]


class Wanted(NamedTuple):
    """How the load is served: what a step holds (``None``: the engine's usual), drafts, prefill apart,
    rent's term, accelerators held, how many answers, and an adapter that is served on the model."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    draft: Draft | None = None
    apart: bool = False
    term: str = "on_demand"
    have: tuple[tuple[str, int], ...] = ()
    top: int = 8
    adapter: Adapter | None = None


USUAL = Wanted()
MINE = ("your own measurements of another set-up", "your own measurements")
THEIRS = ("measured requests of another set-up", "measured requests of this set-up")


class _Case(NamedTuple):
    """What every set-up of one question shares, and its arrays."""

    at: CatalogAt
    model: str
    need: Need
    limits_s: tuple[float, float]
    engine: Engine
    wanted: Wanted
    every: Setups
    memory: Memory
    capacity: Floats
    terms: StepTerms
    rate: Floats
    speed: Speed
    quotes: tuple[Rent | None, ...]
    points: tuple[Point, ...]


def size(
    at: CatalogAt, model: str, need: Need, limits_s: tuple[float, float], ask: Ask, wanted: Wanted = USUAL
) -> Sizing:
    """The cheapest set-ups that carry a load within limits on the 95th percentiles of TTFT and TPOT.

    Raises:
        UnknownModel, UnknownFact: the model, an accelerator or a figure is not in the catalog.
        DoesNotFit: no set-up holds the weights and one request.
        BadInput: a load or a choice that cannot be.
    """
    checked(need)
    if wanted.top < 1:
        raise BadInput(f"--top {wanted.top}", fix="At least 1")
    case = _case(at, model_id_of(at, model), need, limits_s, ask, wanted)
    prices = np.array([math.inf if quote is None else quote.usd_per_gpu_h for quote in case.quotes])
    held = dict(wanted.have)
    if not held and not np.isfinite(prices).any():
        # Nobody rents what is asked for: the fewest accelerators are the best.
        prices = np.ones(len(prices))
    gpus = case.every.setup.gpus
    with np.errstate(divide="ignore", invalid="ignore"):
        count = np.where(case.rate > 0, np.ceil(need.rate_per_s / case.rate), np.inf)
    free = np.array([held.get(ask.gpus[i], 0) for i in case.every.gpu_type], dtype=np.float64)
    rented = np.maximum(count * gpus - free, 0.0)
    with np.errstate(invalid="ignore"):
        cost = np.where(rented > 0, rented * prices, 0.0) + 1e-6 * count * gpus
    cost = np.where(np.isfinite(count), cost, np.inf)
    order = [int(i) for i in np.argsort(cost, kind="stable") if np.isfinite(cost[i])]
    rows, replayed = _best(case, order, cost, held)
    return Sizing(
        case.model, need, *limits_s, case.every.size, replayed, tuple(rows), tuple(_notes(case, rows)),
        _why_none(case, order, rows),
    )  # fmt: skip


def _case(
    at: CatalogAt, model: str, need: Need, limits_s: tuple[float, float], ask: Ask, wanted: Wanted
) -> _Case:
    number = at.number
    context = at.find(f"model/{model}", "context_tok")
    longest = need.input_tok + need.output_tok
    if context is not None and longest > float(context.value):
        raise DoesNotFit(
            f"requests of {longest:,} tokens are longer than its context of {float(context.value):,.0f}",
            where=model, fix="Shorten --isl or --osl, or take a model with a longer context",
        )  # fmt: skip
    compressed = at.find(f"model/{model}", "compress_tok") is not None
    engine = Engine(
        wanted.max_num_batched_tokens or int(number("engine/vllm", "max_num_batched_tokens")),
        wanted.max_num_seqs or int(number("engine/vllm", "max_num_seqs")),
        int(number(SUBJECT, "block_tok", "cache=compressed" if compressed else "")),
    )
    every = setups(at, model, ask)
    vocab = number(f"model/{model}", "vocab_size")
    memory = memory_of(at, every.arch, every.gpu, every.setup, every.constants, engine, vocab)
    isl, osl = float(need.input_tok), float(need.output_tok)
    per_tok = cache_bytes_per_tok(every.arch, every.setup, isl + osl)
    capacity = every.setup.dp * memory.cache / per_tok
    fit = np.flatnonzero(capacity / every.setup.dp >= isl + osl)
    if not fit.size:
        most = float((every.gpu.memory_bytes * every.setup.gpus).max())
        raise DoesNotFit(
            f"weights and {isl + osl:,.0f} tokens of cache exceed {most / 1e9:,.0f} GB", where=model,
            fix="Allow more accelerators (--count), larger ones (--gpu), or --precision fp8",
        )  # fmt: skip
    every, capacity = every.select(fit), capacity[fit]
    memory = Memory(*(part[fit] for part in memory))
    kinds = [ask.gpus[i] for i in every.gpu_type]
    where = [
        (model, kind, condition(
            ask.engines[every.engine[i]], int(every.setup.gpus[i]),
            every.precisions[every.precision[i]].experts,
        ))
        for i, kind in enumerate(kinds)
    ]  # fmt: skip
    terms, rate, speed = _rates(every, capacity, need, limits_s, engine, wanted, speed_of(at, where))
    rents: dict[tuple[str, int], Rent | None] = {}
    for i, kind in enumerate(kinds):
        key = (kind, int(every.setup.gpus[i]))
        if key not in rents:
            rents[key] = rent(at, kind, wanted.term, key[1])
    quotes = tuple(rents[kind, int(every.setup.gpus[i])] for i, kind in enumerate(kinds))
    return _Case(
        at, model, need, limits_s, engine, wanted, every, memory, capacity, terms, rate, speed, quotes,
        tuple(points_of(at)),
    )  # fmt: skip


def _rates(
    every: Setups,
    capacity: Floats,
    need: Need,
    limits_s: tuple[float, float],
    engine: Engine,
    wanted: Wanted,
    speed: Speed,
) -> tuple[StepTerms, Floats, Speed]:
    """The line of each set-up's step where it is used, what a replica carries in the mean, and the speed."""
    isl, osl, draft = float(need.input_tok), float(need.output_tok), wanted.draft
    tokens = _tok_per_pass(draft)
    room = np.minimum(capacity, engine.max_num_seqs * every.setup.dp * (isl + osl))

    def used(terms: StepTerms) -> StepTerms:
        base, seq = terms.base_s, terms.seq_s
        if draft is not None:
            base, seq = base * (1.0 + draft.depth * draft.step_frac), seq * (1.0 + draft.depth)
        fresh = terms.prefill_s_per_tok * (1.0 - need.prefix_hit_frac)
        return terms._replace(base_s=base, seq_s=seq, prefill_s_per_tok=fresh, kv_capacity_tok=room)

    lengths, limits = (isl, max(osl / tokens, 1.0)), (limits_s[0], limits_s[1] * tokens)
    rate, terms, near = loaded(lambda running: every.terms(isl, osl, running), speed, lengths, limits, used)
    return terms, rate, near


def _tok_per_pass(draft: Draft | None) -> float:
    """Tokens that a sequence makes in one pass, in the mean."""
    return 1.0 if draft is None else sum(draft.accept_frac**j for j in range(draft.depth + 1))


def _step(case: _Case, i: int) -> Step:
    """The step of one set-up in numbers."""
    terms = case.terms
    return Step(
        float(terms.base_s[i]), float(terms.prefill_s_per_tok[i]), float(terms.seq_s[i]),
        float(terms.kv_s_per_tok[i]), float(terms.first_token_s[i]), int(case.capacity[i]),
        int(case.every.setup.dp[i]),
    )  # fmt: skip


def _best(
    case: _Case, order: Sequence[int], cost: Floats, held: Mapping[str, int]
) -> tuple[list[Sized], int]:
    """The cheapest kinds of replica by replay, each with its best layout; and how many were replayed."""
    found: dict[tuple[object, ...], Sized] = {}
    replayed = 0
    for i in order:
        hours = case.at.number("finance/any", "hours_per_month")
        by_cost = sorted(_worth(row, hours) for row in found.values())
        if len(by_cost) >= case.wanted.top and cost[i] * hours > by_cost[case.wanted.top - 1]:
            break
        if replayed >= MOST_REPLAYED:
            break
        key = (
            int(case.every.gpu_type[i]),
            int(case.every.setup.gpus[i]),
            int(case.every.precision[i]),
            int(case.every.engine[i]),
        )
        if key in found and cost[i] * hours >= _worth(found[key], hours):
            continue
        replayed += 1
        row = _sized(case, i, held)
        if row is not None and (key not in found or _worth(row, hours) < _worth(found[key], hours)):
            found[key] = row
    rows = sorted(
        found.values(),
        key=lambda row: (_worth(row, 1.0), row.gpus * row.replicas, row.name, row.engine),
    )
    return rows[: case.wanted.top], replayed


def _worth(row: Sized, hours: float) -> float:
    """What rows are ordered by: dollars a month, or accelerator-hours where no rent is known."""
    if row.usd_per_month is not None:
        return row.usd_per_month.value
    return row.gpus * (row.replicas + row.prefill_replicas) * hours


def _sized(case: _Case, i: int, held: Mapping[str, int]) -> Sized | None:
    """One set-up with as many replicas as its percentiles need; ``None`` where none are enough."""
    step = _step(case, i)
    if case.wanted.apart:
        pair = _enough_apart(case, i, step)
        if pair is None:
            return None
        (before, replicas), seen = pair
    else:
        before = 0
        single = _enough(case, step, case.rate[i])
        if single is None:
            return None
        replicas, seen = single
    row = _row(case, i, replicas, before, seen, held)
    # Accelerators that nobody rents out have no place among dollars.
    is_mixed = row.usd_per_month is None and any(quote is not None for quote in case.quotes)
    return None if is_mixed else row


def _enough(case: _Case, step: Step, rate: float) -> tuple[int, Carried] | None:
    """The fewest replicas whose percentiles hold in replay."""
    limits = (case.engine.max_num_batched_tokens, case.engine.max_num_seqs)

    def look(replicas: int) -> Carried | None:
        if case.wanted.draft is not None:
            return carried_with_drafts(case.need, step, limits, replicas, case.limits_s, case.wanted.draft)
        return carried(case.need, step, limits, replicas, case.limits_s)

    replicas = max(1, math.ceil(case.need.rate_per_s / rate)) if rate > 0 else 1
    if replicas > MOST_REPLICAS:
        return None
    seen = look(replicas)
    for _ in range(MOST_GROWN):
        if holds(seen, case.limits_s):
            break
        replicas = max(replicas + 1, math.ceil(replicas * (1 + 1 / MOST_GROWN)))
        seen = look(replicas)
    else:
        return None
    while replicas > 1:
        fewer = look(replicas - 1)
        if not holds(fewer, case.limits_s):
            break
        replicas, seen = replicas - 1, fewer
    assert seen is not None
    return replicas, seen


def _enough_apart(case: _Case, i: int, step: Step) -> tuple[tuple[int, int], Carried] | None:
    """The fewest (prefill, decode) replicas whose percentiles hold, by total."""
    limits = (case.engine.max_num_batched_tokens, case.engine.max_num_seqs)
    bytes_per_tok = float(
        cache_bytes_per_tok(case.every.arch, case.every.setup, float(case.need.input_tok))[i]
        * case.every.setup.gpus[i]
    )
    transfer = bytes_per_tok / case.at.number(SUBJECT, "transfer_bytes_per_s")
    fresh = case.need.input_tok * (1.0 - case.need.prefix_hit_frac)
    before = max(1, math.ceil(case.need.rate_per_s * fresh * step.prefill_s_per_tok))
    after = 1
    best: tuple[tuple[int, int], Carried] | None = None
    for more in range(4):
        for decode in range(after, after + MOST_GROWN):
            seen = carried_apart(case.need, step, limits, (before + more, decode), case.limits_s, transfer)
            if seen is not None and seen.tpot_p95_s <= case.limits_s[1]:
                after = max(1, decode)
                if holds(seen, case.limits_s) and (best is None or before + more + decode < sum(best[0])):
                    best = ((before + more, decode), seen)
                break
        if best is not None:
            break
    return best


def _row(case: _Case, i: int, replicas: int, before: int, seen: Carried, held: Mapping[str, int]) -> Sized:
    at, every, need, quote = case.at, case.every, case.need, case.quotes[i]
    precision = every.precisions[every.precision[i]]
    gpu, gpus = every.gpu_ids[every.gpu_type[i]], int(every.setup.gpus[i])
    all_replicas = replicas + before
    hours = at.number("finance/any", "hours_per_month")
    is_priced = quote is not None or all_replicas * gpus <= held.get(gpu, 0)
    price = 0.0 if quote is None else quote.usd_per_gpu_h
    own = case.speed.own[i]

    def usd(count: float) -> float:
        return max(count * gpus - held.get(gpu, 0), 0) * price * hours

    bands = {name: case.speed.frac(name, i) for name in ("tpot", "ttft", "throughput")}
    fewer = max(1, math.ceil(all_replicas / bands["throughput"][1]))
    more = max(all_replicas, math.ceil(all_replicas / bands["throughput"][0]))
    spent = Band(usd(all_replicas), min(usd(fewer), usd(all_replicas)), usd(more))
    mtok = need.rate_per_s * 3600.0 * hours * (need.input_tok + need.output_tok) / 1e6
    each = need.rate_per_s / all_replicas
    running = each * need.output_tok * seen.tpot_p50_s
    joule, wall = _energy(case, i, seen, each, all_replicas)
    weights = "+".join(dict.fromkeys((precision.dense, precision.experts)))
    layout = {
        "engine": every.engines[every.engine[i]],
        "gpus": gpus,
        "weights": precision.experts.removeprefix("mx").removeprefix("nv"),
    }
    parts = case.memory
    weight_gb, cache_gb, activation_gb, overhead_gb, unused_gb = (float(part[i]) / 1e9 for part in (
        parts.weights, parts.cache, parts.activations, parts.overhead, parts.unused,
    ))  # fmt: skip
    memory = MemoryGb(weight_gb, cache_gb, activation_gb, overhead_gb, unused_gb)
    cache = _cache(case, i)
    return Sized(
        name=every.name(i), gpu=gpu, gpus=gpus, engine=str(layout["engine"]),
        tp=int(every.setup.tp[i]), pp=int(every.setup.pp[i]), dp=int(every.setup.dp[i]),
        weights=weights, cache_format=precision.cache, native=bool(every.is_native[i]),
        quality=_quality(case, i), replicas=replicas, prefill_replicas=before,
        rate_each_per_s=float(case.rate[i]), goodput_per_s=need.rate_per_s * seen.attained_frac,
        attained_frac=seen.attained_frac, ttft_p50_s=seen.ttft_p50_s,
        ttft_p95_s=_band(seen.ttft_p95_s, bands["ttft"]), ttft_p99_s=seen.ttft_p99_s,
        tpot_p50_s=seen.tpot_p50_s, tpot_p95_s=_band(seen.tpot_p95_s, bands["tpot"]),
        memory=memory, cache=cache, usd_per_gpu_h=price if is_priced else None,
        usd_per_month=spent if is_priced else None,
        usd_per_mtok=Band(spent.value / mtok, spent.low / mtok, spent.high / mtok) if is_priced else None,
        j_per_tok=joule, wall_j_per_tok=wall,
        nearest=nearest(
            case.points, case.model, (float(every.arch.params_active[i]), bool(every.arch.experts[i] > 0)),
            (gpu, float(every.gpu.memory_bytes_per_s[i])), layout, max(running, 1.0),
        ),
        measured=_mine(case, own, running),
        quote="" if quote is None else quote.fact.id,
        command=serve_command(
            at, case.model, every, i, case.engine, cache.longest_tok,
            Beside(case.wanted.draft, case.wanted.adapter, case.wanted.apart, need.prefix_hit_frac > 0),
        ),
        bench=bench_command(
            checkpoint(at, case.model, every, i), need, 1 if before else all_replicas, case.wanted.adapter
        ),
    )  # fmt: skip


def _mine(case: _Case, own: Own | None, running: float) -> str:
    """That it stands on one's own measurements, and where it goes beyond them; nothing without any."""
    if own is None:
        return ""
    load = {"concurrency": running, "isl": case.need.input_tok, "osl": case.need.output_tok}
    words = {"concurrency": "requests in flight", "isl": "prompts", "osl": "answers"}
    far = [words[name] for name in outside(own, load, case.at.number("calibration/any", "slack_ratio"))]
    return (MINE if own.is_own else THEIRS)[own.is_exact] + (
        f", extrapolated in {' and '.join(far)}" if far else ""
    )


def _band(value: float, factors: tuple[float, float]) -> Band:
    return Band(value, value * factors[0], value * factors[1])


def _energy(
    case: _Case, i: int, seen: Carried, each_per_s: float, replicas: int
) -> tuple[Band | None, float | None]:
    part = case.every.select(np.array([i]))
    fresh = math.ceil(case.need.input_tok * (1.0 - case.need.prefix_hit_frac))
    steps = seen.steps / max(seen.length_s, 1e-9) / replicas
    work = Work(
        each_per_s, fresh, case.need.output_tok, steps, seen.busy_frac, _tok_per_pass(case.wanted.draft),
        case.need.input_tok - fresh, 0.0 if case.wanted.draft is None else float(case.wanted.draft.depth),
    )  # fmt: skip
    gpu = part.gpu_ids[part.gpu_type[0]]
    found = energy_of(case.at, gpu, (part.arch, part.gpu, part.setup, part.constants), work)
    if found is None:
        return None, None
    ratio = case.at.fact("coarse/roofline", "j_per_tok_ratio")
    low = ratio.low if ratio.low is not None else 1.0
    high = ratio.high if ratio.high is not None else 1.0
    site = site_of(case.at)
    wall = None
    if site.host_power_ratio is not None and site.pue is not None:
        wall = float(wall_j_per_tok(found.j_per_tok, site.host_power_ratio, site.pue))
    return Band(found.j_per_tok, found.j_per_tok * low, found.j_per_tok * high), wall


def _cache(case: _Case, i: int) -> CacheSize:
    """What vLLM will log of the cache of one replica (of one rank where attention is copied)."""
    at, setup = case.at, case.every.setup
    stated = at.find(f"model/{case.model}", "context_tok")
    context = int(float(stated.value)) if stated is not None else 10**7
    layers = layers_of(
        at, case.model, (float(setup.tp[i]), float(setup.pp[i])), float(setup.cache_bytes[i]),
        shares_prefixes=case.need.prefix_hit_frac > 0,
        drafts_tok=0 if case.wanted.draft is None else case.wanted.draft.depth,
    )  # fmt: skip
    room = float(case.memory.cache[i])
    longest = min(context, int(_longest(case, i)))
    log = cache_log(layers, room, longest, case.engine)
    copies, beside = at.fact(SUBJECT, "hidden_copies"), at.fact(SUBJECT, "overhead_bytes")
    bounds = []
    for named in ("high", "low"):
        more = [
            float(getattr(fact, named) or fact.value) / float(fact.value) - 1.0 for fact in (copies, beside)
        ]
        taken = float(case.memory.activations[i]) * more[0] + float(case.memory.overhead[i]) * more[1]
        bounds.append(cache_log(layers, room - taken, longest, case.engine).tokens)
    return CacheSize(
        log.tokens, max(bounds[0], 0), bounds[1], log.max_concurrency, log.longest_tok, log.block_tok
    )


def _longest(case: _Case, i: int) -> float:
    """The longest request that surely fits: what the cache of one rank holds, less a tenth."""
    per_tok = cache_bytes_per_tok(
        case.every.arch, case.every.setup, float(case.need.input_tok + case.need.output_tok)
    )
    held = 0.9 * float(case.memory.cache[i] / per_tok[i])
    return max(held // ROUND_TOK * ROUND_TOK, case.need.input_tok + case.need.output_tok)


def _quality(case: _Case, i: int) -> str:
    """What is known of a narrower format; nothing where the weights are as published."""
    if case.every.is_native[i]:
        return ""
    dtype = case.every.precisions[case.every.precision[i]].experts
    try:
        return may_quantise(
            case.at, case.model, dtype, case.at.number("slo/quality", "quality_margin_frac")
        ).reason
    except UnknownFact:
        return f"{dtype}: no evidence of what it keeps"


def _notes(case: _Case, rows: Sequence[Sized]) -> list[str]:
    need = case.need
    spread = (
        "Poisson"
        if need.burst_cv == 1
        else "even"
        if need.burst_cv == 0
        else f"bursty (cv {need.burst_cv:g})"
    )
    said = [
        f"p95 by replay of {spread} arrivals of equal requests; a log's own bursts and lengths are in a plan."
    ]
    if case.wanted.adapter is not None:
        said.append(
            f"An adapter of rank {case.wanted.adapter.rank} on {case.model}: what it adds to a step and to "
            "memory, a few per cent, is not in the figures. Merged into the weights it adds nothing."
        )
    if rows and "DRAFT_MODEL" in rows[0].command:
        said.append(
            f"DRAFT_MODEL stands for a small model that drafts for {case.model}: it makes no drafts itself."
        )
    if case.wanted.apart:
        said.append(
            "Prefill and decode run the same command; a proxy before them sends a request to one of each in "
            "turn. The benchmark is of both together, through the proxy."
        )
    narrow = dict.fromkeys(row.quality for row in rows if row.quality)
    said += [f"Narrower than published: {one} of the score." for one in narrow]
    made = f"./{served_name(case.at, case.model).rpartition('/')[2]}-"
    if rows and not rows[0].native and made in rows[0].command:
        said.append(
            f"Weights in {rows[0].weights} are a checkpoint of their own: no engine makes them as it loads. "
            "Take a published one, or quantise first."
        )
    unquoted = sorted(
        {case.every.gpu_ids[case.every.gpu_type[i]] for i, quote in enumerate(case.quotes) if quote is None}
        - set(dict(case.wanted.have))
    )
    term = case.wanted.term.replace("_", " ")
    if rows and all(row.usd_per_month is None for row in rows):
        said.append(
            f"No {term} rent is known for {', '.join(unquoted)}: the fewest accelerators come first. Say "
            "what you hold with --have, or put a rent of your own into --facts."
        )
    else:
        if unquoted:
            said.append(f"No {term} rent is known for {', '.join(unquoted)}: left out.")
        said.append("Rent only, no spare replica: people, idle nights and the rest are in a plan.")
    return said + _unmeasured(case, rows)


def _unmeasured(case: _Case, rows: Sequence[Sized]) -> list[str]:
    """That the speed of a maker's accelerators is assumed where no stack of today was measured on them."""
    makers: dict[str, None] = {}
    for row in rows:
        maker = case.at.text(f"gpu/{row.gpu}", "vendor")
        design = case.at.find(f"gpu/{row.gpu}", "generation")
        whens = {f"vendor={maker}": f"accelerators of {maker}"}
        if design is not None:
            whens[f"design={design.value};load=closed"] = row.gpu
        for when, named in whens.items():
            spread = case.at.find("perf/interval", "tpot_ratio", when)
            if spread is not None and spread.kind == "assumed" and not row.measured:
                makers[named] = None
    said = [
        f"Engines run on accelerators of {maker} by a build of their own, whose options may differ."
        for maker in dict.fromkeys(case.at.text(f"gpu/{row.gpu}", "vendor") for row in rows[:1])
        if maker not in case.at.text("engine/any", "main_build_makers").split("|")
    ]
    if not makers:
        return said
    return [
        *said,
        f"No engine of today was measured on {' and '.join(makers)}: their speed and its "
        "wide band are assumed. Measure one replica before you rent many.",
    ]


def _why_none(case: _Case, order: Sequence[int], rows: Sequence[Sized]) -> str:
    if rows:
        return ""
    ttft, tpot = case.limits_s
    if not (case.rate > 0).any():
        idle = closed_form(case.terms, float(case.need.input_tok), float(case.need.output_tok), 0.0)
        first, gap = int(idle.ttft_s.argmin()), int(idle.tpot_s.argmin())
        return (
            f"no set-up keeps TTFT p95 {ttft:g} s and TPOT p95 {tpot:g} s, even when idle: the first token "
            f"takes {idle.ttft_s[first]:.2g} s at least ({case.every.name(first)}), the next "
            f"{idle.tpot_s[gap] * 1e3:.2g} ms ({case.every.name(gap)})"
        )
    most = float(case.rate.max())
    if case.need.rate_per_s > MOST_REPLICAS * most:
        return (
            f"{case.need.rate_per_s:,.0f} requests/s need more than {MOST_REPLICAS:,} replicas of every "
            f"set-up (the largest carries {most:.1f} a second)"
        )
    if not order:
        return "no set-up that keeps the limits has a known rent"
    return f"no number of replicas tried keeps TTFT p95 {ttft:g} s and TPOT p95 {tpot:g} s in replay"
