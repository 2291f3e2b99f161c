"""The performance model: set-ups a CPU-second, and beside a peer on identical rows.

``python benchmarks/perf.py`` measures speed. ``--data DATA --peer PYTHON`` also asks aiconfigurator, with
the interpreter of an environment that has it, for ``--rows`` configurations of ``DATA/perf/silicon.parquet``
drawn at random, and prints both sides' errors on the rows that the peer answers, and CPU time an answer.
Ours answer each family of models by constants that had not seen it; the peer's answers come from the kernel
tables that our constants were fitted to. The peer's own file of served measurements is not read.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.perf import candidates, closed_form, goodput
from isocost.perf.predict import load_of, quantities
from isocost.validate.perf import points_of, predict, select
from isocost.validate.stated import read_rows

ISL, OSL, ROWS = 1500.0, 300.0, 200_000
LEAST_PER_S = 1e6
MOST_SEARCH_S = 0.2
SYSTEMS = {"h100-sxm": "h100_sxm", "h200": "h200_sxm", "b200": "b200_sxm", "b300": "b300_sxm"}
NAMES = {
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "deepseek-r1": "deepseek-ai/DeepSeek-R1",
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "minimax-m2.5": "MiniMaxAI/MiniMax-M2.5",
    "qwen3.5-397b-a17b": "Qwen/Qwen3.5-397B-A17B",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "glm-5": "zai-org/GLM-5",
}
FORMATS = {"bf16": "bfloat16", "fp8": "fp8_block", "fp4": "nvfp4"}
ASK = """
import json, sys, time, logging, warnings
warnings.filterwarnings("ignore"); logging.disable(logging.CRITICAL)
from aiconfigurator.cli.api import cli_estimate
said = []
for ask in json.load(open(sys.argv[1])):
    began = time.process_time()
    try:
        found = cli_estimate(**ask)
        said.append([found.ttft * 1e-3, found.tpot * 1e-3, time.process_time() - began])
    except Exception as wrong:
        said.append([None, str(wrong)[:80], time.process_time() - began])
