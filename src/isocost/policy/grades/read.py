"""Files of graded results as grades: which format, which score, and what each value is from 0 to 1."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isocost.errors import BadInput
from isocost.policy.grades import tools, traced
from isocost.policy.grades.call import ALONE, Call, Found, Link, Mark, items, mapping, meant
from isocost.policy.grades.table import table
from isocost.policy.grades.wide import Columns
from isocost.policy.outcomes import scale_of
from isocost.trace.head import as_json, rows_of_parquet
from isocost.units import plural

WORDS: Mapping[str, float] = {
    **dict.fromkeys(("true", "pass", "passed", "yes", "correct", "right", "ok", "y", "t",
                     "\N{THUMBS UP SIGN}", "thumbs_up", "thumbs up", "thumbsup"), 1.0),
    **dict.fromkeys(("false", "fail", "failed", "no", "incorrect", "wrong", "n", "f",
                     "\N{THUMBS DOWN SIGN}", "thumbs_down", "thumbs down", "thumbsdown"), 0.0),
    **dict.fromkeys(("partial", "partially correct", "partially_correct", "partly correct"), 0.5),
}  # fmt: skip
"""Words that say by themselves what a grade is; others have to be given a number."""
_FRACTION = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_READS = "promptfoo, Langfuse, Braintrust, LangSmith, DeepEval, Inspect, OpenAI's evals, or a CSV"
_SHOWN = 8


class Grade(NamedTuple):
    """One graded answer; ``also`` are further names of its question."""

    qid: str
    model: str
    quality: float
    pred: str = ""
    out_tok: int | None = None
    in_tok: int | None = None
    cost: float | None = None
    latency_s: float | None = None
    query: str = ""
    task: str = ""
    version: str = ""
    also: tuple[str, ...] = ()
    workload: str = ""
    split: str = ""


@dataclass(frozen=True)
class Choice:
    """Which score counts and what its values mean: ``scale`` is (worst, best); ``values`` gives words a
    grade; ``columns`` names those of a table; ``models`` are those whose grades are read (default: all),
    where a table has a column for each model by its head; without, heads that are ``known`` as models."""

    score: str = ""
    scale: tuple[float, float] | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    known: Callable[[str], bool] = lambda _: False


@dataclass(frozen=True)
class Grades:
    """What files held: the tool that wrote them, the score that was taken, the grades, what was done."""

    kind: str
    score: str
    grades: tuple[Grade, ...]
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Models that were graded, as they first come."""
        return tuple(dict.fromkeys(one.model for one in self.grades))


def read_grades(files: Iterable[tuple[str, Path]], choice: Choice = Choice()) -> Grades:
    """Grades of files, each with the model that it is of where it does not say so itself (else ``""``).

    Scores in one file may be of calls in another (Langfuse's scores and its observations).

    Raises:
        BadInput: a file of no known format, several scores and none chosen, values that are no grade, no
            answer of a model that is asked for.
    """
    found: list[Found] = []
    kinds: dict[str, None] = {}
    where = ""
    for model, path in files:
        kind, rows = _read(path, Columns(choice.columns, choice.models, choice.known, choice.score))
        found += _of_model(rows, model, str(path))
        kinds[kind] = None
        where = where or str(path)
    notes: list[str] = []
    calls = _joined(found, notes)
    if not calls and any(isinstance(one, Call) and not one.failed for one in found):
        raise BadInput(
            "answers without a score", where=where, fix="Name the scores' file too: --grades SCORES.json"
        )
    if not calls:
        raise BadInput("no graded answer", where=where, fix=f"Give results of {_READS}")
    calls = _asked(calls, choice.models, notes)
    score = _chosen(calls, choice, where, loose="table" in kinds)
    grades = _graded(calls, score, choice, where, notes)
    return Grades(" and ".join(kinds), score, _once(grades, notes), tuple(notes))


