"""Replicas that could serve: thousands enumerated, priced by rent, pruned by dominance to a few.

A closed form at the traffic's mean lengths ranks them; replay then tabulates the few that are left. How
fast each is taken to be, and how sure that is, is what ``isocost size`` says of it too
(:mod:`isocost.size.speed`), calibrations of one's own included.
Facts read: ``engine/vllm`` (max_num_seqs, max_num_batched_tokens), ``planning/*``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import CatalogAt
from isocost.catalog.evidence import Interval, Verdict, may_quantise
from isocost.deployment import Pool, Rent, open_weights, rent, unfit
from isocost.errors import DoesNotFit, UnknownFact
from isocost.keep.ask import Made
from isocost.perf import Candidates, StepTerms, candidates
from isocost.plan.asked.streams import Floats
from isocost.plan.market.offers import Case, Market, planned
from isocost.plan.market.terms import Term
from isocost.replay.run import Ratio
from isocost.size.calibrated import condition
from isocost.size.speed import Speed, loaded, speed_of
from isocost.units import PS_PER_S

TERMS = ("on_demand", "spot", "reserved_1y")
HELD_MOST = 2
"""Kinds of replica on accelerators already held that are tabulated."""


@dataclass(frozen=True)
class Fit:
    """One stream on one pool: what speaks against it, and its tokens there for one of today's."""

    why_not: str
    verdict: Verdict
    input_ratio: Interval
    output_ratio: Interval

    @property
    def ratio(self) -> Ratio:
        """The ratios that plans are made with."""
        return Ratio(planned(self.input_ratio), planned(self.output_ratio))


@dataclass(frozen=True)
class PoolOption:
    """A kind of replica, its rents by term, and how each stream fits it (by stream id).

    ``native``: no weight is stored narrower than it was published. ``speed_frac`` is the central 80 % of
    measured over predicted throughput, ``measured`` says in words that one's own measurements are used.
    """

    pool: Pool
    rents: dict[str, Rent]
    fits: dict[str, Fit]
    goodput_per_s: float
    native: bool = True
    speed_frac: tuple[float, float] = (1.0, 1.0)
    measured: str = ""
    signed: Term | None = None
    """The commitment that the rent ``reserved_1y`` stands for."""

    @property
    def usd_per_h(self) -> float:
        """On-demand rent of one replica."""
        return self.pool.gpus * self.pool.usd_per_gpu_h


@dataclass(frozen=True)
class Mix:
    """Mean lengths of the interactive traffic and its strictest limits, in today's tokens."""

    isl: float
    osl: float
    longest_tok: int
    ttft_limit_s: float
    tpot_limit_s: float


def mix_of(cases: Sequence[Case], weight_h: Floats) -> Mix:
    """Lengths weighted by requests; limits of the strictest stream that has any."""
    requests = sum(float(c.stream.usage.requests @ weight_h) for c in cases)
    inputs = sum(float(c.stream.usage.all_input_tok @ weight_h) for c in cases)
    outputs = sum(float(c.stream.usage.output_tok @ weight_h) for c in cases)
    return Mix(
        max(1.0, inputs / requests),
        max(1.0, outputs / requests),
        max(c.stream.max_input_tok + c.stream.max_output_tok for c in cases),
        min((limit(c, "ttft_p95_s") for c in cases), default=math.inf),
        min((limit(c, "tpot_p95_s") for c in cases), default=math.inf),
    )


def limit(case: Case, name: str) -> float:
    """A latency limit of a stream; one that may wait has its wait as the limit on the first token."""
    if case.ask.wait_s is not None:
        return case.ask.wait_s if name == "ttft_p95_s" else math.inf
    value = getattr(case.slo, name)
    return math.inf if value is None else float(value)


