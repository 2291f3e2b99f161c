"""Energy of a sized set-up: an accelerator is at work only while it moves bytes or multiplies."""

from __future__ import annotations

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.cli.catalog import newest
from isocost.perf.energy import power_of
from isocost.size.answer import Wanted, size
from isocost.size.queue import Draft, Need
from isocost.size.setups import Ask, Setups, setups
from isocost.size.watts import Work, busy_frac, energy_of

GPU = "h100-sxm"
BUSY = Work(rate_per_s=2.0, prompt_tok=1000.0, answer_tok=300.0, steps_per_s=100.0, in_steps_frac=0.9)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


@pytest.fixture(scope="module")
def one(at: CatalogAt) -> Setups:
    every = setups(at, "llama-3.1-8b", Ask((GPU,), counts=(1,), precisions=("native",)))
    return every.select(np.zeros(1, dtype=np.intp))


def parts_of(one: Setups, host: float = 1.0):  # type: ignore[no-untyped-def]
    """The set-up with ``host`` times the time that its steps spend outside the accelerator."""
    outside = ("product_s", "layer_s", "moe_layer_s", "step_s", "sequence_s")
    k = one.constants._replace(**{name: np.asarray(getattr(one.constants, name)) * host for name in outside})
    return one.arch, one.gpu, one.setup, k


def test_an_accelerator_whose_steps_are_its_own_works_as_long_as_steps_run(one: Setups) -> None:
    assert busy_frac(parts_of(one, 0.0), BUSY) == pytest.approx(BUSY.in_steps_frac)
    assert busy_frac(parts_of(one, 0.0), BUSY._replace(in_steps_frac=1.0)) == pytest.approx(1.0)


def test_where_the_host_takes_the_steps_the_accelerator_hardly_works(one: Setups) -> None:
    shares = [busy_frac(parts_of(one, host), BUSY) for host in (0.0, 1.0, 10.0, 1e6)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.0, abs=1e-3)
    assert 0.3 < shares[1] < BUSY.in_steps_frac


def test_many_short_steps_of_the_host_draw_less_than_as_long_at_work(at: CatalogAt, one: Setups) -> None:
    """However many sequences run: how often one runs says nothing of whether the accelerator works."""
    crowded = BUSY._replace(rate_per_s=4.0, steps_per_s=30.0, in_steps_frac=1.0)
    works, waits = (energy_of(at, GPU, parts_of(one, host), crowded) for host in (0.0, 50.0))
    assert works is not None
    assert waits is not None
    assert waits.power_w < works.power_w
    power, limit = power_of(at, GPU), at.number(f"gpu/{GPU}", "tdp_w")
    assert waits.power_w >= float(power.idle_power_frac) * limit


def test_without_work_an_accelerator_is_idle_and_a_token_takes_for_ever(at: CatalogAt, one: Setups) -> None:
    nothing = Work(0.0, 1000.0, 300.0, 0.0, 0.0)
    assert busy_frac(parts_of(one), nothing) == 0.0
    found = energy_of(at, GPU, parts_of(one), nothing)
    assert found is not None
    idle = float(power_of(at, GPU).idle_power_frac) * at.number(f"gpu/{GPU}", "tdp_w")
    assert found.power_w == pytest.approx(idle)
    assert np.isinf(found.j_per_tok)


def test_more_load_draws_more_and_costs_less_a_token(at: CatalogAt, one: Setups) -> None:
    found = [
        energy_of(at, GPU, parts_of(one), Work(rate, 1000.0, 300.0, 100.0, share))
        for rate, share in ((0.5, 0.75), (1.0, 0.8), (4.0, 0.9), (16.0, 1.0))
    ]
    watts = [one.power_w for one in found if one is not None]
    joules = [one.j_per_tok for one in found if one is not None]
    assert watts == sorted(watts)
    assert joules == sorted(joules, reverse=True)


def test_tokens_that_are_checked_and_not_kept_are_computed_too(at: CatalogAt, one: Setups) -> None:
    """Three drafts of which each is kept 0.6 times of those before it: 4 tokens pass for 2.176 that stay."""
    kept = sum(0.6**j for j in range(4))
    plain = BUSY._replace(prompt_tok=0.0, found_tok=1000.0)
    drafted = plain._replace(tok_per_pass=kept, drafts_tok=3.0)
    assert drafted.computed_tok_per_s / plain.computed_tok_per_s == pytest.approx(4 / kept)
    assert drafted.running == pytest.approx(plain.running / kept)
    blind = drafted._replace(drafts_tok=0.0)
    assert busy_frac(parts_of(one), drafted) > busy_frac(parts_of(one), blind)
    more, less = (energy_of(at, GPU, parts_of(one), work) for work in (drafted, blind))
    assert more is not None
    assert less is not None
    assert more.power_w > less.power_w


def test_the_cheapest_set_up_with_drafts_pays_for_what_it_checks(at: CatalogAt) -> None:
    """Drafts that are never kept cost more a token than none."""
    need, ask = Need(4.0, 1000, 200), Ask((GPU,), counts=(1,), precisions=("native",))
    found = [
        size(at, "llama-3.1-8b", need, (5.0, 0.1), ask, Wanted(draft=draft, top=1)).rows[0].j_per_tok
        for draft in (None, Draft(0.0, 3, 0.0))
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[1].value > found[0].value


def test_drafts_and_cached_prompts_change_what_runs_and_what_is_read(at: CatalogAt, one: Setups) -> None:
    assert BUSY.running == pytest.approx(6.0)
    assert BUSY._replace(tok_per_pass=2.0).running == pytest.approx(3.0)
    cached = BUSY._replace(prompt_tok=200.0, found_tok=800.0)
    assert cached.context_tok == BUSY.context_tok
    plain, less = (energy_of(at, GPU, parts_of(one), work) for work in (BUSY, cached))
    assert plain is not None
    assert less is not None
    assert less.power_w < plain.power_w
