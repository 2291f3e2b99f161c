"""Paths over quarters: against brute force, against keeping one way, and as a person sees them."""

from __future__ import annotations

import itertools
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from golden import Golden
from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.plan.asked.limits import Have, HeldGpus, Limits
from isocost.plan.market.prepare import Request
from isocost.plan.market.terms import Term, signed_for, terms_of
from isocost.plan.path import PathAsk, PathResult, horizon_months, make_path
from isocost.plan.path.ask import quarters
from isocost.plan.path.limits import over_budget
from isocost.plan.path.run import when
from isocost.plan.path.steps import Signed, Stage, allotted, cost_path, envelope, least_path
from isocost.plan.path.ways import Part, Priced, Way
from isocost.plan.run import Outcome, make_plan
from isocost.report.path import render
from isocost.report.signing import page
from isocost.trace.workload import Spread, from_numbers

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
    assert when(flags) == "in 84 of 168 hours of the week"


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
        terms = terms_of(at, option)
        assert all(0.0 < term.price_ratio < 1.0 for term in terms)
        assert signed_for(at, option, 0) is None
        year, three = signed_for(at, option, 12), signed_for(at, option, 36)
        assert year is None or year.months <= 12
        if year is not None:
            assert three is not None
            assert three.price_ratio <= year.price_ratio
        unsaid = signed_for(at, option, None)
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


@pytest.mark.parametrize("width", [80, 120])
def test_a_path_as_a_person_sees_it(path: PathResult, golden: Golden, width: int) -> None:
    console = Console(width=width, record=True, no_color=True, highlight=False)
    with console.capture() as shown:
        console.print(render(path, width))
    golden.check(f"path_{width}.txt", shown.get())


def test_the_page_to_sign(outcome: Outcome, path: PathResult) -> None:
    text = page(outcome.result, path)
    assert text.startswith(f"# {outcome.result.title}")
    assert outcome.result.headline in text
    assert "Approved by" in text
    assert path.headline in text
    assert "## Over" not in page(outcome.result, None)