def pool_options(
    at: CatalogAt,
    market: Market,
    cases: Sequence[Case],
    weight_h: Floats,
    *,
    keep: int,
    held: Mapping[str, int] | None = None,
) -> tuple[PoolOption, ...]:
    """The replicas worth tabulating, cheapest per unit of work first.

    For each model: the cheapest per request within the limits, and the cheapest replica of all, which
    wins where traffic is thin. Models that are proven for some stream come first; of the others the few
    cheapest are kept, so that what proof would be worth can be said. ``held`` are accelerators already
    paid for, by id: the fastest replicas on them come before all others, whatever their rent would be.
    """
    mix = mix_of(cases, weight_h)
    models = _models(at)
    rents = _rents(at)
    if not models or not rents:
        return ()
    try:
        every = candidates(at, models, tuple(rents), context_tok=float(mix.longest_tok))
    except DoesNotFit:
        return ()
    every = every.select(np.flatnonzero(every.is_native | _may_narrow(at, market, every)))
    rate, terms, speed = loaded(
        lambda running: every.terms(mix.isl, mix.osl, running), _speed(at, every),
        (mix.isl, mix.osl), (mix.ttft_limit_s, mix.tpot_limit_s),
    )  # fmt: skip
    usd_per_h = np.array(
        [_usd_per_h(rents[every.gpu_ids[every.gpu_type[i]]], int(every.gpus[i])) for i in range(every.size)]
    )
    worth = np.where(rate > 0, usd_per_h / np.where(rate > 0, rate, 1.0), np.inf)
    chosen = _undominated(every, worth, usd_per_h)
    options = [_option(at, market, cases, (every, terms, speed), i, float(rate[i])) for i in chosen]
    proven = [o for o in options if any(not fit.why_not for fit in o.fits.values())]
    other = [o for o in options if o not in proven]
    mine = _on_held(every, rate, held or {})
    sunk = [_option(at, market, cases, (every, terms, speed), i, float(rate[i])) for i in mine]
    sunk = [o for o in sunk if any(not fit.why_not for fit in o.fits.values())][:HELD_MOST]
    first = _one_precision(list({o.pool.id: o for o in (*sunk, *proven)}.values()))
    return (*covering(first, cases, keep), *_spread(other, keep, market.made))


def _one_precision(options: list[PoolOption]) -> list[PoolOption]:
    """An own model is made at one precision: of each, only the first one's is kept."""
    chosen: dict[str, bool] = {}
    for option in options:
        if option.pool.option == "slm":
            chosen.setdefault(option.pool.model, option.native)
    return [o for o in options if o.pool.option != "slm" or o.native == chosen[o.pool.model]]


def _speed(at: CatalogAt, every: Candidates) -> Speed:
    """How fast candidates are taken to be: as vLLM serves them."""
    where = []
    for i in range(every.size):
        weights = every.precisions[every.precision[i]].experts
        when = condition("vllm", int(every.gpus[i]), weights)
        where.append((every.model_ids[every.model[i]], every.gpu_ids[every.gpu_type[i]], when))
    return speed_of(at, where)


def covering(options: Sequence[PoolOption], cases: Sequence[Case], most: int) -> list[PoolOption]:
    """The first ``most`` options, and for each stream that none of these may serve the first that may.

    Those that are added take the place of the last that is not needed. An own small model covers nothing
    before it is made and graded.
    """
    kept = list(options[:most])
    for case in cases:
        if not any(_serves(o, case) for o in kept):
            kept += [o for o in options if _serves(o, case)][:1]
    while len(kept) > most:
        spare = [o for o in reversed(kept) if _covered(kept, o, cases)]
        if not spare:
            break
        kept.remove(spare[0])
    return kept


def _serves(option: PoolOption, case: Case) -> bool:
    return not option.fits[case.stream.id].why_not


def _covered(kept: Sequence[PoolOption], without: PoolOption, cases: Sequence[Case]) -> bool:
    """Whether every stream that an option may serve has another among those kept."""
    others = [o for o in kept if o is not without]
    return all(not _serves(without, case) or any(_serves(o, case) for o in others) for case in cases)


def _dtype(every: Candidates, i: int) -> str:
    """Precision of a candidate's weights, those of its experts beside where they differ."""
    precision = every.precisions[every.precision[i]]
    return "+".join(dict.fromkeys((precision.dense, precision.experts)))


