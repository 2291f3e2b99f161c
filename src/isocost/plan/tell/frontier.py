"""Cost against quality, and against latency, of everything that could carry all of this traffic.

Latency is of the answers that somebody waits for: from the log's own times, from replay of the trace's
busiest day on replicas of one's own, else from a dated fact: that was not seen on this trace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import msgspec
import numpy as np

from isocost.deployment import Api
from isocost.plan.make.build import PERCENTILE, Built, only_api, replay_draft
from isocost.plan.make.singles import Single, pool_single, whole_offers
from isocost.plan.market.offers import Case, Offer
from isocost.plan.result import FrontierPoint, Option
from isocost.plan.tell.story import Totals, trace_note
from isocost.units import NS_PER_DAY, WEEK_H, percent

MODELS_MOST = 24
"""Points beside those on a frontier: the cheapest of the rest."""
LOSS = "proven loss"
"""What is said of a model that is shown to be worse: it is no hope."""
SPOKEN = ("quality", "TTFT")
"""How reasons begin that a point is drawn in spite of: what it lacks is what the frontier shows."""


class Speed(NamedTuple):
    """A latency in seconds, what says so, and whether that is less than this trace's own 95th percentile."""

    value_s: float | None
    evidence: str
    bound: bool


UNKNOWN = Speed(None, "not known", True)
TOO_MANY = Speed(None, "not replayed: too many replicas", True)
CELLS_MOST = 50_000_000
"""Replicas times prompt blocks up to which a point is replayed: a matter of memory, about 16 bytes each."""


@dataclass(frozen=True)
class Point:
    """A deployment on its way to the frontier."""

    id: str
    option: Option
    usd: float
    model: str
    ttft: Speed
    tpot: Speed
    why_not: str


def frontier(built: Built, totals: Totals, keep: Collection[str] = ()) -> list[FrontierPoint]:
    """Today, the plan, single APIs and single pools by cost, quality and latency; ``keep``: ids that stay."""
    found = [*_apis(built), *_pools(built)]
    points = [_today(built, totals), _plan(built, totals)]
    main = _main_model(built)
    for one in found:
        verdict = built.prepared.market.verdict(one.model, main, built.prepared.market.margin)
        known = verdict.n_benchmarks > 0 or one.model == main
        points.append(
            FrontierPoint(
                one.id, one.id, one.option, one.usd,
                100 * verdict.difference if known else None,
                100 * verdict.lower if known else None,
                one.ttft.value_s, not one.why_not, False, one.tpot.value_s,
                one.ttft.evidence, one.tpot.evidence, one.ttft.bound, one.tpot.bound,
                why_not=one.why_not,
            )
        )  # fmt: skip
    return _thinned(_judged(points), keep)


def _main_model(built: Built) -> str:
    """The model of today that writes most tokens: what quality is set beside."""
    weight = built.prepared.weight_h
    heaviest = max(built.planned, key=lambda case: float(case.stream.usage.output_tok @ weight))
    return heaviest.today.model if heaviest.today is not None else ""


def _today(built: Built, totals: Totals) -> FrontierPoint:
    """Business as usual, by the log's own times."""
    ttft, tpot = _logged(built, _waited(built))
    label = trace_note(built).today
    return _named("today", f"today: {label}", totals.today.total_usd, 0.0, ttft, tpot)


def _plan(built: Built, totals: Totals) -> FrontierPoint:
    """The plan as it was replayed; its quality is known as no worse than the margin, or the same model."""
    rows = _waited(built)
    seen = built.replayed
    known = rows[~np.isnan(seen.ttft_s[rows])]
    spoke = (
        f"replayed or logged, {percent(len(known) / len(rows))} of answers waited for" if len(rows) else ""
    )
    found = seen.percentile(known, PERCENTILE) if len(known) else {"ttft": None, "tpot": None}
    bound = len(known) < len(rows)
    same = all(s.offer is None or s.offer.same_model for s in built.draft.servings) and not built.draft.pools
    speeds = [
        Speed(found[name], spoke, bound) if found[name] is not None else UNKNOWN for name in ("ttft", "tpot")
    ]
    return _named("mix", "the plan", totals.plan.total_usd, 0.0 if same else None, *speeds)


def _named(
    option: Option, label: str, usd: float, quality: float | None, ttft: Speed, tpot: Speed
) -> FrontierPoint:
    """Today or the plan, which nothing speaks against."""
    name = "plan" if option == "mix" else option
    return FrontierPoint(
        name, label, option, usd, quality, quality, ttft.value_s, True, False, tpot.value_s,
        ttft.evidence, tpot.evidence, ttft.bound, tpot.bound,
    )  # fmt: skip


