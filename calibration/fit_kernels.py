"""Fit a few constants to measured kernels of each accelerator: ``python calibration/fit_kernels.py FOLDER``.

``FOLDER`` holds the unpacked wheel ``aiconfigurator-core`` 0.12.0 (Apache-2.0). Only these paths below it are
read, each for every accelerator of :data:`SYSTEMS` and every engine and version there::

    aiconfigurator_core/systems/data/SYSTEM/gemm/ENGINE/VERSION/gemm_perf.parquet
    aiconfigurator_core/systems/data/SYSTEM/moe/ENGINE/VERSION/moe_perf.parquet
    aiconfigurator_core/systems/data/SYSTEM/attention/ENGINE/VERSION/{context,generation}_attention_perf.parquet
    aiconfigurator_core/systems/data/SYSTEM/mla/ENGINE/VERSION/{context,generation}_mla_perf.parquet
    aiconfigurator_core/systems/data/SYSTEM/comm/ENGINE/VERSION/custom_allreduce_perf.parquet

They time single kernels. Nothing that times a served model is read, and no other file of the wheel.
The result is ``facts/kernels.csv``: constants of each accelerator, of each generation (geometric means)
and of all (``kernel/any``), with the median error of the fit in the note. GB200 and GB300 are the chips of
B200 and B300 (facts ``kernels_of``).
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from isocost.catalog import Catalog, CatalogAt
from isocost.perf import gpu_of
from isocost.perf.hardware import Gpu

SYSTEMS = {
    "a100_sxm": "a100-80-sxm",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000",
}
DTYPES = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "nvfp4": "fp4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4",
    "int4_wo": "int4",
}
MOST_ROWS = 5000
LEAST_ROWS = 300
LARGEST_STEP_TOK = 32768
NARROWEST_SHARD = 96
"""Inner width of an expert below which a table times launches."""
ROUTED_SHARE = 0.85
"""Of the tokens of a skewed load, those that spread as a random one's do."""
WORST_FIT = 0.32
"""Median error beyond which one engine's curve is left out for that of all engines."""
LEAST_REDUCE_EFF = 0.2
"""Below this share of the link a table times one machine whose accelerators meet across its processors."""
LEAST_WEIGHTS = 2e6
"""Elements of the smallest matrix that a served model spends time on: smaller ones time launches."""
LEAST_READ_S = 1e-6
"""A cache that the data sheet reads in less times launches."""
GROUPS = (4, 8, 16)
"""Heads of a query that share a head of the cache, in the models that are served."""
Sample = dict[str, np.ndarray]


class Guess(NamedTuple):
    """A constant: its name, a textbook guess and the physical range."""

    name: str
    guess: float
    low: float
    high: float


class Fitted(NamedTuple):
    """Constants by name, and the median absolute relative error of the kernels that they describe."""

    values: dict[str, float]
    median: float
    rows: int


PRODUCT = (
    Guess("dense_memory_eff", 0.8, 0.3, 1.0),
    Guess("dense_flop_eff", 0.6, 0.1, 1.0),
    Guess("dense_start_s", 4e-6, 1e-6, 3e-5),
    Guess("dense_blend", 2.0, 1.0, 6.0),
    Guess("dense_row_moves", 3.0, 0.1, 30.0),
    Guess("dense_tile_elements", 3e5, 1e3, 5e6),
)
EXPERTS = (
    Guess("expert_memory_eff", 0.8, 0.2, 1.0),
    Guess("expert_flop_eff", 0.4, 0.04, 1.0),
    Guess("expert_start_s", 3e-5, 5e-6, 2e-4),
    Guess("expert_blend", 2.0, 1.0, 6.0),
    Guess("expert_row_moves", 10.0, 1.0, 60.0),
    Guess("expert_pad_rows", 16.0, 1.0, 256.0),
    Guess("expert_each_s", 2e-8, 1e-9, 5e-7),
)
DECODE = (
    Guess("cache_memory_eff", 0.8, 0.2, 1.0),
    Guess("cache_flop_eff", 0.2, 0.1, 1.0),
    Guess("attention_start_s", 8e-6, 1e-6, 3e-5),
    Guess("cache_blend", 2.0, 0.5, 6.0),
)
LATENT_DECODE = (
    Guess("cache_memory_eff", 0.6, 0.05, 1.0),
    Guess("cache_flop_eff", 0.5, 0.05, 1.5),
    Guess("attention_start_s", 1.2e-5, 1e-6, 5e-5),
    Guess("cache_blend", 1.5, 0.5, 6.0),
)
PROMPT = (
    Guess("prompt_flop_eff", 0.6, 0.05, 1.5),
    Guess("move_eff", 0.7, 0.05, 5.0),
    Guess("start_s", 1e-5, 1e-6, 5e-5),
)
REDUCE = (Guess("reduce_s", 6e-6, 1e-6, 1e-4), Guess("reduce_eff", 0.6, 0.01, 1.0))


