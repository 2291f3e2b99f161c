"""Claims about privacy, law, value and quality."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from isocost.catalog.fact import parse_when
from isocost.claims.finding import (
    Claim,
    Figure,
    Finding,
    Part,
    Ruling,
    below_volume,
    every,
    from_volume,
    less_frac,
    probable,
    truth,
)
from isocost.claims.prices import MODEL
from isocost.claims.world import BOUGHT, CLASSES, OWN, World, middle_of
from isocost.units import count, money, percent

PROVIDERS = ("eu-ai-act-gpai", "eu-ai-act-watermark")
"""Duties that fall on whoever provides a model."""
REVIEW = "terms-review"
"""What is due where data leave the house."""
MONTHS = 12.0
GROUPS = {
    "answers in code": "code",
    "documents": "rag",
    "extraction from documents": "extraction",
    "cases of support with tools": "tools",
}.items
COMMON = 20
"""Models whose scores on a harness make it one that is in use."""
KINDS = 3
"""Kinds of work on which a model must be scored for its spread over them to be looked at."""
REASONING = "reasoning"
CREATIVE = "creative"


def _hour(world: World) -> tuple[float, tuple[str, ...]]:
    """Dollars for an hour of the people who see to duties."""
    facts = [
        world.at.fact("staff/platform-engineer", "usd_per_year"),
        world.at.fact("staff/any", "loading_ratio"),
        world.at.fact("staff/any", "hours_per_year"),
    ]
    pay, load, hours = (float(fact.value) for fact in facts)
    return pay * load / hours, tuple(fact.id for fact in facts)


def _duty(world: World, name: str) -> Figure:
    """A duty in dollars a month: its set-up over a year, and its yearly hours."""
    each, rests = _hour(world)
    once, yearly = (world.at.fact(f"duty/{name}", part) for part in ("setup_h", "yearly_h"))
    low, high = (
        sum(float(fact.value if end is None else end) for fact, end in zip((once, yearly), ends, strict=True))
        * each
        / MONTHS
        for ends in ((once.low, yearly.low), (once.high, yearly.high))
    )
    usd = (float(once.value) + float(yearly.value)) * each / MONTHS
    title = world.at.text(f"duty/{name}", "title")
    return Figure(f"duty: {title}", usd, "USD/month", low, high, (once.id, yearly.id, *rests))


def d5(world: World, claim: Claim) -> Finding:
    """Where data may not leave, nothing else serves; where they may under a contract, what each way costs."""
    review = _duty(world, REVIEW)
    versus = world.costs().compare(OWN, BOUGHT)
    middle = len(versus.volumes) // 2
    own, bought = versus.one[middle], versus.other[middle]
    dear = own.value - bought.value
    served = [cell for cell in world.costs().cells(OWN) if cell is not None]
    parts = [
        Part(
            "data may not leave the house: no API is left, and own replicas serve for"
            f" {money(own.value)} a month",
            truth(bool(served)),
        ),
        Part(
            f"data may leave under a contract, {count(versus.volumes[middle])} requests a month",
            probable(versus.cheaper_frac[middle]),
        ),
    ]
    above = f"volume above {count(versus.crossing)} a month, or " if versus.crossing else ""
    return world.finding(
        claim,
        every(parts),
        f"own costs {money(abs(dear))} a month {'more' if dear > 0.0 else 'less'}, the duty that an API adds"
        f" ({money(review.value)}) counted",
        [own, bought, review],
        "cost of serving and of the duties that the way adds; a fine or a leak is not priced",
        f"{above}a price on a leak",
    )


def d6(world: World, claim: Claim) -> Finding:
    """What the provider's share of the duties saves, against what the ways cost."""
    saved = [_duty(world, name) for name in PROVIDERS]
    worth = sum(one.value for one in saved)
    versus = world.versus(OWN, BOUGHT)
    cheaper = [
        less_frac(a, Figure("", b.value - worth, "", b.ends[0] - worth, b.ends[1] - worth))
        for a, b in zip(versus.one, versus.other, strict=True)
    ]
    dear = versus.one[0].value - versus.other[0].value
    above = f"volume above {count(versus.crossing)} a month; " if versus.crossing else ""
    return world.finding(
        claim,
        below_volume(versus.volumes, cheaper, versus.crossing),
        f"the provider's duties are worth {money(worth)} a month; own costs {money(abs(dear))}"
        f" {'more' if dear > 0.0 else 'less'} at {count(versus.volumes[0])}",
        [*saved, *versus.shown()],
        "hours of duties at the cost of people, the review of an API's terms among its costs; against D5:"
        " both name another way for the same data",
        f"{above}a duty that falls on the deployer whatever the way",
    )


