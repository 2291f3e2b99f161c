"""The month's end as the log's own weeks say, and days that are not like their like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from golden import Golden
from isocost.books.check import Budget, check, read_budgets
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