def fit(
    model: Callable[[np.ndarray], np.ndarray], seconds: np.ndarray, guesses: tuple[Guess, ...], pull: float
) -> Fitted:
    """The constants that minimise a robust loss of log(model / measured), pulled to their guesses."""
    start, low, high = np.log([guess[1:] for guess in guesses]).T
    scale = 30.0 / np.sqrt(len(seconds))

    def residual(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(model(np.exp(x)) / seconds) * scale, pull * (x - start)])

    found = np.exp(least_squares(residual, start, bounds=(low, high), loss="soft_l1", f_scale=0.1).x)
    error = float(np.median(np.abs(model(found) / seconds - 1.0)))
    named = {guess.name: float(value) for guess, value in zip(guesses, found, strict=True)}
    return Fitted(named, error, len(seconds))


def either(one: np.ndarray, other: np.ndarray, blend: float) -> np.ndarray:
    """Two times that overlap, but not perfectly."""
    return np.asarray((one**blend + other**blend) ** (1.0 / blend))


def table(folder: Path, system: str, room: str, name: str) -> pd.DataFrame:
    """One table of a system over engines and versions, which become columns."""
    base = folder / "aiconfigurator_core" / "systems" / "data" / system / room
    parts = []
    for path in sorted(base.glob(f"*/*/{name}.parquet")):
        part = pd.read_parquet(path)
        parts.append(part.assign(engine=path.parts[-3], version=path.parts[-2]))
    every = pd.concat(parts, ignore_index=True)
    return every[every.latency > 0]


def sample(rows: pd.DataFrame, keys: list[str], best: str = "min") -> tuple[Sample, np.ndarray]:
    """At each shape the best (or the median) time, as arrays; milliseconds become seconds."""
    rows = rows.groupby(keys, as_index=False).latency.agg(best)
    if len(rows) > MOST_ROWS:
        rows = rows.sample(MOST_ROWS, random_state=0)
    return {key: rows[key].to_numpy(float) for key in keys}, rows.latency.to_numpy(float) * 1e-3


class Device(NamedTuple):
    """One accelerator's peaks, by format where they differ, and bytes of an element by format."""

    memory: float
    link: float
    flops: dict[str, float]
    width: dict[str, float]


def device_of(at: CatalogAt, gpu_id: str) -> Device:
    """Peaks as the physics takes them."""
    gpu: Gpu = gpu_of(at, [gpu_id])
    rate = {"bf16": gpu.bf16_flop_per_s[0], "fp8": gpu.fp8_flop_per_s[0], "fp4": gpu.fp4_flop_per_s[0]}
    names = ("bf16", "fp8", "fp8-tensor", "fp4", "mxfp4", "int4")
    computes = {name: rate[at.text(f"dtype/{name}", "computes_as")] for name in names}
    width = {name: at.number(f"dtype/{name}", "bytes_per_element") for name in names}
    return Device(float(gpu.memory_bytes_per_s[0]), float(gpu.link_bytes_per_s[0]), computes, width)


