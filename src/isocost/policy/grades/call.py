"""What a file of graded results says of one answer, before a score is chosen and made a grade."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ALONE = ("success", "status", "pass", "passed")
"""Scores that only sum up others: they count where they are the only ones, or are asked for."""


@dataclass(frozen=True)
class Call:
    """An answer of a model to a question, with its scores by name as they stand in the file.

    ``qid`` is what the file calls the question, or a digest of its words; ``also`` are further names of the
    question or of the call, by which a template or a score in another file may mean it. ``overall`` is the
    score that the tool itself takes for the whole. A call that ``failed`` is no answer, and has no grade.
    """

    qid: str
    model: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    query: str = ""
    pred: str = ""
    task: str = ""
    version: str = ""
    in_tok: int | None = None
    out_tok: int | None = None
    cost: float | None = None
    latency_s: float | None = None
    overall: str = ""
    failed: bool = False
    lower: frozenset[str] = frozenset()
    """Scores of which less is better, by the tool's own verdict."""
    workload: str = ""
    split: str = ""
    column: str = ""
    """The column of a table whose head names the model."""


@dataclass(frozen=True)
class Mark:
    """A score that names its call by an id: ``of`` are these ids, the nearest first."""

    of: tuple[str, ...]
    name: str
    value: Any
    qid: str = ""
    model: str = ""


@dataclass(frozen=True)
class Link:
    """A call that answers an item of a data set: ``of`` are ids of the call, ``qid`` is the item's."""

    of: tuple[str, ...]
    qid: str


Found = Call | Mark | Link


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object, also where it stands as text in a cell; else an empty one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def meant(name: str, models: Iterable[str]) -> str:
    """The one of ``models`` that a name means: of that name, else of that name without whose it is; blank
    where it is none, or several.

    >>> meant("gpt-4.1", ["openai/gpt-4.1", "gpt-4.1-mini"]), meant("a", ["x/a", "y/a"])
    ('openai/gpt-4.1', '')
    """
    held = set(models)
    if name in held:
        return name
    same = [one for one in held if _bare(one) == _bare(name)] if name else []
    return same[0] if len(same) == 1 else ""


def _bare(model: str) -> str:
    return re.split(r"[:/]", model.lower())[-1]


def first(*values: Any) -> Any:
    """The first that is there: not ``None`` and not empty."""
    return next((one for one in values if one not in (None, "", {}, [])), None)


def text(*values: Any) -> str:
    """The first that is there, as text."""
    found = first(*values)
    return "" if found is None else str(found)


def whole(value: Any) -> int | None:
    """A count of tokens, or ``None`` where it is none."""
    number = real(value)
    return None if number is None else round(number)


def real(value: Any) -> float | None:
    """A number from zero up, or ``None``.

    >>> real("1,200.5"), real("$0.002"), real(""), real("-3"), real("nan")
    (1200.5, 0.002, None, None, None)
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(str(value).strip().replace(",", "").lstrip("$"))
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def paid(value: Any) -> float | None:
    """Dollars of a call. Tools write zero where they know no price: that is unknown, not nothing."""
    return real(value) or None


def words(value: Any) -> str:
    """A value as text: text as it is, an object's only value, else JSON; nothing for ``None``.

    >>> words({"question": "Why?"}), words([{"role": "user", "content": "Hi"}])
    ('Why?', '[{"content": "Hi", "role": "user"}]')
    """
    if value is None:
        return ""
    if isinstance(value, dict) and len(value) == 1:
        return words(next(iter(value.values())))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


_NOT_ASKED = ("qid", "id", "expected", "expected_output", "reference", "reference_output", "ground_truth",
              "target", "ideal", "label", "gold", "sessionId", "task", "subject")  # fmt: skip
"""What a row of a data set holds beside the question."""


def asked(row: Mapping[str, Any]) -> str:
    """The question in a row of a data set, without what the answer is held against.

    >>> asked({"question": "2+2?", "expected": "4"}), asked({"expected": "4"})
    ('2+2?', '4')
    """
    return words({name: value for name, value in row.items() if name not in _NOT_ASKED} or row)


def said(value: Any) -> str:
    """The text of an answer: of a chat message its content."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        value = value[-1]
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return str(value["content"])
    return words(value)


def named(text: str) -> str:
    """What a question without an id is called: a digest of its words.

    >>> named("Why?") == named(" why? "), len(named("Why?"))
    (True, 14)
    """
    plain = re.sub(r"\s+", " ", text).strip().lower()
    return f"q:{hashlib.blake2b(plain.encode(), digest_size=6).hexdigest()}"


def seconds(start: Any, end: Any) -> float | None:
    """Seconds from one time to another, as numbers of seconds or as ISO times; ``None`` where unknown."""
    if isinstance(start, int | float) and isinstance(end, int | float):
        return real(end - start)
    try:
        times = [datetime.fromisoformat(str(one).replace("Z", "+00:00")) for one in (start, end)]
        return real((times[1] - times[0]).total_seconds())
    except (TypeError, ValueError):
        return None
