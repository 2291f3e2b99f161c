"""Claims about what known models cost to train: each figure with the boundary that it draws."""

from __future__ import annotations

import math
from datetime import date

import msgspec

from isocost.claims.finding import (
    Claim,
    Figure,
    Finding,
    Part,
    Range,
    Ruling,
    contradicted,
    every,
    ranged,
    truth,
)
from isocost.claims.world import World
from isocost.develop import Ask, way
from isocost.develop.published import ANY
from isocost.units import DAYS_PER_YEAR, money, money_range

ACCELERATORS = ("prices/rental/h100-sxm", "usd_per_gpu_h", "term=on_demand")
COMPUTE = "final run alone, by three methods of costing; money of the year of publication"
ROLES = (
    ("a contributor", ""),
    ("a lead of a laboratory's report", "role=lead"),
    ("a head of a laboratory's programme", "role=head"),
)


def boundaries(world: World, name: str, *, whole: bool = True) -> list[Figure]:
    """A known model under each boundary that the literature draws."""
    found = [world.amortised(name), world.rent(name)]
    if whole and world.catalog.having("people", world.known(name).subject):
        found.append(world.whole(name))
    return found


def said(figures: list[Figure]) -> str:
    """Figures in one line: the least and the greatest."""
    return money_range(min(one.value for one in figures), max(one.value for one in figures))


def by_boundary(world: World, claim: Claim, name: str) -> Finding:
    """A claimed range of dollars against a model's cost under every boundary."""
    figures = boundaries(world, name)
    claimed = world.claimed(claim, "claimed_usd")
    return world.finding(
        claim,
        ranged(figures, claimed),
        f"{said(figures)} by boundary",
        figures,
        COMPUTE,
        "a boundary named with the claim, or other disclosed hours",
    )


def q1(world: World, claim: Claim) -> Finding:
    """From millions to billions."""
    claimed = world.claimed(claim, "claimed_usd")
    names = ("opt-175b", "gpt-3", "gpt-4", "gemini-1.0-ultra")
    programmes = [
        msgspec.structs.replace(world.whole(name), name=f"{name}, the whole programme") for name in names
    ]
    top = world.fact(
        "all research compute of a laboratory in a year",
        world.at.fact("disclosed/openai-2024", "rnd_compute_usd"),
        "USD",
    )
    params = world.reference("slm_params")
    tuned = way(world.at, Ask(params=params), "lora")
    assert tuned is not None
    band = tuned.book.total()
    small = Figure(
        f"an adapter of a {params / 1e9:.0f}B model, people included",
        band.mid_usd,
        "USD",
        band.low_usd,
        band.high_usd,
        ("slm/any.examples", "staff/ml-engineer.usd_per_year"),
    )
    whole = all(one.value >= claimed.low for one in programmes) and top.value >= claimed.high
    parts = [
        Part("it is trained from scratch, and all research of a laboratory counts", truth(whole)),
        Part("tuning an open model counts too", truth(small.value >= claimed.low)),
    ]
    figures = [*programmes, top, small]
    return world.finding(
        claim,
        every(parts),
        f"{money(small.value)} for an adapter to {money(top.value)} for a year of research",
        figures,
        "whole programmes with staff; research compute of a year; an adapter with labels and people",
        "a programme from scratch below a million dollars, or tuning not counted as development",
    )


def q2(world: World, claim: Claim) -> Finding:
    """GPT-3, 4 to 5 million."""
    return by_boundary(world, claim, "gpt-3")


def q5(world: World, claim: Claim) -> Finding:
    """GPT-3, 10 to 15 million, with energy in the millions."""
    figures = boundaries(world, "gpt-3")
    at = world.catalog.at(ANY)
    known = world.known("gpt-3")
    kwh = at.fact(known.subject, "energy_kwh")
    price = world.catalog.at(known.run.published).fact("energy/us-industrial", "usd_per_kwh")
    energy = Figure(
        f"its energy: {float(kwh.value) / 1e3:,.0f} MWh at industrial prices",
        float(kwh.value) * float(price.value),
        "USD",
        rests_on=(kwh.id, price.id),
    )
    parts = [
        Part("the run", ranged(figures, world.claimed(claim, "claimed_usd"))),
        Part("its energy", ranged([energy], world.claimed(claim, "claimed_usd", "energy"))),
    ]
    return world.finding(
        claim,
        every(parts),
        f"{said(figures)} by boundary; energy {money(energy.value)}",
        [*figures, energy],
        COMPUTE,
        "disclosed hours or energy several times those published",
    )


def q10(world: World, claim: Claim) -> Finding:
    """GPT-4's compute."""
    return by_boundary(world, claim, "gpt-4")


