"""How long graded outcomes take to be read, fitted, certified, and validated on a thousand users: made
questions that ten models answered, most of them alike, some too hard for all.

    python benchmarks/routing.py [--questions 50000]
"""

from __future__ import annotations

import argparse
import datetime
import math
import random
import resource
import tempfile
import time
from pathlib import Path


def graded(path: Path, n: int, models: int = 10) -> Path:
    """Questions of four choices in twenty tasks: some are hard, for every model; the dearer a model, the
    better it is."""
    rng = random.Random(1)
    with path.open("w") as out:
        out.write("qid,model,task,quality,pred,in_tok,cost\n")
        for i in range(n):
            hard, truth = rng.gauss(0.0, 1.0), rng.randrange(4)
            for j in range(models):
                right = rng.random() < 1 / (1 + math.exp(-(0.3 + 0.15 * j - 1.5 * hard)))
                said = truth if right else (truth + 1 + rng.randrange(3)) % 4
                tokens, usd = rng.randrange(100, 900), 1e-4 * 1.5**j
                out.write(f"q{i},m{j},t{i % 20},{int(right)},{said},{tokens},{usd * tokens / 500:.7f}\n")
    return path


def validated(n: int) -> None:
    from isocost.catalog import Catalog
    from isocost.policy.outcomes import read_outcomes
    from isocost.policy.study import Wanted, study
    from isocost.validate.routing import validate_routing

    with tempfile.TemporaryDirectory() as folder:
        path = graded(Path(folder, "outcomes.csv"), n)
        start = time.process_time()
        outcomes = read_outcomes(path)
        read = time.process_time()
        one = study(outcomes, Catalog.load().at(datetime.date.today()), Wanted()).certificates[0]
        fitted = time.process_time()
        found = validate_routing(path)
        ended = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n:,} questions of ten models: read {read - start:.1f} CPU-s, fitted and certified "
        f"({one.saving:.0%} saved) {fitted - read:.1f} CPU-s, validated on {found.rows:,} users "
        f"({found.certified_saving_frac:.0%}) {ended - fitted:.1f} CPU-s; at most {peak:,.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=50_000)
    given = parser.parse_args()
    for questions in (given.questions // 10, given.questions):
        validated(questions)


if __name__ == "__main__":
    main()
