"""Replicas for a load: enough of them, within the limits, the cheapest first; memory as vLLM reckons it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog, CatalogAt
from isocost.cli import main
from isocost.cli.catalog import newest
from isocost.errors import BadInput, DoesNotFit
from isocost.perf import arch_of
from isocost.size.answer import Wanted, size
from isocost.size.config import formats, normal, with_config
from isocost.size.memory import CacheLog, Engine, Layers, cache_log
from isocost.size.queue import Draft, Need, arrivals_ps
from isocost.size.result import Sized, Sizing
from isocost.size.setups import Ask

NEED = Need(5.0, 1000, 200)
LIMITS = (2.0, 0.1)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


@dataclass(frozen=True)
class Asked:
    """A question about Llama 3.1 8B, in few words."""

    at: CatalogAt

    def __call__(
        self,
        need: Need = NEED,
        gpus: tuple[str, ...] = ("l4", "l40s"),
        limits_s: tuple[float, float] = LIMITS,
        wanted: Wanted = Wanted(top=4),  # noqa: B008
        model: str = "llama-3.1-8b",
    ) -> Sizing:
        return size(self.at, model, need, limits_s, Ask(gpus), wanted)


@pytest.fixture(scope="module")
def asked(at: CatalogAt) -> Asked:
    return Asked(at)


def test_rows_carry_the_load_within_the_limits(asked: Asked) -> None:
    found = asked(gpus=("l4", "l40s", "h100-sxm"), wanted=Wanted(top=8))
    assert found.rows
    costs = [row.usd_per_month.value for row in found.rows]
    assert costs == sorted(costs)
    hours = asked.at.number("finance/any", "hours_per_month")
    for row in found.rows:
        assert row.ttft_p95_s.low <= row.ttft_p95_s.value <= min(2.0, row.ttft_p95_s.high)
        assert row.tpot_p95_s.low <= row.tpot_p95_s.value <= min(0.1, row.tpot_p95_s.high)
        assert row.ttft_p50_s <= row.ttft_p95_s.value <= row.ttft_p99_s
        assert 0.9 <= row.attained_frac <= 1
        assert row.goodput_per_s == pytest.approx(NEED.rate_per_s * row.attained_frac)
        usd = row.replicas * row.gpus * row.usd_per_gpu_h * hours
        assert row.usd_per_month.value == pytest.approx(usd)
        assert row.usd_per_month.low <= row.usd_per_month.value <= row.usd_per_month.high
        mtok = NEED.rate_per_s * 3600 * hours * 1200 / 1e6
        assert row.usd_per_mtok.value == pytest.approx(usd / mtok)
        subject, _, rest = row.quote.partition(".usd_per_gpu_h")
        assert asked.at.fact(subject, "usd_per_gpu_h", rest.partition("]")[0].strip("["))


def test_parts_of_memory_are_the_whole_device(asked: Asked) -> None:
    for row in asked().rows:
        memory = row.memory
        parts = (memory.weights, memory.cache, memory.activations, memory.overhead, memory.unused)
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(asked.at.number(f"gpu/{row.gpu}", "memory_bytes") / 1e9)


def test_energy_lies_between_idle_and_the_limit(asked: Asked) -> None:
    for row in asked().rows:
        assert row.j_per_tok is not None
        assert row.wall_j_per_tok is not None
        each = NEED.rate_per_s / row.replicas * NEED.output_tok
        most = asked.at.number(f"gpu/{row.gpu}", "tdp_w") * row.gpus / each
        idle = asked.at.number("energy/accelerator", "idle_power_frac")
        assert idle * most <= row.j_per_tok.value <= most
        assert row.wall_j_per_tok > row.j_per_tok.value


def test_twice_the_load_is_not_cheaper_and_tighter_limits_neither(asked: Asked) -> None:
    usd = asked().rows[0].usd_per_month.value
    assert asked(NEED._replace(rate_per_s=10.0)).rows[0].usd_per_month.value >= usd
    assert asked(limits_s=(2.0, 0.05)).rows[0].usd_per_month.value >= usd
    assert asked(NEED._replace(burst_cv=4.0)).rows[0].usd_per_month.value >= usd


def test_cached_prompts_wait_less_and_are_not_dearer(asked: Asked) -> None:
    plain, cached = asked().rows[0], asked(NEED._replace(prefix_hit_frac=0.8)).rows[0]
    assert cached.usd_per_month.value <= plain.usd_per_month.value


def test_drafts_that_are_accepted_speed_decoding_and_refused_ones_slow_it(asked: Asked) -> None:
    one = Wanted(top=1)
    gpus = ("h100-sxm",)
    plain, good, bad = (
        asked(gpus=gpus, wanted=one._replace(draft=draft)).rows[0].tpot_p50_s
        for draft in (None, Draft(0.9, 3, 0.06), Draft(0.0, 3, 0.06))
    )
    assert good < plain < bad


def test_what_a_step_and_the_cache_may_hold_changes_memory_as_it_should(asked: Asked) -> None:
    """A narrower cache holds twice the tokens, longer steps leave it less, and few sequences carry less."""

    def one(ask: Ask, **more: object) -> Sized:
        wanted = Wanted(top=1, **more)  # type: ignore[arg-type]
        return size(asked.at, "llama-3.1-8b", NEED, LIMITS, ask, wanted).rows[0]

    plain, narrow = (
        one(Ask(("h100-sxm",), (1,), precisions=("native",), caches=(cache,))) for cache in ("bf16", "fp8")
    )
    assert narrow.cache.tokens == pytest.approx(2 * plain.cache.tokens, rel=1e-3)
    assert narrow.memory.cache == pytest.approx(plain.memory.cache)
    h100 = Ask(("h100-sxm",), (1,), precisions=("native",))
    short, long = (one(h100, max_num_batched_tokens=chunk) for chunk in (1024, 16_384))
    assert short.memory.activations < plain.memory.activations < long.memory.activations
    assert short.cache.tokens > plain.cache.tokens > long.cache.tokens
    few, many = (one(h100, max_num_seqs=count) for count in (4, 64))
    assert few.rate_each_per_s <= many.rate_each_per_s
    assert few.replicas >= many.replicas
    wide = one(Ask(("h100-sxm",), (2,), precisions=("native",)))
    assert wide.memory.weights == pytest.approx(plain.memory.weights / 2)
    assert wide.cache.tokens > 2 * plain.cache.tokens


def test_the_server_and_the_benchmark_say_what_the_figures_stand_on(asked: Asked) -> None:
    ask = Ask(("h200",), (1,), precisions=("native",))
    need = NEED._replace(prefix_hit_frac=0.4)

    def one(model: str, **more: object) -> Sized:
        wanted = Wanted(top=1, **more)  # type: ignore[arg-type]
        return size(asked.at, model, need, LIMITS, ask, wanted).rows[0]

    hybrid, plain = one("qwen3.5-35b-a3b"), one("qwen3-30b-a3b")
    # Models with a state share prefixes only where that is asked for; others do so by themselves.
    assert "--enable-prefix-caching" in hybrid.command
    assert "--enable-prefix-caching" not in plain.command
    assert "--random-input-len 600 " in plain.bench
    assert "--random-prefix-len 400" in plain.bench
    apart = one("qwen3-30b-a3b", apart=True)
    assert "--kv-transfer-config" in apart.command
    assert f"--request-rate {NEED.rate_per_s:g} " in apart.bench


def test_prefill_apart_counts_both_pools(asked: Asked) -> None:
    row = asked(gpus=("h100-sxm",), wanted=Wanted(top=1, apart=True)).rows[0]
    assert row.prefill_replicas >= 1
    assert row.replicas >= 1
    hours = asked.at.number("finance/any", "hours_per_month")
    both = (row.replicas + row.prefill_replicas) * row.gpus * row.usd_per_gpu_h * hours
    assert row.usd_per_month.value == pytest.approx(both)


def test_what_is_held_already_costs_no_rent(asked: Asked) -> None:
    row = asked(gpus=("l40s",), wanted=Wanted(top=1, have=(("l40s", 64),))).rows[0]
    assert row.usd_per_month.value == 0.0


def test_arrivals_have_the_rate_and_the_spread_asked_for() -> None:
    for cv in (0.5, 1.0, 3.0):
        gaps = np.diff(arrivals_ps(5.0, cv, 20_000)) / 1e12
        assert gaps.mean() == pytest.approx(0.2, rel=0.03)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        NEED._replace(rate_per_s=0.0),
        NEED._replace(rate_per_s=float("inf")),
        NEED._replace(prefix_hit_frac=1.0),
        NEED._replace(burst_cv=-1.0),
    ],
)
def test_a_load_that_cannot_be_is_refused(asked: Asked, wrong: Need) -> None:
    with pytest.raises(BadInput):
        asked(wrong)


def test_what_fits_nowhere_says_so(asked: Asked) -> None:
    with pytest.raises(DoesNotFit, match="exceed"):
        asked(gpus=("l4",), model="deepseek-v3.1")


# A log that vLLM 0.24 wrote for a hybrid of 40 layers (a quarter attends) says 567,978 tokens and 4.33x for
# 131,072 tokens a request: tokens are concurrency times length, not blocks times their size.
def test_logged_tokens_are_concurrency_times_length() -> None:
    log = cache_log(Layers(10, 0, 30, 0, 1024.0, 1.1e6), 6.42e9, 131072, Engine(8192, 256, 16))
    assert log.tokens == pytest.approx(log.max_concurrency * 131072, rel=1e-6)
    assert log.block_tok * 1024.0 >= 1.1e6
    assert log.tokens == pytest.approx(567_978, rel=0.1)


def test_plain_attention_fills_the_cache_with_blocks() -> None:
    """Qwen3 235B A22B on four accelerators: 94 layers, one key and value head each, 8.11 GiB of cache."""
    layers = Layers(94, 0, 0, 0, 2 * 128 * 2.0, 0.0)
    log = cache_log(layers, 8.11 * 2**30, 40960, Engine(8192, 256, 16))
    assert log.tokens == pytest.approx(178_880, rel=0.015)


@given(cache=st.floats(1e8, 1e11), length=st.integers(16, 100_000), window=st.integers(16, 4096))
@settings(max_examples=60, deadline=None)
def test_a_window_never_needs_more_than_the_whole(cache: float, length: int, window: int) -> None:
    def logged(full: int, near: int) -> CacheLog:
        return cache_log(Layers(full, near, 0, window, 2048.0, 0.0), cache, length, Engine(2048, 256, 16))

    assert logged(8, 24).max_concurrency >= logged(32, 0).max_concurrency * 0.999


def config(folder: Path, **more: object) -> Path:
    """Llama 3.1 8B as Hugging Face describes it."""
    shape = {
        "_name_or_path": "me/mine-8b", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "vocab_size": 128256, "tie_word_embeddings": False, "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    path = folder / "config.json"
    path.write_text(json.dumps({**shape, **more}))
    return path


def test_a_config_is_the_model_that_it_describes(catalog: Catalog, at: CatalogAt, tmp_path: Path) -> None:
    grown, model = with_config(catalog, config(tmp_path))
    assert model == "mine-8b"
    mine = grown.at(at.on)
    assert arch_of(mine, [model]) == arch_of(at, ["llama-3.1-8b"])
    ours = size(mine, model, NEED, LIMITS, Ask(("l4",)), Wanted(top=1)).rows[0]
    theirs = size(at, "llama-3.1-8b", NEED, LIMITS, Ask(("l4",)), Wanted(top=1)).rows[0]
    assert ours.usd_per_month == theirs.usd_per_month
    # What lies beside the config is served, not what it may have been tuned from.
    assert ours.command.startswith(f"vllm serve {tmp_path} ")


def test_a_config_whose_decoder_is_nested_or_spelled_otherwise(catalog: Catalog, tmp_path: Path) -> None:
    plain = json.loads(config(tmp_path).read_text())
    inner = {key: value for key, value in plain.items() if key not in ("_name_or_path", "torch_dtype")}
    (tmp_path / "config.json").write_text(
        json.dumps({"_name_or_path": "me/sees", "text_config": {**inner, "torch_dtype": "bfloat16"}})
    )
    grown, model = with_config(catalog, tmp_path / "config.json")
    assert grown.at(newest(catalog)).number(f"model/{model}", "layers") == 32
    renamed = {
        "n_embd": 4096, "n_layer": 32, "n_head": 32, "num_kv_heads": 8, "ffn_hidden_size": 14336,
        "vocab_size": 128256, "torch_dtype": "bfloat16", "_name_or_path": "me/other",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(renamed))
    grown, model = with_config(catalog, tmp_path / "config.json")
    assert grown.at(newest(catalog)).number(f"model/{model}", "kv_heads") == 8


def test_a_feed_forward_without_a_gate_is_two_matrices(catalog: Catalog, tmp_path: Path) -> None:
    """Falcon 7B: its config states no width of the feed-forward, and its card 7 billion parameters."""
    falcon = {
        "model_type": "falcon", "_name_or_path": "f/falcon-7b", "hidden_size": 4544, "num_hidden_layers": 32,
        "num_attention_heads": 71, "multi_query": True, "vocab_size": 65024, "torch_dtype": "bfloat16",
        "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(falcon))
    grown, model = with_config(catalog, tmp_path / "config.json")
    arch = arch_of(grown.at(newest(catalog)), [model])
    assert arch.params_total[0] == pytest.approx(7.2e9, rel=0.05)
    assert arch.cache_heads[0] == 1


def test_layers_that_keep_a_state_take_no_cache(catalog: Catalog, tmp_path: Path) -> None:
    pattern = "M-M*" * 8
    path = config(
        tmp_path, model_type="nemotron_h", num_hidden_layers=32, hybrid_override_pattern=pattern,
        ssm_state_size=128, mamba_num_heads=128, mamba_head_dim=64, n_groups=8,
    )  # fmt: skip
    grown, model = with_config(catalog, path)
    mine = grown.at(newest(catalog))
    assert mine.number(f"model/{model}", "full_attention_layers") == 8
    arch, plain = arch_of(mine, [model]), arch_of(mine, ["llama-3.1-8b"])
    assert arch.cache_elements[0] == pytest.approx(plain.cache_elements[0] / 4)
    assert arch.state_elements[0] == pytest.approx(16 * 128 * 64 * 128)


QUANTISED = [
    ({"quant_method": "fp8"}, "fp8"),
    ({"quant_method": "mxfp4"}, "mxfp4"),
    ({"quant_method": "awq", "bits": 4}, "int4"),
    ({"quant_method": "gptq", "bits": 8}, "fp8"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}},
        },
        "int4",
    ),
    ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "fp8"),
]


@pytest.mark.parametrize(("stated", "expected"), QUANTISED, ids=[str(one) for _, one in QUANTISED])
def test_formats_of_quantised_weights(stated: dict[str, object], expected: str) -> None:
    assert formats({"torch_dtype": "bfloat16", "quantization_config": stated}, Path("c"))[1] == expected


def test_windows_that_a_family_writes_as_a_pattern() -> None:
    plain = normal(
        {"text_config": {"num_hidden_layers": 12, "sliding_window": 512, "sliding_window_pattern": 6}}
    )
    assert plain["layer_types"].count("full_attention") == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "not a model's config"),
        ("{", "not JSON"),
        ("{}", "no 'num_hidden_layers'"),
        ('{"hidden_size": "big"}', "'hidden_size' is 'big', not a size"),
        ('{"num_hidden_layers": -3}', "'num_hidden_layers' is -3, not a size"),
        ('{"text_config": {"num_hidden_layers": 1.5}}', "'num_hidden_layers' is 1.5, not a size"),
        ('{"vocab_size": true}', "'vocab_size' is True, not a size"),
    ],
)
def test_a_config_that_is_none(catalog: Catalog, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=says):
        with_config(catalog, tmp_path / "config.json")


def test_a_format_that_is_not_known(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="torch_dtype is 'int3'"):
        with_config(catalog, config(tmp_path, torch_dtype="int3"))
    with pytest.raises(BadInput, match="quantisation 'odd' is not known"):
        with_config(catalog, config(tmp_path, quantization_config={"quant_method": "odd"}))


WORDS = ("size", "llama-3.3-70b", "--rate", "5", "--isl", "1000", "--osl", "200", "--gpu", "h100-sxm,h200")


@pytest.mark.parametrize("width", ["80", "120"])
def test_printed_with_commands_that_can_be_copied(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert main(list(WORDS)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\d+ replicas? of \d x h\d00\S*, \w+: \$\S+ a month$", lines[0])
    assert lines[1].startswith("  80% band $")
    serve = next(line for line in lines if line.startswith("  vllm serve meta-llama/Llama-3.3-70B-Instruct "))
    assert serve.endswith("--gpu-memory-utilization 0.90")
    assert lines[-1].startswith("  vllm bench serve --model meta-llama/Llama-3.3-70B-Instruct ")
    assert "--save-detailed" in lines[-1]
    said = "\n".join(lines)
    for words in (
        "vLLM will log: GPU KV cache size: ",
        "Maximum concurrency for ",
        "goodput ",
        "stands on: ",
    ):
        assert words in said
    rows = [line for line in lines if re.match(r"  \d x h", line)]
    assert 2 <= len(rows) <= 10
    assert all(re.search(r" \$[\d.]+k-\$[\d.]+k +\d+\.\d\d", row) for row in rows), "nothing is cut"


def test_every_engine_gets_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--engine", "all", "--top", "12", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    begins = {"vllm": "vllm serve ", "sglang": "python -m sglang.launch_server ", "trtllm": "trtllm-serve "}
    assert {row["engine"] for row in rows} == set(begins)
    assert all(row["command"].startswith(begins[row["engine"]]) for row in rows)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--engine", "hal"], "no engine 'hal'"),
        (["--term", "weekly"], "no term 'weekly'. Use capacity_block, on_demand"),
        (["--max-num-seqs", "0"], "--max-num-seqs 0"),
        (["--chunk", "0"], "--chunk 0"),
        (["--ttft-p95", "0"], "--ttft-p95 0"),
        (["--tpot-p95", "nan"], "--tpot-p95 nan"),
        (["--kv-dtype", "int1"], "no KV format 'int1'"),
        (["--precision", "int1"], "precision 'int1'"),
        (["--spec", "2,3"], "--spec 2,3"),
        (["--count", "0"], "counts start at 1"),
        (["--have", "h200"], "--have h200"),
        (["--top", "0"], "--top 0"),
        (["--calibration", "absent.csv"], "absent.csv"),
    ],
)
def test_choices_that_cannot_be(more: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, *more]) == 2
    assert says in capsys.readouterr().err


def test_output_fits_any_encoding() -> None:
    code = "import sys; from isocost.cli import main; sys.exit(main(['price', 'openai/gpt-4o']))"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"$")