def d8(world: World, claim: Claim) -> Finding:
    """Fine-tuned small models against a large general one, on tasks of a domain."""
    base, large = (
        world.fact(words, world.at.fact(claim.subject, "gain_points", f"over={over}"), "points")
        for over, words in (
            ("base", "fine-tuned over the same model as it is"),
            ("gpt-4", "fine-tuned small model over GPT-4"),
        )
    )
    tasks = world.fact("tasks", world.at.fact(claim.subject, "tasks"), "tasks")
    own, api = (world.at.fact(f"staff/{name}", "launch_weeks") for name in ("slm", "api"))
    weeks = Figure(
        "further weeks to launch", float(own.value) - float(api.value), "weeks", rests_on=(own.id, api.id)
    )
    versus = world.versus(("slm",), ("api",), proven=False)
    cost = from_volume(versus.volumes, versus.cheaper_frac, versus.crossing)
    good = base.value > 0.0 and large.value > 0.0
    ruling = truth(False) if not good else cost
    if ruling.verdict == "holds when":
        volume = cost.when.removeprefix("from ")
        words = (
            f"the task has labels, {weeks.value:.0f} further weeks do not matter, and there are"
            f" {volume} or more"
        )
        ruling = Ruling("holds when", words)
    return world.finding(
        claim,
        ruling,
        f"{large.value:+.0f} points over GPT-4 on {tasks.value:.0f} tasks; {weeks.value:+.0f} weeks",
        [base, large, tasks, weeks, versus.one[-1], versus.other[-1]],
        "tasks with labels, GPT-4 with a prompt, 2024; not the frontier of today",
        "the same test against a model of today",
    )


def d12(world: World, claim: Claim) -> Finding:
    """Revenue of an interaction over its cost, for a resolved case and for an advertisement, by model."""
    figures = []
    turns = world.at.number(claim.subject, "requests_per_unit", "value=high")
    high = world.at.fact(claim.subject, "revenue_usd_per_request", "value=high")
    low = world.at.fact(claim.subject, "revenue_usd_per_request", "value=consumer")
    good, bad, told = [], [], []
    for size in CLASSES:
        each = world.per_request(world.of_class(size))
        case = 1.0 - turns * each.value / float(high.value)
        query = 1.0 - each.value / float(low.value)
        figures.append(
            Figure(
                f"margin of a resolved case, {each.name}", case, "share", rests_on=(*each.rests_on, high.id)
            )
        )
        figures.append(
            Figure(
                f"margin of an answer paid by advertising, {each.name}",
                query,
                "share",
                rests_on=(*each.rests_on, low.id),
            )
        )
        good.append(case > 0.5)
        bad.append(query < 0.0)
        told.append(f"{percent(case)} of a case, {percent(query)} of an ad-paid answer")
    hosted = world.costs("large").cells(("hosted", *OWN))[-1]
    if hosted is not None:
        each_usd = hosted.usd_per_month.mid / world.costs("large").volumes[-1]
        own = 1.0 - each_usd / float(low.value)
        figures.append(
            Figure(
                f"margin of an answer paid by advertising, {hosted.label} at scale",
                own,
                "share",
                rests_on=(low.id,),
            )
        )
    parts = [
        Part(f"{MODEL[size]} answers ({margins})", truth(works and hard))
        for size, works, hard, margins in zip(CLASSES, good, bad, told, strict=True)
    ]
    return world.finding(
        claim,
        every(parts),
        f"margin {percent(figures[0].value)} to {percent(figures[4].value)} of a case;"
        f" {percent(figures[1].value)} to {percent(figures[5].value)} of an ad-paid answer",
        figures,
        "cost of tokens alone over public revenue for a unit; people and sales are left out",
        "revenue for an answer as of 2030 in the forecast, or subscriptions",
    )


