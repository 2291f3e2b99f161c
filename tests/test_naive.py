"""The four mistakes that a naive planner makes, each with a trap that it would fall into."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from isocost.catalog import Catalog
from isocost.catalog.catalog import COLUMNS, FACTS_DIR
from isocost.catalog.evidence import score_difference
from isocost.deployment import Api
from isocost.plan.asked.limits import Have, Limits, Slo
from isocost.plan.make import build as building
from isocost.plan.make.build import build
from isocost.plan.make.draft import ratio_drivers
from isocost.plan.market.offers import Offer, planned
from isocost.plan.market.prepare import Prepared, Request, prepare
from isocost.plan.run import make_plan
from isocost.trace.schema import Trace
from isocost.trace.workload import Spread, from_numbers

ON = date(2026, 11, 22)
TODAY = "openai/gpt-4.1"
TRAP = "api/trap/bait"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return from_numbers(40_000, 900, 200, spread=Spread(0.5, 0.5), days=8, seed=5)


@pytest.fixture
def with_facts(tmp_path: Path) -> Callable[..., Catalog]:
    """The shipped facts with rows of one's own on top: (subject, attribute, when, value, unit)."""

    def load(*rows: tuple[str, str, str, object, str]) -> Catalog:
        with (tmp_path / "mine.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for subject, attribute, when, value, unit in rows:
                fact = {
                    "subject": subject,
                    "attribute": attribute,
                    "when": when,
                    "value": value,
                    "unit": unit,
                }
                writer.writerow({**fact, "source": "assumed", "checked": "2026-11-22", "kind": "assumed"})
        return Catalog.load(FACTS_DIR, tmp_path)

    return load


def bait(price: float = 0.001) -> list[tuple[str, str, str, object, str]]:
    """An offering for next to nothing, of a model of which nothing else is known."""
    return [
        (TRAP, "serves", "", "bait", ""),
        (TRAP, "input_usd_per_mtok", "", price, "USD/Mtok"),
        (TRAP, "output_usd_per_mtok", "", price, "USD/Mtok"),
        (TRAP, "context_tok", "", 1_000_000, "tok"),
    ]


def scores(catalog: Catalog, gain: float, most: int | None = None) -> list[tuple[str, str, str, object, str]]:
    """The bait scores so much more than today's model, on the smallest of its benchmarks first."""
    shared = sorted(score_difference(catalog.at(ON), "gpt-4.1", "gpt-4.1"), key=lambda each: each.n_questions)
    return [
        (
            "model/bait",
            "score",
            f"benchmark={each.benchmark};harness={each.harness}",
            min(1.0, max(0.0, each.today_score + gain)),
            "1",
        )
        for each in shared[:most]
    ]


def prepared_of(catalog: Catalog, trace: Trace, slo: Slo = Slo(), now: str = TODAY) -> Prepared:  # noqa: B008
    return prepare(Request(trace, catalog, ON, Limits(default=slo), Have(), now=now))


def offer_of(prepared: Prepared, subject: str) -> Offer:
    (case,) = prepared.cases
    return next(
        offer for offer in case.offers if (offer.api.subject, offer.api.tier) == (subject, "standard")
    )


def test_tokens_of_another_model_are_never_silently_todays(catalog: Catalog, trace: Trace) -> None:
    prepared = prepared_of(catalog, trace)
    (case,) = prepared.cases
    today = prepared.at.find("model/gpt-4.1", "tokenizer")
    assert today is not None
    guessed = 0
    for offer in case.offers:
        if offer.api.model == "gpt-4.1":
            assert offer.ratio == (1.0, 1.0)
            assert ratio_drivers(case, offer) == ("", "")
            continue
        ratios = (offer.input_ratio, offer.output_ratio)
        for ratio, name in zip(ratios, ratio_drivers(case, offer), strict=True):
            if ratio.low == ratio.high:
                # Exactly one only where both read text with one tokenizer; verbosity is never exact.
                assert ratio is offer.input_ratio
                theirs = prepared.at.find(f"model/{offer.api.model}", "tokenizer")
                assert theirs is not None
                assert theirs.value == today.value
                continue
            assert ratio.low < ratio.mid < ratio.high
            assert offer.api.model in name
            if not ratio.known:
                guessed += 1
                assert planned(ratio) == ratio.high > 1.0
    assert guessed > 50


def test_an_unknown_ratio_makes_the_plan_dearer_and_is_named(
    with_facts: Callable[..., Catalog], trace: Trace
) -> None:
    prepared = prepared_of(with_facts(*bait()), trace)
    (case,) = prepared.cases
    offer = offer_of(prepared, TRAP)
    assert not offer.input_ratio.known
    assert not offer.output_ratio.known
    asked = sum(part.usage.output_tok.sum() for part in offer.parts)
    assert asked == pytest.approx(case.stream.usage.output_tok.sum() * offer.output_ratio.high)
    assert asked > 1.2 * case.stream.usage.output_tok.sum()
    names = ratio_drivers(case, offer)
    assert names == ("ratio/input/gpt-4.1>bait", "ratio/output/gpt-4.1>bait")


def test_an_unknown_latency_is_unverified_and_never_held(
    with_facts: Callable[..., Catalog], trace: Trace
) -> None:
    catalog = with_facts(*bait())
    strict = Slo(ttft_p95_s=0.001, tpot_p95_s=0.0001)
    offer = offer_of(prepared_of(catalog, trace, strict), TRAP)
    assert offer.latency == "unverified"
    assert offer.ttft_p95_s is None
    result = make_plan(Request(trace, catalog, ON, Limits(default=strict), Have(), now=TODAY)).result
    assert result.limits
    for limit in result.limits:
        assert limit.status in ("unverified", "missed")
        assert limit.status != "unverified" or limit.found is None
    loose = Slo(ttft_p95_s=100.0, tpot_p95_s=100.0)
    result = make_plan(Request(trace, catalog, ON, Limits(default=loose), Have(), now=TODAY)).result
    for limit in result.limits:
        assert limit.found is not None or limit.status == "unverified"


def test_a_known_latency_over_the_limit_rules_a_swap_out(
    with_facts: Callable[..., Catalog], catalog: Catalog, trace: Trace
) -> None:
    facts = [*bait(), *scores(catalog, 0.08), (TRAP, "ttft_p95_s", "", 3.0, "s")]
    fast = offer_of(prepared_of(with_facts(*facts), trace, Slo(ttft_p95_s=1.0)), TRAP)
    assert fast.why_not == "TTFT p95 3.00 s exceeds 1 s"
    slow = offer_of(prepared_of(with_facts(*facts), trace, Slo(ttft_p95_s=4.0)), TRAP)
    assert slow.why_not == ""


def test_a_table_that_promises_too_much_is_found_by_replay_and_derated(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One request a second of long prompts for four hours, on own replicas.
    trace = from_numbers(2_600_000, 6000, 400, spread=Spread(0.3, 0.3), days=0.15, seed=2)
    slo = Slo(place="own", quality_margin_points=10.0, spare_replicas=0)
    request = Request(trace, catalog, ON, Limits(default=slo), Have(), now=TODAY, shape="flat")
    prepared = prepare(request)
    honest = build(prepared)
    real = building.tabulate

    def generous(*args: object) -> object:
        found = real(*args)  # type: ignore[arg-type]
        return (
            None
            if found is None
            else replace(found, one_per_s=found.one_per_s * 3, many_per_s=found.many_per_s * 3)
        )

    monkeypatch.setattr(building, "tabulate", generous)
    fooled = build(prepared)
    assert fooled.rounds > 1
    first = {
        pool.id: pool
        for pool in building.problem_of(prepared, fooled.planned, fooled.draft.pools, fooled.tables).pools
    }
    derated = [p for p in fooled.problem.pools if p.id in first and p.first_per_h < first[p.id].first_per_h]
    assert derated
    assert fooled.misses or fooled.usd_per_month >= 0.8 * honest.usd_per_month
    assert fooled.rounds <= building.ROUNDS
    # What a replay cannot fix within its rounds is said, never hidden.
    again = building.misses_of(fooled.draft, fooled.replayed)
    assert again == fooled.misses


def test_a_cheaper_model_without_evidence_is_not_chosen(
    with_facts: Callable[..., Catalog], trace: Trace
) -> None:
    prepared = prepared_of(with_facts(*bait()), trace)
    offer = offer_of(prepared, TRAP)
    (case,) = prepared.cases
    assert offer.why_not.startswith("quality: no shared benchmark")
    assert offer.usd_per_month(prepared.weight_h) < 0.01 * case.best.usd_per_month(prepared.weight_h)  # type: ignore[union-attr]
    built = build(prepared)
    assert TRAP not in {api.subject for api in built.draft.apis}
    for serving in built.draft.servings:
        assert serving.offer is not None
        assert serving.offer.verdict.passes


def test_wide_evidence_is_not_enough_and_strong_evidence_is(
    with_facts: Callable[..., Catalog], catalog: Catalog, trace: Trace
) -> None:
    at = catalog.at(ON)
    shared = sorted(score_difference(at, "gpt-4.1", "gpt-4.1"), key=lambda each: each.n_questions)
    assert len({each.domain for each in shared}) >= at.number("slo/quality", "min_domains")

    equal_on_few = offer_of(prepared_of(with_facts(*bait(), *scores(catalog, 0.0, 1)), trace), TRAP)
    assert equal_on_few.why_not.startswith("quality")
    assert equal_on_few.verdict.n_benchmarks == 1
    worse = offer_of(prepared_of(with_facts(*bait(), *scores(catalog, -0.2)), trace), TRAP)
    assert worse.why_not.startswith("quality")
    prepared = prepared_of(with_facts(*bait(), *scores(catalog, 0.08)), trace)
    better = offer_of(prepared, TRAP)
    assert better.why_not == ""
    assert better.verdict.passes
    assert {api.subject for api in build(prepared).draft.apis} == {TRAP}


def test_every_offer_that_may_serve_has_proof(catalog: Catalog, trace: Trace) -> None:
    prepared = prepared_of(catalog, trace)
    (case,) = prepared.cases
    able = [offer for offer in case.offers if not offer.why_not]
    assert able
    assert all(offer.verdict.passes for offer in able)
    assert isinstance(able[0].api, Api)
    cheaper = [
        o
        for o in case.offers
        if o.usd_per_month(prepared.weight_h) < able[0].usd_per_month(prepared.weight_h)
    ]
    assert any(offer.why_not.startswith("quality") for offer in cheaper)


@pytest.mark.parametrize(
    "slo", [Slo(regions=("atlantis",)), Slo(not_providers=("openai",)), Slo(place="own", regions=("eu",))]
)
def test_limits_on_place_hold_for_todays_api_too(catalog: Catalog, trace: Trace, slo: Slo) -> None:
    today = offer_of(prepared_of(catalog, trace, slo), "api/openai/gpt-4.1")
    assert today.why_not
    assert not offer_of(prepared_of(catalog, trace), "api/openai/gpt-4.1").why_not
