"""The page of errors says what the model does now, and anchors do what they promise."""

from __future__ import annotations

import re
import runpy
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.errors import BadInput
from isocost.perf import candidates
from isocost.perf.anchor import Anchors, anchored, kinship_of
from isocost.perf.memory import cache_capacity_tok
from isocost.perf.named import like_name, scaled, size_of_name
from isocost.perf.pools import Side, two_pools
from isocost.perf.predict import QUANTITIES, groups_of, load_of, quantities, spread_of, within
from isocost.perf.steady import Options, kept_tok

ROOT = Path(__file__).parents[1]
AT = Catalog.load().at(date(2026, 11, 23))
SETUPS = candidates(AT, "llama-3.3-70b", ["h100-sxm", "mi300x", "l40s"])
NEAR = 0.006
"""The page is rewritten where a figure moves by more than this."""


def _rows(text: str) -> dict[tuple[str, str], list[float]]:
    found = {}
    for name, metric, *cells in re.findall(
        r"^\| (\w+) \| ([\w ,()]+) \| ([\d,]+) \| ([\d.]+)% \| ([\d.]+)% \| (\d+)% \|$", text, re.MULTILINE
    ):
        found[name, metric] = [float(cell.replace(",", "")) for cell in cells]
    return found


def test_the_page_of_errors_is_true(data_dir: Path) -> None:
    """Rewrite it with ``python .ci/accuracy.py DATA``."""
    page = runpy.run_path(str(ROOT / ".ci" / "accuracy.py"))
    said, is_now = _rows(page["PAGE"].read_text(encoding="utf-8")), _rows(page["table"](data_dir))
    assert said.keys() == is_now.keys()
    for key, (rows, *shares) in is_now.items():
        assert said[key][0] == rows, key
        assert said[key][1:] == pytest.approx(shares, abs=100 * NEAR), key


def test_the_page_says_how_far_measurements_of_one_set_up_lie_apart() -> None:
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    for name in ("table", "repeats", "held"):
        begin, end = (f"<!-- {name}: {side} -->" for side in ("begin", "end"))
        assert text.count(begin) == text.count(end) == 1
        assert text.split(begin)[1].split(end)[0].strip()
    noise = re.search(r"^\| silicon \| tpot_mean \| (\d+) \| ([\d.]+)% \| ([\d.]+)% ", text, re.MULTILINE)
    assert noise is not None
    assert float(noise[2]) < 15
    assert float(noise[3]) < 9


def test_sentences_of_the_page_say_what_its_tables_say() -> None:
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    page = _rows(text)
    for name in ("tpot", "ttft"):
        _, mape, median, _ = page["silicon", f"{name}_mean, prefill apart"]
        found = re.search(rf"<!-- apart {name} -->(\d+) % in the mean, (\d+) % in the median<!-- / -->", text)
        assert found is not None
        assert [float(one) for one in found.groups()] == pytest.approx([mape, median], abs=0.56)
    large = re.search(r"<!-- large -->([\d, ]+) %<!-- / -->", text)
    unseen = re.findall(r"\w+\s+([\d.]+)%\s+and\s+[\d.]+%", text.split("<!-- held: begin -->")[1])
    assert large is not None
    said = [float(one) for one in large[1].split(", ")]
    assert said == pytest.approx([float(one) for one in unseen[:4]], abs=0.56)


