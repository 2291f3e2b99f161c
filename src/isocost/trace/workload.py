"""Traces generated from stated parameters: from a few numbers, and the bundled example."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.trace.schema import ANCHOR_NS, Chunk, Finding, Need, Trace, concat
from isocost.trace.shape import hour_of_week
from isocost.units import DAYS_PER_MONTH, NS_PER_DAY, NS_PER_MINUTE, NS_PER_S, WEEK_H, plural

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_CHUNK_ROWS = 1_000_000
_MOST_TURNS = 60


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests differ.

    ``input_sigma`` and ``output_sigma`` are standard deviations of the logarithm of token counts.
    ``dispersion`` is the variance of requests a minute over their mean: 1 is Poisson, more is burstier.
    No length is more than ``longest_ratio`` times the mean, which is kept.
    """

    input_sigma: float
    output_sigma: float
    dispersion: float = 1.0
    longest_ratio: float = math.inf


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of request. Token counts are means of lognormal lengths; every length is at least one token.

    A session has ``turns`` requests on average (geometric), ``think_s`` apart; each carries the
    ``system_tok`` that all requests share, all earlier turns, and ``input_tok`` new ones. Of requests,
    ``repeat_frac`` ask one of ``prompts`` fixed prompts, the k-th with weight k^-``zipf``. ``deadline_s``
    0: interactive.
    """

    name: str
    requests_per_day: float
    shape: str
    input_tok: float
    output_tok: float
    spread: Spread
    system_tok: int = 0
    turns: float = 1.0
    think_s: float = 0.0
    repeat_frac: float = 0.0
    prompts: int = 0
    zipf: float = 1.0
    deadline_s: float = 0.0
    tools: bool = False
    structured: bool = False


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times that the log claims: TTFT is ``ttft_s`` plus ``prefill_s_per_tok`` an uncached input token.

    Both TTFT and time per output token (``tpot_s``) vary by a lognormal factor of ``sigma``.
    """

    ttft_s: float
    prefill_s_per_tok: float
    tpot_s: float
    sigma: float


class PromptCache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of what could be reused the generated bill shows as cached.

    A shared prefix of at least ``min_tok`` hits with probability ``hit_frac`` and is billed in ``step_tok``.
    """

    hit_frac: float
    min_tok: int
    step_tok: int


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a generated trace depends on. ``shapes``: weights of a week's hours (168, Monday first).

    ``tenants``: their names with their shares of sessions, or how many there are, the k-th with weight
    k^-``tenant_zipf``.
    """

    title: str
    seed: int
    days: float
    workloads: tuple[Workload, ...]
    shapes: Mapping[str, tuple[float, ...]]
    start: date | None = None
    block_tok: int = 0
    tenants: int | Mapping[str, float] = 0
    tenant_zipf: float = 1.0
    latency: Latency | None = None
    cache: PromptCache | None = None


def from_numbers(
    requests_per_month: float, input_tok: float, output_tok: float, *, spread: Spread,
    days: float = 14.0, seed: int = 0, shape: npt.ArrayLike | None = None,
) -> Trace:  # fmt: skip
    """A trace from a few numbers: mean tokens of a request, requests a month (365.25/12 days).

    ``shape`` (168,) weighs the hours of the week from Monday 00:00 UTC (default: flat). The same arguments
    give the same trace; its clock is relative.

    Raises:
        BadInput: a number that is not positive, or a shape that is not 168 weights.
    """
    given = (("requests", requests_per_month), ("input", input_tok), ("output", output_tok), ("days", days))
    for name, number in given:
        if not (np.isfinite(number) and number > 0):
            raise BadInput(f"{name} is {number}", fix="Give a number above zero")
    weights = np.ones(WEEK_H) if shape is None else np.asarray(shape, np.float64)
    workload = Workload(
        "workload", requests_per_month / DAYS_PER_MONTH, "given", input_tok, output_tok, spread
    )
    text = f"{plural(requests_per_month, 'request')} a month of {input_tok:,.0f} in, {output_tok:,.0f} out"
    return generate(Parameters(text, seed, days, (workload,), {"given": tuple(weights.tolist())}))


