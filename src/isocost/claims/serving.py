"""Claims about running: who serves for less, by volume, speed, certainty and time to launch."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median, quantiles

from isocost.claims.finding import (
    SURE,
    Claim,
    Figure,
    Finding,
    Part,
    Ruling,
    every,
    from_volume,
    less_frac,
    probable,
    ranged,
    said,
    truth,
)
from isocost.claims.world import BOUGHT, OWN, Versus, World, joined, middle_of
from isocost.develop import Ask, Tune, way
from isocost.errors import UnknownFact
from isocost.units import count, money, percent

BOUNDARY = (
    "everything counted with people, at the reference lengths; models proven not worse than the reference"
)
LIFE = "one month; launch spread over a year"
CHANGE = "prices of open weights by API, a team that exists already, longer prompts"
MODELS = (("llama-3.1-8b", 1), ("llama-3.1-70b", 4))
"""Models and accelerators on which generations are compared."""
LOADS = (1.0, 16.0, 64.0)
RIVALS = (
    (("api",), "against a closed API"),
    (("hosted",), "against open weights by API"),
    (("selfhost",), "against a larger open model on own replicas"),
)
"""What an own small model is held against."""


def _chance(versus: Versus, where: int, words: str) -> Figure:
    frac = versus.cheaper_frac[where]
    label = f"chance that {words}, {count(versus.volumes[where])} requests"
    return Figure(label, frac, "share", rests_on=versus.one[where].rests_on)


def d1(world: World, claim: Claim) -> Finding:
    """The ends of the range: an API at the lowest volume, own replicas at the highest."""
    low = world.costs().compare(OWN, BOUGHT)
    high = world.costs("large").compare(OWN, BOUGHT)
    parts = [
        Part(f"an API at {count(low.volumes[0])}", probable(1.0 - low.cheaper_frac[0])),
        Part(f"own at {count(high.volumes[-1])}", probable(high.cheaper_frac[-1])),
    ]
    crossing = joined(low, high).crossing
    ruling = every(parts)
    figures = [
        *low.shown()[:2],
        *high.shown()[2:],
        _chance(low, 0, "own costs less"),
        _chance(high, -1, "own costs less"),
    ]
    if crossing:
        figures.append(
            Figure("own costs less from", crossing, "requests/month", rests_on=low.one[0].rests_on)
        )
    told = (
        f"own costs less from {count(crossing)} requests a month"
        if crossing
        else "own costs less at no volume tested"
    )
    return world.finding(claim, ruling, told, figures, f"{BOUNDARY}; {LIFE}", CHANGE)


def d2(world: World, claim: Claim) -> Finding:
    """Sized for a middle volume, served at a tenth and at ten times it: what a wrong choice costs."""
    planned = world.planned("large")
    rows = {row.option: row for row in planned.regrets}
    bought = min(
        (rows[o] for o in BOUGHT if o in rows), key=lambda row: _mean(row.usd_per_month), default=None
    )
    own = min((rows[o] for o in OWN if o in rows), key=lambda row: _mean(row.usd_per_month), default=None)
    middle = planned.volumes[len(planned.volumes) // 2]
    if bought is None or own is None:
        return world.finding(
            claim,
            Ruling("not settled", "a workload that both can serve"),
            "one way cannot serve",
            [],
            BOUNDARY,
            CHANGE,
        )
    rests = world.costs("large").rests_on
    figures = []
    for row, words in ((bought, "API"), (own, "own replicas")):
        for lost, at in zip(row.usd_per_month, ("a tenth", "the volume foreseen", "ten times"), strict=True):
            if lost is not None:
                figures.append(Figure(f"{words}: above the best at {at}", lost, "USD/month", rests_on=rests))
    mine, theirs = _mean(own.usd_per_month), _mean(bought.usd_per_month)
    down = (own.usd_per_month[0] or 0.0) > (bought.usd_per_month[0] or 0.0)
    parts = [
        Part(
            f"traffic may stay at a tenth of the {count(middle)} requests foreseen, where own replicas cost"
            f" {money((own.usd_per_month[0] or 0.0) - (bought.usd_per_month[0] or 0.0))} a month more",
            truth(down),
        ),
        Part("traffic may as well grow as shrink", truth(mine > theirs)),
    ]
    return world.finding(
        claim,
        every(parts),
        f"mean regret {money(theirs)} a month by API, {money(mine)} with own replicas",
        figures,
        f"volumes of a tenth, one and ten times {count(middle)} requests, each as likely; a"
        " commitment is paid at each",
        "a middle volume below the crossing: then the API wins in any case",
    )


def _mean(lost: list[float | None]) -> float:
    known = [one for one in lost if one is not None]
    return sum(known) / len(known) if len(known) == len(lost) else math.inf


def d3(world: World, claim: Claim) -> Finding:
    """High volume against a closed API, and against every API."""
    closed, any_api = world.versus(OWN, ("api",)), world.versus(OWN, BOUGHT)
    parts = [
        Part(words, from_volume(one.volumes, one.cheaper_frac, one.crossing))
        for one, words in ((closed, "against a closed API"), (any_api, "against any API"))
    ]
    figures = [
        *any_api.shown()[2:],
        closed.other[-1],
        _chance(closed, -1, "own beats a closed API"),
        _chance(any_api, -1, "own beats any API"),
    ]
    return world.finding(
        claim,
        every(parts),
        f"{percent(any_api.cheaper_frac[-1])} likely against any API at {count(any_api.volumes[-1])},"
        f" {percent(closed.cheaper_frac[-1])} against a closed one",
        figures,
        f"{BOUNDARY}; {count(closed.volumes[0])} to {count(closed.volumes[-1])} requests a month",
        CHANGE,
    )


def d4(world: World, claim: Claim) -> Finding:
    """Tight limits at high volume: an own small model against each other way that keeps them.

    Its quality is taken as graded and good enough: nothing published can speak for a model yet to be made.
    """
    costs = world.costs("realtime")
    parts: list[Part] = []
    figures: list[Figure] = []
    told: list[str] = []
    for others, words in RIVALS:
        try:
            versus = costs.compare(("slm",), others, proven=False)
        except UnknownFact:
            parts.append(Part(f"{words}, which keeps no such limits", truth(True)))
            continue
        ruling = from_volume(versus.volumes, versus.cheaper_frac, versus.crossing)
        parts.append(Part(f"{words}, once its quality is graded as good", ruling))
        figures += [versus.one[-1], versus.other[-1]] if not figures else [versus.other[-1]]
        at_most = f"at {count(versus.volumes[-1])}"
        told.append(f"{percent(versus.cheaper_frac[-1])} likely {words} {at_most}")
    for name, words in (
        ("ttft_p95_s", "limit on the first token, p95"),
        ("tpot_p95_s", "limit on each further token, p95"),
    ):
        figures.append(world.fact(words, world.at.fact("claim/reference", name, "for=realtime"), "s"))
    return world.finding(
        claim,
        every(parts),
        f"cheaper: {', '.join(told)}; quality unproven until it is made and graded",
        figures,
        f"limits as stated; {BOUNDARY}",
        "graded answers of a small model on the task",
    )


def d7(world: World, claim: Claim) -> Finding:
    """Weeks to launch."""
    api, hosted, own, slm = (
        world.fact(words, world.at.fact(f"staff/{name}", "launch_weeks"), "weeks")
        for name, words in (
            ("api", "an API"),
            ("hosted-open", "open weights by API"),
            ("self-hosted", "own replicas"),
            ("slm", "an own small model"),
        )
    )
    frac = min(less_frac(api, own), less_frac(api, slm))
    return world.finding(
        claim,
        probable(frac),
        f"{said(api.value, 'weeks')} against {own.value:g} and {slm.value:g}; {percent(frac)} likely",
        [api, hosted, own, slm],
        "from the decision to traffic, engineering alone",
        "a platform that already runs models, or a slow review of a provider's terms",
    )


def d9(world: World, claim: Claim) -> Finding:
    """An own small model over its life against every other way, making it included."""
    parts: list[Part] = []
    figures: list[Figure] = []
    for others, words in RIVALS:
        versus = world.versus(("slm",), others, proven=False)
        ruling = from_volume(versus.volumes, versus.cheaper_frac, versus.crossing)
        parts.append(Part(words, ruling))
        figures += [versus.one[-1], versus.other[-1]] if not figures else [versus.other[-1]]
        if versus.crossing:
            label = f"cheaper {words} from"
            figures.append(Figure(label, versus.crossing, "requests/month", rests_on=versus.one[-1].rests_on))
    return world.finding(
        claim,
        every(parts),
        ", ".join(
            f"{one.name.removesuffix(' from')} from {count(one.value)}"
            for one in figures
            if one.unit == "requests/month"
        ),
        figures,
        "a tuned small model with labels, retraining and people; its quality taken as proven",
        CHANGE,
    )


def d19(world: World, claim: Claim) -> Finding:
    """Faster: to launch, and to answer. Dearer: by volume."""
    weeks = [
        world.fact(words, world.at.fact(f"staff/{name}", "launch_weeks"), "weeks")
        for name, words in (
            ("api", "weeks to launch, an API"),
            ("self-hosted", "weeks to launch, own replicas"),
        )
    ]
    special = {fact.subject.partition("/")[2] for fact in world.at.each("provider/", "own_chips")}
    speeds = [
        fact
        for fact in world.at.each("api/", "output_tok_per_s")
        if fact.subject.split("/")[1] not in special
    ]
    if len(speeds) < 2:
        raise UnknownFact("fewer than two facts of the speed of APIs on that day")
    by_speed = [float(fact.value) for fact in speeds]
    deciles = quantiles(by_speed, n=10, method="inclusive")
    typical = Figure(
        f"tokens a second of an answer, median and central 80 % of {len(speeds)} APIs",
        median(by_speed),
        "tok/s",
        deciles[0],
        deciles[-1],
        tuple(fact.id for fact in speeds[:4]),
        "on accelerators that can be rented",
    )
    own = _alone(world)
    versus = world.versus(OWN, BOUGHT)
    quick = [
        Part("faster to launch", probable(less_frac(*weeks))),
        Part("faster answers", probable(less_frac(own, typical))),
    ]
    dear = Part("dearer", from_volume(versus.volumes, versus.cheaper_frac, versus.crossing))
    ruling = dear.ruling if every(quick).verdict == "holds" else every([*quick, dear])
    return world.finding(
        claim,
        ruling,
        f"{weeks[0].value:g} against {weeks[1].value:g} weeks to launch; {typical.value:.0f} against"
        f" {own.value:.0f} tokens a second",
        [*weeks, typical, own, *versus.shown()],
        BOUNDARY,
        CHANGE,
    )


def _speed(world: World, model: str, gpu: str, gpus: int, in_flight: float) -> tuple[float, float]:
    """Tokens a second of one answer, and of a whole replica, as the performance model predicts."""
    from isocost.perf.candidates import candidates
    from isocost.perf.predict import load_of, quantities

    sent, made = world.reference("input_tok"), world.reference("output_tok")
    every_ = candidates(world.at, model, [gpu], max_gpus=gpus, context_tok=sent + made)
    fit = [i for i in range(every_.size) if every_.is_native[i] and int(every_.gpus[i]) == gpus]
    import numpy as np

    one = every_.select(np.array(fit[:1]))
    found = quantities(one.arch, one.gpu, one.setup, one.constants, load_of(in_flight, sent, made))
    return 1.0 / float(found["tpot"][0]), float(found["throughput"][0])


def _alone(world: World) -> Figure:
    """Speed of an answer on own replicas of a middle open model, a few requests in flight."""
    model, gpus = MODELS[-1]
    few, many = (_speed(world, model, "h100-sxm", gpus, load)[0] for load in LOADS[:2])
    label = f"tokens a second of an answer, {model} on {gpus} H100"
    return Figure(label, few, "tok/s", many, few, ("silicon-fit",), "between 1 and 16 requests in flight")


def q21(world: World, claim: Claim) -> Finding:
    """H100 over A100: measured, predicted, and for a dollar."""
    same, vllm, decode, best = (
        world.fact(words, world.at.fact(claim.subject, "speed_ratio", when), "x")
        for when, words in (
            ("stack=same", "measured: tokens a second, same software and format"),
            ("engine=vllm;stack=same", "measured: the same, with vLLM alone"),
            ("phase=decode;stack=same", "measured: a token of output, same software and format"),
            ("stack=best", "measured: tokens a second, each at its best format"),
        )
    )
    ratios = [
        _speed(world, model, "h100-sxm", gpus, load)[1] / _speed(world, model, "a100-80-sxm", gpus, load)[1]
        for model, gpus in MODELS
        for load in LOADS
    ]
    predicted = Figure(
        "predicted: tokens a second, same format",
        median(ratios),
        "x",
        min(ratios),
        max(ratios),
        ("silicon-fit",),
    )
    rents = {gpu: _rent(world, gpu) for gpu in ("h100-sxm", "a100-80-sxm")}
    dearer = rents["h100-sxm"].value / rents["a100-80-sxm"].value
    rests = (*same.rests_on, *rents["h100-sxm"].rests_on, *rents["a100-80-sxm"].rests_on)
    by_rent = Figure(
        "for a dollar of rent, same software and format",
        same.value / dearer,
        "x",
        (same.low or same.value) / dearer,
        (same.high or same.value) / dearer,
        rests,
    )
    best_rent = Figure(
        "for a dollar of rent, each at its best format",
        best.value / dearer,
        "x",
        (best.low or best.value) / dearer,
        (best.high or best.value) / dearer,
        (*best.rests_on, *rests[1:]),
    )
    figures = [same, vllm, decode, predicted, best, by_rent, best_rent]
    return world.finding(
        claim,
        ranged(figures, world.claimed(claim, "claimed_ratio")),
        f"{same.value:.2f}x measured like for like over three engines ({vllm.value:.2f}x with vLLM,"
        f" {decode.value:.2f}x while decoding), {predicted.value:.2f}x predicted, {best.value:.2f}x with FP8"
        " on the H100",
        [*figures, Figure("rent of an H100 over an A100, median on demand", dearer, "x", rests_on=rests[1:])],
        "tokens a second of a node of as many accelerators, prompts and answers together; rent is the"
        " median of clouds",
        "newer software on the A100, or efficiency counted by energy",
    )


def _rent(world: World, gpu: str) -> Figure:
    facts = [
        fact for fact in world.at.each("rental/", "usd_per_gpu_h")
        if fact.subject.endswith(f"/{gpu}") and "term=on_demand" in fact.when
    ]  # fmt: skip
    return Figure(
        gpu,
        middle_of((float(fact.value) for fact in facts), f"the rent of {gpu}"),
        "USD/h",
        rests_on=tuple(fact.id for fact in facts[:3]),
    )


def d20(world: World, claim: Claim) -> Finding:
    """How wide a cost is: by what is not known of prices and speeds, and by volume."""
    low, high = world.costs(), world.costs("large")
    figures: list[Figure] = []
    narrow, flat, spans = [], [], []
    for costs in (low, high):
        versus = costs.compare(OWN, BOUGHT)
        mid = len(versus.volumes) // 2
        if not 0 < mid < len(versus.volumes) - 1:
            raise UnknownFact("fewer than three volumes that both ways serve")
        mine, theirs = versus.one[mid], versus.other[mid]
        widths = [one.ends[1] / one.ends[0] for one in (mine, theirs)]
        label = f"{count(versus.volumes[mid])} requests a month"
        for words, width, figure in (("own", widths[0], mine), ("bought", widths[1], theirs)):
            figures.append(
                Figure(
                    f"high over low end of the 80 %: {words}, {label}", width, "x", rests_on=figure.rests_on
                )
            )
        narrow.append(widths[0] < widths[1])
        up = [group[mid + 1].value / group[mid - 1].value for group in (versus.one, versus.other)]
        span = versus.volumes[mid + 1] / versus.volumes[mid - 1]
        spans.append(f"{span:.0f}x the volume around {label}")
        for words, rise in zip(("own", "bought"), up, strict=True):
            figures.append(
                Figure(
                    f"cost over {span:.0f}x the volume: {words}, around {label}",
                    rise,
                    "x",
                    rests_on=mine.rests_on,
                )
            )
        flat.append(up[0] < up[1])
    parts = [
        Part(
            f"volume is what is uncertain: over {spans[-1]} own costs move"
            f" {figures[-2].value:.1f}x, bought ones {figures[-1].value:.1f}x",
            truth(all(flat)),
        ),
        Part("prices and speeds are what is uncertain", truth(all(narrow))),
    ]
    return world.finding(
        claim,
        every(parts),
        f"own spans {figures[0].value:.1f}x, bought {figures[1].value:.1f}x; over volume"
        f" {figures[2].value:.1f}x and {figures[3].value:.1f}x",
        figures,
        "width of the monthly cost: the central 80 %, and how it follows volume",
        "a measured speed and a fixed price of an accelerator narrow the band of own replicas",
    )


def d15(world: World, claim: Claim) -> Finding:
    """Ways to a model in the order of how much they adapt it, and what each costs once."""
    ask = Ask(params=world.reference("slm_params"), tokens=world.reference("slm_tok"), tune=Tune())
    figures = []
    for name, words in (
        ("buy", "as it is, bought"),
        ("hosted", "tuned by a host"),
        ("lora", "an adapter of one's own"),
        ("full", "all weights tuned"),
        ("scratch", "from scratch"),
    ):
        made = way(world.at, ask, name)
        if made is not None:
            band = made.book.total()
            figures.append(
                Figure(
                    words,
                    band.mid_usd,
                    "USD",
                    band.low_usd,
                    band.high_usd,
                    ("slm/any.examples", "staff/ml-engineer.usd_per_year"),
                )
            )
    falling = [less_frac(b, a) >= SURE for a, b in pairwise(figures)]
    ends = less_frac(figures[0], figures[-1])
    parts = [
        Part("from bought to made from scratch", probable(ends)),
        Part("no step between is surely cheaper", truth(not any(falling))),
    ]
    return world.finding(
        claim,
        every(parts),
        f"{money(figures[0].value)} as it is, {money(figures[1].value)} tuned,"
        f" {money(figures[-1].value)} from scratch",
        figures,
        "once, with labels, people and evaluation; running it apart",
        "labels or a team that exist already",
    )
