"""The whole way: what a plan says adds up, keeps its limits, and refuses what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import pytest

from isocost.catalog import Catalog
from isocost.errors import BadTrace, Infeasible, UnknownModel
from isocost.plan.asked.limits import Have, HeldGpus, Limits, Slo
from isocost.plan.market.prepare import Request
from isocost.plan.run import Outcome, make_plan
from isocost.plan.tell import story
from isocost.plan.written.file import dumps, loads
from isocost.plan.written.rerun import rerun
from isocost.trace import Trace, open_trace
from isocost.trace.workload import Spread, example, from_numbers

ROOT = Path(__file__).parents[1]
ON = date(2026, 11, 22)
NOW = "anthropic/claude-opus-4-6"


def asked(
    trace: Trace, catalog: Catalog, limits: Limits | None = None, have: Have | None = None, now: str = ""
) -> Request:
    return Request(trace, catalog, ON, limits or Limits(), have or Have(), now)


@pytest.fixture(scope="module")
def outcome(catalog: Catalog) -> Outcome:
    return make_plan(asked(example(NOW), catalog))


def test_parts_sum_to_the_whole(outcome: Outcome) -> None:
    result = outcome.result
    assert sum(line.usd_per_month for line in result.lines) == pytest.approx(result.plan_usd.mid, rel=1e-9)
    assert outcome.ledger.total_usd == pytest.approx(result.plan_usd.mid, rel=1e-12)
    for option in result.options:
        assert sum(option.by_pillar.values()) == pytest.approx(option.usd_per_month.mid, rel=1e-9)
        assert sum(option.by_account.values()) == pytest.approx(option.usd_per_month.mid, rel=1e-9)
    assert sum(line.share_frac for line in result.lines) == pytest.approx(1.0)


def test_levers_lead_from_today_to_the_plan(outcome: Outcome) -> None:
    result = outcome.result
    moved = sum(lever.delta_usd for lever in result.levers)
    assert moved == pytest.approx(result.plan_usd.mid - result.today_usd.mid, abs=0.01)
    exact = sum(lever.delta_fusd for lever in result.levers)
    today = story.today_ledger(outcome.built, outcome.stays)
    assert today.total_fusd + exact == outcome.ledger.total_fusd


def test_plan_is_never_dearer_than_the_best_allowed_single_deployment(outcome: Outcome) -> None:
    result = outcome.result
    allowed = [o.usd_per_month.mid for o in result.options if o.feasible and o.option != "mix"]
    assert result.plan_usd.mid <= min(allowed) + 0.01
    assert result.bound_usd <= result.plan_usd.mid + 1e-9
    assert 0.0 <= result.gap_frac <= 0.05


def test_bands_hold_their_middle(outcome: Outcome) -> None:
    for band in (outcome.result.today_usd, outcome.result.plan_usd):
        assert band.low <= band.mid <= band.high
        assert band.low < band.high


def test_nothing_unproven_is_chosen(outcome: Outcome, catalog: Catalog) -> None:
    for serving in outcome.built.draft.servings:
        offer = serving.offer
        assert offer is not None
        assert offer.verdict.passes
        assert not offer.why_not
    assert all("proven loss" not in line.quality for line in outcome.result.lines)


def test_unknown_latency_is_unverified_never_held(catalog: Catalog) -> None:
    trace = from_numbers(40_000, 900, 150, spread=Spread(0.5, 0.5), days=8)
    result = make_plan(asked(trace, catalog, now="openai/gpt-4o-mini")).result
    ttft = [limit for limit in result.limits if limit.name == "ttft_p95"]
    assert ttft
    assert all(limit.status == "unverified" and limit.found is None for limit in ttft)


def test_plan_file_round_trips_and_replays(outcome: Outcome, catalog: Catalog) -> None:
    plan = loads(outcome.toml)
    assert dumps(plan) == outcome.toml
    again = rerun(example(NOW), plan, catalog)
    assert again.replayed.unpriced == 0
    ours = outcome.built.replayed.ledger
    assert again.replayed.ledger.total_fusd == ours.total_fusd
    assert again.replayed.ledger.by("deployment") == ours.by("deployment")


def test_replayed_tokens_cost_what_the_month_says(outcome: Outcome) -> None:
    """The replay's bill, scaled from the trace's span to a month, is the plan's bill for answers."""
    month = sum(c.usd for c in outcome.ledger if c.account == "api-tokens")
    span_h = outcome.built.prepared.week.span_s / 3600
    replayed = outcome.built.replayed.ledger.total_usd * 730.5 / span_h
    assert replayed == pytest.approx(month, rel=0.03)


def test_waiting_is_served_by_batch_at_half_the_price(outcome: Outcome) -> None:
    batch = [line for line in outcome.result.lines if line.option == "batch"]
    assert batch
    assert batch[0].workloads == ["summarise"]
    assert batch[0].same_model


def test_json_of_a_result_reads_back(outcome: Outcome) -> None:
    text = msgspec.json.encode(outcome.result)
    assert msgspec.json.decode(text, type=type(outcome.result)) == outcome.result


def test_same_request_same_plan(outcome: Outcome, catalog: Catalog) -> None:
    again = make_plan(asked(example(NOW), catalog))
    assert again.result == outcome.result
    assert again.toml == outcome.toml


