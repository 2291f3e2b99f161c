"""A plan's costs against the replay of its own log, for small plans drawn at random."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.ledger import Ledger
from isocost.plan.run import make_plan
from isocost.plan.scenario import read, request_of
from isocost.plan.written.file import PlanFile, loads
from isocost.plan.written.rerun import rerun

RENT = ("inference-compute", "idle-compute", "redundancy")
NEAR_FRAC = 0.003
"""How near replay comes to the plan: hours of the log that are not whole, and shares of a few requests."""
DIVIDED = """title = "divided"
now = "openai/gpt-4.1"
shape = "office"
[[workload]]
name = "w0"
requests = "20k/mo"
in = 6000
out = 100
shared = 80
turns = 6.0
[slo.default]
quality_margin_points = 0.0
""" + "".join(
    f'[[have.rate_limits]]\nprovider = "{name}"\nrequests_per_min = 5\n'
    for name in ("openai", "openrouter", "aws", "azure", "google")
)
"""Sessions that no provider may take all of in the busiest minutes."""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def scenario(seed: int) -> str:
    """One to three workloads, some that repeat, wait, share a prefix or come in turns, and limits."""
    draw = np.random.default_rng(seed)

    def some(odds: float, text: str) -> str:
        return text if draw.random() < odds else ""

    now = draw.choice(["openai/gpt-4.1", "anthropic/claude-haiku-4-5", "openai/gpt-4.1-mini"])
    text = f'title = "drawn"\nnow = "{now}"\nshape = "{draw.choice(["office", "consumer", "flat"])}"\n'
    for k in range(draw.integers(1, 4)):
        text += (
            f'[[workload]]\nname = "w{k}"\nrequests = "{draw.choice([2, 8])}k/mo"\n'
            f"in = {draw.integers(100, 6000)}\nout = {draw.integers(20, 900)}\n"
            + some(0.4, f"shared = {draw.integers(10, 90)}\n")
            + some(0.3, 'repeat = "20%"\nprompts = 200\n')
            + some(0.3, 'wait = "24h"\n')
            + some(0.3, "turns = 3.0\n")
        )
    own = draw.random() < 0.5
    text += "[slo.default]\nquality_margin_points = 30.0\n" + ('place = "own"\n' if own else "")
    text += some(0.3, "spare_replicas = 1\n")
    limit = f'[[have.rate_limits]]\nprovider = "{now.split("/")[0]}"\n'
    held = '[[have.gpus]]\ngpu = "h100-sxm"\ncount = 2\nusd_per_gpu_h = 2.1\nuntil = 2028-01-01\n'
    return text + (
        some(0.5, held) if own else some(0.5, f"{limit}requests_per_min = {draw.integers(1, 6)}\n")
    )


def answers_usd(ledger: Ledger) -> dict[str, float]:
    """Dollars of answers, by deployment for APIs and in all for replicas."""
    found: dict[str, float] = defaultdict(float)
    for charge in ledger:
        if charge.option != "people" and charge.account in ("api-tokens", *RENT):
            found[charge.deployment if charge.account == "api-tokens" else "replicas"] += charge.usd
    return found


def divided(plan: PlanFile) -> bool:
    """Whether some route sends its requests to more than one API."""
    return any(len(route.shares) > 1 for route in plan.routes)


@pytest.mark.parametrize("seed", [3, 7, 11, None])
def test_replay_costs_what_the_plan_said(seed: int | None, catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "drawn.toml"
    file.write_text(DIVIDED if seed is None else scenario(seed))
    request = request_of(read(file), catalog, date(2026, 11, 22))
    made = make_plan(request)
    plan = loads(made.toml)
    again = rerun(request.trace, plan, catalog)
    months = again.span_s / (catalog.at(request.on).number("finance/any", "hours_per_month") * 3600)
    assert (again.replayed.where >= 0).all()
    assert again.replayed.unpriced == 0
    said, ran = answers_usd(made.ledger), answers_usd(again.replayed.ledger)
    assert seed is not None or all(route.by_session for route in plan.routes)
    assert divided(plan) == (seed is None)
    assert sum(ran.values()) / months == pytest.approx(sum(said.values()), rel=NEAR_FRAC, abs=0.05)
    for name in said.keys() | ran.keys():
        assert ran[name] / months == pytest.approx(said[name], rel=4 * NEAR_FRAC, abs=0.5)
