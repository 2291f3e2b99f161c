"""Graded answers in a table of anyone's: which column is the question, the model, the answer, the score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isocost.errors import BadInput
from isocost.policy.grades.call import Call, first, named, real, said, whole, words
from isocost.policy.grades.wide import Columns, calls_of, plain, split_of, wide_of

SPELLED: Mapping[str, tuple[str, ...]] = {
    "qid": ("qid", "question_id", "query_id", "example_id", "item_id", "sample_id", "test_id", "case_id",
            "datapoint_id", "prompt_id", "row_id", "test_case_id", "doc_id", "id", "idx", "index"),
    "model": ("model", "model_name", "model_id", "deployment", "llm", "provider_model", "system", "generator",
              "answered_by", "candidate", "engine", "provider"),
    "quality": ("quality",),
    "query": ("query", "question", "prompt", "input", "user_input", "instruction", "user_message", "inputs",
              "input_text", "user_query"),
    "pred": ("pred", "prediction", "answer", "response", "output", "outputs", "model_output",
             "completion", "generated", "generated_answer", "actual_output", "model_answer",
             "model_response"),
    "task": ("task", "subject", "category", "topic", "tag"),
    "in_tok": ("in_tok", "input_tok", "input_tokens", "prompt_tokens", "tokens_in", "n_input_tokens"),
    "out_tok": ("out_tok", "output_tok", "output_tokens", "completion_tokens", "tokens_out",
                "n_output_tokens"),
    "cost": ("cost", "cost_usd", "usd", "total_cost", "price", "cost_in_usd"),
    "latency_s": ("latency_s", "latency", "latency_ms", "duration", "duration_s", "duration_ms",
                  "execution_time", "response_time", "response_time_ms", "e2e_s", "elapsed", "seconds"),
    "version": ("version", "model_version"),
    "workload": ("workload",),
    "split": ("split",),
}  # fmt: skip
"""What columns are called, best first; heads are compared without case, blanks and signs."""
_SCORES = (
    "quality", "score", "grade", "rating", "correct", "is_correct", "judge_score", "llm_judge_score",
    "verdict", "label", "judgement", "judgment", "passed", "pass", "success", "result", "accuracy",
    "final_score", "overall", "overall_score", "human_score", "human_label", "judge", "judge_label",
    "evaluation", "points",
)  # fmt: skip
_OTHER = re.compile(
    r"(^|_)(id|idx|index|line|row|seed|time|timestamp|date|created_at|updated_at|tokens?|tok|count|length|len|"
    r"workload|split|reason|explanation|comment|rationale|expected|reference|ground_truth|target|gold|"
    r"error|status_code|threshold|temperature|run|status|order)(_|$)"
)
"""Columns that are no scores, whatever they hold."""


def columns(heads: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Our names to the table's: as ``given``, else by their spelling.

    Raises:
        BadInput: a column that was given is not there.
    """
    found: dict[str, str] = {}
    by = {plain(head): head for head in reversed(heads)}
    for ours, theirs in given.items():
        if ours not in SPELLED:
            raise BadInput(f"no such column: {ours}", where="--map", fix=f"It takes {', '.join(SPELLED)}")
        if theirs not in heads:
            raise BadInput(f"no column {theirs!r}", where=where, fix=f"It has {', '.join(heads)}")
        found[ours] = theirs
    for ours, spellings in SPELLED.items():
        hit = next((by[one] for one in spellings if one in by and by[one] not in found.values()), None)
        if ours not in found and hit is not None:
            found[ours] = hit
    for ours, start in (("query", "inputs_"), ("pred", "outputs_")):
        hits = [head for head in heads if plain(head).startswith(start)]
        if len(hits) > 1:
            hits = [head for head in hits if plain(head).removeprefix(start) in SPELLED[ours]]
        if ours not in found and len(hits) == 1:
            found[ours] = hits[0]
    return found


def score_columns(
    heads: Sequence[str], rows: Sequence[Mapping[str, Any]], used: Mapping[str, str]
) -> tuple[str, ...]:
    """Columns that may be scores: by their name, by ``feedback.`` before it, else those of few values."""
    if "quality" in used:
        return (used["quality"],)
    free = [head for head in heads if head not in used.values()]
    feedback = [head for head in free if re.match(r"(feedback|scores?)[._ ]", head, re.IGNORECASE)]
    if feedback:
        return tuple(feedback)
    named_so = [head for head in free if plain(head) in _SCORES]
    numeric = [
        head
        for head in free
        if head not in named_so
        and not _OTHER.search(plain(head))
        and _graded([row.get(head) for row in rows])
    ]
    strong = [head for head in named_so if plain(head) in ("score", "grade", "rating")]
    return tuple(strong if len(strong) == 1 and not numeric else [*named_so, *numeric])


def _graded(values: Sequence[Any]) -> bool:
    """Whether values are numbers or truths throughout."""
    held = [value for value in values if value not in (None, "")]
    return bool(held) and all(
        isinstance(value, bool)
        or str(value).strip().lower() in ("true", "false", "pass", "fail")
        or _number(value)
        for value in held
    )


def _number(value: Any) -> bool:
    try:
        float(str(value).strip().rstrip("%"))
    except ValueError:
        return False
    return True


def table(
    heads: Sequence[str], rows: Sequence[Mapping[str, Any]], asked: Columns, where: str
) -> Iterator[Call]:
    """The rows of a table as calls: of one model each, or of all models where each has a column.

    Raises:
        BadInput: no column of questions, or none that could be a score.
    """
    at = columns(heads, asked.given, where)
    scored = score_columns(heads, rows, at)
    if "qid" not in at and "query" not in at:
        raise BadInput(
            "no column says which question a row is of", where=where,
            fix=f"Type --map qid=COLUMN (or query=COLUMN); it has {', '.join(heads)}",
        )  # fmt: skip
    free = [head for head in heads if head not in at.values() and not _OTHER.search(plain(head))]
    free = [head for head in free if _graded([row.get(head) for row in rows])]
    if "model" not in at and (models := wide_of(heads, asked, free, where)) is not None:
        taken = {theirs for mine in models.values() for theirs in mine.values()}
        yield from calls_of(rows, {ours: head for ours, head in at.items() if head not in taken}, models)
        return
    if not scored:
        raise BadInput(
            "no column of scores", where=where, fix=f"Type --map quality=COLUMN; it has {', '.join(heads)}"
        )
    short = {head: re.sub(r"^(feedback|scores?)[._ ]", "", head, flags=re.IGNORECASE) for head in scored}
    waited = at.get("latency_s", "")
    per_s = 1000.0 if plain(waited).endswith("_ms") else 1.0
    for row in rows:
        held = {ours: row.get(theirs) for ours, theirs in at.items()}
        query = words(held.get("query"))
        latency = real(held.get("latency_s"))
        own = first(held.get("qid"), named(query) if query else None)
        if own is None:
            continue
        yield Call(
            str(own), str(held.get("model") or "").strip(), {short[head]: row.get(head) for head in scored},
            (named(query),) if query else (), query, said(held.get("pred")), str(held.get("task") or ""),
            str(held.get("version") or ""), whole(held.get("in_tok")), whole(held.get("out_tok")),
            real(held.get("cost")), None if latency is None else latency / per_s,
            overall="quality" if "quality" in at else "", workload=str(held.get("workload") or "").strip(),
            split=split_of(held.get("split")),
        )  # fmt: skip