def q11(world: World, claim: Claim) -> Finding:
    """Llama 3 405B's compute, at the rent of its day too."""
    name = "llama-3.1-405b"
    figures = boundaries(world, name)
    run = world.known(name).run
    fact = world.catalog.at(run.published).find(*ACCELERATORS)
    if fact is not None and run.chip_h is not None:
        hours = world.catalog.at(ANY).fact(world.known(name).subject, "chip_hours")
        usd = run.chip_h * float(fact.value)
        figures.append(
            Figure("rented on the open market of that month", usd, "USD", rests_on=(hours.id, fact.id))
        )
    return world.finding(
        claim,
        ranged(figures, world.claimed(claim, "claimed_usd")),
        f"{said(figures)} by boundary",
        figures,
        COMPUTE,
        "another price of an hour: the accelerator-hours are disclosed",
    )


def q12(world: World, claim: Claim) -> Finding:
    """Gemini Ultra."""
    return by_boundary(world, claim, "gemini-1.0-ultra")


def q13(world: World, claim: Claim) -> Finding:
    """Pay of a researcher."""
    at = world.catalog.at(ANY)
    subject = "training/programme-method"
    load = at.fact(subject, "salary_overhead_ratio")
    figures = []
    for words, role in ROLES:
        pay, equity = (
            at.find(subject, name, role) or at.fact(subject, name)
            for name in ("salary_usd_per_year", "equity_usd_per_year")
        )
        low, high = (
            (one or float(pay.value)) * float(load.value) + (two or float(equity.value))
            for one, two in ((pay.low, equity.low), (pay.high, equity.high))
        )
        usd = float(pay.value) * float(load.value) + float(equity.value)
        figures.append(Figure(words, usd, "USD/year", low, high, (pay.id, load.id, equity.id)))
    engineer, loading = (
        world.at.fact("staff/ml-engineer", "usd_per_year"),
        world.at.fact("staff/any", "loading_ratio"),
    )
    times = float(loading.value)
    paid = world.fact("an engineer outside a laboratory", engineer, "USD/year", times)
    figures.append(msgspec.structs.replace(paid, rests_on=(engineer.id, loading.id)))
    return world.finding(
        claim,
        ranged(figures, world.claimed(claim, "claimed_usd_per_year")),
        f"{said(figures)} by role",
        figures,
        "salary with the employer's cost, and equity; United States",
        "newer surveys of pay: these are of 2023",
    )


def q14(world: World, claim: Claim) -> Finding:
    """A whole programme over its raw compute, by what raw compute is."""
    owned: list[tuple[float, tuple[str, ...]]] = []
    rented: list[tuple[float, tuple[str, ...]]] = []
    for name in ("gpt-3", "opt-175b", "gpt-4", "gemini-1.0-ultra"):
        whole = world.whole(name)
        for base, group in ((world.amortised(name), owned), (world.rent(name), rented)):
            group.append((whole.value / base.value, (*whole.rests_on, *base.rests_on)))
    figures = [
        _over(group, words)
        for group, words in (
            (owned, "raw compute is hardware by use + energy"),
            (rented, "raw compute is rent"),
        )
    ]
    ruling = ranged(figures, world.claimed(claim, "claimed_ratio"))
    posterior = world.at.fact("development/posterior", "programme_multiplier")
    figures.append(world.fact("the next programme, over hardware by use + energy", posterior, "x"))
    return world.finding(
        claim,
        ruling,
        f"{figures[0].value:.1f}x over hardware and energy, {figures[1].value:.1f}x over rent",
        figures,
        "experiments, failed runs and staff over the final run; median of four programmes, bands of the four",
        "raw compute named: owned or rented",
    )


def q15(world: World, claim: Claim) -> Finding:
    """GPT-3, and GPT-4 over GPT-3, boundary by boundary."""
    small, large = boundaries(world, "gpt-3"), boundaries(world, "gpt-4")
    ratios = [
        Figure(f"GPT-4 over GPT-3: {a.name}", b.value / a.value, "x", rests_on=(*a.rests_on, *b.rests_on))
        for a, b in zip(small, large, strict=True)
    ]
    usd, times_ = world.claimed(claim, "claimed_usd"), world.claimed(claim, "claimed_ratio")
    parts = [
        Part(one.name, truth(usd.holds(one.value) and times_.holds(ratio.value)))
        for one, ratio in zip(small, ratios, strict=True)
    ]
    times = [one.value for one in ratios]
    return world.finding(
        claim,
        every(parts),
        f"GPT-3 {said(small)}; GPT-4 {min(times):.0f} to {max(times):.0f}x of it",
        [*small, *ratios],
        COMPUTE,
        "a boundary named with the claim",
    )


