"""``isocost trace``: what a log holds, before anything is planned on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.output import columns, grid, show, show_json, working, wrapped
from isocost.cli.root import Json, app
from isocost.errors import BadInput
from isocost.units import count, percent, plural, span

if TYPE_CHECKING:
    from isocost.trace import Trace
    from isocost.trace.profile import Group, Profile, Quantiles

Map = Annotated[
    str | None,
    Parameter(name="--map", help="Columns by name: input_tok=prompt,output_tok=answer,arrival=ts:ms."),
]
Format = Annotated[str | None, Parameter(name="--format", help="A reader by name, where the guess is wrong.")]
WorkloadBy = Annotated[
    str | None, Parameter(help="The column whose values are the workloads: key_alias, tag, model.")
]

TaskBy = Annotated[
    str | None, Parameter(help="The column whose values are the tasks, where a policy decides by task.")
]

LEVELS = " .:-=+*#%@"
"""Shades of the week's shape, from no requests to the busiest hour."""
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST_GROUPS = 12
WIDE = 92
"""Columns from which the 99th percentile is shown."""


def opened(
    log: Path,
    mapping: str | None,
    workload_by: str | None,
    reader: str | None,
    *,
    task_by: str | None = None,
    lenient: bool = False,
    who: bool = False,
    prompts: bool = False,
) -> Trace:
    """A log as a trace; ``lenient`` leaves out rows that cannot be read, ``who`` reads whose calls they are,
    ``prompts`` the words of prompts.

    Raises:
        BadInput: ``mapping`` is not name=column pairs.
        BadTrace: the log cannot be read.
    """
    from isocost.trace import open_trace

    pairs: dict[str, str] = {}
    for part in mapping.split(",") if mapping else ():
        name, sign, column = part.partition("=")
        if not (sign and name.strip() and column.strip()):
            raise BadInput(
                f"{part!r} is not name=column", where="--map", fix="Write arrival=ts,input_tok=prompt"
            )
        pairs[name.strip()] = column.strip()
    with working(f"reading {log.name}"):
        return open_trace(
            log,
            mapping=pairs or None,
            workload_by=workload_by,
            task_by=task_by,
            fmt=reader,
            lenient=lenient,
            who=who,
            prompts=prompts,
        )


@app.command(sort_key=2)
def trace(
    log: Annotated[
        Path | None, Parameter(help="CSV, JSONL or Parquet; its format is found by its columns.")
    ] = None,
    /,
    *,
    map_: Map = None,
    format_: Format = None,
    workload_by: WorkloadBy = None,
    example: Annotated[bool, Parameter(help="The bundled example instead of a log.")] = False,
    json: Json = False,
) -> None:
    """Say what a log holds: what was found, guessed and doubted, its shape, and what it can answer."""
    from isocost.trace import example as bundled
    from isocost.trace.profile import profile

    if log is None and not example:
        raise BadInput("no log", fix="Type 'isocost trace LOG', or 'isocost trace --example'")
    found = bundled() if log is None else opened(log, map_, workload_by, format_)
    with working("counting"):
        seen = profile(found)
    if json:
        return show_json(seen)
    _show(seen)
    show("", f"Next: isocost plan {log}" if log else "Next: isocost plan")
    return None