def _may_narrow(at: CatalogAt, market: Market, every: Candidates) -> npt.NDArray[np.bool_]:
    """Candidates whose weights are narrower than published and shown to keep quality within the margin."""
    known: dict[tuple[str, str], bool] = {}
    allowed = np.zeros(every.size, dtype=bool)
    for i in np.flatnonzero(~every.is_native):
        key = (every.model_ids[every.model[i]], _dtype(every, int(i)))
        if key not in known:
            known[key] = narrowed(at, *key, market.margin) is not None
        allowed[i] = known[key]
    return allowed


def narrowed(at: CatalogAt, model: str, dtype: str, margin: float) -> str | None:
    """What speaks for serving a model at a narrower precision, in words; ``None`` where nothing does."""
    try:
        found = may_quantise(at, model, dtype, margin)
    except UnknownFact:
        return None
    return found.reason if found.passes else None


def _on_held(every: Candidates, rate: Floats, held: Mapping[str, int]) -> list[int]:
    """The replica of each model that does most on each accelerator held, the most work first."""
    best: dict[tuple[int, int], int] = {}
    for i in np.argsort(-rate / every.gpus, kind="stable"):
        if rate[i] > 0 and every.gpus[i] <= held.get(every.gpu_ids[every.gpu_type[i]], 0):
            best.setdefault((int(every.model[i]), int(every.gpu_type[i])), int(i))
    return list(best.values())


