"""How long a policy takes to decide and a semantic cache to look (one thread, pure Python), and to be
played on a log: all draws of what a fit saw, then all draws of failures, with the policy and without.

    python benchmarks/policy.py [--requests 200000]
"""

from __future__ import annotations

import argparse
import datetime
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

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


PLAN = Path(__file__).parents[1] / "examples" / "policy.toml"
CASCADE = """
[[policy]]
workload = "*"
[policy.choose]
kind = "cascade"
ask = ["openai/gpt-5-mini", "openai/gpt-4.1-mini", "openai/gpt-5.4"]
accept = [{ pattern = "AA", take = "A" }]
seen = { questions = 400, chance = { A = 1, AA = 0.75, AB = 0.25, AAA = 0.75, ABB = 0.125, ABA = 0.125 } }
"""


def log(path: Path, n: int) -> Path:
    """A week of requests: Poisson arrivals, log-normal sizes and times, a fixed seed."""
    rng, t, rows = random.Random(0), 0.0, ["timestamp,model,input_tokens,output_tokens,ttft_s,e2e_s"]
    start = datetime.datetime(2026, 11, 1)
    for _ in range(n):
        t += rng.expovariate(n / (7 * 86400))
        at, out = start + datetime.timedelta(seconds=t), int(rng.lognormvariate(5, 0.8)) + 1
        ttft = rng.lognormvariate(-0.7, 0.4)
        sizes = f"{int(rng.lognormvariate(6.5, 1)) + 1},{out}"
        rows.append(f"{at.isoformat()}Z,openai/gpt-5.4,{sizes},{ttft:.3f},{ttft + out * 0.02:.3f}")
    path.write_text("\n".join(rows) + "\n")
    return path


def played(n: int) -> None:
    from isocost.catalog import Catalog
    from isocost.plan.written import told
    from isocost.plan.written.file import loads
    from isocost.trace import open_trace

    text = PLAN.read_text()
    plan, catalog = loads(text[: text.index("# Summaries")] + CASCADE), Catalog.load()
    with tempfile.TemporaryDirectory() as folder:
        trace = open_trace(log(Path(folder, "log.csv"), n))
        told.police(trace, plan, catalog)  # compile or load
        start = time.process_time()
        found, _ = told.police(trace, plan, catalog)
        spent = time.process_time() - start
        with patch.object(told, "play_failures", lambda *_: None):
            start = time.process_time()
            told.police(trace, plan, catalog)
            alone = time.process_time() - start
    print(
        f"{found.draws} draws of a fit on {n:,} requests {alone:.1f} CPU-s; with failures {spent:.1f} CPU-s"
    )


ABOUT = ("card", "transfer", "refund", "pin", "limit", "exchange rate", "top up", "cash", "fee", "account")
ASKS = (
    "why was my {} declined", "how long does a {} take", "can i change my {}", "there is a {} i do not know",
    "where is my {}", "how do i get another {}", "what is the {} for a visa", "my {} is still pending",
)  # fmt: skip
SOUNDS = ("ba", "re", "ti", "mo", "lu", "ka", "se", "no", "di", "pra", "ste", "vin", "gol", "mer", "tan")
ENTRIES = (3_000, 12_000, 100_000)
LOOKS = 2_000


def questions(many: int) -> list[str]:
    """Questions of a bank, each with words of its own and of others; a fixed seed."""
    rng = random.Random(1)
    words = ["".join(rng.choices(SOUNDS, k=rng.randint(2, 3))) for _ in range(1500)]
    odds = [1.0 / (k + 10.0) for k in range(len(words))]
    return [
        " ".join([rng.choice(ASKS).format(rng.choice(ABOUT)), *rng.choices(words, odds, k=rng.randint(1, 8))])
        for _ in range(many)
    ]


def looking() -> None:
    """Looks in semantic caches of so many questions, with a verifier of 150 groups; what keeping a question,
    letting one go, and holding one takes."""
    from isocost.policy.semantic import HASHED, Weights, rarity_of, taken_apart
    from isocost.policy.semantic_cache import SemanticCache
    from isocost.policy.semantic_index import Groups, Index

    texts = questions(max(ENTRIES) + 500)
    asked = texts[-500:]
    apart = [taken_apart(text) for text in texts[: ENTRIES[0]]]
    rarity, rarest = rarity_of(apart)
    rng = random.Random(2)
    groups = {part: tuple(rng.gauss(0.0, 1.0) for _ in range(150)) for part in list(rarity)[::2]}
    index = Index(rarity, rarest, Groups.of(groups))
    index.add(apart[0], "")
    width = len(index.near(apart[0])[0].features)
    weights = Weights(
        rarity, rarest, (0.0,) * width, (1.0,) * width, (0.1,) * width, (0.0,) * HASHED, 0.0, groups, 1e300
    )
    cache = SemanticCache(weights)
    least, fewest = 0.0, ENTRIES[0]
    for many in ENTRIES:
        start = time.process_time()
        before = len(cache)
        for text in texts[before:many]:
            cache.keep(b"", text, "", 0.0)
        kept = (time.process_time() - start) / (many - before) * 1000
        spent, taken = [], []
        for k in range(LOOKS):
            wall, cpu = time.perf_counter(), time.process_time()
            cache.look(b"", asked[k % 500], 0.0)
            spent.append((time.process_time() - cpu) * 1000)
            taken.append((time.perf_counter() - wall) * 1000)
        middle = statistics.median(spent)
        least = least or middle
        print(
            f"look in a semantic cache of {many:9,} p50 {statistics.median(taken):.2f} ms, CPU "
            f"p50 {middle:.2f} ms p99 {statistics.quantiles(spent, n=100)[98]:.2f} ms: "
            f"{middle / least:.1f}x for {many / fewest:.0f}x the entries; kept in {kept:.2f} CPU-ms"
        )
    cache.most_entries = ENTRIES[-1]
    start = time.process_time()
    for text in asked:
        cache.keep(b"", text, "", 0.0)
    print(f"kept where another has to go          {(time.process_time() - start) / 500 * 1000:.2f} CPU-ms")
    held = SemanticCache(weights)
    tracemalloc.start()
    for text in texts[: ENTRIES[0]]:
        held.keep(b"", text, "", 0.0)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(
        f"an entry of {ENTRIES[0]:,}                     {size / ENTRIES[0] / 1000:.1f} kB without its answer"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    given = parser.parse_args()
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
    looking()
    played(given.requests)


if __name__ == "__main__":
    main()