def within(tokens: npt.NDArray[np.generic], mean: float, ratio: float) -> npt.NDArray[np.float64]:
    """Lengths (n,) of at least one and at most ``ratio`` means, scaled so that their mean is as given."""
    most = max(1.0, math.floor(ratio * mean))
    scale = 1.0
    capped = tokens.astype(np.float64)
    for _ in range(8):
        capped = np.clip(tokens.astype(np.float64) * scale, 1.0, most)
        scale *= mean / float(capped.mean())
    # Each is rounded up or down so that the running sum stays whole: rounding one by one would drift.
    return np.asarray(np.diff(np.floor(np.cumsum(capped) + 1e-6), prepend=0.0), dtype=np.float64)


def example(now: str = "") -> Trace:
    """The bundled trace: 14 days of a support product, all on one model today.

    ``now`` is that model (``openai/gpt-4.1``: provider and model); empty leaves the columns out.
    """
    return generate(example_parameters(), now)


def example_parameters() -> Parameters:
    """What the bundled trace is generated from: ``example.toml`` beside this module.

    There a shape is 24 hourly weights times 7 daily ones.
    """
    text = files("isocost.trace").joinpath("example.toml").read_text(encoding="utf-8")
    raw = msgspec.toml.decode(text)
    raw["shapes"] = {
        name: [day * hour for day in shape["days"] for hour in shape["hours"]]
        for name, shape in raw["shapes"].items()
    }
    return msgspec.convert(raw, Parameters)


def generate(parameters: Parameters, now: str = "") -> Trace:
    """The trace that the parameters describe, the same every time.

    Raises:
        BadInput: a shape that is not 168 weights of zero or more, or no request came out.
    """
    shapes = {name: _weights(name, weights) for name, weights in parameters.shapes.items()}
    start = parameters.start
    start_ns = (
        ANCHOR_NS
        if start is None
        else int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * NS_PER_S
    )
    parts = [
        _Part(parameters, workload, code, shapes[workload.shape], start_ns).chunk()
        for code, workload in enumerate(parameters.workloads)
    ]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise BadInput(
            "the parameters give no requests", where=parameters.title, fix="Ask for more days or requests"
        )
    whole = concat(tuple(parts))
    whole = whole.take(np.argsort(whole.arrival_ns, kind="stable"))
    names: dict[str, tuple[str, ...]] = {"workload": tuple(one.name for one in parameters.workloads)}
    if isinstance(parameters.tenants, int):
        tenants = tuple(f"tenant-{i + 1:03d}" for i in range(parameters.tenants))
    else:
        tenants = tuple(parameters.tenants)
    if tenants:
        names["tenant"] = tenants
    columns: dict[str, Any] = {}
    if now:
        provider, _, model = now.rpartition("/")
        columns["model"] = np.zeros(len(whole), np.int32)
        names["model"] = (model,)
        if provider:
            columns["provider"] = np.zeros(len(whole), np.int32)
            names["provider"] = (provider,)
    if whole.session is not None:
        lone = bool((whole.session < 0).any())
        codes = (np.unique(whole.session, return_inverse=True)[1] - int(lone)).astype(np.int32)
        columns["session"] = codes
        names["session"] = tuple(f"s{i}" for i in range(int(codes.max(initial=-1)) + 1))
    held = {spec.name: getattr(whole, spec.name) for spec in fields(Chunk)}
    whole = Chunk(**{**held, **columns})
    encoded = msgspec.json.encode([parameters, now], order="deterministic")
    found = frozenset(
        spec.name for spec in fields(Chunk)[3:] if getattr(whole, spec.name) is not None
    ) - {"block_offsets", "outcome"}  # fmt: skip
    return Trace(
        title=parameters.title, digest=hashlib.sha256(encoded).hexdigest()[:16], names=names,
        columns=found, read=lambda: _slices(whole), block_tok=parameters.block_tok,
        findings=_findings(parameters), reader="generated", clock="relative" if start is None else "utc",
    )  # fmt: skip


def _findings(parameters: Parameters) -> tuple[Finding, ...]:
    found = [Finding("found", "generated", f"generated from stated parameters, seed {parameters.seed}")]
    if parameters.latency is not None:
        found.append(Finding("guessed", "generated_latency", "its latencies are generated too, not measured"))
    return tuple(found)


def _slices(whole: Chunk) -> Iterator[Chunk]:
    if len(whole) <= _CHUNK_ROWS:
        yield whole
        return
    for lo in range(0, len(whole), _CHUNK_ROWS):
        yield whole.take(np.arange(lo, min(lo + _CHUNK_ROWS, len(whole))))