def _read(path: Path, columns: Columns) -> tuple[str, list[Found]]:
    if path.is_dir():
        raise BadInput("a folder, not a file", where=str(path), fix="Name one file in it")
    if not path.exists():
        raise BadInput("no such file", where=str(path), fix="Check the path")
    if path.is_file() and not path.stat().st_size:  # a pipe has no size
        raise BadInput("the file is empty", where=str(path), fix="Give one with at least one result")
    where, kind = str(path), path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return "table", list(_parquet(path, columns))
    if kind == "eval":
        return "inspect", list(tools.inspect(_eval(path), where))
    if kind in ("yaml", "yml", "html", "xml", "xlsx", "pdf"):
        raise BadInput(
            f"{kind.upper()} is not read", where=where, fix="Write the results as JSON, JSONL or CSV"
        )
    try:
        raw = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError) as wrong:
        raise BadInput(f"cannot be read as text ({wrong})", where=where, fix="Save it as UTF-8") from None
    if not text.strip():
        raise BadInput("the file is empty", where=where, fix="Give one with at least one result")
    if kind in ("csv", "tsv") or text.lstrip()[:1] not in ("{", "["):
        return _csv(text, where, columns)
    return _json(text, where, columns)


def _json(text: str, where: str, columns: Columns) -> tuple[str, list[Found]]:
    try:
        doc = json.loads(text)
    except json.JSONDecodeError as wrong:
        try:
            doc = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise BadInput(f"not JSON: {wrong.msg}", where=f"{where}:{wrong.lineno}") from None
    if tools.is_inspect(doc):
        return "inspect", list(tools.inspect(doc, where))
    if (rows := tools.promptfoo_rows(doc)) is not None:
        return "promptfoo", list(tools.promptfoo(rows, where))
    if (rows := tools.deepeval_rows(doc)) is not None:
        return "deepeval", list(tools.deepeval(rows, tools.deepeval_model(doc)))
    rows = _list(doc)
    if tools.is_oss_evals(rows) or tools.is_openai(rows):
        return "openai", list(tools.oss_evals(rows) if tools.is_oss_evals(rows) else tools.openai(rows))
    return _listed(rows, where, columns)


def _list(doc: Any) -> list[dict[str, Any]]:
    """The rows of a document: a list, pages of lists, or the list under the key that holds one."""
    if isinstance(doc, list):
        pages = [page["data"] for page in items(doc) if isinstance(page.get("data"), list)]
        return items([row for page in pages for row in page]) if pages else items(doc)
    for key in ("data", "events", "results", "rows", "examples_with_runs", "examples", "records"):
        if items(mapping(doc).get(key)):
            return items(doc[key])
    return [doc] if isinstance(doc, dict) and doc else []


def _listed(rows: list[dict[str, Any]], where: str, columns: Columns) -> tuple[str, list[Found]]:
    """Rows of a tool whose exports are lists, as JSON or as the cells of a CSV; else a plain table."""
    if columns.given:
        return "table", list(_flat(rows, columns, where))
    if traced.is_links(rows):
        return "langfuse", list(traced.links(rows))
    if traced.is_scores(rows):
        return "langfuse", list(traced.scores(rows))
    if traced.is_langfuse(rows):
        return "langfuse", list(traced.langfuse(rows))
    if traced.is_braintrust(rows):
        return "braintrust", list(traced.braintrust(rows))
    if traced.is_langsmith(rows):
        return "langsmith", list(traced.langsmith(rows))
    if not rows:
        raise BadInput(f"no results of {_READS}", where=where, fix="Export them as JSON, JSONL or CSV")
    return "table", list(_flat(rows, columns, where))


def _flat(rows: Sequence[Mapping[str, Any]], columns: Columns, where: str) -> Iterable[Call]:
    flat = [
        {
            path: value
            for key, held in row.items()
            for path, value in (
                {f"{key}.{k}": v for k, v in held.items()} if isinstance(held, dict) else {key: held}
            ).items()
        }
        for row in rows
    ]
    heads = list(dict.fromkeys(key for row in flat for key in row))
    return table(heads, flat, columns, where)


def _csv(text: str, where: str, columns: Columns) -> tuple[str, list[Found]]:
    line = text.partition("\n")[0]
    separator = max(",;\t|", key=line.count) if any(one in line for one in ",;\t|") else ","
    csv.field_size_limit(1 << 30)
    try:
        heads, *rows = [
            row for row in csv.reader(StringIO(text, newline=""), delimiter=separator) if any(row)
        ]
    except (csv.Error, ValueError):
        raise BadInput(f"no results of {_READS}", where=where, fix="Check the file") from None
    heads = [head.strip() for head in heads]
    if not rows:
        raise BadInput("a header and no rows", where=where, fix="Give one with at least one result")
    rows = [row + [""] * (len(heads) - len(row)) for row in rows]
    if not columns.given and (calls := tools.promptfoo_csv(heads, rows)) is not None:
        return "promptfoo", list(calls)
    held: list[dict[str, Any]] = [dict(zip(heads, row, strict=False)) for row in rows]
    if not columns.given and (traced.is_scores(held) or traced.is_langfuse(held) or traced.is_links(held)
                        or traced.is_braintrust(held)):  # fmt: skip
        return _listed([{name: _cell(value) for name, value in row.items()} for row in held], where, columns)
    kind = "template" if {"qid", "model", "quality"} <= set(heads) else "table"
    return kind, list(table(heads, held, columns, where))


