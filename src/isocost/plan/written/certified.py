"""Semantic caches and their certificates in plan files: made of a log, put into a plan, held against newer
logs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import tomli_w

from isocost.deployment import SemanticCache
from isocost.errors import BadInput, BadLimits
from isocost.fleet import Standing
from isocost.plan.asked.streams import DEMAND
from isocost.plan.written.file import PlanFile, dumps, loads
from isocost.plan.written.near import Visits, sessions_of, words_of
from isocost.policy.lapse import same_mix_p
from isocost.policy.proven import Proven, banded
from isocost.policy.rules import Semantic, rule_of
from isocost.policy.semantic import Weights
from isocost.policy.semantic_cache import SemanticCache as Running
from isocost.policy.semantic_study import Asked
from isocost.trace.schema import Trace
from isocost.units import NS_PER_S

WARM = 0.5
"""Share of newer requests that fill the cache before scores are compared: those certified met a full one."""


class Requests(NamedTuple):
    """A workload's requests as a semantic cache would see them, in order of arrival, and the line of each;
    ``models`` answered them, and ``repeats`` are left to an exact cache. ``unit`` is what they were drawn by
    and ``sessions`` how many of these came; ``tenants`` how many the log tells apart."""

    asked: tuple[Asked, ...]
    lines: tuple[int, ...]
    models: tuple[str, ...]
    repeats: int
    unit: str
    sessions: int
    tenants: int


def requests_of(trace: Trace, workload: str, life_s: float, visits: Visits) -> Requests:
    """What a semantic cache is asked behind an exact one that keeps an answer for ``life_s``; ``*``: of all
    workloads.

    Raises:
        BadInput: a log without words, or without requests of the workload.
    """
    table = trace.requests()
    mine = np.isin(table.outcome, [int(one) for one in DEMAND])
    named = trace.names.get("workload", ())
    if workload != "*" and table.workload is not None:
        if workload not in named:
            raise BadInput(f"no workload {workload!r}", where=trace.title, fix=f"It has: {', '.join(named)}")
        mine &= table.workload == named.index(workload)
    words = words_of(trace, table, mine)
    if not words:
        raise BadInput(
            "the log has no words of prompts", where=trace.title,
            fix="Log the messages of each request: a column messages, or prompt",
        )  # fmt: skip
    session = sessions_of(table, visits)
    filled: dict[tuple[bytes, int], float] = {}
    asked, lines = [], []
    for i, one in sorted(words.items()):
        now_s = int(table.arrival_ns[i]) / NS_PER_S
        is_repeat = now_s - filled.get((one.scope, one.exact), -math.inf) <= life_s
        if not is_repeat:
            filled[one.scope, one.exact] = now_s
        unit = "" if session.unit == "request" else str(session.number[i])
        asked.append(Asked(one.question, one.scope, now_s, unit=unit, is_repeat=is_repeat))
        lines.append(i if table.line is None else int(table.line[i]))
    repeats = sum(one.is_repeat for one in asked)
    rows = np.array(sorted(words))
    tenants = 1 if table.tenant is None else len(np.unique(table.tenant[rows]))
    codes = [] if table.model is None else np.unique(table.model[mine]).tolist()
    models = tuple(trace.names["model"][k] for k in codes if k >= 0)
    many = len(np.unique(session.number[rows]))
    return Requests(tuple(asked), tuple(lines), models, repeats, session.unit, many, tenants)


def with_semantic(
    plan: PlanFile, workload: str, semantic: Semantic, cache: SemanticCache, standing: Standing
) -> PlanFile:
    """The plan with a semantic cache in the policies of a workload (``*``: in those of all); routes of a
    workload without a policy become one.

    Raises:
        BadLimits: neither a policy nor a route of that workload.
    """
    rules = list(plan.policies)
    mine = [k for k, rule in enumerate(rules) if workload in ("*", rule.workload)]
    if not mine:
        taken = [route for route in plan.routes if workload in ("*", route.workload)]
        mine = [len(rules) + k for k in range(len(taken))]
        rules += [rule_of(route) for route in taken]
    if not mine:
        raise BadLimits(
            f"no policy or route of {workload!r}",
            where="plan.toml",
            fix="Name the workload of one: --workload",
        )
    for k in mine:
        rules[k] = msgspec.structs.replace(rules[k], semantic=semantic)
    others = tuple(one for one in plan.deployments if one.id != cache.id)
    costs = tuple(one for one in plan.fleet.standing if one.what != standing.what)
    fleet = msgspec.structs.replace(plan.fleet, standing=(*costs, standing))
    return msgspec.structs.replace(plan, policies=tuple(rules), deployments=(*others, cache), fleet=fleet)


def piece(semantic: Semantic, cache: SemanticCache, standing: Standing) -> str:
    """What a plan needs for a semantic cache, to be put into one by hand."""
    doc = _plain({"deployment": [cache], "standing": [standing]})
    head = "# For plan.toml. [policy.semantic] and what is under it go behind the workload's [[policy]].\n\n"
    return f"{head}{tomli_w.dumps(doc)}\n{_part(semantic)}"


def _part(semantic: Semantic) -> str:
    return tomli_w.dumps({"policy": {"semantic": _plain(semantic)}}).replace("[policy]\n", "")


def _plain(value: Any) -> Any:
    plain = msgspec.to_builtins(value)
    if isinstance(plain, dict):
        return {name: _plain(one) for name, one in plain.items() if one is not None}
    return [_plain(one) for one in plain] if isinstance(plain, list | tuple) else plain


def inserted(text: str, plan: PlanFile, workload: str, made: tuple[Semantic, SemanticCache, Standing]) -> str:
    """The text of a plan with a semantic cache, its other lines and comments as they were if that can be."""
    semantic, cache, standing = made
    whole = with_semantic(plan, workload, semantic, cache, standing)
    rules = [rule.workload for rule in plan.policies]
    if not any(workload in ("*", name) for name in rules):
        return dumps(whole)
    out: list[str] = []
    k = -1
    for block in _blocks(text):
        head = next((line for line in block if line.startswith("[")), "").partition("#")[0].strip()
        k += head == "[[policy]]"
        mine = 0 <= k < len(rules) and workload in ("*", rules[k])
        if head.startswith("[policy.semantic") and mine:
            continue
        held = "\n".join(block)
        if head == "[[deployment]]" and f'id = "{cache.id}"' in held:
            continue
        if head == "[[standing]]" and f'what = "{standing.what}"' in held:
            continue
        out += block
        if head == "[[policy]]" and mine:
            out += ["", *_part(semantic).rstrip().splitlines(), ""]
    more = tomli_w.dumps(_plain({"deployment": [cache], "standing": [standing]}))
    told = "\n".join(out).rstrip() + "\n\n" + more
    try:
        return told if loads(told) == whole else dumps(whole)
    except BadLimits:
        return dumps(whole)


def _blocks(text: str) -> list[list[str]]:
    """A TOML text cut before its tables; the comments that stand right before a table go with it."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("["):
            at = len(blocks[-1])
            while at and (not blocks[-1][at - 1].strip() or blocks[-1][at - 1].startswith("#")):
                at -= 1
            blocks[-1], before = blocks[-1][:at], blocks[-1][at:]
            blocks.append(before)
        blocks[-1].append(line)
    return blocks


def drift_p(
    trace: Trace,
    workload: str,
    found: Proven,
    weights: Weights,
    life_s: float,
    visits: Visits,
    kept: SemanticCache | None = None,
) -> float:
    """P-value that questions of a newer log are as near to earlier ones as those of the certificate were.

    ``kept`` is the cache that ran while they were certified: how long and how many answers it holds says how
    near an earlier one can be.
    """
    asked = requests_of(trace, workload, life_s, visits).asked
    running = Running(weights) if kept is None else Running(weights, kept.ttl_s, kept.most_entries)
    scores = []
    for i, one in enumerate(asked):
        score = -math.inf
        if one.text:
            given = False
            if one.is_repeat:
                given = not running.owes(one.scope, one.text, one.at_s)
            else:
                seen, given = running.serve(
                    one.scope, one.text, one.at_s, found.threshold, one.unit, found.most_each
                )
                score = seen.score
            if not given:
                running.keep(one.scope, one.text, "", one.at_s)
        if i >= WARM * len(asked) and not one.is_repeat:
            scores.append(score)
    return same_mix_p(found.scores, banded(scores, found.edges))


def drawn_otherwise(trace: Trace, found: Proven, visits: Visits) -> tuple[str, ...]:
    """Why a certificate says nothing of a log: it counts on sessions and the log names none, or the other way
    round."""
    unit = sessions_of(trace.requests(), visits).unit
    if found.unit == "request" and unit != "request":
        return (f"it took requests one by one, and the log has {unit}s",)
    if found.unit not in ("", "request") and unit == "request":
        return (f"it counts on {found.unit}s, and the log names none",)
    return ()
