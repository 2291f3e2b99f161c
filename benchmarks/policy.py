"""How long a policy takes to decide, one thread, pure Python: ``python benchmarks/policy.py``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from isocost.policy import Attempt, Request, View
from isocost.policy.router import FORM, Weights, score
from isocost.policy.rules import Accept, Cascade, First, Guard, Policies, Recover, Router, Rule, Shape, Sticky

CALLS = 5_000
TEXT = (
    "the order of a group with elements that satisfy this relation is which of the following when integers "
    "are taken modulo n and every subgroup of it is normal"
)
WORDS = tuple(TEXT.split(" "))


def percentiles(run: Callable[[int], object]) -> tuple[float, float]:
    """Median and 99th percentile of one call, milliseconds."""
    taken = []
    for i in range(CALLS):
        start = time.perf_counter()
        run(i)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def main() -> None:
    tasks = tuple(f"task-{k}" for k in range(57))
    cascade = Rule(
        Cascade(
            ("a", "b", "c", "strong"),
            tuple(Accept(p, "A", tasks[:30]) for p in ("A", "AA", "AB", "ABA", "AAB", "A-", "-A", "A-A")),
        ),
        guard=Guard(8000, 2000, "team", 100.0, 0.8, "a"), cache="cache", first=First("rules", tasks[:3]),
        sticky=Sticky(("a",)), shape=Shape(4000, 500), recover=Recover(2, 0.5, ("strong",)),
    )  # fmt: skip
    policies = Policies([cascade, Rule(Router("a", "strong", 0.1), workload="hard")])
    tried = [Attempt("cache", "missed"), Attempt("a", "served", 0), Attempt("b", "served", 1)]
    view = View(10.0)
    vocabulary = {f"{a} {b}": 0.01 for a in WORDS for b in WORDS} | dict.fromkeys(WORDS, 0.02)
    weights = Weights(
        0.1, vocabulary, dict.fromkeys(vocabulary, 2.0), dict.fromkeys(tasks, 0.01),
        ((1.0, 1.0, 0.01, 0.01, 0.01, 0.01),) * len(FORM),
    )  # fmt: skip
    texts = [" ".join(WORDS[(i * 7 + k) % len(WORDS)] for k in range(100)) for i in range(50)]
    long = " ".join(texts)[:40_000]
    for name, run in {
        "cascade, after three attempts": lambda i: policies.next(
            Request("w", "m", i, i % 168, "", tasks[i % 57], None, 500, 100), tried, view
        ),
        "score of 100 words": lambda i: score(weights, texts[i % 50], tasks[i % 57]),
        "score of a prompt of 40,000 characters": lambda i: score(weights, long, tasks[i % 57]),
        "router, score and decision": lambda i: policies.next(
            Request("hard", "m", i, 0, "", "", score(weights, texts[i % 50])), [], view
        ),
    }.items():
        middle, worst = percentiles(run)
        print(f"{name:42s} p50 {middle:7.4f} ms   p99 {worst:7.4f} ms")


if __name__ == "__main__":
    main()
