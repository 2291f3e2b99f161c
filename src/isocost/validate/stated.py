"""What the rows of a file of measured serving speed state: layout, load, formats; which rows are left out.

Collections differ in how they write the same things, and some leave out what their authors list elsewhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isocost.catalog import CatalogAt
from isocost.perf.constants import engine_of
from isocost.perf.hardware import counted
from isocost.validate.table import rows_of

COLUMNS = (
    *("model", "gpu", "n_gpu", "tp", "pp", "ep", "dp", "precision", "engine", "engine_version", "isl", "osl"),
    *("concurrency_or_batch", "load_kind", "metric", "value", "unit", "config_id"),
)
OPTIONAL = frozenset({"ep", "dp", "pp", "n_gpu", "engine_version"})
NUMBERS = frozenset({"n_gpu", "tp", "pp", "ep", "dp", "isl", "osl", "concurrency_or_batch", "value"})
LAYOUT = ("n_gpu", "tp", "pp", "ep", "dp")
MOST = float(2**31)
"""Counts above it are no counts: of tokens, requests or accelerators."""
LARGEST_REPLICA = 8
"""A larger group that a file calls one replica is two pools, one of which prefills."""
METRICS: Mapping[str, str] = {
    "tpot_mean": "tpot",
    "tpot_p50": "tpot",
    "itl_mean": "tpot",
    "itl_p50": "step",
    "ttft_mean": "ttft",
    "ttft_p50": "ttft",
    "e2e_p50": "e2e",
    "TTFT Latency": "ttft",
    "e2e_mean": "e2e",
    "e2e_latency": "e2e",
    "output_throughput": "throughput",
    "total_throughput": "total_throughput",
    "prefill_tok_per_gpu": "prefill_rate",
    "input_throughput_per_node(8gpu)": "prefill_rate",
    "decode_tok_per_gpu": "decode_rate",
    "output_throughput_per_node(8gpu)": "decode_rate",
}
RATES: Mapping[str, str] = {"prefill_rate": "prefill", "decode_rate": "decode"}
"""Quantities that are the pace of one pool alone, an accelerator, and the kind of load that they are of."""
ENGINES_LEFT_OUT = frozenset({"llama.cpp"})
"""As :func:`isocost.perf.constants.engine_of` names them."""
SECONDS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "tok/s": 1.0}
UNITS: Mapping[str, str] = {
    "us": r"us|\u00b5s|\u03bcs|micro-?sec(ond)?s?", "ms": r"ms(ec)?|milli-?sec(ond)?s?",
    "s": r"s(ec(ond)?s?)?", "tok/s": r"(tok|tokens?) ?(/|per) ?s(ec(ond)?)?|tps",
}  # fmt: skip
"""What files call the units of :data:`SECONDS`."""
STATISTICS: Mapping[str, str] = {
    "mean": "mean", "avg": "mean", "average": "mean", "median": "p50", "p50": "p50",
}  # fmt: skip
TIMED = frozenset({"ttft", "tpot", "itl", "e2e", "e2el"})
SPOKEN = frozenset({"ms", "s", "us", "sec", "seconds", "latency", "time"})
"""Words of a metric's name that change nothing."""
PRECISIONS: Mapping[str, str] = {
    "fp4": r"fp4|w4a8_mx", "int4": r"int4|w4a|awq|gptq|4-?bit|q4|nf4", "fp8": r"fp8|int8|w8a|e4m3|8-?bit|q8",
    "bf16": r"float16|bf16|fp16|f16|half|16-?bit|fp32|tf32|float32|full|unquantized",
}  # fmt: skip
"""What a file's names of formats mean; the first that is found counts."""
AS_PUBLISHED = frozenset({"", "auto", "native", "default", "mixed", "original"})
NOTHING = frozenset(
    {"", "none", "nan", "null", "na", "n/a", "-", "?", "unknown", "unspecified", "not stated"}
)
"""What a file writes where it does not know."""
UNSTATED = ("layout", "format")
"""What is assumed where a row does not state it."""
UNIT_TOK = 1024
THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a measured file as dicts of :data:`COLUMNS`, numbers as floats, else ``None``.

    CSV, Parquet or JSON; names of columns in any case.

    Raises:
        BadInput: the file is absent, no table, or lacks a column.
    """
    found = rows_of(path, sorted(set(COLUMNS) - OPTIONAL))
    read = {name: _number if name in NUMBERS else _text for name in COLUMNS}
    read |= {"metric": lambda cell: metric_of(cell.strip()), "unit": lambda cell: unit_of(cell.strip())}
    return [{name: read[name](row.get(name, "")) for name in COLUMNS} for row, _ in found]


def metric_of(name: str) -> str:
    """A metric by its name in :data:`METRICS`, however a file spells it; unchanged where it is none of them.

    >>> [metric_of(name) for name in ("TTFT Latency", "mean_tpot_ms", "TTFT (median)", "ttft", "itl_p99")]
    ['TTFT Latency', 'tpot_mean', 'ttft_p50', 'ttft_mean', 'itl_p99']
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word not in {"", *SPOKEN}]
    timed = [word for word in words if word in TIMED]
    told = [STATISTICS.get(word, "") for word in words if word not in TIMED]
    if name in METRICS or len(timed) != 1 or len(told) > 1 or "" in told:
        return name
    quantity = "e2e" if timed[0] == "e2el" else timed[0]
    spelled = f"{quantity}_{told[0] if told else 'mean'}"
    return spelled if spelled in METRICS else name


