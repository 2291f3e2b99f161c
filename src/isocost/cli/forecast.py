"""``isocost forecast``: what prices and demand may do next, and how such forecasts have done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import Format, Map, opened
from isocost.errors import BadInput

if TYPE_CHECKING:
    from isocost.forecast.backtest import Score
    from isocost.forecast.demand import Demand

NAMES: Mapping[str, str] = {
    "list-maker": "list price, at its maker",
    "list-host": "list price, at a host",
    "capability": "cheapest at fixed quality",
    "rental": "rent of an H100",
    "spend": "tokens of an answer",
}
SHOWN = (12, 24, 36)
LONGEST_MONTHS = 60
DAYS_SHOWN = 28
HOURS_SHOWN = 72
WEEK = 7


@app.command(sort_key=9)
def forecast(
    log: Annotated[Path | None, Parameter(help="A log, whose demand is forecast beside the prices.")] = None,
    /,
    *,
    months: Annotated[int, Parameter(help="How far ahead, up to 60.")] = 36,
    method: Annotated[
        Literal["naive", "ets"],
        Parameter(
            help="Of demand: last weeks with drift, or statsforecast's (pip install 'isocost[forecast]')."
        ),
    ] = "naive",
    mapping: Map = None,
    reader: Format = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """What prices may do next, as ratios to today's, with the score of such forecasts on the past.

    Four series that are never mixed: what one model costs (steps, rarely), the cheapest price of a fixed
    quality (falls fast), what an accelerator rents for (both ways), how many tokens an answer takes (more).
    """
    if not 1 <= months <= LONGEST_MONTHS:
        raise BadInput(f"{months} months", where="--months", fix=f"Give 1 to {LONGEST_MONTHS}")
    from datetime import date

    from isocost.forecast.backtest import backtest
    from isocost.forecast.prices import SERIES, band, paths, pooled_falls

    at = load(facts).at(date.today())
    bands, still = {}, {}
    for series in SERIES:
        ratios = paths(at, series, months)
        bands[series] = band(ratios)
        still[series] = float((ratios[:, min(12, months)] == 1.0).mean())
    scores, pooled = backtest(at), pooled_falls(at)
    coming = _demand(log, mapping, reader, method) if log else None
    marks = sorted({min(mark, months) for mark in SHOWN} | {months})
    if json:
        return show_json(
            {
                "months": marks,
                "ratio_to_today": {
                    series: {
                        str(mark): {"low": low[mark], "median": mid[mark], "high": high[mark]}
                        for mark in marks
                    }
                    for series, (low, mid, high) in bands.items()
                },
                "unchanged_frac": still,
                "published_falls": pooled,
                "backtest": scores,
                "demand": coming,
            }
        )
    year = min(12, months)
    _, mid, _ = bands["capability"]
    show(
        wrapped(
            f"In {year} months a model's own price stays as it is ({still['list-maker']:.0%} of makers', "
            f"{still['list-host']:.0%} of hosts'), while the cheapest price of today's quality falls to "
            f"{_ratio(mid[year])} of today's, as new models come."
        ),
        "",
    )
    table = grid(("ratio to today", "l"), *((f"{mark} months", "r") for mark in marks))
    for series, (low, mid, high) in bands.items():
        cells = (f"{_ratio(mid[mark])} ({_ratio(low[mark])}-{_ratio(high[mark])})" for mark in marks)
        table.add_row(NAMES[series], *cells)
    show(
        table,
        "",
        wrapped(
            f"In brackets the central 80 %. {pooled.fits} published fits of a fixed quality together say "
            f"{pooled.factor_per_year:.0f}x cheaper a year ({pooled.low:.0f}x to {pooled.high:.0f}x for the "
            "next one): they follow record prices from a quality's first day, so they are steeper than the "
            "table. Beyond 24 months is beyond what the past holds."
        ),
    )
    _show_scores(scores)
    if coming is not None:
        _show_demand(coming)
    return None


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else "<0.01"


def _demand(log: Path, mapping: str | None, reader: str | None, method: str) -> Demand:
    """The requests of a log's whole days, forecast; by the hour of the day where they are not two weeks."""
    import numpy as np

    from isocost.forecast.demand import DAY_HOURS, WEEK_DAYS, demand, demand_by_statsforecast

    with working(f"reading {log.name}"):
        trace = opened(log, mapping, None, reader)
        hours: dict[int, int] = {}
        for chunk in trace.chunks():
            at, counts = np.unique(chunk.arrival_ns // 3_600_000_000_000, return_counts=True)
            for hour, many in zip(at.tolist(), counts.tolist(), strict=True):
                hours[hour] = hours.get(hour, 0) + many
    made = demand_by_statsforecast if method == "ets" else demand
    first, last = min(hours), max(hours)
    # The first and the last hour of a log are seldom whole, and so are its first and its last day.
    per_hour = np.array([hours.get(hour, 0) for hour in range(first + 1, last)], dtype=np.float64)
    midnight = -(first + 1) % DAY_HOURS
    days = (len(per_hour) - midnight) // DAY_HOURS
    per_day = per_hour[midnight : midnight + DAY_HOURS * max(0, days)].reshape(-1, DAY_HOURS).sum(axis=1)
    if len(per_day) < 2 * WEEK_DAYS and len(per_hour) >= 2 * DAY_HOURS:
        return made(per_hour, HOURS_SHOWN, DAY_HOURS)
    return made(per_day, DAYS_SHOWN)


def _show_scores(scores: list[Score]) -> None:
    table = grid(
        ("on the past", "l"), ("windows", "r"), ("outcomes", "r"), ("over flat", "r"),
        ("over 10x a year", "r"),
    )  # fmt: skip
    for one in scores:
        table.add_row(
            NAMES[one.series], f"{one.windows}", f"{one.outcomes:,}",
            f"{one.over_flat:+.2f} ± {one.over_flat_error:.2f}",
            f"{one.over_tenfold:+.2f} ± {one.over_tenfold_error:.2f}",
        )  # fmt: skip
    show(
        "",
        table,
        "",
        wrapped(
            "Difference of the mean log score on windows that begin after all that was fitted, with its "
            "standard error: above zero, ours said the outcome with more probability."
        ),
    )


def _show_demand(coming: Demand) -> None:
    by_day = coming.season != WEEK
    noun = "day" if by_day else "week"
    table = grid(("requests", "l"), ("low", "r"), ("middle", "r"), ("high", "r"))
    for i, sums in enumerate(zip(coming.week_low, coming.week_mid, coming.week_high, strict=True)):
        table.add_row(f"{noun} {i + 1}", *(f"{value:,.0f}" for value in sums))
    text = f"Demand grows {coming.growth_per_week:+.1%} a {noun}, from {coming.weeks} whole {noun}s."
    if by_day:
        text += " The log is under two whole weeks: its weekdays are not known, and neither are weekends."
    show("", wrapped(text), table)
