"""What fitted routers say of a log's requests: each scored by its words, as the rule scores it one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.errors import BadInput
from isocost.policy.router import FORM, Weights, score
from isocost.policy.rules import Router, Rule
from isocost.trace.schema import Trace

ASKS = ("", "user", "human")
"""Roles of the messages that ask."""
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_FIX = "It is a file that isocost policy fit wrote beside its policy.toml"


@dataclass(frozen=True)
class Asked:
    """Requests under one router: rows of the table, the task of each, and its question's words where graded
    outcomes have them (blank: those of the log). ``unknown`` (k,): whose task is not known, which no score
    that was fitted on tasks is for."""

    rule: Rule
    rows: Rows
    task: Sequence[str]
    query: Sequence[str]
    unknown: npt.NDArray[np.bool_]


def named_weights(rules: Sequence[Rule], folder: Path) -> dict[str, Weights]:
    """The scores that routers name, read from beside the plan.

    Raises:
        BadInput: a file that is absent or is no fitted score.
    """
    names = [rule.choose.weights for rule in rules if isinstance(rule.choose, Router)]
    return {name: _read(folder / name) for name in dict.fromkeys(names) if name}


def _read(path: Path) -> Weights:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Weights)
    except FileNotFoundError:
        raise BadInput("no such file", where=str(path), fix=_FIX) from None
    except OSError as wrong:
        raise BadInput(f"cannot read it: {wrong.strerror}", where=str(path), fix=_FIX) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise BadInput(f"no fitted score: {wrong}", where=str(path), fix=_FIX) from None
    if len(found.form) not in (0, len(FORM)) or any(fitted[1] <= 0 for fitted in found.form):
        raise BadInput(
            f"{len(found.form)} features of the form, some without a spread"
            if len(found.form) in (0, len(FORM))
            else f"{len(found.form)} features of the form, {len(FORM)} are read",
            where=str(path),
            fix=_FIX,
        )
    return found


def scores(trace: Trace, asked: Sequence[Asked], weights: Mapping[str, Weights], n: int) -> Floats:
    """The score of each of the table's ``n`` requests, NaN where no router or nothing to read is there."""
    out = np.full(n, np.nan)
    of = np.full(n, -1, np.int64)
    place = np.full(n, -1, np.int64)
    fitted = [weights.get(getattr(one.rule.choose, "weights", "")) for one in asked]
    for k, (one, mine) in enumerate(zip(asked, fitted, strict=True)):
        if mine is None:
            continue
        told: npt.NDArray[np.bool_] = np.array([bool(text) for text in one.query], dtype=np.bool_)
        blind = one.unknown & any(mine.tasks)
        for i in np.flatnonzero(told & ~blind).tolist():
            out[one.rows[i]] = score(mine, one.query[i], _task(mine, one.task[i]))
        rest = np.flatnonzero(~told & ~blind)
        of[one.rows[rest]], place[one.rows[rest]] = k, rest
    if trace.texts is None or not (of >= 0).any():
        return out
    row = 0
    for lot in trace.texts():
        for i in (np.flatnonzero(of[row : row + len(lot)] >= 0) + row).tolist():
            mine = fitted[of[i]]
            if mine is not None and (text := question(lot[i - row])):
                out[i] = score(mine, text, _task(mine, asked[of[i]].task[place[i]]))
        row += len(lot)
    return out


def _task(weights: Weights, name: str) -> str:
    """The task that a score is read for: none where it was fitted on questions without tasks."""
    return "" if name not in weights.tasks and "" in weights.tasks else name


def question(text: str) -> str:
    """What was asked: the words of the last message of a user, else of a prompt that is one text.

    ``text`` is what ``Trace.texts`` gives.

    >>> question('{"m": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Why?"}]}')
    'Why?'
    >>> question('{"m": "Why?"}'), question(""), question('{"t": null, "s": "Be brief.", "m": null}')
    ('Why?', '', '')
    """
    found = decoded(text)
    turns = decoded(found.get("m")) if isinstance(found, dict) else text
    if isinstance(turns, dict):
        inner = (turns[name] for name in ("messages", "contents", "input", "prompt") if name in turns)
        turns = decoded(next(inner, turns))
    if not isinstance(turns, list):
        return spoken(turns)
    for one in reversed(turns):
        held = one.get("message", one) if isinstance(one, dict) else one
        role = str(held.get("role", "")) if isinstance(held, dict) else ""
        if role in ASKS and (words := spoken(held)):
            return words
    return ""


def decoded(value: Any) -> Any:
    """JSON inside a text as what it stands for; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError):
            return value
    return value


def spoken(value: Any) -> str:
    """Texts of a message and its parts; what tools returned is not asked."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(words for one in value if (words := spoken(one)))
    if isinstance(value, dict) and value.get("type") != "tool_result":
        return next(
            (words for name in ("content", "text", "parts") if (words := spoken(value.get(name)))), ""
        )
    return ""