def q16(world: World, claim: Claim) -> Finding:
    """A billion for the next class: the trend of the frontier carried on, and what was disclosed."""
    day = date.fromisoformat(world.at.text(claim.subject, "claimed_on"))
    growth = world.at.fact("disclosed/frontier", "cost_growth_per_year")
    years = (day - world.known("gpt-4").run.published).days / DAYS_PER_YEAR
    times = float(growth.value) ** years
    figures = []
    for base in boundaries(world, "gpt-4", whole=False):
        ends = [
            math.hypot(
                math.log(end / base.value),
                years * math.log((other or float(growth.value)) / float(growth.value)),
            )
            for end, other in zip(base.ends, (growth.low, growth.high), strict=True)
        ]
        usd = base.value * times
        name = f"GPT-4 on the frontier's trend: {base.name}"
        low, high = usd * math.exp(-ends[0]), usd * math.exp(ends[1])
        figures.append(Figure(name, usd, "USD", low, high, (*base.rests_on, growth.id)))
    disclosed = [
        world.fact(words, world.at.fact("disclosed/openai-2024", name), "USD")
        for name, words in (
            ("final_run_usd", "all final runs of a laboratory's models of 2024"),
            ("rnd_compute_usd", "all research compute of that laboratory in that year"),
        )
    ]
    figures.append(disclosed[0])
    return world.finding(
        claim,
        ranged(figures, world.claimed(claim, "claimed_usd")),
        f"{money(figures[0].value)} to {money(figures[1].value)} on the trend;"
        f" {money(disclosed[1].value)} is a year of all research",
        [*figures, disclosed[1]],
        "the final run alone, on the trend since 2016 and as disclosed; research compute is beside it",
        "hours or compute disclosed by the maker: none are",
    )


def q17(world: World, claim: Claim) -> Finding:
    """What 100 million bought: the fall it states, the fall of its own rate, and published progress."""
    years = world.number(claim, "claimed_years")
    then, now = world.claimed(claim, "claimed_usd", "then"), world.claimed(claim, "claimed_usd", "now")
    rate = world.claimed(claim, "claimed_ratio")
    stated = Range(then.low / now.high, then.high / now.low)
    implied = Range(rate.low**years, rate.high**years)
    halving = world.at.fact("disclosed/language-models", "halving_months")
    slow, fast = halving.high or float(halving.value), halving.low or float(halving.value)
    one, many = (
        Figure(
            f"fall of compute for the same loss in {span:g} year{'s' * (span != 1)}",
            2.0 ** (12.0 * span / float(halving.value)),
            "x",
            2.0 ** (12.0 * span / slow),
            2.0 ** (12.0 * span / fast),
            (halving.id,),
        )
        for span in (1.0, years)
    )
    own = [
        Figure(
            "its dollars, as stated",
            math_mean(stated),
            "x",
            *stated,
            rests_on=(f"{claim.subject}.claimed_usd[end=low;of=now]",),
        ),
        Figure(
            f"its own rate over {years:g} years",
            math_mean(implied),
            "x",
            *implied,
            rests_on=(f"{claim.subject}.claimed_ratio[end=low]",),
        ),
    ]
    both = contradicted(stated, implied)
    parts = [Part("the rate", ranged([one], rate)), Part("the dollars", ranged([many], stated))]
    ruling = Ruling("fails") if both else every(parts)
    told = (
        f"{stated.low:.1f}-{stated.high:.0f}x stated, {implied.low:.0f}-{implied.high:.0f}x by its own rate"
    )
    return world.finding(
        claim,
        ruling,
        told,
        [*own, one, many],
        "compute for a fixed loss; the two parts of a claim cannot both be true"
        if both
        else "compute for a fixed loss",
        "the claim's two parts stated so that they agree",
    )


def math_mean(ends: Range) -> float:
    """The geometric middle of a range.

    >>> math_mean(Range(9.0, 16.0))
    12.0
    """
    return float((ends.low * ends.high) ** 0.5)


def _over(group: list[tuple[float, tuple[str, ...]]], words: str) -> Figure:
    values = sorted(value for value, _ in group)
    middle = (values[1] * values[2]) ** 0.5 if len(values) == 4 else values[len(values) // 2]
    rests = tuple(dict.fromkeys(name for _, names in group for name in names))
    return Figure(words, middle, "x", values[0], values[-1], rests)


def capex(world: World, claim: Claim) -> Finding:
    """Q25: announced and spent, with what was read of each."""
    near = world.number(claim, "tolerance_frac")
    figures, parts = [], []
    for who, words in (("microsoft", "Microsoft"), ("alphabet", "Alphabet")):
        stated = world.claimed(claim, "claimed_usd", who)
        round_ = Range(stated.low * (1.0 - near), stated.high * (1.0 + near))
        pair = [
            world.fact(f"{words}, {what}", world.at.fact(claim.subject, name, f"of={who}"), "USD")
            for name, what in (("announced_usd", "as announced"), ("spent_usd", "as spent"))
        ]
        figures += pair
        parts.append((pair[0], pair[1], round_))
    rulings = [
        Part("as announced early in 2025", truth(all(r.holds(a.value) for a, _, r in parts))),
        Part("as spent", truth(all(r.touches(*b.ends) for _, b, r in parts))),
    ]
    return world.finding(
        claim,
        every(rulings),
        "; ".join(f"{one.name} {money(one.value)}" for one in figures[1::2]),
        figures,
        "all capital expenditure, not that of AI alone; fiscal and calendar year differ",
        "the final account of Alphabet's year, and AI's part of either",
    )
