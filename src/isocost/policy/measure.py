"""What to grade next: a stratified sample of a log, a template to fill in, and what more grades would buy.

No model is called. Grades come back as the filled-in template, or from a promptfoo run or Langfuse scores.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from isocost.errors import BadInput
from isocost.policy.bounds import power
from isocost.policy.outcomes import Ints
from isocost.policy.study import Certified
from isocost.trace.schema import Trace

COLUMNS = (
    "qid", "workload", "model", "quality", "pred", "query", "task", "in_tok", "out_tok", "cost", "version",
    "line",
)  # fmt: skip
"""Columns of the template. ``qid`` and ``line`` say which row of the log a question is; the rest is to be
filled in."""
_THIRDS = 3
STEPS = (100, 300, 1000, 3000)
"""Further grades whose worth is shown."""


class Sampled(NamedTuple):
    """Rows of a trace's table that were picked, with workload, stratum of length, and how many each stands
    for."""

    rows: Ints
    workload: tuple[str, ...]
    stratum: tuple[int, ...]
    stands_for: tuple[float, ...]


class Worth(msgspec.Struct, frozen=True):
    """What ``labels`` more grades of a workload buy: the chance that a saving is certified, and its
    expected dollars."""

    workload: str
    labels: int
    chance: float
    usd_per_month: float


def sample(trace: Trace, count: int, seed: int = 0) -> Sampled:
    """``count`` requests, even over workloads in proportion to the root of their size, and over thirds of
    length.

    Raises:
        BadInput: a log without requests, or a count that is none.
    """
    if count < 1:
        raise BadInput(f"{count} questions", fix="Type --questions 400")
    table = trace.table()
    n = len(table)
    if not n:
        raise BadInput("no requests in the log")
    named = table.workload
    codes = np.zeros(n, dtype=np.int64) if named is None else named.astype(np.int64)
    names = _workloads(trace)
    rng = np.random.default_rng(seed)
    sizes = {int(code): int((codes == code).sum()) for code in np.unique(codes)}
    root = sum(math.sqrt(size) for size in sizes.values())
    rows: list[int] = []
    workload, stratum, stands = [], [], []
    for code, size in sizes.items():
        mine = np.flatnonzero(codes == code)
        order = mine[np.argsort(table.input_tok[mine], kind="stable")]
        share = min(size, max(_THIRDS, round(count * math.sqrt(size) / root)))
        for k, part in enumerate(np.array_split(order, _THIRDS)):
            take = min(len(part), math.ceil(share / _THIRDS))
            if take:
                picked = np.sort(rng.choice(part, take, replace=False))
                rows += picked.tolist()
                workload += [names[code] if 0 <= code < len(names) else ""] * take
                stratum += [k] * take
                stands += [len(part) / take] * take
    return Sampled(np.array(rows, dtype=np.int64), tuple(workload), tuple(stratum), tuple(stands))


def _workloads(trace: Trace) -> Sequence[str]:
    return tuple(trace.names.get("workload", ())) or (trace.title,)


def template(trace: Trace, picked: Sampled, models: Sequence[str]) -> str:
    """OUTCOMES to fill in, as CSV: a row for each question and model; today's tokens where the model is
    today's."""
    table = trace.table()
    known = trace.names.get("model", ())
    out = StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(COLUMNS)
    for k, row in enumerate(picked.rows.tolist()):
        code = -1 if table.model is None else int(table.model[row])
        today = known[code] if 0 <= code < len(known) else "today"
        line = row if table.line is None else int(table.line[row])
        qid = f"{picked.workload[k]}:{line}"
        for model in dict.fromkeys((today, *models)):
            out_tok = int(table.output_tok[row]) if model == today else ""
            write.writerow(
                (
                    qid,
                    picked.workload[k],
                    model,
                    "",
                    "",
                    "",
                    "",
                    int(table.input_tok[row]),
                    out_tok,
                    "",
                    "",
                    line,
                )
            )
    return out.getvalue()


def worth(found: Certified, usd_per_month: float) -> tuple[Worth, ...]:
    """What further grades of a workload would buy, where nothing is certified yet or more could be.

    The chance is that of the certificate of the best candidate with so many grades in all; the dollars are
    what it saves a month times the gain of that chance over now (expected value of sample information, at
    today's estimates; the spread of those is not in it).
    """
    saving = max(found.saving, found.expected_saving)
    have = found.questions
    share = max(0.02, found.labels / max(1, have))
    now = 1.0 if found.certified else 0.0
    out = []
    for labels in STEPS:
        chance = power(
            int(have + labels / share), found.expected_difference, found.discordant, found.max_loss,
            1.0 - found.confidence,
        )  # fmt: skip
        gain = max(0.0, chance - now) * saving * usd_per_month
        out.append(Worth(found.workload, labels, max(now, chance), gain))
    return tuple(out)


class Grade(NamedTuple):
    """One graded answer."""

    qid: str
    model: str
    quality: float
    pred: str = ""
    out_tok: int | None = None
    in_tok: int | None = None
    cost: float | None = None


