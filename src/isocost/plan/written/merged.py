"""Rules of several workloads as one table, which the closed loop steps through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from isocost.policy.proven import Counted
from isocost.policy.rules import Cascade, Rule
from isocost.policy.table import (
    LEAST_COUNT,
    MISSED,
    OUTCOMES,
    REJECTED,
    SERVED,
    TRY,
    Table,
    compile_rule,
    redrawn,
    with_chances,
)


class Merged(NamedTuple):
    """One table of several rules; each rule's own, and where its states begin."""

    table: Table
    tables: tuple[Table, ...]
    offset: tuple[int, ...]


def merge(rules: Sequence[Rule], draw: int, *, by_fit: bool) -> Merged:
    """Tables of several rules as one: states one after another, names once; in ``tables`` the chances of hits
    that were counted elsewhere, and with ``by_fit`` those that fits saw, both drawn anew."""
    tables = tuple(_fitted(rule, _unchecked(rule, compile_rule(rule)), draw, by_fit) for rule in rules)
    names = tuple(dict.fromkeys(name for table in tables for name in table.names))
    offset = tuple(int(x) for x in np.cumsum([0, *(len(table.op) for table in tables[:-1])]))
    begun = np.cumsum([0, *(len(table.targets) for table in tables[:-1])])
    code = [np.array([names.index(name) for name in table.names], np.int32) for table in tables]
    after = [
        np.where(t.after >= 0, t.after + shift, -1).astype(np.int32)
        for t, shift in zip(tables, offset, strict=True)
    ]
    first = [t.first + np.int32(shift) for t, shift in zip(tables, begun, strict=True)]
    targets = [c[t.targets] if len(t.targets) else t.targets for c, t in zip(code, tables, strict=True)]
    size = sum(len(t.op) for t in tables)
    columns = (
        np.concatenate([t.stagger_s for t in tables]), np.concatenate([t.before_s for t in tables]),
        np.concatenate([t.waits for t in tables]),
    )  # fmt: skip
    # What is cut is cut of the columns of each rule's requests, so that rules may differ.
    uncut = np.full(size, -1, np.int32)
    table = Table(
        names, np.concatenate([t.op for t in tables]), np.concatenate(first),
        np.concatenate([t.count for t in tables]), np.concatenate(targets).astype(np.int32), *columns,
        uncut, uncut, np.concatenate(after), np.full((size, OUTCOMES), np.nan), {},
    )  # fmt: skip
    return Merged(table, tables, offset)


def _fitted(rule: Rule, table: Table, draw: int, by_fit: bool) -> Table:
    """With the chances of hits and, where wanted, those that a fit saw."""
    table = _with_hits(rule, table, draw)
    choice = rule.choose
    if not by_fit or not isinstance(choice, Cascade) or choice.seen is None:
        return table
    seen = choice.seen
    each = [(group, redrawn(group, (draw, 1 + k))) for k, group in enumerate(seen.groups)]
    by_task = {task: drawn for group, drawn in each for task in group.tasks}
    return with_chances(rule, table, redrawn(seen, draw), by_task)


def _with_hits(rule: Rule, table: Table, draw: int) -> Table:
    """With the chance that a semantic cache, or rules, answer, drawn from what was counted elsewhere, where
    it was."""
    chance = table.chance.copy()
    for k, (name, counted) in enumerate(counted_of(rule).items()):
        random = np.random.default_rng((draw, len(table.op), k) if k else (draw, len(table.op)))
        hits = max(counted.hits, LEAST_COUNT), max(counted.requests - counted.hits, LEAST_COUNT)
        share = float(random.beta(*hits))
        for s in np.flatnonzero((table.op == TRY) & (table.count == 1)).tolist():
            if table.names[table.targets[table.first[s]]] == name:
                chance[s] = 0.0
                chance[s, SERVED], chance[s, MISSED] = share, 1.0 - share
    return replace(table, chance=chance)


def counted_of(rule: Rule) -> dict[str, Counted]:
    """What a rule's semantic cache and its first rules were counted to answer elsewhere, by name."""
    found = {}
    if rule.semantic is not None and rule.semantic.measured is not None:
        found[rule.semantic.cache] = rule.semantic.measured
    if rule.first is not None and rule.first.measured is not None:
        found[rule.first.deployment] = rule.first.measured
    return found


def said_of_counted(rules: Sequence[Rule]) -> str:
    """What answers as often as was counted elsewhere."""
    near = any(rule.semantic is not None and rule.semantic.measured is not None for rule in rules)
    first = any(rule.first is not None and rule.first.measured is not None for rule in rules)
    if near and first:
        return "the semantic cache and the rules that are asked first answer"
    return "the rules that are asked first answer" if first else "the semantic cache answers"


def said_of_ends(rules: Sequence[Rule]) -> str:
    """What nothing says, so that both ends are played; blank where it is tasks alone."""
    first = any(rule.first is not None and rule.first.measured is None for rule in rules)
    reads = any(isinstance(rule.choose, Cascade) for rule in rules)
    what = ["which answers agree or pass a checker"] * reads + ["how often rules answer"] * first
    also = ", or write what was counted: measured = { requests = 1000, hits = 300 }" if first else ""
    said = f"Nothing says {' or '.join(what)}: both ends are played. Grade a sample (isocost measure) and "
    return f"{said}give it with --outcomes{also}" if what else ""


def _unchecked(rule: Rule, table: Table) -> Table:
    """Without a checker no answer is rejected, so that one may be shown as it comes."""
    if isinstance(rule.choose, Cascade):
        return table
    after = table.after.copy()
    after[:, REJECTED] = after[:, SERVED]
    return replace(table, after=after)