def _waited(built: Built) -> np.ndarray:
    """Rows of the table that somebody waits for."""
    rows = [case.stream.rows for case in built.planned if case.ask.wait_s is None]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def _logged(built: Built, rows: np.ndarray) -> tuple[Speed, Speed]:
    """TTFT and TPOT of today's answers by the log's own times."""
    table = built.prepared.table
    if table.ttft_s is None or not len(rows):
        return UNKNOWN, UNKNOWN
    ttft = table.ttft_s[rows]
    known = ~np.isnan(ttft)
    if not known.any():
        return UNKNOWN, UNKNOWN
    said = "the log's own times" + ("" if known.all() else f", {percent(float(known.mean()))} of answers")
    first = Speed(float(np.percentile(ttft[known], PERCENTILE)), said, False)
    if table.e2e_s is None:
        return first, UNKNOWN
    tok = table.output_tok[rows]
    step = (table.e2e_s[rows] - ttft) / np.maximum(tok - 1.0, 1.0)
    there = known & (tok > 1) & ~np.isnan(step)
    if not there.any():
        return first, UNKNOWN
    return first, Speed(float(np.percentile(step[there], PERCENTILE)), said, False)


def _apis(built: Built) -> list[Point]:
    """The cheapest standard offering of every model, and of those whose latency somebody has measured."""
    weight = built.prepared.weight_h
    by_id: dict[str, list[Offer]] = {}
    for case in built.planned:
        for offer in case.offers:
            if offer.api.tier == "standard" and not offer.api.keeps_prefixes:
                by_id.setdefault(offer.api.id, []).append(offer)
    whole = [(sum(o.usd_per_month(weight) for o in offers), offers) for offers in by_id.values()
             if len(offers) == len(built.planned)]  # fmt: skip
    whole.sort(key=lambda pair: (round(pair[0], 6), pair[1][0].api.id))
    now = {case.today.id for case in built.planned if case.today is not None}
    found: list[Point] = []
    seen: set[str] = set()
    for _, offers in whole:
        api = offers[0].api
        why_not = next((o.why_not for o in offers if o.why_not), "")
        if now == {api.id} or not all(o.why_not.startswith(SPOKEN) for o in offers if o.why_not):
            continue
        ttft, tpot = _offered(built, offers, api)
        if api.model in seen and ttft.value_s is None:
            continue
        seen.add(api.model)
        found.append(
            Point(api.id, cast(Option, api.option), _usd(built, offers), api.model, ttft, tpot, why_not)
        )
    return found


def _usd(built: Built, offers: Sequence[Offer]) -> float:
    """A month of all traffic on one API, with what stands beside it."""
    whole = whole_offers(built.prepared, built.planned, offers)
    beside = only_api(built.prepared, built.planned, whole, today=False).fleet
    weight = built.prepared.weight_h
    return sum(o.usd_per_month(weight) for o in whole if o is not None) + beside.standing_usd_per_month


def _offered(built: Built, offers: Sequence[Offer], api: Api) -> tuple[Speed, Speed]:
    """Latency of an API over the streams that somebody waits for."""
    waited = [o for o, case in zip(offers, built.planned, strict=True) if case.ask.wait_s is None] or offers
    seconds = [o.ttft_p95_s for o in waited]
    ttft = UNKNOWN
    if all(s is not None for s in seconds):
        worst = max(waited, key=lambda o: o.ttft_p95_s or 0.0)
        told = worst.latency == "from the trace"
        said = "the log's own times" if told else f"a dated figure, {worst.latency}"
        ttft = Speed(worst.ttft_p95_s, said, not told)
    if any(_is_now(case, api) for case in built.planned):
        mine = [case.stream.rows for case in built.planned if _is_now(case, api) and case.ask.wait_s is None]
        return ttft, _logged(built, np.sort(np.concatenate(mine)))[1] if mine else UNKNOWN
    fact = built.prepared.at.find(api.subject, "output_tok_per_s")
    if fact is None or not float(fact.value):
        return ttft, UNKNOWN
    return ttft, Speed(1.0 / float(fact.value), f"published median of {fact.checked}: at least", True)


def _is_now(case: Case, api: Api) -> bool:
    return case.today is not None and case.today.subject == api.subject


