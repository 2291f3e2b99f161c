"""Claims about scaling: diminishing returns, where to stop, whether to train, what dominates, emergence."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from isocost.catalog.fact import parse_when
from isocost.claims.finding import (
    Claim,
    Figure,
    Finding,
    Part,
    Ruling,
    either,
    every,
    from_volume,
    less_frac,
    probable,
    share_of,
    truth,
)
from isocost.claims.world import World
from isocost.develop import Ask, Prices, laws, optima, way
from isocost.develop.optimum import HUNDREDTH, prices_of, usd_per_nat, worth
from isocost.develop.scaling import (
    FLOP_PER_PARAM_SERVED,
    FLOP_PER_PARAM_TOK,
    Law,
    best_params,
    budget_for,
    loss,
)
from isocost.risk import share
from isocost.units import count, money, money_range, percent

MORE = 10.0
"""How much larger a budget is, to see what the next hundredth of a nat then costs."""
ENDLESS = 1e15
PEOPLE = frozenset({"development-staff", "data", "safety-evaluation"})
"""Accounts of a making that are people's work."""
TRAINED = "gpt-3", "opt-175b", "gpt-4", "gemini-1.0-ultra"


def q4(world: World, claim: Claim) -> Finding:
    """The next hundredth of a nat, at a budget and at ten times it, and whether there is an end."""
    prices, size = prices_of(world.at, "h100-sxm"), world.reference("slm_params")
    figures, titles, rising, ending = [], [], [], []
    for one in optima(world.at, world.reference("slm_tok"), prices, params=size):
        if not one.law.has_loss:
            continue
        flop = one.trained.train_flop
        rise = usd_per_nat(one.law, flop * MORE, prices.train_usd_per_flop) / usd_per_nat(
            one.law, flop, prices.train_usd_per_flop
        )
        titles.append(one.law.title)
        rising.append(rise > 1.0)
        ending.append(one.worth_usd < ENDLESS)
        rests = (f"scaling/{one.law.name}.form",)
        figures.append(
            Figure(
                f"{one.law.title}: price of the next 0.01 nat at {MORE:g}x the budget",
                rise,
                "x",
                rests_on=rests,
            )
        )
        if ending[-1]:
            figures.append(
                Figure(
                    f"{one.law.title}: training beyond which a doubling gains < 0.01 nat",
                    one.worth_usd,
                    "USD",
                    rests_on=rests,
                )
            )
    if not rising or not all(rising):
        ruling = truth(False)
    elif all(ending):
        ruling = truth(True)
    else:
        named = either([title for title, ends in zip(titles, ending, strict=True) if ends])
        stops = [f.value for f in figures if f.unit == "USD"]
        words = f"the loss has a floor, as by {named}: the point lies at {span_of(stops)} of training"
        ruling = Ruling("holds when", words) if any(ending) else truth(False)
    low, high = min(f.value for f in figures if f.unit == "x"), max(f.value for f in figures if f.unit == "x")
    return world.finding(
        claim,
        ruling,
        f"the next 0.01 nat costs {low:.0f} to {high:.0f}x at ten times the budget",
        figures,
        "training compute alone, size and data at their best; loss, not ability",
        "a law without a floor of the loss: then there is no end",
    )


def d11(world: World, claim: Claim) -> Finding:
    """The rule's stop against half and twice the budget: whether it earns most."""
    prices, size = prices_of(world.at, "h100-sxm"), world.reference("slm_params")
    figures, right = [], []
    for one in laws(world.at):
        if not one.has_loss:
            continue
        value = usd_per_nat(one, budget_for(one, size), prices.train_usd_per_flop) * HUNDREDTH * MORE
        stop = worth(one, prices, value, 0.0)
        net = [_net(one, stop * times, value, prices) for times in (0.5, 1.0, 2.0)]
        right.append(net[1] >= max(net))
        lost = (net[1] - max(net[0], net[2])) / (stop * prices.train_usd_per_flop)
        figures.append(
            Figure(
                f"{one.title}: lost by half or twice the stop, of its budget",
                lost,
                "share",
                rests_on=(f"scaling/{one.name}.form",),
            )
        )
    return world.finding(
        claim,
        truth(bool(right) and all(right)),
        f"the stop earns most under {sum(right)} of {len(right)} laws",
        figures,
        "a hundredth of a nat has a constant worth; training alone",
        "a worth of quality that jumps at a threshold: then the slope misleads",
    )


