"""Our costs, hours and constants of training against a file of published ones.

Columns: ``kind, inputs`` (JSON), ``metric, published``, and where there are any ``case_id, ci_low, ci_high,
unit, tolerance, provenance``. Figures are read as people write them (``isocost.validate.written``). An
answer is made from a row's name, kind, inputs and metric and from the catalog, never from what it
publishes. Three ways to answer are told apart: *computed* from inputs, *looked up* where a row states
nothing to compute from and the catalog holds the disclosure with its source, and *forecast* where hours
are hidden and only compute and hardware are known; a forecast passes where the published value lies
inside its central 90 %. A row is left out only by a named rule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from isocost.catalog import Catalog
from isocost.develop import compute, published
from isocost.develop.posterior import Spread, mfu_spread, next_of
from isocost.develop.published import ANY
from isocost.develop.published_programme import disclosed, programme
from isocost.errors import IsocostError, UnknownFact
from isocost.validate.kinds import Share, share_of
from isocost.validate.table import rows_of
from isocost.validate.training_rows import WORDS, Case, answer, chip_id, positive
from isocost.validate.written import Written, figure, inputs, number

TENTH_PERCENT = 0.001
MOST_ROUNDING = 0.01
"""A published number of few digits stands for what rounds to it, within this."""
ERRORS = 3.0
"""Standard errors within which two Monte Carlo estimates of one quantity agree."""
ROUNDED_ENDS = 0.05
"""Ends of an interval that are printed with two digits, from 10,000 draws."""
COLUMNS = ("kind", "inputs", "metric", "published")
OTHERS = ("case_id", "unit", "provenance", "ci_low", "ci_high", "tolerance")
"""Columns that a file may lack."""
CLAIM = "a claim under test, without a published value"
RECALLED = "recalled, and not found at a source"
NO_FIGURE = "no published figure"
NO_NUMBER = "the published figure is no number"
UNREADABLE = "its inputs cannot be read"
NO_INPUTS = "its inputs are not published"
CLAIMED = "seed_claim_range"
UNFIT = (TypeError, ValueError, ZeroDivisionError, OverflowError)
"""What arithmetic says of inputs that are of another kind than their names promise."""


class Answer(NamedTuple):
    """Our value with, for a forecast, its central 90 %; ``error_frac`` is that of a Monte Carlo value."""

    value: float
    how: str
    low: float = math.nan
    high: float = math.nan
    error_frac: float = 0.0
    at_most: bool = False


class Row(msgspec.Struct, frozen=True):
    """One row compared; ``ours`` is ``None`` where it is unanswered, and ``why`` says why."""

    id: str
    kind: str
    metric: str
    how: str
    published: float
    ours: float | None
    relative_error: float
    passed: bool
    why: str = ""


class TrainingReport(msgspec.Struct, frozen=True):
    """How we did on a file.

    ``passed`` of ``rows`` less ``left_out`` (by named rule). ``within_tenth_percent`` counts the rows
    reproduced within 0.1 % or to the digits that are printed, ``reproduced`` those that were to be.
    ``forecasts`` are published hours with the hours hidden, of which ``forecast_covered`` lie inside
    the central 90 %. ``verdicts`` say of each claim under test which boundary it fits.
    """

    path: str
    rows: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]
    reproduced: int
    within_tenth_percent: int
    forecasts: int
    forecast_covered: float
    multipliers: int
    multiplier_covered: float
    mape: float
    median: float
    by: dict[str, dict[str, Share]]
    compared: tuple[Row, ...]
    verdicts: dict[str, str]
    notes: tuple[str, ...]


def validate_training(file: Path, catalog: Catalog | None = None) -> TrainingReport:
    """Answer every row of a file of published training costs and say how far off we are.

    Raises:
        BadInput: the file is absent or lacks a column.
    """
    held = catalog or Catalog.load()
    table = read_rows(file)
    left_out: Counter[str] = Counter()
    verdicts: dict[str, str] = {}
    compared, extra = [], []
    for row in table:
        case, value = case_of(row), figure(row["published"], row["unit"])
        if case is None:
            left_out[UNREADABLE] += 1
            continue
        if case.kind == CLAIMED:
            left_out[CLAIM] += 1
            verdicts[case.ident] = verdict(
                held, case, *(number(row[end], unit=row["unit"]) for end in ("ci_low", "ci_high"))
            )
            continue
        if value is None:
            left_out[NO_NUMBER if row["published"] else NO_FIGURE] += 1
            continue
        found, why = _tried(held, case)
        if found is None and (row["provenance"] == "recalled" or not row["inputs"]):
            left_out[RECALLED if row["inputs"] else NO_INPUTS] += 1
            continue
        compared.append(judged(case, found, why, value, row))
        hidden = _hidden(held, case)
        if hidden is not None:
            extra.append((case, hidden[0], hidden[1]))
    return _report(
        file, len(table), tuple(compared), extra, dict(left_out), verdicts, _multipliers(held, table)
    )


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of the file as text.

    Raises:
        BadInput: the file is absent or lacks a column.
    """
    found = []
    for at, (cells, _) in enumerate(rows_of(file, COLUMNS), 1):
        row = {name: (text or "").strip() for name, text in {**dict.fromkeys(OTHERS, ""), **cells}.items()}
        found.append({**row, "case_id": row["case_id"] or f"row {at}"})
    return found