def test_every_large_source_is_near_eighty_per_cent_on_the_page() -> None:
    page = _rows((ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8"))
    for name, metric in (("silicon", "tpot_mean"), ("mlenergy", "itl_p50"), ("trtllm", "output_throughput")):
        assert 75 <= page[name, metric][3] <= 85


@given(st.floats(1, 512), st.floats(64, 16_384), st.floats(2, 4096))
@settings(max_examples=40, deadline=None)
def test_quantities_agree_with_each_other(many: float, isl: float, osl: float) -> None:
    whole = (SETUPS.arch, SETUPS.gpu, SETUPS.setup, SETUPS.constants)
    ones = np.ones(SETUPS.size)
    for kind in ("closed", "saturated", "offline", "static"):
        found = quantities(*whole, load_of(many * ones, isl, osl, kind))
        assert set(found) == set(QUANTITIES)
        for name, values in found.items():
            assert np.isfinite(values).all(), name
            assert (values > 0).all(), name
        assert found["e2e"] == pytest.approx(found["ttft"] + (osl - 1) * found["tpot"])
        assert found["total_throughput"] == pytest.approx(found["throughput"] * (isl + osl) / osl)
        if kind == "closed":
            # Little's law: requests in flight are their rate times their life, on what the cache holds.
            inside = found["throughput"] / osl * found["e2e"]
            assert (inside <= many * (1 + 1e-6)).all()


def test_little_s_law_is_exact_where_the_cache_holds_every_request() -> None:
    few = load_of(np.full(SETUPS.size, 2.0), 500, 200)
    found = quantities(SETUPS.arch, SETUPS.gpu, SETUPS.setup, SETUPS.constants, few)
    assert found["throughput"] / 200 * found["e2e"] == pytest.approx(np.full(SETUPS.size, 2.0))


def test_what_an_engine_is_told_changes_what_it_should() -> None:
    load = load_of(np.full(SETUPS.size, 8.0), 4000, 300)

    def said(**told: object) -> dict[str, np.ndarray]:
        options = Options(**told)  # type: ignore[arg-type]
        return quantities(SETUPS.arch, SETUPS.gpu, SETUPS.setup, SETUPS.constants, load, options)

    plain = said()
    hit = said(prefix_hit_frac=0.9)
    assert (hit["ttft"] < plain["ttft"]).all()
    assert (hit["tpot"] < plain["tpot"]).all()
    assert (hit["throughput"] > plain["throughput"]).all()
    drafted, useless = said(drafts_tok=3, accepted_tok=1.5), said(drafts_tok=3)
    assert (drafted["tpot"] < plain["tpot"]).all()
    assert (useless["tpot"] > plain["tpot"]).all()
    few = said(most_sequences=2)
    assert (few["ttft"] > plain["ttft"]).all()
    assert (few["tpot"] <= plain["tpot"]).all()
    narrow = SETUPS.setup._replace(cache_bytes=0.5 * SETUPS.setup.cache_bytes)
    found = quantities(SETUPS.arch, SETUPS.gpu, narrow, SETUPS.constants, load)
    assert (found["e2e"] < plain["e2e"]).all()


@given(st.floats(4, 2048), st.floats(64, 16_384), st.floats(16, 4096), st.integers(0, 3), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_pools_keep_little_s_law_and_their_limits(
    many: float, isl: float, osl: float, drafts: int, replicas: int
) -> None:
    ones = np.ones(SETUPS.size)
    k, told = SETUPS.constants, Options(drafts_tok=drafts, accepted_tok=kept_tok(drafts, 0.6))
    side = Side(SETUPS.gpu, SETUPS.setup, k, replicas * ones)
    loop = two_pools(SETUPS.arch, side, side, many * ones, isl, osl, told)
    rate, life = loop.output_tok_per_s / osl, loop.ttft_s + max(osl - 1, 1) * loop.tpot_s
    # Everyone who is inside is somewhere; none decode beyond the cache, nor come faster than peaks allow.
    assert (rate * life >= many * (1 - 1e-6)).all()
    flop = 2.0 * (SETUPS.arch.params_active - SETUPS.arch.head_params) * isl
    peak = np.maximum(SETUPS.setup.dense_flop_per_s, SETUPS.setup.expert_flop_per_s) * SETUPS.setup.gpus
    assert (rate * flop <= replicas * peak).all()
    room = cache_capacity_tok(SETUPS.arch, SETUPS.gpu, SETUPS.setup, k, isl + 0.5 * osl)
    assert (
        loop.running * (isl + 0.5 * osl) <= replicas * np.maximum(room, isl + 0.5 * osl) * (1 + 1e-9)
    ).all()
    more = two_pools(SETUPS.arch, side, side, 2 * many * ones, isl, osl, told)
    assert (more.tpot_s >= loop.tpot_s * (1 - 1e-6)).all()
    assert (more.output_tok_per_s >= loop.output_tok_per_s * (1 - 1e-6)).all()
    # Bytes of weights that every token needs are read once a step, whatever is drafted.
    dense = (SETUPS.arch.attention_params + SETUPS.arch.dense_params) * SETUPS.setup.dense_bytes
    given_tok = 1.0 + kept_tok(drafts, 0.6)
    least = dense / SETUPS.setup.tp / SETUPS.gpu.memory_bytes_per_s
    assert (loop.tpot_s * given_tok >= least).all()


def test_drafts_and_polls_cost_what_they_should() -> None:
    load = load_of(np.full(SETUPS.size, 8.0), 1000, 300)
    whole = (SETUPS.arch, SETUPS.gpu, SETUPS.setup, SETUPS.constants, load)
    plain, polled = quantities(*whole), quantities(*whole, Options(poll_steps=31))
    assert polled["ttft"] == pytest.approx(plain["ttft"] + 15 * plain["step"])
    assert polled["tpot"] == pytest.approx(plain["tpot"])
    offline = load._replace(kind=np.full(SETUPS.size, "offline"))
    short = quantities(*whole[:4], offline, Options(requests=16.0))["throughput"]
    endless = quantities(*whole[:4], offline)["throughput"]
    assert (short < endless).all()
    assert (short > 0.5 * endless).all()


def test_a_whole_prefix_in_the_cache_leaves_the_step_alone() -> None:
    load = load_of(np.full(SETUPS.size, 1.0), 8000, 100)
    told = Options(prefix_hit_frac=1.0 - 1e-9)
    found = quantities(SETUPS.arch, SETUPS.gpu, SETUPS.setup, SETUPS.constants, load, told)
    assert found["tpot"] == pytest.approx(found["step"], rel=1e-6)


def test_spreads_are_wider_where_less_was_measured() -> None:
    groups = groups_of(AT, ["h100-sxm", "mi300x", "tpu-v6e"], ["closed"] * 3)
    spread = spread_of(AT, ["tpot"] * 3, groups)
    width = spread.high - spread.low
    assert (width[1:] > width[0]).all()
    said = within(np.ones(3), spread)
    assert (said.low < said.median).all()
    assert (said.median < said.high).all()


def test_an_anchor_moves_and_narrows_and_most_where_it_is_near() -> None:
    kin = kinship_of(AT, "tpot")
    load = load_of([8, 64, 64], [1000, 1000, 30_000], [200, 200, 200])
    predicted = np.array([0.01, 0.02, 0.05])
    spread = spread_of(AT, ["tpot"] * 3, ["closed"] * 3)
    anchor = Anchors(load_of([8], 1000, 200), predicted[:1], 1.3 * predicted[:1])
    plain = within(predicted, spread)
    said = anchored(predicted, spread, load, anchor, kin)
    moved = said.median / plain.median
    assert 1.2 < moved[0] < 1.3
    assert moved[0] > moved[1] > moved[2] > 1.0
    narrower = np.log(said.high / said.low) / np.log(plain.high / plain.low)
    assert narrower[0] < narrower[1] < narrower[2] < 1.0


def test_many_equal_anchors_say_what_was_measured_and_none_says_nothing() -> None:
    kin = kinship_of(AT, "throughput")
    load = load_of([16], 1000, 200)
    spread = spread_of(AT, ["throughput"], ["closed"])
    many = load_of(np.full(40, 16.0), 1000, 200)
    anchors = Anchors(many, np.full(40, 100.0), np.full(40, 80.0))
    assert anchored(np.array([100.0]), spread, load, anchors, kin).median == pytest.approx([80.0], rel=0.01)
    empty = Anchors(load_of([], [], []), np.empty(0), np.empty(0))
    assert anchored(np.array([100.0]), spread, load, empty, kin) == within(np.array([100.0]), spread)
    with pytest.raises(BadInput):
        anchored(np.array([100.0]), spread, load, anchors._replace(measured=np.zeros(40)), kin)


def test_a_load_of_no_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="closed, saturated"):
        load_of(1, 2, 3, "bursty")


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("nobody/Tern-7B", 7e9, 7e9),
        ("Tern 0.5b instruct", 0.5e9, 0.5e9),
        ("tern-350m", 350e6, 350e6),
        ("Tern-30B-A3B-FP8", 30e9, 3e9),
        ("Tern-8x22B", 176e9, 44e9),
    ],
)
def test_a_name_states_its_size(name: str, total: float, active: float) -> None:
    assert size_of_name(name) == (total, active)


def test_unknown_sizes_are_like_known_ones() -> None:
    assert like_name(AT, "nobody/tern-large") is None
    like = like_name(AT, "nobody/Tern-100B-A10B")
    assert like is not None
    assert AT.find(f"model/{like.model_id}", "experts") is not None
    twice = scaled(SETUPS.arch, np.full(SETUPS.size, 2.0))
    assert twice.params_total == pytest.approx(2 * SETUPS.arch.params_total, rel=0.05)


def test_models_have_the_parameters_that_their_names_state() -> None:
    """Shapes that were not read again are at least of the right size."""
    off = []
    for fact in AT.each("model/", "params_total"):
        size = size_of_name(fact.subject)
        hf_id = AT.find(fact.subject, "hf_id")
        if (
            size is None
            or hf_id is None
            or hf_id.source != "recalled-configs"
            or re.search("x|moe", fact.subject)
        ):
            continue
        if abs(float(fact.value) / size.total - 1) > 0.28:
            off.append(fact.subject)
    assert off == []
