"""Limits a minute of APIs: tiers, the busiest minute, what overflows and where, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt, Fact
from isocost.deployment import Api
from isocost.errors import BadLimits
from isocost.plan.asked.limits import Have, Limits, OwnRate, Slo, read_have
from isocost.plan.market.prepare import Prepared, Request, prepare
from isocost.plan.market.quotas import Quotas, burst, loads, others, within_quotas
from isocost.plan.rates import stuck
from isocost.plan.result import Band, Rate
from isocost.plan.run import Outcome, make_plan
from isocost.report.terminal import rate_words
from isocost.trace.workload import Spread, from_numbers
from isocost.units import count

ON = date(2026, 11, 23)
NOW = "openai/gpt-4o"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def request(catalog: Catalog, have: Have, limits: Limits | None = None) -> Request:
    trace = from_numbers(4e5, 900, 150, spread=Spread(0.8, 0.6, 2.0), days=7.0)
    return Request(trace, catalog, ON, limits or Limits(), have, NOW)


@pytest.fixture(scope="module")
def prepared(catalog: Catalog) -> Prepared:
    return prepare(request(catalog, Have((), 0.0, (OwnRate("openai", "gpt-4o", requests_per_min=8.0),))))


def test_tiers_rise_and_models_belong_to_families(prepared: Prepared) -> None:
    quotas = prepared.quotas
    tiers = quotas.tiers(Api("a", "api/openai/gpt-4o", "openai", "gpt-4o", "api"))
    assert [q.tier for q in tiers] == ["1", "2", "3", "4", "5"]
    assert [q.most[3] for q in tiers] == sorted(q.most[3] for q in tiers)
    assert [q.from_usd for q in tiers] == [5, 50, 100, 250, 1000]
    mini = Api("a", "api/openai/gpt-4o-mini", "openai", "gpt-4o-mini", "api")
    assert quotas.family(mini) == "gpt-4o-mini"
    opus = Api("a", "api/anthropic/claude-opus-4-6", "anthropic", "claude-opus-4-6", "api")
    assert quotas.family(opus) == "claude-opus-4"
    assert quotas.family(Api("a", "api/nobody/x", "nobody", "x", "api")) == ""


def test_the_busiest_minute_is_counted(prepared: Prepared) -> None:
    table, case = prepared.table, prepared.cases[0]
    found = burst(table, case.rows)
    minutes = table.arrival_ns[case.rows] // (60 * 10**9)
    hours = minutes // 60
    busiest = np.bincount(hours - hours.min()).argmax() + hours.min()
    mine = minutes[hours == busiest]
    peak = np.bincount(mine - mine.min()).max()
    assert found[0] == pytest.approx(peak / (len(mine) / 60))
    assert (found >= 1).all()


def test_what_is_split_sums_to_the_whole_and_fits(prepared: Prepared) -> None:
    quotas = prepared.quotas
    whole = prepared.cases[0]
    only = whole.with_offers([o for o in whole.offers if o.api.provider == "openai"], prepared.weight_h)
    best = next(o for o in only.offers if o.api.model == "gpt-4o" and not o.why_not)
    only = only.with_offers([best, *(o for o in only.offers if o.api.model != "gpt-4o")], prepared.weight_h)
    parts = within_quotas(quotas, (only,))
    assert len(parts) > 1
    usage = np.sum([part.stream.usage.requests for part in parts], axis=0)
    np.testing.assert_allclose(usage, whole.stream.usage.requests)
    np.testing.assert_allclose(np.sum([part.part for part in parts], axis=0), 1.0)
    assert parts[0].best is not None
    asked = quotas.asked(parts[0], parts[0].best)
    assert asked[0].max() <= 8.0 * (1 + 1e-6)
    for part in parts[1:]:
        assert all(offer.why_not for offer in part.offers if offer.api.model == "gpt-4o")


def test_the_order_of_streams_says_nothing_of_a_limit(prepared: Prepared) -> None:
    """A family of models that the log shows to be served for one stream is shown for all that share it."""
    quotas = Quotas(prepared.at, Have(), prepared.table, supposed=False)
    case = prepared.cases[0]
    offer = next(o for o in case.offers if o.api.model == "gpt-4o" and o.api.tier == "standard")
    here = replace(case, today=offer.api)
    other = next(o.api for o in case.offers if o.api.model != "gpt-4o")
    moved = replace(case, today=other, stream=replace(case.stream, workload="moved"))
    many = [(one, offer.scaled(1e6), np.ones(168)) for one in (here, moved)]
    found = [loads(quotas, served) for served in (many, many[::-1])]
    assert [(load.over, load.shown, load.most) for (load,) in found] == [(False, True, None)] * 2
    (alone,) = loads(quotas, many[1:])
    assert alone.over
    assert not alone.shown


def test_a_burst_is_counted_once(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    from isocost.plan.market import quotas as module

    counted = []
    monkeypatch.setattr(module, "burst", lambda table, rows: counted.append(len(rows)) or burst(table, rows))
    quotas = Quotas(prepared.at, Have(), prepared.table, supposed=True)
    case = prepared.cases[0]
    for offer in case.offers[:5]:
        quotas.asked(case, offer)
    assert counted == [len(case.rows)]
    assert prepared.quotas is prepared.quotas


def test_no_limit_splits_nothing(catalog: Catalog) -> None:
    free = prepare(request(catalog, Have()))
    assert within_quotas(free.quotas, free.cases) == free.cases


def test_a_tier_that_is_not_published_is_refused(prepared: Prepared) -> None:
    quotas = Quotas(
        prepared.at, Have((), 0.0, (OwnRate("openai", "gpt-4o", tier="9"),)), prepared.table, True
    )
    with pytest.raises(BadLimits, match="no tier '9'"):
        quotas.own(Api("a", "api/openai/gpt-4o", "openai", "gpt-4o", "api"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('provider = "openai"', "neither a tier nor a number"),
        ('provider = "openai"\ntok_per_min = -1', "tok_per_min = -1"),
        ('provider = "openai"\ntok_per_minute = 1', "unknown field"),
    ],
)
def test_limits_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "have.toml"
    file.write_text(f"[[rate_limits]]\n{text}\n")
    with pytest.raises(BadLimits, match=said):
        read_have(file)


def test_a_full_api_overflows_and_costs_more(catalog: Catalog, outcome: Outcome) -> None:
    """With its cheapest API full, the plan costs more, stays within, and says where the rest goes."""
    free = outcome.result
    name = free.rates[0].provider
    low = free.rates[0].asked_per_min / 3
    own = OwnRate(
        name, **{"tok_per_min": low} if free.rates[0].meter == "tokens" else {"requests_per_min": low}
    )
    tight = make_plan(request(catalog, Have((), 0.0, (own,)))).result
    assert tight.plan_usd.mid >= free.plan_usd.mid - 0.01
    for rate in tight.rates:
        if rate.status == "stated" and rate.limit_per_min is not None:
            assert rate.asked_per_min <= rate.limit_per_min * 1.001


@pytest.fixture(scope="module")
def outcome(catalog: Catalog) -> Outcome:
    return make_plan(request(catalog, Have()))


def test_what_is_needed_is_said(outcome: Outcome) -> None:
    words = rate_words(outcome.result.rates)
    assert words
    assert any("needed" in text or "not known" in text or "has" in text for text in words)


def test_a_limit_that_leaves_no_place_says_which_tier_does(catalog: Catalog, prepared: Prepared) -> None:
    names = {offer.api.provider for case in prepared.cases for offer in case.offers}
    limits = Limits(Slo(not_providers=tuple(sorted(names - {"openai"}))))
    # Every model of the provider is held to two requests a minute; gpt-4o to no more than tier 1 has.
    own = (OwnRate("openai", requests_per_min=2.0), OwnRate("openai", "gpt-4o", "1", requests_per_min=2.0))
    error = stuck(prepare(request(catalog, Have((), 0.0, own), limits)))
    assert error is not None
    assert "rate limit" in error.what
    assert "have.toml" in error.conflict[0]
    assert error.ways_out[0][0] == "tier 2 of openai/gpt-4o"
    assert stuck(prepared) is None


def test_a_family_with_one_of_two_limits_is_no_family_with_both(prepared: Prepared) -> None:
    """Of what is not published of output, nothing is said: it is no limit of 0."""

    class Only:
        """The facts of a day, but of output."""

        def each(self, prefix: str, attribute: str) -> Iterator[Fact]:
            return prepared.at.each(prefix, attribute if attribute != "output_tpm_limit" else "none")

    sums = [float(fact.value) for fact in prepared.at.each("provider/", "tpm_limit")]
    found = others(cast(CatalogAt, Only()))
    assert min(sums) <= found.low <= found.high <= max(sums)
    assert found != others(prepared.at)


def test_what_is_asked_of_one_that_publishes_nothing_is_set_beside_what_others_publish(
    prepared: Prepared,
) -> None:
    """A band of highest tiers, and a line only for what is above half of them."""
    found = others(prepared.at)
    assert 0 < found.low < found.middle < found.high
    plain = Rate("host", "a", "tokens", 2 * found.middle, None, None, "", None, "unknown")
    band = Band(found.low, found.middle, found.high)
    less, more = (
        " ".join(rate_words([one])) for one in (plain, msgspec.structs.replace(plain, others_per_min=band))
    )
    assert "taken to have none" not in less
    assert f"{count(found.low)} to {count(found.high)} tokens a minute" in more
