"""The month's end as the log's own weeks say, and days that are not like their like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from golden import Golden
from isocost.books import check as check_room
from isocost.books.check import Budget, check, read_budgets
from isocost.books.contract import contract
from isocost.books.overlay import parse_overlay
from isocost.books.statement import Line, Requests, Statement
from isocost.cli.root import main
from isocost.errors import BadInput

CASES = Path(__file__).parent / "cases" / "books"
USD = 10**15


def hours(begin: datetime, usd: list[int], tenant: str = "a", *, unpriced: int = 0) -> Statement:
    """A statement that costs whole dollars in each hour from ``begin``."""
    at = [begin + timedelta(hours=n) for n in range(len(usd))]
    lines = tuple(
        Line(f"{moment:%Y-%m-%dT%H}", "p", "m", "api/p/m", "standard", "", tenant, "w", "input", cost, USD)
        for moment, cost in zip(at, usd, strict=True)
    )
    calls = (
        Requests(f"{at[0]:%Y-%m-%dT%H}", "p", "m", "api/p/m", "standard", "", tenant, "w", 1, 0, unpriced),
    )
    return Statement("log", "", "", at[0], at[-1], lines, calls)


def test_a_steady_log_costs_the_same_to_the_end() -> None:
    """A dollar an hour: 720 dollars in November, whatever week is drawn."""
    found = check(
        hours(datetime(2026, 11, 1, tzinfo=UTC), [1] * 24 * 16),
        (Budget(Decimal(720)), Budget(Decimal(719)), Budget(Decimal(10), tenant="a")),
    )
    one = found.outlooks[0]
    assert (one.spent_usd, one.forecast_usd, one.low_usd, one.high_usd) == (384, 720, 720, 720)
    assert [outlook.exceeds for outlook in found.outlooks] == [0, 1, 1]
    assert [outlook.held for outlook in found.outlooks] == [True, False, False]
    assert not found.held
    assert found.anomalies == ()
    assert found.notes == ()


def test_the_rest_is_every_combination_of_the_weeks() -> None:
    """Against a plain enumeration: each block to come is any of the last weeks, from the same hour on."""
    random = np.random.default_rng(5)
    usd = random.integers(0, 9, 24 * 24 + 5).tolist()
    begin = datetime(2026, 10, 1, tzinfo=UTC)
    found = check(hours(begin, usd), (Budget(Decimal(3000)),)).outlooks[0]
    weeks = len(usd) // 168
    rest = 31 * 24 - len(usd)
    history = [usd[len(usd) - (n + 1) * 168 :][:168] for n in range(weeks)]
    parts = [168] * (rest // 168) + [rest % 168]
    ends = sorted(
        sum(usd) + sum(sum(history[w][:size]) for w, size in zip(draw, parts, strict=True))
        for draw in product(range(weeks), repeat=len(parts))
    )
    assert found.exceeds == pytest.approx(sum(end > 3000 for end in ends) / len(ends))
    assert found.low_usd == ends[int(np.ceil(0.1 * len(ends))) - 1]
    assert found.high_usd == ends[int(np.ceil(0.9 * len(ends))) - 1]
    assert found.forecast_usd == ends[int(np.ceil(0.5 * len(ends))) - 1]


def test_growth_is_carried_on() -> None:
    """A tenth more each week: the rest of the month grows on, by as much, with no doubt about it."""
    begin = datetime(2026, 10, 5, tzinfo=UTC)
    usd = [round(1000 * 1.1 ** (hour // 168)) for hour in range(7 * 168)]
    found = check(hours(begin, usd), (Budget(Decimal(10**6)),)).outlooks[0]
    rest = 168 * 1000 * 1.1**7 + 24 * 1000 * 1.1**8
    assert found.growth == pytest.approx((0.1, 0.1, 0.1), abs=1e-3)
    assert found.forecast_usd == pytest.approx(float(found.spent_usd) + rest, rel=1e-2)


@pytest.mark.parametrize(("weeks", "growth", "noise"), [(6, 0.0, 0.1), (6, 0.15, 0.1), (8, 0.05, 0.25)])
def test_the_band_holds_what_it_says(weeks: int, growth: float, noise: float) -> None:
    """Of 150 made logs the 80 % band holds the truth in two thirds at least, growing or not."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(150):
        usd = np.exp(growth * np.arange(weeks + 2) + random.normal(0, noise, weeks + 2))
        series = np.repeat(usd[:weeks] / 168, 168)
        ends = check_room._ends(series, 336, weeks, check_room._growths(series, weeks))
        low, high = (check_room._quantile(*ends, share) for share in (0.1, 0.9))
        held += low <= usd[weeks:].sum() <= high
    assert held >= 100


def test_a_contract_is_what_counts() -> None:
    """Half price on usage, and a fee of 31 dollars a month beside it."""
    terms = parse_overlay(
        "[[discount]]\npercent = 50\n[[fee]]\nname = 'support'\nusd_per_month = 30\n", "contract.toml"
    )
    found = hours(datetime(2026, 11, 1, tzinfo=UTC), [1] * 24 * 16)
    one = check(found, (Budget(Decimal(1000)),), contract(found, terms)).outlooks[0]
    assert one.spent_usd == Decimal(192 + 30)
    assert one.forecast_usd == pytest.approx(222 + (14 * 24) * (0.5 + 30 / (16 * 24)))


def test_one_dear_day_stands_out_and_others_do_not() -> None:
    usd = [1] * 24 * 20
    usd[24 * 10 : 24 * 11] = [3] * 24
    found = check(hours(datetime(2026, 11, 1, tzinfo=UTC), usd), ())
    assert [(day.day, day.name, day.usd) for day in found.anomalies] == [
        ("2026-11-11", "tenant a", 72.0),
        ("2026-11-11", "model m", 72.0),
    ]


def test_what_the_log_does_not_say_is_said() -> None:
    found = check(hours(datetime(2026, 11, 3, tzinfo=UTC), [1] * 200, unpriced=1), ())
    assert [note.split(":")[0] for note in found.notes] == [
        "the log begins on 2026-11-03 00",
        "the log holds one whole week",
        "some usage has no price",
    ]
    with pytest.raises(BadInput, match="shorter than a week"):
        check(hours(datetime(2026, 11, 3, tzinfo=UTC), [1] * 160), ())
    with pytest.raises(BadInput, match="no tenant 'z' in the log"):
        check(hours(datetime(2026, 11, 3, tzinfo=UTC), [1] * 200), (Budget(Decimal(1), tenant="z"),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("budget = []", "no budget"),
        ("[[budget]]\nusd_per_month = 0", "0 USD a month for total"),
        ("[[budget]]\nusd_per_month = 5\ncolour = 'a'", "unknown field"),
        ("[[budget", "budget.toml"),
    ],
)
def test_bad_budgets_are_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=says):
        read_budgets(tmp_path / "budget.toml")


def test_looks_as_it_did(
    golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    months = [
        (CASES / f"{name}.csv").read_text(encoding="utf-8").splitlines() for name in ("september", "october")
    ]
    (tmp_path / "log.csv").write_text("\n".join([*months[0], *months[1][1:130]]), encoding="utf-8")
    command = ["check", str(tmp_path / "log.csv"), "--budget", str(CASES / "budget.toml")]
    assert main([*command, "--facts", str(CASES / "facts")]) == 1
    golden.check("books_check.txt", capsys.readouterr().out)
