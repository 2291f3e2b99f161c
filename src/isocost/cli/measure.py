"""``isocost measure``: what of a log to grade, grades of evaluation tools, what more grades would buy."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.looks import read_looks
from isocost.cli.output import grid, show, show_json, staged, working, wrapped
from isocost.cli.policy import OUTCOMES
from isocost.cli.policy_cache import PAIRS, measure_cache
from isocost.cli.root import Facts, Json, app
from isocost.cli.trace import Format, Map, WorkloadBy, opened
from isocost.errors import BadInput, UnknownModel
from isocost.units import Volume, money, percent, plural, volume_per_month

if TYPE_CHECKING:
    from isocost.catalog.catalog import CatalogAt
    from isocost.policy.grades import Choice, Grade
    from isocost.policy.measure import Merged
    from isocost.policy.outlook import Outlook, Worth
    from isocost.trace import Trace

_LIKELY = 0.7
"""Chance from which a fit is advised before more grades."""


@dataclass(frozen=True)
class Grading:
    """What is sampled, and what comes back."""

    models: Annotated[
        str,
        Parameter(
            help="Models to be graded beside today's: B,C. With --grades: whose grades are read (default: "
            "all); a table may have a column for each."
        ),
    ] = ""
    questions: Annotated[int, Parameter(help="How many questions to sample.", show_default=True)] = 400
    grades: Annotated[
        tuple[str, ...],
        Parameter(
            name="--grades",
            help="Graded results: the filled-in CSV, or what promptfoo, Langfuse, Braintrust, LangSmith, "
            "DeepEval, Inspect or OpenAI's evals wrote; MODEL=FILE where a file does not say whose.",
        ),
    ] = ()
    score: Annotated[str, Parameter(help="Which score counts, where results have several.")] = ""
    scale: Annotated[str, Parameter(help="WORST:BEST of a score beyond 0 to 1: 1:5.")] = ""
    values: Annotated[str, Parameter(help="Grades of words: good=1,fair=0.5,bad=0.")] = ""
    outcomes: Annotated[
        Path, Parameter(help="The template that is written, or filled in.", show_default=True)
    ] = Path(OUTCOMES)
    volume: Annotated[str, Parameter(help="Requests a month, for dollars: 200k/mo.", show_default=True)] = (
        "100k/mo"
    )
    strong: Annotated[
        str,
        Parameter(help="The model that quality is held against (default: of the last fit, or the best)."),
    ] = ""
    cache: Annotated[
        bool, Parameter(negative="", help="Pairs of questions to grade, for a semantic cache.")
    ] = False
    workload: Annotated[str, Parameter(help="With --cache: whose questions.", show_default=True)] = "*"


@dataclass(frozen=True)
class Reading:
    """How the log is read."""

    workload_by: WorkloadBy = None
    map_: Map = None
    format_: Format = None


@app.command(sort_key=6)
def measure(
    log: Annotated[Path | None, Parameter(help="A log to sample (as for 'isocost trace').")] = None,
    /,
    *,
    grading: Annotated[Grading, Parameter(name="*")] = Grading(),
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Sample a log to grade; import grades; say what the next ones would buy. No model is called.

    Grades go into the template at --outcomes; where there is none yet, they become one.
    """
    named = tuple(part.strip() for part in grading.models.split(",") if part.strip())
    outcomes, asked = grading.outcomes, _volume(grading.volume)
    if log is not None and grading.cache:
        trace = opened(log, reading.map_, reading.workload_by, reading.format_, prompts=True)
        to = Path(PAIRS) if outcomes == Path(OUTCOMES) else outcomes
        return measure_cache(trace, grading.workload, grading.questions, to, json=json)
    if log is not None:
        if grading.grades:
            raise BadInput(
                "a log to sample and grades at once",
                where="--grades",
                fix=f"First isocost measure {log}, then isocost measure --grades FILE",
            )
        trace = opened(log, reading.map_, reading.workload_by, reading.format_)
        return _sample(trace, named, grading.questions, outcomes, json)
    catalog = load(facts)
    at = catalog.at(newest(catalog))
    told: dict[str, Any] = {}
    if grading.grades:
        told = _import(grading, reading.map_, at, json)
    if not outcomes.exists():
        raise BadInput("nothing to measure", fix="Name a log to sample: isocost measure LOG")
    try:
        _buys(grading, asked, at, told, json)
    except BadInput as wrong:
        if not grading.grades:
            raise
        if json:
            return show_json({"imported": told, "worth": [], "not_yet": wrong.line()})
        show(wrapped(f"What more grades would buy cannot be said yet: {wrong.what}. {wrong.fix}"))
    return None


