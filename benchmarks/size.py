"""What one answer of ``isocost size`` takes, the whole command and by part: ``python benchmarks/size.py``.

The command is started anew each time (``--times 5``), after one run that fills the cache of compiled kernels;
CPU is its own and its children's. The parts are measured inside one process that has imported everything.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

from isocost.catalog import Catalog
from isocost.size.answer import Wanted, size
from isocost.size.queue import Need
from isocost.size.setups import Ask

MODEL = "llama-3.3-70b"
NEED, LIMITS = Need(5.0, 2000, 300), (0.8, 0.04)
ASKED = ("--rate", "5", "--isl", "2000", "--osl", "300", "--ttft-p95", "0.8", "--tpot-p95", "0.04")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--times", type=int, default=5)
    times = asked.parse_args().times
    command = [sys.executable, "-c", "import sys; from isocost.cli import main; sys.exit(main())"]
    for said, words in (
        ("isocost --version", ["--version"]),
        (f"isocost size {MODEL}", ["size", MODEL, *ASKED]),
    ):
        whole([*command, *words])
        taken = [whole([*command, *words]) for _ in range(times)]
        wall, cpu = (sorted(one)[len(one) // 2] for one in zip(*taken, strict=True))
        print(f"{said:32} {wall:6.2f} s wall {cpu:6.2f} s CPU (median of {times})")
    catalog = Catalog.load()
    at = catalog.at(date(2026, 11, 23))
    rented = {fact.subject.split("/")[2] for fact in at.each("rental/", "usd_per_gpu_h")}
    every = (fact.subject.removeprefix("gpu/") for fact in at.each("gpu/", "memory_bytes"))
    ask = Ask(tuple(name for name in every if name in rented))
    found = size(at, MODEL, NEED, LIMITS, ask, Wanted())
    for said, part in (
        ("reading the facts", Catalog.load),
        ("search and replay", lambda: size(at, MODEL, NEED, LIMITS, ask, Wanted())),
    ):
        print(f"{said:32} {'':14} {least(part, times):6.2f} s CPU (least of {times})")
    print(f"{found.tried} set-ups by the closed form, {found.replayed} kinds of replica by replay")


def whole(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - start, cpu


def least(part: Callable[[], object], times: int) -> float:
    """The least CPU seconds of a part."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        part()
        taken.append(time.process_time() - start)
    return min(taken)


if __name__ == "__main__":
    main()