def products(rows: pd.DataFrame, device: Device) -> Iterator[tuple[str, Fitted]]:
    """Matrix products by format and engine, then of all engines: the best at each shape."""
    rows = rows[(rows.n >= 256) & (rows.k >= 256) & (rows.m <= 16384) & (rows.n * rows.k >= LEAST_WEIGHTS)]
    rows = rows.assign(dtype=rows.gemm_dtype.map({**DTYPES, "fp8": "fp8-tensor"}))
    # These two were timed with the launches of an interpreter around them.
    rows = rows[~((rows.engine == "vllm") & (rows.dtype == "fp8"))]
    engines = ("", *sorted(rows.engine.unique()))
    for dtype, engine in itertools.product(("bf16", "fp8", "fp8-tensor", "fp4"), engines):
        part = rows[(rows.dtype == dtype) & ((rows.engine == engine) | (engine == ""))]
        if len(part) < LEAST_ROWS:
            continue
        shape, seconds = sample(part, ["m", "n", "k"])
        m, n, k = shape["m"], shape["n"], shape["k"]
        moved = (n * k + m * k) * device.width[dtype] + m * n * 2.0
        flop = 2.0 * m * n * k

        def model(  # type: ignore[no-untyped-def]
            p: np.ndarray, m=m, k=k, moved=moved, flop=flop, dtype=dtype
        ) -> np.ndarray:
            # Rows are narrowed first, and no product takes less than one round of the units.
            rows_s = m * k * p[4] / device.memory
            whole = (flop + 2.0 * k * p[5]) / (device.flops[dtype] * p[1])
            return np.asarray(p[2] + rows_s + either(moved / (device.memory * p[0]), whole, p[3]))

        found = fit(model, seconds, PRODUCT, 0.3)
        if not engine or found.median <= WORST_FIT:
            yield named(dtype, engine), found


def named(dtype: str, engine: str, kind: str = "") -> str:
    """The condition of a curve."""
    return f"{kind}dtype={dtype}" + (f";engine={engine}" if engine else "")


def experts(rows: pd.DataFrame, device: Device) -> Iterator[tuple[str, Fitted]]:
    """Grouped products of routed experts by format and engine, the oldest version of each; then of all."""
    rows = rows.assign(dtype=rows.moe_dtype.map({**DTYPES, "fp8": "fp8-tensor"}))
    rows = rows[rows.dtype.notna() & (rows.distribution == "power_law_1.01")]
    rows = rows[~rows.kernel_source.str.contains("nongated") & (rows.num_tokens <= LARGEST_STEP_TOK)]
    rows = rows[rows.inter_size / rows.moe_tp_size >= NARROWEST_SHARD]
    for dtype, of_dtype in rows.groupby("dtype"):
        for engine in ("", *sorted(of_dtype.engine.unique())):
            part = of_dtype if not engine else of_dtype[of_dtype.engine == engine]
            if engine:
                part = part[part.version == min(part.version.unique(), key=_release)]
            if len(part) < LEAST_ROWS:
                continue
            found = _experts(part, device, str(dtype), "min" if engine else "median")
            if not engine or found.median <= WORST_FIT:
                yield named(str(dtype), engine), found


def _release(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.replace("rc", ".").split(".")]


def _experts(part: pd.DataFrame, device: Device, dtype: str, best: str) -> Fitted:
    keys = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]
    shape, seconds = sample(part, keys, best)
    tokens, hidden, inner, chosen, count, tp, ep = (shape[key] for key in keys)
    one = 3.0 * hidden * inner / tp
    share = np.minimum(chosen / count, 1 - 1e-12)
    here = count / ep
    touched = here * -np.expm1(tokens * ROUTED_SHARE * np.log1p(-share))
    visits = tokens * chosen / ep
    moved = touched * one * device.width[dtype]

    def model(p: np.ndarray) -> np.ndarray:
        flop = 2.0 * one * (visits + p[5] * touched)
        both = either(moved / (device.memory * p[0]), flop / (device.flops[dtype] * p[1]), p[3])
        return np.asarray(p[2] + p[6] * here + visits * hidden * p[4] / device.memory + both)

    return fit(model, seconds, EXPERTS, 0.2)