def _pools(built: Built) -> list[Point]:
    """Each tabulated pool that could carry everything, replayed on the busiest day."""
    found: list[Point] = []
    for option in built.options:
        single = pool_single(built, option)
        if single is None or single.draft is None or any(p.usd == single.usd_per_month for p in found):
            continue
        ttft, tpot = _replayed(built, single)
        found.append(
            Point(
                single.id,
                cast(Option, single.option),
                single.usd_per_month,
                single.model,
                ttft,
                tpot,
                single.why_not,
            )
        )
    return found


def _replayed(built: Built, single: Single) -> tuple[Speed, Speed]:
    """Latency of one pool that carries everything, on the busiest day of the trace."""
    assert single.draft is not None
    arrival = built.prepared.table.arrival_ns
    rows = np.concatenate([case.stream.rows for case in built.planned])
    days = (arrival[rows] - arrival[rows].min()) // NS_PER_DAY
    busiest = int(np.argmax(np.bincount(days)))
    first = int(arrival[rows].min()) + busiest * NS_PER_DAY
    servings = []
    for serving in single.draft.servings:
        mine = serving.case.stream.rows
        mine = mine[(arrival[mine] >= first) & (arrival[mine] < first + NS_PER_DAY)]
        stream = replace(serving.case.stream, rows=mine)
        servings.append(replace(serving, case=replace(serving.case, stream=stream)))
    servings = [serving for serving in servings if len(serving.case.stream.rows)]
    peak = max((p.replicas(h) for p in single.draft.fleet.pools for h in range(WEEK_H)), default=0)
    blocks = _blocks(built, np.concatenate([s.case.stream.rows for s in servings]))
    if peak * blocks > CELLS_MOST:
        return TOO_MANY, TOO_MANY
    day = replay_draft(built.prepared, replace(single.draft, servings=tuple(servings)))
    waited = [s.case.stream.rows for s in servings if s.case.ask.wait_s is None]
    seen = day.percentile(np.sort(np.concatenate(waited)), PERCENTILE) if waited else {}
    ttft, tpot = (
        Speed(value, "replayed, busiest day", False) if (value := seen.get(name)) is not None else UNKNOWN
        for name in ("ttft", "tpot")
    )
    return ttft, tpot


def _blocks(built: Built, rows: np.ndarray) -> int:
    """Prompt blocks of some rows: what a replay keeps track of on every replica."""
    offsets = built.prepared.table.block_offsets
    return 0 if offsets is None else int((offsets[rows + 1] - offsets[rows]).sum())


def _judged(points: list[FrontierPoint]) -> list[FrontierPoint]:
    """Mark what another point beats on cost and at least equals on quality, TTFT or TPOT.

    What is proven is beaten only by what is proven: a cheaper model that nobody has shown to be as good
    speaks against nothing.
    """
    planes: list[tuple[str, Callable[[FrontierPoint], float]]] = [
        ("dominated", lambda p: -np.inf if p.quality_diff_points is None else p.quality_diff_points),
        ("slow", lambda p: -np.inf if p.ttft_p95_s is None else -p.ttft_p95_s),
        ("halting", lambda p: -np.inf if p.tpot_p95_s is None else -p.tpot_p95_s),
    ]
    found = []
    for point in points:
        marks = {}
        for name, good in planes:
            marks[name] = any(
                (other.proven or not point.proven)
                and np.isfinite(good(other))
                and (other.usd_per_month, -good(other)) != (point.usd_per_month, -good(point))
                and other.usd_per_month <= point.usd_per_month
                and good(other) >= good(point)
                for other in points
            )
        found.append(msgspec.structs.replace(point, **marks))
    return found


def _thinned(points: list[FrontierPoint], keep: Collection[str]) -> list[FrontierPoint]:
    """What is on a frontier or proven; of the rest the cheapest of which anything is known."""

    def kept(point: FrontierPoint) -> bool:
        on = not point.dominated or (not point.slow and point.ttft_p95_s is not None)
        on = on or (not point.halting and point.tpot_p95_s is not None)
        return on or point.proven or point.id in keep

    def known(point: FrontierPoint) -> bool:
        figures = (point.quality_diff_points, point.ttft_p95_s, point.tpot_p95_s)
        return LOSS not in point.why_not and any(x is not None for x in figures)

    first = [point for point in points if kept(point)]
    left = (point for point in points if not kept(point) and known(point))
    rest = sorted(left, key=lambda p: (p.usd_per_month, p.id))
    return first + rest[:MODELS_MOST]
