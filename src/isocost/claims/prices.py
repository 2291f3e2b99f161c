"""Claims about prices: how fast they fall, what an application pays, what premium stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from statistics import median, quantiles

import msgspec
import numpy as np

from isocost.catalog import Fact
from isocost.claims.finding import (
    Claim,
    Figure,
    Finding,
    Part,
    Range,
    Ruling,
    every,
    ranged,
    said,
    truth,
)
from isocost.claims.world import BOUGHT, CLASSES, OWN, World, middle_of, months_later
from isocost.errors import UnknownFact
from isocost.forecast.prices import band, paths, pooled_falls
from isocost.units import count, money, percent

RENTAL = "prices/rental/h100-sxm"
ABOUT = 2.0
"""About a hundred times is read as within this factor of it."""
ON_DEMAND = "term=on_demand"
CAPABILITY = "prices/capability/"
MODEL: Mapping[str, str] = {
    "small": "a small model",
    "middle": "a middle model",
    "frontier": "a frontier model",
}
"""Classes of model in words."""


def q3(world: World, claim: Claim) -> Finding:
    """The fall of a year: published fits, our forecast, the same model's own price."""
    pooled = pooled_falls(world.at)
    figures = [
        Figure(
            f"the record price of a fixed score, {pooled.fits} published fits",
            pooled.factor_per_year,
            "x",
            pooled.low,
            pooled.high,
            ("epoch-price-trends",),
        )
    ]
    for series, words, source in (
        ("capability", "the cheapest price of today's quality, on an average day", "epoch-price-trends"),
        ("list-maker", "the price of one model at its maker", "litellm-releases"),
        ("rental", "the rent of an accelerator", "h100-rental-notes"),
    ):
        low, mid, high = (float(part[-1]) for part in band(paths(world.at, series, 12)))  # type: ignore[arg-type]
        figures.append(Figure(words, 1.0 / mid, "x", 1.0 / high, 1.0 / low, (source,)))
    return world.finding(
        claim,
        ranged(figures, world.claimed(claim, "claimed_ratio")),
        ", ".join(said(one.value, "x") for one in figures) + " by what is followed",
        figures,
        "price of a year ago over price of today; about ten is read as 5 to 20",
        "what is followed: a score, a model or a machine",
    )


def _api_month(world: World, size: str, of: str) -> Figure:
    """What the tokens of a class of model cost a month at a stated volume, over the spread of the volume."""
    each = world.per_request(world.of_class(size))
    volume = world.at.fact("claim/reference", "requests_per_month", f"of={of}")
    middle = float(volume.value)
    return Figure(
        f"{MODEL[size]}, {count(middle)} requests a month",
        each.value * middle,
        "USD/month",
        each.value * (volume.low or middle),
        each.value * (volume.high or middle),
        (*each.rests_on, volume.id),
    )


def q7(world: World, claim: Claim) -> Finding:
    """The range of spending over volumes: tokens alone, and with everything."""
    claimed = world.claimed(claim, "claimed_usd_per_month")
    low, high = (world.reference("requests_per_month", f"end={end}") for end in ("low", "high"))
    figures = []
    for size in CLASSES:
        each = world.per_request(world.of_class(size))
        figures += [
            Figure(
                f"{MODEL[size]}, tokens alone, {count(volume)} requests",
                each.value * volume,
                "USD/month",
                rests_on=each.rests_on,
            )
            for volume in (low, high)
        ]
    planned = world.planned()
    ends = [planned.verdicts[0], planned.verdicts[-1]]
    whole = [
        Figure(
            f"least cost with people and upkeep, {count(one.requests_per_month)} requests",
            one.usd_per_month.mid,
            "USD/month",
            one.usd_per_month.low,
            one.usd_per_month.high,
            world.costs().rests_on,
        )
        for one in ends
    ]
    tokens = [one.value for one in figures]
    parts = [
        Part("tokens alone are counted", truth(min(tokens) < claimed.low and max(tokens) >= claimed.high)),
        Part(
            "people and upkeep are counted too",
            truth(whole[0].value < claimed.low and whole[1].value >= claimed.high),
        ),
    ]
    return world.finding(
        claim,
        every(parts),
        f"{money(min(f.value for f in figures))} to {money(max(f.value for f in figures))} for"
        f" tokens, from {money(whole[0].value)} with people",
        [*figures, *whole],
        f"a month, {count(low)} to {count(high)} requests of the reference lengths",
        "longer prompts, other volumes, or people who cost nothing",
    )


