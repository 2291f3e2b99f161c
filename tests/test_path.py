"""Paths over quarters: against brute force, against keeping one way, and as a person sees them."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from markupsafe import escape
from rich.console import Console

from golden import Golden
from isocost.catalog import Catalog
from isocost.errors import BadInput, Infeasible
from isocost.plan.asked.limits import Have, HeldGpus, Limits, OwnRate
from isocost.plan.make.build import Built, problem_of
from isocost.plan.market.prepare import Prepared, Request
from isocost.plan.market.terms import Term, signed_for, terms_of
from isocost.plan.path import PathAsk, PathResult, horizon_months, make_path
from isocost.plan.path.ask import quarters
from isocost.plan.path.hull import envelope
from isocost.plan.path.limits import over_budget
from isocost.plan.path.month import How, Priced, Prices, priced, scheduled
from isocost.plan.path.run import _falling
from isocost.plan.path.stages import study_of
from isocost.plan.path.steps import Signed, Stage, allotted, cost_path, least_path
from isocost.plan.path.study import COUNT
from isocost.plan.path.sure import costed, month_groups, solved_at
from isocost.plan.path.told import when
from isocost.plan.path.way import Part, Way, pool_draft
from isocost.plan.path.ways import division, ways_of
from isocost.plan.run import Outcome, make_plan
from isocost.plan.scenario import read, request_of
from isocost.plan.solve.problem import emitted_kg
from isocost.report.path import render
from isocost.report.signing import Heading, Para, Table, blocks, html, page
from isocost.trace.workload import Spread, from_numbers

WAITS = """
title = "own replicas, documents that wait"
now = "openai/gpt-4o"
[[workload]]
name = "chat"
requests = "1500k/mo"
in = 1500
out = 350
[[workload]]
name = "documents"
requests = "900k/mo"
in = "2k"
out = 700
wait = "24h"
[slo.default]
place = "own"
"""
HOURS, RATE = 730.5, 0.008
YEAR = Term("reserved_1y", "1 year", 12, 0.6, ())
THREE = Term("reserved_3y", "3 years", 36, 0.45, ())


def way(name: str, gpu: str = "", kinds: tuple[str, ...] = (), terms: tuple[Term, ...] = ()) -> Way:
    none: Any = None
    option: Any = SimpleNamespace(pool=SimpleNamespace(gpu=gpu, gpus=1, usd_per_gpu_h=2.0))
    return Way(name, none, frozenset(kinds), (Part(option, none, (0,), terms),) if gpu else ())


def stages(costs: list[dict[int, list[float]]], held: list[int] | None = None) -> list[Stage]:
    steps = quarters(date(2026, 11, 23), 3 * len(costs))
    return [
        Stage(
            quarter,
            sum((1 + RATE) ** -(quarter.first + k + 1) for k in range(3)),
            (1 + RATE) ** -quarter.first,
            1.0,
            {"g": held[q]} if held else {},
            {
                w: Priced((np.array(usd),), 0.0) if len(usd) > 1 else Priced((), usd[0])
                for w, usd in cost.items()
            },
        )
        for q, (quarter, cost) in enumerate(zip(steps, costs, strict=True))
    ]


def brute(ways: list[Way], made: list[Stage], launches: dict[str, float]) -> float:
    """Every way of every quarter, with every number signed on every term in every quarter."""
    best = np.inf
    terms = [term for one in ways for part in one.parts for term in part.terms]
    slots = [(q, term) for q in range(len(made)) for term in terms]
    for chosen in itertools.product(range(len(ways)), repeat=len(made)):
        if any(w not in stage.priced for w, stage in zip(chosen, made, strict=True)):
            continue
        for counts in itertools.product(range(3), repeat=len(slots)):
            signed = [
                Signed(q, "g", term, n, 2.0 * term.price_ratio)
                for (q, term), n in zip(slots, counts, strict=True)
                if n
            ]
            best = min(best, cost_path(ways, made, chosen, signed, launches, HOURS, RATE)[1])
    return float(best)


@pytest.mark.parametrize("seed", range(12))
def test_the_path_is_the_cheapest_of_all(seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    ways = [way("api"), way("own", "g", ("launch",), (YEAR,) if seed % 2 else (THREE,))]
    costs = []
    for _ in range(3):
        rent = np.sort(rng.uniform(0, 1500, 2))[::-1]
        base = rng.uniform(500, 2500)
        # Each committed replica saves less than the one before.
        costs.append(
            {0: [rng.uniform(2000, 6000)], 1: [base + rent.sum(), base + rent[1], base]}
        )  # fmt: skip
    made = stages(costs, [int(rng.integers(0, 2)), 0, 0])
    launches = {"launch": float(rng.uniform(0, 3000))}
    found = least_path(ways, made, launches, HOURS, RATE)
    least = brute(ways, made, launches)
    assert found.usd == pytest.approx(least, rel=2e-4)
    assert found.bound_usd <= least * (1 + 1e-6)


def test_what_is_signed_is_paid_to_its_end() -> None:
    ways = [way("own", "g", (), (YEAR,))]
    made = stages([{0: [100.0, 0.0]}])
    signed = (Signed(0, "g", YEAR, 1, 1.2),)
    committed, usd = cost_path(ways, made, (0,), signed, {}, HOURS, RATE)
    assert committed == ((1,),)
    assert usd == pytest.approx(sum(1.2 * HOURS * (1 + RATE) ** -(k + 1) for k in range(12)))


def test_the_hull_lies_below_and_touches() -> None:
    usd = np.array([10.0, 9.0, 4.0, 3.5, 3.6, 1.0])
    lines = envelope(usd)
    hull = np.array([max(a + b * i for a, b in lines) for i in range(len(usd))])
    assert (hull <= usd + 1e-9).all()
    assert hull[0] == usd[0]
    assert hull[-1] == usd[-1]
    assert (np.diff(np.diff(hull)) >= -1e-9).all()


@pytest.mark.parametrize(
    ("text", "said"), [("36", "not a horizon"), ("1mo", "1 months"), ("9y", "108 months")]
)
def test_a_horizon_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        horizon_months(text)


def test_hours_in_words() -> None:
    flags = np.ones(168, bool)
    assert when(flags) == "all hours"
    flags[:] = False
    assert when(flags) == "never"
    flags[::2] = True
    assert when(flags) == "84 of 168 hours of the week"


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    catalog = Catalog.load()
    trace = from_numbers(3e6, 900, 150, spread=Spread(0.8, 0.6, 2.0), days=7.0)
    held = Have((HeldGpus("h100-sxm", 4, 2.4, date(2027, 6, 30)),), 0.5)
    return make_plan(
        Request(trace, catalog, date(2026, 11, 23), Limits(), held, "groq/llama-3.3-70b-versatile")
    )


@pytest.fixture(scope="module")
def path(outcome: Outcome) -> PathResult:
    return make_path(outcome.built, outcome.stays, PathAsk(24, 0.25, "flat"))


def test_a_path_is_never_dearer_than_keeping_one_way(path: PathResult) -> None:
    assert path.bound_usd <= path.usd + 1e-6
    assert path.gap_frac <= 0.01
    for rival in path.rivals:
        assert rival.usd is None or path.usd <= rival.usd * (1 + 1e-6)
    assert sum(rival.cheapest_frac for rival in path.rivals) == pytest.approx(1.0, abs=1e-9)
    assert path.band.low <= path.usd <= path.band.high


def test_growth_asks_for_more_and_held_ends(path: PathResult) -> None:
    volumes = [step.requests_per_month for step in path.steps]
    assert volumes == sorted(volumes)
    assert len(path.steps) == 8
    assert any(one.held and one.until == "2027-06-30" for one in path.signings)
    assert all(0.0 <= one.used_frac <= 1.0 for one in path.signings)


def test_months_of_the_steps_sum_to_the_path(outcome: Outcome, path: PathResult) -> None:
    """Undiscounted and without launches, months are near the discounted cost from above."""
    total = sum(step.usd_per_month * step.months for step in path.steps)
    assert 0.5 * total <= path.usd <= 1.1 * total


def test_dearer_prices_to_come_change_the_path_and_not_today(outcome: Outcome) -> None:
    flat = make_path(outcome.built, outcome.stays, PathAsk(12, 0.0, "flat"))
    first = make_path(outcome.built, outcome.stays, PathAsk(3, 0.0, "flat"))
    assert first.steps[0].usd_per_month == pytest.approx(flat.steps[0].usd_per_month, rel=0.25)
    assert first.usd < flat.usd


def test_a_month_signs_no_longer_than_it_may(outcome: Outcome) -> None:
    at = outcome.built.prepared.at
    for option in outcome.built.options:
        terms = terms_of(at, option.pool)
        assert all(0.0 < term.price_ratio < 1.0 for term in terms)
        assert signed_for(at, option.pool, 0) is None
        year, three = signed_for(at, option.pool, 12), signed_for(at, option.pool, 36)
        assert year is None or year.months <= 12
        if year is not None:
            assert three is not None
            assert three.price_ratio <= year.price_ratio
        unsaid = signed_for(at, option.pool, None)
        assert unsaid is None or unsaid.quoted


def test_two_kinds_divide_what_is_committed() -> None:
    """Against every division: kinds of one accelerator share what is there."""
    rng = np.random.Generator(np.random.PCG64(3))
    for _ in range(50):
        months = [np.sort(rng.uniform(0, 100, rng.integers(1, 6)))[::-1] for _ in range(2)]
        gpus, there = [int(g) for g in rng.integers(1, 4, 2)], int(rng.integers(0, 12))
        found = allotted(months, gpus, there)
        assert sum(n * g for n, g in zip(found, gpus, strict=True)) <= there
        every = [
            months[0][a] + months[1][b]
            for a, b in itertools.product(range(len(months[0])), range(len(months[1])))
            if a * gpus[0] + b * gpus[1] <= there
        ]
        assert months[0][found[0]] + months[1][found[1]] == pytest.approx(min(every))


def test_a_budget_that_growth_breaks_says_what_fits(path: PathResult) -> None:
    ask, multiples = PathAsk(24, 0.25, "flat"), [1.25 ** (3 * q + 1.5) for q in range(8)]
    assert over_budget(path.steps, multiples, ask, None) is None
    dearest = max(step.usd_per_month for step in path.steps)
    assert over_budget(path.steps, multiples, ask, dearest) is None
    error = over_budget(path.steps, multiples, ask, path.steps[1].usd_per_month)
    assert error is not None
    assert path.steps[2].label in error.what
    raised = float(error.ways_out[0][0].split(" of ")[1].split()[0])
    assert over_budget(path.steps, multiples, ask, raised) is None
    assert "a horizon of 6 months" in error.ways_out[1][0]


def test_what_the_same_quality_may_come_to_cost(outcome: Outcome, path: PathResult) -> None:
    assert path.falling is None  # prices stay
    moving = make_path(outcome.built, outcome.stays, PathAsk(12, 0.0, "forecast"))
    assert moving.falling is not None
    assert 0.0 < moving.falling.ratio < 1.0
    assert moving.falling.band.low <= moving.falling.usd <= moving.falling.band.high
    assert 0.0 <= moving.falling.path_wins_frac <= 1.0


def limited(outcome: Outcome, limits: Limits | None = None, have: Have | None = None) -> Built:
    """The same plan under other limits, its streams as they are."""
    prepared = outcome.built.prepared
    request = replace(
        prepared.request, limits=limits or prepared.request.limits, have=have or prepared.request.have
    )
    return replace(outcome.built, prepared=replace(prepared, request=request))


def test_a_budget_is_kept_by_signing_otherwise(outcome: Outcome, path: PathResult) -> None:
    dearest = max(step.usd_per_month for step in path.steps)
    built = limited(outcome, Limits(budget_usd_per_month=round(0.98 * dearest)))
    kept = make_path(built, outcome.stays, PathAsk(24, 0.25, "flat"))
    assert all(step.usd_per_month <= 0.98 * dearest + 1.0 for step in kept.steps)
    assert kept.usd > path.usd
    (met,) = kept.met
    assert met.limit == "budget"
    assert met.usd == pytest.approx(kept.usd - path.usd, rel=1e-3)
    assert any(rival.why_not.startswith("over the budget") for rival in kept.rivals)
    with pytest.raises(Infeasible, match="least-cost path costs") as refused:
        make_path(
            limited(outcome, Limits(budget_usd_per_month=0.5 * dearest)),
            outcome.stays,
            PathAsk(24, 0.25, "flat"),
        )
    assert "--growth" in refused.value.conflict[1]


def test_emissions_cap_a_way_and_do_not_bar_it(outcome: Outcome) -> None:
    """Replicas run up to the limit, the APIs take the rest: neither dropped nor over it."""
    ask = PathAsk(6, 1.0, "flat")
    study = study_of(outcome.built, outcome.stays, ask)
    free = study.least()
    month = study.stages[-1].priced[free.ways[-1]]
    assert month.kg > 0
    capped = limited(outcome, Limits(carbon_kg_per_month=month.kg / 3))
    under = study_of(capped, outcome.stays, ask)
    held = under.stages[-1].priced[free.ways[-1]]
    assert 0 < held.kg <= month.kg / 3 * 1.0001
    assert held.least_usd() > month.least_usd()
    assert all(one.kg <= month.kg / 3 * 1.0001 for stage in under.stages for one in stage.priced.values())
    assert under.least("carbon").usd == pytest.approx(free.usd, rel=1e-3)
    assert under.least().usd > free.usd
    # Each number of committed replicas that the limit leaves room for runs within it.
    way, last = under.ways[free.ways[-1]], len(under.stages) - 1
    for number in range(len(held.parts[0])):
        (found,) = solved_at(under, free.ways[-1], last, (number,))
        problem = way.parts[0].problem
        assert emitted_kg(problem, found) <= month.kg / 3 * 1.0001
        assert found.usd_per_month == pytest.approx(held.parts[0][number], rel=1e-6)


def test_what_is_too_much_for_an_api_goes_to_the_next(outcome: Outcome) -> None:
    study = study_of(outcome.built, outcome.stays, PathAsk(12, 0.25, "flat"))
    first = study.ways[study.least().ways[0]]
    (load,) = first.draft.loads(outcome.built.prepared)
    most = float(load.asked[3].max() * 2.0)
    own = Have((), 0.5, (OwnRate(load.provider, tok_per_min=most),))
    # The limits are the account's own: what is planned today is within them.
    full = make_path(limited(outcome, have=own), outcome.stays, PathAsk(12, 0.25, "flat"))
    assert full.usd >= study.least().usd - 1.0
    assert any(met.limit == "rates" and "a minute" in met.what for met in full.met)
    again = study_of(limited(outcome, have=own), outcome.stays, PathAsk(12, 0.25, "flat"))
    for q, stage in enumerate(again.stages):
        for w in stage.priced:
            way = again.way(w, q)
            if way.parts:
                continue
            asked = [
                one.asked.max(axis=1)[3] * again.multiples[q]
                for one in way.draft.loads(again.built.prepared)
                if one.provider == load.provider
            ]
            assert all(tokens <= most * 1.001 for tokens in asked)


def test_apis_of_one_quality_pay_their_launch(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """At prices that stay, what the same quality costs is that way kept throughout, launch included."""

    def still(at: object, series: object, months: int, count: int = 0) -> np.ndarray:
        return np.ones((count, months + 1))

    monkeypatch.setattr("isocost.plan.path.study.paths", still)
    monkeypatch.setattr("isocost.plan.path.run.paths", still)
    study = study_of(outcome.built, outcome.stays, PathAsk(12, 0.0, "forecast"))
    way = next(way for way in study.ways if way.kinds and not way.parts)
    alone = study.only([way])
    path = least_path(alone.ways, alone.stages, alone.launches, alone.hours, alone.rate)
    falling = _falling(study, [(way, path)], np.zeros(COUNT))
    assert falling is not None
    assert falling.usd == pytest.approx(float(np.median(costed(alone, path))))
    assert falling.usd > sum(study.launches[kind] for kind in way.kinds)


def test_a_closed_models_risk_grows_with_its_bill(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands beside a way's replicas is priced at hours that weigh as much as traffic grew."""
    study = study_of(outcome.built, outcome.stays, PathAsk(3, 0.0, "flat"))
    way = next(way for way in study.ways if way.parts)
    seen = []

    def spy(prepared: Prepared, *rest: Any) -> Any:
        seen.append(float(prepared.weight_h.sum()))
        return pool_draft(prepared, *rest)

    monkeypatch.setattr("isocost.plan.path.month.pool_draft", spy)
    monkeypatch.setattr("isocost.plan.path.sure.pool_draft", spy)
    hours = float(outcome.built.prepared.weight_h.sum())
    assert priced(outcome.built, way, Prices(4.0)) is not None
    found = scheduled(way.parts[0], How(), 0, way.cases, Prices(4.0))
    assert found is not None
    month_groups(outcome.built, way, 4.0, [found], [0.0])
    assert seen == pytest.approx([4.0 * hours, 4.0 * hours])


