"""No log yet: from a range of volumes and two token counts to a memo for a meeting, as plain data.

Traffic is generated from stated spreads, planned and replayed at the middle volume, and every way to
serve is sized and priced again at each volume of the range. Facts read: ``planning/memo`` (input_sigma,
output_sigma, dispersion, longest_ratio, reference_model, trip_months, range_ratio), ``staff/*``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from itertools import pairwise

import msgspec
import numpy as np

from isocost import risk
from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.catalog.names import resolve
from isocost.deployment import Api
from isocost.errors import BadInput
from isocost.ledger import Ledger
from isocost.plan import story
from isocost.plan.build import Built
from isocost.plan.limits import Have, Limits
from isocost.plan.memo_ways import (
    Costed,
    Way,
    best_of,
    commitment_usd,
    costed,
    rent_of,
    replicas_of,
    tokens_usd,
    ways_of,
)
from isocost.plan.prepare import DEFAULT_SHAPE, Request, default_slo, prepare, weekly_shape
from isocost.plan.result import Band
from isocost.plan.run import solved
from isocost.plan.standing import WEEKS_PER_YEAR, Standings
from isocost.plan.streams import WEEK_H
from isocost.plan.today import api_of
from isocost.trace.schema import Trace
from isocost.trace.workload import DAYS_PER_MONTH, Spread, from_numbers
from isocost.units import count, money

MEMO = "planning/memo"
VOLUMES = 5
"""Volumes of the memo's table, evenly apart on a logarithmic scale; the middle one is the third."""
LOOK = 64.0
"""How far below and above the range crossings are looked for."""
STEP = 2.0
REQUESTS_MOST, REQUESTS_LEAST = 250_000, 20_000
"""Requests of the generated trace: enough for a stable 95th percentile, few enough to replay in a second."""
DAYS_MOST, DAYS_LEAST = 14.0, 7.0
DAYS_PER_WEEK = 7.0
OPTIONS: Mapping[str, str] = {
    "today": "today's API",
    "api": "closed model by API",
    "hosted": "open weights by API",
    "selfhost": "own replicas",
    "slm": "own small model",
    "mix": "own replicas, API for peaks",
}
"""Options in the order that they are shown, in words."""
STAFF: Mapping[str, str] = {
    "today": "",
    "api": "api",
    "hosted": "hosted-open",
    "selfhost": "self-hosted",
    "slm": "slm",
    "mix": "self-hosted",
}
"""Subject ``staff/...`` that says how long an option takes to launch."""
FACTS_MOST = 6
REPLICAS_MANY = 200
"""Replicas from which whole numbers no longer matter: a replica more is half a percent."""
PRICE_MOST = 100.0
"""A price must be within this factor of today's for a trip-wire to hang on it."""
FTE_LEAST = 0.2
"""A part of a person too small to run replicas: no trip-wire hangs on it."""
SURE_FRAC = 0.8
"""Share of scenarios below which two options are called as good as each other."""


@dataclass(frozen=True)
class MemoAsk:
    """What a memo is asked for.

    ``requests_per_month``: low and high, equal for a single guess. ``now``: the model that serves today,
    blank where nothing does; then ``reference`` (default: the catalog's) says whose quality must be kept.
    ``shape``: the week, a name of the catalog or ``flat``.
    """

    requests_per_month: tuple[float, float]
    input_tok: float
    output_tok: float
    catalog: Catalog
    on: date
    now: str = ""
    limits: Limits = field(default_factory=Limits)
    have: Have = field(default_factory=Have)
    shape: str = DEFAULT_SHAPE
    reference: str = ""


class Cell(msgspec.Struct, frozen=True):
    """An option at one volume: its cheapest way there. ``replicas``: fewest and most over the week."""

    id: str
    label: str
    usd_per_month: Band
    feasible: bool
    why_not: str
    replicas: tuple[int, int]
    api_frac: float