def q8(world: World, claim: Claim) -> Finding:
    """High traffic by class of model."""
    figures = [_api_month(world, size, "traffic") for size in CLASSES]
    named = [
        msgspec.structs.replace(one, name=f"{MODEL[size]} answers")
        for size, one in zip(CLASSES, figures, strict=True)
    ]
    return world.finding(
        claim,
        ranged(named, world.claimed(claim, "claimed_usd_per_month")),
        ", ".join(money(one.value) for one in figures) + " by class of model",
        figures,
        "tokens alone; thousands are read as 1,000 to 10,000; bands are those of the volume",
        "longer requests, a cache, or another volume",
    )


def q9(world: World, claim: Claim) -> Finding:
    """Three sizes of firm, each by class of model."""
    figures: list[Figure] = []
    right: dict[str, list[bool]] = {size: [] for size in CLASSES}
    for of, words in (("startup", "start-up"), ("midsize", "mid-sized"), ("enterprise", "enterprise")):
        claimed = world.claimed(claim, "claimed_usd_per_month", of)
        for size in CLASSES:
            one = _api_month(world, size, of)
            figures.append(msgspec.structs.replace(one, name=f"{words}: {one.name}"))
            right[size].append(claimed.holds(one.value))
    parts = [Part(f"{MODEL[size]} answers", truth(all(found))) for size, found in right.items()]
    told = [f"{money(figures[i].value)}-{money(figures[i + 2].value)}" for i in (0, 3, 6)]
    return world.finding(
        claim,
        every(parts),
        ", ".join(told) + " a month for the three",
        figures,
        "tokens alone, small to frontier model; bands are those of the volume",
        "longer requests or another volume for each size of firm",
    )


def q18(world: World, claim: Claim) -> Finding:
    """GPT-3.5's quality: cheapest price with its score on two days, and the model's own list price."""
    days = {
        of: date.fromisoformat(world.at.text(claim.subject, "claimed_on", f"of={of}"))
        for of in ("then", "now")
    }
    claims = {of: world.claimed(claim, "claimed_usd_per_mtok", of) for of in days}
    figures, parts = [], []
    for subject, words in ((f"{CAPABILITY}mmlu/gpt-3.5", "the cheapest model with its score"),):
        facts = {of: world.catalog.at(day).fact(subject, "cheapest_usd_per_mtok") for of, day in days.items()}
        figures += [world.fact(f"{words}, {days[of]:%b %Y}", fact, "USD/Mtok") for of, fact in facts.items()]
        parts.append(
            Part(words, truth(all(claims[of].holds(float(fact.value)) for of, fact in facts.items())))
        )
    own = {of: world.input_price("openai/gpt-3.5-turbo", day) for of, day in days.items()}
    figures += own.values()
    parts.append(Part("the model itself", truth(all(claims[of].holds(own[of].value) for of in days))))
    fall = figures[0].value / figures[1].value
    return world.finding(
        claim,
        every(parts),
        f"{money(figures[0].value)} to {money(figures[1].value)}: {fall:.0f}x; its own price"
        f" {money(own['then'].value)} to {money(own['now'].value)}",
        figures,
        "input of a model with GPT-3.5's score on MMLU, input and output as the source blends them",
        "another benchmark than MMLU as the measure of its quality",
    )