def d14(world: World, claim: Claim) -> Finding:
    """What the cheapest compute can save at most, against an advantage in revenue."""
    gain = world.at.fact(claim.subject, "advantage_frac")
    costs = world.costs("large")
    dear, cheap = costs.cells(("api",))[-1], costs.cells(("hosted", *OWN))[-1]
    assert dear is not None
    assert cheap is not None
    volume = costs.volumes[-1]
    most = (dear.usd_per_month.mid - cheap.usd_per_month.mid) / volume
    needed = most / float(gain.value)
    figures = [
        Figure("most that cheaper serving saves on a request", most, "USD", rests_on=costs.rests_on),
        world.fact("further revenue by data or distribution", gain, "share"),
        Figure(
            "revenue for a request above which the advantage is worth more",
            needed,
            "USD",
            rests_on=(gain.id,),
        ),
    ]
    parts = []
    for value, words in (("high", "a resolved support case"), ("consumer", "an answer paid by advertising")):
        fact = world.at.fact("claim/d12", "revenue_usd_per_request", f"value={value}")
        turns = world.at.find("claim/d12", "requests_per_unit", f"value={value}")
        each = float(fact.value) / (float(turns.value) if turns is not None else 1.0)
        figures.append(Figure(f"revenue for a request: {words}", each, "USD", rests_on=(fact.id,)))
        parts.append(Part(f"revenue is like that of {words}, {money(each)} a request", truth(each > needed)))
    return world.finding(
        claim,
        every(parts),
        f"worth more above {money(needed)} of revenue a request",
        figures,
        f"an advantage of {percent(float(gain.value))} in revenue, {gain.kind}, against the whole gap from a"
        " closed API to the cheapest way",
        "a measured advantage: none was found in public",
    )


def d17(world: World, claim: Claim) -> Finding:
    """The best scores of today by kind of work, and whether there is any score of creative work."""
    best: dict[str, list[tuple[float, float, str, str]]] = defaultdict(list)
    latest: dict[str, str] = {}
    scores: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for fact in world.at.each("model/", "score"):
        parts_of = parse_when(fact.when)
        name, harness = parts_of.get("benchmark", ""), parts_of.get("harness", "")
        scores[name, harness].append((float(fact.value), fact.id))
        if len(scores[name, harness]) >= COMMON:
            latest[name] = max(latest.get(name, ""), harness)
    for name, harness in latest.items():
        domain = world.at.find(f"benchmark/{name}", "domain")
        found = sorted(scores[name, harness], reverse=True)
        kind = "" if domain is None else str(domain.value)
        best[kind].append((found[0][0], median(one[0] for one in found), name, found[0][1]))
    gap = world.number(claim, "least_gap_points") / 100.0
    hard = middle_of((one[0] for one in best[REASONING]), "scores of reasoning")
    figures = [_best(best[REASONING], "complex reasoning")]
    parts = []
    for words, kind in GROUPS():
        if best[kind]:
            figure = _best(best[kind], words)
            figures.append(figure)
            ahead = 100.0 * (figure.value - hard)
            parts.append(
                Part(f"{words} ({ahead:+.0f} points over complex reasoning)", truth(ahead >= 100.0 * gap))
            )
    if not best[CREATIVE]:
        parts.append(Part("creative work", Ruling("not settled", "a graded benchmark of creative work")))
    told = ", ".join(f"{figure.name} {percent(figure.value)}" for figure in figures)
    ruling = every(parts)
    if ruling.verdict == "holds when":
        ruling = Ruling("holds when", f"what is meant is {ruling.when}")
    return world.finding(
        claim,
        ruling,
        f"best scores: {told}",
        figures,
        "best score of any model on the newest harness of each public benchmark, in the middle; a"
        " score is ability, not value in use",
        "benchmarks of creative work, and measured outcomes in use",
    )


def _best(found: list[tuple[float, float, str, str]], words: str) -> Figure:
    """The best score of each benchmark of a kind of work, in the middle of the benchmarks."""
    tops = sorted(one[0] for one in found)
    names = ", ".join(one[2] for one in found)
    return Figure(
        words, median(tops), "share", tops[0], tops[-1], tuple(one[3] for one in found), f"best on {names}"
    )