def test_own_place_puts_everything_on_replicas(catalog: Catalog) -> None:
    trace = from_numbers(6_000_000, 700, 120, spread=Spread(0.5, 0.5), days=7)
    limits = Limits(default=Slo(place="own", quality_margin_points=40))
    found = make_plan(asked(trace, catalog, limits, now="openai/gpt-4o-mini"))
    options = {line.option for line in found.result.lines} - {"people"}
    assert options <= {"selfhost", "slm"}
    hours = found.result.hours
    assert min(min(row) for row in hours.replicas) >= 2  # one that works and a spare, at every hour
    accounts = found.ledger.usd_by("account")
    assert accounts["idle-compute"] > 0
    assert accounts["redundancy"] > 0
    ttft = [limit for limit in found.result.limits if limit.name == "ttft_p95"]
    assert all(limit.status == "held" for limit in ttft)


def test_held_gpus_cost_no_more_cash(catalog: Catalog) -> None:
    trace = from_numbers(6_000_000, 700, 120, spread=Spread(0.5, 0.5), days=7)
    limits = Limits(default=Slo(place="own", quality_margin_points=40))
    bare = make_plan(asked(trace, catalog, limits, now="openai/gpt-4o-mini")).result
    gpu = bare.lines[0].id.rpartition("@")[2].partition("x")[2].removesuffix("-ep")
    held = HeldGpus(gpu, 64, 3.0, date(2027, 6, 30))
    mine = make_plan(asked(trace, catalog, limits, Have((held,)), now="openai/gpt-4o-mini")).result
    assert mine.plan_usd.mid < bare.plan_usd.mid
    assert mine.full_usd_per_month > mine.cash_usd_per_month
    expired = Have((replace_until(held, date(2026, 1, 1)),))
    late = make_plan(asked(trace, catalog, limits, expired, now="openai/gpt-4o-mini")).result
    assert late.plan_usd.mid == pytest.approx(bare.plan_usd.mid)


def replace_until(held: HeldGpus, until: date) -> HeldGpus:
    return msgspec.structs.replace(held, until=until)


def test_relaxing_a_limit_never_raises_the_bound(catalog: Catalog) -> None:
    trace = example(NOW)
    tight = make_plan(asked(trace, catalog, Limits(default=Slo(not_providers=("deepseek", "baseten")))))
    loose = make_plan(asked(trace, catalog))
    assert loose.result.bound_usd <= tight.result.bound_usd + 0.01


def test_conflict_is_named_with_its_ways_out(catalog: Catalog) -> None:
    limits = Limits(default=Slo(place="own", ttft_p95_s=0.0001))
    with pytest.raises(Infeasible) as caught:
        make_plan(asked(example(NOW), catalog, limits))
    assert caught.value.conflict
    assert caught.value.ways_out


def test_budget_that_nothing_meets(catalog: Catalog) -> None:
    with pytest.raises(Infeasible, match="over"):
        make_plan(asked(example(NOW), catalog, Limits(budget_usd_per_month=1.0)))


def test_log_without_a_model_asks_for_one(catalog: Catalog) -> None:
    trace = from_numbers(10_000, 900, 150, spread=Spread(0.5, 0.5), days=8)
    with pytest.raises(BadTrace, match="which model"):
        make_plan(asked(trace, catalog))
    with pytest.raises(UnknownModel):
        make_plan(asked(trace, catalog, now="openai/gpt-44o"))


def test_short_trace_gives_a_range_and_no_commitment(catalog: Catalog) -> None:
    trace = open_trace(ROOT / "examples" / "azure_like.csv")
    found = make_plan(asked(trace, catalog, now="openai/gpt-4o"))
    span = found.result.range
    assert span is not None
    assert span.flat_usd > 0
    assert span.shaped_usd == pytest.approx(found.result.plan_usd.mid)
    assert all(pool.reserved == 0 for pool in found.built.draft.fleet.pools)


def test_litellm_log_prices_each_row_at_its_own_model(catalog: Catalog) -> None:
    trace = open_trace(ROOT / "examples" / "litellm_spendlogs.csv")
    found = make_plan(asked(trace, catalog))
    bill = found.built.prepared.today.bill
    assert len({int(code) for code in bill.grouped.offering}) == 12
    assert found.result.trace.today.startswith("12 models")
    assert not found.result.at_least


@pytest.mark.parametrize(
    ("name", "rows"),
    [("azure2023_conv.csv", 19_366), ("mooncake_conversation.jsonl", 12_031), ("ragpulse.parquet", 7_106)],
)
def test_real_traffic_plans(data_dir: Path, catalog: Catalog, name: str, rows: int) -> None:
    trace = open_trace(data_dir / "traces" / name)
    result = make_plan(asked(trace, catalog, now="openai/gpt-4o")).result
    assert result.trace.requests == rows
    assert result.plan_usd.mid <= result.today_usd.mid + 0.01
    assert (result.range is not None) == (result.trace.days < 6.9)


def test_without_the_exact_cache_it_costs_no_less(catalog: Catalog) -> None:
    request = asked(example(NOW), catalog)
    assert (
        make_plan(replace(request, exact_cache=False)).result.plan_usd.mid
        >= make_plan(request).result.plan_usd.mid - 0.01
    )