def q19(world: World, claim: Claim) -> Finding:
    """Three dated prices: as labelled, and of the models whose prices they were."""
    labelled = world.at.text(claim.subject, "offering")
    figures, as_said, as_sold, days = [], [], [], []
    for order in ("1", "2", "3"):
        price = world.number(claim, "claimed_usd_per_mtok", order)
        day = date.fromisoformat(world.at.text(claim.subject, "claimed_on", f"of={order}"))
        sold = world.input_price(world.at.text(claim.subject, "offering", f"of={order}"), day)
        named = world.input_price(labelled, day)
        figures.append(sold)
        as_said.append(abs(named.value / price - 1.0) < 1e-9)
        as_sold.append(abs(sold.value / price - 1.0) < 1e-9)
        days.append(day)
    named = world.input_price(labelled, world.on)
    figures.append(
        Figure(f"{named.name} (as the claim names it)", named.value, named.unit, rests_on=named.rests_on)
    )
    months = (days[-1] - days[0]).days * 12.0 / 365.25
    took = Figure("months from the first to the last", months, "months", rests_on=("epoch-price-trends",))
    labels = [one.name.partition(",")[0] for one in figures[:3]]
    parts = [
        Part(f"of {labelled.partition('/')[2]} alone", truth(all(as_said))),
        Part(
            f"read as {labels[0]}, {labels[1]} and {labels[2]}, in {months:.0f} months", truth(all(as_sold))
        ),
    ]
    return world.finding(
        claim,
        every(parts),
        f"{sum(as_said)} of 3 prices were {labelled.partition('/')[2]}'s, {sum(as_sold)} of 3 are"
        f" right for {', '.join(labels)}",
        [*figures, took],
        "list price of input at the maker, on the day each model came",
        "a dated price list that shows other prices of that model",
    )


def _fell(facts: Sequence[Fact], months: float) -> tuple[float, str] | None:
    """How often cheaper a score was after some months from its first price; ``None`` where nobody knows."""
    first = facts[0]
    if first.valid_from is None:
        return None
    end = months_later(first.valid_from, months)
    reached = [fact for fact in facts if fact.valid_from is not None and fact.valid_from <= end]
    return float(first.value) / float(reached[-1].value), first.id


def q20(world: World, claim: Claim) -> Finding:
    """The fall of two years for every score that is followed; the chance of the next."""
    years, ahead = (world.number(claim, "claimed_years", of) for of in ("past", "next"))
    past, then = (world.number(claim, "claimed_ratio", of) for of in ("past", "next"))
    found = []
    for subject in world.catalog.having("cheapest_usd_per_mtok", CAPABILITY):
        fell = _fell(world.catalog.history(subject, "cheapest_usd_per_mtok"), 12.0 * years)
        if fell is not None:
            found.append((fell[0], subject.removeprefix(CAPABILITY), fell[1]))
    found.sort()
    ratios = [one[0] for one in found]
    middle_of(ratios, "prices of a score")
    deciles = quantiles(ratios, n=10, method="inclusive")
    reached = sum(ratio >= past for ratio in ratios) / len(ratios)
    fact = Figure(
        f"the cheapest price of a score over {years:g} years, median of {len(ratios)} scores",
        median(ratios),
        "x",
        deciles[0],
        deciles[-1],
        tuple(one[2] for one in found),
    )
    share = Figure(f"scores that fell {past:g}x or more", reached, "share", rests_on=("epoch-price-trends",))
    drawn = paths(world.at, "capability", round(12 * ahead))[:, -1]
    chance = float((drawn <= 1.0 / then).mean())
    low, mid, high = (float(end) for end in np.quantile(drawn, [0.1, 0.5, 0.9]))
    own = Figure(
        f"one model's own list price over {years:g} years",
        1.0 / float(np.quantile(paths(world.at, "list-maker", round(12 * years))[:, -1], 0.5)),
        "x",
        rests_on=("litellm-releases",),
    )
    coming = Figure(
        f"fall over the next {ahead:g} years, forecast",
        1.0 / mid,
        "x",
        1.0 / high,
        1.0 / low,
        ("epoch-price-trends",),
    )
    odds = Figure(f"chance of {then:g}x or more", chance, "share", rests_on=("epoch-price-trends",))
    least = world.number(claim, "least_chance_frac")
    about = Range(past / ABOUT, past * ABOUT)
    followed = ranged([fact, own], about)
    ruling = every(
        [Part("the past", followed), Part(f"{then:g}x more in {ahead:g} years", truth(chance >= least))]
    )
    if chance >= least and followed.verdict == "holds when":
        ruling = Ruling("holds when", f"what is followed is {followed.when}")
    return world.finding(
        claim,
        ruling,
        f"{fact.value:.0f}x in {years:g} years at the median of scores, {own.value:.1f}x for a model's own"
        f" price; {percent(chance)} chance of {then:g}x more in {ahead:g}",
        [fact, share, own, coming, odds],
        "the cheapest price with a score at least that of a reference model, from its first day; a"
        " forecast beyond 24 months is beyond what the past holds",
        "prices of scores after early 2025: what is followed ends there",
    )