def d21(world: World, claim: Claim) -> Finding:
    """How far small models fall behind the best by kind of work: their best kind against their worst."""
    rows: dict[tuple[str, str], dict[str, tuple[float, str]]] = defaultdict(dict)
    for fact in world.at.each("model/", "score"):
        parts_of = parse_when(fact.when)
        rows[parts_of.get("benchmark", ""), parts_of.get("harness", "")][fact.subject] = (
            float(fact.value),
            fact.id,
        )
    behind: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rests: dict[str, list[str]] = defaultdict(list)
    for (name, _), scores in rows.items():
        domain = world.at.find(f"benchmark/{name}", "domain")
        top = max(value for value, _ in scores.values())
        for subject, (value, ident) in scores.items():
            behind[subject][str(domain.value) if domain is not None else name].append(top - value)
            rests[subject].append(ident)
    most = world.at.number("slm/lora-8b", "most_params")
    gaps: dict[bool, list[float]] = {True: [], False: []}
    named: list[Figure] = []
    for subject, kinds in behind.items():
        params = world.at.find(subject, "params_total")
        if len(kinds) < KINDS:
            continue
        by_kind = sorted((median(values), kind) for kind, values in kinds.items())
        spread = by_kind[-1][0] - by_kind[0][0]
        small = params is not None and float(params.value) <= most
        gaps[small].append(spread)
        if small:
            words = (
                f"{subject.partition('/')[2]}: behind by {percent(by_kind[0][0])} in"
                f" {by_kind[0][1]}, {percent(by_kind[-1][0])} in {by_kind[-1][1]}"
            )
            named.append(Figure(words, spread, "share", rests_on=tuple(rests[subject][:3])))
    small_gap, large_gap = (middle_of(gaps[small], "scores of models") for small in (True, False))
    wider = sum(one > large_gap for one in gaps[True]) / len(gaps[True])
    named.sort(key=lambda figure: -figure.value)
    figures = [
        Figure(
            f"worst less best kind of work, median of {len(gaps[True])} models up to {count(most)}"
            " parameters",
            small_gap,
            "share",
            rests_on=named[0].rests_on,
        ),
        Figure(
            f"the same, median of {len(gaps[False])} other models",
            large_gap,
            "share",
            rests_on=named[0].rests_on,
        ),
        *named[:6],
    ]
    return world.finding(
        claim,
        probable(wider),
        f"small models' worst kind is {percent(small_gap)} further behind than their best, others'"
        f" {percent(large_gap)}",
        figures,
        "points behind the best model of each benchmark, by kind of work; small is up to"
        f" {count(most)} parameters",
        "scores of small models on more kinds of work, or of tuned ones",
    )


def q6(world: World, claim: Claim) -> Finding:
    """Certified saving by difficulty on public sets, or on outcomes of one's own."""
    wanted = world.number(claim, "claimed_frac")
    figures, parts = [], []
    if world.savings:
        for name, frac in world.savings.items():
            stated = world.at.fact(claim.subject, "claimed_frac").id
            figures.append(Figure(f"certified saving, {name}", frac, "share", rests_on=(stated,)))
            parts.append(Part(f"certified on {name} ({percent(frac)})", truth(frac >= wanted)))
    else:
        for key in world.catalog.keys(claim.subject):
            if key.attribute in ("certified_saving_frac", "saving_frac"):
                fact, name = world.at.fact(*key), key.when.partition("=")[2]
                sure = key.attribute == "certified_saving_frac"
                words = "certified saving" if sure else "saving found, uncertified"
                figures.append(world.fact(f"{words}, {name}", fact, "share"))
                if sure:
                    share = float(fact.value)
                    parts.append(Part(f"certified on {name} ({percent(share)})", truth(share >= wanted)))
    ruling = (
        every(parts) if parts else Ruling("not settled", "graded outcomes of two models: --outcomes FILE")
    )
    best = max(
        (one for one in figures if one.name.startswith("certified")), key=lambda one: one.value, default=None
    )
    reached = sum(part.ruling.verdict == "holds" for part in parts)
    told = f"{percent(wanted)} reached on {reached} of {len(parts)} sets" + (
        f"; most {percent(best.value)}" if best else ""
    )
    lost, confidence = (world.number(claim, name) for name in ("loss_points", "confidence_frac"))
    return world.finding(
        claim,
        ruling,
        told,
        figures,
        f"cost of all attempts against the strong model alone, loss of at most {lost:g} point"
        f"{'' if lost == 1.0 else 's'} at {percent(confidence)} confidence; mean of random splits",
        "your own graded outcomes: isocost claims Q6 --outcomes FILE",
    )
