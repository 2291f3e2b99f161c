"""What to grade next: a stratified sample of a log, and a template to fill in.

No model is called. Grades come back as the filled-in template or as results of an evaluation tool
(:mod:`isocost.policy.grades`), into the template or as outcomes of their own.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from io import StringIO
from typing import NamedTuple

import numpy as np

from isocost.errors import BadInput
from isocost.policy.grades import Grade
from isocost.policy.grades.call import meant
from isocost.policy.grades.call import named as called_by
from isocost.policy.outcomes import Ints
from isocost.trace.schema import Trace

COLUMNS = (
    "qid", "workload", "model", "quality", "pred", "query", "task", "in_tok", "out_tok", "cost", "latency_s",
    "version", "line",
)  # fmt: skip
"""Columns of the template. ``qid`` and ``line`` say which row of the log a question is; the rest is to be
filled in."""
_THIRDS = 3


class Sampled(NamedTuple):
    """Rows of a trace's table that were picked, with workload, stratum of length, and how many each stands
    for."""

    rows: Ints
    workload: tuple[str, ...]
    stratum: tuple[int, ...]
    stands_for: tuple[float, ...]


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
    today's. A model that the log calls otherwise than ``models`` do has one row, by the name given."""
    table = trace.table()
    known = [meant(name, models) or name for name in trace.names.get("model", ())]
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
                    "",
                    line,
                )
            )
    return out.getvalue()


class Merged(NamedTuple):
    """A template filled in: the CSV, how many grades found a row, those that found none, and why not."""

    text: str
    placed: int
    stray: int
    unknown_models: tuple[str, ...] = ()
    unknown_questions: tuple[str, ...] = ()


def merged(text: str, grades: Sequence[Grade], today: str = "") -> Merged:
    """A template with grades filled in.

    A question is known by its id, by another name of the grade, or by its words; a model by its name, else by
    its name without whose it is, where only one model of the template is called so. A grade without a model
    is of ``today``'s, or of the template's one model.
    """
    rows = list(csv.DictReader(StringIO(text)))
    heads = list(rows[0]) if rows else list(COLUMNS)
    place = {(row["qid"], row["model"]): row for row in rows}
    qids = {row["qid"]: row["qid"] for row in rows}
    qids |= {called_by(row["query"]): row["qid"] for row in rows if row.get("query")}
    models = {row["model"] for row in rows}
    only = today or (next(iter(models)) if len(models) == 1 else "")
    called = {one: meant(one, models) or only * (not one) for one in {grade.model for grade in grades}}
    placed, lost_models, lost = 0, set(), {}
    for grade in grades:
        qid = next((qids[one] for one in (grade.qid, *grade.also) if one in qids), "")
        row = place.get((qid, called[grade.model]))
        if row is None:
            if not called[grade.model]:
                lost_models.add(grade.model)
            lost[grade.qid] = grade
            continue
        placed += 1
        _fill(row, grade)
        heads += [name for name in row if name not in heads]
    out = StringIO()
    write = csv.DictWriter(out, heads, lineterminator="\n", restval="")
    write.writeheader()
    write.writerows(rows)
    return Merged(
        out.getvalue(), placed, len(grades) - placed, tuple(sorted(lost_models)),
        tuple(qid for qid, grade in lost.items() if grade.model not in lost_models),
    )  # fmt: skip


def _fill(row: dict[str, str], grade: Grade) -> None:
    row["quality"] = f"{grade.quality:g}"
    for name in ("pred", "out_tok", "cost", "latency_s"):
        value = getattr(grade, name)
        if value not in (None, ""):
            row[name] = str(value)
    for name in ("query", "task", "workload", "split", "version", "in_tok"):
        value = getattr(grade, name)
        if value not in (None, "") and not row.get(name):
            row[name] = str(value)


def outcomes_of(grades: Sequence[Grade]) -> str:
    """Grades as OUTCOMES of their own, as CSV: a row for each question and model.

    Raises:
        BadInput: a grade without a model.
    """
    nameless = sum(not grade.model for grade in grades)
    if nameless:
        raise BadInput(
            f"{nameless:,} of {len(grades):,} grades name no model", where="--grades",
            fix="Say whose they are: --grades MODEL=FILE, once for each model's file",
        )  # fmt: skip
    out = StringIO()
    heads = [name for name in COLUMNS if name != "line"]
    heads += ["split"] * any(grade.split for grade in grades)
    write = csv.DictWriter(out, heads, lineterminator="\n")
    write.writeheader()
    for grade in grades:
        row = dict.fromkeys(heads, "") | {"qid": grade.qid, "model": grade.model}
        _fill(row, grade)
        write.writerow(row)
    return out.getvalue()