def q22(world: World, claim: Claim) -> Finding:
    """The bill of a support application, then and now, by class of model."""
    volume = world.number(claim, "requests_per_month")
    sent, made = world.reference("input_tok"), world.reference("output_tok")
    day = date.fromisoformat(world.at.text(claim.subject, "claimed_on", "of=then"))
    then, now = [], []
    for size in CLASSES:
        old = world.per_request(world.at.text(claim.subject, "offering", f"of={size}"), day)
        new = world.per_request(world.of_class(size))
        then.append(Figure(f"then, {old.name}", old.value * volume, "USD/month", rests_on=old.rests_on))
        now.append(Figure(f"now, {new.name}", new.value * volume, "USD/month", rests_on=new.rests_on))
    before, today = (world.claimed(claim, "claimed_usd_per_month", of) for of in ("then", "now"))
    parts = [
        Part(
            f"{old.name.rpartition(', ')[2]} then, {new.name.rpartition(', ')[2]} now",
            truth(before.holds(old.value) and today.holds(new.value)),
        )
        for old, new in zip(then, now, strict=True)
    ]
    return world.finding(
        claim,
        every(parts),
        f"then {', '.join(money(f.value) for f in then)}; now {', '.join(money(f.value) for f in now)}",
        [*then, *now],
        f"tokens alone, {sent:,.0f} in and {made:,.0f} out of {sent + made:,.0f}",
        "another split of the tokens, or another model for the job",
    )


def q23(world: World, claim: Claim) -> Finding:
    """Output over input at makers, one entry a model."""
    makers = world.at.text(claim.subject, "makers").split(";")
    by: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for fact in world.at.each("api/", "output_usd_per_mtok"):
        maker = fact.subject.split("/")[1]
        sent = world.at.find(fact.subject, "input_usd_per_mtok")
        made = float(fact.value)
        if not fact.when and maker in makers and sent is not None and float(sent.value) > 0 and made > 0:
            by[maker].append((made / float(sent.value), fact.id))
    claimed = world.claimed(claim, "claimed_ratio")
    figures = []
    for maker in makers:
        ratios = [one[0] for one in by[maker]]
        if len(ratios) < 2:
            continue
        ends = quantiles(ratios, n=10, method="inclusive")
        figures.append(
            Figure(maker, median(ratios), "x", ends[0], ends[-1], tuple(one[1] for one in by[maker][:3]))
        )
    ratios = [ratio for found in by.values() for ratio, _ in found]
    middle_of(ratios, "prices of makers")
    inside = sum(claimed.holds(ratio) for ratio in ratios) / len(ratios)
    share = Figure(f"share of {len(ratios)} offerings inside", inside, "share", rests_on=figures[0].rests_on)
    typical = ranged(figures, claimed)
    ruling = (
        typical
        if typical.verdict != "holds" or inside >= 0.8
        else Ruling("holds when", "the typical model of a maker is meant")
    )
    return world.finding(
        claim,
        ruling,
        f"median {median(ratios):.1f}x; {percent(inside)} of {len(ratios)} offerings inside",
        [*figures, share],
        "list prices of makers for their own models today, median and central 80 % of each",
        "a change of the makers' price lists",
    )


def q24(world: World, claim: Claim) -> Finding:
    """Rents of 2024 on three days, and today's."""
    claimed = world.claimed(claim, "claimed_usd_per_h")
    figures = []
    for of in ("early", "middle", "late"):
        day = date.fromisoformat(world.at.text(claim.subject, "claimed_on", f"of={of}"))
        figures.append(
            world.fact(
                f"{day:%B %Y}, on demand",
                world.catalog.at(day).fact(RENTAL, "usd_per_gpu_h", ON_DEMAND),
                "USD/h",
            )
        )
    today = world.fact("today, on demand", world.at.fact(RENTAL, "usd_per_gpu_h", ON_DEMAND), "USD/h")
    spot = world.at.find(RENTAL, "usd_per_gpu_h", "term=spot")
    later = [today] if spot is None else [today, world.fact("today, spot", spot, "USD/h")]
    before = ranged(figures, claimed)
    parts = [
        Part("above it", before),
        Part("come down since", truth(all(one.value < figures[0].value for one in later))),
    ]
    ruling = every(parts) if before.verdict != "holds when" else Ruling("holds when", before.when)
    if parts[1].ruling.verdict == "fails":
        ruling = Ruling("fails")
    return world.finding(
        claim,
        ruling,
        ", then ".join(f"${one.value:.2f}" for one in (*figures, today)),
        [*figures, *later],
        "an accelerator-hour on demand; no dated spot price of 2024 was found",
        "a dated spot price of 2024",
    )


