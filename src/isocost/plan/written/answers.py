"""Graded outcomes set beside a log: which question stands for each request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from isocost.deployment import Api, Cache, Deployment, Rules
from isocost.plan.asked.streams import Stream
from isocost.policy.outcomes import Outcomes
from isocost.trace.schema import Chunk

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Outcomes of questions and the log that they stand for.

    A request is the question that was sampled from it (``isocost measure`` numbers questions by workload and
    line); any other takes its turn through the questions of its workload, or of all where it has none, and of
    its task where the log says which (``names`` of its codes).
    """

    outcomes: Outcomes
    table: Chunk
    column: dict[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, outcomes: Outcomes, table: Chunk, deployments: Sequence[Deployment], named: Sequence[str] = ()
    ) -> Answers:
        """Columns by deployment: its name, else its model's, as the file names it."""
        place = {name: j for j, name in enumerate(outcomes.models)}
        column = {}
        for one in deployments:
            if isinstance(one, Cache):
                continue
            names = [one.id] if isinstance(one, Rules) else [one.id, one.model]
            if isinstance(one, Api):
                names += [one.id.removesuffix(f":{one.tier}"), one.subject.removeprefix("api/")]
            for name in names:
                if name in place:
                    column[one.id] = place[name]
                    break
        return cls(outcomes, table, column, tuple(named))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the questions."""
        return self.outcomes.tasks

    def question(self, stream: Stream, rows: Rows) -> Rows:
        """The question that stands for each of a stream's requests (k,)."""
        found = self.outcomes
        mine = np.arange(len(found))
        if stream.workload in found.workloads:
            mine = np.flatnonzero(found.workload == found.workloads.index(stream.workload))
        # Each question as often as any other, in an order that has nothing to do with the log's.
        out = np.random.default_rng(0).permutation(mine)[np.arange(len(rows)) % len(mine)]
        for task, where in self._named(rows):
            its = mine[found.task[mine] == task]
            if len(its):
                out[where] = np.random.default_rng(0).permutation(its)[np.arange(len(where)) % len(its)]
        if self.table.line is not None:
            for k, line in enumerate(self.table.line[rows].tolist()):
                out[k] = self._place.get(f"{stream.workload}:{line}", out[k])
        return out

    def _named(self, rows: Rows) -> Iterator[tuple[int, Rows]]:
        """Tasks of the questions, and which of some requests the log says to be of each."""
        if self.table.task is not None:
            for code in np.unique(self.table.task[rows]).tolist():
                if code >= 0 and self.names[code] in self.outcomes.tasks:
                    where = np.flatnonzero(self.table.task[rows] == code)
                    yield self.outcomes.tasks.index(self.names[code]), where

    @cached_property
    def _place(self) -> dict[str, int]:
        return {qid: i for i, qid in enumerate(self.outcomes.qid)}

    def stands_in(self, stream: Stream, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of a stream's requests (k,), of a task that the log names, have a question of another."""
        if self.table.task is None:
            return np.zeros(len(rows), np.bool_)
        code = self.table.task[rows]
        place = {name: k for k, name in enumerate(self.tasks)}
        mine = np.array([*(place.get(name, -1) for name in self.names), -1], np.int64)[code]
        other = (code >= 0) & (self.task(stream, rows) != mine)
        if self.table.line is not None:
            # A question that was sampled from the request is its own, whatever it is called.
            lines = self.table.line[rows].tolist()
            other &= np.array([f"{stream.workload}:{line}" not in self._place for line in lines])
        return np.asarray(other)

    def quality(self, name: str, stream: Stream, rows: Rows) -> Floats | None:
        """Grade of a deployment's answer to each request, NaN not graded; ``None``: not in the file."""
        j = self.column.get(name)
        return None if j is None else self.outcomes.quality[self.question(stream, rows), j]

    def answer(self, name: str, stream: Stream, rows: Rows) -> Rows | None:
        """A number equal where answers to a request are equal, -1 without one; ``None``: not known."""
        j = self.column.get(name)
        if j is None or not self.outcomes.has_answers:
            return None
        return np.asarray(self.outcomes.answer[self.question(stream, rows), j], np.int64)

    def answered(self, name: str, stream: Stream, rows: Rows) -> npt.NDArray[np.bool_] | None:
        """Whether a deployment that may abstain answers each request; ``None``: not in the file."""
        j = self.column.get(name)
        if j is None:
            return None
        q = self.question(stream, rows)
        return np.asarray((self.outcomes.answer[q, j] >= 0) | np.isfinite(self.outcomes.quality[q, j]))

    def task(self, stream: Stream, rows: Rows) -> Rows:
        """Code of each request's task into ``tasks``."""
        return np.asarray(self.outcomes.task[self.question(stream, rows)], np.int64)
