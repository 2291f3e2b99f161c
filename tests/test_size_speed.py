"""A set-up is taken to be as fast, and as surely so, by ``size`` and by plans; calibrations move both."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.catalog.catalog import FACTS_DIR
from isocost.ledger import Ledger
from isocost.perf import candidates
from isocost.plan.asked.limits import Have, Limits, Slo
from isocost.plan.make.build import Built, build
from isocost.plan.make.singles import Single, pool_singles
from isocost.plan.market.pools import _speed, pool_options
from isocost.plan.market.prepare import Request, prepare
from isocost.plan.tell import story
from isocost.size.answer import Wanted, size
from isocost.size.calibrated import condition
from isocost.size.queue import Need
from isocost.size.setups import Ask, setups
from isocost.size.speed import loaded, speed_of
from isocost.trace.workload import Spread, from_numbers
from isocost.validate.calibrate import Calibrated, Ratio, write

ON = date(2026, 11, 23)
MODEL = "llama-3.3-70b"
NONE = Ratio(1.0, 1.0, 1.0)


def calibration(folder: Path, model: str, gpu: str, when: str, ratio: float) -> Catalog:
    """The shipped facts with a calibration of one set-up, as ``isocost calibrate --out`` writes it."""
    one = Ratio(ratio, 0.95 * ratio, 1.05 * ratio)
    found = Calibrated(
        f"calibration/{model}/{gpu}", when, 1, 0, one, one, NONE, NONE, {}, {}, (), (1, 500), (1, 1e5),
        (1, 1e5),
    )  # fmt: skip
    write(found, folder, "bench.json", ON.isoformat())
    return Catalog.load(FACTS_DIR, folder)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(ON)


@pytest.mark.parametrize("gpu", ["h100-sxm", "mi300x", "gaudi3"])
def test_planner_and_size_take_a_setup_to_be_equally_fast_and_sure(at: CatalogAt, gpu: str) -> None:
    ours = setups(at, MODEL, Ask((gpu,)))
    theirs = candidates(at, MODEL, (gpu,), context_tok=2300.0)
    speed = _speed(at, theirs)
    mine = speed_of(
        at,
        [
            (
                MODEL,
                gpu,
                condition("vllm", int(ours.setup.gpus[i]), ours.precisions[ours.precision[i]].experts),
            )
            for i in range(ours.size)
        ],
    )
    found = 0
    plan = speed.moved(theirs.terms(2000.0, 300.0))
    own = mine.moved(ours.terms(2000.0, 300.0))
    for i in range(theirs.size):
        for j in range(ours.size):
            same = all(getattr(theirs.setup, n)[i] == getattr(ours.setup, n)[j] for n in ("tp", "dp"))
            if same and theirs.precisions[theirs.precision[i]] == ours.precisions[ours.precision[j]]:
                found += 1
                for name in ("base_s", "prefill_s_per_tok", "seq_s", "kv_s_per_tok", "first_token_s"):
                    assert getattr(plan, name)[i] == pytest.approx(getattr(own, name)[j], rel=1e-12)
                for name in ("tpot", "ttft", "throughput"):
                    assert speed.frac(name, i) == mine.frac(name, j)
    assert found >= 2


def test_pools_of_a_plan_have_the_steps_and_the_interval_of_size(catalog: Catalog, at: CatalogAt) -> None:
    trace = from_numbers(100_000, 2000, 300, spread=Spread(0.5, 0.5), days=2)
    ready = prepare(Request(trace, catalog, ON, Limits(), Have(), "openai/gpt-4o"))
    for option in pool_options(ready.at, ready.market, ready.cases, ready.weight_h, keep=8):
        pool = option.pool
        weights = pool.precision.rpartition("+")[2]
        speed = speed_of(at, [(pool.model, pool.gpu, condition("vllm", pool.gpus, weights))])
        assert option.speed_frac == speed.frac("throughput", 0)
        assert option.measured == ""
        assert pool.first_token_ps > 0


def test_other_makers_are_slowed_by_what_was_measured_of_them(at: CatalogAt) -> None:
    middle = at.fact("perf/interval", "tpot_ratio", "vendor=AMD")
    every = setups(at, MODEL, Ask(("mi300x",), (8,)))
    speed = speed_of(at, [(MODEL, "mi300x", condition("vllm", 8, "fp8"))] * every.size)
    plain = every.terms(2000.0, 300.0)
    assert speed.moved(plain).base_s == pytest.approx(plain.base_s * float(middle.value))
    assert middle.low is not None
    assert middle.high is not None
    assert speed.frac("tpot", 0) == pytest.approx(
        (middle.low / float(middle.value), middle.high / float(middle.value))
    )


def test_a_calibration_at_twice_the_speed_makes_the_plan_cheaper_and_says_so(
    catalog: Catalog, tmp_path: Path
) -> None:
    trace = from_numbers(2_000_000, 2000, 400, spread=Spread(0.5, 0.5), days=2)

    def planned(facts: Catalog) -> tuple[Built, Single]:
        limits = Limits(default=Slo(ttft_p95_s=3.0, tpot_p95_s=0.1))
        now = "novita/meta-llama/llama-3.3-70b-instruct"
        built = build(prepare(Request(trace, facts, ON, limits, Have(), now)))
        return built, pool_singles(built, "selfhost")[0]

    before, was = planned(catalog)
    old = next(o for o in before.options if o.pool.id == was.id)
    when = condition("vllm", old.pool.gpus, old.pool.precision.rpartition("+")[2])
    after, now = planned(calibration(tmp_path, old.pool.model, old.pool.gpu, when, 0.5))
    new = next(o for o in after.options if o.pool.id == now.id)
    assert now.id == was.id
    assert now.usd_per_month < was.usd_per_month
    totals = story.Totals(now.ledger or Ledger(), now.ledger or Ledger(), {})
    assert story.option_line("selfhost", now, after, totals).label == f"{now.id}, calibrated"
    assert story.option_line("selfhost", was, before, totals).label == was.id
    assert new.speed_frac == pytest.approx((0.95238, 1.05263), rel=1e-3)
    assert old.speed_frac[0] < new.speed_frac[0]
    assert new.pool.base_ps < 0.7 * old.pool.base_ps


def test_size_says_what_a_calibration_of_its_own_changed(
    at: CatalogAt, catalog: Catalog, tmp_path: Path
) -> None:
    mine = calibration(tmp_path, "llama-3.1-8b", "h100-sxm", condition("vllm", 1, "bf16"), 0.5).at(ON)
    asked = Need(5.0, 1000, 200), (2.0, 0.1), Ask(("h100-sxm",), (1,), precisions=("native",)), Wanted(top=1)
    plain, own = (size(facts, "llama-3.1-8b", *asked).rows[0] for facts in (at, mine))
    assert own.tpot_p50_s < 0.7 * plain.tpot_p50_s
    assert own.measured == "your own measurements"


def test_the_load_that_is_carried_keeps_the_limits_and_relays_the_line(at: CatalogAt) -> None:
    every = setups(at, MODEL, Ask(("h100-sxm",)))
    speed = speed_of(at, [(MODEL, "h100-sxm", "engine=vllm;gpus=1;weights=fp8")] * every.size)
    lengths = (2000.0, 300.0)
    rate, terms, _ = loaded(lambda n: every.terms(*lengths, n), speed, lengths, (2.0, 0.05))
    tighter, _, _ = loaded(lambda n: every.terms(*lengths, n), speed, lengths, (1.0, 0.03))
    assert (rate > 0).any()
    assert (tighter <= rate + 1e-9).all()
    assert np.isfinite(terms.base_s).all()
    assert speed.select([0]).frac("tpot", 0) == speed.frac("tpot", 0)