def _cell(value: str) -> Any:
    """A cell of a tool's CSV: objects, lists and texts stand there as JSON."""
    if value[:1] not in ("{", "[", '"'):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _parquet(path: Path, columns: Columns) -> Iterable[Call]:
    import duckdb

    try:
        with duckdb.connect() as con:
            kinds = con.execute("DESCRIBE SELECT * FROM read_parquet($1)", [str(path)]).fetchall()
            columns_of = {row[0]: row[1] for row in kinds}
            found = rows_of_parquet(con, path, columns_of)
            rows = [dict(zip(columns_of, map(as_json, row), strict=True)) for row in found]
    except duckdb.Error as wrong:
        raise BadInput(f"cannot be read: {str(wrong).splitlines()[0]}", where=str(path)) from None
    return _flat(rows, columns, str(path))


def _eval(path: Path) -> dict[str, Any]:
    """Inspect's packed log as its JSON one."""
    fix = "Write it as JSON: inspect log convert --to json --output-dir DIR FILE"
    try:
        with zipfile.ZipFile(path) as pack:
            names = [name for name in pack.namelist() if name.startswith("samples/")]
            head = mapping(json.loads(pack.read("header.json"))) if "header.json" in pack.namelist() else {}
            head = head or mapping(json.loads(pack.read("_journal/start.json")))
            return {**head, "samples": [json.loads(pack.read(name)) for name in sorted(names)]}
    except (zipfile.BadZipFile, NotImplementedError, KeyError, json.JSONDecodeError) as wrong:
        raise BadInput(f"cannot be unpacked ({wrong})", where=str(path), fix=fix) from None


def _of_model(rows: Sequence[Found], model: str, where: str) -> list[Found]:
    """Rows of the model that the user says; a file that names several contradicts that."""
    if not model:
        return list(rows)
    named = {row.model for row in rows if not isinstance(row, Link) and row.model}
    if len(named) > 1:
        raise BadInput(
            f"it names {plural(len(named), 'model')} itself: {_several(sorted(named))}", where=where,
            fix="Leave out MODEL=",
        )  # fmt: skip
    return [row if isinstance(row, Link) else replace(row, model=model) for row in rows]


def _joined(found: Sequence[Found], notes: list[str]) -> list[Call]:
    """Calls with the scores that name them, under the items of data sets that they answer."""
    by: dict[str, list[int]] = {}
    calls = [one for one in found if isinstance(one, Call)]
    for i, call in enumerate(calls):
        for name in call.also:
            by.setdefault(name, []).append(i)
    for link in (one for one in found if isinstance(one, Link)):
        for i in next((by[one] for one in link.of if one in by), ()):
            calls[i] = replace(calls[i], qid=link.qid)
    items_of = {of: link.qid for link in found if isinstance(link, Link) for of in link.of}
    several = 0
    alone: dict[tuple[str, str], dict[str, list[Any]]] = {}
    names: dict[tuple[str, str], tuple[str, ...]] = {}
    for mark in (one for one in found if isinstance(one, Mark)):
        hits = next((by[one] for one in mark.of if one in by), [])
        models = {calls[i].model for i in hits if calls[i].model}
        if hits and not mark.qid and len(models) > 1:
            several += 1
        elif hits and not mark.qid:
            # Of several calls of one trace the first holds its question; the score is of them all.
            i = hits[0]
            kept = calls[i].scores.get(mark.name)
            value = (
                mark.value if kept is None else [*(kept if isinstance(kept, list) else [kept]), mark.value]
            )
            calls[i] = replace(calls[i], scores={**calls[i].scores, mark.name: value})
        else:
            qid = mark.qid or next((items_of[one] for one in mark.of if one in items_of), "")
            key = (qid or (mark.of[0] if mark.of else ""), mark.model)
            alone.setdefault(key, {}).setdefault(mark.name, []).append(mark.value)
            names[key] = mark.of
    calls += [Call(qid, model, held, names[qid, model]) for (qid, model), held in alone.items() if qid]
    if several:
        notes.append(f"{plural(several, 'score')} of traces with several models left out: whose is not known")
    failed = sum(call.failed for call in calls)
    if failed:
        notes.append(f"{plural(failed, 'call')} failed: no answer, so no grade")
    return [call for call in calls if not call.failed and call.scores]