class OptionRow(msgspec.Struct, frozen=True):
    """An option over the volumes (``None``: it cannot serve there) and what it takes to launch.

    ``by_pillar`` and ``by_account`` are dollars a month at the middle volume; each sums to its cell.
    ``why_not`` says why there is no cell at all.
    """

    option: str
    label: str
    cells: list[Cell | None]
    by_pillar: dict[str, float]
    by_account: dict[str, float]
    days_to_launch: Band | None
    launch_usd: float | None
    quality: str
    why_not: str


class Verdict(msgspec.Struct, frozen=True):
    """The least-cost allowed option at a volume; ``sure_frac`` of scenarios it beats ``runner_up``."""

    requests_per_month: float
    option: str
    label: str
    usd_per_month: Band
    runner_up: str
    runner_up_usd: float | None
    sure_frac: float | None


class Crossing(msgspec.Struct, frozen=True):
    """Where traffic that grows past ``requests_per_month`` is served cheaper by another option."""

    before: str
    after: str
    requests_per_month: float
    inside: bool


class Regret(msgspec.Struct, frozen=True):
    """Choosing an option for the middle volume: dollars a month above the best at low, middle and high.

    Replicas rented for a year for the middle volume are paid at every volume. ``None``: it cannot serve.
    ``days_to_switch``: until the best option there serves instead, 0 where it is this one.
    """

    option: str
    label: str
    usd_per_month: list[float | None]
    reserved: int
    days_to_switch: list[float | None]


class Tripwire(msgspec.Struct, frozen=True):
    """A figure to watch: what it is now, where it tips, and what then to do.

    ``at`` and ``now`` are in ``unit``; ``now`` is ``None`` where it is the reader's to measure.
    """

    name: str
    text: str
    now: float | None
    at: float
    unit: str


class Assumed(msgspec.Struct, frozen=True):
    """A fact that the memo rests on; ``low`` to ``high`` is its central 80 %, ``source`` an id."""

    id: str
    subject: str
    words: str
    value: str
    unit: str
    low: float | None
    high: float | None
    kind: str
    source: str
    title: str
    address: str


class Memo(msgspec.Struct, frozen=True):
    """A page for a meeting, as data. Lists by volume are as long as ``volumes``; dollars are a month."""

    title: str
    version: str
    priced_on: str
    price_basis: str
    input_tok: float
    output_tok: float
    now: str
    reference: str
    headline: str
    volumes: list[float]
    verdicts: list[Verdict]
    options: list[OptionRow]
    crossings: list[Crossing]
    regrets: list[Regret]
    tripwires: list[Tripwire]
    assumed: list[Assumed]
    facts: list[Assumed]
    notes: list[str]


@dataclass(frozen=True)
class _Study:
    """The planned traffic, its ways to serve and the multiples of it that the memo asks about."""

    ask: MemoAsk
    at: CatalogAt
    built: Built
    ways: tuple[Way, ...]
    multiples: tuple[float, ...]
    running: bool

    @property
    def base(self) -> float:
        """Requests a month at multiple 1."""
        return self.built.prepared.volume.requests

    def best(self, multiple: float) -> dict[str, Costed]:
        """The best way of each option at a multiple."""
        return best_of(self.built, self.ways, multiple, self.running)

    def allowed(self, multiple: float) -> dict[str, Costed]:
        """The best allowed way of each option at a multiple."""
        ways = [way for way in self.ways if not way.why_not]
        return best_of(self.built, ways, multiple, self.running)

    def winner(self, multiple: float) -> Costed:
        """The cheapest allowed way at a multiple."""
        return _winner(self.allowed(multiple))


