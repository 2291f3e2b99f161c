"""Physics: bounds that no step may break, and the linear form beside the roofline it replaces."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.perf import arch_of, candidates, closed_form, closed_loop, goodput, step_terms
from isocost.perf.arch import arch_from_config
from isocost.perf.candidates import Candidates
from isocost.perf.constants import constants_of, interval_of, stack_of
from isocost.perf.hardware import gpu_of
from isocost.perf.memory import cache_capacity_tok
from isocost.perf.roofline import (
    attention_s,
    communication_s,
    decode_step_s,
    either_s,
    experts_touched_frac,
    linear_s,
    prefill_s,
    step_s,
)
from isocost.perf.setup import Precision, setup_of
from isocost.perf.steady import request_work_s

AT = Catalog.load().at(date(2026, 11, 22))
MODELS = [
    "llama-3.1-8b",
    "llama-3.3-70b",
    "qwen3-30b-a3b",
    "gpt-oss-120b",
    "deepseek-r1",
    "glm-5",
    "qwen3.5-397b-a17b",
    "gemma-3-27b",
    "mixtral-8x7b",
]
EVERY = candidates(AT, MODELS)

some = st.lists(st.integers(0, EVERY.size - 1), min_size=1, max_size=24).map(np.array)
batches = st.floats(1, 512)
lengths = st.floats(16, 32_768)


def _decode(every: Candidates, batch: object, context: object) -> np.ndarray:
    return decode_step_s(every.arch, every.gpu, every.setup, every.constants, batch, context)


@given(some, batches, lengths, st.floats(1.0, 4.0))
@settings(max_examples=60, deadline=None)
def test_a_step_never_shortens_with_batch_context_or_prompt(pick, batch, context, more) -> None:
    every = EVERY.select(pick)
    args = (every.arch, every.gpu, every.setup, every.constants)
    one = step_s(*args, batch=batch, context_tok=context, prefill_tok=256.0)
    tiny = 1e-12
    assert (step_s(*args, batch=batch * more, context_tok=context, prefill_tok=256.0) >= one - tiny).all()
    assert (step_s(*args, batch=batch, context_tok=context * more, prefill_tok=256.0) >= one - tiny).all()
    assert (step_s(*args, batch=batch, context_tok=context, prefill_tok=256.0 * more) >= one - tiny).all()


@given(some, batches, lengths)
@settings(max_examples=60, deadline=None)
def test_never_above_peak_throughput_or_bandwidth(pick, batch, context) -> None:
    every = EVERY.select(pick)
    arch, gpu, setup = every.arch, every.gpu, every.setup
    seconds = _decode(every, batch, context)
    fastest = np.maximum(setup.dense_flop_per_s, setup.expert_flop_per_s)
    linear_flop = 2 * batch * (arch.params_active - arch.head_params)
    assert (linear_flop / seconds <= fastest * setup.gpus * 1.0001).all()
    active = (arch.attention_params + arch.dense_params) * setup.dense_bytes
    share = arch.experts_per_token / np.maximum(arch.experts, 1)
    bytes_read = active + arch.expert_params * share * setup.expert_bytes
    seen = np.minimum(context, arch.sparse_tok)
    bytes_read = bytes_read + batch * arch.cache_elements * seen * setup.cache_bytes
    assert (bytes_read / seconds <= gpu.memory_bytes_per_s * setup.gpus * 1.0001).all()
    prompt = prefill_s(arch, gpu, setup, every.constants, context)
    assert (2 * context * (arch.params_active - arch.head_params) / prompt <= fastest * setup.gpus).all()


@given(some, batches)
@settings(max_examples=40, deadline=None)
def test_a_mixture_takes_at_least_its_active_parameters_and_at_most_all(pick, batch) -> None:
    every = EVERY.select(pick)
    arch = every.arch
    share = arch.experts_per_token / np.maximum(arch.experts, 1.0)
    touched = experts_touched_frac(arch, batch)
    assert (touched >= np.where(arch.experts > 0, share, 0) - 1e-9).all()
    assert (touched <= 1).all()
    # Its experts take no less than they would if every token visited the same ones.
    least = every.constants._replace(touch_share=0.0, expert_pad_rows=0.0)
    mixed = linear_s(arch, every.gpu, every.setup, every.constants, batch, batch)
    assert (mixed >= linear_s(arch, every.gpu, every.setup, least, batch, batch) * (1 - 1e-9)).all()


@given(some, batches, lengths)
@settings(max_examples=40, deadline=None)
def test_arrays_answer_as_scalars_do(pick, batch, context) -> None:
    every = EVERY.select(pick)
    together = _decode(every, batch, context)
    terms = every.terms(context, 100.0)
    for i in range(every.size):
        alone = every.select(np.array([i]))
        assert _decode(alone, batch, context)[0] == together[i]
        assert [field[0] for field in alone.terms(context, 100.0)] == [field[i] for field in terms]


def test_smooth_maximum_lies_between_the_greater_and_the_sum() -> None:
    one, other = np.array([1.0, 0.0, 5.0]), np.array([1.0, 2.0, 0.1])
    found = either_s(one, other, 3.0)
    assert (found >= np.maximum(one, other)).all()
    assert (found <= one + other).all()


def test_linear_form_stays_near_the_roofline_over_its_range() -> None:
    worst = []
    for isl, osl in ((512, 256), (2048, 512), (8192, 1024)):
        terms = EVERY.terms(isl, osl)
        for part in (0.0, 0.25, 0.5, 1.0):
            batch = terms.batch_low + part * (terms.batch_high - terms.batch_low)
            for context in (isl, isl + 0.5 * osl, isl + osl):
                full = _decode(EVERY, batch, context)
                worst.append(np.abs(terms.step_s(batch, context) / full - 1))
    error = np.stack(worst)
    assert np.median(error) < 0.01
    assert np.quantile(error, 0.99) < 0.05
    assert error.max() < 0.10


def test_a_prompt_alone_costs_what_the_roofline_says() -> None:
    terms = EVERY.terms(2048, 512)
    alone = prefill_s(EVERY.arch, EVERY.gpu, EVERY.setup, EVERY.constants, 2048)
    per_rank = terms.base_s + terms.prefill_s_per_tok * 2048 * EVERY.setup.dp
    assert per_rank == pytest.approx(alone, rel=0.05)


def test_terms_are_finite_and_not_negative() -> None:
    for isl, osl in ((1, 1), (100, 1), (1, 4000), (30_000, 4000)):
        terms = EVERY.terms(isl, osl)
        for name, field in zip(terms._fields, terms, strict=True):
            assert np.isfinite(field).all(), name
            if name != "kv_capacity_tok":
                assert (field >= 0).all(), name


@given(st.floats(0.01, 0.99), lengths, st.floats(2, 4000))
@settings(max_examples=60, deadline=None)
def test_little_s_law_and_monotone_latency(part, isl, osl) -> None:
    terms = EVERY.terms(isl, osl)
    full = goodput(terms, isl, osl, 1e9, 1e9)
    some = full > 0
    rate = np.where(some, part * full, 0.0)
    found = closed_form(terms, isl, osl, rate)
    life = found.ttft_s + (osl - 1) * found.tpot_s
    assert found.concurrency[some] == pytest.approx((rate * life)[some], rel=1e-9)
    assert (found.running[some] * (isl + 0.5 * osl) <= terms.kv_capacity_tok[some] * (1 + 1e-9)).all()
    # A step that adds what arrives during it is as long as the step terms say.
    step = terms.step_s(found.running, isl + 0.5 * osl, rate * isl * found.tpot_s)
    assert step[some] == pytest.approx(found.tpot_s[some], rel=1e-6)
    less = closed_form(terms, isl, osl, 0.5 * rate)
    assert (less.ttft_s <= found.ttft_s)[some].all()
    assert (less.tpot_s <= found.tpot_s)[some].all()


@given(st.floats(0.05, 10), st.floats(0.005, 0.3))
@settings(max_examples=40, deadline=None)
def test_goodput_keeps_its_limits_and_no_more_fits(ttft_limit, tpot_limit) -> None:
    isl, osl = 1500.0, 300.0
    terms = EVERY.terms(isl, osl)
    rate = goodput(terms, isl, osl, ttft_limit, tpot_limit)
    at = closed_form(terms, isl, osl, rate * (1 - 1e-6))
    some = rate > 0
    assert (at.ttft_s[some] <= ttft_limit).all()
    assert (at.tpot_s[some] <= tpot_limit * (1 + 1e-9)).all()
    above = closed_form(terms, isl, osl, rate * 1.001 + 1e-9)
    assert ((above.ttft_s > ttft_limit) | (above.tpot_s > tpot_limit) | ~np.isfinite(above.tpot_s))[
        some
    ].all()
    wider = goodput(terms, isl, osl, ttft_limit * 2, tpot_limit * 2)
    assert (wider >= rate * (1 - 1e-6)).all()


def test_no_load_waits_for_nothing_and_too_much_never_ends() -> None:
    terms = EVERY.terms(1000, 200)
    idle = closed_form(terms, 1000, 200, 0.0)
    assert (idle.concurrency == 0).all()
    assert idle.tpot_s == pytest.approx(terms.base_s)
    work = request_work_s(terms, 1000, 200)
    assert np.isinf(closed_form(terms, 1000, 200, 1.01 / work).ttft_s).all()


def test_closed_loop_fills_the_cache_and_no_more() -> None:
    args = (EVERY.arch, EVERY.gpu, EVERY.setup, EVERY.constants)
    loop = closed_loop(*args, 1e6, 2000, 500)
    room = cache_capacity_tok(*args, 2250.0)
    assert (loop.running * 2250 <= np.maximum(room, 2250) * (1 + 1e-9)).all()
    few = closed_loop(*args, 4, 2000, 500)
    assert (few.ttft_s < loop.ttft_s).all()
    assert (few.output_tok_per_s <= loop.output_tok_per_s * 1.0001).all()


def test_sparse_and_sliding_attention_read_less_of_long_contexts() -> None:
    for model_id, plain in (("glm-5", {"sparse_tok": np.inf}), ("gpt-oss-120b", {"window_tok": 1e9})):
        found = candidates(AT, model_id, ["b200"])
        arch = arch_of(AT, [model_id] * found.size)
        full = arch._replace(**{name: np.full(found.size, value) for name, value in plain.items()})
        rest = (found.gpu, found.setup, found.constants, 16.0, 100_000.0)
        assert (attention_s(arch, *rest) < 0.75 * attention_s(full, *rest)).all()


def test_terms_laid_for_a_batch_meet_the_roofline_there() -> None:
    batch = 24.0
    terms = step_terms(EVERY.arch, EVERY.gpu, EVERY.setup, EVERY.constants, 1000, 200, batch)
    assert terms.step_s(batch, 1100) == pytest.approx(_decode(EVERY, batch, 1100), rel=0.06)


def test_intervals_hold_one_and_are_wider_where_less_was_measured() -> None:
    for metric in ("tpot", "ttft", "throughput"):
        known = interval_of(AT, metric)
        assert 0 < known.low < 1 < known.high
        for vendor in ("AMD", "Google", "AWS"):
            other = interval_of(AT, metric, vendor)
            assert other.high / other.low > known.high / known.low or metric == "ttft"


def test_an_engine_has_its_own_fixed_times_and_the_others_share() -> None:
    one, other = constants_of(AT, "vllm"), constants_of(AT, "sglang")
    assert one.eager_product_s != other.eager_product_s
    assert one.head_memory_eff == other.head_memory_eff
    assert constants_of(AT, "an engine of one's own") == constants_of(AT, "")
    assert stack_of(AT, "vLLM", "0.11.2") != stack_of(AT, "vllm", "0.19.0") == stack_of(AT, "vllm")


def test_norms_over_all_heads_cost_a_sum_a_layer_where_accelerators_share_it() -> None:
    arch = arch_of(AT, ["minimax-m2.5"])
    apart = arch._replace(joint_norm_layers=np.zeros(1))
    assert arch.joint_norm_layers == arch.layers
    gpu, k = gpu_of(AT, ["h200"]), constants_of(AT)._replace(reduce_s=1e-5)
    for tp, more_s in ((1, 0.0), (4, 62e-5)):
        setup = setup_of(AT, gpu, [Precision("fp8", "fp8", "fp8")], tp=tp)
        found = communication_s(arch, gpu, setup, k, 8.0) - communication_s(apart, gpu, setup, k, 8.0)
        assert found[0] == pytest.approx(more_s)
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100}
    config |= {"intermediate_size": 128, "use_qk_norm": True}
    assert arch_from_config({**config, "qk_norm_type": "per_layer"}).joint_norm_layers == 2
    assert arch_from_config({**config, "qk_norm_type": "per_head"}).joint_norm_layers == 0
