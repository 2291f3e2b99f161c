"""A plan against sums made another way: savings, bounds, ranges, and limits of each stream."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.errors import BadLimits
from isocost.ledger import FEMTO_PER_USD
from isocost.plan import run
from isocost.plan.asked.limits import Have, HeldGpus, Limits, Slo
from isocost.plan.levers import waterfall
from isocost.plan.make import parts
from isocost.plan.make.build import Built, Miss, drafted
from isocost.plan.make.draft import month_ledger
from isocost.plan.make.parts import api_alone
from isocost.plan.make.singles import today_draft
from isocost.plan.make.trim import trimmed
from isocost.plan.market.prepare import Request, prepare
from isocost.plan.run import Outcome, make_plan
from isocost.plan.tell import story
from isocost.trace import open_trace
from isocost.trace.workload import example

ROOT = Path(__file__).parents[1]
ON = date(2026, 11, 22)
NOW = "anthropic/claude-opus-4-6"


@pytest.fixture(scope="module")
def outcome(catalog: Catalog) -> Outcome:
    return make_plan(Request(example(NOW), catalog, ON, Limits(), Have(), ""))


def test_todays_bill_is_the_sum_of_its_rows_at_the_listed_prices(outcome: Outcome) -> None:
    """Opus 4.6: $5 in, $25 out, $0.50 read, $6.25 written, a million tokens."""
    table, week = outcome.built.prepared.table, outcome.built.prepared.week
    demand = table.outcome != 3
    written = np.zeros(len(table)) if table.cache_write_tok is None else table.cache_write_tok
    read = np.zeros(len(table)) if table.cached_tok is None else table.cached_tok
    plain = table.input_tok.astype(float) - read - written
    usd = (plain * 5 + read * 0.5 + written * 6.25 + table.output_tok.astype(float) * 25) / 1e6
    per_second = usd[demand].sum() / week.span_s
    billed = outcome.built.prepared.today_usd
    # A log of a whole number of weeks: the mean of its hours is the mean of its seconds.
    assert per_second * 730.5 * 3600 == pytest.approx(billed, rel=0.01)


def test_an_unproven_saving_counts_what_comes_with_the_move(outcome: Outcome) -> None:
    """No saving exceeds the plan's tokens, and each equals the plan less the plan with that model."""
    built = outcome.built
    assert outcome.result.unproven
    for one in outcome.result.unproven:
        servings = []
        for serving in built.draft.servings:
            found = [o for o in serving.case.offers if o.api.id == one.id]
            moves = found and serving.case.stream.workload in one.workloads
            servings.append(replace(serving, offer=found[0]) if moves else serving)
        other = drafted(built.prepared, servings, built.draft.pools, built.draft.fleet)
        saved = built.usd_per_month - month_ledger(built.prepared, other).total_usd
        assert one.saves_usd_per_month == pytest.approx(saved, abs=0.01)
        assert saved > 0


def test_the_cost_quality_chart_agrees_with_the_table(outcome: Outcome) -> None:
    table = next(o for o in outcome.result.options if o.option == "api")
    chart = next(p for p in outcome.result.frontier if p.label == f"today: {table.label}")
    assert chart.usd_per_month == pytest.approx(table.usd_per_month.mid)


def test_what_is_there_today_needs_no_launch(outcome: Outcome) -> None:
    today = next(o for o in outcome.result.options if o.option == "api")
    assert today.label == NOW
    assert today.days_to_launch == 0.0
    hosted = next(o for o in outcome.result.options if o.option == "hosted")
    assert hosted.days_to_launch


def test_a_plan_without_the_cache_books_no_saving_to_it(outcome: Outcome) -> None:
    """The waterfall of a plan in which the exact cache was dropped has no step for it."""
    built = outcome.built
    stays = today_draft(built.prepared, built.planned)
    dropped = replace(built, draft=stays, ledger=month_ledger(built.prepared, stays))
    totals = story.Totals(story.today_ledger(dropped, stays), dropped.ledger, {})
    names = {lever.name for lever in waterfall(dropped, stays, totals)}
    assert names <= {"prices"}


def test_one_api_for_everything_is_among_the_rivals(outcome: Outcome) -> None:
    """The cheapest single API, batch and kept prefixes too, is found by trying each whole."""
    built = outcome.built
    drafts = api_alone(built.prepared, built.planned)
    assert drafts
    for draft in drafts:
        assert len({serving.offer.api.id for serving in draft.servings if serving.offer}) == 1
        cost = month_ledger(built.prepared, draft).total_usd
        assert cost >= outcome.result.bound_usd - 1e-6
    assert not any(item.what == "gateway" for draft in drafts for item in draft.fleet.standing)
    single = next(o for o in outcome.result.options if o.option == "api")
    least = min(month_ledger(built.prepared, draft).total_usd for draft in drafts)
    assert least <= single.usd_per_month.mid + 0.01


