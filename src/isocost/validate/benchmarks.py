"""Measurements of one's own server, as the usual tools write them.

Read are ``vllm bench serve --save-result`` (one JSON object) and ``vllm bench sweep`` (several), SGLang's
``bench_serving`` (JSON lines), genai-perf's and AIPerf's exported profile, AIPerf's records of requests,
GuideLLM's report, logs with one request a line (JSON lines or CSV), and folders that hold such a log with its
``meta.json``. Each becomes runs: means, and
the requests one by one where the file holds them.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput

F64 = NDArray[np.float64]
READ = "vllm bench serve, sglang bench_serving, genai-perf, aiperf, guidellm, or a log of requests"
ARRIVAL = ("queued_ts", "arrival_ts", "arrival_s", "start_time", "arrival_time", "arrived_at", "timestamp")
FIRST = ("first_token_ts", "first_token_time", "first_token_s", "first_token_at")
LAST = ("last_token_ts", "finished_ts", "end_time", "last_token_s", "finished_at", "end_ts")
TTFT = ("ttft_s", "ttft", "time_to_first_token")
E2E = ("e2e_s", "e2e_latency", "e2e", "latency_s", "latency", "request_latency")
INPUT = ("input_toks", "input_tok", "input_tokens", "prompt_tokens", "prompt_len", "input_len")
OUTPUT = ("output_toks", "output_tok", "output_tokens", "completion_tokens", "output_len", "generated_tokens")
MS_PER_S, NS_PER_S = 1e3, 1e9


class Requests(NamedTuple):
    """``n`` requests in order of arrival, ``(n,)`` each; times in seconds, arrivals from the first on."""

    arrival_s: F64
    input_tok: F64
    output_tok: F64
    ttft_s: F64
    e2e_s: F64


class Run(NamedTuple):
    """One run of a benchmark, by its means; what the file does not say is nan, ``None`` or empty.

    ``concurrency`` is the mean number of requests in flight; ``where`` names the file and line.
    """

    where: str
    model: str
    engine: str
    requests_n: int
    concurrency: float
    isl: float
    osl: float
    ttft_s: float
    tpot_s: float
    requests: Requests | None
    settings: Mapping[str, Any]


def read_runs(path: Path) -> list[Run]:
    """Every run that a file or a folder holds.

    Raises:
        BadInput: it cannot be read, or holds no run of a known form.
    """
    if path.is_dir():
        return [_folder(path)]
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as wrong:
        raise BadInput(wrong.strerror or str(wrong), where=str(path), fix="Check the path") from None
    except UnicodeDecodeError:
        raise BadInput(
            "not a text file", where=str(path), fix="Give a result as JSON, or a log as CSV"
        ) from None
    if path.suffix == ".csv":
        return [_log(list(csv.DictReader(text.splitlines())), str(path), {})]
    rows = _objects(text, path)
    if rows and _is_request(rows[0]):
        return [_log(rows, str(path), {})]
    found = []
    for line, row in enumerate(rows, 1):
        where = str(path) if len(rows) == 1 else f"{path}:{line}"
        for known, read in FORMS:
            if known(row):
                found.append(read(row, where))
                break
    if not found:
        raise BadInput("no benchmark in it", where=str(path), fix=f"Give a result of {READ}")
    return found


def _objects(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if whole is None:
        try:
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as wrong:
            raise BadInput(f"not JSON: {wrong}", where=str(path)) from None
    rows = whole if isinstance(whole, list) else [whole]
    if isinstance(whole, dict):
        nested = next(
            (
                whole[name]
                for name in ("results", "runs", "benchmarks", "requests")
                if isinstance(whole.get(name), list)
            ),
            None,
        )
        rows = nested if nested else rows
    return [_flat(row) for row in rows if isinstance(row, dict)]


SECONDS: Mapping[str, float] = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of a time that is not in seconds."""


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A record of AIPerf, whose times are values with units beside its metadata, as one line of a log."""
    metrics, about = row.get("metrics"), row.get("metadata")
    if not isinstance(metrics, dict) or not isinstance(about, dict) or "request_start_ns" not in about:
        return row
    found: dict[str, Any] = {"arrival_s": float(about["request_start_ns"]) / NS_PER_S}
    names = {
        "ttft_s": ("time_to_first_token", "ttft"), "e2e_s": ("request_latency", "e2e_latency"),
        "input_tok": ("input_sequence_length", "isl"), "output_tok": ("output_sequence_length", "osl"),
    }  # fmt: skip
    for name, others in names.items():
        value = next((metrics[one] for one in others if metrics.get(one) is not None), None)
        if isinstance(value, Mapping):
            # A time without a unit is in AIPerf's own, milliseconds.
            unit = str(value.get("unit") or ("ms" if name.endswith("_s") else ""))
            value = float(value["value"]) * SECONDS.get(unit.lower(), 1.0)
        if value is not None:
            found[name] = value
    return found


def _is_request(row: Mapping[str, Any]) -> bool:
    """Whether an object is one request, and not the summary of many."""
    return all(_one(row, names) is not None for names in (INPUT, OUTPUT, (*FIRST, *TTFT)))


def _served(row: Mapping[str, Any], where: str) -> Run:
    """A result of vLLM's or SGLang's benchmark."""
    count = int(row.get("completed") or 0)
    if count < 1:
        raise BadInput("no request was completed", where=where)
    isl = float(row.get("total_input_tokens") or math.nan) / count
    osl = float(row.get("total_output_tokens") or math.nan) / count
    ttft, tpot = (
        float(row[name]) / MS_PER_S if row.get(name) is not None else math.nan
        for name in ("mean_ttft_ms", "mean_tpot_ms")
    )
    rate = float(row.get("request_throughput") or math.nan)
    life = ttft + max(osl - 1.0, 0.0) * tpot
    requests = _detailed(row)
    engine = str(row.get("backend") or row.get("endpoint_type") or "")
    engine = next((name for name in ("vllm", "sglang", "trtllm") if name in engine.lower()), "")
    if "max_output_tokens_per_s" in row or "endpoint_type" in row:
        engine = engine or "vllm"
    return Run(
        where, str(row.get("model_id") or row.get("model") or ""), engine, count, rate * life, isl, osl,
        ttft, tpot, requests, row,
    )  # fmt: skip


def _detailed(row: Mapping[str, Any]) -> Requests | None:
    """The requests of ``--save-detailed``, where their starts were saved too."""
    names = ("input_lens", "output_lens", "ttfts", "itls", "start_times")
    if any(not isinstance(row.get(name), list) for name in names):
        return None
    columns = [row[name] for name in names]
    if len({len(column) for column in columns}) != 1:
        return None
    errors = row.get("errors") or [""] * len(columns[0])
    kept = [
        one
        for one, error in zip(zip(*columns, strict=True), errors, strict=False)
        if not error and one[1] > 0
    ]
    if not kept:
        return None
    prompt, output, ttft, itls, start = zip(*kept, strict=True)
    e2e = [first + sum(gaps) for first, gaps in zip(ttft, itls, strict=True)]
    return _ordered(*(np.array(column, dtype=np.float64) for column in (start, prompt, output, ttft, e2e)))


def _profiled(row: Mapping[str, Any], where: str) -> Run:
    """A profile exported by genai-perf or AIPerf."""

    def mean(*names: str) -> float:
        for name in names:
            stats = row.get(name)
            if isinstance(stats, Mapping) and stats.get("avg") is not None:
                unit = str(stats.get("unit", "")).lower()
                return float(stats["avg"]) * SECONDS.get(unit, 1.0)
        return math.nan

    ttft, gap = mean("time_to_first_token", "ttft"), mean("inter_token_latency", "itl")
    isl, osl = mean("input_sequence_length", "isl"), mean("output_sequence_length", "osl")
    rate = mean("request_throughput")
    settings = row.get("input_config") if isinstance(row.get("input_config"), Mapping) else {}
    assert isinstance(settings, Mapping)
    models = settings.get("model_names") or settings.get("models") or []
    endpoint = settings.get("endpoint") or {}
    if not models and isinstance(endpoint, Mapping):
        models = endpoint.get("model_names") or []
    stats = row.get("time_to_first_token") or row.get("ttft") or {}
    count = int(
        stats.get("count") or mean("request_count")
        if not math.isnan(mean("request_count"))
        else stats.get("count") or 1
    )
    life = mean("request_latency")
    life = ttft + max(osl - 1.0, 0.0) * gap if math.isnan(life) else life
    model = str(models[0]) if isinstance(models, list) and models else ""
    return Run(where, model, "", count, rate * life, isl, osl, ttft, gap, None, settings)


def _guided(row: Mapping[str, Any], where: str) -> Run:
    """A benchmark of a GuideLLM report: times by whether requests succeeded."""
    metrics = row["metrics"]

    def mean(name: str) -> float:
        stats = metrics.get(name)
        good = stats.get("successful") if isinstance(stats, Mapping) else None
        value = good.get("mean") if isinstance(good, Mapping) else None
        return math.nan if value is None else float(value)

    totals = metrics.get("request_totals") or {}
    count = int(totals.get("successful") or 0)
    if count < 1:
        raise BadInput("no request was completed", where=where)
    ttft = mean("time_to_first_token_ms") / MS_PER_S
    gap = mean("inter_token_latency_ms") / MS_PER_S
    isl, osl = mean("prompt_token_count"), mean("output_token_count")
    running = mean("request_concurrency")
    if math.isnan(running):
        life = mean("request_latency")
        life = ttft + max(osl - 1.0, 0.0) * gap if math.isnan(life) else life
        running = mean("requests_per_second") * life
    settings = row.get("config") if isinstance(row.get("config"), Mapping) else {}
    assert isinstance(settings, Mapping)
    model = str(row.get("model") or settings.get("model") or "")
    return Run(where, model, "", count, running, isl, osl, ttft, gap, None, settings)


FORMS: Sequence[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any], str], Run]]] = (
    (lambda row: "mean_ttft_ms" in row and "completed" in row, _served),
    (lambda row: isinstance(row.get("time_to_first_token") or row.get("ttft"), Mapping), _profiled),
    (
        lambda row: isinstance(row.get("metrics"), Mapping) and "time_to_first_token_ms" in row["metrics"],
        _guided,
    ),
)
"""How a form is known by its fields, and what reads it."""


def _folder(folder: Path) -> Run:
    """A folder with ``requests.jsonl`` and, where it has one, ``meta.json``."""
    try:
        rows = [
            json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines() if line.strip()
        ]
        meta_file = folder / "meta.json"
        meta = json.loads(meta_file.read_text()) if meta_file.exists() else {}
    except OSError as wrong:
        said = wrong.strerror or str(wrong)
        raise BadInput(said, where=str(wrong.filename or folder), fix="Check the path") from None
    except ValueError as wrong:
        raise BadInput(f"not JSON: {wrong}", where=str(folder), fix="Export the results again") from None
    return _log(rows, str(folder), meta)


def _log(rows: Sequence[Mapping[str, Any]], where: str, meta: Mapping[str, Any]) -> Run:
    """Requests one a line: an arrival, tokens, and the first and last token as moments or as durations."""
    table: list[tuple[float, float, float, float, float]] = []
    for row in rows:
        arrival, first, last = (_one(row, names) for names in (ARRIVAL, FIRST, LAST))
        ttft, e2e = _one(row, TTFT), _one(row, E2E)
        prompt, output = _one(row, INPUT), _one(row, OUTPUT)
        if arrival is None or prompt is None or output is None or output < 1:
            continue
        ttft = first - arrival if first is not None else ttft
        e2e = last - arrival if last is not None else e2e
        if ttft is not None and e2e is not None and 0 < ttft <= e2e:
            table.append((arrival, prompt, output, ttft, e2e))
    if not table:
        raise BadInput(
            "no request with an arrival, its tokens and the times of the first and last one", where=where,
            fix=f"Columns: {ARRIVAL[0]}, {INPUT[0]}, {OUTPUT[0]}, {FIRST[0]}, {LAST[0]}",
        )  # fmt: skip
    requests = _ordered(*(np.array(column) for column in zip(*table, strict=True)))
    settings = meta.get("engine_kwargs") if isinstance(meta.get("engine_kwargs"), Mapping) else {}
    assert isinstance(settings, Mapping)
    engine = "vllm" if "vllm_version" in meta else str(meta.get("engine") or "")
    span = float((requests.arrival_s + requests.e2e_s).max()) or 1.0
    gaps = np.maximum(requests.output_tok - 1.0, 1.0)
    tpot = (requests.e2e_s - requests.ttft_s) / gaps
    return Run(
        where, str(meta.get("model") or settings.get("model") or ""), engine, len(table),
        float(requests.e2e_s.sum()) / span, float(requests.input_tok.mean()),
        float(requests.output_tok.mean()),
        float(requests.ttft_s.mean()), float(tpot[requests.output_tok > 1].mean()), requests, settings,
    )  # fmt: skip


def _ordered(arrival: F64, prompt: F64, output: F64, ttft: F64, e2e: F64) -> Requests:
    order = np.argsort(arrival, kind="stable")
    return Requests(arrival[order] - arrival[order][0], prompt[order], output[order], ttft[order], e2e[order])


def _one(row: Mapping[str, Any], names: Sequence[str]) -> float | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