def _spread(options: list[PoolOption], keep: int, made: Made | None) -> list[PoolOption]:
    """Of unproven pools the cheapest whose model is not shown to be worse, and a small one.

    The small one is of the base that is stated; else the cheapest that a limit does not rule out.
    """
    every = [o for o in options if o.pool.option == "slm"]
    if made is not None and made.base is not None:
        every = [o for o in every if o.pool.model == made.base]
    # One that a limit rules out would never serve, however good it proved to be.
    able = [o for o in options if any(fit.why_not.startswith("quality") for fit in o.fits.values())]
    options = able or options
    close = [o for o in options if any(fit.verdict.n_benchmarks for fit in o.fits.values())]
    close.sort(key=lambda o: -max(f.verdict.difference for f in o.fits.values() if f.verdict.n_benchmarks))
    small = [o for o in close if o in every] or [o for o in options if o in every] or every
    return list({o.pool.id: o for o in [*close[: max(1, keep // 2)], *small[:1]]}.values())


def _models(at: CatalogAt) -> tuple[str, ...]:
    found = []
    for fact in at.each("model/", "layers"):
        model = fact.subject.removeprefix("model/")
        if open_weights(at, model):
            found.append(model)
    return tuple(found)


def _rents(at: CatalogAt) -> dict[str, dict[int, dict[str, Rent]]]:
    """Accelerators that somebody rents: quotes by count and term."""
    found: dict[str, dict[int, dict[str, Rent]]] = {}
    for fact in at.each("gpu/", "memory_bytes"):
        gpu = fact.subject.removeprefix("gpu/")
        quotes = {
            count: {term: quote for term in TERMS if (quote := rent(at, gpu, term, count)) is not None}
            for count in (1, 2, 4, 8)
        }
        if any("on_demand" in by_term for by_term in quotes.values()):
            found[gpu] = quotes
    return found


def _usd_per_h(quotes: dict[int, dict[str, Rent]], gpus: int) -> float:
    quote = quotes.get(gpus, {}).get("on_demand")
    return math.inf if quote is None else gpus * quote.usd_per_gpu_h


def _undominated(every: Candidates, worth: Floats, usd_per_h: Floats) -> list[int]:
    """For each model the best by cost per request and the cheapest replica that serves at all."""
    picked: dict[int, None] = {}
    order = np.lexsort((usd_per_h, worth))
    first: dict[tuple[int, bool], int] = {}
    least: dict[tuple[int, bool], int] = {}
    for i in order:
        if not np.isfinite(worth[i]):
            continue
        model = (int(every.model[i]), bool(every.is_native[i]))
        first.setdefault(model, int(i))
        best = least.get(model)
        if best is None or usd_per_h[i] < usd_per_h[best] - 1e-12:
            least[model] = int(i)
    for model in first:
        picked[first[model]] = None
        picked[least[model]] = None
    return sorted(picked, key=lambda i: float(worth[i]))


def _option(
    at: CatalogAt,
    market: Market,
    cases: Sequence[Case],
    found: tuple[Candidates, StepTerms, Speed],
    i: int,
    rate: float,
) -> PoolOption:
    every, terms, speed = found
    model, gpu = every.model_ids[every.model[i]], every.gpu_ids[every.gpu_type[i]]
    gpus = int(every.gpus[i])
    dtype, native = _dtype(every, i), bool(every.is_native[i])
    quotes = {term: q for term in TERMS if (q := rent(at, gpu, term, gpus)) is not None}
    small = at.number(f"model/{model}", "params_total") <= at.number("planning/slm", "params_most")
    ranks = int(every.setup.dp[i])
    spread = "-ep" if ranks > 1 else ""
    pool = Pool(
        f"self/{model}{'' if native else '-' + dtype}@{gpus}x{gpu}{spread}",
        "slm" if small else "selfhost",
        model,
        dtype,
        gpu,
        gpus,
        int(every.setup.tp[i]),
        _ps(terms.base_s[i]),
        _ps(terms.prefill_s_per_tok[i]),
        _ps(terms.seq_s[i]),
        _ps(terms.kv_s_per_tok[i]),
        int(terms.kv_capacity_tok[i]),
        # Each rank of copied attention holds and fills as much as a whole engine does.
        ranks * int(at.number("engine/vllm", "max_num_seqs")),
        ranks * int(at.number("engine/vllm", "max_num_batched_tokens")),
        quotes["on_demand"].usd_per_gpu_h,
        quotes["on_demand"].fact.id,
        first_token_ps=_ps(terms.first_token_s[i]),
    )
    fits = {case.stream.id: _fit(at, market, case, pool, native) for case in cases}
    return PoolOption(pool, quotes, fits, rate, native, speed.frac("throughput", i), speed.says(i))


def made_verdict(
    made: Made | None, base: str, published: Verdict, margin: float, confidence: float
) -> Verdict:
    """Whether an own small model may replace today's: by its maker's own grades, and by nothing else.

    What is published of its base says how near it begins, and is kept for the order of candidates.
    """
    mine = made is not None and made.graded_points is not None and made.base in (None, base)
    if not mine:
        reason = "a fine-tuned model is another model: grade it on your own samples"
        return msgspec.structs.replace(published, passes=False, reason=reason)
    assert made is not None
    assert made.graded_points is not None
    assert made.graded_error_points is not None
    half = NormalDist().inv_cdf(confidence) * made.graded_error_points
    lower, upper = made.graded_points - half, made.graded_points + half
    reason = f"{made.graded_points:+.1f} +/- {half:.1f} pt, graded on your own samples"
    return Verdict(
        lower >= -100.0 * margin, reason, made.graded_points / 100, made.graded_error_points / 100,
        lower / 100, upper / 100, 1, 0,
    )  # fmt: skip


def _ps(seconds: float) -> int:
    return round(float(seconds) * PS_PER_S)


def _fit(at: CatalogAt, market: Market, case: Case, pool: Pool, native: bool) -> Fit:
    """Whether a stream may go to a pool."""
    today = case.today.model if case.today is not None else case.stream.model
    ratio_in, ratio_out = market.ratios(today, pool.model)
    asked = case.ask._replace(
        max_input_tok=int(case.ask.max_input_tok * planned(ratio_in)),
        max_output_tok=int(case.ask.max_output_tok * planned(ratio_out)),
        needs=() if pool.model == today else case.ask.needs,
    )
    points = case.slo.quality_margin_points
    margin = market.margin if points is None else points / 100
    verdict = market.verdict(pool.model, today, margin)
    if pool.option == "slm":
        verdict = made_verdict(market.made, pool.model, verdict, margin, market.confidence)
    why_not = unfit(at, pool, asked)
    if not why_not and not verdict.passes:
        why_not = f"quality: {verdict.reason}"
    if not native:
        kept = narrowed(at, pool.model, pool.precision, margin)
        if kept is None:
            why_not = why_not or f"quality: {pool.precision} is not shown to keep it within the margin"
        else:
            verdict = msgspec.structs.replace(verdict, reason=f"{verdict.reason}; {kept}")
    return Fit(why_not, verdict, ratio_in, ratio_out)
