"""What each stream could be served by for money per token: usage converted, priced, and judged.

Tokens belong to the model that produced them: another model's input is converted by a tokenizer
ratio, its output by a verbosity ratio. Quality is never assumed: another model needs proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import CatalogAt
from isocost.catalog.evidence import (
    Interval,
    Verdict,
    input_ratio,
    may_replace,
    output_ratio,
)
from isocost.catalog.prices import edges
from isocost.deployment import (
    Api,
    Ask,
    CacheRule,
    UnitPrices,
    api_ttft_p95_s,
    cache_rule,
    misplaced,
    offering_of,
    unfit,
    unit_prices,
)
from isocost.keep.ask import Made
from isocost.plan.asked.limits import Limits, Slo
from isocost.plan.asked.streams import Floats, Rows, Stream, Usage, Week, billed, usage_of
from isocost.replay.reuse import Prefixes, ReadWrite
from isocost.replay.run import Ratio
from isocost.trace.schema import Chunk, Need, Trace

_NEEDS: Mapping[Need, str] = {
    Need.IMAGE: "image",
    Need.AUDIO: "audio",
    Need.TOOLS: "tools",
    Need.STRUCTURED: "structured",
}


@dataclass(frozen=True, slots=True)
class Priced:
    """Usage of one context band at its unit prices."""

    prices: UnitPrices
    usage: Usage

    def usd_per_h(self) -> Floats:
        """Dollars per hour by hour of the week: (168,)."""
        p, u = self.prices, self.usage
        return np.asarray(
            u.input_tok * p.input_usd
            + u.cached_tok * p.cache_read_usd
            + u.cache_write_tok * p.cache_write_usd
            + u.output_tok * p.output_usd
            + u.requests * p.request_usd
        )


@dataclass(frozen=True, slots=True)
class Cached:
    """Cache reads and writes by request, (rows,) each or ``None`` for none; a name and the evidence."""

    name: str
    read_tok: npt.NDArray[np.int64] | None
    write_tok: npt.NDArray[np.int64] | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A stream served by an API: its usage there, cost by hour of the week, and what speaks against it.

    ``why_not`` is blank where every limit is met or unverifiable; ``latency`` says which.
    """

    api: Api
    parts: tuple[Priced, ...]
    usd_per_h: Floats
    verdict: Verdict
    why_not: str
    latency: str
    ttft_p95_s: float | None
    input_ratio: Interval
    output_ratio: Interval
    caching: str

    @property
    def ratio(self) -> Ratio:
        """The ratios that plans are made with."""
        return Ratio(planned(self.input_ratio), planned(self.output_ratio))

    @property
    def same_model(self) -> bool:
        """Whether the model is today's."""
        return self.verdict.n_benchmarks == 0 and self.verdict.passes

    def usd_per_month(self, weight_h: Floats) -> float:
        """Dollars a month."""
        return float(self.usd_per_h @ weight_h)

    def moved(self, served: Floats) -> Offer:
        """The same with its work served in other hours: (168,) over the mean hour's."""
        parts = tuple(replace(part, usage=part.usage.moved(served)) for part in self.parts)
        return replace(self, parts=parts, usd_per_h=float(self.usd_per_h.mean()) * served)

    def scaled(self, share: Floats | float) -> Offer:
        """The same for a share of each hour, (168,), or for so many times the traffic."""
        parts = tuple(replace(part, usage=part.usage.scaled(share)) for part in self.parts)
        return replace(self, parts=parts, usd_per_h=self.usd_per_h * share)