def unit_of(name: str) -> str:
    """A unit by its name in :data:`SECONDS`, however a file spells it; unchanged where it is none of them.

    >>> [unit_of(name) for name in ("MS", "seconds", "tokens/s", "tok/sec", "req/s")]
    ['ms', 's', 'tok/s', 'tok/s', 'req/s']
    """
    return next((unit for unit, said in UNITS.items() if re.fullmatch(said, name.lower())), name)


def _text(cell: str) -> str | None:
    return None if cell.strip().lower() in NOTHING else cell.strip()


def _number(cell: str) -> float | None:
    try:
        value = float(cell.replace(",", "") if THOUSANDS.fullmatch(cell.strip()) else cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def layout_of(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """``tp, pp, dp, ep`` of a row as the engine ran it.

    Collections of results write a set-up that spreads experts over its ``n`` accelerators in three more
    ways: tensor parallelism multiplied by the experts' (``tp = ep * ep``), copies of attention
    multiplied by them (``dp = ep * ep``), and both (``tp = dp``, ``ep = tp * dp``). Each is read back.
    Where one of tp and dp is blank, it is what the accelerators leave.
    """
    tp, pp, dp, ep = (float(row[name] or 1.0) for name in ("tp", "pp", "dp", "ep"))
    if row["tp"] is None and row.get("n_gpu"):
        tp = float(row["n_gpu"]) / (pp * dp)
    elif row["dp"] is None and row.get("n_gpu"):
        copies = float(row["n_gpu"]) / (tp * pp)
        dp = copies if copies > 1 and copies.is_integer() else dp
    if ep > 1:
        tp = ep if tp == ep * ep else tp
        dp = ep if dp == ep * ep else dp
        if tp == dp and ep == tp * dp:
            ep, dp = tp, 1.0
    return tp, pp, dp, ep


def precision_kind(name: object) -> str | None:
    """The format that a file means, of :data:`PRECISIONS`; ``None`` where it says none that is known.

    Where it says nothing, or that the engine may choose, weights are as published (``native``).

    >>> [precision_kind(name) for name in ("fp8_block", "MXFP4", "w4a16", "float16", "ternary", None)]
    ['fp8', 'fp4', 'int4', 'bf16', None, 'native']
    """
    said = str(name or "").strip().lower()
    if said in AS_PUBLISHED:
        return "native"
    return next((kind for kind, known in PRECISIONS.items() if re.search(known, said)), None)


def assumed_of(row: Mapping[str, Any]) -> str:
    """What of :data:`UNSTATED` a row leaves to be assumed, in words; nothing where pools are apart.

    >>> assumed_of({"tp": None, "n_gpu": None, "precision": "", "metric": "tpot_mean", "load_kind": ""})
    'layout and format'
    """
    if is_apart({"pp": None, "dp": None, "ep": None, **row}):
        return ""
    blank = (row["tp"] is None and row["n_gpu"] is None, not str(row["precision"] or "").strip())
    return " and ".join(name for name, is_blank in zip(UNSTATED, blank, strict=True) if is_blank)


def assumed_notes(assumed: Sequence[str]) -> tuple[str, ...]:
    """One sentence on the rows that leave something to be assumed (:func:`assumed_of` of each), if any do."""
    many = Counter(one for one in assumed if one)
    if not many:
        return ()
    counts = "; ".join(f"no {what}: {count:,}" for what, count in many.items())
    return (
        f"Rows that do not state everything ({counts}) are answered at the smallest layout that holds the"
        " weights, in the published format, with a wider interval",
    )


def is_drawn(row: Mapping[str, Any]) -> bool:
    """Whether a row's benchmark draws its lengths: whole units of 1,024 tokens name the longest it draws."""
    lengths = [float(row[name] or 1.0) for name in ("isl", "osl")]
    return kind_of_load(row) in ("closed", "apart") and all(one % UNIT_TOK == 0 for one in lengths)


def is_apart(row: Mapping[str, Any]) -> bool:
    """Whether a row's prompts are filled by a pool of their own: it says so, or its replica is too large."""
    if kind_of_load(row) not in ("closed", "apart"):
        return False
    tp, pp, dp, _ = layout_of(row)
    return "disagg" in str(row["load_kind"]).lower() or tp * pp * dp > LARGEST_REPLICA


def kind_of_load(row: Mapping[str, Any]) -> str:
    """The kind of a row's load: of :data:`isocost.perf.predict.KINDS`, or pools apart, or one pool alone."""
    quantity = METRICS.get(str(row["metric"]), "")
    if quantity in RATES:
        return RATES[quantity]
    kind = str(row["load_kind"]).lower()
    if "static" in kind:
        return "static"
    if "max throughput" in kind or "inf rate" in kind or "offline" in kind:
        return "offline"
    if "saturated" in kind:
        return "saturated"
    return "apart" if "disagg" in kind else "closed"


def in_full(catalog_at: CatalogAt, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with what it states in words: the pace of one pool is published with its load in the load's name;
    a name of accelerators may say how many they are (``8xH100``).

    Attention is copied on every accelerator and experts are spread over them, as pools are laid out.
    """
    quantity = METRICS.get(str(row["metric"]), "")
    many, _ = counted(str(row["gpu"] or ""))
    if many is not None and row["n_gpu"] is None:
        row = {**row, "n_gpu": float(many)}
    if quantity == "e2e" and "microbench" in str(row["load_kind"]) and row["osl"]:
        # It states how long answers may be, and lets them end.
        return {**row, "osl": min(row["osl"], catalog_at.number("perf/benchmark", "ended_answer_tok"))}
    if quantity not in RATES:
        return row
    words = str(row["load_kind"])

    def number(pattern: str, scale: float = 1.0) -> float | None:
        found = re.search(pattern, words)
        return float(found[1]) * scale if found else None

    gpus = number(r"EP(\d+)") or row["n_gpu"] or 1.0
    each = number(r"bs(\d+)") or catalog_at.number("perf/benchmark", "pool_batch")
    prompt = row["isl"] or number(r"isl(\d+)") or number(r"(\d+)K(?! tok)", UNIT_TOK)
    node = re.search(r"\((\d+)gpu\)", str(row["metric"]))
    value = None if row["value"] is None else row["value"] / (float(node[1]) if node else 1.0)
    stated = {
        "tp": row["tp"] or 1.0,
        "dp": row["dp"] or gpus,
        "ep": row["ep"] or gpus,
        "isl": prompt or catalog_at.number("perf/benchmark", "pool_prompt_tok"),
        "osl": row["osl"] or number(r"osl(\d+)") or 2.0,
        "concurrency_or_batch": row["concurrency_or_batch"] or each * gpus,
        "value": value,
    }
    return {**row, **stated}


def rule_of(row: Mapping[str, Any]) -> str | None:
    """The name of the rule that leaves a row out, if one does."""
    if row["metric"] not in METRICS:
        return "metric not modelled"
    if row["unit"] not in SECONDS:
        return "unit not known"
    if row["value"] is None or not row["value"] > 0:
        return "no measured value"
    if engine_of(str(row["engine"] or "")) in ENGINES_LEFT_OUT:
        return "engine that does not batch continuously"
    if precision_kind(row["precision"]) is None:
        return "precision not modelled"
    if any(row[name] is not None and not 0 <= row[name] <= MOST for name in LAYOUT):
        return "layout not possible"
    # A saturated engine's pace hardly depends on its prompts.
    asked = METRICS[row["metric"]] != "step" and kind_of_load(row) != "saturated"
    if (asked and row["isl"] is None) or (row["isl"] is not None and not 1 <= row["isl"] <= MOST):
        return "input length not stated"
    if row["osl"] is None or not 1 <= row["osl"] <= MOST:
        return "output length not stated"
    load = row["concurrency_or_batch"]
    if (load is None and kind_of_load(row) != "offline") or (load is not None and not 0 < load <= MOST):
        return "load not stated"
    return None