def d13(world: World, claim: Claim) -> Finding:
    """The volume from which an own small model pays back in its life, against a closed API."""
    made = way(world.at, Ask(params=world.reference("slm_params")), "lora")
    assert made is not None
    band = made.book.total()
    months = world.reference("lifetime_months")
    versus = world.versus(("slm",), ("api",), proven=False)
    gains = [(b.value - a.value) * months for a, b in zip(versus.one, versus.other, strict=True)]
    figures = [
        Figure(
            "an adapter with labels and people, once; counted in the months",
            band.mid_usd,
            "USD",
            band.low_usd,
            band.high_usd,
            ("slm/any.examples", "staff/ml-engineer.usd_per_year"),
        ),
        world.per_request(world.of_class("middle")),
        *versus.shown(),
    ]
    ruling = from_volume(versus.volumes, versus.cheaper_frac, versus.crossing)
    if ruling.verdict == "holds when":
        ruling = Ruling("holds when", f"served by a closed model today, {ruling.when}")
    told = [
        f"{'gains' if gain > 0.0 else 'loses'} {money(abs(gain))} over {months:g} months at {count(volume)}"
        " requests a month"
        for gain, volume in ((gains[0], versus.volumes[0]), (gains[-1], versus.volumes[-1]))
    ]
    return world.finding(
        claim,
        ruling,
        ", ".join(told),
        figures,
        "an own small model at the reference lengths, made and kept, its quality taken as proven, against"
        " a closed API",
        "volume, the API's price, or a small model that is not good enough",
    )


def d10(world: World, claim: Claim) -> Finding:
    """Compute's share: in known programmes, in a small model, and in running one by volume."""
    half = Figure("half", 0.5)
    found: list[tuple[str, Figure]] = []
    for name in TRAINED:
        parts = world.programme_parts(name)
        staff = parts["staff"]
        machines = [part for key, part in parts.items() if key not in ("staff", "total")]
        low, mid, high = share_of(
            [sum(getattr(one, end) for one in machines) for end in ("low_usd", "median_usd", "high_usd")],
            (staff.low_usd, staff.median_usd, staff.high_usd),
        )
        rests = world.rests_on(world.known(name), "epoch-development-cost")
        found.append((f"making {name}", Figure(f"making {name}", mid, "share", low, high, rests)))
    made = way(world.at, Ask(params=world.reference("slm_params")), "lora")
    assert made is not None
    machines_of = {charge.account for charge in made.book.charges} - PEOPLE
    low, mid, high = share(made.book.ledger, machines_of, made.book.drivers)
    tuned = Figure("tuning a small model", mid, "share", low, high, ("slm/any.engineer_weeks",))
    found.append((tuned.name, tuned))
    for which in ("reference", "large"):
        costs = world.costs(which)
        for option, words in (("api", "an API"), ("selfhost", "own replicas")):
            part = costs.compute(option)
            label = f"running on {words} at {count(costs.middle)} requests a month"
            found.append((label, Figure(label, part.mid, "share", part.low, part.high, costs.rests_on)))
    parts_of = [
        Part(f"{label} ({percent(one.value)})", probable(less_frac(half, one))) for label, one in found
    ]
    figures = [one for _, one in found]
    worst = min(figures, key=lambda one: one.value)
    best = max(figures, key=lambda one: one.value)
    return world.finding(
        claim,
        every(parts_of),
        f"{percent(worst.value)} ({worst.name}) to {percent(best.value)} ({best.name})",
        figures,
        "tokens bought, accelerators and energy over all accounts; largest is more than half, at 80 % likely",
        "a platform team that exists already, or a larger fleet",
    )


