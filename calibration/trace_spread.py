"""Measure how requests of public traces differ: spread of token counts, the longest, burstiness.

Run by hand: ``python calibration/trace_spread.py DATA/traces``. It prints one line a service (a trace, or
one model of a trace); the medians are the values of ``planning/memo`` in ``facts/memo.csv``. Sigma is that of
the lognormal whose 99th percentile over its mean is the trace's: the upper tail is what fills caches.
Dispersion is the variance of requests a minute over their mean inside each hour, the median over hours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import NormalDist, median

import numpy as np

from isocost.trace.open import open_trace
from isocost.units import NS_PER_MINUTE

FILES = (
    "azure2023_conv.csv",
    "mooncake_conversation.jsonl",
    "ragpulse.parquet",
    "servegen_10d.parquet",
)
GENERATED = "servegen"


def sigma(tokens: np.ndarray) -> float:
    """Sigma of the lognormal with this 99th percentile over mean."""
    z = NormalDist().inv_cdf(0.99)
    ratio = float(np.percentile(tokens, 99) / tokens.mean())
    return float(z - np.sqrt(max(0.0, z * z - 2.0 * np.log(ratio))))


def dispersion(arrival_ns: np.ndarray) -> float:
    """Variance over mean of requests a minute, inside hours with at least one a minute; their median."""
    minutes = np.bincount((arrival_ns - arrival_ns.min()) // NS_PER_MINUTE)
    whole = max(1, len(minutes) // 60) * 60
    hours = np.resize(minutes, whole).reshape(-1, 60) if len(minutes) >= 60 else minutes[None, :-1]
    hours = hours[hours.mean(axis=1) >= 1]
    return float(np.median(hours.var(axis=1, ddof=1) / hours.mean(axis=1)))


def main(folder: Path) -> None:
    """Print the table and the medians."""
    rows = []
    for name in FILES:
        trace = open_trace(folder / name)
        table = trace.table()
        code = np.zeros(len(table), np.int64) if table.model is None else table.model
        for one in np.unique(code):
            mine = np.flatnonzero(code == one)
            given, answered = table.input_tok[mine], table.output_tok[mine]
            given, answered = given[given > 0], answered[answered > 0]
            longest = max(given.max() / given.mean(), answered.max() / answered.mean())
            rows.append((sigma(given), sigma(answered), dispersion(table.arrival_ns[mine]), float(longest)))
            part = f" {trace.names['model'][one]}" if table.model is not None and one >= 0 else ""
            figures = "".join(f"{value:10.2f}" for value in rows[-1])
            print(f"{name + part:40s}{len(mine):10,d}{figures}")
            if GENERATED in name:
                rows[-1] = (*rows[-1][:3], float("nan"))
    for k, label in enumerate(("input_sigma", "output_sigma", "dispersion", "longest_ratio")):
        values = [row[k] for row in rows if not np.isnan(row[k])]
        print(f"{label:15s} median {median(values):.2f}  from {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