def d18(world: World, claim: Claim) -> Finding:
    """What the frontier costs over the cheapest of an old quality by date, and a host's margin today."""
    premiums = []
    keys = [key for key in world.catalog.keys(claim.subject) if key.attribute == "offering" and key.when]
    days = []
    for key in sorted(keys, key=lambda key: key.when):
        day = date.fromisoformat(key.when.partition("=")[2])
        dear = world.input_price(world.at.text(*key), day)
        cheap = world.catalog.at(day).find(f"{CAPABILITY}mmlu/gpt-3.5-turbo", "cheapest_usd_per_mtok")
        if cheap is not None:
            ratio = dear.value / float(cheap.value)
            days.append(day)
            premiums.append(
                Figure(
                    f"{dear.name}: input over the cheapest of GPT-3.5's score",
                    ratio,
                    "x",
                    rests_on=(*dear.rests_on, cheap.id),
                )
            )
    costs = world.costs("large")
    hosted, own = costs.cells(("hosted",))[-1], costs.cells(OWN)[-1]
    if not premiums:
        raise UnknownFact("no price of a frontier model", where=claim.subject)
    figures = [*premiums]
    parts = [
        Part("a premium at the frontier", truth(bool(premiums) and premiums[-1].value >= premiums[0].value)),
    ]
    if hosted is not None and own is not None:
        margin = 1.0 - own.usd_per_month.mid / hosted.usd_per_month.mid
        figures.append(
            Figure(
                f"a host's price over the cost of own replicas, {count(costs.volumes[-1])} requests",
                margin,
                "share",
                rests_on=costs.rests_on,
            )
        )
        parts.append(Part("a margin of who serves open weights at scale", truth(margin > 0.0)))
    first, last = premiums[0].value, premiums[-1].value
    return world.finding(
        claim,
        every(parts),
        f"the frontier's price was {first:.0f}x the floor in {days[0]:%Y}, {last:.0f}x in {days[-1]:%B %Y}",
        figures,
        "list price of input of a dear model of its day over the cheapest price of a fixed old score",
        "a frontier model sold at the floor's price",
    )


def q26(world: World, claim: Claim) -> Finding:
    """Own replicas or an own small model against what is bought, at millions of queries."""
    wanted = world.claimed(claim, "claimed_requests_per_month")
    costs = world.costs()
    closed, every_api = costs.compare(OWN, ("api",)), costs.compare(OWN, BOUGHT)
    figures, parts = [], []
    for versus, words in ((closed, "against a closed API"), (every_api, "against open weights by API too")):
        at = [
            (v, f, o)
            for v, f, o in zip(versus.volumes, versus.one, versus.other, strict=True)
            if wanted.holds(v)
        ]
        rulings = [truth(o.value > f.value) for _, f, o in at]
        for volume, mine, theirs in at:
            ratio = mine.value / theirs.value
            figures.append(
                Figure(
                    f"own over bought, {words}, {count(volume)} requests", ratio, "x", rests_on=mine.rests_on
                )
            )
        if versus.crossing is not None:
            figures.append(
                Figure(
                    f"own costs less {words} from",
                    versus.crossing,
                    "requests/month",
                    rests_on=versus.one[0].rests_on,
                )
            )
        start = versus.crossing
        if rulings and all(one.verdict == "holds" for one in rulings):
            ruling = Ruling("holds")
        elif start is not None and start <= wanted.high:
            ruling = Ruling("holds when", f"from {count(start)} a month")
        else:
            ruling = Ruling("fails")
        parts.append(Part(words, ruling))
    starts = [count(v.crossing) if v.crossing else "never" for v in (closed, every_api)]
    return world.finding(
        claim,
        every(parts),
        f"own is cheaper from {starts[0]} a month (closed API), {starts[1]} (any API)",
        figures,
        "everything counted with people, at the reference lengths; models proven not worse than the"
        " reference",
        "prices of open weights by API, a team that exists already, longer prompts",
    )