def _asked(calls: list[Call], models: Sequence[str], notes: list[str]) -> list[Call]:
    """Answers of the models that are asked for, by their whole names or without the host's.

    Raises:
        BadInput: no answer of one of them.
    """
    if not models:
        taken = dict.fromkeys(call.column for call in calls if call.column)
        if taken:
            notes.append(
                f"{plural(len(taken), 'column')} taken as grades of a model: {_several(list(taken))}; "
                "where they are scores, say which counts with --score"
            )
        return calls
    named = list(dict.fromkeys(call.model for call in calls))
    wanted = {name: meant(name, named) for name in models}
    if lacking := [name for name, model in wanted.items() if not model]:
        held = [name for name in named if name]
        scores = _several(list(dict.fromkeys(name for call in calls for name in call.scores)))
        raise BadInput(
            f"no grades of {', '.join(lacking)}",
            where="--models",
            fix=f"There are grades of {_several(held)}" if held
            else f"No model is named: type --grades MODEL=FILE, or --models with columns of {scores}",
        )  # fmt: skip
    kept = [call for call in calls if call.model in wanted.values()]
    if len(kept) < len(calls):
        others = [name or "no model that is named" for name in named if name not in wanted.values()]
        notes.append(f"{plural(len(calls) - len(kept), 'grade')} left out: of {_several(others)}")
    return kept


def _chosen(calls: Sequence[Call], choice: Choice, where: str, *, loose: bool) -> str:
    """The score that counts.

    Raises:
        BadInput: none of that name, or several and none asked for.
    """
    counts = Counter(name for call in calls for name, value in call.scores.items() if value not in (None, ""))
    if not counts:
        raise BadInput("nothing is graded", where=where, fix="Give results with scores")
    told = _several([f"{name} ({plural(n, 'answer')})" for name, n in counts.most_common()])
    if choice.score:
        hits = [name for name in counts if name.lower() == choice.score.lower()]
        if not hits:
            raise BadInput(f"no score {choice.score!r}", where="--score", fix=f"There are: {told}")
        return hits[0]
    overall = {call.overall for call in calls if call.overall in counts}
    if len(overall) == 1:
        return overall.pop()
    names = [name for name in counts if name.lower() not in ALONE] or list(counts)
    if len(names) > 1:
        fix = f"Choose one: --score {_typed(names[0])}"
        if loose and not any(call.model for call in calls):
            fix += f". Where these are models: --models {','.join(_typed(name) for name in names)}"
        raise BadInput(f"several scores: {told}", where=where, fix=fix)
    return names[0]


