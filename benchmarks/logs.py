"""Rows that readers of logs take in a CPU-second: ``python benchmarks/logs.py [FORMAT ...]``.

Samples of ``tests/cases`` repeated to 100,000 rows, opened whole: read, checked, sorted, encoded. Of each
least of two; the whole process counts, so other work of it (a database's threads) is in it.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from isocost.trace import open_trace

CASES = Path(__file__).parents[1] / "tests" / "cases"
ROWS = 100_000
SAMPLES: Mapping[str, str] = {
    "litellm": "traces/litellm.csv", "openai chat": "traces/openai_chat.jsonl",
    "openai batch": "traces/openai_batch.jsonl", "bedrock": "usage/bedrock.jsonl",
    "openrouter": "usage/openrouter.jsonl", "helicone": "usage/helicone.jsonl",
    "langfuse": "usage/langfuse.jsonl", "langfuse csv": "exports/langfuse_ui.csv",
    "otel": "usage/otel.jsonl", "otel flat": "usage/otel_flat.csv",
    "openinference": "exports/otel_openinference.jsonl",
    "generic": "traces/generic.csv", "mooncake": "traces/mooncake.jsonl",
}  # fmt: skip


def repeated(sample: Path, to: Path) -> int:
    """A sample written over and over, to the rows asked; how many spans or rows that is."""
    lines = sample.read_text(encoding="utf-8").splitlines()
    head, body = ([lines[0]], lines[1:]) if sample.suffix == ".csv" else ([], lines)
    if sample.suffix == ".csv":
        records = list(csv.reader(lines))
        each = len(records) - 1
    else:
        each = sum(_spans(json.loads(line)) for line in body if line.strip())
    times = ROWS // each + 1
    with to.open("w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in head)
        block = "".join(f"{line}\n" for line in body)
        for _ in range(times):
            out.write(block)
    return each * times


def _spans(row: Mapping[str, object]) -> int:
    if "resourceSpans" not in row:
        return 1
    resources = row["resourceSpans"]
    assert isinstance(resources, list)
    return sum(len(scope["spans"]) for one in resources for scope in one["scopeSpans"])


def main() -> None:
    asked = sys.argv[1:] or list(SAMPLES)
    print(f"{'':16}{'rows':>10}{'MB':>8}{'rows per CPU-s':>16}{'MB per CPU-s':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked:
            sample = CASES / SAMPLES[name]
            file = Path(folder) / f"log{sample.suffix}"
            rows = repeated(sample, file)
            taken = []
            for _ in range(2):
                start = time.process_time()
                sum(len(chunk) for chunk in open_trace(file, lenient=True).chunks())
                taken.append(time.process_time() - start)
            spent, size = min(taken), file.stat().st_size / 1e6
            print(f"{name:16}{rows:10,}{size:8.0f}{rows / spent:16,.0f}{size / spent:14.0f}")


if __name__ == "__main__":
    main()