def memo(ask: MemoAsk) -> Memo:
    """Plan from a few numbers.

    Raises:
        BadInput: a range that runs backwards, a count that is not positive, a prompt no context holds.
        Infeasible: nothing meets the limits.
        UnknownModel, UnknownFact: as their messages say.
    """
    at = ask.catalog.at(ask.on)
    volumes = volumes_of(ask, at)
    named = ask.now or ask.reference or at.text(MEMO, "reference_model")
    reference = reference_of(at, named)
    trace, planned_at = traffic(ask, at, reference, volumes[VOLUMES // 2])
    request = Request(trace, ask.catalog, ask.on, ask.limits, ask.have, named, ask.shape, exact_cache=False)
    built = solved(prepare(request))
    base = built.prepared.volume.requests
    today = reference.id if ask.now else ""
    multiples = tuple(volume / base for volume in volumes)
    study = _Study(ask, at, built, ways_of(built, today), multiples, bool(today))
    found = _without_idle_mix([study.best(multiple) for multiple in study.multiples])
    drivers = story.drivers_of(built, [one.ledger for by in found for one in by.values()])
    shown = [one for by in found for one in by.values() if not one.way.why_not]
    verdicts = [_verdict(v, by, drivers) for v, by in zip(volumes, found, strict=True)]
    crossings = _crossings(study, volumes)
    return Memo(
        title=f"{_range(volumes)} requests a month of {ask.input_tok:,.0f} + {ask.output_tok:,.0f} tokens",
        version=version("isocost"),
        priced_on=ask.on.isoformat(),
        price_basis=ask.catalog.basis,
        input_tok=ask.input_tok,
        output_tok=ask.output_tok,
        now=ask.now,
        reference=reference.id,
        headline=_headline(verdicts, crossings, today),
        volumes=volumes,
        verdicts=verdicts,
        options=[_row(study, option, found, drivers) for option in OPTIONS if _shown(option, found)],
        crossings=crossings,
        regrets=_regrets(study, found),
        tripwires=_tripwires(study, found, crossings),
        assumed=_assumed(study),
        facts=_facts(study, found[VOLUMES // 2]),
        notes=_notes(study, trace, planned_at, shown, verdicts),
    )


def volumes_of(ask: MemoAsk, at: CatalogAt) -> list[float]:
    """Requests a month: five from low to high, the steps equal factors.

    Raises:
        BadInput: not a range of positive numbers, or tokens that are not at least one.
    """
    low, high = ask.requests_per_month
    for name, value in (("--in", ask.input_tok), ("--out", ask.output_tok)):
        if not (math.isfinite(value) and value >= 1):
            raise BadInput(f"{value:g} tokens a request", where=name, fix="Give at least one token, as 1500")
    if not (math.isfinite(low) and math.isfinite(high) and low > 0 and high > 0):
        raise BadInput(
            f"{low:g} to {high:g} requests a month", where="--requests", fix="Type 200k..5M/mo or 1M/mo"
        )
    if high < low:
        raise BadInput(
            f"the range runs backwards: {low:g} to {high:g}",
            where="--requests",
            fix=f"Type {count(high)}..{count(low)}/mo",
        )
    if low == high:
        ratio = at.number(MEMO, "range_ratio")
        low, high = low / ratio, high * ratio
    return [float(v) for v in np.geomspace(low, high, VOLUMES)]


def reference_of(at: CatalogAt, named: str) -> Api:
    """The offering whose quality must be kept, as ``provider/model`` or a model's name.

    Raises:
        UnknownModel: no offering of that name.
    """
    provider, _, bare = named.rpartition("/") if named.count("/") == 1 else ("", "", named)
    return api_of(at, resolve(at, bare, provider))


def traffic(ask: MemoAsk, at: CatalogAt, reference: Api, middle: float) -> tuple[Trace, float]:
    """The generated requests, and the requests a month that they stand for.

    One or two weeks at the middle volume, or as near to it as a replay of a second allows. Lengths are
    lognormal, none above the catalog's longest nor the reference's context; their means are as asked.

    Raises:
        BadInput: the mean request does not fit the reference's context.
    """
    most = REQUESTS_MOST / DAYS_LEAST * DAYS_PER_MONTH
    least = REQUESTS_LEAST / DAYS_MOST * DAYS_PER_MONTH
    volume = min(max(middle, least), most)
    days = min(DAYS_MOST, max(DAYS_LEAST, REQUESTS_MOST / (volume / DAYS_PER_MONTH)))
    shape = np.ones(WEEK_H) if ask.shape == "flat" else weekly_shape(at, ask.shape)
    spread = Spread(*(at.number(MEMO, name) for name in ("input_sigma", "output_sigma", "dispersion")))
    trace = from_numbers(volume, ask.input_tok, ask.output_tok, spread=spread, days=days, shape=shape)
    longest = at.number(MEMO, "longest_ratio")
    context = at.find(reference.subject, "context_tok") or at.find(f"model/{reference.model}", "context_tok")
    most_tok = math.inf if context is None else float(context.value)
    if ask.input_tok + ask.output_tok > most_tok:
        raise BadInput(
            f"{ask.input_tok + ask.output_tok:,.0f} tokens a request are over the context of {reference.id}",
            where="--in",
            fix=f"Its context is {most_tok:,.0f} tokens: name another model with --now",
        )
    room = most_tok / (ask.input_tok + ask.output_tok)
    table = trace.table()
    ratio = min(longest, room)
    prompts = within(table.input_tok, ask.input_tok, ratio)
    answers = within(table.output_tok, ask.output_tok, ratio)
    return trace.of(replace(table, input_tok=prompts, output_tok=answers)), volume


def within(tokens: np.ndarray, mean: float, ratio: float) -> np.ndarray:
    """Lengths (n,) of at least one and at most ``ratio`` means, scaled so that their mean is as given."""
    most = max(1.0, math.floor(ratio * mean))
    scale = 1.0
    capped = tokens.astype(np.float64)
    for _ in range(8):
        capped = np.clip(tokens * scale, 1.0, most)
        scale *= mean / float(capped.mean())
    # Each is rounded up or down so that the running sum stays whole: rounding one by one would drift.
    return np.diff(np.floor(np.cumsum(capped) + 1e-6), prepend=0.0).astype(tokens.dtype)


def _winner(by: Mapping[str, Costed]) -> Costed:
    allowed = [one for one in by.values() if not one.way.why_not]
    return min(allowed, key=lambda one: (round(one.usd, 6), one.way.option))


def _without_idle_mix(found: Sequence[dict[str, Costed]]) -> list[dict[str, Costed]]:
    """The options by volume, less a mix that is the cheapest at no volume: it only repeats its parts."""
    if any(_winner(by).way.option == "mix" for by in found):
        return list(found)
    return [{option: one for option, one in by.items() if option != "mix"} for by in found]


def _shown(option: str, found: Sequence[Mapping[str, Costed]]) -> bool:
    """Whether an option has a row: today and a mix only where there is one."""
    return option not in ("today", "mix") or any(option in by for by in found)


def _verdict(volume: float, by: Mapping[str, Costed], drivers: Mapping[str, risk.Driver]) -> Verdict:
    best = _winner(by)
    others = [one for one in by.values() if not one.way.why_not and one is not best]
    second = min(others, key=lambda one: (one.usd, one.way.option), default=None)
    return Verdict(
        volume,
        best.way.option,
        label(best.way),
        story.band(best.ledger, drivers),
        "" if second is None else second.way.option,
        None if second is None else second.usd,
        None if second is None else risk.cheaper_frac(best.ledger, second.ledger, drivers),
    )


def label(way: Way) -> str:
    """A way in words: ``google/gemini-2.0-flash``, ``qwen3-32b on 1x h100-sxm``."""
    if way.pool is None:
        return way.id
    pool = way.pool.pool
    own = f"{pool.model} on {pool.gpus}x {pool.gpu}"
    return f"{own} + {way.offers[0].api.id}" if way.option == "mix" else own


def _row(
    study: _Study, option: str, found: Sequence[Mapping[str, Costed]], drivers: Mapping[str, risk.Driver]
) -> OptionRow:
    cells = [_cell(by.get(option), drivers) for by in found]
    middle = found[VOLUMES // 2].get(option)
    known = middle or next((by[option] for by in found if option in by), None)
    return OptionRow(
        option,
        OPTIONS[option],
        cells,
        {} if middle is None else middle.ledger.usd_by("pillar"),
        {} if middle is None else middle.ledger.usd_by("account"),
        days(study.at, option),
        launch_usd(study.at, option),
        "" if known is None else known.way.quality,
        "" if known is not None else _why_none(study, option),
    )


def _why_none(study: _Study, option: str) -> str:
    """Why an option serves at no volume."""
    fits = [fit for o in study.built.options if o.pool.option == option for fit in o.fits.values()]
    reasons = [fit.why_not for fit in fits if fit.why_not and not fit.why_not.startswith("quality")]
    if option in ("api", "hosted"):
        offers = [offer for case in study.built.planned for offer in case.offers]
        said = Counter(offer.why_not for offer in offers if offer.api.option == option and offer.why_not)
        return said.most_common(1)[0][0] if said else "no offering takes these requests"
    return reasons[0] if reasons else "no replica carries this traffic within the limits"


def _cell(one: Costed | None, drivers: Mapping[str, risk.Driver]) -> Cell | None:
    if one is None:
        return None
    why_not = one.way.why_not
    spread = story.band(one.ledger, drivers)
    return Cell(
        one.way.id, label(one.way), spread, not why_not, why_not, replicas_of(one), round(one.api_frac, 4)
    )


def days(at: CatalogAt, option: str) -> Band | None:
    """Calendar days from decision to traffic; ``None`` where no fact says."""
    weeks = at.find(f"staff/{STAFF[option]}", "launch_weeks")
    if weeks is None:
        return None
    middle = float(weeks.value)
    low, high = weeks.low or middle, weeks.high or middle
    return Band(low * DAYS_PER_WEEK, middle * DAYS_PER_WEEK, high * DAYS_PER_WEEK)


def _days(at: CatalogAt, option: str) -> float | None:
    found = days(at, option)
    return None if found is None else found.mid


def launch_usd(at: CatalogAt, option: str) -> float | None:
    """What the engineering of a launch costs once."""
    weeks = at.find(f"staff/{STAFF[option]}", "launch_weeks")
    if weeks is None:
        return None
    loaded = at.number("staff/platform-engineer", "usd_per_year") * at.number("staff/any", "loading_ratio")
    return float(weeks.value) / WEEKS_PER_YEAR * loaded


def _crossings(study: _Study, volumes: Sequence[float]) -> list[Crossing]:
    """Volumes at which the cheapest option changes, from well below the range to well above it."""
    low, high = volumes[0] / LOOK, volumes[-1] * LOOK
    steps = math.ceil(math.log(high / low, STEP))
    grid = [float(v) for v in np.geomspace(low, high, steps + 1)]
    found: list[Crossing] = []
    before = study.winner(grid[0] / study.base).way.option
    for left, right in pairwise(grid):
        by = study.allowed(right / study.base)
        after = _winner(by).way.option
        if after == before:
            if left > volumes[-1] and _far_enough(by):
                break
            continue
        near, far = left, right
        while far / near > 1.01:
            middle = math.sqrt(near * far)
            if study.winner(middle / study.base).way.option == before:
                near = middle
            else:
                far = middle
        found.append(Crossing(before, after, far, volumes[0] <= far <= volumes[-1]))
        before = after
    return found


def _far_enough(by: Mapping[str, Costed]) -> bool:
    """Whether more traffic changes no verdict: own replicas win already, or they are many and still lose."""
    return _winner(by).way.pool is not None or any(replicas_of(one)[1] > REPLICAS_MANY for one in by.values())


def _headline(verdicts: Sequence[Verdict], crossings: Sequence[Crossing], today: str) -> str:
    """The verdict by volume, in two sentences at most."""
    first, last = verdicts[0], verdicts[-1]
    inside = [crossing for crossing in crossings if crossing.inside]
    ends = list(dict.fromkeys(money(verdict.usd_per_month.mid) for verdict in (first, last)))
    cost = f"{' to '.join(ends)} a month"
    if inside:
        parts = [f"{OPTIONS[first.option]} up to {count(inside[0].requests_per_month)} requests a month"]
        for one, after in zip(inside, [*inside[1:], None], strict=True):
            upto = " beyond" if after is None else f" up to {count(after.requests_per_month)}"
            parts.append(f"{OPTIONS[one.after]}{upto}")
        said = f"Least cost: {', then '.join(parts)} ({cost})."
    elif first.option == "today":
        said = f"Stay with {today} over the whole range: {cost}."
    else:
        said = f"Use {OPTIONS[first.option]} ({last.label}) over the whole range: {cost}."
    beyond = [c for c in crossings if not c.inside and c.requests_per_month > last.requests_per_month]
    if beyond:
        then = beyond[0]
        said += f" {sentence(OPTIONS[then.after])} cost less from {count(then.requests_per_month)} on."
    close = [v for v in verdicts if v.sure_frac is not None and v.sure_frac < SURE_FRAC]
    if close:
        said += f" {_where(close, verdicts)} are within the uncertainty: choose by what you already run."
    return said


def _where(close: Sequence[Verdict], verdicts: Sequence[Verdict]) -> str:
    """At which volumes, and which two options."""
    ats = [count(verdict.requests_per_month) for verdict in close]
    start = verdicts.index(close[0])
    whole = list(verdicts[start : start + len(close)]) == list(close)
    at = f"At {' and '.join((', '.join(ats[:-1]), ats[-1]) if len(ats) > 1 else ats)}"
    if whole and len(close) > 1:
        at = f"From {ats[0]} to {ats[-1]}"
    pairs = {frozenset((verdict.option, verdict.runner_up)) for verdict in close}
    if len(pairs) > 1:
        return f"{at} the two cheapest options"
    return f"{at} {OPTIONS[close[0].option]} and {OPTIONS[close[0].runner_up]}"


def sentence(text: str) -> str:
    """The same with a capital letter."""
    return text[:1].upper() + text[1:]


def _regrets(study: _Study, found: Sequence[Mapping[str, Costed]]) -> list[Regret]:
    """What each allowed option chosen for the middle volume costs above the best, volume by volume."""
    ends = (0, VOLUMES // 2, VOLUMES - 1)
    best = [_winner(found[i]) for i in ends]
    hours = float(study.built.prepared.weight_h.sum())
    rows = []
    for option, one in found[VOLUMES // 2].items():
        if one.way.why_not:
            continue
        over: list[float | None] = []
        committed = commitment_usd(one.way, one.reserved, hours)
        for i, least in zip(ends, (other.usd for other in best), strict=True):
            if i == VOLUMES // 2:
                over.append(one.usd - least)
                continue
            again = costed(study.built, one.way, study.multiples[i], study.running, one.reserved)
            over.append(None if again is None else max(0.0, again.usd + committed - least))
        away = [0.0 if other.way.option == option else _days(study.at, other.way.option) for other in best]
        rows.append(Regret(option, label(one.way), over, one.reserved, away))
    return sorted(rows, key=lambda row: list(OPTIONS).index(row.option))


def _tripwires(
    study: _Study, found: Sequence[Mapping[str, Costed]], crossings: Sequence[Crossing]
) -> list[Tripwire]:
    months = study.at.number(MEMO, "trip_months")
    wires = []
    for one in crossings:
        if one.requests_per_month >= study.multiples[0] * study.base:
            change = f"from {OPTIONS[one.before]} to {OPTIONS[one.after]}"
            text = (
                f"Switch {change} when traffic stays above {count(one.requests_per_month)} requests "
                f"a month for {months:g} months."
            )
            wires.append(Tripwire("volume", text, None, one.requests_per_month, "requests/month"))
    wires += _price_wires(study, found[-1])
    wires += _people_wires(study, found[-1])
    wires += _proof_wires(study, found)
    return wires


def _price_wires(study: _Study, by: Mapping[str, Costed]) -> list[Tripwire]:
    """Prices at which the best API and the best own replicas tie at the high volume."""
    pair = _api_and_own(by)
    if pair is None:
        return []
    api, own = pair
    proof = "" if not own.way.why_not else ", once its quality is proven"
    volume = f"at {count(study.multiples[-1] * study.base)} requests a month"
    wires = []
    case = study.built.planned[0].stream
    mtok = float((case.usage.all_input_tok + case.usage.output_tok) @ study.built.prepared.weight_h) / 1e6
    paid = tokens_usd(api)
    price = paid / (mtok * study.multiples[-1])
    tie = (own.usd - (api.usd - paid)) / paid * price
    above = own.usd > api.usd
    if 0 < tie < price * PRICE_MOST:
        turn = "rises above" if above else "falls below"
        then = "own replicas cost less" if above else "the API costs less again"
        text = (
            f"If {label(api.way)} {turn} {_price(tie)} a million tokens, in and out together "
            f"(now {_price(price)}), {then} {volume}{proof}."
        )
        wires.append(Tripwire("api price", text, float(price), float(tie), "USD/Mtok"))
    rent, hours = rent_of(own)
    now = rent / hours if hours else 0.0
    gpu = own.way.pool.pool.gpu if own.way.pool is not None else ""
    tie = (api.usd - (own.usd - rent)) / hours if hours else 0.0
    if tie > 0:
        turn = "falls under" if above else "rises over"
        then = "own replicas cost less" if above else "the API costs less again"
        text = f"If {gpu} {turn} {_price(tie)} an hour (now {_price(now)}), {then} {volume}{proof}."
        wires.append(Tripwire("accelerator price", text, float(now), float(tie), "USD/h"))
    elif above:
        rest = money(own.usd - rent)
        text = (
            f"No price of accelerators makes own replicas cheaper {volume}: people and the rest alone are "
            f"{rest}, the API with its people {money(api.usd)}."
        )
        wires.append(Tripwire("accelerator price", text, float(now), 0.0, "USD/h"))
    return wires


def _api_and_own(by: Mapping[str, Costed]) -> tuple[Costed, Costed] | None:
    """The cheapest allowed API and the cheapest own replicas, unproven ones only where no other are."""
    apis = [by[o] for o in ("today", "api", "hosted") if o in by and not by[o].way.why_not]
    owns = [by[o] for o in ("selfhost", "slm") if o in by]
    if not apis or not owns:
        return None
    return min(apis, key=lambda one: one.usd), min(owns, key=lambda one: (bool(one.way.why_not), one.usd))


def _price(usd: float) -> str:
    """A unit price, to the cent where that says something."""
    return f"${usd:,.2f}" if usd >= 0.05 else money(usd)


def _people_wires(study: _Study, by: Mapping[str, Costed]) -> list[Tripwire]:
    """How few people must run the replicas for them to cost less than the best API, high volume."""
    pair = _api_and_own(by)
    if pair is None or pair[1].usd <= pair[0].usd:
        return []
    api, own = pair
    people = own.ledger.where(account="operations-staff").total_usd
    base = study.at.number("staff/self-hosted", "fte")
    usd_per_fte = sum(i.usd_per_month for i in Standings(study.at).people("selfhost", 1, 0.0, 0.0)) / base
    now, most = people / usd_per_fte, (people - (own.usd - api.usd)) / usd_per_fte
    if most < FTE_LEAST:
        return []
    volume = f"at {count(study.multiples[-1] * study.base)} requests a month"
    text = f"If no more than {most:.1f} people run the replicas (assumed {now:.1f}), they cost less {volume}."
    return [Tripwire("people", text, now, most, "FTE")]


def _proof_wires(study: _Study, found: Sequence[Mapping[str, Costed]]) -> list[Tripwire]:
    """What a proof of quality on one's own samples would be worth at the middle volume."""
    by = found[VOLUMES // 2]
    best = _winner(by)
    lacking = [one for one in by.values() if one.way.why_not and one.usd < best.usd]
    if not lacking:
        return []
    one = min(lacking, key=lambda other: other.usd)
    samples = story.samples(study.built)
    volume = f"at {count(study.base * study.multiples[VOLUMES // 2])} requests a month"
    text = (
        f"Grade {samples:,} samples of {label(one.way)} on your own task: if it is not worse it saves "
        f"{money(best.usd - one.usd)} a month {volume}."
    )
    return [Tripwire("proof", text, None, float(samples), "sample")]


def _assumed(study: _Study) -> list[Assumed]:
    """The defaults that stand in for what a log would have said."""
    ask, at = study.ask, study.at
    names = [(MEMO, name) for name in ("input_sigma", "output_sigma", "dispersion", "longest_ratio")]
    if ask.shape != "flat":
        names.append((f"shape/{ask.shape}", "default"))
    if not ask.now and not ask.reference:
        names.append((MEMO, "reference_model"))
    if ask.requests_per_month[0] == ask.requests_per_month[1]:
        names.append((MEMO, "range_ratio"))
    stated = ask.limits.of(study.built.planned[0].stream.workload)
    found = [fact for subject, name in names if (fact := at.find(subject, name)) is not None]
    found += _slo_facts(study, stated.ttft_p95_s is None, stated.tpot_p95_s is None)
    if stated.spare_replicas is None:
        found.append(at.fact("slo/redundancy", "spare_replicas"))
    if stated.quality_margin_points is None:
        found.append(at.fact("slo/quality", "quality_margin_frac"))
    found.append(at.fact(MEMO, "trip_months"))
    return [_named(fact, ask.catalog) for fact in found]


def _slo_facts(study: _Study, ttft: bool, tpot: bool) -> list[Fact]:
    """The catalog's limits where nobody states any."""
    at, stream = study.at, study.built.planned[0].stream
    slo = default_slo(at, stream.input_p95_tok)
    found = []
    for name, value, wanted in (
        ("ttft_p95_s", slo.ttft_p95_s, ttft),
        ("tpot_p95_s", slo.tpot_p95_s, tpot),
    ):
        subjects = [fact.subject for fact in at.each("slo/", "from_input_p95_tok")]
        subjects += [fact.subject for fact in at.each("slo/", "default")]
        fits = [at.fact(s, name) for s in subjects if at.number(s, name) == value]
        if wanted and fits:
            found.append(fits[0])
    return found


def _facts(study: _Study, by: Mapping[str, Costed]) -> list[Assumed]:
    """Facts behind the allowed options at the middle volume, those that carry most money first."""
    whole = Ledger(charge for one in by.values() if not one.way.why_not for charge in one.ledger)
    used = story.facts_used(study.built, story.Totals(Ledger(), whole, {}))[:FACTS_MOST]
    names = [use.id for use in used]
    subjects = {name.split("@")[0].split("[")[0].rpartition(".")[0] for name in names}
    facts = {fact.id: fact for subject in sorted(subjects) for fact in study.ask.catalog.about(subject)}
    return [_named(facts[name], study.ask.catalog) for name in names if name in facts]


def _named(fact: Fact, catalog: Catalog) -> Assumed:
    source = catalog.sources[fact.source]
    value = fact.value if isinstance(fact.value, str) else f"{fact.value:g}"
    words = catalog.attributes[fact.subject.partition("/")[0], fact.attribute].description
    return Assumed(
        fact.id, fact.subject, words, value, fact.unit, fact.low, fact.high, fact.kind, source.id,
        source.title, source.address,
    )  # fmt: skip


def _notes(
    study: _Study,
    trace: Trace,
    planned_at: float,
    shown: Sequence[Costed],
    verdicts: Sequence[Verdict],
) -> list[str]:
    built, ask = study.built, study.ask
    week = built.prepared.week
    notes = [
        f"Traffic is generated: {len(built.prepared.table):,} requests, {week.span_s / 86400:.0f} days at "
        f"{count(planned_at)} a month, replayed. Other volumes use the same capacity and the same bursts: "
        f"own replicas look a little cheap below, dear above."
    ]
    if not ask.now:
        notes.append("Nothing serves today: launch is counted for every option.")
    budget = ask.limits.budget_usd_per_month
    over = [] if budget is None else [v for v in verdicts if v.usd_per_month.mid > budget]
    if budget is not None and over:
        notes.append(
            f"Over the budget of {money(budget)} from {count(over[0].requests_per_month)} requests on."
        )
    doubtful = [offer.api.id for one in shown for offer in one.way.offers if offer.latency == "unverified"]
    if doubtful:
        names = ", ".join(dict.fromkeys(doubtful))
        notes.append(f"No published time to first token for {names}: measure it, the limit is unverified.")
    for miss in built.misses:
        notes.append(
            f"{miss.name} p95 {miss.found_s:.2f} s on {miss.pool} misses {miss.limit_s:g} s in replay."
        )
    unknown = [finding.text for finding in trace.findings if finding.level == "doubt"]
    return [*notes, *unknown]


def _range(volumes: Sequence[float]) -> str:
    return f"{count(volumes[0])} to {count(volumes[-1])}"