def case_of(row: Mapping[str, str]) -> Case | None:
    """What a row asks; ``None`` where its inputs cannot be read."""
    known = inputs(row["inputs"], WORDS)
    if known is None:
        return None
    kind = row["kind"].lower().replace(" ", "_")
    return Case(row["case_id"], kind, row["metric"].lower(), known, row["unit"])


def judged(case: Case, found: Answer | None, why: str, stated: Written, row: Mapping[str, str]) -> Row:
    """A row with its verdict; an unanswered one fails, and one stated as a range passes inside it."""
    value, metric = stated.value, row["metric"]
    if found is None:
        return Row(case.ident, case.kind, metric, "unanswered", value, None, math.nan, False, why)
    ends = (("ci_low", stated.low), ("ci_high", stated.high))
    low, high = (number(row[name], end, row["unit"]) for name, end in ends)
    error = found.value / value - 1.0 if value else math.nan
    if found.how == "forecast":
        passed = found.low <= value <= found.high
        why = f"90 %: {found.low:,.4g} to {found.high:,.4g}"
    elif found.at_most:
        passed = found.value <= value
    elif not math.isnan(found.low) and 0.0 < low < high:
        allowed = number(row["tolerance"], ROUNDED_ENDS)
        passed = abs(found.low / low - 1.0) <= allowed and abs(found.high / high - 1.0) <= allowed
    elif stated.is_range:
        allowed = max(number(row["tolerance"], TENTH_PERCENT), ERRORS * found.error_frac)
        passed = stated.low * (1.0 - allowed) <= found.value <= stated.high * (1.0 + allowed)
        why = "published as a range"
    elif found.error_frac and value > 0.0 and found.value > 0.0:
        passed = abs(math.log(found.value / value)) <= max(ERRORS * found.error_frac, TENTH_PERCENT)
        why = f"two Monte Carlo medians; standard error {found.error_frac:.1%}"
    else:
        allowed = number(row["tolerance"], TENTH_PERCENT)
        passed = abs(error) <= max(allowed, rounding(value))
    return Row(case.ident, case.kind, metric, found.how, value, found.value, error, bool(passed), why)


def rounding(value: float) -> float:
    """Relative half of the last digit that a number is printed with, one percent at most.

    >>> rounding(1.7e22) == MOST_ROUNDING, round(rounding(31.22), 6)
    (True, 0.00016)
    """
    if not value or math.isnan(value):
        return 0.0
    digits = f"{abs(value):.15g}".partition("e")[0].replace(".", "").strip("0")
    power = math.floor(math.log10(abs(value))) - len(digits) + 1
    return float(min(0.5 * 10.0**power / abs(value), MOST_ROUNDING))


def verdict(catalog: Catalog, case: Case, low: float, high: float) -> str:
    """Which boundary of our own figures a claimed range holds, or that none does.

    A claim is of a programme that the catalog has disclosures of; others are not known.
    """
    parts = case.ident.split(":")
    name = (parts[1] if len(parts) > 1 else case.ident).removesuffix(" compute")
    try:
        known = disclosed(catalog, name)
    except UnknownFact:
        return "not known: no disclosed programme of that name"
    figures = {
        "hardware by use and energy": published.amortised_usd(catalog, known.run),
        "rent": published.rent_usd(catalog, known.run),
    }
    with suppress(UnknownFact):
        whole = programme(catalog, known, known.run.published)["total"]
        figures["whole programme"] = whole.median_usd
    inside = [
        f"{words} ({usd / 1e6:,.1f} M)"
        for words, usd in figures.items()
        if usd >= (low if low == low else 0.0) and usd <= (high if high == high else math.inf)
    ]
    if inside:
        return f"holds for {', '.join(inside)}"
    return "fails for every boundary: " + ", ".join(
        f"{words} {usd / 1e6:,.1f} M" for words, usd in figures.items()
    )


