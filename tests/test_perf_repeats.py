"""How far measurements of one set-up lie apart, and what offline engines seat."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.perf import candidates
from isocost.perf.memory import cache_capacity_tok
from isocost.perf.predict import UNTIMED, groups_of, load_of, quantities, spread_of
from isocost.perf.steady import room_for
from isocost.validate.perf import points_of
from isocost.validate.repeats import FEWEST, repeat_notes, repeats_of, setups_of
from isocost.validate.runs import seats_unstated

AT = Catalog.load().at(date(2026, 11, 23))
SETUPS = candidates(AT, "llama-3.3-70b", ["h100-sxm", "l40s"], engine="trtllm")


@given(st.floats(0.01, 0.5), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_noise_that_is_put_in_is_found(noise_sd: float, times: int) -> None:
    random = np.random.default_rng(times)
    setup = np.repeat(np.arange(4000), times)
    middle = random.uniform(0.1, 10.0, 4000)[setup]
    values = middle * np.exp(noise_sd * random.standard_normal(len(setup)))
    found = repeats_of(setup.tolist(), ["tpot"] * len(setup), values, middle)["tpot"]
    # The mean size of a normal error is sqrt(2 / pi) of its deviation, for whoever knows the middle too.
    assert found.scatter == pytest.approx(np.sqrt(2 / np.pi) * noise_sd, rel=0.05)
    assert found.error == pytest.approx(np.sqrt(2 / np.pi) * noise_sd, rel=0.05)
    assert found.setups == 4000


def test_equal_values_are_one_measurement_and_few_say_nothing() -> None:
    assert repeats_of([1] * 40, ["tpot"] * 40, np.ones(40), np.ones(40)) == {}
    few = np.repeat(np.arange(FEWEST - 1), 2).tolist()
    values = np.tile([1.0, 2.0], FEWEST - 1)
    assert repeats_of(few, ["tpot"] * len(few), values, values) == {}
    assert repeat_notes({}) == ()


def test_set_ups_are_one_where_their_columns_are_and_nowhere_else() -> None:
    """Two models that nobody knows are two, though both are answered as the nearest in size."""
    row: dict[str, object] = {
        "model": "nobody/new-8b", "gpu": "H100", "n_gpu": 1.0, "tp": 1.0, "pp": None, "ep": None, "dp": None,
        "precision": "fp8", "engine": "vllm", "engine_version": "0.9", "isl": 1000.0, "osl": 100.0,
        "concurrency_or_batch": 8.0, "load_kind": "closed", "metric": "tpot_mean", "value": 9.0, "unit": "ms",
        "config_id": "a",
    }  # fmt: skip
    changes: list[dict[str, object]] = [
        {}, {"config_id": "b", "value": 8.0}, {"model": "other/fresh-8b"}, {"engine_version": "0.10"},
        {"dp": 1.0},
    ]  # fmt: skip
    points, _, _ = points_of(AT, [{**row, **change} for change in changes])
    assert len(set(points.labels["model"])) == 1
    setups, loose = setups_of(points.labels), setups_of(points.labels, any_version=True)
    assert [setups.index(one) for one in setups] == [0, 0, 2, 3, 4]
    assert [loose.index(one) for one in loose] == [0, 0, 2, 0, 4]


def test_an_engine_that_reserves_whole_answers_holds_fewer_requests() -> None:
    whole = (SETUPS.arch, SETUPS.gpu, SETUPS.setup, SETUPS.constants)
    assert (np.asarray(SETUPS.constants.reserved_answer_frac) == 1.0).all()
    half = (*whole[:3], SETUPS.constants._replace(reserved_answer_frac=0.5))
    room, more = room_for(*whole, 128, 4096), room_for(*half, 128, 4096)
    held = room > 1
    assert (room[held] < more[held]).all()
    # Whole answers of all that run fit the cache at once.
    capacity = cache_capacity_tok(*whole, 128.0 + 4096.0)
    assert room * (128 + 4096) == pytest.approx(capacity)


def test_stages_of_a_pipeline_fill_prompts_side_by_side() -> None:
    many = load_of(np.full(SETUPS.size, 64.0), 4096, 64, "offline")
    one = SETUPS.setup._replace(pp=np.ones(SETUPS.size))
    two = SETUPS.setup._replace(pp=np.full(SETUPS.size, 2.0))
    rates = [
        quantities(SETUPS.arch, SETUPS.gpu, setup, SETUPS.constants, many)["throughput"]
        for setup in (one, two)
    ]
    assert (rates[1] > 1.2 * rates[0]).all()


def test_an_offline_run_seats_what_its_engine_s_benchmark_seats() -> None:
    assert seats_unstated(AT, "trtllm-2025", True) == 4096
    assert seats_unstated(AT, "trtllm", False) == seats_unstated(AT, "vllm", True) < 4096


@pytest.mark.parametrize("load", ["closed", "saturated", "offline", "static", "apart"])
@pytest.mark.parametrize("family", ["", "llama-3"])
def test_an_accelerator_that_nobody_timed_is_less_sure_at_every_load(load: str, family: str) -> None:
    """By the same ratio, whatever the load and whichever family is left out."""
    timed, same, untimed = groups_of(AT, ["h100-sxm", "gb200", "t4"], [load] * 3)
    assert timed == same == load
    for name in ("tpot", "ttft", "e2e", "throughput"):
        spread = spread_of(AT, [name] * 2, [timed, untimed], [family] * 2)
        usual = spread_of(AT, [name] * 2, ["closed", groups_of(AT, ["t4"], ["closed"])[0]])
        assert spread.middle[0] == spread.middle[1]
        below, above = spread.middle - spread.low, spread.high - spread.middle
        assert below[1] / below[0] == pytest.approx(usual.low[1] / usual.low[0])
        assert above[1] / above[0] == pytest.approx(usual.high[1] / usual.high[0])
        assert below[1] + above[1] > below[0] + above[0]


def test_the_page_names_who_was_not_timed() -> None:
    named = ["a10", "a30", "a40", "a800", "l4", "l40", "t4", "v100", "h100-nvl", "h200-nvl", "rtx-4090"]
    alike = ["h20", "h800", "gh200", "gb200", "rtx-5090", "rtx-pro-6000"]
    others = ["mi300x", "gaudi2", "tpu-v6e", "trainium2"]
    groups = groups_of(AT, [*named, *alike, *others], ["closed"] * 21)
    assert [UNTIMED in one for one in groups] == [True] * 11 + [False] * 10
