"""A table with a column for each model: its grades, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from isocost.errors import BadInput
from isocost.policy.grades.call import Call, first, named, real, said, whole, words

GRADED = ("quality", "score", "grade", "rating", "correct", "is_correct", "passed", "pass")
"""What stands beside a model's name in the head of its grades, where the answers have the bare name."""
BESIDE: Mapping[str, tuple[str, ...]] = {
    "pred": ("pred", "prediction", "answer", "response", "output", "completion"),
    "out_tok": ("out_tok", "output_tokens", "completion_tokens", "tokens_out"),
    "in_tok": ("in_tok", "input_tokens", "prompt_tokens", "tokens_in"),
    "cost": ("cost", "cost_usd", "usd"),
    "latency_s": ("latency_s", "latency", "seconds"),
    "version": ("version",),
}
"""What may stand beside a model's name for what else is known of its answer."""


class Columns(NamedTuple):
    """How a table is to be read: ``given`` names our columns in it, ``models`` the columns that are models,
    ``known`` says whether a head is a model's name, ``score`` is the score that counts."""

    given: Mapping[str, str] = {}
    models: tuple[str, ...] = ()
    known: Callable[[str], bool] = lambda _: False
    score: str = ""


def plain(head: str) -> str:
    """A head as it is compared.

    >>> plain("Judge Score (0-1)"), plain("inputs.question"), plain("feedback.correctness")
    ('judge_score_0_1', 'inputs_question', 'feedback_correctness')
    """
    return "_".join("".join(c if c.isascii() and c.isalnum() else " " for c in head.lower()).split())


def wide_of(
    heads: Sequence[str], asked: Columns, scored: Sequence[str], where: str
) -> dict[str, dict[str, str]] | None:
    """Columns of each model by ours, or ``None`` where the table is not of this form.

    A model's columns bear its name alone (its grades), or with what they hold: ``gpt-4o score``,
    ``answer_gpt-4o``. Models are those asked for, else columns of grades that bear a model's name, unless one
    of these is the score that counts (of raters that are models).

    Raises:
        BadInput: a model that is asked for has no column, has two, or some columns are models' and some not.
    """
    by = {plain(head): head for head in reversed(heads)}
    if asked.models:
        found = {model: _columns(model, by, where) for model in asked.models}
        lacking = [model for model, mine in found.items() if "quality" not in mine]
        if len(lacking) == len(found) and not any(found.values()):
            return None
        if lacking:
            raise BadInput(
                f"no column of grades of {', '.join(lacking)}", where=where, fix=f"It has {', '.join(heads)}"
            )
        return found
    if asked.score and plain(asked.score) in {plain(head) for head in scored}:
        return None
    models = list(dict.fromkeys(model for head in scored if (model := _model(head, asked.known))))
    if not models:
        return None
    found = {model: _columns(model, by, where) for model in models}
    taken = {head for mine in found.values() for head in mine.values()}
    if other := [head for head in scored if head not in taken]:
        raise BadInput(
            f"columns of {', '.join(models)}, which are models, and of {', '.join(other)}",
            where=where,
            fix=f"Say which are models, --models {','.join([*models, *other])}, or the score: "
            f"--score {other[0]}",
        )
    return found


def _model(head: str, known: Callable[[str], bool]) -> str:
    """The model's name in the head of a column of grades; blank where it holds none."""
    low = head.lower()
    for word in GRADED:
        for sign in " _.:/-":
            if low.endswith(sign + word) and known(bare := head[: -len(word) - 1]):
                return bare
            if low.startswith(word + sign) and known(bare := head[len(word) + 1 :]):
                return bare
    return head if known(head) else ""


def _columns(model: str, by: Mapping[str, str], where: str) -> dict[str, str]:
    """A model's columns by ours."""
    name, found = plain(model), {}

    def beside(spellings: Sequence[str]) -> list[str]:
        hits = [by[key] for word in spellings for key in (f"{name}_{word}", f"{word}_{name}") if key in by]
        return list(dict.fromkeys(hits))

    for ours, spellings in BESIDE.items():
        if hits := beside(spellings):
            found[ours] = hits[0]
    graded = beside(GRADED)
    if len(graded) > 1:
        raise BadInput(
            f"several columns of grades of {model}: {', '.join(graded)}",
            where=where,
            fix="Leave one in, and export the others as files of their own",
        )
    if graded:
        found["quality"] = graded[0]
        if name in by:
            found.setdefault("pred", by[name])
    elif name in by:
        found["quality"] = by[name]
    return found


def calls_of(
    rows: Sequence[Mapping[str, Any]], at: Mapping[str, str], models: Mapping[str, Mapping[str, str]]
) -> Iterator[Call]:
    """A call of each row and model that has an answer or a grade; ``at`` names the table's own columns."""
    for row in rows:
        held = {ours: row.get(theirs) for ours, theirs in at.items()}
        query = words(held.get("query"))
        own = first(held.get("qid"), named(query) if query else None)
        if own is None:
            continue
        for model, columns in models.items():
            mine = {ours: row.get(theirs) for ours, theirs in columns.items()}
            if mine.get("quality") in (None, "") and mine.get("pred") in (None, ""):
                continue
            yield Call(
                str(own), model, {"score": mine.get("quality")}, (named(query),) if query else (), query,
                said(mine.get("pred")), str(held.get("task") or ""), str(mine.get("version") or ""),
                whole(first(mine.get("in_tok"), held.get("in_tok"))), whole(mine.get("out_tok")),
                real(mine.get("cost")), real(mine.get("latency_s")), overall="score",
                workload=str(held.get("workload") or "").strip(), split=split_of(held.get("split")),
                column=columns.get("quality", ""),
            )  # fmt: skip


def split_of(value: Any) -> str:
    """``A``, ``B`` or ``C``; what other tools call splits (``train``) says nothing of these.

    >>> split_of(" b"), split_of("test")
    ('B', '')
    """
    name = str(value or "").strip().upper()
    return name if name in ("A", "B", "C") else ""
