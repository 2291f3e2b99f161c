"""What a question asked again takes, on the bundled log, in CPU-seconds: ``python benchmarks/again.py``.

Every figure is of one process: the first plan, the same again, and one with another limit (least of three);
then, of that plan, its prices moved once, its frontiers, and the scenarios of every way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import msgspec

from isocost.catalog import Catalog
from isocost.plan.asked.limits import Have, Limits
from isocost.plan.market.prepare import Request
from isocost.plan.recost import Recost
from isocost.plan.run import make_plan
from isocost.plan.tell.frontier import frontier
from isocost.plan.tell.odds import sure
from isocost.plan.tell.story import Totals, drivers_of, today_ledger
from isocost.risk import SCENARIOS
from isocost.trace.workload import example

TIMES = 20


def cpu_s(call: Callable[[], object], times: int = 1) -> float:
    """The least CPU-seconds of some calls."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    asked = Request(
        example("anthropic/claude-opus-4-6"), Catalog.load(), date(2026, 11, 23), Limits(), Have()
    )
    other = replace(asked, limits=msgspec.structs.replace(asked.limits, budget_usd_per_month=50_000.0))
    rows: list[tuple[str, float, float | None]] = [
        ("the first plan, kernels on disk", cpu_s(lambda: make_plan(asked)), None)
    ]
    outcome = make_plan(asked)
    rows.append(("the same again", cpu_s(lambda: make_plan(asked), 3), 2.0))
    rows.append(("with another limit", cpu_s(lambda: make_plan(other), 3), 2.0))
    cost = Recost(outcome.ledger)
    once = cpu_s(lambda: [cost.usd({"api/": 1.0 + i / 100}) for i in range(TIMES)]) / TIMES
    rows.append(("prices moved", once, 0.05))
    built, chosen, stays = outcome.built, outcome.chosen, outcome.stays
    ledgers = (outcome.ledger, *(single.ledger for single in chosen.values() if single.ledger))
    totals = Totals(today_ledger(built, stays), outcome.ledger, drivers_of(built, ledgers))
    rows.append(("frontiers", cpu_s(lambda: frontier(built, totals)), 5.0))
    rows.append(
        (f"{SCENARIOS:,} scenarios of every way", cpu_s(lambda: sure(built, chosen, stays, totals)), 1.0)
    )
    print(f"{'':34}{'CPU-s':>10}{'asked':>8}{'share of it':>13}")
    for name, taken, most in rows:
        share = "" if most is None else f"{taken / most:13.2%}"
        print(f"{name:34}{taken:10.4f}{'' if most is None else f'{most:g}':>8}{share}")


if __name__ == "__main__":
    main()
