"""Which set-ups were measured by whom: ``facts/measured.csv``, from the measured tables of a data folder.

Run by hand: ``python calibration/measured_points.py DATA [--write]``. Each fact is one set-up (model,
accelerator, engine, accelerators of a replica, formats) with the median concurrency at which it was
measured and its central 80 %. No measured speed is restated.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
from facts_file import write

from isocost.catalog import Catalog
from isocost.errors import UnknownFact
from isocost.perf import gpu_id_of, model_id_of

SOURCES: Mapping[str, str] = {
    "silicon": "silicon-fit", "trtllm": "trtllm-perf-overview", "mlenergy": "ml-energy-v3",
    "argonne": "llm-inference-bench", "inferencex_community": "silicon-fit",
}  # fmt: skip
FORMATS: Mapping[str, str] = {
    "bfloat16": "bf16", "fp16": "bf16", "fp16/bf16": "bf16", "bf16": "bf16", "fp8": "fp8", "fp4": "fp4",
    "nvfp4": "fp4", "mxfp4": "fp4", "int4": "int4",
}  # fmt: skip
ENGINES: Mapping[str, str] = {"tensorrt-llm": "trtllm"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    at = Catalog.load().at(date(2026, 11, 23))
    found: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    names: dict[tuple[str, str], str | None] = {}

    def known(kind: str, name: str) -> str | None:
        if (kind, name) not in names:
            try:
                names[kind, name] = (model_id_of if kind == "model" else gpu_id_of)(at, name)
            except UnknownFact:
                names[kind, name] = None
        return names[kind, name]

    for file, source in SOURCES.items():
        query = f"""select distinct model, gpu, engine, n_gpu::double, coalesce(try_cast(tp as double), 1),
            coalesce(try_cast(pp as double), 1), coalesce(try_cast(dp as double), 1), precision,
            try_cast(concurrency_or_batch as double), try_cast(isl as double), try_cast(osl as double),
            config_id from '{given.folder}/perf/{file}.parquet' where load_kind not like '%disagg%'"""
        for model, gpu, engine, n, tp, pp, dp, precision, load, isl, osl, _ in duckdb.sql(query).fetchall():
            model_id, gpu_id = known("model", str(model)), known("gpu", str(gpu))
            weights = FORMATS.get(str(precision).lower())
            if model_id is None or gpu_id is None or weights is None:
                continue
            named = ENGINES.get(str(engine).lower(), str(engine).lower())
            gpus = int(n or tp * pp * dp)
            when = f"engine={named};gpus={gpus};weights={weights}"
            found[f"measured/{model_id}/{gpu_id}", when, source].append((load or 1.0, isl or 0.0, osl or 0.0))
    rows = []
    today = date(2026, 11, 23).isoformat()
    best: dict[tuple[str, str], tuple[str, list[tuple[float, float, float]]]] = {}
    for (subject, when, source), points in found.items():
        if (subject, when) not in best or len(points) > len(best[subject, when][1]):
            best[subject, when] = (source, points)
    for (subject, when), (source, points) in sorted(best.items()):
        load, isl, osl = np.array(points).T
        low, middle, high = np.quantile(load, [0.1, 0.5, 0.9], method="nearest")
        prompts, answers = (f"{one.min():.0f} to {one.max():.0f}" for one in (isl, osl))
        note = f"{len(points)} points; prompts of {prompts} and answers of {answers} tokens"
        numbers = [f"{value:.0f}" for value in (middle, low, high)]
        rows.append(
            [
                subject,
                "concurrency",
                when,
                numbers[0],
                "count",
                *numbers[1:],
                "",
                "",
                source,
                "",
                today,
                "measured",
                "",
                note,
            ]
        )
    print(len(rows), "set-ups")
    if given.write:
        write("measured.csv", rows)


if __name__ == "__main__":
    main()