def _sample(trace: Trace, models: tuple[str, ...], questions: int, to: Path, json: bool) -> None:
    from isocost.policy.measure import sample, template
    from isocost.policy.prepared import least_to_grade

    _refuse_graded(to)
    with working("sampling"):
        picked = sample(trace, questions)
        text = template(trace, picked, models)
    with staged(to.parent) as folder:
        (folder / to.name).write_text(text, encoding="utf-8")
    counts = {name: picked.workload.count(name) for name in dict.fromkeys(picked.workload)}
    if json:
        return show_json({"questions": len(picked.rows), "by_workload": counts, "wrote": str(to)})
    show(Text(f"{plural(len(picked.rows), 'question')} to grade, written to {to}", "bold"), "")
    table = grid(("  workload", "w"), ("questions", "r"), ("each stands for", "r"))
    for name, count in counts.items():
        stands = [each for each, one in zip(picked.stands_for, picked.workload, strict=True) if one == name]
        table.add_row(f"  {name or '-'}", f"{count:,}", f"{sum(stands) / len(stands):,.0f} requests")
    show(table, "")
    today = {name for name in _column(text, "model") if name not in models}
    if len(today) > 1:
        show(
            wrapped(
                f"Today {len(today)} models beside these answer, each some of the questions, and a fit "
                "compares models that answered the same ones: name all of them in --models, the strong one "
                "too."
            ),
            "",
        )
    least = least_to_grade()
    if min(counts.values()) < least:
        show(
            wrapped(
                f"Unless the cheaper answers are better, to certify a loss of at most 1 pp takes {least:,} "
                f"questions of a workload or more: --questions {least * len(counts):,} for "
                f"{_many(len(counts))}."
            ),
            "",
        )
    show(
        wrapped(
            "Short, middling and long requests alike; the column line says which row of the log a question "
            "is. Run each model on it and fill in pred, out_tok and quality (0 to 1), or let an evaluation "
            "tool do it, with the qid in each test's metadata. Where all answers are the same no grade is "
            "needed."
        ),
        "",
        f"  Next: isocost measure --outcomes {to} --grades RESULTS",
        f"        isocost policy fit {to}",
    )
    return None


def _many(workloads: int) -> str:
    return "all requests" if workloads == 1 else f"the {workloads} of them"


def _column(text: str, name: str) -> set[str]:
    return {row[name] for row in csv.DictReader(text.splitlines())}


def _refuse_graded(to: Path) -> None:
    """Never write over answers or grades, which took people hours.

    Raises:
        BadInput: the file is there, and is no template that is still empty.
    """
    if not to.exists():
        return
    rows = csv.DictReader(_text(to).splitlines())
    is_template = {"qid", "quality", "pred"} <= set(rows.fieldnames or ())
    if not is_template or any(row["quality"] or row["pred"] for row in rows):
        raise BadInput(
            "it holds answers or grades already", where=str(to), fix="Name another file: --outcomes new.csv"
        )