def test_each_kind_of_replica_is_laid_out_once(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(*rest: Any, **named: Any) -> Any:
        asked.append(rest[2][0].pool.id)
        return problem_of(*rest, **named)

    monkeypatch.setattr("isocost.plan.path.ways.problem_of", spy)
    ways_of(outcome.built, outcome.stays, 4.0)
    assert len(asked) == len(set(asked)) > 1


def test_streams_are_divided_among_as_many_kinds_as_pay() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    rents = np.array([3.0, 3.2, 3.4])
    load = rng.uniform(4.0, 9.0, (3, 6))
    load[[0, 0, 1, 1, 2, 2], range(6)] = rng.uniform(1.0, 2.0, 6)
    load[2, 0] = np.nan
    kinds: list[Any] = [
        SimpleNamespace(
            pool=SimpleNamespace(id=f"k{k}"),
            fits={f"s{s}": SimpleNamespace(why_not="") for s in range(6)},
        )
        for k in range(3)
    ]
    problems: dict[str, Any] = {
        f"k{k}": SimpleNamespace(
            pools=(SimpleNamespace(more_per_h=10.0, on_demand_usd_per_h=rents[k]),),
            load_per_h=load[k][:, None, None],
        )
        for k in range(3)
    }
    built: Any = SimpleNamespace(
        planned=[SimpleNamespace(stream=SimpleNamespace(id=f"s{s}")) for s in range(6)]
    )
    found = division(built, kinds, problems)
    assert found is not None
    usd = np.nan_to_num(load * rents[:, None], nan=np.inf)
    assert sorted(s for streams in found for s in streams) == list(range(6))
    assert sum(usd[k, s] for k, streams in enumerate(found) for s in streams) == usd.min(axis=0).sum()
    assert division(built, [kinds[0], kinds[0]], problems) is None


def test_what_lacks_proof_is_worth_its_odds(path: PathResult) -> None:
    assert path.proofs
    for proof in path.proofs:
        assert proof.saves_usd > 0
        likely = 1.0 if proof.odds is None else proof.odds
        assert proof.worth_usd == pytest.approx(proof.saves_usd * likely)
    worths = [proof.worth_usd for proof in path.proofs]
    assert worths == sorted(worths, reverse=True)


def test_work_that_waits_fills_idle_hours(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(WAITS)
    outcome = make_plan(request_of(read(file), Catalog.load(), date(2026, 11, 23)))
    study = study_of(outcome.built, outcome.stays, PathAsk(12, 0.0, "flat"))
    way = min(
        (way for way in study.ways if way.parts and way.parts[0].later),
        key=lambda way: study.stages[0].priced[study.ways.index(way)].least_usd(),
    )
    at_once = replace(way, parts=tuple(replace(part, later=()) for part in way.parts))
    later, plain = (priced(outcome.built, one, Prices()) for one in (way, at_once))
    assert later is not None
    assert plain is not None
    assert (later.parts[0] <= plain.parts[0] + 1e-6).all()
    assert later.parts[0].min() < plain.parts[0].min() or any(how.problem for how in later.how[0])
    number = next(n for n, how in enumerate(later.how[0]) if how.problem)
    found = scheduled(way.parts[0], later.how[0][number], number, way.cases, Prices())
    assert found is not None
    assert found.served is not None
    draft = pool_draft(outcome.built.prepared, way, [found])
    put_off = [serving.case for serving in draft.servings if serving.case.served is not None]
    assert put_off
    for case in put_off:
        before = next(one for one in way.cases if one.stream.id == case.stream.id)
        assert case.stream.usage.requests.sum() == pytest.approx(before.stream.usage.requests.sum(), rel=1e-6)


def test_hours_are_mostly_where_most_of_them_are() -> None:
    flags = np.zeros(168, bool)
    flags.reshape(7, 24)[:5, 8:18] = True
    flags[9], flags[40] = False, False
    assert when(flags) == "48 of 168 hours of the week, mostly Mon-Fri 08-18 UTC"
    flags[::2] = True
    assert "hours of the week" in when(flags)


@pytest.mark.parametrize("width", [80, 120])
def test_a_path_as_a_person_sees_it(path: PathResult, golden: Golden, width: int) -> None:
    console = Console(width=width, record=True, no_color=True, highlight=False)
    with console.capture() as shown:
        console.print(render(path, width))
    golden.check(f"path_{width}.txt", shown.get())


def test_the_page_to_sign(outcome: Outcome, path: PathResult) -> None:
    text = page(outcome.result, path)
    assert text.startswith(f"# {outcome.result.title}")
    assert path.headline in text
    assert "Approved by" in text
    for one in path.signings:
        assert f"{one.count}x {one.gpu}" in text
    for step in path.steps:
        assert not step.change or step.change in text
    for proof in path.proofs[:1]:
        assert f"Grade {proof.samples:,} answers of {proof.way}" in text
    alone = page(outcome.result, None)
    assert outcome.result.headline in alone
    table = next(block for block in blocks(outcome.result, None) if isinstance(block, Table))
    *rows, whole = [float(row[1].replace(",", "")) for row in table.rows]
    assert table.rows[-1][0] == "in all"
    assert whole == pytest.approx(outcome.result.plan_usd.mid, abs=0.5)
    assert sum(rows) == pytest.approx(whole, abs=len(rows))
    assert "## What to sign" not in alone


def test_the_page_to_sign_as_html_says_the_same(outcome: Outcome, path: PathResult) -> None:
    named = msgspec.structs.replace(outcome.result, title="<script>alert(1)</script>")
    text = html(named, path)
    assert "<script>" not in text
    assert "http" not in text.split("</style>")[1]
    plain = " ".join(re.sub(r"<[^>]+>", " ", text.split("</style>")[1]).split())
    for block in blocks(outcome.result, path):
        if isinstance(block, Heading | Para) and block.text not in named.title:
            said = " ".join(escape(block.text).split())
            assert said in plain or outcome.result.title in block.text
        if isinstance(block, Table):
            for row in block.rows:
                assert all(" ".join(str(escape(cell)).split()) in plain for cell in row)


def test_the_page_is_one_page(outcome: Outcome, path: PathResult) -> None:
    assert len(page(outcome.result, path).splitlines()) <= 90


def test_thousands_of_committed_replicas_have_few_lines_that_stay_below() -> None:
    usd = 1e6 / (1.0 + np.arange(20_000) / 3000.0) + 4.0 * np.arange(20_000)
    lines = envelope(usd)
    at = np.arange(len(usd))
    top = np.max([value + slope * at for value, slope in lines], axis=0)
    assert len(lines) <= 32
    assert (top <= usd + 1e-6).all()
    assert (usd - top).max() < 2e-3 * usd.max()
