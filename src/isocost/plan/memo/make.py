"""A memo from a few numbers: plan once, size and price every way at each volume, say what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from isocost import risk
from isocost.plan.market.prepare import Request, prepare
from isocost.plan.memo.result import (
    COMPUTE,
    OPTIONS,
    Cell,
    Crossing,
    Memo,
    OptionRow,
    Verdict,
    sentence,
)
from isocost.plan.memo.sources import assumed_of, facts_of
from isocost.plan.memo.study import Study, crossings_of, days, launch_usd, regrets_of, winner_of
from isocost.plan.memo.traffic import MEMO, VOLUMES, MemoAsk, reference_of, traffic, volumes_of
from isocost.plan.memo.ways import (
    Costed,
    label,
    replicas_of,
    ways_of,
)
from isocost.plan.memo.wires import tripwires_of
from isocost.plan.result import Band
from isocost.plan.run import solved
from isocost.plan.tell import story
from isocost.trace.schema import Trace
from isocost.units import SECONDS_PER_DAY, count, money, span

SURE_FRAC = 0.8
"""Share of scenarios below which two options are called as good as each other."""


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
    study = Study(ask, at, built, ways_of(built, today), multiples, bool(today))
    found = _without_idle_mix([study.best(multiple) for multiple in study.multiples])
    drivers = story.drivers_of(built, [one.ledger for by in found for one in by.values()])
    shown = [one for by in found for one in by.values() if not one.way.why_not]
    verdicts = [_verdict(v, by, drivers) for v, by in zip(volumes, found, strict=True)]
    crossings = crossings_of(study, volumes)
    return Memo(
        title=f"{_range(volumes)} requests a month of {ask.input_tok:,.0f} + {ask.output_tok:,.0f} tokens",
        version=version("isocost"),
        priced_on=ask.on.isoformat(),
        price_basis=ask.catalog.basis,
        input_tok=ask.input_tok,
        output_tok=ask.output_tok,
        now=ask.now,
        reference=reference.id,
        headline=_headline(verdicts, crossings, today, ask.limits.budget_usd_per_month),
        volumes=volumes,
        verdicts=verdicts,
        options=[_row(study, option, found, drivers) for option in OPTIONS if _shown(option, found)],
        crossings=crossings,
        regrets=regrets_of(study, found),
        tripwires=tripwires_of(study, found, crossings),
        assumed=assumed_of(study),
        facts=facts_of(study, found[VOLUMES // 2]),
        notes=_notes(study, trace, planned_at, shown),
    )


def _without_idle_mix(found: Sequence[dict[str, Costed]]) -> list[dict[str, Costed]]:
    """The options by volume, less a mix that is the cheapest at no volume: it only repeats its parts."""
    if any(winner_of(by).way.option == "mix" for by in found):
        return list(found)
    return [{option: one for option, one in by.items() if option != "mix"} for by in found]


def _shown(option: str, found: Sequence[Mapping[str, Costed]]) -> bool:
    """Whether an option has a row: today and a mix only where there is one."""
    return option not in ("today", "mix") or any(option in by for by in found)


def _verdict(volume: float, by: Mapping[str, Costed], drivers: Mapping[str, risk.Driver]) -> Verdict:
    best = winner_of(by)
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


def _row(
    study: Study, option: str, found: Sequence[Mapping[str, Costed]], drivers: Mapping[str, risk.Driver]
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
        None if middle is None else Band(*risk.share(middle.ledger, COMPUTE, drivers)),
    )


def _why_none(study: Study, option: str) -> str:
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


def _headline(
    verdicts: Sequence[Verdict], crossings: Sequence[Crossing], today: str, budget: float | None
) -> str:
    """The verdict by volume in two sentences at most, and whether the budget holds."""
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
    over = [] if budget is None else [v for v in verdicts if v.usd_per_month.mid > budget]
    if budget is not None and over:
        where = "at every volume" if len(over) == len(verdicts) else _from(over[0])
        said += f" Over the budget of {money(budget)} {where}."
    close = [v for v in verdicts if v.sure_frac is not None and v.sure_frac < SURE_FRAC]
    if close:
        said += f" {_where(close, verdicts)} are within the uncertainty: choose by what you already run."
    return said


def _from(first: Verdict) -> str:
    return f"from {count(first.requests_per_month)} requests a month on"


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


def _notes(
    study: Study,
    trace: Trace,
    planned_at: float,
    shown: Sequence[Costed],
) -> list[str]:
    built, ask = study.built, study.ask
    today = built.planned[0].today
    reference = ask.now if today is None else today.id
    week = built.prepared.week
    notes = [
        f"Traffic is generated: {len(built.prepared.table):,} requests, "
        f"{span(week.span_s / SECONDS_PER_DAY)} at {count(planned_at)} a month, replayed. "
        f"Other volumes use the same capacity and the same bursts: "
        f"own replicas look a little cheap below, dear above. Tokens are those of "
        f"{reference}: other models' counts are converted."
    ]
    if not ask.now:
        notes.append("Nothing serves today: launch is counted for every option.")
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