def read_grades(file: Path) -> tuple[str, list[Grade]]:
    """Grades of a file and what kind it is: a filled-in template (CSV), promptfoo's JSON, Langfuse's scores.

    Raises:
        BadInput: none of these, or a grade that cannot be read.
    """
    if not file.exists():
        raise BadInput("no such file", where=str(file), fix="Check the path")
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix.lower() in (".csv", ".tsv"):
        return _table(text, str(file))
    try:
        doc = json.loads(text)
    except json.JSONDecodeError:
        try:
            doc = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as wrong:
            raise BadInput(f"not JSON: {wrong.msg}", where=f"{file}:{wrong.lineno}") from None
    rows = _promptfoo_rows(doc)
    if rows is not None:
        return "promptfoo", list(_promptfoo(rows, str(file)))
    rows = doc.get("data", []) if isinstance(doc, dict) else doc
    if rows and all(isinstance(row, dict) and "name" in row and "value" in row for row in rows):
        return "langfuse", list(_langfuse(rows, str(file)))
    raise BadInput(
        "neither promptfoo's results nor Langfuse's scores", where=str(file),
        fix="Write promptfoo's with --output results.json, or fill in the template",
    )  # fmt: skip


def _table(text: str, where: str) -> tuple[str, list[Grade]]:
    rows = list(csv.DictReader(StringIO(text)))
    heads = set(rows[0]) if rows else set()
    if {"qid", "model", "quality"} <= heads:
        return "template", [
            Grade(
                row["qid"], row["model"], _grade(row["quality"], f"{where}, {row['qid']}"),
                row.get("pred") or "",
                _whole(row.get("out_tok")), _whole(row.get("in_tok")), _real(row.get("cost")),
            )
            for row in rows
            if row["quality"]
        ]  # fmt: skip
    if {"name", "value"} <= heads:
        return "langfuse", list(_langfuse(rows, where))
    raise BadInput(
        "no columns qid, model, quality", where=where, fix="Fill in the template of isocost measure LOG"
    )


def _promptfoo_rows(doc: Any) -> list[dict[str, Any]] | None:
    """The list of results of promptfoo's output of version 3, or of an older one's list."""
    inner = doc.get("results") if isinstance(doc, dict) else None
    rows = inner.get("results") if isinstance(inner, dict) else inner
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "provider" in rows[0]:
        return rows
    return None


def _promptfoo(rows: Sequence[dict[str, Any]], where: str) -> Iterator[Grade]:
    for row in rows:
        given = row.get("provider")
        model = given.get("label") or given.get("id") if isinstance(given, dict) else given
        test = row.get("testCase") or {}
        variables = row.get("vars") or test.get("vars") or {}
        extra = test.get("metadata") or row.get("metadata") or {}
        qid = extra.get("qid") or variables.get("qid") or test.get("description") or row.get("testIdx")
        if qid is None or not model:
            raise BadInput(
                "a result without qid or provider", where=where, fix="Give each test a var or metadata qid"
            )
        response = row.get("response") or {}
        usage = response.get("tokenUsage") or {}
        said = response.get("output")
        yield Grade(
            str(qid), str(model), _grade(row.get("score", row.get("success")), f"{where}, {qid}"),
            said if isinstance(said, str) else json.dumps(said) if said is not None else "",
            _whole(usage.get("completion")), _whole(usage.get("prompt")),
            _real(row.get("cost") or response.get("cost")),
        )  # fmt: skip


def _langfuse(rows: Sequence[dict[str, Any]], where: str) -> Iterator[Grade]:
    """Scores; ``metadata`` names question and model, else the observation or trace id is the question's."""
    for row in rows:
        extra = row.get("metadata") or {}
        if isinstance(extra, str):
            extra = json.loads(extra) if extra.startswith("{") else {}
        qid = extra.get("qid") or row.get("observationId") or row.get("traceId") or row.get("trace_id")
        if not qid:
            raise BadInput("a score without an observation or a trace", where=where)
        if str(row.get("dataType", "NUMERIC")).upper() == "CATEGORICAL":
            continue
        yield Grade(
            str(qid),
            str(extra.get("model") or row.get("model") or ""),
            _grade(row["value"], f"{where}, {qid}"),
        )


def _grade(value: Any, where: str) -> float:
    if isinstance(value, bool) or str(value).strip().lower() in ("true", "false", "pass", "fail"):
        return float(str(value).strip().lower() in ("true", "pass"))
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadInput(f"grade {value!r} is not a number", where=where, fix="Grade 0 to 1") from None


def _whole(value: Any) -> int | None:
    return None if value in (None, "") else int(float(value))


def _real(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


def merged(text: str, grades: Sequence[Grade], today: str = "") -> tuple[str, int, int]:
    """A template with grades filled in: (CSV, grades placed, grades that fit no row).

    A grade without a model is of ``today``'s.
    """
    rows = list(csv.DictReader(StringIO(text)))
    heads = list(rows[0]) if rows else list(COLUMNS)
    place = {(row["qid"], row["model"]): row for row in rows}
    lines = {row["qid"].rpartition(":")[2]: row["qid"] for row in rows}
    placed = stray = 0
    for grade in grades:
        qid = grade.qid if (grade.qid, grade.model or today) in place else lines.get(grade.qid, grade.qid)
        row = place.get((qid, grade.model or today))
        if row is None:
            stray += 1
            continue
        placed += 1
        row["quality"] = f"{grade.quality:g}"
        for name, value in (("pred", grade.pred), ("out_tok", grade.out_tok), ("cost", grade.cost)):
            if value not in (None, ""):
                row[name] = str(value)
    out = StringIO()
    write = csv.DictWriter(out, heads, lineterminator="\n")
    write.writeheader()
    write.writerows(rows)
    return out.getvalue(), placed, stray