def test_a_rival_that_breaks_a_limit_in_replay_is_no_plan(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: Built = outcome.built
    stays = today_draft(built.prepared, built.planned)
    dear = replace(built, ledger=story.today_ledger(built, stays))
    dear.ledger.extend(list(dear.ledger))
    found, _ = run.cheapest(dear, {}, (stays,), None)
    assert found.draft is stays
    monkeypatch.setattr(run, "misses_of", lambda *_: (Miss("p", "chat", "ttft", 1.0, 2.0),))
    kept, _ = run.cheapest(dear, {}, (stays,), None)
    assert kept.draft is dear.draft


def test_the_flat_week_of_a_short_log_is_planned_as_fully_as_the_shaped_one(catalog: Catalog) -> None:
    trace = open_trace(ROOT / "examples" / "azure_like.csv")
    request = Request(trace, catalog, ON, Limits(), Have(), "openai/gpt-4o")
    span = make_plan(request).result.range
    flat = make_plan(replace(request, shape="flat")).result
    assert span is not None
    assert span.flat_usd == pytest.approx(flat.plan_usd.mid)


def test_streams_of_one_workload_are_held_to_their_own_limits(outcome: Outcome) -> None:
    """A stream that may wait does not hide one that may not."""
    built = outcome.built
    chat = next(s for s in built.draft.servings if s.case.stream.workload == "chat")
    waits = replace(chat.case, ask=chat.case.ask._replace(wait_s=3600.0))
    both = replace(built.draft, servings=(replace(chat, case=waits), chat))
    names = [one.name for one in story.limits(replace(built, draft=both))]
    assert sorted(names) == ["tpot_p95", "ttft_p95", "wait"]


def test_replicas_sized_behind_the_cache_keep_it(catalog: Catalog) -> None:
    limits = Limits(default=Slo(place="own", quality_margin_points=30))
    request = Request(example("openai/gpt-4.1-nano"), catalog, ON, limits, Have(), "")
    built = run.solved(prepare(request))
    assert built.draft.pools
    assert any(serving.cached for serving in built.draft.servings)
    fewer = trimmed(built)
    assert [s.cached for s in fewer.draft.servings] == [s.cached for s in built.draft.servings]


def test_a_date_before_any_rent_plans_without_replicas(catalog: Catalog) -> None:
    trace = open_trace(ROOT / "examples" / "azure_like.csv")
    found = make_plan(Request(trace, catalog, date(2019, 1, 1), Limits(), Have(), "openai/gpt-4.1"))
    own = next(o for o in found.result.options if o.option == "selfhost")
    assert not own.feasible
    assert own.why_not


def test_replicas_already_held_are_used_before_others_are_rented(catalog: Catalog) -> None:
    """Held accelerators cost no more cash, so a dearer kind that is held beats a cheaper one that is not."""
    trace = open_trace(ROOT / "examples" / "azure_like.csv")
    limits = Limits(default=Slo(place="own", quality_margin_points=30))
    have = Have(gpus=(HeldGpus("h100-sxm", 8, 2.4, date(2027, 6, 30)),))
    found = make_plan(Request(trace, catalog, ON, limits, have, "openai/gpt-4.1-nano"))
    rent = sum(c.usd for c in found.ledger if c.option != "people")
    assert rent == 0.0
    assert {option.pool.gpu for option in found.built.draft.pools} == {"h100-sxm"}


def test_an_accelerator_held_that_nobody_knows_is_refused(catalog: Catalog) -> None:
    trace = open_trace(ROOT / "examples" / "azure_like.csv")
    have = Have(gpus=(HeldGpus("h100-sxmm", 8, 2.4, date(2027, 6, 30)),))
    with pytest.raises(BadLimits, match="h100-sxm"):
        prepare(Request(trace, catalog, ON, Limits(), have, "openai/gpt-4.1-nano"))


def test_sums_of_the_ledger_are_the_plan(outcome: Outcome) -> None:
    whole = sum(charge.amount_fusd for charge in outcome.ledger) / FEMTO_PER_USD
    assert whole == pytest.approx(sum(line.usd_per_month for line in outcome.result.lines), rel=1e-12)
    assert parts.PROOF_FRAC < 1e-3