def _import(grading: Grading, columns: str | None, at: CatalogAt, json: bool) -> dict[str, Any]:
    """Read grades and write them into the template, or as outcomes of their own; what was done.

    Raises:
        BadInput: grades that cannot be read or that fit no row, or a strong model that nobody answered with.
    """
    from isocost.policy.grades import read_grades
    from isocost.policy.measure import Merged, merged, outcomes_of

    files = [_file(one) for one in grading.grades]
    with working("reading grades"):
        found = read_grades(files, _choice(grading, columns, at))
    to = grading.outcomes
    if to.exists():
        filled = merged(_text(to), found.grades)
        if not filled.placed:
            raise BadInput(_unfit(filled, to, found.models), where=grading.grades[0], fix=_mend(filled, to))
    else:
        filled = Merged(outcomes_of(found.grades), len(found.grades), 0)
    if grading.strong and grading.strong not in (models := _column(filled.text, "model")):
        raise BadInput(
            f"no outcomes of {grading.strong!r}", where="--strong", fix=f"Models: {', '.join(sorted(models))}"
        )
    with staged(to.parent) as folder:
        (folder / to.name).write_text(filled.text, encoding="utf-8")
    notes = [*found.notes]
    if filled.stray:
        why = [f"no model {one} in it" for one in filled.unknown_models]
        if filled.unknown_questions:
            more = len(filled.unknown_questions) - 1
            also = f" and {more:,} more" if more else ""
            why.append(f"no question {filled.unknown_questions[0]!r}{also}")
        notes.append(f"{plural(filled.stray, 'grade')} fit no row of {to}: {'; '.join(why)}")
    told: dict[str, Any] = {
        "from": found.kind, "score": found.score, "grades": filled.placed, "stray": filled.stray,
        "wrote": str(to), "models": _by_model(found.grades), "notes": notes,
    }  # fmt: skip
    if json:
        return told
    of = "" if found.score in ("quality", "score") else f" (score {found.score})"
    show(Text(f"{plural(filled.placed, 'grade')} of {found.kind}{of} written into {to}", "bold"), "")
    show(_table(told["models"]), "")
    if notes:
        show(*(wrapped(note) for note in notes), "")
    return told


def _file(text: str) -> tuple[str, Path]:
    """``FILE`` or ``MODEL=FILE``; a file whose name holds the sign is a file."""
    model, sign, path = text.partition("=")
    return ("", Path(text)) if not sign or Path(text).exists() else (model.strip(), Path(path))


def _choice(grading: Grading, columns: str | None, at: CatalogAt) -> Choice:
    """Raises BadInput: a scale, words or columns that are not as described."""
    from isocost.policy.grades import Choice

    scale = None
    if grading.scale:
        ends = re.fullmatch(r"\s*(-?[\d.]+)\s*(?::|\.\.|to)\s*(-?[\d.]+)\s*", grading.scale)
        try:
            scale = (float(ends[1]), float(ends[2])) if ends else None
        except ValueError:
            scale = None
        if scale is None or scale[0] == scale[1]:
            raise BadInput(f"no scale {grading.scale!r}", where="--scale", fix="Type WORST:BEST, as 1:5")
    values = {}
    for part in filter(None, (part.strip() for part in grading.values.split(","))):
        word, _, number = part.rpartition("=")
        try:
            values[word.strip()] = float(number)
        except ValueError:
            values[word.strip()] = -1.0
        if not word.strip() or not 0 <= values[word.strip()] <= 1:
            raise BadInput(f"no grade {part!r}", where="--values", fix="Type WORD=0.5, numbers from 0 to 1")
    mapped = dict(one.partition("=")[::2] for one in (columns or "").split(",") if one)
    models = tuple(part.strip() for part in grading.models.split(",") if part.strip())
    return Choice(grading.score, scale, values, mapped, models, _names(at))


def _names(at: CatalogAt) -> Callable[[str], bool]:
    """Whether a column's head is the name of a model that the catalog knows."""
    from isocost.catalog.names import SOLD_BY_MANY, resolve

    def known(head: str) -> bool:
        try:
            resolve(at, head)
        except UnknownModel as unknown:
            return SOLD_BY_MANY in unknown.what
        return True

    return known


