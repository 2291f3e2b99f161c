"""A plan in the terminal: the same words at every width, in the width that there is."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from golden import Golden
from isocost.plan.result import Limit, PlanResult
from isocost.report.terminal import render

SAMPLES = sorted((Path(__file__).parent / "cases" / "report").glob("*.json"))


def sample(path: Path) -> PlanResult:
    return msgspec.json.decode(path.read_bytes(), type=PlanResult)


def text(result: PlanResult, width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    console.print(render(result, width, 60))
    return out.getvalue()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("width", [80, 100, 120])
def test_looks_as_it_did(path: Path, width: int, golden: Golden) -> None:
    golden.check(f"terminal_{path.stem}_{width}.txt", text(sample(path), width))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_fits_every_width_and_cuts_nothing(path: Path) -> None:
    result = sample(path)
    for width in range(70, 121):
        printed = text(result, width)
        assert max(len(line.rstrip()) for line in printed.splitlines() if "isocost" not in line) <= width, (
            width
        )
        assert "…" not in printed
        for line in result.lines:
            assert f"{line.usd_per_month:,.0f}" in printed, width
        squeezed = re.sub(r"\s+", "", printed)
        for option in result.options:
            if not option.feasible:
                assert re.sub(r"\s+", "", option.why_not) in squeezed, width


def test_verdict_comes_before_everything_else() -> None:
    result = sample(SAMPLES[-1])
    printed = re.sub(r"\s+", " ", text(result, 100))
    places = [
        printed.index(word) for word in (result.headline, "$/month", "cheaper, unproven", "limits", "Next:")
    ]
    assert places == sorted(places)


def test_missed_limits_lead_and_unverified_is_never_held() -> None:
    result = sample(SAMPLES[-1])
    missed = Limit("chat", "ttft_p95", 0.5, "s", 0.9, "missed", "replayed")
    result = msgspec.structs.replace(result, limits=[*result.limits, missed])
    lines = text(result, 100).splitlines()
    first = next(line for line in lines if line.startswith("  limits"))
    assert "missed" in first
    assert "TTFT p95 <= 0.50 s: chat 0.90 s" in first
    unverified = next(line for line in lines if "unverified" in line)
    assert "TPOT p95" in unverified


def test_many_workloads_are_summed_up() -> None:
    result = sample(SAMPLES[-1])
    limits = [Limit(f"w{i}", "ttft_p95", 2.0, "s", 0.1 * i, "held", "replayed") for i in range(12)]
    printed = text(msgspec.structs.replace(result, limits=limits), 100)
    assert "TTFT p95 <= 2.00 s: 12 workloads, most w11 1.10 s (replayed)" in printed


def test_unknown_is_a_dash_and_a_lower_bound_says_so() -> None:
    result = msgspec.structs.replace(sample(SAMPLES[-1]), at_least=True)
    printed = text(result, 100)
    assert ">= 118,000" in printed
    assert "lower bound" in printed
    assert re.search(r"big-api, batch.* 9,000 +- ", printed)