def d16(world: World, claim: Claim) -> Finding:
    """The tokens served at which serving costs as much as training, against what is served in a life."""
    prices = prices_of(world.at, "h100-sxm")
    months = world.reference("lifetime_months")
    each = world.reference("input_tok") + world.reference("output_tok")
    figures, parts = [], []
    size, read = world.reference("slm_params"), world.reference("slm_tok")
    train = FLOP_PER_PARAM_TOK * size * read * prices.train_usd_per_flop
    serve = FLOP_PER_PARAM_SERVED * size * prices.serve_usd_per_flop
    even = train / serve
    figures.append(
        Figure(
            "tokens served that cost as much as the run, for each token trained on",
            even / read,
            "x",
            rests_on=("development/any.inference_mfu_frac", "development/posterior.mfu_frac"),
        )
    )
    for end in ("low", "high"):
        volume = world.reference("requests_per_month", f"end={end}")
        share = train / (train + serve * volume * each * months)
        label = f"a small model from scratch that serves {count(volume)} requests a month"
        figures.append(
            Figure(
                f"training's share of compute: {label}",
                share,
                "share",
                rests_on=(f"claim/reference.requests_per_month[end={end}]",),
            )
        )
        parts.append(Part(label, truth(share > 0.5)))
    fleet = world.at.find("disclosed/facebook-2021", "compute_multiplier")
    if fleet is not None:
        # Experiments, training and inference took 10, 20 and 70 parts of one operator's power.
        figures.append(world.fact("one operator of 2021: experiments and training over training", fleet, "x"))
    ruling = every(parts)
    threshold = even / each / months
    if ruling.verdict == "holds when":
        ruling = Ruling("holds when", f"it serves fewer than {count(threshold)} requests a month")
    return world.finding(
        claim,
        ruling,
        f"serving overtakes training at {count(even)} tokens",
        figures,
        f"final run of {size / 1e9:.0f}B on {count(read)} tokens against serving over {months:g}"
        " months; compute alone",
        "fewer requests in its life, or a longer training",
    )


def d22(world: World, claim: Claim) -> Finding:
    """Whether scores of large open models follow from smaller ones, out of sample."""
    rows: dict[tuple[str, str], list[tuple[float, float, str]]] = defaultdict(list)
    for fact in world.at.each("model/", "score"):
        params = world.at.find(fact.subject, "params_total")
        if params is not None and 0.0 < float(fact.value) < 1.0:
            rows[_bench(fact.when)].append((float(params.value), float(fact.value), fact.id))
    least = world.number(claim, "least_models")
    figures, better = [], []
    largest = {name: max((len(rows[one]), one[1]) for one in rows if one[0] == name)[1] for name, _ in rows}
    for (benchmark, harness), points in sorted(rows.items()):
        if harness != largest[benchmark]:
            continue
        points.sort()
        cut = 2 * len(points) // 3
        if cut < least or len(points) - cut < least / 2 or points[cut - 1][0] == points[0][0]:
            continue
        skill = _skill(points, cut)
        better.append(skill > 0.0)
        figures.append(
            Figure(
                f"{benchmark} ({harness}), {len(points)} open models",
                skill,
                "share",
                rests_on=tuple(one[2] for one in points[:2]),
            )
        )
    figures.sort(key=lambda one: one.value)
    parts = [Part(one.name.partition(" (")[0], truth(one.value <= 0.0)) for one in figures]
    ruling = every(parts)
    if ruling.verdict == "holds when":
        ruling = Ruling(
            "holds when",
            f"the benchmark is {either([p.words for p in parts if p.ruling.verdict == 'holds'])}",
        )
    return world.finding(
        claim,
        ruling,
        f"size foretells the larger models on {sum(better)} of {len(better)} benchmarks",
        figures,
        "share of squared error that a line of the score's log-odds over log size saves on the largest third,"
        " fitted to the rest; zero is no better than the smaller models' mean",
        "families of one recipe over sizes: these are of different years and makers",
    )


def span_of(usd: list[float]) -> str:
    """The least to the most of amounts."""
    return money_range(min(usd), max(usd)) if len(usd) > 1 else money(usd[0])


def _skill(points: list[tuple[float, float, str]], cut: int) -> float:
    x = np.log([one[0] for one in points])
    y = np.array([math.log(one[1] / (1.0 - one[1])) for one in points])
    slope, start = np.polyfit(x[:cut], y[:cut], 1)
    foretold = 1.0 / (1.0 + np.exp(-(start + slope * x[cut:])))
    seen = np.array([one[1] for one in points[cut:]])
    plain = float(np.mean([one[1] for one in points[:cut]]))
    return float(1.0 - ((foretold - seen) ** 2).sum() / ((plain - seen) ** 2).sum())


def _bench(when: str) -> tuple[str, str]:
    parts = parse_when(when)
    return parts.get("benchmark", ""), parts.get("harness", "")


def _net(one: Law, flop: float, usd_per_hundredth: float, prices: Prices) -> float:
    size = best_params(one, flop)
    nats = loss(one, size, flop / (FLOP_PER_PARAM_TOK * size))
    return -nats / HUNDREDTH * usd_per_hundredth - flop * prices.train_usd_per_flop