def _tried(catalog: Catalog, case: Case) -> tuple[Answer | None, str]:
    try:
        return Answer(*answer(catalog, case)), ""
    except (UnknownFact, KeyError) as wrong:
        return None, wrong.line() if isinstance(wrong, IsocostError) else f"no input {wrong}"
    except UNFIT as wrong:
        return None, f"an input does not fit: {wrong}"


def _hidden(catalog: Catalog, case: Case) -> tuple[Answer, float] | None:
    """A forecast of disclosed hours from compute and hardware alone, with the hours; each run once."""
    given = case.inputs
    if case.kind != "training_cost_epoch" or not case.metric.startswith("amortised"):
        return None
    flop, chips, length = (positive(given, name) for name in ("flop", "n_chips", "hours"))
    if flop is None or "hardware" not in given:
        return None
    product = chips * length if chips is not None and length is not None else None
    hours = positive(given, "chip_hours") or product
    try:
        peak = catalog.at(ANY).number(f"chip/{chip_id(str(given['hardware']))}", "flop_per_s")
    except UnknownFact:
        return None
    usual = catalog.at(ANY).number(published.METHOD, "mfu_frac")
    if hours is None or abs(compute.mfu(flop, peak, hours) / usual - 1.0) < 1e-6:
        return None
    spread = mfu_spread(catalog.at(ANY), str(given["hardware"]))
    return forecast_hours(flop, peak, spread), hours


def forecast_hours(flop: float, peak_flop_per_s: float, spread: Spread) -> Answer:
    """Accelerator-hours of an amount of work with the central 90 % that utilisation leaves."""
    low, high = spread.ends(0.9)
    hours = [compute.gpu_hours(flop, peak_flop_per_s, frac) for frac in (spread.median, high, low)]
    return Answer(hours[0], "forecast", hours[1], hours[2])


def _multipliers(catalog: Catalog, table: list[dict[str, str]]) -> list[bool]:
    """Whether each disclosed multiplier of a programme lies inside 90 % of what the others foretell."""
    at, inside = catalog.at(ANY), []
    stated = {
        one: at.number(one, "programme_multiplier")
        for one in catalog.having("programme_multiplier", "disclosed/")
    }
    for row in table:
        if row["kind"].lower() != "total_over_raw_multiplier" or figure(row["published"]) is None:
            continue
        with suppress(UnknownFact):
            own = disclosed(catalog, row["case_id"].partition(":")[2]).subject
            low, high = next_of([value for one, value in stated.items() if one != own], 0.9)
            inside.append(low <= number(row["published"], unit=row["unit"]) <= high)
    return inside


def _report(
    file: Path,
    rows: int,
    compared: tuple[Row, ...],
    hidden: list[tuple[Case, Answer, float]],
    left_out: dict[str, int],
    verdicts: dict[str, str],
    multipliers: list[bool],
) -> TrainingReport:
    def close(row: Row) -> bool:
        return abs(row.relative_error) <= max(TENTH_PERCENT, rounding(row.published))

    told = [row for row in compared if row.how != "forecast"]
    exact = [row for row in told if row.how != "drawn"]
    forecasts = [row.passed for row in compared if row.how == "forecast"]
    forecasts += [found.low <= hours <= found.high for _, found, hours in hidden]
    errors = np.array([min(abs(row.relative_error), 1.0) if row.ours is not None else 1.0 for row in told])
    errors = np.nan_to_num(errors, nan=0.0)
    good = np.array([row.passed for row in told])
    labels = {"kind": [row.kind for row in told], "how": [row.how for row in told]}
    by = {
        name: {
            value: share_of(errors, None, good, np.array([one == value for one in column]))
            for value in dict.fromkeys(column)
        }
        for name, column in labels.items()
    }
    every = share_of(errors, None, good) if len(told) else Share(0, math.nan, math.nan)
    failed = tuple(f"{row.id} · {row.metric}" for row in compared if not row.passed)
    outside = [case.ident for case, found, hours in hidden if not found.low <= hours <= found.high]
    notes = (
        f"{sum(map(close, exact))} of {len(exact)} rows agree within 0.1 % or to the digits printed; "
        f"{sum(row.passed for row in told if row.how == 'drawn')} of {len(told) - len(exact)} Monte Carlo"
        " medians within three standard errors",
        f"forecasts with hours hidden outside their 90 %: {', '.join(outside) or 'none'}",
    )
    return TrainingReport(
        str(file),
        rows,
        sum(row.passed for row in compared),
        failed,
        left_out,
        len(exact),
        sum(map(close, exact)),
        len(forecasts),
        sum(forecasts) / len(forecasts) if forecasts else math.nan,
        len(multipliers),
        sum(multipliers) / len(multipliers) if multipliers else math.nan,
        every.mape,
        every.median,
        by,
        compared,
        verdicts,
        notes,
    )