def decode(rows: pd.DataFrame, device: Device, latent: bool) -> Iterator[tuple[str, Fitted]]:
    """Attention of one new token of each sequence over its cache, by format and engine, then of all."""
    keys = ["batch_size", "isl", "step", "num_heads"]
    if not latent:
        rows = rows[(rows.window_size.fillna(0) == 0) & (rows.head_dim == 128)]
        keys.append("num_key_value_heads")
        kept = rows.num_key_value_heads.where(rows.num_key_value_heads > 0, rows.num_heads)
        rows = rows[(rows.num_heads / kept).isin(GROUPS)]
        kept = kept[rows.index]
    else:
        kept = 288.0 / 128.0
    engines = ("", *sorted(rows.engine.unique()))
    for (name, dtype), engine in itertools.product((("bfloat16", "bf16"), ("fp8", "fp8")), engines):
        bytes_each = 256.0 * kept * (1.0 if dtype == "fp8" else 2.0)
        is_long = rows.batch_size * (rows.isl + rows.step) * bytes_each >= LEAST_READ_S * device.memory
        part = rows[is_long & (rows.kv_cache_dtype == name) & ((rows.engine == engine) | (engine == ""))]
        if len(part) < LEAST_ROWS:
            continue
        shape, seconds = sample(part, keys)
        pairs = shape["batch_size"] * (shape["isl"] + shape["step"])
        width = 1.0 if dtype == "fp8" else 2.0
        if latent:
            moved, flop = pairs * 576 * width, 2.0 * pairs * shape["num_heads"] * (512 + 576)
        else:
            heads = np.where(
                shape["num_key_value_heads"] == 0, shape["num_heads"], shape["num_key_value_heads"]
            )
            moved, flop = pairs * 2 * heads * 128 * width, 4.0 * pairs * shape["num_heads"] * 128

        def model(p: np.ndarray, moved=moved, flop=flop) -> np.ndarray:  # type: ignore[no-untyped-def]
            return p[2] + either(moved / (device.memory * p[0]), flop / (device.flops["bf16"] * p[1]), p[3])

        kind = "attention=latent;" if latent else ""
        found = fit(model, seconds, LATENT_DECODE if latent else DECODE, 0.3)
        if not engine or found.median <= WORST_FIT:
            yield named(dtype, engine, kind), found


def prompts(rows: pd.DataFrame, device: Device, latent: bool) -> Iterator[tuple[str, Fitted]]:
    """Attention of the tokens of a prompt among themselves, by format of the cache."""
    keys = ["batch_size", "isl", "num_heads"]
    if not latent:
        rows = rows[(rows.window_size.fillna(0) == 0) & (rows.head_dim == 128)]
        rows = rows.assign(step=rows.step.fillna(0))
        keys += ["num_key_value_heads", "step"]
    for name, dtype in (("bfloat16", "bf16"), ("fp8", "fp8")):
        part = rows if latent else rows[rows.kv_cache_dtype == name]
        if len(part) < 300:
            continue
        shape, seconds = sample(part, keys)
        batch, isl, heads = shape["batch_size"], shape["isl"], shape["num_heads"]
        seen = 0.5 * isl + (0.0 if latent else shape["step"])
        flop = 2.0 * batch * isl * seen * heads * (320 if latent else 256)
        moved = batch * isl * heads * 128 * 8.0

        def model(p: np.ndarray, moved=moved, flop=flop) -> np.ndarray:  # type: ignore[no-untyped-def]
            return np.asarray(p[2] + moved / (device.memory * p[1]) + flop / (device.flops["bf16"] * p[0]))

        found = fit(model, seconds, PROMPT, 0.3)
        kept = {"prompt_flop_eff": found.values["prompt_flop_eff"]}
        kind = "attention=latent;" if latent else ""
        yield f"{kind}dtype={dtype}", found._replace(values=kept)