json.dump(said, open(sys.argv[2], "w"))
"""


def rate(label: str, size: int, work: Callable[[], object], least: float) -> None:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    found = size / best
    print(f"{label:52} {found / 1e6:8.2f} M/CPU-s   {'ok' if found >= least else 'BELOW'} {least / 1e6:g} M")


def speed(at: CatalogAt) -> None:
    ids = [fact.subject.removeprefix("model/") for fact in at.each("model/", "layers")]
    every = candidates(at, ids)
    print(f"{every.size} candidates of {len(ids)} models, {len(every.gpu_ids)} accelerators")
    many = every.select(np.resize(np.arange(every.size), ROWS))
    terms = many.terms(ISL, OSL)
    load = load_of(np.full(ROWS, 32.0), ISL, OSL)
    whole = (many.arch, many.gpu, many.setup, many.constants)
    rate("all quantities of a set-up under a load", ROWS, lambda: quantities(*whole, load), LEAST_PER_S)
    rate("step terms", ROWS, lambda: many.terms(ISL, OSL), LEAST_PER_S)
    rate("closed form", ROWS, lambda: closed_form(terms, ISL, OSL, 1.0), LEAST_PER_S)
    rate("goodput of given terms", ROWS, lambda: goodput(terms, ISL, OSL, 1.0, 0.05), LEAST_PER_S)
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        found = candidates(at, "llama-3.3-70b")
        found.goodput(ISL, OSL, 1.0, 0.05)
        best = min(best, time.process_time() - start)
    verdict = "ok" if best <= MOST_SEARCH_S else "ABOVE"
    title = f"search of a 70B model, {found.size} set-ups"
    print(f"{title:52} {best:8.3f} CPU-s     {verdict} {MOST_SEARCH_S:g} s")


def asks(at: CatalogAt, data: Path, count: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """What the peer is asked, and of the same rows our and the measured first token and pace, ``(n, 4)``."""
    points, _, _ = points_of(at, read_rows(data / "perf" / "silicon.parquet"))
    # The peer is asked for one replica that does both, without drafts.
    plain = (points.told.prefill_replicas == 0) & (points.told.drafts_tok == 0)
    points = select(points, np.flatnonzero(plain))
    said = predict(points)
    first = {
        points.labels["config_id"][i]: (said[i], points.measured[i])
        for i in np.flatnonzero(points.quantity == "ttft").tolist()
    }
    rows = np.flatnonzero(points.quantity == "tpot").tolist()
    random.Random(0).shuffle(rows)
    found: list[dict[str, Any]] = []
    ours: list[tuple[float, ...]] = []
    for i in rows:
        model, gpu, config = (points.labels[name][i] for name in ("model", "gpu", "config_id"))
        if model not in NAMES or gpu not in SYSTEMS or config not in first or len(found) >= count:
            continue
        tp, dp, ep = (int(field[i]) for field in (points.setup.tp, points.setup.dp, points.setup.ep))
        precision = points.precisions[i]
        ask: dict[str, Any] = {
            "model_path": NAMES[model],
            "system_name": SYSTEMS[gpu],
            "mode": "agg",
            "backend_name": points.labels["engine"][i],
            "isl": round(float(points.load.isl[i])),
            "osl": round(float(points.load.osl[i])),
            "batch_size": max(int(points.load.concurrency[i] / dp), 1),
            "tp_size": tp,
            "attention_dp_size": dp,
        }
        if points.arch.experts[i] > 0:
            mx = "w4a16_mxfp4" if gpu.startswith("h") else "w4a8_mxfp4_mxfp8"
            ask |= {"moe_ep_size": ep, "moe_tp_size": max(tp * dp // ep, 1)}
            ask |= {"moe_quant_mode": {**FORMATS, "mxfp4": mx}.get(precision.experts)}
            ask |= {"gemm_quant_mode": FORMATS.get(precision.dense.removesuffix("-tensor"))}
        else:
            ask |= {"gemm_quant_mode": {**FORMATS, "fp8-tensor": "fp8"}.get(precision.dense)}
        found.append(ask)
        ours.append((*first[config][:1], float(said[i]), first[config][1], float(points.measured[i])))
    return found, np.array(ours)


def beside(at: CatalogAt, data: Path, peer: Path, count: int) -> None:
    """Both sides' errors on the rows that the peer answers."""
    questions, ours = asks(at, data, count)
    with tempfile.TemporaryDirectory() as folder:
        ask, told = Path(folder) / "ask.json", Path(folder) / "told.json"
        ask.write_text(json.dumps(questions))
        subprocess.run([str(peer), "-c", ASK, str(ask), str(told)], check=True)
        answers = json.loads(told.read_text())
    answered = np.array([row[0] is not None for row in answers])
    peers = np.array([row[:2] for row in answers if row[0] is not None], dtype=float)
    mine = ours[answered]
    seconds = np.mean([row[2] for row in answers])
    print(f"aiconfigurator answers {answered.sum()} of {len(answers)} rows, {seconds:.2f} CPU-s each")
    for name, column in (("time to first token", 0), ("time per output token", 1)):
        for side, said in (("isocost", mine[:, column]), ("aiconfigurator", peers[:, column])):
            error = np.abs(said / mine[:, 2 + column] - 1.0)
            print(f"  {name:22} {side:15} MAPE {error.mean():6.1%}   median {np.median(error):6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peer", type=Path, help="an interpreter that imports aiconfigurator")
    parser.add_argument("--rows", type=int, default=60)
    args = parser.parse_args()
    at = Catalog.load().at(date(2026, 11, 22))
    speed(at)
    if args.data and args.peer:
        beside(at, args.data, args.peer, args.rows)


if __name__ == "__main__":
    main()
