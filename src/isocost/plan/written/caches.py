"""What comes to the semantic caches of a plan's rules on a log, and what they answer there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from isocost.deployment import SemanticCache
from isocost.plan.written.attempts import Traffic, World, hits_of
from isocost.plan.written.near import Looked, Verifier, each_word, play_near, with_keys, words_of
from isocost.policy.proven import Proven
from isocost.policy.rules import Rule
from isocost.trace.schema import Trace

Rows = npt.NDArray[np.int64]


def asks_words(rules: Sequence[Rule], caches: Sequence[str], trace: Trace) -> bool:
    """Whether the words of a log's prompts are needed: for questions that are nearly the same, and for equal
    ones (exact ``caches``) where the log does not say which are."""
    near = any(rule.semantic is not None and rule.semantic.on for rule in rules)
    return near or ("prompt_key" not in trace.columns and any(caches))


def keyed(trace: Trace) -> Trace:
    """The trace with keys of whole prompts, made of its words; as it is where it has none."""
    if "prompt_key" in trace.columns or trace.texts is None:
        return trace
    table = trace.table()
    table = with_keys(table, each_word(trace, table, np.ones(len(table), np.bool_)))
    return replace(trace, read=lambda: iter((table,)), columns=trace.columns | {"prompt_key"})


def with_caches(world: World, parts: Sequence[Traffic], verifiers: Mapping[str, Verifier]) -> World:
    """The world with what each semantic cache did.

    Raises:
        BadInput: a log without words, and no measured rate to play in their place.
        BadLimits: rules that read one cache with two verifiers.
    """
    looked = [Looked(one.rule, *_comes(world, one)) for one in parts if one.rule.semantic is not None]
    if not looked:
        return world
    rows = np.zeros(len(world.table), np.bool_)
    for one in looked:
        rows[one.rows] = rows[one.repeats] = True
    words = words_of(world.trace, world.table, rows)
    caches = {name: one for name, one in world.deployments.items() if isinstance(one, SemanticCache)}
    return replace(world, near=play_near(world.at, world.table, caches, looked, verifiers, words))


def _comes(world: World, one: Traffic) -> tuple[Rows, Rows]:
    """Which rows of a rule nothing answers or refuses before its semantic cache is asked, and which of the
    others an exact cache answers.

    A budget needs no thought: from when it is spent on all are refused, and nothing more is kept.
    """
    comes = np.ones(len(one.rows), np.bool_)
    guard, first = one.rule.guard, one.rule.first
    if guard is not None and guard.most_input_tok is not None:
        comes &= world.table.input_tok[one.rows] <= guard.most_input_tok
    if guard is not None and guard.most_output_tok is not None:
        comes &= world.table.output_tok[one.rows] <= guard.most_output_tok
    hits = hits_of(world, one) if one.rule.cache else None
    repeats = np.zeros(len(one.rows), np.bool_) if hits is None else comes & hits
    comes &= ~repeats
    if first is not None and world.answers is not None:
        for s in np.unique(one.stream):
            mine = one.stream == s
            stream = world.streams[int(s)]
            told = world.answers.answered(first.deployment, stream, one.rows[mine])
            named = np.ones(int(mine.sum()), np.bool_)
            if first.tasks:
                tasks = world.answers.task(stream, one.rows[mine]).tolist()
                named = np.array([world.answers.tasks[k] in first.tasks for k in tasks], np.bool_)
            if told is not None:
                comes[mine] &= ~(told & named)
    return one.rows[comes], one.rows[repeats]


def wrong_of_hits(found: Proven) -> tuple[float, float]:
    """Share of the hits that are wrong: as seen, and at most by the certificate's bound."""
    hits = max(1, found.hits)
    return found.wrong / hits, min(1.0, found.wrong_most_frac * found.requests / hits)


def told_of(name: str, looks: int, hits: int, found: Proven, is_measured: bool) -> str:
    """What a semantic cache did, in a sentence."""
    share = hits / max(1, looks)
    seen = found.wrong / found.requests
    how = "as often as was counted elsewhere" if is_measured else "by the words of the log"
    return (
        f"The semantic cache {name} answered {hits:,} of {looks:,} looks ({share:.0%}), {how}; "
        f"certified: a wrong answer to at most {found.wrong_most_frac:.1%} of requests "
        f"({found.confidence:.0%}), {seen:.1%} seen"
    )