def _graded(calls: Sequence[Call], score: str, choice: Choice, where: str, notes: list[str]) -> list[Grade]:
    """Grades of the chosen score, from 0 to 1.

    Raises:
        BadInput: words without a number, numbers beyond 0 to 1 without a scale, nothing graded.
    """
    known = {**WORDS, **{word.lower(): value for word, value in choice.values.items()}}
    values: list[list[float]] = []
    strange: Counter[str] = Counter()
    for call in calls:
        held = call.scores.get(score)
        mine = []
        for one in held if isinstance(held, list) else [held]:
            number = value_of(one, known)
            if number is None:
                strange[str(one)] += 1
            elif not math.isnan(number):
                mine.append(number)
        values.append(mine)
    if strange:
        listed = ",".join(f"{_typed(word)}=" for word, _ in strange.most_common(_SHOWN))
        shown = _several([f"{word!r} ({plural(n, 'answer')})" for word, n in strange.most_common()])
        raise BadInput(
            f"the score {score!r} holds what is no grade: {shown}", where=where,
            fix=f"Give each a number from 0 to 1: --values {listed}",
        )  # fmt: skip
    if choice.scale is None and any(score in call.lower for call in calls):
        raise BadInput(
            f"of {score!r} less is better, by its own threshold", where=where,
            fix="Type --scale 1:0, or --score success",
        )  # fmt: skip
    flat = [one for mine in values for one in mine]
    if not flat:
        raise BadInput(f"no answer has the score {score!r}", where=where, fix="Choose another: --score NAME")
    low, high = choice.scale or (0.0, 1.0)
    beyond = [one for one in flat if not min(low, high) <= one <= max(low, high)]
    if beyond and choice.scale is not None:
        raise BadInput(
            f"{score!r} is {beyond[0]:g} in {plural(len(beyond), 'answer')}, beyond {low:g} to {high:g}",
            where="--scale", fix=f"It goes from {min(flat):g} to {max(flat):g}",
        )  # fmt: skip
    if beyond and score == "quality":
        scale_of(np.array(flat), where)
    elif beyond:
        worst = min(0.0, min(flat)) if max(flat) > 5 or min(flat) < 1 else 1.0
        best = next((top for top in (5.0, 10.0, 100.0) if max(flat) <= top), max(flat))
        raise BadInput(
            f"{score!r} goes from {min(flat):g} to {max(flat):g}, and grades from 0 to 1", where=where,
            fix=f"Say which value is worst and which is best: --scale {worst:g}:{best:g}",
        )  # fmt: skip
    none = sum(not mine for mine in values)
    if none:
        notes.append(f"{plural(none, 'answer')} without {_score(score)}: not graded")
    if choice.scale is not None:
        notes.append(f"{_score(score)} from {low:g} (worst) to {high:g} (best) is taken as 0 to 1")
    twice = sum(len(mine) > 1 for mine in values)
    if twice:
        notes.append(f"{plural(twice, 'answer')} scored several times: the mean is taken")
    return [
        Grade(
            call.qid, call.model, (sum(mine) / len(mine) - low) / (high - low), call.pred, call.out_tok,
            call.in_tok, call.cost, call.latency_s, call.query, call.task, call.version, call.also,
            call.workload, call.split,
        )
        for call, mine in zip(calls, values, strict=True)
        if mine
    ]  # fmt: skip


def value_of(value: Any, known: Mapping[str, float]) -> float | None:
    """A value as a number: NaN where nothing is stated, ``None`` where it is no grade.

    >>> value_of("85%", WORDS), value_of("4/5", WORDS), value_of(True, WORDS), value_of("polite", WORDS)
    (0.85, 0.8, 1.0, None)
    """
    text = "" if value is None else str(value).strip().lower()
    if text in ("", "nan", "none", "null", "n/a"):
        return math.nan
    if text in known:
        return known[text]
    if (parts := _FRACTION.fullmatch(text)) and float(parts[2]):
        return float(parts[1]) / float(parts[2])
    try:
        number = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _once(grades: Sequence[Grade], notes: list[str]) -> tuple[Grade, ...]:
    """One grade of each question and model: the mean of several answers, which then have no one text."""
    groups: dict[tuple[str, str], list[Grade]] = {}
    for grade in grades:
        groups.setdefault((grade.qid, grade.model), []).append(grade)
    out = []
    repeated = 0
    for group in groups.values():
        one = group[0]
        if len(group) > 1:
            repeated += 1
            one = one._replace(
                quality=sum(grade.quality for grade in group) / len(group),
                pred=one.pred if len({grade.pred for grade in group}) == 1 else "",
                cost=_mean([grade.cost for grade in group]),
                latency_s=_mean([grade.latency_s for grade in group]),
                out_tok=_rounded(_mean([grade.out_tok for grade in group])),
            )
        out.append(one)
    if repeated:
        notes.append(f"{plural(repeated, 'question')} answered several times by a model: the mean is taken")
    return tuple(out)


def _mean(values: Sequence[float | None]) -> float | None:
    held = [one for one in values if one is not None]
    return sum(held) / len(held) if held else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _score(name: str) -> str:
    return "a score" if name == "score" else f"the score {name!r}" if name != "quality" else "a grade"


def _several(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _typed(name: str) -> str:
    """A name as it is typed in a shell."""
    return name if re.fullmatch(r"[\w.+-]+", name) else "'" + name.replace("'", "'\\''") + "'"