@dataclass(frozen=True)
class Case:
    """One stream with everything that its choices are made from."""

    stream: Stream
    today: Api | None
    slo: Slo
    ask: Ask
    rows: Rows
    """Rows left after the exact cache."""
    cache_hit_frac: Floats
    """Share of the stream that an exact cache answers, by hour of the week: (168,)."""
    offers: tuple[Offer, ...] = ()
    part: Floats | None = None
    """The share of each of the stream's hours that this case stands for, (168,); ``None`` for all of it."""
    served: Floats | None = None
    """Work served in each hour over the mean hour's, where it is put off: (168,)."""

    @property
    def best(self) -> Offer | None:
        """The cheapest offer that nothing speaks against."""
        return next((offer for offer in self.offers if not offer.why_not), None)

    def put_off(self, served: Floats) -> Case:
        """The same, its work served in other hours: (168,) over the mean hour's."""
        stream = replace(self.stream, usage=self.stream.usage.moved(served))
        offers = tuple(offer.moved(served) for offer in self.offers)
        hit = float(self.cache_hit_frac @ self.stream.usage.requests / self.stream.usage.requests.sum())
        return replace(
            self, stream=stream, offers=offers, served=served, cache_hit_frac=np.full_like(served, hit)
        )

    def scaled(self, multiple: float) -> Case:
        """So many times the traffic, without offers: those that are wanted are scaled one by one."""
        stream = replace(self.stream, usage=self.stream.usage.scaled(multiple))
        return replace(self, stream=stream, offers=())

    def with_offers(self, offers: list[Offer], weight_h: Floats) -> Case:
        """The same with offers, cheapest first (ties: fewer words, by name)."""
        ranked = sorted(offers, key=lambda o: (round(o.usd_per_month(weight_h), 6), o.api.id))
        return replace(self, offers=tuple(ranked))


def ask_of(stream: Stream, slo: Slo) -> Ask:
    """What a stream asks, from its rows and its limits."""
    wait = slo.wait_s
    if wait is None:
        wait = stream.deadline_s
    return Ask(
        stream.max_input_tok,
        stream.max_output_tok,
        tuple(name for need, name in _NEEDS.items() if need in stream.needs),
        slo.place == "own",
        slo.regions or (),
        slo.not_providers or (),
        wait,
    )