def _unfit(filled: Merged, to: Path, models: tuple[str, ...]) -> str:
    if filled.unknown_models and not filled.unknown_questions:
        return f"no grade is of a model of {to}: they are of {', '.join(one or 'none' for one in models)}"
    theirs = ", ".join(filled.unknown_questions[:3])
    return f"none of {plural(filled.stray, 'grade')} fits a question of {to}: theirs are {theirs}"


def _mend(filled: Merged, to: Path) -> str:
    rows = list(csv.DictReader(_text(to).splitlines()))
    if filled.unknown_models and not filled.unknown_questions:
        names = ", ".join(sorted({row["model"] for row in rows}))
        return f"It has {names}: type --grades MODEL=FILE, or --outcomes new.csv to keep them apart"
    first = rows[0]["qid"] if rows else "QID"
    return f"Name questions by its qid, as {first!r}, or type --outcomes new.csv to keep them apart"


def _by_model(grades: tuple[Grade, ...]) -> list[dict[str, Any]]:
    out = []
    for model in dict.fromkeys(one.model for one in grades):
        mine = [one for one in grades if one.model == model]
        usd = [one.cost for one in mine if one.cost is not None]
        waits = [one.latency_s for one in mine if one.latency_s is not None]
        out.append({
            "model": model, "grades": len(mine), "mean_quality": fmean(one.quality for one in mine),
            "usd_per_1000": fmean(usd) * 1000 if usd else None, "median_s": median(waits) if waits else None,
        })  # fmt: skip
    return out


def _table(models: list[dict[str, Any]]) -> Table:
    table = grid(
        ("  model", "w"), ("grades", "r"), ("mean quality", "r"), ("$ for 1,000", "r"), ("median wait", "r")
    )
    for one in models:
        usd, wait = one["usd_per_1000"], one["median_s"]
        table.add_row(
            f"  {one['model'] or '(of the template)'}", f"{one['grades']:,}", f"{one['mean_quality']:.1%}",
            "-" if usd is None else money(usd), "-" if wait is None else f"{wait:.2f} s",
        )  # fmt: skip
    return table


def _volume(text: str) -> Volume:
    """Raises BadInput: no volume with its period."""
    try:
        return volume_per_month(text)
    except BadInput as wrong:
        raise BadInput(wrong.what, where="--volume", fix=wrong.fix) from None


def _buys(grading: Grading, asked: Volume, at: CatalogAt, told: dict[str, Any], json: bool) -> None:
    from isocost.policy.looks import strong_of
    from isocost.policy.outcomes import read_outcomes
    from isocost.policy.outlook import outlook, worth
    from isocost.policy.prepared import Wanted
    from isocost.policy.study import ROUTING

    outcomes = grading.outcomes
    with working("weighing further grades"):
        looks, graded = read_looks(outcomes, Path(".")), read_outcomes(outcomes)
        before = strong_of(looks, ROUTING, graded.models)
        found = outlook(graded, at, Wanted(grading.strong), looks, before)
    rows: list[Worth] = []
    for one in found:
        usd = None if one.usd_per_1000 is None else one.usd_per_1000 / 1000 / len(found)
        low = None if usd is None or asked.low == asked.high else asked.low * usd
        rows += worth(one, None if usd is None else asked.high * usd, low)
    if json:
        document: dict[str, Any] = {"workloads": found, "worth": rows}
        return show_json({"imported": told, **document} if told else document)
    ends = " to ".join(f"{end:,.0f}" for end in sorted({asked.low, asked.high}))
    held = {one.strong for one in found}
    against = f"only {found[0].strong}" if len(held) == 1 else "the strong model of each workload"
    under = f"against {against}, at {ends} requests a month"
    if len(found) > 1:
        under += ", spread evenly over workloads"
    if any(one.usd_per_1000 is None for one in found):
        under = "no price is known, so prices are supposed and there are no dollars: fill in cost"
    show(Text(_headline(found, rows), "bold"), wrapped(under), "")
    named = len(found) > 1
    now = {one.workload: one.saving for one in found}
    useful = {row.workload for row in rows if not named or row.saving > now[row.workload]}
    heads = [("  workload", "w")] * named
    first = {row.workload: row.labels for row in reversed(rows)}
    table = grid(
        *heads, ("grades" if named else "  more grades", "r"), ("certified", "r"),
        ("saving then (80%)", "r"), ("$/month", "r"),
    )  # fmt: skip
    for row in rows:
        if row.workload in useful:
            many = f"{row.labels:,}" if row.labels else "fit now"
            table.add_row(
                *[f"  {row.workload}" if row.labels == first[row.workload] else ""] * named,
                many if named else f"  {many}", percent(row.chance),
                f"{percent(row.saving)} ({percent(row.low)} to {percent(row.high)})", _dollars(row),
            )  # fmt: skip
    if useful:
        show(table, "")
    none = [one.workload for one in found if one.workload not in useful]
    if none:
        show(wrapped(f"nothing more to be saved, as it looks now: {', '.join(none)}"), "")
    show(wrapped(_FORETOLD))
    waiting = sum(one.waiting for one in found)
    if waiting and any(one.looks for one in found):
        show(wrapped(f"{plural(waiting, 'certifying question')} came since the last fit."))
    next_ = _fit_now(found, rows)
    # The fit that was foretold: the best model of more grades may be another.
    same = f" --strong {found[0].strong}" if len(held) == 1 and (grading.strong or before) else ""
    fit = f"isocost policy fit {outcomes}{same}"
    if next_ is not None and next_.chance >= _LIKELY:
        show("", f"  Next: {fit}")
    else:
        show("", "  Next: more grades (isocost measure --grades MORE), or", f"        {fit}")
    return None