def reductions(rows: pd.DataFrame, device: Device) -> Iterator[tuple[str, Fitted]]:
    """Sums over accelerators inside a captured graph, by how many; messages count elements of two bytes."""
    rows = rows[~rows.backend.fillna("").str.contains("eager")]
    for count in (2, 4, 8):
        part = rows[rows.num_gpus == count]
        if not len(part):
            continue
        shape, seconds = sample(part, ["message_size"], "median")
        moved = 2.0 * (count - 1) / count * shape["message_size"] * 2.0

        def model(p: np.ndarray, moved=moved) -> np.ndarray:  # type: ignore[no-untyped-def]
            return np.asarray(p[0] + moved / (device.link * p[1]))

        found = fit(model, seconds, REDUCE, 0.3)
        if found.values["reduce_eff"] >= LEAST_REDUCE_EFF:
            yield f"gpus={count}", found


def constants(folder: Path, system: str, device: Device) -> dict[tuple[str, str], tuple[float, float, int]]:
    """All constants of an accelerator: value, median error and rows, by attribute and qualifier."""
    found: dict[tuple[str, str], tuple[float, float, int]] = {}
    groups = (
        products(table(folder, system, "gemm", "gemm_perf"), device),
        experts(table(folder, system, "moe", "moe_perf"), device),
        decode(table(folder, system, "attention", "generation_attention_perf"), device, False),
        prompts(table(folder, system, "attention", "context_attention_perf"), device, False),
        decode(table(folder, system, "mla", "generation_mla_perf"), device, True),
        prompts(table(folder, system, "mla", "context_mla_perf"), device, True),
        reductions(table(folder, system, "comm", "custom_allreduce_perf"), device),
    )
    for group in groups:
        for when, fitted in group:
            for name, value in fitted.values.items():
                found[name, when] = (value, fitted.median, fitted.rows)
    return found


def means(
    each: dict[str, dict[tuple[str, str], tuple[float, float, int]]], groups: dict[str, list[str]]
) -> Iterator[tuple[str, str, str, float, float, float]]:
    """Geometric means of groups of accelerators, with the least and the greatest."""
    for group, members in groups.items():
        values = defaultdict(list)
        for gpu_id in members:
            for (name, when), (value, _, _) in each[gpu_id].items():
                if "engine=" not in when:
                    values[name, when].append(value)
        for (name, when), these in sorted(values.items()):
            yield group, name, when, float(np.exp(np.mean(np.log(these)))), min(these), max(these)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path, required=True)
    args = parser.parse_args()
    at = Catalog.load().at(date.today())
    each = {}
    for system, gpu_id in SYSTEMS.items():
        each[gpu_id] = constants(args.folder, system, device_of(at, gpu_id))
        print(gpu_id, len(each[gpu_id]), flush=True)
    groups = defaultdict(list)
    for gpu_id in each:
        groups[at.text(f"gpu/{gpu_id}", "generation")].append(gpu_id)
    units = {"start_s": "s", "each_s": "s", "reduce_s": "s", "pad_rows": "count", "tile_elements": "count"}

    def row(subject: str, name: str, when: str, numbers: tuple[str, str, str], note: str) -> list[str]:
        unit = next((unit for end, unit in units.items() if name.endswith(end)), "1")
        value, low, high = numbers
        read = ["", "", "aic-kernels", "", date.today().isoformat(), "derived", "", note]
        return [subject, name, when, value, unit, low, high, *read]

    rows = []
    for gpu_id, found in each.items():
        for (name, when), (value, error, count) in found.items():
            note = f"median error {error:.0%} over {count:,} kernels"
            rows.append(row(f"kernel/{gpu_id}", name, when, (f"{value:.4g}", "", ""), note))
    for group, name, when, value, low, high in means(each, {**groups, "any": list(each)}):
        spread = (f"{value:.4g}", f"{low:.4g}" if low < high else "", f"{high:.4g}" if low < high else "")
        rows.append(row(f"kernel/{group}", name, when, spread, "geometric mean; least and greatest"))
    head = "subject,attribute,when,value,unit,low,high,valid_from,valid_to,source,quote,checked,kind"
    with args.write.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head.split(","), "boundary", "note"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