@dataclass
class Market:
    """All offerings on a date, and how streams convert to them. Answers are kept per pair asked."""

    catalog_at: CatalogAt
    limits: Limits
    apis: tuple[Api, ...]
    margin: float
    confidence: float
    supposed: bool
    week: Week
    trace: Trace
    table: Chunk
    made: Made | None = None
    """An own small model, as its maker states it."""
    _verdicts: dict[tuple[str, str, float], Verdict] = field(default_factory=dict)
    _ratios: dict[tuple[str, str], tuple[Interval, Interval]] = field(default_factory=dict)
    _usages: dict[tuple[str, int, str, float, float | None], Usage | None] = field(default_factory=dict)
    _reads: dict[tuple[str, int, CacheRule], ReadWrite | None] = field(default_factory=dict)
    _prefixes: dict[tuple[str, int], Prefixes] = field(default_factory=dict)
    _prices: dict[tuple[str, str, int], UnitPrices | None] = field(default_factory=dict)
    _rules: dict[tuple[str, str], CacheRule | None] = field(default_factory=dict)

    def prices(self, api: Api, context_tok: int) -> UnitPrices | None:
        """Prices of an offering for requests of a context length."""
        key = (api.subject, api.tier, context_tok)
        if key not in self._prices:
            self._prices[key] = unit_prices(self.catalog_at, api, context_tok)
        return self._prices[key]

    def rule(self, api: Api) -> CacheRule | None:
        """The prompt cache of an offering."""
        key = (api.subject, api.tier)
        if key not in self._rules:
            self._rules[key] = cache_rule(self.catalog_at, api)
        return self._rules[key]

    def verdict(self, candidate: str, today: str, margin: float) -> Verdict:
        """Whether a model may replace today's."""
        key = (candidate, today, margin)
        if key not in self._verdicts:
            found = may_replace(self.catalog_at, candidate, today, margin, self.confidence)
            self._verdicts[key] = found
        return self._verdicts[key]

    def ratios(self, today: str, candidate: str) -> tuple[Interval, Interval]:
        """Input and output tokens of a candidate for one of today's."""
        key = (today, candidate)
        if key not in self._ratios:
            self._ratios[key] = (
                input_ratio(self.catalog_at, today, candidate),
                output_ratio(self.catalog_at, today, candidate),
            )
        return self._ratios[key]

    def offers(self, case: Case) -> list[Offer]:
        """Every API priced for one stream and judged."""
        return [offer for api in self.apis if (offer := self.offer(case, api)) is not None]

    def offer(self, case: Case, api: Api) -> Offer | None:
        """One API for one stream; ``None`` where it has no price on the date."""
        today = case.today.model if case.today is not None else case.stream.model
        ratio_in, ratio_out = self.ratios(today, api.model)
        cached = self._cached(case, api)
        parts = self._priced(case, api, cached, planned(ratio_in), planned(ratio_out))
        if not parts:
            return None
        asked = case.ask._replace(
            max_input_tok=int(case.ask.max_input_tok * planned(ratio_in)),
            max_output_tok=int(case.ask.max_output_tok * planned(ratio_out)),
            needs=() if api.model == today else case.ask.needs,
        )
        same = case.today is not None and api.subject == case.today.subject
        # Today's API, where it is not only supposed, has shown what it takes; not where tokens may go.
        shown = same and api.tier == "standard" and not self.supposed
        fits = misplaced if shown else unfit
        why_not = fits(self.catalog_at, api, asked)
        margin = (
            self.margin if case.slo.quality_margin_points is None else case.slo.quality_margin_points / 100
        )
        verdict = self.verdict(api.model, today, margin)
        if not why_not and not verdict.passes:
            why_not = f"quality: {verdict.reason}"
        latency, ttft, late = self._latency(case, api, same)
        usd = np.sum([part.usd_per_h() for part in parts], axis=0)
        return Offer(
            api, parts, usd, verdict, why_not or late, latency, ttft, ratio_in, ratio_out, cached.evidence
        )

    def whole(self, case: Case, api: Api) -> Offer | None:
        """An API for all of a stream's requests, with no exact cache before it."""
        if len(case.rows) == len(case.stream.rows):
            return self.offer(case, api)
        stream = replace(case.stream, workload=f"{case.stream.workload} (whole)")
        return self.offer(replace(case, stream=stream, rows=case.stream.rows), api)

    def again(self, case: Case, offer: Offer) -> Offer | None:
        """The same choice for a stream whose rows have changed."""
        whole = replace(case, stream=replace(case.stream, workload=f"{case.stream.workload} (whole)"))
        kept = offer.api.keeps_prefixes and case.today is not None
        return self.kept(whole, case.today) if kept and case.today else self.offer(whole, offer.api)

    def kept(self, case: Case, api: Api) -> Offer | None:
        """Today's API with the prompt cache used as the trace's prefixes allow; ``None`` where unknown.

        Reads are those of a cache of the provider's life over the trace's own prefixes; where the
        provider charges for writes, every token that is not read is written.
        """
        plain = self.offer(case, api)
        cached = self._replayed(case, api)
        if plain is None or cached is None or self.table.cached_tok is None:
            return None
        parts = self._priced(case, api, cached, 1.0, 1.0)
        if parts is None:
            return None
        usd = np.sum([part.usd_per_h() for part in parts], axis=0)
        changed = msgspec.structs.replace(plain.api, id=f"{api.id}:prefix", keeps_prefixes=True)
        return replace(plain, api=changed, parts=parts, usd_per_h=usd, caching=cached.evidence)

    def _cached(self, case: Case, api: Api) -> Cached:
        """Cache reads and writes of the stream at an API, and what says so.

        As billed where the API is today's; else as the trace's prefixes give them; else none: what
        another provider would have cached is not known.
        """
        same = case.today is not None and api.subject == case.today.subject
        if same and self.table.cached_tok is not None:
            reads, writes = (
                billed(self.table.cached_tok, case.rows),
                billed(self.table.cache_write_tok, case.rows),
            )
            return Cached("billed", reads, writes, "as billed")
        found = self._replayed(case, api)
        return Cached("none", None, None, "none known") if found is None else found

    def _replayed(self, case: Case, api: Api) -> Cached | None:
        """The provider's own cache over the trace's prefixes; ``None`` where either is unknown."""
        if self.table.block_offsets is None:
            return None
        rule = self.rule(api)
        if rule is None:
            return None
        key = (case.stream.id, len(case.rows), rule)
        if key not in self._reads:
            if key[:2] not in self._prefixes:
                self._prefixes[key[:2]] = Prefixes(self.table, case.rows, self.trace.block_tok)
            self._reads[key] = self._prefixes[key[:2]].cache(rule)
        found = self._reads[key]
        if found is None:
            return None
        return Cached(f"kept {rule}", *found, f"replayed, {rule.life_s:g} s")

    def _priced(
        self, case: Case, api: Api, cached: Cached, ratio_in: float, ratio_out: float
    ) -> tuple[Priced, ...] | None:
        """Usage in the API's tokens, split by context band where some request reaches one."""
        _, bands, _ = edges(self.catalog_at.catalog, offering_of(self.catalog_at, api.subject))
        reached = [edge for edge in bands if edge <= case.ask.max_input_tok * ratio_in]
        parts = []
        for low, high in zip([0, *reached], [*reached, None], strict=True):
            prices = self.prices(api, low)
            if prices is None:
                return None
            usage = self._usage(case, cached, low / ratio_in, None if high is None else high / ratio_in)
            if usage is not None:
                mine = usage if case.part is None else usage.scaled(case.part)
                mine = mine if case.served is None else mine.moved(case.served)
                parts.append(Priced(prices, converted(mine, ratio_in, ratio_out)))
        return tuple(parts)

    def _usage(self, case: Case, cached: Cached, low: float, high: float | None) -> Usage | None:
        """Usage of the requests with at least ``low`` and less than ``high`` input; ``None``: no such."""
        # A stream is priced with the requests that an exact cache leaves, and whole.
        key = (case.stream.id, len(case.rows), cached.name, low, high)
        if key not in self._usages:
            length = self.table.input_tok[case.rows]
            within = (length >= low) & (length < (np.inf if high is None else high))
            pick = [None if part is None else part[within] for part in (cached.read_tok, cached.write_tok)]
            rows = case.rows[within]
            self._usages[key] = usage_of(self.table, rows, self.week, *pick) if len(rows) else None
        return self._usages[key]

    def _latency(self, case: Case, api: Api, same: bool) -> tuple[str, float | None, str]:
        """Evidence on time to first token, its p95, and what speaks against the limit."""
        limit = case.slo.ttft_p95_s
        if api.tier == "batch":
            return "waits", None, ""
        if same and case.stream.ttft_p95_s is not None:
            found: float | None = case.stream.ttft_p95_s
            evidence = "from the trace"
        else:
            fact = api_ttft_p95_s(self.catalog_at, api)
            found = None if fact is None else float(fact.value)
            stated = fact is not None and fact.kind in ("published", "measured")
            evidence = f"fact of {fact.checked.isoformat()}" if fact is not None and stated else "unverified"
        late = limit is not None and found is not None and found > limit
        if late and not same:
            return evidence, found, f"TTFT p95 {found:.2f} s exceeds {limit:g} s"
        return evidence, found, ""


def planned(ratio: Interval) -> float:
    """The ratio to plan with: its middle, or where it is only a default its high end.

    A model of unknown verbosity must be cheaper even if it talks as much as the default allows.
    """
    return ratio.mid if ratio.known else ratio.high


def converted(usage: Usage, ratio_in: float, ratio_out: float) -> Usage:
    """Usage in another model's tokens."""
    return Usage(
        usage.requests,
        usage.input_tok * ratio_in,
        usage.cached_tok * ratio_in,
        usage.cache_write_tok * ratio_in,
        usage.output_tok * ratio_out,
    )
