"""A draft at other volumes: its tokens, what stands beside them, and plans of several pools."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.fleet import Fleet
from isocost.ledger import Ledger
from isocost.plan.asked.limits import Have, Limits, OwnRate
from isocost.plan.make.build import Built, build, drafted, problem_of
from isocost.plan.make.draft import Draft, Serving, month_ledger, part_of
from isocost.plan.make.singles import today_draft
from isocost.plan.market.prepare import Request, prepare
from isocost.plan.market.quotas import within_quotas
from isocost.plan.tell import odds
from isocost.plan.tell.story import Totals, drivers_of, today_ledger
from isocost.plan.tell.volume import again, months_of
from isocost.trace.workload import Parameters, Spread, Workload, from_numbers, generate
from isocost.units import WEEK_H

ON = date(2026, 11, 23)
NOW = "openai/gpt-4o"
RISK = "api-change-risk"


@pytest.fixture(scope="module")
def built(catalog: Catalog) -> Built:
    trace = from_numbers(4e4, 900, 150, spread=Spread(0.8, 0.6, 2.0), days=7.0)
    return build(prepare(Request(trace, catalog, ON, Limits(), Have(), NOW)))


def test_a_divided_stream_carries_its_services_once(catalog: Catalog) -> None:
    trace = from_numbers(4e4, 900, 150, spread=Spread(0.8, 0.6, 2.0), days=7.0)
    own = OwnRate("openai", "gpt-4o", requests_per_min=0.8)
    prepared = prepare(Request(trace, catalog, ON, Limits(), Have((), 0.0, (own,)), NOW))
    whole = prepared.cases[0]
    best = next(o for o in whole.offers if o.api.model == "gpt-4o" and not o.why_not)
    only = replace(whole, offers=(best, *(o for o in whole.offers if o.api.model != "gpt-4o")))
    parts = within_quotas(prepared.quotas, (only,))
    assert len(parts) > 1
    month = prepared.weight_h
    assert sum(part_of(parts, one, month, month) for one in parts) == pytest.approx(1.0)


@pytest.mark.parametrize("multiple", [1.0, 16.0])
def test_the_share_of_services_does_not_grow_with_volume(built: Built, multiple: float) -> None:
    month = built.prepared.weight_h
    cases = [case.scaled(multiple) for case in built.planned]
    assert sum(part_of(cases, one, month, month) for one in cases) == pytest.approx(1.0)


def test_the_risk_of_an_apis_end_is_bounded_by_a_move(built: Built) -> None:
    """However much is served, dearer prices cost no more than moving away from them."""
    prepared = built.prepared
    closed = [next(o for o in case.offers if o.api.option == "api") for case in built.planned]
    servings = [Serving(case, offer, {}, False) for case, offer in zip(built.planned, closed, strict=True)]
    draft = replace(built.draft, servings=tuple(servings), pools=())
    month = months_of(built, draft)
    usd = [risk_usd(month(multiple)) for multiple in (1.0, 16.0, 256.0)]
    assert 0 < usd[0] <= usd[1] <= usd[2]
    one, many = (book.moving("x", bill, 1.0) for bill in (1e9, 1e12) for book in [prepared.standings])
    assert sum(i.usd_per_month for i in many) == pytest.approx(sum(i.usd_per_month for i in one))
    assert usd[2] <= sum(i.usd_per_month for i in one) * (1 + 1e-9)


def risk_usd(ledger: Ledger | None) -> float:
    assert ledger is not None
    return ledger.where(account=RISK).total_usd


def test_a_draft_of_apis_at_its_own_volume_is_its_ledger(built: Built) -> None:
    servings = [replace(s, pool_frac={}, offer=s.case.best) for s in built.draft.servings]
    draft = drafted(built.prepared, servings, (), Fleet())
    month = months_of(built, draft)
    found, twice = month(1.0), month(2.0)
    assert found is not None
    assert twice is not None
    whole = month_ledger(built.prepared, draft)
    assert found.usd_by("account") == pytest.approx(whole.usd_by("account"))
    tokens = [ledger.where(account="api-tokens").total_usd for ledger in (found, twice)]
    assert tokens[1] == pytest.approx(2 * tokens[0])


@pytest.fixture(scope="module")
def mixed(catalog: Catalog) -> Built:
    """Two workloads of unlike lengths, and two kinds of replica that may serve both."""
    spread = Spread(0.3, 0.3, 1.0)
    chat = Workload("chat", 4000.0, "flat", 700.0, 200.0, spread)
    read = Workload("read", 900.0, "flat", 6000.0, 150.0, spread)
    trace = generate(Parameters("two kinds", 5, 7.0, (chat, read), {"flat": (1.0,) * WEEK_H}), NOW)
    return build(prepare(Request(trace, catalog, ON, Limits(), Have(), NOW)))


def with_pools(built: Built, count: int, frac: float) -> Draft:
    """A draft with so many kinds of replica, each with a share of every stream."""
    proven = {o.pool.model: o for o in built.options if all(not fit.why_not for fit in o.fits.values())}
    pools = tuple(proven.values())[:count]
    assert len(pools) == count
    share = {option.pool.id: np.full(WEEK_H, frac / count) for option in pools}
    servings = tuple(Serving(case, case.best, share, False) for case in built.planned)
    return replace(built.draft, servings=servings, pools=pools)


def test_a_plan_of_several_pools_is_in_the_map(mixed: Built) -> None:
    draft = with_pools(mixed, 2, 0.9)
    month = months_of(mixed, draft)(1.0)
    assert month is not None
    built = replace(mixed, draft=draft, ledger=month)
    stays = today_draft(built.prepared, built.planned)
    totals = Totals(today_ledger(built, stays), month, drivers_of(built, [month]))
    found = odds.sure(built, {}, stays, totals)
    assert found.map is not None
    assert found.map.labels == ["the plan", "as today"]
    np.testing.assert_allclose(np.array(found.map.frac).sum(axis=0), 1.0)
    assert [turn.label for turn in found.turns] == ["the plan"]


@pytest.mark.parametrize("multiple", [4.0, 64.0])
def test_several_pools_cost_no_more_than_the_first_of_them(mixed: Built, multiple: float) -> None:
    """Of the dollars that the search sees: rents and tokens, people as the line below their steps."""
    usd = []
    for count in (1, 2):
        draft = with_pools(mixed, count, 0.5)
        cases = [
            replace(c.scaled(multiple), offers=(c.best.scaled(multiple),)) for c in mixed.planned if c.best
        ]
        problem = problem_of(mixed.prepared.grown(multiple), cases, draft.pools, mixed.tables)
        found = again(problem, draft)
        assert found is not None
        usd.append(found.usd_per_month)
    assert usd[1] <= usd[0] + 1e-6