def _weights(name: str, weights: Sequence[float]) -> Float64:
    shape = np.asarray(weights, np.float64)
    if shape.shape != (WEEK_H,) or not np.all(np.isfinite(shape)) or shape.min() < 0 or shape.sum() <= 0:
        raise BadInput(
            f"shape {name!r} is not {WEEK_H} weights of zero or more",
            fix="Give one weight an hour of the week",
        )
    return cast(Float64, shape / shape.mean())


class _Part:
    """One workload's requests, from a random stream of its own: adding one leaves the others as they are."""

    def __init__(
        self, parameters: Parameters, workload: Workload, code: int, shape: Float64, start_ns: int
    ) -> None:
        self.all, self.mine, self.code, self.shape, self.start_ns = (
            parameters,
            workload,
            code,
            shape,
            start_ns,
        )
        self.rng = np.random.Generator(np.random.PCG64([parameters.seed, code]))

    def chunk(self) -> Chunk:
        """Requests in order of session, not yet sorted by time."""
        mine, rng = self.mine, self.rng
        begins = self.begins()
        turns = np.minimum(rng.geometric(1 / max(mine.turns, 1.0), len(begins)), _MOST_TURNS)
        owner = np.repeat(np.arange(len(begins)), turns)
        first = np.concatenate(([0], np.cumsum(turns)[:-1])).astype(np.int64) if len(turns) else turns
        turn = np.arange(len(owner)) - np.repeat(first, turns)
        new = self.lengths(mine.input_tok, mine.spread.input_sigma, len(owner))
        output = self.lengths(mine.output_tok, mine.spread.output_sigma, len(owner))
        if mine.prompts:
            owner, new = self.repeats(owner, new)
        before = _before(new + output, turns, first)
        input_tok = mine.system_tok + before + new
        shared = np.where(turn > 0, np.roll(input_tok, 1), mine.system_tok)
        cached, ttft_s, e2e_s = self.as_billed(input_tok, output, shared)
        think = (
            self.lengths(mine.think_s, 1.0, len(owner)) if mine.turns > 1 else np.zeros(len(owner), np.int64)
        )
        wait_ns = ((think + (e2e_s if e2e_s is not None else 0)) * NS_PER_S).astype(np.int64)
        arrival_ns = np.repeat(begins, turns) + _before(wait_ns, turns, first)
        offsets, ids = self.blocks(owner, input_tok)
        tenant = self.tenants(len(begins), turns)
        n = len(owner)
        needs = (Need.TOOLS if mine.tools else 0) | (Need.STRUCTURED if mine.structured else 0)
        any_need = any(one.tools or one.structured for one in self.all.workloads)
        any_deadline = any(one.deadline_s for one in self.all.workloads)
        any_turns = any(one.turns > 1 for one in self.all.workloads)
        any_prompts = any(one.prompts for one in self.all.workloads)
        deadline = np.float32(mine.deadline_s or np.nan)
        chunk = Chunk(
            arrival_ns=arrival_ns, input_tok=input_tok.astype(np.int32), output_tok=output.astype(np.int32),
            outcome=np.zeros(n, np.int8), cached_tok=cached, workload=np.full(n, self.code, np.int32),
            tenant=tenant,
            session=(np.repeat(np.arange(len(begins)), turns) * 64 + self.code if mine.turns > 1
                     else np.full(n, -1)).astype(np.int32) if any_turns else None,
            needs=np.full(n, int(needs), np.uint16) if any_need else None,
            block_offsets=offsets, block_ids=ids,
            prompt_key=self.keys(owner, turn) if any_prompts else None,
            deadline_s=np.full(n, deadline, np.float32) if any_deadline else None,
            ttft_s=ttft_s, e2e_s=e2e_s,
        )  # fmt: skip
        end_ns = self.start_ns + round(self.all.days * NS_PER_DAY)
        return chunk.take(arrival_ns < end_ns)

    def begins(self) -> Int64:
        """Starts of sessions in ns: a gamma-mixed Poisson count each minute, spread evenly inside it."""
        minutes = max(1, round(self.all.days * 1440))
        at_ns = self.start_ns + np.arange(minutes, dtype=np.int64) * NS_PER_MINUTE
        per_minute = self.mine.requests_per_day / max(self.mine.turns, 1.0) / 1440
        mean = per_minute * self.shape[hour_of_week(at_ns)]
        extra = self.mine.spread.dispersion - 1.0
        # Gamma(mean / extra) * extra has the mean asked for and makes variance over mean 1 + extra.
        rate = self.rng.gamma(mean / extra, extra) if extra > 1e-9 else mean
        counts = self.rng.poisson(rate)
        inside = (self.rng.random(int(counts.sum())) * NS_PER_MINUTE).astype(np.int64)
        return np.sort(np.repeat(at_ns, counts) + inside)

    def lengths(self, mean: float, sigma: float, n: int) -> Int64:
        """Lognormal whole numbers of at least one with this mean, none beyond the longest."""
        drawn = np.exp(self.rng.standard_normal(n) * sigma + np.log(mean) - sigma * sigma / 2)
        if n and (longest := self.mine.spread.longest_ratio) < math.inf:
            return within(drawn, mean, longest).astype(np.int64)
        whole: Int64 = np.maximum(1, np.rint(drawn)).astype(np.int64)
        return whole

    def repeats(self, owner: Int64, new: Int64) -> tuple[Int64, Int64]:
        """Make some requests ask a fixed prompt: its number becomes the owner, its length the input."""
        mine = self.mine
        weight = np.cumsum(np.arange(1, mine.prompts + 1, dtype=np.float64) ** -mine.zipf)
        repeated = self.rng.random(len(owner)) < mine.repeat_frac
        pick = np.searchsorted(weight, self.rng.random(len(owner)) * weight[-1])
        fixed = self.lengths(mine.input_tok, mine.spread.input_sigma, mine.prompts)
        return np.where(repeated, pick, owner + mine.prompts), np.where(repeated, fixed[pick], new)

    def keys(self, owner: Int64, turn: Int64) -> Int64:
        """Prompt keys: equal where the whole prompt is."""
        return ((self.code + 1) << 48) | (owner << 8) | turn

    def blocks(self, owner: Int64, input_tok: Int64) -> tuple[Int64 | None, Int64 | None]:
        """Prefix blocks: the system prompt's are the workload's, the rest the session's or prompt's."""
        size = self.all.block_tok
        if not size:
            return None, None
        count = input_tok // size
        offsets = np.concatenate(([0], np.cumsum(count))).astype(np.int64)
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], count)
        common = (self.code + 1) << 52
        own = common | (np.repeat(owner + 1, count) << 20) | place
        return offsets, np.where(place < self.mine.system_tok // size, common | place, own)

    def tenants(self, sessions: int, turns: Int64) -> npt.NDArray[np.int32] | None:
        """A tenant for every session, by request."""
        asked = self.all.tenants
        if not asked:
            return None
        if isinstance(asked, int):
            weight = np.cumsum(np.arange(1, asked + 1, dtype=np.float64) ** -self.all.tenant_zipf)
        else:
            weight = np.cumsum(np.array(list(asked.values()), np.float64))
        pick = np.searchsorted(weight, self.rng.random(sessions) * weight[-1])
        return np.repeat(pick, turns).astype(np.int32)

    def as_billed(
        self, input_tok: Int64, output: Int64, shared: Int64
    ) -> tuple[npt.NDArray[np.int32] | None, npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
        """Cached tokens, TTFT and end-to-end time as the generated log shows them."""
        cached: npt.NDArray[np.int32] | None = None
        cache, latency, n = self.all.cache, self.all.latency, len(input_tok)
        if cache is not None:
            hit = (self.rng.random(n) < cache.hit_frac) & (shared >= cache.min_tok)
            cached = np.where(hit, shared // cache.step_tok * cache.step_tok, 0).astype(np.int32)
        if latency is None:
            return cached, None, None
        fresh = input_tok - (cached if cached is not None else 0)
        noise = np.exp(self.rng.standard_normal((2, n)) * latency.sigma)
        ttft_s = (latency.ttft_s + latency.prefill_s_per_tok * fresh) * noise[0]
        e2e_s = ttft_s + np.maximum(output - 1, 0) * latency.tpot_s * noise[1]
        return cached, ttft_s.astype(np.float32), e2e_s.astype(np.float32)


def _before(amount: Int64, turns: Int64, first: Int64) -> Int64:
    """Running sum inside each session before each turn."""
    if not len(amount):
        return amount
    before = np.cumsum(amount) - amount
    return before - np.repeat(before[first], turns)