_FORETOLD = (
    "Saving then is the certified saving to be expected, dollars what it is more than today's. Certifying "
    "questions that no fit has tested were not looked at. Fit when it is likely to certify: a fit that does "
    "not makes the next one stricter."
)


def _of(workload: str) -> str:
    return "all requests" if workload == "*" else workload


def _fit_now(found: Sequence[Outlook], rows: Sequence[Worth]) -> Worth | None:
    """A fit without more grades, of the workload that it most likely certifies; ``None`` where all are
    certified, or nothing waits to be tested."""
    open_ = {one.workload for one in found if not one.certified}
    return max(
        (row for row in rows if not row.labels and row.workload in open_),
        key=lambda row: row.chance,
        default=None,
    )


def _headline(found: Sequence[Outlook], rows: Sequence[Worth]) -> str:
    """What to do next: fit, grade so many more, or leave it.

    Dollars where they are known, else the share that is saved.
    """
    now = {one.workload: one.saving for one in found}
    gains = [
        row.saving - now[row.workload] if row.usd_per_month is None else row.usd_per_month for row in rows
    ]
    fit = _fit_now(found, rows)
    if fit is not None and fit.chance >= _LIKELY:
        on = "" if len(found) == 1 else f" on {_of(fit.workload)}"
        return f"A fit now certifies a saving{on} with a chance of {percent(fit.chance)}"
    more = [(gain, row) for gain, row in zip(gains, rows, strict=True) if row.labels]
    gain, best = max(more, key=lambda pair: pair[0] / pair[1].labels)
    if gain <= 0:
        return "More grades would buy nothing here"
    worths = f"{_dollars(best)} a month"
    if best.usd_per_month is None:
        worths = f"{gain * 100:.0f} points more saved, at supposed prices"
    of = "" if best.workload == "*" else f" of {best.workload}"
    return f"{best.labels:,} more grades{of} are worth {worths}"


def _text(file: Path) -> str:
    from isocost.toml import read_text

    return read_text(file)


def _dollars(row: Worth) -> str:
    """What further grades are worth a month, at both ends of a range of volumes."""
    if row.usd_per_month is None:
        return "-"
    high = money(row.usd_per_month)
    return high if row.usd_per_month_low is None else f"{money(row.usd_per_month_low)} to {high}"