def _show(seen: Profile) -> None:
    show(
        Text(
            f"{seen.title}: {plural(seen.requests, 'request')} in {span(seen.days)}, read as {seen.reader}",
            "bold",
        )
    )
    if seen.begins:
        show(f"  {seen.begins} to {seen.ends}")
    said = [f"{number:,} {name}" for name, number in seen.outcomes.items()]
    show(f"  outcomes: {', '.join(said)}", "")
    _show_groups(seen)
    show("")
    _show_shape(seen)
    reuse = seen.reuse
    parts = [
        f"{percent(value)} of {what}"
        for value, what in (
            (
                reuse.prefix_frac,
                "input tokens are prefix blocks seen before, which no cache exceeds (Belady's bound)",
            ),
            (reuse.repeat_frac, "prompts are repeats"),
            (reuse.cached_frac, "input tokens were billed as cached"),
        )
        if value is not None
    ]
    _bullet("reuse", "; ".join(parts) or "the log does not say")
    for name, times in (("TTFT", seen.ttft_s), ("e2e", seen.e2e_s)):
        if times is not None:
            _bullet(name, f"p50 {times.p50:.2f} s, p95 {times.p95:.2f} s, p99 {times.p99:.2f} s, as logged")
    show("")
    for level in ("found", "guessed", "doubt"):
        for i, finding in enumerate(one for one in seen.findings if one.level == level):
            _bullet(level if i == 0 else "", finding.text)
    show("")
    yes = [one for one in seen.questions if one.answered]
    no = [one for one in seen.questions if not one.answered]
    for i, one in enumerate(yes):
        _bullet("answers" if i == 0 else "", f"{one.question} ({one.because})")
    for i, one in enumerate(no):
        _bullet("cannot" if i == 0 else "", f"{one.question} ({one.because})")


def _show_groups(seen: Profile) -> None:
    wide = columns() >= WIDE
    quantiles = ("p95", "p99") if wide else ("p95",)
    heads = ["requests", "input p50", *quantiles, "output p50", *quantiles, "Mtok in", "out"]
    table = grid(("", "l"), *((head, "r") for head in heads))
    table.add_row(*_cells("all", seen.requests, seen.input, seen.output, (seen.input_tok, seen.output_tok)))
    for heading, groups in (("by workload", seen.workloads), ("by model", seen.models)):
        if len(groups) > 1:
            table.add_row(Text(heading, "dim"))
            for group in groups[:MOST_GROUPS]:
                table.add_row(*_group(group))
            if len(groups) > MOST_GROUPS:
                table.add_row(Text(f"  and {len(groups) - MOST_GROUPS} more", "dim"))
    show(table)


def _group(group: Group) -> tuple[str, ...]:
    tokens = (group.input_tok, group.output_tok)
    return _cells(f"  {group.name}", group.requests, group.input, group.output, tokens)


def _cells(
    name: str, requests: int, in_: Quantiles, out: Quantiles, tokens: tuple[int, int]
) -> tuple[str, ...]:
    numbers = [n for one in (in_, out) for n in (one.p50, one.p95, one.p99)[: 3 if columns() >= WIDE else 2]]
    name = name if len(name) <= 26 else f"{name[:25]}~"
    return (name, f"{requests:,}", *(f"{n:,.0f}" for n in numbers), *(f"{n / 1e6:,.1f}" for n in tokens))


def _show_shape(seen: Profile) -> None:
    rate, burst = seen.rate, seen.burst
    _bullet(
        "rate",
        f"{count(rate.mean_per_h)} requests an hour, {count(rate.peak_per_h)} in the busiest "
        f"({rate.peak_over_mean:.1f} times the mean)",
    )
    if burst.dispersion_s is not None:
        _bullet("bursts", f"variance over mean of requests a second {burst.dispersion_s:.1f} (Poisson: 1)")
    _bullet("shape", seen.cycle.because)
    week = rate.by_hour_of_week
    if sum(value is not None for value in week) < 24:
        return
    top = max(value or 0.0 for value in week) or 1.0
    for day, name in enumerate(DAYS):
        hours = week[day * 24 : day * 24 + 24]
        drawn = "".join(" " if v is None else LEVELS[min(9, int(v / top * 9.999))] for v in hours)
        show(f"            {name} |{drawn}| " + ("00h to 24h UTC, @: the busiest hour" if day == 0 else ""))


def _bullet(label: str, text: str) -> None:
    """A labelled line; what does not fit goes on under its text."""
    show(wrapped(text, f"{label:<10}"))
